/*
 * mutant.h - bugs put in on purpose, to check that the simulator's checks find them.
 *
 * Each has a row here, and MUTANT(NAME) where it is made, as the condition of the wrong way to go on. At most one is
 * switched on in a process. `./dev mutants` runs seeds with each until a check catches it.
 *
 * To add one: a row in MUTANTS, MUTANT(NAME) at the place, and its catching seed in test/data/sim/mutants.seeds, which
 * `./dev mutants --record` writes.
 *
 * Only builds with -Dsimulation=true have them; in all others MUTANT is a constant false, and nothing of a mutant is in the
 * binary. Which one is on is a plain global, as the counters of mark.h are, and for the same reasons.
 */
#ifndef CORACLE_BASE_MUTANT_H
#define CORACLE_BASE_MUTANT_H

#include <stdbool.h>

/* X(NAME, "what the bug is") */
#define MUTANTS(X)                                                                                                     \
    X(COMMIT_EARLIER_TERM, "a leader commits an entry of an earlier term by counting replicas")                        \
    X(ACKNOWLEDGE_BEFORE_SYNC, "a follower acknowledges an append before its sync")

#define MUTANT_ENUM(name, text) MUTANT_##name,
enum mutant { MUTANT_NONE, MUTANTS(MUTANT_ENUM) MUTANT_COUNT }; /* MUTANT_COUNT counts the none, too */
#undef MUTANT_ENUM

#ifdef CORACLE_SIMULATION
extern enum mutant mutant_switched_on;
#define MUTANT(name) (__builtin_expect(mutant_switched_on == MUTANT_##name, false))
#else
static inline bool mutant_is_off(enum mutant mutant)
{
    (void)mutant;
    return false;
}
#define MUTANT(name) mutant_is_off(MUTANT_##name)
#endif

/* False where mutants were compiled out; then none can be found or switched on. */
bool mutant_is_built(void);
/* MUTANT_NONE: there is none of that name. */
enum mutant mutant_find(const char *name);
const char *mutant_name(enum mutant mutant);
const char *mutant_text(enum mutant mutant);
void mutant_switch_on(enum mutant mutant);

#endif
