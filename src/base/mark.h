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
    X(LEADER_LOST_QUORUM, "a leader lost touch with its quorum and stepped down")                                      \
    X(VOTE_REFUSED_OLDER_LOG, "a vote was refused because the candidate's log is behind")                              \
    X(PREVOTE_REFUSED_LEADER_LIVES, "a PreVote was refused because the leader is alive")                               \
    X(VOTE_SPLIT, "a candidate was refused by a majority")                                                             \
    X(LEADERSHIP_TRANSFERRED, "a member became leader because the old leader handed over")                             \
    X(LEADER_WITH_OLD_UNCOMMITTED,                                                                                     \
      "a new leader's log held entries of earlier terms that weren't known to be committed")                           \
    X(HIGHER_TERM_DEPOSED_LEADER, "a higher term made a leader step down")                                             \
    X(CUT_UNDER_WRITE, "a conflict cut entries whose write was under way")                                             \
    X(CUT_DURABLE, "a conflict cut entries that were durable")                                                         \
    X(APPEND_REJECTED, "a follower's log didn't match, and the leader went back")                                      \
    X(FOLLOWER_NEEDS_SNAPSHOT, "a follower was behind the beginning of the leader's log")                              \
    X(LOG_READ_BACK, "entries were read back from the disk for a follower")                                            \
    X(LOG_READ_GONE, "entries that a follower needed were gone or damaged when they were read")                        \
    X(WINDOW_FULL, "a follower's window of unacknowledged appends was full")                                           \
    X(ACK_OF_UNCERTAIN, "an uncertain member acknowledged, and it didn't count")                                       \
    X(READS_WAIT_FOR_OWN_COMMIT, "reads waited until a leader had committed an entry of its own term")                 \
    X(READ_REFUSED, "a member that leads no more refused a read index")                                                \
    X(READ_SHARED, "one barrier served several reads")                                                                 \
    X(UNCERTAIN_MEMBER_CERTAIN, "an uncertain member got all that it may have acknowledged, and was certain again")    \
    X(WIPED_MEMBER_CERTAIN, "a wiped member caught up, and took part again")                                           \
    X(UNCERTAIN_REFUSED_VOTE, "an uncertain member refused a vote because it may have had more than the candidate")    \
    X(NAMESAKE_OUTGROWN, "a member that began with too low an incarnation went on with a later one")                   \
    X(REPEAT_DROPPED, "a command came twice, and was applied once")                                                    \
    X(HISTORY_COMPACTED, "the leader proposed compaction because the history was over its budget")                     \
    X(CONTENTS_SCRUBBED, "the scrub of contents came round, in several slices")                                        \
    X(FORWARD_REFUSED, "a forwarded command was refused")                                                              \
    X(FORWARDED_AGAIN, "a refused command was forwarded to the next leader")                                           \
    X(WRITE_LOST_WITH_LEADER, "a new leader's first entry settled a write of an earlier term that got lost")           \
    X(SNAPSHOT_NOT_NEEDED, "a snapshot had arrived whole, and the log had caught up meanwhile")                        \
    X(SNAPSHOT_IN_SLICES, "a snapshot took several slices")                                                            \
    X(SNAPSHOT_OVER_CONFLICT, "a snapshot was installed over a log that conflicts with it")                            \
    X(SNAPSHOT_INSTALLED, "a leader's snapshot was installed")                                                         \
    X(SNAPSHOT_GIVEN_UP, "making a snapshot was given up")                                                             \
    X(DISK_FULL, "a full disk stopped writes")                                                                         \
    X(ROOM_AGAIN, "there was room again, and writes went on")                                                          \
    X(WIPED_MEMBER_JOINED, "a member found out that its disk was wiped")                                               \
    X(SNAPSHOT_TRANSFER_WENT_ON, "a snapshot's transfer went on where it had been cut")                                \
    X(SLOT_SCRUBBED_BAD, "the scrub found a bad slot, and it was saved again")                                         \
    X(SEGMENT_FOUND_BAD, "a segment of the log was found damaged while serving")                                       \
    X(SNAPSHOT_SCRUBBED_BAD, "the current snapshot was found damaged while serving")                                   \
    X(STATE_LOST, "a member lost its raft state and made it again from the log's metadata")                            \
    X(STATE_AND_IDENTITY_LOST, "a member lost its raft state and who it was")                                          \
    X(LOG_TORN, "a torn end of the log was cut at a start")                                                            \
    X(LOG_UNCERTAIN, "a member started uncertain of its log")                                                          \
    X(SNAPSHOT_DAMAGED, "a damaged snapshot was found at a start, and set aside")                                      \
    X(STATE_SLOT_DAMAGED, "one of the two slots of the raft state was damaged or older")                               \
    X(LOG_METADATA_LOST, "the log's metadata were lost")

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
