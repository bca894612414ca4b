/*
 * health.c - /health, /livez, /readyz, as etcd has them.
 *
 * Liveness never depends on other members: to restart a node because its cluster has no quorum makes matters worse.
 */
#include "api/handlers.h"
#include "api/reply.h"
#include "base/check.h"
#include "wire/json.h"

/* Whether `name` is among the values of ?exclude=, which may come more than once. */
static bool is_excluded(struct bytes query, const char *name)
{
    for (;;) {
        struct bytes value = http1_query_parameter(query, "exclude");
        if (value.data == NULL) return false;
        if (bytes_equal(value, bytes_of_string(name))) return true;
        size_t behind = (size_t)(value.data + value.size - query.data);
        query = bytes_of(query.data + behind, query.size - behind);
        if (query.size > 0) query = bytes_of(query.data + 1, query.size - 1); /* the '&' */
    }
}

/* ---- /health ---- */

static void reply_health(const struct api_call *call, const char *reason, struct buffer *out)
{
    bool healthy = reason[0] == 0;
    struct buffer body = {0};
    buffer_append_format(&body, "{\"health\":\"%s\",\"reason\":", healthy ? "true" : "false");
    json_write_string(&body, bytes_of_string(reason));
    buffer_append_byte(&body, '}');
    api_reply(call, healthy ? 200 : 503, API_JSON, healthy ? "" : "Retry-After: 1\r\n", buffer_bytes(&body), out);
    buffer_free(&body);
}

/* Why the node is unhealthy by what it knows itself; "" when it isn't. etcd's words, which monitors look for. */
static const char *health_problem(const struct api *api, struct bytes query, bool serializable)
{
    if (api->replica == NULL) return "RECOVERING";
    if (api->host->shutting_down) return "SHUTTING DOWN";
    struct replica_status status;
    replica_status(api->replica, &status);
    if (status.disk_full && !is_excluded(query, "NOSPACE")) return "ALARM NOSPACE";
    if (status.diverged && !is_excluded(query, "CORRUPT")) return "ALARM CORRUPT";
    if (!serializable && status.raft.leader == 0) return "RAFT NO LEADER";
    return "";
}

enum api_wait api_health_begin(struct api *api, struct api_call *call, const struct http1_request *request,
                               struct buffer *out)
{
    bool serializable = bytes_equal(http1_query_parameter(request->query, "serializable"), bytes_of_string("true"));
    const char *problem = health_problem(api, request->query, serializable);
    if (problem[0] != 0 || serializable) {
        reply_health(call, problem, out);
        return API_DONE;
    }
    call->route = API_ROUTE_HEALTH;
    return API_READ;
}

void api_health_finish(struct api_call *call, const struct replica_result *result, struct buffer *out)
{
    struct buffer reason = {0};
    if (result->error != ERR_OK) buffer_append_format(&reason, "RANGE ERROR:%s", error_text(result->error));
    buffer_append_byte(&reason, 0);
    reply_health(call, (const char *)reason.data, out);
    buffer_free(&reason);
}

/* ---- /livez, /readyz ---- */

enum check {
    CHECK_DATA_CORRUPTION,
    CHECK_SERIALIZABLE_READ,
    CHECK_LINEARIZABLE_READ,
    CHECK_NON_LEARNER,
    CHECK_NOT_SHUTTING_DOWN,
    CHECK_COUNT,
};

static const char *const check_names[CHECK_COUNT] = {
    "data_corruption", "serializable_read", "linearizable_read", "non_learner", "not_shutting_down",
};

#define BIT(check) (1u << (check))
#define LIVE_CHECKS BIT(CHECK_SERIALIZABLE_READ)
#define READY_CHECKS (BIT(CHECK_COUNT) - 1)

/* The handler's part of api_call.route. */
#define ROUTE_VERBOSE 0x100u
#define ROUTE_LIVE 0x200u
#define ROUTE_CHECKS_SHIFT 16

static bool is_learner(const struct replica_status *status)
{
    for (uint32_t i = 0; i < status->member_count; i++) {
        if (status->members[i].id == status->self) return status->members[i].learner;
    }
    return false;
}

