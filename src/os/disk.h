/*
 * disk.h - the real disk: POSIX calls, each made at once on the calling thread.
 *
 * - A file is made with mode 0600, a directory with 0700.
 * - An uncached read uses O_DIRECT, and reads the next slice ahead when reads follow one another. Where the file system has none, the range is first written back
 *   and dropped from the page cache.
 * - make_directories also syncs the parent of each directory that it makes; so these last.
 * - A lock is flock(2) on a file that holds the owner's process id, which names it to others. The
 *   file stays when the lock ends; removing it would race with the next owner.
 */
#ifndef CORACLE_OS_DISK_H
#define CORACLE_OS_DISK_H

#include "port/disk.h"

struct read_ahead;

struct os_disk {
    struct disk port;
    struct read_ahead *ahead; /* of sequential uncached reads; NULL before the first */
    bool avoid_direct;        /* never use O_DIRECT, as if no file system had it */
};

/* Used by one thread at a time. */
void os_disk_init(struct os_disk *disk);
/* All files are closed. */
void os_disk_destroy(struct os_disk *disk);

#endif
