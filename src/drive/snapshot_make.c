#include "base/check.h"
#include "base/mem.h"
#include "drive/snapshot_internal.h"

static void release_pin(struct snapshot_make *make)
{
    if (make->pinned) replica_snapshot_end(make->replica);
    make->pinned = false;
}

static void make_end(struct snapshot_handler *handler)
{
    struct snapshot_make *make = &handler->make;
    release_pin(make);
    snapshot_reader_free(make->reader);
    make->reader = NULL;
    snapshot_task_end(&make->task);
    make->state = MAKE_IDLE;
}

/* The next slice of chunks, off to the disk. */
static void write_next(struct snapshot_handler *handler)
{
    struct snapshot_make *make = &handler->make;
    struct buffer *data = &make->task.data;
    buffer_clear(data);
    if (make->writer.chunk_count == 0) snapshot_write_header(&make->writer, &make->header, data);
    replica_snapshot_next(make->replica, &make->writer, data, &make->produced);
    if (make->produced) {
        snapshot_write_end(&make->writer, data);
        release_pin(make);
    }
    make->state = MAKE_WRITING;
    snapshot_task_submit(&make->task, SNAPSHOT_WRITE);
}

static void give_up(struct snapshot_handler *handler, bool damaged, const char *text)
{
    struct snapshot_make *make = &handler->make;
    disk_text_copy(make->text, text);
    release_pin(make);
    make->task.damaged = damaged;
    make->state = MAKE_DISCARDING;
    snapshot_task_submit(&make->task, SNAPSHOT_DISCARD);
}

/* Parses what was read back. True while more is to be read. */
static void check_slice(struct snapshot_handler *handler)
{
    struct snapshot_make *make = &handler->make;
    struct snapshot_task *task = &make->task;
    task->offset += task->slice_bytes;
    snapshot_reader_feed(make->reader, bytes_of(task->slice, task->slice_bytes));
    struct snapshot_chunk chunk;
    enum error error;
    do {
        error = snapshot_reader_next(make->reader, &chunk);
    } while (error == ERR_OK);

    char text[DISK_TEXT_BYTES];
    if (error == ERR_NOT_READY && task->slice_bytes == SNAPSHOT_SLICE_BYTES) {
        snapshot_task_submit(task, SNAPSHOT_READ);
    } else if (error == ERR_NOT_READY && snapshot_reader_complete(make->reader) &&
               task->offset == make->metadata.size_bytes) {
        make->state = MAKE_COUNTING;
        snapshot_task_count(task, &make->metadata);
    } else {
        const char *what = error == ERR_NOT_READY ? "it ends early" : snapshot_reader_damage(make->reader);
        disk_text_format(text, "%s: offset %llu: damaged when read back: %s", task->path,
                         (unsigned long long)snapshot_reader_offset(make->reader), what);
        log_error(handler->config.logger, "snapshot is damaged", "cause=\"%s\"", text);
        give_up(handler, true, text);
    }
}

static void make_done(struct snapshot_handler *handler)
{
    struct snapshot_make *make = &handler->make;
    struct snapshot_task *task = &make->task;
    enum error error = task->outcome.error;
    enum snapshot_make_state state = make->state;

    /* The metadata are written in place, where there is room, except for the first ones. */
    bool may_lack_room =
        state == MAKE_WRITING || state == MAKE_SEALING || (state == MAKE_COUNTING && task->save.create);
    if (error == ERR_NO_SPACE && may_lack_room) {
        give_up(handler, false, task->outcome.text);
        return;
    }
    if (error != ERR_OK && state == MAKE_CHECKING) {
        log_error(handler->config.logger, "snapshot can't be read back", "cause=\"%s\"", task->outcome.text);
        give_up(handler, true, task->outcome.text);
        return;
    }
    if (error != ERR_OK) {
        snapshot_fail(handler, task->outcome.text);
        return;
    }
    if (make->given_up && state != MAKE_COUNTING && state != MAKE_DISCARDING) {
        give_up(handler, false, "the snapshot was given up");
        return;
    }

    switch (state) {
    case MAKE_WRITING:
        task->offset += task->data.size;
        if (!make->produced) {
            write_next(handler);
            break;
        }
        make->metadata.size_bytes = task->offset;
        make->state = MAKE_SEALING;
        snapshot_task_submit(task, SNAPSHOT_SEAL);
        break;
    case MAKE_SEALING:
        buffer_free(&task->data);
        make->reader = snapshot_reader_new();
        make->state = MAKE_CHECKING;
        task->offset = 0;
        snapshot_task_submit(task, SNAPSHOT_READ);
        break;
    case MAKE_CHECKING:
        check_slice(handler);
        break;
    case MAKE_COUNTING: {
        struct snapshot_metadata metadata = make->metadata;
        slot_file_saved(&handler->metadata_file);
        make_end(handler);
        snapshot_counts(handler, &metadata);
        handler->handler.made(handler->user, metadata.index, metadata.size_bytes);
        snapshot_receive_proceed(handler);
        break;
    }
    case MAKE_DISCARDING:
        if (task->aside != NULL) log_error(handler->config.logger, "snapshot set aside", "file=%s", task->aside);
        make_end(handler);
        handler->handler.not_made(handler->user, make->text);
        snapshot_receive_proceed(handler);
        break;
    case MAKE_IDLE:
        CHECK(false);
    }
}

void snapshot_handler_make(struct snapshot_handler *handler, struct replica *replica)
{
    struct snapshot_make *make = &handler->make;
    /* A transfer under way doesn't keep us from making our own: its leader may be gone for good. */
    bool installing = handler->receive.state != RECEIVE_IDLE && handler->receive.state != RECEIVE_RECEIVING;
    if (handler->failed || make->state != MAKE_IDLE || installing) return;

    uint64_t snapshot_id = handler->handler.entropy(handler->user);
    if (replica_snapshot_begin(replica, snapshot_id, &make->header) != ERR_OK) return;
    uint64_t epoch = handler->next_epoch++;
    make->replica = replica;
    make->pinned = true;
    make->produced = false;
    make->given_up = false;
    make->writer = (struct snapshot_writer){.snapshot_id = snapshot_id};
    make->metadata = (struct snapshot_metadata){
        .epoch = epoch, .index = make->header.index, .term = make->header.term, .snapshot_id = snapshot_id};

    char *path = snapshot_path(handler, epoch);
    struct buffer temporary = {0};
    buffer_append_format(&temporary, "%s.tmp", path);
    buffer_append_byte(&temporary, 0);
    snapshot_task_begin(&make->task, handler, make_done, (char *)temporary.data, path);
    log_info(handler->config.logger, "snapshot begins", "file=%s index=%llu", path,
             (unsigned long long)make->header.index);
    write_next(handler);
}

void snapshot_handler_abandon(struct snapshot_handler *handler)
{
    if (handler->make.state == MAKE_IDLE) return;
    handler->make.given_up = true;
    release_pin(&handler->make);
}

bool snapshot_handler_busy_making(const struct snapshot_handler *handler)
{
    return handler->make.state != MAKE_IDLE;
}

void snapshot_make_free(struct snapshot_handler *handler)
{
    /* The replica may be gone already, so its pin isn't released here: it goes with it. */
    handler->make.pinned = false;
    make_end(handler);
}
