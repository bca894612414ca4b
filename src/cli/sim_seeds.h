/*
 * sim_seeds.h - files of seeds: past failures, and the seeds that catch mutants.
 *
 *     coracle-seeds 1
 *     # A comment, or an empty line.
 *     seed=17 nodes=3 seconds=60 faults=crashes,disk commit=0123abcd  # what it found
 *
 * The first line names the version of the format. Then a line is a seed: fields in any order, separated by spaces. `seed` must be
 * there. nodes, load (a number or "drawn"), seconds or seconds-mean, writes, faults and defaults=yes are as the flags of
 * `coracle sim`, and have their defaults. `commit` is where the seed was found: as the program changes, the same seed comes
 * to draw other things, and is kept as one more seed. `mutant` is the bug that it catches.
 */
#ifndef CORACLE_CLI_SIM_SEEDS_H
#define CORACLE_CLI_SIM_SEEDS_H

#include "base/bytes.h"
#include "sim/sim_run.h"

#define SIM_SEEDS_VERSION 1

struct sim_seed {
    struct sim_run_options run;
    char mutant[64]; /* "": none */
    char commit[64]; /* "": not said */
};

struct sim_seeds {
    struct sim_seed *seeds;
    size_t count, capacity;
};

/* `file` is what messages call it. False: `problems` has a line for each mistake. */
bool sim_seeds_read(struct bytes text, const char *file, struct sim_seeds *out, struct buffer *problems);
void sim_seeds_free(struct sim_seeds *seeds);

#endif
