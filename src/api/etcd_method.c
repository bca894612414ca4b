/* etcd_method.c - the table of unary and streaming methods: where each is found, and who answers it. */
#include "api/etcd.h"
#include "proto/etcd/health.pb-c.h"
#include "proto/etcd/rpc.pb-c.h"

#define DESCRIPTORS(name)                                                                                              \
    .request = &etcdserverpb__##name##_request__descriptor, .response = &etcdserverpb__##name##_response__descriptor
#define UNARY(handler) .begin = etcd_##handler##_begin, .finish = etcd_##handler##_finish
#define AT_ONCE(handler) .begin = etcd_##handler##_begin
#define AUTH(rpc, json, name)                                                                                          \
    {                                                                                                                  \
        .path = "/etcdserverpb.Auth/" rpc, .json_path = "/v3/auth/" json, DESCRIPTORS(name), AT_ONCE(auth)             \
    }
#define MEMBER_CHANGE(rpc, json, name)                                                                                 \
    {                                                                                                                  \
        .path = "/etcdserverpb.Cluster/" rpc, .json_path = "/v3/cluster/member/" json, DESCRIPTORS(name),              \
        AT_ONCE(member_change)                                                                                         \
    }

static const struct etcd_method methods[] = {
    {.path = "/etcdserverpb.KV/Range", .json_path = "/v3/kv/range", DESCRIPTORS(range), UNARY(range)},
    {.path = "/etcdserverpb.KV/Put", .json_path = "/v3/kv/put", DESCRIPTORS(put), UNARY(put)},
    {.path = "/etcdserverpb.KV/DeleteRange",
     .json_path = "/v3/kv/deleterange",
     DESCRIPTORS(delete_range),
     UNARY(delete_range)},
    {.path = "/etcdserverpb.KV/Txn", .json_path = "/v3/kv/txn", DESCRIPTORS(txn), UNARY(txn)},
    {.path = "/etcdserverpb.KV/Compact", .json_path = "/v3/kv/compaction", DESCRIPTORS(compaction), UNARY(compact)},
    {.path = "/etcdserverpb.KV/RangeStream",
     .form = ETCD_RANGE_STREAM,
     .request = &etcdserverpb__range_request__descriptor,
     .response = &etcdserverpb__range_stream_response__descriptor},

    {.path = "/etcdserverpb.Watch/Watch", .json_path = "/v3/watch", .form = ETCD_WATCH, DESCRIPTORS(watch)},

    {.path = "/etcdserverpb.Lease/LeaseGrant",
     .json_path = "/v3/lease/grant",
     DESCRIPTORS(lease_grant),
     UNARY(lease_grant)},
    {.path = "/etcdserverpb.Lease/LeaseRevoke",
     .json_path = "/v3/lease/revoke",
     DESCRIPTORS(lease_revoke),
     UNARY(lease_revoke)},
    {.path = "/etcdserverpb.Lease/LeaseKeepAlive",
     .json_path = "/v3/lease/keepalive",
     .form = ETCD_KEEP_ALIVE,
     DESCRIPTORS(lease_keep_alive)},
    {.path = "/etcdserverpb.Lease/LeaseTimeToLive",
     .json_path = "/v3/lease/timetolive",
     .finish_missing_lease = true,
     DESCRIPTORS(lease_time_to_live),
     UNARY(lease_time_to_live)},
    {.path = "/etcdserverpb.Lease/LeaseLeases",
     .json_path = "/v3/lease/leases",
     DESCRIPTORS(lease_leases),
     UNARY(lease_leases)},

    {.path = "/etcdserverpb.Cluster/MemberList",
     .json_path = "/v3/cluster/member/list",
     DESCRIPTORS(member_list),
     UNARY(member_list)},
    MEMBER_CHANGE("MemberAdd", "add", member_add),
    MEMBER_CHANGE("MemberRemove", "remove", member_remove),
    MEMBER_CHANGE("MemberUpdate", "update", member_update),
    MEMBER_CHANGE("MemberPromote", "promote", member_promote),

    {.path = "/etcdserverpb.Maintenance/Alarm",
     .json_path = "/v3/maintenance/alarm",
     DESCRIPTORS(alarm),
     AT_ONCE(alarm)},
    {.path = "/etcdserverpb.Maintenance/Status",
     .json_path = "/v3/maintenance/status",
     DESCRIPTORS(status),
     AT_ONCE(status)},
    {.path = "/etcdserverpb.Maintenance/Defragment",
     .json_path = "/v3/maintenance/defragment",
     DESCRIPTORS(defragment),
     AT_ONCE(defragment)},
    {.path = "/etcdserverpb.Maintenance/Hash", .json_path = "/v3/maintenance/hash", DESCRIPTORS(hash), AT_ONCE(hash)},
    {.path = "/etcdserverpb.Maintenance/HashKV",
     .json_path = "/v3/maintenance/hashkv",
     .request = &etcdserverpb__hash_kvrequest__descriptor,
     .response = &etcdserverpb__hash_kvresponse__descriptor,
     AT_ONCE(hash_kv)},
    {.path = "/etcdserverpb.Maintenance/Snapshot",
     .json_path = "/v3/maintenance/snapshot",
     .form = ETCD_SNAPSHOT,
     DESCRIPTORS(snapshot)},
    {.path = "/etcdserverpb.Maintenance/MoveLeader",
     .json_path = "/v3/maintenance/transfer-leadership",
     DESCRIPTORS(move_leader),
     AT_ONCE(move_leader)},
    {.path = "/etcdserverpb.Maintenance/Downgrade",
     .json_path = "/v3/maintenance/downgrade",
     DESCRIPTORS(downgrade),
     AT_ONCE(downgrade)},

    {.path = "/etcdserverpb.Auth/AuthStatus",
     .json_path = "/v3/auth/status",
     DESCRIPTORS(auth_status),
     AT_ONCE(auth_status)},
    AUTH("AuthEnable", "enable", auth_enable),
    AUTH("AuthDisable", "disable", auth_disable),
    AUTH("Authenticate", "authenticate", authenticate),
    AUTH("UserAdd", "user/add", auth_user_add),
    AUTH("UserGet", "user/get", auth_user_get),
    AUTH("UserList", "user/list", auth_user_list),
    AUTH("UserDelete", "user/delete", auth_user_delete),
    AUTH("UserChangePassword", "user/changepw", auth_user_change_password),
    AUTH("UserGrantRole", "user/grant", auth_user_grant_role),
    AUTH("UserRevokeRole", "user/revoke", auth_user_revoke_role),
    AUTH("RoleAdd", "role/add", auth_role_add),
    AUTH("RoleGet", "role/get", auth_role_get),
    AUTH("RoleList", "role/list", auth_role_list),
    AUTH("RoleDelete", "role/delete", auth_role_delete),
    AUTH("RoleGrantPermission", "role/grant", auth_role_grant_permission),
    AUTH("RoleRevokePermission", "role/revoke", auth_role_revoke_permission),

    {.path = "/grpc.health.v1.Health/Check",
     .request = &grpc__health__v1__health_check_request__descriptor,
     .response = &grpc__health__v1__health_check_response__descriptor,
     AT_ONCE(health_check)},
    {.path = "/grpc.health.v1.Health/Watch",
     .form = ETCD_HEALTH_WATCH,
     .request = &grpc__health__v1__health_check_request__descriptor,
     .response = &grpc__health__v1__health_check_response__descriptor},
};

/* Paths that etcd's gateway knows beside those of the table. */
static const struct {
    const char *path, *meant;
} json_aliases[] = {
    {"/v3/kv/lease/revoke", "/v3/lease/revoke"},
    {"/v3/kv/lease/timetolive", "/v3/lease/timetolive"},
    {"/v3/kv/lease/leases", "/v3/lease/leases"},
};

/* The first few are most of the load, and a comparison of lengths tells nearly all others apart. */
const struct etcd_method *etcd_method_of(struct bytes path)
{
    for (size_t i = 0; i < ARRAY_COUNT(methods); i++) {
        if (bytes_equal(path, bytes_of_string(methods[i].path))) return &methods[i];
    }
    return NULL;
}

const struct etcd_method *etcd_method_of_json(struct bytes path)
{
    for (size_t i = 0; i < ARRAY_COUNT(json_aliases); i++) {
        if (bytes_equal(path, bytes_of_string(json_aliases[i].path))) path = bytes_of_string(json_aliases[i].meant);
    }
    for (size_t i = 0; i < ARRAY_COUNT(methods); i++) {
        if (methods[i].json_path != NULL && bytes_equal(path, bytes_of_string(methods[i].json_path))) {
            return &methods[i];
        }
    }
    return NULL;
}
