#include "wire/http1.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/random.h"

static void assert_decodes(const char *encoded, const char *expected, size_t size)
{
    struct buffer out = {0};
    buffer_append_byte(&out, '>'); /* it appends */
    assert_true(http1_percent_decode(bytes_of_string(encoded), &out));
    assert_int_equal(out.size, size + 1);
    if (size > 0) assert_memory_equal(out.data + 1, expected, size);
    buffer_free(&out);
}

static void test_percent_decode(void **state)
{
    (void)state;
    assert_decodes("", "", 0);
    assert_decodes("abc", "abc", 3);
    assert_decodes("a+b", "a+b", 3);
    assert_decodes("a/b%2Fc%2fd", "a/b/c/d", 7);
    assert_decodes("%00%ff%FF%7e", "\0\xff\xff~", 4);
    assert_decodes("%25", "%", 1);
    assert_decodes("%2541", "%41", 3); /* decoded once, not again */
    assert_decodes("\xc3\xa4", "\xc3\xa4", 2);
    static const char *const bad[] = {"%",    "%4",  "a%",  "a%4", "%zz",  "%4z",      "%z4",
                                      "%%41", "%-1", "% 1", "%+1", "ab%2", "%\xc3\xa4"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct buffer out = {0};
        if (http1_percent_decode(bytes_of_string(bad[i]), &out)) fail_msg("%s was taken", bad[i]);
        buffer_free(&out);
    }
}

static void test_percent_every_byte(void **state)
{
    (void)state;
    for (unsigned byte = 0; byte < 256; byte++) {
        struct buffer text = {0};
        buffer_append_format(&text, "x%%%02x%%%02X", byte, byte);
        struct buffer out = {0};
        assert_true(http1_percent_decode(buffer_bytes(&text), &out));
        assert_int_equal(out.size, 3);
        assert_int_equal(out.data[1], byte);
        assert_int_equal(out.data[2], byte);
        buffer_free(&text);
        buffer_free(&out);
    }
}

static void assert_parameter(const char *query, const char *name, const char *expected)
{
    struct bytes value = http1_query_parameter(bytes_of_string(query), name);
    if (expected == NULL) {
        assert_null(value.data);
    } else {
        assert_non_null(value.data);
        assert_true(bytes_equal(value, bytes_of_string(expected)));
    }
}

static void test_query_parameter(void **state)
{
    (void)state;
    assert_parameter("", "a", NULL);
    assert_parameter("a", "a", "");
    assert_parameter("a=", "a", "");
    assert_parameter("a=1", "a", "1");
    assert_parameter("a=1&b=2", "b", "2");
    assert_parameter("a=1&a=2", "a", "1");
    assert_parameter("&&a=1&", "a", "1");
    assert_parameter("ab=1", "a", NULL);
    assert_parameter("ab=1&a=2", "a", "2");
    assert_parameter("b=a=1", "a", NULL);
    assert_parameter("a=b=c", "a", "b=c");
    assert_parameter("a=%20+x", "a", "%20+x");
    assert_parameter("A=1", "a", NULL);
    assert_parameter("verbose&exclude=x", "verbose", "");
    assert_null(http1_query_parameter(bytes_of(NULL, 0), "a").data);
}

static void test_request_header(void **state)
{
    (void)state;
    struct http1_parser *parser = http1_parser_new(0);
    http1_parser_feed(parser, bytes_of_string("GET / HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nx-a: 2\r\nX-E:\r\n\r\n"));
    struct http1_request request;
    assert_int_equal(http1_parser_next(parser, &request), ERR_OK);
    assert_true(bytes_equal(http1_request_header(&request, "host"), bytes_of_string("h")));
    assert_true(bytes_equal(http1_request_header(&request, "x-a"), bytes_of_string("1")));
    assert_non_null(http1_request_header(&request, "x-e").data);
    assert_int_equal(http1_request_header(&request, "x-e").size, 0);
    assert_null(http1_request_header(&request, "x").data);
    assert_null(http1_request_header(&request, "x-ab").data);
    http1_parser_free(parser);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_percent_decode),
        cmocka_unit_test(test_percent_every_byte),
        cmocka_unit_test(test_query_parameter),
        cmocka_unit_test(test_request_header),
    };
    return cmocka_run_group_tests_name("http1_uri", tests, NULL, NULL);
}
