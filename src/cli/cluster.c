/*
 * cluster.c - `coracle cluster init`, `up`, `down` and `status`: a cluster on this machine.
 */
#define _GNU_SOURCE 1
#include "cli/cli.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/mem.h"
#include "cli/local_cluster.h"
#include "cli/node_view.h"

#define DEFAULT_DIRECTORY "local-cluster"
#define LEADER_WAIT_MS 30000u
#define LEADER_POLL_MS 50u
#define STOP_PATIENCE_MS 15000u
#define LOG_TAIL_BYTES 800

#define DIRECTORY_ROW(directory)                                                                                       \
    {                                                                                                                  \
        .name = "cluster-dir", .kind = OPTION_TEXT, .value = (directory), .placeholder = "DIR",                        \
        .help = "Where the cluster's configuration, logs and data are."                                                \
    }

/* ---- init ---- */

struct init_options {
    const char *directory;
    const char *prefix;
    uint64_t size, api_port_start, rpc_port_start;
    bool dry_run;
};

/* Lists the members that the options describe. False after printing why they can't be. */
static bool list_members(const struct init_options *options, struct join_cluster *out)
{
    uint64_t api = options->api_port_start;
    uint64_t rpc = options->rpc_port_start;
    size_t prefix_size = strlen(options->prefix);
    const char *separator = prefix_size > 0 && options->prefix[prefix_size - 1] == '-' ? "" : "-";
    if (api + options->size > 65536 || rpc + options->size > 65536) {
        cli_fail(CLI_USAGE, "the last node's port would be above 65535");
        return false;
    }
    if (api < rpc + options->size && rpc < api + options->size) {
        cli_fail(CLI_USAGE, "the API ports and the RPC ports overlap; start them further apart");
        return false;
    }
    *out = (struct join_cluster){.member_count = (uint32_t)options->size};
    for (uint32_t i = 0; i < out->member_count; i++) {
        struct join_member *member = &out->members[i];
        int size = snprintf(member->node_id, sizeof member->node_id, "%s%s%u", options->prefix, separator, i + 1);
        if (size >= (int)sizeof member->node_id || !join_node_id_is_valid(bytes_of_string(member->node_id))) {
            cli_fail(CLI_USAGE, "\"%s\" can't begin a node's name: use letters, digits, '-', '_' and '.'",
                     options->prefix);
            return false;
        }
        snprintf(member->rpc_host, sizeof member->rpc_host, "127.0.0.1");
        snprintf(member->api_host, sizeof member->api_host, "127.0.0.1");
        member->rpc_port = (uint16_t)(rpc + i);
        member->api_port = (uint16_t)(api + i);
    }
    return true;
}

static int init_command(int argument_count, char **arguments)
{
    struct init_options options = {DEFAULT_DIRECTORY, "node", 3, 7777, 6666, false};
    const struct option_row rows[] = {
        DIRECTORY_ROW(&options.directory),
        {.name = "cluster-size",
         .kind = OPTION_NUMBER,
         .value = &options.size,
         .placeholder = "N",
         .help = "Nodes; an odd number is best.",
         .low = 1,
         .high = MEMBERS_MAX},
        {.name = "node-prefix",
         .kind = OPTION_TEXT,
         .value = &options.prefix,
         .placeholder = "NAME",
         .help = "The nodes are NAME-1, NAME-2, …"},
        {.name = "api-port-start",
         .kind = OPTION_NUMBER,
         .value = &options.api_port_start,
         .placeholder = "PORT",
         .help = "The first node's port for clients; the next ones follow.",
         .low = 1,
         .high = 65535},
        {.name = "rpc-port-start",
         .kind = OPTION_NUMBER,
         .value = &options.rpc_port_start,
         .placeholder = "PORT",
         .help = "The first node's port for the other nodes; the next ones follow.",
         .low = 1,
         .high = 65535},
        {.name = "dry-run",
         .kind = OPTION_SWITCH,
         .value = &options.dry_run,
         .help = "Print the files that would be made, and make nothing."},
    };
    const struct option_table table = {
        .usage = "coracle cluster init [flags]",
        .description = "Makes the directories and configuration of a cluster on this machine. Nothing is started.\n",
        .examples = "  coracle cluster init\n"
                    "  coracle cluster init --cluster-size=5 --cluster-dir=five --api-port-start=9001\n",
        .rows = rows,
        .row_count = ARRAY_COUNT(rows),
    };
    size_t count;
    struct join_cluster members;
    enum options_outcome outcome = options_parse(&table, argument_count, arguments, NULL, &count);
    if (outcome != OPTIONS_OK) return options_exit_code(outcome);
    if (!list_members(&options, &members)) return CLI_USAGE;
    if (options.dry_run) return local_cluster_print(options.directory, &members) ? CLI_OK : CLI_FAILED;
    if (!local_cluster_create(options.directory, &members)) return CLI_FAILED;
    printf("made a cluster of %u in %s\n", members.member_count, options.directory);
    for (uint32_t i = 0; i < members.member_count; i++) {
        const struct join_member *member = &members.members[i];
        printf("  %s  api %s:%u  rpc %s:%u\n", member->node_id, member->api_host, member->api_port, member->rpc_host,
               member->rpc_port);
    }
    printf("run it: coracle cluster up --cluster-dir=%s\n", options.directory);
    return CLI_OK;
}

