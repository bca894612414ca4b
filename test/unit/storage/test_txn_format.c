/*
 * A transaction as bytes: whatever goes in comes out, and whatever else is read is refused or means exactly these bytes.
 */
#include "storage/txn_format.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "../txn_maker.h"
#include "base/mem.h"
#include "storage/command_format.h"

/* Of txn_format.h's table. */
#define TXN_HEADER_BYTES 6u
#define COMPARE_HEADER_BYTES 22u

static struct buffer encoded(const struct txn *txn)
{
    struct buffer out = {.data = NULL};
    size_t size = txn_format_bytes(txn);
    buffer_reserve(&out, size);
    txn_format_encode(txn, out.data);
    out.size = size;
    return out;
}

/* A copy of exactly its size, so that a byte too far is seen. */
static enum error decode(struct bytes bytes, struct arena *arena, struct txn *out)
{
    uint8_t *copy = arena_alloc(arena, bytes.size);
    if (bytes.size > 0) memcpy(copy, bytes.data, bytes.size);
    return txn_format_decode(bytes_of(copy, bytes.size), arena, out);
}

static bool is_refused(struct bytes bytes)
{
    struct arena arena = {.chunks = NULL};
    struct txn txn;
    enum error error = decode(bytes, &arena, &txn);
    assert_true(error == ERR_OK || error == ERR_DAMAGED);
    arena_free(&arena);
    return error == ERR_DAMAGED;
}

/* ---- equality ---- */

static void assert_same_bytes(struct bytes a, struct bytes b)
{
    assert_true(bytes_equal(a, b));
}

static void assert_same_compare(const struct txn_compare *a, const struct txn_compare *b)
{
    assert_int_equal(a->result, b->result);
    assert_int_equal(a->target, b->target);
    assert_true(a->number == b->number);
    assert_same_bytes(a->key, b->key);
    assert_same_bytes(a->range_end, b->range_end);
    assert_same_bytes(a->value, b->value);
}

static void assert_same_range(const struct range_query *a, const struct range_query *b)
{
    assert_same_bytes(a->key, b->key);
    assert_same_bytes(a->range_end, b->range_end);
    assert_true(a->revision == b->revision && a->limit == b->limit);
    assert_true(a->order == b->order && a->target == b->target);
    assert_true(a->keys_only == b->keys_only && a->count_only == b->count_only);
    assert_true(a->mod_min == b->mod_min && a->mod_max == b->mod_max);
    assert_true(a->create_min == b->create_min && a->create_max == b->create_max);
}

static void assert_same_put(const struct put_query *a, const struct put_query *b)
{
    assert_same_bytes(a->key, b->key);
    assert_same_bytes(a->value, b->value);
    assert_true(a->lease == b->lease && a->want_previous == b->want_previous);
    assert_true(a->keep_value == b->keep_value && a->keep_lease == b->keep_lease);
}

static void assert_same_txn(const struct txn *a, const struct txn *b);

static void assert_same_op(const struct txn_op *a, const struct txn_op *b)
{
    assert_int_equal(a->kind, b->kind);
    switch (a->kind) {
    case TXN_RANGE:
        assert_same_range(&a->range, &b->range);
        break;
    case TXN_PUT:
        assert_same_put(&a->put, &b->put);
        break;
    case TXN_DELETE:
        assert_same_bytes(a->delete.key, b->delete.key);
        assert_same_bytes(a->delete.range_end, b->delete.range_end);
        assert_true(a->delete.want_previous == b->delete.want_previous);
        break;
    case TXN_NESTED:
        assert_same_txn(&a->nested, &b->nested);
        break;
    }
}

static void assert_same_txn(const struct txn *a, const struct txn *b)
{
    assert_int_equal(a->compare_count, b->compare_count);
    assert_int_equal(a->success_count, b->success_count);
    assert_int_equal(a->failure_count, b->failure_count);
    for (uint32_t i = 0; i < a->compare_count; i++) assert_same_compare(&a->compares[i], &b->compares[i]);
    for (uint32_t i = 0; i < a->success_count; i++) assert_same_op(&a->success[i], &b->success[i]);
    for (uint32_t i = 0; i < a->failure_count; i++) assert_same_op(&a->failure[i], &b->failure[i]);
}

/* ---- round trips ---- */

static const struct bytes keys[] = {
    {(const uint8_t *)"a", 1}, {(const uint8_t *)"\0", 1}, {(const uint8_t *)"ab", 2}, {(const uint8_t *)"a\0b", 3}};

