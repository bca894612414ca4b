/*
 * histogram.h - durations, counted in buckets of at most 1.6 % width, so that percentiles need no list of all.
 *
 * Below 64 ns each nanosecond has its bucket; above, each power of two is divided in 64.
 */
#ifndef CORACLE_CLI_HISTOGRAM_H
#define CORACLE_CLI_HISTOGRAM_H

#include "base/types.h"

#define HISTOGRAM_SUB_BITS 6u
#define HISTOGRAM_BUCKETS ((64u - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS)

/* All zero: empty. */
struct histogram {
    uint64_t buckets[HISTOGRAM_BUCKETS];
    uint64_t count;
    uint64_t sum_ns;
    uint64_t max_ns;
};

void histogram_add(struct histogram *histogram, uint64_t duration_ns);

/* The duration that `per_million` of all don't exceed, at most a bucket's width too high; 0 when empty. */
uint64_t histogram_percentile(const struct histogram *histogram, uint32_t per_million);

#endif
