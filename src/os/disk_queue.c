#include "os/disk_queue.h"

#include <pthread.h>
#include <signal.h>

#include "base/check.h"
#include "base/mem.h"

struct job_list {
    struct disk_job *first;
    struct disk_job **end;
};

struct os_disk_queue {
    struct disk_queue port;
    struct os_loop *loop;
    struct disk *disk;
    uv_async_t finished_async;
    pthread_t writer;

    pthread_mutex_t mutex; /* over all that follows */
    pthread_cond_t submitted;
    struct job_list urgent;
    struct job_list ordinary;
    struct job_list finished;
    bool writer_waits; /* so that a submission to a busy writer makes no system call */
    bool stopping;
};

static void list_init(struct job_list *list)
{
    list->first = NULL;
    list->end = &list->first;
}

static void list_append(struct job_list *list, struct disk_job *job)
{
    job->next = NULL;
    *list->end = job;
    list->end = &job->next;
}

static struct disk_job *list_take_first(struct job_list *list)
{
    struct disk_job *job = list->first;
    if (job == NULL) return NULL;
    list->first = job->next;
    if (list->first == NULL) list->end = &list->first;
    job->next = NULL;
    return job;
}

static void *write_until_stopped(void *user)
{
    struct os_disk_queue *queue = user;
    pthread_mutex_lock(&queue->mutex);
    for (;;) {
        struct disk_job *job = list_take_first(&queue->urgent);
        if (job == NULL) job = list_take_first(&queue->ordinary);
        if (job == NULL) {
            if (queue->stopping) break;
            queue->writer_waits = true;
            pthread_cond_wait(&queue->submitted, &queue->mutex);
            queue->writer_waits = false;
            continue;
        }
        pthread_mutex_unlock(&queue->mutex);
        job->run(job, queue->disk);
        pthread_mutex_lock(&queue->mutex);
        /* The core thread takes all at once: only the first of a batch has to wake it. */
        bool wake = queue->finished.first == NULL;
        list_append(&queue->finished, job);
        if (!wake) continue;
        /* Not under the mutex, which the core thread takes as soon as it wakes. */
        pthread_mutex_unlock(&queue->mutex);
        CHECK(uv_async_send(&queue->finished_async) == 0);
        pthread_mutex_lock(&queue->mutex);
    }
    pthread_mutex_unlock(&queue->mutex);
    return NULL;
}

/* Calls `done` for all that has finished; false when there was nothing. */
static bool report_finished(struct os_disk_queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    struct disk_job *job = queue->finished.first;
    list_init(&queue->finished);
    pthread_mutex_unlock(&queue->mutex);
    if (job == NULL) return false;
    os_loop_note_event(queue->loop);
    while (job != NULL) {
        struct disk_job *next = job->next; /* `done` may free or submit the job */
        job->done(job);
        job = next;
    }
    return true;
}

static void finished_arrived(uv_async_t *async)
{
    report_finished(async->data);
}

static void submit(struct disk_queue *port, struct disk_job *job)
{
    struct os_disk_queue *queue = (struct os_disk_queue *)port;
    pthread_mutex_lock(&queue->mutex);
    list_append(job->urgent ? &queue->urgent : &queue->ordinary, job);
    bool wake = queue->writer_waits;
    /* Further submissions need no signal of their own while this one is on its way. */
    queue->writer_waits = false;
    pthread_mutex_unlock(&queue->mutex);
    if (wake) pthread_cond_signal(&queue->submitted);
}

static const struct disk_queue_operations operations = {.submit = submit};

struct os_disk_queue *os_disk_queue_new(struct os_loop *loop, struct disk *disk)
{
    struct os_disk_queue *queue = mem_alloc_zero(sizeof *queue);
    queue->port.operations = &operations;
    queue->loop = loop;
    queue->disk = disk;
    list_init(&queue->urgent);
    list_init(&queue->ordinary);
    list_init(&queue->finished);
    CHECK(pthread_mutex_init(&queue->mutex, NULL) == 0);
    CHECK(pthread_cond_init(&queue->submitted, NULL) == 0);
    CHECK(uv_async_init(os_loop_uv(loop), &queue->finished_async, finished_arrived) == 0);
    queue->finished_async.data = queue;

    /* Signals are the core thread's, so that none interrupts a write or a sync. */
    sigset_t all, before;
    sigfillset(&all);
    CHECK(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
    CHECK(pthread_create(&queue->writer, NULL, write_until_stopped, queue) == 0);
    CHECK(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    return queue;
}

struct disk_queue *os_disk_queue_port(struct os_disk_queue *queue)
{
    return &queue->port;
}

static void async_closed(uv_handle_t *handle)
{
    struct os_disk_queue *queue = handle->data;
    mem_free(queue);
}

void os_disk_queue_free(struct os_disk_queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    queue->stopping = true;
    pthread_mutex_unlock(&queue->mutex);
    pthread_cond_signal(&queue->submitted);
    CHECK(pthread_join(queue->writer, NULL) == 0);

    /* What a `done` submits now is run here, in the writer's order. */
    for (;;) {
        if (report_finished(queue)) continue;
        struct disk_job *job = list_take_first(&queue->urgent);
        if (job == NULL) job = list_take_first(&queue->ordinary);
        if (job == NULL) break;
        job->run(job, queue->disk);
        list_append(&queue->finished, job);
    }
    pthread_mutex_destroy(&queue->mutex);
    pthread_cond_destroy(&queue->submitted);
    uv_close((uv_handle_t *)&queue->finished_async, async_closed);
}
