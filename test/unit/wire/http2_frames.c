#include "http2_frames.h"

#include "base/check.h"
#include "wire/http2.h"

static void append_u32_big(struct buffer *out, uint32_t value)
{
    value = __builtin_bswap32(value);
    buffer_append(out, &value, sizeof value);
}

static uint32_t u32_big(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

void frame_append(struct buffer *out, enum frame_type type, uint8_t flags, uint32_t stream, struct bytes payload)
{
    append_u32_big(out, (uint32_t)payload.size << 8 | (uint32_t)type);
    buffer_append_byte(out, flags);
    append_u32_big(out, stream);
    if (payload.size > 0) buffer_append(out, payload.data, payload.size);
}

void frame_append_greeting(struct buffer *out)
{
    buffer_append_string(out, HTTP2_PREFACE);
    frame_append(out, FRAME_SETTINGS, 0, 0, (struct bytes){0});
}

void frame_append_setting(struct buffer *out, uint16_t id, uint32_t value)
{
    uint8_t payload[6] = {(uint8_t)(id >> 8),     (uint8_t)id,           (uint8_t)(value >> 24),
                          (uint8_t)(value >> 16), (uint8_t)(value >> 8), (uint8_t)value};
    frame_append(out, FRAME_SETTINGS, 0, 0, bytes_of(payload, sizeof payload));
}

static void append_number(struct buffer *out, enum frame_type type, uint32_t stream, uint32_t number)
{
    number = __builtin_bswap32(number);
    frame_append(out, type, 0, stream, bytes_of(&number, sizeof number));
}

void frame_append_window_update(struct buffer *out, uint32_t stream, uint32_t increment)
{
    append_number(out, FRAME_WINDOW_UPDATE, stream, increment);
}

void frame_append_reset(struct buffer *out, uint32_t stream, uint32_t error)
{
    append_number(out, FRAME_RST_STREAM, stream, error);
}

/* RFC 7541 §5.1 with a prefix of 7 bits, §5.2 without Huffman. */
static void append_text(struct buffer *block, struct bytes text)
{
    size_t size = text.size;
    if (size < 127) {
        buffer_append_byte(block, (uint8_t)size);
    } else {
        buffer_append_byte(block, 127);
        for (size -= 127; size >= 128; size /= 128) buffer_append_byte(block, (uint8_t)(size % 128 + 128));
        buffer_append_byte(block, (uint8_t)size);
    }
    if (text.size > 0) buffer_append(block, text.data, text.size);
}

void field_append_bytes(struct buffer *block, const char *name, struct bytes value)
{
    buffer_append_byte(block, 0); /* §6.2.2: a literal without indexing, with a new name */
    append_text(block, bytes_of_string(name));
    append_text(block, value);
}

void field_append(struct buffer *block, const char *name, const char *value)
{
    field_append_bytes(block, name, bytes_of_string(value));
}

static void append_lines(struct buffer *block, const char *lines)
{
    while (lines != NULL && *lines != '\0') {
        const char *colon = strchr(lines + 1, ':'), *end = strchr(lines, '\n');
        CHECK(colon != NULL && colon[1] == ' ');
        if (end == NULL) end = lines + strlen(lines);
        char name[64];
        size_t size = (size_t)(colon - lines);
        CHECK(size < sizeof name);
        memcpy(name, lines, size);
        name[size] = '\0';
        field_append_bytes(block, name, bytes_of(colon + 2, (size_t)(end - colon - 2)));
        lines = *end == '\n' ? end + 1 : end;
    }
}

void frame_append_request(struct buffer *out, uint32_t stream, const char *method, const char *path, const char *more,
                          bool end)
{
    struct buffer block = {0};
    field_append(&block, ":method", method);
    field_append(&block, ":scheme", "http");
    field_append(&block, ":path", path);
    field_append(&block, ":authority", "node");
    append_lines(&block, more);
    frame_append(out, FRAME_HEADERS, (uint8_t)(FLAG_END_HEADERS | (end ? FLAG_END_STREAM : 0)), stream,
                 buffer_bytes(&block));
    buffer_free(&block);
}

void frame_append_call(struct buffer *out, uint32_t stream, const char *path, const char *more)
{
    struct buffer lines = {0};
    buffer_append_string(&lines, "content-type: application/grpc\nte: trailers");
    if (more != NULL) buffer_append_format(&lines, "\n%s", more);
    buffer_append_byte(&lines, 0);
    frame_append_request(out, stream, "POST", path, (const char *)lines.data, false);
    buffer_free(&lines);
}

void frame_append_message(struct buffer *out, uint32_t stream, struct bytes message, bool end)
{
    struct buffer data = {0};
    buffer_append_byte(&data, 0);
    append_u32_big(&data, (uint32_t)message.size);
    if (message.size > 0) buffer_append(&data, message.data, message.size);
    frame_append(out, FRAME_DATA, end ? FLAG_END_STREAM : 0, stream, buffer_bytes(&data));
    buffer_free(&data);
}

/* ---- reading ---- */

void frame_reader_begin(struct frame_reader *reader)
{
    *reader = (struct frame_reader){0};
    CHECK(nghttp2_hd_inflate_new(&reader->inflater) == 0);
}

void frame_reader_end(struct frame_reader *reader)
{
    nghttp2_hd_inflate_del(reader->inflater);
    buffer_free(&reader->pending);
}

static void describe_block(struct frame_reader *reader, struct bytes block, struct buffer *text)
{
    for (;;) {
        nghttp2_nv nv;
        int flags = 0;
        ssize_t taken = nghttp2_hd_inflate_hd2(reader->inflater, &nv, &flags, block.data, block.size, 1);
        CHECK(taken >= 0);
        block = bytes_of(block.data + taken, block.size - (size_t)taken);
        if (flags & NGHTTP2_HD_INFLATE_EMIT) {
            buffer_append_format(text, " %.*s=%.*s", (int)nv.namelen, (const char *)nv.name, (int)nv.valuelen,
                                 (const char *)nv.value);
        }
        if (flags & NGHTTP2_HD_INFLATE_FINAL) break;
    }
    nghttp2_hd_inflate_end_headers(reader->inflater);
}

static void describe_hex(struct bytes bytes, struct buffer *text)
{
    for (size_t i = 0; i < bytes.size; i++) buffer_append_format(text, "%02x", bytes.data[i]);
}

static void describe_frame(struct frame_reader *reader, uint8_t type, uint8_t flags, uint32_t stream,
                           struct bytes payload, struct buffer *text)
{
    const char *end = flags & FLAG_END_STREAM ? " END_STREAM" : "";
    const char *ack = flags & FLAG_ACK ? " ACK" : "";
    switch (type) {
    case FRAME_HEADERS:
        CHECK(flags & FLAG_END_HEADERS);
        buffer_append_format(text, "HEADERS %u%s", stream, end);
        describe_block(reader, payload, text);
        break;
    case FRAME_DATA:
        buffer_append_format(text, "DATA %u%s %zu", stream, end, payload.size);
        if (payload.size > 0 && payload.size <= 32) {
            buffer_append_byte(text, ' ');
            describe_hex(payload, text);
        }
        break;
    case FRAME_SETTINGS:
        buffer_append_format(text, "SETTINGS%s", ack);
        for (size_t i = 0; i + 6 <= payload.size; i += 6) {
            buffer_append_format(text, " %d=%u", payload.data[i] << 8 | payload.data[i + 1],
                                 u32_big(payload.data + i + 2));
        }
        break;
    case FRAME_PING:
        buffer_append_format(text, "PING%s ", ack);
        describe_hex(payload, text);
        break;
    case FRAME_RST_STREAM:
        buffer_append_format(text, "RST_STREAM %u %u", stream, u32_big(payload.data));
        break;
    case FRAME_GOAWAY:
        buffer_append_format(text, "GOAWAY %u %u", u32_big(payload.data), u32_big(payload.data + 4));
        if (payload.size > 8)
            buffer_append_format(text, " %.*s", (int)payload.size - 8, (const char *)payload.data + 8);
        break;
    case FRAME_WINDOW_UPDATE:
        buffer_append_format(text, "WINDOW_UPDATE %u %u", stream, u32_big(payload.data));
        break;
    default:
        buffer_append_format(text, "FRAME %u", type);
        break;
    }
    buffer_append_byte(text, '\n');
}

void frame_reader_describe(struct frame_reader *reader, struct bytes bytes, struct buffer *text)
{
    if (bytes.size > 0) buffer_append(&reader->pending, bytes.data, bytes.size);
    size_t at = 0;
    while (reader->pending.size - at >= 9) {
        const uint8_t *head = reader->pending.data + at;
        size_t size = u32_big(head) >> 8;
        if (reader->pending.size - at < 9 + size) break;
        describe_frame(reader, head[3], head[4], u32_big(head + 5), bytes_of(head + 9, size), text);
        at += 9 + size;
    }
    buffer_consume(&reader->pending, at);
}
