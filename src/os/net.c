#define _GNU_SOURCE 1
#include "os/net.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "os/net_address.h"

#define PARTS_PER_SEND 64            /* parts that one sendmsg takes */
#define READS_PER_EVENT 4            /* of a full buffer each; then other streams have their turn */
#define READS_TO_END 256             /* of a stream that broke; more than any socket buffers */
#define QUEUE_KEPT_BYTES (64 * 1024) /* an empty queue that was larger gives its memory back */
#define KEEPALIVE_IDLE_S 60
#define KEEPALIVE_INTERVAL_S 15
#define KEEPALIVE_PROBES 4
_Static_assert(PARTS_PER_SEND <= IOV_MAX, "sendmsg takes no more");

/*
 *                    +--- next address ---+
 *                    v                    |
 *   net_connect -> CONNECTING ------------+--> closed(NET_CONNECT_FAILED)
 *                    |
 *   accepted -----> OPEN --> net_close: sends the queue --> ENDED: waits for the peer's end --> GONE
 *                    |
 *                    +-----> the stream ends or breaks, or net_abort --------------------------> GONE
 *
 * GONE streams are freed when nothing refers to them any more: see `free_if_unused`.
 */
enum stream_state { CONNECTING, OPEN, ENDED, GONE };

/* What a stream needs only until it is connected. */
struct attempt {
    uv_getaddrinfo_t request;
    uint16_t port;
    size_t next; /* address to try */
    struct os_addresses addresses;
};

struct net_stream {
    struct os_net *net;
    const struct net_stream_handler *handler; /* NULL before net_attach, and once the user is done with it */
    void *user;
    struct net_stream *previous, *next; /* in net->streams, until GONE */

    int fd;
    enum stream_state state;
    int watched;      /* events that libuv watches for us */
    bool poll_exists; /* from uv_poll_init until libuv has let go of it */
    bool resolving;
    bool paused;
    bool closing;         /* the user is done with it; what is queued is still sent */
    bool broken;          /* a send failed, or the socket has an error: `received` may still come, then `closed` */
    bool reset;           /* the failed send has taken the socket's error, so that recv would tell of an orderly end */
    bool peer_ended;      /* nothing more comes from it */
    uint64_t deadline_ms; /* of a closing stream; 0 when it has none */
    size_t dropped_bytes; /* that came after net_close */

    struct buffer queue;
    size_t queue_sent; /* bytes at the front of `queue` that the system has taken */

    uv_poll_t poll;
    struct os_task task;
    struct attempt *attempt;
};

struct net_listener {
    struct os_net *net;
    const struct net_listener_handler *handler;
    void *user;
    struct net_listener *previous, *next;
    int fd;
    bool stopped;
    uint16_t port;
    uv_poll_t poll;
};

struct os_net {
    struct net port;
    struct os_loop *loop;
    struct logger *logger;
    struct net_stream *streams;
    struct net_listener *listeners;
    size_t stream_count;
    size_t references; /* by the user, libuv's handles, and streams */
    bool accept_paused;
    bool accept_pause_logged; /* since the last connection that was accepted */
    uv_timer_t accept_timer;
    uv_timer_t close_timer; /* for the closing stream that is due first */
    uint8_t received[NET_RECEIVE_BYTES];
};

static void stream_ready(uv_poll_t *poll, int status, int events);
static void try_next_address(struct net_stream *stream);

static void net_unref(struct os_net *net)
{
    CHECK(net->references > 0);
    if (--net->references == 0) mem_free(net);
}

/* ---- the life of a stream ---- */

static void run_stream_task(struct os_task *task);

static struct net_stream *stream_new(struct os_net *net, enum stream_state state)
{
    struct net_stream *stream = mem_alloc_zero(sizeof *stream);
    stream->net = net;
    stream->fd = -1;
    stream->state = state;
    stream->task.run = run_stream_task;
    stream->next = net->streams;
    if (net->streams != NULL) net->streams->previous = stream;
    net->streams = stream;
    net->stream_count++;
    net->references++;
    return stream;
}

static void free_if_unused(struct net_stream *stream)
{
    if (stream->state != GONE || stream->poll_exists || stream->task.queued || stream->resolving) return;
    mem_free(stream->attempt);
    net_unref(stream->net);
    mem_free(stream);
}

