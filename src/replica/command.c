#include "replica/command.h"

#include "base/check.h"
#include "store/store.h"

_Static_assert(COMMAND_KEY_BYTES_MAX == STORE_KEY_BYTES_MAX, "what a command may name, the store takes");

static struct entry *put_room(size_t key_bytes, size_t value_bytes, uint64_t lease, uint8_t **key, uint8_t **value)
{
    CHECK(key_bytes > 0);
    struct entry *entry = command_format_entry(COMMAND_PUT, key_bytes, value_bytes, lease);
    *key = entry_payload(entry) + COMMAND_HEADER_BYTES;
    *value = *key + key_bytes;
    return entry;
}

struct entry *command_put_room(size_t key_bytes, size_t value_bytes, uint8_t **key, uint8_t **value)
{
    return put_room(key_bytes, value_bytes, 0, key, value);
}

struct entry *command_put(struct bytes key, struct bytes value, uint64_t lease)
{
    uint8_t *key_at, *value_at;
    struct entry *entry = put_room(key.size, value.size, lease, &key_at, &value_at);
    memcpy(key_at, key.data, key.size);
    if (value.size > 0) memcpy(value_at, value.data, value.size);
    return entry;
}

struct entry *command_delete(struct bytes key)
{
    CHECK(key.size > 0);
    struct entry *entry = command_format_entry(COMMAND_DELETE, key.size, 0, 0);
    memcpy(entry_payload(entry) + COMMAND_HEADER_BYTES, key.data, key.size);
    return entry;
}

struct entry *command_compact(store_revision revision)
{
    CHECK(revision > 0);
    return command_format_entry(COMMAND_COMPACT, 0, 0, (uint64_t)revision);
}
