#include "wire/http1.h"

#include "base/check.h"
#include "base/mem.h"
#include "wire/http1_message.h"

/* ---- writing ---- */

const char *http1_reason(int status)
{
    switch (status) {
    case 100:
        return "Continue";
    case 200:
        return "OK";
    case 201:
        return "Created";
    case 204:
        return "No Content";
    case 304:
        return "Not Modified";
    case 400:
        return "Bad Request";
    case 401:
        return "Unauthorized";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 408:
        return "Request Timeout";
    case 409:
        return "Conflict";
    case 410:
        return "Gone";
    case 411:
        return "Length Required";
    case 412:
        return "Precondition Failed";
    case 413:
        return "Content Too Large";
    case 414:
        return "URI Too Long";
    case 415:
        return "Unsupported Media Type";
    case 417:
        return "Expectation Failed";
    case 429:
        return "Too Many Requests";
    case 431:
        return "Request Header Fields Too Large";
    case 500:
        return "Internal Server Error";
    case 501:
        return "Not Implemented";
    case 502:
        return "Bad Gateway";
    case 503:
        return "Service Unavailable";
    case 504:
        return "Gateway Timeout";
    case 505:
        return "HTTP Version Not Supported";
    case 507:
        return "Insufficient Storage";
    default:
        return "Unknown";
    }
}

void http1_response_head(struct buffer *out, int status, const char *content_type, const char *extra_headers,
                         size_t body_bytes, bool keep_alive)
{
    CHECK(status >= 100 && status <= 999);
    buffer_reserve(out, 192);
    buffer_append_string(out, "HTTP/1.1 ");
    buffer_append_decimal(out, (uint64_t)status);
    buffer_append_byte(out, ' ');
    buffer_append_string(out, http1_reason(status));
    buffer_append_string(out, "\r\nContent-Type: ");
    buffer_append_string(out, content_type);
    buffer_append_string(out, "\r\nContent-Length: ");
    buffer_append_decimal(out, body_bytes);
    buffer_append_string(out, "\r\n");
    buffer_append_string(out, extra_headers);
    buffer_append_string(out, keep_alive ? "\r\n" : "Connection: close\r\n\r\n");
}

void http1_response(struct buffer *out, int status, const char *content_type, const char *extra_headers,
                    struct bytes body, bool keep_alive, bool head)
{
    http1_response_head(out, status, content_type, extra_headers, body.size, keep_alive);
    if (!head) buffer_append(out, body.data, body.size);
}

/* ---- reading ---- */

struct http1_response_parser {
    struct http1_message message;
    enum error error;
    int status;
    bool keep_alive;
};

struct http1_response_parser *http1_response_parser_new(size_t body_bytes_max)
{
    struct http1_response_parser *parser = mem_alloc_zero(sizeof *parser);
    parser->message.body_bytes_max = body_bytes_max;
    return parser;
}

void http1_response_parser_free(struct http1_response_parser *parser)
{
    if (parser == NULL) return;
    http1_message_free(&parser->message);
    mem_free(parser);
}

void http1_response_parser_feed(struct http1_response_parser *parser, struct bytes bytes)
{
    if (parser->error != ERR_OK) return;
    http1_message_feed(&parser->message, bytes);
}

static bool is_digit(uint8_t byte)
{
    return byte >= '0' && byte <= '9';
}

/* "HTTP/1.1 200 OK"; the reason, and the space before it, may be missing. */
static enum error read_status_line(struct http1_response_parser *parser, struct bytes line)
{
    const uint8_t *at = line.data;
    if (line.size < 12 || memcmp(at, "HTTP/1.", 7) != 0 || !is_digit(at[7]) || at[8] != ' ') return ERR_BAD_REQUEST;
    if (!is_digit(at[9]) || !is_digit(at[10]) || !is_digit(at[11])) return ERR_BAD_REQUEST;
    if (line.size > 12 && at[12] != ' ') return ERR_BAD_REQUEST;
    parser->status = (at[9] - '0') * 100 + (at[10] - '0') * 10 + (at[11] - '0');
    if (parser->status < 100) return ERR_BAD_REQUEST;
    parser->keep_alive = at[7] != '0';
    return ERR_OK;
}

/* A body that only the end of the connection ends is refused: one can't tell it from a broken one. */
static enum error read_fields(struct http1_response_parser *parser, bool head_request)
{
    struct http1_message *message = &parser->message;
    struct http1_fields fields;
    enum error error = http1_message_fields(message, &fields);
    if (error != ERR_OK) return error;
    if (fields.close) parser->keep_alive = false;
    if (fields.length_count > 1 || fields.coding_count > 1) return ERR_BAD_REQUEST;
    if (fields.length_count > 0 && fields.coding_count > 0) return ERR_BAD_REQUEST;

    bool no_body = head_request || parser->status < 200 || parser->status == 204 || parser->status == 304;
    if (no_body) return http1_message_expect_length(message, 0);
    if (fields.coding_count > 0) {
        if (!http1_equals(fields.coding, "chunked")) return ERR_BAD_REQUEST;
        http1_message_expect_chunks(message);
        return ERR_OK;
    }
    if (fields.length_count == 0) return ERR_BAD_REQUEST;
    return http1_message_expect_length(message, fields.length);
}

static enum error read_response(struct http1_response_parser *parser, bool head_request)
{
    struct http1_message *message = &parser->message;
    enum error error;
    if (message->stage == HTTP1_STAGE_START) {
        struct bytes line;
        error = http1_message_line(message, &line);
        if (error != ERR_OK) return error;
        error = read_status_line(parser, line);
        if (error != ERR_OK) return error;
        message->stage = HTTP1_STAGE_HEADERS;
    }
    if (message->stage == HTTP1_STAGE_HEADERS) {
        error = http1_message_headers(message);
        if (error != ERR_OK) return error;
        error = read_fields(parser, head_request);
        if (error != ERR_OK) return error;
    }
    return http1_message_body(message);
}

enum error http1_response_parser_next(struct http1_response_parser *parser, bool head_request,
                                      struct http1_response_view *out)
{
    struct http1_message *message = &parser->message;
    if (parser->error != ERR_OK) return parser->error;
    if (message->stage == HTTP1_STAGE_COMPLETE) http1_message_begin_next(message);
    enum error error = read_response(parser, head_request);
    /* Interim responses (100 Continue) aren't the answer; 101 would be another protocol from here on. */
    while (error == ERR_OK && parser->status < 200) {
        if (parser->status == 101) {
            error = ERR_BAD_REQUEST;
            break;
        }
        http1_message_begin_next(message);
        error = read_response(parser, head_request);
    }
    if (error == ERR_NOT_READY) return error;
    if (error != ERR_OK) {
        parser->error = error == ERR_HEADERS_TOO_LARGE ? ERR_TOO_LARGE : error;
        http1_message_free(message);
        return parser->error;
    }
    *out = (struct http1_response_view){
        .status = parser->status,
        .body = bytes_of(message->in.data + message->body_begin, message->body_end - message->body_begin),
        .keep_alive = parser->keep_alive,
    };
    return ERR_OK;
}
