#include "storage/txn_format.h"

#include "base/check.h"
#include "storage/command_format.h"

#define TXN_HEADER_BYTES 6u
#define COMPARE_HEADER_BYTES 22u
#define RANGE_HEADER_BYTES 60u
#define PUT_HEADER_BYTES 18u
#define DELETE_HEADER_BYTES 10u

#define FLAG_KEYS_ONLY 1u
#define FLAG_COUNT_ONLY 2u
#define FLAG_WANT_PREVIOUS 1u
#define FLAG_KEEP_VALUE 2u
#define FLAG_KEEP_LEASE 4u

/* ---- size ---- */

static size_t op_bytes(const struct txn_op *op)
{
    switch (op->kind) {
    case TXN_RANGE:
        return RANGE_HEADER_BYTES + op->range.key.size + op->range.range_end.size;
    case TXN_PUT:
        return PUT_HEADER_BYTES + op->put.key.size + op->put.value.size;
    case TXN_DELETE:
        return DELETE_HEADER_BYTES + op->delete.key.size + op->delete.range_end.size;
    case TXN_NESTED:
        return 1 + txn_format_bytes(&op->nested);
    }
    CHECK(false);
}

size_t txn_format_bytes(const struct txn *txn)
{
    size_t size = TXN_HEADER_BYTES;
    for (uint32_t i = 0; i < txn->compare_count; i++) {
        const struct txn_compare *compare = &txn->compares[i];
        size += COMPARE_HEADER_BYTES + compare->key.size + compare->range_end.size + compare->value.size;
    }
    for (uint32_t i = 0; i < txn->success_count; i++) size += op_bytes(&txn->success[i]);
    for (uint32_t i = 0; i < txn->failure_count; i++) size += op_bytes(&txn->failure[i]);
    return size;
}

/* ---- encoding ---- */

static uint8_t *put_byte(uint8_t *at, unsigned value)
{
    *at = (uint8_t)value;
    return at + 1;
}

static uint8_t *put_short(uint8_t *at, uint32_t value)
{
    CHECK(value <= UINT16_MAX);
    put_u16(at, (uint16_t)value);
    return at + 2;
}

static uint8_t *put_size(uint8_t *at, size_t value)
{
    CHECK(value <= UINT32_MAX);
    put_u32(at, (uint32_t)value);
    return at + 4;
}

static uint8_t *put_number(uint8_t *at, int64_t value)
{
    put_u64(at, (uint64_t)value);
    return at + 8;
}

static uint8_t *put_bytes(uint8_t *at, struct bytes bytes)
{
    if (bytes.size > 0) memcpy(at, bytes.data, bytes.size);
    return at + bytes.size;
}

static uint8_t *encode_txn(const struct txn *txn, uint8_t *at);

static uint8_t *encode_compare(const struct txn_compare *compare, uint8_t *at)
{
    at = put_byte(at, compare->result);
    at = put_byte(at, compare->target);
    at = put_number(at, compare->number);
    at = put_size(at, compare->key.size);
    at = put_size(at, compare->range_end.size);
    at = put_size(at, compare->value.size);
    at = put_bytes(at, compare->key);
    at = put_bytes(at, compare->range_end);
    return put_bytes(at, compare->value);
}

static uint8_t *encode_range(const struct range_query *range, uint8_t *at)
{
    at = put_byte(at, (range->keys_only ? FLAG_KEYS_ONLY : 0) | (range->count_only ? FLAG_COUNT_ONLY : 0));
    at = put_byte(at, range->order);
    at = put_byte(at, range->target);
    at = put_number(at, range->revision);
    at = put_number(at, range->limit);
    at = put_number(at, range->mod_min);
    at = put_number(at, range->mod_max);
    at = put_number(at, range->create_min);
    at = put_number(at, range->create_max);
    at = put_size(at, range->key.size);
    at = put_size(at, range->range_end.size);
    at = put_bytes(at, range->key);
    return put_bytes(at, range->range_end);
}

static uint8_t *encode_put(const struct put_query *put, uint8_t *at)
{
    at = put_byte(at, (put->want_previous ? FLAG_WANT_PREVIOUS : 0) | (put->keep_value ? FLAG_KEEP_VALUE : 0) |
                          (put->keep_lease ? FLAG_KEEP_LEASE : 0));
    at = put_number(at, (int64_t)put->lease);
    at = put_size(at, put->key.size);
    at = put_size(at, put->value.size);
    at = put_bytes(at, put->key);
    return put_bytes(at, put->value);
}

