#include "store/store_snapshot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/random.h"

#define TEXT(text) bytes_of_string(text)

static void put(struct store *store, const char *key, const char *value, uint64_t lease)
{
    store_begin(store);
    store_put(store, TEXT(key), TEXT(value), lease, NULL);
    store_end(store);
}

static void delete_key(struct store *store, const char *key)
{
    store_begin(store);
    assert_true(store_delete(store, TEXT(key), NULL));
    store_end(store);
}

static struct buffer snapshot_of(struct store *store, size_t target_bytes)
{
    struct buffer out = {.data = NULL};
    struct store_snapshot_writer writer;
    store_snapshot_begin(store, &writer);
    while (!writer.done) store_snapshot_next(store, &writer, target_bytes, &out);
    size_t size = out.size;
    store_snapshot_next(store, &writer, target_bytes, &out);
    assert_int_equal(out.size, size);
    store_snapshot_end(store, &writer);
    return out;
}

/* Loads; frees the store again if that fails. */
static enum error try_load(struct bytes payload, store_revision revision, store_revision compacted_revision,
                           struct store **out)
{
    struct store *store = store_new();
    struct store_loader *loader = store_loader_new(store, revision, compacted_revision);
    enum error fed = store_loader_feed(loader, payload);
    enum error error = store_loader_finish(loader);
    if (fed != ERR_OK) assert_int_equal(error, fed);
    if (error == ERR_OK) {
        store_verify(store);
        if (out) *out = store;
    }
    if (error != ERR_OK || !out) store_free(store);
    return error;
}

/* Some of everything: an old key, one with a history, a deleted one, one that came back. Compacted at 3, now at 10. */
static struct store *sample_store(void)
{
    struct store *store = store_new();
    put(store, "gone", "x", 0);    /* 2 */
    put(store, "old", "value", 5); /* 3 */
    assert_int_equal(store_compact(store, 3), ERR_OK);
    put(store, "h", "one", 0); /* 4 */
    delete_key(store, "gone"); /* 5 */
    store_begin(store);        /* 6 */
    store_put(store, TEXT("h"), TEXT("two"), 1, NULL);
    store_put(store, TEXT("h"), TEXT(""), 2, NULL);
    store_put(store, TEXT("back"), TEXT("1"), 0, NULL);
    store_end(store);
    delete_key(store, "back");   /* 7 */
    put(store, "back", "2", 0);  /* 8 */
    put(store, "h", "three", 0); /* 9 */
    delete_key(store, "h");      /* 10 */
    return store;
}

static void an_empty_store_has_an_empty_snapshot(void **state)
{
    (void)state;
    struct store *store = store_new();
    struct buffer out = snapshot_of(store, 100);
    assert_int_equal(out.size, 0);
    store_free(store);
    assert_int_equal(try_load(bytes_of(NULL, 0), 1, 0, &store), ERR_OK);
    assert_int_equal(store_current_revision(store), 1);
    store_free(store);
    assert_int_equal(try_load(bytes_of(NULL, 0), 1, 1, NULL), ERR_OK);

    /* All deleted and compacted: nothing but the deletion itself. */
    store = store_new();
    put(store, "a", "1", 0);
    delete_key(store, "a");
    assert_int_equal(store_compact(store, 3), ERR_OK);
    out = snapshot_of(store, 100);
    assert_true(out.size > 0);
    store_free(store);
    assert_int_equal(try_load(buffer_bytes(&out), 3, 3, &store), ERR_OK);
    buffer_free(&out);
    assert_int_equal(store_key_count(store), 0);
    assert_int_equal(store_current_revision(store), 3);
    assert_int_equal(store_compacted_revision(store), 3);
    put(store, "a", "1", 0);
    assert_int_equal(store_current_revision(store), 4);
    store_free(store);
    /* But a change is missing when something isn't compacted. */
    assert_int_equal(try_load(bytes_of(NULL, 0), 2, 2, NULL), ERR_DAMAGED);
    assert_int_equal(try_load(bytes_of(NULL, 0), 2, 1, NULL), ERR_DAMAGED);
    assert_int_equal(try_load(bytes_of(NULL, 0), 2, 0, NULL), ERR_DAMAGED);
}

