/* The simulated network: streams are ordered and lossless, whatever the cuts; partitions hold back, crashes reset. */
#include "sim/sim_net.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"

#define A 0u
#define B 1u

static struct sim_world world;
static struct sim_net network;
static struct net *nets[3];
static struct net_listener *listener;

/* One end of a stream, and what it saw. */
struct end {
    struct net *net;
    struct net_stream *stream;
    struct buffer got;
    unsigned chunks;
    bool connected, closed, drained;
    enum net_close_reason reason;
    bool close_at_first_byte;
    bool echo;
};

static struct end client, server;
static unsigned accepted_count;
static bool refuse_streams;

static void on_connected(void *user)
{
    ((struct end *)user)->connected = true;
}

static void on_received(void *user, struct bytes bytes)
{
    struct end *end = user;
    assert_true(bytes.size > 0);
    assert_false(end->closed);
    buffer_append(&end->got, bytes.data, bytes.size);
    end->chunks++;
    if (end->echo) net_write(end->net, end->stream, &bytes, 1);
    if (end->close_at_first_byte) {
        net_close(end->net, end->stream);
        end->stream = NULL;
    }
}

static void on_drained(void *user)
{
    ((struct end *)user)->drained = true;
}

static void on_closed(void *user, enum net_close_reason reason)
{
    struct end *end = user;
    assert_false(end->closed);
    end->closed = true;
    end->reason = reason;
    end->stream = NULL;
}

static const struct net_stream_handler handler = {
    .connected = on_connected, .received = on_received, .drained = on_drained, .closed = on_closed};

static void on_accepted(void *user, struct net_stream *stream, const char *peer)
{
    (void)user;
    accepted_count++;
    assert_string_equal(peer, "a");
    if (refuse_streams) {
        net_close(nets[B], stream);
        return;
    }
    server.stream = stream;
    net_attach(nets[B], stream, &handler, &server);
}

static const struct net_listener_handler listener_handler = {.accepted = on_accepted};

static void set_up(uint64_t seed)
{
    sim_world_init(&world, seed);
    sim_net_init(&network, &world);
    static const char *names[] = {"a", "b", "c"};
    for (unsigned i = 0; i < 3; i++) nets[i] = sim_net_host(&network, i, names[i]);
    client = (struct end){.net = nets[A]};
    server = (struct end){.net = nets[B]};
    accepted_count = 0;
    refuse_streams = false;
    assert_int_equal(net_listen(nets[B], "b", 7000, &listener_handler, NULL, &listener), ERR_OK);
}

static void tear_down(void)
{
    buffer_free(&client.got);
    buffer_free(&server.got);
    sim_net_free(&network);
    sim_world_free(&world);
}

static void run_for(time_ns duration)
{
    time_ns until = world.now + duration;
    while (sim_world_step(&world, until)) {}
}

static void connect_client(void)
{
    client.stream = net_connect(nets[A], "b", 7000, &handler, &client);
    assert_false(client.connected);
}

static void send_bytes(struct end *end, const void *data, size_t size)
{
    struct bytes parts[2] = {bytes_of(data, size / 2), bytes_of((const uint8_t *)data + size / 2, size - size / 2)};
    net_write(end->net, end->stream, parts, 2);
}

static void send_text(struct end *end, const char *text)
{
    send_bytes(end, text, strlen(text));
}

static void assert_got(const struct end *end, const char *text)
{
    assert_int_equal(end->got.size, strlen(text));
    if (end->got.size > 0) assert_memory_equal(end->got.data, text, end->got.size);
}

