#include "wire/json_reader.h"

#include "wire/json.h"
#include "wire/utf8.h"

enum expected {
    EXPECT_VALUE,
    EXPECT_VALUE_OR_END, /* just inside an array */
    EXPECT_NAME,
    EXPECT_NAME_OR_END, /* just inside an object */
    EXPECT_COMMA_OR_END,
    EXPECT_NOTHING, /* the value is complete */
    EXPECT_FAILED,
};

void json_reader_init(struct json_reader *reader, struct bytes text)
{
    *reader = (struct json_reader){
        .begin = text.data,
        .at = text.data,
        .end = text.size == 0 ? text.data : text.data + text.size,
        .expected = EXPECT_VALUE,
    };
}

void json_reader_free(struct json_reader *reader)
{
    buffer_free(&reader->unescaped);
}

static enum json_token bad(struct json_reader *reader, const char *problem)
{
    reader->problem = problem;
    reader->expected = EXPECT_FAILED;
    return JSON_TOKEN_BAD;
}

static size_t left(const struct json_reader *reader)
{
    return (size_t)(reader->end - reader->at);
}

static bool is_space(uint8_t byte)
{
    return byte == ' ' || byte == '\n' || byte == '\r' || byte == '\t';
}

static void skip_space(struct json_reader *reader)
{
    while (reader->at < reader->end && is_space(*reader->at)) reader->at++;
}

/* ---- levels ---- */

static bool in_object(const struct json_reader *reader)
{
    uint32_t level = reader->depth - 1;
    return (reader->objects[level / 64] >> level % 64 & 1) != 0;
}

static enum json_token open_level(struct json_reader *reader, bool is_object)
{
    if (reader->depth == JSON_READER_DEPTH_MAX) return bad(reader, "the JSON nests too deep");
    uint32_t level = reader->depth++;
    uint64_t bit = (uint64_t)1 << level % 64;
    uint64_t *word = &reader->objects[level / 64];
    *word = is_object ? *word | bit : *word & ~bit;
    reader->at++;
    reader->expected = is_object ? EXPECT_NAME_OR_END : EXPECT_VALUE_OR_END;
    return is_object ? JSON_TOKEN_OBJECT : JSON_TOKEN_ARRAY;
}

static void end_value(struct json_reader *reader)
{
    reader->expected = reader->depth == 0 ? EXPECT_NOTHING : EXPECT_COMMA_OR_END;
}

static enum json_token close_level(struct json_reader *reader, bool is_object)
{
    reader->at++;
    reader->depth--;
    end_value(reader);
    return is_object ? JSON_TOKEN_OBJECT_END : JSON_TOKEN_ARRAY_END;
}

/* ---- strings ---- */

static bool read_hex4(const uint8_t *at, uint32_t *out)
{
    uint32_t value = 0;
    for (size_t i = 0; i < 4; i++) {
        uint8_t byte = at[i];
        uint32_t digit;
        if (byte >= '0' && byte <= '9') {
            digit = byte - '0';
        } else if ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'f') {
            digit = (byte | 0x20u) - 'a' + 10;
        } else {
            return false;
        }
        value = value << 4 | digit;
    }
    *out = value;
    return true;
}

static void append_utf8(struct buffer *out, uint32_t point)
{
    if (point < 0x80) {
        buffer_append_byte(out, (uint8_t)point);
        return;
    }
    if (point < 0x800) {
        buffer_append_byte(out, (uint8_t)(0xc0 | point >> 6));
    } else {
        if (point < 0x10000) {
            buffer_append_byte(out, (uint8_t)(0xe0 | point >> 12));
        } else {
            buffer_append_byte(out, (uint8_t)(0xf0 | point >> 18));
            buffer_append_byte(out, (uint8_t)(0x80 | (point >> 12 & 63)));
        }
        buffer_append_byte(out, (uint8_t)(0x80 | (point >> 6 & 63)));
    }
    buffer_append_byte(out, (uint8_t)(0x80 | (point & 63)));
}

/* After "\u". A character above U+FFFF takes two escapes; half of one isn't a character. */
static bool read_unicode_escape(struct json_reader *reader)
{
    uint32_t point;
    if (left(reader) < 4 || !read_hex4(reader->at, &point)) return false;
    reader->at += 4;
    if (point >= 0xd800 && point <= 0xdfff) {
        uint32_t low;
        if (point >= 0xdc00 || left(reader) < 6 || reader->at[0] != '\\' || reader->at[1] != 'u' ||
            !read_hex4(reader->at + 2, &low) || low < 0xdc00 || low > 0xdfff) {
            return false;
        }
        reader->at += 6;
        point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
    }
    append_utf8(&reader->unescaped, point);
    return true;
}

/* After the backslash. */
static bool read_escape(struct json_reader *reader)
{
    if (reader->at == reader->end) return false;
    uint8_t byte = *reader->at++;
    switch (byte) {
    case '"':
    case '\\':
    case '/':
        break;
    case 'b':
        byte = '\b';
        break;
    case 'f':
        byte = '\f';
        break;
    case 'n':
        byte = '\n';
        break;
    case 'r':
        byte = '\r';
        break;
    case 't':
        byte = '\t';
        break;
    case 'u':
        return read_unicode_escape(reader);
    default:
        return false;
    }
    buffer_append_byte(&reader->unescaped, byte);
    return true;
}

