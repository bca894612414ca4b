/*
 * repair.h - what follows when damage shows while the node serves. Memory holds the true state, so all of it is mended in place, without
 * a restart and without a peer:
 *
 *   a slot       what was saved last is saved again, the bad slot first
 *   the log      nothing more is written to the damaged segment; once all of its entries are applied, a snapshot is made, and when that
 *                counts, the segment is set aside, and the log before it goes, whatever tail was to be kept for peers
 *   a snapshot   it is sent to nobody; a new one is made at once, at the same index if need be; then it is set aside. Likewise
 *                when a slot of its metadata is bad, since making one saves them
 *
 * Until that is done a crash is as if the damage had been found at the start: the member is uncertain (RECOVERY.md), which is safe.
 *
 * This part keeps the counts and says what is to be done next; the drive does it.
 */
#ifndef CORACLE_DRIVE_REPAIR_H
#define CORACLE_DRIVE_REPAIR_H

#include "drive/damage.h"
#include "drive/log_manager.h"
#include "drive/snapshot_handler.h"
#include "drive/state_file.h"

/* After a snapshot couldn't be made, the next try waits for this, then twice as long each time. */
#define REPAIR_RETRY_MIN (1 * TIME_NS_PER_S)
#define REPAIR_RETRY_MAX (60 * TIME_NS_PER_S)

/* Zero but for the first part. Everything is borrowed. */
struct repair {
    struct logger *logger;
    struct log_manager *log;
    struct snapshot_handler *snapshots;
    struct state_file *state_file;
    struct damage_counts *counts;

    uint32_t segments; /* damaged ones, as of the last look */
    uint32_t renewals; /* of the snapshot, for damage that was found since it counted */
    bool resaving;     /* the log's metadata */
    time_ns retry_at, retry_wait;
};

/* What was found. `text` names file and offset. */
void repair_bad_slot(struct repair *repair, struct replica *replica, enum damaged_file file, unsigned slot,
                     const char *text);
void repair_bad_snapshot(struct repair *repair, struct replica *replica, uint64_t epoch, const char *text);

/* What the drive reports: a segment became damaged; both slots of the raft state were saved again; making a snapshot failed; this
   member is certain again. */
void repair_segment_damaged(struct repair *repair);
void repair_state_saved(struct repair *repair);
void repair_not_made(struct repair *repair, time_ns now);
void repair_certain(struct repair *repair);

enum repair_action {
    REPAIR_NOTHING,
    REPAIR_MAKE_SNAPSHOT,
    REPAIR_REMOVE_LOG, /* up to the current snapshot */
};

/* At the end of a turn. */
enum repair_action repair_next(struct repair *repair, const struct replica *replica, time_ns now);
/* When to look again, if no turn comes before; TIME_NS_NEVER. */
time_ns repair_deadline(const struct repair *repair);

#endif
