#include "wire/grpc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/random.h"
#include "grpc_rig.h"

#define OK_HEADERS ":status=200 content-type=application/grpc"

static struct bytes zeros(size_t size)
{
    static uint8_t memory[3 * 1024 * 1024];
    assert_true(size <= sizeof memory);
    return bytes_of(memory, size);
}

static void append_data(struct grpc_rig *rig, uint32_t stream, struct bytes bytes, bool end)
{
    do {
        size_t size = bytes.size < 16384 ? bytes.size : 16384;
        frame_append(&rig->in, FRAME_DATA, end && size == bytes.size ? FLAG_END_STREAM : 0, stream,
                     bytes_of(bytes.data, size));
        bytes = bytes_of(bytes.data + size, bytes.size - size);
    } while (bytes.size > 0);
}

/* ---- calls ---- */

static void test_unary(void **state)
{
    (void)state;
    struct grpc_rig rig;
    rig_begin(&rig, NULL);
    frame_append_greeting(&rig.in);
    frame_append_call(&rig.in, 1, "/t/Unary", "grpc-timeout: 250m\nhasleader: true\ntoken: secret");
    frame_append_message(&rig.in, 1, bytes_of_string("hello"), true);
    rig_turn(&rig);
    rig_expect_events(&rig, "call 1 /t/Unary timeout=250000000 hasleader token=secret\n"
                            "message 1 5 hello\n"
                            "closed 1 0\n");
    rig_expect_sent(&rig, "SETTINGS 3=1000 4=16384 6=16384 9=1\n"
                          "SETTINGS ACK\n"
                          "WINDOW_UPDATE 0 2031617\n"
                          "HEADERS 1 " OK_HEADERS "\n"
                          "DATA 1 10 000000000568656c6c6f\n"
                          "HEADERS 1 END_STREAM grpc-status=0\n");
    assert_int_equal(http2_stream_count(grpc_http2(rig.grpc)), 0);
    rig_end(&rig);
}

/* The end may come in a frame of its own, after the answer is on its way: then the client is told that nothing more is wanted. */
static void test_unary_answered_before_the_end(void **state)
{
    (void)state;
    struct grpc_rig rig;
    rig_begin(&rig, NULL);
    rig_greet(&rig);
    frame_append_call(&rig.in, 1, "/t/Unary", NULL);
    frame_append_message(&rig.in, 1, bytes_of_string("a"), false);
    rig_turn(&rig);
    rig_expect_sent(&rig, "HEADERS 1 " OK_HEADERS "\n"
                          "DATA 1 6 000000000161\n"
                          "HEADERS 1 END_STREAM grpc-status=0\n"
                          "RST_STREAM 1 0\n");
    rig_expect_events(&rig, "call 1 /t/Unary\nmessage 1 1 a\nclosed 1 0\n");
    frame_append(&rig.in, FRAME_DATA, FLAG_END_STREAM, 1, (struct bytes){0}); /* it crossed our word */
    rig_turn(&rig);
    rig_expect_events(&rig, "");
    assert_false(http2_done(grpc_http2(rig.grpc)));
    rig_end(&rig);
}

static void test_streaming_both_ways(void **state)
{
    (void)state;
    struct grpc_rig rig;
    rig_begin(&rig, NULL);
    rig_greet(&rig);
    frame_append_call(&rig.in, 1, "/t/Echo", NULL);
    rig_turn(&rig);
    rig_expect_sent(&rig, "");
    frame_append_message(&rig.in, 1, bytes_of_string("a"), false);
    frame_append_message(&rig.in, 1, (struct bytes){0}, false);
    rig_turn(&rig);
    rig_expect_sent(&rig, "HEADERS 1 " OK_HEADERS "\nDATA 1 11 0000000001610000000000\n");
    frame_append_message(&rig.in, 1, bytes_of_string("b"), false);
    rig_turn(&rig);
    rig_expect_sent(&rig, "DATA 1 6 000000000162\n");
    frame_append(&rig.in, FRAME_DATA, FLAG_END_STREAM, 1, (struct bytes){0});
    rig_turn(&rig);
    rig_expect_events(&rig, "call 1 /t/Echo\nmessage 1 1 a\nmessage 1 0\nmessage 1 1 b\nhalf_closed 1\nclosed 1 0\n");
    assert_true(rig_sent(&rig, "HEADERS 1 END_STREAM grpc-status=0"));
    rig_end(&rig);
}

