/*
 * sim_report.h - the figures of many seeds, and how they are told: progress while they run, the report at the end, a failure.
 */
#ifndef CORACLE_CLI_SIM_REPORT_H
#define CORACLE_CLI_SIM_REPORT_H

#include <stdio.h>

#include "base/mutant.h"
#include "cli/sim_jobs.h"

struct sim_totals {
    uint64_t seeds;
    struct sim_run_report sum; /* of all of them, the failed ones too */
    struct sim_marks logged;
    uint64_t marks[MARK_COUNT];      /* how often each was reached */
    uint64_t mark_seeds[MARK_COUNT]; /* in how many seeds */
    uint64_t hash;                   /* of all trace hashes, whatever the order */
    double seconds;                  /* of real time */
    double cpu_seconds;              /* of all workers that have ended */
};

void sim_totals_add(struct sim_totals *totals, const struct sim_result *result);
/* Marks that no seed reached. */
unsigned sim_totals_marks_missed(const struct sim_totals *totals);
/* The names of those, separated by ", "; at most so many, then "and 3 more". */
void sim_totals_missed(const struct sim_totals *totals, unsigned limit, struct buffer *out);

/* The commit that the program was built from; "unknown" where there was none. */
const char *sim_report_commit(void);

/* A few lines that say how far it got; each ends with a newline. Returns how many. */
unsigned sim_report_progress(const struct sim_totals *totals, uint64_t seeds_of, unsigned jobs, uint64_t failures,
                             struct buffer *out);
/* All figures. */
void sim_report_text(const struct sim_totals *totals, bool with_marks, struct buffer *out);

struct sim_failure {
    struct sim_job job;
    struct sim_run_report report;
    struct buffer trace; /* the lines that matter */
};

/* What was violated, by which seed of which commit, how to see it again, and what led there. */
void sim_report_failure(const struct sim_failure *failure, enum mutant mutant, struct buffer *out);
/* The whole report as one JSON object. */
void sim_report_json(const struct sim_totals *totals, const struct sim_failure *failures, size_t failure_count,
                     enum mutant mutant, struct buffer *out);

/* "violated", "stuck", "crashed". */
const char *sim_outcome_word(enum sim_run_outcome outcome);

#endif
