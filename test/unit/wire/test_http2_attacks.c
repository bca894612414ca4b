/*
 * What is known of attacks on HTTP/2 servers, each by frames written by hand, and beside each the honest client that looks a little like it.
 */
#include "wire/http2.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "grpc_rig.h"

static void begin(struct grpc_rig *rig)
{
    rig_begin(rig, NULL);
    rig_greet(rig);
    rig->quiet = true;
}

static bool done(const struct grpc_rig *rig)
{
    return http2_done(grpc_http2(rig->grpc));
}

static void assert_sent_away(struct grpc_rig *rig, const char *why)
{
    struct buffer text = {0};
    buffer_append(&text, rig->sent.data, rig->sent.size);
    buffer_append_byte(&text, 0);
    struct buffer wanted = {0};
    buffer_append_format(&wanted, " 11 %s\n", why);
    buffer_append_byte(&wanted, 0);
    const char *found = strstr((const char *)text.data, (const char *)wanted.data);
    if (found == NULL) fail_msg("no GOAWAY with %s in:\n%.2000s", why, (const char *)text.data);
    assert_true(done(rig));
    /* Nothing is taken in any more. */
    rig_clear(rig);
    frame_append_call(&rig->in, 99999, "/t/Unary", NULL);
    rig_turn(rig);
    rig_expect_sent(rig, "");
    rig_expect_events(rig, "");
    buffer_free(&text);
    buffer_free(&wanted);
}

static void assert_goes_on(struct grpc_rig *rig)
{
    assert_false(done(rig));
    assert_false(rig_sent(rig, "GOAWAY"));
}

/* CVE-2023-44487: requests that are begun and reset at once cost the server work and the client nothing. */
static void test_rapid_reset(void **state)
{
    (void)state;
    struct grpc_rig rig;
    begin(&rig);
    size_t fed = 0;
    for (uint32_t i = 0; i < 5000 && !done(&rig); i++, fed++) {
        frame_append_call(&rig.in, 2 * i + 1, "/t/Silent", NULL);
        frame_append_reset(&rig.in, 2 * i + 1, HTTP2_CANCEL);
        rig_turn(&rig);
    }
    assert_in_range(fed, 500, 1000);
    assert_sent_away(&rig, "too_many_resets");
    rig_end(&rig);

    /* The same at once, in one turn: nothing of it waits for the next. */
    begin(&rig);
    for (uint32_t i = 0; i < 5000; i++) {
        frame_append_call(&rig.in, 2 * i + 1, "/t/Silent", NULL);
        frame_append_reset(&rig.in, 2 * i + 1, HTTP2_CANCEL);
    }
    rig_turn(&rig);
    assert_sent_away(&rig, "too_many_resets");
    rig_end(&rig);
}

/* A client that gives up 50 calls a second for an hour is slow, or we are; it is no attack. */
static void test_many_timeouts_are_no_rapid_reset(void **state)
{
    (void)state;
    struct grpc_rig rig;
    begin(&rig);
    uint32_t stream = 1;
    for (int second = 0; second < 600; second++) {
        for (int i = 0; i < 50; i++, stream += 2) {
            frame_append_call(&rig.in, stream, "/t/Silent", NULL);
            frame_append_reset(&rig.in, stream, HTTP2_CANCEL);
        }
        rig.now += TIME_NS_PER_S;
        rig_turn(&rig);
    }
    assert_goes_on(&rig);
    rig_end(&rig);
}

/* CVE-2025-8671: frames that make the server reset the request, again and again. */
static void test_made_you_reset(void **state)
{
    (void)state;
    struct grpc_rig rig;
    begin(&rig);
    for (uint32_t i = 0; i < 5000; i++) {
        frame_append_call(&rig.in, 2 * i + 1, "/t/Silent", NULL);
        frame_append_window_update(&rig.in, 2 * i + 1, INT32_MAX); /* above 2^31 - 1 in all */
        rig_turn(&rig);
        if (i == 10) {
            assert_true(rig_sent(&rig, "RST_STREAM 1 3"));
            assert_goes_on(&rig);
        }
    }
    assert_sent_away(&rig, "too_many_resets");
    rig_end(&rig);
}

