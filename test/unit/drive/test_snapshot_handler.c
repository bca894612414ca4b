/* The snapshot handler: making and loading. Sending and receiving are in test_snapshot_transfer.c. */
#include "snapshot_bench.h"

/* ---- making and loading ---- */

static struct node a;

static void test_makes_and_loads(void **state)
{
    (void)state;
    start(&a, LEADER, 1);
    assert_int_equal(a.replica.index, 0);
    assert_int_equal(snapshot_handler_current(a.handler)->index, 0);
    static const size_t sizes[] = {0, 1, 100, 200 * KIB, 200 * KIB + 1, 3 * MIB, 256 * KIB - 100, 10};
    for (raft_index i = 0; i < ARRAY_COUNT(sizes); i++) {
        make(&a, 10 + i, sizes[i]);
        /* The older one is gone, nothing else is left. */
        assert_int_equal(rig_count(&a.rig, DIRECTORY, ""), 2);
        assert_int_equal(rig_size(&a.rig, current_path(&a)), snapshot_handler_current(a.handler)->size_bytes);
        node_restart(&a, true);
        assert_int_equal(recover(&a), ERR_OK);
        assert_int_equal(a.replica.index, 10 + i);
        assert_int_equal(a.replica.state.size, sizes[i]);
    }
    node_free(&a);
}

/* A file whose size is a multiple of what is read at a time ends where it ends. */
static void test_every_size_around_a_slice(void **state)
{
    (void)state;
    start(&a, LEADER, 1);
    make(&a, 1, 1000);
    size_t overhead = (size_t)snapshot_handler_current(a.handler)->size_bytes - 1000;
    a.replica.chunk_bytes = 2 * MIB;
    for (raft_index i = 0; i < 3; i++) {
        make(&a, 10 + i, 256 * KIB - overhead - 1 + i);
        assert_int_equal(snapshot_handler_current(a.handler)->size_bytes, 256 * KIB - 1 + i);
        make(&a, 20 + i, MIB - overhead - 1 + i);
        assert_int_equal(snapshot_handler_current(a.handler)->size_bytes, MIB - 1 + i);
        node_restart(&a, true);
        assert_int_equal(recover(&a), ERR_OK);
        assert_int_equal(a.replica.index, 20 + i);
        a.replica.chunk_bytes = 2 * MIB;
    }
    node_free(&a);
}

static void test_one_at_a_time_in_slices(void **state)
{
    (void)state;
    start(&a, LEADER, 1);
    begin_make(&a, 5, 2 * MIB);
    unsigned slices = 0;
    while (a.replica.pinned) {
        assert_int_equal(rig_waiting(&a.rig), 1);
        assert_null(a.rig.urgent); /* log writes go first */
        uint64_t writes = a.rig.disk.counters.writes, syncs = a.rig.disk.counters.syncs;
        snapshot_handler_make(a.handler, &a.replica); /* no effect */
        assert_int_equal(rig_waiting(&a.rig), 1);
        assert_true(rig_run_one(&a.rig));
        assert_int_equal(a.rig.disk.counters.writes, writes + 1);
        assert_int_equal(a.rig.disk.counters.syncs, syncs + 1);
        slices++;
    }
    assert_true(slices >= 10);
    assert_int_equal(a.made_count, 0);
    /* The state goes on meanwhile; what was pinned is what is kept. */
    set_state(&a.replica, 9, 100);
    rig_run(&a.rig);
    assert_int_equal(a.made_count, 1);
    assert_int_equal(a.made_index, 5);
    node_restart(&a, true);
    assert_int_equal(recover(&a), ERR_OK);
    assert_int_equal(a.replica.state.size, 2 * MIB);
    /* Not ready. */
    a.replica.index = 0;
    snapshot_handler_make(a.handler, &a.replica);
    assert_false(snapshot_handler_busy_making(a.handler));
    node_free(&a);
}

