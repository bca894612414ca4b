/*
 * replica.h - one member's whole deterministic state: consensus, store, sessions, requests under way.
 *
 * replica_step takes one event and adds to a list of effects; the host (drive/) carries them out. Pure, as raft.h is,
 * whose contract ("persist before you speak") and turns hold here too. The host steps REPLICA_FLUSH at the end of
 * each turn of its loop.
 *
 * A write's way:    REPLICA_PROPOSE -> raft (or PEER_FORWARD to the leader) -> write, messages -> … committed
 *                   -> applied to the store -> replica_result
 * A read's way:     REPLICA_READ -> gathered until the flush -> read barrier -> applied far enough -> replica_result;
 *                   the host then reads replica_store() at once
 *
 * A request is named by the host's own number (`request`); each gets exactly one result, ERR_TIMEOUT at the latest when
 * request_timeout has passed. A write that timed out may still happen: its outcome is unknown, and it is never proposed
 * again. A forwarded command is sent again only when the peer said that it didn't propose it.
 */
#ifndef CORACLE_REPLICA_REPLICA_H
#define CORACLE_REPLICA_REPLICA_H

#include "raft/raft.h"
#include "replica/command.h"
#include "replica/content_scrub.h"
#include "storage/snapshot.h"
#include "store/leases.h"
#include "store/store.h"
#include "store/txn.h"

/* Limits that change what apply does are replicated state; they travel in the snapshot's SESSIONS and CONTENT_SCRUB chunks. */
#define REPLICA_HISTORY_BYTES_BUDGET (32ull * 1024 * 1024)

/* Half of the window in which repeats are recognised (sessions.h). */
#define REPLICA_REQUESTS_LIMIT 8192u

struct replica_config {
    struct raft_config raft;
    uint64_t cluster_id;
    uint64_t incarnation;                        /* of this member's commands; see replica_incarnation */
    struct snapshot_member members[MEMBERS_MAX]; /* at the first start; later the snapshot's rule */
    uint32_t member_count;
    uint64_t snapshot_log_bytes_min; /* a snapshot starts when the log since the last one passes the larger of this */
    uint32_t snapshot_state_percent; /* and this share of the state's size */
    uint64_t snapshot_slice_bytes;   /* about so much of one is produced at a time; 0: as the format aims at */
    uint64_t history_bytes_budget;   /* at the first start, the same for all members; later the snapshot's rules */
    struct content_scrub_limits content_scrub; /* likewise */
    uint32_t requests_max;                     /* writes under way, and as many reads; above it ERR_TOO_MANY; at most
                                        REPLICA_REQUESTS_LIMIT */
    time_ns request_timeout;                   /* api_timeout: of a request that this member handles itself */
    time_ns forward_timeout;                   /* api_fwd_timeout: of one that the leader has to help with */
};

enum replica_event_type {
    REPLICA_TICK,
    REPLICA_FLUSH,
    REPLICA_MESSAGE,       /* message: any type but GOODBYE; borrowed */
    REPLICA_PROPOSE,       /* request, entry (moved): a command without identity */
    REPLICA_READ,          /* request: a linearizable read */
    REPLICA_WANT_SNAPSHOT, /* request: a snapshot of this member's that holds all that was acknowledged before; answered
                                once it counts, or ERR_NOT_READY when making it was given up */
    REPLICA_LEASE_RENEW, /* request, lease: gives it its whole TTL again; the result's ttl_s and granted_ttl_s are that.
                              ERR_LEASE_NOT_FOUND; of one that has expired only after it was revoked */
    REPLICA_LEASE_TIME,  /* request, lease: the result has granted_ttl_s and in ttl_s what is left, rounded down; 0 when
                              it has expired and isn't revoked yet. ERR_LEASE_NOT_FOUND */
    REPLICA_STATE_SAVED, /* number, incarnation: as saved */
    REPLICA_LOG_WRITTEN, /* number, bytes written */
    REPLICA_LOG_READ,    /* peer, entries (borrowed), count; none: the log doesn't have them any more */
    REPLICA_SNAPSHOT_SAVED,  /* index: the member's own snapshot counts (contract rule 5); first_index: the log's now */
    REPLICA_SNAPSHOT_FAILED, /* the snapshot under way was given up */
    REPLICA_SNAPSHOT_SENT,   /* peer, index, rejected */
    REPLICA_PEER_CONNECTED,  /* peer, incarnation (of the peer) */
    REPLICA_PEER_LOST,       /* peer, crashed */
    REPLICA_TRANSFER,        /* hand leadership over, if leader */
    REPLICA_DISK_FULL,       /* full: refuse proposals, or accept them again */
};

struct replica_event {
    enum replica_event_type type;
    time_ns now;
    uint64_t request;
    uint64_t lease;
    struct entry *entry;
    const struct peer_message *message;
    uint64_t number;
    uint64_t bytes;
    member_id peer;
    uint64_t incarnation;
    raft_term term; /* PEER_CONNECTED: the peer's durable term, from its greeting */
    raft_index index;
    raft_index first_index;
    struct entry *const *entries;
    uint32_t entry_count;
    bool crashed;
    bool rejected;
    bool full;
};

/* What a command answers that holds more than numbers. It owns references to the records. */
struct replica_outcome {
    struct arena arena;
    struct txn_answer answer;
};
void replica_outcome_free(struct replica_outcome *outcome); /* may be NULL */

struct replica_result {
    uint64_t request;
    enum error error;        /* for a delete of nothing: ERR_OK with count 0 */
    store_revision revision; /* of the store after the command, or at the read */
    uint64_t count;          /* delete, revoke: keys deleted; put: 1 when the key was there before */
    raft_index index;        /* of a wanted snapshot; then `revision` is the snapshot's */
    int64_t ttl_s;           /* LEASE_RENEW, LEASE_TIME */
    int64_t granted_ttl_s;   /* likewise */
    struct replica_outcome
        *outcome; /* of a transaction, or where the previous version was wanted; else NULL. The effects'
                                        own, until the next replica_effects_clear; who takes it, sets NULL */
};