static void poll_closed(uv_handle_t *handle)
{
    struct net_stream *stream = handle->data;
    stream->poll_exists = false;
    if (stream->state == CONNECTING) {
        os_loop_note_event(stream->net->loop);
        try_next_address(stream);
    } else {
        free_if_unused(stream);
    }
}

static void close_socket(struct net_stream *stream)
{
    if (stream->fd < 0) return;
    uv_close((uv_handle_t *)&stream->poll, poll_closed);
    close(stream->fd);
    stream->fd = -1;
    stream->watched = 0;
}

/*
 * Ends all that the stream does. Its memory stays for the rest of the callback from libuv or of
 * the task that runs now; so whoever called the user may look at its state afterwards.
 */
static void stream_end(struct net_stream *stream)
{
    CHECK(stream->state != GONE);
    stream->state = GONE;
    stream->handler = NULL;
    stream->deadline_ms = 0;
    if (stream->previous != NULL) stream->previous->next = stream->next;
    if (stream->net->streams == stream) stream->net->streams = stream->next;
    if (stream->next != NULL) stream->next->previous = stream->previous;
    stream->net->stream_count--;
    buffer_free(&stream->queue);
    stream->queue_sent = 0;
    if (stream->resolving) uv_cancel((uv_req_t *)&stream->attempt->request);
    close_socket(stream);
}