static void test_giving_up(void **state)
{
    (void)state;
    for (unsigned jobs = 0; jobs < 40; jobs++) {
        start(&a, LEADER, jobs);
        make(&a, 5, 1000);
        begin_make(&a, 6, MIB);
        for (unsigned i = 0; i < jobs; i++) rig_run_one(&a.rig);
        snapshot_handler_abandon(a.handler);
        assert_false(a.replica.pinned);
        rig_run(&a.rig);
        assert_int_equal(a.made_count + a.not_made_count, 2);
        assert_false(snapshot_handler_busy_making(a.handler));
        assert_int_equal(rig_count(&a.rig, DIRECTORY, ""), 2);
        make(&a, 7, 1000);
        node_restart(&a, true);
        assert_int_equal(recover(&a), ERR_OK);
        assert_int_equal(a.replica.index, 7);
        node_free(&a);
    }
}

static void test_no_room(void **state)
{
    (void)state;
    start(&a, LEADER, 1);
    a.rig.disk.capacity_bytes = 700 * KIB;
    make(&a, 5, 100 * KIB);
    begin_make(&a, 6, MIB);
    rig_run(&a.rig);
    assert_int_equal(a.not_made_count, 1);
    assert_int_equal(a.failed_count, 0);
    assert_non_null(strstr(a.text, ".tmp"));
    assert_int_equal(rig_count(&a.rig, DIRECTORY, ""), 2);
    assert_false(a.replica.pinned);
    a.rig.disk.capacity_bytes = 0;
    make(&a, 7, MIB);
    node_restart(&a, true);
    assert_int_equal(recover(&a), ERR_OK);
    assert_int_equal(a.replica.index, 7);
    node_free(&a);
}

/* Makes up to three snapshots; stops when the disk does. */
static void live(struct node *node)
{
    for (raft_index index = node->replica.index + 1, end = index + 3; index < end; index++) {
        begin_make(node, index, 300 * KIB);
        if (node->failed_count > 0) return;
        rig_run(&node->rig);
        if (node->made_index != index) return;
    }
}

static void test_a_crash_at_every_operation(void **state)
{
    (void)state;
    unsigned crash_count = 0, newer_count = 0;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        bool crashed = true;
        for (uint64_t at = 1; crashed; at++) {
            node_init(&a, LEADER, seed * 1000 + at);
            a.rig.disk.crash_at = at;
            if (recover(&a) == ERR_OK) live(&a);
            crashed = a.rig.disk.dead;
            crash_count += crashed;
            for (unsigned again = 0; again < 3; again++) {
                raft_index made = a.made_index;
                node_restart(&a, true);
                if (again > 0) {
                    a.rig.disk.crash_at = a.rig.disk.counters.operations + 1 + random_below(&a.random, 25);
                    if (recover(&a) == ERR_OK) {
                        made = a.replica.index > made ? a.replica.index : made;
                        live(&a);
                        if (a.made_index > made) made = a.made_index;
                    }
                    node_restart(&a, true);
                }
                assert_int_equal(recover(&a), ERR_OK);
                assert_in_range(a.replica.index, made, made + 1);
                newer_count += a.replica.index > made;
                a.made_index = a.replica.index;
                assert_int_equal(rig_count(&a.rig, DIRECTORY, ".snap"), a.replica.index > 0);
                assert_int_equal(rig_count(&a.rig, DIRECTORY, "damaged"), 0);
            }
            node_free(&a);
        }
    }
    assert_true(crash_count > 75);
    assert_true(newer_count > 2); /* saved, but not yet said */
}

