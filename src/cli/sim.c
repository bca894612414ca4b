/*
 * sim.c - `coracle sim`: runs seeds, tells how far it is, and what failed and why.
 */
#include "cli/cli.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/sim_options.h"
#include "cli/sim_seeds.h"
#include "cli/sim_state.h"

enum sim_exit { SIM_EXIT_WRONG = 3, SIM_EXIT_STUCK = 4, SIM_EXIT_CRASHED = 5 };

/* Seeds between two savings of the state. */
#define CHUNK_SEEDS 500u
#define SHOW_TERMINAL_S 0.25
#define SHOW_LINES_S 10.0

struct simulation {
    const struct sim_options *options;
    struct sim_seeds rows; /* of the seed file; else empty */
    uint64_t count;        /* jobs in all */
    uint64_t next, end;    /* of those to be begun; end moves down when one failed */
    struct sim_totals totals;
    struct sim_failure *failures;
    size_t failure_count, failure_capacity;
    double began, before, shown; /* real time; `before`: of an earlier process */
    double cpu_before;
    bool terminal;
    unsigned lines_shown;
};

static volatile sig_atomic_t interrupted;

static void interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

static double now_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Of workers that have ended. */
static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_CHILDREN, &usage);
    return (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* ---- which seeds ---- */

static bool read_file(const char *path, struct buffer *out, struct buffer *problems)
{
    FILE *file = fopen(path, "r");
    char part[4096];
    size_t size = 0;
    if (file == NULL) {
        buffer_append_format(problems, "--seed-file: %s: %s\n", path, strerror(errno));
        return false;
    }
    while ((size = fread(part, 1, sizeof part, file)) > 0) buffer_append(out, part, size);
    bool good = ferror(file) == 0;
    if (!good) buffer_append_format(problems, "--seed-file: %s can't be read\n", path);
    fclose(file);
    return good;
}

/* Rows for another mutant than the one that is switched on, or for one while none is, are no jobs. */
static void keep_rows(struct sim_seeds *rows, enum mutant mutant)
{
    const char *name = mutant == MUTANT_NONE ? "" : mutant_name(mutant);
    size_t kept = 0;
    for (size_t i = 0; i < rows->count; i++) {
        if (strcmp(rows->seeds[i].mutant, name) == 0) rows->seeds[kept++] = rows->seeds[i];
    }
    rows->count = kept;
}

static bool read_seed_file(struct simulation *simulation, struct buffer *problems)
{
    struct buffer text = {0};
    const char *path = simulation->options->seed_file;
    bool good =
        read_file(path, &text, problems) && sim_seeds_read(buffer_bytes(&text), path, &simulation->rows, problems);
    buffer_free(&text);
    if (good) keep_rows(&simulation->rows, simulation->options->mutant);
    return good;
}

static struct sim_job job_of(const struct simulation *simulation, uint64_t number)
{
    const struct sim_options *options = simulation->options;
    struct sim_job job = {.run = options->run, .number = number};
    if (options->seed_file != NULL) {
        job.run = simulation->rows.seeds[number].run;
    } else {
        job.run.seed = options->first + number;
    }
    job.twice = options->twice_every > 0 && (options->twice_every == 1 || number % options->twice_every == 0);
    return job;
}

/* ---- what workers are given and say ---- */

static bool next_job(void *user, struct sim_job *out)
{
    struct simulation *simulation = user;
    if (simulation->next >= simulation->end) return false;
    *out = job_of(simulation, simulation->next++);
    return true;
}

static void job_done(void *user, const struct sim_job *job, const struct sim_result *result)
{
    struct simulation *simulation = user;
    sim_totals_add(&simulation->totals, result);
    if (result->report.outcome == SIM_RUN_CLEAN) return;
    if (simulation->failure_count == simulation->failure_capacity) {
        simulation->failure_capacity = simulation->failure_capacity == 0 ? 4 : simulation->failure_capacity * 2;
        simulation->failures =
            mem_realloc(simulation->failures, simulation->failure_capacity * sizeof *simulation->failures);
    }
    simulation->failures[simulation->failure_count++] = (struct sim_failure){.job = *job, .report = result->report};
    /* Those before it that are under way still end, so that the first of all that fail is told, however many run at once. */
    if (!simulation->options->keep_going) simulation->end = 0;
}

/* The next line of `lines`, cut to the width: a line that wraps would be two. */
static void append_cut(struct bytes *lines, size_t width, struct buffer *out)
{
    const uint8_t *end = memchr(lines->data, '\n', lines->size);
    size_t size = end == NULL ? lines->size : (size_t)(end - lines->data);
    buffer_append(out, lines->data, size < width ? size : width);
    buffer_append_byte(out, '\n');
    size += end != NULL;
    *lines = bytes_of(lines->data + size, lines->size - size);
}

static void show(struct simulation *simulation, double now)
{
    struct buffer progress = {0}, text = {0};
    struct winsize window = {0};
    if (simulation->lines_shown > 0) buffer_append_format(&text, "\033[%uA\033[J", simulation->lines_shown);
    unsigned lines = sim_report_progress(&simulation->totals, simulation->count, (unsigned)simulation->options->jobs,
                                         simulation->failure_count, &progress);
    size_t width = SIZE_MAX;
    if (simulation->terminal && ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 1) {
        width = window.ws_col - 1u;
    }
    struct bytes left = buffer_bytes(&progress);
    while (left.size > 0) append_cut(&left, width, &text);
    if (simulation->terminal) simulation->lines_shown = lines;
    simulation->shown = now;
    cli_print_error(buffer_bytes(&text));
    buffer_free(&progress);
    buffer_free(&text);
}

static bool tick(void *user)
{
    struct simulation *simulation = user;
    double now = now_seconds();
    simulation->totals.seconds = simulation->before + now - simulation->began;
    if (!simulation->options->quiet) {
        if (now - simulation->shown >= (simulation->terminal ? SHOW_TERMINAL_S : SHOW_LINES_S)) show(simulation, now);
    }
    return !interrupted;
}

static const struct sim_jobs_handler handler = {.next = next_job, .done = job_done, .tick = tick};

/* ---- failures ---- */

static int by_number(const void *a, const void *b)
{
    uint64_t one = ((const struct sim_failure *)a)->job.number, other = ((const struct sim_failure *)b)->job.number;
    return one < other ? -1 : one > other;
}

/* Runs it again for the lines that led to it. */
static void explain(const struct sim_options *options, struct sim_failure *failure)
{
    struct sim_result *again = mem_alloc_zero(sizeof *again);
    struct buffer lines = {0};
    bool cut;
    struct sim_job job = failure->job;
    /* When only the second of two runs differs, there is no one trace to show. */
    job.twice = false;
    sim_jobs_trace(&job, (unsigned)options->seed_timeout_s, NULL, 0, &lines, again, &cut);
    sim_trace_narrow(buffer_bytes(&lines), failure->report.text, &failure->trace);
    /* A process that died said nothing more. */
    if (failure->report.drawn[0] == '\0') {
        memcpy(failure->report.drawn, again->report.drawn, sizeof failure->report.drawn);
    }
    buffer_free(&lines);
    mem_free(again);
}

static void print(struct buffer *text)
{
    cli_print(buffer_bytes(text));
    buffer_free(text);
}

static int exit_code_of(enum sim_run_outcome outcome)
{
    switch (outcome) {
    case SIM_RUN_CLEAN:
        return CLI_OK;
    case SIM_RUN_WRONG:
        return SIM_EXIT_WRONG;
    case SIM_RUN_STUCK:
        return SIM_EXIT_STUCK;
    case SIM_RUN_CRASHED:
        break;
    }
    return SIM_EXIT_CRASHED;
}

/* ---- the command ---- */

static bool run_seeds(struct simulation *simulation, struct buffer *problems)
{
    const struct sim_options *options = simulation->options;
    struct buffer words = {0};
    uint64_t finished = 0;
    bool good = true;
    simulation->terminal = isatty(STDERR_FILENO);
    buffer_append_format(&words, "--first=%llu --seeds=%llu ", (unsigned long long)options->first,
                         (unsigned long long)options->seeds);
    sim_options_replay(&options->run, options->mutant, &words);
    buffer_append_byte(&words, '\0');
    const char *text = (const char *)words.data;
    if (options->state_file != NULL) {
        good = sim_state_read(options->state_file, text, &finished, &simulation->totals, problems);
        simulation->before = simulation->totals.seconds;
        simulation->cpu_before = simulation->totals.cpu_seconds;
    }
    simulation->began = simulation->shown = now_seconds();
    while (good && finished < simulation->count && simulation->failure_count == 0 && !interrupted) {
        uint64_t left = simulation->count - finished;
        if (options->state_file != NULL && left > CHUNK_SEEDS) left = CHUNK_SEEDS;
        unsigned workers = left < options->jobs ? (unsigned)left : (unsigned)options->jobs;
        simulation->next = finished;
        simulation->end = finished + left;
        sim_jobs_run(workers, (unsigned)options->seed_timeout_s, &handler, simulation);
        finished += left;
        simulation->totals.seconds = simulation->before + now_seconds() - simulation->began;
        simulation->totals.cpu_seconds = simulation->cpu_before + cpu_seconds();
        if (options->state_file == NULL || simulation->failure_count > 0 || interrupted) continue;
        good = sim_state_write(options->state_file, text, finished, &simulation->totals);
        if (!good) buffer_append_format(problems, "--state: %s: %s\n", options->state_file, strerror(errno));
    }
    if (simulation->lines_shown > 0) fprintf(stderr, "\033[%uA\033[J", simulation->lines_shown);
    buffer_free(&words);
    return good;
}

static int report(struct simulation *simulation)
{
    const struct sim_options *options = simulation->options;
    struct buffer text = {0}, missed = {0};
    if (simulation->failure_count > 1) {
        qsort(simulation->failures, simulation->failure_count, sizeof *simulation->failures, by_number);
    }
    /* Without --keep-going, others that happened to fail beside the first are left out: which do, depends on the jobs. */
    size_t told = options->keep_going || simulation->failure_count == 0 ? simulation->failure_count : 1;
    bool explained = options->mutant == MUTANT_NONE || !options->quiet;
    if (told > 0 && explained) explain(options, &simulation->failures[0]);
    int exit_code = told > 0 ? exit_code_of(simulation->failures[0].report.outcome) : CLI_OK;
    bool unreached = options->require_marks && told == 0 && sim_totals_marks_missed(&simulation->totals) > 0;
    if (unreached || (interrupted && told == 0)) exit_code = CLI_FAILED;
    if (options->json) {
        sim_report_json(&simulation->totals, simulation->failures, told, options->mutant, &text);
        print(&text);
        return exit_code;
    }
    if (!options->quiet) sim_report_text(&simulation->totals, options->marks, &text);
    for (size_t i = 0; i < told; i++) sim_report_failure(&simulation->failures[i], options->mutant, &text);
    if (unreached) {
        sim_totals_missed(&simulation->totals, MARK_COUNT, &missed);
        buffer_append_format(&text, "no seed reached %.*s\n", (int)missed.size, (const char *)missed.data);
        buffer_free(&missed);
    }
    if (interrupted) buffer_append_string(&text, "interrupted\n");
    print(&text);
    return exit_code;
}

static int trace_seed(const struct simulation *simulation)
{
    const struct sim_options *options = simulation->options;
    struct sim_failure failure = {.job = job_of(simulation, 0)};
    struct sim_result *result = mem_alloc_zero(sizeof *result);
    struct buffer text = {0};
    bool cut = false;
    sim_jobs_trace(&failure.job, (unsigned)options->seed_timeout_s, stdout, options->trace_limit_bytes, NULL, result,
                   &cut);
    failure.report = result->report;
    int exit_code = exit_code_of(result->report.outcome);
    if (result->report.outcome != SIM_RUN_CLEAN) {
        sim_report_failure(&failure, options->mutant, &text);
    } else {
        buffer_append_format(&text, "seed %llu: clean, hash %016llx, commit %s; it drew: %s\n",
                             (unsigned long long)failure.job.run.seed, (unsigned long long)result->report.trace_hash,
                             sim_report_commit(), result->report.drawn);
    }
    print(&text);
    mem_free(result);
    if (cut) {
        cli_fail(CLI_USAGE, "the trace is longer than its limit of %llu bytes; give more with --trace-limit",
                 (unsigned long long)options->trace_limit_bytes);
    }
    return cut && exit_code == CLI_OK ? CLI_USAGE : exit_code;
}

static void list_mutants(void)
{
    for (unsigned i = 1; i < MUTANT_COUNT; i++) {
        printf("%-32s %s\n", mutant_name((enum mutant)i), mutant_text((enum mutant)i));
    }
}

int sim_command(int argument_count, char **arguments)
{
    struct sim_options options;
    struct buffer problems = {0}, help = {0};
    enum options_outcome outcome = sim_options_read(argument_count, arguments, &options, &problems, &help);
    cli_print(buffer_bytes(&help));
    cli_print_error(buffer_bytes(&problems));
    buffer_free(&help);
    buffer_clear(&problems);
    if (outcome != OPTIONS_OK || options.list_mutants) {
        buffer_free(&problems);
        if (outcome == OPTIONS_OK) list_mutants();
        return outcome == OPTIONS_BAD ? CLI_USAGE : CLI_OK;
    }
    struct simulation *simulation = mem_alloc_zero(sizeof *simulation);
    simulation->options = &options;
    simulation->count = options.seeds;
    mutant_switch_on(options.mutant);
    int exit_code = CLI_USAGE;
    bool good = options.seed_file == NULL || read_seed_file(simulation, &problems);
    if (good && options.seed_file != NULL) simulation->count = simulation->rows.count;
    if (good && options.trace) {
        exit_code = trace_seed(simulation);
    } else if (good) {
        signal(SIGINT, interrupt);
        signal(SIGTERM, interrupt);
        good = run_seeds(simulation, &problems);
        if (good) exit_code = report(simulation);
    }
    cli_print_error(buffer_bytes(&problems));
    buffer_free(&problems);
    for (size_t i = 0; i < simulation->failure_count; i++) buffer_free(&simulation->failures[i].trace);
    mem_free(simulation->failures);
    sim_seeds_free(&simulation->rows);
    mem_free(simulation);
    return exit_code;
}
