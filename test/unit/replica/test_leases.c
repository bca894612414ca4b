/* Leases: who keeps their time, what a change of leaders does to it, and who may renew them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "replica/lessor.h"
#include "requests.h"

#define MS TIME_NS_PER_MS
#define S TIME_NS_PER_S

static struct harness *new_harness(uint32_t count)
{
    struct harness_options options = {.count = count, .seed = 17};
    return harness_new(&options);
}

static void grant(struct harness *harness, member_id id, uint64_t lease, int64_t ttl_s)
{
    uint64_t number = harness_grant(harness, id, lease, ttl_s);
    harness_stabilize(harness);
    requests_assert_done(harness, number, ERR_OK);
}

static void put(struct harness *harness, member_id id, uint32_t key, uint64_t lease)
{
    uint64_t number = harness_put_leased(harness, id, key, lease);
    harness_stabilize(harness);
    requests_assert_done(harness, number, ERR_OK);
}

/* Asked for and answered, while no time passes. */
static const struct harness_request *ask(struct harness *harness, uint64_t number, enum error error)
{
    harness_stabilize(harness);
    requests_assert_done(harness, number, error);
    return harness_request(harness, number);
}

static const struct lease *lease_at(const struct harness *harness, member_id id, uint64_t lease)
{
    return store_lease_find(replica_store(harness->members[id].replica), lease);
}

static bool is_there(const struct harness *harness, uint64_t lease)
{
    return harness->leases[lease - 1].there;
}

static raft_index last_index(const struct harness *harness, member_id id)
{
    return harness->members[id].status.raft.last_index;
}

static void transfer(struct harness *harness, member_id from, member_id to)
{
    struct replica_event event = {.type = REPLICA_TRANSFER, .peer = to};
    harness_step(harness, from, &event);
    harness_run(harness, 30 * MS);
    assert_int_equal(harness_leader(harness), to);
}

/* The others elect one of them, while the leader believes that it still leads. */
static member_id depose(struct harness *harness, member_id old)
{
    harness_isolate(harness, old);
    member_id heir = old % 3 + 1;
    for (int i = 0; harness_leader(harness) == old && i < 50; i++) {
        struct replica_event lost = {.type = REPLICA_PEER_LOST, .peer = old, .crashed = true};
        harness_step(harness, heir, &lost);
        harness_step(harness, requests_third(old, heir), &lost);
        harness_run(harness, 15 * MS);
    }
    assert_int_not_equal(harness_leader(harness), old);
    assert_int_equal(harness->members[old].status.raft.role, RAFT_LEADER);
    return harness_leader(harness);
}

static void test_ttl_min(void **state)
{
    (void)state;
    assert_int_equal(lessor_ttl_min_s(1000 * MS), 2);
    assert_int_equal(lessor_ttl_min_s(1 * MS), 1);
    assert_int_equal(lessor_ttl_min_s(2000 * MS), 3);
    assert_int_equal(lessor_ttl_min_s(2001 * MS), 4);
}

/* ---- expiry ---- */

static void test_expiry(void **state)
{
    (void)state;
    for (uint32_t count = 1; count <= 3; count += 2) {
        struct harness *harness = new_harness(count);
        member_id leader = harness_elect(harness);
        grant(harness, leader, 1, 3);
        grant(harness, leader, 2, 5);
        put(harness, leader, 0, 1);
        put(harness, leader, 7, 1);
        put(harness, leader, 3, 1);
        put(harness, leader, 4, 2);
        put(harness, leader, 5, 0);
        store_revision before = harness->revision;
        harness_run(harness, 2990 * MS);
        assert_true(is_there(harness, 1));
        harness_run(harness, 20 * MS);
        assert_false(is_there(harness, 1));
        /* One revision for all, the same everywhere (the model compares contents and revisions). */
        assert_int_equal(harness->revision, before + 1);
        harness_run(harness, 1980 * MS);
        assert_true(is_there(harness, 2));
        harness_run(harness, 20 * MS);
        assert_false(is_there(harness, 2));
        assert_int_equal(harness->expired, 2);
        harness_run(harness, 2 * HARNESS_HEARTBEAT);
        for (member_id id = 1; id <= count; id++) {
            struct replica_status status;
            replica_status(harness->members[id].replica, &status);
            assert_int_equal(status.leases_expired, id == leader ? 2 : 0);
            assert_int_equal(store_key_count(replica_store(harness->members[id].replica)), 1);
        }
        requests_end(harness);
    }
}

/* Nothing is asked of the log while nothing is due. */
static void test_quiet(void **state)
{
    (void)state;
    struct harness *harness = new_harness(1);
    harness_elect(harness);
    grant(harness, 1, 1, 3600);
    raft_index before = last_index(harness, 1);
    harness_run(harness, 59 * S);
    assert_int_equal(last_index(harness, 1), before);
    requests_end(harness);
}

