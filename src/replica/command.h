/*
 * command.h - makes commands, encoded once, into the entry that is stored and sent. Their layout: storage/command_format.h.
 */
#ifndef CORACLE_REPLICA_COMMAND_H
#define CORACLE_REPLICA_COMMAND_H

#include "base/txn.h"
#include "storage/command_format.h"

/* Entries of the caller's; the replica fills the identity in. */
struct entry *command_put(struct bytes key, struct bytes value, uint64_t lease);
struct entry *command_delete(struct bytes key);
struct entry *command_compact(store_revision revision);
/* Keys and values are copied; what the command takes must be at most ENTRY_PAYLOAD_BYTES_MAX. */
size_t command_put_bytes(const struct put_query *query);
size_t command_delete_bytes(const struct delete_query *query);
size_t command_txn_bytes(const struct txn *txn);
struct entry *command_put_query(const struct put_query *query);
struct entry *command_delete_query(const struct delete_query *query);
struct entry *command_txn(const struct txn *txn);
struct entry *command_lease_grant(uint64_t id, int64_t ttl_s);
struct entry *command_lease_revoke(uint64_t id);
/* `items`: a multiple of COMMAND_CHECKPOINT_ITEM_BYTES, as the layout says. */
struct entry *command_lease_checkpoint(struct bytes items);

/*
 * The same for a writer that has no value in one piece: an entry with room, to be filled at *key and *value.
 */
struct entry *command_put_room(size_t key_bytes, size_t value_bytes, uint8_t **key, uint8_t **value);

#endif
