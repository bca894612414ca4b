/*
 * Ranges: each of etcd's rules by name, then random queries against a list of all versions ever made.
 */
#include "store/range.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../txn_maker.h"
#include "base/mem.h"
#include "store_model.h"

#define TEXT(text) bytes_of_string(text)
#define ZERO bytes_of("\0", 1)

static void put(struct store *store, const char *key, const char *value)
{
    store_put(store, TEXT(key), TEXT(value), 0, NULL);
}

static store_revision put_alone(struct store *store, const char *key, const char *value)
{
    store_begin(store);
    put(store, key, value);
    return store_end(store);
}

/* Revisions 2 to 6: c, b, a, then b again; and d deleted. */
static struct store *small_store(void)
{
    struct store *store = store_new();
    put_alone(store, "c", "1");
    put_alone(store, "b", "9");
    put_alone(store, "a", "5");
    put_alone(store, "b", "3");
    put_alone(store, "d", "0");
    store_begin(store);
    store_delete(store, TEXT("d"), NULL);
    store_end(store);
    return store;
}

/* The keys of the answer, one after the other; then what else it says. */
static const char *ask(const struct store *store, struct range_query query)
{
    static char text[200];
    struct range_result result;
    enum error error = range_collect(store, &query, &result);
    text[0] = 0;
    if (error != ERR_OK) {
        assert_null(result.records);
        assert_int_equal(result.record_count, 0);
        assert_int_equal(result.count, 0);
        return error_code(error);
    }
    for (size_t i = 0; i < result.record_count; i++) {
        struct bytes key = store_record_key(result.records[i]);
        strncat(text, (const char *)key.data, key.size);
    }
    size_t used = strlen(text);
    snprintf(text + used, sizeof text - used, " of %d%s", (int)result.count, result.more ? ", more" : "");
    range_result_free(&result);
    assert_null(result.records);
    return text;
}

#define ASK(store, ...) ask(store, (struct range_query){__VA_ARGS__})
#define ALL .key = ZERO, .range_end = ZERO

/* Rule 14. */
static void spans_are_written_as_etcd_does(void **state)
{
    (void)state;
    struct store *store = small_store();
    assert_string_equal(ASK(store, .key = TEXT("b")), "b of 1");
    assert_string_equal(ASK(store, .key = TEXT("d")), " of 0");
    assert_string_equal(ASK(store, .key = TEXT("bb")), " of 0");
    assert_string_equal(ASK(store, .key = ZERO), " of 0"); /* the key of one zero byte */
    assert_string_equal(ASK(store, .key = TEXT("a"), .range_end = TEXT("c")), "ab of 2");
    assert_string_equal(ASK(store, .key = TEXT("b"), .range_end = ZERO), "bc of 2");
    assert_string_equal(ASK(store, ALL), "abc of 3");
    assert_string_equal(ASK(store, .key = ZERO, .range_end = TEXT("b")), "a of 1");
    assert_string_equal(ASK(store, .key = TEXT("b"), .range_end = TEXT("b")), " of 0");
    assert_string_equal(ASK(store, .key = TEXT("c"), .range_end = TEXT("a")), " of 0");
    assert_string_equal(ASK(store, .key = TEXT("a"), .range_end = bytes_of("\0\0", 2)), " of 0");
    put_alone(store, "\1", "");
    store_begin(store);
    store_put(store, ZERO, TEXT(""), 0, NULL);
    store_end(store);
    struct range_query query = {.key = ZERO};
    struct range_result result;
    assert_int_equal(range_collect(store, &query, &result), ERR_OK);
    assert_int_equal(result.record_count, 1);
    range_result_free(&result);
    query.range_end = TEXT("\1");
    assert_int_equal(range_collect(store, &query, &result), ERR_OK);
    assert_int_equal(result.count, 1);
    range_result_free(&result);
    store_free(store);
}

