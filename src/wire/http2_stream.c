#include "base/check.h"
#include "base/mem.h"
#include "wire/http2_connection.h"

struct http2_stream *http2_stream_new(struct http2 *http2, int32_t number)
{
    struct http2_stream *stream = http2_memory_alloc(&http2->memory, sizeof *stream);
    *stream = (struct http2_stream){.http2 = http2, .number = number, .next = http2->streams};
    if (http2->streams != NULL) http2->streams->previous = stream;
    http2->streams = stream;
    http2->stream_count++;
    return stream;
}

void http2_stream_free(struct http2_stream *stream)
{
    struct http2 *http2 = stream->http2;
    http2_stream_keep(stream, 0);
    if (stream->previous != NULL)
        stream->previous->next = stream->next;
    else
        http2->streams = stream->next;
    if (stream->next != NULL) stream->next->previous = stream->previous;
    http2->stream_count--;
    http2->buffer_bytes -= stream->out_counted;
    if (http2->spare.data == NULL && stream->out.capacity <= HTTP2_SPARE_BYTES_MAX) {
        http2->spare = stream->out;
        http2->spare.size = 0;
    } else {
        buffer_free(&stream->out);
    }
    http2_memory_free(&http2->memory, stream->trailers);
    http2_memory_free(&http2->memory, stream);
}

void http2_stream_count_buffer(struct http2_stream *stream)
{
    stream->http2->buffer_bytes += stream->out.capacity - stream->out_counted;
    stream->out_counted = stream->out.capacity;
}

int32_t http2_stream_number(const struct http2_stream *stream)
{
    return stream->number;
}

struct http2 *http2_stream_connection(const struct http2_stream *stream)
{
    return stream->http2;
}

void *http2_stream_user(const struct http2_stream *stream)
{
    return stream->user;
}

void http2_stream_set_user(struct http2_stream *stream, void *user)
{
    stream->user = user;
}

bool http2_stream_ended(const struct http2_stream *stream)
{
    return stream->ended;
}

bool http2_stream_begun(const struct http2_stream *stream)
{
    return stream->begun;
}

bool http2_stream_finished(const struct http2_stream *stream)
{
    return stream->finished;
}

/* ---- the answer's headers ---- */

static nghttp2_nv nv_of(const struct http2_field *field)
{
    return (nghttp2_nv){
        .name = (uint8_t *)field->name.data,
        .namelen = field->name.size,
        .value = (uint8_t *)field->value.data,
        .valuelen = field->value.size,
        /* What isn't constant won't come again, and would only push what does out of the table. */
        .flags =
            field->constant ? NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE : NGHTTP2_NV_FLAG_NO_INDEX,
    };
}

static void submit(struct http2_stream *stream, int status, const struct http2_field *fields, size_t count, bool body)
{
    CHECK(count <= HTTP2_FIELDS_MAX && status >= 200 && status <= 999);
    if (stream->finished) return;
    CHECK(!stream->begun);
    stream->begun = true;
    uint8_t digits[3] = {(uint8_t)('0' + status / 100), (uint8_t)('0' + status / 10 % 10),
                         (uint8_t)('0' + status % 10)};
    nghttp2_nv nv[HTTP2_FIELDS_MAX + 1];
    nv[0] = (nghttp2_nv){.name = (uint8_t *)":status",
                         .namelen = 7,
                         .value = digits,
                         .valuelen = 3,
                         .flags = NGHTTP2_NV_FLAG_NO_COPY_NAME};
    for (size_t i = 0; i < count; i++) nv[i + 1] = nv_of(&fields[i]);
    nghttp2_data_provider provider = {.source.ptr = stream, .read_callback = http2_stream_read};
    CHECK(nghttp2_submit_response(stream->http2->session, stream->number, nv, count + 1, body ? &provider : NULL) == 0);
    if (!body) return;
    /* Answers that wait take turns, frame by frame; by default the first would be sent whole before the second. */
    const nghttp2_extpri in_turns = {.urgency = NGHTTP2_EXTPRI_DEFAULT_URGENCY, .inc = 1};
    nghttp2_session_change_extpri_stream_priority(stream->http2->session, stream->number, &in_turns, 1);
}

void http2_begin(struct http2_stream *stream, int status, const struct http2_field *fields, size_t count)
{
    submit(stream, status, fields, count, true);
}

void http2_respond_headers(struct http2_stream *stream, int status, const struct http2_field *fields, size_t count)
{
    submit(stream, status, fields, count, false);
    stream->finished = true;
}

