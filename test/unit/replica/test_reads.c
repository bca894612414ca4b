/* Linearizable reads: gathered, covered by one barrier, readable once applied here. */
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
    struct harness_options options = {.count = count, .seed = 11};
    return harness_new(&options);
}

/* The read saw what this request wrote (0: nothing). */
static void assert_saw(const struct harness *harness, uint64_t number, uint64_t writer)
{
    requests_assert_done(harness, number, ERR_OK);
    assert_int_equal(harness_request(harness, number)->value, writer);
}

static void test_alone(void **state)
{
    (void)state;
    struct harness *harness = new_harness(1);
    harness_elect(harness);
    uint64_t before = harness_read(harness, 1, 0);
    harness_flush(harness, 1);
    assert_saw(harness, before, 0);
    uint64_t put = harness_put(harness, 1, 0), early = harness_read(harness, 1, 0);
    harness_stabilize(harness);
    requests_assert_done(harness, early,
                         ERR_OK); /* asked while the write was under way: before or after it, as it likes */
    uint64_t after = harness_read(harness, 1, 0);
    harness_stabilize(harness);
    assert_saw(harness, after, put);
    requests_end(harness);
}

/* What was acknowledged before a read began is in its answer, on every member, and without time passing. */
static void test_sees_what_was_acknowledged(void **state)
{
    (void)state;
    struct harness *harness = new_harness(5);
    harness_elect(harness);
    time_ns now = harness->now;
    for (member_id writer = 1; writer <= 5; writer++) {
        uint64_t put = harness_put(harness, writer, 4), reads[5];
        harness_stabilize(harness);
        requests_assert_done(harness, put, ERR_OK);
        for (member_id id = 1; id <= 5; id++) reads[id - 1] = harness_read(harness, id, 4);
        harness_stabilize(harness);
        for (int i = 0; i < 5; i++) assert_saw(harness, reads[i], put);
        uint64_t erase = harness_delete(harness, writer, 4);
        harness_stabilize(harness);
        requests_assert_done(harness, erase, ERR_OK);
        for (member_id id = 1; id <= 5; id++) reads[id - 1] = harness_read(harness, id, 4);
        harness_stabilize(harness);
        for (int i = 0; i < 5; i++) assert_saw(harness, reads[i], 0);
    }
    assert_int_equal(harness->now, now);
    requests_end(harness);
}

/* A follower that hasn't applied far enough waits with the answer. */
static void test_follower_waits_until_applied(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness), follower = harness_follower(harness);
    uint64_t put = harness_put(harness, leader, 4);
    harness_flush(harness, leader);
    uint32_t append = harness_find(harness, PEER_APPEND, leader, follower);
    struct harness_frame held = harness_take(harness, append);
    harness_stabilize(harness);
    requests_assert_done(harness, put, ERR_OK);
    uint64_t read = harness_read(harness, follower, 4);
    harness_stabilize(harness);
    assert_false(requests_done(harness, read));
    harness_add(harness, &held);
    harness_run(harness, 2 * HARNESS_HEARTBEAT);
    assert_saw(harness, read, put);
    requests_end(harness);
}

static void test_leader_waits_for_a_quorum(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness), follower = harness_follower(harness);
    uint64_t read = harness_read(harness, leader, 4);
    harness_flush(harness, leader);
    assert_false(requests_done(harness, read));
    assert_int_equal(harness_drop_all(harness, PEER_APPEND, leader, requests_third(leader, follower)), 1);
    requests_deliver_first(harness, PEER_APPEND, leader, follower);
    harness_flush(harness, follower);
    assert_false(requests_done(harness, read));
    requests_deliver_first(harness, PEER_APPEND_REPLY, follower, leader);
    harness_flush(harness, leader);
    assert_saw(harness, read, 0);
    requests_end(harness);
}

