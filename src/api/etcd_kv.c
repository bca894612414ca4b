/* etcd_kv.c - the service KV. */
#include "api/etcd.h"
#include "api/etcd_request.h"
#include "base/check.h"
#include "proto/etcd/rpc.pb-c.h"
#include "replica/command.h"

static enum api_wait refuse(struct etcd_call *call, const struct etcd_verdict *verdict)
{
    return verdict->malformed ? etcd_malformed(call) : etcd_fail(call, verdict->error);
}

/* Whether a request may go into the log, where it takes `command_bytes`: what is too large for one member's log or peer frame
   would stop them all. */
static bool is_too_large(const struct api *api, struct bytes message, size_t command_bytes)
{
    return message.size > api->host->value_bytes_max || command_bytes > ENTRY_PAYLOAD_BYTES_MAX;
}

static enum api_wait propose(struct etcd_call *call, struct entry *command)
{
    call->command = command;
    return API_PROPOSE;
}

static void keep_message(struct etcd_call *call, struct bytes message)
{
    buffer_clear(&call->message);
    if (message.size > 0) buffer_append(&call->message, message.data, message.size);
}

/* ---- range ---- */

static void answer_range(struct api *api, struct etcd_call *call, const struct range_query *query, struct buffer *out)
{
    struct range_result found;
    const struct store *store = replica_store(api->replica);
    enum error error = range_collect(store, query, &found);
    if (error != ERR_OK) {
        etcd_fail(call, etcd_error_of(error));
        return;
    }
    struct txn_answer answer = txn_answer_of_range(query, &found);
    struct etcd_header header = etcd_header_now(api);
    etcd_append_answer(out, &header, &answer);
    range_result_free(&found);
}

enum api_wait etcd_range_begin(struct api *api, struct etcd_call *call, struct bytes message, struct buffer *out)
{
    struct range_query query;
    bool serializable;
    struct etcd_verdict verdict = {.problem = &call->problem};
    if (!etcd_read_range(message, &query, &serializable, &verdict)) return refuse(call, &verdict);
    if (serializable) {
        answer_range(api, call, &query, out);
        return API_DONE;
    }
    keep_message(call, message);
    return API_READ;
}

void etcd_range_finish(struct api *api, struct etcd_call *call, const struct replica_result *result, struct buffer *out)
{
    (void)result;
    struct range_query query;
    bool serializable;
    struct etcd_verdict verdict = {.problem = &call->problem};
    CHECK(etcd_read_range(buffer_bytes(&call->message), &query, &serializable, &verdict));
    answer_range(api, call, &query, out);
}

/* ---- put, delete ---- */

enum api_wait etcd_put_begin(struct api *api, struct etcd_call *call, struct bytes message, struct buffer *out)
{
    (void)out;
    struct put_query query;
    struct etcd_verdict verdict = {.problem = &call->problem};
    if (!etcd_read_put(message, &query, &verdict)) return refuse(call, &verdict);
    if (is_too_large(api, message, command_put_bytes(&query))) return etcd_fail(call, ETCD_ERROR_REQUEST_TOO_LARGE);
    return propose(call, command_put_query(&query));
}

static void answer_outcome(struct api *api, enum txn_op_kind kind, const struct replica_result *result,
                           struct buffer *out)
{
    struct txn_answer plain = {.kind = kind, .count = result->count};
    struct etcd_header header = etcd_header_at(api, result->revision);
    etcd_append_answer(out, &header, result->outcome != NULL ? &result->outcome->answer : &plain);
}

void etcd_put_finish(struct api *api, struct etcd_call *call, const struct replica_result *result, struct buffer *out)
{
    (void)call;
    answer_outcome(api, TXN_PUT, result, out);
}

enum api_wait etcd_delete_range_begin(struct api *api, struct etcd_call *call, struct bytes message, struct buffer *out)
{
    (void)out;
    struct delete_query query;
    struct etcd_verdict verdict = {.problem = &call->problem};
    if (!etcd_read_delete(message, &query, &verdict)) return refuse(call, &verdict);
    if (is_too_large(api, message, command_delete_bytes(&query))) return etcd_fail(call, ETCD_ERROR_REQUEST_TOO_LARGE);
    return propose(call, command_delete_query(&query));
}

void etcd_delete_range_finish(struct api *api, struct etcd_call *call, const struct replica_result *result,
                              struct buffer *out)
{
    (void)call;
    answer_outcome(api, TXN_DELETE, result, out);
}

/* ---- txn ---- */

static bool read_txn(struct etcd_call *call, struct bytes message, struct txn *txn, bool *serializable,
                     struct etcd_verdict *verdict)
{
    *verdict = (struct etcd_verdict){.problem = &call->problem};
    arena_reset(&call->arena);
    return etcd_read_txn(message, &call->arena, txn, serializable, verdict);
}

/* A transaction of ranges alone needs no place in the log. */
static void answer_read_only(struct api *api, struct etcd_call *call, const struct txn *txn, struct buffer *out)
{
    struct txn_answer answer;
    enum error error = txn_read(replica_store(api->replica), txn, &call->arena, &answer);
    if (error != ERR_OK) {
        etcd_fail(call, etcd_error_of(error));
        return;
    }
    struct etcd_header header = etcd_header_now(api);
    etcd_append_answer(out, &header, &answer);
}

enum api_wait etcd_txn_begin(struct api *api, struct etcd_call *call, struct bytes message, struct buffer *out)
{
    struct txn txn;
    bool serializable;
    struct etcd_verdict verdict;
    if (!read_txn(call, message, &txn, &serializable, &verdict)) return refuse(call, &verdict);
    call->number = txn_is_read_only(&txn);
    if (!call->number) {
        if (is_too_large(api, message, command_txn_bytes(&txn))) return etcd_fail(call, ETCD_ERROR_REQUEST_TOO_LARGE);
        return propose(call, command_txn(&txn));
    }
    if (serializable) {
        answer_read_only(api, call, &txn, out);
        return API_DONE;
    }
    keep_message(call, message);
    return API_READ;
}

void etcd_txn_finish(struct api *api, struct etcd_call *call, const struct replica_result *result, struct buffer *out)
{
    if (!call->number) {
        answer_outcome(api, TXN_NESTED, result, out);
        return;
    }
    struct txn txn;
    bool serializable;
    struct etcd_verdict verdict;
    CHECK(read_txn(call, buffer_bytes(&call->message), &txn, &serializable, &verdict));
    answer_read_only(api, call, &txn, out);
}

/* ---- compact ---- */

enum api_wait etcd_compact_begin(struct api *api, struct etcd_call *call, struct bytes message, struct buffer *out)
{
    (void)api;
    (void)out;
    ProtobufCMessage *unpacked;
    if (!etcd_unpack(call, message, &unpacked)) return API_DONE;
    int64_t revision = ((const Etcdserverpb__CompactionRequest *)unpacked)->revision;
    if (revision <= 0) return etcd_fail(call, ETCD_ERROR_COMPACTED); /* none was ever to be read */
    return propose(call, command_compact(revision));
}

void etcd_compact_finish(struct api *api, struct etcd_call *call, const struct replica_result *result,
                         struct buffer *out)
{
    (void)call;
    struct etcd_header header = etcd_header_at(api, result->revision);
    etcd_append_header(out, &header);
}
