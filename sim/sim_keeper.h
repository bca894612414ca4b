/*
 * sim_keeper.h - the keeper of books: knows where good durable copies of everything are, and lets damage happen only so that
 * enough of them are left.
 *
 * What it promises of a cluster that it looks after:
 *
 *   1. Copies. A member is *suspect* from the damage on until it has started again since, is certain (raft.h, 'Uncertain') and has
 *      written a batch as such, and holds all that is committed. At most as many members are suspect at a time as may be lost, (n - 1) / 2. What is committed lies on a majority:
 *      so at least one member that isn't suspect has a good copy, and those that aren't make a quorum of undoubted votes.
 *   2. Evidence. Recovery can tell damage from what a crash leaves only where something is left to tell by. A sector of the
 *      log's last batch that turns into zeros, or into what a write cut inside it leaves, looks like a batch whose sync never returned; no format
 *      can tell that from a disk that lied about the sync (docs/RECOVERY.md, 'Limits'). So sectors of the log are made to look
 *      unwritten only where a batch that begins after them is durable. Flipped bits may hit any sector.
 *   3. Votes. The raft state's two slots are never left so that the older one alone is good, with an older save than was relied on. Both may
 *      be damaged (SIM_DAMAGE_STATE): then the member must know that its vote is lost.
 *
 * An error of the device when a node looks at its files counts as damage: the node takes what it can't read for lost.
 *
 * Harmless damage is allowed on every member at any time, also in a cluster of one: in segments of the log whose entries a snapshot covers
 * that counts, while the log goes on in a later one (docs/RECOVERY.md). It makes nobody suspect, and a member that is uncertain for it
 * is a violation.
 *
 * By SIM_KEEPER_ANYBODY, rule 1 is off, and damage hits all members at different entries. Then there may be no quorum of members that
 * are certain, and no good copy: the cluster may halt, but what it has acknowledged must not be forgotten, nor answered wrongly.
 *
 * Damage lies at rest, also while the node is down; or comes with a write (lost, or landing elsewhere) or with a read (misdirected). There
 * is none before all members have joined: one that comes late to the founding is uncertain, too, and more than a minority may be late.
 *
 * Runs that ask for none of this call sim_keeper_ruin: every copy is damaged. Such a cluster must not serve anything wrong; it may halt, and
 * then each member that doesn't take part must say which file or entry is damaged (sim_keeper_complaint).
 *
 * It also plays the operator: a member whose data are beyond repair, and who refuses to start for it, gets an empty disk, once all
 * others are certain.
 */
#ifndef CORACLE_SIM_KEEPER_H
#define CORACLE_SIM_KEEPER_H

#include "sim/sim_cluster.h"

#define SIM_DAMAGES(X)                                                                                                 \
    X(FLIP, "bits flipped")                                                                                            \
    X(ZERO, "sectors zeroed")                                                                                          \
    X(MISPLACED, "other sectors written over these")                                                                   \
    X(UNREADABLE, "sectors unreadable")                                                                                \
    X(LOST, "a write lost")                                                                                            \
    X(MISREAD, "a read misdirected")                                                                                   \
    X(LOOK, "a look failed")                                                                                           \
    X(STATE, "term and vote damaged")

#define SIM_DAMAGE_ENUM(name, text) SIM_DAMAGE_##name,
enum sim_damage { SIM_DAMAGES(SIM_DAMAGE_ENUM) SIM_DAMAGE_COUNT };
#undef SIM_DAMAGE_ENUM

#define SIM_KEEPER_PATH_BYTES 128

/* How much of a cluster may be suspect at a time. */
enum sim_keeper_rule {
    SIM_KEEPER_MINORITY, /* rule 1 */
    SIM_KEEPER_ANYBODY,  /* all of them: the cluster may halt, and must not forget */
};

struct sim_keeper_node {
    bool suspect;
    bool votes_lost;        /* perhaps */
    uint64_t starts;        /* it had been started so often when damage came last */
    uint64_t certain_start; /* the start in which it was seen certain, and how far its log reached then */
    raft_index certain_index;
    bool joined;            /* it was seen certain once, and wrote a batch as such */
    uint64_t joining_start; /* the start in which it was seen certain first, and how far its log reached then */
    raft_index joining_index;
    bool lose_armed;    /* the next sync of a file that may lose a sector does */
    bool misread_armed; /* likewise the next read */
};

struct sim_keeper {
    struct sim_cluster *cluster;
    struct random random;
    struct sim_event look;
    struct sim_keeper_node nodes[SIM_NODES_MAX];
    enum sim_keeper_rule rule;
    bool ruined; /* nothing is owed any more but the truth */
    uint64_t counts[SIM_DAMAGE_COUNT];
    uint64_t harmless; /* of them, what must not make a member uncertain */
    uint64_t refused, repaired, wipes;
};

/* Looks after the cluster, by the hooks of its disks; it must be there already, and outlive the keeper. */
void sim_keeper_init(struct sim_keeper *keeper, struct sim_cluster *cluster);

/* Damages something on the node's disk, now or, for LOST and MISREAD, soon. False: nothing may be damaged there now. Not from within an
   event of the node's process. */
bool sim_keeper_damage(struct sim_keeper *keeper, unsigned node, enum sim_damage kind);
/* An empty disk instead of the node's, by the safe procedure: one at a time, while all others are certain. False: not now. */
bool sim_keeper_wipe(struct sim_keeper *keeper, unsigned node, time_ns down_for);
/* Damages every copy of something, on all nodes, and restarts them. */
void sim_keeper_ruin(struct sim_keeper *keeper);

/* How many members may stay down, so that the others can still elect, serve, and become well. */
unsigned sim_keeper_spare(const struct sim_keeper *keeper);
/* What the node last said, or refused to start with, that names a damaged file or a lost entry; "" when it said nothing. */
const char *sim_keeper_complaint(const struct sim_keeper *keeper, unsigned node);
const char *sim_damage_text(enum sim_damage kind);

/* No more damage; what is armed is disarmed. It goes on looking until all members are well. If more are suspect than may be, that
   counts as a ruin. */
void sim_keeper_end(struct sim_keeper *keeper);

#endif
