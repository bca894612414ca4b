#include "net_harness.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "os/limits.h"

/* ---- connecting ---- */

/* A port that nobody listens on: one that was just free. */
static uint16_t unused_port(void)
{
    struct net_listener *listener;
    assert_int_equal(net_listen(test.net, "127.0.0.1", 0, &listener_handler, &test, &listener), ERR_OK);
    uint16_t port = net_listener_port(test.net, listener);
    net_stop_listening(test.net, listener);
    return port;
}

static void assert_connect_fails(const char *host, uint16_t port)
{
    struct end *client = connect_to(host, port);
    write_text(client, "for nobody");
    size_t turns = 0;
    while (!client->closed) {
        run_turns(1);
        turns++;
    }
    assert_true(turns > 0);
    assert_false(client->connected);
    assert_int_equal(client->reason, NET_CONNECT_FAILED);
    assert_true(nothing_is_open());
}

static void failing_to_connect_is_reported_later(void **state)
{
    (void)state;
    uint16_t unused = unused_port();
    assert_connect_fails("127.0.0.1", unused);
    assert_connect_fails("localhost", unused);            /* both addresses */
    assert_connect_fails("255.255.255.255", unused);      /* connect itself fails */
    assert_connect_fails("no-such-host.invalid", unused); /* RFC 6761 §6.4: never has an address */
    assert_connect_fails("", unused);
    assert_connect_fails("a b", unused);
    char name[3000];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = 0;
    assert_connect_fails(name, unused);
}

static void without_descriptors_connecting_fails(void **state)
{
    (void)state;
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    int next = dup(0);
    close(next);
    small = before;
    small.rlim_cur = (rlim_t)next;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &small), 0);
    struct end *client = connect_end();
    struct net_listener *listener;
    enum error error = net_listen(test.net, "127.0.0.1", 0, &listener_handler, &test, &listener);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    run_events_until(client_closed);
    assert_int_equal(client->reason, NET_CONNECT_FAILED);
    assert_int_equal(error, ERR_NETWORK);
    assert_string_equal(test.net->error_text, "listen on 127.0.0.1 port 0: Too many open files");
}

static void every_address_is_tried(void **state)
{
    (void)state;
    struct net_listener *v6;
    enum error error = net_listen(test.net, "::1", 0, &listener_handler, &test, &v6);
    if (error != ERR_OK) {
        /* A machine without IPv6 still says so properly. */
        assert_int_equal(error, ERR_NETWORK);
        return;
    }
    uint16_t port = net_listener_port(test.net, v6);
    struct end *client = connect_to("localhost", port); /* 127.0.0.1 refuses, ::1 doesn't */
    write_text(client, "hello");
    run_events_until(pair_is_up);
    assert_int_equal(strncmp(test.peer, "[::1]:", 6), 0);
    while (test.servers[0].received_count < 5) run_turns(1);
    abort_end(client);

    /* Aborted and closed between two addresses, and while connecting. */
    client = connect_to("localhost", port);
    run_turns(1);
    if (client->stream != NULL) abort_end(client);
    client = connect_to("localhost", port);
    abort_end(client);
    client = connect_to("localhost", port);
    close_end(client);
    run_turns(5);
    assert_false(client->closed);
}

static void all_addresses_take_both_families(void **state)
{
    (void)state;
    struct net_listener *all;
    enum error error = net_listen(test.net, "::", 0, &listener_handler, &test, &all);
    if (error != ERR_OK) {
        assert_int_equal(error, ERR_NETWORK);
        return;
    }
    connect_to("127.0.0.1", net_listener_port(test.net, all));
    run_events_until(pair_is_up);
    assert_int_equal(strncmp(test.peer, "127.0.0.1:", 10), 0);
}

static bool text_is_there(void)
{
    return test.server_count == 1 && test.servers[0].received.size == 5 && test.servers[0].closed;
}

