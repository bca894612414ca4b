#include "wire/grpc.h"

#include "base/check.h"
#include "base/mem.h"
#include "wire/http2_connection.h"

struct grpc {
    struct http2 *http2;
    const struct grpc_handler *handler;
    void *user;
    struct grpc_limits limits;
    size_t buffer_bytes; /* capacity of the buffers of calls */
};

/* A call, or a plain request whose body is coming in. */
struct grpc_call {
    struct grpc *grpc;
    struct http2_stream *stream;
    size_t buffer_counted;

    struct grpc_frame frame;
    struct buffer held; /* what came while the call was held */
    bool is_held;
    bool delivering;      /* messages are being handed out: what is released goes on there */
    bool half_closed_due; /* the client's side ended while the call was held */
    bool expecting;       /* a grant was asked for */
    bool silent;          /* the owner never heard of it */

    bool plain;
    struct buffer head; /* method, path, then names and values; the slots tell where */
    struct http2_slot *slots;
    uint32_t slot_count;
    uint32_t method_size, path_size;
    struct buffer body;
    size_t asked; /* body bytes that were granted or asked for, where the length isn't known */
};

struct grpc_limits grpc_limits_default(void)
{
    return (struct grpc_limits){
        .http2 = http2_limits_default(),
        .message_bytes_max = GRPC_MESSAGE_BYTES_MAX_DEFAULT,
        .http_body_bytes_max = GRPC_MESSAGE_BYTES_MAX_DEFAULT,
    };
}

static void count_buffers(struct grpc_call *call)
{
    size_t bytes = grpc_frame_memory_bytes(&call->frame) + call->held.capacity + call->head.capacity +
                   call->body.capacity + call->slot_count * sizeof *call->slots;
    call->grpc->buffer_bytes += bytes - call->buffer_counted;
    call->buffer_counted = bytes;
}

static struct grpc_call *call_new(struct grpc *grpc, struct http2_stream *stream)
{
    struct grpc_call *call = http2_memory_alloc(&grpc->http2->memory, sizeof *call);
    *call = (struct grpc_call){.grpc = grpc, .stream = stream};
    stream->layer = call;
    return call;
}

static void free_buffers(struct grpc_call *call)
{
    grpc_frame_free(&call->frame);
    buffer_free(&call->held);
    buffer_free(&call->head);
    buffer_free(&call->body);
    mem_free(call->slots);
    call->slots = NULL;
    call->slot_count = 0;
    count_buffers(call);
}

static void call_free(struct grpc_call *call)
{
    free_buffers(call);
    call->stream->layer = NULL;
    http2_memory_free(&call->grpc->http2->memory, call);
}

/* ---- answers ---- */

#define FIELD(name_text, value_text)                                                                                   \
    {                                                                                                                  \
        .name = {(const uint8_t *)name_text, sizeof(name_text) - 1},                                                   \
        .value = {(const uint8_t *)value_text, sizeof(value_text) - 1}, .constant = true                               \
    }
#define STATUS_FIELD(code) FIELD("grpc-status", code)

static const struct http2_field content_type_field = FIELD("content-type", "application/grpc");
static const struct http2_field status_fields[] = {
    STATUS_FIELD("0"),  STATUS_FIELD("1"),  STATUS_FIELD("2"),  STATUS_FIELD("3"),  STATUS_FIELD("4"),
    STATUS_FIELD("5"),  STATUS_FIELD("6"),  STATUS_FIELD("7"),  STATUS_FIELD("8"),  STATUS_FIELD("9"),
    STATUS_FIELD("10"), STATUS_FIELD("11"), STATUS_FIELD("12"), STATUS_FIELD("13"), STATUS_FIELD("14"),
    STATUS_FIELD("15"), STATUS_FIELD("16"),
};

/* Ends the stream: by trailers, or where nothing was sent yet by headers alone, with `http_status`. */
static void end_with(struct http2_stream *stream, int http_status, enum grpc_status status, struct bytes text)
{
    CHECK((size_t)status < ARRAY_COUNT(status_fields));
    if (http2_stream_finished(stream)) return;
    struct http2_field fields[3];
    size_t count = 0;
    bool begun = http2_stream_begun(stream);
    if (!begun) fields[count++] = content_type_field;
    fields[count++] = status_fields[status];
    struct buffer encoded = {0};
    if (text.size > 0) {
        grpc_text_encode(text, &encoded);
        fields[count++] =
            (struct http2_field){.name = bytes_of_string("grpc-message"), .value = buffer_bytes(&encoded)};
    }
    if (begun)
        http2_finish(stream, fields, count);
    else
        http2_respond_headers(stream, http_status, fields, count);
    buffer_free(&encoded);
}

