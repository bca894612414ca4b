#include "base/check.h"
#include "base/mark.h"
#include "base/mem.h"
#include "base/mutant.h"
#include "drive/log_internal.h"

/* One read at the start, where nothing else is held up. */
#define RECOVER_SLICE_BYTES (1024u * 1024)

/* A segment file that is there. */
struct found_file {
    uint64_t number;
    uint64_t size_bytes;
    bool untouched; /* all zero */
    bool damaged;
    uint64_t damaged_offset; /* of the first bad block */
};

struct recovery {
    struct log_manager *manager;
    struct disk *disk;
    struct found_file *files; /* ascending */
    uint32_t file_count, file_capacity;
    bool fresh;
    bool metadata_lost; /* missing or damaged */
    char metadata_text[DISK_TEXT_BYTES];
    struct log_scan *scan;
    uint8_t *slice; /* RECOVER_SLICE_BYTES, aligned */
    const struct log_manager_sink *sink;
    void *sink_user;
    char *text;
    raft_index last_index; /* of what the sink got */
    raft_index committed;
};

static void visit(void *user, const char *name)
{
    struct recovery *recovery = user;
    uint64_t number;
    if (!log_segment_name_parse(name, &number)) return;
    if (recovery->file_count == recovery->file_capacity) {
        recovery->file_capacity = recovery->file_capacity == 0 ? 16 : recovery->file_capacity * 2;
        recovery->files = mem_realloc(recovery->files, recovery->file_capacity * sizeof *recovery->files);
    }
    recovery->files[recovery->file_count++] = (struct found_file){.number = number};
}

static enum error disk_failed(struct recovery *recovery, enum error error)
{
    if (error != ERR_OK) disk_text_copy(recovery->text, recovery->disk->error_text);
    return error;
}

static enum error read_metadata(struct log_manager *manager, struct log_metadata *out, char *text)
{
    uint8_t *data = slot_file_buffer();
    struct bytes content;
    enum error error = slot_file_load(&manager->metadata_file, manager->config.disk, data, &content, text);
    if (error == ERR_OK) {
        char damage[SLOT_DAMAGE_BYTES] = "";
        uint64_t generation;
        error = log_metadata_decode(content, out, &generation, damage);
        if (error != ERR_OK) disk_text_format(text, "%s: %s", manager->metadata_file.path, damage);
    }
    mem_free(data);
    return error;
}

enum error log_manager_load_identity(struct log_manager *manager, struct raft_state *out, char *text)
{
    struct log_metadata *metadata = mem_alloc_zero(sizeof *metadata);
    enum error error = read_metadata(manager, metadata, text);
    *out = metadata->identity;
    mem_free(metadata);
    if (error != ERR_OK || out->member != 0) return error;
    disk_text_format(text, "%s: says nothing of the member", manager->metadata_file.path);
    return ERR_DAMAGED;
}

static enum error load_metadata(struct recovery *recovery, uint64_t log_id)
{
    struct log_manager *manager = recovery->manager;
    char *text = recovery->metadata_text;
    enum error error = read_metadata(manager, &manager->metadata, text);
    if (error == ERR_OK && manager->metadata.log_id != log_id) {
        disk_text_format(text, "%s: belongs to another log", manager->metadata_file.path);
        error = ERR_DAMAGED;
    }
    if (error == ERR_NO_FILE) disk_text_format(text, "%s: the file is missing", manager->metadata_file.path);
    if (error == ERR_NO_FILE || error == ERR_DAMAGED) {
        recovery->metadata_lost = true;
        MARK(LOG_METADATA_LOST);
        manager->metadata = (struct log_metadata){0};
        return ERR_OK;
    }
    if (error != ERR_OK) disk_text_copy(recovery->text, text);
    if (error == ERR_OK) {
        slot_file_warn(&manager->metadata_file, manager->config.logger, "log metadata slot is damaged or older");
    }
    return error;
}

/* ---- reading ---- */

