/*
 * Thousands of short random lives of a cluster: messages lost, repeated, delayed and out of order, crashes that lose
 * any work under way, damaged and wiped logs, snapshots. cluster_checks.c checks Raft's guarantees all the time; at the
 * end everything is healed, and a leader must be elected and all must commit the same.
 *
 * CORACLE_RAFT_SEED=N runs that seed alone and prints its trace; CORACLE_RAFT_RUNS=N changes the number of runs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/random.h"
#include "cluster.h"

#define RUNS 2000
#define OPERATIONS 500
#define TRACE_LINES_SHOWN 80

typedef unsigned long long ull;

struct run {
    struct cluster *cluster;
    struct random random;
    uint32_t faults;     /* per mille of operations that are faults */
    bool calm_elections; /* time passes in small steps, so that leaders live longer */
    bool stepped_down[MEMBERS_MAX + 1];
    uint32_t proposed;
};

struct totals {
    uint64_t committed, elections, steps;
};

static member_id any_member(struct run *run)
{
    return 1 + random_below(&run->random, run->cluster->options.count);
}

static struct cluster_member *any_up(struct run *run)
{
    struct cluster_member *member = &run->cluster->members[any_member(run)];
    return member->raft == NULL ? NULL : member;
}

/* Leaders get most of the requests: a member that isn't one only refuses. */
static member_id likely_leader(struct run *run)
{
    member_id leader = cluster_leader(run->cluster);
    return leader != 0 && random_chance(&run->random, 800) ? leader : any_member(run);
}

static void propose(struct run *run)
{
    char payload[64];
    snprintf(payload, sizeof payload, "p%u%.*s", run->proposed++, (int)random_below(&run->random, 40),
             "........................................");
    cluster_propose(run->cluster, likely_leader(run), payload);
}

static void read_something(struct run *run)
{
    struct cluster_member *member = any_up(run);
    if (member == NULL || run->cluster->read_count + 1 >= CLUSTER_READS_MAX) return;
    cluster_read(run->cluster, member->id, member->next_context++);
}

static void pass_time(struct run *run)
{
    uint64_t longest_ms = run->calm_elections ? 150 : 800;
    run->cluster->now += (time_ns)random_below(&run->random, longest_ms) * TIME_NS_PER_MS;
    for (member_id id = 1; id <= run->cluster->options.count; id++) {
        const struct cluster_member *member = &run->cluster->members[id];
        /* Some are late: their processes were paused. */
        if (member->raft == NULL || raft_deadline(member->raft) > run->cluster->now) continue;
        if (random_chance(&run->random, 800)) cluster_tick(run->cluster, id);
    }
}

static void disturb_message(struct run *run)
{
    struct cluster *cluster = run->cluster;
    if (cluster->network_count == 0) return;
    uint32_t position = (uint32_t)random_below(&run->random, cluster->network_count);
    if (random_chance(&run->random, 500)) {
        cluster_duplicate(cluster, position);
    } else {
        cluster_drop(cluster, position);
    }
}

static bool someone_is_uncertain(const struct cluster *cluster)
{
    for (member_id id = 1; id <= cluster->options.count; id++) {
        if (cluster->members[id].disk.catching_up || cluster->members[id].uncertain) return true;
    }
    return false;
}

/* One disk at a time; with more, entries can be gone from everywhere. */
static void spoil_disk(struct run *run, struct cluster_member *member)
{
    struct cluster *cluster = run->cluster;
    if (cluster->options.count < 3 || someone_is_uncertain(cluster)) return;
    if (random_chance(&run->random, 400)) {
        cluster_disk_wipe(cluster, member->id);
        cluster_print(cluster, "%llu has its disk wiped", (ull)member->id);
    } else if (member->disk.last_index > member->disk.snapshot_index) {
        raft_index lost = random_between(&run->random, member->disk.snapshot_index + 1, member->disk.last_index);
        bool extent_known = random_chance(&run->random, 600);
        cluster_disk_damage(cluster, member->id, lost, extent_known);
        cluster_print(cluster, "%llu has its log damaged from %llu on", (ull)member->id, (ull)lost);
    }
}

static void crash(struct run *run)
{
    struct cluster_member *member = any_up(run);
    if (member == NULL) return;
    /* What was under way may have reached the disk or not. */
    if (random_chance(&run->random, 300)) cluster_complete_save(run->cluster, member->id, false);
    if (random_chance(&run->random, 300)) cluster_complete_write(run->cluster, member->id, false);
    cluster_crash(run->cluster, member->id, random_chance(&run->random, 600));
    if (random_chance(&run->random, 250)) spoil_disk(run, member);
}

static void start_one(struct run *run)
{
    member_id id = any_member(run);
    if (run->cluster->members[id].raft == NULL) cluster_start(run->cluster, id);
}

