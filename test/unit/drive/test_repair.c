/* Whole clusters whose files are damaged while they serve or while a node is down: all is mended, and nothing is lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "sim/sim_cluster.h"
#include "sim/sim_damage.h"
#include "sim/sim_workload.h"
#include "storage/log_format.h"
#include "storage/slots.h"

#define STATE "/data/state"
#define LOG "/data/log/"
#define LOG_METADATA "/data/log/metadata"
#define SNAPSHOTS "/data/snapshot/"
#define SNAPSHOT_METADATA "/data/snapshot/metadata"

/* ---- a scene ---- */

struct scene {
    struct sim_world world;
    struct sim_net network;
    struct sim_cluster cluster;
    struct sim_workload workload;
    struct sim_marks marks;
};

static struct scene *scene;
static uint64_t snapshot_log_bytes = 256 * 1024;

static void begin(uint64_t seed, unsigned node_count, time_ns scrub_interval)
{
    scene = mem_alloc_zero(sizeof *scene);
    sim_world_init(&scene->world, seed);
    sim_net_init(&scene->network, &scene->world);
    struct drive_config config;
    drive_config_defaults(&config);
    config.election_timeout = 300 * TIME_NS_PER_MS;
    config.heartbeat_interval = 50 * TIME_NS_PER_MS;
    config.segment_bytes = 64 * 1024;
    config.snapshot_log_bytes_min = snapshot_log_bytes;
    config.cache_bytes_max = 1024;
    config.log_tail_bytes = 128 * 1024;
    config.scrub_interval = scrub_interval;
    config.scrub_bytes_per_second = 64ull * 1024 * 1024;
    sim_cluster_init(&scene->cluster, &scene->world, &scene->network, &config, node_count, &scene->marks);
    struct client_endpoint endpoints[SIM_NODES_MAX];
    for (unsigned i = 0; i < node_count; i++) {
        snprintf(endpoints[i].host, sizeof endpoints[i].host, "node-%u", i + 1);
        endpoints[i].port = SIM_API_PORT;
    }
    struct sim_workload_options load = {.client_count = 4,
                                        .rate = 1000,
                                        .put_weight = 8,
                                        .get_weight = 2,
                                        .delete_weight = 1,
                                        .window_keys = 8,
                                        .operations_per_key = 30,
                                        .value_bytes_max = 2000,
                                        .timeout = 3 * TIME_NS_PER_S};
    sim_workload_init(&scene->workload, &scene->world, &scene->network, &load, endpoints, node_count);
    for (unsigned i = 0; i < node_count; i++) sim_cluster_start(&scene->cluster, i);
}

static void end(void)
{
    sim_cluster_free(&scene->cluster);
    sim_workload_free(&scene->workload);
    sim_net_free(&scene->network);
    sim_world_free(&scene->world);
    mem_free(scene);
}

static struct sim_node *node(unsigned number)
{
    return &scene->cluster.nodes[number];
}

static unsigned said(const char *event)
{
    for (unsigned i = 0; i < scene->marks.count; i++) {
        if (strcmp(scene->marks.marks[i].event, event) == 0) return (unsigned)scene->marks.marks[i].count;
    }
    return 0;
}

static void run_for(time_ns time)
{
    time_ns until = scene->world.now + time;
    while (sim_world_step(&scene->world, until)) {
        if (scene->cluster.checker.violated) fail_msg("%s", scene->cluster.checker.text);
        if (scene->workload.violated) fail_msg("%s", scene->workload.text);
    }
}

static bool run_until(bool (*condition)(void), time_ns limit)
{
    time_ns limit_at = scene->world.now + limit;
    while (scene->world.now < limit_at) {
        if (condition()) return true;
        run_for(20 * TIME_NS_PER_MS);
    }
    return condition();
}

static bool has_leader(void)
{
    return sim_cluster_leader(&scene->cluster) < scene->cluster.node_count;
}

static unsigned leader(void)
{
    assert_true(run_until(has_leader, 30 * TIME_NS_PER_S));
    return sim_cluster_leader(&scene->cluster);
}

static uint64_t wanted_writes;

static bool has_written(void)
{
    return scene->workload.puts_done + scene->workload.deletes_done >= wanted_writes;
}

