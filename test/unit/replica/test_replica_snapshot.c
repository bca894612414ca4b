/* Snapshots of a replica: the state at one index, made while serving; loaded at a start, or installed. And lives at random. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "harness.h"
#include "replica/replica_internal.h"

static void end(struct harness *harness)
{
    harness_run(harness, 3 * HARNESS_HEARTBEAT);
    harness_check_end(harness);
    assert_string_equal(harness->violation, "");
    harness_free(harness);
}

/* Slices while every key is overwritten and deleted: what is saved is the state at the beginning. */
static void test_the_state_at_its_index(void **state)
{
    (void)state;
    struct harness_options options = {.count = 3, .seed = 3, .value_bytes = 100000, .log_tail = 1000};
    struct harness *harness = harness_new(&options);
    member_id leader = harness_elect(harness);
    for (uint32_t key = 0; key < HARNESS_KEYS; key++) harness_put(harness, leader, key);
    harness_stabilize(harness);
    struct harness_member *member = &harness->members[leader];
    struct replica_status at_begin;
    replica_status(member->replica, &at_begin);
    assert_int_equal(harness_snapshot_begin(harness, leader), ERR_OK);
    assert_int_equal(harness_snapshot_begin(harness, leader), ERR_NOT_READY);
    uint32_t slices = 1;
    for (uint32_t key = 0; !harness_snapshot_slice(harness, leader); key++, slices++) {
        if (key % 3 == 0) harness_delete(harness, leader, (key * 7 + 1) % HARNESS_KEYS);
        harness_put(harness, leader, (key * 7) % HARNESS_KEYS);
        harness_stabilize(harness);
    }
    assert_true(slices > 5);
    assert_int_equal(member->disk.snapshot_index, at_begin.raft.applied);

    struct replica *loaded = replica_new(&member->config, member->replica->logger);
    assert_int_equal(harness_load(loaded, buffer_bytes(&member->disk.snapshot)), ERR_OK);
    assert_int_equal(replica_load_finish(loaded), ERR_OK);
    struct raft_boot boot = {.term = 1};
    replica_boot(loaded, &boot);
    struct replica_status status;
    replica_status(loaded, &status);
    assert_int_equal(status.raft.applied, at_begin.raft.applied);
    assert_int_equal(status.revision, at_begin.revision);
    assert_true(status.apply_hash == at_begin.apply_hash);
    store_verify(replica_store(loaded));
    for (uint32_t key = 0; key < HARNESS_KEYS; key++) {
        char text[64];
        const struct store_record *old, *copy;
        harness_key_text(key, text);
        struct bytes name = bytes_of(text, strlen(text));
        enum error error = store_get(replica_store(member->replica), name, at_begin.revision, &old);
        assert_int_equal(store_get(replica_store(loaded), name, at_begin.revision, &copy), error);
        if (error != ERR_OK) continue;
        struct bytes a = store_record_value(old), b = store_record_value(copy);
        assert_int_equal(a.size, b.size);
        assert_memory_equal(a.data, b.data, a.size);
    }
    replica_free(loaded);
    end(harness);
}

/* Cut at any byte, or with a byte changed, it is refused, and the replica can be thrown away. */
static void test_a_bad_file_is_refused(void **state)
{
    (void)state;
    struct harness_options options = {.count = 1, .seed = 4};
    struct harness *harness = harness_new(&options);
    harness_elect(harness);
    for (uint32_t key = 0; key < 4; key++) harness_put(harness, 1, key);
    harness_stabilize(harness);
    assert_int_equal(harness_snapshot_begin(harness, 1), ERR_OK);
    while (!harness_snapshot_slice(harness, 1)) {}
    const struct buffer *file = &harness->members[1].disk.snapshot;
    for (size_t at = 0; at < file->size; at++) {
        for (int change = 0; change < 2; change++) {
            uint8_t *copy = mem_alloc(file->size);
            memcpy(copy, file->data, file->size);
            if (change == 1) copy[at] ^= (uint8_t)(1u << at % 8);
            struct replica *loaded = replica_new(&harness->members[1].config, harness->members[1].replica->logger);
            assert_int_not_equal(harness_load(loaded, bytes_of(copy, change == 1 ? file->size : at)), ERR_OK);
            replica_free(loaded);
            mem_free(copy);
        }
    }
    end(harness);
}

