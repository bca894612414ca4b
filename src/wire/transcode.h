/*
 * transcode.h - JSON to protobuf's bytes and back, for any message, from its descriptor; no struct in between.
 *
 * Both ways follow protojson as etcd's gateway sets it up.
 *
 * Out: the names of the .proto file, fields in its order, defaults left out (members of a oneof are written even so), 64-bit
 * numbers as strings, bytes as padded base64, enums by name (or number, if it has no name).
 *
 * In: names as in the .proto file or in camelCase; unknown ones are skipped, and unknown names of enum values too. Numbers
 * as numbers or strings, also 1e3, but exactly; enums by name or number; base64 in either alphabet, padded or not; null is
 * as good as absent, but not within a list. Refused: a field that comes twice, two members of a oneof.
 *
 * The kinds of fields that etcd's messages have are covered: no maps, floats or fixed numbers, no well-known types.
 *
 * Source: protobuf.dev, 'ProtoJSON Format'; test/etcd/wire compares with Go's protojson.
 */
#ifndef CORACLE_WIRE_TRANSCODE_H
#define CORACLE_WIRE_TRANSCODE_H

#include <protobuf-c/protobuf-c.h>

#include "base/bytes.h"

/*
 * Appends the message as a JSON object. `message` nests at most PROTOBUF_DEPTH_MAX levels. An answer that is too large to be
 * held twice goes in parts: each part is a message of its own type, and the caller writes what is between them.
 *
 * False when `message` isn't protobuf of that type; then a sentence is appended to *problem, if that isn't NULL, and `out` is
 * as it was.
 */
bool transcode_to_json(const ProtobufCMessageDescriptor *type, struct bytes message, struct buffer *out,
                       struct buffer *problem);

/*
 * Appends the JSON object at the beginning of `text` as protobuf: valid, each field at most once, but in the text's order and
 * of any depth that JSON_READER_DEPTH_MAX allows. *used_bytes is how much of the text that was; if it is NULL, only white
 * space may follow. The memory needed besides the result is at most six bytes for each byte of the text.
 *
 * False when the text is bad; then a sentence that says to the client what is wrong and where is appended to *problem, if
 * that isn't NULL, and `out` is as it was.
 */
bool transcode_from_json(const ProtobufCMessageDescriptor *type, struct bytes text, size_t *used_bytes,
                         struct buffer *out, struct buffer *problem);

#endif
