/* raft.c - events in, effects out; terms; and what waits until term and vote are durable (RaftStateManager). */
#include "raft/raft_internal.h"

#include "base/mark.h"
#include "base/mutant.h"

const char *raft_role_name(enum raft_role role)
{
    static const char *const names[] = {"follower", "pre-candidate", "candidate", "leader"};
    return names[role];
}

struct progress *raft_peer(struct raft *raft, member_id id)
{
    for (uint32_t i = 0; i < raft->peer_count; i++) {
        if (raft->peers[i].id == id) return &raft->peers[i];
    }
    return NULL;
}

/* An entry of this term is there, so the term was. Its number may not have been saved before a crash; or the saved one is lost. */
static void recover_term(struct raft *raft, raft_term term)
{
    if (term <= raft->term) return;
    raft->term = term;
    raft->vote = 0;
    raft->state_dirty = true;
}

struct raft *raft_new(const struct raft_config *config, const struct raft_boot *boot, struct logger *logger)
{
    CHECK(config->member_count >= 1 && config->member_count <= MEMBERS_MAX);
    CHECK(config->heartbeat_interval > 0 && config->heartbeat_interval < config->election_timeout);
    struct raft *raft = mem_alloc_zero(sizeof *raft);
    raft->config = *config;
    raft->logger = logger;
    random_seed(&raft->random, config->seed);
    raft_log_init(&raft->log, boot->snapshot_index, boot->snapshot_term, boot->snapshot_chain);
    raft->term = boot->term;
    raft->vote = boot->vote;
    raft->commit = boot->snapshot_index;
    raft->applied = boot->snapshot_index;
    raft->no_vote_before_term = boot->no_vote_before_term;
    recover_term(raft, boot->snapshot_term);
    bool self_found = false;
    for (uint32_t i = 0; i < config->member_count; i++) {
        if (config->members[i] == config->self) {
            self_found = true;
        } else {
            raft->peers[raft->peer_count++].id = config->members[i];
        }
    }
    CHECK(self_found);
    /* The first tick sets the timer: only then the time is known. */
    raft->election_deadline = 0;
    return raft;
}

void raft_free(struct raft *raft)
{
    if (raft == NULL) return;
    for (uint32_t i = 0; i < raft->waiting_count; i++) peer_message_release(&raft->waiting[i].message);
    mem_free(raft->waiting);
    mem_free(raft->reads);
    mem_free(raft->forwarded);
    raft_log_free(&raft->log);
    mem_free(raft);
}

void raft_recover_entry(struct raft *raft, struct entry *entry)
{
    struct raft_log *log = &raft->log;
    recover_term(raft, entry_term(entry));
    raft_index index = entry_index(entry);
    if (index <= log->last_index) {
        CHECK(index > raft->commit);
        for (raft_index cut = index; cut <= log->last_index; cut++) {
            raft->unapplied_bytes -= raft_log_entry(log, cut)->record_bytes;
        }
        raft_log_truncate(log, index);
    }
    raft->unapplied_bytes += entry->record_bytes;
    raft_log_append(log, entry);
    log->durable_index = log->last_index;
    log->unwritten_first = log->last_index + 1;
}

void raft_recover_commit(struct raft *raft, raft_index commit)
{
    if (commit > raft->log.last_index) commit = raft->log.last_index;
    if (commit > raft->commit) raft->commit = commit;
}

void raft_append_entry(struct raft *raft, struct entry *entry)
{
    entry_seal(entry, raft->log.last_index + 1, raft->term, raft_log_chain(&raft->log, raft->log.last_index));
    raft->unapplied_bytes += entry->record_bytes;
    raft_log_append(&raft->log, entry);
}

void raft_recover_uncertain(struct raft *raft, const struct raft_uncertainty *uncertainty)
{
    raft->uncertain = true;
    raft->extent_known = uncertainty->extent_known;
    raft->known_last_index = uncertainty->known_last_index;
    raft->known_last_term = uncertainty->known_last_term;
}

/* ---- term and vote, and what waits for them ---- */

bool raft_state_durable(const struct raft *raft)
{
    return !raft->state_dirty && !raft->save_pending;
}

