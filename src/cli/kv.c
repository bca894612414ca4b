/*
 * kv.c - `coracle put`, `get` and `del`.
 */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/types.h"
#include "cli/remote.h"
#include "client/kv.h"

#define VALUE_BYTES_MAX (16u * 1024 * 1024) /* of a file or stdin; the server's own limit is far lower */

/* Asks, and puts the answer into `answer`. False, and *exit_code set, when there is no good one. */
static bool ask(const struct remote_options *options, const struct client_request *request,
                struct remote_answer *answer, int *exit_code)
{
    struct remote *remote = remote_new(options, false);
    if (remote == NULL) {
        *exit_code = CLI_USAGE;
        return false;
    }
    remote_call(remote, request, answer);
    remote_free(remote);
    if (answer->error == ERR_OK && answer->status >= 200 && answer->status < 300) return true;
    *exit_code = remote_fail(options, answer);
    return false;
}

/* ---- put ---- */

static bool read_stream(const char *path, struct buffer *out)
{
    FILE *stream = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    char chunk[65536];
    size_t got;
    if (stream == NULL) {
        cli_fail(CLI_FAILED, "%s: %s", path, strerror(errno));
        return false;
    }
    while (out->size <= VALUE_BYTES_MAX && (got = fread(chunk, 1, sizeof chunk, stream)) > 0) {
        buffer_append(out, chunk, got);
    }
    int failure = errno;
    bool good = !ferror(stream) && out->size <= VALUE_BYTES_MAX;
    if (ferror(stream)) {
        cli_fail(CLI_FAILED, "%s: %s", path, strerror(failure));
    } else if (!good) {
        cli_fail(CLI_FAILED, "%s is larger than %u bytes", path, VALUE_BYTES_MAX);
    }
    if (stream != stdin) fclose(stream);
    return good;
}

static int put_value(const struct remote_options *options, struct bytes key, struct bytes value)
{
    struct buffer body = {0};
    struct remote_answer answer = {0};
    int exit_code = CLI_OK;
    if (key.size == 0) return cli_fail(CLI_USAGE, "the key is empty");
    if (!client_kv_put_body(key, value, &body)) {
        buffer_free(&body);
        return cli_fail(CLI_USAGE, "the key is not UTF-8");
    }
    struct client_request request = {
        .method = "POST",
        .path = bytes_of_string("/v1/data"),
        .body = buffer_bytes(&body),
        .timeout = (time_ns)options->timeout_ms * TIME_NS_PER_MS,
        .retry = true,
    };
    if (ask(options, &request, &answer, &exit_code)) {
        if (options->json) {
            buffer_append_byte(&answer.body, '\n');
            cli_print(buffer_bytes(&answer.body));
        } else {
            puts("ok");
        }
    }
    buffer_free(&body);
    remote_answer_free(&answer);
    return exit_code;
}

int put_command(int argument_count, char **arguments)
{
    struct remote_options options = remote_options_default();
    const char *file = NULL;
    const struct option_row rows[] = {
        {.name = "file",
         .kind = OPTION_TEXT,
         .value = &file,
         .placeholder = "PATH",
         .help = "Take the value from a file; \"-\" is stdin. It may be any bytes."},
        REMOTE_ENDPOINTS_ROW(&options),
        REMOTE_TIMEOUT_ROW(&options),
        REMOTE_JSON_ROW(&options),
    };
    const struct option_table table = {
        .usage = "coracle put KEY VALUE [flags]",
        .description = "Sets a key. Once it says ok, the value is on the disks of a majority of the nodes.\n"
                       "Exit code 0: done; 1: failed (stderr says whether it may have happened all the same).\n",
        .examples = "  coracle put greeting hello\n"
                    "  coracle put config/app --file=app.json\n"
                    "  date | coracle put now --file=-\n"
                    "  coracle put -- --odd-key value\n",
        .environment = REMOTE_ENVIRONMENT_TEXT,
        .rows = rows,
        .row_count = ARRAY_COUNT(rows),
        .positional_min = 1,
        .positional_max = 2,
    };
    const char *positional[2];
    size_t count;
    enum options_outcome outcome = options_parse(&table, argument_count, arguments, positional, &count);
    if (outcome != OPTIONS_OK) return options_exit_code(outcome);
    if ((count == 2) == (file != NULL)) return cli_fail(CLI_USAGE, "give the value either as an argument or by --file");
    if (file == NULL) return put_value(&options, bytes_of_string(positional[0]), bytes_of_string(positional[1]));

    struct buffer value = {0};
    int exit_code = CLI_FAILED;
    if (read_stream(file, &value))
        exit_code = put_value(&options, bytes_of_string(positional[0]), buffer_bytes(&value));
    buffer_free(&value);
    return exit_code;
}

