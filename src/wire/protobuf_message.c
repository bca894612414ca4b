#include "wire/protobuf_message.h"

#include "base/check.h"
#include "wire/protobuf.h"
#include "wire/utf8.h"

/*
 * What protobuf-c takes besides the structs: a record for each field of a message while it parses that, the first 16 on
 * its stack, then in slabs of twice the size of the one before; and a record for each unknown field.
 */
#define SLAB_RECORD_BYTES 32u
#define SLAB_RECORDS_ON_STACK 16u

/* A message that was begun. */
struct level {
    const ProtobufCMessageDescriptor *type;
    struct protobuf_reader reader;
    uint64_t seen; /* one bit for each field of the type */
    size_t records;
    size_t slab_records; /* what the records so far have room for */
    size_t last_slab_records;
};

struct checker {
    size_t memory_bytes;
    size_t memory_bytes_max;
    struct buffer *problem;
};

static size_t rounded(size_t size)
{
    return (size + ARENA_ALIGNMENT - 1) / ARENA_ALIGNMENT * ARENA_ALIGNMENT;
}

static enum protobuf_verdict malformed(struct checker *checker, const struct level *level, const char *what)
{
    if (checker->problem != NULL) buffer_append_format(checker->problem, "%s in a %s", what, level->type->name);
    return PROTOBUF_MALFORMED;
}

static enum protobuf_verdict bad_field(struct checker *checker, const struct level *level,
                                       const ProtobufCFieldDescriptor *field, const char *what)
{
    if (checker->problem != NULL) {
        buffer_append_format(checker->problem, "the field %s of a %s %s", field->name, level->type->name, what);
    }
    return PROTOBUF_MALFORMED;
}

static const ProtobufCFieldDescriptor *find_field(const ProtobufCMessageDescriptor *type, uint32_t number)
{
    /* Mostly numbered from 1 without gaps. */
    if (number <= type->n_fields && type->fields[number - 1].id == number) return &type->fields[number - 1];
    for (unsigned i = 0; i < type->n_fields; i++) {
        if (type->fields[i].id == number) return &type->fields[i];
    }
    return NULL;
}

static bool is_number(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return false;
    default:
        return true;
    }
}

/* The wire types that these messages' kinds of fields have; fixed numbers and floats aren't among them. */
static enum protobuf_wire_type wire_type_of(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_BOOL:
    case PROTOBUF_C_TYPE_ENUM:
        return PROTOBUF_VARINT;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return PROTOBUF_BYTES;
    default:
        CHECK(false && "a kind of field that no message has");
        return PROTOBUF_BYTES;
    }
}

static size_t element_bytes(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_ENUM:
        return sizeof(uint32_t);
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    default:
        return sizeof(uint64_t);
    }
}

static void count_record(struct checker *checker, struct level *level)
{
    if (++level->records <= level->slab_records) return;
    level->last_slab_records *= 2;
    level->slab_records += level->last_slab_records;
    checker->memory_bytes += level->last_slab_records * SLAB_RECORD_BYTES;
}

static void begin_message(struct checker *checker, struct level *level, const ProtobufCMessageDescriptor *type,
                          struct bytes message)
{
    CHECK(type->n_fields <= 64);
    *level = (struct level){
        .type = type,
        .reader = protobuf_reader_of(message),
        .slab_records = SLAB_RECORDS_ON_STACK,
        .last_slab_records = SLAB_RECORDS_ON_STACK,
    };
    checker->memory_bytes += rounded(type->sizeof_message);
}

static enum protobuf_verdict check_packed(struct checker *checker, const struct level *level,
                                          const ProtobufCFieldDescriptor *field, struct bytes packed)
{
    struct protobuf_reader reader = protobuf_reader_of(packed);
    uint64_t value;
    while (protobuf_next_packed(&reader, &value)) checker->memory_bytes += element_bytes(field->type);
    return reader.failed ? bad_field(checker, level, field, "has malformed numbers") : PROTOBUF_GOOD;
}

static enum protobuf_verdict check_string(struct checker *checker, const struct level *level,
                                          const ProtobufCFieldDescriptor *field, struct bytes text)
{
    if (!utf8_valid(text)) return bad_field(checker, level, field, "is not valid UTF-8");
    if (text.size > 0 && memchr(text.data, 0, text.size) != NULL) {
        return bad_field(checker, level, field, "has a zero byte in it");
    }
    return PROTOBUF_GOOD;
}

