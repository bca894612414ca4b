/* Requests of the etcd interface: whatever is proposed must be understood by every member, for ever. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/etcd.h"
#include "base/check.h"
#include "base/mem.h"
#include "fake_replica.h"
#include "storage/command_format.h"
#include "storage/txn_format.h"
#include "wire/protobuf.h"

#define KEY_BYTES_MORE (STORE_KEY_BYTES_MAX + 1)

enum { COMPARE = 1, SUCCESS = 2, FAILURE = 3 };
enum { OP_RANGE = 1, OP_PUT = 2, OP_DELETE = 3, OP_TXN = 4 };

static struct fixture fixture;
static struct etcd_call call;
static struct buffer answer;

static void begin(void)
{
    fixture_open(&fixture);
    call = (struct etcd_call){.method = NULL};
    answer = (struct buffer){.data = NULL};
}

static void end(void)
{
    etcd_call_free(&call);
    buffer_free(&answer);
    fixture_close(&fixture);
}

/* Every member decodes what is proposed, at any time later; what it can't decode ends it. */
static void assert_understood(const struct entry *entry)
{
    struct command command;
    struct bytes payload = entry_payload_bytes(entry);
    assert_true(payload.size <= ENTRY_PAYLOAD_BYTES_MAX);
    assert_int_equal(command_format_decode(payload, &command), ERR_OK);
    if (command.kind != COMMAND_TXN) return;
    struct arena arena = {.chunks = NULL};
    struct txn txn;
    assert_int_equal(txn_format_decode(command.value, &arena, &txn), ERR_OK);
    arena_free(&arena);
}

static enum api_wait send(const char *path, struct buffer *message)
{
    const struct etcd_method *method = etcd_method_of(bytes_of_string(path));
    assert_non_null(method);
    buffer_clear(&answer);
    enum api_wait wait = etcd_begin(&fixture.api, &call, method, buffer_bytes(message), &answer);
    assert_int_equal(call.command != NULL, wait == API_PROPOSE);
    if (call.command != NULL) {
        assert_understood(call.command);
        entry_unref(call.command);
        call.command = NULL;
    }
    buffer_free(message);
    return wait;
}

static void assert_refused(const char *path, struct buffer *message, enum etcd_error error)
{
    assert_int_equal(send(path, message), API_DONE);
    assert_string_equal(call.text, etcd_error_text(error));
    assert_int_equal(call.status, etcd_error_status(error));
}

/* A field that holds `size` bytes 'k'. */
static void append_filled(struct buffer *out, uint32_t number, size_t size)
{
    struct buffer filled = {.data = NULL};
    buffer_reserve(&filled, size);
    memset(filled.data, 'k', size);
    protobuf_append_bytes_present(out, number, bytes_of(filled.data, size));
    buffer_free(&filled);
}

/* Puts a message into a field of another, and empties it. */
static void append_message(struct buffer *out, uint32_t number, struct buffer *message)
{
    protobuf_append_bytes_present(out, number, buffer_bytes(message));
    buffer_clear(message);
}

static void append_op(struct buffer *out, uint32_t list, uint32_t kind, struct buffer *request)
{
    struct buffer op = {.data = NULL};
    append_message(&op, kind, request);
    append_message(out, list, &op);
    buffer_free(&op);
}

static void append_put(struct buffer *out, uint32_t list, const char *key)
{
    struct buffer put = {.data = NULL};
    protobuf_append_bytes(&put, 1, bytes_of_string(key));
    append_op(out, list, OP_PUT, &put);
    buffer_free(&put);
}

/* In a transaction that changes something, each part goes into the log, also what only looks. */
static void test_keys_too_long_for_the_log(void **state)
{
    (void)state;
    begin();
    struct buffer message = {.data = NULL}, part = {.data = NULL};
    append_filled(&part, 3, KEY_BYTES_MORE);
    append_message(&message, COMPARE, &part);
    append_put(&message, SUCCESS, "a");
    assert_refused("/etcdserverpb.KV/Txn", &message, ETCD_ERROR_REQUEST_TOO_LARGE);
    static const uint32_t kinds[] = {OP_RANGE, OP_PUT, OP_DELETE};
    for (size_t i = 0; i < ARRAY_COUNT(kinds); i++) {
        append_filled(&part, 1, KEY_BYTES_MORE);
        append_op(&message, FAILURE, kinds[i], &part);
        append_put(&message, SUCCESS, "a");
        assert_refused("/etcdserverpb.KV/Txn", &message, ETCD_ERROR_REQUEST_TOO_LARGE);
        append_filled(&part, 1, STORE_KEY_BYTES_MAX);
        append_op(&message, FAILURE, kinds[i], &part);
        append_put(&message, SUCCESS, "a");
        assert_int_equal(send("/etcdserverpb.KV/Txn", &message), API_PROPOSE);
    }
    append_filled(&message, 1, KEY_BYTES_MORE);
    assert_refused("/etcdserverpb.KV/Put", &message, ETCD_ERROR_REQUEST_TOO_LARGE);
    append_filled(&message, 1, KEY_BYTES_MORE);
    assert_refused("/etcdserverpb.KV/DeleteRange", &message, ETCD_ERROR_REQUEST_TOO_LARGE);
    buffer_free(&part);
    end();
}

