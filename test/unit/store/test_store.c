#include "store/store.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"

#define TEXT(text) bytes_of_string(text)

static store_revision put(struct store *store, const char *key, const char *value)
{
    store_begin(store);
    store_put(store, TEXT(key), TEXT(value), 0, NULL);
    return store_end(store);
}

static store_revision delete_key(struct store *store, const char *key)
{
    store_begin(store);
    store_delete(store, TEXT(key), NULL);
    return store_end(store);
}

static void assert_value(const struct store *store, const char *key, store_revision revision, const char *value)
{
    const struct store_record *record = NULL;
    enum error error = store_get(store, TEXT(key), revision, &record);
    if (!value) {
        assert_int_equal(error, ERR_NOT_FOUND);
        return;
    }
    assert_int_equal(error, ERR_OK);
    assert_true(bytes_equal(store_record_key(record), TEXT(key)));
    assert_true(bytes_equal(store_record_value(record), TEXT(value)));
}

static void compact_all(struct store *store, store_revision revision)
{
    assert_int_equal(store_compact(store, revision), ERR_OK);
    while (store_compact_step(store, 3)) store_verify(store);
    store_verify(store);
}

static uint64_t record_bytes(const char *key, const char *value)
{
    return sizeof(struct store_record) + strlen(key) + strlen(value);
}

/* ---- changes and reads ---- */

static void a_fresh_store_is_empty_at_revision_one(void **state)
{
    (void)state;
    struct store *store = store_new();
    const struct store_record *record;
    assert_int_equal(store_current_revision(store), 1);
    assert_int_equal(store_compacted_revision(store), 0);
    assert_int_equal(store_key_count(store), 0);
    assert_int_equal(store_live_bytes(store), 0);
    assert_int_equal(store_history_bytes(store), 0);
    assert_int_equal(store_count(store, TEXT(""), TEXT("")), 0);
    assert_int_equal(store_get(store, TEXT("a"), 0, &record), ERR_NOT_FOUND);
    assert_int_equal(store_get(store, TEXT(""), 0, &record), ERR_NOT_FOUND);
    assert_int_equal(store_get(store, TEXT("a"), 1, &record), ERR_NOT_FOUND);
    assert_int_equal(store_get(store, TEXT("a"), 2, &record), ERR_FUTURE_REVISION);
    uint64_t position = 0;
    assert_int_equal(store_history_next(store, 0, &position, &record, 1), 0);
    assert_false(store_compact_step(store, 10));
    store_verify(store);
    store_free(store);
    store_free(NULL);
}

static void only_a_change_makes_a_revision(void **state)
{
    (void)state;
    struct store *store = store_new();
    store_begin(store);
    assert_int_equal(store_end(store), 1);
    store_begin(store);
    const struct store_record *previous = (const struct store_record *)store;
    assert_false(store_delete(store, TEXT("a"), &previous));
    assert_null(previous);
    assert_int_equal(store_delete_range(store, TEXT(""), TEXT("")), 0);
    assert_int_equal(store_end(store), 1);
    assert_int_equal(put(store, "a", "1"), 2);
    assert_int_equal(delete_key(store, "b"), 2);
    assert_int_equal(delete_key(store, "a"), 3);
    assert_int_equal(delete_key(store, "a"), 3);
    store_free(store);
}

