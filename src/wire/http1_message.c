#include "wire/http1_message.h"

#include "base/check.h"
#include "base/mem.h"

#define IN_BYTES_MIN 512u
#define HEADER_CAPACITY_MIN 8u

/* RFC 9110 §5.6.2. */
static bool is_token_byte(uint8_t byte)
{
    /* One bit for each byte below 128: digits and !#$%&'*+-. ; letters and ^_`|~ */
    static const uint64_t bits[2] = {0x03ff6cfa00000000u, 0x57ffffffc7fffffeu};
    return byte < 128 && (bits[byte / 64] >> (byte % 64) & 1) != 0;
}

bool http1_is_token(struct bytes text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (!is_token_byte(text.data[i])) return false;
    }
    return text.size > 0;
}

static uint8_t lower_of(uint8_t byte)
{
    return byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte | 0x20) : byte;
}

bool http1_equals(struct bytes text, const char *lower)
{
    for (size_t i = 0; i < text.size; i++) {
        if (lower[i] == 0 || lower_of(text.data[i]) != (uint8_t)lower[i]) return false;
    }
    return lower[text.size] == 0;
}

/* RFC 9110 §5.5: visible characters, bytes above ASCII, space and tab. No NUL, no CR, no other control. */
static bool is_field_value(struct bytes text)
{
    for (size_t i = 0; i < text.size; i++) {
        uint8_t byte = text.data[i];
        if ((byte < 0x20 && byte != '\t') || byte == 0x7f) return false;
    }
    return true;
}

static bool is_space(uint8_t byte)
{
    return byte == ' ' || byte == '\t';
}

static struct bytes trimmed(struct bytes text)
{
    while (text.size > 0 && is_space(text.data[0])) text = bytes_of(text.data + 1, text.size - 1);
    while (text.size > 0 && is_space(text.data[text.size - 1])) text.size--;
    return text;
}

/* ---- the buffer ---- */

void http1_message_free(struct http1_message *message)
{
    buffer_free(&message->in);
    buffer_free(&message->later);
    mem_free(message->headers);
    message->headers = NULL;
    message->header_count = message->header_capacity = 0;
}

static void move_view(struct bytes *view, uintptr_t from, uintptr_t to)
{
    if (view->data != NULL) view->data = (const uint8_t *)((uintptr_t)view->data - from + to);
}

/* What lay at address `from` is at `to` now. */
static void move_views(struct http1_message *message, uintptr_t from, uintptr_t to)
{
    if (from == to) return;
    move_view(&message->target, from, to);
    for (uint32_t i = 0; i < message->header_count; i++) {
        move_view(&message->headers[i].name, from, to);
        move_view(&message->headers[i].value, from, to);
    }
}

/* Drops what is done, so that the message begins at the front of the buffer. */
static void close_up(struct http1_message *message)
{
    size_t by = message->begin;
    if (by == 0) return;
    buffer_consume(&message->in, by);
    move_views(message, by, 0);
    message->begin = 0;
    message->at -= by;
    message->line_at -= by;
    message->body_begin -= by;
    message->body_end -= by;
}

static void make_room(struct http1_message *message, size_t more)
{
    struct buffer *in = &message->in;
    if (more <= in->capacity - in->size) return;
    close_up(message);
    if (more <= in->capacity - in->size) return;

    /* Grows with what has come, by doubling, and never beyond what the message is known to need. */
    size_t need = in->size + more;
    size_t capacity = in->capacity * 2 > IN_BYTES_MIN ? in->capacity * 2 : IN_BYTES_MIN;
    if (message->stage == HTTP1_STAGE_LENGTH_BODY) {
        size_t whole = message->body_end + (size_t)message->left;
        if (capacity > whole) capacity = whole;
    }
    if (capacity < need) capacity = need;
    uintptr_t from = (uintptr_t)in->data;
    in->data = mem_realloc(in->data, capacity);
    in->capacity = capacity;
    move_views(message, from, (uintptr_t)in->data);
}

