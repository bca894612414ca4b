/*
 * The checker of histories against one that is too simple to be wrong: it tries every order of the operations. On thousands of
 * tiny histories, right ones and ones with a mistake, both must say the same.
 */
#include "sim/sim_history.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "history_maker.h"

enum { OPERATIONS_MAX = 8 };

/* ---- every order ---- */

struct brute {
    const struct sim_operation *operations[OPERATIONS_MAX];
    unsigned count;
    const struct sim_operation *order[OPERATIONS_MAX];
    unsigned placed_count;
    bool placed[OPERATIONS_MAX];
};

/* Whether it certainly happened. */
static bool must_happen(const struct sim_operation *operation)
{
    return operation->outcome == SIM_DONE || operation->revision != 0;
}

/*
 * Whether the operations can have happened in this order, one after the other, on an empty store, at revision 1. Each has a
 * revision, which must be found: a change's is above all before it; a delete of nothing has that of the store. Some are told, by
 * the operation itself or by who read what it wrote; what others write besides may raise it at any time.
 */
static bool order_is_right(const struct brute *brute)
{
    struct {
        uint64_t value;
        int64_t version;
        unsigned last, created; /* places in the order */
    } keys[HISTORY_KEYS_MAX] = {{0}};
    store_revision told[OPERATIONS_MAX] = {0};
    bool changes[OPERATIONS_MAX] = {false};
    for (unsigned i = 0; i < brute->placed_count; i++) {
        const struct sim_operation *operation = brute->order[i];
        bool exists = keys[operation->key].value != 0;
        unsigned last = keys[operation->key].last, created = keys[operation->key].created;
        if (operation->kind == SIM_GET) {
            if (operation->value != keys[operation->key].value) return false;
            if (operation->value == 0) continue;
            if (operation->version != 0 && operation->version != keys[operation->key].version) return false;
            if (operation->mod_revision != 0) {
                if (told[last] != 0 && told[last] != operation->mod_revision) return false;
                told[last] = operation->mod_revision;
            }
            if (operation->create_revision != 0) {
                if (told[created] != 0 && told[created] != operation->create_revision) return false;
                told[created] = operation->create_revision;
            }
        } else {
            told[i] = operation->revision;
            if (operation->kind == SIM_DELETE) {
                if (operation->outcome == SIM_DONE && operation->existed != exists) return false;
                if (operation->outcome == SIM_UNKNOWN && operation->revision != 0 && !exists) return false;
                changes[i] = exists;
                memset(&keys[operation->key], 0, sizeof keys[0]);
            } else {
                changes[i] = true;
                keys[operation->key].value = operation->value;
                keys[operation->key].version++;
                keys[operation->key].last = i;
                if (!exists) keys[operation->key].created = i;
            }
        }
    }
    store_revision revision = 1;
    for (unsigned i = 0; i < brute->placed_count; i++) {
        store_revision least = revision + changes[i];
        if (told[i] != 0 && told[i] < least) return false;
        revision = told[i] != 0 ? told[i] : least;
    }
    return true;
}

static bool some_order_is_right(struct brute *brute)
{
    bool complete = true;
    for (unsigned i = 0; i < brute->count; i++)
        complete = complete && (brute->placed[i] || !must_happen(brute->operations[i]));
    if (complete && order_is_right(brute)) return true;
    for (unsigned i = 0; i < brute->count; i++) {
        if (brute->placed[i]) continue;
        bool possible = true;
        for (unsigned j = 0; j < brute->count && possible; j++) {
            const struct sim_operation *other = brute->operations[j];
            bool before = other->outcome == SIM_DONE && other->answered < brute->operations[i]->sent;
            possible = brute->placed[j] || !before;
        }
        if (!possible) continue;
        brute->placed[i] = true;
        brute->order[brute->placed_count++] = brute->operations[i];
        bool right = some_order_is_right(brute);
        brute->placed_count--;
        brute->placed[i] = false;
        if (right) return true;
    }
    return false;
}

static bool brute_right(const struct sim_history *history)
{
    struct brute brute = {0};
    for (uint32_t i = 0; i < history->count; i++) {
        const struct sim_operation *operation = &history->operations[i];
        if (operation->outcome == SIM_NOTHING_DONE) continue;
        if (operation->outcome == SIM_UNKNOWN && operation->kind == SIM_GET) continue;
        brute.operations[brute.count++] = operation;
    }
    return some_order_is_right(&brute);
}

/* ---- both ---- */

