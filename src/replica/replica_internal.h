/*
 * replica_internal.h - the replica's state, shared by the files of this folder and nobody else.
 *
 *     replica.c           life, events, status
 *     apply.c             committed entries to the store; compaction; the apply hash
 *     requests.c          writes under way, here and forwarded
 *     reads.c             linearizable reads under way
 *     lessor.c            a leader's clock of leases
 *     lease_requests.c    renewals of leases, and questions for their time, under way
 *     replica_snapshot.c  making and loading snapshots
 *     divergence.c        comparison of apply hashes between members
 *     content_scrub.c     what is in memory, into the apply hash
 */
#ifndef CORACLE_REPLICA_REPLICA_INTERNAL_H
#define CORACLE_REPLICA_REPLICA_INTERNAL_H

#include "base/check.h"
#include "base/mem.h"
#include "replica/content_scrub.h"
#include "replica/lease_queue.h"
#include "replica/lessor.h"
#include "replica/replica.h"
#include "replica/sessions.h"
#include "store/store_snapshot.h"

/* Slots for writes under way, by sequence; twice the limit, so that a free one is near. */
#define REQUEST_SLOTS (2u * REPLICA_REQUESTS_LIMIT)
_Static_assert(REQUEST_SLOTS <= SESSION_WINDOW, "a command under way is inside the window of repeats");

/* A write under way. */
struct pending_write {
    uint64_t request;
    uint64_t sequence; /* 0: the slot is free */
    time_ns deadline;
    raft_term term;          /* in which it was proposed or forwarded last */
    struct entry *forwarded; /* kept while the leader may still refuse it; else NULL */
    uint32_t forward_count;
};

enum reader_kind {
    READER_READ,
    READER_SNAPSHOT, /* it wants a snapshot, of an index that the barrier gives */
    READER_LEASE,    /* `request` is the sequence of a lease request, for which this member has to lead */
};

struct pending_reader {
    uint64_t request;
    time_ns deadline;
    raft_index index; /* readable once this is applied; 0 while no barrier was confirmed */
    enum reader_kind kind;
};

/* A request that waits for a snapshot at or after an index. */
struct snapshot_want {
    uint64_t request;
    raft_index index;
};

struct reader_list {
    struct pending_reader *items;
    uint32_t count, capacity;
};

enum lease_request_state {
    LEASE_DONE,          /* a place that is free */
    LEASE_CONFIRMING,    /* a barrier has to say that this member leads */
    LEASE_UNSENT,        /* there is no leader to hand it to, or it refused: tried again soon */
    LEASE_FORWARDED,     /* the leader has it */
    LEASE_UNTIL_APPLIED, /* the leader answered; what it had applied has to be applied here */
    LEASE_UNTIL_RESET,   /* this member leads: the log has to forget what was left of the lease */
    LEASE_UNTIL_REVOKED, /* this member leads: the lease has expired */
};

/* Renewing twice does no harm: it is handed on again as often as it takes. */
struct lease_request {
    enum lease_request_state state;
    bool renew;       /* else its time is asked for */
    uint64_t request; /* the host's number, of a client of this member */
    member_id from;   /* else 0; who handed it on, and what it calls it: */
    uint64_t context;
    uint64_t incarnation;
    uint64_t lease;
    time_ns deadline;
    raft_index index; /* UNTIL_APPLIED, UNTIL_RESET: once this is applied; 0: not proposed yet */
    enum error error; /* UNTIL_APPLIED: the leader's answer */
    int64_t ttl_s, granted_ttl_s;
};

/* By sequence: items[i] has first_sequence + i; those before `head` are done. */
struct lease_requests {
    struct lease_request *items;
    uint32_t head, count, capacity;
    uint64_t first_sequence;
    uint32_t own_count, peer_count; /* those that aren't done */
    uint32_t unsettled_count;       /* of these, UNTIL_… */
    time_ns deadline;               /* no later than the first of theirs; or TIME_NS_NEVER */
    time_ns retry_at;               /* of those UNSENT; or TIME_NS_NEVER */
};

