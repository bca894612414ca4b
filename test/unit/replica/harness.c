#include "harness.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/check.h"
#include "base/mem.h"
#include "replica/replica_internal.h"

/* Far more than any test needs; a storm of messages that feeds itself ends here. */
#define STABILIZE_ROUNDS_MAX 5000

static struct harness_member *member_of(struct harness *harness, member_id id)
{
    CHECK(id >= 1 && id <= harness->options.count);
    return &harness->members[id];
}

void harness_breach(struct harness *harness, const char *format, ...)
{
    if (harness->violation[0] != 0) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(harness->violation, sizeof harness->violation, format, arguments);
    va_end(arguments);
}

static void fill_in(struct harness_options *options)
{
    if (options->requests_max == 0) options->requests_max = 1000;
    if (options->request_timeout == 0) options->request_timeout = 2000 * TIME_NS_PER_MS;
    if (options->forward_timeout == 0) options->forward_timeout = 1500 * TIME_NS_PER_MS;
    if (options->snapshot_log_bytes_min == 0) options->snapshot_log_bytes_min = 1 << 20;
    if (options->snapshot_state_percent == 0) options->snapshot_state_percent = 50;
    if (options->append_bytes_max == 0) options->append_bytes_max = 1 << 20;
    if (options->inflight_bytes_max == 0) options->inflight_bytes_max = 4 << 20;
    if (options->cache_bytes_max == 0) options->cache_bytes_max = 1 << 20;
    if (options->unapplied_bytes_max == 0) options->unapplied_bytes_max = 4 << 20;
    /* Often, and little at a time, so that a cursor is always on its way. */
    if (options->content_scrub.interval == 0) {
        options->content_scrub = (struct content_scrub_limits){.interval = 3, .keys_max = 5, .bytes_max = 64};
    }
    if (options->history_bytes_budget == 0) options->history_bytes_budget = REPLICA_HISTORY_BYTES_BUDGET;
}

static void configure(struct harness *harness, struct harness_member *member)
{
    const struct harness_options *options = &harness->options;
    member->config = (struct replica_config){
        .raft = {.self = member->id,
                 .member_count = options->count,
                 .election_timeout = HARNESS_ELECTION_TIMEOUT,
                 .heartbeat_interval = HARNESS_HEARTBEAT,
                 .append_bytes_max = options->append_bytes_max,
                 .inflight_bytes_max = options->inflight_bytes_max,
                 .cache_bytes_max = options->cache_bytes_max,
                 .unapplied_bytes_max = options->unapplied_bytes_max},
        .cluster_id = HARNESS_CLUSTER_ID,
        .member_count = options->count,
        .snapshot_log_bytes_min = options->snapshot_log_bytes_min,
        .snapshot_state_percent = options->snapshot_state_percent,
        .history_bytes_budget = REPLICA_HISTORY_BYTES_BUDGET,
        .content_scrub = options->content_scrub,
        .requests_max = options->requests_max,
        .request_timeout = options->request_timeout,
        .forward_timeout = options->forward_timeout,
    };
    for (uint32_t i = 0; i < options->count; i++) {
        struct snapshot_member *named = &member->config.members[i];
        member->config.raft.members[i] = i + 1;
        named->id = i + 1;
        snprintf(named->node_id, sizeof named->node_id, "node-%u", i + 1);
        snprintf(named->rpc_address, sizeof named->rpc_address, "host-%u:6666", i + 1);
        snprintf(named->api_address, sizeof named->api_address, "host-%u:7777", i + 1);
    }
}

struct harness *harness_new(const struct harness_options *options)
{
    CHECK(options->count >= 1 && options->count <= MEMBERS_MAX);
    struct harness *harness = mem_alloc_zero(sizeof *harness);
    harness->options = *options;
    fill_in(&harness->options);
    harness->now = 1000 * TIME_NS_PER_MS;
    harness->revision = 1;
    for (member_id id = 1; id <= options->count; id++) {
        harness->members[id].id = id;
        configure(harness, &harness->members[id]);
    }
    return harness;
}

/* ---- disks ---- */

struct entry *harness_disk_entry(const struct harness_disk *disk, raft_index index)
{
    CHECK(index > disk->base_index && index <= disk->last_index);
    return disk->entries[index - disk->base_index - 1];
}

static raft_term disk_term_at(const struct harness_disk *disk, raft_index index)
{
    if (index == disk->base_index) return disk->base_term;
    if (index < disk->base_index || index > disk->last_index) return 0;
    return entry_term(harness_disk_entry(disk, index));
}

static void disk_truncate(struct harness_disk *disk, raft_index index)
{
    while (disk->last_index >= index && disk->last_index > disk->base_index) {
        entry_unref(harness_disk_entry(disk, disk->last_index));
        disk->last_index--;
    }
}

