#include "client/kv.h"

#include "wire/base64.h"
#include "wire/json.h"
#include "wire/utf8.h"

static bool is_unreserved(uint8_t c)
{
    bool alphanumeric = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    return alphanumeric || c == '-' || c == '.' || c == '_' || c == '~';
}

void client_kv_path(struct bytes key, struct buffer *out)
{
    static const char hex[] = "0123456789ABCDEF";
    buffer_append_string(out, "/v1/data/");
    for (size_t i = 0; i < key.size; i++) {
        uint8_t c = key.data[i];
        if (is_unreserved(c)) {
            buffer_append_byte(out, c);
        } else {
            buffer_append_byte(out, '%');
            buffer_append_byte(out, (uint8_t)hex[c >> 4]);
            buffer_append_byte(out, (uint8_t)hex[c & 15]);
        }
    }
}

bool client_kv_put_body(struct bytes key, struct bytes value, struct buffer *out)
{
    if (!utf8_valid(key)) return false;
    buffer_append_string(out, "{\"k\":");
    json_write_string(out, key);
    if (utf8_valid(value)) {
        buffer_append_string(out, ",\"v\":");
        json_write_string(out, value);
    } else {
        buffer_append_string(out, ",\"v_base64\":\"");
        base64_encode(value, out);
        buffer_append_byte(out, '"');
    }
    buffer_append_byte(out, '}');
    return true;
}

static struct bytes json_text(const json_t *value)
{
    return bytes_of(json_string_value(value), json_string_length(value));
}

bool client_kv_value(struct bytes body, struct buffer *value)
{
    json_t *root = json_read_object(body, JSON_DEPTH_MAX_DEFAULT, JSON_VALUES_MAX_DEFAULT, NULL);
    if (root == NULL) return false;
    const json_t *plain = json_object_get(root, "v");
    const json_t *encoded = json_object_get(root, "v_base64");
    bool good = false;
    if (json_is_string(plain)) {
        struct bytes text = json_text(plain);
        buffer_append(value, text.data, text.size);
        good = true;
    } else if (json_is_string(encoded)) {
        struct bytes text = json_text(encoded);
        size_t size = base64_decoded_bytes(text);
        if (size != SIZE_MAX) {
            buffer_reserve(value, size + 1);
            good = base64_decode(text, value->data + value->size);
            if (good) value->size += size;
        }
    }
    json_decref(root);
    return good;
}

enum error client_kv_error(struct bytes body, struct buffer *message)
{
    json_t *root = json_read_object(body, JSON_DEPTH_MAX_DEFAULT, JSON_VALUES_MAX_DEFAULT, NULL);
    const json_t *error = root != NULL ? json_object_get(root, "error") : NULL;
    const char *code = json_string_value(json_object_get(error, "code"));
    const char *text = json_string_value(json_object_get(error, "message"));
    enum error found = ERR_INTERNAL;
    for (unsigned i = 0; code != NULL && i < ERROR_COUNT; i++) {
        if (strcmp(error_code((enum error)i), code) == 0) found = (enum error)i;
    }
    buffer_append_string(message, text != NULL ? text : "the server's answer can't be read");
    if (root != NULL) json_decref(root);
    return found;
}
