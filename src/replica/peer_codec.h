/*
 * peer_codec.h - peer messages as bytes: frames of a protobuf message and opaque entries. (RaftProtobufServer's and
 * RaftProtobufClient's format)
 *
 * A connection begins, both ways, with a greeting frame; then message frames. A frame:
 *
 *          0  4   frame bytes after this header, at most PEER_FRAME_BYTES_MAX
 *          4  4   crc32c of bytes 8 to the end of the frame
 *          8  4   bytes of the protobuf message
 *         12  4   kind: 1 greeting, 2 message
 *         16  …   the protobuf message (proto/peer.proto: Greeting or Message), then
 *                 the entries' records (base/entry.h) or the snapshot chunk, unchanged
 *
 * The greeting says who speaks, to which cluster, which protocol versions, and in which incarnation; it is the first
 * frame, sent by both ends. A first frame that isn't a greeting, or isn't acceptable, ends the connection.
 */
#ifndef CORACLE_REPLICA_PEER_CODEC_H
#define CORACLE_REPLICA_PEER_CODEC_H

#include "base/peer_message.h"
#include "base/types.h"

#define PEER_PROTOCOL_VERSION 1u
#define PEER_FRAME_HEADER_BYTES 16u
#define PEER_FRAME_BYTES_MAX (16u * 1024 * 1024)
#define PEER_PROTOBUF_BYTES_MAX 4096u

struct peer_greeting {
    uint32_t version_min, version_max;
    uint64_t cluster_id; /* 0: being founded, or wiped */
    member_id member;
    char node_id[NODE_ID_BYTES_MAX + 1];
    uint64_t incarnation;
    uint64_t founding_nonce;
    uint64_t membership_hash; /* of the configured members' node ids */
    raft_term term;           /* the sender's durable term */
    char product[32];         /* "coracle 0.1.0" */
};

/* Both append one frame to `out`. */
void peer_greeting_encode(const struct peer_greeting *greeting, struct buffer *out);
void peer_message_encode(const struct peer_message *message, struct buffer *out);

enum peer_frame_kind { PEER_FRAME_GREETING = 1, PEER_FRAME_MESSAGE = 2 };

/*
 * Looks at the front of `bytes`: ERR_OK with the whole frame's size and its parts; ERR_NOT_READY when more bytes are
 * needed (*frame_bytes: how many in all, or 0 when unknown); ERR_BAD_FRAME.
 */
struct peer_frame {
    enum peer_frame_kind kind;
    struct bytes message; /* protobuf */
    struct bytes trailer; /* entries or chunk */
};
enum error peer_frame_next(struct bytes bytes, struct peer_frame *out, size_t *frame_bytes);

/* ERR_BAD_FRAME; strings that are too long are an error too. */
enum error peer_greeting_decode(const struct peer_frame *frame, struct peer_greeting *out);
/* Entries are new, one allocation each; peer_message_release frees them. `data` is a view into the frame.
   ERR_BAD_FRAME. */
enum error peer_message_decode(const struct peer_frame *frame, struct peer_message *out);

#endif