/* CVE-2024-27316 and others: a header block without an end. */
static void test_continuation_flood(void **state)
{
    (void)state;
    for (size_t size = 0; size <= 100; size += 100) {
        struct grpc_rig rig;
        begin(&rig);
        struct buffer block = {0};
        field_append(&block, ":method", "GET");
        frame_append(&rig.in, FRAME_HEADERS, 0, 1, buffer_bytes(&block));
        buffer_clear(&block);
        while (block.size < size) field_append(&block, "x", "y");
        size_t before = grpc_memory_bytes(rig.grpc);
        for (int i = 0; i < 10000; i++) frame_append(&rig.in, FRAME_CONTINUATION, 0, 1, buffer_bytes(&block));
        rig_turn(&rig);
        assert_true(done(&rig));
        assert_true(rig_sent(&rig, "GOAWAY 1 11 "));
        assert_true(grpc_memory_bytes(rig.grpc) < before + 64 * 1024);
        buffer_free(&block);
        rig_end(&rig);
    }
}

/* A header block in a few frames is fine. */
static void test_a_few_continuations(void **state)
{
    (void)state;
    struct grpc_rig rig;
    begin(&rig);
    struct buffer block = {0};
    field_append(&block, ":method", "GET");
    field_append(&block, ":scheme", "http");
    field_append(&block, ":path", "/health");
    field_append(&block, ":authority", "node");
    for (size_t i = 0; i < 8; i++) {
        struct bytes part = bytes_of(block.data + i * 5, i < 7 ? 5 : block.size - 35);
        uint8_t flags = (uint8_t)((i == 0 ? FLAG_END_STREAM : 0) | (i == 7 ? FLAG_END_HEADERS : 0));
        frame_append(&rig.in, i == 0 ? FRAME_HEADERS : FRAME_CONTINUATION, flags, 1, part);
    }
    rig_turn(&rig);
    rig_expect_events(&rig, "http 1 method=0 /health query= body=0 host=node\nhttp_closed 1 0\n");
    assert_goes_on(&rig);
    buffer_free(&block);
    rig_end(&rig);
}

/* CVE-2019-9515. */
static void test_settings_flood(void **state)
{
    (void)state;
    struct grpc_rig rig;
    begin(&rig);
    for (int i = 0; i < 100; i++) frame_append_setting(&rig.in, 4, 65535);
    rig_turn(&rig);
    assert_goes_on(&rig);
    for (int i = 0; i < 1000; i++) frame_append_setting(&rig.in, 4, 65535);
    rig_turn(&rig);
    assert_sent_away(&rig, "too_many_frames");
    rig_end(&rig);
}

/* CVE-2019-9512, and grpc-go's rule for keepalive. */
static void test_ping_flood(void **state)
{
    (void)state;
    static const struct bytes payload = {(const uint8_t *)"12345678", 8};
    struct grpc_rig rig;
    begin(&rig);
    for (int i = 0; i < 3; i++) frame_append(&rig.in, FRAME_PING, 0, 0, payload);
    rig_turn(&rig);
    rig_expect_sent(&rig, "PING ACK 3132333435363738\nPING ACK 3132333435363738\nPING ACK 3132333435363738\n");
    assert_false(done(&rig));
    frame_append(&rig.in, FRAME_PING, 0, 0, payload);
    rig_turn(&rig);
    assert_sent_away(&rig, "too_many_pings");
    rig_end(&rig);
}

static void test_keepalive_pings(void **state)
{
    (void)state;
    static const struct bytes payload = {(const uint8_t *)"12345678", 8};
    struct grpc_rig rig;
    begin(&rig);
    /* As often as is allowed, for hours, without a single call. */
    for (int i = 0; i < 2000; i++) {
        rig.now += 5 * TIME_NS_PER_S;
        frame_append(&rig.in, FRAME_PING, 0, 0, payload);
        rig_turn(&rig);
    }
    assert_goes_on(&rig);
    /* After each answer one may come at any time: clients measure their bandwidth so. */
    for (uint32_t i = 0; i < 1000; i++) {
        frame_append_call(&rig.in, 2 * i + 1, "/t/Unary", NULL);
        frame_append_message(&rig.in, 2 * i + 1, bytes_of_string("a"), true);
        rig_turn(&rig);
        frame_append(&rig.in, FRAME_PING, 0, 0, payload);
        rig_turn(&rig);
    }
    assert_goes_on(&rig);
    /* A bit too often is too often. */
    for (int i = 0; i < 4; i++) {
        rig.now += 5 * TIME_NS_PER_S - 1;
        frame_append(&rig.in, FRAME_PING, 0, 0, payload);
        rig_turn(&rig);
    }
    assert_sent_away(&rig, "too_many_pings");
    rig_end(&rig);
}

