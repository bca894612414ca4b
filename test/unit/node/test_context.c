/*
 * Context: a node on the real ports starts, is refused a second time, gives its ports back, and reports what kept it from
 * starting.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>

#include "node/context.h"
#include "node/own_directory.h"

/* A port that nobody uses at the moment, and the socket that holds it (closed by the caller). */
static int take_port(uint16_t *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

struct node {
    struct config config;
    struct join_cluster cluster;
    char listen_host[ADDRESS_BYTES_MAX + 1];
    struct context *context;
    struct lifecycle_error error;
};

static void configure(struct node *node, const char *data, uint16_t api_port, uint16_t rpc_port)
{
    char texts[3][96];
    char id[] = "--id=one";
    char level[] = "--log-level=error";
    char *none[] = {NULL};
    struct buffer problems = {0};
    snprintf(texts[0], sizeof texts[0], "--data-dir=%s", data);
    snprintf(texts[1], sizeof texts[1], "--api-port=%u", api_port);
    snprintf(texts[2], sizeof texts[2], "--rpc-port=%u", rpc_port);
    char *arguments[] = {id, level, texts[0], texts[1], texts[2]};
    *node = (struct node){0};
    assert_true(config_load(&node->config, 5, arguments, none, &problems));
    assert_true(join_resolve(&node->config, &node->cluster, node->listen_host, &problems));
}

static bool start(struct node *node)
{
    node->context = context_new(&node->config, &node->cluster, node->listen_host, "0.0.0");
    return context_start(node->context, &node->error);
}

static bool destroy(struct node *node)
{
    bool good = context_destroy(node->context, &node->error);
    config_free(&node->config);
    return good;
}

static void free_ports(uint16_t *first, uint16_t *second)
{
    int a = take_port(first);
    int b = take_port(second);
    close(a);
    close(b);
}

static void the_configuration_reaches_the_drive(void **state)
{
    (void)state;
    struct node node;
    struct drive_config drive;
    configure(&node, "d", 81, 82);
    context_drive_config(&node.config, &node.cluster, node.listen_host, "1.2.3", &drive);
    assert_string_equal(drive.node_id, "one");
    assert_int_equal(drive.member_count, 1);
    assert_string_equal(drive.members[0].node_id, "one");
    assert_string_equal(drive.members[0].rpc_host, "localhost");
    assert_int_equal(drive.members[0].rpc_port, 82);
    assert_string_equal(drive.members[0].api_address, "localhost:81");
    assert_string_equal(drive.listen_host, "127.0.0.1");
    assert_int_equal(drive.api_port, 81);
    assert_int_equal(drive.rpc_port, 82);
    assert_string_equal(drive.log_directory, "d/log");
    assert_string_equal(drive.log_metadata_file, "d/log/metadata");
    assert_string_equal(drive.raft_state_file, "d/state");
    assert_string_equal(drive.lock_file, "d/state.lock");
    assert_string_equal(drive.snapshot_directory, "d/snapshot");
    assert_true(drive.election_timeout == 1000 * TIME_NS_PER_MS);
    assert_true(drive.heartbeat_interval == 100 * TIME_NS_PER_MS);
    assert_true(drive.api_forward_timeout == 1500 * TIME_NS_PER_MS);
    assert_string_equal(drive.version, "1.2.3");
    config_free(&node.config);
}

static void a_node_starts_and_stops_without_having_run(void **state)
{
    (void)state;
    struct node node;
    uint16_t api;
    uint16_t rpc;
    free_ports(&api, &rpc);
    configure(&node, "plain", api, rpc);
    assert_true(start(&node));
    assert_true(destroy(&node));
    assert_int_equal(node.error.failure_count, 0);
    assert_int_equal(access("plain/state", F_OK), 0);
    /* And again on the same data and ports. */
    configure(&node, "plain", api, rpc);
    assert_true(start(&node));
    assert_true(destroy(&node));
}

static void a_signal_ends_the_run_in_order(void **state)
{
    (void)state;
    struct node node;
    uint16_t api;
    uint16_t rpc;
    free_ports(&api, &rpc);
    configure(&node, "signalled", api, rpc);
    assert_true(start(&node));
    kill(getpid(), SIGTERM); /* waits in the loop's pipe until it runs */
    assert_int_equal(context_run(node.context), NODE_EXIT_OK);
    assert_true(destroy(&node));
    assert_int_equal(node.error.failure_count, 0);
}

static void a_second_node_on_the_same_data_is_refused(void **state)
{
    (void)state;
    struct node first;
    struct node second;
    uint16_t api;
    uint16_t rpc;
    free_ports(&api, &rpc);
    configure(&first, "shared", api, rpc);
    assert_true(start(&first));
    free_ports(&api, &rpc);
    configure(&second, "shared", api, rpc);
    assert_false(start(&second));
    assert_int_equal(lifecycle_error_code(&second.error), ERR_LOCKED);
    assert_string_equal(second.error.failures[0].part, "node");
    assert_non_null(strstr(second.error.failures[0].text, "shared/state.lock"));
    destroy(&second);
    assert_true(destroy(&first));
}

static void a_port_in_use_is_named(void **state)
{
    (void)state;
    struct node node;
    uint16_t used;
    uint16_t rpc;
    int holder = take_port(&used);
    int other = take_port(&rpc);
    close(other);
    configure(&node, "port", used, rpc);
    assert_false(start(&node));
    assert_int_equal(lifecycle_error_code(&node.error), ERR_ADDRESS_IN_USE);
    char port[16];
    snprintf(port, sizeof port, "%u", used);
    assert_non_null(strstr(node.error.failures[0].text, port));
    destroy(&node);
    close(holder);
    /* It left nothing behind that would keep the next one from starting. */
    configure(&node, "port", used, rpc);
    assert_true(start(&node));
    assert_true(destroy(&node));
}

static void data_of_another_node_are_refused(void **state)
{
    (void)state;
    struct node node;
    uint16_t api;
    uint16_t rpc;
    free_ports(&api, &rpc);
    configure(&node, "theirs", api, rpc);
    assert_true(start(&node));
    assert_true(destroy(&node));
    configure(&node, "theirs", api, rpc);
    snprintf(node.config.values[SETTING_NODE_ID].text, 4, "two");
    snprintf(node.cluster.members[0].node_id, sizeof node.cluster.members[0].node_id, "two");
    assert_false(start(&node));
    assert_int_equal(lifecycle_error_code(&node.error), ERR_CONFIG);
    assert_non_null(strstr(node.error.failures[0].text, "\"one\""));
    destroy(&node);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_configuration_reaches_the_drive),
        cmocka_unit_test(a_node_starts_and_stops_without_having_run),
        cmocka_unit_test(a_signal_ends_the_run_in_order),
        cmocka_unit_test(a_second_node_on_the_same_data_is_refused),
        cmocka_unit_test(a_port_in_use_is_named),
        cmocka_unit_test(data_of_another_node_are_refused),
    };
    return cmocka_run_group_tests_name("context", tests, own_directory_enter, own_directory_leave);
}
