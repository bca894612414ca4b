/* Members compare what they applied: who differs from a majority stops serving, and says so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "harness.h"
#include "replica/replica_internal.h"

#define A_WHILE (10 * HARNESS_HEARTBEAT)
#define PATIENCE (2 * HARNESS_ELECTION_TIMEOUT)

/* A cluster with a leader and something applied everywhere. */
static struct harness *new_harness(uint32_t count, member_id *leader)
{
    struct harness_options options = {.count = count, .seed = 5};
    struct harness *harness = harness_new(&options);
    *leader = harness_elect(harness);
    for (uint32_t key = 0; key < 5; key++) harness_put(harness, *leader, key);
    harness_stabilize(harness);
    harness_run(harness, 3 * HARNESS_HEARTBEAT);
    return harness;
}

static void end(struct harness *harness)
{
    assert_string_equal(harness->violation, "");
    harness_free(harness);
}

/* A bit of its state flips: from now on its hash is another. Members with equal `how` stay equal to one another. */
static void tamper(struct harness *harness, member_id id, uint64_t how)
{
    harness->members[id].replica->apply_hash ^= how;
    harness->members[id].tampered = true;
}

/* A change, so that hashes are taken anew. */
static void put(struct harness *harness, member_id id)
{
    harness_put(harness, id, 1);
    harness_stabilize(harness);
}

static bool diverged(const struct harness *harness, member_id id)
{
    struct replica_status status;
    replica_status(harness->members[id].replica, &status);
    return status.diverged;
}

static bool leads(const struct harness *harness, member_id id)
{
    struct replica_status status;
    if (harness->members[id].replica == NULL) return false;
    replica_status(harness->members[id].replica, &status);
    return status.raft.role == RAFT_LEADER;
}

static uint32_t count_diverged(const struct harness *harness)
{
    uint32_t count = 0;
    for (member_id id = 1; id <= harness->options.count; id++) count += diverged(harness, id);
    return count;
}

static void assert_result(const struct harness *harness, uint64_t number, enum error error)
{
    const struct harness_request *request = harness_request(harness, number);
    assert_true(request->done);
    assert_string_equal(error_code(request->error), error_code(error));
}

/* The n-th member after this one, round and round. */
static member_id after(const struct harness *harness, member_id id, uint32_t n)
{
    return (id - 1 + n) % harness->options.count + 1;
}

static void test_equal_members_go_on(void **state)
{
    (void)state;
    for (uint32_t count = 1; count <= 5; count += 2) {
        member_id leader;
        struct harness *harness = new_harness(count, &leader);
        for (int i = 0; i < 50; i++) {
            harness_put(harness, after(harness, leader, (uint32_t)i), (uint32_t)i % HARNESS_KEYS);
            harness_run(harness, HARNESS_HEARTBEAT / 3);
        }
        harness_run(harness, A_WHILE + PATIENCE);
        assert_int_equal(count_diverged(harness), 0);
        harness_check_end(harness);
        end(harness);
    }
}

static void test_a_follower_that_differs_stops_serving(void **state)
{
    (void)state;
    member_id leader;
    struct harness *harness = new_harness(3, &leader);
    member_id odd = after(harness, leader, 1), other = after(harness, leader, 2);
    tamper(harness, odd, 1);
    put(harness, leader);
    harness_run(harness, A_WHILE);
    assert_true(diverged(harness, odd));
    assert_false(diverged(harness, leader));
    assert_false(diverged(harness, other));
    uint64_t write = harness_put(harness, odd, 3), read = harness_read(harness, odd, 3);
    uint64_t good_write = harness_put(harness, other, 3);
    harness_stabilize(harness);
    uint64_t good_read = harness_read(harness, leader, 3);
    harness_stabilize(harness);
    assert_result(harness, write, ERR_CORRUPT);
    assert_result(harness, read, ERR_CORRUPT);
    assert_result(harness, good_write, ERR_OK);
    assert_result(harness, good_read, ERR_OK);
    end(harness);
}

