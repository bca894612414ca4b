#include "drive/slot_file.h"

#include "base/mem.h"
#include "base/mutant.h"

void slot_file_init(struct slot_file *file, const char *path, uint32_t magic, uint32_t version_max)
{
    *file = (struct slot_file){
        .path = mem_copy_string(path),
        .directory = path_directory(path),
        .magic = magic,
        .version_max = version_max,
    };
}

void slot_file_free(struct slot_file *file)
{
    mem_free(file->path);
    mem_free(file->directory);
    *file = (struct slot_file){0};
}

uint8_t *slot_file_buffer(void)
{
    return mem_alloc_aligned(DISK_ALIGNMENT, SLOT_COUNT * SLOT_BYTES);
}

enum error slot_file_load(struct slot_file *file, struct disk *disk, uint8_t *data, struct bytes *content, char *text)
{
    *content = (struct bytes){0};
    struct disk_file *open;
    enum error error = disk_open(disk, file->path, DISK_READ | DISK_UNCACHED, &open);
    struct disk_unreadable unreadable = {0};
    size_t got = 0;
    if (error == ERR_OK) {
        error = disk_read_around(disk, open, 0, data, SLOT_COUNT * SLOT_BYTES, &got, &unreadable);
        disk_close(disk, open);
    }
    if (error != ERR_OK) {
        disk_text_copy(text, disk->error_text);
        return error;
    }
    file->exists = true;
    *content = bytes_of(data, got);

    struct slot_content chosen;
    char damage[256] = "";
    error = slot_choose(file->magic, file->version_max, *content, &chosen, damage);
    if (error == ERR_NO_FILE) {
        disk_text_format(text, "%s: the file holds nothing but zeros, %zu bytes, where a record was saved", file->path,
                         got);
        return ERR_DAMAGED;
    }
    if (error != ERR_OK) {
        disk_text_format(text, "%s: %s%s%.200s", file->path, damage[0] != 0 ? damage : error_text(error),
                         unreadable.bytes > 0 ? "; " : "", unreadable.text);
        return error;
    }
    file->generation = chosen.generation;
    unsigned newest = (size_t)(chosen.payload.data - data) >= SLOT_BYTES ? 1 : 0;
    bool same = got == SLOT_COUNT * SLOT_BYTES && memcmp(data, data + SLOT_BYTES, SLOT_BYTES) == 0;
    file->first_slot = same ? 0 : 1 - newest;
    file->slot_repairable = !same;
    file->slot_damaged = !chosen.slot_good[1 - newest];
    return ERR_OK;
}

enum error slot_file_make_durable(struct slot_file *file, struct disk *disk)
{
    struct disk_file *open;
    enum error error = disk_open(disk, file->path, DISK_WRITE, &open);
    if (error == ERR_OK) {
        error = disk_sync(disk, open);
        disk_close(disk, open);
    }
    if (error == ERR_OK) error = disk_sync_directory(disk, file->directory);
    file->name_is_durable = error == ERR_OK;
    return error;
}

void slot_file_warn(const struct slot_file *file, struct logger *logger, const char *event)
{
    if (!file->slot_repairable) return;
    log_warn(logger, event, "file=%s offset=%u remedy=\"the next save repairs it\"", file->path,
             file->first_slot * SLOT_BYTES);
}

uint64_t slot_file_begin(struct slot_file *file, struct slot_save *save)
{
    save->path = file->path;
    save->directory = file->directory;
    save->first_slot = file->first_slot;
    save->create = !file->exists;
    save->sync_directory = !file->name_is_durable;
    return ++file->generation;
}

static enum error write_slot(const struct slot_save *save, struct disk *disk, struct disk_file *file, unsigned slot)
{
    enum error error = disk_write(disk, file, slot * SLOT_BYTES, save->slot, SLOT_BYTES);
    return error == ERR_OK ? disk_sync(disk, file) : error;
}

enum error slot_save_run(const struct slot_save *save, struct disk *disk)
{
    struct buffer temporary = {0};
    const char *path = save->path;
    if (save->create) {
        buffer_append_format(&temporary, "%s.tmp", save->path);
        buffer_append_byte(&temporary, 0);
        path = (const char *)temporary.data;
    }
    struct disk_file *file;
    enum error error = disk_open(disk, path, DISK_WRITE | (save->create ? DISK_CREATE : 0), &file);
    if (error == ERR_OK) {
        error = write_slot(save, disk, file, save->first_slot);
        if (error == ERR_OK && !MUTANT(SAVES_ONE_SLOT)) error = write_slot(save, disk, file, 1 - save->first_slot);
        disk_close(disk, file);
    }
    if (error == ERR_OK && save->create) error = disk_rename(disk, path, save->path);
    if (error == ERR_OK && save->sync_directory) error = disk_sync_directory(disk, save->directory);
    buffer_free(&temporary);
    return error;
}

void slot_file_saved(struct slot_file *file)
{
    file->exists = true;
    file->name_is_durable = true;
    file->first_slot = 0;
    file->slot_repairable = false;
}
