/*
 * bench.c - `coracle bench`: the options, who leads, and the report. The load itself: bench_load.h.
 */
#include "cli/cli.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "cli/bench_load.h"
#include "cli/node_view.h"

struct bench_options {
    struct remote_options remote;
    const char *operation;
    const char *target;
    uint64_t connections, keys, value_bytes, count, duration_s, read_percent, seed;
    bool fill, verify, quiet;
};

/* The nodes, the target first; and the CPU time of each, as its metrics tell it. */
struct nodes {
    struct client_endpoint endpoints[CLIENT_ENDPOINTS_MAX];
    char names[CLIENT_ENDPOINTS_MAX][NODE_ID_BYTES_MAX + 1];
    uint32_t count;
    double cpu_before[CLIENT_ENDPOINTS_MAX], cpu_after[CLIENT_ENDPOINTS_MAX]; /* seconds; below 0: unknown */
};

static const char *const operation_names[] = {
    [BENCH_PUT] = "put", [BENCH_GET] = "get", [BENCH_MIXED] = "mixed", [BENCH_FILL] = "fill", [BENCH_VERIFY] = "verify",
};

static bool operation_parse(const char *name, enum bench_operation *out)
{
    for (size_t i = 0; i < ARRAY_COUNT(operation_names); i++) {
        if (strcmp(operation_names[i], name) != 0) continue;
        *out = (enum bench_operation)i;
        return true;
    }
    return false;
}

/* ---- the nodes ---- */

static void add_node(struct nodes *nodes, const char *name, const char *address)
{
    struct buffer ignored = {0};
    struct client_endpoint parsed[CLIENT_ENDPOINTS_MAX];
    if (nodes->count < CLIENT_ENDPOINTS_MAX && client_endpoints_parse(address, parsed, &ignored) == 1) {
        nodes->endpoints[nodes->count] = parsed[0];
        snprintf(nodes->names[nodes->count], sizeof nodes->names[0], "%.63s", name);
        nodes->count++;
    }
    buffer_free(&ignored);
}

/* Fills in the nodes. With target `leader` the leader comes first and the other members after it; else they are the
   endpoints as given. */
static int find_nodes(const struct bench_options *options, struct nodes *out)
{
    struct remote *remote = remote_new(&options->remote, false);
    if (remote == NULL) return CLI_USAGE;
    struct remote_answer answer = {0};
    struct client_request request = node_view_request(options->remote.timeout_ms);
    struct node_view view = {0};
    remote_call(remote, &request, &answer);
    remote_free(remote);
    int exit_code = CLI_OK;
    bool good = answer.error == ERR_OK && answer.status == 200 && node_view_read(buffer_bytes(&answer.body), &view);
    if (!good) {
        exit_code = remote_fail(&options->remote, &answer);
    } else if (strcmp(options->target, "leader") == 0) {
        for (uint32_t i = 0; i < view.member_count; i++) {
            const struct member_view *member = &view.members[i];
            /* An address that just worked is better than one that the cluster uses among itself. */
            bool answered = strcmp(member->node_id, view.node_id) == 0;
            if (member->leads) add_node(out, member->node_id, answered ? answer.endpoint : member->api_address);
        }
        if (out->count == 0) exit_code = cli_fail(CLI_FAILED, "%s knows no leader", answer.endpoint);
        for (uint32_t i = 0; i < view.member_count; i++) {
            if (!view.members[i].leads) add_node(out, view.members[i].node_id, view.members[i].api_address);
        }
    } else {
        struct buffer ignored = {0};
        out->count = client_endpoints_parse(options->remote.endpoints, out->endpoints, &ignored);
        buffer_free(&ignored);
        for (uint32_t i = 0; i < out->count; i++) {
            const struct client_endpoint endpoint = out->endpoints[i];
            snprintf(out->names[i], sizeof out->names[i], "%.56s:%u", endpoint.host, endpoint.port);
        }
    }
    remote_answer_free(&answer);
    return exit_code;
}

