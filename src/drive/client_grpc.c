#include "drive/client_grpc.h"

#include "base/check.h"
#include "base/mem.h"
#include "wire/grpc.h"

/* Room in the scratch buffer that stays after a large answer. */
#define SCRATCH_BYTES_KEPT (256u * 1024)

struct client_grpc {
    struct client_grpc_host *host;
    struct grpc *grpc;
    void (*became_busy)(void *user);
    void *user;
    bool shutting_down;
    size_t waiting_bytes; /* of requests that wait */
};

/* A gRPC call, or a plain request, under way. */
struct rpc {
    struct client_grpc *client;
    struct grpc_call *call;      /* NULL: a plain request */
    struct http2_stream *stream; /* of a plain request */
    const struct etcd_method *method;
    struct etcd_call etcd;
    struct api_call http;
    uint64_t request; /* of the replica's; 0: none */
    size_t waiting_bytes;
};

static void busy(struct client_grpc *client)
{
    client->became_busy(client->user);
}

static struct buffer *scratch(struct client_grpc_host *host)
{
    if (host->scratch.capacity > SCRATCH_BYTES_KEPT) buffer_free(&host->scratch);
    buffer_clear(&host->scratch);
    return &host->scratch;
}

static void forget_request(struct rpc *rpc)
{
    if (rpc->request != 0) request_table_remove(&rpc->client->host->requests, rpc->request);
    rpc->request = 0;
    rpc->client->waiting_bytes -= rpc->waiting_bytes;
    rpc->waiting_bytes = 0;
}

static void rpc_free(struct rpc *rpc)
{
    forget_request(rpc);
    etcd_call_free(&rpc->etcd);
    api_call_free(&rpc->http);
    mem_free(rpc);
}

/* ---- calls ---- */

static void finish_with(struct rpc *rpc, enum grpc_status status, const char *text)
{
    if (status != GRPC_OK) rpc->client->host->failed++;
    grpc_call_finish(rpc->call, status, bytes_of_string(text));
    busy(rpc->client);
}

static void fail(struct rpc *rpc, enum etcd_error error)
{
    finish_with(rpc, etcd_error_status(error), etcd_error_text(error));
}

/* The answer is there. */
static void answer(struct rpc *rpc, struct buffer *out)
{
    if (rpc->etcd.status == GRPC_OK) grpc_call_send(rpc->call, buffer_bytes(out));
    finish_with(rpc, rpc->etcd.status, rpc->etcd.text);
}

/* Hands what a call waits for to the replica. */
static void wait_for(struct rpc *rpc, enum api_wait wait)
{
    struct client_grpc_host *host = rpc->client->host;
    rpc->request = request_table_add(&host->requests, rpc);
    rpc->waiting_bytes = rpc->etcd.message.capacity;
    rpc->client->waiting_bytes += rpc->waiting_bytes;
    if (wait == API_PROPOSE) {
        struct entry **command = rpc->call != NULL ? &rpc->etcd.command : &rpc->http.command;
        struct entry *entry = *command;
        *command = NULL;
        host->handler->propose(host->user, rpc->request, entry);
    } else if (wait == API_LEASE_RENEW || wait == API_LEASE_TIME) {
        host->handler->lease(host->user, rpc->request, rpc->call != NULL ? rpc->etcd.lease : rpc->http.etcd->lease,
                             wait == API_LEASE_RENEW);
    } else if (wait == API_SNAPSHOT) {
        host->handler->want_snapshot(host->user, rpc->request);
    } else {
        host->handler->read(host->user, rpc->request);
    }
}

static bool knows_a_leader(const struct api *api)
{
    return api->replica != NULL && replica_leader(api->replica) != 0;
}

