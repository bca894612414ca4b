/*
 * Reading a snapshot from any bytes, and printing it. The input is either the file itself, or, with checksums made right, a
 * list of chunks to write and bytes to change in them. What is read to the end must have been written whole.
 *
 * Input: 1 byte mode. Mode even: the rest is the file. Odd: chunks of 1 byte type, 1 byte size; the payload repeats the size.
 */
#include "base/check.h"
#include "storage/debug_print.h"
#include "storage/snapshot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(struct bytes file, size_t slice)
{
    struct snapshot_reader *reader = snapshot_reader_new();
    enum error error = ERR_NOT_READY;
    size_t at = 0;
    bool ended = false;
    while (true) {
        struct snapshot_chunk chunk;
        error = snapshot_reader_next(reader, &chunk);
        if (error == ERR_OK) {
            CHECK(!ended && chunk.payload.size <= SNAPSHOT_CHUNK_PAYLOAD_BYTES_MAX);
            CHECK(snapshot_reader_header(reader) != NULL);
            ended = chunk.type == SNAPSHOT_CHUNK_END;
            continue;
        }
        if (error != ERR_NOT_READY || at == file.size) break;
        size_t part = file.size - at < slice ? file.size - at : slice;
        snapshot_reader_feed(reader, bytes_of(file.data + at, part));
        at += part;
    }
    if (snapshot_reader_complete(reader)) CHECK(ended && error == ERR_NOT_READY);
    snapshot_reader_free(reader);
}

static void print(struct bytes file, enum debug_print_kind kind)
{
    struct debug_print_options options = {.kind = kind, .json = file.size % 2 == 0};
    struct debug_print *printer = debug_print_new(&options);
    struct buffer out = {.data = NULL};
    debug_print_feed(printer, file, &out);
    debug_print_finish(printer, &out);
    debug_print_free(printer);
    buffer_free(&out);
}

static void write_chunks(const uint8_t *data, size_t size, struct buffer *out)
{
    struct snapshot_header header = {.snapshot_id = 7, .cluster_id = 9, .index = 3, .term = 1, .member_count = 1};
    header.members[0] = (struct snapshot_member){.id = 5, .node_id = "n", .rpc_address = "a:1", .api_address = "a:2"};
    struct snapshot_writer writer = {.snapshot_id = header.snapshot_id};
    snapshot_write_header(&writer, &header, out);
    size_t at = 0;
    for (; at + 2 <= size && at < 64; at += 2) {
        uint8_t payload[256];
        memset(payload, data[at + 1], sizeof payload);
        enum snapshot_chunk_type type = (enum snapshot_chunk_type)data[at];
        if (type == SNAPSHOT_CHUNK_HEADER || type == SNAPSHOT_CHUNK_END) type = SNAPSHOT_CHUNK_KEYS;
        snapshot_write_chunk(&writer, type, bytes_of(payload, data[at + 1]), out);
    }
    snapshot_write_end(&writer, out);
    for (; at + 3 <= size; at += 3) out->data[get_u16(data + at) % out->size] ^= data[at + 2];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) return 0;
    struct buffer file = {.data = NULL};
    if (data[0] & 1) {
        write_chunks(data + 1, size - 1, &file);
    } else {
        buffer_append(&file, data + 1, size - 1);
    }
    read_all(buffer_bytes(&file), data[0] / 2 + 1);
    print(buffer_bytes(&file), DEBUG_PRINT_SNAPSHOT);
    print(buffer_bytes(&file), DEBUG_PRINT_STATE);
    buffer_free(&file);
    return 0;
}
