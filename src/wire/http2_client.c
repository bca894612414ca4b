#include "wire/http2_client.h"

#include "base/check.h"
#include "base/mem.h"
#include "wire/http2_memory.h"

#define STREAM_WINDOW_BYTES (1024u * 1024)
#define CONNECTION_WINDOW_BYTES (4 * 1024 * 1024)
/* A buffer up to this size goes from call to call. */
#define SPARE_BYTES_MAX 4096u
#define METADATA_MAX 8u
/* Longer ones are cut: it is for people to read. */
#define TEXT_BYTES_MAX 4096u

struct http2_client_call {
    struct http2_client *client;
    void *user;
    struct http2_client_call *previous, *next;
    struct http2_client_call *next_closed;
    struct buffer out;
    size_t out_at;
    size_t message_at;
    size_t mark;
    struct grpc_frame frame;
    struct buffer text;
    int32_t number;
    int http_status;
    int status; /* -1: none came */
    uint32_t error;
    bool marked;
    bool ended;    /* by us */
    bool deferred; /* nghttp2 was told that there is nothing to send at the moment */
    bool sent;     /* its headers were given out */
    bool failed;   /* by us, with `status` and `text` */
    bool gone;
};

struct http2_client {
    nghttp2_session *session;
    const struct http2_client_handler *handler;
    void *user;
    struct http2_memory memory;
    char *authority;
    size_t message_bytes_max;
    struct http2_client_call *calls;
    uint32_t call_count;
    struct http2_client_call *closed_first, *closed_last;
    struct buffer spare;
    struct buffer *out; /* during http2_client_out */
    size_t out_bytes_max;
    uint32_t marked_count;
    bool mark_due; /* a mark was set that is reached already */
    uint64_t pongs;
    bool goodbye;
    bool broken;
};

/* ---- what comes in ---- */

/* Ends a call with a status of our own. */
static void fail(struct http2_client_call *call, enum grpc_status status, const char *text)
{
    if (call->failed || call->gone) return;
    call->failed = true;
    call->status = (int)status;
    buffer_clear(&call->text);
    buffer_append_string(&call->text, text);
    nghttp2_submit_rst_stream(call->client->session, NGHTTP2_FLAG_NONE, call->number, NGHTTP2_CANCEL);
}

static int number_of(const uint8_t *digits, size_t size)
{
    int number = 0;
    if (size == 0 || size > 3) return -1;
    for (size_t i = 0; i < size; i++) {
        if (digits[i] < '0' || digits[i] > '9') return -1;
        number = number * 10 + (digits[i] - '0');
    }
    return number;
}

#define IS(text) (name_size == sizeof(text) - 1 && memcmp(name, text, name_size) == 0)

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_size,
                     const uint8_t *value, size_t value_size, uint8_t flags, void *user)
{
    (void)flags;
    (void)user;
    struct http2_client_call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (call == NULL || call->failed) return 0;
    if (IS(":status")) {
        call->http_status = number_of(value, value_size);
    } else if (IS("grpc-status")) {
        int status = number_of(value, value_size);
        call->status = status >= 0 && status <= GRPC_UNAUTHENTICATED ? status : GRPC_UNKNOWN;
    } else if (IS("grpc-message")) {
        buffer_clear(&call->text);
        grpc_text_decode(bytes_of(value, value_size < TEXT_BYTES_MAX ? value_size : TEXT_BYTES_MAX), &call->text);
    }
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t number, const uint8_t *data, size_t size,
                   void *user)
{
    (void)flags;
    struct http2_client *client = user;
    struct http2_client_call *call = nghttp2_session_get_stream_user_data(session, number);
    if (call == NULL || call->http_status != 200) return 0;
    struct bytes bytes = bytes_of(data, size), message;
    while (!call->failed) {
        switch (grpc_frame_next(&call->frame, &bytes, client->message_bytes_max, &message)) {
        case GRPC_FRAME_MESSAGE:
            client->handler->message(client->user, call, message);
            break;
        case GRPC_FRAME_MORE:
            return 0;
        case GRPC_FRAME_TOO_LARGE:
            fail(call, GRPC_RESOURCE_EXHAUSTED, "the answer is larger than this client takes");
            break;
        default:
            fail(call, GRPC_INTERNAL, "the answer is compressed, or malformed");
            break;
        }
    }
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    (void)session;
    struct http2_client *client = user;
    if (frame->hd.type == NGHTTP2_GOAWAY) client->goodbye = true;
    if (frame->hd.type == NGHTTP2_PING && (frame->hd.flags & NGHTTP2_FLAG_ACK)) client->pongs++;
    return 0;
}

