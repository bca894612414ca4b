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
 *     history:  a ring of records in revision order, for everything from the compacted revision on:
 *               it feeds watchers and drives compaction
 *
 *     leaf slot ──> record(mod 9) ──previous──> record(mod 5) ──previous──> record(mod 2)
 *     history:  … 5 ─ 6 ─ 7 ─ 8 ─ 9   (the same records)
 *
 * Memory for a key with one version, beside key and value: the record's header (56 bytes) and what the
 * allocator adds, a leaf slot (10 bytes, leaves being some 85 % full) and, until compacted, a history
 * slot (8 bytes): under 90 bytes.
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
    struct store_record *previous;  /* the key's older version, or NULL; the store's: it is cut when that one goes */
    store_revision create_revision; /* 0 in a tombstone */
    store_revision mod_revision;
    int64_t version; /* 1 for the first put after creation; 0 in a tombstone */
    uint64_t lease;  /* 0: none */
    uint32_t refs;
    uint32_t key_bytes;
    uint32_t value_bytes;
    uint32_t sub_revision; /* orders the changes of one revision */
    uint8_t data[];        /* key, then value */
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
/* The key must have 1 to STORE_KEY_BYTES_MAX bytes, the value at most UINT32_MAX. `previous` (may be NULL) gets the version replaced, borrowed
   until store_end, or NULL. The key is attached to the lease, if that exists (leases.h), and detached from the one it had. */
void store_put(struct store *store, struct bytes key, struct bytes value, uint64_t lease,
               const struct store_record **previous);
/* Deletes one key; returns whether it was there. */
bool store_delete(struct store *store, struct bytes key, const struct store_record **previous);
/* Deletes all keys in [key, end); returns how many. An empty `end` means: to the last key. In key order. */
uint64_t store_delete_range(struct store *store, struct bytes key, struct bytes end);
/* Ends the transaction; returns the store's revision after it: one higher if there was a change. */
store_revision store_end(struct store *store);

/* ---- reads ---- */

store_revision store_current_revision(const struct store *store);
store_revision store_compacted_revision(const struct store *store);

/*
 * The key's version at `revision` (0 or less: now, with the open transaction's changes). *out is borrowed until the
 * next change or compaction step. It takes a step for each version of the key that is newer.
 * Errors: ERR_NOT_FOUND; ERR_COMPACTED (below the compacted revision; at it is fine); ERR_FUTURE_REVISION.
 */
enum error store_get(const struct store *store, struct bytes key, store_revision revision,
                     const struct store_record **out);

/* How many keys are live in [key, end) now, in O(log n). Empty `end`: to the last key. */
uint64_t store_count(const struct store *store, struct bytes key, struct bytes end);

/*
 * A cursor walks [key, end) in key order at one revision (0 or less: each slice as it is then), in slices,
 * while the store changes beneath. If compaction may come between slices, its caller must hold a pin (below) for its
 * revision. That isn't below the compacted revision, at the start, nor above the current: the caller sees to it.
 */
struct store_cursor {
    store_revision revision;
    struct buffer next; /* the key to continue from */
    struct buffer end;  /* empty: to the last key */
    bool done;
};
void store_cursor_open(struct store_cursor *cursor, struct bytes key, struct bytes end, store_revision revision);
void store_cursor_close(struct store_cursor *cursor);
/* Fills up to `max` (at least 1) records, borrowed until the next change; returns how many; sets cursor->done at the end.
   Looks at no more than 8 × max keys, so the result may be short, even 0, without being done; keys that are deleted now don't
   count when it reads now. */
size_t store_cursor_next(const struct store *store, struct store_cursor *cursor, const struct store_record **records,
                         size_t max);

/* ---- history ---- */

/* Records after `revision` in order of (mod_revision, sub_revision), borrowed; returns how many (0: none, now).
   `position` continues a walk, also after further changes: 0 first; the function advances it. It knows only what is
   after the compacted revision, and passes over the rest: ERR_COMPACTED is told apart by the caller, who compares
   with store_compacted_revision. The open transaction's changes aren't in it. */
size_t store_history_next(const struct store *store, store_revision revision, uint64_t *position,
                          const struct store_record **records, size_t max);

/*
 * Compacts: from now on nothing below `revision` can be read, and the history starts with it. The memory of what no
 * revision shows any more is given back by store_compact_step, in slices: versions superseded at or before
 * `revision`, and tombstones before it (one that a newer version superseded goes with that one's slot). The changes at
 * `revision` itself stay until the next compaction, tombstones too: a watcher may start there. Takes O(log n) and a
 * bounded walk. No transaction may be open. Errors: ERR_COMPACTED (at or below the compacted one);
 * ERR_FUTURE_REVISION (above the current).
 */
enum error store_compact(struct store *store, store_revision revision);
/* Frees what up to `max` history slots hold; returns whether there is more to do. What is pinned waits and doesn't count
   as that: call again after store_unpin. No transaction may be open. */
bool store_compact_step(struct store *store, size_t max);

/* While pinned, all versions visible at `revision` or superseded after it stay in memory, and the history from `revision`
   on. Several pins may exist.
   `revision` must not be below the compacted one, nor above the current. Returns its handle. */
uint32_t store_pin(struct store *store, store_revision revision);
void store_unpin(struct store *store, uint32_t pin);

/*
 * What a compaction at the current revision would let go: what the history budget is compared with. The sum, over all
 * changes after the compacted revision, of
 *
 *     the bytes of the version that the change superseded, unless that is a tombstone,
 *     and the bytes of the change itself, if it is a tombstone
 *
 * where a record's bytes are sizeof(struct store_record) + key + value. It follows store_compact at once, is a function
 * of the changes and of the compacted revision only (not of steps and pins), and is the same after loading a snapshot.
 * O(1).
 */
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
