/* The scrub: what it looks at and when, and that it finds all damage and nothing else. */
#include "snapshot_bench.h"

#include "drive/log_manager.h"
#include "drive/scrub.h"
#include "drive/state_file.h"

#define STATE "/data/state"
#define LOG "/data/log"
#define LOG_METADATA "/data/log/metadata"
#define SNAPSHOT_METADATA DIRECTORY "/metadata"
#define INTERVAL (1000 * TIME_NS_PER_S)
#define RATE MIB

static struct node n; /* its rig is everybody's */
static struct state_file *state_file;
static struct raft_state state;
static struct log_manager *manager;
static struct scrub *scrub;
static time_ns now;
static raft_index last_index;
static uint32_t last_chain;
static unsigned slots_found[3][SLOT_COUNT], segments_found, snapshots_found;
static uint64_t found_number, found_offset, found_epoch;
static char found_text[512];

/* ---- the parts ---- */

static void written(void *user, uint64_t number, uint64_t file_bytes)
{
    (void)user;
    (void)number;
    (void)file_bytes;
}

static void full(void *user, bool is_full)
{
    (void)user;
    (void)is_full;
}

static void failed(void *user, const char *text)
{
    (void)user;
    fail_msg("%s", text);
}

static void nothing(void *user)
{
    (void)user;
}

static void saved(void *user, uint64_t number)
{
    (void)user;
    (void)number;
}

static void bad_slot(void *user, enum damaged_file file, unsigned slot, const char *text)
{
    assert_ptr_equal(user, &n);
    assert_in_range(file, DAMAGED_RAFT_STATE, DAMAGED_SNAPSHOT_METADATA);
    slots_found[file][slot]++;
    snprintf(found_text, sizeof found_text, "%s", text);
}

static void bad_segment(void *user, uint64_t number, uint64_t offset, const char *text)
{
    assert_ptr_equal(user, &n);
    segments_found++;
    found_number = number;
    found_offset = offset;
    snprintf(found_text, sizeof found_text, "%s", text);
}

static void bad_snapshot(void *user, uint64_t epoch, const char *text)
{
    assert_ptr_equal(user, &n);
    snapshots_found++;
    found_epoch = epoch;
    snprintf(found_text, sizeof found_text, "%s", text);
}

static const struct scrub_handler scrub_handler = {
    .bad_slot = bad_slot, .bad_segment = bad_segment, .bad_snapshot = bad_snapshot};

static void take_entry(void *user, struct entry *entry)
{
    (void)user;
    entry_unref(entry);
}

static void take_commit(void *user, raft_index commit)
{
    (void)user;
    (void)commit;
}

static void append(size_t payload_bytes)
{
    struct raft_write write = {.number = 1, .first_index = last_index + 1, .entry_count = 1};
    struct entry *entry = entry_new(ENTRY_COMMAND, payload_bytes);
    memset(entry_payload(entry), 'p', payload_bytes);
    entry_seal(entry, last_index + 1, 1, last_chain);
    uint32_t chain = entry_chain(entry);
    write.entries = &entry;
    log_manager_write(manager, &write, 1, last_chain);
    last_index++;
    last_chain = chain;
    rig_run(&n.rig);
}

static void save(uint64_t term)
{
    state.term = term;
    state_file_save(state_file, &state, term);
    rig_run(&n.rig);
}

static unsigned found_count(void)
{
    unsigned count = segments_found + snapshots_found;
    for (size_t i = 0; i < 3; i++) count += slots_found[i][0] + slots_found[i][1];
    return count;
}

static void forget_found(void)
{
    memset(slots_found, 0, sizeof slots_found);
    segments_found = 0;
    snapshots_found = 0;
}

