/* A write's way: proposed here or forwarded, committed, applied here, answered once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "requests.h"

#define MS TIME_NS_PER_MS

static struct harness *new_harness(uint32_t count)
{
    struct harness_options options = {.count = count, .seed = 7};
    return harness_new(&options);
}

static bool applied(const struct harness *harness, uint64_t number)
{
    return harness_request(harness, number)->applied;
}

static void transfer(struct harness *harness, member_id from, member_id to)
{
    struct replica_event event = {.type = REPLICA_TRANSFER, .peer = to};
    harness_step(harness, from, &event);
    harness_run(harness, 30 * MS);
    assert_int_equal(harness_leader(harness), to);
}

/* ---- contract rule 4 ---- */

static void test_alone(void **state)
{
    (void)state;
    struct harness *harness = new_harness(1);
    assert_int_equal(harness_elect(harness), 1);
    uint64_t put = harness_put(harness, 1, 0);
    harness_flush(harness, 1);
    assert_false(requests_done(harness, put)); /* not durable yet */
    assert_true(harness_complete_write(harness, 1, true));
    harness_flush(harness, 1);
    requests_assert_done(harness, put, ERR_OK);
    assert_int_equal(harness_request(harness, put)->revision, 2);
    requests_end(harness);
}

static void test_leader_answers_when_committed_and_applied(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness), follower = harness_follower(harness);
    uint64_t put = harness_put(harness, leader, 3);
    assert_false(requests_done(harness, put));
    harness_flush(harness, leader);
    harness_complete_write(harness, leader, true); /* one of three */
    harness_flush(harness, leader);
    assert_false(requests_done(harness, put));
    requests_deliver_first(harness, PEER_APPEND, leader, follower);
    harness_flush(harness, follower);
    assert_true(harness_find(harness, PEER_APPEND_REPLY, follower, leader) == harness->network_count);
    harness_complete_write(harness, follower, true);
    harness_flush(harness, follower);
    assert_false(requests_done(harness, put));
    requests_deliver_first(harness, PEER_APPEND_REPLY, follower, leader);
    harness_flush(harness, leader);
    requests_assert_done(harness, put, ERR_OK);
    assert_int_equal(harness_request(harness, put)->revision, 2);
    assert_false(harness_request(harness, put)->existed);
    harness_run(harness, 300 * MS);
    requests_end(harness);
}

/* Its own write may be the last: two followers are a quorum, and the leader needn't have it on disk. */
static void test_leader_counts_itself_last(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness);
    uint64_t put = harness_put(harness, leader, 3);
    harness_flush(harness, leader);
    for (member_id id = 1; id <= 3; id++) {
        if (id == leader) continue;
        assert_false(requests_done(harness, put));
        requests_deliver_first(harness, PEER_APPEND, leader, id);
        harness_flush(harness, id);
        harness_complete_write(harness, id, true);
        harness_flush(harness, id);
        requests_deliver_first(harness, PEER_APPEND_REPLY, id, leader);
        harness_flush(harness, leader);
    }
    requests_assert_done(harness, put, ERR_OK);
    /* Committed and applied, and yet no snapshot may be made of it here (contract rule 5). */
    assert_int_equal(harness_snapshot_begin(harness, leader), ERR_NOT_READY);
    harness_run(harness, 300 * MS);
    assert_int_equal(harness_snapshot_begin(harness, leader), ERR_OK);
    harness_snapshot_fail(harness, leader);
    requests_end(harness);
}

static void test_follower_answers_when_applied_here(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness), follower = harness_follower(harness),
              other = requests_third(leader, follower);
    uint64_t put = harness_put(harness, follower, 1);
    harness_flush(harness, follower);
    requests_deliver_first(harness, PEER_FORWARD, follower, leader);
    harness_flush(harness, leader);
    harness_complete_write(harness, leader, true);
    requests_deliver_first(harness, PEER_APPEND, leader, other);
    harness_flush(harness, other);
    harness_complete_write(harness, other, true);
    harness_flush(harness, other);
    requests_deliver_first(harness, PEER_APPEND_REPLY, other, leader);
    harness_flush(harness, leader);
    /* Committed and applied by the leader; the follower hasn't even the entry. */
    assert_true(applied(harness, put));
    assert_false(requests_done(harness, put));
    requests_deliver_first(harness, PEER_FORWARD_REPLY, leader, follower);
    harness_flush(harness, follower);
    assert_false(requests_done(harness, put));
    requests_deliver_first(harness, PEER_APPEND, leader, follower);
    harness_flush(harness, follower);
    harness_stabilize(harness);
    /* It knows of the commit by the reply or the next heartbeat. */
    harness_run(harness, 2 * HARNESS_HEARTBEAT);
    requests_assert_done(harness, put, ERR_OK);
    requests_end(harness);
}

