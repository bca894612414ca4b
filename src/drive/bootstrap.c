#include "drive/bootstrap.h"

#include "base/mark.h"
#include "base/mem.h"
#include "base/random.h"

#include <stdio.h>

/* ---- the founding ---- */

uint64_t bootstrap_cluster_id(const struct founder *founders, uint32_t count)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < count; i++) sum += random_mix(founders[i].member ^ random_mix(founders[i].nonce));
    uint64_t id = random_mix(sum + count);
    return id == 0 ? 1 : id;
}

uint64_t bootstrap_membership_hash(const struct drive_config *config)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < config->member_count; i++) sum += random_mix(member_id_of(config->members[i].node_id));
    return random_mix(sum);
}

/* ---- members ---- */

static const struct drive_member *find_configured(const struct drive_config *config, const char *node_id)
{
    for (uint32_t i = 0; i < config->member_count; i++) {
        if (strcmp(config->members[i].node_id, node_id) == 0) return &config->members[i];
    }
    return NULL;
}

static bool is_noted(const struct raft_state *state, const char *node_id)
{
    for (uint32_t i = 0; i < state->member_count; i++) {
        if (strcmp(state->members[i].node_id, node_id) == 0) return true;
    }
    return false;
}

static void note_address(const struct drive_member *from, struct raft_state_member *to)
{
    snprintf(to->rpc_host, sizeof to->rpc_host, "%s", from->rpc_host);
    to->rpc_port = from->rpc_port;
}

void bootstrap_found_members(const struct drive_config *config, struct raft_state *state)
{
    state->member_count = config->member_count;
    for (uint32_t i = 0; i < config->member_count; i++) {
        struct raft_state_member *member = &state->members[i];
        snprintf(member->node_id, sizeof member->node_id, "%s", config->members[i].node_id);
        note_address(&config->members[i], member);
    }
}

static void note_new_addresses(const struct drive_config *config, struct raft_state *state)
{
    for (uint32_t i = 0; i < state->member_count; i++) {
        const struct drive_member *configured = find_configured(config, state->members[i].node_id);
        if (configured != NULL) note_address(configured, &state->members[i]);
    }
}

void bootstrap_rule_members(const struct raft_state *state, struct drive_config *config, struct logger *logger)
{
    if (state->member_count == 0) return;
    struct drive_member members[MEMBERS_MAX];
    for (uint32_t i = 0; i < config->member_count; i++) {
        if (is_noted(state, config->members[i].node_id)) continue;
        log_warn(logger, "the configuration names a node that is no member of this cluster; it is ignored", "node=%s",
                 config->members[i].node_id);
    }
    for (uint32_t i = 0; i < state->member_count; i++) {
        const struct raft_state_member *noted = &state->members[i];
        const struct drive_member *configured = find_configured(config, noted->node_id);
        if (configured != NULL) {
            members[i] = *configured;
            continue;
        }
        log_warn(logger, "the configuration leaves out a member of this cluster; it stays one", "node=%s address=%s:%u",
                 noted->node_id, noted->rpc_host, noted->rpc_port);
        members[i] = (struct drive_member){.rpc_port = noted->rpc_port};
        memcpy(members[i].node_id, noted->node_id, sizeof members[i].node_id);
        memcpy(members[i].rpc_host, noted->rpc_host, sizeof members[i].rpc_host);
    }
    memcpy(config->members, members, state->member_count * sizeof members[0]);
    config->member_count = state->member_count;
}

/* ---- the raft state ---- */

struct segment_search {
    bool found;
    char name[LOG_SEGMENT_NAME_BYTES];
};

static void look_for_segment(void *user, const char *name)
{
    struct segment_search *search = user;
    uint64_t number;
    if (!log_segment_name_parse(name, &number) || search->found) return;
    search->found = true;
    snprintf(search->name, sizeof search->name, "%s", name);
}

static uint64_t random_number(const struct bootstrap *bootstrap)
{
    uint64_t number = 0;
    while (number == 0) loop_entropy(bootstrap->ports->loop, &number, sizeof number);
    return number;
}

