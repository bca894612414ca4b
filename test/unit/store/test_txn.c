/*
 * Transactions: each of etcd's rules by name, as a story; then random ones against a slow and obvious evaluation.
 */
#include "store/txn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "../txn_maker.h"
#include "base/mem.h"
#include "store/leases.h"
#include "store/store_digest.h"

#define TEXT(text) bytes_of_string(text)
#define ZERO bytes_of("\0", 1)

/* ---- stories ---- */

#define PUT(name, text, ...)                                                                                           \
    ((struct txn_op){.kind = TXN_PUT, .put = {.key = TEXT(name), .value = TEXT(text), __VA_ARGS__}})
#define GET(name, ...) ((struct txn_op){.kind = TXN_RANGE, .range = {.key = TEXT(name), __VA_ARGS__}})
#define GET_ALL(...) ((struct txn_op){.kind = TXN_RANGE, .range = {.key = ZERO, .range_end = ZERO, __VA_ARGS__}})
#define DELETE(name, ...) ((struct txn_op){.kind = TXN_DELETE, .delete = {.key = TEXT(name), __VA_ARGS__}})
#define OPS(...) ((struct txn_op[]){__VA_ARGS__})
#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define DO(...) ((struct txn){.success = OPS(__VA_ARGS__), .success_count = COUNT(OPS(__VA_ARGS__))})
#define NESTED(...) ((struct txn_op){.kind = TXN_NESTED, .nested = __VA_ARGS__})
#define PREVIOUS .want_previous = true

static void show_records(struct buffer *out, const struct txn_answer *answer)
{
    for (uint32_t i = 0; i < answer->record_count; i++) {
        struct bytes key = store_record_key(answer->records[i]), value = store_record_value(answer->records[i]);
        buffer_append_format(out, "%.*s=%.*s ", (int)key.size, (const char *)key.data, (int)value.size,
                             (const char *)value.data);
    }
}

static void show(struct buffer *out, const struct txn_answer *answer)
{
    static const char *const names[] = {"", "get", "put", "delete"};
    int revision = (int)answer->revision;
    if (answer->kind != TXN_NESTED) {
        buffer_append_format(out, "%s@%d(", names[answer->kind], revision);
        show_records(out, answer);
        if (answer->kind != TXN_PUT) buffer_append_format(out, "of %d", (int)answer->count);
        buffer_append_format(out, "%s%s%s) ", answer->more ? " more" : "", answer->keys_only ? " keys" : "",
                             answer->zero_lease ? " no-lease" : "");
        return;
    }
    buffer_append_format(out, "%s@%d[ ", answer->succeeded ? "yes" : "no", revision);
    for (uint32_t i = 0; i < answer->answer_count; i++) show(out, &answer->answers[i]);
    buffer_append_format(out, "] ");
}

/* Applies it to the store, and says what it answered. */
static const char *apply(struct store *store, struct txn txn)
{
    static char text[4000];
    struct arena arena = {.chunks = NULL};
    struct txn_answer answer;
    enum error error = txn_apply(store, &txn, &arena, &answer);
    store_verify(store);
    struct buffer out = {.data = NULL};
    if (error == ERR_OK) {
        show(&out, &answer);
    } else {
        buffer_append_format(&out, "%s ", error_code(error));
    }
    snprintf(text, sizeof text, "%.*s", (int)out.size - 1, (const char *)out.data);
    buffer_free(&out);
    arena_free(&arena);
    return text;
}

static const char *apply_if(struct store *store, struct txn_compare compare)
{
    struct txn txn = {.compares = &compare, .compare_count = 1};
    return apply(store, txn);
}

/* At revision 4: a=1, b=2, c=3, b on lease 7. */
static struct store *small_store(void)
{
    struct store *store = store_new();
    store_lease_grant(store, 7, 60);
    apply(store, DO(PUT("a", "1")));
    apply(store, DO(PUT("b", "2", .lease = 7)));
    apply(store, DO(PUT("c", "3")));
    return store;
}

static void rule_2_a_transaction_is_one_revision(void **state)
{
    (void)state;
    struct store *store = small_store();
    assert_string_equal(
        apply(store, DO(PUT("z", "1"), DELETE("a"), PUT("b", "2"), NESTED(DO(PUT("y", "3"))), PUT("x", "4"))),
        "yes@5[ put@5() delete@5(of 1) put@5() yes@5[ put@5() ] put@5() ]");
    assert_int_equal(store_current_revision(store), 5);
    const struct store_record *records[10];
    uint64_t position = 0;
    assert_int_equal(store_history_next(store, 4, &position, records, ARRAY_COUNT(records)), 5);
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(records[i]->mod_revision, 5);
        assert_int_equal(records[i]->sub_revision, i);
        assert_int_equal(store_record_key(records[i]).data[0], "zabyx"[i]);
    }
    store_free(store);
}

static void rule_3_what_changes_nothing_makes_no_revision(void **state)
{
    (void)state;
    struct store *store = small_store();
    assert_string_equal(apply(store, (struct txn){.compares = NULL}), "yes@4[ ]");
    assert_string_equal(
        apply(store, DO(GET("a"), DELETE("no"), DELETE("d", .range_end = ZERO), NESTED(DO(DELETE("no"))))),
        "yes@4[ get@4(a=1 of 1) delete@4(of 0) delete@4(of 0) yes@4[ delete@4(of 0) ] ]");
    assert_int_equal(store_current_revision(store), 4);
    struct delete_query nothing = {.key = TEXT("c"), .range_end = TEXT("a"), PREVIOUS};
    struct arena arena = {.chunks = NULL};
    struct txn_answer answer;
    assert_int_equal(txn_apply_delete(store, &nothing, &arena, &answer), ERR_OK);
    assert_int_equal(answer.count, 0);
    assert_int_equal(answer.revision, 4);
    assert_int_equal(store_current_revision(store), 4);
    arena_free(&arena);
    store_free(store);
}

