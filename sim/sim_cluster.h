/*
 * sim_cluster.h - a cluster in one process: N nodes with the drive that ships, on simulated ports.
 *
 * It starts, stops and crashes nodes; what each logs goes into the trace. A node that refuses to start, or ends by
 * itself, without a fault that explains it is a violation. So is one that refuses for damage without naming the file.
 */
#ifndef CORACLE_SIM_CLUSTER_H
#define CORACLE_SIM_CLUSTER_H

#include "drive/drive.h"
#include "sim/sim_checker.h"
#include "sim/sim_disk.h"
#include "sim/sim_loop.h"
#include "sim/sim_net.h"

#define SIM_API_PORT 7777
#define SIM_RPC_PORT 6666

enum sim_node_state { SIM_NODE_DOWN, SIM_NODE_UP, SIM_NODE_ENDING };

struct sim_cluster;

struct sim_node {
    struct logger logger; /* first: the interface is cast to this */
    struct sim_cluster *cluster;
    unsigned number;
    enum sim_node_state state;
    bool may_fail;       /* a fault was injected that may end it or keep it from starting */
    bool power_lost;     /* what its end does to disk and network */
    bool stopping;       /* drive_stop was called */
    bool stay_down;      /* not started again by itself; nothing is expected of it any more */
    bool damaged;        /* its disk is damaged: it may refuse to start for it, if it says which file */
    bool beyond_repair;  /* it refused so */
    char complaint[512]; /* the last that it said of damage */
    bool crash_is_kill;  /* where its disk crashes, only the process ends */
    bool end_cuts_power; /* when the process ends by itself, the machine loses power as well */
    struct sim_loop loop;
    struct sim_disk disk;
    struct sim_disk_queue queue;
    struct net *net;
    struct drive *drive;
    struct sim_event end, start;
    time_ns down_for; /* after the end that is under way */
    uint64_t starts;
};

/* How often a line was logged, over all nodes: the states that were reached. */
#define SIM_MARKS_MAX 256u
struct sim_mark {
    char event[128];
    uint64_t count;
};

struct sim_marks {
    struct sim_mark marks[SIM_MARKS_MAX];
    unsigned count;
};

/* For who wants to hear of it; each may be NULL. */
struct sim_cluster_hooks {
    /* A node logged a line, of level INFO or above. */
    void (*logged)(void *user, unsigned node, enum log_level level, const char *event, const char *fields);
    /* A node's turn ended, and was checked. */
    void (*turned)(void *user, unsigned node);
    /* A process ended by itself, or failed to start. */
    void (*ended)(void *user, unsigned node, int exit_code, const char *text);
};

struct sim_cluster {
    struct sim_world *world;
    struct sim_net *network;
    struct sim_checker checker;
    struct drive_config config; /* for all; each node's own fields are filled in at its start */
    unsigned node_count;
    struct sim_node nodes[SIM_NODES_MAX];
    struct random random;
    struct sim_marks *marks; /* the owner's; NULL: not counted */
    uint64_t crashes, power_losses, stops, failed_starts;
    const struct sim_cluster_hooks *hooks; /* NULL: none */
    void *hooks_user;
};

/* `config`: the limits and times; who the members are is filled in here. Nodes are down at first. */
void sim_cluster_init(struct sim_cluster *cluster, struct sim_world *world, struct sim_net *network,
                      const struct drive_config *config, unsigned node_count, struct sim_marks *marks);
/* Ends all at once. */
void sim_cluster_free(struct sim_cluster *cluster);

/* Starts it, now; no effect when it runs. */
void sim_cluster_start(struct sim_cluster *cluster, unsigned node);
/* Kills the process, or cuts the machine's power; it starts again after `down_for`. No effect when it is down.
   Not from within an event of the node's process. */
void sim_cluster_crash(struct sim_cluster *cluster, unsigned node, bool power_loss, time_ns down_for);
/* Asks it to stop in order; it starts again later. */
void sim_cluster_stop(struct sim_cluster *cluster, unsigned node, time_ns down_for);

bool sim_cluster_status(const struct sim_cluster *cluster, unsigned node, struct replica_status *out);
/* The node that may serve as leader; UINT_MAX: none. */
unsigned sim_cluster_leader(const struct sim_cluster *cluster);

void sim_marks_add(struct sim_marks *marks, const char *event, uint64_t count);

#endif