/* The reply carries the commit index, so that no heartbeat is awaited. */
static void test_follower_needs_no_heartbeat(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    harness_elect(harness);
    member_id follower = harness_follower(harness);
    uint64_t put = harness_put(harness, follower, 1), erase = harness_delete(harness, follower, 1);
    time_ns before = harness->now;
    harness_stabilize(harness);
    assert_int_equal(harness->now, before);
    requests_assert_done(harness, put, ERR_OK);
    requests_assert_done(harness, erase, ERR_OK);
    assert_true(harness_request(harness, erase)->existed);
    requests_end(harness);
}

static void test_results_say_what_happened(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    harness_elect(harness);
    for (member_id id = 1; id <= 3; id++) {
        store_revision before = harness->revision;
        uint64_t nothing = harness_delete(harness, id, (uint32_t)id);
        harness_stabilize(harness);
        requests_assert_done(harness, nothing, ERR_OK);
        assert_false(harness_request(harness, nothing)->existed);
        assert_int_equal(harness_request(harness, nothing)->revision, before);
        uint64_t first = harness_put(harness, id, (uint32_t)id);
        harness_stabilize(harness);
        assert_false(harness_request(harness, first)->existed);
        assert_int_equal(harness_request(harness, first)->revision, before + 1);
        uint64_t second = harness_put(harness, id, (uint32_t)id);
        harness_stabilize(harness);
        assert_true(harness_request(harness, second)->existed);
        uint64_t erase = harness_delete(harness, id, (uint32_t)id);
        harness_stabilize(harness);
        assert_true(harness_request(harness, erase)->existed);
        assert_int_equal(harness_request(harness, erase)->revision, before + 3);
        requests_assert_done(harness, erase, ERR_OK);
    }
    requests_end(harness);
}

/* ---- forwarding ---- */

static void test_duplicates_in_flight(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness), follower = harness_follower(harness);
    uint64_t put = harness_put(harness, follower, 1);
    harness_flush(harness, follower);
    uint32_t position = harness_find(harness, PEER_FORWARD, follower, leader);
    harness_duplicate(harness, position);
    harness_duplicate(harness, position);
    harness_stabilize(harness);
    harness_run(harness, 300 * MS);
    requests_assert_done(harness, put, ERR_OK);
    assert_int_equal(harness->revision, 2);
    assert_int_equal(harness->repeats, 2); /* they were in the log, and not applied */
    requests_end(harness);
}

static void test_duplicate_after_it_was_applied(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness), follower = harness_follower(harness);
    uint64_t put = harness_put(harness, follower, 1);
    harness_flush(harness, follower);
    harness_duplicate(harness, harness_find(harness, PEER_FORWARD, follower, leader));
    struct harness_frame late = harness_take(harness, harness_find(harness, PEER_FORWARD, follower, leader));
    harness_stabilize(harness);
    requests_assert_done(harness, put, ERR_OK);
    raft_index last = harness->members[leader].status.raft.last_index;
    harness_add(harness, &late);
    harness_stabilize(harness);
    harness_run(harness, 300 * MS);
    assert_int_equal(harness->members[leader].status.raft.last_index, last); /* not even proposed */
    assert_int_equal(harness->revision, 2);
    requests_end(harness);
}

/* `to` leads, and `voter` knows; the empty entry of its term isn't committed. The old leader knows nothing. */
static void begin_to_lead(struct harness *harness, member_id from, member_id to, member_id voter)
{
    struct replica_event event = {.type = REPLICA_TRANSFER, .peer = to};
    harness_step(harness, from, &event);
    harness_flush(harness, from);
    requests_deliver_first(harness, PEER_TIMEOUT_NOW, from, to);
    harness_complete_save(harness, to, true);
    harness_flush(harness, to);
    assert_true(harness_complete_save(harness, to, true));
    harness_flush(harness, to);
    requests_deliver_first(harness, PEER_VOTE, to, voter);
    harness_flush(harness, voter);
    assert_true(harness_complete_save(harness, voter, true));
    harness_flush(harness, voter);
    requests_deliver_first(harness, PEER_VOTE_REPLY, voter, to);
    harness_flush(harness, to);
    requests_deliver_first(harness, PEER_APPEND, to, voter);
    harness_flush(harness, voter);
    assert_int_equal(harness_leader(harness), to);
    assert_int_equal(harness->members[voter].status.raft.leader, to);
}

/* It said that it didn't propose it, so it is sent on: to the new leader, which may be the asker itself. */
static void sent_again(bool to_self)
{
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness), follower = harness_follower(harness),
              other = requests_third(leader, follower);
    uint64_t put = harness_put(harness, follower, 1);
    harness_flush(harness, follower);
    struct harness_frame held = harness_take(harness, harness_find(harness, PEER_FORWARD, follower, leader));
    begin_to_lead(harness, leader, to_self ? follower : other, to_self ? other : follower);
    harness_add(harness, &held);
    requests_deliver_first(harness, PEER_FORWARD, follower, leader);
    harness_flush(harness, leader);
    requests_deliver_first(harness, PEER_FORWARD_REPLY, leader, follower);
    harness_flush(harness, follower);
    assert_false(requests_done(harness, put));
    assert_int_equal(harness_find(harness, PEER_FORWARD, follower, other) < harness->network_count, !to_self);
    harness_stabilize(harness);
    requests_assert_done(harness, put, ERR_OK);
    assert_int_equal(harness->revision, 2);
    requests_end(harness);
}

