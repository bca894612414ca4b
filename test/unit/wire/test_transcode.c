/* The rules one by one are in test/etcd/wire, against Go's protojson; here is what that doesn't see. */
#include "wire/transcode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/etcd_messages.h"
#include "wire/json_reader.h"
#include "wire/protobuf.h"
#include "wire/protobuf_message.h"

#define PUT (&etcdserverpb__put_request__descriptor)
#define TXN (&etcdserverpb__txn_request__descriptor)

static void assert_round(const ProtobufCMessageDescriptor *type, const char *json, const char *expected)
{
    struct buffer message = {0}, out = {0}, problem = {0};
    buffer_append_string(&message, "before");
    buffer_append_string(&out, "before");
    if (!transcode_from_json(type, bytes_of_string(json), NULL, &message, &problem)) {
        fail_msg("%s: %.*s", json, (int)problem.size, (const char *)problem.data);
    }
    struct bytes encoded = bytes_of(message.data + 6, message.size - 6);
    assert_int_equal(protobuf_check(type, encoded, PROTOBUF_MEMORY_BYTES_MAX, NULL, NULL), PROTOBUF_GOOD);
    assert_true(transcode_to_json(type, encoded, &out, &problem));
    assert_memory_equal(out.data, "before", 6);
    assert_memory_equal(message.data, "before", 6);
    if (!bytes_equal(bytes_of(out.data + 6, out.size - 6), bytes_of_string(expected))) {
        fail_msg("%.*s is not %s", (int)out.size - 6, (const char *)out.data + 6, expected);
    }
    buffer_free(&message);
    buffer_free(&out);
    buffer_free(&problem);
}

static void test_rounds(void **state)
{
    (void)state;
    assert_round(PUT, "{}", "{}");
    assert_round(PUT, "{\"value\":\"dg\",\"key\":\"aw==\",\"lease\":7,\"x\":[{}]}",
                 "{\"key\":\"aw==\",\"value\":\"dg==\",\"lease\":\"7\"}");
    assert_round(TXN,
                 "{\"failure\":[{},{\"requestRange\":{\"limit\":\"-1\",\"sortOrder\":\"ASCEND\"}}],"
                 "\"compare\":[{\"version\":0},{\"rangeEnd\":\"AA\",\"result\":9}]}",
                 "{\"compare\":[{\"version\":\"0\"},{\"result\":9,\"range_end\":\"AA==\"}],"
                 "\"failure\":[{},{\"request_range\":{\"limit\":\"-1\",\"sort_order\":\"ASCEND\"}}]}");
    /* Lengths of one, two and three bytes within one another. */
    struct buffer json = {0};
    buffer_append_string(&json, "{\"success\":[{\"request_put\":{\"value\":\"");
    for (int i = 0; i < 10000; i++) buffer_append_string(&json, "AAAA");
    buffer_append_string(&json, "\"}},{\"request_txn\":{\"failure\":[{\"request_put\":{\"value\":\"");
    for (int i = 0; i < 60; i++) buffer_append_string(&json, "AAAA");
    buffer_append_string(&json, "\"}},{\"request_delete_range\":{\"key\":\"AA==\"}}]}}]}");
    buffer_append_byte(&json, 0);
    assert_round(TXN, (const char *)json.data, (const char *)json.data);
    buffer_free(&json);
}

/* Protobuf may have its fields in any order; JSON has them in that of the .proto file. */
static void test_any_order(void **state)
{
    (void)state;
    static const char message[] = "\x12\x00"         /* success {} */
                                  "\x0a\x02\x20\x05" /* compare { version: 5 } */
                                  "\x1a\x00"         /* failure {} */
                                  "\x12\x02\x0a\x00" /* success { request_range {} } */
                                  "\x0a\x00";        /* compare {} */
    struct buffer out = {0};
    assert_true(transcode_to_json(TXN, bytes_of(message, sizeof message - 1), &out, NULL));
    assert_true(
        bytes_equal(buffer_bytes(&out), bytes_of_string("{\"compare\":[{\"version\":\"5\"},{}],"
                                                        "\"success\":[{},{\"request_range\":{}}],\"failure\":[{}]}")));
    buffer_free(&out);
}

static void assert_refused(const ProtobufCMessageDescriptor *type, const char *json, const char *expected)
{
    struct buffer out = {0}, problem = {0};
    buffer_append_string(&out, "before");
    assert_false(transcode_from_json(type, bytes_of_string(json), NULL, &out, &problem));
    assert_false(transcode_from_json(type, bytes_of_string(json), NULL, &out, NULL));
    assert_true(bytes_equal(buffer_bytes(&out), bytes_of_string("before")));
    if (!bytes_equal(buffer_bytes(&problem), bytes_of_string(expected))) {
        fail_msg("%s: %.*s", json, (int)problem.size, (const char *)problem.data);
    }
    buffer_free(&out);
    buffer_free(&problem);
}

