/*
 * http2_connection.h - what http2.c (the connection, what comes in) and http2_stream.c (answers, windows) share. Internal to wire/.
 */
#ifndef CORACLE_WIRE_HTTP2_CONNECTION_H
#define CORACLE_WIRE_HTTP2_CONNECTION_H

#include "wire/http2.h"
#include "wire/http2_calm.h"
#include "wire/http2_memory.h"

/* An answer's buffer up to this size stays with its stream or connection, so that the next answer allocates nothing. */
#define HTTP2_SPARE_BYTES_MAX 4096u

struct http2_stream {
    struct http2 *http2;
    void *user;
    void *layer;                          /* for grpc.c, which leaves `user` to its own owner */
    struct http2_stream *previous, *next; /* all of the connection */
    struct http2_stream *next_closed;
    struct http2_stream *previous_expecting, *next_expecting; /* those that wait for a grant, in order */
    struct http2_stream *previous_marked, *next_marked;       /* those whose owner waits for `drained` */

    struct buffer out; /* the answer's body; before out_at it is sent */
    size_t out_at;
    size_t out_counted; /* of its capacity, in http2->buffer_bytes */
    size_t mark;
    size_t message_at;    /* for grpc.c: where the message begins that is being written */
    nghttp2_nv *trailers; /* with their text, one block */

    size_t unconsumed;   /* received, and the owner isn't done with them */
    size_t unreturned;   /* received since the last window update */
    size_t expected;     /* further bytes that wait for a grant */
    size_t granted;      /* what the owner may come to keep; in http2->granted_bytes */
    size_t granted_left; /* of it, what is still to come */
    size_t kept;
    time_ns kept_since;    /* when something began to be kept */
    time_ns progressed_at; /* when an answer that waits last got on */

    int32_t number;
    uint32_t error; /* what it was closed with */
    uint8_t trailer_count;
    bool ended;         /* the client's side is complete */
    bool in_last_frame; /* it will be, with the frame that is coming in */
    bool begun;         /* the answer's headers are submitted */
    bool finished;      /* the answer is complete, or given up: takes no more */
    bool reset;         /* by us */
    bool sent;          /* the answer's end is on its way */
    bool deferred;      /* nghttp2 was told that there is no data at the moment */
    bool gone;          /* nghttp2 has closed it; `closed` is due */
    bool silent;        /* the handler never heard of it */
    bool excused;
    bool is_expecting, is_marked;
};

/* A field of the header block that is coming in, as offsets, since the text moves. */
_Static_assert(HTTP2_HEADER_LIST_BYTES_MAX <= UINT16_MAX, "offsets of struct http2_slot");
struct http2_slot {
    uint16_t name_at, name_size, value_at, value_size;
};

struct http2 {
    nghttp2_session *session;
    const struct http2_handler *handler;
    void *user;
    struct http2_limits limits;
    struct http2_memory memory;
    struct http2_calm calm;
    time_ns now;
    time_ns began_at;

    struct http2_stream *streams;
    uint32_t stream_count;
    struct http2_stream *last; /* the one that was looked up last */
    struct http2_stream *closed_first, *closed_last;
    struct http2_stream *expecting_first, *expecting_last;
    struct http2_stream *marked;

    size_t granted_bytes, kept_bytes;
    size_t buffer_bytes; /* capacity of the streams' buffers, the spare one and the scratch ones */
    struct buffer spare;
    struct buffer thrown_away;

    /* The header block that is coming in. */
    struct buffer block;
    struct http2_slot slots[HTTP2_HEADER_COUNT_MAX];
    uint32_t slot_count;
    struct http2_slot method, path, authority;
    size_t block_list_bytes;
    bool block_too_large;
    bool block_has_host;
    bool block_open;
    time_ns block_since;

    struct buffer *out; /* during http2_out */
    size_t out_bytes_max;
    bool mark_due; /* a mark was set that is reached already */

    bool greeted;
    bool acknowledged; /* the client has our SETTINGS */
    bool dead;         /* nothing is taken in any more */
    bool broken;       /* nghttp2 can't go on: nothing is sent either */
    bool shutting_down;
    bool shutdown_told; /* the last GOAWAY is on its way */
};

struct http2_stream *http2_stream_new(struct http2 *http2, int32_t number);
void http2_stream_free(struct http2_stream *stream);

/* Brings the count of the buffer's bytes up to date, after it may have moved. */
void http2_stream_count_buffer(struct http2_stream *stream);
void http2_stream_unmark(struct http2_stream *stream);

/* Part of the body came in. */
void http2_stream_received(struct http2_stream *stream, size_t bytes);

/* The stream takes no part in grants any more. */
void http2_stream_forget_windows(struct http2_stream *stream);

/* nghttp2's call for a piece of the answer's body. */
ssize_t http2_stream_read(nghttp2_session *session, int32_t number, uint8_t *data, size_t size, uint32_t *flags,
                          nghttp2_data_source *source, void *user);
int http2_stream_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head, size_t size,
                           nghttp2_data_source *source, void *user);

#endif