/* 1.5 MiB, whatever the request is. gRPC lets a little more through. */
static void test_requests_too_large(void **state)
{
    (void)state;
    begin();
    struct buffer message = {.data = NULL}, part = {.data = NULL};
    protobuf_append_bytes(&message, 1, bytes_of_string("a"));
    append_filled(&message, 2, API_VALUE_BYTES_MAX_DEFAULT);
    assert_refused("/etcdserverpb.KV/Put", &message, ETCD_ERROR_REQUEST_TOO_LARGE);
    protobuf_append_bytes(&message, 1, bytes_of_string("a"));
    append_filled(&message, 2, API_VALUE_BYTES_MAX_DEFAULT - 64);
    assert_int_equal(send("/etcdserverpb.KV/Put", &message), API_PROPOSE);

    protobuf_append_bytes(&message, 1, bytes_of_string("a"));
    append_filled(&message, 2, API_VALUE_BYTES_MAX_DEFAULT);
    assert_refused("/etcdserverpb.KV/DeleteRange", &message, ETCD_ERROR_REQUEST_TOO_LARGE);

    protobuf_append_bytes(&part, 1, bytes_of_string("a"));
    append_filled(&part, 2, API_VALUE_BYTES_MAX_DEFAULT);
    append_op(&message, SUCCESS, OP_PUT, &part);
    assert_refused("/etcdserverpb.KV/Txn", &message, ETCD_ERROR_REQUEST_TOO_LARGE);
    /* What only reads stays out of the log, and has no such limit. */
    append_filled(&part, 1, 8);
    append_filled(&part, 2, API_VALUE_BYTES_MAX_DEFAULT);
    append_op(&message, SUCCESS, OP_RANGE, &part);
    assert_int_equal(send("/etcdserverpb.KV/Txn", &message), API_READ);
    buffer_free(&part);
    end();
}

/* In the log the smallest operations take more room than as protobuf. */
static void test_many_small_operations(void **state)
{
    (void)state;
    begin();
    struct buffer message = {.data = NULL}, inner = {.data = NULL}, range = {.data = NULL};
    for (unsigned i = 0; i < 60; i++) {
        protobuf_append_bytes(&range, 1, bytes_of_string("a"));
        append_op(&inner, FAILURE, OP_RANGE, &range);
    }
    /* 20 times 40 times 60 ranges: some 400 KB here, and eight times as much there. */
    struct buffer middle = {.data = NULL}, copy = {.data = NULL};
    for (unsigned i = 0; i < 40; i++) {
        buffer_append(&copy, inner.data, inner.size);
        append_op(&middle, FAILURE, OP_TXN, &copy);
    }
    for (unsigned i = 0; i < 20; i++) {
        buffer_append(&copy, middle.data, middle.size);
        append_op(&message, FAILURE, OP_TXN, &copy);
    }
    append_put(&message, SUCCESS, "a");
    assert_true(message.size < API_VALUE_BYTES_MAX_DEFAULT);
    assert_refused("/etcdserverpb.KV/Txn", &message, ETCD_ERROR_REQUEST_TOO_LARGE);
    buffer_free(&middle);
    buffer_free(&copy);
    buffer_free(&inner);
    buffer_free(&range);
    end();
}

/* Nobody knows a target 9; so no member may ever meet one. */
static void test_unknown_compares(void **state)
{
    (void)state;
    begin();
    for (uint32_t field = 1; field <= 2; field++) {
        struct buffer message = {.data = NULL}, part = {.data = NULL};
        protobuf_append_number(&part, field, 9);
        protobuf_append_bytes(&part, 3, bytes_of_string("a"));
        append_message(&message, COMPARE, &part);
        append_put(&message, SUCCESS, "a");
        send("/etcdserverpb.KV/Txn", &message); /* whatever it leads to is understood */
        buffer_free(&part);
    }
    end();
}

