/* Commands that answer more than numbers, and their way through three members: what the client gets, and that all agree. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../txn_maker.h"
#include "base/mem.h"
#include "requests.h"
#include "store/store_digest.h"

#define MS TIME_NS_PER_MS
#define TEXT(text) bytes_of_string(text)
#define ZERO bytes_of("\0", 1)

static struct harness *new_harness(uint64_t seed)
{
    struct harness_options options = {.count = 3, .seed = seed, .any_commands = true};
    return harness_new(&options);
}

static const struct store *store_of(const struct harness *harness, member_id id)
{
    return replica_store(harness->members[id].replica);
}

/* All of the live state, leases included; without history. */
static uint64_t digest_of(const struct store *store)
{
    struct buffer next_key = {.data = NULL};
    uint64_t digest = store_digest(store, &next_key, UINT32_MAX, UINT64_MAX);
    buffer_free(&next_key);
    for (size_t slot = 0; slot < store_lease_slots(store); slot++) {
        const struct lease *lease = store_lease_at(store, slot);
        if (lease == NULL) continue;
        uint64_t one = random_mix(lease->id) ^ (uint64_t)lease->ttl_s << 20 ^ (uint64_t)lease->remaining_s;
        digest += random_mix(one); /* the order of slots means nothing */
    }
    return digest;
}

/* All are up, have applied the same, and hold the same. */
static void end(struct harness *harness)
{
    harness_run(harness, 3 * HARNESS_HEARTBEAT);
    for (member_id id = 2; id <= 3; id++) {
        assert_int_equal(store_current_revision(store_of(harness, id)), store_current_revision(store_of(harness, 1)));
        assert_true(digest_of(store_of(harness, id)) == digest_of(store_of(harness, 1)));
    }
    requests_end(harness);
}

/* Of a member's client, answered. */
static const struct harness_request *command(struct harness *harness, member_id id, struct entry *entry,
                                             enum error error)
{
    uint64_t number = harness_command(harness, id, entry);
    harness_stabilize(harness);
    requests_assert_done(harness, number, error);
    const struct harness_request *request = harness_request(harness, number);
    if (error != ERR_OK) assert_null(request->outcome);
    return request;
}

static const struct harness_request *put(struct harness *harness, member_id id, struct put_query query)
{
    return command(harness, id, command_put_query(&query), ERR_OK);
}

static void assert_record(const struct store_record *record, const char *key, const char *value)
{
    assert_true(bytes_equal(store_record_key(record), TEXT(key)));
    assert_true(bytes_equal(store_record_value(record), TEXT(value)));
}

/* ---- puts and deletes ---- */

static void test_put_with_previous(void **state)
{
    (void)state;
    struct harness *harness = new_harness(1);
    member_id leader = harness_elect(harness), follower = harness_follower(harness);
    for (int i = 0; i < 2; i++) {
        member_id id = i == 0 ? leader : follower;
        const char *key = i == 0 ? "a" : "b";
        const struct harness_request *request =
            put(harness, id, (struct put_query){.key = TEXT(key), .value = TEXT("old"), .want_previous = true});
        assert_int_equal(request->outcome->answer.kind, TXN_PUT);
        assert_int_equal(request->outcome->answer.record_count, 0);
        assert_int_equal(request->count, 0);
        request = put(harness, id, (struct put_query){.key = TEXT(key), .value = TEXT("new"), .want_previous = true});
        assert_int_equal(request->outcome->answer.record_count, 1);
        assert_record(request->outcome->answer.records[0], key, "old");
        assert_int_equal(request->outcome->answer.revision, request->revision);
        assert_int_equal(request->count, 1);
        /* Nobody asked for it. */
        request = put(harness, id, (struct put_query){.key = TEXT(key), .value = TEXT("newer")});
        assert_null(request->outcome);
        assert_int_equal(request->count, 1);
    }
    end(harness);
}

