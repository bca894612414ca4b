/*
 * store_snapshot.h - the store's part of a snapshot: all uncompacted versions at a pinned revision.
 *
 * The payload of SNAPSHOT_CHUNK_KEYS (storage/snapshot.h) is a sequence of items, keys in order, for
 * each key its versions from the newest that is at most the pinned revision to the oldest (the way a
 * chain leads, so that writing can stop within a long one and loading need not turn it round):
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
 * An item never spans two chunks; a chunk never begins with flag 1 unless the key's newer versions
 * ended the chunk before.
 *
 * Writing goes in slices while the store changes: versions above the pinned revision are left out,
 * and so is what was compacted at the time of the pin, freed or not. Nothing that is compacted later
 * goes until store_snapshot_end: the loaded store must answer as this one did at the pin. So the items
 * are a function of the store's contents at the pin: the same on each member (where chunks end isn't).
 *
 * Loading builds a new store from the slices. Valid, and else ERR_DAMAGED, is only what a store can
 * hold: keys rise, a key's versions fall, versions and creation revisions follow from one another, a
 * key has either versions at the compacted revision or at most one below it, which is live, and the changes
 * from the compacted revision on number each revision, and within one each sub revision, without a gap.
 */
#ifndef CORACLE_STORE_STORE_SNAPSHOT_H
#define CORACLE_STORE_STORE_SNAPSHOT_H

#include "store/store.h"

struct store_snapshot_writer {
    store_revision revision;
    store_revision compacted_revision; /* at the time of the pin */
    uint32_t pin;
    struct buffer next_key;             /* where to go on, when the rest of `version`'s chain is written */
    const struct store_record *version; /* the next version of a chain that one slice didn't hold, or NULL */
    bool done;
};

/* Pins the current revision. No transaction may be open. */
void store_snapshot_begin(struct store *store, struct store_snapshot_writer *writer);
/* Appends items for about `target_bytes` to `out` (more when one item is longer); sets writer->done at the end. May
   append less, even nothing, before that, since it looks at a bounded number of keys. */
void store_snapshot_next(struct store *store, struct store_snapshot_writer *writer, size_t target_bytes,
                         struct buffer *out);
/* Unpins; also to give up early. */
void store_snapshot_end(struct store *store, struct store_snapshot_writer *writer);

/* Loading. `store` is fresh from store_new. */
struct store_loader;
struct store_loader *store_loader_new(struct store *store, store_revision revision, store_revision compacted_revision);
/* ERR_DAMAGED: the store must be thrown away. */
enum error store_loader_feed(struct store_loader *loader, struct bytes payload);
/* Builds what is left (history order); frees the loader, also on error. ERR_DAMAGED as above. */
enum error store_loader_finish(struct store_loader *loader);
/* To give up; not after store_loader_finish. */
void store_loader_free(struct store_loader *loader);

#endif
