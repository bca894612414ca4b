/* replica.c - events in, effects out: raft, store and the requests under way as one object. */
#include "replica/replica_internal.h"

#include "base/mark.h"
#include "base/random.h"
#include "storage/raft_state.h"

void replica_add_result(struct replica_effects *effects, const struct replica_result *result)
{
    if (effects->result_count == effects->result_capacity) {
        effects->result_capacity = effects->result_capacity == 0 ? 64 : effects->result_capacity * 2;
        effects->results = mem_realloc(effects->results, effects->result_capacity * sizeof effects->results[0]);
    }
    effects->results[effects->result_count++] = *result;
}

void replica_add_plain_result(struct replica_effects *effects, uint64_t request, enum error error,
                              store_revision revision)
{
    struct replica_result result = {.request = request, .error = error, .revision = revision};
    replica_add_result(effects, &result);
}

void replica_outcome_free(struct replica_outcome *outcome)
{
    if (outcome == NULL) return;
    txn_answer_release(&outcome->answer);
    arena_free(&outcome->arena);
    mem_free(outcome);
}

void replica_fatal(struct replica_effects *effects, const char *format, ...)
{
    CHECK(effects != NULL);
    if (effects->fatal) return;
    effects->fatal = true;
    struct buffer text = {0};
    va_list arguments;
    va_start(arguments, format);
    buffer_append_vformat(&text, format, arguments);
    va_end(arguments);
    size_t size = text.size < sizeof effects->fatal_text - 1 ? text.size : sizeof effects->fatal_text - 1;
    memcpy(effects->fatal_text, text.data, size);
    effects->fatal_text[size] = 0;
    buffer_free(&text);
}

static void drop_outcomes(struct replica_effects *effects)
{
    for (uint32_t i = 0; i < effects->result_count; i++) replica_outcome_free(effects->results[i].outcome);
}

void replica_effects_clear(struct replica_effects *effects)
{
    raft_effects_clear(&effects->raft);
    drop_outcomes(effects);
    effects->result_count = 0;
    effects->snapshot_due = false;
    effects->snapshot_chunk = false;
    effects->fatal = false;
}

void replica_effects_free(struct replica_effects *effects)
{
    raft_effects_free(&effects->raft);
    drop_outcomes(effects);
    mem_free(effects->results);
    *effects = (struct replica_effects){0};
}

void replica_raft(struct replica *replica, struct raft_event *event, struct replica_effects *effects)
{
    event->now = replica->now;
    raft_step(replica->raft, event, &effects->raft);
}

/* ---- life ---- */

struct replica *replica_new(const struct replica_config *config, struct logger *logger)
{
    CHECK(config->requests_max >= 1 && config->requests_max <= REPLICA_REQUESTS_LIMIT);
    struct replica *replica = mem_alloc_zero(sizeof *replica);
    replica->config = *config;
    replica->logger = logger;
    replica->store = store_new();
    sessions_init(&replica->sessions, config->history_bytes_budget);
    sessions_init(&replica->forwards_taken, 0);
    sessions_init(&replica->forwards_refused, 0);
    content_scrub_init(&replica->scrub, &config->content_scrub);
    replica->writes = mem_alloc_zero(REQUEST_SLOTS * sizeof replica->writes[0]);
    replica->next_sequence = 1;
    replica->oldest_sequence = 1;
    replica->lease_requests.first_sequence = 1;
    replica->lease_requests.retry_at = TIME_NS_NEVER;
    return replica;
}

void replica_free(struct replica *replica)
{
    if (replica == NULL) return;
    replica_snapshot_end(replica);
    replica->installing = false;
    replica_load_abandon(replica);
    requests_free(replica);
    reads_free(replica);
    lessor_free(replica);
    lease_requests_free(replica);
    mem_free(replica->wants);
    arena_free(&replica->apply_arena);
    raft_free(replica->raft);
    store_free(replica->store);
    sessions_free(&replica->sessions);
    sessions_free(&replica->forwards_taken);
    sessions_free(&replica->forwards_refused);
    content_scrub_free(&replica->scrub);
    mem_free(replica);
}

