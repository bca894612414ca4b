/*
 * store_digest.h - a digest of some of the store's live keys, as they lie in memory now: for comparison between members.
 *
 * It covers what the store answers with at the current revision: of each live key the newest version, with all its fields,
 * and the lease that it hangs on. (Leases without a key are only counted, by content_scrub.h: they have no place in an order.)
 * What members may hold differently at the same applied index isn't in it: tombstones, which are freed in slices whose
 * timing is each member's own, and superseded versions. So it is a function of the changes made, and of where it begins.
 */
#ifndef CORACLE_STORE_STORE_DIGEST_H
#define CORACLE_STORE_STORE_DIGEST_H

#include "store/store.h"

/*
 * The digest of the live keys from *next_key (empty: the first one) on. It ends after `keys_max` keys, or with the one that
 * brings keys and values to `bytes_max` or more; so one long value is covered whole. Both are at least 1. *next_key becomes
 * the key to go on from, empty at the end. No transaction may be open. O(keys_max + log n) and the bytes, however many dead
 * keys lie between.
 */
uint64_t store_digest(const struct store *store, struct buffer *next_key, uint32_t keys_max, uint64_t bytes_max);

#endif
