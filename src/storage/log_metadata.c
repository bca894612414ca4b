#include "storage/log_metadata.h"

#include "storage/text.h"

void log_metadata_encode(const struct log_metadata *metadata, uint64_t generation, uint8_t *slot)
{
    struct buffer payload = {0};
    buffer_append_u64(&payload, metadata->log_id);
    buffer_append_u64(&payload, metadata->first_segment);
    buffer_append_u64(&payload, metadata->last_segment);
    if (metadata->identity.member != 0) raft_state_append_payload(&metadata->identity, &payload);
    slot_encode(LOG_METADATA_MAGIC, LOG_METADATA_VERSION, generation, buffer_bytes(&payload), slot);
    buffer_free(&payload);
}

enum error log_metadata_decode(struct bytes file, struct log_metadata *out, uint64_t *generation, char *damage)
{
    struct slot_content content;
    enum error error = slot_choose(LOG_METADATA_MAGIC, LOG_METADATA_VERSION, file, &content, damage);
    if (error != ERR_OK) return error;
    struct reader reader = reader_of(content.payload);
    *out = (struct log_metadata){0};
    out->log_id = reader_u64(&reader);
    out->first_segment = reader_u64(&reader);
    out->last_segment = reader_u64(&reader);
    struct bytes identity = reader_bytes(&reader, reader_left(&reader));
    if (reader.failed || (identity.size > 0 && !raft_state_decode_payload(identity, &out->identity))) {
        text_format(damage, SLOT_DAMAGE_BYTES, "the log's metadata at offset %zu make no sense",
                    (size_t)(content.payload.data - file.data));
        return ERR_DAMAGED;
    }
    *generation = content.generation;
    return ERR_OK;
}
