#include "cli/sim_report.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>

#include "cli/commit.h"
#include "cli/sim_options.h"

const char *sim_report_commit(void)
{
    return CORACLE_COMMIT;
}

const char *sim_outcome_word(enum sim_run_outcome outcome)
{
    static const char *const words[] = {"clean", "violated", "stuck", "crashed"};
    return words[outcome];
}

/* ---- figures ---- */

void sim_totals_add(struct sim_totals *totals, const struct sim_result *result)
{
    totals->seeds++;
    sim_run_report_add(&totals->sum, &result->report);
    for (unsigned i = 0; i < result->logged.count; i++) {
        sim_marks_add(&totals->logged, result->logged.marks[i].event, result->logged.marks[i].count);
    }
    for (unsigned i = 0; i < MARK_COUNT; i++) {
        totals->marks[i] += result->marks[i];
        totals->mark_seeds[i] += result->marks[i] > 0;
    }
    totals->hash += result->report.trace_hash;
}

unsigned sim_totals_marks_missed(const struct sim_totals *totals)
{
    unsigned missed = 0;
    for (unsigned i = 0; mark_is_built() && i < MARK_COUNT; i++) missed += totals->marks[i] == 0;
    return missed;
}

void sim_totals_missed(const struct sim_totals *totals, unsigned limit, struct buffer *out)
{
    unsigned missed = sim_totals_marks_missed(totals), named = 0;
    for (unsigned i = 0; i < MARK_COUNT && named < missed && named < limit; i++) {
        if (totals->marks[i] != 0) continue;
        buffer_append_format(out, "%s%s", named > 0 ? ", " : "", mark_name((enum mark)i));
        named++;
    }
    if (named < missed) buffer_append_format(out, " and %u more", missed - named);
}

static double simulated_s(const struct sim_totals *totals)
{
    return (double)totals->sum.simulated / 1e9;
}

static double speed(const struct sim_totals *totals)
{
    return totals->seconds > 0 ? simulated_s(totals) / totals->seconds : 0;
}

static double core_speed(const struct sim_totals *totals)
{
    return totals->cpu_seconds > 0 ? simulated_s(totals) / totals->cpu_seconds : 0;
}

static uint64_t fault_count(const struct sim_totals *totals)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < SIM_FAULT_COUNT; i++) count += totals->sum.faults[i];
    return count;
}

/* ---- progress ---- */

unsigned sim_report_progress(const struct sim_totals *totals, uint64_t seeds_of, unsigned jobs, uint64_t failures,
                             struct buffer *out)
{
    unsigned lines = 2;
    buffer_append_format(out,
                         "%" PRIu64 " of %" PRIu64
                         " seeds, %.0f simulated s in %.0f s (%.0f times as fast, %u job%s), %" PRIu64 " failed\n",
                         totals->seeds, seeds_of, simulated_s(totals), totals->seconds, speed(totals), jobs,
                         jobs == 1 ? "" : "s", failures);
    buffer_append_format(out, "  %" PRIu64 " faults:", fault_count(totals));
    for (unsigned i = 0; i < SIM_FAULT_COUNT; i++) {
        if (totals->sum.faults[i] == 0) continue;
        buffer_append_format(out, " %s %" PRIu64, sim_fault_name((enum sim_fault)i), totals->sum.faults[i]);
    }
    buffer_append_byte(out, '\n');
    if (!mark_is_built()) return lines;
    unsigned missed = sim_totals_marks_missed(totals);
    buffer_append_format(out, "  %u of %u states reached", MARK_COUNT - missed, MARK_COUNT);
    if (missed > 0) buffer_append_string(out, "; not yet: ");
    sim_totals_missed(totals, 4, out);
    buffer_append_byte(out, '\n');
    return lines + 1;
}

/* ---- the report ---- */

static int compare_logged(const void *a, const void *b)
{
    return strcmp(((const struct sim_mark *)a)->event, ((const struct sim_mark *)b)->event);
}