static void on_call(void *user, struct grpc_call *call, const struct grpc_request *request)
{
    struct client_grpc *client = user;
    struct client_grpc_host *host = client->host;
    host->calls++;
    struct rpc *rpc = mem_alloc_zero(sizeof *rpc);
    rpc->client = client;
    rpc->call = call;
    grpc_call_set_user(call, rpc);
    rpc->method = etcd_method_of(request->path);
    if (rpc->method == NULL) {
        struct buffer text = {0};
        buffer_append_string(&text, "unknown method ");
        buffer_append(&text, request->path.data, request->path.size);
        grpc_call_finish(call, GRPC_UNIMPLEMENTED, buffer_bytes(&text));
        buffer_free(&text);
        host->failed++;
        busy(client);
    } else if (rpc->method->form != ETCD_UNARY) {
        finish_with(rpc, GRPC_UNIMPLEMENTED, "coracle: this method doesn't stream yet");
    } else if (request->has_leader && !knows_a_leader(host->api)) {
        fail(rpc, ETCD_ERROR_NO_LEADER);
    }
}

static void on_message(void *user, struct grpc_call *call, struct bytes message)
{
    struct client_grpc *client = user;
    struct rpc *rpc = grpc_call_user(call);
    if (grpc_call_finished(call) || rpc->request != 0) return; /* a unary call has one message */
    struct buffer *out = scratch(client->host);
    enum api_wait wait = etcd_begin(client->host->api, &rpc->etcd, rpc->method, message, out);
    if (wait == API_DONE) {
        answer(rpc, out);
    } else if (client->waiting_bytes + rpc->etcd.message.size > CLIENT_GRPC_WAITING_BYTES_MAX) {
        fail(rpc, ETCD_ERROR_TOO_MANY_REQUESTS); /* etcd_call_free drops its command */
    } else {
        wait_for(rpc, wait);
    }
}

static void on_half_closed(void *user, struct grpc_call *call)
{
    (void)user;
    struct rpc *rpc = grpc_call_user(call);
    /* Nothing came that could be answered. */
    if (rpc->request == 0 && !grpc_call_finished(call)) finish_with(rpc, GRPC_INTERNAL, "EOF");
}

static void on_drained(void *user, struct grpc_call *call)
{
    (void)user;
    (void)call;
}

static void on_closed(void *user, struct grpc_call *call, uint32_t error)
{
    (void)user;
    (void)error;
    rpc_free(grpc_call_user(call));
}

/* ---- plain requests ---- */

/* The API's answers are HTTP/1.1; this one was just made by ourselves, so it is well-formed. */
static void respond(struct http2_stream *stream, const struct buffer *answer, bool head)
{
    const char *text = (const char *)answer->data;
    const uint8_t *end = answer->data;
    while (memcmp(end, "\r\n\r\n", 4) != 0) end++;
    int status = (text[9] - '0') * 100 + (text[10] - '0') * 10 + (text[11] - '0');
    const uint8_t *line = memchr(answer->data, '\n', answer->size);
    struct buffer headers = {0}, type = {0};
    static const char content_type[] = "Content-Type: ", content_length[] = "Content-Length: ";
    for (line++; line < end + 2;) {
        const uint8_t *next = memchr(line, '\n', (size_t)(end + 2 - line));
        size_t size = (size_t)(next + 1 - line);
        if (size > strlen(content_type) && memcmp(line, content_type, strlen(content_type)) == 0) {
            buffer_append(&type, line + strlen(content_type), size - strlen(content_type) - 2);
        } else if (size <= strlen(content_length) || memcmp(line, content_length, strlen(content_length)) != 0) {
            buffer_append(&headers, line, size);
        }
        line = next + 1;
    }
    buffer_append_byte(&headers, 0);
    buffer_append_byte(&type, 0);
    const uint8_t *body = end + 4;
    http2_respond(stream, status, (const char *)type.data, (const char *)headers.data,
                  bytes_of(body, answer->size - (size_t)(body - answer->data)), head);
    buffer_free(&headers);
    buffer_free(&type);
}

