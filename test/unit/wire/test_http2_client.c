/*
 * Our client with our server, bytes carried by hand; what only a strange server does comes as frames by hand. That both speak HTTP/2 and
 * not only each other's language is seen in test/grpc.
 */
#include "wire/http2_client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "grpc_rig.h"

struct client_rig {
    struct grpc_rig server;
    struct http2_client *client;
    struct buffer events;
    size_t piece;
    size_t message_bytes; /* of all messages that were told in short */
};

static void on_message(void *user, struct http2_client_call *call, struct bytes message)
{
    struct client_rig *rig = user;
    rig->message_bytes += message.size;
    buffer_append_format(&rig->events, "message %s %zu", (const char *)http2_client_call_user(call), message.size);
    if (message.size > 0 && message.size <= 20) {
        buffer_append_format(&rig->events, " %.*s", (int)message.size, (const char *)message.data);
    }
    buffer_append_byte(&rig->events, '\n');
}

static void on_drained(void *user, struct http2_client_call *call)
{
    struct client_rig *rig = user;
    buffer_append_format(&rig->events, "drained %s %zu\n", (const char *)http2_client_call_user(call),
                         http2_client_waiting_bytes(call));
}

static void on_closed(void *user, struct http2_client_call *call, const struct http2_client_outcome *outcome)
{
    struct client_rig *rig = user;
    buffer_append_format(&rig->events, "closed %s %d%s%s", (const char *)http2_client_call_user(call), outcome->status,
                         outcome->answered ? " answered" : "", outcome->undone ? " undone" : "");
    if (outcome->text.size > 0) {
        buffer_append_format(&rig->events, ": %.*s", (int)outcome->text.size, (const char *)outcome->text.data);
    }
    buffer_append_byte(&rig->events, '\n');
}

static const struct http2_client_handler handler = {.message = on_message, .drained = on_drained, .closed = on_closed};

static void begin(struct client_rig *rig)
{
    *rig = (struct client_rig){0};
    rig_begin(&rig->server, NULL);
    rig->client = http2_client_new("node:2379", 1024 * 1024, &handler, rig);
}

static void end(struct client_rig *rig)
{
    http2_client_free(rig->client);
    rig_end(&rig->server);
    buffer_free(&rig->events);
}

/* Carries bytes both ways until nobody has any. */
static void carry(struct client_rig *rig)
{
    for (bool on = true; on;) {
        struct buffer out = {0};
        http2_client_out(rig->client, &out, SIZE_MAX);
        on = out.size > 0;
        buffer_append(&rig->server.in, out.data, out.size);
        rig_feed(&rig->server);
        buffer_clear(&out);
        grpc_out(rig->server.grpc, &out, SIZE_MAX, rig->server.now);
        on = on || out.size > 0;
        size_t piece = rig->piece > 0 ? rig->piece : out.size;
        for (size_t at = 0; at < out.size; at += piece) {
            http2_client_feed(rig->client, bytes_of(out.data + at, out.size - at < piece ? out.size - at : piece));
        }
        buffer_free(&out);
    }
}

static void expect(struct client_rig *rig, const char *expected)
{
    if (!bytes_equal(buffer_bytes(&rig->events), bytes_of_string(expected))) {
        fail_msg("found:\n%.*s\nbut expected:\n%s", (int)rig->events.size, (const char *)rig->events.data, expected);
    }
    buffer_clear(&rig->events);
}

static struct http2_client_call *open_call(struct client_rig *rig, const char *path, const char *name)
{
    return http2_client_open(rig->client, bytes_of_string(path), TIME_NS_NEVER, NULL, 0, (void *)name);
}

static void unary(struct client_rig *rig, const char *path, const char *name, struct bytes message)
{
    struct http2_client_call *call = open_call(rig, path, name);
    http2_client_send(call, message);
    http2_client_end(call);
}

