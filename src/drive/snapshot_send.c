#include "base/check.h"
#include "base/mark.h"
#include "base/mem.h"
#include "drive/snapshot_internal.h"

static struct snapshot_sender *find_sender(struct snapshot_handler *handler, member_id peer)
{
    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        if (handler->senders[i].peer == peer) return &handler->senders[i];
    }
    return NULL;
}

static struct snapshot_sender *find_free_sender(struct snapshot_handler *handler)
{
    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        if (!handler->senders[i].active && !handler->senders[i].reading) return &handler->senders[i];
    }
    return NULL;
}

static void sender_stop(struct snapshot_sender *sender)
{
    sender->active = false;
    sender->serial++;
    if (!sender->reading) {
        mem_free(sender->data);
        sender->data = NULL;
    }
    snapshot_remove_old(sender->handler);
}

static void sender_end(struct snapshot_sender *sender, bool rejected)
{
    struct snapshot_handler *handler = sender->handler;
    raft_index index = sender->snapshot.index;
    sender_stop(sender);
    log_info(handler->config.logger, rejected ? "sending a snapshot ended early" : "snapshot sent",
             "peer=%016llx index=%llu", (unsigned long long)sender->peer, (unsigned long long)index);
    handler->handler.sent(handler->user, sender->peer, index, rejected);
}

static void read_run(struct disk_job *job, struct disk *disk)
{
    struct snapshot_sender *sender = (struct snapshot_sender *)((char *)job - offsetof(struct snapshot_sender, job));
    struct disk_file *file;
    enum error error = disk_open(disk, sender->path, DISK_READ, &file);
    if (error == ERR_OK) {
        error = disk_read(disk, file, sender->read_offset, sender->data, sender->read_bytes, &sender->read_got);
        disk_close(disk, file);
    }
    disk_outcome_take(&sender->outcome, error, disk);
}

static void sender_pump(struct snapshot_sender *sender);

static void read_done(struct disk_job *job)
{
    struct snapshot_sender *sender = (struct snapshot_sender *)((char *)job - offsetof(struct snapshot_sender, job));
    struct snapshot_handler *handler = sender->handler;
    sender->reading = false;
    mem_free(sender->path);
    sender->path = NULL;
    if (!sender->active) {
        sender_stop(sender);
        return;
    }
    if (sender->read_serial != sender->serial) { /* the peer is elsewhere by now */
        sender_pump(sender);
        return;
    }
    if (sender->outcome.error != ERR_OK || sender->read_got != sender->read_bytes) {
        log_error(handler->config.logger, "snapshot can't be read for a peer", "epoch=%llu offset=%llu cause=\"%s\"",
                  (unsigned long long)sender->snapshot.epoch, (unsigned long long)sender->read_offset,
                  sender->outcome.error != ERR_OK ? sender->outcome.text : "it ends early");
        sender_end(sender, true);
        handler->handler.suspect(handler->user);
        return;
    }
    sender->next = sender->read_offset + sender->read_got;
    struct peer_message message = {
        .type = PEER_SNAPSHOT,
        .from = handler->config.self,
        .to = sender->peer,
        .term = sender->term,
        .index = sender->snapshot.index,
        .log_term = sender->snapshot.term,
        .offset = sender->read_offset,
        .total = sender->snapshot.size_bytes,
        .data = bytes_of(sender->data, sender->read_got),
    };
    handler->handler.send(handler->user, &message);
    sender_pump(sender);
}

/* Reads the next chunk, if the window has room for it. */
static void sender_pump(struct snapshot_sender *sender)
{
    struct snapshot_handler *handler = sender->handler;
    if (!sender->active || sender->reading || handler->failed || sender->next >= sender->snapshot.size_bytes) return;
    uint64_t unacknowledged = sender->next - sender->acked;
    if (sender->probing && unacknowledged > 0) return;
    if (unacknowledged + SNAPSHOT_SEND_BYTES > SNAPSHOT_SEND_WINDOW) return;

    uint64_t left = sender->snapshot.size_bytes - sender->next;
    sender->read_offset = sender->next;
    sender->read_bytes = left < SNAPSHOT_SEND_BYTES ? (size_t)left : SNAPSHOT_SEND_BYTES;
    sender->read_got = 0;
    sender->read_serial = sender->serial;
    sender->path = snapshot_path(handler, sender->snapshot.epoch);
    if (sender->data == NULL) sender->data = mem_alloc(SNAPSHOT_SEND_BYTES);
    sender->reading = true;
    sender->job = (struct disk_job){.run = read_run, .done = read_done};
    disk_submit(handler->config.queue, &sender->job);
}

