#include "base/check.h"
#include "base/mem.h"
#include "base/mutant.h"
#include "drive/snapshot_internal.h"

void snapshot_task_begin(struct snapshot_task *task, struct snapshot_handler *handler,
                         void (*done)(struct snapshot_handler *handler), char *temporary, char *path)
{
    CHECK(!task->active && task->file == NULL);
    snapshot_task_end(task);
    task->handler = handler;
    task->done = done;
    task->temporary = temporary;
    task->path = path;
    task->directory = handler->config.directory;
}

void snapshot_task_end(struct snapshot_task *task)
{
    if (task->file != NULL) disk_close(task->handler->config.disk, task->file);
    mem_free(task->temporary);
    mem_free(task->path);
    mem_free(task->slice);
    mem_free(task->aside);
    buffer_free(&task->data);
    *task = (struct snapshot_task){0};
}

static enum error write_data(struct snapshot_task *task, struct disk *disk)
{
    enum error error = ERR_OK;
    if (task->file == NULL) {
        error = disk_open(disk, task->temporary, DISK_WRITE | DISK_CREATE, &task->file);
        if (error != ERR_OK) {
            task->file = NULL;
            return error;
        }
        error = disk_truncate(disk, task->file, 0);
    }
    if (error == ERR_OK) error = disk_write(disk, task->file, task->offset, task->data.data, task->data.size);
    if (MUTANT(SNAPSHOT_WITHOUT_SYNC)) return error;
    return error == ERR_OK ? disk_sync(disk, task->file) : error;
}

static void close_file(struct snapshot_task *task, struct disk *disk)
{
    if (task->file != NULL) disk_close(disk, task->file);
    task->file = NULL;
}

static enum error seal(struct snapshot_task *task, struct disk *disk)
{
    close_file(task, disk);
    enum error error = disk_rename(disk, task->temporary, task->path);
    if (error != ERR_OK) return error;
    task->sealed = true;
    if (MUTANT(SNAPSHOT_WITHOUT_DIRECTORY_SYNC)) return ERR_OK;
    return disk_sync_directory(disk, task->directory);
}

static enum error read_slice(struct snapshot_task *task, struct disk *disk)
{
    struct disk_file *file;
    enum error error = disk_open(disk, task->path, DISK_READ | DISK_UNCACHED, &file);
    if (error != ERR_OK) return error;
    error = disk_read(disk, file, task->offset, task->slice, SNAPSHOT_SLICE_BYTES, &task->slice_bytes);
    disk_close(disk, file);
    return error;
}

static enum error discard(struct snapshot_task *task, struct disk *disk)
{
    close_file(task, disk);
    const char *path = task->sealed ? task->path : task->temporary;
    enum error error =
        task->damaged && task->sealed ? disk_set_aside(disk, path, &task->aside) : disk_remove(disk, path);
    if (error == ERR_NO_FILE) return ERR_OK; /* a full disk may have kept it from being created */
    return error == ERR_OK ? disk_sync_directory(disk, task->directory) : error;
}

static void task_run(struct disk_job *job, struct disk *disk)
{
    struct snapshot_task *task = (struct snapshot_task *)((char *)job - offsetof(struct snapshot_task, job));
    enum error error = ERR_OK;
    switch (task->action) {
    case SNAPSHOT_WRITE:
        error = write_data(task, disk);
        break;
    case SNAPSHOT_SEAL:
        error = seal(task, disk);
        break;
    case SNAPSHOT_READ:
        error = read_slice(task, disk);
        break;
    case SNAPSHOT_COUNT:
        error = slot_save_run(&task->save, disk);
        break;
    case SNAPSHOT_DISCARD:
        error = discard(task, disk);
        break;
    }
    disk_outcome_take(&task->outcome, error, disk);
}

static void task_done(struct disk_job *job)
{
    struct snapshot_task *task = (struct snapshot_task *)((char *)job - offsetof(struct snapshot_task, job));
    task->active = false;
    if (!task->handler->failed) task->done(task->handler);
}

void snapshot_task_submit(struct snapshot_task *task, enum snapshot_action action)
{
    CHECK(!task->active);
    task->action = action;
    if (action == SNAPSHOT_READ && task->slice == NULL) {
        task->slice = mem_alloc_aligned(DISK_ALIGNMENT, SNAPSHOT_SLICE_BYTES);
    }
    task->active = true;
    task->job = (struct disk_job){.run = task_run, .done = task_done};
    disk_submit(task->handler->config.queue, &task->job);
}

void snapshot_task_count(struct snapshot_task *task, const struct snapshot_metadata *metadata)
{
    uint64_t generation = slot_file_begin(&task->handler->metadata_file, &task->save);
    snapshot_metadata_encode(metadata, generation, task->save.slot);
    snapshot_task_submit(task, SNAPSHOT_COUNT);
}
