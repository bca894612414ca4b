/*
 * divergence.c - members compare what they applied (DESIGN.md, 'Divergence').
 *
 * Heartbeats and their replies carry the sender's newest (index, apply hash). The leader compares each with its own hash at
 * that index. A follower that differs from a leader who has a majority on its side is told so, and stops serving. A leader that
 * differs from a majority which agrees with itself stops serving and steps down. Without a majority on either side, nobody can say
 * who is right: all members are told, and all stop serving.
 */
#include "replica/replica_internal.h"

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
    if (!replica->diverged) {
        log_error(replica->logger, "this member's state differs from the others'; it no longer serves",
                  "index=%llu advice=\"stop it, set its data aside, and let it catch up from a snapshot\"",
                  (unsigned long long)index);
    }
    replica->diverged = true;
    struct raft_event event = {.type = RAFT_STEP_DOWN};
    replica_raft(replica, &event, effects);
}

static void tell(struct replica *replica, member_id to, raft_index index, struct replica_effects *effects)
{
    struct peer_message message = {.type = PEER_DIVERGED, .from = replica->config.raft.self, .to = to, .index = index};
    raft_effects_add_message(&effects->raft, &message);
}

/* The leader differs from at least one follower at `index`. */
static void judge(struct replica *replica, raft_index index, struct replica_effects *effects)
{
    uint32_t members = replica->config.raft.member_count, quorum = members / 2 + 1;
    uint32_t agree = 1, reported = 1;
    for (uint32_t i = 0; i < members; i++) {
        if (replica->peer_hashes[i].index == 0) continue;
        reported++;
        agree += !replica->peer_hashes[i].differs;
    }
    if (agree >= quorum) {
        for (uint32_t i = 0; i < members; i++) {
            if (!replica->peer_hashes[i].differs) continue;
            log_error(replica->logger, "a member's state differs from the majority's", "member=%016llx index=%llu",
                      (unsigned long long)replica->config.raft.members[i], (unsigned long long)index);
            tell(replica, replica->config.raft.members[i], index, effects);
        }
        return;
    }
    /* Do the others agree among themselves, at one index? */
    for (uint32_t i = 0; i < members; i++) {
        uint32_t like = 0;
        if (!replica->peer_hashes[i].differs) continue;
        for (uint32_t j = 0; j < members; j++) {
            like += replica->peer_hashes[j].differs && replica->peer_hashes[j].index == replica->peer_hashes[i].index &&
                    replica->peer_hashes[j].hash == replica->peer_hashes[i].hash;
        }
        if (like >= quorum) {
            stop_serving(replica, index, effects);
            return;
        }
    }
    if (reported < members) return; /* wait for the rest */
    bool same_index = true;
    for (uint32_t i = 0; i < members; i++) {
        if (replica->config.raft.members[i] == replica->config.raft.self) continue;
        same_index = same_index && replica->peer_hashes[i].index == index;
    }
    if (!same_index) return; /* reports of different indexes can't be compared with one another */
    for (uint32_t i = 0; i < members; i++) {
        if (replica->config.raft.members[i] != replica->config.raft.self) {
            tell(replica, replica->config.raft.members[i], index, effects);
        }
    }
    stop_serving(replica, index, effects);
}

void divergence_compare(struct replica *replica, const struct peer_message *message, struct replica_effects *effects)
{
    if (message->hash_index == 0 || message->type != PEER_APPEND_REPLY) return;
    uint32_t number = member_number(replica, message->from);
    if (number == MEMBERS_MAX) return;
    const struct hash_point *own = &replica->hashes[message->hash_index % HASH_RING];
    if (own->index != message->hash_index) return; /* too long ago, or not applied here yet */
    struct peer_hash *peer = &replica->peer_hashes[number];
    peer->index = message->hash_index;
    peer->hash = message->apply_hash;
    peer->differs = own->hash != message->apply_hash;
    struct raft_status status;
    raft_status(replica->raft, &status);
    if (peer->differs && status.role == RAFT_LEADER) judge(replica, message->hash_index, effects);
}

void divergence_on_diverged(struct replica *replica, const struct peer_message *message,
                            struct replica_effects *effects)
{
    struct raft_status status;
    raft_status(replica->raft, &status);
    if (message->from != status.leader) return;
    stop_serving(replica, message->index, effects);
}