void replica_boot(struct replica *replica, const struct raft_boot *boot)
{
    struct raft_boot raft_boot = *boot;
    raft_boot.snapshot_index = replica->applied;
    raft_boot.snapshot_term = replica->applied_term;
    raft_boot.snapshot_chain = replica->applied_chain;
    replica->raft = raft_new(&replica->config.raft, &raft_boot, replica->logger);
}

void replica_recover_entry(struct replica *replica, struct entry *entry)
{
    raft_recover_entry(replica->raft, entry);
}

void replica_recover_commit(struct replica *replica, raft_index commit)
{
    raft_recover_commit(replica->raft, commit);
    struct replica_effects effects = {0};
    apply_committed(replica, &effects);
    if (replica->compaction_pending) replica->compaction_pending = store_compact_step(replica->store, 4096);
    if (effects.fatal) log_error(replica->logger, effects.fatal_text, "");
    replica_effects_free(&effects);
}

void replica_recover_uncertain(struct replica *replica, const struct raft_uncertainty *uncertainty)
{
    raft_recover_uncertain(replica->raft, uncertainty);
}

/* ---- events ---- */

static void on_message(struct replica *replica, const struct peer_message *message, struct replica_effects *effects)
{
    if (message->type == PEER_FORWARD) {
        requests_on_forward(replica, message, effects);
        return;
    }
    if (message->type == PEER_DIVERGED) {
        divergence_on_diverged(replica, message, effects);
        return;
    }
    if (message->type == PEER_FORWARD_REPLY && message->rejected) {
        requests_on_forward_reply(replica, message, effects);
        return;
    }
    if (message->type == PEER_LEASE_RENEW || message->type == PEER_LEASE_TIME) {
        lease_requests_on_message(replica, message, effects);
        return;
    }
    if (message->type == PEER_LEASE_REPLY && message->rejected) {
        lease_requests_on_reply(replica, message, effects);
        return;
    }
    struct raft_event event = {.type = RAFT_MESSAGE, .message = message};
    replica_raft(replica, &event, effects);
    if (message->type == PEER_APPEND_REPLY) divergence_compare(replica, message, effects);
    if (message->type == PEER_LEASE_REPLY) lease_requests_on_reply(replica, message, effects);
    if (message->type == PEER_SNAPSHOT) {
        struct raft_status status;
        raft_status(replica->raft, &status);
        effects->snapshot_chunk = status.leader == message->from && status.term == message->term;
    }
}

/* More may be applied, or another member lead. */
static void leases_settle(struct replica *replica, struct replica_effects *effects)
{
    struct raft_status status;
    raft_status(replica->raft, &status);
    lessor_follow(replica, &status, effects);
    if (replica->leases_settled_at == replica->applied) return;
    replica->leases_settled_at = replica->applied;
    lessor_settle(replica);
    lease_requests_settle(replica, effects);
}

static void flush(struct replica *replica, struct replica_effects *effects)
{
    apply_housekeeping(replica, effects);
    lessor_flush(replica, effects);
    reads_flush(replica, effects);
    struct raft_event event = {.type = RAFT_FLUSH};
    replica_raft(replica, &event, effects);
    apply_committed(replica, effects);
    reads_take_answers(replica, effects);
    leases_settle(replica, effects);
    requests_flush(replica, effects);
    divergence_stamp(replica, effects);
}

static void on_snapshot_saved(struct replica *replica, const struct replica_event *event,
                              struct replica_effects *effects)
{
    replica->snapshot_index = event->index;
    replica->snapshot_revision = replica->making_revision;
    snapshot_wants_saved(replica, effects);
    replica->log_bytes_since_snapshot -= replica->log_bytes_at_begin;
    replica->log_bytes_at_begin = 0;
    struct raft_event removed = {.type = RAFT_LOG_REMOVED, .index = event->first_index};
    if (event->first_index > 0) replica_raft(replica, &removed, effects);
}

static void tick(struct replica *replica, struct replica_effects *effects)
{
    struct raft_event event = {.type = RAFT_TICK};
    replica_raft(replica, &event, effects);
    requests_expire(replica, effects);
    reads_expire(replica, effects);
    lease_requests_expire(replica, effects);
}

