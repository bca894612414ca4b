#include "base/peer_message.h"

#include "base/mem.h"

static const char *const type_names[PEER_MESSAGE_TYPE_END] = {
    [PEER_PREVOTE] = "prevote",
    [PEER_PREVOTE_REPLY] = "prevote_reply",
    [PEER_VOTE] = "vote",
    [PEER_VOTE_REPLY] = "vote_reply",
    [PEER_APPEND] = "append",
    [PEER_APPEND_REPLY] = "append_reply",
    [PEER_SNAPSHOT] = "snapshot",
    [PEER_SNAPSHOT_REPLY] = "snapshot_reply",
    [PEER_TIMEOUT_NOW] = "timeout_now",
    [PEER_READ] = "read",
    [PEER_READ_REPLY] = "read_reply",
    [PEER_FORWARD] = "forward",
    [PEER_FORWARD_REPLY] = "forward_reply",
    [PEER_GOODBYE] = "goodbye",
    [PEER_DIVERGED] = "diverged",
    [PEER_LEASE_RENEW] = "lease_renew",
    [PEER_LEASE_TIME] = "lease_time",
    [PEER_LEASE_REPLY] = "lease_reply",
};

const char *peer_message_type_name(enum peer_message_type type)
{
    if ((size_t)type >= ARRAY_COUNT(type_names) || type_names[type] == NULL) return "unknown";
    return type_names[type];
}

void peer_message_release(struct peer_message *message)
{
    for (uint32_t i = 0; i < message->entry_count; i++) entry_unref(message->entries[i]);
    mem_free(message->entries);
    message->entries = NULL;
    message->entry_count = 0;
}

struct peer_message peer_message_copy(const struct peer_message *message)
{
    struct peer_message copy = *message;
    copy.entries = NULL;
    if (message->entry_count > 0) {
        copy.entries = mem_alloc(message->entry_count * sizeof(struct entry *));
        for (uint32_t i = 0; i < message->entry_count; i++) copy.entries[i] = entry_ref(message->entries[i]);
    }
    return copy;
}
