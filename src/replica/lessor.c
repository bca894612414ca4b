#include "replica/lessor.h"

#include "replica/replica_internal.h"

/* Of its TTL, before what is left of a lease is checkpointed anew; and at least this share. */
#define CHECKPOINT_PARTS 8
#define CHECKPOINT_PARTS_RENEWED 2
#define CHECKPOINT_PARTS_MAX 1024

_Static_assert(LESSOR_BATCH_LEASES_MAX <= LESSOR_TURN_LOOKS_MAX, "a turn can fill a batch");
_Static_assert(LESSOR_BATCH_LEASES_MAX *COMMAND_CHECKPOINT_ITEM_BYTES < ENTRY_PAYLOAD_BYTES_MAX / 2,
               "one entry holds it");
_Static_assert(REPLICA_REQUESTS_LIMIT * 2 * COMMAND_CHECKPOINT_ITEM_BYTES < ENTRY_PAYLOAD_BYTES_MAX / 2,
               "one entry holds all resets of a turn");
_Static_assert(LESSOR_REVOKES_UNDER_WAY_MAX + REPLICA_REQUESTS_LIMIT < SESSION_WINDOW,
               "a client's command isn't older than the window because of ours");

int64_t lessor_ttl_min_s(time_ns election_timeout)
{
    return (election_timeout + election_timeout / 2 + TIME_NS_PER_S - 1) / TIME_NS_PER_S;
}

/* ---- times ---- */

static time_ns after(time_ns from, int64_t seconds)
{
    if (seconds <= 0) return from;
    return seconds > LESSOR_TTL_MAX_S || seconds >= (TIME_NS_NEVER - from) / TIME_NS_PER_S
               ? TIME_NS_NEVER - 1
               : from + seconds * TIME_NS_PER_S;
}

static time_ns whole_second(time_ns time)
{
    return time > TIME_NS_NEVER - TIME_NS_PER_S ? time : (time + TIME_NS_PER_S - 1) / TIME_NS_PER_S * TIME_NS_PER_S;
}

/* What the log says is left of it. */
static int64_t recorded_s(const struct lease *lease)
{
    return lease->remaining_s > 0 && lease->remaining_s < lease->ttl_s ? lease->remaining_s : lease->ttl_s;
}

/* 0: it isn't checkpointed at all. */
static int64_t checkpoint_interval_s(const struct lease *lease)
{
    if (lease->ttl_s < LESSOR_CHECKPOINT_TTL_MIN_S) return 0;
    int64_t interval = lease->ttl_s / (lease->renewed ? CHECKPOINT_PARTS_RENEWED : CHECKPOINT_PARTS);
    if (interval > LESSOR_CHECKPOINT_INTERVAL_MAX_S) interval = LESSOR_CHECKPOINT_INTERVAL_MAX_S;
    int64_t least = lease->ttl_s / CHECKPOINT_PARTS_MAX;
    return interval > least ? interval : least;
}

static time_ns checkpoint_due(const struct lease *lease)
{
    int64_t interval = checkpoint_interval_s(lease), recorded = recorded_s(lease);
    if (interval == 0 || recorded <= interval || recorded > LESSOR_TTL_MAX_S) return TIME_NS_NEVER;
    return whole_second(lease->deadline - (recorded - interval) * TIME_NS_PER_S);
}

static time_ns earlier(time_ns a, time_ns b)
{
    return a < b ? a : b;
}

static time_ns next_due(const struct lease *lease)
{
    return earlier(lease->deadline, checkpoint_due(lease));
}

bool lessor_has_expired(const struct replica *replica, const struct lease *lease)
{
    return lease->deadline <= replica->now;
}

int64_t lessor_left_s(const struct replica *replica, const struct lease *lease)
{
    return lessor_has_expired(replica, lease) ? 0 : (lease->deadline - replica->now) / TIME_NS_PER_S;
}

/* ---- leadership ---- */

/* `anew`: what this member proposed before in the same term may still take effect. */
static void start(struct replica *replica, raft_term term, bool anew)
{
    struct lessor *lessor = &replica->lessor;
    const struct store *store = replica->store;
    lessor->leads = true;
    lessor->term = term;
    lessor->blocked = false;
    lessor->retry_at = 0;
    time_ns base = replica->now + replica->config.raft.election_timeout;
    lease_queue_reserve(&lessor->queue, (uint32_t)store_lease_count(store));
    for (size_t slot = 0; slot < store_lease_slots(store); slot++) {
        struct lease *lease = store_lease_at(store, slot);
        if (lease == NULL) continue;
        lease->revoke_proposed = false;
        lease->checkpointed = lease->remaining_s > 0 || anew;
        lease->renewed = false;
        lease->deadline = after(base, recorded_s(lease));
        lease_queue_add_unordered(&lessor->queue, lease, next_due(lease));
    }
    lease_queue_order(&lessor->queue);
}

