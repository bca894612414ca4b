#include "api/etcd_request.h"

#include "api/etcd_txn_keys.h"
#include "proto/etcd/rpc.pb-c.h"
#include "wire/protobuf.h"
#include "wire/protobuf_message.h"

static bool refuse(struct etcd_verdict *verdict, enum etcd_error error)
{
    verdict->error = error;
    return false;
}

static bool malformed(struct etcd_verdict *verdict)
{
    verdict->malformed = true;
    return false;
}

/* ---- checks ---- */

/* What goes into the log must be understood by every member for ever, so a key that the log's format doesn't take ends here. */
static bool check_key(struct bytes key, struct etcd_verdict *verdict)
{
    if (key.size == 0) return refuse(verdict, ETCD_ERROR_EMPTY_KEY);
    return key.size <= STORE_KEY_BYTES_MAX || refuse(verdict, ETCD_ERROR_REQUEST_TOO_LARGE);
}

static bool check_range(const struct range_query *range, struct etcd_verdict *verdict)
{
    if (range->key.size == 0) return refuse(verdict, ETCD_ERROR_EMPTY_KEY);
    if ((unsigned)range->order > RANGE_DESCENDING || (unsigned)range->target > RANGE_BY_VALUE) {
        return refuse(verdict, ETCD_ERROR_INVALID_SORT_OPTION);
    }
    return true;
}

static bool check_put(const struct put_query *put, struct etcd_verdict *verdict)
{
    if (!check_key(put->key, verdict)) return false;
    if (put->keep_value && put->value.size != 0) return refuse(verdict, ETCD_ERROR_VALUE_PROVIDED);
    if (put->keep_lease && put->lease != 0) return refuse(verdict, ETCD_ERROR_LEASE_PROVIDED);
    return true;
}

/* ---- by hand ---- */

bool etcd_read_range(struct bytes message, struct range_query *out, bool *serializable, struct etcd_verdict *verdict)
{
    *out = (struct range_query){.limit = 0};
    *serializable = false;
    struct protobuf_reader reader = protobuf_reader_of(message);
    struct protobuf_field field;
    while (protobuf_next(&reader, &field)) {
        switch (field.tag) {
        case PROTOBUF_TAG(1, PROTOBUF_BYTES):
            out->key = field.bytes;
            break;
        case PROTOBUF_TAG(2, PROTOBUF_BYTES):
            out->range_end = field.bytes;
            break;
        case PROTOBUF_TAG(3, PROTOBUF_VARINT):
            out->limit = (int64_t)field.value;
            break;
        case PROTOBUF_TAG(4, PROTOBUF_VARINT):
            out->revision = (int64_t)field.value;
            break;
        case PROTOBUF_TAG(5, PROTOBUF_VARINT):
            out->order = (enum range_order)(int32_t)field.value;
            break;
        case PROTOBUF_TAG(6, PROTOBUF_VARINT):
            out->target = (enum range_target)(int32_t)field.value;
            break;
        case PROTOBUF_TAG(7, PROTOBUF_VARINT):
            *serializable = field.value != 0;
            break;
        case PROTOBUF_TAG(8, PROTOBUF_VARINT):
            out->keys_only = field.value != 0;
            break;
        case PROTOBUF_TAG(9, PROTOBUF_VARINT):
            out->count_only = field.value != 0;
            break;
        case PROTOBUF_TAG(10, PROTOBUF_VARINT):
            out->mod_min = (int64_t)field.value;
            break;
        case PROTOBUF_TAG(11, PROTOBUF_VARINT):
            out->mod_max = (int64_t)field.value;
            break;
        case PROTOBUF_TAG(12, PROTOBUF_VARINT):
            out->create_min = (int64_t)field.value;
            break;
        case PROTOBUF_TAG(13, PROTOBUF_VARINT):
            out->create_max = (int64_t)field.value;
            break;
        default:
            break;
        }
    }
    return reader.failed ? malformed(verdict) : check_range(out, verdict);
}

bool etcd_read_put(struct bytes message, struct put_query *out, struct etcd_verdict *verdict)
{
    *out = (struct put_query){.lease = 0};
    struct protobuf_reader reader = protobuf_reader_of(message);
    struct protobuf_field field;
    while (protobuf_next(&reader, &field)) {
        switch (field.tag) {
        case PROTOBUF_TAG(1, PROTOBUF_BYTES):
            out->key = field.bytes;
            break;
        case PROTOBUF_TAG(2, PROTOBUF_BYTES):
            out->value = field.bytes;
            break;
        case PROTOBUF_TAG(3, PROTOBUF_VARINT):
            out->lease = field.value;
            break;
        case PROTOBUF_TAG(4, PROTOBUF_VARINT):
            out->want_previous = field.value != 0;
            break;
        case PROTOBUF_TAG(5, PROTOBUF_VARINT):
            out->keep_value = field.value != 0;
            break;
        case PROTOBUF_TAG(6, PROTOBUF_VARINT):
            out->keep_lease = field.value != 0;
            break;
        default:
            break;
        }
    }
    return reader.failed ? malformed(verdict) : check_put(out, verdict);
}

