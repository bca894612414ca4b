#include "drive/snapshot_handler.h"

#include "base/check.h"
#include "base/mem.h"
#include "drive/snapshot_internal.h"

/* One read at the start, where nothing else is held up. */
#define RECOVER_SLICE_BYTES (1024u * 1024)

struct snapshot_handler *snapshot_handler_new(const struct snapshot_handler_config *config,
                                              const struct snapshot_handler_handler *handler, void *user)
{
    struct snapshot_handler *made = mem_alloc_zero(sizeof *made);
    made->config = *config;
    made->handler = *handler;
    made->user = user;
    made->next_epoch = 1;
    char *path = path_join(config->directory, "metadata");
    slot_file_init(&made->metadata_file, path, SNAPSHOT_METADATA_MAGIC, SNAPSHOT_METADATA_VERSION);
    mem_free(path);
    return made;
}

void snapshot_handler_free(struct snapshot_handler *handler)
{
    if (handler == NULL) return;
    snapshot_make_free(handler);
    snapshot_receive_free(handler);
    snapshot_senders_free(handler);
    for (uint32_t i = 0; i < handler->remove_count; i++) mem_free(handler->remove_paths[i]);
    mem_free(handler->remove_paths);
    mem_free(handler->remove_damaged);
    mem_free(handler->olds);
    slot_file_free(&handler->metadata_file);
    mem_free(handler);
}

char *snapshot_path(const struct snapshot_handler *handler, uint64_t epoch)
{
    char name[SNAPSHOT_NAME_BYTES];
    snapshot_name(epoch, name);
    return path_join(handler->config.directory, name);
}

void snapshot_fail(struct snapshot_handler *handler, const char *text)
{
    if (handler->failed) return;
    handler->failed = true;
    handler->handler.failed(handler->user, text);
}

const struct snapshot_metadata *snapshot_handler_current(const struct snapshot_handler *handler)
{
    return &handler->current;
}

bool snapshot_handler_renewing(const struct snapshot_handler *handler)
{
    return handler->renewing;
}

void snapshot_handler_renew(struct snapshot_handler *handler, uint64_t epoch, bool damaged)
{
    if (handler->failed || epoch != handler->current.epoch || epoch == 0) return;
    handler->renewing = true;
    if (!damaged) return;
    handler->damaged = true;
    snapshot_senders_reject(handler);
}

const struct slot_file *snapshot_handler_metadata_file(const struct snapshot_handler *handler)
{
    return &handler->metadata_file;
}

char *snapshot_handler_current_path(const struct snapshot_handler *handler)
{
    return snapshot_path(handler, handler->current.epoch);
}

bool snapshot_handler_idle(const struct snapshot_handler *handler)
{
    return !handler->make.task.active && !handler->receive.task.active && !handler->removing &&
           snapshot_senders_idle(handler);
}

/* ---- removing what is superseded ---- */

static void add_old(struct snapshot_handler *handler, uint64_t epoch, bool damaged)
{
    if (handler->old_count == handler->old_capacity) {
        handler->old_capacity = handler->old_capacity == 0 ? 4 : handler->old_capacity * 2;
        handler->olds = mem_realloc(handler->olds, handler->old_capacity * sizeof *handler->olds);
    }
    handler->olds[handler->old_count++] = (struct snapshot_old){.epoch = epoch, .damaged = damaged};
}

static void remove_run(struct disk_job *job, struct disk *disk)
{
    struct snapshot_handler *handler =
        (struct snapshot_handler *)((char *)job - offsetof(struct snapshot_handler, remove_job));
    enum error error = ERR_OK;
    for (uint32_t i = 0; i < handler->remove_count && error == ERR_OK; i++) {
        if (handler->remove_damaged[i]) {
            char *aside;
            error = disk_set_aside(disk, handler->remove_paths[i], &aside);
            mem_free(aside);
        } else {
            error = disk_remove(disk, handler->remove_paths[i]);
        }
        if (error == ERR_NO_FILE) error = ERR_OK;
    }
    if (error == ERR_OK) error = disk_sync_directory(disk, handler->config.directory);
    disk_outcome_take(&handler->remove_outcome, error, disk);
}

