#include "drive/log_manager.h"

#include "base/check.h"
#include "base/mem.h"
#include "base/mutant.h"
#include "drive/log_internal.h"

struct log_manager *log_manager_new(const struct log_manager_config *config, const struct log_manager_handler *handler,
                                    void *user)
{
    struct log_manager *manager = mem_alloc_zero(sizeof *manager);
    manager->config = *config;
    manager->handler = *handler;
    manager->user = user;
    slot_file_init(&manager->metadata_file, config->metadata_file, LOG_METADATA_MAGIC, LOG_METADATA_VERSION);
    return manager;
}

static void free_chore_lists(struct log_chore *chore)
{
    for (uint32_t i = 0; chore->paths != NULL && i < chore->doomed_count; i++) mem_free(chore->paths[i]);
    mem_free(chore->paths);
    mem_free(chore->doomed);
    mem_free(chore->path);
    chore->paths = NULL;
    chore->doomed = NULL;
    chore->path = NULL;
    chore->doomed_count = 0;
}

static void release_entries(struct log_write *write)
{
    for (uint32_t i = 0; i < write->entry_count; i++) entry_unref(write->entries[i]);
    write->entry_count = 0;
}

void log_manager_free(struct log_manager *manager)
{
    if (manager == NULL) return;
    if (manager->write.file != NULL) disk_close(manager->config.disk, manager->write.file);
    release_entries(&manager->write);
    mem_free(manager->write.entries);
    mem_free(manager->write.path);
    mem_free(manager->write.buffer);
    free_chore_lists(&manager->chore);
    mem_free(manager->chore.zeros);
    log_reads_free(manager);
    for (uint32_t i = 0; i < manager->segment_count; i++) mem_free(manager->segments[i].batches);
    mem_free(manager->segments);
    mem_free(manager->doomed);
    slot_file_free(&manager->metadata_file);
    mem_free(manager);
}

char *log_segment_path(const struct log_manager *manager, uint64_t number)
{
    char name[LOG_SEGMENT_NAME_BYTES];
    log_segment_name(number, name);
    return path_join(manager->config.directory, name);
}

void log_note_identity(const struct log_manager *manager, struct log_metadata *metadata)
{
    if (manager->config.identity != NULL) metadata->identity = *manager->config.identity;
}

struct log_segment *log_add_segment(struct log_manager *manager, uint64_t number)
{
    if (manager->segment_count == manager->segment_capacity) {
        manager->segment_capacity = manager->segment_capacity == 0 ? 8 : manager->segment_capacity * 2;
        manager->segments = mem_realloc(manager->segments, manager->segment_capacity * sizeof *manager->segments);
    }
    struct log_segment *segment = &manager->segments[manager->segment_count++];
    *segment = (struct log_segment){.number = number};
    return segment;
}

static struct log_segment *current_segment(struct log_manager *manager)
{
    if (manager->segment_count == 0 || manager->roll) return NULL;
    return &manager->segments[manager->segment_count - 1];
}

uint64_t log_spare_size(const struct log_manager *manager)
{
    uint64_t limit = manager->config.segment_bytes / LOG_BATCH_ALIGNMENT * LOG_BATCH_ALIGNMENT;
    if (limit < LOG_SEGMENT_BYTES_MIN) limit = LOG_SEGMENT_BYTES_MIN;
    uint64_t size = LOG_FIRST_SEGMENT_BYTES;
    if (manager->segment_count > 0) {
        uint64_t largest = LOG_SEGMENT_HEADER_BYTES + log_batch_file_bytes(LOG_BATCH_RECORD_BYTES_MAX);
        size = manager->segments[manager->segment_count - 1].size_bytes * 4;
        if (size < largest) size = largest;
    }
    return size < limit ? size : limit;
}

struct log_segment_header log_next_header(const struct log_manager *manager, uint64_t number, uint64_t size_bytes)
{
    return (struct log_segment_header){
        .log_id = manager->log_id,
        .number = number,
        .size_bytes = size_bytes,
        .first_batch_number = manager->next_batch_number,
        .owed = manager->owed,
        .owed_extent_known = manager->owed && manager->owed_extent_known,
        .owed_index = manager->owed ? manager->owed_index : 0,
        .owed_term = manager->owed ? manager->owed_term : 0,
    };
}

