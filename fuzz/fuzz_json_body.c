/*
 * fuzz_json_body.c - any bytes as the body of a put; and as key and value, out and in again.
 */
#include "api/api.h"
#include "base/check.h"
#include "base/mem.h"
#include "wire/base64.h"
#include "wire/json.h"
#include "wire/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A replica that isn't there: only its store is looked at. */
struct replica {
    struct store *store;
};

const struct store *replica_store(const struct replica *replica)
{
    return replica->store;
}

void replica_status(const struct replica *replica, struct replica_status *out)
{
    (void)replica;
    *out = (struct replica_status){0};
}

/* What the quick reader takes, the complete one takes too, and means the same by. */
static void compare_readers(struct bytes text)
{
    struct json_plain_member members[8];
    size_t count;
    if (!json_read_plain(text, members, ARRAY_COUNT(members), &count)) return;
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < i; j++) {
            if (bytes_equal(members[i].name, members[j].name)) return;
        }
    }
    json_t *object = json_read_object(text, JSON_DEPTH_MAX_DEFAULT, JSON_VALUES_MAX_DEFAULT, NULL);
    CHECK(object != NULL && json_object_size(object) == count);
    for (size_t i = 0; i < count; i++) {
        struct buffer name = {0};
        buffer_append(&name, members[i].name.data, members[i].name.size);
        buffer_append_byte(&name, 0);
        json_t *value = json_object_get(object, (const char *)name.data);
        buffer_free(&name);
        CHECK(bytes_equal(bytes_of(json_string_value(value), json_string_length(value)), members[i].value));
    }
    json_decref(object);
}

static struct bytes field_of(json_t *object, const char *plain, const char *base64, struct buffer *room)
{
    json_t *value = json_object_get(object, plain);
    if (value != NULL) return bytes_of(json_string_value(value), json_string_length(value));
    value = json_object_get(object, base64);
    struct bytes text = bytes_of(json_string_value(value), json_string_length(value));
    size_t size = base64_decoded_bytes(text);
    CHECK(size != SIZE_MAX);
    buffer_reserve(room, size + 1);
    CHECK(base64_decode(text, room->data));
    return bytes_of(room->data, size);
}

/* An answer is a whole response with a JSON object. */
static json_t *read_answer(const struct buffer *out, int status_min, int status_max)
{
    struct http1_response_parser *parser = http1_response_parser_new(64u << 20);
    http1_response_parser_feed(parser, buffer_bytes(out));
    struct http1_response_view view;
    CHECK(http1_response_parser_next(parser, false, &view) == ERR_OK);
    CHECK(view.status >= status_min && view.status <= status_max);
    json_t *object = json_read_object(view.body, 4, 16, NULL);
    CHECK(object != NULL);
    http1_response_parser_free(parser);
    return object;
}

/* Gets what was just put, as the client would. */
static void get_back(struct api *api, struct store *store, const struct command *command)
{
    store_begin(store);
    store_put(store, command->key, command->value, 0, NULL);
    store_end(store);
    struct api_call call = {.keep_alive = true};
    struct buffer path = {0}, out = {0}, key_room = {0}, value_room = {0};
    buffer_append_string(&path, "/v1/data/");
    for (size_t i = 0; i < command->key.size; i++) buffer_append_format(&path, "%%%02x", command->key.data[i]);
    struct http1_request request = {.method = HTTP1_GET, .path = buffer_bytes(&path), .keep_alive = true};
    CHECK(api_begin(api, &call, &request, &out) == API_READ);
    struct replica_result result = {0};
    api_finish(api, &call, &result, &out);
    json_t *object = read_answer(&out, 200, 200);
    CHECK(bytes_equal(field_of(object, "k", "k_base64", &key_room), command->key));
    CHECK(bytes_equal(field_of(object, "v", "v_base64", &value_room), command->value));
    json_decref(object);
    api_call_free(&call);
    buffer_free(&path);
    buffer_free(&out);
    buffer_free(&key_room);
    buffer_free(&value_room);
}

static void put_body(struct bytes body)
{
    struct replica replica = {.store = store_new()};
    struct api_host host = {.version = "1", .node_id = "n", .value_bytes_max = 100000};
    struct api api = {.replica = &replica, .host = &host};
    struct api_call call = {0};
    struct buffer out = {0};
    struct http1_request request = {
        .method = HTTP1_POST,
        .path = bytes_of_string("/v1/data"),
        .body = body,
        .keep_alive = true,
    };
    enum api_wait wait = api_begin(&api, &call, &request, &out);
    if (wait == API_DONE) {
        json_decref(read_answer(&out, 400, 413));
    } else {
        CHECK(wait == API_PROPOSE);
        struct command command;
        CHECK(command_format_decode(entry_payload_bytes(call.command), &command) == ERR_OK);
        CHECK(command.kind == COMMAND_PUT && command.value.size <= host.value_bytes_max);
        get_back(&api, replica.store, &command);
    }
    api_call_free(&call);
    buffer_free(&out);
    store_free(replica.store);
}

static void write_and_read(struct bytes text)
{
    struct buffer out = {0};
    buffer_append_string(&out, "{\"a\":");
    size_t begin = out.size;
    json_write_string(&out, text);
    size_t written = out.size - begin;
    buffer_append_byte(&out, '}');
    CHECK(json_string_bytes(text) == (utf8_valid(text) ? written : 0));
    json_t *object = json_read_object(buffer_bytes(&out), 4, 4, NULL);
    CHECK(object != NULL);
    json_t *value = json_object_get(object, "a");
    if (utf8_valid(text)) {
        CHECK(bytes_equal(bytes_of(json_string_value(value), json_string_length(value)), text));
    }
    json_decref(object);

    buffer_clear(&out);
    base64_encode(text, &out);
    CHECK(base64_decoded_bytes(buffer_bytes(&out)) == text.size);
    uint8_t *decoded = mem_alloc(text.size + 1);
    CHECK(base64_decode(buffer_bytes(&out), decoded) && bytes_equal(bytes_of(decoded, text.size), text));
    /* And the bytes as a text: what is taken is the one text of its bytes. */
    size_t decoded_bytes = base64_decoded_bytes(text);
    if (decoded_bytes != SIZE_MAX && base64_decode(text, decoded)) {
        buffer_clear(&out);
        base64_encode(bytes_of(decoded, decoded_bytes), &out);
        CHECK(bytes_equal(buffer_bytes(&out), text));
    }
    mem_free(decoded);
    buffer_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool seeded;
    if (!seeded) json_object_seed(1);
    seeded = true;
    struct bytes input = bytes_of(data, size);
    compare_readers(input);
    put_body(input);
    write_and_read(input);
    return 0;
}
