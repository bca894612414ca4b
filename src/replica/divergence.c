/*
 * divergence.c - members compare what they applied (DESIGN.md, 'Divergence').
 *
 * Heartbeats and their replies carry the sender's newest (index, apply hash). The leader compares each with its own hash at
 * that index. A hash folds in all that came before, so a member that differed once differs from then on; that it agreed
 * says nothing of later indexes.
 *
 *   - A follower that differs from a majority, the leader among it, is told so, and stops serving.
 *   - A leader that differs from a majority which agrees with itself stops serving, and never leads again.
 *   - When neither can be shown within PATIENCE, nobody can say who is right: all are told, and all stop serving.
 */
#include "replica/replica_internal.h"

/* Members that are up apply and report the same indexes many times within two election timeouts. */
#define PATIENCE(replica) (2 * (replica)->config.raft.election_timeout)

static uint32_t member_number(const struct replica *replica, member_id id)
{
    for (uint32_t i = 0; i < replica->config.raft.member_count; i++) {
        if (replica->config.raft.members[i] == id) return i;
    }
    return MEMBERS_MAX;
}

void divergence_note_applied(struct replica *replica)
{
    replica->hashes[replica->applied % HASH_RING] =
        (struct hash_point){.index = replica->applied, .hash = replica->apply_hash};
}

void divergence_stamp(struct replica *replica, struct replica_effects *effects)
{
    if (replica->applied == 0) return;
    for (uint32_t i = 0; i < effects->raft.message_count; i++) {
        struct peer_message *message = &effects->raft.messages[i];
        bool carries =
            (message->type == PEER_APPEND && message->entry_count == 0) || message->type == PEER_APPEND_REPLY;
        if (!carries) continue;
        message->hash_index = replica->applied;
        message->apply_hash = replica->apply_hash;
    }
}

static void stop_serving(struct replica *replica, raft_index index, struct replica_effects *effects)
{
    if (replica->diverged) return;
    log_error(replica->logger, "this member's state differs from the others'; it no longer serves",
              "index=%llu advice=\"stop it, set its data aside, and let it catch up from a snapshot\"",
              (unsigned long long)index);
    replica->diverged = true;
    requests_stop(replica, ERR_CORRUPT, effects);
    lessor_stop(replica, effects);
    lease_requests_stop(replica, ERR_CORRUPT, effects);
    reads_stop(replica, ERR_CORRUPT, effects);
    struct raft_event event = {.type = RAFT_STEP_DOWN};
    replica_raft(replica, &event, effects);
}

static void tell(struct replica *replica, uint32_t number, raft_index index, struct replica_effects *effects)
{
    struct peer_message message = {.type = PEER_DIVERGED,
                                   .from = replica->config.raft.self,
                                   .to = replica->config.raft.members[number],
                                   .index = index};
    raft_effects_add_message(&effects->raft, &message);
    replica->peer_hashes[number].told = true;
}

/* The leader and those that are known to agree with it at `index`. */
static uint32_t count_agreeing(const struct replica *replica, raft_index index)
{
    uint32_t count = 1;
    for (uint32_t i = 0; i < replica->config.raft.member_count; i++) {
        const struct peer_hash *peer = &replica->peer_hashes[i];
        count += peer->agreed >= index && (peer->differs_since == 0 || peer->differs_since > peer->agreed);
    }
    return count;
}

static bool reported(const struct peer_hash *peer, const struct hash_point *point)
{
    for (uint32_t i = 0; i < PEER_REPORTS_KEPT; i++) {
        if (peer->reports[i].index == point->index && peer->reports[i].hash == point->hash) return true;
    }
    return false;
}

/* The members, the leader not among them, that reported what this one did, at one index; itself too. */
static uint32_t count_alike(const struct replica *replica, const struct peer_hash *peer)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < PEER_REPORTS_KEPT; i++) {
        if (peer->reports[i].index == 0) continue;
        uint32_t count = 0;
        for (uint32_t j = 0; j < replica->config.raft.member_count; j++) {
            count += reported(&replica->peer_hashes[j], &peer->reports[i]);
        }
        if (count > most) most = count;
    }
    return most;
}

