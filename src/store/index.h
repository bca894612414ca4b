/*
 * index.h - the ordered index: a counted B+tree over the newest records of all keys.
 *
 * It orders records by key and knows, for each subtree, how many of its keys are live (their newest
 * record isn't a tombstone), so that a count takes O(log n). It neither owns nor frees records, and
 * knows nothing of older versions.
 *
 *     inner:  child 0 │ separator 1 │ child 1 │ separator 2 │ child 2 …   and each child's live keys
 *     leaf:   hint 0, hint 1, …  record 0, record 1, …
 *
 * Keys aren't copied into leaves: a leaf slot is a pointer to the record. To search a leaf without
 * visiting a record at each step (a cache miss each), a slot also has a two-byte hint. All keys that
 * can be in a node lie between the two separators around it, so they share these separators' common
 * prefix; a hint is the two bytes that follow it. Only keys with equal hints are compared in full.
 *
 * Invariants (index_verify): separator i <= every key of child i, > every key of child i - 1; all
 * leaves at one depth; an inner node has at least 2 children, a leaf at least 1 record unless it is
 * the root.
 */
#ifndef CORACLE_STORE_INDEX_H
#define CORACLE_STORE_INDEX_H

#include "store/store.h"

#define INDEX_LEAF_SLOTS 128u
#define INDEX_INNER_SLOTS 64u
/* Nodes off the right edge are at least a quarter full, so 12 levels hold more than memory can. */
#define INDEX_HEIGHT_MAX 12u

struct index_leaf;
struct index_inner;

struct index {
    void *root;
    unsigned height;       /* inner levels above the leaves */
    uint64_t live;         /* keys whose record isn't a tombstone */
    uint64_t keys;         /* all keys */
    uint64_t memory_bytes; /* nodes and separators */
};

/* A place in the index. Good until the index changes, other than by index_replace. */
struct index_path {
    struct index_leaf *leaf;
    unsigned slot;
    bool found; /* index_seek: the key itself is there */
    struct {
        struct index_inner *inner;
        unsigned child;
    } levels[INDEX_HEIGHT_MAX]; /* the root first */
};

void index_init(struct index *index);
/* Frees the nodes, not the records. */
void index_free(struct index *index);

/* The key's record, or NULL. */
struct store_record *index_find(const struct index *index, struct bytes key);

/* Goes to the first key at or after `key`. */
void index_seek(const struct index *index, struct bytes key, struct index_path *path);
/* The record at the path, or NULL at the end. */
struct store_record *index_path_record(const struct index *index, struct index_path *path);
/* Only after index_path_record gave a record. */
void index_path_next(struct index_path *path);
/* Moves to the first live record at or after the path, and gives it; NULL: there is none, and the path is no longer good.
   Leaves and subtrees without a live key take one step each, however many dead ones they hold. */
struct store_record *index_path_live(const struct index *index, struct index_path *path);

/* Puts `record` in place of the one at the path, which has the same key. The path stays good. */
void index_replace(struct index *index, const struct index_path *path, struct store_record *record);
/* Adds a record whose key index_seek has just not found at `path`. */
void index_insert(struct index *index, struct index_path *path, struct store_record *record);
/* Adds a record whose key is above all others, leaving leaves nearly full behind it. */
void index_append(struct index *index, struct store_record *record);
/* Takes out the record at the path. */
void index_remove(struct index *index, struct index_path *path);

/* How many live keys are below `key`. */
uint64_t index_count_below(const struct index *index, struct bytes key);

/* CHECKs all invariants. O(n). */
void index_verify(const struct index *index);

#endif
