/*
 * Reads any bytes as a file of two slots, of each kind. What is accepted must be the same after it is saved and read again.
 * So that the input gets past the checksums, the first byte's lowest bits have those of slot 0 and 1 made right.
 *
 * Input: 1 byte of flags, 1 byte kind, then for each slot 2 bytes of length, and its front; the rest of a slot is zero.
 */
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/crc32c.h"
#include "storage/debug_print.h"
#include "storage/log_metadata.h"
#include "storage/raft_state.h"
#include "storage/snapshot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_raft_state(const struct raft_state *state, uint64_t generation)
{
    uint8_t slot[SLOT_BYTES];
    struct raft_state again;
    uint64_t again_generation;
    char damage[SLOT_DAMAGE_BYTES];
    raft_state_encode(state, generation, slot);
    CHECK(raft_state_decode(bytes_of(slot, sizeof slot), &again, &again_generation, damage) == ERR_OK);
    CHECK(memcmp(&again, state, sizeof again) == 0 && again_generation == generation);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint32_t magics[] = {RAFT_STATE_MAGIC, LOG_METADATA_MAGIC, SNAPSHOT_METADATA_MAGIC};
    uint8_t file[SLOT_COUNT * SLOT_BYTES] = {0};
    struct reader reader = reader_of(bytes_of(data, size));
    uint8_t flags = reader_u8(&reader);
    uint32_t magic = magics[reader_u8(&reader) % 3];
    for (size_t i = 0; i < SLOT_COUNT; i++) {
        uint8_t *slot = file + i * SLOT_BYTES;
        size_t length = reader_u16(&reader) % (SLOT_BYTES + 1);
        if (length > reader_left(&reader)) length = reader_left(&reader);
        struct bytes front = reader_bytes(&reader, length);
        if (front.size > 0) memcpy(slot, front.data, front.size);
        if (flags & 1u << i) {
            put_u32(slot + 4, magic);
            put_u32(slot, crc32c(0, slot + 4, SLOT_BYTES - 4));
        }
    }
    struct bytes bytes = bytes_of(file, flags & 4 ? sizeof file : (size_t)flags * 32);

    struct slot_content content;
    char damage[SLOT_DAMAGE_BYTES];
    enum error error = slot_choose(magic, 1, bytes, &content, damage);
    CHECK(error == ERR_OK || error == ERR_NO_FILE || error == ERR_DAMAGED || error == ERR_BAD_VERSION);
    CHECK(error == ERR_OK || error == ERR_NO_FILE || damage[0] != '\0');
    if (error == ERR_OK) CHECK(content.slot_good[0] || content.slot_good[1]);

    uint64_t generation;
    struct raft_state raft_state;
    struct log_metadata log_metadata;
    struct snapshot_metadata snapshot_metadata;
    if (raft_state_decode(bytes, &raft_state, &generation, damage) == ERR_OK) {
        check_raft_state(&raft_state, generation);
    }
    log_metadata_decode(bytes, &log_metadata, &generation, damage);
    snapshot_metadata_decode(bytes, &snapshot_metadata, &generation, damage);

    struct buffer out = {0};
    struct debug_print_options options = {.kind = DEBUG_PRINT_STATE, .json = flags & 8};
    struct debug_print *print = debug_print_new(&options);
    debug_print_feed(print, bytes, &out);
    debug_print_finish(print, &out);
    debug_print_free(print);
    buffer_free(&out);
    return 0;
}