static void rule_4_a_range_sees_what_was_done_before_it(void **state)
{
    (void)state;
    struct store *store = small_store();
    assert_string_equal(apply(store, DO(GET("a"), PUT("a", "new"), GET("a"), DELETE("b"), GET_ALL(),
                                        NESTED(DO(GET("a"), PUT("d", "4"))), GET_ALL(.limit = 2),
                                        GET_ALL(.count_only = true), GET_ALL(.revision = 4))),
                        "yes@5[ get@4(a=1 of 1) put@5() get@5(a=new of 1) delete@5(of 1) get@5(a=new c=3 of 2) "
                        "yes@5[ get@5(a=new of 1) put@5() ] get@5(a=new c=3 of 3 more) get@5(of 3) "
                        "get@5(a=1 b=2 c=3 of 3) ]");
    store_free(store);
}

static void rule_5_compares_look_at_the_state_before(void **state)
{
    (void)state;
    struct store *store = small_store();
    struct txn_compare is_one = {.target = COMPARE_VALUE, .key = TEXT("a"), .value = TEXT("1")};
    struct txn inner = {.compares = &is_one,
                        .success = OPS(PUT("seen", "old")),
                        .failure = OPS(PUT("seen", "new")),
                        .compare_count = 1,
                        .success_count = 1,
                        .failure_count = 1};
    struct txn middle = DO(PUT("a", "3"), NESTED(inner));
    assert_string_equal(apply(store, DO(PUT("a", "2"), NESTED(middle), GET("seen"))),
                        "yes@5[ put@5() yes@5[ put@5() yes@5[ put@5() ] ] get@5(seen=old of 1) ]");
    assert_string_equal(apply(store, DO(NESTED(inner))), "yes@6[ no@6[ put@6() ] ]");
    store_free(store);
}

static void rule_6_a_missing_key_compares_as_zeros_and_has_no_value(void **state)
{
    (void)state;
    struct store *store = small_store();
    static const enum compare_target numbers[] = {COMPARE_VERSION, COMPARE_CREATE, COMPARE_MOD, COMPARE_LEASE};
    static const struct bytes ends[] = {
        {NULL, 0}, {(const uint8_t *)"nz", 2}, {(const uint8_t *)"a", 1}, {(const uint8_t *)"\0", 1}};
    for (size_t i = 0; i < ARRAY_COUNT(numbers); i++) {
        for (size_t end = 0; end < ARRAY_COUNT(ends); end++) {
            struct txn_compare compare = {.target = numbers[i], .key = TEXT("no"), .range_end = ends[end]};
            assert_string_equal(apply_if(store, compare), "yes@4[ ]");
            compare.number = 1;
            assert_string_equal(apply_if(store, compare), "no@4[ ]");
            compare.result = COMPARE_LESS;
            assert_string_equal(apply_if(store, compare), "yes@4[ ]");
            compare.number = -1;
            compare.result = COMPARE_GREATER;
            assert_string_equal(apply_if(store, compare), "yes@4[ ]");
        }
    }
    for (unsigned result = COMPARE_EQUAL; result <= COMPARE_NOT_EQUAL; result++) {
        for (size_t end = 0; end < ARRAY_COUNT(ends); end++) {
            struct txn_compare compare = {.target = COMPARE_VALUE,
                                          .result = (enum compare_result)result,
                                          .key = TEXT("no"),
                                          .range_end = ends[end]};
            assert_string_equal(apply_if(store, compare), "no@4[ ]");
            compare.value = TEXT("x");
            assert_string_equal(apply_if(store, compare), "no@4[ ]");
        }
    }
    /* A deleted key is a missing one. */
    apply(store, DO(DELETE("a")));
    assert_string_equal(apply_if(store, (struct txn_compare){.target = COMPARE_MOD, .key = TEXT("a")}), "yes@5[ ]");
    store_free(store);
}

static void rule_7_a_range_compare_needs_every_key(void **state)
{
    (void)state;
    struct store *store = small_store();
    struct txn_compare compare = {
        .target = COMPARE_MOD, .result = COMPARE_GREATER, .key = TEXT("a"), .number = 1, .range_end = TEXT("d")};
    assert_string_equal(apply_if(store, compare), "yes@4[ ]");
    compare.number = 2; /* not a */
    assert_string_equal(apply_if(store, compare), "no@4[ ]");
    compare.key = TEXT("b");
    assert_string_equal(apply_if(store, compare), "yes@4[ ]");
    compare = (struct txn_compare){
        .target = COMPARE_MOD, .result = COMPARE_LESS, .key = ZERO, .number = 4, .range_end = ZERO};
    assert_string_equal(apply_if(store, compare), "no@4[ ]"); /* not c, the last one */
    compare.number = 5;
    assert_string_equal(apply_if(store, compare), "yes@4[ ]");
    /* Far more keys than one slice of the walk. */
    store_begin(store);
    for (int i = 0; i < 1000; i++) {
        char key[16];
        snprintf(key, sizeof key, "key-%04d", i);
        store_put(store, TEXT(key), TEXT(i == 999 ? "odd" : "even"), 0, NULL);
    }
    store_end(store);
    compare = (struct txn_compare){
        .target = COMPARE_VALUE, .key = TEXT("key-"), .range_end = TEXT("key-0999"), .value = TEXT("even")};
    assert_string_equal(apply_if(store, compare), "yes@5[ ]");
    compare.range_end = TEXT("key-1");
    assert_string_equal(apply_if(store, compare), "no@5[ ]");
    store_free(store);
}

