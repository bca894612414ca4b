#include "wire/http1.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/random.h"

#define BODY_MAX 1000

static const char *const method_names[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "OTHER"};

static void append_view(struct buffer *out, const char *name, struct bytes view)
{
    buffer_append_format(out, " %s=", name);
    buffer_append(out, view.data, view.size);
}

/* A request as a line of text: "GET /a query=b Host=x close body=…". */
static void describe(const struct http1_request *request, struct buffer *out)
{
    buffer_append_string(out, method_names[request->method]);
    buffer_append_byte(out, ' ');
    buffer_append(out, request->path.data, request->path.size);
    if (request->query.data != NULL) append_view(out, "query", request->query);
    for (size_t i = 0; i < request->header_count; i++) {
        buffer_append_byte(out, ' ');
        buffer_append(out, request->headers[i].name.data, request->headers[i].name.size);
        buffer_append_byte(out, '=');
        buffer_append(out, request->headers[i].value.data, request->headers[i].value.size);
    }
    if (!request->keep_alive) buffer_append_string(out, " close");
    if (request->body.size > 0) append_view(out, "body", request->body);
    buffer_append_byte(out, '\n');
}

/* Takes out what there is; what the parser says at the end. */
static enum error drain(struct http1_parser *parser, struct buffer *out)
{
    for (;;) {
        struct http1_request request;
        enum error error = http1_parser_next(parser, &request);
        if (error != ERR_OK) return error;
        describe(&request, out);
    }
}

/* Feeds in pieces of at most `piece` bytes, each in memory of its own so that reading beyond it is seen. */
static enum error feed_in_pieces(struct bytes input, size_t piece, struct random *random, struct buffer *out)
{
    struct http1_parser *parser = http1_parser_new(BODY_MAX);
    enum error error = ERR_NOT_READY;
    for (size_t at = 0; at < input.size;) {
        size_t size = random != NULL ? 1 + random_below(random, piece) : piece;
        if (size > input.size - at) size = input.size - at;
        struct buffer copy = {0};
        buffer_append(&copy, input.data + at, size);
        http1_parser_feed(parser, buffer_bytes(&copy));
        buffer_free(&copy);
        at += size;
        error = drain(parser, out);
        if (error != ERR_NOT_READY) assert_true(http1_parser_memory_bytes(parser) < 1024);
    }
    http1_parser_free(parser);
    return error;
}

/* The same requests, and the same end, whatever the pieces: whole, byte by byte, and at random. */
static void assert_parses_as(struct bytes input, const char *expected, enum error expected_error)
{
    struct random random;
    random_seed(&random, input.size);
    for (int way = 0; way < 12; way++) {
        struct buffer out = {0};
        size_t piece = way == 0 ? input.size : way == 1 ? 1 : way == 2 ? 2 : way == 3 ? 3 : 1 + input.size / 3;
        enum error error = feed_in_pieces(input, piece, way < 4 ? NULL : &random, &out);
        if (!bytes_equal(buffer_bytes(&out), bytes_of_string(expected)) || error != expected_error) {
            fail_msg("way %d: %.*s\ngave\n%.*swith %s, not\n%swith %s", way, (int)input.size, (const char *)input.data,
                     (int)out.size, (const char *)out.data, error_code(error), expected, error_code(expected_error));
        }
        buffer_free(&out);
    }
}

struct script {
    const char *input;
    size_t size;
    const char *expected;
    enum error error;
};
#define SCRIPT(input, expected, error)                                                                                 \
    {                                                                                                                  \
        input, sizeof(input) - 1, expected, error                                                                      \
    }
#define TAKEN(input, expected) SCRIPT(input, expected, ERR_NOT_READY)
#define REFUSED(input, error) SCRIPT(input, "", error)

static void run_scripts(const struct script *scripts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        assert_parses_as(bytes_of(scripts[i].input, scripts[i].size), scripts[i].expected, scripts[i].error);
    }
}
#define RUN(scripts) run_scripts(scripts, sizeof scripts / sizeof scripts[0])

#define H "Host: h\r\n"
#define EMPTY_LINES_MAX "\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n"

