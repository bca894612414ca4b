/*
 * Config: precedence, the path rule, and bad input: each problem by field, all of them at once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "node/config.h"
#include "node/join.h"
#include "node/own_directory.h"
#include "node/settings.h"

#define ARGUMENTS_MAX 16

/* Splits at '\n', so that a table can hold a command line or an environment. */
struct words {
    char text[1024];
    char *at[ARGUMENTS_MAX + 1];
    int count;
};

static struct words *split(struct words *words, const char *text)
{
    *words = (struct words){0};
    snprintf(words->text, sizeof words->text, "%s", text);
    for (char *word = strtok(words->text, "\n"); word != NULL; word = strtok(NULL, "\n")) {
        assert_true(words->count < ARGUMENTS_MAX);
        words->at[words->count++] = word;
    }
    return words;
}

/* Loads; the problems as a string, owned by the caller. */
static char *load(struct config *config, const char *arguments, const char *environment)
{
    struct words argument_words;
    struct words environment_words;
    struct buffer problems = {0};
    split(&argument_words, arguments);
    split(&environment_words, environment);
    bool good = config_load(config, argument_words.count, argument_words.at, environment_words.at, &problems);
    assert_int_equal(good, problems.size == 0);
    buffer_append_byte(&problems, '\0');
    return (char *)problems.data;
}

static void load_good(struct config *config, const char *arguments, const char *environment)
{
    char *problems = load(config, arguments, environment);
    assert_string_equal(problems, "");
    mem_free(problems);
}

/* ---- values and where they come from ---- */

static void defaults_are_the_documented_ones(void **state)
{
    (void)state;
    struct config config;
    load_good(&config, "--id=node-1", "");
    assert_string_equal(config_text(&config, SETTING_NODE_ID), "node-1");
    assert_int_equal(config_number(&config, SETTING_API_PORT), 7777);
    assert_int_equal(config_number(&config, SETTING_RPC_PORT), 6666);
    assert_int_equal(config_number(&config, SETTING_CLUSTER_MODE), CLUSTER_MODE_STATIC);
    assert_int_equal(config_number(&config, SETTING_ELECTION_TIMEOUT), 1000);
    assert_int_equal(config_number(&config, SETTING_HEARTBEAT), 100);
    assert_int_equal(config_number(&config, SETTING_RPC_TIMEOUT), 1000);
    assert_int_equal(config_number(&config, SETTING_API_TIMEOUT), 2000);
    assert_int_equal(config_number(&config, SETTING_API_FWD_TIMEOUT), 1500);
    assert_int_equal(config_number(&config, SETTING_CONN_RETRY_ATTEMPTS), 5);
    assert_int_equal(config_number(&config, SETTING_MAX_REQUEST_BYTES), 1536 * 1024);
    assert_int_equal(config_number(&config, SETTING_FORCE_START), 0);
    assert_null(config_text(&config, SETTING_CLUSTER_CONFIG_PATH));
    assert_string_equal(config.log_directory, "node-1.coracle/log");
    assert_string_equal(config.log_metadata_file, "node-1.coracle/log/metadata");
    assert_string_equal(config.raft_state_file, "node-1.coracle/state");
    assert_string_equal(config.snapshot_directory, "node-1.coracle/snapshot");
    assert_string_equal(config.lock_file, "node-1.coracle/state.lock");
    config_free(&config);
}

static void the_specified_launch_line_is_understood(void **state)
{
    (void)state;
    struct config config;
    load_good(&config,
              "--id=node-1\n--api-port=7777\n--rpc-port=6666\n--log-entry-path=D/log\n"
              "--log-metadata-path=D/log/metadata.json\n--raft-state-path=D/state/state.json\n--election-timeout=3000\n"
              "--heartbeat=500\n--rpc-timeout=1000\n--api-timeout=2000\n--api-fwd-timeout=1500\n"
              "--max-conn-retry-attempts=5\n--snapshot-path=D/snapshot\n--join-mode=cluster-file\n"
              "--cluster-config-path=D/cluster/config.json",
              "");
    assert_int_equal(config_number(&config, SETTING_CLUSTER_MODE), CLUSTER_MODE_CLUSTER_FILE);
    assert_string_equal(config.log_metadata_file, "D/log/metadata.json");
    assert_string_equal(config.raft_state_file, "D/state/state.json");
    assert_string_equal(config_text(&config, SETTING_CLUSTER_CONFIG_PATH), "D/cluster/config.json");
    config_free(&config);
}

