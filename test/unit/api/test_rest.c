#include "api/api.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/random.h"
#include "fake_replica.h"
#include "wire/base64.h"
#include "wire/json.h"

static struct fixture fixture;

static int setup(void **state)
{
    (void)state;
    fixture_open(&fixture);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_close(&fixture);
    return 0;
}

static void assert_answer(const char *line, const char *body, int status, const char *expected_body)
{
    const char *answer = fixture_ask(&fixture, line, body);
    if (fixture_status(&fixture) != status || strcmp(fixture_body(&fixture), expected_body) != 0) {
        fail_msg("%s %s\ngave %s\nnot %d %s", line, body != NULL ? body : "", answer, status, expected_body);
    }
}

/* The error's code, and a part of its message. */
static void assert_error(const char *line, const char *body, int status, const char *code, const char *part)
{
    const char *answer = fixture_ask(&fixture, line, body);
    struct buffer begin = {0};
    buffer_append_format(&begin, "{\"error\":{\"code\":\"%s\",\"message\":\"", code);
    const char *got = fixture_body(&fixture);
    bool right = fixture_status(&fixture) == status && strncmp(got, (const char *)begin.data, begin.size) == 0 &&
                 strstr(got + begin.size, part) != NULL;
    if (!right) fail_msg("%s %s\ngave %s\nnot %d %s: %s", line, body != NULL ? body : "", answer, status, code, part);
    json_t *object = json_loads(got, 0, NULL);
    assert_non_null(object);
    json_decref(object);
    buffer_free(&begin);
    assert_int_equal(fixture.proposed, 0);
}

static void assert_stored(struct bytes key, struct bytes value)
{
    const struct store_record *record;
    assert_int_equal(store_get(fixture.replica.store, key, 0, &record), ERR_OK);
    assert_true(bytes_equal(store_record_value(record), value));
}

static void test_put_get_delete(void **state)
{
    (void)state;
    assert_answer("POST /v1/data", "{\"k\":\"a\",\"v\":\"1\"}", 200, "{\"revision\":2}");
    assert_int_equal(fixture.wait, API_PROPOSE);
    assert_int_equal(fixture.proposed, COMMAND_PUT);
    assert_answer("GET /v1/data/a", NULL, 200, "{\"k\":\"a\",\"v\":\"1\"}");
    assert_int_equal(fixture.wait, API_READ);
    assert_answer("POST /v1/data", "{\"v\":\"2\",\"k\":\"a\"}", 200, "{\"revision\":3}");
    assert_answer("GET /v1/data/a", NULL, 200, "{\"k\":\"a\",\"v\":\"2\"}");
    assert_answer("DELETE /v1/data/a", NULL, 200, "{\"deleted\":true,\"revision\":4}");
    assert_int_equal(fixture.proposed, COMMAND_DELETE);
    assert_answer("DELETE /v1/data/a", NULL, 200, "{\"deleted\":false,\"revision\":4}");
    assert_error("GET /v1/data/a", NULL, 404, "not_found", "no such key");
}

