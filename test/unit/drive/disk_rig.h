/*
 * disk_rig.h - for the tests of what owns files: the simulated disk, and a queue whose jobs run when the test says so.
 *
 * Faults are the simulated disk's: rig.disk.crash_at and fail_at name an operation by its number. After a crash nothing
 * runs and nobody hears of what ran, until rig_restart.
 */
#ifndef CORACLE_TEST_DRIVE_DISK_RIG_H
#define CORACLE_TEST_DRIVE_DISK_RIG_H

#include "base/log.h"
#include "sim/sim_disk.h"

#define RIG_BAD_FILES 8

struct rig {
    struct sim_world world;
    struct sim_disk disk;
    struct disk_queue queue;
    struct disk_job *urgent, *normal; /* waiting, in order */
    uint64_t jobs_run;
    struct logger logger; /* keeps what is said, at level warn and above */
    struct buffer said;
    /* Where reads fail (rig_unreadable). */
    struct disk_operations operations; /* the simulated disk's, with open, close and read replaced */
    const struct disk_operations *real_operations;
    char *bad_path;
    uint64_t bad_offset, bad_bytes;
    struct disk_file *bad_files[RIG_BAD_FILES]; /* open ones of bad_path */
};

void rig_init(struct rig *rig, uint64_t seed);
void rig_free(struct rig *rig);

/* Runs the next job and its `done`; false when none waits. */
bool rig_run_one(struct rig *rig);
/* Runs until no job waits. */
void rig_run(struct rig *rig);
/* Jobs that wait. */
unsigned rig_waiting(const struct rig *rig);

/* Drops the jobs that wait. The owners of files are freed before the restart. */
void rig_drop(struct rig *rig);
void rig_restart(struct rig *rig, bool power_loss);

/* Whether a line that was logged contains the text. */
bool rig_said(const struct rig *rig, const char *text);

bool rig_exists(struct rig *rig, const char *path);
/* Files in the directory whose names contain `part`. */
unsigned rig_count(struct rig *rig, const char *directory, const char *part);
uint64_t rig_size(struct rig *rig, const char *path);
void rig_read(struct rig *rig, const char *path, uint64_t offset, void *data, size_t size);
/* Changes bytes of a file, durably. */
void rig_write(struct rig *rig, const char *path, uint64_t offset, const void *data, size_t size);
void rig_flip(struct rig *rig, const char *path, uint64_t offset, uint8_t mask);
void rig_remove(struct rig *rig, const char *path);
/* Reads that touch these bytes of the file fail with ERR_IO from now on, in files that are opened from now on. */
void rig_unreadable(struct rig *rig, const char *path, uint64_t offset, uint64_t size);
/* All reads work again. */
void rig_readable(struct rig *rig);

#endif
