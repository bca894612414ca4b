#include "sim/sim_net.h"

#include "base/check.h"
#include "base/mem.h"

#define FIRST_FREE_PORT 40000u
/* TCP's first repetition of a lost SYN, and when the caller gives up. */
#define SYN_AGAIN (1 * TIME_NS_PER_S)
#define CONNECT_NS_MAX (5 * TIME_NS_PER_S)
/* What was lost arrives up to this after a link is whole again. */
#define RESEND_NS_MAX (300 * TIME_NS_PER_MS)
/* One in so many deliveries takes up to SPIKE_NS_MAX. */
#define SPIKE_ONE_IN 200u
#define SPIKE_NS_MAX (20 * TIME_NS_PER_MS)
#define SPLIT_NS_MAX ((time_ns)200 * 1000)
#define NS_PER_KB 8000 /* a link of a gigabit */

enum pipe_end { END_NONE, END_ORDERLY, END_RESET };

struct segment {
    time_ns arrival;
    size_t size;
};

/* One direction: bytes on their way to the stream that it is part of. */
struct pipe {
    struct sim_event event; /* the next arrival */
    struct buffer bytes;    /* from `start` on; the first `handed` are under way, the others are queued at the sender */
    size_t start, handed;
    struct segment *segments;
    uint32_t segment_first, segment_count, segment_capacity; /* a ring */
    time_ns last_arrival;
    enum pipe_end end; /* after all bytes (orderly), or at end_at (reset) */
    time_ns end_at;
    bool stalled;        /* waits for a link to be open, or for power */
    struct sim_box *box; /* on streams to the peer port, once it had something to do; else NULL */
    struct sim_event box_event;
};

/* One end of a connection. */
struct net_stream {
    struct sim_connection *connection;
    uint16_t host;
    const struct net_stream_handler *handler;
    void *user;
    bool gone;   /* its owner has closed it, or was told that it is closed */
    bool zombie; /* its process ended, but a handle may be left */
    bool connected;
    bool paused;
    struct pipe in;
    struct sim_event drained;
};

struct sim_connection {
    struct net_stream ends[2]; /* 0 asked for it */
    struct sim_net *network;
    struct sim_event syn, established;
    time_ns give_up_at;
    uint16_t port;
    bool accepted;
    bool refused;
    bool orphan;    /* one end's machine lost power; the other doesn't know */
    bool half_open; /* nothing passes any more */
    bool buried;
    struct sim_connection *previous, *next;
};

struct net_listener {
    struct sim_host *host;
    uint16_t port;
    const struct net_listener_handler *handler;
    void *user;
    bool zombie;
    struct net_listener *next;
};

static struct sim_host *host_of(struct net *net)
{
    return (struct sim_host *)net;
}

static unsigned side_of(const struct net_stream *stream)
{
    return stream == &stream->connection->ends[1];
}

static struct net_stream *other_of(struct net_stream *stream)
{
    return &stream->connection->ends[!side_of(stream)];
}

static struct sim_link *link_between(struct sim_net *network, unsigned from, unsigned to)
{
    return &network->links[from][to];
}

static bool passes(struct sim_net *network, unsigned from, unsigned to)
{
    return !network->links[from][to].blocked && network->hosts[to].has_power;
}

static time_ns latency(struct sim_net *network, unsigned from, unsigned to)
{
    struct sim_link *link = link_between(network, from, to);
    time_ns result = link->latency + (time_ns)random_below(&network->random, (uint64_t)network->jitter + 1);
    if (random_below(&network->random, SPIKE_ONE_IN) == 0) {
        result += (time_ns)random_below(&network->random, (uint64_t)SPIKE_NS_MAX);
    }
    if (link->clogged_until > network->world->now) result += link->clog_latency;
    return result;
}

/* ---- pipes ---- */

static void pipe_clear(struct pipe *pipe)
{
    buffer_clear(&pipe->bytes);
    pipe->start = pipe->handed = 0;
    pipe->segment_first = pipe->segment_count = 0;
}

static size_t pipe_queued(const struct pipe *pipe)
{
    return pipe->bytes.size - pipe->start - pipe->handed;
}