static void flag_beats_environment_beats_file_beats_default(void **state)
{
    (void)state;
    own_directory_write("c.json",
                        "{\"node_id\": \"from-file\", \"api_port\": 1001, \"rpc_port\": 1002,"
                        " \"rpc_timeout_in_millis\": 1003, \"force_start\": true, \"max_request_bytes\": \"64KiB\"}");
    struct config config;
    load_good(&config, "--config-file=c.json\n--api-port=3001", "CORACLE_API_PORT=2001\nCORACLE_RPC_PORT=2002");
    assert_int_equal(config_number(&config, SETTING_API_PORT), 3001);
    assert_string_equal(config.values[SETTING_API_PORT].origin, "--api-port");
    assert_int_equal(config_number(&config, SETTING_RPC_PORT), 2002);
    assert_string_equal(config.values[SETTING_RPC_PORT].origin, "CORACLE_RPC_PORT");
    assert_int_equal(config_number(&config, SETTING_RPC_TIMEOUT), 1003);
    assert_string_equal(config.values[SETTING_RPC_TIMEOUT].origin, "c.json");
    assert_int_equal(config_number(&config, SETTING_API_TIMEOUT), 2000);
    assert_string_equal(config.values[SETTING_API_TIMEOUT].origin, "default");
    assert_int_equal(config_number(&config, SETTING_FORCE_START), 1);
    assert_int_equal(config_number(&config, SETTING_MAX_REQUEST_BYTES), 65536);
    assert_string_equal(config_text(&config, SETTING_NODE_ID), "from-file");
    config_free(&config);
}

static void the_original_images_variables_are_read(void **state)
{
    (void)state;
    struct config config;
    load_good(&config, "", "NODE_ID=pod-0\nCLUSTER_CONFIG_PATH=/etc/podinfo\nRUNNING_IN_K8S_ENV=true");
    assert_string_equal(config_text(&config, SETTING_NODE_ID), "pod-0");
    assert_string_equal(config_text(&config, SETTING_CLUSTER_CONFIG_PATH), "/etc/podinfo");
    assert_int_equal(config_number(&config, SETTING_CLUSTER_MODE), CLUSTER_MODE_K8S);
    config_free(&config);

    load_good(&config, "", "NODE_ID=pod-0\nCORACLE_ID=ours\nRUNNING_IN_K8S_ENV=false");
    assert_string_equal(config_text(&config, SETTING_NODE_ID), "ours");
    assert_int_equal(config_number(&config, SETTING_CLUSTER_MODE), CLUSTER_MODE_STATIC);
    config_free(&config);

    load_good(&config, "--join-mode=static", "NODE_ID=pod-0\nRUNNING_IN_K8S_ENV=1");
    assert_int_equal(config_number(&config, SETTING_CLUSTER_MODE), CLUSTER_MODE_STATIC);
    config_free(&config);
}

static void an_empty_variable_is_not_set(void **state)
{
    (void)state;
    struct config config;
    load_good(&config, "--id=a", "CORACLE_API_PORT=\nNODE_ID=");
    assert_int_equal(config_number(&config, SETTING_API_PORT), 7777);
    config_free(&config);
}

static void a_kubernetes_service_link_is_no_port(void **state)
{
    (void)state;
    struct config config;
    load_good(&config, "--id=a", "CORACLE_API_PORT=tcp://10.96.0.7:7777");
    assert_int_equal(config_number(&config, SETTING_API_PORT), 7777);
    buffer_append_byte(&config.warnings, '\0');
    assert_string_equal(
        (char *)config.warnings.data,
        "api_port: ignored CORACLE_API_PORT=tcp://10.96.0.7:7777, which describes a service of that name; "
        "set enableServiceLinks: false\n");
    config_free(&config);
}

