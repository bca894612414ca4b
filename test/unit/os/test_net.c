#include "net_harness.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/random.h"

/* ---- data ---- */

#define LARGE_BYTES (6u * 1024 * 1024)

#define ECHO_QUEUE_MAX (128u * 1024)

static void echo(struct end *end, struct bytes bytes)
{
    write_bytes(end, bytes.data, bytes.size);
    if (net_queued_bytes(test.net, end->stream) > ECHO_QUEUE_MAX) net_pause(test.net, end->stream, true);
}

static void resume(struct end *end)
{
    net_pause(test.net, end->stream, false);
}

static void echo_all(struct end *end)
{
    end->on_received = echo;
    end->on_drained = resume;
}

static bool large_is_back(void)
{
    return test.clients[0].received.size == LARGE_BYTES;
}

static void large_data_comes_back_whole(void **state)
{
    (void)state;
    uint8_t *data = random_bytes(LARGE_BYTES, 1);
    test.on_accepted = echo_all;
    struct end *client = connect_end();
    /* Half before it is connected, in pieces and parts of all sizes, empty ones too. */
    struct random random;
    random_seed(&random, 2);
    size_t at = 0;
    while (at < LARGE_BYTES) {
        struct bytes parts[200];
        size_t count = random_between(&random, 0, ARRAY_COUNT(parts));
        for (size_t i = 0; i < count; i++) {
            size_t size = random_below(&random, random_chance(&random, 20) ? 100000 : 700);
            if (size > LARGE_BYTES - at) size = LARGE_BYTES - at;
            parts[i] = size > 0 ? bytes_of(data + at, size) : bytes_of(NULL, 0);
            at += size;
        }
        net_write(test.net, client->stream, parts, count);
        if (at > LARGE_BYTES / 2 && !client->connected) {
            assert_int_equal(net_queued_bytes(test.net, client->stream), at);
            run_until(pair_is_up);
        }
    }
    run_events_until(large_is_back);
    assert_memory_equal(client->received.data, data, LARGE_BYTES);
    assert_true(client->drained > 0);
    assert_int_equal(net_queued_bytes(test.net, client->stream), 0);
    mem_free(data);
}

static int round_trips_left;

static void answer_round_trip(struct end *end, struct bytes bytes)
{
    assert_int_equal(bytes.size, 4);
    if (--round_trips_left > 0) write_text(end, "ping");
}

static bool round_trips_are_over(void)
{
    return round_trips_left == 0;
}

static void small_round_trips_are_never_queued(void **state)
{
    (void)state;
    test.on_accepted = echo_all;
    struct end *client = connect_end();
    client->on_received = answer_round_trip;
    run_until(pair_is_up);
    round_trips_left = 1000;
    write_text(client, "ping");
    assert_int_equal(net_queued_bytes(test.net, client->stream), 0);
    run_events_until(round_trips_are_over);
    assert_int_equal(client->drained, 0);
    assert_int_equal(test.servers[0].drained, 0);
    assert_int_equal(strncmp(test.peer, "127.0.0.1:", 10), 0);
}

static bool early_is_there(void)
{
    return test.servers[0].received.size == 12;
}

static void write_now(struct end *end)
{
    write_text(end, "now.");
}

static void what_is_written_early_goes_first(void **state)
{
    (void)state;
    test.on_accepted = keep_all;
    struct end *client = connect_end();
    client->on_connected = write_now;
    write_text(client, "before, ");
    assert_int_equal(net_queued_bytes(test.net, client->stream), 8);
    run_events_until(early_is_there);
    assert_memory_equal(test.servers[0].received.data, "before, now.", 12);
    assert_int_equal(client->drained, 1);
}

/* ---- back-pressure ---- */

static void pause_at_once(struct end *end)
{
    end->keep = true;
    net_pause(test.net, end->stream, true);
}

static size_t plain_sent;

static bool plain_is_there(void)
{
    return test.servers[0].received.size == plain_sent;
}

