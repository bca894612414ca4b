/* The checker of clusters, with made-up nodes: each rule is kept once and broken once. */
#include "sim/sim_checker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/mem.h"
#include "storage/raft_state.h"
#include "storage/snapshot.h"

enum { NODES = 3, ENTRIES_MAX = 64 };

struct fake_entry {
    raft_term term;
    uint32_t chain;
};

struct fake_node {
    bool up;
    raft_index in_memory; /* the first index that is */
    struct fake_entry log[ENTRIES_MAX];
    struct replica_status status;
    struct sim_disk disk;
};

static struct fixture {
    struct sim_world world;
    struct sim_checker checker;
    struct fake_node nodes[NODES];
} f;

static bool fake_status(void *user, unsigned node, struct replica_status *out)
{
    (void)user;
    *out = f.nodes[node].status;
    return f.nodes[node].up;
}

static bool fake_entry(void *user, unsigned node, raft_index index, raft_term *term, uint32_t *chain)
{
    (void)user;
    const struct fake_node *fake = &f.nodes[node];
    if (index > fake->status.raft.last_index || index + 1 < fake->in_memory) return false;
    *term = fake->log[index].term;
    *chain = fake->log[index].chain;
    return true;
}

static uint32_t fake_applied_chain(void *user, unsigned node)
{
    (void)user;
    return f.nodes[node].log[f.nodes[node].status.raft.applied].chain;
}

static const struct sim_disk *fake_disk(void *user, unsigned node)
{
    (void)user;
    return &f.nodes[node].disk;
}

static void look(unsigned node)
{
    sim_checker_look(&f.checker, node - 1);
}

static struct raft_status *raft_of(unsigned node)
{
    return &f.nodes[node - 1].status.raft;
}

/* Three nodes in term 1, followers, with empty logs. */
static void begin(void)
{
    memset(&f, 0, sizeof f);
    sim_world_init(&f.world, 1);
    sim_checker_init(&f.checker, &f.world, NODES);
    f.checker.view =
        (struct sim_checker_view){.status = fake_status, .entry = fake_entry, .applied_chain = fake_applied_chain};
    for (unsigned i = 0; i < NODES; i++) {
        sim_disk_init(&f.nodes[i].disk, &f.world, i);
        f.nodes[i].up = true;
        f.nodes[i].in_memory = 1;
        f.nodes[i].status.self = i + 1;
        f.nodes[i].status.raft.term = 1;
        sim_checker_started(&f.checker, i);
    }
}

static bool clean(void)
{
    for (unsigned i = 0; i < NODES; i++) sim_checker_look(&f.checker, i);
    bool violated = f.checker.violated;
    assert_int_equal(violated, f.checker.text[0] != 0);
    sim_checker_free(&f.checker);
    for (unsigned i = 0; i < NODES; i++) sim_disk_free(&f.nodes[i].disk);
    sim_world_free(&f.world);
    return !violated;
}

/* The violation that was found, and nothing else, is the one that the text tells of. */
static void assert_found(const char *text)
{
    for (unsigned i = 0; i < NODES; i++) sim_checker_look(&f.checker, i);
    if (strstr(f.checker.text, text) == NULL) fail_msg("found \"%s\" and not \"%s\"", f.checker.text, text);
    assert_false(clean());
}

/* As base/entry.h chains: over what is before, the term, and a payload. */
static uint32_t chain_after(uint32_t before, raft_term term, uint32_t payload)
{
    return (uint32_t)random_mix(before ^ term << 32 ^ (uint64_t)payload << 48) | 1;
}

/* The node's log has the entry as its last one now; durable too. */
static void append(unsigned node, raft_index index, raft_term term, uint32_t payload)
{
    struct fake_node *fake = &f.nodes[node - 1];
    fake->log[index] = (struct fake_entry){term, chain_after(fake->log[index - 1].chain, term, payload)};
    fake->status.raft.last_index = index;
    fake->status.raft.last_term = term;
    fake->status.raft.durable_index = index;
    look(node);
}

static void append_all(raft_index index, raft_term term, uint32_t payload)
{
    for (unsigned node = 1; node <= NODES; node++) append(node, index, term, payload);
}