struct proposed_revoke {
    uint64_t lease;
    raft_index index;
};

struct lessor {
    bool leads;     /* the leases have deadlines */
    raft_term term; /* in which it leads */
    struct lease_queue queue;
    struct proposed_revoke revokes[LESSOR_REVOKES_UNDER_WAY_MAX]; /* a ring */
    uint32_t revokes_first, revoke_count;
    struct buffer resets;          /* checkpoints with 0, to be proposed at the end of the turn */
    raft_index batch_index;        /* the last batch of checkpoints; 0: none */
    raft_index reset_index;        /* the last resets; 0: none */
    raft_index checkpoint_applied; /* the last checkpoint of any kind that had its effect */
    bool blocked;                  /* enough is under way: there is nothing to do until more is applied */
    time_ns retry_at;              /* a proposal was refused */
    uint64_t expired, renewed;     /* for metrics */
};

/* Apply hashes of the last indexes, for comparison; a ring by index. */
#define HASH_RING 1024u

struct hash_point {
    raft_index index;
    uint64_t hash;
};

/* Reports of a member that differs, by index, to be compared with those of others that do. */
#define PEER_REPORTS_KEPT 32u

/* What a leader knows of another member's state. */
struct peer_hash {
    raft_index agreed;        /* the newest index at which it agreed; 0: none yet */
    raft_index differs_since; /* the oldest index at which it is known to differ; 0: it isn't */
    struct hash_point reports[PEER_REPORTS_KEPT];
    bool told; /* that it differs from the majority */
};

struct replica {
    struct replica_config config;
    struct logger *logger;
    struct raft *raft; /* NULL before replica_boot */
    struct store *store;
    struct sessions sessions;
    struct content_scrub scrub;
    time_ns now;

    struct arena apply_arena; /* of the transaction that is being applied */
    raft_index applied;
    raft_term applied_term;
    uint32_t applied_chain;
    uint64_t apply_hash;
    struct hash_point hashes[HASH_RING];
    struct peer_hash peer_hashes[MEMBERS_MAX];
    time_ns undecided_since; /* a member differs, and nobody could say yet who is right; 0: none does */
    bool diverged;
    bool disk_full;

    /* Writes. */
    struct pending_write *writes; /* REQUEST_SLOTS */
    uint32_t write_count;
    uint64_t next_sequence;
    uint64_t oldest_sequence;         /* none under way is older */
    struct sessions forwards_taken;   /* what this member proposed for others in this life; not replicated */
    struct sessions forwards_refused; /* and what it said that it didn't */
    uint64_t
        replied[MEMBERS_MAX]; /* forwarded commands of each member that were applied since the last flush: newest */

    /* Reads. */
    struct reader_list gathered; /* wait for the next barrier */
    struct reader_list in_round; /* the barrier under way is for these */
    struct reader_list waiting;  /* for their index to be applied, in order */
    uint64_t read_context;       /* of the barrier under way */
    bool round_active;

    /* Leases. */
    struct lessor lessor;
    struct lease_requests lease_requests;
    raft_index leases_settled_at; /* applied by then */

    /* Compaction. */
    store_revision compaction_proposed;
    bool compaction_pending; /* slices are left to free */

    /* Snapshots. */
    uint64_t log_bytes_since_snapshot;
    uint64_t log_bytes_at_begin;
    raft_index snapshot_index; /* of the last one that counts */
    store_revision snapshot_revision;
    store_revision making_revision;
    struct snapshot_want *wants;
    uint32_t want_count, want_capacity;
    bool snapshot_active;
    raft_index making_index;
    struct store_snapshot_writer snapshot_writer;
    struct buffer snapshot_sessions; /* as of the snapshot's index */
    struct buffer snapshot_scrub;    /* likewise */
    bool snapshot_sessions_written;
    bool snapshot_leases_left; /* slices of them */
    struct buffer snapshot_scratch;

