/*
 * fuzz_transcode.c - any bytes as JSON and as protobuf of any message of the etcd v3 interface: the first byte says which.
 *
 * What comes out either way is good input for the other way, and after one round nothing changes any more.
 */
#include "base/check.h"
#include "test/unit/etcd_messages.h"
#include "wire/json_reader.h"
#include "wire/protobuf_message.h"
#include "wire/transcode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool to_json(const ProtobufCMessageDescriptor *type, struct bytes message, struct buffer *out)
{
    struct buffer problem = {0};
    bool good = transcode_to_json(type, message, out, &problem);
    CHECK(good ? problem.size == 0 : problem.size > 0 && out->size == 0);
    buffer_free(&problem);
    return good;
}

static bool from_json(const ProtobufCMessageDescriptor *type, struct bytes text, struct buffer *out)
{
    struct buffer problem = {0};
    bool good = transcode_from_json(type, text, NULL, out, &problem);
    CHECK(good ? problem.size == 0 : problem.size > 0 && out->size == 0);
    buffer_free(&problem);
    return good;
}

/* Only protobuf can be that deep, or hold strings that JSON's reader takes and protobuf-c doesn't. */
static bool is_checked(const ProtobufCMessageDescriptor *type, struct bytes message)
{
    return protobuf_check(type, message, PROTOBUF_MEMORY_BYTES_MAX, NULL, NULL) == PROTOBUF_GOOD;
}

/* JSON -> protobuf -> JSON -> protobuf: the second and the third are the last's equals. */
static void round_from(const ProtobufCMessageDescriptor *type, struct bytes json)
{
    struct buffer message = {0}, json_again = {0}, message_again = {0}, json_last = {0};
    if (to_json(type, json, &json_again)) CHECK(json_again.data[0] == '{');
    buffer_clear(&json_again);
    if (from_json(type, json, &message) && to_json(type, buffer_bytes(&message), &json_again) &&
        from_json(type, buffer_bytes(&json_again), &message_again)) {
        CHECK(to_json(type, buffer_bytes(&message_again), &json_last));
        CHECK(bytes_equal(buffer_bytes(&json_again), buffer_bytes(&json_last)));
        struct json_splitter splitter = {0};
        struct bytes value;
        CHECK(json_splitter_next(&splitter, buffer_bytes(&json_last), &value) && value.size == json_last.size);
    }
    buffer_free(&message);
    buffer_free(&json_again);
    buffer_free(&message_again);
    buffer_free(&json_last);
}

static void round_to(const ProtobufCMessageDescriptor *type, struct bytes message)
{
    struct buffer json = {0}, message_again = {0}, json_again = {0};
    bool checked = is_checked(type, message);
    bool good = to_json(type, message, &json);
    if (checked) CHECK(good);
    /* A level of protobuf takes up to two of JSON. */
    if (good && from_json(type, buffer_bytes(&json), &message_again)) {
        if (checked) CHECK(is_checked(type, buffer_bytes(&message_again)));
        CHECK(to_json(type, buffer_bytes(&message_again), &json_again));
        CHECK(bytes_equal(buffer_bytes(&json), buffer_bytes(&json_again)));
    } else if (good) {
        CHECK(json.size > JSON_READER_DEPTH_MAX); /* too deep, which is all that can be wrong with it */
    }
    buffer_free(&json);
    buffer_free(&message_again);
    buffer_free(&json_again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    const ProtobufCMessageDescriptor *type = etcd_message(data[0]);
    if (type == NULL || type == &grpc__health__v1__health_list_response__descriptor) return -1;
    struct bytes input = bytes_of(data + 1, size - 1);
    round_from(type, input);
    round_to(type, input);
    return 0;
}