static void take_batches(struct recovery *recovery)
{
    struct log_manager *manager = recovery->manager;
    struct log_scan_batch batch;
    while (log_scan_next_batch(recovery->scan, &batch)) {
        struct log_segment *segment = &manager->segments[manager->segment_count - 1];
        CHECK(segment->number == batch.segment_number);
        log_index_cut(manager, batch.first_index);
        log_index_add(manager, segment, batch.first_index, batch.offset, batch.file_bytes);
        segment->used_bytes = batch.offset + batch.file_bytes;
        recovery->last_index = batch.first_index + batch.entry_count - 1;
        for (uint32_t i = 0; i < batch.entry_count; i++) {
            /* A repair may have written committed entries again; they are the same. */
            if (entry_index(batch.entries[i]) <= recovery->committed) {
                entry_unref(batch.entries[i]);
            } else {
                recovery->sink->entry(recovery->sink_user, batch.entries[i]);
            }
        }
        /* A batch of several that were one write may know a commit index beyond its own end. */
        raft_index commit = batch.commit < recovery->last_index ? batch.commit : recovery->last_index;
        if (commit > recovery->committed) recovery->committed = commit;
        recovery->sink->commit(recovery->sink_user, recovery->committed);
    }
}

static void scan_slice(struct recovery *recovery, struct found_file *found, uint64_t offset, const uint8_t *data,
                       size_t size)
{
    (void)found;
    (void)offset;
    log_scan_feed(recovery->scan, data, size);
    take_batches(recovery);
}

static void report_unreadable(const struct recovery *recovery, const char *path, const struct disk_unreadable *what)
{
    if (what->bytes == 0) return;
    log_error(recovery->manager->config.logger, "a part of the log can't be read and counts as damaged",
              "file=%s offset=%llu bytes=%llu cause=\"%s\"", path, (unsigned long long)what->first_offset,
              (unsigned long long)what->bytes, what->text);
}

/* Calls `slice` for each slice of the file. What the device can't read comes as damaged blocks. */
static enum error read_file(struct recovery *recovery, struct found_file *found,
                            void (*slice)(struct recovery *recovery, struct found_file *found, uint64_t offset,
                                          const uint8_t *data, size_t size))
{
    struct disk *disk = recovery->disk;
    char *path = log_segment_path(recovery->manager, found->number);
    struct disk_file *file;
    enum error error = disk_open(disk, path, DISK_READ | DISK_UNCACHED, &file);
    if (error != ERR_OK) {
        mem_free(path);
        return disk_failed(recovery, error);
    }
    struct disk_unreadable unreadable = {0};
    error = disk_size(disk, file, &found->size_bytes);
    uint64_t offset = 0;
    while (error == ERR_OK && slice != NULL && offset < found->size_bytes) {
        size_t got;
        error = disk_read_around(disk, file, offset, recovery->slice, RECOVER_SLICE_BYTES, &got, &unreadable);
        if (error != ERR_OK || got == 0) break;
        slice(recovery, found, offset, recovery->slice, got);
        offset += got;
    }
    disk_close(disk, file);
    if (slice == scan_slice) report_unreadable(recovery, path, &unreadable);
    mem_free(path);
    return disk_failed(recovery, error);
}

static enum error scan_files(struct recovery *recovery)
{
    for (uint32_t i = 0; i < recovery->file_count; i++) {
        struct found_file *found = &recovery->files[i];
        if (found->number < recovery->manager->metadata.first_segment) continue; /* its removal was under way */
        enum error error = read_file(recovery, found, NULL);
        if (error != ERR_OK) return error;
        log_add_segment(recovery->manager, found->number);
        log_scan_segment(recovery->scan, found->number, found->size_bytes);
        error = read_file(recovery, found, scan_slice);
        if (error != ERR_OK) return error;
        found->untouched = log_scan_segment_untouched(recovery->scan);
        struct log_segment *segment = &recovery->manager->segments[recovery->manager->segment_count - 1];
        segment->size_bytes = found->size_bytes;
        segment->headless = log_scan_segment_headless(recovery->scan);
    }
    return ERR_OK;
}

static void note_damage(struct found_file *found, uint64_t offset)
{
    if (!found->damaged) found->damaged_offset = offset;
    found->damaged = true;
}

