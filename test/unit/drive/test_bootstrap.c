/* From files to a member: the raft state when it is there, when it is new, and when it is lost. */
#include "drive/bootstrap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "disk_rig.h"

#define STATE "/data/state"
#define LOG "/data/log"
#define LOG_METADATA "/data/log/metadata"
#define SNAPSHOTS "/data/snapshot"
#define CLUSTER 0xabcdefull
#define ENTRIES 9

/* ---- one member's files, on a rig ---- */

struct member {
    struct rig rig;
    struct loop loop;
    struct random random;
    time_ns wall_clock;
    struct drive_config config;
    struct drive_ports ports;
    struct raft_state state;
    struct damage_counts damage;
    struct bootstrap bootstrap;
    struct replica *replica;
    char text[BOOTSTRAP_TEXT_BYTES];
    unsigned written;
};

static struct member m;

static time_ns loop_zero(struct loop *loop)
{
    (void)loop;
    return 0;
}

static time_ns loop_clock(struct loop *loop)
{
    (void)loop;
    return m.wall_clock;
}

static void loop_random(struct loop *loop, void *data, size_t size)
{
    (void)loop;
    for (size_t i = 0; i < size; i++) ((uint8_t *)data)[i] = (uint8_t)random_u64(&m.random);
}

static const struct loop_operations loop_operations = {
    .now = loop_zero, .wall_clock = loop_clock, .entropy = loop_random};

static void on_written(void *user, uint64_t number, uint64_t file_bytes)
{
    (void)user;
    (void)number;
    (void)file_bytes;
    m.written++;
}

static void on_full(void *user, bool full)
{
    (void)user;
    (void)full;
}

static void on_failed(void *user, const char *text)
{
    (void)user;
    fail_msg("%s", text);
}

static void on_saved(void *user, uint64_t number)
{
    (void)user;
    (void)number;
}

static const struct log_manager_handler log_handler = {.written = on_written, .full = on_full, .failed = on_failed};
static const struct state_file_handler state_handler = {.saved = on_saved, .failed = on_failed};
static const struct snapshot_handler_handler snapshot_handler_handler = {.failed = on_failed};

static void open_files(void)
{
    m.state = (struct raft_state){0};
    m.bootstrap.state_file = state_file_new(STATE, &m.rig.disk.disk, &m.rig.queue, &m.rig.logger, &state_handler, NULL);
    struct log_manager_config log = {.directory = LOG,
                                     .metadata_file = LOG_METADATA,
                                     .identity = &m.state,
                                     .segment_bytes = 64 * 1024,
                                     .disk = &m.rig.disk.disk,
                                     .queue = &m.rig.queue,
                                     .logger = &m.rig.logger};
    m.bootstrap.log = log_manager_new(&log, &log_handler, NULL);
    struct snapshot_handler_config snapshots = {.directory = SNAPSHOTS,
                                                .disk = &m.rig.disk.disk,
                                                .queue = &m.rig.queue,
                                                .logger = &m.rig.logger,
                                                .self = member_id_of("node-1")};
    m.bootstrap.snapshots = snapshot_handler_new(&snapshots, &snapshot_handler_handler, NULL);
}

static void close_files(void)
{
    replica_free(m.replica);
    m.replica = NULL;
    snapshot_handler_free(m.bootstrap.snapshots);
    log_manager_free(m.bootstrap.log);
    state_file_free(m.bootstrap.state_file);
}

static void restart(void)
{
    close_files();
    rig_restart(&m.rig, true);
    open_files();
}

