/*
 * watch_batch.h - some events, and which targets get which of them.
 *
 *     events:   0: put a   1: put b   2: delete a   3: put c
 *     groups:   target "a": 0 2        target [a, c): 0 1 2
 *     numbers:  [ 0 2 | 0 1 2 ]        each group's events, one group after the other
 *
 * Groups come in the order in which their targets were first touched.
 */
#ifndef CORACLE_STORE_WATCH_BATCH_H
#define CORACLE_STORE_WATCH_BATCH_H

#include "store/watch.h"

#include "store/watch_index.h"

struct watch_group {
    struct watch_target *target;
    struct watcher *slice; /* target->slice at the time of sealing */
    uint32_t first;        /* in `numbers` */
    uint32_t count;
};

struct watch_match {
    uint32_t group;
    uint32_t event;
};

struct watch_batch {
    struct watch_event *events; /* with a reference to each record */
    uint32_t event_count;
    uint32_t event_capacity;
    struct watch_match *matches; /* in order of events, until sealed */
    uint32_t match_count;
    uint32_t match_capacity;
    struct watch_group *groups;
    uint32_t group_count;
    uint32_t group_capacity;
    uint32_t *numbers;
    uint32_t number_capacity;
    uint64_t bytes; /* keys and values of the events, and of previous versions that are wanted */
};

void watch_batch_free(struct watch_batch *batch);
/* Empties it, and gives back what an unusually large one needed. */
void watch_batch_clear(struct watch_batch *batch);

/* Adds an event for these targets, at least one. `has_previous`: record->previous may be looked at. */
void watch_batch_add(struct watch_batch *batch, struct store_record *record, bool has_previous,
                     struct watch_target *const *targets, size_t target_count);
/* Whether a limit is reached (WATCH_BATCH_…). */
bool watch_batch_is_full(const struct watch_batch *batch);
/* Fills `numbers` in; nothing is added after this. */
void watch_batch_seal(struct watch_batch *batch);

uint64_t watch_batch_memory_bytes(const struct watch_batch *batch);

#endif