bool etcd_read_delete(struct bytes message, struct delete_query *out, struct etcd_verdict *verdict)
{
    *out = (struct delete_query){.want_previous = false};
    struct protobuf_reader reader = protobuf_reader_of(message);
    struct protobuf_field field;
    while (protobuf_next(&reader, &field)) {
        switch (field.tag) {
        case PROTOBUF_TAG(1, PROTOBUF_BYTES):
            out->key = field.bytes;
            break;
        case PROTOBUF_TAG(2, PROTOBUF_BYTES):
            out->range_end = field.bytes;
            break;
        case PROTOBUF_TAG(3, PROTOBUF_VARINT):
            out->want_previous = field.value != 0;
            break;
        default:
            break;
        }
    }
    return reader.failed ? malformed(verdict) : check_key(out->key, verdict);
}

/* ---- transactions, through protobuf-c ---- */

struct conversion {
    struct arena *arena;
    struct etcd_verdict *verdict;
    bool serializable;
};

static struct bytes bytes_from(ProtobufCBinaryData data)
{
    return bytes_of(data.data, data.len);
}

static bool convert_txn(struct conversion *conversion, const Etcdserverpb__TxnRequest *request, size_t ops_max,
                        struct txn *out);

/*
 * What etcd makes of a compare whose target or result it doesn't know: all values of such a target are equal, and such a result holds
 * for any two. The log knows no such compare; one of versions, which are never negative, says the same.
 */
static void convert_unknown(const Etcdserverpb__Compare *from, struct txn_compare *compare)
{
    int target = (int)from->target, result = (int)from->result;
    bool target_known = target >= COMPARE_VERSION && target <= COMPARE_LEASE;
    bool result_known = result >= COMPARE_EQUAL && result <= COMPARE_NOT_EQUAL;
    if (target_known && result_known) return;
    bool holds = !result_known || result == COMPARE_EQUAL;
    /* No value compares to that of a missing key, whatever the result. */
    bool exists = !result_known && target == COMPARE_VALUE;
    compare->target = COMPARE_VERSION;
    compare->result = holds ? COMPARE_GREATER : COMPARE_LESS;
    compare->number = exists ? 0 : -1;
    compare->value = (struct bytes){0};
}

static bool convert_compare(struct conversion *conversion, const Etcdserverpb__Compare *from, struct txn_compare *out)
{
    *out = (struct txn_compare){.result = (enum compare_result)from->result,
                                .target = (enum compare_target)from->target,
                                .key = bytes_from(from->key),
                                .range_end = bytes_from(from->range_end)};
    if (!check_key(out->key, conversion->verdict)) return false;
    /* What isn't given compares as zero, also where another target's operand is given instead. */
    switch (from->target_union_case) {
    case ETCDSERVERPB__COMPARE__TARGET_UNION_VERSION:
        out->number = out->target == COMPARE_VERSION ? from->version : 0;
        break;
    case ETCDSERVERPB__COMPARE__TARGET_UNION_CREATE_REVISION:
        out->number = out->target == COMPARE_CREATE ? from->create_revision : 0;
        break;
    case ETCDSERVERPB__COMPARE__TARGET_UNION_MOD_REVISION:
        out->number = out->target == COMPARE_MOD ? from->mod_revision : 0;
        break;
    case ETCDSERVERPB__COMPARE__TARGET_UNION_VALUE:
        if (out->target == COMPARE_VALUE) out->value = bytes_from(from->value);
        break;
    case ETCDSERVERPB__COMPARE__TARGET_UNION_LEASE:
        out->number = out->target == COMPARE_LEASE ? from->lease : 0;
        break;
    default:
        break;
    }
    convert_unknown(from, out);
    return true;
}

static bool convert_range(struct conversion *conversion, const Etcdserverpb__RangeRequest *from,
                          struct range_query *out)
{
    *out = (struct range_query){.key = bytes_from(from->key),
                                .range_end = bytes_from(from->range_end),
                                .revision = from->revision,
                                .limit = from->limit,
                                .order = (enum range_order)from->sort_order,
                                .target = (enum range_target)from->sort_target,
                                .keys_only = from->keys_only,
                                .count_only = from->count_only,
                                .mod_min = from->min_mod_revision,
                                .mod_max = from->max_mod_revision,
                                .create_min = from->min_create_revision,
                                .create_max = from->max_create_revision};
    conversion->serializable = conversion->serializable && from->serializable;
    return check_range(out, conversion->verdict) && check_key(out->key, conversion->verdict);
}