static void a_record_knows_its_key_life(void **state)
{
    (void)state;
    struct store *store = store_new();
    put(store, "other", "");
    const struct store_record *record;
    const struct store_record *previous;
    store_begin(store);
    store_put(store, TEXT("k"), TEXT("one"), 7, &previous);
    assert_null(previous);
    store_end(store);
    assert_int_equal(store_get(store, TEXT("k"), 0, &record), ERR_OK);
    assert_int_equal(record->create_revision, 3);
    assert_int_equal(record->mod_revision, 3);
    assert_int_equal(record->version, 1);
    assert_int_equal(record->lease, 7);
    assert_int_equal(record->sub_revision, 0);

    store_begin(store);
    store_put(store, TEXT("k"), TEXT("two"), 0, &previous);
    assert_true(bytes_equal(store_record_value(previous), TEXT("one")));
    store_put(store, TEXT("k"), TEXT("three"), 8, &previous);
    assert_true(bytes_equal(store_record_value(previous), TEXT("two")));
    store_end(store);
    assert_int_equal(store_get(store, TEXT("k"), 4, &record), ERR_OK);
    assert_true(bytes_equal(store_record_value(record), TEXT("three")));
    assert_int_equal(record->create_revision, 3);
    assert_int_equal(record->mod_revision, 4);
    assert_int_equal(record->version, 3);
    assert_int_equal(record->lease, 8);
    assert_int_equal(record->sub_revision, 1);

    /* A deleted key begins anew, also within one transaction. */
    store_begin(store);
    assert_true(store_delete(store, TEXT("k"), &previous));
    assert_true(bytes_equal(store_record_value(previous), TEXT("three")));
    assert_false(store_delete(store, TEXT("k"), &previous));
    assert_null(previous);
    store_put(store, TEXT("k"), TEXT("four"), 0, &previous);
    assert_null(previous);
    store_end(store);
    assert_int_equal(store_get(store, TEXT("k"), 0, &record), ERR_OK);
    assert_int_equal(record->create_revision, 5);
    assert_int_equal(record->version, 1);
    assert_int_equal(record->sub_revision, 1);
    assert_value(store, "k", 2, NULL);
    assert_value(store, "k", 3, "one");
    assert_value(store, "k", 4, "three");
    assert_value(store, "k", 5, "four");
    assert_value(store, "k", -1, "four");
    store_verify(store);
    store_free(store);
}

static void keys_and_values_may_have_any_length_in_the_limits(void **state)
{
    (void)state;
    struct store *store = store_new();
    uint8_t *longest = mem_alloc_zero(STORE_KEY_BYTES_MAX);
    uint8_t *value = mem_alloc_zero(3u << 20);
    store_begin(store);
    store_put(store, bytes_of(longest, STORE_KEY_BYTES_MAX), bytes_of(value, 3u << 20), 0, NULL);
    store_put(store, bytes_of(longest, STORE_KEY_BYTES_MAX - 1), bytes_of(NULL, 0), 0, NULL);
    store_put(store, bytes_of("\0", 1), bytes_of(NULL, 0), 0, NULL);
    store_put(store, bytes_of("\0\0", 2), bytes_of("\0", 1), 0, NULL);
    store_end(store);
    assert_int_equal(store_key_count(store), 4);
    assert_int_equal(store_live_bytes(store), 2 * STORE_KEY_BYTES_MAX - 1 + (3u << 20) + 1 + 2 + 1);
    const struct store_record *record;
    assert_int_equal(store_get(store, bytes_of(longest, STORE_KEY_BYTES_MAX), 0, &record), ERR_OK);
    assert_int_equal(record->value_bytes, 3u << 20);
    assert_int_equal(store_get(store, bytes_of("\0", 1), 0, &record), ERR_OK);
    assert_int_equal(record->value_bytes, 0);
    assert_int_equal(store_get(store, bytes_of("\0\0\0", 3), 0, &record), ERR_NOT_FOUND);
    store_verify(store);
    store_free(store);
    mem_free(longest);
    mem_free(value);
}

/* A transaction may copy a key's value to itself, or use a record's own key. */
static void a_put_may_take_its_bytes_from_the_store(void **state)
{
    (void)state;
    struct store *store = store_new();
    put(store, "k", "value");
    const struct store_record *record;
    assert_int_equal(store_get(store, TEXT("k"), 0, &record), ERR_OK);
    store_begin(store);
    store_put(store, store_record_key(record), store_record_value(record), 0, NULL);
    store_end(store);
    assert_value(store, "k", 0, "value");
    assert_value(store, "k", 2, "value");
    store_free(store);
}