static void test_whole_answers(void **state)
{
    (void)state;
    assert_string_equal(
        fixture_ask(&fixture, "POST /v1/data", "{\"k\":\"a\",\"v\":\"1\"}"),
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n{\"revision\":2}");
    assert_string_equal(fixture_ask(&fixture, "GET /v1/data/a", NULL),
                        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n"
                        "{\"k\":\"a\",\"v\":\"1\"}");
    assert_string_equal(fixture_ask(&fixture, "HEAD /v1/data/a", NULL),
                        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n");
    assert_string_equal(fixture_ask(&fixture, "HEAD /v1/data/b", NULL),
                        "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 63\r\n\r\n");
    assert_string_equal(
        fixture_send(&fixture, bytes_of_string("GET /v1/data/a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")),
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 17\r\n"
        "Connection: close\r\n\r\n{\"k\":\"a\",\"v\":\"1\"}");
}

static void test_keys_in_paths(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        const char *key;
        const char *shown;
    } samples[] = {
        {"a/b", "a/b", "a/b"},
        {"a%2Fb", "a/b", "a/b"},
        {"/", "/", "/"},
        {"a//b/", "a//b/", "a//b/"},
        {"..", "..", ".."},
        {"a%20b", "a b", "a b"},
        {"a+b", "a+b", "a+b"},
        {"%22", "\"", "\\\""},
        {"%5c", "\\", "\\\\"},
        {"%0A", "\n", "\\n"},
        {"%c3%A4", "\xc3\xa4", "\xc3\xa4"},
        {"\xc3\xa4", "\xc3\xa4", "\xc3\xa4"},
        {"%25", "%", "%"},
        {"%3F", "?", "?"},
        {"a:b@c;d=e,f", "a:b@c;d=e,f", "a:b@c;d=e,f"},
    };
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        fixture_put(&fixture, bytes_of_string(samples[i].key), bytes_of_string("x"));
        struct buffer line = {0}, expected = {0};
        buffer_append_format(&line, "GET /v1/data/%s", samples[i].path);
        buffer_append_byte(&line, 0);
        buffer_append_format(&expected, "{\"k\":\"%s\",\"v\":\"x\"}", samples[i].shown);
        buffer_append_byte(&expected, 0);
        assert_answer((const char *)line.data, NULL, 200, (const char *)expected.data);
        buffer_free(&line);
        buffer_free(&expected);
    }
    fixture_put(&fixture, bytes_of_string("q"), bytes_of_string("y"));
    assert_answer("GET /v1/data/q?ignored=1", NULL, 200, "{\"k\":\"q\",\"v\":\"y\"}");
    assert_error("GET /v1/data/", NULL, 400, "empty_key", "empty");
    assert_error("DELETE /v1/data/", NULL, 400, "empty_key", "empty");
    assert_error("GET /v1/data/?k=a", NULL, 400, "empty_key", "empty");
    assert_error("GET /v1/data/%", NULL, 400, "bad_request", "%25");
    assert_error("GET /v1/data/a%zz", NULL, 400, "bad_request", "hexadecimal");
    assert_error("DELETE /v1/data/a%2", NULL, 400, "bad_request", "hexadecimal");
}

static void test_key_with_nul(void **state)
{
    (void)state;
    assert_answer("POST /v1/data", "{\"k\":\"a\\u0000b\",\"v\":\"\\u0000\"}", 200, "{\"revision\":2}");
    assert_stored(bytes_of("a\0b", 3), bytes_of("\0", 1));
    assert_answer("GET /v1/data/a%00b", NULL, 200, "{\"k\":\"a\\u0000b\",\"v\":\"\\u0000\"}");
    assert_answer("DELETE /v1/data/a%00b", NULL, 200, "{\"deleted\":true,\"revision\":3}");
}

static void test_binary(void **state)
{
    (void)state;
    assert_answer("POST /v1/data", "{\"k\":\"a\",\"v_base64\":\"/wA=\"}", 200, "{\"revision\":2}");
    assert_stored(bytes_of_string("a"), bytes_of("\xff\0", 2));
    assert_answer("GET /v1/data/a", NULL, 200, "{\"k\":\"a\",\"v_base64\":\"/wA=\"}");
    assert_answer("POST /v1/data", "{\"k\":\"a\",\"v_base64\":\"\"}", 200, "{\"revision\":3}");
    assert_answer("GET /v1/data/a", NULL, 200, "{\"k\":\"a\",\"v\":\"\"}");
    assert_answer("POST /v1/data", "{\"k\":\"a\",\"v_base64\":\"aGk=\"}", 200, "{\"revision\":4}");
    assert_answer("GET /v1/data/a", NULL, 200, "{\"k\":\"a\",\"v\":\"hi\"}");
    assert_answer("POST /v1/data", "{\"k_base64\":\"/w==\",\"v\":\"x\"}", 200, "{\"revision\":5}");
    assert_answer("GET /v1/data/%ff", NULL, 200, "{\"k_base64\":\"/w==\",\"v\":\"x\"}");
    assert_answer("POST /v1/data", "{\"k_base64\":\"/w==\",\"v_base64\":\"gA\\u003d=\"}", 200, "{\"revision\":6}");
    assert_answer("GET /v1/data/%ff", NULL, 200, "{\"k_base64\":\"/w==\",\"v_base64\":\"gA==\"}");
}