/* ---- waiting for a leader ---- */

static void append_endpoints(const struct local_cluster *cluster, struct buffer *out)
{
    for (uint32_t i = 0; i < cluster->members.member_count; i++) {
        const struct join_member *member = &cluster->members.members[i];
        bool v6 = strchr(member->api_host, ':') != NULL;
        buffer_append_format(out, "%s%s%s%s:%u", i > 0 ? "," : "", v6 ? "[" : "", member->api_host, v6 ? "]" : "",
                             member->api_port);
    }
    buffer_append_byte(out, '\0');
}

static void print_log_tail(const struct local_node *node)
{
    char tail[LOG_TAIL_BYTES];
    FILE *stream = fopen(node->log_file, "re");
    if (stream == NULL) return;
    fseek(stream, 0, SEEK_END);
    long size = ftell(stream);
    fseek(stream, size > LOG_TAIL_BYTES ? size - LOG_TAIL_BYTES : 0, SEEK_SET);
    size_t got = fread(tail, 1, sizeof tail, stream);
    fclose(stream);
    /* The first line is cut in the middle, unless it is all there is. */
    const char *line_end = size > LOG_TAIL_BYTES ? memchr(tail, '\n', got) : NULL;
    size_t skip = line_end != NULL ? (size_t)(line_end + 1 - tail) : 0;
    fwrite(tail + skip, 1, got - skip, stderr);
}

/* Asks all nodes at once; the leader's name, or "" when nobody knows one. */
static void ask_for_leader(struct remote *remote, char *leader, size_t capacity)
{
    struct remote_answer answers[CLIENT_ENDPOINTS_MAX] = {0};
    struct client_request request = node_view_request(1000);
    uint32_t count = remote_client_count(remote);
    leader[0] = '\0';
    for (uint32_t i = 0; i < count; i++) remote_begin(remote, i, &request, &answers[i]);
    remote_wait(remote);
    for (uint32_t i = 0; i < count; i++) {
        struct node_view view;
        bool answered = answers[i].error == ERR_OK && answers[i].status == 200;
        if (answered && node_view_read(buffer_bytes(&answers[i].body), &view) && view.leader[0] != '\0') {
            snprintf(leader, capacity, "%s", view.leader);
        }
        remote_answer_free(&answers[i]);
    }
}

enum leader_wait { LEADER_THERE, LEADER_MISSING, LEADER_NODE_ENDED, LEADER_INTERRUPTED };

/* `signals` are blocked; one of them ends the wait. */
static enum leader_wait wait_for_leader(struct local_cluster *cluster, const sigset_t *signals, char *leader,
                                        size_t capacity)
{
    struct buffer endpoints = {0};
    append_endpoints(cluster, &endpoints);
    struct remote_options options = {.endpoints = (const char *)endpoints.data};
    struct remote *remote = remote_new(&options, true);
    enum leader_wait outcome = LEADER_MISSING;
    for (uint64_t waited_ms = 0; remote != NULL && waited_ms < LEADER_WAIT_MS; waited_ms += LEADER_POLL_MS) {
        struct timespec pause = {.tv_nsec = LEADER_POLL_MS * 1000000};
        local_cluster_notice_ended(cluster);
        ask_for_leader(remote, leader, capacity);
        if (leader[0] != '\0') outcome = LEADER_THERE;
        if (local_cluster_running_count(cluster) < cluster->members.member_count) outcome = LEADER_NODE_ENDED;
        if (outcome == LEADER_MISSING && sigtimedwait(signals, NULL, &pause) > 0) outcome = LEADER_INTERRUPTED;
        if (outcome != LEADER_MISSING) break;
    }
    remote_free(remote);
    buffer_free(&endpoints);
    return outcome;
}