void lessor_stop(struct replica *replica, struct replica_effects *effects)
{
    struct lessor *lessor = &replica->lessor;
    if (!lessor->leads) return;
    lessor->leads = false;
    lease_queue_free(&lessor->queue);
    buffer_free(&lessor->resets);
    lessor->revoke_count = 0;
    lessor->batch_index = 0;
    lessor->reset_index = 0;
    lease_requests_deposed(replica, effects);
}

void lessor_follow(struct replica *replica, const struct raft_status *status, struct replica_effects *effects)
{
    struct lessor *lessor = &replica->lessor;
    bool leads = status->may_serve && !replica->diverged;
    if (lessor->leads && (!leads || lessor->term != status->term)) lessor_stop(replica, effects);
    /* What earlier leaders proposed has had its effect: an entry of this term is committed, and applied. */
    if (leads && !lessor->leads && replica->applied_term == status->term) {
        start(replica, status->term, lessor->term == status->term);
    }
}

/* ---- commands, as they are applied ---- */

void lessor_granted(struct replica *replica, uint64_t id)
{
    if (!replica->lessor.leads) return;
    struct lease *lease = store_lease_find(replica->store, id);
    lease->deadline = after(replica->now, lease->ttl_s);
    lease_queue_add(&replica->lessor.queue, lease, next_due(lease));
}

void lessor_revoking(struct replica *replica, uint64_t id)
{
    if (!replica->lessor.leads) return;
    struct lease *lease = store_lease_find(replica->store, id);
    if (lease != NULL && lease_queue_has(lease)) lease_queue_remove(&replica->lessor.queue, lease);
}

void lessor_checkpointed(struct replica *replica, uint64_t id)
{
    struct lessor *lessor = &replica->lessor;
    lessor->checkpoint_applied = replica->applied + 1;
    if (!lessor->leads) return;
    struct lease *lease = store_lease_find(replica->store, id);
    if (lease == NULL || !lease_queue_has(lease)) return;
    time_ns due = next_due(lease);
    if (due < lease_queue_due(&lessor->queue, lease)) lease_queue_move(&lessor->queue, lease, due);
}

/* ---- renewals ---- */

/* Its place in the queue stays: it is found too early there, and put where it belongs by then. */
void lessor_extend(struct replica *replica, struct lease *lease)
{
    CHECK(replica->lessor.leads && !lessor_has_expired(replica, lease));
    lease->renewed = true;
    time_ns deadline = after(replica->now, lease->ttl_s);
    if (deadline > lease->deadline) lease->deadline = deadline;
}

/*
 * The deadline was extended before, so a checkpoint that is proposed after the reset, and before that is committed,
 * holds the extended time.
 */
bool lessor_needs_reset(struct replica *replica, struct lease *lease, raft_index *index)
{
    struct lessor *lessor = &replica->lessor;
    *index = 0;
    if (lease->checkpointed) {
        lease->checkpointed = false;
        buffer_append_u64(&lessor->resets, lease->id);
        buffer_append_u64(&lessor->resets, 0);
        return true;
    }
    if (lease->remaining_s == 0) return false;
    /* Another renewal's reset is on its way. */
    if (lessor->resets.size == 0) *index = lessor->reset_index;
    return true;
}

static enum error propose(struct replica *replica, struct entry *entry, struct replica_effects *effects)
{
    if (!replica->disk_full) return requests_propose_own(replica, entry, effects);
    entry_unref(entry);
    return ERR_NO_SPACE;
}

static void propose_resets(struct replica *replica, struct replica_effects *effects)
{
    struct lessor *lessor = &replica->lessor;
    if (lessor->resets.size == 0) return;
    enum error error = propose(replica, command_lease_checkpoint(buffer_bytes(&lessor->resets)), effects);
    if (error == ERR_OK) {
        lessor->reset_index = effects->raft.proposed_index;
    } else {
        struct reader reader = reader_of(buffer_bytes(&lessor->resets));
        while (reader_left(&reader) > 0) {
            struct lease *lease = store_lease_find(replica->store, reader_u64(&reader));
            if (lease != NULL) lease->checkpointed = true;
            reader_u64(&reader);
        }
    }
    buffer_clear(&lessor->resets);
    lease_requests_resets_proposed(replica, error, lessor->reset_index, effects);
}

/* ---- what is due ---- */