static void fail(struct grpc_call *call, enum grpc_status status, const char *text)
{
    end_with(call->stream, 200, status, bytes_of_string(text));
}

void grpc_call_begin(struct grpc_call *call)
{
    if (!http2_stream_begun(call->stream)) http2_begin(call->stream, 200, &content_type_field, 1);
}

struct buffer *grpc_call_send_buffer(struct grpc_call *call)
{
    static const uint8_t room[GRPC_PREFIX_BYTES];
    grpc_call_begin(call);
    struct buffer *buffer = http2_send_buffer(call->stream);
    call->stream->message_at = buffer->size;
    buffer_append(buffer, room, sizeof room);
    return buffer;
}

void grpc_call_sent(struct grpc_call *call)
{
    struct http2_stream *stream = call->stream;
    struct buffer *buffer = stream->finished ? &stream->http2->thrown_away : &stream->out;
    size_t size = buffer->size - stream->message_at - GRPC_PREFIX_BYTES;
    CHECK(size <= UINT32_MAX);
    grpc_frame_prefix(buffer->data + stream->message_at, (uint32_t)size);
    http2_sent(stream);
}

void grpc_call_send(struct grpc_call *call, struct bytes message)
{
    if (http2_stream_finished(call->stream)) return;
    struct buffer *buffer = grpc_call_send_buffer(call);
    buffer_append(buffer, message.data, message.size);
    grpc_call_sent(call);
}

void grpc_call_finish(struct grpc_call *call, enum grpc_status status, struct bytes text)
{
    end_with(call->stream, 200, status, text);
}

void grpc_call_cancel(struct grpc_call *call)
{
    http2_reset(call->stream, HTTP2_CANCEL);
}

/* ---- messages of a call ---- */

static void keep(struct grpc_call *call)
{
    size_t bytes = grpc_frame_partial_bytes(&call->frame) + call->held.size;
    if (!http2_stream_keep(call->stream, bytes)) {
        fail(call, GRPC_RESOURCE_EXHAUSTED, "grpc: too many incomplete messages on this connection");
        free_buffers(call);
        http2_stream_keep(call->stream, 0);
    }
    count_buffers(call);
}

static void refuse_frame(struct grpc_call *call, enum grpc_frame_result result)
{
    struct buffer text = {0};
    enum grpc_status status = GRPC_INTERNAL;
    if (result == GRPC_FRAME_TOO_LARGE) {
        status = GRPC_RESOURCE_EXHAUSTED;
        buffer_append_string(&text, "grpc: received message larger than max (");
        buffer_append_decimal(&text, call->frame.length);
        buffer_append_string(&text, " vs. ");
        buffer_append_decimal(&text, call->grpc->limits.message_bytes_max);
        buffer_append_string(&text, ")");
    } else if (result == GRPC_FRAME_COMPRESSED) {
        buffer_append_string(&text, "grpc: compressed flag set with identity or empty encoding");
    } else {
        buffer_append_string(&text, "grpc: received unexpected payload format ");
        buffer_append_decimal(&text, call->frame.flag);
    }
    grpc_call_finish(call, status, buffer_bytes(&text));
    buffer_free(&text);
}

