/* etcd_cluster.c - the services Cluster, Auth and Health, as far as they exist. */
#include "api/etcd.h"
#include "proto/etcd/health.pb-c.h"
#include "proto/etcd/rpc.pb-c.h"
#include "wire/protobuf.h"

/* ---- members ---- */

enum api_wait etcd_member_list_begin(struct api *api, struct etcd_call *call, struct bytes message, struct buffer *out)
{
    ProtobufCMessage *unpacked;
    if (!etcd_unpack(call, message, &unpacked)) return API_DONE;
    if (((const Etcdserverpb__MemberListRequest *)unpacked)->linearizable) return API_READ;
    struct replica_result now = {.error = ERR_OK};
    etcd_member_list_finish(api, call, &now, out);
    return API_DONE;
}

static void append_url(struct buffer *out, uint32_t field, const char *address)
{
    struct buffer url = {0};
    buffer_append_string(&url, "http://");
    buffer_append_string(&url, address);
    protobuf_append_bytes_present(out, field, buffer_bytes(&url));
    buffer_free(&url);
}

static void append_member(struct buffer *out, const struct snapshot_member *member)
{
    struct buffer body = {0};
    protobuf_append_number(&body, 1, member->id);
    protobuf_append_bytes(&body, 2, bytes_of_string(member->node_id));
    append_url(&body, 3, member->rpc_address);
    append_url(&body, 4, member->api_address);
    protobuf_append_number(&body, 5, member->learner);
    protobuf_append_bytes_present(out, 2, buffer_bytes(&body));
    buffer_free(&body);
}

/* The header of these has no revision. */
void etcd_member_list_finish(struct api *api, struct etcd_call *call, const struct replica_result *result,
                             struct buffer *out)
{
    (void)call;
    (void)result;
    struct etcd_header header = etcd_header_at(api, 0);
    etcd_append_header(out, &header);
    struct replica_status status;
    replica_status(api->replica, &status);
    for (uint32_t i = 0; i < status.member_count; i++) append_member(out, &status.members[i]);
}

enum api_wait etcd_member_change_begin(struct api *api, struct etcd_call *call, struct bytes message,
                                       struct buffer *out)
{
    (void)api;
    (void)message;
    (void)out;
    return etcd_fail_with(call, GRPC_UNIMPLEMENTED, "coracle: members can't be changed while the cluster runs, yet");
}

/* ---- auth: never enabled ---- */

enum api_wait etcd_auth_begin(struct api *api, struct etcd_call *call, struct bytes message, struct buffer *out)
{
    (void)api;
    (void)message;
    (void)out;
    return etcd_fail(call, ETCD_ERROR_AUTH_NOT_ENABLED);
}

enum api_wait etcd_auth_status_begin(struct api *api, struct etcd_call *call, struct bytes message, struct buffer *out)
{
    (void)call;
    (void)message;
    struct etcd_header header = etcd_header_now(api);
    etcd_append_header(out, &header);
    protobuf_append_number(out, 3, 1); /* the revision of users and roles that never changed */
    return API_DONE;
}

/* ---- health ---- */

enum api_wait etcd_health_check_begin(struct api *api, struct etcd_call *call, struct bytes message, struct buffer *out)
{
    ProtobufCMessage *unpacked;
    if (!etcd_unpack(call, message, &unpacked)) return API_DONE;
    if (((const Grpc__Health__V1__HealthCheckRequest *)unpacked)->service[0] != 0) {
        return etcd_fail_with(call, GRPC_NOT_FOUND, "unknown service");
    }
    struct replica_status status;
    replica_status(api->replica, &status);
    bool serves = status.raft.leader != 0 && !status.diverged && !api->host->shutting_down;
    protobuf_append_number(out, 1,
                           serves ? GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
                                  : GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING);
    return API_DONE;
}
