/*
 * etcd_txn_keys.h - whether a transaction changes a key twice, by etcd's rule.
 *
 * Two puts of a key, or a put of a key that a delete covers, in lists that can both be done. The two branches of one transaction can't:
 * the same put may stand in both. Deletes may overlap.
 */
#ifndef CORACLE_API_ETCD_TXN_KEYS_H
#define CORACLE_API_ETCD_TXN_KEYS_H

#include "base/arena.h"
#include "base/txn.h"

/* Takes O(n log n) for each level of nesting. */
bool etcd_txn_keys_are_distinct(const struct txn *txn, struct arena *arena);

#endif
