/*
 * log_scan.h - recovery of the log, as steps over blocks. (WriteAheadLogManager's reading half)
 *
 * The caller feeds the segments in the order of their numbers, each from offset 0 in slices, and
 * takes batches out; the scan keeps at most one batch in memory. It makes no system call.
 *
 *     log_scan_init
 *     for each segment: log_scan_segment, then log_scan_feed for each slice (slices are multiples of 4096)
 *         after each feed: while log_scan_next_batch …
 *     log_scan_finish
 *
 * The three outcomes (docs/RECOVERY.md):
 *
 *   clean      every batch was good; after the last, blocks are untouched only.
 *   torn       as clean, but what follows the last good batch are good blocks of the one next batch
 *              number, untouched and cut blocks only, in the extent of that batch, and the batch is
 *              incomplete; no later segment is in use. Its sync never returned, it was never
 *              acknowledged: it is cut.
 *   uncertain  anything else: from the first index that isn't proven, entries may be missing that
 *              this node acknowledged. What it knows it had is (known_last_index, known_last_term),
 *              from later good blocks; extent_known says whether that is an upper bound.
 *
 * Damage that a later segment supersedes (its header's first index is at most the last good index
 * plus 1) is reported and harmless.
 */
#ifndef CORACLE_STORAGE_LOG_SCAN_H
#define CORACLE_STORAGE_LOG_SCAN_H

#include "base/log.h"
#include "storage/log_format.h"

enum log_outcome { LOG_CLEAN, LOG_TORN, LOG_UNCERTAIN };

struct log_scan_result {
    enum log_outcome outcome;
    raft_index last_index;  /* the last entry that is proven; uncertain from last_index + 1 */
    raft_term last_term;
    uint32_t last_chain;
    raft_index known_last_index; /* uncertain: the last entry it knows it had; else last_index */
    raft_term known_last_term;
    bool extent_known;      /* uncertain: nothing beyond known_last_index was ever written */
    uint64_t next_batch_number;
    uint64_t last_segment_number; /* where the log ends; 0: there is no segment in use */
    uint64_t end_offset;    /* where the next batch may go in it: past everything that isn't untouched */
    uint64_t damaged_blocks;
    char damage[256];       /* the first damage or tear, for a person: file name, offset, what; else "" */
};

struct log_scan;

/*
 * Starts at the state after entry `base_index` (of the snapshot; 0, 0, 0 without one): entries up to
 * it are checked but needn't be there. `first_batch_number` is checked only within the log.
 * `log_id`: segments of another log count as damaged.
 */
struct log_scan *log_scan_new(uint64_t log_id, raft_index base_index, raft_term base_term, uint32_t base_chain);
void log_scan_free(struct log_scan *scan);

/* The next segment, by its number (from its file name) and size. */
void log_scan_segment(struct log_scan *scan, uint64_t number, uint64_t size_bytes);

/* The segment's next bytes. Borrowed until the next feed. */
void log_scan_feed(struct log_scan *scan, const uint8_t *data, size_t size);

/* One good batch. */
struct log_scan_batch {
    raft_index first_index; /* may cut the log: entries from here on are replaced */
    raft_index commit;
    uint64_t segment_number;
    uint64_t offset;        /* where it begins in the file, for the index of the log */
    uint64_t file_bytes;
    struct entry **entries; /* owned by the caller once returned; the array is the scan's, until the next call */
    uint32_t entry_count;
};

/* False when the fed bytes hold no further good batch. Entries at or below base_index are left out;
   a batch with none left is skipped. */
bool log_scan_next_batch(struct log_scan *scan, struct log_scan_batch *out);

/* All segments were fed. `expected_last_segment` is the newest number that the metadata knows of (0: none):
   a missing file makes the log uncertain. */
void log_scan_finish(struct log_scan *scan, uint64_t expected_last_segment, struct log_scan_result *out);

const char *log_outcome_name(enum log_outcome outcome);

/*
 * Decodes one batch at a known place, for reading entries back for a peer: `data` holds its
 * `size` file bytes. Entries (out) are owned by the caller, the array too (mem_free).
 * Errors: ERR_DAMAGED, with the offset in the file of the first bad block in *bad_offset.
 */
enum error log_batch_decode(const struct log_batch_place *place, const uint8_t *data, size_t size,
                            struct entry ***entries, uint32_t *entry_count, uint64_t *bad_offset);

#endif
