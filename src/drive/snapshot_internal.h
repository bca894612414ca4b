/*
 * snapshot_internal.h - what snapshot_handler.c (recovery, removal), snapshot_make.c, snapshot_send.c and snapshot_receive.c
 * share. Not for others.
 */
#ifndef CORACLE_DRIVE_SNAPSHOT_INTERNAL_H
#define CORACLE_DRIVE_SNAPSHOT_INTERNAL_H

#include "drive/slot_file.h"
#include "drive/snapshot_handler.h"

/* One read while checking or loading; what the core thread parses at a time. */
#define SNAPSHOT_SLICE_BYTES (256u * 1024)

enum snapshot_action {
    SNAPSHOT_WRITE,   /* data at offset into the temporary file, and sync */
    SNAPSHOT_SEAL,    /* close, rename to path, sync the directory */
    SNAPSHOT_READ,    /* a slice of path at offset, past the page cache */
    SNAPSHOT_COUNT,   /* save the metadata */
    SNAPSHOT_DISCARD, /* remove what is there, or set it aside */
};

/* The disk's half of a snapshot that comes to be, made here or received. At most one action is under way. */
struct snapshot_task {
    struct disk_job job;
    struct snapshot_handler *handler;
    void (*done)(struct snapshot_handler *handler);
    bool active;
    /* The run's: */
    enum snapshot_action action;
    char *temporary;
    char *path;
    const char *directory;
    bool sealed;            /* it is at path, no longer at temporary */
    bool damaged;           /* discard by setting aside */
    struct disk_file *file; /* open while written */
    struct buffer data;
    uint64_t offset;
    uint8_t *slice; /* SNAPSHOT_SLICE_BYTES, aligned */
    size_t slice_bytes;
    struct slot_save save;
    char *aside; /* where a damaged one went */
    struct disk_outcome outcome;
};

enum snapshot_make_state { MAKE_IDLE, MAKE_WRITING, MAKE_SEALING, MAKE_CHECKING, MAKE_COUNTING, MAKE_DISCARDING };

struct snapshot_make {
    enum snapshot_make_state state;
    struct replica *replica;
    bool pinned;   /* the replica keeps the state for us */
    bool produced; /* the last chunk is in the task's data */
    bool given_up;
    struct snapshot_header header;
    struct snapshot_writer writer;
    struct snapshot_metadata metadata;
    struct snapshot_reader *reader;
    struct snapshot_task task;
    char text[DISK_TEXT_BYTES]; /* why it was given up */
};

enum snapshot_receive_state {
    RECEIVE_IDLE,
    RECEIVE_RECEIVING,
    RECEIVE_SEALING,
    RECEIVE_WAITING, /* for the making of an own snapshot to end */
    RECEIVE_LOADING,
    RECEIVE_COUNTING,
    RECEIVE_RECEIVED, /* the owner resets the log and swaps the state */
    RECEIVE_DISCARDING,
};

struct snapshot_receive {
    enum snapshot_receive_state state;
    struct replica *replica;
    bool loading; /* replica_load_begin was called, neither finished nor abandoned */
    bool given_up;
    enum error reason; /* why; ERR_OK: another transfer takes its place */
    member_id leader;
    raft_term leader_term;
    raft_index index;
    raft_term log_term;
    uint64_t total;
    uint64_t accepted; /* bytes checked and in memory or written */
    uint64_t written;  /* bytes synced: what replies say */
    struct buffer incoming;
    struct snapshot_reader *reader;
    struct snapshot_metadata metadata;
    uint32_t chain;
    struct snapshot_task task;
    struct peer_message waiting; /* the last chunk of another transfer, without its data; from 0: none */
};

struct snapshot_sender {
    struct disk_job job;
    struct snapshot_handler *handler;
    member_id peer;
    bool active;
    bool probing;           /* one chunk went out to learn what the peer holds */
    uint32_t asked_in_vain; /* how often it was asked for since the peer last answered */
    raft_term term;
    struct snapshot_metadata snapshot;
    uint64_t acked, next;
    uint64_t serial; /* counts the changes of `next` that make a read under way useless */
    bool reading;
    uint64_t read_serial;
    /* The run's: */
    char *path;
    uint64_t read_offset;
    size_t read_bytes, read_got;
    uint8_t *data; /* SNAPSHOT_SEND_BYTES */
    struct disk_outcome outcome;
};

/* A superseded snapshot. */
struct snapshot_old {
    uint64_t epoch;
    bool damaged;
};

struct snapshot_handler {
    struct snapshot_handler_config config;
    struct snapshot_handler_handler handler;
    void *user;
    bool failed;
    struct slot_file metadata_file;
    struct snapshot_metadata current;
    bool renewing; /* another is to take its place, */
    bool damaged;  /* since it is damaged */
    uint64_t next_epoch;
    struct snapshot_make make;
    struct snapshot_receive receive;
    struct snapshot_sender senders[MEMBERS_MAX];
    /* Superseded snapshots, removed once nobody is sent them. */
    struct snapshot_old *olds;
    uint32_t old_count, old_capacity;
    struct disk_job remove_job;
    bool removing;
    char **remove_paths;  /* the run's */
    bool *remove_damaged; /* likewise: to be set aside */
    uint32_t remove_count;
    struct disk_outcome remove_outcome;
};

/* Owned by the caller. */
char *snapshot_path(const struct snapshot_handler *handler, uint64_t epoch);
/* Reports a failure, once. */
void snapshot_fail(struct snapshot_handler *handler, const char *text);
/* `metadata` counts from now on; older files go when nobody needs them. */
void snapshot_counts(struct snapshot_handler *handler, const struct snapshot_metadata *metadata);
void snapshot_remove_old(struct snapshot_handler *handler);

void snapshot_task_begin(struct snapshot_task *task, struct snapshot_handler *handler,
                         void (*done)(struct snapshot_handler *handler), char *temporary, char *path);
void snapshot_task_submit(struct snapshot_task *task, enum snapshot_action action);
/* Submits SNAPSHOT_COUNT. */
void snapshot_task_count(struct snapshot_task *task, const struct snapshot_metadata *metadata);
void snapshot_task_end(struct snapshot_task *task);

void snapshot_make_free(struct snapshot_handler *handler);

void snapshot_receive_free(struct snapshot_handler *handler);
/* An own snapshot was finished or given up: loading may begin, or the transfer has become pointless. */
void snapshot_receive_proceed(struct snapshot_handler *handler);

/* Ends all transfers; their peers ask again. */
void snapshot_senders_reject(struct snapshot_handler *handler);
bool snapshot_sender_uses(const struct snapshot_handler *handler, uint64_t epoch);
bool snapshot_senders_idle(const struct snapshot_handler *handler);
void snapshot_senders_free(struct snapshot_handler *handler);

#endif
