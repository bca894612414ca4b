/*
 * cli.h - the program's commands. Each is a row of the table in cli.c and a function in a file of its own.
 *
 * Exit codes: 0 done; 1 not found, or failed; 2 the arguments or the configuration are wrong.
 * What was asked for goes to stdout, everything else to stderr.
 */
#ifndef CORACLE_CLI_CLI_H
#define CORACLE_CLI_CLI_H

#include "base/bytes.h"
#include "base/error.h"

enum cli_exit { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

/* The whole program: `arguments` as main has them. Returns the exit code. */
int cli_run(int argument_count, char **arguments);

/* The commands; `arguments` are those after the command's name. */
int serve_command(int argument_count, char **arguments);
int put_command(int argument_count, char **arguments);
int get_command(int argument_count, char **arguments);
int del_command(int argument_count, char **arguments);
int status_command(int argument_count, char **arguments);
int cluster_command(int argument_count, char **arguments);
int bench_command(int argument_count, char **arguments);
int backup_command(int argument_count, char **arguments);
int restore_command(int argument_count, char **arguments);
int debug_command(int argument_count, char **arguments);
int sim_command(int argument_count, char **arguments);

/* "0.1.0", static. */
const char *cli_version(void);

/* The path of the running program, for starting it again; owned by the caller. argv[0] where the system doesn't tell. */
char *cli_program_path(void);

/* "coracle: …" on stderr, then the given exit code, so that a command can `return cli_fail(…)`. */
int cli_fail(enum cli_exit code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A failure of a command with --json: {"error": {"code", "message"}} on stdout; without it as cli_fail. Returns CLI_FAILED. */
int cli_fail_with(bool json, enum error error, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The same for one that a node reported, `where` it did. */
void cli_print_failure(bool json, const char *code, const char *where, const char *message);

/* Writes lines to stderr, as they are. */
void cli_print_error(struct bytes lines);

/* Writes all of it to stdout; ends the program when nobody can read it. */
void cli_print(struct bytes text);

#endif
