#define _GNU_SOURCE 1
#include "cli/bench_load.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/random.h"
#include "cli/cli.h"

#define EVENTS_MAX 256
#define HEAD_BYTES_MAX 4096u
#define RECONNECT_PAUSE (50 * TIME_NS_PER_MS)
#define FAILURE_PAUSE                                                                                                  \
    (5 * TIME_NS_PER_MS) /* after an answer that isn't one, so that a cluster without a leader isn't hammered */
#define SILENCE_MAX (30 * TIME_NS_PER_S)
#define PROGRESS_INTERVAL (1 * TIME_NS_PER_S)

enum connection_state { CONNECTION_CONNECTING, CONNECTION_WAITING, CONNECTION_RESTING, CONNECTION_DONE };

struct connection {
    int fd; /* -1: none */
    enum connection_state state;
    uint32_t number;
    uint32_t endpoint;
    time_ns rest_until; /* of RESTING */
    time_ns started;    /* the request under way */
    bool is_put;
    bool again;        /* RESTING: the key under way comes again (fill and verify) */
    uint64_t key;      /* of the request under way */
    uint64_t next_key; /* of fill and verify */
    struct buffer put; /* a whole request, in which key and value are replaced */
    struct buffer get;
    size_t sent, size; /* of the request under way */
    bool waits_to_send;
    const uint8_t *bytes;
    struct buffer received;
};

struct load {
    const struct bench_load_options *options;
    struct bench_load_result *result;
    struct sockaddr_storage addresses[CLIENT_ENDPOINTS_MAX];
    socklen_t address_sizes[CLIENT_ENDPOINTS_MAX];
    struct connection *connections;
    uint32_t resting_count, done_count;
    int epoll;
    struct random random;
    uint64_t begun; /* requests */
    time_ns now;
    time_ns start;
    time_ns last_good;
    bool ending; /* no new requests */
};

static volatile sig_atomic_t interrupted;

static void interrupt(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

static time_ns clock_now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (time_ns)at.tv_sec * TIME_NS_PER_S + at.tv_nsec;
}