/* As stream_end, but the peer gets a reset. */
static void stream_reset(struct net_stream *stream)
{
    if (stream->fd >= 0) {
        struct linger at_once = {.l_onoff = 1, .l_linger = 0};
        setsockopt(stream->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    }
    stream_end(stream);
}

static size_t queued_bytes(const struct net_stream *stream)
{
    return stream->queue.size - stream->queue_sent;
}

/* Has libuv watch for what the stream can do something about now. */
static void watch(struct net_stream *stream)
{
    if (stream->fd < 0) return;
    int events = 0;
    bool reads = !stream->peer_ended && (stream->closing || (stream->handler != NULL && !stream->paused));
    switch (stream->state) {
    case CONNECTING:
        events = UV_WRITABLE;
        break;
    case OPEN:
        if (stream->broken) break;
        events = (reads ? UV_READABLE : 0) | (queued_bytes(stream) > 0 ? UV_WRITABLE : 0);
        break;
    case ENDED:
        events = UV_READABLE;
        break;
    case GONE:
        break;
    }
    if (events == stream->watched) return;
    stream->watched = events;
    if (events == 0) {
        uv_poll_stop(&stream->poll);
    } else {
        CHECK(uv_poll_start(&stream->poll, events, stream_ready) == 0);
    }
}

static void closing_is_due(uv_timer_t *timer)
{
    struct os_net *net = timer->data;
    uint64_t now_ms = uv_now(os_loop_uv(net->loop)), next_ms = 0;
    for (struct net_stream *stream = net->streams, *next; stream != NULL; stream = next) {
        next = stream->next;
        if (stream->deadline_ms == 0) continue;
        if (stream->deadline_ms <= now_ms) {
            stream_reset(stream);
            free_if_unused(stream);
        } else if (next_ms == 0 || stream->deadline_ms < next_ms) {
            next_ms = stream->deadline_ms;
        }
    }
    if (next_ms != 0) uv_timer_start(timer, closing_is_due, next_ms - now_ms, 0);
}

static void set_deadline(struct net_stream *stream, uint64_t in_ms)
{
    uv_timer_t *timer = &stream->net->close_timer;
    stream->deadline_ms = uv_now(timer->loop) + in_ms;
    if (!uv_is_active((uv_handle_t *)timer) || uv_timer_get_due_in(timer) > in_ms) {
        uv_timer_start(timer, closing_is_due, in_ms, 0);
    }
}

/* The stream is over: tells the user. */
static void stream_over(struct net_stream *stream, enum net_close_reason reason)
{
    const struct net_stream_handler *handler = stream->handler;
    void *user = stream->user;
    if (reason == NET_CLOSED_BY_PEER && !stream->broken && handler != NULL && handler->ended != NULL) {
        stream->peer_ended = true;
        watch(stream);
        handler->ended(user);
        return;
    }
    if (reason == NET_CLOSED_BY_PEER && !stream->broken && queued_bytes(stream) > 0) {
        /* The peer may have ended its own direction only, and still wait for the answer. */
        stream->handler = NULL;
        stream->closing = true;
        stream->peer_ended = true;
        set_deadline(stream, NET_CLOSE_SEND_MS);
        watch(stream);
    } else {
        stream_end(stream);
    }
    if (handler != NULL && handler->closed != NULL) handler->closed(user, reason);
}

/* Whether the user still has the stream, and it works. */
static bool is_live(const struct net_stream *stream)
{
    return stream->state == OPEN && !stream->closing && !stream->broken;
}

/* ---- receiving ---- */

static ssize_t receive(struct net_stream *stream)
{
    ssize_t size;
    do {
        size = recv(stream->fd, stream->net->received, NET_RECEIVE_BYTES, 0);
    } while (size < 0 && errno == EINTR);
    return size;
}

static bool would_wait(int number)
{
    /* ENOBUFS is a lack of memory for the moment, not the stream's failure. */
    return number == EAGAIN || number == EWOULDBLOCK || number == ENOBUFS;
}

static void deliver(struct net_stream *stream, ssize_t size)
{
    if (stream->handler->received == NULL) return;
    stream->handler->received(stream->user, bytes_of(stream->net->received, (size_t)size));
}

static void read_ready(struct net_stream *stream)
{
    for (int i = 0; i < READS_PER_EVENT; i++) {
        ssize_t size = receive(stream);
        if (size < 0 && would_wait(errno)) return;
        if (size <= 0) {
            stream_over(stream, size == 0 ? NET_CLOSED_BY_PEER : NET_RESET);
            return;
        }
        deliver(stream, size);
        /* What fills less than the buffer was all there was; another recv would only say so. */
        if (size < NET_RECEIVE_BYTES || !is_live(stream) || stream->paused) return;
    }
}

/* The stream is broken. Delivers what the peer sent before that, then says so. */
static void read_to_end(struct net_stream *stream)
{
    stream->broken = true;
    for (int i = 0; i < READS_TO_END && !stream->paused; i++) {
        ssize_t size = receive(stream);
        if (size < 0 && would_wait(errno)) break;
        if (size <= 0) {
            stream_over(stream, size == 0 && !stream->reset ? NET_CLOSED_BY_PEER : NET_RESET);
            return;
        }
        deliver(stream, size);
        if (stream->state != OPEN || stream->closing) return;
    }
    stream_over(stream, NET_RESET);
}

/* Reads and forgets what the peer sends after net_close. */
static void drop_received(struct net_stream *stream)
{
    ssize_t size = receive(stream);
    if (size < 0 && would_wait(errno)) return;
    if (size > 0) {
        stream->dropped_bytes += (size_t)size;
        if (stream->dropped_bytes > NET_CLOSE_DROP_BYTES) stream_reset(stream);
    } else if (size < 0 || stream->state == ENDED) {
        stream_end(stream);
    } else {
        stream->peer_ended = true;
        watch(stream);
    }
}

/* ---- sending ---- */

/* Sends what the system takes; *sent is how much that was. False when the stream is broken. */
static bool send_parts(struct net_stream *stream, const struct bytes *parts, size_t part_count, size_t *sent)
{
    *sent = 0;
    while (part_count > 0) {
        size_t count = 0, wanted = 0;
        struct iovec vectors[PARTS_PER_SEND];
        for (; count < part_count && count < PARTS_PER_SEND; count++) {
            vectors[count] = (struct iovec){.iov_base = (void *)parts[count].data, .iov_len = parts[count].size};
            wanted += parts[count].size;
        }
        ssize_t taken = 0;
        if (wanted > 0) {
            struct msghdr message = {.msg_iov = vectors, .msg_iovlen = count};
            do {
                taken = count == 1 ? send(stream->fd, parts->data, parts->size, MSG_NOSIGNAL)
                                   : sendmsg(stream->fd, &message, MSG_NOSIGNAL);
            } while (taken < 0 && errno == EINTR);
        }
        if (taken < 0) {
            if (would_wait(errno)) return true;
            stream->reset = errno != EPIPE; /* EPIPE comes after the peer's end was seen */
            return false;
        }
        *sent += (size_t)taken;
        if ((size_t)taken < wanted) return true;
        parts += count;
        part_count -= count;
    }
    return true;
}

/* Sends from the queue what the system takes. False when the stream is broken. */
static bool send_queued(struct net_stream *stream)
{
    struct bytes rest = bytes_of(stream->queue.data + stream->queue_sent, queued_bytes(stream));
    size_t sent;
    if (!send_parts(stream, &rest, 1, &sent)) return false;
    stream->queue_sent += sent;
    if (queued_bytes(stream) == 0) {
        buffer_clear(&stream->queue);
        stream->queue_sent = 0;
        if (stream->queue.capacity > QUEUE_KEPT_BYTES) buffer_free(&stream->queue);
    }
    watch(stream);
    return true;
}

static void append_to_queue(struct net_stream *stream, const struct bytes *parts, size_t part_count, size_t sent)
{
    if (stream->queue_sent > stream->queue.size / 2) {
        buffer_consume(&stream->queue, stream->queue_sent);
        stream->queue_sent = 0;
    }
    for (size_t i = 0; i < part_count; i++) {
        size_t skip = sent < parts[i].size ? sent : parts[i].size;
        sent -= skip;
        if (parts[i].size > skip) buffer_append(&stream->queue, parts[i].data + skip, parts[i].size - skip);
    }
}

static void port_write(struct net_stream *stream, const struct bytes *parts, size_t part_count)
{
    CHECK(stream->state != GONE && !stream->closing);
    if (stream->broken) return;
    size_t sent = 0;
    if (stream->state == OPEN && queued_bytes(stream) == 0 && !send_parts(stream, parts, part_count, &sent)) {
        stream->broken = true;
        watch(stream);
        os_loop_defer(stream->net->loop, &stream->task);
        return;
    }
    append_to_queue(stream, parts, part_count, sent);
    watch(stream);
}

static void write_ready(struct net_stream *stream)
{
    if (!send_queued(stream)) {
        read_to_end(stream);
    } else if (queued_bytes(stream) == 0 && stream->handler->drained != NULL) {
        stream->handler->drained(stream->user);
    }
}

/* ---- closing ---- */

/* Everything is sent: ends our direction. */
static void end_sending(struct net_stream *stream)
{
    if (stream->peer_ended || shutdown(stream->fd, SHUT_WR) != 0) {
        stream_end(stream);
        return;
    }
    stream->state = ENDED;
    set_deadline(stream, NET_CLOSE_DROP_MS);
    watch(stream);
}

static void port_close(struct net_stream *stream)
{
    CHECK(stream->state != GONE && !stream->closing);
    stream->handler = NULL;
    stream->closing = true;
    if (stream->broken || (stream->state == CONNECTING && queued_bytes(stream) == 0)) {
        stream_end(stream);
    } else if (stream->state == OPEN && queued_bytes(stream) == 0) {
        end_sending(stream);
    } else {
        set_deadline(stream, NET_CLOSE_SEND_MS);
        watch(stream);
    }
}

static void port_abort(struct net_stream *stream)
{
    CHECK(stream->state != GONE && !stream->closing);
    stream_reset(stream);
}

static void closing_ready(struct net_stream *stream, int status, int events)
{
    if (status < 0) {
        stream_end(stream);
        return;
    }
    if (events & UV_READABLE) drop_received(stream);
    if (stream->state != OPEN || !(events & UV_WRITABLE)) return;
    if (!send_queued(stream)) {
        stream_end(stream);
    } else if (queued_bytes(stream) == 0) {
        end_sending(stream);
    }
}

/* ---- connecting ---- */

static void set_option(int fd, int level, int name, int value)
{
    /* None of them decides whether the stream works. */
    setsockopt(fd, level, name, &value, sizeof value);
}

static void set_stream_options(int fd)
{
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
}

/* Watches `fd` for the stream, or closes it. */
static bool adopt_socket(struct net_stream *stream, int fd)
{
    if (uv_poll_init(os_loop_uv(stream->net->loop), &stream->poll, fd) != 0) {
        close(fd);
        return false;
    }
    stream->poll.data = stream;
    stream->poll_exists = true;
    stream->fd = fd;
    return true;
}

static bool try_address(struct net_stream *stream, const struct sockaddr_storage *address)
{
    int fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return false;
    set_stream_options(fd);
    set_option(fd, IPPROTO_TCP, TCP_SYNCNT, NET_CONNECT_RETRIES);
    if (connect(fd, (const struct sockaddr *)address, os_address_size(address)) != 0 && errno != EINPROGRESS &&
        errno != EINTR) {
        close(fd);
        return false;
    }
    return adopt_socket(stream, fd);
}

static void try_next_address(struct net_stream *stream)
{
    struct attempt *attempt = stream->attempt;
    while (attempt->next < attempt->addresses.count) {
        if (try_address(stream, &attempt->addresses.at[attempt->next++])) {
            watch(stream);
            return;
        }
    }
    os_loop_defer(stream->net->loop, &stream->task);
}

static void resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *found)
{
    struct net_stream *stream = request->data;
    stream->resolving = false;
    if (stream->state == GONE) {
        uv_freeaddrinfo(found);
        free_if_unused(stream);
        return;
    }
    os_loop_note_event(stream->net->loop);
    if (status == 0) os_addresses_resolved(found, stream->attempt->port, &stream->attempt->addresses);
    uv_freeaddrinfo(found);
    try_next_address(stream);
}

