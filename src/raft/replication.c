/*
 * replication.c - pipelined log replication, one progress record for each follower (EntryReplicationController); authority
 * and commit index (LeaderHeartbeatController).
 *
 * A follower's acknowledgement is cumulative: the smaller of what it verified against this leader's log and what is durable
 * there. So one acknowledgement a disk write is enough, and a late or repeated one does no harm.
 */
#include "base/mark.h"
#include "base/mutant.h"
#include "raft/raft_internal.h"

/* ---- leader: progress ---- */

static void forget_inflight(struct progress *peer)
{
    peer->inflight_head = 0;
    peer->inflight_count = 0;
    peer->inflight_bytes = 0;
}

static void begin_probe(struct progress *peer)
{
    peer->state = PROGRESS_PROBE;
    peer->probe_sent = false;
    forget_inflight(peer);
}

static void add_inflight(struct progress *peer, raft_index last_index, uint64_t bytes, time_ns now)
{
    if (peer->inflight_count == 0) peer->last_advanced = now;
    uint32_t slot = (peer->inflight_head + peer->inflight_count) % PROGRESS_INFLIGHT_MAX;
    peer->inflight[slot] = (struct inflight){.last_index = last_index, .bytes = bytes};
    peer->inflight_count++;
    peer->inflight_bytes += bytes;
}

static void free_inflight(struct progress *peer, raft_index acked)
{
    while (peer->inflight_count > 0 && peer->inflight[peer->inflight_head].last_index <= acked) {
        peer->inflight_bytes -= peer->inflight[peer->inflight_head].bytes;
        peer->inflight_head = (peer->inflight_head + 1) % PROGRESS_INFLIGHT_MAX;
        peer->inflight_count--;
    }
}

void replication_become_leader(struct raft *raft, struct raft_effects *effects)
{
    CHECK(raft->role == RAFT_CANDIDATE && !raft->uncertain);
    raft->role = RAFT_LEADER;
    raft->leader = raft->config.self;
    if (raft->transfer_campaign) MARK(LEADERSHIP_TRANSFERRED);
    if (raft->log.last_index > raft->commit) MARK(LEADER_WITH_OLD_UNCOMMITTED);
    raft->leader_crashed = false;
    raft->quick_tries = 0;
    raft->heartbeat_deadline = raft->now + raft->config.heartbeat_interval;
    raft->quorum_deadline = raft->now + raft->config.election_timeout;
    raft->term_first_index = raft->log.last_index + 1;
    raft->transfer_target = 0;
    for (uint32_t i = 0; i < raft->peer_count; i++) {
        struct progress *peer = &raft->peers[i];
        begin_probe(peer);
        peer->match = 0;
        peer->next = raft->log.last_index + 1;
        peer->log_read_pending = false;
        peer->last_heard = raft->now;
        peer->read_round = 0;
    }
    raft_append_entry(raft, entry_new(ENTRY_EMPTY, 0));
    effects->role_changed = true;
    log_info(raft->logger, "became leader", "term=%llu index=%llu", (unsigned long long)raft->term,
             (unsigned long long)raft->term_first_index);
}

static void send_append(struct raft *raft, struct progress *peer, struct entry *const *entries, uint32_t count,
                        uint64_t bytes, struct raft_effects *effects)
{
    struct peer_message message = raft_message_to(raft, PEER_APPEND, peer->id);
    message.index = peer->next - 1;
    message.log_term = raft_log_term(&raft->log, peer->next - 1);
    message.commit = raft->commit;
    if (count > 0) {
        message.entries = mem_alloc(count * sizeof message.entries[0]);
        message.entry_count = count;
        for (uint32_t i = 0; i < count; i++) message.entries[i] = entry_ref(entries[i]);
    }
    raft_send(raft, &message, effects);
    peer->last_sent = raft->now;
    if (peer->state == PROGRESS_PROBE) {
        peer->probe_sent = true;
    } else if (count > 0) {
        peer->next += count;
        add_inflight(peer, peer->next - 1, bytes, raft->now);
    }
}