static void disk_push(struct harness_disk *disk, struct entry *entry)
{
    size_t count = (size_t)(disk->last_index - disk->base_index);
    if (count == disk->capacity) {
        disk->capacity = disk->capacity == 0 ? 256 : disk->capacity * 2;
        disk->entries = mem_realloc(disk->entries, disk->capacity * sizeof disk->entries[0]);
    }
    disk->entries[count] = entry;
    disk->last_index++;
}

static void disk_rebase(struct harness_disk *disk, raft_index index)
{
    if (index <= disk->base_index) return;
    const struct entry *base = harness_disk_entry(disk, index);
    raft_term term = entry_term(base);
    uint32_t chain = entry_chain(base);
    size_t dropped = (size_t)(index - disk->base_index), count = (size_t)(disk->last_index - disk->base_index);
    for (size_t i = 0; i < dropped; i++) entry_unref(disk->entries[i]);
    memmove(disk->entries, disk->entries + dropped, (count - dropped) * sizeof disk->entries[0]);
    disk->base_index = index;
    disk->base_term = term;
    disk->base_chain = chain;
}

/* The log begins anew after the snapshot. */
static void disk_reset(struct harness_disk *disk)
{
    disk_truncate(disk, disk->base_index + 1);
    disk->base_index = disk->last_index = disk->snapshot_index;
    disk->base_term = disk->snapshot_term;
    disk->base_chain = disk->snapshot_chain;
}

static void disk_take_snapshot(struct harness_disk *disk, const struct snapshot_header *header, struct bytes file)
{
    buffer_clear(&disk->snapshot);
    buffer_append(&disk->snapshot, file.data, file.size);
    disk->snapshot_index = header->index;
    disk->snapshot_term = header->term;
    disk->snapshot_chain = header->chain;
}

static void drop_write(struct harness_member *member)
{
    for (uint32_t i = 0; i < member->write.entry_count; i++) entry_unref(member->write.entries[i]);
    mem_free(member->write.entries);
    member->write = (struct raft_write){0};
}

static void drop_making(struct harness_member *member)
{
    buffer_free(&member->making.bytes);
    member->making = (struct harness_making){0};
}

static void drop_receive(struct harness_member *member)
{
    buffer_free(&member->receive.bytes);
    member->receive = (struct harness_receive){0};
}

void harness_free(struct harness *harness)
{
    if (harness == NULL) return;
    for (member_id id = 1; id <= harness->options.count; id++) {
        struct harness_member *member = &harness->members[id];
        replica_free(member->replica);
        replica_effects_free(&member->effects);
        drop_write(member);
        drop_making(member);
        drop_receive(member);
        disk_truncate(&member->disk, member->disk.base_index + 1);
        mem_free(member->disk.entries);
        buffer_free(&member->disk.snapshot);
    }
    for (uint32_t i = 0; i < harness->network_count; i++) mem_free(harness->network[i].bytes);
    for (uint32_t key = 0; key < HARNESS_KEYS; key++) mem_free(harness->keys[key].changes);
    for (uint64_t number = 1; number <= harness->request_count; number++) {
        replica_outcome_free(harness->requests[number].outcome);
    }
    mem_free(harness->network);
    mem_free(harness->requests);
    mem_free(harness->points);
    mem_free(harness->identities);
    mem_free(harness);
}

/* ---- network ---- */

void harness_add(struct harness *harness, const struct harness_frame *frame)
{
    if (harness->network_count == harness->network_capacity) {
        harness->network_capacity = harness->network_capacity == 0 ? 64 : harness->network_capacity * 2;
        harness->network = mem_realloc(harness->network, harness->network_capacity * sizeof harness->network[0]);
    }
    harness->network[harness->network_count++] = *frame;
}

struct harness_frame harness_take(struct harness *harness, uint32_t position)
{
    CHECK(position < harness->network_count);
    struct harness_frame frame = harness->network[position];
    harness->network_count--;
    memmove(harness->network + position, harness->network + position + 1,
            (harness->network_count - position) * sizeof harness->network[0]);
    return frame;
}

static void send(struct harness *harness, struct harness_member *member, const struct peer_message *message)
{
    CHECK(message->from == member->id && message->to >= 1 && message->to <= harness->options.count);
    if (!member->links[message->to] || member->cuts[message->to]) return;
    struct buffer bytes = {0};
    peer_message_encode(message, &bytes);
    struct harness_frame frame = {.from = message->from,
                                  .to = message->to,
                                  .type = message->type,
                                  .rejected = message->rejected,
                                  .size = bytes.size,
                                  .bytes = bytes.data};
    harness_add(harness, &frame);
}

