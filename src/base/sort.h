/*
 * sort.h - the C library's sort, for layers that see nothing else of that library.
 *
 * Give it an order in which no two elements are equal where the result must be the same everywhere.
 */
#ifndef CORACLE_BASE_SORT_H
#define CORACLE_BASE_SORT_H

#include <stddef.h>

/* Below 0: a comes first. `a` and `b` are what the array holds. */
typedef int (*sort_compare)(const void *a, const void *b, const void *user);

/* Sorts an array of `count` pointers. */
void sort_pointers(const void **array, size_t count, sort_compare compare, const void *user);

#endif