static enum error new_state(const struct bootstrap *bootstrap, struct raft_state *state, char *text)
{
    const struct drive_config *config = bootstrap->config;
    struct segment_search search = {0};
    enum error error = disk_list(bootstrap->ports->disk, config->log_directory, look_for_segment, &search);
    if (error != ERR_OK && error != ERR_NO_FILE) {
        snprintf(text, BOOTSTRAP_TEXT_BYTES, "%s", bootstrap->ports->disk->error_text);
        return error;
    }
    if (search.found) {
        snprintf(text, BOOTSTRAP_TEXT_BYTES,
                 "%s is missing, but there is a log (%s/%s): without its term and vote this member must not take part. "
                 "Bring the file back, or set all of the node's data aside, so that it starts empty and catches up",
                 config->raft_state_file, config->log_directory, search.name);
        return ERR_DAMAGED;
    }
    /* A member whose disk was wiped must not begin with an incarnation that its peers remember: they would take it for one that
       never left, and its commands for repeats. So it counts from the clock, by more than anyone restarts. */
    uint64_t wall_clock_ms = (uint64_t)(loop_wall_clock(bootstrap->ports->loop) / TIME_NS_PER_MS);
    *state = (struct raft_state){.member = member_id_of(config->node_id),
                                 .incarnation = wall_clock_ms,
                                 .founding_nonce = random_number(bootstrap),
                                 .log_id = random_number(bootstrap)};
    snprintf(state->node_id, sizeof state->node_id, "%s", config->node_id);
    if (config->member_count == 1) {
        struct founder founder = {.member = state->member, .nonce = state->founding_nonce};
        state->cluster_id = bootstrap_cluster_id(&founder, 1);
    }
    return ERR_OK;
}

enum error bootstrap_state(const struct bootstrap *bootstrap, struct raft_state *state, char *text)
{
    const struct drive_config *config = bootstrap->config;
    enum error error = state_file_load(bootstrap->state_file, state, text);
    if (error == ERR_NO_FILE) error = new_state(bootstrap, state, text);
    if (error != ERR_OK) return error;
    if (state->member != member_id_of(config->node_id)) {
        snprintf(text, BOOTSTRAP_TEXT_BYTES, "%s belongs to node \"%s\", not to \"%s\": check node_id and the paths",
                 config->raft_state_file, state->node_id, config->node_id);
        return ERR_CONFIG;
    }
    if (state->cluster_id != 0 && state->member_count == 0) bootstrap_found_members(config, state);
    note_new_addresses(config, state);
    state->incarnation++;
    return state_file_save_now(bootstrap->state_file, state, text);
}

/* ---- snapshot and log ---- */

static void take_entry(void *user, struct entry *entry)
{
    replica_recover_entry(user, entry);
}

static void take_commit(void *user, raft_index commit)
{
    replica_recover_commit(user, commit);
}

static void fill_member(const struct drive_member *from, struct snapshot_member *to)
{
    to->id = member_id_of(from->node_id);
    snprintf(to->node_id, sizeof to->node_id, "%s", from->node_id);
    snprintf(to->rpc_address, sizeof to->rpc_address, "%.200s:%u", from->rpc_host, from->rpc_port);
    snprintf(to->api_address, sizeof to->api_address, "%s", from->api_address);
}

static struct replica *new_replica(const struct bootstrap *bootstrap, const struct raft_state *state)
{
    const struct drive_config *config = bootstrap->config;
    struct replica_config *replica_config = mem_alloc_zero(sizeof *replica_config);
    struct raft_config *raft = &replica_config->raft;
    raft->self = state->member;
    raft->member_count = config->member_count;
    for (uint32_t i = 0; i < config->member_count; i++) {
        raft->members[i] = member_id_of(config->members[i].node_id);
        fill_member(&config->members[i], &replica_config->members[i]);
    }
    raft->election_timeout = config->election_timeout;
    raft->heartbeat_interval = config->heartbeat_interval;
    raft->quick_start = true;
    raft->seed = random_number(bootstrap);
    raft->append_bytes_max = 512 * 1024;
    raft->inflight_bytes_max = 4 * 1024 * 1024;
    raft->cache_bytes_max = config->cache_bytes_max;
    raft->unapplied_bytes_max = 64 * 1024 * 1024;
    replica_config->cluster_id = state->cluster_id;
    replica_config->incarnation = state->incarnation;
    replica_config->member_count = config->member_count;
    replica_config->snapshot_log_bytes_min = config->snapshot_log_bytes_min;
    replica_config->snapshot_state_percent = config->snapshot_state_percent;
    replica_config->requests_max = REPLICA_REQUESTS_LIMIT;
    replica_config->request_timeout = config->api_timeout;
    replica_config->forward_timeout = config->api_forward_timeout;
    struct replica *replica = replica_new(replica_config, bootstrap->ports->logger);
    mem_free(replica_config);
    return replica;
}

