/*
 * lossyfs.c - a file system that really loses what wasn't synced.
 *
 *   lossyfs --control SOCKET [--seed N] [--trace FILE] BACKING MOUNTPOINT
 *
 * Killing a process proves nothing about its syncs, since the page cache survives it. This file system (FUSE, in the
 * foreground, for root) passes everything through to the directory BACKING, but keeps what wasn't synced in memory only, and
 * drops it when told to (lossy_disk.h has the commands). What it models:
 *
 * - Contents last after fsync or fdatasync of the file, by sectors of 512 bytes, and the size with them. Until then a loss of power
 *   takes them, or leaves any subset of the sectors (a random one, those before or those after some place), some of them torn: the
 *   beginning is new, the rest is old. The size is then the old one, the new one, or one between; what it covers and nobody wrote is zeros.
 * - Names last after fsync of their directory, whatever was done to the file. Until then a loss of power takes creations,
 *   renames and removals, or leaves the first few of them, or any subset. A rename stays whole. A file or directory that no durable
 *   name leads to is gone, with all that was synced in it.
 * - After a sync that failed, the kernel takes pages for clean that are not on the disk: reads through the cache show them, O_DIRECT reads
 *   don't, and no later sync helps (lossy_file.h).
 * - O_DIRECT and native asynchronous reads work as on a disk. Every open file is FUSE's direct_io, so the kernel caches no contents,
 *   nor names, nor attributes; and a write is here before write(2) returns.
 *
 * What it doesn't: a sector of which several versions were written between two syncs survives in the last one or not at all (unless
 * `writeback` made an earlier one durable); hard links, symbolic links, mmap for writing; renames between directories and of directories
 * (EXDEV); owners and times. Calls are served one by one.
 *
 * Ends, and unmounts, with SIGTERM, SIGINT, or its parent; what wasn't synced is then lost. A mount that a killed one left behind is
 * removed when the next one starts at the same place. Prints the line `ready` once it serves. Exit code 0, 1 when something
 * failed, 2 for a wrong command line.
 */
#define _GNU_SOURCE 1
#define FUSE_USE_VERSION 34

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "chaos/lossy_disk.h"

#define BLOCK_BYTES 4096u
#define DISK_BYTES_WITHOUT_LIMIT (UINT64_C(1) << 40)
#define WRITE_BYTES_MAX (1u << 20)

/* Of struct fuse_file_info's fh. */
#define HANDLE_IS_DIRECT 1u

static struct lossy_disk *disk_of(fuse_req_t request)
{
    return fuse_req_userdata(request);
}

/* Takes the lock. Returns the node, or answers the request and returns NULL, without the lock. */
static struct lossy_node *enter(fuse_req_t request, fuse_ino_t number)
{
    struct lossy_disk *disk = disk_of(request);
    pthread_mutex_lock(&disk->lock);
    struct lossy_node *node = lossy_tree_node(&disk->tree, number);
    int error = node == NULL || node->dead ? ESTALE : disk->is_cut ? EIO : 0;
    if (error == 0) return node;
    pthread_mutex_unlock(&disk->lock);
    fuse_reply_err(request, error);
    return NULL;
}

static void leave(fuse_req_t request)
{
    pthread_mutex_unlock(&disk_of(request)->lock);
}

static void leave_with(fuse_req_t request, int error)
{
    leave(request);
    fuse_reply_err(request, error);
}

static struct stat attributes_of(const struct lossy_node *node)
{
    struct stat status = {.st_ino = node->number, .st_nlink = node->directory ? 2 : 1, .st_blksize = BLOCK_BYTES};
    status.st_mode = node->mode | (node->directory ? S_IFDIR : S_IFREG);
    status.st_size = node->directory ? 0 : (off_t)node->file.bytes;
    status.st_blocks = (status.st_size + 511) / 512;
    return status;
}

static struct fuse_entry_param entry_of(struct lossy_node *node)
{
    node->lookups++;
    return (struct fuse_entry_param){.ino = node->number, .generation = 1, .attr = attributes_of(node)};
}

