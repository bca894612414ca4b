/*
 * Join modes: what the cluster file and the downward API's directory may say, and where a node then listens.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include <stdio.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "node/join.h"
#include "node/join_k8s.h"
#include "node/join_static.h"
#include "node/own_directory.h"

static const char *text_of(struct buffer *buffer)
{
    buffer_append_byte(buffer, '\0');
    return (const char *)buffer->data;
}

/* ---- addresses ---- */

static void addresses_are_host_and_port(void **state)
{
    (void)state;
    static const struct {
        const char *text, *host; /* host NULL: refused */
        uint16_t port;
    } cases[] = {
        {"localhost:6666", "localhost", 6666},
        {"10.0.0.1:1", "10.0.0.1", 1},
        {"node-1.svc_a.example:65535", "node-1.svc_a.example", 65535},
        {"[::1]:80", "::1", 80},
        {"[fe80::1]:80", "fe80::1", 80},
        {"", NULL, 0},
        {"localhost", NULL, 0},
        {":80", NULL, 0},
        {"host:", NULL, 0},
        {"host:0", NULL, 0},
        {"host:65536", NULL, 0},
        {"host:123456", NULL, 0},
        {"host:8o", NULL, 0},
        {"host:-1", NULL, 0},
        {"http://host:80", NULL, 0},
        {"ho st:80", NULL, 0},
        {"::1:80", NULL, 0},
        {"[host]:80", NULL, 0},
        {"[]:80", NULL, 0},
        {"[::1]80", NULL, 0},
        {"[::1", NULL, 0},
        {"host:80/", NULL, 0},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        char host[ADDRESS_BYTES_MAX + 1];
        uint16_t port = 0;
        bool good = join_parse_address(bytes_of_string(cases[i].text), host, &port);
        assert_int_equal(good, cases[i].host != NULL);
        if (!good) continue;
        assert_string_equal(host, cases[i].host);
        assert_int_equal(port, cases[i].port);
    }
    /* One that would only just not fit with its brackets and port. */
    char text[ADDRESS_BYTES_MAX + 16];
    char host[ADDRESS_BYTES_MAX + 1];
    uint16_t port;
    memset(text, 'h', sizeof text);
    size_t longest = ADDRESS_BYTES_MAX - sizeof "[]:65535";
    memcpy(text + longest, ":80", 3);
    assert_true(join_parse_address(bytes_of(text, longest + 3), host, &port));
    memset(text, 'h', sizeof text);
    memcpy(text + longest + 1, ":80", 3);
    assert_false(join_parse_address(bytes_of(text, longest + 4), host, &port));
}

static void loopback_is_recognised(void **state)
{
    (void)state;
    assert_true(join_host_is_loopback("localhost"));
    assert_true(join_host_is_loopback("LocalHost"));
    assert_true(join_host_is_loopback("127.0.0.1"));
    assert_true(join_host_is_loopback("127.255.3.4"));
    assert_true(join_host_is_loopback("::1"));
    assert_false(join_host_is_loopback("128.0.0.1"));
    assert_false(join_host_is_loopback("0.0.0.0"));
    assert_false(join_host_is_loopback("::"));
    assert_false(join_host_is_loopback("localhost.example"));
    assert_false(join_host_is_loopback("node-1"));
}

/* ---- static ---- */

#define ROW(id, rpc, api) "{\"node_id\":\"" id "\",\"rpc_url\":\"" rpc "\",\"api_url\":\"" api "\"}"

static void a_cluster_file_names_the_members(void **state)
{
    (void)state;
    struct join_cluster cluster;
    struct buffer problems = {0};
    assert_true(join_static_parse(bytes_of_string("[" ROW("node-1", "localhost:6666", "localhost:7777") "," ROW(
                                      "node-2", "[::1]:6667", "10.0.0.2:7778") "]"),
                                  "c.json", &cluster, &problems));
    assert_int_equal(problems.size, 0);
    assert_int_equal(cluster.member_count, 2);
    assert_string_equal(cluster.members[0].node_id, "node-1");
    assert_string_equal(cluster.members[0].rpc_host, "localhost");
    assert_int_equal(cluster.members[0].rpc_port, 6666);
    assert_string_equal(cluster.members[1].rpc_host, "::1");
    assert_string_equal(cluster.members[1].api_host, "10.0.0.2");
    assert_int_equal(cluster.members[1].api_port, 7778);
    assert_ptr_equal(join_find(&cluster, "node-2"), &cluster.members[1]);
    assert_null(join_find(&cluster, "node-3"));
}

