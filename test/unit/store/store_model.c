#include "store_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"

#define KEY_BYTES_MAX 40u

static int compare_keys(const void *a, const void *b)
{
    return bytes_compare(*(const struct bytes *)a, *(const struct bytes *)b);
}

void model_init(struct model *model, struct random *random, uint32_t key_count)
{
    *model = (struct model){.revision = 1};
    model->keys = mem_alloc(key_count * sizeof model->keys[0]);
    while (model->key_count < key_count) {
        static const uint8_t letters[] = {0x00, 'a', 'b', 0x7f, 0x80, 0xff};
        uint8_t *key = mem_alloc(KEY_BYTES_MAX);
        size_t size = 0;
        /* Half begin like another key: long common prefixes, and keys that are prefixes of others. */
        if (model->key_count > 0 && random_chance(random, 500)) {
            struct bytes other = model->keys[random_below(random, model->key_count)];
            size = random_between(random, 0, other.size);
            memcpy(key, other.data, size);
        }
        size_t more = random_between(random, 0, 6);
        while (size < KEY_BYTES_MAX && more-- > 0) key[size++] = letters[random_below(random, sizeof letters)];
        bool is_new = size > 0;
        for (uint32_t i = 0; is_new && i < model->key_count; i++) {
            is_new = !bytes_equal(model->keys[i], bytes_of(key, size));
        }
        if (is_new) {
            model->keys[model->key_count++] = bytes_of(key, size);
        } else {
            mem_free(key);
        }
    }
    qsort(model->keys, key_count, sizeof model->keys[0], compare_keys);
}

void model_free(struct model *model)
{
    if (model->is_cut) return;
    for (uint32_t i = 0; i < model->key_count; i++) mem_free((void *)(uintptr_t)model->keys[i].data);
    mem_free(model->keys);
    mem_free(model->versions);
}

struct model model_cut(const struct model *model, size_t version_count, store_revision revision,
                       store_revision compacted_revision)
{
    struct model cut = *model;
    cut.version_count = version_count;
    cut.revision = revision;
    cut.compacted_revision = compacted_revision;
    cut.is_cut = true;
    return cut;
}

struct bytes model_value(const struct model_version *version, uint8_t value[MODEL_VALUE_BYTES_MAX])
{
    for (uint32_t i = 0; i < version->value_bytes; i++) {
        value[i] = (uint8_t)(random_mix((uint64_t)version->mod_revision * 1000 + version->sub_revision) >> i % 56);
    }
    return bytes_of(value, version->value_bytes);
}

/* The newest version of a key before version number `before`, deleted or not. */
static const struct model_version *newest_before(const struct model *model, uint32_t key, size_t before)
{
    while (before-- > 0) {
        if (model->versions[before].key == key) return &model->versions[before];
    }
    return NULL;
}

const struct model_version *model_get(const struct model *model, uint32_t key, store_revision revision)
{
    size_t before = model->version_count;
    while (before > 0 && model->versions[before - 1].mod_revision > revision) before--;
    const struct model_version *version = newest_before(model, key, before);
    return version && !version->is_tombstone ? version : NULL;
}

static const struct model_version *model_newest(const struct model *model, uint32_t key)
{
    const struct model_version *version = newest_before(model, key, model->version_count);
    return version && !version->is_tombstone ? version : NULL;
}

static struct model_version *model_add(struct model *model, uint32_t key, uint32_t sub_revision)
{
    if (model->version_count == model->version_capacity) {
        model->version_capacity = model->version_capacity > 0 ? 2 * model->version_capacity : 64;
        model->versions = mem_realloc(model->versions, model->version_capacity * sizeof model->versions[0]);
    }
    struct model_version *version = &model->versions[model->version_count++];
    *version = (struct model_version){
        .key = key,
        .is_tombstone = true,
        .mod_revision = model->revision + 1,
        .sub_revision = sub_revision,
    };
    return version;
}

void model_check_record(const struct model *model, const struct model_version *version,
                        const struct store_record *record)
{
    uint8_t value[MODEL_VALUE_BYTES_MAX];
    assert_non_null(record);
    assert_true(bytes_equal(store_record_key(record), model->keys[version->key]));
    assert_true(bytes_equal(store_record_value(record), model_value(version, value)));
    assert_int_equal(record->create_revision, version->create_revision);
    assert_int_equal(record->mod_revision, version->mod_revision);
    assert_int_equal(record->sub_revision, version->sub_revision);
    assert_int_equal(record->version, version->version);
    assert_int_equal(record->lease, version->lease);
    assert_int_equal(store_record_is_tombstone(record), version->is_tombstone);
}

static void check_previous(const struct model *model, const struct model_version *expected,
                           const struct store_record *previous)
{
    if (expected) {
        model_check_record(model, expected, previous);
    } else {
        assert_null(previous);
    }
}