static void a_paused_stream_holds_the_sender_back(void **state)
{
    (void)state;
    test.on_accepted = pause_at_once;
    int fd = connect_plain();
    run_until(one_accepted);
    uint8_t *data = random_bytes(1 << 20, 3);
    plain_sent = 0;
    for (;;) {
        ssize_t size = send(fd, data + plain_sent % 1024, 1024, MSG_DONTWAIT);
        if (size < 0) break;
        plain_sent += (size_t)size;
        assert_true(plain_sent < 64u * 1024 * 1024); /* else nothing holds it back */
        if (plain_sent % (256 * 1024) == 0) run_turns(1);
    }
    assert_int_equal(errno, EAGAIN);
    run_turns(3);
    assert_int_equal(test.servers[0].received_count, 0);

    net_pause(test.net, test.servers[0].stream, false);
    run_until(plain_is_there);
    assert_true(send(fd, data, 1024, MSG_DONTWAIT) > 0);
    close(fd);
    mem_free(data);
}

static void pause_after_first(struct end *end, struct bytes bytes)
{
    (void)bytes;
    net_pause(test.net, end->stream, true);
}

static bool server_has_received(void)
{
    return test.servers[0].received_count > 0;
}

static void pausing_within_received_stops_the_next_one(void **state)
{
    (void)state;
    test.on_accepted = keep_all;
    int fd = connect_plain();
    run_until(one_accepted);
    test.servers[0].on_received = pause_after_first;
    uint8_t *data = random_bytes(3 * NET_RECEIVE_BYTES, 4);
    size_t sent = 0;
    /* More than one buffer is waiting before the first callback. */
    while (sent < 3 * NET_RECEIVE_BYTES) {
        ssize_t size = send(fd, data + sent, 3 * NET_RECEIVE_BYTES - sent, 0);
        assert_true(size > 0);
        sent += (size_t)size;
    }
    run_until(server_has_received);
    run_turns(3);
    assert_in_range(test.servers[0].received_count, 1, NET_RECEIVE_BYTES);
    assert_false(test.servers[0].closed);

    /* The end of the stream waits as its bytes do. */
    close(fd);
    run_turns(3);
    assert_false(test.servers[0].closed);
    test.servers[0].on_received = NULL;
    net_pause(test.net, test.servers[0].stream, false);
    run_until(server_closed);
    assert_int_equal(test.servers[0].reason, NET_CLOSED_BY_PEER);
    assert_int_equal(test.servers[0].received.size, 3 * NET_RECEIVE_BYTES);
    assert_memory_equal(test.servers[0].received.data, data, 3 * NET_RECEIVE_BYTES);
    mem_free(data);
}

/* ---- the ends of streams ---- */

static void an_orderly_end_comes_after_the_bytes(void **state)
{
    (void)state;
    test.on_accepted = keep_all;
    int fd = connect_plain();
    assert_int_equal(send(fd, "last words", 10, 0), 10);
    close(fd);
    run_events_until(server_closed);
    assert_int_equal(test.servers[0].reason, NET_CLOSED_BY_PEER);
    assert_int_equal(test.servers[0].received.size, 10);
    assert_int_equal(os_net_stream_count(test.os_net), 0);
}

static void a_reset_is_told_apart_and_comes_after_the_bytes(void **state)
{
    (void)state;
    test.on_accepted = keep_all;
    int fd = connect_plain();
    run_until(one_accepted);
    assert_int_equal(send(fd, "last words", 10, 0), 10);
    reset_plain(fd);
    run_events_until(server_closed);
    assert_int_equal(test.servers[0].reason, NET_RESET);
    assert_int_equal(test.servers[0].received.size, 10);
}

static void a_peer_that_dies_with_unread_bytes_is_a_reset(void **state)
{
    (void)state;
    int fd = connect_plain();
    run_until(one_accepted);
    write_text(&test.servers[0], "never read");
    char byte;
    assert_int_equal(recv(fd, &byte, 1, MSG_PEEK), 1); /* it is there */
    close(fd);
    run_until(server_closed);
    assert_int_equal(test.servers[0].reason, NET_RESET);
}

static void a_reset_while_writing_reaches_a_paused_stream(void **state)
{
    (void)state;
    test.on_accepted = pause_at_once;
    int fd = connect_plain();
    run_until(one_accepted);
    reset_plain(fd);
    write_text(&test.servers[0], "into the void");
    assert_false(test.servers[0].closed); /* not from within the call */
    write_text(&test.servers[0], "and more");
    assert_int_equal(net_queued_bytes(test.net, test.servers[0].stream), 0);
    run_events_until(server_closed);
    assert_int_equal(test.servers[0].reason, NET_RESET);
}

