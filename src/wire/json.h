/*
 * json.h - JSON (RFC 8259) in and out: a thin layer over jansson for reading, and the writing of strings.
 *
 * jansson's tree costs up to a hundred times the text, and its parser recurses; so the text's depth and number of
 * values are limited before jansson sees it. Duplicate names are refused, \u0000 in a string is allowed.
 *
 * jansson hashes names with a seed of the process. The host sets it once, from its entropy port, with
 * json_object_seed, before the first text is read. Nothing here depends on the order of hashes.
 */
#ifndef CORACLE_WIRE_JSON_H
#define CORACLE_WIRE_JSON_H

#include <jansson.h>

#include "base/bytes.h"

/* Enough for a body of our own; a large transaction of etcd's interface needs more. */
#define JSON_DEPTH_MAX_DEFAULT 16u
#define JSON_VALUES_MAX_DEFAULT 256u

/*
 * Reads an object. NULL when `text` isn't one or is above a limit; then a sentence is appended to *problem, if that
 * isn't NULL, which says to the client what is wrong and where. The result is the caller's (json_decref).
 */
json_t *json_read_object(struct bytes text, size_t depth_max, size_t values_max, struct buffer *problem);

/* A member of an object of plain strings. */
struct json_plain_member {
    struct bytes name;
    struct bytes value;
};

/*
 * The quick way for the usual body, such as {"k":"a","v":"1"}: views into `text`, no copy, no allocation. True when
 * the text is an object of at most `capacity` members, whose names and values are all strings that mean what they
 * look like: no escapes, valid UTF-8. Else the text may still be good: json_read_object tells. Duplicate names are
 * for the caller to see.
 */
bool json_read_plain(struct bytes text, struct json_plain_member *members, size_t capacity, size_t *count);

/* How many bytes at the front may stand in a JSON string as they are: ASCII but controls, quote and backslash. */
size_t json_plain_bytes(const uint8_t *at, size_t size);

/* Bytes of `text` as a JSON string with its quotes; 0 when it isn't valid UTF-8, which JSON can't say. */
size_t json_string_bytes(struct bytes text);

/* Appends `text` as a JSON string with its quotes. A byte that isn't part of valid UTF-8 becomes U+FFFD. */
void json_write_string(struct buffer *out, struct bytes text);

#endif
