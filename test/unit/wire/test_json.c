#include "wire/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/random.h"
#include "wire/utf8.h"

/* ---- writing ---- */

static void assert_written(struct bytes text, const char *expected)
{
    struct buffer out = {0};
    json_write_string(&out, text);
    if (!bytes_equal(buffer_bytes(&out), bytes_of_string(expected))) {
        fail_msg("%.*s is not %s", (int)out.size, (const char *)out.data, expected);
    }
    assert_int_equal(json_string_bytes(text), utf8_valid(text) ? out.size : 0);
    buffer_free(&out);
}

static void test_write_string(void **state)
{
    (void)state;
    assert_written(bytes_of_string(""), "\"\"");
    assert_written(bytes_of_string("a"), "\"a\"");
    assert_written(bytes_of_string("a/b"), "\"a/b\"");
    assert_written(bytes_of_string("say \"hi\" \\ bye"), "\"say \\\"hi\\\" \\\\ bye\"");
    assert_written(bytes_of_string("\b\f\n\r\t"), "\"\\b\\f\\n\\r\\t\"");
    assert_written(bytes_of("\0\x01\x1f\x7f", 4), "\"\\u0000\\u0001\\u001f\x7f\"");
    assert_written(bytes_of_string("gr\xc3\xb6\xc3\x9f"
                                   "e \xf0\x9f\x98\x80"),
                   "\"gr\xc3\xb6\xc3\x9f"
                   "e \xf0\x9f\x98\x80\"");
    assert_written(bytes_of_string("a\xff"
                                   "b"),
                   "\"a\xef\xbf\xbd"
                   "b\"");
    assert_written(bytes_of_string("\xe2\x82"), "\"\xef\xbf\xbd\xef\xbf\xbd\"");
}

/* A byte that needs an escape is found at each place of a word, beside each kind of neighbour. */
static void test_write_every_place(void **state)
{
    (void)state;
    static const uint8_t neighbours[] = {'a', ' ', '!', '#', '[', ']', 0x7f};
    static const uint8_t specials[] = {0, 1, 0x1f, '"', '\\', '\n', 0x80, 0xff};
    for (size_t n = 0; n < sizeof neighbours; n++) {
        for (size_t s = 0; s < sizeof specials; s++) {
            for (size_t size = 1; size <= 20; size++) {
                for (size_t at = 0; at < size; at++) {
                    uint8_t text[20];
                    memset(text, neighbours[n], size);
                    text[at] = specials[s];
                    struct buffer out = {0};
                    json_write_string(&out, bytes_of(text, size));
                    assert_true(out.size > size + 2);
                    assert_int_equal(json_string_bytes(bytes_of(text, size)), specials[s] >= 0x80 ? 0 : out.size);
                    buffer_free(&out);
                }
            }
        }
    }
}

/* What is written is read back the same by a reader that isn't ours. */
static void test_write_then_jansson(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 3);
    for (int round = 0; round < 5000; round++) {
        uint8_t text[40];
        size_t size = random_below(&random, sizeof text + 1);
        for (size_t i = 0; i < size; i++) {
            text[i] = (uint8_t)random_below(&random, random_chance(&random, 300) ? 0x30 : 0x80);
        }
        struct buffer out = {0};
        buffer_append_byte(&out, '[');
        json_write_string(&out, bytes_of(text, size));
        buffer_append_byte(&out, ']');
        json_error_t error;
        json_t *array = json_loadb((const char *)out.data, out.size, JSON_ALLOW_NUL, &error);
        assert_non_null(array);
        json_t *value = json_array_get(array, 0);
        assert_int_equal(json_string_length(value), size);
        if (size > 0) assert_memory_equal(json_string_value(value), text, size);
        json_decref(array);
        buffer_free(&out);
    }
}

/* ---- reading ---- */

static void assert_refused(const char *text, size_t size, const char *part_of_problem)
{
    struct buffer problem = {0};
    json_t *object = json_read_object(bytes_of(text, size), 4, 8, &problem);
    if (object != NULL) fail_msg("%s was taken", text);
    buffer_append_byte(&problem, 0);
    if (strstr((const char *)problem.data, part_of_problem) == NULL) {
        fail_msg("%s: \"%s\" does not say \"%s\"", text, (const char *)problem.data, part_of_problem);
    }
    buffer_free(&problem);
    assert_null(json_read_object(bytes_of(text, size), 4, 8, NULL));
    /* The quick reader leaves duplicates to its caller, and takes nothing else of this. */
    struct json_plain_member members[8];
    size_t count;
    bool duplicate = strcmp(part_of_problem, "duplicate") == 0;
    assert_int_equal(json_read_plain(bytes_of(text, size), members, 8, &count), duplicate);
}
#define REFUSED(text, problem) assert_refused(text, sizeof(text) - 1, problem)