static void look_for_damage(struct recovery *recovery, struct found_file *found, uint64_t offset, const uint8_t *data,
                            size_t size)
{
    uint64_t log_id = recovery->manager->log_id;
    for (size_t at = 0; at + LOG_BLOCK_BYTES <= size; at += LOG_BLOCK_BYTES) {
        struct log_block_header block;
        struct log_segment_header header;
        uint32_t number = (uint32_t)((offset + at) / LOG_BLOCK_BYTES);
        if (number == 0) {
            bool cut = log_block_is_cut(data);
            if (log_segment_header_decode(data, &header) == ERR_DAMAGED && !cut) note_damage(found, 0);
        } else if (log_block_read(log_id, found->number, number, data + at, &block) == LOG_BLOCK_DAMAGED) {
            note_damage(found, offset + at);
        }
    }
}

/* Marks the files to be set aside, not removed, once they are of no use. */
static enum error mark_damaged(struct recovery *recovery)
{
    for (uint32_t i = 0, segment = 0; i < recovery->file_count; i++) {
        struct found_file *found = &recovery->files[i];
        if (found->number < recovery->manager->metadata.first_segment) continue;
        enum error error = read_file(recovery, found, look_for_damage);
        if (error != ERR_OK) return error;
        recovery->manager->segments[segment++].damaged = found->damaged;
        if (found->damaged) {
            char name[LOG_SEGMENT_NAME_BYTES];
            log_segment_name(found->number, name);
            log_error(recovery->manager->config.logger, "log segment is damaged", "file=%s/%s offset=%llu",
                      recovery->manager->config.directory, name, (unsigned long long)found->damaged_offset);
        }
    }
    return ERR_OK;
}

/* What was read may have been in the device's cache only, or written by a process whose sync failed. */
static enum error sync_files(struct recovery *recovery)
{
    struct disk *disk = recovery->disk;
    enum error error = ERR_OK;
    if (MUTANT(RECOVERS_WITHOUT_SYNC)) return ERR_OK;
    for (uint32_t i = 0; i < recovery->file_count && error == ERR_OK; i++) {
        char *path = log_segment_path(recovery->manager, recovery->files[i].number);
        struct disk_file *file;
        error = disk_open(disk, path, DISK_WRITE, &file);
        if (error == ERR_OK) {
            error = disk_sync(disk, file);
            disk_close(disk, file);
        }
        mem_free(path);
    }
    if (error == ERR_OK) error = disk_sync_directory(disk, recovery->manager->config.directory);
    return disk_failed(recovery, error);
}

/* ---- judging what is missing ---- */

static bool is_there(const struct recovery *recovery, uint64_t number)
{
    for (uint32_t i = 0; i < recovery->file_count; i++) {
        if (recovery->files[i].number == number) return true;
    }
    return false;
}

static const struct found_file *last_touched(const struct recovery *recovery)
{
    const struct found_file *last = NULL;
    for (uint32_t i = 0; i < recovery->file_count; i++) {
        if (!recovery->files[i].untouched) last = &recovery->files[i];
    }
    return last;
}

/*
 * The number of a segment that may have been in use and isn't there; else of the last one that there was. A spare is made
 * only when the segment before it is in use: so without the metadata, a spare right after the last segment in use
 * shows that none came after; one with number 1, that the log never began.
 */
static uint64_t expected_segment(const struct recovery *recovery)
{
    const struct log_metadata *metadata = &recovery->manager->metadata;
    const struct found_file *last = last_touched(recovery);
    uint64_t in_use = last != NULL ? last->number : 0;
    if (recovery->metadata_lost) {
        uint64_t highest = recovery->file_count > 0 ? recovery->files[recovery->file_count - 1].number : 0;
        return recovery->fresh || is_there(recovery, in_use + 1) ? in_use : highest + 1;
    }
    for (uint64_t number = in_use + 1; number < metadata->last_segment; number++) {
        if (number >= metadata->first_segment && !is_there(recovery, number)) return number;
    }
    return metadata->last_segment;
}

/* ---- getting ready ---- */

