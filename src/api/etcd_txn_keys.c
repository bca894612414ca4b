#include "api/etcd_txn_keys.h"

#include "base/sort.h"

/* Sorted, each once. */
struct key_set {
    const struct bytes **keys;
    size_t count;
};

/* [first, end), sorted and apart from each other. */
struct span {
    struct bytes first, end;
    bool one; /* just `first` */
};

struct span_set {
    const struct span **spans;
    size_t count;
};

struct touched {
    struct key_set puts;
    struct span_set deletes;
};

static int by_bytes(const void *a, const void *b, const void *user)
{
    (void)user;
    return bytes_compare(*(const struct bytes *)a, *(const struct bytes *)b);
}

static int by_first(const void *a, const void *b, const void *user)
{
    (void)user;
    return bytes_compare(((const struct span *)a)->first, ((const struct span *)b)->first);
}

static bool span_reaches(const struct span *span, struct bytes key)
{
    return span->one ? bytes_compare(key, span->first) <= 0 : bytes_compare(key, span->end) < 0;
}

/* Whether the key is in one of the spans. */
static bool covers(const struct span_set *set, struct bytes key)
{
    size_t low = 0, high = set->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (bytes_compare(set->spans[middle]->first, key) <= 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low > 0 && span_reaches(set->spans[low - 1], key);
}

static bool has(const struct key_set *set, const struct bytes *key)
{
    size_t low = 0, high = set->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = bytes_compare(*set->keys[middle], *key);
        if (order == 0) return true;
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return false;
}

/* Sorts the spans, and drops what others hold already. */
static void span_set_tidy(struct span_set *set)
{
    sort_pointers((const void **)set->spans, set->count, by_first, NULL);
    size_t kept = 0;
    for (size_t i = 0; i < set->count; i++) {
        const struct span *span = set->spans[i], *last = kept > 0 ? set->spans[kept - 1] : NULL;
        bool begins_inside = last != NULL && span_reaches(last, span->first);
        if (begins_inside && (span->one || (!last->one && bytes_compare(span->end, last->end) <= 0))) continue;
        set->spans[kept++] = span;
    }
    set->count = kept;
}

/* Both, of which the first may be empty. */
static struct span_set span_set_union(struct arena *arena, const struct span_set *a, const struct span_set *b)
{
    if (b->count == 0) return *a;
    struct span_set both = {.spans = arena_alloc(arena, (a->count + b->count) * sizeof both.spans[0])};
    if (a->count > 0) memcpy(both.spans, a->spans, a->count * sizeof both.spans[0]);
    memcpy(both.spans + a->count, b->spans, b->count * sizeof both.spans[0]);
    both.count = a->count + b->count;
    span_set_tidy(&both);
    return both;
}

static struct key_set key_set_union(struct arena *arena, const struct key_set *a, const struct key_set *b)
{
    if (b->count == 0) return *a;
    struct key_set both = {.keys = arena_alloc(arena, (a->count + b->count) * sizeof both.keys[0])};
    size_t i = 0, j = 0;
    while (i < a->count || j < b->count) {
        int order = i == a->count ? 1 : j == b->count ? -1 : bytes_compare(*a->keys[i], *b->keys[j]);
        both.keys[both.count++] = order <= 0 ? a->keys[i] : b->keys[j];
        i += order <= 0;
        j += order >= 0;
    }
    return both;
}

/* Whether one of the keys is in `puts`, but not in `excused` (which may be NULL), or is deleted. */
static bool clash(const struct key_set *keys, const struct touched *touched, const struct key_set *excused)
{
    for (size_t i = 0; i < keys->count; i++) {
        if (has(&touched->puts, keys->keys[i]) && (excused == NULL || !has(excused, keys->keys[i]))) return true;
        if (covers(&touched->deletes, *keys->keys[i])) return true;
    }
    return false;
}

static struct span_set own_deletes(struct arena *arena, const struct txn_op *ops, uint32_t count)
{
    struct span_set set = {.spans = arena_alloc(arena, (count + 1) * sizeof set.spans[0])};
    for (uint32_t i = 0; i < count; i++) {
        if (ops[i].kind != TXN_DELETE) continue;
        const struct delete_query *delete = &ops[i].delete;
        /* As in etcd, an end of "\0" isn't taken for 'all from the key on' here, so it covers nothing. */
        if (delete->range_end.size > 0 && bytes_compare(delete->key, delete->range_end) >= 0) continue;
        struct span *span = arena_alloc(arena, sizeof *span);
        *span = (struct span){.first = delete->key, .end = delete->range_end, .one = delete->range_end.size == 0};
        set.spans[set.count++] = span;
    }
    span_set_tidy(&set);
    return set;
}

/* False when two of the level's own puts are of one key. */
static bool own_puts(struct arena *arena, const struct txn_op *ops, uint32_t count, struct key_set *out)
{
    *out = (struct key_set){.keys = arena_alloc(arena, (count + 1) * sizeof out->keys[0])};
    for (uint32_t i = 0; i < count; i++) {
        if (ops[i].kind == TXN_PUT) out->keys[out->count++] = &ops[i].put.key;
    }
    sort_pointers((const void **)out->keys, out->count, by_bytes, NULL);
    for (size_t i = 1; i < out->count; i++) {
        if (bytes_equal(*out->keys[i - 1], *out->keys[i])) return false;
    }
    return true;
}

static bool look_at(struct arena *arena, const struct txn_op *ops, uint32_t count, struct touched *out)
{
    *out = (struct touched){.deletes = own_deletes(arena, ops, count)};
    for (uint32_t i = 0; i < count; i++) {
        if (ops[i].kind != TXN_NESTED) continue;
        const struct txn *nested = &ops[i].nested;
        struct touched then, otherwise;
        if (!look_at(arena, nested->success, nested->success_count, &then)) return false;
        if (!look_at(arena, nested->failure, nested->failure_count, &otherwise)) return false;
        if (clash(&then.puts, out, NULL)) return false;
        out->puts = key_set_union(arena, &out->puts, &then.puts);
        if (clash(&otherwise.puts, out, &then.puts)) return false;
        out->puts = key_set_union(arena, &out->puts, &otherwise.puts);
        /* Only now: one branch may put what the other one deletes. As in etcd, deletes aren't held against what stands before them. */
        out->deletes = span_set_union(arena, &out->deletes, &then.deletes);
        out->deletes = span_set_union(arena, &out->deletes, &otherwise.deletes);
    }
    struct key_set own;
    if (!own_puts(arena, ops, count, &own) || clash(&own, out, NULL)) return false;
    out->puts = key_set_union(arena, &out->puts, &own);
    return true;
}

bool etcd_txn_keys_are_distinct(const struct txn *txn, struct arena *arena)
{
    struct touched touched;
    return look_at(arena, txn->success, txn->success_count, &touched) &&
           look_at(arena, txn->failure, txn->failure_count, &touched);
}
