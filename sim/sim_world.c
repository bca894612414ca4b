#include "sim/sim_world.h"

#include "base/check.h"
#include "base/crc32c.h"
#include "base/mem.h"

void sim_world_init(struct sim_world *world, uint64_t seed)
{
    *world = (struct sim_world){.seed = seed, .trace_hash = random_mix(seed)};
    world->queue_capacity = 256;
    world->queue = mem_alloc(world->queue_capacity * sizeof *world->queue);
}

void sim_world_free(struct sim_world *world)
{
    mem_free(world->queue);
    *world = (struct sim_world){0};
}

void sim_world_random(const struct sim_world *world, const char *part, uint64_t number, struct random *out)
{
    random_seed(out, random_mix(world->seed) ^ random_mix(crc32c(0, part, strlen(part)) + (number << 32)));
}

/* ---- the queue ---- */

static bool before(const struct sim_queue_slot *a, const struct sim_queue_slot *b)
{
    return a->at != b->at ? a->at < b->at : a->sequence < b->sequence;
}

static void place(struct sim_world *world, uint32_t position, struct sim_queue_slot slot)
{
    world->queue[position] = slot;
    slot.event->position = position;
}

static void sift_up(struct sim_world *world, uint32_t position, struct sim_queue_slot slot)
{
    while (position > 1 && before(&slot, &world->queue[position / 2])) {
        place(world, position, world->queue[position / 2]);
        position /= 2;
    }
    place(world, position, slot);
}

static void sift_down(struct sim_world *world, uint32_t position, struct sim_queue_slot slot)
{
    for (;;) {
        uint32_t child = position * 2;
        if (child > world->queue_count) break;
        if (child < world->queue_count && before(&world->queue[child + 1], &world->queue[child])) child++;
        if (!before(&world->queue[child], &slot)) break;
        place(world, position, world->queue[child]);
        position = child;
    }
    place(world, position, slot);
}

void sim_world_cancel(struct sim_world *world, struct sim_event *event)
{
    uint32_t position = event->position;
    if (position == 0) return;
    CHECK(position <= world->queue_count && world->queue[position].event == event);
    event->position = 0;
    struct sim_queue_slot last = world->queue[world->queue_count--];
    if (last.event == event) return;
    if (position > 1 && before(&last, &world->queue[position / 2])) {
        sift_up(world, position, last);
    } else {
        sift_down(world, position, last);
    }
}

void sim_world_schedule(struct sim_world *world, struct sim_event *event, time_ns at)
{
    CHECK(event->run != NULL && event->kind != 0);
    sim_world_cancel(world, event);
    if (at < world->now) at = world->now;
    event->at = at;
    if (world->queue_count + 2 > world->queue_capacity) {
        world->queue_capacity *= 2;
        world->queue = mem_realloc(world->queue, world->queue_capacity * sizeof *world->queue);
    }
    struct sim_queue_slot slot = {.at = at, .sequence = ++world->sequence, .event = event};
    sift_up(world, ++world->queue_count, slot);
}

bool sim_world_step(struct sim_world *world, time_ns until)
{
    for (;;) {
        if (world->queue_count == 0 || world->queue[1].at > until) {
            if (until > world->now) world->now = until;
            return false;
        }
        struct sim_event *event = world->queue[1].event;
        world->now = event->at;
        sim_world_cancel(world, event);
        unsigned process = event->process;
        if (process < SIM_PROCESSES_MAX && world->paused_until[process] > world->now) {
            sim_world_schedule(world, event, world->paused_until[process]);
            continue;
        }
        /* A turn ends once, and what the writer does is no part of one. */
        bool no_turn = event->kind == SIM_EVENT_TURN || event->kind == SIM_EVENT_DISK_RUN;
        world->event_count++;
        sim_world_fold(world, (uint64_t)world->now ^ (uint64_t)event->kind << 56 ^ (uint64_t)process << 40);
        event->run(event); /* which may free it */
        if (process < SIM_PROCESSES_MAX && !no_turn && world->touched[process] != NULL) {
            world->touched[process](world->touched_user[process]);
        }
        return true;
    }
}

void sim_world_pause(struct sim_world *world, unsigned process, time_ns until)
{
    CHECK(process < SIM_PROCESSES_MAX);
    world->paused_until[process] = until;
}

void sim_world_fold(struct sim_world *world, uint64_t value)
{
    world->trace_hash = random_mix(world->trace_hash ^ value) + 0x9e3779b97f4a7c15u;
}

void sim_world_fold_bytes(struct sim_world *world, const void *data, size_t size)
{
    sim_world_fold(world, (uint64_t)size << 32 | crc32c(0, data, size));
}

void sim_world_note(struct sim_world *world, unsigned process, const char *format, ...)
{
    if (world->trace == NULL) return;
    long long us = (long long)(world->now / 1000);
    char name[16] = "-", line[4096];
    if (process < SIM_NODES_MAX) {
        snprintf(name, sizeof name, "node-%u", process + 1);
    } else if (process < SIM_PROCESSES_MAX) {
        snprintf(name, sizeof name, "client-%u", process - SIM_NODES_MAX + 1);
    }
    int indent = process < SIM_NODES_MAX ? (int)process * 4 : 0;
    int size = snprintf(line, sizeof line, "%4lld.%06lld %-9s %*s", us / 1000000, us % 1000000, name, indent, "");
    va_list arguments;
    va_start(arguments, format);
    int more = vsnprintf(line + size, sizeof line - (size_t)size, format, arguments);
    va_end(arguments);
    if (more > 0) size += more;
    sim_trace_add(world->trace, line, (size_t)size < sizeof line ? (size_t)size : sizeof line - 1);
}
