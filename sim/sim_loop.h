/*
 * sim_loop.h - port/loop.h for one simulated process: its clock, its timer, the ends of its turns, its entropy.
 *
 * A turn gathers what happens to the process within a moment: it ends at once or up to SIM_TURN_NS_MAX later, so batches of
 * all sizes occur. A process's clock runs at a rate of its own and begins where it likes. The wall clock may jump, which the
 * monotonic one doesn't show, as on a machine whose time is set.
 */
#ifndef CORACLE_SIM_LOOP_H
#define CORACLE_SIM_LOOP_H

#include "port/loop.h"
#include "sim/sim_world.h"

#define SIM_TURN_NS_MAX ((time_ns)100 * 1000)
/* Clocks run at most this much too fast or too slow, in millionths. */
#define SIM_DRIFT_PPM_MAX 500

struct sim_loop {
    struct loop loop; /* first: the port is cast to this */
    struct sim_world *world;
    unsigned process;
    const struct loop_handler *handler;
    void *user;
    struct sim_event timer;
    struct sim_event turn;
    struct random random;
    struct random entropy_random;
    time_ns offset;
    time_ns wall_offset; /* how far the wall clock was set wrong, since the beginning */
    int64_t drift_ppm;
    bool stopped;
    void (*turn_ended)(void *user, unsigned process); /* for checkers; NULL: none */
    void *turn_ended_user;
};

void sim_loop_init(struct sim_loop *loop, struct sim_world *world, unsigned process);
/* The process is gone: nothing of it happens any more, until the next attach. A restarted process reads another
   monotonic clock, further on. */
void sim_loop_detach(struct sim_loop *loop);

/* Sets the wall clock forward, or back. */
void sim_loop_jump(struct sim_loop *loop, time_ns by);

#endif