static const struct {
    const char *text, *problems;
} bad_files[] = {
    {"{}",
     "cluster_config_path: is no list (in c.json); write [{\"node_id\": …, \"rpc_url\": …, \"api_url\": …}, …]\n"},
    {"[]",
     "cluster_config_path: names no members (in c.json); write one {\"node_id\": …, \"rpc_url\": …, \"api_url\": …} "
     "for each\n"},
    {"[1,1,1,1,1,1,1,1]", "cluster_config_path: names 8 members, more than 7 (in c.json); three or five are usual\n"},
    {"[5]", "cluster_config_path: member 1: is no object (5, in c.json); write {\"node_id\": …, \"rpc_url\": …, "
            "\"api_url\": …}\n"},
    {"[{\"node_id\":\"a\",\"rpc_url\":7}]",
     "cluster_config_path: member 1: rpc_url is no text (7, in c.json); write it as a text in quotes\n"
     "cluster_config_path: member 1: api_url is missing (not set, in c.json); write it as a text in quotes\n"},
    {"[" ROW("-a", "h:1", "h:2") "]", "cluster_config_path: member 1: node_id is not a node's name (\"-a\", in "
                                      "c.json); use at most 63 letters, digits, '-', "
                                      "'_' and '.', beginning with a letter or digit\n"},
    {"[" ROW("a", "http://h:1", "h") "]", "cluster_config_path: member 1: rpc_url is no address (\"http://h:1\", in "
                                          "c.json); write it as host:port, without a "
                                          "scheme\n"
                                          "cluster_config_path: member 1: api_url is no address (\"h\", in c.json); "
                                          "write it as host:port, without a scheme\n"},
    {"[{\"node_id\":\"a\",\"rpc_url\":\"h:1\",\"api_url\":\"h:2\",\"role\":\"x\"}]",
     "cluster_config_path: member 1: there is no such field (\"role\", in c.json); remove it\n"},
    {"[" ROW("a", "[::1]:1", "[::1]:1") "]",
     "cluster_config_path: member 1: api_url is its rpc_url too (\"[::1]:1\", in c.json); give each its own address\n"},
    {"[" ROW("a", "h:1", "h:1") "]",
     "cluster_config_path: member 1: api_url is its rpc_url too (\"h:1\", in c.json); give each its own address\n"},
    /* every duplicate at once */
    {"[" ROW("a", "h:1", "h:2") "," ROW("b", "h:1", "g:2") "," ROW("a", "h:3", "h:2") "," ROW("c", "h:2", "h:9") "]",
     "cluster_config_path: member 2: rpc_url is that of member 1 too (\"h:1\", in c.json); give each member its own "
     "address\n"
     "cluster_config_path: member 3: node_id is that of member 1 too (\"a\", in c.json); give each member its own\n"
     "cluster_config_path: member 3: api_url is that of member 1 too (\"h:2\", in c.json); give each member its own "
     "address\n"
     "cluster_config_path: member 4: rpc_url is the api_url of member 1 (\"h:2\", in c.json); give each its own "
     "address\n"
     "cluster_config_path: member 4: rpc_url is the api_url of member 3 (\"h:2\", in c.json); give each its own "
     "address\n"},
};

static void bad_cluster_files_are_explained(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(bad_files); i++) {
        struct join_cluster cluster;
        struct buffer problems = {0};
        assert_false(join_static_parse(bytes_of_string(bad_files[i].text), "c.json", &cluster, &problems));
        assert_string_equal(text_of(&problems), bad_files[i].problems);
        buffer_free(&problems);
    }
}

static void a_cluster_file_that_is_no_json_is_named(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "[", "[{]", "nonsense", "[{\"node_id\":\"a\",\"node_id\":\"b\"}]", "\xff"};
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
        struct join_cluster cluster;
        struct buffer problems = {0};
        assert_false(join_static_parse(bytes_of_string(texts[i]), "c.json", &cluster, &problems));
        assert_int_equal(strncmp(text_of(&problems), "cluster_config_path: is not valid JSON (c.json, line 1,", 54), 0);
        buffer_free(&problems);
    }
}

