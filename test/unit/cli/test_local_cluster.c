/*
 * A local cluster's files: they are configurations that a node accepts, and a pid file is believed only if the process is
 * that node.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/local_cluster.h"
#include "cli/node_view.h"

static char directory[512];

static int enter_directory(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%s/coracle-local-XXXXXX", base != NULL ? base : P_tmpdir);
    assert_non_null(mkdtemp(directory));
    return chdir(directory);
}

static int leave_directory(void **state)
{
    (void)state;
    char command[600];
    assert_int_equal(chdir("/"), 0);
    snprintf(command, sizeof command, "rm -rf %s", directory);
    return system(command);
}

static int run_cluster(const char *line)
{
    char text[256];
    char *words[16];
    int count = 0;
    snprintf(text, sizeof text, "%s", line);
    for (char *word = strtok(text, " "); word != NULL; word = strtok(NULL, " ")) words[count++] = word;
    return cluster_command(count, words);
}

static void what_init_makes_a_node_accepts(void **state)
{
    (void)state;
    assert_int_equal(run_cluster("init --cluster-size=3 --cluster-dir=a/b --node-prefix=node --api-port-start=7001 "
                                 "--rpc-port-start=6001"),
                     CLI_OK);
    for (unsigned i = 1; i <= 3; i++) {
        char flag[64];
        char name[16];
        char *arguments[] = {flag};
        char *none[] = {NULL};
        struct config config;
        struct join_cluster cluster;
        char listen_host[ADDRESS_BYTES_MAX + 1];
        struct buffer problems = {0};
        snprintf(flag, sizeof flag, "--config-file=a/b/node-%u/config.json", i);
        snprintf(name, sizeof name, "node-%u", i);
        assert_true(config_load(&config, 1, arguments, none, &problems));
        assert_true(join_resolve(&config, &cluster, listen_host, &problems));
        assert_true(config_check_paths(&config, &problems));
        assert_int_equal(config.warnings.size, 0);
        assert_string_equal(config_text(&config, SETTING_NODE_ID), name);
        assert_int_equal(config_number(&config, SETTING_API_PORT), 7000 + i);
        assert_int_equal(config_number(&config, SETTING_RPC_PORT), 6000 + i);
        assert_int_equal(cluster.member_count, 3);
        assert_string_equal(listen_host, "127.0.0.1");
        config_free(&config);
    }
}

static void an_existing_cluster_is_left_alone(void **state)
{
    (void)state;
    assert_int_equal(run_cluster("init --cluster-dir=twice --cluster-size=1"), CLI_OK);
    assert_int_equal(run_cluster("init --cluster-dir=twice --cluster-size=5"), CLI_FAILED);
    struct local_cluster cluster;
    assert_true(local_cluster_open("twice", &cluster));
    assert_int_equal(cluster.members.member_count, 1);
    local_cluster_close(&cluster);
}

static void bad_arguments_make_nothing(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "",
        "nonsense",
        "init --cluster-dir=none --cluster-size=0",
        "init --cluster-dir=none --cluster-size=8",
        "init --cluster-dir=none --node-prefix=-x",
        "init --cluster-dir=none --node-prefix=a/b",
        "init --cluster-dir=none --api-port-start=65534",
        "init --cluster-dir=none --api-port-start=6668",
        "init --cluster-dir=none --api-port-start=6664",
        "init --cluster-dir=none surplus",
        "up --nope",
        "down --nope",
        "status --nope",
    };
    for (size_t i = 0; i < ARRAY_COUNT(lines); i++) {
        assert_int_equal(run_cluster(lines[i]), CLI_USAGE);
        assert_int_not_equal(access("none", F_OK), 0);
    }
    assert_int_equal(run_cluster("up --cluster-dir=none"), CLI_FAILED);
    assert_int_equal(run_cluster("down --cluster-dir=none"), CLI_FAILED);
    /* The ports next to each other just fit. */
    assert_int_equal(run_cluster("init --cluster-dir=fits --api-port-start=6669 --node-prefix=n-"), CLI_OK);
    assert_int_equal(access("fits/n-3/config.json", F_OK), 0);
}

static void a_pid_is_believed_only_of_a_node(void **state)
{
    (void)state;
    struct local_cluster cluster;
    assert_int_equal(run_cluster("init --cluster-dir=pids --cluster-size=3"), CLI_OK);
    assert_true(local_cluster_open("pids", &cluster));
    assert_int_equal(local_cluster_running_count(&cluster), 0);

    /* Someone else's process, one whose command line names the configuration, and one that isn't there. */
    pid_t node = fork();
    if (node == 0) {
        execl("/bin/sh", "sh", "-c", "sleep 60 & wait", cluster.nodes[1].config_file, (char *)NULL);
        _exit(127);
    }
    const pid_t pids[] = {getpid(), node, 999999999};
    for (unsigned i = 0; i < 3; i++) {
        FILE *stream = fopen(cluster.nodes[i].pid_file, "w");
        fprintf(stream, "%d\n", (int)pids[i]);
        fclose(stream);
    }
    for (int i = 0; i < 500 && local_cluster_running_count(&cluster) == 0; i++) {
        usleep(10000); /* until the child is another program */
        local_cluster_look(&cluster);
    }
    assert_int_equal(cluster.nodes[0].pid, 0);
    assert_int_equal(cluster.nodes[1].pid, node);
    assert_int_equal(cluster.nodes[2].pid, 0);

    /* Stopping ends that one, and removes its pid file only. */
    assert_true(local_cluster_stop(&cluster, 10000));
    assert_int_equal(local_cluster_running_count(&cluster), 0);
    assert_int_not_equal(access(cluster.nodes[1].pid_file, F_OK), 0);
    assert_int_equal(kill(node, 0), -1);
    local_cluster_close(&cluster);
}