static void every_compare_of_one_key(void **state)
{
    (void)state;
    struct store *store = small_store();
    apply(store, DO(PUT("b", "5", .lease = 7))); /* version 2, created at 3, changed at 5 */
    static const struct {
        enum compare_target target;
        int64_t number;
    } cases[] = {{COMPARE_VERSION, 2}, {COMPARE_CREATE, 3}, {COMPARE_MOD, 5}, {COMPARE_LEASE, 7}, {COMPARE_VALUE, 5}};
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        for (int off = -1; off <= 1; off++) {
            char value[2] = {(char)('0' + cases[i].number + off), 0};
            struct txn_compare compare = {
                .target = cases[i].target, .key = TEXT("b"), .number = cases[i].number + off, .value = TEXT(value)};
            const bool expected[] = {off == 0, off<0, off> 0, off != 0}; /* equal, greater, less, not equal */
            for (unsigned result = 0; result < 4; result++) {
                compare.result = (enum compare_result)result;
                assert_string_equal(apply_if(store, compare), expected[result] ? "yes@5[ ]" : "no@5[ ]");
            }
        }
    }
    /* All must hold. */
    struct txn_compare both[] = {{.target = COMPARE_VERSION, .key = TEXT("b"), .number = 2},
                                 {.target = COMPARE_VERSION, .key = TEXT("a"), .number = 2}};
    struct txn txn = {.compares = both,
                      .compare_count = 2,
                      .success = OPS(GET("a")),
                      .success_count = 1,
                      .failure = OPS(GET("b")),
                      .failure_count = 1};
    assert_string_equal(apply(store, txn), "no@5[ get@5(b=5 of 1) ]");
    both[1].number = 1;
    assert_string_equal(apply(store, txn), "yes@5[ get@5(a=1 of 1) ]");
    store_free(store);
}

static void rule_9_branches_may_name_the_same_key_and_deletes_overlap(void **state)
{
    (void)state;
    struct store *store = small_store();
    struct txn txn = {
        .success = OPS(PUT("a", "yes")), .success_count = 1, .failure = OPS(PUT("a", "no")), .failure_count = 1};
    assert_string_equal(apply(store, txn), "yes@5[ put@5() ]");
    assert_string_equal(apply(store, DO(DELETE("a", .range_end = TEXT("c"), PREVIOUS), DELETE("b", PREVIOUS),
                                        DELETE("b", .range_end = ZERO, PREVIOUS))),
                        "yes@6[ delete@6(a=yes b=2 of 2) delete@6(of 0) delete@6(c=3 of 1) ]");
    store_free(store);
}

static uint64_t digest_of(const struct store *store)
{
    struct buffer next_key = {.data = NULL};
    uint64_t digest = store_digest(store, &next_key, UINT32_MAX, UINT64_MAX);
    buffer_free(&next_key);
    return digest;
}

/* Each failing check stands last, after operations that would change much, at the top and nested. */
static void rule_11_a_check_that_fails_changes_nothing(void **state)
{
    (void)state;
    struct store *store = small_store();
    assert_int_equal(store_compact(store, 3), ERR_OK);
    uint64_t digest = digest_of(store), history = store_history_bytes(store);
    struct {
        struct txn_op op;
        enum error error;
    } cases[] = {
        {PUT("x", "", .lease = 8), ERR_LEASE_NOT_FOUND},
        {PUT("x", "", .keep_value = true), ERR_KEY_MISSING},
        {PUT("x", "", .keep_lease = true), ERR_KEY_MISSING},
        {PUT("x", "", .keep_value = true, .lease = 8), ERR_LEASE_NOT_FOUND},
        {GET("a", .revision = 2), ERR_COMPACTED},
        {GET("a", .revision = 5), ERR_FUTURE_REVISION},
        {GET("a", .revision = -1), ERR_COMPACTED},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        char expected[100];
        snprintf(expected, sizeof expected, "%s", error_code(cases[i].error));
        assert_string_equal(apply(store, DO(PUT("a", "changed"), PUT("y", "", .lease = 7), DELETE("b"), cases[i].op)),
                            expected);
        struct txn inner = {.failure = OPS(GET("a", .revision = 99)),
                            .failure_count = 1,
                            .success = OPS(PUT("z", ""), cases[i].op),
                            .success_count = 2};
        assert_string_equal(apply(store, DO(DELETE("a", .range_end = ZERO), NESTED(inner))), expected);
        assert_int_equal(store_current_revision(store), 4);
        assert_true(digest_of(store) == digest && store_history_bytes(store) == history);
        /* What wasn't selected isn't checked. */
        struct txn other = {.failure = &cases[i].op, .failure_count = 1};
        assert_string_equal(apply(store, other), "yes@4[ ]");
    }
    /* The checks look at the state before, as the compares do: x would be there by then. */
    assert_string_equal(apply(store, DO(PUT("x", ""), PUT("x", "", .keep_value = true))), error_code(ERR_KEY_MISSING));
    /* Alone. */
    struct put_query put = {.key = TEXT("x"), .lease = 8};
    assert_int_equal(txn_apply_put(store, &put, NULL, NULL), ERR_LEASE_NOT_FOUND);
    put = (struct put_query){.key = TEXT("x"), .keep_value = true};
    assert_int_equal(txn_apply_put(store, &put, NULL, NULL), ERR_KEY_MISSING);
    assert_true(digest_of(store) == digest);
    store_free(store);
}