/* Takes entries from `first` on that fit one message; at least one. */
static uint32_t count_that_fits(const struct raft *raft, raft_index first, uint64_t bytes_max, uint64_t *bytes)
{
    uint32_t count = 0;
    *bytes = 0;
    for (raft_index i = first; i <= raft->log.last_index; i++) {
        uint64_t size = raft_log_entry(&raft->log, i)->record_bytes;
        if (count > 0 && *bytes + size > bytes_max) break;
        *bytes += size;
        count++;
    }
    return count;
}

static bool window_is_open(const struct raft *raft, const struct progress *peer)
{
    return peer->inflight_count < PROGRESS_INFLIGHT_MAX && peer->inflight_bytes < raft->config.inflight_bytes_max;
}

static void replicate_to(struct raft *raft, struct progress *peer, struct raft_effects *effects)
{
    struct raft_log *log = &raft->log;
    if (peer->state == PROGRESS_REPLICATE && !window_is_open(raft, peer)) MARK(WINDOW_FULL);
    while (peer->connected && !peer->log_read_pending) {
        if (peer->next < log->first_index) {
            if (peer->state != PROGRESS_SNAPSHOT) {
                MARK(FOLLOWER_NEEDS_SNAPSHOT);
                begin_probe(peer);
                peer->state = PROGRESS_SNAPSHOT;
            }
            if (!peer->probe_sent) effects_add_snapshot_peer(effects, peer->id);
            peer->probe_sent = true;
            return;
        }
        if (peer->state == PROGRESS_SNAPSHOT) begin_probe(peer);
        if (peer->state == PROGRESS_PROBE && peer->probe_sent) return;
        if (peer->state == PROGRESS_REPLICATE && (peer->next > log->last_index || !window_is_open(raft, peer))) return;
        if (peer->next < log->cache_first) {
            if (peer->state == PROGRESS_PROBE) {
                send_append(raft, peer, NULL, 0, 0, effects);
                return;
            }
            struct raft_read_log read = {.peer = peer->id,
                                         .first_index = peer->next,
                                         .last_index = log->last_index,
                                         .bytes_max = raft->config.append_bytes_max};
            effects_add_log_read(effects, &read);
            peer->log_read_pending = true;
            return;
        }
        uint64_t bytes = 0;
        uint32_t count = count_that_fits(raft, peer->next, raft->config.append_bytes_max, &bytes);
        struct entry *const *entries = count == 0 ? NULL : log->entries + log->head + (peer->next - log->cache_first);
        send_append(raft, peer, entries, count, bytes, effects);
    }
}

void replication_log_read(struct raft *raft, const struct raft_event *event, struct raft_effects *effects)
{
    struct progress *peer = raft_peer(raft, event->peer);
    if (peer == NULL || raft->role != RAFT_LEADER || !peer->log_read_pending) return;
    peer->log_read_pending = false;
    if (peer->state != PROGRESS_REPLICATE || !peer->connected) return;
    if (event->entry_count == 0) {
        MARK(LOG_READ_GONE);
        /* They are gone, or damaged: a snapshot brings the follower forward. */
        begin_probe(peer);
        peer->state = PROGRESS_SNAPSHOT;
        peer->next = raft->log.first_index - 1; /* as if it needed what is before the log */
        peer->probe_sent = true;
        effects_add_snapshot_peer(effects, peer->id);
        return;
    }
    /* The answer may be to a question of before a reconnect, or of an earlier leadership. */
    if (entry_index(event->entries[0]) != peer->next) return;
    uint64_t bytes = 0;
    uint32_t count = 0;
    while (count < event->entry_count) {
        const struct entry *entry = event->entries[count];
        if (entry_term(entry) != raft_log_term(&raft->log, entry_index(entry))) break;
        bytes += entry->record_bytes;
        count++;
    }
    if (count > 0) MARK(LOG_READ_BACK);
    if (count > 0) send_append(raft, peer, event->entries, count, bytes, effects);
}