static void a_missing_or_huge_file_is_named(void **state)
{
    (void)state;
    struct join_cluster cluster;
    struct buffer problems = {0};
    assert_false(join_static_read("gone.json", &cluster, &problems));
    assert_string_equal(text_of(&problems),
                        "cluster_config_path: can't be read (\"gone.json\": No such file or directory); "
                        "give what the cluster mode needs\n");
    buffer_clear(&problems);
    assert_int_equal(mkdir("d", 0700), 0);
    assert_false(join_static_read("d", &cluster, &problems));
    assert_non_null(strstr(text_of(&problems), "Is a directory"));
    buffer_clear(&problems);
    FILE *stream = fopen("big", "w");
    for (int i = 0; i < 300000; i++) fputs("[[[[", stream);
    fclose(stream);
    assert_false(join_static_read("big", &cluster, &problems));
    assert_non_null(strstr(text_of(&problems), "is larger than 1 MiB"));
    buffer_free(&problems);
}

/* ---- k8s ---- */

#define LABELS "app=\"coracle\"\nraft-cluster/id=\"coracle\"\nraft-cluster/size=\"3\"\nraft-cluster/svcName=\"peers\"\n"

static void labels_name_the_pods(void **state)
{
    (void)state;
    struct join_cluster cluster;
    struct buffer problems = {0};
    assert_true(join_k8s_parse(bytes_of_string(LABELS), bytes_of_string("prod"), 6666, 7777, &cluster, &problems));
    assert_int_equal(problems.size, 0);
    assert_int_equal(cluster.member_count, 3);
    assert_string_equal(cluster.members[0].node_id, "coracle-0");
    assert_string_equal(cluster.members[2].node_id, "coracle-2");
    assert_string_equal(cluster.members[2].rpc_host, "coracle-2.peers");
    assert_string_equal(cluster.members[2].api_host, "coracle-2.peers");
    assert_int_equal(cluster.members[2].rpc_port, 6666);
    assert_int_equal(cluster.members[2].api_port, 7777);
    /* No newline at the end, carriage returns, one of the namespace, other labels of similar names. */
    assert_true(join_k8s_parse(
        bytes_of_string("raft-cluster/identity=\"no\"\r\nraft-cluster/id=\"x\"\r\nraft-cluster/size=\"1\"\r\n"
                        "raft-cluster/svcName=\"y.z\""),
        bytes_of_string("prod\n"), 1, 2, &cluster, &problems));
    assert_int_equal(cluster.member_count, 1);
    assert_string_equal(cluster.members[0].rpc_host, "x-0.y.z");
}

