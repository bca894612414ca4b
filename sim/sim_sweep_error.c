/*
 * sim_sweep_error.c - each disk operation of a whole life fails once; and the power fails, or the process is killed, at each.
 *
 * The life of a cluster of three: it is founded, takes writes, makes snapshots, stops a node in order, cuts the power of a node, and
 * gives a node that was away for long a snapshot to install. One node's k-th operation fails. Whatever comes of it, the life
 * goes on: a step that can't be taken is left out.
 *
 * A write or sync that failed ends the process, which names the file; so does what else it can't go on without. Then the
 * node starts again, and must be as good as the others in the end.
 */
#include "base/check.h"
#include "base/mem.h"
#include "sim/sim_sweep.h"

enum { NODES = 3 };

enum way { FAIL_CHANGE, FAIL_LOOK, CRASH_ONE, CRASH_ALL, KILL_ONE, WAY_COUNT };

struct errors {
    struct drive_config config;
    enum way way;
    uint64_t counts[NODES]; /* operations of each node's life */
    uint64_t count;
};

/* What is known of the operation that failed. */
struct failure {
    struct sim_script *script;
    unsigned count;
    bool looks;
    char operation[32];
    char path[256];
};

static void failing(void *user, unsigned node, const char *operation, const char *path, bool looks)
{
    struct failure *failure = user;
    failure->count++;
    failure->looks = looks;
    snprintf(failure->operation, sizeof failure->operation, "%s", operation);
    snprintf(failure->path, sizeof failure->path, "%s", path);
    /* What can't be read is as good as damaged. */
    if (looks) sim_checker_damaged(&failure->script->cluster.checker, node, 1, true);
}

static const struct sim_disk_hooks disk_hooks = {.failing = failing};

/* ---- the life ---- */

static void put_some(struct sim_script *script, uint32_t first, uint32_t count, size_t value_bytes)
{
    for (uint32_t key = first; key < first + count; key++) sim_script_put(script, key, value_bytes);
}

static void live(struct sim_script *script, unsigned target)
{
    struct sim_cluster *cluster = &script->cluster;
    unsigned other = (target + 1) % NODES;
    sim_script_start_all(script);
    sim_script_settle(script, true, 5 * TIME_NS_PER_S);
    put_some(script, 0, 6, 100);
    sim_script_delete(script, 2);
    sim_script_snapshot(script, target);
    sim_script_ask(script, other, false);
    put_some(script, 4, 4, 3000);
    sim_cluster_stop(cluster, target, 300 * TIME_NS_PER_MS);
    sim_script_run(script, TIME_NS_PER_S);
    put_some(script, 0, 2, 100);
    sim_cluster_crash(cluster, target, true, 200 * TIME_NS_PER_MS);
    sim_script_run(script, TIME_NS_PER_S);
    put_some(script, 3, 2, 100);
    /* Away for so long that the others' logs don't reach back. */
    sim_cluster_crash(cluster, target, false, 2 * TIME_NS_PER_S);
    sim_script_ask(script, other, false);
    put_some(script, 6, 4, 9000);
    for (unsigned i = 0; i < NODES; i++) {
        if (i != target) sim_script_snapshot(script, i);
    }
    sim_script_ask(script, other, false);
    put_some(script, 8, 2, 100);
    sim_script_run(script, TIME_NS_PER_S);
    sim_script_settle(script, true, 5 * TIME_NS_PER_S);
    put_some(script, 1, 3, 2000);
    sim_script_snapshot(script, target);
    sim_script_ask(script, other, false);
    put_some(script, 5, 2, 100);
}

static void begin_life(const struct errors *errors, struct sim_script *script, unsigned target)
{
    sim_script_begin(script, target + 1, &errors->config, NODES);
}

static uint64_t begin(enum way way, void **out, char *text, size_t text_bytes)
{
    struct errors *errors = mem_alloc_zero(sizeof *errors);
    *out = errors;
    errors->way = way;
    sim_script_config(&errors->config);
    for (unsigned target = 0; target < NODES; target++) {
        struct sim_script script;
        begin_life(errors, &script, target);
        live(&script, target);
        const struct sim_disk_counters *counters = &script.cluster.nodes[target].disk.counters;
        errors->counts[target] = way == FAIL_LOOK ? counters->looks : counters->operations;
        errors->count += errors->counts[target];
        struct sim_sweep_case one = {0};
        sim_sweep_recovers(&script, &one);
        bool installed = false;
        for (uint32_t i = 0; i < script.cluster.node_count; i++) {
            struct replica_status status;
            installed |= sim_cluster_status(&script.cluster, i, &status) && status.raft.first_index > 10;
        }
        if (!installed) sim_script_wrong(&script, "no log was cut by a snapshot");
        snprintf(text, text_bytes, "%s", script.text);
        sim_script_end(&script);
        if (text[0] != 0) return 0;
    }
    return errors->count;
}