/* A node with a state, three segments, the last of them in use, and a snapshot of several slices. */
static void set_up(time_ns interval)
{
    static const struct state_file_handler state_handler = {.saved = saved, .failed = failed, .repaired = nothing};
    static const struct log_manager_handler log_handler = {
        .written = written, .full = full, .failed = failed, .damaged = nothing};
    char text[512];
    start(&n, LEADER, 1);
    struct disk *disk = &n.rig.disk.disk;
    state_file = state_file_new(STATE, disk, &n.rig.queue, &n.rig.logger, &state_handler, NULL);
    state = (struct raft_state){.cluster_id = 1, .member = 2, .log_id = 3, .node_id = "n"};
    assert_int_equal(state_file_save_now(state_file, &state, text), ERR_OK);
    save(1);
    struct log_manager_config log = {.directory = LOG,
                                     .metadata_file = LOG_METADATA,
                                     .identity = &state,
                                     .segment_bytes = 512 * KIB,
                                     .disk = disk,
                                     .queue = &n.rig.queue,
                                     .logger = &n.rig.logger};
    manager = log_manager_new(&log, &log_handler, NULL);
    struct log_manager_sink sink = {.entry = take_entry, .commit = take_commit};
    struct log_scan_result result;
    assert_int_equal(log_manager_recover(manager, 3, true, 0, 0, 0, &sink, NULL, &result, text), ERR_OK);
    last_index = 0;
    last_chain = 0;
    for (unsigned i = 0; i < 11; i++) append(120 * KIB);
    append(100);
    make(&n, 5, MIB);
    struct scrub_config config = {.interval = interval,
                                  .bytes_per_second = RATE,
                                  .queue = &n.rig.queue,
                                  .logger = &n.rig.logger,
                                  .state_file = state_file,
                                  .log = manager,
                                  .snapshots = n.handler};
    scrub = scrub_new(&config, &scrub_handler, &n);
    now = 77 * TIME_NS_PER_S;
    forget_found();
    scrub_start(scrub, now);
}

static void tear_down(void)
{
    scrub_free(scrub);
    log_manager_free(manager);
    state_file_free(state_file);
    node_free(&n);
}

static struct scrub_status status(void)
{
    struct scrub_status out;
    scrub_status(scrub, &out);
    return out;
}

/* Goes to when it wants to be woken, and ticks it. */
static void next_tick(void)
{
    time_ns deadline = scrub_deadline(scrub);
    assert_true(deadline < TIME_NS_NEVER);
    if (deadline > now) now = deadline;
    scrub_tick(scrub, now);
}

static void one_pass(void)
{
    uint64_t passes = status().passes;
    for (unsigned i = 0; status().passes == passes; i++) {
        assert_true(i < 1000);
        next_tick();
        rig_run(&n.rig);
    }
}

static uint64_t log_bytes(void)
{
    uint64_t bytes = 0;
    struct log_segment_view view = {0};
    while (log_manager_next_segment(manager, view.number, &view)) bytes += view.used_bytes;
    return bytes;
}

/* ---- when ---- */

