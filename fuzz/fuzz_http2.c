/*
 * fuzz_http2.c - a client connection of HTTP/2 and gRPC from any bytes. The first byte says how the rest is cut into pieces, the second
 * what the owner does.
 *
 * Whole or in pieces, the owner must be told the same, and the same must be sent. Then once more with answers between the pieces, and
 * an owner that holds, cancels, refills and sweeps: each call must be closed once, and memory stay within its bounds.
 */
#include "base/check.h"
#include "base/mem.h"
#include "wire/grpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MESSAGE_BYTES_MAX 3000u
#define KEPT_BYTES_MAX 8000u
/* What 20 streams, their answers, and nghttp2's queues may come to. */
#define MEMORY_BYTES_MAX (1024u * 1024)

struct fuzz_owner {
    struct grpc *grpc;
    struct buffer events;
    uint32_t open;
    bool lively;
    uint8_t mood;
};

static void describe(struct fuzz_owner *owner, const char *what, int32_t number, struct bytes text)
{
    buffer_append_format(&owner->events, "%s %d ", what, number);
    if (text.size > 0) buffer_append(&owner->events, text.data, text.size);
    buffer_append_byte(&owner->events, '\n');
}

/* Changes with every event, and the same input always gives the same. */
static uint8_t next_mood(struct fuzz_owner *owner)
{
    owner->mood = (uint8_t)(owner->mood * 5u + 113u);
    return owner->lively ? owner->mood >> 4 : 0;
}

static void react(struct fuzz_owner *owner, struct grpc_call *call, struct bytes message)
{
    switch (next_mood(owner)) {
    case 1:
        grpc_call_hold(call);
        break;
    case 2:
        grpc_call_cancel(call);
        break;
    case 3:
        grpc_call_finish(call, GRPC_ABORTED, message);
        break;
    case 4:
        grpc_call_begin(call);
        break;
    case 5:
        grpc_call_hold(call);
        grpc_call_release(call);
        break;
    case 6:
        grpc_call_send(call, message);
        grpc_call_set_mark(call, 100);
        break;
    default:
        grpc_call_send(call, message);
        break;
    }
}

static void on_call(void *user, struct grpc_call *call, const struct grpc_request *request)
{
    struct fuzz_owner *owner = user;
    CHECK(request->path.size > 0 && request->path.size <= HTTP2_HEADER_LIST_BYTES_MAX);
    CHECK(request->timeout >= 0);
    CHECK(grpc_find(owner->grpc, grpc_call_number(call)) == call);
    describe(owner, "call", grpc_call_number(call), request->path);
    describe(owner, "token", request->has_leader, request->token);
    owner->open++;
    grpc_call_set_user(call, owner);
    if (next_mood(owner) == 1) grpc_call_hold(call);
}

static void on_message(void *user, struct grpc_call *call, struct bytes message)
{
    struct fuzz_owner *owner = user;
    CHECK(message.size <= MESSAGE_BYTES_MAX && grpc_call_user(call) == owner);
    describe(owner, "message", grpc_call_number(call), message);
    react(owner, call, message);
}

static void on_half_closed(void *user, struct grpc_call *call)
{
    struct fuzz_owner *owner = user;
    describe(owner, "half_closed", grpc_call_number(call), (struct bytes){0});
    grpc_call_finish(call, GRPC_OK, (struct bytes){0});
}

static void on_drained(void *user, struct grpc_call *call)
{
    struct fuzz_owner *owner = user;
    CHECK(grpc_call_waiting_bytes(call) <= 100);
    react(owner, call, bytes_of_string("more"));
}

static void on_closed(void *user, struct grpc_call *call, uint32_t error)
{
    struct fuzz_owner *owner = user;
    (void)error;
    CHECK(owner->open > 0 && grpc_call_user(call) == owner);
    owner->open--;
    describe(owner, "closed", grpc_call_number(call), (struct bytes){0});
}

static void on_http_request(void *user, struct http2_stream *stream, const struct http1_request *request)
{
    struct fuzz_owner *owner = user;
    CHECK(request->body.size <= MESSAGE_BYTES_MAX && request->header_count <= HTTP2_HEADER_COUNT_MAX + 1);
    owner->open++;
    describe(owner, "http", http2_stream_number(stream), request->path);
    for (size_t i = 0; i < request->header_count; i++) {
        describe(owner, "name", (int32_t)i, request->headers[i].name);
        describe(owner, "value", (int32_t)i, request->headers[i].value);
    }
    describe(owner, "body", request->method, request->body);
    if (next_mood(owner) == 1) return;
    http2_respond(stream, 200, "text/plain", "X-Y: z\r\n", request->body, request->method == HTTP1_HEAD);
}

static void on_http_drained(void *user, struct http2_stream *stream)
{
    (void)user;
    (void)stream;
}

static void on_http_closed(void *user, struct http2_stream *stream, uint32_t error)
{
    struct fuzz_owner *owner = user;
    (void)error;
    CHECK(owner->open > 0);
    owner->open--;
    describe(owner, "http_closed", http2_stream_number(stream), (struct bytes){0});
}

static const struct grpc_handler handler = {
    .call = on_call,
    .message = on_message,
    .half_closed = on_half_closed,
    .drained = on_drained,
    .closed = on_closed,
    .http_request = on_http_request,
    .http_drained = on_http_drained,
    .http_closed = on_http_closed,
};