static void the_format_is_as_the_header_says(void **state)
{
    (void)state;
    struct store *store = store_new();
    put(store, "k", "ab", 7);
    put(store, "k", "c", 8);
    delete_key(store, "k");
    put(store, "m", "", 0);
    struct buffer out = snapshot_of(store, 1000);
    static const uint8_t expected[] = {
        2,                        /* tombstone */
        1,   0, 0, 0,             /* key bytes */
        4,   0, 0, 0, 0, 0, 0, 0, /* mod revision */
        0,   0, 0, 0,             /* sub revision */
        'k', 1,                   /* same key */
        1,   0, 0, 0,             /* value bytes */
        2,   0, 0, 0, 0, 0, 0, 0, /* create revision */
        3,   0, 0, 0, 0, 0, 0, 0, /* mod revision */
        2,   0, 0, 0, 0, 0, 0, 0, /* version */
        8,   0, 0, 0, 0, 0, 0, 0, /* lease */
        0,   0, 0, 0,             /* sub revision */
        'c', 1, 2, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0,   0,   2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0,
        7,   0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 'a', 'b', 0, 1, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0,
        0,   5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0,   0,   0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 'm',
    };
    assert_int_equal(out.size, sizeof expected);
    assert_memory_equal(out.data, expected, sizeof expected);
    buffer_free(&out);
    store_free(store);
}

static void a_snapshot_does_not_depend_on_slices_or_steps(void **state)
{
    (void)state;
    struct store *store = sample_store();
    struct buffer expected = snapshot_of(store, 10000);
    for (int step = 0; step < 5; step++) {
        for (size_t target = 1; target < 300; target += 23) {
            struct buffer out = snapshot_of(store, target);
            assert_true(bytes_equal(buffer_bytes(&out), buffer_bytes(&expected)));
            buffer_free(&out);
        }
        store_compact_step(store, 1);
    }
    struct store *loaded = NULL;
    assert_int_equal(try_load(buffer_bytes(&expected), 10, 3, &loaded), ERR_OK);
    assert_int_equal(store_history_bytes(loaded), store_history_bytes(store));
    assert_int_equal(store_live_bytes(loaded), store_live_bytes(store));
    struct buffer again = snapshot_of(loaded, 10000);
    assert_true(bytes_equal(buffer_bytes(&again), buffer_bytes(&expected)));
    buffer_free(&again);
    buffer_free(&expected);
    store_free(loaded);
    store_free(store);
}

/* Each slice is fed by itself, also those that begin within a key's versions; changes and compaction go on meanwhile. */
static void a_long_chain_goes_in_several_slices(void **state)
{
    (void)state;
    struct store *store = store_new();
    put(store, "a", "before", 0);
    for (int i = 0; i < 1000; i++) put(store, "m", i % 2 ? "odd" : "even", 0);
    struct store_snapshot_writer writer;
    store_snapshot_begin(store, &writer);
    assert_int_equal(writer.revision, 1002);
    struct store *loaded = store_new();
    struct store_loader *loader = store_loader_new(loaded, 1002, 0);
    struct buffer slice = {.data = NULL};
    unsigned slices = 0;
    while (!writer.done) {
        buffer_clear(&slice);
        store_snapshot_next(store, &writer, 500, &slice);
        assert_true(slice.size > 0 && slice.size < 600);
        assert_int_equal(store_loader_feed(loader, buffer_bytes(&slice)), ERR_OK);
        if (slices == 3) delete_key(store, "m");
        if (slices == 4) assert_int_equal(store_compact(store, 1003), ERR_OK);
        put(store, slices % 2 ? "l" : "n", "later", 0);
        store_compact_step(store, 100);
        slices++;
    }
    assert_true(slices > 50);
    store_snapshot_end(store, &writer);
    assert_int_equal(store_loader_finish(loader), ERR_OK);
    store_verify(loaded);
    assert_int_equal(store_key_count(loaded), 2);
    const struct store_record *record;
    for (store_revision revision = 3; revision <= 1002; revision++) {
        assert_int_equal(store_get(loaded, TEXT("m"), revision, &record), ERR_OK);
        assert_int_equal(record->version, revision - 2);
        assert_true(bytes_equal(store_record_value(record), TEXT(revision % 2 ? "even" : "odd")));
    }
    /* The pin is gone, and with it what only the snapshot needed. */
    while (store_compact_step(store, 100)) continue;
    store_verify(store);
    assert_true(store_memory_bytes(store) < 50000);
    buffer_free(&slice);
    store_free(loaded);
    store_free(store);
}

