/*
 * snapshot_handler.h - makes snapshots while serving, loads the newest at the start, sends them to peers that lag, and
 * receives and installs a leader's. (SnapshotHandler, SnapshotPersistence, SnapshotMetadataPersistence)
 *
 * Making: a slice of chunks at a time is produced on the core thread, then written and synced by a disk job that isn't urgent,
 * so that log writes go first. After the last slice: file sync, directory sync, read back past the page cache and
 * checked, then the metadata are saved; only then it counts (contract rule 5) and `made` is called. A snapshot is written to
 * `*.tmp` and renamed before the directory sync.
 *
 * Sending: PEER_SNAPSHOT messages carry the file's bytes from an offset on, SNAPSHOT_SEND_BYTES each, at most
 * SNAPSHOT_SEND_WINDOW unacknowledged; PEER_SNAPSHOT_REPLY says how many bytes the receiver holds, so a transfer resumes after
 * a lost connection. A snapshot that is being sent isn't removed.
 *
 * Receiving: bytes are written in order into `receive-<index>.tmp` and checked as they come; when all are there: sync, rename,
 * directory sync, read back past the page cache and checked, loaded into the replica beside the state that serves, then
 * metadata saved, log reset, and the replica swaps.
 *
 * Damaged snapshots are renamed to *.damaged-<n>, never deleted, and named in the log with file and offset.
 */
#ifndef CORACLE_DRIVE_SNAPSHOT_HANDLER_H
#define CORACLE_DRIVE_SNAPSHOT_HANDLER_H

#include "base/log.h"
#include "base/peer_message.h"
#include "drive/slot_file.h"
#include "port/disk.h"
#include "replica/replica.h"

#define SNAPSHOT_SEND_BYTES (256u * 1024)
#define SNAPSHOT_SEND_WINDOW (1024u * 1024)

struct snapshot_handler;

struct snapshot_handler_config {
    const char *directory;
    struct disk *disk; /* used by snapshot_handler_recover only */
    struct disk_queue *queue;
    struct logger *logger;
    member_id self;
};

/* Callbacks, on the core thread. */
struct snapshot_handler_handler {
    /* Own snapshot counts: step REPLICA_SNAPSHOT_SAVED, then remove what may go. */
    void (*made)(void *user, raft_index index, uint64_t size_bytes);
    /* Making failed for lack of room or was given up; step REPLICA_SNAPSHOT_FAILED. Not fatal. */
    void (*not_made)(void *user, const char *text);
    /* Send a message to a peer (borrowed; its data is a view until the call returns). */
    void (*send)(void *user, const struct peer_message *message);
    /* A peer has the whole snapshot, or (rejected) sending ended: step REPLICA_SNAPSHOT_SENT. */
    void (*sent)(void *user, member_id peer, raft_index index, bool rejected);
    /* A leader's snapshot is loaded beside the serving state, durable, and counts: the owner resets the log
       (log_manager_reset), then calls replica_install_finish, then snapshot_handler_installed. */
    void (*received)(void *user, raft_index index, raft_term term, uint32_t chain);
    /* A write or sync failed (contract rule 7). */
    void (*failed)(void *user, const char *text);
    uint64_t (*entropy)(void *user);
    /* The current snapshot couldn't be read for a peer, or a peer says that what came is damaged: it should be checked. */
    void (*suspect)(void *user);
};

struct snapshot_handler *snapshot_handler_new(const struct snapshot_handler_config *config,
                                              const struct snapshot_handler_handler *handler, void *user);
void snapshot_handler_free(struct snapshot_handler *handler);

/*
 * At the start: loads the newest good snapshot into the replica (load_begin … load_finish), synchronously, past the page
 * cache. Removes *.tmp leftovers and snapshots of stale epochs. *out is all zero when there is none.
 * Errors (text of 512 bytes): ERR_DAMAGED when the metadata name a snapshot and no good one is there (file and offset in the
 * text; the owner decides), ERR_BAD_VERSION, ERR_IO.
 */
enum error snapshot_handler_recover(struct snapshot_handler *handler, struct replica *replica,
                                    struct snapshot_metadata *out, char *text);

/* Begins to make one, unless one is under way or is being installed. */
void snapshot_handler_make(struct snapshot_handler *handler, struct replica *replica);
/* Gives up what is being made. Jobs under way still finish. */
void snapshot_handler_abandon(struct snapshot_handler *handler);

/* A peer needs the snapshot, as raft says with each heartbeat. No effect while one is being sent to it; but when the peer has answered
   nothing in so many of them, what was sent last counts as lost. A peer that loads or installs answers nothing either; it ignores it. */
#define SNAPSHOT_SEND_ASKED_MAX 20u
void snapshot_handler_send(struct snapshot_handler *handler, member_id peer, raft_term term);
/* The connection to the peer ended: its transfer stops (and resumes by snapshot_handler_send). */
void snapshot_handler_peer_lost(struct snapshot_handler *handler, member_id peer);
/* This member doesn't lead any more: all transfers stop. */
void snapshot_handler_stop_sending(struct snapshot_handler *handler);
/* PEER_SNAPSHOT_REPLY. */
void snapshot_handler_reply(struct snapshot_handler *handler, const struct peer_message *message);

/* PEER_SNAPSHOT of the leader (already stepped, effects.snapshot_chunk was true). Borrowed. `term`: ours, for replies. */
void snapshot_handler_chunk(struct snapshot_handler *handler, struct replica *replica,
                            const struct peer_message *message);
/* After `received` and the swap: tells the leader, and removes older snapshots. */
void snapshot_handler_installed(struct snapshot_handler *handler, raft_term term);

/*
 * The current snapshot (`damaged`), or the metadata that name it, isn't good any more: it isn't sent, and the next one that is made takes
 * its place, also at the same index (replica_snapshot_lost); the owner makes it at once. Until then the file stays where it is, since after a
 * crash a damaged snapshot is worth as much as a missing one; then it is set aside. No effect if `epoch` isn't the current one's.
 */
void snapshot_handler_renew(struct snapshot_handler *handler, uint64_t epoch, bool damaged);
/* Whether one is to be made for that. */
bool snapshot_handler_renewing(const struct snapshot_handler *handler);
const struct slot_file *snapshot_handler_metadata_file(const struct snapshot_handler *handler);
/* The path of the current snapshot, owned by the caller (mem_free). */
char *snapshot_handler_current_path(const struct snapshot_handler *handler);

/* For the garbage collector and metrics: the snapshot that counts. All zero: none. */
const struct snapshot_metadata *snapshot_handler_current(const struct snapshot_handler *handler);
bool snapshot_handler_idle(const struct snapshot_handler *handler);
bool snapshot_handler_busy_making(const struct snapshot_handler *handler);

#endif