/* ---- up ---- */

static void print_commands(const struct local_cluster *cluster)
{
    char *program = cli_program_path();
    for (uint32_t i = 0; i < cluster->members.member_count; i++) {
        printf("%s serve --config-file %s\n", program, cluster->nodes[i].config_file);
    }
    mem_free(program);
}

static void print_running(const struct local_cluster *cluster, const char *leader)
{
    printf("%s leads\n", leader);
    for (uint32_t i = 0; i < cluster->members.member_count; i++) {
        const struct join_member *member = &cluster->members.members[i];
        printf("  %s  http://%s:%u  pid %d  log %s\n", member->node_id, member->api_host, member->api_port,
               (int)cluster->nodes[i].pid, cluster->nodes[i].log_file);
    }
    fflush(stdout);
}

static bool start_missing(struct local_cluster *cluster, bool bound)
{
    for (uint32_t i = 0; i < cluster->members.member_count; i++) {
        if (cluster->nodes[i].pid == 0 && !local_cluster_start_node(cluster, i, bound)) return false;
    }
    return true;
}

static void report_ended(const struct local_cluster *cluster)
{
    for (uint32_t i = 0; i < cluster->members.member_count; i++) {
        if (cluster->nodes[i].pid != 0) continue;
        cli_fail(CLI_FAILED, "%s ended; the end of its log, %s:", cluster->members.members[i].node_id,
                 cluster->nodes[i].log_file);
        print_log_tail(&cluster->nodes[i]);
    }
}

/* Stays until a signal, or until no node is left. */
static int stay(struct local_cluster *cluster, const sigset_t *signals)
{
    puts("Ctrl-C stops them.");
    fflush(stdout);
    uint32_t running = local_cluster_running_count(cluster);
    for (;;) {
        struct timespec pause = {.tv_nsec = 200000000};
        if (sigtimedwait(signals, NULL, &pause) > 0) break;
        local_cluster_notice_ended(cluster);
        uint32_t now = local_cluster_running_count(cluster);
        if (now < running) report_ended(cluster);
        running = now;
        if (running == 0) return CLI_FAILED;
    }
    bool good = local_cluster_stop(cluster, STOP_PATIENCE_MS);
    puts(good ? "stopped" : "stopped, some of them by force");
    return good ? CLI_OK : CLI_FAILED;
}

static int run_cluster(struct local_cluster *cluster, bool detach)
{
    char leader[NODE_ID_BYTES_MAX + 1];
    sigset_t signals;
    if (local_cluster_running_count(cluster) == cluster->members.member_count) {
        return cli_fail(CLI_FAILED, "it is running already; `coracle cluster down --cluster-dir=%s` stops it",
                        cluster->directory);
    }
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    enum leader_wait outcome = LEADER_NODE_ENDED;
    if (start_missing(cluster, !detach)) outcome = wait_for_leader(cluster, &signals, leader, sizeof leader);
    if (outcome == LEADER_NODE_ENDED) report_ended(cluster);
    if (outcome == LEADER_MISSING) {
        cli_fail(CLI_FAILED, "there is no leader after %u s; see the logs in %s", LEADER_WAIT_MS / 1000,
                 cluster->directory);
    }
    if (outcome != LEADER_THERE) {
        local_cluster_stop(cluster, STOP_PATIENCE_MS);
        return CLI_FAILED;
    }
    print_running(cluster, leader);
    return detach ? CLI_OK : stay(cluster, &signals);
}

