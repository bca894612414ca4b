#include "wire/grpc_frame.h"

#include "wire/utf8.h"

void grpc_frame_free(struct grpc_frame *frame)
{
    buffer_free(&frame->partial);
    frame->delivered = false;
}

static uint32_t get_length(const uint8_t *prefix)
{
    uint32_t length;
    memcpy(&length, prefix + 1, sizeof length);
    return __builtin_bswap32(length);
}

void grpc_frame_prefix(uint8_t prefix[GRPC_PREFIX_BYTES], uint32_t length)
{
    prefix[0] = 0;
    length = __builtin_bswap32(length);
    memcpy(prefix + 1, &length, sizeof length);
}

/* Looks at a prefix, and remembers what it says. GRPC_FRAME_MORE: it is good. */
static enum grpc_frame_result read_prefix(struct grpc_frame *frame, const uint8_t *prefix, size_t message_bytes_max)
{
    frame->flag = prefix[0];
    frame->length = get_length(prefix);
    if (frame->flag > 1) return GRPC_FRAME_MALFORMED;
    if (frame->length > message_bytes_max) return GRPC_FRAME_TOO_LARGE;
    return frame->flag == 1 ? GRPC_FRAME_COMPRESSED : GRPC_FRAME_MORE;
}

static void take(struct bytes *bytes, size_t size)
{
    bytes->data += size;
    bytes->size -= size;
}

/* Moves bytes over until `partial` has `whole`. True when it has. */
static bool fill(struct grpc_frame *frame, struct bytes *bytes, size_t whole)
{
    size_t missing = whole - frame->partial.size;
    size_t size = missing < bytes->size ? missing : bytes->size;
    if (size > 0) buffer_append(&frame->partial, bytes->data, size);
    take(bytes, size);
    return size == missing;
}

enum grpc_frame_result grpc_frame_next(struct grpc_frame *frame, struct bytes *bytes, size_t message_bytes_max,
                                       struct bytes *message)
{
    if (frame->delivered) grpc_frame_free(frame);
    if (bytes->size == 0) return GRPC_FRAME_MORE;
    enum grpc_frame_result result;
    if (frame->partial.size == 0 && bytes->size >= GRPC_PREFIX_BYTES) {
        result = read_prefix(frame, bytes->data, message_bytes_max);
        if (result != GRPC_FRAME_MORE) return result;
        if (bytes->size - GRPC_PREFIX_BYTES >= frame->length) {
            *message = bytes_of(bytes->data + GRPC_PREFIX_BYTES, frame->length);
            take(bytes, GRPC_PREFIX_BYTES + (size_t)frame->length);
            return GRPC_FRAME_MESSAGE;
        }
    }
    if (frame->partial.size < GRPC_PREFIX_BYTES) {
        if (!fill(frame, bytes, GRPC_PREFIX_BYTES)) return GRPC_FRAME_MORE;
        result = read_prefix(frame, frame->partial.data, message_bytes_max);
        if (result != GRPC_FRAME_MORE) return result;
    }
    if (!fill(frame, bytes, GRPC_PREFIX_BYTES + (size_t)frame->length)) return GRPC_FRAME_MORE;
    *message = bytes_of(frame->partial.data + GRPC_PREFIX_BYTES, frame->length);
    frame->delivered = true;
    return GRPC_FRAME_MESSAGE;
}

size_t grpc_frame_partial_bytes(const struct grpc_frame *frame)
{
    return frame->delivered ? 0 : frame->partial.size;
}

size_t grpc_frame_expected_bytes(const struct grpc_frame *frame)
{
    return grpc_frame_partial_bytes(frame) < GRPC_PREFIX_BYTES ? 0 : GRPC_PREFIX_BYTES + (size_t)frame->length;
}

size_t grpc_frame_memory_bytes(const struct grpc_frame *frame)
{
    return frame->partial.capacity;
}

/* ---- texts ---- */

static const struct {
    uint8_t letter;
    time_ns unit;
} timeout_units[] = {
    {'n', 1},
    {'u', 1000},
    {'m', TIME_NS_PER_MS},
    {'S', TIME_NS_PER_S},
    {'M', 60 * TIME_NS_PER_S},
    {'H', 3600 * TIME_NS_PER_S},
};

#define TIMEOUT_NUMBER_MAX 99999999 /* 8 digits */

enum grpc_timeout_result grpc_timeout_parse(struct bytes text, time_ns *out)
{
    if (text.size < 2) return GRPC_TIMEOUT_SHORT;
    if (text.size > 9) return GRPC_TIMEOUT_LONG;
    time_ns unit = 0;
    for (size_t i = 0; i < ARRAY_COUNT(timeout_units); i++) {
        if (timeout_units[i].letter == text.data[text.size - 1]) unit = timeout_units[i].unit;
    }
    if (unit == 0) return GRPC_TIMEOUT_UNIT;
    time_ns number = 0;
    for (size_t i = 0; i + 1 < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') return GRPC_TIMEOUT_DIGITS;
        number = number * 10 + (text.data[i] - '0');
    }
    if (__builtin_mul_overflow(number, unit, out)) *out = TIME_NS_NEVER;
    return GRPC_TIMEOUT_OK;
}

void grpc_timeout_write(time_ns timeout, struct buffer *out)
{
    if (timeout < 0) timeout = 0;
    /* The first unit in which it fits loses the least. Rounded up: better a little late than too early. */
    size_t i = 0;
    while (i + 1 < ARRAY_COUNT(timeout_units) && timeout / timeout_units[i].unit >= TIMEOUT_NUMBER_MAX) i++;
    time_ns number = timeout / timeout_units[i].unit + (timeout % timeout_units[i].unit != 0);
    buffer_append_decimal(out, (uint64_t)(number < TIMEOUT_NUMBER_MAX ? number : TIMEOUT_NUMBER_MAX));
    buffer_append_byte(out, timeout_units[i].letter);
}

static void append_escape(uint8_t byte, struct buffer *out)
{
    static const char digits[] = "0123456789ABCDEF";
    buffer_append_byte(out, '%');
    buffer_append_byte(out, (uint8_t)digits[byte >> 4]);
    buffer_append_byte(out, (uint8_t)digits[byte & 15]);
}

void grpc_text_encode(struct bytes text, struct buffer *out)
{
    while (text.size > 0) {
        size_t size = utf8_character_bytes(text);
        if (size == 1 && text.data[0] >= ' ' && text.data[0] <= '~' && text.data[0] != '%') {
            buffer_append_byte(out, text.data[0]);
        } else if (size == 0) {
            buffer_append_string(out, "%EF%BF%BD");
            size = 1;
        } else {
            for (size_t i = 0; i < size; i++) append_escape(text.data[i], out);
        }
        take(&text, size);
    }
}

static int hex_digit(uint8_t byte)
{
    if (byte >= '0' && byte <= '9') return byte - '0';
    if (byte >= 'a' && byte <= 'f') return byte - 'a' + 10;
    if (byte >= 'A' && byte <= 'F') return byte - 'A' + 10;
    return -1;
}

void grpc_text_decode(struct bytes encoded, struct buffer *out)
{
    for (size_t i = 0; i < encoded.size; i++) {
        int high = encoded.data[i] == '%' && i + 2 < encoded.size ? hex_digit(encoded.data[i + 1]) : -1;
        int low = high >= 0 ? hex_digit(encoded.data[i + 2]) : -1;
        if (low >= 0) {
            buffer_append_byte(out, (uint8_t)(high << 4 | low));
            i += 2;
        } else {
            buffer_append_byte(out, encoded.data[i]);
        }
    }
}
