/*
 * bench_store.c - the store by itself: time for each operation, and memory for each key.
 *
 *     bench_store [keys]        default 1,000,000, of 16 random bytes, with values of 256 bytes
 *
 * Times are the process's own processor time, and in parentheses the kernel's on top: mostly for giving pages out.
 * Resident memory is what the process grew by, so run it alone.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/random.h"
#include "replica/content_scrub.h"
#include "store/store.h"
#include "store/store_digest.h"
#include "store/store_snapshot.h"

#define KEY_BYTES 16u
#define VALUE_BYTES 256u
#define SLICE_BYTES ((size_t)1 << 20)

static uint8_t value[VALUE_BYTES];

/* Key number `i`: random, but found again from its number. */
static struct bytes key_of(uint64_t i, uint8_t key[KEY_BYTES])
{
    put_u64(key, random_mix(i));
    put_u64(key + 8, random_mix(~i));
    return bytes_of(key, KEY_BYTES);
}

struct times {
    double user_s;
    double kernel_s;
};

static struct times now(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (struct times){
        .user_s = (double)usage.ru_utime.tv_sec + (double)usage.ru_utime.tv_usec / 1e6,
        .kernel_s = (double)usage.ru_stime.tv_sec + (double)usage.ru_stime.tv_usec / 1e6,
    };
}

static uint64_t resident_bytes(void)
{
    unsigned long long total = 0;
    unsigned long long resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file) {
        if (fscanf(file, "%llu %llu", &total, &resident) != 2) resident = 0;
        fclose(file);
    }
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void report(const char *what, uint64_t count, struct times start)
{
    struct times end = now();
    double user_s = end.user_s - start.user_s;
    printf("%-32s %7.0f ns each, %.3f s in all (kernel: %.3f s)\n", what, user_s / (double)count * 1e9, user_s,
           end.kernel_s - start.kernel_s);
}

static void report_memory(const char *what, uint64_t keys, uint64_t before)
{
    uint64_t grown = resident_bytes() - before;
    printf("%-32s %7.1f bytes a key above the payload\n", what,
           ((double)grown - (double)keys * (KEY_BYTES + VALUE_BYTES)) / (double)keys);
}

static void put(struct store *store, struct bytes key)
{
    store_begin(store);
    store_put(store, key, bytes_of(value, sizeof value), 0, NULL);
    store_end(store);
}

static void compact(struct store *store, uint64_t keys)
{
    struct times start = now();
    if (store_compact(store, store_current_revision(store)) != ERR_OK) abort();
    while (store_compact_step(store, 1000)) continue;
    report("compact, for each change", keys, start);
}

static void read_all(const struct store *store, uint64_t keys)
{
    static const struct store_record *records[1000];
    uint8_t key[KEY_BYTES];
    uint64_t found = 0;
    struct times start = now();
    for (uint64_t i = 0; i < keys; i++) {
        found += store_get(store, key_of(random_mix(i) % keys, key), 0, &records[0]) == ERR_OK;
    }
    report("get, random", keys, start);
    if (found != keys) abort();

    uint64_t seeks = keys / 10;
    start = now();
    for (uint64_t i = 0; i < seeks; i++) {
        struct store_cursor cursor;
        store_cursor_open(&cursor, key_of(~i, key), bytes_of(NULL, 0), 0);
        found += store_cursor_next(store, &cursor, records, 10);
        store_cursor_close(&cursor);
    }
    report("range of 10 keys", seeks, start);

    start = now();
    for (uint64_t i = 0; i < seeks; i++) found += store_count(store, key_of(~i, key), bytes_of(NULL, 0));
    report("count", seeks, start);

    start = now();
    struct store_cursor cursor;
    store_cursor_open(&cursor, bytes_of(NULL, 0), bytes_of(NULL, 0), 0);
    for (found = 0; !cursor.done;) found += store_cursor_next(store, &cursor, records, ARRAY_COUNT(records));
    store_cursor_close(&cursor);
    report("range over all, for each key", keys, start);
    if (found != keys) abort();
}

/* What the scrub of contents adds to a put (replica/content_scrub.h), with the limits that a new cluster gets. */
static void scrub(const struct store *store, uint64_t keys)
{
    const struct content_scrub_limits limits = CONTENT_SCRUB_LIMITS_DEFAULT;
    struct buffer next_key = {.data = NULL};
    uint64_t slices = 0;
    uint64_t digest = 0;
    struct times start = now();
    do {
        digest ^= store_digest(store, &next_key, limits.keys_max, limits.bytes_max);
        slices++;
    } while (next_key.size > 0);
    report("scrub of contents, for each key", keys, start);
    report("the same, for each put", slices * limits.interval, start);
    if (digest == 0) abort();
    buffer_free(&next_key);
}

static void snapshot_and_load(struct store *store, uint64_t keys)
{
    struct buffer snapshot = {.data = NULL};
    buffer_reserve(&snapshot, keys * 340 + 2 * SLICE_BYTES);
    memset(snapshot.data, 0, snapshot.capacity); /* so that its pages are there */
    struct store_snapshot_writer writer;
    struct times start = now();
    store_snapshot_begin(store, &writer);
    while (!writer.done) store_snapshot_next(store, &writer, SLICE_BYTES, &snapshot);
    report("snapshot, for each key", keys, start);
    store_revision revision = writer.revision;
    store_revision compacted_revision = writer.compacted_revision;
    store_snapshot_end(store, &writer);

    uint64_t before = resident_bytes();
    start = now();
    struct store *loaded = store_new();
    struct store_loader *loader = store_loader_new(loaded, revision, compacted_revision);
    if (store_loader_feed(loader, buffer_bytes(&snapshot)) != ERR_OK) abort();
    if (store_loader_finish(loader) != ERR_OK) abort();
    report("load, for each key", keys, start);
    report_memory("memory, loaded", keys, before);
    buffer_free(&snapshot);
    store_free(loaded);
}

int main(int argc, char **argv)
{
    uint64_t keys = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000;
    if (keys < 10) {
        fprintf(stderr, "usage: bench_store [keys], at least 10\n");
        return 2;
    }
    memset(value, 'v', sizeof value);
    printf("%" PRIu64 " keys of %u bytes, values of %u bytes\n", keys, KEY_BYTES, VALUE_BYTES);
    uint8_t key[KEY_BYTES];
    struct store *store = store_new();
    uint64_t before = resident_bytes();
    struct times start = now();
    for (uint64_t i = 0; i < keys; i++) put(store, key_of(i, key));
    report("put, new keys in random order", keys, start);
    report_memory("memory", keys, before);
    printf("%-32s %7.1f bytes a key above the payload\n", "memory by store_memory_bytes",
           (double)store_memory_bytes(store) / (double)keys - KEY_BYTES - VALUE_BYTES);

    read_all(store, keys);
    scrub(store, keys);
    snapshot_and_load(store, keys);

    compact(store, keys);
    start = now();
    for (uint64_t i = 0; i < keys; i++) put(store, key_of(random_mix(i) % keys, key));
    report("put, overwriting at random", keys, start);
    start = now();
    store_begin(store);
    uint64_t deleted = 0;
    for (uint64_t i = 0; i < keys / 2; i++) deleted += store_delete(store, key_of(i, key), NULL);
    store_end(store);
    report("delete, random", deleted, start);
    compact(store, keys + deleted);
    store_free(store);
    return 0;
}