/* The message came twice. The leader proposed the first, and would refuse the second, since it leads no more: but then its sender would
   take it for not proposed, and its client for not done. */
static void test_second_copy_is_not_refused(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness), follower = harness_follower(harness),
              other = requests_third(leader, follower);
    uint64_t put = harness_put(harness, follower, 1);
    harness_flush(harness, follower);
    harness_duplicate(harness, harness_find(harness, PEER_FORWARD, follower, leader));
    struct harness_frame second = harness_take(harness, harness_find(harness, PEER_FORWARD, follower, leader));
    harness_isolate(harness, other);
    requests_deliver_first(harness, PEER_FORWARD, follower, leader);
    struct replica_event event = {.type = REPLICA_TRANSFER, .peer = other};
    /* The target lacks the entry; so the transfer waits, and nothing is proposed. */
    harness_step(harness, leader, &event);
    harness_add(harness, &second);
    requests_deliver_first(harness, PEER_FORWARD, follower, leader);
    harness_flush(harness, leader);
    assert_int_equal(harness_find(harness, PEER_FORWARD_REPLY, leader, follower), harness->network_count);
    harness_stabilize(harness);
    requests_assert_done(harness, put, ERR_OK);
    assert_int_equal(harness->revision, 2);
    harness_heal(harness);
    harness_run(harness, 3000 * MS);
    requests_end(harness);
}

/* Likewise: the leader refused the first, and its client may have repeated it since; then the second must be refused as well, though the
   leader would take it by now. */
static void test_second_copy_of_what_was_refused_is_refused(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness), follower = harness_follower(harness),
              other = requests_third(leader, follower);
    uint64_t put = harness_put(harness, follower, 1);
    harness_flush(harness, follower);
    harness_duplicate(harness, harness_find(harness, PEER_FORWARD, follower, leader));
    struct harness_frame second = harness_take(harness, harness_find(harness, PEER_FORWARD, follower, leader));
    harness_isolate(harness, other);
    struct replica_event event = {.type = REPLICA_TRANSFER, .peer = other};
    harness_step(harness, leader, &event); /* which can't be reached: nothing is proposed for a while */
    requests_deliver_first(harness, PEER_FORWARD, follower, leader);
    harness_flush(harness, leader);
    requests_deliver_first(harness, PEER_FORWARD_REPLY, leader, follower);
    harness_flush(harness, follower);
    requests_assert_done(harness, put, ERR_NO_LEADER);
    harness_run(harness, 3000 * MS);
    assert_int_equal(harness_leader(harness), leader);
    raft_index last = harness->members[leader].status.raft.last_index;
    harness_add(harness, &second);
    harness_stabilize(harness);
    assert_int_equal(harness->members[leader].status.raft.last_index, last);
    uint64_t next = harness_put(harness, follower, 1);
    harness_stabilize(harness);
    requests_assert_done(harness, next, ERR_OK);
    harness_heal(harness);
    harness_run(harness, 3000 * MS);
    requests_end(harness);
}

static void test_sent_again_to_the_new_leader(void **state)
{
    (void)state;
    sent_again(false);
}

static void test_sent_again_to_self(void **state)
{
    (void)state;
    sent_again(true);
}

/* Nobody said that it wasn't proposed: it is never sent again, to the same leader or to another. */
static void test_not_sent_again_over_a_new_connection(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness), follower = harness_follower(harness);
    uint64_t put = harness_put(harness, follower, 1);
    harness_flush(harness, follower);
    harness_connect(harness, follower, leader); /* what was in flight is lost */
    harness_flush_all(harness);
    assert_int_equal(harness_find(harness, PEER_FORWARD, follower, 0), harness->network_count);
    harness_run(harness, 1400 * MS);
    assert_false(requests_done(harness, put));
    harness_run(harness, 200 * MS);
    requests_assert_done(harness, put, ERR_TIMEOUT);
    assert_false(applied(harness, put));
    requests_end(harness);
}

/* A new leader's first entry decides: what was proposed before and isn't in the log by then is answered at once. */
static void test_leader_changed(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness), follower = harness_follower(harness),
              other = requests_third(leader, follower);
    uint64_t put = harness_put(harness, follower, 1);
    harness_flush(harness, follower);
    struct harness_frame held = harness_take(harness, harness_find(harness, PEER_FORWARD, follower, leader));
    transfer(harness, leader, other);
    requests_assert_done(harness, put, ERR_LEADER_CHANGED);
    /* The refusal that comes now brings nothing back. */
    harness_add(harness, &held);
    requests_deliver_first(harness, PEER_FORWARD, follower, leader);
    harness_flush(harness, leader);
    assert_true(harness_find(harness, PEER_FORWARD_REPLY, leader, follower) < harness->network_count);
    harness_run(harness, 2500 * MS);
    assert_false(applied(harness, put));
    requests_end(harness);
}