/* A request about one key, without a body. False after printing why it failed, with *exit_code. */
static bool ask_about(const struct remote_options *options, const char *method, const char *key, bool idempotent,
                      struct remote_answer *answer, int *exit_code)
{
    struct buffer path = {0};
    client_kv_path(bytes_of_string(key), &path);
    struct client_request request = {
        .method = method,
        .path = buffer_bytes(&path),
        .timeout = (time_ns)options->timeout_ms * TIME_NS_PER_MS,
        .idempotent = idempotent,
        .retry = true,
    };
    bool good = ask(options, &request, answer, exit_code);
    buffer_free(&path);
    return good;
}

/* ---- get ---- */

static int print_value(const struct remote_options *options, struct remote_answer *answer, bool raw)
{
    if (options->json) {
        buffer_append_byte(&answer->body, '\n');
        cli_print(buffer_bytes(&answer->body));
        return CLI_OK;
    }
    struct buffer value = {0};
    int exit_code = CLI_OK;
    if (client_kv_value(buffer_bytes(&answer->body), &value)) {
        if (!raw) buffer_append_byte(&value, '\n');
        cli_print(buffer_bytes(&value));
    } else {
        exit_code = cli_fail(CLI_FAILED, "the answer of %s can't be read", answer->endpoint);
    }
    buffer_free(&value);
    return exit_code;
}

int get_command(int argument_count, char **arguments)
{
    struct remote_options options = remote_options_default();
    bool raw = false;
    const struct option_row rows[] = {
        {.name = "raw",
         .kind = OPTION_SWITCH,
         .value = &raw,
         .help = "Print the value's bytes and no newline after them."},
        REMOTE_ENDPOINTS_ROW(&options),
        REMOTE_TIMEOUT_ROW(&options),
        REMOTE_JSON_ROW(&options),
    };
    const struct option_table table = {
        .usage = "coracle get KEY [flags]",
        .description = "Prints a key's newest value. The answer includes every write that was acknowledged before.\n"
                       "Exit code 0: printed; 1: there is no such key, or failed.\n",
        .examples = "  coracle get greeting\n"
                    "  coracle get config/app --raw > app.json\n",
        .environment = REMOTE_ENVIRONMENT_TEXT,
        .rows = rows,
        .row_count = ARRAY_COUNT(rows),
        .positional_min = 1,
        .positional_max = 1,
    };
    const char *positional[1];
    size_t count;
    enum options_outcome outcome = options_parse(&table, argument_count, arguments, positional, &count);
    if (outcome != OPTIONS_OK) return options_exit_code(outcome);
    struct remote_answer answer = {0};
    int exit_code;
    if (ask_about(&options, "GET", positional[0], true, &answer, &exit_code)) {
        exit_code = print_value(&options, &answer, raw);
    }
    remote_answer_free(&answer);
    return exit_code;
}

/* ---- del ---- */

int del_command(int argument_count, char **arguments)
{
    struct remote_options options = remote_options_default();
    const struct option_row rows[] = {
        REMOTE_ENDPOINTS_ROW(&options),
        REMOTE_TIMEOUT_ROW(&options),
        REMOTE_JSON_ROW(&options),
    };
    const struct option_table table = {
        .usage = "coracle del KEY [flags]",
        .description = "Deletes a key. It is no failure when there was none; the answer tells.\n"
                       "Exit code 0: done; 1: failed (stderr says whether it may have happened all the same).\n",
        .examples = "  coracle del greeting\n",
        .environment = REMOTE_ENVIRONMENT_TEXT,
        .rows = rows,
        .row_count = ARRAY_COUNT(rows),
        .positional_min = 1,
        .positional_max = 1,
    };
    const char *positional[1];
    size_t count;
    enum options_outcome outcome = options_parse(&table, argument_count, arguments, positional, &count);
    if (outcome != OPTIONS_OK) return options_exit_code(outcome);
    struct remote_answer answer = {0};
    int exit_code = CLI_OK;
    if (ask_about(&options, "DELETE", positional[0], false, &answer, &exit_code)) {
        buffer_append_byte(&answer.body, '\0');
        if (options.json) {
            puts((const char *)answer.body.data);
        } else {
            bool existed = strstr((const char *)answer.body.data, "\"deleted\":true") != NULL;
            puts(existed ? "deleted" : "there was no such key");
        }
    }
    remote_answer_free(&answer);
    return exit_code;
}