/* Hands out the messages in `bytes`, as long as they are wanted, and keeps what can't be handed out yet. */
static void deliver(struct grpc_call *call, struct bytes bytes)
{
    struct grpc *grpc = call->grpc;
    call->delivering = true;
    bool kept = call->stream->kept > 0;
    while (!call->is_held && !http2_stream_finished(call->stream)) {
        struct bytes message;
        enum grpc_frame_result result = grpc_frame_next(&call->frame, &bytes, grpc->limits.message_bytes_max, &message);
        if (result == GRPC_FRAME_MORE) break;
        if (result != GRPC_FRAME_MESSAGE) {
            refuse_frame(call, result);
            break;
        }
        if (call->expecting) {
            http2_stream_expect(call->stream, 0);
            call->expecting = false;
        }
        http2_stream_consume(call->stream, GRPC_PREFIX_BYTES + message.size);
        grpc->handler->message(grpc->user, call, message);
    }
    call->delivering = false;
    if (http2_stream_finished(call->stream)) {
        /* What it still sends isn't wanted. */
        free_buffers(call);
        http2_stream_keep(call->stream, 0);
        return;
    }
    if (bytes.size > 0) {
        buffer_append(&call->held, bytes.data, bytes.size);
        kept = true;
    }
    if (call->frame.delivered) grpc_frame_free(&call->frame);
    size_t partial = grpc_frame_partial_bytes(&call->frame);
    if (!kept && partial == 0) return; /* the usual case: whole messages */
    keep(call);
    size_t expected = grpc_frame_expected_bytes(&call->frame);
    if (expected > partial && !call->expecting && !http2_stream_finished(call->stream)) {
        call->expecting = true;
        http2_stream_expect(call->stream, expected - partial);
    }
}

static void half_close(struct grpc_call *call)
{
    if (http2_stream_finished(call->stream)) return;
    if (grpc_frame_partial_bytes(&call->frame) > 0) {
        fail(call, GRPC_INTERNAL, "unexpected EOF");
        return;
    }
    call->grpc->handler->half_closed(call->grpc->user, call);
}

void grpc_call_hold(struct grpc_call *call)
{
    call->is_held = true;
    http2_stream_excuse(call->stream, true);
}

void grpc_call_release(struct grpc_call *call)
{
    if (!call->is_held) return;
    call->is_held = false;
    http2_stream_excuse(call->stream, false);
    if (call->delivering || http2_stream_finished(call->stream)) return;
    struct buffer held = call->held;
    call->held = (struct buffer){0};
    if (held.size > 0) deliver(call, buffer_bytes(&held));
    buffer_free(&held);
    count_buffers(call);
    if (call->half_closed_due && !call->is_held) {
        call->half_closed_due = false;
        half_close(call);
    }
}

/* ---- plain requests ---- */

static enum http1_method method_of(struct bytes text)
{
    static const struct {
        const char *name;
        enum http1_method method;
    } methods[] = {{"GET", HTTP1_GET}, {"HEAD", HTTP1_HEAD},     {"POST", HTTP1_POST},
                   {"PUT", HTTP1_PUT}, {"DELETE", HTTP1_DELETE}, {"OPTIONS", HTTP1_OPTIONS}};
    for (size_t i = 0; i < ARRAY_COUNT(methods); i++) {
        if (bytes_equal(text, bytes_of_string(methods[i].name))) return methods[i].method;
    }
    return HTTP1_OTHER;
}

/* The plain request is complete; the owner has the stream from here on. */
static void hand_out(struct grpc *grpc, struct http2_stream *stream, struct bytes method, struct bytes target,
                     struct bytes body, const struct http1_header *headers, size_t header_count)
{
    struct http1_request request = {
        .method = method_of(method),
        .path = target,
        .body = body,
        .headers = headers,
        .header_count = header_count,
        .keep_alive = true,
    };
    const uint8_t *mark = memchr(target.data, '?', target.size);
    if (mark != NULL) {
        request.path.size = (size_t)(mark - target.data);
        request.query = bytes_of(mark + 1, target.size - request.path.size - 1);
    }
    stream->layer = NULL;
    grpc->handler->http_request(grpc->user, stream, &request);
}

static void hand_out_whole(struct grpc_call *call)
{
    struct http1_header headers[HTTP2_HEADER_COUNT_MAX + 1];
    const uint8_t *text = call->head.data;
    for (uint32_t i = 0; i < call->slot_count; i++) {
        const struct http2_slot *slot = &call->slots[i];
        headers[i].name = bytes_of(text + slot->name_at, slot->name_size);
        headers[i].value = bytes_of(text + slot->value_at, slot->value_size);
    }
    http2_stream_keep(call->stream, 0);
    hand_out(call->grpc, call->stream, bytes_of(text, call->method_size),
             bytes_of(text + call->method_size, call->path_size), buffer_bytes(&call->body), headers, call->slot_count);
    /* The stream is the owner's now; only the memory is left of this. */
    free_buffers(call);
    http2_memory_free(&call->grpc->http2->memory, call);
}