static void ranges_follow_unsigned_key_order(void **state)
{
    (void)state;
    struct store *store = store_new();
    static const char *const keys[] = {"a", "a\x01", "aa", "b", "b\x7f", "b\x80", "b\xff", "c"};
    store_begin(store);
    for (size_t i = ARRAY_COUNT(keys); i-- > 0;) store_put(store, TEXT(keys[i]), TEXT("v"), 0, NULL);
    store_end(store);
    static const struct {
        const char *key, *end;
        uint64_t count;
    } cases[] = {
        {"", "", 8},  {"a", "b", 3}, {"a", "a", 0},         {"b", "a", 0}, {"b", "c", 4},   {"b\x80", "", 3},
        {"c", "", 1}, {"d", "", 0},  {"b\x7f", "b\xff", 2}, {"", "a", 0},  {"a0", "b0", 2},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct bytes key = TEXT(cases[i].key);
        struct bytes end = TEXT(cases[i].end);
        assert_int_equal(store_count(store, key, end), cases[i].count);
        struct store_cursor cursor;
        store_cursor_open(&cursor, key, end, 0);
        const struct store_record *records[10];
        assert_int_equal(store_cursor_next(store, &cursor, records, 10), cases[i].count);
        assert_true(cursor.done);
        store_cursor_close(&cursor);
    }
    /* Deleting goes in key order. */
    store_begin(store);
    assert_int_equal(store_delete_range(store, TEXT("b"), TEXT("c")), 4);
    assert_int_equal(store_delete_range(store, TEXT("c"), TEXT("b")), 0);
    assert_int_equal(store_delete_range(store, TEXT("aa"), TEXT("")), 2);
    store_end(store);
    const struct store_record *records[10];
    uint64_t position = 0;
    assert_int_equal(store_history_next(store, 2, &position, records, 10), 6);
    static const char *const deleted[] = {"b", "b\x7f", "b\x80", "b\xff", "aa", "c"};
    for (uint32_t i = 0; i < 6; i++) {
        assert_true(store_record_is_tombstone(records[i]));
        assert_true(bytes_equal(store_record_key(records[i]), TEXT(deleted[i])));
        assert_int_equal(records[i]->mod_revision, 3);
        assert_int_equal(records[i]->sub_revision, i);
        assert_int_equal(records[i]->create_revision, 0);
        assert_int_equal(records[i]->value_bytes, 0);
    }
    assert_int_equal(store_key_count(store), 2);
    store_verify(store);
    store_free(store);
}

static struct store *store_with_numbers(int count)
{
    struct store *store = store_new();
    struct buffer key = {.data = NULL};
    store_begin(store);
    for (int i = 0; i < count; i++) {
        buffer_clear(&key);
        buffer_append_format(&key, "%06d", i);
        store_put(store, buffer_bytes(&key), TEXT("v"), 0, NULL);
    }
    store_end(store);
    buffer_free(&key);
    return store;
}

static void counts_are_right_across_many_leaves(void **state)
{
    (void)state;
    struct store *store = store_with_numbers(20000);
    assert_int_equal(store_count(store, TEXT("005000"), TEXT("015000")), 10000);
    store_begin(store);
    assert_int_equal(store_delete_range(store, TEXT("004000"), TEXT("016001")), 12001);
    store_end(store);
    store_verify(store);
    assert_int_equal(store_count(store, TEXT("005000"), TEXT("015000")), 0);
    assert_int_equal(store_count(store, TEXT("003990"), TEXT("016011")), 20);
    assert_int_equal(store_count(store, TEXT("003990"), TEXT("")), 10 + 3999);
    assert_int_equal(store_key_count(store), 7999);
    assert_int_equal(store_compact(store, 3), ERR_OK);
    while (store_compact_step(store, 999)) store_verify(store);
    store_verify(store);
    assert_int_equal(store_count(store, TEXT("003990"), TEXT("016011")), 20);
    assert_int_equal(store_key_count(store), 7999);
    store_free(store);
}

/* ---- cursors ---- */

