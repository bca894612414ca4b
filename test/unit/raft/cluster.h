/*
 * cluster.h - several raft objects in one process, with a network and disks that a test drives by hand.
 *
 * A member's disk holds only what was completed: term and vote by cluster_complete_save, entries by
 * cluster_complete_write. A crash loses the rest. A message waits in the network until it is delivered or dropped;
 * a crash or a lost connection loses those on its links.
 *
 * Whatever happens is written to a trace, if there is one, and checked against Raft's guarantees (dissertation figure
 * 3.2) and the contract in raft.h. The first breach is kept in `violation`.
 */
#ifndef CORACLE_TEST_RAFT_CLUSTER_H
#define CORACLE_TEST_RAFT_CLUSTER_H

#include "base/bytes.h"
#include "raft/raft.h"

#define CLUSTER_MEMBERS_MAX MEMBERS_MAX
#define CLUSTER_LOG_MAX 4096
#define CLUSTER_TERMS_MAX 4096
#define CLUSTER_READS_MAX 512
#define CLUSTER_LOG_READS_MAX 16
#define CLUSTER_ELECTION_TIMEOUT (1000 * TIME_NS_PER_MS)
#define CLUSTER_HEARTBEAT (100 * TIME_NS_PER_MS)

struct cluster_options {
    uint32_t count;
    uint64_t seed;
    uint64_t append_bytes_max;
    uint64_t inflight_bytes_max;
    uint64_t cache_bytes_max;
    uint64_t unapplied_bytes_max;
};

/* What survives a crash. */
struct cluster_disk {
    raft_term term;
    member_id vote;
    raft_term no_vote_before_term;
    bool catching_up;
    raft_index base_index; /* the entry before the first one of the log */
    raft_term base_term;
    uint32_t base_chain;
    raft_index snapshot_index; /* of the state; at least base_index */
    raft_term snapshot_term;
    uint32_t snapshot_chain;
    struct entry **entries; /* from base_index + 1 to last_index */
    raft_index last_index;
    raft_index commit;
    bool lossy; /* a part of what it acknowledged was destroyed by the test */
};

struct cluster_install {
    bool active;
    member_id from;
    raft_index index;
    raft_term term;
    uint32_t chain;
};

struct cluster;

struct cluster_logger {
    struct logger base; /* first: the callback casts */
    struct cluster *cluster;
    member_id id;
};

struct cluster_member {
    member_id id;
    struct raft *raft; /* NULL: down */
    struct cluster_logger logger;
    struct raft_config config;
    struct raft_effects effects;
    struct raft_status status; /* after its last step */
    struct cluster_disk disk;
    struct raft_save save;   /* under way; number 0: none */
    struct raft_write write; /* under way; owned; entry_count 0: none */
    struct raft_read_log log_reads[CLUSTER_LOG_READS_MAX];
    uint32_t log_read_count;
    struct cluster_install install;
    uint64_t incarnation;
    uint64_t next_context;
    bool touched; /* stepped since its last flush */
    /* What a restart is told about the log. */
    bool uncertain;
    struct raft_uncertainty uncertainty;
    bool links[CLUSTER_MEMBERS_MAX + 1]; /* connected to */
    bool cuts[CLUSTER_MEMBERS_MAX + 1];  /* messages to it vanish, and nobody notices */
};

/* Everything that was ever at an index: log matching says that index and term determine all up to there. */
struct cluster_slot {
    struct cluster_record {
        raft_term term;
        uint32_t chain;
    } * records;
    uint32_t record_count, record_capacity;
    bool committed;
    raft_term committed_term;
};

struct cluster_read {
    member_id id;
    uint64_t context;
    raft_index committed; /* by anybody, when it was asked */
};