void raft_set_vote(struct raft *raft, raft_term term, member_id vote)
{
    if (raft->term == term && raft->vote == vote) return;
    raft->term = term;
    raft->vote = vote;
    if (!raft->uncertain && term >= raft->no_vote_before_term) raft->no_vote_before_term = 0;
    raft->state_dirty = true;
}

void raft_hear_term(struct raft *raft, member_id id, raft_term term)
{
    struct progress *peer = raft_peer(raft, id);
    if (peer == NULL || peer->heard) return;
    peer->heard = true;
    peer->heard_term = term;
}

struct peer_message raft_message_to(const struct raft *raft, enum peer_message_type type, member_id to)
{
    return (struct peer_message){.type = type, .from = raft->config.self, .to = to, .term = raft->term};
}

void raft_send(struct raft *raft, struct peer_message *message, struct raft_effects *effects)
{
    bool early = (message->type == PEER_VOTE_REPLY && MUTANT(VOTE_BEFORE_SAVE)) ||
                 (message->type == PEER_VOTE && MUTANT(CAMPAIGN_BEFORE_SAVE));
    if (raft_state_durable(raft) || early) {
        raft_effects_add_message(effects, message);
        return;
    }
    if (raft->waiting_count == raft->waiting_capacity) {
        raft->waiting_capacity = raft->waiting_capacity == 0 ? 16 : raft->waiting_capacity * 2;
        raft->waiting = mem_realloc(raft->waiting, raft->waiting_capacity * sizeof raft->waiting[0]);
    }
    /* A change that no save holds yet goes with the next one. */
    uint64_t save_number = raft->state_dirty ? raft->save_number + 1 : raft->save_number;
    raft->waiting[raft->waiting_count++] = (struct waiting_message){.message = *message, .save_number = save_number};
    message->entries = NULL;
    message->entry_count = 0;
}

static void on_state_saved(struct raft *raft, uint64_t number, struct raft_effects *effects)
{
    if (!raft->save_pending || number != raft->save_number) return;
    raft->save_pending = false;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < raft->waiting_count; i++) {
        if (raft->waiting[i].save_number <= number) {
            raft_effects_add_message(effects, &raft->waiting[i].message);
        } else {
            raft->waiting[kept++] = raft->waiting[i];
        }
    }
    raft->waiting_count = kept;
    election_state_saved(raft, effects);
}

static void issue_save(struct raft *raft, struct raft_effects *effects)
{
    if (!raft->state_dirty || raft->save_pending) return;
    CHECK(effects->save.number == 0);
    raft->state_dirty = false;
    raft->save_pending = true;
    effects->save = (struct raft_save){.number = ++raft->save_number,
                                       .term = raft->term,
                                       .vote = raft->vote,
                                       .no_vote_before_term = raft->no_vote_before_term,
                                       .catching_up = raft->uncertain};
}

void raft_become_follower(struct raft *raft, raft_term term, member_id leader, struct raft_effects *effects)
{
    CHECK(term >= raft->term);
    /* Even the same leader may have cut its log since it last led. */
    bool new_term = term > raft->term;
    if (new_term) raft_set_vote(raft, term, 0);
    if (raft->role != RAFT_FOLLOWER) {
        if (raft->role == RAFT_LEADER) {
            if (new_term) MARK(HIGHER_TERM_DEPOSED_LEADER);
            if (leader != 0) {
                log_info(raft->logger, "stepped down", "term=%llu leader=%016llx", (unsigned long long)term,
                         (unsigned long long)leader);
            } else {
                log_info(raft->logger, "stepped down", "term=%llu leader=none", (unsigned long long)term);
            }
        }
        /* A candidate that was refused keeps its short timer, to try again soon. */
        if (raft->role == RAFT_LEADER || leader != 0) election_reset_timer(raft);
        effects->role_changed = true;
    }
    if (raft->role != RAFT_FOLLOWER || raft->leader != leader || new_term) {
        raft->verified = 0;
        raft->ack_context = 0;
        raft->last_acked_context = 0;
        raft->last_ack_at = ACK_AT_ONCE;
        raft->resolve_asked = false;
        raft->role = RAFT_FOLLOWER;
        raft->leader = leader;
        raft->transfer_target = 0;
        effects->role_changed = true;
        read_index_fail_all(raft, effects);
    }
}

