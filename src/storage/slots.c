#include "storage/slots.h"

#include "base/check.h"
#include "base/crc32c.h"
#include "storage/text.h"

void slot_encode(uint32_t magic, uint32_t version, uint64_t generation, struct bytes payload, uint8_t *slot)
{
    CHECK(payload.size <= SLOT_PAYLOAD_BYTES_MAX);
    memset(slot, 0, SLOT_BYTES);
    put_u32(slot + 4, magic);
    put_u32(slot + 8, version);
    put_u32(slot + 12, (uint32_t)payload.size);
    put_u64(slot + 16, generation);
    if (payload.size > 0) memcpy(slot + SLOT_HEADER_BYTES, payload.data, payload.size);
    put_u32(slot, crc32c(0, slot + 4, SLOT_BYTES - 4));
}

static bool all_zero(struct bytes bytes)
{
    for (size_t i = 0; i < bytes.size; i++) {
        if (bytes.data[i] != 0) return false;
    }
    return true;
}

/* NULL: it is good. */
static const char *slot_fault(uint32_t magic, struct bytes file, size_t offset)
{
    if (file.size < offset + SLOT_BYTES) return "cut short";
    const uint8_t *slot = file.data + offset;
    if (all_zero(bytes_of(slot, SLOT_BYTES))) return "empty";
    if (get_u32(slot) != crc32c(0, slot + 4, SLOT_BYTES - 4)) return "damaged";
    if (get_u32(slot + 4) != magic) return "of another kind";
    if (get_u32(slot + 8) == 0 || get_u32(slot + 12) > SLOT_PAYLOAD_BYTES_MAX) return "malformed";
    return NULL;
}

enum error slot_choose(uint32_t magic, uint32_t version_max, struct bytes file, struct slot_content *out, char *damage)
{
    *out = (struct slot_content){0};
    damage[0] = '\0';
    if (all_zero(file)) return ERR_NO_FILE;

    const uint8_t *chosen = NULL;
    const char *faults[SLOT_COUNT];
    for (size_t i = 0; i < SLOT_COUNT; i++) {
        faults[i] = slot_fault(magic, file, i * SLOT_BYTES);
        out->slot_good[i] = faults[i] == NULL;
        if (!out->slot_good[i]) continue;
        const uint8_t *slot = file.data + i * SLOT_BYTES;
        if (chosen == NULL || get_u64(slot + 16) > get_u64(chosen + 16)) chosen = slot;
    }
    struct buffer text = {0};
    for (size_t i = 0; i < SLOT_COUNT; i++) {
        if (faults[i] == NULL) continue;
        buffer_append_format(&text, "%sslot %zu at offset %zu is %s", text.size == 0 ? "" : "; ", i, i * SLOT_BYTES,
                             faults[i]);
    }
    text_format(damage, SLOT_DAMAGE_BYTES, "%.*s", (int)text.size, (const char *)text.data);
    buffer_free(&text);
    if (chosen == NULL) return ERR_DAMAGED;

    out->version = get_u32(chosen + 8);
    out->generation = get_u64(chosen + 16);
    if (out->version > version_max) {
        text_format(damage, SLOT_DAMAGE_BYTES, "written in format version %u, this program knows %u", out->version,
                    version_max);
        return ERR_BAD_VERSION;
    }
    out->payload = bytes_of(chosen + SLOT_HEADER_BYTES, get_u32(chosen + 12));
    return ERR_OK;
}
