#include "txn_maker.h"

static bool chance(const struct txn_maker *maker, unsigned per_mille)
{
    return random_chance(maker->random, per_mille);
}

static unsigned below(const struct txn_maker *maker, unsigned bound)
{
    return (unsigned)random_below(maker->random, bound);
}

static int64_t number(const struct txn_maker *maker)
{
    if (maker->wild && chance(maker, 500)) return (int64_t)random_u64(maker->random) >> below(maker, 64);
    if (chance(maker, 300)) return (int64_t)below(maker, 4);
    return (int64_t)random_between(maker->random, 0, (uint64_t)maker->revision_max + 3) - 3;
}

static struct bytes key(const struct txn_maker *maker)
{
    return maker->keys[random_below(maker->random, maker->key_count)];
}

static struct bytes range_end(const struct txn_maker *maker)
{
    unsigned kind = below(maker, 10);
    if (kind < 4) return bytes_of(NULL, 0);
    if (kind < 6) return bytes_of("\0", 1);
    return key(maker);
}

static struct bytes value(const struct txn_maker *maker)
{
    size_t size = chance(maker, 300) ? 0 : random_below(maker->random, 20);
    uint8_t *data = arena_alloc(maker->arena, size);
    /* Few different ones, so that a compare may find them equal. */
    uint8_t fill = (uint8_t)below(maker, 4);
    for (size_t i = 0; i < size; i++) data[i] = fill;
    return bytes_of(data, size);
}

struct range_query txn_maker_range(const struct txn_maker *maker)
{
    struct range_query range = {.key = key(maker), .range_end = range_end(maker)};
    if (chance(maker, 300)) range.revision = number(maker);
    if (chance(maker, 500)) range.limit = chance(maker, 900) ? (int64_t)below(maker, 8) : number(maker);
    if (chance(maker, 500)) range.order = (enum range_order)below(maker, 3);
    if (chance(maker, 500)) range.target = (enum range_target)below(maker, 5);
    range.keys_only = chance(maker, 200);
    range.count_only = chance(maker, 200);
    if (chance(maker, 150)) range.mod_min = number(maker);
    if (chance(maker, 150)) range.mod_max = number(maker);
    if (chance(maker, 150)) range.create_min = number(maker);
    if (chance(maker, 150)) range.create_max = number(maker);
    return range;
}

static struct put_query put(const struct txn_maker *maker)
{
    struct put_query put = {.key = key(maker), .value = value(maker), .want_previous = chance(maker, 500)};
    if (chance(maker, 400)) put.lease = random_between(maker->random, 0, maker->lease_max);
    put.keep_value = chance(maker, 100);
    put.keep_lease = chance(maker, 100);
    return put;
}

static struct txn_compare compare(const struct txn_maker *maker)
{
    return (struct txn_compare){
        .result = (enum compare_result)below(maker, 4),
        .target = (enum compare_target)below(maker, 5),
        .key = key(maker),
        .range_end = chance(maker, 600) ? bytes_of(NULL, 0) : range_end(maker),
        .number = number(maker),
        .value = value(maker),
    };
}

static struct txn make(const struct txn_maker *maker, unsigned depth);

static struct txn_op op(const struct txn_maker *maker, unsigned depth)
{
    unsigned kind = below(maker, 10);
    if (kind < 3) return (struct txn_op){.kind = TXN_RANGE, .range = txn_maker_range(maker)};
    if (kind < 6 || (kind == 9 && depth >= maker->depth_max)) {
        return (struct txn_op){.kind = TXN_PUT, .put = put(maker)};
    }
    if (kind < 9) {
        struct delete_query delete = {
            .key = key(maker), .range_end = range_end(maker), .want_previous = chance(maker, 500)};
        return (struct txn_op){.kind = TXN_DELETE, .delete = delete};
    }
    return (struct txn_op){.kind = TXN_NESTED, .nested = make(maker, depth + 1)};
}

static struct txn_op *ops(const struct txn_maker *maker, uint32_t count, unsigned depth)
{
    struct txn_op *array = arena_alloc(maker->arena, count * sizeof array[0]);
    for (uint32_t i = 0; i < count; i++) array[i] = op(maker, depth);
    return array;
}

static struct txn make(const struct txn_maker *maker, unsigned depth)
{
    struct txn txn = {.compare_count = below(maker, maker->list_max + 1),
                      .success_count = below(maker, maker->list_max + 1),
                      .failure_count = below(maker, maker->list_max + 1)};
    txn.compares = arena_alloc(maker->arena, txn.compare_count * sizeof txn.compares[0]);
    for (uint32_t i = 0; i < txn.compare_count; i++) txn.compares[i] = compare(maker);
    txn.success = ops(maker, txn.success_count, depth);
    txn.failure = ops(maker, txn.failure_count, depth);
    return txn;
}

struct txn txn_maker_txn(const struct txn_maker *maker)
{
    return make(maker, 1);
}
