#include "api/reply.h"

#include "wire/json.h"

#define RETRY_AFTER "Retry-After: 1\r\n"

void api_reply(const struct api_call *call, int status, const char *content_type, const char *extra_headers,
               struct bytes body, struct buffer *out)
{
    http1_response(out, status, content_type, extra_headers, body, call->keep_alive, call->head);
}

/* What a client can do, beyond what the error's own text says. */
static const char *advice_of(enum error error)
{
    switch (error) {
    case ERR_BAD_REQUEST:
        return "; see RFC 9112 for what an HTTP/1.1 request looks like";
    case ERR_HEADERS_TOO_LARGE:
        return ": 16384 bytes, 100 fields";
    case ERR_URI_TOO_LONG:
        return ": 212992 bytes";
    case ERR_BAD_HTTP_VERSION:
        return "; it speaks HTTP/1.0 and HTTP/1.1";
    case ERR_UNSUPPORTED:
        return "; of the transfer codings it has chunked";
    case ERR_TOO_MANY:
    case ERR_NOT_READY:
    case ERR_NO_LEADER:
        return "; try again in a moment, or ask another node";
    case ERR_SHUTTING_DOWN:
        return "; ask another node";
    case ERR_TIMEOUT:
    case ERR_LEADER_CHANGED:
        return "; read the key back to see whether a write happened";
    default:
        return "";
    }
}

static void write_error(enum error error, struct bytes message, struct buffer *out)
{
    buffer_append_string(out, "{\"error\":{\"code\":");
    json_write_string(out, bytes_of_string(error_code(error)));
    buffer_append_string(out, ",\"message\":");
    json_write_string(out, message);
    buffer_append_string(out, "}}");
}

static void reply_error(enum error error, struct bytes message, const char *extra_headers, bool keep_alive, bool head,
                        struct buffer *out)
{
    struct buffer text = {0};
    if (message.size == 0) {
        buffer_append_string(&text, error_text(error));
        buffer_append_string(&text, advice_of(error));
        message = buffer_bytes(&text);
    }
    struct buffer body = {0};
    write_error(error, message, &body);
    if (error_scope_of(error) == SCOPE_CONNECTION) keep_alive = false;
    http1_response(out, error_http_status(error), API_JSON, extra_headers, buffer_bytes(&body), keep_alive, head);
    buffer_free(&body);
    buffer_free(&text);
}

void api_reply_error(const struct api_call *call, enum error error, struct bytes message, struct buffer *out)
{
    int status = error_http_status(error);
    const char *extra_headers = status == 503 || status == 429 ? RETRY_AFTER : "";
    reply_error(error, message, extra_headers, call->keep_alive, call->head, out);
}

void api_reply_bad_method(const struct api_call *call, const char *allow, struct buffer *out)
{
    struct buffer header = {0};
    buffer_append_format(&header, "Allow: %s\r\n", allow);
    buffer_append_byte(&header, 0);
    struct buffer message = {0};
    buffer_append_format(&message, "this path does not support this method; it has %s", allow);
    reply_error(ERR_BAD_METHOD, buffer_bytes(&message), (const char *)header.data, call->keep_alive, call->head, out);
    buffer_free(&message);
    buffer_free(&header);
}

void api_refuse(enum error error, struct buffer *out)
{
    reply_error(error, bytes_of(NULL, 0), "", false, false, out);
}
