/*
 * http2.h - the server's side of one HTTP/2 connection: bytes in, requests out; answers in, bytes out. (RFC 9113)
 *
 * Over nghttp2, which knows frames, HPACK and flow control. No socket and no clock: the caller feeds what it received, with
 * the time, collects what is to be sent, and closes the socket when http2_done says so. What a request means is the handler's
 * (gRPC: wire/grpc.h, which most callers want instead of this).
 *
 *     bytes ──▶ http2_feed ──▶ handler: request, data, end, closed
 *                              http2_respond, _begin, _send, _finish, _reset ──▶ http2_out ──▶ bytes
 *
 * A stream is named by its number, which is never used again on the connection, or by its struct, which lives from its
 * `request` until its `closed` returns. Each request is closed exactly once: after its answer was sent and the client's side ended, when
 * either side resets it, or when the connection ends.
 *
 * Memory and time that a hostile peer can take are bounded:
 *   - headers: HTTP2_HEADER_LIST_BYTES_MAX and HTTP2_HEADER_COUNT_MAX, above which 431 is answered; far above them, or with more
 *     than HTTP2_CONTINUATIONS_MAX frames, the connection ends;
 *   - bodies: a client may send one window of each stream. More is granted in order of arrival, within granted_bytes_max for all streams
 *     together, and only for what the owner asks for (http2_stream_expect). What owners keep of incomplete bodies is
 *     bounded by kept_bytes_max (http2_stream_keep);
 *   - answers: what waits for the client's window is the owner's to bound (http2_stream_waiting_bytes, the mark), and its age
 *     is watched (http2_sweep);
 *   - frames that bring no work (resets of unanswered requests, empty DATA, SETTINGS, PRIORITY, window updates of a few bytes, pings)
 *     spend an allowance that time and honest work refill (wire/http2_calm.h); without it the connection ends with ENHANCE_YOUR_CALM.
 *
 * Not done: server push, CONNECT, upgrade from HTTP/1.1, priorities (refused by SETTINGS_NO_RFC7540_PRIORITIES).
 */
#ifndef CORACLE_WIRE_HTTP2_H
#define CORACLE_WIRE_HTTP2_H

#include "base/bytes.h"
#include "base/types.h"
#include "wire/http1.h"

#define HTTP2_PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define HTTP2_PREFACE_BYTES (sizeof(HTTP2_PREFACE) - 1)

/* Names, values, and 32 bytes for each field (RFC 9113 §6.5.2). */
#define HTTP2_HEADER_LIST_BYTES_MAX (16u * 1024)
#define HTTP2_HEADER_COUNT_MAX 100u
#define HTTP2_CONTINUATIONS_MAX 8u

/* RFC 9113 §7; those that callers name. */
enum http2_error {
    HTTP2_NO_ERROR = 0,
    HTTP2_PROTOCOL_ERROR = 1,
    HTTP2_INTERNAL_ERROR = 2,
    HTTP2_FLOW_CONTROL_ERROR = 3,
    HTTP2_REFUSED_STREAM = 7,
    HTTP2_CANCEL = 8,
    HTTP2_ENHANCE_YOUR_CALM = 11,
};

struct http2_limits {
    uint32_t streams_max;         /* at a time; told to the client */
    uint32_t stream_window_bytes; /* what a client may send on a stream before anything is granted */
    uint32_t connection_window_bytes;
    size_t granted_bytes_max; /* all grants together; at least the largest body */
    size_t kept_bytes_max;    /* incomplete bodies together; at least granted_bytes_max */
    time_ns
        ping_interval_min; /* three pings in a row that are closer, and no answer sent between them, end the connection */
    time_ns request_time_max; /* for http2_sweep: from the first byte of a message or body to its last */
    time_ns stall_time_max;   /* for http2_sweep: an answer waits, and the client's window stays closed */
};
struct http2_limits http2_limits_default(void);

struct http2;
struct http2_stream;

/* The views live until the callback returns. */
struct http2_request {
    struct bytes method, path; /* the path with its query; never empty */
    const struct http1_header
        *headers; /* names in lower case, pseudo-fields not among them, `host` last if the client sent :authority */
    uint32_t header_count;
    bool ended; /* no body follows; `end` is called too */
};

/*
 * `request`, `data` and `end` are called inside http2_feed; `drained` inside http2_out; `closed` inside either, or inside http2_sweep or
 * http2_free. They may call everything here but these four. None may be NULL.
 */
struct http2_handler {
    /* Set the stream's user pointer here. */
    void (*request)(void *user, struct http2_stream *stream, const struct http2_request *request);
    /* Part of the body; the view points into what was fed. Never empty. */
    void (*data)(void *user, struct http2_stream *stream, struct bytes data);
    /* The client's side is complete. Not called for a stream that was reset. */
    void (*end)(void *user, struct http2_stream *stream);
    /* What waits to be sent fell to the stream's mark (http2_stream_set_mark). */
    void (*drained)(void *user, struct http2_stream *stream);
    /* The last of this stream. `error`: HTTP2_NO_ERROR after a whole answer; what the client or we reset it with; or HTTP2_CANCEL
       when the connection is freed. */
    void (*closed)(void *user, struct http2_stream *stream, uint32_t error);
};

/* `handler` and `user` are borrowed for the connection's life. Its first bytes (SETTINGS) are there at once. */
struct http2 *http2_new(const struct http2_limits *limits, const struct http2_handler *handler, void *user,
                        time_ns now);
/* Closes all its streams (`closed`). */
void http2_free(struct http2 *http2);

/*
 * Takes in bytes, the preface included, all of them. What is wrong with them becomes part of http2_out: GOAWAY, then http2_done. Then, and after
 * http2_done, what is fed is dropped.
 */
void http2_feed(struct http2 *http2, struct bytes bytes, time_ns now);

