#include "grpc_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"

enum reaction { ECHO, UNARY, FAIL, SILENT, HOLD, STREAM };

static const struct {
    const char *path;
    enum reaction reaction;
} reactions[] = {{"/t/Echo", ECHO},     {"/t/Unary", UNARY}, {"/t/Fail", FAIL},
                 {"/t/Silent", SILENT}, {"/t/Hold", HOLD},   {"/t/Stream", STREAM}};

static void on_call(void *user, struct grpc_call *call, const struct grpc_request *request)
{
    struct grpc_rig *rig = user;
    enum reaction reaction = SILENT;
    for (size_t i = 0; i < ARRAY_COUNT(reactions); i++) {
        if (bytes_equal(request->path, bytes_of_string(reactions[i].path))) reaction = reactions[i].reaction;
    }
    grpc_call_set_user(call, (void *)(uintptr_t)reaction);
    if (!rig->quiet) {
        buffer_append_format(&rig->events, "call %d %.*s", grpc_call_number(call), (int)request->path.size,
                             (const char *)request->path.data);
        if (request->timeout != TIME_NS_NEVER)
            buffer_append_format(&rig->events, " timeout=%lld", (long long)request->timeout);
        if (request->has_leader) buffer_append_string(&rig->events, " hasleader");
        if (request->token.data != NULL) {
            buffer_append_format(&rig->events, " token=%.*s", (int)request->token.size,
                                 (const char *)request->token.data);
        }
        buffer_append_byte(&rig->events, '\n');
    }
    if (reaction == FAIL)
        grpc_call_finish(call, GRPC_NOT_FOUND,
                         bytes_of_string("no: 100% \xc3\xbc"
                                         "ber"));
    if (reaction == HOLD) grpc_call_hold(call);
    if (reaction == STREAM) grpc_call_begin(call);
}

static void on_message(void *user, struct grpc_call *call, struct bytes message)
{
    struct grpc_rig *rig = user;
    enum reaction reaction = (enum reaction)(uintptr_t)grpc_call_user(call);
    if (!rig->quiet) {
        buffer_append_format(&rig->events, "message %d %zu", grpc_call_number(call), message.size);
        if (message.size > 0 && message.size <= 20) {
            buffer_append_format(&rig->events, " %.*s", (int)message.size, (const char *)message.data);
        }
        buffer_append_byte(&rig->events, '\n');
    }
    if (reaction == ECHO || reaction == UNARY) grpc_call_send(call, message);
    if (reaction == UNARY) grpc_call_finish(call, GRPC_OK, (struct bytes){0});
}

static void on_half_closed(void *user, struct grpc_call *call)
{
    struct grpc_rig *rig = user;
    if (!rig->quiet) buffer_append_format(&rig->events, "half_closed %d\n", grpc_call_number(call));
    if ((enum reaction)(uintptr_t)grpc_call_user(call) == ECHO) grpc_call_finish(call, GRPC_OK, (struct bytes){0});
}

static void on_drained(void *user, struct grpc_call *call)
{
    struct grpc_rig *rig = user;
    rig->drained_count++;
    if (!rig->quiet) {
        buffer_append_format(&rig->events, "drained %d %zu\n", grpc_call_number(call), grpc_call_waiting_bytes(call));
    }
    if (rig->refill == 0) return;
    uint8_t *message = mem_alloc_zero(rig->refill);
    grpc_call_send(call, bytes_of(message, rig->refill));
    mem_free(message);
    grpc_call_set_mark(call, 0);
}

static void on_closed(void *user, struct grpc_call *call, uint32_t error)
{
    struct grpc_rig *rig = user;
    if (!rig->quiet) buffer_append_format(&rig->events, "closed %d %u\n", grpc_call_number(call), error);
}

static void on_http_request(void *user, struct http2_stream *stream, const struct http1_request *request)
{
    struct grpc_rig *rig = user;
    buffer_append_format(&rig->events, "http %d method=%d %.*s query=%.*s body=%zu", http2_stream_number(stream),
                         request->method, (int)request->path.size, (const char *)request->path.data,
                         (int)request->query.size, (const char *)request->query.data, request->body.size);
    for (size_t i = 0; i < request->header_count; i++) {
        const struct http1_header *header = &request->headers[i];
        buffer_append_format(&rig->events, " %.*s=%.*s", (int)header->name.size, (const char *)header->name.data,
                             (int)header->value.size, (const char *)header->value.data);
    }
    buffer_append_byte(&rig->events, '\n');
    if (bytes_equal(request->path, bytes_of_string("/wait"))) return;
    struct buffer body = {0};
    buffer_append_format(&body, "body=%zu", request->body.size);
    http2_respond(stream, 200, "text/plain", "Allow: GET\r\nConnection: close\r\n", buffer_bytes(&body),
                  request->method == HTTP1_HEAD);
    buffer_free(&body);
}