static const struct {
    const char *labels, *name_space, *problems;
} bad_labels[] = {
    {"", "prod",
     "cluster_config_path: labels: a label is missing (\"raft-cluster/id\"); add it to the pod's labels\n"
     "cluster_config_path: labels: a label is missing (\"raft-cluster/size\"); add it to the pod's labels\n"
     "cluster_config_path: labels: a label is missing (\"raft-cluster/svcName\"); add it to the pod's labels\n"},
    {LABELS, "",
     "cluster_config_path: k8s-ns: is no namespace (\"\"); let the downward API write metadata.namespace there\n"},
    {LABELS, "Not A Name",
     "cluster_config_path: k8s-ns: is no namespace (\"Not A Name\"); let the downward API write metadata.namespace "
     "there\n"},
    {"raft-cluster/id=\"x\"\nraft-cluster/size=\"0\"\nraft-cluster/svcName=\"y\"", "prod",
     "cluster_config_path: labels: raft-cluster/size is no size for a cluster (\"0\"); give a number from 1 to 7\n"},
    {"raft-cluster/id=\"x\"\nraft-cluster/size=\"8\"\nraft-cluster/svcName=\"y\"", "prod",
     "cluster_config_path: labels: raft-cluster/size is no size for a cluster (\"8\"); give a number from 1 to 7\n"},
    {"raft-cluster/id=\"x\"\nraft-cluster/size=\"33\"\nraft-cluster/svcName=\"y\"", "prod",
     "cluster_config_path: labels: raft-cluster/size is no size for a cluster (\"33\"); give a number from 1 to 7\n"},
    {"raft-cluster/id=\"x\"\nraft-cluster/size=\"three\"\nraft-cluster/svcName=\"y\"", "prod",
     "cluster_config_path: labels: raft-cluster/size is no size for a cluster (\"three\"); give a number from 1 to "
     "7\n"},
    {"raft-cluster/id=\"X_\"\nraft-cluster/size=\"3\"\nraft-cluster/svcName=\"-y\"", "prod",
     "cluster_config_path: labels: raft-cluster/id can't be part of a host name (\"X_\"); give the StatefulSet's name: "
     "lower-case letters, digits and '-', at most 61\n"
     "cluster_config_path: labels: raft-cluster/svcName can't be part of a host name (\"-y\"); give the headless "
     "service's "
     "name\n"},
    {LABELS "raft-cluster/id=\"again\"\n", "prod",
     "cluster_config_path: labels: this label comes twice (\"raft-cluster/id\"); remove one\n"},
    {"raft-cluster/id=x\nraft-cluster/size=\"3\"\nraft-cluster/svcName=\"y\"", "prod",
     "cluster_config_path: labels: this label's value is malformed (\"raft-cluster/id\"); write key=\"value\", as the "
     "downward API does\n"},
    {"raft-cluster/id=\"\"\nraft-cluster/size=\"3\"\nraft-cluster/svcName=\"y\"", "prod",
     "cluster_config_path: labels: raft-cluster/id can't be part of a host name (\"\"); give the StatefulSet's name: "
     "lower-case letters, digits and '-', at most 61\n"},
};

static void bad_labels_are_explained(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(bad_labels); i++) {
        struct join_cluster cluster;
        struct buffer problems = {0};
        assert_false(join_k8s_parse(bytes_of_string(bad_labels[i].labels), bytes_of_string(bad_labels[i].name_space), 1,
                                    2, &cluster, &problems));
        assert_string_equal(text_of(&problems), bad_labels[i].problems);
        buffer_free(&problems);
    }
}

static void values_that_end_early_are_malformed(void **state)
{
    (void)state;
    static const char *const values[] = {"", "\"", "x", "\"x", "x\"", "\"a\"b\"", "\"a\\n\"", "\"a\\\"\""};
    for (size_t i = 0; i < ARRAY_COUNT(values); i++) {
        char labels[200];
        struct join_cluster cluster;
        struct buffer problems = {0};
        snprintf(labels, sizeof labels, "raft-cluster/size=\"3\"\nraft-cluster/svcName=\"y\"\nraft-cluster/id=%s",
                 values[i]);
        assert_false(join_k8s_parse(bytes_of_string(labels), bytes_of_string("prod"), 1, 2, &cluster, &problems));
        assert_non_null(strstr(text_of(&problems), "this label's value is malformed (\"raft-cluster/id\")"));
        buffer_free(&problems);
    }
}

static void the_downward_directory_is_read(void **state)
{
    (void)state;
    struct join_cluster cluster;
    struct buffer problems = {0};
    /* Kubernetes lays a directory of links to a dated directory. */
    assert_int_equal(mkdir("podinfo", 0700), 0);
    assert_int_equal(mkdir("podinfo/..2026", 0700), 0);
    own_directory_write("podinfo/..2026/labels", LABELS);
    own_directory_write("podinfo/..2026/k8s-ns", "prod");
    assert_int_equal(symlink("..2026", "podinfo/..data"), 0);
    assert_int_equal(symlink("..data/labels", "podinfo/labels"), 0);
    assert_int_equal(symlink("..data/k8s-ns", "podinfo/k8s-ns"), 0);
    static const char *const paths[] = {"podinfo", "podinfo/", "podinfo/labels"};
    for (size_t i = 0; i < ARRAY_COUNT(paths); i++) {
        assert_true(join_k8s_read(paths[i], 6666, 7777, &cluster, &problems));
        assert_int_equal(cluster.member_count, 3);
    }
    assert_false(join_k8s_read("nowhere", 6666, 7777, &cluster, &problems));
    assert_string_equal(
        text_of(&problems),
        "cluster_config_path: can't be read (\"nowhere/labels\": No such file or directory); give what the "
        "cluster mode needs\n"
        "cluster_config_path: can't be read (\"nowhere/k8s-ns\": No such file or directory); give what the "
        "cluster mode needs\n");
    buffer_free(&problems);
}

