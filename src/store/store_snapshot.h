/*
 * store_snapshot.h - the store's part of a snapshot: all uncompacted versions at a pinned revision.
 *
 * The payload of SNAPSHOT_CHUNK_KEYS (storage/snapshot.h) is a sequence of items, keys in order, for
 * each key its versions from the oldest to the newest that is at most the pinned revision:
 *
 *          0  1   flags: 1 = same key as the item before (no key follows), 2 = tombstone
 *          1  4   key bytes (absent with flag 1)
 *          5  4   value bytes (absent with flag 2)
 *          …  8   create revision     (absent with flag 2)
 *          …  8   mod revision
 *          …  8   version             (absent with flag 2)
 *          …  8   lease               (absent with flag 2)
 *          …  4   sub revision
 *          …      key, value
 *
 * An item never spans two chunks; a chunk never begins with flag 1 unless the key's earlier versions
 * ended the chunk before.
 *
 * Writing goes in slices while the store changes: versions above the pinned revision are left out.
 * What was compacted at the time of the pin is left out; what is compacted later may be there.
 * Loading builds a new store from the slices; it refuses what isn't in order, with ERR_DAMAGED.
 */
#ifndef CORACLE_STORE_STORE_SNAPSHOT_H
#define CORACLE_STORE_STORE_SNAPSHOT_H

#include "store/store.h"

struct store_snapshot_writer {
    store_revision revision;
    store_revision compacted_revision; /* at the time of the pin */
    uint32_t pin;
    struct store_cursor cursor; /* the implementation may use it as it likes */
    bool done;
};

/* Pins the current revision. */
void store_snapshot_begin(struct store *store, struct store_snapshot_writer *writer);
/* Appends items for about `target_bytes` to `out` (more when one item is longer); sets writer->done at the end. */
void store_snapshot_next(struct store *store, struct store_snapshot_writer *writer, size_t target_bytes,
                         struct buffer *out);
/* Unpins; also to give up early. */
void store_snapshot_end(struct store *store, struct store_snapshot_writer *writer);

/* Loading. `store` is fresh from store_new. */
struct store_loader;
struct store_loader *store_loader_new(struct store *store, store_revision revision, store_revision compacted_revision);
/* ERR_DAMAGED: the store must be thrown away. */
enum error store_loader_feed(struct store_loader *loader, struct bytes payload);
/* Builds what is left (history order); frees the loader. ERR_DAMAGED as above. */
enum error store_loader_finish(struct store_loader *loader);
void store_loader_free(struct store_loader *loader);

#endif