static void remove_done(struct disk_job *job)
{
    struct snapshot_handler *handler =
        (struct snapshot_handler *)((char *)job - offsetof(struct snapshot_handler, remove_job));
    for (uint32_t i = 0; i < handler->remove_count; i++) mem_free(handler->remove_paths[i]);
    mem_free(handler->remove_paths);
    mem_free(handler->remove_damaged);
    handler->remove_paths = NULL;
    handler->remove_damaged = NULL;
    handler->remove_count = 0;
    handler->removing = false;
    if (handler->remove_outcome.error != ERR_OK) {
        snapshot_fail(handler, handler->remove_outcome.text);
        return;
    }
    snapshot_remove_old(handler);
}

void snapshot_remove_old(struct snapshot_handler *handler)
{
    if (handler->removing || handler->failed || handler->old_count == 0) return;
    uint32_t kept = 0, going = 0;
    char **paths = mem_alloc(handler->old_count * sizeof *paths);
    bool *damaged = mem_alloc(handler->old_count * sizeof *damaged);
    for (uint32_t i = 0; i < handler->old_count; i++) {
        struct snapshot_old old = handler->olds[i];
        if (snapshot_sender_uses(handler, old.epoch)) {
            handler->olds[kept++] = old;
            continue;
        }
        damaged[going] = old.damaged;
        paths[going] = snapshot_path(handler, old.epoch);
        if (old.damaged) log_error(handler->config.logger, "snapshot is set aside", "file=%s", paths[going]);
        going++;
    }
    handler->old_count = kept;
    if (going == 0) {
        mem_free(paths);
        mem_free(damaged);
        return;
    }
    handler->remove_paths = paths;
    handler->remove_damaged = damaged;
    handler->remove_count = going;
    handler->removing = true;
    handler->remove_job = (struct disk_job){.run = remove_run, .done = remove_done};
    disk_submit(handler->config.queue, &handler->remove_job);
}

void snapshot_counts(struct snapshot_handler *handler, const struct snapshot_metadata *metadata)
{
    if (handler->current.epoch != 0) add_old(handler, handler->current.epoch, handler->damaged);
    handler->current = *metadata;
    handler->renewing = false;
    handler->damaged = false;
    log_info(handler->config.logger, "snapshot counts", "epoch=%llu index=%llu bytes=%llu",
             (unsigned long long)metadata->epoch, (unsigned long long)metadata->index,
             (unsigned long long)metadata->size_bytes);
    /* A received one replaces the log only after this: until the owner is done, the older one does no harm. */
    if (handler->receive.state != RECEIVE_RECEIVED) snapshot_remove_old(handler);
}

/* ---- recovery ---- */

struct found {
    uint64_t *epochs; /* ascending, as the directory lists them */
    uint32_t epoch_count, epoch_capacity;
    char **temporaries;
    uint32_t temporary_count, temporary_capacity;
};

static bool ends_in(const char *name, const char *end)
{
    size_t name_size = strlen(name), end_size = strlen(end);
    return name_size >= end_size && strcmp(name + name_size - end_size, end) == 0;
}

static void found_visit(void *user, const char *name)
{
    struct found *found = user;
    uint64_t epoch;
    if (snapshot_name_parse(name, &epoch)) {
        if (found->epoch_count == found->epoch_capacity) {
            found->epoch_capacity = found->epoch_capacity == 0 ? 8 : found->epoch_capacity * 2;
            found->epochs = mem_realloc(found->epochs, found->epoch_capacity * sizeof *found->epochs);
        }
        found->epochs[found->epoch_count++] = epoch;
    } else if (ends_in(name, ".tmp")) {
        if (found->temporary_count == found->temporary_capacity) {
            found->temporary_capacity = found->temporary_capacity == 0 ? 8 : found->temporary_capacity * 2;
            found->temporaries =
                mem_realloc(found->temporaries, found->temporary_capacity * sizeof *found->temporaries);
        }
        found->temporaries[found->temporary_count++] = mem_copy_string(name);
    }
}