void http1_message_feed(struct http1_message *message, struct bytes bytes)
{
    if (bytes.size == 0) return;
    struct buffer *in = &message->in;
    if (message->stage == HTTP1_STAGE_COMPLETE) {
        bool fits = message->later.size == 0 && bytes.size <= in->capacity - in->size;
        buffer_append(fits ? in : &message->later, bytes.data, bytes.size);
        return;
    }
    make_room(message, bytes.size);
    buffer_append(in, bytes.data, bytes.size);
}

void http1_message_begin_next(struct http1_message *message)
{
    struct buffer *in = &message->in;
    message->stage = HTTP1_STAGE_START;
    message->begin = message->line_at = message->body_begin = message->body_end = message->at;
    message->left = 0;
    message->line_bytes = 0;
    message->target = bytes_of(NULL, 0);
    message->header_count = 0;

    if (message->begin == in->size) {
        close_up(message);
        if (in->capacity > HTTP1_IDLE_BYTES_MAX) buffer_free(in);
    }
    if (message->later.size > 0) {
        make_room(message, message->later.size);
        buffer_append(in, message->later.data, message->later.size);
        buffer_free(&message->later);
    }
}

void http1_message_skip_lines(struct http1_message *message)
{
    CHECK(message->stage == HTTP1_STAGE_START);
    message->begin = message->body_begin = message->body_end = message->line_at;
    message->line_bytes = 0;
    if (message->begin == message->in.size) close_up(message);
}

size_t http1_message_unread(const struct http1_message *message)
{
    size_t looked_at = message->stage == HTTP1_STAGE_COMPLETE ? message->at : message->begin;
    return message->in.size - looked_at + message->later.size;
}

size_t http1_message_memory_bytes(const struct http1_message *message)
{
    return message->in.capacity + message->later.capacity + message->header_capacity * sizeof(struct http1_header);
}

/* ---- lines ---- */

/* Finds the line at line_at, of at most `bytes_max` bytes with its CRLF. */
static enum error whole_line(struct http1_message *message, size_t bytes_max, struct bytes *line)
{
    const struct buffer *in = &message->in;
    size_t have = in->size - message->at;
    const uint8_t *end = have > 0 ? memchr(in->data + message->at, '\n', have) : NULL;
    size_t line_end = end != NULL ? (size_t)(end - in->data) + 1 : in->size;
    size_t size = line_end - message->line_at;
    if (size > bytes_max) return ERR_HEADERS_TOO_LARGE;
    message->at = line_end;
    if (end == NULL) return ERR_NOT_READY;
    if (size < 2 || end[-1] != '\r') return ERR_BAD_REQUEST;
    *line = bytes_of(in->data + message->line_at, size - 2);
    message->line_at = line_end;
    return ERR_OK;
}

enum error http1_message_start_line(struct http1_message *message, size_t bytes_max, struct bytes *line)
{
    return whole_line(message, bytes_max, line);
}

enum error http1_message_line(struct http1_message *message, struct bytes *line)
{
    enum error error = whole_line(message, HTTP1_HEADERS_BYTES_MAX - message->line_bytes, line);
    if (error == ERR_OK) message->line_bytes += line->size + 2;
    return error;
}

static enum error parse_header(struct bytes line, struct http1_header *out)
{
    const uint8_t *colon = memchr(line.data, ':', line.size);
    if (colon == NULL) return ERR_BAD_REQUEST;
    size_t name_size = (size_t)(colon - line.data);
    out->name = bytes_of(line.data, name_size);
    out->value = bytes_of(colon + 1, line.size - name_size - 1);
    /* A name that must be a token refuses folded lines and white space before the colon too. */
    if (!http1_is_token(out->name) || !is_field_value(out->value)) return ERR_BAD_REQUEST;
    out->value = trimmed(out->value);
    return ERR_OK;
}

