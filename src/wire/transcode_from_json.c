#include "base/check.h"
#include "wire/base64.h"
#include "wire/json_reader.h"
#include "wire/protobuf.h"
#include "wire/transcode.h"

/*
 * A submessage's length stands before it and is known after it. So the lengths are left out at first, and each submessage
 * is noted; at the end they are put in, from the last to the first, and each byte is moved once.
 */
struct span {
    size_t begin; /* of the content, without any lengths */
    size_t size;  /* of the content; with the lengths in it once it has ended */
};

struct parser {
    struct json_reader json;
    struct buffer *out;
    struct buffer *problem;
    struct buffer spans; /* struct span, in the order of their beginnings */
    size_t length_bytes; /* of all lengths that were left out, of spans that have ended */
};

static bool say(struct parser *parser, const char *what)
{
    if (parser->problem != NULL) json_reader_say(&parser->json, what, parser->problem);
    return false;
}

static bool say_of_field(struct parser *parser, const ProtobufCFieldDescriptor *field, const char *what)
{
    if (parser->problem == NULL) return false;
    json_reader_say(&parser->json, "the field ", parser->problem);
    buffer_append_format(parser->problem, "%s %s", field->name, what);
    return false;
}

static bool next(struct parser *parser, enum json_token *token, struct bytes *text)
{
    *token = json_reader_next(&parser->json, text);
    return *token != JSON_TOKEN_BAD || say(parser, parser->json.problem);
}

static bool skip(struct parser *parser, enum json_token token)
{
    return json_reader_skip(&parser->json, token) || say(parser, parser->json.problem);
}

/* ---- spans ---- */

static struct span *span_at(struct parser *parser, size_t index)
{
    return (struct span *)(void *)parser->spans.data + index;
}

/* Returns the lengths' bytes so far, for end_span. */
static size_t begin_span(struct parser *parser)
{
    struct span span = {.begin = parser->out->size};
    buffer_append(&parser->spans, &span, sizeof span);
    return parser->length_bytes;
}

static void end_span(struct parser *parser, size_t index, size_t length_bytes_before)
{
    struct span *span = span_at(parser, index);
    span->size = parser->out->size - span->begin + (parser->length_bytes - length_bytes_before);
    parser->length_bytes += protobuf_varint_bytes(span->size);
}

static size_t span_count(const struct parser *parser)
{
    return parser->spans.size / sizeof(struct span);
}

static void put_lengths_in(struct parser *parser)
{
    struct buffer *out = parser->out;
    buffer_reserve(out, parser->length_bytes);
    size_t from = out->size;
    out->size += parser->length_bytes;
    size_t to = out->size;
    for (size_t i = span_count(parser); i-- > 0;) {
        const struct span *span = span_at(parser, i);
        size_t moved = from - span->begin;
        to -= moved;
        from = span->begin;
        memmove(out->data + to, out->data + from, moved);
        to -= protobuf_varint_bytes(span->size);
        protobuf_put_varint(out->data + to, span->size);
    }
    CHECK(from == to);
}

static void append_tag(struct parser *parser, const ProtobufCFieldDescriptor *field, enum protobuf_wire_type wire_type)
{
    uint8_t tag[PROTOBUF_VARINT_BYTES_MAX];
    const uint8_t *end = protobuf_put_varint(tag, PROTOBUF_TAG(field->id, wire_type));
    buffer_append(parser->out, tag, (size_t)(end - tag));
}

/* ---- numbers ---- */

static bool is_signed(const ProtobufCFieldDescriptor *field)
{
    return field->type == PROTOBUF_C_TYPE_INT32 || field->type == PROTOBUF_C_TYPE_INT64 ||
           field->type == PROTOBUF_C_TYPE_ENUM;
}

static unsigned bits_of(const ProtobufCFieldDescriptor *field)
{
    return field->type == PROTOBUF_C_TYPE_INT64 || field->type == PROTOBUF_C_TYPE_UINT64 ? 64 : 32;
}

static bool parse_integer(struct bytes text, const ProtobufCFieldDescriptor *field, uint64_t *out)
{
    bool negative;
    uint64_t magnitude;
    if (!json_reader_integer(text, &negative, &magnitude)) return false;
    unsigned bits = bits_of(field);
    if (!is_signed(field)) {
        *out = magnitude;
        return !negative && magnitude <= UINT64_MAX >> (64 - bits);
    }
    uint64_t limit = (uint64_t)1 << (bits - 1);
    if (magnitude > (negative ? limit : limit - 1)) return false;
    *out = negative ? -magnitude : magnitude;
    return true;
}

static bool find_enum_value(const ProtobufCEnumDescriptor *type, struct bytes name, uint64_t *out)
{
    for (unsigned i = 0; i < type->n_values; i++) {
        if (bytes_equal(name, bytes_of_string(type->values[i].name))) {
            *out = (uint64_t)(int64_t)type->values[i].value;
            return true;
        }
    }
    return false;
}