static void on_http_drained(void *user, struct http2_stream *stream)
{
    struct grpc_rig *rig = user;
    buffer_append_format(&rig->events, "http_drained %d\n", http2_stream_number(stream));
}

static void on_http_closed(void *user, struct http2_stream *stream, uint32_t error)
{
    struct grpc_rig *rig = user;
    buffer_append_format(&rig->events, "http_closed %d %u\n", http2_stream_number(stream), error);
}

static const struct grpc_handler owner = {
    .call = on_call,
    .message = on_message,
    .half_closed = on_half_closed,
    .drained = on_drained,
    .closed = on_closed,
    .http_request = on_http_request,
    .http_drained = on_http_drained,
    .http_closed = on_http_closed,
};

void rig_begin(struct grpc_rig *rig, const struct grpc_limits *limits)
{
    *rig = (struct grpc_rig){.now = 1000 * TIME_NS_PER_S, .out_max = SIZE_MAX};
    struct grpc_limits usual = grpc_limits_default();
    rig->grpc = grpc_new(limits != NULL ? limits : &usual, &owner, rig, rig->now);
    frame_reader_begin(&rig->reader);
}

void rig_greet(struct grpc_rig *rig)
{
    frame_append_greeting(&rig->in);
    frame_append(&rig->in, FRAME_SETTINGS, FLAG_ACK, 0, (struct bytes){0});
    rig_turn(rig);
    rig_clear(rig);
}

void rig_end(struct grpc_rig *rig)
{
    grpc_free(rig->grpc);
    frame_reader_end(&rig->reader);
    buffer_free(&rig->in);
    buffer_free(&rig->events);
    buffer_free(&rig->sent);
}

void rig_feed(struct grpc_rig *rig)
{
    size_t piece = rig->piece > 0 ? rig->piece : rig->in.size;
    for (size_t at = 0; at < rig->in.size; at += piece) {
        size_t size = rig->in.size - at < piece ? rig->in.size - at : piece;
        /* Memory of its own, so that a view that is kept too long is seen. */
        uint8_t *copy = mem_alloc(size);
        memcpy(copy, rig->in.data + at, size);
        grpc_feed(rig->grpc, bytes_of(copy, size), rig->now);
        mem_free(copy);
    }
    buffer_clear(&rig->in);
}

void rig_turn(struct grpc_rig *rig)
{
    rig_feed(rig);
    struct buffer out = {0};
    bool more;
    do {
        buffer_clear(&out);
        more = grpc_out(rig->grpc, &out, rig->out_max, rig->now);
        rig->out_bytes += out.size;
        frame_reader_describe(&rig->reader, buffer_bytes(&out), &rig->sent);
    } while (more && out.size > 0);
    buffer_free(&out);
}

static void expect(struct buffer *found, const char *expected)
{
    if (!bytes_equal(buffer_bytes(found), bytes_of_string(expected))) {
        fail_msg("found:\n%.*s\nbut expected:\n%s", (int)found->size, (const char *)found->data, expected);
    }
    buffer_clear(found);
}

void rig_expect_events(struct grpc_rig *rig, const char *expected)
{
    expect(&rig->events, expected);
}

void rig_expect_sent(struct grpc_rig *rig, const char *expected)
{
    expect(&rig->sent, expected);
}

bool rig_sent(const struct grpc_rig *rig, const char *beginning)
{
    size_t length = strlen(beginning);
    for (size_t at = 0; at < rig->sent.size;) {
        const uint8_t *line = rig->sent.data + at, *end = memchr(line, '\n', rig->sent.size - at);
        if ((size_t)(end - line) >= length && memcmp(line, beginning, length) == 0) return true;
        at += (size_t)(end - line) + 1;
    }
    return false;
}

void rig_clear(struct grpc_rig *rig)
{
    buffer_clear(&rig->events);
    buffer_clear(&rig->sent);
}
