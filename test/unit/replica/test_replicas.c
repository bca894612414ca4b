/* Several replicas as one: writes and reads through any of them, repeats, changes of the leader, snapshots. */
#include "harness.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void assert_result(const struct harness *harness, uint32_t node, uint64_t request, enum error error)
{
    const struct replica_result *result = harness_result(harness, node, request);
    assert_non_null(result);
    assert_string_equal(error_code(result->error), error_code(error));
}

static void assert_all_equal(const struct harness *harness)
{
    struct replica_status first, other;
    harness_status(harness, 0, &first);
    for (uint32_t i = 1; i < harness->count; i++) {
        harness_status(harness, i, &other);
        assert_int_equal(other.raft.applied, first.raft.applied);
        assert_true(other.apply_hash == first.apply_hash);
        assert_int_equal(other.revision, first.revision);
    }
}

static void test_writes_through_all(void **state)
{
    (void)state;
    struct harness harness;
    harness_start(&harness, 3);
    harness_leader(&harness);
    for (uint32_t i = 0; i < 3; i++) harness_put(&harness, i, 10 + i, "key", "value");
    harness_settle(&harness);
    for (uint32_t i = 0; i < 3; i++) assert_result(&harness, i, 10 + i, ERR_OK);
    harness_run(&harness, TIME_NS_PER_S);
    for (uint32_t i = 0; i < 3; i++) assert_string_equal(harness_value(&harness, i, "key"), "value");
    assert_all_equal(&harness);
    harness_stop(&harness);
}

/* Contract rules 2 to 4: no answer while only one member's write is durable. */
static void test_no_answer_before_a_quorum_is_durable(void **state)
{
    (void)state;
    struct harness harness;
    harness_start(&harness, 3);
    uint32_t leader = harness_leader(&harness);
    harness_run(&harness, TIME_NS_PER_S);
    for (uint32_t i = 0; i < 3; i++) harness.nodes[i].stalled = i != leader;
    harness_put(&harness, leader, 1, "key", "value");
    harness_settle(&harness);
    assert_null(harness_result(&harness, leader, 1));
    harness.nodes[(leader + 1) % 3].stalled = false;
    harness_settle(&harness);
    assert_result(&harness, leader, 1, ERR_OK);
    harness_stop(&harness);
}

static void test_a_forward_that_comes_twice_is_applied_once(void **state)
{
    (void)state;
    struct harness harness;
    harness_start(&harness, 3);
    uint32_t leader = harness_leader(&harness);
    harness_run(&harness, TIME_NS_PER_S);
    struct replica_status before, after;
    harness_status(&harness, leader, &before);
    harness.duplicate = true;
    for (uint64_t i = 0; i < 20; i++) harness_put(&harness, (leader + 1) % 3, 100 + i, "key", "value");
    harness_settle(&harness);
    for (uint64_t i = 0; i < 20; i++) assert_result(&harness, (leader + 1) % 3, 100 + i, ERR_OK);
    harness_run(&harness, TIME_NS_PER_S);
    harness_status(&harness, leader, &after);
    assert_int_equal(after.revision, before.revision + 20);
    assert_all_equal(&harness);
    harness_stop(&harness);
}

static void test_a_new_leader_settles_what_was_under_way(void **state)
{
    (void)state;
    struct harness harness;
    harness_start(&harness, 3);
    uint32_t old = harness_leader(&harness);
    uint32_t follower = (old + 1) % 3;
    harness_run(&harness, TIME_NS_PER_S);
    /* Forwarded, but the leader is gone before it arrives; and one that the old leader alone holds. */
    harness_put(&harness, follower, 1, "a", "1");
    harness_cut(&harness, old, true);
    harness_put(&harness, old, 2, "b", "2");
    harness_settle(&harness);
    assert_null(harness_result(&harness, follower, 1));
    uint32_t leader = harness_leader(&harness);
    assert_int_not_equal(leader, old);
    harness_settle(&harness);
    assert_result(&harness, follower, 1, ERR_LEADER_CHANGED);
    harness_cut(&harness, old, false);
    harness_run(&harness, TIME_NS_PER_S / 2);
    assert_result(&harness, old, 2, ERR_LEADER_CHANGED);
    assert_string_equal(harness_value(&harness, leader, "a"), "");
    assert_string_equal(harness_value(&harness, leader, "b"), "");
    assert_all_equal(&harness);
    harness_stop(&harness);
}

