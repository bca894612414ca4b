/*
 * raft_internal.h - the state of consensus, shared by the files of this folder and nobody else.
 *
 *     raft.c         events, terms, effects, what waits for durability
 *     election.c     PreVote, votes, timeouts, transfer of leadership
 *     replication.c  appends, progress of followers, commit
 *     read_index.c   read barriers
 */
#ifndef CORACLE_RAFT_RAFT_INTERNAL_H
#define CORACLE_RAFT_RAFT_INTERNAL_H

#include "base/check.h"
#include "base/mem.h"
#include "raft/raft.h"
#include "raft/raft_log.h"

enum progress_state {
    PROGRESS_PROBE,     /* one append at a time, to find where the logs match */
    PROGRESS_REPLICATE, /* pipelined */
    PROGRESS_SNAPSHOT,  /* the log no longer reaches back far enough */
};

#define PROGRESS_INFLIGHT_MAX 256

struct inflight {
    raft_index last_index;
    uint64_t bytes;
};

/* What a leader knows of one follower. */
struct progress {
    member_id id;
    enum progress_state state;
    raft_index match; /* durable there and equal to ours */
    raft_index next;
    bool connected;
    bool probe_sent;        /* PROBE: an append is under way; SNAPSHOT: the host was asked */
    bool log_read_pending;  /* the host reads entries for it */
    bool uncertain;         /* its acknowledgements count for no quorum */
    bool granted, rejected; /* of the current campaign */
    bool heard;             /* its term was heard since this member started, and then it was: */
    raft_term heard_term;
    uint64_t incarnation;
    time_ns last_heard;
    time_ns last_sent;
    time_ns last_advanced; /* when an acknowledgement last freed a part of what is in flight, or nothing was */
    uint64_t read_round;   /* the last read barrier round that it confirmed */
    struct inflight inflight[PROGRESS_INFLIGHT_MAX];
    uint32_t inflight_head, inflight_count;
    uint64_t inflight_bytes;
};

/* A message that waits until a save of term and vote is durable. */
struct waiting_message {
    struct peer_message message;
    uint64_t save_number;
};

/* A read barrier that was asked for, here (from 0) or by a follower. */
struct pending_read {
    member_id from;
    uint64_t context;
    raft_index index; /* once its round began */
};

struct raft {
    struct raft_config config;
    struct logger *logger;
    struct random random;
    struct raft_log log;
    time_ns now;

    enum raft_role role;
    raft_term term;
    member_id vote;
    member_id leader;
    raft_index commit;
    raft_index applied;
    uint64_t unapplied_bytes;

    /* Durability of term and vote. */
    bool begun; /* there was an event after recovery: saves are carried out */
    bool state_dirty;
    bool save_pending;
    uint64_t save_number; /* of the last save issued */
    struct waiting_message *waiting;
    uint32_t waiting_count, waiting_capacity;

    /* Uncertain (raft.h). */
    bool uncertain;
    bool extent_known;
    raft_index known_last_index;
    raft_term known_last_term;
    raft_term no_vote_before_term;
    bool resolve_asked;       /* a read index was asked for, to resolve it */
    time_ns resolve_asked_at; /* the question or its answer may get lost: then it is asked again */
    raft_index resolve_index; /* 0: none confirmed yet */

    /* Elections. */
    time_ns election_deadline;
    time_ns leader_heard; /* when this member last heard of a leader; 0: never */
    bool leader_crashed;  /* its connection was reset, or nobody leads yet: try quickly */
    uint32_t quick_tries;
    bool transfer_campaign;
    bool barred; /* from leading, by RAFT_STEP_DOWN */

    /* Follower. */
    raft_index verified; /* equal to the current leader's log up to here */
    bool ack_due;
    uint64_t ack_context;
    bool installing;       /* a snapshot is replacing the log */
    raft_index last_acked; /* what the last acknowledgement said */
    uint64_t last_acked_context;
    time_ns last_ack_at;

    /* Leader. */
    struct progress peers[MEMBERS_MAX];
    uint32_t peer_count;
    time_ns heartbeat_deadline;
    time_ns quorum_deadline;     /* CheckQuorum */
    raft_index term_first_index; /* of this leader's first entry */
    bool announce_commit;        /* at the next flush, by a heartbeat */
    member_id transfer_target;
    time_ns transfer_deadline;
    bool transfer_sent;

    /* Read barriers. */
    struct pending_read *reads; /* the first `round_reads` are in the round under way, the others wait for the next */
    uint32_t read_count, read_capacity;
    uint32_t round_reads;
    uint64_t read_round;
    struct pending_read *forwarded; /* asked of the leader; context only */
    uint32_t forwarded_count, forwarded_capacity;
};

