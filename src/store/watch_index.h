/*
 * watch_index.h - what is watched: which keys and ranges, found by a key that changed.
 *
 * A target is one key or one range, with one set of classes (watch.h): watchers that agree in all of it share a target, since
 * they get the same events. Targets of one key are in a hash table, those of ranges in an interval tree:
 *
 *     treap by (first key, end, classes); each link knows the greatest end in its subtree
 *
 *                       [f, k)  ..m
 *                      /          \
 *             [b, m)  ..m        [h, i)  ..k     key "g": left, since its ends reach to m; not right of "h"
 *                                    \
 *                                   [h, k)  ..k
 *
 * A match costs O(log n + targets found), or O(1) for targets of one key. The hash table grows by one bucket at a time, so
 * that no watcher waits for a table to be built. The order of what is found depends on neither.
 *
 * It doesn't know watchers: they hang on a target's links, which are watch.c's.
 */
#ifndef CORACLE_STORE_WATCH_INDEX_H
#define CORACLE_STORE_WATCH_INDEX_H

#include "store/watch.h"

#include "store/treap.h"

struct watcher;

struct watch_target {
    struct watch_link live;       /* watchers that have been handed everything, in the order they came to that */
    struct watch_link in_index;   /* all targets, in order of creation */
    struct watch_target *in_hash; /* the bucket's next; of ranges unused */
    struct watcher *slice;        /* while a walk's slice is matched: the last in the ring of its watchers here */
    uint32_t watcher_count;       /* in any state */
    uint32_t group;               /* while a batch is collected: its group's number there + 1; else 0 */
    uint32_t key_bytes;
    uint32_t end_bytes;
    uint8_t classes;
    bool is_range;
    bool is_to_last; /* a range without an end */
    /* key and end follow, after the tree's part if it is a range */
};

struct watch_range_target {
    struct watch_target target;
    struct treap_link link;
    const struct watch_target *greatest; /* of those in its subtree, the one with the greatest end */
};

struct watch_index {
    uint64_t seed;
    uint64_t drawn; /* priorities so far */
    struct watch_target **buckets;
    size_t bucket_capacity;
    size_t bucket_count; /* linear hashing: between `level_size` and twice that */
    size_t level_size;   /* a power of two */
    size_t key_target_count;
    struct treap_link *ranges;
    struct watch_link targets;
    uint64_t memory_bytes;
};

/* Growable. */
struct watch_matches {
    struct watch_target **targets;
    size_t count;
    size_t capacity;
};

void watch_matches_append(struct watch_matches *matches, struct watch_target *target);

void watch_index_init(struct watch_index *index, uint64_t seed);
/* It must be empty. */
void watch_index_free(struct watch_index *index);

/* The target of this key or range, made if need be, with one watcher more. Both as in watch_options; not an empty range. */
struct watch_target *watch_index_take(struct watch_index *index, struct bytes key, struct bytes range_end,
                                      unsigned classes);
/* One watcher less; frees it with the last. */
void watch_index_drop(struct watch_index *index, struct watch_target *target);
/* Whether no key can be in it. */
bool watch_range_is_empty(struct bytes key, struct bytes range_end);

/* Appends the targets that a change of this key concerns, leaving out those of the class `unwanted`. */
void watch_index_match(const struct watch_index *index, struct bytes key, unsigned unwanted,
                       struct watch_matches *matches);
/* The same for one target. */
bool watch_target_matches(const struct watch_target *target, struct bytes key, unsigned unwanted);

/* CHECKs the order of the tree and what each link knows of its subtree, that every target is found, and the counts. O(n). */
void watch_index_verify(const struct watch_index *index);

#endif