static void test_a_failure_at_every_operation(void **state)
{
    (void)state;
    unsigned failed_count = 0, refused_count = 0;
    bool failed = true;
    for (uint64_t at = 1; failed; at++) {
        node_init(&a, LEADER, at);
        a.rig.disk.fail_at = at;
        enum error error = recover(&a);
        if (error == ERR_OK) live(&a);
        failed = a.rig.disk.counters.failures > 0;
        if (error != ERR_OK) {
            assert_int_equal(error, ERR_IO);
            refused_count++;
        } else if (failed) {
            assert_int_equal(a.failed_count, 1);
            assert_non_null(strstr(a.text, DIRECTORY));
            uint64_t operations = a.rig.disk.counters.operations;
            unsigned made = a.made_count;
            snapshot_handler_make(a.handler, &a.replica);
            rig_run(&a.rig);
            assert_int_equal(a.rig.disk.counters.operations, operations);
            assert_int_equal(a.made_count, made);
            assert_int_equal(a.failed_count, 1);
            failed_count++;
        }
        raft_index made = a.made_index;
        node_restart(&a, at % 2 == 0);
        assert_int_equal(recover(&a), ERR_OK);
        assert_in_range(a.replica.index, made, made + 1);
        node_free(&a);
    }
    assert_true(failed_count > 15);
    assert_true(refused_count > 0);
}

/* ---- damage ---- */

static void test_a_damaged_snapshot(void **state)
{
    (void)state;
    static const uint64_t places[] = {0, 5, 20, 60, 400, 150 * KIB, 300 * KIB};
    for (size_t i = 0; i < ARRAY_COUNT(places) + 1; i++) {
        start(&a, LEADER, i);
        make(&a, 5, 400 * KIB);
        uint64_t size = snapshot_handler_current(a.handler)->size_bytes;
        char path[64];
        snprintf(path, sizeof path, "%s", current_path(&a));
        rig_flip(&a.rig, path, i < ARRAY_COUNT(places) ? places[i] : size - 1, 0x20);
        node_restart(&a, true);
        assert_int_equal(recover(&a), ERR_DAMAGED);
        assert_non_null(strstr(a.text, path));
        assert_non_null(strstr(a.text, "offset"));
        assert_false(a.replica.loading);
        assert_int_equal(a.replica.index, 0);
        /* It is set aside, and still missed. */
        assert_false(rig_exists(&a.rig, path));
        assert_int_equal(rig_count(&a.rig, DIRECTORY, ".damaged-1"), 1);
        assert_true(rig_said(&a.rig, path));
        node_restart(&a, true);
        assert_int_equal(recover(&a), ERR_DAMAGED);
        /* The owner goes on without; the next one has a number of its own. */
        make(&a, 9, 1000);
        node_restart(&a, true);
        assert_int_equal(recover(&a), ERR_OK);
        assert_int_equal(a.replica.index, 9);
        assert_int_equal(rig_count(&a.rig, DIRECTORY, ".damaged-1"), 1);
        node_free(&a);
    }
}

static void test_a_snapshot_that_cannot_be_read(void **state)
{
    (void)state;
    for (uint64_t offset = 0; offset < 400 * KIB; offset += 50 * KIB + 1) {
        start(&a, LEADER, offset);
        make(&a, 5, 400 * KIB);
        char path[64];
        snprintf(path, sizeof path, "%s", current_path(&a));
        rig_unreadable(&a.rig, path, offset, 1);
        node_restart(&a, true);
        assert_int_equal(recover(&a), ERR_DAMAGED);
        assert_non_null(strstr(a.text, path));
        assert_non_null(strstr(a.text, "Input/output error"));
        char where[40];
        snprintf(where, sizeof where, "offset %llu ", (unsigned long long)offset / 4096 * 4096);
        assert_non_null(strstr(a.text, where));
        assert_int_equal(a.replica.index, 0);
        assert_int_equal(rig_count(&a.rig, DIRECTORY, ".damaged-1"), 1);
        make(&a, 9, 1000);
        node_free(&a);
    }
}

