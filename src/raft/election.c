/* election.c - whom to vote for (Voter), how to campaign (LeaderElectionAlgorithm), when (LeaderElectionManager). */
#include "raft/raft_internal.h"

#include "base/mark.h"
#include "base/mutant.h"

/* After the leader's process crashed: how long a member waits at most before it tries. */
#define QUICK_WAIT_MAX (20 * TIME_NS_PER_MS)
/* Between quick tries, and what a member that just granted a PreVote leaves to the other. */
#define QUICK_RETRY (30 * TIME_NS_PER_MS)
#define QUICK_TRIES_MAX 10u

static time_ns random_time(struct raft *raft, time_ns low, time_ns high)
{
    return (time_ns)random_between(&raft->random, (uint64_t)low, (uint64_t)high);
}

/* The upper bound leaves time for the election itself within two election timeouts. */
void election_reset_timer(struct raft *raft)
{
    time_ns timeout = raft->config.election_timeout;
    raft->election_deadline = raft->now + random_time(raft, timeout, timeout + timeout * 6 / 10);
}

void election_start_timer(struct raft *raft)
{
    election_reset_timer(raft);
    if (!raft->config.quick_start) return;
    raft->leader_crashed = true;
    raft->election_deadline = raft->now + random_time(raft, QUICK_RETRY, 5 * QUICK_RETRY);
}

static void reset_retry_timer(struct raft *raft)
{
    time_ns timeout = raft->config.election_timeout;
    if (raft->leader_crashed && raft->quick_tries < QUICK_TRIES_MAX) {
        raft->quick_tries++;
        raft->election_deadline = raft->now + random_time(raft, QUICK_RETRY, 3 * QUICK_RETRY);
    } else {
        raft->election_deadline = raft->now + random_time(raft, timeout / 4, timeout / 2);
    }
}

bool election_is_sticky(const struct raft *raft)
{
    if (raft->role == RAFT_LEADER) return true;
    return raft->leader != 0 && !raft->leader_crashed && raft->now < raft->leader_heard + raft->config.election_timeout;
}

/* Contract: a log at least as up-to-date as the last entry that this member knows it had (dissertation §3.6.1). */
static bool log_is_up_to_date(const struct raft *raft, raft_index index, raft_term term)
{
    raft_term last_term = raft_log_last_term(&raft->log);
    raft_index last_index = raft->log.last_index;
    bool bounded = raft->uncertain && !MUTANT(UNCERTAIN_VOTES_LIKE_ANY);
    if (bounded && (raft->known_last_term > last_term ||
                    (raft->known_last_term == last_term && raft->known_last_index > last_index))) {
        if (!(term > raft->known_last_term || (term == raft->known_last_term && index >= raft->known_last_index))) {
            MARK(UNCERTAIN_REFUSED_VOTE);
        }
        last_term = raft->known_last_term;
        last_index = raft->known_last_index;
    }
    if (MUTANT(INDEX_BEFORE_TERM)) return index > last_index || (index == last_index && term >= last_term);
    return term > last_term || (term == last_term && index >= last_index);
}

static bool may_vote(const struct raft *raft, raft_term term)
{
    if (raft->uncertain && !raft->extent_known) {
        return MUTANT(UNCERTAIN_VOTES_LIKE_ANY) || (MUTANT(WIPED_VOTES) && raft->no_vote_before_term > 0);
    }
    return term >= raft->no_vote_before_term;
}

static void clear_campaign(struct raft *raft)
{
    for (uint32_t i = 0; i < raft->peer_count; i++) {
        raft->peers[i].granted = false;
        raft->peers[i].rejected = false;
    }
}

static void ask_all(struct raft *raft, enum peer_message_type type, raft_term term, struct raft_effects *effects)
{
    for (uint32_t i = 0; i < raft->peer_count; i++) {
        struct peer_message message = raft_message_to(raft, type, raft->peers[i].id);
        message.term = term;
        message.index = raft->log.last_index;
        message.log_term = raft_log_last_term(&raft->log);
        message.transfer = raft->transfer_campaign;
        raft_send(raft, &message, effects);
    }
}

static uint32_t count_granted(const struct raft *raft)
{
    uint32_t granted = 1;
    for (uint32_t i = 0; i < raft->peer_count; i++) granted += raft->peers[i].granted;
    return granted;
}

static uint32_t count_rejected(const struct raft *raft)
{
    uint32_t rejected = 0;
    for (uint32_t i = 0; i < raft->peer_count; i++) rejected += raft->peers[i].rejected;
    return rejected;
}

/* The own vote counts once it is durable. */
static void tally_votes(struct raft *raft, struct raft_effects *effects)
{
    bool durable = raft_state_durable(raft) || MUTANT(CAMPAIGN_BEFORE_SAVE);
    if (raft->role == RAFT_CANDIDATE && durable && count_granted(raft) >= quorum_of(raft)) {
        replication_become_leader(raft, effects);
    }
}

static bool may_campaign(const struct raft *raft)
{
    if (MUTANT(NOBODY_CAMPAIGNS) && raft->term >= 3) return false;
    return !raft->uncertain && !raft->barred && raft->term + 1 >= raft->no_vote_before_term;
}