/* Reads process_cpu_seconds_total of each node. */
static void read_cpu(const struct bench_options *options, const struct nodes *nodes, double *seconds)
{
    static const char name[] = "\nprocess_cpu_seconds_total ";
    struct buffer endpoints = {0};
    for (uint32_t i = 0; i < nodes->count; i++) {
        bool v6 = strchr(nodes->endpoints[i].host, ':') != NULL;
        buffer_append_format(&endpoints, "%s%s%s%s:%u", i > 0 ? "," : "", v6 ? "[" : "", nodes->endpoints[i].host,
                             v6 ? "]" : "", nodes->endpoints[i].port);
    }
    buffer_append_byte(&endpoints, '\0');
    struct remote_options remote_options = options->remote;
    remote_options.endpoints = (const char *)endpoints.data;
    struct remote *remote = remote_new(&remote_options, true);
    struct remote_answer answers[CLIENT_ENDPOINTS_MAX] = {0};
    struct client_request request = node_view_request(2000);
    request.path = bytes_of_string("/metrics");
    for (uint32_t i = 0; remote != NULL && i < nodes->count; i++) remote_begin(remote, i, &request, &answers[i]);
    if (remote != NULL) remote_wait(remote);
    for (uint32_t i = 0; i < nodes->count; i++) {
        buffer_append_byte(&answers[i].body, '\0');
        const char *at = answers[i].status == 200 ? strstr((const char *)answers[i].body.data, name) : NULL;
        seconds[i] = at != NULL ? strtod(at + sizeof name - 1, NULL) : -1;
        remote_answer_free(&answers[i]);
    }
    remote_free(remote);
    buffer_free(&endpoints);
}

/* ---- the report ---- */

/* Microseconds of CPU time for each good answer; below 0: unknown. */
static double node_cpu_us(const struct nodes *nodes, uint32_t i, const struct bench_load_result *result)
{
    if (nodes->cpu_before[i] < 0 || nodes->cpu_after[i] < nodes->cpu_before[i] || result->good == 0) return -1;
    return (nodes->cpu_after[i] - nodes->cpu_before[i]) * 1e6 / (double)result->good;
}

static double per_second(const struct bench_load_result *result)
{
    return result->elapsed > 0 ? (double)result->good * 1e9 / (double)result->elapsed : 0;
}

static double percentile_us(const struct bench_load_result *result, uint32_t per_million)
{
    return (double)histogram_percentile(&result->latency, per_million) / 1e3;
}

static void print_text(const struct bench_options *options, enum bench_operation operation, const struct nodes *nodes,
                       const struct bench_load_result *result)
{
    printf("%s: %" PRIu64 " in %.2f s on %" PRIu64 " connections to %s%s\n", operation_names[operation], result->good,
           (double)result->elapsed / 1e9, options->connections, nodes->names[0],
           strcmp(options->target, "all") == 0 && nodes->count > 1 ? " and others" : "");
    printf("  %.0f/s   missing %" PRIu64 "   failed %" PRIu64 "   broken %" PRIu64 "\n", per_second(result),
           result->missing, result->failed, result->broken);
    if (result->failed > 0) printf("  the first failed one was answered with %d\n", result->first_failed_status);
    printf("  latency in ms: p50 %.3f   p90 %.3f   p99 %.3f   p99.9 %.3f   max %.3f\n",
           percentile_us(result, 500000) / 1e3, percentile_us(result, 900000) / 1e3,
           percentile_us(result, 990000) / 1e3, percentile_us(result, 999000) / 1e3,
           (double)result->latency.max_ns / 1e6);
    printf("  CPU in us each:");
    for (uint32_t i = 0; i < nodes->count; i++) {
        double us = node_cpu_us(nodes, i, result);
        if (us >= 0) printf(" %s %.1f  ", nodes->names[i], us);
    }
    printf(" this %.1f\n", result->good > 0 ? (double)result->cpu / 1e3 / (double)result->good : 0);
    if (operation == BENCH_VERIFY) {
        char key[BENCH_KEY_BYTES + 1] = "";
        printf("  contents: %" PRIu64 " bad\n", result->bad);
        for (uint64_t i = 0; i < result->bad && i < BENCH_BAD_SHOWN; i++) {
            bench_key(result->bad_shown[i].number, key);
            printf("    %s: %s\n", key, bench_verdict_name(result->bad_shown[i].verdict));
        }
    }
}

