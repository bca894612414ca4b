/*
 * command_format.h - what an ENTRY_COMMAND says to the store, and who asked.
 *
 * Payload, little-endian:
 *
 *          0  1   kind (enum command_kind); 64 and above: leases; 96 and above are reserved for alarms and auth
 *          1  1   flags (COMMAND_…), of put and delete; else 0
 *          2  2   zero
 *          4  4   key bytes
 *          8  8   origin: the member whose client asked
 *         16  8   incarnation of that member
 *         24  8   sequence: counts the commands of that incarnation from 1
 *         32  8   argument, see below
 *         40  …   key, then value
 *
 *     kind              argument   key   value
 *     PUT               lease      key   value
 *     DELETE            0          key   range_end, as base/txn.h writes it
 *     COMPACT           revision   none  none
 *     TXN               0          none  a transaction (txn_format.h)
 *     LEASE_GRANT       id         none  i64 TTL in seconds
 *     LEASE_REVOKE      id         none  none
 *     LEASE_CHECKPOINT  0          none  for each lease: u64 id, i64 remaining seconds
 *
 * The identity (origin, incarnation, sequence) is applied at most once; see replica/sessions.h. An entry whose kind a
 * member doesn't know stops that member with a message, since to skip it would make the members differ.
 */
#ifndef CORACLE_STORAGE_COMMAND_FORMAT_H
#define CORACLE_STORAGE_COMMAND_FORMAT_H

#include "base/entry.h"

#define COMMAND_HEADER_BYTES 40u
#define COMMAND_KEY_BYTES_MAX 65536u

enum command_kind {
    COMMAND_PUT = 1,
    COMMAND_DELETE = 2,
    COMMAND_COMPACT = 3, /* of a client, or proposed by the leader when the history is over its budget */
    COMMAND_TXN = 4,
    COMMAND_LEASE_GRANT = 64,
    COMMAND_LEASE_REVOKE = 65, /* of a client, or proposed by the leader when the lease has expired */
    COMMAND_LEASE_CHECKPOINT = 66,
};

/* Flags. */
#define COMMAND_WANT_PREVIOUS 1u /* put, delete: for the answer; changes nothing */
#define COMMAND_KEEP_VALUE 2u    /* put */
#define COMMAND_KEEP_LEASE 4u    /* put */

#define COMMAND_CHECKPOINT_ITEM_BYTES 16u

struct command {
    enum command_kind kind;
    uint8_t flags;
    member_id origin;
    uint64_t incarnation;
    uint64_t sequence;
    uint64_t argument;
    struct bytes key;
    struct bytes value;
};

/* An entry for such a command, whose key and value are to be filled in after the header. Identity is 0. */
struct entry *command_format_entry(enum command_kind kind, size_t key_bytes, size_t value_bytes, uint64_t argument);
void command_format_set_flags(struct entry *entry, uint8_t flags);

void command_format_set_identity(struct entry *entry, member_id origin, uint64_t incarnation, uint64_t sequence);

/* Views into the payload. ERR_DAMAGED when it makes no sense; ERR_BAD_VERSION for an unknown kind. */
enum error command_format_decode(struct bytes payload, struct command *out);

#endif
