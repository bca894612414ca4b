#include "client/client.h"

#include "base/check.h"
#include "base/mem.h"
#include "client/kv.h"
#include "wire/http1.h"

#define DEFAULT_PORT 7777u

enum client_state {
    CLIENT_IDLE, /* nothing under way; there may be a connection */
    CLIENT_CONNECTING,
    CLIENT_PROBING, /* waits until the endpoint shows that it answers at all */
    CLIENT_SENT,    /* waits for the answer */
    CLIENT_PAUSED,  /* waits for resume_at, to try again */
};

struct client {
    struct net *net;
    struct loop *loop;
    struct client_endpoint endpoints[CLIENT_ENDPOINTS_MAX];
    uint32_t endpoint_count;
    uint32_t current; /* the endpoint of the connection */

    enum client_state state;
    struct net_stream *stream; /* NULL: not connected */
    bool connected;
    bool reused; /* the connection has carried an answer before */
    struct http1_response_parser *parser;

    /* The request under way. */
    struct buffer bytes; /* as it is sent to the current endpoint */
    const char *method;
    struct buffer path, body;
    bool idempotent, retry;
    time_ns deadline;         /* of everything */
    time_ns attempt_deadline; /* of what this endpoint is to do next, while there are others */
    time_ns resume_at;
    uint32_t failures;     /* in a row; a whole round of endpoints is followed by a pause */
    bool reached;          /* some endpoint may have taken it */
    int refused_status;    /* of the last answer that said to try again; 0: none */
    struct buffer refused; /* its body */
    client_done *done;
    void *user;
};

/* ---- endpoints ---- */

static bool parse_port(const char *text, size_t size, uint16_t *port)
{
    unsigned value = 0;
    if (size == 0 || size > 5) return false;
    for (size_t i = 0; i < size; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        value = value * 10 + (unsigned)(text[i] - '0');
    }
    *port = (uint16_t)value;
    return value > 0 && value <= UINT16_MAX;
}

static bool parse_endpoint(const char *text, size_t size, struct client_endpoint *out)
{
    static const char scheme[] = "http://";
    if (size >= sizeof scheme - 1 && memcmp(text, scheme, sizeof scheme - 1) == 0) {
        text += sizeof scheme - 1;
        size -= sizeof scheme - 1;
    }
    if (size > 0 && text[size - 1] == '/') size--;

    const char *host = text;
    size_t host_size = size;
    const char *rest = memchr(text, ':', size);
    if (size > 0 && text[0] == '[') {
        const char *bracket = memchr(text, ']', size);
        if (bracket == NULL) return false;
        host = text + 1;
        host_size = (size_t)(bracket - host);
        rest = bracket + 1;
    } else if (rest != NULL) {
        host_size = (size_t)(rest - text);
    } else {
        rest = text + size;
    }
    if (host_size == 0 || host_size > ADDRESS_BYTES_MAX || memchr(host, '/', host_size) != NULL) return false;
    memcpy(out->host, host, host_size);
    out->host[host_size] = '\0';
    out->port = DEFAULT_PORT;
    size_t rest_size = size - (size_t)(rest - text);
    return rest_size == 0 || (rest[0] == ':' && parse_port(rest + 1, rest_size - 1, &out->port));
}

uint32_t client_endpoints_parse(const char *text, struct client_endpoint *out, struct buffer *problem)
{
    uint32_t count = 0;
    for (const char *at = text;;) {
        size_t size = strcspn(at, ",");
        if (count == CLIENT_ENDPOINTS_MAX) {
            buffer_append_format(problem, "there are more than %u endpoints", CLIENT_ENDPOINTS_MAX);
            return 0;
        }
        if (!parse_endpoint(at, size, &out[count])) {
            buffer_append_format(problem, "\"%.*s\" is no endpoint; write host:port,host:port", (int)size, at);
            return 0;
        }
        count++;
        if (at[size] == '\0') return count;
        at += size + 1;
    }
}

/* ---- one attempt ---- */

static void connect_current(struct client *client);

static void finish(struct client *client, enum error error, int status, struct bytes body)
{
    struct client_response response = {
        .error = error,
        .status = status,
        .body = body,
        .endpoint = &client->endpoints[client->current],
    };
    /* Who didn't answer this time is the last to be asked the next time. */
    if (error != ERR_OK) client->current = (client->current + 1) % client->endpoint_count;
    client_done *done = client->done;
    client->done = NULL;
    client->state = CLIENT_IDLE;
    done(client->user, &response);
}

/* It can't be done, at least not in time. */
static void give_up(struct client *client)
{
    if (client->reached) {
        finish(client, ERR_TIMEOUT, 0, bytes_of(NULL, 0));
    } else if (client->refused_status != 0) {
        finish(client, ERR_OK, client->refused_status, buffer_bytes(&client->refused));
    } else {
        finish(client, ERR_NETWORK, 0, bytes_of(NULL, 0));
    }
}

