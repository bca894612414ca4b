/* The window of repeats: an identity is admitted once, whatever comes in between, and across a snapshot. */
#include "replica/sessions.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/random.h"

static void test_once(void **state)
{
    (void)state;
    struct sessions sessions;
    sessions_init(&sessions, 1);
    assert_true(sessions_admit(&sessions, 7, 1, 1));
    assert_false(sessions_admit(&sessions, 7, 1, 1));
    assert_true(sessions_admit(&sessions, 8, 1, 1)); /* another member's */
    assert_true(sessions_admit(&sessions, 7, 1, 5)); /* out of order */
    assert_true(sessions_admit(&sessions, 7, 1, 3));
    assert_false(sessions_admit(&sessions, 7, 1, 3));
    assert_false(sessions_contains(&sessions, 7, 1, 4));
    assert_true(sessions_contains(&sessions, 7, 1, 5));
    sessions_free(&sessions);
}

static void test_incarnations(void **state)
{
    (void)state;
    struct sessions sessions;
    sessions_init(&sessions, 1);
    assert_true(sessions_admit(&sessions, 7, 2, 100));
    assert_false(sessions_admit(&sessions, 7, 1, 101)); /* of an older life */
    assert_true(sessions_admit(&sessions, 7, 3, 1));    /* a newer one begins anew */
    assert_false(sessions_admit(&sessions, 7, 2, 102));
    assert_false(sessions_admit(&sessions, 7, 3, 1));
    sessions_free(&sessions);
}

static void test_window(void **state)
{
    (void)state;
    struct sessions sessions;
    sessions_init(&sessions, 1);
    uint64_t far = 10ull * SESSION_WINDOW;
    assert_true(sessions_admit(&sessions, 7, 1, 1));
    assert_true(sessions_admit(&sessions, 7, 1, far));
    assert_false(sessions_admit(&sessions, 7, 1, far - SESSION_WINDOW)); /* too old to tell */
    assert_true(sessions_admit(&sessions, 7, 1, far - SESSION_WINDOW + 1));
    assert_false(sessions_admit(&sessions, 7, 1, far - SESSION_WINDOW + 1));
    assert_false(sessions_admit(&sessions, 7, 1, 2));
    assert_true(sessions_admit(&sessions, 7, 1, far + 1));
    assert_false(sessions_admit(&sessions, 7, 1, far));
    sessions_free(&sessions);
}

/* Against a plain table of what was admitted. */
static void test_random(void **state)
{
    (void)state;
    enum { SEQUENCES = 60000 };
    static bool admitted[SEQUENCES];
    struct random random;
    random_seed(&random, 42);
    struct sessions sessions;
    sessions_init(&sessions, 1);
    uint64_t highest = 0;
    for (unsigned i = 0; i < 200000; i++) {
        uint64_t low = highest > 20000 ? highest - 20000 : 1;
        uint64_t sequence = random_between(&random, random_chance(&random, 500) ? highest + 1 : low, highest + 3);
        if (sequence >= SEQUENCES) break;
        bool expected = !admitted[sequence] && sequence + SESSION_WINDOW > highest;
        assert_int_equal(sessions_admit(&sessions, 9, 4, sequence), expected);
        if (expected) admitted[sequence] = true;
        if (expected && sequence > highest) highest = sequence;
    }
    assert_true(highest > SESSION_WINDOW);
    sessions_free(&sessions);
}

static void test_encoding(void **state)
{
    (void)state;
    struct sessions sessions, copy;
    sessions_init(&sessions, 12345);
    sessions_init(&copy, 1);
    for (uint64_t i = 1; i < 40000; i += 3) sessions_admit(&sessions, 1 + i % 5, 1 + i % 5, i);
    struct buffer out = {0};
    sessions_encode(&sessions, &out);
    assert_int_equal(sessions_decode(&copy, buffer_bytes(&out)), ERR_OK);
    assert_int_equal(copy.history_bytes_budget, 12345);
    for (uint64_t i = 1; i < 40100; i++) {
        for (member_id member = 1; member <= 6; member++) {
            assert_int_equal(sessions_contains(&copy, member, member, i),
                             sessions_contains(&sessions, member, member, i));
        }
    }
    struct buffer again = {0};
    sessions_encode(&copy, &again);
    assert_true(bytes_equal(buffer_bytes(&out), buffer_bytes(&again)));
    for (size_t size = 0; size < out.size; size += 97) {
        assert_int_equal(sessions_decode(&copy, bytes_of(out.data, size)), ERR_DAMAGED);
    }
    out.data[0]++;
    assert_int_equal(sessions_decode(&copy, buffer_bytes(&out)), ERR_BAD_VERSION);
    out.data[0]--;
    put_u32(out.data + 4, SESSIONS_MAX + 1);
    assert_int_equal(sessions_decode(&copy, buffer_bytes(&out)), ERR_DAMAGED);
    buffer_append_byte(&again, 0);
    assert_int_equal(sessions_decode(&copy, buffer_bytes(&again)), ERR_DAMAGED);
    buffer_free(&out);
    buffer_free(&again);
    sessions_free(&sessions);
    sessions_free(&copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_once),   cmocka_unit_test(test_incarnations), cmocka_unit_test(test_window),
        cmocka_unit_test(test_random), cmocka_unit_test(test_encoding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
