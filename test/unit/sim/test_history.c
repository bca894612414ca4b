/* The checker of histories, with histories that are known to be right and wrong. */
#include "sim/sim_history.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/random.h"

static struct sim_history history;

static uint32_t send_put(uint32_t client, uint64_t value)
{
    return sim_history_send(&history, SIM_PUT, client, 1, value, 0);
}

static uint32_t send_get(uint32_t client)
{
    return sim_history_send(&history, SIM_GET, client, 1, 0, 0);
}

static uint32_t send_delete(uint32_t client)
{
    return sim_history_send(&history, SIM_DELETE, client, 1, 0, 0);
}

static void wrote(uint32_t operation, store_revision revision)
{
    sim_history_answer(&history, operation, SIM_DONE, 0)->revision = revision;
}

static void deleted(uint32_t operation, bool existed, store_revision revision)
{
    struct sim_operation *answer = sim_history_answer(&history, operation, SIM_DONE, 0);
    answer->existed = existed;
    answer->revision = revision;
}

static void got(uint32_t operation, uint64_t value)
{
    sim_history_answer(&history, operation, SIM_DONE, 0)->value = value;
}

static void nothing_done(uint32_t operation)
{
    sim_history_answer(&history, operation, SIM_NOTHING_DONE, 0);
}

static bool right(void)
{
    struct sim_verdict verdict;
    sim_history_check(&history, &verdict);
    assert_int_equal(verdict.keys_undecided, 0);
    assert_int_equal(verdict.violated, verdict.text[0] != 0);
    sim_history_free(&history);
    return !verdict.violated;
}

static void test_one_after_the_other(void **state)
{
    (void)state;
    assert_true(right());
    got(send_get(0), 0);
    wrote(send_put(0, 7), 2);
    got(send_get(0), 7);
    deleted(send_delete(0), true, 3);
    got(send_get(1), 0);
    deleted(send_delete(1), false, 3);
    assert_true(right());
    wrote(send_put(0, 7), 2);
    got(send_get(0), 0); /* lost */
    assert_false(right());
    wrote(send_put(0, 7), 2);
    wrote(send_put(0, 8), 3);
    got(send_get(0), 7); /* stale */
    assert_false(right());
    got(send_get(0), 9); /* never written */
    assert_false(right());
    deleted(send_delete(0), true, 2); /* of nothing */
    assert_false(right());
    wrote(send_put(0, 7), 2);
    deleted(send_delete(0), false, 2); /* it was there */
    assert_false(right());
    wrote(send_put(0, 7), 2);
    deleted(send_delete(0), true, 3);
    got(send_get(0), 7); /* came back */
    assert_false(right());
}

static void test_at_the_same_time(void **state)
{
    (void)state;
    /* A get beside a put may see it or not, but not see it and then no more. */
    for (unsigned first = 0; first < 2; first++) {
        for (unsigned second = 0; second < 2; second++) {
            uint32_t put = send_put(0, 7);
            got(send_get(1), first ? 7 : 0);
            got(send_get(2), second ? 7 : 0);
            wrote(put, 2);
            assert_int_equal(right(), first <= second);
        }
    }
    /* Two puts at the same time: the revisions say which one was last. */
    for (unsigned swapped = 0; swapped < 2; swapped++) {
        uint32_t a = send_put(0, 7), b = send_put(1, 8);
        wrote(a, swapped ? 3 : 2);
        wrote(b, swapped ? 2 : 3);
        got(send_get(2), 8);
        assert_int_equal(right(), !swapped);
    }
}

static void test_unknown_outcomes(void **state)
{
    (void)state;
    send_put(0, 7); /* may happen late, or never */
    got(send_get(1), 0);
    wrote(send_put(1, 8), 2);
    got(send_get(1), 8);
    got(send_get(1), 7);
    got(send_get(1), 7);
    assert_true(right());
    send_put(0, 7);
    got(send_get(1), 7);
    wrote(send_put(1, 8), 2);
    got(send_get(1), 8);
    got(send_get(1), 7); /* not twice */
    assert_false(right());
    wrote(send_put(1, 8), 2);
    send_delete(0);
    got(send_get(1), 8);
    got(send_get(1), 0);
    assert_true(right());
    wrote(send_put(1, 8), 2);
    got(send_get(1), 0); /* before the delete was sent */
    send_delete(0);
    assert_false(right());
    /* A delete that is certain shows that an unseen put happened. */
    send_put(0, 7);
    deleted(send_delete(1), true, 3);
    got(send_get(1), 0);
    assert_true(right());
}

static void test_what_says_that_nothing_was_done(void **state)
{
    (void)state;
    nothing_done(send_put(0, 7));
    got(send_get(1), 0);
    assert_true(right());
    nothing_done(send_put(0, 7));
    got(send_get(1), 7);
    assert_false(right());
}