static void test_put_escapes(void **state)
{
    (void)state;
    assert_answer("POST /v1/data", "{\"k\":\"\\u0061\",\"v\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e4\\ud83d\\ude00\"}", 200,
                  "{\"revision\":2}");
    assert_stored(bytes_of_string("a"), bytes_of_string("\"\\/\b\f\n\r\t\xc3\xa4\xf0\x9f\x98\x80"));
    assert_answer("GET /v1/data/a", NULL, 200,
                  "{\"k\":\"a\",\"v\":\"\\\"\\\\/\\b\\f\\n\\r\\t\xc3\xa4\xf0\x9f\x98\x80\"}");
    assert_answer("POST /v1/data", " {\n\"k\" : \"a\" , \"v\":\"\" }\r\n", 200, "{\"revision\":3}");
    assert_answer("GET /v1/data/a", NULL, 200, "{\"k\":\"a\",\"v\":\"\"}");
}

static void test_bad_bodies(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        const char *code;
        const char *part;
    } samples[] = {
        {"", "bad_json", "empty"},
        {"{", "bad_json", "line 1"},
        {"{\"k\":\"a\",\"v\":\"1\"", "bad_json", "line 1"},
        {"{\"k\":\"a\",\"v\":\"1\"}}", "bad_json", "line 1"},
        {"k=a&v=1", "bad_json", "line 1"},
        {"[\"a\",\"1\"]", "bad_json", "object"},
        {"null", "bad_json", "line 1"},
        {"{\"k\":\"a\",\"k\":\"b\",\"v\":\"1\"}", "bad_json", "duplicate"},
        {"{\"k\":\"a\",\"v\":\"1\",\"v\":\"1\"}", "bad_json", "duplicate"},
        {"{\"k\":\"a\",\"v\":\"\xff\"}", "bad_json", "byte 0xff"},
        {"{\"k\":\"a\",\"v\":\"\\ud800\"}", "bad_json", "Unicode"},
        {"{\"k\":\"a\",\"v\":[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]}", "bad_json", "deeper than 16"},
        {"{}", "empty_key", "\\\"k\\\""},
        {"{\"v\":\"1\"}", "empty_key", "\\\"k\\\""},
        {"{\"k\":\"\",\"v\":\"1\"}", "empty_key", "\\\"k\\\""},
        {"{\"k_base64\":\"\",\"v\":\"1\"}", "empty_key", "\\\"k\\\""},
        {"{\"k\":\"a\"}", "bad_request", "\\\"v\\\""},
        {"{\"k\":1,\"v\":\"1\"}", "bad_request", "\\\"k\\\" must be a string"},
        {"{\"k\":null,\"v\":\"1\"}", "bad_request", "\\\"k\\\" must be a string"},
        {"{\"k\":[\"a\"],\"v\":\"1\"}", "bad_request", "\\\"k\\\" must be a string"},
        {"{\"k\":\"a\",\"v\":1}", "bad_request", "\\\"v\\\" must be a string"},
        {"{\"k\":\"a\",\"v\":true}", "bad_request", "\\\"v\\\" must be a string"},
        {"{\"k\":\"a\",\"v\":{}}", "bad_request", "\\\"v\\\" must be a string"},
        {"{\"k\":\"a\",\"v_base64\":1}", "bad_request", "\\\"v_base64\\\" must be a string"},
        {"{\"k\":\"a\",\"v\":\"1\",\"v_base64\":\"\"}", "bad_request", "exclude each other"},
        {"{\"k\":\"a\",\"k_base64\":\"YQ==\",\"v\":\"1\"}", "bad_request", "exclude each other"},
        {"{\"k\":\"a\",\"v_base64\":\"abc\"}", "bad_request", "multiple of 4"},
        {"{\"k\":\"a\",\"v_base64\":\"ab*=\"}", "bad_request", "\\\"v_base64\\\" is not base64"},
        {"{\"k_base64\":\"a-b=\",\"v\":\"1\"}", "bad_request", "\\\"k_base64\\\" is not base64"},
        {"{\"k\":\"a\",\"v\":\"1\",\"x\":\"\"}", "bad_request", "there is no field \\\"x\\\""},
        {"{\"K\":\"a\",\"v\":\"1\"}", "bad_request", "there is no field \\\"K\\\""},
        {"{\"key\":\"a\",\"value\":\"1\"}", "bad_request", "there is no field \\\"key\\\""},
        {"{\"k\":\"a\",\"v\":\"1\",\"a\\\"\\n\":1}", "bad_request", "there is no field \\\"a\\\\\\\"\\\\n\\\""},
    };
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        assert_error("POST /v1/data", samples[i].body, 400, samples[i].code, samples[i].part);
    }
    assert_int_equal(store_key_count(fixture.replica.store), 0);
}