/* ---- messages ---- */

static bool is_from_leader(enum peer_message_type type)
{
    return type == PEER_APPEND || type == PEER_SNAPSHOT;
}

static void reject_old_term(struct raft *raft, const struct peer_message *message, struct raft_effects *effects)
{
    struct peer_message reply = raft_message_to(raft, PEER_APPEND_REPLY, message->from);
    if (message->type == PEER_VOTE) {
        reply.type = PEER_VOTE_REPLY;
    } else if (!is_from_leader(message->type)) {
        return;
    }
    reply.rejected = true;
    reply.index = message->index;
    reply.uncertain = raft->uncertain;
    raft_send(raft, &reply, effects);
}

/* Handles the message's term; false when the message ends here. */
static bool take_term(struct raft *raft, const struct peer_message *message, struct raft_effects *effects)
{
    enum peer_message_type type = message->type;
    if (type == PEER_PREVOTE || type == PEER_FORWARD || type == PEER_DIVERGED) return true;
    if (type == PEER_PREVOTE_REPLY && (!message->rejected || message->term <= raft->term)) return true;
    raft_hear_term(raft, message->from, message->term);
    if (message->term < raft->term) {
        reject_old_term(raft, message, effects);
        return false;
    }
    if (message->term > raft->term) {
        if (type == PEER_VOTE && !message->transfer && election_is_sticky(raft)) return false;
        raft_become_follower(raft, message->term, is_from_leader(type) ? message->from : 0, effects);
    }
    return true;
}

/* A message that only the leader of the current term sends. */
static bool take_leader(struct raft *raft, const struct peer_message *message, struct raft_effects *effects)
{
    if (raft->role == RAFT_LEADER) {
        log_error(raft->logger, "another leader in the same term, ignored", "term=%llu from=%016llx",
                  (unsigned long long)raft->term, (unsigned long long)message->from);
        return false;
    }
    if (raft->role != RAFT_FOLLOWER || raft->leader != message->from) {
        raft_become_follower(raft, message->term, message->from, effects);
    }
    raft->leader_heard = raft->now;
    raft->leader_crashed = false;
    raft->quick_tries = 0;
    election_reset_timer(raft);
    return true;
}

static void on_message(struct raft *raft, const struct peer_message *message, struct raft_effects *effects)
{
    if (raft_peer(raft, message->from) == NULL || !take_term(raft, message, effects)) return;
    switch (message->type) {
    case PEER_PREVOTE:
        election_on_prevote(raft, message, effects);
        break;
    case PEER_PREVOTE_REPLY:
        election_on_prevote_reply(raft, message, effects);
        break;
    case PEER_VOTE:
        election_on_vote(raft, message, effects);
        break;
    case PEER_VOTE_REPLY:
        election_on_vote_reply(raft, message, effects);
        break;
    case PEER_APPEND:
        if (take_leader(raft, message, effects)) replication_on_append(raft, message, effects);
        break;
    case PEER_APPEND_REPLY:
        replication_on_append_reply(raft, message, effects);
        break;
    case PEER_SNAPSHOT:
        take_leader(raft, message, effects);
        break;
    case PEER_TIMEOUT_NOW:
        if (raft->role == RAFT_FOLLOWER && raft->leader == message->from && !raft->installing) {
            election_campaign(raft, true, effects);
        }
        break;
    case PEER_READ:
        /* That it is certain again is taken from its acknowledgements, which are counted then. */
        if (message->uncertain) raft_peer(raft, message->from)->uncertain = true;
        read_index_ask(raft, message->from, message->context, effects);
        break;
    case PEER_READ_REPLY:
        read_index_on_reply(raft, message, effects);
        break;
    case PEER_FORWARD_REPLY:
    case PEER_LEASE_REPLY:
        if (raft->role == RAFT_FOLLOWER && raft->leader == message->from && !message->rejected) {
            replication_take_commit(raft, message->commit);
        }
        break;
    default:
        break; /* snapshot replies and what is forwarded are the host's */
    }
}