static void giving_up_early_unpins(void **state)
{
    (void)state;
    struct store *store = sample_store();
    struct store_snapshot_writer writer;
    store_snapshot_begin(store, &writer);
    struct buffer out = {.data = NULL};
    store_snapshot_next(store, &writer, 1, &out);
    store_snapshot_next(store, &writer, 1, &out);
    assert_false(writer.done);
    assert_int_equal(store_compact(store, 10), ERR_OK);
    while (store_compact_step(store, 1)) continue;
    uint64_t pinned = store_memory_bytes(store);
    store_snapshot_end(store, &writer);
    while (store_compact_step(store, 1)) continue;
    assert_true(store_memory_bytes(store) < pinned - 8 * sizeof(struct store_record));
    store_verify(store);
    buffer_free(&out);
    store_free(store);

    store = store_new();
    struct store_loader *loader = store_loader_new(store, 5, 0);
    store_loader_free(loader);
    store_free(store);
}

/* ---- damage ---- */

static void a_truncated_snapshot_is_refused(void **state)
{
    (void)state;
    struct store *store = sample_store();
    struct buffer out = snapshot_of(store, 1000);
    unsigned refused = 0;
    for (size_t size = 0; size < out.size; size++) {
        /* A copy, so that reading past its end is caught. */
        uint8_t *copy = mem_alloc(size + 1);
        memcpy(copy, out.data, size);
        enum error error = try_load(bytes_of(copy, size), 10, 3, NULL);
        mem_free(copy);
        refused += error == ERR_DAMAGED;
    }
    assert_int_equal(refused, out.size);
    buffer_free(&out);
    store_free(store);
}