    /* A snapshot that is being loaded, beside the state that serves. */
    bool loading;
    bool installing;
    struct snapshot_header load_header;
    struct store *load_store;
    struct store_loader *loader;
    struct sessions load_sessions;
    bool load_sessions_seen;
    struct content_scrub load_scrub;
    bool load_scrub_seen;

    uint64_t proposals_applied, proposals_failed, leader_changes, reads, read_rounds;
    member_id last_leader;
    uint64_t wanted_incarnation; /* 0, or one that is to be saved, and used from then on */
};

void replica_add_result(struct replica_effects *effects, const struct replica_result *result);
/* One with nothing but an error, or a revision. */
void replica_add_plain_result(struct replica_effects *effects, uint64_t request, enum error error,
                              store_revision revision);
void replica_fatal(struct replica_effects *effects, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Steps raft with the replica's time. */
void replica_raft(struct replica *replica, struct raft_event *event, struct replica_effects *effects);

/* ---- apply.c ---- */
/* Applies what is committed. `effects` may be NULL during recovery. */
void apply_committed(struct replica *replica, struct replica_effects *effects);
/* Gives memory of compacted versions back, a slice; proposes compaction when the history is over its budget. */
void apply_housekeeping(struct replica *replica, struct replica_effects *effects);

/* ---- requests.c ---- */
void requests_propose(struct replica *replica, uint64_t request, struct entry *entry, struct replica_effects *effects);
/* The replica's own command (compaction, leases): no result. ERR_NO_LEADER, ERR_TOO_MANY; else its index is in
   effects->raft.proposed_index, and it takes effect there, if this member still leads by then. */
enum error requests_propose_own(struct replica *replica, struct entry *entry, struct replica_effects *effects);
void requests_on_forward(struct replica *replica, const struct peer_message *message, struct replica_effects *effects);
void requests_on_forward_reply(struct replica *replica, const struct peer_message *message,
                               struct replica_effects *effects);
/* Whether a request of a client of this member waits for the command. */
bool requests_waits_for(const struct replica *replica, const struct command *command);
/* The command (of any member) was applied; `result` has no request yet. Its outcome is moved. */
void requests_applied(struct replica *replica, const struct command *command, struct replica_result *result,
                      struct replica_effects *effects);
/* A leader's first entry of `term` was applied: what was proposed in earlier terms, and isn't in the log by now, won't be. */
void requests_new_term(struct replica *replica, raft_term term, struct replica_effects *effects);
void requests_flush(struct replica *replica, struct replica_effects *effects);
void requests_expire(struct replica *replica, struct replica_effects *effects);
/* After a snapshot was installed: the outcome of what it covers isn't known. */
void requests_after_install(struct replica *replica, struct replica_effects *effects);
/* This member no longer serves: ends all that is under way. */
void requests_stop(struct replica *replica, enum error error, struct replica_effects *effects);
time_ns requests_deadline(const struct replica *replica);
void requests_free(struct replica *replica);

/* ---- reads.c ---- */
/* `kind`: a read or a snapshot. */
void reads_add(struct replica *replica, uint64_t request, enum reader_kind kind, struct replica_effects *effects);
void reads_add_lease(struct replica *replica, uint64_t sequence, time_ns deadline);
void reads_flush(struct replica *replica, struct replica_effects *effects);
/* Takes raft's answers in effects->raft.reads. */
void reads_take_answers(struct replica *replica, struct replica_effects *effects);
/* The applied index moved. */
void reads_applied(struct replica *replica, struct replica_effects *effects);
void reads_expire(struct replica *replica, struct replica_effects *effects);
void reads_stop(struct replica *replica, enum error error, struct replica_effects *effects);
time_ns reads_deadline(const struct replica *replica);
void reads_free(struct replica *replica);

/* ---- lessor.c ---- */
/* Begins and ends with leadership: called before anything that depends on it, with what raft says now. */
void lessor_follow(struct replica *replica, const struct raft_status *status, struct replica_effects *effects);
/* The deadlines are worth nothing any more; they begin anew if this member still leads. */
void lessor_stop(struct replica *replica, struct replica_effects *effects);
/* The end of a turn: proposes what is due, a slice. */
void lessor_flush(struct replica *replica, struct replica_effects *effects);
/* More is applied. */
void lessor_settle(struct replica *replica);
/* The commands, as they are applied; the revoke's before that. */
void lessor_granted(struct replica *replica, uint64_t id);
void lessor_revoking(struct replica *replica, uint64_t id);
void lessor_checkpointed(struct replica *replica, uint64_t id);
/* While it leads: */
bool lessor_has_expired(const struct replica *replica, const struct lease *lease);
/* A renewal came, and the lease hasn't expired. */
void lessor_extend(struct replica *replica, struct lease *lease);
/* The renewal may be acknowledged once *index is applied (0: it isn't known before the end of the turn). */
bool lessor_needs_reset(struct replica *replica, struct lease *lease, raft_index *index);
int64_t lessor_left_s(const struct replica *replica, const struct lease *lease);
time_ns lessor_deadline(const struct replica *replica);
void lessor_free(struct replica *replica);

/* ---- lease_requests.c ---- */
void lease_requests_add(struct replica *replica, const struct replica_event *event, struct replica_effects *effects);
void lease_requests_on_message(struct replica *replica, const struct peer_message *message,
                               struct replica_effects *effects);
void lease_requests_on_reply(struct replica *replica, const struct peer_message *message,
                             struct replica_effects *effects);
/* The barrier: this member led after the request came, and has applied all that was committed by then; or it doesn't
   know. */
void lease_requests_confirmed(struct replica *replica, uint64_t sequence, struct replica_effects *effects);
void lease_requests_unconfirmed(struct replica *replica, uint64_t sequence, struct replica_effects *effects);
/* Resets were proposed at the index; or couldn't be. */
void lease_requests_resets_proposed(struct replica *replica, enum error error, raft_index index,
                                    struct replica_effects *effects);
/* More is applied. */
void lease_requests_settle(struct replica *replica, struct replica_effects *effects);
/* What was sent may be lost: to another leader, if there is one. */
void lease_requests_send_again(struct replica *replica, struct replica_effects *effects);
/* This member leads no more. */
void lease_requests_deposed(struct replica *replica, struct replica_effects *effects);
void lease_requests_expire(struct replica *replica, struct replica_effects *effects);
void lease_requests_stop(struct replica *replica, enum error error, struct replica_effects *effects);
time_ns lease_requests_deadline(const struct replica *replica);
void lease_requests_free(struct replica *replica);

/* ---- replica_snapshot.c ---- */
/* The request is answered once a snapshot of what is applied now counts. */
void snapshot_want(struct replica *replica, uint64_t request, struct replica_effects *effects);
/* Somebody waits for a snapshot newer than the last one. */
bool snapshot_is_wanted(const struct replica *replica);
/* A snapshot counts: those that waited for it are answered. */
void snapshot_wants_saved(struct replica *replica, struct replica_effects *effects);
/* Nobody will get one. */
void snapshot_wants_fail(struct replica *replica, enum error error, struct replica_effects *effects);

/* ---- divergence.c ---- */
void divergence_note_applied(struct replica *replica);
/* Adds this member's newest hash to what goes out. */
void divergence_stamp(struct replica *replica, struct replica_effects *effects);
/* An append reply: what another member applied. */
void divergence_compare(struct replica *replica, const struct peer_message *message, struct replica_effects *effects);
/* The member may have started anew, with another state. */
void divergence_forget(struct replica *replica, member_id peer);
/* Leadership changed. */
void divergence_forget_all(struct replica *replica);
void divergence_on_diverged(struct replica *replica, const struct peer_message *message,
                            struct replica_effects *effects);

#endif