static int failing_plain = -1;

/* In turn_end of the turn that accepted: the system knows of the reset, we have not read yet. */
static void write_to_the_reset_stream(void)
{
    if (test.server_count == 0 || failing_plain < 0) return;
    assert_int_equal(send(failing_plain, "last words", 10, 0), 10);
    reset_plain(failing_plain);
    failing_plain = -1;
    write_text(&test.servers[0], "answer");
    write_text(&test.servers[0], "more");
    assert_false(test.servers[0].closed);
}

static void a_failed_write_still_delivers_what_came_before(void **state)
{
    (void)state;
    test.on_accepted = keep_all;
    test.on_turn_end = write_to_the_reset_stream;
    failing_plain = connect_plain();
    run_events_until(server_closed);
    assert_int_equal(test.servers[0].reason, NET_RESET);
    assert_int_equal(test.servers[0].received.size, 10);
    assert_memory_equal(test.servers[0].received.data, "last words", 10);
}

static void write_to_the_ended_stream(void)
{
    if (test.server_count == 0 || failing_plain < 0) return;
    assert_int_equal(send(failing_plain, "goodbye", 7, 0), 7);
    close(failing_plain);
    failing_plain = -1;
    write_text(&test.servers[0], "answer"); /* is refused by a reset */
    write_text(&test.servers[0], "more");   /* fails */
}

static void a_failed_write_after_the_peers_end_is_an_orderly_end(void **state)
{
    (void)state;
    test.on_accepted = keep_all;
    test.on_turn_end = write_to_the_ended_stream;
    failing_plain = connect_plain();
    run_events_until(server_closed);
    assert_int_equal(test.servers[0].reason, NET_CLOSED_BY_PEER);
    assert_int_equal(test.servers[0].received.size, 7);
}

static void close_within_received(struct end *end, struct bytes bytes)
{
    (void)bytes;
    close_end(end);
}

static void write_to_the_reset_stream_and_close(void)
{
    write_to_the_reset_stream();
    if (test.server_count == 1 && test.servers[0].stream != NULL) close_end(&test.servers[0]);
}

static void closing_a_stream_that_just_failed_reports_nothing(void **state)
{
    (void)state;
    test.on_turn_end = write_to_the_reset_stream_and_close;
    failing_plain = connect_plain();
    run_until(one_accepted);
    run_until(nothing_is_open);
    assert_false(test.servers[0].closed);
    assert_int_equal(test.servers[0].received_count, 0);
}

static void closing_within_the_last_received_reports_nothing_more(void **state)
{
    (void)state;
    test.on_turn_end = write_to_the_reset_stream;
    failing_plain = connect_plain();
    run_until(one_accepted);
    if (!test.servers[0].closed) {
        test.servers[0].on_received = close_within_received;
        run_until(nothing_is_open);
        assert_false(test.servers[0].closed);
    }
    assert_int_equal(test.servers[0].received_count, 10);
}

static const uint8_t *large;

static void answer_large(struct end *end, struct bytes bytes)
{
    (void)bytes;
    write_bytes(end, large, LARGE_BYTES);
}

static void answer_with_large(struct end *end)
{
    end->on_received = answer_large;
}

static void a_half_closed_peer_still_gets_its_answer(void **state)
{
    (void)state;
    uint8_t *data = random_bytes(LARGE_BYTES, 5), *got = mem_alloc(LARGE_BYTES + 1);
    large = data;
    test.on_accepted = answer_with_large;
    int fd = connect_plain();
    assert_int_equal(send(fd, "request", 7, 0), 7);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    run_until(server_closed);
    assert_int_equal(test.servers[0].reason, NET_CLOSED_BY_PEER);
    assert_int_equal(os_net_stream_count(test.os_net), 1); /* it still sends */
    ssize_t last;
    assert_int_equal(read_plain(fd, got, LARGE_BYTES + 1, &last), LARGE_BYTES);
    assert_int_equal(last, 0);
    assert_memory_equal(got, data, LARGE_BYTES);
    assert_true(nothing_is_open());
    close(fd);
    mem_free(data);
    mem_free(got);
}

