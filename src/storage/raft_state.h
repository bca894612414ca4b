/*
 * raft_state.h - what must outlive a crash before a member speaks: term and vote, and who it is.
 * (RaftStateManager, RaftStatePersistence)
 *
 * One file in two slots (slots.h), magic "CRST", version 1. The payload:
 *
 *     offset  size  field
 *          0     8  cluster id; 0 while the cluster is being founded (replica/bootstrap in docs/RECOVERY.md)
 *          8     8  member id
 *         16     8  founding nonce: random, made with the file
 *         24     8  log id: random, made with the file
 *         32     8  term
 *         40     8  vote: member id, or 0
 *         48     8  incarnation: counts the starts, from the wall clock when the file was made
 *         56     8  no vote before this term: set on a member that came back with a wiped disk
 *         64     1  catching up: 1 until that member caught up (it neither votes nor counts)
 *         65     7  zero
 *         72     1  node id's length, then the node id (at most 63 bytes)
 *
 * Then, once the cluster is founded, its members, which rule from then on, whatever the configuration says:
 * u8 count, and for each u8 length + node id, u16 length + rpc host, u16 rpc port (where it was reached last).
 */
#ifndef CORACLE_STORAGE_RAFT_STATE_H
#define CORACLE_STORAGE_RAFT_STATE_H

#include "base/types.h"
#include "storage/slots.h"

#define RAFT_STATE_MAGIC 0x54535243u /* "CRST" */
#define RAFT_STATE_VERSION 1u

/* How often a member starts at most before the copy of its identity in the log's metadata is written anew; made again from
   that copy, it counts its incarnation from so much further on, so that its peers never remember a later one. */
#define RAFT_STATE_RESTARTS_MAX (1u << 20)

/* What a slot has room for beside the largest payload. */
#define RAFT_STATE_ROOM_BYTES 64u

/* The incarnation of a member without files: milliseconds, so that it is above those it had before if the clock is right, and 20 random
   bits, so that it is none of those if the clock isn't (one that begins in 1970 at each boot, say). `random`: any. */
static inline uint64_t raft_state_first_incarnation(uint64_t wall_clock_ms, uint64_t random)
{
    return wall_clock_ms << 20 | (random & 0xfffff);
}

struct raft_state_member {
    char node_id[NODE_ID_BYTES_MAX + 1];
    char rpc_host[ADDRESS_BYTES_MAX + 1];
    uint16_t rpc_port;
};

struct raft_state {
    uint64_t cluster_id;
    member_id member;
    uint64_t founding_nonce;
    uint64_t log_id;
    raft_term term;
    member_id vote;
    uint64_t incarnation;
    raft_term no_vote_before_term;
    bool catching_up;
    char node_id[NODE_ID_BYTES_MAX + 1];
    struct raft_state_member members[MEMBERS_MAX];
    uint32_t member_count; /* 0: not founded, or written before there were members in the file */
};

/* The payload alone, for the log's metadata, which keep a copy (log_metadata.h). False: it makes no sense. */
void raft_state_append_payload(const struct raft_state *state, struct buffer *out);
bool raft_state_decode_payload(struct bytes payload, struct raft_state *out);
/* Whether both are the same member of the same cluster, with the same log and the same members; term, vote and all that changes
   between two starts is left out. */
bool raft_state_same_identity(const struct raft_state *a, const struct raft_state *b);

/* `slot` has SLOT_BYTES. */
void raft_state_encode(const struct raft_state *state, uint64_t generation, uint8_t *slot);
/* As slot_choose; ERR_DAMAGED too when the payload makes no sense. */
enum error raft_state_decode(struct bytes file, struct raft_state *out, uint64_t *generation, char *damage);

#endif
