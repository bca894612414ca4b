/*
 * reply.h - answers as bytes: JSON, plain text, errors. Internal to api/.
 */
#ifndef CORACLE_API_REPLY_H
#define CORACLE_API_REPLY_H

#include "api/api.h"

#define API_JSON "application/json"
#define API_TEXT "text/plain; charset=utf-8"

void api_reply(const struct api_call *call, int status, const char *content_type, const char *extra_headers,
               struct bytes body, struct buffer *out);

/* `message` empty: the table's text, and what to do about it. */
void api_reply_error(const struct api_call *call, enum error error, struct bytes message, struct buffer *out);

/* 405; `allow` is the list of methods that the path has. */
void api_reply_bad_method(const struct api_call *call, const char *allow, struct buffer *out);

#endif
