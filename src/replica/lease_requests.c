/*
 * lease_requests.c - renewals of leases, and questions for their time, under way: of this member's clients, which a
 * follower hands on to the leader; and on the leader those that others handed on.
 *
 * A leader answers once a barrier that began after the request came says that it leads (reads.c). Both kinds may be
 * repeated without harm, so what may have been lost is sent again, until somebody answers or the time is over.
 */
#include "replica/replica_internal.h"

static struct lease_request *find(struct lease_requests *requests, uint64_t sequence)
{
    if (sequence < requests->first_sequence + requests->head) return NULL;
    if (sequence >= requests->first_sequence + requests->count) return NULL;
    struct lease_request *request = &requests->items[sequence - requests->first_sequence];
    return request->state == LEASE_DONE ? NULL : request;
}

static uint64_t sequence_of(const struct lease_requests *requests, const struct lease_request *request)
{
    return requests->first_sequence + (uint64_t)(request - requests->items);
}

static bool is_unsettled(enum lease_request_state state)
{
    return state == LEASE_UNTIL_APPLIED || state == LEASE_UNTIL_RESET || state == LEASE_UNTIL_REVOKED;
}

static void set_state(struct lease_requests *requests, struct lease_request *request, enum lease_request_state state)
{
    requests->unsettled_count += is_unsettled(state);
    requests->unsettled_count -= is_unsettled(request->state);
    request->state = state;
}

static void make_room(struct lease_requests *requests)
{
    if (requests->count < requests->capacity && requests->head < requests->count) return;
    if (2 * requests->head >= requests->count) {
        uint32_t kept = requests->count - requests->head;
        if (kept > 0) {
            memmove(requests->items, requests->items + requests->head, kept * sizeof requests->items[0]);
        }
        requests->first_sequence += requests->head;
        requests->head = 0;
        requests->count = kept;
    }
    if (requests->count < requests->capacity) return;
    requests->capacity = requests->capacity == 0 ? 64 : 2 * requests->capacity;
    requests->items = mem_realloc(requests->items, requests->capacity * sizeof requests->items[0]);
}

static struct lease_request *add(struct lease_requests *requests, const struct lease_request *request)
{
    bool empty = requests->own_count + requests->peer_count == 0;
    make_room(requests);
    if (empty || request->deadline < requests->deadline) requests->deadline = request->deadline;
    if (request->from == 0) {
        requests->own_count++;
    } else {
        requests->peer_count++;
    }
    requests->items[requests->count] = *request;
    return &requests->items[requests->count++];
}

static void forget(struct lease_requests *requests, struct lease_request *request)
{
    if (request->from == 0) {
        requests->own_count--;
    } else {
        requests->peer_count--;
    }
    set_state(requests, request, LEASE_DONE);
    while (requests->head < requests->count && requests->items[requests->head].state == LEASE_DONE) requests->head++;
}

/* ---- answers ---- */

/* `rejected`: the error isn't the lease's, but says why nobody looked. */
static void reply(struct replica *replica, const struct lease_request *request, bool rejected, enum error error,
                  struct replica_effects *effects)
{
    struct raft_status status;
    raft_status(replica->raft, &status);
    struct peer_message message = {.type = PEER_LEASE_REPLY,
                                   .from = replica->config.raft.self,
                                   .to = request->from,
                                   .context = request->context,
                                   .incarnation = request->incarnation,
                                   .rejected = rejected,
                                   .reason = error};
    if (!rejected) {
        message.term = status.term;
        message.index = replica->applied;
        message.commit = status.commit;
        message.ttl_s = request->ttl_s;
        message.granted_ttl_s = request->granted_ttl_s;
    }
    raft_effects_add_message(&effects->raft, &message);
}

static void finish_own(struct replica *replica, struct lease_request *request, enum error error,
                       struct replica_effects *effects)
{
    struct replica_result result = {.request = request->request,
                                    .error = error,
                                    .revision = store_current_revision(replica->store),
                                    .ttl_s = request->ttl_s,
                                    .granted_ttl_s = request->granted_ttl_s};
    replica_add_result(effects, &result);
    forget(&replica->lease_requests, request);
}

