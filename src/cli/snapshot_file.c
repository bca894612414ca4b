#include "cli/snapshot_file.h"

#include <stdio.h>

#include "base/mem.h"

#define SLICE_BYTES (1024u * 1024)

/* Flags of an item in a KEYS chunk (the format is at the head of store/store_snapshot.h). */
#define ITEM_SAME_KEY 1u
#define ITEM_TOMBSTONE 2u

/* Counts keys: one counts if its last version isn't a tombstone. */
struct key_count {
    uint64_t count;
    bool last_exists; /* of the key that the items are at */
};

static bool count_keys(struct key_count *keys, struct bytes payload)
{
    struct reader reader = reader_of(payload);
    while (reader_left(&reader) > 0 && !reader.failed) {
        uint8_t flags = reader_u8(&reader);
        bool exists = (flags & ITEM_TOMBSTONE) == 0;
        uint32_t key_bytes = (flags & ITEM_SAME_KEY) == 0 ? reader_u32(&reader) : 0;
        uint32_t value_bytes = exists ? reader_u32(&reader) : 0;
        reader_bytes(&reader, (exists ? 8u + 8u + 8u + 8u : 8u) + 4u); /* revisions, version, lease, sub revision */
        reader_bytes(&reader, key_bytes);
        reader_bytes(&reader, value_bytes);
        bool was_counted = (flags & ITEM_SAME_KEY) != 0 && keys->last_exists;
        keys->count += exists;
        keys->count -= was_counted;
        keys->last_exists = exists;
    }
    return !reader.failed;
}

char *snapshot_file_path(const char *directory, const char *name)
{
    struct buffer path = {0};
    buffer_append_string(&path, directory);
    buffer_append_byte(&path, '/');
    buffer_append_string(&path, name);
    buffer_append_byte(&path, '\0');
    return (char *)path.data;
}

struct reading {
    const char *path;
    const struct snapshot_visitor *visitor;
    struct snapshot_reader *reader;
    struct snapshot_summary *summary;
    struct key_count keys;
    char *text;
};

static enum error take_chunks(struct reading *reading)
{
    struct snapshot_chunk chunk;
    enum error error;
    while ((error = snapshot_reader_next(reading->reader, &chunk)) == ERR_OK) {
        const struct snapshot_header *header = snapshot_reader_header(reading->reader);
        reading->summary->chunk_count++;
        if (chunk.type == SNAPSHOT_CHUNK_HEADER) reading->summary->header = *header;
        if (chunk.type == SNAPSHOT_CHUNK_KEYS && !count_keys(&reading->keys, chunk.payload)) {
            snprintf(reading->text, SNAPSHOT_FILE_TEXT_BYTES, "%.500s: offset %llu: the keys can't be read",
                     reading->path, (unsigned long long)chunk.offset);
            return ERR_DAMAGED;
        }
        if (reading->visitor->chunk == NULL) continue;
        if (!reading->visitor->chunk(reading->visitor->user, header, &chunk)) return ERR_IO;
    }
    if (error == ERR_NOT_READY) return ERR_OK;
    snprintf(reading->text, SNAPSHOT_FILE_TEXT_BYTES, "%.500s: offset %llu: %s", reading->path,
             (unsigned long long)snapshot_reader_offset(reading->reader), snapshot_reader_damage(reading->reader));
    return error;
}

static enum error read_slices(struct reading *reading, struct disk *disk, struct disk_file *file)
{
    uint8_t *slice = mem_alloc(SLICE_BYTES);
    uint64_t offset = 0;
    size_t got = SLICE_BYTES;
    enum error error = ERR_OK;
    while (error == ERR_OK && got == SLICE_BYTES) {
        error = disk_read(disk, file, offset, slice, SLICE_BYTES, &got);
        if (error != ERR_OK) {
            snprintf(reading->text, SNAPSHOT_FILE_TEXT_BYTES, "%s", disk->error_text);
            break;
        }
        snapshot_reader_feed(reading->reader, bytes_of(slice, got));
        error = take_chunks(reading);
        bool wanted = error == ERR_OK && reading->visitor->bytes != NULL && got > 0;
        if (wanted && !reading->visitor->bytes(reading->visitor->user, offset, bytes_of(slice, got))) error = ERR_IO;
        offset += got;
    }
    reading->summary->size_bytes = offset;
    reading->summary->key_count = reading->keys.count;
    if (error == ERR_OK && !snapshot_reader_complete(reading->reader)) {
        snprintf(reading->text, SNAPSHOT_FILE_TEXT_BYTES, "%.500s: offset %llu: the file ends early", reading->path,
                 (unsigned long long)offset);
        error = ERR_DAMAGED;
    }
    mem_free(slice);
    return error;
}

enum error snapshot_file_read(struct disk *disk, const char *path, const struct snapshot_visitor *visitor,
                              struct snapshot_summary *out, char *text)
{
    struct reading reading = {.path = path, .visitor = visitor, .summary = out, .text = text};
    struct disk_file *file;
    *out = (struct snapshot_summary){0};
    text[0] = '\0';
    enum error error = disk_open(disk, path, DISK_READ, &file);
    if (error != ERR_OK) {
        snprintf(text, SNAPSHOT_FILE_TEXT_BYTES, "%s", disk->error_text);
        return error;
    }
    reading.reader = snapshot_reader_new();
    error = read_slices(&reading, disk, file);
    snapshot_reader_free(reading.reader);
    disk_close(disk, file);
    return error;
}

enum error snapshot_file_newest(struct disk *disk, const char *directory, struct snapshot_metadata *out, char *text)
{
    char *path = snapshot_file_path(directory, "metadata");
    uint8_t *content = mem_alloc(SLOT_COUNT * SLOT_BYTES);
    struct disk_file *file;
    size_t got = 0;
    enum error error = disk_open(disk, path, DISK_READ, &file);
    if (error == ERR_OK) {
        error = disk_read(disk, file, 0, content, SLOT_COUNT * SLOT_BYTES, &got);
        disk_close(disk, file);
    }
    if (error != ERR_OK) {
        snprintf(text, SNAPSHOT_FILE_TEXT_BYTES, "%s", disk->error_text);
    } else {
        char damage[SLOT_DAMAGE_BYTES] = "";
        uint64_t generation;
        error = snapshot_metadata_decode(bytes_of(content, got), out, &generation, damage);
        if (error != ERR_OK) snprintf(text, SNAPSHOT_FILE_TEXT_BYTES, "%.400s: %s", path, damage);
    }
    mem_free(content);
    mem_free(path);
    return error;
}

enum error file_sync_directory(struct disk *disk, const char *path)
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL) return disk_sync_directory(disk, ".");
    if (slash == path) return disk_sync_directory(disk, "/");
    char *directory = mem_copy_string(path);
    directory[slash - path] = '\0';
    enum error error = disk_sync_directory(disk, directory);
    mem_free(directory);
    return error;
}

enum error slots_file_create(struct disk *disk, const char *path, const uint8_t *slot)
{
    struct disk_file *file;
    enum error error = disk_open(disk, path, DISK_WRITE | DISK_CREATE | DISK_EXCLUSIVE, &file);
    if (error != ERR_OK) return error;
    for (unsigned i = 0; error == ERR_OK && i < SLOT_COUNT; i++) {
        error = disk_write(disk, file, (uint64_t)i * SLOT_BYTES, slot, SLOT_BYTES);
    }
    if (error == ERR_OK) error = disk_sync(disk, file);
    disk_close(disk, file);
    return error == ERR_OK ? file_sync_directory(disk, path) : error;
}