/* A follower that was away until the log was gone gets the snapshot, while writes go on. */
static void test_a_follower_far_behind(void **state)
{
    (void)state;
    struct harness_options options = {.count = 3, .seed = 5, .snapshot_log_bytes_min = 2000, .make_snapshots = true};
    struct harness *harness = harness_new(&options);
    member_id leader = harness_elect(harness), away = harness_follower(harness);
    harness_crash(harness, away, true);
    for (uint32_t i = 0; i < 200; i++) {
        harness_put(harness, leader, i % HARNESS_KEYS);
        harness_run(harness, HARNESS_HEARTBEAT / 10);
    }
    assert_true(harness->members[leader].snapshots_made > 1);
    harness_start(harness, away);
    for (member_id id = 1; id <= 3; id++) {
        if (id != away) harness_connect(harness, away, id);
    }
    for (uint32_t i = 0; i < 50; i++) {
        harness_put(harness, leader, i % HARNESS_KEYS);
        harness_run(harness, HARNESS_HEARTBEAT / 10);
    }
    assert_true(harness->members[away].snapshots_installed > 0);
    end(harness);
}

/* Asked for, it is made though little was written, and is answered once it counts. */
static void test_wanted(void **state)
{
    (void)state;
    struct harness_options options = {.count = 3, .seed = 6, .make_snapshots = true};
    struct harness *harness = harness_new(&options);
    member_id leader = harness_elect(harness), follower = harness_follower(harness);
    harness_put(harness, leader, 1);
    harness_stabilize(harness);
    for (int on_leader = 0; on_leader <= 1; on_leader++) {
        member_id id = on_leader == 1 ? leader : follower;
        struct harness_member *member = &harness->members[id];
        harness_put(harness, leader, 2);
        harness_stabilize(harness);
        uint64_t first = harness_want_snapshot(harness, id), second = harness_want_snapshot(harness, id);
        assert_false(harness_request(harness, first)->done);
        harness_stabilize(harness);
        assert_true(harness_request(harness, first)->done && harness_request(harness, second)->done);
        assert_int_equal(harness_request(harness, first)->error, ERR_OK);
        assert_int_equal(member->snapshots_made, 1);
        /* Nothing is new: the same one serves, at once. */
        uint64_t third = harness_want_snapshot(harness, id);
        harness_stabilize(harness);
        assert_int_equal(harness_request(harness, third)->error, ERR_OK);
        assert_int_equal(harness_request(harness, third)->revision, harness_request(harness, first)->revision);
        assert_int_equal(member->snapshots_made, 1);
    }
    end(harness);
}

static void test_wanted_in_vain(void **state)
{
    (void)state;
    struct harness_options options = {.count = 3, .seed = 7, .requests_max = 3};
    struct harness *harness = harness_new(&options);
    member_id leader = harness_elect(harness);
    harness_put(harness, leader, 1);
    harness_stabilize(harness);
    /* Making it is given up. */
    uint64_t want = harness_want_snapshot(harness, leader);
    harness_stabilize(harness);
    assert_false(harness_request(harness, want)->done);
    assert_true(harness->members[leader].due);
    assert_int_equal(harness_snapshot_begin(harness, leader), ERR_OK);
    harness_snapshot_fail(harness, leader);
    harness_stabilize(harness);
    assert_int_equal(harness_request(harness, want)->error, ERR_NOT_READY);
    /* They count among the requests under way, which are bounded. */
    for (int i = 0; i < 3; i++) harness_want_snapshot(harness, leader);
    harness_stabilize(harness);
    want = harness_want_snapshot(harness, leader);
    harness_flush(harness, leader);
    assert_int_equal(harness_request(harness, want)->error, ERR_TOO_MANY);
    assert_int_equal(harness_snapshot_begin(harness, leader), ERR_OK);
    while (!harness_snapshot_slice(harness, leader)) {}
    harness_stabilize(harness);
    /* Nobody confirms that it has all that was acknowledged. */
    harness_put(harness, leader, 2);
    harness_isolate(harness, leader);
    want = harness_want_snapshot(harness, leader);
    harness_run(harness, 5 * HARNESS_ELECTION_TIMEOUT);
    assert_true(harness_request(harness, want)->done);
    assert_int_not_equal(harness_request(harness, want)->error, ERR_OK);
    harness_heal(harness);
    harness_run(harness, 5 * HARNESS_ELECTION_TIMEOUT);
    end(harness);
}

