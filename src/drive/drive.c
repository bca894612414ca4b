/*
 * drive.c - one node: events from the ports step the replica; at the end of a turn its effects are carried out.
 *
 * A write's way, downwards: clients.c (bytes -> request -> api) -> on_propose -> replica_step -> turn_end -> carry_out:
 * log_manager_write and peers_send -> on_log_written, on_peer_message -> replica_step -> results -> clients_result ->
 * clients_flush.
 */
#include "drive/drive.h"

#include "base/check.h"
#include "base/mark.h"
#include "base/mem.h"
#include "base/mutant.h"
#include "drive/bootstrap.h"
#include "drive/clients.h"
#include "drive/peers.h"
#include "drive/repair.h"
#include "drive/scrub.h"
#include "replica/lessor.h"

#include <stdio.h>

/* How long stopping may take until leadership is handed over and answers are sent. */
#define STOP_PATIENCE (2 * TIME_NS_PER_S)
/* A turn carries out effects until there are none; a bound keeps one busy connection from starving the rest. */
#define TURN_ROUNDS_MAX 64
#define FOUNDING_REPORT_INTERVAL (5 * TIME_NS_PER_S)
#define UNCERTAIN_REPORT_INTERVAL (30 * TIME_NS_PER_S)
#define SLOW_WARNING_INTERVAL (10 * TIME_NS_PER_S)

enum drive_phase {
    DRIVE_NEW,
    DRIVE_FOUNDING, /* waits for the other founders, or learns that its disk was wiped */
    DRIVE_RUNNING,
    DRIVE_STOPPING, /* hands leadership over and answers what is under way */
    DRIVE_CLOSING,  /* waits for disk jobs */
    DRIVE_ENDED,
};

struct drive {
    struct drive_config config;
    struct drive_ports ports;
    const struct drive_handler *handler;
    void *user;
    enum drive_phase phase;

    struct disk_lock *lock;
    struct bootstrap bootstrap;
    struct raft_state state; /* as last saved, or being saved */
    raft_term durable_term;  /* for the greeting: nothing that isn't durable is revealed (contract rule 1) */
    struct log_manager *log;
    struct snapshot_handler *snapshots;
    struct scrub *scrub;
    struct repair repair;
    struct damage_counts damage;
    struct replica *replica;
    struct peers *peers;
    struct clients *clients;
    struct api api;
    struct api_host host;

    struct replica_effects effects;  /* of this turn's steps */
    struct replica_effects carrying; /* being carried out; the two change places */
    bool stepped;
    bool failed;
    char failed_text[512];

    uint64_t write_number; /* under way; 0: none */
    time_ns write_began;
    time_ns save_began;
    time_ns slow_warned;
    bool install_waits; /* a received snapshot waits for the log write under way */

    /* The founding: what each member greeted with. */
    struct peer_greeting founders[MEMBERS_MAX];
    bool founder_met[MEMBERS_MAX];
    time_ns founding_report;
    time_ns uncertain_report;

    time_ns stop_deadline;
    bool stop_asked;
};

static time_ns now_of(const struct drive *drive)
{
    return loop_now(drive->ports.loop);
}

void drive_config_defaults(struct drive_config *config)
{
    *config = (struct drive_config){
        .listen_host = "127.0.0.1",
        .api_port = 7777,
        .rpc_port = 6666,
        .election_timeout = 1000 * TIME_NS_PER_MS,
        .heartbeat_interval = 100 * TIME_NS_PER_MS,
        .rpc_timeout = 1000 * TIME_NS_PER_MS,
        .api_timeout = 2000 * TIME_NS_PER_MS,
        .api_forward_timeout = 1500 * TIME_NS_PER_MS,
        .connect_attempts_max = 5,
        .value_bytes_max = API_VALUE_BYTES_MAX_DEFAULT,
        .segment_bytes = 64ull * 1024 * 1024,
        .snapshot_log_bytes_min = 64ull * 1024 * 1024,
        .snapshot_state_percent = 50,
        .history_bytes_budget = REPLICA_HISTORY_BYTES_BUDGET,
        .content_scrub = CONTENT_SCRUB_LIMITS_DEFAULT,
        .cache_bytes_max = 8ull * 1024 * 1024,
        .log_tail_bytes = 64ull * 1024 * 1024,
        .append_bytes_max = 512ull * 1024,
        .inflight_bytes_max = 4ull * 1024 * 1024,
        .snapshot_slice_bytes = SNAPSHOT_CHUNK_PAYLOAD_BYTES_TARGET,
        .scrub_interval = 24 * 3600 * TIME_NS_PER_S,
        .scrub_bytes_per_second = 4ull * 1024 * 1024,
        .connections_max = 20000,
        .connection_memory_max = 512ull * 1024 * 1024,
        .idle_timeout = 600 * TIME_NS_PER_S,
        .version = "0",
    };
}

_Static_assert(DAMAGED_FILE_COUNT == API_DAMAGE_KINDS, "each kind of damage has a metric");

/* ---- failing ---- */

