#include "drive/peers.h"

#include "base/check.h"
#include "base/mem.h"
#include "base/random.h"

#include <stdio.h>

/* A stranger may make us keep this much, and no more. */
#define GREETING_BYTES_MAX (PEER_FRAME_HEADER_BYTES + PEER_PROTOBUF_BYTES_MAX)

#define STRANGER_ADDRESS_BYTES 64u
/* A member that doesn't dial us is missed after so many times rpc_timeout. */
#define MISSED_AFTER 2

struct peer;

/* One stream, before and after it is known whose it is. */
struct connection {
    struct peers *peers;
    struct connection *next; /* in peers->connections */
    struct net_stream *stream;
    struct peer *peer; /* known from the start when outgoing, else after the greeting */
    bool outgoing;
    bool open;                            /* outgoing: connected */
    bool greeted;                         /* the other end's greeting was accepted, and `connected` reported */
    bool goodbye;                         /* the other end closes on purpose */
    bool dead;                            /* the stream is gone; freed at the end of the callback that found out */
    char address[STRANGER_ADDRESS_BYTES]; /* incoming: where from */
    time_ns since;
    time_ns last_received;
    time_ns last_sent;
    struct buffer in;
    struct buffer out;
};

struct peer {
    const struct drive_member *member;
    member_id id;
    struct connection *connection; /* the one in use, or being made */
    struct peer_greeting greeting; /* the newest accepted */
    uint32_t failures;             /* since it was reachable last */
    time_ns retry_at;              /* outgoing: TIME_NS_NEVER while there is a connection */
    time_ns missed_at; /* incoming: when its absence is worth a warning; TIME_NS_NEVER: it is there, or was warned of */
    time_ns heartbeat_sent; /* 0: answered */
    time_ns round_trip;
    struct api_histogram round_trips;
    enum error refused; /* the last refusal that was logged */
    bool unreachable_logged;
    bool double_logged;
};

struct peers {
    const struct drive_config *config;
    const struct drive_ports *ports;
    const struct peers_handler *handler;
    void *user;
    member_id self;
    struct peer_greeting greeting;
    struct net_listener *listener;
    struct peer peers[MEMBERS_MAX];
    uint32_t count;
    struct connection *connections;
    uint32_t stranger_count;
    enum error stranger_refused; /* the last refusal of a stranger that was logged */
    struct random random;
    uint64_t bytes_sent, bytes_received;
    bool stopped;
};

static time_ns now_of(const struct peers *peers)
{
    return loop_now(peers->ports->loop);
}

static struct peer *find_peer(struct peers *peers, member_id id)
{
    for (uint32_t i = 0; i < peers->count; i++) {
        if (peers->peers[i].id == id) return &peers->peers[i];
    }
    return NULL;
}

struct peers *peers_new(const struct drive_config *config, const struct drive_ports *ports,
                        const struct peers_handler *handler, void *user)
{
    struct peers *peers = mem_alloc_zero(sizeof *peers);
    peers->config = config;
    peers->ports = ports;
    peers->handler = handler;
    peers->user = user;
    peers->self = member_id_of(config->node_id);
    uint64_t seed;
    loop_entropy(ports->loop, &seed, sizeof seed);
    random_seed(&peers->random, seed);
    for (uint32_t i = 0; i < config->member_count; i++) {
        member_id id = member_id_of(config->members[i].node_id);
        if (id == peers->self) continue;
        peers->peers[peers->count++] = (struct peer){
            .member = &config->members[i], .id = id, .retry_at = TIME_NS_NEVER, .missed_at = TIME_NS_NEVER};
    }
    return peers;
}

/* ---- connections ---- */

static struct connection *add_connection(struct peers *peers, struct net_stream *stream, struct peer *peer)
{
    struct connection *connection = mem_alloc_zero(sizeof *connection);
    connection->peers = peers;
    connection->stream = stream;
    connection->peer = peer;
    connection->outgoing = peer != NULL;
    connection->since = now_of(peers);
    connection->last_received = connection->since;
    connection->next = peers->connections;
    peers->connections = connection;
    if (peer == NULL) peers->stranger_count++;
    return connection;
}

