#include "base/check.h"
#include "wire/base64.h"
#include "wire/json.h"
#include "wire/protobuf.h"
#include "wire/protobuf_message.h"
#include "wire/transcode.h"
#include "wire/utf8.h"

#define FIELDS_MAX 32u

struct writer {
    struct buffer *out;
    struct buffer *problem;
};

/* Where a field's occurrences are. */
struct place {
    const uint8_t *first;
    const uint8_t *last;
    size_t count;
};

static bool say(const struct writer *writer, const ProtobufCMessageDescriptor *type,
                const ProtobufCFieldDescriptor *field, const char *what)
{
    if (writer->problem != NULL) {
        buffer_append_format(writer->problem, "the field %s of a %s %s", field->name, type->name, what);
    }
    return false;
}

static bool malformed(const struct writer *writer, const ProtobufCMessageDescriptor *type)
{
    if (writer->problem != NULL) buffer_append_format(writer->problem, "malformed protobuf in a %s", type->name);
    return false;
}

static bool is_repeated(const ProtobufCFieldDescriptor *field)
{
    return field->label == PROTOBUF_C_LABEL_REPEATED;
}

static bool is_oneof(const ProtobufCFieldDescriptor *field)
{
    return (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
}

static bool is_delimited(const ProtobufCFieldDescriptor *field)
{
    return field->type == PROTOBUF_C_TYPE_STRING || field->type == PROTOBUF_C_TYPE_BYTES ||
           field->type == PROTOBUF_C_TYPE_MESSAGE;
}

static bool is_packed(const ProtobufCFieldDescriptor *field, const struct protobuf_field *read)
{
    return is_repeated(field) && !is_delimited(field) && protobuf_field_type(read) == PROTOBUF_BYTES;
}

/* A known number with another wire type is an unknown field. */
static bool belongs(const ProtobufCFieldDescriptor *field, const struct protobuf_field *read)
{
    if (protobuf_field_number(read) != field->id) return false;
    return protobuf_field_type(read) == (is_delimited(field) ? PROTOBUF_BYTES : PROTOBUF_VARINT) ||
           is_packed(field, read);
}

/* ---- values ---- */

static void write_signed(struct buffer *out, int64_t value)
{
    if (value < 0) buffer_append_byte(out, '-');
    buffer_append_decimal(out, value < 0 ? -(uint64_t)value : (uint64_t)value);
}

static void write_enum(struct buffer *out, const ProtobufCEnumDescriptor *type, int32_t value)
{
    for (unsigned i = 0; i < type->n_values; i++) {
        if (type->values[i].value == value) {
            buffer_append_byte(out, '"');
            buffer_append_string(out, type->values[i].name);
            buffer_append_byte(out, '"');
            return;
        }
    }
    write_signed(out, value);
}

static void write_number(struct buffer *out, const ProtobufCFieldDescriptor *field, uint64_t value)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_BOOL:
        buffer_append_string(out, value != 0 ? "true" : "false");
        return;
    case PROTOBUF_C_TYPE_ENUM:
        write_enum(out, field->descriptor, (int32_t)(uint32_t)value);
        return;
    case PROTOBUF_C_TYPE_INT32:
        write_signed(out, (int32_t)(uint32_t)value);
        return;
    case PROTOBUF_C_TYPE_UINT32:
        buffer_append_decimal(out, (uint32_t)value);
        return;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_UINT64:
        buffer_append_byte(out, '"');
        if (field->type == PROTOBUF_C_TYPE_INT64) {
            write_signed(out, (int64_t)value);
        } else {
            buffer_append_decimal(out, value);
        }
        buffer_append_byte(out, '"');
        return;
    default:
        CHECK(false && "a kind of field that no message has");
    }
}

/* Whether a singular number is left out. */
static bool is_zero(const ProtobufCFieldDescriptor *field, uint64_t value)
{
    bool is_64 = field->type == PROTOBUF_C_TYPE_INT64 || field->type == PROTOBUF_C_TYPE_UINT64 ||
                 field->type == PROTOBUF_C_TYPE_BOOL;
    return is_64 ? value == 0 : (uint32_t)value == 0;
}

static bool write_message(struct writer *writer, const ProtobufCMessageDescriptor *type, struct bytes message,
                          size_t depth);

static bool write_value(struct writer *writer, const ProtobufCFieldDescriptor *field, const struct protobuf_field *read,
                        size_t depth)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_MESSAGE:
        return write_message(writer, field->descriptor, read->bytes, depth + 1);
    case PROTOBUF_C_TYPE_STRING:
        json_write_string(writer->out, read->bytes);
        return true;
    case PROTOBUF_C_TYPE_BYTES:
        buffer_append_byte(writer->out, '"');
        base64_encode(read->bytes, writer->out);
        buffer_append_byte(writer->out, '"');
        return true;
    default:
        write_number(writer->out, field, read->value);
        return true;
    }
}

/* ---- fields ---- */

static void write_name(struct writer *writer, const ProtobufCFieldDescriptor *field, bool *first)
{
    buffer_append_string(writer->out, *first ? "\"" : ",\"");
    buffer_append_string(writer->out, field->name);
    buffer_append_string(writer->out, "\":");
    *first = false;
}