static void test_revoked_by_a_client(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness), follower = harness_follower(harness);
    grant(harness, leader, 1, 2);
    put(harness, follower, 1, 1);
    ask(harness, harness_revoke(harness, follower, 1), ERR_OK);
    assert_false(is_there(harness, 1));
    ask(harness, harness_revoke(harness, leader, 1), ERR_LEASE_NOT_FOUND);
    /* Its namesake has a time of its own. */
    grant(harness, leader, 1, 20);
    raft_index before = last_index(harness, leader);
    harness_run(harness, 2500 * MS);
    assert_true(is_there(harness, 1));
    assert_int_equal(last_index(harness, leader), before);
    requests_end(harness);
}

static void set_disk_full(struct harness *harness, member_id id, bool full)
{
    struct replica_event event = {.type = REPLICA_DISK_FULL, .full = full};
    harness_step(harness, id, &event);
    harness_stabilize(harness);
}

static void test_full_disk(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness);
    grant(harness, leader, 1, 2);
    grant(harness, leader, 2, 80);
    harness_run(harness, 1 * S);
    set_disk_full(harness, leader, true);
    harness_run(harness, 29 * S);
    assert_true(is_there(harness, 1));
    set_disk_full(harness, leader, false);
    harness_run(harness, 1 * S);
    assert_false(is_there(harness, 1));
    /* What is left of the other is in the log by now, and a renewal has to take that back. */
    assert_int_not_equal(lease_at(harness, leader, 2)->remaining_s, 0);
    set_disk_full(harness, leader, true);
    ask(harness, harness_renew(harness, leader, 2), ERR_NO_SPACE);
    set_disk_full(harness, leader, false);
    ask(harness, harness_renew(harness, leader, 2), ERR_OK);
    assert_int_equal(lease_at(harness, leader, 2)->remaining_s, 0);
    requests_end(harness);
}

/* ---- renewals and times ---- */

static void test_renewal(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness);
    grant(harness, leader, 1, 3);
    put(harness, leader, 1, 1);
    raft_index before = last_index(harness, leader);
    for (int i = 0; i < 20; i++) {
        harness_run(harness, 1 * S);
        /* Through each member in turn. */
        const struct harness_request *answer = ask(harness, harness_renew(harness, 1 + (member_id)i % 3, 1), ERR_OK);
        assert_int_equal(answer->ttl_s, 3);
        assert_int_equal(answer->granted_ttl_s, 3);
        assert_int_equal(answer->revision, harness->revision);
    }
    assert_int_equal(last_index(harness, leader), before); /* the log knows nothing of it */
    assert_true(is_there(harness, 1));
    harness_run(harness, 3010 * MS);
    assert_false(is_there(harness, 1));
    for (member_id id = 1; id <= 3; id++) {
        const struct harness_request *answer = ask(harness, harness_renew(harness, id, 1), ERR_LEASE_NOT_FOUND);
        assert_int_equal(answer->ttl_s, 0);
    }
    requests_end(harness);
}

static void test_time(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness);
    grant(harness, leader, 1, 9);
    for (int passed = 0; passed < 9; passed++) {
        for (member_id id = 1; id <= 3; id++) {
            const struct harness_request *answer = ask(harness, harness_time(harness, id, 1), ERR_OK);
            assert_int_equal(answer->ttl_s, 9 - passed);
            assert_int_equal(answer->granted_ttl_s, 9);
        }
        harness_run(harness, 1 * MS);
        assert_int_equal(ask(harness, harness_time(harness, leader, 1), ERR_OK)->ttl_s, 8 - passed); /* down */
        harness_run(harness, 999 * MS);
    }
    harness_run(harness, 1 * MS);
    assert_false(is_there(harness, 1));
    for (member_id id = 1; id <= 3; id++) ask(harness, harness_time(harness, id, 1), ERR_LEASE_NOT_FOUND);
    requests_end(harness);
}

/* A follower answers once it has what the leader had: the keys of the lease can be read there. */
static void test_follower_answers_when_applied(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness), follower = harness_follower(harness);
    grant(harness, leader, 1, 30);
    uint64_t written = harness_put_leased(harness, leader, 5, 1);
    harness_flush(harness, leader);
    struct harness_frame held = harness_take(harness, harness_find(harness, PEER_APPEND, leader, follower));
    harness_stabilize(harness);
    requests_assert_done(harness, written, ERR_OK);
    uint64_t time = harness_time(harness, follower, 1);
    harness_stabilize(harness);
    assert_false(requests_done(harness, time));
    assert_int_equal(lease_at(harness, follower, 1)->key_count, 0);
    harness_add(harness, &held);
    harness_run(harness, 2 * HARNESS_HEARTBEAT);
    requests_assert_done(harness, time, ERR_OK);
    assert_int_equal(lease_at(harness, follower, 1)->key_count, 1);
    requests_end(harness);
}

