/*
 * disk_queue.h - the writer: one thread that does the node's disk work.
 *
 * Jobs wait in two queues, of which the urgent one goes first; each runs in order of submission.
 * Completions come back in the order of running, as many at once as are ready: one wake-up of the
 * core thread serves them all. A job may be freed or submitted again from its `done`.
 */
#ifndef CORACLE_OS_DISK_QUEUE_H
#define CORACLE_OS_DISK_QUEUE_H

#include "os/loop.h"
#include "port/disk.h"

struct os_disk_queue;

/* Starts the thread. `disk` is borrowed, and is the writer's alone until os_disk_queue_free returned. */
struct os_disk_queue *os_disk_queue_new(struct os_loop *loop, struct disk *disk);

/* The port; lives as long as the queue. Jobs are submitted on the core thread. */
struct disk_queue *os_disk_queue_port(struct os_disk_queue *queue);

/*
 * Runs all jobs that were submitted, those submitted by their `done` included, and calls every
 * `done` before it returns; then ends the thread. Not to be called from a `done`.
 */
void os_disk_queue_free(struct os_disk_queue *queue);

#endif