/* As a real etcd does: before the first compaction -1 is still now. */
static void rule_12_a_negative_revision_is_long_gone(void **state)
{
    (void)state;
    struct store *store = small_store();
    assert_string_equal(apply(store, DO(GET("c", .revision = -1))), "yes@4[ get@4(c=3 of 1) ]");
    assert_string_equal(apply(store, DO(GET("c", .revision = -2))), error_code(ERR_COMPACTED));
    assert_string_equal(apply(store, DO(GET("c", .revision = 1))), "yes@4[ get@4(of 0) ]");
    assert_int_equal(store_compact(store, 2), ERR_OK);
    assert_string_equal(apply(store, DO(GET("c", .revision = -1))), error_code(ERR_COMPACTED));
    assert_string_equal(apply(store, DO(GET("c", .revision = 0))), "yes@4[ get@4(c=3 of 1) ]");
    assert_string_equal(apply(store, DO(GET("a", .revision = 2))), "yes@4[ get@4(a=1 of 1) ]");
    store_free(store);
}

static void rule_18_keys_only(void **state)
{
    (void)state;
    struct store *store = small_store();
    assert_string_equal(
        apply(store, DO(GET("b", .keys_only = true), GET("b", .keys_only = true, .target = RANGE_BY_VALUE),
                        GET("b", .target = RANGE_BY_MOD, .keys_only = true))),
        "yes@4[ get@4(b=2 of 1 keys no-lease) get@4(b=2 of 1 keys) get@4(b=2 of 1 keys no-lease) ]");
    store_free(store);
}

static void rule_24_what_a_put_keeps(void **state)
{
    (void)state;
    struct store *store = small_store();
    const struct store_record *record;
    store_lease_grant(store, 8, 60);
    assert_string_equal(apply(store, DO(PUT("b", "9", .keep_lease = true, PREVIOUS))), "yes@5[ put@5(b=2 ) ]");
    store_get(store, TEXT("b"), 0, &record);
    assert_int_equal(record->lease, 7);
    assert_string_equal(apply(store, DO(PUT("b", "", .keep_value = true, .lease = 8), GET("b"))),
                        "yes@6[ put@6() get@6(b=9 of 1) ]");
    store_get(store, TEXT("b"), 0, &record);
    assert_int_equal(record->lease, 8);
    assert_int_equal(record->version, 3);
    assert_string_equal(apply(store, DO(PUT("b", "", .keep_value = true, .keep_lease = true), GET("b"))),
                        "yes@7[ put@7() get@7(b=9 of 1) ]");
    store_get(store, TEXT("b"), 0, &record);
    assert_int_equal(record->lease, 8);
    /* Of what the transaction itself put before. */
    assert_string_equal(apply(store, DO(PUT("b", "10", .lease = 7),
                                        PUT("b", "", .keep_value = true, .keep_lease = true, PREVIOUS), GET("b"))),
                        "yes@8[ put@8() put@8(b=10 ) get@8(b=10 of 1) ]");
    store_get(store, TEXT("b"), 0, &record);
    assert_int_equal(record->lease, 7);
    /* Of what it deleted before, which the API doesn't let happen: nothing is left to keep, and nothing breaks. */
    assert_string_equal(
        apply(store, DO(DELETE("b"), PUT("b", "x", .keep_value = true, .keep_lease = true, PREVIOUS), GET("b"))),
        "yes@9[ delete@9(of 1) put@9() get@9(b=x of 1) ]");
    store_get(store, TEXT("b"), 0, &record);
    assert_int_equal(record->lease, 0);
    assert_int_equal(record->version, 1);
    store_free(store);
}

static void rule_25_a_put_without_a_lease_detaches(void **state)
{
    (void)state;
    struct store *store = small_store();
    assert_int_equal(store_lease_find(store, 7)->key_count, 1);
    apply(store, DO(PUT("a", "1", .lease = 7)));
    assert_int_equal(store_lease_find(store, 7)->key_count, 2);
    apply(store, DO(PUT("b", "2")));
    assert_int_equal(store_lease_find(store, 7)->key_count, 1);
    uint64_t deleted;
    assert_int_equal(store_lease_revoke(store, 7, &deleted), ERR_OK);
    assert_int_equal(deleted, 1);
    assert_string_equal(apply(store, DO(PUT("b", "2", .lease = 7))), error_code(ERR_LEASE_NOT_FOUND));
    assert_string_equal(apply(store, DO(GET_ALL())), "yes@7[ get@7(b=2 c=3 of 2) ]");
    store_free(store);
}

static void rule_26_previous_versions_come_in_key_order(void **state)
{
    (void)state;
    struct store *store = store_new();
    apply(store, DO(PUT("d", "1"), PUT("b", "2"), PUT("e", "3"), PUT("a", "4"), PUT("c", "5")));
    assert_string_equal(
        apply(store, DO(PUT("b", "6", PREVIOUS), PUT("f", "7", PREVIOUS), DELETE("b", .range_end = TEXT("e"), PREVIOUS),
                        DELETE("e"), DELETE("f", PREVIOUS))),
        "yes@3[ put@3(b=2 ) put@3() delete@3(b=6 c=5 d=1 of 3) delete@3(of 1) delete@3(f=7 of 1) ]");
    store_free(store);
}

