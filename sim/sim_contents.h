/*
 * sim_contents.h - what the members' stores hold at the end of a run: the same on all, and what the history says.
 *
 * Stores are compared key by key (value, creation's and last write's revision, version, lease), then change by change as far back as both
 * go. Against the history:
 *
 *   - every acknowledged write is there, at its revision, but for those before the compacted one; every change is a write that a
 *     client sent, once, and that wasn't refused;
 *   - each version's number and creation are those that follow from the changes before it;
 *   - a key's newest state isn't older than its last acknowledged write.
 *
 * A write of unknown outcome gets its revision from the change that it made; so when nothing was compacted, the order of all
 * writes is known (sim_history.h).
 */
#ifndef CORACLE_SIM_CONTENTS_H
#define CORACLE_SIM_CONTENTS_H

#include "sim/sim_history.h"
#include "store/store.h"

struct sim_contents_verdict {
    bool violated;
    uint64_t keys, changes; /* that were compared */
    char text[1024];
};

/* Both have applied the same entries. Adds to the verdict's counts. */
void sim_contents_compare(const struct store *a, const struct store *b, struct sim_contents_verdict *verdict);

/* How keys and values of the history are written in the store; false: not a key (value) of the history's. */
struct sim_contents_reader {
    bool (*key)(struct bytes key, uint32_t *number);
    bool (*value)(struct bytes value, uint64_t *number);
};

/* Nothing more happens: what isn't in the store now never will be. Fills in what becomes known of the history. */
void sim_contents_explain(const struct store *store, const struct sim_contents_reader *reader,
                          struct sim_history *history, struct sim_contents_verdict *verdict);

#endif
