/*
 * grpc_rig.h - a connection of gRPC with an owner that writes down what it is told and does little, for tests of wire/grpc.h.
 *
 * The owner's reaction is in the path:
 *     /t/Echo     answers each message with itself, and OK at the end
 *     /t/Unary    answers the first message with itself, and OK at once
 *     /t/Fail     fails at once with code 5 and "no: 100% über"
 *     /t/Silent   does nothing by itself
 *     /t/Hold     holds the call from the beginning
 *     /t/Stream   begins the answer at once, and nothing else
 *     any plain path answers "body=N query=…" with 200; /wait answers nothing
 */
#ifndef CORACLE_TEST_GRPC_RIG_H
#define CORACLE_TEST_GRPC_RIG_H

#include "http2_frames.h"
#include "wire/grpc.h"

struct grpc_rig {
    struct grpc *grpc;
    struct frame_reader reader;
    struct buffer in;     /* what the test is about to send */
    struct buffer events; /* what the owner was told, a line each */
    struct buffer sent;   /* frames of the server, a line each */
    time_ns now;
    size_t piece;     /* feed in pieces of so many bytes; 0: whole */
    size_t out_max;   /* for grpc_out */
    size_t out_bytes; /* what the server sent in all */
    uint32_t drained_count;
    size_t refill; /* on drained, send a message of so many bytes, and mark again */
    bool quiet;    /* no lines for messages and the like */
};

void rig_begin(struct grpc_rig *rig, const struct grpc_limits *limits);
/* Sends the greeting, and takes the server's. */
void rig_greet(struct grpc_rig *rig);
void rig_end(struct grpc_rig *rig);

/* Feeds `in`, and clears it. */
void rig_feed(struct grpc_rig *rig);
/* Feeds, and takes all that the server wants to send. */
void rig_turn(struct grpc_rig *rig);

/* Compares and clears. `expected` has a line each, ended by \n. */
void rig_expect_events(struct grpc_rig *rig, const char *expected);
void rig_expect_sent(struct grpc_rig *rig, const char *expected);
/* That a line which begins so is among what was sent; doesn't clear. */
bool rig_sent(const struct grpc_rig *rig, const char *beginning);
void rig_clear(struct grpc_rig *rig);

#endif