static void a_cursor_looks_at_a_bounded_number_of_keys(void **state)
{
    (void)state;
    struct store *store = store_with_numbers(100);
    store_begin(store);
    store_delete_range(store, TEXT("000010"), TEXT("000050"));
    store_end(store);
    put(store, "last", "v");
    const struct store_record *records[4];
    struct store_cursor cursor;
    store_cursor_open(&cursor, TEXT("000010"), TEXT("000052"), 3);
    /* 40 tombstones, at 16 a slice, then two live keys. */
    assert_int_equal(store_cursor_next(store, &cursor, records, 2), 0);
    assert_int_equal(store_cursor_next(store, &cursor, records, 2), 0);
    assert_false(cursor.done);
    assert_int_equal(store_cursor_next(store, &cursor, records, 2), 2);
    assert_true(cursor.done);
    assert_int_equal(store_cursor_next(store, &cursor, records, 2), 0);
    store_cursor_close(&cursor);
    store_free(store);
}

/* Nor does it look at each of them: the bound of one that reads now is on live keys. */
static void a_cursor_of_now_passes_over_the_dead(void **state)
{
    (void)state;
    struct store *store = store_with_numbers(10000);
    store_begin(store);
    store_delete_range(store, TEXT("000010"), TEXT("009990"));
    for (int revision = 0; revision <= 3; revision += 3) { /* open, and then at its revision */
        const struct store_record *records[2];
        struct store_cursor cursor;
        store_cursor_open(&cursor, TEXT("000010"), TEXT("009992"), revision);
        assert_int_equal(store_cursor_next(store, &cursor, records, 2), 2);
        assert_true(bytes_equal(store_record_key(records[0]), TEXT("009990")));
        assert_true(cursor.done);
        store_cursor_close(&cursor);
        /* What is deleted by the open transaction is still there at the revision before it. */
        store_cursor_open(&cursor, TEXT("000010"), TEXT(""), 2);
        assert_int_equal(store_cursor_next(store, &cursor, records, 2), 2);
        assert_true(bytes_equal(store_record_key(records[0]), TEXT("000010")));
        store_cursor_close(&cursor);
        if (revision == 0) store_end(store);
    }
    store_begin(store);
    assert_int_equal(store_delete_range(store, TEXT(""), TEXT("")), 20);
    assert_int_equal(store_delete_range(store, TEXT(""), TEXT("")), 0);
    store_end(store);
    store_verify(store);
    store_free(store);
}

static void a_cursor_goes_on_by_key(void **state)
{
    (void)state;
    struct store *store = store_new();
    put(store, "a", "1");
    put(store, "c", "1");
    put(store, "e", "1");
    const struct store_record *records[4];
    struct store_cursor now;
    struct store_cursor then;
    store_cursor_open(&now, TEXT(""), TEXT(""), 0);
    store_cursor_open(&then, TEXT(""), TEXT(""), 4);
    uint32_t pin = store_pin(store, 4);
    assert_int_equal(store_cursor_next(store, &now, records, 1), 1);
    assert_int_equal(store_cursor_next(store, &then, records, 1), 1);
    /* The key that both would go on with disappears; others come before and after. */
    delete_key(store, "c");
    put(store, "b", "2");
    put(store, "d", "2");
    put(store, "e", "2");
    assert_int_equal(store_compact(store, 8), ERR_OK);
    assert_false(store_compact_step(store, 100));
    assert_int_equal(store_cursor_next(store, &now, records, 4), 2);
    assert_true(bytes_equal(store_record_key(records[0]), TEXT("d")));
    assert_true(bytes_equal(store_record_value(records[1]), TEXT("2")));
    assert_true(now.done);
    assert_int_equal(store_cursor_next(store, &then, records, 4), 2);
    assert_true(bytes_equal(store_record_key(records[0]), TEXT("c")));
    assert_true(bytes_equal(store_record_value(records[1]), TEXT("1")));
    assert_true(then.done);
    store_cursor_close(&now);
    store_cursor_close(&then);
    store_unpin(store, pin);
    while (store_compact_step(store, 1)) continue;
    store_verify(store);
    assert_value(store, "c", 0, NULL);
    store_free(store);
}

/* ---- history and compaction ---- */

