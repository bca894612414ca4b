#include "storage/raft_state.h"

#include "base/check.h"
#include "storage/text.h"

#define FIXED_BYTES 73u /* with the node id's length */
#define MEMBER_BYTES_MAX (1u + NODE_ID_BYTES_MAX + 2u + ADDRESS_BYTES_MAX + 2u)

_Static_assert(FIXED_BYTES + NODE_ID_BYTES_MAX + 1 + MEMBERS_MAX * MEMBER_BYTES_MAX + RAFT_STATE_ROOM_BYTES <=
                   SLOT_PAYLOAD_BYTES_MAX,
               "the largest state fits a slot");

static void encode_members(const struct raft_state *state, struct buffer *out)
{
    if (state->member_count == 0) return;
    buffer_append_byte(out, (uint8_t)state->member_count);
    for (uint32_t i = 0; i < state->member_count; i++) {
        const struct raft_state_member *member = &state->members[i];
        struct bytes id = bytes_of_string(member->node_id);
        struct bytes host = bytes_of_string(member->rpc_host);
        buffer_append_byte(out, (uint8_t)id.size);
        buffer_append(out, id.data, id.size);
        buffer_append_u16(out, (uint16_t)host.size);
        buffer_append(out, host.data, host.size);
        buffer_append_u16(out, member->rpc_port);
    }
}

void raft_state_append_payload(const struct raft_state *state, struct buffer *out)
{
    uint8_t payload[FIXED_BYTES + NODE_ID_BYTES_MAX] = {0};
    size_t id_bytes = strlen(state->node_id);
    CHECK(id_bytes >= 1 && id_bytes <= NODE_ID_BYTES_MAX);
    put_u64(payload, state->cluster_id);
    put_u64(payload + 8, state->member);
    put_u64(payload + 16, state->founding_nonce);
    put_u64(payload + 24, state->log_id);
    put_u64(payload + 32, state->term);
    put_u64(payload + 40, state->vote);
    put_u64(payload + 48, state->incarnation);
    put_u64(payload + 56, state->no_vote_before_term);
    payload[64] = state->catching_up;
    payload[72] = (uint8_t)id_bytes;
    memcpy(payload + FIXED_BYTES, state->node_id, id_bytes);
    buffer_append(out, payload, FIXED_BYTES + id_bytes);
    encode_members(state, out);
}

void raft_state_encode(const struct raft_state *state, uint64_t generation, uint8_t *slot)
{
    struct buffer all = {0};
    raft_state_append_payload(state, &all);
    slot_encode(RAFT_STATE_MAGIC, RAFT_STATE_VERSION, generation, buffer_bytes(&all), slot);
    buffer_free(&all);
}

/* `out` has bytes_max + 1 bytes. */
static bool take_text(struct bytes text, size_t bytes_max, char *out)
{
    if (text.size == 0 || text.size > bytes_max || memchr(text.data, 0, text.size) != NULL) return false;
    memcpy(out, text.data, text.size);
    return true;
}

static bool decode_members(struct reader *reader, struct raft_state *out)
{
    if (reader_left(reader) == 0) return true;
    out->member_count = reader_u8(reader);
    if (out->member_count == 0 || out->member_count > MEMBERS_MAX) return false;
    for (uint32_t i = 0; i < out->member_count; i++) {
        struct raft_state_member *member = &out->members[i];
        struct bytes id = reader_bytes(reader, reader_u8(reader));
        struct bytes host = reader_bytes(reader, reader_u16(reader));
        member->rpc_port = reader_u16(reader);
        if (reader->failed) return false;
        if (!take_text(id, NODE_ID_BYTES_MAX, member->node_id)) return false;
        if (!take_text(host, ADDRESS_BYTES_MAX, member->rpc_host)) return false;
    }
    return true;
}

bool raft_state_decode_payload(struct bytes payload, struct raft_state *out)
{
    struct reader reader = reader_of(payload);
    *out = (struct raft_state){0};
    out->cluster_id = reader_u64(&reader);
    out->member = reader_u64(&reader);
    out->founding_nonce = reader_u64(&reader);
    out->log_id = reader_u64(&reader);
    out->term = reader_u64(&reader);
    out->vote = reader_u64(&reader);
    out->incarnation = reader_u64(&reader);
    out->no_vote_before_term = reader_u64(&reader);
    uint8_t catching_up = reader_u8(&reader);
    reader_bytes(&reader, 7);
    struct bytes id = reader_bytes(&reader, reader_u8(&reader));
    if (reader.failed || catching_up > 1 || out->member == 0) return false;
    if (!take_text(id, NODE_ID_BYTES_MAX, out->node_id) || !decode_members(&reader, out)) return false;
    out->catching_up = catching_up == 1;
    return reader_left(&reader) == 0;
}

bool raft_state_same_identity(const struct raft_state *a, const struct raft_state *b)
{
    if (a->cluster_id != b->cluster_id || a->member != b->member || a->founding_nonce != b->founding_nonce ||
        a->log_id != b->log_id || a->member_count != b->member_count || strcmp(a->node_id, b->node_id) != 0) {
        return false;
    }
    for (uint32_t i = 0; i < a->member_count; i++) {
        const struct raft_state_member *left = &a->members[i], *right = &b->members[i];
        if (strcmp(left->node_id, right->node_id) != 0 || strcmp(left->rpc_host, right->rpc_host) != 0 ||
            left->rpc_port != right->rpc_port) {
            return false;
        }
    }
    return true;
}

enum error raft_state_decode(struct bytes file, struct raft_state *out, uint64_t *generation, char *damage)
{
    struct slot_content content;
    enum error error = slot_choose(RAFT_STATE_MAGIC, RAFT_STATE_VERSION, file, &content, damage);
    if (error != ERR_OK) return error;
    if (!raft_state_decode_payload(content.payload, out)) {
        text_format(damage, SLOT_DAMAGE_BYTES, "the raft state at offset %zu makes no sense",
                    (size_t)(content.payload.data - file.data));
        return ERR_DAMAGED;
    }
    *generation = content.generation;
    return ERR_OK;
}
