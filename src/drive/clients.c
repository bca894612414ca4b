#include "drive/clients.h"

#include "base/check.h"
#include "base/mem.h"
#include "drive/client_grpc.h"
#include "wire/http2.h"

/* A request's number: the connection's slot in the low bits, its generation above, so that a late result finds nobody. */
#define SLOT_BITS 20u
_Static_assert(SLOT_BITS >= 17, "room for 100,000 connections");

struct client {
    struct clients *clients;
    struct net_stream *stream;
    struct http1_parser *parser;        /* NULL as long as it isn't clear what it speaks, and when that is HTTP/2 */
    struct client_grpc *grpc;           /* when it speaks HTTP/2 */
    uint8_t first[HTTP2_PREFACE_BYTES]; /* its first bytes, as long as they may become the preface */
    uint8_t first_bytes;
    struct api_call call;
    struct buffer out;
    uint64_t request; /* of the request under way; 0: none */
    uint32_t slot;
    uint64_t generation;
    bool dead;    /* the stream is gone; freed at the flush */
    bool closing; /* ends once its answers are sent */
    bool dirty;   /* in the list of those with something to send or to free */
    bool paused;
    bool ended;          /* the other end sends nothing more, but may read */
    size_t memory_bytes; /* its share of clients->memory_bytes */
    time_ns active;      /* when the last request began or ended */
    bool receiving;      /* a request has begun to arrive */
};

struct clients {
    const struct drive_config *config;
    const struct drive_ports *ports;
    const struct clients_handler *handler;
    void *user;
    struct api *api;
    struct client_grpc_host grpc;
    struct net_listener *listener;
    struct client **slots;
    uint32_t slot_count, slot_capacity;
    uint32_t *free_slots;
    uint32_t free_count;
    struct client **dirty;
    uint32_t dirty_count, dirty_capacity;
    uint32_t open_count;
    uint64_t generation;
    size_t memory_bytes;
    time_ns next_sweep;
    bool stopped;
    bool full_logged;
    uint64_t bytes_sent, bytes_received, requests, failed;
};

struct clients *clients_new(const struct drive_config *config, const struct drive_ports *ports, struct api *api,
                            const struct clients_handler *handler, void *user)
{
    struct clients *clients = mem_alloc_zero(sizeof *clients);
    clients->config = config;
    clients->ports = ports;
    clients->api = api;
    clients->handler = handler;
    clients->user = user;
    clients->next_sweep = TIME_NS_NEVER;
    clients->grpc = (struct client_grpc_host){.api = api, .handler = handler, .user = user};
    return clients;
}

static void mark_dirty(struct client *client)
{
    struct clients *clients = client->clients;
    if (client->dirty) return;
    client->dirty = true;
    if (clients->dirty_count == clients->dirty_capacity) {
        clients->dirty_capacity = clients->dirty_capacity == 0 ? 64 : clients->dirty_capacity * 2;
        clients->dirty = mem_realloc(clients->dirty, clients->dirty_capacity * sizeof clients->dirty[0]);
    }
    clients->dirty[clients->dirty_count++] = client;
}

static void release(struct client *client)
{
    struct clients *clients = client->clients;
    clients->slots[client->slot] = NULL;
    clients->free_slots[clients->free_count++] = client->slot;
    clients->memory_bytes -= client->memory_bytes;
    if (client->parser != NULL) http1_parser_free(client->parser);
    client_grpc_free(client->grpc);
    api_call_free(&client->call);
    buffer_free(&client->out);
    mem_free(client);
}

/* The stream is gone; the rest goes at the flush, since callbacks may be on the stack. */
static void bury(struct client *client)
{
    if (client->dead) return;
    client->dead = true;
    client->stream = NULL;
    client->clients->open_count--;
    mark_dirty(client);
}

static void drop(struct client *client)
{
    if (client->dead) return;
    net_abort(client->clients->ports->net, client->stream);
    bury(client);
}

static void count_memory(struct client *client)
{
    struct clients *clients = client->clients;
    size_t bytes = sizeof *client + client->out.capacity + net_queued_bytes(clients->ports->net, client->stream);
    if (client->parser != NULL) bytes += http1_parser_memory_bytes(client->parser);
    if (client->grpc != NULL) bytes += client_grpc_memory_bytes(client->grpc);
    clients->memory_bytes += bytes - client->memory_bytes;
    client->memory_bytes = bytes;
    if (clients->memory_bytes <= clients->config->connection_memory_max) return;
    if (!clients->full_logged) {
        log_warn(clients->ports->logger, "clients need more memory than connection_memory_max, closing some",
                 "bytes=%zu", clients->memory_bytes);
    }
    clients->full_logged = true;
    drop(client);
}