static void test_headers_come_before_the_first_message(void **state)
{
    (void)state;
    struct grpc_rig rig;
    rig_begin(&rig, NULL);
    rig_greet(&rig);
    frame_append_call(&rig.in, 1, "/t/Stream", NULL);
    rig_turn(&rig);
    rig_expect_sent(&rig, "HEADERS 1 " OK_HEADERS "\n");
    struct grpc_call *call = grpc_find(rig.grpc, 1);
    assert_non_null(call);
    grpc_call_send(call, bytes_of_string("x"));
    grpc_call_finish(call, GRPC_UNAVAILABLE, bytes_of_string("bye"));
    assert_true(grpc_call_finished(call));
    grpc_call_send(call, bytes_of_string("too late"));
    grpc_call_finish(call, GRPC_OK, (struct bytes){0});
    struct buffer *late = grpc_call_send_buffer(call);
    buffer_append_string(late, "too late again");
    grpc_call_sent(call);
    rig_turn(&rig);
    rig_expect_sent(&rig, "DATA 1 6 000000000178\n"
                          "HEADERS 1 END_STREAM grpc-status=14 grpc-message=bye\n"
                          "RST_STREAM 1 0\n");
    assert_null(grpc_find(rig.grpc, 1));
    rig_end(&rig);
}

static void test_error_at_once(void **state)
{
    (void)state;
    struct grpc_rig rig;
    rig_begin(&rig, NULL);
    rig_greet(&rig);
    frame_append_call(&rig.in, 1, "/t/Fail", NULL);
    frame_append_message(&rig.in, 1, bytes_of_string("not looked at"), true);
    rig_turn(&rig);
    rig_expect_sent(&rig, "HEADERS 1 END_STREAM " OK_HEADERS " grpc-status=5 grpc-message=no: 100%25 %C3%BCber\n");
    rig_expect_events(&rig, "call 1 /t/Fail\nclosed 1 0\n");
    rig_end(&rig);
}

static void test_every_piece(void **state)
{
    (void)state;
    for (size_t piece = 1; piece <= 40; piece++) {
        struct grpc_rig rig;
        rig_begin(&rig, NULL);
        rig_greet(&rig);
        rig.piece = piece;
        frame_append_call(&rig.in, 1, "/t/Echo", NULL);
        append_data(&rig, 1, bytes_of("\0\0\0\0\3abc\0\0", 10), false);
        append_data(&rig, 1, bytes_of("\0\0\1d\0\0\0\0\0\0\0\0\0\2e", 15), false);
        append_data(&rig, 1, bytes_of("f", 1), true);
        rig_turn(&rig);
        rig_expect_events(&rig,
                          "call 1 /t/Echo\nmessage 1 3 abc\nmessage 1 1 d\nmessage 1 0\nmessage 1 2 ef\nhalf_closed 1\n"
                          "closed 1 0\n");
        assert_int_equal(http2_kept_bytes(grpc_http2(rig.grpc)), 0);
        rig_end(&rig);
    }
}

