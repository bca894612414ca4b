#include "wire/protobuf_message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/etcd/rpc.pb-c.h"
#include "wire/protobuf.h"

#define LITERAL(text) bytes_of(text, sizeof(text) - 1)

static enum protobuf_verdict check_said(const ProtobufCMessageDescriptor *type, struct bytes message,
                                        const char *expected)
{
    struct buffer problem = {0};
    enum protobuf_verdict verdict = protobuf_check(type, message, PROTOBUF_MEMORY_BYTES_MAX, NULL, &problem);
    if (!bytes_equal(buffer_bytes(&problem), bytes_of_string(expected))) {
        fail_msg("'%.*s' is not '%s'", (int)problem.size, (const char *)problem.data, expected);
    }
    struct arena arena = {0};
    ProtobufCMessage *unpacked;
    assert_int_equal(protobuf_unpack(type, message, PROTOBUF_MEMORY_BYTES_MAX, &arena, &unpacked, NULL), verdict);
    assert_true((unpacked != NULL) == (verdict == PROTOBUF_GOOD));
    arena_free(&arena);
    buffer_free(&problem);
    return verdict;
}

static void test_unpack(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct buffer problem = {0};
    ProtobufCMessage *message;
    assert_int_equal(protobuf_unpack(&etcdserverpb__put_request__descriptor,
                                     LITERAL("\x0a\x01k\x12\x02vv\x18\x07"
                                             "\x20\x01\xfa\x07\x03new"),
                                     PROTOBUF_MEMORY_BYTES_MAX, &arena, &message, &problem),
                     PROTOBUF_GOOD);
    const Etcdserverpb__PutRequest *put = (const Etcdserverpb__PutRequest *)message;
    assert_true(bytes_equal(bytes_of(put->key.data, put->key.len), bytes_of_string("k")));
    assert_true(bytes_equal(bytes_of(put->value.data, put->value.len), bytes_of_string("vv")));
    assert_int_equal(put->lease, 7);
    assert_true(put->prev_kv);
    assert_false(put->ignore_lease);
    assert_int_equal(problem.size, 0);

    struct buffer packed = {0};
    protobuf_pack(message, &packed);
    assert_true(packed.size > 8);
    buffer_free(&packed);
    arena_free(&arena);
}

static void test_refused(void **state)
{
    (void)state;
    const ProtobufCMessageDescriptor *put = &etcdserverpb__put_request__descriptor;
    const ProtobufCMessageDescriptor *txn = &etcdserverpb__txn_request__descriptor;
    const ProtobufCMessageDescriptor *watch = &etcdserverpb__watch_create_request__descriptor;
    const ProtobufCMessageDescriptor *member = &etcdserverpb__member_add_request__descriptor;

    assert_int_equal(check_said(put, LITERAL(""), ""), PROTOBUF_GOOD);
    assert_int_equal(check_said(put, LITERAL("\x0a\x05k"), "malformed protobuf in a etcdserverpb.PutRequest"),
                     PROTOBUF_MALFORMED);
    assert_int_equal(
        check_said(txn, LITERAL("\x12\x04\x12\x02\x0a\x09"), "malformed protobuf in a etcdserverpb.PutRequest"),
        PROTOBUF_MALFORMED);
    assert_int_equal(
        check_said(put, LITERAL("\x08\x01"), "the field key of a etcdserverpb.PutRequest has another wire type"),
        PROTOBUF_MALFORMED);
    assert_int_equal(
        check_said(put, LITERAL("\x1a\x01\x01"), "the field lease of a etcdserverpb.PutRequest has another wire type"),
        PROTOBUF_MALFORMED);
    assert_int_equal(check_said(member, LITERAL("\x0a\x01\xff"),
                                "the field peerURLs of a etcdserverpb.MemberAddRequest is not valid UTF-8"),
                     PROTOBUF_MALFORMED);
    assert_int_equal(check_said(member,
                                LITERAL("\x0a\x03"
                                        "a\0b"),
                                "the field peerURLs of a etcdserverpb.MemberAddRequest has a zero byte in it"),
                     PROTOBUF_MALFORMED);
    /* A repeated number comes packed or not. */
    assert_int_equal(check_said(watch, LITERAL("\x2a\x02\x01\x00\x28\x01"), ""), PROTOBUF_GOOD);
    assert_int_equal(check_said(watch, LITERAL("\x2a\x02\x01\x80"),
                                "the field filters of a etcdserverpb.WatchCreateRequest has malformed numbers"),
                     PROTOBUF_MALFORMED);
    /* A singular submessage comes once, and members of a repeated field as often as they like. */
    assert_int_equal(check_said(&etcdserverpb__put_response__descriptor, LITERAL("\x0a\x00\x0a\x00"),
                                "the field header of a etcdserverpb.PutResponse comes twice"),
                     PROTOBUF_MALFORMED);
    assert_int_equal(check_said(txn, LITERAL("\x0a\x00\x12\x00\x0a\x00\x12\x00\x1a\x00"), ""), PROTOBUF_GOOD);
}

/* `count` transactions within one another; each is the one operation of the one around it, which makes two levels. The
   heads are made from the inside out, so the message is built from its end. */