/* An acknowledgement needs a quorum that says, after the request came, that the leader leads. */
static void test_renewal_waits_for_a_quorum(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness);
    grant(harness, leader, 1, 30);
    uint64_t renewal = harness_renew(harness, leader, 1), time = harness_time(harness, leader, 1);
    harness_flush(harness, leader);
    assert_false(requests_done(harness, renewal) || requests_done(harness, time));
    assert_true(harness_drop_all(harness, PEER_APPEND, leader, 0) > 0);
    harness_stabilize(harness);
    assert_false(requests_done(harness, renewal) || requests_done(harness, time));
    harness_run(harness, 2 * HARNESS_HEARTBEAT);
    requests_assert_done(harness, renewal, ERR_OK);
    requests_assert_done(harness, time, ERR_OK);
    requests_end(harness);
}

/* The lease's time ends while its renewal is on its way to be confirmed: it came in time. */
static void test_renewal_in_the_last_moment(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness);
    grant(harness, leader, 1, 2);
    harness_run(harness, 1990 * MS);
    uint64_t renewal = harness_renew(harness, leader, 1);
    harness_flush(harness, leader);
    harness_drop_all(harness, PEER_APPEND, leader, 0);
    harness_run(harness, 200 * MS);
    requests_assert_done(harness, renewal, ERR_OK);
    assert_true(is_there(harness, 1));
    requests_end(harness);
}

static void test_renewal_of_an_expired_lease(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness), follower = harness_follower(harness);
    grant(harness, leader, 1, 2);
    put(harness, leader, 1, 1);
    harness_run(harness, 1950 * MS);
    harness_isolate(harness, leader);
    harness_run(harness, 100 * MS);
    assert_true(is_there(harness, 1));
    uint64_t here = harness_renew(harness, leader, 1), left = harness_time(harness, leader, 1);
    harness_run(harness, 50 * MS);
    assert_false(requests_done(harness, here));
    harness_heal(harness);
    uint64_t there = harness_renew(harness, follower, 1);
    /* The barrier comes through before the followers have written what is to be committed. */
    for (int i = 0; i < 200 && !requests_done(harness, left); i++) {
        for (member_id id = 1; id <= 3; id++) {
            uint32_t waiting = harness->network_count;
            for (uint32_t j = 0; j < waiting && harness->network_count > 0; j++) harness_deliver(harness, 0);
            harness_flush_all(harness);
        }
        harness->now += 10 * MS;
        for (member_id id = 1; id <= 3; id++) harness_tick(harness, id);
        harness_flush_all(harness);
    }
    requests_assert_done(harness, left, ERR_OK);
    assert_int_equal(harness_request(harness, left)->ttl_s, 0);
    assert_false(requests_done(harness, here) || requests_done(harness, there));
    assert_true(is_there(harness, 1));
    harness_run(harness, 500 * MS);
    requests_assert_done(harness, here, ERR_LEASE_NOT_FOUND);
    requests_assert_done(harness, there, ERR_LEASE_NOT_FOUND);
    assert_false(is_there(harness, 1));
    requests_end(harness);
}

static void test_too_many(void **state)
{
    (void)state;
    struct harness_options options = {.count = 3, .seed = 11, .requests_max = 4};
    struct harness *harness = harness_new(&options);
    member_id leader = harness_elect(harness);
    grant(harness, leader, 1, 100);
    for (member_id id = 1; id <= 3; id++) {
        uint64_t numbers[7];
        for (int i = 0; i < 7; i++) {
            numbers[i] = i % 2 == 0 ? harness_renew(harness, id, 1) : harness_time(harness, id, 1);
        }
        for (int i = 4; i < 7; i++) ask(harness, numbers[i], ERR_TOO_MANY);
        for (int i = 0; i < 4; i++) ask(harness, numbers[i], ERR_OK);
        ask(harness, harness_renew(harness, id, 1), ERR_OK);
    }
    requests_end(harness);
}

/* ---- on the way to the leader ---- */

static void test_no_leader(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    harness_start(harness, 1);
    ask(harness, harness_renew(harness, 1, 1), ERR_NO_LEADER);
    ask(harness, harness_time(harness, 1, 1), ERR_NO_LEADER);
    requests_end(harness);
}

