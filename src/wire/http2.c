#include "wire/http2.h"

#include "base/check.h"
#include "base/mem.h"
#include "wire/http2_connection.h"

/* Frames that wait to be sent and aren't DATA: the acknowledgements and resets that a client can provoke without reading any. */
#define QUEUED_FRAMES_MAX(limits) (4u * (limits).streams_max + 1000u)
/* A header block whose list is so large is no mistake. */
#define HOSTILE_LIST_BYTES (4u * HTTP2_HEADER_LIST_BYTES_MAX)
#define BLOCK_SPARE_BYTES_MAX 1024u

static const uint8_t shutdown_ping[8] = "shutdown";

struct http2_limits http2_limits_default(void)
{
    return (struct http2_limits){
        .streams_max = 1000,
        .stream_window_bytes = 16 * 1024,
        .connection_window_bytes = 2048 * 1024,
        .granted_bytes_max = 2048 * 1024,
        .kept_bytes_max = 4096 * 1024,
        .ping_interval_min = 5 * TIME_NS_PER_S,
        .request_time_max = 10 * TIME_NS_PER_S,
        .stall_time_max = 60 * TIME_NS_PER_S,
    };
}

static struct http2_stream *stream_of(struct http2 *http2, int32_t number)
{
    if (http2->last == NULL || http2->last->number != number) {
        http2->last = nghttp2_session_get_stream_user_data(http2->session, number);
    }
    return http2->last;
}

/* ---- what comes in ---- */

/* For callbacks: ends the connection; the value makes nghttp2 stop reading. */
static int give_up(struct http2 *http2, enum http2_error error, const char *why)
{
    http2_abort(http2, error, why);
    return NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int spend(struct http2 *http2, int64_t cost)
{
    if (http2_calm_spend(&http2->calm, cost, http2->now)) return 0;
    return give_up(http2, HTTP2_ENHANCE_YOUR_CALM, "too_many_frames");
}

static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *head, void *user)
{
    (void)session;
    struct http2 *http2 = user;
    if (http2->dead) return NGHTTP2_ERR_CALLBACK_FAILURE;
    switch (head->type) {
    case NGHTTP2_HEADERS:
        return 0;
    case NGHTTP2_DATA:
        return head->length > 0 || (head->flags & NGHTTP2_FLAG_END_STREAM) ? 0 : spend(http2, HTTP2_CALM_COST_FRAME);
    case NGHTTP2_CONTINUATION:
        return head->length > 0 ? 0 : spend(http2, HTTP2_CALM_COST_FRAME);
    case NGHTTP2_SETTINGS:
        return head->flags & NGHTTP2_FLAG_ACK ? 0 : spend(http2, HTTP2_CALM_COST_SETTINGS);
    default:
        return spend(http2, HTTP2_CALM_COST_FRAME);
    }
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    (void)session;
    (void)frame;
    struct http2 *http2 = user;
    buffer_clear(&http2->block);
    http2->slot_count = 0;
    http2->method = http2->path = http2->authority = (struct http2_slot){0};
    http2->block_list_bytes = 0;
    http2->block_too_large = http2->block_has_host = false;
    http2->block_open = true;
    http2->block_since = http2->now;
    return 0;
}

static bool is(const uint8_t *name, size_t size, const char *text, size_t text_size)
{
    return size == text_size && memcmp(name, text, size) == 0;
}
#define IS(text) is(name, name_size, text, sizeof(text) - 1)

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_size,
                     const uint8_t *value, size_t value_size, uint8_t flags, void *user)
{
    (void)session;
    (void)flags;
    struct http2 *http2 = user;
    http2->block_list_bytes += name_size + value_size + 32;
    if (http2->block_list_bytes > HTTP2_HEADER_LIST_BYTES_MAX) http2->block_too_large = true;
    if (http2->block_list_bytes > HOSTILE_LIST_BYTES) {
        return give_up(http2, HTTP2_ENHANCE_YOUR_CALM, "too_large_headers");
    }
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST || http2->block_too_large) return 0; /* trailers mean nothing here */
    bool pseudo = name_size > 0 && name[0] == ':';
    if (!pseudo && http2->slot_count == HTTP2_HEADER_COUNT_MAX) {
        http2->block_too_large = true;
        return 0;
    }

    struct http2_slot slot = {
        .name_at = (uint16_t)http2->block.size,
        .name_size = (uint16_t)name_size,
        .value_at = (uint16_t)(http2->block.size + name_size),
        .value_size = (uint16_t)value_size,
    };
    buffer_append(&http2->block, name, name_size);
    buffer_append(&http2->block, value, value_size);
    if (!pseudo) {
        if (IS("host")) http2->block_has_host = true;
        http2->slots[http2->slot_count++] = slot;
    } else if (IS(":path")) {
        http2->path = slot;
    } else if (IS(":method")) {
        http2->method = slot;
    } else if (IS(":authority")) {
        http2->authority = slot;
    }
    return 0;
}