static void commit(unsigned node, raft_index index)
{
    struct replica_status *status = &f.nodes[node - 1].status;
    status->raft.commit = index;
    status->raft.applied = index;
    status->apply_hash = index;
    look(node);
}

static void step_into(unsigned node, raft_term term)
{
    raft_of(node)->term = term;
    raft_of(node)->vote = 0;
    raft_of(node)->role = RAFT_FOLLOWER;
}

static void lead(unsigned node, raft_term term)
{
    step_into(node, term);
    raft_of(node)->vote = node;
    raft_of(node)->role = RAFT_LEADER;
    look(node);
}

static void restart(unsigned node)
{
    sim_checker_stopped(&f.checker, node - 1);
    raft_of(node)->role = RAFT_FOLLOWER;
    sim_checker_started(&f.checker, node - 1);
}

static void test_a_life_without_violations(void **state)
{
    (void)state;
    begin();
    lead(1, 2);
    append_all(1, 2, 1);
    commit(1, 1);
    append(1, 2, 2, 2); /* of the leader alone */
    commit(2, 1);
    lead(2, 3);
    append(2, 2, 3, 0);
    append(3, 2, 3, 0);
    commit(2, 2);
    append(1, 2, 3, 0); /* the old leader's entry is replaced */
    commit(1, 2);
    commit(3, 2);
    restart(3);
    assert_true(clean());
}

static void test_one_leader_in_a_term(void **state)
{
    (void)state;
    begin();
    lead(1, 2);
    lead(2, 3);
    lead(1, 4);
    assert_true(clean());
    begin();
    lead(1, 2);
    lead(2, 2);
    assert_found("node-1 and node-2 are both leader in term 2");
}

static void test_logs_match(void **state)
{
    (void)state;
    begin();
    append(1, 1, 2, 1);
    append(2, 1, 3, 2); /* another term: another entry is fine */
    assert_true(clean());
    begin();
    append(1, 1, 2, 1);
    append(2, 1, 2, 2);
    assert_found("have an entry 1 of term 2");
    /* The same entry after different ones. */
    begin();
    append(1, 1, 2, 1);
    append(2, 1, 3, 1);
    append(1, 2, 4, 7);
    append(2, 2, 4, 7);
    assert_found("have an entry 2 of term 4");
    /* Several at once, the wrong one in the middle. */
    begin();
    for (raft_index i = 1; i <= 5; i++) append(1, i, 2, (uint32_t)i);
    raft_of(2)->last_index = 5;
    for (raft_index i = 1; i <= 5; i++) {
        uint32_t chain = f.nodes[0].log[i].chain;
        f.nodes[1].log[i] = (struct fake_entry){2, i == 3 ? chain + 2 : chain};
    }
    assert_found("have an entry 3 of term 2");
}

static void test_a_leader_has_what_is_committed(void **state)
{
    (void)state;
    begin();
    lead(1, 2);
    append(1, 1, 2, 1);
    append(2, 1, 2, 1);
    commit(1, 1);
    lead(3, 3); /* without the entry */
    assert_found("lacks 1, which is committed");
    begin();
    lead(1, 2);
    append(1, 1, 2, 1);
    append(2, 1, 2, 1);
    commit(1, 1);
    append(3, 1, 1, 9); /* one at the same place */
    lead(3, 3);
    assert_found("lacks 1, which is committed");
    /* One that was elected in an earlier term and hears of it late need not have it. */
    begin();
    lead(1, 4);
    append(1, 1, 4, 1);
    append(2, 1, 4, 1);
    commit(1, 1);
    lead(3, 3);
    assert_true(clean());
}

static void test_committed_entries_stay(void **state)
{
    (void)state;
    begin();
    lead(1, 2);
    append_all(1, 2, 1);
    commit(1, 1);
    raft_of(3)->term = 3;
    sim_checker_look(&f.checker, 2);
    append(3, 1, 3, 9);
    assert_found("node-3 replaced entry 1, which was committed");
    /* It was committed in a term that node 3 hasn't heard of, by the others: its copy counted for nothing. */
    begin();
    append_all(1, 1, 1);
    lead(1, 3);
    commit(1, 1);
    raft_of(3)->term = 2;
    append(3, 1, 2, 9);
    assert_true(clean());
    begin();
    lead(1, 2);
    append(1, 1, 2, 1);
    append(2, 1, 2, 1);
    commit(1, 1);
    append(3, 1, 3, 9);
    commit(3, 1);
    assert_found("node-3 has another entry 1 committed");
}