static void test_bytes_arrive_in_order_in_pieces(void **state)
{
    (void)state;
    unsigned pieces = 0;
    size_t size = 3 * SIM_NET_WINDOW_BYTES + 17;
    uint8_t *data = mem_alloc(size);
    struct random random;
    random_seed(&random, 1);
    for (size_t i = 0; i < size; i++) data[i] = (uint8_t)random_u64(&random);
    for (uint64_t seed = 1; seed <= 30; seed++) {
        set_up(seed);
        connect_client();
        server.echo = true;
        for (size_t at = 0; at < size;) {
            size_t part = (size_t)random_between(&random, 1, 40000);
            if (part > size - at) part = size - at;
            send_bytes(&client, data + at, part); /* before it is connected, too */
            at += part;
            if (random_chance(&random, 500)) run_for((time_ns)random_below(&random, 2000000));
        }
        run_for(60 * TIME_NS_PER_S);
        assert_true(client.connected);
        assert_int_equal(accepted_count, 1);
        assert_int_equal(server.got.size, size);
        assert_memory_equal(server.got.data, data, size);
        assert_int_equal(client.got.size, size);
        assert_memory_equal(client.got.data, data, size);
        pieces += server.chunks;
        net_close(nets[A], client.stream);
        run_for(TIME_NS_PER_S);
        assert_true(server.closed);
        assert_int_equal(server.reason, NET_CLOSED_BY_PEER);
        tear_down();
    }
    assert_true(pieces > 30 * 30);
    mem_free(data);
}

static void test_back_pressure_reaches_the_sender(void **state)
{
    (void)state;
    set_up(3);
    connect_client();
    run_for(TIME_NS_PER_S);
    net_pause(nets[B], server.stream, true);
    size_t size = SIM_NET_WINDOW_BYTES + 1000;
    uint8_t *data = mem_alloc_zero(size);
    send_bytes(&client, data, size);
    assert_int_equal(net_queued_bytes(nets[A], client.stream), 1000);
    run_for(TIME_NS_PER_S);
    assert_int_equal(server.got.size, 0);
    assert_int_equal(net_queued_bytes(nets[A], client.stream), 1000);
    assert_false(client.drained);
    net_pause(nets[B], server.stream, false);
    run_for(TIME_NS_PER_S);
    assert_int_equal(server.got.size, size);
    assert_int_equal(net_queued_bytes(nets[A], client.stream), 0);
    assert_true(client.drained);
    mem_free(data);
    tear_down();
}

static void test_close_delivers_what_was_written_and_abort_need_not(void **state)
{
    (void)state;
    unsigned delivered = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        set_up(seed);
        connect_client();
        run_for(TIME_NS_PER_S);
        send_text(&client, "the end");
        if (seed % 2 == 0) {
            net_close(nets[A], client.stream);
        } else {
            net_abort(nets[A], client.stream);
        }
        run_for(TIME_NS_PER_S);
        assert_true(server.closed);
        assert_false(client.closed); /* who ends it himself isn't told */
        if (seed % 2 == 0) {
            assert_got(&server, "the end");
            assert_int_equal(server.reason, NET_CLOSED_BY_PEER);
        } else {
            assert_int_equal(server.reason, NET_RESET);
            delivered += server.got.size > 0;
        }
        assert_null(network.connections); /* nothing is left of it */
        tear_down();
    }
    assert_true(delivered > 3 && delivered < 27);
}

static void test_closing_within_a_callback(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        set_up(seed);
        connect_client();
        server.close_at_first_byte = true;
        client.close_at_first_byte = seed % 2 == 0;
        server.echo = true;
        send_text(&client, "hello");
        run_for(TIME_NS_PER_S);
        assert_true(server.got.size >= 1);
        assert_true(client.closed || client.close_at_first_byte);
        assert_true(client.got.size >= 1); /* what was written before the close */
        assert_null(network.connections);
        tear_down();
    }
}

static void test_failed_connections(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        static const char *hosts[] = {"b", "nowhere", "c"};
        for (unsigned i = 0; i < 3; i++) {
            set_up(seed);
            client.stream = net_connect(nets[A], hosts[i], (uint16_t)(i == 0 ? 7001 : 7000), &handler, &client);
            send_text(&client, "unheard");
            run_for(TIME_NS_PER_S);
            assert_true(client.closed && !client.connected);
            assert_int_equal(client.reason, NET_CONNECT_FAILED);
            tear_down();
        }
        /* Without power at the other side it takes longer. */
        set_up(seed);
        sim_net_host_down(&network, B, true);
        sim_net_host_forget(&network, B);
        connect_client();
        run_for(TIME_NS_PER_S);
        assert_false(client.closed);
        run_for(10 * TIME_NS_PER_S);
        assert_true(client.closed);
        assert_int_equal(client.reason, NET_CONNECT_FAILED);
        tear_down();
        /* One that is closed before anyone heard of it. */
        set_up(seed);
        connect_client();
        net_abort(nets[A], client.stream);
        run_for(TIME_NS_PER_S);
        assert_int_equal(accepted_count, 0);
        assert_null(network.connections);
        tear_down();
        /* A listener that doesn't want it. */
        set_up(seed);
        refuse_streams = true;
        connect_client();
        run_for(TIME_NS_PER_S);
        assert_true(client.connected && client.closed);
        tear_down();
    }
}

