#include "sim/sim_run.h"

#include "base/check.h"
#include "base/mem.h"
#include "base/mutant.h"
#include "sim/sim_contents.h"

/* Simulated time within which a healed cluster must have a leader that serves, must have answered every read, and must
   agree. Far beyond what it takes; a cluster that needs longer is stuck. */
#define LEADER_WITHIN_S 60
#define QUIET_WITHIN_S 30
#define READ_WITHIN_S 300
#define WRITE_WITHIN_S 60
#define AGREE_WITHIN_S 60
#define RUINED_FOR_S 75 /* a member says every 30 s what it waits for */
/* How often the end of a part is looked for. */
#define LOOK_EVERY (20 * TIME_NS_PER_MS)

struct run {
    struct sim_world world;
    struct sim_net network;
    struct sim_cluster cluster;
    struct sim_workload workload;
    struct sim_nemesis nemesis;
};

#define PICK(random, ...)                                                                                              \
    ((uint64_t[]){__VA_ARGS__})[random_below((random), sizeof((uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))]

/* Bytes of log of an operation; and of file, where it comes alone and takes a block. */
#define OPERATION_LOG_BYTES 100u
#define OPERATION_FILE_BYTES 4096u
/* Of the log that is kept; else a run does little but recover it. */
#define OPERATIONS_KEPT_MAX 5000u

/* What a limit on the log must be for so many seconds of load; so every seed has some segments and snapshots, and none has
   little else. */
static uint64_t operations_of(uint32_t load, uint64_t seconds)
{
    uint64_t count = (20 + (uint64_t)load) * seconds;
    return count < OPERATIONS_KEPT_MAX ? count : OPERATIONS_KEPT_MAX;
}

static void draw_config(struct random *random, uint32_t load, struct drive_config *config)
{
    drive_config_defaults(config);
    config->election_timeout = (time_ns)PICK(random, 100, 200, 300, 500, 1000) * TIME_NS_PER_MS;
    config->heartbeat_interval = config->election_timeout / (time_ns)random_between(random, 4, 10);
    config->rpc_timeout = config->election_timeout * (time_ns)random_between(random, 1, 3);
    config->api_timeout = (time_ns)PICK(random, 500, 1000, 2000) * TIME_NS_PER_MS;
    config->api_forward_timeout = config->api_timeout * 3 / 4;
    config->segment_bytes = operations_of(load, PICK(random, 1, 2, 4, 8, 16)) * OPERATION_FILE_BYTES;
    config->snapshot_log_bytes_min =
        operations_of(load, PICK(random, 1, 2, 3, 5, 8, 13, 21, 1000)) * OPERATION_LOG_BYTES;
    config->snapshot_state_percent = (uint32_t)PICK(random, 0, 50, 200);
    config->cache_bytes_max = PICK(random, 1, 16, 256, 8192) * 1024;
    config->log_tail_bytes = operations_of(load, PICK(random, 0, 1, 2, 5, 10, 1000)) * OPERATION_LOG_BYTES;
    config->history_bytes_budget = operations_of(load, PICK(random, 1, 2, 5, 10, 20, 1000)) * OPERATION_LOG_BYTES;
    config->scrub_interval = (time_ns)PICK(random, 0, 1, 2, 5) * TIME_NS_PER_S;
    config->scrub_bytes_per_second = PICK(random, 1, 4, 64) * 1024 * 1024;
    /* An entry a message, or some: then what one message carried is durable while the next is on its way. */
    config->append_bytes_max = PICK(random, 1, 1, 500, 4096, 512 * 1024, 512 * 1024);
    config->inflight_bytes_max = PICK(random, 1, 4096, 64 * 1024, 4096 * 1024, 4096 * 1024, 4096 * 1024);
    /* Small ones take several turns, in which entries are applied. */
    config->snapshot_slice_bytes = PICK(random, 2, 16, 256) * 1024;
}

/* Few keys in a slice, since few are live at a time; and often, since runs are short. */
static void draw_content_scrub(struct random *random, struct content_scrub_limits *limits)
{
    limits->interval = (uint32_t)PICK(random, 3, 10, 30, 100);
    limits->keys_max = (uint32_t)PICK(random, 1, 2, 5, 64);
    limits->bytes_max = (uint32_t)PICK(random, 1, 1000, 64 * 1024);
}

/* Operations a second that one client surely gets done, also of a slow cluster. */
#define CLIENT_RATE 30u

static void draw_workload(struct random *random, uint32_t load, struct sim_workload_options *options)
{
    unsigned clients = (unsigned)random_between(random, 4, 16);
    if (clients < load / CLIENT_RATE)
        clients = load / CLIENT_RATE < SIM_CLIENTS_MAX ? load / CLIENT_RATE : SIM_CLIENTS_MAX;
    *options = (struct sim_workload_options){
        .client_count = clients,
        .rate = load,
        .put_weight = (unsigned)random_between(random, 4, 10),
        .get_weight = (unsigned)random_between(random, 0, 6),
        .delete_weight = (unsigned)random_between(random, 0, 2),
        .window_keys = (uint32_t)random_between(random, 2, 12),
        .operations_per_key = (uint32_t)random_between(random, 10, 50),
        .value_bytes_max = (uint32_t)PICK(random, 0, 16, 256, 2000),
        .large_per_mille = (unsigned)PICK(random, 0, 0, 2, 10),
        .value_bytes_large = (uint32_t)PICK(random, 10000, 100000, 600000),
        .timeout = (time_ns)random_between(random, 1, 6) * TIME_NS_PER_S,
    };
}

/* Runs until the condition holds, or time is up: then false. */
static bool run_until(struct run *run, time_ns limit, bool (*condition)(struct run *run))
{
    struct sim_world *world = &run->world;
    time_ns end = world->now + limit;
    while (world->now < end) {
        if (run->cluster.checker.violated || run->workload.violated || condition(run)) return true;
        time_ns until = world->now + LOOK_EVERY;
        while (sim_world_step(world, until) && !run->cluster.checker.violated && !run->workload.violated) {}
    }
    return condition(run);
}

static uint64_t writes_of(const struct run *run)
{
    return run->workload.puts_done + run->workload.deletes_done;
}

static bool is_quiet(struct run *run)
{
    return sim_workload_is_quiet(&run->workload);
}

static bool has_leader(struct run *run)
{
    return sim_cluster_leader(&run->cluster) < run->cluster.node_count;
}

static bool never(struct run *run)
{
    (void)run;
    return false;
}

static bool has_written_through(struct run *run)
{
    return sim_workload_has_written_through(&run->workload);
}

static bool has_read_all(struct run *run)
{
    return sim_workload_has_read_all(&run->workload);
}

/* All nodes that aren't meant to be down run, and have applied the same. */
static bool agrees(struct run *run)
{
    bool first = true;
    struct replica_status reference;
    for (unsigned i = 0; i < run->cluster.node_count; i++) {
        struct replica_status status;
        if (run->cluster.nodes[i].stay_down) continue;
        if (!sim_cluster_status(&run->cluster, i, &status) || status.raft.uncertain) return false;
        if (status.raft.applied != status.raft.last_index) return false;
        if (first) reference = status;
        first = false;
        if (status.raft.applied != reference.raft.applied) return false;
    }
    return true;
}

__attribute__((format(printf, 2, 3))) static void stuck(struct sim_run_report *report, const char *format, ...)
{
    report->outcome = SIM_RUN_STUCK;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(report->text, sizeof report->text, format, arguments);
    va_end(arguments);
}

/* A line for each node, for the report of a run that is stuck. */
static void describe(struct run *run, struct sim_run_report *report)
{
    size_t at = strlen(report->text);
    for (unsigned i = 0; i < run->cluster.node_count && at < sizeof report->text; i++) {
        struct replica_status status;
        if (!sim_cluster_status(&run->cluster, i, &status)) {
            at += (size_t)snprintf(report->text + at, sizeof report->text - at, "\n  node-%u: %s", i + 1,
                                   run->cluster.nodes[i].state == SIM_NODE_DOWN ? "down" : "has no replica");
            continue;
        }
        const struct raft_status *raft = &status.raft;
        at += (size_t)snprintf(report->text + at, sizeof report->text - at,
                               "\n  node-%u: %s term %llu first %llu applied %llu commit %llu durable %llu last "
                               "%llu/%llu hash %016llx%s%s%s",
                               i + 1, raft_role_name(raft->role), (unsigned long long)raft->term,
                               (unsigned long long)raft->first_index, (unsigned long long)raft->applied,
                               (unsigned long long)raft->commit, (unsigned long long)raft->durable_index,
                               (unsigned long long)raft->last_index, (unsigned long long)raft->last_term,
                               (unsigned long long)status.apply_hash, raft->uncertain ? " uncertain" : "",
                               raft->may_serve ? " serves" : "", status.disk_full ? " full" : "");
        for (uint32_t j = 0; raft->role == RAFT_LEADER && j < raft->peer_count && at < sizeof report->text; j++) {
            const struct raft_peer_status *peer = &raft->peers[j];
            unsigned number = 0;
            while (number < status.member_count && status.members[number].id != peer->id) number++;
            at += (size_t)snprintf(
                report->text + at, sizeof report->text - at, "\n    sees node-%u: match %llu next %llu%s%s%s",
                number + 1, (unsigned long long)peer->match, (unsigned long long)peer->next,
                peer->recently_active ? " active" : " silent", peer->needs_snapshot ? ", needs the snapshot" : "",
                peer->uncertain ? ", uncertain" : "");
        }
    }
}

static bool violated(struct run *run, struct sim_run_report *report)
{
    const char *text = run->cluster.checker.violated ? run->cluster.checker.text
                       : run->workload.violated      ? run->workload.text
                                                     : NULL;
    if (text == NULL) return false;
    report->outcome = SIM_RUN_WRONG;
    snprintf(report->text, sizeof report->text, "%s", text);
    describe(run, report);
    return true;
}

/* All stores, with one another and with the history, which they complete. */
static bool check_contents(struct run *run, struct sim_run_report *report)
{
    static const struct sim_contents_reader reader = {.key = sim_workload_read_key, .value = sim_workload_read_value};
    struct sim_contents_verdict verdict = {0};
    const struct store *first = NULL;
    for (unsigned i = 0; i < run->cluster.node_count; i++) {
        const struct sim_node *node = &run->cluster.nodes[i];
        if (node->state != SIM_NODE_UP || node->stay_down) continue;
        const struct store *store = replica_store(drive_replica(node->drive));
        if (first == NULL) {
            first = store;
            sim_contents_explain(store, &reader, &run->workload.history, &verdict);
        } else {
            sim_contents_compare(first, store, &verdict);
        }
    }
    report->contents_compared = verdict.keys + verdict.changes;
    if (!verdict.violated) return true;
    report->outcome = SIM_RUN_WRONG;
    snprintf(report->text, sizeof report->text, "%s", verdict.text);
    describe(run, report);
    return false;
}

/* What the seed draws and the options don't say; from a generator of its own, so that options shift nothing else. */
static void draw_options(const struct sim_world *world, struct sim_run_options *options)
{
    struct random random;
    sim_world_random(world, "options", 0, &random);
    unsigned node_count = (unsigned)PICK(&random, 1, 3, 3, 3, 3, 3, 5, 5, 5, 3);
    /* A few have no load at all, or a little. */
    uint32_t load = (uint32_t)random_between(&random, 0, SIM_LOAD_DRAWN_MAX);
    if (random_chance(&random, 100)) load /= 20;
    uint64_t tenths = random_between(&random, 0, 20);
    if (options->node_count == 0) options->node_count = node_count;
    if (options->load == SIM_LOAD_DRAWN) options->load = load;
    if (options->duration_is_mean) options->duration = options->duration / 10 * (time_ns)tenths;
}

static void describe_drawn(const struct sim_run_options *options, const struct drive_config *config, char *out,
                           size_t size)
{
    snprintf(
        out, size,
        "%u node%s, %u operations/s for %lld s, election timeout %lld ms, heartbeat %lld ms, segments of %llu KiB, "
        "snapshots from %llu KiB of log, cache of %llu KiB, tail of %llu KiB",
        options->node_count, options->node_count == 1 ? "" : "s", options->load,
        (long long)(options->duration / TIME_NS_PER_S), (long long)(config->election_timeout / TIME_NS_PER_MS),
        (long long)(config->heartbeat_interval / TIME_NS_PER_MS), (unsigned long long)config->segment_bytes / 1024,
        (unsigned long long)config->snapshot_log_bytes_min / 1024, (unsigned long long)config->cache_bytes_max / 1024,
        (unsigned long long)config->log_tail_bytes / 1024);
}

static void check_history(struct run *run, struct sim_run_report *report)
{
    struct sim_verdict verdict;
    sim_history_check(&run->workload.history, &verdict);
    report->keys_undecided = verdict.keys_undecided;
    if (verdict.violated) {
        report->outcome = SIM_RUN_WRONG;
        snprintf(report->text, sizeof report->text, "%s", verdict.text);
        describe(run, report);
    }
}

/* Every copy is damaged. What is served all the same must be right; and a member that doesn't take part must say why. */
static void run_ruined(struct run *run, struct sim_run_report *report)
{
    run_until(run, RUINED_FOR_S * TIME_NS_PER_S, never);
    sim_workload_quiet(&run->workload);
    run_until(run, QUIET_WITHIN_S * TIME_NS_PER_S, is_quiet);
    if (violated(run, report)) return;
    for (unsigned i = 0; i < run->cluster.node_count; i++) {
        struct replica_status status;
        bool takes_part = sim_cluster_status(&run->cluster, i, &status) && !status.raft.uncertain;
        if (takes_part || sim_keeper_complaint(&run->nemesis.keeper, i)[0] != 0) continue;
        stuck(report, "every copy was damaged; node-%u doesn't take part, and names no file and no entry", i + 1);
        describe(run, report);
        return;
    }
}

static void run_parts(struct run *run, const struct sim_run_options *options, struct sim_run_report *report,
                      struct random *random)
{
    struct sim_world *world = &run->world;
    for (unsigned i = 0; i < run->cluster.node_count; i++) sim_cluster_start(&run->cluster, i);
    /* Half of the seeds let the cluster come up first. */
    if (random_chance(random, 500)) run_until(run, 10 * TIME_NS_PER_S, has_leader);
    sim_nemesis_start(&run->nemesis);
    sim_workload_run(&run->workload);
    time_ns end = world->now + options->duration;
    while (world->now < end && !run->cluster.checker.violated && !run->workload.violated &&
           (options->writes_max == 0 || writes_of(run) < options->writes_max)) {
        sim_world_step(world, end);
    }
    if (violated(run, report)) return;

    CHECK(!MUTANT(ABORT));
    static uint64_t runs; /* what a run must not depend on */
    if (MUTANT(RUNS_DIFFER)) sim_world_fold(world, runs++);
    sim_world_note(world, SIM_NO_PROCESS, "faults end");
    sim_nemesis_end(&run->nemesis, random_chance(random, 250));
    if (run->nemesis.keeper.ruined) {
        run_ruined(run, report);
        if (report->outcome == SIM_RUN_CLEAN) check_history(run, report);
        return;
    }
    sim_workload_quiet(&run->workload);
    bool quiet = run_until(run, QUIET_WITHIN_S * TIME_NS_PER_S, is_quiet);
    if (violated(run, report)) return;
    if (!quiet) {
        stuck(report, "clients still wait for answers %d s after the faults ended", QUIET_WITHIN_S);
        describe(run, report);
        return;
    }
    bool led = run_until(run, LEADER_WITHIN_S * TIME_NS_PER_S, has_leader);
    if (violated(run, report)) return;
    if (!led) {
        stuck(report, "no leader %d s after the faults ended", LEADER_WITHIN_S);
        describe(run, report);
        return;
    }
    sim_workload_read_all(&run->workload);
    bool read = run_until(run, READ_WITHIN_S * TIME_NS_PER_S, has_read_all);
    if (violated(run, report)) return;
    if (!read) {
        stuck(report, "%u of %u keys could not be read within %d s after the faults ended", run->workload.read_left,
              run->workload.key_count, READ_WITHIN_S);
        describe(run, report);
        return;
    }
    sim_workload_quiet(&run->workload);
    uint32_t nodes = 0;
    for (unsigned i = 0; i < run->cluster.node_count; i++) {
        if (!run->cluster.nodes[i].stay_down) nodes |= 1u << i;
    }
    sim_workload_write_through(&run->workload, nodes);
    bool written = run_until(run, WRITE_WITHIN_S * TIME_NS_PER_S, has_written_through);
    if (violated(run, report)) return;
    if (!written) {
        stuck(report, "nodes that take no write %d s after the last read (one bit each): 0x%x", WRITE_WITHIN_S,
              run->workload.write_through & ~run->workload.written_through);
        describe(run, report);
        return;
    }
    bool agreed = run_until(run, AGREE_WITHIN_S * TIME_NS_PER_S, agrees);
    if (violated(run, report)) return;
    if (!agreed) {
        stuck(report, "the nodes have not applied the same %d s after the last write", AGREE_WITHIN_S);
        describe(run, report);
        return;
    }
    sim_workload_quiet(&run->workload);
    if (!check_contents(run, report)) return;
    check_history(run, report);
}

static void add_disk(struct sim_disk_counters *sum, const struct sim_disk_counters *one)
{
    sum->operations += one->operations;
    sum->writes += one->writes;
    sum->syncs += one->syncs;
    sum->power_losses += one->power_losses;
    sum->sectors_lost += one->sectors_lost;
    sum->sectors_kept += one->sectors_kept;
    sum->sectors_older += one->sectors_older;
    sum->sectors_cut += one->sectors_cut;
    sum->directory_changes_lost += one->directory_changes_lost;
    sum->sizes_lost += one->sizes_lost;
    sum->failures += one->failures;
}

void sim_run_report_add(struct sim_run_report *sum, const struct sim_run_report *one)
{
    sum->events += one->events;
    sum->simulated += one->simulated;
    sum->writes += one->writes;
    sum->reads += one->reads;
    sum->unknown += one->unknown;
    sum->nothing_done += one->nothing_done;
    sum->keys += one->keys;
    sum->keys_undecided += one->keys_undecided;
    sum->contents_compared += one->contents_compared;
    sum->elections += one->elections;
    sum->checks += one->checks;
    sum->crashes += one->crashes;
    sum->power_losses += one->power_losses;
    sum->stops += one->stops;
    sum->failed_starts += one->failed_starts;
    for (unsigned i = 0; i < SIM_FAULT_COUNT; i++) sum->faults[i] += one->faults[i];
    add_disk(&sum->disks, &one->disks);
}

void sim_run(const struct sim_run_options *given, struct sim_marks *logged, struct sim_run_report *report)
{
    *report = (struct sim_run_report){.outcome = SIM_RUN_CLEAN};
    struct run *run = mem_alloc_zero(sizeof *run);
    struct random random;
    struct drive_config config;
    struct sim_workload_options load;
    struct client_endpoint endpoints[SIM_NODES_MAX];
    struct sim_run_options options = *given;
    sim_world_init(&run->world, options.seed);
    run->world.trace = options.trace;
    draw_options(&run->world, &options);
    sim_world_random(&run->world, "run", 0, &random);
    draw_config(&random, options.load, &config);
    struct random own; /* so that what else is drawn didn't change when this came */
    sim_world_random(&run->world, "content scrub", 0, &own);
    draw_content_scrub(&own, &config.content_scrub);
    if (options.defaults) drive_config_defaults(&config);
    draw_workload(&random, options.load, &load);
    describe_drawn(&options, &config, report->drawn, sizeof report->drawn);
    report->node_count = options.node_count;
    sim_net_init(&run->network, &run->world);
    run->network.peer_port = SIM_RPC_PORT;
    sim_cluster_init(&run->cluster, &run->world, &run->network, &config, options.node_count, logged);
    for (unsigned i = 0; i < options.node_count; i++) {
        snprintf(endpoints[i].host, sizeof endpoints[i].host, "node-%u", i + 1);
        endpoints[i].port = SIM_API_PORT;
    }
    sim_workload_init(&run->workload, &run->world, &run->network, &load, endpoints, options.node_count);
    sim_nemesis_init(&run->nemesis, &run->cluster, &run->network, &run->workload, options.faults);
    /* Who asks for so many writes asks for a cluster that can take them: not damaged on all members. */
    if (options.writes_max != 0) run->nemesis.keeper.rule = SIM_KEEPER_MINORITY;

    run_parts(run, &options, report, &random);

    report->trace_hash = run->world.trace_hash;
    report->events = run->world.event_count;
    report->simulated = run->world.now;
    report->writes = writes_of(run);
    report->reads = run->workload.gets_done;
    report->unknown = run->workload.unknown;
    report->nothing_done = run->workload.nothing_done;
    report->keys = run->workload.key_count;
    report->elections = run->cluster.checker.elections;
    report->checks = run->cluster.checker.checks;
    report->crashes = run->cluster.crashes;
    report->power_losses = run->cluster.power_losses;
    report->stops = run->cluster.stops;
    report->failed_starts = run->cluster.failed_starts;
    memcpy(report->faults, run->nemesis.counts, sizeof report->faults);
    for (unsigned i = 0; i < options.node_count; i++) add_disk(&report->disks, &run->cluster.nodes[i].disk.counters);

    sim_cluster_free(&run->cluster);
    sim_workload_free(&run->workload);
    sim_net_free(&run->network);
    sim_world_free(&run->world);
    mem_free(run);
}
