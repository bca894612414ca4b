/*
 * protobuf.h - protobuf's wire format, read and written by hand, for the few messages where that pays.
 *
 * Reading is a loop over fields, without allocation; bytes are views into the message. What the caller's switch has no
 * case for is skipped, and so is a known field with another wire type, as the format demands:
 *
 *     struct protobuf_reader reader = protobuf_reader_of(message);
 *     struct protobuf_field field;
 *     while (protobuf_next(&reader, &field)) {
 *         switch (field.tag) {
 *         case PROTOBUF_TAG(1, PROTOBUF_BYTES): key = field.bytes; break;
 *         case PROTOBUF_TAG(3, PROTOBUF_VARINT): lease = (int64_t)field.value; break;
 *         }
 *     }
 *     if (reader.failed) ...
 *
 * A singular field that comes twice counts with its last value. Groups, which proto3 hasn't, are malformed here.
 *
 * Writing begins with sizes: protobuf_size_* add up to a message's length, so that its head can be written before it and
 * nothing is moved. protobuf_put_* then write at a pointer, without checks, what protobuf_size_* counted; each returns
 * where it ended. protobuf_append_* do both for a buffer. All but the _present ones leave a default (0, empty) out, as
 * proto3 does; the members of a repeated field or of a oneof are written even so.
 *
 * int64 and enum values go as (uint64_t) of the int64_t: a negative one takes ten bytes.
 *
 * Source: protobuf.dev, 'Encoding'.
 */
#ifndef CORACLE_WIRE_PROTOBUF_H
#define CORACLE_WIRE_PROTOBUF_H

#include "base/bytes.h"

enum protobuf_wire_type {
    PROTOBUF_VARINT = 0,
    PROTOBUF_FIXED64 = 1,
    PROTOBUF_BYTES = 2, /* bytes, strings, submessages and packed numbers, behind their length */
    PROTOBUF_FIXED32 = 5,
};

#define PROTOBUF_TAG(number, wire_type) ((uint32_t)(number) << 3 | (uint32_t)(wire_type))
#define PROTOBUF_VARINT_BYTES_MAX 10u
#define PROTOBUF_FIELD_NUMBER_MAX 0x1fffffffu

/* ---- reading ---- */

struct protobuf_reader {
    const uint8_t *at;
    const uint8_t *end;
    bool failed; /* what comes isn't protobuf; protobuf_next has returned false */
};

struct protobuf_field {
    uint32_t tag;
    uint64_t value;     /* of a varint or a fixed one; else 0 */
    struct bytes bytes; /* of PROTOBUF_BYTES; else empty */
};

static inline struct protobuf_reader protobuf_reader_of(struct bytes message)
{
    /* Nothing may be added to the NULL that an empty message may have. */
    const uint8_t *end = message.size == 0 ? message.data : message.data + message.size;
    return (struct protobuf_reader){.at = message.data, .end = end};
}

static inline uint32_t protobuf_field_number(const struct protobuf_field *field)
{
    return field->tag >> 3;
}

static inline enum protobuf_wire_type protobuf_field_type(const struct protobuf_field *field)
{
    return (enum protobuf_wire_type)(field->tag & 7);
}

/* The next field. False at the message's end, and on failure. */
bool protobuf_next(struct protobuf_reader *reader, struct protobuf_field *out);

/* The next of the varints that make up a packed field. False at its end, and on failure. */
bool protobuf_next_packed(struct protobuf_reader *reader, uint64_t *out);

/* ---- sizes ---- */

static inline size_t protobuf_varint_bytes(uint64_t value)
{
    /* Seven bits a byte: nine sixty-fourths of a byte for each bit, rounded up, come to the same. */
    unsigned bits = 64 - (unsigned)__builtin_clzll(value | 1);
    return (bits * 9 + 64) / 64;
}

static inline size_t protobuf_size_number_present(uint32_t number, uint64_t value)
{
    return protobuf_varint_bytes((uint64_t)number << 3) + protobuf_varint_bytes(value);
}

static inline size_t protobuf_size_number(uint32_t number, uint64_t value)
{
    return value == 0 ? 0 : protobuf_size_number_present(number, value);
}

/* A submessage of `size` bytes with its head; and so for bytes and strings that are present. */
static inline size_t protobuf_size_message(uint32_t number, size_t size)
{
    return protobuf_varint_bytes((uint64_t)number << 3) + protobuf_varint_bytes(size) + size;
}

static inline size_t protobuf_size_bytes(uint32_t number, size_t size)
{
    return size == 0 ? 0 : protobuf_size_message(number, size);
}

/* ---- writing ---- */

static inline uint8_t *protobuf_put_varint(uint8_t *at, uint64_t value)
{
    while (value >= 0x80) {
        *at++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *at++ = (uint8_t)value;
    return at;
}

static inline uint8_t *protobuf_put_number_present(uint8_t *at, uint32_t number, uint64_t value)
{
    at = protobuf_put_varint(at, PROTOBUF_TAG(number, PROTOBUF_VARINT));
    return protobuf_put_varint(at, value);
}

static inline uint8_t *protobuf_put_number(uint8_t *at, uint32_t number, uint64_t value)
{
    return value == 0 ? at : protobuf_put_number_present(at, number, value);
}

/* The head of a submessage whose `size` bytes the caller writes next. */
static inline uint8_t *protobuf_put_message_head(uint8_t *at, uint32_t number, size_t size)
{
    at = protobuf_put_varint(at, PROTOBUF_TAG(number, PROTOBUF_BYTES));
    return protobuf_put_varint(at, size);
}

static inline uint8_t *protobuf_put_bytes_present(uint8_t *at, uint32_t number, struct bytes bytes)
{
    at = protobuf_put_message_head(at, number, bytes.size);
    if (bytes.size > 0) memcpy(at, bytes.data, bytes.size);
    return at + bytes.size;
}

static inline uint8_t *protobuf_put_bytes(uint8_t *at, uint32_t number, struct bytes bytes)
{
    return bytes.size == 0 ? at : protobuf_put_bytes_present(at, number, bytes);
}

void protobuf_append_number(struct buffer *out, uint32_t number, uint64_t value);
void protobuf_append_number_present(struct buffer *out, uint32_t number, uint64_t value);
void protobuf_append_bytes(struct buffer *out, uint32_t number, struct bytes bytes);
void protobuf_append_bytes_present(struct buffer *out, uint32_t number, struct bytes bytes);
void protobuf_append_message_head(struct buffer *out, uint32_t number, size_t size);

#endif
