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
        cmocka_unit_test(test_revisions_over_all_keys), cmocka_unit_test(test_random_histories),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
