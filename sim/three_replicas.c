/*
 * three_replicas - three replicas through elections, writes, crashes of each and of all, partitions and torn writes,
 * seed after seed. Each seed runs twice, and both runs must have the same trace hash.
 *
 * Exit codes: 0 clean, 2 usage, 3 a check was violated, 4 the healed cluster was stuck, 5 the program crashed.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mark.h"
#include "base/mutant.h"
#include "sim/sim_run.h"

#define EXIT_USAGE 2
#define EXIT_WRONG 3
#define EXIT_STUCK 4
#define EXIT_CRASHED 5

/* What runs without options, as ./dev test does: a few minutes of one core. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SEEDS_DEFAULT 20
#define WRITES_DEFAULT 2000
#else
#define SEEDS_DEFAULT 200
#define WRITES_DEFAULT 10000
#endif
#define SECONDS_DEFAULT 60
#define SEEDS_QUICK 20
#define SECONDS_QUICK 5

struct options {
    uint64_t seeds, first, writes, seconds, nodes;
    bool trace, once, quiet, marks;
    enum mutant mutant;
};

static const char usage[] =
    "usage: three_replicas [options]\n"
    "  --seeds N     how many seeds (200; 20 with sanitizers)\n"
    "  --first S     the first one (1)\n"
    "  --seconds T   simulated seconds with faults, at most (60)\n"
    "  --writes W    end the faults when so many writes were acknowledged; 0: no limit (10000; 2000 with sanitizers)\n"
    "  --nodes N     members of the cluster, 1 to 7 (3)\n"
    "  --quick       20 seeds of 5 seconds; the environment's CORACLE_TEST_QUICK does the same\n"
    "  --once        run each seed once, without comparing trace hashes\n"
    "  --trace       print everything that happens (use it with --seeds 1)\n"
    "  --mutant NAME a bug to put in, of those in src/base/mutant.h (only in build/sim)\n"
    "  --marks       print how often each of the marks in src/base/mark.h was reached\n"
    "  --quiet       print no progress\n";

/* For the handler of a crash; formatted before the seed begins. */
static char crash_text[256];

static void crashed(int number)
{
    /* Only what a signal handler may do. */
    if (write(STDERR_FILENO, crash_text, strlen(crash_text)) < 0) _exit(EXIT_CRASHED);
    (void)number;
    _exit(EXIT_CRASHED);
}

static void print_replay(char *out, size_t size, const struct options *options, uint64_t seed)
{
    snprintf(out, size,
             "three_replicas --seeds 1 --first %" PRIu64 " --seconds %" PRIu64 " --writes %" PRIu64 " --nodes %" PRIu64,
             seed, options->seconds, options->writes, options->nodes);
}

static bool parse_number(const char *text, uint64_t *out)
{
    char *end;
    if (text == NULL || text[0] < '0' || text[0] > '9') return false;
    *out = strtoull(text, &end, 10);
    return *end == 0;
}

static void be_quick(struct options *options)
{
    options->seeds = SEEDS_QUICK;
    options->seconds = SECONDS_QUICK;
}

