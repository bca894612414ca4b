/*
 * harness.h - replicas in memory, driven by hand: messages go through the peer codec, saves and writes complete when
 * told, time moves when told.
 */
#ifndef CORACLE_TEST_UNIT_REPLICA_HARNESS_H
#define CORACLE_TEST_UNIT_REPLICA_HARNESS_H

#include "replica/peer_codec.h"
#include "replica/replica.h"

#define HARNESS_REPLICAS_MAX 5u
#define HARNESS_RESULTS_MAX 512u

struct harness_node {
    struct replica *replica;
    struct replica_effects effects;
    struct replica_result results[HARNESS_RESULTS_MAX];
    uint32_t result_count;
    uint64_t save_number, write_number; /* under way; 0: none */
    bool cut;                           /* its messages go nowhere, and none reaches it */
    bool stalled;                       /* its writes don't complete */
};

struct harness_frame {
    uint32_t from, to;
    struct buffer bytes;
};

struct harness {
    struct harness_node nodes[HARNESS_REPLICAS_MAX];
    uint32_t count;
    time_ns now;
    struct harness_frame *frames;
    uint32_t frame_count, frame_capacity;
    bool duplicate; /* every frame arrives twice */
};

void harness_start(struct harness *harness, uint32_t count);
void harness_stop(struct harness *harness);
/* Steps one event at the present time and carries out what follows at once. */
void harness_step(struct harness *harness, uint32_t node, struct replica_event *event);
/* Until nothing is left to deliver, save or write. */
void harness_settle(struct harness *harness);
/* Time moves on in steps of a tenth of a heartbeat, everything settling in between. */
void harness_run(struct harness *harness, time_ns duration);
/* Runs until one node may serve; returns its number. */
uint32_t harness_leader(struct harness *harness);
/* Cuts a node off, and tells the others (or heals, and connects anew). */
void harness_cut(struct harness *harness, uint32_t node, bool cut);

void harness_put(struct harness *harness, uint32_t node, uint64_t request, const char *key, const char *value);
void harness_read(struct harness *harness, uint32_t node, uint64_t request);
/* The one result of a request; NULL when there is none. Fails the test when there are two. */
const struct replica_result *harness_result(const struct harness *harness, uint32_t node, uint64_t request);
/* The value there, as text in static memory; "" when there is none. */
const char *harness_value(const struct harness *harness, uint32_t node, const char *key);
void harness_status(const struct harness *harness, uint32_t node, struct replica_status *out);

#endif