static void test_ports(void **state)
{
    (void)state;
    struct net_listener *other;
    set_up(1);
    assert_int_equal(net_listener_port(nets[B], listener), 7000);
    assert_int_equal(net_listen(nets[B], "b", 7000, &listener_handler, NULL, &other), ERR_ADDRESS_IN_USE);
    assert_non_null(strstr(nets[B]->error_text, "7000"));
    assert_int_equal(net_listen(nets[B], "b", 0, &listener_handler, NULL, &other), ERR_OK);
    assert_true(net_listener_port(nets[B], other) != 7000);
    net_stop_listening(nets[B], other);
    net_stop_listening(nets[B], listener);
    assert_int_equal(net_listen(nets[B], "b", 7000, &listener_handler, NULL, &listener), ERR_OK);
    tear_down();
}

static void test_a_partition_holds_bytes_back(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        set_up(seed);
        connect_client();
        run_for(TIME_NS_PER_S);
        sim_net_block(&network, A, B, true); /* one way */
        send_text(&client, "held");
        send_text(&server, "passes");
        run_for(10 * TIME_NS_PER_S);
        assert_got(&server, "");
        assert_got(&client, "passes");
        send_text(&client, " back");
        sim_net_heal(&network);
        run_for(TIME_NS_PER_S);
        assert_got(&server, "held back");
        assert_false(client.closed || server.closed);
        /* Nor does the end of a stream get through. */
        sim_net_block(&network, B, A, true);
        net_abort(nets[B], server.stream);
        run_for(TIME_NS_PER_S);
        assert_false(client.closed);
        sim_net_block(&network, B, A, false);
        run_for(TIME_NS_PER_S);
        assert_true(client.closed);
        tear_down();
    }
}

static void test_a_clogged_link_is_late(void **state)
{
    (void)state;
    set_up(1);
    connect_client();
    run_for(TIME_NS_PER_S);
    sim_net_clog(&network, A, B, 500 * TIME_NS_PER_MS, world.now + TIME_NS_PER_MS);
    send_text(&client, "late");
    run_for(400 * TIME_NS_PER_MS);
    assert_got(&server, "");
    run_for(200 * TIME_NS_PER_MS);
    assert_got(&server, "late");
    send_text(&client, "r");
    run_for(100 * TIME_NS_PER_MS);
    assert_got(&server, "later");
    tear_down();
}

static void test_a_killed_process_ends_its_streams(void **state)
{
    (void)state;
    unsigned resets = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        set_up(seed);
        connect_client();
        run_for(TIME_NS_PER_S);
        struct net_stream *handle = server.stream;
        send_text(&client, "hello");
        sim_net_host_down(&network, B, false);
        net_abort(nets[B], handle); /* as its destructor does */
        sim_net_host_forget(&network, B);
        run_for(TIME_NS_PER_S);
        assert_true(client.closed && !server.closed);
        assert_got(&server, "");
        resets += client.reason == NET_RESET;
        /* A new one finds nobody, until somebody listens again. */
        client = (struct end){.net = nets[A]};
        connect_client();
        run_for(TIME_NS_PER_S);
        assert_int_equal(client.reason, NET_CONNECT_FAILED);
        sim_net_host_up(&network, B);
        assert_int_equal(net_listen(nets[B], "b", 7000, &listener_handler, NULL, &listener), ERR_OK);
        client = (struct end){.net = nets[A]};
        connect_client();
        run_for(TIME_NS_PER_S);
        assert_true(client.connected && !client.closed);
        tear_down();
    }
    assert_true(resets > 10 && resets < 50);
}