/* ---- requests ---- */

static void answered(struct client *client)
{
    client->request = 0;
    client->active = loop_now(client->clients->ports->loop);
    client->receiving = false;
    if (!client->call.keep_alive) client->closing = true;
    mark_dirty(client);
}

static void begin(struct client *client, const struct http1_request *http)
{
    struct clients *clients = client->clients;
    clients->requests++;
    enum api_wait wait = api_begin(clients->api, &client->call, http, &client->out);
    if (wait == API_DONE) {
        answered(client);
        return;
    }
    client->generation = ++clients->generation;
    client->request = client->generation << SLOT_BITS | client->slot;
    if (wait == API_PROPOSE) {
        struct entry *entry = client->call.command;
        client->call.command = NULL;
        clients->handler->propose(clients->user, client->request, entry);
    } else if (wait == API_SNAPSHOT) {
        clients->handler->want_snapshot(clients->user, client->request);
    } else if (wait == API_LEASE_RENEW || wait == API_LEASE_TIME) {
        clients->handler->lease(clients->user, client->request, client->call.etcd->lease, wait == API_LEASE_RENEW);
    } else {
        clients->handler->read(clients->user, client->request);
    }
}

/* Takes requests from the parser until one has to wait. */
static void advance(struct client *client)
{
    struct clients *clients = client->clients;
    if (client->parser == NULL) return;
    while (!client->dead && !client->closing && client->request == 0 && !client->paused) {
        struct http1_request http;
        enum error error = http1_parser_next(client->parser, &http);
        if (error == ERR_NOT_READY) break;
        if (error != ERR_OK) {
            clients->failed++;
            api_refuse(error, &client->out);
            client->closing = true;
            mark_dirty(client);
            return;
        }
        begin(client, &http);
        if (client->out.size > CLIENTS_QUEUE_BYTES_MAX) break; /* the rest after the flush */
    }
    if (client->dead || client->closing) return;
    if (client->request == 0 && !http1_parser_idle(client->parser)) {
        if (!client->receiving) client->active = loop_now(clients->ports->loop);
        client->receiving = true;
        if (http1_parser_wants_continue(client->parser)) {
            buffer_append_string(&client->out, "HTTP/1.1 100 Continue\r\n\r\n");
            mark_dirty(client);
        }
    }
}

static void close_if_ended(struct client *client)
{
    if (!client->ended || client->dead || client->closing || client->paused || client->request != 0) return;
    if (client->grpc != NULL) return; /* its streams end by themselves */
    client->closing = true;
    mark_dirty(client);
}

static void set_paused(struct client *client, bool paused)
{
    if (client->dead || client->paused == paused) return;
    client->paused = paused;
    net_pause(client->clients->ports->net, client->stream, paused);
}

void clients_result(struct clients *clients, const struct replica_result *result)
{
    if ((result->request & REQUEST_TABLE_BIT) != 0) {
        clients->grpc.now = loop_now(clients->ports->loop);
        client_grpc_result(&clients->grpc, result);
        return;
    }
    uint32_t slot = (uint32_t)(result->request & ((1u << SLOT_BITS) - 1));
    struct client *client = slot < clients->slot_count ? clients->slots[slot] : NULL;
    if (client == NULL || client->dead || client->request != result->request) return;
    if (result->error != ERR_OK) clients->failed++;
    api_finish(clients->api, &client->call, result, &client->out);
    answered(client);
    advance(client);
    close_if_ended(client);
}

/* ---- streams ---- */

static void became_busy(void *user)
{
    struct client *client = user;
    if (!client->dead) mark_dirty(client);
}

/* Decides what the connection speaks; the bytes so far are in client->first. True once that is clear. */
static bool greet(struct client *client, struct bytes *bytes)
{
    struct clients *clients = client->clients;
    while (bytes->size > 0 && client->first_bytes < HTTP2_PREFACE_BYTES) {
        client->first[client->first_bytes++] = bytes->data[0];
        *bytes = bytes_of(bytes->data + 1, bytes->size - 1);
        if (memcmp(client->first, HTTP2_PREFACE, client->first_bytes) != 0) {
            client->parser = http1_parser_new(api_body_bytes_max(clients->config->value_bytes_max));
            http1_parser_feed(client->parser, bytes_of(client->first, client->first_bytes));
            return true;
        }
    }
    if (client->first_bytes < HTTP2_PREFACE_BYTES) return false;
    client->grpc = client_grpc_new(&clients->grpc, became_busy, client);
    client_grpc_feed(client->grpc, bytes_of(client->first, client->first_bytes));
    return true;
}

