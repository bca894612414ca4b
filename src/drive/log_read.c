#include "base/check.h"
#include "base/mem.h"
#include "drive/log_internal.h"

/* ---- the index ---- */

void log_index_add(struct log_manager *manager, struct log_segment *segment, raft_index first_index, uint64_t offset,
                   uint64_t file_bytes)
{
    (void)manager;
    if (segment->batch_count == segment->batch_capacity) {
        segment->batch_capacity = segment->batch_capacity == 0 ? 32 : segment->batch_capacity * 2;
        segment->batches = mem_realloc(segment->batches, segment->batch_capacity * sizeof *segment->batches);
    }
    segment->batches[segment->batch_count++] =
        (struct log_batch_ref){.first_index = first_index,
                               .offset_units = (uint32_t)(offset / LOG_BATCH_ALIGNMENT),
                               .size_units = (uint32_t)(file_bytes / LOG_BATCH_ALIGNMENT)};
}

void log_index_cut(struct log_manager *manager, raft_index first_index)
{
    for (uint32_t i = manager->segment_count; i-- > 0;) {
        struct log_segment *segment = &manager->segments[i];
        while (segment->batch_count > 0 && segment->batches[segment->batch_count - 1].first_index >= first_index) {
            segment->batch_count--;
        }
        if (segment->batch_count > 0) break;
    }
}

raft_index log_index_first(const struct log_manager *manager, uint32_t segment)
{
    for (uint32_t i = segment; i < manager->segment_count; i++) {
        if (manager->segments[i].batch_count > 0) return manager->segments[i].batches[0].first_index;
    }
    return manager->last_index + 1;
}

/* A batch in the index: segment and position. */
struct position {
    uint32_t segment, batch;
};

/* The batch that has the entry; false when the log doesn't have it. */
static bool find_batch(const struct log_manager *manager, raft_index index, struct position *out)
{
    if (index > manager->last_index) return false;
    for (uint32_t i = manager->segment_count; i-- > 0;) {
        const struct log_segment *segment = &manager->segments[i];
        if (segment->batch_count == 0 || segment->batches[0].first_index > index) continue;
        uint32_t low = 0, high = segment->batch_count; /* batches[low] begins at or before the index */
        while (high - low > 1) {
            uint32_t middle = low + (high - low) / 2;
            if (segment->batches[middle].first_index <= index) {
                low = middle;
            } else {
                high = middle;
            }
        }
        *out = (struct position){i, low};
        return true;
    }
    return false;
}

static bool next_batch(const struct log_manager *manager, struct position *position)
{
    if (++position->batch < manager->segments[position->segment].batch_count) return true;
    position->batch = 0;
    while (++position->segment < manager->segment_count) {
        if (manager->segments[position->segment].batch_count > 0) return true;
    }
    return false;
}

static const struct log_batch_ref *batch_at(const struct log_manager *manager, struct position position)
{
    return &manager->segments[position.segment].batches[position.batch];
}

/* The last entry that is to be taken from the batch; what it holds beyond was replaced. */
static raft_index batch_last(const struct log_manager *manager, struct position position)
{
    return next_batch(manager, &position) ? batch_at(manager, position)->first_index - 1 : manager->last_index;
}

/* ---- reading back ---- */

struct read_batch {
    uint64_t segment_number;
    uint64_t offset;
    size_t bytes;
    char *path;
    /* Found by the run: */
    struct entry **entries;
    uint32_t entry_count;
    enum error error;
    uint64_t bad_offset;
};

struct log_read {
    struct disk_job job;
    struct log_manager *manager;
    struct log_read *previous, *next;
    uint64_t log_id;
    raft_index first_index, last_index;
    uint64_t bytes_max;
    void (*done)(void *user, uint64_t token, struct entry *const *entries, uint32_t count);
    void *user;
    uint64_t token;
    struct read_batch *batches;
    uint32_t batch_count;
    struct disk_outcome outcome; /* of a read that failed */
};

static void free_read(struct log_read *read)
{
    for (uint32_t i = 0; i < read->batch_count; i++) {
        for (uint32_t j = 0; j < read->batches[i].entry_count; j++) entry_unref(read->batches[i].entries[j]);
        mem_free(read->batches[i].entries);
        mem_free(read->batches[i].path);
    }
    mem_free(read->batches);
    mem_free(read);
}

static enum error read_batch(struct log_read *read, struct read_batch *batch, struct disk *disk)
{
    batch->bad_offset = batch->offset;
    struct disk_file *file;
    enum error error = disk_open(disk, batch->path, DISK_READ, &file);
    if (error != ERR_OK) return error;
    uint8_t *data = mem_alloc(batch->bytes);
    size_t got;
    error = disk_read(disk, file, batch->offset, data, batch->bytes, &got);
    disk_close(disk, file);
    struct log_block_header first;
    if (error == ERR_OK && (got < LOG_BLOCK_BYTES || log_block_read(read->log_id, batch->segment_number,
                                                                    (uint32_t)(batch->offset / LOG_BLOCK_BYTES), data,
                                                                    &first) != LOG_BLOCK_GOOD)) {
        error = ERR_DAMAGED;
    }
    if (error == ERR_OK) {
        struct log_batch_place place = {.log_id = read->log_id,
                                        .segment_number = batch->segment_number,
                                        .offset = batch->offset,
                                        .batch_number = first.batch_number};
        error = log_batch_decode(&place, data, got, &batch->entries, &batch->entry_count, &batch->bad_offset);
    }
    mem_free(data);
    return error;
}

