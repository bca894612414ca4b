#include "replica/peer_codec.h"

#include <protobuf-c/protobuf-c.h>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/mem.h"
#include "proto/peer.pb-c.h"

/* A frame holds the largest batch that raft sends (one entry that is larger than its budget included) or snapshot
   chunk with room to spare. */
_Static_assert(PEER_FRAME_BYTES_MAX >= PEER_PROTOBUF_BYTES_MAX + ENTRY_HEADER_BYTES + ENTRY_PAYLOAD_BYTES_MAX,
               "the largest entry fits into a frame");

#define SIZE_OFFSET 0
#define CRC_OFFSET 4
#define PROTOBUF_BYTES_OFFSET 8
#define KIND_OFFSET 12
#define CHECKED_OFFSET 8

/* ---- frames ---- */

static uint32_t frame_crc(const uint8_t *frame, size_t frame_bytes)
{
    return crc32c(0, frame + CHECKED_OFFSET, frame_bytes - CHECKED_OFFSET);
}

/* Appends a frame's header and its protobuf message; room for the trailer is reserved. Returns where it begins. */
static size_t begin_frame(enum peer_frame_kind kind, const ProtobufCMessage *message, size_t trailer_bytes,
                          struct buffer *out)
{
    size_t protobuf_bytes = protobuf_c_message_get_packed_size(message);
    CHECK(protobuf_bytes <= PEER_PROTOBUF_BYTES_MAX);
    CHECK(trailer_bytes <= PEER_FRAME_BYTES_MAX - protobuf_bytes);
    size_t begin = out->size;
    buffer_reserve(out, PEER_FRAME_HEADER_BYTES + protobuf_bytes + trailer_bytes);
    buffer_append_u32(out, (uint32_t)(protobuf_bytes + trailer_bytes));
    buffer_append_u32(out, 0);
    buffer_append_u32(out, (uint32_t)protobuf_bytes);
    buffer_append_u32(out, kind);
    out->size += protobuf_c_message_pack(message, out->data + out->size);
    return begin;
}

static void end_frame(size_t begin, struct buffer *out)
{
    uint8_t *frame = out->data + begin;
    CHECK(out->size - begin == PEER_FRAME_HEADER_BYTES + get_u32(frame + SIZE_OFFSET));
    put_u32(frame + CRC_OFFSET, frame_crc(frame, out->size - begin));
}

enum error peer_frame_next(struct bytes bytes, struct peer_frame *out, size_t *frame_bytes)
{
    *frame_bytes = 0;
    /* Each field is judged as soon as it is there: what isn't a peer is told at its first bytes. */
    if (bytes.size < PROTOBUF_BYTES_OFFSET) {
        if (bytes.size >= 4 && get_u32(bytes.data + SIZE_OFFSET) > PEER_FRAME_BYTES_MAX) return ERR_BAD_FRAME;
        return ERR_NOT_READY;
    }
    uint32_t content_bytes = get_u32(bytes.data + SIZE_OFFSET);
    if (content_bytes > PEER_FRAME_BYTES_MAX) return ERR_BAD_FRAME;
    size_t whole = PEER_FRAME_HEADER_BYTES + (size_t)content_bytes;
    if (bytes.size < PEER_FRAME_HEADER_BYTES) {
        *frame_bytes = whole;
        return ERR_NOT_READY;
    }
    uint32_t protobuf_bytes = get_u32(bytes.data + PROTOBUF_BYTES_OFFSET);
    uint32_t kind = get_u32(bytes.data + KIND_OFFSET);
    if (protobuf_bytes > content_bytes || protobuf_bytes > PEER_PROTOBUF_BYTES_MAX) return ERR_BAD_FRAME;
    if (kind != PEER_FRAME_GREETING && kind != PEER_FRAME_MESSAGE) return ERR_BAD_FRAME;
    if (kind == PEER_FRAME_GREETING && protobuf_bytes != content_bytes) return ERR_BAD_FRAME;
    *frame_bytes = whole;
    if (bytes.size < whole) return ERR_NOT_READY;
    if (frame_crc(bytes.data, whole) != get_u32(bytes.data + CRC_OFFSET)) return ERR_BAD_FRAME;
    const uint8_t *content = bytes.data + PEER_FRAME_HEADER_BYTES;
    *out = (struct peer_frame){
        .kind = (enum peer_frame_kind)kind,
        .message = bytes_of(content, protobuf_bytes),
        .trailer = bytes_of(content + protobuf_bytes, content_bytes - protobuf_bytes),
    };
    return ERR_OK;
}