static void test_a_machine_without_power_is_silent(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        set_up(seed);
        connect_client();
        run_for(TIME_NS_PER_S);
        sim_net_host_down(&network, B, true);
        sim_net_host_forget(&network, B);
        send_text(&client, "hello?");
        run_for(10 * TIME_NS_PER_S);
        assert_false(client.closed);
        sim_net_host_up(&network, B);
        if (!client.closed) run_for(TIME_NS_PER_S);
        if (!client.closed) send_text(&client, "hello?");
        run_for(TIME_NS_PER_S);
        assert_true(client.closed);
        assert_int_equal(client.reason, NET_RESET);
        assert_null(network.connections);
        tear_down();
    }
}

static void test_a_reset_reaches_both(void **state)
{
    (void)state;
    set_up(1);
    connect_client();
    run_for(TIME_NS_PER_S);
    sim_net_reset(&network, B, A);
    run_for(TIME_NS_PER_S);
    assert_true(client.closed && server.closed);
    assert_int_equal(client.reason, NET_RESET);
    assert_int_equal(server.reason, NET_RESET);
    tear_down();
}

static void test_a_half_open_connection_is_silent_and_a_new_one_works(void **state)
{
    (void)state;
    set_up(1);
    connect_client();
    run_for(TIME_NS_PER_S);
    struct end first_server = server;
    sim_net_half_open(&network, B, A, 1000);
    assert_int_equal(network.counters.half_open, 1);
    send_text(&client, "into the void");
    net_write(nets[B], first_server.stream, &(struct bytes){(const uint8_t *)"x", 1}, 1);
    sim_net_heal(&network);
    run_for(60 * TIME_NS_PER_S);
    assert_true(server.got.size == 0 && client.got.size == 0 && !server.closed && !client.closed);
    net_abort(nets[A], client.stream); /* which the other end doesn't hear of */
    run_for(60 * TIME_NS_PER_S);
    assert_false(server.closed);
    client = (struct end){.net = nets[A]};
    server = (struct end){.net = nets[B]};
    connect_client();
    run_for(TIME_NS_PER_S);
    send_text(&client, "hello");
    run_for(TIME_NS_PER_S);
    assert_got(&server, "hello");
    net_abort(nets[B], first_server.stream);
    tear_down();
}

static void test_an_attempt_to_connect_hangs_until_the_link_is_whole(void **state)
{
    (void)state;
    set_up(1);
    sim_net_hang(&network, A, B, 3600 * TIME_NS_PER_S);
    connect_client();
    run_for(600 * TIME_NS_PER_S);
    assert_true(!client.connected && !client.closed && accepted_count == 0);
    sim_net_heal(&network);
    run_for(10 * TIME_NS_PER_S);
    assert_true(client.connected && accepted_count == 1);
    /* One that is given up doesn't come back. */
    net_abort(nets[A], client.stream);
    sim_net_hang(&network, A, B, world.now + 5 * TIME_NS_PER_S);
    client = (struct end){.net = nets[A]};
    connect_client();
    run_for(TIME_NS_PER_S);
    net_abort(nets[A], client.stream);
    run_for(60 * TIME_NS_PER_S);
    assert_true(accepted_count == 1 && !client.connected && !client.closed);
    tear_down();
}

static void test_a_slow_reader_makes_the_sender_queue(void **state)
{
    (void)state;
    set_up(1);
    connect_client();
    run_for(TIME_NS_PER_S);
    static uint8_t data[SIM_NET_WINDOW_BYTES + 300000];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)(i * 7 + i / 256);
    sim_net_slow(&network, B, 1000, 10 * TIME_NS_PER_MS, world.now + 2 * TIME_NS_PER_S);
    send_bytes(&client, data, sizeof data);
    run_for(TIME_NS_PER_S);
    assert_true(server.got.size > 20000 && server.got.size <= 110000);
    assert_true(net_queued_bytes(nets[A], client.stream) > 0 && !client.drained);
    run_for(10 * TIME_NS_PER_S);
    assert_true(client.drained && net_queued_bytes(nets[A], client.stream) == 0);
    assert_int_equal(server.got.size, sizeof data);
    assert_memory_equal(server.got.data, data, sizeof data);
    tear_down();
}

