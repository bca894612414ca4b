#include "store/store_digest.h"

#include "base/check.h"
#include "base/crc32c.h"
#include "base/mutant.h"
#include "base/random.h"
#include "store/store_internal.h"

#define FIELDS_BYTES (4u * 8u + 3u * 4u)
/* Records whose cache misses overlap, and what is fetched ahead of one; the rest of a long one comes in order anyhow. */
#define BATCH 16u
#define PREFETCH_BYTES_MAX 512u
#define CACHE_LINE_BYTES 64u

static uint64_t add_lease(uint64_t digest, const struct lease *lease)
{
    if (lease == NULL) return random_mix(digest);
    digest = random_mix(digest ^ (uint64_t)lease->ttl_s);
    digest = random_mix(digest ^ (uint64_t)lease->remaining_s);
    return random_mix(digest ^ lease->key_count);
}

/* CRC-32C finds each flipped bit of a record for sure, and reads it as fast as memory gives it. */
static uint64_t add_record(uint64_t digest, const struct store *store, const struct store_record *record)
{
    uint8_t fields[FIELDS_BYTES];
    put_u64(fields, (uint64_t)record->create_revision);
    put_u64(fields + 8, (uint64_t)record->mod_revision);
    put_u64(fields + 16, (uint64_t)record->version);
    put_u64(fields + 24, record->lease);
    put_u32(fields + 32, record->key_bytes);
    put_u32(fields + 36, record->value_bytes);
    put_u32(fields + 40, record->sub_revision);
    uint32_t crc = crc32c(0, fields, sizeof fields);
    digest = random_mix(digest ^ crc32c(crc, record->data, store_payload_bytes(record)));
    return record->lease == 0 ? digest : add_lease(digest, lease_table_find(&store->leases, record->lease));
}

static const struct store_record *next_record(const struct store *store, struct index_path *path)
{
    if (MUTANT(CONTENT_SCRUB_SEES_DEAD)) return index_path_record(&store->index, path);
    return index_path_live(&store->index, path);
}

/* Gathers up to `max` records from the path on, which moves past them, and asks for their memory: all at once, not one
   after another. */
static uint32_t gather(const struct store *store, struct index_path *path, const struct store_record **records,
                       uint32_t max)
{
    uint32_t count = 0;
    for (const struct store_record *record; count < max && (record = next_record(store, path)) != NULL;) {
        __builtin_prefetch(record);
        records[count++] = record;
        index_path_next(path);
    }
    for (uint32_t i = 0; i < count; i++) {
        uint64_t bytes = sizeof *records[i] + store_payload_bytes(records[i]);
        if (bytes > PREFETCH_BYTES_MAX) bytes = PREFETCH_BYTES_MAX;
        for (uint64_t at = CACHE_LINE_BYTES; at < bytes; at += CACHE_LINE_BYTES) {
            __builtin_prefetch((const uint8_t *)records[i] + at);
        }
    }
    return count;
}

uint64_t store_digest(const struct store *store, struct buffer *next_key, uint32_t keys_max, uint64_t bytes_max)
{
    CHECK(!store->is_open && keys_max > 0 && bytes_max > 0);
    uint64_t digest = 0;
    uint64_t bytes = 0;
    uint32_t keys = 0;
    const struct store_record *records[BATCH];
    struct index_path path;
    index_seek(&store->index, buffer_bytes(next_key), &path);
    buffer_clear(next_key);
    for (uint32_t count = BATCH; count == BATCH;) {
        count = gather(store, &path, records, BATCH);
        for (uint32_t i = 0; i < count; i++, keys++) {
            if (keys == keys_max || bytes >= bytes_max) {
                buffer_append(next_key, records[i]->data, records[i]->key_bytes);
                return digest;
            }
            digest = add_record(digest, store, records[i]);
            bytes += store_payload_bytes(records[i]);
        }
    }
    return digest;
}