/* CVE-2019-9518: empty frames; and others that bring nothing. */
static void flood(enum frame_type type, struct bytes payload, uint32_t stream)
{
    struct grpc_rig rig;
    begin(&rig);
    frame_append_call(&rig.in, 1, "/t/Silent", NULL);
    for (int i = 0; i < 100; i++) frame_append(&rig.in, type, 0, stream, payload);
    rig_turn(&rig);
    assert_goes_on(&rig);
    for (int i = 0; i < 11000; i++) frame_append(&rig.in, type, 0, stream, payload);
    rig_turn(&rig);
    assert_sent_away(&rig, "too_many_frames");
    rig_end(&rig);
}

static void test_frames_that_bring_nothing(void **state)
{
    (void)state;
    flood(FRAME_DATA, (struct bytes){0}, 1);
    flood(FRAME_PRIORITY, bytes_of("\0\0\0\0\1", 5), 7);
    flood(FRAME_WINDOW_UPDATE, bytes_of("\0\0\0\1", 4), 0);
    flood(FRAME_WINDOW_UPDATE, bytes_of("\0\0\0\1", 4), 1);
}

/* Frames of unknown types are passed over (RFC 9113 §5.5); nothing is kept of them. */
static void test_unknown_frames(void **state)
{
    (void)state;
    struct grpc_rig rig;
    begin(&rig);
    size_t before = grpc_memory_bytes(rig.grpc);
    for (int i = 0; i < 50000; i++) frame_append(&rig.in, (enum frame_type)0x42, 0xff, 0, bytes_of("abc", 3));
    rig_turn(&rig);
    rig_expect_sent(&rig, "");
    assert_int_equal(grpc_memory_bytes(rig.grpc), before);
    assert_goes_on(&rig);
    rig_end(&rig);
}

static void append_large_request(struct grpc_rig *rig, uint32_t stream, size_t value_bytes)
{
    static uint8_t value[40000];
    memset(value, 'x', sizeof value);
    struct buffer block = {0};
    field_append(&block, ":method", "GET");
    field_append(&block, ":scheme", "http");
    field_append(&block, ":path", "/health");
    field_append(&block, ":authority", "node");
    field_append_bytes(&block, "x", bytes_of(value, value_bytes));
    for (size_t at = 0; at < block.size; at += 16384) {
        size_t size = block.size - at < 16384 ? block.size - at : 16384;
        uint8_t flags = (uint8_t)((at == 0 ? FLAG_END_STREAM : 0) | (at + size == block.size ? FLAG_END_HEADERS : 0));
        frame_append(&rig->in, at == 0 ? FRAME_HEADERS : FRAME_CONTINUATION, flags, stream,
                     bytes_of(block.data + at, size));
    }
    buffer_free(&block);
}

static void test_large_headers(void **state)
{
    (void)state;
    struct grpc_rig rig;
    begin(&rig);
    append_large_request(&rig, 1, 16000);
    append_large_request(&rig, 3, 20000);
    rig_turn(&rig);
    assert_true(rig_sent(&rig, "HEADERS 1 :status=200"));
    assert_true(rig_sent(&rig, "HEADERS 3 END_STREAM :status=431"));
    assert_goes_on(&rig);
    struct buffer lines = {0};
    for (int i = 0; i < 101; i++) buffer_append_format(&lines, "x%d: y\n", i);
    buffer_append_byte(&lines, 0);
    frame_append_request(&rig.in, 5, "GET", "/health", (const char *)lines.data, true);
    rig_turn(&rig);
    assert_true(rig_sent(&rig, "HEADERS 5 END_STREAM :status=431"));
    assert_goes_on(&rig);
    buffer_free(&lines);
    rig_end(&rig);
}

