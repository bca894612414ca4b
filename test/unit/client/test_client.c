/*
 * The client against a network of the test's own, in which nothing happens by itself: each story is a script of what the
 * network does, and the trace of what the client did.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <stdio.h>

#include "base/check.h"
#include "base/mem.h"
#include "client/client.h"

#define STREAMS_MAX 64

/* ---- a network that is told what happens ---- */

struct net_stream {
    struct world *world;
    unsigned number;
    const struct net_stream_handler *handler;
    void *user;
    bool open;
};

struct world {
    struct net net;
    struct loop loop;
    time_ns now;
    struct net_stream streams[STREAMS_MAX];
    unsigned stream_count;
    bool in_call; /* callbacks must not come from within */
    struct buffer trace;
    struct client *client;
    struct client_request request;
    const char *next_path; /* the callback begins one more request */
};

static struct world *world_of_net(struct net *net)
{
    return (struct world *)((char *)net - offsetof(struct world, net));
}

static struct net_stream *fake_connect(struct net *net, const char *host, uint16_t port,
                                       const struct net_stream_handler *handler, void *user)
{
    struct world *world = world_of_net(net);
    CHECK(world->stream_count < STREAMS_MAX);
    struct net_stream *stream = &world->streams[world->stream_count];
    *stream = (struct net_stream){world, world->stream_count++, handler, user, true};
    buffer_append_format(&world->trace, "connect %u %s:%u\n", stream->number, host, port);
    return stream;
}

static void fake_write(struct net_stream *stream, const struct bytes *parts, size_t part_count)
{
    struct buffer *trace = &stream->world->trace;
    assert_true(stream->open);
    buffer_append_format(trace, "write %u ", stream->number);
    for (size_t i = 0; i < part_count; i++) {
        for (size_t j = 0; j < parts[i].size; j++) {
            uint8_t c = parts[i].data[j];
            if (c == '\r') continue;
            buffer_append_byte(trace, c == '\n' ? '|' : c);
        }
    }
    buffer_append_byte(trace, '\n');
}

static void fake_abort(struct net_stream *stream)
{
    assert_true(stream->open);
    stream->open = false;
    buffer_append_format(&stream->world->trace, "abort %u\n", stream->number);
}

static time_ns fake_now(struct loop *loop)
{
    return ((struct world *)((char *)loop - offsetof(struct world, loop)))->now;
}

static const struct net_operations net_operations = {
    .connect = fake_connect, .write = fake_write, .close = fake_abort, .abort = fake_abort};
static const struct loop_operations loop_operations = {.now = fake_now};

/* The stream that was made last. */
static struct net_stream *last(struct world *world)
{
    assert_true(world->stream_count > 0);
    return &world->streams[world->stream_count - 1];
}

static void connected(struct world *world)
{
    last(world)->handler->connected(last(world)->user);
}

static void closed(struct world *world, enum net_close_reason reason)
{
    struct net_stream *stream = last(world);
    assert_true(stream->open);
    stream->open = false;
    stream->handler->closed(stream->user, reason);
}

static void received(struct world *world, const char *text)
{
    struct net_stream *stream = last(world);
    assert_true(stream->open);
    stream->handler->received(stream->user, bytes_of_string(text));
}

static void answer(struct world *world, int status, const char *body)
{
    char text[512];
    snprintf(text, sizeof text, "HTTP/1.1 %d X\r\nContent-Length: %zu\r\n\r\n%s", status, strlen(body), body);
    received(world, text);
}

static void pass(struct world *world, time_ns duration)
{
    world->now += duration;
    client_tick(world->client);
}

/* ---- a world with a client in it ---- */

static void done(void *user, const struct client_response *response)
{
    struct world *world = user;
    assert_false(world->in_call);
    buffer_append_format(&world->trace, "done %s %d %.*s from :%u\n", error_code(response->error), response->status,
                         (int)response->body.size, (const char *)response->body.data, response->endpoint->port);
    if (world->next_path == NULL) return;
    world->request.path = bytes_of_string(world->next_path);
    world->next_path = NULL;
    client_request(world->client, &world->request, done, world);
}

static struct world *world_new(uint32_t endpoint_count)
{
    struct world *world = mem_alloc_zero(sizeof *world);
    struct client_endpoint endpoints[3] = {{"a", 1}, {"b", 2}, {"c", 3}};
    world->net.operations = &net_operations;
    world->loop.operations = &loop_operations;
    world->now = 1000 * TIME_NS_PER_S;
    world->client = client_new(&world->net, &world->loop, endpoints, endpoint_count, 0);
    return world;
}

