/*
 * sim_sweep.h - the same short life again and again, with one thing changed each time: FAULTS.md's sweeps.
 *
 * A sweep has cases, numbered from 0, and each is a life of its own (sim_script.h), so any can be run alone. `begin` lives the
 * life that all begin with and says how many cases there are; `run` lives one of them.
 */
#ifndef CORACLE_SIM_SWEEP_H
#define CORACLE_SIM_SWEEP_H

#include "sim/sim_script.h"

struct sim_sweep_case {
    uint64_t number;
    struct sim_trace *trace; /* NULL: none */
    char what[512];          /* which one it is, for a person */
    char text[1200];         /* what went wrong; "": nothing */
    bool halted;             /* the cluster refused to serve, as it should */
    bool noticed;            /* some node said that something is damaged, or ended */
};

struct sim_sweep {
    const char *name, *what;
    /* *out is the sweep's own, for run and end. Returns the count of cases, or 0 with a text. */
    uint64_t (*begin)(bool full, void **out, char *text, size_t text_bytes);
    void (*run)(void *state, struct sim_sweep_case *one);
    void (*end)(void *state);
    unsigned stride; /* of the part that runs without `full`: every so manieth case; 1: all */
};

/* All of them; NULL ends the table. */
extern const struct sim_sweep *const sim_sweeps[];

extern const struct sim_sweep sim_sweep_torn_one, sim_sweep_torn_all, sim_sweep_torn_sectors, sim_sweep_torn_segment;
extern const struct sim_sweep sim_sweep_flip_log, sim_sweep_flip_log_metadata, sim_sweep_flip_state,
    sim_sweep_flip_snapshot, sim_sweep_flip_snapshot_metadata, sim_sweep_flip_both, sim_sweep_flip_leader_dies,
    sim_sweep_flip_everywhere, sim_sweep_flip_large;
extern const struct sim_sweep sim_sweep_error_change, sim_sweep_error_look, sim_sweep_crash_one, sim_sweep_crash_all,
    sim_sweep_kill;

/* Starts all nodes that aren't to stay down, waits until they agree, writes, and checks everything. */
void sim_sweep_recovers(struct sim_script *script, struct sim_sweep_case *one);
/* Ends the life; what it found is in the case. */
void sim_sweep_done(struct sim_script *script, struct sim_sweep_case *one);

#endif