static void gone(struct http2_client_call *call, uint32_t error)
{
    struct http2_client *client = call->client;
    if (call->gone) return;
    call->gone = true;
    call->error = error;
    if (client->closed_last != NULL)
        client->closed_last->next_closed = call;
    else
        client->closed_first = call;
    client->closed_last = call;
}

static int on_stream_close(nghttp2_session *session, int32_t number, uint32_t error, void *user)
{
    (void)user;
    struct http2_client_call *call = nghttp2_session_get_stream_user_data(session, number);
    if (call != NULL) gone(call, error);
    return 0;
}

/* A request that waited for its turn, and must not be sent any more: cancelled, or the server said goodbye. There may be no stream of it yet. */
static int on_frame_not_sent(nghttp2_session *session, const nghttp2_frame *frame, int error, void *user)
{
    (void)session, (void)error;
    struct http2_client *client = user;
    if (frame->hd.type != NGHTTP2_HEADERS) return 0;
    for (struct http2_client_call *call = client->calls; call != NULL; call = call->next) {
        if (call->number == frame->hd.stream_id) gone(call, NGHTTP2_REFUSED_STREAM);
    }
    return 0;
}

static int on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    (void)user;
    if (frame->hd.type != NGHTTP2_HEADERS) return 0;
    struct http2_client_call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (call != NULL) call->sent = true;
    return 0;
}

/* ---- outcomes ---- */

/* github.com/grpc/grpc: doc/http-grpc-status-mapping.md */
static enum grpc_status status_of_http(int status)
{
    switch (status) {
    case 400:
        return GRPC_INTERNAL;
    case 401:
        return GRPC_UNAUTHENTICATED;
    case 403:
        return GRPC_PERMISSION_DENIED;
    case 404:
        return GRPC_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return GRPC_UNAVAILABLE;
    default:
        return GRPC_UNKNOWN;
    }
}

/* doc/PROTOCOL-HTTP2.md, 'Errors'. */
static enum grpc_status status_of_reset(uint32_t error)
{
    switch (error) {
    case NGHTTP2_REFUSED_STREAM:
        return GRPC_UNAVAILABLE;
    case NGHTTP2_CANCEL:
        return GRPC_CANCELLED;
    case NGHTTP2_ENHANCE_YOUR_CALM:
        return GRPC_RESOURCE_EXHAUSTED;
    case NGHTTP2_INADEQUATE_SECURITY:
        return GRPC_PERMISSION_DENIED;
    default:
        return GRPC_INTERNAL;
    }
}

static struct http2_client_outcome outcome_of(const struct http2_client_call *call)
{
    struct http2_client_outcome outcome = {.text = buffer_bytes(&call->text)};
    if (call->status >= 0) {
        outcome.status = (enum grpc_status)call->status;
        outcome.answered = !call->failed;
    } else if (!call->gone) {
        outcome.status = GRPC_UNAVAILABLE;
        outcome.undone = !call->sent;
        outcome.text = bytes_of_string("the connection ended");
    } else if (call->error != NGHTTP2_NO_ERROR) {
        outcome.status = status_of_reset(call->error);
        outcome.undone = call->error == NGHTTP2_REFUSED_STREAM;
        outcome.text = bytes_of_string(nghttp2_http2_strerror(call->error));
    } else if (call->http_status != 200 && call->http_status != 0) {
        outcome.status = status_of_http(call->http_status);
        outcome.answered = true;
        outcome.text = bytes_of_string("the server answered with an HTTP status, and not as gRPC");
    } else {
        outcome.status = GRPC_INTERNAL;
        outcome.text = bytes_of_string("the answer ended without a status");
    }
    if (outcome.status == GRPC_OK && grpc_frame_partial_bytes(&call->frame) > 0) {
        outcome.status = GRPC_INTERNAL;
        outcome.answered = false;
        outcome.text = bytes_of_string("the answer ended within a message");
    }
    return outcome;
}