static void fail(struct log_manager *manager, const char *text)
{
    if (manager->failed) return;
    manager->failed = true;
    manager->handler.failed(manager->user, text);
}

static void set_full(struct log_manager *manager, bool full)
{
    if (manager->full == full) return;
    manager->full = full;
    manager->handler.full(manager->user, full);
}

/* ---- chores: spares, removal, reset ---- */

static void begin_batch(struct log_manager *manager);

/* What a waiting batch needs of a segment. */
static uint64_t bytes_needed(const struct log_manager *manager)
{
    return manager->write.waiting ? LOG_SEGMENT_HEADER_BYTES + manager->write.batch_bytes : LOG_SEGMENT_BYTES_MIN;
}

static bool spare_suffices(const struct log_manager *manager)
{
    return manager->spare.ready && manager->spare.filled_bytes >= bytes_needed(manager);
}

static enum error fill(struct log_chore *chore, struct disk *disk)
{
    if (chore->room_needed > 0) {
        uint64_t room;
        enum error error = disk_free_space(disk, chore->directory, &room);
        if (error != ERR_OK) return error;
        if (room < chore->room_needed) {
            disk_text_format(disk->error_text, "%s: %llu bytes are needed for the log and %llu are free",
                             chore->directory, (unsigned long long)chore->room_needed, (unsigned long long)room);
            return ERR_NO_SPACE;
        }
    }
    struct disk_file *file;
    enum error error =
        disk_open(disk, chore->path, DISK_WRITE | DISK_UNCACHED | (chore->begins ? DISK_CREATE : 0), &file);
    if (error != ERR_OK) return error;
    /* What an earlier start had begun may hold anything. */
    if (chore->begins) error = disk_truncate(disk, file, 0);
    if (error == ERR_OK) error = disk_write(disk, file, chore->offset, chore->zeros, chore->bytes);
    if (error == ERR_OK) error = disk_sync(disk, file);
    disk_close(disk, file);
    return error;
}

/* Gives the room back that can't be used. What fails here changes nothing: the file isn't named by the metadata, or is
   only larger than it need be. */
static void undo_fill(struct log_chore *chore, struct disk *disk)
{
    if (chore->ready_bytes == 0) {
        disk_remove(disk, chore->path);
        return;
    }
    struct disk_file *file;
    if (disk_open(disk, chore->path, DISK_WRITE, &file) != ERR_OK) return;
    disk_truncate(disk, file, chore->ready_bytes);
    disk_close(disk, file);
}

static enum error remove_doomed(struct log_chore *chore, struct disk *disk)
{
    enum error error = ERR_OK;
    for (uint32_t i = 0; i < chore->doomed_count && error == ERR_OK; i++) {
        if (chore->doomed[i].damaged) {
            char *aside;
            error = disk_set_aside(disk, chore->paths[i], &aside);
            mem_free(aside);
        } else {
            error = disk_remove(disk, chore->paths[i]);
        }
        if (error == ERR_NO_FILE) error = ERR_OK;
    }
    return error == ERR_OK ? disk_sync_directory(disk, chore->directory) : error;
}

static enum error write_header(struct log_chore *chore, struct disk *disk)
{
    struct disk_file *file;
    enum error error = disk_open(disk, chore->path, DISK_WRITE, &file);
    if (error != ERR_OK) return error;
    error = disk_write(disk, file, 0, chore->header, LOG_BLOCK_BYTES);
    if (error == ERR_OK) error = disk_sync(disk, file);
    disk_close(disk, file);
    return error;
}

static void chore_run(struct disk_job *job, struct disk *disk)
{
    struct log_chore *chore = (struct log_chore *)((char *)job - offsetof(struct log_chore, job));
    enum error error = ERR_OK;
    chore->lacks_room = false;
    switch (chore->kind) {
    case LOG_CHORE_FILL:
        if (disk_outcome_take(&chore->outcome, fill(chore, disk), disk) == ERR_NO_SPACE) {
            chore->lacks_room = true;
            undo_fill(chore, disk);
        }
        if (chore->outcome.error != ERR_OK) return;
        if (chore->ends) error = disk_sync_directory(disk, chore->directory);
        if (error == ERR_OK && chore->saves) error = slot_save_run(&chore->save, disk);
        break;
    case LOG_CHORE_REMOVE:
        if (chore->saves) error = slot_save_run(&chore->save, disk);
        if (error == ERR_OK) error = remove_doomed(chore, disk);
        break;
    case LOG_CHORE_RESET:
        error = write_header(chore, disk);
        if (error == ERR_OK) error = slot_save_run(&chore->save, disk);
        break;
    case LOG_CHORE_LEAVE:
        error = write_header(chore, disk); /* the metadata name the spare already */
        break;
    }
    disk_outcome_take(&chore->outcome, error, disk);
}