/* It was looked at: ERR_OK or ERR_LEASE_NOT_FOUND. */
static void answer(struct replica *replica, struct lease_request *request, enum error error,
                   struct replica_effects *effects)
{
    if (error != ERR_OK) request->ttl_s = request->granted_ttl_s = 0;
    if (request->from == 0) {
        finish_own(replica, request, error, effects);
    } else {
        reply(replica, request, false, error, effects);
        forget(&replica->lease_requests, request);
    }
}

static void refuse(struct replica *replica, struct lease_request *request, enum error error,
                   struct replica_effects *effects)
{
    request->ttl_s = request->granted_ttl_s = 0;
    if (request->from == 0) {
        finish_own(replica, request, error, effects);
    } else {
        reply(replica, request, true, error, effects);
        forget(&replica->lease_requests, request);
    }
}

/* ---- the leader's part ---- */

static void look(struct replica *replica, struct lease_request *request, struct replica_effects *effects)
{
    struct lease *lease = store_lease_find(replica->store, request->lease);
    if (lease == NULL) {
        answer(replica, request, ERR_LEASE_NOT_FOUND, effects);
        return;
    }
    request->granted_ttl_s = lease->ttl_s;
    if (!request->renew) {
        request->ttl_s = lessor_left_s(replica, lease);
        answer(replica, request, ERR_OK, effects);
        return;
    }
    request->ttl_s = lease->ttl_s;
    if (lessor_has_expired(replica, lease)) {
        set_state(&replica->lease_requests, request, LEASE_UNTIL_REVOKED);
        return;
    }
    lessor_extend(replica, lease);
    if (lessor_needs_reset(replica, lease, &request->index)) {
        set_state(&replica->lease_requests, request, LEASE_UNTIL_RESET);
        return;
    }
    replica->lessor.renewed++;
    answer(replica, request, ERR_OK, effects);
}

/* It came before the lease expired; so the time that its barrier takes is no reason to let it expire. */
static void extend_at_once(struct replica *replica, const struct lease_request *request)
{
    if (!request->renew || !replica->lessor.leads) return;
    struct lease *lease = store_lease_find(replica->store, request->lease);
    if (lease != NULL && !lessor_has_expired(replica, lease)) lessor_extend(replica, lease);
}

/* ---- on its way ---- */

static void forward(struct replica *replica, struct lease_request *request, member_id leader,
                    struct replica_effects *effects)
{
    time_ns latest = replica->now + replica->config.forward_timeout;
    if (request->deadline > latest) request->deadline = latest;
    if (request->deadline < replica->lease_requests.deadline) replica->lease_requests.deadline = request->deadline;
    time_ns left = request->deadline - replica->now;
    struct peer_message message = {.type = request->renew ? PEER_LEASE_RENEW : PEER_LEASE_TIME,
                                   .from = replica->config.raft.self,
                                   .to = leader,
                                   .context = sequence_of(&replica->lease_requests, request),
                                   .incarnation = replica->config.incarnation,
                                   .lease = request->lease,
                                   .timeout_ms = (uint32_t)(left > 0 ? left / TIME_NS_PER_MS + 1 : 1)};
    raft_effects_add_message(&effects->raft, &message);
    set_state(&replica->lease_requests, request, LEASE_FORWARDED);
}

static void wait_for_leader(struct replica *replica, struct lease_request *request)
{
    time_ns retry_at = replica->now + replica->config.raft.heartbeat_interval;
    set_state(&replica->lease_requests, request, LEASE_UNSENT);
    if (retry_at < replica->lease_requests.retry_at) replica->lease_requests.retry_at = retry_at;
}

static void dispatch(struct replica *replica, struct lease_request *request, struct replica_effects *effects)
{
    struct raft_status status;
    raft_status(replica->raft, &status);
    if (status.role == RAFT_LEADER) {
        extend_at_once(replica, request);
        set_state(&replica->lease_requests, request, LEASE_CONFIRMING);
        reads_add_lease(replica, sequence_of(&replica->lease_requests, request), request->deadline);
    } else if (request->from != 0) {
        refuse(replica, request, ERR_NO_LEADER, effects);
    } else if (status.leader != 0) {
        forward(replica, request, status.leader, effects);
    } else {
        wait_for_leader(replica, request);
    }
}

