#include "os/loop.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/random.h"

/* A loop whose handler writes down what happens, a word for each thing, and may act on it. */
struct story {
    struct os_loop *loop;
    struct loop *port;
    char text[512];
    int turns;
    int timers;
    void (*on_timer)(struct story *story);
    void (*on_turn_end)(struct story *story);
};

static void tell(struct story *story, const char *word)
{
    size_t size = strlen(story->text);
    snprintf(story->text + size, sizeof story->text - size, "%s%s", size > 0 ? " " : "", word);
}

static void timer(void *user)
{
    struct story *story = user;
    story->timers++;
    tell(story, "timer");
    if (story->on_timer != NULL) story->on_timer(story);
}

static void turn_end(void *user)
{
    struct story *story = user;
    story->turns++;
    tell(story, "end");
    if (story->on_turn_end != NULL) story->on_turn_end(story);
}

static const struct loop_handler handler = {.timer = timer, .turn_end = turn_end};

static void begin(struct story *story)
{
    *story = (struct story){.loop = os_loop_new(NULL, NULL)};
    story->port = os_loop_port(story->loop);
    loop_attach(story->port, &handler, story);
}

static void stop(struct story *story)
{
    loop_stop(story->port);
}

static void in_ms(struct story *story, int64_t ms)
{
    loop_set_timer(story->port, loop_now(story->port) + ms * TIME_NS_PER_MS);
}

/* Counts libuv's rounds: how often the process has woken up. */
static void count_round(uv_prepare_t *prepare)
{
    ++*(int *)prepare->data;
}

static void idle_loop_ends_no_turn_and_does_not_wake_up(void **state)
{
    (void)state;
    struct story story;
    begin(&story);
    int rounds = 0;
    uv_prepare_t prepare;
    uv_prepare_init(os_loop_uv(story.loop), &prepare);
    prepare.data = &rounds;
    uv_prepare_start(&prepare, count_round);
    story.on_timer = stop;
    in_ms(&story, 100);
    os_loop_run(story.loop);
    assert_string_equal(story.text, "end timer end");
    /* One to wait; the kernel's clock may be a little ahead of libuv's, which adds another. */
    assert_in_range(rounds, 1, 4);
    uv_close((uv_handle_t *)&prepare, NULL);
    os_loop_free(story.loop);
}

static void stop_on_first_turn(struct story *story)
{
    if (story->turns == 1) stop(story);
}

static void stop_ends_the_run_after_the_turn(void **state)
{
    (void)state;
    struct story story;
    begin(&story);
    /* Before the run: the turn that prepares is still ended. */
    stop(&story);
    os_loop_run(story.loop);
    assert_string_equal(story.text, "end");

    /* In turn_end itself; and a loop may run again. */
    story.text[0] = 0;
    story.turns = 0;
    story.on_turn_end = stop_on_first_turn;
    loop_set_timer(story.port, 0);
    os_loop_run(story.loop);
    assert_string_equal(story.text, "end");

    /* The timer that was due then comes with the next run. */
    story.text[0] = 0;
    story.on_turn_end = NULL;
    story.on_timer = stop;
    os_loop_run(story.loop);
    assert_string_equal(story.text, "end timer end");
    os_loop_free(story.loop);
}

struct early {
    struct story *story;
    struct random random;
    time_ns deadline;
    int left;
};

static struct early early;

static void set_random_deadline(void)
{
    time_ns now = loop_now(early.story->port);
    /* From 1 ms ago to 3 ms ahead, at any nanosecond. */
    early.deadline = now - TIME_NS_PER_MS + (time_ns)random_below(&early.random, 4 * (uint64_t)TIME_NS_PER_MS);
    loop_set_timer(early.story->port, early.deadline);
}

static void check_not_early(struct story *story)
{
    assert_true(loop_now(story->port) >= early.deadline);
    assert_true((time_ns)uv_hrtime() >= loop_now(story->port));
    if (--early.left == 0) {
        stop(story);
    } else {
        set_random_deadline();
    }
}

