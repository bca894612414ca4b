/*
 * damage.h - which files can be found damaged, and how often that happened: for the metrics.
 */
#ifndef CORACLE_DRIVE_DAMAGE_H
#define CORACLE_DRIVE_DAMAGE_H

#include <stdint.h>

enum damaged_file {
    DAMAGED_RAFT_STATE,
    DAMAGED_LOG_METADATA,
    DAMAGED_SNAPSHOT_METADATA,
    DAMAGED_LOG,
    DAMAGED_SNAPSHOT,
    DAMAGED_FILE_COUNT,
};

struct damage_counts {
    uint64_t found[DAMAGED_FILE_COUNT]; /* slots, segments, snapshots */
    uint64_t open;                      /* found at the start; repaired once this member is certain */
    uint64_t repaired;
};

#endif
