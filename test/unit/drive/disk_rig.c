#include "disk_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"

static void submit(struct disk_queue *queue, struct disk_job *job)
{
    struct rig *rig = (struct rig *)((char *)queue - offsetof(struct rig, queue));
    struct disk_job **at = job->urgent ? &rig->urgent : &rig->normal;
    while (*at != NULL) {
        assert_ptr_not_equal(*at, job); /* submitted twice */
        at = &(*at)->next;
    }
    job->next = NULL;
    *at = job;
}

static const struct disk_queue_operations operations = {.submit = submit};

static void keep_line(struct logger *logger, enum log_level level, const char *event, const char *fields)
{
    struct rig *rig = (struct rig *)((char *)logger - offsetof(struct rig, logger));
    buffer_append_format(&rig->said, "%s: %s: %s\n", log_level_name(level), event, fields);
}

void rig_init(struct rig *rig, uint64_t seed)
{
    *rig = (struct rig){.queue.operations = &operations, .logger = {.level = LOG_LEVEL_WARN, .write = keep_line}};
    sim_world_init(&rig->world, seed);
    sim_disk_init(&rig->disk, &rig->world, 0);
}

void rig_free(struct rig *rig)
{
    sim_disk_free(&rig->disk);
    sim_world_free(&rig->world);
    buffer_free(&rig->said);
    mem_free(rig->bad_path);
}

bool rig_run_one(struct rig *rig)
{
    struct disk_job **from = rig->urgent != NULL ? &rig->urgent : &rig->normal;
    struct disk_job *job = *from;
    if (job == NULL || rig->disk.dead) return false;
    *from = job->next;
    rig->jobs_run++;
    job->run(job, &rig->disk.disk);
    if (rig->disk.dead) return false;
    job->done(job);
    return true;
}

void rig_run(struct rig *rig)
{
    for (unsigned i = 0; rig_run_one(rig); i++) assert_true(i < 1000000);
}

unsigned rig_waiting(const struct rig *rig)
{
    unsigned count = 0;
    for (const struct disk_job *job = rig->urgent; job != NULL; job = job->next) count++;
    for (const struct disk_job *job = rig->normal; job != NULL; job = job->next) count++;
    return count;
}

void rig_drop(struct rig *rig)
{
    rig->urgent = NULL;
    rig->normal = NULL;
}

void rig_restart(struct rig *rig, bool power_loss)
{
    rig_drop(rig);
    sim_disk_restart(&rig->disk, power_loss);
}

bool rig_said(const struct rig *rig, const char *text)
{
    struct buffer copy = {0};
    buffer_append(&copy, rig->said.data, rig->said.size);
    buffer_append_byte(&copy, 0);
    bool found = strstr((const char *)copy.data, text) != NULL;
    buffer_free(&copy);
    return found;
}

bool rig_exists(struct rig *rig, const char *path)
{
    struct disk_file *file;
    if (disk_open(&rig->disk.disk, path, DISK_READ, &file) != ERR_OK) return false;
    disk_close(&rig->disk.disk, file);
    return true;
}

struct counting {
    const char *part;
    unsigned count;
};

static void count_name(void *user, const char *name)
{
    struct counting *counting = user;
    if (strstr(name, counting->part) != NULL) counting->count++;
}

unsigned rig_count(struct rig *rig, const char *directory, const char *part)
{
    struct counting counting = {.part = part};
    assert_int_equal(disk_list(&rig->disk.disk, directory, count_name, &counting), ERR_OK);
    return counting.count;
}

static struct disk_file *open_file(struct rig *rig, const char *path)
{
    struct disk_file *file;
    assert_int_equal(disk_open(&rig->disk.disk, path, DISK_READ | DISK_WRITE, &file), ERR_OK);
    return file;
}