/* Marks it for release_dead: its callbacks may still be on the stack. */
static void bury(struct connection *connection)
{
    if (!connection->dead && connection->peer == NULL) connection->peers->stranger_count--;
    connection->dead = true;
    connection->stream = NULL;
}

static void release_dead(struct peers *peers)
{
    struct connection **link = &peers->connections;
    while (*link != NULL) {
        struct connection *connection = *link;
        if (!connection->dead) {
            link = &connection->next;
            continue;
        }
        *link = connection->next;
        buffer_free(&connection->in);
        buffer_free(&connection->out);
        mem_free(connection);
    }
}

static bool dials_us(const struct peers *peers, const struct peer *peer)
{
    return peer->id < peers->self; /* the smaller id connects */
}

/* Without a connection: when to try again, or to wonder where it is. */
static void plan_retry(struct peers *peers, struct peer *peer)
{
    if (peers->stopped) return;
    if (dials_us(peers, peer)) {
        peer->missed_at = now_of(peers) + MISSED_AFTER * peers->config->rpc_timeout;
        return;
    }
    time_ns backoff = PEERS_BACKOFF_MIN << (peer->failures < 7 ? peer->failures : 7);
    if (backoff > PEERS_BACKOFF_MAX) backoff = PEERS_BACKOFF_MAX;
    time_ns jitter = (time_ns)random_below(&peers->random, (uint64_t)backoff / 2 + 1);
    peer->retry_at = now_of(peers) + backoff / 2 + jitter;
}

static void note_failure(struct peers *peers, struct peer *peer)
{
    if (dials_us(peers, peer)) return;
    peer->failures++;
    if (peer->failures >= peers->config->connect_attempts_max && !peer->unreachable_logged) {
        peer->unreachable_logged = true;
        log_warn(peers->ports->logger, "a member can't be reached", "node=%s address=%s:%u attempts=%u",
                 peer->member->node_id, peer->member->rpc_host, peer->member->rpc_port, peer->failures);
    }
}

/* The connection is of no further use; `crashed` says how the member's end is judged. */
static void end_connection(struct connection *connection, bool crashed)
{
    struct peers *peers = connection->peers;
    struct peer *peer = connection->peer;
    bool was_in_use = peer != NULL && peer->connection == connection;
    bool was_greeted = connection->greeted;
    if (connection->stream != NULL) net_abort(peers->ports->net, connection->stream);
    bury(connection);
    if (!was_in_use) return;
    peer->connection = NULL;
    peer->heartbeat_sent = 0;
    if (!was_greeted) note_failure(peers, peer);
    plan_retry(peers, peer);
    if (was_greeted) {
        log_info(peers->ports->logger, "lost the connection to a member", "node=%s crashed=%d", peer->member->node_id,
                 crashed && !connection->goodbye);
        peers->handler->lost(peers->user, peer->id, crashed && !connection->goodbye);
    }
}

/* `what` tells it apart from other refusals for the same reason. */
static void refuse(struct connection *connection, enum error reason, const char *what)
{
    struct peers *peers = connection->peers;
    const struct peer *peer = connection->peer;
    enum error *logged = peer != NULL ? &connection->peer->refused : &peers->stranger_refused;
    if (*logged != reason) {
        log_warn(peers->ports->logger, "refused a peer", "node=%s address=%s code=%s what=\"%s\"",
                 peer != NULL ? peer->member->node_id : "unknown",
                 connection->outgoing ? peer->member->rpc_host : connection->address, error_code(reason), what);
    }
    *logged = reason;
    end_connection(connection, false);
}

static void send_greeting(struct connection *connection)
{
    peer_greeting_encode(&connection->peers->greeting, &connection->out);
}