/* ---- the other events ---- */

static void on_propose(struct raft *raft, struct entry *entry, struct raft_effects *effects)
{
    if (raft->role != RAFT_LEADER || raft->transfer_target != 0) {
        effects->propose_error = ERR_NO_LEADER;
    } else if (raft->unapplied_bytes > raft->config.unapplied_bytes_max) {
        effects->propose_error = ERR_TOO_MANY;
    } else {
        effects->propose_error = ERR_OK;
        raft_append_entry(raft, entry);
        effects->proposed_index = raft->log.last_index;
        return;
    }
    entry_unref(entry);
}

static void on_log_written(struct raft *raft, uint64_t number, struct raft_effects *effects)
{
    if (!raft_log_written(&raft->log, number)) return;
    raft->ack_due = true;
    replication_advance_commit(raft);
    read_index_resolve(raft, effects);
}

static void on_applied(struct raft *raft, raft_index index)
{
    CHECK(index >= raft->applied && index <= raft->commit);
    while (raft->applied < index) {
        raft->applied++;
        raft->unapplied_bytes -= raft_log_entry(&raft->log, raft->applied)->record_bytes;
    }
    raft_index limit = index < raft->log.durable_index ? index : raft->log.durable_index;
    raft_log_evict(&raft->log, limit, raft->config.cache_bytes_max);
}

/* Barriers that were asked of the leader may be lost with its connection, or were asked while there was none. */
static void forget_asked(struct raft *raft, member_id peer, struct raft_effects *effects)
{
    if (peer != raft->leader) return;
    read_index_fail_all(raft, effects);
    raft->resolve_asked = false;
}

static void on_peer_lost(struct raft *raft, const struct raft_event *event, struct raft_effects *effects)
{
    struct progress *peer = raft_peer(raft, event->peer);
    if (peer == NULL) return;
    peer->connected = false;
    peer->log_read_pending = false;
    forget_asked(raft, event->peer, effects);
    election_peer_lost(raft, event->peer, event->crashed);
}

static void on_installed(struct raft *raft, const struct raft_event *event)
{
    CHECK(event->index > raft->commit || MUTANT(INSTALLS_OLDER_SNAPSHOT));
    /* Else what follows it in the log may have been acknowledged, and is lost. */
    bool in_log = raft_log_term(&raft->log, event->index) == event->log_term;
    CHECK(!in_log || MUTANT(INSTALLS_OVER_LONGER_LOG) || MUTANT(INSTALLS_OLDER_SNAPSHOT));
    raft->installing = false;
    raft_log_reset(&raft->log, event->index, event->log_term, event->chain);
    raft->commit = event->index;
    raft->applied = event->index;
    raft->unapplied_bytes = 0;
    /* It came from a leader, so it is a part of every later leader's log. */
    raft->verified = raft->leader != 0 ? event->index : 0;
    raft->ack_due = true;
}

static void on_tick(struct raft *raft, struct raft_effects *effects)
{
    if (raft->election_deadline == 0) election_start_timer(raft);
    if (raft->config.member_count == 1 && raft->role == RAFT_FOLLOWER && !raft->uncertain) {
        election_campaign(raft, false, effects); /* nobody to wait for */
    }
    election_tick(raft, effects);
    replication_tick(raft, effects);
    if (raft->uncertain) read_index_resolve(raft, effects);
}

