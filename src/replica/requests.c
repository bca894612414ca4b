/*
 * requests.c - writes under way: proposed here, or forwarded to the leader as the same encoded bytes.
 *
 * Each has a sequence, by which its entry is recognised when it is applied on this member; only then is it answered
 * (contract rule 4). What timed out is forgotten here and may still happen.
 */
#include "base/mark.h"
#include "replica/replica_internal.h"

#define FORWARDS_MAX 4u

static struct pending_write *slot_of(struct replica *replica, uint64_t sequence)
{
    return &replica->writes[sequence % REQUEST_SLOTS];
}

static struct pending_write *find(struct replica *replica, uint64_t sequence)
{
    struct pending_write *write = slot_of(replica, sequence);
    return sequence != 0 && write->sequence == sequence ? write : NULL;
}

static void forget(struct replica *replica, struct pending_write *write)
{
    if (write->forwarded != NULL) entry_unref(write->forwarded);
    *write = (struct pending_write){0};
    replica->write_count--;
    while (replica->oldest_sequence < replica->next_sequence &&
           slot_of(replica, replica->oldest_sequence)->sequence != replica->oldest_sequence) {
        replica->oldest_sequence++;
    }
}

static void fail(struct replica *replica, struct pending_write *write, enum error error,
                 struct replica_effects *effects)
{
    replica->proposals_failed++;
    replica_add_plain_result(effects, write->request, error, 0);
    forget(replica, write);
}

static uint64_t take_sequence(struct replica *replica)
{
    /* A slot that is still in use belongs to a write that outlived REQUEST_SLOTS others. */
    while (slot_of(replica, replica->next_sequence)->sequence != 0) replica->next_sequence++;
    return replica->next_sequence++;
}

static enum error propose_here(struct replica *replica, struct entry *entry, struct replica_effects *effects)
{
    struct raft_event event = {.type = RAFT_PROPOSE, .entry = entry};
    replica_raft(replica, &event, effects);
    return effects->raft.propose_error;
}

static void forward(struct replica *replica, struct pending_write *write, member_id leader,
                    struct replica_effects *effects);

/* Sends the write on its way; finishes it when there is none. `entry` is moved. */
static void dispatch(struct replica *replica, struct pending_write *write, struct entry *entry,
                     struct replica_effects *effects)
{
    struct raft_status status;
    raft_status(replica->raft, &status);
    write->term = status.term;
    if (status.role == RAFT_LEADER) {
        enum error error = propose_here(replica, entry, effects);
        if (error != ERR_OK) fail(replica, write, error, effects);
    } else if (status.leader != 0) {
        write->forwarded = entry;
        if (write->deadline > replica->now + replica->config.forward_timeout) {
            write->deadline = replica->now + replica->config.forward_timeout;
        }
        forward(replica, write, status.leader, effects);
    } else {
        entry_unref(entry);
        fail(replica, write, ERR_NO_LEADER, effects);
    }
}

static void forward(struct replica *replica, struct pending_write *write, member_id leader,
                    struct replica_effects *effects)
{
    write->forward_count++;
    struct peer_message message = {.type = PEER_FORWARD,
                                   .from = replica->config.raft.self,
                                   .to = leader,
                                   .context = write->sequence,
                                   .incarnation = replica->config.incarnation};
    message.entries = mem_alloc(sizeof message.entries[0]);
    message.entries[0] = entry_ref(write->forwarded);
    message.entry_count = 1;
    raft_effects_add_message(&effects->raft, &message);
}

void requests_propose(struct replica *replica, uint64_t request, struct entry *entry, struct replica_effects *effects)
{
    enum error refused = ERR_OK;
    if (replica->diverged) refused = ERR_CORRUPT;
    if (replica->disk_full) refused = ERR_NO_SPACE;
    if (replica->write_count >= replica->config.requests_max) refused = ERR_TOO_MANY;
    if (refused != ERR_OK) {
        entry_unref(entry);
        replica->proposals_failed++;
        replica_add_plain_result(effects, request, refused, 0);
        return;
    }
    uint64_t sequence = take_sequence(replica);
    struct pending_write *write = slot_of(replica, sequence);
    *write = (struct pending_write){
        .request = request, .sequence = sequence, .deadline = replica->now + replica->config.request_timeout};
    if (replica->write_count++ == 0) replica->oldest_sequence = sequence;
    command_format_set_identity(entry, replica->config.raft.self, replica->config.incarnation, sequence);
    dispatch(replica, write, entry, effects);
}

