/*
 * net.h - the port to byte streams and names.
 *
 * All calls and callbacks are on the core thread. A callback may call any function here, closing
 * its own stream included; no callback comes from within a call. After `closed` was called, or
 * after net_close or net_abort returned, a stream is gone: no further callback, no further use.
 *
 * Real: os/net.c (TCP, no delay; names resolved off the core thread). Simulated: sim/sim_net.c.
 */
#ifndef CORACLE_PORT_NET_H
#define CORACLE_PORT_NET_H

#include "base/bytes.h"
#include "base/error.h"
#include "base/types.h"

struct net_stream;   /* defined by the implementation */
struct net_listener; /* likewise */

enum net_close_reason {
    NET_CLOSED_BY_PEER, /* an orderly end */
    NET_RESET,          /* the peer's process is gone or gave up on the stream */
    NET_CONNECT_FAILED, /* refused, unreachable, timed out, or the name has no address */
};

struct net_stream_handler {
    /* An outgoing stream is connected. */
    void (*connected)(void *user);
    /* Bytes arrived; a view until the callback returns. */
    void (*received)(void *user, struct bytes bytes);
    /* All that was queued has been handed to the operating system. */
    void (*drained)(void *user);
    /* The peer ended its direction in order, and may still read: the stream lives until the callee closes it. May be
       NULL, and a simulated peer never ends only one direction: then it is closed(NET_CLOSED_BY_PEER). */
    void (*ended)(void *user);
    void (*closed)(void *user, enum net_close_reason reason);
};

struct net_listener_handler {
    /* `stream` belongs to the callee, who must net_attach it or close it before returning.
       `peer` is its address as text, a view until the callback returns. */
    void (*accepted)(void *user, struct net_stream *stream, const char *peer);
};

struct net {
    const struct net_operations *operations;
    char error_text[256]; /* of the last listen that failed */
};

struct net_operations {
    /* Port 0 takes any free one. ERR_ADDRESS_IN_USE, ERR_NO_PERMISSION, ERR_NETWORK. */
    enum error (*listen)(struct net *net, const char *host, uint16_t port, const struct net_listener_handler *handler,
                         void *user, struct net_listener **out);
    uint16_t (*listener_port)(struct net_listener *listener);
    void (*stop_listening)(struct net_listener *listener);
    /* Never fails at once: failure arrives as closed(NET_CONNECT_FAILED). */
    struct net_stream *(*connect)(struct net *net, const char *host, uint16_t port,
                                  const struct net_stream_handler *handler, void *user);
    void (*attach)(struct net_stream *stream, const struct net_stream_handler *handler, void *user);
    /* Sends now what the operating system takes; the rest is copied and queued. The bytes stay the caller's.
       Before `connected`, all is queued. A failure arrives as `closed`. */
    void (*write)(struct net_stream *stream, const struct bytes *parts, size_t part_count);
    /* Bytes that are queued and not yet handed over. */
    size_t (*queued_bytes)(const struct net_stream *stream);
    /* Stops and resumes `received`; the back-pressure reaches the sender. */
    void (*pause)(struct net_stream *stream, bool paused);
    /* Sends what is queued, then ends the stream in order. */
    void (*close)(struct net_stream *stream);
    /* Drops what is queued and resets the stream. */
    void (*abort)(struct net_stream *stream);
};

static inline enum error net_listen(struct net *net, const char *host, uint16_t port,
                                    const struct net_listener_handler *handler, void *user, struct net_listener **out)
{
    return net->operations->listen(net, host, port, handler, user, out);
}
static inline uint16_t net_listener_port(struct net *net, struct net_listener *listener)
{
    return net->operations->listener_port(listener);
}
static inline void net_stop_listening(struct net *net, struct net_listener *listener)
{
    net->operations->stop_listening(listener);
}
static inline struct net_stream *net_connect(struct net *net, const char *host, uint16_t port,
                                             const struct net_stream_handler *handler, void *user)
{
    return net->operations->connect(net, host, port, handler, user);
}
static inline void net_attach(struct net *net, struct net_stream *stream, const struct net_stream_handler *handler,
                              void *user)
{
    net->operations->attach(stream, handler, user);
}
static inline void net_write(struct net *net, struct net_stream *stream, const struct bytes *parts, size_t part_count)
{
    net->operations->write(stream, parts, part_count);
}
static inline size_t net_queued_bytes(struct net *net, const struct net_stream *stream)
{
    return net->operations->queued_bytes(stream);
}
static inline void net_pause(struct net *net, struct net_stream *stream, bool paused)
{
    net->operations->pause(stream, paused);
}
static inline void net_close(struct net *net, struct net_stream *stream)
{
    net->operations->close(stream);
}
static inline void net_abort(struct net *net, struct net_stream *stream)
{
    net->operations->abort(stream);
}

#endif
