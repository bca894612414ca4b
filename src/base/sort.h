/*
 * sort.h - the C library's sort, for layers that see nothing else of that library; and one for numbers.
 *
 * Give it an order in which no two elements are equal where the result must be the same everywhere.
 */
#ifndef CORACLE_BASE_SORT_H
#define CORACLE_BASE_SORT_H

#include <stddef.h>
#include <stdint.h>

/* Below 0: a comes first. `a` and `b` are what the array holds. */
typedef int (*sort_compare)(const void *a, const void *b, const void *user);

/* Sorts an array of `count` pointers. O(n log n). */
void sort_pointers(const void **array, size_t count, sort_compare compare, const void *user);

struct sort_item {
    uint64_t number;
    const void *pointer;
};

/* Sorts by number; equal ones stay in their order. O(n), and it looks at nothing but the items. `scratch` has room for as many. */
void sort_by_number(struct sort_item *items, struct sort_item *scratch, size_t count);

#endif
