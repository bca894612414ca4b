/*
 * rest.c - /v1/data: one key, put, got or deleted.
 */
#include "api/handlers.h"
#include "api/reply.h"
#include "base/check.h"
#include "wire/base64.h"
#include "wire/json.h"

static enum api_wait refuse(struct api_call *call, enum error error, struct bytes message, struct buffer *out)
{
    api_reply_error(call, error, message, out);
    return API_DONE;
}

/* Whether the node takes requests for data at all. */
static enum error admission(const struct api *api)
{
    if (api->host->shutting_down) return ERR_SHUTTING_DOWN;
    return api->replica == NULL ? ERR_NOT_READY : ERR_OK;
}

/* ---- put: the body ---- */

enum field { FIELD_K, FIELD_K_BASE64, FIELD_V, FIELD_V_BASE64, FIELD_COUNT };

static const char *const field_names[FIELD_COUNT] = {"k", "k_base64", "v", "v_base64"};

/* The body's fields; NULL data: not there. */
struct put_body {
    struct bytes fields[FIELD_COUNT];
};

static enum field field_of(struct bytes name)
{
    size_t field = 0;
    while (field < FIELD_COUNT && !bytes_equal(name, bytes_of_string(field_names[field]))) field++;
    return (enum field)field;
}

/* False: let the complete reader tell what the body is. */
static bool read_plain_body(struct bytes text, struct put_body *body)
{
    struct json_plain_member members[2];
    size_t count;
    if (!json_read_plain(text, members, ARRAY_COUNT(members), &count)) return false;
    for (size_t i = 0; i < count; i++) {
        enum field field = field_of(members[i].name);
        if (field == FIELD_COUNT || body->fields[field].data != NULL) return false;
        body->fields[field] = members[i].value;
    }
    return true;
}

/* The views in *body live as long as the object. */
static enum error read_object_body(json_t *object, struct put_body *body, struct buffer *why)
{
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value)
    {
        enum field field = field_of(bytes_of_string(name));
        if (field == FIELD_COUNT) {
            buffer_append_string(why, "there is no field ");
            json_write_string(why, bytes_of_string(name));
            buffer_append_string(why, "; a put has \"k\" or \"k_base64\", and \"v\" or \"v_base64\"");
            return ERR_BAD_REQUEST;
        }
        if (!json_is_string(value)) {
            buffer_append_format(why, "\"%s\" must be a string", name);
            return ERR_BAD_REQUEST;
        }
        body->fields[field] = bytes_of(json_string_value(value), json_string_length(value));
    }
    return ERR_OK;
}

/* How many bytes a key or value is, which may come in one of two fields. ERR_EMPTY_KEY stands for neither. */
static enum error size_of(const struct put_body *body, enum field plain, enum field base64, size_t *size,
                          struct buffer *why)
{
    if (body->fields[plain].data != NULL && body->fields[base64].data != NULL) {
        buffer_append_format(why, "\"%s\" and \"%s\" exclude each other", field_names[plain], field_names[base64]);
        return ERR_BAD_REQUEST;
    }
    if (body->fields[plain].data != NULL) {
        *size = body->fields[plain].size;
        return ERR_OK;
    }
    if (body->fields[base64].data == NULL) return ERR_EMPTY_KEY;
    *size = base64_decoded_bytes(body->fields[base64]);
    if (*size != SIZE_MAX) return ERR_OK;
    buffer_append_format(why, "\"%s\" is not base64: its length must be a multiple of 4", field_names[base64]);
    return ERR_BAD_REQUEST;
}

static enum error fill(const struct put_body *body, enum field plain, enum field base64, uint8_t *to,
                       struct buffer *why)
{
    struct bytes text = body->fields[plain];
    if (text.data != NULL) {
        memcpy(to, text.data, text.size);
        return ERR_OK;
    }
    if (base64_decode(body->fields[base64], to)) return ERR_OK;
    buffer_append_format(why, "\"%s\" is not base64 (RFC 4648, standard alphabet, padded)", field_names[base64]);
    return ERR_BAD_REQUEST;
}

