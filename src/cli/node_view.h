/*
 * node_view.h - what one node says about itself and the cluster: the answer of GET /v1/cluster, read.
 */
#ifndef CORACLE_CLI_NODE_VIEW_H
#define CORACLE_CLI_NODE_VIEW_H

#include <jansson.h>

#include "base/bytes.h"
#include "base/types.h"
#include "cli/remote.h"

struct member_view {
    char node_id[NODE_ID_BYTES_MAX + 1];
    char api_address[ADDRESS_BYTES_MAX + 1];
    bool reachable;
    bool leads;
    bool match_known;
    raft_index match_index;
};

struct node_view {
    char node_id[NODE_ID_BYTES_MAX + 1];
    char leader[NODE_ID_BYTES_MAX + 1]; /* "" when the node knows none */
    char role[32];
    uint64_t term, commit_index, applied_index, revision;
    char apply_hash[32];
    bool uncertain, diverged, disk_full;
    struct member_view members[MEMBERS_MAX];
    uint32_t member_count;
};

/* False when the body is no such answer. */
bool node_view_read(struct bytes body, struct node_view *out);

/* The answer as a JSON object, with "endpoint", who answered; NULL when the body is no such answer. The caller's. */
json_t *node_view_json(struct bytes body, const char *endpoint);

/* "ok", or what is wrong with the node, in a word. Static. */
const char *node_view_health(const struct node_view *view);

/* The request that both are the answer of. */
struct client_request node_view_request(uint64_t timeout_ms);

#endif