static bool parse(int count, char **arguments, struct options *options)
{
    *options = (struct options){
        .seeds = SEEDS_DEFAULT, .first = 1, .writes = WRITES_DEFAULT, .seconds = SECONDS_DEFAULT, .nodes = 3};
    if (getenv("CORACLE_TEST_QUICK") != NULL) be_quick(options);
    for (int i = 1; i < count; i++) {
        const char *name = arguments[i];
        uint64_t *number = NULL;
        if (strcmp(name, "--quick") == 0) {
            be_quick(options);
        } else if (strcmp(name, "--trace") == 0) {
            options->trace = true;
        } else if (strcmp(name, "--once") == 0) {
            options->once = true;
        } else if (strcmp(name, "--quiet") == 0) {
            options->quiet = true;
        } else if (strcmp(name, "--marks") == 0) {
            options->marks = true;
        } else if (strcmp(name, "--mutant") == 0) {
            options->mutant = i + 1 < count ? mutant_find(arguments[++i]) : MUTANT_NONE;
            if (options->mutant == MUTANT_NONE) {
                fprintf(stderr, "--mutant needs the name of one that is built in\n");
                return false;
            }
        } else if (strcmp(name, "--seeds") == 0) {
            number = &options->seeds;
        } else if (strcmp(name, "--first") == 0) {
            number = &options->first;
        } else if (strcmp(name, "--writes") == 0) {
            number = &options->writes;
        } else if (strcmp(name, "--seconds") == 0) {
            number = &options->seconds;
        } else if (strcmp(name, "--nodes") == 0) {
            number = &options->nodes;
        } else {
            fprintf(stderr, "%s: unknown option\n", name);
            return false;
        }
        if (number == NULL) continue;
        if (i + 1 == count || !parse_number(arguments[++i], number)) {
            fprintf(stderr, "%s needs a number\n", name);
            return false;
        }
    }
    if (options->nodes < 1 || options->nodes > MEMBERS_MAX) {
        fprintf(stderr, "--nodes must be from 1 to %d\n", MEMBERS_MAX);
        return false;
    }
    return true;
}

/* Adds one seed's figures to the sum of all. */
static void add(struct sim_run_report *sum, const struct sim_run_report *one)
{
    sum->events += one->events;
    sum->simulated += one->simulated;
    sum->writes += one->writes;
    sum->reads += one->reads;
    sum->unknown += one->unknown;
    sum->nothing_done += one->nothing_done;
    sum->keys += one->keys;
    sum->keys_undecided += one->keys_undecided;
    sum->elections += one->elections;
    sum->checks += one->checks;
    sum->crashes += one->crashes;
    sum->power_losses += one->power_losses;
    sum->stops += one->stops;
    sum->failed_starts += one->failed_starts;
    for (unsigned i = 0; i < SIM_FAULT_COUNT; i++) sum->faults[i] += one->faults[i];
    sum->disks.operations += one->disks.operations;
    sum->disks.syncs += one->disks.syncs;
    sum->disks.sectors_lost += one->disks.sectors_lost;
    sum->disks.sectors_kept += one->disks.sectors_kept;
    sum->disks.sectors_older += one->disks.sectors_older;
    sum->disks.sectors_cut += one->disks.sectors_cut;
    sum->disks.directory_changes_lost += one->disks.directory_changes_lost;
    sum->disks.sizes_lost += one->disks.sizes_lost;
    sum->disks.failures += one->disks.failures;
}

static int compare_marks(const void *a, const void *b)
{
    return strcmp(((const struct sim_mark *)a)->event, ((const struct sim_mark *)b)->event);
}

static void print_sum(const struct sim_run_report *sum, struct sim_marks *marks, uint64_t seeds, double seconds)
{
    printf("%" PRIu64 " seeds, %.0f simulated seconds in %.1f s (%.0f times as fast), %" PRIu64 " events, %" PRIu64
           " checks\n",
           seeds, (double)sum->simulated / 1e9, seconds, (double)sum->simulated / 1e9 / seconds, sum->events,
           sum->checks);
    printf("clients: %" PRIu64 " acknowledged writes of %" PRIu64 " keys, %" PRIu64 " reads, %" PRIu64
           " outcomes unknown, %" PRIu64 " refused; %" PRIu64 " keys too hard to decide\n",
           sum->writes, sum->keys, sum->reads, sum->unknown, sum->nothing_done, sum->keys_undecided);
    printf("nodes: %" PRIu64 " leaders elected, %" PRIu64 " kills, %" PRIu64 " losses of power, %" PRIu64
           " stops, %" PRIu64 " starts that failed\n",
           sum->elections, sum->crashes, sum->power_losses, sum->stops, sum->failed_starts);
    printf("disks: %" PRIu64 " operations, %" PRIu64 " syncs, %" PRIu64 " failures; unsynced sectors: %" PRIu64
           " kept, %" PRIu64 " lost, %" PRIu64 " older, %" PRIu64 " cut; %" PRIu64 " directory changes and %" PRIu64
           " sizes lost\n",
           sum->disks.operations, sum->disks.syncs, sum->disks.failures, sum->disks.sectors_kept,
           sum->disks.sectors_lost, sum->disks.sectors_older, sum->disks.sectors_cut, sum->disks.directory_changes_lost,
           sum->disks.sizes_lost);
    printf("faults:\n");
    for (unsigned i = 0; i < SIM_FAULT_COUNT; i++) {
        printf("  %8" PRIu64 "  %s\n", sum->faults[i], sim_fault_text((enum sim_fault)i));
    }
    printf("what nodes logged:\n");
    qsort(marks->marks, marks->count, sizeof *marks->marks, compare_marks);
    for (unsigned i = 0; i < marks->count; i++) {
        printf("  %8" PRIu64 "  %s\n", marks->marks[i].count, marks->marks[i].event);
    }
}