/* What waits on the member that stops is answered then, and not when its time is up. */
static void test_requests_under_way_end_at_once(void **state)
{
    (void)state;
    member_id leader;
    struct harness *harness = new_harness(3, &leader);
    member_id odd = after(harness, leader, 1);
    /* Asked, sent, and lost on the way: only their deadlines would end them. */
    uint64_t write = harness_put(harness, odd, 3), read = harness_read(harness, odd, 3);
    harness_flush(harness, odd);
    harness_drop_all(harness, PEER_FORWARD, odd, 0);
    harness_drop_all(harness, PEER_READ, odd, 0);
    assert_false(harness_request(harness, write)->done || harness_request(harness, read)->done);
    time_ns asked = harness->now;
    tamper(harness, odd, 1);
    put(harness, leader);
    while (!diverged(harness, odd)) harness_run(harness, HARNESS_HEARTBEAT / 2);
    assert_true(harness->now < asked + HARNESS_ELECTION_TIMEOUT);
    assert_result(harness, write, ERR_CORRUPT);
    assert_result(harness, read, ERR_CORRUPT);
    end(harness);
}

/* A leader that differs stops; one of the others takes over, and the old one never leads again. */
static void test_a_leader_that_differs_steps_down(void **state)
{
    (void)state;
    for (uint32_t count = 3; count <= 5; count += 2) {
        member_id leader;
        struct harness *harness = new_harness(count, &leader);
        tamper(harness, leader, 1);
        put(harness, leader);
        harness_run(harness, A_WHILE + 3 * HARNESS_ELECTION_TIMEOUT);
        assert_true(diverged(harness, leader));
        assert_int_equal(count_diverged(harness), 1);
        member_id next = harness_leader(harness);
        assert_true(next != 0 && next != leader);
        uint64_t write = harness_put(harness, next, 4);
        harness_stabilize(harness);
        assert_result(harness, write, ERR_OK);
        /* Not even when it is asked to, and not when the next one dies. */
        struct replica_event transfer = {.type = REPLICA_TRANSFER, .peer = leader};
        harness_step(harness, next, &transfer);
        harness_flush(harness, next);
        harness_stabilize(harness);
        harness_run(harness, 3 * HARNESS_ELECTION_TIMEOUT);
        assert_false(leads(harness, leader));
        harness_crash(harness, next, true);
        harness_run(harness, 5 * HARNESS_ELECTION_TIMEOUT);
        assert_false(leads(harness, leader));
        end(harness);
    }
}

/* Two of five differ, each in its own way: both are told. */
static void test_a_minority_of_two(void **state)
{
    (void)state;
    member_id leader;
    struct harness *harness = new_harness(5, &leader);
    member_id one = after(harness, leader, 1), two = after(harness, leader, 3);
    tamper(harness, one, 1);
    put(harness, leader);
    tamper(harness, two, 2);
    put(harness, leader);
    harness_run(harness, A_WHILE);
    assert_true(diverged(harness, one) && diverged(harness, two));
    assert_int_equal(count_diverged(harness), 2);
    end(harness);
}

/* That a member agreed before it began to differ doesn't make it the leader's witness. */
static void test_an_old_agreement_is_no_witness(void **state)
{
    (void)state;
    member_id leader;
    struct harness *harness = new_harness(3, &leader);
    member_id one = after(harness, leader, 1), two = after(harness, leader, 2);
    /* The leader itself goes wrong: at the next index both others differ from it. First only one of them reports. */
    tamper(harness, leader, 1);
    harness->members[leader].cuts[two] = true;
    harness->members[two].cuts[leader] = true;
    put(harness, leader);
    harness_run(harness, 4 * HARNESS_HEARTBEAT);
    assert_false(diverged(harness, one));
    harness->members[leader].cuts[two] = false;
    harness->members[two].cuts[leader] = false;
    put(harness, leader);
    harness_run(harness, A_WHILE + 3 * HARNESS_ELECTION_TIMEOUT);
    assert_true(diverged(harness, leader));
    assert_false(diverged(harness, one) || diverged(harness, two));
    end(harness);
}

