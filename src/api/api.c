#include "api/api.h"

#include "api/etcd_json.h"
#include "api/handlers.h"
#include "api/reply.h"
#include "base/check.h"
#include "base/mem.h"
#include "wire/base64.h"

/* Room for names, braces and white space around key and value. */
#define BODY_BYTES_AROUND 4096u

/* A key's buffer up to this size stays with its connection. */
#define KEY_CAPACITY_KEPT 4096u

#define DATA_PATH "/v1/data"

size_t api_body_bytes_max(uint64_t value_bytes_max)
{
    return base64_encoded_bytes(value_bytes_max) + base64_encoded_bytes(STORE_KEY_BYTES_MAX) + BODY_BYTES_AROUND;
}

void api_histogram_add(struct api_histogram *histogram, time_ns duration)
{
    histogram->count++;
    histogram->sum_seconds += (double)duration / (double)TIME_NS_PER_S;
    time_ns bound = TIME_NS_PER_MS;
    for (size_t i = 0; i < API_HISTOGRAM_BUCKETS; i++, bound *= 2) {
        if (duration <= bound) {
            histogram->buckets[i]++;
            return;
        }
    }
    histogram->above++;
}

static bool has_prefix(struct bytes text, const char *prefix)
{
    size_t size = strlen(prefix);
    return text.size >= size && memcmp(text.data, prefix, size) == 0;
}

static bool is(struct bytes text, const char *whole)
{
    return bytes_equal(text, bytes_of_string(whole));
}

/* "/livez" and "/livez/name", not "/livezz". */
static bool is_at_or_under(struct bytes path, const char *root)
{
    size_t size = strlen(root);
    return has_prefix(path, root) && (path.size == size || path.data[size] == '/');
}

typedef void (*answer_function)(struct api *api, struct api_call *call, struct buffer *out);

static bool reads(const struct http1_request *request)
{
    return request->method == HTTP1_GET || request->method == HTTP1_HEAD;
}

/* What a GET is answered with at once. */
static enum api_wait begin_rest(struct api *api, struct api_call *call, const struct http1_request *request,
                                struct buffer *out)
{
    struct bytes path = request->path;
    answer_function answer = is(path, "/v1/cluster") ? api_cluster
                             : is(path, "/metrics")  ? api_metrics
                             : is(path, "/version")  ? api_version
                                                     : NULL;
    bool health = is(path, "/health");
    bool checks = is_at_or_under(path, "/livez") || is_at_or_under(path, "/readyz");
    if (answer == NULL && !health && !checks) {
        api_reply_error(call, ERR_NO_ROUTE, bytes_of(NULL, 0), out);
        return API_DONE;
    }
    if (!reads(request)) {
        api_reply_bad_method(call, "GET, HEAD", out);
        return API_DONE;
    }
    if (health) return api_health_begin(api, call, request, out);
    if (checks) return api_checks_begin(api, call, request, out);
    if (api->replica == NULL && answer != api_version) {
        api_reply_error(call, ERR_NOT_READY, bytes_of(NULL, 0), out);
        return API_DONE;
    }
    answer(api, call, out);
    return API_DONE;
}

enum api_wait api_begin(struct api *api, struct api_call *call, const struct http1_request *request, struct buffer *out)
{
    CHECK(call->command == NULL);
    call->route = API_ROUTE_NONE;
    call->head = request->method == HTTP1_HEAD;
    call->keep_alive = request->keep_alive && !api->host->shutting_down;

    if (has_prefix(request->path, DATA_PATH)) {
        struct bytes rest = bytes_of(request->path.data + strlen(DATA_PATH), request->path.size - strlen(DATA_PATH));
        if (rest.size == 0) return api_data_begin(api, call, request, out);
        if (rest.data[0] == '/') return api_key_begin(api, call, request, bytes_of(rest.data + 1, rest.size - 1), out);
    }
    if (is(request->path, "/v1/snapshot")) return api_snapshot_begin(api, call, request, out);
    if (has_prefix(request->path, "/v3/")) return etcd_json_begin(api, call, request, out);
    return begin_rest(api, call, request, out);
}

void api_finish(struct api *api, struct api_call *call, const struct replica_result *result, struct buffer *out)
{
    uint32_t route = call->route & API_ROUTE_MASK;
    switch (route) {
    case API_ROUTE_PUT:
    case API_ROUTE_GET:
    case API_ROUTE_DELETE:
        api_data_finish(api, call, result, out);
        break;
    case API_ROUTE_HEALTH:
        api_health_finish(call, result, out);
        break;
    case API_ROUTE_SNAPSHOT:
        api_snapshot_finish(call, result, out);
        break;
    case API_ROUTE_ETCD:
        etcd_json_finish(api, call, result, out);
        break;
    case API_ROUTE_CHECKS:
        api_checks_finish(api, call, result, out);
        break;
    default:
        CHECK(false);
    }
    call->route = API_ROUTE_NONE;
    /* Still here when the host refused the call before it was proposed. */
    if (call->command != NULL) entry_unref(call->command);
    call->command = NULL;
    if (call->key.capacity > KEY_CAPACITY_KEPT) buffer_free(&call->key);
}

void api_call_free(struct api_call *call)
{
    if (call->command != NULL) entry_unref(call->command);
    call->command = NULL;
    if (call->etcd != NULL) etcd_call_free(call->etcd);
    mem_free(call->etcd);
    call->etcd = NULL;
    buffer_free(&call->key);
}