static void unmark(struct http2_client_call *call)
{
    if (call->marked) call->client->marked_count--;
    call->marked = false;
}

static void close_call(struct http2_client_call *call)
{
    struct http2_client *client = call->client;
    struct http2_client_outcome outcome = outcome_of(call);
    call->gone = true;
    unmark(call);
    client->handler->closed(client->user, call, &outcome);
    if (call->previous != NULL)
        call->previous->next = call->next;
    else
        client->calls = call->next;
    if (call->next != NULL) call->next->previous = call->previous;
    client->call_count--;
    if (client->spare.data == NULL && call->out.capacity <= SPARE_BYTES_MAX) {
        client->spare = call->out;
        client->spare.size = 0;
    } else {
        buffer_free(&call->out);
    }
    grpc_frame_free(&call->frame);
    buffer_free(&call->text);
    http2_memory_free(&client->memory, call);
}

static void deliver_closed(struct http2_client *client)
{
    while (client->closed_first != NULL) {
        struct http2_client_call *call = client->closed_first;
        client->closed_first = call->next_closed;
        if (client->closed_first == NULL) client->closed_last = NULL;
        close_call(call);
    }
}

/* ---- what goes out ---- */

static ssize_t read_data(nghttp2_session *session, int32_t number, uint8_t *data, size_t size, uint32_t *flags,
                         nghttp2_data_source *source, void *user)
{
    (void)session, (void)number, (void)data, (void)user;
    struct http2_client_call *call = source->ptr;
    size_t waiting = call->out.size - call->out_at;
    if (waiting == 0 && !call->ended) {
        call->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (waiting > size) return (ssize_t)size;
    if (call->ended) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)waiting;
}

static int send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head, size_t size,
                     nghttp2_data_source *source, void *user)
{
    (void)session, (void)frame;
    struct http2_client *client = user;
    struct http2_client_call *call = source->ptr;
    if (client->out->size >= client->out_bytes_max) return NGHTTP2_ERR_WOULDBLOCK;
    buffer_append(client->out, head, 9);
    if (size > 0) buffer_append(client->out, call->out.data + call->out_at, size);
    call->out_at += size;
    if (call->out_at == call->out.size) {
        call->out_at = 0;
        buffer_clear(&call->out);
        if (call->out.capacity > SPARE_BYTES_MAX) buffer_free(&call->out);
    }
    return 0;
}

static void resume(struct http2_client_call *call)
{
    if (!call->deferred || call->gone) return;
    call->deferred = false;
    nghttp2_session_resume_data(call->client->session, call->number);
}

struct buffer *http2_client_send_buffer(struct http2_client_call *call)
{
    static const uint8_t room[GRPC_PREFIX_BYTES];
    struct http2_client *client = call->client;
    CHECK(!call->ended);
    if (call->out.data == NULL && client->spare.data != NULL) {
        call->out = client->spare;
        client->spare = (struct buffer){0};
    }
    call->message_at = call->out.size;
    buffer_append(&call->out, room, sizeof room);
    return &call->out;
}

void http2_client_sent(struct http2_client_call *call)
{
    size_t size = call->out.size - call->message_at - GRPC_PREFIX_BYTES;
    CHECK(size <= UINT32_MAX);
    grpc_frame_prefix(call->out.data + call->message_at, (uint32_t)size);
    resume(call);
}

void http2_client_send(struct http2_client_call *call, struct bytes message)
{
    struct buffer *out = http2_client_send_buffer(call);
    if (message.size > 0) buffer_append(out, message.data, message.size);
    http2_client_sent(call);
}

