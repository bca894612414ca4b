/*
 * Leases by themselves: what hangs on them, revoking, and their part of a snapshot; then random lives against a model.
 */
#include "store/leases.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/random.h"
#include "store/store_snapshot.h"

#define TEXT(text) bytes_of_string(text)
#define KEY_TEXT_BYTES 64

static store_revision put(struct store *store, const char *key, const char *value, uint64_t lease)
{
    store_begin(store);
    store_put(store, TEXT(key), TEXT(value), lease, NULL);
    store_revision revision = store_end(store);
    store_verify(store);
    return revision;
}

static void delete_key(struct store *store, const char *key)
{
    store_begin(store);
    store_delete(store, TEXT(key), NULL);
    store_end(store);
    store_verify(store);
}

static void grant(struct store *store, uint64_t id)
{
    assert_int_equal(store_lease_grant(store, id, 60), ERR_OK);
}

/* The keys of a lease, with a space after each. */
static const char *keys_of(const struct store *store, uint64_t id)
{
    static char text[1000];
    text[0] = 0;
    const struct lease *lease = store_lease_find(store, id);
    assert_non_null(lease);
    const struct store_record *records[100];
    assert_true(lease->key_count <= ARRAY_COUNT(records));
    store_lease_keys(lease, records);
    for (uint32_t i = 0; i < lease->key_count; i++) {
        struct bytes key = store_record_key(records[i]);
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, "%.*s ", (int)key.size, (const char *)key.data);
    }
    return text;
}

/* ---- granting ---- */

static void a_lease_is_granted_once(void **state)
{
    (void)state;
    struct store *store = store_new();
    assert_null(store_lease_find(store, 7));
    assert_int_equal(store_lease_count(store), 0);
    assert_int_equal(store_lease_grant(store, 7, 60), ERR_OK);
    assert_int_equal(store_lease_grant(store, 7, 90), ERR_LEASE_EXISTS);
    assert_int_equal(store_lease_grant(store, INT64_MAX, 1), ERR_OK);
    assert_int_equal(store_lease_grant(store, UINT64_MAX, 1), ERR_OK);
    const struct lease *lease = store_lease_find(store, 7);
    assert_int_equal(lease->id, 7);
    assert_int_equal(lease->ttl_s, 60);
    assert_int_equal(lease->remaining_s, 0);
    assert_int_equal(lease->key_count, 0);
    assert_int_equal(store_lease_count(store), 3);
    assert_int_equal(store_current_revision(store), 1);
    store_verify(store);
    store_free(store);
}

static void many_leases_are_found_whichever_go(void **state)
{
    (void)state;
    struct store *store = store_new();
    for (uint64_t id = 1; id <= 3000; id++) grant(store, id * 64);
    store_verify(store);
    for (uint64_t id = 1; id <= 3000; id++) {
        if (id % 3 != 0) assert_int_equal(store_lease_revoke(store, id * 64, NULL), ERR_OK);
        if (id % 500 == 0) store_verify(store);
    }
    assert_int_equal(store_lease_count(store), 1000);
    for (uint64_t id = 1; id <= 3000; id++) {
        const struct lease *lease = store_lease_find(store, id * 64);
        assert_int_equal(lease != NULL, id % 3 == 0);
        if (lease != NULL) assert_int_equal(lease->id, id * 64);
    }
    size_t seen = 0;
    for (size_t slot = 0; slot < store_lease_slots(store); slot++) seen += store_lease_at(store, slot) != NULL;
    assert_int_equal(seen, 1000);
    assert_int_equal(store_current_revision(store), 1);
    store_free(store);
}

static void a_checkpoint_is_kept_and_one_of_no_lease_is_nothing(void **state)
{
    (void)state;
    struct store *store = store_new();
    store_lease_checkpoint(store, 1, 5);
    assert_int_equal(store_lease_count(store), 0);
    grant(store, 1);
    store_lease_checkpoint(store, 1, 5);
    assert_int_equal(store_lease_find(store, 1)->remaining_s, 5);
    assert_int_equal(store_lease_find(store, 1)->ttl_s, 60);
    store_lease_checkpoint(store, 1, 0);
    assert_int_equal(store_lease_find(store, 1)->remaining_s, 0);
    store_free(store);
}