/* Cuts the next "Name: value" off. False at the end. */
static bool next_line(struct bytes *lines, struct bytes *name, struct bytes *value)
{
    const uint8_t *end = lines->size > 0 ? memchr(lines->data, '\r', lines->size) : NULL;
    if (end == NULL) return false;
    size_t size = (size_t)(end - lines->data);
    const uint8_t *colon = memchr(lines->data, ':', size);
    CHECK(colon != NULL && size + 2 <= lines->size);
    *name = bytes_of(lines->data, (size_t)(colon - lines->data));
    colon++;
    while (colon < end && *colon == ' ') colon++;
    *value = bytes_of(colon, (size_t)(end - colon));
    *lines = bytes_of(lines->data + size + 2, lines->size - size - 2);
    return true;
}

static bool is_of_connection(struct bytes lower_name)
{
    return bytes_equal(lower_name, bytes_of_string("connection")) ||
           bytes_equal(lower_name, bytes_of_string("keep-alive")) ||
           bytes_equal(lower_name, bytes_of_string("transfer-encoding"));
}

/* The fields of a response in HTTP/1's notation. `names` gets the names in lower case. */
static size_t fields_of(const char *content_type, const char *extra_headers, struct buffer *names,
                        struct http2_field *fields)
{
    struct bytes lines = bytes_of_string(extra_headers), name, value;
    buffer_reserve(names, lines.size); /* once, so that it stays where it is */
    size_t count = 0;
    if (content_type != NULL && content_type[0] != '\0') {
        fields[count++] =
            (struct http2_field){.name = bytes_of_string("content-type"), .value = bytes_of_string(content_type)};
    }
    while (next_line(&lines, &name, &value)) {
        size_t at = names->size;
        for (size_t i = 0; i < name.size; i++) {
            uint8_t byte = name.data[i];
            buffer_append_byte(names, byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte + 'a' - 'A') : byte);
        }
        struct bytes lower = bytes_of(names->data + at, name.size);
        if (is_of_connection(lower)) continue;
        CHECK(count < HTTP2_FIELDS_MAX);
        fields[count++] = (struct http2_field){.name = lower, .value = value};
    }
    return count;
}

void http2_respond(struct http2_stream *stream, int status, const char *content_type, const char *extra_headers,
                   struct bytes body, bool head)
{
    struct buffer names = {0}, length = {0};
    struct http2_field fields[HTTP2_FIELDS_MAX];
    size_t count = fields_of(content_type, extra_headers, &names, fields);
    buffer_append_decimal(&length, body.size);
    CHECK(count < HTTP2_FIELDS_MAX);
    fields[count++] = (struct http2_field){.name = bytes_of_string("content-length"), .value = buffer_bytes(&length)};
    if (head || body.size == 0) {
        http2_respond_headers(stream, status, fields, count);
    } else {
        http2_begin(stream, status, fields, count);
        http2_send(stream, body);
        http2_finish(stream, NULL, 0);
    }
    buffer_free(&names);
    buffer_free(&length);
}

/* ---- the answer's body ---- */

static void resume(struct http2_stream *stream)
{
    if (!stream->deferred) return;
    stream->deferred = false;
    nghttp2_session_resume_data(stream->http2->session, stream->number);
}

struct buffer *http2_send_buffer(struct http2_stream *stream)
{
    struct http2 *http2 = stream->http2;
    if (stream->finished) {
        buffer_clear(&http2->thrown_away);
        return &http2->thrown_away;
    }
    CHECK(stream->begun);
    if (stream->out.data == NULL && http2->spare.data != NULL) {
        stream->out = http2->spare;
        http2->spare = (struct buffer){0};
    }
    if (stream->out.size == 0) stream->progressed_at = http2->now;
    return &stream->out;
}

void http2_sent(struct http2_stream *stream)
{
    if (stream->finished) {
        if (stream->http2->thrown_away.capacity > HTTP2_SPARE_BYTES_MAX) buffer_free(&stream->http2->thrown_away);
        return;
    }
    http2_stream_count_buffer(stream);
    if (stream->out.size > stream->out_at) resume(stream);
}

void http2_send(struct http2_stream *stream, struct bytes data)
{
    if (stream->finished) return;
    struct buffer *out = http2_send_buffer(stream);
    buffer_append(out, data.data, data.size);
    http2_sent(stream);
}

static void keep_trailers(struct http2_stream *stream, const struct http2_field *trailers, size_t count)
{
    size_t size = count * sizeof(nghttp2_nv);
    for (size_t i = 0; i < count; i++)
        size += trailers[i].constant ? 0 : trailers[i].name.size + trailers[i].value.size;
    stream->trailers = http2_memory_alloc(&stream->http2->memory, size);
    stream->trailer_count = (uint8_t)count;
    uint8_t *text = (uint8_t *)(stream->trailers + count);
    for (size_t i = 0; i < count; i++) {
        struct http2_field field = trailers[i];
        if (!field.constant) {
            memcpy(text, field.name.data, field.name.size);
            field.name.data = text;
            text += field.name.size;
            if (field.value.size > 0) memcpy(text, field.value.data, field.value.size);
            field.value.data = text;
            text += field.value.size;
        }
        stream->trailers[i] = nv_of(&field);
    }
}