/* Whether the disk has room for so many further bytes. */
static bool has_room(struct lossy_disk *disk, uint64_t more)
{
    if (more == 0 || disk->limit_bytes == 0) return true;
    uint64_t used = lossy_tree_bytes(&disk->tree);
    if (used < disk->limit_bytes && more <= disk->limit_bytes - used) return true;
    disk->refused_for_room++;
    return false;
}

static void init(void *user, struct fuse_conn_info *connection)
{
    (void)user;
    connection->max_write = WRITE_BYTES_MAX;
    connection->want &= ~(unsigned)FUSE_CAP_WRITEBACK_CACHE;
}

/* ---- Names ---- */

static void lookup(fuse_req_t request, fuse_ino_t parent, const char *text)
{
    struct lossy_node *directory = enter(request, parent);
    if (directory == NULL) return;
    struct lossy_node *node = lossy_names_find(&directory->seen, text);
    if (node == NULL) {
        leave_with(request, ENOENT);
        return;
    }
    struct fuse_entry_param entry = entry_of(node);
    leave(request);
    fuse_reply_entry(request, &entry);
}

static void forget(fuse_req_t request, fuse_ino_t number, uint64_t count)
{
    struct lossy_disk *disk = disk_of(request);
    pthread_mutex_lock(&disk->lock);
    struct lossy_node *node = lossy_tree_node(&disk->tree, number);
    if (node != NULL && node != disk->tree.root) {
        CHECK(node->lookups >= count);
        node->lookups -= count;
        if (node->lookups == 0) lossy_tree_collect(&disk->tree);
    }
    pthread_mutex_unlock(&disk->lock);
    fuse_reply_none(request);
}

static int create_node(struct lossy_disk *disk, struct lossy_node *parent, const char *text, bool directory,
                       mode_t mode, struct lossy_node **out)
{
    if (lossy_disk_fails(disk, LOSSY_CALL_NAME, parent->path)) return EIO;
    if (!has_room(disk, directory ? 0 : 1)) return ENOSPC;
    int error = lossy_tree_create(&disk->tree, parent, text, directory, mode & 07777, out);
    if (error == 0) lossy_disk_trace(disk, "%s %s", directory ? "mkdir" : "create", (*out)->path);
    return error;
}

static void make_directory(fuse_req_t request, fuse_ino_t parent, const char *text, mode_t mode)
{
    struct lossy_node *directory = enter(request, parent), *node = NULL;
    if (directory == NULL) return;
    int error = create_node(disk_of(request), directory, text, true, mode, &node);
    if (error != 0) {
        leave_with(request, error);
        return;
    }
    struct fuse_entry_param entry = entry_of(node);
    leave(request);
    fuse_reply_entry(request, &entry);
}

static void remove_node(fuse_req_t request, fuse_ino_t parent, const char *text, bool is_directory)
{
    struct lossy_disk *disk = disk_of(request);
    struct lossy_node *directory = enter(request, parent);
    if (directory == NULL) return;
    int error = EIO;
    if (!lossy_disk_fails(disk, LOSSY_CALL_NAME, directory->path)) {
        error = lossy_tree_remove(&disk->tree, directory, text, is_directory);
        if (error == 0) lossy_disk_trace(disk, "remove %s/%s", directory->path, text);
    }
    leave_with(request, error);
}

static void remove_file(fuse_req_t request, fuse_ino_t parent, const char *text)
{
    remove_node(request, parent, text, false);
}

static void remove_directory(fuse_req_t request, fuse_ino_t parent, const char *text)
{
    remove_node(request, parent, text, true);
}