static int up_command(int argument_count, char **arguments)
{
    const char *directory = DEFAULT_DIRECTORY;
    bool detach = false;
    bool dry_run = false;
    const struct option_row rows[] = {
        DIRECTORY_ROW(&directory),
        {.name = "detach",
         .kind = OPTION_SWITCH,
         .value = &detach,
         .help = "Return when there is a leader; leave them running."},
        {.name = "dry-run",
         .kind = OPTION_SWITCH,
         .value = &dry_run,
         .help = "Print the commands that would run, and do nothing."},
    };
    const struct option_table table = {
        .usage = "coracle cluster up [flags]",
        .description = "Starts the nodes that `coracle cluster init` described, and waits for a leader. Stays until "
                       "Ctrl-C, which\n"
                       "stops them all. Data of an earlier run are kept.\n",
        .examples = "  coracle cluster up\n"
                    "  coracle cluster up --detach && coracle put greeting hello && coracle cluster down\n",
        .rows = rows,
        .row_count = ARRAY_COUNT(rows),
    };
    size_t count;
    struct local_cluster cluster;
    enum options_outcome outcome = options_parse(&table, argument_count, arguments, NULL, &count);
    if (outcome != OPTIONS_OK) return options_exit_code(outcome);
    if (!local_cluster_open(directory, &cluster)) return CLI_FAILED;
    int exit_code = CLI_OK;
    if (dry_run) {
        print_commands(&cluster);
    } else {
        exit_code = run_cluster(&cluster, detach);
    }
    local_cluster_close(&cluster);
    return exit_code;
}

/* ---- down ---- */

static int down_command(int argument_count, char **arguments)
{
    const char *directory = DEFAULT_DIRECTORY;
    const struct option_row rows[] = {DIRECTORY_ROW(&directory)};
    const struct option_table table = {
        .usage = "coracle cluster down [flags]",
        .description = "Stops the nodes of a cluster on this machine, in order. Their data stay. It is no failure when "
                       "none runs.\n",
        .examples = "  coracle cluster down\n",
        .rows = rows,
        .row_count = ARRAY_COUNT(rows),
    };
    size_t count;
    struct local_cluster cluster;
    enum options_outcome outcome = options_parse(&table, argument_count, arguments, NULL, &count);
    if (outcome != OPTIONS_OK) return options_exit_code(outcome);
    if (!local_cluster_open(directory, &cluster)) return CLI_FAILED;
    uint32_t running = local_cluster_running_count(&cluster);
    bool good = local_cluster_stop(&cluster, STOP_PATIENCE_MS);
    if (running == 0) {
        puts("none was running");
    } else {
        printf("stopped %u%s\n", running, good ? "" : ", some of them by force");
    }
    local_cluster_close(&cluster);
    return good ? CLI_OK : CLI_FAILED;
}

/* ---- status ---- */

/* `width`: of a node's name. */
static void print_row(const struct local_cluster *cluster, uint32_t i, const struct remote_answer *answer, int width)
{
    struct node_view view;
    char pid[16] = "-";
    const char *node_id = cluster->members.members[i].node_id;
    if (cluster->nodes[i].pid != 0) snprintf(pid, sizeof pid, "%d", (int)cluster->nodes[i].pid);
    bool answered = answer->error == ERR_OK && answer->status == 200;
    if (answered && node_view_read(buffer_bytes(&answer->body), &view)) {
        printf("%-*s  %-8s %-14s %-11s %-*s  %6" PRIu64 " %10" PRIu64 " %10" PRIu64 "  %s\n", width, node_id, pid,
               view.role, node_view_health(&view), width, view.leader[0] != '\0' ? view.leader : "-", view.term,
               view.commit_index, view.applied_index, view.apply_hash);
    } else {
        printf("%-*s  %-8s %-14s %s\n", width, node_id, pid, "-",
               cluster->nodes[i].pid != 0 ? "no answer" : "not running");
    }
}

static json_t *row_json(const struct local_cluster *cluster, uint32_t i, const struct remote_answer *answer)
{
    bool answered = answer->error == ERR_OK && answer->status == 200;
    json_t *row = json_object();
    json_t *view = answered ? node_view_json(buffer_bytes(&answer->body), answer->endpoint) : NULL;
    json_object_set_new(row, "node_id", json_string(cluster->members.members[i].node_id));
    json_object_set_new(row, "pid", cluster->nodes[i].pid != 0 ? json_integer(cluster->nodes[i].pid) : json_null());
    json_object_set_new(row, "status", view != NULL ? view : json_null());
    return row;
}

