/*
 * read_index.c - linearizable reads without log entries (dissertation §6.4).
 *
 * A leader takes its commit index as the read index of all reads that arrived since the last round began, and confirms by
 * one heartbeat to each follower that it still leads. One round is under way at a time; a confirmation is never used
 * for a read that arrived after its round began.
 */
#include "raft/raft_internal.h"

#include "base/mark.h"
#include "base/mutant.h"

static void push(struct pending_read **array, uint32_t *count, uint32_t *capacity, struct pending_read read)
{
    if (*count == *capacity) {
        *capacity = *capacity == 0 ? 16 : *capacity * 2;
        *array = mem_realloc(*array, *capacity * sizeof(**array));
    }
    (*array)[(*count)++] = read;
}

static void answer(struct raft *raft, const struct pending_read *read, enum error error, struct raft_effects *effects)
{
    if (read->from == 0) {
        if (read->context == READ_CONTEXT_RESOLVE) {
            raft->resolve_asked = false;
            return;
        }
        struct raft_read_result result = {.context = read->context, .index = read->index, .error = error};
        effects_add_read(effects, &result);
        return;
    }
    struct peer_message message = raft_message_to(raft, PEER_READ_REPLY, read->from);
    message.context = read->context;
    message.index = read->index;
    message.commit = raft->commit;
    message.rejected = error != ERR_OK;
    raft_send(raft, &message, effects);
}

void read_index_ask(struct raft *raft, member_id from, uint64_t context, struct raft_effects *effects)
{
    struct pending_read read = {.from = from, .context = context};
    if (raft->role == RAFT_LEADER) {
        push(&raft->reads, &raft->read_count, &raft->read_capacity, read);
        return;
    }
    if (from != 0 || raft->leader == 0 || !raft_peer(raft, raft->leader)->connected) {
        answer(raft, &read, ERR_NO_LEADER, effects);
        return;
    }
    struct peer_message message = raft_message_to(raft, PEER_READ, raft->leader);
    message.context = context;
    message.uncertain = raft->uncertain;
    raft_send(raft, &message, effects);
    push(&raft->forwarded, &raft->forwarded_count, &raft->forwarded_capacity, read);
}

void read_index_flush(struct raft *raft, struct raft_effects *effects)
{
    if (raft->role != RAFT_LEADER || raft->round_reads > 0 || raft->read_count == 0) return;
    if (raft->commit < raft->term_first_index) MARK(READS_WAIT_FOR_OWN_COMMIT);
    /* Before an entry of its own term is committed a leader doesn't know the commit index (dissertation §6.4, step 1). */
    if (raft->commit < raft->term_first_index && !MUTANT(READ_BEFORE_OWN_COMMIT)) return;
    raft->read_round++;
    raft->round_reads = raft->read_count;
    for (uint32_t i = 0; i < raft->read_count; i++) raft->reads[i].index = raft->commit;
    if (raft->peer_count > 0) replication_heartbeat(raft, effects);
    read_index_acked(raft, effects);
}

void read_index_acked(struct raft *raft, struct raft_effects *effects)
{
    if (raft->role != RAFT_LEADER || raft->round_reads == 0) return;
    uint32_t confirmed = 1;
    for (uint32_t i = 0; i < raft->peer_count; i++) {
        const struct progress *peer = &raft->peers[i];
        confirmed += peer->read_round == raft->read_round && !peer->uncertain;
    }
    if (confirmed < quorum_of(raft)) return;
    uint32_t done = raft->round_reads;
    if (MUTANT(REUSES_READ_CONFIRMATION)) {
        for (; done < raft->read_count; done++) raft->reads[done].index = raft->reads[0].index;
    }
    raft->round_reads = 0;
    for (uint32_t i = 0; i < done; i++) answer(raft, &raft->reads[i], ERR_OK, effects);
    raft->read_count -= done;
    memmove(raft->reads, raft->reads + done, raft->read_count * sizeof raft->reads[0]);
}