static void test_what_was_in_memory_only_may_be_replaced_after_a_restart(void **state)
{
    (void)state;
    begin();
    append_all(1, 2, 1);
    append_all(2, 3, 2);
    f.checker.nodes[2].proven_last = f.checker.nodes[2].last.durable_index = 1;
    commit(1, 2);
    raft_of(3)->last_index = raft_of(3)->durable_index = 1;
    restart(3);
    append(3, 2, 2, 9); /* of a leader that doesn't know that it is none any more */
    assert_true(clean());
}

static void test_what_is_applied_is_what_is_committed(void **state)
{
    (void)state;
    begin();
    append_all(1, 2, 1);
    append_all(2, 2, 2);
    commit(1, 2);
    f.nodes[1].in_memory = 4; /* nobody sees its log any more */
    f.nodes[1].log[2].chain += 2;
    commit(2, 2);
    assert_found("node-2 applied another entry 2 than is committed");
    begin();
    append_all(1, 2, 1);
    commit(1, 1);
    f.nodes[1].status.apply_hash = 77;
    raft_of(2)->commit = raft_of(2)->applied = 1;
    assert_found("after index 1, node-2 has apply hash");
    begin();
    append_all(1, 2, 1);
    raft_of(1)->applied = 1;
    assert_found("applied 1, commit 0, durable 1, last 1 can't be");
    begin();
    append_all(1, 2, 1);
    raft_of(1)->commit = 2;
    assert_found("applied 0, commit 2, durable 1, last 1 can't be");
    begin();
    f.nodes[0].status.diverged = true;
    assert_found("says that its state differs");
}

static void test_committed_is_durable_on_a_majority(void **state)
{
    (void)state;
    begin();
    append(1, 1, 2, 1);
    append(2, 1, 2, 1);
    raft_of(2)->durable_index = 0; /* taken back before anybody looked */
    f.checker.nodes[1].proven_last = 0;
    commit(1, 1);
    assert_found("node-1 has index 1 committed, but durable on the nodes are, of that log: 1 not 0 not 0");
    /* It isn't enough that something else is durable there. */
    begin();
    append(1, 1, 2, 1);
    append(2, 1, 1, 9);
    append(3, 1, 1, 9);
    commit(1, 1);
    assert_found("node-1 has index 1 committed");
    /* A node that stopped counts with what it had. */
    begin();
    append(1, 1, 2, 1);
    append(3, 1, 2, 1);
    sim_checker_stopped(&f.checker, 2);
    f.nodes[2].up = false;
    commit(1, 1);
    assert_true(clean());
    /* An uncertain one doesn't. */
    begin();
    append(1, 1, 2, 1);
    sim_checker_damaged(&f.checker, 2, 1, false);
    raft_of(3)->uncertain = true;
    restart(3);
    append(3, 1, 2, 1);
    commit(1, 1);
    assert_found("node-1 has index 1 committed");
}

static void test_nothing_goes_back(void **state)
{
    (void)state;
    begin();
    step_into(1, 5);
    look(1);
    raft_of(1)->term = 4;
    assert_found("node-1 went back from term 5 to 4");
    begin();
    append_all(1, 1, 1);
    append_all(2, 1, 2);
    commit(1, 2);
    raft_of(1)->commit = raft_of(1)->applied = 1;
    f.nodes[0].status.apply_hash = 1;
    assert_found("node-1's commit index went back from 2 to 1");
    begin();
    append_all(1, 1, 1);
    append_all(2, 1, 2);
    commit(1, 2);
    raft_of(1)->applied = 1;
    f.nodes[0].status.apply_hash = 1;
    assert_found("node-1's applied index went back from 2 to 1");
    begin();
    raft_of(1)->vote = 2;
    look(1);
    raft_of(1)->vote = 3;
    assert_found("node-1 voted twice in term 1");
}

