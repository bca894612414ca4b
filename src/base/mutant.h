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
    X(ABORT, "the program aborts when the faults end")                                                                 \
    X(RUNS_DIFFER, "a run depends on something else than its seed")                                                    \
    X(NOBODY_CAMPAIGNS, "no member campaigns after the third term")                                                    \
    X(COMMIT_EARLIER_TERM, "a leader commits an entry of an earlier term by counting replicas")                        \
    X(ACKNOWLEDGE_BEFORE_SYNC, "a follower acknowledges an append before its sync")                                    \
    X(VOTE_BEFORE_SAVE, "a vote is answered before term and vote are synced")                                          \
    X(CAMPAIGN_BEFORE_SAVE, "a candidate asks for votes, and counts its own, before its term is synced")               \
    X(INDEX_BEFORE_TERM, "logs are compared by index before term")                                                     \
    X(VOTES_TWICE, "a member votes for a second candidate in the same term")                                           \
    X(ACKNOWLEDGES_UNCOMPARED, "a follower acknowledges all of its log, compared with the leader's or not")            \
    X(COMMIT_BEYOND_VERIFIED,                                                                                          \
      "a follower takes the commit index for entries that it hasn't compared with the leader's")                       \
    X(CUTS_ON_OVERLAP, "the log is cut on any overlapping append, not only on a conflict")                             \
    X(LEADER_COUNTS_ITSELF_EARLY, "a leader counts itself before its own write is durable")                            \
    X(WRITE_COMPLETES_ALL, "the end of a write counts for entries that came after it began")                           \
    X(LATE_COMPLETION_COUNTS, "the end of a write counts for entries that replaced those it wrote")                    \
    X(READ_BEFORE_OWN_COMMIT, "a read index is given before an entry of the leader's own term is committed")           \
    X(REUSES_READ_CONFIRMATION, "the confirmation of a read index serves reads that came after it was asked")          \
    X(READ_BEFORE_APPLIED, "a read is answered before its index is applied")                                           \
    X(APPLIES_TWICE, "a command that comes twice is applied twice")                                                    \
    X(UNCERTAIN_COUNTS, "the acknowledgement of an uncertain member counts")                                           \
    X(UNCERTAIN_VOTES_LIKE_ANY, "an uncertain member votes as if its log were whole")                                  \
    X(RESOLVED_WITHOUT_BARRIER, "an uncertain member takes itself for certain without a confirmed read index")         \
    X(FORGETS_WHAT_IS_OWED, "a crash on the way makes an uncertain member certain")                                    \
    X(WIPED_VOTES, "a wiped member votes before it caught up")                                                         \
    X(WIPED_TAKES_PART, "a wiped member takes part as if it had been empty from the beginning")                        \
    X(FOUNDED_BY_A_MAJORITY, "a majority of the members founds the cluster, without the others")                       \
    X(DAMAGE_IS_CUT_OFF, "a damaged log is cut where the damage begins")                                               \
    X(DAMAGED_END_IS_TORN, "a damaged block counts as one that was cut by a crash")                                    \
    X(RECOVERS_WITHOUT_SYNC, "what recovery keeps is not made durable anew")                                           \
    X(SAVES_ONE_SLOT, "term and vote are written to one slot only")                                                    \
    X(LOG_WITHOUT_SYNC, "the log is not synced")                                                                       \
    X(SNAPSHOT_WITHOUT_SYNC, "a snapshot counts without having been synced")                                           \
    X(SNAPSHOT_WITHOUT_DIRECTORY_SYNC, "a snapshot counts before its directory is synced")                             \
    X(LOG_GOES_BEFORE_SNAPSHOT, "log segments are removed before the snapshot that covers them counts")                \
    X(INSTALLS_OVER_OLD_LOG, "a snapshot is installed without resetting the log that doesn't match it")                \
    X(INSTALLS_OVER_LONGER_LOG, "a snapshot is installed over a log that reaches further")                             \
    X(INSTALLS_OLDER_SNAPSHOT, "a leader's snapshot is installed though more than it holds is committed and applied")  \
    X(SNAPSHOT_NAMES_A_LATER_INDEX, "a snapshot says that it holds an entry more than was applied")                    \
    X(SESSIONS_OF_A_LATER_INDEX, "a snapshot holds the window of repeats as it was at a later index")                  \
    X(CONTENT_SCRUB_ANEW, "after a snapshot the scrub of contents begins at the first key")                            \
    X(CONTENT_SCRUB_SEES_DEAD, "the scrub of contents reads tombstones, as far as they aren't freed yet")

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