/* At the opening quote. *out is a view of the text, or of reader->unescaped once there was an escape. */
static bool read_string(struct json_reader *reader, struct bytes *out)
{
    const uint8_t *run = ++reader->at;
    bool escaped = false;
    for (;;) {
        reader->at += json_plain_bytes(reader->at, left(reader));
        if (reader->at == reader->end) {
            bad(reader, "a string has no end");
            return false;
        }
        uint8_t byte = *reader->at;
        if (byte >= 0x80) {
            size_t size = utf8_character_bytes(bytes_of(reader->at, left(reader)));
            if (size == 0) {
                bad(reader, "a string is not valid UTF-8");
                return false;
            }
            reader->at += size;
            continue;
        }
        if (byte < 0x20) {
            bad(reader, "a string has a control character in it");
            return false;
        }
        struct bytes before = bytes_of(run, (size_t)(reader->at - run));
        reader->at++;
        if (byte == '"') {
            if (escaped) buffer_append(&reader->unescaped, before.data, before.size);
            *out = escaped ? buffer_bytes(&reader->unescaped) : before;
            return true;
        }
        if (!escaped) buffer_clear(&reader->unescaped);
        escaped = true;
        buffer_append(&reader->unescaped, before.data, before.size);
        if (!read_escape(reader)) {
            bad(reader, "a string has a malformed escape");
            return false;
        }
        run = reader->at;
    }
}

/* ---- numbers ---- */

static bool is_digit(uint8_t byte)
{
    return byte >= '0' && byte <= '9';
}

static size_t digits_at(const uint8_t *at, const uint8_t *end)
{
    size_t count = 0;
    while (at + count < end && is_digit(at[count])) count++;
    return count;
}

struct number {
    bool negative;
    struct bytes whole;    /* digits; none when it is 0 */
    struct bytes fraction; /* digits, without zeros at the end */
    bool exponent_negative;
    struct bytes exponent;
};

/* How many bytes at the front are a number; 0 when there is none. */
static size_t read_number(struct bytes text, struct number *out)
{
    *out = (struct number){0};
    const uint8_t *at = text.data;
    const uint8_t *end = text.data + text.size;
    if (at < end && *at == '-') {
        out->negative = true;
        at++;
    }
    size_t count = digits_at(at, end);
    if (count == 0 || (*at == '0' && count > 1)) return 0;
    if (*at != '0') out->whole = bytes_of(at, count);
    at += count;
    if (at < end && *at == '.') {
        at++;
        count = digits_at(at, end);
        if (count == 0) return 0;
        out->fraction = bytes_of(at, count);
        while (out->fraction.size > 0 && at[out->fraction.size - 1] == '0') out->fraction.size--;
        at += count;
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        at++;
        if (at < end && (*at == '+' || *at == '-')) out->exponent_negative = *at++ == '-';
        count = digits_at(at, end);
        if (count == 0) return 0;
        out->exponent = bytes_of(at, count);
        at += count;
    }
    return (size_t)(at - text.data);
}

/* *value followed by the digits. False when that has more than 64 bits. */
static bool add_digits(uint64_t *value, struct bytes digits)
{
    for (size_t i = 0; i < digits.size; i++) {
        if (__builtin_mul_overflow(*value, 10u, value)) return false;
        if (__builtin_add_overflow(*value, (uint64_t)(digits.data[i] - '0'), value)) return false;
    }
    return true;
}

bool json_reader_integer(struct bytes text, bool *negative, uint64_t *magnitude)
{
    struct number number;
    *negative = false;
    *magnitude = 0;
    if (text.size == 0 || read_number(text, &number) != text.size) return false;
    if (number.whole.size == 0 && number.fraction.size == 0) return true;

    uint64_t exponent = 0;
    if (!add_digits(&exponent, number.exponent) || exponent > INT32_MAX) return false;
    struct bytes whole = number.whole;
    if (number.exponent_negative && exponent > 0) {
        /* Only zeros may move behind the point. */
        if (number.fraction.size > 0 || exponent > whole.size) return false;
        for (; exponent > 0; exponent--) {
            if (whole.data[--whole.size] != '0') return false;
        }
    }
    /* No 64-bit number has more digits; the same bound as protojson's, also for 0.00…1e25. */
    if (number.fraction.size > exponent || whole.size + exponent > 20) return false;
    if (!add_digits(magnitude, whole) || !add_digits(magnitude, number.fraction)) return false;
    for (size_t i = number.fraction.size; i < exponent; i++) {
        if (!add_digits(magnitude, bytes_of("0", 1))) return false;
    }
    *negative = number.negative;
    return true;
}

/* ---- tokens ---- */

static bool take_word(struct json_reader *reader, const char *word)
{
    size_t size = strlen(word);
    if (left(reader) < size || memcmp(reader->at, word, size) != 0) return false;
    reader->at += size;
    end_value(reader);
    return true;
}