static void test_a_short_snapshot(void **state)
{
    (void)state;
    start(&a, LEADER, 1);
    make(&a, 5, 400 * KIB);
    struct disk_file *file;
    assert_int_equal(disk_open(&a.rig.disk.disk, current_path(&a), DISK_WRITE, &file), ERR_OK);
    assert_int_equal(disk_truncate(&a.rig.disk.disk, file, 300 * KIB), ERR_OK);
    disk_close(&a.rig.disk.disk, file);
    sim_disk_sync_all(&a.rig.disk);
    node_restart(&a, true);
    assert_int_equal(recover(&a), ERR_DAMAGED);
    node_free(&a);
}

static void test_damaged_metadata(void **state)
{
    (void)state;
    start(&a, LEADER, 1);
    make(&a, 5, 1000);
    /* One slot. */
    rig_flip(&a.rig, DIRECTORY "/metadata", 30, 1);
    node_restart(&a, true);
    assert_int_equal(recover(&a), ERR_OK);
    assert_int_equal(a.replica.index, 5);
    assert_true(rig_said(&a.rig, "snapshot metadata slot is damaged or older: file=" DIRECTORY "/metadata offset=0 "));
    /* It is repaired at once: then the other one may be lost. */
    rig_flip(&a.rig, DIRECTORY "/metadata", SLOT_BYTES + 30, 1);
    node_restart(&a, true);
    assert_int_equal(recover(&a), ERR_OK);
    assert_int_equal(a.replica.index, 5);
    assert_false(rig_said(&a.rig, "snapshot metadata are damaged"));
    make(&a, 6, 1000);
    /* Both: a snapshot that is good is good. */
    rig_flip(&a.rig, DIRECTORY "/metadata", 30, 1);
    rig_flip(&a.rig, DIRECTORY "/metadata", SLOT_BYTES + 30, 1);
    node_restart(&a, true);
    assert_int_equal(recover(&a), ERR_OK);
    assert_int_equal(a.replica.index, 6);
    assert_true(rig_said(&a.rig, DIRECTORY "/metadata"));
    node_restart(&a, true);
    assert_int_equal(recover(&a), ERR_OK);
    assert_int_equal(a.replica.index, 6);
    rig_remove(&a.rig, DIRECTORY "/metadata");
    node_restart(&a, true);
    assert_int_equal(recover(&a), ERR_OK);
    assert_int_equal(a.replica.index, 6);
    assert_true(rig_said(&a.rig, "snapshot metadata are missing"));
    /* Both, and no good snapshot: one counted, for there were metadata. */
    rig_flip(&a.rig, DIRECTORY "/metadata", 30, 1);
    rig_flip(&a.rig, DIRECTORY "/metadata", SLOT_BYTES + 30, 1);
    rig_remove(&a.rig, current_path(&a));
    node_restart(&a, true);
    assert_int_equal(recover(&a), ERR_DAMAGED);
    assert_non_null(strstr(a.text, DIRECTORY "/metadata"));
    node_free(&a);
}

/* What the device doesn't give back as it was written never counts. */
static void test_damage_found_by_reading_back(void **state)
{
    (void)state;
    start(&a, LEADER, 1);
    make(&a, 5, 1000);
    begin_make(&a, 6, 400 * KIB);
    const char *path = DIRECTORY "/snapshot-0000000000000002.snap";
    while (!rig_exists(&a.rig, path)) assert_true(rig_run_one(&a.rig));
    rig_flip(&a.rig, path, 200 * KIB, 1);
    rig_run(&a.rig);
    assert_int_equal(a.made_count, 1);
    assert_int_equal(a.not_made_count, 1);
    assert_int_equal(a.failed_count, 0);
    assert_true(rig_said(&a.rig, path));
    assert_int_equal(rig_count(&a.rig, DIRECTORY, "0002.snap.damaged-1"), 1);
    make(&a, 7, 1000);
    node_restart(&a, true);
    assert_int_equal(recover(&a), ERR_OK);
    assert_int_equal(a.replica.index, 7);
    node_free(&a);
}

