#include "cluster_internal.h"

#include <stdio.h>

#include "base/check.h"
#include "base/mem.h"

/* Far more than any test needs; a storm of messages that feeds itself ends here. */
#define STABILIZE_ROUNDS_MAX 2000

static struct cluster_member *member_of(struct cluster *cluster, member_id id)
{
    CHECK(id >= 1 && id <= cluster->options.count);
    return &cluster->members[id];
}

void cluster_print(struct cluster *cluster, const char *format, ...)
{
    if (cluster->trace == NULL) return;
    char line[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    buffer_append_string(cluster->trace, line);
    buffer_append_byte(cluster->trace, '\n');
}

void cluster_breach(struct cluster *cluster, const char *format, ...)
{
    char text[sizeof cluster->violation];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    cluster_print(cluster, "BREACH: %s", text);
    if (cluster->violation[0] == 0) memcpy(cluster->violation, text, sizeof text);
}

static void write_log_line(struct logger *logger, enum log_level level, const char *event, const char *fields)
{
    struct cluster_logger *own = (struct cluster_logger *)logger;
    cluster_print(own->cluster, "%llu logs %s: %s%s%s", (ull)own->id, log_level_name(level), event,
                  fields[0] == 0 ? "" : ", ", fields);
}

struct cluster *cluster_new(const struct cluster_options *options)
{
    CHECK(options->count >= 1 && options->count <= CLUSTER_MEMBERS_MAX);
    struct cluster *cluster = mem_alloc_zero(sizeof *cluster);
    cluster->options = *options;
    if (cluster->options.append_bytes_max == 0) cluster->options.append_bytes_max = 1 << 20;
    if (cluster->options.inflight_bytes_max == 0) cluster->options.inflight_bytes_max = 4 << 20;
    if (cluster->options.cache_bytes_max == 0) cluster->options.cache_bytes_max = 1 << 20;
    if (cluster->options.unapplied_bytes_max == 0) cluster->options.unapplied_bytes_max = 1 << 20;
    cluster->now = 1000 * TIME_NS_PER_MS;
    cluster->trace_level = (enum log_level)(LOG_LEVEL_ERROR + 1); /* nothing */
    cluster->slots = mem_alloc_zero(CLUSTER_LOG_MAX * sizeof cluster->slots[0]);
    cluster->leaders = mem_alloc_zero(CLUSTER_TERMS_MAX * sizeof cluster->leaders[0]);
    for (member_id id = 1; id <= options->count; id++) {
        struct cluster_member *member = &cluster->members[id];
        member->id = id;
        member->disk.entries = mem_alloc_zero(CLUSTER_LOG_MAX * sizeof member->disk.entries[0]);
        member->logger = (struct cluster_logger){.base = {.write = write_log_line}, .cluster = cluster, .id = id};
        member->config = (struct raft_config){
            .self = id,
            .member_count = options->count,
            .election_timeout = CLUSTER_ELECTION_TIMEOUT,
            .heartbeat_interval = CLUSTER_HEARTBEAT,
            .append_bytes_max = cluster->options.append_bytes_max,
            .inflight_bytes_max = cluster->options.inflight_bytes_max,
            .cache_bytes_max = cluster->options.cache_bytes_max,
            .unapplied_bytes_max = cluster->options.unapplied_bytes_max,
        };
        for (uint32_t i = 0; i < options->count; i++) member->config.members[i] = i + 1;
    }
    return cluster;
}

/* ---- disks ---- */

static struct entry *disk_entry(const struct cluster_disk *disk, raft_index index)
{
    CHECK(index > disk->base_index && index <= disk->last_index);
    return disk->entries[index - disk->base_index - 1];
}

raft_term cluster_disk_term_at(const struct cluster_disk *disk, raft_index index)
{
    if (index == disk->base_index) return disk->base_term;
    if (index < disk->base_index || index > disk->last_index) return 0;
    return entry_term(disk_entry(disk, index));
}

static uint32_t disk_chain_at(const struct cluster_disk *disk, raft_index index)
{
    return index == disk->base_index ? disk->base_chain : entry_chain(disk_entry(disk, index));
}

static void disk_truncate(struct cluster_disk *disk, raft_index index)
{
    while (disk->last_index >= index && disk->last_index > disk->base_index) {
        entry_unref(disk_entry(disk, disk->last_index));
        disk->last_index--;
    }
}

static void disk_push(struct cluster_disk *disk, struct entry *entry)
{
    CHECK(disk->last_index + 1 < CLUSTER_LOG_MAX);
    disk->entries[disk->last_index - disk->base_index] = entry;
    disk->last_index++;
}

static void disk_rebase(struct cluster_disk *disk, raft_index index)
{
    CHECK(index >= disk->base_index && index <= disk->last_index);
    raft_term term = cluster_disk_term_at(disk, index);
    uint32_t chain = disk_chain_at(disk, index);
    uint64_t dropped = index - disk->base_index;
    for (uint64_t i = 0; i < dropped; i++) entry_unref(disk->entries[i]);
    memmove(disk->entries, disk->entries + dropped, (disk->last_index - index) * sizeof disk->entries[0]);
    disk->base_index = index;
    disk->base_term = term;
    disk->base_chain = chain;
}

static void disk_reset(struct cluster_disk *disk, raft_index index, raft_term term, uint32_t chain)
{
    disk_truncate(disk, disk->base_index + 1);
    disk->base_index = disk->snapshot_index = disk->last_index = index;
    disk->base_term = disk->snapshot_term = term;
    disk->base_chain = disk->snapshot_chain = chain;
}

void cluster_disk_append(struct cluster *cluster, member_id id, raft_term term)
{
    struct cluster_disk *disk = &member_of(cluster, id)->disk;
    struct entry *entry = entry_new(ENTRY_EMPTY, 0);
    entry_seal(entry, disk->last_index + 1, term, disk_chain_at(disk, disk->last_index));
    disk_push(disk, entry);
}

void cluster_disk_damage(struct cluster *cluster, member_id id, raft_index index, bool extent_known)
{
    struct cluster_member *member = member_of(cluster, id);
    struct cluster_disk *disk = &member->disk;
    CHECK(member->raft == NULL && index > disk->snapshot_index);
    member->uncertain = true;
    member->uncertainty = (struct raft_uncertainty){.extent_known = extent_known};
    if (extent_known) {
        member->uncertainty.known_last_index = disk->last_index;
        member->uncertainty.known_last_term = cluster_disk_term_at(disk, disk->last_index);
    }
    disk_truncate(disk, index);
    disk->lossy = true;
}

void cluster_disk_wipe(struct cluster *cluster, member_id id)
{
    struct cluster_member *member = member_of(cluster, id);
    struct cluster_disk *disk = &member->disk;
    CHECK(member->raft == NULL);
    disk_reset(disk, 0, 0, 0);
    disk->term = 0;
    disk->vote = 0;
    disk->commit = 0;
    disk->no_vote_before_term = 1;
    disk->catching_up = true;
    disk->lossy = true;
    member->uncertain = false;
}

static void drop_write(struct cluster_member *member)
{
    for (uint32_t i = 0; i < member->write.entry_count; i++) entry_unref(member->write.entries[i]);
    mem_free(member->write.entries);
    member->write = (struct raft_write){0};
}

void cluster_free(struct cluster *cluster)
{
    if (cluster == NULL) return;
    for (member_id id = 1; id <= cluster->options.count; id++) {
        struct cluster_member *member = &cluster->members[id];
        raft_free(member->raft);
        raft_effects_free(&member->effects);
        drop_write(member);
        disk_truncate(&member->disk, member->disk.base_index + 1);
        mem_free(member->disk.entries);
    }
    for (uint32_t i = 0; i < cluster->network_count; i++) peer_message_release(&cluster->network[i]);
    mem_free(cluster->network);
    for (uint32_t i = 0; i < CLUSTER_LOG_MAX; i++) mem_free(cluster->slots[i].records);
    mem_free(cluster->slots);
    mem_free(cluster->leaders);
    mem_free(cluster);
}

/* ---- texts ---- */

static void append_entry_text(const struct entry *entry, struct buffer *out)
{
    buffer_append_format(out, "%llu/%llu", (ull)entry_index(entry), (ull)entry_term(entry));
    struct bytes payload = entry_payload_bytes(entry);
    if (payload.size == 0) return;
    buffer_append_byte(out, ':');
    if (payload.size <= 20) {
        buffer_append(out, payload.data, payload.size);
    } else {
        buffer_append_format(out, "%.6s…(%zu bytes)", (const char *)payload.data, payload.size);
    }
}

static void append_context(uint64_t context, struct buffer *out)
{
    if (context == UINT64_MAX) {
        buffer_append_string(out, " context=resolve");
    } else {
        buffer_append_format(out, " context=%llu", (ull)context);
    }
}

void cluster_message_text(const struct peer_message *message, struct buffer *out)
{
    buffer_append_format(out, "%s term=%llu", peer_message_type_name(message->type), (ull)message->term);
    switch (message->type) {
    case PEER_PREVOTE:
    case PEER_VOTE:
        buffer_append_format(out, " last=%llu/%llu%s", (ull)message->index, (ull)message->log_term,
                             message->transfer ? " transfer" : "");
        break;
    case PEER_PREVOTE_REPLY:
    case PEER_VOTE_REPLY:
        buffer_append_string(out, message->rejected ? " rejected" : " granted");
        break;
    case PEER_APPEND:
        buffer_append_format(out, " prev=%llu/%llu commit=%llu", (ull)message->index, (ull)message->log_term,
                             (ull)message->commit);
        if (message->context != 0) buffer_append_format(out, " round=%llu", (ull)message->context);
        for (uint32_t i = 0; i < message->entry_count; i++) {
            buffer_append_string(out, i == 0 ? " [" : " ");
            append_entry_text(message->entries[i], out);
        }
        if (message->entry_count > 0) buffer_append_byte(out, ']');
        break;
    case PEER_APPEND_REPLY:
        buffer_append_format(out, message->rejected ? " rejected=%llu" : " ack=%llu", (ull)message->index);
        if (message->rejected) {
            buffer_append_format(out, " hint=%llu/%llu", (ull)message->hint_index, (ull)message->hint_term);
        }
        if (message->context != 0) buffer_append_format(out, " round=%llu", (ull)message->context);
        if (message->uncertain) buffer_append_string(out, " uncertain");
        break;
    case PEER_SNAPSHOT:
        buffer_append_format(out, " last=%llu/%llu", (ull)message->index, (ull)message->log_term);
        break;
    case PEER_SNAPSHOT_REPLY:
        buffer_append_format(out, " has=%llu", (ull)message->index);
        break;
    case PEER_READ:
        append_context(message->context, out);
        if (message->uncertain) buffer_append_string(out, " uncertain");
        break;
    case PEER_READ_REPLY:
        append_context(message->context, out);
        if (message->rejected) {
            buffer_append_string(out, " rejected");
        } else {
            buffer_append_format(out, " index=%llu", (ull)message->index);
        }
        break;
    default:
        break;
    }
}

static void print_message(struct cluster *cluster, const char *format, const struct peer_message *message,
                          const char *end)
{
    if (cluster->trace == NULL) return;
    bool received = format[0] == '<';
    struct buffer *out = cluster->trace;
    buffer_append_format(out, "%llu %s %llu ", (ull)(received ? message->to : message->from), format,
                         (ull)(received ? message->from : message->to));
    cluster_message_text(message, out);
    buffer_append_format(out, "%s\n", end);
}

/* ---- effects ---- */

static void network_add(struct cluster *cluster, struct peer_message *message)
{
    if (cluster->network_count == cluster->network_capacity) {
        cluster->network_capacity = cluster->network_capacity == 0 ? 64 : cluster->network_capacity * 2;
        cluster->network = mem_realloc(cluster->network, cluster->network_capacity * sizeof cluster->network[0]);
    }
    cluster->network[cluster->network_count++] = *message;
    message->entries = NULL;
    message->entry_count = 0;
}

static struct peer_message network_take(struct cluster *cluster, uint32_t position)
{
    CHECK(position < cluster->network_count);
    struct peer_message message = cluster->network[position];
    cluster->network_count--;
    memmove(cluster->network + position, cluster->network + position + 1,
            (cluster->network_count - position) * sizeof cluster->network[0]);
    return message;
}

static void send(struct cluster *cluster, struct cluster_member *member, struct peer_message *message)
{
    bool lost = !member->links[message->to] || member->cuts[message->to];
    print_message(cluster, "->", message, lost ? " (lost)" : "");
    if (lost) {
        peer_message_release(message);
    } else {
        network_add(cluster, message);
    }
}

static void send_snapshot(struct cluster *cluster, struct cluster_member *member, member_id to)
{
    struct cluster_member *receiver = member_of(cluster, to);
    bool under_way = receiver->install.active && receiver->install.from == member->id;
    for (uint32_t i = 0; i < cluster->network_count; i++) {
        const struct peer_message *other = &cluster->network[i];
        under_way = under_way || (other->type == PEER_SNAPSHOT && other->from == member->id && other->to == to);
    }
    if (under_way) return;
    struct peer_message message = {.type = PEER_SNAPSHOT,
                                   .from = member->id,
                                   .to = to,
                                   .term = member->status.term,
                                   .index = member->disk.snapshot_index,
                                   .log_term = member->disk.snapshot_term,
                                   .context = member->disk.snapshot_chain};
    send(cluster, member, &message);
}

static void note_status(struct cluster *cluster, struct cluster_member *member)
{
    struct raft_status old = member->status;
    raft_status(member->raft, &member->status);
    const struct raft_status *status = &member->status;
    if (status->role != old.role || status->term != old.term || status->leader != old.leader) {
        bool follows = status->role == RAFT_FOLLOWER && status->leader != 0;
        char leader[32] = "";
        if (follows) snprintf(leader, sizeof leader, " of %llu", (ull)status->leader);
        cluster_print(cluster, "%llu is %s%s, term %llu", (ull)member->id, raft_role_name(status->role), leader,
                      (ull)status->term);
        if (!member->effects.role_changed && (status->role != old.role || status->leader != old.leader)) {
            cluster_breach(cluster, "%llu changed its role and didn't say so", (ull)member->id);
        }
        if (status->role == RAFT_LEADER && (old.role != RAFT_LEADER || status->term != old.term)) {
            cluster_check_leader(cluster, member);
        }
        if (status->term < old.term)
            cluster_breach(cluster, "%llu went back to term %llu", (ull)member->id, (ull)status->term);
    }
    if (old.uncertain && !status->uncertain) {
        cluster_print(cluster, "%llu is certain of its log again", (ull)member->id);
        member->uncertain = false;
    }
    if (status->commit < old.commit) cluster_breach(cluster, "%llu commits less than before", (ull)member->id);
    if (status->commit == old.commit) return;
    cluster_print(cluster, "%llu commits %llu", (ull)member->id, (ull)status->commit);
    raft_index first = old.commit + 1 > status->applied + 1 ? old.commit + 1 : status->applied + 1;
    for (raft_index i = first; i <= status->commit; i++) {
        cluster_check_entry(cluster, member->id, raft_committed_entry(member->raft, i));
        cluster_check_committed(cluster, member->id, i, raft_term_at(member->raft, i));
    }
    if (status->role == RAFT_LEADER) {
        cluster_check_quorum_holds(cluster, member->id, status->commit, raft_term_at(member->raft, status->commit));
    }
}

static void take_write(struct cluster *cluster, struct cluster_member *member)
{
    struct raft_write *write = &member->effects.write;
    if (write->entry_count == 0) return;
    CHECK(member->write.entry_count == 0);
    member->write = *write;
    write->entries = NULL;
    write->entry_count = 0;
    struct buffer text = {0};
    for (uint32_t i = 0; i < member->write.entry_count; i++) {
        cluster_check_entry(cluster, member->id, member->write.entries[i]);
        buffer_append_byte(&text, ' ');
        append_entry_text(member->write.entries[i], &text);
    }
    buffer_append_byte(&text, 0);
    cluster_print(cluster, "%llu writes%s (write %llu)", (ull)member->id, (const char *)text.data,
                  (ull)member->write.number);
    buffer_free(&text);
}

static void take_save(struct cluster *cluster, struct cluster_member *member)
{
    struct raft_save *save = &member->effects.save;
    if (save->number == 0) return;
    CHECK(member->save.number == 0);
    member->save = *save;
    char no_vote[48] = "";
    if (save->no_vote_before_term != 0) {
        snprintf(no_vote, sizeof no_vote, " no_vote_before_term=%llu", (ull)save->no_vote_before_term);
    }
    cluster_print(cluster, "%llu saves term=%llu vote=%llu%s%s (save %llu)", (ull)member->id, (ull)save->term,
                  (ull)save->vote, no_vote, save->catching_up ? " catching_up" : "", (ull)save->number);
}

static void take_effects(struct cluster *cluster, struct cluster_member *member)
{
    struct raft_effects *effects = &member->effects;
    note_status(cluster, member);
    for (uint32_t i = 0; i < effects->message_count; i++) {
        cluster_check_message(cluster, member, &effects->messages[i]);
        send(cluster, member, &effects->messages[i]);
    }
    for (uint32_t i = 0; i < effects->read_count; i++) {
        const struct raft_read_result *read = &effects->reads[i];
        if (read->error == ERR_OK) {
            cluster_print(cluster, "%llu read %llu: at %llu", (ull)member->id, (ull)read->context, (ull)read->index);
        } else {
            cluster_print(cluster, "%llu read %llu: %s", (ull)member->id, (ull)read->context, error_code(read->error));
        }
        cluster_check_read(cluster, member->id, read);
    }
    for (uint32_t i = 0; i < effects->log_read_count; i++) {
        const struct raft_read_log *read = &effects->log_reads[i];
        CHECK(member->log_read_count < CLUSTER_LOG_READS_MAX);
        member->log_reads[member->log_read_count++] = *read;
        cluster_print(cluster, "%llu reads its log from %llu for %llu", (ull)member->id, (ull)read->first_index,
                      (ull)read->peer);
    }
    for (uint32_t i = 0; i < effects->snapshot_peer_count; i++) {
        send_snapshot(cluster, member, effects->snapshot_peers[i]);
    }
    take_write(cluster, member);
    take_save(cluster, member);
    raft_effects_clear(effects);
}

void cluster_step(struct cluster *cluster, member_id id, struct raft_event *event)
{
    struct cluster_member *member = member_of(cluster, id);
    if (member->raft == NULL) return;
    event->now = cluster->now;
    cluster->steps++;
    raft_step(member->raft, event, &member->effects);
    member->touched = true;
    take_effects(cluster, member);
}

/* ---- life ---- */

static void drop_between(struct cluster *cluster, member_id a, member_id b)
{
    for (uint32_t i = cluster->network_count; i > 0; i--) {
        const struct peer_message *message = &cluster->network[i - 1];
        if ((message->from == a && message->to == b) || (message->from == b && message->to == a)) {
            struct peer_message dropped = network_take(cluster, i - 1);
            peer_message_release(&dropped);
        }
    }
}

void cluster_connect(struct cluster *cluster, member_id a, member_id b)
{
    if (member_of(cluster, a)->raft == NULL || member_of(cluster, b)->raft == NULL || a == b) return;
    if (cluster->members[a].cuts[b] || cluster->members[b].cuts[a]) return; /* no greeting gets through */
    drop_between(cluster, a, b);
    for (int side = 0; side < 2; side++) {
        struct cluster_member *member = member_of(cluster, side == 0 ? a : b);
        struct cluster_member *peer = member_of(cluster, side == 0 ? b : a);
        member->links[peer->id] = true;
        struct raft_event event = {.type = RAFT_PEER_CONNECTED,
                                   .peer = peer->id,
                                   .incarnation = peer->incarnation,
                                   .log_term = peer->disk.term};
        cluster_step(cluster, member->id, &event);
    }
}

static void lose(struct cluster *cluster, member_id id, member_id peer, bool crashed)
{
    struct cluster_member *member = member_of(cluster, id);
    if (member->raft == NULL || !member->links[peer]) return;
    member->links[peer] = false;
    struct raft_event event = {.type = RAFT_PEER_LOST, .peer = peer, .crashed = crashed};
    cluster_step(cluster, id, &event);
}

void cluster_disconnect(struct cluster *cluster, member_id a, member_id b)
{
    drop_between(cluster, a, b);
    lose(cluster, a, b, false);
    lose(cluster, b, a, false);
}

void cluster_crash(struct cluster *cluster, member_id id, bool reset)
{
    struct cluster_member *member = member_of(cluster, id);
    if (member->raft == NULL) return;
    cluster_print(cluster, "%llu crashes%s", (ull)id, reset ? "" : ", and nobody notices");
    raft_free(member->raft);
    member->raft = NULL;
    member->status = (struct raft_status){0};
    member->touched = false;
    member->save = (struct raft_save){0};
    drop_write(member);
    member->install = (struct cluster_install){0};
    member->log_read_count = 0;
    for (uint32_t i = cluster->read_count; i > 0; i--) {
        if (cluster->reads[i - 1].id == id) cluster->reads[i - 1] = cluster->reads[--cluster->read_count];
    }
    for (member_id peer = 1; peer <= cluster->options.count; peer++) {
        member->links[peer] = false;
        drop_between(cluster, id, peer);
        if (reset) lose(cluster, peer, id, true);
    }
}

void cluster_start(struct cluster *cluster, member_id id)
{
    struct cluster_member *member = member_of(cluster, id);
    struct cluster_disk *disk = &member->disk;
    CHECK(member->raft == NULL);
    member->incarnation++;
    member->next_context = 1;
    member->config.seed = cluster->options.seed * 1000 + id * 100 + member->incarnation;
    member->logger.base.level = cluster->trace_level;
    struct raft_boot boot = {.term = disk->term,
                             .vote = disk->vote,
                             .no_vote_before_term = disk->no_vote_before_term,
                             .snapshot_index = disk->base_index,
                             .snapshot_term = disk->base_term,
                             .snapshot_chain = disk->base_chain};
    member->raft = raft_new(&member->config, &boot, &member->logger.base);
    for (raft_index i = disk->base_index + 1; i <= disk->last_index; i++) {
        raft_recover_entry(member->raft, entry_ref(disk_entry(disk, i)));
    }
    raft_recover_commit(member->raft, disk->commit > disk->snapshot_index ? disk->commit : disk->snapshot_index);
    if (member->uncertain || disk->catching_up) {
        struct raft_uncertainty uncertainty = {0};
        if (!disk->catching_up) uncertainty = member->uncertainty;
        raft_recover_uncertain(member->raft, &uncertainty);
        disk->catching_up = true;
    }
    raft_status(member->raft, &member->status);
    const char *doubt = "";
    if (member->status.uncertain) doubt = disk->no_vote_before_term != 0 ? " wiped" : " uncertain";
    cluster_print(cluster, "%llu starts, term=%llu vote=%llu log=%llu..%llu last_term=%llu commit=%llu%s", (ull)id,
                  (ull)disk->term, (ull)disk->vote, (ull)member->status.first_index, (ull)disk->last_index,
                  (ull)member->status.last_term, (ull)member->status.commit, doubt);
    for (raft_index i = disk->base_index + 1; i <= disk->last_index; i++) {
        cluster_check_entry(cluster, id, disk_entry(disk, i));
    }
    if (disk->snapshot_index > disk->base_index) {
        struct raft_event event = {.type = RAFT_APPLIED, .index = disk->snapshot_index};
        cluster_step(cluster, id, &event);
    }
    cluster_tick(cluster, id);
    for (member_id peer = 1; peer <= cluster->options.count; peer++) cluster_connect(cluster, id, peer);
}

/* ---- single events ---- */

void cluster_tick(struct cluster *cluster, member_id id)
{
    struct raft_event event = {.type = RAFT_TICK};
    cluster_step(cluster, id, &event);
}

void cluster_flush(struct cluster *cluster, member_id id)
{
    struct raft_event event = {.type = RAFT_FLUSH};
    cluster_step(cluster, id, &event);
    member_of(cluster, id)->touched = false;
}

void cluster_end_turn(struct cluster *cluster)
{
    for (member_id id = 1; id <= cluster->options.count; id++) {
        if (cluster->members[id].touched) cluster_flush(cluster, id);
    }
}

enum error cluster_propose(struct cluster *cluster, member_id id, const char *payload)
{
    struct cluster_member *member = member_of(cluster, id);
    if (member->raft == NULL) return ERR_NOT_READY;
    size_t size = strlen(payload);
    struct entry *entry = entry_new(ENTRY_COMMAND, size);
    memcpy(entry_payload(entry), payload, size);
    /* Not through cluster_step: the result is in the effects, which that one clears. */
    struct raft_event event = {.type = RAFT_PROPOSE, .now = cluster->now, .entry = entry};
    raft_step(member->raft, &event, &member->effects);
    enum error error = member->effects.propose_error;
    if (error == ERR_OK) {
        cluster_print(cluster, "%llu proposes %llu: %.20s", (ull)id, (ull)member->effects.proposed_index, payload);
    } else {
        cluster_print(cluster, "%llu refuses %.20s: %s", (ull)id, payload, error_code(error));
    }
    member->touched = true;
    take_effects(cluster, member);
    return error;
}

void cluster_read(struct cluster *cluster, member_id id, uint64_t context)
{
    if (member_of(cluster, id)->raft == NULL) return;
    CHECK(cluster->read_count < CLUSTER_READS_MAX);
    cluster->reads[cluster->read_count++] =
        (struct cluster_read){.id = id, .context = context, .committed = cluster->committed_last};
    struct raft_event event = {.type = RAFT_READ, .context = context};
    cluster_step(cluster, id, &event);
}

bool cluster_apply(struct cluster *cluster, member_id id, raft_index limit)
{
    struct cluster_member *member = member_of(cluster, id);
    if (member->raft == NULL) return false;
    raft_index end = limit == 0 || limit > member->status.commit ? member->status.commit : limit;
    if (end <= member->status.applied) return false;
    struct buffer text = {0};
    for (raft_index i = member->status.applied + 1; i <= end; i++) {
        const struct entry *entry = raft_committed_entry(member->raft, i);
        cluster_check_entry(cluster, id, entry);
        cluster_check_committed(cluster, id, i, entry_term(entry));
        buffer_append_byte(&text, ' ');
        append_entry_text(entry, &text);
    }
    buffer_append_byte(&text, 0);
    cluster_print(cluster, "%llu applies%s", (ull)id, (const char *)text.data);
    buffer_free(&text);
    struct raft_event event = {.type = RAFT_APPLIED, .index = end};
    cluster_step(cluster, id, &event);
    return true;
}

bool cluster_complete_save(struct cluster *cluster, member_id id, bool report)
{
    struct cluster_member *member = member_of(cluster, id);
    struct raft_save save = member->save;
    if (save.number == 0) return false;
    member->save = (struct raft_save){0};
    member->disk.term = save.term;
    member->disk.vote = save.vote;
    member->disk.no_vote_before_term = save.no_vote_before_term;
    member->disk.catching_up = save.catching_up;
    if (!save.catching_up) member->disk.lossy = false;
    cluster_print(cluster, "%llu save %llu is done", (ull)id, (ull)save.number);
    struct raft_event event = {.type = RAFT_STATE_SAVED, .number = save.number};
    if (report) cluster_step(cluster, id, &event);
    return true;
}

bool cluster_complete_write(struct cluster *cluster, member_id id, bool report)
{
    struct cluster_member *member = member_of(cluster, id);
    struct raft_write write = member->write;
    struct cluster_disk *disk = &member->disk;
    if (write.entry_count == 0) return false;
    member->write = (struct raft_write){0};
    CHECK(write.first_index > disk->base_index && write.first_index <= disk->last_index + 1);
    disk_truncate(disk, write.first_index);
    if (cluster_disk_term_at(disk, write.first_index - 1) != write.previous_term ||
        disk_chain_at(disk, write.first_index - 1) != write.previous_chain) {
        cluster_breach(cluster, "write %llu of %llu does not continue its log", (ull)write.number, (ull)id);
    }
    for (uint32_t i = 0; i < write.entry_count; i++) disk_push(disk, write.entries[i]);
    mem_free(write.entries);
    disk->commit = write.commit;
    cluster_print(cluster, "%llu write %llu is done", (ull)id, (ull)write.number);
    struct raft_event event = {.type = RAFT_LOG_WRITTEN, .number = write.number};
    if (report) cluster_step(cluster, id, &event);
    return true;
}

static void reply_to_snapshot(struct cluster *cluster, struct cluster_member *member, member_id to, raft_index index)
{
    struct peer_message reply = {
        .type = PEER_SNAPSHOT_REPLY, .from = member->id, .to = to, .term = member->disk.term, .index = index};
    send(cluster, member, &reply);
}

bool cluster_complete_install(struct cluster *cluster, member_id id)
{
    struct cluster_member *member = member_of(cluster, id);
    struct cluster_install install = member->install;
    if (!install.active) return false;
    member->install = (struct cluster_install){0};
    drop_write(member); /* the log that it was for is gone */
    disk_reset(&member->disk, install.index, install.term, install.chain);
    cluster_check_committed(cluster, id, install.index, install.term);
    cluster_print(cluster, "%llu has installed the snapshot up to %llu/%llu", (ull)id, (ull)install.index,
                  (ull)install.term);
    struct raft_event event = {
        .type = RAFT_SNAPSHOT_INSTALLED, .index = install.index, .log_term = install.term, .chain = install.chain};
    cluster_step(cluster, id, &event);
    reply_to_snapshot(cluster, member, install.from, install.index);
    return true;
}

void cluster_abandon_install(struct cluster *cluster, member_id id)
{
    struct cluster_member *member = member_of(cluster, id);
    if (!member->install.active) return;
    member->install = (struct cluster_install){0};
    cluster_print(cluster, "%llu abandons the snapshot", (ull)id);
    struct raft_event event = {.type = RAFT_INSTALL_ABANDON};
    cluster_step(cluster, id, &event);
}

bool cluster_answer_log_read(struct cluster *cluster, member_id id, bool gone)
{
    struct cluster_member *member = member_of(cluster, id);
    const struct cluster_disk *disk = &member->disk;
    if (member->log_read_count == 0) return false;
    struct raft_read_log read = member->log_reads[0];
    member->log_read_count--;
    memmove(member->log_reads, member->log_reads + 1, member->log_read_count * sizeof read);
    struct raft_event event = {.type = RAFT_LOG_READ, .peer = read.peer};
    if (!gone && read.first_index > disk->base_index) {
        uint64_t bytes = 0;
        for (raft_index i = read.first_index; i <= read.last_index && i <= disk->last_index; i++) {
            if (event.entry_count > 0 && bytes + disk_entry(disk, i)->record_bytes > read.bytes_max) break;
            bytes += disk_entry(disk, i)->record_bytes;
            event.entry_count++;
        }
        event.entries = disk->entries + (read.first_index - disk->base_index - 1);
    }
    if (event.entry_count > 0) {
        cluster_print(cluster, "%llu has read %llu..%llu", (ull)id, (ull)read.first_index,
                      (ull)(read.first_index + event.entry_count - 1));
    } else {
        cluster_print(cluster, "%llu can't read %llu any more", (ull)id, (ull)read.first_index);
    }
    cluster_step(cluster, id, &event);
    return true;
}

bool cluster_compact(struct cluster *cluster, member_id id, raft_index index, raft_index keep)
{
    struct cluster_member *member = member_of(cluster, id);
    struct cluster_disk *disk = &member->disk;
    if (member->raft == NULL || index > member->status.applied || index > member->status.durable_index) return false;
    if (index > disk->last_index || index <= disk->snapshot_index || member->install.active) return false;
    if (member->write.entry_count > 0 && member->write.first_index <= index) return false;
    disk->snapshot_index = index;
    disk->snapshot_term = cluster_disk_term_at(disk, index);
    disk->snapshot_chain = disk_chain_at(disk, index);
    raft_index base = index > keep ? index - keep : 0;
    if (base > disk->base_index) disk_rebase(disk, base);
    cluster_print(cluster, "%llu has a snapshot up to %llu/%llu, its log begins at %llu", (ull)id, (ull)index,
                  (ull)disk->snapshot_term, (ull)disk->base_index + 1);
    struct raft_event event = {.type = RAFT_LOG_REMOVED, .index = disk->base_index + 1};
    cluster_step(cluster, id, &event);
    return true;
}

/* ---- network ---- */

static void take_snapshot(struct cluster *cluster, struct cluster_member *member, const struct peer_message *message)
{
    const struct raft_status *status = &member->status;
    if (status->leader != message->from || status->term != message->term || member->install.active) return;
    bool in_log = raft_term_at(member->raft, message->index) == message->log_term;
    if (in_log || status->commit >= message->index) {
        reply_to_snapshot(cluster, member, message->from, message->index);
        return;
    }
    struct raft_event event = {.type = RAFT_INSTALL_BEGIN};
    cluster_step(cluster, member->id, &event);
    member->install = (struct cluster_install){.active = true,
                                               .from = message->from,
                                               .index = message->index,
                                               .term = message->log_term,
                                               .chain = (uint32_t)message->context};
}

void cluster_receive(struct cluster *cluster, struct peer_message *message)
{
    struct cluster_member *member = member_of(cluster, message->to);
    if (member->raft != NULL) {
        print_message(cluster, "<-", message, "");
        struct raft_event event = {.type = RAFT_MESSAGE, .message = message};
        cluster_step(cluster, message->to, &event);
        if (message->type == PEER_SNAPSHOT) take_snapshot(cluster, member, message);
        if (message->type == PEER_SNAPSHOT_REPLY) {
            struct raft_event sent = {.type = RAFT_SNAPSHOT_SENT, .peer = message->from, .index = message->index};
            cluster_step(cluster, message->to, &sent);
        }
    }
    peer_message_release(message);
}

void cluster_deliver(struct cluster *cluster, uint32_t position)
{
    struct peer_message message = network_take(cluster, position);
    cluster_receive(cluster, &message);
}

void cluster_drop(struct cluster *cluster, uint32_t position)
{
    struct peer_message message = network_take(cluster, position);
    print_message(cluster, "->", &message, " (dropped)");
    peer_message_release(&message);
}

void cluster_duplicate(struct cluster *cluster, uint32_t position)
{
    struct peer_message copy = peer_message_copy(&cluster->network[position]);
    network_add(cluster, &copy);
}

/* ---- longer ---- */

static bool deliver_waiting(struct cluster *cluster, member_id id)
{
    /* What is sent meanwhile waits for the next round. */
    bool any = false;
    uint32_t waiting = cluster->network_count;
    uint32_t position = 0;
    for (uint32_t i = 0; i < waiting && position < cluster->network_count; i++) {
        if (cluster->network[position].to == id) {
            cluster_deliver(cluster, position);
            any = true;
        } else {
            position++;
        }
    }
    return any;
}

static bool busy_round(struct cluster *cluster)
{
    bool any = false;
    for (member_id id = 1; id <= cluster->options.count; id++) {
        struct cluster_member *member = &cluster->members[id];
        if (member->raft == NULL) continue;
        bool acted = cluster_complete_save(cluster, id, true);
        acted = cluster_complete_write(cluster, id, true) || acted;
        acted = cluster_complete_install(cluster, id) || acted;
        acted = cluster_answer_log_read(cluster, id, false) || acted;
        acted = deliver_waiting(cluster, id) || acted;
        acted = cluster_apply(cluster, id, 0) || acted;
        if (member->touched) cluster_flush(cluster, id);
        any = any || acted;
    }
    return any;
}

void cluster_stabilize(struct cluster *cluster)
{
    cluster_end_turn(cluster);
    for (int rounds = 0; busy_round(cluster); rounds++) {
        if (rounds == STABILIZE_ROUNDS_MAX) {
            cluster_breach(cluster, "the cluster does not get quiet");
            return;
        }
    }
}

void cluster_run(struct cluster *cluster, time_ns duration)
{
    time_ns end = cluster->now + duration;
    while (true) {
        cluster_stabilize(cluster);
        if (cluster->violation[0] != 0) return;
        time_ns next = end;
        for (member_id id = 1; id <= cluster->options.count; id++) {
            const struct cluster_member *member = &cluster->members[id];
            if (member->raft != NULL && raft_deadline(member->raft) < next) next = raft_deadline(member->raft);
        }
        if (next >= end) break;
        if (next > cluster->now) cluster->now = next;
        for (member_id id = 1; id <= cluster->options.count; id++) {
            const struct cluster_member *member = &cluster->members[id];
            if (member->raft != NULL && raft_deadline(member->raft) <= cluster->now) cluster_tick(cluster, id);
        }
    }
    cluster->now = end;
}

member_id cluster_leader(const struct cluster *cluster)
{
    member_id leader = 0;
    raft_term term = 0;
    for (member_id id = 1; id <= cluster->options.count; id++) {
        const struct cluster_member *member = &cluster->members[id];
        if (member->raft == NULL || member->status.role != RAFT_LEADER || member->status.term <= term) continue;
        leader = id;
        term = member->status.term;
    }
    return leader;
}
