/*
 * net_harness.h - a network with a listener, and ends of streams that check and note what they are told.
 *
 * Clients and servers live in one loop and one network; a plain socket plays the peer where it must misbehave.
 */
#ifndef CORACLE_TEST_OS_NET_HARNESS_H
#define CORACLE_TEST_OS_NET_HARNESS_H

#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/log.h"
#include "os/net.h"

#define STREAMS_MAX 5000

/* One end of a stream, as its user sees it. */
struct end {
    struct net_stream *stream; /* NULL once it is gone */
    struct buffer received;
    bool keep; /* what it receives */
    size_t received_count;
    bool connected;
    int drained;
    bool ended;
    bool closed;
    enum net_close_reason reason;
    void (*on_connected)(struct end *end);
    void (*on_received)(struct end *end, struct bytes bytes);
    void (*on_drained)(struct end *end);
    void (*on_closed)(struct end *end);
};

extern struct test {
    struct os_loop *loop;
    struct os_net *os_net;
    struct net *net;
    struct net_listener *listener;
    uint16_t port;
    bool within_call; /* no callback may come then */
    bool halves;      /* accepted streams are told of the end of the peer's direction */

    struct end clients[STREAMS_MAX];
    size_t client_count;
    struct end servers[STREAMS_MAX];
    size_t server_count;
    char peer[80];
    void (*on_accepted)(struct end *end); /* attached already */
    enum { ATTACH, CLOSE_WHEN_ACCEPTED, ABORT_WHEN_ACCEPTED, STOP_WHEN_ACCEPTED } accepting;

    bool (*until)(void);
    void (*on_turn_end)(void);
    int turns;
    int received_at_turn; /* the last time */

    struct logger logger;
    int warnings;
    char warning[256];
} test;

extern const struct net_listener_handler listener_handler;

/* The loop's handler, for a test that sets another one for a while; its user is `test`. */
extern const struct loop_handler loop_handler;

/* Set up `test` for each test, and take it down; a test that hangs is killed. */
int net_test_begin(void **state);
int net_test_finish(void **state);

/* These check that no callback comes from within the call. */
void write_bytes(struct end *end, const void *data, size_t size);
void write_text(struct end *end, const char *text);
void close_end(struct end *end);
void abort_end(struct end *end);

/* Runs the loop until the condition is true at the end of a turn; looks every 2 ms at least. */
void run_until(bool (*until)(void));

/* As run_until, but nothing besides the network wakes the loop. */
void run_events_until(bool (*until)(void));
void run_turns(int count);

/* The next of test.clients. */
struct end *connect_to(const char *host, uint16_t port);
struct end *connect_end(void);

/* A plain socket that the test plays the peer with; blocking. */
int connect_plain(void);
void reset_plain(int fd);

/* Conditions on the first client and the first server end. */
bool one_accepted(void);
bool client_connected(void);
bool client_closed(void);
bool server_closed(void);
bool pair_is_up(void);
bool nothing_is_open(void);

/* For the callbacks of an end. */
void keep_all(struct end *end);
void close_now(struct end *end);

/* A fresh array that the same seed fills alike; freed with mem_free. */
uint8_t *random_bytes(size_t size, uint64_t seed);

/* Reads until the end or an error, running the loop meanwhile; what recv returned last is in *last. */
size_t read_plain(int fd, uint8_t *out, size_t size_max, ssize_t *last);

#endif