static void test_lost_on_the_way(void **state)
{
    (void)state;
    for (int way = 0; way < 2; way++) {
        struct harness *harness = new_harness(3);
        member_id leader = harness_elect(harness), follower = harness_follower(harness);
        grant(harness, leader, 1, 10);
        uint64_t renewal = harness_renew(harness, follower, 1), later = 0;
        harness_flush(harness, follower);
        if (way == 0) {
            /* A message that gets lost without the connection: its sender can't know, and gives up in time. */
            assert_int_equal(harness_drop_all(harness, PEER_LEASE_RENEW, follower, leader), 1);
            harness_run(harness, 1490 * MS);
            assert_false(requests_done(harness, renewal));
            harness_run(harness, 20 * MS);
            requests_assert_done(harness, renewal, ERR_TIMEOUT);
        } else {
            harness_disconnect(harness, follower, leader);
            harness_stabilize(harness);
            later = harness_time(harness, follower, 1); /* there is no way at the moment */
            harness_run(harness, 100 * MS);
            assert_false(requests_done(harness, renewal));
            harness_connect(harness, follower, leader);
            ask(harness, renewal, ERR_OK);
            ask(harness, later, ERR_OK);
        }
        requests_end(harness);
    }
}

static void test_late_and_repeated_answers(void **state)
{
    (void)state;
    struct harness_options options = {.count = 3, .seed = 3, .duplicates = true};
    struct harness *harness = harness_new(&options);
    member_id leader = harness_elect(harness), follower = harness_follower(harness);
    grant(harness, leader, 1, 10);
    uint64_t renewal = harness_renew(harness, follower, 1);
    harness_flush(harness, follower);
    harness_duplicate(harness, harness_find(harness, PEER_LEASE_RENEW, follower, leader));
    ask(harness, renewal, ERR_OK); /* a second result would be a breach */
    uint64_t second = harness_renew(harness, follower, 1);
    struct peer_message strange = {.type = PEER_LEASE_REPLY,
                                   .from = leader,
                                   .to = follower,
                                   .term = harness->members[leader].status.raft.term,
                                   .context = 2,
                                   .incarnation = 77,
                                   .ttl_s = 5};
    harness_receive(harness, &strange);
    assert_false(requests_done(harness, second));
    strange.incarnation = harness->members[follower].incarnation;
    strange.context = 9;
    harness_receive(harness, &strange);
    harness_flush(harness, follower);
    assert_false(requests_done(harness, second));
    assert_int_equal(ask(harness, second, ERR_OK)->ttl_s, 10);
    requests_end(harness);
}

/* The leader is gone; the request waits for the next, and is sent to it. */
static void test_next_leader_answers(void **state)
{
    (void)state;
    for (int way = 0; way < 2; way++) {
        struct harness_options options = {.count = 3, .seed = 5, .request_timeout = 20 * S, .forward_timeout = 15 * S};
        struct harness *harness = harness_new(&options);
        member_id leader = harness_elect(harness), follower = harness_follower(harness);
        grant(harness, leader, 1, 30);
        uint64_t renewal = harness_renew(harness, follower, 1);
        harness_flush(harness, follower);
        if (way == 1) requests_deliver_first(harness, PEER_LEASE_RENEW, follower, leader);
        harness_crash(harness, leader, true);
        harness_run(harness, 5 * S);
        assert_int_not_equal(harness_leader(harness), 0);
        requests_assert_done(harness, renewal, ERR_OK);
        harness_start(harness, leader);
        requests_end(harness);
    }
}

static void test_refused_by_a_follower(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness), follower = harness_follower(harness);
    grant(harness, leader, 1, 30);
    uint64_t renewal = harness_renew(harness, follower, 1);
    harness_flush(harness, follower);
    struct harness_frame held = harness_take(harness, harness_find(harness, PEER_LEASE_RENEW, follower, leader));
    transfer(harness, leader, requests_third(leader, follower));
    harness_add(harness, &held);
    requests_deliver_first(harness, PEER_LEASE_RENEW, follower, leader);
    harness_flush(harness, leader);
    uint32_t refusal = harness_find(harness, PEER_LEASE_REPLY, leader, follower);
    assert_true(refusal < harness->network_count && harness->network[refusal].rejected);
    harness_run(harness, 2 * HARNESS_HEARTBEAT);
    requests_assert_done(harness, renewal, ERR_OK);
    requests_end(harness);
}

