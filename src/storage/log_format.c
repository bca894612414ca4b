#include "storage/log_format.h"

#include "base/check.h"
#include "base/crc32c.h"
#include "storage/file_name.h"

#define SEGMENT_MAGIC 0x47534c43u /* "CLSG" */
#define END_MARK 0xa55au
#define END_MARK_OFFSET 510u

#define OWED_SOMETHING 1u
#define OWED_BEYOND 2u

_Static_assert(LOG_BLOCK_CONTENT_OFFSET + LOG_BLOCK_CONTENT_BYTES == END_MARK_OFFSET, "the content fills a block");

#define NAME_PREFIX "log-"
#define NAME_SUFFIX ".seg"
_Static_assert(sizeof NAME_PREFIX + FILE_NAME_DIGITS + sizeof NAME_SUFFIX - 1 == LOG_SEGMENT_NAME_BYTES,
               "fits exactly");

/* ---- The segment's header ---- */

void log_segment_header_encode(const struct log_segment_header *header, uint8_t *block)
{
    memset(block, 0, LOG_BLOCK_BYTES);
    put_u32(block + 4, SEGMENT_MAGIC);
    put_u32(block + 8, LOG_VERSION);
    put_u64(block + 16, header->log_id);
    put_u64(block + 24, header->number);
    put_u64(block + 32, header->size_bytes);
    put_u64(block + 40, header->first_index);
    put_u64(block + 48, header->previous_term);
    put_u32(block + 56, header->previous_chain);
    put_u64(block + 64, header->first_batch_number);
    if (header->owed) {
        put_u64(block + 72, header->owed_index);
        put_u64(block + 80, header->owed_term);
        block[88] = (uint8_t)(OWED_SOMETHING | (header->owed_extent_known ? 0 : OWED_BEYOND));
    }
    put_u16(block + END_MARK_OFFSET, END_MARK);
    put_u32(block, crc32c(0, block + 4, LOG_BLOCK_BYTES - 4));
}

enum error log_segment_header_decode(const uint8_t *block, struct log_segment_header *out)
{
    if (log_block_is_zero(block)) return ERR_NO_FILE;
    if (get_u32(block) != crc32c(0, block + 4, LOG_BLOCK_BYTES - 4)) return ERR_DAMAGED;
    if (get_u32(block + 4) != SEGMENT_MAGIC || get_u16(block + END_MARK_OFFSET) != END_MARK) return ERR_DAMAGED;
    uint32_t version = get_u32(block + 8);
    if (version > LOG_VERSION) return ERR_BAD_VERSION;
    if (version == 0) return ERR_DAMAGED;
    uint8_t owed = block[88];
    *out = (struct log_segment_header){
        .log_id = get_u64(block + 16),
        .number = get_u64(block + 24),
        .size_bytes = get_u64(block + 32),
        .first_index = get_u64(block + 40),
        .previous_term = get_u64(block + 48),
        .previous_chain = get_u32(block + 56),
        .first_batch_number = get_u64(block + 64),
        .owed = owed != 0,
        .owed_extent_known = owed == OWED_SOMETHING,
        .owed_index = get_u64(block + 72),
        .owed_term = get_u64(block + 80),
    };
    return out->first_index == 0 || out->number == 0 ? ERR_DAMAGED : ERR_OK;
}

/* ---- Blocks ---- */

bool log_block_is_zero(const uint8_t *block)
{
    /* A used block shows it in its first or last bytes; so this ends early but for those that are zero. */
    if (get_u64(block) != 0 || get_u64(block + LOG_BLOCK_BYTES - 8) != 0) return false;
    uint64_t any = 0;
    for (size_t at = 0; at < LOG_BLOCK_BYTES; at += 8) any |= get_u64(block + at);
    return any == 0;
}

bool log_block_is_cut(const uint8_t *block)
{
    if (block[LOG_BLOCK_BYTES - 1] != 0) return false;
    /* Cut one byte before the end, half of the mark is there. */
    return block[LOG_BLOCK_BYTES - 2] == 0 || block[LOG_BLOCK_BYTES - 2] == (END_MARK & 0xff);
}

bool log_block_is_marked(const uint8_t *block)
{
    return get_u16(block + END_MARK_OFFSET) == END_MARK;
}

/* What every block of the segment has in front for its checksum, but for the block's number. */
static uint32_t segment_seed(uint64_t log_id, uint64_t segment_number)
{
    uint8_t front[16];
    put_u64(front, log_id);
    put_u64(front + 8, segment_number);
    return crc32c(0, front, sizeof front);
}

static uint32_t block_crc(uint32_t seed, uint32_t block_number, const uint8_t *block)
{
    uint8_t number[4];
    put_u32(number, block_number);
    return crc32c(crc32c(seed, number, sizeof number), block + 4, LOG_BLOCK_BYTES - 4);
}

