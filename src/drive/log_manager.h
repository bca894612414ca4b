/*
 * log_manager.h - the one door to the log's segments and their metadata. (WriteAheadLogManager, EntryPersistence,
 * MetadataPersistence)
 *
 * Appends batches, one write and one sync each, into zero-filled segments (storage/log_format.h); allocates the next
 * segment ahead, in slices that don't hold up an append; reads entries back for peers that lag; removes segments that a
 * snapshot covers. Recovers the log at the start.
 *
 * The first segment of a log is small (LOG_FIRST_SEGMENT_BYTES), so that a fresh node starts quickly; each next one is four
 * times the one before, and room for the largest batch, up to config.segment_bytes; larger if a batch needs it. One spare
 * is always being made ready, zero-filled and synced, and named as the last segment in the metadata once it is
 * there: so beginning a segment costs no save, and one that goes missing is missed. If there is no room for a spare,
 * `full` is called and the owner refuses proposals; what the current segment and the spare still hold is kept for
 * elections. When there is room again, the spare is made and `full` is called with false. Lack of room is looked for
 * again every LOG_SPACE_RETRY, from log_manager_tick.
 *
 * A failed write or sync of the log is final: `failed` is called once, and nothing is written any more (contract rule 7).
 *
 * Files: log-<number>.seg; damaged ones that are of no further use (a snapshot covers them) are renamed to *.damaged-<n>, never deleted.
 * What recovery finds damaged is reported with file and offset. Recovery reads past the page cache (DISK_UNCACHED), and makes
 * what it keeps durable anew: every kept segment is synced again, and after anything but a clean end a new segment begins.
 */
#ifndef CORACLE_DRIVE_LOG_MANAGER_H
#define CORACLE_DRIVE_LOG_MANAGER_H

#include "base/log.h"
#include "drive/slot_file.h"
#include "port/disk.h"
#include "replica/replica.h"
#include "storage/log_scan.h"
#include "storage/raft_state.h"

#define LOG_FIRST_SEGMENT_BYTES (1024u * 1024)
#define LOG_SPACE_RETRY (1 * TIME_NS_PER_S)

struct log_manager;

struct log_manager_config {
    const char *directory; /* borrowed for its lifetime, as are all below */
    const char *metadata_file;
    const struct raft_state *identity; /* as it is now; the metadata keep a copy. NULL: they keep none */
    uint64_t segment_bytes;
    struct disk *disk; /* used by log_manager_recover, and by log_manager_free to close */
    struct disk_queue *queue;
    struct logger *logger;
};

struct log_manager_handler {
    /* The write `number` is durable; `file_bytes` were written. */
    void (*written)(void *user, uint64_t number, uint64_t file_bytes);
    void (*full)(void *user, bool full);
    void (*failed)(void *user, const char *text);
    /* While serving, a segment was found damaged (each once): see log_manager_damage. */
    void (*damaged)(void *user);
};

/* What the owner does with what recovery reads; the entry is moved. An entry at or below a commit index that was reported is
   never given again. */
struct log_manager_sink {
    void (*entry)(void *user, struct entry *entry);
    void (*commit)(void *user, raft_index commit);
};

struct log_manager *log_manager_new(const struct log_manager_config *config, const struct log_manager_handler *handler,
                                    void *user);
/* No job may be under way, see log_manager_idle; or the writer is gone. Closes files through config.disk. */
void log_manager_free(struct log_manager *manager);

/*
 * Before log_manager_recover, when the raft state is lost: who this member is, as the metadata say, with an old term and vote. Touches
 * nothing. ERR_NO_FILE: there are no metadata; ERR_DAMAGED, ERR_BAD_VERSION, ERR_IO with `text` (512 bytes).
 */
enum error log_manager_load_identity(struct log_manager *manager, struct raft_state *out, char *text);

/*
 * Reads the whole log after (base_index, base_term, base_chain), feeds the sink, and makes the log ready for writing, all
 * before returning (on the core thread, at the start only). `log_id` from the raft state. `fresh`: the raft state's term is
 * 0, so nothing that the log holds was ever acknowledged, and the log may not have been created yet. Errors (text of 512
 * bytes): ERR_IO, ERR_BAD_VERSION (nothing is touched), ERR_NO_SPACE, ERR_NO_PERMISSION. The sink may have been fed when an
 * error is returned.
 *
 * Damage is no error: *result says uncertain. What is owed stays in the log, over crashes too, until log_manager_certain.
 * If the metadata are lost, nobody would miss a last segment that is lost as well: the log is then uncertain without
 * a known end, unless it is fresh, or an unused spare right after the last segment shows that none came after.
 */