/* Who was asked says that it doesn't lead, and nobody else is known: it is asked again, a little later. */
static void test_refused_for_a_moment(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness), follower = harness_follower(harness);
    grant(harness, leader, 1, 30);
    uint64_t renewal = harness_renew(harness, follower, 1);
    harness_flush(harness, follower);
    harness_drop_all(harness, PEER_LEASE_RENEW, follower, leader);
    struct peer_message refusal = {.type = PEER_LEASE_REPLY,
                                   .from = leader,
                                   .to = follower,
                                   .context = 1,
                                   .incarnation = harness->members[follower].incarnation,
                                   .rejected = true,
                                   .reason = ERR_NO_LEADER};
    harness_receive(harness, &refusal);
    harness_stabilize(harness);
    assert_false(requests_done(harness, renewal));
    harness_run(harness, HARNESS_HEARTBEAT + 10 * MS);
    requests_assert_done(harness, renewal, ERR_OK);
    /* Another refusal is an answer. */
    uint64_t second = harness_renew(harness, follower, 1);
    harness_flush(harness, follower);
    harness_drop_all(harness, PEER_LEASE_RENEW, follower, leader);
    refusal.context = 2;
    refusal.reason = ERR_NO_SPACE;
    harness_receive(harness, &refusal);
    ask(harness, second, ERR_NO_SPACE);
    requests_end(harness);
}

/* ---- leaders that come and go ---- */

/* FAULTS.md, mutation 14. The old leader has neither a say in how long leases live, nor in when they end. */
static void test_deposed_leader(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id old = harness_elect(harness);
    grant(harness, old, 1, 2);
    grant(harness, old, 2, 2);
    put(harness, old, 1, 1);
    put(harness, old, 2, 2);
    harness_run(harness, 1900 * MS);
    uint64_t early = harness_renew(harness, old, 1);
    harness_flush(harness, old); /* its barrier is under way, and is lost */
    member_id leader = depose(harness, old);
    uint64_t late = harness_renew(harness, old, 1), time = harness_time(harness, old, 1);
    harness_run(harness, 300 * MS);
    assert_false(requests_done(harness, early) || requests_done(harness, late) || requests_done(harness, time));
    /* By its clock both are over by now, and nobody commits that. */
    assert_int_equal(harness->members[old].status.raft.role, RAFT_LEADER);
    assert_true(last_index(harness, old) > harness->members[old].status.raft.commit);
    assert_non_null(lease_at(harness, old, 2));
    assert_true(is_there(harness, 1) && is_there(harness, 2));
    ask(harness, harness_renew(harness, leader, 2), ERR_OK);
    harness_heal(harness);
    harness_run(harness, 1700 * MS);
    assert_true(is_there(harness, 2));
    /* What it was asked it hands on; where that was too late it has to say so. */
    uint64_t numbers[] = {early, late, time};
    for (int i = 0; i < 3; i++) {
        assert_true(requests_done(harness, numbers[i]));
        enum error error = harness_request(harness, numbers[i])->error;
        assert_true(error == ERR_OK || error == ERR_TIMEOUT);
    }
    harness_run(harness, 6 * S);
    assert_false(is_there(harness, 1) || is_there(harness, 2));
    assert_int_equal(harness->expired, 2);
    requests_end(harness);
}

/* What it couldn't answer while it led goes to who leads now. */
static void test_handed_on_by_a_deposed_leader(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id old = harness_elect(harness), next = old % 3 + 1;
    grant(harness, old, 1, 2);
    grant(harness, old, 2, 20);
    /* The first expires, and can't be revoked. */
    set_disk_full(harness, old, true);
    harness_run(harness, 2100 * MS);
    uint64_t waits_for_revoke = harness_renew(harness, old, 1);
    harness_stabilize(harness);
    assert_false(requests_done(harness, waits_for_revoke));
    uint64_t waits_for_barrier = harness_renew(harness, old, 2);
    harness_flush(harness, old);
    harness_drop_all(harness, PEER_APPEND, old, 0);
    transfer(harness, old, next);
    requests_assert_done(harness, waits_for_revoke, ERR_OK);
    requests_assert_done(harness, waits_for_barrier, ERR_OK);
    assert_true(is_there(harness, 1));
    requests_end(harness);
}

static void test_deposed_leader_for_good(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id old = harness_elect(harness);
    grant(harness, old, 1, 2);
    harness_isolate(harness, old);
    uint64_t renewal = harness_renew(harness, old, 1);
    harness_run(harness, 10 * S);
    requests_assert_done(harness, renewal, ERR_TIMEOUT);
    assert_non_null(lease_at(harness, old, 1));
    assert_false(is_there(harness, 1));
    ask(harness, harness_renew(harness, old, 1), ERR_NO_LEADER);
    harness_heal(harness);
    harness_run(harness, 3 * S);
    assert_null(lease_at(harness, old, 1));
    requests_end(harness);
}

