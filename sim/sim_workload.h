/*
 * sim_workload.h - simulated clients: they put, get and delete over HTTP through all nodes, and keep a history.
 *
 * Each is a process on a host of its own, with the client that ships (client/client.h). Keys move on: at any time a
 * few are in use by all, so that they get in each other's way while a key's history stays short; now and then an old
 * one is used again. Every value is unique, and carries its number and a padding that follows from it.
 */
#ifndef CORACLE_SIM_WORKLOAD_H
#define CORACLE_SIM_WORKLOAD_H

#include "client/client.h"
#include "sim/sim_history.h"
#include "sim/sim_loop.h"
#include "sim/sim_net.h"

#define SIM_CLIENTS_MAX (SIM_PROCESSES_MAX - SIM_NODES_MAX)

struct sim_workload_options {
    unsigned client_count;
    uint32_t rate; /* operations a second of all clients together, as far as they keep up; 0: none at all */
    unsigned put_weight, get_weight, delete_weight;
    uint32_t window_keys; /* in use at a time */
    uint32_t operations_per_key;
    uint32_t value_bytes_max;
    unsigned large_per_mille; /* values up to value_bytes_large */
    uint32_t value_bytes_large;
    time_ns timeout; /* of an operation */
};

enum sim_workload_phase { SIM_WORKLOAD_IDLE, SIM_WORKLOAD_RUNNING, SIM_WORKLOAD_READING, SIM_WORKLOAD_WRITING };

struct sim_workload;

struct sim_client {
    struct sim_workload *workload;
    unsigned number;
    struct sim_loop loop;
    struct net *net;
    struct client *client;
    struct sim_event next; /* begins the next operation */
    time_ns due;           /* when it should begin: not moved by how long the last one took */
    struct random random;
    bool busy;
    uint32_t operation; /* in the history */
    uint32_t key;
    unsigned node; /* while writing: through this one */
};

struct sim_workload {
    struct sim_world *world;
    struct sim_workload_options options;
    struct client_endpoint endpoints[SIM_NODES_MAX];
    uint32_t endpoint_count;
    struct sim_client clients[SIM_CLIENTS_MAX];
    struct sim_history history;
    enum sim_workload_phase phase;
    uint64_t operations;
    uint32_t key_count; /* keys that were used: 0 to this */
    uint64_t last_value;
    uint32_t read_next, read_left;           /* while reading */
    uint32_t write_through, written_through; /* while writing: nodes, one bit each */
    uint64_t puts_done, gets_done, deletes_done, unknown, nothing_done, cancelled;
    bool violated;
    char text[512];
};

void sim_workload_init(struct sim_workload *workload, struct sim_world *world, struct sim_net *network,
                       const struct sim_workload_options *options, const struct client_endpoint *endpoints,
                       uint32_t endpoint_count);
void sim_workload_free(struct sim_workload *workload);

void sim_workload_run(struct sim_workload *workload);
/* The client gives up what it waits for, and closes its connection in the middle of it. */
void sim_workload_cancel(struct sim_workload *workload, unsigned client);
/* No new operations; those under way come to their end. */
void sim_workload_quiet(struct sim_workload *workload);
bool sim_workload_is_quiet(const struct sim_workload *workload);
/* Reads every key that was used, again and again until each was answered. */
void sim_workload_read_all(struct sim_workload *workload);
bool sim_workload_has_read_all(const struct sim_workload *workload);
/* Writes through each of these nodes (one bit each), again and again until each acknowledged a write. */
void sim_workload_write_through(struct sim_workload *workload, uint32_t nodes);
bool sim_workload_has_written_through(const struct sim_workload *workload);

/* What clients write as a key, and as a value of that number with so many bytes behind it. */
void sim_workload_write_key(struct buffer *out, uint32_t key);
void sim_workload_write_value(struct buffer *out, uint64_t number, size_t padding);
/* The number after `name` in a flat JSON object; false when it isn't there. */
bool sim_workload_read_number(struct bytes body, const char *name, int64_t *out);
/* The number of a key, or of a value, that the clients wrote; false: they wrote no such. */
bool sim_workload_read_key(struct bytes key, uint32_t *number);
bool sim_workload_read_value(struct bytes value, uint64_t *number);

#endif
