/*
 * drive.h - one node, running: carries out the replica's effects on the ports. The same code in server and simulator.
 *
 *     bootstrap.h         recovery: lock, raft state, snapshot, log; first start
 *     log_manager.h       the one door to log segments and their metadata: append, roll, read back, remove (WriteAheadLogManager)
 *     snapshot_handler.h  makes, sends, receives and installs snapshots (SnapshotHandler)
 *     garbage_collector.h what may be removed (GarbageCollector)
 *     scrub.h, repair.h   finds damage while serving, and what follows
 *     peers.h             connections to the other members (MembershipManager, RaftProtobufServer, RaftProtobufClient)
 *     clients.h           connections of clients, and their requests (APIServer)
 *
 * All on the core thread, but for the `run` of disk jobs. A turn: callbacks step the replica; drive's turn_end steps the
 * flush, carries out the effects, sends what connections gathered, and sets the timer.
 */
#ifndef CORACLE_DRIVE_DRIVE_H
#define CORACLE_DRIVE_DRIVE_H

#include "api/api.h"
#include "base/log.h"
#include "port/disk.h"
#include "port/loop.h"
#include "port/net.h"

struct drive_member {
    char node_id[NODE_ID_BYTES_MAX + 1];
    char rpc_host[ADDRESS_BYTES_MAX + 1];
    uint16_t rpc_port;
    char api_address[ADDRESS_BYTES_MAX + 1]; /* host:port, for display */
};

struct drive_config {
    char node_id[NODE_ID_BYTES_MAX + 1];
    struct drive_member members[MEMBERS_MAX]; /* this node among them */
    uint32_t member_count;
    char listen_host[ADDRESS_BYTES_MAX + 1]; /* for both ports */
    uint16_t api_port, rpc_port;
    const char *log_directory; /* strings live as long as the drive */
    const char *log_metadata_file;
    const char *raft_state_file;
    const char *snapshot_directory;
    const char *lock_file;
    time_ns election_timeout, heartbeat_interval;
    time_ns rpc_timeout, api_timeout, api_forward_timeout;
    uint32_t connect_attempts_max;
    uint64_t value_bytes_max;
    uint64_t segment_bytes; /* of a full-size segment; the first ones are smaller */
    uint64_t snapshot_log_bytes_min;
    uint32_t snapshot_state_percent;
    uint64_t history_bytes_budget; /* of a new cluster; replicated from then on, so it is no setting of a node */
    struct content_scrub_limits content_scrub; /* likewise */
    uint64_t cache_bytes_max;
    uint64_t log_tail_bytes;                       /* log kept for peers behind a snapshot */
    uint64_t append_bytes_max, inflight_bytes_max; /* of log records, to a peer: see raft.h */
    uint64_t snapshot_slice_bytes;                 /* of a snapshot that is being made, produced between two turns */
    time_ns scrub_interval;                        /* a pass over all files; 0: none (scrub.h) */
    uint64_t scrub_bytes_per_second;
    uint32_t connections_max;
    uint64_t connection_memory_max; /* all clients' buffers together, bytes */
    time_ns idle_timeout;           /* a client connection without a request */
    bool force_start;               /* an operator starts a wiped or unfounded member without its peers */
    const char *version;
};

/* Fills in every default that doesn't depend on the node. */
void drive_config_defaults(struct drive_config *config);

struct drive_ports {
    struct disk *disk; /* for the bootstrap, on the core thread */
    struct disk_queue *disk_queue;
    struct net *net;
    struct loop *loop;
    struct logger *logger;
    void (*refresh_host)(struct api_host *host); /* fills in what the operating system knows; may be NULL */
};

struct drive;

struct drive_handler {
    /* The node ended: exit code 0 after drive_stop, else the reason was logged and is in `text`. The drive makes no more
       calls; free it after this returned (not within). */
    void (*ended)(void *user, int exit_code, const char *text);
};

/* Everything is borrowed for the drive's lifetime; the config is copied, its strings are not. */
struct drive *drive_new(const struct drive_config *config, const struct drive_ports *ports,
                        const struct drive_handler *handler, void *user);

/* Recovers and starts listening. On failure nothing is left running; `text` (512 bytes) says what happened, where and
   what to do. Errors: ERR_LOCKED, ERR_DAMAGED, ERR_BAD_VERSION, ERR_IO, ERR_NO_PERMISSION, ERR_ADDRESS_IN_USE, … */
enum error drive_start(struct drive *drive, char *text);

/* Stops in order: hands leadership over, answers what is under way, says goodbye, syncs, then `ended`. */
void drive_stop(struct drive *drive);

/* Frees at any time, as a crash would: without syncing anything. No disk job of it may be running. */
void drive_free(struct drive *drive);

/* For checkers and tests. */
const struct replica *drive_replica(const struct drive *drive);

#endif
