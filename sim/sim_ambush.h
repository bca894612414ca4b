/*
 * sim_ambush.h - crashes that lie in wait: a node loses power, or is killed, right after it did something that a crash at that
 * moment mustn't undo or leave half done.
 *
 * A moment is a line that nodes log (a snapshot begins, the log is cut), so that it is seen in every build alike. The crash comes
 * some disk operations later, or some milliseconds.
 */
#ifndef CORACLE_SIM_AMBUSH_H
#define CORACLE_SIM_AMBUSH_H

#include "sim/sim_cluster.h"

struct sim_ambush;

struct sim_strike {
    struct sim_event event; /* first */
    struct sim_ambush *ambush;
    unsigned node;
    bool power_loss;
};

struct sim_ambush {
    struct sim_cluster *cluster;
    struct random random;
    uint32_t waiting; /* for these moments, one bit each */
    struct sim_strike strikes[SIM_NODES_MAX];
    uint64_t struck;
};

void sim_ambush_init(struct sim_ambush *ambush, struct sim_cluster *cluster);
/* Waits for a moment that it draws, on any node; the first that comes to it is struck. */
void sim_ambush_lay(struct sim_ambush *ambush);
/* Waits for a member that starts uncertain: what it owes must outlive the crash. */
void sim_ambush_lay_for_uncertain(struct sim_ambush *ambush);
/* A node logged this, within an event of its process. */
void sim_ambush_logged(struct sim_ambush *ambush, unsigned node, const char *event);
/* Nothing lies in wait any more. */
void sim_ambush_end(struct sim_ambush *ambush);

#endif
