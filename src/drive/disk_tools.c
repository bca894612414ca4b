#include "drive/disk_tools.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"

/* How many set-aside files of one name there may be before a person has to look. */
#define SET_ASIDE_MAX 1000u

/* The buffer's bytes as a string of their own; the buffer is emptied. */
static char *take_string(struct buffer *buffer)
{
    buffer_append_byte(buffer, 0);
    char *string = (char *)buffer->data;
    *buffer = (struct buffer){0};
    return string;
}

char *path_join(const char *directory, const char *name)
{
    size_t size = strlen(directory);
    struct buffer path = {0};
    buffer_append_string(&path, directory);
    if (size == 0 || directory[size - 1] != '/') buffer_append_byte(&path, '/');
    buffer_append_string(&path, name);
    return take_string(&path);
}

char *path_directory(const char *path)
{
    const char *slash = strrchr(path, '/');
    struct buffer directory = {0};
    if (slash == NULL) {
        buffer_append_string(&directory, ".");
    } else if (slash == path) {
        buffer_append_string(&directory, "/");
    } else {
        buffer_append(&directory, path, (size_t)(slash - path));
    }
    return take_string(&directory);
}

const char *path_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

void disk_text_copy(char *out, const char *text)
{
    size_t size = strlen(text);
    if (size >= DISK_TEXT_BYTES) size = DISK_TEXT_BYTES - 1;
    memmove(out, text, size);
    out[size] = 0;
}

void disk_text_format(char *out, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(out, DISK_TEXT_BYTES, format, arguments);
    va_end(arguments);
}

enum error disk_outcome_take(struct disk_outcome *outcome, enum error error, const struct disk *disk)
{
    outcome->error = error;
    if (error != ERR_OK) disk_text_copy(outcome->text, disk->error_text);
    return error;
}

/* Not zero anywhere, so that no block looks untouched or cut; a length of it is beyond every limit. */
#define UNREADABLE_FILL 0xDB

enum error disk_read_around(struct disk *disk, struct disk_file *file, uint64_t offset, uint8_t *data, size_t size,
                            size_t *got, struct disk_unreadable *unreadable)
{
    enum error error = disk_read(disk, file, offset, data, size, got);
    if (error != ERR_IO) return error;
    uint64_t file_bytes;
    error = disk_size(disk, file, &file_bytes);
    if (error != ERR_OK) return error;
    if (size > file_bytes - offset) size = offset < file_bytes ? (size_t)(file_bytes - offset) : 0;
    for (size_t at = 0; at < size; at += DISK_ALIGNMENT) {
        size_t piece_got, piece = size - at < DISK_ALIGNMENT ? size - at : DISK_ALIGNMENT;
        error = disk_read(disk, file, offset + at, data + at, DISK_ALIGNMENT, &piece_got);
        if (error == ERR_OK && piece_got >= piece) continue;
        if (error != ERR_OK && error != ERR_IO) return error;
        if (unreadable->bytes == 0) {
            unreadable->first_offset = offset + at;
            disk_text_copy(unreadable->text, error != ERR_OK ? disk->error_text : "the read came back short");
        }
        unreadable->bytes += piece;
        memset(data + at, UNREADABLE_FILL, piece);
    }
    *got = size;
    return ERR_OK;
}

enum error disk_make_directory(struct disk *disk, const char *path)
{
    if (disk_is_directory(disk, path)) return ERR_OK;
    enum error error = disk_make_directories(disk, path);
    if (error != ERR_OK) return error;
    char *parent = path_directory(path);
    error = disk_sync_directory(disk, parent);
    mem_free(parent);
    return error;
}

enum error disk_probe(struct disk *disk, const char *path)
{
    struct disk_file *file;
    enum error error = disk_open(disk, path, DISK_READ, &file);
    if (error == ERR_OK) disk_close(disk, file);
    return error;
}

/* The first of path.damaged-1, path.damaged-2, … that isn't there (owned by the caller). */
static enum error free_name(struct disk *disk, const char *path, char **out)
{
    *out = NULL;
    for (unsigned number = 1; number <= SET_ASIDE_MAX; number++) {
        struct buffer name = {0};
        buffer_append_format(&name, "%s.damaged-%u", path, number);
        char *candidate = take_string(&name);
        enum error error = disk_probe(disk, candidate);
        if (error == ERR_NO_FILE) {
            *out = candidate;
            return ERR_OK;
        }
        mem_free(candidate);
        if (error != ERR_OK) return error;
    }
    disk_text_format(disk->error_text, "rename %s: %u damaged copies are there already; remove some", path,
                     SET_ASIDE_MAX);
    return ERR_EXISTS;
}

enum error disk_set_aside(struct disk *disk, const char *path, char **aside)
{
    enum error error = free_name(disk, path, aside);
    if (error == ERR_OK) error = disk_rename(disk, path, *aside);
    if (error != ERR_OK) {
        mem_free(*aside);
        *aside = NULL;
    }
    return error;
}

static enum error write_copy(struct disk *disk, const char *path, const uint8_t *data, size_t size)
{
    struct disk_file *file;
    enum error error = disk_open(disk, path, DISK_WRITE | DISK_CREATE, &file);
    if (error != ERR_OK) return error;
    error = disk_write(disk, file, 0, data, size);
    if (error == ERR_OK) error = disk_sync(disk, file);
    disk_close(disk, file);
    char *directory = path_directory(path);
    if (error == ERR_OK) error = disk_sync_directory(disk, directory);
    mem_free(directory);
    return error;
}

enum error disk_copy_aside(struct disk *disk, const char *path, char **aside)
{
    enum error error = free_name(disk, path, aside);
    if (error != ERR_OK) return error;
    uint8_t *data = mem_alloc_aligned(DISK_ALIGNMENT, DISK_COPY_BYTES_MAX);
    struct disk_unreadable unreadable = {0};
    struct disk_file *file;
    size_t got = 0;
    error = disk_open(disk, path, DISK_READ | DISK_UNCACHED, &file);
    if (error == ERR_OK) {
        error = disk_read_around(disk, file, 0, data, DISK_COPY_BYTES_MAX, &got, &unreadable);
        disk_close(disk, file);
    }
    if (error == ERR_OK) error = write_copy(disk, *aside, data, got);
    mem_free(data);
    if (error != ERR_OK) {
        mem_free(*aside);
        *aside = NULL;
    }
    return error;
}
