/* replica_snapshot.c - the state as a snapshot's chunks, and back. Format: storage/snapshot.h. */
#include "replica/replica_internal.h"

#include "base/mark.h"
#include "base/mutant.h"

/* ---- making ---- */

enum error replica_snapshot_begin(struct replica *replica, uint64_t snapshot_id, struct snapshot_header *header)
{
    struct raft_status status;
    raft_status(replica->raft, &status);
    /* Contract rule 5: of a locally durable index. */
    bool durable = replica->applied <= status.durable_index;
    if (!durable || replica->snapshot_active || replica->loading) return ERR_NOT_READY;
    if (replica->applied <= replica->snapshot_index || replica->diverged || status.uncertain) return ERR_NOT_READY;
    replica->snapshot_active = true;
    replica->making_index = replica->applied;
    replica->making_revision = store_current_revision(replica->store);
    replica->log_bytes_at_begin = replica->log_bytes_since_snapshot;
    replica->snapshot_sessions_written = false;
    buffer_clear(&replica->snapshot_sessions);
    sessions_encode(&replica->sessions, &replica->snapshot_sessions);
    store_leases_snapshot_begin(replica->store);
    replica->snapshot_leases_left = true;
    buffer_clear(&replica->snapshot_scrub);
    content_scrub_encode(&replica->scrub, &replica->snapshot_scrub);
    store_snapshot_begin(replica->store, &replica->snapshot_writer);
    *header = (struct snapshot_header){
        .snapshot_id = snapshot_id,
        .cluster_id = replica->config.cluster_id,
        .index = replica->applied,
        .term = replica->applied_term,
        .chain = replica->applied_chain,
        .revision = store_current_revision(replica->store),
        .compacted_revision = store_compacted_revision(replica->store),
        .apply_hash = replica->apply_hash,
        .member_count = replica->config.member_count,
    };
    memcpy(header->members, replica->config.members, sizeof header->members);
    if (MUTANT(SNAPSHOT_NAMES_A_LATER_INDEX)) {
        raft_index next = header->index + 1;
        if (raft_entry_at(replica->raft, next, &header->term, &header->chain)) header->index = next;
    }
    return ERR_OK;
}

void replica_snapshot_lost(struct replica *replica)
{
    replica->snapshot_index = 0;
}

#define LEASES_IN_CHUNK (SNAPSHOT_CHUNK_PAYLOAD_BYTES_TARGET / STORE_LEASE_ITEM_BYTES)

/* A slice of the leases, before all keys; false when there are none. */
static bool write_leases(struct replica *replica, struct snapshot_writer *writer, struct buffer *out)
{
    if (!replica->snapshot_leases_left) return false;
    struct buffer *scratch = &replica->snapshot_scratch;
    buffer_clear(scratch);
    replica->snapshot_leases_left = store_leases_snapshot_next(replica->store, LEASES_IN_CHUNK, scratch);
    if (scratch->size > 0) snapshot_write_chunk(writer, SNAPSHOT_CHUNK_LEASES, buffer_bytes(scratch), out);
    return scratch->size > 0 || replica->snapshot_leases_left;
}

void replica_snapshot_next(struct replica *replica, struct snapshot_writer *writer, struct buffer *out, bool *done)
{
    CHECK(replica->snapshot_active);
    if (!replica->snapshot_sessions_written) {
        if (MUTANT(SESSIONS_OF_A_LATER_INDEX) && replica->snapshot_sessions.size > 0) {
            /* This slice has none, and the next one, of another turn, has them as they are by then. */
            buffer_clear(&replica->snapshot_sessions);
            *done = false;
            return;
        }
        if (MUTANT(SESSIONS_OF_A_LATER_INDEX)) sessions_encode(&replica->sessions, &replica->snapshot_sessions);
        replica->snapshot_sessions_written = true;
        snapshot_write_chunk(writer, SNAPSHOT_CHUNK_SESSIONS, buffer_bytes(&replica->snapshot_sessions), out);
    }
    *done = false;
    if (write_leases(replica, writer, out)) return;
    if (replica->snapshot_scrub.size > 0) {
        snapshot_write_chunk(writer, SNAPSHOT_CHUNK_CONTENT_SCRUB, buffer_bytes(&replica->snapshot_scrub), out);
        buffer_clear(&replica->snapshot_scrub);
    } else {
        MARK(SNAPSHOT_IN_SLICES);
    }
    buffer_clear(&replica->snapshot_scratch);
    size_t target = SNAPSHOT_CHUNK_PAYLOAD_BYTES_TARGET;
    if (replica->config.snapshot_slice_bytes > 0) target = (size_t)replica->config.snapshot_slice_bytes;
    store_snapshot_next(replica->store, &replica->snapshot_writer, target, &replica->snapshot_scratch);
    if (replica->snapshot_scratch.size > 0) {
        snapshot_write_chunk(writer, SNAPSHOT_CHUNK_KEYS, buffer_bytes(&replica->snapshot_scratch), out);
    }
    *done = replica->snapshot_writer.done;
}