static void flags_take_their_values_in_both_ways(void **state)
{
    (void)state;
    struct config config;
    load_good(&config, "--id\na\n--api-port\n1\n--heartbeat-interval=7\n--force-start\n--rpc-port=2", "");
    assert_int_equal(config_number(&config, SETTING_API_PORT), 1);
    assert_int_equal(config_number(&config, SETTING_HEARTBEAT), 7);
    assert_int_equal(config_number(&config, SETTING_FORCE_START), 1);
    config_free(&config);
    load_good(&config, "--id=a\n--force-start=false", "");
    assert_int_equal(config_number(&config, SETTING_FORCE_START), 0);
    config_free(&config);
}

static void every_setting_has_a_flag_a_variable_and_a_field(void **state)
{
    (void)state;
    for (unsigned i = 0; i < SETTING_COUNT; i++) {
        const struct setting *setting = &settings_table[i];
        assert_non_null(setting->field);
        assert_non_null(setting->help);
        assert_int_equal(settings_find_flag(setting->flag, strlen(setting->flag)), i);
        assert_int_equal(settings_find_field(setting->field), i);
        char name[64];
        settings_environment_name(setting->flag, name);
        assert_int_equal(strncmp(name, "CORACLE_", 8), 0);
        for (const char *at = name; *at != '\0'; at++) assert_true(*at == '_' || (*at >= 'A' && *at <= 'Z'));
    }
    assert_int_equal(settings_find_flag("api-por", 7), SETTING_COUNT);
    assert_int_equal(settings_find_flag("api-porta", 9), SETTING_COUNT);
}

/* ---- bad input ---- */

struct bad_case {
    const char *arguments;
    const char *environment;
    const char *file; /* contents of c.json; NULL: none */
    const char *problems;
};