static void pipe_add_segment(struct pipe *pipe, time_ns arrival, size_t size)
{
    if (pipe->segment_count == pipe->segment_capacity) {
        uint32_t capacity = pipe->segment_capacity == 0 ? 8 : pipe->segment_capacity * 2;
        struct segment *segments = mem_alloc(capacity * sizeof *segments);
        for (uint32_t i = 0; i < pipe->segment_count; i++) {
            segments[i] = pipe->segments[(pipe->segment_first + i) % pipe->segment_capacity];
        }
        mem_free(pipe->segments);
        pipe->segments = segments;
        pipe->segment_capacity = capacity;
        pipe->segment_first = 0;
    }
    uint32_t place = (pipe->segment_first + pipe->segment_count++) % pipe->segment_capacity;
    pipe->segments[place] = (struct segment){.arrival = arrival, .size = size};
}

/* When the next thing arrives at `to`. */
static void pipe_schedule(struct net_stream *to)
{
    struct pipe *pipe = &to->in;
    struct sim_world *world = to->connection->network->world;
    if (to->gone || to->zombie || to->paused || !to->connected || to->handler == NULL) return;
    time_ns at;
    if (pipe->end == END_RESET) {
        at = pipe->end_at;
    } else if (pipe->segment_count > 0) {
        at = pipe->segments[pipe->segment_first].arrival;
    } else if (pipe->end == END_ORDERLY && pipe_queued(pipe) == 0) {
        at = pipe->end_at;
    } else {
        return;
    }
    pipe->stalled = false;
    if (sim_event_scheduled(&pipe->event) && pipe->event.at <= at) return;
    sim_world_schedule(world, &pipe->event, at);
}

static void connection_bury(struct sim_connection *connection)
{
    if (connection->buried) return;
    for (unsigned side = 0; side < 2; side++) {
        struct net_stream *end = &connection->ends[side];
        if (!end->gone || end->zombie) return;
    }
    if (sim_event_scheduled(&connection->syn)) return; /* the other side has yet to hear of it */
    struct sim_net *network = connection->network;
    connection->buried = true;
    sim_world_cancel(network->world, &connection->established);
    for (unsigned side = 0; side < 2; side++) {
        sim_world_cancel(network->world, &connection->ends[side].in.event);
        sim_world_cancel(network->world, &connection->ends[side].in.box_event);
        sim_world_cancel(network->world, &connection->ends[side].drained);
    }
    if (connection->previous != NULL) connection->previous->next = connection->next;
    if (connection->next != NULL) connection->next->previous = connection->previous;
    if (network->connections == connection) network->connections = connection->next;
    connection->next = network->grave;
    network->grave = connection;
}

/* Frees what was buried. Only from where no callback is under way. */
static void reap(struct sim_net *network)
{
    while (network->grave != NULL) {
        struct sim_connection *connection = network->grave;
        network->grave = connection->next;
        for (unsigned side = 0; side < 2; side++) {
            buffer_free(&connection->ends[side].in.bytes);
            mem_free(connection->ends[side].in.segments);
            sim_box_free(connection->ends[side].in.box);
        }
        mem_free(connection);
    }
}

/* Hands over to the network what the window has room for. */
static void pipe_hand_over(struct net_stream *to)
{
    struct pipe *pipe = &to->in;
    struct net_stream *from = other_of(to);
    struct sim_net *network = to->connection->network;
    size_t queued = pipe_queued(pipe);
    if (queued == 0 || pipe->handed >= SIM_NET_WINDOW_BYTES || !from->connected) return;
    size_t part = SIM_NET_WINDOW_BYTES - pipe->handed < queued ? SIM_NET_WINDOW_BYTES - pipe->handed : queued;
    time_ns at = network->world->now + latency(network, from->host, to->host);
    if (at < pipe->last_arrival) at = pipe->last_arrival;
    at += (time_ns)(part * NS_PER_KB / 1024);
    pipe->last_arrival = at;
    pipe->handed += part;
    pipe_add_segment(pipe, at, part);
    pipe_schedule(to);
}

static void schedule_drained(struct net_stream *from)
{
    if (from->gone || from->zombie) return;
    sim_world_schedule(from->connection->network->world, &from->drained, from->connection->network->world->now);
}