void http2_client_end(struct http2_client_call *call)
{
    if (call->ended) return;
    call->ended = true;
    resume(call);
}

void http2_client_cancel(struct http2_client_call *call)
{
    fail(call, GRPC_CANCELLED, "cancelled");
}

void *http2_client_call_user(const struct http2_client_call *call)
{
    return call->user;
}

size_t http2_client_waiting_bytes(const struct http2_client_call *call)
{
    return call->out.size - call->out_at;
}

void http2_client_set_mark(struct http2_client_call *call, size_t bytes)
{
    struct http2_client *client = call->client;
    if (call->gone) return;
    if (!call->marked) client->marked_count++;
    call->mark = bytes;
    call->marked = true;
    if (http2_client_waiting_bytes(call) <= bytes) client->mark_due = true;
}

static nghttp2_nv nv_of(const char *name, struct bytes value, uint8_t flags)
{
    return (nghttp2_nv){.name = (uint8_t *)name,
                        .namelen = strlen(name),
                        .value = (uint8_t *)value.data,
                        .valuelen = value.size,
                        .flags = flags | NGHTTP2_NV_FLAG_NO_COPY_NAME};
}

static nghttp2_nv nv_constant(const char *name, const char *value)
{
    return nv_of(name, bytes_of_string(value), NGHTTP2_NV_FLAG_NO_COPY_VALUE);
}

struct http2_client_call *http2_client_open(struct http2_client *client, struct bytes path, time_ns timeout,
                                            const struct http2_field *metadata, size_t metadata_count, void *user)
{
    CHECK(!http2_client_leaving(client) && metadata_count <= METADATA_MAX);
    struct http2_client_call *call = http2_memory_alloc(&client->memory, sizeof *call);
    *call = (struct http2_client_call){.client = client, .user = user, .status = -1, .next = client->calls};
    if (client->calls != NULL) client->calls->previous = call;
    client->calls = call;
    client->call_count++;

    struct buffer timeout_text = {0};
    nghttp2_nv nv[8 + METADATA_MAX];
    size_t count = 0;
    nv[count++] = nv_constant(":method", "POST");
    nv[count++] = nv_constant(":scheme", "http");
    nv[count++] = nv_of(":path", path, NGHTTP2_NV_FLAG_NONE);
    nv[count++] = nv_constant(":authority", client->authority);
    nv[count++] = nv_constant("content-type", "application/grpc");
    nv[count++] = nv_constant("te", "trailers");
    nv[count++] = nv_constant("user-agent", "coracle/" CORACLE_VERSION);
    if (timeout != TIME_NS_NEVER) {
        grpc_timeout_write(timeout, &timeout_text);
        nv[count++] = nv_of("grpc-timeout", buffer_bytes(&timeout_text), NGHTTP2_NV_FLAG_NO_INDEX);
    }
    for (size_t i = 0; i < metadata_count; i++) {
        const struct http2_field *field = &metadata[i];
        nv[count++] = (nghttp2_nv){
            .name = (uint8_t *)field->name.data,
            .namelen = field->name.size,
            .value = (uint8_t *)field->value.data,
            .valuelen = field->value.size,
            .flags =
                field->constant ? NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE : NGHTTP2_NV_FLAG_NONE,
        };
    }
    nghttp2_data_provider provider = {.source.ptr = call, .read_callback = read_data};
    call->number = nghttp2_submit_request(client->session, NULL, nv, count, &provider, call);
    CHECK(call->number > 0);
    buffer_free(&timeout_text);
    return call;
}

/* ---- life ---- */

static nghttp2_session *session_new(struct http2_client *client)
{
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    CHECK(nghttp2_session_callbacks_new(&callbacks) == 0);
    CHECK(nghttp2_option_new(&option) == 0);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_sent);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_frame_not_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_session_callbacks_set_send_data_callback(callbacks, send_data);
    nghttp2_option_set_no_closed_streams(option, 1);
    nghttp2_option_set_stream_reset_rate_limit(option, UINT64_MAX / 2, UINT64_MAX / 2);
    nghttp2_mem memory = http2_memory_interface(&client->memory);
    nghttp2_session *session;
    CHECK(nghttp2_session_client_new3(&session, callbacks, client, option, &memory) == 0);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    return session;
}