static size_t greetings_in(struct bytes bytes, uint32_t version_max)
{
    size_t count = 0, size;
    struct peer_frame frame;
    for (; peer_frame_next(bytes, &frame, &size) == ERR_OK; bytes = bytes_of(bytes.data + size, bytes.size - size)) {
        struct peer_greeting greeting;
        assert_int_equal(peer_greeting_decode(&frame, &greeting), ERR_OK);
        assert_int_equal(greeting.version_max, version_max);
        count++;
    }
    assert_int_equal(bytes.size, 0);
    return count;
}

/* Only streams to the peer port pass the box, only while it stands there, and it lets go of what it holds when links are healed. */
static void test_a_middle_box_stands_in_the_way_of_peers(void **state)
{
    (void)state;
    struct peer_greeting greeting = {.version_min = 1, .version_max = 1, .member = 7, .node_id = "a"};
    for (unsigned way = 0; way < 4; way++) {
        set_up(way + 1);
        network.peer_port = way == 3 ? 7001 : 7000;
        connect_client();
        run_for(TIME_NS_PER_S);
        struct buffer frame = {0};
        peer_greeting_encode(&greeting, &frame);
        struct sim_box_rules rules = {.greetings_too = true, .hold_max = 3600 * TIME_NS_PER_S};
        if (way == 0) rules.drop = 1000;
        if (way == 1) rules.duplicate = 1000;
        if (way >= 2) rules.hold = 1000;
        sim_net_meddle(&network, A, B, &rules, world.now + TIME_NS_PER_S);
        for (unsigned i = 0; i < 10; i++) send_bytes(&client, frame.data, frame.size);
        run_for(500 * TIME_NS_PER_MS);
        size_t now = greetings_in(buffer_bytes(&server.got), 1);
        static const size_t least[] = {0, 10, 0, 10}, most[] = {0, 19, 1, 10};
        assert_in_range(now, least[way], most[way]);
        sim_net_heal(&network);
        run_for(TIME_NS_PER_S);
        static const size_t in_the_end[] = {0, 20, 10, 10};
        assert_int_equal(greetings_in(buffer_bytes(&server.got), 1), in_the_end[way]);
        buffer_free(&frame);
        tear_down();
    }
}

static void test_a_host_greets_with_another_version(void **state)
{
    (void)state;
    struct peer_greeting greeting = {.version_min = 1, .version_max = 1, .member = 7, .node_id = "a"};
    set_up(1);
    network.peer_port = 7000;
    network.hosts[A].version_min = 2;
    network.hosts[A].version_max = 3;
    connect_client();
    run_for(TIME_NS_PER_S);
    struct buffer frame = {0};
    peer_greeting_encode(&greeting, &frame);
    send_bytes(&client, frame.data, frame.size);
    run_for(TIME_NS_PER_S);
    assert_int_equal(greetings_in(buffer_bytes(&server.got), 3), 1);
    buffer_free(&frame);
    tear_down();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_arrive_in_order_in_pieces),
        cmocka_unit_test(test_back_pressure_reaches_the_sender),
        cmocka_unit_test(test_close_delivers_what_was_written_and_abort_need_not),
        cmocka_unit_test(test_closing_within_a_callback),
        cmocka_unit_test(test_failed_connections),
        cmocka_unit_test(test_ports),
        cmocka_unit_test(test_a_partition_holds_bytes_back),
        cmocka_unit_test(test_a_clogged_link_is_late),
        cmocka_unit_test(test_a_killed_process_ends_its_streams),
        cmocka_unit_test(test_a_machine_without_power_is_silent),
        cmocka_unit_test(test_a_reset_reaches_both),
        cmocka_unit_test(test_a_half_open_connection_is_silent_and_a_new_one_works),
        cmocka_unit_test(test_an_attempt_to_connect_hangs_until_the_link_is_whole),
        cmocka_unit_test(test_a_slow_reader_makes_the_sender_queue),
        cmocka_unit_test(test_a_middle_box_stands_in_the_way_of_peers),
        cmocka_unit_test(test_a_host_greets_with_another_version),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