static void test_sentences(void **state)
{
    (void)state;
    assert_refused(PUT, "[]", "line 1, column 2: an object is expected");
    assert_refused(PUT, "{} x", "line 1, column 4: something follows the object");
    assert_refused(PUT, "{\"key\":\"aw==\",\n\"key\":1}", "line 2, column 7: the field key comes twice");
    assert_refused(PUT, "{\"key\":5}", "line 1, column 9: the field key is not a string with base64");
    assert_refused(PUT, "{\"key\":\"?\"}", "line 1, column 11: the field key is not valid base64");
    assert_refused(PUT, "{\"lease\":\"x\"}", "line 1, column 13: the field lease is not an integer of its size");
    assert_refused(PUT, "{\"prevKv\":0}", "line 1, column 12: the field prev_kv is neither true nor false");
    assert_refused(PUT, "{\"x\":[1}", "line 1, column 8: a comma or the end of the object or array is expected");
    assert_refused(TXN, "{\"success\":{}}", "line 1, column 13: the field success is not an array");
    assert_refused(TXN, "{\"success\":[null]}", "line 1, column 17: the field success is not an object");
    assert_refused(TXN, "{\"compare\":[{\"version\":1,\"lease\":2}]}",
                   "line 1, column 35: the field lease excludes another one that is there");
    assert_refused(&etcdserverpb__range_request__descriptor, "{\"sort_order\":[]}",
                   "line 1, column 16: the field sort_order is neither a name nor a number of its enum");

    struct buffer out = {0}, problem = {0};
    assert_false(transcode_to_json(TXN, bytes_of("\x12\x05\x0a", 3), &out, &problem));
    assert_true(
        bytes_equal(buffer_bytes(&problem), bytes_of_string("malformed protobuf in a etcdserverpb.TxnRequest")));
    assert_int_equal(out.size, 0);
    buffer_free(&problem);
}

static void test_used_bytes(void **state)
{
    (void)state;
    static const char text[] = " {\"key\":\"aw==\"} {\"key\":\"eA==\"}garbage";
    struct buffer out = {0};
    size_t used;
    assert_true(transcode_from_json(PUT, bytes_of_string(text), &used, &out, NULL));
    assert_int_equal(used, 15);
    assert_true(transcode_from_json(PUT, bytes_of_string(text + used), &used, &out, NULL));
    assert_int_equal(used, 15);
    assert_true(bytes_equal(buffer_bytes(&out), bytes_of("\x0a\x01k\x0a\x01x", 6)));
    assert_true(transcode_from_json(PUT, bytes_of_string(" {} \n"), NULL, &out, NULL));
    buffer_free(&out);
}

static void append_nested(struct buffer *json, size_t transactions, bool closed)
{
    for (size_t i = 0; i < transactions; i++) buffer_append_string(json, "{\"success\":[{\"request_txn\":");
    buffer_append_string(json, "{}");
    for (size_t i = 0; closed && i < transactions; i++) buffer_append_string(json, "}]}");
}

/* As deep as etcd allows goes both ways; as deep as 1.5 MiB get is refused. */
static void test_depth(void **state)
{
    (void)state;
    struct buffer json = {0};
    append_nested(&json, 128, true);
    buffer_append_byte(&json, 0);
    assert_round(TXN, (const char *)json.data, (const char *)json.data);

    buffer_clear(&json);
    append_nested(&json, 60000, false);
    assert_true(json.size > 3u << 19);
    struct buffer out = {0}, problem = {0};
    assert_false(transcode_from_json(TXN, buffer_bytes(&json), NULL, &out, &problem));
    buffer_append_byte(&problem, 0);
    assert_non_null(strstr((const char *)problem.data, "the JSON nests too deep"));

    /* And protobuf: each pass puts a head around it. */
    buffer_clear(&json);
    buffer_clear(&problem);
    for (size_t depth = 1; depth <= PROTOBUF_DEPTH_MAX; depth++) {
        struct buffer inner = json;
        json = (struct buffer){0};
        protobuf_append_bytes_present(&json, depth % 2 == 0 ? 4 : 2, buffer_bytes(&inner));
        buffer_free(&inner);
    }
    assert_false(transcode_to_json(&etcdserverpb__request_op__descriptor, buffer_bytes(&json), &out, &problem));
    assert_true(bytes_equal(buffer_bytes(&problem), bytes_of_string("the message nests deeper than 320 levels")));
    buffer_free(&json);
    buffer_free(&out);
    buffer_free(&problem);
}

static void check_kinds(const ProtobufCMessageDescriptor *type, size_t depth, size_t *fields)
{
    static const bool supported[] = {
        [PROTOBUF_C_TYPE_INT32] = true,  [PROTOBUF_C_TYPE_INT64] = true, [PROTOBUF_C_TYPE_UINT32] = true,
        [PROTOBUF_C_TYPE_UINT64] = true, [PROTOBUF_C_TYPE_BOOL] = true,  [PROTOBUF_C_TYPE_ENUM] = true,
        [PROTOBUF_C_TYPE_STRING] = true, [PROTOBUF_C_TYPE_BYTES] = true, [PROTOBUF_C_TYPE_MESSAGE] = true,
    };
    assert_true(type->n_fields <= 32);
    for (unsigned i = 0; i < type->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &type->fields[i];
        ++*fields;
        if (field->type >= sizeof supported || !supported[field->type]) fail_msg("%s.%s", type->name, field->name);
        if (field->type == PROTOBUF_C_TYPE_MESSAGE && depth < 5) check_kinds(field->descriptor, depth + 1, fields);
    }
}

/* What transcoder and checked unpacking take for granted. */
static void test_kinds_of_fields(void **state)
{
    (void)state;
    size_t fields = 0;
    const ProtobufCMessageDescriptor *type;
    for (size_t i = 0; (type = etcd_message(i)) != NULL; i++) check_kinds(type, 0, &fields);
    assert_true(fields > 400);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rounds),     cmocka_unit_test(test_any_order), cmocka_unit_test(test_sentences),
        cmocka_unit_test(test_used_bytes), cmocka_unit_test(test_depth),     cmocka_unit_test(test_kinds_of_fields),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
