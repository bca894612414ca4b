/*
 * lossy_disk.h - the disk under lossyfs: its faults, its state, and the commands that a nemesis gives.
 *
 * One lock holds for all of it: a file system call, and a command, take it for as long as they work, but not while a slow
 * sync sleeps.
 *
 * Commands, a line each, answered by a line `ok …` or `error …`:
 *   sync                     everything becomes durable
 *   drop [SEED]              the power went: what isn't durable is gone; with a seed, a random part of it survives. Whoever
 *                            used the files has to be dead by then. Ends `cut`. Answers with what was dropped and kept.
 *   cut                      the power goes: from now on every call fails with EIO, a sync that is under way too
 *   fail CALL COUNT [PART]   the next COUNT calls on files whose path holds PART fail. CALL is one of
 *                            read, write, sync (of files), syncdir, name (create, rename, remove): EIO;
 *                            short: a write does half of its work
 *   heal                     no call fails any more
 *   limit BYTES              the disk's size: growing beyond it is ENOSPC; 0: without end
 *   slow MILLISECONDS        each sync takes this long; 0: no more
 *   writeback PER_MILLE      with this chance, a write makes some unsynced sectors of its file durable at once
 *   flip PATH OFFSET BIT     flips a bit of a file
 *   pending                  how many sectors, and changes of directories, a loss of power could take now
 *   stats                    counters, as a JSON object
 */
#ifndef CORACLE_CHAOS_LOSSY_DISK_H
#define CORACLE_CHAOS_LOSSY_DISK_H

#include <pthread.h>
#include <stdio.h>

#include "chaos/lossy_tree.h"

/* Kinds of calls that can be told to fail. */
#define LOSSY_CALLS(X)                                                                                                 \
    X(READ, "read")                                                                                                    \
    X(WRITE, "write")                                                                                                  \
    X(SHORT, "short")                                                                                                  \
    X(SYNC, "sync")                                                                                                    \
    X(SYNC_DIRECTORY, "syncdir")                                                                                       \
    X(NAME, "name")

enum lossy_call {
#define X(name, text) LOSSY_CALL_##name,
    LOSSY_CALLS(X)
#undef X
        LOSSY_CALL_COUNT
};

struct lossy_fault {
    uint64_t left;
    char part[64]; /* of the path; empty: all */
};

struct lossy_disk {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* of `cuts`: ends the sleep of slow syncs */
    struct lossy_tree tree;
    struct random luck; /* of faults; a drop brings its own */
    struct lossy_fault faults[LOSSY_CALL_COUNT];
    uint64_t limit_bytes;
    unsigned slow_ms, write_back_per_mille;
    bool is_cut;
    uint64_t cuts;

    struct lossy_losses losses;
    uint64_t drops, syncs, writes, failed[LOSSY_CALL_COUNT], refused_for_room;
    FILE *trace; /* NULL: none; owned, as is the name */
    char *trace_name;
    uint64_t trace_bytes;
};

/* `trace`: a file for a line on each call that changes something; or NULL. */
void lossy_disk_init(struct lossy_disk *disk, const char *backing, uint64_t seed, const char *trace);
void lossy_disk_destroy(struct lossy_disk *disk);

/* Whether this call is to fail, which it is then counted as. */
bool lossy_disk_fails(struct lossy_disk *disk, enum lossy_call call, const char *path);
/* Waits as long as a sync takes. False when the power went meanwhile. */
bool lossy_disk_wait_for_sync(struct lossy_disk *disk);
void lossy_disk_trace(struct lossy_disk *disk, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Listens for commands on a Unix socket of this name, on a thread of its own, for as long as the process lives. */
void lossy_disk_listen(struct lossy_disk *disk, const char *socket_name);

#endif