static void test_read_refused(void **state)
{
    (void)state;
    REFUSED("", "empty");
    REFUSED(" ", "line 1");
    REFUSED("{", "line 1");
    REFUSED("}", "line 1");
    REFUSED("{\"a\":1", "'}'");
    REFUSED("{\"a\":\"1\",}", "line 1, column 10");
    REFUSED("{,}", "line 1");
    REFUSED("{\"a\"}", "':'");
    REFUSED("{\"a\":}", "line 1");
    REFUSED("{a:\"1\"}", "line 1");
    REFUSED("{'a':\"1\"}", "line 1");
    REFUSED("{\n\n\"a\":\"1\" \"b\":\"2\"}", "line 3");
    REFUSED("{\"a\":\"1\"} x", "end of file");
    REFUSED("{\"a\":\"1\"}{}", "end of file");
    REFUSED("{\"a\":\"1\"}\0", "end of file");
    REFUSED("{\"a\":\"1\",\"a\":\"2\"}", "duplicate");
    REFUSED("{\"a\":\"\n\"}", "newline");
    REFUSED("{\"a\":\"\0\"}", "control character");
    REFUSED("{\"a\":\"\\x\"}", "escape");
    REFUSED("{\"a\":\"\\u12\"}", "escape");
    REFUSED("{\"a\":\"\\ud800\"}", "Unicode");
    REFUSED("{\"a\":\"\\udc00\"}", "Unicode");
    REFUSED("{\"a\":\"\\ud800\\u0041\"}", "Unicode");
    REFUSED("{\"a\":\"\x80\"}", "decode byte");
    REFUSED("{\"a\":\"\xc0\x80\"}", "decode byte");
    REFUSED("{\"a\":\"\xed\xa0\x80\"}", "decode byte");
    REFUSED("{\"a\":\"unfinished", "line 1");
    REFUSED("{\"a\":\"unfinished\\", "line 1");
    REFUSED("{\"a\\u0000b\":\"1\"}", "NUL");
    REFUSED("{\"a\":tru}", "line 1");
    REFUSED("{\"a\":01}", "line 1");
    REFUSED("{\"a\":1e999}", "real number");
    REFUSED("{\"a\":99999999999999999999}", "integer");
    REFUSED("[]", "must be a JSON object");
    REFUSED("[\"a\"]", "must be a JSON object");
    REFUSED("\"a\"", "line 1");
    REFUSED("null", "line 1");
    REFUSED("\xef\xbb\xbf{}", "line 1"); /* a byte order mark */
}

static void test_read_limits(void **state)
{
    (void)state;
    json_t *object = json_read_object(bytes_of_string("{\"a\":[[[1]]]}"), 4, 8, NULL);
    assert_non_null(object);
    json_decref(object);
    REFUSED("{\"a\":[[[[1]]]]}", "deeper than 4");
    object = json_read_object(bytes_of_string("{\"a\":[1,2,3,4,5,6,7]}"), 4, 8, NULL);
    assert_non_null(object);
    json_decref(object);
    REFUSED("{\"a\":[1,2,3,4,5,6,7,8]}", "more than 8");
    REFUSED("{\"a\":[[],[],[],[],[]]}", "more than 8");
    /* Brackets and commas in strings are text, also behind an escaped quote. */
    object = json_read_object(bytes_of_string("{\"a\":\"[[[[[[,,,,,,,,,,,,\\\"[[[[[[[[{{{{\\\\\"}"), 4, 8, NULL);
    assert_non_null(object);
    json_decref(object);

    struct buffer deep = {0};
    for (int i = 0; i < 1000000; i++) buffer_append_string(&deep, "{\"\":[");
    assert_null(json_read_object(buffer_bytes(&deep), 16, 2000000, NULL));
    buffer_free(&deep);
}

static void test_read_nul(void **state)
{
    (void)state;
    json_t *object = json_read_object(bytes_of_string("{\"k\":\"a\\u0000b\"}"), 4, 8, NULL);
    json_t *value = json_object_get(object, "k");
    assert_int_equal(json_string_length(value), 3);
    assert_memory_equal(json_string_value(value), "a\0b", 3);
    json_decref(object);
}

