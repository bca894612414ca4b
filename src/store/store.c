#include "store/store.h"

#include "base/check.h"
#include "base/mem.h"
#include "store/store_internal.h"

/* How many keys a cursor looks at for each record asked for: tombstones and later keys yield none. */
#define CURSOR_KEYS_PER_RECORD 8u
/* What the allocator is assumed to add to an allocation, in store_memory_bytes. */
#define ALLOCATION_OVERHEAD_BYTES 16u

/* ---- records ---- */

struct store_record *store_record_ref(struct store_record *record)
{
    CHECK(record->refs > 0 && record->refs < UINT32_MAX);
    record->refs++;
    return record;
}

void store_record_unref(struct store_record *record)
{
    CHECK(record->refs > 0);
    if (--record->refs == 0) mem_free(record);
}

struct store_record *store_record_new(struct store *store, struct bytes key, struct bytes value)
{
    CHECK(key.size >= 1 && key.size <= STORE_KEY_BYTES_MAX && value.size <= UINT32_MAX);
    struct store_record *record = mem_alloc(sizeof *record + key.size + value.size);
    record->previous = NULL;
    record->refs = 1;
    record->key_bytes = (uint32_t)key.size;
    record->value_bytes = (uint32_t)value.size;
    memcpy(record->data, key.data, key.size);
    if (value.size > 0) memcpy(record->data + key.size, value.data, value.size);
    store->record_bytes += store_record_bytes(record);
    store->record_count++;
    return record;
}

/* Gives the store's reference back. The record is in no chain any more. */
static void record_drop(struct store *store, struct store_record *record)
{
    CHECK(!record->previous);
    store->record_bytes -= store_record_bytes(record);
    store->record_count--;
    store_record_unref(record);
}

/* ---- life ---- */

struct store *store_new(void)
{
    struct store *store = mem_alloc_zero(sizeof *store);
    index_init(&store->index);
    store->revision = 1;
    return store;
}

void store_free(struct store *store)
{
    if (!store) return;
    struct index_path path;
    struct store_record *record;
    index_seek(&store->index, bytes_of(NULL, 0), &path);
    for (; (record = index_path_record(&store->index, &path)) != NULL; index_path_next(&path)) {
        while (record) {
            struct store_record *previous = record->previous;
            /* Others may hold the record longer, and must not find a dangling pointer. */
            record->previous = NULL;
            record_drop(store, record);
            record = previous;
        }
    }
    CHECK(store->record_bytes == 0 && store->record_count == 0);
    index_free(&store->index);
    history_free(&store->history);
    lease_table_free(&store->leases);
    mem_free(store->pins);
    mem_free(store);
}

/* ---- changes ---- */

void store_begin(struct store *store)
{
    CHECK(!store->is_open);
    store->is_open = true;
    store->sub_revision = 0;
}

store_revision store_end(struct store *store)
{
    CHECK(store->is_open);
    store->is_open = false;
    if (store->sub_revision > 0) store->revision++;
    return store->revision;
}

/* Gives the record its place in time, and links it before `previous` (may be NULL). */
static void record_becomes_newest(struct store *store, struct store_record *record, struct store_record *previous)
{
    CHECK(store->is_open && store->sub_revision < UINT32_MAX);
    record->mod_revision = store->revision + 1;
    record->sub_revision = store->sub_revision++;
    record->previous = previous;
    history_append(&store->history, record);
    if (previous && !store_record_is_tombstone(previous)) store->live_bytes -= store_payload_bytes(previous);
    if (!store_record_is_tombstone(record)) store->live_bytes += store_payload_bytes(record);
}

void store_put(struct store *store, struct bytes key, struct bytes value, uint64_t lease,
               const struct store_record **previous)
{
    struct index_path path;
    index_seek(&store->index, key, &path);
    struct store_record *newest = path.found ? index_path_record(&store->index, &path) : NULL;
    bool was_live = newest && !store_record_is_tombstone(newest);

    struct store_record *record = store_record_new(store, key, value);
    record->lease = lease;
    record->version = was_live ? newest->version + 1 : 1;
    record->create_revision = was_live ? newest->create_revision : store->revision + 1;
    record_becomes_newest(store, record, newest);
    if (newest) {
        index_replace(&store->index, &path, record);
    } else {
        index_insert(&store->index, &path, record);
    }
    lease_table_key_changed(&store->leases, was_live ? newest : NULL, record);
    if (previous) *previous = was_live ? newest : NULL;
}