static void a_history_walk_goes_on_after_changes_and_compaction(void **state)
{
    (void)state;
    struct store *store = store_new();
    for (int i = 0; i < 600; i++) put(store, "k", i % 2 ? "odd" : "even"); /* revisions 2 to 601 */
    const struct store_record *records[100];
    uint64_t position = 0;
    uint64_t slow = 0;
    for (store_revision next = 302; next <= 601; next += 100) {
        assert_int_equal(store_history_next(store, 301, &position, records, 100), 100);
        for (int i = 0; i < 100; i++) assert_int_equal(records[i]->mod_revision, next + i);
    }
    assert_int_equal(store_history_next(store, 301, &position, records, 100), 0);
    assert_int_equal(store_history_next(store, 1, &slow, records, 10), 10);
    put(store, "l", "new");
    assert_int_equal(store_history_next(store, 301, &position, records, 100), 1);
    assert_int_equal(records[0]->mod_revision, 602);
    assert_int_equal(store_history_next(store, 301, &position, records, 0), 0);

    /* At once, and after the memory is given back, the walk starts after the compacted revision. */
    assert_int_equal(store_compact(store, 500), ERR_OK);
    for (int i = 0; i < 2; i++) {
        uint64_t copy = slow;
        assert_int_equal(store_history_next(store, 1, &copy, records, 1), 1);
        assert_int_equal(records[0]->mod_revision, 501);
        copy = 0;
        assert_int_equal(store_history_next(store, 550, &copy, records, 100), 52);
        assert_int_equal(records[0]->mod_revision, 551);
        copy = 0;
        assert_int_equal(store_history_next(store, 602, &copy, records, 100), 0);
        while (store_compact_step(store, 7)) continue;
    }
    store_free(store);
}

static void compaction_is_seen_at_once(void **state)
{
    (void)state;
    struct store *store = store_new();
    put(store, "a", "1");   /* 2 */
    put(store, "a", "2");   /* 3 */
    put(store, "b", "1");   /* 4 */
    delete_key(store, "a"); /* 5 */
    put(store, "b", "2");   /* 6 */
    assert_int_equal(store_compact(store, 0), ERR_COMPACTED);
    assert_int_equal(store_compact(store, 7), ERR_FUTURE_REVISION);
    assert_int_equal(store_compact(store, 3), ERR_OK);
    assert_int_equal(store_compact(store, 3), ERR_COMPACTED);
    assert_int_equal(store_compact(store, 2), ERR_COMPACTED);
    const struct store_record *record;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(store_get(store, TEXT("a"), 2, &record), ERR_COMPACTED);
        assert_int_equal(store_get(store, TEXT("none"), 2, &record), ERR_COMPACTED);
        assert_value(store, "a", 3, "2");
        assert_value(store, "a", 4, "2");
        assert_value(store, "a", 5, NULL);
        assert_value(store, "b", 4, "1");
        assert_value(store, "b", 6, "2");
        while (store_compact_step(store, 1)) store_verify(store);
    }
    compact_all(store, 6);
    assert_value(store, "a", 6, NULL);
    assert_value(store, "b", 6, "2");
    assert_int_equal(store_history_bytes(store), 0);
    store_free(store);
}

static void history_bytes_follow_their_definition(void **state)
{
    (void)state;
    struct store *store = store_new();
    put(store, "a", "12345"); /* 2 */
    assert_int_equal(store_history_bytes(store), 0);
    put(store, "a", "123"); /* 3 */
    uint64_t first = record_bytes("a", "12345");
    assert_int_equal(store_history_bytes(store), first);
    assert_int_equal(store_live_bytes(store), 4);
    delete_key(store, "a"); /* 4 */
    uint64_t second = record_bytes("a", "123") + record_bytes("a", "");
    assert_int_equal(store_history_bytes(store), first + second);
    assert_int_equal(store_live_bytes(store), 0);
    put(store, "a", "1"); /* 5: over a tombstone, which was counted when it came */
    assert_int_equal(store_history_bytes(store), first + second);
    assert_int_equal(store_compact(store, 3), ERR_OK);
    assert_int_equal(store_history_bytes(store), second);
    assert_int_equal(store_compact(store, 4), ERR_OK);
    assert_int_equal(store_history_bytes(store), 0);
    while (store_compact_step(store, 1)) assert_int_equal(store_history_bytes(store), 0);
    store_free(store);
}

