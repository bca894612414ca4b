/*
 * sim_world.h - simulated time: one queue of events, one seed, one trace hash.
 *
 * A run is a sequence of events in the order of (time, order of scheduling). Nothing else makes anything happen, and
 * every random choice comes from a generator that was derived from the world's seed; so the same seed gives the same
 * run. The trace hash folds in every event, and what the parts add by sim_world_fold; two runs of a seed must agree on it.
 *
 * Events are embedded in what they belong to (a stream's direction, a node's timer, a disk's queue), so scheduling
 * allocates nothing, and cancelling is exact.
 *
 * A process is a number below SIM_PROCESSES_MAX: the nodes first, then, from SIM_NODES_MAX on, the clients. While one is
 * paused, as by SIGSTOP, its events wait, in order.
 */
#ifndef CORACLE_SIM_WORLD_H
#define CORACLE_SIM_WORLD_H

#include "base/bytes.h"
#include "base/random.h"
#include "base/types.h"
#include "sim/sim_trace.h"

#define SIM_NODES_MAX 8u
#define SIM_PROCESSES_MAX 40u
#define SIM_NO_PROCESS 0xffffu

/* What happened; part of the trace. */
enum sim_event_kind {
    SIM_EVENT_TIMER = 1,
    SIM_EVENT_TURN,
    SIM_EVENT_DISK_RUN,
    SIM_EVENT_DISK_DONE,
    SIM_EVENT_CONNECT,
    SIM_EVENT_CONNECTED,
    SIM_EVENT_RECEIVE,
    SIM_EVENT_DRAINED,
    SIM_EVENT_CLIENT,
    SIM_EVENT_NEMESIS,
    SIM_EVENT_PROCESS,
    SIM_EVENT_OTHER,
};

/* Zero but for `run`, `kind` and `process` before it is scheduled first. Lives until it ran or was cancelled. */
struct sim_event {
    void (*run)(struct sim_event *event);
    time_ns at;
    uint32_t position; /* in the queue, from 1; 0: not scheduled */
    uint16_t kind;     /* enum sim_event_kind */
    uint16_t process;  /* that it happens in; SIM_NO_PROCESS: nobody's */
};

struct sim_queue_slot {
    time_ns at;
    uint64_t sequence;
    struct sim_event *event;
};

struct sim_world {
    uint64_t seed;
    time_ns now;
    uint64_t event_count;
    uint64_t trace_hash;
    struct sim_trace *trace; /* the owner's; NULL: no lines are made */

    /* Called after an event ran in a process, but for SIM_EVENT_TURN and SIM_EVENT_DISK_RUN: it owes a turn end. */
    void (*touched[SIM_PROCESSES_MAX])(void *user);
    void *touched_user[SIM_PROCESSES_MAX];

    struct sim_queue_slot *queue; /* a binary heap, from index 1 */
    uint32_t queue_count, queue_capacity;
    uint64_t sequence;
    time_ns paused_until[SIM_PROCESSES_MAX];
};

void sim_world_init(struct sim_world *world, uint64_t seed);
void sim_world_free(struct sim_world *world);

/* A generator of its own for a part, so that one part's draws don't shift another's. */
void sim_world_random(const struct sim_world *world, const char *part, uint64_t number, struct random *out);

/* Schedules, or moves, the event; a time in the past means now. */
void sim_world_schedule(struct sim_world *world, struct sim_event *event, time_ns at);
/* No effect when it isn't scheduled. */
void sim_world_cancel(struct sim_world *world, struct sim_event *event);
static inline bool sim_event_scheduled(const struct sim_event *event)
{
    return event->position != 0;
}

/* Runs the next event; false when there is none at or before `until` (then now == until). */
bool sim_world_step(struct sim_world *world, time_ns until);

/* A time up to this: short ones and long ones, each order of magnitude is as likely. */
static inline time_ns sim_up_to(struct random *random, time_ns limit)
{
    time_ns scale = limit >> random_below(random, 8);
    return (time_ns)random_below(random, (uint64_t)scale + 1);
}

/* The process stands still until then. */
void sim_world_pause(struct sim_world *world, unsigned process, time_ns until);

/* Adds to the trace hash. */
void sim_world_fold(struct sim_world *world, uint64_t value);
void sim_world_fold_bytes(struct sim_world *world, const void *data, size_t size);

/* A line of the trace, when it is on: time, process, text; each node in a column of its own. */
void sim_world_note(struct sim_world *world, unsigned process, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
