#include "node/context.h"

#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "node/lifecycle.h"
#include "os/disk.h"
#include "os/disk_queue.h"
#include "os/limits.h"
#include "os/logger.h"
#include "os/loop.h"
#include "os/net.h"

/* Descriptors that are no client's: files, peers, the loop's own. */
#define OTHER_FILES_COUNT 128u
/* Fewer connections than this are worth a warning, unless they were asked for. */
#define CONNECTIONS_ADVISED_COUNT 10000u
/* Below this, an ordinary load may be killed for want of memory. */
#define MEMORY_BYTES_ADVISED (128u * 1024 * 1024)
/* Of a container's memory, what clients' connections may take unless the configuration says otherwise. */
#define CONNECTION_MEMORY_SHARE 8u

struct context {
    const struct config *config;
    struct drive_config drive_config;
    struct lifecycle lifecycle;

    struct logger *logger;
    struct os_loop *loop;
    struct os_disk bootstrap_disk; /* the core thread's, at the start */
    struct os_disk writer_disk;
    struct os_disk_queue *disk_queue;
    struct os_net *net;
    struct drive *drive;

    bool signalled;
    bool ended;
    int exit_code;
};

void context_drive_config(const struct config *config, const struct join_cluster *cluster, const char *listen_host,
                          const char *version, struct drive_config *out)
{
    *out = (struct drive_config){0};
    drive_config_defaults(out);
    snprintf(out->node_id, sizeof out->node_id, "%s", config_text(config, SETTING_NODE_ID));
    for (uint32_t i = 0; i < cluster->member_count; i++) {
        const struct join_member *from = &cluster->members[i];
        struct drive_member *member = &out->members[i];
        bool v6 = strchr(from->api_host, ':') != NULL;
        memcpy(member->node_id, from->node_id, sizeof member->node_id);
        memcpy(member->rpc_host, from->rpc_host, sizeof member->rpc_host);
        member->rpc_port = from->rpc_port;
        /* join_parse_address left room for brackets and port. */
        snprintf(member->api_address, sizeof member->api_address, "%s%.*s%s:%u", v6 ? "[" : "",
                 (int)sizeof member->api_address - 16, from->api_host, v6 ? "]" : "", from->api_port);
    }
    out->member_count = cluster->member_count;
    snprintf(out->listen_host, sizeof out->listen_host, "%s", listen_host);
    out->api_port = (uint16_t)config_number(config, SETTING_API_PORT);
    out->rpc_port = (uint16_t)config_number(config, SETTING_RPC_PORT);
    out->log_directory = config->log_directory;
    out->log_metadata_file = config->log_metadata_file;
    out->raft_state_file = config->raft_state_file;
    out->snapshot_directory = config->snapshot_directory;
    out->lock_file = config->lock_file;
    out->election_timeout = (time_ns)config_number(config, SETTING_ELECTION_TIMEOUT) * TIME_NS_PER_MS;
    out->heartbeat_interval = (time_ns)config_number(config, SETTING_HEARTBEAT) * TIME_NS_PER_MS;
    out->rpc_timeout = (time_ns)config_number(config, SETTING_RPC_TIMEOUT) * TIME_NS_PER_MS;
    out->api_timeout = (time_ns)config_number(config, SETTING_API_TIMEOUT) * TIME_NS_PER_MS;
    out->api_forward_timeout = (time_ns)config_number(config, SETTING_API_FWD_TIMEOUT) * TIME_NS_PER_MS;
    out->connect_attempts_max = (uint32_t)config_number(config, SETTING_CONN_RETRY_ATTEMPTS);
    out->value_bytes_max = config_number(config, SETTING_MAX_REQUEST_BYTES);
    out->segment_bytes = config_number(config, SETTING_SEGMENT_BYTES);
    out->snapshot_log_bytes_min = config_number(config, SETTING_SNAPSHOT_LOG_BYTES);
    out->snapshot_state_percent = (uint32_t)config_number(config, SETTING_SNAPSHOT_STATE_PERCENT);
    out->cache_bytes_max = config_number(config, SETTING_CACHE_BYTES);
    out->log_tail_bytes = config_number(config, SETTING_LOG_TAIL_BYTES);
    out->scrub_interval = (time_ns)config_number(config, SETTING_SCRUB_INTERVAL) * TIME_NS_PER_MS;
    out->scrub_bytes_per_second = config_number(config, SETTING_SCRUB_RATE);
    out->connections_max = (uint32_t)config_number(config, SETTING_MAX_CONNECTIONS);
    out->connection_memory_max = config_number(config, SETTING_CONNECTION_MEMORY);
    out->idle_timeout = (time_ns)config_number(config, SETTING_IDLE_TIMEOUT) * TIME_NS_PER_MS;
    out->force_start = config_number(config, SETTING_FORCE_START) != 0;
    out->version = version;
}

