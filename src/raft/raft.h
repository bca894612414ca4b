/*
 * raft.h - the consensus algorithm as a pure state machine. (Voter, LeaderElectionAlgorithm,
 * LeaderElectionManager, LeaderHeartbeatController, EntryReplicationController, RaftStateManager)
 *
 * raft_step takes one event and adds to a list of effects. It makes no system call, reads no clock and draws
 * no random number that it wasn't given a seed for: time is in the event.
 *
 * Sources: Ongaro's dissertation, figure 3.1 (the rules), §3.8 (timing), §3.10 (transfer), §4.2.3
 * (stickiness), §6.4 (linearizable reads), §9.6 (PreVote), §10.2 (pipelining, the leader's parallel write).
 *
 * ---- Persist before you speak ----
 *
 * The contract's numbers, cited by code and tests:
 *
 *   1. A vote, or a step into a new term, is durable before any message that reveals it leaves.
 *   2. A follower's acknowledgement of index i leaves after entry i and all before it are durable.
 *   3. The leader counts itself for index i after its own write of i is durable, not before.
 *   4. A client hears of success after its entry is committed, and applied on the member it is connected to.
 *   5. A snapshot counts after file and directory are synced and it was read back; only then may log go.
 *   6. Completions name the write that they complete by its own number.
 *   7. A failed write or sync ends 1 to 5 for this process.
 *
 * Raft keeps 1, 2, 3 and 6 itself: a message that waits for a save or a write stays inside until the host reports
 * that save or write by its number (RAFT_STATE_SAVED, RAFT_LOG_WRITTEN). At most one save and one write are under
 * way at a time; whatever gathered meanwhile becomes the next.
 *
 * ---- Turns ----
 *
 * Proposals, reads and messages only change state; what many of them share is sent by RAFT_FLUSH, which the host
 * steps at the end of a turn of its loop: one append to each follower, one log write, one read barrier round.
 *
 * ---- Uncertain ----
 *
 * A member whose log is damaged, or whose disk was wiped, is uncertain: entries that it acknowledged may be missing.
 * Until that is resolved it
 *   - never campaigns, and votes only for a candidate whose log is at least as up-to-date as the last entry that it
 *     knows it had, and not at all when nobody can tell how far its log reached (extent unknown, or wiped);
 *   - marks its acknowledgements `uncertain`: they count for no quorum, neither commit, nor read index, nor CheckQuorum.
 * It is resolved when it holds, durably, everything up to a read index that a leader confirmed (with a quorum that
 * doesn't count it) after this member came back: leader completeness puts every entry that it can have acknowledged
 * and that was committed at or before that index.
 *
 * Of a wiped member term and votes are lost as well. It asks for that read index only once it heard the term of every
 * other member since it started, and steps into the highest of them first: whoever it voted for or followed has been in
 * that term since, at least. Resolved, it votes in later terms only.
 *
 * ---- Memory ----
 *
 * Entries are kept in memory while they are not yet durable, committed and applied, and beyond that up to a budget,
 * for peers. Older ones are asked back from the host (RAFT_EFFECT_READ_LOG) when a follower needs them; from before the
 * first index on, a snapshot is sent.
 */
#ifndef CORACLE_RAFT_RAFT_H
#define CORACLE_RAFT_RAFT_H

#include "base/entry.h"
#include "base/error.h"
#include "base/log.h"
#include "base/peer_message.h"
#include "base/random.h"
#include "base/types.h"

enum raft_role { RAFT_FOLLOWER, RAFT_PRE_CANDIDATE, RAFT_CANDIDATE, RAFT_LEADER };