/* ---- keys ---- */

static void a_put_attaches_and_detaches(void **state)
{
    (void)state;
    struct store *store = store_new();
    grant(store, 1);
    grant(store, 2);
    put(store, "b", "", 1);
    put(store, "a", "", 1);
    put(store, "c", "", 2);
    assert_string_equal(keys_of(store, 1), "a b ");
    put(store, "a", "new", 1); /* under the same lease */
    assert_string_equal(keys_of(store, 1), "a b ");
    put(store, "a", "", 2); /* under another */
    assert_string_equal(keys_of(store, 1), "b ");
    assert_string_equal(keys_of(store, 2), "a c ");
    put(store, "c", "", 0); /* rule 25: under none */
    assert_string_equal(keys_of(store, 2), "a ");
    delete_key(store, "a");
    assert_string_equal(keys_of(store, 2), "");
    put(store, "a", "", 0); /* made again, it hangs on nothing */
    assert_string_equal(keys_of(store, 2), "");
    store_begin(store);
    assert_int_equal(store_delete_range(store, TEXT(""), TEXT("")), 3);
    store_end(store);
    store_verify(store);
    assert_string_equal(keys_of(store, 1), "");
    store_free(store);
}

static void several_changes_in_one_transaction(void **state)
{
    (void)state;
    struct store *store = store_new();
    grant(store, 1);
    grant(store, 2);
    store_begin(store);
    store_put(store, TEXT("a"), TEXT(""), 1, NULL);
    store_put(store, TEXT("a"), TEXT(""), 2, NULL);
    store_put(store, TEXT("b"), TEXT(""), 2, NULL);
    store_delete(store, TEXT("b"), NULL);
    store_put(store, TEXT("b"), TEXT(""), 1, NULL);
    store_verify(store);
    store_end(store);
    assert_string_equal(keys_of(store, 1), "b ");
    assert_string_equal(keys_of(store, 2), "a ");
    store_free(store);
}

/* From an array to a hash set and on, by way of every size; then down to nothing, so that many gaps are closed. */
static void a_set_grows_and_closes_its_gaps(void **state)
{
    (void)state;
    enum { KEYS = 700 };
    struct store *store = store_new();
    struct random random;
    random_seed(&random, 1);
    grant(store, 1);
    for (int round = 0; round < 3; round++) {
        char key[KEY_TEXT_BYTES];
        uint32_t order[KEYS];
        for (uint32_t i = 0; i < KEYS; i++) {
            snprintf(key, sizeof key, "key-%u", i);
            store_begin(store);
            store_put(store, TEXT(key), TEXT(""), 1, NULL);
            store_end(store);
            if (i < 40) store_verify(store);
            uint32_t other = (uint32_t)random_below(&random, i + 1);
            order[i] = order[other];
            order[other] = i;
        }
        store_verify(store);
        assert_int_equal(store_lease_find(store, 1)->key_count, KEYS);
        for (uint32_t i = 0; i < KEYS; i++) {
            snprintf(key, sizeof key, "key-%u", order[i]);
            store_begin(store);
            if (round == 0) {
                assert_true(store_delete(store, TEXT(key), NULL));
            } else {
                store_put(store, TEXT(key), TEXT(""), 0, NULL);
            }
            store_end(store);
            store_verify(store);
            assert_int_equal(store_lease_find(store, 1)->key_count, KEYS - 1 - i);
        }
    }
    store_free(store);
}