/* The other end will find its stream reset. With `lose`, what is on its way may be lost. */
static void pipe_reset(struct net_stream *to, bool lose)
{
    if (to->gone || to->in.end == END_RESET) return;
    struct sim_net *network = to->connection->network;
    struct net_stream *from = other_of(to);
    struct pipe *pipe = &to->in;
    pipe->end = END_RESET;
    pipe->end_at = network->world->now + latency(network, from->host, to->host);
    if (lose || random_chance(&network->random, 500)) {
        pipe_clear(pipe);
    } else if (pipe->end_at < pipe->last_arrival) {
        pipe->end_at = pipe->last_arrival;
    }
    network->counters.resets++;
    pipe_schedule(to);
}

static void tell_closed(struct net_stream *stream, enum net_close_reason reason)
{
    stream->gone = true;
    sim_world_cancel(stream->connection->network->world, &stream->drained);
    if (stream->handler != NULL && stream->handler->closed != NULL) stream->handler->closed(stream->user, reason);
}

static void receive_event(struct sim_event *event)
{
    struct net_stream *to = (struct net_stream *)((char *)event - offsetof(struct net_stream, in.event));
    struct sim_connection *connection = to->connection;
    struct sim_net *network = connection->network;
    struct net_stream *from = other_of(to);
    struct pipe *pipe = &to->in;
    time_ns now = network->world->now;
    reap(network);
    if (to->gone || to->zombie || to->paused || connection->half_open) return;
    if (!passes(network, from->host, to->host)) {
        pipe->stalled = true;
        return;
    }
    if (pipe->end == END_RESET && pipe->end_at <= now) {
        tell_closed(to, NET_RESET);
        connection_bury(connection);
        return;
    }
    size_t arrived = 0;
    for (uint32_t i = 0; i < pipe->segment_count; i++) {
        const struct segment *segment = &pipe->segments[(pipe->segment_first + i) % pipe->segment_capacity];
        if (segment->arrival > now) break;
        arrived += segment->size;
    }
    if (arrived > 0) {
        size_t part = arrived;
        if (random_chance(&network->random, network->split_per_mille)) {
            part = (size_t)random_between(&network->random, 1, arrived);
        }
        const struct sim_host *host = &network->hosts[to->host];
        bool slow = host->slow_until > now;
        if (slow && part > host->slow_bytes) part = host->slow_bytes;
        struct bytes bytes = bytes_of(pipe->bytes.data + pipe->start, part);
        sim_world_fold_bytes(network->world, bytes.data, bytes.size);
        network->counters.chunks++;
        network->counters.bytes += part;
        to->handler->received(to->user, bytes);
        if (to->gone) {
            connection_bury(connection);
            return;
        }
        pipe->start += part;
        pipe->handed -= part;
        for (size_t left = part; left > 0;) {
            struct segment *segment = &pipe->segments[pipe->segment_first];
            size_t taken = segment->size < left ? segment->size : left;
            segment->size -= taken;
            left -= taken;
            if (segment->size > 0) {
                time_ns gap = slow ? host->slow_gap : (time_ns)random_below(&network->random, (uint64_t)SPLIT_NS_MAX);
                segment->arrival = now + gap;
                /* What is cut arrives later, and so does all that follows. */
                for (uint32_t i = 1; i < pipe->segment_count; i++) {
                    struct segment *later = &pipe->segments[(pipe->segment_first + i) % pipe->segment_capacity];
                    if (later->arrival < segment->arrival) later->arrival = segment->arrival;
                }
                if (pipe->last_arrival < segment->arrival) pipe->last_arrival = segment->arrival;
                break;
            }
            pipe->segment_first = (pipe->segment_first + 1) % pipe->segment_capacity;
            pipe->segment_count--;
        }
        for (uint32_t i = 0; slow && i < pipe->segment_count; i++) {
            struct segment *left = &pipe->segments[(pipe->segment_first + i) % pipe->segment_capacity];
            if (left->arrival < now + host->slow_gap) left->arrival = now + host->slow_gap;
            if (pipe->last_arrival < left->arrival) pipe->last_arrival = left->arrival;
        }
        if (pipe->start == pipe->bytes.size) {
            buffer_clear(&pipe->bytes);
            pipe->start = 0;
        } else if (pipe->start > 64 * 1024 && pipe->start > pipe->bytes.size / 2) {
            buffer_consume(&pipe->bytes, pipe->start);
            pipe->start = 0;
        }
        if (pipe_queued(pipe) > 0) {
            pipe_hand_over(to);
            if (pipe_queued(pipe) == 0) schedule_drained(from);
        }
        if (pipe->end == END_ORDERLY && pipe->end_at < pipe->last_arrival) pipe->end_at = pipe->last_arrival;
    } else if (pipe->end == END_ORDERLY && pipe->segment_count == 0 && pipe->end_at <= now) {
        tell_closed(to, NET_CLOSED_BY_PEER);
        connection_bury(connection);
        return;
    }
    pipe_schedule(to);
}

