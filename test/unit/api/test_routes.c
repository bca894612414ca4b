#include "api/api.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake_replica.h"
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

static void test_unknown_paths(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "GET /",
        "GET /v1",
        "GET /v1/",
        "GET /v1/dat",
        "GET /v1/database",
        "POST /v1/data2",
        "GET /v2/data/a",
        "GET /V1/data/a",
        "GET /v1//data/a",
        "GET /health/",
        "GET /healthz",
        "GET /livezz",
        "GET /readyz2",
        "GET /livez/bogus",
        "GET /readyz/x",
        "GET /metrics/",
        "GET /version/1",
        "GET /v1/cluster/",
        "DELETE /",
        "OPTIONS *",
        "GET /%76ersion",
        "GET /livez/linearizable_read",
        "GET /favicon.ico",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        const char *answer = fixture_ask(&fixture, lines[i], "");
        if (fixture_status(&fixture) != 404 || strstr(answer, "\"no_route\"") == NULL)
            fail_msg("%s: %s", lines[i], answer);
    }
    fixture_ask(&fixture, "POST /nowhere", "{}");
    assert_int_equal(fixture_status(&fixture), 404);
}

static void test_bad_methods(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        const char *allow;
    } paths[] = {
        {"/v1/data", "POST"},      {"/v1/data/a", "GET, HEAD, DELETE"},
        {"/v1/snapshot", "POST"},  {"/v1/cluster", "GET, HEAD"},
        {"/health", "GET, HEAD"},  {"/livez", "GET, HEAD"},
        {"/readyz", "GET, HEAD"},  {"/version", "GET, HEAD"},
        {"/metrics", "GET, HEAD"}, {"/livez/serializable_read", "GET, HEAD"},
    };
    static const char *const methods[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "get"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        for (size_t j = 0; j < sizeof methods / sizeof methods[0]; j++) {
            struct buffer line = {0}, header = {0};
            buffer_append_format(&line, "%s %s", methods[j], paths[i].path);
            buffer_append_byte(&line, 0);
            buffer_append_format(&header, "\r\nAllow: %s\r\n", paths[i].allow);
            buffer_append_byte(&header, 0);
            const char *answer = fixture_ask(&fixture, (const char *)line.data, "");
            bool allowed = strstr(paths[i].allow, methods[j]) != NULL;
            assert_int_equal(fixture_status(&fixture) != 405, allowed);
            assert_int_equal(strstr(answer, (const char *)header.data) == NULL, allowed);
            if (!allowed && j != 1) {
                assert_non_null(strstr(answer, "\"method_not_allowed\""));
                assert_non_null(strstr(fixture_body(&fixture), paths[i].allow));
            }
            buffer_free(&line);
            buffer_free(&header);
        }
    }
}

/* A HEAD's answer is the GET's without its body. */
static void test_head(void **state)
{
    (void)state;
    static const char *const paths[] = {"/v1/data/a", "/v1/data/none", "/v1/cluster", "/health", "/livez?verbose",
                                        "/readyz",    "/version",      "/metrics",    "/nothing"};
    fixture_put(&fixture, bytes_of_string("a"), bytes_of_string("1"));
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        struct buffer line = {0}, get = {0};
        buffer_append_format(&line, "GET %s", paths[i]);
        buffer_append_byte(&line, 0);
        buffer_append_string(&get, fixture_ask(&fixture, (const char *)line.data, NULL));
        size_t body_bytes = strlen(fixture_body(&fixture));
        assert_true(body_bytes > 0);
        get.size -= body_bytes;
        buffer_clear(&line);
        buffer_append_format(&line, "HEAD %s", paths[i]);
        buffer_append_byte(&line, 0);
        const char *head = fixture_ask(&fixture, (const char *)line.data, NULL);
        assert_true(bytes_equal(buffer_bytes(&get), bytes_of_string(head)));
        buffer_free(&line);
        buffer_free(&get);
    }
}

