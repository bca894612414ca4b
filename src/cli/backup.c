/*
 * backup.c - `coracle backup`: a copy of a node's newest snapshot, checked chunk by chunk.
 */
#include "cli/cli.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/types.h"
#include "cli/options.h"
#include "cli/remote.h"
#include "cli/snapshot_file.h"
#include "os/disk.h"

/* A running node may replace its snapshot between our look at the metadata and the opening of the file. */
#define ATTEMPTS 5

struct copy {
    struct disk *disk;
    const char *path;
    struct disk_file *file;
    bool failed;
};

static bool write_bytes(void *user, uint64_t offset, struct bytes bytes)
{
    struct copy *copy = user;
    copy->failed = disk_write(copy->disk, copy->file, offset, bytes.data, bytes.size) != ERR_OK;
    return !copy->failed;
}

/* Copies into `path`, which is there whole or not at all. `in` is the disk that is read from, `out` the one written to. */
static enum error copy_snapshot(struct disk *in, struct disk *out, const char *source, const char *path,
                                struct snapshot_summary *summary, char *text)
{
    char *temporary = mem_alloc(strlen(path) + sizeof ".tmp");
    sprintf(temporary, "%s.tmp", path);
    struct copy copy = {.disk = out, .path = path};
    enum error error = disk_open(out, temporary, DISK_WRITE | DISK_CREATE, &copy.file);
    if (error == ERR_OK) error = disk_truncate(out, copy.file, 0);
    if (error != ERR_OK) {
        snprintf(text, SNAPSHOT_FILE_TEXT_BYTES, "%s", out->error_text);
        mem_free(temporary);
        return error;
    }
    struct snapshot_visitor visitor = {.bytes = write_bytes, .user = &copy};
    error = snapshot_file_read(in, source, &visitor, summary, text);
    if (copy.failed) snprintf(text, SNAPSHOT_FILE_TEXT_BYTES, "%s", out->error_text);
    if (error == ERR_OK) {
        error = disk_sync(out, copy.file);
        if (error == ERR_OK) error = disk_rename(out, temporary, path);
        if (error == ERR_OK) error = file_sync_directory(out, path);
        if (error != ERR_OK) snprintf(text, SNAPSHOT_FILE_TEXT_BYTES, "%s", out->error_text);
    }
    disk_close(out, copy.file);
    if (error != ERR_OK) disk_remove(out, temporary);
    mem_free(temporary);
    return error;
}

static void print_summary(const struct snapshot_summary *summary, const char *path, bool json)
{
    const struct snapshot_header *header = &summary->header;
    if (json) {
        printf("{\"index\": %" PRIu64 ", \"term\": %" PRIu64 ", \"revision\": %" PRId64 ", \"keys\": %" PRIu64
               ", \"bytes\": %" PRIu64 ", \"cluster_id\": \"%016" PRIx64 "\", \"snapshot_id\": \"%016" PRIx64 "\"}\n",
               header->index, header->term, header->revision, summary->key_count, summary->size_bytes,
               header->cluster_id, header->snapshot_id);
        return;
    }
    printf("%s: good, %" PRIu64 " bytes in %" PRIu64 " chunks\n", path, summary->size_bytes, summary->chunk_count);
    printf("  keys %" PRIu64 "   revision %" PRId64 "   index %" PRIu64 "   term %" PRIu64 "\n", summary->key_count,
           header->revision, header->index, header->term);
}

/* Lets the node make a snapshot of all that was acknowledged; *index is that of the snapshot. */
static int make_snapshot(const struct remote_options *options, raft_index *index)
{
    struct remote *remote = remote_new(options, false);
    if (remote == NULL) return CLI_USAGE;
    struct client_request request = {.method = "POST",
                                     .path = bytes_of_string("/v1/snapshot"),
                                     .timeout = (time_ns)options->timeout_ms * TIME_NS_PER_MS,
                                     .idempotent = true,
                                     .retry = true};
    struct remote_answer answer = {0};
    int exit_code = CLI_OK;
    remote_call(remote, &request, &answer);
    json_t *root = answer.error == ERR_OK && answer.status == 200
                       ? json_loadb((const char *)answer.body.data, answer.body.size, 0, NULL)
                       : NULL;
    json_int_t number = json_integer_value(json_object_get(root, "index"));
    *index = (raft_index)number;
    if (number <= 0) exit_code = remote_fail(options, &answer);
    json_decref(root);
    remote_answer_free(&answer);
    remote_free(remote);
    return exit_code;
}