/* Its message was under way while the same member was elected again: it happens after the answer, which said nothing else. */
static void test_leader_changed_and_it_happens_later(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness), follower = harness_follower(harness),
              other = requests_third(leader, follower);
    uint64_t put = harness_put(harness, follower, 1);
    harness_flush(harness, follower);
    struct harness_frame held = harness_take(harness, harness_find(harness, PEER_FORWARD, follower, leader));
    transfer(harness, leader, other);
    transfer(harness, other, leader);
    requests_assert_done(harness, put, ERR_LEADER_CHANGED);
    harness_add(harness, &held);
    harness_run(harness, 2500 * MS);
    assert_true(applied(harness, put));
    requests_end(harness);
}

static void test_refused_with_no_other_leader(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness), follower = harness_follower(harness);
    /* A leader that hands over takes no proposals. */
    harness_isolate(harness, requests_third(leader, follower));
    struct replica_event event = {.type = REPLICA_TRANSFER, .peer = requests_third(leader, follower)};
    harness_put(harness, leader, 0); /* the target lacks it, so the transfer waits */
    harness_step(harness, leader, &event);
    uint64_t here = harness_put(harness, leader, 2);
    uint64_t put = harness_put(harness, follower, 1);
    harness_stabilize(harness);
    requests_assert_done(harness, put, ERR_NO_LEADER);
    requests_assert_done(harness, here, ERR_NO_LEADER);
    harness_run(harness, 1500 * MS);
    uint64_t again = harness_put(harness, follower, 1);
    harness_stabilize(harness);
    requests_assert_done(harness, again, ERR_OK);
    harness_heal(harness);
    harness_run(harness, 3000 * MS);
    assert_false(applied(harness, put));
    assert_false(applied(harness, here));
    requests_end(harness);
}

static void test_no_leader(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    harness_start(harness, 1);
    uint64_t put = harness_put(harness, 1, 0), erase = harness_delete(harness, 1, 0);
    harness_flush(harness, 1);
    requests_assert_done(harness, put, ERR_NO_LEADER);
    requests_assert_done(harness, erase, ERR_NO_LEADER);
    harness_elect(harness);
    harness_run(harness, 500 * MS);
    assert_false(applied(harness, put));
    requests_end(harness);
}

/* ---- outcomes unknown ---- */

static void test_forward_times_out_and_happens_later(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness), follower = harness_follower(harness);
    uint64_t put = harness_put(harness, follower, 1);
    harness_flush(harness, follower);
    struct harness_frame held = harness_take(harness, harness_find(harness, PEER_FORWARD, follower, leader));
    harness_run(harness, 1400 * MS);
    assert_false(requests_done(harness, put));
    harness_run(harness, 200 * MS);
    requests_assert_done(harness, put, ERR_TIMEOUT);
    assert_true(harness_request(harness, put)->answered <= harness_request(harness, put)->asked + 1500 * MS);
    harness_add(harness, &held);
    harness_stabilize(harness);
    harness_run(harness, 300 * MS);
    assert_true(applied(harness, put)); /* and gave no second result */
    assert_int_equal(harness->members[follower].status.proposals_pending, 0);
    requests_end(harness);
}

static void set_full(struct harness *harness, member_id id, bool full)
{
    struct replica_event event = {.type = REPLICA_DISK_FULL, .full = full};
    harness_step(harness, id, &event);
}

/* A refusal that comes after the timeout is no second result. */
static void test_refusal_after_timeout(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness), follower = harness_follower(harness);
    uint64_t put = harness_put(harness, follower, 1);
    harness_flush(harness, follower);
    struct harness_frame held = harness_take(harness, harness_find(harness, PEER_FORWARD, follower, leader));
    harness_run(harness, 1600 * MS);
    requests_assert_done(harness, put, ERR_TIMEOUT);
    set_full(harness, leader, true);
    harness_add(harness, &held);
    requests_deliver_first(harness, PEER_FORWARD, follower, leader);
    harness_flush(harness, leader);
    assert_true(harness_find(harness, PEER_FORWARD_REPLY, leader, follower) < harness->network_count);
    harness_run(harness, 300 * MS);
    assert_false(applied(harness, put));
    requests_end(harness);
}

static void test_cut_off_leader(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness);
    harness_isolate(harness, leader);
    uint64_t put = harness_put(harness, leader, 1);
    harness_run(harness, 1990 * MS);
    assert_false(requests_done(harness, put));
    harness_run(harness, 100 * MS);
    requests_assert_done(harness, put, ERR_TIMEOUT);
    assert_true(harness_request(harness, put)->answered <= harness_request(harness, put)->asked + 2000 * MS);
    /* The others went on, so it is gone for good. */
    member_id next = harness_leader(harness);
    assert_true(next != 0 && next != leader);
    uint64_t other = harness_put(harness, next, 1);
    harness_stabilize(harness);
    requests_assert_done(harness, other, ERR_OK);
    harness_heal(harness);
    harness_run(harness, 1000 * MS);
    assert_false(applied(harness, put));
    requests_end(harness);
}

