/*
 * txn_maker.h - random transactions for tests, with every kind of operation, option and nesting.
 */
#ifndef CORACLE_TEST_TXN_MAKER_H
#define CORACLE_TEST_TXN_MAKER_H

#include "base/arena.h"
#include "base/random.h"
#include "base/txn.h"

struct txn_maker {
    struct random *random;
    struct arena *arena;      /* arrays, and what isn't borrowed */
    const struct bytes *keys; /* borrowed; not empty */
    uint32_t key_count;
    store_revision revision_max; /* revisions and other numbers are between -3 and this */
    uint64_t lease_max;          /* leases are 0 to this */
    uint32_t list_max;           /* compares, and operations, in one list */
    unsigned depth_max;          /* 1: nothing is nested */
    bool wild;                   /* numbers may be anything that 64 bits hold */
};

struct txn txn_maker_txn(const struct txn_maker *maker);
struct range_query txn_maker_range(const struct txn_maker *maker);

#endif
