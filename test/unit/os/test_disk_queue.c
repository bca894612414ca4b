#include "os/disk_queue.h"

#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/random.h"
#include "os/disk.h"

#define JOBS_MAX 20000

struct test {
    struct os_loop *loop;
    struct os_disk disk;
    struct os_disk_queue *queue;
    struct disk_queue *port;
    pthread_t core;

    /* Written by the writer, read here after the completion that follows. */
    int ran[JOBS_MAX * 2];
    size_t ran_count;

    int done[JOBS_MAX * 2];
    size_t done_count;
    size_t stop_at; /* completions */
    int turns;
    void (*on_turn_end)(struct test *test);
    struct random random;
    size_t resubmit_left;
    size_t submitted;
};

struct numbered_job {
    struct disk_job job;
    struct test *test;
    int number;
    sem_t *gate; /* what `run` waits for */
};

static struct test test;

static void run(struct disk_job *job, struct disk *disk)
{
    struct numbered_job *numbered = (struct numbered_job *)job;
    /* CHECK, as cmocka's assertions are for the thread that runs the test. */
    CHECK(disk == &numbered->test->disk.port);
    CHECK(!pthread_equal(pthread_self(), numbered->test->core));
    if (numbered->gate != NULL) {
        while (sem_wait(numbered->gate) != 0) {}
    }
    numbered->test->ran[numbered->test->ran_count++] = numbered->number;
}

static void done(struct disk_job *job)
{
    struct numbered_job *numbered = (struct numbered_job *)job;
    struct test *of = numbered->test;
    assert_true(pthread_equal(pthread_self(), of->core));
    of->done[of->done_count++] = numbered->number;
    if (of->done_count == of->stop_at) loop_stop(os_loop_port(of->loop));
    mem_free(numbered); /* as a user may */
}

static struct numbered_job *new_job(int number, bool urgent)
{
    struct numbered_job *numbered = mem_alloc_zero(sizeof *numbered);
    *numbered =
        (struct numbered_job){.job = {.run = run, .done = done, .urgent = urgent}, .test = &test, .number = number};
    return numbered;
}

static void submit(int number, bool urgent)
{
    test.submitted++;
    disk_submit(test.port, &new_job(number, urgent)->job);
}

static void turn_end(void *user)
{
    struct test *of = user;
    of->turns++;
    if (of->on_turn_end != NULL) of->on_turn_end(of);
}

static const struct loop_handler handler = {.turn_end = turn_end};

static int begin(void **state)
{
    (void)state;
    memset(&test, 0, sizeof test);
    test.core = pthread_self();
    test.loop = os_loop_new(NULL, NULL);
    loop_attach(os_loop_port(test.loop), &handler, &test);
    os_disk_init(&test.disk);
    test.queue = os_disk_queue_new(test.loop, &test.disk.port);
    test.port = os_disk_queue_port(test.queue);
    return 0;
}

static int end(void **state)
{
    (void)state;
    os_loop_free(test.loop);
    return 0;
}

static void finish(void)
{
    os_disk_queue_free(test.queue);
    assert_int_equal(test.done_count, test.submitted);
    assert_int_equal(test.ran_count, test.submitted);
    assert_memory_equal(test.done, test.ran, test.ran_count * sizeof test.ran[0]);
}

static void jobs_run_in_order_and_urgent_ones_first(void **state)
{
    (void)state;
    sem_t gate;
    sem_init(&gate, 0, 0);
    struct numbered_job *first = new_job(0, false);
    first->gate = &gate;
    test.submitted++;
    disk_submit(test.port, &first->job);
    /* The writer either waits at the gate or hasn't begun; an ordinary job that it had not begun would come last. */
    submit(1, false);
    submit(2, true);
    submit(3, false);
    submit(4, true);
    submit(5, true);
    submit(6, false);
    sem_post(&gate);
    test.stop_at = 7;
    os_loop_run(test.loop);
    finish();
    static const int begun[] = {0, 2, 4, 5, 1, 3, 6}, not_begun[] = {2, 4, 5, 0, 1, 3, 6};
    if (test.ran[0] == 0) {
        assert_memory_equal(test.done, begun, sizeof begun);
    } else {
        assert_memory_equal(test.done, not_begun, sizeof not_begun);
    }
    sem_destroy(&gate);
}

static void an_idle_writer_starts_at_once_whatever_the_kind(void **state)
{
    (void)state;
    for (int i = 0; i < 200; i++) {
        submit(i, i % 3 == 0);
        test.stop_at = test.submitted;
        os_loop_run(test.loop);
        assert_int_equal(test.done_count, i + 1);
        assert_int_equal(test.done[i], i);
    }
    finish();
}

/* The loop thread is busy until the writer has run all; so all completions are waiting at once. */
static void wait_for_the_writer(struct test *of)
{
    if (of->turns > 1) return;
    sem_t gate;
    sem_init(&gate, 0, 0);
    struct numbered_job *last = new_job(1000, false);
    for (int i = 0; i < 1000; i++) submit(i, true);
    last->gate = &gate;
    of->submitted++;
    disk_submit(of->port, &last->job);
    sem_post(&gate);
    for (;;) {
        int value;
        sem_getvalue(&gate, &value);
        if (value == 0) break; /* the last one is through */
        uv_sleep(1);
    }
    sem_destroy(&gate);
    of->stop_at = of->submitted;
}

static void completions_share_a_turn(void **state)
{
    (void)state;
    test.on_turn_end = wait_for_the_writer;
    os_loop_run(test.loop);
    assert_int_equal(test.done_count, 1001);
    /* The turn that submitted, the one for all completions, and perhaps one for the last. */
    assert_in_range(test.turns, 2, 3);
    finish();
}