/* Three members, three states: nobody can say who is right, so nobody serves. */
static void test_without_a_majority_all_stop(void **state)
{
    (void)state;
    member_id leader;
    struct harness *harness = new_harness(3, &leader);
    tamper(harness, after(harness, leader, 1), 1);
    tamper(harness, after(harness, leader, 2), 2);
    put(harness, leader);
    harness_run(harness, A_WHILE);
    assert_int_equal(count_diverged(harness), 0);
    harness_run(harness, PATIENCE + A_WHILE);
    assert_int_equal(count_diverged(harness), 3);
    for (member_id id = 1; id <= 3; id++) {
        uint64_t read = harness_read(harness, id, 1);
        harness_stabilize(harness);
        assert_result(harness, read, ERR_CORRUPT);
    }
    harness_run(harness, 5 * HARNESS_ELECTION_TIMEOUT);
    assert_int_equal(harness_leader(harness), 0);
    end(harness);
}

/* One is down and two differ: there is no majority either. */
static void test_two_that_differ_while_one_is_down(void **state)
{
    (void)state;
    member_id leader;
    struct harness *harness = new_harness(3, &leader);
    member_id one = after(harness, leader, 1), two = after(harness, leader, 2);
    harness_crash(harness, two, true);
    tamper(harness, one, 1);
    put(harness, leader);
    harness_run(harness, PATIENCE + A_WHILE);
    assert_true(diverged(harness, leader) && diverged(harness, one));
    end(harness);
}

/* The third comes back in time: its word decides. */
static void test_a_third_decides_in_time(void **state)
{
    (void)state;
    member_id leader;
    struct harness *harness = new_harness(3, &leader);
    member_id one = after(harness, leader, 1), two = after(harness, leader, 2);
    harness_crash(harness, two, true);
    tamper(harness, one, 1);
    put(harness, leader);
    harness_run(harness, HARNESS_ELECTION_TIMEOUT / 2);
    harness_start(harness, two);
    harness_connect(harness, leader, two);
    harness_connect(harness, one, two);
    put(harness, leader);
    harness_run(harness, A_WHILE);
    assert_true(diverged(harness, one));
    assert_int_equal(count_diverged(harness), 1);
    harness_run(harness, 2 * PATIENCE);
    assert_int_equal(count_diverged(harness), 1);
    end(harness);
}

/* A member that was told and starts again from good data serves again; one whose data are wrong is told again. */
static void test_after_a_restart_it_is_judged_anew(void **state)
{
    (void)state;
    for (int wrong = 0; wrong <= 1; wrong++) {
        member_id leader;
        struct harness *harness = new_harness(3, &leader);
        member_id odd = after(harness, leader, 1);
        tamper(harness, odd, 1);
        put(harness, leader);
        harness_run(harness, A_WHILE);
        assert_true(diverged(harness, odd));
        harness_crash(harness, odd, true);
        harness_start(harness, odd);
        if (wrong == 1) tamper(harness, odd, 1);
        for (member_id id = 1; id <= 3; id++) {
            if (id != odd) harness_connect(harness, odd, id);
        }
        put(harness, leader);
        harness_run(harness, A_WHILE);
        assert_int_equal(diverged(harness, odd), wrong);
        assert_int_equal(count_diverged(harness), wrong);
        end(harness);
    }
}

/* Only the leader's word counts. */
static void test_a_follower_cant_stop_another(void **state)
{
    (void)state;
    member_id leader;
    struct harness *harness = new_harness(3, &leader);
    member_id one = after(harness, leader, 1), two = after(harness, leader, 2);
    struct peer_message lie = {.type = PEER_DIVERGED, .from = one, .to = two, .index = 1};
    harness_receive(harness, &lie);
    lie.to = leader;
    harness_receive(harness, &lie);
    assert_int_equal(count_diverged(harness), 0);
    end(harness);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal_members_go_on),
        cmocka_unit_test(test_a_follower_that_differs_stops_serving),
        cmocka_unit_test(test_requests_under_way_end_at_once),
        cmocka_unit_test(test_a_leader_that_differs_steps_down),
        cmocka_unit_test(test_a_minority_of_two),
        cmocka_unit_test(test_an_old_agreement_is_no_witness),
        cmocka_unit_test(test_without_a_majority_all_stop),
        cmocka_unit_test(test_two_that_differ_while_one_is_down),
        cmocka_unit_test(test_a_third_decides_in_time),
        cmocka_unit_test(test_after_a_restart_it_is_judged_anew),
        cmocka_unit_test(test_a_follower_cant_stop_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