static void test_passes_and_pauses(void **unused)
{
    (void)unused;
    set_up(INTERVAL);
    time_ns start_time = now;
    assert_int_equal(scrub_deadline(scrub), now + INTERVAL / SCRUB_FIRST_PASS_DIVISOR);
    scrub_tick(scrub, scrub_deadline(scrub) - 1); /* not yet */
    assert_int_equal(rig_waiting(&n.rig), 0);
    next_tick();
    time_ns began = now;
    uint64_t reads_before = n.rig.disk.counters.writes + n.rig.disk.counters.syncs;
    while (status().passes == 0) {
        assert_true(status().running);
        if (rig_waiting(&n.rig) > 0) {
            assert_int_equal(rig_waiting(&n.rig), 1);
            assert_null(n.rig.urgent);
            assert_false(scrub_idle(scrub));
            assert_int_equal(scrub_deadline(scrub), TIME_NS_NEVER); /* nobody is woken for it meanwhile */
            uint64_t bytes = status().bytes;
            assert_true(rig_run_one(&n.rig));
            bytes = status().bytes - bytes;
            assert_in_range(bytes, 1, SCRUB_SLICE_BYTES);
            assert_int_equal(scrub_deadline(scrub), now + (time_ns)(bytes * TIME_NS_PER_S / RATE));
        }
        next_tick();
    }
    /* Everything once, and nothing was written. */
    uint64_t all = 3 * SLOT_COUNT * SLOT_BYTES + log_bytes() + snapshot_handler_current(n.handler)->size_bytes;
    assert_int_equal(status().bytes, all);
    assert_int_equal(n.rig.disk.counters.writes + n.rig.disk.counters.syncs, reads_before);
    assert_int_equal(found_count(), 0);
    assert_int_equal(status().last_pass, now);
    assert_false(status().running);
    assert_true(now - began >= (time_ns)((all - SCRUB_SLICE_BYTES) * TIME_NS_PER_S / RATE));
    /* Then nothing, until the next one is due. */
    assert_int_equal(scrub_deadline(scrub), began + INTERVAL);
    assert_true(began > start_time);
    one_pass();
    assert_int_equal(status().bytes, 2 * all);
    assert_int_equal(found_count(), 0);
    scrub_stop(scrub);
    assert_int_equal(scrub_deadline(scrub), TIME_NS_NEVER);
    scrub_tick(scrub, now + 10 * INTERVAL);
    assert_int_equal(rig_waiting(&n.rig), 0);
    tear_down();
}

static void test_off(void **unused)
{
    (void)unused;
    set_up(0);
    assert_int_equal(scrub_deadline(scrub), TIME_NS_NEVER);
    scrub_tick(scrub, now + 1000 * INTERVAL);
    assert_int_equal(rig_waiting(&n.rig), 0);
    tear_down();
}

/* ---- what ---- */

static void test_every_slot(void **unused)
{
    (void)unused;
    static const char *const paths[] = {STATE, LOG_METADATA, SNAPSHOT_METADATA};
    set_up(INTERVAL);
    for (unsigned file = 0; file < 3; file++) {
        for (unsigned slot = 0; slot < SLOT_COUNT; slot++) {
            for (unsigned at = 0; at < SLOT_BYTES; at += 511) {
                rig_flip(&n.rig, paths[file], slot * SLOT_BYTES + at, 4);
                forget_found();
                one_pass();
                assert_int_equal(found_count(), 1);
                assert_int_equal(slots_found[file][slot], 1);
                assert_non_null(strstr(found_text, paths[file]));
                rig_flip(&n.rig, paths[file], slot * SLOT_BYTES + at, 4);
            }
        }
        /* Both: one is told, and saving both mends them. */
        rig_flip(&n.rig, paths[file], 50, 4);
        rig_flip(&n.rig, paths[file], SLOT_BYTES + 50, 4);
        forget_found();
        one_pass();
        assert_int_equal(found_count(), 1);
        rig_flip(&n.rig, paths[file], 50, 4);
        rig_flip(&n.rig, paths[file], SLOT_BYTES + 50, 4);
    }
    tear_down();
}

/* Slots that are good by themselves, but not what was saved last: the device lost the writes. */
static void test_lost_writes(void **unused)
{
    (void)unused;
    uint8_t older[SLOT_COUNT * SLOT_BYTES];
    for (unsigned lost = 1; lost <= 3; lost++) {
        set_up(INTERVAL);
        rig_read(&n.rig, STATE, 0, older, sizeof older);
        save(9);
        if (lost & 1) rig_write(&n.rig, STATE, 0, older, SLOT_BYTES);
        if (lost & 2) rig_write(&n.rig, STATE, SLOT_BYTES, older + SLOT_BYTES, SLOT_BYTES);
        one_pass();
        assert_int_equal(found_count(), 1);
        assert_int_equal(slots_found[DAMAGED_RAFT_STATE][lost == 2], 1);
        tear_down();
    }
}

