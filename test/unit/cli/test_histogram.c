/*
 * The histogram against a sorted list of the same durations.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/random.h"
#include "cli/histogram.h"

static int by_value(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

static void an_empty_one_has_no_percentiles(void **state)
{
    (void)state;
    static struct histogram histogram;
    assert_int_equal(histogram_percentile(&histogram, 0), 0);
    assert_int_equal(histogram_percentile(&histogram, 500000), 0);
    assert_int_equal(histogram_percentile(&histogram, 1000000), 0);
}

static void small_durations_are_exact(void **state)
{
    (void)state;
    static struct histogram histogram;
    for (uint64_t i = 1; i <= 63; i++) histogram_add(&histogram, i);
    assert_int_equal(histogram_percentile(&histogram, 0), 1);
    assert_int_equal(histogram_percentile(&histogram, 500000), 32);
    assert_int_equal(histogram_percentile(&histogram, 1000000), 63);
    assert_int_equal(histogram.count, 63);
    assert_int_equal(histogram.sum_ns, 63 * 64 / 2);
}

static void edges_of_powers_of_two_fit(void **state)
{
    (void)state;
    for (unsigned bit = 0; bit < 64; bit++) {
        for (int offset = -1; offset <= 1; offset++) {
            static struct histogram histogram;
            histogram = (struct histogram){0};
            uint64_t value = (UINT64_C(1) << bit) + (uint64_t)(int64_t)offset;
            histogram_add(&histogram, value);
            histogram_add(&histogram, UINT64_MAX);
            uint64_t found = histogram_percentile(&histogram, 500000);
            assert_true(found >= value);
            assert_true(found - value <= value / 64);
            assert_true(histogram_percentile(&histogram, 1000000) == UINT64_MAX);
        }
    }
}

static void percentiles_are_those_of_the_sorted_list(void **state)
{
    (void)state;
    static struct histogram histogram;
    static uint64_t values[20000];
    static const uint32_t shares[] = {0, 1, 10000, 250000, 500000, 900000, 990000, 999000, 999999, 1000000};
    struct random random;
    random_seed(&random, 3);
    const size_t count = sizeof values / sizeof values[0];
    for (size_t i = 0; i < count; i++) {
        values[i] = random_u64(&random) >> random_below(&random, 60);
        histogram_add(&histogram, values[i]);
    }
    qsort(values, count, sizeof values[0], by_value);
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
        size_t rank = (count * shares[i] + 999999) / 1000000;
        uint64_t expected = values[rank > 0 ? rank - 1 : 0];
        uint64_t found = histogram_percentile(&histogram, shares[i]);
        assert_true(found >= expected);
        assert_true(found - expected <= expected / 64);
    }
    assert_true(histogram.max_ns == values[count - 1]);
    assert_true(histogram_percentile(&histogram, 1000000) == values[count - 1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_one_has_no_percentiles),
        cmocka_unit_test(small_durations_are_exact),
        cmocka_unit_test(edges_of_powers_of_two_fit),
        cmocka_unit_test(percentiles_are_those_of_the_sorted_list),
    };
    return cmocka_run_group_tests_name("histogram", tests, NULL, NULL);
}
