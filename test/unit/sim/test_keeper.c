/* The keeper of books: who may be damaged when, what evidence is left, and when a member counts as well again. */
#include "sim/sim_keeper.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "sim/sim_damage.h"
#include "sim/sim_workload.h"
#include "storage/log_format.h"
#include "storage/raft_state.h"

#define STATE "/data/state"

static struct sim_world world;
static struct sim_net network;
static struct sim_cluster cluster;
static struct sim_workload workload;
static struct sim_keeper keeper;

static void set_up(uint64_t seed, unsigned node_count)
{
    struct drive_config config;
    struct client_endpoint endpoints[SIM_NODES_MAX];
    static const struct sim_workload_options load = {.client_count = 3,
                                                     .rate = 200,
                                                     .put_weight = 1,
                                                     .window_keys = 5,
                                                     .operations_per_key = 50,
                                                     .value_bytes_max = 1000,
                                                     .timeout = 2 * TIME_NS_PER_S};
    drive_config_defaults(&config);
    config.election_timeout = 200 * TIME_NS_PER_MS;
    config.heartbeat_interval = 20 * TIME_NS_PER_MS;
    config.segment_bytes = 1024 * 1024;
    sim_world_init(&world, seed);
    sim_net_init(&network, &world);
    sim_cluster_init(&cluster, &world, &network, &config, node_count, NULL);
    for (unsigned i = 0; i < node_count; i++) {
        snprintf(endpoints[i].host, sizeof endpoints[i].host, "node-%u", i + 1);
        endpoints[i].port = SIM_API_PORT;
    }
    sim_workload_init(&workload, &world, &network, &load, endpoints, node_count);
    sim_keeper_init(&keeper, &cluster);
    for (unsigned i = 0; i < node_count; i++) sim_cluster_start(&cluster, i);
    sim_workload_run(&workload);
}

static void tear_down(void)
{
    assert_false(workload.violated);
    sim_world_cancel(&world, &keeper.look);
    sim_cluster_free(&cluster);
    sim_workload_free(&workload);
    sim_net_free(&network);
    sim_world_free(&world);
}

static void run_for(time_ns duration)
{
    time_ns until = world.now + duration;
    while (sim_world_step(&world, until)) {
        if (cluster.checker.violated) fail_msg("%s", cluster.checker.text);
    }
}

static bool damaged_state_is_refused(unsigned node)
{
    uint64_t refused = keeper.refused;
    bool done = sim_keeper_damage(&keeper, node, SIM_DAMAGE_STATE);
    assert_int_equal(keeper.refused, refused + !done);
    return !done;
}

static void restart(unsigned node, bool power_loss)
{
    sim_cluster_crash(&cluster, node, power_loss, TIME_NS_PER_MS);
    run_for(2 * TIME_NS_PER_MS);
    assert_int_equal(cluster.nodes[node].state, SIM_NODE_UP);
}

static void test_there_is_no_damage_before_the_cluster_is_founded(void **state)
{
    (void)state;
    set_up(1, 3);
    for (unsigned kind = 0; kind < SIM_DAMAGE_COUNT; kind++) {
        assert_false(sim_keeper_damage(&keeper, 0, (enum sim_damage)kind));
        assert_int_equal(keeper.counts[kind], 0);
    }
    assert_false(sim_keeper_wipe(&keeper, 0, 0));
    assert_int_equal(keeper.refused, SIM_DAMAGE_COUNT + 1);
    run_for(5 * TIME_NS_PER_S);
    assert_true(workload.puts_done > 50 && keeper.repaired == 0);
    tear_down();
}

/* One of three, two of five, none of two; and nobody alone. */
static void test_a_minority_may_be_suspect(void **state)
{
    (void)state;
    for (unsigned count = 1; count <= 5; count++) {
        set_up(count, count);
        run_for(5 * TIME_NS_PER_S);
        unsigned limit = (count - 1) / 2;
        for (unsigned i = 0; i < count; i++) assert_int_equal(damaged_state_is_refused(i), i >= limit);
        if (limit > 0) assert_false(damaged_state_is_refused(0)); /* more for one that is suspect already */
        assert_int_equal(sim_keeper_spare(&keeper), 0);
        tear_down();
    }
}

