/* The log manager: appending, beginning segments, reading back, removing, lack of room, damage. Crashes and failures at
   every operation are in test_log_faults.c. */
#include "log_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "base/mem.h"
#include "storage/log_metadata.h"

#define KIB 1024u
#define MIB (1024u * 1024)

static struct bench bench;

static struct log_metadata metadata(void)
{
    uint8_t file[SLOT_BYTES * SLOT_COUNT];
    rig_read(&bench.rig, LOG_METADATA, 0, file, sizeof file);
    struct log_metadata out;
    uint64_t generation;
    char damage[SLOT_DAMAGE_BYTES];
    assert_int_equal(log_metadata_decode(bytes_of(file, sizeof file), &out, &generation, damage), ERR_OK);
    assert_memory_equal(file, file + SLOT_BYTES, SLOT_BYTES);
    assert_int_equal(out.log_id, LOG_ID);
    return out;
}

static void start(uint64_t segment_bytes)
{
    bench_init(&bench, 1, segment_bytes);
    bench_recover_ok(&bench, LOG_CLEAN);
}

static void restart(enum log_outcome outcome)
{
    bench_restart(&bench, true);
    bench_recover_ok(&bench, outcome);
    assert_int_equal(bench.result.outcome, outcome);
}

static void test_appends_and_recovers(void **state)
{
    (void)state;
    start(64 * MIB);
    assert_int_equal(bench.result.last_index, 0);
    assert_true(rig_exists(&bench.rig, bench_segment(1)));
    assert_int_equal(rig_size(&bench.rig, bench_segment(1)), LOG_FIRST_SEGMENT_BYTES);
    assert_int_equal(rig_count(&bench.rig, LOG_DIRECTORY, ".seg"), 1);
    for (unsigned i = 0; i < 5; i++) {
        bench.commit = bench.log.last_index;
        bench_append(&bench, 1 + i, 100 * i);
    }
    assert_int_equal(bench.log.last_index, 15);
    restart(LOG_CLEAN);
    assert_int_equal(bench.result.last_index, 15);
    assert_int_equal(bench.found_commit, 10);
    /* It goes on where it ended. */
    bench_append(&bench, 2, 10);
    assert_int_equal(bench.written_bytes, LOG_BATCH_ALIGNMENT);
    restart(LOG_CLEAN);
    restart(LOG_CLEAN); /* nothing was written in between */
    assert_int_equal(bench.result.last_index, 17);
    bench_free(&bench);
}

/* One write call and one sync for each batch, the one that begins a segment included. */
static void test_one_write_and_one_sync(void **state)
{
    (void)state;
    start(64 * KIB);
    for (unsigned i = 0; i < 60; i++) {
        rig_run(&bench.rig);
        bench_begin_write(&bench, bench.log.last_index, 1, 3000);
        uint64_t writes = bench.rig.disk.counters.writes, syncs = bench.rig.disk.counters.syncs;
        assert_true(rig_run_one(&bench.rig));
        assert_int_equal(bench.written_count, i + 1);
        assert_int_equal(bench.rig.disk.counters.writes, writes + 1);
        assert_int_equal(bench.rig.disk.counters.syncs, syncs + 1);
    }
    assert_true(metadata().last_segment >= 4);
    bench_free(&bench);
}

static void test_segments_grow(void **state)
{
    (void)state;
    start(64 * MIB);
    bench_append(&bench, 1, 10);
    /* The spare has room for the largest batch. */
    uint64_t second = rig_size(&bench.rig, bench_segment(2));
    assert_true(second >= LOG_SEGMENT_HEADER_BYTES + log_batch_file_bytes(LOG_BATCH_RECORD_BYTES_MAX));
    assert_true(second >= 4 * LOG_FIRST_SEGMENT_BYTES);
    assert_int_equal(metadata().last_segment, 2);
    assert_int_equal(log_manager_bytes(bench.manager), LOG_FIRST_SEGMENT_BYTES);
    while (metadata().last_segment < 4) bench_append(&bench, 1, 1000 * KIB);
    assert_int_equal(rig_size(&bench.rig, bench_segment(3)), 4 * second);
    assert_int_equal(rig_size(&bench.rig, bench_segment(4)), 64 * MIB);
    assert_int_equal(log_manager_bytes(bench.manager), LOG_FIRST_SEGMENT_BYTES + 5 * second);
    restart(LOG_CLEAN);
    assert_int_equal(log_manager_bytes(bench.manager), LOG_FIRST_SEGMENT_BYTES + 5 * second);
    bench_append(&bench, 1, 10);
    bench_free(&bench);
}

