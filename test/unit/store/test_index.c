#include "store/index.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/random.h"

/* Enough for two levels of inner nodes, so that these too are split, evened out and joined. */
#define RECORDS 40000u

/* What makes the keys, and in which order they come. */
enum kind { RANDOM_BYTES, NUMBERS, LONG_PREFIX, TWO_LETTERS, KINDS };

static struct store_record *record_new(struct bytes key, bool is_tombstone)
{
    struct store_record *record = mem_alloc_zero(sizeof *record + key.size);
    record->refs = 1;
    record->version = is_tombstone ? 0 : 1;
    record->key_bytes = (uint32_t)key.size;
    if (key.size > 0) memcpy(record->data, key.data, key.size);
    return record;
}

static void key_make(struct buffer *key, enum kind kind, uint64_t number)
{
    uint64_t mixed = random_mix(number);
    buffer_clear(key);
    switch (kind) {
    case RANDOM_BYTES:
        buffer_append(key, &mixed, 1 + mixed % 8);
        buffer_append(key, &number, 4);
        break;
    case NUMBERS:
        buffer_append_format(key, "%010llu", (unsigned long long)number);
        break;
    case LONG_PREFIX:
        buffer_append_string(key, "/registry/pods/default/");
        buffer_append_format(key, "%llu/", (unsigned long long)(number / 1000));
        buffer_append_decimal(key, number);
        break;
    default: /* binary digits: prefixes that split late, and keys that are prefixes of others */
        for (; number > 0; number /= 2) buffer_append_byte(key, number % 2 ? 0xff : 0x00);
        buffer_append_byte(key, 'x');
    }
}

static int compare_records(const void *a, const void *b)
{
    return bytes_compare(store_record_key(*(struct store_record *const *)a),
                         store_record_key(*(struct store_record *const *)b));
}

static struct store_record **records_new(enum kind kind)
{
    struct store_record **records = mem_alloc(RECORDS * sizeof records[0]);
    struct buffer key = {.data = NULL};
    for (uint32_t i = 0; i < RECORDS; i++) {
        key_make(&key, kind, i);
        records[i] = record_new(buffer_bytes(&key), random_mix(i) % 5 == 0);
    }
    buffer_free(&key);
    qsort(records, RECORDS, sizeof records[0], compare_records);
    return records;
}

static void records_free(struct store_record **records)
{
    for (uint32_t i = 0; i < RECORDS; i++) mem_free(records[i]);
    mem_free(records);
}

static void shuffle(uint32_t *order, struct random *random)
{
    for (uint32_t i = 0; i < RECORDS; i++) order[i] = i;
    for (uint32_t i = RECORDS - 1; i > 0; i--) {
        uint32_t j = (uint32_t)random_below(random, i + 1);
        uint32_t other = order[i];
        order[i] = order[j];
        order[j] = other;
    }
}

static void insert(struct index *index, struct store_record *record)
{
    struct index_path path;
    index_seek(index, store_record_key(record), &path);
    assert_false(path.found);
    index_insert(index, &path, record);
}

static void remove_record(struct index *index, struct store_record *record)
{
    struct index_path path;
    index_seek(index, store_record_key(record), &path);
    assert_true(path.found);
    assert_ptr_equal(index_path_record(index, &path), record);
    index_remove(index, &path);
}

/* The index must hold exactly the records whose flag is set. */
static void check_contents(const struct index *index, struct store_record **records, const bool *is_in)
{
    index_verify(index);
    uint64_t live = 0;
    struct index_path path;
    index_seek(index, bytes_of(NULL, 0), &path);
    for (uint32_t i = 0; i < RECORDS; i++) {
        struct bytes key = store_record_key(records[i]);
        assert_ptr_equal(index_find(index, key), is_in[i] ? records[i] : NULL);
        if (i % 16 == 0) assert_int_equal(index_count_below(index, key), live);
        if (!is_in[i]) continue;
        assert_ptr_equal(index_path_record(index, &path), records[i]);
        index_path_next(&path);
        live += !store_record_is_tombstone(records[i]);
    }
    assert_null(index_path_record(index, &path));
    assert_null(index_path_record(index, &path));
    assert_int_equal(index->live, live);
    static const uint8_t above_all[20] = {[0 ... 19] = 0xff};
    assert_int_equal(index_count_below(index, bytes_of(above_all, sizeof above_all)), live);
}

static void keys_come_and_go_in_any_order(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 1);
    bool *is_in = mem_alloc(RECORDS);
    uint32_t *order = mem_alloc(RECORDS * sizeof order[0]);
    for (enum kind kind = RANDOM_BYTES; kind < KINDS; kind++) {
        struct store_record **records = records_new(kind);
        memset(is_in, 0, RECORDS);
        struct index index;
        index_init(&index);
        check_contents(&index, records, is_in);
        shuffle(order, &random);
        for (uint32_t i = 0; i < RECORDS; i++) {
            insert(&index, records[order[i]]);
            is_in[order[i]] = true;
            if (i % 8000 == 999) check_contents(&index, records, is_in);
        }
        check_contents(&index, records, is_in);
        assert_int_equal(index.height, 2);
        /* Leaves share with their neighbours before they split; half full ones would need more memory than this. */
        assert_true(index.memory_bytes < RECORDS * 14);

        shuffle(order, &random);
        for (uint32_t i = 0; i < RECORDS; i++) {
            remove_record(&index, records[order[i]]);
            is_in[order[i]] = false;
            if (i % 8000 == 999 || i + 300 == RECORDS) check_contents(&index, records, is_in);
        }
        check_contents(&index, records, is_in);
        assert_int_equal(index.height, 0);
        assert_int_equal(index.keys, 0);
        index_free(&index);
        records_free(records);
    }
    mem_free(order);
    mem_free(is_in);
}

