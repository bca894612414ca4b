#include "store/range.h"

#include "base/check.h"
#include "base/mem.h"
#include "base/sort.h"
#include "store/store_internal.h"

/* What is looked at between two growths of the result. */
#define SLICE_RECORDS 256u

struct range_span range_span_of(struct bytes key, struct bytes range_end)
{
    if (range_end.size == 0) return (struct range_span){.first = key, .one = true};
    bool to_the_last = range_end.size == 1 && range_end.data[0] == 0;
    bool from_the_first = key.size == 1 && key.data[0] == 0;
    return (struct range_span){.first = from_the_first ? bytes_of(NULL, 0) : key,
                               .end = to_the_last ? bytes_of(NULL, 0) : range_end};
}

static bool has_bounds(const struct range_query *query)
{
    return query->mod_min != 0 || query->mod_max != 0 || query->create_min != 0 || query->create_max != 0;
}

/* The order that is meant: a target other than the key sorts ascending unless told otherwise. */
static enum range_order order_of(const struct range_query *query)
{
    if (query->order != RANGE_ORDER_NONE) return query->order;
    return query->target == RANGE_BY_KEY ? RANGE_ORDER_NONE : RANGE_ASCENDING;
}

static bool is_sorted_already(const struct range_query *query)
{
    enum range_order order = order_of(query);
    return order == RANGE_ORDER_NONE || (order == RANGE_ASCENDING && query->target == RANGE_BY_KEY);
}

bool range_is_plain(const struct range_query *query)
{
    return is_sorted_already(query) && !has_bounds(query);
}

/* Whether the limit cuts what is then sorted. As etcd 3.7 does it: with no order given, also where a target implies one. */
static bool is_limited_first(const struct range_query *query)
{
    bool in_key_order = query->order == RANGE_ORDER_NONE || is_sorted_already(query);
    return in_key_order && !has_bounds(query);
}

static bool is_within_bounds(const struct range_query *query, const struct store_record *record)
{
    if (query->mod_min != 0 && record->mod_revision < query->mod_min) return false;
    if (query->mod_max != 0 && record->mod_revision > query->mod_max) return false;
    if (query->create_min != 0 && record->create_revision < query->create_min) return false;
    return query->create_max == 0 || record->create_revision <= query->create_max;
}

/* ---- sorting ---- */

static int compare_numbers(int64_t a, int64_t b)
{
    return a < b ? -1 : a > b;
}

static int compare_by(enum range_target target, const struct store_record *a, const struct store_record *b)
{
    switch (target) {
    case RANGE_BY_VERSION:
        return compare_numbers(a->version, b->version);
    case RANGE_BY_CREATE:
        return compare_numbers(a->create_revision, b->create_revision);
    case RANGE_BY_MOD:
        return compare_numbers(a->mod_revision, b->mod_revision);
    case RANGE_BY_VALUE:
        return bytes_compare(store_record_value(a), store_record_value(b));
    case RANGE_BY_KEY:
        break;
    }
    return bytes_compare(store_record_key(a), store_record_key(b));
}

/* Equal ones in key order, so that all members answer alike. */
static int compare_in_order(const void *a, const void *b, const void *user)
{
    const struct range_query *query = user;
    int order = compare_by(query->target, a, b);
    if (order == 0) return compare_by(RANGE_BY_KEY, a, b);
    return order_of(query) == RANGE_DESCENDING ? -order : order;
}

static void sort(const struct range_query *query, struct range_result *result)
{
    if (is_sorted_already(query)) return;
    sort_pointers((const void **)result->records, result->record_count, compare_in_order, query);
}

/* ---- collecting ---- */

static enum error collect_one(const struct store *store, const struct range_query *query, struct range_result *out)
{
    const struct store_record *record;
    enum error error = store_get(store, query->key, query->revision, &record);
    if (error == ERR_NOT_FOUND) return ERR_OK;
    if (error != ERR_OK) return error;
    out->count = 1;
    if (query->count_only || !is_within_bounds(query, record)) return ERR_OK;
    out->records = mem_alloc(sizeof out->records[0]);
    out->records[0] = record;
    out->record_count = 1;
    return ERR_OK;
}

static enum error check_revision(const struct store *store, store_revision revision)
{
    /* The open transaction's changes are of the next revision, which can be asked for only as now. */
    if (revision > store_current_revision(store)) return ERR_FUTURE_REVISION;
    return revision > 0 && revision < store_compacted_revision(store) ? ERR_COMPACTED : ERR_OK;
}

/* Walks the range; keeps up to `keep` records within the bounds, and counts all when told to. */
static void walk(const struct store *store, const struct range_query *query, const struct range_span *span,
                 uint64_t keep, bool count_all, struct range_result *out)
{
    struct store_cursor cursor;
    store_cursor_open(&cursor, span->first, span->end, query->revision);
    size_t capacity = 0;
    while (!cursor.done && (count_all || out->record_count < keep)) {
        const struct store_record *slice[SLICE_RECORDS];
        size_t max = !count_all && keep - out->record_count < SLICE_RECORDS ? keep - out->record_count : SLICE_RECORDS;
        size_t count = store_cursor_next(store, &cursor, slice, max);
        if (count_all) out->count += count;
        if (keep == 0) continue;
        if (out->record_count + count > capacity) {
            capacity = capacity == 0 ? count : 2 * capacity + count;
            out->records = mem_realloc(out->records, capacity * sizeof out->records[0]);
        }
        for (size_t i = 0; i < count && out->record_count < keep; i++) {
            if (is_within_bounds(query, slice[i])) out->records[out->record_count++] = slice[i];
        }
    }
    store_cursor_close(&cursor);
}

enum error range_collect(const struct store *store, const struct range_query *query, struct range_result *out)
{
    *out = (struct range_result){.records = NULL};
    struct range_span span = range_span_of(query->key, query->range_end);
    if (span.one) return collect_one(store, query, out);
    enum error error = check_revision(store, query->revision);
    if (error != ERR_OK) return error;
    if (span.end.size > 0 && bytes_compare(span.first, span.end) >= 0) return ERR_OK;
    bool counted = query->revision <= 0 || (query->revision == store_current_revision(store) && !store->is_open);
    if (counted) out->count = store_count(store, span.first, span.end);
    if (query->count_only) {
        if (!counted) walk(store, query, &span, 0, true, out);
        return ERR_OK;
    }
    uint64_t limit = query->limit > 0 ? (uint64_t)query->limit : UINT64_MAX;
    /* One more than the limit tells whether there is more. */
    uint64_t keep = is_limited_first(query) && limit < UINT64_MAX ? limit + 1 : UINT64_MAX;
    walk(store, query, &span, keep, !counted, out);
    sort(query, out);
    if (out->record_count > limit) {
        out->record_count = limit;
        out->more = true;
    }
    return ERR_OK;
}

void range_result_free(struct range_result *result)
{
    mem_free(result->records);
    *result = (struct range_result){.records = NULL};
}
