/* cluster_checks.c - Raft's guarantees (dissertation figure 3.2) and the contract in raft.h, checked all the time. */
#include "cluster_internal.h"

#include "base/check.h"
#include "base/mem.h"

static struct cluster_slot *slot_of(struct cluster *cluster, raft_index index)
{
    CHECK(index < CLUSTER_LOG_MAX);
    return &cluster->slots[index];
}

void cluster_check_entry(struct cluster *cluster, member_id id, const struct entry *entry)
{
    struct cluster_slot *slot = slot_of(cluster, entry_index(entry));
    for (uint32_t i = 0; i < slot->record_count; i++) {
        if (slot->records[i].term != entry_term(entry)) continue;
        if (slot->records[i].chain != entry_chain(entry)) {
            cluster_breach(cluster, "log matching: %llu has another entry %llu of term %llu", (ull)id,
                           (ull)entry_index(entry), (ull)entry_term(entry));
        }
        return;
    }
    if (slot->record_count == slot->record_capacity) {
        slot->record_capacity = slot->record_capacity == 0 ? 4 : slot->record_capacity * 2;
        slot->records = mem_realloc(slot->records, slot->record_capacity * sizeof slot->records[0]);
    }
    slot->records[slot->record_count++] =
        (struct cluster_record){.term = entry_term(entry), .chain = entry_chain(entry)};
}

void cluster_check_committed(struct cluster *cluster, member_id id, raft_index index, raft_term term)
{
    struct cluster_slot *slot = slot_of(cluster, index);
    if (!slot->committed) {
        slot->committed = true;
        slot->committed_term = term;
        if (index > cluster->committed_last) cluster->committed_last = index;
    } else if (slot->committed_term != term) {
        cluster_breach(
            cluster, "state machine safety: %llu commits entry %llu of term %llu, another member had that of term %llu",
            (ull)id, (ull)index, (ull)term, (ull)slot->committed_term);
    }
}

void cluster_check_quorum_holds(struct cluster *cluster, member_id id, raft_index index, raft_term term)
{
    uint32_t holders = 0;
    for (member_id other = 1; other <= cluster->options.count; other++) {
        const struct cluster_disk *disk = &cluster->members[other].disk;
        bool covered = index <= disk->base_index || cluster_disk_term_at(disk, index) == term;
        holders += covered || disk->lossy;
    }
    if (holders < cluster->options.count / 2 + 1) {
        cluster_breach(cluster, "%llu commits %llu, which is durable on %u members only", (ull)id, (ull)index, holders);
    }
}

void cluster_check_leader(struct cluster *cluster, struct cluster_member *member)
{
    raft_term term = member->status.term;
    CHECK(term < CLUSTER_TERMS_MAX);
    if (cluster->leaders[term] != 0 && cluster->leaders[term] != member->id) {
        cluster_breach(cluster, "election safety: %llu and %llu both lead term %llu", (ull)cluster->leaders[term],
                       (ull)member->id, (ull)term);
    }
    cluster->leaders[term] = member->id;
    for (raft_index i = member->status.first_index; i <= cluster->committed_last; i++) {
        if (!slot_of(cluster, i)->committed) continue;
        raft_term held = raft_term_at(member->raft, i);
        if (held != slot_of(cluster, i)->committed_term) {
            cluster_breach(cluster, "leader completeness: %llu leads term %llu without the committed entry %llu",
                           (ull)member->id, (ull)term, (ull)i);
            return;
        }
    }
}

void cluster_check_message(struct cluster *cluster, const struct cluster_member *member,
                           const struct peer_message *message)
{
    const struct cluster_disk *disk = &member->disk;
    for (uint32_t i = 0; i < message->entry_count; i++) cluster_check_entry(cluster, member->id, message->entries[i]);
    if (message->type == PEER_PREVOTE || (message->type == PEER_PREVOTE_REPLY && !message->rejected)) return;
    if (message->term > disk->term) {
        cluster_breach(cluster, "contract rule 1: %llu reveals term %llu before it is durable", (ull)member->id,
                       (ull)message->term);
    }
    if (message->term != disk->term) return;
    bool grants = message->type == PEER_VOTE_REPLY && !message->rejected;
    if ((grants && disk->vote != message->to) || (message->type == PEER_VOTE && disk->vote != member->id)) {
        cluster_breach(cluster, "contract rule 1: %llu reveals a vote before it is durable", (ull)member->id);
    }
    if (message->type != PEER_APPEND_REPLY || message->rejected) return;
    if (message->index > disk->last_index) {
        cluster_breach(cluster, "contract rule 2: %llu acknowledges %llu, and has only %llu", (ull)member->id,
                       (ull)message->index, (ull)disk->last_index);
    }
    const struct cluster_member *leader = &cluster->members[message->to];
    if (leader->raft == NULL || leader->status.role != RAFT_LEADER || leader->status.term != message->term) return;
    raft_term theirs = raft_term_at(leader->raft, message->index);
    raft_term ours = cluster_disk_term_at(disk, message->index);
    if (theirs != 0 && ours != 0 && theirs != ours) {
        cluster_breach(cluster, "contract rule 2: %llu acknowledges %llu of term %llu, the leader's is of term %llu",
                       (ull)member->id, (ull)message->index, (ull)ours, (ull)theirs);
    }
}

void cluster_check_read(struct cluster *cluster, member_id id, const struct raft_read_result *result)
{
    for (uint32_t i = 0; i < cluster->read_count; i++) {
        struct cluster_read read = cluster->reads[i];
        if (read.id != id || read.context != result->context) continue;
        cluster->reads[i] = cluster->reads[--cluster->read_count];
        if (result->error == ERR_OK && result->index < read.committed) {
            cluster_breach(cluster, "stale read: %llu may read at %llu, and %llu was committed before it asked",
                           (ull)id, (ull)result->index, (ull)read.committed);
        }
        return;
    }
    cluster_breach(cluster, "%llu answers a read that was not asked", (ull)id);
}
