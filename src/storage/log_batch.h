/*
 * log_batch.h - the content of one batch, put together from its blocks, into entries. Used inside storage/ only.
 *
 * log_batch_decode, the public way to read a batch at a known place, is declared in log_scan.h.
 */
#ifndef CORACLE_STORAGE_LOG_BATCH_H
#define CORACLE_STORAGE_LOG_BATCH_H

#include "storage/log_format.h"

struct log_batch {
    raft_index first_index;
    raft_index last_index;
    raft_term last_term;
    raft_index commit;
    struct entry **entries;
    uint32_t entry_count;
    uint32_t entry_capacity;
};

/*
 * Reads the content into `batch`, whose array of entries is reused and grows as needed; the entries belong to the
 * caller. Checked is all that the batch can show by itself: sizes, consecutive indexes, terms that don't fall, the
 * chain from the first record on, and that it ends as its blocks' header says. Not checked: what the first record
 * follows. ERR_DAMAGED: `batch` has no entries then, and *reason (static) says why.
 */
enum error log_batch_parse(struct log_batch *batch, struct bytes content, const struct log_block_header *header,
                           const char **reason);

/* Drops the entries; keeps the array. */
void log_batch_clear(struct log_batch *batch);
void log_batch_free(struct log_batch *batch);

#endif
