#include "base/check.h"
#include "base/mem.h"
#include "drive/snapshot_internal.h"

/* More than a sender's window can't be waiting for the disk: what is beyond comes from a sender that is broken. */
#define INCOMING_BYTES_MAX (2 * SNAPSHOT_SEND_WINDOW)

static void reply(struct snapshot_handler *handler, const struct peer_message *to, uint64_t offset, bool rejected,
                  enum error reason)
{
    struct peer_message message = {
        .type = PEER_SNAPSHOT_REPLY,
        .from = handler->config.self,
        .to = to->from,
        .term = to->term,
        .index = to->index,
        .log_term = to->log_term,
        .offset = offset,
        .rejected = rejected,
        .reason = (uint32_t)reason,
    };
    handler->handler.send(handler->user, &message);
}

static void reply_to_leader(struct snapshot_handler *handler, uint64_t offset, bool rejected, enum error reason)
{
    struct snapshot_receive *receive = &handler->receive;
    struct peer_message to = {
        .from = receive->leader, .term = receive->leader_term, .index = receive->index, .log_term = receive->log_term};
    reply(handler, &to, offset, rejected, reason);
}

static void abandon_load(struct snapshot_receive *receive)
{
    if (receive->loading) replica_load_abandon(receive->replica);
    receive->loading = false;
}

static void release(struct snapshot_receive *receive)
{
    snapshot_reader_free(receive->reader);
    receive->reader = NULL;
    buffer_free(&receive->incoming);
    snapshot_task_end(&receive->task);
}

/* Back to idle; whoever sent a chunk of another snapshot meanwhile learns where to go on. */
static void receive_end(struct snapshot_handler *handler)
{
    struct snapshot_receive *receive = &handler->receive;
    struct peer_message waiting = receive->waiting;
    release(receive);
    *receive = (struct snapshot_receive){0};
    if (waiting.from == 0) return;
    if (waiting.index <= handler->current.index) {
        reply(handler, &waiting, waiting.total, false, ERR_OK);
    } else {
        reply(handler, &waiting, 0, true, ERR_OK);
    }
}

/* Drops the transfer; `reason` goes to the leader, ERR_OK when another transfer takes its place. */
static void give_up(struct snapshot_handler *handler, enum error reason)
{
    struct snapshot_receive *receive = &handler->receive;
    if (!receive->given_up) receive->reason = reason;
    receive->given_up = true;
    abandon_load(receive);
    if (receive->task.active) return; /* its completion comes back here */
    receive->state = RECEIVE_DISCARDING;
    receive->task.damaged = receive->reason == ERR_DAMAGED;
    snapshot_task_submit(&receive->task, SNAPSHOT_DISCARD);
}

static void give_up_damaged(struct snapshot_handler *handler, const char *what)
{
    struct snapshot_receive *receive = &handler->receive;
    log_error(handler->config.logger, "received snapshot is damaged", "file=%s offset=%llu cause=\"%s\"",
              receive->task.sealed ? receive->task.path : receive->task.temporary,
              (unsigned long long)(receive->reader != NULL ? snapshot_reader_offset(receive->reader) : 0), what);
    give_up(handler, ERR_DAMAGED);
}

/* The file's header must be of the snapshot that the messages announced. */
static bool header_fits(const struct snapshot_receive *receive, const struct snapshot_header *header)
{
    return header->index == receive->index && header->term == receive->log_term;
}

/* Checks arriving bytes. False: the transfer was given up. */
static bool check_incoming(struct snapshot_handler *handler, struct bytes bytes)
{
    struct snapshot_receive *receive = &handler->receive;
    snapshot_reader_feed(receive->reader, bytes);
    struct snapshot_chunk chunk;
    enum error error;
    while ((error = snapshot_reader_next(receive->reader, &chunk)) == ERR_OK) {
        if (chunk.type == SNAPSHOT_CHUNK_HEADER && !header_fits(receive, snapshot_reader_header(receive->reader))) {
            give_up_damaged(handler, "it is another snapshot than announced");
            return false;
        }
    }
    if (error == ERR_BAD_VERSION) {
        log_error(handler->config.logger, "the leader's snapshot is of a newer version", "cause=\"%s\"",
                  snapshot_reader_damage(receive->reader));
        give_up(handler, ERR_BAD_VERSION);
        return false;
    }
    if (error != ERR_NOT_READY) {
        give_up_damaged(handler, snapshot_reader_damage(receive->reader));
        return false;
    }
    if (receive->accepted + bytes.size == receive->total && !snapshot_reader_complete(receive->reader)) {
        give_up_damaged(handler, "it ends early");
        return false;
    }
    return true;
}

static void write_incoming(struct snapshot_handler *handler)
{
    struct snapshot_receive *receive = &handler->receive;
    if (receive->task.active || receive->incoming.size == 0) return;
    struct buffer written = receive->task.data;
    receive->task.data = receive->incoming;
    receive->incoming = written;
    buffer_clear(&receive->incoming);
    receive->task.offset = receive->written;
    snapshot_task_submit(&receive->task, SNAPSHOT_WRITE);
}