static void the_memory_of_sets_is_counted(void **state)
{
    (void)state;
    struct store *with = store_new(), *without = store_new();
    grant(with, 1);
    grant(without, 1);
    for (int i = 0; i < 1000; i++) {
        char key[KEY_TEXT_BYTES];
        snprintf(key, sizeof key, "key-%u", i);
        put(with, key, "", 1);
        put(without, key, "", 0);
    }
    uint64_t more = store_memory_bytes(with) - store_memory_bytes(without);
    assert_in_range(more, 1000 * sizeof(void *), 4000 * sizeof(void *));
    /* The tombstones of the one are put into the other as well, so that nothing but the set is the difference. */
    assert_int_equal(store_lease_revoke(with, 1, NULL), ERR_OK);
    assert_int_equal(store_lease_revoke(without, 1, NULL), ERR_OK);
    store_begin(without);
    store_delete_range(without, TEXT(""), TEXT(""));
    store_end(without);
    assert_int_equal(store_memory_bytes(with), store_memory_bytes(without));
    store_free(with);
    store_free(without);
}

/* The store doesn't refuse it, nor is it taken in when a lease of that id comes later. */
static void a_key_that_names_no_lease_hangs_on_none(void **state)
{
    (void)state;
    struct store *store = store_new();
    for (int i = 0; i < 20; i++) {
        char key[KEY_TEXT_BYTES];
        snprintf(key, sizeof key, "early-%02d", i);
        put(store, key, "", 1);
    }
    grant(store, 1);
    store_verify(store);
    assert_string_equal(keys_of(store, 1), "");
    put(store, "late", "", 1);
    put(store, "early-00", "", 1);
    put(store, "early-01", "", 0);
    delete_key(store, "early-02");
    assert_string_equal(keys_of(store, 1), "early-00 late ");
    for (int i = 0; i < 20; i++) { /* now as a hash set */
        char key[KEY_TEXT_BYTES];
        snprintf(key, sizeof key, "late-%02d", i);
        put(store, key, "", 1);
    }
    put(store, "early-03", "", 0);
    delete_key(store, "early-04");
    uint64_t deleted;
    assert_int_equal(store_lease_revoke(store, 1, &deleted), ERR_OK);
    assert_int_equal(deleted, 22);
    store_verify(store);
    store_free(store);
}

/* ---- revoking ---- */

/* Rule 43. */
static void revoking_deletes_all_keys_in_one_revision_and_in_order(void **state)
{
    (void)state;
    for (uint32_t count = 1; count <= 1000; count = count * 3 + 1) {
        struct store *store = store_new();
        struct random random;
        random_seed(&random, count);
        grant(store, 1);
        grant(store, 2);
        for (uint32_t i = 0; i < count; i++) {
            char key[KEY_TEXT_BYTES];
            /* A common prefix, long equal stretches behind it, keys that begin others, and bytes above 127. */
            static const char *const parts[] = {"",  "a",    "aaaaaaaaaaaaaaaa",
                                                "b", "\xff", "\x80\x80\x80\x80\x80\x80\x80\x80"};
            snprintf(key, sizeof key, "prefix/%s%s%u", parts[random_below(&random, ARRAY_COUNT(parts))],
                     parts[random_below(&random, ARRAY_COUNT(parts))], i % 10 == 0 ? 0 : i);
            store_begin(store);
            store_put(store, TEXT(key), TEXT("v"), 1, NULL);
            store_end(store);
        }
        put(store, "other", "v", 2);
        store_revision before = put(store, "none", "v", 0);
        uint32_t attached = store_lease_find(store, 1)->key_count;
        uint64_t deleted;
        assert_int_equal(store_lease_revoke(store, 1, &deleted), ERR_OK);
        store_verify(store);
        assert_int_equal(deleted, attached);
        assert_int_equal(store_current_revision(store), before + 1);
        assert_null(store_lease_find(store, 1));
        assert_int_equal(store_key_count(store), 2);
        assert_string_equal(keys_of(store, 2), "other ");
        static const struct store_record *records[2000];
        uint64_t position = 0;
        size_t events = store_history_next(store, before, &position, records, ARRAY_COUNT(records));
        assert_int_equal(events, attached);
        for (size_t i = 0; i < events; i++) {
            assert_true(store_record_is_tombstone(records[i]));
            assert_int_equal(records[i]->mod_revision, before + 1);
            assert_int_equal(records[i]->sub_revision, i);
            if (i == 0) continue;
            assert_true(bytes_compare(store_record_key(records[i - 1]), store_record_key(records[i])) < 0);
        }
        store_free(store);
    }
}

