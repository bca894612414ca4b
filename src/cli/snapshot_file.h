/*
 * snapshot_file.h - reads a snapshot file from its beginning to its end, checking every chunk; and small files written
 * so that a crash leaves them whole or not at all. For backup and restore.
 */
#ifndef CORACLE_CLI_SNAPSHOT_FILE_H
#define CORACLE_CLI_SNAPSHOT_FILE_H

#include "port/disk.h"
#include "storage/snapshot.h"

#define SNAPSHOT_FILE_TEXT_BYTES 768

struct snapshot_summary {
    struct snapshot_header header;
    uint64_t size_bytes;
    uint64_t chunk_count;
    uint64_t key_count; /* that exist at its revision */
};

struct snapshot_visitor {
    /* Each may be NULL; false ends the reading with ERR_IO, and the visitor has said why. */
    bool (*bytes)(void *user, uint64_t offset, struct bytes bytes); /* as they are in the file */
    bool (*chunk)(void *user, const struct snapshot_header *header, const struct snapshot_chunk *chunk);
    void *user;
};

/*
 * Reads all of `path`. ERR_OK: it is good. ERR_NO_FILE, ERR_IO, ERR_NO_PERMISSION, ERR_DAMAGED, ERR_BAD_VERSION, with `text`
 * (SNAPSHOT_FILE_TEXT_BYTES) naming file and offset.
 */
enum error snapshot_file_read(struct disk *disk, const char *path, const struct snapshot_visitor *visitor,
                              struct snapshot_summary *out, char *text);

/* Which snapshot of the directory counts, by its metadata. ERR_NO_FILE: none was made yet. */
enum error snapshot_file_newest(struct disk *disk, const char *directory, struct snapshot_metadata *out, char *text);

/* "directory/name", owned by the caller. */
char *snapshot_file_path(const char *directory, const char *name);

/* Writes a file of two equal slots (storage/slots.h), and syncs it and its directory. It must not be there. */
enum error slots_file_create(struct disk *disk, const char *path, const uint8_t *slot);

/* Syncs the directory that the file is in. */
enum error file_sync_directory(struct disk *disk, const char *path);

#endif
