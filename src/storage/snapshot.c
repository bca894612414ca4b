#include "storage/snapshot.h"

#include "base/check.h"
#include "base/crc32c.h"
#include "base/mem.h"
#include "storage/file_name.h"
#include "storage/text.h"

#define END_PAYLOAD_BYTES 8u
#define METADATA_PAYLOAD_BYTES 40u

#define NAME_PREFIX "snapshot-"
#define NAME_SUFFIX ".snap"
_Static_assert(sizeof NAME_PREFIX + FILE_NAME_DIGITS + sizeof NAME_SUFFIX - 1 == SNAPSHOT_NAME_BYTES, "fits exactly");

static uint32_t chunk_crc(uint64_t snapshot_id, const uint8_t *chunk, size_t payload_bytes)
{
    uint8_t id[8];
    put_u64(id, snapshot_id);
    return crc32c(crc32c(0, id, sizeof id), chunk + 4, SNAPSHOT_CHUNK_HEADER_BYTES - 4 + payload_bytes);
}

/* ---- Writing ---- */

static void write_chunk(struct snapshot_writer *writer, enum snapshot_chunk_type type, uint64_t check_id,
                        struct bytes payload, struct buffer *out)
{
    CHECK(payload.size <= SNAPSHOT_CHUNK_PAYLOAD_BYTES_MAX);
    buffer_reserve(out, SNAPSHOT_CHUNK_HEADER_BYTES + payload.size);
    uint8_t *chunk = out->data + out->size;
    memset(chunk, 0, SNAPSHOT_CHUNK_HEADER_BYTES);
    put_u32(chunk + 4, (uint32_t)payload.size);
    put_u32(chunk + 8, writer->chunk_count);
    chunk[12] = (uint8_t)type;
    if (payload.size > 0) memcpy(chunk + SNAPSHOT_CHUNK_HEADER_BYTES, payload.data, payload.size);
    put_u32(chunk, chunk_crc(check_id, chunk, payload.size));
    out->size += SNAPSHOT_CHUNK_HEADER_BYTES + payload.size;
    writer->digest = crc32c(writer->digest, chunk, 4);
    writer->chunk_count++;
}

static void append_text_u8(struct buffer *out, const char *text, size_t bytes_max)
{
    size_t size = strlen(text);
    CHECK(size <= bytes_max);
    buffer_append_u8(out, (uint8_t)size);
    buffer_append(out, text, size);
}

static void append_text_u16(struct buffer *out, const char *text, size_t bytes_max)
{
    size_t size = strlen(text);
    CHECK(size <= bytes_max);
    buffer_append_u16(out, (uint16_t)size);
    buffer_append(out, text, size);
}

void snapshot_write_header(struct snapshot_writer *writer, const struct snapshot_header *header, struct buffer *out)
{
    CHECK(writer->chunk_count == 0 && writer->snapshot_id == header->snapshot_id && header->snapshot_id != 0);
    CHECK(header->member_count <= MEMBERS_MAX);
    struct buffer payload = {0};
    buffer_append_u32(&payload, SNAPSHOT_MAGIC);
    buffer_append_u32(&payload, SNAPSHOT_VERSION);
    buffer_append_u64(&payload, header->snapshot_id);
    buffer_append_u64(&payload, header->cluster_id);
    buffer_append_u64(&payload, header->index);
    buffer_append_u64(&payload, header->term);
    buffer_append_u32(&payload, header->chain);
    buffer_append_u32(&payload, 0);
    buffer_append_u64(&payload, (uint64_t)header->revision);
    buffer_append_u64(&payload, (uint64_t)header->compacted_revision);
    buffer_append_u64(&payload, header->apply_hash);
    buffer_append_u32(&payload, header->member_count);
    for (uint32_t i = 0; i < header->member_count; i++) {
        const struct snapshot_member *member = &header->members[i];
        buffer_append_u64(&payload, member->id);
        append_text_u8(&payload, member->node_id, NODE_ID_BYTES_MAX);
        append_text_u16(&payload, member->rpc_address, ADDRESS_BYTES_MAX);
        append_text_u16(&payload, member->api_address, ADDRESS_BYTES_MAX);
        buffer_append_u8(&payload, member->learner);
    }
    write_chunk(writer, SNAPSHOT_CHUNK_HEADER, 0, buffer_bytes(&payload), out);
    buffer_free(&payload);
}

void snapshot_write_chunk(struct snapshot_writer *writer, enum snapshot_chunk_type type, struct bytes payload,
                          struct buffer *out)
{
    CHECK(writer->chunk_count > 0 && type != SNAPSHOT_CHUNK_HEADER && type != SNAPSHOT_CHUNK_END);
    write_chunk(writer, type, writer->snapshot_id, payload, out);
}