static void append_marks(const struct sim_totals *totals, struct buffer *out)
{
    buffer_append_string(out, "\nmarks: times, seeds, what was reached\n");
    for (unsigned i = 0; mark_is_built() && i < MARK_COUNT; i++) {
        buffer_append_format(out, "  %10" PRIu64 " %7" PRIu64 "  %-32s %s\n", totals->marks[i], totals->mark_seeds[i],
                             mark_name((enum mark)i), mark_text((enum mark)i));
    }
    struct sim_marks logged = totals->logged;
    qsort(logged.marks, logged.count, sizeof *logged.marks, compare_logged);
    buffer_append_string(out, "\nwhat nodes logged: times, event\n");
    for (unsigned i = 0; i < logged.count; i++) {
        buffer_append_format(out, "  %10" PRIu64 "  %s\n", logged.marks[i].count, logged.marks[i].event);
    }
}

void sim_report_text(const struct sim_totals *totals, bool with_marks, struct buffer *out)
{
    const struct sim_run_report *sum = &totals->sum;
    const struct sim_disk_counters *disks = &sum->disks;
    buffer_append_format(out,
                         "%" PRIu64
                         " seeds, %.0f simulated s in %.1f s (%.0f times as fast, %.0f for each core), %" PRIu64
                         " events, %" PRIu64 " checks; hash %016" PRIx64 ", commit %s\n",
                         totals->seeds, simulated_s(totals), totals->seconds, speed(totals), core_speed(totals),
                         sum->events, sum->checks, totals->hash, sim_report_commit());
    buffer_append_format(out,
                         "  clients: %" PRIu64 " acknowledged writes of %" PRIu64 " keys, %" PRIu64 " reads, %" PRIu64
                         " outcomes unknown, %" PRIu64 " refused; %" PRIu64 " keys too hard to decide\n",
                         sum->writes, sum->keys, sum->reads, sum->unknown, sum->nothing_done, sum->keys_undecided);
    buffer_append_format(out,
                         "  nodes: %" PRIu64 " leaders elected, %" PRIu64 " kills, %" PRIu64
                         " losses of power, %" PRIu64 " stops, %" PRIu64 " starts that failed\n",
                         sum->elections, sum->crashes, sum->power_losses, sum->stops, sum->failed_starts);
    buffer_append_format(out,
                         "  disks: %" PRIu64 " operations, %" PRIu64 " syncs, %" PRIu64
                         " failures; unsynced sectors: %" PRIu64 " kept, %" PRIu64 " lost, %" PRIu64 " older, %" PRIu64
                         " cut; %" PRIu64 " directory changes and %" PRIu64 " sizes lost\n",
                         disks->operations, disks->syncs, disks->failures, disks->sectors_kept, disks->sectors_lost,
                         disks->sectors_older, disks->sectors_cut, disks->directory_changes_lost, disks->sizes_lost);
    buffer_append_format(out, "  faults: %" PRIu64 "\n", fault_count(totals));
    for (unsigned i = 0; i < SIM_FAULT_COUNT; i++) {
        if (sum->faults[i] == 0) continue;
        buffer_append_format(out, "  %10" PRIu64 "  %-16s %s\n", sum->faults[i], sim_fault_name((enum sim_fault)i),
                             sim_fault_text((enum sim_fault)i));
    }
    if (mark_is_built()) {
        unsigned missed = sim_totals_marks_missed(totals);
        buffer_append_format(out, "  states: %u of %u reached", MARK_COUNT - missed, MARK_COUNT);
        if (missed > 0) buffer_append_string(out, "; not ");
        sim_totals_missed(totals, 8, out);
        buffer_append_byte(out, '\n');
    } else {
        buffer_append_string(out, "  this binary has neither marks nor mutants; ./dev sim builds one that has\n");
    }
    if (with_marks) append_marks(totals, out);
}

static void append_replay(const struct sim_failure *failure, enum mutant mutant, struct buffer *out)
{
    buffer_append_string(out, mutant_is_built() ? "./dev sim " : "coracle sim ");
    sim_options_replay(&failure->job.run, mutant, out);
    /* Only where the second run is what failed. */
    if (strncmp(failure->report.text, SIM_RUNS_DIFFER, strlen(SIM_RUNS_DIFFER)) == 0)
        buffer_append_string(out, " --twice");
}

void sim_report_failure(const struct sim_failure *failure, enum mutant mutant, struct buffer *out)
{
    const struct sim_run_report *report = &failure->report;
    if (failure->trace.size > 0) {
        buffer_append_string(out, "\nWhat led there: time, who, what (one column a node; all of it with --trace)\n\n");
        buffer_append(out, failure->trace.data, failure->trace.size);
    }
    buffer_append_format(out, "\nseed %" PRIu64 " %s: %s\n", failure->job.run.seed, sim_outcome_word(report->outcome),
                         report->text);
    buffer_append_format(out, "commit: %s\n", sim_report_commit());
    if (report->drawn[0] != '\0') buffer_append_format(out, "it drew: %s\n", report->drawn);
    buffer_append_string(out, "replay: ");
    append_replay(failure, mutant, out);
    buffer_append_byte(out, '\n');
}