static void closing_before_connected_still_sends(void **state)
{
    (void)state;
    test.on_accepted = keep_all;
    struct end *client = connect_end();
    write_text(client, "hello");
    close_end(client);
    run_until(text_is_there);
    assert_int_equal(test.servers[0].reason, NET_CLOSED_BY_PEER);
    assert_false(client->connected || client->closed);
    run_until(nothing_is_open);

    /* And with nobody there, it goes silently. */
    client = connect_to("127.0.0.1", unused_port());
    write_text(client, "hello");
    close_end(client);
    client = connect_to("no-such-host.invalid", 1);
    write_text(client, "hello");
    close_end(client);
    run_until(nothing_is_open);
    assert_false(client->connected || client->closed);
}

static void aborting_a_look_up_reports_nothing(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct end *client = connect_to(i % 2 == 0 ? "no-such-host.invalid" : "nor.this.invalid", 1);
        if (i % 3 == 0) {
            close_end(client);
        } else {
            abort_end(client);
        }
    }
    assert_true(nothing_is_open());
    run_turns(5);
    /* The rest is left to finish(): look-ups that are under way when the network is freed. */
    for (int i = 0; i < 5; i++) connect_to("no-such-host.invalid", 1);
}

/* ---- listening ---- */

static void listening_fails_with_a_reason(void **state)
{
    (void)state;
    struct net_listener *listener;
    char text[256];
    assert_int_equal(net_listen(test.net, "127.0.0.1", test.port, &listener_handler, &test, &listener),
                     ERR_ADDRESS_IN_USE);
    snprintf(text, sizeof text, "listen on 127.0.0.1 port %u: Address already in use", test.port);
    assert_string_equal(test.net->error_text, text);
    assert_int_equal(net_listen(test.net, "localhost", test.port, &listener_handler, &test, &listener),
                     ERR_ADDRESS_IN_USE);
    /* TEST-NET-3 (RFC 5737) is nobody's own address. */
    assert_int_equal(net_listen(test.net, "203.0.113.1", 0, &listener_handler, &test, &listener), ERR_NETWORK);
    assert_string_equal(test.net->error_text, "listen on 203.0.113.1 port 0: Cannot assign requested address");
    assert_int_equal(net_listen(test.net, "no-such-host.invalid", 0, &listener_handler, &test, &listener), ERR_NETWORK);
    assert_true(strstr(test.net->error_text, "listen on no-such-host.invalid port 0: ") == test.net->error_text);

    int unprivileged = 1024;
    FILE *file = fopen("/proc/sys/net/ipv4/ip_unprivileged_port_start", "r");
    if (file != NULL) {
        assert_int_equal(fscanf(file, "%d", &unprivileged), 1);
        fclose(file);
    }
    if (unprivileged <= 1) return; /* every port is open to everybody here */
    bool is_root = geteuid() == 0;
    if (is_root) assert_int_equal(seteuid(65534), 0);
    enum error error = net_listen(test.net, "127.0.0.1", 1, &listener_handler, &test, &listener);
    if (is_root) assert_int_equal(seteuid(0), 0);
    assert_int_equal(error, ERR_NO_PERMISSION);
    assert_string_equal(test.net->error_text, "listen on 127.0.0.1 port 1: Permission denied");
}

static void a_port_is_free_again_at_once(void **state)
{
    (void)state;
    /* With a connection of its own in TIME_WAIT. */
    test.on_accepted = close_now;
    connect_end();
    run_until(client_closed);
    run_until(nothing_is_open);
    net_stop_listening(test.net, test.listener);
    assert_int_equal(net_listen(test.net, "127.0.0.1", test.port, &listener_handler, &test, &test.listener), ERR_OK);
    assert_int_equal(net_listener_port(test.net, test.listener), test.port);
}

static void no_more_is_accepted_after_stop(void **state)
{
    (void)state;
    test.accepting = STOP_WHEN_ACCEPTED;
    int first = connect_plain(), second = connect_plain();
    run_until(one_accepted);
    run_turns(2);
    assert_int_equal(test.server_count, 1);
    char byte;
    assert_true(recv(second, &byte, 1, 0) <= 0); /* the system ends it */
    close(second);
    close(first);
    run_until(server_closed);
    struct end *client = connect_end();
    run_until(client_closed);
    assert_int_equal(client->reason, NET_CONNECT_FAILED);
}