enum error log_manager_recover(struct log_manager *manager, uint64_t log_id, bool fresh, raft_index base_index,
                               raft_term base_term, uint32_t base_chain, const struct log_manager_sink *sink,
                               void *sink_user, struct log_scan_result *result, char *text);

/* This member isn't uncertain (any more): the next write begins a segment with nothing owed, if anything was. */
void log_manager_certain(struct log_manager *manager);

/* Begins a write; the entries are moved in and released after `written`. One at a time. `previous_term` and
   `previous_chain` are of the entry before the first (for a segment header). A write of more than
   LOG_BATCH_RECORD_BYTES_MAX goes in several batches, one after the other. Without room for a new segment it waits. */
void log_manager_write(struct log_manager *manager, struct raft_write *write, raft_term previous_term,
                       uint32_t previous_chain);

/* Reads entries back: calls `done` with those that are still there, in order, from first_index on, at most about bytes_max and
   not beyond last_index; count 0 when first_index is gone or its block is damaged or unreadable (which marks the segment
   damaged). The entries are borrowed until `done` returns. Several reads may be under way. */
void log_manager_read(struct log_manager *manager, raft_index first_index, raft_index last_index, uint64_t bytes_max,
                      void (*done)(void *user, uint64_t token, struct entry *const *entries, uint32_t count),
                      void *user, uint64_t token);

/* A snapshot up to (index, term, chain) was installed that the log doesn't match: the log begins anew after it, in a new
   segment, durably, before `done`. No write may be under way. Waits for room if there is none: what is left of the old
   log, but for its last segment, is removed first. */
void log_manager_reset(struct log_manager *manager, raft_index index, raft_term term, uint32_t chain,
                       void (*done)(void *user), void *user);

/* Removes segments whose entries are all at or below `index`, oldest first, but keeps at least `tail_bytes` of log; a damaged segment,
   and what is older, goes whatever the tail. Returns the first index that the log has once the removal is done. Metadata are made
   durable before a file goes. */
raft_index log_manager_remove_before(struct log_manager *manager, raft_index index, uint64_t tail_bytes);

/*
 * ---- damage that shows while serving ----
 *
 * Memory holds what the log says, so a damaged segment is of no use but for a restart: once a snapshot covers its entries it
 * is set aside by log_manager_remove_before. Nothing more is written to it: the next write begins a segment, or, if none
 * comes, a header alone does.
 */

/* How many segments in use are damaged; *until is the last entry that one of them may hold. */
uint32_t log_manager_damage(const struct log_manager *manager, raft_index *until);
/* The scrub found the block at `offset` of the segment bad. No effect when the segment is gone. */
void log_manager_mark_damaged(struct log_manager *manager, uint64_t number, uint64_t offset, const char *why);
/* A slot of the metadata is bad: both are saved again, that one first. */
void log_manager_resave_metadata(struct log_manager *manager, unsigned bad_slot);
bool log_manager_resaving_metadata(const struct log_manager *manager);

/* For the scrub: a segment in use. */
struct log_segment_view {
    uint64_t log_id;
    uint64_t number;
    uint64_t used_bytes; /* written and synced; a multiple of LOG_BATCH_ALIGNMENT */
    bool damaged;        /* known to be */
    bool headless;       /* see log_verify.h */
};
/* The oldest one whose number is above `after`; false: there is none. */
bool log_manager_next_segment(const struct log_manager *manager, uint64_t after, struct log_segment_view *out);
/* Owned by the caller (mem_free). */
char *log_manager_segment_path(const struct log_manager *manager, uint64_t number);
const struct slot_file *log_manager_metadata_file(const struct log_manager *manager);

/* Looks for room again when the disk was full; call it about every LOG_SPACE_RETRY. */
void log_manager_tick(struct log_manager *manager);

/* True when no job is under way. */
bool log_manager_idle(const struct log_manager *manager);

uint64_t log_manager_bytes(const struct log_manager *manager); /* of all segments in use */

#endif