static void drained_event(struct sim_event *event)
{
    struct net_stream *stream = (struct net_stream *)((char *)event - offsetof(struct net_stream, drained));
    reap(stream->connection->network);
    if (stream->gone || stream->zombie || pipe_queued(&other_of(stream)->in) > 0) return;
    if (stream->handler != NULL && stream->handler->drained != NULL) stream->handler->drained(stream->user);
}

/* ---- connecting ---- */

static void refuse(struct sim_connection *connection, time_ns at)
{
    connection->refused = true;
    connection->network->counters.refused++;
    sim_world_schedule(connection->network->world, &connection->established, at);
}

static void syn_event(struct sim_event *event)
{
    struct sim_connection *connection = (struct sim_connection *)((char *)event - offsetof(struct sim_connection, syn));
    struct sim_net *network = connection->network;
    struct sim_world *world = network->world;
    struct net_stream *client = &connection->ends[0], *server = &connection->ends[1];
    reap(network);
    if (client->gone) { /* it was given up before the other side heard of it */
        connection_bury(connection);
        return;
    }
    bool hangs = link_between(network, client->host, server->host)->hangs_until > world->now;
    if (hangs) {
        sim_world_schedule(world, &connection->syn, world->now + SYN_AGAIN);
        return;
    }
    if (!passes(network, client->host, server->host) || !passes(network, server->host, client->host)) {
        if (world->now >= connection->give_up_at) {
            refuse(connection, world->now);
        } else {
            sim_world_schedule(world, &connection->syn, world->now + SYN_AGAIN);
        }
        return;
    }
    time_ns back = world->now + latency(network, server->host, client->host);
    struct net_listener *listener = network->hosts[server->host].listeners;
    while (listener != NULL && (listener->port != connection->port || listener->zombie)) listener = listener->next;
    if (listener == NULL) {
        refuse(connection, back);
        return;
    }
    connection->accepted = true;
    network->counters.connections++;
    server->gone = false;
    server->connected = true;
    sim_world_schedule(world, &connection->established, back);
    listener->handler->accepted(listener->user, server, network->hosts[client->host].name);
    CHECK(server->gone || server->handler != NULL); /* the port's rule: attached, or closed */
    if (server->gone) connection_bury(connection);
}

static void established_event(struct sim_event *event)
{
    struct sim_connection *connection =
        (struct sim_connection *)((char *)event - offsetof(struct sim_connection, established));
    struct sim_net *network = connection->network;
    struct net_stream *client = &connection->ends[0];
    reap(network);
    if (client->gone || client->zombie) return;
    if (connection->refused) {
        tell_closed(client, NET_CONNECT_FAILED);
        connection_bury(connection);
        return;
    }
    if (!passes(network, connection->ends[1].host, client->host)) {
        sim_world_schedule(network->world, &connection->established, network->world->now + SYN_AGAIN);
        return;
    }
    client->connected = true;
    if (client->handler->connected != NULL) client->handler->connected(client->user);
    if (client->gone) return;
    struct net_stream *server = &connection->ends[1];
    if (pipe_queued(&server->in) > 0) {
        pipe_hand_over(server);
        if (pipe_queued(&server->in) == 0) schedule_drained(client);
    }
    pipe_schedule(client);
}