enum log_block_state log_block_read(uint64_t log_id, uint64_t segment_number, uint32_t block_number,
                                    const uint8_t *block, struct log_block_header *out)
{
    if (log_block_is_zero(block)) return LOG_BLOCK_UNTOUCHED;
    if (log_block_is_cut(block)) return LOG_BLOCK_CUT;
    if (!log_block_is_marked(block)) return LOG_BLOCK_DAMAGED;
    if (get_u32(block) != block_crc(segment_seed(log_id, segment_number), block_number, block)) {
        return LOG_BLOCK_DAMAGED;
    }
    *out = (struct log_block_header){
        .batch_number = get_u32(block + 4),
        .number = get_u16(block + 8),
        .count = get_u16(block + 10),
        .used_bytes = get_u16(block + 12),
        .last_index = get_u64(block + 16),
        .last_term = get_u64(block + 24),
    };
    /* All blocks but a batch's last are full; a writer makes nothing else. */
    bool last = out->number + 1 == out->count;
    bool possible = out->number < out->count && out->count <= LOG_BATCH_BLOCKS_MAX && out->number <= block_number &&
                    out->used_bytes >= 1 && out->used_bytes <= LOG_BLOCK_CONTENT_BYTES &&
                    (last || out->used_bytes == LOG_BLOCK_CONTENT_BYTES) && out->last_index > 0;
    return possible ? LOG_BLOCK_GOOD : LOG_BLOCK_DAMAGED;
}

const char *log_block_state_name(enum log_block_state state)
{
    switch (state) {
    case LOG_BLOCK_GOOD:
        return "good";
    case LOG_BLOCK_UNTOUCHED:
        return "untouched";
    case LOG_BLOCK_CUT:
        return "cut";
    case LOG_BLOCK_DAMAGED:
        return "damaged";
    }
    return "unknown";
}

/* ---- Batches ---- */

static size_t batch_block_count(size_t record_bytes)
{
    return (LOG_BATCH_HEADER_BYTES + record_bytes + LOG_BLOCK_CONTENT_BYTES - 1) / LOG_BLOCK_CONTENT_BYTES;
}

size_t log_batch_file_bytes(size_t record_bytes)
{
    size_t bytes = batch_block_count(record_bytes) * LOG_BLOCK_BYTES;
    return (bytes + LOG_BATCH_ALIGNMENT - 1) / LOG_BATCH_ALIGNMENT * LOG_BATCH_ALIGNMENT;
}

/* Spreads bytes over the content areas of consecutive blocks. */
struct content_writer {
    uint8_t *content; /* of the block that is being filled */
    size_t filled;
};

static void content_write(struct content_writer *writer, const uint8_t *data, size_t size)
{
    while (size > 0) {
        if (writer->filled == LOG_BLOCK_CONTENT_BYTES) {
            writer->content += LOG_BLOCK_BYTES;
            writer->filled = 0;
        }
        size_t part = LOG_BLOCK_CONTENT_BYTES - writer->filled;
        if (part > size) part = size;
        memcpy(writer->content + writer->filled, data, part);
        writer->filled += part;
        data += part;
        size -= part;
    }
}

void log_batch_encode(const struct log_batch_place *place, raft_index commit, struct entry *const *entries,
                      uint32_t entry_count, uint8_t *out)
{
    CHECK(entry_count > 0);
    CHECK(place->offset % LOG_BATCH_ALIGNMENT == 0 && place->offset >= LOG_SEGMENT_HEADER_BYTES);
    size_t record_bytes = 0;
    for (uint32_t i = 0; i < entry_count; i++) {
        CHECK(entry_index(entries[i]) == entry_index(entries[0]) + i);
        record_bytes += entries[i]->record_bytes;
    }
    CHECK(record_bytes <= LOG_BATCH_RECORD_BYTES_MAX);

    size_t count = batch_block_count(record_bytes);
    uint8_t header[LOG_BATCH_HEADER_BYTES];
    put_u64(header, entry_index(entries[0]));
    put_u64(header + 8, commit);
    put_u32(header + 16, entry_count);
    put_u32(header + 20, (uint32_t)record_bytes);

    struct content_writer writer = {.content = out + LOG_BLOCK_CONTENT_OFFSET};
    content_write(&writer, header, sizeof header);
    for (uint32_t i = 0; i < entry_count; i++) content_write(&writer, entries[i]->record, entries[i]->record_bytes);
    CHECK(writer.content == out + (count - 1) * LOG_BLOCK_BYTES + LOG_BLOCK_CONTENT_OFFSET);
    memset(writer.content + writer.filled, 0, LOG_BLOCK_CONTENT_BYTES - writer.filled);

    const struct entry *last = entries[entry_count - 1];
    uint32_t seed = segment_seed(place->log_id, place->segment_number);
    uint32_t first_block = (uint32_t)(place->offset / LOG_BLOCK_BYTES);
    for (size_t i = 0; i < count; i++) {
        uint8_t *block = out + i * LOG_BLOCK_BYTES;
        put_u32(block + 4, (uint32_t)place->batch_number);
        put_u16(block + 8, (uint16_t)i);
        put_u16(block + 10, (uint16_t)count);
        put_u16(block + 12, (uint16_t)(i + 1 == count ? writer.filled : LOG_BLOCK_CONTENT_BYTES));
        put_u16(block + 14, 0);
        put_u64(block + 16, entry_index(last));
        put_u64(block + 24, entry_term(last));
        put_u16(block + END_MARK_OFFSET, END_MARK);
        put_u32(block, block_crc(seed, first_block + (uint32_t)i, block));
    }
    memset(out + count * LOG_BLOCK_BYTES, 0, log_batch_file_bytes(record_bytes) - count * LOG_BLOCK_BYTES);
}

/* ---- Names ---- */

void log_segment_name(uint64_t number, char *out)
{
    file_name_encode(NAME_PREFIX, number, NAME_SUFFIX, out);
}

bool log_segment_name_parse(const char *name, uint64_t *number)
{
    uint64_t value;
    if (!file_name_parse(NAME_PREFIX, NAME_SUFFIX, name, &value) || value == 0) return false;
    *number = value;
    return true;
}