static void as_deep_as_the_format_allows(void **state)
{
    (void)state;
    struct store *store = small_store();
    struct txn_compare is_one = {.target = COMPARE_VALUE, .key = TEXT("a"), .value = TEXT("1")};
    static struct txn_op levels[TXN_DEPTH_MAX][2];
    struct txn txn = {.compares = &is_one, .compare_count = 1};
    for (unsigned depth = TXN_DEPTH_MAX; depth-- > 0;) {
        levels[depth][0] = PUT("a", "other");
        levels[depth][1] = NESTED(txn);
        txn = (struct txn){.compares = &is_one,
                           .compare_count = 1,
                           .success = levels[depth],
                           .success_count = depth == TXN_DEPTH_MAX - 1 ? 1 : 2};
    }
    struct arena arena = {.chunks = NULL};
    struct txn_answer answer;
    assert_int_equal(txn_apply(store, &txn, &arena, &answer), ERR_OK);
    txn_answer_keep(&answer);
    unsigned depth = 1;
    for (const struct txn_answer *at = &answer; at->answer_count == 2; at = &at->answers[1]) {
        assert_true(at->succeeded);
        depth++;
    }
    assert_int_equal(depth, TXN_DEPTH_MAX);
    const struct store_record *record;
    store_get(store, TEXT("a"), 0, &record);
    assert_int_equal(record->version, 1 + TXN_DEPTH_MAX);
    txn_answer_release(&answer);
    arena_free(&arena);
    store_free(store);
}

static void which_transactions_only_read(void **state)
{
    (void)state;
    struct txn reads = DO(GET("a"), NESTED(DO(GET_ALL())));
    struct txn empty = {.compares = NULL};
    struct txn puts = {.failure = OPS(PUT("a", "")), .failure_count = 1};
    struct txn deletes = DO(GET("a"), NESTED(DO(NESTED(DO(DELETE("no"))))));
    struct txn hidden = {.failure = OPS(GET("a"), NESTED(puts)), .failure_count = 2};
    assert_true(txn_is_read_only(&reads) && txn_is_read_only(&empty));
    assert_false(txn_is_read_only(&puts) || txn_is_read_only(&deletes) || txn_is_read_only(&hidden));
}

/* ---- against a slow and obvious evaluation ---- */

struct version {
    struct bytes key, value; /* in the run's arena */
    store_revision create_revision, mod_revision;
    int64_t version; /* 0: deleted */
    uint64_t lease;
};

#define LEASES 4u

struct world {
    struct version *versions; /* in the order they were made */
    size_t count, capacity;
    store_revision revision, compacted_revision;
    bool granted[LEASES + 1];
};

static const struct version *world_get(const struct world *world, struct bytes key, store_revision revision)
{
    for (size_t i = world->count; i-- > 0;) {
        const struct version *version = &world->versions[i];
        if (version->mod_revision > revision || !bytes_equal(version->key, key)) continue;
        return version->version > 0 ? version : NULL;
    }
    return NULL;
}

static void world_add(struct world *world, struct version version)
{
    if (world->count == world->capacity) {
        world->capacity = world->capacity > 0 ? 2 * world->capacity : 256;
        world->versions = mem_realloc(world->versions, world->capacity * sizeof world->versions[0]);
    }
    version.mod_revision = world->revision + 1;
    world->versions[world->count++] = version;
}

static const struct bytes keys[] = {
    {(const uint8_t *)"\0", 1},   {(const uint8_t *)"a", 1},       {(const uint8_t *)"a\0", 2},
    {(const uint8_t *)"aa", 2},   {(const uint8_t *)"ab", 2},      {(const uint8_t *)"b", 1},
    {(const uint8_t *)"ba", 2},   {(const uint8_t *)"c", 1},       {(const uint8_t *)"\x80", 1},
    {(const uint8_t *)"\xff", 1}, {(const uint8_t *)"\xff\xff", 2}};

static bool is_in_span(struct bytes start, struct bytes end, struct bytes key)
{
    if (end.size == 0) return bytes_equal(key, start);
    if (bytes_compare(key, start) < 0) return false;
    return bytes_equal(end, ZERO) || bytes_compare(key, end) < 0;
}

/* The live keys of a range in key order; `keys` has them in that order. */
static uint32_t world_span(const struct world *world, struct bytes start, struct bytes end, store_revision revision,
                           const struct version *out[ARRAY_COUNT(keys)])
{
    uint32_t count = 0;
    for (size_t i = 0; i < ARRAY_COUNT(keys); i++) {
        const struct version *version = world_get(world, keys[i], revision);
        if (version != NULL && is_in_span(start, end, keys[i])) out[count++] = version;
    }
    return count;
}

static int64_t number_of(const struct version *version, enum compare_target target)
{
    if (version == NULL) return 0;
    if (target == COMPARE_VERSION) return version->version;
    if (target == COMPARE_LEASE) return (int64_t)version->lease;
    return target == COMPARE_CREATE ? version->create_revision : version->mod_revision;
}

static bool world_compare(const struct txn_compare *compare, const struct version *version)
{
    if (compare->target == COMPARE_VALUE && version == NULL) return false;
    int64_t number = number_of(version, compare->target);
    int order = compare->target == COMPARE_VALUE ? bytes_compare(version->value, compare->value)
                                                 : (number > compare->number) - (number < compare->number);
    bool equal = compare->result == COMPARE_EQUAL && order == 0, less = compare->result == COMPARE_LESS && order < 0;
    bool greater = compare->result == COMPARE_GREATER && order > 0;
    return equal || less || greater || (compare->result == COMPARE_NOT_EQUAL && order != 0);
}

/* At the revision before the transaction, whenever it is asked. */
static bool world_succeeds(const struct world *world, const struct txn *txn)
{
    for (uint32_t i = 0; i < txn->compare_count; i++) {
        const struct txn_compare *compare = &txn->compares[i];
        const struct version *found[ARRAY_COUNT(keys)];
        uint32_t count = world_span(world, compare->key, compare->range_end, world->revision, found);
        if (count == 0 && !world_compare(compare, NULL)) return false;
        for (uint32_t j = 0; j < count; j++) {
            if (!world_compare(compare, found[j])) return false;
        }
    }
    return true;
}

