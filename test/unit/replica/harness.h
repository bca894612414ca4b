/*
 * harness.h - several replicas in one process, with a network, disks and clients that a test drives by hand.
 *
 * Messages travel as the frames of peer_codec.h. A disk holds only what was completed: term and vote, the log, and the
 * snapshot that counts. A crash loses the rest, and the results that were still owed.
 *
 * The committed log is applied to a plain model as well, once, by whoever applies it first. Against the model, and
 * against one another, all replicas and all results are checked; the first breach is kept in `violation`:
 *
 *   - equal apply hash and chain at equal index, and equal contents at the end;
 *   - at most one result for a request; a success names a revision that holds exactly this change, applied here;
 *   - what was refused is in no log; nothing is applied twice;
 *   - linearizability: revisions order all changes, a read sees the newest change of its key up to its revision, and
 *     nothing answers with less than what was answered before it was asked;
 *   - no lease expires before its TTL has passed since it was granted or since its last acknowledged renewal was asked
 *     for; and none that was gone when it was asked for is renewed, or has time left.
 */
#ifndef CORACLE_TEST_REPLICA_HARNESS_H
#define CORACLE_TEST_REPLICA_HARNESS_H

#include "base/random.h"
#include "replica/peer_codec.h"
#include "replica/replica.h"

#define HARNESS_CLUSTER_ID 0xc0ac1eull
#define HARNESS_KEYS 32
#define HARNESS_LEASES 32
#define HARNESS_ELECTION_TIMEOUT (1000 * TIME_NS_PER_MS)
#define HARNESS_HEARTBEAT (100 * TIME_NS_PER_MS)
#define HARNESS_LOG_READS_MAX 32
/* Of a snapshot, in one message. */
#define HARNESS_CHUNK_BYTES 1000

/* 0 fields are filled in. */
struct harness_options {
    uint32_t count;
    uint64_t seed;
    uint32_t requests_max;
    time_ns request_timeout, forward_timeout;
    uint64_t snapshot_log_bytes_min;
    uint32_t snapshot_state_percent;
    uint64_t append_bytes_max, inflight_bytes_max, cache_bytes_max, unapplied_bytes_max;
    uint64_t history_bytes_budget; /* in place of REPLICA_HISTORY_BYTES_BUDGET */
    struct content_scrub_limits content_scrub;
    size_t value_bytes;  /* values are padded up to it */
    bool make_snapshots; /* when they are due; else only by harness_snapshot_begin */
    raft_index log_tail; /* entries kept before a snapshot's index */
    bool duplicates;     /* the test duplicates messages, so that a refusal may be of a copy */
    bool any_commands;   /* of harness_command, which the model doesn't follow: only that members agree is checked */
};

struct harness_disk {
    raft_term term;
    member_id vote;
    raft_term no_vote_before_term;
    raft_index base_index; /* the entry before the first one of the log */
    raft_term base_term;
    uint32_t base_chain;
    struct entry **entries; /* from base_index + 1 to last_index */
    raft_index last_index;
    size_t capacity;
    raft_index commit;
    struct buffer snapshot; /* the file's bytes; empty: none */
    raft_index snapshot_index;
    raft_term snapshot_term;
    uint32_t snapshot_chain;
};

struct harness_receive {
    member_id from; /* 0: none */
    raft_index index;
    raft_term term;
    struct buffer bytes;
    bool installing; /* replica_install_prepare said yes */
};

struct harness_making {
    bool active;
    struct snapshot_writer writer;
    struct snapshot_header header;
    struct buffer bytes;
};

struct harness_member {
    member_id id;
    struct replica *replica; /* NULL: down */
    struct replica_config config;
    struct replica_effects effects;
    struct replica_status status; /* after the last flush */
    struct harness_disk disk;
    struct raft_save save;   /* under way; number 0: none */
    struct raft_write write; /* under way; entry_count 0: none */
    struct raft_read_log log_reads[HARNESS_LOG_READS_MAX];
    uint32_t log_read_count;
    struct harness_receive receive;
    struct harness_making making;
    uint64_t incarnation;
    bool touched;  /* stepped since its last flush */
    bool due;      /* the last flush said that a snapshot is due */
    bool tampered; /* the test changed its state: only that others agree is checked */
    bool links[MEMBERS_MAX + 1];
    bool cuts[MEMBERS_MAX + 1]; /* messages to it vanish, and nobody notices */
    uint64_t snapshots_made, snapshots_installed, snapshots_unneeded, results;
};