static void change_links(struct run *run)
{
    struct cluster *cluster = run->cluster;
    member_id a = any_member(run), b = any_member(run);
    if (a == b) return;
    switch (random_below(&run->random, 4)) {
    case 0:
        cluster_disconnect(cluster, a, b);
        break;
    case 1:
        cluster_connect(cluster, a, b);
        break;
    case 2:
        cluster->members[a].cuts[b] = true;
        break;
    default:
        cluster->members[a].cuts[b] = false;
        break;
    }
}

static void cause_fault(struct run *run)
{
    switch (random_below(&run->random, 8)) {
    case 0:
        crash(run);
        break;
    case 1:
    case 2:
        start_one(run);
        break;
    case 3:
        change_links(run);
        break;
    case 4: {
        struct raft_event event = {.type = RAFT_TRANSFER, .peer = random_below(&run->random, 4)};
        cluster_step(run->cluster, likely_leader(run), &event);
        break;
    }
    case 5:
        if (random_chance(&run->random, 100)) {
            struct raft_event event = {.type = RAFT_STEP_DOWN};
            member_id member = likely_leader(run);
            cluster_step(run->cluster, member, &event);
            run->stepped_down[member] = true;
        }
        cluster_abandon_install(run->cluster, any_member(run));
        break;
    default:
        disturb_message(run);
        break;
    }
}

static void compact(struct run *run)
{
    struct cluster_member *member = any_up(run);
    if (member == NULL || member->status.applied == 0) return;
    raft_index index = random_between(&run->random, 1, member->status.applied);
    cluster_compact(run->cluster, member->id, index, random_below(&run->random, 4));
}

/* Disk work of any member that has some. */
static void complete_something(struct run *run)
{
    struct cluster *cluster = run->cluster;
    member_id first = any_member(run);
    bool save_first = random_chance(&run->random, 500);
    bool log_is_gone = random_chance(&run->random, 50);
    for (uint32_t i = 0; i < cluster->options.count; i++) {
        member_id id = (first + i) % cluster->options.count + 1;
        if (save_first && cluster_complete_save(cluster, id, true)) return;
        if (cluster_complete_write(cluster, id, true) || cluster_complete_save(cluster, id, true)) return;
        if (cluster_complete_install(cluster, id) || cluster_answer_log_read(cluster, id, log_is_gone)) return;
    }
}

static void flush_something(struct run *run)
{
    member_id first = any_member(run);
    for (uint32_t i = 0; i < run->cluster->options.count; i++) {
        member_id id = (first + i) % run->cluster->options.count + 1;
        if (run->cluster->members[id].raft == NULL || !run->cluster->members[id].touched) continue;
        cluster_flush(run->cluster, id);
        return;
    }
}

static void operate(struct run *run)
{
    struct cluster *cluster = run->cluster;
    if (random_chance(&run->random, run->faults)) {
        cause_fault(run);
        return;
    }
    uint64_t choice = random_below(&run->random, 100);
    if (choice < 45) {
        /* Mostly in order, as connections are; but any message may overtake any other. */
        uint32_t first = random_chance(&run->random, 700) ? 1 : cluster->network_count;
        if (cluster->network_count > 0) cluster_deliver(cluster, (uint32_t)random_below(&run->random, first));
    } else if (choice < 65) {
        complete_something(run);
    } else if (choice < 76) {
        flush_something(run);
    } else if (choice < 82) {
        propose(run);
    } else if (choice < 85) {
        read_something(run);
    } else if (choice < 90) {
        cluster_apply(cluster, any_member(run), 0);
    } else if (choice < 92) {
        compact(run);
    } else {
        pass_time(run);
    }
}

/* Heals everything; false when the cluster doesn't recover. */
static bool recovers(struct run *run, const char **problem)
{
    struct cluster *cluster = run->cluster;
    uint32_t count = cluster->options.count;
    cluster_print(cluster, "---- healed ----");
    for (member_id a = 1; a <= count; a++) {
        for (member_id b = 1; b <= count; b++) cluster->members[a].cuts[b] = false;
    }
    for (member_id id = 1; id <= count; id++) {
        /* One that was told to step down leads again only in its next life. */
        if (run->stepped_down[id] && cluster->members[id].raft != NULL) cluster_crash(cluster, id, true);
        if (cluster->members[id].raft == NULL) cluster_start(cluster, id);
    }
    for (member_id a = 1; a <= count; a++) {
        for (member_id b = a + 1; b <= count; b++) {
            cluster_disconnect(cluster, a, b);
            cluster_connect(cluster, a, b);
        }
    }
    cluster_run(cluster, 10 * CLUSTER_ELECTION_TIMEOUT);
    member_id leader = cluster_leader(cluster);
    *problem = "no leader was elected";
    if (leader == 0) return false;
    raft_index before = cluster->members[leader].status.commit;
    *problem = "the leader refuses a proposal";
    if (cluster_propose(cluster, leader, "last") != ERR_OK) return false;
    cluster_run(cluster, 2 * CLUSTER_ELECTION_TIMEOUT);
    *problem = "the last proposal was not committed";
    if (cluster->members[leader].status.commit <= before) return false;
    *problem = "the members differ at the end";
    for (member_id id = 1; id <= count; id++) {
        const struct raft_status *status = &cluster->members[id].status;
        const struct raft_status *wanted = &cluster->members[leader].status;
        if (status->commit != wanted->commit || status->applied != wanted->commit || status->uncertain) return false;
        if (status->leader != leader || status->durable_index != wanted->last_index) return false;
    }
    *problem = "a read was never answered";
    return cluster->read_count == 0;
}

