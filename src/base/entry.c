#include "base/entry.h"

#include "base/check.h"
#include "base/crc32c.h"
#include "base/mem.h"

#define RECORD_CHAIN_OFFSET 4
#define RECORD_INDEX_OFFSET 8
#define RECORD_TERM_OFFSET 16
#define RECORD_TYPE_OFFSET 24

static bool type_known(uint8_t type)
{
    return type >= ENTRY_EMPTY && type <= ENTRY_MEMBERSHIP;
}

static struct entry *entry_of_size(size_t record_bytes)
{
    struct entry *entry = mem_alloc(sizeof *entry + record_bytes);
    entry->refs = 1;
    entry->record_bytes = (uint32_t)record_bytes;
    return entry;
}

struct entry *entry_new(enum entry_type type, size_t payload_bytes)
{
    CHECK(type_known((uint8_t)type));
    CHECK(payload_bytes <= ENTRY_PAYLOAD_BYTES_MAX);
    struct entry *entry = entry_of_size(ENTRY_HEADER_BYTES + payload_bytes);
    memset(entry->record, 0, ENTRY_HEADER_BYTES);
    put_u32(entry->record, (uint32_t)payload_bytes);
    entry->record[RECORD_TYPE_OFFSET] = (uint8_t)type;
    return entry;
}

struct entry *entry_ref(struct entry *entry)
{
    CHECK(entry->refs > 0 && entry->refs < UINT32_MAX);
    entry->refs++;
    return entry;
}

void entry_unref(struct entry *entry)
{
    CHECK(entry->refs > 0);
    if (--entry->refs == 0) mem_free(entry);
}

static uint32_t chain_after(const struct entry *entry, uint32_t previous_chain)
{
    uint8_t front[8];
    put_u32(front, previous_chain);
    memcpy(front + 4, entry->record, 4);
    uint32_t chain = crc32c(0, front, sizeof front);
    return crc32c(chain, entry->record + RECORD_INDEX_OFFSET, entry->record_bytes - RECORD_INDEX_OFFSET);
}

void entry_seal(struct entry *entry, raft_index index, raft_term term, uint32_t previous_chain)
{
    put_u64(entry->record + RECORD_INDEX_OFFSET, index);
    put_u64(entry->record + RECORD_TERM_OFFSET, term);
    put_u32(entry->record + RECORD_CHAIN_OFFSET, chain_after(entry, previous_chain));
}

bool entry_follows(const struct entry *entry, uint32_t previous_chain)
{
    return entry_chain(entry) == chain_after(entry, previous_chain);
}

enum error entry_read(struct reader *reader, struct entry **out)
{
    struct bytes header = reader_bytes(reader, ENTRY_HEADER_BYTES);
    if (reader->failed) return ERR_BAD_FRAME;
    uint32_t payload_bytes = get_u32(header.data);
    if (payload_bytes > ENTRY_PAYLOAD_BYTES_MAX) return ERR_BAD_FRAME;
    if (!type_known(header.data[RECORD_TYPE_OFFSET])) return ERR_BAD_FRAME;
    struct bytes payload = reader_bytes(reader, payload_bytes);
    if (reader->failed) return ERR_BAD_FRAME;

    struct entry *entry = entry_of_size(ENTRY_HEADER_BYTES + payload.size);
    memcpy(entry->record, header.data, ENTRY_HEADER_BYTES);
    if (payload.size > 0) memcpy(entry_payload(entry), payload.data, payload.size);
    *out = entry;
    return ERR_OK;
}
