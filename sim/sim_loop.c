#include "sim/sim_loop.h"

#include "base/check.h"

#define WALL_CLOCK_START ((time_ns)1700000000 * TIME_NS_PER_S)

static struct sim_loop *of(struct loop *loop)
{
    return (struct sim_loop *)loop;
}

static time_ns to_local(const struct sim_loop *loop, time_ns world_time)
{
    return loop->offset + world_time + (time_ns)((__int128)world_time * loop->drift_ppm / 1000000);
}

/* The first moment of the world at which the node's clock shows `local`. */
static time_ns to_world(const struct sim_loop *loop, time_ns local)
{
    time_ns world_time = (time_ns)((__int128)(local - loop->offset) * 1000000 / (1000000 + loop->drift_ppm));
    while (to_local(loop, world_time) < local) world_time++;
    return world_time;
}

static time_ns loop_operation_now(struct loop *loop)
{
    return to_local(of(loop), of(loop)->world->now);
}

static time_ns loop_operation_wall_clock(struct loop *loop)
{
    return WALL_CLOCK_START + of(loop)->wall_offset + of(loop)->world->now;
}

static void loop_operation_set_timer(struct loop *port, time_ns deadline)
{
    struct sim_loop *loop = of(port);
    if (deadline == TIME_NS_NEVER) {
        sim_world_cancel(loop->world, &loop->timer);
        return;
    }
    time_ns at = to_world(loop, deadline);
    if (at < loop->world->now) at = loop->world->now;
    if (sim_event_scheduled(&loop->timer) && loop->timer.at == at) return;
    sim_world_schedule(loop->world, &loop->timer, at);
}

static void touched(void *user)
{
    struct sim_loop *loop = user;
    if (loop->handler == NULL || loop->stopped || sim_event_scheduled(&loop->turn)) return;
    if (loop->process >= SIM_NODES_MAX) { /* a client has nothing to gather */
        loop->handler->turn_end(loop->user);
        return;
    }
    time_ns delay = 0;
    if (random_chance(&loop->random, 400)) delay = (time_ns)random_below(&loop->random, (uint64_t)SIM_TURN_NS_MAX);
    sim_world_schedule(loop->world, &loop->turn, loop->world->now + delay);
}

static void loop_operation_attach(struct loop *port, const struct loop_handler *handler, void *user)
{
    struct sim_loop *loop = of(port);
    loop->handler = handler;
    loop->user = user;
    loop->stopped = false;
    if (handler != NULL) touched(loop);
}

static void loop_operation_stop(struct loop *port)
{
    of(port)->stopped = true;
}

static void loop_operation_entropy(struct loop *port, void *data, size_t size)
{
    struct sim_loop *loop = of(port);
    uint8_t *at = data;
    while (size > 0) {
        uint64_t value = random_u64(&loop->entropy_random);
        size_t part = size < sizeof value ? size : sizeof value;
        memcpy(at, &value, part);
        at += part;
        size -= part;
    }
}

static const struct loop_operations operations = {
    .now = loop_operation_now,
    .wall_clock = loop_operation_wall_clock,
    .set_timer = loop_operation_set_timer,
    .attach = loop_operation_attach,
    .stop = loop_operation_stop,
    .entropy = loop_operation_entropy,
};

static void timer_event(struct sim_event *event)
{
    struct sim_loop *loop = (struct sim_loop *)((char *)event - offsetof(struct sim_loop, timer));
    CHECK(loop->handler != NULL);
    loop->handler->timer(loop->user);
}

static void turn_event(struct sim_event *event)
{
    struct sim_loop *loop = (struct sim_loop *)((char *)event - offsetof(struct sim_loop, turn));
    CHECK(loop->handler != NULL);
    loop->handler->turn_end(loop->user);
    if (loop->turn_ended != NULL) loop->turn_ended(loop->turn_ended_user, loop->process);
}

void sim_loop_init(struct sim_loop *loop, struct sim_world *world, unsigned process)
{
    CHECK(process < SIM_PROCESSES_MAX);
    *loop = (struct sim_loop){.loop.operations = &operations, .world = world, .process = process};
    loop->timer = (struct sim_event){.run = timer_event, .kind = SIM_EVENT_TIMER, .process = (uint16_t)process};
    loop->turn = (struct sim_event){.run = turn_event, .kind = SIM_EVENT_TURN, .process = (uint16_t)process};
    sim_world_random(world, "loop", process, &loop->random);
    sim_world_random(world, "entropy", process, &loop->entropy_random);
    loop->offset = (time_ns)random_below(&loop->random, 1000000) * TIME_NS_PER_MS;
    loop->drift_ppm = (int64_t)random_below(&loop->random, 2 * SIM_DRIFT_PPM_MAX + 1) - SIM_DRIFT_PPM_MAX;
    world->touched[process] = touched;
    world->touched_user[process] = loop;
}

void sim_loop_detach(struct sim_loop *loop)
{
    sim_world_cancel(loop->world, &loop->timer);
    sim_world_cancel(loop->world, &loop->turn);
    loop->handler = NULL;
    loop->offset += (time_ns)random_below(&loop->random, 1000) * TIME_NS_PER_MS;
}

void sim_loop_jump(struct sim_loop *loop, time_ns by)
{
    loop->wall_offset += by;
    if (loop->wall_offset < -WALL_CLOCK_START) loop->wall_offset = -WALL_CLOCK_START;
}
