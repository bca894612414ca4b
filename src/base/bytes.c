#include "base/bytes.h"

#include <stdio.h>

#include "base/check.h"
#include "base/mem.h"

#define BUFFER_CAPACITY_MIN 64

int bytes_compare(struct bytes a, struct bytes b)
{
    size_t common = a.size < b.size ? a.size : b.size;
    int order = common == 0 ? 0 : memcmp(a.data, b.data, common);
    if (order != 0) return order;
    return (a.size > b.size) - (a.size < b.size);
}

void buffer_free(struct buffer *buffer)
{
    mem_free(buffer->data);
    *buffer = (struct buffer){0};
}

void buffer_reserve(struct buffer *buffer, size_t more)
{
    if (more <= buffer->capacity - buffer->size) return;
    CHECK(more <= SIZE_MAX / 2 - buffer->size);
    size_t capacity = buffer->capacity * 2;
    if (capacity < buffer->size + more) capacity = buffer->size + more;
    if (capacity < BUFFER_CAPACITY_MIN) capacity = BUFFER_CAPACITY_MIN;
    buffer->data = mem_realloc(buffer->data, capacity);
    buffer->capacity = capacity;
}

void buffer_append(struct buffer *buffer, const void *data, size_t size)
{
    if (size == 0) return;
    buffer_reserve(buffer, size);
    memcpy(buffer->data + buffer->size, data, size);
    buffer->size += size;
}

void buffer_append_string(struct buffer *buffer, const char *text)
{
    buffer_append(buffer, text, strlen(text));
}

void buffer_append_byte(struct buffer *buffer, uint8_t byte)
{
    buffer_reserve(buffer, 1);
    buffer->data[buffer->size++] = byte;
}

void buffer_append_vformat(struct buffer *buffer, const char *format, va_list arguments)
{
    /* One byte more than the text, for the zero that vsnprintf insists on. */
    buffer_reserve(buffer, BUFFER_CAPACITY_MIN);
    size_t room = buffer->capacity - buffer->size;
    va_list again;
    va_copy(again, arguments);
    int length = vsnprintf((char *)buffer->data + buffer->size, room, format, arguments);
    CHECK(length >= 0);
    if ((size_t)length >= room) {
        buffer_reserve(buffer, (size_t)length + 1);
        vsnprintf((char *)buffer->data + buffer->size, (size_t)length + 1, format, again);
    }
    va_end(again);
    buffer->size += (size_t)length;
}

void buffer_append_format(struct buffer *buffer, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    buffer_append_vformat(buffer, format, arguments);
    va_end(arguments);
}

void buffer_append_decimal(struct buffer *buffer, uint64_t number)
{
    char digits[20]; /* of UINT64_MAX */
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    buffer_append(buffer, digits + at, sizeof digits - at);
}

void buffer_consume(struct buffer *buffer, size_t size)
{
    CHECK(size <= buffer->size);
    if (size == 0) return;
    buffer->size -= size;
    memmove(buffer->data, buffer->data + size, buffer->size);
}

void buffer_append_u8(struct buffer *buffer, uint8_t value)
{
    buffer_append_byte(buffer, value);
}

void buffer_append_u16(struct buffer *buffer, uint16_t value)
{
    buffer_append(buffer, &value, sizeof value);
}

void buffer_append_u32(struct buffer *buffer, uint32_t value)
{
    buffer_append(buffer, &value, sizeof value);
}

void buffer_append_u64(struct buffer *buffer, uint64_t value)
{
    buffer_append(buffer, &value, sizeof value);
}

/* Steps over `size` bytes and returns where they begin; NULL, and failed for good, when fewer are left. */
static const uint8_t *reader_take(struct reader *reader, size_t size)
{
    if (reader->failed || size > reader_left(reader)) {
        reader->failed = true;
        return NULL;
    }
    const uint8_t *at = reader->at;
    if (size > 0) reader->at += size;
    return at;
}

uint8_t reader_u8(struct reader *reader)
{
    const uint8_t *at = reader_take(reader, 1);
    return at != NULL ? *at : 0;
}

uint16_t reader_u16(struct reader *reader)
{
    const uint8_t *at = reader_take(reader, 2);
    return at != NULL ? get_u16(at) : 0;
}

uint32_t reader_u32(struct reader *reader)
{
    const uint8_t *at = reader_take(reader, 4);
    return at != NULL ? get_u32(at) : 0;
}

uint64_t reader_u64(struct reader *reader)
{
    const uint8_t *at = reader_take(reader, 8);
    return at != NULL ? get_u64(at) : 0;
}

struct bytes reader_bytes(struct reader *reader, size_t size)
{
    const uint8_t *at = reader_take(reader, size);
    return at != NULL ? bytes_of(at, size) : bytes_of(NULL, 0);
}
