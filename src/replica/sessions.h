/*
 * sessions.h - which commands were applied already: the window of repeats, which is replicated state.
 *
 * A command carries the identity (origin, incarnation, sequence). Of each member the newest incarnation counts, and of
 * that the last SESSION_WINDOW sequences: a sequence is admitted once; what is older than the window counts as a repeat.
 * A member has at most half a window of commands under way, so that a late one isn't taken for a repeat in practice; if it
 * is, it isn't applied, and its client was told that the outcome is unknown.
 *
 * Payload of SNAPSHOT_CHUNK_SESSIONS:
 *     0  4  version (1)      4  4  count of sessions     8  8  history budget in bytes (replicated limit)
 *     then for each: u64 member, u64 incarnation, u64 highest sequence, SESSION_WINDOW / 8 bytes of window bits
 */
#ifndef CORACLE_REPLICA_SESSIONS_H
#define CORACLE_REPLICA_SESSIONS_H

#include "base/bytes.h"
#include "base/error.h"
#include "base/types.h"

#define SESSION_WINDOW 16384u
#define SESSIONS_MAX (2u * MEMBERS_MAX)

struct session {
    member_id member;
    uint64_t incarnation;
    uint64_t highest;
    uint64_t window[SESSION_WINDOW / 64]; /* bit (sequence % SESSION_WINDOW), for the last SESSION_WINDOW sequences */
};

struct sessions {
    struct session *slots; /* SESSIONS_MAX */
    uint32_t count;
    uint64_t history_bytes_budget;
};

void sessions_init(struct sessions *sessions, uint64_t history_bytes_budget);
void sessions_free(struct sessions *sessions);

/* True the first time; then the identity is remembered. */
bool sessions_admit(struct sessions *sessions, member_id member, uint64_t incarnation, uint64_t sequence);
/* Whether it was admitted (or is too old to tell). */
bool sessions_contains(const struct sessions *sessions, member_id member, uint64_t incarnation, uint64_t sequence);

/* The newest incarnation that is known of the member; 0: none is. */
uint64_t sessions_incarnation(const struct sessions *sessions, member_id member);

/* For comparison between members: equal if all of the replicated state here is. */
uint64_t sessions_digest(const struct sessions *sessions);

void sessions_encode(const struct sessions *sessions, struct buffer *out);
/* Replaces the contents. ERR_DAMAGED, ERR_BAD_VERSION. */
enum error sessions_decode(struct sessions *sessions, struct bytes payload);

#endif