enum error http1_message_headers(struct http1_message *message)
{
    for (;;) {
        struct bytes line;
        enum error error = http1_message_line(message, &line);
        if (error != ERR_OK) return error;
        if (line.size == 0) return ERR_OK;
        if (message->header_count == HTTP1_HEADER_COUNT_MAX) return ERR_HEADERS_TOO_LARGE;
        if (message->header_count == message->header_capacity) {
            uint32_t capacity = message->header_capacity * 2;
            if (capacity < HEADER_CAPACITY_MIN) capacity = HEADER_CAPACITY_MIN;
            message->headers = mem_realloc(message->headers, capacity * sizeof(struct http1_header));
            message->header_capacity = capacity;
        }
        error = parse_header(line, &message->headers[message->header_count]);
        if (error != ERR_OK) return error;
        message->header_count++;
    }
}

/* ---- the fields that say where the message ends ---- */

/* Digits and nothing else: no sign, no list, no white space. */
static bool parse_length(struct bytes text, uint64_t *out)
{
    if (text.size == 0) return false;
    uint64_t length = 0;
    for (size_t i = 0; i < text.size; i++) {
        uint8_t digit = (uint8_t)(text.data[i] - '0');
        if (digit > 9) return false;
        length = length > (UINT64_MAX - digit) / 10 ? UINT64_MAX : length * 10 + digit;
    }
    *out = length;
    return true;
}

static void read_connection(struct bytes value, struct http1_fields *out)
{
    while (value.size > 0) {
        const uint8_t *comma = memchr(value.data, ',', value.size);
        size_t size = comma != NULL ? (size_t)(comma - value.data) : value.size;
        struct bytes option = trimmed(bytes_of(value.data, size));
        if (http1_equals(option, "close")) out->close = true;
        if (http1_equals(option, "keep-alive")) out->keep_alive = true;
        if (comma == NULL) break;
        value = bytes_of(comma + 1, value.size - size - 1);
    }
}

enum error http1_message_fields(const struct http1_message *message, struct http1_fields *out)
{
    *out = (struct http1_fields){0};
    for (uint32_t i = 0; i < message->header_count; i++) {
        const struct http1_header *header = &message->headers[i];
        switch (header->name.size) {
        case 4:
            if (!http1_equals(header->name, "host")) break;
            out->host_count++;
            out->host = header->value;
            break;
        case 6:
            if (http1_equals(header->name, "expect"))
                out->expect_continue = http1_equals(header->value, "100-continue");
            break;
        case 10:
            if (http1_equals(header->name, "connection")) read_connection(header->value, out);
            break;
        case 14:
            if (!http1_equals(header->name, "content-length")) break;
            out->length_count++;
            if (!parse_length(header->value, &out->length)) return ERR_BAD_REQUEST;
            break;
        case 17:
            if (!http1_equals(header->name, "transfer-encoding")) break;
            out->coding_count++;
            out->coding = header->value;
            break;
        default:
            break;
        }
    }
    return ERR_OK;
}

/* ---- the body ---- */

enum error http1_message_expect_length(struct http1_message *message, uint64_t length)
{
    if (length > message->body_bytes_max) return ERR_TOO_LARGE;
    message->body_begin = message->body_end = message->line_at;
    message->left = length;
    message->stage = HTTP1_STAGE_LENGTH_BODY;
    return ERR_OK;
}

void http1_message_expect_chunks(struct http1_message *message)
{
    message->body_begin = message->body_end = message->line_at;
    message->left = 0;
    message->stage = HTTP1_STAGE_CHUNK_LINE;
}

