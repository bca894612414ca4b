/*
 * grpc_frame.h - gRPC messages in a stream of bytes, and the texts around them.
 *
 *     offset  size
 *     0       1     compressed: 0 or 1
 *     1       4     length of the message, big-endian
 *     5       n     the message
 *
 * The reassembler for one direction of one call: fed as bytes come, it yields whole messages, as views into what was fed where a message lies in
 * there whole, else of a buffer of its own, which it holds only while a message is incomplete.
 */
#ifndef CORACLE_WIRE_GRPC_FRAME_H
#define CORACLE_WIRE_GRPC_FRAME_H

#include "base/bytes.h"
#include "base/types.h"

#define GRPC_PREFIX_BYTES 5u

enum grpc_frame_result {
    GRPC_FRAME_MORE,       /* all that was fed is taken; more is needed */
    GRPC_FRAME_MESSAGE,    /* *message is whole */
    GRPC_FRAME_TOO_LARGE,  /* see grpc_frame_expected_bytes */
    GRPC_FRAME_COMPRESSED, /* nobody here can read it */
    GRPC_FRAME_MALFORMED,  /* the first byte is neither 0 nor 1; it is in `flag` */
};

/* All zero is a new one. */
struct grpc_frame {
    struct buffer partial; /* prefix included */
    bool delivered;        /* `partial` holds the message that was given out last */
    uint8_t flag;
    uint32_t length; /* of the message under way; valid once its prefix is there */
};

void grpc_frame_free(struct grpc_frame *frame);

/*
 * Takes bytes from the front of *bytes, which becomes what is left. A message's view lives until the next call, or until what
 * was fed goes. After an error the reassembler is of no more use.
 */
enum grpc_frame_result grpc_frame_next(struct grpc_frame *frame, struct bytes *bytes, size_t message_bytes_max,
                                       struct bytes *message);

/* Bytes of an incomplete message that are there, prefix included; 0 between messages. */
size_t grpc_frame_partial_bytes(const struct grpc_frame *frame);
/* What the message under way takes in all, prefix included; 0 as long as its prefix isn't there. */
size_t grpc_frame_expected_bytes(const struct grpc_frame *frame);
size_t grpc_frame_memory_bytes(const struct grpc_frame *frame);

/* Writes the prefix of an uncompressed message. */
void grpc_frame_prefix(uint8_t prefix[GRPC_PREFIX_BYTES], uint32_t length);

/* "100m": 1 to 8 digits and one of H M S m u n. What is above TIME_NS_NEVER is TIME_NS_NEVER. */
enum grpc_timeout_result {
    GRPC_TIMEOUT_OK,
    GRPC_TIMEOUT_SHORT,
    GRPC_TIMEOUT_LONG,
    GRPC_TIMEOUT_UNIT,
    GRPC_TIMEOUT_DIGITS
};
enum grpc_timeout_result grpc_timeout_parse(struct bytes text, time_ns *out);
/* The least precise unit that loses nothing, or the largest that fits; for clients. */
void grpc_timeout_write(time_ns timeout, struct buffer *out);

/* Percent-encoding of grpc-message: all but printable ASCII, and '%'. What isn't UTF-8 becomes U+FFFD. */
void grpc_text_encode(struct bytes text, struct buffer *out);
/* Bad escapes stay as they are. */
void grpc_text_decode(struct bytes encoded, struct buffer *out);

#endif
