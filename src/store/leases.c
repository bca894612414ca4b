#include "store/leases.h"

#include "base/check.h"
#include "base/crc32c.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/sort.h"
#include "store/store_internal.h"

#define TABLE_CAPACITY_MIN 16u
/* What the allocator is assumed to add to a lease and its set. */
#define LEASE_OVERHEAD_BYTES 32u
#define KEYS_CAPACITY_MIN 2u
/* Up to so many keys a set is searched from its start; above it slots are found by hash, and at most half are full. */
#define KEYS_SCANNED_MAX 8u
/* From so many keys on it pays to sort them in three walks over memory rather than by comparing. */
#define SORT_MANY 256u
/* Slots of a snapshot's walk that are looked at for each lease asked for. */
#define SNAPSHOT_SLOTS_PER_LEASE 8u
/* What a walk fetches ahead, so that cache misses overlap. */
#define PREFETCHED 16u
#define CACHE_LINE_BYTES 64u

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
    if (lease->key_count == 0) return; /* it is being revoked, or as below */
    uint32_t slot = key_slot(lease, record);
    if (lease->keys[slot] != record) return; /* put when there was no such lease */
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

static void prefetch(const struct store_record *record)
{
    __builtin_prefetch(record);
    __builtin_prefetch((const uint8_t *)record + CACHE_LINE_BYTES);
}

/* How many first bytes all keys share. */
static size_t common_prefix(const struct store_record *const *records, uint32_t count)
{
    struct bytes first = store_record_key(records[0]);
    size_t common = first.size;
    for (uint32_t i = 1; i < count; i++) {
        if (i + PREFETCHED < count) prefetch(records[i + PREFETCHED]);
        struct bytes key = store_record_key(records[i]);
        size_t limit = key.size < common ? key.size : common, size = 0;
        while (size < limit && key.data[size] == first.data[size]) size++;
        common = size;
    }
    return common;
}

/* The order of two of these is that of the keys, unless they are equal. */
static uint64_t number_of(struct bytes key, size_t skip)
{
    uint64_t number = 0;
    for (size_t i = 0; i < sizeof number; i++) number = number << 8 | (skip + i < key.size ? key.data[skip + i] : 0);
    return number;
}

/* Sorts many by what follows their common prefix, and compares whole keys only where that is equal. */
static void sort_many_by_key(const struct store_record **records, uint32_t count)
{
    struct sort_item *items = mem_alloc(2 * count * sizeof items[0]);
    size_t skip = common_prefix(records, count);
    for (uint32_t i = 0; i < count; i++) {
        items[i] = (struct sort_item){.number = number_of(store_record_key(records[i]), skip), .pointer = records[i]};
    }
    sort_by_number(items, items + count, count);
    for (uint32_t i = 0; i < count; i++) records[i] = items[i].pointer;
    for (uint32_t begin = 0, end; begin < count; begin = end) {
        for (end = begin + 1; end < count && items[end].number == items[begin].number;) end++;
        sort_pointers((const void **)(records + begin), end - begin, by_key, NULL);
    }
    mem_free(items);
}

void store_lease_keys(const struct lease *lease, const struct store_record **out)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < lease->key_capacity; i++) {
        if (lease->keys[i] != NULL) out[count++] = lease->keys[i];
    }
    CHECK(count == lease->key_count);
    if (count < SORT_MANY) {
        sort_pointers((const void **)out, count, by_key, NULL);
    } else {
        sort_many_by_key(out, count);
    }
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
    buffer_free(&table->snapshot_aside);
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

/* Of an id that isn't there; looks at no lease. */
static size_t free_slot_of(const struct lease_table *table, uint64_t id)
{
    size_t mask = table->capacity - 1, slot = random_mix(id) & mask;
    while (table->slots[slot] != NULL) slot = (slot + 1) & mask;
    return slot;
}

static void table_grow(struct lease_table *table)
{
    struct lease **old = table->slots;
    size_t old_capacity = table->capacity;
    table->capacity = old_capacity == 0 ? TABLE_CAPACITY_MIN : 2 * old_capacity;
    table->slots = mem_alloc_zero(table->capacity * sizeof table->slots[0]);
    for (size_t i = 0; i < old_capacity; i++) {
        if (i + PREFETCHED < old_capacity) __builtin_prefetch(old[i + PREFETCHED]);
        if (old[i] != NULL) table->slots[free_slot_of(table, old[i]->id)] = old[i];
    }
    mem_free(old);
    table->snapshot_slot = 0; /* what is written knows that it is */
}

