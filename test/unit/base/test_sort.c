#include "base/sort.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>

#include <cmocka.h>

#include "base/random.h"

#define COUNT_MAX 700u

static int by_value(const void *a, const void *b, const void *user)
{
    const int *first = a, *second = b, *sign = user;
    return (*first < *second ? -1 : *first > *second) * *sign;
}

static void pointers_are_sorted_as_told(void **state)
{
    (void)state;
    int values[] = {5, 3, 9, 3, 1}, up = 1, down = -1;
    const void *array[] = {&values[0], &values[1], &values[2], &values[3], &values[4]};
    sort_pointers(array, 5, by_value, &up);
    for (unsigned i = 1; i < 5; i++) assert_true(*(const int *)array[i - 1] <= *(const int *)array[i]);
    sort_pointers(array, 5, by_value, &down);
    for (unsigned i = 1; i < 5; i++) assert_true(*(const int *)array[i - 1] >= *(const int *)array[i]);
    sort_pointers(array, 0, by_value, &up);
    sort_pointers(array, 1, by_value, &up);
    assert_int_equal(*(const int *)array[0], 9);
}

/* Numbers that differ in all bytes, in a few, or not at all. */
static void numbers_are_sorted_and_equal_ones_stay(void **state)
{
    (void)state;
    static struct sort_item items[COUNT_MAX], scratch[COUNT_MAX];
    static const char places[COUNT_MAX];
    struct random random;
    random_seed(&random, 1);
    for (unsigned round = 0; round < 300; round++) {
        size_t count = round < 20 ? round : random_below(&random, COUNT_MAX + 1);
        uint64_t mask = round % 3 == 0 ? UINT64_MAX : random_u64(&random) & random_u64(&random) & random_u64(&random);
        if (round % 7 == 0) mask = 0xffull << 8 * random_below(&random, 8);
        uint64_t sum = 0, sum_after = 0;
        for (size_t i = 0; i < count; i++) {
            items[i] = (struct sort_item){.number = random_u64(&random) & mask, .pointer = &places[i]};
            sum += random_mix(items[i].number ^ i);
        }
        sort_by_number(items, scratch, count);
        for (size_t i = 0; i < count; i++) {
            size_t place = (size_t)((const char *)items[i].pointer - places);
            sum_after += random_mix(items[i].number ^ place);
            if (i == 0) continue;
            assert_true(items[i - 1].number <= items[i].number);
            if (items[i - 1].number == items[i].number) assert_true(items[i - 1].pointer < items[i].pointer);
        }
        assert_true(sum == sum_after);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pointers_are_sorted_as_told),
        cmocka_unit_test(numbers_are_sorted_and_equal_ones_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