static void set_up(uint64_t seed, uint32_t member_count)
{
    memset(&m, 0, sizeof m);
    rig_init(&m.rig, seed);
    random_seed(&m.random, seed);
    m.loop.operations = &loop_operations;
    m.wall_clock = 1000000 * TIME_NS_PER_S;
    drive_config_defaults(&m.config);
    snprintf(m.config.node_id, sizeof m.config.node_id, "node-1");
    m.config.member_count = member_count;
    for (uint32_t i = 0; i < member_count; i++) {
        snprintf(m.config.members[i].node_id, sizeof m.config.members[i].node_id, "node-%u", i + 1);
        snprintf(m.config.members[i].rpc_host, sizeof m.config.members[i].rpc_host, "10.0.0.%u", i + 1);
        m.config.members[i].rpc_port = 6666;
    }
    m.config.log_directory = LOG;
    m.config.log_metadata_file = LOG_METADATA;
    m.config.raft_state_file = STATE;
    m.config.snapshot_directory = SNAPSHOTS;
    m.ports = (struct drive_ports){
        .disk = &m.rig.disk.disk, .disk_queue = &m.rig.queue, .loop = &m.loop, .logger = &m.rig.logger};
    m.bootstrap.config = &m.config;
    m.bootstrap.ports = &m.ports;
    m.bootstrap.damage = &m.damage;
    assert_int_equal(disk_make_directories(m.ports.disk, LOG), ERR_OK);
    assert_int_equal(disk_make_directories(m.ports.disk, SNAPSHOTS), ERR_OK);
    open_files();
}

static void tear_down(void)
{
    close_files();
    rig_free(&m.rig);
}

static void write_entries(void)
{
    struct raft_write write = {.number = 1, .first_index = 1, .entry_count = ENTRIES};
    write.entries = mem_alloc(ENTRIES * sizeof *write.entries);
    uint32_t chain = 0;
    for (unsigned i = 0; i < ENTRIES; i++) {
        write.entries[i] = entry_new(ENTRY_EMPTY, 0);
        entry_seal(write.entries[i], i + 1, 6, chain);
        chain = entry_chain(write.entries[i]);
    }
    log_manager_write(m.bootstrap.log, &write, 0, 0);
    mem_free(write.entries);
    rig_run(&m.rig);
    assert_int_equal(m.written, 1);
}

static enum error load_state(void)
{
    return bootstrap_state(&m.bootstrap, &m.state, m.text);
}

static void load_replica(void)
{
    assert_int_equal(bootstrap_replica(&m.bootstrap, &m.state, &m.replica, m.text), ERR_OK);
}

static struct replica_status status(void)
{
    struct replica_status out;
    replica_status(m.replica, &out);
    return out;
}

/* A founded member with entries of term 6 in its log. Its raft state is kept. */
static struct raft_state begin(uint64_t seed, uint32_t member_count)
{
    set_up(seed, member_count);
    assert_int_equal(load_state(), ERR_OK);
    assert_int_equal(m.state.cluster_id != 0, member_count == 1);
    if (member_count > 1) m.state.cluster_id = CLUSTER;
    bootstrap_found_members(&m.config, &m.state);
    assert_int_equal(state_file_save_now(m.bootstrap.state_file, &m.state, m.text), ERR_OK);
    load_replica();
    assert_false(status().raft.uncertain);
    m.state.term = 6;
    m.state.vote = 99;
    assert_int_equal(state_file_save_now(m.bootstrap.state_file, &m.state, m.text), ERR_OK);
    write_entries();
    struct raft_state kept = m.state;
    sim_disk_sync_all(&m.rig.disk);
    restart();
    return kept;
}

enum loss { LOSS_FLIPPED, LOSS_ZEROED, LOSS_UNREADABLE, LOSS_SHORT, LOSS_REMOVED, LOSS_COUNT };

static void lose(const char *path, enum loss loss)
{
    uint8_t zeros[2 * SLOT_BYTES] = {0};
    struct disk_file *file;
    switch (loss) {
    case LOSS_FLIPPED:
        rig_flip(&m.rig, path, 60, 1);
        rig_flip(&m.rig, path, SLOT_BYTES + 4000, 1);
        break;
    case LOSS_ZEROED:
        rig_write(&m.rig, path, 0, zeros, sizeof zeros);
        break;
    case LOSS_UNREADABLE:
        rig_unreadable(&m.rig, path, SLOT_BYTES - 1, 2);
        break;
    case LOSS_SHORT:
        assert_int_equal(disk_open(m.ports.disk, path, DISK_WRITE, &file), ERR_OK);
        assert_int_equal(disk_truncate(m.ports.disk, file, 100), ERR_OK);
        disk_close(m.ports.disk, file);
        sim_disk_sync_all(&m.rig.disk);
        break;
    default:
        rig_remove(&m.rig, path);
        break;
    }
}

/* ---- */