static bool is_quiet(void)
{
    return sim_workload_is_quiet(&scene->workload);
}

/* So many more writes are acknowledged. */
static void write_more(unsigned count)
{
    wanted_writes = scene->workload.puts_done + scene->workload.deletes_done + count;
    sim_workload_run(&scene->workload);
    assert_true(run_until(has_written, 120 * TIME_NS_PER_S));
    sim_workload_quiet(&scene->workload);
    assert_true(run_until(is_quiet, 30 * TIME_NS_PER_S));
}

static bool agrees(void)
{
    struct replica_status first = {0};
    for (unsigned i = 0; i < scene->cluster.node_count; i++) {
        struct replica_status status;
        if (!sim_cluster_status(&scene->cluster, i, &status) || status.raft.uncertain) return false;
        if (status.raft.applied != status.raft.last_index) return false;
        if (i == 0) first = status;
        if (status.raft.applied != first.raft.applied || status.apply_hash != first.apply_hash) return false;
    }
    return true;
}

static bool has_read_all(void)
{
    return sim_workload_has_read_all(&scene->workload);
}

/* All nodes run, are certain and agree, and everything that was acknowledged can be read. */
static void all_is_well(void)
{
    assert_true(run_until(agrees, 60 * TIME_NS_PER_S));
    sim_workload_read_all(&scene->workload);
    assert_true(run_until(has_read_all, 120 * TIME_NS_PER_S));
    sim_workload_quiet(&scene->workload);
    assert_true(run_until(is_quiet, 30 * TIME_NS_PER_S));
    struct sim_verdict verdict;
    sim_history_check(&scene->workload.history, &verdict);
    if (verdict.violated) fail_msg("%s", verdict.text);
    assert_int_equal(verdict.keys_undecided, 0);
}

static void take_down(unsigned number)
{
    node(number)->stay_down = true;
    sim_cluster_crash(&scene->cluster, number, true, 0);
    assert_int_equal(node(number)->state, SIM_NODE_DOWN);
}

/* ---- damage ---- */

static void flip(unsigned number, const char *path, uint64_t offset)
{
    uint8_t sector[SIM_SECTOR_BYTES];
    struct sim_disk *disk = &node(number)->disk;
    assert_true(sim_damage_read(disk, path, offset / SIM_SECTOR_BYTES, sector));
    sector[offset % SIM_SECTOR_BYTES] ^= 0x10;
    sim_damage_write(disk, path, offset / SIM_SECTOR_BYTES, sector, false);
}

static void flip_both_slots(unsigned number, const char *path)
{
    flip(number, path, 100);
    flip(number, path, SLOT_BYTES + 100);
}

struct search {
    const char *end;
    unsigned skip; /* the first ones */
    char path[128];
    unsigned count;
};

static void look_at(void *user, const char *path)
{
    struct search *search = user;
    size_t size = strlen(path), end = strlen(search->end);
    if (size < end || strcmp(path + size - end, search->end) != 0) return;
    if (search->count++ == search->skip) snprintf(search->path, sizeof search->path, "%s", path);
}

static const char *find_file(unsigned number, const char *prefix, const char *end, unsigned skip)
{
    static struct search search;
    search = (struct search){.end = end, .skip = skip};
    sim_disk_each_file(&node(number)->disk, prefix, look_at, &search);
    assert_true(search.path[0] != 0);
    return search.path;
}

static unsigned count_files(unsigned number, const char *prefix, const char *end)
{
    struct search search = {.end = end, .skip = UINT32_MAX};
    sim_disk_each_file(&node(number)->disk, prefix, look_at, &search);
    return search.count;
}

/* The segment that is written to: the last one that is in use. */
static const char *current_segment(unsigned number)
{
    unsigned used = 0;
    for (unsigned i = 0, count = count_files(number, LOG, ".seg"); i < count; i++) {
        if (sim_disk_file_is_used(&node(number)->disk, find_file(number, LOG, ".seg", i))) used = i;
    }
    return find_file(number, LOG, ".seg", used);
}

