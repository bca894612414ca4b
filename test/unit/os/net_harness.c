#include "net_harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/random.h"

struct test test;

static void connected(void *user)
{
    struct end *end = user;
    assert_false(test.within_call);
    assert_false(end->connected || end->closed);
    end->connected = true;
    if (end->on_connected != NULL) end->on_connected(end);
}

static void received(void *user, struct bytes bytes)
{
    struct end *end = user;
    assert_false(test.within_call);
    assert_non_null(end->stream);
    assert_in_range(bytes.size, 1, NET_RECEIVE_BYTES);
    end->received_count += bytes.size;
    test.received_at_turn = test.turns;
    if (end->keep) buffer_append(&end->received, bytes.data, bytes.size);
    if (end->on_received != NULL) end->on_received(end, bytes);
}

static void drained(void *user)
{
    struct end *end = user;
    assert_false(test.within_call);
    assert_non_null(end->stream);
    end->drained++;
    assert_int_equal(net_queued_bytes(test.net, end->stream), 0);
    if (end->on_drained != NULL) end->on_drained(end);
}

static void ended(void *user)
{
    struct end *end = user;
    assert_false(end->ended || end->closed);
    end->ended = true;
}

static void closed(void *user, enum net_close_reason reason)
{
    struct end *end = user;
    assert_false(test.within_call);
    assert_non_null(end->stream);
    assert_false(end->closed);
    end->closed = true;
    end->reason = reason;
    end->stream = NULL;
    if (end->on_closed != NULL) end->on_closed(end);
}

static const struct net_stream_handler stream_handler = {
    .connected = connected, .received = received, .drained = drained, .closed = closed};

static const struct net_stream_handler halves_handler = {
    .connected = connected, .received = received, .drained = drained, .ended = ended, .closed = closed};

void write_bytes(struct end *end, const void *data, size_t size)
{
    struct bytes part = bytes_of(data, size);
    bool before = test.within_call;
    test.within_call = true;
    net_write(test.net, end->stream, &part, 1);
    test.within_call = before;
}

void write_text(struct end *end, const char *text)
{
    write_bytes(end, text, strlen(text));
}

void close_end(struct end *end)
{
    struct net_stream *stream = end->stream;
    end->stream = NULL;
    test.within_call = true;
    net_close(test.net, stream);
    test.within_call = false;
}

void abort_end(struct end *end)
{
    struct net_stream *stream = end->stream;
    end->stream = NULL;
    test.within_call = true;
    net_abort(test.net, stream);
    test.within_call = false;
}

static void accepted(void *user, struct net_stream *stream, const char *peer)
{
    assert_ptr_equal(user, &test);
    assert_false(test.within_call);
    struct end *end = &test.servers[test.server_count++];
    end->stream = stream;
    snprintf(test.peer, sizeof test.peer, "%s", peer);
    if (test.accepting == CLOSE_WHEN_ACCEPTED) {
        close_end(end);
    } else if (test.accepting == ABORT_WHEN_ACCEPTED) {
        abort_end(end);
    } else {
        test.within_call = true;
        net_attach(test.net, stream, test.halves ? &halves_handler : &stream_handler, end);
        test.within_call = false;
        if (test.on_accepted != NULL) test.on_accepted(end);
        if (test.accepting == STOP_WHEN_ACCEPTED) net_stop_listening(test.net, test.listener);
    }
}

const struct net_listener_handler listener_handler = {.accepted = accepted};

static void turn_end(void *user)
{
    (void)user;
    test.turns++;
    if (test.on_turn_end != NULL) test.on_turn_end();
    if (test.until != NULL && test.until()) loop_stop(os_loop_port(test.loop));
}

/* Conditions may come true without an event of the loop, so they are looked at now and then. */
static void look_again(void *user)
{
    (void)user;
    loop_set_timer(os_loop_port(test.loop), loop_now(os_loop_port(test.loop)) + 2 * TIME_NS_PER_MS);
}

const struct loop_handler loop_handler = {.timer = look_again, .turn_end = turn_end};

static void count_warning(struct logger *logger, enum log_level level, const char *event, const char *fields)
{
    (void)logger;
    assert_int_equal(level, LOG_LEVEL_WARN);
    test.warnings++;
    snprintf(test.warning, sizeof test.warning, "%s %s", event, fields);
}

void run_until(bool (*until)(void))
{
    test.until = until;
    look_again(NULL);
    os_loop_run(test.loop);
    loop_set_timer(os_loop_port(test.loop), TIME_NS_NEVER);
}

void run_events_until(bool (*until)(void))
{
    test.until = until;
    os_loop_run(test.loop);
}

static int turns_left;

static bool turns_are_over(void)
{
    return turns_left-- == 0;
}

void run_turns(int count)
{
    turns_left = count;
    run_until(turns_are_over);
}

int net_test_begin(void **state)
{
    (void)state;
    memset(&test, 0, sizeof test);
    alarm(100); /* a test that waits for ever fails */
    test.loop = os_loop_new(NULL, NULL);
    test.logger = (struct logger){.level = LOG_LEVEL_WARN, .write = count_warning};
    test.os_net = os_net_new(test.loop, &test.logger);
    test.net = os_net_port(test.os_net);
    loop_attach(os_loop_port(test.loop), &loop_handler, &test);
    assert_int_equal(net_listen(test.net, "127.0.0.1", 0, &listener_handler, &test, &test.listener), ERR_OK);
    test.port = net_listener_port(test.net, test.listener);
    assert_int_not_equal(test.port, 0);
    return 0;
}

int net_test_finish(void **state)
{
    (void)state;
    os_net_free(test.os_net);
    os_loop_free(test.loop);
    for (size_t i = 0; i < test.client_count; i++) buffer_free(&test.clients[i].received);
    for (size_t i = 0; i < test.server_count; i++) buffer_free(&test.servers[i].received);
    return 0;
}

struct end *connect_to(const char *host, uint16_t port)
{
    struct end *end = &test.clients[test.client_count++];
    end->keep = true;
    test.within_call = true;
    end->stream = net_connect(test.net, host, port, &stream_handler, end);
    test.within_call = false;
    assert_non_null(end->stream);
    return end;
}

struct end *connect_end(void)
{
    return connect_to("127.0.0.1", test.port);
}

int connect_plain(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(test.port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

void reset_plain(int fd)
{
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
    close(fd);
}

bool one_accepted(void)
{
    return test.server_count == 1;
}

bool client_connected(void)
{
    return test.clients[0].connected;
}

bool client_closed(void)
{
    return test.clients[0].closed;
}

bool server_closed(void)
{
    return test.servers[0].closed;
}

bool pair_is_up(void)
{
    return test.server_count == 1 && test.clients[0].connected;
}

bool nothing_is_open(void)
{
    return os_net_stream_count(test.os_net) == 0;
}

uint8_t *random_bytes(size_t size, uint64_t seed)
{
    struct random random;
    random_seed(&random, seed);
    uint8_t *data = mem_alloc(size + 8);
    for (size_t i = 0; i < size; i += 8) put_u64(data + i, random_u64(&random));
    return data;
}

size_t read_plain(int fd, uint8_t *out, size_t size_max, ssize_t *last)
{
    size_t total = 0;
    for (;;) {
        *last = recv(fd, out + total, size_max - total, MSG_DONTWAIT);
        if (*last > 0) {
            total += (size_t)*last;
        } else if (*last < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            run_turns(1);
        } else {
            return total;
        }
    }
}

void keep_all(struct end *end)
{
    end->keep = true;
}

void close_now(struct end *end)
{
    close_end(end);
}