void http2_finish(struct http2_stream *stream, const struct http2_field *trailers, size_t count)
{
    CHECK(count <= HTTP2_FIELDS_MAX);
    if (stream->finished) return;
    CHECK(stream->begun);
    if (count > 0) keep_trailers(stream, trailers, count);
    stream->finished = true;
    resume(stream);
}

void http2_reset(struct http2_stream *stream, enum http2_error error)
{
    if (stream->gone || stream->reset || stream->sent) return;
    stream->reset = stream->finished = true;
    http2_stream_forget_windows(stream);
    http2_stream_unmark(stream);
    nghttp2_submit_rst_stream(stream->http2->session, NGHTTP2_FLAG_NONE, stream->number, error);
}

ssize_t http2_stream_read(nghttp2_session *session, int32_t number, uint8_t *data, size_t size, uint32_t *flags,
                          nghttp2_data_source *source, void *user)
{
    (void)data;
    (void)user;
    struct http2_stream *stream = source->ptr;
    size_t waiting = stream->out.size - stream->out_at;
    if (waiting == 0 && !stream->finished) {
        stream->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    if (stream->reset) {
        stream->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    /* The bytes themselves are copied in http2_stream_send_data, straight to where they are to be. */
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (waiting > size) return (ssize_t)size;
    if (stream->finished) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (stream->trailer_count > 0) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            if (nghttp2_submit_trailer(session, number, stream->trailers, stream->trailer_count) != 0) {
                return NGHTTP2_ERR_CALLBACK_FAILURE;
            }
        }
    }
    return (ssize_t)waiting;
}

int http2_stream_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head, size_t size,
                           nghttp2_data_source *source, void *user)
{
    (void)session;
    (void)frame;
    struct http2 *http2 = user;
    struct http2_stream *stream = source->ptr;
    if (http2->out->size >= http2->out_bytes_max) return NGHTTP2_ERR_WOULDBLOCK;
    CHECK(size <= stream->out.size - stream->out_at);
    buffer_append(http2->out, head, 9);
    if (size > 0) buffer_append(http2->out, stream->out.data + stream->out_at, size);
    stream->out_at += size;
    bool all = stream->out_at == stream->out.size;
    if (all || size >= HTTP2_CALM_TINY_BYTES) {
        stream->progressed_at = http2->now;
        http2_calm_gain(&http2->calm, HTTP2_CALM_GAIN_DATA);
    }
    if (all) {
        stream->out_at = 0;
        buffer_clear(&stream->out);
        if (stream->out.capacity > HTTP2_SPARE_BYTES_MAX) buffer_free(&stream->out);
    } else if (stream->out_at >= stream->out.size / 2 && stream->out_at >= 64 * 1024) {
        /* Moves at most as many bytes as were sent since the last time. */
        buffer_consume(&stream->out, stream->out_at);
        stream->out_at = 0;
    }
    http2_stream_count_buffer(stream);
    return 0;
}

/* ---- back-pressure ---- */

size_t http2_stream_waiting_bytes(const struct http2_stream *stream)
{
    return stream->out.size - stream->out_at;
}

void http2_stream_set_mark(struct http2_stream *stream, size_t bytes)
{
    if (stream->gone || stream->reset) return;
    struct http2 *http2 = stream->http2;
    stream->mark = bytes;
    if (http2_stream_waiting_bytes(stream) <= bytes) http2->mark_due = true;
    if (stream->is_marked) return;
    stream->is_marked = true;
    stream->previous_marked = NULL;
    stream->next_marked = http2->marked;
    if (http2->marked != NULL) http2->marked->previous_marked = stream;
    http2->marked = stream;
}

void http2_stream_unmark(struct http2_stream *stream)
{
    if (!stream->is_marked) return;
    stream->is_marked = false;
    if (stream->previous_marked != NULL)
        stream->previous_marked->next_marked = stream->next_marked;
    else
        stream->http2->marked = stream->next_marked;
    if (stream->next_marked != NULL) stream->next_marked->previous_marked = stream->previous_marked;
    stream->previous_marked = stream->next_marked = NULL;
}

/*
 * What the client may still send, as it sees it once it knows our SETTINGS: less than nothing when it sent by the default window before. nghttp2
 * changes its books only when it acknowledges them; what is told until then has to be right afterwards.
 */