static void test_one_barrier_for_many(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness), follower = harness_follower(harness);
    for (int side = 0; side < 2; side++) {
        member_id id = side == 0 ? leader : follower;
        struct replica_status before, after;
        replica_status(harness->members[id].replica, &before);
        uint64_t first = 0, last = 0;
        for (int i = 0; i < 500; i++) {
            last = harness_read(harness, id, 1);
            if (first == 0) first = last;
        }
        harness_stabilize(harness);
        for (uint64_t number = first; number <= last; number++) assert_saw(harness, number, 0);
        replica_status(harness->members[id].replica, &after);
        assert_int_equal(after.reads - before.reads, 500);
        assert_int_equal(after.read_rounds - before.read_rounds, 1);
    }
    requests_end(harness);
}

/* A barrier is never used for a read that came after it began. */
static void test_later_reads_get_a_barrier_of_their_own(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness), follower = harness_follower(harness),
              other = requests_third(leader, follower);
    struct replica_status before, after;
    replica_status(harness->members[follower].replica, &before);
    uint64_t first = harness_read(harness, follower, 1);
    harness_flush(harness, follower);
    requests_deliver_first(harness, PEER_READ, follower, leader);
    harness_flush(harness, leader);
    /* A write is acknowledged while the first barrier is under way: the second read has to see it, the first needn't. */
    uint64_t put = harness_put(harness, leader, 1);
    harness_flush(harness, leader);
    harness_complete_write(harness, leader, true);
    while (harness_find(harness, PEER_APPEND, leader, other) < harness->network_count) {
        requests_deliver_first(harness, PEER_APPEND, leader, other);
    }
    harness_flush(harness, other);
    harness_complete_write(harness, other, true);
    harness_flush(harness, other);
    /* The barrier's round is confirmed by this as well. */
    while (harness_find(harness, PEER_APPEND_REPLY, other, leader) < harness->network_count) {
        requests_deliver_first(harness, PEER_APPEND_REPLY, other, leader);
    }
    harness_flush(harness, leader);
    requests_assert_done(harness, put, ERR_OK);
    uint64_t second = harness_read(harness, follower, 1);
    harness_flush(harness, follower);
    assert_int_equal(harness_find(harness, PEER_READ, follower, leader), harness->network_count);
    requests_deliver_first(harness, PEER_READ_REPLY, leader, follower);
    harness_flush(harness, follower);
    assert_saw(harness, first, 0);
    assert_false(requests_done(harness, second));
    harness_stabilize(harness);
    assert_saw(harness, second, put);
    replica_status(harness->members[follower].replica, &after);
    assert_int_equal(after.read_rounds - before.read_rounds, 2);
    requests_end(harness);
}

/* ---- leaders that come and go ---- */

static void test_no_leader(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    harness_start(harness, 1);
    uint64_t read = harness_read(harness, 1, 0);
    harness_flush(harness, 1);
    requests_assert_done(harness, read, ERR_NO_LEADER);
    requests_end(harness);
}

/* It is alone and doesn't know: the others go on, and it answers nothing from its past. */
static void test_deposed_leader_answers_nothing(void **state)
{
    (void)state;
    for (int early = 0; early < 2; early++) {
        struct harness *harness = new_harness(3);
        member_id old = harness_elect(harness);
        uint64_t first = harness_put(harness, old, 1), before = 0;
        harness_stabilize(harness);
        requests_assert_done(harness, first, ERR_OK);
        if (early) before = harness_read(harness, old, 1);
        if (early) harness_flush(harness, old); /* its barrier is under way and is lost */
        harness_isolate(harness, old);
        /* Make sure of another leader before the old one gives up by itself. */
        member_id heir = old % 3 + 1;
        for (int i = 0; harness_leader(harness) == old && i < 50; i++) {
            struct replica_event lost = {.type = REPLICA_PEER_LOST, .peer = old, .crashed = true};
            harness_step(harness, heir, &lost);
            harness_step(harness, requests_third(old, heir), &lost);
            harness_run(harness, 15 * MS);
        }
        member_id leader = harness_leader(harness);
        assert_int_not_equal(leader, old);
        assert_int_equal(harness->members[old].status.raft.role, RAFT_LEADER);
        uint64_t second = harness_put(harness, leader, 1);
        harness_stabilize(harness);
        requests_assert_done(harness, second, ERR_OK);
        uint64_t stale = harness_read(harness, old, 1), fresh = harness_read(harness, leader, 1);
        harness_stabilize(harness);
        assert_saw(harness, fresh, second);
        assert_false(requests_done(harness, stale));
        harness_heal(harness);
        harness_run(harness, 1000 * MS);
        /* Once it follows, it asks the new leader. */
        assert_saw(harness, stale, second);
        if (early) assert_saw(harness, before, second);
        requests_end(harness);
    }
}