/* A field of 4,000 bytes goes into the table; then each byte of the block is that field again. */
static void test_hpack_bomb(void **state)
{
    (void)state;
    struct grpc_rig rig;
    begin(&rig);
    static char value[4001];
    memset(value, 'x', sizeof value - 1);
    struct buffer block = {0};
    field_append(&block, ":method", "GET");
    field_append(&block, ":scheme", "http");
    field_append(&block, ":path", "/");
    size_t at = block.size;
    field_append(&block, "x", value);
    block.data[at] = 0x40; /* with indexing */
    for (int i = 0; i < 10000; i++) buffer_append_byte(&block, 0x80 + 62);
    frame_append(&rig.in, FRAME_HEADERS, FLAG_END_HEADERS | FLAG_END_STREAM, 1, buffer_bytes(&block));
    size_t before = grpc_memory_bytes(rig.grpc);
    rig_turn(&rig);
    assert_true(grpc_memory_bytes(rig.grpc) < before + 128 * 1024);
    assert_sent_away(&rig, "too_large_headers");
    buffer_free(&block);
    rig_end(&rig);
}

/* CVE-2019-9517 and the like: an answer whose window stays closed must not stay for ever. */
static void test_stalled_answer(void **state)
{
    (void)state;
    static uint8_t large[1000000];
    struct grpc_rig rig;
    rig_begin(&rig, NULL);
    frame_append_greeting(&rig.in);
    frame_append_setting(&rig.in, 4, 0);
    for (uint32_t stream = 1; stream <= 3; stream += 2) frame_append_call(&rig.in, stream, "/t/Stream", NULL);
    rig_turn(&rig);
    size_t before = grpc_memory_bytes(rig.grpc);
    for (int32_t stream = 1; stream <= 3; stream += 2) {
        grpc_call_send(grpc_find(rig.grpc, stream), bytes_of(large, sizeof large));
    }
    assert_true(grpc_memory_bytes(rig.grpc) > before + 2 * sizeof large);
    rig.now += 50 * TIME_NS_PER_S;
    frame_append_window_update(&rig.in, 1, 1000); /* the first one gets on */
    frame_append_window_update(&rig.in, 3, 10);   /* the other one only seems to */
    rig_turn(&rig);
    rig_clear(&rig);
    rig.now += 20 * TIME_NS_PER_S;
    grpc_sweep(rig.grpc, rig.now);
    rig_turn(&rig);
    rig_expect_sent(&rig, "RST_STREAM 3 8\n");
    rig_expect_events(&rig, "closed 3 8\n");
    rig.now += 50 * TIME_NS_PER_S;
    grpc_sweep(rig.grpc, rig.now);
    rig_turn(&rig);
    rig_expect_events(&rig, "closed 1 8\n");
    assert_true(grpc_memory_bytes(rig.grpc) < before + 10000);
    assert_false(done(&rig));
    rig_end(&rig);
}

/* An answer that waits, and window updates of one byte: each costs us a frame of ten. */
static void test_tiny_windows(void **state)
{
    (void)state;
    static uint8_t large[1000000];
    struct grpc_rig rig;
    rig_begin(&rig, NULL);
    frame_append_greeting(&rig.in);
    frame_append_setting(&rig.in, 4, 1);
    frame_append_call(&rig.in, 1, "/t/Stream", NULL);
    rig_turn(&rig);
    rig.quiet = true;
    grpc_call_send(grpc_find(rig.grpc, 1), bytes_of(large, sizeof large));
    int fed = 0;
    for (; fed < 20000 && !done(&rig); fed++) {
        frame_append_window_update(&rig.in, 1, 1);
        rig_turn(&rig);
    }
    assert_in_range(fed, 5000, 10000);
    assert_sent_away(&rig, "too_many_frames");
    rig_end(&rig);

    /* By the window that SETTINGS change for all streams. */
    rig_begin(&rig, NULL);
    rig_greet(&rig);
    rig.quiet = true;
    frame_append_call(&rig.in, 1, "/t/Stream", NULL);
    rig_turn(&rig);
    grpc_call_send(grpc_find(rig.grpc, 1), bytes_of(large, sizeof large));
    for (uint32_t i = 0; i < 1000; i++) {
        frame_append_setting(&rig.in, 4, 65536 + i);
        rig_feed(&rig);
    }
    rig_turn(&rig);
    assert_sent_away(&rig, "too_many_frames");
    rig_end(&rig);
}