/* Contract rule 7: from here on nothing is acknowledged; the turn's end reports it. Whoever starts is told by drive_start. */
static void fail(struct drive *drive, const char *text)
{
    if (drive->failed) return;
    drive->failed = true;
    snprintf(drive->failed_text, sizeof drive->failed_text, "%s", text);
    if (drive->phase == DRIVE_NEW) return;
    log_error(drive->ports.logger, "stopping: this node can't go on", "cause=\"%s\"", text);
}

static void on_failed(void *user, const char *text)
{
    fail(user, text);
}

/* ---- stepping ---- */

/* Warns of what took so long that leadership is at risk, and names it; not more often than it helps. */
static void warn_if_slow(struct drive *drive, const char *event, const char *what, time_ns duration)
{
    time_ns now = now_of(drive);
    if (duration < drive->config.election_timeout / 4 || now < drive->slow_warned + SLOW_WARNING_INTERVAL) return;
    drive->slow_warned = now;
    log_warn(drive->ports.logger, event, "what=\"%s\" ms=%lld", what, (long long)(duration / TIME_NS_PER_MS));
}

static void step(struct drive *drive, struct replica_event *event)
{
    event->now = now_of(drive);
    time_ns began = loop_wall_clock(drive->ports.loop); /* the loop's own time stands still during a turn */
    replica_step(drive->replica, event, &drive->effects);
    time_ns duration = loop_wall_clock(drive->ports.loop) - began;
    warn_if_slow(drive, "the CPU is slow or busy", "applying entries", duration);
    drive->stepped = true;
}

static void on_propose(void *user, uint64_t request, struct entry *entry)
{
    struct drive *drive = user;
    struct replica_event event = {.type = REPLICA_PROPOSE, .request = request, .entry = entry};
    step(drive, &event);
}

static void on_read(void *user, uint64_t request)
{
    struct drive *drive = user;
    struct replica_event event = {.type = REPLICA_READ, .request = request};
    step(drive, &event);
}

static void on_want_snapshot(void *user, uint64_t request)
{
    struct drive *drive = user;
    struct replica_event event = {.type = REPLICA_WANT_SNAPSHOT, .request = request};
    step(drive, &event);
}

static void on_lease(void *user, uint64_t request, uint64_t lease, bool renew)
{
    struct drive *drive = user;
    struct replica_event event = {
        .type = renew ? REPLICA_LEASE_RENEW : REPLICA_LEASE_TIME, .request = request, .lease = lease};
    step(drive, &event);
}

static const struct clients_handler clients_handler = {
    .propose = on_propose, .read = on_read, .want_snapshot = on_want_snapshot, .lease = on_lease};

/* ---- disk ---- */

static void continue_install(struct drive *drive);

static void on_log_written(void *user, uint64_t number, uint64_t file_bytes)
{
    struct drive *drive = user;
    time_ns duration = now_of(drive) - drive->write_began;
    api_histogram_add(&drive->host.log_sync, duration);
    warn_if_slow(drive, "the disk is slow", "writing and syncing the log", duration);
    drive->write_number = 0;
    if (drive->failed || drive->replica == NULL) return;
    struct replica_event event = {.type = REPLICA_LOG_WRITTEN, .number = number, .bytes = file_bytes};
    step(drive, &event);
    if (drive->install_waits) continue_install(drive);
}

static void on_log_full(void *user, bool full)
{
    struct drive *drive = user;
    if (full) MARK(DISK_FULL);
    if (!full) MARK(ROOM_AGAIN);
    if (full) {
        log_error(drive->ports.logger, "the disk is full: writes are refused until there is room", "path=%s",
                  drive->config.log_directory);
    } else {
        log_info(drive->ports.logger, "there is room on the disk again", "path=%s", drive->config.log_directory);
    }
    if (drive->replica == NULL) return;
    struct replica_event event = {.type = REPLICA_DISK_FULL, .full = full};
    step(drive, &event);
}

static void on_segment_damaged(void *user)
{
    struct drive *drive = user;
    repair_segment_damaged(&drive->repair);
}

static const struct log_manager_handler log_handler = {
    .written = on_log_written, .full = on_log_full, .failed = on_failed, .damaged = on_segment_damaged};

static void on_state_saved(void *user, uint64_t number)
{
    struct drive *drive = user;
    time_ns duration = now_of(drive) - drive->save_began;
    api_histogram_add(&drive->host.state_sync, duration);
    warn_if_slow(drive, "the disk is slow", "saving term and vote", duration);
    if (drive->failed || drive->replica == NULL) return;
    drive->durable_term = drive->state.term;
    struct replica_event event = {
        .type = REPLICA_STATE_SAVED, .number = number, .incarnation = drive->state.incarnation};
    step(drive, &event);
}

static void on_state_repaired(void *user)
{
    struct drive *drive = user;
    repair_state_saved(&drive->repair);
}

static const struct state_file_handler state_handler = {
    .saved = on_state_saved, .failed = on_failed, .repaired = on_state_repaired};

static void on_log_read(void *user, uint64_t token, struct entry *const *entries, uint32_t count)
{
    struct drive *drive = user;
    if (drive->failed || drive->replica == NULL) return;
    struct replica_event event = {.type = REPLICA_LOG_READ, .peer = token, .entries = entries, .entry_count = count};
    step(drive, &event);
}

