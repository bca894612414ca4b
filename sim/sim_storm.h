/*
 * sim_storm.h - faults that act again and again on what the cluster does, for a while: sequences that chance alone makes too
 * seldom.
 *
 *   - Reigns: each new leader is soon cut off, or crashes, and the one before comes back. So entries of many terms lie on few
 *     members (the Raft paper's figure 8), and logs that are long and old meet short and new ones. Disks stall now and then, so that
 *     conflicts are cut while their write is under way.
 *   - Hold-back: frames between members are held back one by one; here those with entries, there those without; or the leader's to
 *     one member all, and to the others its heartbeats. So a round of heartbeats takes long while entries pass, and members lag
 *     in what they apply.
 *   - Overtake: a member that lags is sent a snapshot which is as new as can be, by a leader that is killed once it is on its way;
 *     the next leader, which doesn't know yet how far is committed, has all the log that the member needs. So the log
 *     overtakes the snapshot.
 *
 * One at a time. It reacts to what nodes log and to their status after each turn, and to nothing that a build may lack.
 */
#ifndef CORACLE_SIM_STORM_H
#define CORACLE_SIM_STORM_H

#include "sim/sim_cluster.h"
#include "sim/sim_faults.h"

/* What an overtaking waits for. */
enum sim_overtake {
    SIM_OVERTAKE_MAKING,  /* the leader begins a snapshot, while the member gets no entries */
    SIM_OVERTAKE_COUNTS,  /* that counts */
    SIM_OVERTAKE_ARRIVES, /* the member receives it */
    SIM_OVERTAKE_LOG,     /* the member's log reaches beyond it */
    SIM_OVERTAKE_LAST,    /* that the snapshot is read, while nobody tells the member what is committed */
};

struct sim_storm {
    struct sim_cluster *cluster;
    struct sim_net *network;
    struct random random;
    struct sim_event step, end;
    bool under_way;
    enum sim_fault kind;

    /* Reigns. */
    unsigned leader;
    raft_term term;
    raft_index commit_before; /* as the leader knew it when it was elected */
    uint64_t reigns;

    /* Overtake. */
    enum sim_overtake stage;
    unsigned from, to;
    raft_index index;
    uint64_t overtaken;
};

void sim_storm_init(struct sim_storm *storm, struct sim_cluster *cluster, struct sim_net *network);
/* No effect while one is under way. */
void sim_storm_begin(struct sim_storm *storm, enum sim_fault kind);
/* A node logged this, or its turn ended: within an event of its process. */
void sim_storm_logged(struct sim_storm *storm, unsigned node, const char *event, const char *fields);
void sim_storm_turned(struct sim_storm *storm, unsigned node);
/* Calm again; links are the owner's to heal. */
void sim_storm_end(struct sim_storm *storm);

#endif
