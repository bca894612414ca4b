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

/* Makes the directory and its missing parents; a new one's entry in its parent is durable on return. */
enum error disk_make_directory(struct disk *disk, const char *path);

/* Whether there is a file; ERR_OK, ERR_NO_FILE or what kept it from being opened. */
enum error disk_probe(struct disk *disk, const char *path);

/* Renames the file to the first free one of path.damaged-1, path.damaged-2, …, which *aside then names (owned by the
   caller; NULL on failure). The rename isn't durable before the directory is synced. */
enum error disk_set_aside(struct disk *disk, const char *path, char **aside);

#endif
