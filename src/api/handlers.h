/*
 * handlers.h - one begin, and where it can wait one finish, for each noun. Internal to api/.
 */
#ifndef CORACLE_API_HANDLERS_H
#define CORACLE_API_HANDLERS_H

#include "api/api.h"

/* The etcd whose interface this is: clients choose what they use by it. Our own version stands in /version and /v1/cluster. */
#define API_ETCD_VERSION "3.7.0"

/* The low byte of api_call.route; the rest is the handler's own. */
enum api_route {
    API_ROUTE_NONE,
    API_ROUTE_PUT,
    API_ROUTE_GET,
    API_ROUTE_DELETE,
    API_ROUTE_HEALTH,
    API_ROUTE_CHECKS,
    API_ROUTE_SNAPSHOT,
    API_ROUTE_ETCD,
};
#define API_ROUTE_MASK 0xffu

/* rest.c: the path is /v1/data, or begins with /v1/data/ */
enum api_wait api_data_begin(struct api *api, struct api_call *call, const struct http1_request *request,
                             struct buffer *out);
enum api_wait api_key_begin(struct api *api, struct api_call *call, const struct http1_request *request,
                            struct bytes encoded_key, struct buffer *out);
void api_data_finish(struct api *api, struct api_call *call, const struct replica_result *result, struct buffer *out);

/* cluster.c */
void api_cluster(struct api *api, struct api_call *call, struct buffer *out);
void api_version(struct api *api, struct api_call *call, struct buffer *out);

/* snapshot.c */
enum api_wait api_snapshot_begin(struct api *api, struct api_call *call, const struct http1_request *request,
                                 struct buffer *out);
void api_snapshot_finish(struct api_call *call, const struct replica_result *result, struct buffer *out);

/* health.c; `path` is from "/livez" or "/readyz" on */
enum api_wait api_health_begin(struct api *api, struct api_call *call, const struct http1_request *request,
                               struct buffer *out);
void api_health_finish(struct api_call *call, const struct replica_result *result, struct buffer *out);
enum api_wait api_checks_begin(struct api *api, struct api_call *call, const struct http1_request *request,
                               struct buffer *out);
void api_checks_finish(struct api *api, struct api_call *call, const struct replica_result *result, struct buffer *out);

/* metrics.c */
void api_metrics(struct api *api, struct api_call *call, struct buffer *out);

#endif