static void on_http_request(void *user, struct http2_stream *stream, const struct http1_request *request)
{
    struct client_grpc *client = user;
    struct client_grpc_host *host = client->host;
    host->calls++;
    struct rpc *rpc = mem_alloc_zero(sizeof *rpc);
    rpc->client = client;
    rpc->stream = stream;
    http2_stream_set_user(stream, rpc);
    struct buffer *out = scratch(host);
    enum api_wait wait = api_begin(host->api, &rpc->http, request, out);
    if (wait != API_DONE) {
        wait_for(rpc, wait);
        return;
    }
    respond(stream, out, rpc->http.head);
    busy(client);
}

static void on_http_drained(void *user, struct http2_stream *stream)
{
    (void)user;
    (void)stream;
}

static void on_http_closed(void *user, struct http2_stream *stream, uint32_t error)
{
    (void)user;
    (void)error;
    rpc_free(http2_stream_user(stream));
}

static const struct grpc_handler handler = {.call = on_call,
                                            .message = on_message,
                                            .half_closed = on_half_closed,
                                            .drained = on_drained,
                                            .closed = on_closed,
                                            .http_request = on_http_request,
                                            .http_drained = on_http_drained,
                                            .http_closed = on_http_closed};

/* ---- the outside ---- */

struct client_grpc *client_grpc_new(struct client_grpc_host *host, void (*became_busy)(void *user), void *user)
{
    struct client_grpc *client = mem_alloc_zero(sizeof *client);
    client->host = host;
    client->became_busy = became_busy;
    client->user = user;
    struct grpc_limits limits = grpc_limits_default();
    limits.http_body_bytes_max = api_body_bytes_max(host->api->host->value_bytes_max);
    /* As JSON, the largest value is a third longer than as protobuf, for which the defaults are. */
    if (limits.http2.granted_bytes_max < limits.http_body_bytes_max) {
        limits.http2.granted_bytes_max = limits.http_body_bytes_max;
    }
    if (limits.http2.kept_bytes_max < 2 * limits.http2.granted_bytes_max) {
        limits.http2.kept_bytes_max = 2 * limits.http2.granted_bytes_max;
    }
    client->grpc = grpc_new(&limits, &handler, client, host->now);
    return client;
}

void client_grpc_free(struct client_grpc *client)
{
    if (client == NULL) return;
    grpc_free(client->grpc); /* closes all calls */
    mem_free(client);
}

void client_grpc_feed(struct client_grpc *client, struct bytes bytes)
{
    grpc_feed(client->grpc, bytes, client->host->now);
    busy(client); /* window updates, at least */
}

bool client_grpc_out(struct client_grpc *client, struct buffer *out, size_t bytes_max)
{
    return grpc_out(client->grpc, out, bytes_max, client->host->now);
}

bool client_grpc_done(const struct client_grpc *client)
{
    return http2_done(grpc_http2(client->grpc));
}

size_t client_grpc_memory_bytes(const struct client_grpc *client)
{
    return sizeof *client + grpc_memory_bytes(client->grpc) + client->waiting_bytes +
           http2_stream_count(grpc_http2(client->grpc)) * sizeof(struct rpc);
}

void client_grpc_sweep(struct client_grpc *client)
{
    grpc_sweep(client->grpc, client->host->now);
    busy(client);
}

void client_grpc_shutdown(struct client_grpc *client)
{
    if (client->shutting_down) return;
    client->shutting_down = true;
    http2_shutdown(grpc_http2(client->grpc));
    busy(client);
}

void client_grpc_result(struct client_grpc_host *host, const struct replica_result *result)
{
    struct rpc *rpc = request_table_find(&host->requests, result->request);
    if (rpc == NULL) return; /* cancelled, or its connection is gone */
    forget_request(rpc);
    struct buffer *out = scratch(host);
    if (rpc->call != NULL) {
        etcd_finish(host->api, &rpc->etcd, result, out);
        answer(rpc, out);
        return;
    }
    if (result->error != ERR_OK) host->failed++;
    api_finish(host->api, &rpc->http, result, out);
    respond(rpc->stream, out, rpc->http.head);
    busy(rpc->client);
}