static bool server_ended(void)
{
    return test.servers[0].ended;
}

static bool second_ended(void)
{
    return test.servers[1].ended;
}

static bool second_closed(void)
{
    return test.servers[1].closed;
}

/* The answer isn't there yet when the peer ends its direction; the stream waits for it, and for us to close. */
static void the_end_of_one_direction(void **state)
{
    (void)state;
    test.halves = true;
    int fd = connect_plain();
    test.on_accepted = NULL;
    assert_int_equal(send(fd, "request", 7, 0), 7);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    run_until(server_ended);
    assert_int_equal(test.servers[0].received_count, 7);
    run_turns(20); /* told once, and nothing spins */
    assert_false(test.servers[0].closed);
    write_bytes(&test.servers[0], "answer", 6);
    close_end(&test.servers[0]);
    char got[16];
    ssize_t last;
    assert_int_equal(read_plain(fd, (uint8_t *)got, sizeof got, &last), 6);
    assert_int_equal(last, 0);
    assert_memory_equal(got, "answer", 6);
    assert_true(nothing_is_open());
    close(fd);

    /* The peer is gone altogether, which shows when something is sent. */
    fd = connect_plain();
    run_until(one_accepted);
    close(fd);
    run_until(second_ended);
    write_bytes(&test.servers[1], "answer", 6);
    run_turns(3);
    if (!test.servers[1].closed) write_bytes(&test.servers[1], "more", 4);
    run_until(second_closed);
    assert_true(nothing_is_open());
}

static void answer_large_and_close(struct end *end, struct bytes bytes)
{
    answer_large(end, bytes);
    assert_true(net_queued_bytes(test.net, end->stream) > 0);
    close_end(end);
}

static void answer_and_close(struct end *end)
{
    end->on_received = answer_large_and_close;
}

static void closing_sends_the_queue_first(void **state)
{
    (void)state;
    uint8_t *data = random_bytes(LARGE_BYTES, 6), *got = mem_alloc(LARGE_BYTES + 1);
    large = data;
    test.on_accepted = answer_and_close;
    int fd = connect_plain();
    assert_int_equal(send(fd, "request", 7, 0), 7);
    run_until(one_accepted);
    /* The peer sends on, which must not turn the end into a reset that costs it the answer. */
    for (int i = 0; i < 10; i++) {
        assert_int_equal(send(fd, got, 1000, 0), 1000);
        run_turns(1);
    }
    ssize_t last;
    assert_int_equal(read_plain(fd, got, LARGE_BYTES + 1, &last), LARGE_BYTES);
    assert_int_equal(last, 0);
    assert_memory_equal(got, data, LARGE_BYTES);
    assert_int_equal(os_net_stream_count(test.os_net), 1); /* waits for our end */
    close(fd);
    run_until(nothing_is_open);
    assert_false(test.servers[0].closed);
    mem_free(data);
    mem_free(got);
}

static void refuse(struct end *end)
{
    write_text(end, "413");
    close_end(end);
}

static void closing_before_reading_loses_nothing(void **state)
{
    (void)state;
    test.on_accepted = refuse;
    int fd = connect_plain();
    uint8_t upload[50000] = {0};
    assert_int_equal(send(fd, upload, sizeof upload, 0), sizeof upload);
    run_until(one_accepted);
    run_turns(3);
    assert_int_equal(send(fd, upload, 100, 0), 100);
    run_turns(3);
    ssize_t last;
    assert_int_equal(read_plain(fd, upload, sizeof upload, &last), 3);
    assert_int_equal(last, 0);
    assert_memory_equal(upload, "413", 3);
    close(fd);
    run_until(nothing_is_open);
}

