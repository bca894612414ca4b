/*
 * history.h - the records in revision order: a ring made of blocks.
 *
 *          begin                                compacted                    end
 *            v                                      v                         v
 *     ┌ ─ ─ ─┬──────────────────────┬───────────────┬─────────────────────────┐
 *       gone │ waits for            │ the compacted │ after the compacted     │     slots have sequence numbers
 *            │ store_compact_step   │ revision      │ revision                │     that never change
 *     └ ─ ─ ─┴──────────────────────┴───────────────┴─────────────────────────┘
 *
 * The compacted revision's own changes stay, for watchers that start there, but cost nothing any more.
 *
 * A slot costs what it would give back: the version that its record superseded, and the record
 * itself if it is a tombstone. Each block knows the cost of all slots before it, so that the cost of
 * any stretch is known after visiting at most one block's records.
 *
 * It owns neither the records nor a reference to them; the chains that the index leads to do.
 */
#ifndef CORACLE_STORE_HISTORY_H
#define CORACLE_STORE_HISTORY_H

#include "store/store.h"

#define HISTORY_BLOCK_SLOTS 256u

struct history_block;

struct history {
    struct history_block **blocks; /* the live ones are blocks[first] to blocks[first + count - 1] */
    size_t first;
    size_t count;
    size_t capacity;
    uint64_t begin; /* sequence numbers; see the drawing */
    uint64_t compacted;
    uint64_t end;
    uint64_t cost_compacted; /* of all slots before `compacted` */
    uint64_t cost_end;       /* of all slots before `end` */
};

void history_free(struct history *history);

/* Call it when the record's `previous` is set: that goes into the cost. */
void history_append(struct history *history, struct store_record *record);
/* begin <= sequence < end. */
struct store_record *history_record(const struct history *history, uint64_t sequence);
/* The first slot whose record is above `revision`; `end` if there is none. O(log n). */
uint64_t history_after(const struct history *history, store_revision revision);
/* Moves `compacted` up to the first slot above `revision`. */
void history_compact(struct history *history, store_revision revision);
/* Takes the slot at `begin` away; it must be below `compacted`. */
void history_pop(struct history *history);

/* Of the slots from `compacted` to `end`. */
static inline uint64_t history_cost(const struct history *history)
{
    return history->cost_end - history->cost_compacted;
}

/* For loading, into an empty history: makes `count` empty slots; fills them in any order; then adds up the costs. */
void history_fill_begin(struct history *history, uint64_t count);
/* False if the slot is taken. */
bool history_fill(struct history *history, uint64_t sequence, struct store_record *record);
void history_fill_end(struct history *history);

uint64_t history_memory_bytes(const struct history *history);

/* CHECKs the costs and that (mod_revision, sub_revision) rises. O(n). */
void history_verify(const struct history *history);

#endif