static void test_cancelled(void **state)
{
    (void)state;
    struct grpc_rig rig;
    rig_begin(&rig, NULL);
    rig_greet(&rig);
    frame_append_call(&rig.in, 1, "/t/Silent", NULL);
    frame_append_message(&rig.in, 1, bytes_of_string("a"), true);
    frame_append_call(&rig.in, 3, "/t/Silent", NULL);
    frame_append_reset(&rig.in, 1, HTTP2_CANCEL);
    rig_turn(&rig);
    rig_expect_events(&rig, "call 1 /t/Silent\nmessage 1 1 a\nhalf_closed 1\ncall 3 /t/Silent\nclosed 1 8\n");
    rig_expect_sent(&rig, "");
    assert_null(grpc_find(rig.grpc, 1));
    struct grpc_call *call = grpc_find(rig.grpc, 3);
    grpc_call_cancel(call);
    rig_expect_events(&rig, ""); /* not before the call returned */
    rig_turn(&rig);
    rig_expect_sent(&rig, "RST_STREAM 3 8\n");
    rig_expect_events(&rig, "closed 3 8\n");
    frame_append_call(&rig.in, 5, "/t/Silent", NULL);
    rig_turn(&rig);
    rig_clear(&rig);
    struct buffer events = {0};
    /* The connection goes, and its calls with it. */
    grpc_free(rig.grpc);
    rig.grpc = NULL;
    rig_expect_events(&rig, "closed 5 8\n");
    buffer_free(&events);
    rig_end(&rig);
}

/* ---- what is refused here ---- */

static void expect_refused(const char *headers, const char *answer)
{
    struct grpc_rig rig;
    rig_begin(&rig, NULL);
    rig_greet(&rig);
    frame_append_call(&rig.in, 1, "/t/Echo", headers);
    rig_turn(&rig);
    struct buffer expected = {0};
    buffer_append_format(&expected, "HEADERS 1 END_STREAM %s\nRST_STREAM 1 0\n", answer);
    buffer_append_byte(&expected, 0);
    rig_expect_sent(&rig, (const char *)expected.data);
    rig_expect_events(&rig, "");
    assert_false(http2_done(grpc_http2(rig.grpc)));
    buffer_free(&expected);
    rig_end(&rig);
}

static void test_refused_headers(void **state)
{
    (void)state;
    expect_refused("grpc-timeout: 1", ":status=400 content-type=application/grpc grpc-status=13 grpc-message=malformed "
                                      "grpc-timeout: transport: timeout string is too short: \"1\"");
    expect_refused("grpc-timeout: 123456789S",
                   ":status=400 content-type=application/grpc grpc-status=13 grpc-message=malformed "
                   "grpc-timeout: transport: timeout string is too long: \"123456789S\"");
    expect_refused("grpc-timeout: 5x",
                   ":status=400 content-type=application/grpc grpc-status=13 grpc-message=malformed "
                   "grpc-timeout: transport: timeout unit is not recognized: \"5x\"");
    expect_refused("grpc-timeout: -5S",
                   ":status=400 content-type=application/grpc grpc-status=13 grpc-message=malformed "
                   "grpc-timeout: strconv.ParseUint: parsing \"-5\": invalid syntax");
    expect_refused("grpc-encoding: gzip",
                   OK_HEADERS " grpc-status=12 grpc-message=grpc: Decompressor is not installed for "
                              "grpc-encoding \"gzip\"");
}

static void test_refused_methods_and_types(void **state)
{
    (void)state;
    struct grpc_rig rig;
    rig_begin(&rig, NULL);
    rig_greet(&rig);
    frame_append_request(&rig.in, 1, "PUT", "/t/Echo", "content-type: application/grpc", true);
    frame_append_request(&rig.in, 3, "POST", "/t/Echo", "content-type: application/grpc-web", true);
    frame_append_request(&rig.in, 5, "POST", "/t/Fail", "content-type: application/grpc+proto", true);
    frame_append_request(&rig.in, 7, "POST", "/t/Fail", "content-type: application/grpc;x=y", true);
    rig_turn(&rig);
    rig_expect_sent(
        &rig, "HEADERS 1 END_STREAM :status=405 content-type=application/grpc grpc-status=13 grpc-message=Received a "
              "HEADERS frame with :method \"PUT\" which should be POST\n"
              "HEADERS 3 END_STREAM :status=415 content-type=application/grpc grpc-status=3 grpc-message=invalid gRPC "
              "request content-type \"application/grpc-web\"\n"
              "HEADERS 5 END_STREAM " OK_HEADERS " grpc-status=5 grpc-message=no: 100%25 %C3%BCber\n"
              "HEADERS 7 END_STREAM " OK_HEADERS " grpc-status=5 grpc-message=no: 100%25 %C3%BCber\n");
    rig_expect_events(&rig, "call 5 /t/Fail\ncall 7 /t/Fail\nclosed 5 0\nclosed 7 0\n");
    rig_end(&rig);
}

