/*
 * Random histories against the model: changes, compaction in slices, pinned cursors and snapshots, all at once.
 */
#include "store/store.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "store/store_snapshot.h"
#include "store_model.h"

#define CURSORS 3u

/* A cursor over everything, in slices, held by a pin at its revision. */
struct scan {
    bool is_open;
    uint32_t pin;
    struct store_cursor cursor;
    uint32_t next_key;
};

/* A snapshot being written in slices, and what the model was at the time of its pin. */
struct taking {
    bool is_open;
    struct store_snapshot_writer writer;
    struct buffer payload;
    size_t version_count;
    store_revision revision;
    store_revision compacted_revision;
    uint64_t history_bytes;
};

struct run {
    struct random random;
    struct model model;
    struct store *store;
    struct scan scans[CURSORS];
    struct taking taking;
    unsigned snapshots; /* completed */
    unsigned scans_done;
};

static void step_scan(struct run *run, struct scan *scan)
{
    struct random *random = &run->random;
    if (!scan->is_open) {
        store_revision first = run->model.compacted_revision > 0 ? run->model.compacted_revision : 1;
        store_revision revision =
            first + (store_revision)random_below(random, (uint64_t)(run->model.revision - first) + 1);
        scan->is_open = true;
        scan->pin = store_pin(run->store, revision);
        scan->next_key = 0;
        store_cursor_open(&scan->cursor, bytes_of(NULL, 0), bytes_of(NULL, 0), revision);
        return;
    }
    const struct store_record *records[5];
    size_t count = store_cursor_next(run->store, &scan->cursor, records, random_between(random, 1, 5));
    /* Right also when everything it reads has been compacted meanwhile. */
    for (size_t i = 0; i < count; i++) {
        const struct model_version *version = NULL;
        while (scan->next_key < run->model.key_count && !version) {
            version = model_get(&run->model, scan->next_key++, scan->cursor.revision);
        }
        assert_non_null(version);
        model_check_record(&run->model, version, records[i]);
    }
    if (!scan->cursor.done && !random_chance(random, 10)) return;
    while (scan->cursor.done && scan->next_key < run->model.key_count) {
        assert_null(model_get(&run->model, scan->next_key++, scan->cursor.revision));
    }
    run->scans_done += scan->cursor.done;
    store_cursor_close(&scan->cursor);
    store_unpin(run->store, scan->pin);
    scan->is_open = false;
}

static struct store *load(struct bytes payload, store_revision revision, store_revision compacted_revision)
{
    struct store *store = store_new();
    struct store_loader *loader = store_loader_new(store, revision, compacted_revision);
    assert_int_equal(store_loader_feed(loader, payload), ERR_OK);
    assert_int_equal(store_loader_finish(loader), ERR_OK);
    return store;
}

static void finish_taking(struct run *run)
{
    struct taking *taking = &run->taking;
    assert_int_equal(taking->writer.revision, taking->revision);
    assert_int_equal(taking->writer.compacted_revision, taking->compacted_revision);
    store_snapshot_end(run->store, &taking->writer);
    taking->is_open = false;
    run->snapshots++;

    /* The loaded store equals the old one at the pin. */
    struct store *loaded = load(buffer_bytes(&taking->payload), taking->revision, taking->compacted_revision);
    struct model then = model_cut(&run->model, taking->version_count, taking->revision, taking->compacted_revision);
    model_check(&then, loaded, &run->random, false);
    assert_int_equal(store_history_bytes(loaded), taking->history_bytes);

    /* Its own snapshot is the same, byte for byte, written in one go. */
    struct buffer again = {.data = NULL};
    struct store_snapshot_writer writer;
    store_snapshot_begin(loaded, &writer);
    while (!writer.done) store_snapshot_next(loaded, &writer, SIZE_MAX / 2, &again);
    store_snapshot_end(loaded, &writer);
    assert_true(bytes_equal(buffer_bytes(&again), buffer_bytes(&taking->payload)));
    buffer_free(&again);

    /* And with the same changes since, and the same compaction, it becomes what the old one is by now. */
    model_replay(&run->model, taking->version_count, loaded);
    if (run->model.compacted_revision > taking->compacted_revision) {
        assert_int_equal(store_compact(loaded, run->model.compacted_revision), ERR_OK);
    }
    model_check(&run->model, loaded, &run->random, false);
    assert_int_equal(store_history_bytes(loaded), store_history_bytes(run->store));
    if (random_chance(&run->random, 500)) {
        while (store_compact_step(loaded, 10)) continue;
        model_check(&run->model, loaded, &run->random, false);
    }
    store_free(loaded);
}

