#define _GNU_SOURCE 1
#include "chaos/lossy_disk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"

#define COMMAND_BYTES 1024u
#define ANSWER_BYTES 1024u
/* A full trace is renamed to *.old, and a new one begins. */
#define TRACE_BYTES_MAX (16u << 20)

void lossy_disk_init(struct lossy_disk *disk, const char *backing, uint64_t seed, const char *trace)
{
    *disk = (struct lossy_disk){0};
    pthread_mutex_init(&disk->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&disk->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    random_seed(&disk->luck, seed);
    lossy_tree_init(&disk->tree, backing);
    if (trace == NULL) return;
    disk->trace_name = mem_copy_string(trace);
    disk->trace = fopen(trace, "ae");
    if (disk->trace == NULL) lossy_die("opening the trace");
    setvbuf(disk->trace, NULL, _IOLBF, 0);
}

void lossy_disk_destroy(struct lossy_disk *disk)
{
    lossy_tree_destroy(&disk->tree);
    if (disk->trace != NULL) fclose(disk->trace);
    mem_free(disk->trace_name);
    pthread_cond_destroy(&disk->changed);
    pthread_mutex_destroy(&disk->lock);
}

bool lossy_disk_fails(struct lossy_disk *disk, enum lossy_call call, const char *path)
{
    struct lossy_fault *fault = &disk->faults[call];
    if (fault->left == 0 || strstr(path, fault->part) == NULL) return false;
    fault->left--;
    disk->failed[call]++;
    return true;
}

bool lossy_disk_wait_for_sync(struct lossy_disk *disk)
{
    if (disk->slow_ms == 0) return !disk->is_cut;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    uint64_t ns = (uint64_t)until.tv_nsec + disk->slow_ms * UINT64_C(1000000);
    until.tv_sec += (time_t)(ns / 1000000000);
    until.tv_nsec = (long)(ns % 1000000000);
    uint64_t cuts = disk->cuts;
    while (cuts == disk->cuts && pthread_cond_timedwait(&disk->changed, &disk->lock, &until) != ETIMEDOUT) continue;
    return cuts == disk->cuts;
}

void lossy_disk_trace(struct lossy_disk *disk, const char *format, ...)
{
    if (disk->trace == NULL) return;
    if (disk->trace_bytes > TRACE_BYTES_MAX) {
        char old[512];
        snprintf(old, sizeof old, "%s.old", disk->trace_name);
        rename(disk->trace_name, old);
        disk->trace = freopen(disk->trace_name, "we", disk->trace);
        if (disk->trace == NULL) lossy_die("reopening the trace");
        disk->trace_bytes = 0;
    }
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int size = fprintf(disk->trace, "%jd.%06ld ", (intmax_t)now.tv_sec, now.tv_nsec / 1000);
    va_list arguments;
    va_start(arguments, format);
    size += vfprintf(disk->trace, format, arguments);
    va_end(arguments);
    fputc('\n', disk->trace);
    disk->trace_bytes += (uint64_t)size + 1;
}

/* ---- Commands ---- */

static const char *const call_names[] = {
#define X(name, text) text,
    LOSSY_CALLS(X)
#undef X
};

static bool parse_number(const char *text, uint64_t *out)
{
    if (text == NULL || *text < '0' || *text > '9') return false;
    char *end;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0';
}

static void drop(struct lossy_disk *disk, const char *seed_text, char *answer)
{
    uint64_t seed = 0;
    struct random luck;
    if (seed_text != NULL && !parse_number(seed_text, &seed)) {
        snprintf(answer, ANSWER_BYTES, "error the seed is no number");
        return;
    }
    random_seed(&luck, seed);
    struct lossy_losses losses = {0};
    lossy_tree_lose(&disk->tree, seed_text == NULL ? NULL : &luck, &losses);
    disk->is_cut = false;
    disk->drops++;
    disk->losses.dropped_sectors += losses.dropped_sectors;
    disk->losses.kept_sectors += losses.kept_sectors;
    disk->losses.torn_sectors += losses.torn_sectors;
    disk->losses.dropped_changes += losses.dropped_changes;
    disk->losses.kept_changes += losses.kept_changes;
    snprintf(answer, ANSWER_BYTES,
             "ok dropped %" PRIu64 " sectors and %" PRIu64 " changes of directories; kept %" PRIu64 " and %" PRIu64
             ", %" PRIu64 " torn",
             losses.dropped_sectors, losses.dropped_changes, losses.kept_sectors, losses.kept_changes,
             losses.torn_sectors);
}

static void set_fault(struct lossy_disk *disk, const char *call, const char *count, const char *part, char *answer)
{
    uint64_t left;
    if (call == NULL || !parse_number(count, &left) || (part != NULL && strlen(part) >= sizeof disk->faults[0].part)) {
        snprintf(answer, ANSWER_BYTES, "error fail takes a call, a count, and perhaps a part of a path");
        return;
    }
    for (unsigned i = 0; i < LOSSY_CALL_COUNT; i++) {
        if (strcmp(call, call_names[i]) != 0) continue;
        disk->faults[i].left = left;
        strcpy(disk->faults[i].part, part == NULL ? "" : part);
        return;
    }
    snprintf(answer, ANSWER_BYTES, "error there is no call %s", call);
}

static void flip(struct lossy_disk *disk, const char *path, const char *offset_text, const char *bit_text, char *answer)
{
    uint64_t offset, bit;
    if (path == NULL || !parse_number(offset_text, &offset) || !parse_number(bit_text, &bit) || bit > 7) {
        snprintf(answer, ANSWER_BYTES, "error flip takes a path, an offset and a bit from 0 to 7");
        return;
    }
    struct lossy_node *node = lossy_tree_find(&disk->tree, path);
    if (node == NULL || node->directory || !lossy_file_flip(&node->file, offset, (unsigned)bit)) {
        snprintf(answer, ANSWER_BYTES, "error there is no such byte");
    }
}

static void print_stats(const struct lossy_disk *disk, char *answer)
{
    int size = snprintf(answer, ANSWER_BYTES,
                        "ok {\"drops\": %" PRIu64 ", \"dropped_sectors\": %" PRIu64 ", \"kept_sectors\": %" PRIu64
                        ", \"torn_sectors\": %" PRIu64 ", \"dropped_changes\": %" PRIu64 ", \"kept_changes\": %" PRIu64
                        ", \"syncs\": %" PRIu64 ", \"writes\": %" PRIu64 ", \"refused_for_room\": %" PRIu64,
                        disk->drops, disk->losses.dropped_sectors, disk->losses.kept_sectors, disk->losses.torn_sectors,
                        disk->losses.dropped_changes, disk->losses.kept_changes, disk->syncs, disk->writes,
                        disk->refused_for_room);
    for (unsigned i = 0; i < LOSSY_CALL_COUNT; i++) {
        size += snprintf(answer + size, ANSWER_BYTES - (size_t)size, ", \"failed_%s\": %" PRIu64, call_names[i],
                         disk->failed[i]);
    }
    CHECK(size + 1 < (int)ANSWER_BYTES);
    strcpy(answer + size, "}");
}

/* Polled by whoever wants the power to go at a bad moment. */
static void print_pending(const struct lossy_disk *disk, char *answer)
{
    uint64_t sectors = 0, changes = 0;
    for (const struct lossy_node *node = disk->tree.nodes; node != NULL; node = node->next) {
        if (!node->directory) sectors += lossy_file_dirty_sectors(&node->file);
        changes += node->change_count;
    }
    snprintf(answer, ANSWER_BYTES, "ok %" PRIu64 " %" PRIu64, sectors, changes);
}

static void set_number(const char *text, uint64_t *out, char *answer)
{
    if (!parse_number(text, out)) snprintf(answer, ANSWER_BYTES, "error this takes a number");
}

static void obey(struct lossy_disk *disk, char *line, char *answer)
{
    strcpy(answer, "ok");
    if (strcmp(line, "pending") != 0) lossy_disk_trace(disk, "command %s", line);
    char *words[5] = {NULL}, *rest = NULL;
    unsigned count = 0;
    for (char *word = strtok_r(line, " ", &rest); word != NULL && count < 4; word = strtok_r(NULL, " ", &rest)) {
        words[count++] = word;
    }
    const char *command = words[0] == NULL ? "" : words[0];
    uint64_t number = 0;
    if (strcmp(command, "sync") == 0) {
        lossy_tree_sync_all(&disk->tree);
    } else if (strcmp(command, "drop") == 0) {
        drop(disk, words[1], answer);
    } else if (strcmp(command, "cut") == 0) {
        disk->is_cut = true;
        disk->cuts++;
        pthread_cond_broadcast(&disk->changed);
    } else if (strcmp(command, "fail") == 0) {
        set_fault(disk, words[1], words[2], words[3], answer);
    } else if (strcmp(command, "heal") == 0) {
        for (unsigned i = 0; i < LOSSY_CALL_COUNT; i++) disk->faults[i].left = 0;
    } else if (strcmp(command, "limit") == 0) {
        set_number(words[1], &disk->limit_bytes, answer);
    } else if (strcmp(command, "slow") == 0) {
        set_number(words[1], &number, answer);
        disk->slow_ms = (unsigned)number;
    } else if (strcmp(command, "writeback") == 0) {
        set_number(words[1], &number, answer);
        disk->write_back_per_mille = (unsigned)number;
    } else if (strcmp(command, "flip") == 0) {
        flip(disk, words[1], words[2], words[3], answer);
    } else if (strcmp(command, "pending") == 0) {
        print_pending(disk, answer);
        return;
    } else if (strcmp(command, "stats") == 0) {
        print_stats(disk, answer);
    } else {
        snprintf(answer, ANSWER_BYTES, "error there is no command %.64s", command);
    }
    lossy_disk_trace(disk, "  %s", answer);
}

static void serve(struct lossy_disk *disk, int fd)
{
    FILE *stream = fdopen(fd, "r+");
    if (stream == NULL) lossy_die("a connection");
    char line[COMMAND_BYTES], answer[ANSWER_BYTES];
    while (fgets(line, sizeof line, stream) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        pthread_mutex_lock(&disk->lock);
        obey(disk, line, answer);
        pthread_mutex_unlock(&disk->lock);
        if (dprintf(fd, "%s\n", answer) < 0) break;
    }
    fclose(stream);
}

struct listener {
    struct lossy_disk *disk;
    int fd;
};

static void *listen_for_commands(void *user)
{
    struct listener listener = *(struct listener *)user;
    mem_free(user);
    for (;;) {
        int fd = accept4(listener.fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0) serve(listener.disk, fd);
    }
    return NULL;
}

void lossy_disk_listen(struct lossy_disk *disk, const char *socket_name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    errno = ENAMETOOLONG;
    if (strlen(socket_name) >= sizeof address.sun_path) lossy_die(socket_name);
    strcpy(address.sun_path, socket_name);
    unlink(socket_name);
    struct listener *listener = mem_alloc(sizeof *listener);
    *listener = (struct listener){.disk = disk, .fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (listener->fd < 0 || bind(listener->fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(listener->fd, 4) != 0) {
        lossy_die(socket_name);
    }
    pthread_t thread;
    if (pthread_create(&thread, NULL, listen_for_commands, listener) != 0) lossy_die("a thread");
    pthread_detach(thread);
}
