/*
 * sim_checker.h - what must be true of a cluster at every step, whatever happens to it.
 *
 * After each turn of a node its status is compared with all that was seen before, of all nodes:
 *
 *   - at most one leader in a term (dissertation, figure 3.2: election safety);
 *   - a new leader's log reaches at least as far as anything known to be committed (leader completeness);
 *   - equal apply hashes at equal applied indexes (state machine safety, and determinism of apply);
 *   - within the life of a process: the term, and the commit and applied indexes, never go back; one vote in a term;
 *   - what is committed is durable on a majority (a stopped node counts with what it had made durable);
 *   - a node that starts again still has what it had made durable; after crashes alone it is certain.
 */
#ifndef CORACLE_SIM_CHECKER_H
#define CORACLE_SIM_CHECKER_H

#include "replica/replica.h"
#include "sim/sim_world.h"

struct sim_checked_node {
    bool running;
    bool new_life;           /* started, and not looked at since */
    bool known;              /* there was a status once */
    bool was_uncertain;      /* in any life: it may have crashed before it had saved that it is certain */
    struct raft_status last; /* of this life, or the one before */
};

struct sim_checker {
    struct sim_world *world;
    unsigned node_count;
    struct sim_checked_node nodes[SIM_NODES_MAX];
    unsigned *leaders; /* by term: node + 1, or 0 */
    size_t leader_capacity;
    uint64_t *hashes;   /* by applied index; 0: not seen yet */
    uint8_t *hash_from; /* which node it was seen at first */
    size_t hash_capacity;
    raft_index commit; /* the highest that any node knew */
    uint64_t checks, elections;
    bool violated;
    char text[512];
    /* The status of a running node right now; false when it has none. */
    bool (*status)(void *user, unsigned node, struct replica_status *out);
    void *user;
};

void sim_checker_init(struct sim_checker *checker, struct sim_world *world, unsigned node_count);
void sim_checker_free(struct sim_checker *checker);

void sim_checker_started(struct sim_checker *checker, unsigned node);
void sim_checker_stopped(struct sim_checker *checker, unsigned node);
/* After a turn of the node. */
void sim_checker_look(struct sim_checker *checker, unsigned node);

/* The first violation counts; the others are its consequences. */
void sim_checker_violated(struct sim_checker *checker, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