/* ---- snapshots ---- */

/* GarbageCollector: the log that the snapshot at `index` covers goes, but for a tail for members that are a little behind. Returns the
   first index that is left. */
static raft_index remove_log(struct drive *drive, raft_index index)
{
    raft_index first = log_manager_remove_before(drive->log, index, drive->config.log_tail_bytes);
    struct replica_event event = {.type = REPLICA_SNAPSHOT_SAVED, .index = index, .first_index = first};
    step(drive, &event);
    return first;
}

static void on_snapshot_made(void *user, raft_index index, uint64_t size_bytes)
{
    struct drive *drive = user;
    if (drive->failed || drive->replica == NULL) return;
    drive->host.snapshots_made++;
    drive->host.snapshot_bytes = size_bytes;
    raft_index first = remove_log(drive, index);
    log_info(drive->ports.logger, "made a snapshot", "index=%llu bytes=%llu log_begins_at=%llu",
             (unsigned long long)index, (unsigned long long)size_bytes, (unsigned long long)first);
}

static void on_snapshot_not_made(void *user, const char *text)
{
    struct drive *drive = user;
    MARK(SNAPSHOT_GIVEN_UP);
    log_warn(drive->ports.logger, "a snapshot was given up", "cause=\"%s\"", text);
    repair_not_made(&drive->repair, now_of(drive));
    if (drive->failed || drive->replica == NULL) return;
    struct replica_event event = {.type = REPLICA_SNAPSHOT_FAILED};
    step(drive, &event);
}

static void on_snapshot_send(void *user, const struct peer_message *message)
{
    struct drive *drive = user;
    if (!drive->failed) peers_send(drive->peers, message);
}

static void on_snapshot_sent(void *user, member_id peer, raft_index index, bool rejected)
{
    struct drive *drive = user;
    if (drive->failed || drive->replica == NULL) return;
    struct replica_event event = {.type = REPLICA_SNAPSHOT_SENT, .peer = peer, .index = index, .rejected = rejected};
    step(drive, &event);
}

static raft_term current_term(const struct drive *drive)
{
    struct replica_status status;
    replica_status(drive->replica, &status);
    return status.raft.term;
}

static void on_log_reset(void *user)
{
    struct drive *drive = user;
    if (drive->failed || drive->replica == NULL) return;
    drive->install_waits = false;
    if (replica_install_finish(drive->replica, now_of(drive), &drive->effects) != ERR_OK) {
        fail(drive, "a snapshot that had been checked could not be loaded");
        return;
    }
    drive->stepped = true;
    drive->host.snapshots_installed++;
    MARK(SNAPSHOT_INSTALLED);
    snapshot_handler_installed(drive->snapshots, current_term(drive));
    struct replica_status status;
    replica_status(drive->replica, &status);
    log_info(drive->ports.logger, "installed a leader's snapshot", "index=%llu",
             (unsigned long long)status.snapshot_index);
}

/* The log may be reset once no write is under way; the replica issues none while it installs. */
static void continue_install(struct drive *drive)
{
    if (drive->write_number != 0) return;
    drive->install_waits = false;
    if (MUTANT(INSTALLS_OVER_OLD_LOG)) {
        on_log_reset(drive);
        return;
    }
    const struct snapshot_metadata *snapshot = snapshot_handler_current(drive->snapshots);
    log_manager_reset(drive->log, snapshot->index, snapshot->term, replica_loaded_chain(drive->replica), on_log_reset,
                      drive);
}

static void on_snapshot_received(void *user, raft_index index, raft_term term, uint32_t chain)
{
    struct drive *drive = user;
    (void)index;
    (void)term;
    (void)chain;
    if (drive->failed || drive->replica == NULL) return;
    if (!replica_install_prepare(drive->replica)) {
        replica_load_abandon(drive->replica);
        snapshot_handler_installed(drive->snapshots, current_term(drive));
        return;
    }
    drive->install_waits = true;
    continue_install(drive);
}

static uint64_t on_snapshot_entropy(void *user)
{
    struct drive *drive = user;
    uint64_t number = 0;
    while (number == 0) loop_entropy(drive->ports.loop, &number, sizeof number);
    return number;
}

static void on_snapshot_suspect(void *user)
{
    struct drive *drive = user;
    scrub_suspect_snapshot(drive->scrub, now_of(drive));
}

static const struct snapshot_handler_handler snapshot_handler_handler = {.made = on_snapshot_made,
                                                                         .not_made = on_snapshot_not_made,
                                                                         .send = on_snapshot_send,
                                                                         .sent = on_snapshot_sent,
                                                                         .received = on_snapshot_received,
                                                                         .failed = on_failed,
                                                                         .entropy = on_snapshot_entropy,
                                                                         .suspect = on_snapshot_suspect};

/* ---- the scrub, and repair ---- */

static void on_bad_slot(void *user, enum damaged_file file, unsigned slot, const char *text)
{
    struct drive *drive = user;
    if (!drive->failed) repair_bad_slot(&drive->repair, drive->replica, file, slot, text);
}

