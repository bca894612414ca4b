/*
 * kv.h - what a request for a key looks like on the wire, and what its answer says (api/api.h is the other side).
 */
#ifndef CORACLE_CLIENT_KV_H
#define CORACLE_CLIENT_KV_H

#include "base/bytes.h"
#include "base/error.h"

/* "/v1/data/" and the key, percent-encoded. */
void client_kv_path(struct bytes key, struct buffer *out);

/* The body of a put: {"k":…,"v":…}, or v_base64 for a value that isn't UTF-8. False for a key that isn't UTF-8. */
bool client_kv_put_body(struct bytes key, struct bytes value, struct buffer *out);

/* The value in the answer to a get, appended. False when the answer isn't one. */
bool client_kv_value(struct bytes body, struct buffer *value);

/* The error in an answer: its row of base/error.h, ERR_INTERNAL when the body names none; the message is appended. */
enum error client_kv_error(struct bytes body, struct buffer *message);

#endif