static void test_restarts_keep_what_was_durable(void **state)
{
    (void)state;
    begin();
    append_all(1, 1, 1);
    append(2, 2, 1, 2);
    raft_of(2)->durable_index = 1; /* the last one wasn't */
    f.checker.nodes[1].last.durable_index = 1;
    raft_of(2)->last_index = 1;
    restart(2);
    assert_true(clean());
    begin();
    append_all(1, 1, 1);
    append_all(2, 1, 2);
    raft_of(2)->durable_index = raft_of(2)->last_index = 1;
    restart(2);
    assert_found("node-2 had made index 2 durable, and has only 1 after its restart");
    begin();
    append_all(1, 1, 1);
    raft_of(2)->uncertain = true;
    restart(2);
    assert_found("node-2 is uncertain after a crash");
}

static void test_damage_excuses_what_it_can_have_taken(void **state)
{
    (void)state;
    for (unsigned variant = 0; variant < 4; variant++) {
        begin();
        append_all(1, 1, 1);
        append_all(2, 1, 2);
        append_all(3, 1, 3);
        sim_checker_damaged(&f.checker, 1, variant == 1 ? 3 : 2, false);
        raft_of(2)->durable_index = raft_of(2)->last_index = 1;
        raft_of(2)->uncertain = variant != 2;
        restart(2);
        if (variant == 0) assert_true(clean());
        if (variant == 1) assert_found("node-2 had made index 3 durable, and has only 1"); /* too much is gone */
        if (variant == 2) assert_found("node-2 lost the entries from 2 to 3, and doesn't know");
        if (variant < 3) continue;
        /* Certain again, it has no excuse any more. */
        raft_of(2)->uncertain = false;
        append(2, 2, 1, 2);
        append(2, 3, 1, 3);
        restart(2);
        raft_of(2)->uncertain = true;
        restart(2);
        assert_found("node-2 is uncertain after a crash");
    }
}

static void save_slots(unsigned node, raft_term newer, raft_term older, member_id vote, bool sync)
{
    struct sim_disk *disk = &f.nodes[node - 1].disk;
    struct disk_file *file;
    uint8_t *slot = mem_alloc(SLOT_BYTES);
    assert_int_equal(disk_make_directories(&disk->disk, "/data"), ERR_OK);
    assert_int_equal(disk_open(&disk->disk, "/data/state", DISK_WRITE | DISK_CREATE, &file), ERR_OK);
    for (unsigned i = 0; i < SLOT_COUNT; i++) {
        struct raft_state state = {.cluster_id = 1, .member = node, .log_id = 1, .node_id = "n", .vote = vote};
        state.term = i == 0 ? newer : older;
        raft_state_encode(&state, state.term, slot);
        assert_int_equal(disk_write(&disk->disk, file, i * SLOT_BYTES, slot, SLOT_BYTES), ERR_OK);
    }
    if (sync) sim_disk_sync_all(disk);
    disk_close(&disk->disk, file);
    mem_free(slot);
}

static void test_votes_are_on_the_device(void **state)
{
    (void)state;
    /* By variant: node 2's vote is durable; is not; is in one slot only; is for another; node 2 is in a later term. */
    for (unsigned variant = 0; variant < 5; variant++) {
        begin();
        f.checker.view.disk = fake_disk;
        save_slots(1, 5, 5, 1, true);
        if (variant == 1) save_slots(2, 4, 4, 1, true);
        save_slots(2, variant == 4 ? 6 : 5, variant == 2 ? 4 : 5,
                   variant == 3   ? 2
                   : variant == 4 ? 0
                                  : 1,
                   variant != 1);
        save_slots(3, 4, 4, 0, true);
        if (variant == 4) save_slots(2, 6, 6, 0, true);
        lead(1, 5);
        if (variant == 0 || variant == 4) {
            assert_true(clean());
        } else {
            assert_found("node-1 leads term 5, but the votes that are durable are");
        }
    }
}

