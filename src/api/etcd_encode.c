#include "api/etcd_encode.h"

#include "base/check.h"
#include "wire/protobuf.h"

/* Field numbers of KeyValue. */
enum { KV_KEY = 1, KV_CREATE = 2, KV_MOD = 3, KV_VERSION = 4, KV_VALUE = 5, KV_LEASE = 6 };

static size_t kv_body_size(const struct store_record *record, struct etcd_kv_options options)
{
    return protobuf_size_bytes(KV_KEY, record->key_bytes) +
           protobuf_size_number(KV_CREATE, (uint64_t)record->create_revision) +
           protobuf_size_number(KV_MOD, (uint64_t)record->mod_revision) +
           protobuf_size_number(KV_VERSION, (uint64_t)record->version) +
           (options.without_value ? 0 : protobuf_size_bytes(KV_VALUE, record->value_bytes)) +
           (options.without_lease ? 0 : protobuf_size_number(KV_LEASE, record->lease));
}

size_t etcd_kv_size(uint32_t number, const struct store_record *record, struct etcd_kv_options options)
{
    return protobuf_size_message(number, kv_body_size(record, options));
}

uint8_t *etcd_put_kv(uint8_t *at, uint32_t number, const struct store_record *record, struct etcd_kv_options options)
{
    at = protobuf_put_message_head(at, number, kv_body_size(record, options));
    at = protobuf_put_bytes(at, KV_KEY, store_record_key(record));
    at = protobuf_put_number(at, KV_CREATE, (uint64_t)record->create_revision);
    at = protobuf_put_number(at, KV_MOD, (uint64_t)record->mod_revision);
    at = protobuf_put_number(at, KV_VERSION, (uint64_t)record->version);
    if (!options.without_value) at = protobuf_put_bytes(at, KV_VALUE, store_record_value(record));
    return options.without_lease ? at : protobuf_put_number(at, KV_LEASE, record->lease);
}

static size_t header_body_size(const struct etcd_header *header)
{
    return protobuf_size_number(1, header->cluster_id) + protobuf_size_number(2, header->member) +
           protobuf_size_number(3, (uint64_t)header->revision) + protobuf_size_number(4, header->term);
}

size_t etcd_header_size(const struct etcd_header *header)
{
    return protobuf_size_message(1, header_body_size(header));
}

uint8_t *etcd_put_header(uint8_t *at, const struct etcd_header *header)
{
    at = protobuf_put_message_head(at, 1, header_body_size(header));
    at = protobuf_put_number(at, 1, header->cluster_id);
    at = protobuf_put_number(at, 2, header->member);
    at = protobuf_put_number(at, 3, (uint64_t)header->revision);
    return protobuf_put_number(at, 4, header->term);
}

void etcd_append_header(struct buffer *out, const struct etcd_header *header)
{
    buffer_reserve(out, etcd_header_size(header));
    uint8_t *at = etcd_put_header(out->data + out->size, header);
    out->size = (size_t)(at - out->data);
}

/* ---- answers ---- */

static struct etcd_kv_options options_of(const struct txn_answer *answer)
{
    return (struct etcd_kv_options){.without_value = answer->keys_only, .without_lease = answer->zero_lease};
}

/* Where the records of an answer go: kvs of a range, prev_kv of a put, prev_kvs of a delete. */
static uint32_t records_field(const struct txn_answer *answer)
{
    return answer->kind == TXN_DELETE ? 3 : 2;
}

/* The header of an operation within a transaction has a revision only; that of a nested transaction nothing. */
static struct etcd_header inner_header(const struct txn_answer *answer)
{
    return (struct etcd_header){.revision = answer->kind == TXN_NESTED ? 0 : answer->revision};
}

/* ResponseOp's field for the kind. */
static uint32_t response_field(enum txn_op_kind kind)
{
    return (uint32_t)kind;
}
_Static_assert(TXN_RANGE == 1 && TXN_PUT == 2 && TXN_DELETE == 3 && TXN_NESTED == 4, "as ResponseOp numbers them");

static size_t answer_size(const struct etcd_header *header, const struct txn_answer *answer);

/* What an answer in a list of responses takes, as ResponseOp and as the message in it. */
static size_t response_op_size(const struct txn_answer *answer, size_t *inner)
{
    struct etcd_header header = inner_header(answer);
    *inner = answer_size(&header, answer);
    return protobuf_size_message(response_field(answer->kind), *inner);
}

static size_t answer_size(const struct etcd_header *header, const struct txn_answer *answer)
{
    size_t size = etcd_header_size(header);
    struct etcd_kv_options options = options_of(answer);
    for (uint32_t i = 0; i < answer->record_count; i++) {
        size += etcd_kv_size(records_field(answer), answer->records[i], options);
    }
    switch (answer->kind) {
    case TXN_RANGE:
        size += protobuf_size_number(3, answer->more) + protobuf_size_number(4, answer->count);
        break;
    case TXN_PUT:
        break;
    case TXN_DELETE:
        size += protobuf_size_number(2, answer->count);
        break;
    case TXN_NESTED:
        size += protobuf_size_number(2, answer->succeeded);
        for (uint32_t i = 0; i < answer->answer_count; i++) {
            size_t inner;
            size += protobuf_size_message(3, response_op_size(&answer->answers[i], &inner));
        }
        break;
    }
    return size;
}

static uint8_t *put_answer(uint8_t *at, const struct etcd_header *header, const struct txn_answer *answer);

static uint8_t *put_responses(uint8_t *at, const struct txn_answer *answer)
{
    for (uint32_t i = 0; i < answer->answer_count; i++) {
        const struct txn_answer *response = &answer->answers[i];
        size_t inner, size = response_op_size(response, &inner);
        at = protobuf_put_message_head(at, 3, size);
        at = protobuf_put_message_head(at, response_field(response->kind), inner);
        struct etcd_header header = inner_header(response);
        at = put_answer(at, &header, response);
    }
    return at;
}

static uint8_t *put_answer(uint8_t *at, const struct etcd_header *header, const struct txn_answer *answer)
{
    at = etcd_put_header(at, header);
    if (answer->kind == TXN_DELETE) at = protobuf_put_number(at, 2, answer->count);
    struct etcd_kv_options options = options_of(answer);
    for (uint32_t i = 0; i < answer->record_count; i++) {
        at = etcd_put_kv(at, records_field(answer), answer->records[i], options);
    }
    if (answer->kind == TXN_RANGE) {
        at = protobuf_put_number(at, 3, answer->more);
        at = protobuf_put_number(at, 4, answer->count);
    }
    if (answer->kind == TXN_NESTED) {
        at = protobuf_put_number(at, 2, answer->succeeded);
        at = put_responses(at, answer);
    }
    return at;
}

void etcd_append_answer(struct buffer *out, const struct etcd_header *header, const struct txn_answer *answer)
{
    size_t size = answer_size(header, answer);
    buffer_reserve(out, size);
    uint8_t *end = put_answer(out->data + out->size, header, answer);
    CHECK((size_t)(end - out->data) == out->size + size);
    out->size += size;
}
