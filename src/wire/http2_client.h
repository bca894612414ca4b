/*
 * http2_client.h - the client's side of one HTTP/2 connection, for gRPC calls only: bytes in, messages out; and back.
 *
 * For our own commands, the load generator and the simulator. No socket, no clock. Flow control of answers is automatic: a
 * message is delivered when it is whole, and an owner that is slow doesn't feed. As many calls as one likes may be opened; those above the
 * server's limit wait. Not done: plain requests, compression, deadlines (the server is told the timeout; the owner cancels).
 */
#ifndef CORACLE_WIRE_HTTP2_CLIENT_H
#define CORACLE_WIRE_HTTP2_CLIENT_H

#include "wire/grpc.h"

struct http2_client;
struct http2_client_call; /* from its opening until `closed` returns */

/* How a call ended. */
struct http2_client_outcome {
    enum grpc_status status;
    struct bytes text; /* decoded; lives until `closed` returns */
    bool answered;     /* the status is the server's word; else the connection's, or ours */
    bool undone;       /* the server certainly did nothing: it may be sent again elsewhere */
};

/* Called inside http2_client_feed, http2_client_out and http2_client_free. They may call everything here but these three. None may be NULL. */
struct http2_client_handler {
    void (*message)(void *user, struct http2_client_call *call, struct bytes message);
    /* What waits to be sent fell to the call's mark. */
    void (*drained)(void *user, struct http2_client_call *call);
    /* The last of this call. Each one that was opened is closed once. */
    void (*closed)(void *user, struct http2_client_call *call, const struct http2_client_outcome *outcome);
};

/* `handler` and `user` are borrowed for the connection's life; `authority` ("host:port") is copied. */
struct http2_client *http2_client_new(const char *authority, size_t message_bytes_max,
                                      const struct http2_client_handler *handler, void *user);
/* Closes all calls, as UNAVAILABLE. `undone` is true for those of which no byte was given out. */
void http2_client_free(struct http2_client *client);

/* All bytes are taken. */
void http2_client_feed(struct http2_client *client, struct bytes bytes);
/* As http2_out. */
bool http2_client_out(struct http2_client *client, struct buffer *out, size_t bytes_max);
bool http2_client_wants_out(const struct http2_client *client);
/* True: no new calls here; the server said goodbye, or the connection is broken. Calls under way may still be answered. */
bool http2_client_leaving(const struct http2_client *client);
/* True: close the socket. */
bool http2_client_done(const struct http2_client *client);
uint32_t http2_client_call_count(const struct http2_client *client);
/* For a keepalive: sends a ping; how many were answered. etcd's servers allow one every 5 s. */
void http2_client_ping(struct http2_client *client);
uint64_t http2_client_pong_count(const struct http2_client *client);
size_t http2_client_memory_bytes(const struct http2_client *client);

/*
 * Opens a call of `path`; the constant fields' memory must outlive the connection, that of others and the path's is copied. `timeout` is for the server, TIME_NS_NEVER
 * for none. Must not be leaving.
 */
struct http2_client_call *http2_client_open(struct http2_client *client, struct bytes path, time_ns timeout,
                                            const struct http2_field *metadata, size_t metadata_count, void *user);
/* As grpc_call_send and grpc_call_send_buffer. */
void http2_client_send(struct http2_client_call *call, struct bytes message);
struct buffer *http2_client_send_buffer(struct http2_client_call *call);
void http2_client_sent(struct http2_client_call *call);
/* No further message. A unary call: open, send, end. */
void http2_client_end(struct http2_client_call *call);
/* Gives it up; `closed` comes later, in http2_client_out. */
void http2_client_cancel(struct http2_client_call *call);
void *http2_client_call_user(const struct http2_client_call *call);
size_t http2_client_waiting_bytes(const struct http2_client_call *call);
void http2_client_set_mark(struct http2_client_call *call, size_t bytes);

#endif
