/*
 * txn.h - evaluates transactions (base/txn.h) against the store, by etcd's rules, the same on every member.
 *
 * In this order: all compares, nested ones too, look at the state before; the operations that they select are checked
 * (leases exist, kept values exist, revisions can be read); if a check fails nothing is changed and the error is the answer; then
 * the operations are done one after the other, each seeing the changes of those before. All changes have one revision.
 *
 * What requests must satisfy by themselves (limits, no key twice, nothing empty) isn't looked at here; that is the API's.
 */
#ifndef CORACLE_STORE_TXN_H
#define CORACLE_STORE_TXN_H

#include "base/arena.h"
#include "store/range.h"

/* What one operation answers. A tree in an arena; records are borrowed until the next change of the store, unless kept. */
struct txn_answer {
    enum txn_op_kind kind;
    store_revision revision; /* of the store after the operation */
    uint64_t count;          /* range: keys in the range; delete: keys deleted */
    bool more;               /* range: the limit cut something off */
    bool keys_only;          /* range: values were not asked for */
    bool zero_lease;         /* range: nor leases, which follows from keys_only and the order */
    bool succeeded;          /* nested: its compares held */
    const struct store_record *
        *records; /* range: as asked for; put: the previous version or none; delete: what was there */
    uint32_t record_count;
    struct txn_answer *answers; /* nested: one for each operation done */
    uint32_t answer_count;
};

/*
 * Does all of it, between store_begin and store_end of its own; *out is then of kind TXN_NESTED. With `arena` NULL nothing is
 * collected and `out` isn't touched: what a member does whose client it wasn't. Errors, with nothing changed: ERR_LEASE_NOT_FOUND,
 * ERR_KEY_MISSING, ERR_COMPACTED, ERR_FUTURE_REVISION.
 */
enum error txn_apply(struct store *store, const struct txn *txn, struct arena *arena, struct txn_answer *out);
enum error txn_apply_put(struct store *store, const struct put_query *query, struct arena *arena,
                         struct txn_answer *out);
enum error txn_apply_delete(struct store *store, const struct delete_query *query, struct arena *arena,
                            struct txn_answer *out);

/* The answer to a range by itself, whose records are the result's: it lasts as long as that. */
struct txn_answer txn_answer_of_range(const struct range_query *query, const struct range_result *found);

/* Whether it holds ranges only, nested ones too; then it needs no place in the log, and txn_read answers it. */
bool txn_is_read_only(const struct txn *txn);
enum error txn_read(const struct store *store, const struct txn *txn, struct arena *arena, struct txn_answer *out);

/* Takes, and gives back, a reference to each record of the tree, so that it outlives changes of the store. */
void txn_answer_keep(struct txn_answer *answer);
void txn_answer_release(struct txn_answer *answer);

#endif