static const struct bad_case bad_cases[] = {
    {"", "", NULL, "node_id: is required (not set); give --id or NODE_ID\n"},
    {"--id=a b", "", NULL,
     "node_id: is not a node's name (\"a b\", from --id); use at most 63 letters, digits, '-', '_' and '.', beginning "
     "with a "
     "letter or digit\n"},
    {"--id=", "", NULL, "node_id: is empty (\"\", from --id); give a text\n"},
    {"--id=a\n--api-port=0", "", NULL, "api_port: is out of range (0, from --api-port); give a port from 1 to 65535\n"},
    {"--id=a\n--api-port=65536", "", NULL,
     "api_port: is out of range (65536, from --api-port); give a port from 1 to 65535\n"},
    {"--id=a\n--api-port=99999999999999999999", "", NULL,
     "api_port: is out of range (99999999999999999999, from --api-port); give a port from 1 to 65535\n"},
    {"--id=a\n--api-port=-1", "", NULL,
     "api_port: is not a whole number (-1, from --api-port); give a port from 1 to 65535\n"},
    {"--id=a\n--api-port=0x10", "", NULL,
     "api_port: is not a whole number (0x10, from --api-port); give a port from 1 to 65535\n"},
    {"--id=a\n--api-port= 80", "", NULL,
     "api_port: is not a whole number ( 80, from --api-port); give a port from 1 to 65535\n"},
    {"--id=a", "CORACLE_RPC_TIMEOUT=1s", NULL,
     "rpc_timeout_in_millis: is not a whole number (1s, from CORACLE_RPC_TIMEOUT); give milliseconds from 10 to "
     "3600000, "
     "without a unit\n"},
    {"--id=a\n--heartbeat=500\n--election-timeout=1000", "", NULL,
     "heartbeat_interval_in_millis: is more than a third of election_timeout_in_millis, 1000 (500, from --heartbeat); "
     "shorten it, or lengthen the election timeout; a tenth of it is usual\n"},
    {"--id=a\n--api-timeout=1000", "", NULL,
     "api_fwd_timeout_in_millis: is more than api_timeout_in_millis, 1000 (1500, from default); shorten it; the "
     "request has "
     "been answered by then\n"},
    {"--id=a\n--join-mode=consul", "", NULL,
     "cluster_mode: is not one of its values (\"consul\", from --join-mode); give one of static, cluster-file, k8s\n"},
    {"--id=a\n--join-mode=k8s", "", NULL,
     "cluster_config_path: is required in mode k8s (not set); give the directory that the downward API fills\n"},
    {"--id=a", "RUNNING_IN_K8S_ENV=perhaps", NULL,
     "cluster_mode: is neither true nor false (\"perhaps\", from RUNNING_IN_K8S_ENV); give true or false\n"},
    {"--id=a\n--force-start=yes", "", NULL,
     "force_start: is neither true nor false (yes, from --force-start); give true or false\n"},
    {"--id=a\n--max-request-bytes=3MiB", "", NULL,
     "max_request_bytes: is out of range (3MiB, from --max-request-bytes); give bytes, KiB, MiB or GiB, from 1 to "
     "1920KiB\n"},
    {"--id=a\n--max-request-bytes=1MB", "", NULL,
     "max_request_bytes: is not a whole number (1MB, from --max-request-bytes); give bytes, KiB, MiB or GiB, from 1 to "
     "1920KiB\n"},
    {"--id=a\n--log-level=loud", "", NULL,
     "log_level: is not one of its values (\"loud\", from --log-level); give one of debug, info, warn, error\n"},
    {"--id=a\n--log-level=", "", NULL,
     "log_level: is not one of its values (\"\", from --log-level); give one of debug, info, warn, error\n"},
    /* flags */
    {"--id=a\n--api-prt=5", "", NULL, "--api-prt: there is no such flag (--api-prt=5); did you mean --api-port?\n"},
    {"--id=a\n--node-id=a", "", NULL, "--node-id: there is no such flag (--node-id=a); did you mean --id?\n"},
    {"--id=a\n--chekc", "", NULL, "--chekc: there is no such flag (--chekc); did you mean --check?\n"},
    {"--id=a\n--frobnicate", "", NULL,
     "--frobnicate: there is no such flag (--frobnicate); `coracle serve --help` lists them\n"},
    {"--id=a\nstray", "", NULL, "arguments: there is one that is no flag (\"stray\"); write --flag=value\n"},
    {"--id=a\n--api-port", "", NULL, "api_port: has no value (--api-port); write --api-port=VALUE\n"},
    {"--id=a\n--api-port\n--rpc-port=1", "", NULL, "api_port: has no value (--api-port); write --api-port=VALUE\n"},
    {"--id=a\n--config-file", "", NULL, "config_file: has no value (--config-file); write --config-file=VALUE\n"},
    /* the file */
    {"--id=a\n--config-file=missing.json", "", NULL,
     "config_file: can't be read (\"missing.json\": No such file or directory); give the path of a JSON file\n"},
    {"--id=a\n--config-file=c.json", "", "[1]", "config_file: is a list (\"c.json\"); write {\"node_id\": …}\n"},
    {"--id=a\n--config-file=c.json", "", "{\"api_prot\": 1}",
     "api_prot: there is no such field (in c.json); did you mean api_port?\n"},
    {"--id=a\n--config-file=c.json", "", "{\"heartbeat\": 1}",
     "heartbeat: there is no such field (in c.json); did you mean heartbeat_interval_in_millis?\n"},
    {"--id=a\n--config-file=c.json", "", "{\"x\": 1}",
     "x: there is no such field (in c.json); `coracle serve --print-config` shows all fields\n"},
    {"--id=a\n--config-file=c.json", "", "{\"api_port\": \"7777\"}",
     "api_port: is a text (\"7777\", in c.json); give a whole number, without quotes\n"},
    {"--id=a\n--config-file=c.json", "", "{\"api_port\": 1.5}",
     "api_port: is a fraction (1.5, in c.json); give a whole number, without quotes\n"},
    {"--id=a\n--config-file=c.json", "", "{\"api_port\": null}",
     "api_port: is null (null, in c.json); give a whole number, without quotes\n"},
    {"--config-file=c.json", "", "{\"node_id\": 5}",
     "node_id: is a number (5, in c.json); give a text in quotes\n"
     "node_id: is required (not set); give --id or NODE_ID\n"},
    {"--id=a\n--config-file=c.json", "", "{\"force_start\": \"true\"}",
     "force_start: is a text (\"true\", in c.json); give true or false, without quotes\n"},
    {"--id=a\n--config-file=c.json", "", "{\"log_cache_bytes\": []}",
     "log_cache_bytes: is a list ([], in c.json); give a whole number, or a text such as \"64MiB\"\n"},
    {"--id=a\n--config-file=c.json", "", "{\"api_port\": -5}",
     "api_port: is not a whole number (-5, from c.json); give a port from 1 to 65535\n"},
    /* places */
    {"--id=a\n--raft-state-path=D/x\n--log-metadata-path=D/x", "", NULL,
     "raft_state_path: is in the place of what write_ahead_log_metadata_path puts there (\"D/x\", from "
     "--raft-state-path); "
     "give each its own path\n"},
    {"--id=a\n--log-entry-path=D\n--snapshot-path=D\n--log-metadata-path=D/metadata", "", NULL,
     "write_ahead_log_metadata_path: is in the place of what snapshot_path puts there (\"D/metadata\", from "
     "--log-metadata-path); give each its own path\n"},
    {"--id=a\n--raft-state-path=D/log\n--log-entry-path=D/log/", "", NULL,
     "raft_state_path: is in the place of what write_ahead_log_entry_path puts there (\"D/log\", from "
     "--raft-state-path); "
     "give each its own path\n"},
};

