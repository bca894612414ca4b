#include "wire/json.h"

#include "wire/utf8.h"

#define EACH_BYTE 0x0101010101010101u
#define HIGH_BITS 0x8080808080808080u

size_t json_plain_bytes(const uint8_t *at, size_t size)
{
    size_t i = 0;
    for (; size - i >= 8; i += 8) {
        uint64_t word = get_u64(at + i);
        uint64_t quote = word ^ EACH_BYTE * '"';
        uint64_t backslash = word ^ EACH_BYTE * '\\';
        /* A subtraction sets the high bit of a byte that is below; a borrow spoils only bytes after the first hit. */
        uint64_t hits = ((word - EACH_BYTE * 0x20) | (quote - EACH_BYTE) | (backslash - EACH_BYTE) | word) & HIGH_BITS;
        if (hits != 0) return i + (size_t)__builtin_ctzll(hits) / 8;
    }
    for (; i < size; i++) {
        if (at[i] < 0x20 || at[i] >= 0x80 || at[i] == '"' || at[i] == '\\') break;
    }
    return i;
}

/* ---- writing ---- */

static char short_escape(uint8_t byte)
{
    switch (byte) {
    case '"':
        return '"';
    case '\\':
        return '\\';
    case '\b':
        return 'b';
    case '\f':
        return 'f';
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    default:
        return 0;
    }
}

size_t json_string_bytes(struct bytes text)
{
    size_t bytes = 2;
    size_t at = 0;
    for (;;) {
        size_t run = json_plain_bytes(text.data + at, text.size - at);
        bytes += run;
        at += run;
        if (at == text.size) return bytes;
        if (text.data[at] >= 0x80) {
            size_t size = utf8_character_bytes(bytes_of(text.data + at, text.size - at));
            if (size == 0) return 0;
            bytes += size;
            at += size;
        } else {
            bytes += short_escape(text.data[at]) != 0 ? 2 : 6;
            at++;
        }
    }
}

void json_write_string(struct buffer *out, struct bytes text)
{
    static const char hex[] = "0123456789abcdef";
    buffer_reserve(out, text.size + 2);
    buffer_append_byte(out, '"');
    size_t at = 0;
    for (;;) {
        size_t run = json_plain_bytes(text.data + at, text.size - at);
        buffer_append(out, text.data + at, run);
        at += run;
        if (at == text.size) break;
        uint8_t byte = text.data[at];
        if (byte >= 0x80) {
            size_t size = utf8_character_bytes(bytes_of(text.data + at, text.size - at));
            if (size > 0) {
                buffer_append(out, text.data + at, size);
            } else {
                buffer_append_string(out, "\xef\xbf\xbd");
                size = 1;
            }
            at += size;
            continue;
        }
        char escape = short_escape(byte);
        if (escape != 0) {
            char two[2] = {'\\', escape};
            buffer_append(out, two, sizeof two);
        } else {
            char six[6] = {'\\', 'u', '0', '0', hex[byte >> 4], hex[byte & 15]};
            buffer_append(out, six, sizeof six);
        }
        at++;
    }
    buffer_append_byte(out, '"');
}

/* ---- reading ---- */

static void say(struct buffer *problem, const char *what)
{
    if (problem != NULL) buffer_append_string(problem, what);
}

/* Counts brackets and commas outside strings. What is malformed passes here, jansson finds it. */
static bool within_limits(struct bytes text, size_t depth_max, size_t values_max, struct buffer *problem)
{
    size_t depth = 0;
    size_t values = 0;
    bool in_string = false;
    for (size_t at = 0; at < text.size; at++) {
        uint8_t byte = text.data[at];
        if (in_string) {
            if (byte == '\\') {
                at++;
            } else if (byte == '"') {
                in_string = false;
            } else {
                size_t run = json_plain_bytes(text.data + at, text.size - at);
                if (run > 1) at += run - 1;
            }
            continue;
        }
        switch (byte) {
        case '"':
            in_string = true;
            break;
        case '{':
        case '[':
            values++;
            depth++;
            break;
        case '}':
        case ']':
            if (depth > 0) depth--;
            break;
        case ',':
            values++;
            break;
        default:
            break;
        }
        if (depth > depth_max) {
            if (problem != NULL) buffer_append_format(problem, "the JSON nests deeper than %zu levels", depth_max);
            return false;
        }
        if (values > values_max) {
            if (problem != NULL) buffer_append_format(problem, "the JSON has more than %zu values", values_max);
            return false;
        }
    }
    return true;
}

json_t *json_read_object(struct bytes text, size_t depth_max, size_t values_max, struct buffer *problem)
{
    if (text.size == 0) {
        say(problem, "the body is empty; a JSON object is expected");
        return NULL;
    }
    if (!within_limits(text, depth_max, values_max, problem)) return NULL;
    json_error_t error;
    json_t *root = json_loadb((const char *)text.data, text.size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    if (root == NULL) {
        if (problem != NULL) {
            buffer_append_format(problem, "the body is not valid JSON: line %d, column %d: %s", error.line,
                                 error.column, error.text);
        }
        return NULL;
    }
    if (!json_is_object(root)) {
        say(problem, "the body must be a JSON object");
        json_decref(root);
        return NULL;
    }
    return root;
}

static void skip_space(struct reader *reader)
{
    while (reader->at < reader->end &&
           (*reader->at == ' ' || *reader->at == '\n' || *reader->at == '\r' || *reader->at == '\t')) {
        reader->at++;
    }
}

static bool take(struct reader *reader, uint8_t byte)
{
    if (reader->at == reader->end || *reader->at != byte) return false;
    reader->at++;
    return true;
}

static bool take_plain_string(struct reader *reader, struct bytes *out)
{
    if (!take(reader, '"')) return false;
    const uint8_t *begin = reader->at;
    for (;;) {
        reader->at += json_plain_bytes(reader->at, reader_left(reader));
        if (reader->at == reader->end) return false;
        if (*reader->at < 0x80) break;
        size_t size = utf8_character_bytes(bytes_of(reader->at, reader_left(reader)));
        if (size == 0) return false;
        reader->at += size;
    }
    *out = bytes_of(begin, (size_t)(reader->at - begin));
    return take(reader, '"');
}

bool json_read_plain(struct bytes text, struct json_plain_member *members, size_t capacity, size_t *count)
{
    *count = 0;
    struct reader reader = reader_of(text);
    skip_space(&reader);
    if (!take(&reader, '{')) return false;
    skip_space(&reader);
    if (!take(&reader, '}')) {
        do {
            if (*count == capacity) return false;
            struct json_plain_member *member = &members[*count];
            skip_space(&reader);
            if (!take_plain_string(&reader, &member->name)) return false;
            skip_space(&reader);
            if (!take(&reader, ':')) return false;
            skip_space(&reader);
            if (!take_plain_string(&reader, &member->value)) return false;
            skip_space(&reader);
            ++*count;
        } while (take(&reader, ','));
        if (!take(&reader, '}')) return false;
    }
    skip_space(&reader);
    return reader.at == reader.end;
}
