/*
 * http2_frames.h - HTTP/2 by hand, for tests: frames that no good client would send, and what a server sends as lines of text.
 *
 * Written from RFC 9113 and RFC 7541 alone; only the decoding of header blocks is nghttp2's.
 */
#ifndef CORACLE_TEST_HTTP2_FRAMES_H
#define CORACLE_TEST_HTTP2_FRAMES_H

#include <nghttp2/nghttp2.h>

#include "base/bytes.h"

enum frame_type {
    FRAME_DATA,
    FRAME_HEADERS,
    FRAME_PRIORITY,
    FRAME_RST_STREAM,
    FRAME_SETTINGS,
    FRAME_PUSH_PROMISE,
    FRAME_PING,
    FRAME_GOAWAY,
    FRAME_WINDOW_UPDATE,
    FRAME_CONTINUATION
};

#define FLAG_END_STREAM 1u
#define FLAG_ACK 1u
#define FLAG_END_HEADERS 4u

void frame_append(struct buffer *out, enum frame_type type, uint8_t flags, uint32_t stream, struct bytes payload);
/* The preface and empty SETTINGS. */
void frame_append_greeting(struct buffer *out);
void frame_append_setting(struct buffer *out, uint16_t id, uint32_t value);
void frame_append_window_update(struct buffer *out, uint32_t stream, uint32_t increment);
void frame_append_reset(struct buffer *out, uint32_t stream, uint32_t error);

/* Header fields as literals that change no table; `value` may be of any size. */
void field_append(struct buffer *block, const char *name, const char *value);
void field_append_bytes(struct buffer *block, const char *name, struct bytes value);

/* A gRPC call's headers; `more` is NULL, or further fields as "name: value" lines. */
void frame_append_call(struct buffer *out, uint32_t stream, const char *path, const char *more);
void frame_append_request(struct buffer *out, uint32_t stream, const char *method, const char *path, const char *more,
                          bool end);
/* One message in one DATA frame. */
void frame_append_message(struct buffer *out, uint32_t stream, struct bytes message, bool end);

/* What a peer sent, taken apart. All zero, but for the inflater, is a new one. */
struct frame_reader {
    nghttp2_hd_inflater *inflater;
    struct buffer pending;
};
void frame_reader_begin(struct frame_reader *reader);
void frame_reader_end(struct frame_reader *reader);
/*
 * Appends a line for each whole frame in `bytes`:
 *     HEADERS 1 [END_STREAM] :status=200 content-type=application/grpc
 *     DATA 1 [END_STREAM] 8 00000000036162 63     (long data: only their number)
 *     SETTINGS 3=1000 4=16384 | SETTINGS ACK
 *     PING ACK 0102030405060708 | RST_STREAM 1 8 | GOAWAY 1 11 too_many_pings | WINDOW_UPDATE 0 100
 */
void frame_reader_describe(struct frame_reader *reader, struct bytes bytes, struct buffer *text);

#endif