enum place {
    STATE_SLOT_0,
    STATE_SLOT_1,
    LOG_METADATA_SLOT,
    SNAPSHOT_METADATA_SLOT,
    OLDEST_SEGMENT,
    CURRENT_SEGMENT,
    SNAPSHOT_BEGIN,
    SNAPSHOT_END,
    SNAPSHOT_UNREADABLE,
    SEGMENT_UNREADABLE,
    PLACE_COUNT,
    MIDDLE_SEGMENT = PLACE_COUNT,
    MIDDLE_SEGMENT_UNREADABLE,
};

static void damage(unsigned number, enum place place)
{
    struct sim_disk *disk = &node(number)->disk;
    const char *path;
    switch (place) {
    case STATE_SLOT_0:
        flip(number, STATE, 77);
        break;
    case STATE_SLOT_1:
        flip(number, STATE, SLOT_BYTES + 4000);
        break;
    case LOG_METADATA_SLOT:
        flip(number, LOG_METADATA, SLOT_BYTES + 30);
        break;
    case SNAPSHOT_METADATA_SLOT:
        flip(number, SNAPSHOT_METADATA, 30);
        break;
    case OLDEST_SEGMENT:
        flip(number, find_file(number, LOG, ".seg", 0), LOG_SEGMENT_HEADER_BYTES + 700);
        break;
    case CURRENT_SEGMENT:
        flip(number, current_segment(number), LOG_SEGMENT_HEADER_BYTES + 60);
        break;
    case SNAPSHOT_BEGIN:
        flip(number, find_file(number, SNAPSHOTS, ".snap", 0), 40);
        break;
    case SNAPSHOT_END:
        path = find_file(number, SNAPSHOTS, ".snap", 0);
        flip(number, path, (sim_damage_sectors(disk, path) - 2) * SIM_SECTOR_BYTES);
        break;
    case SNAPSHOT_UNREADABLE:
        sim_damage_make_unreadable(disk, find_file(number, SNAPSHOTS, ".snap", 0), 100);
        break;
    case SEGMENT_UNREADABLE:
        sim_damage_make_unreadable(disk, find_file(number, LOG, ".seg", 0), 10);
        break;
    case MIDDLE_SEGMENT:
        flip(number, find_file(number, LOG, ".seg", 5), LOG_SEGMENT_HEADER_BYTES + 60);
        break;
    case MIDDLE_SEGMENT_UNREADABLE:
        sim_damage_make_unreadable(disk, find_file(number, LOG, ".seg", 5),
                                   LOG_SEGMENT_HEADER_BYTES / SIM_SECTOR_BYTES);
        break;
    default:
        fail();
    }
}

/* ---- while serving ---- */

/* What the scrub finds is mended in place, on a leader or a follower, with or without writes going on; and a restart after that finds
   nothing. */
static void test_found_by_the_scrub(void **state)
{
    (void)state;
    for (enum place place = 0; place < PLACE_COUNT; place++) {
        for (int variant = 0; variant < 4; variant++) {
            begin(place * 10 + (unsigned)variant, 3, TIME_NS_PER_S);
            leader();
            write_more(600);
            run_for(2 * TIME_NS_PER_S);
            assert_true(said("snapshot counts") >= 3);
            assert_int_equal(said("damage is repaired"), 0);
            unsigned number = variant & 1 ? leader() : (leader() + 1) % 3;
            damage(number, place);
            if (variant & 2) write_more(150);
            run_for(4 * TIME_NS_PER_S);
            /* Where writes go on, what is damaged may be written anew or removed before it is looked at. */
            unsigned repaired = said("damage is repaired");
            assert_in_range(repaired, variant & 2 ? 0 : 1, 1);
            bool file = place >= OLDEST_SEGMENT;
            assert_int_equal(count_files(number, "/data/", ".damaged-1"), file && repaired > 0);

            for (unsigned i = 0; i < 3; i++) take_down(i);
            for (unsigned i = 0; i < 3; i++) sim_cluster_start(&scene->cluster, i);
            all_is_well();
            assert_int_equal(said("log is complete again"), 0); /* nobody was uncertain */
            assert_int_equal(said("raft state slot is damaged or older"), 0);
            run_for(3 * TIME_NS_PER_S);
            assert_int_equal(said("damage is repaired"), repaired);
            end();
        }
    }
}

