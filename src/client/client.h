/*
 * client.h - a client of api_port, over the ports of network and time; so the simulator uses it too.
 *
 * It knows a list of endpoints, keeps one connection (HTTP/1.1, kept alive) to the one it uses, and goes on to the next
 * one when that is down. One request is under way at a time; use several clients for more. Asynchronous: the answer
 * comes by a callback, never from within a call.
 *
 * What it sends again, and what not. A request of which no byte can have reached a server goes to the next endpoint. An
 * answer that says that nothing was done (base/error.h, 'retry') is retried when the request asks for it. A request
 * whose connection broke later is retried only if it is `idempotent`; else its outcome is unknown: ERR_TIMEOUT.
 *
 * A server that hangs takes connections and bytes all the same. Where there are other endpoints, one that isn't idempotent is sent on
 * a new connection only after the server has answered a GET of /livez; and an idempotent one goes on to the next endpoint after
 * CLIENT_ANSWER_PATIENCE.
 *
 * Time: the owner calls client_tick when client_deadline has passed; so several clients share one loop and its timer.
 */
#ifndef CORACLE_CLIENT_CLIENT_H
#define CORACLE_CLIENT_CLIENT_H

#include "base/bytes.h"
#include "base/error.h"
#include "base/types.h"
#include "port/loop.h"
#include "port/net.h"

#define CLIENT_ENDPOINTS_MAX 16u
#define CLIENT_RESPONSE_BYTES_MAX (64u * 1024 * 1024)
/* Between rounds over all endpoints, when each failed. */
#define CLIENT_RETRY_PAUSE (20 * TIME_NS_PER_MS)
/* For one endpoint, while there are others: to connect and to show that it is alive; to answer. */
#define CLIENT_CONNECT_TIMEOUT (1 * TIME_NS_PER_S)
#define CLIENT_ANSWER_PATIENCE (3 * TIME_NS_PER_S)

struct client_endpoint {
    char host[ADDRESS_BYTES_MAX + 1];
    uint16_t port;
};

/*
 * Reads "host:port,host:port,…"; a scheme "http://" and a '/' at the end are allowed, a missing port is 7777. Returns how many were
 * read into `out` (room for CLIENT_ENDPOINTS_MAX), or 0 with a sentence appended to `problem`.
 */
uint32_t client_endpoints_parse(const char *text, struct client_endpoint *out, struct buffer *problem);

struct client_request {
    const char *method; /* "GET"; static */
    struct bytes path;  /* with the query, percent-encoded; copied */
    struct bytes body;  /* copied */
    time_ns timeout;    /* for everything, retries included; above 0 */
    bool idempotent;    /* may happen twice: sent again when its connection breaks */
    bool retry;         /* until the timeout: round after round of the endpoints, also after an answer that says that
                             nothing was done. Else each endpoint is tried once, and the first answer counts */
};

struct client_response {
    enum error
        error; /* ERR_OK: there is an answer, of any status. ERR_NETWORK: no endpoint could be reached, and nothing
                             was done. ERR_TIMEOUT: the outcome is unknown. ERR_BAD_REQUEST: what came is no answer */
    int status;
    struct bytes body;                      /* a view until the callback returns */
    const struct client_endpoint *endpoint; /* who answered, or was tried last; lives as long as the client */
};

typedef void client_done(void *user, const struct client_response *response);

struct client;

/* `net` and `loop` are borrowed; the endpoints (1 to CLIENT_ENDPOINTS_MAX) are copied, and tried from `first` on. */
struct client *client_new(struct net *net, struct loop *loop, const struct client_endpoint *endpoints,
                          uint32_t endpoint_count, uint32_t first);
/* At any time outside of its own callbacks; a request under way gets no answer. */
void client_free(struct client *client);

/* Begins a request. None may be under way. `done` may begin the next. */
void client_request(struct client *client, const struct client_request *request, client_done *done, void *user);
bool client_busy(const struct client *client);

/* When client_tick is needed at the latest; TIME_NS_NEVER when nothing is under way. */
time_ns client_deadline(const struct client *client);
void client_tick(struct client *client);

#endif
