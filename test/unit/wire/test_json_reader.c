#include "wire/json_reader.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"

/* The tokens of a text in short, such as `{ "a": [ 1 ] } .`; and of a bad one how it ends. */
static void trace(struct bytes text, struct buffer *out)
{
    struct json_reader reader;
    json_reader_init(&reader, text);
    enum json_token token;
    do {
        struct bytes content;
        token = json_reader_next(&reader, &content);
        if (out->size > 0) buffer_append_byte(out, ' ');
        switch (token) {
        case JSON_TOKEN_BAD:
            json_reader_say(&reader, reader.problem, out);
            break;
        case JSON_TOKEN_END:
            buffer_append_byte(out, '.');
            break;
        case JSON_TOKEN_NAME:
            buffer_append_format(out, "%.*s:", (int)content.size, (const char *)content.data);
            break;
        case JSON_TOKEN_STRING:
            buffer_append_format(out, "'%.*s'", (int)content.size, (const char *)content.data);
            break;
        case JSON_TOKEN_NUMBER:
            buffer_append_format(out, "%.*s", (int)content.size, (const char *)content.data);
            break;
        default:
            buffer_append_string(
                out, (const char *[]){"?", "?", "{", "}", "[", "]", "?", "?", "?", "true", "false", "null"}[token]);
        }
    } while (token != JSON_TOKEN_BAD && token != JSON_TOKEN_END);
    struct bytes content;
    assert_int_equal(json_reader_next(&reader, &content), token);
    json_reader_free(&reader);
}

static void assert_trace(const char *text, const char *expected)
{
    /* The text's exact size, so that a read past it is seen. */
    size_t size = strlen(text);
    char *copy = mem_alloc(size + 1);
    memcpy(copy + 1, text, size);
    struct buffer out = {0};
    trace(bytes_of(copy + 1, size), &out);
    if (!bytes_equal(buffer_bytes(&out), bytes_of_string(expected))) {
        fail_msg("%s\n  gives %.*s\n  not   %s", text, (int)out.size, (const char *)out.data, expected);
    }
    buffer_free(&out);
    mem_free(copy);
}

static void test_tokens(void **state)
{
    (void)state;
    assert_trace("{}", "{ } .");
    assert_trace(" [ ] ", "[ ] .");
    assert_trace("{\"a\":[1,-2.5e+3,true,false,null,\"x\"],\"b\":{\"c\":{}}}",
                 "{ a: [ 1 -2.5e+3 true false null 'x' ] b: { c: { } } } .");
    assert_trace("\r\n\t{ \"a\" : 0 , \"b\" : [ [ ] , { } ] }", "{ a: 0 b: [ [ ] { } ] } .");
    assert_trace("\"top\"", "'top' .");
    assert_trace("0", "0 .");
    /* What follows the value is somebody else's. */
    assert_trace("{}{", "{ } .");
    assert_trace("1 x", "1 .");
}

static void test_strings(void **state)
{
    (void)state;
    assert_trace("[\"\",\"a\\\"b\\\\c\\/d\",\"\\b\\f\\n\\r\\t\"]", "[ '' 'a\"b\\c/d' '\b\f\n\r\t' ] .");
    assert_trace("[\"\\u0041\\u00e9\\u20ac\\ud83d\\ude00\\uFFFD\"]",
                 "[ 'A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xef\xbf\xbd' ] .");
    assert_trace("{\"\\u006bey\":\"gr\xc3\xbc\xc3\x9f"
                 "e\"}",
                 "{ key: 'gr\xc3\xbc\xc3\x9f"
                 "e' } .");
    assert_trace("[\"a\\nb\",\"plain\",\"\\n\"]", "[ 'a\nb' 'plain' '\n' ] .");
    assert_trace("[\"x", "[ line 1, column 4: a string has no end");
    assert_trace("[\"x\\", "[ line 1, column 5: a string has a malformed escape");
    assert_trace("[\"\\x\"]", "[ line 1, column 5: a string has a malformed escape");
    assert_trace("[\"\\u12\"]", "[ line 1, column 5: a string has a malformed escape");
    assert_trace("[\"\\u12g4\"]", "[ line 1, column 5: a string has a malformed escape");
    assert_trace("[\"\\ud83d\"]", "[ line 1, column 9: a string has a malformed escape");
    assert_trace("[\"\\ud83d\\u0041\"]", "[ line 1, column 9: a string has a malformed escape");
    assert_trace("[\"\\ude00\"]", "[ line 1, column 9: a string has a malformed escape");
    assert_trace("[\"\xff\"]", "[ line 1, column 3: a string is not valid UTF-8");
    assert_trace("[\"\n\"]", "[ line 1, column 3: a string has a control character in it");
}