static struct bytes nested_transactions(size_t count, uint8_t *room, size_t capacity)
{
    uint8_t *begin = room + capacity;
    size_t size = 0;
    for (size_t level = 1; level < count; level++) {
        for (int half = 0; half < 2; half++) {
            uint8_t head[16];
            size_t head_bytes = (size_t)(protobuf_put_message_head(head, half == 0 ? 4 : 2, size) - head);
            begin -= head_bytes;
            size += head_bytes;
            memcpy(begin, head, head_bytes);
        }
    }
    assert_true(size <= capacity);
    return bytes_of(begin, size);
}

static void test_depth(void **state)
{
    (void)state;
    static uint8_t room[3u << 19];
    const ProtobufCMessageDescriptor *txn = &etcdserverpb__txn_request__descriptor;

    /* As deep as etcd allows, and what is in the innermost. */
    struct bytes allowed = nested_transactions(128 + 1, room, sizeof room);
    assert_int_equal(check_said(txn, allowed, ""), PROTOBUF_GOOD);
    struct arena arena = {0};
    ProtobufCMessage *message;
    assert_int_equal(protobuf_unpack(txn, allowed, PROTOBUF_MEMORY_BYTES_MAX, &arena, &message, NULL), PROTOBUF_GOOD);
    const Etcdserverpb__TxnRequest *at = (const Etcdserverpb__TxnRequest *)message;
    size_t levels = 1;
    for (; at->n_success == 1; levels++) at = at->success[0]->request_txn;
    assert_int_equal(levels, 129);
    struct buffer packed = {0};
    protobuf_pack(message, &packed);
    assert_true(bytes_equal(buffer_bytes(&packed), allowed));
    buffer_free(&packed);
    arena_free(&arena);

    /* The limit itself. */
    assert_int_equal(check_said(txn, nested_transactions(PROTOBUF_DEPTH_MAX / 2, room, sizeof room), ""),
                     PROTOBUF_GOOD);
    assert_int_equal(check_said(txn, nested_transactions(PROTOBUF_DEPTH_MAX / 2 + 1, room, sizeof room),
                                "the message nests deeper than 320 levels"),
                     PROTOBUF_TOO_DEEP);
    /* As deep as 1.5 MiB get. */
    struct bytes deepest = nested_transactions(190000, room, sizeof room);
    assert_true(deepest.size > 3u << 18);
    assert_int_equal(check_said(txn, deepest, "the message nests deeper than 320 levels"), PROTOBUF_TOO_DEEP);
}

/* The worst that a message of each kind can do is refused, and what clients send isn't. */
static void test_memory(void **state)
{
    (void)state;
    enum { REQUEST_BYTES_MAX = 3 << 19 };
    const ProtobufCMessageDescriptor *txn = &etcdserverpb__txn_request__descriptor;
    static const struct {
        const char *bytes;
        size_t size;
        enum protobuf_verdict verdict;
    } cases[] = {
        {"\x12\x07\x12\x05\x0a\x01k\x12\x00", 9, PROTOBUF_GOOD}, /* put k */
        {"\x12\x05\x12\x03\x0a\x01k", 7, PROTOBUF_GOOD},         /* the same without its empty value */
        {"\x12\x05\x1a\x03\x0a\x01k", 7, PROTOBUF_GOOD},         /* delete k */
        {"\x12\x02\x0a\x00", 4, PROTOBUF_TOO_LARGE},             /* a range without its key */
        {"\x0a\x00", 2, PROTOBUF_TOO_LARGE},                     /* an empty comparison */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buffer message = {0};
        while (message.size + cases[i].size <= REQUEST_BYTES_MAX) {
            buffer_append(&message, cases[i].bytes, cases[i].size);
        }
        size_t checked;
        enum protobuf_verdict verdict =
            protobuf_check(txn, buffer_bytes(&message), PROTOBUF_MEMORY_BYTES_MAX, &checked, NULL);
        if (verdict != cases[i].verdict) fail_msg("case %zu: verdict %d, %zu bytes", i, (int)verdict, checked);

        /* However little memory is allowed, no more than that is taken. */
        struct arena arena = {0};
        ProtobufCMessage *unpacked;
        assert_int_equal(protobuf_check(txn, buffer_bytes(&message), SIZE_MAX, &checked, NULL), PROTOBUF_GOOD);
        assert_int_equal(protobuf_unpack(txn, buffer_bytes(&message), checked - 1, &arena, &unpacked, NULL),
                         PROTOBUF_TOO_LARGE);
        assert_int_equal(arena.used_bytes, 0);
        assert_int_equal(protobuf_unpack(txn, buffer_bytes(&message), checked, &arena, &unpacked, NULL), PROTOBUF_GOOD);
        assert_true(arena.used_bytes <= checked);
        assert_true(arena.used_bytes > checked - checked / 4);
        print_message("case %zu: %zu bytes unpack to %zu, checked as %zu: %.1f for one\n", i, message.size,
                      arena.used_bytes, checked, (double)checked / (double)message.size);
        arena_free(&arena);
        buffer_free(&message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unpack),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