/* A batch goes between two slices of a spare that is being filled. */
static void test_an_append_does_not_wait_for_a_spare(void **state)
{
    (void)state;
    start(64 * MIB);
    bench_begin_write(&bench, 0, 1, 10);
    assert_true(rig_run_one(&bench.rig));
    assert_int_equal(bench.written_count, 1);
    unsigned between = 0;
    while (metadata().last_segment < 2) {
        assert_int_equal(rig_waiting(&bench.rig), 1); /* a slice */
        bench_begin_write(&bench, bench.log.last_index, 1, 10);
        unsigned before = bench.written_count;
        assert_true(rig_run_one(&bench.rig));
        assert_int_equal(bench.written_count, before + 1);
        assert_true(rig_run_one(&bench.rig));
        between++;
    }
    assert_true(between >= 4);
    bench_free(&bench);
}

static void test_large_batches(void **state)
{
    (void)state;
    start(128 * KIB);
    bench_append(&bench, 1, 10);
    assert_int_equal(rig_size(&bench.rig, bench_segment(2)), 128 * KIB);
    /* Neither what is left of the first one nor the spare is large enough: the spare grows. */
    bench_append(&bench, 3, 300 * KIB);
    assert_true(rig_size(&bench.rig, bench_segment(2)) > 900 * KIB);
    bench_append(&bench, 1, ENTRY_PAYLOAD_BYTES_MAX);
    /* What is more than a batch may hold becomes several. */
    bench_append(&bench, 5, ENTRY_PAYLOAD_BYTES_MAX);
    assert_true(bench.written_bytes > 5ull * ENTRY_PAYLOAD_BYTES_MAX);
    restart(LOG_CLEAN);
    assert_int_equal(bench.result.last_index, 10);
    bench_append(&bench, 1, 10);
    assert_int_equal(bench_read(&bench, 1, 11, UINT64_MAX), 11);
    restart(LOG_CLEAN);
    bench_free(&bench);
}

static void test_conflicts(void **state)
{
    (void)state;
    start(64 * KIB);
    for (unsigned i = 0; i < 30; i++) bench_append(&bench, 3, 500);
    bench.term++;
    bench_write(&bench, 40, 2, 100);
    assert_int_equal(bench.log.last_index, 42);
    assert_int_equal(bench_read(&bench, 1, 90, UINT64_MAX), 42);
    restart(LOG_CLEAN);
    assert_int_equal(bench.result.last_index, 42);
    assert_int_equal(bench_read(&bench, 39, 42, UINT64_MAX), 4);
    bench.term++;
    bench_write(&bench, 0, 1, 100); /* all of it */
    restart(LOG_CLEAN);
    assert_int_equal(bench.result.last_index, 1);
    assert_int_equal(bench_read(&bench, 1, 42, UINT64_MAX), 1);
    bench_append(&bench, 4, 10);
    restart(LOG_CLEAN);
    bench_free(&bench);
}

static void test_reads_back(void **state)
{
    (void)state;
    start(64 * KIB);
    assert_int_equal(bench_read(&bench, 1, 10, 1000), 0); /* there is nothing */
    for (unsigned i = 0; i < 40; i++) bench_append(&bench, 1 + i % 4, 200 + 50 * i);
    raft_index last = bench.log.last_index;
    for (raft_index first = 1; first <= last; first++) {
        assert_int_equal(bench_read(&bench, first, last, UINT64_MAX), last - first + 1);
        assert_int_equal(bench_read(&bench, first, first, UINT64_MAX), 1);
        assert_int_equal(bench_read(&bench, first, last, 1), 1); /* one at least */
        uint32_t some = bench_read(&bench, first, last, 20000);
        assert_true(some >= 1 && some < 100);
    }
    assert_int_equal(bench_read(&bench, last + 1, last + 5, UINT64_MAX), 0);
    assert_int_equal(bench_read(&bench, last, last + 5, UINT64_MAX), 1);
    restart(LOG_CLEAN);
    assert_int_equal(bench_read(&bench, 1, last, UINT64_MAX), last);

    /* Two under way while what they are to read is replaced: what comes is what the log holds then. The write goes first. */
    unsigned before = bench.read_count;
    bench.read_first = 5;
    bench_begin_read(&bench, 5, last);
    bench_begin_read(&bench, 5, last);
    assert_false(log_manager_idle(bench.manager));
    bench.term++;
    bench_begin_write(&bench, 20, 1, 10);
    rig_run(&bench.rig);
    assert_int_equal(bench.log.last_index, 21);
    assert_int_equal(bench.read_count, before + 2);
    assert_in_range(bench.read_entries, 1, 16);

    /* And while it is removed. */
    bench_append(&bench, 30, 3000);
    bench_append(&bench, 1, 10);
    bench_snapshot(&bench, bench.log.last_index);
    bench_begin_read(&bench, 5, last);
    log_manager_remove_before(bench.manager, bench.log.base_index, 0);
    rig_run(&bench.rig);
    assert_int_equal(bench.read_count, before + 3);
    assert_int_equal(bench.read_entries, 0);
    bench_free(&bench);
}

