#include "cli/histogram.h"

#define SUB_COUNT (1u << HISTOGRAM_SUB_BITS)

static unsigned bucket_of(uint64_t value)
{
    if (value < SUB_COUNT) return (unsigned)value;
    unsigned shift = 63u - (unsigned)__builtin_clzll(value) - HISTOGRAM_SUB_BITS;
    return ((shift + 1) << HISTOGRAM_SUB_BITS) + (unsigned)(value >> shift) - SUB_COUNT;
}

/* The largest value that falls into the bucket. */
static uint64_t bucket_top(unsigned bucket)
{
    if (bucket < SUB_COUNT) return bucket;
    unsigned shift = (bucket >> HISTOGRAM_SUB_BITS) - 1;
    uint64_t first = (uint64_t)(SUB_COUNT + (bucket & (SUB_COUNT - 1))) << shift;
    return first + ((UINT64_C(1) << shift) - 1);
}

void histogram_add(struct histogram *histogram, uint64_t duration_ns)
{
    histogram->buckets[bucket_of(duration_ns)]++;
    histogram->count++;
    histogram->sum_ns += duration_ns;
    if (duration_ns > histogram->max_ns) histogram->max_ns = duration_ns;
}

uint64_t histogram_percentile(const struct histogram *histogram, uint32_t per_million)
{
    /* Rounded up: the smallest rank that covers the share. */
    uint64_t rank = (uint64_t)(((unsigned __int128)histogram->count * per_million + 999999) / 1000000);
    uint64_t seen = 0;
    if (histogram->count == 0) return 0;
    if (rank == 0) rank = 1;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->buckets[i];
        if (seen < rank) continue;
        uint64_t top = bucket_top(i);
        return top < histogram->max_ns ? top : histogram->max_ns;
    }
    return histogram->max_ns;
}