static void test_every_place_of_the_log(void **unused)
{
    (void)unused;
    set_up(INTERVAL);
    struct log_segment_view view = {0};
    unsigned segments = 0;
    while (log_manager_next_segment(manager, view.number, &view)) {
        char *path = log_manager_segment_path(manager, view.number);
        uint64_t size = rig_size(&n.rig, path);
        assert_true(view.used_bytes > 0 && view.used_bytes < size);
        segments++;
        for (uint64_t at = 3; at < size; at += 13 * 1024 + 5) {
            rig_flip(&n.rig, path, at, 1);
            forget_found();
            one_pass();
            bool in_use = at < view.used_bytes;
            assert_int_equal(found_count(), in_use);
            if (in_use) {
                assert_int_equal(segments_found, 1);
                assert_int_equal(found_number, view.number);
                assert_int_equal(found_offset, at / LOG_BLOCK_BYTES * LOG_BLOCK_BYTES);
            }
            rig_flip(&n.rig, path, at, 1);
        }
        /* A batch that never reached the device. */
        uint8_t zeros[LOG_BATCH_ALIGNMENT] = {0}, kept[LOG_BATCH_ALIGNMENT];
        uint64_t last = view.used_bytes - LOG_BATCH_ALIGNMENT;
        rig_read(&n.rig, path, last, kept, sizeof kept);
        rig_write(&n.rig, path, last, zeros, sizeof zeros);
        forget_found();
        one_pass();
        assert_int_equal(segments_found, 1);
        rig_write(&n.rig, path, last, kept, sizeof kept);
        mem_free(path);
    }
    assert_true(segments >= 3);
    /* Known damage isn't told again. */
    log_manager_mark_damaged(manager, 1, 0, "known");
    rig_run(&n.rig);
    char *path = log_manager_segment_path(manager, 1);
    rig_flip(&n.rig, path, 5000, 1);
    forget_found();
    one_pass();
    assert_int_equal(found_count(), 0);
    mem_free(path);
    tear_down();
}

static void test_every_place_of_the_snapshot(void **unused)
{
    (void)unused;
    set_up(INTERVAL);
    char path[64];
    snprintf(path, sizeof path, "%s", current_path(&n));
    uint64_t size = snapshot_handler_current(n.handler)->size_bytes;
    for (uint64_t at = 0; at < size; at += at + 5003 < size ? 5003 : size - at - (at + 1 < size)) {
        rig_flip(&n.rig, path, at, 0x40);
        forget_found();
        one_pass();
        assert_int_equal(found_count(), 1);
        assert_int_equal(snapshots_found, 1);
        assert_int_equal(found_epoch, snapshot_handler_current(n.handler)->epoch);
        assert_non_null(strstr(found_text, path));
        rig_flip(&n.rig, path, at, 0x40);
        if (at + 1 >= size) break;
    }
    /* Short by a byte, and missing. */
    struct disk *disk = &n.rig.disk.disk;
    struct disk_file *file;
    assert_int_equal(disk_open(disk, path, DISK_WRITE, &file), ERR_OK);
    assert_int_equal(disk_truncate(disk, file, size - 1), ERR_OK);
    disk_close(disk, file);
    sim_disk_sync_all(&n.rig.disk);
    forget_found();
    one_pass();
    assert_int_equal(snapshots_found, 1);
    rig_remove(&n.rig, path);
    forget_found();
    one_pass();
    assert_int_equal(snapshots_found, 1);
    tear_down();
}