static void flush_connection(struct connection *connection)
{
    struct peers *peers = connection->peers;
    if (connection->dead || !connection->open || connection->out.size == 0) return;
    struct bytes part = buffer_bytes(&connection->out);
    connection->last_sent = now_of(peers);
    peers->bytes_sent += part.size;
    net_write(peers->ports->net, connection->stream, &part, 1);
    buffer_clear(&connection->out);
    if (connection->out.capacity > 1024 * 1024) buffer_free(&connection->out);
    if (net_queued_bytes(peers->ports->net, connection->stream) > PEERS_QUEUE_BYTES_MAX) {
        end_connection(connection, true);
    }
}

/* ---- what arrives ---- */

/* A message for a person who reads a trace: what it is, and the fields that its kind uses. */
static void log_message(struct peers *peers, const char *arrow, const struct peer *peer,
                        const struct peer_message *message)
{
    if (peers->ports->logger->level > LOG_LEVEL_DEBUG) return;
    struct buffer text = {0};
    buffer_append_format(&text, "%s %s term=%llu", peer->member->node_id, peer_message_type_name(message->type),
                         (unsigned long long)message->term);
    if (message->entry_count > 0) {
        buffer_append_format(&text, " entries %llu..%llu", (unsigned long long)message->index + 1,
                             (unsigned long long)message->index + message->entry_count);
    }
    buffer_append_format(&text, " index=%llu", (unsigned long long)message->index);
    const struct {
        const char *name;
        uint64_t value;
    } fields[] = {
        {"log_term", message->log_term},   {"commit", message->commit},   {"hint_index", message->hint_index},
        {"hint_term", message->hint_term}, {"context", message->context}, {"offset", message->offset},
        {"total", message->total},
    };
    for (size_t i = 0; i < ARRAY_COUNT(fields); i++) {
        if (fields[i].value == 0) continue;
        buffer_append_format(&text, " %s=%llu", fields[i].name, (unsigned long long)fields[i].value);
    }
    if (message->rejected) buffer_append_string(&text, " rejected");
    if (message->uncertain) buffer_append_string(&text, " uncertain");
    log_debug(peers->ports->logger, arrow, "%.*s", (int)text.size, (const char *)text.data);
    buffer_free(&text);
}

/* Whether a repeated greeting says anything new; the term may move on. */
static bool same_greeting(const struct peer_greeting *a, const struct peer_greeting *b)
{
    return a->cluster_id == b->cluster_id && a->incarnation == b->incarnation &&
           a->founding_nonce == b->founding_nonce && a->membership_hash == b->membership_hash;
}

/*
 * Whether another process than the one that we are connected to claims to be this member. A member that starts again comes
 * with the nonce that it had; one that was wiped comes with another, but then its old connection ends, or is silent soon.
 * Of two, that one stays that knows a cluster, or came first.
 */
static bool is_second_process(const struct connection *connection, const struct peer *peer,
                              const struct peer_greeting *greeting)
{
    const struct connection *current = peer->connection;
    if (current == NULL || current == connection || current->dead || !current->greeted) return false;
    if (greeting->founding_nonce == peer->greeting.founding_nonce) return false;
    return greeting->cluster_id == 0 || peer->greeting.cluster_id != 0;
}

static void refuse_double(struct connection *connection, struct peer *peer)
{
    struct peers *peers = connection->peers;
    if (!peer->double_logged) {
        log_warn(peers->ports->logger, "two processes claim to be the same member, refusing the newer one",
                 "node=%s connected_from=%s refused_from=%s", peer->member->node_id,
                 peer->connection->outgoing ? peer->member->rpc_host : peer->connection->address,
                 connection->outgoing ? peer->member->rpc_host : connection->address);
    }
    peer->double_logged = true;
    end_connection(connection, false);
}

/* Makes this the member's connection. */
static bool adopt(struct connection *connection, struct peer *peer)
{
    struct connection *old = peer->connection;
    if (old != NULL && old != connection) end_connection(old, false);
    if (connection->peer == NULL) {
        connection->peer = peer;
        connection->peers->stranger_count--;
    }
    peer->connection = connection;
    peer->retry_at = TIME_NS_NEVER;
    peer->missed_at = TIME_NS_NEVER;
    return !connection->dead;
}

