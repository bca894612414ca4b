/*
 * random.h - a seeded generator (xoshiro256**), so that a run replays from its seed.
 *
 * Not for secrets. The seed comes from the entropy port, or from the simulation's seed.
 */
#ifndef CORACLE_BASE_RANDOM_H
#define CORACLE_BASE_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

struct random {
    uint64_t state[4];
};

void random_seed(struct random *random, uint64_t seed);
uint64_t random_u64(struct random *random);
/* Uniform in [0, bound); bound must be above 0. */
uint64_t random_below(struct random *random, uint64_t bound);
/* Uniform in [low, high]. */
uint64_t random_between(struct random *random, uint64_t low, uint64_t high);
/* True with probability per_mille / 1000. */
bool random_chance(struct random *random, unsigned per_mille);
/* A bijective mix of 64 bits (the finaliser of splitmix64). */
uint64_t random_mix(uint64_t value);

#endif