/* ---- logging ---- */

static void log_warnings(struct context *context)
{
    const struct buffer *warnings = &context->config->warnings;
    const char *at = (const char *)warnings->data;
    const char *end = at + warnings->size;
    while (at < end) {
        const char *line_end = memchr(at, '\n', (size_t)(end - at));
        CHECK(line_end != NULL);
        log_warn(context->logger, "odd configuration", "what=\"%.*s\"", (int)(line_end - at), at);
        at = line_end + 1;
    }
}

static void start_logging(struct context *context)
{
    static const enum log_level levels[] = {LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR};
    struct os_logger_options options = {
        .level = levels[config_number(context->config, SETTING_LOG_LEVEL)],
        .json = config_number(context->config, SETTING_LOG_FORMAT) == LOG_FORMAT_JSON,
        .fd = STDERR_FILENO,
    };
    context->logger = os_logger_new(&options);
    log_warnings(context);
}

/* ---- limits of the system ---- */

static void respect_open_files_limit(struct context *context)
{
    struct drive_config *drive = &context->drive_config;
    bool chosen = context->config->values[SETTING_MAX_CONNECTIONS].source != CONFIG_DEFAULT;
    uint64_t limit = os_raise_open_files_limit();
    if (limit >= (uint64_t)drive->connections_max + OTHER_FILES_COUNT) return;
    uint64_t room = limit > 2 * OTHER_FILES_COUNT ? limit - OTHER_FILES_COUNT : limit / 2;
    uint64_t wanted = chosen ? drive->connections_max : CONNECTIONS_ADVISED_COUNT;
    drive->connections_max = (uint32_t)room;
    if (room >= wanted) return;
    log_warn(
        context->logger, "limit of open files is low",
        "limit=%llu wanted=%llu connections=%llu remedy=\"raise RLIMIT_NOFILE (ulimit -n), or lower max_connections\"",
        (unsigned long long)limit, (unsigned long long)wanted + OTHER_FILES_COUNT, (unsigned long long)room);
}

static void respect_memory_limit(struct context *context)
{
    struct drive_config *drive = &context->drive_config;
    uint64_t limit = os_memory_limit();
    if (limit < MEMORY_BYTES_ADVISED) {
        log_warn(context->logger, "limit of memory is low",
                 "limit_bytes=%llu advised_bytes=%llu remedy=\"raise the "
                 "container's limit; all keys and values are kept in memory\"",
                 (unsigned long long)limit, (unsigned long long)MEMORY_BYTES_ADVISED);
    }
    bool chosen = context->config->values[SETTING_CONNECTION_MEMORY].source != CONFIG_DEFAULT;
    if (!chosen && drive->connection_memory_max > limit / CONNECTION_MEMORY_SHARE) {
        drive->connection_memory_max = limit / CONNECTION_MEMORY_SHARE;
    }
}

static enum error start_limits(void *user, char *text)
{
    (void)text;
    struct context *context = user;
    respect_open_files_limit(context);
    respect_memory_limit(context);
    return ERR_OK;
}

static void refresh_host(struct api_host *host)
{
    struct os_usage usage = os_usage();
    struct rlimit files;
    host->resident_bytes = usage.resident_bytes;
    host->open_files = usage.open_files;
    host->cpu_seconds = (double)usage.cpu_time / (double)TIME_NS_PER_S;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) host->open_files_max = files.rlim_cur;
}

/* ---- event loop and signals ---- */

static void signalled(void *user, int signal_number)
{
    struct context *context = user;
    if (context->signalled) _exit(NODE_EXIT_FAILED); /* whoever asks twice doesn't want to wait */
    context->signalled = true;
    log_info(context->logger, "stopping", "signal=%d", signal_number);
    if (!context->ended) drive_stop(context->drive);
}

static enum error start_loop(void *user, char *text)
{
    (void)text;
    struct context *context = user;
    context->loop = os_loop_new(signalled, context);
    return ERR_OK;
}

static enum error stop_loop(void *user, char *text)
{
    (void)text;
    struct context *context = user;
    os_loop_free(context->loop);
    context->loop = NULL;
    return ERR_OK;
}

/* ---- disk ---- */

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

