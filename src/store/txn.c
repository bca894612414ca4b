#include "store/txn.h"

#include "base/check.h"
#include "base/mem.h"
#include "store/store_internal.h"

struct evaluation {
    const struct store *store;
    struct store *changing; /* NULL while reading only */
    struct arena *arena;    /* NULL: nothing is collected */
};

/* Which way each transaction of the tree went, in the order in which they are met. */
struct paths {
    bool *succeeded;
    uint32_t count, next;
};

/* ---- compares ---- */

static bool holds(enum compare_result wanted, int order)
{
    switch (wanted) {
    case COMPARE_EQUAL:
        return order == 0;
    case COMPARE_GREATER:
        return order > 0;
    case COMPARE_LESS:
        return order < 0;
    case COMPARE_NOT_EQUAL:
        return order != 0;
    }
    CHECK(false);
}

/* A key that isn't there compares as zeros; `record` is NULL then. */
static bool compare_record(const struct txn_compare *compare, const struct store_record *record)
{
    int64_t number = 0;
    switch (compare->target) {
    case COMPARE_VALUE:
        /* What isn't there has no value, not even an empty one. */
        if (record == NULL) return false;
        return holds(compare->result, bytes_compare(store_record_value(record), compare->value));
    case COMPARE_VERSION:
        number = record != NULL ? record->version : 0;
        break;
    case COMPARE_CREATE:
        number = record != NULL ? record->create_revision : 0;
        break;
    case COMPARE_MOD:
        number = record != NULL ? record->mod_revision : 0;
        break;
    case COMPARE_LEASE:
        number = record != NULL ? (int64_t)record->lease : 0;
        break;
    }
    return holds(compare->result, number < compare->number ? -1 : number > compare->number);
}

static bool compare_holds(const struct store *store, const struct txn_compare *compare)
{
    struct range_span span = range_span_of(compare->key, compare->range_end);
    if (span.one) {
        const struct store_record *record;
        bool found = store_get(store, span.first, 0, &record) == ERR_OK;
        return compare_record(compare, found ? record : NULL);
    }
    if (span.end.size > 0 && bytes_compare(span.first, span.end) >= 0) return compare_record(compare, NULL);
    struct store_cursor cursor;
    store_cursor_open(&cursor, span.first, span.end, 0);
    bool all = true, any = false;
    while (all && !cursor.done) {
        const struct store_record *slice[64];
        size_t count = store_cursor_next(store, &cursor, slice, ARRAY_COUNT(slice));
        any = any || count > 0;
        for (size_t i = 0; i < count && all; i++) all = compare_record(compare, slice[i]);
    }
    store_cursor_close(&cursor);
    return any ? all : compare_record(compare, NULL);
}

static uint32_t count_transactions(const struct txn *txn);

static uint32_t count_in_branch(const struct txn_op *ops, uint32_t count)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (ops[i].kind == TXN_NESTED) found += count_transactions(&ops[i].nested);
    }
    return found;
}

static uint32_t count_transactions(const struct txn *txn)
{
    return 1 + count_in_branch(txn->success, txn->success_count) + count_in_branch(txn->failure, txn->failure_count);
}

static const struct txn_op *branch_of(const struct txn *txn, bool succeeded, uint32_t *count)
{
    *count = succeeded ? txn->success_count : txn->failure_count;
    return succeeded ? txn->success : txn->failure;
}

/* Only what is selected is looked into further. */
static void choose_paths(const struct store *store, const struct txn *txn, struct paths *paths)
{
    bool succeeded = true;
    for (uint32_t i = 0; i < txn->compare_count && succeeded; i++) {
        succeeded = compare_holds(store, &txn->compares[i]);
    }
    paths->succeeded[paths->count++] = succeeded;
    uint32_t count;
    const struct txn_op *ops = branch_of(txn, succeeded, &count);
    for (uint32_t i = 0; i < count; i++) {
        if (ops[i].kind == TXN_NESTED) choose_paths(store, &ops[i].nested, paths);
    }
}

/* ---- checks ---- */

static enum error check_put(const struct store *store, const struct put_query *put)
{
    if (put->lease != 0 && lease_table_find(&store->leases, put->lease) == NULL) return ERR_LEASE_NOT_FOUND;
    if (!put->keep_value && !put->keep_lease) return ERR_OK;
    const struct store_record *record;
    return store_get(store, put->key, 0, &record) == ERR_OK ? ERR_OK : ERR_KEY_MISSING;
}

/* In a transaction a revision below zero isn't 'now' but one that is long gone. */
static enum error check_range(const struct store *store, const struct range_query *range)
{
    store_revision first = store->compacted_revision > 0 ? store->compacted_revision : -1;
    if (range->revision == 0) return ERR_OK;
    if (range->revision > store->revision) return ERR_FUTURE_REVISION;
    return range->revision < first ? ERR_COMPACTED : ERR_OK;
}

