/*
 * restore.c - `coracle restore`: a node's first data, made of a backup.
 *
 * All members restored from one file form one new cluster. So what they must agree on follows from the file and the
 * members' names alone: the new cluster's id, and the snapshot's bytes, in which it stands. The log is empty and begins after
 * the snapshot.
 */
#define _GNU_SOURCE 1
#include "cli/cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/random.h"
#include "cli/snapshot_file.h"
#include "node/config.h"
#include "node/join.h"
#include "os/disk.h"
#include "storage/log_format.h"
#include "storage/log_metadata.h"
#include "storage/raft_state.h"

#define EPOCH 1u

static const char usage[] =
    "Usage: coracle restore FILE --id=NAME --data-dir=DIR [--cluster-config-path=PATH] [flags of serve]\n"
    "\n"
    "Makes the data of node NAME of a backup (see `coracle backup`), in an empty place. Do this for every member of "
    "the new\n"
    "cluster, with the same FILE and the same cluster configuration; then start them. They are a new cluster: members "
    "of the\n"
    "old one, and its log, are refused.\n"
    "\n"
    "The flags, variables and files are those that the node will be started with; `coracle serve --help` lists them.\n"
    "\n"
    "Examples:\n"
    "  coracle restore monday.snap --id=one --data-dir=one.coracle\n"
    "  coracle restore monday.snap --config-file=/etc/coracle.json\n";

struct restore {
    const struct config *config;
    const struct join_cluster *cluster;
    struct disk *disk;
    struct disk_file *file; /* the new snapshot */
    uint64_t size_bytes;
    uint64_t cluster_id;
    uint64_t snapshot_id;
    struct snapshot_writer writer;
    struct buffer encoded;
};

/* ---- the snapshot, anew ---- */

static void fill_member(const struct join_member *from, struct snapshot_member *to)
{
    *to = (struct snapshot_member){.id = member_id_of(from->node_id)};
    memcpy(to->node_id, from->node_id, sizeof to->node_id);
    snprintf(to->rpc_address, sizeof to->rpc_address, "%.200s:%u", from->rpc_host, from->rpc_port);
    snprintf(to->api_address, sizeof to->api_address, "%.200s:%u", from->api_host, from->api_port);
}

/* What follows from the backup and the members, and from nothing else. */
static void derive_ids(struct restore *restore, uint64_t backup_id)
{
    uint64_t members = restore->cluster->member_count;
    for (uint32_t i = 0; i < restore->cluster->member_count; i++) {
        members += random_mix(member_id_of(restore->cluster->members[i].node_id)); /* in any order */
    }
    restore->cluster_id = random_mix(backup_id ^ random_mix(members)) | 1;
    restore->snapshot_id = random_mix(restore->cluster_id) | 1;
}

static int by_id(const void *a, const void *b)
{
    const struct snapshot_member *left = a;
    const struct snapshot_member *right = b;
    return left->id < right->id ? -1 : left->id > right->id;
}

static void write_header(struct restore *restore, const struct snapshot_header *from)
{
    struct snapshot_header *header = mem_alloc(sizeof *header);
    *header = *from;
    derive_ids(restore, from->snapshot_id);
    header->cluster_id = restore->cluster_id;
    header->snapshot_id = restore->snapshot_id;
    header->member_count = restore->cluster->member_count;
    memset(header->members, 0, sizeof header->members);
    for (uint32_t i = 0; i < header->member_count; i++) fill_member(&restore->cluster->members[i], &header->members[i]);
    qsort(header->members, header->member_count, sizeof header->members[0], by_id);
    restore->writer = (struct snapshot_writer){.snapshot_id = restore->snapshot_id};
    snapshot_write_header(&restore->writer, header, &restore->encoded);
    mem_free(header);
}

