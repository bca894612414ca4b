#include "harness.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"

#define HEARTBEAT (100 * TIME_NS_PER_MS)

static member_id id_of(uint32_t node)
{
    char name[16];
    snprintf(name, sizeof name, "n%u", node);
    return member_id_of(name);
}

static uint32_t node_of(const struct harness *harness, member_id id)
{
    for (uint32_t i = 0; i < harness->count; i++) {
        if (id_of(i) == id) return i;
    }
    fail_msg("a message to nobody");
    return 0;
}

static void connect_all(struct harness *harness)
{
    for (uint32_t i = 0; i < harness->count; i++) {
        for (uint32_t j = 0; j < harness->count; j++) {
            if (i == j || harness->nodes[i].cut || harness->nodes[j].cut) continue;
            struct replica_event event = {.type = REPLICA_PEER_CONNECTED, .peer = id_of(j), .incarnation = 1};
            harness_step(harness, i, &event);
        }
    }
}

void harness_start(struct harness *harness, uint32_t count)
{
    *harness = (struct harness){.count = count, .now = TIME_NS_PER_S};
    for (uint32_t i = 0; i < count; i++) {
        struct replica_config *config = mem_alloc_zero(sizeof *config);
        config->raft = (struct raft_config){.self = id_of(i),
                                            .member_count = count,
                                            .election_timeout = 10 * HEARTBEAT,
                                            .heartbeat_interval = HEARTBEAT,
                                            .quick_start = true,
                                            .seed = 17 + i,
                                            .append_bytes_max = 64 * 1024,
                                            .inflight_bytes_max = 1024 * 1024,
                                            .cache_bytes_max = 64 * 1024,
                                            .unapplied_bytes_max = 16 * 1024 * 1024};
        for (uint32_t j = 0; j < count; j++) {
            config->raft.members[j] = id_of(j);
            config->members[j].id = id_of(j);
        }
        config->member_count = count;
        config->cluster_id = 99;
        config->incarnation = 1;
        config->snapshot_log_bytes_min = 1ull << 40;
        config->snapshot_state_percent = 50;
        config->requests_max = 100;
        config->request_timeout = 2 * TIME_NS_PER_S;
        config->forward_timeout = 3 * TIME_NS_PER_S / 2;
        harness->nodes[i].replica = replica_new(config, &log_none);
        mem_free(config);
        struct raft_boot boot = {0};
        replica_boot(harness->nodes[i].replica, &boot);
    }
    connect_all(harness);
}

void harness_stop(struct harness *harness)
{
    for (uint32_t i = 0; i < harness->count; i++) {
        replica_effects_free(&harness->nodes[i].effects);
        replica_free(harness->nodes[i].replica);
    }
    for (uint32_t i = 0; i < harness->frame_count; i++) buffer_free(&harness->frames[i].bytes);
    mem_free(harness->frames);
}

static void post(struct harness *harness, uint32_t from, const struct peer_message *message)
{
    uint32_t to = node_of(harness, message->to);
    if (harness->nodes[from].cut || harness->nodes[to].cut) return;
    for (unsigned copy = 0; copy < (harness->duplicate ? 2u : 1u); copy++) {
        if (harness->frame_count == harness->frame_capacity) {
            harness->frame_capacity = harness->frame_capacity == 0 ? 64 : harness->frame_capacity * 2;
            harness->frames = mem_realloc(harness->frames, harness->frame_capacity * sizeof harness->frames[0]);
        }
        struct harness_frame *frame = &harness->frames[harness->frame_count++];
        *frame = (struct harness_frame){.from = from, .to = to};
        peer_message_encode(message, &frame->bytes);
    }
}

static void carry_out(struct harness *harness, uint32_t number)
{
    struct harness_node *node = &harness->nodes[number];
    struct replica_effects *effects = &node->effects;
    assert_false(effects->fatal);
    for (uint32_t i = 0; i < effects->raft.message_count; i++) post(harness, number, &effects->raft.messages[i]);
    for (uint32_t i = 0; i < effects->result_count; i++) {
        assert_true(node->result_count < HARNESS_RESULTS_MAX);
        node->results[node->result_count++] = effects->results[i];
    }
    if (effects->raft.save.number != 0) node->save_number = effects->raft.save.number;
    if (effects->raft.write.entry_count != 0) node->write_number = effects->raft.write.number;
    replica_effects_clear(effects);
}

void harness_step(struct harness *harness, uint32_t number, struct replica_event *event)
{
    struct harness_node *node = &harness->nodes[number];
    event->now = harness->now;
    replica_step(node->replica, event, &node->effects);
    struct replica_event flush = {.type = REPLICA_FLUSH, .now = harness->now};
    replica_step(node->replica, &flush, &node->effects);
    carry_out(harness, number);
}