static void timer_is_never_early_and_is_never_lost(void **state)
{
    (void)state;
    struct story story;
    begin(&story);
    early = (struct early){.story = &story, .left = 300};
    random_seed(&early.random, 7);
    story.on_timer = check_not_early;
    set_random_deadline();
    os_loop_run(story.loop);
    assert_int_equal(story.timers, 300);
    os_loop_free(story.loop);
}

static void set_past_deadline_once(struct story *story)
{
    if (story->timers < 3) {
        loop_set_timer(story->port, loop_now(story->port) - 1);
    } else {
        stop(story);
    }
}

static void past_deadline_fires_in_the_next_turn(void **state)
{
    (void)state;
    struct story story;
    begin(&story);
    /* From turn_end it needs no other event; from the timer it doesn't come within the same turn. */
    story.on_turn_end = set_past_deadline_once;
    os_loop_run(story.loop);
    assert_string_equal(story.text, "end timer end timer end timer end");

    story.text[0] = 0;
    story.timers = 0;
    story.on_turn_end = NULL;
    story.on_timer = set_past_deadline_once;
    loop_set_timer(story.port, INT64_MIN);
    os_loop_run(story.loop);
    assert_string_equal(story.text, "end timer end timer end timer end");
    os_loop_free(story.loop);
}

static void uv_stop_story(uv_timer_t *end)
{
    struct story *story = end->data;
    os_loop_note_event(story->loop);
    tell(story, "stop");
    stop(story);
}

static void setting_the_timer_replaces_it_and_never_clears_it(void **state)
{
    (void)state;
    struct story story;
    begin(&story);
    uv_timer_t end;
    uv_timer_init(os_loop_uv(story.loop), &end);
    end.data = &story;

    in_ms(&story, 1);
    loop_set_timer(story.port, TIME_NS_NEVER);
    uv_timer_start(&end, uv_stop_story, 20, 0);
    os_loop_run(story.loop);
    assert_string_equal(story.text, "end stop end");

    story.text[0] = 0;
    in_ms(&story, 1);
    in_ms(&story, 60000);
    uv_timer_start(&end, uv_stop_story, 20, 0);
    os_loop_run(story.loop);
    assert_string_equal(story.text, "end stop end");

    story.text[0] = 0;
    in_ms(&story, 60000);
    in_ms(&story, 1);
    story.on_timer = stop;
    os_loop_run(story.loop);
    assert_string_equal(story.text, "end timer end");

    uv_close((uv_handle_t *)&end, NULL);
    os_loop_free(story.loop);
}

static void pipe_ready(uv_poll_t *poll, int status, int events)
{
    struct story *story = poll->data;
    assert_int_equal(status, 0);
    assert_int_equal(events, UV_READABLE);
    os_loop_note_event(story->loop);
    tell(story, "bytes");
    uv_poll_stop(poll);
}

static void waiting_bytes_go_before_an_overdue_timer(void **state)
{
    (void)state;
    struct story story;
    begin(&story);
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "x", 1), 1);
    uv_poll_t poll;
    assert_int_equal(uv_poll_init(os_loop_uv(story.loop), &poll, ends[0]), 0);
    poll.data = &story;
    uv_poll_start(&poll, UV_READABLE, pipe_ready);
    loop_set_timer(story.port, loop_now(story.port) - TIME_NS_PER_S);
    story.on_timer = stop;
    os_loop_run(story.loop);
    assert_string_equal(story.text, "end bytes timer end");
    uv_close((uv_handle_t *)&poll, NULL);
    close(ends[0]);
    close(ends[1]);
    os_loop_free(story.loop);
}

static void clear_timer_when_bytes_come(uv_poll_t *poll, int status, int events)
{
    struct story *story = poll->data;
    pipe_ready(poll, status, events);
    in_ms(story, 60000);
    stop(story);
}

static void bytes_can_put_an_overdue_timer_off(void **state)
{
    (void)state;
    struct story story;
    begin(&story);
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "x", 1), 1);
    uv_poll_t poll;
    assert_int_equal(uv_poll_init(os_loop_uv(story.loop), &poll, ends[0]), 0);
    poll.data = &story;
    uv_poll_start(&poll, UV_READABLE, clear_timer_when_bytes_come);
    loop_set_timer(story.port, loop_now(story.port) - TIME_NS_PER_S);
    os_loop_run(story.loop);
    assert_string_equal(story.text, "end bytes end");
    uv_close((uv_handle_t *)&poll, NULL);
    close(ends[0]);
    close(ends[1]);
    os_loop_free(story.loop);
}