void replica_snapshot_end(struct replica *replica)
{
    if (!replica->snapshot_active) return;
    store_snapshot_end(replica->store, &replica->snapshot_writer);
    store_leases_snapshot_end(replica->store);
    replica->snapshot_active = false;
    replica->compaction_pending = true; /* what the pin held back */
    buffer_free(&replica->snapshot_scratch);
    buffer_free(&replica->snapshot_sessions);
    buffer_free(&replica->snapshot_scrub);
}

/* ---- asked for ---- */

static void answer_want(struct replica *replica, uint64_t request, struct replica_effects *effects)
{
    replica_add_plain_result(effects, request, ERR_OK, replica->snapshot_revision);
    effects->results[effects->result_count - 1].index = replica->snapshot_index;
}

void snapshot_want(struct replica *replica, uint64_t request, struct replica_effects *effects)
{
    if (replica->applied <= replica->snapshot_index) {
        answer_want(replica, request, effects);
        return;
    }
    if (replica->want_count == replica->want_capacity) {
        replica->want_capacity = replica->want_capacity == 0 ? 4 : replica->want_capacity * 2;
        replica->wants = mem_realloc(replica->wants, replica->want_capacity * sizeof replica->wants[0]);
    }
    replica->wants[replica->want_count++] = (struct snapshot_want){.request = request, .index = replica->applied};
}

bool snapshot_is_wanted(const struct replica *replica)
{
    return replica->want_count > 0;
}

void snapshot_wants_saved(struct replica *replica, struct replica_effects *effects)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < replica->want_count; i++) {
        if (replica->wants[i].index <= replica->snapshot_index) {
            answer_want(replica, replica->wants[i].request, effects);
        } else {
            replica->wants[kept++] = replica->wants[i];
        }
    }
    replica->want_count = kept;
}

void snapshot_wants_fail(struct replica *replica, enum error error, struct replica_effects *effects)
{
    for (uint32_t i = 0; i < replica->want_count; i++) {
        replica_add_plain_result(effects, replica->wants[i].request, error, 0);
    }
    replica->want_count = 0;
}

/* ---- loading ---- */

static void drop_load(struct replica *replica)
{
    if (!replica->loading) return;
    if (replica->loader != NULL) store_loader_free(replica->loader);
    if (replica->load_store != NULL) store_free(replica->load_store);
    sessions_free(&replica->load_sessions);
    content_scrub_free(&replica->load_scrub);
    replica->loader = NULL;
    replica->load_store = NULL;
    replica->loading = false;
}

void replica_load_abandon(struct replica *replica)
{
    drop_load(replica);
    if (replica->installing && replica->raft != NULL) {
        struct raft_effects none = {0};
        struct raft_event event = {.type = RAFT_INSTALL_ABANDON, .now = replica->now};
        raft_step(replica->raft, &event, &none);
        raft_effects_free(&none);
    }
    replica->installing = false;
}

enum error replica_load_begin(struct replica *replica, const struct snapshot_header *header)
{
    CHECK(!replica->loading);
    if (header->cluster_id != replica->config.cluster_id) return ERR_WRONG_CLUSTER;
    if (header->member_count == 0 || header->member_count > MEMBERS_MAX || header->index == 0) return ERR_DAMAGED;
    replica->loading = true;
    replica->load_header = *header;
    replica->load_sessions_seen = false;
    sessions_init(&replica->load_sessions, REPLICA_HISTORY_BYTES_BUDGET);
    replica->load_scrub_seen = false;
    content_scrub_init(&replica->load_scrub, &(struct content_scrub_limits){.interval = 0});
    replica->load_store = store_new();
    replica->loader = store_loader_new(replica->load_store, header->revision, header->compacted_revision);
    return ERR_OK;
}

enum error replica_load_chunk(struct replica *replica, enum snapshot_chunk_type type, struct bytes payload)
{
    CHECK(replica->loading);
    if (type == SNAPSHOT_CHUNK_SESSIONS) {
        if (replica->load_sessions_seen) return ERR_DAMAGED;
        replica->load_sessions_seen = true;
        return sessions_decode(&replica->load_sessions, payload);
    }
    if (type == SNAPSHOT_CHUNK_LEASES) return store_leases_decode(replica->load_store, payload);
    if (type == SNAPSHOT_CHUNK_CONTENT_SCRUB) {
        if (replica->load_scrub_seen) return ERR_DAMAGED;
        replica->load_scrub_seen = true;
        return content_scrub_decode(&replica->load_scrub, payload);
    }
    if (type == SNAPSHOT_CHUNK_KEYS) return store_loader_feed(replica->loader, payload);
    return ERR_BAD_VERSION;
}

