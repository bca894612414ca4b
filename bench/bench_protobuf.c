/*
 * bench_protobuf.c - what the etcd v3 interface's bytes cost: protobuf by hand, by protobuf-c, and from and to JSON.
 *
 *     bench_protobuf [ROUNDS]
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/check.h"
#include "proto/etcd/rpc.pb-c.h"
#include "wire/base64.h"
#include "wire/protobuf.h"
#include "wire/protobuf_message.h"
#include "wire/transcode.h"

#define VALUE_BYTES 256
#define KEY "0123456789abcdef"
#define KEY_COUNT 1000

static double cpu_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void report(const char *what, double seconds, long rounds)
{
    printf("%-64s %8.0f ns\n", what, seconds / (double)rounds * 1e9);
}

struct put {
    struct bytes key;
    struct bytes value;
    int64_t lease;
    bool prev_kv;
};

static bool read_put(struct bytes message, struct put *put)
{
    *put = (struct put){0};
    struct protobuf_reader reader = protobuf_reader_of(message);
    struct protobuf_field field;
    while (protobuf_next(&reader, &field)) {
        switch (field.tag) {
        case PROTOBUF_TAG(1, PROTOBUF_BYTES):
            put->key = field.bytes;
            break;
        case PROTOBUF_TAG(2, PROTOBUF_BYTES):
            put->value = field.bytes;
            break;
        case PROTOBUF_TAG(3, PROTOBUF_VARINT):
            put->lease = (int64_t)field.value;
            break;
        case PROTOBUF_TAG(4, PROTOBUF_VARINT):
            put->prev_kv = field.value != 0;
            break;
        default:
            break;
        }
    }
    return !reader.failed;
}

static void bench_by_hand(struct bytes message, long rounds)
{
    double begin = cpu_seconds();
    for (long i = 0; i < rounds; i++) {
        struct put put;
        CHECK(read_put(message, &put));
        __asm__ volatile("" ::"r"(&put) : "memory");
    }
    report("PutRequest, 256-byte value: read by hand", cpu_seconds() - begin, rounds);
}

static void bench_unpack(const char *what, const ProtobufCMessageDescriptor *type, struct bytes message, long rounds)
{
    char line[80];
    double begin = cpu_seconds();
    for (long i = 0; i < rounds; i++) {
        CHECK(protobuf_check(type, message, PROTOBUF_MEMORY_BYTES_MAX, NULL, NULL) == PROTOBUF_GOOD);
    }
    snprintf(line, sizeof line, "%s: checked", what);
    report(line, cpu_seconds() - begin, rounds);
    struct arena arena = {0};
    begin = cpu_seconds();
    for (long i = 0; i < rounds; i++) {
        ProtobufCMessage *unpacked;
        CHECK(protobuf_unpack(type, message, PROTOBUF_MEMORY_BYTES_MAX, &arena, &unpacked, NULL) == PROTOBUF_GOOD);
        arena_reset(&arena);
    }
    snprintf(line, sizeof line, "%s: checked and unpacked by protobuf-c", what);
    report(line, cpu_seconds() - begin, rounds);
    arena_free(&arena);
}

static void bench_from_json(const char *what, const ProtobufCMessageDescriptor *type, struct bytes json, long rounds)
{
    struct buffer out = {0};
    double begin = cpu_seconds();
    for (long i = 0; i < rounds; i++) {
        buffer_clear(&out);
        CHECK(transcode_from_json(type, json, NULL, &out, NULL));
    }
    report(what, cpu_seconds() - begin, rounds);
    buffer_free(&out);
}

static void bench_to_json(const char *what, const ProtobufCMessageDescriptor *type, struct bytes message, long rounds)
{
    struct buffer out = {0};
    double begin = cpu_seconds();
    for (long i = 0; i < rounds; i++) {
        buffer_clear(&out);
        CHECK(transcode_to_json(type, message, &out, NULL));
    }
    report(what, cpu_seconds() - begin, rounds);
    buffer_free(&out);
}

/* Sizes up front, then straight into the buffer: what an answer's writer does for each key. */
static void append_key_value(struct buffer *out, struct bytes value, uint64_t revision)
{
    struct bytes key = bytes_of_string(KEY);
    size_t size = protobuf_size_bytes(1, key.size) + protobuf_size_number(2, revision) +
                  protobuf_size_number(3, revision) + protobuf_size_number(4, 1) + protobuf_size_bytes(5, value.size);
    size_t whole = protobuf_size_message(2, size);
    buffer_reserve(out, whole);
    uint8_t *at = protobuf_put_message_head(out->data + out->size, 2, size);
    at = protobuf_put_bytes(at, 1, key);
    at = protobuf_put_number(at, 2, revision);
    at = protobuf_put_number(at, 3, revision);
    at = protobuf_put_number(at, 4, 1);
    protobuf_put_bytes(at, 5, value);
    out->size += whole;
}