static enum error check_txn(const struct store *store, const struct txn *txn, struct paths *paths)
{
    uint32_t count;
    const struct txn_op *ops = branch_of(txn, paths->succeeded[paths->next++], &count);
    enum error error = ERR_OK;
    for (uint32_t i = 0; i < count && error == ERR_OK; i++) {
        if (ops[i].kind == TXN_PUT) error = check_put(store, &ops[i].put);
        if (ops[i].kind == TXN_RANGE) error = check_range(store, &ops[i].range);
        if (ops[i].kind == TXN_NESTED) error = check_txn(store, &ops[i].nested, paths);
    }
    return error;
}

/* ---- operations ---- */

/* What a reader of now would see as the store's revision. */
static store_revision revision_now(const struct store *store)
{
    return store->revision + (store->is_open && store->sub_revision > 0 ? 1 : 0);
}

static void collect(struct evaluation *evaluation, struct txn_answer *answer, const struct store_record *const *records,
                    size_t count)
{
    CHECK(count <= UINT32_MAX);
    if (count == 0) return;
    answer->records = arena_alloc(evaluation->arena, count * sizeof answer->records[0]);
    memcpy(answer->records, records, count * sizeof answer->records[0]);
    answer->record_count = (uint32_t)count;
}

struct txn_answer txn_answer_of_range(const struct range_query *query, const struct range_result *found)
{
    CHECK(found->record_count <= UINT32_MAX);
    return (struct txn_answer){.kind = TXN_RANGE,
                               .count = found->count,
                               .more = found->more,
                               .keys_only = query->keys_only,
                               .zero_lease = query->keys_only && query->target != RANGE_BY_VALUE,
                               .records = found->records,
                               .record_count = (uint32_t)found->record_count};
}

static void do_range(struct evaluation *evaluation, const struct range_query *range, struct txn_answer *answer)
{
    if (evaluation->arena == NULL) return; /* it changes nothing */
    struct range_result result;
    /* It was checked; a compaction can't come between. */
    if (range_collect(evaluation->store, range, &result) != ERR_OK) result = (struct range_result){.records = NULL};
    *answer = txn_answer_of_range(range, &result);
    answer->records = NULL;
    answer->record_count = 0;
    collect(evaluation, answer, result.records, result.record_count);
    range_result_free(&result);
}

static void do_put(struct evaluation *evaluation, const struct put_query *put, struct txn_answer *answer)
{
    struct store *store = evaluation->changing;
    struct bytes value = put->value;
    uint64_t lease = put->lease;
    const struct store_record *previous = NULL;
    if (put->keep_value || put->keep_lease) {
        /* Checked, but for what an earlier operation of the same transaction deleted. */
        bool found = store_get(store, put->key, 0, &previous) == ERR_OK;
        if (put->keep_value && found) value = store_record_value(previous);
        if (put->keep_lease && found) lease = previous->lease;
    }
    store_put(store, put->key, value, lease, &previous);
    if (evaluation->arena == NULL) return;
    answer->count = previous != NULL;
    if (put->want_previous && previous != NULL) collect(evaluation, answer, &previous, 1);
}

static void do_delete(struct evaluation *evaluation, const struct delete_query *delete, struct txn_answer *answer)
{
    struct store *store = evaluation->changing;
    struct range_span span = range_span_of(delete->key, delete->range_end);
    bool collecting = evaluation->arena != NULL && delete->want_previous;
    if (span.one) {
        const struct store_record *previous;
        bool deleted = store_delete(store, span.first, &previous);
        if (evaluation->arena == NULL) return;
        answer->count = deleted;
        if (collecting && deleted) collect(evaluation, answer, &previous, 1);
        return;
    }
    struct range_result found = {.records = NULL};
    if (collecting) {
        struct range_query query = {.key = delete->key, .range_end = delete->range_end};
        CHECK(range_collect(store, &query, &found) == ERR_OK);
        collect(evaluation, answer, found.records, found.record_count);
        range_result_free(&found);
    }
    bool empty = span.end.size > 0 && bytes_compare(span.first, span.end) >= 0;
    uint64_t deleted = empty ? 0 : store_delete_range(store, span.first, span.end);
    if (evaluation->arena != NULL) answer->count = deleted;
}

static void do_txn(struct evaluation *evaluation, const struct txn *txn, struct paths *paths,
                   struct txn_answer *answer);

static void do_op(struct evaluation *evaluation, const struct txn_op *op, struct paths *paths,
                  struct txn_answer *answer)
{
    switch (op->kind) {
    case TXN_RANGE:
        do_range(evaluation, &op->range, answer);
        break;
    case TXN_PUT:
        do_put(evaluation, &op->put, answer);
        break;
    case TXN_DELETE:
        do_delete(evaluation, &op->delete, answer);
        break;
    case TXN_NESTED:
        do_txn(evaluation, &op->nested, paths, answer);
        break;
    }
    if (answer != NULL) answer->revision = revision_now(evaluation->store);
}

