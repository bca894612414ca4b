/*
 * entry.h - one entry of the replicated log, as one allocation, encoded once.
 *
 * `record` holds the bytes that go unchanged to the leader's disk, over the wire and to the
 * followers' disks. Fields are little-endian:
 *
 *     offset  size  field
 *          0     4  payload_bytes
 *          4     4  chain: CRC-32C over the previous entry's chain value and over this record from
 *                   offset 8 to its end, with payload_bytes in front
 *          8     8  index
 *         16     8  term
 *         24     1  type (enum entry_type)
 *         25     7  zero
 *         32     …  payload
 *
 * A record is valid if and only if its size fits, its index is the previous one's plus 1, its type
 * is known, and its chain value matches. The chain makes two logs that agree on (index, chain)
 * agree on everything before (log matching, dissertation §3.5), and is the same on all members.
 *
 * Ownership: counted by `refs`, on the core thread only. Other threads read entries that the core
 * thread holds for them.
 */
#ifndef CORACLE_BASE_ENTRY_H
#define CORACLE_BASE_ENTRY_H

#include "base/bytes.h"
#include "base/error.h"
#include "base/types.h"

#define ENTRY_HEADER_BYTES 32
/* A request of 1.5 MiB, its key, and room for the command around them. */
#define ENTRY_PAYLOAD_BYTES_MAX (2u * 1024 * 1024)

enum entry_type {
    ENTRY_EMPTY = 1,      /* a new leader's first entry */
    ENTRY_COMMAND = 2,    /* a command for the store (storage/command_format.h) */
    ENTRY_MEMBERSHIP = 3, /* a new configuration of the cluster; reserved */
};

struct entry {
    uint32_t refs;
    uint32_t record_bytes; /* header and payload */
    uint8_t record[];
};

/* A new entry with one reference, its header zero but for the payload's size and the type. */
struct entry *entry_new(enum entry_type type, size_t payload_bytes);
struct entry *entry_ref(struct entry *entry);
void entry_unref(struct entry *entry);

static inline raft_index entry_index(const struct entry *entry)
{
    return get_u64(entry->record + 8);
}
static inline raft_term entry_term(const struct entry *entry)
{
    return get_u64(entry->record + 16);
}
static inline enum entry_type entry_type_of(const struct entry *entry)
{
    return (enum entry_type)entry->record[24];
}
static inline uint32_t entry_chain(const struct entry *entry)
{
    return get_u32(entry->record + 4);
}
static inline uint8_t *entry_payload(struct entry *entry)
{
    return entry->record + ENTRY_HEADER_BYTES;
}
static inline struct bytes entry_payload_bytes(const struct entry *entry)
{
    return bytes_of(entry->record + ENTRY_HEADER_BYTES, entry->record_bytes - ENTRY_HEADER_BYTES);
}

/* Gives the entry its place in the log: fills in index, term and chain. */
void entry_seal(struct entry *entry, raft_index index, raft_term term, uint32_t previous_chain);

/* Whether the entry's chain value continues `previous_chain`. */
bool entry_follows(const struct entry *entry, uint32_t previous_chain);

/*
 * Reads the next record from `reader` into a new entry (out, owned by the caller). Checks size and
 * type; the caller checks index and chain, which need the entry before.
 * Errors: ERR_BAD_FRAME; then nothing is allocated.
 */
enum error entry_read(struct reader *reader, struct entry **out);

#endif