struct cluster {
    struct cluster_options options;
    time_ns now;
    struct cluster_member members[CLUSTER_MEMBERS_MAX + 1]; /* from 1 */
    struct peer_message *network;                           /* in order of sending */
    uint32_t network_count, network_capacity;
    struct buffer *trace; /* borrowed; NULL: none */
    enum log_level trace_level;
    char violation[256];

    struct cluster_slot *slots; /* CLUSTER_LOG_MAX */
    raft_index committed_last;
    member_id *leaders; /* by term, CLUSTER_TERMS_MAX */
    struct cluster_read reads[CLUSTER_READS_MAX];
    uint32_t read_count;
    uint64_t steps;
};

/* Fills in 0 fields of the options. All members are down and their disks empty. */
struct cluster *cluster_new(const struct cluster_options *options);
void cluster_free(struct cluster *cluster);

void cluster_print(struct cluster *cluster, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- disks of members that are down ---- */

/* Adds an entry to a disk; its payload is made from index and term, so that it is the same wherever both are. */
void cluster_disk_append(struct cluster *cluster, member_id id, raft_term term);
/* Loses entries from `index` on; the member learns up to where its log reached if `extent_known`. */
void cluster_disk_damage(struct cluster *cluster, member_id id, raft_index index, bool extent_known);
void cluster_disk_wipe(struct cluster *cluster, member_id id);

/* ---- life ---- */

/* Starts from its disk and connects to all members that are up. */
void cluster_start(struct cluster *cluster, member_id id);
/* `reset`: its peers see their connections break; else it just falls silent. */
void cluster_crash(struct cluster *cluster, member_id id, bool reset);
/* Does nothing when one is down or the link is cut. */
void cluster_connect(struct cluster *cluster, member_id a, member_id b);
void cluster_disconnect(struct cluster *cluster, member_id a, member_id b);

/* ---- one event each; the effects are taken over at once ---- */

void cluster_step(struct cluster *cluster, member_id id, struct raft_event *event);
void cluster_tick(struct cluster *cluster, member_id id);
void cluster_flush(struct cluster *cluster, member_id id);
/* Flushes every member that was stepped since its last flush. */
void cluster_end_turn(struct cluster *cluster);
enum error cluster_propose(struct cluster *cluster, member_id id, const char *payload);
void cluster_read(struct cluster *cluster, member_id id, uint64_t context);
/* Up to `limit`, or all that is committed when 0. */
bool cluster_apply(struct cluster *cluster, member_id id, raft_index limit);
/* The write or save is on disk; `report`: and the member hears of it. False: there is none. */
bool cluster_complete_save(struct cluster *cluster, member_id id, bool report);
bool cluster_complete_write(struct cluster *cluster, member_id id, bool report);
bool cluster_complete_install(struct cluster *cluster, member_id id);
void cluster_abandon_install(struct cluster *cluster, member_id id);
bool cluster_answer_log_read(struct cluster *cluster, member_id id, bool gone);
/* A snapshot of the applied state at `index`; the log keeps `keep` entries up to it. */
bool cluster_compact(struct cluster *cluster, member_id id, raft_index index, raft_index keep);

/* ---- network ---- */

/* Takes the message at `position` out of the network and steps its receiver, if that is up. */
void cluster_deliver(struct cluster *cluster, uint32_t position);
void cluster_drop(struct cluster *cluster, uint32_t position);
void cluster_duplicate(struct cluster *cluster, uint32_t position);
/* Steps the receiver with a message that comes from nowhere; moved. */
void cluster_receive(struct cluster *cluster, struct peer_message *message);
void cluster_message_text(const struct peer_message *message, struct buffer *out);

/* ---- longer ---- */

/* Delivers and completes everything until nothing is left to do; no time passes. */
void cluster_stabilize(struct cluster *cluster);
/* The same, while time passes and every member is ticked when it asked for it. */
void cluster_run(struct cluster *cluster, time_ns duration);
/* The leader of the highest term among members that are up; 0: none. */
member_id cluster_leader(const struct cluster *cluster);

#endif