void replication_heartbeat(struct raft *raft, struct raft_effects *effects)
{
    for (uint32_t i = 0; i < raft->peer_count; i++) {
        struct progress *peer = &raft->peers[i];
        if (!peer->connected) continue;
        struct peer_message message = raft_message_to(raft, PEER_APPEND, peer->id);
        /* An entry that the follower surely has, so that this is never refused. */
        message.index = peer->match + 1 < raft->log.first_index ? 0 : peer->match;
        message.log_term = message.index == 0 ? 0 : raft_log_term(&raft->log, message.index);
        message.commit = raft->commit;
        message.context = raft->read_round;
        raft_send(raft, &message, effects);
        peer->last_sent = raft->now;
    }
}

static void finish_transfer(struct raft *raft, struct raft_effects *effects)
{
    if (raft->transfer_target == 0 || raft->transfer_sent) return;
    struct progress *peer = raft_peer(raft, raft->transfer_target);
    if (peer->match < raft->log.last_index || !peer->connected) return;
    raft->transfer_sent = true;
    struct peer_message message = raft_message_to(raft, PEER_TIMEOUT_NOW, peer->id);
    raft_send(raft, &message, effects);
}

void replication_transfer(struct raft *raft, member_id target, struct raft_effects *effects)
{
    if (raft->role != RAFT_LEADER) return;
    if (target == 0) {
        const struct progress *best = NULL;
        for (uint32_t i = 0; i < raft->peer_count; i++) {
            const struct progress *peer = &raft->peers[i];
            if (!peer->connected || peer->uncertain) continue;
            if (best == NULL || peer->match > best->match) best = peer;
        }
        if (best == NULL) return;
        target = best->id;
    }
    if (raft_peer(raft, target) == NULL) return;
    raft->transfer_target = target;
    raft->transfer_sent = false;
    raft->transfer_deadline = raft->now + raft->config.election_timeout;
    finish_transfer(raft, effects);
}

static void check_quorum(struct raft *raft, struct raft_effects *effects)
{
    uint32_t active = 1;
    for (uint32_t i = 0; i < raft->peer_count; i++) {
        const struct progress *peer = &raft->peers[i];
        active += !peer->uncertain && peer->last_heard + raft->config.election_timeout > raft->now;
    }
    raft->quorum_deadline = raft->now + raft->config.election_timeout;
    if (active >= quorum_of(raft)) return;
    MARK(LEADER_LOST_QUORUM);
    log_warn(raft->logger, "lost touch with the quorum, stepping down", "term=%llu active=%u of=%u",
             (unsigned long long)raft->term, active, raft->config.member_count);
    raft_become_follower(raft, raft->term, 0, effects);
}

void replication_tick(struct raft *raft, struct raft_effects *effects)
{
    if (raft->role == RAFT_LEADER && raft->now >= raft->quorum_deadline) check_quorum(raft, effects);
    if (raft->role != RAFT_LEADER) return;
    if (raft->transfer_target != 0 && raft->now >= raft->transfer_deadline) raft->transfer_target = 0;
    if (raft->now < raft->heartbeat_deadline) return;
    raft->heartbeat_deadline = raft->now + raft->config.heartbeat_interval;
    for (uint32_t i = 0; i < raft->peer_count; i++) {
        struct progress *peer = &raft->peers[i];
        peer->probe_sent = false;
        /* Connections lose nothing, but a follower that was installing a snapshot took nothing from them. */
        bool stalled = peer->inflight_count > 0 && raft->now >= peer->last_advanced + 2 * raft->config.election_timeout;
        if (peer->state == PROGRESS_REPLICATE && stalled) {
            begin_probe(peer);
            peer->next = peer->match + 1;
        }
    }
    replication_heartbeat(raft, effects);
}