static void bench_answers(struct bytes value, long rounds)
{
    struct buffer answer = {0};
    double begin = cpu_seconds();
    for (long i = 0; i < rounds; i++) {
        if (i % KEY_COUNT == 0) buffer_clear(&answer);
        append_key_value(&answer, value, 123456789 + (uint64_t)i);
    }
    report("a KeyValue of a RangeResponse: written by hand", cpu_seconds() - begin, rounds);

    buffer_clear(&answer);
    for (uint64_t i = 0; i < KEY_COUNT; i++) append_key_value(&answer, value, 123456789 + i);
    struct buffer json = {0};
    long passes = rounds / KEY_COUNT + 1;
    begin = cpu_seconds();
    for (long i = 0; i < passes; i++) {
        buffer_clear(&json);
        CHECK(transcode_to_json(&etcdserverpb__range_response__descriptor, buffer_bytes(&answer), &json, NULL));
    }
    report("a KeyValue of a RangeResponse: protobuf to JSON", cpu_seconds() - begin, passes * KEY_COUNT);
    buffer_free(&json);
    buffer_free(&answer);
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? atol(argv[1]) : 1000000;
    if (rounds <= 0) {
        fprintf(stderr, "usage: bench_protobuf [ROUNDS]\n");
        return 2;
    }
    uint8_t value_bytes[VALUE_BYTES];
    for (size_t i = 0; i < VALUE_BYTES; i++) value_bytes[i] = (uint8_t)(i * 167 + 13);
    struct bytes value = bytes_of(value_bytes, VALUE_BYTES);

    struct buffer put = {0};
    protobuf_append_bytes(&put, 1, bytes_of_string(KEY));
    protobuf_append_bytes(&put, 2, value);
    bench_by_hand(buffer_bytes(&put), rounds * 10);
    bench_unpack("PutRequest", &etcdserverpb__put_request__descriptor, buffer_bytes(&put), rounds);

    struct buffer range = {0};
    protobuf_append_bytes(&range, 1, bytes_of_string(KEY));
    protobuf_append_bytes(&range, 2, bytes_of_string(KEY));
    protobuf_append_number(&range, 3, 500);
    protobuf_append_number(&range, 7, 1);
    bench_unpack("RangeRequest", &etcdserverpb__range_request__descriptor, buffer_bytes(&range), rounds);

    struct buffer txn = {0}; /* what Kubernetes updates an object with */
    buffer_append_string(&txn, "{\"compare\":[{\"target\":\"MOD\",\"key\":\"MDEyMzQ1Njc4OWFiY2RlZg==\","
                               "\"mod_revision\":\"123456\"}],\"success\":[{\"request_put\":{\"key\":"
                               "\"MDEyMzQ1Njc4OWFiY2RlZg==\",\"value\":\"");
    base64_encode(value, &txn);
    buffer_append_string(&txn, "\"}}],\"failure\":[{\"request_range\":{\"key\":\"MDEyMzQ1Njc4OWFiY2RlZg==\"}}]}");
    struct buffer txn_message = {0};
    CHECK(transcode_from_json(&etcdserverpb__txn_request__descriptor, buffer_bytes(&txn), NULL, &txn_message, NULL));
    bench_unpack("a compare-and-set", &etcdserverpb__txn_request__descriptor, buffer_bytes(&txn_message), rounds);

    struct buffer json = {0};
    buffer_append_string(&json, "{\"key\":\"MDEyMzQ1Njc4OWFiY2RlZg==\",\"value\":\"");
    base64_encode(value, &json);
    buffer_append_string(&json, "\"}");
    bench_from_json("PutRequest: JSON to protobuf", &etcdserverpb__put_request__descriptor, buffer_bytes(&json),
                    rounds);
    bench_from_json("RangeRequest: JSON to protobuf", &etcdserverpb__range_request__descriptor,
                    bytes_of_string("{\"key\":\"MDEyMzQ1Njc4OWFiY2RlZg==\"}"), rounds);
    bench_from_json("a compare-and-set: JSON to protobuf", &etcdserverpb__txn_request__descriptor, buffer_bytes(&txn),
                    rounds);

    struct buffer answer = {0};
    const uint64_t header[] = {14841639068965178418u, 10276657743932975437u, 123456789, 7};
    struct buffer header_message = {0};
    for (uint32_t i = 0; i < 4; i++) protobuf_append_number(&header_message, i + 1, header[i]);
    protobuf_append_bytes(&answer, 1, buffer_bytes(&header_message));
    bench_to_json("PutResponse: protobuf to JSON", &etcdserverpb__put_response__descriptor, buffer_bytes(&answer),
                  rounds);
    bench_answers(value, rounds);

    buffer_free(&header_message);
    buffer_free(&answer);
    buffer_free(&json);
    buffer_free(&txn_message);
    buffer_free(&txn);
    buffer_free(&range);
    buffer_free(&put);
    return 0;
}
