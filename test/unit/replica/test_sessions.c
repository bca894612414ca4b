#include "replica/sessions.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/random.h"

#define BUDGET 12345u
#define SESSION_BYTES (24u + SESSION_WINDOW / 8)
#define HEADER_BYTES 16u

static struct sessions fresh(void)
{
    struct sessions sessions;
    sessions_init(&sessions, BUDGET);
    return sessions;
}

/* Admits, and checks that looking before and after says the same. */
static bool admit(struct sessions *sessions, member_id member, uint64_t incarnation, uint64_t sequence)
{
    bool known = sessions_contains(sessions, member, incarnation, sequence);
    bool admitted = sessions_admit(sessions, member, incarnation, sequence);
    assert_int_equal(known, !admitted);
    assert_true(sessions_contains(sessions, member, incarnation, sequence));
    assert_false(sessions_admit(sessions, member, incarnation, sequence));
    return admitted;
}

static void test_repeats(void **state)
{
    (void)state;
    struct sessions sessions = fresh();
    for (uint64_t sequence = 1; sequence <= 10; sequence++) assert_true(admit(&sessions, 7, 1, sequence));
    for (uint64_t sequence = 1; sequence <= 10; sequence++) assert_false(admit(&sessions, 7, 1, sequence));
    assert_false(sessions_contains(&sessions, 7, 1, 11));
    /* Another member's sequences are its own. */
    assert_false(sessions_contains(&sessions, 8, 1, 5));
    assert_true(admit(&sessions, 8, 1, 5));
    assert_false(sessions_contains(&sessions, 8, 1, 4));
    assert_int_equal(sessions.count, 2);
    sessions_free(&sessions);
}

static void test_out_of_order(void **state)
{
    (void)state;
    struct sessions sessions = fresh();
    static const uint64_t order[] = {5, 3, 9, 1, 4, 8, 2, 7, 6};
    for (size_t i = 0; i < ARRAY_COUNT(order); i++) assert_true(admit(&sessions, 1, 1, order[i]));
    for (size_t i = 0; i < ARRAY_COUNT(order); i++) assert_false(admit(&sessions, 1, 1, order[i]));
    assert_true(admit(&sessions, 1, 1, 10));
    sessions_free(&sessions);
}

static void test_incarnations(void **state)
{
    (void)state;
    struct sessions sessions = fresh();
    assert_true(admit(&sessions, 1, 5, 1));
    assert_true(admit(&sessions, 1, 5, 2));
    /* Older: whatever it asks came too late. */
    assert_false(admit(&sessions, 1, 4, 1));
    assert_false(admit(&sessions, 1, 4, 999));
    assert_false(admit(&sessions, 1, 0, 3));
    /* Looking at a newer one changes nothing. */
    assert_false(sessions_contains(&sessions, 1, 6, 1));
    assert_true(sessions_contains(&sessions, 1, 5, 2));
    assert_false(sessions_contains(&sessions, 1, 5, 3));
    /* Newer: it begins anew, also with low sequences, and the last one's are over. */
    assert_true(admit(&sessions, 1, 6, 2));
    assert_true(admit(&sessions, 1, 6, 1));
    assert_false(admit(&sessions, 1, 5, 3));
    assert_true(admit(&sessions, 1, UINT64_MAX, 1));
    assert_false(admit(&sessions, 1, UINT64_MAX - 1, 2));
    assert_int_equal(sessions.count, 1);
    sessions_free(&sessions);
}

/* One sequence at each edge of the window, from several positions of the ring. */
static void test_window_edges(void **state)
{
    (void)state;
    static const uint64_t highest[] = {
        SESSION_WINDOW,         SESSION_WINDOW + 1, 2 * SESSION_WINDOW - 1, 2 * SESSION_WINDOW,
        5 * SESSION_WINDOW + 7, 1ull << 40,         UINT64_MAX - 1,         UINT64_MAX};
    for (size_t i = 0; i < ARRAY_COUNT(highest); i++) {
        struct sessions sessions = fresh();
        assert_true(admit(&sessions, 1, 1, highest[i]));
        assert_false(admit(&sessions, 1, 1, highest[i] - SESSION_WINDOW)); /* too old to tell */
        assert_true(admit(&sessions, 1, 1, highest[i] - SESSION_WINDOW + 1));
        assert_true(admit(&sessions, 1, 1, highest[i] - 1));
        assert_true(admit(&sessions, 1, 1, highest[i] - SESSION_WINDOW / 2));
        assert_false(admit(&sessions, 1, 1, highest[i]));
        if (highest[i] < UINT64_MAX) {
            /* The window moves by one: its oldest falls out, and the slot is the new one's. */
            assert_true(admit(&sessions, 1, 1, highest[i] + 1));
            assert_false(admit(&sessions, 1, 1, highest[i] + 1 - SESSION_WINDOW));
            assert_true(admit(&sessions, 1, 1, highest[i] + 2 - SESSION_WINDOW));
        }
        sessions_free(&sessions);
    }
}

