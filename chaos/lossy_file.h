/*
 * lossy_file.h - the contents of one file of lossyfs: what is durable, and what a loss of power takes back.
 *
 * What is durable is in a file of its own, the backing file. What was written and not yet synced is in memory, in
 * sectors of 512 bytes over it, each of which is
 *   dirty  written since the last sync: the next sync makes it durable;
 *   lying  of a sync that failed: it shows in cached reads, but is not on the disk, and no later sync brings it there (as
 *          Linux does it: a page whose write-back failed is clean afterwards). An O_DIRECT read tells the truth.
 * The size is pending in the same way until a sync.
 *
 * A backing file that can't be read or written is the machine's fault and not a modelled one: it ends the program.
 */
#ifndef CORACLE_CHAOS_LOSSY_FILE_H
#define CORACLE_CHAOS_LOSSY_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/random.h"

#define LOSSY_SECTOR_BYTES 512u
#define LOSSY_PAGE_BYTES 4096u

struct lossy_page;

struct lossy_file {
    int backing;            /* descriptor; owned */
    uint64_t durable_bytes; /* its size */
    uint64_t shown_bytes;   /* how much of it still shows: less than durable_bytes after the file was cut */
    uint64_t bytes;         /* the size that everybody sees */
    struct lossy_page **pages;
    size_t page_count;
};

/* What losses of power did. */
struct lossy_losses {
    uint64_t dropped_sectors; /* unsynced, and gone */
    uint64_t kept_sectors;    /* unsynced, and there all the same */
    uint64_t torn_sectors;    /* of which only a beginning is there */
    uint64_t dropped_changes; /* of directories: creations, renames, removals */
    uint64_t kept_changes;
};

/* Takes the open backing file; all of it is durable. */
void lossy_file_init(struct lossy_file *file, int backing);
/* Closes the backing file and forgets the rest. */
void lossy_file_destroy(struct lossy_file *file);

/* Returns how many bytes there were. `direct`: past the cache, so that sectors that lie don't show. */
size_t lossy_file_read(const struct lossy_file *file, bool direct, uint64_t offset, void *data, size_t size);
void lossy_file_write(struct lossy_file *file, uint64_t offset, const void *data, size_t size);
void lossy_file_resize(struct lossy_file *file, uint64_t bytes);

/* Everything that was written becomes durable; but not what lies. */
void lossy_file_sync(struct lossy_file *file);
/* A sync that fails: some of it may be durable, none of it will become so later. */
void lossy_file_fail_sync(struct lossy_file *file, struct random *luck);
/* What a system does by itself now and then: some sectors become durable before any sync. */
void lossy_file_write_back(struct lossy_file *file, struct random *luck);
/* The power goes. Without `luck` everything unsynced is gone; with it a random part survives, and sectors may be torn. */
void lossy_file_lose(struct lossy_file *file, struct random *luck, struct lossy_losses *losses);
/* Unsynced, and not lying. */
uint64_t lossy_file_dirty_sectors(const struct lossy_file *file);
/* Flips one bit, on the disk and in what is not there yet. False when the file ends before. */
bool lossy_file_flip(struct lossy_file *file, uint64_t offset, unsigned bit);

/* Ends the program with a message and errno's text. */
_Noreturn void lossy_die(const char *what);

#endif