static const struct txn_op *selected(const struct world *world, const struct txn *txn, uint32_t *count)
{
    bool succeeds = world_succeeds(world, txn);
    *count = succeeds ? txn->success_count : txn->failure_count;
    return succeeds ? txn->success : txn->failure;
}

static enum error world_check_op(const struct world *world, const struct txn_op *op)
{
    if (op->kind == TXN_PUT) {
        const struct put_query *put = &op->put;
        if (put->lease != 0 && !world->granted[put->lease]) return ERR_LEASE_NOT_FOUND;
        bool keeps = put->keep_value || put->keep_lease;
        return keeps && world_get(world, put->key, world->revision) == NULL ? ERR_KEY_MISSING : ERR_OK;
    }
    if (op->kind == TXN_RANGE && op->range.revision != 0) {
        store_revision revision = op->range.revision;
        if (revision > world->revision) return ERR_FUTURE_REVISION;
        bool never_compacted = world->compacted_revision == 0;
        return revision < (never_compacted ? -1 : world->compacted_revision) ? ERR_COMPACTED : ERR_OK;
    }
    return ERR_OK;
}

static enum error world_check(const struct world *world, const struct txn *txn)
{
    uint32_t count;
    const struct txn_op *ops = selected(world, txn, &count);
    for (uint32_t i = 0; i < count; i++) {
        enum error error =
            ops[i].kind == TXN_NESTED ? world_check(world, &ops[i].nested) : world_check_op(world, &ops[i]);
        if (error != ERR_OK) return error;
    }
    return ERR_OK;
}

static void check_record(const struct version *version, const struct store_record *record)
{
    assert_true(bytes_equal(version->key, store_record_key(record)));
    assert_true(bytes_equal(version->value, store_record_value(record)));
    assert_int_equal(version->create_revision, record->create_revision);
    assert_int_equal(version->mod_revision, record->mod_revision);
    assert_int_equal(version->version, record->version);
    assert_int_equal(version->lease, record->lease);
}

static int order_of(const struct range_query *range, const struct version *a, const struct version *b)
{
    static const enum compare_target targets[] = {
        [RANGE_BY_VERSION] = COMPARE_VERSION, [RANGE_BY_CREATE] = COMPARE_CREATE, [RANGE_BY_MOD] = COMPARE_MOD};
    int order = 0;
    if (range->target == RANGE_BY_KEY) {
        order = bytes_compare(a->key, b->key);
    } else if (range->target == RANGE_BY_VALUE) {
        order = bytes_compare(a->value, b->value);
    } else {
        int64_t first = number_of(a, targets[range->target]), second = number_of(b, targets[range->target]);
        order = (first > second) - (first < second);
    }
    return range->order == RANGE_DESCENDING ? -order : order;
}

static bool is_outside(int64_t number, int64_t min, int64_t max)
{
    return (min != 0 && number < min) || (max != 0 && number > max);
}

/* Its answer is checked against that of the store. */
static void world_range(const struct world *world, const struct range_query *range, bool changed,
                        const struct txn_answer *answer)
{
    const struct version *found[ARRAY_COUNT(keys)];
    store_revision revision = range->revision > 0 ? range->revision : world->revision + changed;
    uint32_t all = world_span(world, range->key, range->range_end, revision, found), count = 0;
    for (uint32_t i = 0; i < all && !range->count_only; i++) {
        if (is_outside(found[i]->mod_revision, range->mod_min, range->mod_max)) continue;
        if (is_outside(found[i]->create_revision, range->create_min, range->create_max)) continue;
        found[count++] = found[i];
    }
    bool bounded = range->mod_min != 0 || range->mod_max != 0 || range->create_min != 0 || range->create_max != 0;
    if (range->limit > 0 && range->order == RANGE_ORDER_NONE && !bounded && range->limit < count) {
        count = (uint32_t)range->limit + 1;
    }
    for (uint32_t i = 1; i < count; i++) {
        for (uint32_t j = i; j > 0 && order_of(range, found[j - 1], found[j]) > 0; j--) {
            const struct version *moved = found[j];
            found[j] = found[j - 1];
            found[j - 1] = moved;
        }
    }
    bool more = range->limit > 0 && range->limit < count;
    if (more) count = (uint32_t)range->limit;
    assert_int_equal(answer->count, all);
    assert_int_equal(answer->more, more);
    assert_int_equal(answer->keys_only, range->keys_only);
    assert_int_equal(answer->zero_lease, range->keys_only && range->target != RANGE_BY_VALUE);
    assert_int_equal(answer->record_count, count);
    for (uint32_t i = 0; i < count; i++) check_record(found[i], answer->records[i]);
}

static void world_put(struct world *world, const struct put_query *put, const struct txn_answer *answer)
{
    const struct version *found = world_get(world, put->key, world->revision + 1);
    struct version before = found != NULL ? *found : (struct version){.create_revision = world->revision + 1};
    struct version version = {.key = put->key,
                              .value = put->keep_value && found != NULL ? before.value : put->value,
                              .lease = put->keep_lease && found != NULL ? before.lease : put->lease,
                              .create_revision = before.create_revision,
                              .version = before.version + 1};
    bool shown = put->want_previous && before.version > 0;
    assert_int_equal(answer->record_count, shown);
    if (shown) check_record(&before, answer->records[0]);
    world_add(world, version);
}