static enum json_token read_value(struct json_reader *reader, struct bytes *text)
{
    switch (*reader->at) {
    case '{':
        return open_level(reader, true);
    case '[':
        return open_level(reader, false);
    case '"':
        if (!read_string(reader, text)) return JSON_TOKEN_BAD;
        end_value(reader);
        return JSON_TOKEN_STRING;
    case 't':
        if (take_word(reader, "true")) return JSON_TOKEN_TRUE;
        break;
    case 'f':
        if (take_word(reader, "false")) return JSON_TOKEN_FALSE;
        break;
    case 'n':
        if (take_word(reader, "null")) return JSON_TOKEN_NULL;
        break;
    default:
        break;
    }
    struct number number;
    size_t size = read_number(bytes_of(reader->at, left(reader)), &number);
    if (size == 0) return bad(reader, "a value is expected");
    *text = bytes_of(reader->at, size);
    reader->at += size;
    end_value(reader);
    return JSON_TOKEN_NUMBER;
}

static enum json_token read_name(struct json_reader *reader, struct bytes *text)
{
    if (*reader->at != '"') return bad(reader, "a name is expected");
    if (!read_string(reader, text)) return JSON_TOKEN_BAD;
    skip_space(reader);
    if (reader->at == reader->end || *reader->at != ':') return bad(reader, "a colon is expected");
    reader->at++;
    reader->expected = EXPECT_VALUE;
    return JSON_TOKEN_NAME;
}

enum json_token json_reader_next(struct json_reader *reader, struct bytes *text)
{
    *text = (struct bytes){0};
    if (reader->expected == EXPECT_NOTHING) return JSON_TOKEN_END;
    if (reader->expected == EXPECT_FAILED) return JSON_TOKEN_BAD;
    skip_space(reader);
    if (reader->at == reader->end) return bad(reader, "the JSON ends too early");
    if (reader->expected == EXPECT_COMMA_OR_END) {
        bool is_object = in_object(reader);
        if (*reader->at == (is_object ? '}' : ']')) return close_level(reader, is_object);
        if (*reader->at != ',') return bad(reader, "a comma or the end of the object or array is expected");
        reader->at++;
        reader->expected = is_object ? EXPECT_NAME : EXPECT_VALUE;
        skip_space(reader);
        if (reader->at == reader->end) return bad(reader, "the JSON ends too early");
    }
    switch (reader->expected) {
    case EXPECT_NAME_OR_END:
        if (*reader->at == '}') return close_level(reader, true);
        return read_name(reader, text);
    case EXPECT_NAME:
        return read_name(reader, text);
    case EXPECT_VALUE_OR_END:
        if (*reader->at == ']') return close_level(reader, false);
        return read_value(reader, text);
    default:
        return read_value(reader, text);
    }
}

bool json_reader_skip(struct json_reader *reader, enum json_token token)
{
    if (token == JSON_TOKEN_BAD) return false;
    if (token != JSON_TOKEN_OBJECT && token != JSON_TOKEN_ARRAY) return true;
    uint32_t outside = reader->depth - 1;
    while (reader->depth > outside) {
        struct bytes text;
        if (json_reader_next(reader, &text) == JSON_TOKEN_BAD) return false;
    }
    return true;
}

void json_reader_say(const struct json_reader *reader, const char *what, struct buffer *problem)
{
    size_t line = 1;
    size_t column = 1;
    for (const uint8_t *at = reader->begin; at < reader->at; at++) {
        if (*at == '\n') {
            line++;
            column = 1;
        } else if ((*at & 0xc0) != 0x80) { /* a character counts with its first byte */
            column++;
        }
    }
    buffer_append_format(problem, "line %zu, column %zu: %s", line, column, what);
}

/* ---- streams ---- */

static bool complete(struct json_splitter *splitter, struct bytes text, size_t end, struct bytes *value)
{
    *value = bytes_of(text.data + splitter->begin, end - splitter->begin);
    *splitter = (struct json_splitter){0};
    return true;
}

bool json_splitter_next(struct json_splitter *splitter, struct bytes text, struct bytes *value)
{
    for (; splitter->scanned_bytes < text.size; splitter->scanned_bytes++) {
        size_t at = splitter->scanned_bytes;
        uint8_t byte = text.data[at];
        if (!splitter->begun) {
            if (is_space(byte)) continue;
            splitter->begun = true;
            splitter->begin = at;
            if (byte != '{' && byte != '[') return complete(splitter, text, text.size, value);
        }
        if (splitter->escaped) {
            splitter->escaped = false;
        } else if (splitter->in_string) {
            if (byte == '\\') splitter->escaped = true;
            if (byte == '"') splitter->in_string = false;
        } else if (byte == '"') {
            splitter->in_string = true;
        } else if (byte == '{' || byte == '[') {
            splitter->depth++;
        } else if (byte == '}' || byte == ']') {
            if (--splitter->depth == 0) return complete(splitter, text, at + 1, value);
        }
    }
    return false;
}