/* The followers have it, and the leader never hears of that: the next leader commits it. */
static void test_committed_by_the_next_leader(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness);
    uint64_t put = harness_put(harness, leader, 1);
    harness_flush(harness, leader);
    for (member_id id = 1; id <= 3; id++) {
        if (id == leader) continue;
        requests_deliver_first(harness, PEER_APPEND, leader, id);
        harness_flush(harness, id);
    }
    harness_isolate(harness, leader);
    harness_run(harness, 2500 * MS);
    requests_assert_done(harness, put, ERR_TIMEOUT);
    assert_true(applied(harness, put));
    harness_heal(harness);
    harness_run(harness, 1000 * MS);
    requests_end(harness);
}

/* The same, but the old leader comes back while the request waits: it is answered by its own member's apply. */
static void test_answered_by_a_deposed_leader(void **state)
{
    (void)state;
    struct harness_options options = {.count = 3, .seed = 7, .request_timeout = 60 * TIME_NS_PER_S};
    struct harness *harness = harness_new(&options);
    member_id leader = harness_elect(harness);
    uint64_t put = harness_put(harness, leader, 1);
    harness_flush(harness, leader);
    for (member_id id = 1; id <= 3; id++) {
        if (id == leader) continue;
        requests_deliver_first(harness, PEER_APPEND, leader, id);
        harness_flush(harness, id);
    }
    harness_isolate(harness, leader);
    harness_run(harness, 5000 * MS);
    assert_true(applied(harness, put));
    assert_false(requests_done(harness, put));
    harness_heal(harness);
    harness_run(harness, 1000 * MS);
    requests_assert_done(harness, put, ERR_OK);
    requests_end(harness);
}

/* Older requests with later deadlines don't keep younger ones waiting beyond the request timeout. */
static void test_deadlines_of_both_kinds(void **state)
{
    (void)state;
    struct harness_options options = {.count = 3, .seed = 7, .request_timeout = 4000 * MS, .forward_timeout = 500 * MS};
    struct harness *harness = harness_new(&options);
    member_id leader = harness_elect(harness), other = harness_follower(harness);
    harness_isolate(harness, leader);
    uint64_t numbers[10];
    for (int i = 0; i < 5; i++) numbers[i] = harness_put(harness, leader, (uint32_t)i);
    harness_run(harness, 100 * MS);
    /* It hears of another leader, and forwards from now on; nothing comes through. */
    struct peer_message heartbeat = {
        .type = PEER_APPEND, .from = other, .to = leader, .term = harness->members[leader].status.raft.term + 1};
    harness_receive(harness, &heartbeat);
    for (int i = 5; i < 10; i++) numbers[i] = harness_put(harness, leader, (uint32_t)i);
    harness_flush(harness, leader);
    for (int i = 0; i < 10; i++) assert_false(requests_done(harness, numbers[i]));
    harness_run(harness, 4100 * MS);
    for (int i = 0; i < 10; i++) {
        const struct harness_request *request = harness_request(harness, numbers[i]);
        requests_assert_done(harness, numbers[i], ERR_TIMEOUT);
        assert_true(request->answered <= request->asked + 4000 * MS);
        assert_true(request->answered >= request->asked + (i < 5 ? 4000 : 500) * MS);
    }
    harness_heal(harness);
    harness_run(harness, 2000 * MS);
    requests_end(harness);
}

/* ---- limits ---- */

static void test_too_many(void **state)
{
    (void)state;
    struct harness_options options = {.count = 3, .seed = 7, .requests_max = 5};
    struct harness *harness = harness_new(&options);
    harness_elect(harness);
    for (member_id id = 1; id <= 3; id++) {
        uint64_t numbers[5];
        for (int i = 0; i < 5; i++) numbers[i] = harness_put(harness, id, (uint32_t)i);
        uint64_t refused = harness_put(harness, id, 9);
        harness_flush(harness, id);
        requests_assert_done(harness, refused, ERR_TOO_MANY);
        assert_int_equal(harness->members[id].status.proposals_pending, 5);
        harness_stabilize(harness);
        for (int i = 0; i < 5; i++) requests_assert_done(harness, numbers[i], ERR_OK);
        uint64_t after = harness_put(harness, id, 9);
        harness_stabilize(harness);
        requests_assert_done(harness, after, ERR_OK);
        assert_false(applied(harness, refused));
    }
    requests_end(harness);
}