/* In runs up and down the key space, so that whole subtrees fill up and empty while others stay. */
static void subtrees_fill_and_empty(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 2);
    struct store_record **records = records_new(LONG_PREFIX);
    bool *is_in = mem_alloc_zero(RECORDS);
    struct index index;
    index_init(&index);
    for (int round = 0; round < 60; round++) {
        bool fill = random_chance(&random, round < 40 ? 600 : 300);
        bool up = random_chance(&random, 500);
        uint32_t from = (uint32_t)random_below(&random, RECORDS);
        uint32_t count = (uint32_t)random_between(&random, 1, RECORDS / 4);
        for (uint32_t i = 0; i < count; i++) {
            uint32_t at = up ? from + i : from - i;
            if (at >= RECORDS) break;
            if (is_in[at] == fill) continue;
            if (fill) {
                insert(&index, records[at]);
            } else {
                remove_record(&index, records[at]);
            }
            is_in[at] = fill;
        }
        if (round % 10 == 9) {
            check_contents(&index, records, is_in);
        } else {
            index_verify(&index);
        }
    }
    for (uint32_t i = 0; i < RECORDS; i++) {
        if (is_in[i]) remove_record(&index, records[i]);
    }
    index_verify(&index);
    assert_int_equal(index.keys, 0);
    index_free(&index);
    mem_free(is_in);
    records_free(records);
}

static void appended_keys_leave_leaves_nearly_full(void **state)
{
    (void)state;
    bool *is_in = mem_alloc_zero(RECORDS);
    for (enum kind kind = RANDOM_BYTES; kind < KINDS; kind++) {
        struct store_record **records = records_new(kind);
        struct index index;
        index_init(&index);
        for (uint32_t i = 0; i < RECORDS; i++) {
            index_append(&index, records[i]);
            is_in[i] = true;
            if (i % 5000 == 1) index_verify(&index);
        }
        check_contents(&index, records, is_in);
        assert_true(index.memory_bytes < RECORDS * 13);
        /* What was appended last can go first: the right edge is sparse. */
        for (uint32_t i = RECORDS; i-- > 0;) {
            remove_record(&index, records[i]);
            is_in[i] = false;
            if (i % 5000 == 1) index_verify(&index);
        }
        check_contents(&index, records, is_in);
        index_free(&index);
        records_free(records);
    }
    mem_free(is_in);
}

static void replacing_changes_the_live_counts_only(void **state)
{
    (void)state;
    struct store_record **records = records_new(NUMBERS);
    struct index index;
    index_init(&index);
    for (uint32_t i = 0; i < RECORDS; i++) index_append(&index, records[i]);
    struct random random;
    random_seed(&random, 3);
    uint64_t live = index.live;
    for (int i = 0; i < 10000; i++) {
        uint32_t at = (uint32_t)random_below(&random, RECORDS);
        bool is_tombstone = random_chance(&random, 500);
        struct store_record *other = record_new(store_record_key(records[at]), is_tombstone);
        struct index_path path;
        index_seek(&index, store_record_key(other), &path);
        assert_true(path.found);
        index_replace(&index, &path, other);
        live += (uint64_t)!is_tombstone - !store_record_is_tombstone(records[at]);
        assert_ptr_equal(index_path_record(&index, &path), other);
        mem_free(records[at]);
        records[at] = other;
        assert_int_equal(index.live, live);
    }
    index_verify(&index);
    assert_int_equal(index.keys, RECORDS);
    index_free(&index);
    records_free(records);
}

/* Long keys that differ in their last byte only, and one of the greatest length. */
static void long_keys_are_told_apart(void **state)
{
    (void)state;
    enum { COUNT = 400 };
    static struct store_record *records[COUNT];
    uint8_t *key = mem_alloc_zero(STORE_KEY_BYTES_MAX);
    struct index index;
    index_init(&index);
    for (uint32_t i = 0; i < COUNT; i++) {
        uint32_t number = i * 77 % COUNT;
        put_u16(key + 3000, (uint16_t)((number & 0xff) << 8 | number >> 8));
        records[number] = record_new(bytes_of(key, 3002), false);
        insert(&index, records[number]);
    }
    struct store_record *longest = record_new(bytes_of(key, STORE_KEY_BYTES_MAX), false);
    insert(&index, longest);
    index_verify(&index);
    assert_ptr_equal(index_find(&index, bytes_of(key, STORE_KEY_BYTES_MAX)), longest);
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_ptr_equal(index_find(&index, store_record_key(records[i])), records[i]);
        assert_null(index_find(&index, bytes_of(records[i]->data, 3001)));
        remove_record(&index, records[i]);
        mem_free(records[i]);
    }
    assert_int_equal(index.keys, 1);
    index_free(&index);
    mem_free(longest);
    mem_free(key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_come_and_go_in_any_order),
        cmocka_unit_test(subtrees_fill_and_empty),
        cmocka_unit_test(appended_keys_leave_leaves_nearly_full),
        cmocka_unit_test(replacing_changes_the_live_counts_only),
        cmocka_unit_test(long_keys_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
