/*
 * snapshot_bench.h - for the tests of the snapshot handler: a node with a handler on a rig, and a double of the replica.
 *
 * The double's state is a string of bytes that says which one it is, so that any mix of two states is noticed. It defines the
 * replica's own functions: so this is included by one source of a test program, and isn't linked into the others.
 */
#ifndef CORACLE_TEST_DRIVE_SNAPSHOT_BENCH_H
#define CORACLE_TEST_DRIVE_SNAPSHOT_BENCH_H

#include "drive/snapshot_handler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/mem.h"
#include "disk_rig.h"

#define DIRECTORY "/data/snapshot"
#define KIB 1024u
#define MIB (1024u * 1024)
#define LEADER 1

/* ---- the double ---- */

struct replica {
    struct buffer state;
    raft_index index;
    raft_term term;
    uint32_t chain;
    bool pinned;
    struct buffer pinned_state;
    size_t pinned_at;
    size_t chunk_bytes;
    bool loading;
    struct snapshot_header load_header;
    struct buffer load_state;
    enum error load_error; /* what the next chunk is answered with */
};

enum error replica_snapshot_begin(struct replica *replica, uint64_t snapshot_id, struct snapshot_header *header)
{
    if (replica->pinned || replica->loading || replica->index == 0) return ERR_NOT_READY;
    replica->pinned = true;
    replica->pinned_at = 0;
    buffer_clear(&replica->pinned_state);
    buffer_append(&replica->pinned_state, replica->state.data, replica->state.size);
    memset(header, 0, sizeof *header);
    header->snapshot_id = snapshot_id;
    header->cluster_id = 7;
    header->index = replica->index;
    header->term = replica->term;
    header->chain = replica->chain;
    header->revision = 1;
    header->compacted_revision = 1;
    header->member_count = 1;
    header->members[0].id = 5;
    snprintf(header->members[0].node_id, sizeof header->members[0].node_id, "five");
    return ERR_OK;
}

void replica_snapshot_next(struct replica *replica, struct snapshot_writer *writer, struct buffer *out, bool *done)
{
    assert_true(replica->pinned);
    size_t left = replica->pinned_state.size - replica->pinned_at;
    size_t size = left < replica->chunk_bytes ? left : replica->chunk_bytes;
    snapshot_write_chunk(writer, SNAPSHOT_CHUNK_KEYS, bytes_of(replica->pinned_state.data + replica->pinned_at, size),
                         out);
    replica->pinned_at += size;
    *done = replica->pinned_at == replica->pinned_state.size;
}

void replica_snapshot_end(struct replica *replica)
{
    replica->pinned = false;
}

enum error replica_load_begin(struct replica *replica, const struct snapshot_header *header)
{
    assert_false(replica->loading);
    assert_false(replica->pinned); /* no own snapshot while one is installed */
    if (header->cluster_id != 7) return ERR_WRONG_CLUSTER;
    replica->loading = true;
    replica->load_header = *header;
    buffer_clear(&replica->load_state);
    return ERR_OK;
}

enum error replica_load_chunk(struct replica *replica, enum snapshot_chunk_type type, struct bytes payload)
{
    assert_true(replica->loading);
    assert_int_equal(type, SNAPSHOT_CHUNK_KEYS);
    buffer_append(&replica->load_state, payload.data, payload.size);
    return replica->load_error;
}

void replica_load_abandon(struct replica *replica)
{
    replica->loading = false;
}

enum error replica_load_finish(struct replica *replica)
{
    assert_true(replica->loading);
    replica->loading = false;
    struct buffer state = replica->state;
    replica->state = replica->load_state;
    replica->load_state = state;
    replica->index = replica->load_header.index;
    replica->term = replica->load_header.term;
    replica->chain = replica->load_header.chain;
    return ERR_OK;
}

/* A state that says which one it is. */
static inline void set_state(struct replica *replica, raft_index index, size_t size)
{
    struct random random;
    random_seed(&random, index);
    buffer_clear(&replica->state);
    while (replica->state.size < size) {
        uint64_t noise = random_u64(&random);
        buffer_append(&replica->state, &noise, size - replica->state.size < 8 ? size - replica->state.size : 8);
    }
    replica->index = index;
    replica->term = 3;
    replica->chain = crc32c(0, replica->state.data, replica->state.size);
}

/* Whether the state is wholly that of its index. */
static inline void assert_state(const struct replica *replica, raft_index index)
{
    assert_int_equal(replica->index, index);
    if (index == 0) return;
    assert_int_equal(replica->chain, crc32c(0, replica->state.data, replica->state.size));
    struct random random;
    random_seed(&random, index);
    uint64_t noise = random_u64(&random);
    size_t size = replica->state.size < 8 ? replica->state.size : 8;
    assert_memory_equal(replica->state.data, &noise, size);
}

static inline void replica_double_free(struct replica *replica)
{
    buffer_free(&replica->state);
    buffer_free(&replica->pinned_state);
    buffer_free(&replica->load_state);
    memset(replica, 0, sizeof *replica);
}

/* ---- a node ---- */

struct mail {
    struct peer_message message; /* its data is a copy */
    struct mail *next;
};

struct node {
    struct rig rig;
    member_id self;
    struct snapshot_handler *handler;
    struct replica replica;
    struct mail *outbox;
    struct random random;
    unsigned made_count, not_made_count, failed_count, sent_count, rejected_count, received_count, installed_count,
        suspect_count;
    raft_index made_index, received_index, sent_index;
    uint64_t data_bytes_sent;
    char text[512];
};