/* A reader that updates its window often, but reads, goes on. */
static void test_a_busy_reader(void **state)
{
    (void)state;
    static uint8_t part[1000];
    struct grpc_rig rig;
    rig_begin(&rig, NULL);
    rig_greet(&rig);
    rig.quiet = true;
    frame_append_call(&rig.in, 1, "/t/Stream", NULL);
    rig_turn(&rig);
    for (int i = 0; i < 50000; i++) {
        grpc_call_send(grpc_find(rig.grpc, 1), bytes_of(part, sizeof part - 5));
        frame_append_window_update(&rig.in, 0, sizeof part);
        frame_append_window_update(&rig.in, 1, sizeof part);
        rig_turn(&rig);
        buffer_clear(&rig.sent);
    }
    assert_goes_on(&rig);
    assert_int_equal(grpc_call_waiting_bytes(grpc_find(rig.grpc, 1)), 0);
    rig_end(&rig);
}

/* Slowloris, in its three forms. */
static void test_slow_requests(void **state)
{
    (void)state;
    struct grpc_rig rig;
    rig_begin(&rig, NULL);
    rig.now += 11 * TIME_NS_PER_S;
    grpc_sweep(rig.grpc, rig.now); /* never greeted */
    rig_turn(&rig);
    assert_true(rig_sent(&rig, "GOAWAY 0 0 too_slow"));
    assert_true(done(&rig));
    rig_end(&rig);

    rig_begin(&rig, NULL);
    rig_greet(&rig);
    struct buffer block = {0};
    field_append(&block, ":method", "GET");
    frame_append(&rig.in, FRAME_HEADERS, 0, 1, buffer_bytes(&block));
    rig_turn(&rig);
    rig.now += 11 * TIME_NS_PER_S;
    grpc_sweep(rig.grpc, rig.now); /* a header block without an end */
    rig_turn(&rig);
    assert_true(done(&rig));
    buffer_free(&block);
    rig_end(&rig);

    rig_begin(&rig, NULL);
    rig_greet(&rig);
    frame_append_call(&rig.in, 1, "/t/Echo", NULL);
    frame_append(&rig.in, FRAME_DATA, 0, 1, bytes_of("\0\0\0\0\5ab", 7));
    frame_append_call(&rig.in, 3, "/t/Echo", NULL);
    frame_append_message(&rig.in, 3, bytes_of_string("whole"), false);
    frame_append_request(&rig.in, 5, "POST", "/v1/data", NULL, false);
    rig_turn(&rig);
    rig_clear(&rig);
    rig.now += 9 * TIME_NS_PER_S;
    grpc_sweep(rig.grpc, rig.now);
    rig_turn(&rig);
    rig_expect_sent(&rig, "");
    rig.now += 2 * TIME_NS_PER_S;
    grpc_sweep(rig.grpc, rig.now); /* bodies without an end; an idle stream between messages is no such thing */
    rig_turn(&rig);
    rig_expect_sent(&rig, "RST_STREAM 5 8\nRST_STREAM 1 8\n");
    rig_expect_events(&rig, "closed 1 8\n");
    assert_non_null(grpc_find(rig.grpc, 3));
    assert_int_equal(http2_stream_count(grpc_http2(rig.grpc)), 1);
    rig_end(&rig);
}