enum error requests_propose_own(struct replica *replica, struct entry *entry, struct replica_effects *effects)
{
    command_format_set_identity(entry, replica->config.raft.self, replica->config.incarnation, take_sequence(replica));
    return propose_here(replica, entry, effects);
}

/* Says that it wasn't proposed here. That must be true of each copy of the message: of one that comes a second time, and whose first copy
   this member did propose, nothing is said; and one whose first copy was refused isn't proposed any more. */
static void refuse_forward(struct replica *replica, const struct peer_message *message, enum error reason,
                           struct replica_effects *effects)
{
    if (sessions_contains(&replica->forwards_taken, message->from, message->incarnation, message->context)) return;
    MARK(FORWARD_REFUSED);
    if (reason != ERR_BAD_REQUEST) {
        sessions_admit(&replica->forwards_refused, message->from, message->incarnation, message->context);
    }
    struct peer_message reply = {.type = PEER_FORWARD_REPLY,
                                 .from = replica->config.raft.self,
                                 .to = message->from,
                                 .context = message->context,
                                 .incarnation = message->incarnation,
                                 .rejected = true,
                                 .reason = reason};
    raft_effects_add_message(&effects->raft, &reply);
}

void requests_on_forward(struct replica *replica, const struct peer_message *message, struct replica_effects *effects)
{
    struct command command;
    if (message->entry_count != 1 || entry_type_of(message->entries[0]) != ENTRY_COMMAND ||
        command_format_decode(entry_payload_bytes(message->entries[0]), &command) != ERR_OK ||
        command.origin != message->from || command.sequence != message->context ||
        command.incarnation != message->incarnation) {
        log_error(replica->logger, "a forwarded command makes no sense, refused", "from=%016llx",
                  (unsigned long long)message->from);
        refuse_forward(replica, message, ERR_BAD_REQUEST, effects);
        return;
    }
    if (replica->disk_full || replica->diverged) {
        refuse_forward(replica, message, replica->disk_full ? ERR_NO_SPACE : ERR_CORRUPT, effects);
        return;
    }
    /* Its message came twice, or it was applied long ago. */
    if (sessions_contains(&replica->sessions, command.origin, command.incarnation, command.sequence)) return;
    enum error error = ERR_NO_LEADER;
    if (!sessions_contains(&replica->forwards_refused, command.origin, command.incarnation, command.sequence)) {
        error = propose_here(replica, entry_ref(message->entries[0]), effects);
    }
    if (error != ERR_OK) {
        refuse_forward(replica, message, error, effects);
    } else {
        sessions_admit(&replica->forwards_taken, command.origin, command.incarnation, command.sequence);
    }
}

void requests_on_forward_reply(struct replica *replica, const struct peer_message *message,
                               struct replica_effects *effects)
{
    if (!message->rejected || message->incarnation != replica->config.incarnation) return;
    struct pending_write *write = find(replica, message->context);
    if (write == NULL || write->forwarded == NULL) return;
    enum error reason =
        message->reason > ERR_OK && message->reason < ERROR_COUNT ? (enum error)message->reason : ERR_INTERNAL;
    /* It wasn't proposed, so it may be sent again: to another leader, if there is one by now. */
    struct raft_status status;
    raft_status(replica->raft, &status);
    bool again = reason == ERR_NO_LEADER && write->forward_count < FORWARDS_MAX && status.leader != 0 &&
                 status.leader != message->from;
    if (!again) {
        fail(replica, write, reason, effects);
        return;
    }
    MARK(FORWARDED_AGAIN);
    struct entry *entry = write->forwarded;
    write->forwarded = NULL;
    dispatch(replica, write, entry, effects);
}

static uint32_t member_number(const struct replica *replica, member_id id)
{
    for (uint32_t i = 0; i < replica->config.raft.member_count; i++) {
        if (replica->config.raft.members[i] == id) return i;
    }
    return MEMBERS_MAX;
}

