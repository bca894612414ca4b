/*
 * snapshot.h - a snapshot file: the state at an applied index. (SnapshotPersistence, SnapshotMetadataPersistence)
 *
 * A pure codec of checked chunks; what the payload of a chunk means is the owner's affair
 * (store/store_snapshot.h, store/leases.h, replica/sessions.h, replica/content_scrub.h). The same bytes lie on disk and go
 * to a peer.
 *
 * File `snapshot-<epoch>.snap` (16 hex digits; the epoch counts the snapshots of this member):
 *
 *     chunk 0:       SNAPSHOT_CHUNK_HEADER
 *     chunks 1..n-2: SNAPSHOT_CHUNK_SESSIONS, …_LEASES, …_CONTENT_SCRUB, …_KEYS, in this order, each as often as needed
 *     chunk n-1:     SNAPSHOT_CHUNK_END
 *
 * A chunk:
 *
 *          0  4   crc32c of the snapshot id (8 bytes), then bytes 4.. to the payload's end
 *          4  4   payload bytes, at most SNAPSHOT_CHUNK_PAYLOAD_BYTES_MAX
 *          8  4   chunk number, from 0
 *         12  1   type (enum snapshot_chunk_type)
 *         13  3   zero
 *         16  …   payload
 *
 * The snapshot id is random; chunk 0 is checked with id 0 (it holds the id), all later ones with
 * the id, so that chunks of two snapshots never mix.
 *
 * Payload of SNAPSHOT_CHUNK_HEADER:
 *
 *          0  4   magic "CSNP"
 *          4  4   format version
 *          8  8   snapshot id
 *         16  8   cluster id
 *         24  8   index of the last entry that it covers
 *         32  8   that entry's term
 *         40  4   that entry's chain value
 *         44  4   zero
 *         48  8   store revision
 *         56  8   compacted revision
 *         64  8   apply hash at the index
 *         72  4   member count, then for each member: u64 member id, u8 length + node id,
 *                 u16 length + rpc address, u16 length + api address, u8 learner flag (0 now)
 *
 * Payload of SNAPSHOT_CHUNK_END: u32 chunks before it, u32 crc32c over all earlier chunks' crc fields.
 *
 * A file is valid if and only if every chunk is good, the numbers count up from 0, and it ends
 * right after an END chunk that matches. Types 4 to 8 are reserved for alarms and auth: a
 * reader that meets a type it doesn't know refuses the file with ERR_BAD_VERSION.
 */
#ifndef CORACLE_STORAGE_SNAPSHOT_H
#define CORACLE_STORAGE_SNAPSHOT_H

#include "base/bytes.h"
#include "base/error.h"
#include "base/types.h"
#include "storage/slots.h"

#define SNAPSHOT_MAGIC 0x504e5343u /* "CSNP" */
#define SNAPSHOT_VERSION 1u
#define SNAPSHOT_CHUNK_HEADER_BYTES 16u
/* What a writer aims at; one value may make a chunk longer, up to the limit. */
#define SNAPSHOT_CHUNK_PAYLOAD_BYTES_TARGET (256u * 1024)
#define SNAPSHOT_CHUNK_PAYLOAD_BYTES_MAX (4u * 1024 * 1024)

enum snapshot_chunk_type {
    SNAPSHOT_CHUNK_HEADER = 1,
    SNAPSHOT_CHUNK_SESSIONS = 2,
    SNAPSHOT_CHUNK_LEASES = 3,
    SNAPSHOT_CHUNK_CONTENT_SCRUB = 9, /* one; none: the scrub of contents is off */
    SNAPSHOT_CHUNK_KEYS = 10,
    SNAPSHOT_CHUNK_END = 255,
};

struct snapshot_member {
    member_id id;
    char node_id[NODE_ID_BYTES_MAX + 1];
    char rpc_address[ADDRESS_BYTES_MAX + 1];
    char api_address[ADDRESS_BYTES_MAX + 1];
    bool learner;
};

struct snapshot_header {
    uint64_t snapshot_id;
    uint64_t cluster_id;
    raft_index index;
    raft_term term;
    uint32_t chain;
    store_revision revision;
    store_revision compacted_revision;
    uint64_t apply_hash;
    struct snapshot_member members[MEMBERS_MAX];
    uint32_t member_count;
};

/* Writing: chunks are appended to `out`; all zero but for the id is a fresh writer. */
struct snapshot_writer {
    uint64_t snapshot_id;
    uint32_t chunk_count;
    uint32_t digest;
};

void snapshot_write_header(struct snapshot_writer *writer, const struct snapshot_header *header, struct buffer *out);
void snapshot_write_chunk(struct snapshot_writer *writer, enum snapshot_chunk_type type, struct bytes payload,
                          struct buffer *out);
void snapshot_write_end(struct snapshot_writer *writer, struct buffer *out);

/* Reading: bytes are fed as they come; good chunks come out. */
struct snapshot_reader;
struct snapshot_reader *snapshot_reader_new(void);
void snapshot_reader_free(struct snapshot_reader *reader);
void snapshot_reader_feed(struct snapshot_reader *reader, struct bytes bytes);

struct snapshot_chunk {
    enum snapshot_chunk_type type;
    struct bytes payload; /* a view until the next call */
    uint64_t offset;      /* where the chunk begins in the file */
};

/*
 * The next chunk. ERR_OK; ERR_NOT_READY when more bytes are needed; ERR_DAMAGED or ERR_BAD_VERSION,
 * for ever after, with snapshot_reader_offset where and snapshot_reader_damage what.
 * The header chunk is decoded already: see snapshot_reader_header.
 */
enum error snapshot_reader_next(struct snapshot_reader *reader, struct snapshot_chunk *out);
/* NULL before the header chunk was returned. */
const struct snapshot_header *snapshot_reader_header(const struct snapshot_reader *reader);
/* True once the END chunk was returned and nothing was fed beyond it. */
bool snapshot_reader_complete(const struct snapshot_reader *reader);
uint64_t snapshot_reader_offset(const struct snapshot_reader *reader);
const char *snapshot_reader_damage(const struct snapshot_reader *reader);

/* "snapshot-%016x.snap" */
#define SNAPSHOT_NAME_BYTES 31
void snapshot_name(uint64_t epoch, char *out);
bool snapshot_name_parse(const char *name, uint64_t *epoch);

/*
 * Which snapshot counts: one file `metadata` in two slots (slots.h), magic "CSMD", version 1:
 *          0  8   epoch      8  8  index     16  8  term      24  8  size in bytes    32  8  snapshot id
 * It is saved after the snapshot and its directory are synced and the file was read back; only then may
 * the log that it covers go.
 */
#define SNAPSHOT_METADATA_MAGIC 0x444d5343u /* "CSMD" */
#define SNAPSHOT_METADATA_VERSION 1u

struct snapshot_metadata {
    uint64_t epoch;
    raft_index index;
    raft_term term;
    uint64_t size_bytes;
    uint64_t snapshot_id;
};

void snapshot_metadata_encode(const struct snapshot_metadata *metadata, uint64_t generation, uint8_t *slot);
enum error snapshot_metadata_decode(struct bytes file, struct snapshot_metadata *out, uint64_t *generation,
                                    char *damage);

#endif