/* Compaction to each revision in turn, over several blocks of the history, with memory given back now and then. */
static void history_bytes_are_right_at_each_compaction(void **state)
{
    (void)state;
    enum { CHANGES = 1500 };
    for (int stride = 1; stride <= 700; stride = stride * 3 + 1) {
        struct store *store = store_new();
        static uint64_t costs[CHANGES];
        uint64_t total = 0;
        for (int i = 0; i < CHANGES; i++) {
            uint64_t before = store_history_bytes(store);
            if (i % 7 == 6) {
                delete_key(store, i % 2 ? "a" : "bb");
            } else {
                put(store, i % 2 ? "a" : "bb", &"0123456789"[i % 11]);
            }
            assert_int_equal(store_current_revision(store), i + 2);
            costs[i] = store_history_bytes(store) - before;
            total += costs[i];
        }
        int done = 0;
        for (int to = stride; to <= CHANGES; to += stride) {
            assert_int_equal(store_compact(store, to + 1), ERR_OK);
            for (; done < to; done++) total -= costs[done];
            assert_int_equal(store_history_bytes(store), total);
            if (to % 3 == 0) store_compact_step(store, (size_t)to % 50);
            if (to % 64 == 0) store_verify(store);
        }
        while (store_compact_step(store, 100)) continue;
        store_verify(store);
        store_free(store);
    }
}

/* The history moves on through many blocks while only the last few are kept. */
static void a_rolling_history_stays_small(void **state)
{
    (void)state;
    struct store *store = store_new();
    for (int i = 0; i < 20000; i++) {
        store_revision revision = put(store, "k", "v");
        if (i % 500 != 499) continue;
        assert_int_equal(store_compact(store, revision - 100), ERR_OK);
        while (store_compact_step(store, 50)) continue;
        store_verify(store);
        assert_int_equal(store_history_bytes(store), 100 * record_bytes("k", "v"));
        assert_true(store_memory_bytes(store) < 20000);
    }
    uint64_t position = 0;
    const struct store_record *records[200];
    assert_int_equal(store_history_next(store, 0, &position, records, 200), 100);
    assert_int_equal(records[0]->mod_revision, 19902);
    store_free(store);
}

static void compaction_gives_memory_back(void **state)
{
    (void)state;
    struct store *store = store_with_numbers(5000);
    uint64_t before = store_memory_bytes(store);
    for (int round = 0; round < 3; round++) {
        store_begin(store);
        struct buffer key = {.data = NULL};
        for (int i = 0; i < 5000; i++) {
            buffer_clear(&key);
            buffer_append_format(&key, "%06d", i);
            store_put(store, buffer_bytes(&key), TEXT("w"), 0, NULL);
        }
        buffer_free(&key);
        store_end(store);
    }
    assert_true(store_memory_bytes(store) > 3 * before);
    assert_int_equal(store_compact(store, store_current_revision(store)), ERR_OK);
    size_t steps = 1;
    while (store_compact_step(store, 100)) steps++;
    assert_int_equal(steps, 200); /* 20000 changes, 100 at a time */
    /* The array of history blocks has grown; the last revision's slots stay. */
    assert_true(store_memory_bytes(store) <= before + 4096);
    store_begin(store);
    store_delete_range(store, TEXT(""), TEXT(""));
    store_end(store);
    assert_int_equal(store_compact(store, store_current_revision(store)), ERR_OK);
    while (store_compact_step(store, 999)) store_verify(store);
    /* The deletions themselves stay for who watches from there; what they deleted doesn't. */
    uint64_t tombstones = store_memory_bytes(store);
    assert_true(tombstones < before);
    store_begin(store);
    store_put(store, TEXT("k"), TEXT("v"), 0, NULL);
    store_end(store);
    assert_int_equal(store_compact(store, store_current_revision(store)), ERR_OK);
    while (store_compact_step(store, 999)) store_verify(store);
    assert_true(store_memory_bytes(store) < 10000);
    store_free(store);
}

