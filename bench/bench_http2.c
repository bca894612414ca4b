/*
 * bench_http2.c - what a gRPC call costs on the wire: CPU time from a request's bytes to the answer's bytes, nghttp2 included, without
 * replica and network. 300 bytes each way; the requests are those of a client that has sent the same headers before.
 *
 *     bench_http2 [CALLS]
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/check.h"
#include "wire/grpc.h"

#define MESSAGE_BYTES 300u
/* Calls that arrive, and are answered, in one turn. */
static const uint32_t batches[] = {1, 16, 256};

static uint64_t calls_answered;

static double cpu_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* ---- a client by hand: the first header block fills the table, the others are indexes into it ---- */

static void append_u32_big(struct buffer *out, uint32_t value)
{
    value = __builtin_bswap32(value);
    buffer_append(out, &value, sizeof value);
}

static void append_head(struct buffer *out, size_t size, uint8_t type, uint8_t flags, uint32_t stream)
{
    append_u32_big(out, (uint32_t)size << 8 | type);
    buffer_append_byte(out, flags);
    append_u32_big(out, stream);
}

static void append_text(struct buffer *out, const char *text)
{
    CHECK(strlen(text) < 127);
    buffer_append_byte(out, (uint8_t)strlen(text));
    buffer_append_string(out, text);
}

/* What grpc-go's client sends. */
static const char *const fields[][2] = {
    {":path", "/etcdserverpb.KV/Put"},
    {":authority", "127.0.0.1:2379"},
    {"content-type", "application/grpc"},
    {"user-agent", "grpc-go/1.83.2"},
    {"te", "trailers"},
    {"grpc-accept-encoding", "gzip"},
    {"hasleader", "true"},
    {"grpc-timeout", "4999834u"},
};

static void append_call(struct buffer *out, uint32_t stream, bool first)
{
    struct buffer block = {0};
    buffer_append_byte(&block, 0x83); /* :method POST */
    buffer_append_byte(&block, 0x86); /* :scheme http */
    for (size_t i = 0; i < ARRAY_COUNT(fields); i++) {
        if (first) {
            buffer_append_byte(&block, 0x40);
            append_text(&block, fields[i][0]);
            append_text(&block, fields[i][1]);
        } else {
            buffer_append_byte(&block, (uint8_t)(0x80 + 62 + ARRAY_COUNT(fields) - 1 - i));
        }
    }
    append_head(out, block.size, 1, 4, stream);
    buffer_append(out, block.data, block.size);
    buffer_free(&block);
    uint8_t message[MESSAGE_BYTES] = {0};
    append_head(out, 5 + sizeof message, 0, 1, stream);
    buffer_append_byte(out, 0);
    append_u32_big(out, sizeof message);
    buffer_append(out, message, sizeof message);
}

/* ---- an owner that answers at once ---- */

static void on_call(void *user, struct grpc_call *call, const struct grpc_request *request)
{
    (void)user;
    (void)call;
    CHECK(request->path.size > 0 && request->has_leader);
}

static void on_message(void *user, struct grpc_call *call, struct bytes message)
{
    (void)user;
    struct buffer *out = grpc_call_send_buffer(call);
    buffer_append(out, message.data, message.size);
    grpc_call_sent(call);
    grpc_call_finish(call, GRPC_OK, (struct bytes){0});
}

static void on_nothing(void *user, struct grpc_call *call)
{
    (void)user;
    (void)call;
}

static void on_closed(void *user, struct grpc_call *call, uint32_t error)
{
    (void)user;
    (void)call;
    CHECK(error == HTTP2_NO_ERROR);
    calls_answered++;
}

static void on_http_request(void *user, struct http2_stream *stream, const struct http1_request *request)
{
    (void)user;
    (void)request;
    http2_respond_headers(stream, 404, NULL, 0);
}

static void on_http_drained(void *user, struct http2_stream *stream)
{
    (void)user;
    (void)stream;
}

static void on_http_closed(void *user, struct http2_stream *stream, uint32_t error)
{
    (void)user;
    (void)stream;
    (void)error;
}

static const struct grpc_handler owner = {
    .call = on_call,
    .message = on_message,
    .half_closed = on_nothing,
    .drained = on_nothing,
    .closed = on_closed,
    .http_request = on_http_request,
    .http_drained = on_http_drained,
    .http_closed = on_http_closed,
};

static void bench(uint32_t batch, long calls)
{
    struct grpc_limits limits = grpc_limits_default();
    struct grpc *grpc = grpc_new(&limits, &owner, NULL, 0);
    struct buffer in = {0}, out = {0};
    buffer_append_string(&in, HTTP2_PREFACE);
    append_head(&in, 6, 4, 0, 0); /* SETTINGS: a window that is large enough for ever */
    static const uint8_t window[6] = {0, 4, 0x7f, 0xff, 0xff, 0xff};
    buffer_append(&in, window, sizeof window);
    append_head(&in, 0, 4, 1, 0);
    append_head(&in, 4, 8, 0, 0);
    append_u32_big(&in, 1u << 20);
    append_call(&in, 1, true);
    grpc_feed(grpc, buffer_bytes(&in), 0);
    grpc_out(grpc, &out, SIZE_MAX, 0);
    size_t memory_first = grpc_memory_bytes(grpc);

    calls_answered = 0;
    double seconds = 0;
    time_ns now = 0;
    size_t out_bytes = 0, credit = 0;
    uint32_t stream = 3;
    for (long done = 0; done < calls && stream < INT32_MAX - 2 * batch; done += batch) {
        buffer_clear(&in);
        for (uint32_t i = 0; i < batch; i++, stream += 2) append_call(&in, stream, false);
        if (credit > 32768) { /* as clients do: each half of a window */
            append_head(&in, 4, 8, 0, 0);
            append_u32_big(&in, (uint32_t)credit);
            credit = 0;
        }
        now += batch * 3000;
        double begin = cpu_seconds();
        grpc_feed(grpc, buffer_bytes(&in), now);
        buffer_clear(&out);
        grpc_out(grpc, &out, SIZE_MAX, now);
        seconds += cpu_seconds() - begin;
        out_bytes += out.size;
        credit += batch * (5 + MESSAGE_BYTES);
    }
    CHECK(calls_answered > 0 && !http2_done(grpc_http2(grpc)));
    printf("unary call, %3u in a turn: %6.0f ns  (%llu calls, %zu bytes out each; the connection: %zu bytes, at first "
           "%zu)\n",
           batch, seconds / (double)calls_answered * 1e9, (unsigned long long)calls_answered,
           out_bytes / calls_answered, grpc_memory_bytes(grpc), memory_first);
    grpc_free(grpc);
    buffer_free(&in);
    buffer_free(&out);
}

int main(int argc, char **argv)
{
    long calls = argc > 1 ? atol(argv[1]) : 1000000;
    if (calls <= 0) {
        fprintf(stderr, "usage: bench_http2 [CALLS]\n");
        return 2;
    }
    for (size_t i = 0; i < ARRAY_COUNT(batches); i++) bench(batches[i], calls);
    return 0;
}