/* `count` says whether the key was there, whatever else was asked for. */
static void test_put_that_keeps(void **state)
{
    (void)state;
    struct harness *harness = new_harness(2);
    member_id leader = harness_elect(harness), follower = harness_follower(harness);
    command(harness, leader, command_lease_grant(5, 600), ERR_OK);
    const struct harness_request *request =
        put(harness, follower, (struct put_query){.key = TEXT("a"), .value = TEXT("one"), .lease = 5});
    assert_int_equal(request->count, 0);
    request = put(harness, follower, (struct put_query){.key = TEXT("a"), .value = TEXT("two"), .keep_lease = true});
    assert_int_equal(request->count, 1);
    assert_null(request->outcome);
    const struct store_record *record;
    for (member_id id = 1; id <= 3; id++) {
        harness_run(harness, HARNESS_HEARTBEAT);
        assert_int_equal(store_get(store_of(harness, id), TEXT("a"), 0, &record), ERR_OK);
        assert_int_equal(record->lease, 5);
        assert_record(record, "a", "two");
    }
    request = put(harness, leader, (struct put_query){.key = TEXT("a"), .keep_value = true});
    assert_int_equal(request->count, 1);
    assert_int_equal(store_get(store_of(harness, leader), TEXT("a"), 0, &record), ERR_OK);
    assert_int_equal(record->lease, 0);
    assert_record(record, "a", "two");

    store_revision before = record->mod_revision;
    struct put_query refused = {.key = TEXT("none"), .keep_value = true, .want_previous = true};
    request = command(harness, follower, command_put_query(&refused), ERR_KEY_MISSING);
    assert_int_equal(request->count, 0);
    refused = (struct put_query){.key = TEXT("a"), .lease = 6, .want_previous = true};
    request = command(harness, follower, command_put_query(&refused), ERR_LEASE_NOT_FOUND);
    assert_int_equal(request->count, 0);
    assert_int_equal(store_current_revision(store_of(harness, leader)), before);
    end(harness);
}

static void test_delete_of_a_range(void **state)
{
    (void)state;
    struct harness *harness = new_harness(3);
    member_id leader = harness_elect(harness), follower = harness_follower(harness);
    static const char *const keys[] = {"d", "b", "a", "c"};
    for (size_t i = 0; i < ARRAY_COUNT(keys); i++) {
        put(harness, leader, (struct put_query){.key = TEXT(keys[i]), .value = TEXT(keys[i])});
    }
    struct delete_query query = {.key = TEXT("b"), .range_end = TEXT("d"), .want_previous = true};
    const struct harness_request *request = command(harness, follower, command_delete_query(&query), ERR_OK);
    assert_int_equal(request->count, 2);
    assert_int_equal(request->outcome->answer.count, 2);
    assert_int_equal(request->outcome->answer.record_count, 2);
    assert_record(request->outcome->answer.records[0], "b", "b");
    assert_record(request->outcome->answer.records[1], "c", "c");
    assert_int_equal(request->outcome->answer.revision, 6);
    request = command(harness, follower, command_delete_query(&query), ERR_OK);
    assert_int_equal(request->count, 0);
    assert_int_equal(request->outcome->answer.record_count, 0);
    assert_int_equal(request->revision, 6);
    query = (struct delete_query){.key = ZERO, .range_end = ZERO};
    request = command(harness, leader, command_delete_query(&query), ERR_OK);
    assert_int_equal(request->count, 2);
    assert_null(request->outcome);
    end(harness);
}

/* ---- transactions ---- */

static struct entry *update(const char *key, store_revision mod_revision, const char *value)
{
    struct txn_compare compare = {.target = COMPARE_MOD, .key = TEXT(key), .number = mod_revision};
    struct txn_op success[] = {
        {.kind = TXN_PUT, .put = {.key = TEXT(key), .value = TEXT(value), .want_previous = true}},
        {.kind = TXN_NESTED},
        {.kind = TXN_DELETE, .delete = {.key = TEXT("marker"), .want_previous = true}},
    };
    struct txn_op failure = {.kind = TXN_RANGE, .range = {.key = TEXT(key)}};
    struct txn txn = {.compares = &compare,
                      .success = success,
                      .failure = &failure,
                      .compare_count = 1,
                      .success_count = 3,
                      .failure_count = 1};
    return command_txn(&txn);
}