/* ---- JSON ---- */

static json_t *number(uint64_t value)
{
    return json_integer((json_int_t)value);
}

static json_t *failure_json(const struct sim_failure *failure, enum mutant mutant)
{
    struct buffer replay = {0};
    append_replay(failure, mutant, &replay);
    json_t *lines = json_array();
    for (size_t at = 0; at < failure->trace.size;) {
        const uint8_t *line = failure->trace.data + at;
        const uint8_t *end = memchr(line, '\n', failure->trace.size - at);
        size_t size = end == NULL ? failure->trace.size - at : (size_t)(end - line);
        json_array_append_new(lines, json_stringn_nocheck((const char *)line, size));
        at += size + 1;
    }
    json_t *out = json_pack("{s:I, s:s, s:s, s:s, s:s%, s:o}", "seed", (json_int_t)failure->job.run.seed, "outcome",
                            sim_outcome_word(failure->report.outcome), "text", failure->report.text, "drew",
                            failure->report.drawn, "replay", (const char *)replay.data, replay.size, "trace", lines);
    buffer_free(&replay);
    return out;
}

void sim_report_json(const struct sim_totals *totals, const struct sim_failure *failures, size_t failure_count,
                     enum mutant mutant, struct buffer *out)
{
    const struct sim_run_report *sum = &totals->sum;
    char hash[24];
    snprintf(hash, sizeof hash, "%016" PRIx64, totals->hash);
    json_t *root = json_object();
    json_object_set_new(root, "commit", json_string(sim_report_commit()));
    json_object_set_new(root, "mutant", mutant == MUTANT_NONE ? json_null() : json_string(mutant_name(mutant)));
    json_object_set_new(root, "seeds", number(totals->seeds));
    json_object_set_new(root, "hash", json_string(hash));
    json_object_set_new(root, "simulated_seconds", json_real(simulated_s(totals)));
    json_object_set_new(root, "seconds", json_real(totals->seconds));
    json_object_set_new(root, "cpu_seconds", json_real(totals->cpu_seconds));
    json_object_set_new(root, "speed", json_real(speed(totals)));
    json_object_set_new(root, "core_speed", json_real(core_speed(totals)));
    const struct {
        const char *name;
        uint64_t value;
    } figures[] = {
        {"events", sum->events},
        {"checks", sum->checks},
        {"writes", sum->writes},
        {"reads", sum->reads},
        {"unknown", sum->unknown},
        {"refused", sum->nothing_done},
        {"keys", sum->keys},
        {"keys_undecided", sum->keys_undecided},
        {"contents_compared", sum->contents_compared},
        {"elections", sum->elections},
        {"kills", sum->crashes},
        {"power_losses", sum->power_losses},
        {"stops", sum->stops},
        {"failed_starts", sum->failed_starts},
        {"disk_operations", sum->disks.operations},
        {"syncs", sum->disks.syncs},
    };
    for (size_t i = 0; i < ARRAY_COUNT(figures); i++) {
        json_object_set_new(root, figures[i].name, number(figures[i].value));
    }
    json_t *faults = json_object(), *marks = json_object(), *failed = json_array();
    for (unsigned i = 0; i < SIM_FAULT_COUNT; i++) {
        json_object_set_new(faults, sim_fault_name((enum sim_fault)i), number(sum->faults[i]));
    }
    for (unsigned i = 0; mark_is_built() && i < MARK_COUNT; i++) {
        json_object_set_new(marks, mark_name((enum mark)i), number(totals->marks[i]));
    }
    for (size_t i = 0; i < failure_count; i++) json_array_append_new(failed, failure_json(&failures[i], mutant));
    json_object_set_new(root, "faults", faults);
    json_object_set_new(root, "marks", marks);
    json_object_set_new(root, "failures", failed);
    char *text = json_dumps(root, JSON_INDENT(2));
    buffer_append_string(out, text);
    buffer_append_byte(out, '\n');
    free(text);
    json_decref(root);
}