/* ---- limits ---- */

static const char *put_of(struct buffer *request, const char *key_name, size_t key_bytes, const char *value_name,
                          size_t value_bytes)
{
    struct buffer body = {0};
    buffer_append_format(&body, "{\"%s\":\"", key_name);
    for (size_t i = 0; i < key_bytes; i++) buffer_append_byte(&body, 'A');
    buffer_append_format(&body, "\",\"%s\":\"", value_name);
    for (size_t i = 0; i < value_bytes; i++) buffer_append_byte(&body, 'A');
    buffer_append_string(&body, "\"}");
    buffer_clear(request);
    buffer_append_format(request, "POST /v1/data HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\n\r\n", body.size);
    buffer_append(request, body.data, body.size);
    buffer_free(&body);
    return fixture_send(&fixture, buffer_bytes(request));
}

static void test_limits(void **state)
{
    (void)state;
    struct buffer request = {0};
    put_of(&request, "k", STORE_KEY_BYTES_MAX, "v", API_VALUE_BYTES_MAX_DEFAULT);
    assert_int_equal(fixture_status(&fixture), 200);
    put_of(&request, "k", STORE_KEY_BYTES_MAX + 1, "v", 1);
    assert_int_equal(fixture_status(&fixture), 400);
    assert_non_null(strstr(fixture_body(&fixture), "key_too_large"));
    assert_non_null(strstr(fixture_body(&fixture), "65537 bytes; the limit is 65536"));
    put_of(&request, "k", 1, "v", API_VALUE_BYTES_MAX_DEFAULT + 1);
    assert_int_equal(fixture_status(&fixture), 413);
    assert_non_null(strstr(fixture_body(&fixture), "request_too_large"));
    assert_non_null(strstr(fixture_body(&fixture), "1572865 bytes; the limit is 1572864"));
    /* As base64, 4 letters for 3 bytes: both at their largest still pass the parser. */
    put_of(&request, "k_base64", STORE_KEY_BYTES_MAX / 3 * 4, "v_base64", API_VALUE_BYTES_MAX_DEFAULT / 3 * 4);
    assert_int_equal(fixture_status(&fixture), 200);
    put_of(&request, "k", 1, "v_base64", API_VALUE_BYTES_MAX_DEFAULT / 3 * 4 + 4);
    assert_int_equal(fixture_status(&fixture), 413);

    fixture.host.value_bytes_max = 10;
    put_of(&request, "k", 1, "v", 10);
    assert_int_equal(fixture_status(&fixture), 200);
    put_of(&request, "k", 1, "v", 11);
    assert_int_equal(fixture_status(&fixture), 413);
    /* A limit above what an entry holds is no way to a failed assertion. */
    fixture.host.value_bytes_max = UINT64_MAX;
    http1_parser_free(fixture.parser);
    fixture.parser = http1_parser_new(8u << 20);
    put_of(&request, "k", STORE_KEY_BYTES_MAX, "v", ENTRY_PAYLOAD_BYTES_MAX);
    assert_int_equal(fixture_status(&fixture), 413);
    put_of(&request, "k", STORE_KEY_BYTES_MAX, "v",
           ENTRY_PAYLOAD_BYTES_MAX - COMMAND_HEADER_BYTES - STORE_KEY_BYTES_MAX);
    assert_int_equal(fixture_status(&fixture), 200);
    put_of(&request, "k", STORE_KEY_BYTES_MAX, "v",
           ENTRY_PAYLOAD_BYTES_MAX - COMMAND_HEADER_BYTES - STORE_KEY_BYTES_MAX + 1);
    assert_int_equal(fixture_status(&fixture), 413);
    buffer_free(&request);
}

