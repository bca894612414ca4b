/*
 * disk_tools.h - what the owners of files share: paths, an error taken off the disk, setting damaged files aside.
 */
#ifndef CORACLE_DRIVE_DISK_TOOLS_H
#define CORACLE_DRIVE_DISK_TOOLS_H

#include "port/disk.h"

/* "directory/name", owned by the caller (mem_free). */
char *path_join(const char *directory, const char *name);
/* The directory that the path is in ("." for a bare name), owned by the caller (mem_free). */
char *path_directory(const char *path);
/* The path's last part; a view into it. */
const char *path_name(const char *path);

/* Bytes of every `text` that a function here or in drive fills in. */
#define DISK_TEXT_BYTES 512

/* How a job's run ended, carried from the writer to the core thread. */
struct disk_outcome {
    enum error error;
    char text[DISK_TEXT_BYTES]; /* of a failure */
};

/* Takes `error` and, if it is one, the disk's text. Returns `error`. */
enum error disk_outcome_take(struct disk_outcome *outcome, enum error error, const struct disk *disk);

/* Copies text, cut to DISK_TEXT_BYTES. */
void disk_text_copy(char *out, const char *text);
void disk_text_format(char *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* What a read couldn't get from the device. */
struct disk_unreadable {
    uint64_t bytes; /* 0: everything was read */
    uint64_t first_offset;
    char text[DISK_TEXT_BYTES]; /* of the first failure */
};

/*
 * Reads as disk_read does, and goes around what the device can't read: when a read fails with ERR_IO it is done again in
 * pieces of DISK_ALIGNMENT, and each piece that fails is filled with bytes that no checksum in our formats takes for good,
 * for an untouched block or for one that a crash cut. So a medium's error is damage of that piece and no more. Adds to *unreadable
 * (the caller zeroes it). `offset`, `data` and `size` are aligned.
 */
enum error disk_read_around(struct disk *disk, struct disk_file *file, uint64_t offset, uint8_t *data, size_t size,
                            size_t *got, struct disk_unreadable *unreadable);

/* Makes the directory and its missing parents; a new one's entry in its parent is durable on return. */
enum error disk_make_directory(struct disk *disk, const char *path);

/* Whether there is a file; ERR_OK, ERR_NO_FILE or what kept it from being opened. */
enum error disk_probe(struct disk *disk, const char *path);

/* Renames the file to the first free one of path.damaged-1, path.damaged-2, …, which *aside then names (owned by the
   caller; NULL on failure). The rename isn't durable before the directory is synced. */
enum error disk_set_aside(struct disk *disk, const char *path, char **aside);

/* Likewise, but copies: a small file (what is beyond DISK_COPY_BYTES_MAX is left out) stays where it is. Durable on return. */
#define DISK_COPY_BYTES_MAX (64u * 1024)
enum error disk_copy_aside(struct disk *disk, const char *path, char **aside);

#endif