/* ---- both, and the rest of the configuration ---- */

struct resolved {
    struct config config;
    struct join_cluster cluster;
    struct buffer problems;
    char listen_host[ADDRESS_BYTES_MAX + 1];
};

static bool resolve(struct resolved *out, char *const *arguments)
{
    char *none[] = {NULL};
    int count = 0;
    *out = (struct resolved){0};
    while (arguments[count] != NULL) count++;
    config_load(&out->config, count, arguments, none, &out->problems);
    size_t before = out->problems.size;
    bool good = join_resolve(&out->config, &out->cluster, out->listen_host, &out->problems);
    assert_int_equal(good, out->problems.size == before);
    return out->problems.size == 0;
}

static void release(struct resolved *resolved)
{
    config_free(&resolved->config);
    buffer_free(&resolved->problems);
}

#define ARGUMENTS(...) ((char *[]){__VA_ARGS__, NULL})

static void without_a_cluster_a_node_is_alone_on_loopback(void **state)
{
    (void)state;
    struct resolved resolved;
    assert_true(resolve(&resolved, ARGUMENTS("--id=one", "--api-port=81")));
    assert_int_equal(resolved.cluster.member_count, 1);
    assert_string_equal(resolved.cluster.members[0].node_id, "one");
    assert_int_equal(resolved.cluster.members[0].api_port, 81);
    assert_int_equal(resolved.cluster.members[0].rpc_port, 6666);
    assert_string_equal(resolved.listen_host, "127.0.0.1");
    release(&resolved);
}