static void test_deposed_leader_for_good(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id old = harness_elect(harness);
    harness_isolate(harness, old);
    uint64_t read = harness_read(harness, old, 1);
    harness_run(harness, 5000 * MS);
    assert_true(requests_done(harness, read));
    enum error error = harness_request(harness, read)->error;
    assert_true(error == ERR_NO_LEADER || error == ERR_TIMEOUT);
    uint64_t later = harness_read(harness, old, 1);
    harness_flush(harness, old);
    requests_assert_done(harness, later, ERR_NO_LEADER);
    harness_heal(harness);
    harness_run(harness, 3000 * MS);
    requests_end(harness);
}

/* The connection to the leader breaks: the barrier is asked for again over the next one. */
static void test_failed_barrier_is_asked_again(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness), follower = harness_follower(harness);
    uint64_t read = harness_read(harness, follower, 1);
    harness_flush(harness, follower);
    harness_disconnect(harness, follower, leader);
    harness_flush_all(harness);
    assert_false(requests_done(harness, read));
    harness_run(harness, 50 * MS);
    assert_false(requests_done(harness, read));
    uint64_t put = harness_put(harness, leader, 1);
    harness_stabilize(harness);
    requests_assert_done(harness, put, ERR_OK);
    harness_connect(harness, follower, leader);
    harness_run(harness, 2 * HARNESS_HEARTBEAT);
    assert_saw(harness, read, put);
    requests_end(harness);
}

static void test_leader_changes_under_a_barrier(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness), follower = harness_follower(harness);
    uint64_t at_follower = harness_read(harness, follower, 1), at_leader = harness_read(harness, leader, 1);
    harness_flush_all(harness);
    harness_drop_all(harness, PEER_READ, follower, leader);
    harness_drop_all(harness, PEER_APPEND, leader, 0);
    struct replica_event event = {.type = REPLICA_TRANSFER, .peer = requests_third(leader, follower)};
    harness_step(harness, leader, &event);
    harness_run(harness, 100 * MS);
    assert_int_equal(harness_leader(harness), requests_third(leader, follower));
    /* Their barriers failed; what was asked again at a moment without a leader says so, and may be repeated. */
    uint64_t numbers[] = {at_follower, at_leader};
    for (int i = 0; i < 2; i++) {
        assert_true(requests_done(harness, numbers[i]));
        enum error error = harness_request(harness, numbers[i])->error;
        assert_true(error == ERR_OK || error == ERR_NO_LEADER);
    }
    requests_end(harness);
}

/* The leader is elected and hasn't committed anything of its own: it knows no commit index yet. */
static void test_new_leader_waits_for_its_first_entry(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness), follower = harness_follower(harness);
    uint64_t put = harness_put(harness, leader, 1);
    harness_stabilize(harness);
    requests_assert_done(harness, put, ERR_OK);
    struct replica_event event = {.type = REPLICA_TRANSFER, .peer = follower};
    harness_step(harness, leader, &event);
    harness_flush(harness, leader);
    for (int i = 0; i < 200 && harness_leader(harness) != follower; i++) {
        /* All but appends. */
        for (uint32_t j = 0; j < harness->network_count; j++) {
            if (harness->network[j].type == PEER_APPEND) continue;
            harness_deliver(harness, j);
            break;
        }
        for (member_id id = 1; id <= 3; id++) harness_complete_save(harness, id, true);
        harness_flush_all(harness);
    }
    assert_int_equal(harness_leader(harness), follower);
    uint64_t read = harness_read(harness, follower, 1);
    harness_flush(harness, follower);
    assert_false(requests_done(harness, read));
    assert_false(harness->members[follower].status.raft.may_serve);
    harness_stabilize(harness);
    assert_saw(harness, read, put);
    requests_end(harness);
}