struct raft_config {
    member_id self;
    member_id members[MEMBERS_MAX]; /* all voters, self among them */
    uint32_t member_count;
    time_ns election_timeout; /* a follower waits between one and two of these */
    time_ns heartbeat_interval;
    bool quick_start;            /* a member that starts asks for votes soon, and not after an election timeout: PreVote
                                  keeps it from disturbing a leader that it hasn't heard of yet */
    uint64_t seed;               /* for the randomised timeouts */
    uint64_t append_bytes_max;   /* records in one append message, unless a single one is longer */
    uint64_t inflight_bytes_max; /* records sent to a follower and not acknowledged */
    uint64_t cache_bytes_max;    /* records kept in memory for peers */
    uint64_t unapplied_bytes_max; /* proposals are refused (ERR_TOO_MANY) while more than this is not applied */
};

/* What recovery found. All zero: a fresh member. */
struct raft_boot {
    raft_term term;
    member_id vote;
    raft_index snapshot_index; /* entry before the first one of the log, and what it was */
    raft_term snapshot_term;
    uint32_t snapshot_chain;
    raft_term no_vote_before_term; /* of a wiped member: 1 at its first start, later as it was saved; else 0 */
};

/* The log may lack entries that this member acknowledged (see 'Uncertain'). */
struct raft_uncertainty {
    bool extent_known; /* nothing after (known_last_index, known_last_term) was ever acknowledged */
    raft_index known_last_index;
    raft_term known_last_term;
};

enum raft_event_type {
    RAFT_TICK,          /* time passed; needed at the latest at raft_deadline */
    RAFT_FLUSH,         /* the end of a turn: send and write what gathered */
    RAFT_MESSAGE,       /* message: any type; of snapshots and forwarding it takes term, leader and commit */
    RAFT_PROPOSE,       /* entry, moved */
    RAFT_READ,          /* context: a read barrier for all reads gathered by the host; on any member */
    RAFT_STATE_SAVED,   /* number */
    RAFT_LOG_WRITTEN,   /* number */
    RAFT_LOG_READ,      /* peer, entries (borrowed): the answer to RAFT_EFFECT_READ_LOG; none: they are gone */
    RAFT_APPLIED,       /* index: the host applied up to it */
    RAFT_LOG_REMOVED,   /* index: a snapshot counts, and the log begins at this index now */
    RAFT_INSTALL_BEGIN, /* a leader's snapshot is about to replace the log: no append and no write until it has */
    RAFT_INSTALL_ABANDON,
    RAFT_SNAPSHOT_INSTALLED, /* index, log_term, chain: it replaced state and log, durably */
    RAFT_SNAPSHOT_SENT,      /* peer: it has the snapshot with `index`; or (rejected) sending failed */
    RAFT_PEER_CONNECTED, /* peer, incarnation, log_term (the durable term in its greeting): a new connection; what was
                            in flight is lost */
    RAFT_PEER_LOST,      /* peer; crashed: its connection was reset or ended without a goodbye */
    RAFT_TRANSFER,       /* peer (0: the best follower): hand leadership over */
    RAFT_STEP_DOWN,      /* the host's state differs from the others': this member doesn't lead in this life any more;
                            its votes and acknowledgements count as ever, for the log is whole */
    RAFT_SAVE_STATE, /* the host keeps something beside term and vote that must become durable: there will be a save */
};

struct raft_event {
    enum raft_event_type type;
    time_ns now;
    const struct peer_message *message; /* borrowed; the entries in it are referenced where kept */
    struct entry *entry;
    struct entry *const *entries;
    uint32_t entry_count;
    member_id peer;
    uint64_t context;
    uint64_t number;
    uint64_t incarnation;
    raft_index index;
    raft_term log_term;
    uint32_t chain;
    bool crashed;
    bool rejected;
};

/* Records in one write, unless a single one is longer. */
#define RAFT_WRITE_BYTES_MAX (4ull * 1024 * 1024)

/* One write of the log: entries [first_index, last_index], which may replace what was at and after first_index. */
struct raft_write {
    uint64_t number;
    raft_index first_index;
    raft_index commit;
    raft_term previous_term; /* of the entry before the first */
    uint32_t previous_chain;
    struct entry **entries; /* owned by the effects: a reference each; move it out by setting it to NULL */
    uint32_t entry_count;
};