/* Rule 3. */
static void revoking_what_has_no_key_leaves_the_revision(void **state)
{
    (void)state;
    struct store *store = store_new();
    uint64_t deleted = 99;
    assert_int_equal(store_lease_revoke(store, 1, &deleted), ERR_LEASE_NOT_FOUND);
    assert_int_equal(deleted, 0);
    grant(store, 1);
    assert_int_equal(store_lease_revoke(store, 1, &deleted), ERR_OK);
    assert_int_equal(deleted, 0);
    assert_int_equal(store_current_revision(store), 1);
    assert_int_equal(store_lease_revoke(store, 1, NULL), ERR_LEASE_NOT_FOUND);
    grant(store, 1); /* the id may come again, as another lease */
    put(store, "a", "", 1);
    put(store, "a", "", 0);
    store_revision before = store_current_revision(store);
    assert_int_equal(store_lease_revoke(store, 1, &deleted), ERR_OK);
    assert_int_equal(store_current_revision(store), before);
    assert_int_equal(store_key_count(store), 1);
    store_verify(store);
    store_free(store);
}

static void a_revoked_keys_past_stays_readable(void **state)
{
    (void)state;
    struct store *store = store_new();
    grant(store, 1);
    store_revision first = put(store, "a", "one", 1);
    store_lease_revoke(store, 1, NULL);
    grant(store, 1);
    store_revision again = put(store, "a", "two", 1);
    const struct store_record *record;
    assert_int_equal(store_get(store, TEXT("a"), first, &record), ERR_OK);
    assert_int_equal(record->lease, 1);
    assert_int_equal(store_get(store, TEXT("a"), first + 1, &record), ERR_NOT_FOUND);
    assert_int_equal(store_get(store, TEXT("a"), again, &record), ERR_OK);
    assert_int_equal(record->version, 1); /* rule 23 */
    assert_int_equal(record->create_revision, again);
    /* Compaction frees versions that were on a lease once; only the newest one is on it. */
    assert_int_equal(store_compact(store, again), ERR_OK);
    while (store_compact_step(store, 1)) store_verify(store);
    store_verify(store);
    assert_string_equal(keys_of(store, 1), "a ");
    store_free(store);
}

/* ---- snapshots ---- */

static void write_leases(struct store *store, size_t max, struct buffer *out)
{
    store_leases_snapshot_begin(store);
    while (store_leases_snapshot_next(store, max, out)) continue;
    store_leases_snapshot_end(store);
}

static struct store *load(struct bytes leases, struct store *keys)
{
    struct store_snapshot_writer writer;
    struct buffer payload = {.data = NULL};
    store_snapshot_begin(keys, &writer);
    while (!writer.done) store_snapshot_next(keys, &writer, 100, &payload);
    struct store *loaded = store_new();
    assert_int_equal(store_leases_decode(loaded, leases), ERR_OK);
    struct store_loader *loader = store_loader_new(loaded, writer.revision, writer.compacted_revision);
    store_snapshot_end(keys, &writer);
    assert_int_equal(store_loader_feed(loader, buffer_bytes(&payload)), ERR_OK);
    assert_int_equal(store_loader_finish(loader), ERR_OK);
    buffer_free(&payload);
    store_verify(loaded);
    return loaded;
}