struct harness_frame {
    member_id from, to;
    enum peer_message_type type;
    bool rejected;
    size_t size;
    uint8_t *bytes;
};

enum harness_kind {
    HARNESS_READ,
    HARNESS_PUT,
    HARNESS_DELETE,
    HARNESS_SNAPSHOT,
    HARNESS_GRANT,
    HARNESS_REVOKE,
    HARNESS_RENEW,
    HARNESS_TIME,
    HARNESS_COMMAND
};

struct harness_request {
    enum harness_kind kind;
    member_id member;
    uint32_t key;
    store_revision floor; /* answered by anybody when it was asked */
    bool done;
    bool lost; /* its member crashed first */
    enum error error;
    store_revision revision;
    bool existed;
    uint64_t value; /* of a read: the request that wrote it; 0: no such key */
    bool applied;   /* of a put: the model has it */
    uint64_t lease;
    int64_t ttl_s, granted_ttl_s;
    bool lease_was_there; /* in the model, when it was asked for */
    raft_index lease_asked_at;
    time_ns lease_safe_until;
    uint64_t count;                  /* of a command */
    struct replica_outcome *outcome; /* of a command; the harness's */
    time_ns asked, answered;
};

struct harness_change {
    store_revision revision;
    uint64_t value; /* the request that wrote it; 0: deleted */
};

/* The model. */
struct harness_key {
    struct harness_change *changes;
    size_t count, capacity;
    uint64_t lease;
};

struct harness_lease {
    uint64_t id;
    int64_t ttl_s;
    bool there;
    raft_index granted_at;
    bool client_revokes; /* one asked for it once: it may go at any time, and so may its namesakes */
    time_ns safe_until;  /* what its holder may rely on, after what was acknowledged */
};

struct harness_point {
    uint32_t chain;
    uint64_t hash;
    bool hashed;
};

struct harness_identity {
    member_id origin;
    uint64_t incarnation, sequence;
};

struct harness {
    struct harness_options options;
    time_ns now;
    struct harness_member members[MEMBERS_MAX + 1]; /* from 1 */
    struct harness_frame *network;                  /* in order of sending */
    uint32_t network_count, network_capacity;
    char violation[512];

    struct harness_request *requests; /* request n at n */
    uint64_t request_count, request_capacity;
    uint64_t open_reads, open_writes;
    store_revision floor;

    raft_index applied; /* by the model */
    store_revision revision;
    struct harness_key keys[HARNESS_KEYS];
    struct harness_lease leases[HARNESS_LEASES];
    uint64_t expired;             /* leases that no client revoked */
    struct harness_point *points; /* by index */
    size_t point_capacity;
    struct harness_identity *identities;
    size_t identity_count, identity_capacity;
    uint64_t repeats; /* commands that came again, and were not applied */
};

