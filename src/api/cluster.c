/*
 * cluster.c - /v1/cluster and /version. Identities are strings of 16 hexadecimal digits: JSON's numbers don't hold
 * 64 bits.
 */
#include <inttypes.h>

#include "api/handlers.h"
#include "api/reply.h"
#include "wire/json.h"

static const struct api_peer *find_peer(const struct api_host *host, member_id id)
{
    for (uint32_t i = 0; i < host->peer_count; i++) {
        if (host->peers[i].id == id) return &host->peers[i];
    }
    return NULL;
}

static const struct raft_peer_status *find_progress(const struct raft_status *raft, member_id id)
{
    for (uint32_t i = 0; i < raft->peer_count; i++) {
        if (raft->peers[i].id == id) return &raft->peers[i];
    }
    return NULL;
}

static const char *role_name(enum raft_role role)
{
    switch (role) {
    case RAFT_LEADER:
        return "leader";
    case RAFT_CANDIDATE:
        return "candidate";
    case RAFT_PRE_CANDIDATE:
        return "pre-candidate";
    default:
        return "follower";
    }
}

static void write_text(struct buffer *out, const char *name, const char *text)
{
    buffer_append_format(out, ",\"%s\":", name);
    json_write_string(out, bytes_of_string(text));
}

static void write_id(struct buffer *out, const char *name, uint64_t id)
{
    buffer_append_format(out, ",\"%s\":\"%016" PRIx64 "\"", name, id);
}

static void write_number(struct buffer *out, const char *name, uint64_t number)
{
    buffer_append_format(out, ",\"%s\":%" PRIu64, name, number);
}

static void write_flag(struct buffer *out, const char *name, bool flag)
{
    buffer_append_format(out, ",\"%s\":%s", name, flag ? "true" : "false");
}

static void write_member(struct buffer *out, const struct api *api, const struct replica_status *status,
                         const struct snapshot_member *member)
{
    bool self = member->id == status->self;
    const struct api_peer *peer = find_peer(api->host, member->id);
    buffer_append_string(out, "{\"node_id\":");
    json_write_string(out, bytes_of_string(member->node_id));
    write_id(out, "member_id", member->id);
    write_text(out, "rpc_address", member->rpc_address);
    write_text(out, "api_address", member->api_address);
    write_flag(out, "reachable", self || (peer != NULL && peer->reachable));
    write_flag(out, "is_leader", member->id == status->raft.leader);
    write_flag(out, "learner", member->learner);
    if (peer != NULL && peer->round_trip > 0) write_number(out, "round_trip_us", (uint64_t)peer->round_trip / 1000);
    if (status->raft.role == RAFT_LEADER) {
        const struct raft_peer_status *progress = find_progress(&status->raft, member->id);
        if (self) write_number(out, "match_index", status->raft.durable_index);
        if (!self && progress != NULL) {
            write_number(out, "match_index", progress->match);
            write_flag(out, "needs_snapshot", progress->needs_snapshot);
        }
    }
    buffer_append_byte(out, '}');
}

/* By name, as people and `coracle status` do; who isn't in the list of members has only its id. */
static void write_leader(struct buffer *out, const struct replica_status *status)
{
    member_id leader = status->raft.leader;
    const char *name = NULL;
    for (uint32_t i = 0; i < status->member_count; i++) {
        if (leader != 0 && status->members[i].id == leader) name = status->members[i].node_id;
    }
    if (name != NULL) {
        write_text(out, "leader", name);
    } else {
        buffer_append_string(out, ",\"leader\":null");
    }
    if (leader != 0) {
        write_id(out, "leader_id", leader);
    } else {
        buffer_append_string(out, ",\"leader_id\":null");
    }
}

static void write_cluster(struct buffer *out, const struct api *api, const struct replica_status *status)
{
    const struct raft_status *raft = &status->raft;
    buffer_append_format(out, "{\"cluster_id\":\"%016" PRIx64 "\"", status->cluster_id);
    write_text(out, "node_id", api->host->node_id);
    write_id(out, "member_id", status->self);
    write_leader(out, status);
    write_text(out, "role", role_name(raft->role));
    write_number(out, "term", raft->term);
    write_number(out, "commit_index", raft->commit);
    write_number(out, "applied_index", raft->applied);
    write_number(out, "last_index", raft->last_index);
    write_number(out, "first_index", raft->first_index);
    write_number(out, "snapshot_index", status->snapshot_index);
    write_number(out, "revision", (uint64_t)status->revision);
    write_id(out, "apply_hash", status->apply_hash);
    write_flag(out, "uncertain", raft->uncertain);
    write_flag(out, "diverged", status->diverged);
    write_flag(out, "disk_full", status->disk_full);
    buffer_append_string(out, ",\"members\":[");
    for (uint32_t i = 0; i < status->member_count; i++) {
        if (i > 0) buffer_append_byte(out, ',');
        write_member(out, api, status, &status->members[i]);
    }
    buffer_append_string(out, "]}");
}

void api_cluster(struct api *api, struct api_call *call, struct buffer *out)
{
    if (api->refresh_host != NULL) api->refresh_host(api->user);
    struct replica_status status;
    replica_status(api->replica, &status);
    struct buffer body = {0};
    write_cluster(&body, api, &status);
    api_reply(call, 200, API_JSON, "", buffer_bytes(&body), out);
    buffer_free(&body);
}

void api_version(struct api *api, struct api_call *call, struct buffer *out)
{
    struct buffer body = {0};
    buffer_append_string(&body, "{\"etcdserver\":\"" API_ETCD_VERSION "\",\"etcdcluster\":\"" API_ETCD_VERSION
                                "\",\"storage\":\"" API_ETCD_VERSION "\"");
    write_text(&body, "coracle", api->host->version);
    buffer_append_byte(&body, '}');
    api_reply(call, 200, API_JSON, "", buffer_bytes(&body), out);
    buffer_free(&body);
}