/* Rules 12 and 19; as etcd does, an empty range asks for its revision, too. */
static void revisions_that_can_be_read(void **state)
{
    (void)state;
    struct store *store = small_store();
    assert_string_equal(ASK(store, ALL, .revision = 2), "c of 1");
    assert_string_equal(ASK(store, ALL, .revision = 1), " of 0");
    assert_string_equal(ASK(store, ALL, .revision = 6), "abcd of 4");
    assert_string_equal(ASK(store, .key = TEXT("d"), .revision = 6), "d of 1");
    assert_string_equal(ASK(store, ALL, .revision = 7), "abc of 3");
    assert_string_equal(ASK(store, ALL, .revision = -1), "abc of 3");
    assert_string_equal(ASK(store, .key = TEXT("b"), .revision = INT64_MIN), "b of 1");
    assert_string_equal(ASK(store, ALL, .revision = 8), error_code(ERR_FUTURE_REVISION));
    assert_string_equal(ASK(store, .key = TEXT("b"), .revision = INT64_MAX), error_code(ERR_FUTURE_REVISION));
    assert_int_equal(store_compact(store, 4), ERR_OK);
    assert_string_equal(ASK(store, ALL, .revision = 4), "abc of 3");
    assert_string_equal(ASK(store, ALL, .revision = 3), error_code(ERR_COMPACTED));
    assert_string_equal(ASK(store, .key = TEXT("x"), .revision = 3), error_code(ERR_COMPACTED));
    assert_string_equal(ASK(store, .key = TEXT("b"), .range_end = TEXT("a"), .revision = 3), error_code(ERR_COMPACTED));
    assert_string_equal(ASK(store, .key = TEXT("b"), .range_end = TEXT("a"), .revision = 8),
                        error_code(ERR_FUTURE_REVISION));
    assert_string_equal(ASK(store, ALL, .revision = 1, .count_only = true), error_code(ERR_COMPACTED));
    assert_string_equal(ASK(store, ALL, .revision = -1), "abc of 3");
    store_free(store);
}

/* Rules 15 and 16. */
static void the_limit_and_the_count(void **state)
{
    (void)state;
    struct store *store = small_store();
    assert_string_equal(ASK(store, ALL, .limit = 2), "ab of 3, more");
    assert_string_equal(ASK(store, ALL, .limit = 3), "abc of 3");
    assert_string_equal(ASK(store, ALL, .limit = INT64_MAX), "abc of 3");
    assert_string_equal(ASK(store, ALL, .limit = -1), "abc of 3");
    assert_string_equal(ASK(store, ALL, .limit = 1, .revision = 6), "a of 4, more");
    assert_string_equal(ASK(store, ALL, .limit = 1, .count_only = true), " of 3");
    assert_string_equal(ASK(store, ALL, .count_only = true, .revision = 6), " of 4");
    assert_string_equal(ASK(store, .key = TEXT("b"), .count_only = true), " of 1");
    assert_string_equal(ASK(store, .key = TEXT("b"), .limit = 1), "b of 1");
    /* Bounds leave the count as it is, and come before the limit. */
    assert_string_equal(ASK(store, ALL, .mod_min = 4), "ab of 3");
    assert_string_equal(ASK(store, ALL, .mod_min = 4, .limit = 1), "a of 3, more");
    assert_string_equal(ASK(store, ALL, .mod_max = 4), "ac of 3");
    assert_string_equal(ASK(store, ALL, .create_max = 3), "bc of 3");
    assert_string_equal(ASK(store, ALL, .create_min = 3, .create_max = 3), "b of 3");
    assert_string_equal(ASK(store, ALL, .mod_max = -5), " of 3");
    assert_string_equal(ASK(store, ALL, .mod_min = -5), "abc of 3");
    assert_string_equal(ASK(store, .key = TEXT("b"), .mod_max = 4), " of 1");
    assert_string_equal(ASK(store, .key = TEXT("b"), .mod_max = 4, .revision = 4), "b of 1");
    assert_string_equal(ASK(store, ALL, .mod_min = 100, .count_only = true), " of 3");
    store_free(store);
}