static struct net_stream *operation_connect(struct net *net, const char *name, uint16_t port,
                                            const struct net_stream_handler *handler, void *user)
{
    struct sim_host *host = host_of(net);
    struct sim_net *network = host->network;
    struct sim_connection *connection = mem_alloc_zero(sizeof *connection);
    connection->network = network;
    connection->port = port;
    connection->next = network->connections;
    if (network->connections != NULL) network->connections->previous = connection;
    network->connections = connection;
    unsigned target = 0;
    while (target < SIM_HOSTS_MAX &&
           !(network->hosts[target].present && strcmp(network->hosts[target].name, name) == 0)) {
        target++;
    }
    bool unknown = target == SIM_HOSTS_MAX;
    if (unknown) target = host->number;
    unsigned numbers[2] = {host->number, target};
    for (unsigned side = 0; side < 2; side++) {
        struct net_stream *end = &connection->ends[side];
        end->connection = connection;
        end->host = (uint16_t)numbers[side];
        end->in.event =
            (struct sim_event){.run = receive_event, .kind = SIM_EVENT_RECEIVE, .process = (uint16_t)numbers[side]};
        end->drained =
            (struct sim_event){.run = drained_event, .kind = SIM_EVENT_DRAINED, .process = (uint16_t)numbers[side]};
    }
    connection->syn = (struct sim_event){.run = syn_event, .kind = SIM_EVENT_CONNECT, .process = (uint16_t)target};
    connection->established =
        (struct sim_event){.run = established_event, .kind = SIM_EVENT_CONNECTED, .process = (uint16_t)host->number};
    connection->ends[0].handler = handler;
    connection->ends[0].user = user;
    connection->ends[1].gone = true; /* until it is accepted */
    time_ns now = network->world->now;
    time_ns there = latency(network, host->number, target);
    connection->give_up_at =
        now + (time_ns)random_between(&network->random, (uint64_t)CONNECT_NS_MAX / 4, (uint64_t)CONNECT_NS_MAX);
    if (unknown) {
        refuse(connection, now + there);
    } else {
        sim_world_schedule(network->world, &connection->syn, now + there);
    }
    return &connection->ends[0];
}

/* ---- the other operations ---- */

static enum error operation_listen(struct net *net, const char *name, uint16_t port,
                                   const struct net_listener_handler *handler, void *user, struct net_listener **out)
{
    struct sim_host *host = host_of(net);
    *out = NULL;
    if (port == 0) port = host->next_port++;
    for (struct net_listener *listener = host->listeners; listener != NULL; listener = listener->next) {
        if (listener->port == port && !listener->zombie) {
            snprintf(net->error_text, sizeof net->error_text, "listen %s:%u: Address already in use", name, port);
            return ERR_ADDRESS_IN_USE;
        }
    }
    struct net_listener *listener = mem_alloc_zero(sizeof *listener);
    listener->host = host;
    listener->port = port;
    listener->handler = handler;
    listener->user = user;
    listener->next = host->listeners;
    host->listeners = listener;
    *out = listener;
    return ERR_OK;
}

static uint16_t operation_listener_port(struct net_listener *listener)
{
    return listener->port;
}

static void operation_stop_listening(struct net_listener *listener)
{
    struct net_listener **at = &listener->host->listeners;
    while (*at != listener) at = &(*at)->next;
    *at = listener->next;
    mem_free(listener);
}

static void operation_attach(struct net_stream *stream, const struct net_stream_handler *handler, void *user)
{
    stream->handler = handler;
    stream->user = user;
    pipe_schedule(stream);
}

/* The rules of the box that stands between the ends now. False: it has nothing to do. */
static bool box_rules(struct sim_net *network, const struct net_stream *from, const struct net_stream *to,
                      struct sim_box_rules *out)
{
    const struct sim_link *link = link_between(network, from->host, to->host);
    const struct sim_host *host = &network->hosts[from->host];
    *out = link->box_until > network->world->now ? link->box : (struct sim_box_rules){0};
    out->version_min = host->version_min;
    out->version_max = host->version_max;
    return link->box_until > network->world->now || host->version_max != 0;
}

static void box_event(struct sim_event *event)
{
    struct net_stream *to = (struct net_stream *)((char *)event - offsetof(struct net_stream, in.box_event));
    struct pipe *pipe = &to->in;
    struct sim_world *world = to->connection->network->world;
    if (to->gone || to->zombie || pipe->end != END_NONE) return;
    size_t before = pipe->bytes.size;
    sim_box_release(pipe->box, world->now, false, &pipe->bytes);
    if (pipe->bytes.size > before) pipe_hand_over(to);
    time_ns next = sim_box_deadline(pipe->box);
    if (next != TIME_NS_NEVER) sim_world_schedule(world, &pipe->box_event, next);
}