static void test_removes_what_a_snapshot_covers(void **state)
{
    (void)state;
    start(64 * KIB);
    assert_int_equal(log_manager_remove_before(bench.manager, 0, 0), 1);
    while (metadata().last_segment < 6) bench_append(&bench, 2, 2000);
    raft_index last = bench.log.last_index;
    assert_int_equal(log_manager_bytes(bench.manager), 5 * 64 * KIB);

    /* The tail is kept although it is covered. */
    bench_snapshot(&bench, last);
    assert_int_equal(log_manager_remove_before(bench.manager, last, UINT64_MAX), 1);
    assert_int_equal(log_manager_remove_before(bench.manager, 0, 0), 1);
    raft_index first = log_manager_remove_before(bench.manager, last, 130 * KIB);
    assert_in_range(first, 2, last);
    assert_true(rig_exists(&bench.rig, bench_segment(1))); /* not before the metadata are saved */
    rig_run(&bench.rig);
    uint64_t kept = metadata().first_segment;
    assert_in_range(kept, 2, 4);
    assert_false(rig_exists(&bench.rig, bench_segment(kept - 1)));
    assert_true(rig_exists(&bench.rig, bench_segment(kept)));
    assert_int_equal(bench_read(&bench, first - 1, last, UINT64_MAX), 0);
    assert_int_equal(bench_read(&bench, first, last, UINT64_MAX), last - first + 1);

    /* The segment that is written to stays. */
    first = log_manager_remove_before(bench.manager, last, 0);
    rig_run(&bench.rig);
    assert_int_equal(metadata().first_segment, 5);
    assert_int_equal(rig_count(&bench.rig, LOG_DIRECTORY, ".seg"), 2);
    assert_true(first <= last);
    bench_append(&bench, 1, 10);
    restart(LOG_CLEAN);
    assert_int_equal(bench.result.last_index, last + 1);
    bench_free(&bench);
}

static void test_begins_anew_after_an_installed_snapshot(void **state)
{
    (void)state;
    start(64 * KIB);
    for (unsigned i = 0; i < 40; i++) bench_append(&bench, 1, 3000);
    bench_begin_reset(&bench, 1000);
    assert_int_equal(bench.reset_count, 0);
    rig_run(&bench.rig);
    assert_int_equal(bench.reset_count, 1);
    assert_int_equal(rig_count(&bench.rig, LOG_DIRECTORY, ".seg"), 2);
    assert_int_equal(bench_read(&bench, 1, 1000, UINT64_MAX), 0);
    restart(LOG_CLEAN);
    assert_int_equal(bench.result.last_index, 1000);
    bench_append(&bench, 3, 100);
    assert_int_equal(bench_read(&bench, 1001, 1003, UINT64_MAX), 3);
    restart(LOG_CLEAN);
    assert_int_equal(bench.result.last_index, 1003);

    /* A snapshot that the log contradicts, then one after the other. */
    bench_begin_reset(&bench, 1002);
    rig_run(&bench.rig);
    bench_append(&bench, 1, 100);
    bench_begin_reset(&bench, 1500);
    rig_run(&bench.rig);
    bench_append(&bench, 1, 100);
    restart(LOG_CLEAN);
    assert_int_equal(bench.result.last_index, 1501);
    assert_int_equal(bench.reset_count, 3);
    bench_free(&bench);
}

/* ---- lack of room ---- */

static void test_a_full_disk(void **state)
{
    (void)state;
    start(64 * KIB);
    bench_append(&bench, 1, 10);
    bench.rig.disk.capacity_bytes = sim_disk_used_bytes(&bench.rig.disk) + 20 * KIB;
    assert_int_equal(metadata().last_segment, 2);
    /* Up to the end of the first segment, and of the spare. */
    unsigned written = 0;
    while (bench.full_count == 0) {
        bench_append(&bench, 1, 3000);
        assert_true(++written < 100);
    }
    assert_int_equal(rig_count(&bench.rig, LOG_DIRECTORY, ".seg"), 2); /* no part of a spare takes up what is left */
    for (unsigned i = 0; i < 14; i++) bench_append(&bench, 1, 3000);
    /* The next one doesn't fit anywhere: it waits. */
    unsigned before = bench.written_count;
    bench_begin_write(&bench, bench.log.last_index, 1, 3000);
    rig_run(&bench.rig);
    log_manager_tick(bench.manager);
    rig_run(&bench.rig);
    assert_int_equal(bench.written_count, before);
    assert_true(log_manager_idle(bench.manager));
    assert_int_equal(bench.full_count, 1); /* said once */
    assert_int_equal(bench.not_full_count, 0);
    assert_int_equal(bench.failed_count, 0);

    bench.rig.disk.capacity_bytes = 0;
    rig_run(&bench.rig);
    assert_int_equal(bench.written_count, before); /* nobody has looked yet */
    log_manager_tick(bench.manager);
    rig_run(&bench.rig);
    assert_int_equal(bench.written_count, before + 1);
    assert_int_equal(bench.not_full_count, 1);
    bench_append(&bench, 5, 3000);
    restart(LOG_CLEAN);
    bench_free(&bench);
}