static void test_unary(void **state)
{
    (void)state;
    for (size_t piece = 0; piece <= 10; piece++) {
        struct client_rig rig;
        begin(&rig);
        rig.piece = piece;
        unary(&rig, "/t/Unary", "a", bytes_of_string("hello"));
        unary(&rig, "/t/Unary", "b", (struct bytes){0});
        carry(&rig);
        expect(&rig, piece == 0 ? "message a 5 hello\nmessage b 0\nclosed a 0 answered\nclosed b 0 answered\n"
                                : "message a 5 hello\nclosed a 0 answered\nmessage b 0\nclosed b 0 answered\n");
        unary(&rig, "/t/Fail", "c", bytes_of_string("x"));
        carry(&rig);
        expect(&rig, "closed c 5 answered: no: 100% \xc3\xbc"
                     "ber\n");
        assert_int_equal(http2_client_call_count(rig.client), 0);
        end(&rig);
    }
}

static void test_metadata_and_timeout(void **state)
{
    (void)state;
    struct client_rig rig;
    begin(&rig);
    struct http2_field fields[] = {
        {.name = bytes_of_string("hasleader"), .value = bytes_of_string("true"), .constant = true},
        {.name = bytes_of_string("token"), .value = bytes_of_string("abc.7")},
    };
    http2_client_open(rig.client, bytes_of_string("/t/Silent"), 1500 * TIME_NS_PER_MS, fields, 2, "a");
    carry(&rig);
    rig_expect_events(&rig.server, "call 1 /t/Silent timeout=1500000000 hasleader token=abc.7\n");
    end(&rig);
}

static void test_streaming(void **state)
{
    (void)state;
    struct client_rig rig;
    begin(&rig);
    struct http2_client_call *call = open_call(&rig, "/t/Echo", "a");
    carry(&rig);
    expect(&rig, "");
    http2_client_send(call, bytes_of_string("one"));
    carry(&rig);
    expect(&rig, "message a 3 one\n");
    struct buffer *out = http2_client_send_buffer(call);
    buffer_append_string(out, "two");
    http2_client_sent(call);
    http2_client_send(call, bytes_of_string("three"));
    http2_client_set_mark(call, 0);
    carry(&rig);
    expect(&rig, "drained a 0\nmessage a 3 two\nmessage a 5 three\n");
    http2_client_end(call);
    carry(&rig);
    expect(&rig, "closed a 0 answered\n");
    end(&rig);
}

static void test_large_messages(void **state)
{
    (void)state;
    static uint8_t large[1024 * 1024 + 1];
    struct client_rig rig;
    begin(&rig);
    rig.server.quiet = true;
    for (int i = 0; i < 10; i++) unary(&rig, "/t/Unary", "a", bytes_of(large, sizeof large - 1));
    carry(&rig);
    assert_int_equal(rig.message_bytes, 10 * (sizeof large - 1));
    buffer_clear(&rig.events);
    unary(&rig, "/t/Unary", "b", bytes_of(large, sizeof large));
    carry(&rig);
    expect(&rig, "closed b 8: the answer is larger than this client takes\n");
    static uint8_t too_large[2048 * 1024 + 1];
    unary(&rig, "/t/Unary", "c", bytes_of(too_large, sizeof too_large));
    carry(&rig);
    expect(&rig, "closed c 8 answered: grpc: received message larger than max (2097153 vs. 2097152)\n");
    assert_true(http2_client_memory_bytes(rig.client) < 100 * 1024);
    end(&rig);
}

static void test_cancel(void **state)
{
    (void)state;
    struct client_rig rig;
    begin(&rig);
    struct http2_client_call *call = open_call(&rig, "/t/Silent", "a");
    carry(&rig);
    http2_client_cancel(call);
    expect(&rig, "");
    carry(&rig);
    expect(&rig, "closed a 1: cancelled\n");
    rig_expect_events(&rig.server, "call 1 /t/Silent\nclosed 1 8\n");
    /* Before a byte of it left. */
    call = open_call(&rig, "/t/Silent", "b");
    http2_client_send(call, bytes_of_string("x"));
    http2_client_cancel(call);
    carry(&rig);
    expect(&rig, "closed b 1: cancelled\n");
    rig_expect_events(&rig.server, "");
    unary(&rig, "/t/Unary", "c", bytes_of_string("on"));
    carry(&rig);
    expect(&rig, "message c 2 on\nclosed c 0 answered\n");
    end(&rig);
}