static void test_a_first_start_and_a_second(void **unused)
{
    (void)unused;
    set_up(1, 3);
    assert_int_equal(load_state(), ERR_OK);
    struct raft_state first = m.state;
    assert_int_equal(first.cluster_id, 0);
    assert_true(first.founding_nonce != 0 && first.log_id != 0);
    assert_false(first.catching_up);
    restart();
    assert_int_equal(load_state(), ERR_OK);
    assert_true(m.state.founding_nonce == first.founding_nonce);
    assert_true(m.state.incarnation > first.incarnation);
    tear_down();
}

/* With the log's metadata there, the log stays and the member is who it was; but it neither votes nor counts. */
static void assert_kept(const struct raft_state *before)
{
    assert_true(raft_state_same_identity(&m.state, before));
    assert_true(m.state.catching_up);
    assert_int_equal(m.state.no_vote_before_term, 1);
    assert_int_equal(m.state.vote, 0);
    assert_true(m.state.term >= 1);
    assert_true(m.state.incarnation > before->incarnation);
}

static void test_a_lost_state_leaves_the_log(void **unused)
{
    (void)unused;
    for (enum loss loss = 0; loss < LOSS_COUNT; loss++) {
        struct raft_state before = begin(loss, 3);
        m.wall_clock -= (time_ns)(loss % 2) * 500000 * TIME_NS_PER_S; /* a clock that went back changes nothing */
        lose(STATE, loss);
        assert_int_equal(load_state(), ERR_OK);
        assert_kept(&before);
        assert_true(rig_said(&m.rig, "the raft state is lost"));
        assert_true(rig_said(&m.rig, STATE));
        /* What was there is kept for a person to look at. */
        assert_int_equal(rig_count(&m.rig, "/data", "state.damaged-1"), loss != LOSS_REMOVED);
        rig_readable(&m.rig);
        load_replica();
        struct replica_status now = status();
        assert_int_equal(now.raft.last_index, ENTRIES);
        assert_int_equal(now.raft.term, 6);
        assert_true(now.raft.uncertain);
        struct raft_state second = m.state;
        restart();
        assert_int_equal(load_state(), ERR_OK);
        assert_kept(&second);
        tear_down();
    }
}

/* Peers refuse an incarnation below the one that they remember. */
static void test_a_state_lost_twice_counts_on(void **unused)
{
    (void)unused;
    begin(5, 3);
    uint64_t greeted = 0;
    for (unsigned i = 0; i < 6; i++) {
        if (i % 3 == 0) lose(STATE, LOSS_FLIPPED);
        assert_int_equal(load_state(), ERR_OK);
        load_replica();
        assert_true(m.state.incarnation > greeted);
        greeted = m.state.incarnation;
        sim_disk_sync_all(&m.rig.disk);
        restart();
    }
    tear_down();
}

static void test_a_crash_on_the_way(void **unused)
{
    (void)unused;
    for (enum loss loss = 0; loss < LOSS_COUNT; loss++) {
        if (loss == LOSS_UNREADABLE) continue; /* what is written is readable again */
        bool crashed = true;
        for (uint64_t at = 1; crashed; at++) {
            struct raft_state before = begin(at, 3);
            lose(STATE, loss);
            m.rig.disk.crash_at = m.rig.disk.counters.operations + at;
            enum error error = load_state();
            crashed = m.rig.disk.dead;
            if (!crashed) assert_int_equal(error, ERR_OK);
            restart();
            assert_int_equal(load_state(), ERR_OK);
            assert_kept(&before);
            load_replica();
            assert_int_equal(status().raft.last_index, ENTRIES);
            assert_true(status().raft.uncertain);
            tear_down();
        }
    }
}

/* A member that is alone asked nobody for a vote: nothing is lost. */
static void test_alone(void **unused)
{
    (void)unused;
    for (enum loss loss = 0; loss < LOSS_COUNT; loss++) {
        struct raft_state before = begin(loss, 1);
        lose(STATE, loss);
        assert_int_equal(load_state(), ERR_OK);
        assert_true(raft_state_same_identity(&m.state, &before));
        assert_false(m.state.catching_up);
        assert_true(m.state.incarnation > before.incarnation);
        load_replica();
        assert_false(status().raft.uncertain);
        assert_int_equal(status().raft.last_index, ENTRIES);
        assert_int_equal(status().raft.term, 6); /* the log says it: the next term is above all that there were */
        tear_down();
    }
}

