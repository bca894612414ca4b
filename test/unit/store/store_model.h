/*
 * store_model.h - what the store must do, done the slow and obvious way: a list of all versions ever made.
 */
#ifndef CORACLE_TEST_STORE_MODEL_H
#define CORACLE_TEST_STORE_MODEL_H

#include "base/random.h"
#include "store/store.h"

#define MODEL_VALUE_BYTES_MAX 60u

struct model_version {
    uint32_t key; /* index into model.keys */
    bool is_tombstone;
    store_revision create_revision;
    store_revision mod_revision;
    int64_t version;
    uint64_t lease;
    uint32_t sub_revision;
    uint32_t value_bytes;
};

struct model {
    struct bytes *keys; /* sorted; owned, unless is_cut */
    uint32_t key_count;
    struct model_version *versions; /* in the order they were made; owned, unless is_cut */
    size_t version_count;
    size_t version_capacity;
    store_revision revision;
    store_revision compacted_revision;
    bool is_cut;
};

/* `key_count` different random keys, many of which begin alike. */
void model_init(struct model *model, struct random *random, uint32_t key_count);
void model_free(struct model *model);
/* The model as it was: a view of `model`, which must outlive it and not change. */
struct model model_cut(const struct model *model, size_t version_count, store_revision revision,
                       store_revision compacted_revision);

/* One transaction of some random changes, on both; with reads while it is open. */
void model_change(struct model *model, struct store *store, struct random *random);
/* Puts the model's versions from number `from` on into a store that has the ones before. */
void model_replay(const struct model *model, size_t from, struct store *store);

/* The key's version at a revision, or NULL where there is none or it is deleted. */
const struct model_version *model_get(const struct model *model, uint32_t key, store_revision revision);
/* A version's value, which follows from its place in time. */
struct bytes model_value(const struct model_version *version, uint8_t value[MODEL_VALUE_BYTES_MAX]);
void model_check_record(const struct model *model, const struct model_version *version,
                        const struct store_record *record);
/* All that the store can be asked: reads at all (when `thorough`, else some) readable revisions. */
void model_check(const struct model *model, const struct store *store, struct random *random, bool thorough);

#endif
