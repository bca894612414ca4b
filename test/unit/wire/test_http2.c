#include "wire/http2.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "grpc_rig.h"

/* ---- plain requests ---- */

static void test_plain_requests(void **state)
{
    (void)state;
    struct grpc_rig rig;
    rig_begin(&rig, NULL);
    rig_greet(&rig);
    frame_append_request(&rig.in, 1, "GET", "/health?serializable=true", "accept: */*", true);
    frame_append_request(&rig.in, 3, "HEAD", "/v1/data/a%2Fb", NULL, true);
    frame_append_request(&rig.in, 5, "PATCH", "/x?", NULL, true);
    rig_turn(&rig);
    rig_expect_events(&rig, "http 1 method=0 /health query=serializable=true body=0 accept=*/* host=node\n"
                            "http 3 method=1 /v1/data/a%2Fb query= body=0 host=node\n"
                            "http 5 method=6 /x query= body=0 host=node\n"
                            "http_closed 3 0\n"
                            "http_closed 1 0\n"
                            "http_closed 5 0\n");
    /* Connection isn't there, names are in lower case, and HEAD has a length and no body. */
    rig_expect_sent(&rig, "HEADERS 1 :status=200 content-type=text/plain allow=GET content-length=6\n"
                          "HEADERS 3 END_STREAM :status=200 content-type=text/plain allow=GET content-length=6\n"
                          "HEADERS 5 :status=200 content-type=text/plain allow=GET content-length=6\n"
                          "DATA 1 END_STREAM 6 626f64793d30\n"
                          "DATA 5 END_STREAM 6 626f64793d30\n");
    rig_end(&rig);
}

static void test_plain_bodies(void **state)
{
    (void)state;
    for (size_t piece = 0; piece <= 7; piece++) {
        struct grpc_rig rig;
        rig_begin(&rig, NULL);
        rig_greet(&rig);
        rig.piece = piece;
        frame_append_request(&rig.in, 1, "POST", "/v1/data", "content-type: application/json\ncontent-length: 5",
                             false);
        frame_append(&rig.in, FRAME_DATA, 0, 1, bytes_of_string("ab"));
        frame_append(&rig.in, FRAME_DATA, FLAG_END_STREAM, 1, bytes_of_string("cde"));
        frame_append_request(&rig.in, 3, "POST", "/v1/data", NULL, false);
        frame_append(&rig.in, FRAME_DATA, 0, 3, bytes_of_string("abc"));
        frame_append(&rig.in, FRAME_DATA, FLAG_END_STREAM, 3, (struct bytes){0});
        rig_turn(&rig);
        rig_expect_events(
            &rig, "http 1 method=2 /v1/data query= body=5 content-type=application/json content-length=5 host=node\n"
                  "http 3 method=2 /v1/data query= body=3 host=node\n"
                  "http_closed 1 0\nhttp_closed 3 0\n");
        assert_int_equal(http2_kept_bytes(grpc_http2(rig.grpc)), 0);
        rig_end(&rig);
    }
}

/* A body of an unknown length gets its windows; the length of the other is known. */
static void test_large_bodies(void **state)
{
    (void)state;
    for (int known = 0; known <= 1; known++) {
        struct grpc_rig rig;
        rig_begin(&rig, NULL);
        rig_greet(&rig);
        frame_append_request(&rig.in, 1, "POST", "/v1/data", known ? "content-length: 2000000" : NULL, false);
        static uint8_t zeros[2000000];
        size_t sent = 0, allowed = 16384;
        int rounds = 0;
        for (; sent < sizeof zeros; rounds++) {
            size_t size = sizeof zeros - sent < allowed ? sizeof zeros - sent : allowed;
            assert_true(size > 0 && rounds < 20);
            sent += size;
            allowed -= size;
            for (size_t left = size; left > 0;) {
                size_t part = left < 16384 ? left : 16384;
                left -= part;
                frame_append(&rig.in, FRAME_DATA, sent == sizeof zeros && left == 0 ? FLAG_END_STREAM : 0, 1,
                             bytes_of(zeros, part));
            }
            rig_turn(&rig);
            buffer_append_byte(&rig.sent, 0);
            const char *update = (const char *)rig.sent.data;
            while ((update = strstr(update, "WINDOW_UPDATE 1 ")) != NULL) {
                update += 16;
                size_t credit = 0;
                while (*update >= '0' && *update <= '9') credit = credit * 10 + (size_t)(*update++ - '0');
                allowed += credit;
            }
            buffer_clear(&rig.sent);
        }
        assert_true(known ? rounds <= 2 : rounds <= 10);
        struct buffer expected = {0};
        buffer_append_format(&expected, "http 1 method=2 /v1/data query= body=2000000%s host=node\nhttp_closed 1 0\n",
                             known ? " content-length=2000000" : "");
        buffer_append_byte(&expected, 0);
        rig_expect_events(&rig, (const char *)expected.data);
        buffer_free(&expected);
        rig_end(&rig);
    }
}