static void expect_bad_frame(struct bytes data, bool end, const char *status)
{
    struct grpc_rig rig;
    rig_begin(&rig, NULL);
    rig_greet(&rig);
    frame_append_call(&rig.in, 1, "/t/Echo", NULL);
    frame_append(&rig.in, FRAME_DATA, end ? FLAG_END_STREAM : 0, 1, data);
    rig_turn(&rig);
    struct buffer line = {0};
    buffer_append_format(&line, "HEADERS 1 END_STREAM " OK_HEADERS " %s", status);
    buffer_append_byte(&line, 0);
    if (!rig_sent(&rig, (const char *)line.data)) fail_msg("%.*s", (int)rig.sent.size, (const char *)rig.sent.data);
    rig_expect_events(&rig, "call 1 /t/Echo\nclosed 1 0\n");
    assert_int_equal(http2_kept_bytes(grpc_http2(rig.grpc)), 0);
    buffer_free(&line);
    rig_end(&rig);
}

static void test_bad_frames(void **state)
{
    (void)state;
    expect_bad_frame(bytes_of("\1\0\0\0\1a", 6), true,
                     "grpc-status=13 grpc-message=grpc: compressed flag set with identity or empty encoding");
    expect_bad_frame(bytes_of("\2\0\0\0\1a", 6), true,
                     "grpc-status=13 grpc-message=grpc: received unexpected payload format 2");
    expect_bad_frame(bytes_of("\0\0\x20\0\1", 5), false,
                     "grpc-status=8 grpc-message=grpc: received message larger than max (2097153 vs. 2097152)");
    expect_bad_frame(bytes_of("\0\xff\xff\xff\xff", 5), true,
                     "grpc-status=8 grpc-message=grpc: received message larger than max (4294967295 vs. 2097152)");
    expect_bad_frame(bytes_of("\0\0\0", 3), true, "grpc-status=13 grpc-message=unexpected EOF");
    expect_bad_frame(bytes_of("\0\0\0\0\2a", 6), true, "grpc-status=13 grpc-message=unexpected EOF");
}

/* ---- large messages, and how a client may send them ---- */

/* A client that keeps to its windows. */
struct sender {
    int64_t stream_window, connection_window;
    struct bytes left;
    uint32_t stream;
};

static int64_t credit_of(const struct grpc_rig *rig, uint32_t stream)
{
    char wanted[40];
    struct buffer line = {0};
    buffer_append_format(&line, "WINDOW_UPDATE %u ", stream);
    memcpy(wanted, line.data, line.size);
    wanted[line.size] = '\0';
    int64_t credit = 0;
    for (size_t at = 0; at < rig->sent.size;) {
        const uint8_t *text = rig->sent.data + at, *end = memchr(text, '\n', rig->sent.size - at);
        if ((size_t)(end - text) > line.size && memcmp(text, wanted, line.size) == 0) {
            int64_t number = 0;
            for (const uint8_t *digit = text + line.size; digit < end; digit++) number = number * 10 + (*digit - '0');
            credit += number;
        }
        at += (size_t)(end - text) + 1;
    }
    buffer_free(&line);
    return credit;
}