static void begin_load(struct snapshot_handler *handler)
{
    struct snapshot_receive *receive = &handler->receive;
    if (handler->make.state != MAKE_IDLE) {
        receive->state = RECEIVE_WAITING;
        snapshot_handler_abandon(handler);
        return;
    }
    snapshot_reader_free(receive->reader);
    receive->reader = snapshot_reader_new();
    receive->state = RECEIVE_LOADING;
    receive->task.offset = 0;
    snapshot_task_submit(&receive->task, SNAPSHOT_READ);
}

static enum error load_chunk(struct snapshot_receive *receive, const struct snapshot_chunk *chunk)
{
    if (chunk->type == SNAPSHOT_CHUNK_END) return ERR_OK;
    if (chunk->type != SNAPSHOT_CHUNK_HEADER) return replica_load_chunk(receive->replica, chunk->type, chunk->payload);

    const struct snapshot_header *header = snapshot_reader_header(receive->reader);
    if (!header_fits(receive, header)) return ERR_DAMAGED;
    receive->metadata.index = header->index;
    receive->metadata.term = header->term;
    receive->metadata.snapshot_id = header->snapshot_id;
    receive->chain = header->chain;
    enum error error = replica_load_begin(receive->replica, header);
    receive->loading = true; /* abandoned even after a failure, as replica.h says */
    return error;
}

static void load_slice(struct snapshot_handler *handler)
{
    struct snapshot_receive *receive = &handler->receive;
    struct snapshot_task *task = &receive->task;
    task->offset += task->slice_bytes;
    snapshot_reader_feed(receive->reader, bytes_of(task->slice, task->slice_bytes));
    struct snapshot_chunk chunk;
    enum error error, refused = ERR_OK;
    while ((error = snapshot_reader_next(receive->reader, &chunk)) == ERR_OK) {
        refused = load_chunk(receive, &chunk);
        if (refused != ERR_OK) break;
    }
    if (refused != ERR_OK) {
        log_error(handler->config.logger, "received snapshot can't be loaded", "file=%s offset=%llu error=%s",
                  task->path, (unsigned long long)chunk.offset, error_code(refused));
        give_up(handler, refused);
    } else if (error == ERR_BAD_VERSION) {
        give_up(handler, ERR_BAD_VERSION);
    } else if (error != ERR_NOT_READY) {
        give_up_damaged(handler, snapshot_reader_damage(receive->reader));
    } else if (task->slice_bytes == SNAPSHOT_SLICE_BYTES) {
        snapshot_task_submit(task, SNAPSHOT_READ);
    } else if (!snapshot_reader_complete(receive->reader) || task->offset != receive->total) {
        give_up_damaged(handler, "it ends early");
    } else {
        receive->metadata.size_bytes = receive->total;
        receive->state = RECEIVE_COUNTING;
        snapshot_task_count(task, &receive->metadata);
    }
}

static void receive_done(struct snapshot_handler *handler)
{
    struct snapshot_receive *receive = &handler->receive;
    struct snapshot_task *task = &receive->task;
    enum error error = task->outcome.error;

    bool may_lack_room = receive->state == RECEIVE_RECEIVING || receive->state == RECEIVE_SEALING ||
                         (receive->state == RECEIVE_COUNTING && task->save.create);
    if (error == ERR_NO_SPACE && may_lack_room) {
        log_warn(handler->config.logger, "no room for the leader's snapshot", "cause=\"%s\"", task->outcome.text);
        give_up(handler, ERR_NO_SPACE);
        return;
    }
    if (error != ERR_OK && receive->state == RECEIVE_LOADING) {
        log_error(handler->config.logger, "snapshot can't be read back", "cause=\"%s\"", task->outcome.text);
        give_up(handler, ERR_DAMAGED);
        return;
    }
    if (error != ERR_OK) {
        snapshot_fail(handler, task->outcome.text);
        return;
    }
    if (receive->given_up && receive->state != RECEIVE_DISCARDING) {
        give_up(handler, receive->reason);
        return;
    }

    switch (receive->state) {
    case RECEIVE_RECEIVING:
        receive->written += task->data.size;
        if (receive->written < receive->total) {
            write_incoming(handler);
            reply_to_leader(handler, receive->written, false, ERR_OK);
            break;
        }
        /* The leader hears of the whole only once it is installed. */
        receive->metadata = (struct snapshot_metadata){.epoch = handler->next_epoch++};
        task->path = snapshot_path(handler, receive->metadata.epoch);
        receive->state = RECEIVE_SEALING;
        snapshot_task_submit(task, SNAPSHOT_SEAL);
        break;
    case RECEIVE_SEALING:
        buffer_free(&task->data);
        buffer_free(&receive->incoming);
        begin_load(handler);
        break;
    case RECEIVE_LOADING:
        load_slice(handler);
        break;
    case RECEIVE_COUNTING:
        slot_file_saved(&handler->metadata_file);
        receive->state = RECEIVE_RECEIVED;
        receive->loading = false; /* the owner finishes it */
        snapshot_counts(handler, &receive->metadata);
        handler->handler.received(handler->user, receive->index, receive->log_term, receive->chain);
        break;
    case RECEIVE_DISCARDING:
        if (task->aside != NULL) log_error(handler->config.logger, "snapshot set aside", "file=%s", task->aside);
        if (receive->reason != ERR_OK) reply_to_leader(handler, 0, true, receive->reason);
        receive_end(handler);
        break;
    case RECEIVE_IDLE:
    case RECEIVE_WAITING:
    case RECEIVE_RECEIVED:
        CHECK(false);
    }
}

