#include "wire/protobuf.h"

/* Tags and lengths have 32 bits. Longer ways to write them exist, and no encoder uses them. */
#define VARINT32_BYTES_MAX 5u

static bool fail(struct protobuf_reader *reader)
{
    reader->failed = true;
    reader->at = reader->end;
    return false;
}

static bool read_varint_slowly(struct protobuf_reader *reader, size_t bytes_max, uint64_t *out)
{
    size_t left = (size_t)(reader->end - reader->at);
    uint64_t value = 0;
    for (size_t i = 0; i < bytes_max && i < left; i++) {
        uint8_t byte = reader->at[i];
        value |= (uint64_t)(byte & 0x7f) << 7 * i;
        if (byte < 0x80) {
            /* The tenth byte has room for one bit. */
            if (i == PROTOBUF_VARINT_BYTES_MAX - 1 && byte > 1) break;
            reader->at += i + 1;
            *out = value;
            return true;
        }
    }
    return fail(reader);
}

static inline bool read_varint(struct protobuf_reader *reader, size_t bytes_max, uint64_t *out)
{
    if (__builtin_expect(reader->at < reader->end && *reader->at < 0x80, 1)) {
        *out = *reader->at++;
        return true;
    }
    return read_varint_slowly(reader, bytes_max, out);
}

static bool take(struct protobuf_reader *reader, size_t size, struct bytes *out)
{
    if (size > (size_t)(reader->end - reader->at)) return fail(reader);
    *out = bytes_of(reader->at, size);
    reader->at += size;
    return true;
}

bool protobuf_next(struct protobuf_reader *reader, struct protobuf_field *out)
{
    if (reader->at == reader->end) return false;
    uint64_t tag;
    if (!read_varint(reader, VARINT32_BYTES_MAX, &tag)) return false;
    if (tag > UINT32_MAX || tag >> 3 == 0) return fail(reader);
    *out = (struct protobuf_field){.tag = (uint32_t)tag};

    uint64_t size;
    struct bytes fixed;
    switch (tag & 7) {
    case PROTOBUF_VARINT:
        return read_varint(reader, PROTOBUF_VARINT_BYTES_MAX, &out->value);
    case PROTOBUF_BYTES:
        return read_varint(reader, VARINT32_BYTES_MAX, &size) && take(reader, size, &out->bytes);
    case PROTOBUF_FIXED64:
        if (!take(reader, 8, &fixed)) return false;
        out->value = get_u64(fixed.data);
        return true;
    case PROTOBUF_FIXED32:
        if (!take(reader, 4, &fixed)) return false;
        out->value = get_u32(fixed.data);
        return true;
    default:
        return fail(reader);
    }
}

bool protobuf_next_packed(struct protobuf_reader *reader, uint64_t *out)
{
    return reader->at != reader->end && read_varint(reader, PROTOBUF_VARINT_BYTES_MAX, out);
}

/* ---- writing into a buffer ---- */

/* Two varints, of which the first is a tag. */
#define HEAD_BYTES_MAX (VARINT32_BYTES_MAX + PROTOBUF_VARINT_BYTES_MAX)

static uint8_t *room(struct buffer *out, size_t size)
{
    buffer_reserve(out, size);
    return out->data + out->size;
}

static void end_at(struct buffer *out, const uint8_t *at)
{
    out->size = (size_t)(at - out->data);
}

void protobuf_append_number_present(struct buffer *out, uint32_t number, uint64_t value)
{
    end_at(out, protobuf_put_number_present(room(out, HEAD_BYTES_MAX), number, value));
}

void protobuf_append_number(struct buffer *out, uint32_t number, uint64_t value)
{
    if (value != 0) protobuf_append_number_present(out, number, value);
}

void protobuf_append_bytes_present(struct buffer *out, uint32_t number, struct bytes bytes)
{
    end_at(out, protobuf_put_bytes_present(room(out, HEAD_BYTES_MAX + bytes.size), number, bytes));
}

void protobuf_append_bytes(struct buffer *out, uint32_t number, struct bytes bytes)
{
    if (bytes.size > 0) protobuf_append_bytes_present(out, number, bytes);
}

void protobuf_append_message_head(struct buffer *out, uint32_t number, size_t size)
{
    end_at(out, protobuf_put_message_head(room(out, HEAD_BYTES_MAX), number, size));
}