static bool rewrite_chunk(void *user, const struct snapshot_header *header, const struct snapshot_chunk *chunk)
{
    struct restore *restore = user;
    buffer_clear(&restore->encoded);
    if (chunk->type == SNAPSHOT_CHUNK_HEADER) {
        write_header(restore, header);
    } else if (chunk->type == SNAPSHOT_CHUNK_END) {
        snapshot_write_end(&restore->writer, &restore->encoded);
    } else {
        snapshot_write_chunk(&restore->writer, chunk->type, chunk->payload, &restore->encoded);
    }
    enum error error =
        disk_write(restore->disk, restore->file, restore->size_bytes, restore->encoded.data, restore->encoded.size);
    if (error != ERR_OK) {
        cli_fail(CLI_FAILED, "%s", restore->disk->error_text);
        return false;
    }
    restore->size_bytes += restore->encoded.size;
    return true;
}

/* Rewrites `backup` as the new cluster's snapshot at `path`, durably. `in` is the disk that is read from. */
static enum error write_snapshot(struct restore *restore, struct disk *in, const char *backup, const char *path,
                                 struct snapshot_summary *summary, char *text)
{
    enum error error = disk_open(restore->disk, path, DISK_WRITE | DISK_CREATE | DISK_EXCLUSIVE, &restore->file);
    if (error != ERR_OK) {
        snprintf(text, SNAPSHOT_FILE_TEXT_BYTES, "%s", restore->disk->error_text);
        return error;
    }
    struct snapshot_visitor visitor = {.chunk = rewrite_chunk, .user = restore};
    error = snapshot_file_read(in, backup, &visitor, summary, text);
    if (error == ERR_OK) {
        error = disk_sync(restore->disk, restore->file);
        if (error == ERR_OK) error = file_sync_directory(restore->disk, path);
        if (error != ERR_OK) snprintf(text, SNAPSHOT_FILE_TEXT_BYTES, "%s", restore->disk->error_text);
    }
    disk_close(restore->disk, restore->file);
    if (error != ERR_OK) disk_remove(restore->disk, path);
    buffer_free(&restore->encoded);
    return error;
}

/* ---- the small files ---- */

static uint64_t random_number(void)
{
    uint64_t number = 0;
    while (number == 0) {
        if (getrandom(&number, sizeof number, 0) != sizeof number) number = (uint64_t)time(NULL);
    }
    return number;
}

/* Whole seconds wouldn't do: a node made and restored within one would begin with an incarnation that it had before. */
static uint64_t wall_clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* The raft state is last: with it, the node is there. */
static enum error write_small_files(struct restore *restore, const struct snapshot_header *header)
{
    const struct config *config = restore->config;
    uint8_t *slot = mem_alloc(SLOT_BYTES);
    struct snapshot_metadata snapshot = {
        .epoch = EPOCH,
        .index = header->index,
        .term = header->term,
        .size_bytes = restore->size_bytes,
        .snapshot_id = restore->snapshot_id,
    };
    struct log_metadata log = {.log_id = random_number(), .first_segment = 1};
    struct raft_state state = {
        .cluster_id = restore->cluster_id,
        .member = member_id_of(config_text(config, SETTING_NODE_ID)),
        .founding_nonce = random_number(),
        .log_id = log.log_id,
        .term = header->term,
        /* Above any that the snapshot remembers of this member (raft_state.h): else its first commands would be taken for
           repeats of old ones. */
        .incarnation = raft_state_first_incarnation(wall_clock_ms(), random_number()),
    };
    snprintf(state.node_id, sizeof state.node_id, "%s", config_text(config, SETTING_NODE_ID));

    log.identity = state;
    char *path = snapshot_file_path(config->snapshot_directory, "metadata");
    snapshot_metadata_encode(&snapshot, 1, slot);
    enum error error = slots_file_create(restore->disk, path, slot);
    if (error == ERR_OK) {
        log_metadata_encode(&log, 1, slot);
        error = slots_file_create(restore->disk, config->log_metadata_file, slot);
    }
    if (error == ERR_OK) {
        raft_state_encode(&state, 1, slot);
        error = slots_file_create(restore->disk, config->raft_state_file, slot);
    }
    mem_free(path);
    mem_free(slot);
    return error;
}

/* ---- the place ---- */

static void note_file(void *user, const char *name)
{
    uint64_t number;
    bool *used = user;
    if (log_segment_name_parse(name, &number) || snapshot_name_parse(name, &number)) *used = true;
}