static void put(struct model *model, struct store *store, struct random *random, uint32_t key, uint32_t sub_revision)
{
    uint8_t value[MODEL_VALUE_BYTES_MAX];
    const struct model_version *before = model_newest(model, key);
    struct model_version replaced = before ? *before : (struct model_version){.key = key};
    bool existed = before != NULL;
    struct model_version *version = model_add(model, key, sub_revision);
    version->is_tombstone = false;
    version->version = replaced.version + 1;
    version->create_revision = existed ? replaced.create_revision : version->mod_revision;
    version->lease = random_below(random, 3);
    version->value_bytes = (uint32_t)random_between(random, 0, MODEL_VALUE_BYTES_MAX);
    const struct store_record *previous;
    store_put(store, model->keys[key], model_value(version, value), version->lease, &previous);
    check_previous(model, existed ? &replaced : NULL, previous);
}

static bool delete_one(struct model *model, struct store *store, uint32_t key, uint32_t sub_revision)
{
    const struct model_version *before = model_newest(model, key);
    const struct store_record *previous;
    assert_int_equal(store_delete(store, model->keys[key], &previous), before != NULL);
    check_previous(model, before, previous);
    if (before) model_add(model, key, sub_revision);
    return before != NULL;
}

/* A random range over keys in the model, with their numbers. */
static void random_range(const struct model *model, struct random *random, struct bytes *key, struct bytes *end,
                         uint32_t *from, uint32_t *to)
{
    *from = (uint32_t)random_below(random, model->key_count + 1);
    *key = *from < model->key_count ? model->keys[*from] : bytes_of("\xff\xff\xff\xff\xff\xff\xff\xff", 8);
    while (*from > 0 && bytes_compare(model->keys[*from - 1], *key) >= 0) (*from)--;
    while (*from < model->key_count && bytes_compare(model->keys[*from], *key) < 0) (*from)++;
    if (*from == 0 && random_chance(random, 500)) *key = bytes_of(NULL, 0);
    *to = model->key_count;
    *end = bytes_of(NULL, 0);
    if (random_chance(random, 700)) {
        *to = (uint32_t)random_below(random, model->key_count);
        *end = model->keys[*to];
    }
    if (*to < *from) *to = *from; /* an end before the start: an empty range */
}

static uint32_t delete_range(struct model *model, struct store *store, struct random *random, uint32_t sub_revision)
{
    struct bytes key;
    struct bytes end;
    uint32_t from;
    uint32_t to;
    random_range(model, random, &key, &end, &from, &to);
    /* Mostly short ones, or little would ever live. */
    if (to > from + 4 && random_chance(random, 900)) {
        to = from + 4;
        end = model->keys[to];
    }
    uint32_t deleted = 0;
    for (uint32_t i = from; i < to; i++) {
        if (model_newest(model, i)) model_add(model, i, sub_revision + deleted++);
    }
    assert_int_equal(store_delete_range(store, key, end), deleted);
    return deleted;
}

static void check_get_now(const struct model *model, const struct store *store, uint32_t key)
{
    const struct store_record *record;
    const struct model_version *version = model_newest(model, key);
    enum error error = store_get(store, model->keys[key], 0, &record);
    assert_int_equal(error, version ? ERR_OK : ERR_NOT_FOUND);
    if (version) model_check_record(model, version, record);
}

void model_change(struct model *model, struct store *store, struct random *random)
{
    uint32_t sub_revision = 0;
    store_begin(store);
    for (uint64_t changes = random_between(random, 1, 5); changes > 0; changes--) {
        uint32_t key = (uint32_t)random_below(random, model->key_count);
        uint64_t kind = random_below(random, 100);
        if (kind < 60) {
            put(model, store, random, key, sub_revision++);
        } else if (kind < 90) {
            sub_revision += delete_one(model, store, key, sub_revision);
        } else {
            sub_revision += delete_range(model, store, random, sub_revision);
        }
        /* Open changes are seen now, and not at the revision before. */
        check_get_now(model, store, key);
        const struct store_record *record;
        const struct model_version *version = model_get(model, key, model->revision);
        assert_int_equal(store_get(store, model->keys[key], model->revision, &record),
                         version ? ERR_OK : ERR_NOT_FOUND);
        if (version) model_check_record(model, version, record);
        assert_int_equal(store_get(store, model->keys[key], model->revision + 1, &record), ERR_FUTURE_REVISION);
        uint64_t position = 0;
        assert_int_equal(store_history_next(store, model->revision, &position, &record, 1), 0);
    }
    if (sub_revision > 0) model->revision++;
    assert_int_equal(store_end(store), model->revision);
}

void model_replay(const struct model *model, size_t from, struct store *store)
{
    while (from < model->version_count) {
        store_revision revision = model->versions[from].mod_revision;
        store_begin(store);
        for (; from < model->version_count && model->versions[from].mod_revision == revision; from++) {
            const struct model_version *version = &model->versions[from];
            uint8_t value[MODEL_VALUE_BYTES_MAX];
            struct bytes key = model->keys[version->key];
            if (version->is_tombstone) {
                assert_true(store_delete(store, key, NULL));
            } else {
                store_put(store, key, model_value(version, value), version->lease, NULL);
            }
        }
        assert_int_equal(store_end(store), revision);
    }
}