static void on_greeting(struct connection *connection, const struct peer_frame *frame)
{
    struct peers *peers = connection->peers;
    struct peer_greeting greeting;
    if (peer_greeting_decode(frame, &greeting) != ERR_OK) {
        refuse(connection, ERR_BAD_FRAME, "a greeting that can't be read");
        return;
    }
    if (greeting.version_min > PEER_PROTOCOL_VERSION || greeting.version_max < PEER_PROTOCOL_VERSION) {
        refuse(connection, ERR_BAD_PROTOCOL, greeting.product);
        return;
    }
    struct peer *peer = find_peer(peers, greeting.member);
    bool expected = connection->peer == NULL || connection->peer == peer;
    if (peer == NULL || !expected || member_id_of(greeting.node_id) != greeting.member) {
        refuse(connection, ERR_UNKNOWN_MEMBER, greeting.node_id);
        return;
    }
    if (peer->greeting.incarnation > greeting.incarnation && peer->greeting.cluster_id == greeting.cluster_id &&
        peer->greeting.founding_nonce == greeting.founding_nonce) {
        refuse(connection, ERR_BAD_PROTOCOL, "an older incarnation");
        return;
    }
    if (connection->greeted && same_greeting(&greeting, &peer->greeting)) return; /* it keeps the connection alive */
    if (is_second_process(connection, peer, &greeting)) {
        refuse_double(connection, peer);
        return;
    }
    enum error reason = ERR_OK;
    if (!peers->handler->greeted(peers->user, &greeting, &reason)) {
        refuse(connection, reason, greeting.node_id);
        return;
    }
    if (connection->dead || !adopt(connection, peer)) return;
    peer->greeting = greeting;
    peer->failures = 0;
    peer->refused = ERR_OK;
    if (peer->unreachable_logged) {
        log_info(peers->ports->logger, "a member can be reached again", "node=%s", peer->member->node_id);
    }
    peer->unreachable_logged = false;
    connection->greeted = true;
    peers->handler->connected(peers->user, &greeting);
}

static void on_message(struct connection *connection, const struct peer_frame *frame)
{
    struct peers *peers = connection->peers;
    struct peer *peer = connection->peer;
    if (!connection->greeted) {
        refuse(connection, ERR_BAD_PROTOCOL, "a message before the greeting");
        return;
    }
    struct peer_message message;
    if (peer_message_decode(frame, &message) != ERR_OK) {
        refuse(connection, ERR_BAD_FRAME, "a message that can't be read");
        return;
    }
    log_message(peers, "<-", peer, &message);
    if (message.from != peer->id || message.to != peers->self) {
        refuse(connection, ERR_BAD_FRAME, "a message in another member's name");
    } else if (message.type == PEER_GOODBYE) {
        connection->goodbye = true;
    } else {
        if (message.type == PEER_APPEND_REPLY && peer->heartbeat_sent != 0) {
            peer->round_trip = now_of(peers) - peer->heartbeat_sent;
            peer->heartbeat_sent = 0;
            api_histogram_add(&peer->round_trips, peer->round_trip);
        }
        peers->handler->message(peers->user, &message);
    }
    peer_message_release(&message);
}

static void on_received(void *user, struct bytes bytes)
{
    struct connection *connection = user;
    struct peers *peers = connection->peers;
    connection->last_received = now_of(peers);
    peers->bytes_received += bytes.size;
    /* Whole frames are read in place; only a rest is kept. */
    bool buffered = connection->in.size > 0;
    if (buffered) buffer_append(&connection->in, bytes.data, bytes.size);
    struct bytes left = buffered ? buffer_bytes(&connection->in) : bytes;
    while (!connection->dead && left.size > 0) {
        struct peer_frame frame;
        size_t frame_bytes = 0;
        enum error error = peer_frame_next(left, &frame, &frame_bytes);
        if (error == ERR_NOT_READY && !connection->greeted && frame_bytes > GREETING_BYTES_MAX) error = ERR_BAD_FRAME;
        if (error == ERR_NOT_READY) break;
        if (error != ERR_OK) {
            refuse(connection, error, "a garbled frame");
            break;
        }
        if (frame.kind == PEER_FRAME_GREETING) {
            on_greeting(connection, &frame);
        } else {
            on_message(connection, &frame);
        }
        left = bytes_of(left.data + frame_bytes, left.size - frame_bytes);
    }
    if (!connection->dead) {
        if (buffered) {
            buffer_consume(&connection->in, connection->in.size - left.size);
            if (connection->in.size == 0) buffer_free(&connection->in);
        } else {
            buffer_append(&connection->in, left.data, left.size);
        }
    }
}