static void test_too_large_bodies(void **state)
{
    (void)state;
    struct grpc_limits limits = grpc_limits_default();
    limits.http_body_bytes_max = 10;
    struct grpc_rig rig;
    rig_begin(&rig, &limits);
    rig_greet(&rig);
    frame_append_request(&rig.in, 1, "POST", "/v1/data", "content-length: 11", false);
    frame_append_request(&rig.in, 3, "POST", "/v1/data", NULL, false);
    frame_append(&rig.in, FRAME_DATA, 0, 3, bytes_of_string("0123456789"));
    frame_append(&rig.in, FRAME_DATA, 0, 3, bytes_of_string("0"));
    frame_append_request(&rig.in, 5, "POST", "/v1/data", "content-length: 99999999999999999999999", false);
    rig_turn(&rig);
    assert_true(rig_sent(&rig, "HEADERS 1 :status=413"));
    assert_true(rig_sent(&rig, "HEADERS 3 :status=413"));
    assert_true(rig_sent(&rig, "RST_STREAM 1 0"));
    assert_true(rig_sent(&rig, "RST_STREAM 3 0"));
    assert_true(rig_sent(&rig, "RST_STREAM 5 1")); /* no number */
    rig_expect_events(&rig, "");
    assert_int_equal(http2_stream_count(grpc_http2(rig.grpc)), 0);
    rig_end(&rig);
}

/* An answer that is produced bit by bit, and by number, after the callback. */
static void test_plain_stream(void **state)
{
    (void)state;
    struct grpc_rig rig;
    rig_begin(&rig, NULL);
    rig_greet(&rig);
    frame_append_request(&rig.in, 1, "GET", "/wait", NULL, true);
    rig_turn(&rig);
    rig_expect_sent(&rig, "");
    assert_null(grpc_find(rig.grpc, 1));
    struct http2_stream *stream = grpc_find_http(rig.grpc, 1);
    assert_non_null(stream);
    const struct http2_field field = {.name = bytes_of_string("content-type"),
                                      .value = bytes_of_string("text/event-stream")};
    http2_begin(stream, 200, &field, 1);
    rig_turn(&rig);
    rig_expect_sent(&rig, "HEADERS 1 :status=200 content-type=text/event-stream\n");
    http2_send(stream, bytes_of_string("a"));
    http2_send(stream, bytes_of_string("b"));
    http2_stream_set_mark(stream, 0);
    assert_true(http2_wants_out(grpc_http2(rig.grpc)));
    rig_turn(&rig);
    rig_expect_sent(&rig, "DATA 1 2 6162\n");
    http2_finish(stream, NULL, 0);
    rig_turn(&rig);
    rig_expect_sent(&rig, "DATA 1 END_STREAM 0\n");
    rig_expect_events(&rig, "http 1 method=0 /wait query= body=0 host=node\nhttp_drained 1\nhttp_closed 1 0\n");
    assert_null(grpc_find_http(rig.grpc, 1));
    rig_end(&rig);
}

static void test_connect(void **state)
{
    (void)state;
    struct grpc_rig rig;
    rig_begin(&rig, NULL);
    rig_greet(&rig);
    struct buffer block = {0};
    field_append(&block, ":method", "CONNECT");
    field_append(&block, ":authority", "elsewhere:80");
    frame_append(&rig.in, FRAME_HEADERS, FLAG_END_HEADERS, 1, buffer_bytes(&block));
    rig_turn(&rig);
    rig_expect_sent(&rig, "HEADERS 1 END_STREAM :status=501\nRST_STREAM 1 0\n");
    rig_expect_events(&rig, "");
    buffer_free(&block);
    rig_end(&rig);
}

/* ---- malformed requests are the stream's fault, broken frames the connection's ---- */

static void test_malformed_requests(void **state)
{
    (void)state;
    static const char *const bad[] = {"X-Upper: a", "connection: close", "te: gzip", "transfer-encoding: chunked",
                                      "a: b\x01",   ":late: pseudo"};
    struct grpc_rig rig;
    rig_begin(&rig, NULL);
    rig_greet(&rig);
    for (uint32_t i = 0; i < ARRAY_COUNT(bad); i++) {
        frame_append_request(&rig.in, 2 * i + 1, "GET", "/health", bad[i], true);
        rig_turn(&rig);
        struct buffer line = {0};
        buffer_append_format(&line, "RST_STREAM %u ", 2 * i + 1);
        buffer_append_byte(&line, 0);
        if (!rig_sent(&rig, (const char *)line.data)) fail_msg("%s was taken", bad[i]);
        buffer_free(&line);
    }
    rig_expect_events(&rig, "");
    assert_false(http2_done(grpc_http2(rig.grpc)));
    frame_append_request(&rig.in, 101, "GET", "/health", NULL, true);
    rig_turn(&rig);
    assert_true(rig_sent(&rig, "HEADERS 101 :status=200"));
    rig_end(&rig);
}