/* The request as a whole is malformed (RFC 9113 §8.1.1), not only this field. */
static int on_invalid_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                             size_t name_size, const uint8_t *value, size_t value_size, uint8_t flags, void *user)
{
    (void)session, (void)frame, (void)name, (void)name_size, (void)value, (void)value_size, (void)flags, (void)user;
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static struct bytes view(const struct http2 *http2, uint32_t at, uint32_t size)
{
    return bytes_of(http2->block.data + at, size);
}

/* Tells the handler of the request whose header block is complete. */
static void begin_request(struct http2 *http2, int32_t number, bool ended)
{
    struct http2_stream *stream = http2_stream_new(http2, number);
    nghttp2_session_set_stream_user_data(http2->session, number, stream);
    http2->last = stream;
    stream->ended = ended;
    /* CONNECT has no path; there is nothing here to connect to. */
    if (http2->block_too_large || http2->path.value_size == 0) {
        stream->silent = true;
        http2_respond_headers(stream, http2->block_too_large ? 431 : 501, NULL, 0);
        return;
    }

    struct http1_header headers[HTTP2_HEADER_COUNT_MAX + 1];
    uint32_t count = http2->slot_count;
    for (uint32_t i = 0; i < count; i++) {
        const struct http2_slot *slot = &http2->slots[i];
        headers[i].name = view(http2, slot->name_at, slot->name_size);
        headers[i].value = view(http2, slot->value_at, slot->value_size);
    }
    if (http2->authority.name_size > 0 && !http2->block_has_host) {
        headers[count].name = bytes_of_string("host");
        headers[count].value = view(http2, http2->authority.value_at, http2->authority.value_size);
        count++;
    }
    struct http2_request request = {
        .method = view(http2, http2->method.value_at, http2->method.value_size),
        .path = view(http2, http2->path.value_at, http2->path.value_size),
        .headers = headers,
        .header_count = count,
        .ended = ended,
    };
    http2->handler->request(http2->user, stream, &request);
}

static void end_request(struct http2 *http2, struct http2_stream *stream)
{
    if (stream == NULL || stream->silent || stream->gone) return;
    stream->ended = true;
    http2_stream_forget_windows(stream);
    http2->handler->end(http2->user, stream);
}

static int on_ping(struct http2 *http2, const nghttp2_ping *ping)
{
    if (ping->hd.flags & NGHTTP2_FLAG_ACK) {
        bool last = http2->shutting_down && !http2->shutdown_told &&
                    memcmp(ping->opaque_data, shutdown_ping, sizeof shutdown_ping) == 0;
        if (last) {
            http2->shutdown_told = true;
            nghttp2_submit_goaway(http2->session, NGHTTP2_FLAG_NONE,
                                  nghttp2_session_get_last_proc_stream_id(http2->session), NGHTTP2_NO_ERROR, NULL, 0);
        }
        return 0;
    }
    if (http2_calm_ping(&http2->calm, http2->limits.ping_interval_min, http2->now)) return 0;
    return give_up(http2, HTTP2_ENHANCE_YOUR_CALM, "too_many_pings");
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    (void)session;
    struct http2 *http2 = user;
    bool ended = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        http2->block_open = false;
        if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) begin_request(http2, frame->hd.stream_id, ended);
        if (ended) end_request(http2, stream_of(http2, frame->hd.stream_id));
        if (http2->block.capacity > BLOCK_SPARE_BYTES_MAX) buffer_free(&http2->block);
        return 0;
    case NGHTTP2_DATA:
        if (ended) end_request(http2, stream_of(http2, frame->hd.stream_id));
        return 0;
    case NGHTTP2_SETTINGS:
        http2->greeted = true;
        if (frame->hd.flags & NGHTTP2_FLAG_ACK) http2->acknowledged = true;
        return 0;
    case NGHTTP2_PING:
        return on_ping(http2, &frame->ping);
    default:
        return 0;
    }
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t number, const uint8_t *data, size_t size,
                   void *user)
{
    struct http2 *http2 = user;
    /* What a connection's owners keep is bounded by kept_bytes_max, so its window need not be. */
    if (nghttp2_session_consume_connection(session, size) != 0) return NGHTTP2_ERR_CALLBACK_FAILURE;
    struct http2_stream *stream = stream_of(http2, number);
    if (stream == NULL || stream->silent || stream->gone || size == 0) return 0;
    if (flags & NGHTTP2_FLAG_END_STREAM) stream->in_last_frame = true;
    http2_stream_received(stream, size);
    http2->handler->data(http2->user, stream, bytes_of(data, size));
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t number, uint32_t error, void *user)
{
    struct http2 *http2 = user;
    struct http2_stream *stream = nghttp2_session_get_stream_user_data(session, number);
    if (http2->last == stream) http2->last = NULL;
    http2->block_open = false;
    bool answered = stream != NULL && stream->sent;
    bool ours = stream != NULL && stream->reset;
    if (stream != NULL) {
        stream->gone = stream->finished = true;
        stream->error = answered ? HTTP2_NO_ERROR : error;
        http2_stream_forget_windows(stream);
        http2_stream_unmark(stream);
        if (http2->closed_last != NULL)
            http2->closed_last->next_closed = stream;
        else
            http2->closed_first = stream;
        http2->closed_last = stream;
    }
    if (answered) http2_calm_gain(&http2->calm, HTTP2_CALM_GAIN_ANSWER);
    /* This may be inside http2_out, which goes on, and sends the GOAWAY; reading ends with the next frame. */
    if (!answered && !ours && !http2_calm_spend(&http2->calm, HTTP2_CALM_COST_UNANSWERED, http2->now)) {
        http2_abort(http2, HTTP2_ENHANCE_YOUR_CALM, "too_many_resets");
    }
    return 0;
}