static void on_connected(void *user)
{
    struct connection *connection = user;
    connection->open = true;
    connection->last_received = now_of(connection->peers);
    send_greeting(connection);
}

static void on_drained(void *user)
{
    (void)user;
}

static void on_closed(void *user, enum net_close_reason reason)
{
    struct connection *connection = user;
    connection->stream = NULL;
    /* A killed process ends its streams with or without a reset; only a goodbye tells a stop on purpose. */
    end_connection(connection, reason != NET_CONNECT_FAILED);
}

static const struct net_stream_handler stream_handler = {
    .connected = on_connected, .received = on_received, .drained = on_drained, .closed = on_closed};

static void on_accepted(void *user, struct net_stream *stream, const char *address)
{
    struct peers *peers = user;
    if (peers->stranger_count >= PEERS_STRANGERS_MAX) {
        net_abort(peers->ports->net, stream);
        return;
    }
    struct connection *connection = add_connection(peers, stream, NULL);
    connection->open = true;
    snprintf(connection->address, sizeof connection->address, "%s", address);
    net_attach(peers->ports->net, stream, &stream_handler, connection);
    send_greeting(connection);
}

static const struct net_listener_handler listener_handler = {.accepted = on_accepted};

static void dial(struct peers *peers, struct peer *peer)
{
    peer->retry_at = TIME_NS_NEVER;
    struct connection *connection = add_connection(peers, NULL, peer);
    peer->connection = connection;
    connection->stream =
        net_connect(peers->ports->net, peer->member->rpc_host, peer->member->rpc_port, &stream_handler, connection);
}

/* ---- the outside ---- */

enum error peers_start(struct peers *peers, const struct peer_greeting *greeting)
{
    peers->greeting = *greeting;
    enum error error = net_listen(peers->ports->net, peers->config->listen_host, peers->config->rpc_port,
                                  &listener_handler, peers, &peers->listener);
    if (error != ERR_OK) return error;
    for (uint32_t i = 0; i < peers->count; i++) {
        struct peer *peer = &peers->peers[i];
        if (dials_us(peers, peer)) {
            plan_retry(peers, peer);
        } else {
            dial(peers, peer);
        }
    }
    return ERR_OK;
}

void peers_greet_again(struct peers *peers, const struct peer_greeting *greeting)
{
    peers->greeting = *greeting;
    for (struct connection *connection = peers->connections; connection != NULL; connection = connection->next) {
        if (!connection->dead && connection->open) send_greeting(connection);
    }
}

void peers_send(struct peers *peers, const struct peer_message *message)
{
    struct peer *peer = find_peer(peers, message->to);
    if (peer == NULL || peer->connection == NULL || !peer->connection->greeted || peer->connection->dead) return;
    /* The newest counts: an idle follower doesn't answer every one. */
    if (message->type == PEER_APPEND && message->entry_count == 0) peer->heartbeat_sent = now_of(peers);
    log_message(peers, "->", peer, message);
    peer_message_encode(message, &peer->connection->out);
}

void peers_flush(struct peers *peers)
{
    for (struct connection *connection = peers->connections; connection != NULL; connection = connection->next) {
        flush_connection(connection);
    }
    release_dead(peers);
}