static bool revoke(struct replica *replica, struct lease *lease, struct replica_effects *effects)
{
    struct lessor *lessor = &replica->lessor;
    if (propose(replica, command_lease_revoke(lease->id), effects) != ERR_OK) return false;
    uint32_t place = (lessor->revokes_first + lessor->revoke_count++) % LESSOR_REVOKES_UNDER_WAY_MAX;
    lessor->revokes[place] = (struct proposed_revoke){.lease = lease->id, .index = effects->raft.proposed_index};
    lease->revoke_proposed = true;
    lease_queue_remove(&lessor->queue, lease);
    return true;
}

static void checkpoint(struct replica *replica, struct lease *lease, struct buffer *batch)
{
    int64_t left = (lease->deadline - replica->now + TIME_NS_PER_S - 1) / TIME_NS_PER_S;
    time_ns next = whole_second(after(replica->now, checkpoint_interval_s(lease)));
    if (left < recorded_s(lease)) {
        buffer_append_u64(batch, lease->id);
        buffer_append_u64(batch, (uint64_t)left);
        lease->checkpointed = true;
    }
    lease_queue_move(&replica->lessor.queue, lease, earlier(lease->deadline, next));
}

/* Adds to the batch, and returns false when that is all for this turn. */
static bool handle_first(struct replica *replica, uint32_t *revokes, struct buffer *batch,
                         struct replica_effects *effects)
{
    struct lessor *lessor = &replica->lessor;
    const struct lease_due *first = lease_queue_first(&lessor->queue);
    if (first == NULL || first->due > replica->now) return false;
    struct lease *lease = first->lease;
    if (lessor_has_expired(replica, lease)) {
        lessor->blocked = lessor->revoke_count == LESSOR_REVOKES_UNDER_WAY_MAX;
        if (lessor->blocked || *revokes == LESSOR_TURN_REVOKES_MAX) return false;
        bool refused = !revoke(replica, lease, effects);
        if (refused) lessor->retry_at = replica->now + replica->config.raft.heartbeat_interval;
        *revokes += 1;
        return !refused;
    }
    if (checkpoint_due(lease) > replica->now) { /* it was renewed */
        lease_queue_move(&lessor->queue, lease, next_due(lease));
        return true;
    }
    lessor->blocked = lessor->batch_index > replica->applied;
    if (lessor->blocked || batch->size == LESSOR_BATCH_LEASES_MAX * COMMAND_CHECKPOINT_ITEM_BYTES) return false;
    checkpoint(replica, lease, batch);
    return true;
}

static void propose_due(struct replica *replica, struct replica_effects *effects)
{
    struct lessor *lessor = &replica->lessor;
    struct buffer batch = {0};
    uint32_t revokes = 0, looks = 0;
    while (looks++ < LESSOR_TURN_LOOKS_MAX && handle_first(replica, &revokes, &batch, effects)) continue;
    /* A batch that is refused is missed: the next one of the same leases comes after an interval. */
    if (batch.size > 0 && propose(replica, command_lease_checkpoint(buffer_bytes(&batch)), effects) == ERR_OK) {
        lessor->batch_index = effects->raft.proposed_index;
    }
    buffer_free(&batch);
}

void lessor_flush(struct replica *replica, struct replica_effects *effects)
{
    struct lessor *lessor = &replica->lessor;
    if (!lessor->leads) return;
    propose_resets(replica, effects);
    if (lessor_deadline(replica) <= replica->now) propose_due(replica, effects);
}

void lessor_settle(struct replica *replica)
{
    struct lessor *lessor = &replica->lessor;
    if (!lessor->leads) return;
    lessor->blocked = false;
    while (lessor->revoke_count > 0 && lessor->revokes[lessor->revokes_first].index <= replica->applied) {
        struct lease *lease = store_lease_find(replica->store, lessor->revokes[lessor->revokes_first].lease);
        if (lease != NULL && lease->revoke_proposed) { /* it had no effect, and is proposed again */
            lease->revoke_proposed = false;
            lease_queue_add(&lessor->queue, lease, replica->now);
        } else {
            lessor->expired++;
        }
        lessor->revokes_first = (lessor->revokes_first + 1) % LESSOR_REVOKES_UNDER_WAY_MAX;
        lessor->revoke_count--;
    }
}

time_ns lessor_deadline(const struct replica *replica)
{
    const struct lessor *lessor = &replica->lessor;
    if (!lessor->leads || lessor->blocked || replica->disk_full) return TIME_NS_NEVER;
    const struct lease_due *first = lease_queue_first(&lessor->queue);
    if (first == NULL) return TIME_NS_NEVER;
    return first->due > lessor->retry_at ? first->due : lessor->retry_at;
}

void lessor_free(struct replica *replica)
{
    lease_queue_free(&replica->lessor.queue);
    buffer_free(&replica->lessor.resets);
}