/* Sends what the windows allow. */
static bool send_some(struct grpc_rig *rig, struct sender *sender, int64_t *connection_window)
{
    int64_t size = (int64_t)sender->left.size;
    if (size > sender->stream_window) size = sender->stream_window;
    if (size > *connection_window) size = *connection_window;
    if (size <= 0) return false;
    bool end = (size_t)size == sender->left.size;
    append_data(rig, sender->stream, bytes_of(sender->left.data, (size_t)size), end);
    sender->left = bytes_of(sender->left.data + size, sender->left.size - (size_t)size);
    sender->stream_window -= size;
    *connection_window -= size;
    return true;
}

static void test_many_large_messages_at_once(void **state)
{
    (void)state;
    enum { STREAMS = 40, BYTES = 1024 * 1024 };
    struct grpc_rig rig;
    rig_begin(&rig, NULL);
    rig_greet(&rig);
    frame_append_setting(&rig.in, 4, INT32_MAX);
    frame_append_window_update(&rig.in, 0, 1u << 30);
    struct buffer message = {0};
    buffer_append(&message, "\0\0\x10\0\0", 5);
    buffer_append(&message, zeros(BYTES).data, BYTES);
    struct sender senders[STREAMS];
    int64_t connection_window = 2048 * 1024;
    for (uint32_t i = 0; i < STREAMS; i++) {
        senders[i] = (struct sender){.stream_window = 16384, .left = buffer_bytes(&message), .stream = 2 * i + 1};
        frame_append_call(&rig.in, senders[i].stream, "/t/Unary", NULL);
    }
    size_t memory_max = 0;
    for (bool on = true; on;) {
        on = false;
        for (uint32_t i = 0; i < STREAMS; i++) on = send_some(&rig, &senders[i], &connection_window) || on;
        rig_feed(&rig);
        size_t memory = http2_kept_bytes(grpc_http2(rig.grpc));
        if (memory > memory_max) memory_max = memory;
        rig.quiet = true;
        rig_turn(&rig);
        for (uint32_t i = 0; i < STREAMS; i++) {
            int64_t credit = credit_of(&rig, senders[i].stream);
            senders[i].stream_window += credit;
            on = on || credit > 0;
        }
        connection_window += credit_of(&rig, 0);
        buffer_clear(&rig.sent);
    }
    for (uint32_t i = 0; i < STREAMS; i++) assert_int_equal(senders[i].left.size, 0);
    assert_int_equal(http2_stream_count(grpc_http2(rig.grpc)), 0);
    assert_true(rig.out_bytes > (size_t)STREAMS * BYTES);
    /* Not 40 MiB: two were granted at a time, the others sent their first window. */
    assert_in_range(memory_max, 1024 * 1024, 4096 * 1024);
    assert_int_equal(http2_kept_bytes(grpc_http2(rig.grpc)), 0);
    buffer_free(&message);
    rig_end(&rig);
}

/*
 * A client may send before it knows our SETTINGS, by a larger window than ours, and it learns of ours in the middle of a message: what it may send
 * then must be enough for the rest of it.
 */
