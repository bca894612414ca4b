/*
 * http1_message.h - what requests and responses share: a start line, header fields, a body. (RFC 9112)
 *
 * Internal to wire/. A message is taken apart as its bytes come: each line once, when it is whole. Start line and
 * header fields become views into the buffer, which are moved along when the buffer moves.
 *
 *     in:  | done | start line, headers | body, dechunked | gap | not looked at yet |
 *          0      begin                 body_begin   body_end   line_at            size
 *
 * Lines end with CRLF and nothing else: to take a lone LF for an end too would let two readers of the same bytes see
 * different messages.
 */
#ifndef CORACLE_WIRE_HTTP1_MESSAGE_H
#define CORACLE_WIRE_HTTP1_MESSAGE_H

#include "wire/http1.h"

/* Digits of a chunk's size, and bytes of its line with extensions and CRLF. */
#define HTTP1_CHUNK_DIGITS_MAX 16u
#define HTTP1_CHUNK_LINE_BYTES_MAX 512u

/* A buffer up to this size stays with an idle connection, so that its next request allocates nothing. */
#define HTTP1_IDLE_BYTES_MAX 4096u

enum http1_stage {
    HTTP1_STAGE_START,
    HTTP1_STAGE_HEADERS,
    HTTP1_STAGE_LENGTH_BODY,
    HTTP1_STAGE_CHUNK_LINE,
    HTTP1_STAGE_CHUNK_DATA,
    HTTP1_STAGE_CHUNK_END,
    HTTP1_STAGE_TRAILERS,
    HTTP1_STAGE_COMPLETE, /* views may be out: nothing in `in` moves */
};

struct http1_message {
    enum http1_stage stage;
    size_t body_bytes_max;
    struct buffer in;
    struct buffer later; /* fed while views were out and `in` had no room */
    size_t begin;
    size_t at;      /* bytes before it were looked at */
    size_t line_at; /* where the line under way begins, or the next one */
    size_t body_begin, body_end;
    uint64_t left;       /* body bytes still to come, or those of the chunk */
    size_t line_bytes;   /* of all header lines so far, towards HTTP1_HEADERS_BYTES_MAX */
    struct bytes target; /* of the request line; moved along with the headers */
    struct http1_header *headers;
    uint32_t header_count, header_capacity;
};

/* What the header fields say about the message itself. */
struct http1_fields {
    uint32_t host_count, length_count, coding_count;
    struct bytes host, coding;
    uint64_t length; /* UINT64_MAX: more than fits */
    bool close, keep_alive, expect_continue;
};

void http1_message_free(struct http1_message *message);
void http1_message_feed(struct http1_message *message, struct bytes bytes);

/* Forgets the message that is complete and begins with the bytes after it. */
void http1_message_begin_next(struct http1_message *message);

/* Forgets the lines read so far: the message begins after them. */
void http1_message_skip_lines(struct http1_message *message);

/* The next line without its CRLF, of at most `bytes_max` bytes with it. ERR_NOT_READY, ERR_HEADERS_TOO_LARGE, ERR_BAD_REQUEST. */
enum error http1_message_start_line(struct http1_message *message, size_t bytes_max, struct bytes *line);
/* The same, within what HTTP1_HEADERS_BYTES_MAX leaves. */
enum error http1_message_line(struct http1_message *message, struct bytes *line);

/* Reads header lines; ERR_OK once the empty line was read. */
enum error http1_message_headers(struct http1_message *message);

/* ERR_BAD_REQUEST for a Content-Length that is no number. */
enum error http1_message_fields(const struct http1_message *message, struct http1_fields *out);

/* After the headers: says what body follows. */
enum error http1_message_expect_length(struct http1_message *message, uint64_t length);
void http1_message_expect_chunks(struct http1_message *message);

/* Takes in the body; ERR_OK when the message is complete. */
enum error http1_message_body(struct http1_message *message);

/* Bytes fed that don't belong to the message yet, or belong to later ones. */
size_t http1_message_unread(const struct http1_message *message);
size_t http1_message_memory_bytes(const struct http1_message *message);

bool http1_is_token(struct bytes text);
/* `lower` is in lower case; ASCII letters of `text` in either. */
bool http1_equals(struct bytes text, const char *lower);

#endif