static struct net_stream *port_connect(struct net *port, const char *host, uint16_t tcp_port,
                                       const struct net_stream_handler *handler, void *user)
{
    struct os_net *net = (struct os_net *)port;
    struct net_stream *stream = stream_new(net, CONNECTING);
    stream->handler = handler;
    stream->user = user;
    struct attempt *attempt = stream->attempt = mem_alloc_zero(sizeof *attempt);
    attempt->port = tcp_port;
    attempt->request.data = stream;
    if (os_addresses_numeric(host, tcp_port, &attempt->addresses)) {
        try_next_address(stream);
        return stream;
    }
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    if (uv_getaddrinfo(os_loop_uv(net->loop), &attempt->request, resolved, host, NULL, &hints) == 0) {
        stream->resolving = true;
    } else {
        os_loop_defer(net->loop, &stream->task);
    }
    return stream;
}

/* A connection to a port of one's own that nobody listens on may meet itself (RFC 9293 §3.5, simultaneous open). */
static bool is_own_end(int fd)
{
    struct sockaddr_storage own = {0}, peer = {0};
    socklen_t own_size = sizeof own, peer_size = sizeof peer;
    if (getsockname(fd, (struct sockaddr *)&own, &own_size) != 0) return false;
    if (getpeername(fd, (struct sockaddr *)&peer, &peer_size) != 0) return false;
    return own_size == peer_size && memcmp(&own, &peer, own_size) == 0;
}