static void test_the_first_message_of_a_connection(void **state)
{
    (void)state;
    static const size_t sizes[] = {16000, 17000, 40000, 65530, 70000, 200000, 1048576};
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        for (int knows = 0; knows <= 1; knows++) {
            struct grpc_rig rig;
            rig_begin(&rig, NULL);
            frame_append_greeting(&rig.in);
            frame_append_call(&rig.in, 1, "/t/Silent", NULL);
            struct buffer message = {0};
            uint8_t prefix[5];
            grpc_frame_prefix(prefix, (uint32_t)sizes[i]);
            buffer_append(&message, prefix, sizeof prefix);
            buffer_append(&message, zeros(sizes[i]).data, sizes[i]);
            int64_t window = knows ? 16384 : 65535; /* of stream and connection */
            size_t sent = 0;
            for (int rounds = 0; sent < message.size; rounds++) {
                size_t size = message.size - sent < (size_t)window ? message.size - sent : (size_t)window;
                append_data(&rig, 1, bytes_of(message.data + sent, size), sent + size == message.size);
                sent += size;
                window -= (int64_t)size;
                rig_turn(&rig);
                if (rounds == 0) {
                    if (!knows) window += 16384 - 65535;
                    frame_append(&rig.in, FRAME_SETTINGS, FLAG_ACK, 0, (struct bytes){0});
                    rig_turn(&rig);
                }
                window += credit_of(&rig, 1);
                buffer_clear(&rig.sent);
                if (sent < message.size && (window <= 0 || rounds > 100)) {
                    fail_msg("%zu bytes, knows %d: stuck after %zu", sizes[i], knows, sent);
                }
            }
            assert_non_null(grpc_find(rig.grpc, 1));
            assert_int_equal(http2_kept_bytes(grpc_http2(rig.grpc)), 0);
            assert_false(rig_sent(&rig, "RST_STREAM"));
            buffer_free(&message);
            rig_end(&rig);
        }
    }
}

/* Message after message on one stream, some above the window: it must never starve, nor be given more than it needs. */
static void test_a_stream_of_messages_goes_on(void **state)
{
    (void)state;
    struct grpc_rig rig;
    rig_begin(&rig, NULL);
    rig_greet(&rig);
    frame_append_setting(&rig.in, 4, INT32_MAX);
    frame_append_window_update(&rig.in, 0, 1u << 30);
    frame_append_call(&rig.in, 1, "/t/Echo", NULL);
    rig.quiet = true;
    struct random random;
    random_seed(&random, 7);
    int64_t stream_window = 16384, connection_window = 2048 * 1024, window_max = 0;
    size_t sent = 0;
    for (int i = 0; i < 300; i++) {
        size_t size = i % 10 == 0 ? 20000 + random_below(&random, 300000) : random_below(&random, 3000);
        struct buffer message = {0};
        uint8_t prefix[5];
        grpc_frame_prefix(prefix, (uint32_t)size);
        buffer_append(&message, prefix, sizeof prefix);
        buffer_append(&message, zeros(size).data, size);
        struct sender sender = {.stream_window = stream_window, .left = buffer_bytes(&message), .stream = 1};
        for (int rounds = 0; sender.left.size > 0; rounds++) {
            size_t left = sender.left.size;
            int64_t size_now = (int64_t)left < sender.stream_window ? (int64_t)left : sender.stream_window;
            if (size_now > connection_window) size_now = connection_window;
            if (size_now > 0) append_data(&rig, 1, bytes_of(sender.left.data, (size_t)size_now), false);
            sender.left = bytes_of(sender.left.data + size_now, left - (size_t)size_now);
            sender.stream_window -= size_now;
            connection_window -= size_now;
            rig_turn(&rig);
            sender.stream_window += credit_of(&rig, 1);
            connection_window += credit_of(&rig, 0);
            buffer_clear(&rig.sent);
            assert_true(rounds < 100);
        }
        stream_window = sender.stream_window;
        if (stream_window > window_max) window_max = stream_window;
        sent += size;
        buffer_free(&message);
    }
    assert_true(rig.out_bytes > sent);
    assert_in_range(window_max, 1, 32768);
    rig_end(&rig);
}

/* ---- holding ---- */