/* Alone, with nobody to take anything from. */
static void test_found_by_the_scrub_alone(void **state)
{
    (void)state;
    for (enum place place = 0; place < PLACE_COUNT; place++) {
        begin(place, 1, TIME_NS_PER_S);
        write_more(600);
        run_for(2 * TIME_NS_PER_S);
        damage(0, place);
        run_for(4 * TIME_NS_PER_S);
        assert_int_equal(said("damage is repaired"), 1);
        take_down(0);
        sim_cluster_start(&scene->cluster, 0);
        all_is_well();
        end();
    }
}

/* A crash at any operation after the damage was found: with the others' help nothing is lost. */
static void test_a_crash_while_it_is_repaired(void **state)
{
    (void)state;
    for (enum place place = 0; place < PLACE_COUNT; place++) {
        for (uint64_t at = 1; at <= (place < OLDEST_SEGMENT ? 4 : 36); at += place < OLDEST_SEGMENT ? 1 : 1 + at / 2) {
            begin(at, 3, TIME_NS_PER_S);
            leader();
            write_more(600);
            run_for(2 * TIME_NS_PER_S);
            unsigned number = at % 2 ? leader() : (leader() + 1) % 3;
            damage(number, place);
            sim_checker_damaged(&scene->cluster.checker, number, 1, true);
            node(number)->disk.crash_at = node(number)->disk.counters.operations + at;
            run_for(4 * TIME_NS_PER_S);
            write_more(100);
            all_is_well();
            end();
        }
    }
}

/* Without a scrub: the follower that lags meets the damage, in what is read back for it or in the snapshot that it is sent. */
static void test_found_by_a_follower_that_lags(void **state)
{
    (void)state;
    static const enum place places[] = {MIDDLE_SEGMENT, MIDDLE_SEGMENT_UNREADABLE, SNAPSHOT_BEGIN, SNAPSHOT_END,
                                        SNAPSHOT_UNREADABLE};
    for (size_t i = 0; i < ARRAY_COUNT(places); i++) {
        bool snapshot = places[i] >= SNAPSHOT_BEGIN && places[i] <= SNAPSHOT_UNREADABLE;
        snapshot_log_bytes = snapshot ? 256 * 1024 : 64 * 1024 * 1024;
        begin(i, 3, 0);
        unsigned behind = (leader() + 1) % 3;
        write_more(10);
        take_down(behind);
        write_more(600);
        if (!snapshot) assert_int_equal(said("snapshot counts"), 0);
        damage(leader(), places[i]);
        sim_cluster_start(&scene->cluster, behind);
        run_for(10 * TIME_NS_PER_S);
        assert_int_equal(said("damage is repaired"), 1);
        all_is_well();
        end();
    }
}

/* ---- while a node is down ---- */

enum loss { LOSS_FLIPPED, LOSS_REMOVED, LOSS_UNREADABLE, LOSS_COUNT };

static void lose(unsigned number, const char *path, enum loss loss)
{
    struct sim_disk *disk = &node(number)->disk;
    if (loss == LOSS_FLIPPED) flip_both_slots(number, path);
    if (loss == LOSS_REMOVED) {
        assert_int_equal(disk_remove(&disk->disk, path), ERR_OK);
        sim_disk_sync_all(disk);
    }
    if (loss == LOSS_UNREADABLE) {
        sim_damage_make_unreadable(disk, path, 0);
        sim_damage_make_unreadable(disk, path, SLOT_BYTES / SIM_SECTOR_BYTES);
    }
    sim_checker_damaged(&scene->cluster.checker, number, 1, true);
}

static void test_a_lost_raft_state(void **state)
{
    (void)state;
    snapshot_log_bytes = 64 * 1024 * 1024;
    for (enum loss loss = 0; loss < LOSS_COUNT; loss++) {
        for (unsigned number = 0; number < 3; number++) {
            begin(loss * 10 + number, 3, 0);
            leader();
            write_more(200);
            take_down(number);
            lose(number, STATE, loss);
            write_more(50);
            sim_cluster_start(&scene->cluster, number);
            write_more(50);
            all_is_well();
            assert_int_equal(said("log is complete again"), 1);
            assert_int_equal(said("snapshot is sent"), 0); /* its log was good */
            /* It counts again: with another one down there is still a quorum. */
            take_down((number + 1) % 3);
            write_more(50);
            sim_cluster_start(&scene->cluster, (number + 1) % 3);
            all_is_well();
            end();
        }
    }
}