static int on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct http2 *http2 = user;
    if (frame->hd.type == NGHTTP2_GOAWAY && http2->shutting_down && !http2->shutdown_told && !http2->dead) {
        /* Behind the notice: nghttp2 would send it before. */
        return nghttp2_submit_ping(session, NGHTTP2_FLAG_NONE, shutdown_ping);
    }
    if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) return 0;
    http2_calm_answered(&http2->calm);
    if (!(frame->hd.flags & NGHTTP2_FLAG_END_STREAM)) return 0;
    /* Gone already when the client's side had ended. */
    struct http2_stream *stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (stream == NULL) return 0;
    stream->sent = true;
    if (!stream->ended) {
        return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR);
    }
    return 0;
}

/* ---- life ---- */

static nghttp2_session *session_new(struct http2 *http2)
{
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    CHECK(nghttp2_session_callbacks_new(&callbacks) == 0);
    CHECK(nghttp2_option_new(&option) == 0);
    nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_invalid_header_callback(callbacks, on_invalid_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_sent);
    nghttp2_session_callbacks_set_send_data_callback(callbacks, http2_stream_send_data);

    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_no_closed_streams(option, 1);
    nghttp2_option_set_max_continuations(option, HTTP2_CONTINUATIONS_MAX);
    /* nghttp2's own limiter looks at the clock; http2_calm does its work on the time of events. */
    nghttp2_option_set_stream_reset_rate_limit(option, UINT64_MAX / 2, UINT64_MAX / 2);

    nghttp2_mem memory = http2_memory_interface(&http2->memory);
    nghttp2_session *session;
    CHECK(nghttp2_session_server_new3(&session, callbacks, http2, option, &memory) == 0);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    return session;
}

