/*
 * sim_run.h - one seed from its beginning to its verdict.
 *
 * Everything that the seed doesn't fix by the options is drawn from it: timeouts and limits of the nodes, load, faults.
 *
 *     1. the nodes start on empty disks; clients begin; faults come and go, until enough was written or time is up
 *     2. faults stop, everything is whole again, or a minority stays down; a leader must be there within a bounded time
 *     3. every key is read through the nodes; all nodes must come to equal applied indexes and hashes
 *     4. the history is checked
 */
#ifndef CORACLE_SIM_RUN_H
#define CORACLE_SIM_RUN_H

#include "sim/sim_nemesis.h"
#include "sim/sim_workload.h"

#define SIM_LOAD_DRAWN UINT32_MAX
#define SIM_LOAD_DRAWN_MAX 200u

struct sim_run_options {
    uint64_t seed;
    unsigned node_count;     /* 0: drawn: 1, 3 or 5 */
    time_ns duration;        /* of the first part, at most */
    bool duration_is_mean;   /* drawn, evenly, up to twice of `duration` */
    uint32_t load;           /* operations a second; SIM_LOAD_DRAWN: from 0 to SIM_LOAD_DRAWN_MAX */
    uint64_t writes_max;     /* the first part ends when so many were acknowledged; 0: no limit */
    sim_fault_set faults;    /* the kinds that may come; SIM_FAULTS_ALL: what the seed draws */
    bool defaults;           /* timeouts and limits of the nodes are the product's, and not drawn */
    struct sim_trace *trace; /* NULL: none */
};

/* The last is never sim_run's own: it is for who ran it in a process that died. */
enum sim_run_outcome { SIM_RUN_CLEAN, SIM_RUN_WRONG, SIM_RUN_STUCK, SIM_RUN_CRASHED };

struct sim_run_report {
    enum sim_run_outcome outcome;
    char text[2560]; /* what was violated */
    char drawn[256]; /* what the seed drew, for people */
    unsigned node_count;
    uint64_t trace_hash;
    uint64_t events;
    time_ns simulated;
    uint64_t writes, reads, unknown, nothing_done, keys;
    uint64_t keys_undecided;    /* a run whose history can't be decided has proven less than it seems to */
    uint64_t contents_compared; /* keys and changes of stores */
    uint64_t elections, checks, crashes, power_losses, stops, failed_starts;
    uint64_t faults[SIM_FAULT_COUNT];
    struct sim_disk_counters disks; /* of all nodes */
};

/* `logged` gathers over seeds what nodes logged, and how often; may be NULL. */
void sim_run(const struct sim_run_options *options, struct sim_marks *logged, struct sim_run_report *report);

/* Adds the figures of `one` to `sum`; its outcome, texts and trace hash are left alone. */
void sim_run_report_add(struct sim_run_report *sum, const struct sim_run_report *one);

#endif