/* ---- expiry and limits ---- */

static void test_expiry(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness), follower = harness_follower(harness);
    uint64_t first = harness_read(harness, follower, 1);
    harness_flush(harness, follower);
    assert_int_equal(harness_drop_all(harness, PEER_READ, follower, leader), 1);
    harness_run(harness, 500 * MS);
    uint64_t second = harness_read(harness, follower, 1); /* gathered, behind the barrier that was lost */
    harness_run(harness, 1490 * MS);
    assert_false(requests_done(harness, first));
    harness_run(harness, 20 * MS);
    requests_assert_done(harness, first, ERR_TIMEOUT);
    assert_true(harness_request(harness, first)->answered <= harness_request(harness, first)->asked + 2000 * MS);
    /* A barrier that nobody waits for any more holds up no later read. */
    harness_run(harness, 200 * MS);
    assert_saw(harness, second, 0);
    uint64_t third_read = harness_read(harness, follower, 1);
    harness_stabilize(harness);
    assert_saw(harness, third_read, 0);
    requests_end(harness);
}

/* The answer to a barrier that was given up comes late: it must not count for the reads of the next. */
static void test_late_answer(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness), follower = harness_follower(harness);
    uint64_t first = harness_read(harness, follower, 1);
    harness_flush(harness, follower);
    requests_deliver_first(harness, PEER_READ, follower, leader);
    harness_flush(harness, leader);
    for (int i = 0; harness_find(harness, PEER_READ_REPLY, leader, follower) == harness->network_count && i < 9; i++) {
        requests_deliver_first(harness, PEER_APPEND, leader, 0);
        harness_flush_all(harness);
        while (harness_find(harness, PEER_APPEND_REPLY, 0, leader) < harness->network_count) {
            requests_deliver_first(harness, PEER_APPEND_REPLY, 0, leader);
        }
        harness_flush(harness, leader);
    }
    struct harness_frame held = harness_take(harness, harness_find(harness, PEER_READ_REPLY, leader, follower));
    harness_run(harness, 2100 * MS);
    requests_assert_done(harness, first, ERR_TIMEOUT);
    uint64_t put = harness_put(harness, leader, 1);
    harness_flush(harness, leader);
    /* The follower itself doesn't hear of it. */
    struct harness_frame append = harness_take(harness, harness_find(harness, PEER_APPEND, leader, follower));
    harness_stabilize(harness);
    requests_assert_done(harness, put, ERR_OK);
    uint64_t second = harness_read(harness, follower, 1);
    harness_flush(harness, follower);
    harness_add(harness, &held);
    requests_deliver_first(harness, PEER_READ_REPLY, leader, follower);
    harness_flush(harness, follower);
    assert_false(requests_done(harness, second));
    harness_add(harness, &append);
    harness_run(harness, 2 * HARNESS_HEARTBEAT);
    assert_saw(harness, second, put);
    requests_end(harness);
}

/* A read that waits for its index to be applied expires as well. */
static void test_expiry_while_waiting_for_apply(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness), follower = harness_follower(harness);
    uint64_t put = harness_put(harness, leader, 1);
    harness_flush(harness, leader);
    struct harness_frame held = harness_take(harness, harness_find(harness, PEER_APPEND, leader, follower));
    harness_stabilize(harness);
    requests_assert_done(harness, put, ERR_OK);
    uint64_t read = harness_read(harness, follower, 1);
    harness_stabilize(harness);
    harness_run(harness, 1900 * MS);
    /* The leader sends again what stays unacknowledged for two election timeouts. */
    if (!requests_done(harness, read)) harness_run(harness, 200 * MS);
    requests_assert_done(harness, read, ERR_TIMEOUT);
    harness_add(harness, &held);
    harness_run(harness, 3000 * MS);
    requests_end(harness);
}