void peers_stop(struct peers *peers)
{
    peers->stopped = true;
    if (peers->listener != NULL) net_stop_listening(peers->ports->net, peers->listener);
    peers->listener = NULL;
    for (struct connection *connection = peers->connections; connection != NULL; connection = connection->next) {
        if (connection->dead) continue;
        if (connection->greeted) {
            struct peer_message goodbye = {.type = PEER_GOODBYE, .from = peers->self, .to = connection->peer->id};
            peer_message_encode(&goodbye, &connection->out);
            flush_connection(connection);
        }
        if (connection->dead) continue;
        if (connection->peer != NULL && connection->peer->connection == connection) connection->peer->connection = NULL;
        net_close(peers->ports->net, connection->stream);
        bury(connection);
    }
    release_dead(peers);
}

void peers_free(struct peers *peers)
{
    if (peers == NULL) return;
    if (peers->listener != NULL) net_stop_listening(peers->ports->net, peers->listener);
    for (struct connection *connection = peers->connections; connection != NULL; connection = connection->next) {
        if (connection->stream != NULL) net_abort(peers->ports->net, connection->stream);
        bury(connection);
    }
    release_dead(peers);
    mem_free(peers);
}

/* A member that says nothing for this long is cut off; its own pings come twice as often. */
static time_ns silence_max(const struct peers *peers)
{
    return peers->config->rpc_timeout;
}

/* To greet takes one frame: a stranger whose bytes trickle in doesn't hold its place with them. */
static time_ns patience_end(const struct connection *connection)
{
    return (connection->greeted ? connection->last_received : connection->since) + silence_max(connection->peers);
}

/* The member that dials says why a connection fails; this one knows only that there is none. */
static void warn_missed(struct peers *peers, struct peer *peer)
{
    peer->missed_at = TIME_NS_NEVER;
    peer->unreachable_logged = true;
    log_warn(peers->ports->logger, "a member is away", "node=%s address=%s:%u", peer->member->node_id,
             peer->member->rpc_host, peer->member->rpc_port);
}

void peers_tick(struct peers *peers, time_ns now)
{
    if (peers->stopped) return;
    for (struct connection *connection = peers->connections; connection != NULL; connection = connection->next) {
        if (connection->dead) continue;
        if (now >= patience_end(connection)) {
            end_connection(connection, false);
        } else if (connection->open && connection->greeted && now >= connection->last_sent + silence_max(peers) / 2) {
            send_greeting(connection);
        }
    }
    for (uint32_t i = 0; i < peers->count; i++) {
        struct peer *peer = &peers->peers[i];
        if (peer->connection == NULL && now >= peer->retry_at) dial(peers, peer);
        if (now >= peer->missed_at) warn_missed(peers, peer);
    }
}

time_ns peers_deadline(const struct peers *peers)
{
    time_ns deadline = TIME_NS_NEVER;
    if (peers->stopped) return deadline;
    for (const struct connection *connection = peers->connections; connection != NULL; connection = connection->next) {
        if (connection->dead) continue;
        time_ns silent = patience_end(connection);
        time_ns ping = connection->greeted ? connection->last_sent + silence_max(peers) / 2 : silent;
        if (silent < deadline) deadline = silent;
        if (ping < deadline) deadline = ping;
    }
    for (uint32_t i = 0; i < peers->count; i++) {
        const struct peer *peer = &peers->peers[i];
        if (peer->connection == NULL && peer->retry_at < deadline) deadline = peer->retry_at;
        if (peer->missed_at < deadline) deadline = peer->missed_at;
    }
    return deadline;
}

bool peers_any_connected(const struct peers *peers)
{
    for (uint32_t i = 0; i < peers->count; i++) {
        const struct connection *connection = peers->peers[i].connection;
        if (connection != NULL && connection->greeted && !connection->goodbye) return true;
    }
    return false;
}

void peers_report(const struct peers *peers, struct api_host *host)
{
    host->peer_count = peers->count;
    for (uint32_t i = 0; i < peers->count; i++) {
        const struct peer *peer = &peers->peers[i];
        bool reachable = peer->connection != NULL && peer->connection->greeted;
        host->peers[i] = (struct api_peer){
            .id = peer->id, .reachable = reachable, .round_trip = peer->round_trip, .round_trips = peer->round_trips};
    }
    host->peer_bytes_sent = peers->bytes_sent;
    host->peer_bytes_received = peers->bytes_received;
}
