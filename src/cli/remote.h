/*
 * remote.h - the nodes that a command talks to: client/client.h on the real loop and network, in calls that wait.
 */
#ifndef CORACLE_CLI_REMOTE_H
#define CORACLE_CLI_REMOTE_H

#include "cli/options.h"
#include "client/client.h"

/* What every command that talks to nodes takes. */
struct remote_options {
    const char *endpoints;
    uint64_t timeout_ms;
    bool json;
};

#define REMOTE_ENDPOINTS_ROW(options)                                                                                  \
    {                                                                                                                  \
        .name = "endpoints", .kind = OPTION_TEXT, .value = &(options)->endpoints, .placeholder = "HOST:PORT,…",        \
        .help = "Nodes to ask; the next one is tried when one is down. Without a port: 7777."                          \
    }
#define REMOTE_TIMEOUT_ROW(options)                                                                                    \
    {                                                                                                                  \
        .name = "timeout", .kind = OPTION_NUMBER, .value = &(options)->timeout_ms, .placeholder = "MS",                \
        .help = "How long to try, in milliseconds.", .low = 1, .high = 3600000                                         \
    }
#define REMOTE_JSON_ROW(options)                                                                                       \
    {                                                                                                                  \
        .name = "json", .kind = OPTION_SWITCH, .value = &(options)->json, .help = "Print JSON, for programs."          \
    }

#define REMOTE_ENVIRONMENT_TEXT "CORACLE_ENDPOINTS is read when there is no --endpoints.\n"

/* The defaults: CORACLE_ENDPOINTS or 127.0.0.1:7777, 5 s. */
struct remote_options remote_options_default(void);

/* An answer, or why there is none. */
struct remote_answer {
    enum error error; /* as client_response.error */
    int status;
    struct buffer body;
    char endpoint[ADDRESS_BYTES_MAX + 16];
};
void remote_answer_free(struct remote_answer *answer);

struct remote;

/* One client that uses all endpoints in turn; or, `each`, one client for each endpoint. NULL after printing what is wrong with
   the endpoints: then the command exits with CLI_USAGE. */
struct remote *remote_new(const struct remote_options *options, bool each);
void remote_free(struct remote *remote);
uint32_t remote_client_count(const struct remote *remote);
const struct client_endpoint *remote_endpoint(const struct remote *remote, uint32_t client);

/* Begins a request; its answer is complete once remote_wait returned. One at a time on each client. */
void remote_begin(struct remote *remote, uint32_t client, const struct client_request *request,
                  struct remote_answer *answer);
void remote_wait(struct remote *remote);

/* Both, on the first client. */
void remote_call(struct remote *remote, const struct client_request *request, struct remote_answer *answer);

/* Prints why an answer isn't the one hoped for: "coracle: …" on stderr, or as JSON. Returns CLI_FAILED. */
int remote_fail(const struct remote_options *options, const struct remote_answer *answer);

#endif