static void do_txn(struct evaluation *evaluation, const struct txn *txn, struct paths *paths, struct txn_answer *answer)
{
    uint32_t count;
    bool succeeded = paths->succeeded[paths->next++];
    const struct txn_op *ops = branch_of(txn, succeeded, &count);
    struct txn_answer *answers = NULL;
    if (answer != NULL) {
        if (count > 0) answers = arena_alloc(evaluation->arena, count * sizeof answers[0]);
        for (uint32_t i = 0; i < count; i++) answers[i] = (struct txn_answer){.kind = ops[i].kind};
        answer->answers = answers;
        answer->answer_count = count;
        answer->succeeded = succeeded;
    }
    for (uint32_t i = 0; i < count; i++) {
        do_op(evaluation, &ops[i], paths, answers != NULL ? &answers[i] : NULL);
    }
}

/* ---- the whole ---- */

static enum error prepare(const struct store *store, const struct txn *txn, struct paths *paths)
{
    *paths = (struct paths){.succeeded = mem_alloc(count_transactions(txn) * sizeof paths->succeeded[0])};
    choose_paths(store, txn, paths);
    enum error error = check_txn(store, txn, paths);
    paths->next = 0;
    return error;
}

static void answer_txn(struct evaluation *evaluation, const struct txn *txn, struct paths *paths,
                       struct txn_answer *out)
{
    if (evaluation->arena != NULL) *out = (struct txn_answer){.kind = TXN_NESTED};
    do_txn(evaluation, txn, paths, evaluation->arena != NULL ? out : NULL);
}

enum error txn_apply(struct store *store, const struct txn *txn, struct arena *arena, struct txn_answer *out)
{
    struct paths paths;
    enum error error = prepare(store, txn, &paths);
    if (error == ERR_OK) {
        struct evaluation evaluation = {.store = store, .changing = store, .arena = arena};
        store_begin(store);
        answer_txn(&evaluation, txn, &paths, out);
        store_end(store);
        if (arena != NULL) out->revision = store->revision;
    }
    mem_free(paths.succeeded);
    return error;
}

enum error txn_read(const struct store *store, const struct txn *txn, struct arena *arena, struct txn_answer *out)
{
    struct paths paths;
    enum error error = prepare(store, txn, &paths);
    if (error == ERR_OK) {
        struct evaluation evaluation = {.store = store, .arena = arena};
        answer_txn(&evaluation, txn, &paths, out);
        out->revision = store->revision;
    }
    mem_free(paths.succeeded);
    return error;
}

/* One operation by itself, as its own transaction. */
static void apply_op(struct store *store, const struct txn_op *op, struct arena *arena, struct txn_answer *out)
{
    struct evaluation evaluation = {.store = store, .changing = store, .arena = arena};
    if (arena != NULL) *out = (struct txn_answer){.kind = op->kind};
    store_begin(store);
    do_op(&evaluation, op, NULL, arena != NULL ? out : NULL);
    store_end(store);
}

enum error txn_apply_put(struct store *store, const struct put_query *query, struct arena *arena,
                         struct txn_answer *out)
{
    enum error error = check_put(store, query);
    if (error != ERR_OK) return error;
    struct txn_op op = {.kind = TXN_PUT, .put = *query};
    apply_op(store, &op, arena, out);
    return ERR_OK;
}

enum error txn_apply_delete(struct store *store, const struct delete_query *query, struct arena *arena,
                            struct txn_answer *out)
{
    struct txn_op op = {.kind = TXN_DELETE, .delete = *query};
    apply_op(store, &op, arena, out);
    return ERR_OK;
}

static bool ops_read_only(const struct txn_op *ops, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (ops[i].kind == TXN_NESTED ? !txn_is_read_only(&ops[i].nested) : ops[i].kind != TXN_RANGE) return false;
    }
    return true;
}

bool txn_is_read_only(const struct txn *txn)
{
    return ops_read_only(txn->success, txn->success_count) && ops_read_only(txn->failure, txn->failure_count);
}

/* ---- keeping answers ---- */

void txn_answer_keep(struct txn_answer *answer)
{
    /* The store's records are its own to change; a reference is the one thing that others may add. */
    for (uint32_t i = 0; i < answer->record_count; i++) store_record_ref((struct store_record *)answer->records[i]);
    for (uint32_t i = 0; i < answer->answer_count; i++) txn_answer_keep(&answer->answers[i]);
}

void txn_answer_release(struct txn_answer *answer)
{
    for (uint32_t i = 0; i < answer->record_count; i++) store_record_unref((struct store_record *)answer->records[i]);
    for (uint32_t i = 0; i < answer->answer_count; i++) txn_answer_release(&answer->answers[i]);
    answer->record_count = 0;
    answer->answer_count = 0;
}
