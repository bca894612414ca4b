/* The digest of live keys: what is in it, and what must not be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/mem.h"
#include "store/leases.h"
#include "store/store_digest.h"
#include "store/store_snapshot.h"
#include "store_model.h"

static void put(struct store *store, const char *key, const char *value, uint64_t lease)
{
    store_begin(store);
    store_put(store, bytes_of_string(key), bytes_of_string(value), lease, NULL);
    store_end(store);
}

/* Of everything, in one piece. */
static uint64_t digest_all(const struct store *store)
{
    struct buffer next_key = {0};
    uint64_t digest = store_digest(store, &next_key, UINT32_MAX, UINT64_MAX);
    assert_int_equal(next_key.size, 0);
    buffer_free(&next_key);
    return digest;
}

/* Everything that is known of a key's newest version is in it, each bit. */
static void each_bit_counts(void **state)
{
    (void)state;
    struct store *store = store_new();
    put(store, "a", "1", 0);
    put(store, "b", "", 0);
    put(store, "b", "a value of some length", 7);
    put(store, "c", "", 0);
    uint64_t whole = digest_all(store);
    static const char *const keys[] = {"a", "b", "c"};
    for (size_t i = 0; i < ARRAY_COUNT(keys); i++) {
        const struct store_record *found;
        assert_int_equal(store_get(store, bytes_of_string(keys[i]), 0, &found), ERR_OK);
        struct store_record *record = (struct store_record *)found;
        for (int bit = 0; bit < 64; bit++) {
            record->create_revision ^= (int64_t)(1ull << bit);
            assert_true(digest_all(store) != whole);
            record->create_revision ^= (int64_t)(1ull << bit);
            record->mod_revision ^= (int64_t)(1ull << bit);
            assert_true(digest_all(store) != whole);
            record->mod_revision ^= (int64_t)(1ull << bit);
            record->lease ^= 1ull << bit;
            assert_true(digest_all(store) != whole);
            record->lease ^= 1ull << bit;
            int64_t version = record->version;
            record->version ^= (int64_t)(1ull << bit);
            assert_true(digest_all(store) != whole);
            record->version = version;
        }
        for (int bit = 0; bit < 32; bit++) {
            record->sub_revision ^= 1u << bit;
            assert_true(digest_all(store) != whole);
            record->sub_revision ^= 1u << bit;
        }
        for (size_t bit = 0; bit < 8 * (size_t)(record->key_bytes + record->value_bytes); bit++) {
            record->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_true(digest_all(store) != whole);
            record->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        /* A border that moves between key and value leaves the bytes as they are. */
        if (record->value_bytes == 0) continue;
        record->key_bytes++;
        record->value_bytes--;
        assert_true(digest_all(store) != whole);
        record->key_bytes--;
        record->value_bytes++;
    }
    assert_true(digest_all(store) == whole);
    store_free(store);
}

/* And of the lease that it hangs on what is replicated, and not what is the lessor's. */
static void its_lease_counts(void **state)
{
    (void)state;
    struct store *store = store_new();
    assert_int_equal(store_lease_grant(store, 7, 60), ERR_OK);
    put(store, "a", "1", 7);
    put(store, "b", "2", 0);
    uint64_t whole = digest_all(store);
    struct lease *lease = store_lease_find(store, 7);
    lease->ttl_s++;
    assert_true(digest_all(store) != whole);
    lease->ttl_s--;
    store_lease_checkpoint(store, 7, 30);
    assert_true(digest_all(store) != whole);
    store_lease_checkpoint(store, 7, 0);
    lease->deadline++;
    lease->heap_slot++;
    lease->revoke_proposed = !lease->revoke_proposed;
    assert_true(digest_all(store) == whole);
    store_free(store);
}

/* A slice ends with the last key that it may take, or with the one that brings it to the limit of bytes. */
static void slices(void **state)
{
    (void)state;
    struct store *store = store_new();
    struct buffer next_key = {0};
    assert_true(store_digest(store, &next_key, 1, 1) == 0);
    assert_int_equal(next_key.size, 0);
    for (char name[] = "k0"; name[1] <= '9'; name[1]++) put(store, name, "12345678", 0); /* 10 bytes each */
    put(store, "k35", "a very long value, far above the limit of what a slice may have", 0);
    static const struct {
        uint32_t keys_max;
        uint64_t bytes_max;
        const char *cursors;
    } cases[] = {
        {1, 1000, "k1 k2 k3 k35 k4 k5 k6 k7 k8 k9 - k1"},
        {4, 1000, "k35 k7 - k35"},
        {11, 1000, "- -"},
        {12, 1000, "- -"},
        {100, 1, "k1 k2 k3 k35 k4 k5 k6 k7 k8 k9 -"},
        {100, 10, "k1 k2 k3 k35 k4 k5 k6 k7 k8 k9 -"},
        {100, 11, "k2 k35 k4 k6 k8 - k2"},
        {100, 30, "k3 k4 k7 - k3"},
        {2, 30, "k2 k35 k4 k6 k8 - k2"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct buffer cursors = {0};
        buffer_clear(&next_key);
        while (cursors.size < strlen(cases[i].cursors)) {
            store_digest(store, &next_key, cases[i].keys_max, cases[i].bytes_max);
            if (cursors.size > 0) buffer_append_byte(&cursors, ' ');
            if (next_key.size == 0) buffer_append_byte(&cursors, '-');
            buffer_append(&cursors, next_key.data, next_key.size);
        }
        buffer_append_byte(&cursors, 0);
        assert_string_equal((const char *)cursors.data, cases[i].cursors);
        buffer_free(&cursors);
    }
    /* The key to go on from may be gone, and others have come. */
    buffer_clear(&next_key);
    buffer_append_string(&next_key, "k8");
    store_begin(store);
    store_delete(store, bytes_of_string("k8"), NULL);
    store_end(store);
    store_digest(store, &next_key, 1, 1000);
    assert_int_equal(next_key.size, 0);
    buffer_append_string(&next_key, "z");
    assert_true(store_digest(store, &next_key, 1, 1000) == 0);
    assert_int_equal(next_key.size, 0);
    buffer_free(&next_key);
    store_free(store);
}

static struct store *copy_of(struct store *store)
{
    struct store_snapshot_writer writer;
    struct buffer items = {0};
    struct store *copy = store_new();
    store_snapshot_begin(store, &writer);
    struct store_loader *loader = store_loader_new(copy, writer.revision, writer.compacted_revision);
    while (!writer.done) store_snapshot_next(store, &writer, 4096, &items);
    store_snapshot_end(store, &writer);
    assert_int_equal(store_loader_feed(loader, buffer_bytes(&items)), ERR_OK);
    assert_int_equal(store_loader_finish(loader), ERR_OK);
    buffer_free(&items);
    return copy;
}

static void cover(const struct model *model, const struct store *const *stores, size_t count, struct random *random)
{
    uint32_t keys_max = (uint32_t)random_between(random, 1, 20);
    uint64_t bytes_max = random_between(random, 1, 2000), keys = 0;
    struct buffer cursors[3] = {{0}};
    do {
        uint64_t digest = store_digest(stores[0], &cursors[0], keys_max, bytes_max);
        for (size_t i = 1; i < count; i++) {
            assert_true(store_digest(stores[i], &cursors[i], keys_max, bytes_max) == digest);
            assert_true(bytes_equal(buffer_bytes(&cursors[i]), buffer_bytes(&cursors[0])));
        }
    } while (cursors[0].size > 0);
    /* One at a time, it meets each live key once. */
    for (uint32_t key = 0; key < model->key_count; key++) {
        if (model_get(model, key, model->revision) == NULL) continue;
        keys++;
        if (keys > 1) assert_true(bytes_equal(buffer_bytes(&cursors[0]), model->keys[key]));
        store_digest(stores[0], &cursors[0], 1, 1);
    }
    if (keys > 0) assert_int_equal(cursors[0].size, 0);
    for (size_t i = 0; i < count; i++) buffer_free(&cursors[i]);
}

/* Members that free what is compacted now, later or never, or loaded a snapshot, have the same digests. */
static void when_memory_is_freed_makes_no_difference(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct random random;
        random_seed(&random, seed);
        struct model model;
        model_init(&model, &random, seed % 4 == 0 ? 2000 : 300);
        struct store *eager = store_new(), *lazy = store_new();
        for (int round = 0; round < 40; round++) {
            size_t from = model.version_count;
            for (int i = 0; i < 20; i++) model_change(&model, eager, &random);
            model_replay(&model, from, lazy);
            if (random_chance(&random, 300) && store_compacted_revision(eager) < store_current_revision(eager)) {
                store_revision revision = (store_revision)random_between(
                    &random, (uint64_t)store_compacted_revision(eager) + 1, (uint64_t)store_current_revision(eager));
                assert_int_equal(store_compact(eager, revision), ERR_OK);
                assert_int_equal(store_compact(lazy, revision), ERR_OK);
                model.compacted_revision = revision;
            }
            while (store_compact_step(eager, 100)) {}
            if (random_chance(&random, 200)) store_compact_step(lazy, 5);
            struct store *copy = copy_of(round % 2 == 0 ? lazy : eager);
            const struct store *stores[] = {eager, lazy, copy};
            cover(&model, stores, ARRAY_COUNT(stores), &random);
            store_free(copy);
        }
        store_free(eager);
        store_free(lazy);
        model_free(&model);
    }
}

/* Keys far apart, with nothing but dead ones in whole subtrees between. */
static void across_the_dead(void **state)
{
    (void)state;
    enum { KEYS = 40000, STEP = 9973 };
    struct store *store = store_new();
    char key[16];
    store_begin(store);
    for (unsigned i = 0; i < KEYS; i++) {
        snprintf(key, sizeof key, "%05u", i);
        store_put(store, bytes_of_string(key), bytes_of_string("v"), 0, NULL);
    }
    store_end(store);
    store_begin(store);
    for (unsigned i = 0; i < KEYS; i++) {
        snprintf(key, sizeof key, "%05u", i);
        if (i % STEP != STEP - 1) store_delete(store, bytes_of_string(key), NULL);
    }
    store_end(store);
    struct buffer next_key = {0};
    for (unsigned i = 1; i <= KEYS / STEP; i++) {
        assert_true(store_digest(store, &next_key, 1, 1) != 0);
        snprintf(key, sizeof key, "%05u", (i + 1) * STEP - 1);
        struct bytes expected = i < KEYS / STEP ? bytes_of_string(key) : bytes_of(NULL, 0);
        assert_true(bytes_equal(buffer_bytes(&next_key), expected));
    }
    uint64_t whole = digest_all(store);
    assert_int_equal(store_compact(store, store_current_revision(store)), ERR_OK);
    while (store_compact_step(store, 1000)) {}
    assert_true(digest_all(store) == whole);
    buffer_free(&next_key);
    store_free(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_bit_counts), cmocka_unit_test(its_lease_counts),
        cmocka_unit_test(slices),          cmocka_unit_test(when_memory_is_freed_makes_no_difference),
        cmocka_unit_test(across_the_dead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