/* The whole file at once, in chunks. Nothing when a transfer is under way. */
static void send_snapshot(struct harness *harness, struct harness_member *member, member_id to)
{
    const struct harness_disk *disk = &member->disk;
    if (disk->snapshot.size == 0) return; /* it will be asked for again */
    if (harness->members[to].receive.installing) return;
    if (harness_find(harness, PEER_SNAPSHOT, member->id, to) < harness->network_count) return;
    if (harness_find(harness, PEER_SNAPSHOT_REPLY, to, member->id) < harness->network_count) return;
    struct peer_message message = {.type = PEER_SNAPSHOT,
                                   .from = member->id,
                                   .to = to,
                                   .term = member->status.raft.term,
                                   .index = disk->snapshot_index,
                                   .log_term = disk->snapshot_term,
                                   .total = disk->snapshot.size};
    while (message.offset < disk->snapshot.size) {
        size_t size = disk->snapshot.size - (size_t)message.offset;
        if (size > HARNESS_CHUNK_BYTES) size = HARNESS_CHUNK_BYTES;
        message.data = bytes_of(disk->snapshot.data + message.offset, size);
        send(harness, member, &message);
        message.offset += size;
    }
}

/* ---- effects ---- */

static void take_write(struct harness_member *member)
{
    struct raft_write *write = &member->effects.raft.write;
    if (write->entry_count == 0) return;
    CHECK(member->write.entry_count == 0 && !member->receive.installing);
    member->write = *write;
    write->entries = NULL;
    write->entry_count = 0;
}

static void carry_out(struct harness *harness, struct harness_member *member)
{
    struct replica_effects *effects = &member->effects;
    if (effects->fatal) harness_breach(harness, "%" PRIu64 " can't go on: %.200s", member->id, effects->fatal_text);
    if (effects->raft.save.number != 0) {
        CHECK(member->save.number == 0);
        member->save = effects->raft.save;
    }
    take_write(member);
    for (uint32_t i = 0; i < effects->raft.message_count; i++) send(harness, member, &effects->raft.messages[i]);
    for (uint32_t i = 0; i < effects->raft.log_read_count; i++) {
        CHECK(member->log_read_count < HARNESS_LOG_READS_MAX);
        member->log_reads[member->log_read_count++] = effects->raft.log_reads[i];
    }
    for (uint32_t i = 0; i < effects->raft.snapshot_peer_count; i++) {
        send_snapshot(harness, member, effects->raft.snapshot_peers[i]);
    }
    for (uint32_t i = 0; i < effects->result_count; i++) {
        struct replica_result *result = &effects->results[i];
        harness_take_result(harness, member, result);
        if (!harness->options.any_commands) continue;
        harness->requests[result->request].outcome = result->outcome;
        result->outcome = NULL;
    }
    member->due = effects->snapshot_due;
    bool make = member->due && harness->options.make_snapshots && !member->making.active;
    replica_effects_clear(effects);
    if (make) harness_snapshot_begin(harness, member->id);
}

void harness_step(struct harness *harness, member_id id, struct replica_event *event)
{
    struct harness_member *member = member_of(harness, id);
    if (member->replica == NULL) {
        if (event->entry != NULL) entry_unref(event->entry);
        return;
    }
    event->now = harness->now;
    replica_step(member->replica, event, &member->effects);
    member->touched = true;
}

void harness_tick(struct harness *harness, member_id id)
{
    struct replica_event event = {.type = REPLICA_TICK};
    harness_step(harness, id, &event);
}

void harness_flush(struct harness *harness, member_id id)
{
    struct harness_member *member = member_of(harness, id);
    if (member->replica == NULL) return;
    struct replica_event event = {.type = REPLICA_FLUSH};
    harness_step(harness, id, &event);
    member->touched = false;
    replica_status(member->replica, &member->status);
    harness_check_member(harness, member);
    carry_out(harness, member);
}

void harness_flush_all(struct harness *harness)
{
    for (member_id id = 1; id <= harness->options.count; id++) {
        if (harness->members[id].touched) harness_flush(harness, id);
    }
}

/* ---- requests ---- */

static uint64_t *open_of(struct harness *harness, enum harness_kind kind)
{
    bool writes = kind == HARNESS_PUT || kind == HARNESS_DELETE || kind == HARNESS_GRANT || kind == HARNESS_REVOKE ||
                  kind == HARNESS_COMMAND;
    return writes ? &harness->open_writes : &harness->open_reads;
}

static uint64_t ask(struct harness *harness, enum harness_kind kind, member_id id, uint32_t key)
{
    CHECK(key < HARNESS_KEYS && member_of(harness, id)->replica != NULL);
    uint64_t number = ++harness->request_count;
    if (number >= harness->request_capacity) {
        harness->request_capacity = harness->request_capacity == 0 ? 1024 : harness->request_capacity * 2;
        harness->requests = mem_realloc(harness->requests, harness->request_capacity * sizeof harness->requests[0]);
    }
    harness->requests[number] = (struct harness_request){
        .kind = kind, .member = id, .key = key, .floor = harness->floor, .asked = harness->now};
    *open_of(harness, kind) += 1;
    return number;
}

