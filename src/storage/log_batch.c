#include "storage/log_batch.h"

#include "base/mem.h"
#include "storage/log_scan.h"

void log_batch_clear(struct log_batch *batch)
{
    for (uint32_t i = 0; i < batch->entry_count; i++) entry_unref(batch->entries[i]);
    batch->entry_count = 0;
}

void log_batch_free(struct log_batch *batch)
{
    log_batch_clear(batch);
    mem_free(batch->entries);
    *batch = (struct log_batch){0};
}

static const char *parse(struct log_batch *batch, struct bytes content, const struct log_block_header *header)
{
    struct reader reader = reader_of(content);
    batch->first_index = reader_u64(&reader);
    batch->commit = reader_u64(&reader);
    uint32_t count = reader_u32(&reader);
    uint32_t record_bytes = reader_u32(&reader);
    if (reader.failed || record_bytes != reader_left(&reader)) return "its records' size is wrong";
    /* Bounds the array by what is really there. */
    if (count == 0 || count > record_bytes / ENTRY_HEADER_BYTES) return "its count of entries is wrong";
    if (batch->first_index == 0 || batch->first_index > UINT64_MAX - count) return "its first index is impossible";

    if (count > batch->entry_capacity) {
        batch->entries = mem_realloc(batch->entries, count * sizeof(struct entry *));
        batch->entry_capacity = count;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct entry *entry;
        if (entry_read(&reader, &entry) != ERR_OK) return "a record is malformed";
        batch->entries[batch->entry_count++] = entry;
        if (entry_index(entry) != batch->first_index + i) return "a record's index is out of order";
        if (i == 0) continue;
        if (entry_term(entry) < entry_term(batch->entries[i - 1])) return "a record's term is out of order";
        if (!entry_follows(entry, entry_chain(batch->entries[i - 1]))) return "a record breaks the chain";
    }
    if (reader_left(&reader) != 0) return "bytes follow its last record";
    batch->last_index = batch->first_index + count - 1;
    batch->last_term = entry_term(batch->entries[count - 1]);
    if (batch->last_index != header->last_index || batch->last_term != header->last_term) {
        return "its last record isn't the one that its blocks name";
    }
    return NULL;
}

enum error log_batch_parse(struct log_batch *batch, struct bytes content, const struct log_block_header *header,
                           const char **reason)
{
    batch->entry_count = 0;
    *reason = parse(batch, content, header);
    if (*reason == NULL) return ERR_OK;
    log_batch_clear(batch);
    return ERR_DAMAGED;
}

enum error log_batch_decode(const struct log_batch_place *place, const uint8_t *data, size_t size,
                            struct entry ***entries, uint32_t *entry_count, uint64_t *bad_offset)
{
    struct buffer content = {0};
    struct log_block_header first = {.count = 1};
    enum error error = ERR_OK;
    for (uint32_t i = 0; i < first.count && error == ERR_OK; i++) {
        *bad_offset = place->offset + (uint64_t)i * LOG_BLOCK_BYTES;
        if (size < LOG_BLOCK_BYTES) {
            error = ERR_DAMAGED;
            break;
        }
        struct log_block_header header;
        uint32_t block_number = (uint32_t)(*bad_offset / LOG_BLOCK_BYTES);
        if (log_block_read(place->log_id, place->segment_number, block_number, data, &header) != LOG_BLOCK_GOOD) {
            error = ERR_DAMAGED;
            break;
        }
        if (i == 0) first = header;
        if (header.number != i || header.count != first.count || header.batch_number != first.batch_number ||
            header.batch_number != (uint32_t)place->batch_number || header.last_index != first.last_index ||
            header.last_term != first.last_term) {
            error = ERR_DAMAGED;
            break;
        }
        buffer_append(&content, data + LOG_BLOCK_CONTENT_OFFSET, header.used_bytes);
        data += LOG_BLOCK_BYTES;
        size -= LOG_BLOCK_BYTES;
    }
    if (error == ERR_OK) {
        struct log_batch batch = {0};
        const char *reason;
        *bad_offset = place->offset;
        error = log_batch_parse(&batch, buffer_bytes(&content), &first, &reason);
        if (error == ERR_OK) {
            *entries = batch.entries;
            *entry_count = batch.entry_count;
        } else {
            log_batch_free(&batch);
        }
    }
    buffer_free(&content);
    return error;
}