/* As many incomplete messages as a client can send: bounded for the connection, and the others fail with a status. */
static void test_many_incomplete_messages(void **state)
{
    (void)state;
    static uint8_t part[16384] = {0, 0, 0x10, 0, 0}; /* the beginning of a message of 1 MiB */
    struct grpc_rig rig;
    begin(&rig);
    size_t memory_max = 0;
    for (uint32_t i = 0; i < 1000; i++) {
        frame_append_call(&rig.in, 2 * i + 1, "/t/Echo", NULL);
        frame_append(&rig.in, FRAME_DATA, 0, 2 * i + 1, bytes_of(part, sizeof part));
        rig_turn(&rig);
        if (grpc_memory_bytes(rig.grpc) > memory_max) memory_max = grpc_memory_bytes(rig.grpc);
        assert_true(http2_kept_bytes(grpc_http2(rig.grpc)) <= 4096 * 1024);
    }
    assert_in_range(memory_max, 4096 * 1024, 5120 * 1024);
    assert_true(rig_sent(&rig, "HEADERS 1001 END_STREAM :status=200 content-type=application/grpc grpc-status=8"));
    assert_goes_on(&rig);
    rig_end(&rig);
}

/* As many streams as a client can open, and none of them ever ends. */
static void test_many_streams(void **state)
{
    (void)state;
    struct grpc_rig rig;
    begin(&rig);
    size_t before = grpc_memory_bytes(rig.grpc);
    for (uint32_t i = 0; i < 1000; i++) {
        frame_append_call(&rig.in, 2 * i + 1, "/t/Silent", NULL);
        frame_append_message(&rig.in, 2 * i + 1, bytes_of_string("x"), false);
    }
    rig_turn(&rig);
    assert_int_equal(http2_stream_count(grpc_http2(rig.grpc)), 1000);
    assert_in_range(grpc_memory_bytes(rig.grpc) - before, 1, 1500 * 1000);
    assert_goes_on(&rig);
    frame_append_call(&rig.in, 2001, "/t/Silent", NULL);
    rig_turn(&rig);
    assert_int_equal(http2_stream_count(grpc_http2(rig.grpc)), 1000);
    rig_end(&rig);
}

static void test_no_preface(void **state)
{
    (void)state;
    struct grpc_rig rig;
    rig_begin(&rig, NULL);
    buffer_append_string(&rig.in, "GET / HTTP/1.1\r\nHost: node\r\n\r\n");
    rig_turn(&rig);
    assert_true(rig_sent(&rig, "GOAWAY 0 1"));
    assert_true(done(&rig));
    rig_end(&rig);
}

/* Calls at full speed, with all that clients do beside, and not a moment passes. */
static void test_honest_work_is_never_an_attack(void **state)
{
    (void)state;
    struct grpc_rig rig;
    begin(&rig);
    uint32_t stream = 1;
    for (int i = 0; i < 30000; i++, stream += 2) {
        frame_append_call(&rig.in, stream, i % 10 == 0 ? "/t/Silent" : "/t/Unary", NULL);
        frame_append_message(&rig.in, stream, bytes_of_string("hello"), true);
        if (i % 10 == 0) frame_append_reset(&rig.in, stream, HTTP2_CANCEL);
        frame_append_window_update(&rig.in, 0, 10);
        if (i % 100 == 0) {
            rig_turn(&rig);
            assert_goes_on(&rig);
            rig_clear(&rig);
        }
    }
    rig_end(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rapid_reset),
        cmocka_unit_test(test_many_timeouts_are_no_rapid_reset),
        cmocka_unit_test(test_made_you_reset),
        cmocka_unit_test(test_continuation_flood),
        cmocka_unit_test(test_a_few_continuations),
        cmocka_unit_test(test_settings_flood),
        cmocka_unit_test(test_ping_flood),
        cmocka_unit_test(test_keepalive_pings),
        cmocka_unit_test(test_frames_that_bring_nothing),
        cmocka_unit_test(test_unknown_frames),
        cmocka_unit_test(test_large_headers),
        cmocka_unit_test(test_hpack_bomb),
        cmocka_unit_test(test_stalled_answer),
        cmocka_unit_test(test_tiny_windows),
        cmocka_unit_test(test_a_busy_reader),
        cmocka_unit_test(test_slow_requests),
        cmocka_unit_test(test_many_incomplete_messages),
        cmocka_unit_test(test_many_streams),
        cmocka_unit_test(test_no_preface),
        cmocka_unit_test(test_honest_work_is_never_an_attack),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