static void test_held_call(void **state)
{
    (void)state;
    struct grpc_rig rig;
    rig_begin(&rig, NULL);
    rig_greet(&rig);
    frame_append_call(&rig.in, 1, "/t/Hold", NULL);
    frame_append_message(&rig.in, 1, bytes_of_string("a"), false);
    append_data(&rig, 1, bytes_of("\0\0\0\0\2b", 6), false);
    rig_turn(&rig);
    rig_expect_events(&rig, "call 1 /t/Hold\n");
    assert_int_equal(http2_kept_bytes(grpc_http2(rig.grpc)), 12);
    rig.now += 100 * TIME_NS_PER_S;
    grpc_sweep(rig.grpc, rig.now); /* it's the owner who is slow */
    rig_turn(&rig);
    append_data(&rig, 1, bytes_of("c", 1), true);
    rig_turn(&rig);
    rig_expect_events(&rig, "");
    grpc_call_release(grpc_find(rig.grpc, 1));
    rig_expect_events(&rig, "message 1 1 a\nmessage 1 2 bc\nhalf_closed 1\n");
    assert_int_equal(http2_kept_bytes(grpc_http2(rig.grpc)), 0);
    grpc_call_finish(grpc_find(rig.grpc, 1), GRPC_OK, (struct bytes){0});
    rig_turn(&rig);
    rig_expect_events(&rig, "closed 1 0\n");
    rig_end(&rig);
}

/* A client can send a held call one window, and that is all. */
static void test_held_call_fills_a_window(void **state)
{
    (void)state;
    struct grpc_rig rig;
    rig_begin(&rig, NULL);
    rig_greet(&rig);
    frame_append_call(&rig.in, 1, "/t/Hold", NULL);
    for (int i = 0; i < 16; i++) frame_append_message(&rig.in, 1, zeros(1019), false);
    rig_turn(&rig);
    rig_expect_sent(&rig, ""); /* no window update */
    frame_append_message(&rig.in, 1, zeros(1), false);
    rig_turn(&rig);
    rig_expect_sent(&rig, "RST_STREAM 1 3\n");
    rig_expect_events(&rig, "call 1 /t/Hold\nclosed 1 3\n");
    rig_end(&rig);
}

/* ---- back-pressure of answers ---- */

static void test_waiting_bytes_and_mark(void **state)
{
    (void)state;
    struct grpc_rig rig;
    rig_begin(&rig, NULL);
    frame_append_greeting(&rig.in);
    frame_append_setting(&rig.in, 4, 1000);
    frame_append_call(&rig.in, 1, "/t/Stream", NULL);
    rig_turn(&rig);
    rig_clear(&rig);
    struct grpc_call *call = grpc_find(rig.grpc, 1);
    grpc_call_send(call, zeros(4995));
    assert_int_equal(grpc_call_waiting_bytes(call), 5000);
    grpc_call_set_mark(call, 2000);
    rig_turn(&rig);
    assert_int_equal(grpc_call_waiting_bytes(call), 4000);
    rig_expect_events(&rig, "");
    frame_append_window_update(&rig.in, 1, 1500);
    rig_turn(&rig);
    rig_expect_events(&rig, "");
    frame_append_window_update(&rig.in, 1, 1500);
    rig_turn(&rig);
    rig_expect_events(&rig, "drained 1 1000\n");
    rig_expect_sent(&rig, "DATA 1 1000\nDATA 1 1500\nDATA 1 1500\n");
    frame_append_window_update(&rig.in, 1, 5000);
    rig_turn(&rig);
    rig_expect_events(&rig, ""); /* once */
    assert_int_equal(grpc_call_waiting_bytes(call), 0);
    /* Asked when it is so already. */
    grpc_call_set_mark(call, 10);
    rig_expect_events(&rig, "");
    rig_turn(&rig);
    rig_expect_events(&rig, "drained 1 0\n");
    rig_end(&rig);
}

