/*
 * command_format.h - what an ENTRY_COMMAND says to the store, and who asked.
 *
 * Payload, little-endian:
 *
 *          0  1   kind (enum command_kind); 64 and above are reserved for leases, auth and alarms
 *          1  3   zero
 *          4  4   key bytes
 *          8  8   origin: the member whose client asked
 *         16  8   incarnation of that member
 *         24  8   sequence: counts the commands of that incarnation from 1
 *         32  8   lease (put), revision (compact), else 0
 *         40  …   key, then value
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
    COMMAND_COMPACT = 3, /* proposed by the leader when the history is over its budget */
    COMMAND_TXN = 4,     /* reserved */
};

struct command {
    enum command_kind kind;
    member_id origin;
    uint64_t incarnation;
    uint64_t sequence;
    uint64_t argument; /* lease or revision */
    struct bytes key;
    struct bytes value;
};

/* An entry for such a command, whose key and value are to be filled in after the header. Identity is 0. */
struct entry *command_format_entry(enum command_kind kind, size_t key_bytes, size_t value_bytes, uint64_t argument);

void command_format_set_identity(struct entry *entry, member_id origin, uint64_t incarnation, uint64_t sequence);

/* Views into the payload. ERR_DAMAGED when it makes no sense; ERR_BAD_VERSION for an unknown kind. */
enum error command_format_decode(struct bytes payload, struct command *out);

#endif
