/*
 * local_cluster.h - a cluster on this machine: its files, and the processes of its nodes.
 *
 *     DIR/cluster.json           the members (join mode static)
 *     DIR/<node>/config.json     the node's settings
 *     DIR/<node>/data/           its data; delete it to play a wiped disk
 *     DIR/<node>/server.log      what it logs
 *     DIR/<node>/pid             of the running process
 */
#ifndef CORACLE_CLI_LOCAL_CLUSTER_H
#define CORACLE_CLI_LOCAL_CLUSTER_H

#include <sys/types.h>

#include "node/join.h"

struct local_node {
    char *config_file; /* owned; absolute, since it also tells the process from others */
    char *log_file;
    char *pid_file;
    pid_t pid; /* 0: not running */
};

struct local_cluster {
    char *directory; /* absolute */
    struct join_cluster members;
    struct local_node nodes[MEMBERS_MAX]; /* as members */
};

/* Reads DIR/cluster.json and the pid files. False after printing why not. */
bool local_cluster_open(const char *directory, struct local_cluster *out);
void local_cluster_close(struct local_cluster *cluster);

/* Makes directories and files of a new one. False after printing why not; an existing cluster is left alone. */
bool local_cluster_create(const char *directory, const struct join_cluster *members);

/* Prints path and content of each file that local_cluster_create would make. Likewise false. */
bool local_cluster_print(const char *directory, const struct join_cluster *members);

/* Which of the nodes run now: those whose process in the pid file is a node with that configuration. */
void local_cluster_look(struct local_cluster *cluster);
/* Forgets those that ended since, whether they are children of this process or not, and removes their pid files. */
void local_cluster_notice_ended(struct local_cluster *cluster);
uint32_t local_cluster_running_count(const struct local_cluster *cluster);

/* Starts node i in a session of its own, so that a terminal's signals don't reach it. `bound`: it is stopped (SIGTERM) when this
   process ends. False after printing why not. */
bool local_cluster_start_node(struct local_cluster *cluster, uint32_t i, bool bound);

/* Sends SIGTERM to all that run and waits, SIGKILL after `patience_ms`. False when that was needed. */
bool local_cluster_stop(struct local_cluster *cluster, uint64_t patience_ms);

/* "DIR/name", owned by the caller. */
char *local_cluster_path(const char *directory, const char *first, const char *second);

#endif
