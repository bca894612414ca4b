/*
 * txn.h - what can be asked of the key space, as plain data: ranges, puts, deletes, and transactions of them.
 *
 * It is what the API decodes, the log carries (storage/txn_format.h) and the store evaluates (store/range.h, store/txn.h).
 * All views are borrowed. A range of keys is written as etcd does everywhere:
 *
 *     range_end empty      the one key
 *     range_end "\0"       all keys from `key` on ("\0" as key, too: all)
 *     else                 key <= k < range_end; empty when key >= range_end
 */
#ifndef CORACLE_BASE_TXN_H
#define CORACLE_BASE_TXN_H

#include "base/bytes.h"
#include "base/types.h"

/* Numbers as in etcd's RangeRequest. */
enum range_order { RANGE_ORDER_NONE = 0, RANGE_ASCENDING = 1, RANGE_DESCENDING = 2 };
enum range_target {
    RANGE_BY_KEY = 0,
    RANGE_BY_VERSION = 1,
    RANGE_BY_CREATE = 2,
    RANGE_BY_MOD = 3,
    RANGE_BY_VALUE = 4,
};

struct range_query {
    struct bytes key, range_end;
    store_revision revision; /* 0: now */
    int64_t limit;           /* 0 or less: none */
    enum range_order order;
    enum range_target target;
    bool keys_only, count_only;
    store_revision mod_min, mod_max, create_min, create_max; /* 0: no bound */
};

struct put_query {
    struct bytes key, value;
    uint64_t lease; /* 0: none */
    bool want_previous;
    bool keep_value; /* etcd's ignore_value: the key's value stays */
    bool keep_lease; /* likewise ignore_lease */
};

struct delete_query {
    struct bytes key, range_end;
    bool want_previous;
};

/* Numbers as in etcd's Compare. */
enum compare_result { COMPARE_EQUAL = 0, COMPARE_GREATER = 1, COMPARE_LESS = 2, COMPARE_NOT_EQUAL = 3 };
enum compare_target {
    COMPARE_VERSION = 0,
    COMPARE_CREATE = 1,
    COMPARE_MOD = 2,
    COMPARE_VALUE = 3,
    COMPARE_LEASE = 4,
};

struct txn_compare {
    enum compare_result result;
    enum compare_target target;
    struct bytes key, range_end;
    int64_t number;     /* what is compared with, but for VALUE */
    struct bytes value; /* for VALUE */
};

enum txn_op_kind { TXN_RANGE = 1, TXN_PUT = 2, TXN_DELETE = 3, TXN_NESTED = 4 };

struct txn_op;

struct txn {
    struct txn_compare *compares;
    struct txn_op *success; /* done when all compares hold */
    struct txn_op *failure; /* done otherwise */
    uint32_t compare_count, success_count, failure_count;
};

struct txn_op {
    enum txn_op_kind kind;
    union {
        struct range_query range;
        struct put_query put;
        struct delete_query delete;
        struct txn nested;
    };
};

/* How deep transactions may nest, the outermost counted. etcd's limit on operations leads to the same. */
#define TXN_DEPTH_MAX 130u

#endif