static void test_transaction(void **state)
{
    (void)state;
    struct harness *harness = new_harness(4);
    member_id leader = harness_elect(harness), follower = harness_follower(harness);
    put(harness, leader, (struct put_query){.key = TEXT("a"), .value = TEXT("one")});
    put(harness, leader, (struct put_query){.key = TEXT("marker"), .value = TEXT("m")});
    const struct harness_request *request = command(harness, follower, update("a", 2, "two"), ERR_OK);
    const struct txn_answer *answer = &request->outcome->answer;
    assert_true(answer->succeeded);
    assert_int_equal(answer->revision, 4);
    assert_int_equal(request->revision, 4);
    assert_int_equal(answer->answer_count, 3);
    assert_record(answer->answers[0].records[0], "a", "one");
    assert_int_equal(answer->answers[1].kind, TXN_NESTED);
    assert_record(answer->answers[2].records[0], "marker", "m");

    const struct harness_request *late = command(harness, leader, update("a", 2, "three"), ERR_OK);
    answer = &late->outcome->answer;
    assert_false(answer->succeeded);
    assert_int_equal(answer->revision, 4);
    assert_int_equal(answer->answer_count, 1);
    assert_record(answer->answers[0].records[0], "a", "two");

    /* What an answer holds outlives what happens to the keys. */
    for (int i = 0; i < 20; i++) put(harness, leader, (struct put_query){.key = TEXT("a"), .value = TEXT("later")});
    command(harness, leader, command_compact(store_current_revision(store_of(harness, leader))), ERR_OK);
    harness_run(harness, 10 * HARNESS_HEARTBEAT);
    assert_record(late->outcome->answer.answers[0].records[0], "a", "two");
    end(harness);
}

static void test_refused_transaction(void **state)
{
    (void)state;
    struct harness *harness = new_harness(5);
    member_id leader = harness_elect(harness), follower = harness_follower(harness);
    put(harness, leader, (struct put_query){.key = TEXT("a"), .value = TEXT("one")});
    struct txn_op ops[] = {{.kind = TXN_PUT, .put = {.key = TEXT("b")}},
                           {.kind = TXN_RANGE, .range = {.key = TEXT("a"), .revision = 99}}};
    struct txn txn = {.success = ops, .success_count = 2};
    for (int i = 0; i < 2; i++) {
        member_id id = i == 0 ? leader : follower;
        const struct harness_request *request = command(harness, id, command_txn(&txn), ERR_FUTURE_REVISION);
        assert_int_equal(request->revision, 2);
    }
    command(harness, leader, command_compact(2), ERR_OK);
    ops[1].range.revision = 1;
    command(harness, follower, command_txn(&txn), ERR_COMPACTED);
    assert_int_equal(store_key_count(store_of(harness, leader)), 1);
    end(harness);
}

/* Of a newer version, or out of a wrong hand: no member may pass over it, or they would differ. */
static void test_transaction_that_nobody_understands(void **state)
{
    (void)state;
    struct harness *harness = new_harness(6);
    member_id leader = harness_elect(harness);
    struct entry *entry = command_format_entry(COMMAND_TXN, 0, 3, 0);
    memset(entry_payload(entry) + COMMAND_HEADER_BYTES, 0xff, 3);
    uint64_t number = harness_command(harness, leader, entry);
    harness_stabilize(harness);
    assert_false(requests_done(harness, number));
    assert_non_null(strstr(harness->violation, "can't go on"));
    assert_non_null(strstr(harness->violation, "transaction"));
    harness_free(harness);
}

/* ---- only where a client waits ---- */

