#include "wire/http1.h"

#include "base/check.h"
#include "base/mem.h"
#include "base/types.h"
#include "wire/http1_message.h"

struct http1_parser {
    struct http1_message message;
    enum error error; /* ERR_OK, or what ended the connection */
    enum http1_method method;
    bool version_1_0;
    bool keep_alive;
    bool expects_continue; /* and hasn't been told yet */
    uint32_t empty_lines;  /* that came before the request line */
    struct bytes path, query;
};

struct http1_parser *http1_parser_new(size_t body_bytes_max)
{
    struct http1_parser *parser = mem_alloc_zero(sizeof *parser);
    parser->message.body_bytes_max = body_bytes_max;
    return parser;
}

void http1_parser_free(struct http1_parser *parser)
{
    if (parser == NULL) return;
    http1_message_free(&parser->message);
    mem_free(parser);
}

void http1_parser_feed(struct http1_parser *parser, struct bytes bytes)
{
    if (parser->error != ERR_OK) return;
    http1_message_feed(&parser->message, bytes);
}

bool http1_parser_full(const struct http1_parser *parser)
{
    const struct http1_message *message = &parser->message;
    return message->stage == HTTP1_STAGE_COMPLETE && http1_message_unread(message) >= HTTP1_HEADERS_BYTES_MAX;
}

bool http1_parser_idle(const struct http1_parser *parser)
{
    const struct http1_message *message = &parser->message;
    bool between = message->stage == HTTP1_STAGE_START || message->stage == HTTP1_STAGE_COMPLETE;
    return between && http1_message_unread(message) == 0;
}

size_t http1_parser_memory_bytes(const struct http1_parser *parser)
{
    return sizeof *parser + http1_message_memory_bytes(&parser->message);
}

bool http1_parser_wants_continue(struct http1_parser *parser)
{
    const struct http1_message *message = &parser->message;
    bool before_body = message->stage == HTTP1_STAGE_LENGTH_BODY || message->stage == HTTP1_STAGE_CHUNK_LINE;
    if (!parser->expects_continue || !before_body) return false;
    parser->expects_continue = false;
    return message->in.size == message->body_begin;
}

/* ---- the request line ---- */

static enum http1_method method_of(struct bytes name)
{
    static const struct {
        const char *name;
        enum http1_method method;
    } methods[] = {
        {"GET", HTTP1_GET}, {"POST", HTTP1_POST}, {"DELETE", HTTP1_DELETE},
        {"PUT", HTTP1_PUT}, {"HEAD", HTTP1_HEAD}, {"OPTIONS", HTTP1_OPTIONS},
    };
    for (size_t i = 0; i < ARRAY_COUNT(methods); i++) {
        if (bytes_equal(name, bytes_of_string(methods[i].name))) return methods[i].method;
    }
    return HTTP1_OTHER;
}

/* RFC 9112 §3.2, but lenient with bytes that a person may type into a path. A fragment is never sent. */
static bool is_target(struct bytes target)
{
    for (size_t i = 0; i < target.size; i++) {
        uint8_t byte = target.data[i];
        if (byte <= ' ' || byte == 0x7f || byte == '#') return false;
    }
    return target.size > 0;
}

static enum error read_version(struct bytes version, bool *version_1_0)
{
    if (version.size != 8 || memcmp(version.data, "HTTP/", 5) != 0 || version.data[6] != '.') return ERR_BAD_REQUEST;
    uint8_t major = (uint8_t)(version.data[5] - '0');
    uint8_t minor = (uint8_t)(version.data[7] - '0');
    if (major > 9 || minor > 9) return ERR_BAD_REQUEST;
    if (major != 1) return ERR_BAD_HTTP_VERSION;
    *version_1_0 = minor == 0;
    return ERR_OK;
}

static enum error read_request_line(struct http1_parser *parser, struct bytes line)
{
    const uint8_t *end = line.data + line.size;
    const uint8_t *first = memchr(line.data, ' ', line.size);
    if (first == NULL) return ERR_BAD_REQUEST;
    struct bytes method = bytes_of(line.data, (size_t)(first - line.data));
    const uint8_t *second = memchr(first + 1, ' ', (size_t)(end - first - 1));
    if (second == NULL) return ERR_BAD_REQUEST;
    struct bytes target = bytes_of(first + 1, (size_t)(second - first - 1));
    if (!http1_is_token(method) || !is_target(target)) return ERR_BAD_REQUEST;

    enum error error = read_version(bytes_of(second + 1, (size_t)(end - second - 1)), &parser->version_1_0);
    if (error != ERR_OK) return error;
    parser->method = method_of(method);
    parser->message.target = target;
    return ERR_OK;
}

/* "http://host/path" -> "/path"; the authority in it goes the way of Host, which we don't look at. */
static enum error strip_authority(struct bytes *target)
{
    static const char *const schemes[] = {"http://", "https://"};
    for (size_t i = 0; i < ARRAY_COUNT(schemes); i++) {
        size_t size = strlen(schemes[i]);
        if (target->size <= size || !http1_equals(bytes_of(target->data, size), schemes[i])) continue;
        size_t at = size;
        while (at < target->size && target->data[at] != '/' && target->data[at] != '?') at++;
        if (at == size) return ERR_BAD_REQUEST;
        *target = bytes_of(target->data + at, target->size - at);
        return ERR_OK;
    }
    return ERR_BAD_REQUEST;
}