static void test_revisions_over_all_keys(void **state)
{
    (void)state;
    uint32_t a = sim_history_send(&history, SIM_PUT, 0, 1, 7, 0), b = sim_history_send(&history, SIM_PUT, 0, 2, 8, 0);
    wrote(a, 5);
    wrote(b, 5); /* one revision for two writes */
    assert_false(right());
    wrote(sim_history_send(&history, SIM_PUT, 0, 1, 7, 0), 5);
    wrote(sim_history_send(&history, SIM_PUT, 0, 2, 8, 0), 4); /* went back, though each key is fine */
    assert_false(right());
    wrote(sim_history_send(&history, SIM_PUT, 0, 1, 7, 0), 5);
    deleted(sim_history_send(&history, SIM_DELETE, 0, 2, 0, 0), false, 4);
    assert_false(right());
    wrote(sim_history_send(&history, SIM_PUT, 0, 1, 7, 0), 5);
    deleted(sim_history_send(&history, SIM_DELETE, 0, 2, 0, 0), false, 5);
    assert_true(right());
}

static void got_all(uint32_t operation, uint64_t value, store_revision mod, store_revision create, int64_t version)
{
    struct sim_operation *answer = sim_history_answer(&history, operation, SIM_DONE, 0);
    answer->value = value;
    answer->mod_revision = mod;
    answer->create_revision = create;
    answer->version = version;
}

static void test_what_gets_tell_of_revisions(void **state)
{
    (void)state;
    static const struct {
        store_revision mod, create;
        int64_t version;
        bool right;
    } second[] = {
        {5, 3, 2, true},  {5, 0, 0, true},  {0, 3, 0, true},  {0, 0, 2, true},  {4, 3, 2, false}, {6, 3, 2, false},
        {5, 2, 2, false}, {5, 5, 2, false}, {5, 3, 1, false}, {5, 3, 3, false}, {0, 4, 0, false},
    };
    for (size_t i = 0; i < ARRAY_COUNT(second); i++) {
        wrote(send_put(0, 7), 3);
        got_all(send_get(1), 7, 3, 3, 1);
        wrote(send_put(0, 8), 5);
        got_all(send_get(1), 8, second[i].mod, second[i].create, second[i].version);
        assert_int_equal(right(), second[i].right);
    }
    /* A key that was deleted begins anew. */
    for (unsigned variant = 0; variant < 3; variant++) {
        wrote(send_put(0, 7), 2);
        deleted(send_delete(0), true, 3);
        wrote(send_put(0, 8), 4);
        got_all(send_get(0), 8, 4, variant == 1 ? 2 : 4, variant == 2 ? 2 : 1);
        assert_int_equal(right(), variant == 0);
    }
    /* What a get tells of a put without an answer holds for all that come later. */
    for (unsigned variant = 0; variant < 5; variant++) {
        static const store_revision first[] = {5, 5, 3, 5, 5}, next[] = {9, 5, 9, 9, 9}, later[] = {5, 5, 3, 6, 5};
        wrote(send_put(0, 7), 3);
        send_put(0, 8);
        got_all(send_get(1), 8, first[variant], 3, 2);
        got_all(send_get(1), 8, later[variant], 0, variant == 4 ? 3 : 2);
        wrote(send_put(1, 9), next[variant]);
        assert_int_equal(right(), variant == 0);
    }
    /* So it does for its creation. */
    for (unsigned variant = 0; variant < 2; variant++) {
        send_put(0, 7);
        got_all(send_get(1), 7, 4, 4, 1);
        wrote(send_put(0, 8), 6);
        got_all(send_get(1), 8, 6, variant == 0 ? 4 : 5, 2);
        assert_int_equal(right(), variant == 0);
    }
    /* Revisions that are told leave room for those between them. */
    for (store_revision last = 4; last <= 5; last++) {
        wrote(send_put(0, 7), 3);
        send_put(0, 8);
        got(send_get(1), 8);
        wrote(send_put(1, 9), last);
        assert_int_equal(right(), last == 5);
    }
}

/* Every write has its revision: then all keys are one history. */
static void test_a_known_order(void **state)
{
    (void)state;
    for (unsigned variant = 0; variant < 7; variant++) {
        /* Two puts under way at the same time, key 2's first; a get of key 1, then one of key 2. */
        uint32_t a = sim_history_send(&history, SIM_PUT, 0, 1, 7, 0),
                 b = sim_history_send(&history, SIM_PUT, 1, 2, 8, 0);
        got(sim_history_send(&history, SIM_GET, 2, 1, 0, 0), 7);
        got(sim_history_send(&history, SIM_GET, 2, 2, 0, 0), variant == 1 || variant == 2 ? 0 : 8);
        wrote(a, 5);
        wrote(b, variant == 2 ? 6 : 4);
        history.order_known = variant != 6;
        bool expected = variant == 0 || variant == 2 || variant == 6;
        if (variant == 3) { /* a put that happened, nobody knows when, but with a revision below what was known */
            uint32_t late = sim_history_send(&history, SIM_PUT, 3, 3, 9, 0);
            history.operations[late].revision = 3;
        }
        if (variant == 4) { /* a delete that happened where nothing was */
            uint32_t late = sim_history_send(&history, SIM_DELETE, 3, 3, 0, 0);
            history.operations[late].revision = 9;
        }
        if (variant == 5) { /* nothing there, at a revision at which something was */
            deleted(sim_history_send(&history, SIM_DELETE, 3, 2, 0, 0), false, 5);
        }
        if (variant == 6) { /* key by key, it is right */
            history.operations[3].value = 0;
        }
        assert_int_equal(right(), expected);
    }
}