static uint64_t ask_for_lease(struct harness *harness, enum harness_kind kind, member_id id, uint64_t lease)
{
    uint64_t number = ask(harness, kind, id, 0);
    harness->requests[number].lease = lease;
    harness->requests[number].lease_was_there = harness_lease(harness, lease)->there;
    harness->requests[number].lease_asked_at = harness->applied;
    harness->requests[number].lease_safe_until = harness_lease(harness, lease)->safe_until;
    return number;
}

static uint64_t propose(struct harness *harness, uint64_t number, struct entry *entry)
{
    struct replica_event event = {.type = REPLICA_PROPOSE, .request = number, .entry = entry};
    harness_step(harness, harness->requests[number].member, &event);
    return number;
}

uint64_t harness_command(struct harness *harness, member_id id, struct entry *entry)
{
    CHECK(harness->options.any_commands);
    return propose(harness, ask(harness, HARNESS_COMMAND, id, 0), entry);
}

uint64_t harness_grant(struct harness *harness, member_id id, uint64_t lease, int64_t ttl_s)
{
    uint64_t number = ask_for_lease(harness, HARNESS_GRANT, id, lease);
    harness->requests[number].granted_ttl_s = ttl_s;
    return propose(harness, number, command_lease_grant(lease, ttl_s));
}

uint64_t harness_revoke(struct harness *harness, member_id id, uint64_t lease)
{
    harness_lease(harness, lease)->client_revokes = true;
    return propose(harness, ask_for_lease(harness, HARNESS_REVOKE, id, lease), command_lease_revoke(lease));
}

static uint64_t ask_leader(struct harness *harness, enum harness_kind kind, enum replica_event_type type, member_id id,
                           uint64_t lease)
{
    uint64_t number = ask_for_lease(harness, kind, id, lease);
    struct replica_event event = {.type = type, .request = number, .lease = lease};
    harness_step(harness, id, &event);
    return number;
}

uint64_t harness_renew(struct harness *harness, member_id id, uint64_t lease)
{
    return ask_leader(harness, HARNESS_RENEW, REPLICA_LEASE_RENEW, id, lease);
}

uint64_t harness_time(struct harness *harness, member_id id, uint64_t lease)
{
    return ask_leader(harness, HARNESS_TIME, REPLICA_LEASE_TIME, id, lease);
}

uint64_t harness_put(struct harness *harness, member_id id, uint32_t key)
{
    return harness_put_leased(harness, id, key, 0);
}

uint64_t harness_put_leased(struct harness *harness, member_id id, uint32_t key, uint64_t lease)
{
    uint64_t number = ask(harness, HARNESS_PUT, id, key);
    char text[12];
    harness_key_text(key, text);
    struct buffer value = {0};
    buffer_append_decimal(&value, number);
    while (value.size < harness->options.value_bytes) buffer_append_byte(&value, 'x');
    struct entry *entry = command_put(bytes_of_string(text), buffer_bytes(&value), lease);
    buffer_free(&value);
    return propose(harness, number, entry);
}

uint64_t harness_delete(struct harness *harness, member_id id, uint32_t key)
{
    uint64_t number = ask(harness, HARNESS_DELETE, id, key);
    char text[12];
    harness_key_text(key, text);
    return propose(harness, number, command_delete(bytes_of_string(text)));
}

uint64_t harness_want_snapshot(struct harness *harness, member_id id)
{
    uint64_t number = ask(harness, HARNESS_SNAPSHOT, id, 0);
    struct replica_event event = {.type = REPLICA_WANT_SNAPSHOT, .request = number};
    harness_step(harness, id, &event);
    return number;
}

uint64_t harness_read(struct harness *harness, member_id id, uint32_t key)
{
    uint64_t number = ask(harness, HARNESS_READ, id, key);
    struct replica_event event = {.type = REPLICA_READ, .request = number};
    harness_step(harness, id, &event);
    return number;
}

const struct harness_request *harness_request(const struct harness *harness, uint64_t number)
{
    CHECK(number >= 1 && number <= harness->request_count);
    return &harness->requests[number];
}

/* ---- life ---- */

static void drop_between(struct harness *harness, member_id a, member_id b)
{
    for (uint32_t i = harness->network_count; i > 0; i--) {
        const struct harness_frame *frame = &harness->network[i - 1];
        bool between = (frame->from == a && frame->to == b) || (frame->from == b && frame->to == a);
        if (between) harness_drop(harness, i - 1);
    }
}

static void connect_side(struct harness *harness, struct harness_member *member, struct harness_member *peer)
{
    member->links[peer->id] = true;
    struct replica_event event = {
        .type = REPLICA_PEER_CONNECTED, .peer = peer->id, .incarnation = peer->incarnation, .term = peer->disk.term};
    harness_step(harness, member->id, &event);
}

