#include "wire/http1.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/random.h"

#define BODY_MAX 100

/* ---- writing ---- */

static void assert_response(int status, const char *extra, const char *body, bool keep_alive, bool head,
                            const char *expected)
{
    struct buffer out = {0};
    http1_response(&out, status, "text/x", extra, bytes_of_string(body), keep_alive, head);
    if (!bytes_equal(buffer_bytes(&out), bytes_of_string(expected))) {
        fail_msg("%.*s is not %s", (int)out.size, (const char *)out.data, expected);
    }
    buffer_free(&out);
}

static void test_write(void **state)
{
    (void)state;
    assert_response(200, "", "hello", true, false,
                    "HTTP/1.1 200 OK\r\nContent-Type: text/x\r\nContent-Length: 5\r\n\r\nhello");
    assert_response(404, "", "", true, false,
                    "HTTP/1.1 404 Not Found\r\nContent-Type: text/x\r\nContent-Length: 0\r\n\r\n");
    assert_response(503, "Retry-After: 1\r\n", "x", false, false,
                    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/x\r\nContent-Length: 1\r\n"
                    "Retry-After: 1\r\nConnection: close\r\n\r\nx");
    assert_response(200, "", "hello", true, true,
                    "HTTP/1.1 200 OK\r\nContent-Type: text/x\r\nContent-Length: 5\r\n\r\n");
}

static void test_reason(void **state)
{
    (void)state;
    assert_string_equal(http1_reason(404), "Not Found");
    for (int status = -1; status < 1000; status++) assert_non_null(http1_reason(status));
    /* Every status that an error can have is known. */
    for (int error = 0; error < ERROR_COUNT; error++) {
        assert_string_not_equal(http1_reason(error_http_status((enum error)error)), "Unknown");
    }
}

/* ---- reading ---- */

static enum error read_all(struct bytes input, size_t piece, bool head, struct buffer *out)
{
    struct http1_response_parser *parser = http1_response_parser_new(BODY_MAX);
    enum error error = ERR_NOT_READY;
    for (size_t at = 0; at < input.size; at += piece) {
        size_t size = input.size - at < piece ? input.size - at : piece;
        struct buffer copy = {0};
        buffer_append(&copy, input.data + at, size);
        http1_response_parser_feed(parser, buffer_bytes(&copy));
        buffer_free(&copy);
        struct http1_response_view view;
        while ((error = http1_response_parser_next(parser, head, &view)) == ERR_OK) {
            buffer_append_format(out, "%d %s", view.status, view.keep_alive ? "" : "close ");
            buffer_append(out, view.body.data, view.body.size);
            buffer_append_byte(out, '\n');
        }
    }
    http1_response_parser_free(parser);
    return error;
}

static void assert_reads(const char *input, bool head, const char *expected, enum error expected_error)
{
    for (size_t piece = 1; piece <= strlen(input); piece++) {
        struct buffer out = {0};
        enum error error = read_all(bytes_of_string(input), piece, head, &out);
        if (error != expected_error || !bytes_equal(buffer_bytes(&out), bytes_of_string(expected))) {
            fail_msg("%s\ngave %.*s with %s", input, (int)out.size, (const char *)out.data, error_code(error));
        }
        buffer_free(&out);
    }
}

static void test_read(void **state)
{
    (void)state;
    static const struct {
        const char *input;
        const char *expected;
    } samples[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "200 hi\n"},
        {"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "200 \n"},
        {"HTTP/1.1 200 \r\ncontent-length: 0\r\n\r\n", "200 \n"},
        {"HTTP/1.1 404 Not Found\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx", "404 close x\n"},
        {"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", "200 close x\n"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n1;x\r\n!\r\n0\r\nT: t\r\n\r\n", "200 hi!\n"},
        {"HTTP/1.1 204 No Content\r\n\r\n", "204 \n"},
        {"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "304 \n"},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "200 hi\n"},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 P\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
         "200 hi\n"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 201 C\r\nContent-Length: 1\r\n\r\nb", "200 a\n201 b\n"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi", ""},
        {"HTTP/1.1 200 OK\r\nContent-Le", ""},
    };
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        assert_reads(samples[i].input, false, samples[i].expected, ERR_NOT_READY);
    }
    assert_reads("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHTTP/1.1 404 N\r\nContent-Length: 5\r\n\r\n", true,
                 "200 \n404 \n", ERR_NOT_READY);
}