/* Rule 45: the whole TTL, and an election timeout on top, from when it may serve. */
static void test_new_leader_extends(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness);
    grant(harness, leader, 1, 5);
    harness_run(harness, 4 * S);
    member_id next = leader % 3 + 1;
    transfer(harness, leader, next);
    time_ns since = harness->now;
    int64_t left = ask(harness, harness_time(harness, leader, 1), ERR_OK)->ttl_s;
    assert_in_range(left, 5, 6);
    harness_run(harness, 5 * S + HARNESS_ELECTION_TIMEOUT - 50 * MS);
    assert_true(is_there(harness, 1));
    harness_run(harness, 100 * MS);
    assert_false(is_there(harness, 1));
    assert_true(harness->now - since < 7 * S);
    struct replica_status status;
    replica_status(harness->members[next].replica, &status);
    assert_int_equal(status.leases_expired, 1);
    requests_end(harness);
}

static void test_revoke_lost_with_its_leader(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness);
    grant(harness, leader, 1, 2);
    harness_run(harness, 1990 * MS);
    raft_index before = last_index(harness, leader);
    harness_isolate(harness, leader);
    harness_run(harness, 50 * MS);
    assert_int_equal(last_index(harness, leader), before + 1);
    harness_crash(harness, leader, true);
    harness_run(harness, 3 * S);
    assert_int_not_equal(harness_leader(harness), 0);
    assert_true(is_there(harness, 1));
    harness_run(harness, 3 * S);
    assert_false(is_there(harness, 1));
    harness_heal(harness);
    harness_start(harness, leader);
    harness_run(harness, 1 * S);
    requests_end(harness);
}

/* A pause of all is time that passes; a pause of one that is replaced changes nothing. */
static void test_pause(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness);
    grant(harness, leader, 1, 4);
    harness_run(harness, 3 * S);
    /* The leader sleeps for an hour, and the others don't: their clocks go on from its own. */
    harness_isolate(harness, leader);
    harness_run(harness, 4 * S);
    member_id next = harness_leader(harness);
    assert_int_not_equal(next, leader);
    ask(harness, harness_renew(harness, next, 1), ERR_OK);
    struct replica_event wake = {.type = REPLICA_TICK};
    harness_step(harness, leader, &wake);
    harness_heal(harness);
    harness_run(harness, 1 * S);
    assert_true(is_there(harness, 1));
    harness_run(harness, 4 * S);
    assert_false(is_there(harness, 1));
    requests_end(harness);
}

static void test_all_restart(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness);
    grant(harness, leader, 1, 5);
    put(harness, leader, 1, 1);
    harness_run(harness, 4 * S);
    for (member_id id = 1; id <= 3; id++) harness_crash(harness, id, true);
    leader = harness_elect(harness);
    harness_run(harness, 5 * S);
    assert_true(is_there(harness, 1));
    harness_run(harness, 2 * S);
    assert_false(is_there(harness, 1));
    requests_end(harness);
}

/* A leader whose leases came with a snapshot. */
static void test_after_a_snapshot(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness), behind = harness_follower(harness);
    harness_crash(harness, behind, true);
    grant(harness, leader, 1, 5);
    grant(harness, leader, 2, 160);
    put(harness, leader, 1, 1);
    harness_run(harness, 3 * S);
    ask(harness, harness_renew(harness, leader, 1), ERR_OK);
    harness_run(harness, 20 * S); /* the first expires, and what is left of the second is checkpointed */
    assert_false(is_there(harness, 1));
    int64_t remaining = lease_at(harness, leader, 2)->remaining_s;
    assert_in_range(remaining, 130, 145);
    assert_int_equal(harness_snapshot_begin(harness, leader), ERR_OK);
    while (!harness_snapshot_slice(harness, leader)) continue;
    harness_start(harness, behind);
    harness_run(harness, 1 * S);
    assert_int_equal(harness->members[behind].snapshots_installed, 1);
    assert_int_equal(lease_at(harness, behind, 2)->remaining_s, remaining);
    transfer(harness, leader, behind);
    int64_t left = ask(harness, harness_time(harness, leader, 2), ERR_OK)->ttl_s;
    assert_in_range(left, remaining, remaining + 1);
    harness_run(harness, (remaining + 2) * S);
    assert_false(is_there(harness, 2));
    requests_end(harness);
}

/* ---- what is left, in the log ---- */

static void test_remaining_time_survives(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness);
    grant(harness, leader, 1, 80);
    for (int i = 1; i <= 3; i++) {
        harness_run(harness, 20 * S);
        leader = harness_leader(harness);
        harness_crash(harness, leader, true);
        harness_run(harness, 3 * S);
        member_id next = harness_leader(harness);
        assert_int_not_equal(next, 0);
        int64_t left = ask(harness, harness_time(harness, next, 1), ERR_OK)->ttl_s;
        /* Each change adds an eighth of the TTL, the time without a leader and an election timeout at most. */
        assert_in_range(left, 80 - 23 * i, 80 - 23 * i + (10 + 3 + 1) * i);
        harness_start(harness, leader);
        harness_run(harness, 500 * MS);
    }
    harness_run(harness, 50 * S);
    assert_false(is_there(harness, 1));
    requests_end(harness);
}