static void step_taking(struct run *run)
{
    struct taking *taking = &run->taking;
    if (!taking->is_open) {
        taking->is_open = true;
        taking->version_count = run->model.version_count;
        taking->revision = run->model.revision;
        taking->compacted_revision = run->model.compacted_revision;
        taking->history_bytes = store_history_bytes(run->store);
        buffer_clear(&taking->payload);
        store_snapshot_begin(run->store, &taking->writer);
        return;
    }
    store_snapshot_next(run->store, &taking->writer, random_between(&run->random, 1, 2000), &taking->payload);
    if (taking->writer.done) {
        finish_taking(run);
    } else if (random_chance(&run->random, 5)) {
        store_snapshot_end(run->store, &taking->writer);
        taking->is_open = false;
    }
}

static void step_compaction(struct run *run)
{
    struct random *random = &run->random;
    struct model *model = &run->model;
    assert_int_equal(store_compact(run->store, model->compacted_revision), ERR_COMPACTED);
    assert_int_equal(store_compact(run->store, model->revision + 1), ERR_FUTURE_REVISION);
    if (model->compacted_revision == model->revision) return;
    uint64_t readable = (uint64_t)(model->revision - model->compacted_revision);
    model->compacted_revision += (store_revision)random_between(random, 1, readable);
    assert_int_equal(store_compact(run->store, model->compacted_revision), ERR_OK);
}

static void step(struct run *run)
{
    uint64_t kind = random_below(&run->random, 100);
    if (kind < 40) {
        model_change(&run->model, run->store, &run->random);
    } else if (kind < 43) {
        step_compaction(run);
    } else if (kind < 60) {
        store_compact_step(run->store, random_between(&run->random, 1, 20));
    } else if (kind < 80) {
        step_scan(run, &run->scans[random_below(&run->random, CURSORS)]);
    } else if (kind < 97) {
        step_taking(run);
    } else {
        model_check(&run->model, run->store, &run->random, false);
    }
    if (random_chance(&run->random, 100)) store_verify(run->store);
}

/* Ends what holds pins, and compacts to the end: nothing but the live versions may be left. */
static void wind_up(struct run *run)
{
    model_check(&run->model, run->store, &run->random, true);
    for (unsigned i = 0; i < CURSORS; i++) {
        struct scan *scan = &run->scans[i];
        while (scan->is_open) step_scan(run, scan);
    }
    while (run->taking.is_open) step_taking(run);

    struct model *model = &run->model;
    if (model->compacted_revision < model->revision) {
        assert_int_equal(store_compact(run->store, model->revision), ERR_OK);
        model->compacted_revision = model->revision;
    }
    assert_int_equal(store_history_bytes(run->store), 0);
    while (store_compact_step(run->store, 7)) continue;
    model_check(model, run->store, &run->random, true);
    struct store *fresh = store_new();
    uint64_t fixed = store_memory_bytes(fresh);
    store_free(fresh);
    uint64_t live = store_live_bytes(run->store) + store_key_count(run->store) * (sizeof(struct store_record) + 16);
    /* Besides the live records: a leaf or two more than an empty store has, and one block of history. */
    assert_in_range(store_memory_bytes(run->store), live, live + fixed + 16384);
}

static void run_seed(uint64_t seed, uint32_t key_count, unsigned steps)
{
    struct run run = {.snapshots = 0};
    random_seed(&run.random, seed);
    model_init(&run.model, &run.random, key_count);
    run.store = store_new();
    for (unsigned i = 0; i < steps; i++) step(&run);
    wind_up(&run);
    /* The run did what it is for. */
    assert_true(run.snapshots >= 2 && run.scans_done >= 2 && run.model.revision > steps / 5);
    buffer_free(&run.taking.payload);
    store_free(run.store);
    model_free(&run.model);
}

static void a_few_keys_with_long_histories(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 25; seed++) run_seed(seed, 1 + (uint32_t)seed % 9, 600);
}

static void many_keys(void **state)
{
    (void)state;
    for (uint64_t seed = 100; seed < 104; seed++) run_seed(seed, 150, 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_few_keys_with_long_histories),
        cmocka_unit_test(many_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