static void step_chores(struct log_manager *manager);

static void doom_segments(struct log_manager *manager, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (manager->doomed_count == manager->doomed_capacity) {
            manager->doomed_capacity = manager->doomed_capacity == 0 ? 8 : manager->doomed_capacity * 2;
            manager->doomed = mem_realloc(manager->doomed, manager->doomed_capacity * sizeof *manager->doomed);
        }
        manager->doomed[manager->doomed_count++] =
            (struct log_doomed){.number = manager->segments[i].number, .damaged = manager->segments[i].damaged};
        mem_free(manager->segments[i].batches);
    }
    manager->segment_count -= count;
    memmove(manager->segments, manager->segments + count, manager->segment_count * sizeof *manager->segments);
}

static void reset_done(struct log_manager *manager)
{
    doom_segments(manager, manager->segment_count - 1);
    manager->segments[0].used_bytes = LOG_SEGMENT_HEADER_BYTES;
    manager->roll = manager->roll_again;
    manager->roll_again = false;
    manager->resetting = false;
    manager->reset_done(manager->reset_user);
}

static void leave_done(struct log_manager *manager)
{
    struct log_segment *segment = &manager->segments[manager->segment_count - 1];
    segment->used_bytes = LOG_SEGMENT_HEADER_BYTES;
    manager->roll = manager->roll_again;
    manager->roll_again = false;
}

static void fill_done(struct log_manager *manager)
{
    struct log_chore *chore = &manager->chore;
    struct log_spare *spare = &manager->spare;
    if (chore->lacks_room) {
        if (!spare->ready) spare->filled_bytes = 0;
        spare->target_bytes = 0;
        if (!manager->full)
            log_warn(manager->config.logger, "no room for the log", "cause=\"%s\"", chore->outcome.text);
        set_full(manager, true);
        return;
    }
    spare->filled_bytes = chore->offset + chore->bytes;
    if (!chore->ends) return;
    spare->ready = true;
    mem_free(chore->zeros);
    chore->zeros = NULL;
    chore->zeros_bytes = 0;
    if (manager->full) log_info(manager->config.logger, "there is room for the log again", "");
    set_full(manager, false);
}

static void chore_done(struct disk_job *job)
{
    struct log_manager *manager = (struct log_manager *)((char *)job - offsetof(struct log_manager, chore.job));
    struct log_chore *chore = &manager->chore;
    chore->active = false;
    if (manager->failed) return;
    if (chore->outcome.error != ERR_OK && !chore->lacks_room) {
        fail(manager, chore->outcome.text);
        return;
    }
    if (chore->saves && !chore->lacks_room) {
        slot_file_saved(&manager->metadata_file);
        manager->metadata = chore->metadata;
    }
    switch (chore->kind) {
    case LOG_CHORE_FILL:
        fill_done(manager);
        break;
    case LOG_CHORE_REMOVE:
        break;
    case LOG_CHORE_RESET:
        reset_done(manager);
        break;
    case LOG_CHORE_LEAVE:
        leave_done(manager);
        break;
    }
    free_chore_lists(chore);
    /* The callbacks may have begun a write or failed. */
    if (!manager->failed && manager->write.waiting) begin_batch(manager);
    step_chores(manager);
}

static void submit_chore(struct log_manager *manager, enum log_chore_kind kind)
{
    struct log_chore *chore = &manager->chore;
    chore->kind = kind;
    chore->active = true;
    chore->directory = manager->config.directory;
    if (chore->saves) {
        log_note_identity(manager, &chore->metadata);
        uint64_t generation = slot_file_begin(&manager->metadata_file, &chore->save);
        log_metadata_encode(&chore->metadata, generation, chore->save.slot);
    }
    /* Nobody waits for a spare or a removal, unless there is nowhere to write to. */
    bool urgent = kind == LOG_CHORE_RESET || manager->write.waiting || manager->resetting;
    chore->job = (struct disk_job){.run = chore_run, .done = chore_done, .urgent = urgent};
    disk_submit(manager->config.queue, &chore->job);
}