/* Creates what the log begins with, at once. */
static enum error make_first_spare(struct recovery *recovery)
{
    struct log_manager *manager = recovery->manager;
    struct disk *disk = recovery->disk;
    struct log_spare *spare = &manager->spare;
    if (spare->number == 0) spare->number = manager->next_number++;
    uint64_t size = LOG_FIRST_SEGMENT_BYTES;
    if (size > log_spare_size(manager)) size = log_spare_size(manager);
    char *path = log_segment_path(manager, spare->number);
    uint8_t *zeros = mem_alloc_aligned(DISK_ALIGNMENT, size);
    memset(zeros, 0, size);
    struct disk_file *file;
    enum error error = disk_open(disk, path, DISK_WRITE | DISK_UNCACHED | DISK_CREATE, &file);
    if (error == ERR_OK) {
        error = disk_truncate(disk, file, 0);
        if (error == ERR_OK) error = disk_write(disk, file, 0, zeros, size);
        if (error == ERR_OK) error = disk_sync(disk, file);
        disk_close(disk, file);
    }
    if (error == ERR_OK) error = disk_sync_directory(disk, manager->config.directory);
    mem_free(zeros);
    mem_free(path);
    spare->filled_bytes = size;
    spare->target_bytes = size;
    return disk_failed(recovery, error);
}

static enum error save_metadata(struct recovery *recovery, const struct log_metadata *metadata)
{
    struct log_manager *manager = recovery->manager;
    struct slot_save *save = mem_alloc_zero(sizeof *save);
    uint64_t generation = slot_file_begin(&manager->metadata_file, save);
    log_metadata_encode(metadata, generation, save->slot);
    enum error error = slot_save_run(save, recovery->disk);
    mem_free(save);
    if (error != ERR_OK) return disk_failed(recovery, error);
    slot_file_saved(&manager->metadata_file);
    manager->metadata = *metadata;
    return ERR_OK;
}

/* Parts the files after the last one in use from the segments: one becomes the spare, the others go. */
static enum error sort_out_spares(struct recovery *recovery, const struct log_scan_result *result)
{
    struct log_manager *manager = recovery->manager;
    struct disk *disk = recovery->disk;
    uint64_t named = manager->metadata.last_segment;
    enum error error = ERR_OK;
    while (manager->segment_count > 0 && error == ERR_OK) {
        struct log_segment *last = &manager->segments[manager->segment_count - 1];
        if (last->number <= result->last_segment_number) break;
        if (manager->spare.number != 0 && manager->spare.ready)
            break; /* named ones before it stay, as segments without entries */
        if (manager->spare.number != 0) {
            char *path = log_segment_path(manager, manager->spare.number);
            error = disk_remove(disk, path);
            mem_free(path);
        }
        manager->spare = (struct log_spare){.number = last->number};
        if (last->number <= named) {
            manager->spare.ready = true;
            manager->spare.filled_bytes = last->size_bytes / LOG_BATCH_ALIGNMENT * LOG_BATCH_ALIGNMENT;
            manager->spare.target_bytes = manager->spare.filled_bytes;
        }
        manager->segment_count--;
    }
    return disk_failed(recovery, error);
}

static enum error remove_leftovers(struct recovery *recovery, uint64_t first_segment)
{
    enum error error = ERR_OK;
    bool changed = false;
    for (uint32_t i = 0; i < recovery->file_count && error == ERR_OK; i++) {
        if (recovery->files[i].number >= first_segment) continue;
        char *path = log_segment_path(recovery->manager, recovery->files[i].number);
        error = disk_remove(recovery->disk, path);
        mem_free(path);
        changed = true;
    }
    if (changed && error == ERR_OK) {
        error = disk_sync_directory(recovery->disk, recovery->manager->config.directory);
    }
    return disk_failed(recovery, error);
}

/* Writes the header of the segment that is to continue the log, alone: what it owes is durable then. */
static enum error begin_segment(struct recovery *recovery, const struct log_scan_result *result)
{
    struct log_manager *manager = recovery->manager;
    struct disk *disk = recovery->disk;
    uint8_t block[LOG_BLOCK_BYTES];
    struct log_segment_header header;
    log_scan_next_header(result, &header);
    header.log_id = manager->log_id;
    header.number = manager->spare.number;
    header.size_bytes = manager->spare.filled_bytes;
    log_segment_header_encode(&header, block);