/* Given up here, and done later: nobody is there to take an answer, and none is kept (or it would leak). */
static void test_applied_after_its_timeout(void **state)
{
    (void)state;
    struct harness *harness = new_harness(7);
    member_id leader = harness_elect(harness), follower = harness_follower(harness);
    put(harness, leader, (struct put_query){.key = TEXT("a"), .value = TEXT("one")});
    uint64_t number = harness_command(harness, follower, update("a", 2, "two"));
    harness_flush_all(harness);
    harness_complete_write(harness, leader, true);
    requests_deliver_first(harness, PEER_FORWARD, follower, leader);
    harness_flush(harness, leader);
    harness_isolate(harness, follower);
    harness_run(harness, 3000 * MS);
    requests_assert_done(harness, number, ERR_TIMEOUT);
    assert_null(harness_request(harness, number)->outcome);
    harness_heal(harness);
    harness_run(harness, 3000 * MS);
    const struct store_record *record;
    for (member_id id = 1; id <= 3; id++) {
        assert_int_equal(store_get(store_of(harness, id), TEXT("a"), 0, &record), ERR_OK);
        assert_record(record, "a", "two");
    }
    end(harness);
}

/* Its member dies between the answer and the end of the turn: what wasn't taken goes with it. */
static void test_answer_that_nobody_took(void **state)
{
    (void)state;
    struct harness *harness = new_harness(8);
    member_id leader = harness_elect(harness), follower = harness_follower(harness);
    put(harness, leader, (struct put_query){.key = TEXT("a"), .value = TEXT("one")});
    harness_command(harness, leader, update("a", 2, "two"));
    harness_flush(harness, leader);
    harness_complete_write(harness, leader, true);
    harness_flush(harness, leader);
    requests_deliver_first(harness, PEER_APPEND, leader, follower);
    harness_flush(harness, follower);
    harness_complete_write(harness, follower, true);
    harness_flush(harness, follower);
    requests_deliver_first(harness, PEER_APPEND_REPLY, follower, leader);
    assert_int_equal(harness->members[leader].effects.result_count, 1);
    assert_non_null(harness->members[leader].effects.results[0].outcome);
    harness_crash(harness, leader, true);
    harness_run(harness, 3000 * MS);
    harness_start(harness, leader);
    harness_run(harness, 1000 * MS);
    const struct store_record *record;
    assert_int_equal(store_get(store_of(harness, leader), TEXT("a"), 0, &record), ERR_OK);
    assert_record(record, "a", "two");
    end(harness);
}

/* ---- leases ---- */

static void test_leases(void **state)
{
    (void)state;
    struct harness *harness = new_harness(9);
    member_id leader = harness_elect(harness), follower = harness_follower(harness);
    command(harness, follower, command_lease_grant(5, 600), ERR_OK);
    command(harness, leader, command_lease_grant(5, 700), ERR_LEASE_EXISTS);
    command(harness, leader, command_lease_grant(UINT64_MAX, 600), ERR_OK);
    for (int i = 0; i < 30; i++) {
        char key[] = {(char)('a' + i % 26), (char)('a' + i), 0};
        put(harness, leader, (struct put_query){.key = TEXT(key), .lease = i % 3 == 0 ? UINT64_MAX : 5});
    }
    struct buffer items = {.data = NULL};
    buffer_append_u64(&items, 5);
    buffer_append_u64(&items, 77);
    buffer_append_u64(&items, 6); /* there is no such lease */
    buffer_append_u64(&items, 88);
    command(harness, leader, command_lease_checkpoint(buffer_bytes(&items)), ERR_OK);
    buffer_free(&items);
    store_revision before = store_current_revision(store_of(harness, leader));
    command(harness, follower, command_lease_revoke(6), ERR_LEASE_NOT_FOUND);
    const struct harness_request *request = command(harness, follower, command_lease_revoke(UINT64_MAX), ERR_OK);
    assert_int_equal(request->count, 10);
    assert_int_equal(request->revision, before + 1);
    harness_run(harness, HARNESS_HEARTBEAT);
    for (member_id id = 1; id <= 3; id++) {
        assert_int_equal(store_lease_count(store_of(harness, id)), 1);
        const struct lease *lease = store_lease_find(store_of(harness, id), 5);
        assert_int_equal(lease->ttl_s, 600);
        assert_int_equal(lease->remaining_s, 77);
        assert_int_equal(lease->key_count, 20);
    }
    end(harness);
}