static void get(struct world *world, bool retry)
{
    world->request = (struct client_request){.method = "GET",
                                             .path = bytes_of_string("/x"),
                                             .timeout = 5 * TIME_NS_PER_S,
                                             .idempotent = true,
                                             .retry = retry};
    world->in_call = true;
    client_request(world->client, &world->request, done, world);
    world->in_call = false;
}

static void post(struct world *world, bool retry)
{
    world->request = (struct client_request){.method = "POST",
                                             .path = bytes_of_string("/p"),
                                             .body = bytes_of_string("{}"),
                                             .timeout = 5 * TIME_NS_PER_S,
                                             .retry = retry};
    world->in_call = true;
    client_request(world->client, &world->request, done, world);
    world->in_call = false;
}

#define GET_TEXT(n, host) "write " n " GET /x HTTP/1.1|Host: " host "||\n"
#define PROBE_TEXT(n, host) "write " n " GET /livez HTTP/1.1|Host: " host "||\n"
#define POST_TEXT(n, host)                                                                                             \
    "write " n " POST /p HTTP/1.1|Host: " host "|Content-Type: application/json|Content-Length: 2||{}\n"

/* Compares the trace since the last call with what is expected. */
static void expect(struct world *world, const char *expected)
{
    buffer_append_byte(&world->trace, '\0');
    assert_string_equal((char *)world->trace.data, expected);
    buffer_clear(&world->trace);
}

static void world_free(struct world *world)
{
    client_free(world->client);
    buffer_free(&world->trace);
    mem_free(world);
}

/* ---- stories ---- */

static void one_connection_carries_many_requests(void **state)
{
    (void)state;
    struct world *world = world_new(1);
    get(world, false);
    expect(world, "connect 0 a:1\n");
    assert_true(client_busy(world->client));
    connected(world);
    expect(world, GET_TEXT("0", "a:1"));
    received(world, "HTTP/1.1 200 OK\r\nContent-Le");
    received(world, "ngth: 5\r\n\r\nhe");
    expect(world, "");
    received(world, "llo");
    expect(world, "done ok 200 hello from :1\n");
    assert_false(client_busy(world->client));
    assert_true(client_deadline(world->client) == TIME_NS_NEVER);
    post(world, false);
    answer(world, 404, "{}");
    expect(world, POST_TEXT("0", "a:1") "done ok 404 {} from :1\n");
    world_free(world);
}

static void the_callback_may_begin_the_next_request(void **state)
{
    (void)state;
    struct world *world = world_new(1);
    get(world, false);
    connected(world);
    world->next_path = "/y";
    answer(world, 200, "1");
    expect(world, "connect 0 a:1\n" GET_TEXT("0", "a:1") "done ok 200 1 from :1\n"
                                                         "write 0 GET /y HTTP/1.1|Host: a:1||\n");
    answer(world, 200, "2");
    expect(world, "done ok 200 2 from :1\n");
    world_free(world);
}