static void pins_hold_compaction_up(void **state)
{
    (void)state;
    struct store *store = store_new();
    for (char digit = '2'; digit <= '9'; digit++) put(store, "k", (char[]){digit, 0}); /* revisions 2 to 9 */
    uint32_t at5 = store_pin(store, 5);
    uint32_t at3 = store_pin(store, 3);
    uint32_t more[20];
    for (int i = 0; i < 20; i++) {
        more[i] = store_pin(store, 7);
        for (int j = 0; j < i; j++) assert_int_not_equal(more[i], more[j]);
    }
    assert_int_equal(store_compact(store, 9), ERR_OK);
    uint64_t full = store_memory_bytes(store);
    uint64_t version = sizeof(struct store_record) + 2 + 16;
    assert_false(store_compact_step(store, 100)); /* slots 2 and 3: the version of revision 2 goes */
    assert_int_equal(store_memory_bytes(store), full - version);
    store_unpin(store, at3);
    assert_false(store_compact_step(store, 100));
    assert_int_equal(store_memory_bytes(store), full - 3 * version);
    store_verify(store);
    /* A free handle is used again. */
    assert_int_equal(store_pin(store, 9), at3);
    store_unpin(store, at3);
    for (int i = 0; i < 20; i++) store_unpin(store, more[i]);
    assert_false(store_compact_step(store, 100));
    assert_int_equal(store_memory_bytes(store), full - 3 * version);

    const struct store_record *records[2];
    struct store_cursor cursor;
    store_cursor_open(&cursor, TEXT(""), TEXT(""), 5);
    assert_int_equal(store_cursor_next(store, &cursor, records, 2), 1);
    assert_true(bytes_equal(store_record_value(records[0]), TEXT("5")));
    store_cursor_close(&cursor);
    store_unpin(store, at5);
    assert_true(store_compact_step(store, 1));
    assert_false(store_compact_step(store, 100));
    assert_int_equal(store_memory_bytes(store), full - 7 * version);
    store_free(store);
}

/* A tombstone's key leaves the index, unless a newer version came; then the tombstone waits for that one's turn. */
static void tombstones_go_in_their_turn(void **state)
{
    (void)state;
    struct store *store = store_new();
    uint64_t empty = store_memory_bytes(store);
    put(store, "a", "1");   /* 2 */
    put(store, "b", "1");   /* 3 */
    delete_key(store, "a"); /* 4 */
    delete_key(store, "b"); /* 5 */
    put(store, "b", "2");   /* 6 */
    compact_all(store, 5);
    assert_value(store, "a", 0, NULL);
    assert_value(store, "b", 5, NULL);
    assert_value(store, "b", 6, "2");
    assert_int_equal(store_key_count(store), 1);
    delete_key(store, "b"); /* 7 */
    compact_all(store, 7);
    assert_in_range(store_memory_bytes(store), empty, empty + 2500); /* one block of history stays */
    assert_int_equal(put(store, "a", "3"), 8);
    assert_value(store, "a", 8, "3");
    assert_value(store, "a", 7, NULL);
    store_verify(store);
    store_free(store);
}

static void a_held_record_outlives_compaction_and_store(void **state)
{
    (void)state;
    struct store *store = store_new();
    put(store, "k", "1");
    put(store, "k", "2");
    put(store, "k", "3");
    const struct store_record *found;
    assert_int_equal(store_get(store, TEXT("k"), 3, &found), ERR_OK);
    struct store_record *second = store_record_ref((struct store_record *)(uintptr_t)found);
    assert_int_equal(store_get(store, TEXT("k"), 4, &found), ERR_OK);
    struct store_record *third = store_record_ref((struct store_record *)(uintptr_t)found);
    assert_ptr_equal(third->previous, second);
    compact_all(store, 4);
    assert_null(third->previous);
    assert_null(second->previous);
    assert_true(bytes_equal(store_record_value(second), TEXT("2")));
    store_record_unref(second);
    put(store, "k", "4");
    store_free(store);
    assert_null(third->previous);
    assert_true(bytes_equal(store_record_value(third), TEXT("3")));
    store_record_ref(third);
    store_record_unref(third);
    store_record_unref(third);
}