static void on_bad_segment(void *user, uint64_t number, uint64_t offset, const char *text)
{
    struct drive *drive = user;
    log_manager_mark_damaged(drive->log, number, offset, text);
}

static void on_bad_snapshot(void *user, uint64_t epoch, const char *text)
{
    struct drive *drive = user;
    if (!drive->failed) repair_bad_snapshot(&drive->repair, drive->replica, epoch, text);
}

static const struct scrub_handler scrub_handler = {
    .bad_slot = on_bad_slot, .bad_segment = on_bad_segment, .bad_snapshot = on_bad_snapshot};

static void repair(struct drive *drive)
{
    raft_index index, first;
    struct replica_status status;
    switch (repair_next(&drive->repair, drive->replica, now_of(drive))) {
    case REPAIR_NOTHING:
        break;
    case REPAIR_MAKE_SNAPSHOT:
        snapshot_handler_make(drive->snapshots, drive->replica);
        break;
    case REPAIR_REMOVE_LOG:
        index = snapshot_handler_current(drive->snapshots)->index;
        replica_status(drive->replica, &status);
        first = log_manager_remove_before(drive->log, index, drive->config.log_tail_bytes);
        if (first > status.raft.first_index) remove_log(drive, index);
        break;
    }
}

/* ---- the founding, and peers ---- */

static struct peer_greeting own_greeting(const struct drive *drive)
{
    struct peer_greeting greeting = {.version_min = PEER_PROTOCOL_VERSION,
                                     .version_max = PEER_PROTOCOL_VERSION,
                                     .cluster_id = drive->state.cluster_id,
                                     .member = drive->state.member,
                                     .incarnation = drive->state.incarnation,
                                     .founding_nonce = drive->state.founding_nonce,
                                     .term = drive->durable_term,
                                     .membership_hash = bootstrap_membership_hash(&drive->config)};
    snprintf(greeting.node_id, sizeof greeting.node_id, "%s", drive->config.node_id);
    snprintf(greeting.product, sizeof greeting.product, "coracle %.20s", drive->config.version);
    return greeting;
}

static uint32_t member_number(const struct drive *drive, member_id id)
{
    for (uint32_t i = 0; i < drive->config.member_count; i++) {
        if (member_id_of(drive->config.members[i].node_id) == id) return i;
    }
    return MEMBERS_MAX;
}

static bool on_greeted(void *user, const struct peer_greeting *greeting, enum error *reason)
{
    struct drive *drive = user;
    if (drive->state.cluster_id != 0 && greeting->cluster_id != 0 && greeting->cluster_id != drive->state.cluster_id) {
        *reason = ERR_WRONG_CLUSTER;
        return false;
    }
    if (greeting->membership_hash != bootstrap_membership_hash(&drive->config)) {
        log_warn(drive->ports.logger, "a member was configured with other members", "node=%s", greeting->node_id);
        *reason = ERR_WRONG_CLUSTER;
        return false;
    }
    return true;
}

/* The node takes part from now on. */
static void run(struct drive *drive)
{
    char text[BOOTSTRAP_TEXT_BYTES] = "";
    enum error error = bootstrap_replica(&drive->bootstrap, &drive->state, &drive->replica, text);
    if (error != ERR_OK) {
        fail(drive, text);
        return;
    }
    drive->durable_term = drive->state.term;
    scrub_start(drive->scrub, now_of(drive));
    drive->phase = DRIVE_RUNNING;
    drive->uncertain_report = now_of(drive) + UNCERTAIN_REPORT_INTERVAL;
    drive->api.replica = drive->replica;
    struct replica_event tick = {.type = REPLICA_TICK};
    step(drive, &tick);
}

static void connect_replica(struct drive *drive, const struct peer_greeting *greeting)
{
    struct replica_event event = {.type = REPLICA_PEER_CONNECTED,
                                  .peer = greeting->member,
                                  .incarnation = greeting->incarnation,
                                  .term = greeting->term};
    step(drive, &event);
}

static void adopt_cluster(struct drive *drive, uint64_t cluster_id, bool wiped)
{
    if (MUTANT(WIPED_TAKES_PART)) wiped = false;
    drive->state.cluster_id = cluster_id;
    bootstrap_found_members(&drive->config, &drive->state);
    drive->state.catching_up = wiped;
    drive->state.no_vote_before_term = wiped ? 1 : 0;
    char text[BOOTSTRAP_TEXT_BYTES] = "";
    if (state_file_save_now(drive->bootstrap.state_file, &drive->state, text) != ERR_OK) {
        fail(drive, text);
        return;
    }
    if (wiped) {
        MARK(WIPED_MEMBER_JOINED);
        log_warn(drive->ports.logger, "this node's disk was wiped: it takes part again once it caught up",
                 "cluster_id=%016llx", (unsigned long long)cluster_id);
    } else {
        const char *event =
            drive->config.force_start ? "takes part at once, as the operator forced" : "founded the cluster";
        log_info(drive->ports.logger, event, "cluster_id=%016llx", (unsigned long long)cluster_id);
    }
    run(drive);
    if (drive->failed) return;
    for (uint32_t i = 0; i < drive->config.member_count; i++) {
        if (drive->founder_met[i] && drive->founders[i].cluster_id != 0) connect_replica(drive, &drive->founders[i]);
    }
    struct peer_greeting greeting = own_greeting(drive);
    peers_greet_again(drive->peers, &greeting);
}