static time_ns cpu_now(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return ((time_ns)usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * TIME_NS_PER_S +
           ((time_ns)usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000;
}

/* ---- requests ---- */

static void prepare_requests(struct load *load, struct connection *connection)
{
    const struct client_endpoint *endpoint = &load->options->endpoints[connection->endpoint];
    uint32_t value_bytes = load->options->content->value_bytes;
    char key[BENCH_KEY_BYTES + 1] = "";
    memset(key, '0', BENCH_KEY_BYTES);
    buffer_clear(&connection->put);
    buffer_append_format(&connection->put,
                         "POST /v1/data HTTP/1.1\r\nHost: %s:%u\r\nContent-Type: application/json\r\n"
                         "Content-Length: %u\r\n\r\n{\"k\":\"%s\",\"v\":\"",
                         endpoint->host, endpoint->port,
                         (unsigned)(strlen("{\"k\":\"\",\"v\":\"\"}") + BENCH_KEY_BYTES + value_bytes), key);
    for (uint32_t i = 0; i < value_bytes; i++) buffer_append_byte(&connection->put, '.');
    buffer_append_string(&connection->put, "\"}");
    buffer_clear(&connection->get);
    buffer_append_format(&connection->get, "GET /v1/data/%s HTTP/1.1\r\nHost: %s:%u\r\n\r\n", key, endpoint->host,
                         endpoint->port);
}

static bool is_each_key_once(const struct load *load)
{
    return load->options->operation == BENCH_FILL || load->options->operation == BENCH_VERIFY;
}

/* A random key of those that are the connection's: every connection_count-th from its number on. */
static uint64_t random_key(struct load *load, const struct connection *connection)
{
    uint64_t stride = load->options->connection_count;
    uint64_t own = (load->options->content->key_count - connection->number + stride - 1) / stride;
    return connection->number + random_below(&load->random, own) * stride;
}

/* Chooses what the connection asks for next. False: nothing, it is done. */
static bool choose_request(struct load *load, struct connection *connection)
{
    const struct bench_load_options *options = load->options;
    if (connection->again) {
        connection->again = false;
        return !load->ending;
    }
    if (is_each_key_once(load)) {
        if (load->ending || connection->next_key >= options->content->key_count) return false;
        connection->key = connection->next_key;
        connection->next_key += options->connection_count;
        connection->is_put = options->operation == BENCH_FILL;
        return true;
    }
    if (load->ending || (options->count > 0 && load->begun >= options->count)) return false;
    load->begun++;
    connection->key = random_key(load, connection);
    connection->is_put = options->operation == BENCH_PUT || (options->operation == BENCH_MIXED &&
                                                             random_below(&load->random, 100) >= options->read_percent);
    return true;
}

static void fill_request(struct load *load, struct connection *connection)
{
    struct bench_content *content = load->options->content;
    if (connection->is_put) {
        size_t value_at = connection->put.size - 2 - content->value_bytes;
        bench_key(connection->key, (char *)connection->put.data + value_at - strlen("\",\"v\":\"") - BENCH_KEY_BYTES);
        bench_content_next_value(content, connection->key, (char *)connection->put.data + value_at);
        connection->bytes = connection->put.data;
        connection->size = connection->put.size;
    } else {
        bench_key(connection->key, (char *)connection->get.data + strlen("GET /v1/data/"));
        connection->bytes = connection->get.data;
        connection->size = connection->get.size;
    }
    connection->sent = 0;
}

/* ---- connections ---- */

static void watch(struct load *load, struct connection *connection, uint32_t events, int operation)
{
    struct epoll_event event = {.events = events, .data.ptr = connection};
    CHECK(epoll_ctl(load->epoll, operation, connection->fd, &event) == 0);
}

static void rest(struct load *load, struct connection *connection, time_ns pause)
{
    connection->state = CONNECTION_RESTING;
    connection->rest_until = load->now + pause;
    load->resting_count++;
}

static void drop(struct connection *connection)
{
    if (connection->fd >= 0) close(connection->fd);
    connection->fd = -1;
    buffer_clear(&connection->received);
}

static void connect_endpoint(struct load *load, struct connection *connection)
{
    const struct sockaddr *address = (const struct sockaddr *)&load->addresses[connection->endpoint];
    connection->fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connection->fd < 0) {
        perror("coracle: socket");
        exit(CLI_FAILED);
    }
    int on = 1;
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    prepare_requests(load, connection);
    if (connect(connection->fd, address, load->address_sizes[connection->endpoint]) != 0 && errno != EINPROGRESS) {
        drop(connection);
        connection->endpoint = (connection->endpoint + 1) % load->options->endpoint_count;
        rest(load, connection, RECONNECT_PAUSE);
        return;
    }
    connection->state = CONNECTION_CONNECTING;
    connection->waits_to_send = false;
    watch(load, connection, EPOLLOUT, EPOLL_CTL_ADD);
}

/* The connection failed, perhaps with a request under way. */
static void connection_broke(struct load *load, struct connection *connection)
{
    if (connection->state == CONNECTION_WAITING) {
        load->result->broken++;
        if (connection->is_put) bench_content_unknown(load->options->content, connection->key);
        connection->again = is_each_key_once(load);
    }
    drop(connection);
    connection->endpoint = (connection->endpoint + 1) % load->options->endpoint_count;
    rest(load, connection, RECONNECT_PAUSE);
}

static void send_more(struct load *load, struct connection *connection)
{
    ssize_t sent =
        send(connection->fd, connection->bytes + connection->sent, connection->size - connection->sent, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
        connection_broke(load, connection);
        return;
    }
    if (sent > 0) connection->sent += (size_t)sent;
    bool partial = connection->sent < connection->size;
    if (partial != connection->waits_to_send) {
        watch(load, connection, partial ? EPOLLIN | EPOLLOUT : EPOLLIN, EPOLL_CTL_MOD);
        connection->waits_to_send = partial;
    }
}

static void begin_request(struct load *load, struct connection *connection)
{
    if (!choose_request(load, connection)) {
        drop(connection);
        connection->state = CONNECTION_DONE;
        load->done_count++;
        return;
    }
    fill_request(load, connection);
    connection->state = CONNECTION_WAITING;
    connection->started = load->now;
    send_more(load, connection);
}

/* ---- answers ---- */

struct answer {
    int status;
    size_t head_bytes, body_bytes;
    bool close;
};

static uint64_t parse_decimal(const uint8_t *at, const uint8_t *end)
{
    uint64_t value = 0;
    while (at < end && *at == ' ') at++;
    for (; at < end && *at >= '0' && *at <= '9'; at++) value = value * 10 + (uint64_t)(*at - '0');
    return value;
}

/* 1: complete; 0: more is needed; -1: it is no answer. */
static int read_answer(struct bytes bytes, struct answer *out)
{
    const uint8_t *end = bytes.size > 0 ? memmem(bytes.data, bytes.size, "\r\n\r\n", 4) : NULL;
    if (end == NULL) return bytes.size > HEAD_BYTES_MAX ? -1 : 0;
    if (bytes.size < 12 || memcmp(bytes.data, "HTTP/1.1 ", 9) != 0) return -1;
    *out = (struct answer){.status = (int)parse_decimal(bytes.data + 9, bytes.data + 12)};
    out->head_bytes = (size_t)(end - bytes.data) + 4;
    for (const uint8_t *line = bytes.data; line < end;) {
        const uint8_t *line_end = memchr(line, '\n', (size_t)(end + 2 - line));
        size_t size = (size_t)(line_end - line);
        if (size > 15 && strncasecmp((const char *)line, "content-length:", 15) == 0) {
            out->body_bytes = parse_decimal(line + 15, line_end);
        } else if (size > 17 && strncasecmp((const char *)line, "connection: close", 17) == 0) {
            out->close = true;
        }
        line = line_end + 1;
    }
    return bytes.size >= out->head_bytes + out->body_bytes ? 1 : 0;
}

/* The text between "v":" and the next quote; our values need no escapes, so one that has them isn't ours. */
static struct bytes value_in(struct bytes body)
{
    static const char before[] = "\"v\":\"";
    const uint8_t *at = body.size > 0 ? memmem(body.data, body.size, before, sizeof before - 1) : NULL;
    if (at == NULL) return bytes_of("", 0);
    at += sizeof before - 1;
    const uint8_t *end = memchr(at, '"', (size_t)(body.data + body.size - at));
    return end != NULL ? bytes_of(at, (size_t)(end - at)) : bytes_of("", 0);
}

static void judge(struct load *load, const struct connection *connection, bool there, struct bytes body)
{
    struct bench_load_result *result = load->result;
    struct bytes value = there ? value_in(body) : bytes_of(NULL, 0);
    enum bench_verdict verdict = bench_content_judge(load->options->content, connection->key, value);
    if (verdict == BENCH_GOOD) return;
    if (result->bad < BENCH_BAD_SHOWN) {
        result->bad_shown[result->bad].number = connection->key;
        result->bad_shown[result->bad].verdict = verdict;
    }
    result->bad++;
}

/* Takes the answer into account. True when it was a good one. */
static bool take_answer(struct load *load, struct connection *connection, const struct answer *answer,
                        struct bytes body)
{
    struct bench_load_result *result = load->result;
    bool missing = answer->status == 404 && !connection->is_put;
    if (answer->status == 200 || missing) {
        result->good++;
        result->missing += missing;
        histogram_add(&result->latency, (uint64_t)(load->now - connection->started));
        load->last_good = load->now;
        if (load->options->operation == BENCH_VERIFY) judge(load, connection, !missing, body);
        return true;
    }
    if (result->failed++ == 0) result->first_failed_status = answer->status;
    if (connection->is_put) bench_content_unknown(load->options->content, connection->key);
    connection->again = is_each_key_once(load);
    return false;
}

static void receive(struct load *load, struct connection *connection)
{
    struct buffer *received = &connection->received;
    buffer_reserve(received, HEAD_BYTES_MAX);
    ssize_t got = recv(connection->fd, received->data + received->size, received->capacity - received->size, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
        connection_broke(load, connection);
        return;
    }
    received->size += (size_t)got;
    struct answer answer;
    int complete = read_answer(buffer_bytes(received), &answer);
    if (complete == 0) return;
    if (complete < 0) {
        connection_broke(load, connection);
        return;
    }
    load->now = clock_now();
    bool good = take_answer(load, connection, &answer, bytes_of(received->data + answer.head_bytes, answer.body_bytes));
    buffer_clear(received);
    if (answer.close) drop(connection);
    if (answer.close || !good) {
        rest(load, connection, FAILURE_PAUSE);
    } else {
        begin_request(load, connection);
    }
}

static void connected(struct load *load, struct connection *connection)
{
    int failure = 0;
    socklen_t size = sizeof failure;
    getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &failure, &size);
    if (failure != 0) {
        connection_broke(load, connection);
        return;
    }
    watch(load, connection, EPOLLIN, EPOLL_CTL_MOD);
    begin_request(load, connection);
}