static struct txn_maker maker_of(struct random *random, struct arena *arena)
{
    return (struct txn_maker){.random = random,
                              .arena = arena,
                              .keys = keys,
                              .key_count = ARRAY_COUNT(keys),
                              .revision_max = 1000,
                              .lease_max = UINT64_MAX,
                              .list_max = 4,
                              .depth_max = 3,
                              .wild = true};
}

static void random_transactions_come_back(void **state)
{
    (void)state;
    struct random random;
    struct arena arena = {.chunks = NULL};
    random_seed(&random, 1);
    for (unsigned i = 0; i < 3000; i++) {
        arena_reset(&arena);
        struct txn_maker maker = maker_of(&random, &arena);
        maker.list_max = i % 100 == 0 ? 200 : 4;
        maker.depth_max = i % 100 == 0 ? 1 : 1 + i % 6;
        struct txn txn = txn_maker_txn(&maker), back;
        struct buffer bytes = encoded(&txn);
        assert_int_equal(decode(buffer_bytes(&bytes), &arena, &back), ERR_OK);
        assert_same_txn(&txn, &back);
        struct buffer again = encoded(&back);
        assert_true(bytes_equal(buffer_bytes(&bytes), buffer_bytes(&again)));
        buffer_free(&bytes);
        buffer_free(&again);
    }
    arena_free(&arena);
}

/* The layout is what old logs hold; so it is written down here once more. */
static void the_layout_is_the_one_of_the_header(void **state)
{
    (void)state;
    struct txn_compare compare = {.result = COMPARE_LESS,
                                  .target = COMPARE_VALUE,
                                  .key = bytes_of_string("k"),
                                  .range_end = bytes_of_string("l"),
                                  .number = 0x0102,
                                  .value = bytes_of_string("v")};
    struct txn_op put = {.kind = TXN_PUT,
                         .put = {.key = bytes_of_string("p"),
                                 .value = bytes_of_string("q"),
                                 .lease = 0x0304,
                                 .want_previous = true,
                                 .keep_lease = true}};
    struct txn_op failure[] = {
        {.kind = TXN_RANGE,
         .range = {.key = bytes_of_string("r"),
                   .range_end = bytes_of("\0", 1),
                   .revision = 1,
                   .limit = 2,
                   .order = RANGE_DESCENDING,
                   .target = RANGE_BY_MOD,
                   .keys_only = true,
                   .mod_min = 3,
                   .mod_max = 4,
                   .create_min = 5,
                   .create_max = -1}},
        {.kind = TXN_DELETE, .delete = {.key = bytes_of_string("d"), .want_previous = true}},
        {.kind = TXN_NESTED},
    };
    struct txn txn = {.compares = &compare,
                      .success = &put,
                      .failure = failure,
                      .compare_count = 1,
                      .success_count = 1,
                      .failure_count = 3};
    static const uint8_t
        expected[] =
            {
                1, 0, 1, 0, 3, 0, /* counts */
                2, 3, 2, 1, 0, 0, 0,   0, 0, 0, 1, 0, 0, 0, 1, 0, 0,   0,   1,   0,   0,   0,   'k', 'l', 'v', /* compare */
                2, 5, 4, 3, 0, 0, 0,   0, 0, 0, 1, 0, 0, 0, 1, 0, 0,   0,   'p', 'q',                          /* put */
                1, 1, 2, 3, 1, 0, 0,   0, 0, 0, 0, 0, 2, 0, 0, 0, 0,   0,   0,   0,   3,   0,   0,   0,   0,   0,
                0, 0, /* range */
                4, 0, 0, 0, 0, 0, 0,   0, 5, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 1,   0,
                0, 0, 1, 0, 0, 0, 'r', 0, 3, 1, 1, 0, 0, 0, 0, 0, 0,   0,   'd', /* delete */
                4, 0, 0, 0, 0, 0, 0,                                             /* nested */
            };
    struct buffer bytes = encoded(&txn);
    assert_int_equal(bytes.size, sizeof expected);
    assert_memory_equal(bytes.data, expected, sizeof expected);
    buffer_free(&bytes);
}

/* ---- damage ---- */

static void every_truncation_is_refused_and_every_byte_more(void **state)
{
    (void)state;
    struct random random;
    struct arena arena = {.chunks = NULL};
    random_seed(&random, 2);
    for (unsigned i = 0; i < 40; i++) {
        arena_reset(&arena);
        struct txn_maker maker = maker_of(&random, &arena);
        struct txn txn = txn_maker_txn(&maker);
        struct buffer bytes = encoded(&txn);
        for (size_t size = 0; size < bytes.size; size++) assert_true(is_refused(bytes_of(bytes.data, size)));
        assert_false(is_refused(buffer_bytes(&bytes)));
        buffer_append_byte(&bytes, 0);
        assert_true(is_refused(buffer_bytes(&bytes)));
        buffer_free(&bytes);
    }
    arena_free(&arena);
}