/* The removal of old segments makes the room. */
static void test_room_by_removal(void **state)
{
    (void)state;
    start(64 * KIB);
    bench.rig.disk.capacity_bytes = 64 * KIB * 3 + 8 * KIB;
    while (bench.full_count == 0) bench_append(&bench, 1, 3000);
    bench_snapshot(&bench, bench.log.last_index);
    log_manager_remove_before(bench.manager, bench.log.base_index, 0);
    rig_run(&bench.rig);
    log_manager_tick(bench.manager);
    rig_run(&bench.rig);
    assert_int_equal(bench.not_full_count, 1);

    /* Likewise for a reset that finds no spare. */
    while (bench.full_count == 1) bench_append(&bench, 1, 3000);
    bench_begin_reset(&bench, 2000);
    rig_run(&bench.rig);
    log_manager_tick(bench.manager);
    rig_run(&bench.rig);
    assert_int_equal(bench.reset_count, 1);
    bench_append(&bench, 1, 10);
    restart(LOG_CLEAN);
    bench_free(&bench);
}

static void test_no_room_to_begin_with(void **state)
{
    (void)state;
    bench_init(&bench, 1, 64 * KIB);
    bench.rig.disk.capacity_bytes = 40 * KIB;
    assert_int_equal(bench_recover(&bench), ERR_NO_SPACE);
    assert_non_null(strstr(bench.text, LOG_DIRECTORY));
    bench_restart(&bench, true);
    bench.rig.disk.capacity_bytes = 0;
    bench_recover_ok(&bench, LOG_CLEAN);
    bench_append(&bench, 1, 10);
    bench_free(&bench);
}

/* A spare that is too small for a batch stays usable when it can't grow. */
static void test_a_spare_that_cannot_grow(void **state)
{
    (void)state;
    start(64 * KIB);
    bench_append(&bench, 1, 10);
    bench.rig.disk.capacity_bytes = sim_disk_used_bytes(&bench.rig.disk) + 20 * KIB;
    bench_begin_write(&bench, 1, 1, 100 * KIB);
    rig_run(&bench.rig);
    assert_int_equal(bench.full_count, 1);
    assert_int_equal(rig_size(&bench.rig, bench_segment(2)), 64 * KIB);
    bench_restart(&bench, true);
    bench_recover_ok(&bench, LOG_CLEAN);
    for (unsigned i = 0; i < 20; i++) bench_append(&bench, 1, 3000);
    assert_int_equal(rig_size(&bench.rig, bench_segment(2)), 64 * KIB);
    bench_free(&bench);
}

/* ---- damage ---- */

/* The offset of the batch with the entry, in a segment where each batch takes one unit. */
static uint64_t batch_offset(unsigned number)
{
    return LOG_SEGMENT_HEADER_BYTES + number * LOG_BATCH_ALIGNMENT;
}

