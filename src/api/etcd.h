/*
 * etcd.h - the unary methods of the etcd v3 interface: a message in, a message out, however they travel.
 *
 * gRPC (drive/client_grpc.h) and the JSON gateway (etcd_json.h) find the method by its path, begin the call with the request's bytes, and
 * have the answer's bytes at once or when the replica has finished. What streams is elsewhere: etcd_watch.h, etcd_keepalive.h.
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

enum etcd_form {
    ETCD_UNARY,
    ETCD_KEEP_ALIVE,
    ETCD_WATCH,
    ETCD_RANGE_STREAM,
    ETCD_SNAPSHOT,
    ETCD_HEALTH_WATCH,
    ETCD_OBSERVE
};

struct etcd_method {
    const char *path;      /* gRPC's: "/etcdserverpb.KV/Put" */
    const char *json_path; /* the gateway's: "/v3/kv/put", or NULL */
    enum etcd_form form;
    bool finish_missing_lease;                            /* ERR_LEASE_NOT_FOUND is an answer like others */
    const ProtobufCMessageDescriptor *request, *response; /* of messages, for JSON */
    enum api_wait (*begin)(struct api *api, struct etcd_call *call, struct bytes message, struct buffer *out);
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

#define ETCD_METHOD(name)                                                                                              \
    enum api_wait etcd_##name##_begin(struct api *api, struct etcd_call *call, struct bytes message,                   \
                                      struct buffer *out);                                                             \
    void etcd_##name##_finish(struct api *api, struct etcd_call *call, const struct replica_result *result,            \
                              struct buffer *out)

ETCD_METHOD(range);
ETCD_METHOD(put);
ETCD_METHOD(delete_range);
ETCD_METHOD(txn);
ETCD_METHOD(compact);
ETCD_METHOD(lease_grant);
ETCD_METHOD(lease_revoke);
ETCD_METHOD(lease_time_to_live);
ETCD_METHOD(lease_leases);
ETCD_METHOD(member_list);
ETCD_METHOD(member_change);
ETCD_METHOD(alarm);
ETCD_METHOD(status);
ETCD_METHOD(defragment);
ETCD_METHOD(hash);
ETCD_METHOD(hash_kv);
ETCD_METHOD(move_leader);
ETCD_METHOD(downgrade);
ETCD_METHOD(auth);
ETCD_METHOD(auth_status);
ETCD_METHOD(health_check);
#undef ETCD_METHOD

#endif