struct raft_save {
    uint64_t number;
    raft_term term;
    member_id vote;
    raft_term no_vote_before_term;
    bool catching_up;
};

/* Answers a RAFT_READ. */
struct raft_read_result {
    uint64_t context;
    raft_index index; /* readable once this is applied */
    enum error error; /* ERR_OK, ERR_NO_LEADER, ERR_LEADER_CHANGED */
};

struct raft_read_log {
    member_id peer;
    raft_index first_index;
    raft_index last_index;
    uint64_t bytes_max;
};

/* The arrays are grown by raft and reused; raft_effects_clear releases what wasn't moved out. */
struct raft_effects {
    struct peer_message *messages; /* to send now; all that they wait for is durable */
    uint32_t message_count, message_capacity;
    struct raft_read_result *reads;
    uint32_t read_count, read_capacity;
    struct raft_read_log *log_reads;
    uint32_t log_read_count, log_read_capacity;
    member_id *snapshot_peers; /* these need the snapshot */
    uint32_t snapshot_peer_count, snapshot_peer_capacity;
    struct raft_write write;  /* entry_count 0: none */
    struct raft_save save;    /* number 0: none */
    bool role_changed;        /* role, leader or term: see raft_status */
    enum error propose_error; /* of a RAFT_PROPOSE: ERR_OK, ERR_NO_LEADER (not the leader), ERR_TOO_MANY */
    raft_index proposed_index;
};

/* Adds a message (moved) that waits for nothing: for the replica's own messages, which reveal no term or vote. */
void raft_effects_add_message(struct raft_effects *effects, struct peer_message *message);
void raft_effects_clear(struct raft_effects *effects);
void raft_effects_free(struct raft_effects *effects);

struct raft;

/* `logger` is borrowed for the life of the object. */
struct raft *raft_new(const struct raft_config *config, const struct raft_boot *boot, struct logger *logger);
void raft_free(struct raft *raft);

/* During recovery, before the first event: adds recovered entries (moved), which may cut the log; and what is known
   to be committed. They count as durable. */
void raft_recover_entry(struct raft *raft, struct entry *entry);
void raft_recover_commit(struct raft *raft, raft_index commit);
void raft_recover_uncertain(struct raft *raft, const struct raft_uncertainty *uncertainty);

void raft_step(struct raft *raft, const struct raft_event *event, struct raft_effects *effects);

/* When the next RAFT_TICK is needed at the latest. */
time_ns raft_deadline(const struct raft *raft);

/* The committed entry at `index`, for applying; borrowed. CHECKs that applied < index <= commit. */
struct entry *raft_committed_entry(const struct raft *raft, raft_index index);

struct raft_peer_status {
    member_id id;
    raft_index match;
    raft_index next;
    bool recently_active; /* heard of within an election timeout */
    bool needs_snapshot;
    bool uncertain;
};

struct raft_status {
    enum raft_role role;
    raft_term term;
    member_id vote;
    member_id leader; /* 0: unknown */
    raft_index commit;
    raft_index applied;
    raft_index last_index;
    raft_term last_term;
    raft_index durable_index;
    raft_index first_index; /* the first entry that the log still has */
    bool uncertain;
    bool may_serve; /* leader, and an entry of its own term is committed */
    uint64_t unapplied_bytes;
    uint64_t cached_bytes;
    struct raft_peer_status peers[MEMBERS_MAX]; /* the others; a leader's view */
    uint32_t peer_count;
};
raft_term raft_current_term(const struct raft *raft);
void raft_status(const struct raft *raft, struct raft_status *out);

/* The term of the entry at `index`; 0 when the log doesn't reach there. */
raft_term raft_term_at(const struct raft *raft, raft_index index);

/* For checkers: term and chain value (base/entry.h) of an entry that is in memory, or of the one before those. False for
   any other index. */
bool raft_entry_at(const struct raft *raft, raft_index index, raft_term *term, uint32_t *chain);

const char *raft_role_name(enum raft_role role);

#endif
