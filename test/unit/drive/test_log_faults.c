/*
 * The log manager, with the power failing or an operation failing at every point of a life: what was acknowledged is there
 * after the next start, and a crash alone never leaves a log that is uncertain.
 */
#include "log_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define KIB 1024u

static struct bench bench;
static unsigned crash_count, torn_count, lost_write_count,
    kept_write_count; /* that the tests reach what they are about */

static bool alive(void)
{
    return !bench.rig.disk.dead && bench.failed_count == 0;
}

/* Runs jobs until the write is done; then perhaps a few of the others. */
static void run_write(unsigned before)
{
    while (alive() && bench.written_count == before && rig_run_one(&bench.rig)) continue;
    /* Only a full disk keeps a write waiting. */
    if (alive() && bench.written_count == before) {
        assert_true(bench.full_count > bench.not_full_count);
        log_manager_tick(bench.manager);
        while (alive() && bench.written_count == before && rig_run_one(&bench.rig)) continue;
        if (alive()) assert_int_equal(bench.written_count, before + 1);
    }
    uint64_t more = random_below(&bench.random, 4);
    for (uint64_t i = 0; alive() && i < more; i++) rig_run_one(&bench.rig);
}

static void step(void)
{
    struct random *random = &bench.random;
    raft_index last = bench.log.last_index;
    unsigned before = bench.written_count;
    uint64_t choice = random_below(random, 100);
    if (choice < 60) {
        bench_begin_write(&bench, last, 1 + (unsigned)random_below(random, 4), (size_t)random_below(random, 5000));
        run_write(before);
    } else if (choice < 64) {
        bench_begin_write(&bench, last, 1, 40 * KIB + (size_t)random_below(random, 60 * KIB));
        run_write(before);
    } else if (choice < 74) {
        bench.term++;
        raft_index previous = random_between(random, bench.commit, last);
        bench_begin_write(&bench, previous, 1 + (unsigned)random_below(random, 3), (size_t)random_below(random, 3000));
        run_write(before);
    } else if (choice < 84) {
        bench.commit = random_between(random, bench.commit, last);
        bench_snapshot(&bench, random_between(random, bench.log.base_index, bench.commit));
        log_manager_remove_before(bench.manager, bench.log.base_index, random_chance(random, 300) ? 100 * KIB : 0);
    } else if (choice < 87) {
        unsigned resets = bench.reset_count;
        bench_begin_reset(&bench, bench.commit + 1 + random_below(random, 20));
        while (alive() && bench.reset_count == resets && rig_run_one(&bench.rig)) continue;
        if (alive() && bench.reset_count == resets) {
            assert_true(bench.full_count > bench.not_full_count);
            log_manager_tick(bench.manager);
        }
        while (alive() && bench.reset_count == resets && rig_run_one(&bench.rig)) continue;
        if (alive()) assert_int_equal(bench.reset_count, resets + 1);
    } else if (choice < 92) {
        log_manager_tick(bench.manager);
    } else if (choice < 96) {
        rig_run(&bench.rig);
    } else if (last > bench.log.base_index) {
        bench.commit = random_between(random, bench.commit, last);
        raft_index first = random_between(random, bench.log.base_index + 1, last);
        uint32_t count = bench_read(&bench, first, last, UINT64_MAX);
        if (alive()) assert_int_equal(count, last - first + 1);
    }
}

static void live(unsigned steps)
{
    for (unsigned i = 0; i < steps && alive(); i++) step();
}

/* Starts, with the fault that is set; again without one if it came to that. */
static void start_again(bool power_loss)
{
    bench_restart(&bench, power_loss);
    bench.term++; /* as after any election */
    raft_index acknowledged = bench.log.last_index;
    bool begun = bench.log.entries[acknowledged].chain != bench.next.entries[bench.next.last_index].chain;
    bench_recover_ok(&bench, LOG_TORN);
    if (bench.result.outcome == LOG_TORN) torn_count++;
    if (begun && bench.log.last_index == acknowledged) lost_write_count++;
    if (begun && bench.log.last_index != acknowledged) kept_write_count++;
}

/* Recovery in which the power fails too, any number of times. */
static void start_through_crashes(void)
{
    bench_restart(&bench, true);
    while (random_chance(&bench.random, 600)) {
        bench.rig.disk.crash_at = bench.rig.disk.counters.operations + 1 + random_below(&bench.random, 6);
        enum error error = bench_recover(&bench);
        if (error != ERR_OK) {
            assert_true(bench.rig.disk.dead);
            crash_count++;
        }
        bench_restart(&bench, true);
    }
    start_again(true);
}

