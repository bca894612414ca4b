#include "api/etcd.h"

#include "base/check.h"
#include "wire/protobuf_message.h"

/* Buffers up to this size stay with their call. */
#define KEPT_BYTES 16384u

struct etcd_header etcd_header_at(const struct api *api, store_revision revision)
{
    struct etcd_header header = {.revision = revision};
    replica_identity(api->replica, &header.cluster_id, &header.member, &header.term);
    return header;
}

struct etcd_header etcd_header_now(const struct api *api)
{
    return etcd_header_at(api, store_current_revision(replica_store(api->replica)));
}

enum api_wait etcd_fail_with(struct etcd_call *call, enum grpc_status status, const char *text)
{
    call->status = status;
    call->text = text;
    return API_DONE;
}

enum api_wait etcd_fail(struct etcd_call *call, enum etcd_error error)
{
    return etcd_fail_with(call, etcd_error_status(error), etcd_error_text(error));
}

enum api_wait etcd_malformed(struct etcd_call *call)
{
    static const char what[] = "grpc: error unmarshalling request: ";
    struct buffer text = {0};
    buffer_append_string(&text, what);
    if (call->problem.size > 0) {
        buffer_append(&text, call->problem.data, call->problem.size);
    } else {
        buffer_append_string(&text, "the message is malformed");
    }
    buffer_append_byte(&text, 0);
    buffer_free(&call->problem);
    call->problem = text;
    return etcd_fail_with(call, GRPC_INTERNAL, (const char *)call->problem.data);
}

bool etcd_unpack(struct etcd_call *call, struct bytes message, ProtobufCMessage **out)
{
    arena_reset(&call->arena);
    enum protobuf_verdict verdict =
        protobuf_unpack(call->method->request, message, PROTOBUF_MEMORY_BYTES_MAX, &call->arena, out, &call->problem);
    if (verdict == PROTOBUF_GOOD) return true;
    if (verdict == PROTOBUF_TOO_LARGE) {
        etcd_fail(call, ETCD_ERROR_REQUEST_TOO_LARGE);
    } else {
        etcd_malformed(call);
    }
    return false;
}

static void tidy(struct etcd_call *call)
{
    arena_reset(&call->arena);
    if (call->message.capacity > KEPT_BYTES) buffer_free(&call->message);
}

enum api_wait etcd_begin(struct api *api, struct etcd_call *call, const struct etcd_method *method,
                         struct bytes message, struct buffer *out)
{
    CHECK(call->command == NULL && method->form == ETCD_UNARY);
    call->method = method;
    call->status = GRPC_OK;
    call->text = "";
    buffer_clear(&call->problem);
    if (api->replica == NULL) return etcd_fail(call, ETCD_ERROR_STOPPED);
    enum api_wait wait = method->begin(api, call, message, out);
    if (wait == API_DONE) {
        tidy(call);
    } else {
        arena_free(&call->arena); /* many calls may wait, and each may have unpacked to much more than it was */
    }
    return wait;
}

void etcd_finish(struct api *api, struct etcd_call *call, const struct replica_result *result, struct buffer *out)
{
    if (result->error == ERR_OK || (call->method->finish_missing_lease && result->error == ERR_LEASE_NOT_FOUND)) {
        call->method->finish(api, call, result, out);
    } else {
        etcd_fail(call, etcd_error_of(result->error));
    }
    if (call->command != NULL) entry_unref(call->command);
    call->command = NULL;
    tidy(call);
}

void etcd_call_free(struct etcd_call *call)
{
    if (call->command != NULL) entry_unref(call->command);
    buffer_free(&call->message);
    buffer_free(&call->problem);
    arena_free(&call->arena);
    *call = (struct etcd_call){.method = NULL};
}