static void test_too_much_unapplied(void **state)
{
    (void)state;
    struct harness_options options = {.count = 3, .seed = 7, .unapplied_bytes_max = 10000, .value_bytes = 3000};
    struct harness *harness = harness_new(&options);
    member_id leader = harness_elect(harness), follower = harness_follower(harness);
    harness_isolate(harness, leader); /* nothing is committed from now on */
    uint64_t last = 0;
    int accepted = 0;
    for (int i = 0; i < 20; i++) {
        last = harness_put(harness, leader, 1);
        harness_flush(harness, leader);
        if (requests_done(harness, last)) break;
        accepted++;
    }
    requests_assert_done(harness, last, ERR_TOO_MANY);
    assert_in_range(accepted, 2, 6);
    harness_heal(harness);
    harness_run(harness, 500 * MS);
    assert_int_equal(harness_leader(harness), leader);

    /* A follower hears of it from the leader. */
    uint64_t numbers[8];
    for (int i = 0; i < 8; i++) numbers[i] = harness_put(harness, follower, 2);
    harness_flush(harness, follower);
    while (harness_find(harness, PEER_FORWARD, follower, leader) < harness->network_count) {
        requests_deliver_first(harness, PEER_FORWARD, follower, leader);
    }
    harness_stabilize(harness);
    int refused = 0;
    for (int i = 0; i < 8; i++) {
        assert_true(requests_done(harness, numbers[i]));
        if (harness_request(harness, numbers[i])->error == ERR_TOO_MANY)
            refused++;
        else
            requests_assert_done(harness, numbers[i], ERR_OK);
    }
    assert_in_range(refused, 2, 6);
    requests_end(harness);
}

static void test_disk_full(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness), follower = harness_follower(harness),
              other = requests_third(leader, follower);
    uint64_t before = harness_put(harness, leader, 1);
    harness_stabilize(harness);
    set_full(harness, leader, true);
    uint64_t here = harness_put(harness, leader, 1), there = harness_put(harness, follower, 1);
    uint64_t reads[3];
    for (member_id id = 1; id <= 3; id++) reads[id - 1] = harness_read(harness, id, 1);
    harness_stabilize(harness);
    requests_assert_done(harness, here, ERR_NO_SPACE);
    requests_assert_done(harness, there, ERR_NO_SPACE);
    for (int i = 0; i < 3; i++) {
        requests_assert_done(harness, reads[i], ERR_OK);
        assert_int_equal(harness_request(harness, reads[i])->value, before);
    }
    assert_true(harness->members[leader].status.disk_full);
    /* Votes go on as well. */
    transfer(harness, leader, other);
    uint64_t elsewhere = harness_put(harness, follower, 1), full = harness_put(harness, leader, 1);
    harness_stabilize(harness);
    requests_assert_done(harness, elsewhere, ERR_OK);
    requests_assert_done(harness, full, ERR_NO_SPACE);
    set_full(harness, leader, false);
    uint64_t after = harness_put(harness, leader, 1);
    harness_stabilize(harness);
    requests_assert_done(harness, after, ERR_OK);
    assert_false(applied(harness, here) || applied(harness, there) || applied(harness, full));
    requests_end(harness);
}

/* ---- what a peer may not do ---- */

static void test_forwards_that_make_no_sense(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness), follower = harness_follower(harness);
    raft_index last = harness->members[leader].status.raft.last_index;
    uint64_t incarnation = harness->members[follower].incarnation;
    for (int what = 0; what < 5; what++) {
        struct entry *entry = command_put(bytes_of_string("key-01"), bytes_of_string("1"), 0);
        member_id origin = what == 0 ? requests_third(leader, follower) : follower;
        command_format_set_identity(entry, origin, what == 1 ? incarnation + 1 : incarnation, what == 2 ? 8 : 7);
        if (what == 3) entry_payload(entry)[0] = 77;            /* a kind that nobody knows */
        if (what == 4) put_u32(entry_payload(entry) + 4, 1000); /* the key is longer than the command */
        struct peer_message message = {.type = PEER_FORWARD,
                                       .from = follower,
                                       .to = leader,
                                       .context = 7,
                                       .incarnation = incarnation,
                                       .entries = &entry,
                                       .entry_count = 1};
        harness_receive(harness, &message);
        harness_flush(harness, leader);
        assert_int_equal(harness->members[leader].status.raft.last_index, last);
        uint32_t position = harness_find(harness, PEER_FORWARD_REPLY, leader, follower);
        assert_true(position < harness->network_count && harness->network[position].rejected);
        harness_drop(harness, position);
        entry_unref(entry);
    }
    struct peer_message empty = {.type = PEER_FORWARD, .from = follower, .to = leader, .context = 1};
    harness_receive(harness, &empty);
    harness_stabilize(harness);
    assert_int_equal(harness->members[leader].status.raft.last_index, last);
    requests_end(harness);
}