void lease_requests_add(struct replica *replica, const struct replica_event *event, struct replica_effects *effects)
{
    struct raft_status status;
    raft_status(replica->raft, &status);
    enum error refused = ERR_OK;
    if (status.leader == 0) refused = ERR_NO_LEADER;
    if (replica->diverged) refused = ERR_CORRUPT;
    if (replica->lease_requests.own_count >= replica->config.requests_max) refused = ERR_TOO_MANY;
    if (refused != ERR_OK) {
        replica_add_plain_result(effects, event->request, refused, 0);
        return;
    }
    struct lease_request request = {.state = LEASE_UNSENT,
                                    .renew = event->type == REPLICA_LEASE_RENEW,
                                    .request = event->request,
                                    .lease = event->lease,
                                    .deadline = replica->now + replica->config.request_timeout};
    dispatch(replica, add(&replica->lease_requests, &request), effects);
}

void lease_requests_on_message(struct replica *replica, const struct peer_message *message,
                               struct replica_effects *effects)
{
    time_ns timeout = message->timeout_ms * TIME_NS_PER_MS;
    if (timeout > replica->config.request_timeout) timeout = replica->config.request_timeout;
    struct lease_request request = {.state = LEASE_UNSENT,
                                    .renew = message->type == PEER_LEASE_RENEW,
                                    .from = message->from,
                                    .context = message->context,
                                    .incarnation = message->incarnation,
                                    .lease = message->lease,
                                    .deadline = replica->now + timeout};
    bool too_many = replica->lease_requests.peer_count >= replica->config.requests_max;
    if (too_many || replica->diverged) {
        reply(replica, &request, true, replica->diverged ? ERR_CORRUPT : ERR_TOO_MANY, effects);
        return;
    }
    dispatch(replica, add(&replica->lease_requests, &request), effects);
}

void lease_requests_on_reply(struct replica *replica, const struct peer_message *message,
                             struct replica_effects *effects)
{
    struct lease_requests *requests = &replica->lease_requests;
    struct lease_request *request = find(requests, message->context);
    if (request == NULL || request->from != 0 || message->incarnation != replica->config.incarnation) return;
    if (request->state != LEASE_FORWARDED && request->state != LEASE_UNSENT) return;
    enum error reason = message->reason < ERROR_COUNT ? (enum error)message->reason : ERR_INTERNAL;
    if (message->rejected) {
        /* That one doesn't lead; who does will be known soon. */
        if (reason == ERR_NO_LEADER) {
            wait_for_leader(replica, request);
        } else {
            refuse(replica, request, reason == ERR_OK ? ERR_INTERNAL : reason, effects);
        }
        return;
    }
    request->error = reason == ERR_OK || reason == ERR_LEASE_NOT_FOUND ? reason : ERR_INTERNAL;
    request->ttl_s = message->ttl_s;
    request->granted_ttl_s = message->granted_ttl_s;
    request->index = message->index;
    if (request->index <= replica->applied) {
        answer(replica, request, request->error, effects);
    } else {
        set_state(requests, request, LEASE_UNTIL_APPLIED);
    }
}

void lease_requests_confirmed(struct replica *replica, uint64_t sequence, struct replica_effects *effects)
{
    struct lease_request *request = find(&replica->lease_requests, sequence);
    if (request == NULL || request->state != LEASE_CONFIRMING) return;
    struct raft_status status;
    raft_status(replica->raft, &status);
    lessor_follow(replica, &status, effects);
    if (replica->lessor.leads) {
        look(replica, request, effects);
    } else {
        dispatch(replica, request, effects);
    }
}

void lease_requests_unconfirmed(struct replica *replica, uint64_t sequence, struct replica_effects *effects)
{
    struct lease_request *request = find(&replica->lease_requests, sequence);
    if (request != NULL && request->state == LEASE_CONFIRMING) dispatch(replica, request, effects);
}

/* ---- all of a kind ---- */

static bool is_in(const struct lease_request *request, enum lease_request_state a, enum lease_request_state b)
{
    return request->state == a || request->state == b;
}

static void dispatch_all(struct replica *replica, enum lease_request_state a, enum lease_request_state b,
                         struct replica_effects *effects)
{
    struct lease_requests *requests = &replica->lease_requests;
    for (uint32_t i = requests->head; i < requests->count; i++) {
        if (is_in(&requests->items[i], a, b)) dispatch(replica, &requests->items[i], effects);
    }
}

void lease_requests_send_again(struct replica *replica, struct replica_effects *effects)
{
    dispatch_all(replica, LEASE_FORWARDED, LEASE_UNSENT, effects);
}