/* Puts a tombstone in place of the live record at the path. */
static void delete_at(struct store *store, struct index_path *path, struct store_record *newest)
{
    struct store_record *tombstone = store_record_new(store, store_record_key(newest), bytes_of(NULL, 0));
    tombstone->lease = 0;
    tombstone->version = 0;
    tombstone->create_revision = 0;
    record_becomes_newest(store, tombstone, newest);
    index_replace(&store->index, path, tombstone);
    lease_table_key_changed(&store->leases, newest, NULL);
}

bool store_delete(struct store *store, struct bytes key, const struct store_record **previous)
{
    CHECK(store->is_open);
    if (previous) *previous = NULL;
    struct index_path path;
    index_seek(&store->index, key, &path);
    if (!path.found) return false;
    struct store_record *newest = index_path_record(&store->index, &path);
    if (store_record_is_tombstone(newest)) return false;
    delete_at(store, &path, newest);
    if (previous) *previous = newest;
    return true;
}

/* Whether `key` is at or after the end of a range. */
static bool is_past(struct bytes key, struct bytes end)
{
    return end.size > 0 && bytes_compare(key, end) >= 0;
}

uint64_t store_delete_range(struct store *store, struct bytes key, struct bytes end)
{
    CHECK(store->is_open);
    uint64_t deleted = 0;
    struct index_path path;
    struct store_record *record;
    index_seek(&store->index, key, &path);
    for (; (record = index_path_live(&store->index, &path)) != NULL; index_path_next(&path)) {
        if (is_past(store_record_key(record), end)) break;
        delete_at(store, &path, record);
        deleted++;
    }
    return deleted;
}

/* ---- reads ---- */

store_revision store_current_revision(const struct store *store)
{
    return store->revision;
}

store_revision store_compacted_revision(const struct store *store)
{
    return store->compacted_revision;
}

enum error store_get(const struct store *store, struct bytes key, store_revision revision,
                     const struct store_record **out)
{
    if (revision > store->revision) return ERR_FUTURE_REVISION;
    if (revision > 0 && revision < store->compacted_revision) return ERR_COMPACTED;
    const struct store_record *record = store_version_at(index_find(&store->index, key), revision);
    if (!record || store_record_is_tombstone(record)) return ERR_NOT_FOUND;
    *out = record;
    return ERR_OK;
}

uint64_t store_count(const struct store *store, struct bytes key, struct bytes end)
{
    if (is_past(key, end)) return 0;
    uint64_t below_end = end.size > 0 ? index_count_below(&store->index, end) : store->index.live;
    return below_end - index_count_below(&store->index, key);
}

void store_cursor_open(struct store_cursor *cursor, struct bytes key, struct bytes end, store_revision revision)
{
    *cursor = (struct store_cursor){.revision = revision};
    if (key.size > 0) buffer_append(&cursor->next, key.data, key.size);
    if (end.size > 0) buffer_append(&cursor->end, end.data, end.size);
}

void store_cursor_close(struct store_cursor *cursor)
{
    buffer_free(&cursor->next);
    buffer_free(&cursor->end);
    cursor->done = true;
}

size_t store_cursor_next(const struct store *store, struct store_cursor *cursor, const struct store_record **records,
                         size_t max)
{
    CHECK(max > 0);
    if (cursor->done) return 0;
    size_t count = 0;
    size_t keys_left = max > SIZE_MAX / CURSOR_KEYS_PER_RECORD ? SIZE_MAX : max * CURSOR_KEYS_PER_RECORD;
    /* What is deleted now is nothing to a reader of now, and may be passed over however much of it there is. */
    bool now = cursor->revision <= 0 || (cursor->revision == store->revision && !store->is_open);
    struct index_path path;
    index_seek(&store->index, buffer_bytes(&cursor->next), &path);
    for (;; index_path_next(&path)) {
        struct store_record *record =
            now ? index_path_live(&store->index, &path) : index_path_record(&store->index, &path);
        if (!record || is_past(store_record_key(record), buffer_bytes(&cursor->end))) {
            cursor->done = true;
            return count;
        }
        if (count == max || keys_left == 0) {
            struct bytes key = store_record_key(record);
            buffer_clear(&cursor->next);
            buffer_append(&cursor->next, key.data, key.size);
            return count;
        }
        keys_left--;
        const struct store_record *version = store_version_at(record, cursor->revision);
        if (version && !store_record_is_tombstone(version)) records[count++] = version;
    }
}