struct harness *harness_new(const struct harness_options *options);
void harness_free(struct harness *harness);
void harness_breach(struct harness *harness, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- life ---- */

void harness_start(struct harness *harness, member_id id);
void harness_start_all(struct harness *harness);
/* `reset`: its peers see their connections break. */
void harness_crash(struct harness *harness, member_id id, bool reset);
void harness_connect(struct harness *harness, member_id a, member_id b);
void harness_disconnect(struct harness *harness, member_id a, member_id b);
/* Messages from and to it vanish, or come through again (after new connections). */
void harness_isolate(struct harness *harness, member_id id);
void harness_heal(struct harness *harness);

/* ---- one event each; effects gather until the flush ---- */

void harness_step(struct harness *harness, member_id id, struct replica_event *event);
void harness_tick(struct harness *harness, member_id id);
/* Ends the member's turn and takes its effects over. */
void harness_flush(struct harness *harness, member_id id);
void harness_flush_all(struct harness *harness); /* those that were stepped */

/* Each gives the request's number. */
uint64_t harness_put(struct harness *harness, member_id id, uint32_t key);
uint64_t harness_put_leased(struct harness *harness, member_id id, uint32_t key, uint64_t lease);
uint64_t harness_delete(struct harness *harness, member_id id, uint32_t key);
/* Leases have the ids 1 to HARNESS_LEASES. */
uint64_t harness_grant(struct harness *harness, member_id id, uint64_t lease, int64_t ttl_s);
uint64_t harness_revoke(struct harness *harness, member_id id, uint64_t lease);
uint64_t harness_renew(struct harness *harness, member_id id, uint64_t lease);
uint64_t harness_time(struct harness *harness, member_id id, uint64_t lease);
/* Any command, moved; only with the option any_commands. */
uint64_t harness_command(struct harness *harness, member_id id, struct entry *entry);
uint64_t harness_read(struct harness *harness, member_id id, uint32_t key);
uint64_t harness_want_snapshot(struct harness *harness, member_id id);
const struct harness_request *harness_request(const struct harness *harness, uint64_t number);

/* What is under way reaches the disk; `report`: and the replica hears of it. False: nothing was. */
bool harness_complete_save(struct harness *harness, member_id id, bool report);
bool harness_complete_write(struct harness *harness, member_id id, bool report);
bool harness_answer_log_read(struct harness *harness, member_id id);
bool harness_complete_install(struct harness *harness, member_id id);

/* ---- snapshots ---- */

enum error harness_snapshot_begin(struct harness *harness, member_id id);
/* One slice; true when it was the last: then the file was read back whole, counts, and the log is cut. */
bool harness_snapshot_slice(struct harness *harness, member_id id);
void harness_snapshot_fail(struct harness *harness, member_id id);
/* Loads the file's bytes into the replica, up to but without the finish. */
enum error harness_load(struct replica *replica, struct bytes file);

/* ---- network ---- */

void harness_deliver(struct harness *harness, uint32_t position);
void harness_drop(struct harness *harness, uint32_t position);
void harness_duplicate(struct harness *harness, uint32_t position);
/* Out of the network, to be added again later. */
struct harness_frame harness_take(struct harness *harness, uint32_t position);
void harness_add(struct harness *harness, const struct harness_frame *frame);
/* The position of the first message of this type; network_count: none. 0: any member. */
uint32_t harness_find(const struct harness *harness, enum peer_message_type type, member_id from, member_id to);
/* Drops all messages of this type; returns how many. */
uint32_t harness_drop_all(struct harness *harness, enum peer_message_type type, member_id from, member_id to);
/* Steps the receiver with a message made by the test. */
void harness_receive(struct harness *harness, const struct peer_message *message);

/* ---- longer ---- */

/* Delivers and completes everything until nothing is left to do; no time passes. */
void harness_stabilize(struct harness *harness);
void harness_run(struct harness *harness, time_ns duration);
/* The leader of the highest term among those that are up; 0: none. */
member_id harness_leader(const struct harness *harness);
/* Starts all, and runs until there is a leader that may serve; returns it. */
member_id harness_elect(struct harness *harness);
/* A member that is up and doesn't lead. */
member_id harness_follower(const struct harness *harness);

/* ---- the model (harness_model.c) ---- */

/* After a flush: takes over what the member applied, and compares. */
void harness_check_member(struct harness *harness, struct harness_member *member);
void harness_take_result(struct harness *harness, struct harness_member *member, const struct replica_result *result);
/* All that are up agree with the model, and every request with its result. */
void harness_check_end(struct harness *harness);
/* The request that wrote the key's value at the revision; 0: no such key. */
uint64_t harness_model_value(const struct harness *harness, uint32_t key, store_revision revision);
void harness_key_text(uint32_t key, char *out);
struct harness_lease *harness_lease(struct harness *harness, uint64_t id);
/* The entry at the index, if the disk has it. */
struct entry *harness_disk_entry(const struct harness_disk *disk, raft_index index);

#endif