/* The value is limited by configuration, and by what an entry can hold beside the largest key. */
static uint64_t value_bytes_max(const struct api *api)
{
    uint64_t room = ENTRY_PAYLOAD_BYTES_MAX - COMMAND_HEADER_BYTES - STORE_KEY_BYTES_MAX;
    return api->host->value_bytes_max < room ? api->host->value_bytes_max : room;
}

static enum error make_put(const struct api *api, const struct put_body *body, struct entry **out, struct buffer *why)
{
    size_t key_bytes, value_bytes;
    enum error error = size_of(body, FIELD_K, FIELD_K_BASE64, &key_bytes, why);
    if (error == ERR_EMPTY_KEY || (error == ERR_OK && key_bytes == 0)) {
        buffer_append_string(why, "the key is missing or empty: give it as \"k\", a string");
        return ERR_EMPTY_KEY;
    }
    if (error != ERR_OK) return error;
    if (key_bytes > STORE_KEY_BYTES_MAX) {
        buffer_append_format(why, "the key has %zu bytes; the limit is %u", key_bytes, STORE_KEY_BYTES_MAX);
        return ERR_KEY_TOO_LARGE;
    }
    error = size_of(body, FIELD_V, FIELD_V_BASE64, &value_bytes, why);
    if (error == ERR_EMPTY_KEY) {
        buffer_append_string(why, "the value is missing: give it as \"v\", a string (it may be empty)");
        return ERR_BAD_REQUEST;
    }
    if (error != ERR_OK) return error;
    if (value_bytes > value_bytes_max(api)) {
        buffer_append_format(why, "the value has %zu bytes; the limit is %llu", value_bytes,
                             (unsigned long long)value_bytes_max(api));
        return ERR_TOO_LARGE;
    }

    uint8_t *key_at, *value_at;
    struct entry *entry = command_put_room(key_bytes, value_bytes, &key_at, &value_at);
    error = fill(body, FIELD_K, FIELD_K_BASE64, key_at, why);
    if (error == ERR_OK) error = fill(body, FIELD_V, FIELD_V_BASE64, value_at, why);
    if (error != ERR_OK) {
        entry_unref(entry);
        return error;
    }
    *out = entry;
    return ERR_OK;
}

static enum error read_put(const struct api *api, struct bytes text, struct entry **out, struct buffer *why)
{
    struct put_body body = {0};
    if (read_plain_body(text, &body)) return make_put(api, &body, out, why);

    body = (struct put_body){0};
    json_t *object = json_read_object(text, JSON_DEPTH_MAX_DEFAULT, JSON_VALUES_MAX_DEFAULT, why);
    if (object == NULL) return ERR_BAD_JSON;
    enum error error = read_object_body(object, &body, why);
    if (error == ERR_OK) error = make_put(api, &body, out, why);
    json_decref(object);
    return error;
}

enum api_wait api_data_begin(struct api *api, struct api_call *call, const struct http1_request *request,
                             struct buffer *out)
{
    if (request->method != HTTP1_POST) {
        api_reply_bad_method(call, "POST", out);
        return API_DONE;
    }
    enum error error = admission(api);
    if (error != ERR_OK) return refuse(call, error, bytes_of(NULL, 0), out);
    struct buffer why = {0};
    error = read_put(api, request->body, &call->command, &why);
    if (error != ERR_OK) {
        refuse(call, error, buffer_bytes(&why), out);
        buffer_free(&why);
        return API_DONE;
    }
    call->route = API_ROUTE_PUT;
    return API_PROPOSE;
}

/* ---- get and delete: the key in the path ---- */

enum api_wait api_key_begin(struct api *api, struct api_call *call, const struct http1_request *request,
                            struct bytes encoded_key, struct buffer *out)
{
    bool deletes = request->method == HTTP1_DELETE;
    if (!deletes && request->method != HTTP1_GET && request->method != HTTP1_HEAD) {
        api_reply_bad_method(call, "GET, HEAD, DELETE", out);
        return API_DONE;
    }
    buffer_clear(&call->key);
    if (!http1_percent_decode(encoded_key, &call->key)) {
        return refuse(call, ERR_BAD_REQUEST,
                      bytes_of_string("the key in the path has a '%' that two hexadecimal digits don't follow; "
                                      "write a '%' itself as %25"),
                      out);
    }
    if (call->key.size == 0) return refuse(call, ERR_EMPTY_KEY, bytes_of(NULL, 0), out);
    if (call->key.size > STORE_KEY_BYTES_MAX) return refuse(call, ERR_KEY_TOO_LARGE, bytes_of(NULL, 0), out);
    enum error error = admission(api);
    if (error != ERR_OK) return refuse(call, error, bytes_of(NULL, 0), out);
    if (deletes) {
        call->command = command_delete(buffer_bytes(&call->key));
        call->route = API_ROUTE_DELETE;
        return API_PROPOSE;
    }
    call->route = API_ROUTE_GET;
    return API_READ;
}

