/*
 * Loads any bytes as the store's part of a snapshot. What is accepted must be a sound store that writes the same bytes
 * again, and stays sound under changes and compaction.
 *
 * Input: 1 byte revision, 1 byte compacted revision, then the payload.
 */
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "store/store_snapshot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_writes_the_same(struct store *store, struct bytes payload)
{
    struct buffer out = {.data = NULL};
    struct store_snapshot_writer writer;
    store_snapshot_begin(store, &writer);
    while (!writer.done) store_snapshot_next(store, &writer, 100, &out);
    store_snapshot_end(store, &writer);
    CHECK(bytes_equal(buffer_bytes(&out), payload));
    buffer_free(&out);
}

static void change_and_compact(struct store *store)
{
    store_begin(store);
    store_put(store, bytes_of_string("a"), bytes_of_string("value"), 1, NULL);
    store_delete_range(store, bytes_of_string("b"), bytes_of(NULL, 0));
    store_revision revision = store_end(store);
    store_verify(store);
    CHECK(store_compact(store, revision) == ERR_OK);
    CHECK(store_history_bytes(store) == 0);
    while (store_compact_step(store, 3)) continue;
    store_verify(store);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    struct bytes payload = bytes_of(data + 2, size - 2);
    struct store *store = store_new();
    struct store_loader *loader = store_loader_new(store, data[0], data[1]);
    store_loader_feed(loader, payload);
    if (store_loader_finish(loader) == ERR_OK) {
        store_verify(store);
        check_writes_the_same(store, payload);
        change_and_compact(store);
    }
    store_free(store);
    return 0;
}