/* ---- the quick reader ---- */

static void test_plain(void **state)
{
    (void)state;
    struct json_plain_member members[2];
    size_t count;
    assert_true(
        json_read_plain(bytes_of_string(" { \"k\" :\r\n\"a b\" ,\t\"v\":\"\xc3\xa4\" } \n"), members, 2, &count));
    assert_int_equal(count, 2);
    assert_true(bytes_equal(members[0].name, bytes_of_string("k")));
    assert_true(bytes_equal(members[0].value, bytes_of_string("a b")));
    assert_true(bytes_equal(members[1].name, bytes_of_string("v")));
    assert_true(bytes_equal(members[1].value, bytes_of_string("\xc3\xa4")));

    assert_true(json_read_plain(bytes_of_string("{}"), members, 2, &count));
    assert_int_equal(count, 0);
    assert_true(json_read_plain(bytes_of_string("{\"\":\"\"}"), members, 2, &count));
    assert_int_equal(count, 1);
    assert_non_null(members[0].value.data); /* empty, and yet there */
    assert_int_equal(members[0].value.size, 0);

    /* Good JSON that isn't plain, or is more than there is room for. */
    static const char *const others[] = {
        "{\"k\":\"a\\n\"}", "{\"\\u006b\":\"a\"}", "{\"k\":1}", "{\"k\":null}",
        "{\"k\":{}}",       "{\"k\":[\"a\"]}",     "[]",        "{\"a\":\"\",\"b\":\"\",\"c\":\"\"}",
    };
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_false(json_read_plain(bytes_of_string(others[i]), members, 2, &count));
    }
}

/* Both readers on texts that are nearly right: what the quick one takes, the other takes and means the same by. */
static void test_plain_agrees(void **state)
{
    (void)state;
    static const char alphabet[] = "{}{}\"\"\"\"\"\",,::[]kv ab1\\nu0\n\x01\xc3\xa4\x80";
    struct random random;
    random_seed(&random, 4);
    int taken = 0;
    for (int round = 0; round < 200000; round++) {
        char text[64] = "{\"k\":\"a1\",\"v\":\"b\xc3\xa4\"}";
        size_t size = strlen(text);
        uint64_t changes = random_below(&random, 4);
        for (uint64_t i = 0; i < changes; i++) {
            size_t at = random_below(&random, size);
            char byte = alphabet[random_below(&random, sizeof alphabet - 1)];
            if (random_chance(&random, 500)) {
                text[at] = byte;
            } else {
                memmove(text + at + 1, text + at, size - at);
                text[at] = byte;
                size++;
            }
        }
        struct json_plain_member members[4];
        size_t count;
        json_t *object = json_read_object(bytes_of(text, size), 16, 64, NULL);
        if (json_read_plain(bytes_of(text, size), members, 4, &count)) {
            bool duplicate = false;
            for (size_t i = 0; i < count; i++) {
                for (size_t j = 0; j < i; j++) duplicate |= bytes_equal(members[i].name, members[j].name);
            }
            if (duplicate) {
                assert_null(object);
                continue;
            }
            if (object == NULL) fail_msg("only the quick reader takes %.*s", (int)size, text);
            assert_int_equal(json_object_size(object), count);
            for (size_t i = 0; i < count; i++) {
                char name[64] = "";
                memcpy(name, members[i].name.data, members[i].name.size);
                json_t *value = json_object_get(object, name);
                assert_true(json_is_string(value));
                assert_int_equal(json_string_length(value), members[i].value.size);
                assert_memory_equal(json_string_value(value), members[i].value.data, members[i].value.size + 0u);
            }
            taken++;
        } else if (object != NULL) {
            /* Then something in it isn't plain. */
            bool plain = memchr(text, '\\', size) == NULL;
            const char *name;
            json_t *value;
            json_object_foreach(object, name, value) plain = plain && json_is_string(value);
            assert_false(plain);
        }
        if (object != NULL) json_decref(object);
    }
    assert_in_range(taken, 60000, 160000);
}

int main(void)
{
    json_object_seed(1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write_string),
        cmocka_unit_test(test_write_every_place),
        cmocka_unit_test(test_write_then_jansson),
        cmocka_unit_test(test_read_refused),
        cmocka_unit_test(test_read_limits),
        cmocka_unit_test(test_read_nul),
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_plain_agrees),
    };
    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
