#include "raft/raft_internal.h"

#define GROW(array, count, capacity)                                                                                   \
    do {                                                                                                               \
        if ((count) == (capacity)) {                                                                                   \
            (capacity) = (capacity) == 0 ? 16 : (capacity)*2;                                                          \
            (array) = mem_realloc((array), (size_t)(capacity) * sizeof(array)[0]);                                     \
        }                                                                                                              \
    } while (0)

void raft_effects_add_message(struct raft_effects *effects, struct peer_message *message)
{
    GROW(effects->messages, effects->message_count, effects->message_capacity);
    effects->messages[effects->message_count++] = *message;
    message->entries = NULL;
    message->entry_count = 0;
}

void effects_add_read(struct raft_effects *effects, const struct raft_read_result *read)
{
    GROW(effects->reads, effects->read_count, effects->read_capacity);
    effects->reads[effects->read_count++] = *read;
}

void effects_add_log_read(struct raft_effects *effects, const struct raft_read_log *read)
{
    GROW(effects->log_reads, effects->log_read_count, effects->log_read_capacity);
    effects->log_reads[effects->log_read_count++] = *read;
}

void effects_add_snapshot_peer(struct raft_effects *effects, member_id peer)
{
    GROW(effects->snapshot_peers, effects->snapshot_peer_count, effects->snapshot_peer_capacity);
    effects->snapshot_peers[effects->snapshot_peer_count++] = peer;
}

void raft_effects_clear(struct raft_effects *effects)
{
    for (uint32_t i = 0; i < effects->message_count; i++) peer_message_release(&effects->messages[i]);
    if (effects->write.entries != NULL) {
        for (uint32_t i = 0; i < effects->write.entry_count; i++) entry_unref(effects->write.entries[i]);
        mem_free(effects->write.entries);
    }
    effects->message_count = 0;
    effects->read_count = 0;
    effects->log_read_count = 0;
    effects->snapshot_peer_count = 0;
    effects->write = (struct raft_write){0};
    effects->save = (struct raft_save){0};
    effects->role_changed = false;
    effects->propose_error = ERR_OK;
    effects->proposed_index = 0;
}

void raft_effects_free(struct raft_effects *effects)
{
    raft_effects_clear(effects);
    mem_free(effects->messages);
    mem_free(effects->reads);
    mem_free(effects->log_reads);
    mem_free(effects->snapshot_peers);
    *effects = (struct raft_effects){0};
}