static void test_term_and_vote_outlive_restarts(void **state)
{
    (void)state;
    for (unsigned variant = 0; variant < 5; variant++) {
        begin();
        f.checker.view.disk = fake_disk;
        raft_of(1)->term = 5;
        raft_of(1)->vote = 2;
        look(1);
        save_slots(1, 5, 5, 2, true);
        sim_checker_stopped(&f.checker, 0);
        if (variant == 1) raft_of(1)->term = 4;
        if (variant >= 2) raft_of(1)->vote = 3;
        if (variant == 3) sim_checker_damaged(&f.checker, 0, 0, true);
        if (variant == 4) raft_of(1)->term = 6;
        sim_checker_started(&f.checker, 0);
        if (variant == 0 || variant >= 3) assert_true(clean());
        if (variant == 1) assert_found("node-1 was in term 5, and is in term 4 after its restart");
        if (variant == 2) assert_found("node-1 forgot its vote in term 5");
    }
}

static void test_durable_means_synced(void **state)
{
    (void)state;
    /* By variant: synced with its directory; not synced; the name isn't; a spare, which is all zero. */
    for (unsigned variant = 0; variant < 4; variant++) {
        begin();
        f.checker.view.disk = fake_disk;
        struct sim_disk *disk = &f.nodes[0].disk;
        struct disk_file *file;
        assert_int_equal(disk_make_directories(&disk->disk, "/data/log"), ERR_OK);
        assert_int_equal(disk_open(&disk->disk, "/data/log/log-1.seg", DISK_WRITE | DISK_CREATE, &file), ERR_OK);
        uint8_t byte = variant == 3 ? 0 : 1;
        assert_int_equal(disk_write(&disk->disk, file, 0, &byte, 1), ERR_OK);
        if (variant != 1) assert_int_equal(disk_sync(&disk->disk, file), ERR_OK);
        if (variant != 2) assert_int_equal(disk_sync_directory(&disk->disk, "/data/log"), ERR_OK);
        disk_close(&disk->disk, file);
        append(1, 1, 1, 1);
        if (variant == 0 || variant == 3) {
            assert_true(clean());
        } else {
            assert_found("node-1 says that entry 1 is durable, but /data/log/log-1.seg isn't synced");
        }
    }
}

static void test_what_is_durable_is_replaced_or_stays(void **state)
{
    (void)state;
    /* By variant: a conflict cuts the log and puts a shorter end there; the end just goes. */
    for (unsigned variant = 0; variant < 2; variant++) {
        begin();
        for (raft_index i = 1; i <= 3; i++) append(2, i, 1, (uint32_t)i);
        if (variant == 0) {
            append(2, 2, 2, 7);
            assert_true(clean());
        } else {
            raft_of(2)->last_index = raft_of(2)->durable_index = 2;
            assert_found("node-2 had entries up to 3 durable, and dropped those after 2");
        }
    }
    /* Over a restart: the same; another one where nothing was durable; another one where one was; after damage, which it knows of. */
    for (unsigned variant = 0; variant < 4; variant++) {
        begin();
        append(2, 1, 1, 1);
        append(2, 2, 1, 2);
        if (variant == 1) f.checker.nodes[1].proven_last = f.checker.nodes[1].last.durable_index = 1;
        if (variant > 0) f.nodes[1].log[2] = (struct fake_entry){2, 77};
        if (variant == 3) sim_checker_damaged(&f.checker, 1, 2, false);
        raft_of(2)->uncertain = variant == 3;
        restart(2);
        if (variant != 2) {
            assert_true(clean());
        } else {
            assert_found("node-2 had made entry 2 durable, and has another one after its restart");
        }
    }
}

static void test_a_snapshot_refutes_a_log_over_a_crash(void **state)
{
    (void)state;
    /* By variant: the entry that is there now is committed; it isn't. */
    for (unsigned variant = 0; variant < 2; variant++) {
        begin();
        for (raft_index i = 1; i <= 3; i++) append(3, i, 1, (uint32_t)i);
        lead(1, 2);
        append(1, 1, 2, 7);
        append(2, 1, 2, 7);
        if (variant == 0) commit(1, 1);
        f.nodes[2].log[1] = f.nodes[0].log[1];
        f.nodes[2].in_memory = 2;
        raft_of(3)->last_index = raft_of(3)->durable_index = 1;
        restart(3);
        if (variant == 0) {
            assert_true(clean());
        } else {
            assert_found("node-3 had made index 3 durable, and has only 1 after its restart");
        }
    }
}