static double now_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int count, char **arguments)
{
    static struct sim_marks marks, ignored;
    static struct sim_run_report sum, report, again;
    struct options options;
    if (count == 2 && strcmp(arguments[1], "--help") == 0) {
        fputs(usage, stdout);
        return 0;
    }
    if (!parse(count, arguments, &options)) {
        fputs(usage, stderr);
        return EXIT_USAGE;
    }
    signal(SIGABRT, crashed);
    signal(SIGSEGV, crashed);
    mutant_switch_on(options.mutant);
    double start = now_seconds(), shown = start;
    for (uint64_t i = 0; i < options.seeds; i++) {
        uint64_t seed = options.first + i;
        char replay[160];
        print_replay(replay, sizeof replay, &options, seed);
        snprintf(crash_text, sizeof crash_text, "seed %" PRIu64 ": the program crashed\nreplay: %s\n", seed, replay);
        struct sim_run_options run = {.seed = seed,
                                      .node_count = (unsigned)options.nodes,
                                      .duration = (time_ns)options.seconds * TIME_NS_PER_S,
                                      .writes_max = options.writes,
                                      .faults = SIM_FAULTS_ALL,
                                      .trace = options.trace ? stdout : NULL};
        sim_run(&run, &marks, &report);
        add(&sum, &report);
        if (report.outcome == SIM_RUN_CLEAN && !options.once) {
            run.trace = NULL;
            sim_run(&run, &ignored, &again);
            if (again.trace_hash != report.trace_hash || again.events != report.events) {
                report.outcome = SIM_RUN_WRONG;
                snprintf(report.text, sizeof report.text,
                         "two runs differ: trace hash %016" PRIx64 " after %" PRIu64 " events, then %016" PRIx64
                         " after %" PRIu64,
                         report.trace_hash, report.events, again.trace_hash, again.events);
            }
        }
        if (report.outcome != SIM_RUN_CLEAN) {
            printf("seed %" PRIu64 ": %s: %s\nreplay: %s\n", seed,
                   report.outcome == SIM_RUN_WRONG ? "violated" : "stuck", report.text, replay);
            return report.outcome == SIM_RUN_WRONG ? EXIT_WRONG : EXIT_STUCK;
        }
        if (options.trace) {
            printf("seed %" PRIu64 ": clean, trace hash %016" PRIx64 "\n", seed, report.trace_hash);
        }
        double now = now_seconds();
        if (!options.quiet && now - shown >= 5) {
            shown = now;
            printf("%" PRIu64 " of %" PRIu64 " seeds, %" PRIu64 " writes, %" PRIu64 " leaders\n", i + 1, options.seeds,
                   sum.writes, sum.elections);
            fflush(stdout);
        }
    }
    print_sum(&sum, &marks, options.seeds, now_seconds() - start);
    for (unsigned i = 0; options.marks && mark_is_built() && i < MARK_COUNT; i++) {
        printf("  %8" PRIu64 "  %s: %s\n", mark_count((enum mark)i), mark_name((enum mark)i), mark_text((enum mark)i));
    }
    return 0;
}