static bool place_is_free(const struct config *config, struct disk *disk)
{
    bool used = access(config->raft_state_file, F_OK) == 0 || access(config->log_metadata_file, F_OK) == 0;
    disk_list(disk, config->log_directory, note_file, &used);
    disk_list(disk, config->snapshot_directory, note_file, &used);
    if (used) {
        cli_fail(CLI_FAILED,
                 "there are data of a node already (%s, %s, %s); set them aside, or give another --data-dir",
                 config->raft_state_file, config->log_directory, config->snapshot_directory);
    }
    return !used;
}

static enum error make_parent(struct disk *disk, const char *file)
{
    const char *slash = strrchr(file, '/');
    if (slash == NULL || slash == file) return ERR_OK;
    char *directory = mem_copy_string(file);
    directory[slash - file] = '\0';
    enum error error = disk_make_directories(disk, directory);
    mem_free(directory);
    return error;
}

static enum error make_place(const struct config *config, struct disk *disk)
{
    enum error error = disk_make_directories(disk, config->log_directory);
    if (error == ERR_OK) error = disk_make_directories(disk, config->snapshot_directory);
    if (error == ERR_OK) error = make_parent(disk, config->log_metadata_file);
    if (error == ERR_OK) error = make_parent(disk, config->raft_state_file);
    return error;
}

static int restore_node(const char *backup, const struct config *config, const struct join_cluster *cluster)
{
    struct os_disk in;
    struct os_disk out;
    struct snapshot_summary summary;
    char text[SNAPSHOT_FILE_TEXT_BYTES] = "";
    os_disk_init(&in);
    os_disk_init(&out);
    struct restore restore = {.config = config, .cluster = cluster, .disk = &out.port};
    if (!place_is_free(config, &out.port)) return CLI_FAILED;
    enum error error = make_place(config, &out.port);
    if (error != ERR_OK) return cli_fail(CLI_FAILED, "%s", out.port.error_text);

    char name[SNAPSHOT_NAME_BYTES];
    snapshot_name(EPOCH, name);
    char *path = snapshot_file_path(config->snapshot_directory, name);
    error = write_snapshot(&restore, &in.port, backup, path, &summary, text);
    mem_free(path);
    os_disk_destroy(&in);
    if (error != ERR_OK) return cli_fail(CLI_FAILED, "%s", text[0] != '\0' ? text : error_text(error));
    error = write_small_files(&restore, &summary.header);
    if (error != ERR_OK) return cli_fail(CLI_FAILED, "%s", out.port.error_text);

    printf("restored %s: %" PRIu64 " keys at revision %" PRId64 "\n", config_text(config, SETTING_NODE_ID),
           summary.key_count, summary.header.revision);
    printf("  the new cluster is %016" PRIx64 ", of %u member%s\n", restore.cluster_id, cluster->member_count,
           cluster->member_count == 1 ? "" : "s");
    return CLI_OK;
}

int restore_command(int argument_count, char **arguments)
{
    struct config config;
    struct join_cluster cluster;
    struct buffer problems = {0};
    char listen_host[ADDRESS_BYTES_MAX + 1];
    if (argument_count > 0 && (strcmp(arguments[0], "--help") == 0 || strcmp(arguments[0], "-h") == 0)) {
        fputs(usage, stdout);
        return CLI_OK;
    }
    if (argument_count < 1 || arguments[0][0] == '-')
        return cli_fail(CLI_USAGE, "give the backup's file first: coracle restore FILE …");
    config_load(&config, argument_count - 1, arguments + 1, environ, &problems);
    if (config.help) {
        fputs(usage, stdout);
        config_free(&config);
        buffer_free(&problems);
        return CLI_OK;
    }
    join_resolve(&config, &cluster, listen_host, &problems);
    config_check_paths(&config, &problems);
    int exit_code = CLI_USAGE;
    if (problems.size > 0) {
        cli_print_error(buffer_bytes(&problems));
    } else {
        exit_code = restore_node(arguments[0], &config, &cluster);
    }
    buffer_free(&problems);
    config_free(&config);
    return exit_code;
}
