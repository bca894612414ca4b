#include "store/leases.h"

#include "base/check.h"
#include "base/crc32c.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/sort.h"
#include "store/store_internal.h"

#define TABLE_CAPACITY_MIN 16u
#define KEYS_CAPACITY_MIN 2u
/* Up to so many keys a set is searched from its start; above it slots are found by hash, and at most half are full. */
#define KEYS_SCANNED_MAX 8u

/* ---- a lease's keys ---- */

static bool is_hashed(const struct lease *lease)
{
    return lease->key_capacity > KEYS_SCANNED_MAX;
}

static uint32_t home_of(const struct lease *lease, const struct store_record *record)
{
    struct bytes key = store_record_key(record);
    return crc32c(0, key.data, key.size) & (lease->key_capacity - 1);
}

/* The slot that holds the record, or the one where it belongs. */
static uint32_t key_slot(const struct lease *lease, const struct store_record *record)
{
    uint32_t slot = is_hashed(lease) ? home_of(lease, record) : 0;
    uint32_t mask = lease->key_capacity - 1;
    while (lease->keys[slot] != NULL && lease->keys[slot] != record && (is_hashed(lease) || slot < mask)) {
        slot = (slot + 1) & mask;
    }
    return slot;
}

static void keys_resize(struct lease *lease, uint32_t capacity)
{
    struct store_record **old = lease->keys;
    uint32_t old_capacity = lease->key_capacity, next = 0;
    lease->keys = mem_alloc_zero(capacity * sizeof lease->keys[0]);
    lease->key_capacity = capacity;
    for (uint32_t i = 0; i < old_capacity; i++) {
        if (old[i] == NULL) continue;
        lease->keys[is_hashed(lease) ? key_slot(lease, old[i]) : next++] = old[i];
    }
    mem_free(old);
}

static void attach(struct lease *lease, struct store_record *record)
{
    uint32_t limit = is_hashed(lease) ? lease->key_capacity / 2 : lease->key_capacity;
    if (lease->key_count == limit) keys_resize(lease, limit == 0 ? KEYS_CAPACITY_MIN : 4 * limit);
    uint32_t slot = is_hashed(lease) ? key_slot(lease, record) : lease->key_count;
    CHECK(lease->keys[slot] == NULL);
    lease->keys[slot] = record;
    lease->key_count++;
}

/* Closes the gap at `slot`, so that probing finds all that came after it. */
static void close_gap(struct lease *lease, uint32_t slot)
{
    uint32_t mask = lease->key_capacity - 1;
    for (uint32_t next = (slot + 1) & mask; lease->keys[next] != NULL; next = (next + 1) & mask) {
        uint32_t home = home_of(lease, lease->keys[next]);
        if (((next - home) & mask) < ((next - slot) & mask)) continue;
        lease->keys[slot] = lease->keys[next];
        slot = next;
    }
    lease->keys[slot] = NULL;
}

static void detach(struct lease *lease, const struct store_record *record)
{
    if (lease->key_count == 0) return; /* it is being revoked */
    uint32_t slot = key_slot(lease, record);
    CHECK(lease->keys[slot] == record);
    lease->key_count--;
    if (is_hashed(lease)) {
        close_gap(lease, slot);
    } else {
        lease->keys[slot] = lease->keys[lease->key_count];
        lease->keys[lease->key_count] = NULL;
    }
}

static int by_key(const void *a, const void *b, const void *user)
{
    (void)user;
    return bytes_compare(store_record_key(a), store_record_key(b));
}

void store_lease_keys(const struct lease *lease, const struct store_record **out)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < lease->key_capacity; i++) {
        if (lease->keys[i] != NULL) out[count++] = lease->keys[i];
    }
    CHECK(count == lease->key_count);
    sort_pointers((const void **)out, count, by_key, NULL);
}

/* ---- the table ---- */

static void lease_free(struct lease *lease)
{
    mem_free(lease->keys);
    mem_free(lease);
}