static void test_a_damaged_batch(void **state)
{
    (void)state;
    start(64 * KIB);
    for (unsigned i = 0; i < 8; i++) bench_append(&bench, 1, 100);
    rig_flip(&bench.rig, bench_segment(1), batch_offset(5) + 60, 4);
    /* Reading back ends before it, and says where. */
    assert_int_equal(bench_read(&bench, 1, 8, UINT64_MAX), 5);
    assert_true(rig_said(&bench.rig, bench_segment(1)));
    assert_true(rig_said(&bench.rig, "offset=24576"));
    assert_int_equal(bench_read(&bench, 6, 8, UINT64_MAX), 0);
    assert_int_equal(bench_read(&bench, 7, 8, UINT64_MAX), 2);

    bench_restart(&bench, true);
    assert_int_equal(bench_recover(&bench), ERR_OK);
    assert_int_equal(bench.result.outcome, LOG_UNCERTAIN);
    assert_int_equal(bench.result.last_index, 5);
    assert_int_equal(bench.result.known_last_index, 8);
    assert_int_equal(bench.result.known_last_term, 1);
    assert_true(bench.result.extent_known);
    /* File and place are named, in a line of its own and in what is concluded from it. */
    char place[200];
    snprintf(place, sizeof place, "log segment is damaged: file=%s offset=24576", bench_segment(1));
    assert_true(rig_said(&bench.rig, place));
    snprintf(place, sizeof place, "%s at offset 24576: ", bench_segment(1));
    assert_ptr_equal(strstr(bench.result.damage, place), bench.result.damage);
    bench.log = bench.found;
    bench.next = bench.found;

    /* It stays so, before anything was repaired, and in the middle of it. */
    rig_run(&bench.rig);
    log_manager_tick(bench.manager);
    rig_run(&bench.rig);
    restart(LOG_UNCERTAIN);
    assert_int_equal(bench.result.known_last_index, 8);
    bench_append(&bench, 1, 100);
    assert_true(rig_exists(&bench.rig, bench_segment(2)));
    restart(LOG_UNCERTAIN);
    assert_int_equal(bench.result.last_index, 6);
    assert_int_equal(bench.result.known_last_index, 8);
    bench_append(&bench, 1, 100);

    /* Certain again: nothing is owed from the next segment on. */
    log_manager_certain(bench.manager);
    bench_append(&bench, 1, 100);
    uint64_t last = metadata().last_segment;
    assert_int_equal(last, 6);
    restart(LOG_CLEAN);
    assert_int_equal(bench.result.last_index, 8);
    assert_int_equal(bench_read(&bench, 1, 8, UINT64_MAX), 8);

    /* The damaged segment is set aside, not removed. */
    bench_snapshot(&bench, 8);
    log_manager_remove_before(bench.manager, 8, 0);
    rig_run(&bench.rig);
    assert_int_equal(rig_count(&bench.rig, LOG_DIRECTORY, "0001.seg.damaged-1"), 1);
    assert_int_equal(rig_count(&bench.rig, LOG_DIRECTORY, ".damaged-"), 1);
    restart(LOG_CLEAN);
    bench_free(&bench);
}

static void recover_uncertain(void)
{
    bench_restart(&bench, true);
    assert_int_equal(bench_recover(&bench), ERR_OK);
    assert_int_equal(bench.result.outcome, LOG_UNCERTAIN);
    assert_false(bench.result.extent_known);
    bench.log = bench.found;
    bench.next = bench.found;
}

/* Certain while a header that still owes is on its way: the segment after it owes nothing. */
static void test_certain_in_the_midst_of_it(void **state)
{
    (void)state;
    for (int reset = 0; reset <= 1; reset++) {
        start(64 * KIB);
        bench_append(&bench, 1, 3000);
        bench_append(&bench, 1, 3000);
        rig_remove(&bench.rig, bench_segment(2)); /* the spare, but nobody knows */
        recover_uncertain();
        log_manager_tick(bench.manager);
        rig_run(&bench.rig);
        if (reset) {
            bench_begin_reset(&bench, 10);
            assert_int_equal(rig_waiting(&bench.rig), 1);
        } else {
            bench_begin_write(&bench, 2, 1, 100);
        }
        log_manager_certain(bench.manager);
        rig_run(&bench.rig);
        recover_uncertain();
        log_manager_certain(bench.manager);
        bench_append(&bench, 1, 100);
        restart(LOG_CLEAN);

        rig_remove(&bench.rig, bench_segment(metadata().last_segment));
        recover_uncertain();
        log_manager_tick(bench.manager);
        rig_run(&bench.rig);
        if (reset) {
            bench_begin_reset(&bench, 20);
        } else {
            bench_begin_write(&bench, bench.log.last_index, 1, 100);
        }
        log_manager_certain(bench.manager);
        rig_run(&bench.rig);
        bench_append(&bench, 1, 100);
        restart(LOG_CLEAN);
        bench_free(&bench);
    }
}

static void test_a_missing_segment(void **state)
{
    (void)state;
    for (uint64_t missing = 1; missing <= 5; missing++) {
        start(64 * KIB);
        while (metadata().last_segment < 5) bench_append(&bench, 1, 3000);
        raft_index last = bench.log.last_index;
        rig_remove(&bench.rig, bench_segment(missing));
        bench_restart(&bench, true);
        assert_int_equal(bench_recover(&bench), ERR_OK);
        assert_int_equal(bench.result.outcome, LOG_UNCERTAIN);
        /* The fifth is the spare, but that isn't known without it. */
        assert_int_equal(bench.result.last_index < last, missing < 5);
        /* The last one that was in use, or the spare: nobody knows how far it reached. */
        if (missing >= 4) assert_false(bench.result.extent_known);
        bench.log = bench.found;
        bench.next = bench.found;
        log_manager_tick(bench.manager);
        rig_run(&bench.rig);
        restart(LOG_UNCERTAIN);
        bench_append(&bench, 1, 10);
        restart(LOG_UNCERTAIN);
        log_manager_certain(bench.manager);
        bench_append(&bench, 1, 10);
        restart(LOG_CLEAN);
        bench_free(&bench);
    }
}