static void a_snapshot_brings_leases_and_what_hangs_on_them(void **state)
{
    (void)state;
    struct store *store = store_new();
    assert_int_equal(store_lease_grant(store, UINT64_MAX, INT64_MAX), ERR_OK);
    grant(store, 1);
    grant(store, 2);
    grant(store, 3);
    store_lease_checkpoint(store, 2, 17);
    put(store, "a", "", 1);
    put(store, "b", "", 2);
    put(store, "b", "", 1); /* its older version stays in the snapshot, and must not count */
    put(store, "c", "", 2);
    put(store, "d", "", 2);
    delete_key(store, "d");
    struct buffer leases = {.data = NULL};
    write_leases(store, 1, &leases);
    assert_int_equal(leases.size, 4 * STORE_LEASE_ITEM_BYTES);
    struct store *loaded = load(buffer_bytes(&leases), store);
    assert_int_equal(store_lease_count(loaded), 4);
    assert_string_equal(keys_of(loaded, 1), "a b ");
    assert_string_equal(keys_of(loaded, 2), "c ");
    assert_string_equal(keys_of(loaded, 3), "");
    assert_int_equal(store_lease_find(loaded, 2)->remaining_s, 17);
    assert_int_equal(store_lease_find(loaded, 2)->ttl_s, 60);
    assert_int_equal(store_lease_find(loaded, UINT64_MAX)->ttl_s, INT64_MAX);
    /* And goes on alike. */
    uint64_t deleted;
    assert_int_equal(store_lease_revoke(loaded, 1, &deleted), ERR_OK);
    assert_int_equal(deleted, 2);
    store_verify(loaded);
    buffer_free(&leases);
    store_free(loaded);
    store_free(store);
}

/* Everything that can happen to a lease between two slices: what is written is as it was at the beginning. */
static void a_snapshot_is_of_its_beginning(void **state)
{
    (void)state;
    struct store *store = store_new();
    for (uint64_t id = 1; id <= 20; id++) grant(store, id);
    struct buffer leases = {.data = NULL};
    store_leases_snapshot_begin(store);
    assert_true(store_leases_snapshot_next(store, 1, &leases));
    for (uint64_t id = 1; id <= 20; id += 2) assert_int_equal(store_lease_revoke(store, id, NULL), ERR_OK);
    for (uint64_t id = 2; id <= 20; id += 4) store_lease_checkpoint(store, id, 5);
    for (uint64_t id = 2; id <= 20; id += 4) store_lease_checkpoint(store, id, 6);
    grant(store, 1);                                           /* again, as another lease */
    for (uint64_t id = 100; id <= 300; id++) grant(store, id); /* the table grows */
    store_lease_revoke(store, 2, NULL);                        /* changed, put aside, and then gone */
    store_lease_revoke(store, 100, NULL);
    while (store_leases_snapshot_next(store, 3, &leases)) store_lease_checkpoint(store, 4, 7);
    store_leases_snapshot_end(store);
    assert_int_equal(leases.size, 20 * STORE_LEASE_ITEM_BYTES);
    struct store *loaded = store_new();
    assert_int_equal(store_leases_decode(loaded, buffer_bytes(&leases)), ERR_OK);
    for (uint64_t id = 1; id <= 20; id++) {
        assert_int_equal(store_lease_find(loaded, id)->remaining_s, 0);
        assert_int_equal(store_lease_find(loaded, id)->ttl_s, 60);
    }
    assert_int_equal(store_lease_count(loaded), 20);
    store_free(loaded);
    /* One that was given up doesn't get into the way of the next. */
    store_leases_snapshot_begin(store);
    buffer_clear(&leases);
    store_leases_snapshot_next(store, 50, &leases);
    store_lease_checkpoint(store, 4, 8);
    store_leases_snapshot_end(store);
    buffer_clear(&leases);
    write_leases(store, 7, &leases);
    assert_int_equal(leases.size, store_lease_count(store) * STORE_LEASE_ITEM_BYTES);
    buffer_free(&leases);
    store_leases_snapshot_begin(store); /* and a store may end in the middle */
    store_lease_checkpoint(store, 4, 9);
    store_free(store);
}