static void lose(struct harness *harness, member_id id, member_id peer, bool crashed)
{
    struct harness_member *member = member_of(harness, id);
    if (member->replica == NULL || !member->links[peer]) return;
    member->links[peer] = false;
    struct replica_event event = {.type = REPLICA_PEER_LOST, .peer = peer, .crashed = crashed};
    harness_step(harness, id, &event);
}

void harness_connect(struct harness *harness, member_id a, member_id b)
{
    struct harness_member *first = member_of(harness, a), *second = member_of(harness, b);
    if (first->replica == NULL || second->replica == NULL || a == b) return;
    if (first->cuts[b] || second->cuts[a]) return; /* no greeting gets through */
    harness_disconnect(harness, a, b);
    connect_side(harness, first, second);
    connect_side(harness, second, first);
}

void harness_disconnect(struct harness *harness, member_id a, member_id b)
{
    drop_between(harness, a, b);
    lose(harness, a, b, false);
    lose(harness, b, a, false);
}

static void recover(struct harness *harness, struct harness_member *member)
{
    struct harness_disk *disk = &member->disk;
    if (disk->snapshot.size > 0) {
        CHECK(harness_load(member->replica, buffer_bytes(&disk->snapshot)) == ERR_OK);
        CHECK(replica_load_finish(member->replica) == ERR_OK);
        /* It died between counting a leader's snapshot and resetting the log. */
        if (disk_term_at(disk, disk->snapshot_index) != disk->snapshot_term) disk_reset(disk);
    } else {
        member->replica->sessions.history_bytes_budget = harness->options.history_bytes_budget;
    }
    struct raft_boot boot = {.term = disk->term, .vote = disk->vote, .no_vote_before_term = disk->no_vote_before_term};
    replica_boot(member->replica, &boot);
    for (raft_index index = disk->snapshot_index + 1; index <= disk->last_index; index++) {
        replica_recover_entry(member->replica, entry_ref(harness_disk_entry(disk, index)));
        /* As often as a real log says it: what is committed is known from the batches. */
        if (index % 7 == 0) replica_recover_commit(member->replica, disk->commit);
    }
    replica_recover_commit(member->replica, disk->commit);
}

void harness_start(struct harness *harness, member_id id)
{
    struct harness_member *member = member_of(harness, id);
    CHECK(member->replica == NULL);
    member->incarnation++;
    member->config.incarnation = member->incarnation;
    member->config.raft.seed = random_mix(harness->options.seed * 1000 + id * 100 + member->incarnation);
    member->replica = replica_new(&member->config, &log_none);
    member->tampered = false;
    recover(harness, member);
    replica_status(member->replica, &member->status);
    harness_check_member(harness, member);
    harness_tick(harness, id);
    for (member_id peer = 1; peer <= harness->options.count; peer++) {
        if (peer != id) harness_connect(harness, id, peer);
    }
}

void harness_start_all(struct harness *harness)
{
    for (member_id id = 1; id <= harness->options.count; id++) {
        if (harness->members[id].replica == NULL) harness_start(harness, id);
    }
}

void harness_crash(struct harness *harness, member_id id, bool reset)
{
    struct harness_member *member = member_of(harness, id);
    if (member->replica == NULL) return;
    replica_free(member->replica);
    member->replica = NULL;
    replica_effects_clear(&member->effects);
    member->touched = false;
    member->due = false;
    member->save = (struct raft_save){0};
    member->log_read_count = 0;
    drop_write(member);
    drop_making(member);
    drop_receive(member);
    for (uint64_t number = 1; number <= harness->request_count; number++) {
        struct harness_request *request = &harness->requests[number];
        if (request->member != id || request->done || request->lost) continue;
        request->lost = true;
        *open_of(harness, request->kind) -= 1;
    }
    for (member_id peer = 1; peer <= harness->options.count; peer++) {
        member->links[peer] = false;
        if (peer == id) continue;
        drop_between(harness, id, peer);
        if (reset) lose(harness, peer, id, true);
    }
}

void harness_isolate(struct harness *harness, member_id id)
{
    for (member_id peer = 1; peer <= harness->options.count; peer++) {
        if (peer == id) continue;
        drop_between(harness, id, peer);
        harness->members[id].cuts[peer] = true;
        harness->members[peer].cuts[id] = true;
    }
}

void harness_heal(struct harness *harness)
{
    for (member_id id = 1; id <= harness->options.count; id++) {
        memset(harness->members[id].cuts, 0, sizeof harness->members[id].cuts);
    }
    for (member_id a = 1; a <= harness->options.count; a++) {
        for (member_id b = a + 1; b <= harness->options.count; b++) harness_connect(harness, a, b);
    }
}

/* ---- disks, while it runs ---- */

