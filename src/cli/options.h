/*
 * options.h - the flags of a command, as a table: parsing, and the text of --help.
 *
 * Flags are --name=value or --name value, anywhere among the arguments; after "--" nothing is a flag any more. The settings of
 * `serve` are node/config.h's instead.
 */
#ifndef CORACLE_CLI_OPTIONS_H
#define CORACLE_CLI_OPTIONS_H

#include "base/bytes.h"

enum option_kind {
    OPTION_TEXT,   /* const char *, borrowed from the arguments */
    OPTION_NUMBER, /* uint64_t, from low to high */
    OPTION_SIZE,   /* uint64_t, bytes; takes KiB, MiB, GiB */
    OPTION_SWITCH, /* bool */
};

struct option_row {
    const char *name; /* without "--" */
    enum option_kind kind;
    void *value;             /* set when the flag is there; holds the default before */
    const char *placeholder; /* "PORT"; NULL for a switch */
    const char *help;
    uint64_t low, high; /* of numbers and sizes; high 0: no limit */
};

struct option_table {
    const char *usage;       /* "coracle put KEY VALUE [flags]" */
    const char *description; /* what the command does, ended by a newline */
    const char *examples;    /* lines to try, each ended by a newline; or NULL */
    const struct option_row *rows;
    size_t row_count;
    size_t positional_min, positional_max; /* arguments that are no flags */
    const char *environment;               /* a paragraph on variables, or NULL */
};

enum options_outcome {
    OPTIONS_OK,
    OPTIONS_HELP, /* --help was asked for, and printed: exit with CLI_OK */
    OPTIONS_BAD,  /* wrong, and all that is was printed: exit with CLI_USAGE */
};

/*
 * Sets values, and gathers the positional arguments into `positional` (room for positional_max) and *positional_count.
 */
enum options_outcome options_parse(const struct option_table *table, int argument_count, char **arguments,
                                   const char **positional, size_t *positional_count);
/* What a command exits with when it isn't to go on. */
int options_exit_code(enum options_outcome outcome);

/* The same without printing: problems, one line each, go to `problems`; the help text to `help`. */
enum options_outcome options_read(const struct option_table *table, int argument_count, char **arguments,
                                  const char **positional, size_t *positional_count, struct buffer *problems,
                                  struct buffer *help);

#endif
