#include "wire/http1.h"

#include "wire/http1_message.h"

struct bytes http1_request_header(const struct http1_request *request, const char *lower_case_name)
{
    for (size_t i = 0; i < request->header_count; i++) {
        if (http1_equals(request->headers[i].name, lower_case_name)) return request->headers[i].value;
    }
    return bytes_of(NULL, 0);
}

static int hex_value(uint8_t byte)
{
    if (byte >= '0' && byte <= '9') return byte - '0';
    if (byte >= 'a' && byte <= 'f') return byte - 'a' + 10;
    if (byte >= 'A' && byte <= 'F') return byte - 'A' + 10;
    return -1;
}

bool http1_percent_decode(struct bytes encoded, struct buffer *out)
{
    buffer_reserve(out, encoded.size);
    size_t at = 0;
    while (at < encoded.size) {
        const uint8_t *from = encoded.data + at;
        const uint8_t *escape = memchr(from, '%', encoded.size - at);
        size_t run = escape != NULL ? (size_t)(escape - from) : encoded.size - at;
        buffer_append(out, from, run);
        at += run;
        if (escape == NULL) break;
        if (encoded.size - at < 3) return false;
        int high = hex_value(escape[1]);
        int low = hex_value(escape[2]);
        if (high < 0 || low < 0) return false;
        buffer_append_byte(out, (uint8_t)(high << 4 | low));
        at += 3;
    }
    return true;
}

struct bytes http1_query_parameter(struct bytes query, const char *name)
{
    size_t name_size = strlen(name);
    while (query.size > 0) {
        const uint8_t *end = memchr(query.data, '&', query.size);
        size_t size = end != NULL ? (size_t)(end - query.data) : query.size;
        if (size >= name_size && memcmp(query.data, name, name_size) == 0) {
            if (size == name_size) return bytes_of(query.data + size, 0);
            if (query.data[name_size] == '=') return bytes_of(query.data + name_size + 1, size - name_size - 1);
        }
        if (end == NULL) break;
        query = bytes_of(end + 1, query.size - size - 1);
    }
    return bytes_of(NULL, 0);
}