/* Rule 17. */
static void sorting(void **state)
{
    (void)state;
    struct store *store = small_store();
    assert_string_equal(ASK(store, ALL, .order = RANGE_DESCENDING), "cba of 3");
    assert_string_equal(ASK(store, ALL, .order = RANGE_ASCENDING), "abc of 3");
    assert_string_equal(ASK(store, ALL, .target = RANGE_BY_VERSION), "acb of 3");
    assert_string_equal(ASK(store, ALL, .target = RANGE_BY_VERSION, .order = RANGE_DESCENDING), "bac of 3");
    assert_string_equal(ASK(store, ALL, .target = RANGE_BY_CREATE), "cba of 3");
    assert_string_equal(ASK(store, ALL, .target = RANGE_BY_CREATE, .order = RANGE_DESCENDING), "abc of 3");
    assert_string_equal(ASK(store, ALL, .target = RANGE_BY_MOD), "cab of 3");
    assert_string_equal(ASK(store, ALL, .target = RANGE_BY_MOD, .order = RANGE_DESCENDING), "bac of 3");
    assert_string_equal(ASK(store, ALL, .target = RANGE_BY_VALUE), "cba of 3");
    assert_string_equal(ASK(store, ALL, .target = RANGE_BY_VALUE, .order = RANGE_DESCENDING), "abc of 3");
    assert_string_equal(ASK(store, ALL, .order = RANGE_DESCENDING, .limit = 1), "c of 3, more");
    assert_string_equal(ASK(store, ALL, .target = RANGE_BY_MOD, .order = RANGE_ASCENDING, .limit = 1), "c of 3, more");
    store_free(store);
}

/* As a real etcd 3.7 answers: without an order it takes limit + 1 keys first, and sorts these. With bounds it doesn't. */
static void a_limit_cuts_before_an_order_that_is_only_implied(void **state)
{
    (void)state;
    struct store *store = small_store();
    assert_string_equal(ASK(store, ALL, .target = RANGE_BY_CREATE, .limit = 1), "b of 3, more");
    assert_string_equal(ASK(store, ALL, .target = RANGE_BY_CREATE, .limit = 1, .mod_min = 1), "c of 3, more");
    assert_string_equal(ASK(store, ALL, .target = RANGE_BY_CREATE, .order = RANGE_ASCENDING, .limit = 1),
                        "c of 3, more");
    assert_string_equal(ASK(store, ALL, .target = RANGE_BY_CREATE, .limit = 2), "cb of 3, more");
    assert_string_equal(ASK(store, ALL, .target = RANGE_BY_CREATE, .limit = 3), "cba of 3");
    store_free(store);
}

static void which_queries_a_cursor_can_answer(void **state)
{
    (void)state;
    for (unsigned order = 0; order < 3; order++) {
        for (unsigned target = 0; target < 5; target++) {
            struct range_query query = {ALL, .order = (enum range_order)order, .target = (enum range_target)target};
            bool plain = target == RANGE_BY_KEY && order != RANGE_DESCENDING;
            assert_int_equal(range_is_plain(&query), plain);
            store_revision *bounds[] = {&query.mod_min, &query.mod_max, &query.create_min, &query.create_max};
            for (size_t i = 0; i < ARRAY_COUNT(bounds); i++) {
                *bounds[i] = 1;
                assert_false(range_is_plain(&query));
                *bounds[i] = 0;
            }
        }
    }
}

/* Rule 4. */
static void an_open_transactions_changes_are_seen_now_and_not_before(void **state)
{
    (void)state;
    struct store *store = small_store();
    store_begin(store);
    put(store, "x", "");
    put(store, "y", "");
    store_delete(store, TEXT("c"), NULL);
    assert_string_equal(ASK(store, ALL), "abxy of 4");
    assert_string_equal(ASK(store, ALL, .count_only = true), " of 4");
    assert_string_equal(ASK(store, ALL, .revision = 7), "abc of 3");
    assert_string_equal(ASK(store, ALL, .revision = 7, .limit = 1), "a of 3, more");
    assert_string_equal(ASK(store, ALL, .revision = 7, .count_only = true), " of 3");
    assert_string_equal(ASK(store, .key = TEXT("c"), .revision = 7), "c of 1");
    assert_string_equal(ASK(store, .key = TEXT("c")), " of 0");
    assert_string_equal(ASK(store, ALL, .revision = 8), error_code(ERR_FUTURE_REVISION));
    store_end(store);
    assert_string_equal(ASK(store, ALL, .revision = 8), "abxy of 4");
    store_free(store);
}

