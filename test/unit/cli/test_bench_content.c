/*
 * What the load generator takes for good, and what it must notice: lost, stale and foreign values.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/random.h"
#include "base/types.h"
#include "cli/bench_content.h"

#define VALUE_BYTES 100

static const struct bytes nothing = {NULL, 0};

static struct bytes text(const char *value)
{
    return bytes_of(value, VALUE_BYTES);
}

static int by_text(const void *a, const void *b)
{
    return memcmp(a, b, BENCH_KEY_BYTES);
}

static void keys_differ_and_are_hexadecimal(void **state)
{
    (void)state;
    enum { COUNT = 50000 };
    static char keys[COUNT][BENCH_KEY_BYTES];
    for (uint64_t i = 0; i < COUNT; i++) {
        bench_key(i, keys[i]);
        for (unsigned j = 0; j < BENCH_KEY_BYTES; j++) assert_non_null(memchr("0123456789abcdef", keys[i][j], 16));
    }
    qsort(keys, COUNT, BENCH_KEY_BYTES, by_text);
    for (unsigned i = 1; i < COUNT; i++) assert_true(by_text(keys[i - 1], keys[i]) < 0);
}

static void values_are_printable_and_all_different(void **state)
{
    (void)state;
    struct bench_content content;
    char first[VALUE_BYTES], second[VALUE_BYTES], other[VALUE_BYTES];
    bench_content_init(&content, 10, VALUE_BYTES, 0xabcd);
    bench_content_next_value(&content, 3, first);
    bench_content_next_value(&content, 3, second);
    bench_content_next_value(&content, 4, other);
    for (unsigned i = 0; i < VALUE_BYTES; i++) assert_true(first[i] > ' ' && first[i] < 0x7f && first[i] != '"');
    assert_memory_equal(first, "0000abcd00000001", 16);
    assert_memory_equal(second, "0000abcd00000002", 16);
    assert_memory_not_equal(first + 16, second + 16, VALUE_BYTES - 16);
    assert_memory_not_equal(first + 16, other + 16, VALUE_BYTES - 16);
    bench_content_free(&content);
}

static void what_was_acknowledged_last_must_be_there(void **state)
{
    (void)state;
    struct bench_content content;
    char first[VALUE_BYTES], second[VALUE_BYTES];
    bench_content_init(&content, 10, VALUE_BYTES, 7);
    assert_int_equal(bench_content_judge(&content, 3, nothing), BENCH_GOOD);
    bench_content_next_value(&content, 3, first);
    assert_int_equal(bench_content_judge(&content, 3, nothing), BENCH_LOST);
    assert_int_equal(bench_content_judge(&content, 3, text(first)), BENCH_GOOD);
    bench_content_next_value(&content, 3, second);
    assert_int_equal(bench_content_judge(&content, 3, text(second)), BENCH_GOOD);
    assert_int_equal(bench_content_judge(&content, 3, text(first)), BENCH_STALE);
    assert_int_equal(bench_content_judge(&content, 3, nothing), BENCH_LOST);
    bench_content_free(&content);
}

static void an_unknown_outcome_allows_either(void **state)
{
    (void)state;
    struct bench_content content;
    char first[VALUE_BYTES], second[VALUE_BYTES], third[VALUE_BYTES];
    bench_content_init(&content, 10, VALUE_BYTES, 7);
    bench_content_next_value(&content, 3, first);
    bench_content_unknown(&content, 3);
    assert_int_equal(bench_content_judge(&content, 3, nothing), BENCH_GOOD);
    assert_int_equal(bench_content_judge(&content, 3, text(first)), BENCH_GOOD);
    /* A later write is acknowledged, but the unknown one may come after it. */
    bench_content_next_value(&content, 3, second);
    assert_memory_equal(second + 8, "00000002", 8);
    assert_int_equal(bench_content_judge(&content, 3, text(first)), BENCH_GOOD);
    assert_int_equal(bench_content_judge(&content, 3, text(second)), BENCH_GOOD);
    /* Never one that wasn't begun. */
    struct bench_content ahead;
    bench_content_init(&ahead, 10, VALUE_BYTES, 7);
    for (int i = 0; i < 3; i++) bench_content_next_value(&ahead, 3, third);
    assert_int_equal(bench_content_judge(&content, 3, text(third)), BENCH_FOREIGN);
    bench_content_free(&ahead);
    bench_content_free(&content);
}

static void any_change_of_a_value_is_noticed(void **state)
{
    (void)state;
    struct bench_content content;
    char value[VALUE_BYTES], changed[VALUE_BYTES + 1];
    bench_content_init(&content, 10, VALUE_BYTES, 7);
    bench_content_next_value(&content, 3, value);
    for (unsigned i = 0; i < VALUE_BYTES; i++) {
        memcpy(changed, value, VALUE_BYTES);
        changed[i] = changed[i] == 'x' ? 'y' : 'x';
        assert_int_equal(bench_content_judge(&content, 3, text(changed)), BENCH_FOREIGN);
    }
    for (unsigned size = 0; size < VALUE_BYTES; size += 7) {
        assert_int_equal(bench_content_judge(&content, 3, bytes_of(value, size)), BENCH_FOREIGN);
    }
    /* Another key's value, and another run's. */
    char others[VALUE_BYTES];
    bench_content_next_value(&content, 4, others);
    assert_int_equal(bench_content_judge(&content, 3, text(others)), BENCH_FOREIGN);
    struct bench_content earlier;
    bench_content_init(&earlier, 10, VALUE_BYTES, 6);
    bench_content_next_value(&earlier, 3, others);
    assert_int_equal(bench_content_judge(&content, 3, text(others)), BENCH_STALE);
    /* Which is fine for a key that this run didn't write. */
    bench_content_next_value(&earlier, 5, others);
    assert_int_equal(bench_content_judge(&content, 5, text(others)), BENCH_GOOD);
    bench_content_free(&earlier);
    bench_content_free(&content);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_differ_and_are_hexadecimal),
        cmocka_unit_test(values_are_printable_and_all_different),
        cmocka_unit_test(what_was_acknowledged_last_must_be_there),
        cmocka_unit_test(an_unknown_outcome_allows_either),
        cmocka_unit_test(any_change_of_a_value_is_noticed),
    };
    return cmocka_run_group_tests_name("bench_content", tests, NULL, NULL);
}