static bool complete(struct harness *harness, uint32_t number)
{
    struct harness_node *node = &harness->nodes[number];
    if (node->save_number != 0) {
        struct replica_event event = {.type = REPLICA_STATE_SAVED, .number = node->save_number};
        node->save_number = 0;
        harness_step(harness, number, &event);
        return true;
    }
    if (node->write_number != 0 && !node->stalled) {
        struct replica_event event = {.type = REPLICA_LOG_WRITTEN, .number = node->write_number};
        node->write_number = 0;
        harness_step(harness, number, &event);
        return true;
    }
    return false;
}

static void deliver(struct harness *harness)
{
    struct harness_frame frame = harness->frames[0];
    harness->frame_count--;
    memmove(harness->frames, harness->frames + 1, harness->frame_count * sizeof harness->frames[0]);
    if (!harness->nodes[frame.from].cut && !harness->nodes[frame.to].cut) {
        struct peer_frame parts;
        size_t size;
        struct peer_message message;
        assert_int_equal(peer_frame_next(buffer_bytes(&frame.bytes), &parts, &size), ERR_OK);
        assert_int_equal(size, frame.bytes.size);
        assert_int_equal(peer_message_decode(&parts, &message), ERR_OK);
        struct replica_event event = {.type = REPLICA_MESSAGE, .message = &message};
        harness_step(harness, frame.to, &event);
        peer_message_release(&message);
    }
    buffer_free(&frame.bytes);
}

void harness_settle(struct harness *harness)
{
    bool busy = true;
    while (busy) {
        busy = harness->frame_count > 0;
        if (busy) deliver(harness);
        for (uint32_t i = 0; i < harness->count; i++) busy |= complete(harness, i);
    }
}

void harness_run(struct harness *harness, time_ns duration)
{
    for (time_ns end = harness->now + duration; harness->now < end;) {
        harness->now += HEARTBEAT / 10;
        for (uint32_t i = 0; i < harness->count; i++) {
            struct replica_event tick = {.type = REPLICA_TICK};
            harness_step(harness, i, &tick);
        }
        harness_settle(harness);
    }
}

uint32_t harness_leader(struct harness *harness)
{
    for (unsigned tries = 0; tries < 1000; tries++) {
        for (uint32_t i = 0; i < harness->count; i++) {
            struct replica_status status;
            harness_status(harness, i, &status);
            if (status.raft.may_serve && !harness->nodes[i].cut) return i;
        }
        harness_run(harness, HEARTBEAT / 10);
    }
    fail_msg("no leader");
    return 0;
}

void harness_cut(struct harness *harness, uint32_t number, bool cut)
{
    for (uint32_t i = 0; i < harness->count && cut; i++) {
        if (i == number) continue;
        struct replica_event there = {.type = REPLICA_PEER_LOST, .peer = id_of(number)};
        struct replica_event here = {.type = REPLICA_PEER_LOST, .peer = id_of(i)};
        harness_step(harness, i, &there);
        harness_step(harness, number, &here);
    }
    harness->nodes[number].cut = cut;
    if (!cut) connect_all(harness);
}

void harness_put(struct harness *harness, uint32_t node, uint64_t request, const char *key, const char *value)
{
    struct replica_event event = {.type = REPLICA_PROPOSE,
                                  .request = request,
                                  .entry = command_put(bytes_of_string(key), bytes_of_string(value), 0)};
    harness_step(harness, node, &event);
}

void harness_read(struct harness *harness, uint32_t node, uint64_t request)
{
    struct replica_event event = {.type = REPLICA_READ, .request = request};
    harness_step(harness, node, &event);
}

const struct replica_result *harness_result(const struct harness *harness, uint32_t number, uint64_t request)
{
    const struct harness_node *node = &harness->nodes[number];
    const struct replica_result *found = NULL;
    for (uint32_t i = 0; i < node->result_count; i++) {
        if (node->results[i].request != request) continue;
        assert_null(found);
        found = &node->results[i];
    }
    return found;
}

const char *harness_value(const struct harness *harness, uint32_t number, const char *key)
{
    static char text[256];
    const struct store_record *record = NULL;
    text[0] = 0;
    if (store_get(replica_store(harness->nodes[number].replica), bytes_of_string(key), 0, &record) == ERR_OK) {
        struct bytes value = store_record_value(record);
        snprintf(text, sizeof text, "%.*s", (int)value.size, (const char *)value.data);
    }
    return text;
}

void harness_status(const struct harness *harness, uint32_t node, struct replica_status *out)
{
    replica_status(harness->nodes[node].replica, out);
}