static time_ns seen[2];

static void look_twice(struct story *story)
{
    time_ns before = loop_now(story->port);
    uv_sleep(2);
    assert_true(loop_now(story->port) == before);
    if (story->turns > 2) stop(story);
    seen[story->turns > 2] = before;
    loop_set_timer(story->port, 0);
}

static void time_stands_still_within_a_turn_only(void **state)
{
    (void)state;
    struct story story;
    begin(&story);
    time_ns before = loop_now(story.port);
    uv_sleep(1);
    assert_true(loop_now(story.port) > before); /* nobody runs it */
    story.on_turn_end = look_twice;
    os_loop_run(story.loop);
    assert_true(seen[0] > before);
    assert_true(seen[1] >= seen[0] + TIME_NS_PER_MS);
    os_loop_free(story.loop);
}

struct told_task {
    struct os_task task;
    struct story *story;
    const char *word;
    struct told_task *defers;
};

static void tell_task(struct os_task *task)
{
    struct told_task *told = (struct told_task *)task;
    tell(told->story, told->word);
    if (told->defers != NULL) os_loop_defer(told->story->loop, &told->defers->task);
    mem_free(told);
}

static struct told_task *new_task(struct story *story, const char *word)
{
    struct told_task *told = mem_alloc_zero(sizeof *told);
    *told = (struct told_task){.task = {.run = tell_task}, .story = story, .word = word};
    return told;
}

static void defer_three(struct story *story)
{
    struct told_task *a = new_task(story, "a"), *b = new_task(story, "b"), *c = new_task(story, "c");
    a->defers = c;
    os_loop_defer(story->loop, &a->task);
    os_loop_defer(story->loop, &b->task);
    os_loop_defer(story->loop, &a->task); /* once is enough */
    assert_true(a->task.queued);
    assert_false(c->task.queued);
}

static void defer_one_and_stop_later(struct story *story)
{
    if (story->turns == 3) {
        os_loop_defer(story->loop, &new_task(story, "late")->task);
    } else if (story->turns == 4) {
        stop(story);
    }
}

static void deferred_tasks_run_in_order_before_the_turn_ends(void **state)
{
    (void)state;
    struct story story;
    begin(&story);
    story.on_timer = defer_three;
    story.on_turn_end = defer_one_and_stop_later;
    loop_set_timer(story.port, 0);
    os_loop_run(story.loop);
    /* What a task or turn_end defers comes with the next turn, for which nothing has to happen. */
    assert_string_equal(story.text, "end timer a b end c end late end");
    os_loop_free(story.loop);
}

static void tasks_from_before_the_run_come_first(void **state)
{
    (void)state;
    struct story story;
    begin(&story);
    os_loop_defer(story.loop, &new_task(&story, "a")->task);
    stop(&story);
    os_loop_run(story.loop);
    assert_string_equal(story.text, "a end");
    /* A task that no run has come for is run when the loop is freed: the owner waits for it. */
    os_loop_defer(story.loop, &new_task(&story, "b")->task);
    os_loop_free(story.loop);
    assert_string_equal(story.text, "a end b");
}

static void without_a_handler_the_loop_still_runs(void **state)
{
    (void)state;
    struct story story;
    begin(&story);
    loop_attach(story.port, NULL, NULL);
    uv_timer_t end;
    uv_timer_init(os_loop_uv(story.loop), &end);
    end.data = &story;
    uv_timer_start(&end, uv_stop_story, 5, 0);
    loop_set_timer(story.port, 0);
    os_loop_run(story.loop);
    assert_string_equal(story.text, "stop");
    uv_close((uv_handle_t *)&end, NULL);
    os_loop_free(story.loop);
}

static struct story *signalled_story;