/* One whose body is to come: what is known is copied. */
static void begin_plain(struct grpc_call *call, const struct http2_request *request)
{
    call->plain = true;
    call->method_size = (uint32_t)request->method.size;
    call->path_size = (uint32_t)request->path.size;
    buffer_append(&call->head, request->method.data, request->method.size);
    buffer_append(&call->head, request->path.data, request->path.size);
    call->slots = mem_alloc(request->header_count * sizeof *call->slots);
    call->slot_count = request->header_count;
    for (uint32_t i = 0; i < request->header_count; i++) {
        const struct http1_header *header = &request->headers[i];
        call->slots[i] = (struct http2_slot){
            .name_at = (uint16_t)call->head.size,
            .name_size = (uint16_t)header->name.size,
            .value_at = (uint16_t)(call->head.size + header->name.size),
            .value_size = (uint16_t)header->value.size,
        };
        buffer_append(&call->head, header->name.data, header->name.size);
        buffer_append(&call->head, header->value.data, header->value.size);
    }
}

static void refuse_plain(struct grpc_call *call, enum error error)
{
    http2_respond(call->stream, error_http_status(error), "text/plain; charset=utf-8", "",
                  bytes_of_string(error_text(error)), false);
    call->silent = true;
    free_buffers(call);
    http2_stream_keep(call->stream, 0);
}

/* More of the body may come: all, where its length is known, else twice as much as there is. */
static void ask_for_body(struct grpc_call *call)
{
    if (call->body.size < call->asked) return;
    size_t more = call->body.size > 0 ? call->body.size : call->grpc->limits.http2.stream_window_bytes;
    call->asked = call->body.size + more;
    http2_stream_expect(call->stream, more);
}

static void keep_plain(struct grpc_call *call)
{
    count_buffers(call);
    if (!http2_stream_keep(call->stream, call->head.size + call->body.size)) refuse_plain(call, ERR_TOO_MANY);
}

static void plain_data(struct grpc_call *call, struct bytes data)
{
    if (data.size > call->grpc->limits.http_body_bytes_max - call->body.size) {
        refuse_plain(call, ERR_TOO_LARGE);
        return;
    }
    buffer_append(&call->body, data.data, data.size);
    keep_plain(call);
    if (!call->silent) ask_for_body(call);
}

/* ---- what the connection tells ---- */

static bool value_is(struct bytes value, const char *text)
{
    return bytes_equal(value, bytes_of_string(text));
}

#define GRPC_CONTENT_TYPE "application/grpc"

/* Takes up what matters in the headers of a call. */
struct call_headers {
    struct bytes content_type, timeout, encoding, token, authorization, content_length;
    bool has_leader;
};

static void read_headers(const struct http2_request *request, struct call_headers *out, struct bytes *authority)
{
    for (uint32_t i = 0; i < request->header_count; i++) {
        struct bytes name = request->headers[i].name, value = request->headers[i].value;
        /* By length first: most fields are none of these. */
        switch (name.size) {
        case 4:
            if (value_is(name, "host")) *authority = value;
            break;
        case 5:
            if (value_is(name, "token")) out->token = value;
            break;
        case 9:
            if (value_is(name, "hasleader")) out->has_leader = value_is(value, "true");
            break;
        case 12:
            if (value_is(name, "content-type")) out->content_type = value;
            if (value_is(name, "grpc-timeout")) out->timeout = value;
            break;
        case 13:
            if (value_is(name, "grpc-encoding")) out->encoding = value;
            if (value_is(name, "authorization")) out->authorization = value;
            break;
        case 14:
            if (value_is(name, "content-length")) out->content_length = value;
            break;
        default:
            break;
        }
    }
}

static void append_quoted(struct buffer *out, struct bytes text)
{
    buffer_append_byte(out, '"');
    buffer_append(out, text.data, text.size);
    buffer_append_byte(out, '"');
}

/* Answers a request that never becomes a call; `quoted` comes behind the text, if its data isn't NULL. */
static void refuse_call(struct grpc_call *call, int http_status, enum grpc_status status, const char *before,
                        struct bytes quoted, const char *after)
{
    call->silent = true;
    struct buffer text = {0};
    buffer_append_string(&text, before);
    if (quoted.data != NULL) append_quoted(&text, quoted);
    buffer_append_string(&text, after);
    end_with(call->stream, http_status, status, buffer_bytes(&text));
    buffer_free(&text);
}

