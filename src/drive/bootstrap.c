#include "drive/bootstrap.h"

#include "base/mark.h"
#include "base/mem.h"
#include "base/mutant.h"
#include "base/random.h"
#include "drive/disk_tools.h"

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

struct file_search {
    bool (*is_ours)(const char *name);
    char *found; /* a name */
};

static bool is_segment(const char *name)
{
    uint64_t number;
    return log_segment_name_parse(name, &number);
}

static bool is_snapshot(const char *name)
{
    uint64_t epoch;
    return snapshot_name_parse(name, &epoch);
}

static void look_at_name(void *user, const char *name)
{
    struct file_search *search = user;
    if (search->found == NULL && search->is_ours(name)) search->found = mem_copy_string(name);
}

/* The path of a segment or snapshot that shows that this member was there before; *out NULL: there is none. */
static enum error find_data(const struct bootstrap *bootstrap, char **out, char *text)
{
    const char *directories[] = {bootstrap->config->log_directory, bootstrap->config->snapshot_directory};
    *out = NULL;
    for (size_t i = 0; i < ARRAY_COUNT(directories) && *out == NULL; i++) {
        struct file_search search = {.is_ours = i == 0 ? is_segment : is_snapshot};
        enum error error = disk_list(bootstrap->ports->disk, directories[i], look_at_name, &search);
        if (search.found != NULL) *out = path_join(directories[i], search.found);
        mem_free(search.found);
        if (error != ERR_OK && error != ERR_NO_FILE) {
            snprintf(text, BOOTSTRAP_TEXT_BYTES, "%s", bootstrap->ports->disk->error_text);
            return error;
        }
    }
    return ERR_OK;
}

static uint64_t random_number(const struct bootstrap *bootstrap)
{
    uint64_t number = 0;
    while (number == 0) loop_entropy(bootstrap->ports->loop, &number, sizeof number);
    return number;
}

/* A member whose disk was wiped must not begin with an incarnation that its peers remember: they would take it for one that never
   left, and its commands for repeats. So it counts from the clock, by more than anyone restarts. */
static uint64_t first_incarnation(const struct bootstrap *bootstrap)
{
    uint64_t wall_clock_ms = (uint64_t)(loop_wall_clock(bootstrap->ports->loop) / TIME_NS_PER_MS);
    return raft_state_first_incarnation(wall_clock_ms, random_number(bootstrap));
}

static void fresh_state(const struct bootstrap *bootstrap, struct raft_state *state)
{
    const struct drive_config *config = bootstrap->config;
    *state = (struct raft_state){.member = member_id_of(config->node_id),
                                 .incarnation = first_incarnation(bootstrap),
                                 .founding_nonce = random_number(bootstrap),
                                 .log_id = random_number(bootstrap)};
    snprintf(state->node_id, sizeof state->node_id, "%s", config->node_id);
    if (config->member_count == 1) {
        struct founder founder = {.member = state->member, .nonce = state->founding_nonce};
        state->cluster_id = bootstrap_cluster_id(&founder, 1);
    }
}

/* ---- the raft state is lost (RECOVERY.md, 'A lost raft state') ---- */

/* Who this member is, from the log's metadata: only term and vote are lost. */
static void state_of_identity(const struct bootstrap *bootstrap, struct raft_state *state)
{
    uint64_t incarnation = first_incarnation(bootstrap);
    uint64_t beyond = state->incarnation + RAFT_STATE_RESTARTS_MAX;
    if (incarnation < beyond) incarnation = beyond;
    state->incarnation = incarnation;
    state->vote = 0;
    if (state->term == 0) state->term = 1; /* there was a log: this isn't a first start */
    uint32_t member_count = state->member_count > 0 ? state->member_count : bootstrap->config->member_count;
    if (member_count == 1) return; /* nobody else ever got its vote */
    state->catching_up = true;
    if (state->no_vote_before_term == 0) state->no_vote_before_term = 1;
}

static void count_found(const struct bootstrap *bootstrap, enum damaged_file file)
{
    bootstrap->damage->found[file]++;
    bootstrap->damage->open++;
}

/* Not even that is known: it joins the cluster again, which others must have founded. */
static void state_of_nobody(const struct bootstrap *bootstrap, struct raft_state *state)
{
    fresh_state(bootstrap, state);
    state->founding_nonce = 0; /* no founder */
    state->term = 1;
    state->catching_up = true;
    state->no_vote_before_term = 1;
}

