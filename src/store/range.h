/*
 * range.h - evaluates a range query (base/txn.h) against the store, by etcd's rules.
 *
 * The keys of the range at one revision; those outside the bounds of mod and create revisions are filtered out, then they
 * are sorted, then the limit cuts. `count` is of all keys in the range, whatever limit and bounds say.
 *
 * One exception, as etcd has it: with a target other than the key, RANGE_ORDER_NONE and no bounds, the first `limit` + 1 keys are taken,
 * these are sorted (ascending), and then the limit cuts the last one off.
 */
#ifndef CORACLE_STORE_RANGE_H
#define CORACLE_STORE_RANGE_H

#include "base/txn.h"
#include "store/store.h"

/* A range as base/txn.h writes it, as the store's functions take it: [first, end), an empty end for 'to the last key'. */
struct range_span {
    struct bytes first, end;
    bool one; /* just the key `first` */
};
struct range_span range_span_of(struct bytes key, struct bytes range_end);

struct range_result {
    const struct store_record **records; /* mem_free; the records are borrowed until the next change */
    size_t record_count;
    uint64_t count;
    bool more; /* the limit cut something off */
};

/* Whether the answer comes in key order without looking at all of it first: then a cursor can produce it in slices. */
bool range_is_plain(const struct range_query *query);

/*
 * Errors, with nothing in *out: ERR_COMPACTED, ERR_FUTURE_REVISION. A revision of 0 or less is now, with the open transaction's
 * changes. Takes O(log n) for a count of now, O(log n + limit) for a plain query with a limit.
 */
enum error range_collect(const struct store *store, const struct range_query *query, struct range_result *out);
void range_result_free(struct range_result *result);

#endif