static void test_request_lines(void **state)
{
    (void)state;
    static const struct script scripts[] = {
        TAKEN("", ""),
        TAKEN("GET / HTTP/1.1\r\n" H "\r\n", "GET / Host=h\n"),
        TAKEN("HEAD /a HTTP/1.1\r\n" H "\r\n", "HEAD /a Host=h\n"),
        TAKEN("DELETE /a/b HTTP/1.1\r\n" H "\r\n", "DELETE /a/b Host=h\n"),
        TAKEN("OPTIONS * HTTP/1.1\r\n" H "\r\n", "OPTIONS * Host=h\n"),
        TAKEN("OPTIONS /x HTTP/1.1\r\n" H "\r\n", "OPTIONS /x Host=h\n"),
        TAKEN("PATCH /a HTTP/1.1\r\n" H "\r\n", "OTHER /a Host=h\n"),
        TAKEN("get /a HTTP/1.1\r\n" H "\r\n", "OTHER /a Host=h\n"),
        TAKEN("GET /a?b=c&d HTTP/1.1\r\n" H "\r\n", "GET /a query=b=c&d Host=h\n"),
        TAKEN("GET /a? HTTP/1.1\r\n" H "\r\n", "GET /a query= Host=h\n"),
        TAKEN("GET /a?b?c HTTP/1.1\r\n" H "\r\n", "GET /a query=b?c Host=h\n"),
        TAKEN("GET /%2f%zz//.. HTTP/1.1\r\n" H "\r\n", "GET /%2f%zz//.. Host=h\n"),
        TAKEN("GET /\xc3\xa4\"<>{} HTTP/1.1\r\n" H "\r\n", "GET /\xc3\xa4\"<>{} Host=h\n"),
        TAKEN("GET http://h:1/a?b HTTP/1.1\r\n" H "\r\n", "GET /a query=b Host=h\n"),
        TAKEN("GET HTTPS://h HTTP/1.1\r\n" H "\r\n", "GET / Host=h\n"),
        TAKEN("GET http://h?b HTTP/1.1\r\n" H "\r\n", "GET / query=b Host=h\n"),
        TAKEN("GET / HTTP/1.9\r\n" H "\r\n", "GET / Host=h\n"),
        TAKEN("GET / HTTP/1.0\r\n\r\n", "GET / close\n"),
        TAKEN("\r\nGET / HTTP/1.1\r\n" H "\r\n", "GET / Host=h\n"),
        TAKEN("GET / HTTP/1.1\r\n" H "\r\n\r\nGET /b HTTP/1.1\r\n" H "\r\n", "GET / Host=h\nGET /b Host=h\n"),
        TAKEN("\r\n\r\nGET / HTTP/1.1\r\n" H "\r\n", "GET / Host=h\n"),
        TAKEN(EMPTY_LINES_MAX "GET / HTTP/1.1\r\n" H "\r\n" EMPTY_LINES_MAX "GET /b HTTP/1.1\r\n" H "\r\n",
              "GET / Host=h\nGET /b Host=h\n"),
        TAKEN(EMPTY_LINES_MAX, ""),
        REFUSED(EMPTY_LINES_MAX "\r\n", ERR_BAD_REQUEST),
        SCRIPT("GET / HTTP/1.1\r\n" H "\r\n" EMPTY_LINES_MAX "\r\nGET /b HTTP/1.1\r\n" H "\r\n", "GET / Host=h\n",
               ERR_BAD_REQUEST),
        REFUSED("\nGET / HTTP/1.1\r\n" H "\r\n", ERR_BAD_REQUEST),
        REFUSED(" GET / HTTP/1.1\r\n" H "\r\n", ERR_BAD_REQUEST),
        REFUSED("GET\r\n", ERR_BAD_REQUEST),
        REFUSED("GET /\r\n", ERR_BAD_REQUEST),
        REFUSED("GET  / HTTP/1.1\r\n", ERR_BAD_REQUEST),
        REFUSED("GET /  HTTP/1.1\r\n", ERR_BAD_REQUEST),
        REFUSED("GET / HTTP/1.1 \r\n", ERR_BAD_REQUEST),
        REFUSED("GET\t/ HTTP/1.1\r\n", ERR_BAD_REQUEST),
        REFUSED("GET /a b HTTP/1.1\r\n", ERR_BAD_REQUEST),
        REFUSED("GET /a\tb HTTP/1.1\r\n", ERR_BAD_REQUEST),
        REFUSED("GET /a\0b HTTP/1.1\r\n", ERR_BAD_REQUEST),
        REFUSED("GET /a\rb HTTP/1.1\r\n", ERR_BAD_REQUEST),
        REFUSED("GET /a\x7f HTTP/1.1\r\n", ERR_BAD_REQUEST),
        REFUSED("GET /a#b HTTP/1.1\r\n", ERR_BAD_REQUEST),
        REFUSED("G@T / HTTP/1.1\r\n", ERR_BAD_REQUEST),
        REFUSED("G\0T / HTTP/1.1\r\n", ERR_BAD_REQUEST),
        REFUSED("GET / HTTP/1.1\n" H "\n", ERR_BAD_REQUEST),
        REFUSED("GET / http/1.1\r\n", ERR_BAD_REQUEST),
        REFUSED("GET / HTTP/11\r\n", ERR_BAD_REQUEST),
        REFUSED("GET / HTTP/1.10\r\n", ERR_BAD_REQUEST),
        REFUSED("GET / HTTP/1.x\r\n", ERR_BAD_REQUEST),
        REFUSED("GET / HTTP/.1.\r\n", ERR_BAD_REQUEST),
        REFUSED("GET / HTTQ/1.1\r\n", ERR_BAD_REQUEST),
        REFUSED("GET / HTTP/0.9\r\n", ERR_BAD_HTTP_VERSION),
        REFUSED("GET / HTTP/2.0\r\n", ERR_BAD_HTTP_VERSION),
        REFUSED("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ERR_BAD_HTTP_VERSION),
        REFUSED("GET a HTTP/1.1\r\n" H "\r\n", ERR_BAD_REQUEST),
        REFUSED("GET * HTTP/1.1\r\n" H "\r\n", ERR_BAD_REQUEST),
        REFUSED("GET http:///a HTTP/1.1\r\n" H "\r\n", ERR_BAD_REQUEST),
        REFUSED("GET ftp://h/a HTTP/1.1\r\n" H "\r\n", ERR_BAD_REQUEST),
        REFUSED("CONNECT h:80 HTTP/1.1\r\n" H "\r\n", ERR_BAD_REQUEST),
        REFUSED("\x16\x03\x01", ERR_BAD_REQUEST), /* TLS */
        REFUSED("\x80", ERR_BAD_REQUEST),
        REFUSED("\0", ERR_BAD_REQUEST),
    };
    RUN(scripts);
}

static void test_headers(void **state)
{
    (void)state;
    static const struct script scripts[] = {
        TAKEN("GET / HTTP/1.1\r\nHost:h\r\nA: b c \t\r\nX-Y_z.1!~: \t \r\nE:\r\n\r\n",
              "GET / Host=h A=b c X-Y_z.1!~= E=\n"),
        TAKEN("GET / HTTP/1.1\r\nhOST: h:80\r\nA: \xc3\xa4:\"\\\r\n\r\n", "GET / hOST=h:80 A=\xc3\xa4:\"\\\n"),
        TAKEN("GET / HTTP/1.1\r\nHost: [::1]:7777\r\n\r\n", "GET / Host=[::1]:7777\n"),
        TAKEN("GET / HTTP/1.1\r\nHost:\r\n\r\n", "GET / Host=\n"),
        TAKEN("GET / HTTP/1.1\r\n" H "Connection: close\r\n\r\n", "GET / Host=h Connection=close close\n"),
        TAKEN("GET / HTTP/1.1\r\n" H "Connection: a ,\tClose\r\n\r\n", "GET / Host=h Connection=a ,\tClose close\n"),
        TAKEN("GET / HTTP/1.1\r\n" H "Connection: x\r\nConnection: close\r\n\r\n",
              "GET / Host=h Connection=x Connection=close close\n"),
        TAKEN("GET / HTTP/1.1\r\n" H "Connection: closed, keep-alive,\r\n\r\n",
              "GET / Host=h Connection=closed, keep-alive,\n"),
        TAKEN("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "GET / Connection=keep-alive close\n"),
        REFUSED("GET / HTTP/1.1\r\n\r\n", ERR_BAD_REQUEST), /* no Host */
        REFUSED("GET / HTTP/1.1\r\n" H H "\r\n", ERR_BAD_REQUEST),
        REFUSED("GET / HTTP/1.0\r\n" H H "\r\n", ERR_BAD_REQUEST),
        REFUSED("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", ERR_BAD_REQUEST),
        REFUSED("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", ERR_BAD_REQUEST),
        REFUSED("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", ERR_BAD_REQUEST),
        REFUSED("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", ERR_BAD_REQUEST),
        REFUSED("GET / HTTP/1.1\r\nHost : h\r\n", ERR_BAD_REQUEST),
        REFUSED("GET / HTTP/1.1\r\n Host: h\r\n", ERR_BAD_REQUEST),
        REFUSED("GET / HTTP/1.1\r\n" H "A: b\r\n c\r\n", ERR_BAD_REQUEST), /* folded */
        REFUSED("GET / HTTP/1.1\r\n" H "A: b\r\n\tc: d\r\n", ERR_BAD_REQUEST),
        REFUSED("GET / HTTP/1.1\r\n" H "A\r\n", ERR_BAD_REQUEST),
        REFUSED("GET / HTTP/1.1\r\n" H ": b\r\n", ERR_BAD_REQUEST),
        REFUSED("GET / HTTP/1.1\r\n" H "A b: c\r\n", ERR_BAD_REQUEST),
        REFUSED("GET / HTTP/1.1\r\n" H "A(: c\r\n", ERR_BAD_REQUEST),
        REFUSED("GET / HTTP/1.1\r\n" H "\xc3\xa4: c\r\n", ERR_BAD_REQUEST),
        REFUSED("GET / HTTP/1.1\r\n" H "A: b\rc\r\n", ERR_BAD_REQUEST),
        REFUSED("GET / HTTP/1.1\r\n" H "A: b\r\r\n", ERR_BAD_REQUEST),
        REFUSED("GET / HTTP/1.1\r\n" H "A: b\nC: d\r\n", ERR_BAD_REQUEST),
        REFUSED("GET / HTTP/1.1\r\n" H "A: b\0c\r\n", ERR_BAD_REQUEST),
        REFUSED("GET / HTTP/1.1\r\n" H "A: b\x01\r\n", ERR_BAD_REQUEST),
        REFUSED("GET / HTTP/1.1\r\n" H "A: b\x7f\r\n", ERR_BAD_REQUEST),
        REFUSED("GET / HTTP/1.1\r\n" H "\n", ERR_BAD_REQUEST),
    };
    RUN(scripts);
}

static void test_content_length(void **state)
{
    (void)state;
    static const struct script scripts[] = {
        TAKEN("POST / HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nabc", "POST / Host=h Content-Length=3 body=abc\n"),
        TAKEN("POST / HTTP/1.1\r\n" H "content-LENGTH:003\t\r\n\r\nabc", "POST / Host=h content-LENGTH=003 body=abc\n"),
        TAKEN("POST / HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n", "POST / Host=h Content-Length=0\n"),
        TAKEN("GET / HTTP/1.1\r\n" H "Content-Length: 2\r\n\r\n\r\n", "GET / Host=h Content-Length=2 body=\r\n\n"),
        TAKEN("POST / HTTP/1.0\r\nContent-Length: 1\r\n\r\nx", "POST / Content-Length=1 close body=x\n"),
        TAKEN("POST / HTTP/1.1\r\n" H "Content-Length: 4\r\n\r\nabc", ""), /* says more than comes */
        SCRIPT("POST / HTTP/1.1\r\n" H "Content-Length: 2\r\n\r\n!!\x02 rest",
               "POST / Host=h Content-Length=2 body=!!\n", ERR_BAD_REQUEST), /* more comes than it says */
        REFUSED("POST / HTTP/1.1\r\n" H "Content-Length: 3\r\nContent-Length: 3\r\n\r\n", ERR_BAD_REQUEST),
        REFUSED("POST / HTTP/1.1\r\n" H "Content-Length: 3\r\nContent-Length: 4\r\n\r\n", ERR_BAD_REQUEST),
        REFUSED("POST / HTTP/1.1\r\n" H "Content-Length: 3, 3\r\n\r\n", ERR_BAD_REQUEST),
        REFUSED("POST / HTTP/1.1\r\n" H "Content-Length: +3\r\n\r\n", ERR_BAD_REQUEST),
        REFUSED("POST / HTTP/1.1\r\n" H "Content-Length: -3\r\n\r\n", ERR_BAD_REQUEST),
        REFUSED("POST / HTTP/1.1\r\n" H "Content-Length: 0x3\r\n\r\n", ERR_BAD_REQUEST),
        REFUSED("POST / HTTP/1.1\r\n" H "Content-Length: 3 3\r\n\r\n", ERR_BAD_REQUEST),
        REFUSED("POST / HTTP/1.1\r\n" H "Content-Length: 3.0\r\n\r\n", ERR_BAD_REQUEST),
        REFUSED("POST / HTTP/1.1\r\n" H "Content-Length:\r\n\r\n", ERR_BAD_REQUEST),
        REFUSED("POST / HTTP/1.1\r\n" H "Content-Length: \xd9\xa3\r\n\r\n", ERR_BAD_REQUEST), /* an Arabic three */
        REFUSED("POST / HTTP/1.1\r\n" H "Content-Length: 1001\r\n\r\n", ERR_TOO_LARGE),
        REFUSED("POST / HTTP/1.1\r\n" H "Content-Length: 18446744073709551615\r\n\r\n", ERR_TOO_LARGE),
        REFUSED("POST / HTTP/1.1\r\n" H "Content-Length: 18446744073709551619\r\n\r\n", ERR_TOO_LARGE), /* 3 mod 2^64 */
        REFUSED("POST / HTTP/1.1\r\n" H "Content-Length: 99999999999999999999999999999\r\n\r\n", ERR_TOO_LARGE),
        REFUSED("GET / HTTP/1.1\r\n" H "Content-Length: 1001\r\n\r\n", ERR_TOO_LARGE),
        /* Without a length the body is empty, and what follows is the next request (RFC 9112 §6.3). */
        TAKEN("POST / HTTP/1.1\r\n" H "\r\n", "POST / Host=h\n"),
        TAKEN("PUT / HTTP/1.1\r\n" H "\r\n", "PUT / Host=h\n"),
        TAKEN("POST / HTTP/1.0\r\n\r\n", "POST / close\n"),
        TAKEN("POST /a HTTP/1.1\r\n" H "\r\nGET /b HTTP/1.1\r\n" H "\r\n", "POST /a Host=h\nGET /b Host=h\n"),
        SCRIPT("POST / HTTP/1.1\r\n" H "\r\n{\"k\":\"a\"}", "POST / Host=h\n", ERR_BAD_REQUEST),
    };
    RUN(scripts);
}

#define CHUNKED "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"
#define CHUNKED_AS "POST / Host=h Transfer-Encoding=chunked"

static void test_chunked(void **state)
{
    (void)state;
    static const struct script scripts[] = {
        TAKEN(CHUNKED "0\r\n\r\n", CHUNKED_AS "\n"),
        TAKEN(CHUNKED "3\r\nabc\r\n0\r\n\r\n", CHUNKED_AS " body=abc\n"),
        TAKEN(CHUNKED "1\r\na\r\n2\r\nbc\r\n00\r\n\r\n", CHUNKED_AS " body=abc\n"),
        TAKEN(CHUNKED "00000000000000A\r\n0123456789\r\n0\r\n\r\n", CHUNKED_AS " body=0123456789\n"),
        TAKEN(CHUNKED "c\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n0\r\n\r\n", CHUNKED_AS " body=\r\n0\r\n\r\n\r\n0\r\n\n"),
        TAKEN(CHUNKED "1;a=b;c=\"d e\";f\r\nx\r\n0;last\r\n\r\n", CHUNKED_AS " body=x\n"),
        TAKEN(CHUNKED "1\r\nx\r\n0\r\nTrailer: a\r\nContent-Length: 5\r\n\r\n", CHUNKED_AS " body=x\n"),
        TAKEN("POST / HTTP/1.1\r\n" H "transfer-encoding:\tChunkeD \r\n\r\n1\r\nx\r\n0\r\n\r\n",
              "POST / Host=h transfer-encoding=ChunkeD body=x\n"),
        TAKEN("GET / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
              "GET / Host=h Transfer-Encoding=chunked body=x\n"),
        TAKEN(CHUNKED "1\r\nx\r\n0\r\n\r\nGET /b HTTP/1.1\r\n" H "\r\n", CHUNKED_AS " body=x\nGET /b Host=h\n"),
        TAKEN(CHUNKED "5\r\nabc", ""),
        TAKEN(CHUNKED "1\r\nx\r\n0\r\n", ""),
        REFUSED(CHUNKED "\r\n", ERR_BAD_REQUEST),
        REFUSED(CHUNKED "g\r\n", ERR_BAD_REQUEST),
        REFUSED(CHUNKED "0x1\r\nx\r\n", ERR_BAD_REQUEST),
        REFUSED(CHUNKED "-1\r\n", ERR_BAD_REQUEST),
        REFUSED(CHUNKED "+1\r\nx\r\n", ERR_BAD_REQUEST),
        REFUSED(CHUNKED " 1\r\nx\r\n", ERR_BAD_REQUEST),
        REFUSED(CHUNKED "1 \r\nx\r\n", ERR_BAD_REQUEST),
        REFUSED(CHUNKED "1\nx\r\n", ERR_BAD_REQUEST),
        REFUSED(CHUNKED "1\r\nxy\r\n", ERR_BAD_REQUEST),
        REFUSED(CHUNKED "1\r\nx\n", ERR_BAD_REQUEST),
        REFUSED(CHUNKED "1\r\nx\rx", ERR_BAD_REQUEST),
        REFUSED(CHUNKED "2\r\nx\r\n0\r\n\r\n", ERR_BAD_REQUEST),
        REFUSED(CHUNKED "1;a\0\r\nx\r\n", ERR_BAD_REQUEST),
        REFUSED(CHUNKED "1;a\rb\r\nx\r\n", ERR_BAD_REQUEST),
        REFUSED(CHUNKED "1,a\r\nx\r\n", ERR_BAD_REQUEST),
        REFUSED(CHUNKED "00000000000000001\r\nx\r\n", ERR_BAD_REQUEST), /* 17 digits */
        REFUSED(CHUNKED "10000000000000001\r\nx\r\n", ERR_BAD_REQUEST), /* 1 mod 2^64 */
        REFUSED(CHUNKED "ffffffffffffffff\r\nx\r\n", ERR_TOO_LARGE),
        REFUSED(CHUNKED "3e9\r\n", ERR_TOO_LARGE), /* 1001 */
        REFUSED(CHUNKED "1\r\nx\r\n3e8\r\n", ERR_TOO_LARGE),
        REFUSED(CHUNKED "0\r\nbad trailer\r\n", ERR_BAD_REQUEST),
        REFUSED(CHUNKED "0\r\n folded: x\r\n", ERR_BAD_REQUEST),
        REFUSED(CHUNKED "0\r\na: \x01\r\n", ERR_BAD_REQUEST),
        REFUSED(CHUNKED "0\r\n\n", ERR_BAD_REQUEST),
    };
    RUN(scripts);
}

/* What could make two readers of the same bytes see different requests. */
static void test_smuggling(void **state)
{
    (void)state;
    static const struct script scripts[] = {
        REFUSED("POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                ERR_BAD_REQUEST),
        REFUSED("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
                ERR_BAD_REQUEST),
        REFUSED("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
                ERR_BAD_REQUEST),
        REFUSED("POST / HTTP/1.1\r\n" H "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n",
                ERR_BAD_REQUEST),
        REFUSED("POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n", ERR_UNSUPPORTED),
        REFUSED("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked, identity\r\n\r\n", ERR_UNSUPPORTED),
        REFUSED("POST / HTTP/1.1\r\n" H "Transfer-Encoding: identity\r\n\r\n", ERR_UNSUPPORTED),
        REFUSED("POST / HTTP/1.1\r\n" H "Transfer-Encoding: xchunked\r\n\r\n", ERR_UNSUPPORTED),
        REFUSED("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked;q=1\r\n\r\n", ERR_UNSUPPORTED),
        REFUSED("POST / HTTP/1.1\r\n" H "Transfer-Encoding:\r\n\r\n", ERR_UNSUPPORTED),
        REFUSED("POST / HTTP/1.1\r\n" H "Transfer-Encoding: \x0b"
                "chunked\r\n\r\n",
                ERR_BAD_REQUEST),
        REFUSED("POST / HTTP/1.1\r\n" H "Transfer-Encoding : chunked\r\n\r\n", ERR_BAD_REQUEST),
        REFUSED("POST / HTTP/1.1\r\n" H "Transfer-Encoding\r\n: chunked\r\n\r\n", ERR_BAD_REQUEST),
        REFUSED("POST / HTTP/1.1\r\n" H "X: y\rTransfer-Encoding: chunked\r\n\r\n", ERR_BAD_REQUEST),
        REFUSED("POST / HTTP/1.1\r\n" H "X: y\nContent-Length: 5\r\n\r\n", ERR_BAD_REQUEST),
        REFUSED("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ERR_BAD_REQUEST),
        REFUSED("POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nContent-Length : 6\r\n\r\n", ERR_BAD_REQUEST),
        REFUSED("POST / HTTP/1.1\r\n" H "Content-Length: 5\r\n Content-Length: 6\r\n\r\n", ERR_BAD_REQUEST),
        /* A name that only looks like it is another header, and here the body is empty. */
        TAKEN("POST / HTTP/1.1\r\n" H "Content_Length: 5\r\n\r\n", "POST / Host=h Content_Length=5\n"),
        /* A GET's body is its body, and not the next request. */
        TAKEN("GET / HTTP/1.1\r\n" H "Content-Length: 37\r\n\r\nGET /admin HTTP/1.1\r\nHost: internal\r\n",
              "GET / Host=h Content-Length=37 body=GET /admin HTTP/1.1\r\nHost: internal\r\n\n"),
    };
    RUN(scripts);
}

static void test_pipelined(void **state)
{
    (void)state;
    static const struct script scripts[] = {
        TAKEN("GET /1 HTTP/1.1\r\n" H "\r\nPOST /2 HTTP/1.1\r\n" H "Content-Length: 2\r\n\r\nab" CHUNKED
              "1\r\nx\r\n0\r\nT: t\r\n\r\nDELETE /4 HTTP/1.1\r\n" H "\r\n\r\nGET /5 HTTP/1.1\r\n" H "\r\n",
              "GET /1 Host=h\nPOST /2 Host=h Content-Length=2 body=ab\n" CHUNKED_AS
              " body=x\nDELETE /4 Host=h\nGET /5 Host=h\n"),
        SCRIPT("GET /1 HTTP/1.1\r\n" H "\r\nbad\r\nGET /3 HTTP/1.1\r\n" H "\r\n", "GET /1 Host=h\n", ERR_BAD_REQUEST),
    };
    RUN(scripts);
}

/* ---- limits ---- */

static struct buffer request_of(size_t header_bytes)
{
    struct buffer out = {0};
    buffer_append_string(&out, "GET / HTTP/1.1\r\n");
    size_t line_bytes = out.size;
    buffer_append_string(&out, H "X: ");
    while (out.size - line_bytes < header_bytes - 4) buffer_append_byte(&out, 'x');
    buffer_append_string(&out, "\r\n\r\n");
    return out;
}

static void assert_ends(struct bytes input, size_t request_count, enum error expected)
{
    struct random random;
    random_seed(&random, 5);
    for (int way = 0; way < 3; way++) {
        struct buffer out = {0};
        enum error error = feed_in_pieces(input,
                                          way == 0   ? input.size
                                          : way == 1 ? 1
                                                     : 700,
                                          way == 2 ? &random : NULL, &out);
        size_t count = 0;
        for (size_t i = 0; i < out.size; i++) count += out.data[i] == '\n';
        assert_int_equal(error, expected);
        assert_int_equal(count, request_count);
        buffer_free(&out);
    }
}

static void test_header_bytes_limit(void **state)
{
    (void)state;
    struct buffer exact = request_of(HTTP1_HEADERS_BYTES_MAX);
    assert_ends(buffer_bytes(&exact), 1, ERR_NOT_READY);
    struct buffer above = request_of(HTTP1_HEADERS_BYTES_MAX + 1);
    assert_ends(buffer_bytes(&above), 0, ERR_HEADERS_TOO_LARGE);
    buffer_free(&above);
    /* The limit is each request's own. */
    struct buffer twice = {0};
    buffer_append(&twice, exact.data, exact.size);
    buffer_append(&twice, exact.data, exact.size);
    assert_ends(buffer_bytes(&twice), 2, ERR_NOT_READY);
    buffer_free(&twice);
    buffer_free(&exact);

    /* A line without an end is refused when it is too long, not kept. */
    struct buffer endless = {0};
    while (endless.size <= HTTP1_REQUEST_LINE_BYTES_MAX) buffer_append_byte(&endless, 'A');
    assert_ends(bytes_of(endless.data, HTTP1_REQUEST_LINE_BYTES_MAX), 0, ERR_NOT_READY);
    assert_ends(buffer_bytes(&endless), 0, ERR_URI_TOO_LONG);
    buffer_free(&endless);
}

/* The largest key, each byte percent-encoded, must be reachable; and the headers keep their own limit beside it. */
static void test_request_line_limit(void **state)
{
    (void)state;
    for (size_t extra = 0; extra <= 1; extra++) {
        struct buffer out = {0};
        buffer_append_string(&out, "GET /");
        while (out.size < HTTP1_REQUEST_LINE_BYTES_MAX - 11 + extra) buffer_append_byte(&out, 'k');
        buffer_append_string(&out, " HTTP/1.1\r\n" H "X: ");
        for (size_t i = 0; i < HTTP1_HEADERS_BYTES_MAX / 2; i++) buffer_append_byte(&out, 'x');
        buffer_append_string(&out, "\r\n\r\n");
        assert_ends(buffer_bytes(&out), 1 - extra, extra == 0 ? ERR_NOT_READY : ERR_URI_TOO_LONG);
        buffer_free(&out);
    }
}

static void test_header_count_limit(void **state)
{
    (void)state;
    for (unsigned extra = 0; extra <= 1; extra++) {
        struct buffer out = {0};
        buffer_append_string(&out, "GET / HTTP/1.1\r\n" H);
        for (unsigned i = 1; i < HTTP1_HEADER_COUNT_MAX + extra; i++) buffer_append_format(&out, "h%u: %u\r\n", i, i);
        buffer_append_string(&out, "\r\n");
        assert_ends(buffer_bytes(&out), 1 - extra, extra == 0 ? ERR_NOT_READY : ERR_HEADERS_TOO_LARGE);
        buffer_free(&out);
    }
}

static void test_trailers_and_extensions_limit(void **state)
{
    (void)state;
    struct buffer out = {0};
    buffer_append_string(&out, CHUNKED "0\r\n");
    while (out.size < HTTP1_HEADERS_BYTES_MAX)
        buffer_append_string(&out, "Trailer: 0123456789012345678901234567890123456789\r\n");
    buffer_append_string(&out, "\r\n");
    assert_ends(buffer_bytes(&out), 0, ERR_HEADERS_TOO_LARGE);

    buffer_clear(&out);
    buffer_append_string(&out, CHUNKED);
    for (int i = 0; i < 400; i++)
        buffer_append_string(&out, "1;name=0123456789012345678901234567890123456789\r\nx\r\n");
    buffer_append_string(&out, "0\r\n\r\n");
    assert_ends(buffer_bytes(&out), 0, ERR_HEADERS_TOO_LARGE);

    buffer_clear(&out);
    buffer_append_string(&out, CHUNKED "1;");
    for (int i = 0; i < 600; i++) buffer_append_byte(&out, 'x');
    assert_ends(buffer_bytes(&out), 0, ERR_HEADERS_TOO_LARGE);

    /* Many small chunks without extensions are merely foolish. */
    buffer_clear(&out);
    buffer_append_string(&out, CHUNKED);
    for (int i = 0; i < BODY_MAX; i++) buffer_append_string(&out, "1\r\nx\r\n");
    buffer_append_string(&out, "0\r\n\r\n");
    assert_ends(buffer_bytes(&out), 1, ERR_NOT_READY);
    buffer_free(&out);
}

static void test_body_limit(void **state)
{
    (void)state;
    struct buffer out = {0};
    buffer_append_format(&out, "POST / HTTP/1.1\r\n" H "Content-Length: %d\r\n\r\n", BODY_MAX);
    for (int i = 0; i < BODY_MAX; i++) buffer_append_byte(&out, 'x');
    assert_ends(buffer_bytes(&out), 1, ERR_NOT_READY);
    buffer_free(&out);
}

/* ---- memory ---- */

#define LARGE_BODY_MAX (2u << 20)

static void feed_text(struct http1_parser *parser, const char *text)
{
    http1_parser_feed(parser, bytes_of_string(text));
}

static void test_memory_grows_with_what_comes(void **state)
{
    (void)state;
    struct http1_parser *parser = http1_parser_new(LARGE_BODY_MAX);
    struct http1_request request;
    feed_text(parser, "POST / HTTP/1.1\r\n" H "Content-Length: 2097152\r\n\r\n");
    assert_int_equal(http1_parser_next(parser, &request), ERR_NOT_READY);
    assert_true(http1_parser_memory_bytes(parser) < 2048);

    static uint8_t block[HTTP1_FEED_BYTES_MAX];
    memset(block, 'x', sizeof block);
    size_t fed = 0;
    while (fed < LARGE_BODY_MAX) {
        http1_parser_feed(parser, bytes_of(block, sizeof block));
        fed += sizeof block;
        enum error error = http1_parser_next(parser, &request);
        assert_int_equal(error, fed < LARGE_BODY_MAX ? ERR_NOT_READY : ERR_OK);
        size_t memory = http1_parser_memory_bytes(parser);
        assert_true(memory < 2 * fed + 4096);
        assert_true(memory < LARGE_BODY_MAX + 4096); /* never more than the request needs */
        assert_false(http1_parser_full(parser));
    }
    assert_int_equal(request.body.size, LARGE_BODY_MAX);
    assert_int_equal(request.body.data[LARGE_BODY_MAX - 1], 'x');
    /* And goes back when the request is done. */
    assert_int_equal(http1_parser_next(parser, &request), ERR_NOT_READY);
    assert_true(http1_parser_memory_bytes(parser) < 2048);
    http1_parser_free(parser);
}

/* The bytes around the chunks aren't kept: six for each byte of this body. */
static void test_memory_of_small_chunks(void **state)
{
    (void)state;
    struct http1_parser *parser = http1_parser_new(LARGE_BODY_MAX);
    struct http1_request request;
    feed_text(parser, CHUNKED);
    size_t body = 0;
    for (int round = 0; round < 200; round++) {
        struct buffer block = {0};
        for (int i = 0; i < 1000; i++, body++) buffer_append_string(&block, "1\r\nx\r\n");
        size_t cut = (size_t)round % 6; /* pieces end anywhere in a chunk */
        http1_parser_feed(parser, bytes_of(block.data, block.size - cut));
        assert_int_equal(http1_parser_next(parser, &request), ERR_NOT_READY);
        http1_parser_feed(parser, bytes_of(block.data + block.size - cut, cut));
        buffer_free(&block);
        assert_int_equal(http1_parser_next(parser, &request), ERR_NOT_READY);
        assert_true(http1_parser_memory_bytes(parser) < 2 * body + 16384);
    }
    feed_text(parser, "0\r\n\r\n");
    assert_int_equal(http1_parser_next(parser, &request), ERR_OK);
    assert_int_equal(request.body.size, body);
    http1_parser_free(parser);
}

static void test_same_memory_for_every_request(void **state)
{
    (void)state;
    struct http1_parser *parser = http1_parser_new(BODY_MAX);
    struct http1_request request;
    size_t first = 0;
    for (int i = 0; i < 1000; i++) {
        feed_text(parser, "GET /v1/data/0123456789abcdef HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n");
        assert_int_equal(http1_parser_next(parser, &request), ERR_OK);
        assert_int_equal(http1_parser_next(parser, &request), ERR_NOT_READY);
        if (i == 0) first = http1_parser_memory_bytes(parser);
        assert_int_equal(http1_parser_memory_bytes(parser), first);
    }
    assert_true(first < 2048);
    http1_parser_free(parser);
}

/* ---- the life of a connection ---- */

static void test_views_live_while_feeding(void **state)
{
    (void)state;
    struct http1_parser *parser = http1_parser_new(BODY_MAX);
    struct http1_request request;
    feed_text(parser, "POST /first?q HTTP/1.1\r\n" H "A: b\r\nContent-Length: 3\r\n\r\nabcGET /sec");
    assert_int_equal(http1_parser_next(parser, &request), ERR_OK);
    struct buffer before = {0}, after = {0}, later = {0};
    describe(&request, &before);
    feed_text(parser, "ond HTTP/1.1\r\n" H "\r\n");
    for (int i = 0; i < 500; i++) {
        assert_int_equal(http1_parser_full(parser), false);
        feed_text(parser, "GET /x HTTP/1.1\r\n" H "\r\n");
    }
    describe(&request, &after);
    assert_true(bytes_equal(buffer_bytes(&before), buffer_bytes(&after)));
    assert_string_equal((buffer_append_byte(&after, 0), (const char *)after.data),
                        "POST /first query=q Host=h A=b Content-Length=3 body=abc\n");
    assert_int_equal(http1_parser_next(parser, &request), ERR_OK);
    describe(&request, &later);
    assert_true(bytes_equal(buffer_bytes(&later), bytes_of_string("GET /second Host=h\n")));
    for (int i = 0; i < 500; i++) assert_int_equal(http1_parser_next(parser, &request), ERR_OK);
    assert_int_equal(http1_parser_next(parser, &request), ERR_NOT_READY);
    assert_true(http1_parser_idle(parser));
    buffer_free(&before);
    buffer_free(&after);
    buffer_free(&later);
    http1_parser_free(parser);
}

static void test_full(void **state)
{
    (void)state;
    struct http1_parser *parser = http1_parser_new(LARGE_BODY_MAX);
    struct http1_request request;
    static uint8_t block[HTTP1_FEED_BYTES_MAX];
    memset(block, 'x', sizeof block);
    feed_text(parser, "GET / HTTP/1.1\r\n" H "\r\n");
    assert_false(http1_parser_full(parser));
    assert_int_equal(http1_parser_next(parser, &request), ERR_OK);
    feed_text(parser, "POST / HTTP/1.1\r\n" H "Content-Length: 200000\r\n\r\n");
    assert_false(http1_parser_full(parser));
    http1_parser_feed(parser, bytes_of(block, sizeof block));
    assert_true(http1_parser_full(parser));
    assert_true(http1_parser_memory_bytes(parser) < 2 * (HTTP1_HEADERS_BYTES_MAX + HTTP1_FEED_BYTES_MAX));
    /* Taking the next one makes room: it is still coming in, and reading must go on. */
    assert_int_equal(http1_parser_next(parser, &request), ERR_NOT_READY);
    assert_false(http1_parser_full(parser));
    size_t fed = sizeof block;
    while (fed < 200000) {
        size_t size = 200000 - fed < sizeof block ? 200000 - fed : sizeof block;
        http1_parser_feed(parser, bytes_of(block, size));
        fed += size;
        assert_false(http1_parser_full(parser));
    }
    assert_int_equal(http1_parser_next(parser, &request), ERR_OK);
    assert_int_equal(request.body.size, 200000);
    http1_parser_free(parser);
}

static void test_idle(void **state)
{
    (void)state;
    struct http1_parser *parser = http1_parser_new(BODY_MAX);
    struct http1_request request;
    assert_true(http1_parser_idle(parser));
    feed_text(parser, "G");
    assert_int_equal(http1_parser_next(parser, &request), ERR_NOT_READY);
    assert_false(http1_parser_idle(parser));
    feed_text(parser, "ET / HTTP/1.1\r\n");
    assert_int_equal(http1_parser_next(parser, &request), ERR_NOT_READY);
    assert_false(http1_parser_idle(parser));
    feed_text(parser, H "\r\n");
    assert_int_equal(http1_parser_next(parser, &request), ERR_OK);
    assert_true(http1_parser_idle(parser)); /* one is being answered, and no byte of another is there */
    feed_text(parser, "\r");
    assert_false(http1_parser_idle(parser));
    assert_int_equal(http1_parser_next(parser, &request), ERR_NOT_READY);
    assert_false(http1_parser_idle(parser));
    feed_text(parser, "\n");
    assert_int_equal(http1_parser_next(parser, &request), ERR_NOT_READY);
    assert_true(http1_parser_idle(parser)); /* the stray empty line is nothing */
    http1_parser_free(parser);
}

static void test_errors_stay(void **state)
{
    (void)state;
    struct http1_parser *parser = http1_parser_new(BODY_MAX);
    struct http1_request request;
    feed_text(parser, "bad\r\n");
    assert_int_equal(http1_parser_next(parser, &request), ERR_BAD_REQUEST);
    feed_text(parser, "GET / HTTP/1.1\r\n" H "\r\n");
    assert_int_equal(http1_parser_next(parser, &request), ERR_BAD_REQUEST);
    assert_false(http1_parser_full(parser));
    assert_false(http1_parser_wants_continue(parser));
    http1_parser_free(parser);
}

static void test_expect_continue(void **state)
{
    (void)state;
    struct http1_parser *parser = http1_parser_new(BODY_MAX);
    struct http1_request request;
    for (int round = 0; round < 2; round++) {
        feed_text(parser, "POST / HTTP/1.1\r\n" H "Content-Length: 3\r\nExpect: 100-Continue\r\n");
        assert_int_equal(http1_parser_next(parser, &request), ERR_NOT_READY);
        assert_false(http1_parser_wants_continue(parser)); /* the headers aren't complete */
        feed_text(parser, "\r\n");
        assert_int_equal(http1_parser_next(parser, &request), ERR_NOT_READY);
        assert_true(http1_parser_wants_continue(parser));
        assert_false(http1_parser_wants_continue(parser)); /* once */
        feed_text(parser, "abc");
        assert_int_equal(http1_parser_next(parser, &request), ERR_OK);
        assert_false(http1_parser_wants_continue(parser));
        assert_int_equal(http1_parser_next(parser, &request), ERR_NOT_READY);
    }
    /* Who sends the body anyway needn't be told. */
    feed_text(parser, "POST / HTTP/1.1\r\n" H "Content-Length: 3\r\nExpect: 100-continue\r\n\r\na");
    assert_int_equal(http1_parser_next(parser, &request), ERR_NOT_READY);
    assert_false(http1_parser_wants_continue(parser));
    feed_text(parser, "bc");
    assert_int_equal(http1_parser_next(parser, &request), ERR_OK);
    assert_int_equal(http1_parser_next(parser, &request), ERR_NOT_READY);
    /* Chunked. */
    feed_text(parser, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n");
    assert_int_equal(http1_parser_next(parser, &request), ERR_NOT_READY);
    assert_true(http1_parser_wants_continue(parser));
    feed_text(parser, "0\r\n\r\n");
    assert_int_equal(http1_parser_next(parser, &request), ERR_OK);
    http1_parser_free(parser);

    /* HTTP/1.0 doesn't know it; and a body that is too large is refused instead. */
    parser = http1_parser_new(BODY_MAX);
    feed_text(parser, "POST / HTTP/1.0\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    assert_int_equal(http1_parser_next(parser, &request), ERR_NOT_READY);
    assert_false(http1_parser_wants_continue(parser));
    http1_parser_free(parser);
    parser = http1_parser_new(BODY_MAX);
    feed_text(parser, "POST / HTTP/1.1\r\n" H "Content-Length: 1001\r\nExpect: 100-continue\r\n\r\n");
    assert_int_equal(http1_parser_next(parser, &request), ERR_TOO_LARGE);
    assert_false(http1_parser_wants_continue(parser));
    http1_parser_free(parser);
}

static void test_free_at_any_time(void **state)
{
    (void)state;
    static const char stream[] = "GET /a HTTP/1.1\r\n" H "\r\n" CHUNKED "3\r\nabc\r\n0\r\n\r\nPOST / HTTP/1.1\r\n";
    for (size_t size = 0; size < sizeof stream; size++) {
        struct http1_parser *parser = http1_parser_new(BODY_MAX);
        http1_parser_feed(parser, bytes_of(stream, size));
        struct http1_request request;
        (void)http1_parser_next(parser, &request);
        http1_parser_free(parser);
    }
    http1_parser_free(NULL);
}

/* Requests made at random, damaged at random: pieces never change the outcome. */
static void test_random_streams(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 6);
    size_t refused = 0, taken = 0;
    for (int round = 0; round < 3000; round++) {
        struct buffer stream = {0};
        for (uint64_t count = 1 + random_below(&random, 3); count > 0; count--) {
            switch (random_below(&random, 3)) {
            case 0:
                buffer_append_format(&stream, "GET /%d?x HTTP/1.1\r\n" H "\r\n", round);
                break;
            case 1: {
                uint64_t size = random_below(&random, 40);
                buffer_append_format(&stream, "POST /%d HTTP/1.1\r\n" H "Content-Length: %d\r\n\r\n", round, (int)size);
                for (uint64_t i = 0; i < size; i++) buffer_append_byte(&stream, (uint8_t)random_u64(&random));
                break;
            }
            default:
                buffer_append_string(&stream, CHUNKED);
                for (uint64_t chunks = random_below(&random, 4); chunks > 0; chunks--) {
                    uint64_t size = 1 + random_below(&random, 20);
                    buffer_append_format(&stream, "%x\r\n", (unsigned)size);
                    for (uint64_t i = 0; i < size; i++) buffer_append_byte(&stream, (uint8_t)random_u64(&random));
                    buffer_append_string(&stream, "\r\n");
                }
                buffer_append_string(&stream, "0\r\n\r\n");
                break;
            }
        }
        if (random_chance(&random, 500)) {
            static const uint8_t bytes[] = {0, '\r', '\n', ' ', ':', '0', '9', 'f', 0xff};
            stream.data[random_below(&random, stream.size)] = bytes[random_below(&random, sizeof bytes)];
        }
        struct buffer whole = {0};
        enum error expected = feed_in_pieces(buffer_bytes(&stream), stream.size, NULL, &whole);
        for (int way = 0; way < 3; way++) {
            struct buffer pieces = {0};
            enum error error =
                feed_in_pieces(buffer_bytes(&stream), way == 0 ? 1 : 30, way == 0 ? NULL : &random, &pieces);
            assert_int_equal(error, expected);
            assert_true(bytes_equal(buffer_bytes(&whole), buffer_bytes(&pieces)));
            buffer_free(&pieces);
        }
        refused += expected != ERR_NOT_READY;
        taken += whole.size > 0;
        buffer_free(&whole);
        buffer_free(&stream);
    }
    assert_in_range(refused, 300, 1500);
    assert_in_range(taken, 1500, 3000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request_lines),
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_content_length),
        cmocka_unit_test(test_chunked),
        cmocka_unit_test(test_smuggling),
        cmocka_unit_test(test_pipelined),
        cmocka_unit_test(test_header_bytes_limit),
        cmocka_unit_test(test_request_line_limit),
        cmocka_unit_test(test_header_count_limit),
        cmocka_unit_test(test_trailers_and_extensions_limit),
        cmocka_unit_test(test_body_limit),
        cmocka_unit_test(test_memory_grows_with_what_comes),
        cmocka_unit_test(test_memory_of_small_chunks),
        cmocka_unit_test(test_same_memory_for_every_request),
        cmocka_unit_test(test_views_live_while_feeding),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_idle),
        cmocka_unit_test(test_errors_stay),
        cmocka_unit_test(test_expect_continue),
        cmocka_unit_test(test_free_at_any_time),
        cmocka_unit_test(test_random_streams),
    };
    return cmocka_run_group_tests_name("http1_parser", tests, NULL, NULL);
}