/* Bytes on their way to the stream come to the box. */
static void pass_box(struct net_stream *to, struct bytes bytes)
{
    struct sim_net *network = to->connection->network;
    struct pipe *pipe = &to->in;
    struct sim_box_rules rules;
    bool busy = box_rules(network, other_of(to), to, &rules);
    if (!busy && pipe->box == NULL) { /* what is written is whole frames: the box misses nothing */
        buffer_append(&pipe->bytes, bytes.data, bytes.size);
        return;
    }
    if (pipe->box == NULL) {
        pipe->box = sim_box_new();
        pipe->box_event = (struct sim_event){.run = box_event, .kind = SIM_EVENT_OTHER, .process = SIM_NO_PROCESS};
    }
    sim_box_take(pipe->box, &rules, &network->random, network->world->now, bytes, &pipe->bytes, &network->counters.box);
    time_ns next = sim_box_deadline(pipe->box);
    if (next != TIME_NS_NEVER) sim_world_schedule(network->world, &pipe->box_event, next);
}

static void operation_write(struct net_stream *stream, const struct bytes *parts, size_t part_count)
{
    struct net_stream *to = other_of(stream);
    struct sim_connection *connection = stream->connection;
    struct sim_net *network = connection->network;
    if (stream->zombie) return;
    CHECK(!stream->gone);
    if (stream->in.end == END_RESET) { /* it is about to hear, even when it doesn't read */
        stream->paused = false;
        pipe_schedule(stream);
        return;
    }
    if (connection->orphan) {
        /* Sent into the void; answered by a reset once the machine runs again. */
        if (network->hosts[to->host].has_power) pipe_reset(stream, true);
        return;
    }
    bool waits_for_accept = side_of(stream) == 0 && !connection->accepted;
    if (to->gone && !waits_for_accept) {
        /* Nobody reads any more: the other kernel says so, but after what it has sent already. */
        if (stream->in.end == END_NONE) pipe_reset(stream, false);
        return;
    }
    size_t before = to->in.bytes.size;
    for (size_t i = 0; i < part_count; i++) {
        if (connection->port == network->peer_port && !waits_for_accept) {
            pass_box(to, parts[i]);
        } else {
            buffer_append(&to->in.bytes, parts[i].data, parts[i].size);
        }
    }
    if (to->in.bytes.size > before) pipe_hand_over(to);
}

static size_t operation_queued_bytes(const struct net_stream *stream)
{
    return pipe_queued(&other_of((struct net_stream *)stream)->in);
}

static void operation_pause(struct net_stream *stream, bool paused)
{
    if (stream->zombie || stream->gone) return;
    stream->paused = paused;
    if (paused) {
        sim_world_cancel(stream->connection->network->world, &stream->in.event);
    } else {
        pipe_schedule(stream);
    }
}

static void leave(struct net_stream *stream)
{
    struct sim_net *network = stream->connection->network;
    stream->gone = true;
    stream->zombie = false;
    sim_world_cancel(network->world, &stream->in.event);
    sim_world_cancel(network->world, &stream->drained);
}

static void operation_close(struct net_stream *stream)
{
    struct net_stream *to = other_of(stream);
    struct sim_connection *connection = stream->connection;
    struct sim_net *network = connection->network;
    bool was_zombie = stream->zombie;
    leave(stream);
    if (!was_zombie && !to->gone && !to->zombie && to->in.end == END_NONE && !connection->orphan) {
        to->in.end = END_ORDERLY;
        to->in.end_at = network->world->now + latency(network, stream->host, to->host);
        if (to->in.end_at < to->in.last_arrival) to->in.end_at = to->in.last_arrival;
        pipe_schedule(to);
    }
    connection_bury(connection);
}

static void operation_abort(struct net_stream *stream)
{
    struct net_stream *to = other_of(stream);
    bool was_zombie = stream->zombie;
    leave(stream);
    if (!was_zombie && !stream->connection->orphan) pipe_reset(to, false);
    connection_bury(stream->connection);
}

static const struct net_operations operations = {
    .listen = operation_listen,
    .listener_port = operation_listener_port,
    .stop_listening = operation_stop_listening,
    .connect = operation_connect,
    .attach = operation_attach,
    .write = operation_write,
    .queued_bytes = operation_queued_bytes,
    .pause = operation_pause,
    .close = operation_close,
    .abort = operation_abort,
};

/* ---- the network itself ---- */