static void found_free(struct found *found)
{
    for (uint32_t i = 0; i < found->temporary_count; i++) mem_free(found->temporaries[i]);
    mem_free(found->temporaries);
    mem_free(found->epochs);
}

static enum error load_chunks(struct replica *replica, struct snapshot_reader *reader, bool *begun,
                              const struct snapshot_metadata *expected, const char *path, char *text)
{
    struct snapshot_chunk chunk;
    enum error error;
    while ((error = snapshot_reader_next(reader, &chunk)) == ERR_OK) {
        const struct snapshot_header *header = snapshot_reader_header(reader);
        if (chunk.type == SNAPSHOT_CHUNK_END) continue;
        if (chunk.type != SNAPSHOT_CHUNK_HEADER) {
            error = replica_load_chunk(replica, chunk.type, chunk.payload);
        } else if (expected != NULL && (header->index != expected->index || header->term != expected->term ||
                                        header->snapshot_id != expected->snapshot_id)) {
            error = ERR_DAMAGED;
        } else {
            *begun = true;
            error = replica_load_begin(replica, header);
        }
        if (error != ERR_OK) {
            disk_text_format(text, "%s: offset %llu: the chunk can't be loaded: %s", path,
                             (unsigned long long)chunk.offset, error_text(error));
            return error;
        }
    }
    if (error == ERR_NOT_READY) return ERR_OK;
    disk_text_format(text, "%s: offset %llu: %s", path, (unsigned long long)snapshot_reader_offset(reader),
                     snapshot_reader_damage(reader));
    return error;
}

/* Loads one file into the replica. On failure the replica is as before. */
static enum error load_file(struct snapshot_handler *handler, struct replica *replica, uint64_t epoch,
                            const struct snapshot_metadata *expected, struct snapshot_metadata *out, char *text)
{
    struct disk *disk = handler->config.disk;
    char *path = snapshot_path(handler, epoch);
    uint8_t *slice = mem_alloc_aligned(DISK_ALIGNMENT, RECOVER_SLICE_BYTES);
    struct snapshot_reader *reader = snapshot_reader_new();
    bool begun = false;
    uint64_t offset = 0;

    struct disk_unreadable unreadable = {0};
    struct disk_file *file;
    enum error error = disk_open(disk, path, DISK_READ | DISK_UNCACHED, &file);
    if (error != ERR_OK) disk_text_copy(text, disk->error_text);
    if (error == ERR_OK) {
        size_t got = RECOVER_SLICE_BYTES;
        while (error == ERR_OK && got == RECOVER_SLICE_BYTES) {
            error = disk_read_around(disk, file, offset, slice, RECOVER_SLICE_BYTES, &got, &unreadable);
            if (error != ERR_OK) {
                disk_text_copy(text, disk->error_text);
                break;
            }
            offset += got;
            snapshot_reader_feed(reader, bytes_of(slice, got));
            error = load_chunks(replica, reader, &begun, expected, path, text);
            if (error == ERR_DAMAGED && unreadable.bytes > 0) {
                disk_text_format(text, "%s: offset %llu can't be read (%.200s)", path,
                                 (unsigned long long)unreadable.first_offset, unreadable.text);
            }
        }
        disk_close(disk, file);
    }
    if (error == ERR_IO) error = ERR_DAMAGED; /* what can't be read is of no more use than what doesn't check */
    if (error == ERR_OK &&
        (!snapshot_reader_complete(reader) || (expected != NULL && offset != expected->size_bytes))) {
        disk_text_format(text, "%s: offset %llu: the file ends early", path, (unsigned long long)offset);
        error = ERR_DAMAGED;
    }
    if (error == ERR_OK) {
        const struct snapshot_header *header = snapshot_reader_header(reader);
        *out = (struct snapshot_metadata){.epoch = epoch,
                                          .index = header->index,
                                          .term = header->term,
                                          .size_bytes = offset,
                                          .snapshot_id = header->snapshot_id};
        error = replica_load_finish(replica);
        if (error != ERR_OK) disk_text_format(text, "%s: can't be loaded: %s", path, error_text(error));
    }
    if (error != ERR_OK && begun) replica_load_abandon(replica);
    snapshot_reader_free(reader);
    mem_free(slice);
    mem_free(path);
    return error;
}