/* ---- the allocator for unpacking; what it may take is bounded by PEER_PROTOBUF_BYTES_MAX ---- */

static void *unpack_alloc(void *user, size_t size)
{
    (void)user;
    return mem_alloc(size);
}

static void unpack_free(void *user, void *memory)
{
    (void)user;
    mem_free(memory);
}

static ProtobufCAllocator unpack_allocator(void)
{
    return (ProtobufCAllocator){.alloc = unpack_alloc, .free = unpack_free};
}

/* ---- greetings ---- */

void peer_greeting_encode(const struct peer_greeting *greeting, struct buffer *out)
{
    Coracle__Peer__Greeting message = CORACLE__PEER__GREETING__INIT;
    message.version_min = greeting->version_min;
    message.version_max = greeting->version_max;
    message.cluster_id = greeting->cluster_id;
    message.member = greeting->member;
    message.node_id = (char *)greeting->node_id;
    message.incarnation = greeting->incarnation;
    message.founding_nonce = greeting->founding_nonce;
    message.membership_hash = greeting->membership_hash;
    message.term = greeting->term;
    message.product = (char *)greeting->product;
    size_t begin = begin_frame(PEER_FRAME_GREETING, &message.base, 0, out);
    end_frame(begin, out);
}

static bool copy_text(const char *text, char *out, size_t capacity)
{
    size_t size = strlen(text);
    if (size >= capacity) return false;
    memcpy(out, text, size + 1);
    return true;
}

enum error peer_greeting_decode(const struct peer_frame *frame, struct peer_greeting *out)
{
    if (frame->kind != PEER_FRAME_GREETING) return ERR_BAD_FRAME;
    ProtobufCAllocator allocator = unpack_allocator();
    Coracle__Peer__Greeting *message =
        coracle__peer__greeting__unpack(&allocator, frame->message.size, frame->message.data);
    if (message == NULL) return ERR_BAD_FRAME;
    *out = (struct peer_greeting){
        .version_min = message->version_min,
        .version_max = message->version_max,
        .cluster_id = message->cluster_id,
        .member = message->member,
        .incarnation = message->incarnation,
        .founding_nonce = message->founding_nonce,
        .term = message->term,
        .membership_hash = message->membership_hash,
    };
    bool fits = copy_text(message->node_id, out->node_id, sizeof out->node_id) &&
                copy_text(message->product, out->product, sizeof out->product);
    coracle__peer__greeting__free_unpacked(message, &allocator);
    return fits ? ERR_OK : ERR_BAD_FRAME;
}

/* ---- messages ---- */

static bool carries_entries(enum peer_message_type type)
{
    return type == PEER_APPEND || type == PEER_FORWARD;
}

static size_t trailer_bytes_of(const struct peer_message *message)
{
    size_t bytes = message->data.size;
    for (uint32_t i = 0; i < message->entry_count; i++) bytes += message->entries[i]->record_bytes;
    return bytes;
}

void peer_message_encode(const struct peer_message *message, struct buffer *out)
{
    CHECK(message->type >= PEER_PREVOTE && message->type < PEER_MESSAGE_TYPE_END);
    CHECK(message->entry_count == 0 || carries_entries(message->type));
    CHECK(message->data.size == 0 || message->type == PEER_SNAPSHOT);
    Coracle__Peer__Message packed = CORACLE__PEER__MESSAGE__INIT;
    packed.type = message->type;
    packed.from = message->from;
    packed.to = message->to;
    packed.term = message->term;
    packed.index = message->index;
    packed.log_term = message->log_term;
    packed.commit = message->commit;
    packed.rejected = message->rejected;
    packed.transfer = message->transfer;
    packed.uncertain = message->uncertain;
    packed.reason = message->reason;
    packed.hint_index = message->hint_index;
    packed.hint_term = message->hint_term;
    packed.context = message->context;
    packed.incarnation = message->incarnation;
    packed.hash_index = message->hash_index;
    packed.apply_hash = message->apply_hash;
    packed.offset = message->offset;
    packed.total = message->total;
    packed.entry_count = message->entry_count;
    packed.lease = message->lease;
    packed.ttl_s = message->ttl_s;
    packed.granted_ttl_s = message->granted_ttl_s;
    packed.timeout_ms = message->timeout_ms;

    size_t begin = begin_frame(PEER_FRAME_MESSAGE, &packed.base, trailer_bytes_of(message), out);
    for (uint32_t i = 0; i < message->entry_count; i++) {
        buffer_append(out, message->entries[i]->record, message->entries[i]->record_bytes);
    }
    buffer_append(out, message->data.data, message->data.size);
    end_frame(begin, out);
}