/* A register that is right, asked by clients at the same time; then one answer is changed into what nobody can have seen. */
static void test_random_histories(void **state)
{
    (void)state;
    unsigned wrong_found = 0, wrong_made = 0, undecided = 0;
    for (uint64_t seed = 1; seed <= 400; seed++) {
        struct random random;
        random_seed(&random, seed);
        enum { CLIENTS = 6, OPERATIONS = 60 };
        struct {
            bool busy, happened;
            uint32_t operation;
            uint64_t value;
            bool existed;
            store_revision revision;
        } clients[CLIENTS] = {{0}};
        uint64_t value = 0, next_value = 1;
        store_revision revision = 1;
        uint32_t last_get = UINT32_MAX;
        for (unsigned step = 0; history.count < OPERATIONS; step++) {
            unsigned c = (unsigned)random_below(&random, CLIENTS);
            if (!clients[c].busy) {
                static const enum sim_operation_kind kinds[] = {SIM_PUT, SIM_PUT, SIM_GET, SIM_GET, SIM_DELETE};
                enum sim_operation_kind kind = kinds[random_below(&random, 5)];
                clients[c].operation =
                    sim_history_send(&history, kind, c, 1, kind == SIM_PUT ? next_value++ : 0, (time_ns)step);
                clients[c].busy = true;
                clients[c].happened = false;
                continue;
            }
            struct sim_operation *operation = &history.operations[clients[c].operation];
            if (!clients[c].happened && random_chance(&random, 900)) {
                clients[c].happened = true;
                clients[c].value = value;
                clients[c].existed = value != 0;
                if (operation->kind == SIM_PUT || (operation->kind == SIM_DELETE && value != 0)) revision++;
                if (operation->kind == SIM_PUT) value = operation->value;
                if (operation->kind == SIM_DELETE) value = 0;
                clients[c].revision = revision;
                continue;
            }
            clients[c].busy = false;
            if (!clients[c].happened && random_chance(&random, 500)) {
                nothing_done(clients[c].operation);
            } else if (clients[c].happened && random_chance(&random, 850)) {
                operation = sim_history_answer(&history, clients[c].operation, SIM_DONE, (time_ns)step);
                operation->existed = clients[c].existed;
                operation->revision = clients[c].revision;
                if (operation->kind == SIM_GET) {
                    operation->value = clients[c].value;
                    last_get = clients[c].operation;
                }
            } /* else nobody hears of it */
        }
        struct sim_verdict verdict;
        sim_history_check(&history, &verdict);
        assert_false(verdict.violated);
        assert_int_equal(verdict.keys_undecided, 0);
        if (last_get != UINT32_MAX && seed % 2 == 0) {
            /* A value that was overwritten, acknowledged, before the get was sent. */
            struct sim_operation *get = &history.operations[last_get];
            for (uint32_t i = 0; i < last_get; i++) {
                const struct sim_operation *old = &history.operations[i];
                if (old->kind != SIM_PUT || old->outcome != SIM_DONE) continue;
                for (uint32_t j = 0; j < last_get; j++) {
                    const struct sim_operation *later = &history.operations[j];
                    if (later->kind == SIM_PUT && later->outcome == SIM_DONE && later->sent > old->answered &&
                        later->answered < get->sent) {
                        get->value = old->value;
                        i = last_get;
                        wrong_made++;
                        sim_history_check(&history, &verdict);
                        wrong_found += verdict.violated;
                        undecided += verdict.keys_undecided; /* too many unknown outcomes at once */
                        break;
                    }
                }
            }
        }
        sim_history_free(&history);
    }
    assert_true(wrong_made > 100);
    assert_int_equal(wrong_found + undecided, wrong_made);
    assert_true(undecided <= 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_after_the_other),     cmocka_unit_test(test_at_the_same_time),
        cmocka_unit_test(test_unknown_outcomes),        cmocka_unit_test(test_what_says_that_nothing_was_done),
        cmocka_unit_test(test_revisions_over_all_keys), cmocka_unit_test(test_what_gets_tell_of_revisions),
        cmocka_unit_test(test_a_known_order),           cmocka_unit_test(test_random_histories),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
