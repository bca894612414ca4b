/*
 * request_table.h - names requests under way by numbers, so that a late result finds nobody.
 *
 * A number is the slot in its low bits and the slot's generation above; it is never 0, and has the highest bit set, which tells it from
 * numbers of other origin.
 */
#ifndef CORACLE_DRIVE_REQUEST_TABLE_H
#define CORACLE_DRIVE_REQUEST_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#define REQUEST_TABLE_BIT (1ull << 63)

struct request_slot;

/* All zero is a valid, empty table. */
struct request_table {
    struct request_slot *slots;
    uint32_t capacity, first_free, count;
};

void request_table_free(struct request_table *table);
/* `owner` isn't NULL. */
uint64_t request_table_add(struct request_table *table, void *owner);
/* NULL when it was removed, or never there. */
void *request_table_find(const struct request_table *table, uint64_t number);
void request_table_remove(struct request_table *table, uint64_t number);

#endif