static void rename_file(fuse_req_t request, fuse_ino_t from_parent, const char *from, fuse_ino_t to_parent,
                        const char *to, unsigned flags)
{
    struct lossy_disk *disk = disk_of(request);
    struct lossy_node *directory = enter(request, from_parent);
    if (directory == NULL) return;
    struct lossy_node *target = lossy_tree_node(&disk->tree, to_parent);
    int error = flags != 0 ? EINVAL : target == NULL ? ESTALE : 0;
    if (error == 0 && lossy_disk_fails(disk, LOSSY_CALL_NAME, directory->path)) error = EIO;
    if (error == 0) error = lossy_tree_rename(&disk->tree, directory, from, target, to);
    if (error == 0) lossy_disk_trace(disk, "rename %s/%s to %s/%s", directory->path, from, target->path, to);
    leave_with(request, error);
}

static void read_directory(fuse_req_t request, fuse_ino_t number, size_t size, off_t offset,
                           struct fuse_file_info *info)
{
    (void)info;
    struct lossy_node *directory = enter(request, number);
    if (directory == NULL) return;
    char *data = mem_alloc(size);
    size_t used = 0;
    for (size_t i = 0; i < directory->seen.count; i++) {
        const struct lossy_name *name = &directory->seen.items[i];
        if (name->cookie <= (uint64_t)offset) continue;
        struct stat status = attributes_of(name->node);
        size_t needed = fuse_add_direntry(request, data + used, size - used, name->text, &status, (off_t)name->cookie);
        if (needed > size - used) break;
        used += needed;
    }
    leave(request);
    fuse_reply_buf(request, data, used);
    mem_free(data);
}

/* ---- Files ---- */

static void get_attributes(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *info)
{
    (void)info;
    struct lossy_node *node = enter(request, number);
    if (node == NULL) return;
    struct stat status = attributes_of(node);
    leave(request);
    fuse_reply_attr(request, &status, 0);
}

static int resize(struct lossy_disk *disk, struct lossy_node *node, uint64_t bytes)
{
    if (node->directory) return EISDIR;
    if (bytes > node->file.bytes && !has_room(disk, bytes - node->file.bytes)) return ENOSPC;
    lossy_disk_trace(disk, "resize %s from %llu to %llu", node->path, (unsigned long long)node->file.bytes,
                     (unsigned long long)bytes);
    lossy_file_resize(&node->file, bytes);
    return 0;
}

static void set_attributes(fuse_req_t request, fuse_ino_t number, struct stat *wanted, int which,
                           struct fuse_file_info *info)
{
    (void)info;
    struct lossy_node *node = enter(request, number);
    if (node == NULL) return;
    int error = which & FUSE_SET_ATTR_SIZE ? resize(disk_of(request), node, (uint64_t)wanted->st_size) : 0;
    if (error != 0) {
        leave_with(request, error);
        return;
    }
    if (which & FUSE_SET_ATTR_MODE) node->mode = wanted->st_mode & 07777;
    struct stat status = attributes_of(node);
    leave(request);
    fuse_reply_attr(request, &status, 0);
}

static void open_node(struct lossy_node *node, struct fuse_file_info *info)
{
    node->opens++;
    info->fh = info->flags & O_DIRECT ? HANDLE_IS_DIRECT : 0;
    info->direct_io = 1;
    info->keep_cache = 0;
}

static void open_file(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *info)
{
    struct lossy_node *node = enter(request, number);
    if (node == NULL) return;
    int error = info->flags & O_TRUNC ? resize(disk_of(request), node, 0) : 0;
    if (error != 0) {
        leave_with(request, error);
        return;
    }
    open_node(node, info);
    leave(request);
    fuse_reply_open(request, info);
}

static void create_file(fuse_req_t request, fuse_ino_t parent, const char *text, mode_t mode,
                        struct fuse_file_info *info)
{
    struct lossy_node *directory = enter(request, parent), *node = NULL;
    if (directory == NULL) return;
    int error = create_node(disk_of(request), directory, text, false, mode, &node);
    if (error != 0) {
        leave_with(request, error);
        return;
    }
    open_node(node, info);
    struct fuse_entry_param entry = entry_of(node);
    leave(request);
    fuse_reply_create(request, &entry, info);
}