/* Events that raft takes as they are. */
static void pass_on(struct replica *replica, enum raft_event_type type, const struct replica_event *event,
                    struct replica_effects *effects)
{
    struct raft_event raft_event = {.type = type,
                                    .number = event->number,
                                    .peer = event->peer,
                                    .incarnation = event->incarnation,
                                    .index = event->index,
                                    .log_term = event->term,
                                    .entries = event->entries,
                                    .entry_count = event->entry_count,
                                    .crashed = event->crashed,
                                    .rejected = event->rejected};
    replica_raft(replica, &raft_event, effects);
}

#define NAMESAKE_RANDOM_BITS 40

/* Commands of an incarnation below the newest one that is known count as repeats (sessions.h). */
static void outgrow_namesake(struct replica *replica, const struct raft_status *status, struct replica_effects *effects)
{
    if (status->uncertain) return; /* it has yet to see the newest */
    uint64_t known = sessions_incarnation(&replica->sessions, replica->config.raft.self);
    if (known <= replica_incarnation(replica)) return;
    MARK(NAMESAKE_OUTGROWN);
    /* Starts after the one that is known may have sent commands that are still on their way. And a life between may have gone on from
       the same one: if this were its incarnation too, its commands would be taken for this life's, and answered. */
    uint64_t random = random_mix(replica->config.raft.seed ^ known) >> (64 - NAMESAKE_RANDOM_BITS);
    replica->wanted_incarnation = known + RAFT_STATE_RESTARTS_MAX + random;
    log_warn(replica->logger,
             "this member had a later incarnation before: its clock was behind when its files were made",
             "incarnation=%llu known=%llu now=%llu", (unsigned long long)replica->config.incarnation,
             (unsigned long long)known, (unsigned long long)replica->wanted_incarnation);
    struct raft_event event = {.type = RAFT_SAVE_STATE};
    replica_raft(replica, &event, effects);
}

static void on_state_saved(struct replica *replica, const struct replica_event *event, struct replica_effects *effects)
{
    if (event->incarnation > replica->config.incarnation) {
        replica->config.incarnation = event->incarnation;
        if (event->incarnation >= replica->wanted_incarnation) replica->wanted_incarnation = 0;
        requests_stop(replica, ERR_TIMEOUT, effects); /* they went out as the old one's */
        lessor_stop(replica, effects);                /* what it proposed won't have an effect */
    }
    pass_on(replica, RAFT_STATE_SAVED, event, effects);
}

void replica_step(struct replica *replica, const struct replica_event *event, struct replica_effects *effects)
{
    if (event->now > replica->now) replica->now = event->now;
    switch (event->type) {
    case REPLICA_TICK:
        tick(replica, effects);
        break;
    case REPLICA_FLUSH:
        flush(replica, effects);
        return;
    case REPLICA_MESSAGE:
        on_message(replica, event->message, effects);
        break;
    case REPLICA_PROPOSE:
        requests_propose(replica, event->request, event->entry, effects);
        break;
    case REPLICA_READ:
        reads_add(replica, event->request, READER_READ, effects);
        break;
    case REPLICA_WANT_SNAPSHOT:
        reads_add(replica, event->request, READER_SNAPSHOT, effects);
        break;
    case REPLICA_LEASE_RENEW:
    case REPLICA_LEASE_TIME:
        lease_requests_add(replica, event, effects);
        break;
    case REPLICA_STATE_SAVED:
        on_state_saved(replica, event, effects);
        break;
    case REPLICA_LOG_WRITTEN:
        pass_on(replica, RAFT_LOG_WRITTEN, event, effects);
        break;
    case REPLICA_LOG_READ:
        pass_on(replica, RAFT_LOG_READ, event, effects);
        break;
    case REPLICA_SNAPSHOT_SAVED:
        on_snapshot_saved(replica, event, effects);
        break;
    case REPLICA_SNAPSHOT_FAILED:
        /* Not at once again: a quarter of what made it due has to come first. */
        replica->log_bytes_since_snapshot -= replica->log_bytes_since_snapshot / 4;
        snapshot_wants_fail(replica, ERR_NOT_READY, effects);
        break;
    case REPLICA_SNAPSHOT_SENT:
        pass_on(replica, RAFT_SNAPSHOT_SENT, event, effects);
        break;
    case REPLICA_PEER_CONNECTED:
        divergence_forget(replica, event->peer);
        pass_on(replica, RAFT_PEER_CONNECTED, event, effects);
        break;
    case REPLICA_PEER_LOST:
        pass_on(replica, RAFT_PEER_LOST, event, effects);
        break;
    case REPLICA_TRANSFER:
        pass_on(replica, RAFT_TRANSFER, event, effects);
        break;
    case REPLICA_DISK_FULL:
        replica->disk_full = event->full;
        break;
    }
    apply_committed(replica, effects);
    reads_take_answers(replica, effects);
    leases_settle(replica, effects);
    struct raft_status status;
    raft_status(replica->raft, &status);
    outgrow_namesake(replica, &status, effects);
    bool leader_connected = event->type == REPLICA_PEER_CONNECTED && event->peer == status.leader;
    if (status.leader != replica->last_leader || leader_connected) lease_requests_send_again(replica, effects);
    if (status.leader != replica->last_leader) {
        if (status.leader != 0) replica->leader_changes++;
        replica->last_leader = status.leader;
        divergence_forget_all(replica);
    }
}