/* grpc-go's texts. */
static void refuse_timeout(struct grpc_call *call, struct bytes text, enum grpc_timeout_result result)
{
    static const char *const before[] = {
        [GRPC_TIMEOUT_SHORT] = "malformed grpc-timeout: transport: timeout string is too short: ",
        [GRPC_TIMEOUT_LONG] = "malformed grpc-timeout: transport: timeout string is too long: ",
        [GRPC_TIMEOUT_UNIT] = "malformed grpc-timeout: transport: timeout unit is not recognized: ",
        [GRPC_TIMEOUT_DIGITS] = "malformed grpc-timeout: strconv.ParseUint: parsing ",
    };
    bool digits = result == GRPC_TIMEOUT_DIGITS;
    if (digits) text.size--; /* without the unit */
    refuse_call(call, 400, GRPC_INTERNAL, before[result], text, digits ? ": invalid syntax" : "");
}

static void begin_call(struct grpc_call *call, const struct http2_request *http, const struct call_headers *headers,
                       struct bytes authority)
{
    struct grpc *grpc = call->grpc;
    struct bytes type = headers->content_type, none = {0};
    size_t prefix = sizeof GRPC_CONTENT_TYPE - 1;
    if (type.size > prefix && type.data[prefix] != '+' && type.data[prefix] != ';') {
        refuse_call(call, 415, GRPC_INVALID_ARGUMENT, "invalid gRPC request content-type ", type, "");
        return;
    }
    time_ns timeout = TIME_NS_NEVER;
    if (headers->timeout.data != NULL) {
        enum grpc_timeout_result result = grpc_timeout_parse(headers->timeout, &timeout);
        if (result != GRPC_TIMEOUT_OK) {
            refuse_timeout(call, headers->timeout, result);
            return;
        }
    }
    if (authority.data == NULL) {
        refuse_call(call, 400, GRPC_INTERNAL, "no host or :authority header present", none, "");
        return;
    }
    if (!value_is(http->method, "POST")) {
        refuse_call(call, 405, GRPC_INTERNAL, "Received a HEADERS frame with :method ", http->method,
                    " which should be POST");
        return;
    }
    if (headers->encoding.size > 0 && !value_is(headers->encoding, "identity")) {
        refuse_call(call, 200, GRPC_UNIMPLEMENTED, "grpc: Decompressor is not installed for grpc-encoding ",
                    headers->encoding, "");
        return;
    }
    struct grpc_request request = {
        .path = http->path,
        .token = headers->token.data != NULL ? headers->token : headers->authorization,
        .authority = authority,
        .timeout = timeout,
        .has_leader = headers->has_leader,
        .http = http,
    };
    grpc->handler->call(grpc->user, call, &request);
}

/* UINT64_MAX for more than fits. nghttp2 has seen to it that it is a number. */
static uint64_t number_of(struct bytes digits)
{
    uint64_t number = 0;
    for (size_t i = 0; i < digits.size; i++) {
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, digits.data[i] - '0', &number)) {
            return UINT64_MAX;
        }
    }
    return number;
}

static void on_request(void *user, struct http2_stream *stream, const struct http2_request *request)
{
    struct grpc *grpc = user;
    struct call_headers headers = {0};
    struct bytes authority = {0};
    read_headers(request, &headers, &authority);
    size_t prefix = sizeof GRPC_CONTENT_TYPE - 1;
    if (headers.content_type.size >= prefix && memcmp(headers.content_type.data, GRPC_CONTENT_TYPE, prefix) == 0) {
        begin_call(call_new(grpc, stream), request, &headers, authority);
        return;
    }
    if (request->ended) {
        hand_out(grpc, stream, request->method, request->path, (struct bytes){0}, request->headers,
                 request->header_count);
        return;
    }
    struct grpc_call *call = call_new(grpc, stream);
    uint64_t length = headers.content_length.data != NULL ? number_of(headers.content_length) : 0;
    call->plain = true;
    if (length > grpc->limits.http_body_bytes_max) {
        refuse_plain(call, ERR_TOO_LARGE);
        return;
    }
    begin_plain(call, request);
    keep_plain(call);
    if (call->silent) return;
    if (length > 0) {
        call->asked = (size_t)length;
        http2_stream_expect(stream, (size_t)length);
    } else {
        ask_for_body(call);
    }
}