static void a_flipped_bit_is_refused_or_makes_a_sound_store(void **state)
{
    (void)state;
    struct store *store = sample_store();
    struct buffer out = snapshot_of(store, 1000);
    unsigned refused = 0;
    for (size_t bit = 0; bit < out.size * 8; bit++) {
        out.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        struct store *loaded = NULL;
        if (try_load(buffer_bytes(&out), 10, 3, &loaded) == ERR_OK) {
            struct buffer again = snapshot_of(loaded, 1000);
            assert_true(bytes_equal(buffer_bytes(&again), buffer_bytes(&out)));
            buffer_free(&again);
            store_free(loaded);
        } else {
            refused++;
        }
        out.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    /* Keys, values and leases may be anything; the rest may not. */
    assert_true(refused > out.size * 8 / 2);
    buffer_free(&out);
    store_free(store);
}

static void items_swapped_doubled_or_left_out_are_refused(void **state)
{
    (void)state;
    struct store *store = sample_store();
    struct buffer items[32];
    size_t count = 0;
    struct store_snapshot_writer writer;
    store_snapshot_begin(store, &writer);
    while (!writer.done) {
        assert_true(count < ARRAY_COUNT(items));
        items[count] = (struct buffer){.data = NULL};
        store_snapshot_next(store, &writer, 1, &items[count]);
        if (items[count].size > 0) count++;
    }
    store_snapshot_end(store, &writer);
    assert_int_equal(count, 11);
    for (size_t a = 0; a < count; a++) {
        for (size_t b = 0; b <= count; b++) {
            /* b == a: item a twice; b == count: without item a; else a and b swapped. */
            struct buffer all = {.data = NULL};
            for (size_t i = 0; i < count; i++) {
                size_t from = i == a && b < count ? b : i == b ? a : i;
                if (i == a && b == count) continue;
                buffer_append(&all, items[from].data, items[from].size);
                if (i == a && b == a) buffer_append(&all, items[from].data, items[from].size);
            }
            assert_int_equal(try_load(buffer_bytes(&all), 10, 3, NULL), ERR_DAMAGED);
            buffer_free(&all);
        }
    }
    for (size_t i = 0; i < count; i++) buffer_free(&items[i]);
    store_free(store);
}

/* An item by its parts; version 0 is a tombstone, no key the same key as before. */
struct item {
    const char *key;
    store_revision create_revision;
    store_revision mod_revision;
    int64_t version;
    uint32_t sub_revision;
};

static void append_item(struct buffer *out, const struct item *item)
{
    bool is_tombstone = item->version == 0;
    buffer_append_u8(out, (uint8_t)((item->key ? 0 : 1) | (is_tombstone ? 2 : 0)));
    if (item->key) buffer_append_u32(out, (uint32_t)strlen(item->key));
    if (!is_tombstone) {
        buffer_append_u32(out, 1);
        buffer_append_u64(out, (uint64_t)item->create_revision);
    }
    buffer_append_u64(out, (uint64_t)item->mod_revision);
    if (!is_tombstone) {
        buffer_append_u64(out, (uint64_t)item->version);
        buffer_append_u64(out, 0);
    }
    buffer_append_u32(out, item->sub_revision);
    if (item->key) buffer_append_string(out, item->key);
    if (!is_tombstone) buffer_append_byte(out, 'v');
}

static void only_what_a_store_can_hold_is_accepted(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        enum error error;
        store_revision revision;
        store_revision compacted_revision;
        struct item items[4]; /* up to one with mod_revision 0 */
    } cases[] = {
        {"one put", ERR_OK, 2, 0, {{"a", 2, 2, 1, 0}}},
        {"a compacted put", ERR_OK, 9, 9, {{"a", 2, 5, 3, 0}, {"b", 9, 9, 1, 0}}},
        {"one at the compacted revision", ERR_OK, 5, 5, {{"a", 2, 5, 3, 0}}},
        {"a tombstone at the compacted revision", ERR_OK, 5, 5, {{"a", 0, 5, 0, 0}}},
        {"and a put above it", ERR_OK, 6, 5, {{"a", 6, 6, 1, 0}, {NULL, 0, 5, 0, 0}}},
        {"two versions at the compacted revision", ERR_OK, 5, 5, {{"a", 2, 5, 3, 1}, {NULL, 2, 5, 2, 0}}},
        {"put, put", ERR_OK, 3, 0, {{"a", 2, 3, 2, 0}, {NULL, 2, 2, 1, 0}}},
        {"put, delete", ERR_OK, 3, 0, {{"a", 0, 3, 0, 0}, {NULL, 2, 2, 1, 0}}},
        {"put, delete, put", ERR_OK, 4, 0, {{"a", 4, 4, 1, 0}, {NULL, 0, 3, 0, 0}, {NULL, 2, 2, 1, 0}}},
        {"all in one revision", ERR_OK, 2, 0, {{"a", 2, 2, 1, 2}, {NULL, 0, 2, 0, 1}, {NULL, 2, 2, 1, 0}}},
        {"two keys in one revision", ERR_OK, 2, 0, {{"a", 2, 2, 1, 1}, {"b", 2, 2, 1, 0}}},
        {"compacted below a put", ERR_OK, 6, 5, {{"a", 2, 6, 4, 0}, {NULL, 2, 4, 3, 1}, {"b", 5, 5, 1, 0}}},
        {"compacted below a tombstone", ERR_OK, 6, 5, {{"a", 0, 6, 0, 0}, {NULL, 2, 4, 3, 1}, {"b", 5, 5, 1, 0}}},

        {"revision 1 has no change", ERR_DAMAGED, 2, 0, {{"a", 1, 1, 1, 0}}},
        {"above the snapshot's revision", ERR_DAMAGED, 2, 0, {{"a", 3, 3, 1, 0}}},
        {"negative revision", ERR_DAMAGED, 2, 0, {{"a", -2, -2, 1, 0}}},
        {"negative version", ERR_DAMAGED, 2, 0, {{"a", 2, 2, -1, 0}}},
        {"created at revision 0", ERR_DAMAGED, 5, 5, {{"a", 0, 5, 2, 0}}},
        {"created after its change", ERR_DAMAGED, 5, 5, {{"a", 6, 5, 2, 0}}},
        {"first version, but created before", ERR_DAMAGED, 5, 5, {{"a", 4, 5, 1, 0}}},
        {"no first version", ERR_DAMAGED, 2, 0, {{"a", 2, 2, 2, 0}}},
        {"no first version, then another key", ERR_DAMAGED, 3, 0, {{"a", 2, 2, 2, 0}, {"b", 3, 3, 1, 0}}},
        {"begins with the same key", ERR_DAMAGED, 2, 0, {{NULL, 2, 2, 1, 0}}},
        {"an empty key", ERR_DAMAGED, 2, 0, {{"", 2, 2, 1, 0}}},
        {"keys fall", ERR_DAMAGED, 3, 0, {{"b", 2, 2, 1, 0}, {"a", 3, 3, 1, 0}}},
        {"the key again", ERR_DAMAGED, 3, 0, {{"a", 2, 2, 1, 0}, {"a", 3, 3, 1, 0}}},
        {"versions rise", ERR_DAMAGED, 3, 0, {{"a", 2, 2, 1, 0}, {NULL, 2, 3, 2, 0}}},
        {"the version again", ERR_DAMAGED, 2, 0, {{"a", 2, 2, 2, 0}, {NULL, 2, 2, 1, 0}}},
        {"sub revisions rise", ERR_DAMAGED, 2, 0, {{"a", 2, 2, 2, 0}, {NULL, 2, 2, 1, 1}}},
        {"a version left out", ERR_DAMAGED, 3, 0, {{"a", 2, 3, 3, 0}, {NULL, 2, 2, 1, 0}}},
        {"another creation", ERR_DAMAGED, 3, 0, {{"a", 3, 3, 2, 0}, {NULL, 2, 2, 1, 0}}},
        {"a put that goes on after a delete",
         ERR_DAMAGED,
         4,
         0,
         {{"a", 2, 4, 2, 0}, {NULL, 0, 3, 0, 0}, {NULL, 2, 2, 1, 0}}},
        {"deleted, but never there", ERR_DAMAGED, 2, 0, {{"a", 0, 2, 0, 0}}},
        {"deleted twice", ERR_DAMAGED, 4, 0, {{"a", 0, 4, 0, 0}, {NULL, 0, 3, 0, 0}, {NULL, 2, 2, 1, 0}}},
        {"first version, but of a live key", ERR_DAMAGED, 3, 0, {{"a", 3, 3, 1, 0}, {NULL, 2, 2, 1, 0}}},
        {"a compacted tombstone", ERR_DAMAGED, 5, 5, {{"a", 0, 4, 0, 0}, {"b", 5, 5, 1, 0}}},
        {"a compacted tombstone below a put",
         ERR_DAMAGED,
         6,
         5,
         {{"a", 6, 6, 1, 0}, {NULL, 0, 4, 0, 0}, {"b", 5, 5, 1, 0}}},
        {"a version superseded at the compacted revision", ERR_DAMAGED, 5, 5, {{"a", 2, 5, 2, 0}, {NULL, 2, 2, 1, 0}}},
        {"two compacted versions", ERR_DAMAGED, 5, 5, {{"a", 2, 4, 2, 0}, {NULL, 2, 2, 1, 0}, {"b", 5, 5, 1, 0}}},
        {"no change at the compacted revision", ERR_DAMAGED, 9, 9, {{"a", 2, 5, 3, 0}}},
        {"a change at the compacted revision left out", ERR_DAMAGED, 5, 5, {{"a", 2, 5, 3, 1}}},
        {"a revision left out", ERR_DAMAGED, 4, 0, {{"a", 2, 2, 1, 0}, {"b", 4, 4, 1, 0}}},
        {"the first revision left out", ERR_DAMAGED, 3, 0, {{"a", 3, 3, 1, 0}}},
        {"the last revision left out", ERR_DAMAGED, 3, 0, {{"a", 2, 2, 1, 0}}},
        {"revisions left out, changes enough", ERR_DAMAGED, 3, 0, {{"a", 2, 2, 1, 0}, {"b", 2, 2, 1, 1}}},
        {"a sub revision left out", ERR_DAMAGED, 2, 0, {{"a", 2, 2, 1, 0}, {"b", 2, 2, 1, 2}}},
        {"a sub revision twice", ERR_DAMAGED, 2, 0, {{"a", 2, 2, 1, 0}, {"b", 2, 2, 1, 0}}},
        {"the first sub revision left out", ERR_DAMAGED, 2, 0, {{"a", 2, 2, 1, 1}}},
        {"the greatest sub revision", ERR_DAMAGED, 2, 0, {{"a", 2, 2, 1, UINT32_MAX}}},
        {"a revision that no memory would hold", ERR_DAMAGED, INT64_MAX, 0, {{"a", 2, 2, 1, 0}}},
        {"revision 0", ERR_DAMAGED, 0, 0, {{NULL, 0, 0, 0, 0}}},
        {"negative compacted revision", ERR_DAMAGED, 2, -1, {{"a", 2, 2, 1, 0}}},
        {"compacted above the revision", ERR_DAMAGED, 2, 3, {{"a", 2, 2, 1, 0}}},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct buffer out = {.data = NULL};
        for (size_t j = 0; j < ARRAY_COUNT(cases[i].items) && cases[i].items[j].mod_revision != 0; j++) {
            append_item(&out, &cases[i].items[j]);
        }
        enum error error = try_load(buffer_bytes(&out), cases[i].revision, cases[i].compacted_revision, NULL);
        if (error != cases[i].error) fail_msg("%s", cases[i].what);
        buffer_free(&out);
    }
}

