/*
 * disk.h - the port to files, directories and locks.
 *
 * Two layers. `struct disk` is synchronous and used by one thread at a time: by the bootstrap on
 * the core thread, later by the writer. `struct disk_queue` runs jobs on the writer and reports on
 * the core thread; so nothing blocks the core thread while the node serves.
 *
 * Real: os/disk.c and os/disk_queue.c. Simulated, sector by sector: sim/sim_disk.c.
 *
 * Errors: every operation returns ERR_OK or the named errors, and on failure leaves in
 * disk->error_text what failed, with path and cause ("fdatasync /d/log/…: Input/output error").
 * A failed write or sync is never retried (docs/ARCHITECTURE.md, contract rule 7).
 */
#ifndef CORACLE_PORT_DISK_H
#define CORACLE_PORT_DISK_H

#include "base/bytes.h"
#include "base/error.h"
#include "base/types.h"

struct disk_file; /* an open file; defined by the implementation */
struct disk_lock;

#define DISK_READ 1u
#define DISK_WRITE 2u
#define DISK_CREATE 4u    /* create when it isn't there */
#define DISK_EXCLUSIVE 8u /* with DISK_CREATE: ERR_EXISTS when it is there */
#define DISK_UNCACHED                                                                                                  \
    16u /* reads come from the device, past the page cache, where the file system can; aligned writes go
                             past it too, which costs less CPU (they still need a sync) */

/* Alignment of offset, size and memory that an uncached read must have, and an uncached write may have. */
#define DISK_ALIGNMENT 4096u

struct disk {
    const struct disk_operations *operations;
    char error_text[512]; /* of the last operation that failed */
};

struct disk_operations {
    /* ERR_NO_FILE, ERR_EXISTS, ERR_NO_PERMISSION, ERR_NO_SPACE, ERR_IO. `out` is owned by the caller until close. */
    enum error (*open)(struct disk *disk, const char *path, unsigned flags, struct disk_file **out);
    void (*close)(struct disk *disk, struct disk_file *file);
    enum error (*size)(struct disk *disk, struct disk_file *file, uint64_t *out);
    /* Reads up to `size` bytes; *got is less only at the end of the file. ERR_IO. */
    enum error (*read)(struct disk *disk, struct disk_file *file, uint64_t offset, void *data, size_t size,
                       size_t *got);
    /* Writes all of it, or fails: ERR_NO_SPACE, ERR_IO (a short write too). Durable only after sync. */
    enum error (*write)(struct disk *disk, struct disk_file *file, uint64_t offset, const void *data, size_t size);
    /* Makes the file's contents, and what is needed to find them, durable (fdatasync). ERR_IO, ERR_NO_SPACE. */
    enum error (*sync)(struct disk *disk, struct disk_file *file);
    /* Cuts the file, or extends it by zeros. */
    enum error (*truncate)(struct disk *disk, struct disk_file *file, uint64_t size);
    /* Makes the directory's entries (creations, renames, removals) durable. */
    enum error (*sync_directory)(struct disk *disk, const char *path);
    /* Replaces `to` atomically. */
    enum error (*rename)(struct disk *disk, const char *from, const char *to);
    /* ERR_NO_FILE when it isn't there. */
    enum error (*remove)(struct disk *disk, const char *path);
    /* Makes the directory and its missing parents; success when it is there. */
    enum error (*make_directories)(struct disk *disk, const char *path);
    /* Calls `visit` with each file name in the directory (no "." and ".."), in the order of their bytes. */
    enum error (*list)(struct disk *disk, const char *path, void (*visit)(void *user, const char *name), void *user);
    bool (*is_directory)(struct disk *disk, const char *path);
    /* Takes an exclusive lock that ends with the process: ERR_LOCKED when another holds it. */
    enum error (*lock)(struct disk *disk, const char *path, struct disk_lock **out);
    void (*unlock)(struct disk *disk, struct disk_lock *lock);
    /* Bytes that a new file may take on the path's file system. */
    enum error (*free_space)(struct disk *disk, const char *path, uint64_t *out);
};

static inline enum error disk_open(struct disk *disk, const char *path, unsigned flags, struct disk_file **out)
{
    return disk->operations->open(disk, path, flags, out);
}
static inline void disk_close(struct disk *disk, struct disk_file *file)
{
    disk->operations->close(disk, file);
}
static inline enum error disk_size(struct disk *disk, struct disk_file *file, uint64_t *out)
{
    return disk->operations->size(disk, file, out);
}
static inline enum error disk_read(struct disk *disk, struct disk_file *file, uint64_t offset, void *data, size_t size,
                                   size_t *got)
{
    return disk->operations->read(disk, file, offset, data, size, got);
}
static inline enum error disk_write(struct disk *disk, struct disk_file *file, uint64_t offset, const void *data,
                                    size_t size)
{
    return disk->operations->write(disk, file, offset, data, size);
}
static inline enum error disk_sync(struct disk *disk, struct disk_file *file)
{
    return disk->operations->sync(disk, file);
}
static inline enum error disk_truncate(struct disk *disk, struct disk_file *file, uint64_t size)
{
    return disk->operations->truncate(disk, file, size);
}
static inline enum error disk_sync_directory(struct disk *disk, const char *path)
{
    return disk->operations->sync_directory(disk, path);
}
static inline enum error disk_rename(struct disk *disk, const char *from, const char *to)
{
    return disk->operations->rename(disk, from, to);
}
static inline enum error disk_remove(struct disk *disk, const char *path)
{
    return disk->operations->remove(disk, path);
}
static inline enum error disk_make_directories(struct disk *disk, const char *path)
{
    return disk->operations->make_directories(disk, path);
}
static inline enum error disk_list(struct disk *disk, const char *path, void (*visit)(void *user, const char *name),
                                   void *user)
{
    return disk->operations->list(disk, path, visit, user);
}
static inline bool disk_is_directory(struct disk *disk, const char *path)
{
    return disk->operations->is_directory(disk, path);
}
static inline enum error disk_lock(struct disk *disk, const char *path, struct disk_lock **out)
{
    return disk->operations->lock(disk, path, out);
}
static inline void disk_unlock(struct disk *disk, struct disk_lock *lock)
{
    disk->operations->unlock(disk, lock);
}
static inline enum error disk_free_space(struct disk *disk, const char *path, uint64_t *out)
{
    return disk->operations->free_space(disk, path, out);
}

/*
 * A unit of disk work. The submitter owns the job, and keeps it and all that it points to alive
 * until `done` was called. `run` may use the disk and the job's own fields, nothing else.
 */
struct disk_job {
    void (*run)(struct disk_job *job, struct disk *disk); /* on the writer */
    void (*done)(struct disk_job *job);                   /* on the core thread, in the order of running */
    bool urgent;           /* goes before every job that isn't: log and raft state. Equal ones run in order. */
    struct disk_job *next; /* the queue's */
};

struct disk_queue {
    const struct disk_queue_operations *operations;
};

struct disk_queue_operations {
    void (*submit)(struct disk_queue *queue, struct disk_job *job);
};

static inline void disk_submit(struct disk_queue *queue, struct disk_job *job)
{
    queue->operations->submit(queue, job);
}

#endif