static enum error finish_load(struct replica *replica)
{
    CHECK(replica->loading && replica->loader != NULL);
    if (!replica->load_sessions_seen) return ERR_DAMAGED;
    enum error error = store_loader_finish(replica->loader);
    replica->loader = NULL;
    return error;
}

/* Who is a member is the snapshot's rule; where a known member is, the configuration's, which is newer. */
static void take_members(struct replica *replica, const struct snapshot_header *header)
{
    struct replica_config *config = &replica->config;
    struct snapshot_member members[MEMBERS_MAX];
    memcpy(members, header->members, sizeof members);
    for (uint32_t i = 0; i < header->member_count; i++) {
        for (uint32_t j = 0; j < config->member_count; j++) {
            if (config->members[j].id == members[i].id) members[i] = config->members[j];
        }
    }
    memcpy(config->members, members, sizeof members);
    config->member_count = header->member_count;
}

/* Puts the loaded state in the place of the old one. */
static void swap(struct replica *replica)
{
    const struct snapshot_header *header = &replica->load_header;
    replica_snapshot_end(replica);
    CHECK(!replica->lessor.leads); /* it knows leases of the old store */
    store_free(replica->store);
    sessions_free(&replica->sessions);
    content_scrub_free(&replica->scrub);
    replica->store = replica->load_store;
    replica->sessions = replica->load_sessions;
    replica->scrub = replica->load_scrub;
    if (MUTANT(CONTENT_SCRUB_ANEW)) buffer_clear(&replica->scrub.next_key);
    replica->load_store = NULL;
    replica->loading = false;
    replica->installing = false;
    replica->applied = header->index;
    replica->applied_term = header->term;
    replica->applied_chain = header->chain;
    replica->apply_hash = header->apply_hash;
    replica->snapshot_index = header->index;
    replica->snapshot_revision = header->revision;
    replica->log_bytes_since_snapshot = 0;
    replica->log_bytes_at_begin = 0;
    replica->compaction_proposed = 0;
    replica->compaction_pending = true; /* what the snapshot kept beyond its compacted revision */
    take_members(replica, header);
    divergence_note_applied(replica);
}

enum error replica_load_finish(struct replica *replica)
{
    enum error error = finish_load(replica);
    if (error != ERR_OK) {
        drop_load(replica);
        return error;
    }
    swap(replica);
    return ERR_OK;
}

uint32_t replica_loaded_chain(const struct replica *replica)
{
    CHECK(replica->loading);
    return replica->load_header.chain;
}

bool replica_install_prepare(struct replica *replica)
{
    CHECK(replica->loading);
    const struct snapshot_header *header = &replica->load_header;
    struct raft_status status;
    raft_status(replica->raft, &status);
    /* The log caught up meanwhile: then what it holds beyond the snapshot may have been acknowledged, and must stay. */
    bool in_log = raft_term_at(replica->raft, header->index) == header->term;
    if (status.commit >= header->index || in_log) MARK(SNAPSHOT_NOT_NEEDED);
    bool behind = status.commit < header->index || MUTANT(INSTALLS_OLDER_SNAPSHOT);
    if (!behind || (in_log && !MUTANT(INSTALLS_OVER_LONGER_LOG) && !MUTANT(INSTALLS_OLDER_SNAPSHOT))) return false;
    if (status.last_index >= header->index) MARK(SNAPSHOT_OVER_CONFLICT);
    replica->installing = true;
    struct raft_effects none = {0};
    struct raft_event event = {.type = RAFT_INSTALL_BEGIN, .now = replica->now};
    raft_step(replica->raft, &event, &none);
    raft_effects_free(&none);
    return true;
}

enum error replica_install_finish(struct replica *replica, time_ns now, struct replica_effects *effects)
{
    CHECK(replica->installing);
    if (now > replica->now) replica->now = now;
    enum error error = finish_load(replica);
    if (error != ERR_OK) {
        replica_load_abandon(replica);
        return error;
    }
    swap(replica);
    struct raft_event event = {.type = RAFT_SNAPSHOT_INSTALLED,
                               .index = replica->applied,
                               .log_term = replica->applied_term,
                               .chain = replica->applied_chain};
    replica_raft(replica, &event, effects);
    requests_after_install(replica, effects);
    snapshot_wants_saved(replica, effects);
    reads_applied(replica, effects);
    lease_requests_settle(replica, effects);
    return ERR_OK;
}
