#include "replica/command.h"

#include "base/check.h"
#include "storage/txn_format.h"
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

size_t command_put_bytes(const struct put_query *query)
{
    return COMMAND_HEADER_BYTES + query->key.size + query->value.size;
}

size_t command_delete_bytes(const struct delete_query *query)
{
    return COMMAND_HEADER_BYTES + query->key.size + query->range_end.size;
}

size_t command_txn_bytes(const struct txn *txn)
{
    return COMMAND_HEADER_BYTES + txn_format_bytes(txn);
}

struct entry *command_put_query(const struct put_query *query)
{
    struct entry *entry = command_put(query->key, query->value, query->lease);
    command_format_set_flags(entry, (query->want_previous ? COMMAND_WANT_PREVIOUS : 0) |
                                        (query->keep_value ? COMMAND_KEEP_VALUE : 0) |
                                        (query->keep_lease ? COMMAND_KEEP_LEASE : 0));
    return entry;
}

struct entry *command_delete_query(const struct delete_query *query)
{
    CHECK(query->key.size > 0);
    struct entry *entry = command_format_entry(COMMAND_DELETE, query->key.size, query->range_end.size, 0);
    uint8_t *at = entry_payload(entry) + COMMAND_HEADER_BYTES;
    memcpy(at, query->key.data, query->key.size);
    if (query->range_end.size > 0) memcpy(at + query->key.size, query->range_end.data, query->range_end.size);
    command_format_set_flags(entry, query->want_previous ? COMMAND_WANT_PREVIOUS : 0);
    return entry;
}

struct entry *command_txn(const struct txn *txn)
{
    struct entry *entry = command_format_entry(COMMAND_TXN, 0, txn_format_bytes(txn), 0);
    txn_format_encode(txn, entry_payload(entry) + COMMAND_HEADER_BYTES);
    return entry;
}

struct entry *command_lease_grant(uint64_t id, int64_t ttl_s)
{
    struct entry *entry = command_format_entry(COMMAND_LEASE_GRANT, 0, sizeof ttl_s, id);
    put_u64(entry_payload(entry) + COMMAND_HEADER_BYTES, (uint64_t)ttl_s);
    return entry;
}

struct entry *command_lease_revoke(uint64_t id)
{
    return command_format_entry(COMMAND_LEASE_REVOKE, 0, 0, id);
}

struct entry *command_lease_checkpoint(struct bytes items)
{
    struct entry *entry = command_format_entry(COMMAND_LEASE_CHECKPOINT, 0, items.size, 0);
    if (items.size > 0) memcpy(entry_payload(entry) + COMMAND_HEADER_BYTES, items.data, items.size);
    return entry;
}
