/* etcd_lease.c - the service Lease, but for KeepAlive, which streams. */
#include "api/etcd.h"
#include "base/mem.h"
#include "base/sort.h"
#include "proto/etcd/rpc.pb-c.h"
#include "replica/command.h"
#include "replica/lessor.h"
#include "wire/protobuf.h"

/* ---- grant ---- */

enum api_wait etcd_lease_grant_begin(struct api *api, struct etcd_call *call, struct bytes message, struct buffer *out)
{
    (void)out;
    ProtobufCMessage *unpacked;
    if (!etcd_unpack(call, message, &unpacked)) return API_DONE;
    const Etcdserverpb__LeaseGrantRequest *request = (const Etcdserverpb__LeaseGrantRequest *)unpacked;
    if (request->ttl > LESSOR_TTL_MAX_S) return etcd_fail(call, ETCD_ERROR_LEASE_TTL_TOO_LARGE);
    int64_t ttl_min = api->host->lease_ttl_min_s;
    call->number = request->ttl < ttl_min ? ttl_min : request->ttl;
    call->lease = request->id != 0 ? (uint64_t)request->id : replica_new_lease_id(api->replica, ++api->host->lease_ids);
    call->command = command_lease_grant(call->lease, call->number);
    return API_PROPOSE;
}

void etcd_lease_grant_finish(struct api *api, struct etcd_call *call, const struct replica_result *result,
                             struct buffer *out)
{
    struct etcd_header header = etcd_header_at(api, result->revision);
    etcd_append_header(out, &header);
    protobuf_append_number(out, 2, call->lease);
    protobuf_append_number(out, 3, (uint64_t)call->number);
}

/* ---- revoke ---- */

enum api_wait etcd_lease_revoke_begin(struct api *api, struct etcd_call *call, struct bytes message, struct buffer *out)
{
    (void)api;
    (void)out;
    ProtobufCMessage *unpacked;
    if (!etcd_unpack(call, message, &unpacked)) return API_DONE;
    uint64_t id = (uint64_t)((const Etcdserverpb__LeaseRevokeRequest *)unpacked)->id;
    if (id == 0) return etcd_fail(call, ETCD_ERROR_LEASE_NOT_FOUND);
    call->command = command_lease_revoke(id);
    return API_PROPOSE;
}

void etcd_lease_revoke_finish(struct api *api, struct etcd_call *call, const struct replica_result *result,
                              struct buffer *out)
{
    (void)call;
    struct etcd_header header = etcd_header_at(api, result->revision);
    etcd_append_header(out, &header);
}

/* ---- time to live ---- */

enum api_wait etcd_lease_time_to_live_begin(struct api *api, struct etcd_call *call, struct bytes message,
                                            struct buffer *out)
{
    (void)api;
    (void)out;
    ProtobufCMessage *unpacked;
    if (!etcd_unpack(call, message, &unpacked)) return API_DONE;
    const Etcdserverpb__LeaseTimeToLiveRequest *request = (const Etcdserverpb__LeaseTimeToLiveRequest *)unpacked;
    call->lease = (uint64_t)request->id;
    call->number = request->keys;
    return API_LEASE_TIME;
}

static void append_keys(const struct lease *lease, struct buffer *out)
{
    const struct store_record **keys = mem_alloc((lease->key_count + 1) * sizeof keys[0]);
    store_lease_keys(lease, keys);
    for (uint32_t i = 0; i < lease->key_count; i++) protobuf_append_bytes_present(out, 5, store_record_key(keys[i]));
    mem_free(keys);
}

/* A lease that isn't there has a TTL of -1, and that is no error. */
void etcd_lease_time_to_live_finish(struct api *api, struct etcd_call *call, const struct replica_result *result,
                                    struct buffer *out)
{
    struct etcd_header header = etcd_header_now(api);
    etcd_append_header(out, &header);
    protobuf_append_number(out, 2, call->lease);
    const struct lease *lease = store_lease_find(replica_store(api->replica), call->lease);
    bool found = result->error == ERR_OK && lease != NULL;
    protobuf_append_number(out, 3, (uint64_t)(found ? result->ttl_s : -1));
    if (!found) return;
    protobuf_append_number(out, 4, (uint64_t)result->granted_ttl_s);
    if (call->number) append_keys(lease, out);
}

/* ---- leases ---- */

enum api_wait etcd_lease_leases_begin(struct api *api, struct etcd_call *call, struct bytes message, struct buffer *out)
{
    (void)api;
    (void)out;
    ProtobufCMessage *unpacked;
    return etcd_unpack(call, message, &unpacked) ? API_READ : API_DONE;
}

static int by_id(const void *a, const void *b, const void *user)
{
    (void)user;
    int64_t first = (int64_t)((const struct lease *)a)->id, second = (int64_t)((const struct lease *)b)->id;
    return first < second ? -1 : first > second;
}

void etcd_lease_leases_finish(struct api *api, struct etcd_call *call, const struct replica_result *result,
                              struct buffer *out)
{
    (void)call;
    (void)result;
    struct etcd_header header = etcd_header_now(api);
    etcd_append_header(out, &header);
    const struct store *store = replica_store(api->replica);
    const struct lease **leases = mem_alloc((store_lease_count(store) + 1) * sizeof leases[0]);
    size_t count = 0;
    for (size_t slot = 0; slot < store_lease_slots(store); slot++) {
        if (store_lease_at(store, slot) != NULL) leases[count++] = store_lease_at(store, slot);
    }
    sort_pointers((const void **)leases, count, by_id, NULL);
    for (size_t i = 0; i < count; i++) {
        protobuf_append_message_head(out, 2, protobuf_size_number_present(1, leases[i]->id));
        protobuf_append_number_present(out, 1, leases[i]->id);
    }
    mem_free(leases);
}