/* The log says that little is left; the renewal takes that back before it is acknowledged. */
static void test_renewal_of_a_checkpointed_lease(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness), follower = harness_follower(harness);
    grant(harness, leader, 1, 40);
    harness_run(harness, 30 * S);
    assert_in_range(lease_at(harness, leader, 1)->remaining_s, 8, 16);
    raft_index before = last_index(harness, leader);
    uint64_t renewals[] = {harness_renew(harness, leader, 1), harness_renew(harness, follower, 1)};
    harness_flush_all(harness);
    /* The barrier's answers arrive, and nothing can be committed: the disks are busy. */
    for (int i = 0; i < 20; i++) {
        while (harness->network_count > 0) harness_deliver(harness, 0);
        harness_flush_all(harness);
    }
    assert_int_equal(last_index(harness, leader), before + 1); /* one for both */
    assert_false(requests_done(harness, renewals[0]) || requests_done(harness, renewals[1]));
    uint64_t third = harness_renew(harness, leader, 1); /* it waits for the same */
    for (int i = 0; i < 20; i++) {
        harness_flush_all(harness);
        while (harness->network_count > 0) harness_deliver(harness, 0);
    }
    assert_int_equal(last_index(harness, leader), before + 1);
    assert_false(requests_done(harness, third));
    ask(harness, renewals[0], ERR_OK);
    ask(harness, renewals[1], ERR_OK);
    ask(harness, third, ERR_OK);
    assert_int_equal(lease_at(harness, leader, 1)->remaining_s, 0);
    /* Its leader dies at once: the next one gives it all of its time. */
    harness_crash(harness, leader, true);
    harness_run(harness, 39 * S);
    assert_true(is_there(harness, 1));
    harness_run(harness, 6 * S);
    assert_false(is_there(harness, 1));
    harness_start(harness, leader);
    harness_run(harness, 1 * S);
    requests_end(harness);
}

/* Nothing can be proposed while leadership is handed over; whoever leads in the end answers. */
static void test_reset_while_leadership_is_handed_over(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness), next = leader % 3 + 1;
    grant(harness, leader, 1, 40);
    harness_run(harness, 30 * S);
    struct replica_event event = {.type = REPLICA_TRANSFER, .peer = next};
    harness_step(harness, leader, &event);
    harness_flush(harness, leader);
    assert_int_equal(harness_drop_all(harness, PEER_TIMEOUT_NOW, leader, next), 1);
    uint64_t renewals[] = {harness_renew(harness, leader, 1), harness_renew(harness, next, 1)};
    harness_stabilize(harness);
    assert_false(requests_done(harness, renewals[0]) || requests_done(harness, renewals[1]));
    harness_run(harness, 1300 * MS);
    requests_assert_done(harness, renewals[0], ERR_OK);
    requests_assert_done(harness, renewals[1], ERR_OK);
    assert_int_equal(lease_at(harness, leader, 1)->remaining_s, 0);
    requests_end(harness);
}

/* A checkpoint is on its way while a renewal comes: it counts as if it had arrived. */
static void test_renewal_after_a_checkpoint_under_way(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness);
    grant(harness, leader, 1, 40);
    harness_run(harness, 4500 * MS);
    raft_index before = last_index(harness, leader);
    while (last_index(harness, leader) == before) {
        harness->now += 100 * MS;
        for (member_id id = 1; id <= 3; id++) harness_tick(harness, id);
        harness_flush_all(harness);
        while (harness->network_count > 0) harness_deliver(harness, 0);
        harness_flush_all(harness);
        assert_string_equal(harness->violation, "");
    }
    assert_int_equal(lease_at(harness, leader, 1)->remaining_s, 0);
    uint64_t renewal = harness_renew(harness, leader, 1);
    harness_flush_all(harness);
    ask(harness, renewal, ERR_OK);
    assert_int_equal(last_index(harness, leader), before + 2);
    assert_int_equal(lease_at(harness, leader, 1)->remaining_s, 0);
    harness_crash(harness, leader, true);
    harness_run(harness, 39 * S);
    assert_true(is_there(harness, 1));
    harness_start(harness, leader);
    harness_run(harness, 6 * S);
    requests_end(harness);
}