static void accepted_streams_may_be_refused_at_once(void **state)
{
    (void)state;
    test.accepting = CLOSE_WHEN_ACCEPTED;
    int fd = connect_plain();
    run_until(one_accepted);
    char byte;
    assert_int_equal(recv(fd, &byte, 1, 0), 0);
    close(fd);
    test.accepting = ABORT_WHEN_ACCEPTED;
    fd = connect_plain();
    while (test.server_count < 2) run_turns(1);
    assert_int_equal(recv(fd, &byte, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET);
    close(fd);
    run_until(nothing_is_open);
}

static void count_round(uv_prepare_t *prepare)
{
    ++*(int *)prepare->data;
}

static bool warned(void)
{
    return test.warnings > 0;
}

static bool three_accepted(void)
{
    return test.server_count == 3;
}

static void stop_the_loop(void *user)
{
    (void)user;
    loop_stop(os_loop_port(test.loop));
}

static void running_out_of_descriptors_pauses_accepting(void **state)
{
    (void)state;
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    int fds[3];
    for (int i = 0; i < 3; i++) fds[i] = connect_plain();
    int next = dup(0);
    close(next);
    small = before;
    small.rlim_cur = (rlim_t)next + 1; /* room for one of the three */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &small), 0);
    run_until(warned);

    /* It tries again twice in this time, says nothing more, and sleeps in between. */
    int rounds = 0;
    uv_prepare_t prepare;
    uv_prepare_init(os_loop_uv(test.loop), &prepare);
    prepare.data = &rounds;
    uv_prepare_start(&prepare, count_round);
    static const struct loop_handler quiet = {.timer = stop_the_loop};
    loop_attach(os_loop_port(test.loop), &quiet, NULL);
    loop_set_timer(os_loop_port(test.loop),
                   loop_now(os_loop_port(test.loop)) + (2 * NET_ACCEPT_PAUSE_MS + 50) * TIME_NS_PER_MS);
    os_loop_run(test.loop);
    uv_close((uv_handle_t *)&prepare, NULL);
    loop_attach(os_loop_port(test.loop), &loop_handler, &test);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);

    assert_int_equal(test.warnings, 1);
    assert_string_equal(test.warning, "accepting connections failed error=\"Too many open files\" connections=1 "
                                      "retry_ms=100");
    assert_int_equal(test.server_count, 1);
    assert_in_range(rounds, 2, 20);

    /* With descriptors again, all are served, and the next shortage is reported again. */
    run_until(three_accepted);
    for (int i = 0; i < 3; i++) close(fds[i]);
    run_until(nothing_is_open);
    fds[0] = connect_plain();
    next = dup(0);
    close(next);
    small.rlim_cur = (rlim_t)next;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &small), 0);
    test.warnings = 0;
    run_until(warned);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    close(fds[0]);
}

/* ---- many ---- */

#define MANY 2000

static int answered;

static void count_answer(struct end *end, struct bytes bytes)
{
    (void)bytes;
    if (end->received_count == 5) answered++;
    assert_true(end->received_count <= 5);
}

static bool all_are_answered(void)
{
    return answered == MANY;
}

static void echo(struct end *end, struct bytes bytes)
{
    write_bytes(end, bytes.data, bytes.size);
}

static void echo_all(struct end *end)
{
    end->on_received = echo;
}

static bool all_servers_are_closed(void)
{
    for (int i = 0; i < MANY; i++) {
        if (!test.servers[i].closed) return false;
    }
    return true;
}

static void two_thousand_connections_are_served(void **state)
{
    (void)state;
    /* Both ends are ours. */
    assert_true(os_raise_open_files_limit() > 2 * MANY + 100);
    test.on_accepted = echo_all;
    answered = 0;
    for (int i = 0; i < MANY; i++) {
        struct end *client = connect_end();
        client->on_received = count_answer;
        write_text(client, "hello");
        if (i % 500 == 499) run_turns(5); /* the backlog is shorter */
    }
    run_until(all_are_answered);
    assert_int_equal(test.server_count, MANY);
    assert_int_equal(os_net_stream_count(test.os_net), 2 * MANY);
    /* All once more, at the same time. */
    answered = 0;
    for (int i = 0; i < MANY; i++) {
        test.clients[i].received_count = 0;
        write_text(&test.clients[i], "again");
    }
    run_until(all_are_answered);
    for (int i = 0; i < MANY; i++) {
        if (i % 2 == 0) {
            close_end(&test.clients[i]);
        } else {
            abort_end(&test.clients[i]);
        }
    }
    run_until(all_servers_are_closed);
    run_until(nothing_is_open);
    assert_int_equal(test.warnings, 0);
}