void lease_table_free(struct lease_table *table)
{
    for (size_t i = 0; i < table->capacity; i++) {
        if (table->slots[i] != NULL) lease_free(table->slots[i]);
    }
    mem_free(table->slots);
    *table = (struct lease_table){0};
}

static size_t slot_of(const struct lease_table *table, uint64_t id)
{
    size_t mask = table->capacity - 1, slot = random_mix(id) & mask;
    while (table->slots[slot] != NULL && table->slots[slot]->id != id) slot = (slot + 1) & mask;
    return slot;
}

struct lease *lease_table_find(const struct lease_table *table, uint64_t id)
{
    return table->capacity == 0 ? NULL : table->slots[slot_of(table, id)];
}

static void table_grow(struct lease_table *table)
{
    struct lease **old = table->slots;
    size_t old_capacity = table->capacity;
    table->capacity = old_capacity == 0 ? TABLE_CAPACITY_MIN : 2 * old_capacity;
    table->slots = mem_alloc_zero(table->capacity * sizeof table->slots[0]);
    for (size_t i = 0; i < old_capacity; i++) {
        if (old[i] != NULL) table->slots[slot_of(table, old[i]->id)] = old[i];
    }
    mem_free(old);
}

static struct lease *table_add(struct lease_table *table, uint64_t id, int64_t ttl_s)
{
    if (2 * (table->count + 1) > table->capacity) table_grow(table);
    struct lease *lease = mem_alloc_zero(sizeof *lease);
    lease->id = id;
    lease->ttl_s = ttl_s;
    table->slots[slot_of(table, id)] = lease;
    table->count++;
    return lease;
}

static void table_remove(struct lease_table *table, struct lease *lease)
{
    size_t mask = table->capacity - 1, slot = slot_of(table, lease->id);
    for (size_t next = (slot + 1) & mask; table->slots[next] != NULL; next = (next + 1) & mask) {
        size_t home = random_mix(table->slots[next]->id) & mask;
        if (((next - home) & mask) < ((next - slot) & mask)) continue;
        table->slots[slot] = table->slots[next];
        slot = next;
    }
    table->slots[slot] = NULL;
    table->count--;
    lease_free(lease);
}

static struct lease *lease_of(const struct lease_table *table, const struct store_record *record)
{
    if (record == NULL || record->lease == 0) return NULL;
    return lease_table_find(table, record->lease);
}

void lease_table_key_changed(struct lease_table *table, struct store_record *before, struct store_record *after)
{
    if ((before == NULL || before->lease == 0) && (after == NULL || after->lease == 0)) return;
    struct lease *old = lease_of(table, before), *new = lease_of(table, after);
    /* A key that is renewed under its lease, as heartbeats do: its slot stays. */
    if (old != NULL && old == new && old->key_count > 0) {
        uint32_t slot = key_slot(old, before);
        CHECK(old->keys[slot] == before);
        old->keys[slot] = after;
        return;
    }
    if (old != NULL) detach(old, before);
    if (new != NULL) attach(new, after);
}

uint64_t lease_table_memory_bytes(const struct lease_table *table)
{
    return table->capacity * sizeof table->slots[0] + table->count * (sizeof(struct lease) + 16);
}

bool lease_table_has_key(const struct lease_table *table, const struct store_record *record)
{
    const struct lease *lease = lease_of(table, record);
    return lease != NULL && lease->key_count > 0 && lease->keys[key_slot(lease, record)] == record;
}

void lease_table_verify(const struct lease_table *table, uint64_t attached)
{
    size_t count = 0;
    uint64_t keys = 0;
    for (size_t i = 0; i < table->capacity; i++) {
        const struct lease *lease = table->slots[i];
        if (lease == NULL) continue;
        CHECK(slot_of(table, lease->id) == i);
        count++;
        uint32_t found = 0;
        for (uint32_t j = 0; j < lease->key_capacity; j++) {
            if (lease->keys[j] == NULL) continue;
            CHECK(lease->keys[j]->lease == lease->id && !store_record_is_tombstone(lease->keys[j]));
            CHECK(key_slot(lease, lease->keys[j]) == j);
            found++;
        }
        CHECK(found == lease->key_count);
        keys += found;
    }
    CHECK(count == table->count && keys == attached);
}