static uint64_t begin_change(bool full, void **out, char *text, size_t text_bytes)
{
    (void)full;
    return begin(FAIL_CHANGE, out, text, text_bytes);
}

static uint64_t begin_look(bool full, void **out, char *text, size_t text_bytes)
{
    (void)full;
    return begin(FAIL_LOOK, out, text, text_bytes);
}

static uint64_t begin_crash_one(bool full, void **out, char *text, size_t text_bytes)
{
    (void)full;
    return begin(CRASH_ONE, out, text, text_bytes);
}

static uint64_t begin_crash_all(bool full, void **out, char *text, size_t text_bytes)
{
    (void)full;
    return begin(CRASH_ALL, out, text, text_bytes);
}

static uint64_t begin_kill(bool full, void **out, char *text, size_t text_bytes)
{
    (void)full;
    return begin(KILL_ONE, out, text, text_bytes);
}

static void end(void *state)
{
    mem_free(state);
}

/* ---- cases ---- */

static bool is_write_or_sync(const char *operation)
{
    return strcmp(operation, "write") == 0 || strcmp(operation, "fdatasync") == 0 || strcmp(operation, "fsync") == 0;
}

static void check_end(struct sim_script *script, unsigned target, const struct failure *failure)
{
    if (failure->count == 0) return;
    const char *said = script->end_text[target];
    if (script->ended[target] > 1) {
        sim_script_wrong(script, "node-%u ended %u times after one failure, the last time with: %s", target + 1,
                         script->ended[target], said);
    }
    if (script->ended[target] == 0) {
        if (is_write_or_sync(failure->operation)) sim_script_wrong(script, "node-%u went on", target + 1);
        return;
    }
    if (strstr(said, failure->path) == NULL) {
        sim_script_wrong(script, "node-%u ended without the name of the file: %s", target + 1, said);
    }
}

static void run(void *state, struct sim_sweep_case *one)
{
    static const char *const texts[WAY_COUNT] = {"fails", "fails", "is the last before the power fails",
                                                 "is the last before the power of all nodes fails",
                                                 "is the last before the process is killed; later the power fails"};
    const struct errors *errors = state;
    uint64_t number = one->number;
    unsigned target = 0;
    while (number >= errors->counts[target]) number -= errors->counts[target++];
    struct sim_script script;
    begin_life(errors, &script, target);
    script.world.trace = one->trace;
    struct sim_node *node = &script.cluster.nodes[target];
    struct failure failure = {.script = &script};
    node->disk.hooks = &disk_hooks;
    node->disk.hooks_user = &failure;
    node->disk.fail_with = ERR_IO;
    node->may_fail = true;
    node->end_cuts_power = number % 2 == 1;
    switch (errors->way) {
    case FAIL_CHANGE:
        sim_script_fail_at(&script, target, number + 1, false);
        break;
    case FAIL_LOOK:
        sim_script_fail_at(&script, target, number + 1, true);
        break;
    case KILL_ONE:
        /* Soon after it is up again: what it relies on then must be durable, though nothing was lost yet. */
        node->crash_is_kill = true;
        script.cut_after_kill = (time_ns)(number % 7) * 50 * TIME_NS_PER_MS + TIME_NS_PER_MS;
        sim_script_crash_at(&script, target, number + 1, false);
        break;
    default:
        sim_script_crash_at(&script, target, number + 1, errors->way == CRASH_ALL);
        break;
    }
    live(&script, target);
    if (errors->way == KILL_ONE) sim_script_run(&script, 3 * TIME_NS_PER_S); /* the power may be still to fail */
    node->disk.hooks = NULL;
    snprintf(one->what, sizeof one->what, "operation %llu of node-%u%s%s%s%s %s", (unsigned long long)number + 1,
             target + 1, failure.count > 0 ? ", " : "", failure.operation, failure.count > 0 ? " of " : "",
             failure.path, texts[errors->way]);
    sim_sweep_recovers(&script, one);
    if (errors->way == FAIL_CHANGE || errors->way == FAIL_LOOK) check_end(&script, target, &failure);
    one->halted = script.ended[target] > 0;
    sim_sweep_done(&script, one);
}

#define SWEEP(variable, label, text, first, step)                                                                      \
    const struct sim_sweep variable = {                                                                                \
        .name = label, .what = text, .begin = first, .run = run, .end = end, .stride = step}

SWEEP(sim_sweep_error_change, "error-change", "each write, sync, rename, … of a life fails once", begin_change, 3);
SWEEP(sim_sweep_error_look, "error-look", "each read, open, … of a life fails once", begin_look, 3);
SWEEP(sim_sweep_kill, "kill-one", "a process is killed at each operation of its life, and loses power after its start",
      begin_kill, 3);
SWEEP(sim_sweep_crash_one, "crash-one", "the power of a node fails at each operation of a life", begin_crash_one, 3);
SWEEP(sim_sweep_crash_all, "crash-all", "the power of all fails at each operation of a node's life", begin_crash_all,
      3);
