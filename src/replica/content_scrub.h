/*
 * content_scrub.h - members compare what their stores really hold (DESIGN.md, 'Divergence').
 *
 * An apply hash that folds in entries and results alone says nothing of what lies in memory: a bit that flips there, or a
 * change that went wrong without a wrong result, would be served for ever. So after each applied entry whose index is a
 * multiple of the interval, the next keys of the store are read, as they lie there now, and their digest goes into the
 * apply hash; with it what is short enough to be read each time: the sessions, and the store's revisions and totals.
 * Whoever differs is found out as by any other difference (divergence.c), at the latest when the scrub has come round:
 *
 *     interval × (keys / keys_max + total bytes / bytes_max + 1) applied entries
 *
 * Where it begins and how far it goes is a function of the log and of the state at that index: so limits and cursor are
 * replicated state, and the snapshot has them. When members compact, make snapshots or start again makes no difference.
 * What isn't compared: superseded versions (store/store_digest.h).
 *
 * It comes with what is applied: where nothing is written, nothing is compared.
 *
 * Payload of SNAPSHOT_CHUNK_CONTENT_SCRUB:
 *     0  4  version (1)      4  4  interval     8  4  keys_max     12  4  bytes_max     16  …  the key to go on from
 *
 * A snapshot without that chunk was made by a member that didn't know the scrub; it is off then, and remains so, since the
 * others of that cluster can't be told when to begin.
 */
#ifndef CORACLE_REPLICA_CONTENT_SCRUB_H
#define CORACLE_REPLICA_CONTENT_SCRUB_H

#include "base/bytes.h"
#include "base/error.h"
#include "base/types.h"
#include "replica/sessions.h"
#include "store/store.h"

/* Replicated: each of them changes the apply hash. */
struct content_scrub_limits {
    uint32_t interval;  /* applied entries from slice to slice; 0: off */
    uint32_t keys_max;  /* of a slice; at least 1 unless off */
    uint32_t bytes_max; /* of a slice, keys and values; the last one may pass it; at least 1 unless off */
};

#define CONTENT_SCRUB_LIMITS_DEFAULT                                                                                   \
    ((struct content_scrub_limits){.interval = 256, .keys_max = 64, .bytes_max = 64u * 1024})

struct content_scrub {
    struct content_scrub_limits limits;
    struct buffer next_key; /* the cursor; empty: from the first key on */
};

void content_scrub_init(struct content_scrub *scrub, const struct content_scrub_limits *limits);
void content_scrub_free(struct content_scrub *scrub);

/* Whether a slice comes after the entry at this index. */
static inline bool content_scrub_is_due(const struct content_scrub *scrub, raft_index applied)
{
    return scrub->limits.interval > 0 && applied % scrub->limits.interval == 0;
}
/* The digest of the next slice; moves the cursor. */
uint64_t content_scrub_slice(struct content_scrub *scrub, const struct store *store, const struct sessions *sessions);

void content_scrub_encode(const struct content_scrub *scrub, struct buffer *out);
/* Replaces the contents. ERR_DAMAGED, ERR_BAD_VERSION: then they are as before. */
enum error content_scrub_decode(struct content_scrub *scrub, struct bytes payload);

#endif
