#include "api/api.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake_replica.h"
#include "wire/json.h"

static struct fixture fixture;

static void add_member(uint32_t index, member_id id, const char *node_id)
{
    struct snapshot_member *member = &fixture.replica.status.members[index];
    member->id = id;
    strcpy(member->node_id, node_id);
    strcpy(member->rpc_address, "host:1");
    strcpy(member->api_address, "host:2");
    fixture.replica.status.member_count = index + 1;
}

static int setup(void **state)
{
    (void)state;
    fixture_open(&fixture);
    struct replica_status *status = &fixture.replica.status;
    *status = (struct replica_status){
        .cluster_id = 0xfedcba9876543210,
        .self = 0x11,
        .revision = 42,
        .apply_hash = 0xffffffffffffffff,
        .snapshot_index = 90,
        .raft =
            {
                .role = RAFT_LEADER,
                .term = 7,
                .leader = 0x11,
                .commit = 100,
                .applied = 99,
                .last_index = 102,
                .durable_index = 101,
                .first_index = 91,
                .peers = {{.id = 0x22, .match = 98}, {.id = 0x33, .match = 0, .needs_snapshot = true}},
                .peer_count = 2,
            },
    };
    add_member(0, 0x11, "node-1");
    add_member(1, 0x22, "node-2");
    add_member(2, 0x33, "node-3");
    fixture.host.peers[0] = (struct api_peer){.id = 0x22, .reachable = true, .round_trip = 250999};
    fixture.host.peers[1] = (struct api_peer){.id = 0x33};
    fixture.host.peer_count = 2;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_close(&fixture);
    return 0;
}

static void assert_cluster(const char *expected)
{
    fixture_ask(&fixture, "GET /v1/cluster", NULL);
    assert_int_equal(fixture_status(&fixture), 200);
    assert_string_equal(fixture_body(&fixture), expected);
    json_t *object = json_loads(fixture_body(&fixture), JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(object);
    json_decref(object);
}

static void test_leader(void **state)
{
    (void)state;
    assert_cluster(
        "{\"cluster_id\":\"fedcba9876543210\",\"node_id\":\"node-1\",\"member_id\":\"0000000000000011\","
        "\"leader\":\"node-1\",\"leader_id\":\"0000000000000011\",\"role\":\"leader\",\"term\":7,\"commit_index\":100,"
        "\"applied_index\":99,\"last_index\":102,\"first_index\":91,\"snapshot_index\":90,\"revision\":42,"
        "\"apply_hash\":\"ffffffffffffffff\",\"uncertain\":false,\"diverged\":false,\"disk_full\":false,"
        "\"members\":["
        "{\"node_id\":\"node-1\",\"member_id\":\"0000000000000011\",\"rpc_address\":\"host:1\","
        "\"api_address\":\"host:2\",\"reachable\":true,\"is_leader\":true,\"learner\":false,"
        "\"match_index\":101},"
        "{\"node_id\":\"node-2\",\"member_id\":\"0000000000000022\",\"rpc_address\":\"host:1\","
        "\"api_address\":\"host:2\",\"reachable\":true,\"is_leader\":false,\"learner\":false,"
        "\"round_trip_us\":250,\"match_index\":98,\"needs_snapshot\":false},"
        "{\"node_id\":\"node-3\",\"member_id\":\"0000000000000033\",\"rpc_address\":\"host:1\","
        "\"api_address\":\"host:2\",\"reachable\":false,\"is_leader\":false,\"learner\":false,"
        "\"match_index\":0,\"needs_snapshot\":true}]}");
    assert_int_equal(fixture.refreshed, 1);
}

static void test_follower_without_leader(void **state)
{
    (void)state;
    fixture.replica.status.raft.role = RAFT_FOLLOWER;
    fixture.replica.status.raft.leader = 0;
    fixture.replica.status.raft.uncertain = true;
    fixture.replica.status.diverged = true;
    fixture.replica.status.disk_full = true;
    fixture.replica.status.member_count = 1;
    fixture.replica.status.members[0].learner = true;
    fixture.api.refresh_host = NULL; /* the host needn't have one */
    assert_cluster("{\"cluster_id\":\"fedcba9876543210\",\"node_id\":\"node-1\",\"member_id\":\"0000000000000011\","
                   "\"leader\":null,\"leader_id\":null,\"role\":\"follower\",\"term\":7,\"commit_index\":100,"
                   "\"applied_index\":99,\"last_index\":102,\"first_index\":91,\"snapshot_index\":90,\"revision\":42,"
                   "\"apply_hash\":\"ffffffffffffffff\",\"uncertain\":true,\"diverged\":true,\"disk_full\":true,"
                   "\"members\":["
                   "{\"node_id\":\"node-1\",\"member_id\":\"0000000000000011\",\"rpc_address\":\"host:1\","
                   "\"api_address\":\"host:2\",\"reachable\":true,\"is_leader\":false,\"learner\":true}]}");
}

static void test_names_are_escaped(void **state)
{
    (void)state;
    fixture.replica.status.member_count = 1;
    strcpy(fixture.replica.status.members[0].node_id, "a\"b\\\n\xff");
    fixture.host.node_id = "\"";
    fixture_ask(&fixture, "GET /v1/cluster", NULL);
    json_t *object = json_loads(fixture_body(&fixture), 0, NULL);
    assert_non_null(object);
    assert_string_equal(json_string_value(json_object_get(object, "node_id")), "\"");
    json_t *member = json_array_get(json_object_get(object, "members"), 0);
    assert_string_equal(json_string_value(json_object_get(member, "node_id")), "a\"b\\\n\xef\xbf\xbd");
    json_decref(object);
}

int main(void)
{
    json_object_seed(1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_leader, setup, teardown),
        cmocka_unit_test_setup_teardown(test_follower_without_leader, setup, teardown),
        cmocka_unit_test_setup_teardown(test_names_are_escaped, setup, teardown),
    };
    return cmocka_run_group_tests_name("cluster", tests, NULL, NULL);
}