    char *path = log_segment_path(manager, header.number);
    struct disk_file *file;
    enum error error = disk_open(disk, path, DISK_WRITE, &file);
    if (error == ERR_OK) {
        error = disk_write(disk, file, 0, block, LOG_BLOCK_BYTES);
        if (error == ERR_OK) error = disk_sync(disk, file);
        disk_close(disk, file);
    }
    mem_free(path);
    if (error != ERR_OK) return disk_failed(recovery, error);
    struct log_segment *segment = log_add_segment(manager, header.number);
    segment->size_bytes = header.size_bytes;
    segment->used_bytes = LOG_SEGMENT_HEADER_BYTES;
    manager->spare = (struct log_spare){0};
    manager->roll = false;
    return ERR_OK;
}

static void take_result(struct recovery *recovery, const struct log_scan_result *result)
{
    struct log_manager *manager = recovery->manager;
    manager->last_index = result->last_index;
    manager->last_term = result->last_term;
    manager->last_chain = result->last_chain;
    manager->next_batch_number = result->next_batch_number;
    manager->owed = result->outcome == LOG_UNCERTAIN;
    manager->owed_extent_known = result->extent_known;
    manager->owed_index = result->known_last_index;
    manager->owed_term = result->known_last_term;

    manager->next_number = result->next_segment_number;
    uint64_t highest = recovery->file_count > 0 ? recovery->files[recovery->file_count - 1].number : 0;
    if (manager->next_number <= highest) manager->next_number = highest + 1;
    if (manager->next_number <= manager->metadata.last_segment)
        manager->next_number = manager->metadata.last_segment + 1;
}

static enum error get_ready(struct recovery *recovery, const struct log_scan_result *result)
{
    struct log_manager *manager = recovery->manager;
    take_result(recovery, result);
    enum error error = sort_out_spares(recovery, result);
    if (error != ERR_OK) return error;

    struct log_segment *last = manager->segment_count > 0 ? &manager->segments[manager->segment_count - 1] : NULL;
    bool continues =
        result->outcome == LOG_CLEAN && last != NULL && !last->damaged && last->number == result->last_segment_number;
    manager->roll = !continues;
    if (continues && last->used_bytes < result->end_offset) last->used_bytes = result->end_offset;

    /* With the metadata lost, only what is written now says so later. */
    bool begin_now = recovery->metadata_lost && result->outcome == LOG_UNCERTAIN;
    if (manager->spare.filled_bytes < LOG_SEGMENT_BYTES_MIN && (begin_now || manager->segment_count == 0)) {
        error = make_first_spare(recovery);
        if (error != ERR_OK) return error;
    } else if (recovery->metadata_lost && manager->spare.number != 0) {
        manager->spare.filled_bytes = 0; /* whether it was ever made whole isn't known */
        manager->spare.ready = false;
    }
    if (begin_now) {
        error = begin_segment(recovery, result);
        if (error != ERR_OK) return error;
    }
    struct log_metadata metadata = {.log_id = manager->log_id, .last_segment = manager->metadata.last_segment};
    metadata.first_segment = manager->segment_count > 0 ? manager->segments[0].number : manager->spare.number;
    if (manager->segment_count > 0 && metadata.last_segment < manager->segments[manager->segment_count - 1].number) {
        metadata.last_segment = manager->segments[manager->segment_count - 1].number;
    }
    if (manager->spare.filled_bytes >= LOG_SEGMENT_BYTES_MIN) {
        if (metadata.last_segment < manager->spare.number) metadata.last_segment = manager->spare.number;
        manager->spare.ready = true;
    }
    log_note_identity(manager, &metadata);
    bool same = metadata.first_segment == manager->metadata.first_segment &&
                metadata.last_segment == manager->metadata.last_segment &&
                metadata.log_id == manager->metadata.log_id &&
                raft_state_same_identity(&metadata.identity, &manager->metadata.identity) &&
                metadata.identity.incarnation < manager->metadata.identity.incarnation + RAFT_STATE_RESTARTS_MAX;
    if (!same || manager->metadata_file.slot_repairable || !manager->metadata_file.exists) {
        error = save_metadata(recovery, &metadata);
    } else {
        error = disk_failed(recovery, slot_file_make_durable(&manager->metadata_file, recovery->disk));
    }
    if (error != ERR_OK) return error;
    return remove_leftovers(recovery, metadata.first_segment);
}