static void test_a_crash_at_every_operation(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 2; seed++) {
        bool crashed = true;
        for (uint64_t at = 1; crashed; at++) {
            bench_init(&bench, seed, 64 * KIB);
            bench.rig.disk.crash_at = at;
            if (bench_recover(&bench) == ERR_OK) live(70);
            crashed = bench.rig.disk.dead;
            crash_count += crashed;
            start_again(true);
            live(8);
            rig_run(&bench.rig);
            start_again(true);
            bench_free(&bench);
        }
    }
    assert_true(crash_count > 200);
    assert_true(torn_count > 15);
    assert_true(lost_write_count > 15);
    assert_true(kept_write_count > 15);
}

/* One crash after the other, in the midst of what recovery of the one before left. */
static void test_many_crashes(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        /* The larger ones take several slices to fill. */
        bench_init(&bench, seed, seed % 10 == 0 ? 2500 * KIB : 64 * KIB);
        bench_recover_ok(&bench, LOG_CLEAN);
        for (unsigned round = 0; round < 8; round++) {
            bench.rig.disk.crash_at = bench.rig.disk.counters.operations + 1 + random_below(&bench.random, 80);
            live(50);
            crash_count += bench.rig.disk.dead;
            start_through_crashes();
        }
        bench_free(&bench);
    }
}

/* The process ends, and the machine goes on. */
static void test_killed_processes(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        bench_init(&bench, seed, 64 * KIB);
        bench_recover_ok(&bench, LOG_CLEAN);
        for (unsigned round = 0; round < 6; round++) {
            bench.rig.disk.crash_at = bench.rig.disk.counters.operations + 1 + random_below(&bench.random, 80);
            live(50);
            start_again(random_chance(&bench.random, 300));
        }
        bench_free(&bench);
    }
}

static void fail_everywhere(enum error error)
{
    unsigned failed_count = 0, full_count = 0, refused_count = 0;
    for (uint64_t seed = 1; seed <= 2; seed++) {
        bool failed = true;
        for (uint64_t at = 1; failed; at++) {
            bench_init(&bench, seed, 64 * KIB);
            bench.rig.disk.fail_at = at;
            bench.rig.disk.fail_with = error;
            enum error start = bench_recover(&bench);
            if (start == ERR_OK) live(70);
            failed = bench.rig.disk.counters.failures > 0;
            if (start != ERR_OK) {
                assert_int_equal(start, error);
                refused_count++;
            } else if (failed && error == ERR_NO_SPACE && bench.failed_count == 0) {
                assert_true(bench.full_count >= 1);
                full_count++;
            } else if (failed) {
                /* Final, said once, by name; what waits is never written. */
                assert_int_equal(bench.failed_count, 1);
                assert_non_null(strstr(bench.failed_text, LOG_DIRECTORY));
                rig_run(&bench.rig);
                uint64_t operations = bench.rig.disk.counters.operations;
                unsigned written = bench.written_count;
                struct model_log next = bench.next;
                bench_begin_write(&bench, bench.log.last_index, 1, 10);
                bench.next = next;
                log_manager_remove_before(bench.manager, bench.log.base_index, 0);
                log_manager_tick(bench.manager);
                rig_run(&bench.rig);
                assert_int_equal(bench.rig.disk.counters.operations, operations);
                assert_int_equal(bench.written_count, written);
                assert_int_equal(bench.failed_count, 1);
                assert_true(log_manager_idle(bench.manager));
                failed_count++;
            }
            start_again(at % 2 == 0);
            live(8);
            rig_run(&bench.rig);
            start_again(true);
            bench_free(&bench);
        }
    }
    assert_true(refused_count > 3);
    assert_true(failed_count > 70);
    if (error == ERR_NO_SPACE) assert_true(full_count > 14);
}

static void test_a_failure_at_every_operation(void **state)
{
    (void)state;
    fail_everywhere(ERR_IO);
}

static void test_no_room_at_every_operation(void **state)
{
    (void)state;
    fail_everywhere(ERR_NO_SPACE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_crash_at_every_operation), cmocka_unit_test(test_many_crashes),
        cmocka_unit_test(test_killed_processes),           cmocka_unit_test(test_a_failure_at_every_operation),
        cmocka_unit_test(test_no_room_at_every_operation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