/* ---- errors of the replica and the host ---- */

static void test_every_error(void **state)
{
    (void)state;
    static const char *const lines[] = {"GET /v1/data/a", "DELETE /v1/data/a", "POST /v1/data"};
    fixture_put(&fixture, bytes_of_string("a"), bytes_of_string("1"));
    for (int error = ERR_OK + 1; error < ERROR_COUNT; error++) {
        for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
            fixture.error = (enum error)error;
            const char *answer = fixture_ask(&fixture, lines[i], i == 2 ? "{\"k\":\"a\",\"v\":\"1\"}" : NULL);
            int status = error_http_status(fixture.error);
            assert_int_equal(fixture_status(&fixture), status);
            assert_int_equal(strstr(answer, "\r\nRetry-After: 1\r\n") != NULL, status == 503 || status == 429);
            assert_int_equal(strstr(answer, "\r\nConnection: close\r\n") != NULL,
                             error_scope_of(fixture.error) == SCOPE_CONNECTION);
            json_t *object = json_loads(fixture_body(&fixture), 0, NULL);
            json_t *inner = json_object_get(object, "error");
            assert_string_equal(json_string_value(json_object_get(inner, "code")), error_code(fixture.error));
            const char *message = json_string_value(json_object_get(inner, "message"));
            assert_int_equal(strncmp(message, error_text(fixture.error), strlen(error_text(fixture.error))), 0);
            assert_int_equal(json_object_size(object), 1);
            json_decref(object);
        }
    }
}

static void test_not_ready_and_shutting_down(void **state)
{
    (void)state;
    fixture.api.replica = NULL;
    assert_error("GET /v1/data/a", NULL, 503, "not_ready", "not ready");
    assert_error("POST /v1/data", "{\"k\":\"a\",\"v\":\"1\"}", 503, "not_ready", "not ready");
    assert_error("DELETE /v1/data/a", NULL, 503, "not_ready", "not ready");
    fixture.api.replica = &fixture.replica;
    fixture.host.shutting_down = true;
    assert_error("GET /v1/data/a", NULL, 503, "shutting_down", "another node");
    assert_non_null(strstr((const char *)fixture.out.data, "\r\nConnection: close\r\n"));
    assert_error("POST /v1/data", "{\"k\":\"a\",\"v\":\"1\"}", 503, "shutting_down", "another node");
    assert_error("DELETE /v1/data/a", NULL, 503, "shutting_down", "another node");
}

/* The host may answer for a command that it couldn't propose; nothing leaks then. */
static void test_refused_before_proposing(void **state)
{
    (void)state;
    struct http1_request request = {.method = HTTP1_DELETE, .path = bytes_of_string("/v1/data/a"), .keep_alive = true};
    assert_int_equal(api_begin(&fixture.api, &fixture.call, &request, &fixture.out), API_PROPOSE);
    struct replica_result result = {.error = ERR_TOO_MANY};
    api_finish(&fixture.api, &fixture.call, &result, &fixture.out);
    assert_null(fixture.call.command);
    assert_memory_equal(fixture.out.data, "HTTP/1.1 429 ", 13);
    /* Or the connection ends while a command is there. */
    assert_int_equal(api_begin(&fixture.api, &fixture.call, &request, &fixture.out), API_PROPOSE);
    api_call_free(&fixture.call);
    assert_null(fixture.call.command);
}

/* ---- round trips ---- */

static void append_percent_encoded(struct buffer *out, struct bytes key, struct random *random)
{
    for (size_t i = 0; i < key.size; i++) {
        uint8_t byte = key.data[i];
        bool must = byte <= ' ' || byte == 0x7f || byte == '%' || byte == '?' || byte == '#';
        if (must || random_chance(random, 300)) {
            buffer_append_format(out, random_chance(random, 500) ? "%%%02x" : "%%%02X", byte);
        } else {
            buffer_append_byte(out, byte);
        }
    }
}