static void connect_ready(struct net_stream *stream)
{
    int number = 0;
    socklen_t size = sizeof number;
    if (getsockopt(stream->fd, SOL_SOCKET, SO_ERROR, &number, &size) != 0) number = errno;
    if (number != 0 || is_own_end(stream->fd)) {
        close_socket(stream); /* poll_closed goes on with the next address */
        return;
    }
    stream->state = OPEN;
    mem_free(stream->attempt);
    stream->attempt = NULL;
    watch(stream);
    if (!stream->closing && stream->handler->connected != NULL) stream->handler->connected(stream->user);
    /* What is queued goes out with the next event, which is there: the socket is writable. */
}

/* Reports what a call found and could not report itself. */
static void run_stream_task(struct os_task *task)
{
    struct net_stream *stream = (struct net_stream *)((char *)task - offsetof(struct net_stream, task));
    if (stream->state == CONNECTING) {
        stream_over(stream, NET_CONNECT_FAILED);
    } else if (stream->state == OPEN) {
        read_to_end(stream);
    }
    free_if_unused(stream);
}

static void stream_ready(uv_poll_t *poll, int status, int events)
{
    struct net_stream *stream = poll->data;
    os_loop_note_event(stream->net->loop);
    /* The socket has an error, which its next use will tell; libuv has stopped watching it. */
    if (status < 0) stream->watched = 0;
    if (stream->state == CONNECTING) {
        connect_ready(stream);
    } else if (stream->closing) {
        closing_ready(stream, status, events);
    } else if (status < 0) {
        read_to_end(stream);
    } else {
        if (events & UV_READABLE) read_ready(stream);
        if ((events & UV_WRITABLE) && is_live(stream) && queued_bytes(stream) > 0) write_ready(stream);
    }
}

static void port_attach(struct net_stream *stream, const struct net_stream_handler *handler, void *user)
{
    CHECK(stream->state != GONE && !stream->closing);
    stream->handler = handler;
    stream->user = user;
    watch(stream);
}

static size_t port_queued_bytes(const struct net_stream *stream)
{
    return queued_bytes(stream);
}