/* A leap forgets exactly what it leaps over. */
static void test_leaps(void **state)
{
    (void)state;
    static const uint64_t leaps[] = {2,
                                     63,
                                     64,
                                     65,
                                     SESSION_WINDOW - 1,
                                     SESSION_WINDOW,
                                     SESSION_WINDOW + 1,
                                     2 * SESSION_WINDOW - 1,
                                     2 * SESSION_WINDOW,
                                     2 * SESSION_WINDOW + 1,
                                     10 * SESSION_WINDOW + 3};
    for (size_t i = 0; i < ARRAY_COUNT(leaps); i++) {
        struct sessions sessions = fresh();
        for (uint64_t sequence = 1; sequence <= SESSION_WINDOW; sequence++) {
            assert_true(sessions_admit(&sessions, 1, 1, sequence));
        }
        uint64_t target = SESSION_WINDOW + leaps[i];
        assert_true(sessions_admit(&sessions, 1, 1, target));
        for (uint64_t sequence = 1; sequence < target; sequence++) {
            bool too_old = sequence + SESSION_WINDOW <= target;
            bool seen = sequence <= SESSION_WINDOW;
            assert_int_equal(sessions_contains(&sessions, 1, 1, sequence), too_old || seen);
        }
        sessions_free(&sessions);
    }
}

/* Against a plain list of what was admitted. */
static void test_random(void **state)
{
    (void)state;
    enum { SPACE = 6 * SESSION_WINDOW };
    struct random random;
    random_seed(&random, 20250101);
    bool *seen = mem_alloc_zero(SPACE + 1);
    struct sessions sessions = fresh();
    uint64_t highest = 0, incarnation = 1, admitted = 0, refused = 0;
    for (int i = 0; i < 200000; i++) {
        if (highest > SPACE - 100 && random_chance(&random, 5)) {
            incarnation++;
            highest = 0;
            memset(seen, 0, SPACE + 1);
        }
        /* Mostly near the newest, sometimes far back or ahead. */
        uint64_t sequence = 1 + random_below(&random, SPACE);
        if (!random_chance(&random, 2) && (random_chance(&random, 950) || sequence > highest)) {
            uint64_t low = highest > 40 ? highest - 40 : 1;
            sequence = random_between(&random, low, highest + 5 < SPACE ? highest + 5 : SPACE);
        }
        bool expected = sequence > highest || (sequence + SESSION_WINDOW > highest && !seen[sequence]);
        assert_int_equal(sessions_contains(&sessions, 9, incarnation, sequence), !expected);
        assert_int_equal(sessions_admit(&sessions, 9, incarnation, sequence), expected);
        admitted += expected;
        refused += !expected;
        seen[sequence] = true;
        if (sequence > highest) highest = sequence;
    }
    assert_true(admitted > 1000 && refused > 1000);
    mem_free(seen);
    sessions_free(&sessions);
}

static void test_members_max(void **state)
{
    (void)state;
    struct sessions sessions = fresh();
    for (member_id member = 1; member <= SESSIONS_MAX; member++) assert_true(admit(&sessions, member, 1, member));
    for (member_id member = 1; member <= SESSIONS_MAX; member++) {
        assert_true(sessions_contains(&sessions, member, 1, member));
        assert_false(sessions_contains(&sessions, member, 1, member + 1));
        assert_true(admit(&sessions, member, 1, member + 1));
    }
    assert_int_equal(sessions.count, SESSIONS_MAX);
    sessions_free(&sessions);
}

/* ---- as bytes ---- */

static void assert_equal_sessions(const struct sessions *a, const struct sessions *b)
{
    struct buffer first = {0}, second = {0};
    sessions_encode(a, &first);
    sessions_encode(b, &second);
    assert_true(bytes_equal(buffer_bytes(&first), buffer_bytes(&second)));
    buffer_free(&first);
    buffer_free(&second);
}

static void test_encode_empty(void **state)
{
    (void)state;
    struct sessions sessions = fresh();
    struct buffer out = {0};
    sessions_encode(&sessions, &out);
    assert_int_equal(out.size, HEADER_BYTES);
    assert_int_equal(get_u32(out.data), 1);
    assert_int_equal(get_u32(out.data + 4), 0);
    assert_int_equal(get_u64(out.data + 8), BUDGET);
    struct sessions loaded;
    sessions_init(&loaded, 1);
    assert_int_equal(sessions_decode(&loaded, buffer_bytes(&out)), ERR_OK);
    assert_int_equal(loaded.count, 0);
    assert_int_equal(loaded.history_bytes_budget, BUDGET); /* the replicated limit rules */
    sessions_free(&loaded);
    buffer_free(&out);
    sessions_free(&sessions);
}

