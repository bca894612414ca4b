/*
 * loop.h - the real event loop: libuv, one timer, signals.
 *
 * A turn is: wait until something is ready; deliver all that is ready; then the timer, when its
 * deadline has passed; then what calls of this turn have put off (os_loop_defer); then `turn_end`,
 * once. Bytes go before the timer, so that a process that was paused hears its leader's waiting
 * heartbeats before its own election timeout. A turn in which nothing happened has no `turn_end`.
 *
 * Everything here is used on one thread, the core thread, which is the one that runs the loop.
 */
#ifndef CORACLE_OS_LOOP_H
#define CORACLE_OS_LOOP_H

#include <uv.h>

#include "port/loop.h"

struct os_loop;

/*
 * Ignores SIGPIPE and SIGXFSZ for the whole process: both are errors of the write that caused them.
 * `signalled`, when it isn't NULL, is called on the loop for each SIGINT and SIGTERM; when it is
 * NULL these keep their effect. Never NULL; free it with os_loop_free.
 */
struct os_loop *os_loop_new(void (*signalled)(void *user, int signal_number), void *user);

/* The port; lives as long as the loop. A handler may be replaced, or taken away with NULL. */
struct loop *os_loop_port(struct os_loop *loop);

/*
 * Runs turns until loop_stop. Begins with a `turn_end`, for the work that was prepared before. Outside of a
 * run, loop_now is the real time at each call. May be called again after it returned.
 */
void os_loop_run(struct os_loop *loop);

/*
 * Frees the loop. What uses it (os_net, os_disk_queue) is freed before. A look-up of a name that is
 * still under way after half a second is left alone, together with the loop's memory.
 */
void os_loop_free(struct os_loop *loop);

/* For the other parts of os. */

uv_loop_t *os_loop_uv(struct os_loop *loop);

/* Says that this turn has had an event, and so has a turn_end. Every callback from libuv calls it first. */
void os_loop_note_event(struct os_loop *loop);

/* Something to do later in this turn: reports that must not come from within a call. */
struct os_task {
    void (*run)(struct os_task *task);
    struct os_task *next;
    bool queued; /* between os_loop_defer and `run`; the task must stay alive meanwhile */
};

/* Does nothing when the task is queued already. Deferred from a task itself or from turn_end, it runs in
   the next turn, which then comes without waiting. */
void os_loop_defer(struct os_loop *loop, struct os_task *task);

#endif