static void test_before_recovery(void **state)
{
    (void)state;
    fixture.api.replica = NULL;
    static const struct {
        const char *line;
        int status;
    } samples[] = {
        {"GET /version", 200}, {"GET /livez", 200},     {"GET /livez?verbose", 200},
        {"GET /readyz", 503},  {"GET /health", 503},    {"GET /v1/cluster", 503},
        {"GET /metrics", 503}, {"GET /v1/data/a", 503}, {"GET /health?serializable=true", 503},
        {"GET /nothing", 404}, {"PUT /metrics", 405},
    };
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        fixture_ask(&fixture, samples[i].line, "");
        if (fixture_status(&fixture) != samples[i].status) {
            fail_msg("%s: %s", samples[i].line, (const char *)fixture.out.data);
        }
        assert_int_equal(fixture.wait, API_DONE);
    }
}

static void test_version(void **state)
{
    (void)state;
    fixture_ask(&fixture, "GET /version", NULL);
    assert_string_equal(
        fixture_body(&fixture),
        "{\"etcdserver\":\"3.7.0\",\"etcdcluster\":\"3.7.0\",\"storage\":\"3.7.0\",\"coracle\":\"1.2.3\"}");
}

static void test_refuse(void **state)
{
    (void)state;
    static const enum error errors[] = {ERR_BAD_REQUEST,      ERR_HEADERS_TOO_LARGE, ERR_TOO_LARGE,  ERR_URI_TOO_LONG,
                                        ERR_BAD_HTTP_VERSION, ERR_UNSUPPORTED,       ERR_SLOW_CLIENT};
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        struct buffer out = {0};
        api_refuse(errors[i], &out);
        struct http1_response_parser *parser = http1_response_parser_new(1000);
        http1_response_parser_feed(parser, buffer_bytes(&out));
        struct http1_response_view view;
        assert_int_equal(http1_response_parser_next(parser, false, &view), ERR_OK);
        assert_int_equal(view.status, error_http_status(errors[i]));
        assert_false(view.keep_alive);
        json_t *object = json_read_object(view.body, 16, 16, NULL);
        json_t *error = json_object_get(object, "error");
        assert_string_equal(json_string_value(json_object_get(error, "code")), error_code(errors[i]));
        assert_true(json_string_length(json_object_get(error, "message")) > 20);
        json_decref(object);
        http1_response_parser_free(parser);
        buffer_free(&out);
    }
}

/* A connection's next call doesn't pay for its last one's long key for ever, and never for a short one. */
static void test_key_memory(void **state)
{
    (void)state;
    struct buffer line = {0};
    buffer_append_string(&line, "GET /v1/data/");
    for (int i = 0; i < 10000; i++) buffer_append_byte(&line, 'x');
    buffer_append_byte(&line, 0);
    fixture_ask(&fixture, (const char *)line.data, NULL);
    assert_true(fixture.call.key.capacity < 4097);
    buffer_free(&line);
    fixture_ask(&fixture, "GET /v1/data/0123456789abcdef", NULL);
    const uint8_t *kept = fixture.call.key.data;
    assert_non_null(kept);
    for (int i = 0; i < 10; i++) fixture_ask(&fixture, "GET /v1/data/fedcba9876543210", NULL);
    assert_ptr_equal(fixture.call.key.data, kept);
}

static void test_body_limit_has_room(void **state)
{
    (void)state;
    assert_true(api_body_bytes_max(0) > 65536 / 3 * 4);
    assert_true(api_body_bytes_max(3000) - api_body_bytes_max(0) == 4000);
}

int main(void)
{
    json_object_seed(1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_unknown_paths, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_methods, setup, teardown),
        cmocka_unit_test_setup_teardown(test_head, setup, teardown),
        cmocka_unit_test_setup_teardown(test_before_recovery, setup, teardown),
        cmocka_unit_test_setup_teardown(test_version, setup, teardown),
        cmocka_unit_test(test_refuse),
        cmocka_unit_test_setup_teardown(test_key_memory, setup, teardown),
        cmocka_unit_test(test_body_limit_has_room),
    };
    return cmocka_run_group_tests_name("routes", tests, NULL, NULL);
}