static bool run_seed(uint64_t seed, struct buffer *trace, struct totals *totals, char *problem, size_t problem_size)
{
    struct run run = {0};
    random_seed(&run.random, seed);
    static const uint32_t sizes[] = {1, 2, 3, 3, 3, 3, 4, 5, 5, 5};
    struct cluster_options options = {
        .count = sizes[random_below(&run.random, ARRAY_COUNT(sizes))],
        .seed = seed,
        .append_bytes_max = random_between(&run.random, 1, 300),
        .inflight_bytes_max = random_between(&run.random, 1, 600),
        .cache_bytes_max = random_between(&run.random, 1, 400),
        .unapplied_bytes_max = random_between(&run.random, 200, 4000),
    };
    run.cluster = cluster_new(&options);
    run.cluster->trace = trace;
    if (trace != NULL) run.cluster->trace_level = LOG_LEVEL_INFO;
    run.faults = (uint32_t)random_below(&run.random, 4) * 60;
    run.calm_elections = random_chance(&run.random, 600);
    for (member_id id = 1; id <= options.count; id++) cluster_start(run.cluster, id);
    if (random_chance(&run.random, 800)) cluster_run(run.cluster, 2 * CLUSTER_ELECTION_TIMEOUT);
    for (int i = 0; i < OPERATIONS && run.cluster->violation[0] == 0; i++) operate(&run);
    const char *text = run.cluster->violation;
    bool recovered = text[0] == 0 && recovers(&run, &text);
    bool good = recovered && run.cluster->violation[0] == 0;
    if (!good) snprintf(problem, problem_size, "%s", run.cluster->violation[0] != 0 ? run.cluster->violation : text);
    totals->committed += run.cluster->committed_last;
    totals->steps += run.cluster->steps;
    for (raft_term term = 0; term < CLUSTER_TERMS_MAX; term++) totals->elections += run.cluster->leaders[term] != 0;
    cluster_free(run.cluster);
    return good;
}

static void print_end_of_trace(const struct buffer *trace, bool all)
{
    size_t from = trace->size;
    for (int lines = 0; from > 0 && (all || lines <= TRACE_LINES_SHOWN); from--) {
        if (trace->data[from - 1] == '\n') lines++;
    }
    fwrite(trace->data + from, 1, trace->size - from, stderr);
}

static void fail_seed(uint64_t seed)
{
    struct totals totals = {0};
    struct buffer trace = {0};
    char problem[300] = "";
    run_seed(seed, &trace, &totals, problem, sizeof problem);
    print_end_of_trace(&trace, getenv("CORACLE_RAFT_SEED") != NULL);
    buffer_free(&trace);
    if (problem[0] != 0) fail_msg("CORACLE_RAFT_SEED=%llu: %s", (ull)seed, problem);
}

static void test_random_lives(void **state)
{
    (void)state;
    const char *one = getenv("CORACLE_RAFT_SEED");
    if (one != NULL) {
        fail_seed(strtoull(one, NULL, 10));
        return;
    }
    const char *runs_text = getenv("CORACLE_RAFT_RUNS");
    uint64_t runs = runs_text == NULL ? RUNS : strtoull(runs_text, NULL, 10);
    struct totals totals = {0};
    for (uint64_t seed = 1; seed <= runs; seed++) {
        char problem[300] = "";
        if (!run_seed(seed, NULL, &totals, problem, sizeof problem)) fail_seed(seed);
    }
    printf("%llu runs: %llu steps, %llu terms with a leader, %llu entries committed\n", (ull)runs, (ull)totals.steps,
           (ull)totals.elections, (ull)totals.committed);
    /* A test in which nothing happens proves nothing. */
    assert_true(totals.committed > runs * 10);
    assert_true(totals.elections > runs * 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_lives)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