static void test_a_lost_raft_state_and_identity(void **state)
{
    (void)state;
    snapshot_log_bytes = 256 * 1024;
    for (enum loss loss = 0; loss < LOSS_COUNT; loss++) {
        for (unsigned lonely = 0; lonely <= 1; lonely++) {
            begin(loss * 10 + lonely, 3, 0);
            leader();
            write_more(600);
            take_down(0);
            lose(0, STATE, loss);
            lose(0, LOG_METADATA, loss);
            if (lonely) {
                /* With one other only, it waits. */
                unsigned other = (leader() == 1 ? 2 : 1);
                take_down(other);
                sim_cluster_start(&scene->cluster, 0);
                run_for(10 * TIME_NS_PER_S);
                assert_true(
                    said("the raft state was lost: waiting until a majority of others has founded the cluster") > 0);
                assert_false(has_leader());
                sim_cluster_start(&scene->cluster, other);
            } else {
                sim_cluster_start(&scene->cluster, 0);
            }
            write_more(50);
            all_is_well();
            assert_int_equal(said("founded the cluster"), 3);
            end();
        }
    }
}

/* Nobody may vote, so nobody leads, and each says so; when the operator says that they are all that is left, they go on. */
static void test_all_lost_their_raft_states(void **state)
{
    (void)state;
    begin(1, 3, 0);
    leader();
    write_more(200);
    assert_true(run_until(agrees, 10 * TIME_NS_PER_S));
    for (unsigned i = 0; i < 3; i++) take_down(i);
    for (unsigned i = 0; i < 3; i++) lose(i, STATE, LOSS_FLIPPED);
    for (unsigned i = 0; i < 3; i++) sim_cluster_start(&scene->cluster, i);
    run_for(70 * TIME_NS_PER_S);
    assert_false(has_leader());
    assert_true(said("this member lost data and can't vote: waiting for a leader that the others elect without it") >=
                6);
    for (unsigned i = 0; i < 3; i++) take_down(i);
    scene->cluster.config.force_start = true;
    for (unsigned i = 0; i < 3; i++) sim_cluster_start(&scene->cluster, i);
    leader();
    write_more(50);
    all_is_well();
    end();
}

/* Nor do those that don't even know who they were found anything with each other, or with one whose disk is empty. */
static void test_all_lost_their_identities(void **state)
{
    (void)state;
    for (int wiped = 0; wiped <= 1; wiped++) {
        begin(1, 3, 0);
        leader();
        write_more(200);
        for (unsigned i = 0; i < 3; i++) take_down(i);
        for (unsigned i = 0; i < 3; i++) {
            if (wiped && i == 2) {
                sim_disk_wipe(&node(i)->disk);
                sim_checker_damaged(&scene->cluster.checker, i, 1, true);
                continue;
            }
            lose(i, STATE, LOSS_FLIPPED);
            lose(i, LOG_METADATA, LOSS_FLIPPED);
        }
        for (unsigned i = 0; i < 3; i++) sim_cluster_start(&scene->cluster, i);
        run_for(60 * TIME_NS_PER_S);
        assert_false(has_leader());
        assert_int_equal(said("founded the cluster"), 3);
        end();
    }
}

static void test_a_lost_raft_state_alone(void **state)
{
    (void)state;
    for (enum loss loss = 0; loss < LOSS_COUNT; loss++) {
        begin(loss, 1, 0);
        write_more(150);
        take_down(0);
        lose(0, STATE, loss);
        sim_cluster_start(&scene->cluster, 0);
        write_more(100);
        all_is_well();
        end();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_found_by_the_scrub),
        cmocka_unit_test(test_found_by_the_scrub_alone),
        cmocka_unit_test(test_a_crash_while_it_is_repaired),
        cmocka_unit_test(test_found_by_a_follower_that_lags),
        cmocka_unit_test(test_a_lost_raft_state),
        cmocka_unit_test(test_a_lost_raft_state_and_identity),
        cmocka_unit_test(test_all_lost_their_raft_states),
        cmocka_unit_test(test_all_lost_their_identities),
        cmocka_unit_test(test_a_lost_raft_state_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
