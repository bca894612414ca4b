/* Leases by the hundred thousand: bounded slices, and little in the log. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "harness.h"
#include "replica/lessor.h"

#define S TIME_NS_PER_S
#define MANY 100000u

/* A member alone, without the harness, whose model is too slow for so many. */
struct alone {
    struct replica *replica;
    struct replica_effects effects;
    struct raft_write write;
    time_ns now;
    uint32_t entries_max; /* in one turn */
    uint64_t entries, bytes, turns;
};

static void alone_step(struct alone *alone, struct replica_event event)
{
    event.now = alone->now;
    replica_step(alone->replica, &event, &alone->effects);
}

/* A turn: what was written is reported, and what is due is done. */
static void alone_turn(struct alone *alone)
{
    if (alone->write.entry_count > 0) {
        alone_step(alone, (struct replica_event){.type = REPLICA_LOG_WRITTEN, .number = alone->write.number});
        alone->write.entry_count = 0;
    }
    alone_step(alone, (struct replica_event){.type = REPLICA_TICK});
    alone_step(alone, (struct replica_event){.type = REPLICA_FLUSH});
    assert_false(alone->effects.fatal);
    alone->turns++;
    alone->write = alone->effects.raft.write;
    alone->entries += alone->write.entry_count;
    for (uint32_t i = 0; i < alone->write.entry_count; i++) alone->bytes += alone->write.entries[i]->record_bytes;
    if (alone->write.entry_count > alone->entries_max) alone->entries_max = alone->write.entry_count;
    if (alone->effects.raft.save.number != 0) {
        uint64_t number = alone->effects.raft.save.number;
        replica_effects_clear(&alone->effects);
        alone_step(alone, (struct replica_event){.type = REPLICA_STATE_SAVED, .number = number, .incarnation = 1});
    }
    replica_effects_clear(&alone->effects);
}

static void alone_start(struct alone *alone)
{
    struct replica_config config = {
        .raft = {.self = 1,
                 .members = {1},
                 .member_count = 1,
                 .election_timeout = HARNESS_ELECTION_TIMEOUT,
                 .heartbeat_interval = HARNESS_HEARTBEAT,
                 .append_bytes_max = 1 << 20,
                 .inflight_bytes_max = 4 << 20,
                 .cache_bytes_max = 1 << 20,
                 .unapplied_bytes_max = 64 << 20},
        .cluster_id = 1,
        .incarnation = 1,
        .members = {{.id = 1}},
        .member_count = 1,
        .snapshot_log_bytes_min = 1ull << 40,
        .history_bytes_budget = REPLICA_HISTORY_BYTES_BUDGET,
        .requests_max = 8192,
        .request_timeout = 2 * S,
        .forward_timeout = 1 * S,
    };
    *alone = (struct alone){.replica = replica_new(&config, &log_none), .now = 1 * S};
    replica_boot(alone->replica, &(struct raft_boot){.term = 1});
    struct replica_status status = {0};
    for (int i = 0; i < 100 && !status.raft.may_serve; i++) {
        alone_turn(alone);
        replica_status(alone->replica, &status);
    }
    assert_true(status.raft.may_serve);
}

static uint64_t alone_leases(const struct alone *alone)
{
    return store_lease_count(replica_store(alone->replica));
}

static void alone_grant(struct alone *alone, uint32_t count, int64_t ttl_s)
{
    for (uint64_t id = 1; id <= count; id++) {
        struct entry *entry = command_lease_grant(id * 0x9e3779b97f4a7c15u, ttl_s);
        alone_step(alone, (struct replica_event){.type = REPLICA_PROPOSE, .request = id, .entry = entry});
        if (id % 4000 == 0 || id == count) alone_turn(alone);
    }
    alone_turn(alone);
    assert_int_equal(alone_leases(alone), count);
}

static void alone_end(struct alone *alone)
{
    store_verify(replica_store(alone->replica));
    replica_effects_free(&alone->effects);
    replica_free(alone->replica);
}