static void test_strange_refusals(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness), follower = harness_follower(harness);
    uint64_t put = harness_put(harness, follower, 1), here = harness_put(harness, leader, 2);
    harness_flush_all(harness);
    struct harness_frame held = harness_take(harness, harness_find(harness, PEER_FORWARD, follower, leader));
    struct peer_message reply = {.type = PEER_FORWARD_REPLY,
                                 .from = leader,
                                 .to = follower,
                                 .context = 1,
                                 .incarnation = harness->members[follower].incarnation + 1,
                                 .rejected = true,
                                 .reason = ERR_NO_LEADER};
    harness_receive(harness, &reply); /* to an earlier life */
    reply.incarnation = harness->members[follower].incarnation;
    reply.context = 99;
    harness_receive(harness, &reply); /* of nothing */
    reply.context = 0;
    harness_receive(harness, &reply);
    reply.context = 1 + 2 * REPLICA_REQUESTS_LIMIT; /* the slot's, but another sequence */
    harness_receive(harness, &reply);
    /* The leader's own isn't forwarded; nobody can refuse it. */
    struct peer_message to_leader = {.type = PEER_FORWARD_REPLY,
                                     .from = follower,
                                     .to = leader,
                                     .context = 1,
                                     .incarnation = harness->members[leader].incarnation,
                                     .rejected = true,
                                     .reason = ERR_BAD_REQUEST};
    harness_receive(harness, &to_leader);
    harness_flush_all(harness);
    assert_false(requests_done(harness, put));
    assert_false(requests_done(harness, here));
    harness_add(harness, &held);
    harness_stabilize(harness);
    requests_assert_done(harness, put, ERR_OK);
    requests_assert_done(harness, here, ERR_OK);
    /* Without a reason that is one, it is an internal error: never a success. */
    uint64_t another = harness_put(harness, follower, 1);
    harness_flush(harness, follower);
    harness_drop_all(harness, PEER_FORWARD, follower, leader);
    reply.context = 2;
    reply.reason = 0;
    harness_receive(harness, &reply);
    harness_flush(harness, follower);
    requests_assert_done(harness, another, ERR_INTERNAL);
    requests_end(harness);
}

/* ---- the window of repeats and the slots ---- */

/* One forwarded command is stuck while as many as there are slots come and go: it is too old then, and isn't applied. */
static void test_stuck_behind_a_window_of_others(void **state)
{
    (void)state;
    struct harness_options options = {
        .count = 3, .seed = 7, .request_timeout = 1000 * TIME_NS_PER_S, .forward_timeout = 1000 * TIME_NS_PER_S};
    struct harness *harness = harness_new(&options);
    member_id leader = harness_elect(harness), follower = harness_follower(harness);
    uint64_t first = harness_put(harness, follower, 0);
    harness_flush(harness, follower);
    struct harness_frame old = harness_take(harness, harness_find(harness, PEER_FORWARD, follower, leader));
    uint64_t second = harness_put(harness, follower, 0);
    harness_flush(harness, follower);
    struct harness_frame newer = harness_take(harness, harness_find(harness, PEER_FORWARD, follower, leader));
    uint64_t last = 0;
    for (uint32_t sent = 2; sent < 2 * REPLICA_REQUESTS_LIMIT;) {
        for (int i = 0; i < 900 && sent < 2 * REPLICA_REQUESTS_LIMIT; i++, sent++) {
            last = harness_put(harness, follower, 1 + sent % 8);
        }
        harness_stabilize(harness);
        requests_assert_done(harness, last, ERR_OK);
    }
    /* The next sequences belong to the slots of the stuck ones, and are passed over. */
    last = harness_put(harness, follower, 9);
    harness_stabilize(harness);
    requests_assert_done(harness, last, ERR_OK);
    harness_add(harness, &old);
    harness_add(harness, &newer);
    harness_stabilize(harness);
    harness_run(harness, 1000 * MS);
    assert_false(applied(harness, first) || applied(harness, second));
    assert_false(requests_done(harness, first) || requests_done(harness, second));
    assert_int_equal(harness->members[follower].status.proposals_pending, 2);
    harness_run(harness, 1001 * TIME_NS_PER_S);
    requests_assert_done(harness, first, ERR_TIMEOUT);
    requests_assert_done(harness, second, ERR_TIMEOUT);
    requests_end(harness);
}

/* ---- together ---- */

/* The leader dies in the middle of many writes by all: whoever lives answers each of its own once, in time. */
static void test_leader_dies_in_the_middle(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct harness_options options = {.count = 5, .seed = seed};
        struct harness *harness = harness_new(&options);
        member_id leader = harness_elect(harness);
        struct random random;
        random_seed(&random, seed);
        for (int i = 0; i < 100; i++) {
            member_id id = 1 + random_below(&random, 5);
            harness_put(harness, id, (uint32_t)random_below(&random, 10));
            if (random_chance(&random, 300)) harness_flush_all(harness);
            if (random_chance(&random, 300) && harness->network_count > 0) {
                harness_deliver(harness, (uint32_t)random_below(&random, harness->network_count));
            }
            if (random_chance(&random, 300)) harness_complete_write(harness, id, true);
        }
        harness_crash(harness, leader, seed % 2 == 0);
        harness_run(harness, 2100 * MS);
        assert_int_equal(harness->open_writes, 0);
        assert_true(harness_leader(harness) != 0 && harness_leader(harness) != leader);
        harness_start(harness, leader);
        harness_run(harness, 2000 * MS);
        for (member_id id = 1; id <= 5; id++) {
            uint64_t put = harness_put(harness, id, 1);
            harness_stabilize(harness);
            requests_assert_done(harness, put, ERR_OK);
        }
        harness_run(harness, 500 * MS);
        requests_end(harness);
    }
}