static void signalled(void *user, int number)
{
    assert_ptr_equal(user, &signalled_story);
    tell(signalled_story, number == SIGTERM ? "TERM" : number == SIGINT ? "INT" : "?");
    if (number == SIGINT) stop(signalled_story);
}

static void raise_signals(struct story *story)
{
    if (story->turns == 1) raise(SIGTERM);
    if (story->turns == 2) raise(SIGINT);
}

static void signals_arrive_as_events(void **state)
{
    (void)state;
    struct story story = {.loop = os_loop_new(signalled, &signalled_story)};
    story.port = os_loop_port(story.loop);
    signalled_story = &story;
    loop_attach(story.port, &handler, &story);
    story.on_turn_end = raise_signals;
    os_loop_run(story.loop);
    assert_string_equal(story.text, "end TERM end INT end");
    os_loop_free(story.loop);
}

static void without_a_callback_signals_keep_their_effect(void **state)
{
    (void)state;
    struct os_loop *loop = os_loop_new(NULL, NULL);
    struct sigaction action;
    assert_int_equal(sigaction(SIGTERM, NULL, &action), 0);
    assert_true(action.sa_handler == SIG_DFL);
    assert_int_equal(sigaction(SIGINT, NULL, &action), 0);
    assert_true(action.sa_handler == SIG_DFL);
    os_loop_free(loop);
}

static void writing_to_a_closed_pipe_is_an_error_and_no_signal(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_DFL);
    struct os_loop *loop = os_loop_new(NULL, NULL);
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    close(ends[0]);
    assert_int_equal(write(ends[1], "x", 1), -1);
    assert_int_equal(errno, EPIPE);
    close(ends[1]);
    os_loop_free(loop);
}

static void entropy_fills_all_and_differs(void **state)
{
    (void)state;
    struct os_loop *loop = os_loop_new(NULL, NULL);
    enum { SIZE = 100000 };
    uint8_t *a = mem_alloc_zero(SIZE), *b = mem_alloc_zero(SIZE);
    loop_entropy(os_loop_port(loop), a, 0);
    assert_int_equal(a[0], 0);
    loop_entropy(os_loop_port(loop), a, SIZE);
    loop_entropy(os_loop_port(loop), b, SIZE);
    /* Any 16 bytes that are equal, or all zero, would be a chance of 2^-128. */
    static const uint8_t zero[16];
    for (size_t i = 0; i + 16 <= SIZE; i += 16) {
        assert_memory_not_equal(a + i, b + i, 16);
        assert_memory_not_equal(a + i, zero, 16);
    }
    mem_free(a);
    mem_free(b);
    os_loop_free(loop);
}

static void wall_clock_is_the_systems(void **state)
{
    (void)state;
    struct os_loop *loop = os_loop_new(NULL, NULL);
    time_t before = time(NULL);
    time_ns at = loop_wall_clock(os_loop_port(loop));
    /* time() may lag behind the precise clock by a tick. */
    assert_in_range(at / TIME_NS_PER_S, before, time(NULL) + 1);
    os_loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(idle_loop_ends_no_turn_and_does_not_wake_up),
        cmocka_unit_test(stop_ends_the_run_after_the_turn),
        cmocka_unit_test(timer_is_never_early_and_is_never_lost),
        cmocka_unit_test(past_deadline_fires_in_the_next_turn),
        cmocka_unit_test(setting_the_timer_replaces_it_and_never_clears_it),
        cmocka_unit_test(waiting_bytes_go_before_an_overdue_timer),
        cmocka_unit_test(bytes_can_put_an_overdue_timer_off),
        cmocka_unit_test(time_stands_still_within_a_turn_only),
        cmocka_unit_test(deferred_tasks_run_in_order_before_the_turn_ends),
        cmocka_unit_test(tasks_from_before_the_run_come_first),
        cmocka_unit_test(without_a_handler_the_loop_still_runs),
        cmocka_unit_test(signals_arrive_as_events),
        cmocka_unit_test(without_a_callback_signals_keep_their_effect),
        cmocka_unit_test(writing_to_a_closed_pipe_is_an_error_and_no_signal),
        cmocka_unit_test(entropy_fills_all_and_differs),
        cmocka_unit_test(wall_clock_is_the_systems),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
