/*
 * disk.h - the real disk: POSIX calls, each made at once on the calling thread.
 *
 * - A file is made with mode 0600, a directory with 0700.
 * - An uncached read uses O_DIRECT. Where the file system has none, the range is first written back
 *   and dropped from the page cache.
 * - make_directories also syncs the parent of each directory that it makes; so these last.
 * - A lock is flock(2) on a file that holds the owner's process id, which names it to others. The
 *   file stays when the lock ends; removing it would race with the next owner.
 */
#ifndef CORACLE_OS_DISK_H
#define CORACLE_OS_DISK_H

#include "port/disk.h"

struct os_disk {
    struct disk port;
    bool avoid_direct; /* never use O_DIRECT, as if no file system had it */
};

/* Needs no counterpart: files and locks are the only resources. Used by one thread at a time. */
void os_disk_init(struct os_disk *disk);

#endif