static void one_that_ignores_the_signal_is_killed(void **state)
{
    (void)state;
    struct local_cluster cluster;
    assert_int_equal(run_cluster("init --cluster-dir=stubborn --cluster-size=1"), CLI_OK);
    assert_true(local_cluster_open("stubborn", &cluster));
    pid_t node = fork();
    if (node == 0) {
        signal(SIGTERM, SIG_IGN); /* survives exec */
        execl("/bin/sh", "sh", "-c", "while :; do sleep 1; done", cluster.nodes[0].config_file, (char *)NULL);
        _exit(127);
    }
    cluster.nodes[0].pid = node;
    usleep(100000);
    assert_false(local_cluster_stop(&cluster, 50));
    assert_int_equal(cluster.nodes[0].pid, 0);
    local_cluster_close(&cluster);
}

/* ---- what a node says of itself ---- */

static const char view_text[] =
    "{\"cluster_id\":\"00\",\"node_id\":\"b\",\"member_id\":\"02\",\"leader\":\"a\",\"leader_id\":\"01\",\"role\":"
    "\"follower\",\"term\":4,"
    "\"commit_index\":10,\"applied_index\":9,\"revision\":7,\"apply_hash\":\"ff\",\"uncertain\":false,\"diverged\":"
    "false,"
    "\"disk_full\":false,\"members\":[{\"node_id\":\"a\",\"api_address\":\"h:1\",\"reachable\":true,\"is_leader\":true,"
    "\"match_index\":8},{\"node_id\":\"b\",\"api_address\":\"h:2\",\"reachable\":false,\"is_leader\":false}]}";

static void a_view_is_read(void **state)
{
    (void)state;
    struct node_view view;
    assert_true(node_view_read(bytes_of_string(view_text), &view));
    assert_string_equal(view.node_id, "b");
    assert_string_equal(view.leader, "a");
    assert_string_equal(view.role, "follower");
    assert_int_equal(view.term, 4);
    assert_int_equal(view.commit_index, 10);
    assert_int_equal(view.applied_index, 9);
    assert_int_equal(view.member_count, 2);
    assert_true(view.members[0].reachable && view.members[0].match_known);
    assert_int_equal(view.members[0].match_index, 8);
    assert_false(view.members[1].reachable || view.members[1].match_known);
    assert_string_equal(node_view_health(&view), "ok");
    view.disk_full = true;
    assert_string_equal(node_view_health(&view), "disk full");
    view.uncertain = true;
    assert_string_equal(node_view_health(&view), "uncertain");
    view.diverged = true;
    assert_string_equal(node_view_health(&view), "diverged");

    json_t *root = node_view_json(bytes_of_string(view_text), "h:2");
    assert_string_equal(json_string_value(json_object_get(root, "leader")), "a");
    assert_string_equal(json_string_value(json_object_get(root, "leader_id")), "01");
    assert_string_equal(json_string_value(json_object_get(root, "endpoint")), "h:2");
    json_decref(root);
}

static void what_is_no_view_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "{}", "[]", "{\"members\":5}", "{\"members\":[", "null"};
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
        struct node_view view;
        assert_false(node_view_read(bytes_of_string(texts[i]), &view));
        assert_null(node_view_json(bytes_of_string(texts[i]), "h:1"));
    }
    /* More members than there can be, and names longer than they can be, are cut. */
    struct buffer text = {0};
    struct node_view view;
    buffer_append_string(&text, "{\"members\":[");
    for (int i = 0; i < 20; i++) buffer_append_format(&text, "%s{\"node_id\":\"%0200d\"}", i > 0 ? "," : "", i);
    buffer_append_string(&text, "]}");
    assert_true(node_view_read(buffer_bytes(&text), &view));
    assert_int_equal(view.member_count, MEMBERS_MAX);
    assert_int_equal(strlen(view.members[0].node_id), NODE_ID_BYTES_MAX);
    assert_string_equal(node_view_health(&view), "no leader");
    buffer_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_init_makes_a_node_accepts),
        cmocka_unit_test(an_existing_cluster_is_left_alone),
        cmocka_unit_test(bad_arguments_make_nothing),
        cmocka_unit_test(a_pid_is_believed_only_of_a_node),
        cmocka_unit_test(one_that_ignores_the_signal_is_killed),
        cmocka_unit_test(a_view_is_read),
        cmocka_unit_test(what_is_no_view_is_refused),
    };
    return cmocka_run_group_tests_name("local_cluster", tests, enter_directory, leave_directory);
}