static void test_encode_decode(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 4711);
    struct sessions sessions = fresh();
    for (int i = 0; i < 5000; i++) {
        sessions_admit(&sessions, 1 + random_below(&random, 5), 3, 1 + random_below(&random, 3 * SESSION_WINDOW));
    }
    struct buffer out = {0};
    buffer_append_string(&out, "before"); /* it appends */
    sessions_encode(&sessions, &out);
    assert_int_equal(out.size, 6 + HEADER_BYTES + 5 * SESSION_BYTES);
    struct sessions loaded = fresh();
    assert_true(sessions_admit(&loaded, 77, 1, 1)); /* replaced */
    assert_int_equal(sessions_decode(&loaded, bytes_of(out.data + 6, out.size - 6)), ERR_OK);
    assert_equal_sessions(&sessions, &loaded);
    assert_false(sessions_contains(&loaded, 77, 1, 1));
    /* And it goes on in the same way. */
    for (int i = 0; i < 20000; i++) {
        member_id member = 1 + random_below(&random, 6);
        uint64_t incarnation = 3 + random_chance(&random, 1);
        uint64_t sequence = 1 + random_below(&random, 4 * SESSION_WINDOW);
        assert_int_equal(sessions_admit(&sessions, member, incarnation, sequence),
                         sessions_admit(&loaded, member, incarnation, sequence));
    }
    assert_equal_sessions(&sessions, &loaded);
    sessions_free(&loaded);
    sessions_free(&sessions);
    buffer_free(&out);
}

static void test_damage(void **state)
{
    (void)state;
    struct sessions sessions = fresh();
    sessions_admit(&sessions, 1, 1, 5);
    sessions_admit(&sessions, 2, 1, 6);
    struct buffer out = {0};
    sessions_encode(&sessions, &out);
    struct sessions loaded = fresh();
    /* Cut anywhere. */
    for (size_t size = 0; size < out.size; size += size < 64 || size > out.size - 64 ? 1 : 37) {
        uint8_t *exact = mem_alloc(size + 1);
        memcpy(exact, out.data, size);
        assert_int_equal(sessions_decode(&loaded, bytes_of(exact, size)), ERR_DAMAGED);
        mem_free(exact);
    }
    buffer_append_byte(&out, 0);
    assert_int_equal(sessions_decode(&loaded, buffer_bytes(&out)), ERR_DAMAGED);
    out.size--;
    assert_int_equal(sessions_decode(&loaded, buffer_bytes(&out)), ERR_OK);

    put_u32(out.data, 2);
    assert_int_equal(sessions_decode(&loaded, buffer_bytes(&out)), ERR_BAD_VERSION);
    put_u32(out.data, 0);
    assert_int_equal(sessions_decode(&loaded, buffer_bytes(&out)), ERR_BAD_VERSION);
    put_u32(out.data, 1);

    static const uint32_t counts[] = {0, 1, 3, SESSIONS_MAX, SESSIONS_MAX + 1, 0x7fffffff, UINT32_MAX};
    for (size_t i = 0; i < ARRAY_COUNT(counts); i++) {
        put_u32(out.data + 4, counts[i]);
        assert_int_equal(sessions_decode(&loaded, buffer_bytes(&out)), ERR_DAMAGED);
    }
    put_u32(out.data + 4, 2);

    put_u64(out.data + HEADER_BYTES, 0); /* nobody */
    assert_int_equal(sessions_decode(&loaded, buffer_bytes(&out)), ERR_DAMAGED);
    put_u64(out.data + HEADER_BYTES, 2); /* a member twice: the second would never be found */
    assert_int_equal(sessions_decode(&loaded, buffer_bytes(&out)), ERR_DAMAGED);
    put_u64(out.data + HEADER_BYTES, 1);
    assert_int_equal(sessions_decode(&loaded, buffer_bytes(&out)), ERR_OK);
    assert_equal_sessions(&sessions, &loaded);
    sessions_free(&loaded);
    sessions_free(&sessions);
    buffer_free(&out);
}

static void test_full_table_round_trip(void **state)
{
    (void)state;
    struct sessions sessions = fresh();
    for (member_id member = 1; member <= SESSIONS_MAX; member++) {
        assert_true(sessions_admit(&sessions, member << 32, member, member * 1000));
    }
    struct buffer out = {0};
    sessions_encode(&sessions, &out);
    assert_int_equal(out.size, HEADER_BYTES + SESSIONS_MAX * SESSION_BYTES);
    struct sessions loaded = fresh();
    assert_int_equal(sessions_decode(&loaded, buffer_bytes(&out)), ERR_OK);
    assert_equal_sessions(&sessions, &loaded);
    sessions_free(&loaded);
    sessions_free(&sessions);
    buffer_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_repeats),
        cmocka_unit_test(test_out_of_order),
        cmocka_unit_test(test_incarnations),
        cmocka_unit_test(test_window_edges),
        cmocka_unit_test(test_leaps),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_members_max),
        cmocka_unit_test(test_encode_empty),
        cmocka_unit_test(test_encode_decode),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_full_table_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
