/*
 * fuzz_http1.c - requests and responses from any bytes. The first byte says how the rest is cut into pieces: whole or
 * in pieces, the outcome must be the same.
 */
#include "base/check.h"
#include "base/mem.h"
#include "wire/http1.h"

#define BODY_BYTES_MAX 5000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void describe(const struct http1_request *request, struct buffer *out)
{
    CHECK(request->body.size <= BODY_BYTES_MAX);
    CHECK(request->header_count <= HTTP1_HEADER_COUNT_MAX);
    CHECK(request->path.size > 0);
    buffer_append_format(out, "%d %d %zu\n", request->method, request->keep_alive, request->header_count);
    buffer_append(out, request->path.data, request->path.size);
    buffer_append_byte(out, '\n');
    buffer_append(out, request->query.data, request->query.size);
    for (size_t i = 0; i < request->header_count; i++) {
        buffer_append_byte(out, '\n');
        buffer_append(out, request->headers[i].name.data, request->headers[i].name.size);
        buffer_append_byte(out, ':');
        buffer_append(out, request->headers[i].value.data, request->headers[i].value.size);
    }
    buffer_append_byte(out, '\n');
    buffer_append(out, request->body.data, request->body.size);
    buffer_append_byte(out, '\n');

    struct buffer decoded = {0};
    if (http1_percent_decode(request->path, &decoded)) CHECK(decoded.size <= request->path.size);
    buffer_free(&decoded);
    (void)http1_query_parameter(request->query, "exclude");
    CHECK(!request->keep_alive || http1_request_header(request, "host").data != NULL);
}

static enum error parse_requests(struct bytes input, size_t piece, struct buffer *out)
{
    struct http1_parser *parser = http1_parser_new(BODY_BYTES_MAX);
    enum error error = ERR_NOT_READY;
    for (size_t at = 0; at < input.size; at += piece) {
        size_t size = input.size - at < piece ? input.size - at : piece;
        uint8_t *copy = mem_alloc(size);
        memcpy(copy, input.data + at, size);
        http1_parser_feed(parser, bytes_of(copy, size));
        mem_free(copy);
        struct http1_request request;
        while ((error = http1_parser_next(parser, &request)) == ERR_OK) {
            describe(&request, out);
            /* What describe saw must stay while more is fed, so a second look comes after it. */
            if (at + size < input.size && !http1_parser_full(parser)) {
                struct buffer before = {0}, after = {0};
                describe(&request, &before);
                size_t more = input.size - at - size < piece ? input.size - at - size : piece;
                http1_parser_feed(parser, bytes_of(input.data + at + size, more));
                at += more;
                describe(&request, &after);
                CHECK(bytes_equal(buffer_bytes(&before), buffer_bytes(&after)));
                buffer_free(&before);
                buffer_free(&after);
            }
        }
        (void)http1_parser_wants_continue(parser);
        if (error != ERR_NOT_READY) {
            CHECK(error == ERR_BAD_REQUEST || error == ERR_HEADERS_TOO_LARGE || error == ERR_TOO_LARGE ||
                  error == ERR_URI_TOO_LONG || error == ERR_BAD_HTTP_VERSION || error == ERR_UNSUPPORTED);
            CHECK(http1_parser_memory_bytes(parser) < 1024);
        }
        CHECK(http1_parser_memory_bytes(parser) <= 2 * (input.size + BODY_BYTES_MAX + HTTP1_HEADERS_BYTES_MAX));
    }
    http1_parser_free(parser);
    return error;
}

static enum error parse_responses(struct bytes input, size_t piece, bool head, struct buffer *out)
{
    struct http1_response_parser *parser = http1_response_parser_new(BODY_BYTES_MAX);
    enum error error = ERR_NOT_READY;
    for (size_t at = 0; at < input.size; at += piece) {
        size_t size = input.size - at < piece ? input.size - at : piece;
        uint8_t *copy = mem_alloc(size);
        memcpy(copy, input.data + at, size);
        http1_response_parser_feed(parser, bytes_of(copy, size));
        mem_free(copy);
        struct http1_response_view view;
        while ((error = http1_response_parser_next(parser, head, &view)) == ERR_OK) {
            CHECK(view.status >= 200 && view.status <= 999 && view.body.size <= BODY_BYTES_MAX);
            buffer_append_format(out, "%d %d ", view.status, view.keep_alive);
            buffer_append(out, view.body.data, view.body.size);
        }
        CHECK(error == ERR_NOT_READY || error == ERR_BAD_REQUEST || error == ERR_TOO_LARGE);
    }
    http1_response_parser_free(parser);
    return error;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    struct bytes input = bytes_of(data + 1, size - 1);
    size_t piece = data[0] % 64u + 1;
    struct buffer whole = {0}, pieces = {0};

    enum error error = parse_requests(input, input.size + 1, &whole);
    CHECK(parse_requests(input, piece, &pieces) == error);
    CHECK(bytes_equal(buffer_bytes(&whole), buffer_bytes(&pieces)));

    buffer_clear(&whole);
    buffer_clear(&pieces);
    bool head = data[0] >= 128;
    error = parse_responses(input, input.size + 1, head, &whole);
    CHECK(parse_responses(input, piece, head, &pieces) == error);
    CHECK(bytes_equal(buffer_bytes(&whole), buffer_bytes(&pieces)));

    buffer_free(&whole);
    buffer_free(&pieces);
    return 0;
}
