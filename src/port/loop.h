/*
 * loop.h - the port to time and to the turns of the event loop.
 *
 * A turn: the loop delivers everything that is ready (bytes, completions, the timer), then calls
 * `turn_end` once, before it sleeps. Work that many events share, such as one disk write or one
 * send for all of a turn's requests, is done there: batching by being busy.
 *
 * Real: os/loop.c (libuv). Simulated: sim/sim_world.c.
 */
#ifndef CORACLE_PORT_LOOP_H
#define CORACLE_PORT_LOOP_H

#include "base/types.h"

struct loop {
    const struct loop_operations *operations;
};

struct loop_handler {
    void (*timer)(void *user); /* the deadline that was set has passed; it isn't set any more */
    void (*turn_end)(void *user);
};

struct loop_operations {
    /* Monotonic, cached for the turn. */
    time_ns (*now)(struct loop *loop);
    /* Wall-clock time since 1970, for people's eyes only. */
    time_ns (*wall_clock)(struct loop *loop);
    /* There is one timer for each handler; setting it replaces the deadline, TIME_NS_NEVER clears it. */
    void (*set_timer)(struct loop *loop, time_ns deadline);
    void (*attach)(struct loop *loop, const struct loop_handler *handler, void *user);
    /* Ends the loop's run after this turn. The node's exit, see exit_code in node/context.h. */
    void (*stop)(struct loop *loop);
    /* Fills `data` with random bytes from the operating system: the entropy port. */
    void (*entropy)(struct loop *loop, void *data, size_t size);
};

static inline time_ns loop_now(struct loop *loop)
{
    return loop->operations->now(loop);
}
static inline time_ns loop_wall_clock(struct loop *loop)
{
    return loop->operations->wall_clock(loop);
}
static inline void loop_set_timer(struct loop *loop, time_ns deadline)
{
    loop->operations->set_timer(loop, deadline);
}
static inline void loop_attach(struct loop *loop, const struct loop_handler *handler, void *user)
{
    loop->operations->attach(loop, handler, user);
}
static inline void loop_stop(struct loop *loop)
{
    loop->operations->stop(loop);
}
static inline void loop_entropy(struct loop *loop, void *data, size_t size)
{
    loop->operations->entropy(loop, data, size);
}

#endif
