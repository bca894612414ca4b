#include "sim/sim_disk.h"

#include "base/check.h"

/* Between the end of a job's work and the core thread's hearing of it: a process may die in between. */
#define DONE_NS_MAX ((time_ns)50 * 1000)

static struct sim_disk_queue *of(struct disk_queue *queue)
{
    return (struct sim_disk_queue *)queue;
}

static void append(struct disk_job ***end, struct disk_job *job)
{
    job->next = NULL;
    **end = job;
    *end = &job->next;
}

static struct disk_job *take(struct disk_job **first, struct disk_job ***end)
{
    struct disk_job *job = *first;
    *first = job->next;
    if (*first == NULL) *end = first;
    job->next = NULL;
    return job;
}

static void start_next(struct sim_disk_queue *queue)
{
    struct sim_world *world = queue->disk->world;
    if (queue->running != NULL) return;
    if (queue->urgent != NULL) {
        queue->running = take(&queue->urgent, &queue->urgent_end);
    } else if (queue->normal != NULL && queue->normal_held_until > world->now) {
        sim_world_schedule(world, &queue->held_event, queue->normal_held_until);
        return;
    } else if (queue->normal != NULL) {
        queue->running = take(&queue->normal, &queue->normal_end);
    } else {
        return;
    }
    time_ns latency =
        (time_ns)random_between(&queue->random, (uint64_t)queue->latency_min, (uint64_t)queue->latency_max);
    if (random_chance(&queue->random, 10)) latency *= (time_ns)random_between(&queue->random, 2, 10);
    time_ns at = world->now + latency;
    if (queue->stalled_until > at) at = queue->stalled_until;
    sim_world_schedule(world, &queue->run_event, at);
}

static void held_event(struct sim_event *event)
{
    start_next((struct sim_disk_queue *)((char *)event - offsetof(struct sim_disk_queue, held_event)));
}

void sim_disk_queue_hold_normal(struct sim_disk_queue *queue, time_ns until)
{
    queue->normal_held_until = until;
    start_next(queue);
}

static void submit(struct disk_queue *port, struct disk_job *job)
{
    struct sim_disk_queue *queue = of(port);
    queue->jobs++;
    if (job->urgent) {
        append(&queue->urgent_end, job);
    } else {
        append(&queue->normal_end, job);
    }
    start_next(queue);
}

static const struct disk_queue_operations operations = {.submit = submit};

static void run_event(struct sim_event *event)
{
    struct sim_disk_queue *queue =
        (struct sim_disk_queue *)((char *)event - offsetof(struct sim_disk_queue, run_event));
    struct disk_job *job = queue->running;
    CHECK(job != NULL);
    queue->running = NULL;
    job->run(job, &queue->disk->disk);
    if (queue->disk->dead) return; /* it died with the power, and is dropped soon */
    append(&queue->finished_end, job);
    struct sim_world *world = queue->disk->world;
    if (!sim_event_scheduled(&queue->done_event)) {
        sim_world_schedule(world, &queue->done_event,
                           world->now + (time_ns)random_below(&queue->random, (uint64_t)DONE_NS_MAX));
    }
    start_next(queue);
}

static void done_event(struct sim_event *event)
{
    struct sim_disk_queue *queue =
        (struct sim_disk_queue *)((char *)event - offsetof(struct sim_disk_queue, done_event));
    while (queue->finished != NULL) {
        struct disk_job *job = take(&queue->finished, &queue->finished_end);
        job->done(job); /* which may submit, or free it */
    }
}

void sim_disk_queue_init(struct sim_disk_queue *queue, struct sim_disk *disk)
{
    *queue = (struct sim_disk_queue){.queue.operations = &operations, .disk = disk};
    queue->latency_min = 50 * 1000;
    queue->latency_max = 2000 * 1000;
    /* The writer is a thread of the process: it stands still with it. Its `run` isn't the core thread's, so it ends no turn. */
    queue->run_event =
        (struct sim_event){.run = run_event, .kind = SIM_EVENT_DISK_RUN, .process = (uint16_t)disk->node};
    queue->done_event =
        (struct sim_event){.run = done_event, .kind = SIM_EVENT_DISK_DONE, .process = (uint16_t)disk->node};
    queue->held_event = (struct sim_event){.run = held_event, .kind = SIM_EVENT_OTHER, .process = (uint16_t)disk->node};
    sim_world_random(disk->world, "disk queue", disk->node, &queue->random);
    sim_disk_queue_drop(queue);
}

void sim_disk_queue_drop(struct sim_disk_queue *queue)
{
    queue->urgent = NULL;
    queue->urgent_end = &queue->urgent;
    queue->normal = NULL;
    queue->normal_end = &queue->normal;
    queue->finished = NULL;
    queue->finished_end = &queue->finished;
    queue->running = NULL;
    sim_world_cancel(queue->disk->world, &queue->run_event);
    sim_world_cancel(queue->disk->world, &queue->done_event);
    sim_world_cancel(queue->disk->world, &queue->held_event);
    queue->normal_held_until = 0;
}

bool sim_disk_queue_idle(const struct sim_disk_queue *queue)
{
    return queue->urgent == NULL && queue->normal == NULL && queue->running == NULL && queue->finished == NULL;
}
