/*
 * sim_options.h - the flags of `coracle sim`, read and checked as a whole.
 */
#ifndef CORACLE_CLI_SIM_OPTIONS_H
#define CORACLE_CLI_SIM_OPTIONS_H

#include "base/mark.h"
#include "base/mutant.h"
#include "cli/options.h"
#include "sim/sim_run.h"

struct sim_options {
    struct sim_run_options run; /* of every seed, but for `seed` and `trace` */
    uint64_t first, seeds;
    uint64_t jobs;
    uint64_t twice_every; /* each so-manieth seed runs twice; 0: none */
    uint64_t trace_limit_bytes;
    uint64_t seed_timeout_s; /* of real time */
    enum mutant mutant;
    const char *seed_file; /* NULL: first and seeds say which; borrowed from the arguments, as the other texts are */
    const char *state_file;
    const char *faults_text;
    bool one_seed; /* --seed */
    bool trace, marks, require_marks, keep_going, json, quiet, list_mutants;
};

/* As options_read. OPTIONS_BAD: each mistake is a line of `problems`. */
enum options_outcome sim_options_read(int argument_count, char **arguments, struct sim_options *out,
                                      struct buffer *problems, struct buffer *help);

/* The flags that give one seed of these options again, for a command line. `run` may be a row of a seed file. */
void sim_options_replay(const struct sim_run_options *run, enum mutant mutant, struct buffer *out);

#endif
