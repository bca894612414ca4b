#include "storage/log_metadata.h"

#include "storage/text.h"

#define PAYLOAD_BYTES 24u

void log_metadata_encode(const struct log_metadata *metadata, uint64_t generation, uint8_t *slot)
{
    uint8_t payload[PAYLOAD_BYTES];
    put_u64(payload, metadata->log_id);
    put_u64(payload + 8, metadata->first_segment);
    put_u64(payload + 16, metadata->last_segment);
    slot_encode(LOG_METADATA_MAGIC, LOG_METADATA_VERSION, generation, bytes_of(payload, sizeof payload), slot);
}

enum error log_metadata_decode(struct bytes file, struct log_metadata *out, uint64_t *generation, char *damage)
{
    struct slot_content content;
    enum error error = slot_choose(LOG_METADATA_MAGIC, LOG_METADATA_VERSION, file, &content, damage);
    if (error != ERR_OK) return error;
    struct reader reader = reader_of(content.payload);
    out->log_id = reader_u64(&reader);
    out->first_segment = reader_u64(&reader);
    out->last_segment = reader_u64(&reader);
    if (reader.failed || reader_left(&reader) != 0) {
        text_format(damage, SLOT_DAMAGE_BYTES, "the log's metadata at offset %zu make no sense",
                    (size_t)(content.payload.data - file.data));
        return ERR_DAMAGED;
    }
    *generation = content.generation;
    return ERR_OK;
}