/* Syncs the file and the directory, and saves the metadata, or makes them durable when they say so already. */
static enum error make_count(struct snapshot_handler *handler, const struct snapshot_metadata *snapshot, bool saved,
                             char *text)
{
    struct disk *disk = handler->config.disk;
    char *path = snapshot_path(handler, snapshot->epoch);
    struct disk_file *file;
    enum error error = disk_open(disk, path, DISK_WRITE, &file);
    if (error == ERR_OK) {
        error = disk_sync(disk, file);
        disk_close(disk, file);
    }
    if (error == ERR_OK) error = disk_sync_directory(disk, handler->config.directory);
    if (error == ERR_OK && !saved) {
        struct slot_save *save = mem_alloc_zero(sizeof *save);
        snapshot_metadata_encode(snapshot, slot_file_begin(&handler->metadata_file, save), save->slot);
        error = slot_save_run(save, disk);
        if (error == ERR_OK) slot_file_saved(&handler->metadata_file);
        mem_free(save);
    } else if (error == ERR_OK) {
        error = slot_file_make_durable(&handler->metadata_file, disk);
    }
    if (error != ERR_OK) disk_text_copy(text, disk->error_text);
    mem_free(path);
    return error;
}

static enum error load_metadata(struct snapshot_handler *handler, struct snapshot_metadata *out, char *text)
{
    uint8_t *data = slot_file_buffer();
    struct bytes content;
    enum error error = slot_file_load(&handler->metadata_file, handler->config.disk, data, &content, text);
    if (error == ERR_OK) {
        char damage[256] = "";
        uint64_t generation;
        error = snapshot_metadata_decode(content, out, &generation, damage);
        if (error != ERR_OK) disk_text_format(text, "%s: %s", handler->metadata_file.path, damage);
    }
    mem_free(data);
    return error;
}

static enum error set_aside(struct snapshot_handler *handler, uint64_t epoch, const char *why)
{
    char *path = snapshot_path(handler, epoch);
    char *aside;
    log_error(handler->config.logger, "snapshot is damaged", "cause=\"%s\"", why);
    enum error error = disk_set_aside(handler->config.disk, path, &aside);
    if (error == ERR_OK) log_error(handler->config.logger, "snapshot set aside", "file=%s", aside);
    mem_free(aside);
    mem_free(path);
    return error;
}

/* Removes what a crash left, and every snapshot but the one that counts. */
static enum error clean_up(struct snapshot_handler *handler, const struct found *found, const bool *damaged,
                           const char *damage)
{
    struct disk *disk = handler->config.disk;
    enum error error = ERR_OK;
    bool changed = false;
    for (uint32_t i = 0; i < found->temporary_count && error == ERR_OK; i++) {
        char *path = path_join(handler->config.directory, found->temporaries[i]);
        error = disk_remove(disk, path);
        if (error == ERR_NO_FILE) error = ERR_OK; /* it has become the metadata meanwhile */
        mem_free(path);
        changed = true;
    }
    for (uint32_t i = 0; i < found->epoch_count && error == ERR_OK; i++) {
        if (found->epochs[i] == handler->current.epoch) continue;
        changed = true;
        if (damaged[i]) {
            error = set_aside(handler, found->epochs[i], damage);
        } else {
            char *path = snapshot_path(handler, found->epochs[i]);
            error = disk_remove(disk, path);
            mem_free(path);
        }
    }
    if (error == ERR_OK && changed) error = disk_sync_directory(disk, handler->config.directory);
    return error;
}

