#define _GNU_SOURCE 1
#include "os/loop.h"

#include <errno.h>
#include <signal.h>
#include <sys/random.h>
#include <time.h>

#include "base/check.h"
#include "base/mem.h"

#define FREE_WAIT_MS 500
#define FREE_STEP_MS 5

struct os_loop {
    struct loop port;
    uv_loop_t uv;
    uv_timer_t timer;
    uv_async_t keep_alive; /* libuv doesn't wait when it has no handle to wait for */
    uv_signal_t signals[2];

    const struct loop_handler *handler;
    void *user;
    void (*signalled)(void *user, int signal_number);
    void *signalled_user;

    time_ns now; /* of this turn; 0 until someone asks */
    time_ns deadline;
    bool timer_due; /* libuv's timer has fired for `deadline` */

    struct os_task *tasks;
    struct os_task **tasks_end;

    bool running;
    bool event_noted;
    bool stopping;
};

static struct os_loop *loop_of(struct loop *port)
{
    return (struct os_loop *)port;
}

static time_ns port_now(struct loop *port)
{
    struct os_loop *loop = loop_of(port);
    if (!loop->running) return (time_ns)uv_hrtime();
    if (loop->now == 0) loop->now = (time_ns)uv_hrtime();
    return loop->now;
}

static time_ns port_wall_clock(struct loop *port)
{
    (void)port;
    struct timespec at;
    CHECK(clock_gettime(CLOCK_REALTIME, &at) == 0);
    return (time_ns)at.tv_sec * TIME_NS_PER_S + at.tv_nsec;
}

static void timer_fired(uv_timer_t *timer)
{
    struct os_loop *loop = timer->data;
    loop->timer_due = true;
    /* Timers also fire before libuv waits: this makes it look for events without waiting. */
    uv_stop(&loop->uv);
}

static void port_set_timer(struct loop *port, time_ns deadline)
{
    struct os_loop *loop = loop_of(port);
    if (deadline == loop->deadline) return;
    loop->deadline = deadline;
    loop->timer_due = false;
    if (deadline == TIME_NS_NEVER) {
        uv_timer_stop(&loop->timer);
        return;
    }
    if (deadline < 0) deadline = 0;
    /* libuv counts in whole milliseconds, from a clock that it cached. Rounding up by the absolute
       time means that the deadline has truly passed when the timer fires. */
    uint64_t deadline_ms = (uint64_t)deadline / TIME_NS_PER_MS + (deadline % TIME_NS_PER_MS != 0);
    uint64_t now_ms = uv_now(&loop->uv);
    CHECK(uv_timer_start(&loop->timer, timer_fired, deadline_ms > now_ms ? deadline_ms - now_ms : 0, 0) == 0);
}

static void port_attach(struct loop *port, const struct loop_handler *handler, void *user)
{
    struct os_loop *loop = loop_of(port);
    loop->handler = handler;
    loop->user = user;
}

static void port_stop(struct loop *port)
{
    loop_of(port)->stopping = true;
}

static void port_entropy(struct loop *port, void *data, size_t size)
{
    (void)port;
    uint8_t *at = data;
    while (size > 0) {
        ssize_t got = getrandom(at, size, 0);
        if (got < 0 && errno == EINTR) continue;
        CHECK(got > 0);
        at += got;
        size -= (size_t)got;
    }
}

static const struct loop_operations operations = {
    .now = port_now,
    .wall_clock = port_wall_clock,
    .set_timer = port_set_timer,
    .attach = port_attach,
    .stop = port_stop,
    .entropy = port_entropy,
};

static void signal_arrived(uv_signal_t *handle, int signal_number)
{
    struct os_loop *loop = handle->data;
    os_loop_note_event(loop);
    loop->signalled(loop->signalled_user, signal_number);
}

static void woken(uv_async_t *async)
{
    (void)async;
}