/* A member that lost its raft state, and with it what cluster it was in: it joins what the others founded, and founds nothing. */
static bool is_no_founder(const struct peer_greeting *greeting)
{
    return greeting->cluster_id == 0 && greeting->founding_nonce == 0;
}

/* Looks whether enough is known to found the cluster, or to see that this member's disk was wiped. */
static void try_to_found(struct drive *drive)
{
    struct founder founders[MEMBERS_MAX];
    uint32_t count = 0, others_founded = 0;
    uint64_t known_id = 0;
    bool lost = drive->state.founding_nonce == 0;
    if (!lost)
        founders[count++] = (struct founder){.member = drive->state.member, .nonce = drive->state.founding_nonce};
    for (uint32_t i = 0; i < drive->config.member_count; i++) {
        const struct peer_greeting *greeting = &drive->founders[i];
        if (greeting->member == 0 || is_no_founder(greeting)) continue;
        founders[count++] = (struct founder){.member = greeting->member, .nonce = greeting->founding_nonce};
        if (greeting->cluster_id == 0) continue;
        if (known_id != 0 && known_id != greeting->cluster_id)
            return; /* they disagree; their connections will say so */
        known_id = greeting->cluster_id;
        others_founded++;
    }
    bool enough = MUTANT(FOUNDED_BY_A_MAJORITY) && count >= drive->config.member_count / 2 + 1;
    if (count == drive->config.member_count || enough) {
        uint64_t id = bootstrap_cluster_id(founders, count);
        adopt_cluster(drive, known_id == 0 ? id : known_id,
                      known_id != 0 && known_id != id && !drive->config.force_start);
    } else if (others_founded >= drive->config.member_count / 2 + 1) {
        /* They can elect a leader without this member, so to catch up first is safe and comes to an end. */
        adopt_cluster(drive, known_id, !drive->config.force_start);
    } else if (known_id != 0 && drive->config.force_start) {
        adopt_cluster(drive, known_id, false);
    }
}

static void on_peer_connected(void *user, const struct peer_greeting *greeting)
{
    struct drive *drive = user;
    uint32_t number = member_number(drive, greeting->member);
    if (number == MEMBERS_MAX || drive->failed) return;
    drive->founders[number] = *greeting;
    drive->founder_met[number] = true;
    if (drive->phase == DRIVE_FOUNDING) {
        try_to_found(drive);
    } else if (drive->replica != NULL && greeting->cluster_id != 0) {
        /* One that is still founding has no replica, and drops what it is sent; it greets again. */
        snapshot_handler_peer_lost(drive->snapshots, greeting->member);
        connect_replica(drive, greeting);
    }
}

static void on_peer_lost(void *user, member_id member, bool crashed)
{
    struct drive *drive = user;
    uint32_t number = member_number(drive, member);
    if (number < MEMBERS_MAX) drive->founder_met[number] = false;
    if (drive->replica == NULL || drive->failed) return;
    snapshot_handler_peer_lost(drive->snapshots, member);
    struct replica_event event = {.type = REPLICA_PEER_LOST, .peer = member, .crashed = crashed};
    step(drive, &event);
}

static void on_peer_message(void *user, const struct peer_message *message)
{
    struct drive *drive = user;
    if (drive->replica == NULL || drive->failed) return;
    struct replica_event event = {.type = REPLICA_MESSAGE, .message = message};
    drive->effects.snapshot_chunk = false;
    step(drive, &event);
    if (message->type == PEER_SNAPSHOT && drive->effects.snapshot_chunk) {
        snapshot_handler_chunk(drive->snapshots, drive->replica, message);
    } else if (message->type == PEER_SNAPSHOT_REPLY) {
        snapshot_handler_reply(drive->snapshots, message);
    }
}

static const struct peers_handler peers_handler = {
    .greeted = on_greeted, .connected = on_peer_connected, .lost = on_peer_lost, .message = on_peer_message};

static void report_founding(struct drive *drive)
{
    time_ns now = now_of(drive);
    if (drive->phase != DRIVE_FOUNDING || now < drive->founding_report) return;
    drive->founding_report = now + FOUNDING_REPORT_INTERVAL;
    bool lost = drive->state.founding_nonce == 0;
    struct buffer missing = {0};
    for (uint32_t i = 0; i < drive->config.member_count; i++) {
        const struct drive_member *member = &drive->config.members[i];
        const struct peer_greeting *greeting = &drive->founders[i];
        if (member_id_of(member->node_id) == drive->state.member) continue;
        if (greeting->cluster_id != 0 || (greeting->founding_nonce != 0 && !lost)) continue;
        bool no_founder = greeting->member != 0 && is_no_founder(greeting);
        buffer_append_format(&missing, "%s%s%s", missing.size == 0 ? "" : ",", member->node_id,
                             no_founder ? " (lost its raft state)" : "");
    }
    buffer_append_byte(&missing, 0);
    log_line(drive->ports.logger, lost ? LOG_LEVEL_WARN : LOG_LEVEL_INFO,
             lost ? "the raft state was lost: waiting until a majority of others has founded the cluster"
                  : "waiting for the other members, to found the cluster together",
             "missing=\"%s\"", (const char *)missing.data);
    buffer_free(&missing);
}