/* What was sent counts as lost, or the answer to it: one chunk asks what the peer holds. */
static void send_again(struct snapshot_sender *sender)
{
    sender->asked_in_vain = 0;
    sender->probing = true;
    sender->next = sender->acked;
    sender->serial++;
    sender_pump(sender);
}

void snapshot_handler_send(struct snapshot_handler *handler, member_id peer, raft_term term)
{
    CHECK(peer != 0);
    if (handler->failed) return;
    if (handler->current.index == 0) {
        log_error(handler->config.logger, "a peer needs a snapshot and there is none", "peer=%016llx",
                  (unsigned long long)peer);
        return;
    }
    /* A better one is being made, and the peer asks again. */
    if (handler->damaged) return;
    struct snapshot_sender *sender = find_sender(handler, peer);
    /* A transfer of an earlier term is stale: its receiver ignored what came after the step-down. */
    if (sender != NULL && sender->active && sender->term == term) {
        if (++sender->asked_in_vain >= SNAPSHOT_SEND_ASKED_MAX) send_again(sender);
        return;
    }
    if (sender == NULL) sender = find_free_sender(handler);
    CHECK(sender != NULL); /* there are at most MEMBERS_MAX - 1 peers */
    sender->handler = handler;
    sender->peer = peer;
    sender->term = term;
    sender->snapshot = handler->current;
    sender->acked = 0;
    sender->next = 0;
    sender->serial++;
    sender->active = true;
    sender->probing = true;
    sender->asked_in_vain = 0;
    log_info(handler->config.logger, "snapshot is sent", "peer=%016llx index=%llu bytes=%llu", (unsigned long long)peer,
             (unsigned long long)sender->snapshot.index, (unsigned long long)sender->snapshot.size_bytes);
    sender_pump(sender);
}

void snapshot_handler_peer_lost(struct snapshot_handler *handler, member_id peer)
{
    struct snapshot_sender *sender = find_sender(handler, peer);
    if (peer != 0 && sender != NULL && sender->active) sender_stop(sender);
}

void snapshot_handler_stop_sending(struct snapshot_handler *handler)
{
    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        if (handler->senders[i].active) sender_stop(&handler->senders[i]);
    }
}

void snapshot_handler_reply(struct snapshot_handler *handler, const struct peer_message *message)
{
    struct snapshot_sender *sender = message->from == 0 ? NULL : find_sender(handler, message->from);
    if (handler->failed || sender == NULL || !sender->active) return;
    if (message->index != sender->snapshot.index || message->offset > sender->snapshot.size_bytes) return;
    if (message->rejected && message->reason != ERR_OK) {
        log_warn(handler->config.logger, "a peer refuses the snapshot", "peer=%016llx index=%llu reason=%s",
                 (unsigned long long)sender->peer, (unsigned long long)message->index,
                 message->reason < ERROR_COUNT ? error_code((enum error)message->reason) : "unknown");
        bool current = sender->snapshot.epoch == handler->current.epoch;
        sender_end(sender, true);
        if (message->reason == ERR_DAMAGED && current) handler->handler.suspect(handler->user);
        return;
    }
    sender->asked_in_vain = 0;
    if (sender->probing && message->offset > sender->next) MARK(SNAPSHOT_TRANSFER_WENT_ON);
    sender->probing = false;
    if (message->rejected || message->offset > sender->next) {
        sender->next = message->offset;
        sender->serial++;
    }
    if (message->rejected || message->offset > sender->acked) sender->acked = message->offset;
    if (!message->rejected && sender->acked == sender->snapshot.size_bytes) {
        sender_end(sender, false);
    } else {
        sender_pump(sender);
    }
}

void snapshot_senders_reject(struct snapshot_handler *handler)
{
    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        if (handler->senders[i].active) sender_end(&handler->senders[i], true);
    }
}

bool snapshot_sender_uses(const struct snapshot_handler *handler, uint64_t epoch)
{
    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        const struct snapshot_sender *sender = &handler->senders[i];
        if ((sender->active || sender->reading) && sender->snapshot.epoch == epoch) return true;
    }
    return false;
}

bool snapshot_senders_idle(const struct snapshot_handler *handler)
{
    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        if (handler->senders[i].reading) return false;
    }
    return true;
}

void snapshot_senders_free(struct snapshot_handler *handler)
{
    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        mem_free(handler->senders[i].data);
        mem_free(handler->senders[i].path);
    }
}
