/*
 * slots.h - a small record in two checked slots. (RaftStatePersistence, MetadataPersistence,
 * SnapshotMetadataPersistence stand on it)
 *
 * A file of 8192 bytes, two slots of 4096 each, preallocated:
 *
 *     offset  size  field
 *          0     4  crc32c of bytes 4..4095
 *          4     4  magic, one for each kind of file
 *          8     4  format version
 *         12     4  payload bytes
 *         16     8  generation: counts up with each save
 *         24     …  payload, then zeros
 *
 * A save writes slot 0 and syncs, then slot 1 and syncs, with the same bytes, and only then counts.
 * So whenever something was said on the strength of a save, both slots hold it: one good slot is
 * enough, and falling back to it never forgets what was said. Two slots that differ mean a crash
 * between the two writes: the newer is taken (it was not relied on, which is harmless). Before anything
 * is said on the strength of it, it must be saved again, into both.
 */
#ifndef CORACLE_STORAGE_SLOTS_H
#define CORACLE_STORAGE_SLOTS_H

#include "base/bytes.h"
#include "base/error.h"

#define SLOT_BYTES 4096u
#define SLOT_COUNT 2u
#define SLOT_HEADER_BYTES 24u
#define SLOT_PAYLOAD_BYTES_MAX (SLOT_BYTES - SLOT_HEADER_BYTES)
#define SLOT_DAMAGE_BYTES 256

/* `slot` has SLOT_BYTES; the payload must fit. */
void slot_encode(uint32_t magic, uint32_t version, uint64_t generation, struct bytes payload, uint8_t *slot);

struct slot_content {
    uint32_t version;
    uint64_t generation;
    struct bytes payload; /* a view into the file's bytes */
    bool slot_good[SLOT_COUNT];
};

/*
 * Chooses from the file's bytes. ERR_NO_FILE when all of it is zero or it is empty (never saved);
 * ERR_DAMAGED when there is no good slot; ERR_BAD_VERSION when the version is above version_max.
 * `damage` (SLOT_DAMAGE_BYTES) says for a person which slots aren't good, with their offsets, also when
 * the other one was chosen; else "".
 */
enum error slot_choose(uint32_t magic, uint32_t version_max, struct bytes file, struct slot_content *out, char *damage);

#endif