static void submit_remove(struct log_manager *manager)
{
    struct log_chore *chore = &manager->chore;
    chore->doomed = manager->doomed;
    chore->doomed_count = manager->doomed_count;
    manager->doomed = NULL;
    manager->doomed_count = 0;
    manager->doomed_capacity = 0;
    chore->paths = mem_alloc(chore->doomed_count * sizeof *chore->paths);
    for (uint32_t i = 0; i < chore->doomed_count; i++) {
        chore->paths[i] = log_segment_path(manager, chore->doomed[i].number);
        log_info(manager->config.logger,
                 chore->doomed[i].damaged ? "log segment is set aside" : "log segment is removed", "file=%s",
                 chore->paths[i]);
    }
    CHECK(manager->segment_count > 0);
    chore->metadata = manager->metadata;
    chore->metadata.first_segment = manager->segments[0].number;
    chore->saves = manager->resave || chore->metadata.first_segment != manager->metadata.first_segment;
    manager->resave = false;
    submit_chore(manager, LOG_CHORE_REMOVE);
}

static void submit_fill(struct log_manager *manager)
{
    struct log_chore *chore = &manager->chore;
    struct log_spare *spare = &manager->spare;
    uint64_t needed = bytes_needed(manager);
    bool looks_for_room = spare->target_bytes == 0 || spare->filled_bytes == 0 || manager->full;
    if (spare->number == 0) spare->number = manager->next_number++;
    if (spare->target_bytes == 0) spare->target_bytes = log_spare_size(manager);
    if (spare->target_bytes < needed) {
        spare->target_bytes = needed;
        looks_for_room = true;
    }
    uint64_t left = spare->target_bytes - spare->filled_bytes;
    chore->path = log_segment_path(manager, spare->number);
    chore->offset = spare->filled_bytes;
    chore->bytes = left < LOG_FILL_BYTES ? (size_t)left : LOG_FILL_BYTES;
    if (chore->zeros_bytes < chore->bytes) {
        mem_free(chore->zeros);
        chore->zeros = mem_alloc_aligned(DISK_ALIGNMENT, chore->bytes);
        memset(chore->zeros, 0, chore->bytes);
        chore->zeros_bytes = chore->bytes;
    }
    chore->begins = chore->offset == 0;
    chore->ends = chore->bytes == left;
    chore->room_needed = looks_for_room ? left : 0;
    chore->ready_bytes = spare->ready ? spare->filled_bytes : 0;
    chore->metadata = manager->metadata;
    if (spare->number > chore->metadata.last_segment) chore->metadata.last_segment = spare->number;
    if (manager->segment_count == 0) chore->metadata.first_segment = spare->number;
    chore->saves = chore->ends && !spare->ready;
    manager->retry = false;
    submit_chore(manager, LOG_CHORE_FILL);
}

/* The spare becomes a segment by its header alone, which says that the log goes on after its last entry. Returns its number. */
static uint64_t take_spare(struct log_manager *manager)
{
    struct log_chore *chore = &manager->chore;
    struct log_spare spare = manager->spare;
    manager->spare = (struct log_spare){0};
    struct log_segment_header header = log_next_header(manager, spare.number, spare.filled_bytes);
    header.first_index = manager->last_index + 1;
    header.previous_term = manager->last_term;
    header.previous_chain = manager->last_chain;
    log_segment_header_encode(&header, chore->header);
    struct log_segment *segment = log_add_segment(manager, spare.number);
    segment->size_bytes = spare.filled_bytes;
    chore->path = log_segment_path(manager, spare.number);
    return spare.number;
}

static void submit_reset(struct log_manager *manager)
{
    uint64_t number = take_spare(manager);
    manager->chore.metadata =
        (struct log_metadata){.log_id = manager->log_id, .first_segment = number, .last_segment = number};
    manager->chore.saves = true;
    submit_chore(manager, LOG_CHORE_RESET);
}

static void submit_leave(struct log_manager *manager)
{
    take_spare(manager);
    manager->chore.saves = false;
    submit_chore(manager, LOG_CHORE_LEAVE);
}