/* *ignored: the name of an enum's value that we don't know, which counts as absent. */
static bool parse_number(struct parser *parser, const ProtobufCFieldDescriptor *field, enum json_token token,
                         struct bytes text, uint64_t *out, bool *ignored)
{
    *ignored = false;
    switch (field->type) {
    case PROTOBUF_C_TYPE_BOOL:
        *out = token == JSON_TOKEN_TRUE;
        return token == JSON_TOKEN_TRUE || token == JSON_TOKEN_FALSE ||
               say_of_field(parser, field, "is neither true nor false");
    case PROTOBUF_C_TYPE_ENUM:
        if (token == JSON_TOKEN_STRING) {
            *ignored = !find_enum_value(field->descriptor, text, out);
            return true;
        }
        return (token == JSON_TOKEN_NUMBER && parse_integer(text, field, out)) ||
               say_of_field(parser, field, "is neither a name nor a number of its enum");
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_UINT64:
        return ((token == JSON_TOKEN_NUMBER || token == JSON_TOKEN_STRING) && parse_integer(text, field, out)) ||
               say_of_field(parser, field, "is not an integer of its size");
    default:
        CHECK(false && "a kind of field that no message has");
        return false;
    }
}

/* ---- values ---- */

static bool read_bytes(struct parser *parser, const ProtobufCFieldDescriptor *field, enum json_token token,
                       struct bytes text, bool keep_empty)
{
    if (token != JSON_TOKEN_STRING) return say_of_field(parser, field, "is not a string with base64");
    struct buffer *out = parser->out;
    size_t size = base64_decoded_bytes(text);
    if (size != SIZE_MAX) {
        size_t begin = out->size;
        if (size > 0 || keep_empty) protobuf_append_message_head(out, field->id, size);
        buffer_reserve(out, size + 3);
        if (base64_decode(text, out->data + out->size)) {
            out->size += size;
            return true;
        }
        out->size = begin;
    }
    struct buffer decoded = {0};
    bool good = base64_decode_any(text, &decoded);
    if (good) {
        if (keep_empty) {
            protobuf_append_bytes_present(out, field->id, buffer_bytes(&decoded));
        } else {
            protobuf_append_bytes(out, field->id, buffer_bytes(&decoded));
        }
    }
    buffer_free(&decoded);
    return good || say_of_field(parser, field, "is not valid base64");
}

static bool read_message(struct parser *parser, const ProtobufCMessageDescriptor *type);

static bool read_submessage(struct parser *parser, const ProtobufCFieldDescriptor *field, enum json_token token)
{
    if (token != JSON_TOKEN_OBJECT) return say_of_field(parser, field, "is not an object");
    append_tag(parser, field, PROTOBUF_BYTES);
    size_t index = span_count(parser);
    size_t length_bytes = begin_span(parser);
    if (!read_message(parser, field->descriptor)) return false;
    end_span(parser, index, length_bytes);
    return true;
}

/* A value that isn't a list's; `present`: written even if it is the default. */
static bool read_value(struct parser *parser, const ProtobufCFieldDescriptor *field, enum json_token token,
                       struct bytes text, bool present)
{
    uint64_t number;
    bool ignored;
    switch (field->type) {
    case PROTOBUF_C_TYPE_MESSAGE:
        return read_submessage(parser, field, token);
    case PROTOBUF_C_TYPE_BYTES:
        return read_bytes(parser, field, token, text, present);
    case PROTOBUF_C_TYPE_STRING:
        if (token != JSON_TOKEN_STRING) return say_of_field(parser, field, "is not a string");
        if (present) {
            protobuf_append_bytes_present(parser->out, field->id, text);
        } else {
            protobuf_append_bytes(parser->out, field->id, text);
        }
        return true;
    default:
        if (!parse_number(parser, field, token, text, &number, &ignored)) return false;
        if (ignored) return true;
        if (present) {
            protobuf_append_number_present(parser->out, field->id, number);
        } else {
            protobuf_append_number(parser->out, field->id, number);
        }
        return true;
    }
}

static bool is_delimited(const ProtobufCFieldDescriptor *field)
{
    return field->type == PROTOBUF_C_TYPE_STRING || field->type == PROTOBUF_C_TYPE_BYTES ||
           field->type == PROTOBUF_C_TYPE_MESSAGE;
}

static bool read_list_of_numbers(struct parser *parser, const ProtobufCFieldDescriptor *field)
{
    size_t index = span_count(parser);
    size_t length_bytes = parser->length_bytes;
    bool begun = false;
    for (;;) {
        enum json_token token;
        struct bytes text;
        if (!next(parser, &token, &text)) return false;
        if (token == JSON_TOKEN_ARRAY_END) break;
        uint64_t number;
        bool ignored;
        if (!parse_number(parser, field, token, text, &number, &ignored)) return false;
        if (ignored) continue;
        if (!begun) {
            append_tag(parser, field, PROTOBUF_BYTES);
            begin_span(parser);
            begun = true;
        }
        uint8_t varint[PROTOBUF_VARINT_BYTES_MAX];
        buffer_append(parser->out, varint, (size_t)(protobuf_put_varint(varint, number) - varint));
    }
    if (begun) end_span(parser, index, length_bytes);
    return true;
}