static void port_pause(struct net_stream *stream, bool paused)
{
    CHECK(stream->state != GONE && !stream->closing);
    stream->paused = paused;
    watch(stream);
}

/* ---- listening ---- */

static void listener_ready(uv_poll_t *poll, int status, int events);

static void listener_watch(struct net_listener *listener, bool watched)
{
    if (watched) {
        CHECK(uv_poll_start(&listener->poll, UV_READABLE, listener_ready) == 0);
    } else {
        uv_poll_stop(&listener->poll);
    }
}

static void accept_again(uv_timer_t *timer)
{
    struct os_net *net = timer->data;
    net->accept_paused = false;
    for (struct net_listener *listener = net->listeners; listener != NULL; listener = listener->next) {
        listener_watch(listener, true);
    }
}

/* Out of descriptors or memory: the waiting connection would wake us again at once, to no avail. */
static void pause_accepting(struct os_net *net, int number)
{
    if (!net->accept_pause_logged) {
        log_warn(net->logger, "accepting connections failed", "error=\"%s\" connections=%zu retry_ms=%d",
                 strerror(number), net->stream_count, NET_ACCEPT_PAUSE_MS);
    }
    net->accept_pause_logged = true;
    if (net->accept_paused) return;
    net->accept_paused = true;
    for (struct net_listener *listener = net->listeners; listener != NULL; listener = listener->next) {
        listener_watch(listener, false);
    }
    CHECK(uv_timer_start(&net->accept_timer, accept_again, NET_ACCEPT_PAUSE_MS, 0) == 0);
}

static void accept_stream(struct net_listener *listener, int fd, const struct sockaddr_storage *peer)
{
    struct os_net *net = listener->net;
    /* The options of the listener's socket hold for this one too. */
    struct net_stream *stream = stream_new(net, OPEN);
    if (!adopt_socket(stream, fd)) {
        stream_end(stream);
        free_if_unused(stream);
        return;
    }
    net->accept_pause_logged = false;
    char text[NET_ADDRESS_TEXT_BYTES];
    os_address_format(peer, text);
    os_loop_note_event(net->loop);
    listener->handler->accepted(listener->user, stream, text);
    CHECK(stream->handler != NULL || stream->closing || stream->state == GONE);
}

static void listener_ready(uv_poll_t *poll, int status, int events)
{
    struct net_listener *listener = poll->data;
    (void)events;
    if (status < 0) {
        pause_accepting(listener->net, EIO);
        return;
    }
    for (int i = 0; i < NET_ACCEPTS_PER_EVENT && !listener->stopped; i++) {
        struct sockaddr_storage peer = {0};
        socklen_t size = sizeof peer;
        int fd = accept4(listener->fd, (struct sockaddr *)&peer, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            accept_stream(listener, fd, &peer);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            pause_accepting(listener->net, errno);
            return;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        }
        /* Every other error is that of one connection, which is gone already. */
    }
}

static void listener_closed(uv_handle_t *handle)
{
    struct net_listener *listener = handle->data;
    net_unref(listener->net);
    mem_free(listener);
}

static void port_stop_listening(struct net_listener *listener)
{
    CHECK(!listener->stopped);
    listener->stopped = true;
    if (listener->previous != NULL) listener->previous->next = listener->next;
    if (listener->net->listeners == listener) listener->net->listeners = listener->next;
    if (listener->next != NULL) listener->next->previous = listener->previous;
    uv_close((uv_handle_t *)&listener->poll, listener_closed);
    close(listener->fd);
}

/* A socket that listens on the address; -1 with errno. */
static int listen_on(const struct sockaddr_storage *address)
{
    int fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    /* A restart may find connections of the previous process in TIME_WAIT. */
    set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    /* "::" is all addresses, IPv4 too, whatever the system's default says. */
    if (address->ss_family == AF_INET6) set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    set_stream_options(fd);
    if (bind(fd, (const struct sockaddr *)address, os_address_size(address)) == 0 && listen(fd, NET_BACKLOG) == 0) {
        return fd;
    }
    int number = errno;
    close(fd);
    errno = number;
    return -1;
}

static enum error listen_failed(struct os_net *net, const char *host, uint16_t port, const char *cause,
                                enum error error)
{
    snprintf(net->port.error_text, sizeof net->port.error_text, "listen on %s port %u: %s", host, port, cause);
    return error;
}