static void set_damage(struct log_scan_result *result, const struct buffer *text)
{
    size_t size = text->size < sizeof result->damage ? text->size : sizeof result->damage - 1;
    memcpy(result->damage, text->data, size);
    result->damage[size] = 0;
}

/* The scan knows names of files only. */
static void name_directory(const struct log_manager *manager, struct log_scan_result *result)
{
    if (result->damage[0] == 0) return;
    struct buffer damage = {0};
    buffer_append_format(&damage, "%s/%s", manager->config.directory, result->damage);
    set_damage(result, &damage);
    buffer_free(&damage);
}

static enum error recover(struct recovery *recovery, struct log_scan_result *result)
{
    struct log_manager *manager = recovery->manager;
    struct disk *disk = recovery->disk;
    enum error error = disk_make_directory(disk, manager->config.directory);
    if (error == ERR_OK) error = disk_make_directory(disk, manager->metadata_file.directory);
    if (error == ERR_OK) error = disk_list(disk, manager->config.directory, visit, recovery);
    if (error != ERR_OK) return disk_failed(recovery, error);
    error = load_metadata(recovery, manager->log_id);
    if (error == ERR_OK) error = scan_files(recovery);
    if (error != ERR_OK) return error;

    if (recovery->metadata_lost && !recovery->fresh) {
        log_error(manager->config.logger, "log metadata are lost", "cause=\"%s\"", recovery->metadata_text);
    }
    log_scan_finish(recovery->scan, expected_segment(recovery), result);
    name_directory(manager, result);
    if (result->newer_version) {
        disk_text_copy(recovery->text, result->damage);
        return ERR_BAD_VERSION;
    }
    if (recovery->metadata_lost && result->outcome == LOG_UNCERTAIN) {
        struct buffer damage = {0};
        buffer_append_format(&damage, "%s; %s", recovery->metadata_text, result->damage);
        set_damage(result, &damage);
        buffer_free(&damage);
    }
    if (result->damaged_blocks > 0) error = mark_damaged(recovery);
    if (error == ERR_OK) error = sync_files(recovery);
    return error == ERR_OK ? get_ready(recovery, result) : error;
}

enum error log_manager_recover(struct log_manager *manager, uint64_t log_id, bool fresh, raft_index base_index,
                               raft_term base_term, uint32_t base_chain, const struct log_manager_sink *sink,
                               void *sink_user, struct log_scan_result *result, char *text)
{
    CHECK(manager->segment_count == 0 && manager->log_id == 0);
    manager->log_id = log_id;
    text[0] = 0;
    struct recovery recovery = {
        .manager = manager,
        .disk = manager->config.disk,
        .fresh = fresh,
        .scan = log_scan_new(log_id, base_index, base_term, base_chain),
        .slice = mem_alloc_aligned(DISK_ALIGNMENT, RECOVER_SLICE_BYTES),
        .sink = sink,
        .sink_user = sink_user,
        .text = text,
        .last_index = base_index,
        .committed = base_index,
    };
    enum error error = recover(&recovery, result);
    log_scan_free(recovery.scan);
    mem_free(recovery.slice);
    mem_free(recovery.files);
    if (error != ERR_OK) return error;
    log_line(manager->config.logger, result->outcome == LOG_UNCERTAIN ? LOG_LEVEL_ERROR : LOG_LEVEL_INFO,
             "log recovered", "outcome=%s last_index=%llu last_term=%llu damaged_blocks=%llu damage=\"%s\"",
             log_outcome_name(result->outcome), (unsigned long long)result->last_index,
             (unsigned long long)result->last_term, (unsigned long long)result->damaged_blocks, result->damage);
    return ERR_OK;
}