/* Without the metadata nobody knows which cluster the log belongs to. */
static void assert_no_founder(void)
{
    assert_int_equal(m.state.cluster_id, 0);
    assert_int_equal(m.state.founding_nonce, 0);
    assert_true(m.state.catching_up);
    assert_int_equal(m.state.no_vote_before_term, 1);
    assert_true(m.state.log_id != 0);
    assert_true(m.state.term > 0); /* no first start: what is in the log's directory isn't new */
}

static void test_both_are_lost(void **unused)
{
    (void)unused;
    for (enum loss loss = 0; loss < LOSS_COUNT; loss++) {
        bool crashed = true;
        for (uint64_t at = 1; crashed; at++) {
            struct raft_state before = begin(at, 3);
            lose(STATE, loss == LOSS_UNREADABLE ? LOSS_ZEROED : loss);
            lose(LOG_METADATA, loss);
            m.rig.disk.crash_at = m.rig.disk.counters.operations + at;
            enum error error = load_state();
            crashed = m.rig.disk.dead;
            if (!crashed) assert_int_equal(error, ERR_OK);
            restart();
            assert_int_equal(load_state(), ERR_OK);
            assert_no_founder();
            assert_true(m.state.log_id != before.log_id);
            restart();
            assert_int_equal(load_state(), ERR_OK);
            assert_no_founder();
            /* It found its cluster. The old log is nothing that it could use, and isn't deleted. */
            rig_readable(&m.rig);
            m.state.cluster_id = CLUSTER;
            bootstrap_found_members(&m.config, &m.state);
            load_replica();
            assert_int_equal(status().raft.last_index, 0);
            assert_true(status().raft.uncertain);
            assert_true(rig_exists(&m.rig, "/data/log/log-0000000000000001.seg"));
            tear_down();
        }
    }
}

static void test_both_are_lost_and_there_is_nobody_else(void **unused)
{
    (void)unused;
    for (enum loss loss = 0; loss < LOSS_COUNT; loss++) {
        begin(loss, 1);
        lose(STATE, loss == LOSS_UNREADABLE ? LOSS_ZEROED : loss);
        lose(LOG_METADATA, loss);
        uint64_t operations = m.rig.disk.counters.operations;
        assert_int_equal(load_state(), ERR_DAMAGED);
        assert_int_equal(m.rig.disk.counters.operations, operations); /* nothing was touched */
        assert_non_null(strstr(m.text, STATE));
        assert_non_null(strstr(m.text, LOG_METADATA));
        tear_down();
    }
}

static void test_files_of_another_node(void **unused)
{
    (void)unused;
    begin(1, 3);
    lose(STATE, LOSS_FLIPPED);
    snprintf(m.config.node_id, sizeof m.config.node_id, "node-2");
    uint64_t operations = m.rig.disk.counters.operations;
    assert_int_equal(load_state(), ERR_CONFIG);
    assert_int_equal(m.rig.disk.counters.operations, operations);
    assert_non_null(strstr(m.text, "node-1"));
    tear_down();
}

static void test_the_operator_forces_it(void **unused)
{
    (void)unused;
    for (int later = 0; later <= 1; later++) {
        begin(1, 3);
        lose(STATE, LOSS_FLIPPED);
        if (later) {
            assert_int_equal(load_state(), ERR_OK);
            load_replica();
            assert_true(status().raft.uncertain);
            restart();
        }
        m.config.force_start = true;
        assert_int_equal(load_state(), ERR_OK);
        assert_false(m.state.catching_up);
        assert_true(rig_said(&m.rig, "as the operator forced"));
        load_replica();
        assert_false(status().raft.uncertain);
        assert_int_equal(status().raft.last_index, ENTRIES);
        tear_down();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_first_start_and_a_second),
        cmocka_unit_test(test_a_lost_state_leaves_the_log),
        cmocka_unit_test(test_a_state_lost_twice_counts_on),
        cmocka_unit_test(test_a_crash_on_the_way),
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_both_are_lost),
        cmocka_unit_test(test_both_are_lost_and_there_is_nobody_else),
        cmocka_unit_test(test_files_of_another_node),
        cmocka_unit_test(test_the_operator_forces_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
