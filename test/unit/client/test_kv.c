/*
 * Requests for keys as they go over the wire, and what their answers say.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/random.h"
#include "base/types.h"
#include "client/kv.h"
#include "wire/http1.h"

static void keys_are_percent_encoded(void **state)
{
    (void)state;
    static const struct {
        const char *key, *path;
    } cases[] = {
        {"", "/v1/data/"},
        {"abcXYZ019-._~", "/v1/data/abcXYZ019-._~"},
        {"a b", "/v1/data/a%20b"},
        {"a/b?c#d%e&f+g", "/v1/data/a%2Fb%3Fc%23d%25e%26f%2Bg"},
        {"\xc3\xa9\x01\x7f\xff", "/v1/data/%C3%A9%01%7F%FF"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct buffer path = {0};
        client_kv_path(bytes_of_string(cases[i].key), &path);
        assert_true(bytes_equal(buffer_bytes(&path), bytes_of_string(cases[i].path)));
        buffer_free(&path);
    }
}

static void any_key_comes_back_from_its_path(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 7);
    for (int round = 0; round < 2000; round++) {
        uint8_t key[40];
        size_t size = (size_t)random_below(&random, sizeof key + 1);
        for (size_t i = 0; i < size; i++) key[i] = (uint8_t)random_u64(&random);
        struct buffer path = {0};
        struct buffer decoded = {0};
        client_kv_path(bytes_of(key, size), &path);
        size_t prefix = strlen("/v1/data/");
        assert_true(http1_percent_decode(bytes_of(path.data + prefix, path.size - prefix), &decoded));
        assert_true(bytes_equal(buffer_bytes(&decoded), bytes_of(key, size)));
        buffer_free(&path);
        buffer_free(&decoded);
    }
}

static void a_put_says_its_value_as_text_if_it_can(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value, *body; /* body NULL: refused */
    } cases[] = {
        {"a", "1", "{\"k\":\"a\",\"v\":\"1\"}"},
        {"a", "", "{\"k\":\"a\",\"v\":\"\"}"},
        {"q\"k", "line\nbreak\\", "{\"k\":\"q\\\"k\",\"v\":\"line\\nbreak\\\\\"}"},
        {"a", "\xff\xfe", "{\"k\":\"a\",\"v_base64\":\"//4=\"}"},
        {"\xff", "1", NULL},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct buffer body = {0};
        bool good = client_kv_put_body(bytes_of_string(cases[i].key), bytes_of_string(cases[i].value), &body);
        assert_int_equal(good, cases[i].body != NULL);
        if (good) assert_true(bytes_equal(buffer_bytes(&body), bytes_of_string(cases[i].body)));
        buffer_free(&body);
    }
}

static void values_are_read_from_answers(void **state)
{
    (void)state;
    static const struct {
        const char *body, *value; /* value NULL: unreadable */
    } cases[] = {
        {"{\"k\":\"a\",\"v\":\"1\"}", "1"},
        {"{\"k\":\"a\",\"v\":\"\"}", ""},
        {"{\"k\":\"a\",\"v\":\"\\u00e9\\n\"}", "\xc3\xa9\n"},
        {"{\"k\":\"a\",\"v_base64\":\"//4=\"}", "\xff\xfe"},
        {"{\"k\":\"a\",\"v_base64\":\"//4\"}", NULL},
        {"{\"k\":\"a\",\"v_base64\":\"!!!!\"}", NULL},
        {"{\"k\":\"a\",\"v\":1}", NULL},
        {"{\"k\":\"a\"}", NULL},
        {"", NULL},
        {"[]", NULL},
        {"{\"k\":", NULL},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct buffer value = {0};
        buffer_append_string(&value, "before:");
        bool good = client_kv_value(bytes_of_string(cases[i].body), &value);
        assert_int_equal(good, cases[i].value != NULL);
        if (good) {
            assert_true(bytes_equal(bytes_of(value.data + 7, value.size - 7), bytes_of_string(cases[i].value)));
        }
        buffer_free(&value);
    }
}

static void errors_are_rows_of_the_one_table(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        enum error error;
        const char *message;
    } cases[] = {
        {"{\"error\":{\"code\":\"no_leader\",\"message\":\"m\"}}", ERR_NO_LEADER, "m"},
        {"{\"error\":{\"code\":\"not_found\"}}", ERR_NOT_FOUND, "the server's answer can't be read"},
        {"{\"error\":{\"code\":\"of a later version\",\"message\":\"x\"}}", ERR_INTERNAL, "x"},
        {"{\"error\":5}", ERR_INTERNAL, "the server's answer can't be read"},
        {"<html>", ERR_INTERNAL, "the server's answer can't be read"},
        {"", ERR_INTERNAL, "the server's answer can't be read"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct buffer message = {0};
        assert_int_equal(client_kv_error(bytes_of_string(cases[i].body), &message), cases[i].error);
        assert_true(bytes_equal(buffer_bytes(&message), bytes_of_string(cases[i].message)));
        buffer_free(&message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_percent_encoded),
        cmocka_unit_test(any_key_comes_back_from_its_path),
        cmocka_unit_test(a_put_says_its_value_as_text_if_it_can),
        cmocka_unit_test(values_are_read_from_answers),
        cmocka_unit_test(errors_are_rows_of_the_one_table),
    };
    return cmocka_run_group_tests_name("kv", tests, NULL, NULL);
}