/* A restarted member counts from 1 again; its earlier life's sequences don't stand in the way. */
static void test_restart_begins_a_new_incarnation(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    harness_elect(harness);
    member_id follower = harness_follower(harness);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 3; i++) {
            uint64_t put = harness_put(harness, follower, 1);
            harness_stabilize(harness);
            requests_assert_done(harness, put, ERR_OK);
        }
        harness_crash(harness, follower, true);
        harness_run(harness, 100 * MS);
        harness_start(harness, follower);
        harness_run(harness, 500 * MS);
    }
    assert_int_equal(harness->revision, 10);
    assert_int_equal(harness->repeats, 0);
    requests_end(harness);
}

/* A member whose disk was wiped while its clock was behind begins with an incarnation that it had long ago. Its commands count as
   repeats until it sees, in what it applies, that there was a later one; then it goes on beyond that, over restarts too. */
static void test_a_namesake_of_the_past_is_outgrown(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    for (member_id id = 1; id <= 3; id++) harness->members[id].incarnation = 5000;
    member_id leader = harness_elect(harness), follower = harness_follower(harness);
    uint64_t put = harness_put(harness, follower, 3);
    harness_run(harness, 30 * MS);
    requests_assert_done(harness, put, ERR_OK);
    harness_crash(harness, follower, true);
    harness->members[follower].incarnation = 7;
    harness_start(harness, follower);
    uint64_t lost = harness_put(harness, follower, 3);
    harness_run(harness, 3000 * MS);
    assert_true(requests_done(harness, lost) && harness_request(harness, lost)->error != ERR_OK);
    assert_true(harness->members[follower].incarnation > 5001);
    for (unsigned i = 0; i < 3; i++) {
        put = harness_put(harness, follower, 3);
        harness_run(harness, 30 * MS);
        requests_assert_done(harness, put, ERR_OK);
        harness_crash(harness, follower, true);
        harness_start(harness, follower);
        harness_run(harness, 30 * MS);
    }
    assert_int_equal(harness_leader(harness), leader);
    requests_end(harness);
}

/* Two lives that go on from the same one don't come to the same incarnation: the second would answer its clients for what the first
   had done. */
static void test_two_lives_outgrow_the_same_namesake_apart(void **state)
{
    (void)state;
    uint64_t reached[2];
    for (unsigned life = 0; life < 2; life++) {
        struct harness *harness = new_harness(3);
        for (member_id id = 1; id <= 3; id++) harness->members[id].incarnation = 5000;
        harness_elect(harness);
        member_id follower = harness_follower(harness);
        harness_put(harness, follower, 3);
        harness_run(harness, 30 * MS);
        harness_crash(harness, follower, true);
        harness->members[follower].incarnation = 7 + life;
        harness_start(harness, follower);
        harness_run(harness, 3000 * MS);
        reached[life] = harness->members[follower].incarnation;
        requests_end(harness);
    }
    assert_true(reached[0] > 5001 && reached[1] > 5001);
    assert_true(reached[0] + 1000 < reached[1] || reached[1] + 1000 < reached[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_leader_answers_when_committed_and_applied),
        cmocka_unit_test(test_leader_counts_itself_last),
        cmocka_unit_test(test_follower_answers_when_applied_here),
        cmocka_unit_test(test_follower_needs_no_heartbeat),
        cmocka_unit_test(test_results_say_what_happened),
        cmocka_unit_test(test_duplicates_in_flight),
        cmocka_unit_test(test_duplicate_after_it_was_applied),
        cmocka_unit_test(test_second_copy_is_not_refused),
        cmocka_unit_test(test_second_copy_of_what_was_refused_is_refused),
        cmocka_unit_test(test_sent_again_to_the_new_leader),
        cmocka_unit_test(test_sent_again_to_self),
        cmocka_unit_test(test_not_sent_again_over_a_new_connection),
        cmocka_unit_test(test_leader_changed),
        cmocka_unit_test(test_leader_changed_and_it_happens_later),
        cmocka_unit_test(test_refused_with_no_other_leader),
        cmocka_unit_test(test_no_leader),
        cmocka_unit_test(test_forward_times_out_and_happens_later),
        cmocka_unit_test(test_refusal_after_timeout),
        cmocka_unit_test(test_cut_off_leader),
        cmocka_unit_test(test_committed_by_the_next_leader),
        cmocka_unit_test(test_answered_by_a_deposed_leader),
        cmocka_unit_test(test_deadlines_of_both_kinds),
        cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_too_much_unapplied),
        cmocka_unit_test(test_disk_full),
        cmocka_unit_test(test_forwards_that_make_no_sense),
        cmocka_unit_test(test_strange_refusals),
        cmocka_unit_test(test_stuck_behind_a_window_of_others),
        cmocka_unit_test(test_leader_dies_in_the_middle),
        cmocka_unit_test(test_restart_begins_a_new_incarnation),
        cmocka_unit_test(test_a_namesake_of_the_past_is_outgrown),
        cmocka_unit_test(test_two_lives_outgrow_the_same_namesake_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
