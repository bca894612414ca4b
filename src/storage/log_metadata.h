/*
 * log_metadata.h - what the log consists of, written when a segment begins or goes. (MetadataPersistence)
 *
 * One file in two slots (slots.h), magic "CLMD", version 2. The payload:
 *
 *          0     8  log id
 *          8     8  first segment: the oldest that is still needed
 *         16     8  last segment: the newest in use; recovery misses it when it isn't there
 *         24     …  a copy of the raft state's payload (raft_state.h) as it was then: who this member is. So the loss of the
 *                   raft state's file loses term and vote only, and not the log. Never taken for the raft state itself:
 *                   its term and vote are old.
 */
#ifndef CORACLE_STORAGE_LOG_METADATA_H
#define CORACLE_STORAGE_LOG_METADATA_H

#include "storage/raft_state.h"

#define LOG_METADATA_MAGIC 0x444d4c43u /* "CLMD" */
#define LOG_METADATA_VERSION 2u

struct log_metadata {
    uint64_t log_id;
    uint64_t first_segment;
    uint64_t last_segment;
    struct raft_state identity; /* member 0: none is kept */
};

void log_metadata_encode(const struct log_metadata *metadata, uint64_t generation, uint8_t *slot);
enum error log_metadata_decode(struct bytes file, struct log_metadata *out, uint64_t *generation, char *damage);

#endif
