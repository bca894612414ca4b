/* What stores hold, compared with one another and with a history; each rule is kept once and broken once. */
#include "sim/sim_contents.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct fixture {
    struct store *a, *b;
    struct sim_history history;
} f;

/* Keys and values are decimal numbers. */
static bool read_number(struct bytes text, uint64_t *out)
{
    *out = 0;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') return false;
        *out = *out * 10 + (uint64_t)(text.data[i] - '0');
    }
    return text.size > 0;
}

static bool read_key(struct bytes key, uint32_t *number)
{
    uint64_t value;
    bool good = read_number(key, &value);
    *number = (uint32_t)value;
    return good;
}

static const struct sim_contents_reader reader = {.key = read_key, .value = read_number};

static store_revision store_change(struct store *store, uint32_t key, const char *value)
{
    char text[16];
    snprintf(text, sizeof text, "%u", key);
    store_begin(store);
    if (value != NULL) {
        store_put(store, bytes_of_string(text), bytes_of_string(value), 0, NULL);
    } else {
        store_delete(store, bytes_of_string(text), NULL);
    }
    return store_end(store);
}

static void begin(void)
{
    f.a = store_new();
    f.b = store_new();
    f.history = (struct sim_history){0};
}

static struct sim_contents_verdict end(void)
{
    struct sim_contents_verdict verdict = {0};
    sim_contents_explain(f.a, &reader, &f.history, &verdict);
    store_free(f.a);
    store_free(f.b);
    sim_history_free(&f.history);
    assert_int_equal(verdict.violated, verdict.text[0] != 0);
    return verdict;
}

static void assert_clean(void)
{
    struct sim_contents_verdict verdict = end();
    if (verdict.violated) fail_msg("%s", verdict.text);
}

static void assert_found(const char *text)
{
    struct sim_contents_verdict verdict = end();
    if (strstr(verdict.text, text) == NULL) fail_msg("found \"%s\" and not \"%s\"", verdict.text, text);
}

static uint32_t send(enum sim_operation_kind kind, uint32_t key, uint64_t value)
{
    return sim_history_send(&f.history, kind, 0, key, value, 0);
}

static void answer(uint32_t operation, store_revision revision, bool existed)
{
    struct sim_operation *answered = sim_history_answer(&f.history, operation, SIM_DONE, 0);
    answered->revision = revision;
    answered->existed = existed;
}

/* A put that happens and is acknowledged. */
static store_revision put(uint32_t key, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    store_revision revision = store_change(f.a, key, text);
    answer(send(SIM_PUT, key, value), revision, false);
    return revision;
}

static void test_stores_alike(void **state)
{
    (void)state;
    begin();
    for (unsigned i = 0; i < 500; i++) {
        char value[16];
        snprintf(value, sizeof value, "%u", i);
        for (unsigned j = 0; j < 2; j++) {
            store_change(j == 0 ? f.a : f.b, i % 150, i % 7 == 6 ? NULL : value);
        }
    }
    struct sim_contents_verdict verdict = {0};
    sim_contents_compare(f.a, f.b, &verdict);
    assert_false(verdict.violated);
    assert_true(verdict.keys >= 100 && verdict.changes >= 400);
    store_free(f.a);
    store_free(f.b);
}