bool requests_waits_for(const struct replica *replica, const struct command *command)
{
    if (command->origin != replica->config.raft.self || command->incarnation != replica->config.incarnation)
        return false;
    const struct pending_write *write = &replica->writes[command->sequence % REQUEST_SLOTS];
    return command->sequence != 0 && write->sequence == command->sequence;
}

void requests_applied(struct replica *replica, const struct command *command, struct replica_result *result,
                      struct replica_effects *effects)
{
    if (effects == NULL) return;
    if (command->origin != replica->config.raft.self) {
        uint32_t number = member_number(replica, command->origin);
        if (number < MEMBERS_MAX) replica->replied[number] = command->sequence;
        return;
    }
    if (!requests_waits_for(replica, command)) return;
    struct pending_write *write = slot_of(replica, command->sequence);
    result->request = write->request;
    replica_add_result(effects, result);
    forget(replica, write);
}

/* Tells the members whose commands were committed how far that goes, so that they needn't wait for a heartbeat. */
void requests_flush(struct replica *replica, struct replica_effects *effects)
{
    struct raft_status status;
    raft_status(replica->raft, &status);
    for (uint32_t i = 0; i < replica->config.raft.member_count; i++) {
        if (replica->replied[i] != 0 && status.role == RAFT_LEADER) {
            struct peer_message reply = {.type = PEER_FORWARD_REPLY,
                                         .from = replica->config.raft.self,
                                         .to = replica->config.raft.members[i],
                                         .term = status.term,
                                         .context = replica->replied[i],
                                         .commit = status.commit};
            raft_effects_add_message(&effects->raft, &reply);
        }
        replica->replied[i] = 0;
    }
}

void requests_expire(struct replica *replica, struct replica_effects *effects)
{
    /* Deadlines aren't quite in the order of sequences: forwarded ones have their own. */
    if (requests_deadline(replica) > replica->now) return;
    for (uint64_t sequence = replica->oldest_sequence; sequence < replica->next_sequence; sequence++) {
        struct pending_write *write = find(replica, sequence);
        if (write == NULL) continue;
        if (write->deadline <= replica->now) {
            fail(replica, write, ERR_TIMEOUT, effects);
        } else if (write->deadline > replica->now + replica->config.forward_timeout) {
            break; /* all later ones are later */
        }
    }
}

void requests_new_term(struct replica *replica, raft_term term, struct replica_effects *effects)
{
    if (effects == NULL || replica->write_count == 0) return;
    for (uint64_t sequence = replica->oldest_sequence; sequence < replica->next_sequence; sequence++) {
        struct pending_write *write = find(replica, sequence);
        if (write != NULL && write->term < term) MARK(WRITE_LOST_WITH_LEADER);
        if (write != NULL && write->term < term) fail(replica, write, ERR_LEADER_CHANGED, effects);
    }
}

void requests_after_install(struct replica *replica, struct replica_effects *effects)
{
    for (uint64_t sequence = replica->oldest_sequence; sequence < replica->next_sequence; sequence++) {
        struct pending_write *write = find(replica, sequence);
        if (write != NULL &&
            sessions_contains(&replica->sessions, replica->config.raft.self, replica->config.incarnation, sequence)) {
            fail(replica, write, ERR_TIMEOUT, effects);
        }
    }
}

void requests_stop(struct replica *replica, enum error error, struct replica_effects *effects)
{
    for (uint64_t sequence = replica->oldest_sequence; sequence < replica->next_sequence; sequence++) {
        struct pending_write *write = find(replica, sequence);
        if (write != NULL) fail(replica, write, error, effects);
    }
}

time_ns requests_deadline(const struct replica *replica)
{
    if (replica->write_count == 0) return TIME_NS_NEVER;
    return replica->writes[replica->oldest_sequence % REQUEST_SLOTS].deadline;
}

void requests_free(struct replica *replica)
{
    for (uint32_t i = 0; i < REQUEST_SLOTS; i++) {
        if (replica->writes[i].forwarded != NULL) entry_unref(replica->writes[i].forwarded);
    }
    mem_free(replica->writes);
}
