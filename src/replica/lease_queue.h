/*
 * lease_queue.h - leases by the time at which something is due for them: a binary heap, whose places the leases know
 * (lease->heap_slot). 16 bytes for each lease. It owns no lease.
 */
#ifndef CORACLE_REPLICA_LEASE_QUEUE_H
#define CORACLE_REPLICA_LEASE_QUEUE_H

#include "store/leases.h"

struct lease_due {
    time_ns due;
    struct lease *lease;
};

/* All zero: empty. */
struct lease_queue {
    struct lease_due *items;
    uint32_t count, capacity;
};

/* Forgets all leases, and gives the memory back. Their heap_slot is left as it is. */
void lease_queue_free(struct lease_queue *queue);

/* To fill it in O(n): room for all, add each, then order once; nothing else before that. */
void lease_queue_reserve(struct lease_queue *queue, uint32_t count);
void lease_queue_add_unordered(struct lease_queue *queue, struct lease *lease, time_ns due);
void lease_queue_order(struct lease_queue *queue);

/* NULL: it is empty. Borrowed until the next change. */
const struct lease_due *lease_queue_first(const struct lease_queue *queue);
/* O(log n) each. The lease isn't in the queue. */
void lease_queue_add(struct lease_queue *queue, struct lease *lease, time_ns due);
/* The lease is in the queue. */
void lease_queue_move(struct lease_queue *queue, struct lease *lease, time_ns due);
void lease_queue_remove(struct lease_queue *queue, struct lease *lease);
static inline bool lease_queue_has(const struct lease *lease)
{
    return lease->heap_slot != 0;
}
time_ns lease_queue_due(const struct lease_queue *queue, const struct lease *lease);

/* Checks the whole queue; for tests. */
void lease_queue_verify(const struct lease_queue *queue);

#endif
