/*
 * client.c - wire/http2_client on a real socket, for a server that knows nothing of it.
 *
 *     grpc_client PORT    calls the server on 127.0.0.1, checks what it answers, prints how many calls were right, and exits 0 if all were
 *
 * The server echoes: /t.T/Echo each message, until the client ends; /t.T/Fail fails with code 5 and "no: 100% über".
 */
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/random.h"
#include "wire/http2_client.h"

#define CALLS 400u
#define AT_ONCE 150u
#define MESSAGES_MAX 5u

struct call {
    struct buffer sent, received; /* all messages, one after the other */
    uint32_t messages_left;
    bool fails;
};

struct rig {
    struct http2_client *client;
    struct random random;
    uint32_t opened, closed, under_way;
};

static size_t size_of_message(struct random *random)
{
    return random_below(random, random_below(random, 20) == 0 ? 1024 * 1024 : 2000);
}

static void send_one(struct rig *rig, struct http2_client_call *http2_call, struct call *call)
{
    size_t size = size_of_message(&rig->random);
    uint8_t *message = mem_alloc(size + 1);
    for (size_t i = 0; i < size; i++) message[i] = (uint8_t)(i * 7 + rig->opened);
    buffer_append(&call->sent, message, size);
    http2_client_send(http2_call, bytes_of(message, size));
    mem_free(message);
    if (--call->messages_left == 0) http2_client_end(http2_call);
}

static void open_one(struct rig *rig)
{
    struct call *call = mem_alloc_zero(sizeof *call);
    call->fails = rig->opened % 10 == 0;
    call->messages_left = 1 + (uint32_t)random_below(&rig->random, MESSAGES_MAX);
    const char *path = call->fails ? "/t.T/Fail" : "/t.T/Echo";
    struct http2_client_call *http2_call =
        http2_client_open(rig->client, bytes_of_string(path), 3600 * TIME_NS_PER_S, NULL, 0, call);
    rig->opened++;
    rig->under_way++;
    send_one(rig, http2_call, call);
}

static void on_message(void *user, struct http2_client_call *http2_call, struct bytes message)
{
    struct rig *rig = user;
    struct call *call = http2_client_call_user(http2_call);
    if (message.size > 0) buffer_append(&call->received, message.data, message.size);
    if (call->messages_left > 0) send_one(rig, http2_call, call);
}

static void on_drained(void *user, struct http2_client_call *http2_call)
{
    (void)user;
    (void)http2_call;
}

static void on_closed(void *user, struct http2_client_call *http2_call, const struct http2_client_outcome *outcome)
{
    struct rig *rig = user;
    struct call *call = http2_client_call_user(http2_call);
    CHECK(outcome->answered);
    CHECK(outcome->status == (call->fails ? GRPC_NOT_FOUND : GRPC_OK));
    if (call->fails) {
        CHECK(bytes_equal(outcome->text, bytes_of_string("no: 100% \xc3\xbc"
                                                         "ber")));
    } else {
        CHECK(bytes_equal(buffer_bytes(&call->sent), buffer_bytes(&call->received)));
    }
    buffer_free(&call->sent);
    buffer_free(&call->received);
    mem_free(call);
    rig->closed++;
    rig->under_way--;
}

static const struct http2_client_handler handler = {.message = on_message, .drained = on_drained, .closed = on_closed};

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int connection = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(connect(connection, (struct sockaddr *)&address, sizeof address) == 0);

    struct rig rig = {.client = http2_client_new("127.0.0.1", 2048 * 1024, &handler, &rig)};
    random_seed(&rig.random, 1);
    struct buffer out = {0};
    size_t out_at = 0;
    static uint8_t in[65536];
    while (rig.closed < CALLS) {
        while (rig.opened < CALLS && rig.under_way < AT_ONCE) open_one(&rig);
        if (out_at == out.size) {
            buffer_clear(&out);
            out_at = 0;
            http2_client_out(rig.client, &out, 65536);
        }
        struct pollfd poll_one = {.fd = connection, .events = (short)(POLLIN | (out.size > out_at ? POLLOUT : 0))};
        CHECK(poll(&poll_one, 1, -1) == 1);
        if (poll_one.revents & POLLOUT) {
            ssize_t size = send(connection, out.data + out_at, out.size - out_at, MSG_DONTWAIT);
            CHECK(size > 0);
            out_at += (size_t)size;
        }
        if (poll_one.revents & (POLLIN | POLLHUP)) {
            ssize_t size = read(connection, in, sizeof in);
            CHECK(size > 0);
            http2_client_feed(rig.client, bytes_of(in, (size_t)size));
        }
    }
    http2_client_free(rig.client);
    buffer_free(&out);
    close(connection);
    printf("%u calls\n", rig.closed);
    return 0;
}