/* Says what an uncertain member waits for; leaders that nobody confirms without it may come and go meanwhile. */
static void report_uncertain(struct drive *drive)
{
    time_ns now = now_of(drive);
    struct replica_status status;
    replica_status(drive->replica, &status);
    if (!status.raft.uncertain) {
        drive->uncertain_report = now + UNCERTAIN_REPORT_INTERVAL;
        return;
    }
    if (now < drive->uncertain_report) return;
    drive->uncertain_report = now + UNCERTAIN_REPORT_INTERVAL;
    log_warn(drive->ports.logger,
             "this member lost data and can't vote: waiting for a leader that the others elect without it",
             "from_index=%llu file=%s", (unsigned long long)(status.raft.durable_index + 1),
             drive->config.raft_state_file);
}

/* ---- the end of a turn ---- */

static void save_state(struct drive *drive, const struct raft_save *save)
{
    drive->state.term = save->term;
    drive->state.vote = save->vote;
    drive->state.no_vote_before_term = save->no_vote_before_term;
    if (drive->state.catching_up && !save->catching_up) repair_certain(&drive->repair);
    drive->state.catching_up = save->catching_up;
    uint64_t incarnation = replica_incarnation(drive->replica);
    if (incarnation > drive->state.incarnation) drive->state.incarnation = incarnation;
    if (!save->catching_up) log_manager_certain(drive->log);
    drive->save_began = now_of(drive);
    state_file_save(drive->bootstrap.state_file, &drive->state, save->number);
}

static void carry_out(struct drive *drive)
{
    struct replica_effects *effects = &drive->carrying;
    if (effects->fatal) {
        fail(drive, effects->fatal_text);
        return;
    }
    if (effects->raft.role_changed) {
        struct replica_status status;
        replica_status(drive->replica, &status);
        if (status.raft.role != RAFT_LEADER) snapshot_handler_stop_sending(drive->snapshots);
    }
    if (effects->raft.save.number != 0) save_state(drive, &effects->raft.save);
    if (effects->raft.write.entry_count != 0) {
        drive->write_number = effects->raft.write.number;
        drive->write_began = now_of(drive);
        log_manager_write(drive->log, &effects->raft.write, effects->raft.write.previous_term,
                          effects->raft.write.previous_chain);
    }
    for (uint32_t i = 0; i < effects->raft.message_count; i++) peers_send(drive->peers, &effects->raft.messages[i]);
    for (uint32_t i = 0; i < effects->raft.log_read_count; i++) {
        const struct raft_read_log *read = &effects->raft.log_reads[i];
        log_manager_read(drive->log, read->first_index, read->last_index, read->bytes_max, on_log_read, drive,
                         read->peer);
    }
    for (uint32_t i = 0; i < effects->raft.snapshot_peer_count; i++) {
        snapshot_handler_send(drive->snapshots, effects->raft.snapshot_peers[i], current_term(drive));
    }
    for (uint32_t i = 0; i < effects->result_count; i++) clients_result(drive->clients, &effects->results[i]);
    if (effects->snapshot_due && MUTANT(LOG_GOES_BEFORE_SNAPSHOT)) {
        struct replica_status status;
        replica_status(drive->replica, &status);
        log_manager_remove_before(drive->log, status.raft.applied, 0);
    }
    if (effects->snapshot_due && !drive->failed) snapshot_handler_make(drive->snapshots, drive->replica);
}

static void flush_replica(struct drive *drive)
{
    for (uint32_t round = 0; round < TURN_ROUNDS_MAX && drive->stepped && !drive->failed; round++) {
        drive->stepped = false;
        struct replica_event flush = {.type = REPLICA_FLUSH, .now = now_of(drive)};
        replica_step(drive->replica, &flush, &drive->effects);
        struct replica_effects swap = drive->carrying;
        drive->carrying = drive->effects;
        drive->effects = swap;
        carry_out(drive);
        replica_effects_clear(&drive->carrying);
        clients_flush(drive->clients); /* which may bring the next requests of pipelining clients */
    }
}

static void close_all(struct drive *drive)
{
    drive->phase = DRIVE_CLOSING;
    scrub_stop(drive->scrub);
    snapshot_handler_abandon(drive->snapshots);
    peers_stop(drive->peers);
}

static bool disk_is_idle(const struct drive *drive)
{
    return log_manager_idle(drive->log) && state_file_idle(drive->bootstrap.state_file) &&
           snapshot_handler_idle(drive->snapshots) && scrub_idle(drive->scrub);
}

