/*
 * lease_table.h - the store's side of leases.h, for the files of this folder only.
 */
#ifndef CORACLE_STORE_LEASE_TABLE_H
#define CORACLE_STORE_LEASE_TABLE_H

#include "store/leases.h"

/* Open addressing by id, linear probing, at most half full. */
struct lease_table {
    struct lease **slots;
    size_t capacity; /* 0 or a power of two */
    size_t count;
    uint64_t key_slots; /* of all leases' sets */
    /* The snapshot that is being written, or was written last. */
    uint32_t snapshot;
    bool snapshot_active;
    size_t snapshot_slot;         /* the next to be looked at */
    struct buffer snapshot_aside; /* leases that have changed, or moved to where the walk has been, as they were */
    size_t snapshot_aside_taken;  /* bytes of it that are written */
};

void lease_table_free(struct lease_table *table);
struct lease *lease_table_find(const struct lease_table *table, uint64_t id);

/*
 * The key's newest version changes from `before` to `after`; NULL where there is none. Either may have a lease or not. A lease
 * that `after` names must exist when commands make the change.
 */
void lease_table_key_changed(struct lease_table *table, struct store_record *before, struct store_record *after);

uint64_t lease_table_memory_bytes(const struct lease_table *table);
/* CHECKs that exactly the newest, live records with a lease are attached: `attached` is how many the caller found. */
void lease_table_verify(const struct lease_table *table, uint64_t attached);
bool lease_table_has_key(const struct lease_table *table, const struct store_record *record);

#endif