/* ---- the store's leases ---- */

enum error store_lease_grant(struct store *store, uint64_t id, int64_t ttl_s)
{
    CHECK(id != 0);
    if (lease_table_find(&store->leases, id) != NULL) return ERR_LEASE_EXISTS;
    table_add(&store->leases, id, ttl_s);
    return ERR_OK;
}

enum error store_lease_revoke(struct store *store, uint64_t id, uint64_t *deleted)
{
    struct lease *lease = lease_table_find(&store->leases, id);
    if (deleted != NULL) *deleted = lease == NULL ? 0 : lease->key_count;
    if (lease == NULL) return ERR_LEASE_NOT_FOUND;
    uint32_t count = lease->key_count;
    const struct store_record **keys = mem_alloc((count + 1) * sizeof keys[0]);
    store_lease_keys(lease, keys);
    lease->key_count = 0; /* nothing has to be detached one by one */
    store_begin(store);
    for (uint32_t i = 0; i < count; i++) CHECK(store_delete(store, store_record_key(keys[i]), NULL));
    store_end(store);
    mem_free(keys);
    table_remove(&store->leases, lease);
    return ERR_OK;
}

void store_lease_checkpoint(struct store *store, uint64_t id, int64_t remaining_s)
{
    struct lease *lease = lease_table_find(&store->leases, id);
    if (lease != NULL) lease->remaining_s = remaining_s;
}

struct lease *store_lease_find(const struct store *store, uint64_t id)
{
    return lease_table_find(&store->leases, id);
}

uint64_t store_lease_count(const struct store *store)
{
    return store->leases.count;
}

size_t store_lease_slots(const struct store *store)
{
    return store->leases.capacity;
}

struct lease *store_lease_at(const struct store *store, size_t slot)
{
    return store->leases.slots[slot];
}

/* ---- snapshots ---- */

static int by_id(const void *a, const void *b, const void *user)
{
    (void)user;
    uint64_t first = ((const struct lease *)a)->id, second = ((const struct lease *)b)->id;
    return first < second ? -1 : first > second;
}

void store_leases_encode(const struct store *store, struct buffer *out)
{
    const struct lease_table *table = &store->leases;
    if (table->count == 0) return;
    const struct lease **sorted = mem_alloc(table->count * sizeof sorted[0]);
    size_t count = 0;
    for (size_t i = 0; i < table->capacity; i++) {
        if (table->slots[i] != NULL) sorted[count++] = table->slots[i];
    }
    sort_pointers((const void **)sorted, count, by_id, NULL);
    buffer_reserve(out, count * STORE_LEASE_ITEM_BYTES);
    for (size_t i = 0; i < count; i++) {
        buffer_append_u64(out, sorted[i]->id);
        buffer_append_u64(out, (uint64_t)sorted[i]->ttl_s);
        buffer_append_u64(out, (uint64_t)sorted[i]->remaining_s);
    }
    mem_free(sorted);
}

enum error store_leases_decode(struct store *store, struct bytes payload)
{
    if (payload.size % STORE_LEASE_ITEM_BYTES != 0) return ERR_DAMAGED;
    struct reader reader = reader_of(payload);
    while (reader_left(&reader) > 0) {
        uint64_t id = reader_u64(&reader);
        int64_t ttl_s = (int64_t)reader_u64(&reader);
        int64_t remaining_s = (int64_t)reader_u64(&reader);
        if (id == 0 || lease_table_find(&store->leases, id) != NULL) return ERR_DAMAGED;
        table_add(&store->leases, id, ttl_s)->remaining_s = remaining_s;
    }
    return ERR_OK;
}