static struct lease *table_add(struct lease_table *table, uint64_t id, int64_t ttl_s)
{
    if (2 * (table->count + 1) > table->capacity) table_grow(table);
    struct lease *lease = mem_alloc_zero(sizeof *lease);
    lease->id = id;
    lease->ttl_s = ttl_s;
    lease->snapshot = table->snapshot;
    table->slots[free_slot_of(table, id)] = lease;
    table->count++;
    return lease;
}

static void append_item(struct lease_table *table, struct lease *lease, struct buffer *out)
{
    buffer_append_u64(out, lease->id);
    buffer_append_u64(out, (uint64_t)lease->ttl_s);
    buffer_append_u64(out, (uint64_t)lease->remaining_s);
    lease->snapshot = table->snapshot;
}

/* The lease is about to change, and the snapshot that is being written may not have it yet. */
static void put_aside(struct lease_table *table, struct lease *lease)
{
    if (table->snapshot_active && lease->snapshot != table->snapshot) {
        append_item(table, lease, &table->snapshot_aside);
    }
}

static void table_remove(struct lease_table *table, struct lease *lease)
{
    put_aside(table, lease);
    size_t mask = table->capacity - 1, slot = slot_of(table, lease->id);
    for (size_t next = (slot + 1) & mask; table->slots[next] != NULL; next = (next + 1) & mask) {
        size_t home = random_mix(table->slots[next]->id) & mask;
        if (((next - home) & mask) < ((next - slot) & mask)) continue;
        put_aside(table, table->slots[next]); /* the walk of a snapshot may be between the two */
        table->slots[slot] = table->slots[next];
        slot = next;
    }
    table->slots[slot] = NULL;
    table->count--;
    table->key_slots -= lease->key_capacity;
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
        if (old->keys[slot] == before) {
            old->keys[slot] = after;
            return;
        }
    }
    if (old != NULL) detach(old, before);
    if (new == NULL) return;
    table->key_slots -= new->key_capacity;
    attach(new, after);
    table->key_slots += new->key_capacity;
}

uint64_t lease_table_memory_bytes(const struct lease_table *table)
{
    return table->capacity * sizeof table->slots[0] + table->count * (sizeof(struct lease) + LEASE_OVERHEAD_BYTES) +
           table->key_slots * sizeof(struct store_record *) + table->snapshot_aside.capacity;
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
    if (lease == NULL) return;
    put_aside(&store->leases, lease);
    lease->remaining_s = remaining_s;
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

void store_leases_snapshot_begin(struct store *store)
{
    struct lease_table *table = &store->leases;
    CHECK(!table->snapshot_active && !store->is_open);
    table->snapshot_active = true;
    table->snapshot++;
    table->snapshot_slot = 0;
    table->snapshot_aside_taken = 0;
}

/* Up to `max` of those put aside; returns how many. */
static size_t take_aside(struct lease_table *table, size_t max, struct buffer *out)
{
    size_t size = table->snapshot_aside.size - table->snapshot_aside_taken;
    if (size / STORE_LEASE_ITEM_BYTES > max) size = max * STORE_LEASE_ITEM_BYTES;
    if (size > 0) buffer_append(out, table->snapshot_aside.data + table->snapshot_aside_taken, size);
    table->snapshot_aside_taken += size;
    if (table->snapshot_aside_taken == table->snapshot_aside.size) {
        buffer_clear(&table->snapshot_aside);
        table->snapshot_aside_taken = 0;
    }
    return size / STORE_LEASE_ITEM_BYTES;
}

bool store_leases_snapshot_next(struct store *store, size_t max, struct buffer *out)
{
    struct lease_table *table = &store->leases;
    CHECK(table->snapshot_active && max > 0);
    size_t count = take_aside(table, max, out), slots_left = max * SNAPSHOT_SLOTS_PER_LEASE;
    for (; count < max && slots_left > 0 && table->snapshot_slot < table->capacity; slots_left--) {
        size_t slot = table->snapshot_slot++;
        if (slot + PREFETCHED < table->capacity) __builtin_prefetch(table->slots[slot + PREFETCHED]);
        struct lease *lease = table->slots[slot];
        if (lease == NULL || lease->snapshot == table->snapshot) continue;
        append_item(table, lease, out);
        count++;
    }
    return table->snapshot_slot < table->capacity || table->snapshot_aside.size > 0;
}

void store_leases_snapshot_end(struct store *store)
{
    store->leases.snapshot_active = false;
    buffer_free(&store->leases.snapshot_aside);
    store->leases.snapshot_aside_taken = 0;
}

enum error store_leases_decode(struct store *store, struct bytes payload)
{
    /* Keys attach themselves to what is there. */
    if (payload.size % STORE_LEASE_ITEM_BYTES != 0 || store->index.keys > 0) return ERR_DAMAGED;
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
