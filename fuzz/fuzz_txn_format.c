/*
 * Reads any bytes as the transaction of a COMMAND_TXN. What is accepted must be written as the same bytes again; and applied to a
 * store, with or without collecting answers, it must leave the same sound state, or the one before where it is refused.
 */
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/mem.h"
#include "storage/txn_format.h"
#include "store/leases.h"
#include "store/store_digest.h"
#include "store/txn.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_writes_the_same(const struct txn *txn, struct bytes bytes)
{
    CHECK(txn_format_bytes(txn) == bytes.size);
    uint8_t *out = mem_alloc(bytes.size + 1);
    txn_format_encode(txn, out);
    CHECK(bytes_equal(bytes_of(out, bytes.size), bytes));
    mem_free(out);
}

static struct store *small_store(void)
{
    struct store *store = store_new();
    store_lease_grant(store, 1, 60);
    for (char letter = 'a'; letter <= 'e'; letter++) {
        store_begin(store);
        store_put(store, bytes_of(&letter, 1), bytes_of_string("value"), letter == 'c', NULL);
        store_end(store);
    }
    store_compact(store, 3);
    return store;
}

static uint64_t digest_of(const struct store *store)
{
    struct buffer next_key = {.data = NULL};
    uint64_t digest = store_digest(store, &next_key, UINT32_MAX, UINT64_MAX);
    buffer_free(&next_key);
    return digest;
}

static void apply(const struct txn *txn, struct arena *arena)
{
    struct store *collecting = small_store(), *plain = small_store();
    uint64_t digest = digest_of(plain);
    store_revision revision = store_current_revision(plain);
    struct txn_answer answer;
    enum error error = txn_apply(collecting, txn, arena, &answer);
    CHECK(txn_apply(plain, txn, NULL, NULL) == error);
    store_verify(collecting);
    store_verify(plain);
    CHECK(store_current_revision(collecting) == store_current_revision(plain));
    CHECK(digest_of(collecting) == digest_of(plain));
    bool changed = store_current_revision(plain) != revision;
    CHECK(!changed || (error == ERR_OK && !txn_is_read_only(txn)));
    CHECK(changed || digest_of(plain) == digest);
    store_free(collecting);
    store_free(plain);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena = {.chunks = NULL};
    struct txn txn;
    if (txn_format_decode(bytes_of(data, size), &arena, &txn) == ERR_OK) {
        check_writes_the_same(&txn, bytes_of(data, size));
        apply(&txn, &arena);
    }
    arena_free(&arena);
    return 0;
}