struct http2 *http2_new(const struct http2_limits *limits, const struct http2_handler *handler, void *user, time_ns now)
{
    CHECK(limits->streams_max > 0 && limits->stream_window_bytes > 0 && limits->stream_window_bytes <= INT32_MAX);
    CHECK(limits->connection_window_bytes <= INT32_MAX && limits->granted_bytes_max <= INT32_MAX / 2);
    CHECK(limits->kept_bytes_max >= limits->granted_bytes_max);
    struct http2 *http2 = mem_alloc_zero(sizeof *http2);
    http2->limits = *limits;
    http2->handler = handler;
    http2->user = user;
    http2->now = http2->began_at = now;
    http2_calm_begin(&http2->calm, now);
    http2->session = session_new(http2);

    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, limits->streams_max},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, limits->stream_window_bytes},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HTTP2_HEADER_LIST_BYTES_MAX},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
    };
    CHECK(nghttp2_submit_settings(http2->session, NGHTTP2_FLAG_NONE, settings, ARRAY_COUNT(settings)) == 0);
    CHECK(nghttp2_session_set_local_window_size(http2->session, NGHTTP2_FLAG_NONE, 0,
                                                (int32_t)limits->connection_window_bytes) == 0);
    return http2;
}

/* Tells the handler of the streams that nghttp2 has closed. */
static void deliver_closed(struct http2 *http2)
{
    while (http2->closed_first != NULL) {
        struct http2_stream *stream = http2->closed_first;
        http2->closed_first = stream->next_closed;
        if (http2->closed_first == NULL) http2->closed_last = NULL;
        if (!stream->silent) http2->handler->closed(http2->user, stream, stream->error);
        http2_stream_free(stream);
    }
}

void http2_free(struct http2 *http2)
{
    if (http2 == NULL) return;
    http2->dead = http2->broken = true;
    deliver_closed(http2);
    while (http2->streams != NULL) {
        struct http2_stream *stream = http2->streams;
        stream->gone = stream->finished = true;
        http2_stream_forget_windows(stream);
        http2_stream_unmark(stream);
        if (!stream->silent) {
            http2->handler->closed(http2->user, stream, stream->sent ? HTTP2_NO_ERROR : HTTP2_CANCEL);
        }
        http2_stream_free(stream);
    }
    CHECK(http2->stream_count == 0 && http2->kept_bytes == 0 && http2->granted_bytes == 0);
    nghttp2_session_del(http2->session);
    http2_memory_release(&http2->memory);
    buffer_free(&http2->block);
    buffer_free(&http2->spare);
    buffer_free(&http2->thrown_away);
    mem_free(http2);
}

void http2_feed(struct http2 *http2, struct bytes bytes, time_ns now)
{
    http2->now = now;
    if (http2->dead || bytes.size == 0) return;
    ssize_t taken = nghttp2_session_mem_recv(http2->session, bytes.data, bytes.size);
    if (taken < 0 && !http2->dead) {
        bool preface = taken == NGHTTP2_ERR_BAD_CLIENT_MAGIC;
        bool flood = taken == NGHTTP2_ERR_FLOODED || taken == NGHTTP2_ERR_TOO_MANY_CONTINUATIONS;
        http2_abort(http2,
                    flood     ? HTTP2_ENHANCE_YOUR_CALM
                    : preface ? HTTP2_PROTOCOL_ERROR
                              : HTTP2_INTERNAL_ERROR,
                    nghttp2_strerror((int)taken));
    }
    if (nghttp2_session_get_outbound_queue_size(http2->session) > QUEUED_FRAMES_MAX(http2->limits)) {
        http2_abort(http2, HTTP2_ENHANCE_YOUR_CALM, "too_many_frames_wait");
    }
    deliver_closed(http2);
}

/* One round of nghttp2's sending. */
static void send_round(struct http2 *http2)
{
    while (http2->out->size < http2->out_bytes_max) {
        const uint8_t *data;
        ssize_t size = nghttp2_session_mem_send(http2->session, &data);
        if (size < 0) http2->dead = http2->broken = true;
        if (size <= 0) return;
        buffer_append(http2->out, data, (size_t)size);
    }
}