/* Whether the segment that would be written to next is damaged, and nothing is under way that begins another. */
static bool must_leave(const struct log_manager *manager)
{
    bool damaged = manager->segment_count > 0 && manager->segments[manager->segment_count - 1].damaged;
    return damaged && !manager->write.active && manager->spare.ready;
}

/* Does the next thing there is to do. */
static void step_chores(struct log_manager *manager)
{
    if (manager->failed || manager->chore.active) return;
    if (manager->resetting && spare_suffices(manager)) {
        submit_reset(manager);
    } else if (must_leave(manager) && !manager->resetting) {
        submit_leave(manager);
    } else if (manager->doomed_count > 0 || (manager->resave && manager->segment_count > 0)) {
        submit_remove(manager);
    } else if (!spare_suffices(manager) && !(manager->write.submitted && manager->write.begins_segment) &&
               (!manager->full || manager->retry)) {
        /* While a segment is being begun, the next spare isn't: two unused files would leave it open which is meant. */
        submit_fill(manager);
    }
}

void log_manager_tick(struct log_manager *manager)
{
    manager->retry = true;
    step_chores(manager);
}

/* ---- writing ---- */

static enum error write_batch(struct log_write *write, struct disk *disk)
{
    enum error error = ERR_OK;
    if (write->path != NULL) {
        if (write->file != NULL) disk_close(disk, write->file);
        error = disk_open(disk, write->path, DISK_WRITE | DISK_UNCACHED, &write->file);
        if (error != ERR_OK) {
            write->file = NULL;
            return error;
        }
    }
    size_t needed = LOG_SEGMENT_HEADER_BYTES + write->batch_bytes;
    if (write->buffer_bytes < needed) {
        mem_free(write->buffer);
        write->buffer = mem_alloc_aligned(DISK_ALIGNMENT, needed);
        write->buffer_bytes = needed;
    }
    uint8_t *batch = write->buffer + LOG_SEGMENT_HEADER_BYTES;
    log_batch_encode(&write->place, write->commit, write->entries + write->batch_begin,
                     write->batch_end - write->batch_begin, batch);
    if (write->begins_segment) {
        memset(write->buffer, 0, LOG_SEGMENT_HEADER_BYTES);
        log_segment_header_encode(&write->header, write->buffer);
        error = disk_write(disk, write->file, 0, write->buffer, needed);
    } else {
        error = disk_write(disk, write->file, write->place.offset, batch, write->batch_bytes);
    }
    if (MUTANT(LOG_WITHOUT_SYNC)) return error;
    return error == ERR_OK ? disk_sync(disk, write->file) : error;
}

static void write_run(struct disk_job *job, struct disk *disk)
{
    struct log_write *write = (struct log_write *)((char *)job - offsetof(struct log_write, job));
    disk_outcome_take(&write->outcome, write_batch(write, disk), disk);
}

static void cut_next_batch(struct log_write *write)
{
    size_t record_bytes = 0;
    write->batch_begin = write->batch_end;
    while (write->batch_end < write->entry_count) {
        size_t more = write->entries[write->batch_end]->record_bytes;
        if (write->batch_end > write->batch_begin && record_bytes + more > LOG_BATCH_RECORD_BYTES_MAX) break;
        record_bytes += more;
        write->batch_end++;
    }
    write->batch_bytes = log_batch_file_bytes(record_bytes);
}

static void write_done(struct disk_job *job)
{
    struct log_manager *manager = (struct log_manager *)((char *)job - offsetof(struct log_manager, write.job));
    struct log_write *write = &manager->write;
    write->submitted = false;
    mem_free(write->path);
    write->path = NULL;
    if (manager->failed) return;
    if (write->outcome.error != ERR_OK) {
        fail(manager, write->outcome.text);
        return;
    }

    raft_index first_index = entry_index(write->entries[write->batch_begin]);
    const struct entry *last = write->entries[write->batch_end - 1];
    if (write->begins_segment) {
        struct log_segment *segment = log_add_segment(manager, write->header.number);
        segment->size_bytes = write->header.size_bytes;
        manager->roll = manager->roll_again;
        manager->roll_again = false;
        write->file_bytes += LOG_SEGMENT_HEADER_BYTES;
        log_info(manager->config.logger, "log segment begins", "number=%llu first_index=%llu bytes=%llu",
                 (unsigned long long)segment->number, (unsigned long long)first_index,
                 (unsigned long long)segment->size_bytes);
    }
    struct log_segment *segment = &manager->segments[manager->segment_count - 1];
    if (first_index <= manager->last_index) log_index_cut(manager, first_index);
    log_index_add(manager, segment, first_index, write->place.offset, write->batch_bytes);
    segment->used_bytes = write->place.offset + write->batch_bytes;
    manager->next_batch_number++;
    manager->last_index = entry_index(last);
    manager->last_term = entry_term(last);
    manager->last_chain = entry_chain(last);
    write->file_bytes += write->batch_bytes;
    write->begins_segment = false;

    if (write->batch_end < write->entry_count) {
        write->previous_term = entry_term(last);
        write->previous_chain = entry_chain(last);
        cut_next_batch(write);
        begin_batch(manager);
        step_chores(manager);
        return;
    }
    release_entries(write);
    write->active = false;
    step_chores(manager);
    manager->handler.written(manager->user, write->number, write->file_bytes);
}