static void begin(struct fuzz_owner *owner)
{
    struct grpc_limits limits = {.http2 = http2_limits_default(),
                                 .message_bytes_max = MESSAGE_BYTES_MAX,
                                 .http_body_bytes_max = MESSAGE_BYTES_MAX};
    limits.http2.streams_max = 20;
    limits.http2.stream_window_bytes = 1000;
    limits.http2.granted_bytes_max = 2 * MESSAGE_BYTES_MAX;
    limits.http2.kept_bytes_max = KEPT_BYTES_MAX;
    owner->grpc = grpc_new(&limits, &handler, owner, 0);
}

static void end(struct fuzz_owner *owner)
{
    grpc_free(owner->grpc);
    CHECK(owner->open == 0);
}

static void feed(struct fuzz_owner *owner, struct bytes bytes, time_ns now)
{
    uint8_t *copy = mem_alloc(bytes.size);
    memcpy(copy, bytes.data, bytes.size);
    grpc_feed(owner->grpc, bytes_of(copy, bytes.size), now);
    mem_free(copy);
    CHECK(http2_kept_bytes(grpc_http2(owner->grpc)) <= KEPT_BYTES_MAX);
    CHECK(http2_stream_count(grpc_http2(owner->grpc)) <= 60);
}

static void greet(struct fuzz_owner *owner)
{
    static const char greeting[] = HTTP2_PREFACE "\0\0\0\4\0\0\0\0\0"
                                                 "\0\0\0\4\1\0\0\0\0";
    feed(owner, bytes_of(greeting, sizeof greeting - 1), 0);
}

/* All input, then all output. False when the client said goodbye within: what it sends then is dropped, from the next piece on. */
static bool still(struct bytes input, size_t piece, struct fuzz_owner *owner, struct buffer *out)
{
    begin(owner);
    greet(owner);
    for (size_t at = 0; at < input.size; at += piece) {
        feed(owner, bytes_of(input.data + at, input.size - at < piece ? input.size - at : piece), 1);
    }
    bool wanted = http2_wants_in(grpc_http2(owner->grpc));
    grpc_out(owner->grpc, out, SIZE_MAX, 1);
    end(owner);
    return wanted;
}

/* Whether a stream was reset for what its client sent beyond its window. When that is seen depends on what was consumed before. */
static bool broke_a_window(struct bytes out)
{
    while (out.size >= 9) {
        size_t size = (size_t)out.data[0] << 16 | (size_t)out.data[1] << 8 | out.data[2];
        if (out.data[3] == 3 && out.data[12] == HTTP2_FLOW_CONTROL_ERROR) return true;
        out = bytes_of(out.data + 9 + size, out.size - 9 - size);
    }
    return false;
}

static void lively(struct bytes input, size_t piece, uint8_t mood)
{
    struct fuzz_owner owner = {.lively = true, .mood = mood};
    begin(&owner);
    if (mood & 1) greet(&owner);
    time_ns now = 0;
    struct buffer out = {0};
    for (size_t at = 0; at < input.size; at += piece) {
        feed(&owner, bytes_of(input.data + at, input.size - at < piece ? input.size - at : piece), now);
        size_t before = out.size;
        bool more = grpc_out(owner.grpc, &out, out.size + 100, now);
        CHECK(more || out.size >= before);
        CHECK(grpc_memory_bytes(owner.grpc) <= MEMORY_BYTES_MAX + input.size);
        uint8_t next = next_mood(&owner);
        struct grpc_call *call = grpc_find(owner.grpc, next * 2 + 1);
        if (call != NULL) grpc_call_release(call);
        struct http2_stream *stream = grpc_find_http(owner.grpc, next * 2 + 1);
        if (stream != NULL) http2_respond(stream, 204, NULL, "", (struct bytes){0}, false);
        if (next == 15) http2_shutdown(grpc_http2(owner.grpc));
        if (next == 14) now += 11 * TIME_NS_PER_S;
        if (next == 13) grpc_sweep(owner.grpc, now);
        buffer_clear(&out);
        buffer_clear(&owner.events);
    }
    for (int rounds = 0; rounds < 100 && grpc_out(owner.grpc, &out, out.size + 1000, now); rounds++) continue;
    end(&owner);
    buffer_free(&out);
    buffer_free(&owner.events);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3) return 0;
    struct bytes input = bytes_of(data + 2, size - 2);
    size_t piece = data[0] % 64u + 1;
    struct fuzz_owner one = {0}, two = {0};
    struct buffer out_one = {0}, out_two = {0};
    bool wanted_one = still(input, input.size, &one, &out_one);
    bool wanted_two = still(input, piece, &two, &out_two);
    bool broke = broke_a_window(buffer_bytes(&out_one)) || broke_a_window(buffer_bytes(&out_two));
    if (wanted_one && wanted_two && !broke) {
        CHECK(bytes_equal(buffer_bytes(&one.events), buffer_bytes(&two.events)));
        CHECK(bytes_equal(buffer_bytes(&out_one), buffer_bytes(&out_two)));
    }
    buffer_free(&one.events);
    buffer_free(&two.events);
    buffer_free(&out_one);
    buffer_free(&out_two);
    lively(input, piece, data[1]);
    return 0;
}