bool harness_complete_save(struct harness *harness, member_id id, bool report)
{
    struct harness_member *member = member_of(harness, id);
    if (member->replica == NULL || member->save.number == 0) return false;
    member->disk.term = member->save.term;
    member->disk.vote = member->save.vote;
    member->disk.no_vote_before_term = member->save.no_vote_before_term;
    uint64_t number = member->save.number;
    member->save = (struct raft_save){0};
    member->incarnation = replica_incarnation(member->replica);
    struct replica_event event = {.type = REPLICA_STATE_SAVED, .number = number, .incarnation = member->incarnation};
    if (report) harness_step(harness, id, &event);
    return true;
}

bool harness_complete_write(struct harness *harness, member_id id, bool report)
{
    struct harness_member *member = member_of(harness, id);
    struct raft_write *write = &member->write;
    if (member->replica == NULL || write->entry_count == 0) return false;
    struct harness_disk *disk = &member->disk;
    disk_truncate(disk, write->first_index);
    CHECK(disk->last_index + 1 == write->first_index);
    CHECK(disk_term_at(disk, disk->last_index) == write->previous_term);
    for (uint32_t i = 0; i < write->entry_count; i++) disk_push(disk, entry_ref(write->entries[i]));
    if (write->commit > disk->commit) disk->commit = write->commit;
    struct replica_event event = {.type = REPLICA_LOG_WRITTEN, .number = write->number};
    drop_write(member);
    if (report) harness_step(harness, id, &event);
    return true;
}

bool harness_answer_log_read(struct harness *harness, member_id id)
{
    struct harness_member *member = member_of(harness, id);
    if (member->replica == NULL || member->log_read_count == 0) return false;
    struct raft_read_log read = member->log_reads[0];
    member->log_read_count--;
    memmove(member->log_reads, member->log_reads + 1, member->log_read_count * sizeof member->log_reads[0]);
    const struct harness_disk *disk = &member->disk;
    struct replica_event event = {.type = REPLICA_LOG_READ, .peer = read.peer};
    if (read.first_index > disk->base_index && read.first_index <= disk->last_index) {
        event.entries = disk->entries + (read.first_index - disk->base_index - 1);
        uint64_t bytes = 0;
        for (raft_index index = read.first_index; index <= read.last_index && index <= disk->last_index; index++) {
            bytes += harness_disk_entry(disk, index)->record_bytes;
            if (event.entry_count > 0 && bytes > read.bytes_max) break;
            event.entry_count++;
        }
    }
    harness_step(harness, id, &event);
    return true;
}

/* ---- snapshots ---- */

enum error harness_load(struct replica *replica, struct bytes file)
{
    struct snapshot_reader *reader = snapshot_reader_new();
    enum error error = ERR_OK;
    /* In uneven pieces, as they come from a disk or a peer. */
    for (size_t at = 0, size = 1; at < file.size && error == ERR_OK; at += size, size = size * 3 % 5003 + 1) {
        if (size > file.size - at) size = file.size - at;
        snapshot_reader_feed(reader, bytes_of(file.data + at, size));
        struct snapshot_chunk chunk;
        while ((error = snapshot_reader_next(reader, &chunk)) == ERR_OK) {
            if (chunk.type == SNAPSHOT_CHUNK_HEADER) {
                error = replica_load_begin(replica, snapshot_reader_header(reader));
            } else if (chunk.type != SNAPSHOT_CHUNK_END) {
                error = replica_load_chunk(replica, chunk.type, chunk.payload);
            }
            if (error != ERR_OK) break;
        }
        if (error == ERR_NOT_READY) error = ERR_OK;
    }
    if (error == ERR_OK && !snapshot_reader_complete(reader)) error = ERR_DAMAGED;
    snapshot_reader_free(reader);
    return error;
}

enum error harness_snapshot_begin(struct harness *harness, member_id id)
{
    struct harness_member *member = member_of(harness, id);
    struct harness_making *making = &member->making;
    if (member->replica == NULL || making->active || member->receive.installing) return ERR_NOT_READY;
    uint64_t snapshot_id = random_mix(harness->now + (time_ns)id) | 1;
    enum error error = replica_snapshot_begin(member->replica, snapshot_id, &making->header);
    if (error != ERR_OK) return error;
    making->active = true;
    making->writer = (struct snapshot_writer){.snapshot_id = snapshot_id};
    snapshot_write_header(&making->writer, &making->header, &making->bytes);
    /* Contract rule 5: of an index that is durable here. */
    if (making->header.index > member->disk.last_index) {
        harness_breach(harness, "%" PRIu64 " makes a snapshot of what isn't durable", id);
    }
    return ERR_OK;
}

bool harness_snapshot_slice(struct harness *harness, member_id id)
{
    struct harness_member *member = member_of(harness, id);
    struct harness_making *making = &member->making;
    CHECK(member->replica != NULL && making->active);
    bool done = false;
    replica_snapshot_next(member->replica, &making->writer, &making->bytes, &done);
    if (!done) return false;
    replica_snapshot_end(member->replica);
    snapshot_write_end(&making->writer, &making->bytes);
    struct harness_disk *disk = &member->disk;
    raft_index index = making->header.index;
    disk_take_snapshot(disk, &making->header, buffer_bytes(&making->bytes));
    drop_making(member);
    member->snapshots_made++;
    raft_index keep_after = index > harness->options.log_tail ? index - harness->options.log_tail : 0;
    disk_rebase(disk, keep_after);
    struct replica_event event = {.type = REPLICA_SNAPSHOT_SAVED, .index = index, .first_index = disk->base_index + 1};
    harness_step(harness, id, &event);
    return true;
}