static void receive_http2(struct client *client, struct bytes bytes)
{
    if (bytes.size > 0) client_grpc_feed(client->grpc, bytes);
    count_memory(client);
}

static void on_received(void *user, struct bytes bytes)
{
    struct client *client = user;
    client->clients->bytes_received += bytes.size;
    if (client->closing) return; /* nothing more is answered */
    client->clients->grpc.now = loop_now(client->clients->ports->loop);
    if (client->parser == NULL && client->grpc == NULL && !greet(client, &bytes)) {
        if (!client->receiving) client->active = client->clients->grpc.now;
        client->receiving = true;
        return;
    }
    if (client->grpc != NULL) {
        receive_http2(client, bytes);
        return;
    }
    if (bytes.size > 0) http1_parser_feed(client->parser, bytes);
    advance(client);
    if (client->dead) return;
    if (http1_parser_full(client->parser)) set_paused(client, true);
    count_memory(client);
}

static void resume_if_possible(struct client *client)
{
    if (!client->paused || client->dead) return;
    if (net_queued_bytes(client->clients->ports->net, client->stream) > CLIENTS_QUEUE_BYTES_MAX) return;
    if (client->parser != NULL && client->request != 0 && http1_parser_full(client->parser)) return;
    set_paused(client, false);
    if (client->grpc != NULL) mark_dirty(client);
    advance(client);
    close_if_ended(client);
    if (!client->dead && client->parser != NULL && http1_parser_full(client->parser)) set_paused(client, true);
}

static void on_drained(void *user)
{
    struct client *client = user;
    if (client->grpc != NULL && !client->dead) mark_dirty(client);
    resume_if_possible(client);
}

/* It asks for nothing more, but may wait for what it asked. */
static void on_ended(void *user)
{
    struct client *client = user;
    client->ended = true;
    if (client->parser == NULL) client->closing = true; /* nothing was asked, or it will read no answer */
    if (client->closing) mark_dirty(client);
    set_paused(client, false); /* no bytes will come that could wake it again */
    advance(client);
    close_if_ended(client);
}

static void on_closed(void *user, enum net_close_reason reason)
{
    (void)reason;
    struct client *client = user;
    bury(client);
}

static void on_never_connected(void *user)
{
    (void)user; /* these streams come in */
}

static const struct net_stream_handler stream_handler = {.connected = on_never_connected,
                                                         .received = on_received,
                                                         .drained = on_drained,
                                                         .ended = on_ended,
                                                         .closed = on_closed};

static uint32_t take_slot(struct clients *clients)
{
    if (clients->free_count > 0) return clients->free_slots[--clients->free_count];
    if (clients->slot_count == clients->slot_capacity) {
        clients->slot_capacity = clients->slot_capacity == 0 ? 64 : clients->slot_capacity * 2;
        clients->slots = mem_realloc(clients->slots, clients->slot_capacity * sizeof clients->slots[0]);
        clients->free_slots = mem_realloc(clients->free_slots, clients->slot_capacity * sizeof clients->free_slots[0]);
    }
    return clients->slot_count++;
}

static void on_accepted(void *user, struct net_stream *stream, const char *address)
{
    struct clients *clients = user;
    (void)address;
    if (clients->open_count >= clients->config->connections_max) {
        if (!clients->full_logged) {
            log_warn(clients->ports->logger, "more clients than connections_max, refusing new ones", "max=%u",
                     clients->config->connections_max);
        }
        clients->full_logged = true;
        net_abort(clients->ports->net, stream);
        return;
    }
    struct client *client = mem_alloc_zero(sizeof *client);
    client->clients = clients;
    client->stream = stream;
    client->slot = take_slot(clients);
    CHECK(client->slot < (1u << SLOT_BITS));
    clients->slots[client->slot] = client;
    client->active = loop_now(clients->ports->loop);
    clients->open_count++;
    if (clients->next_sweep == TIME_NS_NEVER) clients->next_sweep = client->active + CLIENTS_SWEEP_INTERVAL;
    net_attach(clients->ports->net, stream, &stream_handler, client);
}

static const struct net_listener_handler listener_handler = {.accepted = on_accepted};

/* ---- the outside ---- */

enum error clients_start(struct clients *clients)
{
    return net_listen(clients->ports->net, clients->config->listen_host, clients->config->api_port, &listener_handler,
                      clients, &clients->listener);
}

