#include "base/random.h"

#include "base/check.h"

/* Blackman and Vigna, 'Scrambled linear pseudorandom number generators' (2021): xoshiro256**, seeded
   by splitmix64 as its authors recommend. */

#define SPLITMIX_GAMMA 0x9e3779b97f4a7c15u

static uint64_t rotate_left(uint64_t value, unsigned bits)
{
    return value << bits | value >> (64 - bits);
}

uint64_t random_mix(uint64_t value)
{
    value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9u;
    value = (value ^ value >> 27) * 0x94d049bb133111ebu;
    return value ^ value >> 31;
}

void random_seed(struct random *random, uint64_t seed)
{
    /* Four outputs of a bijection of four different values: at most one is 0, so the state is never
       all zero, which is the generator's one fixed point. */
    for (unsigned i = 0; i < 4; i++) random->state[i] = random_mix(seed += SPLITMIX_GAMMA);
}

uint64_t random_u64(struct random *random)
{
    uint64_t *state = random->state;
    uint64_t result = rotate_left(state[1] * 5, 7) * 9;
    uint64_t shifted = state[1] << 17;
    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= shifted;
    state[3] = rotate_left(state[3], 45);
    return result;
}

uint64_t random_below(struct random *random, uint64_t bound)
{
    CHECK(bound > 0);
    /* Values below 2^64 mod bound would make the low results more likely; draw again. */
    uint64_t biased = (0 - bound) % bound;
    uint64_t value;
    do {
        value = random_u64(random);
    } while (value < biased);
    return value % bound;
}

uint64_t random_between(struct random *random, uint64_t low, uint64_t high)
{
    CHECK(low <= high);
    uint64_t span = high - low;
    return span == UINT64_MAX ? random_u64(random) : low + random_below(random, span + 1);
}

bool random_chance(struct random *random, unsigned per_mille)
{
    return random_below(random, 1000) < per_mille;
}
