/*
 * log_internal.h - what log_manager.c (writing, segments), log_read.c (the index, reading back) and log_recover.c share.
 * Not for others.
 */
#ifndef CORACLE_DRIVE_LOG_INTERNAL_H
#define CORACLE_DRIVE_LOG_INTERNAL_H

#include "drive/log_manager.h"
#include "drive/slot_file.h"
#include "storage/log_metadata.h"

/* Zeros written and synced at a time while a spare is made: an append waits for one of these at most. */
#define LOG_FILL_BYTES (1024u * 1024)
/* The least a segment can be good for: its header and one aligned batch. */
#define LOG_SEGMENT_BYTES_MIN (LOG_SEGMENT_HEADER_BYTES + LOG_BATCH_ALIGNMENT)

/* Where a batch lies; its number is read from its first block. */
struct log_batch_ref {
    raft_index first_index;
    uint32_t offset_units; /* of LOG_BATCH_ALIGNMENT */
    uint32_t size_units;
};
_Static_assert(sizeof(struct log_batch_ref) == 16, "the index of the log is compact");

/* In use: in the log, in the order of numbers. The last one is written to. */
struct log_segment {
    uint64_t number;
    uint64_t size_bytes;
    uint64_t used_bytes;
    bool damaged;  /* to be set aside instead of removed, as soon as a snapshot covers it */
    bool headless; /* a crash left it without its header */
    struct log_batch_ref
        *batches; /* first indexes ascend, over all segments; an entry is in the last that can have it */
    uint32_t batch_count, batch_capacity;
};

/* The segment that is made ready for use. */
struct log_spare {
    uint64_t number;
    uint64_t filled_bytes; /* zero and synced */
    uint64_t target_bytes; /* 0: not begun */
    bool ready;            /* in the directory and named by the metadata, durably */
};

struct log_doomed {
    uint64_t number;
    bool damaged;
};

enum log_chore_kind {
    LOG_CHORE_FILL,
    LOG_CHORE_REMOVE,
    LOG_CHORE_RESET,
    LOG_CHORE_LEAVE, /* begins a segment by its header alone, so that nothing is added to a damaged one */
};

/* Everything but batches: one job at a time, so that the metadata go forward only. */
struct log_chore {
    struct disk_job job;
    bool active;
    enum log_chore_kind kind;
    /* The run's: */
    const char *directory;
    char *path; /* of the spare */
    uint8_t *zeros;
    size_t zeros_bytes;
    uint64_t offset;
    size_t bytes;
    uint64_t room_needed;
    bool begins;          /* the spare's first slice */
    bool ends;            /* the last one: sync the directory too */
    uint64_t ready_bytes; /* above 0: the spare was usable with this size, and stays so if there is no room */
    bool lacks_room;
    uint8_t header[LOG_BLOCK_BYTES];
    char **paths; /* to be removed */
    struct log_doomed *doomed;
    uint32_t doomed_count;
    bool saves;
    struct slot_save save;
    struct log_metadata metadata; /* what `save` says */
    struct disk_outcome outcome;
};

struct log_write {
    bool active;  /* a write was begun and not completed */
    bool waiting; /* for a spare that is large enough */
    uint64_t number;
    raft_index commit;
    struct entry **entries; /* an array of its own */
    uint32_t entry_count, entry_capacity;
    uint64_t file_bytes;     /* written so far */
    raft_term previous_term; /* of the entry before the next batch's first */
    uint32_t previous_chain;
    struct disk_job job;
    bool submitted;
    /* The run's: one batch, entries [batch_begin, batch_end). */
    uint32_t batch_begin, batch_end;
    size_t batch_bytes;
    struct log_batch_place place;
    bool begins_segment;
    struct log_segment_header header;
    uint64_t file_number;   /* the segment that `file` is, or is to be */
    char *path;             /* of the segment, when it is to be opened */
    struct disk_file *file; /* open from the first batch on */
    uint8_t *buffer;        /* room for a header, then a batch; aligned */
    size_t buffer_bytes;
    struct disk_outcome outcome;
};

struct log_read;

struct log_manager {
    struct log_manager_config config;
    struct log_manager_handler handler;
    void *user;
    uint64_t log_id;
    bool failed;
    bool full;  /* no room for a spare; `full` was called */
    bool retry; /* look for room again */
    struct slot_file metadata_file;
    struct log_metadata metadata; /* as saved */

    struct log_segment *segments;
    uint32_t segment_count, segment_capacity;
    bool roll;             /* the next batch begins a segment, whatever room there is */
    bool roll_again;       /* so does the one after the segment that is being begun */
    raft_index last_index; /* durable */
    raft_term last_term;
    uint32_t last_chain;
    uint64_t next_batch_number;
    uint64_t next_number;         /* of the next file */
    bool owed, owed_extent_known; /* log_format.h, 'owed' */
    raft_index owed_index;
    raft_term owed_term;

    struct log_spare spare;
    struct log_doomed *doomed;
    uint32_t doomed_count, doomed_capacity;
    struct log_chore chore;
    struct log_write write;

    bool resave; /* the metadata are to be saved again: a slot is damaged */

    bool resetting;
    void (*reset_done)(void *user);
    void *reset_user;

    struct log_read *reads; /* a list */
};

/* Owned by the caller. */
char *log_segment_path(const struct log_manager *manager, uint64_t number);
/* The segment's file isn't as it was written: logged and told once. */
void log_mark_damaged(struct log_manager *manager, struct log_segment *segment, uint64_t offset, const char *why);
/* What is saved next says who this member is now. */
void log_note_identity(const struct log_manager *manager, struct log_metadata *metadata);
/* A zeroed one at the end of the list; the pointer holds until the next call. */
struct log_segment *log_add_segment(struct log_manager *manager, uint64_t number);
/* The size of the next spare. */
uint64_t log_spare_size(const struct log_manager *manager);
/* A header for the segment: log id, number, size, batch number and what is owed; the rest is left to the caller. */
struct log_segment_header log_next_header(const struct log_manager *manager, uint64_t number, uint64_t size_bytes);

/* The index. */
void log_index_add(struct log_manager *manager, struct log_segment *segment, raft_index first_index, uint64_t offset,
                   uint64_t file_bytes);
/* Drops all batches that begin at or after the index. */
void log_index_cut(struct log_manager *manager, raft_index first_index);
/* The first entry that the segments from this one on (by its place in the list) hold; last_index + 1 if none. */
raft_index log_index_first(const struct log_manager *manager, uint32_t segment);
void log_reads_free(struct log_manager *manager);

#endif