static void print_json(const struct bench_options *options, enum bench_operation operation, const struct nodes *nodes,
                       const struct bench_load_result *result)
{
    json_t *cpu = json_object();
    for (uint32_t i = 0; i < nodes->count; i++) {
        double us = node_cpu_us(nodes, i, result);
        json_object_set_new(cpu, nodes->names[i], us >= 0 ? json_real(us) : json_null());
    }
    double mean_us =
        result->latency.count > 0 ? (double)result->latency.sum_ns / 1e3 / (double)result->latency.count : 0;
    json_t *latency = json_pack("{s:f,s:f,s:f,s:f,s:f,s:f}", "mean", mean_us, "p50", percentile_us(result, 500000),
                                "p90", percentile_us(result, 900000), "p99", percentile_us(result, 990000), "p99_9",
                                percentile_us(result, 999000), "max", (double)result->latency.max_ns / 1e3);
    json_t *root = json_pack(
        "{s:s,s:I,s:I,s:I,s:f,s:I,s:f,s:I,s:I,s:I,s:o,s:o,s:f}", "operation", operation_names[operation], "connections",
        (json_int_t)options->connections, "keys", (json_int_t)options->keys, "value_bytes",
        (json_int_t)options->value_bytes, "seconds", (double)result->elapsed / 1e9, "count", (json_int_t)result->good,
        "per_second", per_second(result), "missing", (json_int_t)result->missing, "failed", (json_int_t)result->failed,
        "broken", (json_int_t)result->broken, "latency_us", latency, "node_cpu_us", cpu, "client_cpu_us",
        result->good > 0 ? (double)result->cpu / 1e3 / (double)result->good : 0.0);
    if (operation == BENCH_VERIFY) json_object_set_new(root, "bad", json_integer((json_int_t)result->bad));
    char *text = json_dumps(root, JSON_REAL_PRECISION(9));
    puts(text);
    free(text);
    json_decref(root);
}

/* ---- running ---- */

static int run_operation(const struct bench_options *options, enum bench_operation operation, struct nodes *nodes,
                         struct bench_content *content)
{
    static struct bench_load_result result;
    struct bench_load_options load = {
        .operation = operation,
        .endpoints = nodes->endpoints,
        .endpoint_count = nodes->count,
        .spread = strcmp(options->target, "all") == 0,
        .connection_count = (uint32_t)options->connections,
        .count = options->count,
        .duration = options->count > 0 ? 0 : (time_ns)options->duration_s * TIME_NS_PER_S,
        .read_percent = (uint32_t)options->read_percent,
        .seed = options->seed + (uint64_t)operation,
        .progress = !options->quiet && isatty(STDERR_FILENO),
        .content = content,
    };
    if (operation == BENCH_FILL || operation == BENCH_VERIFY) load.duration = 0;
    read_cpu(options, nodes, nodes->cpu_before);
    bool done = bench_load_run(&load, &result);
    read_cpu(options, nodes, nodes->cpu_after);
    if (options->remote.json) {
        print_json(options, operation, nodes, &result);
    } else {
        print_text(options, operation, nodes, &result);
    }
    fflush(stdout);
    if (!done) return cli_fail(CLI_FAILED, "it was interrupted, or nothing answered for 30 s");
    return result.bad > 0 ? CLI_FAILED : CLI_OK;
}

static int run_all(const struct bench_options *options, enum bench_operation operation)
{
    struct nodes nodes = {0};
    struct bench_content content;
    uint32_t run = 0;
    int exit_code = find_nodes(options, &nodes);
    if (exit_code != CLI_OK) return exit_code;
    if (getrandom(&run, sizeof run, 0) != sizeof run) run = (uint32_t)getpid();
    bench_content_init(&content, options->keys, (uint32_t)options->value_bytes, run);
    if (options->fill) exit_code = run_operation(options, BENCH_FILL, &nodes, &content);
    if (exit_code == CLI_OK) exit_code = run_operation(options, operation, &nodes, &content);
    if (exit_code == CLI_OK && options->verify) exit_code = run_operation(options, BENCH_VERIFY, &nodes, &content);
    bench_content_free(&content);
    return exit_code;
}