static void begin(struct snapshot_handler *handler, const struct peer_message *message)
{
    struct snapshot_receive *receive = &handler->receive;
    receive->state = RECEIVE_RECEIVING;
    receive->index = message->index;
    receive->log_term = message->log_term;
    receive->total = message->total;
    receive->reader = snapshot_reader_new();

    struct buffer name = {0};
    buffer_append_format(&name, "receive-%016llx.tmp", (unsigned long long)message->index);
    buffer_append_byte(&name, 0);
    char *temporary = path_join(handler->config.directory, (const char *)name.data);
    buffer_free(&name);
    log_info(handler->config.logger, "snapshot of the leader arrives", "index=%llu bytes=%llu",
             (unsigned long long)message->index, (unsigned long long)message->total);
    snapshot_task_begin(&receive->task, handler, receive_done, temporary, NULL);
}

static void receive_chunk(struct snapshot_handler *handler, const struct peer_message *message)
{
    struct snapshot_receive *receive = &handler->receive;
    if (message->offset > receive->accepted) {
        reply(handler, message, receive->accepted, true, ERR_OK); /* a gap: go back */
        return;
    }
    uint64_t end = message->offset + message->data.size;
    if (end <= receive->accepted) {
        reply(handler, message, receive->accepted, false, ERR_OK); /* a repeat */
        return;
    }
    size_t known = (size_t)(receive->accepted - message->offset);
    struct bytes fresh = bytes_of(message->data.data + known, message->data.size - known);
    if (receive->incoming.size + fresh.size > INCOMING_BYTES_MAX) return;
    if (!check_incoming(handler, fresh)) return;
    buffer_append(&receive->incoming, fresh.data, fresh.size);
    receive->accepted = end;
    write_incoming(handler);
}

void snapshot_handler_chunk(struct snapshot_handler *handler, struct replica *replica,
                            const struct peer_message *message)
{
    struct snapshot_receive *receive = &handler->receive;
    if (handler->failed || message->index == 0 || message->total == 0 || message->offset > message->total ||
        message->data.size > message->total - message->offset) {
        return;
    }
    if (receive->state == RECEIVE_IDLE) {
        if (message->index <= handler->current.index) {
            reply(handler, message, message->total, false, ERR_OK);
            return;
        }
        begin(handler, message);
    }
    bool same =
        receive->index == message->index && receive->log_term == message->log_term && receive->total == message->total;
    if (!same || receive->given_up) {
        receive->waiting = *message;
        receive->waiting.data = (struct bytes){0};
        if (receive->state == RECEIVE_RECEIVING && !receive->given_up) give_up(handler, ERR_OK);
        return;
    }
    receive->replica = replica;
    receive->leader = message->from;
    receive->leader_term = message->term;
    /* After the last byte the answer waits for the installation. */
    if (receive->state == RECEIVE_RECEIVING && receive->accepted < receive->total) receive_chunk(handler, message);
}

void snapshot_handler_installed(struct snapshot_handler *handler, raft_term term)
{
    struct snapshot_receive *receive = &handler->receive;
    CHECK(receive->state == RECEIVE_RECEIVED);
    receive->leader_term = term;
    reply_to_leader(handler, receive->total, false, ERR_OK);
    receive_end(handler);
    snapshot_remove_old(handler);
}

void snapshot_receive_proceed(struct snapshot_handler *handler)
{
    struct snapshot_receive *receive = &handler->receive;
    if (receive->state == RECEIVE_IDLE || receive->given_up || handler->failed) return;
    if (receive->state == RECEIVE_WAITING) {
        if (receive->index <= handler->current.index) {
            give_up(handler, ERR_OK);
        } else {
            begin_load(handler);
        }
    } else if (receive->state == RECEIVE_RECEIVING && receive->index <= handler->current.index) {
        give_up(handler, ERR_OK);
    }
}

void snapshot_receive_free(struct snapshot_handler *handler)
{
    /* The replica may be gone already; what was loaded beside its state goes with it. */
    handler->receive.loading = false;
    release(&handler->receive);
}
