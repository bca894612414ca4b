/*
 * log_format.h - the write-ahead log on disk: blocks, batches, segments. (EntryPersistence)
 *
 * A pure codec: bytes in, bytes out. Who writes and syncs is drive/log_manager.h.
 *
 * The log is a sequence of segment files `log-<number>.seg` (number: 16 hex digits, from 1, never
 * reused). A segment is zero-filled to its full size and synced before it is used, so that a sync
 * during use writes no metadata. Everything in it is a multiple of LOG_BLOCK_BYTES, the unit that
 * a disk writes atomically or not at all.
 *
 * Segment file:
 *
 *     offset  size            content
 *          0  512             segment header, one block (below)
 *        512  3584            zero
 *       4096  …               batches, each beginning at a multiple of LOG_BATCH_ALIGNMENT, so that no block
 *                             that a sync has returned for is ever written again
 *
 * Segment header block:
 *
 *          0  4   crc32c of bytes 4..511
 *          4  4   magic "CLSG"
 *          8  4   format version (LOG_VERSION)
 *         12  4   zero
 *         16  8   log id: random, one for each log; in the raft state and the metadata too
 *         24  8   segment number
 *         32  8   segment size in bytes
 *         40  8   first index: of the first entry in it
 *         48  8   previous term: of the entry before the first
 *         56  4   previous chain: likewise
 *         60  4   zero
 *         64  8   first batch number
 *         72  8   owed index  } 0 from a writer that was certain. From an uncertain one: up to where, in the order of
 *         80  8   owed term   } (term, index), this member may have acknowledged entries that the log before lacks
 *         88  1   owed flags: 1 = something is owed, 2 = perhaps even beyond that (the extent isn't known)
 *         89  …   zero
 *        510  2   end mark 0xA55A
 *
 * An all-zero header block is a segment that was allocated ahead and not used yet: a spare. The header is
 * written with the first batch, in the same write and sync; or alone and synced, when the log begins anew
 * after an installed snapshot (first index and previous term and chain are then the snapshot's).
 *
 * What is owed outlives a crash in the middle of a repair: without it, a member that was uncertain and has
 * fetched half of what it lacked would look certain, and would vote as if it never had the other half.
 *
 * A batch is one write and one sync. It is cut over consecutive blocks:
 *
 *          0  4   crc32c of log id (8), segment number (8), block number in the segment (4), then bytes 4..511;
 *                 so a block of an older use, another log, or another place never passes
 *          4  4   batch number, low 32 bits: counts up by one over the life of the log
 *          8  2   this block's number in the batch
 *         10  2   count of blocks in the batch
 *         12  2   used bytes of the content area
 *         14  2   zero
 *         16  8   index of the batch's last entry   } what recovery may know of a batch of which it
 *         24  8   term of the batch's last entry    } can read one block only
 *         32  478 content; unused bytes are zero
 *        510  2   end mark 0xA55A, never zero: a block cut short inside ends in zeros, and a flipped
 *                 bit doesn't look like that
 *
 * The contents of a batch's blocks, concatenated:
 *
 *          0  8   first index
 *          8  8   commit index known when it was written: entries up to it may be applied at recovery
 *         16  4   entry count (at least 1)
 *         20  4   bytes of all records
 *         24  …   the records (base/entry.h), indexes consecutive
 *
 * A batch whose first index is at most the last index so far cuts the log there first (a conflict
 * truncation, made durable by the same sync as what replaces it). A batch is valid if and only if
 * all its blocks are good, its number is the last one's plus 1 (the first one's: as its segment's header
 * says), and its first record continues the chain of the entry before. What replaces entries at or below a
 * commit index of an earlier batch must leave them as they were.
 *
 * Versions: a newer LOG_VERSION is refused with ERR_BAD_VERSION and nothing is touched; older ones
 * are read (there is none yet).
 */
#ifndef CORACLE_STORAGE_LOG_FORMAT_H
#define CORACLE_STORAGE_LOG_FORMAT_H

#include "base/bytes.h"
#include "base/entry.h"
#include "base/error.h"
#include "base/types.h"

