/*
 * sim_checker.h - what must be true of a cluster at every step, whatever happens to it.
 *
 * After each turn of a node its status, the new end of its log, and its disk are compared with all that was seen before, of all
 * nodes:
 *
 *   - election safety (dissertation, figure 3.2): at most one leader in a term; and a quorum has its vote, or a later term, on
 *     the device, in both slots of the raft state (contract rule 1);
 *   - log matching: entries of equal index and term have equal chain values (base/entry.h), so all before them is equal too;
 *   - leader completeness: a new leader has every entry that was committed in an earlier term;
 *   - state machine safety: what one node has committed at an index no other has otherwise, and nobody replaces it; what is
 *     applied is what is committed; equal apply hashes at equal applied indexes;
 *   - what is committed was made durable by a majority, in its present form (rules 2 to 4), and whatever a node calls durable has
 *     no unsynced sector in the log's files and no unsynced name;
 *   - applied <= commit <= last index; within the life of a process, the term, and the commit and applied indexes, never go
 *     back; one vote in a term, over restarts too;
 *   - within a life, what is durable is replaced by entries of another term only, and never just goes;
 *   - a snapshot that counts is durable, with its name (rule 5);
 *   - a node that starts again still has what it had made durable, in the same form, and the term and vote that it had; after
 *     crashes alone it is certain;
 *   - one that is certain again, after it was not, has all that was committed before it came back.
 *
 * A node whose disk was damaged is exempt from the last rule but one as far as sim_checker_damaged says, and no further; when entries
 * that it had made durable are gone, it must know that (`uncertain`).
 *
 * Each entry is looked at once on each node; the rest costs a constant time for each turn.
 */
#ifndef CORACLE_SIM_CHECKER_H
#define CORACLE_SIM_CHECKER_H

#include "replica/replica.h"
#include "sim/sim_disk.h"

struct sim_checked_node {
    bool running;
    bool new_life;      /* started, and not looked at since */
    bool known;         /* there was a status once */
    bool was_uncertain; /* it may have crashed before it had saved that it is certain */
    bool damaged, state_damaged;
    raft_index first_damaged;
    raft_index had_before_damage; /* how far its log was durable then, and may have been acknowledged */
    bool owes; /* it was uncertain; then it must have what is committed up to there before it is certain */
    raft_index owed_index;
    struct raft_status last; /* of this life, or the one before */

    uint32_t *chains; /* by index: of its log, as far as it was seen; 0: it wasn't */
    size_t chain_capacity;
    raft_index seen_last;   /* as of the last look: the end of its log */
    raft_index proven_last; /* the last entry of its log that it ever had durable */
    raft_index snapshot_index;

    /* As it stopped: what both slots held. */
    bool has_saved;
    raft_term saved_term;
    member_id saved_vote;
};

/* What the checker sees of a node. */
struct sim_checker_view {
    /* False when it has none. */
    bool (*status)(void *user, unsigned node, struct replica_status *out);
    /* As replica_entry_at, and replica_applied_chain. */
    bool (*entry)(void *user, unsigned node, raft_index index, raft_term *term, uint32_t *chain);
    uint32_t (*applied_chain)(void *user, unsigned node);
    /* May be NULL: disks aren't looked at. */
    const struct sim_disk *(*disk)(void *user, unsigned node);
};

struct sim_known_entry; /* an entry that some node has, or had */
struct sim_committed_in;

struct sim_checker {
    struct sim_world *world;
    unsigned node_count;
    struct sim_checked_node nodes[SIM_NODES_MAX];
    unsigned *leaders; /* by term: node + 1, or 0 */
    size_t leader_capacity;
    uint64_t *hashes;   /* by applied index; 0: not seen yet */
    uint8_t *hash_from; /* which node it was seen at first */
    size_t hash_capacity;
    struct sim_known_entry *entries;
    size_t entry_count, entry_capacity;
    uint32_t *entry_of; /* by index: the newest of `entries` with that index, from 1 */
    size_t entry_of_capacity;
    raft_index commit;   /* the highest that any node knew */
    uint32_t *committed; /* by index: the chain value; 0: not known */
    size_t committed_capacity;
    struct sim_committed_in *committed_in; /* up to where each term's leader committed */
    size_t committed_in_count, committed_in_capacity;
    uint64_t checks, elections, entries_compared;
    bool violated;
    char text[512];
    struct sim_checker_view view;
    void *user; /* the view's */
    /* Where its files are. */
    const char *log_prefix;
    const char *state_file;
    const char *snapshot_directory;
};

/* The view is the caller's to fill in, and the paths when they aren't those of sim_cluster.c. */
void sim_checker_init(struct sim_checker *checker, struct sim_world *world, unsigned node_count);
void sim_checker_free(struct sim_checker *checker);
/* Another one that knows the same; world, view and user are the caller's to change. */
void sim_checker_copy(struct sim_checker *out, const struct sim_checker *checker);

void sim_checker_started(struct sim_checker *checker, unsigned node);
/* Before its disk goes the way of the power. */
void sim_checker_stopped(struct sim_checker *checker, unsigned node);
/* After a turn of the node. */
void sim_checker_look(struct sim_checker *checker, unsigned node);

/* The node's disk was damaged: from its next start on it may lack entries from `first_lost` on (0: none), and with `state` its
   term and vote too. It is excused until it started certain again. */
void sim_checker_damaged(struct sim_checker *checker, unsigned node, raft_index first_lost, bool state);

/* The first violation counts; the others are its consequences. */
void sim_checker_violated(struct sim_checker *checker, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