static void test_what_cannot_be_read(void **unused)
{
    (void)unused;
    set_up(INTERVAL);
    char *segment = log_manager_segment_path(manager, 1);
    rig_unreadable(&n.rig, segment, 70000, 1);
    one_pass();
    assert_int_equal(found_count(), 1);
    assert_int_equal(found_number, 1);
    assert_int_equal(found_offset, 70000 / 4096 * 4096);
    assert_non_null(strstr(found_text, "Input/output error"));
    rig_unreadable(&n.rig, STATE, SLOT_BYTES + 9, 1);
    forget_found();
    one_pass();
    assert_int_equal(slots_found[DAMAGED_RAFT_STATE][1], 1);
    rig_unreadable(&n.rig, current_path(&n), 300 * KIB, 1);
    forget_found();
    one_pass();
    assert_int_equal(snapshots_found, 1);
    rig_readable(&n.rig);
    forget_found();
    one_pass();
    assert_int_equal(found_count(), 0);
    mem_free(segment);
    tear_down();
}

/* ---- while files change ---- */

/* Writes, removals, saves and snapshots at every moment of a pass: nothing of that looks like damage. */
static void test_files_that_change(void **unused)
{
    (void)unused;
    for (unsigned change = 0; change < 4; change++) {
        for (unsigned at = 0; at < 16; at++) {
            set_up(INTERVAL);
            for (unsigned i = 0; i < at && status().passes == 0; i++) {
                next_tick();
                if (i + 1 < at) rig_run(&n.rig); /* the last slice is still to be read when things change */
            }
            switch (change) {
            case 0:
                for (unsigned i = 0; i < 6; i++) append(120 * KIB);
                break;
            case 1:
                log_manager_remove_before(manager, last_index, 0);
                break;
            case 2:
                begin_make(&n, 9, 300 * KIB);
                break;
            default:
                save(5);
                break;
            }
            rig_run(&n.rig);
            one_pass();
            one_pass();
            assert_int_equal(found_count(), 0);
            tear_down();
        }
    }
}

static void test_a_suspected_snapshot(void **unused)
{
    (void)unused;
    for (int off = 0; off <= 1; off++) {
        for (unsigned at = 0; at < (off ? 1u : 14u); at++) {
            set_up(off ? 0 : INTERVAL);
            for (unsigned i = 0; i < at && status().passes == 0; i++) {
                next_tick();
                rig_run(&n.rig);
            }
            uint64_t passes = status().passes;
            rig_flip(&n.rig, current_path(&n), 900 * KIB, 1);
            forget_found();
            time_ns asked = now;
            scrub_suspect_snapshot(scrub, now);
            while (snapshots_found == 0) {
                next_tick();
                rig_run(&n.rig);
            }
            assert_int_equal(now, asked); /* no pauses */
            assert_int_equal(found_count(), 1);
            rig_flip(&n.rig, current_path(&n), 900 * KIB, 1);
            /* Once in a while is enough. */
            uint64_t bytes = status().bytes;
            scrub_suspect_snapshot(scrub, now);
            scrub_tick(scrub, now);
            if (off) {
                rig_run(&n.rig);
                assert_int_equal(status().bytes, bytes);
                assert_int_equal(scrub_deadline(scrub), TIME_NS_NEVER);
                now += SCRUB_SUSPICION_INTERVAL;
                scrub_suspect_snapshot(scrub, now);
                next_tick();
                rig_run(&n.rig);
                assert_true(status().bytes > bytes);
            } else {
                /* The pass goes on, and comes to its end. */
                rig_run(&n.rig);
                while (status().passes == passes) {
                    next_tick();
                    rig_run(&n.rig);
                }
                assert_int_equal(found_count(), 1);
            }
            tear_down();
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_passes_and_pauses),
        cmocka_unit_test(test_off),
        cmocka_unit_test(test_every_slot),
        cmocka_unit_test(test_lost_writes),
        cmocka_unit_test(test_every_place_of_the_log),
        cmocka_unit_test(test_every_place_of_the_snapshot),
        cmocka_unit_test(test_what_cannot_be_read),
        cmocka_unit_test(test_files_that_change),
        cmocka_unit_test(test_a_suspected_snapshot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