static void any_fault(struct harness *harness, struct random *random)
{
    member_id id = 1 + random_below(random, harness->options.count);
    switch (random_below(random, 6)) {
    case 0:
        if (harness->members[id].replica != NULL) harness_crash(harness, id, random_chance(random, 700));
        break;
    case 1:
    case 2:
        if (harness->members[id].replica != NULL) break;
        harness_start(harness, id);
        for (member_id peer = 1; peer <= harness->options.count; peer++) {
            if (peer != id && harness->members[peer].replica != NULL) harness_connect(harness, id, peer);
        }
        break;
    case 3:
        harness_isolate(harness, id);
        break;
    case 4:
        harness_heal(harness);
        break;
    default:
        if (harness->network_count == 0) break;
        uint32_t position = (uint32_t)random_below(random, harness->network_count);
        if (random_chance(random, 500)) {
            harness_duplicate(harness, position);
        } else {
            harness_drop(harness, position);
        }
        break;
    }
}

static void any_request(struct harness *harness, struct random *random)
{
    member_id id = 1 + random_below(random, harness->options.count);
    uint32_t key = (uint32_t)random_below(random, HARNESS_KEYS);
    if (harness->members[id].replica == NULL) return;
    switch (random_below(random, 4)) {
    case 0:
        if (random_chance(random, 100)) {
            harness_want_snapshot(harness, id);
        } else {
            harness_read(harness, id, key);
        }
        break;
    case 1:
        harness_delete(harness, id, key);
        break;
    default:
        harness_put(harness, id, key);
        break;
    }
}

static uint32_t live(uint64_t seed)
{
    struct random random;
    random_seed(&random, seed);
    struct harness_options options = {.count = random_chance(&random, 700) ? 3 : 5,
                                      .seed = seed,
                                      .snapshot_log_bytes_min = random_between(&random, 500, 20000),
                                      .cache_bytes_max = random_between(&random, 1, 4000),
                                      .append_bytes_max = random_between(&random, 100, 4000),
                                      .history_bytes_budget = random_between(&random, 1000, 100000),
                                      .log_tail = random_below(&random, 50),
                                      .make_snapshots = true,
                                      .duplicates = true};
    struct harness *harness = harness_new(&options);
    harness_elect(harness);
    for (int i = 0; i < 400 && harness->violation[0] == 0; i++) {
        uint64_t choice = random_below(&random, 100);
        if (choice < 60) {
            any_request(harness, &random);
        } else if (choice < 70) {
            any_fault(harness, &random);
        } else {
            harness_run(harness, (time_ns)random_below(&random, 2 * (uint64_t)HARNESS_HEARTBEAT));
        }
    }
    harness_heal(harness);
    for (member_id id = 1; id <= options.count; id++) {
        if (harness->members[id].replica == NULL) harness_start(harness, id);
    }
    for (member_id a = 1; a <= options.count; a++) {
        for (member_id b = a + 1; b <= options.count; b++) {
            harness_disconnect(harness, a, b);
            harness_connect(harness, a, b);
        }
    }
    harness_run(harness, 8 * HARNESS_ELECTION_TIMEOUT);
    if (harness->violation[0] == 0 && harness_leader(harness) == 0) harness_breach(harness, "no leader at the end");
    if (harness->violation[0] == 0) harness_check_end(harness);
    if (harness->violation[0] != 0)
        fail_msg("CORACLE_REPLICA_SEED=%llu: %s", (unsigned long long)seed, harness->violation);
    uint32_t installed = 0;
    for (member_id id = 1; id <= options.count; id++) installed += (uint32_t)harness->members[id].snapshots_installed;
    harness_free(harness);
    return installed;
}

static void test_random_lives(void **state)
{
    (void)state;
    const char *one = getenv("CORACLE_REPLICA_SEED");
    if (one != NULL) {
        live(strtoull(one, NULL, 10));
        return;
    }
    uint32_t installed = 0;
    for (uint64_t seed = 1; seed <= 100; seed++) installed += live(seed);
    assert_true(installed > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_state_at_its_index), cmocka_unit_test(test_a_bad_file_is_refused),
        cmocka_unit_test(test_a_follower_far_behind),  cmocka_unit_test(test_wanted),
        cmocka_unit_test(test_wanted_in_vain),         cmocka_unit_test(test_random_lives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