/* Notes that the log is uncertain before anything may be written over the evidence. */
static enum error note_uncertain(const struct bootstrap *bootstrap, struct raft_state *state, struct replica *replica,
                                 const struct log_scan_result *scan, char *text)
{
    struct logger *logger = bootstrap->ports->logger;
    bool damaged = scan->outcome == LOG_UNCERTAIN;
    if (!damaged && !state->catching_up) return ERR_OK;
    if (bootstrap->config->member_count == 1) {
        snprintf(
            text, BOOTSTRAP_TEXT_BYTES,
            "the log is damaged (%s): entry %llu and what follows are lost, and there is no other member to take them "
            "from. Restore a backup, or the file, from elsewhere",
            scan->damage, (unsigned long long)(scan->last_index + 1));
        return ERR_DAMAGED;
    }
    /* After a restart nobody can tell any more how far the log once reached. */
    struct raft_uncertainty uncertainty = {.extent_known = damaged && scan->extent_known && !state->catching_up,
                                           .known_last_index = scan->known_last_index,
                                           .known_last_term = scan->known_last_term};
    replica_recover_uncertain(replica, &uncertainty);
    if (damaged) MARK(LOG_UNCERTAIN);
    if (damaged) {
        log_error(logger, "the log is damaged; taking what is missing from the other members",
                  "from_index=%llu known_last_index=%llu damage=\"%s\"", (unsigned long long)(scan->last_index + 1),
                  (unsigned long long)scan->known_last_index, scan->damage);
    } else {
        log_info(logger, "catching up before this member votes again", "last_index=%llu",
                 (unsigned long long)scan->last_index);
    }
    if (state->catching_up) return ERR_OK;
    state->catching_up = true;
    return state_file_save_now(bootstrap->state_file, state, text);
}

enum error bootstrap_replica(const struct bootstrap *bootstrap, struct raft_state *state, struct replica **out,
                             char *text)
{
    struct logger *logger = bootstrap->ports->logger;
    struct replica *replica = new_replica(bootstrap, state);
    struct snapshot_metadata snapshot;
    enum error error = snapshot_handler_recover(bootstrap->snapshots, replica, &snapshot, text);
    if (error == ERR_DAMAGED && bootstrap->config->member_count > 1) {
        MARK(SNAPSHOT_DAMAGED);
        /* The log then lacks its beginning, so it is uncertain from there, and a peer sends its snapshot. */
        log_error(logger, "the snapshot is damaged; taking the state from the other members", "damage=\"%s\"", text);
        error = ERR_OK;
        snapshot = (struct snapshot_metadata){0};
    }
    struct log_scan_result scan = {0};
    if (error == ERR_OK) {
        struct raft_boot boot = {
            .term = state->term, .vote = state->vote, .no_vote_before_term = state->no_vote_before_term};
        replica_boot(replica, &boot);
        struct replica_status status;
        replica_status(replica, &status);
        struct log_manager_sink sink = {.entry = take_entry, .commit = take_commit};
        error = log_manager_recover(bootstrap->log, state->log_id, state->term == 0, status.raft.last_index,
                                    status.raft.last_term, replica_applied_chain(replica), &sink, replica, &scan, text);
    }
    if (error == ERR_OK && scan.outcome == LOG_TORN) {
        MARK(LOG_TORN);
        log_info(logger, "cut the torn end of the log", "last_index=%llu what=\"%s\"",
                 (unsigned long long)scan.last_index, scan.damage);
    }
    if (error == ERR_OK) error = note_uncertain(bootstrap, state, replica, &scan, text);
    if (error != ERR_OK) {
        replica_free(replica);
        return error;
    }
    *out = replica;
    return ERR_OK;
}
