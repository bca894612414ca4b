/*
 * net.h - the real network: TCP on non-blocking sockets, watched by the event loop.
 *
 * Written on uv_poll rather than uv_tcp: one recv for each readable event, one send for each write,
 * and full say in how a stream ends. What the port leaves open:
 *
 * - The kernel of a killed process sends an orderly end unless bytes for it were unread; so
 *   NET_CLOSED_BY_PEER doesn't prove that the peer meant it.
 * - Bytes that arrived before a stream broke are delivered before `closed`, even when the break shows in a write.
 * - A peer that has only ended its own direction is NET_CLOSED_BY_PEER too; what is queued for it
 *   is still sent.
 * - While a stream is paused, its orderly end waits until it is resumed; a reset may wait likewise.
 * - net_close sends what is queued, ends our direction, and reads on for a while, dropping what comes:
 *   closing a socket that has unread bytes would reset it, and the peer could lose the end of an answer.
 *   A peer that neither takes nor ends is cut off: see the limits.
 * - A stream that was closed before it was connected still connects to send what is queued.
 */
#ifndef CORACLE_OS_NET_H
#define CORACLE_OS_NET_H

#include "base/log.h"
#include "os/loop.h"
#include "port/net.h"

#define NET_RECEIVE_BYTES 65536 /* the buffer that all streams share, and so the most for one `received` */
#define NET_BACKLOG 1024
#define NET_ACCEPTS_PER_EVENT 32        /* then other streams have their turn */
#define NET_ACCEPT_PAUSE_MS 100         /* after running out of descriptors or memory */
#define NET_CONNECT_RETRIES 2           /* of the first packet: an address that doesn't answer takes about 7 s */
#define NET_CLOSE_SEND_MS 30000         /* for the peer to take what was queued when the stream was closed */
#define NET_CLOSE_DROP_MS 2000          /* for the peer to end, after we did */
#define NET_CLOSE_DROP_BYTES (1u << 20) /* of a peer that goes on sending after we closed */

struct os_net;

/* `loop` and `logger` are borrowed. Free it with os_net_free, before the loop. */
struct os_net *os_net_new(struct os_loop *loop, struct logger *logger);

/* The port; lives until os_net_free. */
struct net *os_net_port(struct os_net *net);

/* Streams that are open, closing ones included; for metrics. */
size_t os_net_stream_count(const struct os_net *net);

/* Ends all streams and listeners without a further callback. What is queued is offered to the system once. */
void os_net_free(struct os_net *net);

#endif