static void drop_connection(struct client *client)
{
    if (client->stream != NULL) net_abort(client->net, client->stream);
    client->stream = NULL;
    client->connected = false;
    client->reused = false;
    if (client->parser != NULL) http1_response_parser_free(client->parser);
    client->parser = NULL;
}

/* The beginning of a request as the current endpoint gets it. */
static void write_head(struct client *client, const char *method, struct bytes path)
{
    const struct client_endpoint *endpoint = &client->endpoints[client->current];
    bool v6 = strchr(endpoint->host, ':') != NULL;
    struct buffer *out = &client->bytes;
    buffer_clear(out);
    buffer_append_string(out, method);
    buffer_append_byte(out, ' ');
    buffer_append(out, path.data, path.size);
    buffer_append_format(out, " HTTP/1.1\r\nHost: %s%s%s:%u\r\n", v6 ? "[" : "", endpoint->host, v6 ? "]" : "",
                         endpoint->port);
}

static void write_request(struct client *client)
{
    struct buffer *out = &client->bytes;
    write_head(client, client->method, buffer_bytes(&client->path));
    bool bodiless =
        client->body.size == 0 && (strcmp(client->method, "GET") == 0 || strcmp(client->method, "HEAD") == 0);
    if (!bodiless) {
        buffer_append_format(out, "Content-Type: application/json\r\nContent-Length: %zu\r\n", client->body.size);
    }
    buffer_append_string(out, "\r\n");
    buffer_append(out, client->body.data, client->body.size);
}

static void send_request(struct client *client)
{
    write_request(client);
    struct bytes bytes = buffer_bytes(&client->bytes);
    client->state = CLIENT_SENT;
    client->attempt_deadline = loop_now(client->loop) + CLIENT_ANSWER_PATIENCE;
    net_write(client->net, client->stream, &bytes, 1);
}

static void send_probe(struct client *client)
{
    write_head(client, "GET", bytes_of_string("/livez"));
    buffer_append_string(&client->bytes, "\r\n");
    struct bytes bytes = buffer_bytes(&client->bytes);
    client->state = CLIENT_PROBING;
    net_write(client->net, client->stream, &bytes, 1);
}

/* This endpoint didn't do it: goes on to the next. When all have failed, gives up, or begins anew after a pause. */
static void try_next(struct client *client)
{
    uint32_t next = (client->current + 1) % client->endpoint_count;
    client->failures++;
    if (client->failures % client->endpoint_count != 0) {
        client->current = next;
        connect_current(client);
    } else if (client->retry) {
        client->current = next;
        client->state = CLIENT_PAUSED;
        client->resume_at = loop_now(client->loop) + CLIENT_RETRY_PAUSE;
    } else {
        give_up(client);
    }
}

static void attempt_broke(struct client *client, bool sent)
{
    bool reused = client->reused;
    drop_connection(client);
    /* A server may close a connection that idles just when we send on it; then it took nothing, but that can't be told
       apart from a server that died with the request in hand. */
    if (sent) client->reached = true;
    if (!sent) {
        try_next(client);
    } else if (client->idempotent && reused) {
        connect_current(client);
    } else if (client->idempotent) {
        try_next(client);
    } else {
        finish(client, ERR_TIMEOUT, 0, bytes_of(NULL, 0));
    }
}

/* ---- the stream's callbacks ---- */

static void stream_connected(void *user)
{
    struct client *client = user;
    client->connected = true;
    client->parser = http1_response_parser_new(CLIENT_RESPONSE_BYTES_MAX);
    if (client->state != CLIENT_CONNECTING) return;
    if (client->endpoint_count > 1 && !client->idempotent) {
        send_probe(client);
    } else {
        send_request(client);
    }
}

static void probe_answered(struct client *client)
{
    struct http1_response_view view;
    enum error error = http1_response_parser_next(client->parser, false, &view);
    if (error == ERR_NOT_READY) return;
    if (error == ERR_OK && view.keep_alive) {
        send_request(client);
    } else {
        attempt_broke(client, false);
    }
}

/* Whether the answer says that nothing was done, and the same request may be sent again. */
static bool answer_invites_retry(const struct http1_response_view *view)
{
    if (view->status < 400) return false;
    struct buffer message = {0};
    enum error error = client_kv_error(view->body, &message);
    buffer_free(&message);
    return error_may_retry(error);
}