#define LOG_VERSION 1u
#define LOG_BLOCK_BYTES 512u
#define LOG_BLOCK_CONTENT_OFFSET 32u
#define LOG_BLOCK_CONTENT_BYTES 478u
#define LOG_BATCH_ALIGNMENT 4096u
#define LOG_SEGMENT_HEADER_BYTES 4096u
/* Records in one batch; the writer begins another one before it would pass this. */
#define LOG_BATCH_RECORD_BYTES_MAX (4u * 1024 * 1024)
#define LOG_BATCH_HEADER_BYTES 24u
#define LOG_BATCH_BLOCKS_MAX                                                                                           \
    ((LOG_BATCH_RECORD_BYTES_MAX + LOG_BATCH_HEADER_BYTES + LOG_BLOCK_CONTENT_BYTES - 1) / LOG_BLOCK_CONTENT_BYTES)
_Static_assert(LOG_BATCH_BLOCKS_MAX <= UINT16_MAX, "a batch's blocks are counted in 16 bits");
_Static_assert(LOG_BATCH_RECORD_BYTES_MAX >= ENTRY_HEADER_BYTES + ENTRY_PAYLOAD_BYTES_MAX, "any record fits a batch");

struct log_segment_header {
    uint64_t log_id;
    uint64_t number;
    uint64_t size_bytes;
    raft_index first_index;
    raft_term previous_term;
    uint32_t previous_chain;
    uint64_t first_batch_number;
    bool owed; /* from here to the end: see 'owed index' above; all zero when nothing is owed */
    bool owed_extent_known;
    raft_index owed_index;
    raft_term owed_term;
};

/* `block` has LOG_BLOCK_BYTES. */
void log_segment_header_encode(const struct log_segment_header *header, uint8_t *block);
/* ERR_DAMAGED; ERR_BAD_VERSION; ERR_NO_FILE when the block is all zero (a spare). */
enum error log_segment_header_decode(const uint8_t *block, struct log_segment_header *out);

/* Where a batch goes and what it is. */
struct log_batch_place {
    uint64_t log_id;
    uint64_t segment_number;
    uint64_t offset; /* in the file; a multiple of LOG_BATCH_ALIGNMENT */
    uint64_t batch_number;
};

/* The file bytes that a batch with records of this many bytes takes: a multiple of LOG_BATCH_ALIGNMENT. */
size_t log_batch_file_bytes(size_t record_bytes);

/* Encodes the entries (borrowed; at least one, consecutive, at most LOG_BATCH_RECORD_BYTES_MAX) into `out`,
   which has log_batch_file_bytes of their records' bytes. */
void log_batch_encode(const struct log_batch_place *place, raft_index commit, struct entry *const *entries,
                      uint32_t entry_count, uint8_t *out);

/* What one block is, by its bytes and its place alone. */
enum log_block_state {
    LOG_BLOCK_GOOD,
    LOG_BLOCK_UNTOUCHED, /* all zero */
    LOG_BLOCK_CUT,       /* ends in zeros where the end mark should be: a write cut inside the block */
    LOG_BLOCK_DAMAGED,
};

struct log_block_header {
    uint32_t batch_number;
    uint16_t number;
    uint16_t count;
    uint16_t used_bytes;
    raft_index last_index;
    raft_term last_term;
};

/* Whether the block ends in zeros where its end mark should be, as a write cut inside it leaves it. */
bool log_block_is_cut(const uint8_t *block);
bool log_block_is_zero(const uint8_t *block);
/* Whether it has the end mark of a log's block. */
bool log_block_is_marked(const uint8_t *block);

enum log_block_state log_block_read(uint64_t log_id, uint64_t segment_number, uint32_t block_number,
                                    const uint8_t *block, struct log_block_header *out);

const char *log_block_state_name(enum log_block_state state);

/* "log-%016x.seg"; `out` has LOG_SEGMENT_NAME_BYTES. */
#define LOG_SEGMENT_NAME_BYTES 25
void log_segment_name(uint64_t number, char *out);
/* False when `name` is no segment's name. */
bool log_segment_name_parse(const char *name, uint64_t *number);

#endif