/* True when there was somebody to tell. */
static bool deliver_drained(struct http2 *http2)
{
    bool told = false;
    http2->mark_due = false;
    struct http2_stream *next;
    for (struct http2_stream *stream = http2->marked; stream != NULL; stream = next) {
        next = stream->next_marked;
        if (http2_stream_waiting_bytes(stream) > stream->mark) continue;
        http2_stream_unmark(stream);
        http2->handler->drained(http2->user, stream);
        told = true;
        /* What it marked anew stands before, and gets its turn in the next round; so does the rest, if it reset the next one. */
        if (next != NULL && !next->is_marked) break;
    }
    return told;
}

bool http2_out(struct http2 *http2, struct buffer *out, size_t bytes_max, time_ns now)
{
    http2->now = now;
    http2->out = out;
    http2->out_bytes_max = bytes_max;
    /* Ends when a round sent nothing, and the owners, told once that they may send more, didn't send any either. */
    for (bool told = false, on = true; on && !http2->broken;) {
        size_t before = out->size;
        send_round(http2);
        deliver_closed(http2);
        bool sent = out->size > before, told_before = told;
        told = deliver_drained(http2);
        on = out->size < bytes_max && (sent || (told && !told_before));
    }
    http2->out = NULL;
    return http2_wants_out(http2);
}

bool http2_wants_out(const struct http2 *http2)
{
    return !http2->broken && (http2->mark_due || nghttp2_session_want_write(http2->session) != 0);
}

bool http2_wants_in(const struct http2 *http2)
{
    return !http2->dead && nghttp2_session_want_read(http2->session) != 0;
}

bool http2_done(const struct http2 *http2)
{
    if (http2->broken) return true;
    if (nghttp2_session_want_write(http2->session)) return false;
    return !http2_wants_in(http2);
}

void http2_shutdown(struct http2 *http2)
{
    if (http2->shutting_down || http2->dead) return;
    http2->shutting_down = true;
    nghttp2_submit_shutdown_notice(http2->session);
}

void http2_abort(struct http2 *http2, enum http2_error error, const char *why)
{
    if (http2->dead) return;
    http2->dead = true;
    size_t size = strlen(why);
    int32_t last = nghttp2_session_get_last_proc_stream_id(http2->session);
    /* First the reason in words, which nghttp2_session_terminate_session doesn't take. */
    nghttp2_submit_goaway(http2->session, NGHTTP2_FLAG_NONE, last, error, (const uint8_t *)why, size < 64 ? size : 64);
    if (nghttp2_session_terminate_session2(http2->session, last, error) != 0) http2->broken = true;
}

void http2_sweep(struct http2 *http2, time_ns now)
{
    http2->now = now;
    if (http2->dead) return;
    const struct http2_limits *limits = &http2->limits;
    if ((!http2->greeted && now - http2->began_at > limits->request_time_max) ||
        (http2->block_open && now - http2->block_since > limits->request_time_max)) {
        http2_abort(http2, HTTP2_NO_ERROR, "too_slow");
        return;
    }
    for (struct http2_stream *stream = http2->streams; stream != NULL; stream = stream->next) {
        if (stream->gone || stream->reset) continue;
        bool slow = stream->kept > 0 && !stream->excused && now - stream->kept_since > limits->request_time_max;
        bool stalled = http2_stream_waiting_bytes(stream) > 0 && now - stream->progressed_at > limits->stall_time_max;
        if (slow || stalled) http2_reset(stream, HTTP2_CANCEL);
    }
    deliver_closed(http2);
}

uint32_t http2_stream_count(const struct http2 *http2)
{
    return http2->stream_count;
}

size_t http2_memory_bytes(const struct http2 *http2)
{
    return sizeof *http2 + http2->memory.bytes + http2->buffer_bytes + http2->block.capacity + http2->spare.capacity +
           http2->thrown_away.capacity;
}

size_t http2_kept_bytes(const struct http2 *http2)
{
    return http2->kept_bytes;
}

bool http2_greeted(const struct http2 *http2)
{
    return http2->greeted;
}

struct http2_stream *http2_find(struct http2 *http2, int32_t number)
{
    struct http2_stream *stream = stream_of(http2, number);
    return stream == NULL || stream->silent || stream->gone ? NULL : stream;
}
