#include "cli/remote.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "client/kv.h"
#include "os/loop.h"
#include "os/net.h"

#define DEFAULT_ENDPOINTS "127.0.0.1:7777"
#define DEFAULT_TIMEOUT_MS 5000u

struct call {
    struct remote *remote;
    struct remote_answer *answer; /* NULL: none under way */
};

struct remote {
    struct os_loop *loop;
    struct os_net *net;
    struct client_endpoint endpoints[CLIENT_ENDPOINTS_MAX];
    uint32_t endpoint_count;
    struct client *clients[CLIENT_ENDPOINTS_MAX];
    struct call calls[CLIENT_ENDPOINTS_MAX];
    uint32_t client_count;
    uint32_t pending_count;
};

struct remote_options remote_options_default(void)
{
    const char *endpoints = getenv("CORACLE_ENDPOINTS");
    return (struct remote_options){
        .endpoints = endpoints != NULL && endpoints[0] != '\0' ? endpoints : DEFAULT_ENDPOINTS,
        .timeout_ms = DEFAULT_TIMEOUT_MS,
    };
}

void remote_answer_free(struct remote_answer *answer)
{
    buffer_free(&answer->body);
}

/* ---- the loop's turns ---- */

static void timer(void *user)
{
    struct remote *remote = user;
    for (uint32_t i = 0; i < remote->client_count; i++) client_tick(remote->clients[i]);
}

static void turn_end(void *user)
{
    struct remote *remote = user;
    struct loop *loop = os_loop_port(remote->loop);
    time_ns deadline = TIME_NS_NEVER;
    for (uint32_t i = 0; i < remote->client_count; i++) {
        time_ns own = client_deadline(remote->clients[i]);
        if (own < deadline) deadline = own;
    }
    loop_set_timer(loop, deadline);
    if (remote->pending_count == 0) loop_stop(loop);
}

static const struct loop_handler loop_handler = {.timer = timer, .turn_end = turn_end};

struct remote *remote_new(const struct remote_options *options, bool each)
{
    struct remote *remote = mem_alloc_zero(sizeof *remote);
    struct buffer problem = {0};
    remote->endpoint_count = client_endpoints_parse(options->endpoints, remote->endpoints, &problem);
    if (remote->endpoint_count == 0) {
        fprintf(stderr, "endpoints: %.*s (\"%s\", from --endpoints or CORACLE_ENDPOINTS)\n", (int)problem.size,
                (const char *)problem.data, options->endpoints);
        buffer_free(&problem);
        mem_free(remote);
        return NULL;
    }
    remote->loop = os_loop_new(NULL, NULL);
    remote->net = os_net_new(remote->loop, &log_none);
    struct loop *loop = os_loop_port(remote->loop);
    struct net *net = os_net_port(remote->net);
    loop_attach(loop, &loop_handler, remote);
    remote->client_count = each ? remote->endpoint_count : 1;
    for (uint32_t i = 0; i < remote->client_count; i++) {
        remote->calls[i].remote = remote;
        remote->clients[i] = each ? client_new(net, loop, &remote->endpoints[i], 1, 0)
                                  : client_new(net, loop, remote->endpoints, remote->endpoint_count, 0);
    }
    return remote;
}

void remote_free(struct remote *remote)
{
    if (remote == NULL) return;
    for (uint32_t i = 0; i < remote->client_count; i++) client_free(remote->clients[i]);
    os_net_free(remote->net);
    os_loop_free(remote->loop);
    mem_free(remote);
}

uint32_t remote_client_count(const struct remote *remote)
{
    return remote->client_count;
}

const struct client_endpoint *remote_endpoint(const struct remote *remote, uint32_t client)
{
    CHECK(client < remote->endpoint_count);
    return &remote->endpoints[client];
}

/* ---- calls ---- */

static void answered(void *user, const struct client_response *response)
{
    struct call *call = user;
    struct remote_answer *answer = call->answer;
    call->answer = NULL;
    answer->error = response->error;
    answer->status = response->status;
    buffer_clear(&answer->body);
    buffer_append(&answer->body, response->body.data, response->body.size);
    bool v6 = strchr(response->endpoint->host, ':') != NULL;
    snprintf(answer->endpoint, sizeof answer->endpoint, "%s%s%s:%u", v6 ? "[" : "", response->endpoint->host,
             v6 ? "]" : "", response->endpoint->port);
    call->remote->pending_count--;
}

void remote_begin(struct remote *remote, uint32_t client, const struct client_request *request,
                  struct remote_answer *answer)
{
    struct call *call = &remote->calls[client];
    CHECK(client < remote->client_count && call->answer == NULL);
    call->answer = answer;
    remote->pending_count++;
    client_request(remote->clients[client], request, answered, call);
}

void remote_wait(struct remote *remote)
{
    if (remote->pending_count > 0) os_loop_run(remote->loop);
}

void remote_call(struct remote *remote, const struct client_request *request, struct remote_answer *answer)
{
    remote_begin(remote, 0, request, answer);
    remote_wait(remote);
}

/* ---- failures ---- */

int remote_fail(const struct remote_options *options, const struct remote_answer *answer)
{
    if (answer->error == ERR_NETWORK) {
        cli_print_failure(options->json, error_code(ERR_NETWORK), options->endpoints,
                          "no node could be reached: is one running there?");
        return CLI_FAILED;
    }
    if (answer->error != ERR_OK) {
        cli_print_failure(options->json, error_code(answer->error), answer->endpoint, error_text(answer->error));
        return CLI_FAILED;
    }
    struct buffer message = {0};
    enum error error = client_kv_error(buffer_bytes(&answer->body), &message);
    buffer_append_byte(&message, '\0');
    cli_print_failure(options->json, error_code(error), answer->endpoint, (const char *)message.data);
    buffer_free(&message);
    return CLI_FAILED;
}