static void test_broken_connections(void **state)
{
    (void)state;
    static const struct {
        enum frame_type type;
        uint8_t flags;
        uint32_t stream;
        const char *payload;
        size_t size;
    } frames[] = {
        {FRAME_DATA, 0, 0, "a", 1},                          /* no stream */
        {FRAME_HEADERS, FLAG_END_HEADERS, 2, "\x82", 1},     /* an even one */
        {FRAME_HEADERS, FLAG_END_HEADERS, 1, "\xff\xff", 2}, /* no HPACK */
        {FRAME_SETTINGS, 0, 0, "12345", 5},                  /* cut */
        {FRAME_WINDOW_UPDATE, 0, 0, "\0\0\0\0", 4},          /* nothing */
        {FRAME_PING, 0, 0, "1234567", 7},                    /* too short */
        {FRAME_PUSH_PROMISE, FLAG_END_HEADERS, 1, "\0\0\0\2", 4},
        {FRAME_CONTINUATION, FLAG_END_HEADERS, 1, "", 0},
    };
    for (size_t i = 0; i < ARRAY_COUNT(frames); i++) {
        struct grpc_rig rig;
        rig_begin(&rig, NULL);
        rig_greet(&rig);
        frame_append(&rig.in, frames[i].type, frames[i].flags, frames[i].stream,
                     bytes_of(frames[i].payload, frames[i].size));
        rig_turn(&rig);
        if (!rig_sent(&rig, "GOAWAY") || !http2_done(grpc_http2(rig.grpc))) fail_msg("frame %zu was taken", i);
        rig_end(&rig);
    }
}

/* ---- the end ---- */

static void test_shutdown(void **state)
{
    (void)state;
    struct grpc_rig rig;
    rig_begin(&rig, NULL);
    rig_greet(&rig);
    frame_append_call(&rig.in, 1, "/t/Echo", NULL);
    rig_turn(&rig);
    http2_shutdown(grpc_http2(rig.grpc));
    http2_shutdown(grpc_http2(rig.grpc));
    rig_turn(&rig);
    rig_expect_sent(&rig, "GOAWAY 2147483647 0\nPING 73687574646f776e\n");
    frame_append_call(&rig.in, 3, "/t/Echo", NULL); /* it crossed our word, and is served */
    frame_append(&rig.in, FRAME_PING, FLAG_ACK, 0, bytes_of_string("shutdown"));
    rig_turn(&rig);
    rig_expect_sent(&rig, "GOAWAY 3 0\n");
    frame_append_call(&rig.in, 5, "/t/Echo", NULL); /* this one the client is to try elsewhere */
    frame_append_message(&rig.in, 1, bytes_of_string("a"), true);
    rig_turn(&rig);
    assert_false(http2_done(grpc_http2(rig.grpc)));
    frame_append_message(&rig.in, 3, bytes_of_string("b"), true);
    rig_turn(&rig);
    rig_expect_events(&rig, "call 1 /t/Echo\ncall 3 /t/Echo\nmessage 1 1 a\nhalf_closed 1\nclosed 1 0\nmessage 3 1 b\n"
                            "half_closed 3\nclosed 3 0\n");
    assert_true(http2_done(grpc_http2(rig.grpc)));
    rig_end(&rig);
}

static void test_shutdown_of_an_idle_connection(void **state)
{
    (void)state;
    struct grpc_rig rig;
    rig_begin(&rig, NULL);
    rig_greet(&rig);
    http2_shutdown(grpc_http2(rig.grpc));
    rig_turn(&rig);
    assert_false(http2_done(grpc_http2(rig.grpc)));
    frame_append(&rig.in, FRAME_PING, FLAG_ACK, 0, bytes_of_string("shutdown"));
    rig_turn(&rig);
    assert_true(http2_done(grpc_http2(rig.grpc)));
    rig_end(&rig);
}

/* ---- memory ---- */

static void test_memory_of_an_idle_connection(void **state)
{
    (void)state;
    struct grpc_rig rig;
    rig_begin(&rig, NULL);
    rig_greet(&rig);
    rig.quiet = true;
    size_t idle = 0;
    for (uint32_t i = 0; i < 1000; i++) {
        frame_append_call(&rig.in, 2 * i + 1, "/t/Unary", NULL);
        frame_append_message(&rig.in, 2 * i + 1, bytes_of_string("hello"), true);
        rig_turn(&rig);
        rig_clear(&rig);
        if (i == 100) idle = grpc_memory_bytes(rig.grpc);
    }
    assert_int_equal(grpc_memory_bytes(rig.grpc), idle); /* nothing is left behind */
    assert_in_range(idle, 16 * 1024, 33 * 1024);
    rig_end(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_requests),
        cmocka_unit_test(test_plain_bodies),
        cmocka_unit_test(test_large_bodies),
        cmocka_unit_test(test_too_large_bodies),
        cmocka_unit_test(test_plain_stream),
        cmocka_unit_test(test_connect),
        cmocka_unit_test(test_malformed_requests),
        cmocka_unit_test(test_broken_connections),
        cmocka_unit_test(test_shutdown),
        cmocka_unit_test(test_shutdown_of_an_idle_connection),
        cmocka_unit_test(test_memory_of_an_idle_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