static inline void on_made(void *user, raft_index index, uint64_t size_bytes)
{
    struct node *node = user;
    assert_int_equal(snapshot_handler_current(node->handler)->index, index);
    assert_int_equal(snapshot_handler_current(node->handler)->size_bytes, size_bytes);
    assert_int_equal(node->failed_count, 0);
    node->made_count++;
    node->made_index = index;
}

static inline void on_not_made(void *user, const char *text)
{
    struct node *node = user;
    assert_true(text[0] != 0);
    node->not_made_count++;
    snprintf(node->text, sizeof node->text, "%s", text);
}

static inline void on_send(void *user, const struct peer_message *message)
{
    struct node *node = user;
    assert_int_equal(message->from, node->self);
    struct mail *mail = mem_alloc_zero(sizeof *mail);
    mail->message = *message;
    if (message->data.size > 0) {
        uint8_t *copy = mem_alloc(message->data.size);
        memcpy(copy, message->data.data, message->data.size);
        mail->message.data.data = copy;
    }
    if (message->type == PEER_SNAPSHOT) {
        assert_in_range(message->data.size, 1, SNAPSHOT_SEND_BYTES);
        node->data_bytes_sent += message->data.size;
    }
    struct mail **at = &node->outbox;
    while (*at != NULL) at = &(*at)->next;
    *at = mail;
}

static inline void on_sent(void *user, member_id peer, raft_index index, bool rejected)
{
    struct node *node = user;
    assert_true(peer != 0);
    node->sent_count += !rejected;
    node->rejected_count += rejected;
    node->sent_index = index;
}

static inline void on_received(void *user, raft_index index, raft_term term, uint32_t chain)
{
    struct node *node = user;
    assert_int_equal(node->failed_count, 0);
    assert_true(node->replica.loading);
    assert_int_equal(node->replica.load_header.index, index);
    assert_int_equal(node->replica.load_header.term, term);
    assert_int_equal(node->replica.load_header.chain, chain);
    node->received_count++;
    node->received_index = index;
}

static inline void on_failed(void *user, const char *text)
{
    struct node *node = user;
    node->failed_count++;
    snprintf(node->text, sizeof node->text, "%s", text);
}

static inline uint64_t on_entropy(void *user)
{
    return random_u64(&((struct node *)user)->random);
}

static inline void on_suspect(void *user)
{
    ((struct node *)user)->suspect_count++;
}

static const struct snapshot_handler_handler handler = {.made = on_made,
                                                        .not_made = on_not_made,
                                                        .send = on_send,
                                                        .sent = on_sent,
                                                        .received = on_received,
                                                        .failed = on_failed,
                                                        .entropy = on_entropy,
                                                        .suspect = on_suspect};

static inline void open_handler(struct node *node)
{
    struct snapshot_handler_config config = {.directory = DIRECTORY,
                                             .disk = &node->rig.disk.disk,
                                             .queue = &node->rig.queue,
                                             .logger = &node->rig.logger,
                                             .self = node->self};
    node->handler = snapshot_handler_new(&config, &handler, node);
    node->replica.chunk_bytes = 200 * KIB;
    node->failed_count = 0;
}

static inline void drop_mail(struct node *node)
{
    while (node->outbox != NULL) {
        struct mail *mail = node->outbox;
        node->outbox = mail->next;
        if (mail->message.data.size > 0) mem_free((void *)mail->message.data.data);
        mem_free(mail);
    }
}

static inline void node_init(struct node *node, member_id self, uint64_t seed)
{
    memset(node, 0, sizeof *node);
    rig_init(&node->rig, seed);
    random_seed(&node->random, seed);
    node->self = self;
    open_handler(node);
}

static inline void node_free(struct node *node)
{
    snapshot_handler_free(node->handler);
    replica_double_free(&node->replica);
    drop_mail(node);
    rig_free(&node->rig);
}

static inline void node_restart(struct node *node, bool power_loss)
{
    snapshot_handler_free(node->handler);
    replica_double_free(&node->replica);
    drop_mail(node);
    rig_restart(&node->rig, power_loss);
    open_handler(node);
}

static inline enum error recover(struct node *node)
{
    struct snapshot_metadata out;
    enum error error = snapshot_handler_recover(node->handler, &node->replica, &out, node->text);
    if (error != ERR_OK) {
        assert_true(node->text[0] != 0);
        return error;
    }
    assert_int_equal(out.index, node->replica.index);
    assert_int_equal(out.index, snapshot_handler_current(node->handler)->index);
    assert_state(&node->replica, out.index);
    return ERR_OK;
}

static inline void start(struct node *node, member_id self, uint64_t seed)
{
    node_init(node, self, seed);
    assert_int_equal(recover(node), ERR_OK);
}

/* Begins a snapshot of a new state. */
static inline void begin_make(struct node *node, raft_index index, size_t size)
{
    set_state(&node->replica, index, size);
    snapshot_handler_make(node->handler, &node->replica);
}

static inline void make(struct node *node, raft_index index, size_t size)
{
    unsigned before = node->made_count;
    begin_make(node, index, size);
    assert_true(snapshot_handler_busy_making(node->handler));
    rig_run(&node->rig);
    assert_int_equal(node->made_count, before + 1);
    assert_int_equal(node->made_index, index);
    assert_false(snapshot_handler_busy_making(node->handler));
    assert_true(snapshot_handler_idle(node->handler));
    assert_false(node->replica.pinned);
}

static inline const char *current_path(struct node *node)
{
    static char path[64];
    char name[SNAPSHOT_NAME_BYTES];
    snapshot_name(snapshot_handler_current(node->handler)->epoch, name);
    snprintf(path, sizeof path, "%s/%s", DIRECTORY, name);
    return path;
}

#endif
