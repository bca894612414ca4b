/*
 * echo.c - our side of test/etcd/wire: a line in, a line out.
 *
 *     TO MESSAGE-NAME BASE64        protobuf to JSON
 *     FROM MESSAGE-NAME BASE64      JSON to protobuf, which comes out as base64
 *     UNPACK MESSAGE-NAME BASE64    protobuf unpacked by protobuf-c and packed again
 *
 * The answer is "good RESULT" or "bad SENTENCE".
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/mem.h"
#include "test/unit/etcd_messages.h"
#include "wire/base64.h"
#include "wire/protobuf_message.h"
#include "wire/transcode.h"

static const ProtobufCMessageDescriptor *find(const char *name)
{
    const ProtobufCMessageDescriptor *type;
    for (size_t i = 0; (type = etcd_message(i)) != NULL; i++) {
        if (strcmp(type->name, name) == 0) return type;
    }
    return NULL;
}

static bool unpack_and_pack(const ProtobufCMessageDescriptor *type, struct bytes message, struct buffer *out,
                            struct buffer *problem)
{
    struct arena arena = {0};
    ProtobufCMessage *unpacked;
    bool good = protobuf_unpack(type, message, PROTOBUF_MEMORY_BYTES_MAX, &arena, &unpacked, problem) == PROTOBUF_GOOD;
    if (good) protobuf_pack(unpacked, out);
    arena_free(&arena);
    return good;
}

static void answer(char *line)
{
    char *what = strtok(line, " \n");
    char *name = strtok(NULL, " \n");
    char *base64 = strtok(NULL, " \n");
    const ProtobufCMessageDescriptor *type = find(name);
    CHECK(type != NULL);
    struct bytes text = bytes_of_string(base64 == NULL ? "" : base64);
    size_t size = base64_decoded_bytes(text);
    CHECK(size != SIZE_MAX);
    uint8_t *input = mem_alloc(size); /* its exact size, for the sanitizers */
    CHECK(size == 0 || base64_decode(text, input));

    struct buffer out = {0}, problem = {0};
    bool good;
    bool is_json = false;
    if (strcmp(what, "TO") == 0) {
        good = transcode_to_json(type, bytes_of(input, size), &out, &problem);
        is_json = true;
    } else if (strcmp(what, "FROM") == 0) {
        good = transcode_from_json(type, bytes_of(input, size), NULL, &out, &problem);
    } else {
        good = unpack_and_pack(type, bytes_of(input, size), &out, &problem);
    }
    CHECK(good ? problem.size == 0 : out.size == 0 && problem.size > 0);
    struct buffer result = {0};
    if (good && is_json) {
        buffer_append(&result, out.data, out.size);
    } else if (good) {
        base64_encode(buffer_bytes(&out), &result);
    } else {
        buffer_append(&result, problem.data, problem.size);
    }
    printf("%s %.*s\n", good ? "good" : "bad", (int)result.size, (const char *)result.data);
    buffer_free(&result);
    buffer_free(&out);
    buffer_free(&problem);
    mem_free(input);
}

int main(void)
{
    char *line = NULL;
    size_t capacity = 0;
    while (getline(&line, &capacity, stdin) > 0) answer(line);
    free(line);
    return 0;
}