/* Suspect until it started again, is certain and wrote something as such; then another may be. */
static void test_a_member_becomes_well(void **state)
{
    (void)state;
    set_up(3, 3);
    run_for(5 * TIME_NS_PER_S);
    assert_int_equal(sim_keeper_spare(&keeper), 1);
    assert_false(damaged_state_is_refused(0));
    run_for(2 * TIME_NS_PER_S);
    assert_true(damaged_state_is_refused(1)); /* it runs, and doesn't know */
    restart(0, false);
    assert_true(damaged_state_is_refused(1));
    run_for(5 * TIME_NS_PER_S);
    assert_int_equal(keeper.repaired, 1);
    assert_int_equal(sim_keeper_spare(&keeper), 1);
    assert_false(damaged_state_is_refused(1));
    tear_down();
}

static void test_disks_are_wiped_one_at_a_time(void **state)
{
    (void)state;
    set_up(4, 5);
    run_for(5 * TIME_NS_PER_S);
    assert_true(sim_keeper_wipe(&keeper, 0, TIME_NS_PER_S));
    assert_int_equal(sim_disk_used_bytes(&cluster.nodes[0].disk), 0);
    assert_false(sim_keeper_wipe(&keeper, 1, TIME_NS_PER_S));
    run_for(6 * TIME_NS_PER_S);
    assert_int_equal(keeper.repaired, 1);
    struct replica_status status;
    assert_true(sim_cluster_status(&cluster, 0, &status) && !status.raft.uncertain);
    assert_true(sim_keeper_wipe(&keeper, 1, TIME_NS_PER_S));
    tear_down();
}

/* Whether a sector of the node's newest batch, by what its device has, was made to look unwritten. */
struct last_batch {
    const struct sim_disk *disk;
    uint64_t log_id;
    unsigned whole; /* batches of which every block is there, at the end of the last segment in use */
};

static void look_at_segment(void *user, const char *path)
{
    struct last_batch *last = user;
    uint64_t number;
    const char *name = strrchr(path, '/') + 1;
    if (!log_segment_name_parse(name, &number)) return;
    uint64_t sectors = sim_damage_sectors(last->disk, path);
    unsigned blocks = 0, of = 0;
    bool used = false;
    for (uint64_t sector = LOG_SEGMENT_HEADER_BYTES / LOG_BLOCK_BYTES; sector < sectors; sector++) {
        uint8_t block[LOG_BLOCK_BYTES];
        struct log_block_header header;
        sim_damage_read(last->disk, path, sector, block);
        if (log_block_read(last->log_id, number, (uint32_t)sector, block, &header) != LOG_BLOCK_GOOD) continue;
        if (header.number == 0) blocks = 0;
        used = true;
        of = header.count;
        blocks++;
    }
    if (used) last->whole = blocks == of;
}

/* However much is zeroed, the last batch is left, or the member would take it for never written. */
static void test_zeroed_sectors_leave_evidence(void **state)
{
    (void)state;
    uint64_t zeroed = 0;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        set_up(seed, 3);
        run_for(3 * TIME_NS_PER_S);
        struct sim_node *node = &cluster.nodes[seed % 3];
        uint8_t slot[2 * SLOT_BYTES];
        struct raft_state saved;
        uint64_t generation;
        char damage[SLOT_DAMAGE_BYTES];
        assert_int_equal(sim_disk_read_durable(&node->disk, STATE, 0, slot, sizeof slot), sizeof slot);
        assert_int_equal(raft_state_decode(bytes_of(slot, sizeof slot), &saved, &generation, damage), ERR_OK);
        sim_cluster_crash(&cluster, node->number, true, TIME_NS_PER_S);
        for (unsigned i = 0; i < 300; i++) sim_keeper_damage(&keeper, node->number, SIM_DAMAGE_ZERO);
        zeroed += keeper.counts[SIM_DAMAGE_ZERO];
        struct last_batch last = {.disk = &node->disk, .log_id = saved.log_id};
        sim_disk_each_file(&node->disk, "/data/log/", look_at_segment, &last);
        assert_int_equal(last.whole, 1);
        run_for(10 * TIME_NS_PER_S); /* the checker sees that it knows what it lost */
        assert_int_equal(keeper.repaired, 1);
        tear_down();
    }
    assert_true(zeroed > 500);
}