static void world_delete(struct world *world, const struct delete_query *delete, const struct txn_answer *answer)
{
    const struct version *found[ARRAY_COUNT(keys)];
    uint32_t count = world_span(world, delete->key, delete->range_end, world->revision + 1, found);
    assert_int_equal(answer->count, count);
    assert_int_equal(answer->record_count, delete->want_previous ? count : 0);
    for (uint32_t i = 0; i < answer->record_count; i++) check_record(found[i], answer->records[i]);
    struct bytes deleted[ARRAY_COUNT(keys)];
    for (uint32_t i = 0; i < count; i++) deleted[i] = found[i]->key;
    for (uint32_t i = 0; i < count; i++) world_add(world, (struct version){.key = deleted[i]});
}

static void world_do(struct world *world, const struct txn *txn, size_t first, const struct txn_answer *answer)
{
    uint32_t count;
    const struct txn_op *ops = selected(world, txn, &count);
    assert_int_equal(answer->kind, TXN_NESTED);
    assert_int_equal(answer->succeeded, world_succeeds(world, txn));
    assert_int_equal(answer->answer_count, count);
    for (uint32_t i = 0; i < count; i++) {
        const struct txn_answer *part = &answer->answers[i];
        assert_int_equal(part->kind, ops[i].kind);
        if (ops[i].kind == TXN_RANGE) world_range(world, &ops[i].range, world->count > first, part);
        if (ops[i].kind == TXN_PUT) world_put(world, &ops[i].put, part);
        if (ops[i].kind == TXN_DELETE) world_delete(world, &ops[i].delete, part);
        if (ops[i].kind == TXN_NESTED) world_do(world, &ops[i].nested, first, part);
        assert_int_equal(part->revision, world->revision + (world->count > first));
    }
}

struct run {
    struct random random;
    struct arena arena;           /* until the end: the world's bytes */
    struct store *store, *silent; /* the second one collects nothing */
    struct world world;
    unsigned done, read, errors[ERROR_COUNT];
    struct txn_answer kept; /* an earlier answer, kept over changes and compactions */
    struct arena kept_arena;
    struct buffer kept_text;
};

static void check_same(const struct run *run)
{
    store_verify(run->store);
    store_verify(run->silent);
    assert_int_equal(store_current_revision(run->store), run->world.revision);
    assert_int_equal(store_current_revision(run->silent), run->world.revision);
    assert_true(digest_of(run->store) == digest_of(run->silent));
    assert_int_equal(store_history_bytes(run->store), store_history_bytes(run->silent));
}

/* The last changes of both stores are the world's, in this order. */
static void check_history(const struct run *run, const struct store *store, size_t first, store_revision before)
{
    uint64_t position = 0;
    const struct store_record *record;
    for (size_t i = first; i < run->world.count; i++) {
        const struct version *version = &run->world.versions[i];
        assert_int_equal(store_history_next(store, before, &position, &record, 1), 1);
        assert_int_equal(record->sub_revision, i - first);
        if (version->version == 0) {
            assert_true(store_record_is_tombstone(record) && bytes_equal(store_record_key(record), version->key));
            assert_int_equal(record->mod_revision, version->mod_revision);
        } else {
            check_record(version, record);
        }
    }
    assert_int_equal(store_history_next(store, before, &position, &record, 1), 0);
}

static void drop_kept(struct run *run)
{
    struct buffer now = {.data = NULL};
    show(&now, &run->kept);
    assert_true(bytes_equal(buffer_bytes(&now), buffer_bytes(&run->kept_text)));
    buffer_free(&now);
    txn_answer_release(&run->kept);
    arena_reset(&run->kept_arena);
    buffer_clear(&run->kept_text);
}

/* An answer that is kept says the same after anything that the store goes through. */
static void maybe_keep(struct run *run, const struct txn *txn)
{
    if (!txn_is_read_only(txn) || !random_chance(&run->random, 300)) return;
    drop_kept(run);
    assert_int_equal(txn_read(run->store, txn, &run->kept_arena, &run->kept), ERR_OK);
    txn_answer_keep(&run->kept);
    show(&run->kept_text, &run->kept);
}

static void random_txn(struct run *run, const struct txn_maker *maker)
{
    struct txn txn = txn_maker_txn(maker);
    struct txn_answer answer;
    enum error expected = world_check(&run->world, &txn);
    if (txn_is_read_only(&txn)) {
        assert_int_equal(txn_read(run->store, &txn, &run->arena, &answer), expected);
        if (expected == ERR_OK) {
            world_do(&run->world, &txn, run->world.count, &answer);
            assert_int_equal(answer.revision, run->world.revision);
            run->read++;
        }
    }
    uint64_t digest = digest_of(run->store);
    assert_int_equal(txn_apply(run->store, &txn, &run->arena, &answer), expected);
    assert_int_equal(txn_apply(run->silent, &txn, NULL, NULL), expected);
    run->errors[expected]++;
    if (expected != ERR_OK) {
        assert_true(digest_of(run->store) == digest);
        check_same(run);
        return;
    }
    size_t first = run->world.count;
    store_revision before = run->world.revision;
    world_do(&run->world, &txn, first, &answer);
    run->world.revision += run->world.count > first;
    assert_int_equal(answer.revision, run->world.revision);
    check_same(run);
    check_history(run, run->store, first, before);
    check_history(run, run->silent, first, before);
    run->done += run->world.count > first;
    maybe_keep(run, &txn);
}

