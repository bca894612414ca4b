#include "drive/request_table.h"

#include "base/check.h"
#include "base/mem.h"

#define SLOT_BITS 24u
#define SLOT_MASK ((1u << SLOT_BITS) - 1)
#define GENERATION_MASK ((1ull << (63 - SLOT_BITS)) - 1)
#define NONE UINT32_MAX

struct request_slot {
    void *owner; /* NULL: free */
    uint64_t generation;
    uint32_t next_free;
};

void request_table_free(struct request_table *table)
{
    mem_free(table->slots);
    *table = (struct request_table){0};
}

static void grow(struct request_table *table)
{
    uint32_t old = table->capacity, capacity = old == 0 ? 64 : 2 * old;
    CHECK(capacity <= SLOT_MASK);
    table->slots = mem_realloc(table->slots, capacity * sizeof table->slots[0]);
    for (uint32_t i = old; i < capacity; i++) {
        table->slots[i] = (struct request_slot){.next_free = i + 1 < capacity ? i + 1 : NONE};
    }
    table->capacity = capacity;
    table->first_free = old;
}

uint64_t request_table_add(struct request_table *table, void *owner)
{
    CHECK(owner != NULL);
    if (table->count == table->capacity) grow(table);
    uint32_t slot = table->first_free;
    struct request_slot *taken = &table->slots[slot];
    table->first_free = taken->next_free;
    table->count++;
    taken->owner = owner;
    taken->generation = (taken->generation + 1) & GENERATION_MASK;
    return REQUEST_TABLE_BIT | taken->generation << SLOT_BITS | slot;
}

static struct request_slot *slot_of(const struct request_table *table, uint64_t number)
{
    uint32_t slot = (uint32_t)(number & SLOT_MASK);
    if ((number & REQUEST_TABLE_BIT) == 0 || slot >= table->capacity) return NULL;
    struct request_slot *found = &table->slots[slot];
    bool same = found->owner != NULL && found->generation == (number >> SLOT_BITS & GENERATION_MASK);
    return same ? found : NULL;
}

void *request_table_find(const struct request_table *table, uint64_t number)
{
    struct request_slot *slot = slot_of(table, number);
    return slot != NULL ? slot->owner : NULL;
}

void request_table_remove(struct request_table *table, uint64_t number)
{
    struct request_slot *slot = slot_of(table, number);
    if (slot == NULL) return;
    slot->owner = NULL;
    slot->next_free = table->first_free;
    table->first_free = (uint32_t)(number & SLOT_MASK);
    table->count--;
}