/* ---- damage that shows while serving ---- */

/* Another one takes its place, of the same index; until then it is of no use, after that it lies aside. */
static void test_a_damaged_snapshot_is_renewed(void **state)
{
    (void)state;
    unsigned renewed = 0, missed = 0;
    bool crashed = true;
    for (uint64_t at = 0; crashed || at <= 1; at++) {
        start(&a, LEADER, at + 1);
        make(&a, 5, 400 * KIB);
        uint64_t epoch = snapshot_handler_current(a.handler)->epoch;
        rig_flip(&a.rig, current_path(&a), 150 * KIB, 1);
        snapshot_handler_renew(a.handler, epoch + 1, true); /* not the current one */
        assert_false(snapshot_handler_renewing(a.handler));
        snapshot_handler_renew(a.handler, epoch, true);
        assert_true(snapshot_handler_renewing(a.handler));
        snapshot_handler_send(a.handler, 2, 3);
        assert_int_equal(rig_waiting(&a.rig), 0); /* nobody gets it */
        if (at > 0) a.rig.disk.crash_at = a.rig.disk.counters.operations + at;
        begin_make(&a, 5, 400 * KIB);
        rig_run(&a.rig);
        crashed = a.rig.disk.dead;
        if (!crashed) {
            assert_int_equal(a.made_count, 2);
            assert_false(snapshot_handler_renewing(a.handler));
            assert_true(snapshot_handler_current(a.handler)->epoch > epoch);
            assert_int_equal(rig_count(&a.rig, DIRECTORY, ".snap.damaged-1"), 1);
            assert_int_equal(rig_count(&a.rig, DIRECTORY, ".snap"), 2);
            snapshot_handler_send(a.handler, 2, 3);
            assert_int_equal(rig_waiting(&a.rig), 1);
        }
        node_restart(&a, true);
        enum error error = recover(&a);
        renewed += error == ERR_OK;
        missed += error == ERR_DAMAGED;
        assert_true(error == ERR_DAMAGED ? crashed : a.replica.index == 5);
        node_free(&a);
    }
    assert_true(renewed > 3 && missed > 3);
}

/* A transfer under way ends, and its peer asks again; a new one of good metadata only leaves the file as it is. */
static void test_a_renewal_ends_transfers(void **state)
{
    (void)state;
    for (int damaged = 0; damaged <= 1; damaged++) {
        start(&a, LEADER, 1);
        make(&a, 5, MIB);
        snapshot_handler_send(a.handler, 2, 3);
        assert_true(rig_run_one(&a.rig));
        snapshot_handler_renew(a.handler, snapshot_handler_current(a.handler)->epoch, damaged == 1);
        assert_int_equal(a.rejected_count, damaged);
        begin_make(&a, 6, MIB);
        rig_run(&a.rig);
        assert_int_equal(a.made_count, 2);
        assert_false(snapshot_handler_renewing(a.handler));
        assert_int_equal(rig_count(&a.rig, DIRECTORY, ".damaged-1"), damaged);
        node_free(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_makes_and_loads),
        cmocka_unit_test(test_every_size_around_a_slice),
        cmocka_unit_test(test_one_at_a_time_in_slices),
        cmocka_unit_test(test_giving_up),
        cmocka_unit_test(test_no_room),
        cmocka_unit_test(test_a_crash_at_every_operation),
        cmocka_unit_test(test_a_failure_at_every_operation),
        cmocka_unit_test(test_a_damaged_snapshot),
        cmocka_unit_test(test_a_snapshot_that_cannot_be_read),
        cmocka_unit_test(test_a_short_snapshot),
        cmocka_unit_test(test_damaged_metadata),
        cmocka_unit_test(test_damage_found_by_reading_back),
        cmocka_unit_test(test_a_damaged_snapshot_is_renewed),
        cmocka_unit_test(test_a_renewal_ends_transfers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