static void lose_metadata(bool damage)
{
    if (damage) {
        rig_flip(&bench.rig, LOG_METADATA, 100, 1);
        rig_flip(&bench.rig, LOG_METADATA, SLOT_BYTES + 30, 1);
    } else {
        rig_remove(&bench.rig, LOG_METADATA);
    }
}

static void test_lost_metadata(void **state)
{
    (void)state;
    for (int damage = 0; damage <= 1; damage++) {
        /* An unused spare after the last segment says that this is all. */
        start(64 * KIB);
        for (unsigned i = 0; i < 30; i++) bench_append(&bench, 1, 3000);
        lose_metadata(damage);
        restart(LOG_CLEAN);
        assert_true(rig_said(&bench.rig, "log metadata are lost"));
        assert_true(rig_said(&bench.rig, LOG_METADATA));
        for (unsigned i = 0; i < 30; i++) bench_append(&bench, 1, 3000);
        restart(LOG_CLEAN);

        /* Without one, a later segment may be missing; that isn't forgotten. */
        uint64_t spare = metadata().last_segment;
        lose_metadata(damage);
        rig_remove(&bench.rig, bench_segment(spare));
        recover_uncertain();
        assert_int_equal(bench.result.last_index, 60);
        log_manager_tick(bench.manager);
        rig_run(&bench.rig);
        recover_uncertain();
        bench_append(&bench, 1, 10);
        recover_uncertain();
        assert_int_equal(bench.result.last_index, 61);
        log_manager_certain(bench.manager);
        bench_append(&bench, 1, 10);
        restart(LOG_CLEAN);

        /* No file at all. */
        lose_metadata(damage);
        for (uint64_t number = 1; number < 30; number++) {
            if (rig_exists(&bench.rig, bench_segment(number))) rig_remove(&bench.rig, bench_segment(number));
        }
        recover_uncertain();
        assert_int_equal(bench.result.last_index, 0);
        recover_uncertain();
        bench_free(&bench);
    }
}

static void test_other_files(void **state)
{
    (void)state;
    start(64 * KIB);
    bench_append(&bench, 2, 10);

    /* One damaged slot of the metadata is enough to go on, and is repaired. */
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++) {
        rig_flip(&bench.rig, LOG_METADATA, slot * SLOT_BYTES + 40, 1);
        restart(LOG_CLEAN);
        assert_true(rig_said(&bench.rig, slot == 0 ? "log metadata slot is damaged or older: file=" LOG_METADATA
                                                     " offset=0 "
                                                   : "damaged or older: file=" LOG_METADATA " offset=4096 "));
        assert_int_equal(metadata().last_segment, 2);
    }
    /* What an unfinished removal left is removed; strangers are left alone. */
    struct disk_file *file;
    assert_int_equal(disk_open(&bench.rig.disk.disk, LOG_DIRECTORY "/notes.txt", DISK_WRITE | DISK_CREATE, &file),
                     ERR_OK);
    disk_close(&bench.rig.disk.disk, file);
    for (unsigned i = 0; i < 40; i++) bench_append(&bench, 1, 3000);
    bench_snapshot(&bench, bench.log.last_index);
    log_manager_remove_before(bench.manager, bench.log.base_index, 0);
    rig_run(&bench.rig);
    assert_int_equal(disk_open(&bench.rig.disk.disk, bench_segment(1), DISK_WRITE | DISK_CREATE, &file), ERR_OK);
    disk_close(&bench.rig.disk.disk, file);
    sim_disk_sync_all(&bench.rig.disk);
    restart(LOG_CLEAN);
    assert_false(rig_exists(&bench.rig, bench_segment(1)));
    assert_true(rig_exists(&bench.rig, LOG_DIRECTORY "/notes.txt"));

    /* A newer version is refused, and nothing is touched. */
    uint8_t block[LOG_BLOCK_BYTES];
    uint64_t number = metadata().first_segment;
    rig_read(&bench.rig, bench_segment(number), 0, block, sizeof block);
    put_u32(block + 8, LOG_VERSION + 1);
    put_u32(block, crc32c(0, block + 4, sizeof block - 4));
    rig_write(&bench.rig, bench_segment(number), 0, block, sizeof block);
    bench_restart(&bench, true);
    uint64_t operations = bench.rig.disk.counters.operations;
    assert_int_equal(bench_recover(&bench), ERR_BAD_VERSION);
    assert_int_equal(bench.rig.disk.counters.operations, operations);
    assert_non_null(strstr(bench.text, ".seg"));
    bench_free(&bench);
}