static void bad_input_is_named_by_field(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(bad_cases); i++) {
        const struct bad_case *bad = &bad_cases[i];
        if (bad->file != NULL) own_directory_write("c.json", bad->file);
        struct config config;
        char *problems = load(&config, bad->arguments, bad->environment);
        assert_string_equal(problems, bad->problems);
        mem_free(problems);
        config_free(&config);
    }
}

static void broken_json_is_named_with_its_line(void **state)
{
    (void)state;
    own_directory_write("c.json", "{\"api_port\": 1,\n \"rpc_port\": }");
    struct config config;
    char *problems = load(&config, "--id=a\n--config-file=c.json", "");
    assert_non_null(strstr(problems, "config_file: is not valid JSON (\"c.json\", line 2, column "));
    mem_free(problems);
    config_free(&config);

    own_directory_write("c.json", "{\"api_port\": 1, \"api_port\": 2}");
    problems = load(&config, "--id=a\n--config-file=c.json", "");
    assert_non_null(strstr(problems, "duplicate object key"));
    mem_free(problems);
    config_free(&config);
}

static void all_problems_come_at_once(void **state)
{
    (void)state;
    own_directory_write("c.json", "{\"aip_port\": 1, \"rpc_port\": \"x\"}");
    struct config config;
    char *problems = load(
        &config, "--config-file=c.json\n--electoin-timeout=5\nstray\n--api-port=0\n--join-mode=k8s\n--heartbeat=900",
        "CORACLE_LOG_FORMAT=xml");
    assert_string_equal(
        problems,
        "--electoin-timeout: there is no such flag (--electoin-timeout=5); did you mean --election-timeout?\n"
        "arguments: there is one that is no flag (\"stray\"); write --flag=value\n"
        "aip_port: there is no such field (in c.json); did you mean api_port?\n"
        "rpc_port: is a text (\"x\", in c.json); give a whole number, without quotes\n"
        "api_port: is out of range (0, from --api-port); give a port from 1 to 65535\n"
        "log_format: is not one of its values (\"xml\", from CORACLE_LOG_FORMAT); give one of text, json\n"
        "node_id: is required (not set); give --id or NODE_ID\n"
        "heartbeat_interval_in_millis: is more than a third of election_timeout_in_millis, 1000 (900, from "
        "--heartbeat); "
        "shorten it, or lengthen the election timeout; a tenth of it is usual\n"
        "cluster_config_path: is required in mode k8s (not set); give the directory that the downward API fills\n");
    mem_free(problems);
    config_free(&config);
}