void election_campaign(struct raft *raft, bool transfer, struct raft_effects *effects)
{
    if (!may_campaign(raft)) return;
    read_index_fail_all(raft, effects);
    raft->role = RAFT_CANDIDATE;
    raft->leader = 0;
    raft->transfer_campaign = transfer;
    raft->verified = 0;
    raft_set_vote(raft, raft->term + 1, raft->config.self);
    clear_campaign(raft);
    reset_retry_timer(raft);
    effects->role_changed = true;
    log_debug(raft->logger, "campaigning", "term=%llu last_index=%llu", (unsigned long long)raft->term,
              (unsigned long long)raft->log.last_index);
    ask_all(raft, PEER_VOTE, raft->term, effects);
}

void election_state_saved(struct raft *raft, struct raft_effects *effects)
{
    tally_votes(raft, effects);
}

static void begin_prevote(struct raft *raft, struct raft_effects *effects)
{
    if (raft->config.member_count == 1) {
        election_campaign(raft, false, effects);
        return;
    }
    if (raft->role != RAFT_PRE_CANDIDATE || raft->leader != 0) effects->role_changed = true;
    read_index_fail_all(raft, effects);
    raft->role = RAFT_PRE_CANDIDATE;
    raft->leader = 0;
    raft->transfer_campaign = false;
    clear_campaign(raft);
    reset_retry_timer(raft);
    ask_all(raft, PEER_PREVOTE, raft->term + 1, effects);
}

void election_tick(struct raft *raft, struct raft_effects *effects)
{
    if (raft->role == RAFT_LEADER || raft->now < raft->election_deadline) return;
    if (!may_campaign(raft) || raft->installing) {
        if (raft->leader != 0) {
            raft_become_follower(raft, raft->term, 0, effects);
        }
        election_reset_timer(raft);
        return;
    }
    begin_prevote(raft, effects);
}

static void reply(struct raft *raft, const struct peer_message *request, enum peer_message_type type, raft_term term,
                  bool rejected, struct raft_effects *effects)
{
    struct peer_message message = raft_message_to(raft, type, request->from);
    message.term = term;
    message.rejected = rejected;
    raft_send(raft, &message, effects);
}

void election_on_prevote(struct raft *raft, const struct peer_message *message, struct raft_effects *effects)
{
    bool granted = message->term > raft->term && !election_is_sticky(raft) && may_vote(raft, message->term) &&
                   log_is_up_to_date(raft, message->index, message->log_term);
    if (!granted && election_is_sticky(raft)) MARK(PREVOTE_REFUSED_LEADER_LIVES);
    if (granted && raft->leader_crashed && raft->election_deadline < raft->now + QUICK_RETRY) {
        /* Two members that try at once split the vote; let the one that was first go on. */
        raft->election_deadline = raft->now + random_time(raft, QUICK_RETRY, 2 * QUICK_RETRY);
    }
    reply(raft, message, PEER_PREVOTE_REPLY, granted ? message->term : raft->term, !granted, effects);
}

void election_on_prevote_reply(struct raft *raft, const struct peer_message *message, struct raft_effects *effects)
{
    struct progress *peer = raft_peer(raft, message->from);
    if (raft->role != RAFT_PRE_CANDIDATE || peer == NULL) return;
    if (message->rejected) {
        peer->rejected = true;
        if (count_rejected(raft) >= quorum_of(raft)) raft_become_follower(raft, raft->term, 0, effects);
        return;
    }
    if (message->term != raft->term + 1) return;
    peer->granted = true;
    if (count_granted(raft) >= quorum_of(raft)) election_campaign(raft, false, effects);
}

void election_on_vote(struct raft *raft, const struct peer_message *message, struct raft_effects *effects)
{
    /* The caller stepped into message->term if it was newer. */
    bool free_to_vote = MUTANT(VOTES_TWICE) || raft->vote == message->from || (raft->vote == 0 && raft->leader == 0);
    bool granted = message->term == raft->term && free_to_vote && may_vote(raft, message->term) &&
                   log_is_up_to_date(raft, message->index, message->log_term);
    if (message->term == raft->term && free_to_vote && !granted) MARK(VOTE_REFUSED_OLDER_LOG);
    if (granted) {
        raft_set_vote(raft, raft->term, message->from);
        election_reset_timer(raft);
        if (raft->leader_crashed)
            raft->election_deadline = raft->now + random_time(raft, 3 * QUICK_RETRY, 5 * QUICK_RETRY);
    }
    reply(raft, message, PEER_VOTE_REPLY, raft->term, !granted, effects);
}

void election_on_vote_reply(struct raft *raft, const struct peer_message *message, struct raft_effects *effects)
{
    struct progress *peer = raft_peer(raft, message->from);
    if (raft->role != RAFT_CANDIDATE || peer == NULL || message->term != raft->term) return;
    if (message->rejected) {
        peer->rejected = true;
        if (count_rejected(raft) >= quorum_of(raft)) {
            member_id vote = raft->vote;
            MARK(VOTE_SPLIT);
            raft_become_follower(raft, raft->term, 0, effects);
            CHECK(raft->vote == vote);
        }
        return;
    }
    peer->granted = true;
    tally_votes(raft, effects);
}

void election_peer_lost(struct raft *raft, member_id peer, bool crashed)
{
    if (raft->role == RAFT_LEADER || peer != raft->leader) return;
    if (!crashed) return;
    raft->leader_crashed = true;
    raft->quick_tries = 0;
    time_ns soon = raft->now + random_time(raft, 0, QUICK_WAIT_MAX);
    if (soon < raft->election_deadline) raft->election_deadline = soon;
}