/* More than one slice of the walk, by every way that leads through it. */
static void ranges_longer_than_a_slice(void **state)
{
    (void)state;
    struct store *store = store_new();
    store_begin(store);
    for (int i = 0; i < 3000; i++) {
        char key[16];
        snprintf(key, sizeof key, "%05d", i);
        put(store, key, "");
    }
    store_end(store);
    put_alone(store, "x", "");
    static const int64_t limits[] = {255, 256, 257, 511, 512, 2999, 3000, 3001, 3002};
    for (int kind = 0; kind < 4; kind++) {
        struct range_query query = {ALL, .revision = kind & 1 ? 2 : 0, .order = kind & 2 ? RANGE_DESCENDING : 0};
        uint64_t keys = kind & 1 ? 3000 : 3001;
        for (size_t i = 0; i < ARRAY_COUNT(limits); i++) {
            query.limit = limits[i];
            struct range_result result;
            assert_int_equal(range_collect(store, &query, &result), ERR_OK);
            assert_int_equal(result.count, keys);
            assert_int_equal(result.record_count, limits[i] < (int64_t)keys ? (uint64_t)limits[i] : keys);
            assert_int_equal(result.more, limits[i] < (int64_t)keys);
            for (size_t j = 1; j < result.record_count; j++) {
                int order = bytes_compare(store_record_key(result.records[j - 1]), store_record_key(result.records[j]));
                assert_true(kind & 2 ? order > 0 : order < 0);
            }
            range_result_free(&result);
        }
    }
    store_free(store);
}

/* ---- against a list of all versions ---- */

#define MODEL_KEYS 60u
#define QUERIES 60u

struct naive {
    const struct model_version *versions[MODEL_KEYS];
    uint32_t version_count;
    uint64_t count;
    bool more;
};

static bool is_in_span(const struct range_query *query, struct bytes key)
{
    if (query->range_end.size == 0) return bytes_equal(key, query->key);
    if (bytes_compare(key, query->key) < 0) return false;
    return bytes_equal(query->range_end, ZERO) || bytes_compare(key, query->range_end) < 0;
}

static int64_t target_number(const struct model_version *version, enum range_target target)
{
    if (target == RANGE_BY_VERSION) return version->version;
    return target == RANGE_BY_CREATE ? version->create_revision : version->mod_revision;
}

static int naive_compare(const struct range_query *query, const struct model_version *a, const struct model_version *b)
{
    int order = 0;
    if (query->target == RANGE_BY_KEY) {
        order = a->key < b->key ? -1 : a->key > b->key;
    } else if (query->target == RANGE_BY_VALUE) {
        uint8_t first[MODEL_VALUE_BYTES_MAX], second[MODEL_VALUE_BYTES_MAX];
        order = bytes_compare(model_value(a, first), model_value(b, second));
    } else {
        int64_t first = target_number(a, query->target), second = target_number(b, query->target);
        order = first < second ? -1 : first > second;
    }
    return query->order == RANGE_DESCENDING ? -order : order;
}

/* Moves each back past those that come after it: equal ones stay in key order. */
static void naive_sort(const struct range_query *query, struct naive *naive)
{
    for (uint32_t i = 1; i < naive->version_count; i++) {
        for (uint32_t j = i; j > 0 && naive_compare(query, naive->versions[j - 1], naive->versions[j]) > 0; j--) {
            const struct model_version *version = naive->versions[j];
            naive->versions[j] = naive->versions[j - 1];
            naive->versions[j - 1] = version;
        }
    }
}

static bool is_bounded(const struct range_query *query)
{
    return query->mod_min != 0 || query->mod_max != 0 || query->create_min != 0 || query->create_max != 0;
}

static bool is_outside(int64_t number, int64_t min, int64_t max)
{
    return (min != 0 && number < min) || (max != 0 && number > max);
}