/* A put or a delete by itself answers as one in a transaction does. */
static void random_single(struct run *run, const struct txn_maker *maker)
{
    struct txn txn = {.compares = NULL};
    while (txn.success_count == 0 || txn.success[0].kind == TXN_RANGE || txn.success[0].kind == TXN_NESTED) {
        txn = txn_maker_txn(maker);
    }
    const struct txn_op *op = &txn.success[0];
    struct txn alone = {.success = txn.success, .success_count = 1};
    enum error expected = world_check(&run->world, &alone);
    struct txn_answer part = {.kind = TXN_NESTED},
                      answer = {.kind = TXN_NESTED, .succeeded = true, .answers = &part, .answer_count = 1};
    if (op->kind == TXN_PUT) {
        assert_int_equal(txn_apply_put(run->store, &op->put, &run->arena, &part), expected);
        assert_int_equal(txn_apply_put(run->silent, &op->put, NULL, NULL), expected);
    } else {
        assert_int_equal(txn_apply_delete(run->store, &op->delete, &run->arena, &part), expected);
        assert_int_equal(txn_apply_delete(run->silent, &op->delete, NULL, NULL), expected);
    }
    size_t first = run->world.count;
    store_revision before = run->world.revision;
    if (expected == ERR_OK) world_do(&run->world, &alone, first, &answer);
    run->world.revision += run->world.count > first;
    check_same(run);
    check_history(run, run->store, first, before);
    check_history(run, run->silent, first, before);
}

static void random_lease(struct run *run)
{
    uint64_t id = random_between(&run->random, 1, LEASES);
    bool *granted = &run->world.granted[id];
    if (!*granted) {
        assert_int_equal(store_lease_grant(run->store, id, 60), ERR_OK);
        assert_int_equal(store_lease_grant(run->silent, id, 60), ERR_OK);
        *granted = true;
    } else if (random_chance(&run->random, 100)) {
        size_t first = run->world.count;
        for (size_t i = 0; i < ARRAY_COUNT(keys); i++) {
            const struct version *version = world_get(&run->world, keys[i], run->world.revision);
            if (version != NULL && version->lease == id) world_add(&run->world, (struct version){.key = keys[i]});
        }
        uint64_t deleted;
        assert_int_equal(store_lease_revoke(run->store, id, &deleted), ERR_OK);
        assert_int_equal(deleted, run->world.count - first);
        assert_int_equal(store_lease_revoke(run->silent, id, NULL), ERR_OK);
        run->world.revision += run->world.count > first;
        *granted = false;
    }
}

static void random_compaction(struct run *run)
{
    store_revision revision = (store_revision)random_between(&run->random, (uint64_t)run->world.compacted_revision,
                                                             (uint64_t)run->world.revision);
    if (revision <= run->world.compacted_revision) return;
    assert_int_equal(store_compact(run->store, revision), ERR_OK);
    assert_int_equal(store_compact(run->silent, revision), ERR_OK);
    while (store_compact_step(run->store, 100)) continue;
    run->world.compacted_revision = revision;
}

static void random_transactions(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct run run = {
            .store = store_new(), .silent = store_new(), .world = {.revision = 1}, .kept = {.kind = TXN_NESTED}};
        show(&run.kept_text, &run.kept);
        random_seed(&run.random, seed);
        for (unsigned step = 0; step < 1000; step++) {
            struct txn_maker maker = {.random = &run.random,
                                      .arena = &run.arena,
                                      .keys = keys,
                                      .key_count = ARRAY_COUNT(keys),
                                      .revision_max = run.world.revision + 1,
                                      .lease_max = LEASES,
                                      .list_max = 1 + step % 4,
                                      .depth_max = 1 + step % 3};
            if (random_chance(&run.random, 200)) {
                random_single(&run, &maker);
            } else {
                random_txn(&run, &maker);
            }
            if (random_chance(&run.random, 300)) random_lease(&run);
            if (step > 100 && random_chance(&run.random, 10)) random_compaction(&run);
        }
        assert_true(run.done > 200 && run.read > 50);
        assert_true(run.errors[ERR_LEASE_NOT_FOUND] > 5 && run.errors[ERR_KEY_MISSING] > 5);
        assert_true(run.errors[ERR_COMPACTED] > 5 && run.errors[ERR_FUTURE_REVISION] > 0);
        check_same(&run);
        store_free(run.store); /* what is kept outlives it */
        drop_kept(&run);
        store_free(run.silent);
        mem_free(run.world.versions);
        buffer_free(&run.kept_text);
        arena_free(&run.kept_arena);
        arena_free(&run.arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rule_2_a_transaction_is_one_revision),
        cmocka_unit_test(rule_3_what_changes_nothing_makes_no_revision),
        cmocka_unit_test(rule_4_a_range_sees_what_was_done_before_it),
        cmocka_unit_test(rule_5_compares_look_at_the_state_before),
        cmocka_unit_test(rule_6_a_missing_key_compares_as_zeros_and_has_no_value),
        cmocka_unit_test(rule_7_a_range_compare_needs_every_key),
        cmocka_unit_test(every_compare_of_one_key),
        cmocka_unit_test(rule_9_branches_may_name_the_same_key_and_deletes_overlap),
        cmocka_unit_test(rule_11_a_check_that_fails_changes_nothing),
        cmocka_unit_test(rule_12_a_negative_revision_is_long_gone),
        cmocka_unit_test(rule_18_keys_only),
        cmocka_unit_test(rule_24_what_a_put_keeps),
        cmocka_unit_test(rule_25_a_put_without_a_lease_detaches),
        cmocka_unit_test(rule_26_previous_versions_come_in_key_order),
        cmocka_unit_test(as_deep_as_the_format_allows),
        cmocka_unit_test(which_transactions_only_read),
        cmocka_unit_test(random_transactions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