/* More leases than one chunk of a snapshot holds, granted, checkpointed and revoked while it is made: what one who loads it and goes
   on from its index holds in the end is what the others hold. */
static void test_snapshot_among_changes(void **state)
{
    (void)state;
    struct harness_options options = {.count = 3, .seed = 10, .any_commands = true, .log_tail = 1};
    struct harness *harness = harness_new(&options);
    member_id leader = harness_elect(harness), away = harness_follower(harness);
    harness_crash(harness, away, true);
    enum { LEASES = 12000 };
    for (uint64_t id = 1; id <= LEASES; id++) {
        harness_command(harness, leader, command_lease_grant(id, 1000000));
        if (id % 500 == 0) harness_stabilize(harness);
    }
    for (uint64_t id = 1; id <= 20; id++) {
        char key[] = {(char)('a' + id), 0};
        put(harness, leader, (struct put_query){.key = TEXT(key), .lease = id});
    }
    assert_int_equal(harness_snapshot_begin(harness, leader), ERR_OK);
    uint64_t id = 1, slices = 0;
    do {
        command(harness, leader, command_lease_revoke(id++), ERR_OK);
        command(harness, leader, command_lease_revoke(LEASES - id), ERR_OK);
        command(harness, leader, command_lease_grant(LEASES + id, 600), ERR_OK);
        slices++;
    } while (!harness_snapshot_slice(harness, leader));
    assert_true(slices >= 3);
    harness_start(harness, away);
    harness_run(harness, 2000 * MS);
    assert_int_equal(harness->members[away].snapshots_installed, 1);
    assert_int_equal(store_lease_count(store_of(harness, away)), LEASES - slices);
    end(harness);
}

/* ---- the apply hash ---- */

/* A member on which a command had another end has another hash right away, though the command changed nothing on it. */
static void test_the_hash_sees_errors(void **state)
{
    (void)state;
    struct harness_options options = {.count = 3,
                                      .seed = 11,
                                      .any_commands = true,
                                      .content_scrub = {.interval = 1u << 30, .keys_max = 1, .bytes_max = 1}};
    struct harness *harness = harness_new(&options);
    member_id leader = harness_elect(harness), odd = harness_follower(harness);
    put(harness, leader, (struct put_query){.key = TEXT("a")});
    harness_run(harness, HARNESS_HEARTBEAT);
    harness->members[odd].tampered = true;
    struct store *store = (struct store *)store_of(harness, odd);
    assert_int_equal(store_lease_grant(store, 5, 600), ERR_OK);
    assert_true(harness->members[odd].status.apply_hash == harness->members[leader].status.apply_hash);
    command(harness, leader, command_lease_grant(5, 600), ERR_OK);
    for (int i = 0; i < 10 && harness->members[odd].status.raft.applied < harness->members[leader].status.raft.applied;
         i++) {
        harness_run(harness, HARNESS_HEARTBEAT);
    }
    assert_true(digest_of(store_of(harness, odd)) == digest_of(store_of(harness, leader)));
    assert_true(harness->members[odd].status.apply_hash != harness->members[leader].status.apply_hash);
    harness_free(harness);
}

/* ---- lives at random ---- */

struct life {
    struct harness *harness;
    struct random random;
    struct arena arena;
    unsigned outcomes, errors;
};