static enum error naive_range(const struct model *model, const struct range_query *query, struct naive *out)
{
    *out = (struct naive){.count = 0};
    store_revision revision = query->revision > 0 ? query->revision : model->revision;
    if (revision > model->revision) return ERR_FUTURE_REVISION;
    if (revision < model->compacted_revision) return ERR_COMPACTED;
    for (uint32_t key = 0; key < model->key_count; key++) {
        const struct model_version *version = model_get(model, key, revision);
        if (version == NULL || !is_in_span(query, model->keys[key])) continue;
        out->count++;
        if (query->count_only || is_outside(version->mod_revision, query->mod_min, query->mod_max) ||
            is_outside(version->create_revision, query->create_min, query->create_max)) {
            continue;
        }
        out->versions[out->version_count++] = version;
    }
    uint64_t limit = query->limit > 0 ? (uint64_t)query->limit : UINT64_MAX;
    bool first = query->order == RANGE_ORDER_NONE && !is_bounded(query);
    if (first && limit < out->version_count) out->version_count = (uint32_t)limit + 1;
    naive_sort(query, out);
    if (limit < out->version_count) {
        out->version_count = (uint32_t)limit;
        out->more = true;
    }
    return ERR_OK;
}

static void check_query(const struct model *model, const struct store *store, const struct range_query *query)
{
    struct naive expected;
    struct range_result result;
    enum error error = naive_range(model, query, &expected);
    assert_int_equal(range_collect(store, query, &result), error);
    if (error != ERR_OK) return;
    assert_int_equal(result.count, expected.count);
    assert_int_equal(result.more, expected.more);
    assert_int_equal(result.record_count, expected.version_count);
    for (size_t i = 0; i < result.record_count; i++) {
        model_check_record(model, expected.versions[i], result.records[i]);
    }
    range_result_free(&result);
}

/* The model's keys, and some that are in no store. */
static struct bytes *query_keys(const struct model *model, uint32_t *count)
{
    static const struct bytes others[] = {{(const uint8_t *)"\0", 1},
                                          {(const uint8_t *)"\0\0", 2},
                                          {(const uint8_t *)"aa\1", 3},
                                          {(const uint8_t *)"\xff\xff\xff\xff\xff\xff\xff\xff", 8}};
    struct bytes *keys = mem_alloc((model->key_count + ARRAY_COUNT(others)) * sizeof keys[0]);
    memcpy(keys, model->keys, model->key_count * sizeof keys[0]);
    memcpy(keys + model->key_count, others, sizeof others);
    *count = model->key_count + ARRAY_COUNT(others);
    return keys;
}

static void random_queries(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct random random;
        random_seed(&random, seed);
        struct model model;
        model_init(&model, &random, MODEL_KEYS);
        struct store *store = store_new();
        struct arena arena = {.chunks = NULL};
        uint32_t key_count;
        struct bytes *keys = query_keys(&model, &key_count);
        for (unsigned round = 0; round < 30; round++) {
            for (unsigned i = 0; i < 5; i++) model_change(&model, store, &random);
            if (random_chance(&random, 100)) {
                store_revision revision = (store_revision)random_between(
                    &random, (uint64_t)model.compacted_revision + 1, (uint64_t)model.revision);
                assert_int_equal(store_compact(store, revision), ERR_OK);
                model.compacted_revision = revision;
                while (store_compact_step(store, 20)) continue;
            }
            struct txn_maker maker = {.random = &random,
                                      .arena = &arena,
                                      .keys = keys,
                                      .key_count = key_count,
                                      .revision_max = model.revision + 1};
            for (unsigned i = 0; i < QUERIES; i++) {
                struct range_query query = txn_maker_range(&maker);
                /* Mostly over much. */
                if (random_chance(&random, 400)) query.range_end = ZERO;
                if (random_chance(&random, 400)) query.key = ZERO;
                check_query(&model, store, &query);
            }
        }
        mem_free(keys);
        arena_free(&arena);
        store_free(store);
        model_free(&model);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spans_are_written_as_etcd_does),
        cmocka_unit_test(revisions_that_can_be_read),
        cmocka_unit_test(the_limit_and_the_count),
        cmocka_unit_test(sorting),
        cmocka_unit_test(a_limit_cuts_before_an_order_that_is_only_implied),
        cmocka_unit_test(which_queries_a_cursor_can_answer),
        cmocka_unit_test(an_open_transactions_changes_are_seen_now_and_not_before),
        cmocka_unit_test(ranges_longer_than_a_slice),
        cmocka_unit_test(random_queries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
