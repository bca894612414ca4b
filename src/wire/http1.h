/*
 * http1.h - HTTP/1.1 requests, bytes in, requests out; and responses, out as bytes. (RFC 9112, RFC 9110)
 *
 * A parser for one connection. It is fed bytes as they come and yields one request at a time; the
 * next one is parsed only after the caller took the last (http1_parser_next), so that pipelined
 * requests wait in the parser's bounded buffer and are answered in order. No socket, no clock: the
 * caller ends a connection that is too slow.
 *
 * Refused, each with a status and the end of the connection: both Content-Length and
 * Transfer-Encoding, a repeated or malformed Content-Length, any transfer coding but chunked, a bare CR, bare LF
 * or NUL in a header, white space before a colon, obsolete folding, an absent or repeated Host in
 * HTTP/1.1, a request line, header or chunk extension above its limit, a body above the limit, another major
 * version of HTTP. Without either header the body is empty (§6.3), whatever the method. A few empty lines before a
 * request are passed over (§2.2). A connection of HTTP/1.0 is closed after its first answer.
 */
#ifndef CORACLE_WIRE_HTTP1_H
#define CORACLE_WIRE_HTTP1_H

#include "base/bytes.h"
#include "base/error.h"

/* A key of 64 KiB in the path, each byte percent-encoded, and what is around it. */
#define HTTP1_REQUEST_LINE_BYTES_MAX (208u * 1024)
#define HTTP1_HEADERS_BYTES_MAX (16u * 1024) /* headers and trailers together */
#define HTTP1_HEADER_COUNT_MAX 100u
#define HTTP1_EMPTY_LINES_MAX 8u /* before a request line */

enum http1_method { HTTP1_GET, HTTP1_HEAD, HTTP1_POST, HTTP1_PUT, HTTP1_DELETE, HTTP1_OPTIONS, HTTP1_OTHER };

struct http1_header {
    struct bytes name;
    struct bytes value; /* without white space around it */
};

struct http1_request {
    enum http1_method method;
    struct bytes path;  /* as sent, percent-encoded, from '/' to before '?' */
    struct bytes query; /* as sent, after '?'; empty without one */
    struct bytes body;  /* dechunked */
    const struct http1_header *headers;
    size_t header_count;
    bool keep_alive;
};

/* What a read of the caller's may have, so that the next line holds. */
#define HTTP1_FEED_BYTES_MAX (64u * 1024)

struct http1_parser;

/* `body_bytes_max`: the largest body taken; above it ERR_TOO_LARGE. */
struct http1_parser *http1_parser_new(size_t body_bytes_max);
void http1_parser_free(struct http1_parser *parser);

/*
 * Adds bytes, at most HTTP1_FEED_BYTES_MAX at once. While a request is being answered (http1_parser_next returned it
 * and wasn't called again), at most HTTP1_HEADERS_BYTES_MAX + HTTP1_FEED_BYTES_MAX of further bytes are kept:
 * http1_parser_full tells when the caller must stop reading. It is never full while a request is still coming in.
 */
void http1_parser_feed(struct http1_parser *parser, struct bytes bytes);
bool http1_parser_full(const struct http1_parser *parser);

/*
 * The next request: ERR_OK and *out, whose views live until the next call of this function (feeding in between
 * is allowed and keeps them); ERR_NOT_READY when more bytes are needed; else the error to answer with
 * (ERR_BAD_REQUEST, ERR_URI_TOO_LONG, ERR_HEADERS_TOO_LARGE, ERR_TOO_LARGE, ERR_BAD_HTTP_VERSION, ERR_UNSUPPORTED), for
 * ever after: answer, then close.
 */
enum error http1_parser_next(struct http1_parser *parser, struct http1_request *out);

/* True when the headers are complete and asked for `Expect: 100-continue`, and the body isn't there yet;
   true once for each request. */
bool http1_parser_wants_continue(struct http1_parser *parser);

/* True when not a single byte of a next request is buffered: the connection is idle between requests. */
bool http1_parser_idle(const struct http1_parser *parser);

/* Bytes of memory held for this connection. */
size_t http1_parser_memory_bytes(const struct http1_parser *parser);

/* Finds a header by its name in lower case; an empty view with NULL data when it isn't there. */
struct bytes http1_request_header(const struct http1_request *request, const char *lower_case_name);

/* Percent-decoding (RFC 3986 §2.1) of `encoded`, appended to `out`; '+' stays '+'. False for a bad escape. */
bool http1_percent_decode(struct bytes encoded, struct buffer *out);

/* The value of a query parameter, still encoded; NULL data when it isn't there. */
struct bytes http1_query_parameter(struct bytes query, const char *name);

/*
 * Appends the status line and headers of a response whose `body_bytes` of body the caller appends itself.
 */
void http1_response_head(struct buffer *out, int status, const char *content_type, const char *extra_headers,
                         size_t body_bytes, bool keep_alive);

/*
 * Appends a whole response with Content-Length. `extra_headers` is "" or complete lines, each ended by CRLF.
 * Adds "Connection: close" when !keep_alive. No body is sent for HEAD, only its length.
 */
void http1_response(struct buffer *out, int status, const char *content_type, const char *extra_headers,
                    struct bytes body, bool keep_alive, bool head);

/* "Not Found" for 404; never NULL. */
const char *http1_reason(int status);

/* ---- the client's side ---- */

struct http1_response_view {
    int status;
    struct bytes body; /* a view into the parser's buffer until the next call */
    bool keep_alive;
};
struct http1_response_parser;
struct http1_response_parser *http1_response_parser_new(size_t body_bytes_max);
void http1_response_parser_free(struct http1_response_parser *parser);
void http1_response_parser_feed(struct http1_response_parser *parser, struct bytes bytes);
/* ERR_OK, ERR_NOT_READY, or ERR_BAD_REQUEST / ERR_TOO_LARGE for ever after. `head_request`: no body follows. */
enum error http1_response_parser_next(struct http1_response_parser *parser, bool head_request,
                                      struct http1_response_view *out);

#endif
