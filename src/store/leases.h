/*
 * leases.h - the leases of a store, and which keys hang on them. Part of struct store; deterministic, without a clock.
 *
 * A lease is granted and revoked by commands; when it has expired, the leader proposes to revoke it (replica/lessor.h). Put and
 * delete attach and detach keys by themselves (store.h). A lease knows its keys as a set of the records that are
 * their newest versions: no copy of a key, no reference, since the store owns a newest version anyhow.
 *
 * A key is on the lease that its newest version names, if that lease existed when it was put (commands see to that).
 *
 * Memory for a lease: 80 bytes and its slot, some 110 in all; for a key on it 8 to 32, above eight keys 16 to 32.
 */
#ifndef CORACLE_STORE_LEASES_H
#define CORACLE_STORE_LEASES_H

#include "store/store.h"

struct lease {
    uint64_t id;
    int64_t ttl_s;       /* as granted */
    int64_t remaining_s; /* as of the last checkpoint; 0: there was none since it was granted or renewed */
    struct store_record **keys;
    uint32_t key_count;
    uint32_t key_capacity; /* 0 or a power of two */
    uint32_t snapshot;     /* the number of the snapshot that has it, or that it came after */
    /* The lessor's (replica/lessor.h), while this member leads, and no part of the replicated state. */
    time_ns deadline;
    uint32_t heap_slot; /* in the lessor's queue; 0: not there */
    bool revoke_proposed;
    bool checkpointed; /* the log has, or may get, a remaining time below the TTL */
    bool renewed;      /* since this member leads */
};

/* ERR_LEASE_EXISTS. `id` isn't 0. */
enum error store_lease_grant(struct store *store, uint64_t id, int64_t ttl_s);
/* Deletes all its keys in one revision, in key order, and the lease. Not within a transaction. ERR_LEASE_NOT_FOUND. */
enum error store_lease_revoke(struct store *store, uint64_t id, uint64_t *deleted);
/* Without effect on a lease that isn't there. */
void store_lease_checkpoint(struct store *store, uint64_t id, int64_t remaining_s);

/* NULL when there is none. Borrowed until it is revoked. */
struct lease *store_lease_find(const struct store *store, uint64_t id);
uint64_t store_lease_count(const struct store *store);
/* All leases, in no order that means anything: slots 0 to store_lease_slots - 1, of which some are empty (NULL). */
size_t store_lease_slots(const struct store *store);
struct lease *store_lease_at(const struct store *store, size_t slot);

/* Its keys' newest records in key order, into an array of lease->key_count. */
void store_lease_keys(const struct lease *lease, const struct store_record **out);

/*
 * For snapshots: payloads of SNAPSHOT_CHUNK_LEASES, 24 bytes for each lease, in no order that means anything: u64 id, i64 ttl,
 * i64 remaining. The keys follow from the records.
 *
 * Writing goes in slices while leases come, change and go: what is written are the leases as they are at the beginning. One that
 * changes before its turn is put aside as it was. Only one writing at a time.
 */
#define STORE_LEASE_ITEM_BYTES 24u
void store_leases_snapshot_begin(struct store *store);
/* Appends up to `max` leases (at least 1); returns whether more may follow. May append fewer, even none, before that, since it
   looks at no more than 8 × max slots. */
bool store_leases_snapshot_next(struct store *store, size_t max, struct buffer *out);
/* Also to give up early; without effect when nothing is being written. */
void store_leases_snapshot_end(struct store *store);

/* Adds the leases to a store whose keys aren't loaded yet. ERR_DAMAGED: the store must be thrown away. */
enum error store_leases_decode(struct store *store, struct bytes payload);

#endif
