/*
 * fuzz_protobuf.c - any bytes as any message of the etcd v3 interface: the first byte says which.
 *
 * What the check lets pass unpacks, into no more memory than it said; and packs to bytes that mean the same again.
 */
#include "base/check.h"
#include "test/unit/etcd_messages.h"
#include "wire/protobuf.h"
#include "wire/protobuf_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_fields(struct bytes message)
{
    struct protobuf_reader reader = protobuf_reader_of(message);
    struct protobuf_field field;
    const uint8_t *before = reader.at;
    while (protobuf_next(&reader, &field)) {
        CHECK(reader.at > before);
        CHECK(protobuf_field_number(&field) >= 1 && protobuf_field_number(&field) <= PROTOBUF_FIELD_NUMBER_MAX);
        CHECK(field.bytes.size == 0 || field.bytes.data + field.bytes.size == reader.at);
        before = reader.at;
    }
    CHECK(reader.at == reader.end);
}

static enum protobuf_verdict unpack(const ProtobufCMessageDescriptor *type, struct bytes message, struct arena *arena,
                                    ProtobufCMessage **out)
{
    struct buffer problem = {0};
    size_t memory_bytes;
    enum protobuf_verdict verdict = protobuf_check(type, message, PROTOBUF_MEMORY_BYTES_MAX, &memory_bytes, &problem);
    CHECK((problem.size == 0) == (verdict == PROTOBUF_GOOD));
    CHECK(protobuf_unpack(type, message, PROTOBUF_MEMORY_BYTES_MAX, arena, out, NULL) == verdict);
    CHECK(arena->used_bytes <= (verdict == PROTOBUF_GOOD ? memory_bytes : 0));
    buffer_free(&problem);
    return verdict;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    const ProtobufCMessageDescriptor *type = etcd_message(data[0]);
    if (type == NULL) return -1;
    struct bytes message = bytes_of(data + 1, size - 1);
    read_fields(message);

    struct arena arena = {0}, again_arena = {0};
    struct buffer packed = {0}, packed_again = {0};
    ProtobufCMessage *unpacked, *again;
    if (unpack(type, message, &arena, &unpacked) == PROTOBUF_GOOD) {
        protobuf_pack(unpacked, &packed);
        CHECK(unpack(type, buffer_bytes(&packed), &again_arena, &again) == PROTOBUF_GOOD);
        protobuf_pack(again, &packed_again);
        CHECK(bytes_equal(buffer_bytes(&packed), buffer_bytes(&packed_again)));
    }
    buffer_free(&packed);
    buffer_free(&packed_again);
    arena_free(&arena);
    arena_free(&again_arena);
    return 0;
}