/* An owner that sends a message whenever the last is gone: in one turn until the window is closed, not for ever. */
static void test_refilled_until_the_window_closes(void **state)
{
    (void)state;
    struct grpc_rig rig;
    rig_begin(&rig, NULL);
    frame_append_greeting(&rig.in);
    frame_append_call(&rig.in, 1, "/t/Stream", NULL);
    rig_turn(&rig);
    rig_clear(&rig);
    rig.quiet = true;
    rig.refill = 995;
    struct grpc_call *call = grpc_find(rig.grpc, 1);
    grpc_call_set_mark(call, 0);
    rig_turn(&rig);
    assert_int_equal(rig.drained_count, 66); /* 65,535 bytes, and one that waits for more */
    assert_int_equal(grpc_call_waiting_bytes(call), 66 * 1000 - 65535);
    /* Or until the socket's buffer is full. */
    frame_append_window_update(&rig.in, 1, 1000000);
    frame_append_window_update(&rig.in, 0, 1000000);
    rig_feed(&rig);
    struct buffer out = {0};
    assert_true(grpc_out(rig.grpc, &out, 10000, rig.now));
    assert_in_range(out.size, 10000, 12000);
    assert_int_equal(rig.drained_count, 66 + 11);
    buffer_free(&out);
    rig_end(&rig);
}

/* Two answers share what a turn may send. */
static void test_large_answers_in_small_turns(void **state)
{
    (void)state;
    struct grpc_rig rig;
    rig_begin(&rig, NULL);
    frame_append_greeting(&rig.in);
    frame_append_setting(&rig.in, 4, INT32_MAX);
    frame_append_window_update(&rig.in, 0, 1u << 30);
    frame_append_call(&rig.in, 1, "/t/Stream", NULL);
    frame_append_call(&rig.in, 3, "/t/Stream", NULL);
    rig_turn(&rig);
    rig_clear(&rig);
    size_t before = grpc_memory_bytes(rig.grpc);
    for (uint32_t stream = 1; stream <= 3; stream += 2) {
        struct grpc_call *call = grpc_find(rig.grpc, (int32_t)stream);
        for (int i = 0; i < 10; i++) grpc_call_send(call, zeros(100000 - 5));
        grpc_call_finish(call, GRPC_OK, (struct bytes){0});
    }
    assert_true(grpc_memory_bytes(rig.grpc) - before >= 2000000);
    struct buffer out = {0};
    size_t data = 0;
    while (grpc_out(rig.grpc, &out, 20000, rig.now)) {
        assert_in_range(out.size, 20000, 20000 + 16384 + 9);
        data += out.size;
        frame_reader_describe(&rig.reader, buffer_bytes(&out), &rig.sent);
        buffer_clear(&out);
    }
    frame_reader_describe(&rig.reader, buffer_bytes(&out), &rig.sent);
    data += out.size;
    buffer_free(&out);
    assert_in_range(data, 2000000, 2010000);
    assert_true(rig_sent(&rig, "HEADERS 1 END_STREAM grpc-status=0"));
    assert_true(rig_sent(&rig, "HEADERS 3 END_STREAM grpc-status=0"));
    /* Neither waited for the other's end. */
    const char *text = (const char *)rig.sent.data;
    assert_memory_equal(text, "DATA 1 16384\nDATA 3 16384\n", 26);
    assert_int_equal(grpc_memory_bytes(rig.grpc) > before + 20000, false);
    rig_end(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unary),
        cmocka_unit_test(test_unary_answered_before_the_end),
        cmocka_unit_test(test_streaming_both_ways),
        cmocka_unit_test(test_headers_come_before_the_first_message),
        cmocka_unit_test(test_error_at_once),
        cmocka_unit_test(test_every_piece),
        cmocka_unit_test(test_cancelled),
        cmocka_unit_test(test_refused_headers),
        cmocka_unit_test(test_refused_methods_and_types),
        cmocka_unit_test(test_bad_frames),
        cmocka_unit_test(test_many_large_messages_at_once),
        cmocka_unit_test(test_the_first_message_of_a_connection),
        cmocka_unit_test(test_a_stream_of_messages_goes_on),
        cmocka_unit_test(test_held_call),
        cmocka_unit_test(test_held_call_fills_a_window),
        cmocka_unit_test(test_waiting_bytes_and_mark),
        cmocka_unit_test(test_refilled_until_the_window_closes),
        cmocka_unit_test(test_large_answers_in_small_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