static int hex_value(uint8_t byte)
{
    if (byte >= '0' && byte <= '9') return byte - '0';
    byte = lower_of(byte);
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* chunk-size [ chunk-ext ] CRLF. Extensions mean nothing here, but count towards the headers' limit. */
static enum error chunk_line(struct http1_message *message)
{
    struct bytes line;
    enum error error = whole_line(message, HTTP1_CHUNK_LINE_BYTES_MAX, &line);
    if (error != ERR_OK) return error;
    uint64_t size = 0;
    size_t digits = 0;
    for (; digits < line.size && hex_value(line.data[digits]) >= 0; digits++) {
        if (digits == HTTP1_CHUNK_DIGITS_MAX) return ERR_BAD_REQUEST;
        size = size << 4 | (uint64_t)hex_value(line.data[digits]);
    }
    if (digits == 0) return ERR_BAD_REQUEST;
    struct bytes extension = bytes_of(line.data + digits, line.size - digits);
    if (extension.size > 0) {
        if (extension.data[0] != ';' || !is_field_value(extension)) return ERR_BAD_REQUEST;
        if (extension.size > HTTP1_HEADERS_BYTES_MAX - message->line_bytes) return ERR_HEADERS_TOO_LARGE;
        message->line_bytes += extension.size;
    }
    if (size > message->body_bytes_max - (message->body_end - message->body_begin)) return ERR_TOO_LARGE;
    message->left = size;
    message->stage = size > 0 ? HTTP1_STAGE_CHUNK_DATA : HTTP1_STAGE_TRAILERS;
    return ERR_OK;
}

/* Moves what has come of the chunk to the end of the body. */
static enum error chunk_data(struct http1_message *message)
{
    struct buffer *in = &message->in;
    size_t have = in->size - message->line_at;
    size_t size = have < message->left ? have : (size_t)message->left;
    if (size > 0) memmove(in->data + message->body_end, in->data + message->line_at, size);
    message->body_end += size;
    message->line_at += size;
    message->at = message->line_at;
    message->left -= size;
    if (message->left > 0) return ERR_NOT_READY;
    message->stage = HTTP1_STAGE_CHUNK_END;
    return ERR_OK;
}

static enum error chunk_end(struct http1_message *message)
{
    const struct buffer *in = &message->in;
    size_t have = in->size - message->line_at;
    if (have >= 1 && in->data[message->line_at] != '\r') return ERR_BAD_REQUEST;
    if (have >= 2 && in->data[message->line_at + 1] != '\n') return ERR_BAD_REQUEST;
    if (have < 2) return ERR_NOT_READY;
    message->line_at += 2;
    message->at = message->line_at;
    message->stage = HTTP1_STAGE_CHUNK_LINE;
    return ERR_OK;
}

/* Trailers must be well-formed, and are dropped: nothing that we do depends on one. */
static enum error trailers(struct http1_message *message)
{
    for (;;) {
        struct bytes line;
        enum error error = http1_message_line(message, &line);
        if (error != ERR_OK) return error;
        if (line.size == 0) break;
        struct http1_header trailer;
        error = parse_header(line, &trailer);
        if (error != ERR_OK) return error;
    }
    message->stage = HTTP1_STAGE_COMPLETE;
    return ERR_OK;
}

static enum error length_body(struct http1_message *message)
{
    size_t have = message->in.size - message->body_end;
    size_t size = have < message->left ? have : (size_t)message->left;
    message->body_end += size;
    message->line_at = message->at = message->body_end;
    message->left -= size;
    if (message->left > 0) return ERR_NOT_READY;
    message->stage = HTTP1_STAGE_COMPLETE;
    return ERR_OK;
}

/* Gives the room of chunk lines back, which may take more than the body itself. */
static void close_gap(struct http1_message *message)
{
    size_t gap = message->line_at - message->body_end;
    if (gap == 0) return;
    struct buffer *in = &message->in;
    memmove(in->data + message->body_end, in->data + message->line_at, in->size - message->line_at);
    in->size -= gap;
    message->at -= gap;
    message->line_at -= gap;
}

enum error http1_message_body(struct http1_message *message)
{
    for (;;) {
        enum error error;
        switch (message->stage) {
        case HTTP1_STAGE_LENGTH_BODY:
            return length_body(message);
        case HTTP1_STAGE_CHUNK_LINE:
            error = chunk_line(message);
            break;
        case HTTP1_STAGE_CHUNK_DATA:
            error = chunk_data(message);
            break;
        case HTTP1_STAGE_CHUNK_END:
            error = chunk_end(message);
            break;
        case HTTP1_STAGE_TRAILERS:
            return trailers(message);
        default:
            CHECK(false);
        }
        if (error == ERR_NOT_READY) close_gap(message);
        if (error != ERR_OK) return error;
    }
}