/* Leases that close the gap of a revoked one move towards the table's start, past the place where the walk is. */
static void a_snapshot_misses_no_lease_that_moves(void **state)
{
    (void)state;
    struct store *store = store_new();
    struct buffer leases = {.data = NULL};
    for (uint64_t id = 1; id <= 1000; id++) grant(store, id);
    store_leases_snapshot_begin(store);
    while (store_leases_snapshot_next(store, 1, &leases)) {
        /* The one just before the place of the walk. */
        const struct lease *lease = NULL;
        for (size_t at = 0; at < leases.size / STORE_LEASE_ITEM_BYTES; at++) {
            const struct lease *written = store_lease_find(store, get_u64(leases.data + at * STORE_LEASE_ITEM_BYTES));
            if (written != NULL) lease = written;
        }
        if (lease != NULL) assert_int_equal(store_lease_revoke(store, lease->id, NULL), ERR_OK);
    }
    store_leases_snapshot_end(store);
    assert_int_equal(leases.size, 1000 * STORE_LEASE_ITEM_BYTES);
    struct store *loaded = store_new();
    assert_int_equal(store_leases_decode(loaded, buffer_bytes(&leases)), ERR_OK);
    for (uint64_t id = 1; id <= 1000; id++) assert_non_null(store_lease_find(loaded, id));
    buffer_free(&leases);
    store_free(loaded);
    store_free(store);
}

static void a_bad_snapshot_of_leases_is_refused(void **state)
{
    (void)state;
    struct store *store = store_new();
    grant(store, 1);
    grant(store, 2);
    struct buffer leases = {.data = NULL};
    write_leases(store, 1, &leases);
    for (size_t size = 0; size < leases.size; size++) {
        struct store *loaded = store_new();
        bool whole = size % STORE_LEASE_ITEM_BYTES == 0;
        assert_int_equal(store_leases_decode(loaded, bytes_of(leases.data, size)), whole ? ERR_OK : ERR_DAMAGED);
        store_free(loaded);
    }
    struct store *loaded = store_new();
    assert_int_equal(store_leases_decode(loaded, buffer_bytes(&leases)), ERR_OK);
    assert_int_equal(store_leases_decode(loaded, buffer_bytes(&leases)), ERR_DAMAGED); /* each of them twice */
    store_free(loaded);
    loaded = store_new();
    put_u64(leases.data, 0);
    assert_int_equal(store_leases_decode(loaded, buffer_bytes(&leases)), ERR_DAMAGED);
    store_free(loaded);
    /* After keys: these would hang on nothing. */
    put(store, "a", "", 1);
    put_u64(leases.data, 9);
    put_u64(leases.data + STORE_LEASE_ITEM_BYTES, 10);
    assert_int_equal(store_leases_decode(store, buffer_bytes(&leases)), ERR_DAMAGED);
    buffer_free(&leases);
    store_free(store);
}

/* ---- random lives ---- */

#define MODEL_LEASES 60u
#define MODEL_KEYS 90u

struct model_lease {
    bool exists;
    int64_t ttl_s, remaining_s;
};

struct model_state {
    struct model_lease leases[MODEL_LEASES];
    bool live[MODEL_KEYS];
    uint32_t lease_of[MODEL_KEYS]; /* 0: none; else the lease's number plus 1 */
};

static uint64_t id_of(uint32_t number)
{
    /* Some that are near each other in the table. */
    return number < 30 ? number + 1 : random_mix(number);
}

/* In the order of numbers. */
static struct bytes name_of(uint32_t number, char key[KEY_TEXT_BYTES])
{
    snprintf(key, KEY_TEXT_BYTES, "%s/%03u", number < 45 ? "a" : "b", number);
    return TEXT(key);
}

