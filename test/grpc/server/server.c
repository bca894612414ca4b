/*
 * server.c - wire/grpc on real sockets and the real clock, for clients that know nothing of it.
 *
 *     grpc_server        listens on a free port of 127.0.0.1, prints it, and runs until its standard input ends
 *
 *     /t.T/Unary         answers with the message
 *     /t.T/Echo          answers each message with itself, until the client ends
 *     /t.T/Fail          fails with code 5 and "no: 100% über"
 *     /t.T/Info          answers "timeout_ms=N hasleader=0|1 token=…"
 *     /t.T/Stream        the message is two numbers, "COUNT SIZE": answers with so many messages of that size, each filled with its number
 *     /t.T/Silent        never answers
 *     /t.T/Hold          holds the call for ever
 *     /t.T/Shutdown      answers as Unary, and begins the graceful end of the connection
 *     GET /closed        how many calls were closed without an answer
 *     GET /memory        the most memory that a connection had
 * *     anything else      answers with the body, or the path where there is none
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "wire/grpc.h"

#define CONNECTIONS_MAX 64u
#define READ_BYTES 65536u
#define OUT_BYTES_MAX 65536u
#define STREAM_MARK_BYTES 16384u

struct connection {
    int socket;
    struct grpc *grpc;
    struct buffer out;
    size_t out_at;
};

struct server {
    int listener;
    struct connection connections[CONNECTIONS_MAX];
    uint32_t connection_count;
    uint64_t closed_count;
    size_t memory_max;
};

enum method { UNARY, ECHO, FAIL, INFO, STREAM, SILENT, HOLD, SHUTDOWN, UNKNOWN };
static const char *const paths[] = {"/t.T/Unary",  "/t.T/Echo",   "/t.T/Fail", "/t.T/Info",
                                    "/t.T/Stream", "/t.T/Silent", "/t.T/Hold", "/t.T/Shutdown"};

struct call {
    enum method method;
    struct buffer info;
    unsigned long count, size, next; /* of STREAM */
};

static time_ns clock_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * TIME_NS_PER_S + now.tv_nsec;
}

static void on_call(void *user, struct grpc_call *grpc_call, const struct grpc_request *request)
{
    (void)user;
    struct call *call = mem_alloc_zero(sizeof *call);
    grpc_call_set_user(grpc_call, call);
    call->method = UNKNOWN;
    for (size_t i = 0; i < ARRAY_COUNT(paths); i++) {
        if (bytes_equal(request->path, bytes_of_string(paths[i]))) call->method = (enum method)i;
    }
    if (call->method == UNKNOWN) grpc_call_finish(grpc_call, GRPC_UNIMPLEMENTED, bytes_of_string("unknown method"));
    if (call->method == FAIL) {
        grpc_call_finish(grpc_call, GRPC_NOT_FOUND,
                         bytes_of_string("no: 100% \xc3\xbc"
                                         "ber"));
    }
    if (call->method == HOLD) grpc_call_hold(grpc_call);
    buffer_append_format(&call->info, "timeout_ms=%lld hasleader=%d token=%.*s",
                         request->timeout == TIME_NS_NEVER ? -1LL : (long long)(request->timeout / TIME_NS_PER_MS),
                         request->has_leader, (int)request->token.size, (const char *)request->token.data);
}

static void send_more(struct grpc_call *grpc_call, struct call *call)
{
    while (call->next < call->count && grpc_call_waiting_bytes(grpc_call) <= STREAM_MARK_BYTES) {
        struct buffer *out = grpc_call_send_buffer(grpc_call);
        buffer_reserve(out, call->size);
        memset(out->data + out->size, (int)(call->next & 255), call->size);
        out->size += call->size;
        grpc_call_sent(grpc_call);
        call->next++;
    }
    if (call->next == call->count)
        grpc_call_finish(grpc_call, GRPC_OK, (struct bytes){0});
    else
        grpc_call_set_mark(grpc_call, STREAM_MARK_BYTES);
}

static void on_message(void *user, struct grpc_call *grpc_call, struct bytes message)
{
    (void)user;
    struct call *call = grpc_call_user(grpc_call);
    switch (call->method) {
    case UNARY:
    case INFO:
    case SHUTDOWN:
        if (call->method == SHUTDOWN) http2_shutdown(grpc_http2(grpc_call_connection(grpc_call)));
        grpc_call_send(grpc_call, call->method == INFO ? buffer_bytes(&call->info) : message);
        grpc_call_finish(grpc_call, GRPC_OK, (struct bytes){0});
        break;
    case ECHO:
        grpc_call_send(grpc_call, message);
        break;
    case STREAM: {
        char text[40] = {0};
        memcpy(text, message.data, message.size < sizeof text - 1 ? message.size : sizeof text - 1);
        CHECK(sscanf(text, "%lu %lu", &call->count, &call->size) == 2);
        send_more(grpc_call, call);
        break;
    }
    default:
        break;
    }
}

static void on_half_closed(void *user, struct grpc_call *grpc_call)
{
    (void)user;
    struct call *call = grpc_call_user(grpc_call);
    if (call->method == ECHO) grpc_call_finish(grpc_call, GRPC_OK, (struct bytes){0});
}