static int64_t allowed_bytes(const struct http2_stream *stream)
{
    const struct http2 *http2 = stream->http2;
    int64_t window = nghttp2_session_get_stream_effective_local_window_size(http2->session, stream->number);
    int64_t used = nghttp2_session_get_stream_effective_recv_data_length(http2->session, stream->number);
    int64_t to_come =
        http2->acknowledged ? 0 : NGHTTP2_INITIAL_WINDOW_SIZE - (int64_t)http2->limits.stream_window_bytes;
    return window - used - to_come;
}

/*
 * Tells the client that it may send more, where that is so: one window beyond what the owner has consumed, or what was granted. nghttp2 only keeps
 * the books here: it allows what was told, and its own way to consume knows no grants.
 */
static void open_window(struct http2_stream *stream)
{
    struct http2 *http2 = stream->http2;
    int64_t window = http2->limits.stream_window_bytes;
    int64_t allowed = allowed_bytes(stream);
    int64_t wanted = window - (int64_t)stream->unconsumed;
    bool urgent = (int64_t)stream->granted_left > allowed;
    if ((int64_t)stream->granted_left > wanted) wanted = (int64_t)stream->granted_left;
    int64_t more = wanted - allowed;
    if (more <= 0 || (!urgent && more < window / 2)) return;
    stream->unreturned = 0;
    nghttp2_submit_window_update(http2->session, NGHTTP2_FLAG_NONE, stream->number, (int32_t)more);
}

void http2_stream_received(struct http2_stream *stream, size_t bytes)
{
    stream->unconsumed += bytes;
    stream->unreturned += bytes;
    stream->granted_left -= bytes < stream->granted_left ? bytes : stream->granted_left;
}

void http2_stream_consume(struct http2_stream *stream, size_t bytes)
{
    CHECK(bytes <= stream->unconsumed);
    stream->unconsumed -= bytes;
    if (stream->ended || stream->in_last_frame || stream->gone || stream->reset) return;
    if (stream->unreturned >= stream->http2->limits.stream_window_bytes / 2) open_window(stream);
}

static void stop_expecting(struct http2_stream *stream)
{
    if (!stream->is_expecting) return;
    struct http2 *http2 = stream->http2;
    stream->is_expecting = false;
    if (stream->previous_expecting != NULL)
        stream->previous_expecting->next_expecting = stream->next_expecting;
    else
        http2->expecting_first = stream->next_expecting;
    if (stream->next_expecting != NULL)
        stream->next_expecting->previous_expecting = stream->previous_expecting;
    else
        http2->expecting_last = stream->previous_expecting;
    stream->previous_expecting = stream->next_expecting = NULL;
}

/* Gives to those who wait, in their order, as long as there is room. */
static void grant(struct http2 *http2)
{
    while (http2->expecting_first != NULL) {
        struct http2_stream *stream = http2->expecting_first;
        size_t more = stream->expected;
        if (more > http2->limits.granted_bytes_max) more = http2->limits.granted_bytes_max;
        if (http2->granted_bytes + more > http2->limits.granted_bytes_max) return;
        stop_expecting(stream);
        stream->granted = stream->granted_left = more;
        http2->granted_bytes += more;
        open_window(stream);
    }
}

static void give_back(struct http2_stream *stream)
{
    stop_expecting(stream);
    stream->http2->granted_bytes -= stream->granted;
    stream->granted = stream->granted_left = 0;
}

void http2_stream_forget_windows(struct http2_stream *stream)
{
    if (!stream->is_expecting && stream->granted == 0) return;
    give_back(stream);
    grant(stream->http2);
}

void http2_stream_expect(struct http2_stream *stream, size_t more)
{
    if (stream->ended || stream->in_last_frame || stream->gone || stream->reset) return;
    struct http2 *http2 = stream->http2;
    give_back(stream);
    if ((int64_t)more > allowed_bytes(stream)) {
        stream->expected = more;
        stream->is_expecting = true;
        stream->previous_expecting = http2->expecting_last;
        stream->next_expecting = NULL;
        if (http2->expecting_last != NULL)
            http2->expecting_last->next_expecting = stream;
        else
            http2->expecting_first = stream;
        http2->expecting_last = stream;
    }
    grant(http2);
}

bool http2_stream_keep(struct http2_stream *stream, size_t bytes)
{
    struct http2 *http2 = stream->http2;
    if (bytes > stream->kept && http2->kept_bytes - stream->kept + bytes > http2->limits.kept_bytes_max) return false;
    if (stream->kept == 0) stream->kept_since = http2->now;
    http2->kept_bytes = http2->kept_bytes - stream->kept + bytes;
    stream->kept = bytes;
    return true;
}

void http2_stream_excuse(struct http2_stream *stream, bool excused)
{
    if (stream->excused && !excused) stream->kept_since = stream->http2->now;
    stream->excused = excused;
}