int bench_command(int argument_count, char **arguments)
{
    struct bench_options options = {
        .remote = remote_options_default(),
        .operation = "put",
        .target = "leader",
        .connections = 64,
        .keys = 1000000,
        .value_bytes = 256,
        .duration_s = 10,
        .read_percent = 90,
        .seed = 1,
    };
    const struct option_row rows[] = {
        {.name = "op",
         .kind = OPTION_TEXT,
         .value = &options.operation,
         .placeholder = "put|get|mixed|fill|verify",
         .help = "What to do. fill puts each key once, in order; verify reads each key once and checks what is there."},
        {.name = "connections",
         .kind = OPTION_NUMBER,
         .value = &options.connections,
         .placeholder = "N",
         .help = "Connections, each with one request under way.",
         .low = 1,
         .high = 20000},
        {.name = "keys",
         .kind = OPTION_NUMBER,
         .value = &options.keys,
         .placeholder = "N",
         .help = "Different keys, of 16 bytes.",
         .low = 1,
         .high = 1000000000},
        {.name = "value-size",
         .kind = OPTION_SIZE,
         .value = &options.value_bytes,
         .placeholder = "BYTES",
         .help = "Bytes of each value, random printable ones.",
         .low = BENCH_VALUE_BYTES_MIN,
         .high = 16 * 1024 * 1024},
        {.name = "duration",
         .kind = OPTION_NUMBER,
         .value = &options.duration_s,
         .placeholder = "SECONDS",
         .help = "How long, unless --count says how many.",
         .low = 1,
         .high = 1000000},
        {.name = "count",
         .kind = OPTION_NUMBER,
         .value = &options.count,
         .placeholder = "N",
         .help = "Requests; 0: as many as --duration allows."},
        {.name = "read-percent",
         .kind = OPTION_NUMBER,
         .value = &options.read_percent,
         .placeholder = "PERCENT",
         .help = "Gets among the requests of mixed.",
         .low = 0,
         .high = 100},
        {.name = "target",
         .kind = OPTION_TEXT,
         .value = &options.target,
         .placeholder = "leader|all",
         .help = "All connections to the leader, or over all endpoints."},
        {.name = "fill", .kind = OPTION_SWITCH, .value = &options.fill, .help = "Put each key once before."},
        {.name = "verify",
         .kind = OPTION_SWITCH,
         .value = &options.verify,
         .help = "Read each key afterwards, and check it."},
        {.name = "seed",
         .kind = OPTION_NUMBER,
         .value = &options.seed,
         .placeholder = "N",
         .help = "Of the order of keys. Contents differ in each run."},
        {.name = "quiet", .kind = OPTION_SWITCH, .value = &options.quiet, .help = "No progress on stderr."},
        REMOTE_ENDPOINTS_ROW(&options.remote),
        REMOTE_TIMEOUT_ROW(&options.remote),
        REMOTE_JSON_ROW(&options.remote),
    };
    const struct option_table table = {
        .usage = "coracle bench [flags]",
        .description =
            "Measures a cluster: requests a second, latencies, and the CPU time that each node spends on a request.\n"
            "It overwrites its own keys (16 hexadecimal digits) and leaves them there.\n"
            "Exit code 0: done; 1: failed, or contents weren't what was written.\n",
        .examples = "  coracle bench\n"
                    "  coracle bench --op=get --connections=16 --duration=30\n"
                    "  coracle bench --fill --op=mixed --count=1000000 --verify --json\n",
        .environment = REMOTE_ENVIRONMENT_TEXT,
        .rows = rows,
        .row_count = ARRAY_COUNT(rows),
    };
    size_t count;
    enum bench_operation operation;
    enum options_outcome outcome = options_parse(&table, argument_count, arguments, NULL, &count);
    if (outcome != OPTIONS_OK) return options_exit_code(outcome);
    if (!operation_parse(options.operation, &operation)) {
        return cli_fail(CLI_USAGE, "--op: is none of put, get, mixed, fill, verify (\"%s\")", options.operation);
    }
    if (strcmp(options.target, "leader") != 0 && strcmp(options.target, "all") != 0) {
        return cli_fail(CLI_USAGE, "--target: is neither leader nor all (\"%s\")", options.target);
    }
    if (options.connections > options.keys) {
        return cli_fail(CLI_USAGE, "--connections: are more than --keys, of which each connection needs its own");
    }
    return run_all(&options, operation);
}