/* The rules 8 to 10 and 13. */
static void test_what_a_transaction_must_not_hold(void **state)
{
    (void)state;
    begin();
    struct buffer message = {.data = NULL}, part = {.data = NULL}, inner = {.data = NULL};
    for (unsigned i = 0; i < 128; i++) {
        protobuf_append_bytes(&part, 3, bytes_of_string("a"));
        append_message(&message, COMPARE, &part);
    }
    append_put(&message, SUCCESS, "a");
    struct buffer more = {.data = NULL};
    buffer_append(&more, message.data, message.size);
    assert_int_equal(send("/etcdserverpb.KV/Txn", &message), API_PROPOSE);
    protobuf_append_bytes(&part, 3, bytes_of_string("a"));
    append_message(&more, COMPARE, &part);
    assert_refused("/etcdserverpb.KV/Txn", &more, ETCD_ERROR_TOO_MANY_OPS);

    append_put(&message, SUCCESS, "a");
    append_put(&message, SUCCESS, "a");
    assert_refused("/etcdserverpb.KV/Txn", &message, ETCD_ERROR_DUPLICATE_KEY);
    append_put(&message, SUCCESS, "a");
    append_put(&message, FAILURE, "a");
    assert_int_equal(send("/etcdserverpb.KV/Txn", &message), API_PROPOSE);
    append_put(&inner, SUCCESS, "b");
    append_op(&message, SUCCESS, OP_TXN, &inner);
    protobuf_append_bytes(&part, 1, bytes_of_string("a"));
    protobuf_append_bytes(&part, 2, bytes_of_string("c"));
    append_op(&message, SUCCESS, OP_DELETE, &part);
    assert_refused("/etcdserverpb.KV/Txn", &message, ETCD_ERROR_DUPLICATE_KEY);

    protobuf_append_bytes_present(&message, SUCCESS, bytes_of(NULL, 0));
    assert_refused("/etcdserverpb.KV/Txn", &message, ETCD_ERROR_KEY_NOT_FOUND);
    append_put(&message, SUCCESS, "");
    assert_refused("/etcdserverpb.KV/Txn", &message, ETCD_ERROR_EMPTY_KEY);
    buffer_free(&part);
    buffer_free(&inner);
    end();
}

static void test_json(void **state)
{
    (void)state;
    begin();
    fixture_put(&fixture, bytes_of_string("a"), bytes_of_string("1"));
    fixture_ask(&fixture, "POST /v3/kv/range", "{\"key\":\"YQ==\"}");
    assert_int_equal(fixture.wait, API_READ);
    assert_non_null(strstr(fixture_body(&fixture),
                           "\"kvs\":[{\"key\":\"YQ==\",\"create_revision\":\"2\",\"mod_revision\":\"2\","
                           "\"version\":\"1\",\"value\":\"MQ==\"}],\"count\":\"1\""));
    fixture_ask(&fixture, "POST /v3/kv/put", "{\"key\":\"Yg==\",\"value\":\"Mg==\"}");
    assert_int_equal(fixture.proposed, COMMAND_PUT);
    assert_int_equal(fixture_status(&fixture), 200);
    fixture_ask(&fixture, "POST /v3/kv/put", "{\"value\":\"Mg==\"}");
    assert_int_equal(fixture_status(&fixture), 400);
    assert_non_null(strstr(fixture_body(&fixture), "etcdserver: key is not provided"));
    fixture_ask(&fixture, "POST /v3/kv/put", "{\"key\":7}");
    assert_int_equal(fixture_status(&fixture), 400);
    fixture_ask(&fixture, "POST /v3/kv/nothing", "{}");
    assert_int_equal(fixture_status(&fixture), 404);
    fixture_ask(&fixture, "GET /v3/kv/put", NULL);
    assert_int_equal(fixture_status(&fixture), 501);
    end();
}

/* Each method is where both ways look for it, and has what its form needs. */
static void test_every_method_begins(void **state)
{
    (void)state;
    begin();
    static const char *const answered_at_once[] = {
        "/etcdserverpb.Maintenance/Status",     "/etcdserverpb.Maintenance/Hash", "/etcdserverpb.Maintenance/HashKV",
        "/etcdserverpb.Maintenance/Alarm",      "/etcdserverpb.Auth/AuthStatus",  "/etcdserverpb.Cluster/MemberList",
        "/etcdserverpb.Maintenance/Defragment", "/grpc.health.v1.Health/Check"};
    for (size_t i = 0; i < ARRAY_COUNT(answered_at_once); i++) {
        struct buffer message = {.data = NULL};
        assert_int_equal(send(answered_at_once[i], &message), API_DONE);
        if (call.status != GRPC_OK) fail_msg("%s: %s", answered_at_once[i], call.text);
    }
    struct buffer message = {.data = NULL};
    assert_refused("/etcdserverpb.Auth/UserList", &message, ETCD_ERROR_AUTH_NOT_ENABLED);
    assert_null(etcd_method_of(bytes_of_string("/etcdserverpb.KV/Nothing")));
    assert_ptr_equal(etcd_method_of_json(bytes_of_string("/v3/kv/lease/leases")),
                     etcd_method_of(bytes_of_string("/etcdserverpb.Lease/LeaseLeases")));
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys_too_long_for_the_log),
        cmocka_unit_test(test_requests_too_large),
        cmocka_unit_test(test_many_small_operations),
        cmocka_unit_test(test_unknown_compares),
        cmocka_unit_test(test_what_a_transaction_must_not_hold),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_every_method_begins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