static bool convert_op(struct conversion *conversion, const Etcdserverpb__RequestOp *from, size_t ops_max,
                       struct txn_op *out)
{
    switch (from->request_case) {
    case ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE:
        out->kind = TXN_RANGE;
        return convert_range(conversion, from->request_range, &out->range);
    case ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT:
        out->kind = TXN_PUT;
        out->put = (struct put_query){.key = bytes_from(from->request_put->key),
                                      .value = bytes_from(from->request_put->value),
                                      .lease = (uint64_t)from->request_put->lease,
                                      .want_previous = from->request_put->prev_kv,
                                      .keep_value = from->request_put->ignore_value,
                                      .keep_lease = from->request_put->ignore_lease};
        return check_put(&out->put, conversion->verdict);
    case ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE:
        out->kind = TXN_DELETE;
        out->delete = (struct delete_query){.key = bytes_from(from->request_delete_range->key),
                                            .range_end = bytes_from(from->request_delete_range->range_end),
                                            .want_previous = from->request_delete_range->prev_kv};
        return check_key(out->delete.key, conversion->verdict);
    case ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_TXN:
        out->kind = TXN_NESTED;
        return convert_txn(conversion, from->request_txn, ops_max, &out->nested);
    default:
        return refuse(conversion->verdict, ETCD_ERROR_KEY_NOT_FOUND);
    }
}

static bool convert_ops(struct conversion *conversion, Etcdserverpb__RequestOp *const *from, size_t count,
                        size_t ops_max, struct txn_op **out, uint32_t *out_count)
{
    *out = count > 0 ? arena_alloc(conversion->arena, count * sizeof **out) : NULL;
    for (*out_count = 0; *out_count < count; ++*out_count) {
        if (!convert_op(conversion, from[*out_count], ops_max, &(*out)[*out_count])) return false;
    }
    return true;
}

/* The limit of a nested transaction is what its parent's largest list left. Faults are met in etcd's order, which a request
   with several of them shows. */
static bool convert_txn(struct conversion *conversion, const Etcdserverpb__TxnRequest *request, size_t ops_max,
                        struct txn *out)
{
    *out = (struct txn){.compare_count = 0};
    size_t largest = request->n_compare;
    if (request->n_success > largest) largest = request->n_success;
    if (request->n_failure > largest) largest = request->n_failure;
    if (largest > ops_max) return refuse(conversion->verdict, ETCD_ERROR_TOO_MANY_OPS);
    size_t left = ops_max - largest;
    if (request->n_compare > 0) {
        out->compares = arena_alloc(conversion->arena, request->n_compare * sizeof out->compares[0]);
    }
    for (; out->compare_count < request->n_compare; out->compare_count++) {
        if (!convert_compare(conversion, request->compare[out->compare_count], &out->compares[out->compare_count])) {
            return false;
        }
    }
    return convert_ops(conversion, request->success, request->n_success, left, &out->success, &out->success_count) &&
           convert_ops(conversion, request->failure, request->n_failure, left, &out->failure, &out->failure_count);
}

bool etcd_read_txn(struct bytes message, struct arena *arena, struct txn *out, bool *serializable,
                   struct etcd_verdict *verdict)
{
    ProtobufCMessage *unpacked;
    enum protobuf_verdict good = protobuf_unpack(&etcdserverpb__txn_request__descriptor, message,
                                                 PROTOBUF_MEMORY_BYTES_MAX, arena, &unpacked, verdict->problem);
    if (good == PROTOBUF_TOO_LARGE) return refuse(verdict, ETCD_ERROR_REQUEST_TOO_LARGE);
    if (good == PROTOBUF_TOO_DEEP) return refuse(verdict, ETCD_ERROR_TOO_MANY_OPS);
    if (good != PROTOBUF_GOOD) return malformed(verdict);
    const Etcdserverpb__TxnRequest *request = (const Etcdserverpb__TxnRequest *)unpacked;
    struct conversion conversion = {.arena = arena, .verdict = verdict, .serializable = true};
    if (!convert_txn(&conversion, request, ETCD_TXN_OPS_MAX, out)) return false;
    *serializable = conversion.serializable;
    return etcd_txn_keys_are_distinct(out, arena) ? true : refuse(verdict, ETCD_ERROR_DUPLICATE_KEY);
}