/* What is read from changed bytes is either refused, or written as these same bytes again: nothing is ignored or made up. */
static void flipped_bytes_are_refused_or_mean_what_they_say(void **state)
{
    (void)state;
    struct random random;
    struct arena arena = {.chunks = NULL};
    random_seed(&random, 3);
    unsigned refused = 0, read = 0;
    for (unsigned i = 0; i < 300; i++) {
        arena_reset(&arena);
        struct txn_maker maker = maker_of(&random, &arena);
        struct txn txn = txn_maker_txn(&maker);
        struct buffer bytes = encoded(&txn);
        for (unsigned flips = 0; flips < 60; flips++) {
            arena_reset(&arena);
            size_t at = random_below(&random, bytes.size);
            uint8_t before = bytes.data[at];
            bytes.data[at] =
                (uint8_t)(random_chance(&random, 500) ? before ^ 1u << random_below(&random, 8) : random_u64(&random));
            struct txn back;
            if (decode(buffer_bytes(&bytes), &arena, &back) == ERR_OK) {
                read++;
                struct buffer again = encoded(&back);
                assert_true(bytes_equal(buffer_bytes(&bytes), buffer_bytes(&again)));
                buffer_free(&again);
            } else {
                refused++;
            }
            if (random_chance(&random, 800)) bytes.data[at] = before;
        }
        buffer_free(&bytes);
    }
    assert_true(refused > 1000 && read > 1000);
    arena_free(&arena);
}

/* ---- limits ---- */

static struct buffer encoded_op(const struct txn_op *op)
{
    struct txn txn = {.success = (struct txn_op *)op, .success_count = 1};
    return encoded(&txn);
}

/* One byte of the only operation, which begins with its kind. */
static bool is_refused_with(const struct txn_op *op, size_t at, uint8_t byte)
{
    struct buffer bytes = encoded_op(op);
    bytes.data[TXN_HEADER_BYTES + at] = byte;
    bool refused = is_refused(buffer_bytes(&bytes));
    buffer_free(&bytes);
    return refused;
}

static void numbers_out_of_range_are_refused(void **state)
{
    (void)state;
    struct txn_op range = {.kind = TXN_RANGE, .range = {.key = bytes_of_string("k")}};
    struct txn_op put = {.kind = TXN_PUT, .put = {.key = bytes_of_string("k")}};
    struct txn_op delete = {.kind = TXN_DELETE, .delete = {.key = bytes_of_string("k")}};
    for (unsigned byte = 0; byte < 256; byte++) {
        uint8_t b = (uint8_t)byte;
        assert_int_equal(is_refused_with(&range, 0, b), byte != TXN_RANGE);
        assert_int_equal(is_refused_with(&range, 1, b), byte > 3); /* flags */
        assert_int_equal(is_refused_with(&range, 2, b), byte > RANGE_DESCENDING);
        assert_int_equal(is_refused_with(&range, 3, b), byte > RANGE_BY_VALUE);
        assert_int_equal(is_refused_with(&put, 1, b), byte > 7);
        assert_int_equal(is_refused_with(&delete, 1, b), byte > 1);
        struct txn_compare compare = {.key = bytes_of_string("k")};
        struct txn txn = {.compares = &compare, .compare_count = 1};
        struct buffer bytes = encoded(&txn);
        bytes.data[TXN_HEADER_BYTES] = b;
        assert_int_equal(is_refused(buffer_bytes(&bytes)), byte > COMPARE_NOT_EQUAL);
        bytes.data[TXN_HEADER_BYTES] = 0;
        bytes.data[TXN_HEADER_BYTES + 1] = b;
        assert_int_equal(is_refused(buffer_bytes(&bytes)), byte > COMPARE_LEASE);
        buffer_free(&bytes);
    }
}

static void keys_have_a_length(void **state)
{
    (void)state;
    static const uint8_t zeros[COMMAND_KEY_BYTES_MAX + 1];
    static const size_t sizes[] = {0, 1, COMMAND_KEY_BYTES_MAX, COMMAND_KEY_BYTES_MAX + 1};
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        struct bytes key = bytes_of(zeros, sizes[i]);
        bool bad = sizes[i] == 0 || sizes[i] > COMMAND_KEY_BYTES_MAX;
        struct txn_op ops[] = {{.kind = TXN_RANGE, .range = {.key = key}},
                               {.kind = TXN_PUT, .put = {.key = key}},
                               {.kind = TXN_DELETE, .delete = {.key = key}}};
        for (size_t op = 0; op < ARRAY_COUNT(ops); op++) {
            struct buffer bytes = encoded_op(&ops[op]);
            assert_int_equal(is_refused(buffer_bytes(&bytes)), bad);
            buffer_free(&bytes);
        }
        struct txn_compare compare = {.key = key};
        struct txn txn = {.compares = &compare, .compare_count = 1};
        struct buffer bytes = encoded(&txn);
        assert_int_equal(is_refused(buffer_bytes(&bytes)), bad);
        buffer_free(&bytes);
    }
}

