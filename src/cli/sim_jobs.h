/*
 * sim_jobs.h - seeds run in processes of their own: several at a time, and one that dies takes no other with it.
 *
 * Workers are forked; each gets jobs over a pipe and answers over another. A worker that dies while it has a job gives that job a
 * result, SIM_RUN_CRASHED, whose text is what it wrote to stderr; a job that outlasts the limit of real time is
 * SIM_RUN_STUCK. Which mutant is switched on is inherited.
 */
#ifndef CORACLE_CLI_SIM_JOBS_H
#define CORACLE_CLI_SIM_JOBS_H

#include "base/mark.h"
#include "sim/sim_run.h"

/* How the text of a seed begins whose two runs differ. */
#define SIM_RUNS_DIFFER "two runs of the seed differ"

struct sim_job {
    struct sim_run_options run; /* without a trace */
    bool twice;                 /* run it again, and compare trace hashes */
    uint64_t number;            /* the owner's */
};

struct sim_result {
    struct sim_run_report report;
    struct sim_marks logged; /* how often nodes logged what */
    uint64_t marks[MARK_COUNT];
};

struct sim_jobs_handler {
    /* The next job to begin; false: no more. */
    bool (*next)(void *user, struct sim_job *out);
    /* A job ended, in whatever order. After this, `next` may have become false. */
    void (*done)(void *user, const struct sim_job *job, const struct sim_result *result);
    /* A few times a second; false: stop at once. */
    bool (*tick)(void *user);
};

/* False: it was stopped by `tick`. */
bool sim_jobs_run(unsigned workers, unsigned seed_timeout_s, const struct sim_jobs_handler *handler, void *user);

/*
 * Runs one job by itself, with a trace: into `out` (NULL: none) up to `limit_bytes`, and the newest lines, whatever becomes
 * of the process, into `tail` (NULL: none). *cut: the limit was reached.
 */
void sim_jobs_trace(const struct sim_job *job, unsigned seed_timeout_s, FILE *out, uint64_t limit_bytes,
                    struct buffer *tail, struct sim_result *result, bool *cut);

#endif