/* Of the raft state's slots, one is damaged alone, and not in a way that leaves an older save than the one relied on. */
static void test_one_slot_of_the_raft_state_is_always_good(void **state)
{
    (void)state;
    set_up(6, 3);
    run_for(3 * TIME_NS_PER_S);
    struct sim_disk *disk = &cluster.nodes[0].disk;
    uint8_t before[2 * SLOT_BYTES], after[2 * SLOT_BYTES];
    sim_disk_read_durable(disk, STATE, 0, before, sizeof before);
    for (unsigned i = 0; i < 600; i++) {
        static const enum sim_damage kinds[] = {SIM_DAMAGE_FLIP, SIM_DAMAGE_ZERO, SIM_DAMAGE_MISPLACED};
        sim_keeper_damage(&keeper, 0, kinds[i % 3]);
    }
    sim_disk_read_durable(disk, STATE, 0, after, sizeof after);
    bool first = memcmp(before, after, SLOT_BYTES) == 0;
    bool second = memcmp(before + SLOT_BYTES, after + SLOT_BYTES, SLOT_BYTES) == 0;
    assert_true(first != second);
    tear_down();
}

/* Each kind of damage does something, and the cluster gets over it. */
static void test_every_kind_is_survived(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < SIM_DAMAGE_COUNT; kind++) {
        set_up(100 + kind, 3);
        run_for(3 * TIME_NS_PER_S);
        unsigned node = kind % 3;
        for (unsigned i = 0; i < 5; i++) assert_true(sim_keeper_damage(&keeper, node, (enum sim_damage)kind));
        assert_int_equal(keeper.counts[kind], 5);
        run_for(TIME_NS_PER_S);
        sim_cluster_crash(&cluster, node, true, TIME_NS_PER_MS);
        run_for(10 * TIME_NS_PER_S);
        struct replica_status status;
        assert_true(sim_cluster_status(&cluster, node, &status) && !status.raft.uncertain);
        assert_int_equal(sim_keeper_spare(&keeper), 1);
        tear_down();
    }
}

/* Every copy is gone: nobody serves what isn't so, and whoever doesn't take part says why. */
static void test_a_ruined_cluster_says_what_is_damaged(void **state)
{
    (void)state;
    unsigned halted = 0;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        set_up(seed, seed % 2 == 0 ? 3 : 1);
        run_for(3 * TIME_NS_PER_S);
        sim_keeper_ruin(&keeper);
        run_for(10 * TIME_NS_PER_S);
        for (unsigned i = 0; i < cluster.node_count; i++) {
            struct replica_status status;
            if (sim_cluster_status(&cluster, i, &status) && !status.raft.uncertain) continue;
            halted++;
            assert_true(strlen(sim_keeper_complaint(&keeper, i)) > 0);
        }
        tear_down();
    }
    assert_true(halted > 3);
}

static uint64_t trace_of(uint64_t seed)
{
    set_up(seed, 3);
    run_for(2 * TIME_NS_PER_S);
    for (unsigned kind = 0; kind < SIM_DAMAGE_COUNT; kind++) sim_keeper_damage(&keeper, 1, (enum sim_damage)kind);
    sim_cluster_crash(&cluster, 1, true, TIME_NS_PER_MS);
    run_for(5 * TIME_NS_PER_S);
    uint64_t hash = world.trace_hash;
    tear_down();
    return hash;
}

static void test_damage_follows_from_the_seed(void **state)
{
    (void)state;
    assert_true(trace_of(7) == trace_of(7));
    assert_true(trace_of(7) != trace_of(8));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_is_no_damage_before_the_cluster_is_founded),
        cmocka_unit_test(test_a_minority_may_be_suspect),
        cmocka_unit_test(test_a_member_becomes_well),
        cmocka_unit_test(test_disks_are_wiped_one_at_a_time),
        cmocka_unit_test(test_zeroed_sectors_leave_evidence),
        cmocka_unit_test(test_one_slot_of_the_raft_state_is_always_good),
        cmocka_unit_test(test_every_kind_is_survived),
        cmocka_unit_test(test_a_ruined_cluster_says_what_is_damaged),
        cmocka_unit_test(test_damage_follows_from_the_seed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