/* ---- history ---- */

size_t store_history_next(const struct store *store, store_revision revision, uint64_t *position,
                          const struct store_record **records, size_t max)
{
    /* A position is the sequence number plus 1, since 0 stands for the start. */
    const struct history *history = &store->history;
    uint64_t sequence = *position > 0 ? *position - 1 : history_after(history, revision);
    if (sequence < history->compacted) sequence = history->compacted;
    size_t count = 0;
    for (; count < max && sequence < history->end; sequence++) {
        const struct store_record *record = history_record(history, sequence);
        if (record->mod_revision > store->revision) break; /* of the open transaction */
        records[count++] = record;
    }
    *position = sequence + 1;
    return count;
}

enum error store_compact(struct store *store, store_revision revision)
{
    CHECK(!store->is_open);
    if (revision <= store->compacted_revision) return ERR_COMPACTED;
    if (revision > store->revision) return ERR_FUTURE_REVISION;
    store->compacted_revision = revision;
    history_compact(&store->history, revision);
    return ERR_OK;
}

/* Up to which revision what was superseded may go now. */
static store_revision step_limit(const struct store *store)
{
    store_revision limit = store->compacted_revision;
    for (uint32_t i = 0; i < store->pin_capacity; i++) {
        if (store->pins[i] != STORE_PIN_NONE && store->pins[i] < limit) limit = store->pins[i];
    }
    return limit;
}

/* Slots below the limit go; those at it only give back what they superseded. */
static bool pop_is_due(const struct store *store, store_revision limit)
{
    const struct history *history = &store->history;
    return history->begin < history->compacted && history_record(history, history->begin)->mod_revision < limit;
}

static bool release_is_due(const struct store *store, store_revision limit)
{
    const struct history *history = &store->history;
    uint64_t sequence = store->released > history->begin ? store->released : history->begin;
    return sequence < history->compacted && history_record(history, sequence)->mod_revision <= limit;
}

/* No revision that can be read shows what this record superseded. `before`: only if that is older than this revision. */
static void release_superseded(struct store *store, struct store_record *record, store_revision before)
{
    struct store_record *previous = record->previous;
    if (!previous || previous->mod_revision >= before) return;
    record->previous = NULL;
    record_drop(store, previous);
}

static void pop_slot(struct store *store)
{
    struct store_record *record = history_record(&store->history, store->history.begin);
    history_pop(&store->history);
    /* What it superseded had its own slot earlier, so that nothing hangs on it, and no slot leads to it. */
    release_superseded(store, record, INT64_MAX);
    if (!store_record_is_tombstone(record)) return;
    /* A tombstone goes at once if it is the key's newest; else with the slot of the version that superseded it. */
    struct index_path path;
    index_seek(&store->index, store_record_key(record), &path);
    CHECK(path.found);
    if (index_path_record(&store->index, &path) != record) return;
    index_remove(&store->index, &path);
    record_drop(store, record);
}

static void release_slot(struct store *store)
{
    if (store->released < store->history.begin) store->released = store->history.begin;
    struct store_record *record = history_record(&store->history, store->released++);
    /* What the same revision superseded has a slot that stays, too. */
    release_superseded(store, record, record->mod_revision);
}

bool store_compact_step(struct store *store, size_t max)
{
    CHECK(!store->is_open);
    store_revision limit = step_limit(store);
    for (; max > 0; max--) {
        if (pop_is_due(store, limit)) {
            pop_slot(store);
        } else if (release_is_due(store, limit)) {
            release_slot(store);
        } else {
            return false;
        }
    }
    return pop_is_due(store, limit) || release_is_due(store, limit);
}

uint32_t store_pin(struct store *store, store_revision revision)
{
    CHECK(revision >= store->compacted_revision && revision <= store->revision);
    uint32_t pin = 0;
    while (pin < store->pin_capacity && store->pins[pin] != STORE_PIN_NONE) pin++;
    if (pin == store->pin_capacity) {
        uint32_t capacity = pin > 0 ? 2 * pin : 8;
        store->pins = mem_realloc(store->pins, capacity * sizeof store->pins[0]);
        for (uint32_t i = pin; i < capacity; i++) store->pins[i] = STORE_PIN_NONE;
        store->pin_capacity = capacity;
    }
    store->pins[pin] = revision;
    return pin;
}