void replication_advance_commit(struct raft *raft)
{
    if (raft->role != RAFT_LEADER) return;
    raft_index match[MEMBERS_MAX];
    uint32_t count = 0;
    /* Contract rule 3. */
    match[count++] = MUTANT(LEADER_COUNTS_ITSELF_EARLY) ? raft->log.last_index : raft->log.durable_index;
    for (uint32_t i = 0; i < raft->peer_count; i++) {
        bool ignored = raft->peers[i].uncertain && !MUTANT(UNCERTAIN_COUNTS);
        match[count++] = ignored ? 0 : raft->peers[i].match;
    }
    for (uint32_t i = 1; i < count; i++) {
        for (uint32_t j = i; j > 0 && match[j] > match[j - 1]; j--) {
            raft_index other = match[j];
            match[j] = match[j - 1];
            match[j - 1] = other;
        }
    }
    raft_index index = match[quorum_of(raft) - 1];
    /* Only entries of the current term are committed by counting (dissertation §3.6.2). */
    bool own = raft_log_term(&raft->log, index) == raft->term || MUTANT(COMMIT_EARLIER_TERM);
    if (index <= raft->commit || !own) return;
    /* A new leader's first commit tells followers what became of commands from before; they needn't wait for a heartbeat. */
    if (raft->commit < raft->term_first_index) raft->announce_commit = true;
    raft->commit = index;
}

static void on_rejection(struct raft *raft, struct progress *peer, const struct peer_message *message)
{
    if (message->index <= peer->match) return; /* late */
    if (peer->state == PROGRESS_SNAPSHOT) return;
    MARK(APPEND_REJECTED);
    raft_index hint = raft_log_last_at_most(&raft->log, message->hint_index, message->hint_term);
    raft_index next = hint + 1;
    if (next > message->index) next = message->index;
    /* Below first_index - 1 nothing can be compared; a snapshot has to bring the follower forward (next < first_index). */
    if (message->hint_index + 1 < raft->log.first_index) next = message->hint_index + 1;
    if (raft_log_term(&raft->log, hint) > message->hint_term) next = hint;
    if (next <= peer->match) next = peer->match + 1;
    if (next == 0) next = 1;
    begin_probe(peer);
    peer->next = next;
}

void replication_on_append_reply(struct raft *raft, const struct peer_message *message, struct raft_effects *effects)
{
    struct progress *peer = raft_peer(raft, message->from);
    if (raft->role != RAFT_LEADER || peer == NULL) return;
    peer->last_heard = raft->now;
    bool was_uncertain = peer->uncertain;
    if (message->uncertain && !message->rejected) MARK(ACK_OF_UNCERTAIN);
    peer->uncertain = message->uncertain;
    if (message->rejected) {
        on_rejection(raft, peer, message);
        return;
    }
    if (message->index > raft->log.last_index) {
        log_error(raft->logger, "acknowledgement beyond the log ignored", "index=%llu last_index=%llu",
                  (unsigned long long)message->index, (unsigned long long)raft->log.last_index);
        return;
    }
    if (message->context > peer->read_round && message->context <= raft->read_round) {
        peer->read_round = message->context;
        read_index_acked(raft, effects);
    }
    bool advanced = message->index > peer->match;
    if (advanced) {
        peer->match = message->index;
        free_inflight(peer, message->index);
        peer->last_advanced = raft->now;
        if (peer->next <= message->index) peer->next = message->index + 1;
    }
    bool installed = peer->state == PROGRESS_SNAPSHOT && advanced && message->index + 1 >= raft->log.first_index;
    if (installed || (peer->state == PROGRESS_PROBE && message->index + 1 >= peer->next)) {
        peer->state = PROGRESS_REPLICATE;
        peer->next = message->index + 1;
        forget_inflight(peer);
    }
    if (advanced || was_uncertain != peer->uncertain) {
        replication_advance_commit(raft);
        finish_transfer(raft, effects);
    }
}