/* There is no good raft state; `text` says why, and later what failed. Touches nothing. */
static enum error make_state(const struct bootstrap *bootstrap, enum error why, struct raft_state *state, char *text)
{
    const struct drive_config *config = bootstrap->config;
    char identity_text[BOOTSTRAP_TEXT_BYTES] = "";
    char *data = NULL;
    enum error error = find_data(bootstrap, &data, text);
    if (error != ERR_OK) return error;
    enum error identity_error = log_manager_load_identity(bootstrap->log, state, identity_text);
    if (identity_error == ERR_NO_FILE && why == ERR_NO_FILE && data == NULL) {
        fresh_state(bootstrap, state);
        return ERR_OK;
    }
    if (identity_error == ERR_OK) {
        MARK(STATE_LOST);
        state_of_identity(bootstrap, state);
        log_error(bootstrap->ports->logger, "the raft state is lost: term and vote are unknown, the log is kept",
                  "cluster_id=%016llx cause=\"%s\"", (unsigned long long)state->cluster_id, text);
    } else if (identity_error != ERR_NO_FILE && identity_error != ERR_DAMAGED) {
        snprintf(text, BOOTSTRAP_TEXT_BYTES, "%s", identity_text);
        error = identity_error;
    } else if (config->member_count == 1) {
        char lost[BOOTSTRAP_TEXT_BYTES];
        snprintf(lost, sizeof lost, "%s", text);
        snprintf(text, BOOTSTRAP_TEXT_BYTES,
                 "the raft state is lost (%.120s), and so are the log's metadata (%.120s), from which it could be made "
                 "again. There is no other member to take the state from: bring one of the files back, or restore a "
                 "backup",
                 lost, identity_text);
        error = ERR_DAMAGED;
    } else {
        MARK(STATE_AND_IDENTITY_LOST);
        state_of_nobody(bootstrap, state);
        log_error(bootstrap->ports->logger,
                  "raft state and log metadata are lost: this node joins again what the other members have founded",
                  "cause=\"%s; %s\"", text, identity_text);
    }
    mem_free(data);
    return error;
}

static enum error copy_aside(const struct bootstrap *bootstrap, char *text)
{
    char *aside;
    enum error error = disk_copy_aside(bootstrap->ports->disk, bootstrap->config->raft_state_file, &aside);
    if (error == ERR_OK) {
        log_error(bootstrap->ports->logger, "a copy of the damaged raft state is set aside", "file=%s", aside);
    } else {
        snprintf(text, BOOTSTRAP_TEXT_BYTES, "%s", bootstrap->ports->disk->error_text);
    }
    mem_free(aside);
    return error;
}

/*
 * A damaged file is copied aside, and stays in place until the new state is written over it: so a crash on the way leaves what was
 * there, and never looks like a first start.
 */
enum error bootstrap_state(const struct bootstrap *bootstrap, struct raft_state *state, char *text)
{
    const struct drive_config *config = bootstrap->config;
    enum error loaded = state_file_load(bootstrap->state_file, state, text), error = loaded;
    if (loaded == ERR_NO_FILE || loaded == ERR_DAMAGED) error = make_state(bootstrap, loaded, state, text);
    if (error != ERR_OK) return error;
    if (state->member != member_id_of(config->node_id)) {
        snprintf(text, BOOTSTRAP_TEXT_BYTES, "%s belongs to node \"%s\", not to \"%s\": check node_id and the paths",
                 config->raft_state_file, state->node_id, config->node_id);
        return ERR_CONFIG;
    }
    if (loaded == ERR_DAMAGED) error = copy_aside(bootstrap, text);
    if (error != ERR_OK) return error;
    if (loaded == ERR_DAMAGED || (loaded == ERR_NO_FILE && state->catching_up)) {
        count_found(bootstrap, DAMAGED_RAFT_STATE);
    } else if (loaded == ERR_OK && state_file_slots(bootstrap->state_file)->slot_damaged) {
        bootstrap->damage->found[DAMAGED_RAFT_STATE]++;
        bootstrap->damage->repaired++; /* by the save below */
    }
    if (state->cluster_id != 0 && state->catching_up && config->force_start) {
        log_warn(bootstrap->ports->logger, "votes at once, as the operator forced; what it voted before is unknown",
                 "");
        state->catching_up = false;
        state->no_vote_before_term = 0;
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
    raft->append_bytes_max = config->append_bytes_max;
    raft->inflight_bytes_max = config->inflight_bytes_max;
    raft->cache_bytes_max = config->cache_bytes_max;
    raft->unapplied_bytes_max = 64 * 1024 * 1024;
    replica_config->cluster_id = state->cluster_id;
    replica_config->incarnation = state->incarnation;
    replica_config->member_count = config->member_count;
    replica_config->snapshot_log_bytes_min = config->snapshot_log_bytes_min;
    replica_config->snapshot_state_percent = config->snapshot_state_percent;
    replica_config->snapshot_slice_bytes = config->snapshot_slice_bytes;
    replica_config->history_bytes_budget = config->history_bytes_budget;
    replica_config->content_scrub = config->content_scrub;
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
        count_found(bootstrap, DAMAGED_LOG);
        log_error(logger, "the log is damaged; taking what is missing from the other members",
                  "from_index=%llu known_last_index=%llu damage=\"%s\"", (unsigned long long)(scan->last_index + 1),
                  (unsigned long long)scan->known_last_index, scan->damage);
    } else {
        log_info(logger, "catching up before this member votes again", "last_index=%llu",
                 (unsigned long long)scan->last_index);
    }
    if (state->catching_up || MUTANT(FORGETS_WHAT_IS_OWED)) return ERR_OK;
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
        count_found(bootstrap, DAMAGED_SNAPSHOT);
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
