/*
 * grpc.h - the calls of one client connection: gRPC over HTTP/2, and plain HTTP/2 requests beside it.
 *
 * Sits on wire/http2.h, and is what drive uses for a connection whose first bytes are HTTP2_PREFACE. A request whose content-type begins with
 * "application/grpc" is a call; any other is a plain request, which is handed on whole, as http1_parser_next would.
 * (github.com/grpc/grpc: doc/PROTOCOL-HTTP2.md; where it leaves a choice, what grpc-go's server does.)
 *
 * Answered here, without the owner: a method other than POST (405), a content-type that only begins like gRPC's (415), a timeout that can't be
 * read (400), an encoding other than identity (UNIMPLEMENTED), a compressed or malformed frame (INTERNAL), a message above the
 * limit (RESOURCE_EXHAUSTED), a body that ends within a message (INTERNAL). Whether a path is known is the owner's business.
 *
 * Not done: compression, deadlines (the owner has the timeout and a clock), authentication.
 */
#ifndef CORACLE_WIRE_GRPC_H
#define CORACLE_WIRE_GRPC_H

#include "wire/grpc_frame.h"
#include "wire/http2.h"

/* The codes by their names; base/error.h has them as numbers. */
enum grpc_status {
    GRPC_OK = 0,
    GRPC_CANCELLED = 1,
    GRPC_UNKNOWN = 2,
    GRPC_INVALID_ARGUMENT = 3,
    GRPC_DEADLINE_EXCEEDED = 4,
    GRPC_NOT_FOUND = 5,
    GRPC_ALREADY_EXISTS = 6,
    GRPC_PERMISSION_DENIED = 7,
    GRPC_RESOURCE_EXHAUSTED = 8,
    GRPC_FAILED_PRECONDITION = 9,
    GRPC_ABORTED = 10,
    GRPC_OUT_OF_RANGE = 11,
    GRPC_UNIMPLEMENTED = 12,
    GRPC_INTERNAL = 13,
    GRPC_UNAVAILABLE = 14,
    GRPC_DATA_LOSS = 15,
    GRPC_UNAUTHENTICATED = 16,
};

/* etcd's: 1.5 MiB for the request, and 512 KiB for what is around it. */
#define GRPC_MESSAGE_BYTES_MAX_DEFAULT (2048u * 1024)

struct grpc;      /* one connection */
struct grpc_call; /* one call, from `call` until its `closed` returns */

/* The views live until the callback returns. */
struct grpc_request {
    struct bytes path;  /* "/etcdserverpb.KV/Put" */
    struct bytes token; /* etcd's: the header "token", else "authorization"; NULL data without */
    struct bytes authority;
    time_ns timeout; /* relative; TIME_NS_NEVER without one. It may be 0 */
    bool has_leader; /* hasleader: true */
    const struct http2_request *http;
};

/* All are called inside grpc_feed, grpc_sweep and grpc_free, but for `drained`, inside grpc_out. None may be NULL. */
struct grpc_handler {
    /* A call began. Set its user pointer here; it may be answered here. */
    void (*call)(void *user, struct grpc_call *call, const struct grpc_request *request);
    /* A whole message; the view lives until this returns. May be empty. */
    void (*message)(void *user, struct grpc_call *call, struct bytes message);
    /* The client sends no more; not told of a call that is finished. A unary call may be served on its message. */
    void (*half_closed)(void *user, struct grpc_call *call);
    /* What waits to be sent fell to the mark. */
    void (*drained)(void *user, struct grpc_call *call);
    /* The last of this call: answered and sent (HTTP2_NO_ERROR), cancelled, or the connection ended. */
    void (*closed)(void *user, struct grpc_call *call, uint32_t error);

    /* A plain request, with its whole body. Answer with http2_respond, or http2_begin and so on; set the stream's mark at will. Its user pointer
       is the owner's from here on. The views live until this returns. `request->keep_alive` is true. */
    void (*http_request)(void *user, struct http2_stream *stream, const struct http1_request *request);
    void (*http_drained)(void *user, struct http2_stream *stream);
    /* The last of a stream that http_request was called for. */
    void (*http_closed)(void *user, struct http2_stream *stream, uint32_t error);
};

struct grpc_limits {
    struct http2_limits http2;
    size_t message_bytes_max;   /* of a gRPC request message */
    size_t http_body_bytes_max; /* of a plain request; above it 413 */
};
struct grpc_limits grpc_limits_default(void);

/* `handler` and `user` are borrowed for the connection's life. */
struct grpc *grpc_new(const struct grpc_limits *limits, const struct grpc_handler *handler, void *user, time_ns now);
void grpc_free(struct grpc *grpc);
/* For what isn't here: http2_shutdown, http2_done, http2_wants_out, http2_stream_count, … */
struct http2 *grpc_http2(struct grpc *grpc);

/* See http2_feed, http2_out, http2_sweep. */
void grpc_feed(struct grpc *grpc, struct bytes bytes, time_ns now);
bool grpc_out(struct grpc *grpc, struct buffer *out, size_t bytes_max, time_ns now);
void grpc_sweep(struct grpc *grpc, time_ns now);
/* All memory of the connection, kept bodies included. */
size_t grpc_memory_bytes(const struct grpc *grpc);

/* ---- calls ---- */

/* NULL when it is gone. `number`: grpc_call_number. For answers that come back by number, from another thread say. */
struct grpc_call *grpc_find(struct grpc *grpc, int32_t number);
/* A plain request's stream likewise, but only after its http_request. */
struct http2_stream *grpc_find_http(struct grpc *grpc, int32_t number);
int32_t grpc_call_number(const struct grpc_call *call);
struct grpc *grpc_call_connection(const struct grpc_call *call);
void *grpc_call_user(const struct grpc_call *call);
void grpc_call_set_user(struct grpc_call *call, void *user);
bool grpc_call_finished(const struct grpc_call *call);

/* Sends the response headers now, and not with the first message: clients of a watch wait for them. Once is enough. */
void grpc_call_begin(struct grpc_call *call);

/* Queues a message, after the headers if those weren't sent. Does nothing once the call is finished. */
void grpc_call_send(struct grpc_call *call, struct bytes message);
/*
 * The same without the copy: append the message to the buffer that is returned, then call grpc_call_sent. Nothing else may be called for this
 * call between them.
 */
struct buffer *grpc_call_send_buffer(struct grpc_call *call);
void grpc_call_sent(struct grpc_call *call);

/* Ends the call. `text` is the message of an error, UTF-8, percent-encoded here; "" or NULL for none. */
void grpc_call_finish(struct grpc_call *call, enum grpc_status status, struct bytes text);

/* Gives the call up without a status, as grpc-go does when a deadline has passed there: RST_STREAM with CANCEL. */
void grpc_call_cancel(struct grpc_call *call);

/* Back-pressure of answers: see http2_stream_waiting_bytes and http2_stream_set_mark. */
size_t grpc_call_waiting_bytes(const struct grpc_call *call);
void grpc_call_set_mark(struct grpc_call *call, size_t bytes);

/*
 * Back-pressure of requests: while a call is held, no message is delivered, and the client can send no more than a window. Released, what
 * came meanwhile is delivered before this returns, unless a message's callback holds the call again; half_closed likewise.
 */
void grpc_call_hold(struct grpc_call *call);
void grpc_call_release(struct grpc_call *call);

#endif