static void limits_are_inclusive(void **state)
{
    (void)state;
    struct config config;
    load_good(&config, "--id=a\n--api-port=65535\n--rpc-port=1\n--heartbeat=333\n--election-timeout=1000", "");
    config_free(&config);
    char *problems = load(&config, "--id=a\n--heartbeat=334\n--election-timeout=1000", "");
    assert_non_null(strstr(problems, "heartbeat_interval_in_millis"));
    mem_free(problems);
    config_free(&config);
    char id[128] = "--id=";
    memset(id + 5, 'x', NODE_ID_BYTES_MAX);
    load_good(&config, id, "");
    config_free(&config);
    id[5 + NODE_ID_BYTES_MAX] = 'x';
    problems = load(&config, id, "");
    assert_non_null(strstr(problems, "node_id: is not a node's name"));
    mem_free(problems);
    config_free(&config);
}

/* ---- paths ---- */

static void check_path(const char *path, const char *file_name, const char *expected)
{
    char *resolved = config_resolve_path(path, file_name);
    assert_string_equal(resolved, expected);
    mem_free(resolved);
}

static void a_directory_gets_our_file_inside(void **state)
{
    (void)state;
    assert_int_equal(mkdir("there", 0700), 0);
    own_directory_write("file", "x");
    check_path("there", "state", "there/state");
    check_path("there/", "state", "there/state");
    check_path("there//", "state", "there/state");
    check_path("not-there", "state", "not-there");
    check_path("not-there/", "state", "not-there/state");
    check_path("file", "state", "file");
    check_path("/", "state", "/state");
}

static void paths_that_can_be_used_are_left_as_they_were(void **state)
{
    (void)state;
    struct config config;
    struct buffer problems = {0};
    load_good(&config, "--id=a\n--data-dir=deep/er/data", "");
    assert_true(config_check_paths(&config, &problems));
    assert_int_equal(problems.size, 0);
    assert_int_not_equal(access("deep", F_OK), 0);
    config_free(&config);
}

static void paths_that_cant_be_used_are_named(void **state)
{
    (void)state;
    struct config config;
    struct buffer problems = {0};
    own_directory_write("file", "x");
    assert_int_equal(mkfifo("pipe", 0600), 0);
    load_good(&config,
              "--id=a\n--log-entry-path=file/log\n--snapshot-path=file\n--raft-state-path=pipe\n"
              "--log-metadata-path=fine/metadata",
              "");
    assert_false(config_check_paths(&config, &problems));
    buffer_append_byte(&problems, '\0');
    assert_string_equal(
        (char *)problems.data,
        "write_ahead_log_entry_path: can't be used: file/log: Not a directory (\"file/log\", from --log-entry-path); a "
        "part of "
        "the path is a file; choose another path\n"
        "raft_state_path: is not a regular file (\"pipe\", from --raft-state-path); choose another path\n"
        "snapshot_path: can't be used: file: Not a directory (\"file\", from --snapshot-path); a part of the path is a "
        "file; "
        "choose another path\n");
    assert_int_not_equal(access("fine", F_OK), 0);
    buffer_free(&problems);
    config_free(&config);
}

static void a_path_that_is_taken_is_not_blamed_for_what_stands_there(void **state)
{
    (void)state;
    struct config config;
    struct buffer problems = {0};
    char *text = load(&config, "--id=a\n--log-entry-path=same\n--log-metadata-path=same", "");
    assert_string_equal(text,
                        "write_ahead_log_metadata_path: is in the place of what write_ahead_log_entry_path puts there "
                        "(\"same\", from --log-metadata-path); give each its own path\n");
    assert_true(config_check_paths(&config, &problems));
    assert_int_equal(problems.size, 0);
    mem_free(text);
    config_free(&config);
}

/* ---- printing ---- */