static void test_stores_that_differ(void **state)
{
    (void)state;
    static const struct {
        const char *a[3], *b[3]; /* values of keys 1, 2, 1; "": left out; NULL: deleted */
        const char *text;
    } cases[] = {
        {{"5", "6", "7"}, {"5", "6", "8"}, "a key is"},                      /* another value */
        {{"5", "6", "7"}, {"5", "6", ""}, "at revisions 4 and 3"},           /* a change is missing */
        {{"5", "6", NULL}, {"5", "6", "7"}, "a key is"},                     /* a key is missing */
        {{"5", "6", "7"}, {"4", "6", "7"}, "a change is"},                   /* an older version differs */
        {{"", "6", "7"}, {"7", "6", ""}, "a key is \"1\" (mod 3, create 3"}, /* other revisions */
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        begin();
        static const uint32_t keys[] = {1, 2, 1};
        for (unsigned j = 0; j < 3; j++) {
            if (cases[i].a[j] == NULL || cases[i].a[j][0] != 0) store_change(f.a, keys[j], cases[i].a[j]);
            if (cases[i].b[j] == NULL || cases[i].b[j][0] != 0) store_change(f.b, keys[j], cases[i].b[j]);
        }
        struct sim_contents_verdict verdict = {0};
        sim_contents_compare(f.a, f.b, &verdict);
        if (strstr(verdict.text, cases[i].text) == NULL) fail_msg("case %zu: found \"%s\"", i, verdict.text);
        store_free(f.a);
        store_free(f.b);
    }
    begin();
    store_change(f.a, 1, "5");
    store_change(f.b, 1, "5");
    assert_int_equal(store_compact(f.a, 2), ERR_OK);
    struct sim_contents_verdict verdict = {0};
    sim_contents_compare(f.a, f.b, &verdict);
    assert_non_null(strstr(verdict.text, "are compacted to revisions 2 and 0"));
    store_free(f.a);
    store_free(f.b);
}

static void test_unknown_outcomes_become_known(void **state)
{
    (void)state;
    begin();
    put(1, 10);
    uint32_t happened = send(SIM_PUT, 1, 11), never = send(SIM_PUT, 1, 12), deletes[3];
    for (unsigned i = 0; i < 3; i++) deletes[i] = send(SIM_DELETE, i == 0 ? 2 : 1, 0);
    assert_int_equal(store_change(f.a, 1, "11"), 3);
    assert_int_equal(store_change(f.a, 1, NULL), 4);
    put(1, 13);
    struct sim_contents_verdict verdict = {0};
    sim_contents_explain(f.a, &reader, &f.history, &verdict);
    assert_false(verdict.violated);
    assert_true(f.history.order_known);
    assert_int_equal(f.history.operations[happened].revision, 3);
    assert_int_equal(f.history.operations[happened].outcome, SIM_UNKNOWN);
    assert_int_equal(f.history.operations[never].outcome, SIM_NOTHING_DONE);
    assert_int_equal(f.history.operations[deletes[0]].outcome, SIM_NOTHING_DONE);
    assert_int_equal(f.history.operations[deletes[1]].revision, 4);
    assert_int_equal(f.history.operations[deletes[2]].outcome, SIM_NOTHING_DONE);
    struct sim_verdict order;
    sim_history_check(&f.history, &order);
    assert_false(order.violated);
    assert_clean();
}

static void test_acknowledged_writes_are_there(void **state)
{
    (void)state;
    begin();
    put(1, 10);
    answer(send(SIM_PUT, 1, 11), 3, false);
    assert_found("a write of key 1 was acknowledged with revision 3, and the store is at 2");
    begin();
    put(1, 10);
    answer(send(SIM_PUT, 2, 11), 3, false);
    send(SIM_PUT, 1, 12);
    store_change(f.a, 1, "12"); /* instead */
    assert_found("revision 3 was acknowledged to a write of key 2");
    begin();
    answer(send(SIM_PUT, 1, 10), 3, false);
    store_change(f.a, 1, "10");
    assert_found("a put of value 10 has revision 3, and is in the store: \"1\" (mod 2");
    begin();
    put(1, 10);
    store_change(f.a, 1, "10"); /* twice */
    assert_found("a put of value 10 has revision 2, and is in the store: \"1\" (mod 3");
    begin();
    put(1, 10);
    answer(send(SIM_DELETE, 1, 0), 3, true);
    send(SIM_DELETE, 2, 0);
    store_change(f.a, 1, "10");
    assert_found("a put of value 10 has revision 2");
}