static void the_listening_address_follows_the_members_entry(void **state)
{
    (void)state;
    static const struct {
        const char *rpc, *api, *asked, *expected; /* expected NULL: any address */
    } cases[] = {
        {"localhost:1", "localhost:2", NULL, "127.0.0.1"},
        {"127.0.0.1:1", "localhost:2", NULL, "127.0.0.1"},
        {"127.0.0.9:1", "127.0.0.9:2", NULL, "127.0.0.9"},
        {"[::1]:1", "[::1]:2", NULL, "::1"},
        {"10.1.2.3:1", "10.1.2.3:2", NULL, "10.1.2.3"},
        {"10.1.2.3:1", "10.1.2.4:2", NULL, NULL},
        {"10.1.2.3:1", "localhost:2", NULL, NULL},
        {"node-1.peers:1", "node-1.peers:2", NULL, NULL},
        {"node-1.peers:1", "node-1.peers:2", "10.9.9.9", "10.9.9.9"},
        {"localhost:1", "localhost:2", "0.0.0.0", "0.0.0.0"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        char text[256];
        char asked[64];
        snprintf(text, sizeof text, "[{\"node_id\":\"n\",\"rpc_url\":\"%s\",\"api_url\":\"%s\"}]", cases[i].rpc,
                 cases[i].api);
        own_directory_write("c.json", text);
        snprintf(asked, sizeof asked, "--listen-host=%s", cases[i].asked != NULL ? cases[i].asked : "");
        struct resolved resolved;
        char **arguments = ARGUMENTS("--id=n", "--cluster-config-path=c.json", cases[i].asked != NULL ? asked : NULL);
        assert_true(resolve(&resolved, arguments));
        if (cases[i].expected != NULL) {
            assert_string_equal(resolved.listen_host, cases[i].expected);
        } else {
            assert_true(strcmp(resolved.listen_host, "::") == 0 || strcmp(resolved.listen_host, "0.0.0.0") == 0);
        }
        release(&resolved);
    }
}

static void ports_left_at_their_defaults_are_the_files(void **state)
{
    (void)state;
    struct resolved resolved;
    own_directory_write(
        "c.json", "[" ROW("a", "localhost:7101", "localhost:7201") "," ROW(
                      "b", "localhost:7102", "localhost:7202") "," ROW("c", "localhost:7103", "localhost:7203") "]");
    assert_true(resolve(&resolved, ARGUMENTS("--id=b", "--cluster-config-path=c.json", "--api-port=9")));
    assert_int_equal(config_number(&resolved.config, SETTING_RPC_PORT), 7102);
    assert_string_equal(resolved.config.values[SETTING_RPC_PORT].origin, "cluster_config_path");
    assert_int_equal(config_number(&resolved.config, SETTING_API_PORT), 9);
    assert_string_equal(
        text_of(&resolved.config.warnings),
        "api_port: differs from what others are told (9, from --api-port; the cluster configuration says 7202)\n");
    release(&resolved);
}

static void an_even_number_of_members_is_warned_of(void **state)
{
    (void)state;
    struct resolved resolved;
    own_directory_write("c.json",
                        "[" ROW("a", "localhost:1", "localhost:2") "," ROW("b", "localhost:3", "localhost:4") "]");
    assert_true(resolve(&resolved, ARGUMENTS("--id=b", "--cluster-config-path=c.json")));
    assert_string_equal(text_of(&resolved.config.warnings),
                        "cluster_config_path: 2 members survive no more failures than 1; an odd number is better\n");
    release(&resolved);
}

static void problems_of_settings_and_cluster_come_together(void **state)
{
    (void)state;
    struct resolved resolved;
    own_directory_write("c.json", "[" ROW("a", "localhost:1", "localhost:2") "]");
    assert_false(resolve(&resolved, ARGUMENTS("--id=z", "--cluster-config-path=c.json", "--heartbeat=0")));
    assert_string_equal(
        text_of(&resolved.problems),
        "heartbeat_interval_in_millis: is out of range (0, from --heartbeat); give milliseconds from 5 to "
        "3600000, without a unit\n"
        "node_id: is not in the cluster configuration (\"z\", from --id); give one of a, or add it to c.json\n");
    release(&resolved);

    own_directory_write("c.json", "[" ROW("a", "localhost:1", "nonsense") "]");
    assert_false(resolve(&resolved, ARGUMENTS("--api-port=5", "--rpc-port=5", "--cluster-config-path=c.json")));
    assert_string_equal(
        text_of(&resolved.problems),
        "node_id: is required (not set); give --id or NODE_ID\n"
        "cluster_config_path: member 1: api_url is no address (\"nonsense\", in c.json); write it as host:port, "
        "without a scheme\n"
        "rpc_port: is the same as api_port (5, from --rpc-port); give two different ports\n");
    release(&resolved);

    assert_false(resolve(&resolved, ARGUMENTS("--id=a", "--join-mode=zookeeper", "--cluster-config-path=gone")));
    assert_string_equal(text_of(&resolved.problems),
                        "cluster_mode: is not one of its values (\"zookeeper\", from --join-mode); "
                        "give one of static, cluster-file, k8s\n"
                        "cluster_config_path: can't be read (\"gone\": No such file or directory); give what the "
                        "cluster mode needs\n");
    release(&resolved);

    /* What is wrong with members doesn't hide that this node is none of them. */
    own_directory_write("c.json",
                        "[" ROW("a", "localhost:1", "nonsense") ",7," ROW("b", "localhost:3", "localhost:4") "]");
    assert_false(resolve(&resolved, ARGUMENTS("--id=z", "--cluster-config-path=c.json")));
    assert_string_equal(
        text_of(&resolved.problems),
        "cluster_config_path: member 1: api_url is no address (\"nonsense\", in c.json); write it as host:port, "
        "without a scheme\n"
        "cluster_config_path: member 2: is no object (7, in c.json); write {\"node_id\": …, \"rpc_url\": …, "
        "\"api_url\": …}\n"
        "node_id: is not in the cluster configuration (\"z\", from --id); give one of a, b, or add it to c.json\n");
    release(&resolved);
    own_directory_write("c.json", "[7]");
    assert_false(resolve(&resolved, ARGUMENTS("--id=z", "--cluster-config-path=c.json")));
    assert_non_null(strstr(text_of(&resolved.problems),
                           "node_id: is not in the cluster configuration (\"z\", from --id); add it to c.json\n"));
    release(&resolved);
    /* A port isn't taken from an address that couldn't be read. */
    own_directory_write("c.json", "[" ROW("a", "localhost:1", "nonsense") "]");
    assert_false(resolve(&resolved, ARGUMENTS("--id=a", "--cluster-config-path=c.json")));
    assert_int_equal(config_number(&resolved.config, SETTING_API_PORT), 7777);
    release(&resolved);
}

static void problems_of_both_files_of_a_pod_come_together(void **state)
{
    (void)state;
    struct resolved resolved;
    assert_int_equal(mkdir("half", 0700), 0);
    own_directory_write("half/labels", "raft-cluster/id=\"x\"\nraft-cluster/size=\"9\"\n");
    assert_false(resolve(&resolved, ARGUMENTS("--id=y-0", "--join-mode=k8s", "--cluster-config-path=half")));
    assert_string_equal(
        text_of(&resolved.problems),
        "cluster_config_path: can't be read (\"half/k8s-ns\": No such file or directory); give what the cluster mode "
        "needs\n"
        "cluster_config_path: labels: a label is missing (\"raft-cluster/svcName\"); add it to the pod's labels\n"
        "cluster_config_path: labels: raft-cluster/size is no size for a cluster (\"9\"); give a number from 1 to 7\n");
    release(&resolved);

    own_directory_write("half/labels", "raft-cluster/id=\"x\"\nraft-cluster/size=\"1\"\n");
    own_directory_write("half/k8s-ns", "");
    assert_false(resolve(&resolved, ARGUMENTS("--id=y-0", "--join-mode=k8s", "--cluster-config-path=half")));
    assert_string_equal(
        text_of(&resolved.problems),
        "cluster_config_path: labels: a label is missing (\"raft-cluster/svcName\"); add it to the pod's labels\n"
        "cluster_config_path: k8s-ns: is no namespace (\"\"); let the downward API write metadata.namespace there\n"
        "node_id: is not in the cluster configuration (\"y-0\", from --id); give one of x-0, or add it to half\n");
    release(&resolved);
}

static void a_port_of_the_file_may_collide_with_one_given(void **state)
{
    (void)state;
    struct resolved resolved;
    own_directory_write("c.json", "[" ROW("a", "localhost:7777", "localhost:80") "]");
    /* rpc_port comes from the file, and is the api_port that was asked for. */
    assert_false(resolve(&resolved, ARGUMENTS("--id=a", "--cluster-config-path=c.json", "--api-port=7777")));
    assert_string_equal(text_of(&resolved.problems),
                        "rpc_port: is the same as api_port (7777, from cluster_config_path); give "
                        "two different ports\n");
    release(&resolved);
    /* An api_port equal to the default rpc_port is fine when the file moves the latter. */
    own_directory_write("c.json", "[" ROW("a", "localhost:7101", "localhost:6666") "]");
    assert_true(resolve(&resolved, ARGUMENTS("--id=a", "--cluster-config-path=c.json", "--api-port=6666")));
    release(&resolved);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_host_and_port),
        cmocka_unit_test(loopback_is_recognised),
        cmocka_unit_test(a_cluster_file_names_the_members),
        cmocka_unit_test(bad_cluster_files_are_explained),
        cmocka_unit_test(a_cluster_file_that_is_no_json_is_named),
        cmocka_unit_test(a_missing_or_huge_file_is_named),
        cmocka_unit_test(labels_name_the_pods),
        cmocka_unit_test(bad_labels_are_explained),
        cmocka_unit_test(values_that_end_early_are_malformed),
        cmocka_unit_test(the_downward_directory_is_read),
        cmocka_unit_test(without_a_cluster_a_node_is_alone_on_loopback),
        cmocka_unit_test(the_listening_address_follows_the_members_entry),
        cmocka_unit_test(ports_left_at_their_defaults_are_the_files),
        cmocka_unit_test(an_even_number_of_members_is_warned_of),
        cmocka_unit_test(problems_of_settings_and_cluster_come_together),
        cmocka_unit_test(problems_of_both_files_of_a_pod_come_together),
        cmocka_unit_test(a_port_of_the_file_may_collide_with_one_given),
    };
    return cmocka_run_group_tests_name("join", tests, own_directory_enter, own_directory_leave);
}