static void on_drained(void *user, struct grpc_call *grpc_call)
{
    (void)user;
    send_more(grpc_call, grpc_call_user(grpc_call));
}

static void on_closed(void *user, struct grpc_call *grpc_call, uint32_t error)
{
    struct server *server = user;
    struct call *call = grpc_call_user(grpc_call);
    if (error != HTTP2_NO_ERROR) server->closed_count++;
    buffer_free(&call->info);
    mem_free(call);
}

static void on_http_request(void *user, struct http2_stream *stream, const struct http1_request *request)
{
    struct server *server = user;
    struct buffer body = {0};
    struct bytes path = request->path;
    if (bytes_equal(path, bytes_of_string("/closed"))) {
        buffer_append_decimal(&body, server->closed_count);
    } else if (bytes_equal(path, bytes_of_string("/memory"))) {
        buffer_append_decimal(&body, server->memory_max);
    } else {
        struct bytes echo = request->body.size > 0 ? request->body : path;
        buffer_append(&body, echo.data, echo.size);
    }
    http2_respond(stream, 200, "text/plain", "", buffer_bytes(&body), request->method == HTTP1_HEAD);
    buffer_free(&body);
}

static void on_http_drained(void *user, struct http2_stream *stream)
{
    (void)user;
    (void)stream;
}

static void on_http_closed(void *user, struct http2_stream *stream, uint32_t error)
{
    (void)user;
    (void)stream;
    (void)error;
}

static const struct grpc_handler owner = {
    .call = on_call,
    .message = on_message,
    .half_closed = on_half_closed,
    .drained = on_drained,
    .closed = on_closed,
    .http_request = on_http_request,
    .http_drained = on_http_drained,
    .http_closed = on_http_closed,
};

static void accept_one(struct server *server)
{
    int socket = accept(server->listener, NULL, NULL);
    if (socket < 0) return;
    CHECK(server->connection_count < CONNECTIONS_MAX);
    fcntl(socket, F_SETFL, O_NONBLOCK);
    struct grpc_limits limits = grpc_limits_default();
    server->connections[server->connection_count++] =
        (struct connection){.socket = socket, .grpc = grpc_new(&limits, &owner, server, clock_now())};
}

/* False when the connection is at its end. */
static bool read_some(struct connection *connection)
{
    static uint8_t memory[READ_BYTES];
    ssize_t size = read(connection->socket, memory, sizeof memory);
    if (size < 0) return errno == EAGAIN;
    if (size == 0) return false;
    grpc_feed(connection->grpc, bytes_of(memory, (size_t)size), clock_now());
    return true;
}

static bool write_some(struct connection *connection)
{
    for (;;) {
        if (connection->out_at == connection->out.size) {
            buffer_clear(&connection->out);
            connection->out_at = 0;
            grpc_out(connection->grpc, &connection->out, OUT_BYTES_MAX, clock_now());
            if (connection->out.size == 0) return !http2_done(grpc_http2(connection->grpc));
        }
        ssize_t size = write(connection->socket, connection->out.data + connection->out_at,
                             connection->out.size - connection->out_at);
        if (size < 0) return errno == EAGAIN;
        connection->out_at += (size_t)size;
    }
}

static void drop(struct server *server, uint32_t i)
{
    struct connection *connection = &server->connections[i];
    close(connection->socket);
    grpc_free(connection->grpc);
    buffer_free(&connection->out);
    *connection = server->connections[--server->connection_count];
}

static void run(struct server *server)
{
    for (;;) {
        struct pollfd polls[CONNECTIONS_MAX + 2] = {{.fd = server->listener, .events = POLLIN},
                                                    {.fd = 0, .events = POLLIN}};
        for (uint32_t i = 0; i < server->connection_count; i++) {
            struct connection *connection = &server->connections[i];
            bool blocked = connection->out_at < connection->out.size;
            polls[i + 2] =
                (struct pollfd){.fd = connection->socket, .events = (short)(POLLIN | (blocked ? POLLOUT : 0))};
        }
        CHECK(poll(polls, server->connection_count + 2, -1) > 0 || errno == EINTR);
        if (polls[1].revents != 0) return;
        for (uint32_t i = server->connection_count; i-- > 0;) {
            struct connection *connection = &server->connections[i];
            bool alive = polls[i + 2].revents == 0 || read_some(connection);
            size_t memory = grpc_memory_bytes(connection->grpc);
            if (memory > server->memory_max) server->memory_max = memory;
            if (!alive || !write_some(connection)) drop(server, i);
        }
        if (polls[0].revents != 0) accept_one(server);
    }
}

int main(void)
{
    struct server server = {.listener = socket(AF_INET, SOCK_STREAM, 0)};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    CHECK(server.listener >= 0);
    CHECK(bind(server.listener, (struct sockaddr *)&address, size) == 0);
    CHECK(listen(server.listener, 64) == 0);
    CHECK(getsockname(server.listener, (struct sockaddr *)&address, &size) == 0);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    run(&server);
    while (server.connection_count > 0) drop(&server, 0);
    close(server.listener);
    return 0;
}