static bool read_list(struct parser *parser, const ProtobufCFieldDescriptor *field, enum json_token token)
{
    if (token != JSON_TOKEN_ARRAY) return say_of_field(parser, field, "is not an array");
    if (!is_delimited(field)) return read_list_of_numbers(parser, field);
    for (;;) {
        struct bytes text;
        if (!next(parser, &token, &text)) return false;
        if (token == JSON_TOKEN_ARRAY_END) return true;
        if (!read_value(parser, field, token, text, true)) return false;
    }
}

/* ---- messages ---- */

/* `name` is `field_name`, or that in camelCase: without underscores, and the letter after one in upper case. */
static bool is_named(const char *field_name, struct bytes name)
{
    if (bytes_equal(name, bytes_of_string(field_name))) return true;
    size_t at = 0;
    bool upper = false;
    for (const char *c = field_name; *c != 0; c++) {
        if (*c == '_') {
            upper = true;
            continue;
        }
        char expected = upper && *c >= 'a' && *c <= 'z' ? (char)(*c - 'a' + 'A') : *c;
        upper = false;
        if (at == name.size || name.data[at++] != (uint8_t)expected) return false;
    }
    return at == name.size;
}

/* Fields that came in a message: one bit each. */
struct seen {
    uint64_t fields;
    uint64_t members; /* of oneofs, without null */
};

static bool oneof_is_set(const ProtobufCMessageDescriptor *type, const ProtobufCFieldDescriptor *field,
                         const struct seen *seen)
{
    for (unsigned i = 0; i < type->n_fields; i++) {
        if ((seen->members >> i & 1) != 0 && type->fields[i].quantifier_offset == field->quantifier_offset) return true;
    }
    return false;
}

static bool read_field(struct parser *parser, const ProtobufCMessageDescriptor *type, unsigned index, struct seen *seen)
{
    const ProtobufCFieldDescriptor *field = &type->fields[index];
    uint64_t bit = (uint64_t)1 << index;
    if ((seen->fields & bit) != 0) return say_of_field(parser, field, "comes twice");
    seen->fields |= bit;

    enum json_token token;
    struct bytes text;
    if (!next(parser, &token, &text)) return false;
    if (token == JSON_TOKEN_NULL) return true;
    if (field->label == PROTOBUF_C_LABEL_REPEATED) return read_list(parser, field, token);
    bool member = (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
    if (member) {
        if (oneof_is_set(type, field, seen)) return say_of_field(parser, field, "excludes another one that is there");
        seen->members |= bit;
    }
    return read_value(parser, field, token, text, member);
}

/* After its opening brace. */
static bool read_message(struct parser *parser, const ProtobufCMessageDescriptor *type)
{
    CHECK(type->n_fields <= 64);
    struct seen seen = {0};
    for (;;) {
        enum json_token token;
        struct bytes name;
        if (!next(parser, &token, &name)) return false;
        if (token == JSON_TOKEN_OBJECT_END) return true;
        CHECK(token == JSON_TOKEN_NAME);
        unsigned index = 0;
        while (index < type->n_fields && !is_named(type->fields[index].name, name)) index++;
        if (index < type->n_fields) {
            if (!read_field(parser, type, index, &seen)) return false;
        } else {
            if (!next(parser, &token, &name) || !skip(parser, token)) return false;
        }
    }
}

static bool read_whole(struct parser *parser, const ProtobufCMessageDescriptor *type, size_t *used_bytes)
{
    enum json_token token;
    struct bytes text;
    if (!next(parser, &token, &text)) return false;
    if (token != JSON_TOKEN_OBJECT) return say(parser, "an object is expected");
    if (!read_message(parser, type)) return false;
    struct json_reader *json = &parser->json;
    if (used_bytes != NULL) {
        *used_bytes = (size_t)(json->at - json->begin);
        return true;
    }
    while (json->at < json->end && memchr(" \n\r\t", *json->at, 4) != NULL) json->at++;
    return json->at == json->end || say(parser, "something follows the object");
}

bool transcode_from_json(const ProtobufCMessageDescriptor *type, struct bytes text, size_t *used_bytes,
                         struct buffer *out, struct buffer *problem)
{
    struct parser parser = {.out = out, .problem = problem};
    json_reader_init(&parser.json, text);
    size_t begin = out->size;
    bool good = read_whole(&parser, type, used_bytes);
    if (good) {
        put_lengths_in(&parser);
    } else {
        out->size = begin;
    }
    json_reader_free(&parser.json);
    buffer_free(&parser.spans);
    return good;
}
