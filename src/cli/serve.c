/*
 * serve.c - `coracle serve`, which is also what runs when there are flags and no command.
 */
#define _GNU_SOURCE 1
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mutant.h"
#include "node/context.h"

static const char usage[] =
    "Usage: coracle serve --id=NAME [flags]     (or: coracle --id=NAME [flags])\n"
    "\n"
    "Runs one node until SIGTERM or SIGINT, which hand leadership over and stop it in order; a second one stops it at\n"
    "once. Exit code 0: stopped; 1: failed, the log on stderr says why; 2: the configuration is wrong, and everything\n"
    "that is wrong with it was printed.\n"
    "\n"
    "A flag beats its environment variable (--api-port: CORACLE_API_PORT), which beats the same field in the file of\n"
    "--config-file, which beats the default in brackets. Also read: NODE_ID, CLUSTER_CONFIG_PATH, RUNNING_IN_K8S_ENV.\n"
    "\n"
    "Flags:\n"
    "  --config-file=PATH\n"
    "      A JSON object of settings: {\"node_id\": \"node-1\", \"api_port\": 7777}\n"
    "  --print-config\n"
    "      Print the effective settings as JSON, and where each comes from; don't run.\n"
    "  --check\n"
    "      Only say whether settings, cluster configuration and paths are good.\n";

static const char examples[] =
    "\n"
    "Examples:\n"
    "  coracle --id=one                                   one node alone, data in ./one.coracle\n"
    "  coracle serve --id=node-1 --cluster-config-path=cluster.json --data-dir=/var/lib/coracle\n"
    "  coracle serve --config-file=/etc/coracle.json --check\n";

static int print_help(void)
{
    struct buffer text = {0};
    buffer_append_string(&text, usage);
    config_help(&text);
    buffer_append_string(&text, examples);
    cli_print(buffer_bytes(&text));
    buffer_free(&text);
    return NODE_EXIT_OK;
}

static int print_config(const struct config *config)
{
    struct buffer text = {0};
    config_print(config, &text);
    cli_print(buffer_bytes(&text));
    buffer_free(&text);
    return NODE_EXIT_OK;
}

/* In builds that have mutants: CORACLE_MUTANT names the one that this process shall be. */
static bool switch_mutant_on(void)
{
    const char *name = getenv("CORACLE_MUTANT");
    if (name == NULL || !mutant_is_built()) return true;
    enum mutant mutant = mutant_find(name);
    if (mutant == MUTANT_NONE) {
        fprintf(stderr, "coracle: there is no mutant %s\n", name);
        return false;
    }
    mutant_switch_on(mutant);
    return true;
}

static int run_node(const struct config *config, const struct join_cluster *cluster, const char *listen_host)
{
    struct lifecycle_error error = {0};
    struct context *context = context_new(config, cluster, listen_host, cli_version());
    int exit_code = NODE_EXIT_FAILED;
    if (context_start(context, &error)) exit_code = context_run(context);
    bool stopped = context_destroy(context, &error);
    return !stopped && exit_code == NODE_EXIT_OK ? NODE_EXIT_FAILED : exit_code;
}

int serve_command(int argument_count, char **arguments)
{
    struct config config;
    struct join_cluster cluster;
    struct buffer problems = {0};
    char listen_host[ADDRESS_BYTES_MAX + 1];
    int exit_code;

    if (!switch_mutant_on()) return NODE_EXIT_CONFIG;
    config_load(&config, argument_count, arguments, environ, &problems);
    if (config.help) {
        exit_code = print_help();
    } else if (config.version) {
        printf("coracle %s\n", cli_version());
        exit_code = NODE_EXIT_OK;
    } else {
        join_resolve(&config, &cluster, listen_host, &problems);
        config_check_paths(&config, &problems);
        if (problems.size > 0) {
            cli_print_error(buffer_bytes(&problems));
            exit_code = NODE_EXIT_CONFIG;
        } else if (config.print_config) {
            exit_code = print_config(&config);
        } else if (config.check) {
            cli_print_error(buffer_bytes(&config.warnings));
            puts("ok");
            exit_code = NODE_EXIT_OK;
        } else {
            exit_code = run_node(&config, &cluster, listen_host);
        }
    }
    buffer_free(&problems);
    config_free(&config);
    return exit_code;
}
