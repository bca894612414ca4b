/*
 * peer_message.h - what members say to each other.
 *
 * One flat struct serves all kinds: a field that a kind doesn't use is zero, and costs nothing on
 * the wire (replica/peer_codec.h). The kinds are Raft's RPCs (dissertation figure 3.1, §6.4 for
 * reads, §3.10 for leadership transfer, §9.6 for PreVote), snapshot transfer, and forwarding.
 */
#ifndef CORACLE_BASE_PEER_MESSAGE_H
#define CORACLE_BASE_PEER_MESSAGE_H

#include "base/entry.h"
#include "base/types.h"

enum peer_message_type {
    PEER_PREVOTE = 1,    /* index, log_term: the last entry; term: the term it would campaign in */
    PEER_PREVOTE_REPLY,  /* rejected */
    PEER_VOTE,           /* index, log_term: the last entry; transfer: ignore stickiness */
    PEER_VOTE_REPLY,     /* rejected */
    PEER_APPEND,         /* index, log_term: the entry before entries; commit; context: read barrier round;
                            no entries: a heartbeat or a probe */
    PEER_APPEND_REPLY,   /* index: last durable entry that matches (or, rejected, the index refused);
                            hint_index, hint_term: where to look for a match; context: echoed */
    PEER_SNAPSHOT,       /* index, log_term: the snapshot's last entry; offset, total, data: one chunk */
    PEER_SNAPSHOT_REPLY, /* index; offset: bytes the receiver holds; rejected: start over from offset */
    PEER_TIMEOUT_NOW,    /* campaign at once: leadership is handed over */
    PEER_READ,           /* context: asks the leader for a read index (forwarded barrier) */
    PEER_READ_REPLY,     /* context, index: the read index; rejected: not the leader, or not yet */
    PEER_FORWARD,        /* context: sequence; incarnation; entries: one command to propose */
    PEER_FORWARD_REPLY,  /* context: sequence; rejected: it was not proposed (reason); index: where it was */
    PEER_GOODBYE,        /* the connection closes on purpose; nobody crashed */
    PEER_DIVERGED,       /* index, apply_hash: the receiver's state differs from the majority's */
    PEER_LEASE_RENEW,    /* context: sequence; incarnation; lease; timeout_ms: how long the answer is waited for */
    PEER_LEASE_TIME,     /* likewise */
    PEER_LEASE_REPLY,    /* context, incarnation: echoed; rejected: nobody looked (reason); else reason: what was found;
                            ttl_s, granted_ttl_s; index: what the leader had applied; commit */
    PEER_MESSAGE_TYPE_END,
};

struct peer_message {
    enum peer_message_type type;
    member_id from;
    member_id to;
    raft_term term; /* the sender's term, except where PREVOTE says otherwise */
    raft_index index;
    raft_term log_term;
    raft_index commit;
    bool rejected;
    bool transfer;
    bool uncertain;  /* the sender's acknowledgement does not count for any quorum (raft.h, 'Uncertain') */
    uint32_t reason; /* enum error, for a rejection, or a lease */
    raft_index hint_index;
    raft_term hint_term;
    uint64_t context;
    uint64_t incarnation;
    /* The sender's apply hash after hash_index, for the comparison of states; hash_index 0: none. */
    raft_index hash_index;
    uint64_t apply_hash;
    uint64_t lease;
    int64_t ttl_s;
    int64_t granted_ttl_s;
    uint32_t timeout_ms;
    /* Snapshot chunk: `data` is a view, owned by whoever carries the message. */
    uint64_t offset;
    uint64_t total;
    struct bytes data;
    /* `entries` is an array that the carrier of the message owns, one reference for each entry. */
    struct entry **entries;
    uint32_t entry_count;
};

const char *peer_message_type_name(enum peer_message_type type);

/* Drops the references to the entries and frees the array; leaves the message without entries. */
void peer_message_release(struct peer_message *message);

/* Takes a copy: references the entries in an array of its own. `data` is still a view. */
struct peer_message peer_message_copy(const struct peer_message *message);

#endif