static void print_cluster(const struct local_cluster *cluster, const struct remote_answer *answers, bool json)
{
    if (!json) {
        int width = (int)strlen("LEADER");
        for (uint32_t i = 0; i < cluster->members.member_count; i++) {
            int size = (int)strlen(cluster->members.members[i].node_id);
            if (size > width) width = size;
        }
        printf("%-*s  %-8s %-14s %-11s %-*s  %6s %10s %10s  %s\n", width, "NODE", "PID", "ROLE", "HEALTH", width,
               "LEADER", "TERM", "COMMITTED", "APPLIED", "HASH");
        for (uint32_t i = 0; i < cluster->members.member_count; i++) print_row(cluster, i, &answers[i], width);
        return;
    }
    json_t *list = json_array();
    for (uint32_t i = 0; i < cluster->members.member_count; i++) {
        json_array_append_new(list, row_json(cluster, i, &answers[i]));
    }
    char *text = json_dumps(list, 0);
    puts(text);
    free(text);
    json_decref(list);
}

static int cluster_status_command(int argument_count, char **arguments)
{
    const char *directory = DEFAULT_DIRECTORY;
    struct remote_options options = remote_options_default();
    options.timeout_ms = 2000;
    const struct option_row rows[] = {DIRECTORY_ROW(&directory), REMOTE_TIMEOUT_ROW(&options),
                                      REMOTE_JSON_ROW(&options)};
    const struct option_table table = {
        .usage = "coracle cluster status [flags]",
        .description = "Asks every node of a cluster on this machine, and prints what each says of itself.\n"
                       "Exit code 0: all answered; 1: some didn't.\n",
        .examples = "  coracle cluster status\n",
        .rows = rows,
        .row_count = ARRAY_COUNT(rows),
    };
    size_t count;
    struct local_cluster cluster;
    enum options_outcome outcome = options_parse(&table, argument_count, arguments, NULL, &count);
    if (outcome != OPTIONS_OK) return options_exit_code(outcome);
    if (!local_cluster_open(directory, &cluster)) return CLI_FAILED;

    struct remote_answer answers[MEMBERS_MAX] = {0};
    struct buffer endpoints = {0};
    append_endpoints(&cluster, &endpoints);
    options.endpoints = (const char *)endpoints.data;
    struct remote *remote = remote_new(&options, true);
    int exit_code = remote != NULL ? CLI_OK : CLI_FAILED;
    struct client_request request = node_view_request(options.timeout_ms);
    if (remote != NULL) {
        for (uint32_t i = 0; i < cluster.members.member_count; i++) remote_begin(remote, i, &request, &answers[i]);
        remote_wait(remote);
        print_cluster(&cluster, answers, options.json);
    }
    for (uint32_t i = 0; i < cluster.members.member_count; i++) {
        if (answers[i].error != ERR_OK || answers[i].status != 200) exit_code = CLI_FAILED;
        remote_answer_free(&answers[i]);
    }
    remote_free(remote);
    buffer_free(&endpoints);
    local_cluster_close(&cluster);
    return exit_code;
}

/* ---- all of them ---- */

int cluster_command(int argument_count, char **arguments)
{
    static const struct {
        const char *name;
        int (*run)(int argument_count, char **arguments);
    } commands[] = {
        {"init", init_command},
        {"up", up_command},
        {"down", down_command},
        {"status", cluster_status_command},
    };
    for (size_t i = 0; argument_count > 0 && i < ARRAY_COUNT(commands); i++) {
        if (strcmp(arguments[0], commands[i].name) == 0) return commands[i].run(argument_count - 1, arguments + 1);
    }
    bool help = argument_count > 0 && (strcmp(arguments[0], "--help") == 0 || strcmp(arguments[0], "-h") == 0);
    if (argument_count > 0 && !help) {
        return cli_fail(CLI_USAGE, "there is no command \"cluster %s\"; there are init, up, down, status",
                        arguments[0]);
    }
    fputs("Usage: coracle cluster init|up|down|status [flags]\n\n"
          "A cluster on this machine, for trying out and for tests.\n\n"
          "  init    make its directories and configuration; with --dry-run print what it would make\n"
          "  up      start its nodes, and stay until Ctrl-C (or --detach); with --dry-run print the commands\n"
          "  down    stop them; takes no --dry-run\n"
          "  status  ask each node how it is; changes nothing, so it takes no --dry-run either\n\n"
          "Each explains itself: coracle cluster up --help\n",
          help ? stdout : stderr);
    return help ? CLI_OK : CLI_USAGE;
}