/* `at_least`: an older snapshot won't do; 0: any. */
static int back_up(const char *directory, const char *path, raft_index at_least, bool json)
{
    struct os_disk in;
    struct os_disk out;
    struct snapshot_metadata metadata;
    struct snapshot_summary summary = {0};
    char text[SNAPSHOT_FILE_TEXT_BYTES] = "";
    os_disk_init(&in);
    os_disk_init(&out);
    enum error error = ERR_NO_FILE;
    bool found = true;
    for (unsigned attempt = 0; error == ERR_NO_FILE && attempt < ATTEMPTS; attempt++) {
        char name[SNAPSHOT_NAME_BYTES];
        error = snapshot_file_newest(&in.port, directory, &metadata, text);
        found = error != ERR_NO_FILE;
        if (error != ERR_OK) break;
        if (metadata.index < at_least) {
            snprintf(text, sizeof text,
                     "the node made a snapshot of index %" PRIu64 ", but the newest one in %s is of index %" PRIu64
                     ": do the endpoint and the directory belong to the same node?",
                     at_least, directory, metadata.index);
            error = ERR_CONFIG;
            break;
        }
        snapshot_name(metadata.epoch, name);
        char *source = snapshot_file_path(directory, name);
        error = copy_snapshot(&in.port, &out.port, source, path, &summary, text);
        mem_free(source);
    }
    os_disk_destroy(&in);
    os_disk_destroy(&out);
    if (!found && access(directory, F_OK) != 0) {
        return cli_fail_with(json, ERR_NO_FILE, "there is no directory %s: is it this node's, and on this machine?",
                             directory);
    }
    if (!found) {
        return cli_fail_with(
            json, ERR_NO_FILE,
            "there is no snapshot in %s yet: a node makes one once enough was written (see --snapshot-log-bytes), or "
            "when it is asked to: give --now, and --endpoints if the node doesn't listen on 127.0.0.1:7777",
            directory);
    }
    if (error != ERR_OK) return cli_fail_with(json, error, "%s", text[0] != '\0' ? text : error_text(error));
    print_summary(&summary, path, json);
    return CLI_OK;
}

static int check_backup(const char *path, bool json)
{
    struct os_disk disk;
    struct snapshot_summary summary;
    char text[SNAPSHOT_FILE_TEXT_BYTES];
    struct snapshot_visitor nothing = {0};
    os_disk_init(&disk);
    enum error error = snapshot_file_read(&disk.port, path, &nothing, &summary, text);
    os_disk_destroy(&disk);
    if (error != ERR_OK) return cli_fail_with(json, error, "%s", text);
    print_summary(&summary, path, json);
    return CLI_OK;
}

int backup_command(int argument_count, char **arguments)
{
    const char *data_directory = NULL;
    const char *snapshot_directory = NULL;
    bool check = false;
    bool now = false;
    struct remote_options remote = remote_options_default();
    remote.timeout_ms = 600000;
    const struct option_row rows[] = {
        {.name = "data-dir",
         .kind = OPTION_TEXT,
         .value = &data_directory,
         .placeholder = "DIR",
         .help = "The node's data; its snapshots are in DIR/snapshot."},
        {.name = "snapshot-path",
         .kind = OPTION_TEXT,
         .value = &snapshot_directory,
         .placeholder = "DIR",
         .help = "The node's snapshots, if they are elsewhere."},
        {.name = "now",
         .kind = OPTION_SWITCH,
         .value = &now,
         .help = "Let the node make a snapshot first, so that FILE holds all that was acknowledged until now."},
        REMOTE_ENDPOINTS_ROW(&remote),
        REMOTE_TIMEOUT_ROW(&remote),
        {.name = "check", .kind = OPTION_SWITCH, .value = &check, .help = "Only check that FILE is a good backup."},
        REMOTE_JSON_ROW(&remote),
    };
    const struct option_table table = {
        .usage = "coracle backup FILE --data-dir=DIR [flags]",
        .description =
            "Copies the newest snapshot of a node on this machine to FILE, checking every chunk, and prints "
            "what is in it.\n"
            "The node may run or not. Writes after that snapshot are not in it; with --now the node, "
            "which has to run,\n"
            "makes a new one first. `coracle restore` makes a new cluster of the file.\n" REMOTE_ENVIRONMENT_TEXT,
        .examples = "  coracle backup monday.snap --data-dir=/var/lib/coracle --now\n"
                    "  coracle backup monday.snap --check\n",
        .rows = rows,
        .row_count = ARRAY_COUNT(rows),
        .positional_min = 1,
        .positional_max = 1,
    };
    const char *file;
    size_t count;
    enum options_outcome outcome = options_parse(&table, argument_count, arguments, &file, &count);
    if (outcome != OPTIONS_OK) return options_exit_code(outcome);
    if (check) return check_backup(file, remote.json);
    if ((data_directory == NULL) == (snapshot_directory == NULL)) {
        return cli_fail(CLI_USAGE, "give either --data-dir or --snapshot-path");
    }
    char *directory = snapshot_directory != NULL ? mem_copy_string(snapshot_directory)
                                                 : snapshot_file_path(data_directory, "snapshot");
    raft_index at_least = 0;
    int exit_code = now ? make_snapshot(&remote, &at_least) : CLI_OK;
    if (exit_code == CLI_OK) exit_code = back_up(directory, file, at_least, remote.json);
    mem_free(directory);
    return exit_code;
}