static void test_malformed(void **state)
{
    (void)state;
    assert_trace("", "line 1, column 1: the JSON ends too early");
    assert_trace("  ", "line 1, column 3: the JSON ends too early");
    assert_trace("{", "{ line 1, column 2: the JSON ends too early");
    assert_trace("[1", "[ 1 line 1, column 3: the JSON ends too early");
    assert_trace("[1,", "[ 1 line 1, column 4: the JSON ends too early");
    assert_trace("[1,]", "[ 1 line 1, column 4: a value is expected");
    assert_trace("[,1]", "[ line 1, column 2: a value is expected");
    assert_trace("[1 2]", "[ 1 line 1, column 4: a comma or the end of the object or array is expected");
    assert_trace("[1}", "[ 1 line 1, column 3: a comma or the end of the object or array is expected");
    assert_trace("[}", "[ line 1, column 2: a value is expected");
    assert_trace("{]", "{ line 1, column 2: a name is expected");
    assert_trace("{1:2}", "{ line 1, column 2: a name is expected");
    assert_trace("{\"a\"}", "{ line 1, column 5: a colon is expected");
    assert_trace("{\"a\":}", "{ a: line 1, column 6: a value is expected");
    assert_trace("{\"a\":1,}", "{ a: 1 line 1, column 8: a name is expected");
    assert_trace("{\n \"\xc3\xa9\": x", "{ \xc3\xa9: line 2, column 7: a value is expected");
    assert_trace("}", "line 1, column 1: a value is expected");
    assert_trace("nul", "line 1, column 1: a value is expected");
    assert_trace("[truex]", "[ true line 1, column 6: a comma or the end of the object or array is expected");
    assert_trace("[01]", "[ line 1, column 2: a value is expected");
    assert_trace("[1.]", "[ line 1, column 2: a value is expected");
    assert_trace("[.5]", "[ line 1, column 2: a value is expected");
    assert_trace("[1e]", "[ line 1, column 2: a value is expected");
    assert_trace("[1e+]", "[ line 1, column 2: a value is expected");
    assert_trace("[-]", "[ line 1, column 2: a value is expected");
    assert_trace("[+1]", "[ line 1, column 2: a value is expected");
}

/* As deep as allowed, with objects and arrays mixed so that each level must remember which it is; and one deeper. */
static void test_depth(void **state)
{
    (void)state;
    for (size_t levels = JSON_READER_DEPTH_MAX; levels <= JSON_READER_DEPTH_MAX + 1; levels++) {
        struct buffer text = {0};
        for (size_t i = 0; i < levels; i++) buffer_append_string(&text, i * 7 % 3 == 0 ? "{\"a\":" : "[");
        buffer_append_string(&text, "1");
        for (size_t i = levels; i-- > 0;) buffer_append_string(&text, i * 7 % 3 == 0 ? "}" : "]");
        struct json_reader reader;
        json_reader_init(&reader, buffer_bytes(&text));
        struct bytes content;
        enum json_token token = json_reader_next(&reader, &content);
        bool good = json_reader_skip(&reader, token);
        assert_true(good == (levels <= JSON_READER_DEPTH_MAX));
        if (good) {
            assert_ptr_equal(reader.at, reader.end);
        } else {
            assert_string_equal(reader.problem, "the JSON nests too deep");
        }
        json_reader_free(&reader);
        buffer_free(&text);
    }
}

