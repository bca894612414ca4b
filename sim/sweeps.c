/*
 * sweeps - FAULTS.md's sweeps: each byte of the last batch torn, each byte of a small log, raft state and snapshot flipped, each
 * disk operation of a life failed once. Without --full, a part of the cases, evenly spread.
 *
 * Exit codes: 0 clean, 2 usage, 3 a case went wrong, 5 the program crashed.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "sim/sim_sweep.h"

#define EXIT_USAGE 2
#define EXIT_WRONG 3
#define EXIT_CRASHED 5
#define FAILURES_SHOWN 3

static const char usage[] = "usage: sweeps [NAME]... [options]\n"
                            "  --full      every case, not a part of them\n"
                            "  --case N    of the one sweep that is named, this case only\n"
                            "  --trace     print everything that happens (with --case)\n"
                            "  --quick     a tenth of that part; the environment's CORACLE_TEST_QUICK does the same\n"
                            "  --part K/N  of the part or of all, the K-th of N shares (1/1)\n"
                            "sweeps:\n";

struct options {
    bool full, quick, trace, has_case;
    uint64_t number, part, parts;
    const char *names[32];
    unsigned name_count;
};

/* For the handler of a crash; formatted before a case begins. */
static char crash_text[160];

static void crashed(int number)
{
    /* Only what a signal handler may do. */
    if (write(STDERR_FILENO, crash_text, strlen(crash_text)) < 0) _exit(EXIT_CRASHED);
    (void)number;
    _exit(EXIT_CRASHED);
}

static double now_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void print_usage(FILE *out)
{
    fputs(usage, out);
    for (unsigned i = 0; sim_sweeps[i] != NULL; i++)
        fprintf(out, "  %-24s %s\n", sim_sweeps[i]->name, sim_sweeps[i]->what);
}

static bool parse_number(const char *text, char stop, uint64_t *out)
{
    char *end;
    if (text == NULL || text[0] < '0' || text[0] > '9') return false;
    *out = strtoull(text, &end, 10);
    return *end == stop;
}

static bool parse(int count, char **arguments, struct options *options)
{
    *options = (struct options){.part = 1, .parts = 1, .quick = getenv("CORACLE_TEST_QUICK") != NULL};
    for (int i = 1; i < count; i++) {
        const char *argument = arguments[i];
        if (strcmp(argument, "--full") == 0) {
            options->full = true;
        } else if (strcmp(argument, "--quick") == 0) {
            options->quick = true;
        } else if (strcmp(argument, "--trace") == 0) {
            options->trace = true;
        } else if (strcmp(argument, "--case") == 0) {
            options->has_case = true;
            if (i + 1 == count || !parse_number(arguments[++i], 0, &options->number)) {
                fputs("--case needs a number\n", stderr);
                return false;
            }
        } else if (strcmp(argument, "--part") == 0) {
            const char *slash = i + 1 == count ? NULL : strchr(arguments[++i], '/');
            if (slash == NULL || !parse_number(arguments[i], '/', &options->part) ||
                !parse_number(slash + 1, 0, &options->parts) || options->part < 1 || options->part > options->parts) {
                fputs("--part needs K/N\n", stderr);
                return false;
            }
        } else {
            unsigned sweep = 0;
            while (sim_sweeps[sweep] != NULL && strcmp(sim_sweeps[sweep]->name, argument) != 0) sweep++;
            if (sim_sweeps[sweep] == NULL || options->name_count == ARRAY_COUNT(options->names)) {
                fprintf(stderr, "there is no option and no sweep %s\n", argument);
                return false;
            }
            options->names[options->name_count++] = argument;
        }
    }
    if (options->has_case && options->name_count != 1) {
        fputs("--case goes with the name of one sweep\n", stderr);
        return false;
    }
    return true;
}

static bool is_chosen(const struct options *options, const struct sim_sweep *sweep)
{
    for (unsigned i = 0; i < options->name_count; i++) {
        if (strcmp(options->names[i], sweep->name) == 0) return true;
    }
    return options->name_count == 0;
}

static uint64_t run_sweep(const struct options *options, const struct sim_sweep *sweep)
{
    double start = now_seconds();
    void *state = NULL;
    char text[1200] = "";
    uint64_t count = sweep->begin(options->full, &state, text, sizeof text), failures = 0;
    uint64_t ran = 0, halted = 0, noticed = 0;
    if (count == 0) {
        printf("FAIL %s: the life that it begins with went wrong: %s\n", sweep->name, text);
        failures = 1;
    }
    if (options->has_case && options->number >= count && count > 0) {
        fprintf(stderr, "%s has %" PRIu64 " cases\n", sweep->name, count);
        exit(EXIT_USAGE);
    }
    uint64_t stride = options->full ? 1 : sweep->stride;
    if (options->quick) stride *= 10;
    struct sim_trace trace = {.out = stdout, .limit_bytes = UINT64_MAX};
    for (uint64_t number = 0, turn = 0; number < count; number += stride, turn++) {
        if (options->has_case) number = options->number;
        if (!options->has_case && turn % options->parts != options->part - 1) continue;
        struct sim_sweep_case one = {.number = number, .trace = options->trace ? &trace : NULL};
        snprintf(crash_text, sizeof crash_text, "the program crashed; replay: sweeps %s --case %" PRIu64 " --trace%s\n",
                 sweep->name, number, options->full ? " --full" : "");
        sweep->run(state, &one);
        ran++;
        halted += one.halted;
        noticed += one.noticed;
        if (one.text[0] != 0 && ++failures <= FAILURES_SHOWN) {
            printf("FAIL %s: %s: %s\nreplay: sweeps %s --case %" PRIu64 " --trace%s\n", sweep->name, one.what, one.text,
                   sweep->name, number, options->full ? " --full" : "");
            fflush(stdout);
        }
        if (options->has_case) break;
    }
    if (state != NULL) sweep->end(state);
    printf("%s %-24s %7" PRIu64 " of %7" PRIu64 " cases, %" PRIu64 " wrong; %" PRIu64 " noticed, %" PRIu64
           " halted; %.1f s\n",
           failures == 0 ? "ok  " : "FAIL", sweep->name, ran, count, failures, noticed, halted, now_seconds() - start);
    fflush(stdout);
    return failures;
}

int main(int count, char **arguments)
{
    struct options options;
    if (count == 2 && strcmp(arguments[1], "--help") == 0) {
        print_usage(stdout);
        return 0;
    }
    if (!parse(count, arguments, &options)) {
        print_usage(stderr);
        return EXIT_USAGE;
    }
    signal(SIGABRT, crashed);
    signal(SIGSEGV, crashed);
    uint64_t failures = 0, sweeps = 0, failed = 0;
    for (unsigned i = 0; sim_sweeps[i] != NULL; i++) {
        if (!is_chosen(&options, sim_sweeps[i])) continue;
        uint64_t wrong = run_sweep(&options, sim_sweeps[i]);
        failures += wrong;
        sweeps++;
        failed += wrong > 0;
    }
    printf("%" PRIu64 " passed, %" PRIu64 " failed\n", sweeps - failed, failed);
    return failures == 0 ? 0 : EXIT_WRONG;
}