/* ---- turns ---- */

static bool both_have_received(void)
{
    return test.servers[0].received_count > 0 && test.servers[1].received_count > 0;
}

static bool two_accepted(void)
{
    return test.server_count == 2;
}

static void what_is_ready_together_shares_a_turn(void **state)
{
    (void)state;
    int a = connect_plain(), b = connect_plain();
    run_until(two_accepted);
    run_turns(1);
    assert_int_equal(send(a, "a", 1, 0), 1);
    assert_int_equal(send(b, "b", 1, 0), 1);
    int before = test.turns;
    run_events_until(both_have_received);
    /* The turn that every run begins with, and one for both. */
    assert_int_equal(test.turns, before + 2);
    close(a);
    close(b);
}

static int turns_before;

static void write_in_first_turn(void)
{
    if (test.turns == turns_before + 1) write_text(&test.servers[0], "from turn_end");
}

static bool client_has_received(void)
{
    return test.clients[0].received_count >= 13;
}

static void writing_in_turn_end_needs_no_further_event(void **state)
{
    (void)state;
    struct end *client = connect_end();
    run_until(pair_is_up);
    run_turns(2);
    turns_before = test.turns;
    test.on_turn_end = write_in_first_turn;
    run_events_until(client_has_received);
    assert_memory_equal(client->received.data, "from turn_end", 13);
    assert_int_equal(test.turns, turns_before + 2);
}

static bool some_are_accepted(void)
{
    return test.server_count > 3;
}

static void freeing_with_everything_open_leaks_nothing(void **state)
{
    (void)state;
    /* net_test_finish frees, the sanitizer looks. */
    uint8_t *data = random_bytes(1 << 20, 9);
    for (int i = 0; i < 20; i++) {
        struct end *client = connect_end();
        write_bytes(client, data, 1 << 20);
        if (i == 10) run_until(some_are_accepted);
        if (i % 4 == 0) close_end(client);
    }
    connect_to("localhost", unused_port());
    int fd = connect_plain();
    mem_free(data);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(failing_to_connect_is_reported_later, net_test_begin, net_test_finish),
        cmocka_unit_test_setup_teardown(without_descriptors_connecting_fails, net_test_begin, net_test_finish),
        cmocka_unit_test_setup_teardown(every_address_is_tried, net_test_begin, net_test_finish),
        cmocka_unit_test_setup_teardown(all_addresses_take_both_families, net_test_begin, net_test_finish),
        cmocka_unit_test_setup_teardown(closing_before_connected_still_sends, net_test_begin, net_test_finish),
        cmocka_unit_test_setup_teardown(aborting_a_look_up_reports_nothing, net_test_begin, net_test_finish),
        cmocka_unit_test_setup_teardown(listening_fails_with_a_reason, net_test_begin, net_test_finish),
        cmocka_unit_test_setup_teardown(a_port_is_free_again_at_once, net_test_begin, net_test_finish),
        cmocka_unit_test_setup_teardown(no_more_is_accepted_after_stop, net_test_begin, net_test_finish),
        cmocka_unit_test_setup_teardown(accepted_streams_may_be_refused_at_once, net_test_begin, net_test_finish),
        cmocka_unit_test_setup_teardown(running_out_of_descriptors_pauses_accepting, net_test_begin, net_test_finish),
        cmocka_unit_test_setup_teardown(two_thousand_connections_are_served, net_test_begin, net_test_finish),
        cmocka_unit_test_setup_teardown(what_is_ready_together_shares_a_turn, net_test_begin, net_test_finish),
        cmocka_unit_test_setup_teardown(writing_in_turn_end_needs_no_further_event, net_test_begin, net_test_finish),
        cmocka_unit_test_setup_teardown(freeing_with_everything_open_leaks_nothing, net_test_begin, net_test_finish),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