static void release(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *info)
{
    (void)info;
    struct lossy_disk *disk = disk_of(request);
    pthread_mutex_lock(&disk->lock);
    struct lossy_node *node = lossy_tree_node(&disk->tree, number);
    CHECK(node != NULL && node->opens > 0);
    if (--node->opens == 0) lossy_tree_collect(&disk->tree);
    pthread_mutex_unlock(&disk->lock);
    fuse_reply_err(request, 0);
}

static void read_file(fuse_req_t request, fuse_ino_t number, size_t size, off_t offset, struct fuse_file_info *info)
{
    struct lossy_node *node = enter(request, number);
    if (node == NULL) return;
    if (lossy_disk_fails(disk_of(request), LOSSY_CALL_READ, node->path)) {
        leave_with(request, EIO);
        return;
    }
    char *data = mem_alloc(size + 1);
    size_t got = lossy_file_read(&node->file, info->fh & HANDLE_IS_DIRECT, (uint64_t)offset, data, size);
    leave(request);
    fuse_reply_buf(request, data, got);
    mem_free(data);
}

static void write_file(fuse_req_t request, fuse_ino_t number, const char *data, size_t size, off_t offset,
                       struct fuse_file_info *info)
{
    (void)info;
    struct lossy_disk *disk = disk_of(request);
    struct lossy_node *node = enter(request, number);
    if (node == NULL) return;
    uint64_t end = (uint64_t)offset + size;
    int error = lossy_disk_fails(disk, LOSSY_CALL_WRITE, node->path)                   ? EIO
                : !has_room(disk, end > node->file.bytes ? end - node->file.bytes : 0) ? ENOSPC
                                                                                       : 0;
    if (size >= 2 * BLOCK_BYTES && error == 0 && lossy_disk_fails(disk, LOSSY_CALL_SHORT, node->path)) {
        size = size / 2 / BLOCK_BYTES * BLOCK_BYTES;
    }
    lossy_disk_trace(disk, "write %s %llu+%zu%s%s", node->path, (unsigned long long)offset, size,
                     error == 0 ? "" : ": ", error == 0 ? "" : strerror(error));
    if (error != 0) {
        leave_with(request, error);
        return;
    }
    lossy_file_write(&node->file, (uint64_t)offset, data, size);
    disk->writes++;
    if (random_chance(&disk->luck, disk->write_back_per_mille)) lossy_file_write_back(&node->file, &disk->luck);
    leave(request);
    fuse_reply_write(request, size);
}

/* A sync of a file or of a directory. While it is slow, others may get the lock; the kernel holds the node. */
static void sync_node(fuse_req_t request, fuse_ino_t number, bool is_directory)
{
    struct lossy_disk *disk = disk_of(request);
    struct lossy_node *node = enter(request, number);
    if (node == NULL) return;
    int error = 0;
    if (!lossy_disk_wait_for_sync(disk)) {
        error = EIO;
    } else if (lossy_disk_fails(disk, is_directory ? LOSSY_CALL_SYNC_DIRECTORY : LOSSY_CALL_SYNC, node->path)) {
        error = EIO;
        if (!is_directory) lossy_file_fail_sync(&node->file, &disk->luck);
    } else if (is_directory) {
        lossy_tree_sync_directory(&disk->tree, node);
        lossy_tree_collect(&disk->tree);
    } else {
        lossy_file_sync(&node->file);
    }
    disk->syncs++;
    lossy_disk_trace(disk, "sync %s%s%s", node->path, error == 0 ? "" : ": ", error == 0 ? "" : strerror(error));
    leave_with(request, error);
}

static void sync_file(fuse_req_t request, fuse_ino_t number, int only_data, struct fuse_file_info *info)
{
    (void)only_data; /* a size that is needed to find the data is among them */
    (void)info;
    sync_node(request, number, false);
}

static void sync_directory(fuse_req_t request, fuse_ino_t number, int only_data, struct fuse_file_info *info)
{
    (void)only_data;
    (void)info;
    sync_node(request, number, true);
}