static uint8_t *encode_delete(const struct delete_query *delete, uint8_t *at)
{
    at = put_byte(at, delete->want_previous ? FLAG_WANT_PREVIOUS : 0);
    at = put_size(at, delete->key.size);
    at = put_size(at, delete->range_end.size);
    at = put_bytes(at, delete->key);
    return put_bytes(at, delete->range_end);
}

static uint8_t *encode_op(const struct txn_op *op, uint8_t *at)
{
    at = put_byte(at, op->kind);
    switch (op->kind) {
    case TXN_RANGE:
        return encode_range(&op->range, at);
    case TXN_PUT:
        return encode_put(&op->put, at);
    case TXN_DELETE:
        return encode_delete(&op->delete, at);
    case TXN_NESTED:
        return encode_txn(&op->nested, at);
    }
    CHECK(false);
}

static uint8_t *encode_txn(const struct txn *txn, uint8_t *at)
{
    at = put_short(at, txn->compare_count);
    at = put_short(at, txn->success_count);
    at = put_short(at, txn->failure_count);
    for (uint32_t i = 0; i < txn->compare_count; i++) at = encode_compare(&txn->compares[i], at);
    for (uint32_t i = 0; i < txn->success_count; i++) at = encode_op(&txn->success[i], at);
    for (uint32_t i = 0; i < txn->failure_count; i++) at = encode_op(&txn->failure[i], at);
    return at;
}

void txn_format_encode(const struct txn *txn, uint8_t *out)
{
    uint8_t *end = encode_txn(txn, out);
    CHECK((size_t)(end - out) == txn_format_bytes(txn));
}

/* ---- decoding ---- */

struct decoder {
    struct reader reader;
    struct arena *arena;
    size_t unclaimed_bytes; /* of the input, by the arrays so far: each of their elements takes some of its own */
    bool bad;               /* read, but makes no sense */
};

static unsigned take_byte(struct decoder *decoder, unsigned max)
{
    unsigned value = reader_u8(&decoder->reader);
    if (value > max) decoder->bad = true;
    return value;
}

static int64_t take_number(struct decoder *decoder)
{
    return (int64_t)reader_u64(&decoder->reader);
}

static struct bytes take_key(struct decoder *decoder, uint32_t size)
{
    if (size == 0 || size > COMMAND_KEY_BYTES_MAX) decoder->bad = true;
    return reader_bytes(&decoder->reader, size);
}

static bool failed(const struct decoder *decoder)
{
    return decoder->bad || decoder->reader.failed;
}

/* An array of what takes at least `bytes_each`, so that all counts together, those of nested transactions too, can't ask for more
   memory than the input justifies. */
static void *take_array(struct decoder *decoder, uint32_t count, size_t bytes_each, size_t element_bytes)
{
    if (count == 0) return NULL;
    if (count > decoder->unclaimed_bytes / bytes_each) {
        decoder->bad = true;
        return NULL;
    }
    decoder->unclaimed_bytes -= count * bytes_each;
    return arena_alloc(decoder->arena, count * element_bytes);
}

static void decode_compare(struct decoder *decoder, struct txn_compare *out)
{
    struct reader *reader = &decoder->reader;
    *out = (struct txn_compare){.result = (enum compare_result)take_byte(decoder, COMPARE_NOT_EQUAL)};
    out->target = (enum compare_target)take_byte(decoder, COMPARE_LEASE);
    out->number = take_number(decoder);
    uint32_t key_bytes = reader_u32(reader), end_bytes = reader_u32(reader), value_bytes = reader_u32(reader);
    out->key = take_key(decoder, key_bytes);
    out->range_end = reader_bytes(reader, end_bytes);
    out->value = reader_bytes(reader, value_bytes);
}

