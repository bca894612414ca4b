#include "base/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* From the authors' reference code: splitmix64 from seed 1234567 gives 6457827717110365317, … */
static void seeding_is_splitmix64(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 1234567);
    assert_true(random.state[0] == 6457827717110365317u);
    assert_true(random.state[1] == 3203168211198807973u);
    assert_true(random.state[2] == 9817491932198370423u);
    assert_true(random.state[3] == 4593380528125082431u);
}

/* From the reference code too: xoshiro256** from the state {1, 2, 3, 4}. */
static void sequence_is_xoshiro256_starstar(void **state)
{
    (void)state;
    static const uint64_t expected[] = {
        11520u,
        0u,
        1509978240u,
        1215971899390074240u,
        1216172134540287360u,
        607988272756665600u,
        16172922978634559625u,
        8476171486693032832u,
    };
    struct random random = {.state = {1, 2, 3, 4}};
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) assert_true(random_u64(&random) == expected[i]);
}

static void a_seed_replays_and_seeds_differ(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct random a, b, other;
        random_seed(&a, seed);
        random_seed(&b, seed);
        random_seed(&other, seed + 1);
        int same = 0;
        for (int i = 0; i < 100; i++) {
            uint64_t value = random_u64(&a);
            assert_true(value == random_u64(&b));
            same += value == random_u64(&other);
        }
        assert_int_equal(same, 0);
    }
}

static void below_stays_below_and_is_even(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 3);
    for (uint64_t bound = 1; bound < 40; bound++) {
        unsigned counts[40] = {0};
        for (unsigned i = 0; i < 2000 * bound; i++) {
            uint64_t value = random_below(&random, bound);
            assert_true(value < bound);
            counts[value]++;
        }
        /* 2000 expected, standard deviation below 45: seven of them leave no room for chance. */
        for (uint64_t i = 0; i < bound; i++) assert_in_range(counts[i], 1685, 2315);
    }
    /* With a bound just over 2^63, half of all draws must be drawn again; the rest stay uniform. */
    uint64_t bound = (UINT64_C(1) << 63) + 1;
    unsigned low = 0;
    for (int i = 0; i < 10000; i++) {
        uint64_t value = random_below(&random, bound);
        assert_true(value < bound);
        low += value < bound / 2;
    }
    assert_in_range(low, 4650, 5350);
    assert_true(random_below(&random, UINT64_MAX) < UINT64_MAX);
}

static void between_includes_both_ends(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 4);
    unsigned seen = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t value = random_between(&random, 10, 13);
        assert_in_range(value, 10, 13);
        seen |= 1u << (value - 10);
    }
    assert_int_equal(seen, 15);
    assert_true(random_between(&random, 5, 5) == 5);
    assert_true(random_between(&random, UINT64_MAX, UINT64_MAX) == UINT64_MAX);
    assert_true(random_between(&random, UINT64_MAX - 1, UINT64_MAX) >= UINT64_MAX - 1);
    uint64_t or = 0, and = UINT64_MAX;
    for (int i = 0; i < 1000; i++) {
        uint64_t value = random_between(&random, 0, UINT64_MAX);
        or |= value;
        and &= value;
    }
    assert_true(or == UINT64_MAX && and == 0);
}

static void chance_is_per_mille(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 5);
    unsigned hits = 0;
    for (int i = 0; i < 10000; i++) {
        assert_false(random_chance(&random, 0));
        assert_true(random_chance(&random, 1000));
        hits += random_chance(&random, 250);
    }
    assert_in_range(hits, 2200, 2800);
}

static uint64_t unshift(uint64_t value, unsigned bits)
{
    uint64_t result = value;
    for (unsigned done = bits; done < 64; done += bits) result = value ^ result >> bits;
    return result;
}

/* Newton's iteration: each step doubles the number of right bits. */
static uint64_t inverse(uint64_t odd)
{
    uint64_t result = odd;
    for (int i = 0; i < 6; i++) result *= 2 - odd * result;
    return result;
}

static void mix_can_be_undone(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 6);
    for (int i = 0; i < 10000; i++) {
        uint64_t value = i < 100 ? (uint64_t)i : random_u64(&random);
        uint64_t back = unshift(random_mix(value), 31);
        back = unshift(back * inverse(0x94d049bb133111ebu), 27);
        back = unshift(back * inverse(0xbf58476d1ce4e5b9u), 30);
        assert_true(back == value);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(seeding_is_splitmix64),
        cmocka_unit_test(sequence_is_xoshiro256_starstar),
        cmocka_unit_test(a_seed_replays_and_seeds_differ),
        cmocka_unit_test(below_stays_below_and_is_even),
        cmocka_unit_test(between_includes_both_ends),
        cmocka_unit_test(chance_is_per_mille),
        cmocka_unit_test(mix_can_be_undone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
