#include "cli/node_view.h"

#include <stdio.h>

struct client_request node_view_request(uint64_t timeout_ms)
{
    return (struct client_request){
        .method = "GET",
        .path = bytes_of_string("/v1/cluster"),
        .timeout = (time_ns)timeout_ms * TIME_NS_PER_MS,
        .idempotent = true,
    };
}

static json_t *parse(struct bytes body)
{
    json_error_t error;
    json_t *root = json_loadb((const char *)body.data, body.size, 0, &error);
    if (json_is_array(json_object_get(root, "members"))) return root;
    json_decref(root);
    return NULL;
}

static void read_text(const json_t *object, const char *name, char *out, size_t capacity)
{
    const char *text = json_string_value(json_object_get(object, name));
    snprintf(out, capacity, "%s", text != NULL ? text : "");
}

static uint64_t read_number(const json_t *object, const char *name)
{
    return (uint64_t)json_integer_value(json_object_get(object, name));
}

static bool read_flag(const json_t *object, const char *name)
{
    return json_is_true(json_object_get(object, name));
}

static void read_member(const json_t *row, struct member_view *out)
{
    read_text(row, "node_id", out->node_id, sizeof out->node_id);
    read_text(row, "api_address", out->api_address, sizeof out->api_address);
    out->reachable = read_flag(row, "reachable");
    out->leads = read_flag(row, "is_leader");
    out->match_known = json_object_get(row, "match_index") != NULL;
    out->match_index = read_number(row, "match_index");
}

bool node_view_read(struct bytes body, struct node_view *out)
{
    json_t *root = parse(body);
    *out = (struct node_view){0};
    if (root == NULL) return false;
    read_text(root, "node_id", out->node_id, sizeof out->node_id);
    read_text(root, "role", out->role, sizeof out->role);
    read_text(root, "apply_hash", out->apply_hash, sizeof out->apply_hash);
    out->term = read_number(root, "term");
    out->commit_index = read_number(root, "commit_index");
    out->applied_index = read_number(root, "applied_index");
    out->revision = read_number(root, "revision");
    out->uncertain = read_flag(root, "uncertain");
    out->diverged = read_flag(root, "diverged");
    out->disk_full = read_flag(root, "disk_full");
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(root, "members"), i, row)
    {
        if (i == MEMBERS_MAX) break;
        struct member_view *member = &out->members[out->member_count++];
        read_member(row, member);
        if (member->leads) memcpy(out->leader, member->node_id, sizeof out->leader);
    }
    json_decref(root);
    return true;
}

json_t *node_view_json(struct bytes body, const char *endpoint)
{
    json_t *root = parse(body);
    if (root == NULL) return NULL;
    json_object_set_new(root, "endpoint", json_string(endpoint));
    return root;
}

const char *node_view_health(const struct node_view *view)
{
    if (view->diverged) return "diverged";
    if (view->uncertain) return "uncertain";
    if (view->disk_full) return "disk full";
    if (view->leader[0] == '\0') return "no leader";
    return "ok";
}