static void test_more_than_the_server_takes(void **state)
{
    (void)state;
    struct client_rig rig;
    begin(&rig);
    rig.server.quiet = true;
    carry(&rig); /* the server's limit of 1,000 is known */
    for (int i = 0; i < 2500; i++) unary(&rig, "/t/Unary", "a", bytes_of_string("0123456789"));
    assert_int_equal(http2_client_call_count(rig.client), 2500);
    carry(&rig);
    assert_int_equal(rig.message_bytes, 25000);
    assert_int_equal(http2_client_call_count(rig.client), 0);
    assert_false(http2_client_leaving(rig.client));
    end(&rig);
}

static void test_goodbye(void **state)
{
    (void)state;
    struct client_rig rig;
    begin(&rig);
    struct http2_client_call *call = open_call(&rig, "/t/Echo", "a");
    carry(&rig);
    http2_shutdown(grpc_http2(rig.server.grpc));
    carry(&rig);
    assert_true(http2_client_leaving(rig.client));
    assert_false(http2_client_done(rig.client));
    http2_client_send(call, bytes_of_string("x"));
    http2_client_end(call);
    carry(&rig);
    expect(&rig, "message a 1 x\nclosed a 0 answered\n");
    assert_true(http2_client_done(rig.client));
    assert_true(http2_done(grpc_http2(rig.server.grpc)));
    end(&rig);
}

static void test_connection_lost(void **state)
{
    (void)state;
    struct client_rig rig;
    begin(&rig);
    open_call(&rig, "/t/Silent", "a");
    carry(&rig);
    open_call(&rig, "/t/Silent", "b");
    http2_client_free(rig.client);
    rig.client = NULL;
    expect(&rig, "closed b 14 undone: the connection ended\nclosed a 14: the connection ended\n");
    end(&rig);
}

static void test_ping(void **state)
{
    (void)state;
    struct client_rig rig;
    begin(&rig);
    http2_client_ping(rig.client);
    assert_int_equal(http2_client_pong_count(rig.client), 0);
    carry(&rig);
    assert_int_equal(http2_client_pong_count(rig.client), 1);
    end(&rig);
}

/* ---- servers that aren't ours ---- */

/* What the client says of an answer that is made by hand. */
static void expect_of(const char *headers, const char *data, size_t data_size, const char *trailers, bool reset,
                      uint32_t error, const char *expected)
{
    struct client_rig rig;
    begin(&rig);
    unary(&rig, "/t/Unary", "a", bytes_of_string("x"));
    struct buffer bytes = {0};
    http2_client_out(rig.client, &bytes, SIZE_MAX);
    buffer_clear(&bytes);
    frame_append(&bytes, FRAME_SETTINGS, 0, 0, (struct bytes){0});
    for (int part = 0; part < 2; part++) {
        const char *line = part == 0 ? headers : trailers;
        struct buffer block = {0};
        while (line != NULL && *line != '\0') {
            const char *equals = strchr(line, '='), *stop = strchr(line, ' ');
            if (stop == NULL) stop = line + strlen(line);
            char name[32] = {0};
            memcpy(name, line, (size_t)(equals - line));
            field_append_bytes(&block, name, bytes_of(equals + 1, (size_t)(stop - equals - 1)));
            line = *stop == ' ' ? stop + 1 : stop;
        }
        uint8_t ends = part == 1 || (data == NULL && trailers == NULL && !reset) ? FLAG_END_STREAM : 0;
        if (block.size > 0) frame_append(&bytes, FRAME_HEADERS, FLAG_END_HEADERS | ends, 1, buffer_bytes(&block));
        if (part == 0 && data != NULL) {
            frame_append(&bytes, FRAME_DATA, trailers == NULL && !reset ? FLAG_END_STREAM : 0, 1,
                         bytes_of(data, data_size));
        }
        buffer_free(&block);
    }
    if (reset) frame_append_reset(&bytes, 1, error);
    http2_client_feed(rig.client, buffer_bytes(&bytes));
    buffer_clear(&bytes);
    http2_client_out(rig.client, &bytes, SIZE_MAX);
    expect(&rig, expected);
    buffer_free(&bytes);
    end(&rig);
}

