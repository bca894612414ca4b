/*
 * bench_load.h - many connections, each with one request under way, on one epoll: the engine of `coracle bench`.
 *
 * Requests are HTTP/1.1 as any client sends them (kept alive, no pipelining). Own code rather than client/client.h, since
 * what it measures with must cost next to nothing: two system calls and a few microseconds for each request.
 */
#ifndef CORACLE_CLI_BENCH_LOAD_H
#define CORACLE_CLI_BENCH_LOAD_H

#include "cli/bench_content.h"
#include "cli/histogram.h"
#include "client/client.h"

enum bench_operation {
    BENCH_PUT,    /* random keys */
    BENCH_GET,    /* likewise */
    BENCH_MIXED,  /* gets, and puts */
    BENCH_FILL,   /* puts each key once, in order */
    BENCH_VERIFY, /* gets each key once, and judges what is there */
};

struct bench_load_options {
    enum bench_operation operation;
    const struct client_endpoint *endpoints;
    uint32_t endpoint_count;
    bool spread;               /* connections over all endpoints; else all to the first, as long as it is up */
    uint32_t connection_count; /* at most as many as there are keys */
    uint64_t count;            /* requests; 0: as long as it lasts. Fill and verify have their own */
    time_ns duration;          /* 0: until the count is done */
    uint32_t read_percent;     /* of mixed */
    uint64_t seed;
    bool progress; /* a line a second on stderr */
    struct bench_content *content;
};

#define BENCH_BAD_SHOWN 5u

struct bench_load_result {
    struct histogram latency; /* of requests with a good answer */
    uint64_t good;            /* 2xx, and 404 of a get */
    uint64_t missing;         /* 404 */
    uint64_t failed;          /* any other answer */
    uint64_t broken;          /* connections that broke */
    int first_failed_status;
    time_ns elapsed;
    time_ns cpu; /* of this process */
    /* Of verify. */
    uint64_t bad;
    struct {
        uint64_t number;
        enum bench_verdict verdict;
    } bad_shown[BENCH_BAD_SHOWN];
};

/* Runs until done, or (false) until no endpoint could be reached for 30 s, or SIGINT. */
bool bench_load_run(const struct bench_load_options *options, struct bench_load_result *out);

#endif