static void test_limits_and_timeouts(void **state)
{
    (void)state;
    struct harness harness;
    harness_start(&harness, 3);
    uint32_t leader = harness_leader(&harness);
    harness_run(&harness, TIME_NS_PER_S);
    for (uint32_t i = 0; i < 3; i++) harness.nodes[i].stalled = true;
    for (uint64_t i = 1; i <= 101; i++) harness_put(&harness, leader, i, "key", "value");
    assert_null(harness_result(&harness, leader, 100));
    assert_result(&harness, leader, 101, ERR_TOO_MANY);
    harness_run(&harness, 3 * TIME_NS_PER_S);
    for (uint64_t i = 1; i <= 100; i++) assert_result(&harness, leader, i, ERR_TIMEOUT);
    /* They happen late, and nobody hears of it twice (harness_result). */
    for (uint32_t i = 0; i < 3; i++) harness.nodes[i].stalled = false;
    harness_run(&harness, TIME_NS_PER_S);
    assert_string_equal(harness_value(&harness, leader, "key"), "value");
    assert_result(&harness, leader, 1, ERR_TIMEOUT);
    harness_stop(&harness);
}

static void test_a_full_disk_refuses_writes_and_serves_reads(void **state)
{
    (void)state;
    struct harness harness;
    harness_start(&harness, 3);
    uint32_t leader = harness_leader(&harness);
    harness_run(&harness, TIME_NS_PER_S);
    struct replica_event full = {.type = REPLICA_DISK_FULL, .full = true};
    harness_step(&harness, leader, &full);
    harness_put(&harness, leader, 1, "a", "1");
    harness_put(&harness, (leader + 1) % 3, 2, "a", "2");
    harness_read(&harness, leader, 3);
    harness_settle(&harness);
    assert_result(&harness, leader, 1, ERR_NO_SPACE);
    assert_result(&harness, (leader + 1) % 3, 2, ERR_NO_SPACE);
    assert_result(&harness, leader, 3, ERR_OK);
    full = (struct replica_event){.type = REPLICA_DISK_FULL};
    harness_step(&harness, leader, &full);
    harness_put(&harness, leader, 4, "a", "3");
    harness_settle(&harness);
    assert_result(&harness, leader, 4, ERR_OK);
    harness_stop(&harness);
}

static void test_reads_see_what_was_acknowledged(void **state)
{
    (void)state;
    struct harness harness;
    harness_start(&harness, 5);
    harness_leader(&harness);
    harness_run(&harness, TIME_NS_PER_S);
    uint64_t request = 1;
    for (unsigned round = 0; round < 20; round++) {
        char value[16];
        snprintf(value, sizeof value, "%u", round);
        uint64_t put = request++;
        harness_put(&harness, round % 5, put, "key", value);
        harness_settle(&harness);
        assert_result(&harness, round % 5, put, ERR_OK);
        for (uint32_t i = 0; i < 5; i++) {
            harness_read(&harness, i, request);
            harness_settle(&harness);
            assert_result(&harness, i, request++, ERR_OK);
            assert_string_equal(harness_value(&harness, i, "key"), value);
        }
    }
    harness_stop(&harness);
}

static void test_a_cut_off_leader_answers_no_read(void **state)
{
    (void)state;
    struct harness harness;
    harness_start(&harness, 3);
    uint32_t old = harness_leader(&harness);
    harness_run(&harness, TIME_NS_PER_S);
    harness_cut(&harness, old, true);
    harness_read(&harness, old, 1);
    harness_settle(&harness);
    assert_null(harness_result(&harness, old, 1));
    uint32_t leader = harness_leader(&harness);
    harness_put(&harness, leader, 2, "key", "new");
    harness_settle(&harness);
    assert_result(&harness, leader, 2, ERR_OK);
    harness_run(&harness, 3 * TIME_NS_PER_S);
    assert_int_not_equal(harness_result(&harness, old, 1)->error, ERR_OK);
    harness_stop(&harness);
}