static void test_strange_answers(void **state)
{
    (void)state;
    expect_of(":status=200 grpc-status=7 grpc-message=a%20b", NULL, 0, NULL, false, 0, "closed a 7 answered: a b\n");
    expect_of(":status=404", NULL, 0, NULL, false, 0,
              "closed a 12 answered: the server answered with an HTTP status, and not as gRPC\n");
    expect_of(":status=503", "<html>", 6, NULL, false, 0,
              "closed a 14 answered: the server answered with an HTTP status, and not as gRPC\n");
    expect_of(":status=200", "\0\0\0\0\1a", 6, NULL, false, 0,
              "message a 1 a\nclosed a 13: the answer ended without a status\n");
    expect_of(":status=200", "\0\0\0\0\2a", 6, "grpc-status=0", false, 0,
              "closed a 13: the answer ended within a message\n");
    expect_of(":status=200", "\1\0\0\0\1a", 6, "grpc-status=0", false, 0,
              "closed a 13: the answer is compressed, or malformed\n");
    expect_of(":status=200", NULL, 0, "grpc-status=99", false, 0, "closed a 2 answered\n");
    expect_of(NULL, NULL, 0, NULL, true, HTTP2_REFUSED_STREAM, "closed a 14 undone: REFUSED_STREAM\n");
    expect_of(NULL, NULL, 0, NULL, true, HTTP2_ENHANCE_YOUR_CALM, "closed a 8: ENHANCE_YOUR_CALM\n");
    expect_of(":status=200", NULL, 0, NULL, true, HTTP2_INTERNAL_ERROR, "closed a 13: INTERNAL_ERROR\n");
}

/* The last stream that is told is the last that was looked at; what comes after may be sent elsewhere, and what waited, too. */
static void test_goaway_in_the_middle(void **state)
{
    (void)state;
    struct client_rig rig;
    begin(&rig);
    open_call(&rig, "/t/Silent", "a");
    open_call(&rig, "/t/Silent", "b");
    struct buffer bytes = {0};
    http2_client_out(rig.client, &bytes, SIZE_MAX);
    buffer_clear(&bytes);
    frame_append_setting(&bytes, 3, 2); /* two at a time */
    http2_client_feed(rig.client, buffer_bytes(&bytes));
    open_call(&rig, "/t/Silent", "c");
    buffer_clear(&bytes);
    http2_client_out(rig.client, &bytes, SIZE_MAX);
    buffer_clear(&bytes);
    frame_append(&bytes, FRAME_GOAWAY, 0, 0, bytes_of("\0\0\0\1\0\0\0\0", 8));
    http2_client_feed(rig.client, buffer_bytes(&bytes));
    buffer_clear(&bytes);
    http2_client_out(rig.client, &bytes, SIZE_MAX);
    assert_true(http2_client_leaving(rig.client));
    expect(&rig, "closed b 14 undone: REFUSED_STREAM\nclosed c 14 undone: REFUSED_STREAM\n");
    assert_int_equal(http2_client_call_count(rig.client), 1);
    buffer_free(&bytes);
    end(&rig);
}

static void test_no_http2_at_all(void **state)
{
    (void)state;
    struct client_rig rig;
    begin(&rig);
    unary(&rig, "/t/Unary", "a", bytes_of_string("x"));
    http2_client_feed(rig.client, bytes_of_string("HTTP/1.1 400 Bad Request\r\n\r\n"));
    struct buffer bytes = {0};
    http2_client_out(rig.client, &bytes, SIZE_MAX);
    assert_true(http2_client_done(rig.client));
    assert_true(http2_client_leaving(rig.client));
    buffer_free(&bytes);
    end(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unary),
        cmocka_unit_test(test_metadata_and_timeout),
        cmocka_unit_test(test_streaming),
        cmocka_unit_test(test_large_messages),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_more_than_the_server_takes),
        cmocka_unit_test(test_goodbye),
        cmocka_unit_test(test_connection_lost),
        cmocka_unit_test(test_ping),
        cmocka_unit_test(test_strange_answers),
        cmocka_unit_test(test_goaway_in_the_middle),
        cmocka_unit_test(test_no_http2_at_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
