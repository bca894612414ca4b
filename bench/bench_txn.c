/*
 * bench_txn.c - transactions and leases by themselves: time for each, and the longest step of what goes in slices.
 *
 *     bench_txn [keys]        default 1,000,000, of 16 random bytes, with values of 256 bytes
 *
 * The transaction is the one that Kubernetes updates an object with: if the key's mod revision is the one that was read, put;
 * else get it. Times are the process's own processor time, the kernel's included.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/mem.h"
#include "base/random.h"
#include "storage/txn_format.h"
#include "store/leases.h"
#include "store/store_snapshot.h"
#include "store/txn.h"

#define KEY_BYTES 16u
#define VALUE_BYTES 256u
#define TXNS 1000000u
#define LEASES 1000000u
#define LEASE_KEYS 100000u
#define SLICE_LEASES 10000u

static uint8_t value[VALUE_BYTES];

/* Key number `i`: random, but found again from its number. */
static struct bytes key_of(uint64_t i, uint8_t key[KEY_BYTES])
{
    put_u64(key, random_mix(i));
    put_u64(key + 8, random_mix(~i));
    return bytes_of(key, KEY_BYTES);
}

static double processor(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void report(const char *what, uint64_t count, double start)
{
    printf("%-52s %8.0f ns each\n", what, (processor() - start) / (double)count * 1e9);
}

static void report_step(const char *what, double longest_s)
{
    printf("%-52s %8.2f ms\n", what, longest_s * 1e3);
}

struct update {
    struct txn_compare compare;
    struct txn_op put, get;
    struct txn txn;
};

static void update_of(struct update *update, struct bytes key, store_revision mod_revision)
{
    *update = (struct update){
        .compare = {.target = COMPARE_MOD, .key = key, .number = mod_revision},
        .put = {.kind = TXN_PUT, .put = {.key = key, .value = bytes_of(value, VALUE_BYTES)}},
        .get = {.kind = TXN_RANGE, .range = {.key = key}},
    };
    update->txn = (struct txn){.compares = &update->compare,
                               .success = &update->put,
                               .failure = &update->get,
                               .compare_count = 1,
                               .success_count = 1,
                               .failure_count = 1};
}

static void transactions(struct store *store, uint64_t keys)
{
    uint8_t key[KEY_BYTES];
    struct arena arena = {.chunks = NULL};
    struct txn_answer answer;
    struct update update;
    uint64_t succeeded = 0;
    for (int awaited = 0; awaited <= 1; awaited++) {
        double start = processor();
        for (uint64_t i = 0; i < TXNS; i++) {
            const struct store_record *record;
            struct bytes name = key_of(random_mix(i) % keys, key);
            if (store_get(store, name, 0, &record) != ERR_OK) abort();
            arena_reset(&arena);
            update_of(&update, name, record->mod_revision);
            if (txn_apply(store, &update.txn, awaited ? &arena : NULL, &answer) != ERR_OK) abort();
            succeeded += awaited && answer.succeeded;
        }
        report(awaited ? "update, answer collected (with the get before)" : "update (with the get before)", TXNS,
               start);
        if (store_compact(store, store_current_revision(store)) != ERR_OK) abort();
        while (store_compact_step(store, 1000)) continue;
    }
    if (succeeded != TXNS) abort();
    double start = processor();
    for (uint64_t i = 0; i < TXNS; i++) {
        arena_reset(&arena);
        update_of(&update, key_of(random_mix(i) % keys, key), 1);
        if (txn_apply(store, &update.txn, &arena, &answer) != ERR_OK) abort();
        succeeded -= answer.answers[0].record_count;
    }
    report("update that fails and gets, answer collected", TXNS, start);
    if (succeeded != 0) abort();

    uint8_t encoded[512];
    size_t size = txn_format_bytes(&update.txn);
    if (size > sizeof encoded) abort();
    start = processor();
    for (uint64_t i = 0; i < TXNS; i++) {
        struct txn decoded;
        arena_reset(&arena);
        update.compare.number = (int64_t)i;
        txn_format_encode(&update.txn, encoded);
        if (txn_format_decode(bytes_of(encoded, size), &arena, &decoded) != ERR_OK) abort();
        succeeded += decoded.compares[0].number == (int64_t)i;
    }
    report("encoded and decoded", TXNS, start);
    if (succeeded != TXNS) abort();
    arena_free(&arena);
}

static void grant(struct store *store)
{
    double longest = 0, start = processor();
    for (uint64_t i = 1; i <= LEASES; i++) {
        /* The clock costs as much as a grant, so it is read only where the table grows: when it is half full. */
        bool grows = 2 * store_lease_count(store) == store_lease_slots(store);
        double step = grows ? processor() : 0;
        if (store_lease_grant(store, random_mix(i), 60) != ERR_OK) abort();
        if (grows && processor() - step > longest) longest = processor() - step;
    }
    report("grant, 1,000,000 leases", LEASES, start);
    report_step("  longest", longest);
}

static void snapshot(struct store *store)
{
    struct buffer out = {.data = NULL}, slice = {.data = NULL};
    double longest = 0, start = processor();
    store_leases_snapshot_begin(store);
    for (bool more = true; more;) {
        buffer_clear(&slice);
        double step = processor();
        more = store_leases_snapshot_next(store, SLICE_LEASES, &slice);
        step = processor() - step;
        if (step > longest) longest = step;
        buffer_append(&out, slice.data, slice.size);
    }
    store_leases_snapshot_end(store);
    report("snapshot of 1,000,000 leases, each", LEASES, start);
    report_step("  longest slice", longest);
    struct store *loaded = store_new();
    start = processor();
    if (store_leases_decode(loaded, buffer_bytes(&out)) != ERR_OK) abort();
    report("  loaded, each", LEASES, start);
    store_free(loaded);
    buffer_free(&out);
    buffer_free(&slice);
}

static void revoke(struct store *store)
{
    uint8_t key[KEY_BYTES];
    uint64_t id = random_mix(1), deleted;
    double start = processor();
    for (uint64_t i = 0; i < LEASE_KEYS; i++) {
        store_begin(store);
        store_put(store, key_of(i, key), bytes_of(value, VALUE_BYTES), id, NULL);
        store_end(store);
    }
    report("put under one lease, 100,000 keys", LEASE_KEYS, start);
    start = processor();
    double step = processor();
    if (store_lease_revoke(store, id, &deleted) != ERR_OK || deleted != LEASE_KEYS) abort();
    step = processor() - step;
    report("revoke of 100,000 keys, each", LEASE_KEYS, start);
    report_step("  in all", step);
}

int main(int argc, char **argv)
{
    uint64_t keys = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000;
    if (keys < LEASE_KEYS) {
        fprintf(stderr, "usage: bench_txn [keys], at least %u\n", LEASE_KEYS);
        return 2;
    }
    memset(value, 'v', sizeof value);
    printf("%" PRIu64 " keys of %u bytes, values of %u bytes\n", keys, KEY_BYTES, VALUE_BYTES);
    uint8_t key[KEY_BYTES];
    struct store *store = store_new();
    for (uint64_t i = 0; i < keys; i++) {
        store_begin(store);
        store_put(store, key_of(i, key), bytes_of(value, VALUE_BYTES), 0, NULL);
        store_end(store);
    }
    transactions(store, keys);
    grant(store);
    snapshot(store);
    revoke(store);
    store_free(store);
    return 0;
}