static void check_lease(const struct store *store, const struct model_state *model, uint32_t number)
{
    const struct lease *lease = store_lease_find(store, id_of(number));
    assert_int_equal(lease != NULL, model->leases[number].exists);
    if (lease == NULL) return;
    assert_int_equal(lease->id, id_of(number));
    assert_int_equal(lease->ttl_s, model->leases[number].ttl_s);
    assert_int_equal(lease->remaining_s, model->leases[number].remaining_s);
    const struct store_record *records[MODEL_KEYS];
    store_lease_keys(lease, records);
    uint32_t count = 0;
    for (uint32_t key = 0; key < MODEL_KEYS; key++) {
        if (!model->live[key] || model->lease_of[key] != number + 1) continue;
        char name[KEY_TEXT_BYTES];
        assert_true(count < lease->key_count);
        assert_true(bytes_equal(store_record_key(records[count++]), name_of(key, name)));
    }
    assert_int_equal(count, lease->key_count);
}

static void check(const struct store *store, const struct model_state *model)
{
    store_verify(store);
    uint64_t count = 0;
    for (uint32_t number = 0; number < MODEL_LEASES; number++) {
        check_lease(store, model, number);
        count += model->leases[number].exists;
    }
    assert_int_equal(store_lease_count(store), count);
}

static void random_changes_of_keys(struct store *store, struct model_state *model, struct random *random)
{
    store_begin(store);
    for (uint64_t changes = random_between(random, 1, 4); changes > 0; changes--) {
        char name[KEY_TEXT_BYTES], end[KEY_TEXT_BYTES];
        uint32_t key = (uint32_t)random_below(random, MODEL_KEYS);
        uint64_t kind = random_below(random, 100);
        if (kind < 75) {
            /* A few leases get most of the keys. */
            uint32_t number = (uint32_t)random_below(random, random_chance(random, 700) ? 3 : MODEL_LEASES);
            bool leased = model->leases[number].exists && random_chance(random, 900);
            store_put(store, name_of(key, name), TEXT("v"), leased ? id_of(number) : 0, NULL);
            model->live[key] = true;
            model->lease_of[key] = leased ? number + 1 : 0;
        } else if (kind < 97) {
            assert_int_equal(store_delete(store, name_of(key, name), NULL), model->live[key]);
            model->live[key] = false;
        } else {
            uint32_t last = (uint32_t)random_between(random, key, MODEL_KEYS - 1);
            store_delete_range(store, name_of(key, name), name_of(last, end));
            for (; key < last; key++) model->live[key] = false;
        }
    }
    store_end(store);
}

static void random_change_of_leases(struct store *store, struct model_state *model, struct random *random)
{
    uint32_t number = (uint32_t)random_below(random, random_chance(random, 300) ? 3 : MODEL_LEASES);
    struct model_lease *lease = &model->leases[number];
    uint64_t kind = random_below(random, 100);
    if (kind < 50) {
        int64_t ttl_s = (int64_t)random_between(random, 1, 1000);
        assert_int_equal(store_lease_grant(store, id_of(number), ttl_s), lease->exists ? ERR_LEASE_EXISTS : ERR_OK);
        if (!lease->exists) *lease = (struct model_lease){.exists = true, .ttl_s = ttl_s};
    } else if (kind < 70) {
        int64_t remaining_s = (int64_t)random_below(random, 100);
        store_lease_checkpoint(store, id_of(number), remaining_s);
        if (lease->exists) lease->remaining_s = remaining_s;
    } else {
        store_revision before = store_current_revision(store);
        uint64_t deleted, expected = 0;
        for (uint32_t key = 0; key < MODEL_KEYS; key++) {
            if (!lease->exists || !model->live[key] || model->lease_of[key] != number + 1) continue;
            model->live[key] = false;
            expected++;
        }
        assert_int_equal(store_lease_revoke(store, id_of(number), &deleted),
                         lease->exists ? ERR_OK : ERR_LEASE_NOT_FOUND);
        assert_int_equal(deleted, expected);
        assert_int_equal(store_current_revision(store), before + (expected > 0));
        lease->exists = false;
    }
}