/* ---- what callers must not do ---- */

static void empty_key(struct store *store)
{
    store_begin(store);
    store_put(store, TEXT(""), TEXT("v"), 0, NULL);
}
static void too_long_key(struct store *store)
{
    store_begin(store);
    store_put(store, bytes_of(mem_alloc_zero(STORE_KEY_BYTES_MAX + 1), STORE_KEY_BYTES_MAX + 1), TEXT("v"), 0, NULL);
}
static void second_begin(struct store *store)
{
    store_begin(store);
    store_begin(store);
}
static void end_without_begin(struct store *store)
{
    store_end(store);
}
static void put_outside(struct store *store)
{
    store_put(store, TEXT("k"), TEXT("v"), 0, NULL);
}
static void delete_outside(struct store *store)
{
    store_delete(store, TEXT("none"), NULL);
}
static void delete_range_outside(struct store *store)
{
    store_delete_range(store, TEXT(""), TEXT(""));
}
static void compact_inside(struct store *store)
{
    store_begin(store);
    store_compact(store, 1);
}
static void compact_step_inside(struct store *store)
{
    store_begin(store);
    store_compact_step(store, 1);
}
static void pin_of_the_future(struct store *store)
{
    store_pin(store, 3);
}
static void pin_of_the_past(struct store *store)
{
    store_compact(store, 2);
    store_pin(store, 1);
}
static void second_unpin(struct store *store)
{
    uint32_t pin = store_pin(store, 2);
    store_unpin(store, pin);
    store_unpin(store, pin);
}

static void misuse_ends_the_process(void **state)
{
    (void)state;
    static void (*const misuses[])(struct store *) = {
        empty_key,    too_long_key,         second_begin,   end_without_begin,   put_outside,       delete_outside,
        second_unpin, delete_range_outside, compact_inside, compact_step_inside, pin_of_the_future, pin_of_the_past,
    };
    for (size_t i = 0; i < ARRAY_COUNT(misuses); i++) {
        fflush(stdout);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            if (!freopen("/dev/null", "w", stderr)) _exit(1);
            signal(SIGABRT, SIG_DFL);
            struct store *store = store_new();
            put(store, "k", "v");
            misuses[i](store);
            _exit(0);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fresh_store_is_empty_at_revision_one),
        cmocka_unit_test(only_a_change_makes_a_revision),
        cmocka_unit_test(a_record_knows_its_key_life),
        cmocka_unit_test(keys_and_values_may_have_any_length_in_the_limits),
        cmocka_unit_test(a_put_may_take_its_bytes_from_the_store),
        cmocka_unit_test(ranges_follow_unsigned_key_order),
        cmocka_unit_test(counts_are_right_across_many_leaves),
        cmocka_unit_test(a_cursor_looks_at_a_bounded_number_of_keys),
        cmocka_unit_test(a_cursor_of_now_passes_over_the_dead),
        cmocka_unit_test(a_cursor_goes_on_by_key),
        cmocka_unit_test(a_history_walk_goes_on_after_changes_and_compaction),
        cmocka_unit_test(compaction_is_seen_at_once),
        cmocka_unit_test(history_bytes_follow_their_definition),
        cmocka_unit_test(history_bytes_are_right_at_each_compaction),
        cmocka_unit_test(a_rolling_history_stays_small),
        cmocka_unit_test(compaction_gives_memory_back),
        cmocka_unit_test(pins_hold_compaction_up),
        cmocka_unit_test(tombstones_go_in_their_turn),
        cmocka_unit_test(a_held_record_outlives_compaction_and_store),
        cmocka_unit_test(misuse_ends_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