void snapshot_write_end(struct snapshot_writer *writer, struct buffer *out)
{
    CHECK(writer->chunk_count > 0);
    uint8_t payload[END_PAYLOAD_BYTES];
    put_u32(payload, writer->chunk_count);
    put_u32(payload + 4, writer->digest);
    write_chunk(writer, SNAPSHOT_CHUNK_END, writer->snapshot_id, bytes_of(payload, sizeof payload), out);
}

/* ---- Reading ---- */

struct snapshot_reader {
    struct buffer fed;
    size_t front;    /* bytes of it that are done with: the chunks returned */
    uint64_t offset; /* in the file, of the front */
    uint32_t chunk_count;
    uint32_t digest;
    uint8_t last_type;
    bool header_read;
    bool ended;
    enum error error;
    struct snapshot_header header;
    char damage[256];
};

struct snapshot_reader *snapshot_reader_new(void)
{
    return mem_alloc_zero(sizeof(struct snapshot_reader));
}

void snapshot_reader_free(struct snapshot_reader *reader)
{
    if (reader == NULL) return;
    buffer_free(&reader->fed);
    mem_free(reader);
}

void snapshot_reader_feed(struct snapshot_reader *reader, struct bytes bytes)
{
    if (reader->error != ERR_OK) return;
    buffer_consume(&reader->fed, reader->front);
    reader->front = 0;
    buffer_append(&reader->fed, bytes.data, bytes.size);
}

static enum error fail(struct snapshot_reader *reader, enum error error, const char *what)
{
    reader->error = error;
    text_format(reader->damage, sizeof reader->damage, "%s", what);
    return error;
}

static bool read_text(struct reader *reader, size_t size, size_t bytes_max, char *out)
{
    struct bytes text = reader_bytes(reader, size);
    if (reader->failed || text.size > bytes_max) return false;
    if (text.size > 0 && memchr(text.data, 0, text.size) != NULL) return false;
    if (text.size > 0) memcpy(out, text.data, text.size);
    out[text.size] = '\0';
    return true;
}

static enum error read_header(struct snapshot_reader *snapshot, struct bytes payload)
{
    struct snapshot_header *header = &snapshot->header;
    struct reader reader = reader_of(payload);
    if (reader_u32(&reader) != SNAPSHOT_MAGIC) return fail(snapshot, ERR_DAMAGED, "this is no snapshot");
    uint32_t version = reader_u32(&reader);
    if (reader.failed || version == 0) return fail(snapshot, ERR_DAMAGED, "the header is malformed");
    if (version > SNAPSHOT_VERSION) return fail(snapshot, ERR_BAD_VERSION, "it was written by a newer version");
    header->snapshot_id = reader_u64(&reader);
    header->cluster_id = reader_u64(&reader);
    header->index = reader_u64(&reader);
    header->term = reader_u64(&reader);
    header->chain = reader_u32(&reader);
    reader_u32(&reader);
    header->revision = (store_revision)reader_u64(&reader);
    header->compacted_revision = (store_revision)reader_u64(&reader);
    header->apply_hash = reader_u64(&reader);
    header->member_count = reader_u32(&reader);
    bool good = !reader.failed && header->snapshot_id != 0 && header->member_count <= MEMBERS_MAX;
    for (uint32_t i = 0; good && i < header->member_count; i++) {
        struct snapshot_member *member = &header->members[i];
        member->id = reader_u64(&reader);
        good = read_text(&reader, reader_u8(&reader), NODE_ID_BYTES_MAX, member->node_id) &&
               read_text(&reader, reader_u16(&reader), ADDRESS_BYTES_MAX, member->rpc_address) &&
               read_text(&reader, reader_u16(&reader), ADDRESS_BYTES_MAX, member->api_address);
        uint8_t learner = reader_u8(&reader);
        good = good && !reader.failed && learner <= 1;
        member->learner = learner == 1;
    }
    if (!good || reader_left(&reader) != 0) return fail(snapshot, ERR_DAMAGED, "the header is malformed");
    return ERR_OK;
}

static bool type_known(uint8_t type)
{
    return type == SNAPSHOT_CHUNK_HEADER || type == SNAPSHOT_CHUNK_SESSIONS || type == SNAPSHOT_CHUNK_LEASES ||
           type == SNAPSHOT_CHUNK_CONTENT_SCRUB || type == SNAPSHOT_CHUNK_KEYS || type == SNAPSHOT_CHUNK_END;
}

enum error snapshot_reader_next(struct snapshot_reader *reader, struct snapshot_chunk *out)
{
    if (reader->error != ERR_OK) return reader->error;
    size_t fed_bytes = reader->fed.size - reader->front;
    if (reader->ended) {
        return fed_bytes == 0 ? ERR_NOT_READY : fail(reader, ERR_DAMAGED, "bytes follow the end");
    }
    if (fed_bytes < SNAPSHOT_CHUNK_HEADER_BYTES) return ERR_NOT_READY;

