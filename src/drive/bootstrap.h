/*
 * bootstrap.h - from files to a replica that may take part: first start, restart, and the founding of a cluster.
 *
 * Order: lock; raft state; snapshot; log. All of it before the first message leaves, all past the page cache, and on the
 * core thread, since nothing is served yet.
 *
 * First start (DESIGN.md, 'First start'). An empty member makes a random founding nonce durable and greets with it. Once it
 * has met all members, each derives the cluster id from all members' nonces, stores it, and takes part. So a member that crashes
 * meanwhile comes to the same id, and one whose disk was wiped afterwards comes to another one: it takes its
 * peers' id, and neither votes nor counts until it caught up (raft.h, 'Uncertain').
 */
#ifndef CORACLE_DRIVE_BOOTSTRAP_H
#define CORACLE_DRIVE_BOOTSTRAP_H

#include "drive/damage.h"
#include "drive/drive.h"
#include "drive/log_manager.h"
#include "drive/snapshot_handler.h"
#include "drive/state_file.h"

/* The text of an error, for a person: at most this long. */
#define BOOTSTRAP_TEXT_BYTES 512

struct bootstrap {
    const struct drive_config *config;
    const struct drive_ports *ports;
    struct state_file *state_file;
    struct log_manager *log;
    struct snapshot_handler *snapshots;
    struct damage_counts *damage; /* what is found is counted here */
};

/*
 * Loads or creates the raft state, counting the start (a new incarnation), durably. One that is damaged, or missing beside a log or a
 * snapshot, is made again from the identity in the log's metadata, as that of a member that catches up first; if that is lost too,
 * as that of one that waits for a cluster which the others have founded (founding_nonce 0). ERR_DAMAGED: there are no others
 * and both are lost; nothing was touched. ERR_CONFIG: another node's data.
 */
enum error bootstrap_state(const struct bootstrap *bootstrap, struct raft_state *state, char *text);

/*
 * Recovers snapshot and log into a new replica (out, owned by the caller) of the cluster `state->cluster_id`. A log that is
 * uncertain is noted in the raft state, durably, before anything is written over it. ERR_DAMAGED: entries are lost and there is
 * no other member to take them from.
 */
enum error bootstrap_replica(const struct bootstrap *bootstrap, struct raft_state *state, struct replica **out,
                             char *text);

/* The cluster id of these founders; the order doesn't matter. Never 0. */
struct founder {
    member_id member;
    uint64_t nonce;
};
uint64_t bootstrap_cluster_id(const struct founder *founders, uint32_t count);

/* Notes the members of the configuration as those that the cluster is founded with. */
void bootstrap_found_members(const struct drive_config *config, struct raft_state *state);

/*
 * From the founding on, the members that were noted then rule. The configuration gives known members new addresses;
 * what else it says of members is logged, and `config` is corrected.
 */
void bootstrap_rule_members(const struct raft_state *state, struct drive_config *config, struct logger *logger);

/* A hash of the configured members, to notice different configurations. */
uint64_t bootstrap_membership_hash(const struct drive_config *config);

#endif