static void read_run(struct disk_job *job, struct disk *disk)
{
    struct log_read *read = (struct log_read *)((char *)job - offsetof(struct log_read, job));
    for (uint32_t i = 0; i < read->batch_count; i++) {
        struct read_batch *batch = &read->batches[i];
        batch->error = read_batch(read, batch, disk);
        if (batch->error == ERR_OK) continue;
        if (batch->error != ERR_DAMAGED) disk_outcome_take(&read->outcome, batch->error, disk);
        break;
    }
}

/* Whether the batch is where it was when the read began; it may have been replaced or removed since. */
static bool still_there(const struct log_manager *manager, const struct read_batch *batch, raft_index index,
                        struct position *position)
{
    return find_batch(manager, index, position) &&
           manager->segments[position->segment].number == batch->segment_number &&
           (uint64_t)batch_at(manager, *position)->offset_units * LOG_BATCH_ALIGNMENT == batch->offset;
}

static void read_done(struct disk_job *job)
{
    struct log_read *read = (struct log_read *)((char *)job - offsetof(struct log_read, job));
    struct log_manager *manager = read->manager;
    if (read->previous != NULL) read->previous->next = read->next;
    if (read->next != NULL) read->next->previous = read->previous;
    if (manager->reads == read) manager->reads = read->next;

    uint32_t capacity = 0;
    for (uint32_t i = 0; i < read->batch_count; i++) capacity += read->batches[i].entry_count;
    struct entry **entries = mem_alloc(((size_t)capacity + 1) * sizeof *entries);
    uint32_t count = 0;
    uint64_t bytes = 0;
    raft_index index = read->first_index;
    for (uint32_t i = 0; i < read->batch_count; i++) {
        struct read_batch *batch = &read->batches[i];
        struct position position;
        if (!still_there(manager, batch, index, &position)) break;
        if (batch->error != ERR_OK) {
            log_mark_damaged(manager, &manager->segments[position.segment], batch->bad_offset,
                             batch->error == ERR_DAMAGED ? "the block is damaged" : read->outcome.text);
            break;
        }
        raft_index last = batch_last(manager, position);
        if (last > read->last_index) last = read->last_index;
        for (uint32_t j = 0; j < batch->entry_count && index <= last; j++) {
            struct entry *entry = batch->entries[j];
            if (entry_index(entry) != index) continue;
            if (count > 0 && bytes + entry->record_bytes > read->bytes_max) {
                last = 0; /* enough */
                break;
            }
            bytes += entry->record_bytes;
            entries[count++] = entry;
            index++;
        }
        if (index <= last || last == 0) break;
    }
    read->done(read->user, read->token, entries, count);
    mem_free(entries);
    free_read(read);
}

void log_manager_read(struct log_manager *manager, raft_index first_index, raft_index last_index, uint64_t bytes_max,
                      void (*done)(void *user, uint64_t token, struct entry *const *entries, uint32_t count),
                      void *user, uint64_t token)
{
    struct log_read *read = mem_alloc_zero(sizeof *read);
    read->manager = manager;
    read->log_id = manager->log_id;
    read->first_index = first_index;
    read->last_index = last_index;
    read->bytes_max = bytes_max;
    read->done = done;
    read->user = user;
    read->token = token;

    struct position position;
    uint32_t capacity = 0;
    uint64_t bytes = 0;
    bool more = find_batch(manager, first_index, &position);
    while (more && batch_at(manager, position)->first_index <= last_index && (bytes == 0 || bytes < bytes_max)) {
        const struct log_batch_ref *ref = batch_at(manager, position);
        if (read->batch_count == capacity) {
            capacity = capacity == 0 ? 8 : capacity * 2;
            read->batches = mem_realloc(read->batches, capacity * sizeof *read->batches);
        }
        struct read_batch *batch = &read->batches[read->batch_count++];
        *batch = (struct read_batch){
            .segment_number = manager->segments[position.segment].number,
            .offset = (uint64_t)ref->offset_units * LOG_BATCH_ALIGNMENT,
            .bytes = (size_t)ref->size_units * LOG_BATCH_ALIGNMENT,
        };
        batch->path = log_segment_path(manager, batch->segment_number);
        bytes += batch->bytes;
        more = next_batch(manager, &position);
    }

    read->next = manager->reads;
    if (manager->reads != NULL) manager->reads->previous = read;
    manager->reads = read;
    read->job = (struct disk_job){.run = read_run, .done = read_done};
    disk_submit(manager->config.queue, &read->job);
}

void log_reads_free(struct log_manager *manager)
{
    while (manager->reads != NULL) {
        struct log_read *read = manager->reads;
        manager->reads = read->next;
        free_read(read);
    }
}