static void get_statistics(fuse_req_t request, fuse_ino_t number)
{
    (void)number;
    struct lossy_disk *disk = disk_of(request);
    pthread_mutex_lock(&disk->lock);
    uint64_t size = disk->limit_bytes == 0 ? DISK_BYTES_WITHOUT_LIMIT : disk->limit_bytes;
    uint64_t used = lossy_tree_bytes(&disk->tree);
    uint64_t left = used < size ? size - used : 0;
    bool is_cut = disk->is_cut;
    pthread_mutex_unlock(&disk->lock);
    struct statvfs status = {.f_bsize = BLOCK_BYTES,
                             .f_frsize = BLOCK_BYTES,
                             .f_blocks = size / BLOCK_BYTES,
                             .f_bfree = left / BLOCK_BYTES,
                             .f_bavail = left / BLOCK_BYTES,
                             .f_namemax = 255};
    if (is_cut) {
        fuse_reply_err(request, EIO);
    } else {
        fuse_reply_statfs(request, &status);
    }
}

/* Without flock and setlk, the kernel keeps locks by itself. */
static const struct fuse_lowlevel_ops operations = {
    .init = init,
    .lookup = lookup,
    .forget = forget,
    .getattr = get_attributes,
    .setattr = set_attributes,
    .mkdir = make_directory,
    .unlink = remove_file,
    .rmdir = remove_directory,
    .rename = rename_file,
    .open = open_file,
    .create = create_file,
    .read = read_file,
    .write = write_file,
    .release = release,
    .fsync = sync_file,
    .readdir = read_directory,
    .fsyncdir = sync_directory,
    .statfs = get_statistics,
};

/* ---- The program ---- */

static void usage(void)
{
    fprintf(stderr, "usage: lossyfs --control SOCKET [--seed N] [--trace FILE] BACKING MOUNTPOINT\n");
    exit(2);
}

/* A mount whose file system was killed answers nothing but ENOTCONN. */
static void remove_stale_mount(const char *place)
{
    struct stat status;
    if (stat(place, &status) == 0 || errno != ENOTCONN) return;
    if (umount2(place, MNT_DETACH) != 0) lossy_die("removing a stale mount");
}

static int run(struct lossy_disk *disk, const char *place)
{
    char name[] = "lossyfs", options[] = "-ofsname=lossyfs,subtype=lossyfs,default_permissions";
    char *arguments[] = {name, options, NULL};
    struct fuse_args args = FUSE_ARGS_INIT(2, arguments);
    struct fuse_session *session = fuse_session_new(&args, &operations, sizeof operations, disk);
    int result = 1;
    if (session == NULL) goto no_session;
    if (fuse_set_signal_handlers(session) != 0) goto no_handlers;
    if (fuse_session_mount(session, place) != 0) goto no_mount;
    printf("ready\n");
    fflush(stdout);
    result = fuse_session_loop(session) < 0;
    fuse_session_unmount(session);
no_mount:
    fuse_remove_signal_handlers(session);
no_handlers:
    fuse_session_destroy(session);
no_session:
    fuse_opt_free_args(&args);
    return result;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"control", required_argument, NULL, 'c'},
        {"seed", required_argument, NULL, 's'},
        {"trace", required_argument, NULL, 't'},
        {0},
    };
    const char *control = NULL, *trace = NULL;
    uint64_t seed = 1;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        char *end = NULL;
        if (option == 'c') control = optarg;
        if (option == 't') trace = optarg;
        if (option == 's') seed = strtoull(optarg, &end, 10);
        if (option == '?' || (end != NULL && *end != '\0')) usage();
    }
    if (control == NULL || argc - optind != 2) usage();

    prctl(PR_SET_PDEATHSIG, SIGTERM);
    signal(SIGPIPE, SIG_IGN);
    remove_stale_mount(argv[optind + 1]);
    struct lossy_disk disk;
    lossy_disk_init(&disk, argv[optind], seed, trace);
    lossy_disk_listen(&disk, control);
    int result = run(&disk, argv[optind + 1]);
    /* The listening thread may hold the lock for ever: what is left is for the end of the process to free. */
    unlink(control);
    return result;
}