static void on_data(void *user, struct http2_stream *stream, struct bytes data)
{
    (void)user;
    struct grpc_call *call = stream->layer;
    if (call == NULL || call->silent || http2_stream_finished(stream)) return;
    if (call->plain) {
        plain_data(call, data);
    } else {
        deliver(call, data);
    }
}

static void on_end(void *user, struct http2_stream *stream)
{
    (void)user;
    struct grpc_call *call = stream->layer;
    if (call == NULL || call->silent) return; /* NULL: a plain request without a body */
    if (call->plain) {
        hand_out_whole(call);
    } else if (call->is_held) {
        call->half_closed_due = true;
    } else {
        half_close(call);
    }
}

static void on_drained(void *user, struct http2_stream *stream)
{
    struct grpc *grpc = user;
    struct grpc_call *call = stream->layer;
    if (call == NULL)
        grpc->handler->http_drained(grpc->user, stream);
    else if (!call->silent)
        grpc->handler->drained(grpc->user, call);
}

static void on_closed(void *user, struct http2_stream *stream, uint32_t error)
{
    struct grpc *grpc = user;
    struct grpc_call *call = stream->layer;
    if (call == NULL) {
        grpc->handler->http_closed(grpc->user, stream, error);
        return;
    }
    if (!call->plain && !call->silent) grpc->handler->closed(grpc->user, call, error);
    call_free(call);
}

static const struct http2_handler from_http2 = {
    .request = on_request, .data = on_data, .end = on_end, .drained = on_drained, .closed = on_closed};

/* ---- the connection ---- */

struct grpc *grpc_new(const struct grpc_limits *limits, const struct grpc_handler *handler, void *user, time_ns now)
{
    CHECK(limits->http2.granted_bytes_max >= limits->message_bytes_max);
    CHECK(limits->http2.granted_bytes_max >= limits->http_body_bytes_max);
    struct grpc *grpc = mem_alloc_zero(sizeof *grpc);
    grpc->limits = *limits;
    grpc->handler = handler;
    grpc->user = user;
    grpc->http2 = http2_new(&limits->http2, &from_http2, grpc, now);
    return grpc;
}

void grpc_free(struct grpc *grpc)
{
    if (grpc == NULL) return;
    http2_free(grpc->http2);
    CHECK(grpc->buffer_bytes == 0);
    mem_free(grpc);
}

struct http2 *grpc_http2(struct grpc *grpc)
{
    return grpc->http2;
}

void grpc_feed(struct grpc *grpc, struct bytes bytes, time_ns now)
{
    http2_feed(grpc->http2, bytes, now);
}

bool grpc_out(struct grpc *grpc, struct buffer *out, size_t bytes_max, time_ns now)
{
    return http2_out(grpc->http2, out, bytes_max, now);
}

void grpc_sweep(struct grpc *grpc, time_ns now)
{
    http2_sweep(grpc->http2, now);
}

size_t grpc_memory_bytes(const struct grpc *grpc)
{
    return sizeof *grpc + http2_memory_bytes(grpc->http2) + grpc->buffer_bytes;
}

struct grpc_call *grpc_find(struct grpc *grpc, int32_t number)
{
    struct http2_stream *stream = http2_find(grpc->http2, number);
    struct grpc_call *call = stream != NULL ? stream->layer : NULL;
    return call == NULL || call->plain || call->silent ? NULL : call;
}

struct http2_stream *grpc_find_http(struct grpc *grpc, int32_t number)
{
    struct http2_stream *stream = http2_find(grpc->http2, number);
    return stream == NULL || stream->layer != NULL ? NULL : stream;
}

int32_t grpc_call_number(const struct grpc_call *call)
{
    return http2_stream_number(call->stream);
}

struct grpc *grpc_call_connection(const struct grpc_call *call)
{
    return call->grpc;
}

void *grpc_call_user(const struct grpc_call *call)
{
    return http2_stream_user(call->stream);
}

void grpc_call_set_user(struct grpc_call *call, void *user)
{
    http2_stream_set_user(call->stream, user);
}

bool grpc_call_finished(const struct grpc_call *call)
{
    return http2_stream_finished(call->stream);
}

size_t grpc_call_waiting_bytes(const struct grpc_call *call)
{
    return http2_stream_waiting_bytes(call->stream);
}

void grpc_call_set_mark(struct grpc_call *call, size_t bytes)
{
    http2_stream_set_mark(call->stream, bytes);
}