static enum protobuf_verdict check_field(struct checker *checker, struct level *level,
                                         const struct protobuf_field *read, bool *is_message)
{
    *is_message = false;
    count_record(checker, level);
    const ProtobufCFieldDescriptor *field = find_field(level->type, protobuf_field_number(read));
    if (field == NULL) {
        /* At most ten bytes where it isn't PROTOBUF_BYTES; then its length counts too. */
        checker->memory_bytes += sizeof(ProtobufCMessageUnknownField) + rounded(read->bytes.size + 16);
        return PROTOBUF_GOOD;
    }
    uint64_t bit = (uint64_t)1 << (field - level->type->fields);
    bool again = (level->seen & bit) != 0;
    level->seen |= bit;
    bool repeated = field->label == PROTOBUF_C_LABEL_REPEATED;
    if (repeated && !again) checker->memory_bytes += ARENA_ALIGNMENT; /* what rounding up the array may take */

    if (protobuf_field_type(read) == PROTOBUF_BYTES && repeated && is_number(field->type)) {
        return check_packed(checker, level, field, read->bytes);
    }
    if (protobuf_field_type(read) != wire_type_of(field->type)) {
        return bad_field(checker, level, field, "has another wire type");
    }
    if (repeated) checker->memory_bytes += element_bytes(field->type);
    switch (field->type) {
    case PROTOBUF_C_TYPE_MESSAGE:
        if (again && !repeated) return bad_field(checker, level, field, "comes twice");
        *is_message = true;
        return PROTOBUF_GOOD;
    case PROTOBUF_C_TYPE_STRING:
        checker->memory_bytes += rounded(read->bytes.size + 1);
        return check_string(checker, level, field, read->bytes);
    case PROTOBUF_C_TYPE_BYTES:
        checker->memory_bytes += rounded(read->bytes.size);
        return PROTOBUF_GOOD;
    default:
        return PROTOBUF_GOOD;
    }
}

static enum protobuf_verdict check_all(struct checker *checker, const ProtobufCMessageDescriptor *type,
                                       struct bytes message)
{
    struct level levels[PROTOBUF_DEPTH_MAX];
    size_t depth = 1;
    begin_message(checker, &levels[0], type, message);
    while (depth > 0) {
        struct level *level = &levels[depth - 1];
        struct protobuf_field read;
        if (!protobuf_next(&level->reader, &read)) {
            if (level->reader.failed) return malformed(checker, level, "malformed protobuf");
            depth--;
            continue;
        }
        bool is_message;
        enum protobuf_verdict verdict = check_field(checker, level, &read, &is_message);
        if (verdict != PROTOBUF_GOOD) return verdict;
        if (is_message) {
            if (depth == PROTOBUF_DEPTH_MAX) {
                if (checker->problem != NULL) {
                    buffer_append_format(checker->problem, "the message nests deeper than %u levels",
                                         PROTOBUF_DEPTH_MAX);
                }
                return PROTOBUF_TOO_DEEP;
            }
            const ProtobufCFieldDescriptor *field = find_field(level->type, protobuf_field_number(&read));
            begin_message(checker, &levels[depth++], field->descriptor, read.bytes);
        }
        if (checker->memory_bytes > checker->memory_bytes_max) {
            if (checker->problem != NULL) {
                buffer_append_format(checker->problem,
                                     "the message has too many fields: it would take more than %zu bytes of memory",
                                     checker->memory_bytes_max);
            }
            return PROTOBUF_TOO_LARGE;
        }
    }
    return PROTOBUF_GOOD;
}

enum protobuf_verdict protobuf_check(const ProtobufCMessageDescriptor *type, struct bytes message,
                                     size_t memory_bytes_max, size_t *memory_bytes, struct buffer *problem)
{
    struct checker checker = {.memory_bytes_max = memory_bytes_max, .problem = problem};
    enum protobuf_verdict verdict = check_all(&checker, type, message);
    if (memory_bytes != NULL) *memory_bytes = checker.memory_bytes;
    return verdict;
}

/* ---- unpacking and packing ---- */

static void *unpack_alloc(void *arena, size_t size)
{
    return arena_alloc(arena, size);
}

static void unpack_free(void *arena, void *memory)
{
    (void)arena;
    (void)memory;
}

enum protobuf_verdict protobuf_unpack(const ProtobufCMessageDescriptor *type, struct bytes message,
                                      size_t memory_bytes_max, struct arena *arena, ProtobufCMessage **out,
                                      struct buffer *problem)
{
    *out = NULL;
    enum protobuf_verdict verdict = protobuf_check(type, message, memory_bytes_max, NULL, problem);
    if (verdict != PROTOBUF_GOOD) return verdict;
    ProtobufCAllocator allocator = {.alloc = unpack_alloc, .free = unpack_free, .allocator_data = arena};
    *out = protobuf_c_message_unpack(type, &allocator, message.size, message.data);
    if (*out == NULL) {
        /* The check is the stricter one, as fuzz_protobuf shows; but that is no reason to trust a message's bytes. */
        if (problem != NULL) buffer_append_format(problem, "malformed protobuf in a %s", type->name);
        return PROTOBUF_MALFORMED;
    }
    return PROTOBUF_GOOD;
}

void protobuf_pack(const ProtobufCMessage *message, struct buffer *out)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    if (size == 0) return;
    buffer_reserve(out, size);
    size_t packed = protobuf_c_message_pack(message, out->data + out->size);
    CHECK(packed == size);
    out->size += size;
}
