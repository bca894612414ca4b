/*
 * sim_script.h - a scripted life of a cluster: one client, one step after the other, and images of the disks.
 *
 * Where sim_run.h draws everything from a seed, a script says what happens, so that a sweep can do the same again and again with
 * one thing changed. An image holds what all disks and the checkers know at a moment; a life can begin from it, with a disk
 * damaged before the start.
 */
#ifndef CORACLE_SIM_SCRIPT_H
#define CORACLE_SIM_SCRIPT_H

#include "client/client.h"
#include "sim/sim_cluster.h"
#include "sim/sim_contents.h"

struct sim_script {
    struct sim_world world;
    struct sim_net network;
    struct sim_cluster cluster;
    struct sim_history history;
    uint32_t key_count;
    uint64_t last_value;

    struct sim_loop loop; /* the client's */
    struct net *net;
    struct client *client;
    bool waiting;
    uint32_t operation;
    int status; /* of the last answer; 0: there was none */

    struct buffer said[SIM_NODES_MAX]; /* warnings and errors that each node logged, a line each */
    /* See sim_script_fail_at and sim_script_crash_at. */
    uint64_t fail_at[SIM_NODES_MAX], fail_look_at[SIM_NODES_MAX], crash_at[SIM_NODES_MAX];
    bool all_lose_power;
    uint64_t power_losses;
    /* After a node was killed by its disk's crash (sim_cluster.h, crash_is_kill) and was started again, its power fails so
       much later; 0: it doesn't. */
    time_ns cut_after_kill;
    time_ns cut_at; /* 0: none is due */

    unsigned ended[SIM_NODES_MAX];     /* how often it ended or failed to start by itself */
    char end_text[SIM_NODES_MAX][512]; /* the last time */
    bool bad_end;                      /* one ended with exit code 0, or without a text */
    char text[1024];                   /* what is wrong; "": nothing yet */
};

/* Limits and times for short lives: a small log, an election within a quarter of a second, no snapshot by itself. */
void sim_script_config(struct drive_config *config);

/* Nodes are down, on empty disks. */
void sim_script_begin(struct sim_script *script, uint64_t seed, const struct drive_config *config, unsigned node_count);
void sim_script_end(struct sim_script *script);

void sim_script_start_all(struct sim_script *script);
void sim_script_run(struct sim_script *script, time_ns duration);
/* Runs until a leader serves and, with `all`, until all nodes that aren't to stay down are certain and have applied the same.
   False after `limit`. */
bool sim_script_settle(struct sim_script *script, bool all, time_ns limit);

/* The node's operation of that number fails, counted from its first start: of those that change something, or of those that only
   look (sim_disk.h). */
void sim_script_fail_at(struct sim_script *script, unsigned node, uint64_t number, bool looks);
/* Its power fails there; with `all`, everybody's. */
void sim_script_crash_at(struct sim_script *script, unsigned node, uint64_t number, bool all);

/* The client asks this node, and with `only` no other. */
void sim_script_ask(struct sim_script *script, unsigned node, bool only);
/* One operation, to its answer; a put of a new value. False when its outcome isn't known, or nothing was done. */
bool sim_script_put(struct sim_script *script, uint32_t key, size_t value_bytes);
bool sim_script_get(struct sim_script *script, uint32_t key);
bool sim_script_delete(struct sim_script *script, uint32_t key);
/* The node makes a snapshot now; waits until it counts. False when it doesn't within a while. */
bool sim_script_snapshot(struct sim_script *script, unsigned node);

/* Every key through every running node; then stores, histories and checkers. False: see text. */
bool sim_script_check(struct sim_script *script);
/* Notes what is wrong, unless something was before. Returns false. */
bool sim_script_wrong(struct sim_script *script, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- images ---- */

struct sim_image_file {
    char *path;
    uint8_t *data;
    size_t size;
};

struct sim_image_disk {
    struct sim_image_file *files;
    uint32_t count, capacity;
};

struct sim_image {
    unsigned node_count;
    struct sim_image_disk disks[SIM_NODES_MAX];
    struct sim_history history;
    struct sim_checker checker;
    uint32_t key_count;
    uint64_t last_value;
};

/* Of a cluster at rest: what the devices hold. */
void sim_image_take(struct sim_image *image, const struct sim_script *script);
void sim_image_free(struct sim_image *image);
/* Begins a life with these disks; the nodes are down, and known to the checker. */
void sim_image_begin(const struct sim_image *image, struct sim_script *script, uint64_t seed,
                     const struct drive_config *config);
/* Gives the node of a script, which is down, the disk of this image instead, and the checker what was known of it then. */
void sim_image_load(const struct sim_image *image, struct sim_script *script, unsigned node);
/* The file of the node whose path begins so, the last one in the order of names; NULL: none. */
const struct sim_image_file *sim_image_find(const struct sim_image *image, unsigned node, const char *prefix);
/* Puts bytes into a file of a script's node that is down. */
void sim_script_overwrite(struct sim_script *script, unsigned node, const char *path, uint64_t offset, const void *data,
                          size_t size);

#endif