void sim_net_init(struct sim_net *network, struct sim_world *world)
{
    memset(network, 0, sizeof *network);
    network->world = world;
    sim_world_random(world, "net", 0, &network->random);
    network->jitter = (time_ns)random_between(&network->random, 20, 1000) * 1000;
    network->split_per_mille = (unsigned)random_below(&network->random, 300);
    for (unsigned from = 0; from < SIM_HOSTS_MAX; from++) {
        for (unsigned to = 0; to < SIM_HOSTS_MAX; to++) {
            network->links[from][to].latency = (time_ns)random_between(&network->random, 20, 400) * 1000;
        }
    }
}

void sim_net_free(struct sim_net *network)
{
    reap(network);
    while (network->connections != NULL) {
        struct sim_connection *connection = network->connections;
        sim_world_cancel(network->world, &connection->syn);
        for (unsigned side = 0; side < 2; side++) {
            connection->ends[side].gone = true;
            connection->ends[side].zombie = false;
        }
        connection_bury(connection);
    }
    reap(network);
    for (unsigned host = 0; host < SIM_HOSTS_MAX; host++) {
        while (network->hosts[host].listeners != NULL) operation_stop_listening(network->hosts[host].listeners);
    }
}

struct net *sim_net_host(struct sim_net *network, unsigned number, const char *name)
{
    CHECK(number < SIM_HOSTS_MAX);
    struct sim_host *host = &network->hosts[number];
    CHECK(!host->present);
    host->net.operations = &operations;
    host->network = network;
    host->number = number;
    snprintf(host->name, sizeof host->name, "%s", name);
    host->present = true;
    host->has_power = true;
    host->next_port = FIRST_FREE_PORT;
    return &host->net;
}

/* What waited for links that pass again arrives soon. */
static void wake(struct sim_net *network)
{
    time_ns now = network->world->now;
    for (struct sim_connection *connection = network->connections; connection != NULL; connection = connection->next) {
        for (unsigned side = 0; side < 2; side++) {
            struct net_stream *to = &connection->ends[side];
            struct pipe *pipe = &to->in;
            if (!pipe->stalled || !passes(network, other_of(to)->host, to->host)) continue;
            time_ns at = now + (time_ns)random_below(&network->random, (uint64_t)RESEND_NS_MAX);
            for (uint32_t i = 0; i < pipe->segment_count; i++) {
                struct segment *segment = &pipe->segments[(pipe->segment_first + i) % pipe->segment_capacity];
                if (segment->arrival < at) segment->arrival = at;
            }
            if (pipe->last_arrival < at) pipe->last_arrival = at;
            if (pipe->end != END_NONE && pipe->end_at < at) pipe->end_at = at;
            pipe_schedule(to);
        }
    }
}

void sim_net_block(struct sim_net *network, unsigned from, unsigned to, bool blocked)
{
    network->links[from][to].blocked = blocked;
    if (!blocked) wake(network);
}

void sim_net_heal(struct sim_net *network)
{
    for (unsigned from = 0; from < SIM_HOSTS_MAX; from++) {
        for (unsigned to = 0; to < SIM_HOSTS_MAX; to++) {
            network->links[from][to].blocked = false;
            network->links[from][to].clogged_until = 0;
            network->links[from][to].hangs_until = 0;
            network->links[from][to].box_until = 0;
        }
        network->hosts[from].slow_until = 0;
    }
    for (struct sim_connection *connection = network->connections; connection != NULL; connection = connection->next) {
        for (unsigned side = 0; side < 2; side++) {
            struct net_stream *to = &connection->ends[side];
            struct pipe *pipe = &to->in;
            if (pipe->box == NULL || to->gone || to->zombie || pipe->end != END_NONE) continue;
            sim_box_release(pipe->box, network->world->now, true, &pipe->bytes);
            pipe_hand_over(to);
        }
    }
    wake(network);
}

void sim_net_clog(struct sim_net *network, unsigned from, unsigned to, time_ns extra, time_ns until)
{
    network->links[from][to].clog_latency = extra;
    network->links[from][to].clogged_until = until;
}

void sim_net_reset(struct sim_net *network, unsigned a, unsigned b)
{
    for (struct sim_connection *connection = network->connections; connection != NULL; connection = connection->next) {
        struct net_stream *ends = connection->ends;
        bool between = (ends[0].host == a && ends[1].host == b) || (ends[0].host == b && ends[1].host == a);
        if (!between || !connection->accepted) continue;
        pipe_reset(&ends[0], true);
        pipe_reset(&ends[1], true);
    }
}