/* A snapshot made while writes go on is, loaded, the state at its index, and the log after it leads to the same hash. */
static void test_a_snapshot_is_the_state_at_its_index(void **state)
{
    (void)state;
    struct harness harness;
    harness_start(&harness, 1);
    harness_leader(&harness);
    char key[16];
    for (unsigned i = 0; i < 200; i++) {
        snprintf(key, sizeof key, "key-%u", i % 50);
        harness_put(&harness, 0, 1 + i, key, "old");
        harness_settle(&harness);
    }
    struct replica *replica = harness.nodes[0].replica;
    struct snapshot_header header;
    assert_int_equal(replica_snapshot_begin(replica, 5, &header), ERR_OK);
    assert_int_equal(replica_snapshot_begin(replica, 6, &header), ERR_NOT_READY);
    struct replica_status at_begin;
    harness_status(&harness, 0, &at_begin);
    struct snapshot_writer writer = {.snapshot_id = 5};
    struct buffer file = {0};
    snapshot_write_header(&writer, &header, &file);
    bool done = false;
    for (unsigned i = 0; !done; i++) {
        harness_put(&harness, 0, 1000 + i, "key-7", "new");
        harness_settle(&harness);
        replica_snapshot_next(replica, &writer, &file, &done);
    }
    replica_snapshot_end(replica);
    snapshot_write_end(&writer, &file);
    assert_string_equal(harness_value(&harness, 0, "key-7"), "new");

    struct harness other;
    harness_start(&other, 1);
    struct replica *loaded = other.nodes[0].replica;
    struct snapshot_reader *reader = snapshot_reader_new();
    snapshot_reader_feed(reader, buffer_bytes(&file));
    struct snapshot_chunk chunk;
    while (snapshot_reader_next(reader, &chunk) == ERR_OK) {
        if (chunk.type == SNAPSHOT_CHUNK_HEADER) {
            assert_int_equal(replica_load_begin(loaded, snapshot_reader_header(reader)), ERR_OK);
        } else if (chunk.type != SNAPSHOT_CHUNK_END) {
            assert_int_equal(replica_load_chunk(loaded, chunk.type, chunk.payload), ERR_OK);
        }
    }
    assert_true(snapshot_reader_complete(reader));
    assert_true(replica_install_prepare(loaded));
    assert_int_equal(replica_install_finish(loaded, other.now, &other.nodes[0].effects), ERR_OK);
    replica_effects_clear(&other.nodes[0].effects);
    struct replica_status status;
    harness_status(&other, 0, &status);
    assert_int_equal(status.raft.applied, at_begin.raft.applied);
    assert_true(status.apply_hash == at_begin.apply_hash);
    assert_int_equal(status.revision, at_begin.revision);
    assert_string_equal(harness_value(&other, 0, "key-7"), "old");
    store_verify(replica_store(loaded));
    /* It isn't needed a second time. */
    assert_int_equal(replica_load_begin(loaded, snapshot_reader_header(reader)), ERR_OK);
    assert_false(replica_install_prepare(loaded));
    replica_load_abandon(loaded);
    snapshot_reader_free(reader);
    buffer_free(&file);
    harness_stop(&other);
    harness_stop(&harness);
}

/* A follower whose hash differs is told, and serves no longer; the others go on. */
static void test_a_member_that_differs_stops_serving(void **state)
{
    (void)state;
    struct harness harness;
    harness_start(&harness, 3);
    uint32_t leader = harness_leader(&harness);
    uint32_t odd = (leader + 1) % 3;
    harness_put(&harness, leader, 1, "key", "value");
    harness_settle(&harness);
    harness_run(&harness, TIME_NS_PER_S);
    struct replica_status status, other;
    harness_status(&harness, odd, &status);
    assert_false(status.diverged);
    harness_status(&harness, leader, &other);
    struct peer_message lie = {.type = PEER_APPEND_REPLY,
                               .from = status.self,
                               .to = other.self,
                               .term = status.raft.term,
                               .index = status.raft.durable_index,
                               .hash_index = status.raft.applied,
                               .apply_hash = status.apply_hash + 1};
    struct replica_event event = {.type = REPLICA_MESSAGE, .message = &lie};
    harness_step(&harness, leader, &event);
    harness_settle(&harness);
    harness_status(&harness, odd, &status);
    assert_true(status.diverged);
    harness_put(&harness, odd, 2, "key", "no");
    harness_read(&harness, odd, 3);
    harness_put(&harness, leader, 4, "key", "yes");
    harness_settle(&harness);
    assert_result(&harness, odd, 2, ERR_CORRUPT);
    assert_result(&harness, odd, 3, ERR_CORRUPT);
    assert_result(&harness, leader, 4, ERR_OK);
    harness_status(&harness, leader, &other);
    assert_false(other.diverged);
    harness_stop(&harness);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_writes_through_all),
        cmocka_unit_test(test_no_answer_before_a_quorum_is_durable),
        cmocka_unit_test(test_a_forward_that_comes_twice_is_applied_once),
        cmocka_unit_test(test_a_new_leader_settles_what_was_under_way),
        cmocka_unit_test(test_limits_and_timeouts),
        cmocka_unit_test(test_a_full_disk_refuses_writes_and_serves_reads),
        cmocka_unit_test(test_reads_see_what_was_acknowledged),
        cmocka_unit_test(test_a_cut_off_leader_answers_no_read),
        cmocka_unit_test(test_a_snapshot_is_the_state_at_its_index),
        cmocka_unit_test(test_a_member_that_differs_stops_serving),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