static void test_nothing_else_is_there(void **state)
{
    (void)state;
    begin();
    sim_history_answer(&f.history, send(SIM_PUT, 1, 10), SIM_NOTHING_DONE, 0);
    store_change(f.a, 1, "10");
    assert_found("a put was answered as not done, and is in the store");
    begin();
    put(1, 10);
    store_change(f.a, 1, "77");
    assert_found("the store holds what nobody wrote: \"1\" (mod 3");
    begin();
    put(1, 10);
    send(SIM_PUT, 2, 11);
    store_change(f.a, 1, "11"); /* of another key */
    assert_found("the store holds what nobody wrote");
    begin();
    put(1, 10);
    store_change(f.a, 9, "10");
    assert_found("the store holds what nobody wrote");
    begin();
    put(1, 10);
    sim_history_answer(&f.history, send(SIM_DELETE, 1, 0), SIM_NOTHING_DONE, 0);
    store_change(f.a, 1, NULL);
    assert_found("the store holds a delete that nobody asked for");
    begin();
    put(1, 10);
    put(2, 11);
    send(SIM_DELETE, 2, 0); /* it wasn't this one */
    store_change(f.a, 1, NULL);
    assert_found("the store holds a delete that nobody asked for");
}

static void test_after_a_compaction(void **state)
{
    (void)state;
    for (unsigned variant = 0; variant < 5; variant++) {
        begin();
        put(1, 10);
        put(2, 11);
        if (variant == 1) answer(send(SIM_PUT, 2, 14), 4, false); /* lost: another one took its place */
        if (variant == 4) send(SIM_DELETE, 2, 0);
        if (variant == 2 || variant == 4) store_change(f.a, 2, NULL);
        send(SIM_PUT, 3, 12);
        if (variant != 2) store_change(f.a, 3, "12");
        put(1, 13);
        send(SIM_PUT, 3, 15);
        if (variant == 3) store_change(f.a, 3, "12");
        assert_int_equal(store_compact(f.a, store_current_revision(f.a)), ERR_OK);
        if (variant == 0 || variant == 4) {
            struct sim_contents_verdict verdict = {0};
            sim_contents_explain(f.a, &reader, &f.history, &verdict);
            assert_false(verdict.violated);
            assert_false(f.history.order_known); /* nobody knows whether 15 came before 12 */
            assert_clean();
        }
        if (variant == 1) assert_found("a write of key 2 was acknowledged with revision 4, and is lost");
        if (variant == 2) assert_found("a put of key 2 was acknowledged with revision 3, nobody deleted it since");
        if (variant == 3) assert_clean(); /* that it is there twice, what is left doesn't show */
    }
}

static void test_which_delete_it_was_after_a_compaction(void **state)
{
    (void)state;
    /* Two, the first of which made a change that is compacted; or one. */
    for (unsigned deletes = 1; deletes <= 2; deletes++) {
        begin();
        uint32_t operations[2];
        for (unsigned i = 0; i < deletes; i++) {
            put(1, 10 + i);
            operations[i] = send(SIM_DELETE, 1, 0);
            if (i + 1 == deletes) assert_int_equal(store_compact(f.a, store_current_revision(f.a)), ERR_OK);
            store_change(f.a, 1, NULL);
        }
        struct sim_contents_verdict verdict = {0};
        sim_contents_explain(f.a, &reader, &f.history, &verdict);
        assert_false(verdict.violated);
        assert_int_equal(f.history.operations[operations[0]].revision, deletes == 1 ? 3 : 0);
        if (deletes == 2) assert_int_equal(f.history.operations[operations[1]].revision, 0);
        assert_clean();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stores_alike),
        cmocka_unit_test(test_stores_that_differ),
        cmocka_unit_test(test_unknown_outcomes_become_known),
        cmocka_unit_test(test_acknowledged_writes_are_there),
        cmocka_unit_test(test_nothing_else_is_there),
        cmocka_unit_test(test_after_a_compaction),
        cmocka_unit_test(test_which_delete_it_was_after_a_compaction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