void read_index_on_reply(struct raft *raft, const struct peer_message *message, struct raft_effects *effects)
{
    if (message->from != raft->leader) return;
    for (uint32_t i = 0; i < raft->forwarded_count; i++) {
        if (raft->forwarded[i].context != message->context) continue;
        if (message->rejected) {
            MARK(READ_REFUSED);
            /* It leads no more in this term, so nobody does. To ask it again would go round and round. */
            raft_become_follower(raft, raft->term, 0, effects);
            return;
        }
        struct pending_read read = raft->forwarded[i];
        raft->forwarded[i] = raft->forwarded[--raft->forwarded_count];
        replication_take_commit(raft, message->commit);
        if (read.context == READ_CONTEXT_RESOLVE) {
            raft->resolve_asked = false;
            /* Index 0 stands for "none", and every leader has committed an entry of its own. */
            raft->resolve_index = message->index;
            read_index_resolve(raft, effects);
            return;
        }
        struct raft_read_result result = {.context = read.context, .index = message->index};
        effects_add_read(effects, &result);
        return;
    }
}

void read_index_fail_all(struct raft *raft, struct raft_effects *effects)
{
    for (uint32_t i = 0; i < raft->read_count; i++) answer(raft, &raft->reads[i], ERR_LEADER_CHANGED, effects);
    raft->read_count = 0;
    raft->round_reads = 0;
    for (uint32_t i = 0; i < raft->forwarded_count; i++) {
        answer(raft, &raft->forwarded[i], ERR_LEADER_CHANGED, effects);
    }
    raft->forwarded_count = 0;
}

void read_index_forget(struct raft *raft, member_id from)
{
    uint32_t kept = 0, kept_of_round = 0;
    for (uint32_t i = 0; i < raft->read_count; i++) {
        if (raft->reads[i].from == from) continue;
        if (i < raft->round_reads) kept_of_round++;
        raft->reads[kept++] = raft->reads[i];
    }
    raft->read_count = kept;
    raft->round_reads = kept_of_round;
}

static void forget_forwarded(struct raft *raft, uint64_t context)
{
    for (uint32_t i = 0; i < raft->forwarded_count; i++) {
        if (raft->forwarded[i].context != context) continue;
        raft->forwarded[i] = raft->forwarded[--raft->forwarded_count];
        return;
    }
}

static bool is_wiped(const struct raft *raft)
{
    return !raft->extent_known && raft->no_vote_before_term > 0;
}

/*
 * A term at least as high as all in which a wiped member can have voted or acknowledged anything: whoever it voted for,
 * and the leader that it followed, was durably in that term before. False until all others were heard.
 */
static bool know_term_before_wipe(const struct raft *raft, raft_term *out)
{
    *out = 0;
    for (uint32_t i = 0; i < raft->peer_count; i++) {
        const struct progress *peer = &raft->peers[i];
        if (!peer->heard) return false;
        if (peer->heard_term > *out) *out = peer->heard_term;
    }
    return true;
}

void read_index_resolve(struct raft *raft, struct raft_effects *effects)
{
    if (!raft->uncertain || raft->leader == 0 || raft->role != RAFT_FOLLOWER) return;
    raft_term before_wipe = 0;
    if (is_wiped(raft)) {
        if (!know_term_before_wipe(raft, &before_wipe)) return;
        if (before_wipe > raft->term) {
            /* The read index of a leader of a lower term may be behind what was acknowledged. */
            raft_become_follower(raft, before_wipe, 0, effects);
            return;
        }
    }
    if (MUTANT(RESOLVED_WITHOUT_BARRIER)) raft->resolve_index = raft->commit;
    if (raft->resolve_index == 0) {
        bool overdue = raft->now >= raft->resolve_asked_at + raft->config.election_timeout;
        if (!raft->resolve_asked || overdue) {
            forget_forwarded(raft, READ_CONTEXT_RESOLVE);
            raft->resolve_asked = true;
            raft->resolve_asked_at = raft->now;
            read_index_ask(raft, 0, READ_CONTEXT_RESOLVE, effects);
        }
        return;
    }
    raft_index held = raft->verified < raft->log.durable_index ? raft->verified : raft->log.durable_index;
    if (held < raft->resolve_index) return;
    raft->uncertain = false;
    if (is_wiped(raft)) MARK(WIPED_MEMBER_CERTAIN);
    if (!is_wiped(raft)) MARK(UNCERTAIN_MEMBER_CERTAIN);
    /* Of a wiped member the votes are lost too: it votes only in terms that it can't have voted in. */
    if (is_wiped(raft)) raft->no_vote_before_term = before_wipe + 1;
    raft->state_dirty = true;
    raft->ack_due = true;
    log_info(raft->logger, "log is complete again", "index=%llu term=%llu", (unsigned long long)held,
             (unsigned long long)raft->term);
}
