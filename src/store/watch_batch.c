#include "store/watch_batch.h"

#include "base/check.h"
#include "base/mem.h"

/* Arrays up to twice the limits are kept between batches: only a single large revision exceeds that. */
#define KEPT_EVENTS (2 * WATCH_BATCH_EVENTS_MAX)
#define KEPT_MATCHES (2 * WATCH_BATCH_MATCHES_MAX)

/* Room for one more of `size` bytes. */
static void *grow(void *array, uint32_t count, uint32_t *capacity, size_t size)
{
    if (count < *capacity) return array;
    CHECK(*capacity <= UINT32_MAX / 2);
    *capacity = *capacity > 0 ? 2 * *capacity : 16;
    return mem_realloc(array, *capacity * size);
}

static void give_back(struct watch_batch *batch)
{
    mem_free(batch->events);
    mem_free(batch->matches);
    mem_free(batch->groups);
    mem_free(batch->numbers);
    *batch = (struct watch_batch){.events = NULL};
}

void watch_batch_free(struct watch_batch *batch)
{
    watch_batch_clear(batch);
    give_back(batch);
}

void watch_batch_clear(struct watch_batch *batch)
{
    for (uint32_t i = 0; i < batch->event_count; i++) {
        store_record_unref(batch->events[i].record);
        if (batch->events[i].previous) store_record_unref(batch->events[i].previous);
    }
    batch->event_count = 0;
    batch->match_count = 0;
    batch->group_count = 0;
    batch->bytes = 0;
    if (batch->event_capacity > KEPT_EVENTS || batch->match_capacity > KEPT_MATCHES) give_back(batch);
}

/* The number of the target's group, a new one if the batch didn't touch it yet. */
static uint32_t group_of(struct watch_batch *batch, struct watch_target *target)
{
    if (target->group == 0) {
        batch->groups = grow(batch->groups, batch->group_count, &batch->group_capacity, sizeof batch->groups[0]);
        batch->groups[batch->group_count++] = (struct watch_group){.target = target};
        target->group = batch->group_count;
    }
    return target->group - 1;
}

void watch_batch_add(struct watch_batch *batch, struct store_record *record, bool has_previous,
                     struct watch_target *const *targets, size_t target_count)
{
    CHECK(target_count > 0);
    unsigned classes = 0;
    for (size_t i = 0; i < target_count; i++) {
        uint32_t group = group_of(batch, targets[i]);
        batch->groups[group].count++;
        batch->matches = grow(batch->matches, batch->match_count, &batch->match_capacity, sizeof batch->matches[0]);
        batch->matches[batch->match_count++] = (struct watch_match){.group = group, .event = batch->event_count};
        classes |= targets[i]->classes;
    }
    struct watch_event event = {.record = store_record_ref(record)};
    batch->bytes += (uint64_t)record->key_bytes + record->value_bytes;
    struct store_record *previous = record->previous;
    if ((classes & WATCH_PREVIOUS) && has_previous && previous && !store_record_is_tombstone(previous)) {
        event.previous = store_record_ref(previous);
        batch->bytes += (uint64_t)previous->key_bytes + previous->value_bytes;
    }
    batch->events = grow(batch->events, batch->event_count, &batch->event_capacity, sizeof batch->events[0]);
    batch->events[batch->event_count++] = event;
}

bool watch_batch_is_full(const struct watch_batch *batch)
{
    return batch->event_count >= WATCH_BATCH_EVENTS_MAX || batch->match_count >= WATCH_BATCH_MATCHES_MAX ||
           batch->bytes >= WATCH_BATCH_BYTES_MAX;
}

void watch_batch_seal(struct watch_batch *batch)
{
    if (batch->match_count > batch->number_capacity) {
        batch->number_capacity = batch->match_capacity;
        batch->numbers = mem_realloc(batch->numbers, batch->number_capacity * sizeof batch->numbers[0]);
    }
    uint32_t first = 0;
    for (uint32_t i = 0; i < batch->group_count; i++) {
        struct watch_group *group = &batch->groups[i];
        group->first = first;
        first += group->count;
        group->count = 0;
        group->target->group = 0;
        group->slice = group->target->slice;
    }
    for (uint32_t i = 0; i < batch->match_count; i++) {
        struct watch_group *group = &batch->groups[batch->matches[i].group];
        batch->numbers[group->first + group->count++] = batch->matches[i].event;
    }
}

uint64_t watch_batch_memory_bytes(const struct watch_batch *batch)
{
    return batch->event_capacity * sizeof batch->events[0] + batch->match_capacity * sizeof batch->matches[0] +
           batch->group_capacity * sizeof batch->groups[0] + batch->number_capacity * sizeof batch->numbers[0];
}
