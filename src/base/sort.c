#define _GNU_SOURCE /* qsort_r */
#include "base/sort.h"

#include <stdlib.h>
#include <string.h>

struct sort_context {
    sort_compare compare;
    const void *user;
};

static int compare_elements(const void *a, const void *b, void *context)
{
    const struct sort_context *sort = context;
    return sort->compare(*(const void *const *)a, *(const void *const *)b, sort->user);
}

void sort_pointers(const void **array, size_t count, sort_compare compare, const void *user)
{
    if (count < 2) return;
    struct sort_context context = {.compare = compare, .user = user};
    qsort_r(array, count, sizeof array[0], compare_elements, &context);
}

/* The counts of all bytes' values are taken in one go. */
#define NUMBER_BYTES 8u
#define BYTE_VALUES 256u

void sort_by_number(struct sort_item *items, struct sort_item *scratch, size_t count)
{
    size_t counts[NUMBER_BYTES][BYTE_VALUES] = {{0}};
    for (size_t i = 0; i < count; i++) {
        for (unsigned byte = 0; byte < NUMBER_BYTES; byte++) counts[byte][items[i].number >> 8 * byte & 0xff]++;
    }
    struct sort_item *from = items, *to = scratch;
    for (unsigned byte = 0; byte < NUMBER_BYTES && count > 0; byte++) {
        if (counts[byte][from[0].number >> 8 * byte & 0xff] == count) continue; /* the same in all */
        size_t starts[BYTE_VALUES], start = 0;
        for (unsigned value = 0; value < BYTE_VALUES; value++) {
            starts[value] = start;
            start += counts[byte][value];
        }
        for (size_t i = 0; i < count; i++) to[starts[from[i].number >> 8 * byte & 0xff]++] = from[i];
        struct sort_item *sorted = to;
        to = from;
        from = sorted;
    }
    if (from != items) memcpy(items, from, count * sizeof items[0]);
}