struct replica_effects {
    struct raft_effects raft; /* messages, write, save, log_reads, snapshot_peers: as raft.h says */
    struct replica_result *results;
    uint32_t result_count, result_capacity;
    bool snapshot_due;   /* the host should make a snapshot now (replica_snapshot_*); it may ignore it */
    bool snapshot_chunk; /* the PEER_SNAPSHOT message just stepped is to be stored: its sender leads */
    bool fatal;          /* the member can't go on: fatal_text says why; the host exits */
    char fatal_text[256];
};

void replica_effects_clear(struct replica_effects *effects);
void replica_effects_free(struct replica_effects *effects);

struct replica;

/* ---- recovery: new, [snapshot], entries and commits in order, start ---- */

struct replica *replica_new(const struct replica_config *config, struct logger *logger);
void replica_free(struct replica *replica);

/*
 * Loading a snapshot, at recovery or while serving (a leader's): the chunks in order, END excluded. Serving goes on
 * with the old state until the finish, which swaps. `header` is borrowed. Errors: ERR_DAMAGED, ERR_BAD_VERSION,
 * ERR_WRONG_CLUSTER; then replica_load_abandon.
 */
enum error replica_load_begin(struct replica *replica, const struct snapshot_header *header);
enum error replica_load_chunk(struct replica *replica, enum snapshot_chunk_type type, struct bytes payload);
void replica_load_abandon(struct replica *replica);
/* At recovery; before replica_boot. */
enum error replica_load_finish(struct replica *replica);
/* The chain value of the last entry that the snapshot being loaded covers. */
uint32_t replica_loaded_chain(const struct replica *replica);
/* While serving, before the log is reset: false when the snapshot isn't needed any more (the log caught up), and all is as
   before. Else no append is taken and no write issued until replica_install_finish or replica_load_abandon. */
bool replica_install_prepare(struct replica *replica);
/* While serving: swaps the state, resets the log to (index, term) of the snapshot, and adds to the effects. Requests that
   were waiting and whose outcome the snapshot hides fail with ERR_TIMEOUT. */
enum error replica_install_finish(struct replica *replica, time_ns now, struct replica_effects *effects);

/* After the snapshot (or none): consensus starts from `boot`, whose snapshot fields are filled in by the replica. */
void replica_boot(struct replica *replica, const struct raft_boot *boot);
/* The recovered log; entries are moved. What is known to be committed is applied at once, so memory stays bounded. */
void replica_recover_entry(struct replica *replica, struct entry *entry);
void replica_recover_commit(struct replica *replica, raft_index commit);
void replica_recover_uncertain(struct replica *replica, const struct raft_uncertainty *uncertainty);

void replica_step(struct replica *replica, const struct replica_event *event, struct replica_effects *effects);
time_ns replica_deadline(const struct replica *replica);

/* ---- making a snapshot, in slices, while serving ---- */

/* Pins the state at the last applied index that is locally durable (contract rule 5) and fills the header. ERR_NOT_READY
   when the applied index isn't durable here, or a snapshot is under way, or nothing is new. */
enum error replica_snapshot_begin(struct replica *replica, uint64_t snapshot_id, struct snapshot_header *header);
/* The snapshot that counted is lost or damaged: the next one may be of the same index. */
void replica_snapshot_lost(struct replica *replica);
/* Appends chunks for about snapshot_slice_bytes; *done when the last one, END excluded, was appended. */
void replica_snapshot_next(struct replica *replica, struct snapshot_writer *writer, struct buffer *out, bool *done);
/* Releases the pin; also to give up early. */
void replica_snapshot_end(struct replica *replica);

/* ---- looking at it ---- */

const struct store *replica_store(const struct replica *replica);
/* What every answer of the etcd interface names. */
void replica_identity(const struct replica *replica, uint64_t *cluster_id, member_id *self, raft_term *term);
/* 0: nobody that is known. */
member_id replica_leader(const struct replica *replica);
/* An id for a lease that nobody has chosen: positive, and as good as unique for each `count` of this member's life. */
uint64_t replica_new_lease_id(const struct replica *replica, uint64_t count);
/*
 * The incarnation that this member's commands have, or will have once it is saved: with each save the host saves it as
 * well, and reports it with REPLICA_STATE_SAVED. It grows when the member learns from what it applies that it once had
 * a later one: its disk was wiped, and the clock, from which it counted, was behind. Its commands would count as
 * repeats.
 */
uint64_t replica_incarnation(const struct replica *replica);
/* The chain value of the last applied entry. */
uint32_t replica_applied_chain(const struct replica *replica);
/* For checkers: as raft_entry_at. */
bool replica_entry_at(const struct replica *replica, raft_index index, raft_term *term, uint32_t *chain);

struct replica_status {
    struct raft_status raft;
    uint64_t cluster_id;
    member_id self;
    struct snapshot_member members[MEMBERS_MAX];
    uint32_t member_count;
    store_revision revision;
    uint64_t apply_hash; /* after raft.applied */
    raft_index snapshot_index;
    bool diverged; /* this member's state differs from the majority's: it doesn't serve */
    bool disk_full;
    uint64_t proposals_applied, proposals_failed, proposals_pending; /* for metrics */
    uint64_t leader_changes;
    uint64_t reads, read_rounds;
    uint64_t leases_expired, leases_renewed; /* by this member, as the leader */
};
void replica_status(const struct replica *replica, struct replica_status *out);

#endif