/* A reader that goes on at `at`, which was found to be well-formed. */
static struct protobuf_reader reader_at(const uint8_t *at, const uint8_t *end)
{
    return (struct protobuf_reader){.at = at, .end = end};
}

static bool write_singular(struct writer *writer, const ProtobufCMessageDescriptor *type,
                           const ProtobufCFieldDescriptor *field, const struct place *place, const uint8_t *end,
                           size_t depth, bool *first)
{
    struct protobuf_reader reader = reader_at(place->last, end);
    struct protobuf_field read;
    CHECK(protobuf_next(&reader, &read));
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        if (place->count > 1) return say(writer, type, field, "comes twice");
    } else if (!is_oneof(field) && (is_delimited(field) ? read.bytes.size == 0 : is_zero(field, read.value))) {
        return true;
    }
    write_name(writer, field, first);
    return write_value(writer, field, &read, depth);
}

static bool write_repeated(struct writer *writer, const ProtobufCMessageDescriptor *type,
                           const ProtobufCFieldDescriptor *field, const struct place *place, const uint8_t *end,
                           size_t depth, bool *first)
{
    bool begun = false;
    struct protobuf_reader reader = reader_at(place->first, end);
    for (size_t seen = 0; seen < place->count;) {
        struct protobuf_field read;
        CHECK(protobuf_next(&reader, &read));
        if (!belongs(field, &read)) continue;
        seen++;
        struct protobuf_reader packed = protobuf_reader_of(read.bytes);
        bool is_pack = is_packed(field, &read);
        while (!is_pack || protobuf_next_packed(&packed, &read.value)) {
            if (!begun) write_name(writer, field, first);
            buffer_append_byte(writer->out, begun ? ',' : '[');
            begun = true;
            if (!write_value(writer, field, &read, depth)) return false;
            if (!is_pack) break;
        }
        if (packed.failed) return say(writer, type, field, "has malformed numbers");
    }
    if (begun) buffer_append_byte(writer->out, ']');
    return true;
}

/* Only the last member of a oneof counts. */
static void forget_others(const ProtobufCMessageDescriptor *type, unsigned index, struct place *places)
{
    for (unsigned i = 0; i < type->n_fields; i++) {
        const ProtobufCFieldDescriptor *other = &type->fields[i];
        if (i != index && is_oneof(other) && other->quantifier_offset == type->fields[index].quantifier_offset) {
            places[i].count = 0;
        }
    }
}

static unsigned index_of(const ProtobufCMessageDescriptor *type, const struct protobuf_field *read)
{
    for (unsigned i = 0; i < type->n_fields; i++) {
        if (belongs(&type->fields[i], read)) return i;
    }
    return UINT32_MAX;
}

/* Reads all of the message, and finds each field's places. */
static bool find_places(struct writer *writer, const ProtobufCMessageDescriptor *type, struct bytes message,
                        struct place *places)
{
    struct protobuf_reader reader = protobuf_reader_of(message);
    const uint8_t *at = reader.at;
    struct protobuf_field read;
    unsigned index = UINT32_MAX;
    while (protobuf_next(&reader, &read)) {
        /* In a large message one field comes many times on end. */
        if (index == UINT32_MAX || !belongs(&type->fields[index], &read)) index = index_of(type, &read);
        if (index != UINT32_MAX) {
            const ProtobufCFieldDescriptor *field = &type->fields[index];
            if (field->type == PROTOBUF_C_TYPE_STRING && !utf8_valid(read.bytes)) {
                return say(writer, type, field, "is not valid UTF-8");
            }
            struct place *place = &places[index];
            if (place->count == 0) place->first = at;
            place->last = at;
            place->count++;
            if (is_oneof(field)) forget_others(type, index, places);
        }
        at = reader.at;
    }
    return !reader.failed || malformed(writer, type);
}

/* The fields come in the order of their numbers, whatever the message's; each is looked for between its first and its last
   place, so that a message in that order is read twice, and one in any other once more for each field at most. */
static bool write_message(struct writer *writer, const ProtobufCMessageDescriptor *type, struct bytes message,
                          size_t depth)
{
    if (depth > PROTOBUF_DEPTH_MAX) {
        if (writer->problem != NULL) {
            buffer_append_format(writer->problem, "the message nests deeper than %u levels", PROTOBUF_DEPTH_MAX);
        }
        return false;
    }
    CHECK(type->n_fields <= FIELDS_MAX);
    struct place places[FIELDS_MAX];
    memset(places, 0, type->n_fields * sizeof places[0]);
    if (!find_places(writer, type, message, places)) return false;

    const uint8_t *end = protobuf_reader_of(message).end;
    bool first = true;
    buffer_append_byte(writer->out, '{');
    for (unsigned i = 0; i < type->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &type->fields[i];
        if (places[i].count == 0) continue;
        bool written = is_repeated(field) ? write_repeated(writer, type, field, &places[i], end, depth, &first)
                                          : write_singular(writer, type, field, &places[i], end, depth, &first);
        if (!written) return false;
    }
    buffer_append_byte(writer->out, '}');
    return true;
}

bool transcode_to_json(const ProtobufCMessageDescriptor *type, struct bytes message, struct buffer *out,
                       struct buffer *problem)
{
    struct writer writer = {.out = out, .problem = problem};
    size_t begin = out->size;
    if (write_message(&writer, type, message, 1)) return true;
    out->size = begin;
    return false;
}