static void stream_received(void *user, struct bytes bytes)
{
    struct client *client = user;
    if (client->state == CLIENT_PROBING) {
        http1_response_parser_feed(client->parser, bytes);
        probe_answered(client);
        return;
    }
    if (client->state != CLIENT_SENT) {
        drop_connection(client); /* an answer that nobody asked for */
        return;
    }
    client->reached = true;
    http1_response_parser_feed(client->parser, bytes);
    struct http1_response_view view;
    enum error error = http1_response_parser_next(client->parser, strcmp(client->method, "HEAD") == 0, &view);
    if (error == ERR_NOT_READY) return;
    if (error != ERR_OK) {
        drop_connection(client);
        finish(client, ERR_BAD_REQUEST, 0, bytes_of(NULL, 0));
        return;
    }
    client->reused = true;
    if (client->retry && answer_invites_retry(&view)) {
        client->refused_status = view.status;
        buffer_clear(&client->refused);
        buffer_append(&client->refused, view.body.data, view.body.size);
        client->reached = false;
        drop_connection(client);
        try_next(client);
        return;
    }
    client->failures = 0;
    if (view.keep_alive) {
        finish(client, ERR_OK, view.status, view.body);
        return;
    }
    /* The body's view lives in the parser, which goes with the connection, but not before the callback returned. */
    struct http1_response_parser *parser = client->parser;
    client->parser = NULL;
    drop_connection(client);
    finish(client, ERR_OK, view.status, view.body);
    http1_response_parser_free(parser);
}

static void stream_closed(void *user, enum net_close_reason reason)
{
    struct client *client = user;
    (void)reason;
    client->stream = NULL;
    if (client->state == CLIENT_CONNECTING || client->state == CLIENT_PROBING || client->state == CLIENT_SENT) {
        attempt_broke(client, client->state == CLIENT_SENT);
    } else {
        drop_connection(client);
    }
}

static void stream_drained(void *user)
{
    (void)user;
}

static const struct net_stream_handler stream_handler = {
    .connected = stream_connected,
    .received = stream_received,
    .drained = stream_drained,
    .closed = stream_closed,
};

static void connect_current(struct client *client)
{
    const struct client_endpoint *endpoint = &client->endpoints[client->current];
    client->state = CLIENT_CONNECTING;
    client->attempt_deadline = loop_now(client->loop) + CLIENT_CONNECT_TIMEOUT;
    client->stream = net_connect(client->net, endpoint->host, endpoint->port, &stream_handler, client);
}

/* ---- the owner's calls ---- */

struct client *client_new(struct net *net, struct loop *loop, const struct client_endpoint *endpoints,
                          uint32_t endpoint_count, uint32_t first)
{
    CHECK(endpoint_count >= 1 && endpoint_count <= CLIENT_ENDPOINTS_MAX);
    struct client *client = mem_alloc_zero(sizeof *client);
    client->net = net;
    client->loop = loop;
    memcpy(client->endpoints, endpoints, endpoint_count * sizeof *endpoints);
    client->endpoint_count = endpoint_count;
    client->current = first % endpoint_count;
    return client;
}

void client_free(struct client *client)
{
    drop_connection(client);
    buffer_free(&client->bytes);
    buffer_free(&client->path);
    buffer_free(&client->body);
    buffer_free(&client->refused);
    mem_free(client);
}

void client_request(struct client *client, const struct client_request *request, client_done *done, void *user)
{
    CHECK(client->state == CLIENT_IDLE && request->timeout > 0);
    buffer_clear(&client->path);
    buffer_append(&client->path, request->path.data, request->path.size);
    buffer_clear(&client->body);
    buffer_append(&client->body, request->body.data, request->body.size);
    client->method = request->method;
    client->idempotent = request->idempotent;
    client->retry = request->retry;
    client->deadline = loop_now(client->loop) + request->timeout;
    client->failures = 0;
    client->reached = false;
    client->refused_status = 0;
    client->done = done;
    client->user = user;
    if (client->connected) {
        send_request(client);
    } else {
        connect_current(client);
    }
}

bool client_busy(const struct client *client)
{
    return client->state != CLIENT_IDLE;
}

time_ns client_deadline(const struct client *client)
{
    time_ns deadline = client->deadline;
    if (client->state == CLIENT_IDLE) return TIME_NS_NEVER;
    if (client->state == CLIENT_PAUSED && client->resume_at < deadline) return client->resume_at;
    bool may_go_on = client->state != CLIENT_SENT || client->idempotent;
    if (may_go_on && client->endpoint_count > 1 && client->attempt_deadline < deadline) {
        return client->attempt_deadline;
    }
    return deadline;
}

void client_tick(struct client *client)
{
    time_ns now = loop_now(client->loop);
    if (client->state == CLIENT_IDLE || now < client_deadline(client)) return;
    if (now >= client->deadline) {
        if (client->state == CLIENT_SENT) client->reached = true;
        drop_connection(client); /* a late answer must not be taken for the next request's */
        give_up(client);
    } else if (client->state == CLIENT_PAUSED) {
        connect_current(client);
    } else {
        if (client->state == CLIENT_SENT) client->reached = true;
        drop_connection(client);
        try_next(client);
    }
}