static bool may_close(struct drive *drive)
{
    if (now_of(drive) >= drive->stop_deadline) return true;
    if (!clients_idle(drive->clients)) return false;
    /* Without anybody who could take over there is nothing to wait for. */
    if (drive->replica == NULL || !peers_any_connected(drive->peers)) return true;
    struct replica_status status;
    replica_status(drive->replica, &status);
    return status.raft.role != RAFT_LEADER;
}

static void end(struct drive *drive, int exit_code, const char *text)
{
    drive->phase = DRIVE_ENDED;
    loop_set_timer(drive->ports.loop, TIME_NS_NEVER);
    drive->handler->ended(drive->user, exit_code, text);
}

static void set_timer(struct drive *drive)
{
    time_ns deadline = peers_deadline(drive->peers);
    time_ns clients = clients_deadline(drive->clients);
    if (clients < deadline) deadline = clients;
    if (drive->replica != NULL) {
        time_ns replica = replica_deadline(drive->replica);
        if (replica < deadline) deadline = replica;
        struct replica_status status;
        replica_status(drive->replica, &status);
        time_ns scrub = scrub_deadline(drive->scrub), again = repair_deadline(&drive->repair);
        if (scrub < deadline) deadline = scrub;
        if (again < deadline) deadline = again;
        if (status.disk_full && now_of(drive) + LOG_SPACE_RETRY < deadline) deadline = now_of(drive) + LOG_SPACE_RETRY;
    } else if (drive->founding_report < deadline) {
        deadline = drive->founding_report;
    }
    if (drive->phase >= DRIVE_STOPPING && drive->stop_deadline < deadline) deadline = drive->stop_deadline;
    loop_set_timer(drive->ports.loop, deadline);
}

static void on_turn_end(void *user)
{
    struct drive *drive = user;
    if (drive->phase == DRIVE_NEW || drive->phase == DRIVE_ENDED) return;
    if (drive->replica != NULL && drive->phase == DRIVE_RUNNING && !drive->failed) repair(drive);
    if (drive->replica != NULL) flush_replica(drive);
    if (drive->failed) {
        end(drive, 1, drive->failed_text);
        return;
    }
    clients_flush(drive->clients);
    peers_flush(drive->peers);
    if (drive->phase == DRIVE_STOPPING && may_close(drive)) close_all(drive);
    if (drive->phase == DRIVE_CLOSING && disk_is_idle(drive)) {
        end(drive, 0, "stopped");
        return;
    }
    set_timer(drive);
    /* A round that hit its bound goes on in the next turn, at once. */
    if (drive->stepped) loop_set_timer(drive->ports.loop, now_of(drive));
}

static void on_timer(void *user)
{
    struct drive *drive = user;
    if (drive->phase == DRIVE_NEW || drive->phase == DRIVE_ENDED) return;
    time_ns now = now_of(drive);
    peers_tick(drive->peers, now);
    clients_tick(drive->clients, now);
    report_founding(drive);
    if (drive->replica == NULL || drive->failed) return;
    log_manager_tick(drive->log);
    report_uncertain(drive);
    scrub_tick(drive->scrub, now);
    struct replica_event tick = {.type = REPLICA_TICK};
    step(drive, &tick);
}

static const struct loop_handler loop_handler = {.timer = on_timer, .turn_end = on_turn_end};

/* ---- life ---- */

static void refresh_host(void *user)
{
    struct drive *drive = user;
    clients_report(drive->clients, &drive->host);
    peers_report(drive->peers, &drive->host);
    drive->host.log_bytes = drive->log == NULL ? 0 : log_manager_bytes(drive->log);
    const struct snapshot_metadata *snapshot = snapshot_handler_current(drive->snapshots);
    drive->host.snapshot_bytes = snapshot->size_bytes;
    struct scrub_status scrub;
    scrub_status(drive->scrub, &scrub);
    drive->host.scrub_passes = scrub.passes;
    drive->host.scrub_bytes = scrub.bytes;
    drive->host.wall_clock_last_scrub =
        scrub.last_pass == 0 ? 0 : loop_wall_clock(drive->ports.loop) - (now_of(drive) - scrub.last_pass);
    memcpy(drive->host.damage_found, drive->damage.found, sizeof drive->host.damage_found);
    drive->host.damage_repaired = drive->damage.repaired;
    if (drive->ports.refresh_host != NULL) drive->ports.refresh_host(&drive->host);
}