/* The trailer is exactly `count` records. */
static enum error decode_entries(struct bytes trailer, uint32_t count, struct peer_message *out)
{
    if (count > trailer.size / ENTRY_HEADER_BYTES) return ERR_BAD_FRAME;
    if (count > 0) out->entries = mem_alloc(count * sizeof(struct entry *));
    struct reader reader = reader_of(trailer);
    while (out->entry_count < count) {
        enum error error = entry_read(&reader, &out->entries[out->entry_count]);
        if (error != ERR_OK) {
            peer_message_release(out);
            return error;
        }
        out->entry_count++;
    }
    if (reader_left(&reader) > 0) {
        peer_message_release(out);
        return ERR_BAD_FRAME;
    }
    return ERR_OK;
}

static enum error decode_trailer(struct bytes trailer, uint32_t entry_count, struct peer_message *out)
{
    if (out->type == PEER_SNAPSHOT) {
        if (entry_count > 0 || out->offset > out->total || trailer.size > out->total - out->offset) {
            return ERR_BAD_FRAME;
        }
        out->data = trailer;
        return ERR_OK;
    }
    if (!carries_entries(out->type)) return entry_count == 0 && trailer.size == 0 ? ERR_OK : ERR_BAD_FRAME;
    if (out->type == PEER_FORWARD && entry_count != 1) return ERR_BAD_FRAME;
    enum error error = decode_entries(trailer, entry_count, out);
    if (error != ERR_OK) return error;
    if (out->type == PEER_FORWARD && entry_type_of(out->entries[0]) != ENTRY_COMMAND) {
        peer_message_release(out);
        return ERR_BAD_FRAME;
    }
    return ERR_OK;
}

enum error peer_message_decode(const struct peer_frame *frame, struct peer_message *out)
{
    if (frame->kind != PEER_FRAME_MESSAGE) return ERR_BAD_FRAME;
    ProtobufCAllocator allocator = unpack_allocator();
    Coracle__Peer__Message *packed =
        coracle__peer__message__unpack(&allocator, frame->message.size, frame->message.data);
    if (packed == NULL) return ERR_BAD_FRAME;
    *out = (struct peer_message){
        .type = (enum peer_message_type)packed->type,
        .from = packed->from,
        .to = packed->to,
        .term = packed->term,
        .index = packed->index,
        .log_term = packed->log_term,
        .commit = packed->commit,
        .rejected = packed->rejected != 0,
        .transfer = packed->transfer != 0,
        .uncertain = packed->uncertain != 0,
        .reason = packed->reason,
        .hint_index = packed->hint_index,
        .hint_term = packed->hint_term,
        .context = packed->context,
        .incarnation = packed->incarnation,
        .hash_index = packed->hash_index,
        .apply_hash = packed->apply_hash,
        .offset = packed->offset,
        .total = packed->total,
        .lease = packed->lease,
        .ttl_s = packed->ttl_s,
        .granted_ttl_s = packed->granted_ttl_s,
        .timeout_ms = packed->timeout_ms,
    };
    uint32_t type = packed->type;
    uint32_t entry_count = packed->entry_count;
    coracle__peer__message__free_unpacked(packed, &allocator);
    if (type == 0 || type >= PEER_MESSAGE_TYPE_END || out->reason >= ERROR_COUNT) return ERR_BAD_FRAME;
    return decode_trailer(frame->trailer, entry_count, out);
}