static void print_history(const struct sim_history *history)
{
    static const char *const kinds[] = {"put", "get", "delete"}, *const outcomes[] = {"unknown", "done",
                                                                                      "nothing done"};
    for (uint32_t i = 0; i < history->count; i++) {
        const struct sim_operation *o = &history->operations[i];
        print_message("%2llu to %2llu: %s key %u value %llu, %s, revision %lld%s, mod %lld create %lld version %lld\n",
                      (unsigned long long)o->sent, (unsigned long long)o->answered, kinds[o->kind], o->key,
                      (unsigned long long)o->value, outcomes[o->outcome], (long long)o->revision,
                      o->existed ? " existed" : "", (long long)o->mod_revision, (long long)o->create_revision,
                      (long long)o->version);
    }
}

struct counts {
    unsigned right, wrong;
};

static struct counts compare(const struct history_maker *maker, uint64_t first, uint64_t count)
{
    struct counts counts = {0};
    for (uint64_t seed = first; seed < first + count; seed++) {
        struct random random;
        random_seed(&random, seed);
        struct sim_history history = {0};
        history_make(maker, &random, &history);
        struct sim_verdict verdict;
        sim_history_check(&history, &verdict);
        bool right = brute_right(&history);
        if (right == verdict.violated || verdict.keys_undecided != 0 || (!maker->mistake && !right)) {
            print_history(&history);
            fail_msg("seed %llu: all orders say %s, the checker says %s%s", (unsigned long long)seed,
                     right ? "right" : "wrong", verdict.violated ? "wrong: " : "right", verdict.text);
        }
        counts.right += right;
        counts.wrong += !right;
        sim_history_free(&history);
    }
    return counts;
}

static void test_one_key(void **state)
{
    (void)state;
    unsigned right = 0, wrong = 0;
    for (unsigned variant = 0; variant < 16; variant++) {
        struct history_maker maker = {
            .keys = 1,
            .clients = 2 + variant % 3,
            .operations = 5 + variant % 3,
            .unknown_per_mille = variant & 1 ? 300 : 0,
            .refused_per_mille = 100,
            .tells = variant & 2,
            .mistake = variant & 4,
            .order_known = variant & 8,
        };
        struct counts counts = compare(&maker, variant * 10000 + 1, 2000);
        right += counts.right;
        wrong += counts.wrong;
        if (maker.mistake) assert_true(counts.wrong > 300 && counts.right > 300);
    }
    print_message("one key: %u right, %u wrong\n", right, wrong);
}

static void test_more_keys(void **state)
{
    (void)state;
    unsigned right = 0, wrong = 0;
    for (unsigned variant = 0; variant < 12; variant++) {
        struct history_maker maker = {
            .keys = 2 + variant % 2,
            .clients = 2 + variant % 3,
            .operations = 6 + variant % 3,
            .unknown_per_mille = variant & 1 ? 300 : 0,
            .refused_per_mille = 50,
            .tells = variant & 2,
            .mistake = variant & 4,
            .order_known = true,
        };
        struct counts counts = compare(&maker, variant * 10000 + 500000, 2000);
        right += counts.right;
        wrong += counts.wrong;
        if (maker.mistake) assert_true(counts.wrong > 300 && counts.right > 300);
    }
    print_message("more keys: %u right, %u wrong\n", right, wrong);
}

/* Large ones are never wrong without a mistake, and never too hard. */
static void test_large_histories(void **state)
{
    (void)state;
    unsigned wrong = 0;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct history_maker maker = {
            .keys = 1 + seed % HISTORY_KEYS_MAX,
            .clients = HISTORY_CLIENTS_MAX,
            .operations = 300,
            .unknown_per_mille = seed % 3 == 0 ? 100 : 20,
            .refused_per_mille = 20,
            .tells = seed & 1,
            .order_known = seed & 2,
            .mistake = seed & 4,
        };
        struct random random;
        random_seed(&random, seed);
        struct sim_history history = {0};
        history_make(&maker, &random, &history);
        struct sim_verdict verdict;
        sim_history_check(&history, &verdict);
        if (!maker.mistake && verdict.violated) fail_msg("seed %llu: %s", (unsigned long long)seed, verdict.text);
        assert_int_equal(verdict.keys_undecided, 0);
        wrong += verdict.violated;
        sim_history_free(&history);
    }
    assert_true(wrong > 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_key),
        cmocka_unit_test(test_more_keys),
        cmocka_unit_test(test_large_histories),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