static void a_peer_that_never_ends_is_cut_off(void **state)
{
    (void)state;
    test.on_accepted = refuse;
    int quiet = connect_plain();
    run_until(one_accepted);
    run_until(nothing_is_open); /* by the time limit */
    char text[3];
    assert_int_equal(recv(quiet, text, 3, 0), 3);
    close(quiet);

    int loud = connect_plain();
    uint8_t upload[10000] = {0};
    size_t sent = 0;
    for (;;) {
        ssize_t size = send(loud, upload, sizeof upload, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (size < 0 && errno != EAGAIN) break;
        if (size > 0) sent += (size_t)size;
        assert_true(sent < 64u * 1024 * 1024);
        run_turns(1);
    }
    assert_true(sent > NET_CLOSE_DROP_BYTES); /* by the limit on bytes */
    assert_true(nothing_is_open());
    close(loud);
}

static void both_may_close(void **state)
{
    (void)state;
    struct end *client = connect_end();
    run_until(pair_is_up);
    close_end(client);
    run_events_until(server_closed);
    assert_int_equal(test.servers[0].reason, NET_CLOSED_BY_PEER);
    run_until(nothing_is_open);

    /* Both in the same turn. */
    client = connect_end();
    test.on_accepted = close_now;
    client->on_connected = close_now;
    run_until(nothing_is_open);
    assert_false(client->closed);
}

static void aborting_resets_the_peer(void **state)
{
    (void)state;
    int fd = connect_plain();
    run_until(one_accepted);
    uint8_t *data = random_bytes(LARGE_BYTES, 8);
    write_bytes(&test.servers[0], data, LARGE_BYTES);
    abort_end(&test.servers[0]);
    assert_int_equal(os_net_stream_count(test.os_net), 0);
    run_turns(1);
    ssize_t last = 1;
    uint8_t *got = mem_alloc(LARGE_BYTES);
    while (last > 0) last = recv(fd, got, LARGE_BYTES, 0);
    assert_int_equal(last, -1);
    assert_int_equal(errno, ECONNRESET);
    close(fd);
    mem_free(data);
    mem_free(got);

    struct end *client = connect_end();
    run_until(client_connected);
    run_turns(1);
    abort_end(client);
    while (!test.servers[1].closed) run_turns(1);
    assert_int_equal(test.servers[1].reason, NET_RESET);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(large_data_comes_back_whole, net_test_begin, net_test_finish),
        cmocka_unit_test_setup_teardown(small_round_trips_are_never_queued, net_test_begin, net_test_finish),
        cmocka_unit_test_setup_teardown(what_is_written_early_goes_first, net_test_begin, net_test_finish),
        cmocka_unit_test_setup_teardown(a_paused_stream_holds_the_sender_back, net_test_begin, net_test_finish),
        cmocka_unit_test_setup_teardown(pausing_within_received_stops_the_next_one, net_test_begin, net_test_finish),
        cmocka_unit_test_setup_teardown(an_orderly_end_comes_after_the_bytes, net_test_begin, net_test_finish),
        cmocka_unit_test_setup_teardown(a_reset_is_told_apart_and_comes_after_the_bytes, net_test_begin,
                                        net_test_finish),
        cmocka_unit_test_setup_teardown(a_peer_that_dies_with_unread_bytes_is_a_reset, net_test_begin, net_test_finish),
        cmocka_unit_test_setup_teardown(a_reset_while_writing_reaches_a_paused_stream, net_test_begin, net_test_finish),
        cmocka_unit_test_setup_teardown(a_failed_write_still_delivers_what_came_before, net_test_begin,
                                        net_test_finish),
        cmocka_unit_test_setup_teardown(a_failed_write_after_the_peers_end_is_an_orderly_end, net_test_begin,
                                        net_test_finish),
        cmocka_unit_test_setup_teardown(closing_a_stream_that_just_failed_reports_nothing, net_test_begin,
                                        net_test_finish),
        cmocka_unit_test_setup_teardown(closing_within_the_last_received_reports_nothing_more, net_test_begin,
                                        net_test_finish),
        cmocka_unit_test_setup_teardown(the_end_of_one_direction, net_test_begin, net_test_finish),
        cmocka_unit_test_setup_teardown(a_half_closed_peer_still_gets_its_answer, net_test_begin, net_test_finish),
        cmocka_unit_test_setup_teardown(closing_sends_the_queue_first, net_test_begin, net_test_finish),
        cmocka_unit_test_setup_teardown(closing_before_reading_loses_nothing, net_test_begin, net_test_finish),
        cmocka_unit_test_setup_teardown(a_peer_that_never_ends_is_cut_off, net_test_begin, net_test_finish),
        cmocka_unit_test_setup_teardown(both_may_close, net_test_begin, net_test_finish),
        cmocka_unit_test_setup_teardown(aborting_resets_the_peer, net_test_begin, net_test_finish),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