/* Finds the batch its place and sends it off, or has it wait for one. */
static void begin_batch(struct log_manager *manager)
{
    struct log_write *write = &manager->write;
    struct log_segment *segment = current_segment(manager);
    uint64_t number, offset;
    write->waiting = false;
    if (segment != NULL && segment->used_bytes + write->batch_bytes <= segment->size_bytes) {
        write->begins_segment = false;
        number = segment->number;
        offset = segment->used_bytes;
    } else {
        write->waiting = true;
        bool being_filled = manager->chore.active && manager->chore.kind == LOG_CHORE_FILL;
        if (!spare_suffices(manager) || being_filled) {
            step_chores(manager); /* the end of the chore comes back here */
            return;
        }
        write->waiting = false;
        write->begins_segment = true;
        write->header = log_next_header(manager, manager->spare.number, manager->spare.filled_bytes);
        write->header.first_index = entry_index(write->entries[write->batch_begin]);
        write->header.previous_term = write->previous_term;
        write->header.previous_chain = write->previous_chain;
        manager->spare = (struct log_spare){0};
        number = write->header.number;
        offset = LOG_SEGMENT_HEADER_BYTES;
    }
    write->place = (struct log_batch_place){.log_id = manager->log_id,
                                            .segment_number = number,
                                            .offset = offset,
                                            .batch_number = manager->next_batch_number};
    if (write->file_number != number) write->path = log_segment_path(manager, number);
    write->file_number = number;
    write->submitted = true;
    write->job = (struct disk_job){.run = write_run, .done = write_done, .urgent = true};
    disk_submit(manager->config.queue, &write->job);
}

void log_manager_write(struct log_manager *manager, struct raft_write *from, raft_term previous_term,
                       uint32_t previous_chain)
{
    struct log_write *write = &manager->write;
    if (manager->failed) return; /* contract rule 7: the entries stay where they are */
    CHECK(!write->active && !manager->resetting);
    CHECK(from->entry_count > 0 && from->first_index <= manager->last_index + 1);
    CHECK(entry_index(from->entries[0]) == from->first_index);

    if (write->entry_capacity < from->entry_count) {
        write->entries = mem_realloc(write->entries, from->entry_count * sizeof(struct entry *));
        write->entry_capacity = from->entry_count;
    }
    memcpy(write->entries, from->entries, from->entry_count * sizeof(struct entry *));
    memset(from->entries, 0, from->entry_count * sizeof(struct entry *));
    write->entry_count = from->entry_count;
    from->entry_count = 0;

    write->active = true;
    write->number = from->number;
    write->commit = from->commit;
    write->previous_term = previous_term;
    write->previous_chain = previous_chain;
    write->file_bytes = 0;
    write->batch_end = 0;
    cut_next_batch(write);
    begin_batch(manager);
}

/* ---- the log as a whole ---- */

void log_manager_certain(struct log_manager *manager)
{
    if (!manager->owed) return;
    manager->owed = false;
    manager->roll = true;
    /* A header that is on its way to the disk still says it. */
    enum log_chore_kind kind = manager->chore.kind;
    bool begins = manager->chore.active && (kind == LOG_CHORE_RESET || kind == LOG_CHORE_LEAVE);
    manager->roll_again = begins || (manager->write.submitted && manager->write.begins_segment);
}