void raft_step(struct raft *raft, const struct raft_event *event, struct raft_effects *effects)
{
    if (event->now > raft->now) raft->now = event->now;
    switch (event->type) {
    case RAFT_TICK:
        on_tick(raft, effects);
        break;
    case RAFT_FLUSH:
        read_index_flush(raft, effects);
        replication_flush(raft, effects);
        break;
    case RAFT_MESSAGE:
        on_message(raft, event->message, effects);
        break;
    case RAFT_PROPOSE:
        on_propose(raft, event->entry, effects);
        break;
    case RAFT_READ:
        read_index_ask(raft, 0, event->context, effects);
        break;
    case RAFT_STATE_SAVED:
        on_state_saved(raft, event->number, effects);
        break;
    case RAFT_LOG_WRITTEN:
        on_log_written(raft, event->number, effects);
        break;
    case RAFT_LOG_READ:
        replication_log_read(raft, event, effects);
        break;
    case RAFT_APPLIED:
        on_applied(raft, event->index);
        break;
    case RAFT_LOG_REMOVED:
        raft_log_remove_before(&raft->log, event->index);
        break;
    case RAFT_INSTALL_BEGIN:
        raft->installing = true;
        break;
    case RAFT_INSTALL_ABANDON:
        raft->installing = false;
        break;
    case RAFT_SNAPSHOT_INSTALLED:
        on_installed(raft, event);
        read_index_resolve(raft, effects);
        break;
    case RAFT_SNAPSHOT_SENT:
        replication_snapshot_sent(raft, event);
        break;
    case RAFT_PEER_CONNECTED:
        raft_hear_term(raft, event->peer, event->log_term);
        replication_peer_connected(raft, event);
        forget_asked(raft, event->peer, effects);
        break;
    case RAFT_PEER_LOST:
        on_peer_lost(raft, event, effects);
        break;
    case RAFT_TRANSFER:
        replication_transfer(raft, event->peer, effects);
        break;
    case RAFT_STEP_DOWN:
        raft->barred = true;
        if (raft->role != RAFT_FOLLOWER) raft_become_follower(raft, raft->term, 0, effects);
        break;
    case RAFT_SAVE_STATE:
        raft->state_dirty = true;
        break;
    }
    /* Recovery applies what is known to be committed, before there is a host that could save anything. */
    raft->begun |= event->type != RAFT_APPLIED;
    if (raft->begun) issue_save(raft, effects);
}

/* ---- looking at it ---- */

time_ns raft_deadline(const struct raft *raft)
{
    if (raft->role != RAFT_LEADER) return raft->election_deadline;
    time_ns deadline = raft->heartbeat_deadline;
    if (raft->quorum_deadline < deadline) deadline = raft->quorum_deadline;
    if (raft->transfer_target != 0 && raft->transfer_deadline < deadline) deadline = raft->transfer_deadline;
    return deadline;
}

struct entry *raft_committed_entry(const struct raft *raft, raft_index index)
{
    CHECK(index > raft->applied && index <= raft->commit);
    return raft_log_entry(&raft->log, index);
}

raft_term raft_term_at(const struct raft *raft, raft_index index)
{
    return raft_log_term(&raft->log, index);
}

bool raft_entry_at(const struct raft *raft, raft_index index, raft_term *term, uint32_t *chain)
{
    if (index + 1 < raft->log.cache_first || index > raft->log.last_index) return false;
    *term = raft_log_term(&raft->log, index);
    *chain = raft_log_chain(&raft->log, index);
    return true;
}

raft_term raft_current_term(const struct raft *raft)
{
    return raft->term;
}

void raft_status(const struct raft *raft, struct raft_status *out)
{
    *out = (struct raft_status){
        .role = raft->role,
        .term = raft->term,
        .vote = raft->vote,
        .leader = raft->leader,
        .commit = raft->commit,
        .applied = raft->applied,
        .last_index = raft->log.last_index,
        .last_term = raft_log_last_term(&raft->log),
        .durable_index = raft->log.durable_index,
        .first_index = raft->log.first_index,
        .uncertain = raft->uncertain,
        .may_serve = raft->role == RAFT_LEADER && raft->commit >= raft->term_first_index,
        .unapplied_bytes = raft->unapplied_bytes,
        .cached_bytes = raft->log.cached_bytes,
        .peer_count = raft->peer_count,
    };
    for (uint32_t i = 0; i < raft->peer_count; i++) {
        const struct progress *peer = &raft->peers[i];
        out->peers[i] = (struct raft_peer_status){
            .id = peer->id,
            .match = peer->match,
            .next = peer->next,
            .recently_active = peer->last_heard != 0 && peer->last_heard + raft->config.election_timeout > raft->now,
            .needs_snapshot = peer->state == PROGRESS_SNAPSHOT,
            .uncertain = peer->uncertain,
        };
    }
}
