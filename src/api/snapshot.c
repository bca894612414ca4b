/* snapshot.c - POST /v1/snapshot: a snapshot on this node, now; for `coracle backup`. */
#include "api/handlers.h"
#include "api/reply.h"

enum api_wait api_snapshot_begin(struct api *api, struct api_call *call, const struct http1_request *request,
                                 struct buffer *out)
{
    if (request->method != HTTP1_POST) {
        api_reply_bad_method(call, "POST", out);
        return API_DONE;
    }
    if (api->replica == NULL) {
        api_reply_error(call, ERR_NOT_READY, bytes_of(NULL, 0), out);
        return API_DONE;
    }
    call->route = API_ROUTE_SNAPSHOT;
    return API_SNAPSHOT;
}

void api_snapshot_finish(struct api_call *call, const struct replica_result *result, struct buffer *out)
{
    if (result->error != ERR_OK) {
        api_reply_error(call, result->error, bytes_of(NULL, 0), out);
        return;
    }
    struct buffer body = {0};
    buffer_append_format(&body, "{\"index\":%llu,\"revision\":%lld}", (unsigned long long)result->index,
                         (long long)result->revision);
    api_reply(call, 200, API_JSON, "", buffer_bytes(&body), out);
    buffer_free(&body);
}