static void test_too_many(void **state)
{
    (void)state;
    struct harness_options options = {.count = 3, .seed = 11, .requests_max = 4};
    struct harness *harness = harness_new(&options);
    harness_elect(harness);
    for (member_id id = 1; id <= 3; id++) {
        uint64_t numbers[6];
        for (int i = 0; i < 2; i++) numbers[i] = harness_read(harness, id, 1);
        harness_flush(harness, id); /* two in a barrier, and the rest gathers */
        for (int i = 2; i < 6; i++) numbers[i] = harness_read(harness, id, 1);
        harness_flush(harness, id);
        for (int i = 0; i < 4; i++) assert_false(requests_done(harness, numbers[i]));
        for (int i = 4; i < 6; i++) requests_assert_done(harness, numbers[i], ERR_TOO_MANY);
        harness_stabilize(harness);
        for (int i = 0; i < 4; i++) assert_saw(harness, numbers[i], 0);
        uint64_t after = harness_read(harness, id, 1);
        harness_stabilize(harness);
        assert_saw(harness, after, 0);
    }
    requests_end(harness);
}

/* Writes and reads from everywhere, delivered in a random order within each link: the harness checks each answer. */
static void test_random_interleaving(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct harness_options options = {.count = 3, .seed = seed};
        struct harness *harness = harness_new(&options);
        harness_elect(harness);
        struct random random;
        random_seed(&random, seed);
        for (int i = 0; i < 1500; i++) {
            member_id id = 1 + random_below(&random, 3);
            uint32_t key = (uint32_t)random_below(&random, 3);
            switch (random_below(&random, 8)) {
            case 0:
                harness_put(harness, id, key);
                break;
            case 1:
                harness_read(harness, id, key);
                break;
            case 2:
                harness_complete_write(harness, id, true);
                break;
            case 3:
                harness_flush(harness, id);
                break;
            case 4:
                harness_complete_save(harness, id, true);
                break;
            default:
                if (harness->network_count == 0) break;
                struct harness_frame *frame = &harness->network[random_below(&random, harness->network_count)];
                member_id from = frame->from, to = frame->to;
                for (uint32_t j = 0; j < harness->network_count; j++) {
                    if (harness->network[j].from != from || harness->network[j].to != to) continue;
                    harness_deliver(harness, j);
                    break;
                }
            }
        }
        harness_stabilize(harness);
        assert_int_equal(harness->open_reads + harness->open_writes, 0);
        for (uint64_t number = 1; number <= harness->request_count; number++)
            requests_assert_done(harness, number, ERR_OK);
        requests_end(harness);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_sees_what_was_acknowledged),
        cmocka_unit_test(test_follower_waits_until_applied),
        cmocka_unit_test(test_leader_waits_for_a_quorum),
        cmocka_unit_test(test_one_barrier_for_many),
        cmocka_unit_test(test_later_reads_get_a_barrier_of_their_own),
        cmocka_unit_test(test_no_leader),
        cmocka_unit_test(test_deposed_leader_answers_nothing),
        cmocka_unit_test(test_deposed_leader_for_good),
        cmocka_unit_test(test_failed_barrier_is_asked_again),
        cmocka_unit_test(test_leader_changes_under_a_barrier),
        cmocka_unit_test(test_new_leader_waits_for_its_first_entry),
        cmocka_unit_test(test_expiry),
        cmocka_unit_test(test_late_answer),
        cmocka_unit_test(test_expiry_while_waiting_for_apply),
        cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_random_interleaving),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