/* What the device can't read is damaged, wherever it lies; what it can read around that is taken. */
static void test_what_cannot_be_read(void **state)
{
    (void)state;
    for (uint64_t offset = 0; offset < batch_offset(10); offset += LOG_BATCH_ALIGNMENT) {
        start(64 * KIB);
        for (unsigned i = 0; i < 8; i++) bench_append(&bench, 1, 100);
        rig_unreadable(&bench.rig, bench_segment(1), offset + 700, 1);
        bench_restart(&bench, true);
        assert_int_equal(bench_recover(&bench), ERR_OK);
        assert_int_equal(bench.result.outcome, LOG_UNCERTAIN);
        assert_true(rig_said(&bench.rig, bench_segment(1)));
        assert_true(rig_said(&bench.rig, "Input/output error"));
        raft_index good = offset < batch_offset(0) ? 8 : (offset - batch_offset(0)) / LOG_BATCH_ALIGNMENT;
        assert_int_equal(bench.result.last_index, good < 8 ? good : 8);
        if (good < 7) assert_int_equal(bench.result.known_last_index, 8);
        assert_int_equal(bench.result.extent_known, good < 7);
        bench.log = bench.found;
        bench.next = bench.found;
        bench_append(&bench, 1, 100);
        log_manager_certain(bench.manager);
        bench_append(&bench, 1, 100);
        rig_readable(&bench.rig);
        restart(LOG_CLEAN);
        bench_free(&bench);
    }
    /* The metadata: one slot is enough. */
    start(64 * KIB);
    bench_append(&bench, 1, 100);
    rig_unreadable(&bench.rig, LOG_METADATA, SLOT_BYTES, 1);
    restart(LOG_CLEAN);
    rig_unreadable(&bench.rig, LOG_METADATA, 0, 2 * SLOT_BYTES);
    restart(LOG_CLEAN);
    assert_true(rig_said(&bench.rig, "log metadata are lost"));
    bench_free(&bench);
}

/* ---- damage that shows while serving ---- */

/* Damage in a segment that is full, or in the one that is written to: either goes as soon as a snapshot covers it. */
static void test_damage_found_while_serving(void **state)
{
    (void)state;
    for (int current = 0; current <= 1; current++) {
        for (int idle = 0; idle <= 1; idle++) {
            start(64 * KIB);
            while (metadata().last_segment < 4) bench_append(&bench, 1, 3000);
            raft_index last = bench.log.last_index, until;
            uint64_t number = current ? 3 : 2;
            assert_int_equal(log_manager_damage(bench.manager, &until), 0);
            rig_flip(&bench.rig, bench_segment(number), batch_offset(0) + 60, 4);
            log_manager_mark_damaged(bench.manager, number, batch_offset(0), "the test says so");
            log_manager_mark_damaged(bench.manager, number, batch_offset(0), "once only");
            log_manager_mark_damaged(bench.manager, 77, 0, "never was");
            assert_int_equal(bench.damaged_count, 1);
            assert_true(rig_said(&bench.rig, bench_segment(number)));
            assert_int_equal(log_manager_damage(bench.manager, &until), 1);
            assert_int_equal(until == last, current);
            assert_true(until <= last && until > 0);

            if (!idle) bench_append(&bench, 3, 10);
            rig_run(&bench.rig);
            if (idle) bench_append(&bench, 3, 10);
            /* What came after lies elsewhere. */
            assert_int_equal(log_manager_damage(bench.manager, &until), 1);
            assert_true(until <= last);
            assert_int_equal(bench_read(&bench, last + 1, last + 3, UINT64_MAX), 3);

            /* No snapshot covers it yet: it stays, whatever it is worth. */
            log_manager_remove_before(bench.manager, until - 1, UINT64_MAX);
            rig_run(&bench.rig);
            assert_true(rig_exists(&bench.rig, bench_segment(number)));
            bench_snapshot(&bench, until);
            assert_int_equal(log_manager_remove_before(bench.manager, until, UINT64_MAX), until + 1);
            rig_run(&bench.rig);
            assert_int_equal(log_manager_damage(bench.manager, &until), 0);
            assert_int_equal(rig_count(&bench.rig, LOG_DIRECTORY, ".damaged-1"), 1);
            assert_false(rig_exists(&bench.rig, bench_segment(number)));
            assert_false(rig_exists(&bench.rig, bench_segment(1))); /* it went with what came after it */
            restart(LOG_CLEAN);
            assert_int_equal(bench.result.last_index, last + 3);
            bench_append(&bench, 1, 10);
            restart(LOG_CLEAN);
            bench_free(&bench);
        }
    }
}