void replication_snapshot_sent(struct raft *raft, const struct raft_event *event)
{
    struct progress *peer = raft_peer(raft, event->peer);
    if (raft->role != RAFT_LEADER || peer == NULL || peer->state != PROGRESS_SNAPSHOT) return;
    if (event->rejected) return; /* asked for again at the next heartbeat */
    begin_probe(peer);
    if (event->index + 1 > peer->next) peer->next = event->index + 1;
    if (peer->next > raft->log.last_index + 1) peer->next = raft->log.last_index + 1;
}

void replication_peer_connected(struct raft *raft, const struct raft_event *event)
{
    struct progress *peer = raft_peer(raft, event->peer);
    if (peer == NULL) return;
    peer->connected = true;
    peer->log_read_pending = false;
    bool restarted = peer->incarnation != event->incarnation;
    peer->incarnation = event->incarnation;
    if (event->peer == raft->leader) raft->last_ack_at = ACK_AT_ONCE; /* it probes */
    if (raft->role != RAFT_LEADER) return;
    read_index_forget(raft, event->peer);
    /* What was in flight is lost. A new incarnation may have lost more: what it holds is asked anew. */
    if (restarted) peer->match = 0;
    if (peer->match > 0) peer->next = peer->match + 1;
    if (peer->next > raft->log.last_index + 1) peer->next = raft->log.last_index + 1;
    begin_probe(peer);
}

/* ---- follower ---- */

void replication_take_commit(struct raft *raft, raft_index commit)
{
    raft_index end = MUTANT(COMMIT_BEYOND_VERIFIED) ? raft->log.last_index : raft->verified;
    raft_index known = commit < end ? commit : end;
    if (known > raft->commit) raft->commit = known;
}

static void reject(struct raft *raft, const struct peer_message *message, struct raft_effects *effects)
{
    struct peer_message reply = raft_message_to(raft, PEER_APPEND_REPLY, message->from);
    reply.rejected = true;
    reply.index = message->index;
    reply.uncertain = raft->uncertain;
    /* The last entry that may match the leader's: none after the refused one, and none of a newer term than it. */
    reply.hint_index = raft_log_last_at_most(&raft->log, message->index, message->log_term);
    reply.hint_term = raft_log_term(&raft->log, reply.hint_index);
    raft->last_ack_at = ACK_AT_ONCE;
    raft_send(raft, &reply, effects);
}

/* Adds the entries after `previous`; false when they can't be right. */
static bool take_entries(struct raft *raft, raft_index previous, const struct peer_message *message)
{
    struct raft_log *log = &raft->log;
    for (uint32_t i = 0; i < message->entry_count; i++) {
        struct entry *entry = message->entries[i];
        raft_index index = previous + 1 + i;
        if (entry_index(entry) != index || entry_term(entry) > message->term) return false;
        if (index < log->first_index) continue;
        if (index <= log->last_index) {
            bool overlaps = raft_log_term(log, index) == entry_term(entry);
            if (overlaps && !(MUTANT(CUTS_ON_OVERLAP) && index > raft->commit)) continue;
            if (index <= raft->commit) return false;
            for (raft_index cut = index; cut <= log->last_index; cut++) {
                raft->unapplied_bytes -= raft_log_entry(log, cut)->record_bytes;
            }
            log_info(raft->logger, "cut a conflicting end of the log", "from_index=%llu last_index=%llu",
                     (unsigned long long)index, (unsigned long long)log->last_index);
            MARK(FOLLOWER_CUT_CONFLICT);
            raft_log_truncate(log, index);
        }
        if (entry_term(entry) < raft_log_last_term(log)) return false;
        if (!entry_follows(entry, raft_log_chain(log, log->last_index))) return false;
        raft_log_append(log, entry_ref(entry));
        raft->unapplied_bytes += entry->record_bytes;
    }
    return true;
}

/* Contract rule 2. */
static raft_index acknowledged_index(const struct raft *raft)
{
    if (MUTANT(ACKNOWLEDGE_BEFORE_SYNC)) return raft->verified;
    return raft->verified < raft->log.durable_index ? raft->verified : raft->log.durable_index;
}