static enum error read_target(struct http1_parser *parser)
{
    struct bytes target = parser->message.target;
    if (target.data[0] != '/') {
        if (bytes_equal(target, bytes_of_string("*")) && parser->method == HTTP1_OPTIONS) {
            parser->path = target;
            parser->query = bytes_of(NULL, 0);
            return ERR_OK;
        }
        enum error error = strip_authority(&target);
        if (error != ERR_OK) return error;
    }
    const uint8_t *mark = target.size > 0 ? memchr(target.data, '?', target.size) : NULL;
    size_t path_size = mark != NULL ? (size_t)(mark - target.data) : target.size;
    parser->path = path_size > 0 ? bytes_of(target.data, path_size) : bytes_of_string("/");
    parser->query = mark != NULL ? bytes_of(mark + 1, target.size - path_size - 1) : bytes_of(NULL, 0);
    return ERR_OK;
}

/* ---- the header fields ---- */

/* RFC 3986 §3.2.2, as far as it keeps two readers from seeing different hosts. */
static bool is_host(struct bytes host)
{
    for (size_t i = 0; i < host.size; i++) {
        switch (host.data[i]) {
        case ' ':
        case '\t':
        case ',':
        case '/':
        case '?':
        case '#':
        case '@':
        case '\\':
            return false;
        default:
            break;
        }
    }
    return true;
}

/* What the fields say about the message: RFC 9112 §3.2 (Host), §6.3 (length), §9.3 (persistence). */
static enum error read_fields(struct http1_parser *parser)
{
    struct http1_fields fields;
    enum error error = http1_message_fields(&parser->message, &fields);
    if (error != ERR_OK) return error;
    if (fields.host_count > 1 || (fields.host_count == 0 && !parser->version_1_0)) return ERR_BAD_REQUEST;
    if (!is_host(fields.host)) return ERR_BAD_REQUEST;
    parser->keep_alive = !parser->version_1_0 && !fields.close;
    parser->expects_continue = !parser->version_1_0 && fields.expect_continue;

    if (fields.coding_count > 0) {
        /* One header for the length, and one meaning: else the next reader may cut the stream elsewhere. */
        if (fields.length_count > 0 || fields.coding_count > 1 || parser->version_1_0) return ERR_BAD_REQUEST;
        if (!http1_equals(fields.coding, "chunked")) return ERR_UNSUPPORTED;
        http1_message_expect_chunks(&parser->message);
        return ERR_OK;
    }
    if (fields.length_count > 1) return ERR_BAD_REQUEST;
    return http1_message_expect_length(&parser->message, fields.length);
}

/* ---- the whole ---- */

static enum error read_start(struct http1_parser *parser)
{
    struct http1_message *message = &parser->message;
    for (;;) {
        /* What begins with a byte that no method has (TLS, another protocol) needn't be waited for. */
        if (message->in.size > message->line_at) {
            uint8_t first = message->in.data[message->line_at];
            if (first != '\r' && !http1_is_token(bytes_of(&first, 1))) return ERR_BAD_REQUEST;
        }
        struct bytes line;
        enum error error = http1_message_start_line(message, HTTP1_REQUEST_LINE_BYTES_MAX, &line);
        if (error != ERR_OK) return error == ERR_HEADERS_TOO_LARGE ? ERR_URI_TOO_LONG : error;
        if (line.size > 0) return read_request_line(parser, line);
        /* RFC 9112 §2.2: old clients send them after a body. */
        if (++parser->empty_lines > HTTP1_EMPTY_LINES_MAX) return ERR_BAD_REQUEST;
        http1_message_skip_lines(message);
    }
}

static enum error read_request(struct http1_parser *parser)
{
    struct http1_message *message = &parser->message;
    enum error error;
    if (message->stage == HTTP1_STAGE_START) {
        error = read_start(parser);
        if (error != ERR_OK) return error;
        message->stage = HTTP1_STAGE_HEADERS;
    }
    if (message->stage == HTTP1_STAGE_HEADERS) {
        error = http1_message_headers(message);
        if (error != ERR_OK) return error;
        error = read_target(parser);
        if (error != ERR_OK) return error;
        error = read_fields(parser);
        if (error != ERR_OK) return error;
    }
    error = http1_message_body(message);
    if (error != ERR_OK) return error;
    return read_target(parser); /* the buffer may have moved since */
}

enum error http1_parser_next(struct http1_parser *parser, struct http1_request *out)
{
    struct http1_message *message = &parser->message;
    if (parser->error != ERR_OK) return parser->error;
    if (message->stage == HTTP1_STAGE_COMPLETE) {
        http1_message_begin_next(message);
        parser->empty_lines = 0;
    }
    enum error error = read_request(parser);
    if (error == ERR_NOT_READY) return error;
    if (error != ERR_OK) {
        parser->error = error;
        http1_message_free(message);
        message->begin = message->at = message->line_at = message->body_begin = message->body_end = 0;
        return error;
    }
    *out = (struct http1_request){
        .method = parser->method,
        .path = parser->path,
        .query = parser->query,
        .body = bytes_of(message->in.data + message->body_begin, message->body_end - message->body_begin),
        .headers = message->headers,
        .header_count = message->header_count,
        .keep_alive = parser->keep_alive,
    };
    return ERR_OK;
}
