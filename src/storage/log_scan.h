/*
 * log_scan.h - recovery of the log, as steps over blocks. (WriteAheadLogManager's reading half)
 *
 * The caller feeds the segments in the order of their numbers, each from offset 0 in slices, and
 * takes batches out; the scan keeps at most one batch in memory. It makes no system call.
 *
 *     log_scan_new
 *     for each segment: log_scan_segment, then log_scan_feed for each slice
 *         after each feed: while log_scan_next_batch …
 *     log_scan_finish
 *
 * The three outcomes:
 *
 *   clean      every batch was good; after the last, blocks are untouched only.
 *   torn       what a crash leaves, and nothing of the log is lost: what follows the last good batch are good
 *              blocks of the one next batch, untouched and cut blocks only, in the extent of that batch, and it
 *              is incomplete. Its sync never returned, it was never acknowledged: it is cut. Likewise where the
 *              first batch of a segment is there and the header written with it isn't (such a batch is kept when
 *              it is complete); where crash upon crash left several such ends, each in a segment of its own; and
 *              where the log ends before the snapshot, or was refuted by it, since an install didn't get to
 *              beginning the log anew.
 *   uncertain  anything else: from last_index + 1 on, entries may be missing that this member acknowledged.
 *              What it knows it had is (known_last_index, known_last_term), from blocks and headers further on,
 *              the greatest in the order of (term, index); extent_known says whether that is an upper bound.
 *
 * Damage is harmless, and only reported, when a later good batch continues the proven log: then it replaced all that
 * was damaged, or the damage is below the base (log_proof.h says why); and in blocks that hold nothing.
 *
 * What a writer must do, for the next scan to judge rightly:
 *
 *   - One batch at a time: the next one is written only after the last one's sync returned.
 *   - After a clean end it continues at end_offset of last_segment_number, or in a new segment. After a torn or
 *     uncertain one it begins a NEW segment, and never writes to an older one again: good blocks after a torn end in
 *     the same segment would be damage. log_scan_next_header fills in that segment's header: where it
 *     continues, a batch number beyond all that were ever used, and what is owed.
 *   - While the member is uncertain, every segment that it begins says what is owed, as the first one did. When it has
 *     become certain (raft.h, 'Uncertain'), its next batch begins a new segment, with nothing owed; until that is
 *     durable it is uncertain again after a crash. Where the extent was known and the log has reached it, the scan sees by itself that
 *     nothing is owed any more.
 *   - A segment may go when a snapshot covers all of the log's entries that lie in it. (That the next segment's header
 *     begins at or below them isn't enough: its first batch may have been torn, and then it replaced nothing.)
 *   - The metadata's last segment is saved before anything in that segment is acknowledged.
 *   - A segment that is all zero (log_scan_segment_untouched) may be used as a spare, if its number is above
 *     last_segment_number.
 */
#ifndef CORACLE_STORAGE_LOG_SCAN_H
#define CORACLE_STORAGE_LOG_SCAN_H

#include "storage/log_format.h"

enum log_outcome { LOG_CLEAN, LOG_TORN, LOG_UNCERTAIN };

struct log_scan_result {
    enum log_outcome outcome;
    /* The last entry that is proven; uncertain from last_index + 1. Where an uncertain log lost a batch that replaced
       entries (a conflict's), those it replaced may stand here again: an older log of this member, in which, as in any
       log, only what batches named as committed is known to be. */
    raft_index last_index;
    raft_term last_term;
    uint32_t last_chain;
    raft_index known_last_index; /* uncertain: the last entry it knows it had; else last_index */
    raft_term known_last_term;
    bool extent_known;  /* uncertain: nothing beyond known_last was ever acknowledged; else true */
    bool newer_version; /* a segment was written by a newer version: refuse with ERR_BAD_VERSION, touch nothing */
    uint64_t next_batch_number;
    uint64_t last_segment_number; /* the last one in use; 0: there is none */
    uint64_t next_segment_number; /* above all that were fed, spares too */
    uint64_t end_offset; /* clean: where the next batch may go in the last one; else past all that isn't untouched */
    uint64_t damaged_blocks; /* cut ones too */
    char damage[320];        /* the first damage or tear that mattered (else: that was harmless), for a person: file
                               name, offset, what; else "" */
};

struct log_scan;

/*
 * Starts at the state after entry `base_index` (of the snapshot; 0, 0, 0 without one): entries up to
 * it are checked but needn't be there. `log_id`: segments of another log count as damaged.
 */
struct log_scan *log_scan_new(uint64_t log_id, raft_index base_index, raft_term base_term, uint32_t base_chain);
void log_scan_free(struct log_scan *scan);

/* The next segment, by its number (from its file name; above the last one's) and size. Bytes of it that are never fed
   count as damaged. */
void log_scan_segment(struct log_scan *scan, uint64_t number, uint64_t size_bytes);

/* The segment's next bytes, a multiple of LOG_BLOCK_BYTES but at its end. Borrowed until log_scan_next_batch returned
   false, which must come before the next feed. */
void log_scan_feed(struct log_scan *scan, const uint8_t *data, size_t size);

/* Whether all that was fed of the current segment is zero: a spare, if that is all of it. */
bool log_scan_segment_untouched(const struct log_scan *scan);

/* Whether the current segment's header is untouched or cut, as a crash in its first write leaves it. */
bool log_scan_segment_headless(const struct log_scan *scan);

/* One good batch. */
struct log_scan_batch {
    raft_index first_index; /* may cut the log: entries from here on are replaced */
    raft_index commit;
    uint64_t segment_number;
    uint64_t offset; /* where it begins in the file, for the index of the log */
    uint64_t file_bytes;
    struct entry **entries; /* owned by the caller once returned; the array is the scan's, until the next call */
    uint32_t entry_count;
};

/* False when the fed bytes hold no further good batch. Entries at or below base_index are left out;
   a batch with none left is skipped. A batch may write entries anew that came before, even committed ones (they are
   the same then, and only lie elsewhere now). */
bool log_scan_next_batch(struct log_scan *scan, struct log_scan_batch *out);

/* All segments were fed. `expected_last_segment` is the newest number that the metadata knows of (0: none):
   a missing file makes the log uncertain. */
void log_scan_finish(struct log_scan *scan, uint64_t expected_last_segment, struct log_scan_result *out);

/* The header of the segment that continues the log after this result; log id and size are left to the caller. */
void log_scan_next_header(const struct log_scan_result *result, struct log_segment_header *out);

const char *log_outcome_name(enum log_outcome outcome);

/*
 * Decodes one batch at a known place, for reading entries back for a peer: `data` holds its
 * `size` file bytes. Entries (out) are owned by the caller, the array too (mem_free).
 * Errors: ERR_DAMAGED, with the offset in the file of the first bad block in *bad_offset.
 */
enum error log_batch_decode(const struct log_batch_place *place, const uint8_t *data, size_t size,
                            struct entry ***entries, uint32_t *entry_count, uint64_t *bad_offset);

#endif