    const uint8_t *chunk = reader->fed.data + reader->front;
    /* Judged before the payload is there, so that damage in it can't make the reader gather memory. */
    uint32_t payload_bytes = get_u32(chunk + 4);
    if (payload_bytes > SNAPSHOT_CHUNK_PAYLOAD_BYTES_MAX) return fail(reader, ERR_DAMAGED, "the chunk is too long");
    if (get_u32(chunk + 8) != reader->chunk_count) return fail(reader, ERR_DAMAGED, "the chunk's number is wrong");
    size_t chunk_bytes = SNAPSHOT_CHUNK_HEADER_BYTES + payload_bytes;
    if (fed_bytes < chunk_bytes) return ERR_NOT_READY;
    uint64_t check_id = reader->header_read ? reader->header.snapshot_id : 0;
    if (get_u32(chunk) != chunk_crc(check_id, chunk, payload_bytes)) {
        return fail(reader, ERR_DAMAGED, "the chunk is damaged");
    }

    uint8_t type = chunk[12];
    struct bytes payload = bytes_of(chunk + SNAPSHOT_CHUNK_HEADER_BYTES, payload_bytes);
    if (!type_known(type)) {
        return fail(reader, ERR_BAD_VERSION, "a chunk is of a type that this version doesn't know");
    }
    if ((type == SNAPSHOT_CHUNK_HEADER) == reader->header_read || type < reader->last_type) {
        return fail(reader, ERR_DAMAGED, "the chunk is out of order");
    }
    if (type == SNAPSHOT_CHUNK_HEADER) {
        enum error error = read_header(reader, payload);
        if (error != ERR_OK) return error;
        reader->header_read = true;
    } else if (type == SNAPSHOT_CHUNK_END) {
        if (payload.size != END_PAYLOAD_BYTES || get_u32(payload.data) != reader->chunk_count ||
            get_u32(payload.data + 4) != reader->digest) {
            return fail(reader, ERR_DAMAGED, "the end doesn't match what came before");
        }
        reader->ended = true;
    }
    reader->last_type = type;
    reader->digest = crc32c(reader->digest, chunk, 4);
    reader->chunk_count++;
    *out = (struct snapshot_chunk){
        .type = (enum snapshot_chunk_type)type,
        .payload = payload,
        .offset = reader->offset,
    };
    reader->front += chunk_bytes;
    reader->offset += chunk_bytes;
    return ERR_OK;
}

const struct snapshot_header *snapshot_reader_header(const struct snapshot_reader *reader)
{
    return reader->header_read ? &reader->header : NULL;
}

bool snapshot_reader_complete(const struct snapshot_reader *reader)
{
    return reader->error == ERR_OK && reader->ended && reader->fed.size == reader->front;
}

uint64_t snapshot_reader_offset(const struct snapshot_reader *reader)
{
    return reader->offset;
}

const char *snapshot_reader_damage(const struct snapshot_reader *reader)
{
    return reader->damage;
}

/* ---- Names and metadata ---- */

void snapshot_name(uint64_t epoch, char *out)
{
    file_name_encode(NAME_PREFIX, epoch, NAME_SUFFIX, out);
}

bool snapshot_name_parse(const char *name, uint64_t *epoch)
{
    return file_name_parse(NAME_PREFIX, NAME_SUFFIX, name, epoch);
}

void snapshot_metadata_encode(const struct snapshot_metadata *metadata, uint64_t generation, uint8_t *slot)
{
    uint8_t payload[METADATA_PAYLOAD_BYTES];
    put_u64(payload, metadata->epoch);
    put_u64(payload + 8, metadata->index);
    put_u64(payload + 16, metadata->term);
    put_u64(payload + 24, metadata->size_bytes);
    put_u64(payload + 32, metadata->snapshot_id);
    slot_encode(SNAPSHOT_METADATA_MAGIC, SNAPSHOT_METADATA_VERSION, generation, bytes_of(payload, sizeof payload),
                slot);
}

enum error snapshot_metadata_decode(struct bytes file, struct snapshot_metadata *out, uint64_t *generation,
                                    char *damage)
{
    struct slot_content content;
    enum error error = slot_choose(SNAPSHOT_METADATA_MAGIC, SNAPSHOT_METADATA_VERSION, file, &content, damage);
    if (error != ERR_OK) return error;
    struct reader reader = reader_of(content.payload);
    out->epoch = reader_u64(&reader);
    out->index = reader_u64(&reader);
    out->term = reader_u64(&reader);
    out->size_bytes = reader_u64(&reader);
    out->snapshot_id = reader_u64(&reader);
    if (reader.failed || reader_left(&reader) != 0) {
        text_format(damage, SLOT_DAMAGE_BYTES, "the snapshot's metadata at offset %zu make no sense",
                    (size_t)(content.payload.data - file.data));
        return ERR_DAMAGED;
    }
    *generation = content.generation;
    return ERR_OK;
}