struct http2_client *http2_client_new(const char *authority, size_t message_bytes_max,
                                      const struct http2_client_handler *handler, void *user)
{
    struct http2_client *client = mem_alloc_zero(sizeof *client);
    client->handler = handler;
    client->user = user;
    client->authority = mem_copy_string(authority);
    client->message_bytes_max = message_bytes_max;
    client->session = session_new(client);
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
    };
    CHECK(nghttp2_submit_settings(client->session, NGHTTP2_FLAG_NONE, settings, ARRAY_COUNT(settings)) == 0);
    CHECK(nghttp2_session_set_local_window_size(client->session, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW_BYTES) == 0);
    return client;
}

void http2_client_free(struct http2_client *client)
{
    if (client == NULL) return;
    client->broken = true;
    deliver_closed(client);
    while (client->calls != NULL) close_call(client->calls);
    nghttp2_session_del(client->session);
    http2_memory_release(&client->memory);
    buffer_free(&client->spare);
    mem_free(client->authority);
    mem_free(client);
}

void http2_client_feed(struct http2_client *client, struct bytes bytes)
{
    if (client->broken || bytes.size == 0) return;
    if (nghttp2_session_mem_recv(client->session, bytes.data, bytes.size) < 0) client->broken = true;
    deliver_closed(client);
}

static bool deliver_drained(struct http2_client *client)
{
    bool told = false;
    client->mark_due = false;
    if (client->marked_count == 0) return false;
    struct http2_client_call *next;
    /* What is opened meanwhile comes before; what is closed stays until after. */
    for (struct http2_client_call *call = client->calls; call != NULL; call = next) {
        next = call->next;
        if (!call->marked || call->gone || http2_client_waiting_bytes(call) > call->mark) continue;
        unmark(call);
        client->handler->drained(client->user, call);
        told = true;
    }
    return told;
}

bool http2_client_out(struct http2_client *client, struct buffer *out, size_t bytes_max)
{
    client->out = out;
    client->out_bytes_max = bytes_max;
    for (bool told = false, on = true; on && !client->broken;) {
        size_t before = out->size;
        while (out->size < bytes_max) {
            const uint8_t *data;
            ssize_t size = nghttp2_session_mem_send(client->session, &data);
            if (size < 0) client->broken = true;
            if (size <= 0) break;
            buffer_append(out, data, (size_t)size);
        }
        deliver_closed(client);
        bool sent = out->size > before, told_before = told;
        told = deliver_drained(client);
        on = out->size < bytes_max && (sent || (told && !told_before));
    }
    client->out = NULL;
    return http2_client_wants_out(client);
}

bool http2_client_wants_out(const struct http2_client *client)
{
    return !client->broken && (client->mark_due || nghttp2_session_want_write(client->session) != 0);
}

bool http2_client_leaving(const struct http2_client *client)
{
    return client->broken || client->goodbye || !nghttp2_session_check_request_allowed(client->session);
}

bool http2_client_done(const struct http2_client *client)
{
    return client->broken ||
           (!nghttp2_session_want_read(client->session) && !nghttp2_session_want_write(client->session));
}

uint32_t http2_client_call_count(const struct http2_client *client)
{
    return client->call_count;
}

void http2_client_ping(struct http2_client *client)
{
    nghttp2_submit_ping(client->session, NGHTTP2_FLAG_NONE, NULL);
}

uint64_t http2_client_pong_count(const struct http2_client *client)
{
    return client->pongs;
}

size_t http2_client_memory_bytes(const struct http2_client *client)
{
    size_t bytes = sizeof *client + client->memory.bytes + client->spare.capacity;
    for (const struct http2_client_call *call = client->calls; call != NULL; call = call->next) {
        bytes += call->out.capacity + call->text.capacity + grpc_frame_memory_bytes(&call->frame);
    }
    return bytes;
}