static struct entry *random_command(struct life *life)
{
    static const struct bytes keys[] = {{(const uint8_t *)"\0", 1}, {(const uint8_t *)"a", 1},
                                        {(const uint8_t *)"ab", 2}, {(const uint8_t *)"b", 1},
                                        {(const uint8_t *)"c", 1},  {(const uint8_t *)"ca", 2},
                                        {(const uint8_t *)"d", 1},  {(const uint8_t *)"\xff", 1}};
    struct random *random = &life->random;
    uint64_t lease = random_between(random, 1, 5);
    struct txn_maker maker = {.random = random,
                              .arena = &life->arena,
                              .keys = keys,
                              .key_count = ARRAY_COUNT(keys),
                              .revision_max = 200,
                              .lease_max = 5,
                              .list_max = 3,
                              .depth_max = 3};
    uint64_t kind = random_below(random, 100);
    if (kind < 12) return command_lease_grant(lease, 1000);
    if (kind < 15) return command_lease_revoke(lease);
    if (kind < 20) {
        uint8_t item[COMMAND_CHECKPOINT_ITEM_BYTES];
        put_u64(item, lease);
        put_u64(item + 8, random_between(random, 1, 900));
        return command_lease_checkpoint(bytes_of(item, sizeof item));
    }
    if (kind < 24) return command_compact((store_revision)random_between(random, 1, 150));
    struct txn txn = {.compares = NULL};
    while (txn.success_count == 0) txn = txn_maker_txn(&maker);
    if (kind < 60 && txn.success[0].kind == TXN_PUT) return command_put_query(&txn.success[0].put);
    if (kind < 60 && txn.success[0].kind == TXN_DELETE) return command_delete_query(&txn.success[0].delete);
    return command_txn(&txn);
}

static void maybe_restart(struct life *life)
{
    struct harness *harness = life->harness;
    member_id id = 1 + random_below(&life->random, 3);
    if (harness->members[id].replica == NULL) {
        harness_start(harness, id);
    } else if (random_chance(&life->random, 300)) {
        for (member_id other = 1; other <= 3; other++) {
            if (harness->members[other].replica == NULL) return; /* one at a time */
        }
        harness_crash(harness, id, random_chance(&life->random, 500));
    }
}

static void count_outcomes(struct life *life)
{
    for (uint64_t number = 1; number <= life->harness->request_count; number++) {
        const struct harness_request *request = harness_request(life->harness, number);
        life->outcomes += request->outcome != NULL;
        life->errors += request->done && request->error == ERR_KEY_MISSING;
        life->errors += request->done && request->error == ERR_LEASE_NOT_FOUND;
        if (request->outcome != NULL) assert_int_equal(request->error, ERR_OK);
    }
}

static void test_random_lives(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct harness_options options = {
            .count = 3, .seed = seed, .any_commands = true, .snapshot_log_bytes_min = 20000, .make_snapshots = true};
        struct life life = {.harness = harness_new(&options)};
        struct harness *harness = life.harness;
        random_seed(&life.random, seed);
        harness_elect(harness);
        for (unsigned step = 0; step < 600; step++) {
            member_id id = 1 + random_below(&life.random, 3);
            arena_reset(&life.arena);
            if (harness->members[id].replica != NULL) harness_command(harness, id, random_command(&life));
            if (random_chance(&life.random, 300)) harness_flush_all(harness);
            if (random_chance(&life.random, 300)) harness_run(harness, 20 * MS);
            if (random_chance(&life.random, 30)) maybe_restart(&life);
            assert_string_equal(harness->violation, "");
        }
        harness_start_all(harness);
        harness_run(harness, 4000 * MS);
        count_outcomes(&life);
        uint64_t made = 0;
        for (member_id id = 1; id <= 3; id++) made += harness->members[id].snapshots_made;
        assert_true(life.outcomes > 50 && life.errors > 20 && made > 0);
        arena_free(&life.arena);
        end(harness);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_with_previous),
        cmocka_unit_test(test_put_that_keeps),
        cmocka_unit_test(test_delete_of_a_range),
        cmocka_unit_test(test_transaction),
        cmocka_unit_test(test_refused_transaction),
        cmocka_unit_test(test_transaction_that_nobody_understands),
        cmocka_unit_test(test_applied_after_its_timeout),
        cmocka_unit_test(test_answer_that_nobody_took),
        cmocka_unit_test(test_leases),
        cmocka_unit_test(test_snapshot_among_changes),
        cmocka_unit_test(test_the_hash_sees_errors),
        cmocka_unit_test(test_random_lives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