/* Who renews in time costs the log nothing, but once after each change of leaders. */
static void test_renewed_leases_stay_out_of_the_log(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness);
    grant(harness, leader, 1, 30);
    uint32_t entries[2];
    for (int round = 0; round < 2; round++) {
        raft_index before = last_index(harness, leader);
        for (int i = 0; i < 30; i++) {
            harness_run(harness, 10 * S);
            ask(harness, harness_renew(harness, leader, 1), ERR_OK);
        }
        entries[round] = (uint32_t)(last_index(harness, leader) - before);
    }
    /* At first nobody knew that it would be renewed. */
    assert_in_range(entries[0], 1, 6);
    assert_int_equal(entries[1], 0);
    requests_end(harness);
}

/* ---- at random ---- */

/* The harness checks that none expires early, and that what is answered is so. */
static void random_run(uint64_t seed)
{
    struct harness_options options = {.count = 3, .seed = seed, .make_snapshots = true, .snapshot_log_bytes_min = 3000};
    struct harness *harness = harness_new(&options);
    harness_elect(harness);
    struct random random;
    random_seed(&random, seed);
    member_id down = 0;
    for (int i = 0; i < 600; i++) {
        member_id id = 1 + random_below(&random, 3);
        if (id == down) id = id % 3 + 1;
        uint64_t lease = 1 + random_below(&random, 6);
        switch (random_below(&random, 10)) {
        case 0:
            /* Two of the same id in doubt would confuse the model. */
            if (!is_there(harness, lease)) harness_grant(harness, id, lease, random_between(&random, 2, 40));
            harness_run(harness, 100 * MS);
            break;
        case 1:
            harness_put_leased(harness, id, (uint32_t)random_below(&random, 8), is_there(harness, lease) ? lease : 0);
            break;
        case 2:
        case 3:
        case 4:
            harness_renew(harness, id, lease);
            break;
        case 5:
            harness_time(harness, id, lease);
            break;
        case 6:
            /* Always the same, for a revoke may come late and hit a namesake. */
            if (lease == 6 && random_chance(&random, 400)) harness_revoke(harness, id, lease);
            break;
        case 7:
            if (!random_chance(&random, 150)) break;
            if (down != 0) {
                harness_start(harness, down);
                down = 0;
            } else {
                down = random_chance(&random, 700) ? harness_leader(harness) : id;
                if (down != 0) harness_crash(harness, down, random_chance(&random, 500));
            }
            break;
        case 8:
            if (random_chance(&random, 100) && down == 0) harness_isolate(harness, id);
            if (random_chance(&random, 200)) harness_heal(harness);
            break;
        default:
            harness_run(harness, (time_ns)random_below(&random, 1500) * MS);
            break;
        }
        assert_string_equal(harness->violation, "");
    }
    harness_start_all(harness);
    harness_heal(harness);
    harness_run(harness, 5 * S);
    assert_int_equal(harness->open_reads + harness->open_writes, 0);
    /* None stays for ever. */
    harness_run(harness, 60 * S);
    for (uint64_t lease = 1; lease <= HARNESS_LEASES; lease++) assert_false(is_there(harness, lease));
    requests_end(harness);
}

static void test_random(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 30; seed++) random_run(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ttl_min),
        cmocka_unit_test(test_expiry),
        cmocka_unit_test(test_quiet),
        cmocka_unit_test(test_revoked_by_a_client),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_renewal),
        cmocka_unit_test(test_time),
        cmocka_unit_test(test_follower_answers_when_applied),
        cmocka_unit_test(test_renewal_waits_for_a_quorum),
        cmocka_unit_test(test_renewal_in_the_last_moment),
        cmocka_unit_test(test_renewal_of_an_expired_lease),
        cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_no_leader),
        cmocka_unit_test(test_lost_on_the_way),
        cmocka_unit_test(test_late_and_repeated_answers),
        cmocka_unit_test(test_next_leader_answers),
        cmocka_unit_test(test_refused_by_a_follower),
        cmocka_unit_test(test_refused_for_a_moment),
        cmocka_unit_test(test_deposed_leader),
        cmocka_unit_test(test_handed_on_by_a_deposed_leader),
        cmocka_unit_test(test_deposed_leader_for_good),
        cmocka_unit_test(test_new_leader_extends),
        cmocka_unit_test(test_revoke_lost_with_its_leader),
        cmocka_unit_test(test_pause),
        cmocka_unit_test(test_all_restart),
        cmocka_unit_test(test_after_a_snapshot),
        cmocka_unit_test(test_remaining_time_survives),
        cmocka_unit_test(test_renewal_of_a_checkpointed_lease),
        cmocka_unit_test(test_reset_while_leadership_is_handed_over),
        cmocka_unit_test(test_renewal_after_a_checkpoint_under_way),
        cmocka_unit_test(test_renewed_leases_stay_out_of_the_log),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