static void test_read_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "\r\n",
        "HTTP/1.1\r\n",
        "HTTP/2.0 200 OK\r\n",
        "HTTP/1.1 20 OK\r\n",
        "HTTP/1.1 2000 OK\r\n",
        "HTTP/1.1  200 OK\r\n",
        "HTTP/1.1 abc OK\r\n",
        "HTTP/1.1 099 X\r\n",
        "http/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\n",
        "HTTP/1.x 200 OK\r\n",
        "HTTP/1.1 200 OK\r\n\r\n", /* only the end of the connection would end it */
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA : b\r\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) assert_reads(bad[i], false, "", ERR_BAD_REQUEST);
    assert_reads("HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n", false, "", ERR_TOO_LARGE);
    assert_reads("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n", false, "", ERR_TOO_LARGE);

    struct buffer endless = {0};
    while (endless.size <= HTTP1_HEADERS_BYTES_MAX) buffer_append_byte(&endless, 'H');
    struct buffer out = {0};
    assert_int_equal(read_all(buffer_bytes(&endless), 1000, false, &out), ERR_TOO_LARGE);
    buffer_free(&endless);
    buffer_free(&out);
}

static void test_error_stays(void **state)
{
    (void)state;
    struct http1_response_parser *parser = http1_response_parser_new(BODY_MAX);
    struct http1_response_view view;
    http1_response_parser_feed(parser, bytes_of_string("nonsense\r\n"));
    assert_int_equal(http1_response_parser_next(parser, false, &view), ERR_BAD_REQUEST);
    http1_response_parser_feed(parser, bytes_of_string("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    assert_int_equal(http1_response_parser_next(parser, false, &view), ERR_BAD_REQUEST);
    http1_response_parser_free(parser);
    http1_response_parser_free(NULL);
}

/* What this folder writes, it reads. */
static void test_round_trip(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 7);
    for (int round = 0; round < 200; round++) {
        struct buffer stream = {0}, expected = {0}, out = {0};
        for (int i = 0; i < 3; i++) {
            uint8_t body[BODY_MAX];
            size_t size = random_below(&random, BODY_MAX + 1);
            for (size_t j = 0; j < size; j++) body[j] = (uint8_t)random_u64(&random);
            int status = 200 + (int)random_below(&random, 4);
            bool keep_alive = random_chance(&random, 500);
            http1_response(&stream, status, "x/y", i == 1 ? "A: b\r\n" : "", bytes_of(body, size), keep_alive, false);
            buffer_append_format(&expected, "%d %s", status, keep_alive ? "" : "close ");
            if (status != 204) buffer_append(&expected, body, size);
            buffer_append_byte(&expected, '\n');
            if (status == 204) { /* has no body: don't make the stream lie */
                stream.size -= size;
            }
        }
        assert_int_equal(read_all(buffer_bytes(&stream), 1 + random_below(&random, 50), false, &out), ERR_NOT_READY);
        assert_true(bytes_equal(buffer_bytes(&out), buffer_bytes(&expected)));
        buffer_free(&stream);
        buffer_free(&expected);
        buffer_free(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write),        cmocka_unit_test(test_reason),      cmocka_unit_test(test_read),
        cmocka_unit_test(test_read_refused), cmocka_unit_test(test_error_stays), cmocka_unit_test(test_round_trip),
    };
    return cmocka_run_group_tests_name("http1_response", tests, NULL, NULL);
}