/* NULL: it passes. `read` is how a linearizable read ended, ERR_OK while it wasn't tried. */
static const char *check_problem(const struct api *api, enum check check, bool live, enum error read)
{
    if (check == CHECK_NOT_SHUTTING_DOWN) return api->host->shutting_down ? "the node is shutting down" : NULL;
    /* Recovery takes the time that it takes: the node is alive, and not ready. */
    if (api->replica == NULL) return live ? NULL : "the node is recovering its data";
    struct replica_status status;
    replica_status(api->replica, &status);
    switch (check) {
    case CHECK_DATA_CORRUPTION:
        return status.diverged ? error_text(ERR_CORRUPT) : NULL;
    case CHECK_LINEARIZABLE_READ:
        if (read != ERR_OK) return error_text(read);
        return status.raft.leader == 0 ? error_text(ERR_NO_LEADER) : NULL;
    case CHECK_NON_LEARNER:
        return is_learner(&status) ? "the node is a learner" : NULL;
    default:
        return NULL; /* a local read, which this node's store is there for */
    }
}

static void reply_checks(struct api *api, const struct api_call *call, enum error read, struct buffer *out)
{
    uint32_t checks = call->route >> ROUTE_CHECKS_SHIFT;
    bool live = (call->route & ROUTE_LIVE) != 0;
    bool passed = true;
    struct buffer body = {0};
    for (uint32_t check = 0; check < CHECK_COUNT; check++) {
        if ((checks & BIT(check)) == 0) continue;
        const char *problem = check_problem(api, (enum check)check, live, read);
        if (problem == NULL) {
            buffer_append_format(&body, "[+]%s ok\n", check_names[check]);
        } else {
            buffer_append_format(&body, "[-]%s failed: %s\n", check_names[check], problem);
            passed = false;
        }
    }
    if (passed) {
        if ((call->route & ROUTE_VERBOSE) == 0) buffer_clear(&body);
        buffer_append_string(&body, "ok\n");
    }
    api_reply(call, passed ? 200 : 503, API_TEXT,
              passed ? "X-Content-Type-Options: nosniff\r\n" : "X-Content-Type-Options: nosniff\r\nRetry-After: 1\r\n",
              buffer_bytes(&body), out);
    buffer_free(&body);
}

/* The checks that the path and ?exclude= leave; 0 and *known false for a name that isn't a check here. */
static uint32_t chosen_checks(const struct http1_request *request, uint32_t all, size_t root_bytes, bool *known)
{
    struct bytes name = bytes_of(request->path.data + root_bytes, request->path.size - root_bytes);
    uint32_t chosen = 0;
    *known = name.size <= 1; /* nothing, or a slash */
    for (uint32_t check = 0; check < CHECK_COUNT; check++) {
        if ((all & BIT(check)) == 0) continue;
        if (name.size > 1) {
            if (!bytes_equal(bytes_of(name.data + 1, name.size - 1), bytes_of_string(check_names[check]))) continue;
            *known = true;
        } else if (is_excluded(request->query, check_names[check])) {
            continue;
        }
        chosen |= BIT(check);
    }
    return chosen;
}

enum api_wait api_checks_begin(struct api *api, struct api_call *call, const struct http1_request *request,
                               struct buffer *out)
{
    bool live = request->path.data[1] == 'l';
    bool known;
    uint32_t checks = chosen_checks(request, live ? LIVE_CHECKS : READY_CHECKS, live ? 6 : 7, &known);
    if (!known) {
        api_reply_error(call, ERR_NO_ROUTE, bytes_of(NULL, 0), out);
        return API_DONE;
    }
    call->route = API_ROUTE_CHECKS | checks << ROUTE_CHECKS_SHIFT | (live ? ROUTE_LIVE : 0);
    if (http1_query_parameter(request->query, "verbose").data != NULL) call->route |= ROUTE_VERBOSE;

    /* A read that can only fail isn't worth waiting for. */
    bool reads = (checks & BIT(CHECK_LINEARIZABLE_READ)) != 0;
    if (reads && !api->host->shutting_down && check_problem(api, CHECK_LINEARIZABLE_READ, live, ERR_OK) == NULL) {
        return API_READ;
    }
    reply_checks(api, call, ERR_OK, out);
    call->route = API_ROUTE_NONE;
    return API_DONE;
}

void api_checks_finish(struct api *api, struct api_call *call, const struct replica_result *result, struct buffer *out)
{
    reply_checks(api, call, result->error, out);
}