static void test_a_certain_member_has_what_was_committed_before_it_came_back(void **state)
{
    (void)state;
    /* By variant: it has all; it lacks one; it lacks one that was committed since; it lacks one, and a restart made it certain. */
    for (unsigned variant = 0; variant < 4; variant++) {
        begin();
        lead(1, 2);
        append_all(1, 2, 1);
        append(1, 2, 2, 2);
        append(2, 2, 2, 2);
        if (variant != 2) commit(1, 2);
        sim_checker_damaged(&f.checker, 2, 1, false);
        raft_of(3)->uncertain = true;
        restart(3);
        assert_false(f.checker.violated);
        if (variant == 2) commit(1, 2);
        if (variant == 0) append(3, 2, 2, 2);
        raft_of(3)->uncertain = false;
        if (variant == 3) restart(3);
        look(3);
        if (variant == 0 || variant == 2) {
            assert_true(clean());
        } else {
            assert_found("node-3 takes its log up to 1 for complete, and 2 was committed before it came back");
        }
    }
}

static void write_file(struct sim_disk *disk, const char *path, struct bytes bytes)
{
    struct disk_file *file;
    assert_int_equal(disk_open(&disk->disk, path, DISK_WRITE | DISK_CREATE, &file), ERR_OK);
    assert_int_equal(disk_write(&disk->disk, file, 0, bytes.data, bytes.size), ERR_OK);
    disk_close(&disk->disk, file);
}

static void test_a_snapshot_that_counts_is_durable(void **state)
{
    (void)state;
    static uint8_t slots[SLOT_COUNT * SLOT_BYTES];
    /* By variant: durable; the name isn't; it isn't there; not the one that the metadata name. */
    for (unsigned variant = 0; variant < 4; variant++) {
        begin();
        f.checker.view.disk = fake_disk;
        struct sim_disk *disk = &f.nodes[0].disk;
        struct snapshot_metadata metadata = {.epoch = 4, .index = variant == 3 ? 2 : 1, .term = 1, .snapshot_id = 9};
        char name[SNAPSHOT_NAME_BYTES], path[128];
        snapshot_name(4, name);
        snprintf(path, sizeof path, "/data/snapshot/%s", name);
        assert_int_equal(disk_make_directories(&disk->disk, "/data/snapshot"), ERR_OK);
        for (unsigned i = 0; i < SLOT_COUNT; i++)
            snapshot_metadata_encode(&metadata, 1, slots + (size_t)i * SLOT_BYTES);
        write_file(disk, "/data/snapshot/metadata", bytes_of(slots, sizeof slots));
        if (variant == 0) write_file(disk, path, bytes_of(slots, 100));
        sim_disk_sync_all(disk);
        if (variant == 1) write_file(disk, path, bytes_of(slots, 100));
        append_all(1, 1, 1);
        commit(1, 1);
        f.nodes[0].status.snapshot_index = 1;
        if (variant == 0 || variant == 3) {
            assert_true(clean());
        } else {
            assert_found("node-1 has a snapshot of entry 1 that counts, but /data/snapshot/");
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_life_without_violations),
        cmocka_unit_test(test_one_leader_in_a_term),
        cmocka_unit_test(test_logs_match),
        cmocka_unit_test(test_a_leader_has_what_is_committed),
        cmocka_unit_test(test_committed_entries_stay),
        cmocka_unit_test(test_what_was_in_memory_only_may_be_replaced_after_a_restart),
        cmocka_unit_test(test_what_is_applied_is_what_is_committed),
        cmocka_unit_test(test_committed_is_durable_on_a_majority),
        cmocka_unit_test(test_nothing_goes_back),
        cmocka_unit_test(test_restarts_keep_what_was_durable),
        cmocka_unit_test(test_what_is_durable_is_replaced_or_stays),
        cmocka_unit_test(test_a_snapshot_refutes_a_log_over_a_crash),
        cmocka_unit_test(test_a_certain_member_has_what_was_committed_before_it_came_back),
        cmocka_unit_test(test_a_snapshot_that_counts_is_durable),
        cmocka_unit_test(test_damage_excuses_what_it_can_have_taken),
        cmocka_unit_test(test_votes_are_on_the_device),
        cmocka_unit_test(test_term_and_vote_outlive_restarts),
        cmocka_unit_test(test_durable_means_synced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
