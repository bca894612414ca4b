#include "api/etcd_json.h"

#include "api/handlers.h"
#include "api/reply.h"
#include "base/mem.h"
#include "wire/json.h"
#include "wire/transcode.h"

int etcd_json_http_status(enum grpc_status status)
{
    switch (status) {
    case GRPC_OK:
        return 200;
    case GRPC_CANCELLED:
        return 499;
    case GRPC_INVALID_ARGUMENT:
    case GRPC_FAILED_PRECONDITION:
    case GRPC_OUT_OF_RANGE:
        return 400;
    case GRPC_DEADLINE_EXCEEDED:
        return 504;
    case GRPC_NOT_FOUND:
        return 404;
    case GRPC_ALREADY_EXISTS:
    case GRPC_ABORTED:
        return 409;
    case GRPC_PERMISSION_DENIED:
        return 403;
    case GRPC_UNAUTHENTICATED:
        return 401;
    case GRPC_RESOURCE_EXHAUSTED:
        return 429;
    case GRPC_UNIMPLEMENTED:
        return 501;
    case GRPC_UNAVAILABLE:
        return 503;
    case GRPC_UNKNOWN:
    case GRPC_INTERNAL:
    case GRPC_DATA_LOSS:
        break;
    }
    return 500;
}

static void reply_error(struct api_call *call, enum grpc_status status, struct bytes text, struct buffer *out)
{
    struct buffer body = {0};
    buffer_append_format(&body, "{\"code\":%d,\"message\":", (int)status);
    json_write_string(&body, text);
    buffer_append_string(&body, "}");
    api_reply(call, etcd_json_http_status(status), API_JSON, "", buffer_bytes(&body), out);
    buffer_free(&body);
}

static void reply(struct api_call *call, const struct buffer *message, struct buffer *out)
{
    const struct etcd_call *etcd = call->etcd;
    if (etcd->status != GRPC_OK) {
        reply_error(call, etcd->status, bytes_of_string(etcd->text), out);
        return;
    }
    struct buffer body = {0}, problem = {0};
    if (transcode_to_json(etcd->method->response, buffer_bytes(message), &body, &problem)) {
        api_reply(call, 200, API_JSON, "", buffer_bytes(&body), out);
    } else {
        reply_error(call, GRPC_INTERNAL, buffer_bytes(&problem), out);
    }
    buffer_free(&body);
    buffer_free(&problem);
}

enum api_wait etcd_json_begin(struct api *api, struct api_call *call, const struct http1_request *request,
                              struct buffer *out)
{
    const struct etcd_method *method = etcd_method_of_json(request->path);
    if (method == NULL) {
        reply_error(call, GRPC_NOT_FOUND, bytes_of_string("Not Found"), out);
        return API_DONE;
    }
    if (request->method != HTTP1_POST) {
        reply_error(call, GRPC_UNIMPLEMENTED, bytes_of_string("Method Not Allowed"), out);
        return API_DONE;
    }
    if (method->form != ETCD_UNARY) {
        reply_error(call, GRPC_UNIMPLEMENTED, bytes_of_string("coracle: this method doesn't stream as JSON yet"), out);
        return API_DONE;
    }
    if (call->etcd == NULL) call->etcd = mem_alloc_zero(sizeof *call->etcd);
    call->route = API_ROUTE_ETCD;
    struct buffer message = {0}, problem = {0}, answer = {0};
    size_t used;
    enum api_wait wait = API_DONE;
    if (request->body.size > 0 && !transcode_from_json(method->request, request->body, &used, &message, &problem)) {
        reply_error(call, GRPC_INVALID_ARGUMENT, buffer_bytes(&problem), out);
    } else {
        wait = etcd_begin(api, call->etcd, method, buffer_bytes(&message), &answer);
        if (wait == API_DONE) reply(call, &answer, out);
    }
    call->command = call->etcd->command;
    call->etcd->command = NULL;
    buffer_free(&message);
    buffer_free(&problem);
    buffer_free(&answer);
    return wait;
}

void etcd_json_finish(struct api *api, struct api_call *call, const struct replica_result *result, struct buffer *out)
{
    struct buffer answer = {0};
    etcd_finish(api, call->etcd, result, &answer);
    reply(call, &answer, out);
    buffer_free(&answer);
}
