/*
 * peers.h - connections to the other members. (MembershipManager, RaftProtobufServer, RaftProtobufClient)
 *
 * Between two members there is one connection, which the one with the smaller member id makes; frames are those of
 * replica/peer_codec.h. Both ends greet first. A greeting that doesn't fit (other cluster, protocol, stranger, older
 * incarnation) ends the connection, is logged once, and harms nothing; so does a malformed frame. Of two processes that claim to
 * be one member, the one that came first stays, unless only the other knows a cluster.
 *
 * Messages gather in the connection's buffer until peers_flush, one write for a turn. Nothing is kept for a member without a
 * connection: consensus repeats what matters. A connection on which nothing arrives for rpc_timeout is reset, and one that
 * hasn't greeted by then, whatever arrives; an idle one is kept alive by repeating the greeting. Reconnecting goes on for ever, with backoff up to PEERS_BACKOFF_MAX.
 */
#ifndef CORACLE_DRIVE_PEERS_H
#define CORACLE_DRIVE_PEERS_H

#include "drive/drive.h"
#include "replica/peer_codec.h"

#define PEERS_BACKOFF_MIN (10 * TIME_NS_PER_MS)
#define PEERS_BACKOFF_MAX (1000 * TIME_NS_PER_MS)
/* A connection that has more than this to send is reset. */
#define PEERS_QUEUE_BYTES_MAX (64u * 1024 * 1024)
/* Connections that haven't greeted yet; more are refused. */
#define PEERS_STRANGERS_MAX 32u

struct peers;

struct peers_handler {
    /* A member greeted: for the first time on this connection, or again with other content (`changed`). Return false to
       refuse it, with *reason set. */
    bool (*greeted)(void *user, const struct peer_greeting *greeting, enum error *reason);
    /* The connection is ready for messages; may come only after `greeted` returned true. */
    void (*connected)(void *user, const struct peer_greeting *greeting);
    void (*lost)(void *user, member_id member, bool crashed);
    /* Borrowed. */
    void (*message)(void *user, const struct peer_message *message);
};

struct peers *peers_new(const struct drive_config *config, const struct drive_ports *ports,
                        const struct peers_handler *handler, void *user);
void peers_free(struct peers *peers);

/* Listens and begins to connect, with `greeting`. ERR_ADDRESS_IN_USE, …; the text is in ports->net->error_text. */
enum error peers_start(struct peers *peers, const struct peer_greeting *greeting);
/* Changes the greeting and sends it on the open connections too. */
void peers_greet_again(struct peers *peers, const struct peer_greeting *greeting);

/* Encodes into the connection's buffer; dropped when there is none. Borrowed. */
void peers_send(struct peers *peers, const struct peer_message *message);
void peers_flush(struct peers *peers);

/* Says goodbye on every connection, and closes them and the listener. */
void peers_stop(struct peers *peers);

void peers_tick(struct peers *peers, time_ns now);
time_ns peers_deadline(const struct peers *peers);

/* Whether any member is connected at the moment. */
bool peers_any_connected(const struct peers *peers);

/* For status: fills in host->peers and the byte counters. */
void peers_report(const struct peers *peers, struct api_host *host);

#endif