time_ns replica_deadline(const struct replica *replica)
{
    /* Work is left that no event will bring: the next turn is now. */
    if (replica->compaction_pending) return replica->now;
    time_ns deadline = raft_deadline(replica->raft);
    if (requests_deadline(replica) < deadline) deadline = requests_deadline(replica);
    if (reads_deadline(replica) < deadline) deadline = reads_deadline(replica);
    if (lessor_deadline(replica) < deadline) deadline = lessor_deadline(replica);
    if (lease_requests_deadline(replica) < deadline) deadline = lease_requests_deadline(replica);
    return deadline;
}

/* ---- looking at it ---- */

const struct store *replica_store(const struct replica *replica)
{
    return replica->store;
}

void replica_identity(const struct replica *replica, uint64_t *cluster_id, member_id *self, raft_term *term)
{
    *cluster_id = replica->config.cluster_id;
    *self = replica->config.raft.self;
    *term = raft_current_term(replica->raft);
}

member_id replica_leader(const struct replica *replica)
{
    return replica->last_leader;
}

uint64_t replica_new_lease_id(const struct replica *replica, uint64_t count)
{
    uint64_t id = random_mix(replica->config.raft.seed ^ random_mix(replica->config.incarnation + count)) & INT64_MAX;
    return id != 0 ? id : 1;
}

uint32_t replica_applied_chain(const struct replica *replica)
{
    return replica->applied_chain;
}

bool replica_entry_at(const struct replica *replica, raft_index index, raft_term *term, uint32_t *chain)
{
    return raft_entry_at(replica->raft, index, term, chain);
}

void replica_status(const struct replica *replica, struct replica_status *out)
{
    *out = (struct replica_status){
        .cluster_id = replica->config.cluster_id,
        .self = replica->config.raft.self,
        .member_count = replica->config.member_count,
        .revision = store_current_revision(replica->store),
        .apply_hash = replica->apply_hash,
        .snapshot_index = replica->snapshot_index,
        .diverged = replica->diverged,
        .disk_full = replica->disk_full,
        .proposals_applied = replica->proposals_applied,
        .proposals_failed = replica->proposals_failed,
        .proposals_pending = replica->write_count,
        .leader_changes = replica->leader_changes,
        .leases_expired = replica->lessor.expired,
        .leases_renewed = replica->lessor.renewed,
        .reads = replica->reads,
        .read_rounds = replica->read_rounds,
    };
    memcpy(out->members, replica->config.members, sizeof out->members);
    raft_status(replica->raft, &out->raft);
}

uint64_t replica_incarnation(const struct replica *replica)
{
    uint64_t wanted = replica->wanted_incarnation;
    return wanted > replica->config.incarnation ? wanted : replica->config.incarnation;
}
