#include "storage/raft_state.h"

#include "base/check.h"
#include "storage/text.h"

#define FIXED_BYTES 73u /* with the node id's length */

void raft_state_encode(const struct raft_state *state, uint64_t generation, uint8_t *slot)
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
    slot_encode(RAFT_STATE_MAGIC, RAFT_STATE_VERSION, generation, bytes_of(payload, FIXED_BYTES + id_bytes), slot);
}

static bool payload_decode(struct bytes payload, struct raft_state *out)
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
    if (reader.failed || reader_left(&reader) != 0) return false;
    if (catching_up > 1 || out->member == 0) return false;
    if (id.size == 0 || id.size > NODE_ID_BYTES_MAX || memchr(id.data, 0, id.size) != NULL) return false;
    out->catching_up = catching_up == 1;
    memcpy(out->node_id, id.data, id.size);
    return true;
}

enum error raft_state_decode(struct bytes file, struct raft_state *out, uint64_t *generation, char *damage)
{
    struct slot_content content;
    enum error error = slot_choose(RAFT_STATE_MAGIC, RAFT_STATE_VERSION, file, &content, damage);
    if (error != ERR_OK) return error;
    if (!payload_decode(content.payload, out)) {
        TEXT_FORMAT(damage, SLOT_DAMAGE_BYTES, "the raft state at offset %zu makes no sense",
                    (size_t)(content.payload.data - file.data));
        return ERR_DAMAGED;
    }
    *generation = content.generation;
    return ERR_OK;
}
