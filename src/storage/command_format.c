#include "storage/command_format.h"

#include "base/check.h"

#define KIND_OFFSET 0
#define FLAGS_OFFSET 1
#define KEY_BYTES_OFFSET 4
#define ORIGIN_OFFSET 8
#define INCARNATION_OFFSET 16
#define SEQUENCE_OFFSET 24
#define ARGUMENT_OFFSET 32

_Static_assert(COMMAND_HEADER_BYTES + COMMAND_KEY_BYTES_MAX + 1536u * 1024 <= ENTRY_PAYLOAD_BYTES_MAX,
               "the largest key and etcd's largest request fit into one entry");

struct entry *command_format_entry(enum command_kind kind, size_t key_bytes, size_t value_bytes, uint64_t argument)
{
    CHECK(key_bytes <= COMMAND_KEY_BYTES_MAX);
    CHECK(value_bytes <= ENTRY_PAYLOAD_BYTES_MAX);
    struct entry *entry = entry_new(ENTRY_COMMAND, COMMAND_HEADER_BYTES + key_bytes + value_bytes);
    uint8_t *payload = entry_payload(entry);
    memset(payload, 0, COMMAND_HEADER_BYTES);
    payload[KIND_OFFSET] = (uint8_t)kind;
    put_u32(payload + KEY_BYTES_OFFSET, (uint32_t)key_bytes);
    put_u64(payload + ARGUMENT_OFFSET, argument);
    return entry;
}

void command_format_set_flags(struct entry *entry, uint8_t flags)
{
    entry_payload(entry)[FLAGS_OFFSET] = flags;
}

void command_format_set_identity(struct entry *entry, member_id origin, uint64_t incarnation, uint64_t sequence)
{
    CHECK(entry_type_of(entry) == ENTRY_COMMAND && entry_payload_bytes(entry).size >= COMMAND_HEADER_BYTES);
    uint8_t *payload = entry_payload(entry);
    put_u64(payload + ORIGIN_OFFSET, origin);
    put_u64(payload + INCARNATION_OFFSET, incarnation);
    put_u64(payload + SEQUENCE_OFFSET, sequence);
}

/* Which of the parts a kind has. */
struct command_shape {
    uint8_t flags; /* that may be set */
    bool key;      /* there must be one; else there must be none */
    bool value;    /* there may be one */
    bool argument; /* it may be set */
};

static bool shape_of(unsigned kind, struct command_shape *out)
{
    switch (kind) {
    case COMMAND_PUT:
        *out =
            (struct command_shape){COMMAND_WANT_PREVIOUS | COMMAND_KEEP_VALUE | COMMAND_KEEP_LEASE, true, true, true};
        return true;
    case COMMAND_DELETE:
        *out = (struct command_shape){COMMAND_WANT_PREVIOUS, true, true, false};
        return true;
    case COMMAND_COMPACT:
    case COMMAND_LEASE_REVOKE:
        *out = (struct command_shape){.argument = true};
        return true;
    case COMMAND_TXN:
    case COMMAND_LEASE_CHECKPOINT:
        *out = (struct command_shape){.value = true};
        return true;
    case COMMAND_LEASE_GRANT:
        *out = (struct command_shape){.value = true, .argument = true};
        return true;
    default:
        return false;
    }
}

static bool makes_sense(const struct command *command, const struct command_shape *shape)
{
    if ((command->flags & ~shape->flags) != 0 || shape->key != (command->key.size > 0)) return false;
    if (!shape->value && command->value.size > 0) return false;
    if (!shape->argument && command->argument != 0) return false;
    switch (command->kind) {
    case COMMAND_COMPACT:
        return command->argument > 0 && command->argument <= INT64_MAX;
    case COMMAND_LEASE_GRANT:
        return command->argument != 0 && command->value.size == sizeof(int64_t);
    case COMMAND_LEASE_REVOKE:
        return command->argument != 0;
    case COMMAND_LEASE_CHECKPOINT:
        return command->value.size % COMMAND_CHECKPOINT_ITEM_BYTES == 0;
    default:
        return true;
    }
}

enum error command_format_decode(struct bytes payload, struct command *out)
{
    if (payload.size < COMMAND_HEADER_BYTES) return ERR_DAMAGED;
    const uint8_t *at = payload.data;
    uint8_t kind = at[KIND_OFFSET];
    if (kind == 0) return ERR_DAMAGED;
    struct command_shape shape;
    if (!shape_of(kind, &shape)) return ERR_BAD_VERSION;
    if (get_u16(at + 2) != 0) return ERR_DAMAGED;
    uint32_t key_bytes = get_u32(at + KEY_BYTES_OFFSET);
    struct bytes rest = bytes_of(at + COMMAND_HEADER_BYTES, payload.size - COMMAND_HEADER_BYTES);
    if (key_bytes > COMMAND_KEY_BYTES_MAX || key_bytes > rest.size) return ERR_DAMAGED;
    struct command command = {
        .kind = (enum command_kind)kind,
        .flags = at[FLAGS_OFFSET],
        .origin = get_u64(at + ORIGIN_OFFSET),
        .incarnation = get_u64(at + INCARNATION_OFFSET),
        .sequence = get_u64(at + SEQUENCE_OFFSET),
        .argument = get_u64(at + ARGUMENT_OFFSET),
        .key = bytes_of(rest.data, key_bytes),
        .value = bytes_of(rest.data + key_bytes, rest.size - key_bytes),
    };
    if (!makes_sense(&command, &shape)) return ERR_DAMAGED;
    *out = command;
    return ERR_OK;
}