static enum error port_listen(struct net *port, const char *host, uint16_t tcp_port,
                              const struct net_listener_handler *handler, void *user, struct net_listener **out)
{
    struct os_net *net = (struct os_net *)port;
    struct os_addresses addresses;
    if (!os_addresses_numeric(host, tcp_port, &addresses)) {
        /* Listening is for the start, where a look-up may take its time. */
        struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
        struct addrinfo *found = NULL;
        int status = getaddrinfo(host, NULL, &hints, &found);
        if (status != 0) return listen_failed(net, host, tcp_port, gai_strerror(status), ERR_NETWORK);
        os_addresses_resolved(found, tcp_port, &addresses);
        freeaddrinfo(found);
    }

    int fd = -1, number = EADDRNOTAVAIL;
    for (size_t i = 0; i < addresses.count && fd < 0; i++) {
        fd = listen_on(&addresses.at[i]);
        /* The first address' failure says most: a machine without IPv6 fails for "::1" in any case. */
        if (fd < 0 && i == 0) number = errno;
        if (fd < 0 && number == EADDRINUSE) break;
    }
    if (fd < 0) {
        enum error error = number == EADDRINUSE                  ? ERR_ADDRESS_IN_USE
                           : number == EACCES || number == EPERM ? ERR_NO_PERMISSION
                                                                 : ERR_NETWORK;
        return listen_failed(net, host, tcp_port, strerror(number), error);
    }

    struct net_listener *listener = mem_alloc_zero(sizeof *listener);
    int status = uv_poll_init(os_loop_uv(net->loop), &listener->poll, fd);
    if (status != 0) {
        close(fd);
        mem_free(listener);
        return listen_failed(net, host, tcp_port, uv_strerror(status), ERR_NETWORK);
    }
    struct sockaddr_storage own = {0};
    socklen_t own_size = sizeof own;
    CHECK(getsockname(fd, (struct sockaddr *)&own, &own_size) == 0);
    listener->port = os_address_port(&own);
    listener->net = net;
    listener->handler = handler;
    listener->user = user;
    listener->fd = fd;
    listener->poll.data = listener;
    listener->next = net->listeners;
    if (net->listeners != NULL) net->listeners->previous = listener;
    net->listeners = listener;
    net->references++;
    if (!net->accept_paused) listener_watch(listener, true);
    *out = listener;
    return ERR_OK;
}

static uint16_t port_listener_port(struct net_listener *listener)
{
    return listener->port;
}

/* ---- the port ---- */

static const struct net_operations operations = {
    .listen = port_listen,
    .listener_port = port_listener_port,
    .stop_listening = port_stop_listening,
    .connect = port_connect,
    .attach = port_attach,
    .write = port_write,
    .queued_bytes = port_queued_bytes,
    .pause = port_pause,
    .close = port_close,
    .abort = port_abort,
};

struct os_net *os_net_new(struct os_loop *loop, struct logger *logger)
{
    struct os_net *net = mem_alloc_zero(sizeof *net);
    net->port.operations = &operations;
    net->loop = loop;
    net->logger = logger;
    net->references = 3; /* the user's and the timers' */
    CHECK(uv_timer_init(os_loop_uv(loop), &net->accept_timer) == 0);
    CHECK(uv_timer_init(os_loop_uv(loop), &net->close_timer) == 0);
    net->accept_timer.data = net;
    net->close_timer.data = net;
    return net;
}

struct net *os_net_port(struct os_net *net)
{
    return &net->port;
}

size_t os_net_stream_count(const struct os_net *net)
{
    return net->stream_count;
}

static void timer_closed(uv_handle_t *handle)
{
    net_unref(handle->data);
}

void os_net_free(struct os_net *net)
{
    while (net->listeners != NULL) port_stop_listening(net->listeners);
    while (net->streams != NULL) {
        struct net_stream *stream = net->streams;
        if (stream->state == OPEN && !stream->broken && queued_bytes(stream) > 0) {
            struct bytes rest = bytes_of(stream->queue.data + stream->queue_sent, queued_bytes(stream));
            size_t sent;
            send_parts(stream, &rest, 1, &sent);
        }
        stream_end(stream);
        free_if_unused(stream);
    }
    uv_close((uv_handle_t *)&net->accept_timer, timer_closed);
    uv_close((uv_handle_t *)&net->close_timer, timer_closed);
    net_unref(net);
}