static void lying_flags_and_lengths_are_refused(void **state)
{
    (void)state;
    struct buffer good = {.data = NULL};
    append_item(&good, &(struct item){"key", 2, 2, 1, 0});
    assert_int_equal(try_load(buffer_bytes(&good), 2, 0, NULL), ERR_OK);
    for (unsigned flags = 1; flags < 256; flags++) {
        good.data[0] = (uint8_t)flags;
        assert_int_equal(try_load(buffer_bytes(&good), 2, 0, NULL), ERR_DAMAGED);
    }
    good.data[0] = 0;
    static const uint32_t lengths[] = {0, 2, 4, 5, 65536, 65537, INT32_MAX, UINT32_MAX - 1, UINT32_MAX};
    for (size_t i = 0; i < ARRAY_COUNT(lengths); i++) {
        for (size_t at = 1; at <= 5; at += 4) {
            uint32_t right = get_u32(good.data + at);
            put_u32(good.data + at, lengths[i]);
            assert_int_equal(try_load(buffer_bytes(&good), 2, 0, NULL), ERR_DAMAGED);
            put_u32(good.data + at, right);
        }
    }
    buffer_free(&good);

    /* A put as version 0 must not pass for a tombstone, where one would fit. */
    struct buffer put_zero = {.data = NULL};
    append_item(&put_zero, &(struct item){"k", 2, 3, 2, 0});
    append_item(&put_zero, &(struct item){NULL, 2, 2, 1, 0});
    assert_int_equal(try_load(buffer_bytes(&put_zero), 3, 0, NULL), ERR_OK);
    put_u64(put_zero.data + 25, 0);
    assert_int_equal(try_load(buffer_bytes(&put_zero), 3, 0, NULL), ERR_DAMAGED);
    buffer_free(&put_zero);

    /* The longest key is fine, one more is not, even when it is all there. */
    for (uint32_t size = STORE_KEY_BYTES_MAX; size <= STORE_KEY_BYTES_MAX + 1; size++) {
        char *key = mem_alloc_zero(size + 1);
        memset(key, 'k', size);
        struct buffer out = {.data = NULL};
        append_item(&out, &(struct item){key, 2, 2, 1, 0});
        assert_int_equal(try_load(buffer_bytes(&out), 2, 0, NULL), size > STORE_KEY_BYTES_MAX ? ERR_DAMAGED : ERR_OK);
        buffer_free(&out);
        mem_free(key);
    }
}

