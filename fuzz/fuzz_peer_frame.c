/*
 * fuzz_peer_frame.c - any bytes from a peer. With an odd first byte size and checksum are made right, as in a frame of a
 * peer that is wrong on purpose; what is decoded then must encode to the same message.
 */
#include "base/check.h"
#include "base/crc32c.h"
#include "base/mem.h"
#include "replica/command.h"
#include "replica/peer_codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_greeting(const struct peer_frame *frame)
{
    struct peer_greeting greeting;
    enum error error = peer_greeting_decode(frame, &greeting);
    CHECK(error == ERR_OK || error == ERR_BAD_FRAME);
    if (error != ERR_OK) return;
    struct buffer out = {0};
    peer_greeting_encode(&greeting, &out);
    struct peer_frame again;
    size_t frame_bytes;
    struct peer_greeting decoded;
    CHECK(peer_frame_next(buffer_bytes(&out), &again, &frame_bytes) == ERR_OK && frame_bytes == out.size);
    CHECK(peer_greeting_decode(&again, &decoded) == ERR_OK);
    CHECK(strcmp(greeting.node_id, decoded.node_id) == 0 && strcmp(greeting.product, decoded.product) == 0);
    CHECK(greeting.member == decoded.member && greeting.cluster_id == decoded.cluster_id);
    buffer_free(&out);
}

static void check_entries(const struct peer_message *message)
{
    for (uint32_t i = 0; i < message->entry_count; i++) {
        const struct entry *entry = message->entries[i];
        CHECK(entry->refs == 1);
        struct command command;
        if (entry_type_of(entry) != ENTRY_COMMAND) continue;
        if (command_format_decode(entry_payload_bytes(entry), &command) != ERR_OK) continue;
        CHECK(command.key.size + command.value.size + COMMAND_HEADER_BYTES == entry_payload_bytes(entry).size);
    }
}

static void check_message(const struct peer_frame *frame)
{
    struct peer_message message;
    enum error error = peer_message_decode(frame, &message);
    CHECK(error == ERR_OK || error == ERR_BAD_FRAME);
    if (error != ERR_OK) return;
    check_entries(&message);
    struct buffer first = {0}, second = {0};
    peer_message_encode(&message, &first);
    struct peer_frame again;
    size_t frame_bytes;
    struct peer_message decoded;
    CHECK(peer_frame_next(buffer_bytes(&first), &again, &frame_bytes) == ERR_OK && frame_bytes == first.size);
    CHECK(peer_message_decode(&again, &decoded) == ERR_OK);
    peer_message_encode(&decoded, &second);
    CHECK(bytes_equal(buffer_bytes(&first), buffer_bytes(&second)));
    CHECK(bytes_equal(frame->trailer, again.trailer));
    peer_message_release(&message);
    peer_message_release(&decoded);
    buffer_free(&first);
    buffer_free(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    size_t frame_size = size - 1;
    uint8_t *copy = mem_alloc(frame_size + 1);
    memcpy(copy, data + 1, frame_size);
    if (data[0] % 2 == 1 && frame_size >= PEER_FRAME_HEADER_BYTES) {
        put_u32(copy, (uint32_t)(frame_size - PEER_FRAME_HEADER_BYTES));
        put_u32(copy + 4, crc32c(0, copy + 8, frame_size - 8));
    }
    struct peer_frame frame;
    size_t frame_bytes;
    enum error error = peer_frame_next(bytes_of(copy, frame_size), &frame, &frame_bytes);
    CHECK(error == ERR_OK || error == ERR_NOT_READY || error == ERR_BAD_FRAME);
    if (error == ERR_OK) {
        CHECK(frame_bytes <= frame_size);
        if (frame.kind == PEER_FRAME_GREETING) {
            check_greeting(&frame);
        } else {
            check_message(&frame);
        }
    }
    mem_free(copy);
    return 0;
}