static void test_many_expire(void **state)
{
    (void)state;
    struct alone alone;
    alone_start(&alone);
    alone_grant(&alone, MANY, 5);
    alone.now += 5 * S - 1;
    alone_turn(&alone);
    assert_int_equal(alone_leases(&alone), MANY);
    alone.now += 1;
    alone.entries_max = 0;
    alone.turns = 0;
    uint64_t left = MANY;
    while (left > 0) {
        /* It wants to go on at once, while there is more to do that isn't under way. */
        alone_turn(&alone);
        assert_true(alone_leases(&alone) + LESSOR_TURN_REVOKES_MAX >= left);
        assert_true(alone_leases(&alone) < left || alone.turns <= 3);
        left = alone_leases(&alone);
    }
    assert_int_equal(alone.entries_max, LESSOR_TURN_REVOKES_MAX);
    struct replica_status status;
    replica_status(alone.replica, &status);
    assert_int_equal(status.leases_expired, MANY);
    assert_int_equal(status.proposals_pending, 0);
    assert_true(replica_deadline(alone.replica) > alone.now);
    alone_end(&alone);
}

/* The log's writes don't come back: what is under way is bounded, and the member doesn't spin. */
static void test_under_way_is_bounded(void **state)
{
    (void)state;
    static const struct {
        int64_t ttl_s, passed_s;
        uint64_t under_way;
    } samples[] = {{5, 6, LESSOR_REVOKES_UNDER_WAY_MAX}, {480, 61, 1}};
    for (size_t sample = 0; sample < ARRAY_COUNT(samples); sample++) {
        struct alone alone;
        alone_start(&alone);
        alone_grant(&alone, 3 * LESSOR_BATCH_LEASES_MAX, samples[sample].ttl_s);
        alone_turn(&alone);
        alone.now += samples[sample].passed_s * S;
        for (int i = 0; i < 20; i++) {
            alone_step(&alone, (struct replica_event){.type = REPLICA_TICK});
            alone_step(&alone, (struct replica_event){.type = REPLICA_FLUSH});
        }
        struct replica_status status;
        replica_status(alone.replica, &status);
        assert_int_equal(status.raft.last_index - status.raft.commit, samples[sample].under_way);
        assert_true(replica_deadline(alone.replica) > alone.now);
        alone.write = alone.effects.raft.write;
        replica_effects_clear(&alone.effects);
        for (int i = 0; i < 50; i++) alone_turn(&alone);
        if (sample == 0) assert_int_equal(alone_leases(&alone), 0);
        assert_true(replica_deadline(alone.replica) > alone.now);
        alone_end(&alone);
    }
}

static void test_many_checkpoints(void **state)
{
    (void)state;
    struct alone alone;
    alone_start(&alone);
    alone_grant(&alone, MANY, 480);
    alone_turn(&alone);
    alone.entries = alone.bytes = 0;
    alone.entries_max = 0;
    for (int second = 0; second < 130; second++) {
        alone.now += 1 * S;
        for (int i = 0; i < 3 || replica_deadline(alone.replica) <= alone.now; i++) alone_turn(&alone);
        for (int i = 0; i < 3; i++) alone_turn(&alone);
    }
    /* Twice each, in batches. */
    assert_in_range(alone.entries, 2 * MANY / LESSOR_BATCH_LEASES_MAX, 2 * MANY / LESSOR_BATCH_LEASES_MAX + 4);
    assert_true(alone.bytes < 2ull * MANY * 17);
    assert_int_equal(alone.entries_max, 1);
    const struct store *store = replica_store(alone.replica);
    for (size_t slot = 0; slot < store_lease_slots(store); slot++) {
        const struct lease *lease = store_lease_at(store, slot);
        if (lease != NULL) assert_in_range(lease->remaining_s, 358, 361);
    }
    alone_end(&alone);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_expire),
        cmocka_unit_test(test_under_way_is_bounded),
        cmocka_unit_test(test_many_checkpoints),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