static void a_loader_that_failed_stays_failed(void **state)
{
    (void)state;
    struct buffer good = {.data = NULL};
    append_item(&good, &(struct item){"a", 2, 2, 1, 0});
    struct store *store = store_new();
    struct store_loader *loader = store_loader_new(store, 2, 0);
    assert_int_equal(store_loader_feed(loader, bytes_of(good.data, good.size - 1)), ERR_DAMAGED);
    assert_int_equal(store_loader_feed(loader, bytes_of(NULL, 0)), ERR_DAMAGED);
    assert_int_equal(store_loader_feed(loader, buffer_bytes(&good)), ERR_DAMAGED);
    assert_int_equal(store_loader_finish(loader), ERR_DAMAGED);
    store_free(store);
    buffer_free(&good);
}

/* Enough for a tree of several levels, with revisions in another order than keys; the loaded store takes changes. */
static void a_large_snapshot_loads_and_goes_on(void **state)
{
    (void)state;
    enum { KEYS = 20000 };
    struct store *store = store_new();
    for (uint64_t i = 0; i < KEYS * 2; i++) {
        uint64_t key = random_mix(i % KEYS);
        store_begin(store);
        store_put(store, bytes_of(&key, sizeof key), bytes_of(&i, sizeof i), i, NULL);
        if (i % 3 == 0) store_put(store, bytes_of(&key, 1), bytes_of(&i, sizeof i), i, NULL);
        store_end(store);
    }
    assert_int_equal(store_compact(store, KEYS / 2), ERR_OK);
    struct buffer out = snapshot_of(store, 10000);
    struct store *loaded = NULL;
    assert_int_equal(try_load(buffer_bytes(&out), KEYS * 2 + 1, KEYS / 2, &loaded), ERR_OK);
    assert_int_equal(store_history_bytes(loaded), store_history_bytes(store));
    struct store *both[2] = {store, loaded};
    for (int i = 0; i < 2; i++) {
        for (uint64_t j = 0; j < 3000; j++) {
            uint64_t key = random_mix(j * 5);
            store_begin(both[i]);
            if (j % 3 == 0) {
                store_delete(both[i], bytes_of(&key, sizeof key), NULL);
            } else {
                store_put(both[i], bytes_of(&key, sizeof key), bytes_of(NULL, 0), 0, NULL);
            }
            store_end(both[i]);
        }
        assert_int_equal(store_compact(both[i], KEYS * 2), ERR_OK);
        if (i == 0) store_compact_step(both[i], 5000);
        store_verify(both[i]);
    }
    assert_int_equal(store_history_bytes(loaded), store_history_bytes(store));
    struct buffer first = snapshot_of(store, 10000);
    struct buffer second = snapshot_of(loaded, 10000);
    assert_true(bytes_equal(buffer_bytes(&first), buffer_bytes(&second)));
    buffer_free(&first);
    buffer_free(&second);
    buffer_free(&out);
    store_free(store);
    store_free(loaded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_store_has_an_empty_snapshot),
        cmocka_unit_test(the_format_is_as_the_header_says),
        cmocka_unit_test(a_snapshot_does_not_depend_on_slices_or_steps),
        cmocka_unit_test(a_long_chain_goes_in_several_slices),
        cmocka_unit_test(giving_up_early_unpins),
        cmocka_unit_test(a_truncated_snapshot_is_refused),
        cmocka_unit_test(a_flipped_bit_is_refused_or_makes_a_sound_store),
        cmocka_unit_test(items_swapped_doubled_or_left_out_are_refused),
        cmocka_unit_test(only_what_a_store_can_hold_is_accepted),
        cmocka_unit_test(lying_flags_and_lengths_are_refused),
        cmocka_unit_test(a_loader_that_failed_stays_failed),
        cmocka_unit_test(a_large_snapshot_loads_and_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
