/*
 * store.h - the multi-version key space, in memory. (DataStore)
 *
 * Pure and deterministic: the same calls give the same state on every member. Keys are byte strings
 * ordered by unsigned bytes. Every change has a revision; older versions stay readable until they
 * are compacted. Nothing here reads a clock.
 *
 * Structure:
 *
 *     index:    a counted B+tree; each leaf slot points to a key's newest record
 *     records:  one allocation each, key and value inside; `previous` leads to the key's older version
 *     history:  a ring of records in revision order, for everything after the compacted revision:
 *               it feeds watchers and drives compaction
 *
 *     leaf slot ──> record(mod 9) ──previous──> record(mod 5) ──previous──> record(mod 2)
 *     history:  … 5 ─ 6 ─ 7 ─ 8 ─ 9   (the same records)
 *
 * Memory for a key with one version: STORE_RECORD_HEADER_BYTES + key + value + allocator overhead, a
 * leaf slot (8 bytes at about 70 % fill) and a history slot (8 bytes, until compacted); under 100
 * bytes above the payload.
 *
 * Ownership: records are counted (`refs`), on the core thread only. The store holds one reference;
 * whoever keeps a record beyond the call takes its own.
 */
#ifndef CORACLE_STORE_STORE_H
#define CORACLE_STORE_STORE_H

#include "base/bytes.h"
#include "base/error.h"
#include "base/types.h"

#define STORE_KEY_BYTES_MAX 65536u

struct store;

struct store_record {
    struct store_record *previous; /* the key's older version, or NULL */
    store_revision create_revision; /* 0 in a tombstone */
    store_revision mod_revision;
    int64_t version;                /* 1 for the first put after creation; 0 in a tombstone */
    uint64_t lease;                 /* 0: none */
    uint32_t refs;
    uint32_t key_bytes;
    uint32_t value_bytes;
    uint32_t sub_revision;          /* orders the changes of one revision */
    uint8_t data[];                 /* key, then value */
};

static inline struct bytes store_record_key(const struct store_record *record)
{
    return bytes_of(record->data, record->key_bytes);
}
static inline struct bytes store_record_value(const struct store_record *record)
{
    return bytes_of(record->data + record->key_bytes, record->value_bytes);
}
static inline bool store_record_is_tombstone(const struct store_record *record)
{
    return record->version == 0;
}
struct store_record *store_record_ref(struct store_record *record);
void store_record_unref(struct store_record *record);

struct store *store_new(void);
void store_free(struct store *store);

/* ---- changes: in a transaction, which makes one revision if it changes anything ---- */

/* Only one transaction is open at a time; reads meanwhile see its changes. */
void store_begin(struct store *store);
/* The key must have 1 to STORE_KEY_BYTES_MAX bytes. `previous` (may be NULL) gets the version replaced, borrowed
   until store_end, or NULL. */
void store_put(struct store *store, struct bytes key, struct bytes value, uint64_t lease,
               const struct store_record **previous);
/* Deletes one key; returns whether it was there. */
bool store_delete(struct store *store, struct bytes key, const struct store_record **previous);
/* Deletes all keys in [key, end); returns how many. An empty `end` means: to the last key. In key order. */
uint64_t store_delete_range(struct store *store, struct bytes key, struct bytes end);
/* Ends the transaction; returns the store's revision after it. */
store_revision store_end(struct store *store);

/* ---- reads ---- */

store_revision store_current_revision(const struct store *store);
store_revision store_compacted_revision(const struct store *store);

/*
 * The key's version at `revision` (0: now). *out is borrowed until the next change or compaction step.
 * Errors: ERR_NOT_FOUND; ERR_COMPACTED; ERR_FUTURE_REVISION.
 */
enum error store_get(const struct store *store, struct bytes key, store_revision revision,
                     const struct store_record **out);

/* How many keys are live in [key, end) now, in O(log n) plus the tombstones' share. Empty `end`: to the last key. */
uint64_t store_count(const struct store *store, struct bytes key, struct bytes end);

/*
 * A cursor walks [key, end) in key order at one revision, in slices, while the store changes
 * beneath. It must hold a pin (below) for a revision other than the current, if changes come between slices.
 */
struct store_cursor {
    store_revision revision;
    struct buffer next; /* the key to continue from */
    struct buffer end;  /* empty: to the last key */
    bool done;
};
void store_cursor_open(struct store_cursor *cursor, struct bytes key, struct bytes end, store_revision revision);
void store_cursor_close(struct store_cursor *cursor);
/* Fills up to `max` records, borrowed until the next change; returns how many; sets cursor->done at the end.
   Looks at no more than 8 × max keys, so the result may be short, even 0, without being done. */
size_t store_cursor_next(const struct store *store, struct store_cursor *cursor, const struct store_record **records,
                         size_t max);

/* ---- history ---- */

/* Records after `revision` in order of (mod_revision, sub_revision), borrowed; returns how many (0: none).
   `position` continues a walk: 0 first; the function advances it. ERR_COMPACTED is told apart by the caller, who
   compares with store_compacted_revision. */
size_t store_history_next(const struct store *store, store_revision revision, uint64_t *position,
                          const struct store_record **records, size_t max);

/*
 * Compacts: versions that are superseded at or before `revision` can't be read any more from now on. The memory is
 * given back by store_compact_step, in slices. Errors: ERR_COMPACTED (at or below the compacted one);
 * ERR_FUTURE_REVISION (above the current).
 */
enum error store_compact(struct store *store, store_revision revision);
/* Frees what up to `max` history slots hold; returns whether there is more to do. Pinned versions wait. */
bool store_compact_step(struct store *store, size_t max);

/* While pinned, the versions visible at `revision` stay in memory. Several pins may exist. Returns its handle. */
uint32_t store_pin(struct store *store, store_revision revision);
void store_unpin(struct store *store, uint32_t pin);

/* Bytes of superseded versions and tombstones that a compaction at the current revision would free: what the
   history budget is compared with. Kept incrementally; O(1). Deterministic: depends on the applied changes only. */
uint64_t store_history_bytes(const struct store *store);
/* Bytes of keys and values of the live versions. O(1). */
uint64_t store_live_bytes(const struct store *store);
/* Live keys. O(1). */
uint64_t store_key_count(const struct store *store);
/* What the store holds of the allocator, estimated, for metrics. */
uint64_t store_memory_bytes(const struct store *store);

/* Walks everything and CHECKs the invariants (order, counts, chains, history, byte totals). For tests; O(n). */
void store_verify(const struct store *store);

#endif