static void append_field(struct buffer *out, const char *plain, const char *base64, struct bytes bytes,
                         struct random *random)
{
    bool as_base64 = json_string_bytes(bytes) == 0 || random_chance(random, 300);
    buffer_append_format(out, "\"%s\":", as_base64 ? base64 : plain);
    if (as_base64) {
        buffer_append_byte(out, '"');
        base64_encode(bytes, out);
        buffer_append_byte(out, '"');
    } else {
        json_write_string(out, bytes);
    }
}

static void assert_field(json_t *object, const char *plain, const char *base64, struct bytes expected)
{
    json_t *value = json_object_get(object, plain);
    assert_int_equal(value != NULL, json_string_bytes(expected) > 0);
    if (value != NULL) {
        assert_true(bytes_equal(bytes_of(json_string_value(value), json_string_length(value)), expected));
        return;
    }
    value = json_object_get(object, base64);
    struct bytes text = bytes_of(json_string_value(value), json_string_length(value));
    uint8_t decoded[100];
    assert_int_equal(base64_decoded_bytes(text), expected.size);
    assert_true(base64_decode(text, decoded));
    assert_memory_equal(decoded, expected.data, expected.size);
}

/* Any bytes as a key and as a value come back as they were. */
static void test_any_bytes(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 8);
    for (int round = 0; round < 2000; round++) {
        uint8_t key[40], value[90];
        size_t key_bytes = 1 + random_below(&random, sizeof key), value_bytes = random_below(&random, sizeof value + 1);
        bool ascii = random_chance(&random, 600);
        for (size_t i = 0; i < key_bytes; i++) key[i] = (uint8_t)random_below(&random, ascii ? 128 : 256);
        for (size_t i = 0; i < value_bytes; i++) value[i] = (uint8_t)random_below(&random, ascii ? 128 : 256);
        struct buffer body = {0}, request = {0};
        buffer_append_byte(&body, '{');
        append_field(&body, "v", "v_base64", bytes_of(value, value_bytes), &random);
        buffer_append_byte(&body, ',');
        append_field(&body, "k", "k_base64", bytes_of(key, key_bytes), &random);
        buffer_append_byte(&body, '}');
        buffer_append_format(&request, "POST /v1/data HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\n\r\n", body.size);
        buffer_append(&request, body.data, body.size);
        fixture_send(&fixture, buffer_bytes(&request));
        assert_int_equal(fixture_status(&fixture), 200);
        assert_stored(bytes_of(key, key_bytes), bytes_of(value, value_bytes));

        buffer_clear(&request);
        buffer_append_string(&request, "GET /v1/data/");
        append_percent_encoded(&request, bytes_of(key, key_bytes), &random);
        buffer_append_string(&request, " HTTP/1.1\r\nHost: h\r\n\r\n");
        fixture_send(&fixture, buffer_bytes(&request));
        assert_int_equal(fixture_status(&fixture), 200);
        json_t *object = json_loads(fixture_body(&fixture), JSON_ALLOW_NUL, NULL);
        assert_non_null(object);
        assert_int_equal(json_object_size(object), 2);
        assert_field(object, "k", "k_base64", bytes_of(key, key_bytes));
        assert_field(object, "v", "v_base64", bytes_of(value, value_bytes));
        json_decref(object);
        buffer_free(&body);
        buffer_free(&request);
    }
}

int main(void)
{
    json_object_seed(1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_put_get_delete, setup, teardown),
        cmocka_unit_test_setup_teardown(test_whole_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_keys_in_paths, setup, teardown),
        cmocka_unit_test_setup_teardown(test_key_with_nul, setup, teardown),
        cmocka_unit_test_setup_teardown(test_binary, setup, teardown),
        cmocka_unit_test_setup_teardown(test_put_escapes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_bodies, setup, teardown),
        cmocka_unit_test_setup_teardown(test_limits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_every_error, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_ready_and_shutting_down, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused_before_proposing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_any_bytes, setup, teardown),
    };
    return cmocka_run_group_tests_name("rest", tests, NULL, NULL);
}