static void tell_minority(struct replica *replica, uint32_t quorum, struct replica_effects *effects)
{
    for (uint32_t i = 0; i < replica->config.raft.member_count; i++) {
        const struct peer_hash *peer = &replica->peer_hashes[i];
        if (peer->differs_since == 0 || peer->told || count_agreeing(replica, peer->differs_since) < quorum) continue;
        log_error(replica->logger, "a member's state differs from the majority's", "member=%016llx index=%llu",
                  (unsigned long long)replica->config.raft.members[i], (unsigned long long)peer->differs_since);
        tell(replica, i, peer->differs_since, effects);
    }
}

/* The oldest difference that nobody could place yet; 0: there is none. */
static raft_index open_question(const struct replica *replica)
{
    raft_index oldest = 0;
    for (uint32_t i = 0; i < replica->config.raft.member_count; i++) {
        const struct peer_hash *peer = &replica->peer_hashes[i];
        if (peer->differs_since == 0 || peer->told) continue;
        if (oldest == 0 || peer->differs_since < oldest) oldest = peer->differs_since;
    }
    return oldest;
}

static void tell_all(struct replica *replica, raft_index index, struct replica_effects *effects)
{
    log_error(replica->logger, "members' states differ, and no majority agrees: none of them serves", "index=%llu",
              (unsigned long long)index);
    for (uint32_t i = 0; i < replica->config.raft.member_count; i++) {
        if (replica->config.raft.members[i] != replica->config.raft.self) tell(replica, i, index, effects);
    }
    stop_serving(replica, index, effects);
}

static void judge(struct replica *replica, struct replica_effects *effects)
{
    uint32_t members = replica->config.raft.member_count, quorum = members / 2 + 1;
    tell_minority(replica, quorum, effects);
    raft_index index = open_question(replica);
    if (index == 0) {
        replica->undecided_since = 0;
        return;
    }
    for (uint32_t i = 0; i < members; i++) {
        if (replica->peer_hashes[i].differs_since == 0 || count_alike(replica, &replica->peer_hashes[i]) < quorum) {
            continue;
        }
        stop_serving(replica, index, effects);
        return;
    }
    if (replica->undecided_since == 0) replica->undecided_since = replica->now;
    if (replica->now >= replica->undecided_since + PATIENCE(replica)) tell_all(replica, index, effects);
}

void divergence_compare(struct replica *replica, const struct peer_message *message, struct replica_effects *effects)
{
    struct raft_status status;
    raft_status(replica->raft, &status);
    uint32_t number = member_number(replica, message->from);
    if (status.role != RAFT_LEADER || message->hash_index == 0 || number == MEMBERS_MAX) return;
    const struct hash_point *own = &replica->hashes[message->hash_index % HASH_RING];
    if (own->index != message->hash_index) return; /* too long ago, or not applied here yet */
    struct peer_hash *peer = &replica->peer_hashes[number];
    if (own->hash == message->apply_hash) {
        if (message->hash_index > peer->agreed) peer->agreed = message->hash_index;
    } else {
        if (peer->differs_since == 0 || message->hash_index < peer->differs_since) {
            peer->differs_since = message->hash_index;
        }
        peer->reports[message->hash_index % PEER_REPORTS_KEPT] =
            (struct hash_point){.index = message->hash_index, .hash = message->apply_hash};
    }
    judge(replica, effects);
}

void divergence_forget(struct replica *replica, member_id peer)
{
    uint32_t number = member_number(replica, peer);
    if (number < MEMBERS_MAX) replica->peer_hashes[number] = (struct peer_hash){0};
}

void divergence_forget_all(struct replica *replica)
{
    memset(replica->peer_hashes, 0, sizeof replica->peer_hashes);
    replica->undecided_since = 0;
}

void divergence_on_diverged(struct replica *replica, const struct peer_message *message,
                            struct replica_effects *effects)
{
    struct raft_status status;
    raft_status(replica->raft, &status);
    if (message->from == status.leader) stop_serving(replica, message->index, effects);
}
