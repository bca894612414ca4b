/*
 * etcd.h - the unary methods of the etcd v3 interface: a message in, a message out, however they travel.
 *
 * gRPC (drive/client_grpc.h) and the JSON gateway (etcd_json.h) find the method by its path, begin the call with the request's bytes, and
 * have the answer's bytes at once or when the replica has finished. Nothing here streams.
 *
 *     etcd_method.c       the table of methods
 *     etcd_request.c      requests for keys, read and checked
 *     etcd_encode.c       answers for keys
 *     etcd_kv.c, etcd_lease.c, etcd_cluster.c, etcd_maintenance.c
 */
#ifndef CORACLE_API_ETCD_H
#define CORACLE_API_ETCD_H

#include <protobuf-c/protobuf-c.h>

#include "api/api.h"
#include "api/etcd_encode.h"
#include "api/etcd_error.h"
#include "base/arena.h"

struct etcd_call;

enum etcd_form { ETCD_UNARY, ETCD_KEEP_ALIVE, ETCD_WATCH, ETCD_RANGE_STREAM, ETCD_SNAPSHOT, ETCD_HEALTH_WATCH };

struct etcd_method {
    const char *path;      /* gRPC's: "/etcdserverpb.KV/Put" */
    const char *json_path; /* the gateway's: "/v3/kv/put", or NULL */
    enum etcd_form form;
    bool finish_missing_lease;                            /* ERR_LEASE_NOT_FOUND is an answer like others */
    const ProtobufCMessageDescriptor *request, *response; /* of messages, for JSON */
    enum api_wait (*begin)(struct api *api, struct etcd_call *call, struct bytes message, struct buffer *out);
    /* NULL: it never waits. */
    void (*finish)(struct api *api, struct etcd_call *call, const struct replica_result *result, struct buffer *out);
};

const struct etcd_method *etcd_method_of(struct bytes path);
const struct etcd_method *etcd_method_of_json(struct bytes path);

/* One call under way; all zero before its first begin. Reuse keeps its buffers. */
struct etcd_call {
    const struct etcd_method *method;
    struct entry *command;   /* of API_PROPOSE; moved out by the host */
    uint64_t lease;          /* of API_LEASE_RENEW and API_LEASE_TIME */
    struct buffer message;   /* the request, where it is needed at the finish */
    struct arena arena;      /* of what is read from it */
    int64_t number;          /* the method's own */
    enum grpc_status status; /* of the answer: the message in `out` counts with GRPC_OK only */
    const char *text;        /* of an error; static, or in `problem` */
    struct buffer problem;
};

/* Begins: API_DONE with status, text and the answer; or what it waits for. `message` is borrowed for this call only. */
enum api_wait etcd_begin(struct api *api, struct etcd_call *call, const struct etcd_method *method,
                         struct bytes message, struct buffer *out);
/* Finishes one that waited. A command that the host refused is dropped. */
void etcd_finish(struct api *api, struct etcd_call *call, const struct replica_result *result, struct buffer *out);
void etcd_call_free(struct etcd_call *call);

/* ---- for the methods' files ---- */

/* This node's, now. */
struct etcd_header etcd_header_now(const struct api *api);
/* As it was when the result came to be. */
struct etcd_header etcd_header_at(const struct api *api, store_revision revision);
enum api_wait etcd_fail(struct etcd_call *call, enum etcd_error error);
enum api_wait etcd_fail_with(struct etcd_call *call, enum grpc_status status, const char *text);
/* The message is no protobuf of its type: what call->problem says. */
enum api_wait etcd_malformed(struct etcd_call *call);
/* Reads the message into the arena. False: the call failed. */
bool etcd_unpack(struct etcd_call *call, struct bytes message, ProtobufCMessage **out);

#define ETCD_BEGIN(name)                                                                                               \
    enum api_wait etcd_##name##_begin(struct api *api, struct etcd_call *call, struct bytes message, struct buffer *out)
#define ETCD_FINISH(name)                                                                                              \
    void etcd_##name##_finish(struct api *api, struct etcd_call *call, const struct replica_result *result,            \
                              struct buffer *out)

ETCD_BEGIN(range);
ETCD_BEGIN(put);
ETCD_BEGIN(delete_range);
ETCD_BEGIN(txn);
ETCD_BEGIN(compact);
ETCD_BEGIN(lease_grant);
ETCD_BEGIN(lease_revoke);
ETCD_BEGIN(lease_time_to_live);
ETCD_BEGIN(lease_leases);
ETCD_BEGIN(member_list);
ETCD_BEGIN(member_change);
ETCD_BEGIN(alarm);
ETCD_BEGIN(status);
ETCD_BEGIN(defragment);
ETCD_BEGIN(hash);
ETCD_BEGIN(hash_kv);
ETCD_BEGIN(move_leader);
ETCD_BEGIN(downgrade);
ETCD_BEGIN(auth);
ETCD_BEGIN(auth_status);
ETCD_BEGIN(health_check);

ETCD_FINISH(range);
ETCD_FINISH(put);
ETCD_FINISH(delete_range);
ETCD_FINISH(txn);
ETCD_FINISH(compact);
ETCD_FINISH(lease_grant);
ETCD_FINISH(lease_revoke);
ETCD_FINISH(lease_time_to_live);
ETCD_FINISH(lease_leases);
ETCD_FINISH(member_list);
#undef ETCD_BEGIN
#undef ETCD_FINISH

#endif
