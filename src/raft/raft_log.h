/*
 * raft_log.h - the log as consensus sees it: which entries there are, which of them are in memory, which are durable.
 *
 *        first_index        cache_first            durable      last_index
 *     …  |  on disk only    |  on disk and in memory  |  in memory  |
 *
 * Invariants: first_index <= cache_first <= last_index + 1; durable_index <= last_index; every entry after
 * min(applied, durable) is in memory. Terms are known from first_index - 1 on, as runs.
 */
#ifndef CORACLE_RAFT_RAFT_LOG_H
#define CORACLE_RAFT_RAFT_LOG_H

#include "base/entry.h"
#include "base/types.h"

/* Entries from first_index to the next run's first index - 1 have this term. */
struct raft_term_run {
    raft_index first_index;
    raft_term term;
};

struct raft_log {
    struct entry **entries; /* in memory: [cache_first, last_index], from entries[head] on */
    size_t head, count, capacity;
    raft_index first_index;
    raft_index cache_first;
    raft_index last_index;
    uint32_t cache_base_chain; /* chain value of the entry before cache_first */
    uint64_t cached_bytes;

    struct raft_term_run *runs; /* the first one begins at first_index - 1 */
    size_t run_count, run_capacity;

    /* Durability: one write at a time, each with its own number (contract rule 6). */
    raft_index durable_index;
    raft_index unwritten_first; /* entries from here on are in no write yet */
    uint64_t write_number;      /* of the last write issued */
    bool write_pending;
    raft_index write_last; /* what the pending write will have made durable; lowered by a truncation */
};

/* A log whose last entry is (index, term, chain), which isn't in it; all zero: empty. */
void raft_log_init(struct raft_log *log, raft_index index, raft_term term, uint32_t chain);
void raft_log_free(struct raft_log *log);
/* Forgets all entries; begins anew after (index, term, chain). A pending write's completion changes nothing any more. */
void raft_log_reset(struct raft_log *log, raft_index index, raft_term term, uint32_t chain);

/* Term of the entry at `index`, which may be first_index - 1; 0 outside. */
raft_term raft_log_term(const struct raft_log *log, raft_index index);
static inline raft_term raft_log_last_term(const struct raft_log *log)
{
    return raft_log_term(log, log->last_index);
}
/* Chain value of the entry at `index`, from cache_first - 1 to last_index. */
uint32_t raft_log_chain(const struct raft_log *log, raft_index index);
/* The largest index that is at most `index` and whose term is at most `term`; at least first_index - 1. */
raft_index raft_log_last_at_most(const struct raft_log *log, raft_index index, raft_term term);

/* An entry in memory; borrowed. */
struct entry *raft_log_entry(const struct raft_log *log, raft_index index);

/* Adds the next entry (moved); its index must be last_index + 1. */
void raft_log_append(struct raft_log *log, struct entry *entry);
/* Removes all entries from `index` on; they must be in memory. */
void raft_log_truncate(struct raft_log *log, raft_index index);
/* Drops entries from memory, oldest first, none after `limit`, while more than `bytes_max` are held. */
void raft_log_evict(struct raft_log *log, raft_index limit, uint64_t bytes_max);
/* The log begins at `index` now. */
void raft_log_remove_before(struct raft_log *log, raft_index index);

/* Completes the pending write if `number` is its number; returns whether the durable index moved. */
bool raft_log_written(struct raft_log *log, uint64_t number);

#endif