struct drive *drive_new(const struct drive_config *config, const struct drive_ports *ports,
                        const struct drive_handler *handler, void *user)
{
    struct drive *drive = mem_alloc_zero(sizeof *drive);
    drive->config = *config;
    drive->ports = *ports;
    drive->handler = handler;
    drive->user = user;
    drive->host = (struct api_host){.version = drive->config.version,
                                    .node_id = drive->config.node_id,
                                    .value_bytes_max = config->value_bytes_max,
                                    .lease_ttl_min_s = lessor_ttl_min_s(config->election_timeout),
                                    .wall_clock_start = loop_wall_clock(ports->loop)};
    drive->api = (struct api){.host = &drive->host, .refresh_host = refresh_host, .user = drive};
    drive->bootstrap = (struct bootstrap){.config = &drive->config, .ports = &drive->ports};
    drive->bootstrap.state_file =
        state_file_new(config->raft_state_file, ports->disk, ports->disk_queue, ports->logger, &state_handler, drive);
    struct log_manager_config log = {.directory = config->log_directory,
                                     .metadata_file = config->log_metadata_file,
                                     .identity = &drive->state,
                                     .segment_bytes = config->segment_bytes,
                                     .disk = ports->disk,
                                     .queue = ports->disk_queue,
                                     .logger = ports->logger};
    drive->log = log_manager_new(&log, &log_handler, drive);
    struct snapshot_handler_config snapshots = {.directory = config->snapshot_directory,
                                                .disk = ports->disk,
                                                .queue = ports->disk_queue,
                                                .logger = ports->logger,
                                                .self = member_id_of(config->node_id)};
    drive->snapshots = snapshot_handler_new(&snapshots, &snapshot_handler_handler, drive);
    struct scrub_config scrub = {.interval = config->scrub_interval,
                                 .bytes_per_second = config->scrub_bytes_per_second,
                                 .queue = ports->disk_queue,
                                 .logger = ports->logger,
                                 .state_file = drive->bootstrap.state_file,
                                 .log = drive->log,
                                 .snapshots = drive->snapshots};
    drive->scrub = scrub_new(&scrub, &scrub_handler, drive);
    drive->repair = (struct repair){.logger = ports->logger,
                                    .log = drive->log,
                                    .snapshots = drive->snapshots,
                                    .state_file = drive->bootstrap.state_file,
                                    .counts = &drive->damage};
    drive->bootstrap.damage = &drive->damage;
    drive->bootstrap.log = drive->log;
    drive->bootstrap.snapshots = drive->snapshots;
    drive->clients = clients_new(&drive->config, &drive->ports, &drive->api, &clients_handler, drive);
    loop_attach(ports->loop, &loop_handler, drive);
    return drive;
}

static enum error lock_data(struct drive *drive, char *text)
{
    struct disk *disk = drive->ports.disk;
    enum error error = disk_make_directories(disk, drive->config.log_directory);
    if (error == ERR_OK) error = disk_make_directories(disk, drive->config.snapshot_directory);
    if (error == ERR_OK) error = disk_lock(disk, drive->config.lock_file, &drive->lock);
    if (error != ERR_OK) snprintf(text, BOOTSTRAP_TEXT_BYTES, "%s", disk->error_text);
    return error;
}

static enum error listen_all(struct drive *drive, char *text)
{
    struct peer_greeting greeting = own_greeting(drive);
    enum error error = peers_start(drive->peers, &greeting);
    if (error == ERR_OK) error = clients_start(drive->clients);
    if (error != ERR_OK) snprintf(text, BOOTSTRAP_TEXT_BYTES, "%s", drive->ports.net->error_text);
    return error;
}

enum error drive_start(struct drive *drive, char *text)
{
    text[0] = 0;
    enum error error = lock_data(drive, text);
    if (error == ERR_OK) error = bootstrap_state(&drive->bootstrap, &drive->state, text);
    if (error != ERR_OK) return error;
    bootstrap_rule_members(&drive->state, &drive->config, drive->ports.logger);
    drive->peers = peers_new(&drive->config, &drive->ports, &peers_handler, drive);
    drive->durable_term = drive->state.term;
    if (drive->state.cluster_id != 0) {
        run(drive);
        if (drive->failed) {
            snprintf(text, BOOTSTRAP_TEXT_BYTES, "%s", drive->failed_text);
            return ERR_DAMAGED;
        }
    } else {
        drive->phase = DRIVE_FOUNDING;
        drive->founding_report = now_of(drive) + FOUNDING_REPORT_INTERVAL;
    }
    error = listen_all(drive, text);
    if (error != ERR_OK) {
        drive->phase = DRIVE_NEW;
        return error;
    }
    loop_set_timer(drive->ports.loop, now_of(drive));
    return ERR_OK;
}

void drive_stop(struct drive *drive)
{
    if (drive->phase == DRIVE_NEW || drive->phase >= DRIVE_STOPPING) return;
    drive->phase = DRIVE_STOPPING;
    drive->host.shutting_down = true;
    drive->stop_deadline = now_of(drive) + STOP_PATIENCE;
    clients_stop(drive->clients);
    if (drive->replica != NULL) {
        struct replica_event transfer = {.type = REPLICA_TRANSFER};
        step(drive, &transfer);
    }
    loop_set_timer(drive->ports.loop, now_of(drive));
}

void drive_free(struct drive *drive)
{
    if (drive == NULL) return;
    clients_free(drive->clients);
    peers_free(drive->peers);
    scrub_free(drive->scrub);
    snapshot_handler_free(drive->snapshots);
    replica_effects_free(&drive->effects);
    replica_effects_free(&drive->carrying);
    replica_free(drive->replica);
    log_manager_free(drive->log);
    state_file_free(drive->bootstrap.state_file);
    if (drive->lock != NULL) disk_unlock(drive->ports.disk, drive->lock);
    mem_free(drive);
}

const struct replica *drive_replica(const struct drive *drive)
{
    return drive->replica;
}