void lease_requests_deposed(struct replica *replica, struct replica_effects *effects)
{
    dispatch_all(replica, LEASE_UNTIL_RESET, LEASE_UNTIL_REVOKED, effects);
}

void lease_requests_resets_proposed(struct replica *replica, enum error error, raft_index index,
                                    struct replica_effects *effects)
{
    struct lease_requests *requests = &replica->lease_requests;
    for (uint32_t i = requests->head; i < requests->count; i++) {
        struct lease_request *request = &requests->items[i];
        if (request->state != LEASE_UNTIL_RESET || request->index != 0) continue;
        if (error == ERR_OK) {
            request->index = index;
        } else if (error == ERR_NO_LEADER) { /* leadership is being handed over */
            wait_for_leader(replica, request);
        } else {
            refuse(replica, request, error, effects);
        }
    }
}

static void settle_reset(struct replica *replica, struct lease_request *request, struct replica_effects *effects)
{
    struct lease *lease = store_lease_find(replica->store, request->lease);
    if (lease != NULL && replica->lessor.checkpoint_applied < request->index) {
        /* It had no effect: it counted as a repeat (see outgrow_namesake in replica.c). */
        lease->checkpointed = true;
        dispatch(replica, request, effects);
        return;
    }
    replica->lessor.renewed += lease != NULL;
    answer(replica, request, lease == NULL ? ERR_LEASE_NOT_FOUND : ERR_OK, effects);
}

static void settle_revoked(struct replica *replica, struct lease_request *request, struct replica_effects *effects)
{
    const struct lease *lease = store_lease_find(replica->store, request->lease);
    /* Another one of the same id may have been granted meanwhile. */
    if (lease == NULL || !lessor_has_expired(replica, lease)) look(replica, request, effects);
}

void lease_requests_settle(struct replica *replica, struct replica_effects *effects)
{
    struct lease_requests *requests = &replica->lease_requests;
    if (requests->unsettled_count == 0) return;
    for (uint32_t i = requests->head; i < requests->count; i++) {
        struct lease_request *request = &requests->items[i];
        bool applied = request->index != 0 && request->index <= replica->applied;
        if (request->state == LEASE_UNTIL_APPLIED && applied) {
            answer(replica, request, request->error, effects);
        } else if (request->state == LEASE_UNTIL_RESET && applied) {
            settle_reset(replica, request, effects);
        } else if (request->state == LEASE_UNTIL_REVOKED) {
            settle_revoked(replica, request, effects);
        }
    }
}

/* Nobody waits for the answer to another member's any more, so it gets none. */
static void expire_all(struct replica *replica, struct replica_effects *effects)
{
    struct lease_requests *requests = &replica->lease_requests;
    requests->deadline = TIME_NS_NEVER;
    for (uint32_t i = requests->head; i < requests->count; i++) {
        struct lease_request *request = &requests->items[i];
        if (request->state == LEASE_DONE) continue;
        if (request->deadline > replica->now) {
            if (request->deadline < requests->deadline) requests->deadline = request->deadline;
        } else if (request->from == 0) {
            refuse(replica, request, ERR_TIMEOUT, effects);
        } else {
            forget(requests, request);
        }
    }
}

void lease_requests_expire(struct replica *replica, struct replica_effects *effects)
{
    struct lease_requests *requests = &replica->lease_requests;
    if (requests->own_count + requests->peer_count == 0) return;
    if (requests->deadline <= replica->now) expire_all(replica, effects);
    if (requests->retry_at > replica->now) return;
    requests->retry_at = TIME_NS_NEVER;
    dispatch_all(replica, LEASE_UNSENT, LEASE_UNSENT, effects);
}

void lease_requests_stop(struct replica *replica, enum error error, struct replica_effects *effects)
{
    struct lease_requests *requests = &replica->lease_requests;
    for (uint32_t i = requests->head; i < requests->count; i++) {
        if (requests->items[i].state != LEASE_DONE) refuse(replica, &requests->items[i], error, effects);
    }
}

time_ns lease_requests_deadline(const struct replica *replica)
{
    const struct lease_requests *requests = &replica->lease_requests;
    if (requests->own_count + requests->peer_count == 0) return TIME_NS_NEVER;
    return requests->retry_at < requests->deadline ? requests->retry_at : requests->deadline;
}

void lease_requests_free(struct replica *replica)
{
    mem_free(replica->lease_requests.items);
}