/* Tries the one that the metadata name, then the others, newest first. ERR_OK with out->epoch 0: none is good. */
static enum error load_newest(struct snapshot_handler *handler, struct replica *replica, const struct found *found,
                              const struct snapshot_metadata *named, bool *damaged, struct snapshot_metadata *out,
                              char *damage)
{
    char text[DISK_TEXT_BYTES];
    for (int others = named->epoch == 0; others <= 1; others++) {
        for (uint32_t i = found->epoch_count; i-- > 0;) {
            if ((found->epochs[i] == named->epoch) == (others == 1)) continue;
            enum error error = load_file(handler, replica, found->epochs[i], others == 1 ? NULL : named, out, text);
            if (error == ERR_OK) return ERR_OK;
            *out = (struct snapshot_metadata){0};
            if (damage[0] == 0) disk_text_copy(damage, text);
            if (error != ERR_DAMAGED) {
                disk_text_copy(damage, text);
                return error;
            }
            damaged[i] = true;
        }
    }
    return ERR_OK;
}

enum error snapshot_handler_recover(struct snapshot_handler *handler, struct replica *replica,
                                    struct snapshot_metadata *out, char *text)
{
    struct disk *disk = handler->config.disk;
    *out = (struct snapshot_metadata){0};
    text[0] = 0;
    struct found found = {0};
    struct snapshot_metadata named = {0};
    bool *damaged = NULL;
    char damage[DISK_TEXT_BYTES] = "";

    enum error error = disk_make_directory(disk, handler->config.directory);
    if (error == ERR_OK) error = disk_list(disk, handler->config.directory, found_visit, &found);
    if (error != ERR_OK) {
        disk_text_copy(text, disk->error_text);
        goto out;
    }
    for (uint32_t i = 0; i < found.epoch_count; i++) {
        if (found.epochs[i] >= handler->next_epoch) handler->next_epoch = found.epochs[i] + 1;
    }
    enum error metadata_error = load_metadata(handler, &named, text);
    if (metadata_error == ERR_BAD_VERSION || metadata_error == ERR_IO || metadata_error == ERR_NO_PERMISSION) {
        error = metadata_error;
        goto out;
    }
    if (metadata_error == ERR_OK) {
        slot_file_warn(&handler->metadata_file, handler->config.logger, "snapshot metadata slot is damaged or older");
    } else if (metadata_error == ERR_DAMAGED) {
        log_error(handler->config.logger, "snapshot metadata are damaged", "cause=\"%s\"", text);
        disk_text_copy(damage, text);
    }
    if (named.epoch >= handler->next_epoch) handler->next_epoch = named.epoch + 1;

    damaged = mem_alloc_zero(found.epoch_count + 1);
    error = load_newest(handler, replica, &found, &named, damaged, &handler->current, damage);
    if (error == ERR_OK && handler->current.epoch == 0 && metadata_error != ERR_NO_FILE) {
        /* A snapshot counted, and log that it covers may be gone: only the owner can tell what to do. */
        if (damage[0] == 0) {
            disk_text_format(damage, "%s: names snapshot %016llx, which isn't there", handler->metadata_file.path,
                             (unsigned long long)named.epoch);
        }
        disk_text_copy(text, damage);
        error = clean_up(handler, &found, damaged, damage);
        if (error != ERR_OK) {
            disk_text_copy(text, disk->error_text);
        } else {
            error = ERR_DAMAGED;
        }
        goto out;
    }
    if (error != ERR_OK) {
        disk_text_copy(text, damage);
        goto out;
    }
    if (handler->current.epoch != 0) {
        if (metadata_error == ERR_NO_FILE) {
            log_warn(handler->config.logger, "snapshot metadata are missing, the newest snapshot that is whole counts",
                     "file=%s epoch=%llu", handler->metadata_file.path, (unsigned long long)handler->current.epoch);
        }
        bool saved = handler->current.epoch == named.epoch && !handler->metadata_file.slot_repairable;
        error = make_count(handler, &handler->current, saved, text);
        if (error != ERR_OK) goto out;
    }
    error = clean_up(handler, &found, damaged, damage);
    if (error != ERR_OK) disk_text_copy(text, disk->error_text);
    *out = handler->current;
out:
    found_free(&found);
    mem_free(damaged);
    return error;
}