void harness_snapshot_fail(struct harness *harness, member_id id)
{
    struct harness_member *member = member_of(harness, id);
    CHECK(member->replica != NULL && member->making.active);
    replica_snapshot_end(member->replica);
    drop_making(member);
    struct replica_event event = {.type = REPLICA_SNAPSHOT_FAILED};
    harness_step(harness, id, &event);
}

static void reply_to_sender(struct harness *harness, struct harness_member *member, bool rejected)
{
    struct peer_message reply = {.type = PEER_SNAPSHOT_REPLY,
                                 .from = member->id,
                                 .to = member->receive.from,
                                 .term = member->status.raft.term,
                                 .index = member->receive.index,
                                 .offset = member->receive.bytes.size,
                                 .rejected = rejected};
    send(harness, member, &reply);
}

/* The last byte is there: it was checked, so it counts; then it is installed, if it is still needed. */
static void received(struct harness *harness, struct harness_member *member)
{
    struct harness_receive *receive = &member->receive;
    if (member->making.active) harness_snapshot_fail(harness, member->id);
    enum error error = harness_load(member->replica, buffer_bytes(&receive->bytes));
    if (error != ERR_OK) {
        harness_breach(harness, "a received snapshot can't be loaded: %s", error_code(error));
        replica_load_abandon(member->replica);
        return;
    }
    struct snapshot_header header = {
        .index = receive->index, .term = receive->term, .chain = replica_loaded_chain(member->replica)};
    disk_take_snapshot(&member->disk, &header, buffer_bytes(&receive->bytes));
    if (replica_install_prepare(member->replica)) {
        receive->installing = true;
        return;
    }
    member->snapshots_unneeded++;
    replica_load_abandon(member->replica);
    reply_to_sender(harness, member, false);
    drop_receive(member);
}

static void on_chunk(struct harness *harness, struct harness_member *member, const struct peer_message *message)
{
    struct harness_receive *receive = &member->receive;
    if (receive->installing) return;
    if (message->index <= member->disk.snapshot_index) {
        receive->from = message->from;
        receive->index = message->index;
        if (message->offset + message->data.size == message->total) reply_to_sender(harness, member, false);
        drop_receive(member);
        return;
    }
    if (message->offset == 0) {
        drop_receive(member);
        receive->from = message->from;
        receive->index = message->index;
        receive->term = message->log_term;
    }
    bool fits = receive->from == message->from && receive->index == message->index &&
                receive->term == message->log_term && receive->bytes.size == message->offset;
    if (!fits) {
        receive->from = message->from;
        receive->index = message->index;
        reply_to_sender(harness, member, true);
        drop_receive(member);
        return;
    }
    buffer_append(&receive->bytes, message->data.data, message->data.size);
    if (receive->bytes.size == message->total) received(harness, member);
}

bool harness_complete_install(struct harness *harness, member_id id)
{
    struct harness_member *member = member_of(harness, id);
    if (member->replica == NULL || !member->receive.installing || member->write.entry_count > 0) return false;
    disk_reset(&member->disk);
    enum error error = replica_install_finish(member->replica, harness->now, &member->effects);
    member->touched = true;
    member->receive.installing = false;
    if (error != ERR_OK) {
        harness_breach(harness, "a checked snapshot can't be installed: %s", error_code(error));
        return true;
    }
    member->snapshots_installed++;
    member->tampered = false;
    reply_to_sender(harness, member, false);
    drop_receive(member);
    return true;
}

/* ---- delivering ---- */

void harness_receive(struct harness *harness, const struct peer_message *message)
{
    struct harness_member *member = member_of(harness, message->to);
    if (member->replica == NULL) return;
    member->effects.snapshot_chunk = false;
    struct replica_event event = {.type = REPLICA_MESSAGE, .message = message};
    harness_step(harness, member->id, &event);
    if (message->type == PEER_SNAPSHOT && member->effects.snapshot_chunk) on_chunk(harness, member, message);
    if (message->type != PEER_SNAPSHOT_REPLY) return;
    struct replica_event sent = {
        .type = REPLICA_SNAPSHOT_SENT, .peer = message->from, .index = message->index, .rejected = message->rejected};
    harness_step(harness, member->id, &sent);
}