static void a_server_may_end_the_connection_with_its_answer(void **state)
{
    (void)state;
    struct world *world = world_new(1);
    get(world, false);
    connected(world);
    received(world, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx");
    expect(world, "connect 0 a:1\n" GET_TEXT("0", "a:1") "abort 0\ndone ok 200 x from :1\n");
    get(world, false);
    expect(world, "connect 1 a:1\n");
    world_free(world);
}

static void the_next_endpoint_is_tried_when_one_is_down(void **state)
{
    (void)state;
    struct world *world = world_new(3);
    post(world, false);
    closed(world, NET_CONNECT_FAILED);
    closed(world, NET_CONNECT_FAILED);
    connected(world);
    answer(world, 200, "ok");
    answer(world, 200, "{}");
    expect(world, "connect 0 a:1\nconnect 1 b:2\nconnect 2 c:3\n" PROBE_TEXT("2", "c:3")
                      POST_TEXT("2", "c:3") "done ok 200 {} from :3\n");
    /* And it stays there. */
    post(world, false);
    expect(world, POST_TEXT("2", "c:3"));
    world_free(world);
}

static void without_retry_each_endpoint_is_tried_once(void **state)
{
    (void)state;
    struct world *world = world_new(2);
    post(world, false);
    closed(world, NET_CONNECT_FAILED);
    closed(world, NET_CONNECT_FAILED);
    expect(world, "connect 0 a:1\nconnect 1 b:2\ndone network 0  from :2\n");
    world_free(world);
}

static void with_retry_rounds_go_on_until_the_timeout(void **state)
{
    (void)state;
    struct world *world = world_new(2);
    post(world, true);
    closed(world, NET_CONNECT_FAILED);
    closed(world, NET_CONNECT_FAILED);
    expect(world, "connect 0 a:1\nconnect 1 b:2\n");
    assert_true(client_deadline(world->client) == world->now + CLIENT_RETRY_PAUSE);
    pass(world, CLIENT_RETRY_PAUSE - 1);
    expect(world, "");
    pass(world, 1);
    expect(world, "connect 2 a:1\n");
    closed(world, NET_CONNECT_FAILED);
    closed(world, NET_CONNECT_FAILED);
    expect(world, "connect 3 b:2\n");
    pass(world, 5 * TIME_NS_PER_S);
    expect(world, "done network 0  from :1\n");
    world_free(world);
}

static void an_endpoint_that_doesnt_answer_the_call_is_left(void **state)
{
    (void)state;
    struct world *world = world_new(2);
    post(world, false);
    assert_true(client_deadline(world->client) == world->now + CLIENT_CONNECT_TIMEOUT);
    pass(world, CLIENT_CONNECT_TIMEOUT);
    expect(world, "connect 0 a:1\nabort 0\nconnect 1 b:2\n");
    world_free(world);
    /* The only one there is has all the time. */
    world = world_new(1);
    post(world, false);
    assert_true(client_deadline(world->client) == world->now + 5 * TIME_NS_PER_S);
    pass(world, 5 * TIME_NS_PER_S);
    expect(world, "connect 0 a:1\nabort 0\ndone network 0  from :1\n");
    world_free(world);
}

static void a_write_whose_connection_breaks_is_not_sent_again(void **state)
{
    (void)state;
    static const enum net_close_reason reasons[] = {NET_CLOSED_BY_PEER, NET_RESET};
    for (size_t i = 0; i < ARRAY_COUNT(reasons); i++) {
        struct world *world = world_new(2);
        post(world, true);
        connected(world);
        answer(world, 200, "ok");
        closed(world, reasons[i]);
        expect(world, "connect 0 a:1\n" PROBE_TEXT("0", "a:1") POST_TEXT("0", "a:1") "done timeout 0  from :1\n");
        /* The next request goes elsewhere. */
        post(world, true);
        expect(world, "connect 1 b:2\n");
        world_free(world);
    }
}

static void a_read_whose_connection_breaks_is_sent_to_the_next(void **state)
{
    (void)state;
    struct world *world = world_new(2);
    get(world, false);
    connected(world);
    received(world, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    closed(world, NET_RESET);
    connected(world);
    answer(world, 200, "x");
    expect(world,
           "connect 0 a:1\n" GET_TEXT("0", "a:1") "connect 1 b:2\n" GET_TEXT("1", "b:2") "done ok 200 x from :2\n");
    world_free(world);
}

static void a_kept_connection_that_was_closed_meanwhile_is_made_anew(void **state)
{
    (void)state;
    struct world *world = world_new(2);
    get(world, false);
    connected(world);
    answer(world, 200, "x");
    /* While idle: noticed at once. */
    closed(world, NET_CLOSED_BY_PEER);
    get(world, false);
    connected(world);
    answer(world, 200, "y");
    expect(world, "connect 0 a:1\n" GET_TEXT("0", "a:1") "done ok 200 x from :1\nconnect 1 a:1\n" GET_TEXT(
                      "1", "a:1") "done ok 200 y from :1\n");
    /* Just when the next request was sent: a read goes to the same endpoint again, on a new connection. */
    get(world, false);
    closed(world, NET_RESET);
    expect(world, GET_TEXT("1", "a:1") "connect 2 a:1\n");
    /* And if that breaks too, to the next one. */
    connected(world);
    closed(world, NET_RESET);
    expect(world, GET_TEXT("2", "a:1") "connect 3 b:2\n");
    world_free(world);
}

static void refusals_that_did_nothing_are_retried_when_asked(void **state)
{
    (void)state;
    static const char no_leader[] = "{\"error\":{\"code\":\"no_leader\",\"message\":\"none\"}}";
    struct world *world = world_new(2);
    post(world, true);
    connected(world);
    answer(world, 200, "ok");
    answer(world, 503, no_leader);
    connected(world);
    answer(world, 200, "ok");
    answer(world, 200, "{}");
    expect(world, "connect 0 a:1\n" PROBE_TEXT("0", "a:1") POST_TEXT("0", "a:1") "abort 0\nconnect 1 b:2\n" PROBE_TEXT(
                      "1", "b:2") POST_TEXT("1", "b:2") "done ok 200 {} from :2\n");
    world_free(world);

    /* When it wasn't asked for, the refusal is the answer. */
    world = world_new(2);
    post(world, false);
    connected(world);
    answer(world, 200, "ok");
    answer(world, 503, no_leader);
    expect(world, "connect 0 a:1\n" PROBE_TEXT("0", "a:1") POST_TEXT(
                      "0", "a:1") "done ok 503 {\"error\":{\"code\":\"no_leader\",\"message\":\"none\"}} from :1\n");
    world_free(world);

    /* When the time is up, the last refusal is the answer. */
    world = world_new(1);
    post(world, true);
    connected(world);
    answer(world, 503, no_leader);
    pass(world, CLIENT_RETRY_PAUSE);
    closed(world, NET_CONNECT_FAILED);
    pass(world, 5 * TIME_NS_PER_S);
    expect(world, "connect 0 a:1\n" POST_TEXT(
                      "0", "a:1") "abort 0\nconnect 1 a:1\n"
                                  "done ok 503 {\"error\":{\"code\":\"no_leader\",\"message\":\"none\"}} from :1\n");
    world_free(world);
}

static void an_unknown_outcome_is_never_retried(void **state)
{
    (void)state;
    static const char *const codes[] = {"leader_changed", "timeout", "internal", "corrupt"};
    for (size_t i = 0; i < ARRAY_COUNT(codes); i++) {
        struct world *world = world_new(2);
        char body[128];
        char expected[512];
        snprintf(body, sizeof body, "{\"error\":{\"code\":\"%s\",\"message\":\"m\"}}", codes[i]);
        post(world, true);
        connected(world);
        answer(world, 200, "ok");
        answer(world, 503, body);
        snprintf(expected, sizeof expected,
                 "connect 0 a:1\n" PROBE_TEXT("0", "a:1") POST_TEXT("0", "a:1") "done ok 503 %s from :1\n", body);
        expect(world, expected);
        world_free(world);
    }
}

static void a_late_answer_is_not_taken_for_the_next_requests(void **state)
{
    (void)state;
    struct world *world = world_new(2);
    post(world, false);
    connected(world);
    answer(world, 200, "ok");
    pass(world, 5 * TIME_NS_PER_S);
    expect(world, "connect 0 a:1\n" PROBE_TEXT("0", "a:1") POST_TEXT("0", "a:1") "abort 0\ndone timeout 0  from :1\n");
    get(world, false);
    expect(world, "connect 1 b:2\n");
    world_free(world);
}

/* A stopped process takes connections and bytes, and never answers. */
static void an_endpoint_that_hangs_is_left(void **state)
{
    (void)state;
    struct world *world = world_new(2);
    post(world, false);
    connected(world);
    pass(world, CLIENT_CONNECT_TIMEOUT - 1);
    expect(world, "connect 0 a:1\n" PROBE_TEXT("0", "a:1"));
    pass(world, 1);
    expect(world, "abort 0\nconnect 1 b:2\n");
    connected(world);
    /* Any answer will do, also that it isn't well. */
    received(world, "HTTP/1.1 503 X\r\nContent-Le");
    received(world, "ngth: 2\r\n\r\nno");
    expect(world, PROBE_TEXT("1", "b:2") POST_TEXT("1", "b:2"));
    answer(world, 200, "{}");
    expect(world, "done ok 200 {} from :2\n");
    world_free(world);

    /* One that ends the connection, or says what is no answer, is as good as down: nothing was sent. */
    static const char *const odd[] = {"HTTP/1.1 200 X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
                                      "SSH-2.0\r\n\r\n"};
    for (size_t i = 0; i < ARRAY_COUNT(odd); i++) {
        world = world_new(2);
        post(world, false);
        connected(world);
        received(world, odd[i]);
        expect(world, "connect 0 a:1\n" PROBE_TEXT("0", "a:1") "abort 0\nconnect 1 b:2\n");
        connected(world);
        closed(world, NET_RESET);
        expect(world, PROBE_TEXT("1", "b:2") "done network 0  from :2\n");
        world_free(world);
    }

    /* What may be sent twice is sent at once, and to the next one when no answer comes. */
    world = world_new(2);
    get(world, false);
    connected(world);
    pass(world, CLIENT_ANSWER_PATIENCE);
    expect(world, "connect 0 a:1\n" GET_TEXT("0", "a:1") "abort 0\nconnect 1 b:2\n");
    connected(world);
    pass(world, 5 * TIME_NS_PER_S);
    expect(world, GET_TEXT("1", "b:2") "abort 1\ndone timeout 0  from :2\n");
    world_free(world);
}

static void what_is_no_answer_ends_the_request(void **state)
{
    (void)state;
    static const char *const texts[] = {"SSH-2.0-OpenSSH\r\n\r\n", "HTTP/1.1 banana\r\n\r\n",
                                        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"};
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
        struct world *world = world_new(1);
        get(world, true);
        connected(world);
        received(world, texts[i]);
        expect(world, "connect 0 a:1\n" GET_TEXT("0", "a:1") "abort 0\ndone bad_request 0  from :1\n");
        world_free(world);
    }
}

static void bytes_that_nobody_asked_for_end_the_connection(void **state)
{
    (void)state;
    struct world *world = world_new(1);
    get(world, false);
    connected(world);
    answer(world, 200, "x");
    answer(world, 408, "{}");
    expect(world, "connect 0 a:1\n" GET_TEXT("0", "a:1") "done ok 200 x from :1\nabort 0\n");
    get(world, false);
    expect(world, "connect 1 a:1\n");
    world_free(world);
}

/* ---- endpoints ---- */

static void endpoints_are_a_list(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint32_t count; /* 0: refused */
        const char *last_host;
        uint16_t last_port;
    } cases[] = {
        {"localhost:7777", 1, "localhost", 7777},
        {"localhost", 1, "localhost", 7777},
        {"a:1,b:2,c:3", 3, "c", 3},
        {"a:1,http://b:2/", 2, "b", 2},
        {"[::1]:5", 1, "::1", 5},
        {"[::1]", 1, "::1", 7777},
        {"", 0, NULL, 0},
        {",", 0, NULL, 0},
        {"a:1,", 0, NULL, 0},
        {"a:", 0, NULL, 0},
        {"a:0", 0, NULL, 0},
        {"a:65536", 0, NULL, 0},
        {"a:x", 0, NULL, 0},
        {":80", 0, NULL, 0},
        {"[::1", 0, NULL, 0},
        {"[::1]x", 0, NULL, 0},
        {"https://a:1", 0, NULL, 0},
        {"a/b:1", 0, NULL, 0},
        {"a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a", 16, "a", 7777},
        {"a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a", 0, NULL, 0},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct client_endpoint endpoints[CLIENT_ENDPOINTS_MAX];
        struct buffer problem = {0};
        uint32_t count = client_endpoints_parse(cases[i].text, endpoints, &problem);
        assert_int_equal(count, cases[i].count);
        assert_int_equal(problem.size > 0, cases[i].count == 0);
        if (count > 0) {
            assert_string_equal(endpoints[count - 1].host, cases[i].last_host);
            assert_int_equal(endpoints[count - 1].port, cases[i].last_port);
        }
        buffer_free(&problem);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_connection_carries_many_requests),
        cmocka_unit_test(the_callback_may_begin_the_next_request),
        cmocka_unit_test(a_server_may_end_the_connection_with_its_answer),
        cmocka_unit_test(the_next_endpoint_is_tried_when_one_is_down),
        cmocka_unit_test(without_retry_each_endpoint_is_tried_once),
        cmocka_unit_test(with_retry_rounds_go_on_until_the_timeout),
        cmocka_unit_test(an_endpoint_that_doesnt_answer_the_call_is_left),
        cmocka_unit_test(a_write_whose_connection_breaks_is_not_sent_again),
        cmocka_unit_test(a_read_whose_connection_breaks_is_sent_to_the_next),
        cmocka_unit_test(a_kept_connection_that_was_closed_meanwhile_is_made_anew),
        cmocka_unit_test(refusals_that_did_nothing_are_retried_when_asked),
        cmocka_unit_test(an_unknown_outcome_is_never_retried),
        cmocka_unit_test(a_late_answer_is_not_taken_for_the_next_requests),
        cmocka_unit_test(an_endpoint_that_hangs_is_left),
        cmocka_unit_test(what_is_no_answer_ends_the_request),
        cmocka_unit_test(bytes_that_nobody_asked_for_end_the_connection),
        cmocka_unit_test(endpoints_are_a_list),
    };
    return cmocka_run_group_tests_name("client", tests, NULL, NULL);
}
