#define _GNU_SOURCE 1
#include "cli/cli.h"

#include <jansson.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/types.h"
#include "cli/options.h"
#include "node/settings.h"
#include "os/huge_pages.h"

struct command {
    const char *name;
    int (*run)(int argument_count, char **arguments);
    const char *summary;
};

static int version_command(int argument_count, char **arguments);
static int help_command(int argument_count, char **arguments);

static const struct command commands[] = {
    {"serve", serve_command, "run one node (also without this word, when there are only flags)"},
    {"cluster", cluster_command, "make, run and stop a cluster on this machine: init, up, down, status"},
    {"put", put_command, "set a key"},
    {"get", get_command, "print a key's value"},
    {"del", del_command, "delete a key"},
    {"status", status_command, "who is in the cluster, who leads, who is behind"},
    {"bench", bench_command, "measure puts and gets"},
    {"backup", backup_command, "copy a node's newest snapshot to a file, and check it"},
    {"restore", restore_command, "make a node's data of a backup"},
    {"debug", debug_command, "print a file of the log, a snapshot or the state for a person"},
    {"sim", sim_command, "run clusters on simulated disks and networks, and check them"},
    {"version", version_command, "print the version"},
    {"help", help_command, "this text, or that of one command: help COMMAND"},
};

const char *cli_version(void)
{
    return CORACLE_VERSION;
}

char *cli_program_path(void)
{
    char path[PATH_MAX + 1];
    ssize_t size = readlink("/proc/self/exe", path, PATH_MAX);
    if (size < 0) return mem_copy_string("coracle");
    path[size] = '\0';
    return mem_copy_string(path);
}

int cli_fail(enum cli_exit code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("coracle: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    return code;
}

void cli_print_failure(bool json, const char *code, const char *where, const char *message)
{
    if (!json) {
        if (where != NULL) {
            cli_fail(CLI_FAILED, "%s (%s, %s)", message, code, where);
        } else {
            cli_fail(CLI_FAILED, "%s", message);
        }
        return;
    }
    json_t *error = json_pack("{s:s,s:s}", "code", code, "message", message);
    if (error != NULL && where != NULL) json_object_set_new(error, "endpoint", json_string(where));
    json_t *root = json_pack("{s:o}", "error", error);
    char *text = root != NULL ? json_dumps(root, 0) : NULL;
    puts(text != NULL ? text : "{\"error\": {\"code\": \"internal\", \"message\": \"an unreadable answer\"}}");
    free(text);
    json_decref(root);
}

int cli_fail_with(bool json, enum error error, const char *format, ...)
{
    char message[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    cli_print_failure(json, error_code(error), NULL, message);
    return CLI_FAILED;
}

void cli_print_error(struct bytes lines)
{
    if (lines.size > 0) fwrite(lines.data, 1, lines.size, stderr);
}

void cli_print(struct bytes text)
{
    if (text.size == 0) return;
    if (fwrite(text.data, 1, text.size, stdout) == text.size && fflush(stdout) == 0) return;
    perror("coracle: writing to stdout");
    exit(CLI_FAILED);
}

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < ARRAY_COUNT(commands); i++) {
        if (strcmp(commands[i].name, name) == 0) return &commands[i];
    }
    return NULL;
}

static int fail_unknown(const char *name)
{
    const char *nearest = NULL;
    unsigned nearest_distance = settings_slip_max(strlen(name)) + 1;
    for (size_t i = 0; i < ARRAY_COUNT(commands); i++) {
        unsigned distance = settings_distance(name, strlen(name), commands[i].name, strlen(commands[i].name));
        if (distance >= nearest_distance) continue;
        nearest = commands[i].name;
        nearest_distance = distance;
    }
    if (nearest != NULL) return cli_fail(CLI_USAGE, "there is no command \"%s\"; did you mean \"%s\"?", name, nearest);
    return cli_fail(CLI_USAGE, "there is no command \"%s\"; `coracle help` lists them", name);
}

static int version_command(int argument_count, char **arguments)
{
    bool json = false;
    const struct option_row rows[] = {
        {.name = "json", .kind = OPTION_SWITCH, .value = &json, .help = "Print JSON, for programs."},
    };
    const struct option_table table = {
        .usage = "coracle version [flags]",
        .description = "Prints the program's version.\n",
        .rows = rows,
        .row_count = ARRAY_COUNT(rows),
    };
    size_t count;
    enum options_outcome outcome = options_parse(&table, argument_count, arguments, NULL, &count);
    if (outcome != OPTIONS_OK) return options_exit_code(outcome);
    printf(json ? "{\"coracle\": \"%s\"}\n" : "coracle %s\n", cli_version());
    return CLI_OK;
}

static int help_command(int argument_count, char **arguments)
{
    char help_flag[] = "--help";
    char *only_help[] = {help_flag, NULL};
    const struct command *command = argument_count > 0 ? find_command(arguments[0]) : NULL;
    if (command != NULL && command->run != help_command) {
        return command->run(1, only_help);
    }
    if (argument_count > 0 && command == NULL && strcmp(arguments[0], "--help") != 0 &&
        strcmp(arguments[0], "-h") != 0) {
        return fail_unknown(arguments[0]);
    }
    puts("Usage: coracle COMMAND [arguments]\n\n"
         "Coracle keeps a few gigabytes of keys and values consistent across several machines.\n\n"
         "Commands:");
    for (size_t i = 0; i < ARRAY_COUNT(commands); i++) printf("  %-9s%s\n", commands[i].name, commands[i].summary);
    puts("\nEach explains itself: coracle COMMAND --help\n\n"
         "A first try:\n"
         "  coracle cluster init && coracle cluster up --detach\n"
         "  coracle put greeting hello\n"
         "  coracle get greeting\n"
         "  coracle cluster down");
    return CLI_OK;
}

/* Names in answers choose buckets of jansson's hash tables; nobody outside may know which. */
static void seed_hashes(void)
{
    size_t seed = 0;
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed) seed = (size_t)getpid();
    json_object_seed(seed | 1);
}

int cli_run(int argument_count, char **arguments)
{
    seed_hashes();
    if (argument_count < 2) {
        help_command(0, NULL);
        return CLI_USAGE;
    }
    const char *first = arguments[1];
    if (strcmp(first, "--help") == 0 || strcmp(first, "-h") == 0) return help_command(0, NULL);
    if (strcmp(first, "--version") == 0) return version_command(0, NULL);
    if (strncmp(first, "--", 2) == 0 || strcmp(first, "serve") == 0) os_prefer_huge_pages(arguments);
    if (strncmp(first, "--", 2) == 0) return serve_command(argument_count - 1, arguments + 1);
    const struct command *command = find_command(first);
    if (command == NULL) return fail_unknown(first);
    return command->run(argument_count - 2, arguments + 2);
}