struct os_loop *os_loop_new(void (*signalled)(void *user, int signal_number), void *user)
{
    struct os_loop *loop = mem_alloc_zero(sizeof *loop);
    loop->port.operations = &operations;
    loop->deadline = TIME_NS_NEVER;
    loop->tasks_end = &loop->tasks;
    loop->signalled = signalled;
    loop->signalled_user = user;

    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    CHECK(uv_loop_init(&loop->uv) == 0);
    CHECK(uv_timer_init(&loop->uv, &loop->timer) == 0);
    loop->timer.data = loop;
    CHECK(uv_async_init(&loop->uv, &loop->keep_alive, woken) == 0);
    static const int numbers[ARRAY_COUNT(loop->signals)] = {SIGINT, SIGTERM};
    for (size_t i = 0; i < ARRAY_COUNT(loop->signals); i++) {
        CHECK(uv_signal_init(&loop->uv, &loop->signals[i]) == 0);
        loop->signals[i].data = loop;
        if (signalled != NULL) CHECK(uv_signal_start(&loop->signals[i], signal_arrived, numbers[i]) == 0);
    }
    return loop;
}

struct loop *os_loop_port(struct os_loop *loop)
{
    return &loop->port;
}

uv_loop_t *os_loop_uv(struct os_loop *loop)
{
    return &loop->uv;
}

void os_loop_note_event(struct os_loop *loop)
{
    loop->event_noted = true;
}

void os_loop_defer(struct os_loop *loop, struct os_task *task)
{
    if (task->queued) return;
    task->queued = true;
    task->next = NULL;
    *loop->tasks_end = task;
    loop->tasks_end = &task->next;
}

static void run_timer(struct os_loop *loop)
{
    if (!loop->timer_due) return;
    /* The turn's time may be from before the deadline. */
    loop->now = (time_ns)uv_hrtime();
    CHECK(loop->deadline <= loop->now);
    loop->timer_due = false;
    loop->deadline = TIME_NS_NEVER;
    os_loop_note_event(loop);
    if (loop->handler != NULL && loop->handler->timer != NULL) loop->handler->timer(loop->user);
}

static void run_tasks(struct os_loop *loop)
{
    struct os_task *task = loop->tasks;
    loop->tasks = NULL;
    loop->tasks_end = &loop->tasks;
    while (task != NULL) {
        struct os_task *next = task->next; /* `run` may free the task */
        task->queued = false;
        os_loop_note_event(loop);
        task->run(task);
        task = next;
    }
}

static void end_turn(struct os_loop *loop)
{
    if (loop->event_noted) {
        loop->event_noted = false;
        if (loop->handler != NULL && loop->handler->turn_end != NULL) loop->handler->turn_end(loop->user);
    }
    loop->now = 0;
}

void os_loop_run(struct os_loop *loop)
{
    CHECK(!loop->running);
    loop->running = true;
    /* libuv's clock stood still while nobody ran it. */
    uv_update_time(&loop->uv);
    os_loop_note_event(loop);
    run_tasks(loop);
    end_turn(loop);
    while (!loop->stopping) {
        uv_run(&loop->uv, loop->tasks != NULL ? UV_RUN_NOWAIT : UV_RUN_ONCE);
        run_timer(loop);
        run_tasks(loop);
        end_turn(loop);
    }
    loop->stopping = false;
    loop->running = false;
}

void os_loop_free(struct os_loop *loop)
{
    CHECK(!loop->running);
    uv_close((uv_handle_t *)&loop->timer, NULL);
    uv_close((uv_handle_t *)&loop->keep_alive, NULL);
    for (size_t i = 0; i < ARRAY_COUNT(loop->signals); i++) uv_close((uv_handle_t *)&loop->signals[i], NULL);
    for (int waited_ms = 0; waited_ms <= FREE_WAIT_MS; waited_ms += FREE_STEP_MS) {
        uv_run(&loop->uv, UV_RUN_NOWAIT);
        run_tasks(loop);
        if (uv_loop_close(&loop->uv) == 0) {
            mem_free(loop);
            return;
        }
        uv_sleep(FREE_STEP_MS);
    }
}
