/*
 * log_verify.h - whether a part of a segment that was written is still as it was written: for the background scrub.
 *
 * Looks at what recovery relies on and at nothing else: the header, and from there on batch after batch, each of good blocks of one
 * batch, then untouched padding. What a crash tore off lies beyond the bytes in use and isn't fed. It needs no entries and
 * no chain: a block's check covers its place, its segment and its log.
 */
#ifndef CORACLE_STORAGE_LOG_VERIFY_H
#define CORACLE_STORAGE_LOG_VERIFY_H

#include "storage/log_format.h"

struct log_verify {
    uint64_t log_id;
    uint64_t segment_number;
    bool headless;   /* the header may be untouched or cut: a crash left it so, and only the batch counts */
    uint64_t offset; /* of what is fed next */
    struct log_block_header batch;
    uint32_t left; /* blocks of `batch` that are to come */
};

/* At offset 0 of a segment. */
void log_verify_begin(struct log_verify *verify, uint64_t log_id, uint64_t segment_number, bool headless);

/* The next bytes in use, a multiple of LOG_BATCH_ALIGNMENT. ERR_DAMAGED: the block at *bad_offset isn't as it was written; then
   no more is fed. */
enum error log_verify_feed(struct log_verify *verify, const uint8_t *data, size_t size, uint64_t *bad_offset);

/* All bytes in use were fed. ERR_DAMAGED: a batch isn't complete. */
enum error log_verify_end(const struct log_verify *verify, uint64_t *bad_offset);

#endif
