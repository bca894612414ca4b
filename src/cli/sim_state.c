#include "cli/sim_state.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#define HEAD "coracle-sim-state "

/* The figures that are kept, by name. */
struct figure {
    const char *name;
    uint64_t *value;
};

#define FIGURES_MAX 32

static size_t figures_of(struct sim_totals *totals, struct figure *out)
{
    struct sim_run_report *sum = &totals->sum;
    const struct figure figures[] = {
        {"seeds", &totals->seeds},
        {"hash", &totals->hash},
        {"simulated_ns", (uint64_t *)&sum->simulated},
        {"events", &sum->events},
        {"checks", &sum->checks},
        {"writes", &sum->writes},
        {"reads", &sum->reads},
        {"unknown", &sum->unknown},
        {"refused", &sum->nothing_done},
        {"keys", &sum->keys},
        {"keys_undecided", &sum->keys_undecided},
        {"contents_compared", &sum->contents_compared},
        {"elections", &sum->elections},
        {"kills", &sum->crashes},
        {"power_losses", &sum->power_losses},
        {"stops", &sum->stops},
        {"failed_starts", &sum->failed_starts},
        {"disk_operations", &sum->disks.operations},
        {"syncs", &sum->disks.syncs},
        {"disk_failures", &sum->disks.failures},
        {"sectors_kept", &sum->disks.sectors_kept},
        {"sectors_lost", &sum->disks.sectors_lost},
        {"sectors_older", &sum->disks.sectors_older},
        {"sectors_cut", &sum->disks.sectors_cut},
        {"directory_changes_lost", &sum->disks.directory_changes_lost},
        {"sizes_lost", &sum->disks.sizes_lost},
    };
    _Static_assert(ARRAY_COUNT(figures) <= FIGURES_MAX, "there is room for all");
    memcpy(out, figures, sizeof figures);
    return ARRAY_COUNT(figures);
}

/* Sets one figure, fault or mark; a name from another build, which has it no longer, is left out. */
static void set_figure(struct sim_totals *totals, const char *name, uint64_t value, uint64_t more)
{
    struct figure figures[FIGURES_MAX];
    size_t count = figures_of(totals, figures);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(name, figures[i].name) == 0) *figures[i].value = value;
    }
    for (unsigned i = 0; i < SIM_FAULT_COUNT; i++) {
        if (strcmp(name, sim_fault_name((enum sim_fault)i)) == 0) totals->sum.faults[i] = value;
    }
    for (unsigned i = 0; mark_is_built() && i < MARK_COUNT; i++) {
        if (strcmp(name, mark_name((enum mark)i)) != 0) continue;
        totals->marks[i] = value;
        totals->mark_seeds[i] = more;
    }
}

static bool read_line(const char *file, char *line, const char *options, unsigned number, uint64_t *finished,
                      struct sim_totals *totals, struct buffer *problems)
{
    line[strcspn(line, "\n")] = '\0';
    if (number == 1) {
        if (strncmp(line, HEAD, strlen(HEAD)) == 0 && atoi(line + strlen(HEAD)) == SIM_STATE_VERSION) return true;
        buffer_append_format(problems, "--state: %s is no state of version %d of a simulation\n", file,
                             SIM_STATE_VERSION);
        return false;
    }
    char *space = strchr(line, ' ');
    if (space == NULL) return true;
    *space = '\0';
    const char *value = space + 1;
    if (strcmp(line, "options") == 0 && strcmp(value, options) != 0) {
        buffer_append_format(
            problems, "--state: %s is of a simulation with other options (%s, not %s); remove it to begin anew\n", file,
            value, options);
        return false;
    }
    char *end = NULL;
    uint64_t first = strtoull(value, &end, 10);
    if (strcmp(line, "finished") == 0) *finished = first;
    if (strcmp(line, "seconds") == 0) totals->seconds = strtod(value, NULL);
    if (strcmp(line, "cpu_seconds") == 0) totals->cpu_seconds = strtod(value, NULL);
    set_figure(totals, line, first, *end == ' ' ? strtoull(end, NULL, 10) : 0);
    return true;
}

bool sim_state_read(const char *file, const char *options, uint64_t *finished, struct sim_totals *totals,
                    struct buffer *problems)
{
    char line[1024];
    FILE *in = fopen(file, "r");
    *finished = 0;
    if (in == NULL && errno == ENOENT) return true;
    if (in == NULL) {
        buffer_append_format(problems, "--state: %s: %s\n", file, strerror(errno));
        return false;
    }
    bool good = true;
    unsigned number = 0;
    while (good && fgets(line, sizeof line, in) != NULL) {
        good = read_line(file, line, options, ++number, finished, totals, problems);
    }
    if (good && number == 0) {
        buffer_append_format(problems, "--state: %s is empty; remove it to begin anew\n", file);
        good = false;
    }
    fclose(in);
    return good;
}

bool sim_state_write(const char *file, const char *options, uint64_t finished, const struct sim_totals *totals)
{
    char temporary[4096];
    struct sim_totals copy = *totals;
    struct figure figures[FIGURES_MAX];
    size_t count = figures_of(&copy, figures);
    snprintf(temporary, sizeof temporary, "%s.new", file);
    FILE *out = fopen(temporary, "w");
    if (out == NULL) return false;
    fprintf(out, HEAD "%d\noptions %s\ncommit %s\nfinished %" PRIu64 "\nseconds %.1f\ncpu_seconds %.1f\n",
            SIM_STATE_VERSION, options, sim_report_commit(), finished, totals->seconds, totals->cpu_seconds);
    for (size_t i = 0; i < count; i++) fprintf(out, "%s %" PRIu64 "\n", figures[i].name, *figures[i].value);
    for (unsigned i = 0; i < SIM_FAULT_COUNT; i++) {
        fprintf(out, "%s %" PRIu64 "\n", sim_fault_name((enum sim_fault)i), totals->sum.faults[i]);
    }
    for (unsigned i = 0; mark_is_built() && i < MARK_COUNT; i++) {
        fprintf(out, "%s %" PRIu64 " %" PRIu64 "\n", mark_name((enum mark)i), totals->marks[i], totals->mark_seeds[i]);
    }
    bool good = fflush(out) == 0;
    good = fclose(out) == 0 && good;
    return good && rename(temporary, file) == 0;
}