static enum error start_disk(void *user, char *text)
{
    struct context *context = user;
    struct disk *disk = &context->bootstrap_disk.port;
    const struct config *config = context->config;
    os_disk_init(&context->bootstrap_disk);
    os_disk_init(&context->writer_disk);
    enum error error = disk_make_directories(disk, config->log_directory);
    if (error == ERR_OK) error = make_parent(disk, config->log_metadata_file);
    if (error == ERR_OK) error = make_parent(disk, config->raft_state_file);
    if (error == ERR_OK) error = disk_make_directories(disk, config->snapshot_directory);
    if (error != ERR_OK) snprintf(text, LIFECYCLE_TEXT_BYTES, "%s", disk->error_text);
    return error;
}

static enum error start_disk_queue(void *user, char *text)
{
    (void)text;
    struct context *context = user;
    context->disk_queue = os_disk_queue_new(context->loop, &context->writer_disk.port);
    return ERR_OK;
}

static enum error stop_disk_queue(void *user, char *text)
{
    (void)text;
    struct context *context = user;
    if (context->disk_queue != NULL) os_disk_queue_free(context->disk_queue);
    context->disk_queue = NULL;
    os_disk_destroy(&context->writer_disk);
    os_disk_destroy(&context->bootstrap_disk);
    return ERR_OK;
}

/* ---- network ---- */

static enum error start_net(void *user, char *text)
{
    (void)text;
    struct context *context = user;
    context->net = os_net_new(context->loop, context->logger);
    return ERR_OK;
}

static enum error stop_net(void *user, char *text)
{
    (void)text;
    struct context *context = user;
    os_net_free(context->net);
    context->net = NULL;
    return ERR_OK;
}

/* ---- drive ---- */

static void drive_ended(void *user, int exit_code, const char *text)
{
    (void)text; /* the drive has logged it */
    struct context *context = user;
    context->ended = true;
    context->exit_code = exit_code;
    loop_stop(os_loop_port(context->loop));
}

/* Jobs under way point into the drive; so the writer ends before the drive is freed. */
static void free_drive(struct context *context)
{
    stop_disk_queue(context, NULL);
    drive_free(context->drive);
    context->drive = NULL;
}

static enum error start_drive(void *user, char *text)
{
    struct context *context = user;
    struct drive_ports ports = {
        .disk = &context->bootstrap_disk.port,
        .disk_queue = os_disk_queue_port(context->disk_queue),
        .net = os_net_port(context->net),
        .loop = os_loop_port(context->loop),
        .logger = context->logger,
        .refresh_host = refresh_host,
    };
    static const struct drive_handler handler = {.ended = drive_ended};
    context->drive = drive_new(&context->drive_config, &ports, &handler, context);
    enum error error = drive_start(context->drive, text);
    if (error != ERR_OK) free_drive(context);
    return error;
}

static enum error stop_drive(void *user, char *text)
{
    struct context *context = user;
    bool had_ended = context->ended; /* with an exit code that context_run returned */
    if (!had_ended) {
        drive_stop(context->drive);
        os_loop_run(context->loop);
    }
    free_drive(context);
    if (had_ended || context->exit_code == NODE_EXIT_OK) return ERR_OK;
    snprintf(text, LIFECYCLE_TEXT_BYTES, "it ended with exit code %d; the log says why", context->exit_code);
    return ERR_INTERNAL;
}

/* ---- all together ---- */

static const struct lifecycle_part parts[] = {
    {"limits", start_limits, NULL},   {"event loop", start_loop, stop_loop},
    {"disk", start_disk, NULL},       {"disk queue", start_disk_queue, stop_disk_queue},
    {"network", start_net, stop_net}, {"node", start_drive, stop_drive},
};
_Static_assert(ARRAY_COUNT(parts) <= LIFECYCLE_PARTS_MAX, "an error has room for every part");

struct context *context_new(const struct config *config, const struct join_cluster *cluster, const char *listen_host,
                            const char *version)
{
    struct context *context = mem_alloc_zero(sizeof *context);
    context->config = config;
    context->lifecycle = (struct lifecycle){.parts = parts, .part_count = ARRAY_COUNT(parts), .user = context};
    context_drive_config(config, cluster, listen_host, version, &context->drive_config);
    start_logging(context);
    return context;
}

bool context_start(struct context *context, struct lifecycle_error *error)
{
    uint32_t first = error->failure_count;
    bool good = lifecycle_start(&context->lifecycle, error);
    lifecycle_error_log(error, first, context->logger);
    return good;
}

int context_run(struct context *context)
{
    if (!context->ended) os_loop_run(context->loop);
    CHECK(context->ended);
    return context->exit_code;
}

bool context_destroy(struct context *context, struct lifecycle_error *error)
{
    uint32_t first = error->failure_count;
    bool good = lifecycle_stop(&context->lifecycle, error);
    lifecycle_error_log(error, first, context->logger);
    os_logger_free(context->logger);
    mem_free(context);
    return good;
}
