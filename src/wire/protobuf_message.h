/*
 * protobuf_message.h - whole messages unpacked into protobuf-c's structs, after a check that makes this safe.
 *
 * protobuf-c recurses, copies, and takes up to a hundred times a message's bytes. So each message is read through
 * before it, without recursion and allocation, and its depth and the memory that it would take are limited. Besides,
 * strings must be UTF-8 (as proto3 says) without zero bytes (which C's strings can't hold), and a singular submessage may
 * come only once (no encoder writes it twice, and protobuf-c's merging takes quadratic time).
 *
 * Unknown fields are ignored. A known field with another wire type makes the message malformed.
 */
#ifndef CORACLE_WIRE_PROTOBUF_MESSAGE_H
#define CORACLE_WIRE_PROTOBUF_MESSAGE_H

#include <protobuf-c/protobuf-c.h>

#include "base/arena.h"
#include "base/bytes.h"

/*
 * Messages within one another. etcd allows at most 128 transactions within one another, two levels each, and what they
 * hold. protobuf-c needs about 1 KiB of stack for a level; with sanitizers, twice that.
 */
#define PROTOBUF_DEPTH_MAX 320u

/*
 * What one message may unpack to. The largest request that etcd takes, 1.5 MiB, needs 38 MiB if it consists of the
 * smallest puts that there are, and 3 MiB if their values have 256 bytes.
 */
#define PROTOBUF_MEMORY_BYTES_MAX (64u << 20)

enum protobuf_verdict {
    PROTOBUF_GOOD,
    PROTOBUF_MALFORMED,
    PROTOBUF_TOO_DEEP,  /* more than PROTOBUF_DEPTH_MAX; what is below that depth wasn't looked at */
    PROTOBUF_TOO_LARGE, /* it would take more memory than allowed */
};

/*
 * Checks that `message` may be unpacked as `type`, and says in *memory_bytes (if not NULL) at most how much of an arena
 * that takes. If it may not, a sentence for the client is appended to *problem (if not NULL).
 */
enum protobuf_verdict protobuf_check(const ProtobufCMessageDescriptor *type, struct bytes message,
                                     size_t memory_bytes_max, size_t *memory_bytes, struct buffer *problem);

/*
 * Checks and unpacks. *out is a struct of `type`, all of it in `arena`: it ends with the arena's reset, never with
 * protobuf-c's free. It refers to nothing in `message`.
 */
enum protobuf_verdict protobuf_unpack(const ProtobufCMessageDescriptor *type, struct bytes message,
                                      size_t memory_bytes_max, struct arena *arena, ProtobufCMessage **out,
                                      struct buffer *problem);

/* Appends a message as protobuf. Its depth must be within PROTOBUF_DEPTH_MAX. */
void protobuf_pack(const ProtobufCMessage *message, struct buffer *out);

#endif
