#define _GNU_SOURCE /* qsort_r */
#include "base/sort.h"

#include <stdlib.h>

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
