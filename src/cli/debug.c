/*
 * debug.c - `coracle debug`: a file of the log, a snapshot or the state, printed for a person.
 */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/types.h"
#include "cli/options.h"
#include "storage/debug_print.h"

#define SLICE_BYTES (256u * 1024)

static bool kind_parse(const char *name, enum debug_print_kind *out)
{
    static const struct {
        const char *name;
        enum debug_print_kind kind;
    } kinds[] = {{"log", DEBUG_PRINT_LOG}, {"snapshot", DEBUG_PRINT_SNAPSHOT}, {"state", DEBUG_PRINT_STATE}};
    for (size_t i = 0; i < ARRAY_COUNT(kinds); i++) {
        if (strcmp(kinds[i].name, name) != 0) continue;
        *out = kinds[i].kind;
        return true;
    }
    return false;
}

static int print_file(const struct debug_print_options *options, const char *path)
{
    FILE *stream = fopen(path, "re");
    if (stream == NULL) return cli_fail(CLI_FAILED, "%s: %s", path, strerror(errno));
    struct debug_print *print = debug_print_new(options);
    struct buffer out = {0};
    uint8_t *slice = mem_alloc(SLICE_BYTES);
    size_t got;
    while ((got = fread(slice, 1, SLICE_BYTES, stream)) > 0) {
        debug_print_feed(print, bytes_of(slice, got), &out);
        cli_print(buffer_bytes(&out));
        buffer_clear(&out);
    }
    bool read_all = !ferror(stream);
    int failure = errno;
    bool good = debug_print_finish(print, &out);
    cli_print(buffer_bytes(&out));
    fclose(stream);
    debug_print_free(print);
    buffer_free(&out);
    mem_free(slice);
    if (!read_all) return cli_fail(CLI_FAILED, "%s: %s", path, strerror(failure));
    return good ? CLI_OK : CLI_FAILED;
}

int debug_command(int argument_count, char **arguments)
{
    struct debug_print_options options = {0};
    const char *log_id = NULL;
    const struct option_row rows[] = {
        {.name = "entries",
         .kind = OPTION_SWITCH,
         .value = &options.entries,
         .help = "Of a log: print each entry too: its command, key (the first 64 bytes) and sizes."},
        {.name = "log-id",
         .kind = OPTION_TEXT,
         .value = &log_id,
         .placeholder = "HEX",
         .help = "Of a log whose header is damaged: the log's id, as the state and the metadata have it."},
        {.name = "segment",
         .kind = OPTION_NUMBER,
         .value = &options.segment_number,
         .placeholder = "N",
         .help = "Of a log whose header is damaged: the segment's number."},
        {.name = "json", .kind = OPTION_SWITCH, .value = &options.json, .help = "Print a JSON object for each line."},
    };
    const struct option_table table = {
        .usage = "coracle debug log|snapshot|state FILE [flags]",
        .description =
            "Prints what a file holds and whether it is whole, with offsets. Nothing is changed; the node may run.\n"
            "  log       a segment of the write-ahead log (log-….seg)\n"
            "  snapshot  a snapshot or a backup (….snap)\n"
            "  state     the raft state, or the metadata of log or snapshots\n"
            "Exit code 0: all of it is good; 1: some of it isn't, or the file can't be read.\n",
        .examples = "  coracle debug state one.coracle/state\n"
                    "  coracle debug log one.coracle/log/log-0000000000000001.seg --entries\n",
        .rows = rows,
        .row_count = ARRAY_COUNT(rows),
        .positional_min = 2,
        .positional_max = 2,
    };
    const char *positional[2];
    size_t count;
    enum options_outcome outcome = options_parse(&table, argument_count, arguments, positional, &count);
    if (outcome != OPTIONS_OK) return options_exit_code(outcome);
    if (!kind_parse(positional[0], &options.kind)) {
        return cli_fail(CLI_USAGE, "debug: \"%s\" is none of log, snapshot, state", positional[0]);
    }
    if (log_id != NULL) {
        char *end;
        options.log_id = strtoull(log_id, &end, 16);
        if (options.log_id == 0 || *end != '\0') return cli_fail(CLI_USAGE, "--log-id: is no id (\"%s\")", log_id);
    }
    return print_file(&options, positional[1]);
}