void harness_deliver(struct harness *harness, uint32_t position)
{
    struct harness_frame frame = harness_take(harness, position);
    struct peer_frame parsed;
    size_t size = 0;
    struct peer_message message;
    CHECK(peer_frame_next(bytes_of(frame.bytes, frame.size), &parsed, &size) == ERR_OK && size == frame.size);
    CHECK(peer_message_decode(&parsed, &message) == ERR_OK);
    harness_receive(harness, &message);
    peer_message_release(&message);
    mem_free(frame.bytes);
}

void harness_drop(struct harness *harness, uint32_t position)
{
    struct harness_frame frame = harness_take(harness, position);
    mem_free(frame.bytes);
}

void harness_duplicate(struct harness *harness, uint32_t position)
{
    struct harness_frame copy = harness->network[position];
    copy.bytes = mem_alloc(copy.size);
    memcpy(copy.bytes, harness->network[position].bytes, copy.size);
    harness_add(harness, &copy);
}

uint32_t harness_find(const struct harness *harness, enum peer_message_type type, member_id from, member_id to)
{
    for (uint32_t i = 0; i < harness->network_count; i++) {
        const struct harness_frame *frame = &harness->network[i];
        if (frame->type == type && (from == 0 || frame->from == from) && (to == 0 || frame->to == to)) return i;
    }
    return harness->network_count;
}

uint32_t harness_drop_all(struct harness *harness, enum peer_message_type type, member_id from, member_id to)
{
    uint32_t dropped = 0;
    while (true) {
        uint32_t position = harness_find(harness, type, from, to);
        if (position == harness->network_count) return dropped;
        harness_drop(harness, position);
        dropped++;
    }
}

/* ---- longer ---- */

static bool deliver_waiting(struct harness *harness, member_id id)
{
    /* What is sent meanwhile waits for the next round. */
    bool any = false;
    uint32_t waiting = harness->network_count, position = 0;
    for (uint32_t i = 0; i < waiting && position < harness->network_count; i++) {
        if (harness->network[position].to == id) {
            harness_deliver(harness, position);
            any = true;
        } else {
            position++;
        }
    }
    return any;
}

static bool busy_round(struct harness *harness)
{
    bool any = false;
    for (member_id id = 1; id <= harness->options.count; id++) {
        struct harness_member *member = &harness->members[id];
        if (member->replica == NULL) continue;
        bool acted = harness_complete_save(harness, id, true);
        acted = harness_complete_write(harness, id, true) || acted;
        acted = harness_complete_install(harness, id) || acted;
        acted = harness_answer_log_read(harness, id) || acted;
        acted = deliver_waiting(harness, id) || acted;
        if (member->making.active && harness->options.make_snapshots) {
            harness_snapshot_slice(harness, id);
            acted = true;
        }
        acted = acted || member->touched;
        if (member->touched) harness_flush(harness, id);
        any = any || acted;
    }
    return any;
}

void harness_stabilize(struct harness *harness)
{
    harness_flush_all(harness);
    for (int rounds = 0; busy_round(harness); rounds++) {
        if (rounds == STABILIZE_ROUNDS_MAX) {
            harness_breach(harness, "the cluster does not get quiet");
            return;
        }
    }
}

void harness_run(struct harness *harness, time_ns duration)
{
    time_ns end = harness->now + duration;
    while (true) {
        harness_stabilize(harness);
        if (harness->violation[0] != 0) return;
        time_ns next = end;
        for (member_id id = 1; id <= harness->options.count; id++) {
            const struct replica *replica = harness->members[id].replica;
            if (replica != NULL && replica_deadline(replica) < next) next = replica_deadline(replica);
        }
        if (next >= end) break;
        if (next > harness->now) harness->now = next;
        for (member_id id = 1; id <= harness->options.count; id++) {
            const struct replica *replica = harness->members[id].replica;
            if (replica != NULL && replica_deadline(replica) <= harness->now) harness_tick(harness, id);
        }
    }
    harness->now = end;
}

member_id harness_leader(const struct harness *harness)
{
    member_id leader = 0;
    raft_term term = 0;
    for (member_id id = 1; id <= harness->options.count; id++) {
        const struct harness_member *member = &harness->members[id];
        const struct raft_status *status = &member->status.raft;
        if (member->replica == NULL || status->role != RAFT_LEADER || status->term <= term) continue;
        leader = id;
        term = status->term;
    }
    return leader;
}

member_id harness_elect(struct harness *harness)
{
    harness_start_all(harness);
    for (int i = 0; i < 200; i++) {
        harness_run(harness, 50 * TIME_NS_PER_MS);
        member_id leader = harness_leader(harness);
        if (leader != 0 && harness->members[leader].status.raft.may_serve) return leader;
    }
    harness_breach(harness, "nobody was elected");
    return 0;
}

member_id harness_follower(const struct harness *harness)
{
    member_id leader = harness_leader(harness);
    for (member_id id = 1; id <= harness->options.count; id++) {
        if (id != leader && harness->members[id].replica != NULL) return id;
    }
    return 0;
}