void log_manager_reset(struct log_manager *manager, raft_index index, raft_term term, uint32_t chain,
                       void (*done)(void *user), void *user)
{
    if (manager->failed) return;
    CHECK(!manager->write.active && !manager->resetting);
    log_info(manager->config.logger, "log begins anew", "after_index=%llu", (unsigned long long)index);
    log_index_cut(manager, 0);
    manager->last_index = index;
    manager->last_term = term;
    manager->last_chain = chain;
    manager->roll = true;
    manager->resetting = true;
    manager->reset_done = done;
    manager->reset_user = user;
    /* The last one stays until another has taken its place: the metadata must name something. */
    if (!manager->spare.ready && manager->segment_count > 1) doom_segments(manager, manager->segment_count - 1);
    step_chores(manager);
}

raft_index log_manager_remove_before(struct log_manager *manager, raft_index index, uint64_t tail_bytes)
{
    /* What an uncertain log owes is to be seen until the next segment's header says it. */
    bool evidence = manager->owed && manager->roll;
    uint64_t used = 0;
    for (uint32_t i = 0; i < manager->segment_count; i++) used += manager->segments[i].used_bytes;
    uint32_t count = 0;
    for (uint32_t next = 1; next < manager->segment_count && !evidence; next++) {
        used -= manager->segments[next - 1].used_bytes;
        if (log_index_first(manager, next) > index + 1) break;
        if (used >= tail_bytes || manager->segments[next - 1].damaged) count = next;
    }
    if (count > 0 && !manager->failed && !manager->resetting) {
        doom_segments(manager, count);
        step_chores(manager);
    }
    return log_index_first(manager, 0);
}

/* ---- damage that shows while serving ---- */

uint32_t log_manager_damage(const struct log_manager *manager, raft_index *until)
{
    uint32_t count = 0;
    *until = 0;
    for (uint32_t i = 0; i < manager->segment_count; i++) {
        if (!manager->segments[i].damaged) continue;
        count++;
        *until = log_index_first(manager, i + 1) - 1;
    }
    return count;
}

void log_mark_damaged(struct log_manager *manager, struct log_segment *segment, uint64_t offset, const char *why)
{
    if (segment->damaged || manager->failed) return;
    segment->damaged = true;
    char *path = log_segment_path(manager, segment->number);
    log_error(manager->config.logger, "log segment is damaged", "file=%s offset=%llu cause=\"%s\"", path,
              (unsigned long long)offset, why);
    mem_free(path);
    /* Nothing more goes into it; a write that is on its way there still does. */
    if (segment == &manager->segments[manager->segment_count - 1] && !manager->resetting) manager->roll = true;
    manager->handler.damaged(manager->user);
    step_chores(manager);
}

void log_manager_mark_damaged(struct log_manager *manager, uint64_t number, uint64_t offset, const char *why)
{
    for (uint32_t i = 0; i < manager->segment_count; i++) {
        if (manager->segments[i].number != number) continue;
        log_mark_damaged(manager, &manager->segments[i], offset, why);
        return;
    }
}

void log_manager_resave_metadata(struct log_manager *manager, unsigned bad_slot)
{
    manager->metadata_file.first_slot = bad_slot;
    manager->resave = true;
    step_chores(manager);
}

bool log_manager_resaving_metadata(const struct log_manager *manager)
{
    return manager->resave || (manager->chore.active && manager->chore.saves);
}

bool log_manager_next_segment(const struct log_manager *manager, uint64_t after, struct log_segment_view *out)
{
    for (uint32_t i = 0; i < manager->segment_count; i++) {
        const struct log_segment *segment = &manager->segments[i];
        if (segment->number <= after) continue;
        *out = (struct log_segment_view){.log_id = manager->log_id,
                                         .number = segment->number,
                                         .used_bytes = segment->used_bytes,
                                         .damaged = segment->damaged,
                                         .headless = segment->headless};
        return true;
    }
    return false;
}

char *log_manager_segment_path(const struct log_manager *manager, uint64_t number)
{
    return log_segment_path(manager, number);
}

const struct slot_file *log_manager_metadata_file(const struct log_manager *manager)
{
    return &manager->metadata_file;
}

bool log_manager_idle(const struct log_manager *manager)
{
    return !manager->write.submitted && !manager->chore.active && manager->reads == NULL;
}

uint64_t log_manager_bytes(const struct log_manager *manager)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < manager->segment_count; i++) bytes += manager->segments[i].size_bytes;
    return bytes;
}