/* ---- results ---- */

/* A field's bytes in JSON: as a string, or when they aren't UTF-8 as base64 under a name that says so. */
struct value_field {
    const char *name;
    struct bytes bytes;
    size_t string_bytes; /* 0: base64 */
};

static struct value_field value_field(const char *plain_name, const char *base64_name, struct bytes bytes)
{
    size_t string_bytes = json_string_bytes(bytes);
    return (struct value_field){string_bytes > 0 ? plain_name : base64_name, bytes, string_bytes};
}

static size_t value_field_bytes(const struct value_field *field)
{
    size_t value = field->string_bytes > 0 ? field->string_bytes : base64_encoded_bytes(field->bytes.size) + 2;
    return strlen(field->name) + value;
}

static void write_value_field(const struct value_field *field, struct buffer *out)
{
    buffer_append_string(out, field->name);
    if (field->string_bytes == field->bytes.size + 2) {
        buffer_append_byte(out, '"');
        buffer_append(out, field->bytes.data, field->bytes.size);
        buffer_append_byte(out, '"');
    } else if (field->string_bytes > 0) {
        json_write_string(out, field->bytes);
    } else {
        buffer_append_byte(out, '"');
        base64_encode(field->bytes, out);
        buffer_append_byte(out, '"');
    }
}

/* The size is known before the body is written, so it goes where it belongs at once. */
static void reply_value(const struct api_call *call, struct bytes value, struct buffer *out)
{
    struct value_field fields[2] = {
        value_field("{\"k\":", "{\"k_base64\":", buffer_bytes(&call->key)),
        value_field(",\"v\":", ",\"v_base64\":", value),
    };
    size_t body_bytes = value_field_bytes(&fields[0]) + value_field_bytes(&fields[1]) + 1;
    http1_response_head(out, 200, API_JSON, "", body_bytes, call->keep_alive);
    if (call->head) return;
    buffer_reserve(out, body_bytes);
    size_t begin = out->size;
    write_value_field(&fields[0], out);
    write_value_field(&fields[1], out);
    buffer_append_byte(out, '}');
    CHECK(out->size - begin == body_bytes);
}

static void reply_get(const struct api *api, const struct api_call *call, struct buffer *out)
{
    const struct store_record *record;
    enum error error = store_get(replica_store(api->replica), buffer_bytes(&call->key), 0, &record);
    if (error == ERR_OK) {
        reply_value(call, store_record_value(record), out);
    } else {
        api_reply_error(call, error, bytes_of(NULL, 0), out);
    }
}

static void reply_revision(const struct api_call *call, const char *before, store_revision revision, struct buffer *out)
{
    uint8_t room[64];
    struct buffer body = {.data = room, .capacity = sizeof room}; /* enough, so it never grows */
    buffer_append_string(&body, before);
    buffer_append_decimal(&body, (uint64_t)revision);
    buffer_append_byte(&body, '}');
    http1_response(out, 200, API_JSON, "", buffer_bytes(&body), call->keep_alive, call->head);
}

void api_data_finish(struct api *api, struct api_call *call, const struct replica_result *result, struct buffer *out)
{
    if (result->error != ERR_OK) {
        api_reply_error(call, result->error, bytes_of(NULL, 0), out);
        return;
    }
    switch (call->route & API_ROUTE_MASK) {
    case API_ROUTE_GET:
        reply_get(api, call, out);
        break;
    case API_ROUTE_PUT:
        reply_revision(call, "{\"revision\":", result->revision, out);
        break;
    default:
        reply_revision(call, result->count > 0 ? "{\"deleted\":true,\"revision\":" : "{\"deleted\":false,\"revision\":",
                       result->revision, out);
        break;
    }
}