static void printing_shows_value_and_origin(void **state)
{
    (void)state;
    struct config config;
    struct buffer text = {0};
    load_good(&config, "--id=a\n--api-port=81\n--raft-state-path=S/\n--force-start", "CORACLE_RPC_PORT=82");
    config_print(&config, &text);
    buffer_append_byte(&text, '\0');
    const char *printed = (const char *)text.data;
    assert_non_null(strstr(printed, "\"node_id\": {\"value\": \"a\", \"from\": \"--id\"}"));
    assert_non_null(strstr(printed, "\"api_port\": {\"value\": 81, \"from\": \"--api-port\"}"));
    assert_non_null(strstr(printed, "\"rpc_port\": {\"value\": 82, \"from\": \"CORACLE_RPC_PORT\"}"));
    assert_non_null(strstr(printed, "\"raft_state_path\": {\"value\": \"S/state\", \"from\": \"--raft-state-path\"}"));
    assert_non_null(strstr(printed, "\"force_start\": {\"value\": true, \"from\": \"--force-start\"}"));
    assert_non_null(strstr(printed, "\"cluster_config_path\": {\"value\": null, \"from\": \"default\"}"));
    buffer_free(&text);
    config_free(&config);
}

static void help_names_every_flag(void **state)
{
    (void)state;
    struct buffer text = {0};
    config_help(&text);
    buffer_append_byte(&text, '\0');
    for (unsigned i = 0; i < SETTING_COUNT; i++) {
        char flag[64];
        snprintf(flag, sizeof flag, "  --%s", settings_table[i].flag);
        assert_non_null(strstr((const char *)text.data, flag));
    }
    buffer_free(&text);
}

static void asking_for_help_needs_nothing_else(void **state)
{
    (void)state;
    struct config config;
    load_good(&config, "--help", "");
    assert_true(config.help);
    config_free(&config);
    load_good(&config, "--version", "CORACLE_API_PORT=x");
    assert_true(config.version);
    config_free(&config);
    load_good(&config, "--id=a\n--check\n--print-config", "");
    assert_true(config.check && config.print_config);
    config_free(&config);
}

static void distance_counts_slips(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        unsigned distance;
    } cases[] = {
        {"", "", 0},     {"a", "", 1},        {"", "abc", 3},           {"abc", "abc", 0},          {"abc", "acb", 1},
        {"ab", "ba", 1}, {"abcd", "abxd", 1}, {"kitten", "sitting", 3}, {"api-prt", "api-port", 1}, {"ca", "abc", 3},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        const char *a = cases[i].a;
        const char *b = cases[i].b;
        assert_int_equal(settings_distance(a, strlen(a), b, strlen(b)), cases[i].distance);
        assert_int_equal(settings_distance(b, strlen(b), a, strlen(a)), cases[i].distance);
    }
    char longest[80];
    memset(longest, 'x', sizeof longest);
    assert_int_equal(settings_distance(longest, sizeof longest, "x", 1), 255);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_the_documented_ones),
        cmocka_unit_test(the_specified_launch_line_is_understood),
        cmocka_unit_test(flag_beats_environment_beats_file_beats_default),
        cmocka_unit_test(the_original_images_variables_are_read),
        cmocka_unit_test(an_empty_variable_is_not_set),
        cmocka_unit_test(a_kubernetes_service_link_is_no_port),
        cmocka_unit_test(flags_take_their_values_in_both_ways),
        cmocka_unit_test(every_setting_has_a_flag_a_variable_and_a_field),
        cmocka_unit_test(bad_input_is_named_by_field),
        cmocka_unit_test(broken_json_is_named_with_its_line),
        cmocka_unit_test(all_problems_come_at_once),
        cmocka_unit_test(limits_are_inclusive),
        cmocka_unit_test(a_directory_gets_our_file_inside),
        cmocka_unit_test(paths_that_can_be_used_are_left_as_they_were),
        cmocka_unit_test(paths_that_cant_be_used_are_named),
        cmocka_unit_test(a_path_that_is_taken_is_not_blamed_for_what_stands_there),
        cmocka_unit_test(printing_shows_value_and_origin),
        cmocka_unit_test(help_names_every_flag),
        cmocka_unit_test(asking_for_help_needs_nothing_else),
        cmocka_unit_test(distance_counts_slips),
    };
    return cmocka_run_group_tests_name("config", tests, own_directory_enter, own_directory_leave);
}