void store_unpin(struct store *store, uint32_t pin)
{
    CHECK(pin < store->pin_capacity && store->pins[pin] != STORE_PIN_NONE);
    store->pins[pin] = STORE_PIN_NONE;
}

uint64_t store_history_bytes(const struct store *store)
{
    return history_cost(&store->history);
}

uint64_t store_live_bytes(const struct store *store)
{
    return store->live_bytes;
}

uint64_t store_key_count(const struct store *store)
{
    return store->index.live;
}

uint64_t store_memory_bytes(const struct store *store)
{
    return sizeof *store + store->record_bytes + store->record_count * ALLOCATION_OVERHEAD_BYTES +
           store->index.memory_bytes + history_memory_bytes(&store->history) +
           lease_table_memory_bytes(&store->leases) + store->pin_capacity * sizeof store->pins[0];
}

/* ---- verifying ---- */

static bool is_before(const struct store_record *a, const struct store_record *b)
{
    return a->mod_revision != b->mod_revision ? a->mod_revision < b->mod_revision : a->sub_revision < b->sub_revision;
}

struct verify_totals {
    uint64_t live_bytes;
    uint64_t record_bytes;
    uint64_t record_count;
    uint64_t slots;    /* records that must have a slot in the history */
    uint64_t attached; /* keys on leases */
};

static void verify_record(const struct store *store, const struct store_record *record)
{
    CHECK(record->refs > 0);
    CHECK(record->key_bytes >= 1 && record->key_bytes <= STORE_KEY_BYTES_MAX);
    CHECK(record->mod_revision >= 2 && record->mod_revision <= store->revision + (store->is_open ? 1 : 0));
    if (store_record_is_tombstone(record)) {
        CHECK(record->create_revision == 0 && record->lease == 0 && record->value_bytes == 0);
    } else {
        CHECK(record->version >= 1 && record->create_revision <= record->mod_revision);
        CHECK(record->version > 1 || record->create_revision == record->mod_revision);
    }
    const struct store_record *previous = record->previous;
    if (!previous) return;
    CHECK(is_before(previous, record));
    CHECK(bytes_equal(store_record_key(previous), store_record_key(record)));
    if (store_record_is_tombstone(record)) {
        CHECK(!store_record_is_tombstone(previous));
    } else if (store_record_is_tombstone(previous)) {
        CHECK(record->version == 1);
    } else {
        CHECK(record->version == previous->version + 1 && record->create_revision == previous->create_revision);
    }
}

void store_verify(const struct store *store)
{
    index_verify(&store->index);
    history_verify(&store->history);
    const struct history *history = &store->history;
    const struct store_record *oldest = history->begin < history->end ? history_record(history, history->begin) : NULL;

    struct verify_totals totals = {.slots = 0};
    struct index_path path;
    struct store_record *newest;
    index_seek(&store->index, bytes_of(NULL, 0), &path);
    for (; (newest = index_path_record(&store->index, &path)) != NULL; index_path_next(&path)) {
        if (!store_record_is_tombstone(newest)) totals.live_bytes += store_payload_bytes(newest);
        totals.attached += lease_table_has_key(&store->leases, newest);
        for (const struct store_record *record = newest; record; record = record->previous) {
            verify_record(store, record);
            totals.record_bytes += store_record_bytes(record);
            totals.record_count++;
            bool has_slot = oldest && !is_before(record, oldest);
            totals.slots += has_slot;
            /* Once its slot is processed nothing is behind a record, nor is a deleted key's tombstone kept. */
            if (!has_slot) CHECK(!record->previous && (record != newest || !store_record_is_tombstone(record)));
        }
    }
    CHECK(totals.live_bytes == store->live_bytes);
    CHECK(totals.record_bytes == store->record_bytes);
    CHECK(totals.record_count == store->record_count);
    CHECK(totals.slots == history->end - history->begin);
    lease_table_verify(&store->leases, totals.attached);

    CHECK(store->compacted_revision >= 0 && store->compacted_revision <= store->revision);
    if (history->compacted > history->begin) {
        CHECK(history_record(history, history->compacted - 1)->mod_revision <= store->compacted_revision);
    }
    if (history->compacted < history->end) {
        CHECK(history_record(history, history->compacted)->mod_revision > store->compacted_revision);
    }
}