/* An idle follower needn't answer every heartbeat: often enough for CheckQuorum will do. */
static bool ack_says_something(const struct raft *raft)
{
    time_ns interval = raft->config.election_timeout / 3;
    return acknowledged_index(raft) != raft->last_acked || raft->ack_context > raft->last_acked_context ||
           raft->now >= raft->last_ack_at + interval;
}

void replication_on_append(struct raft *raft, const struct peer_message *message, struct raft_effects *effects)
{
    struct raft_log *log = &raft->log;
    raft_index previous = message->index;
    if (raft->installing) {
        /* It takes nothing, but confirms that the leader leads; a large snapshot takes longer than an election timeout. */
        if (message->context > raft->ack_context) raft->ack_context = message->context;
        raft->ack_due = true;
        return;
    }
    bool compared = previous + 1 >= log->first_index; /* before that, all is committed and equal */
    if (previous > log->last_index || (compared && raft_log_term(log, previous) != message->log_term)) {
        reject(raft, message, effects);
        return;
    }
    if (!take_entries(raft, previous, message)) {
        log_error(raft->logger, "an append doesn't continue this log, ignored",
                  "from=%016llx term=%llu index=%llu entries=%u", (unsigned long long)message->from,
                  (unsigned long long)message->term, (unsigned long long)previous, message->entry_count);
        return;
    }
    raft_index verified = MUTANT(ACKNOWLEDGES_UNCOMPARED) ? raft->log.last_index : previous + message->entry_count;
    if (verified > raft->verified) raft->verified = verified;
    replication_take_commit(raft, message->commit);
    if (message->context > raft->ack_context) raft->ack_context = message->context;
    /* New entries are acknowledged when their write is durable. */
    if (message->entry_count > 0 && raft->verified <= log->durable_index) raft->ack_due = true;
    if (message->entry_count == 0 && ack_says_something(raft)) raft->ack_due = true;
    read_index_resolve(raft, effects);
}

static void acknowledge(struct raft *raft, struct raft_effects *effects)
{
    raft->ack_due = false;
    if (raft->role != RAFT_FOLLOWER || raft->leader == 0) return;
    struct peer_message reply = raft_message_to(raft, PEER_APPEND_REPLY, raft->leader);
    reply.index = acknowledged_index(raft);
    reply.context = raft->ack_context;
    reply.uncertain = raft->uncertain;
    raft->last_acked = reply.index;
    raft->last_acked_context = reply.context;
    raft->last_ack_at = raft->now;
    raft_send(raft, &reply, effects);
}

/* ---- both: the end of a turn ---- */

static void issue_write(struct raft *raft, struct raft_effects *effects)
{
    struct raft_log *log = &raft->log;
    if (log->write_pending || raft->installing || log->unwritten_first > log->last_index) return;
    uint64_t bytes = 0;
    raft_index first = log->unwritten_first;
    uint32_t count = count_that_fits(raft, first, RAFT_WRITE_BYTES_MAX, &bytes);
    struct raft_write *write = &effects->write;
    CHECK(write->entry_count == 0);
    write->number = ++log->write_number;
    write->first_index = first;
    write->commit = raft->commit;
    write->previous_term = raft_log_term(log, first - 1);
    write->previous_chain = raft_log_chain(log, first - 1);
    write->entry_count = count;
    write->entries = mem_alloc(count * sizeof write->entries[0]);
    for (uint32_t i = 0; i < count; i++) write->entries[i] = entry_ref(raft_log_entry(log, first + i));
    log->write_pending = true;
    log->write_last = first + count - 1;
    log->unwritten_first = first + count;
}

void replication_flush(struct raft *raft, struct raft_effects *effects)
{
    if (raft->role == RAFT_LEADER) {
        for (uint32_t i = 0; i < raft->peer_count; i++) replicate_to(raft, &raft->peers[i], effects);
        if (raft->announce_commit) replication_heartbeat(raft, effects);
    }
    raft->announce_commit = false;
    if (raft->ack_due) acknowledge(raft, effects);
    issue_write(raft, effects);
}