static void decode_range(struct decoder *decoder, struct range_query *out)
{
    struct reader *reader = &decoder->reader;
    unsigned flags = take_byte(decoder, FLAG_KEYS_ONLY | FLAG_COUNT_ONLY);
    *out = (struct range_query){.keys_only = flags & FLAG_KEYS_ONLY, .count_only = flags & FLAG_COUNT_ONLY};
    out->order = (enum range_order)take_byte(decoder, RANGE_DESCENDING);
    out->target = (enum range_target)take_byte(decoder, RANGE_BY_VALUE);
    out->revision = take_number(decoder);
    out->limit = take_number(decoder);
    out->mod_min = take_number(decoder);
    out->mod_max = take_number(decoder);
    out->create_min = take_number(decoder);
    out->create_max = take_number(decoder);
    uint32_t key_bytes = reader_u32(reader), end_bytes = reader_u32(reader);
    out->key = take_key(decoder, key_bytes);
    out->range_end = reader_bytes(reader, end_bytes);
}

static void decode_put(struct decoder *decoder, struct put_query *out)
{
    struct reader *reader = &decoder->reader;
    unsigned flags = take_byte(decoder, FLAG_WANT_PREVIOUS | FLAG_KEEP_VALUE | FLAG_KEEP_LEASE);
    *out = (struct put_query){.want_previous = flags & FLAG_WANT_PREVIOUS,
                              .keep_value = flags & FLAG_KEEP_VALUE,
                              .keep_lease = flags & FLAG_KEEP_LEASE};
    out->lease = reader_u64(reader);
    uint32_t key_bytes = reader_u32(reader), value_bytes = reader_u32(reader);
    out->key = take_key(decoder, key_bytes);
    out->value = reader_bytes(reader, value_bytes);
}

static void decode_delete(struct decoder *decoder, struct delete_query *out)
{
    struct reader *reader = &decoder->reader;
    *out = (struct delete_query){.want_previous = take_byte(decoder, FLAG_WANT_PREVIOUS) != 0};
    uint32_t key_bytes = reader_u32(reader), end_bytes = reader_u32(reader);
    out->key = take_key(decoder, key_bytes);
    out->range_end = reader_bytes(reader, end_bytes);
}

static void decode_txn(struct decoder *decoder, unsigned depth, struct txn *out);

static void decode_op(struct decoder *decoder, unsigned depth, struct txn_op *out)
{
    out->kind = (enum txn_op_kind)take_byte(decoder, TXN_NESTED);
    switch (out->kind) {
    case TXN_RANGE:
        decode_range(decoder, &out->range);
        return;
    case TXN_PUT:
        decode_put(decoder, &out->put);
        return;
    case TXN_DELETE:
        decode_delete(decoder, &out->delete);
        return;
    case TXN_NESTED:
        decode_txn(decoder, depth + 1, &out->nested);
        return;
    }
    decoder->bad = true;
}

static void decode_txn(struct decoder *decoder, unsigned depth, struct txn *out)
{
    struct reader *reader = &decoder->reader;
    *out = (struct txn){0};
    if (depth > TXN_DEPTH_MAX) decoder->bad = true;
    if (failed(decoder)) return;
    uint32_t compares = reader_u16(reader), success = reader_u16(reader), failure = reader_u16(reader);
    out->compares = take_array(decoder, compares, COMPARE_HEADER_BYTES, sizeof out->compares[0]);
    for (; out->compare_count < compares && !failed(decoder); out->compare_count++) {
        decode_compare(decoder, &out->compares[out->compare_count]);
    }
    out->success = take_array(decoder, success, 1 + TXN_HEADER_BYTES, sizeof out->success[0]);
    for (; out->success_count < success && !failed(decoder); out->success_count++) {
        decode_op(decoder, depth, &out->success[out->success_count]);
    }
    out->failure = take_array(decoder, failure, 1 + TXN_HEADER_BYTES, sizeof out->failure[0]);
    for (; out->failure_count < failure && !failed(decoder); out->failure_count++) {
        decode_op(decoder, depth, &out->failure[out->failure_count]);
    }
}

enum error txn_format_decode(struct bytes bytes, struct arena *arena, struct txn *out)
{
    struct decoder decoder = {.reader = reader_of(bytes), .arena = arena, .unclaimed_bytes = bytes.size};
    decode_txn(&decoder, 1, out);
    return failed(&decoder) || reader_left(&decoder.reader) > 0 ? ERR_DAMAGED : ERR_OK;
}