static void handle_event(struct load *load, struct connection *connection, uint32_t events)
{
    if (connection->fd < 0) return; /* closed by an event before this one */
    if (connection->state == CONNECTION_CONNECTING) {
        connected(load, connection);
    } else if (connection->state == CONNECTION_WAITING) {
        if (events & EPOLLOUT && connection->sent < connection->size) send_more(load, connection);
        if (connection->fd >= 0 && events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(load, connection);
    } else {
        drop(connection); /* the server ended a connection that rests */
    }
}

static void wake_resting(struct load *load)
{
    for (uint32_t i = 0; i < load->options->connection_count && load->resting_count > 0; i++) {
        struct connection *connection = &load->connections[i];
        if (connection->state != CONNECTION_RESTING || connection->rest_until > load->now) continue;
        load->resting_count--;
        if (connection->fd < 0) {
            connect_endpoint(load, connection);
        } else {
            begin_request(load, connection);
        }
    }
}

/* ---- the whole ---- */

static bool resolve(struct load *load)
{
    for (uint32_t i = 0; i < load->options->endpoint_count; i++) {
        const struct client_endpoint *endpoint = &load->options->endpoints[i];
        struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
        struct addrinfo *found;
        char port[8];
        snprintf(port, sizeof port, "%u", endpoint->port);
        int failure = getaddrinfo(endpoint->host, port, &hints, &found);
        if (failure != 0) {
            cli_fail(CLI_FAILED, "%s: %s", endpoint->host, gai_strerror(failure));
            return false;
        }
        /* "localhost" is often ::1 first, where nobody listens. */
        const struct addrinfo *chosen = found;
        for (const struct addrinfo *at = found; at != NULL; at = at->ai_next) {
            if (at->ai_family != AF_INET) continue;
            chosen = at;
            break;
        }
        memcpy(&load->addresses[i], chosen->ai_addr, chosen->ai_addrlen);
        load->address_sizes[i] = chosen->ai_addrlen;
        freeaddrinfo(found);
    }
    return true;
}

struct progress {
    time_ns next;
    uint64_t good;
};

static void show_progress(const struct load *load, struct progress *progress)
{
    if (!load->options->progress || load->now < progress->next) return;
    double seconds = (double)(load->now - progress->next + PROGRESS_INTERVAL) / (double)TIME_NS_PER_S;
    fprintf(stderr, "\r%6.1f s  %9.0f/s  p50 %.3f ms  p99 %.3f ms  failed %llu  broken %llu   ",
            (double)(load->now - load->start) / (double)TIME_NS_PER_S,
            (double)(load->result->good - progress->good) / seconds,
            (double)histogram_percentile(&load->result->latency, 500000) / 1e6,
            (double)histogram_percentile(&load->result->latency, 990000) / 1e6,
            (unsigned long long)load->result->failed, (unsigned long long)load->result->broken);
    progress->good = load->result->good;
    progress->next = load->now + PROGRESS_INTERVAL;
}

/* True until all connections are done. */
static bool turn(struct load *load)
{
    const struct bench_load_options *options = load->options;
    struct epoll_event events[EVENTS_MAX];
    int timeout_ms = load->resting_count > 0 ? 2 : 100;
    int count = epoll_wait(load->epoll, events, EVENTS_MAX, timeout_ms);
    load->now = clock_now();
    if (options->duration > 0 && load->now - load->start >= options->duration) load->ending = true;
    if (interrupted || load->now - load->last_good > SILENCE_MAX) return false;
    for (int i = 0; i < count; i++) handle_event(load, events[i].data.ptr, events[i].events);
    if (load->resting_count > 0) wake_resting(load);
    return load->done_count < options->connection_count;
}

static void start_connections(struct load *load)
{
    const struct bench_load_options *options = load->options;
    load->connections = mem_alloc_zero(options->connection_count * sizeof *load->connections);
    for (uint32_t i = 0; i < options->connection_count; i++) {
        struct connection *connection = &load->connections[i];
        connection->number = i;
        connection->next_key = i;
        connection->endpoint = options->spread ? i % options->endpoint_count : 0;
        connect_endpoint(load, connection);
    }
}

static void free_connections(struct load *load)
{
    for (uint32_t i = 0; i < load->options->connection_count; i++) {
        struct connection *connection = &load->connections[i];
        bool unknown = connection->state == CONNECTION_WAITING && connection->is_put;
        if (unknown) bench_content_unknown(load->options->content, connection->key);
        drop(connection);
        buffer_free(&connection->put);
        buffer_free(&connection->get);
        buffer_free(&connection->received);
    }
    mem_free(load->connections);
}

bool bench_load_run(const struct bench_load_options *options, struct bench_load_result *out)
{
    struct load load = {.options = options, .result = out};
    *out = (struct bench_load_result){0};
    CHECK(options->connection_count > 0 && options->connection_count <= options->content->key_count);
    CHECK(options->endpoint_count > 0 && options->endpoint_count <= CLIENT_ENDPOINTS_MAX);
    if (!resolve(&load)) return false;
    load.epoll = epoll_create1(EPOLL_CLOEXEC);
    CHECK(load.epoll >= 0);
    random_seed(&load.random, options->seed);
    interrupted = 0;
    struct sigaction action = {.sa_handler = interrupt};
    struct sigaction before;
    sigaction(SIGINT, &action, &before);

    time_ns cpu = cpu_now();
    load.now = load.start = load.last_good = clock_now();
    struct progress progress = {.next = load.start + PROGRESS_INTERVAL};
    start_connections(&load);
    while (turn(&load)) show_progress(&load, &progress);
    out->elapsed = clock_now() - load.start;
    out->cpu = cpu_now() - cpu;
    if (options->progress) fputs("\r\033[K", stderr);

    bool done = load.done_count == options->connection_count;
    free_connections(&load);
    close(load.epoll);
    sigaction(SIGINT, &before, NULL);
    return done;
}