/* The snapshot of leases that is under way, and what it must say. */
struct taking {
    bool active;
    struct buffer leases;
    struct buffer keys;
    store_revision revision, compacted_revision;
    struct model_state at_begin;
};

static void begin_taking(struct taking *taking, struct store *store, const struct model_state *model)
{
    taking->active = true;
    taking->at_begin = *model;
    buffer_clear(&taking->leases);
    buffer_clear(&taking->keys);
    store_leases_snapshot_begin(store);
    struct store_snapshot_writer writer;
    store_snapshot_begin(store, &writer);
    while (!writer.done) store_snapshot_next(store, &writer, 1000, &taking->keys);
    taking->revision = writer.revision;
    taking->compacted_revision = writer.compacted_revision;
    store_snapshot_end(store, &writer);
}

static void finish_taking(struct taking *taking)
{
    struct store *loaded = store_new();
    assert_int_equal(store_leases_decode(loaded, buffer_bytes(&taking->leases)), ERR_OK);
    struct store_loader *loader = store_loader_new(loaded, taking->revision, taking->compacted_revision);
    assert_int_equal(store_loader_feed(loader, buffer_bytes(&taking->keys)), ERR_OK);
    assert_int_equal(store_loader_finish(loader), ERR_OK);
    check(loaded, &taking->at_begin);
    store_free(loaded);
}

static void random_lives(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct random random;
        random_seed(&random, seed);
        struct store *store = store_new();
        struct model_state model = {.live = {false}};
        struct taking taking = {.active = false};
        unsigned taken = 0;
        for (unsigned step = 0; step < 1500; step++) {
            if (random_chance(&random, 600)) {
                random_changes_of_keys(store, &model, &random);
            } else {
                random_change_of_leases(store, &model, &random);
            }
            if (random_chance(&random, 100)) check(store, &model);
            if (random_chance(&random, 20)) {
                store_compact(store, store_current_revision(store));
                while (store_compact_step(store, 10)) continue;
            }
            if (!taking.active && random_chance(&random, 50)) {
                begin_taking(&taking, store, &model);
            } else if (taking.active && random_chance(&random, 20)) {
                store_leases_snapshot_end(store);
                taking.active = false;
            } else if (taking.active && random_chance(&random, 500)) {
                bool more = store_leases_snapshot_next(store, random_between(&random, 1, 9), &taking.leases);
                if (more) continue;
                store_leases_snapshot_end(store);
                taking.active = false;
                finish_taking(&taking);
                taken++;
            }
        }
        check(store, &model);
        assert_true(taken > 5);
        buffer_free(&taking.leases);
        buffer_free(&taking.keys);
        store_free(store);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lease_is_granted_once),
        cmocka_unit_test(many_leases_are_found_whichever_go),
        cmocka_unit_test(a_checkpoint_is_kept_and_one_of_no_lease_is_nothing),
        cmocka_unit_test(a_put_attaches_and_detaches),
        cmocka_unit_test(several_changes_in_one_transaction),
        cmocka_unit_test(a_set_grows_and_closes_its_gaps),
        cmocka_unit_test(the_memory_of_sets_is_counted),
        cmocka_unit_test(a_key_that_names_no_lease_hangs_on_none),
        cmocka_unit_test(revoking_deletes_all_keys_in_one_revision_and_in_order),
        cmocka_unit_test(revoking_what_has_no_key_leaves_the_revision),
        cmocka_unit_test(a_revoked_keys_past_stays_readable),
        cmocka_unit_test(a_snapshot_brings_leases_and_what_hangs_on_them),
        cmocka_unit_test(a_snapshot_is_of_its_beginning),
        cmocka_unit_test(a_snapshot_misses_no_lease_that_moves),
        cmocka_unit_test(a_bad_snapshot_of_leases_is_refused),
        cmocka_unit_test(random_lives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