/*
 * Appends what is to be sent to `out` until it holds about `bytes_max` (one frame may exceed it). Call it once a turn, when the socket takes
 * more. False when nothing was left; when true, call again after the socket took these.
 */
bool http2_out(struct http2 *http2, struct buffer *out, size_t bytes_max, time_ns now);

/* False: what is fed is dropped. An error, or the client's goodbye with no stream left. */
bool http2_wants_in(const struct http2 *http2);

/* Whether http2_out would give anything. */
bool http2_wants_out(const struct http2 *http2);

/* Everything is sent, and nothing more will come or is wanted: close the socket. */
bool http2_done(const struct http2 *http2);

/* Graceful end: no new streams; those under way go on, and then it is done. New streams that crossed our word are served, too: the last number
   is told after a round trip. The caller closes a connection whose client doesn't answer. */
void http2_shutdown(struct http2 *http2);

/* Ends it at once; http2_out has the GOAWAY. `why` is for the other side's log, at most 64 bytes. */
void http2_abort(struct http2 *http2, enum http2_error error, const char *why);

/*
 * Ends what takes too long, by the times of the limits: bodies and answers reset by HTTP2_CANCEL; a header block or a
 * frame that doesn't end, or a connection that never greeted, by the end of the connection. Costs O(streams), so call it every second or so.
 */
void http2_sweep(struct http2 *http2, time_ns now);

uint32_t http2_stream_count(const struct http2 *http2);
/* All memory of the connection and its streams, in bytes, but what owners hold themselves (http2_stream_keep). */
size_t http2_memory_bytes(const struct http2 *http2);
/* What owners said they keep. */
size_t http2_kept_bytes(const struct http2 *http2);
/* True once the client's preface and SETTINGS came. */
bool http2_greeted(const struct http2 *http2);

/* ---- streams ---- */

/* NULL when it is gone. */
struct http2_stream *http2_find(struct http2 *http2, int32_t number);
int32_t http2_stream_number(const struct http2_stream *stream);
struct http2 *http2_stream_connection(const struct http2_stream *stream);
void *http2_stream_user(const struct http2_stream *stream);
void http2_stream_set_user(struct http2_stream *stream, void *user);
/* True once `end` was due: the client's side is complete. */
bool http2_stream_ended(const struct http2_stream *stream);

/* A field of headers or trailers. `name` in lower case. A constant one must outlive the connection, and isn't copied. */
struct http2_field {
    struct bytes name, value;
    bool constant;
};
#define HTTP2_FIELDS_MAX 16u

/*
 * The answer, in this order: begin, any number of sends, finish. Once finished, or reset, a stream takes no more; calls for such
 * a one do nothing, so that an owner needn't know in what order things happened.
 */
void http2_begin(struct http2_stream *stream, int status, const struct http2_field *fields, size_t count);
bool http2_stream_begun(const struct http2_stream *stream);
bool http2_stream_finished(const struct http2_stream *stream);

/* Copies the data behind what waits. */
void http2_send(struct http2_stream *stream, struct bytes data);
/*
 * The same without the copy: appends to the buffer that is returned, then tells with http2_sent. Nothing else may be called
 * for the stream between them, and what is in the buffer before is not to be touched. Never NULL: after the finish it is one that is thrown away.
 */
struct buffer *http2_send_buffer(struct http2_stream *stream);
void http2_sent(struct http2_stream *stream);

/* Ends the answer, with trailers if count > 0. If the client's side hasn't ended, it is told that the rest isn't wanted (RST_STREAM, NO_ERROR). */
void http2_finish(struct http2_stream *stream, const struct http2_field *trailers, size_t count);

/* Headers only. */
void http2_respond_headers(struct http2_stream *stream, int status, const struct http2_field *fields, size_t count);

/*
 * A whole answer, as http1_response takes it: `extra_headers` is "" or complete lines, each ended by CRLF. Those that HTTP/2 doesn't have
 * (Connection, Keep-Alive, Transfer-Encoding) are left out. `head`: the length is told, no body is sent.
 */
void http2_respond(struct http2_stream *stream, int status, const char *content_type, const char *extra_headers,
                   struct bytes body, bool head);

/* Gives the stream up. `closed` is called, but not before this returned: in http2_out. */
void http2_reset(struct http2_stream *stream, enum http2_error error);

/* ---- back-pressure ---- */

/* Bytes of the answer that wait for the client's window, or for http2_out. */
size_t http2_stream_waiting_bytes(const struct http2_stream *stream);
/*
 * Asks for one `drained` when what waits has fallen to `bytes` or below: later, in http2_out, even when that is so already. For owners that
 * have more to send: one that marks in each `drained`, and sends nothing, is called for ever.
 */
void http2_stream_set_mark(struct http2_stream *stream, size_t bytes);

/*
 * The owner is done with `bytes` of the body, and the client may send as many more. Without this call a client can send one window, and no more.
 */
void http2_stream_consume(struct http2_stream *stream, size_t bytes);

/*
 * The owner collects something that it can't consume before it is whole, and `more` bytes of it are still to come. The client is allowed to
 * send them as soon as granted_bytes_max has room, first come, first served. Say so once for each thing; 0 takes it back: it is whole, or
 * given up. What is consumed then gives the client no more than its usual window.
 */
void http2_stream_expect(struct http2_stream *stream, size_t more);

/* The owner keeps `bytes` of this stream's incomplete body. False, and nothing is counted, when that is above kept_bytes_max for the connection: fail the
   request then. */
bool http2_stream_keep(struct http2_stream *stream, size_t bytes);

/* While true, it is the owner who lets an incomplete body wait, so http2_sweep doesn't blame the client. */
void http2_stream_excuse(struct http2_stream *stream, bool excused);

#endif
