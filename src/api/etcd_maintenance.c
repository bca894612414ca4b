/* etcd_maintenance.c - the service Maintenance, but for Snapshot, which streams. */
#include "api/etcd.h"
#include "api/handlers.h"
#include "base/crc32c.h"
#include "proto/etcd/rpc.pb-c.h"
#include "wire/protobuf.h"

/* etcd's default, which is what clients compare dbSize with. */
#define QUOTA_BYTES (2ull * 1024 * 1024 * 1024)

static void append_alarms(const struct replica_status *status, struct buffer *out)
{
    Etcdserverpb__AlarmType alarms[] = {status->disk_full ? ETCDSERVERPB__ALARM_TYPE__NOSPACE : 0,
                                        status->diverged ? ETCDSERVERPB__ALARM_TYPE__CORRUPT : 0};
    for (size_t i = 0; i < ARRAY_COUNT(alarms); i++) {
        if (alarms[i] == ETCDSERVERPB__ALARM_TYPE__NONE) continue;
        size_t size = protobuf_size_number(1, status->self) + protobuf_size_number(2, alarms[i]);
        protobuf_append_message_head(out, 2, size);
        protobuf_append_number(out, 1, status->self);
        protobuf_append_number(out, 2, alarms[i]);
    }
}

enum api_wait etcd_alarm_begin(struct api *api, struct etcd_call *call, struct bytes message, struct buffer *out)
{
    ProtobufCMessage *unpacked;
    if (!etcd_unpack(call, message, &unpacked)) return API_DONE;
    const Etcdserverpb__AlarmRequest *request = (const Etcdserverpb__AlarmRequest *)unpacked;
    if (request->action == ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__ACTIVATE) {
        return etcd_fail_with(call, GRPC_UNIMPLEMENTED, "coracle: alarms are raised by the members themselves");
    }
    /* Here an alarm ends with its cause; so there is nothing to disarm, and what is still on is told. */
    struct replica_status status;
    replica_status(api->replica, &status);
    struct etcd_header header = etcd_header_now(api);
    etcd_append_header(out, &header);
    append_alarms(&status, out);
    return API_DONE;
}

enum api_wait etcd_status_begin(struct api *api, struct etcd_call *call, struct bytes message, struct buffer *out)
{
    (void)call;
    (void)message;
    struct replica_status status;
    replica_status(api->replica, &status);
    uint64_t bytes = store_memory_bytes(replica_store(api->replica));
    struct etcd_header header = etcd_header_now(api);
    etcd_append_header(out, &header);
    protobuf_append_bytes(out, 2, bytes_of_string(API_ETCD_VERSION));
    protobuf_append_number(out, 3, bytes);
    protobuf_append_number(out, 4, status.raft.leader);
    protobuf_append_number(out, 5, status.raft.commit);
    protobuf_append_number(out, 6, status.raft.term);
    protobuf_append_number(out, 7, status.raft.applied);
    if (status.raft.leader == 0) protobuf_append_bytes(out, 8, bytes_of_string("etcdserver: no leader"));
    if (status.disk_full) protobuf_append_bytes(out, 8, bytes_of_string("NOSPACE"));
    if (status.diverged) protobuf_append_bytes(out, 8, bytes_of_string("CORRUPT"));
    protobuf_append_number(out, 9, bytes);
    protobuf_append_bytes(out, 11, bytes_of_string(API_ETCD_VERSION));
    protobuf_append_number(out, 12, QUOTA_BYTES);
    protobuf_append_bytes_present(out, 13, bytes_of(NULL, 0));
    return API_DONE;
}

/* The store reclaims by itself while it serves. */
enum api_wait etcd_defragment_begin(struct api *api, struct etcd_call *call, struct bytes message, struct buffer *out)
{
    (void)api;
    (void)call;
    (void)message;
    (void)out;
    return API_DONE;
}

/* ---- hashes ---- */

/* Of all keys as they are at the revision, the same on all members. */
static uint32_t hash_at(const struct store *store, store_revision revision)
{
    uint32_t hash = 0;
    struct store_cursor cursor;
    store_cursor_open(&cursor, bytes_of(NULL, 0), bytes_of(NULL, 0), revision);
    while (!cursor.done) {
        const struct store_record *records[256];
        size_t count = store_cursor_next(store, &cursor, records, ARRAY_COUNT(records));
        for (size_t i = 0; i < count; i++) {
            const struct store_record *record = records[i];
            uint64_t numbers[] = {(uint64_t)record->create_revision, (uint64_t)record->mod_revision,
                                  (uint64_t)record->version, record->lease, record->key_bytes};
            hash = crc32c(hash, numbers, sizeof numbers);
            hash = crc32c(hash, record->data, record->key_bytes + record->value_bytes);
        }
    }
    store_cursor_close(&cursor);
    return hash;
}

enum api_wait etcd_hash_begin(struct api *api, struct etcd_call *call, struct bytes message, struct buffer *out)
{
    (void)call;
    (void)message;
    const struct store *store = replica_store(api->replica);
    struct etcd_header header = etcd_header_now(api);
    etcd_append_header(out, &header);
    protobuf_append_number(out, 2, hash_at(store, store_current_revision(store)));
    return API_DONE;
}

enum api_wait etcd_hash_kv_begin(struct api *api, struct etcd_call *call, struct bytes message, struct buffer *out)
{
    ProtobufCMessage *unpacked;
    if (!etcd_unpack(call, message, &unpacked)) return API_DONE;
    const struct store *store = replica_store(api->replica);
    store_revision asked = ((const Etcdserverpb__HashKVRequest *)unpacked)->revision, revision = asked;
    store_revision compacted = store_compacted_revision(store), current = store_current_revision(store);
    if (revision > 0 && revision < compacted) return etcd_fail(call, ETCD_ERROR_COMPACTED);
    if (revision > current) return etcd_fail(call, ETCD_ERROR_FUTURE_REVISION);
    if (revision <= 0) revision = current;
    struct etcd_header header = etcd_header_now(api);
    etcd_append_header(out, &header);
    protobuf_append_number(out, 2, hash_at(store, revision));
    protobuf_append_number(out, 3, (uint64_t)(compacted > 0 ? compacted : -1));
    protobuf_append_number(out, 4, (uint64_t)(asked == 0 ? revision : asked)); /* as etcd: one below 0 comes back */
    return API_DONE;
}

/* ---- leadership, versions ---- */

enum api_wait etcd_move_leader_begin(struct api *api, struct etcd_call *call, struct bytes message, struct buffer *out)
{
    (void)out;
    ProtobufCMessage *unpacked;
    if (!etcd_unpack(call, message, &unpacked)) return API_DONE;
    uint64_t target = ((const Etcdserverpb__MoveLeaderRequest *)unpacked)->targetid;
    struct replica_status status;
    replica_status(api->replica, &status);
    if (status.raft.leader != status.self) return etcd_fail(call, ETCD_ERROR_NOT_LEADER);
    for (uint32_t i = 0; i < status.member_count; i++) {
        if (status.members[i].id != target) continue;
        if (target == status.self) return API_DONE;
        return etcd_fail_with(call, GRPC_UNIMPLEMENTED, "coracle: leadership can't be handed to a chosen member, yet");
    }
    return etcd_fail(call, ETCD_ERROR_BAD_TRANSFEREE);
}

enum api_wait etcd_downgrade_begin(struct api *api, struct etcd_call *call, struct bytes message, struct buffer *out)
{
    (void)api;
    (void)message;
    (void)out;
    return etcd_fail_with(call, GRPC_UNIMPLEMENTED, "coracle: there is no etcd version to downgrade to");
}
