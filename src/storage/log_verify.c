#include "storage/log_verify.h"

#include "base/check.h"

void log_verify_begin(struct log_verify *verify, uint64_t log_id, uint64_t segment_number, bool headless)
{
    *verify = (struct log_verify){.log_id = log_id, .segment_number = segment_number, .headless = headless};
}

static bool header_is_good(const struct log_verify *verify, const uint8_t *block)
{
    struct log_segment_header header;
    switch (log_segment_header_decode(block, &header)) {
    case ERR_OK:
        return header.log_id == verify->log_id && header.number == verify->segment_number;
    case ERR_NO_FILE:
        return verify->headless;
    default:
        return verify->headless && log_block_is_cut(block);
    }
}

static bool block_is_good(struct log_verify *verify, const uint8_t *block)
{
    uint32_t number = (uint32_t)(verify->offset / LOG_BLOCK_BYTES);
    if (number == 0) return header_is_good(verify, block);
    bool begins = verify->offset % LOG_BATCH_ALIGNMENT == 0 && verify->offset >= LOG_SEGMENT_HEADER_BYTES;
    if (verify->left == 0 && !begins) return log_block_is_zero(block);

    struct log_block_header header;
    if (log_block_read(verify->log_id, verify->segment_number, number, block, &header) != LOG_BLOCK_GOOD) return false;
    if (verify->left == 0) {
        if (header.number != 0) return false;
        verify->batch = header;
        verify->left = header.count - 1u;
        return true;
    }
    const struct log_block_header *batch = &verify->batch;
    bool fits = header.batch_number == batch->batch_number && header.count == batch->count &&
                header.number == batch->count - verify->left && header.last_index == batch->last_index &&
                header.last_term == batch->last_term;
    verify->left--;
    return fits;
}

enum error log_verify_feed(struct log_verify *verify, const uint8_t *data, size_t size, uint64_t *bad_offset)
{
    CHECK(size % LOG_BATCH_ALIGNMENT == 0);
    for (size_t at = 0; at < size; at += LOG_BLOCK_BYTES, verify->offset += LOG_BLOCK_BYTES) {
        if (block_is_good(verify, data + at)) continue;
        *bad_offset = verify->offset;
        return ERR_DAMAGED;
    }
    return ERR_OK;
}

enum error log_verify_end(const struct log_verify *verify, uint64_t *bad_offset)
{
    *bad_offset = verify->offset;
    return verify->left == 0 ? ERR_OK : ERR_DAMAGED;
}