void sim_net_half_open(struct sim_net *network, unsigned a, unsigned b, unsigned per_mille)
{
    for (struct sim_connection *connection = network->connections; connection != NULL; connection = connection->next) {
        struct net_stream *ends = connection->ends;
        bool between = (ends[0].host == a && ends[1].host == b) || (ends[0].host == b && ends[1].host == a);
        if (!between || !ends[0].connected || connection->half_open) continue;
        if (!random_chance(&network->random, per_mille)) continue;
        connection->half_open = true;
        network->counters.half_open++;
    }
}

void sim_net_hang(struct sim_net *network, unsigned from, unsigned to, time_ns until)
{
    network->links[from][to].hangs_until = until;
}

void sim_net_slow(struct sim_net *network, unsigned host, size_t bytes, time_ns gap, time_ns until)
{
    CHECK(bytes > 0);
    network->hosts[host].slow_bytes = bytes;
    network->hosts[host].slow_gap = gap;
    network->hosts[host].slow_until = until;
}

void sim_net_meddle(struct sim_net *network, unsigned from, unsigned to, const struct sim_box_rules *rules,
                    time_ns until)
{
    network->links[from][to].box = *rules;
    network->links[from][to].box_until = until;
}

void sim_net_host_down(struct sim_net *network, unsigned host, bool power_loss)
{
    struct sim_world *world = network->world;
    network->hosts[host].has_power = !power_loss;
    for (struct net_listener *listener = network->hosts[host].listeners; listener != NULL; listener = listener->next) {
        listener->zombie = true;
    }
    for (struct sim_connection *connection = network->connections, *next; connection != NULL; connection = next) {
        next = connection->next;
        for (unsigned side = 0; side < 2; side++) {
            struct net_stream *end = &connection->ends[side];
            struct net_stream *peer = other_of(end);
            if (end->host != host) continue;
            if (end->gone && !(side == 0 || connection->accepted)) continue; /* not accepted yet */
            /* What the process had not handed over yet is lost, even of a stream that it had closed. */
            struct pipe *out = &peer->in;
            out->bytes.size = out->start + out->handed;
            if (out->end == END_ORDERLY && out->end_at < out->last_arrival) out->end_at = out->last_arrival;
            if (!end->gone) {
                end->gone = true;
                end->zombie = true;
                sim_world_cancel(world, &end->in.event);
                sim_world_cancel(world, &end->drained);
                if (side == 0) sim_world_cancel(world, &connection->established);
                if (side == 0 && !connection->accepted) {
                    sim_world_cancel(world, &connection->syn);
                } else if (power_loss) {
                    connection->orphan = true;
                } else if (peer->in.end == END_NONE && random_chance(&network->random, 500)) {
                    out->end = END_ORDERLY;
                    out->end_at = world->now + latency(network, end->host, peer->host);
                    if (out->end_at < out->last_arrival) out->end_at = out->last_arrival;
                } else {
                    pipe_reset(peer, false);
                }
            }
            pipe_schedule(peer);
        }
    }
}

void sim_net_host_forget(struct sim_net *network, unsigned host)
{
    for (struct sim_connection *connection = network->connections, *next; connection != NULL; connection = next) {
        next = connection->next;
        for (unsigned side = 0; side < 2; side++) {
            if (connection->ends[side].host == host) connection->ends[side].zombie = false;
        }
        connection_bury(connection);
    }
    while (network->hosts[host].listeners != NULL) operation_stop_listening(network->hosts[host].listeners);
}

void sim_net_host_up(struct sim_net *network, unsigned host)
{
    bool had_power = network->hosts[host].has_power;
    network->hosts[host].has_power = true;
    if (had_power) return;
    /* Those who sent something meanwhile send it again, and learn that nobody knows their stream. */
    for (struct sim_connection *connection = network->connections; connection != NULL; connection = connection->next) {
        if (!connection->orphan) continue;
        for (unsigned side = 0; side < 2; side++) {
            struct net_stream *end = &connection->ends[side];
            if (other_of(end)->host == host && !end->gone && random_chance(&network->random, 700)) {
                pipe_reset(end, true);
            }
        }
    }
    wake(network);
}
