/*
 * etcd_json.h - the JSON gateway: etcd's methods as POST of JSON under /v3/, through one transcoder (wire/transcode.h).
 *
 * What the body is not JSON of the request's type for, or the method fails with, is {"error","code","message"} with the
 * HTTP status that gRPC's code maps to.
 */
#ifndef CORACLE_API_ETCD_JSON_H
#define CORACLE_API_ETCD_JSON_H

#include "api/etcd.h"

/* The path begins with "/v3/". */
enum api_wait etcd_json_begin(struct api *api, struct api_call *call, const struct http1_request *request,
                              struct buffer *out);
void etcd_json_finish(struct api *api, struct api_call *call, const struct replica_result *result, struct buffer *out);

/* 400 for INVALID_ARGUMENT, and so on. */
int etcd_json_http_status(enum grpc_status status);

#endif