static void assert_integer(const char *text, bool good, bool negative, uint64_t magnitude)
{
    bool got_negative;
    uint64_t got;
    if (json_reader_integer(bytes_of_string(text), &got_negative, &got) != good) fail_msg("%s", text);
    if (good && (got_negative != negative || got != magnitude)) fail_msg("%s is not %lu", text, (unsigned long)got);
}

static void test_integers(void **state)
{
    (void)state;
    assert_integer("0", true, false, 0);
    assert_integer("-0", true, false, 0);
    assert_integer("-0.00e5", true, false, 0);
    assert_integer("7", true, false, 7);
    assert_integer("-7", true, true, 7);
    assert_integer("18446744073709551615", true, false, UINT64_MAX);
    assert_integer("18446744073709551616", false, false, 0);
    assert_integer("-9223372036854775808", true, true, (uint64_t)1 << 63);
    assert_integer("9007199254740993", true, false, 9007199254740993);
    assert_integer("1.0", true, false, 1);
    assert_integer("1.5", false, false, 0);
    assert_integer("1.50e1", true, false, 15);
    assert_integer("1.55e1", false, false, 0);
    assert_integer("0.5e1", true, false, 5);
    assert_integer("0.05e2", true, false, 5);
    assert_integer("1e19", true, false, 10000000000000000000u);
    assert_integer("1e20", false, false, 0);
    assert_integer("100e-2", true, false, 1);
    assert_integer("10e-2", false, false, 0);
    assert_integer("120e-1", true, false, 12);
    assert_integer("1e99999999999999999999999", false, false, 0);
    assert_integer("1e-99999999999999999999999", false, false, 0);
    assert_integer("0e99999999999999999999999", true, false, 0);
    assert_integer("", false, false, 0);
    assert_integer(" 1", false, false, 0);
    assert_integer("1 ", false, false, 0);
    assert_integer("01", false, false, 0);
    assert_integer("0x1", false, false, 0);
    assert_integer("1e", false, false, 0);
}

/* Values come out whole, wherever their stream is cut. */
static void test_splitter(void **state)
{
    (void)state;
    static const char stream[] = " {\"a\":\"}\\\"{\"}\n[1,[2],{}] \r\n{}{\"b\":{\"c\":\"\\\\\"}}";
    static const char *const values[] = {"{\"a\":\"}\\\"{\"}", "[1,[2],{}]", "{}", "{\"b\":{\"c\":\"\\\\\"}}"};
    for (size_t step = 1; step < sizeof stream; step++) {
        struct json_splitter splitter = {0};
        size_t begin = 0;
        size_t found = 0;
        for (size_t have = 0; have < sizeof stream - 1;) {
            have = have + step < sizeof stream - 1 ? have + step : sizeof stream - 1;
            struct bytes value;
            while (json_splitter_next(&splitter, bytes_of(stream + begin, have - begin), &value)) {
                assert_in_range(found, 0, 3);
                assert_true(bytes_equal(value, bytes_of_string(values[found])));
                found++;
                begin = (size_t)(value.data + value.size - (const uint8_t *)stream);
            }
        }
        assert_int_equal(found, 4);
        assert_int_equal(begin, sizeof stream - 1);
    }
    /* What can't be a message is handed out, so that it's refused. */
    struct json_splitter splitter = {0};
    struct bytes value;
    assert_true(json_splitter_next(&splitter, bytes_of_string("  x{}"), &value));
    assert_true(bytes_equal(value, bytes_of_string("x{}")));
    assert_false(json_splitter_next(&splitter, bytes_of_string(" \n"), &value));
    assert_false(json_splitter_next(&splitter, bytes_of_string(" \n{"), &value));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tokens), cmocka_unit_test(test_strings),  cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_depth),  cmocka_unit_test(test_integers), cmocka_unit_test(test_splitter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
