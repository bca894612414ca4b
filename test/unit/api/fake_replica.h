/*
 * fake_replica.h - a replica that is only a store and a status that a test may set; and one client of it.
 */
#ifndef CORACLE_TEST_FAKE_REPLICA_H
#define CORACLE_TEST_FAKE_REPLICA_H

#include "api/api.h"

struct replica {
    struct store *store;
    struct replica_status status;
};

struct fixture {
    struct replica replica;
    struct api_host host;
    struct api api;
    struct http1_parser *parser;
    struct api_call call;
    struct buffer out;
    uint32_t refreshed; /* how often the host was asked for figures */

    /* How the next proposal or read ends. */
    enum error error;
    /* What the last request led to. */
    enum api_wait wait;
    enum command_kind proposed; /* 0: nothing */
};

void fixture_open(struct fixture *fixture);
void fixture_close(struct fixture *fixture);

/* Sends raw bytes that hold one request, plays the replica, and returns the whole answer, ended by a zero. */
const char *fixture_send(struct fixture *fixture, struct bytes request);
/* The same for a line such as "GET /x" and a body, if not NULL. */
const char *fixture_ask(struct fixture *fixture, const char *line, const char *body);
/* The answer's body. */
const char *fixture_body(const struct fixture *fixture);
int fixture_status(const struct fixture *fixture);

/* Puts a key behind the API's back. */
void fixture_put(struct fixture *fixture, struct bytes key, struct bytes value);

#endif