uint64_t rig_size(struct rig *rig, const char *path)
{
    struct disk_file *file = open_file(rig, path);
    uint64_t size;
    assert_int_equal(disk_size(&rig->disk.disk, file, &size), ERR_OK);
    disk_close(&rig->disk.disk, file);
    return size;
}

void rig_read(struct rig *rig, const char *path, uint64_t offset, void *data, size_t size)
{
    struct disk_file *file = open_file(rig, path);
    size_t got;
    assert_int_equal(disk_read(&rig->disk.disk, file, offset, data, size, &got), ERR_OK);
    assert_int_equal(got, size);
    disk_close(&rig->disk.disk, file);
}

void rig_write(struct rig *rig, const char *path, uint64_t offset, const void *data, size_t size)
{
    struct disk_file *file = open_file(rig, path);
    assert_int_equal(disk_write(&rig->disk.disk, file, offset, data, size), ERR_OK);
    assert_int_equal(disk_sync(&rig->disk.disk, file), ERR_OK);
    disk_close(&rig->disk.disk, file);
}

void rig_flip(struct rig *rig, const char *path, uint64_t offset, uint8_t mask)
{
    uint8_t byte;
    rig_read(rig, path, offset, &byte, 1);
    byte ^= mask;
    rig_write(rig, path, offset, &byte, 1);
}

void rig_remove(struct rig *rig, const char *path)
{
    assert_int_equal(disk_remove(&rig->disk.disk, path), ERR_OK);
    sim_disk_sync_all(&rig->disk);
}

/* ---- what the device can't read ---- */

static struct rig *rig_of(struct disk *disk)
{
    return (struct rig *)((char *)disk - offsetof(struct rig, disk.disk));
}

static enum error open_noting(struct disk *disk, const char *path, unsigned flags, struct disk_file **out)
{
    struct rig *rig = rig_of(disk);
    enum error error = rig->real_operations->open(disk, path, flags, out);
    for (size_t i = 0; error == ERR_OK && i < RIG_BAD_FILES && strcmp(path, rig->bad_path) == 0; i++) {
        if (rig->bad_files[i] != NULL) continue;
        rig->bad_files[i] = *out;
        break;
    }
    return error;
}

static void close_noting(struct disk *disk, struct disk_file *file)
{
    struct rig *rig = rig_of(disk);
    for (size_t i = 0; i < RIG_BAD_FILES; i++) {
        if (rig->bad_files[i] == file) rig->bad_files[i] = NULL;
    }
    rig->real_operations->close(disk, file);
}

static enum error read_failing(struct disk *disk, struct disk_file *file, uint64_t offset, void *data, size_t size,
                               size_t *got)
{
    struct rig *rig = rig_of(disk);
    bool touches = offset < rig->bad_offset + rig->bad_bytes && offset + size > rig->bad_offset;
    for (size_t i = 0; i < RIG_BAD_FILES && touches; i++) {
        if (rig->bad_files[i] != file) continue;
        snprintf(disk->error_text, sizeof disk->error_text, "read %s: Input/output error", rig->bad_path);
        memset(data, 0, size); /* nobody may look at it */
        return ERR_IO;
    }
    return rig->real_operations->read(disk, file, offset, data, size, got);
}

void rig_readable(struct rig *rig)
{
    if (rig->real_operations != NULL) rig->disk.disk.operations = rig->real_operations;
    mem_free(rig->bad_path);
    rig->bad_path = NULL;
    memset(rig->bad_files, 0, sizeof rig->bad_files);
}

void rig_unreadable(struct rig *rig, const char *path, uint64_t offset, uint64_t size)
{
    rig_readable(rig);
    rig->real_operations = rig->disk.disk.operations;
    rig->operations = *rig->real_operations;
    rig->operations.open = open_noting;
    rig->operations.close = close_noting;
    rig->operations.read = read_failing;
    rig->bad_path = mem_copy_string(path);
    rig->bad_offset = offset;
    rig->bad_bytes = size;
    rig->disk.disk.operations = &rig->operations;
}