/* Transactions one inside the other, the innermost empty; by turns on success and on failure. */
static struct txn nested(unsigned depth, struct arena *arena)
{
    struct txn txn = {.compares = NULL};
    while (--depth > 0) {
        struct txn_op *op = arena_alloc(arena, sizeof *op);
        *op = (struct txn_op){.kind = TXN_NESTED, .nested = txn};
        txn = (struct txn){.success = depth % 2 == 0 ? op : NULL,
                           .failure = depth % 2 == 1 ? op : NULL,
                           .success_count = depth % 2 == 0,
                           .failure_count = depth % 2 == 1};
    }
    return txn;
}

static void nesting_has_a_depth(void **state)
{
    (void)state;
    struct arena arena = {.chunks = NULL};
    for (unsigned depth = 1; depth <= TXN_DEPTH_MAX; depth++) {
        struct txn txn = nested(depth, &arena), back;
        struct buffer bytes = encoded(&txn);
        assert_int_equal(decode(buffer_bytes(&bytes), &arena, &back), ERR_OK);
        assert_same_txn(&txn, &back);
        buffer_free(&bytes);
    }
    /* Up to what a request's 1.5 MiB could hold, which no stack would. */
    for (unsigned depth = TXN_DEPTH_MAX + 1; depth < 200000; depth *= 3) {
        struct buffer bytes = {.data = NULL};
        for (unsigned i = 1; i < depth; i++) buffer_append(&bytes, "\0\0\1\0\0\0\4", 7);
        buffer_append(&bytes, "\0\0\0\0\0\0", 6);
        assert_true(is_refused(buffer_bytes(&bytes)));
        buffer_free(&bytes);
    }
    arena_free(&arena);
}

/* Counts that the bytes can't hold, at every level of nesting, would otherwise claim arrays again and again. */
static void counts_claim_no_more_memory_than_the_input_justifies(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < 3; kind++) {
        struct buffer bytes = {.data = NULL};
        for (unsigned i = 0; i < TXN_DEPTH_MAX; i++) {
            uint8_t counts[TXN_HEADER_BYTES] = {0};
            if (kind == 1) put_u16(counts, UINT16_MAX);
            put_u16(counts + (kind == 2 ? 4 : 2), UINT16_MAX);
            buffer_append(&bytes, counts, sizeof counts);
            buffer_append_byte(&bytes, TXN_NESTED);
        }
        while (bytes.size < 1536u * 1024) buffer_append(&bytes, "\0\0\0\0\0\0\4", 7);
        struct arena arena = {.chunks = NULL};
        struct txn txn;
        assert_int_equal(txn_format_decode(buffer_bytes(&bytes), &arena, &txn), ERR_DAMAGED);
        assert_true(arena.used_bytes < 30 * bytes.size);
        arena_free(&arena);
        buffer_free(&bytes);
    }
    /* The full count is fine where the bytes are there. */
    struct txn_compare *compares = mem_alloc(UINT16_MAX * sizeof compares[0]);
    for (uint32_t i = 0; i < UINT16_MAX; i++) compares[i] = (struct txn_compare){.key = bytes_of_string("k")};
    struct txn txn = {.compares = compares, .compare_count = UINT16_MAX};
    struct buffer bytes = encoded(&txn);
    assert_int_equal(bytes.size, TXN_HEADER_BYTES + UINT16_MAX * (COMPARE_HEADER_BYTES + 1));
    assert_false(is_refused(buffer_bytes(&bytes)));
    buffer_free(&bytes);
    mem_free(compares);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_transactions_come_back),
        cmocka_unit_test(the_layout_is_the_one_of_the_header),
        cmocka_unit_test(every_truncation_is_refused_and_every_byte_more),
        cmocka_unit_test(flipped_bytes_are_refused_or_mean_what_they_say),
        cmocka_unit_test(numbers_out_of_range_are_refused),
        cmocka_unit_test(keys_have_a_length),
        cmocka_unit_test(nesting_has_a_depth),
        cmocka_unit_test(counts_claim_no_more_memory_than_the_input_justifies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
