#include "replica/lease_queue.h"

#include "base/check.h"
#include "base/mem.h"

#define CAPACITY_MIN 64u

/* Slots count from 1: parent of i is i / 2. heap_slot 0 says that a lease is in no queue. */
static struct lease_due *at(const struct lease_queue *queue, uint32_t slot)
{
    return &queue->items[slot - 1];
}

static void put_at(struct lease_queue *queue, uint32_t slot, struct lease_due item)
{
    *at(queue, slot) = item;
    item.lease->heap_slot = slot;
}

static uint32_t smaller_child(const struct lease_queue *queue, uint32_t slot)
{
    uint32_t child = 2 * slot;
    return child < queue->count && at(queue, child + 1)->due < at(queue, child)->due ? child + 1 : child;
}

static void sift_down(struct lease_queue *queue, uint32_t slot, struct lease_due item)
{
    while (slot <= queue->count / 2) {
        uint32_t child = smaller_child(queue, slot);
        if (at(queue, child)->due >= item.due) break;
        put_at(queue, slot, *at(queue, child));
        slot = child;
    }
    put_at(queue, slot, item);
}

/* Where the item belongs, seen from a slot that is free for it. */
static void place(struct lease_queue *queue, uint32_t slot, struct lease_due item)
{
    while (slot > 1 && at(queue, slot / 2)->due > item.due) {
        put_at(queue, slot, *at(queue, slot / 2));
        slot /= 2;
    }
    sift_down(queue, slot, item);
}

void lease_queue_free(struct lease_queue *queue)
{
    mem_free(queue->items);
    *queue = (struct lease_queue){0};
}

void lease_queue_reserve(struct lease_queue *queue, uint32_t count)
{
    if (count <= queue->capacity) return;
    queue->items = mem_realloc(queue->items, count * sizeof queue->items[0]);
    queue->capacity = count;
}

static uint32_t add_slot(struct lease_queue *queue)
{
    if (queue->count == queue->capacity) {
        lease_queue_reserve(queue, queue->capacity == 0 ? CAPACITY_MIN : 2 * queue->capacity);
    }
    return ++queue->count;
}

void lease_queue_add_unordered(struct lease_queue *queue, struct lease *lease, time_ns due)
{
    put_at(queue, add_slot(queue), (struct lease_due){.due = due, .lease = lease});
}

void lease_queue_order(struct lease_queue *queue)
{
    for (uint32_t slot = queue->count / 2; slot >= 1; slot--) sift_down(queue, slot, *at(queue, slot));
}

const struct lease_due *lease_queue_first(const struct lease_queue *queue)
{
    return queue->count == 0 ? NULL : at(queue, 1);
}

void lease_queue_add(struct lease_queue *queue, struct lease *lease, time_ns due)
{
    CHECK(!lease_queue_has(lease));
    place(queue, add_slot(queue), (struct lease_due){.due = due, .lease = lease});
}

static uint32_t slot_of(const struct lease_queue *queue, const struct lease *lease)
{
    CHECK(lease->heap_slot >= 1 && lease->heap_slot <= queue->count && at(queue, lease->heap_slot)->lease == lease);
    return lease->heap_slot;
}

void lease_queue_move(struct lease_queue *queue, struct lease *lease, time_ns due)
{
    place(queue, slot_of(queue, lease), (struct lease_due){.due = due, .lease = lease});
}

void lease_queue_remove(struct lease_queue *queue, struct lease *lease)
{
    uint32_t slot = slot_of(queue, lease);
    struct lease_due last = *at(queue, queue->count--);
    if (last.lease != lease) place(queue, slot, last);
    lease->heap_slot = 0;
}

time_ns lease_queue_due(const struct lease_queue *queue, const struct lease *lease)
{
    return at(queue, slot_of(queue, lease))->due;
}

void lease_queue_verify(const struct lease_queue *queue)
{
    CHECK(queue->count <= queue->capacity);
    for (uint32_t slot = 1; slot <= queue->count; slot++) {
        CHECK(at(queue, slot)->lease->heap_slot == slot);
        CHECK(slot == 1 || at(queue, slot / 2)->due <= at(queue, slot)->due);
    }
}