/* ---- checking ---- */

static void check_gets(const struct model *model, const struct store *store, store_revision revision)
{
    for (uint32_t key = 0; key < model->key_count; key++) {
        const struct store_record *record = NULL;
        const struct model_version *version = model_get(model, key, revision);
        enum error error = store_get(store, model->keys[key], revision, &record);
        assert_int_equal(error, version ? ERR_OK : ERR_NOT_FOUND);
        if (version) model_check_record(model, version, record);
    }
}

static void check_range(const struct model *model, const struct store *store, struct random *random,
                        store_revision revision)
{
    struct bytes key;
    struct bytes end;
    uint32_t from;
    uint32_t to;
    random_range(model, random, &key, &end, &from, &to);
    struct store_cursor cursor;
    store_cursor_open(&cursor, key, end, revision);
    size_t max = random_between(random, 1, 7);
    while (!cursor.done) {
        const struct store_record *records[7];
        size_t count = store_cursor_next(store, &cursor, records, max);
        assert_true(count <= max);
        for (size_t i = 0; i < count; i++) {
            while (from < to && !model_get(model, from, revision)) from++;
            assert_true(from < to);
            model_check_record(model, model_get(model, from++, revision), records[i]);
        }
    }
    while (from < to) assert_null(model_get(model, from++, revision));
    assert_int_equal(store_cursor_next(store, &cursor, NULL, 1), 0);
    store_cursor_close(&cursor);
}

static void check_counts(const struct model *model, const struct store *store, struct random *random)
{
    uint64_t live = 0;
    uint64_t live_bytes = 0;
    for (uint32_t key = 0; key < model->key_count; key++) {
        const struct model_version *version = model_newest(model, key);
        if (!version) continue;
        live++;
        live_bytes += model->keys[key].size + version->value_bytes;
    }
    assert_int_equal(store_key_count(store), live);
    assert_int_equal(store_live_bytes(store), live_bytes);
    assert_int_equal(store_count(store, bytes_of(NULL, 0), bytes_of(NULL, 0)), live);
    for (int i = 0; i < 10; i++) {
        struct bytes key;
        struct bytes end;
        uint32_t from;
        uint32_t to;
        random_range(model, random, &key, &end, &from, &to);
        uint64_t expected = 0;
        for (; from < to; from++) expected += model_newest(model, from) != NULL;
        assert_int_equal(store_count(store, key, end), expected);
    }
}

static void check_history(const struct model *model, const struct store *store, struct random *random,
                          store_revision revision)
{
    size_t at = 0;
    while (at < model->version_count && model->versions[at].mod_revision <= revision) at++;
    uint64_t position = 0;
    size_t max = random_between(random, 1, 9);
    for (;;) {
        const struct store_record *records[9];
        size_t count = store_history_next(store, revision, &position, records, max);
        if (count == 0) break;
        for (size_t i = 0; i < count; i++) {
            assert_true(at < model->version_count);
            model_check_record(model, &model->versions[at++], records[i]);
        }
    }
    assert_int_equal(at, model->version_count);
}

/* By the definition in store.h. */
static uint64_t history_bytes(const struct model *model)
{
    uint64_t total = 0;
    for (size_t i = 0; i < model->version_count; i++) {
        const struct model_version *version = &model->versions[i];
        if (version->mod_revision <= model->compacted_revision) continue;
        uint64_t fixed = sizeof(struct store_record) + model->keys[version->key].size;
        const struct model_version *before = newest_before(model, version->key, i);
        if (before && !before->is_tombstone) total += fixed + before->value_bytes;
        if (version->is_tombstone) total += fixed;
    }
    return total;
}

void model_check(const struct model *model, const struct store *store, struct random *random, bool thorough)
{
    store_verify(store);
    assert_int_equal(store_current_revision(store), model->revision);
    assert_int_equal(store_compacted_revision(store), model->compacted_revision);
    store_revision first = model->compacted_revision > 0 ? model->compacted_revision : 1;
    for (store_revision revision = first; revision <= model->revision; revision++) {
        if (!thorough && revision != first && revision != model->revision && !random_chance(random, 100)) continue;
        check_gets(model, store, revision);
        check_range(model, store, random, revision);
        check_history(model, store, random, revision);
    }
    const struct store_record *record;
    if (first > 1) assert_int_equal(store_get(store, model->keys[0], first - 1, &record), ERR_COMPACTED);
    assert_int_equal(store_get(store, model->keys[0], model->revision + 1, &record), ERR_FUTURE_REVISION);
    check_counts(model, store, random);
    assert_int_equal(store_history_bytes(store), history_bytes(model));
}
