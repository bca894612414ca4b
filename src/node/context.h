/*
 * context.h - one node from its configuration: makes the ports, and drives the replica on them. (Context, NewContext,
 * Start, Destroy)
 *
 * The parts start in the order of their dependencies (lifecycle.h): limits, event loop, signals, disk, disk queue, network,
 * drive; and stop in reverse.
 *
 * SIGTERM and SIGINT stop the node in order, which hands leadership over; a second one ends the process at once.
 */
#ifndef CORACLE_NODE_CONTEXT_H
#define CORACLE_NODE_CONTEXT_H

#include "node/config.h"
#include "node/join.h"
#include "node/lifecycle_error.h"

/* What the process exits with. */
enum node_exit { NODE_EXIT_OK = 0, NODE_EXIT_FAILED = 1, NODE_EXIT_CONFIG = 2 };

struct context;

/* The config is borrowed until context_destroy, and was validated; so was the cluster, which is copied. `version` is static. */
struct context *context_new(const struct config *config, const struct join_cluster *cluster, const char *listen_host,
                            const char *version);

/* Recovers the data and starts to serve. False: nothing is left running, log and `error` say all that went wrong. */
bool context_start(struct context *context, struct lifecycle_error *error);

/* Serves until the node ends; returns the exit code of enum node_exit. */
int context_run(struct context *context);

/* Stops what is still running, and frees. False when a part failed to stop. */
bool context_destroy(struct context *context, struct lifecycle_error *error);

/* The effective drive configuration, for tests. */
void context_drive_config(const struct config *config, const struct join_cluster *cluster, const char *listen_host,
                          const char *version, struct drive_config *out);

#endif