/* Idle, and all is in the snapshot: the damaged segment goes, and a header alone begins the log anew. */
static void test_damage_in_an_idle_log(void **state)
{
    (void)state;
    start(64 * KIB);
    for (unsigned i = 0; i < 5; i++) bench_append(&bench, 1, 100);
    rig_flip(&bench.rig, bench_segment(1), batch_offset(4) + 60, 4); /* the very last batch */
    assert_int_equal(bench_read(&bench, 5, 5, UINT64_MAX), 0);
    assert_int_equal(bench.damaged_count, 1);
    rig_run(&bench.rig);
    bench_snapshot(&bench, 5);
    assert_int_equal(log_manager_remove_before(bench.manager, 5, UINT64_MAX), 6);
    rig_run(&bench.rig);
    raft_index until;
    assert_int_equal(log_manager_damage(bench.manager, &until), 0);
    restart(LOG_CLEAN);
    bench_append(&bench, 2, 100);
    restart(LOG_CLEAN);
    assert_int_equal(bench.result.last_index, 7);
    bench_free(&bench);
}

/* Whatever happens on the way: what was acknowledged is there, or the log says that it isn't sure. */
static void test_a_crash_while_damage_is_repaired(void **state)
{
    (void)state;
    for (int write = 0; write <= 1; write++) {
        bool crashed = true;
        unsigned certain = 0, uncertain = 0;
        for (uint64_t at = 1; crashed; at++) {
            bench_init(&bench, at, 64 * KIB);
            bench_recover_ok(&bench, LOG_CLEAN);
            while (metadata().last_segment < 4) bench_append(&bench, 1, 3000);
            raft_index last = bench.log.last_index, until;
            rig_flip(&bench.rig, bench_segment(3), batch_offset(0) + 60, 4);
            bench.rig.disk.crash_at = bench.rig.disk.counters.operations + at;
            log_manager_mark_damaged(bench.manager, 3, batch_offset(0), "the test says so");
            if (write) bench_begin_write(&bench, last, 2, 100);
            rig_run(&bench.rig);
            if (!bench.rig.disk.dead) {
                bench.log = bench.next;
                log_manager_damage(bench.manager, &until);
                bench_snapshot(&bench, until);
                log_manager_remove_before(bench.manager, until, UINT64_MAX);
                rig_run(&bench.rig);
            }
            crashed = bench.rig.disk.dead;
            bench_restart(&bench, true);
            assert_int_equal(bench_recover(&bench), ERR_OK);
            if (bench.result.outcome == LOG_UNCERTAIN) {
                uncertain++;
                assert_true(crashed);
                assert_true(bench.result.last_index < last);
                assert_true(bench.result.known_last_index >= last);
            } else {
                certain++;
                assert_true(bench.result.last_index >= bench.log.last_index);
            }
            bench_free(&bench);
        }
        assert_true(uncertain > 1 && certain > 1);
    }
}

static void test_the_metadata_are_saved_again(void **state)
{
    (void)state;
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++) {
        for (uint64_t at = 0; at < 4; at++) {
            start(64 * KIB);
            bench_append(&bench, 1, 100);
            rig_flip(&bench.rig, LOG_METADATA, slot * SLOT_BYTES + 40, 1);
            if (at > 0) bench.rig.disk.crash_at = bench.rig.disk.counters.operations + at;
            log_manager_resave_metadata(bench.manager, slot);
            assert_true(log_manager_resaving_metadata(bench.manager));
            rig_run(&bench.rig);
            if (at == 0) {
                assert_false(log_manager_resaving_metadata(bench.manager));
                assert_int_equal(metadata().last_segment, 2); /* both slots are the same */
            }
            rig_drop(&bench.rig);
            restart(LOG_CLEAN);
            assert_false(rig_said(&bench.rig, "log metadata are lost"));
            bench_append(&bench, 1, 100);
            bench_free(&bench);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_appends_and_recovers),
        cmocka_unit_test(test_one_write_and_one_sync),
        cmocka_unit_test(test_segments_grow),
        cmocka_unit_test(test_an_append_does_not_wait_for_a_spare),
        cmocka_unit_test(test_large_batches),
        cmocka_unit_test(test_conflicts),
        cmocka_unit_test(test_reads_back),
        cmocka_unit_test(test_removes_what_a_snapshot_covers),
        cmocka_unit_test(test_begins_anew_after_an_installed_snapshot),
        cmocka_unit_test(test_a_full_disk),
        cmocka_unit_test(test_room_by_removal),
        cmocka_unit_test(test_no_room_to_begin_with),
        cmocka_unit_test(test_a_spare_that_cannot_grow),
        cmocka_unit_test(test_a_damaged_batch),
        cmocka_unit_test(test_certain_in_the_midst_of_it),
        cmocka_unit_test(test_a_missing_segment),
        cmocka_unit_test(test_lost_metadata),
        cmocka_unit_test(test_other_files),
        cmocka_unit_test(test_what_cannot_be_read),
        cmocka_unit_test(test_damage_found_while_serving),
        cmocka_unit_test(test_damage_in_an_idle_log),
        cmocka_unit_test(test_a_crash_while_damage_is_repaired),
        cmocka_unit_test(test_the_metadata_are_saved_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