/* As last_ack_at: the next heartbeat is answered whatever the last answer was. */
#define ACK_AT_ONCE (-TIME_NS_NEVER / 2)

/* The context of a read that raft itself asks for, to resolve an uncertain member. */
#define READ_CONTEXT_RESOLVE UINT64_MAX

static inline uint32_t quorum_of(const struct raft *raft)
{
    return raft->config.member_count / 2 + 1;
}

/* ---- raft.c ---- */
struct progress *raft_peer(struct raft *raft, member_id id);
/* Sends once term and vote are durable (contract rule 1). The message is moved. */
void raft_send(struct raft *raft, struct peer_message *message, struct raft_effects *effects);
struct peer_message raft_message_to(const struct raft *raft, enum peer_message_type type, member_id to);
/* Steps into `term` (at least the current one) as a follower of `leader` (0: unknown). */
void raft_become_follower(struct raft *raft, raft_term term, member_id leader, struct raft_effects *effects);
void raft_set_vote(struct raft *raft, raft_term term, member_id vote);
/* The peer was durably in `term` at a time after this member started. */
void raft_hear_term(struct raft *raft, member_id peer, raft_term term);
bool raft_state_durable(const struct raft *raft);
/* Leader: gives the entry (moved) the next place in the log. */
void raft_append_entry(struct raft *raft, struct entry *entry);

/* ---- election.c ---- */
void election_reset_timer(struct raft *raft);
/* The first timer of a member that starts. */
void election_start_timer(struct raft *raft);
void election_tick(struct raft *raft, struct raft_effects *effects);
void election_campaign(struct raft *raft, bool transfer, struct raft_effects *effects);
void election_state_saved(struct raft *raft, struct raft_effects *effects);
void election_on_prevote(struct raft *raft, const struct peer_message *message, struct raft_effects *effects);
void election_on_prevote_reply(struct raft *raft, const struct peer_message *message, struct raft_effects *effects);
void election_on_vote(struct raft *raft, const struct peer_message *message, struct raft_effects *effects);
void election_on_vote_reply(struct raft *raft, const struct peer_message *message, struct raft_effects *effects);
void election_peer_lost(struct raft *raft, member_id peer, bool crashed);
/* Whether a request to vote is ignored because a leader was heard of lately (dissertation §4.2.3). */
bool election_is_sticky(const struct raft *raft);

/* ---- replication.c ---- */
void replication_become_leader(struct raft *raft, struct raft_effects *effects);
void replication_tick(struct raft *raft, struct raft_effects *effects);
void replication_flush(struct raft *raft, struct raft_effects *effects);
void replication_heartbeat(struct raft *raft, struct raft_effects *effects);
void replication_on_append(struct raft *raft, const struct peer_message *message, struct raft_effects *effects);
void replication_on_append_reply(struct raft *raft, const struct peer_message *message, struct raft_effects *effects);
void replication_advance_commit(struct raft *raft);
void replication_log_read(struct raft *raft, const struct raft_event *event, struct raft_effects *effects);
void replication_snapshot_sent(struct raft *raft, const struct raft_event *event);
void replication_peer_connected(struct raft *raft, const struct raft_event *event);
void replication_transfer(struct raft *raft, member_id target, struct raft_effects *effects);
/* Follower: what an append or a reply says of the leader's commit index. */
void replication_take_commit(struct raft *raft, raft_index commit);

/* ---- read_index.c ---- */
void read_index_ask(struct raft *raft, member_id from, uint64_t context, struct raft_effects *effects);
void read_index_flush(struct raft *raft, struct raft_effects *effects);
void read_index_acked(struct raft *raft, struct raft_effects *effects);
void read_index_on_reply(struct raft *raft, const struct peer_message *message, struct raft_effects *effects);
/* Leadership or the leader is lost: everything that waits fails. */
void read_index_fail_all(struct raft *raft, struct raft_effects *effects);
/* Drops what a member asked over an earlier connection: it may use the same context again, for a later read. */
void read_index_forget(struct raft *raft, member_id from);
/* An uncertain member asks for a read index, and is resolved once it holds everything up to it. */
void read_index_resolve(struct raft *raft, struct raft_effects *effects);

/* ---- effects ---- */
void effects_add_read(struct raft_effects *effects, const struct raft_read_result *read);
void effects_add_log_read(struct raft_effects *effects, const struct raft_read_log *read);
void effects_add_snapshot_peer(struct raft_effects *effects, member_id peer);

#endif