static void flush_client(struct client *client)
{
    struct clients *clients = client->clients;
    size_t queued = net_queued_bytes(clients->ports->net, client->stream);
    if (client->grpc != NULL && queued <= CLIENTS_QUEUE_BYTES_MAX) {
        if (client_grpc_out(client->grpc, &client->out, CLIENTS_QUEUE_BYTES_MAX)) mark_dirty(client);
        if (client_grpc_done(client->grpc)) client->closing = true;
    }
    if (client->out.size > 0) {
        struct bytes part = buffer_bytes(&client->out);
        clients->bytes_sent += part.size;
        net_write(clients->ports->net, client->stream, &part, 1);
        buffer_clear(&client->out);
        if (client->out.capacity > CLIENTS_QUEUE_BYTES_MAX) buffer_free(&client->out);
    }
    if (client->closing && client->request == 0) {
        net_close(clients->ports->net, client->stream);
        bury(client);
        return;
    }
    if (net_queued_bytes(clients->ports->net, client->stream) > CLIENTS_QUEUE_BYTES_MAX) set_paused(client, true);
    resume_if_possible(client);
    /* Requests that waited because many answers had gathered. */
    if (client->dead || client->paused) return;
    advance(client);
    close_if_ended(client);
}

void clients_flush(struct clients *clients)
{
    /* The list may grow while it is walked: a resumed client may have its next answer at once. */
    for (uint32_t i = 0; i < clients->dirty_count; i++) {
        struct client *client = clients->dirty[i];
        if (client->dead) continue;
        client->dirty = false;
        clients->dirty[i] = NULL;
        flush_client(client);
    }
    uint32_t count = clients->dirty_count;
    clients->dirty_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (clients->dirty[i] != NULL) release(clients->dirty[i]);
    }
}

void clients_stop(struct clients *clients)
{
    clients->stopped = true;
    if (clients->listener != NULL) net_stop_listening(clients->ports->net, clients->listener);
    clients->listener = NULL;
    for (uint32_t i = 0; i < clients->slot_count; i++) {
        struct client *client = clients->slots[i];
        if (client == NULL || client->dead) continue;
        if (client->grpc != NULL) {
            client_grpc_shutdown(client->grpc);
            continue;
        }
        client->closing = true;
        mark_dirty(client);
    }
}

bool clients_idle(const struct clients *clients)
{
    return clients->open_count == 0 && clients->dirty_count == 0;
}

void clients_free(struct clients *clients)
{
    if (clients == NULL) return;
    if (clients->listener != NULL) net_stop_listening(clients->ports->net, clients->listener);
    for (uint32_t i = 0; i < clients->slot_count; i++) {
        struct client *client = clients->slots[i];
        if (client == NULL) continue;
        if (!client->dead) net_abort(clients->ports->net, client->stream);
        release(client);
    }
    request_table_free(&clients->grpc.requests);
    buffer_free(&clients->grpc.scratch);
    mem_free(clients->slots);
    mem_free(clients->free_slots);
    mem_free(clients->dirty);
    mem_free(clients);
}

void clients_tick(struct clients *clients, time_ns now)
{
    if (now < clients->next_sweep) return;
    clients->grpc.now = now;
    for (uint32_t i = 0; i < clients->slot_count; i++) {
        struct client *client = clients->slots[i];
        if (client == NULL || client->dead || client->request != 0) continue;
        if (client->grpc != NULL && !client->closing) {
            client_grpc_sweep(client->grpc);
            continue;
        }
        if (client->closing || client->paused) {
            /* It doesn't read its answers. */
            if (now >= client->active + clients->config->idle_timeout) drop(client);
        } else if (client->receiving && now >= client->active + CLIENTS_REQUEST_TIME_MAX) {
            api_refuse(ERR_SLOW_CLIENT, &client->out);
            client->closing = true;
            mark_dirty(client);
        } else if (now >= client->active + clients->config->idle_timeout) {
            client->closing = true;
            mark_dirty(client);
        }
    }
    clients->full_logged = false;
    clients->next_sweep = clients->open_count > 0 ? now + CLIENTS_SWEEP_INTERVAL : TIME_NS_NEVER;
}

time_ns clients_deadline(const struct clients *clients)
{
    return clients->next_sweep;
}

void clients_report(const struct clients *clients, struct api_host *host)
{
    host->open_connections = clients->open_count;
    host->client_bytes_sent = clients->bytes_sent;
    host->client_bytes_received = clients->bytes_received;
    host->requests_total = clients->requests + clients->grpc.calls;
    host->requests_failed = clients->failed + clients->grpc.failed;
}
