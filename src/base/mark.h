/*
 * mark.h - places in the code that the simulator should reach, and how often it did.
 *
 * A state is interesting when bugs hide in it: a follower that cuts a conflict, a snapshot over a longer log. Each has a
 * row here and a MARK(NAME) where it happens, in the product or in the simulator. A simulation that reaches one in no
 * seed tests less than it seems to, and fails for that (`./dev test`).
 *
 * To add one: a row in MARKS, and MARK(NAME) at the place, which may be in any folder.
 *
 * Only builds with -Dsimulation=true count; in all others MARK is nothing, and the texts aren't in the binary. The
 * counters are plain globals: a simulation has one thread. They are the one exception to the rule that pure folders have
 * none, and nothing in those folders can read them.
 */
#ifndef CORACLE_BASE_MARK_H
#define CORACLE_BASE_MARK_H

#include <stdbool.h>
#include <stdint.h>

/* X(NAME, "what was reached") */
#define MARKS(X)                                                                                                       \
    X(FOLLOWER_CUT_CONFLICT, "a follower cut entries that conflicted with its leader's")                               \
    X(LEADER_LOST_QUORUM, "a leader lost touch with its quorum and stepped down")

#define MARK_ENUM(name, text) MARK_##name,
enum mark { MARKS(MARK_ENUM) MARK_COUNT };
#undef MARK_ENUM

#ifdef CORACLE_SIMULATION
extern uint64_t mark_counts[MARK_COUNT];
#define MARK(name) ((void)mark_counts[MARK_##name]++)
#else
#define MARK(name) ((void)MARK_##name)
#endif

/* False where marks were compiled out; then the functions below know none. */
bool mark_is_built(void);
const char *mark_name(enum mark mark);
const char *mark_text(enum mark mark);
uint64_t mark_count(enum mark mark);
void mark_reset(void);

#endif