static void resubmit_at_random(struct disk_job *job)
{
    struct numbered_job *numbered = (struct numbered_job *)job;
    struct test *of = numbered->test;
    of->done[of->done_count++] = numbered->number;
    if (of->resubmit_left > 0 && random_chance(&of->random, 700)) {
        of->resubmit_left--;
        numbered->number = (int)of->submitted++;
        numbered->job.urgent = random_chance(&of->random, 500);
        disk_submit(of->port, &numbered->job);
        if (random_chance(&of->random, 300)) {
            struct numbered_job *more = new_job((int)of->submitted++, random_chance(&of->random, 500));
            more->job.done = resubmit_at_random;
            disk_submit(of->port, &more->job);
        }
        return;
    }
    mem_free(numbered);
    if (of->done_count == of->submitted) loop_stop(os_loop_port(of->loop));
}

static void every_job_is_done_once_under_random_load(void **state)
{
    (void)state;
    random_seed(&test.random, 11);
    test.resubmit_left = JOBS_MAX / 2;
    for (int i = 0; i < 1000; i++) {
        struct numbered_job *job = new_job((int)test.submitted++, random_chance(&test.random, 500));
        job->job.done = resubmit_at_random;
        disk_submit(test.port, &job->job);
    }
    os_loop_run(test.loop);
    assert_true(test.submitted > JOBS_MAX / 4);
    size_t total = test.submitted;
    finish();
    static bool seen[JOBS_MAX * 2];
    memset(seen, 0, sizeof seen);
    for (size_t i = 0; i < total; i++) {
        assert_in_range(test.done[i], 0, total - 1);
        assert_false(seen[test.done[i]]);
        seen[test.done[i]] = true;
    }
}

static void chain_three(struct disk_job *job)
{
    struct numbered_job *numbered = (struct numbered_job *)job;
    struct test *of = numbered->test;
    int number = numbered->number;
    done(job);
    if (number < 3) {
        struct numbered_job *next = new_job(number + 1, number % 2 == 0);
        next->job.done = chain_three;
        of->submitted++;
        disk_submit(of->port, &next->job);
    }
}

static void run_anywhere(struct disk_job *job, struct disk *disk)
{
    (void)disk;
    struct numbered_job *numbered = (struct numbered_job *)job;
    numbered->test->ran[numbered->test->ran_count++] = numbered->number;
}

static void chain_on_any_thread(struct disk_job *job)
{
    struct numbered_job *numbered = (struct numbered_job *)job;
    struct test *of = numbered->test;
    int number = numbered->number;
    done(job);
    if (number < 3) {
        struct numbered_job *next = new_job(number + 1, number % 2 == 0);
        next->job.run = run_anywhere;
        next->job.done = chain_on_any_thread;
        of->submitted++;
        disk_submit(of->port, &next->job);
    }
}

static void freeing_runs_all_without_the_loop(void **state)
{
    (void)state;
    for (int i = 100; i < 600; i++) submit(i, i % 2 == 0);
    struct numbered_job *chained = new_job(0, false);
    chained->job.run = run_anywhere;
    chained->job.done = chain_on_any_thread;
    test.submitted++;
    disk_submit(test.port, &chained->job);
    finish();
    assert_int_equal(test.done_count, 504); /* with the three that the chain submitted */
    assert_int_equal(test.done[503], 3);
}

static void freeing_an_unused_queue_is_fine(void **state)
{
    (void)state;
    finish();
    assert_int_equal(test.done_count, 0);
}

static void a_chain_makes_progress_from_completion_to_completion(void **state)
{
    (void)state;
    struct numbered_job *chained = new_job(0, true);
    chained->job.done = chain_three;
    test.submitted++;
    disk_submit(test.port, &chained->job);
    test.stop_at = 4;
    os_loop_run(test.loop);
    finish();
    assert_int_equal(test.done_count, 4);
}

static sigset_t writers_mask;

static void look_at_mask(struct disk_job *job, struct disk *disk)
{
    run(job, disk);
    pthread_sigmask(SIG_SETMASK, NULL, &writers_mask);
}

static void the_writer_takes_no_signals(void **state)
{
    (void)state;
    struct numbered_job *job = new_job(0, true);
    job->job.run = look_at_mask;
    test.submitted++;
    disk_submit(test.port, &job->job);
    finish();
    assert_int_equal(sigismember(&writers_mask, SIGTERM), 1);
    assert_int_equal(sigismember(&writers_mask, SIGINT), 1);
    sigset_t own;
    pthread_sigmask(SIG_SETMASK, NULL, &own);
    assert_int_equal(sigismember(&own, SIGTERM), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(jobs_run_in_order_and_urgent_ones_first, begin, end),
        cmocka_unit_test_setup_teardown(an_idle_writer_starts_at_once_whatever_the_kind, begin, end),
        cmocka_unit_test_setup_teardown(completions_share_a_turn, begin, end),
        cmocka_unit_test_setup_teardown(every_job_is_done_once_under_random_load, begin, end),
        cmocka_unit_test_setup_teardown(freeing_runs_all_without_the_loop, begin, end),
        cmocka_unit_test_setup_teardown(freeing_an_unused_queue_is_fine, begin, end),
        cmocka_unit_test_setup_teardown(a_chain_makes_progress_from_completion_to_completion, begin, end),
        cmocka_unit_test_setup_teardown(the_writer_takes_no_signals, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
