#include "node/join_static.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

/* One reading: what it reads, and where problems go. */
struct reading {
    const char *name;
    struct join_cluster *cluster;
    struct buffer *problems;
};

static void problem(struct reading *reading, const char *what, const char *remedy)
{
    buffer_append_format(reading->problems, "cluster_config_path: %s (in %s); %s\n", what, reading->name, remedy);
}

static void member_problem(struct reading *reading, size_t number, const char *what, const char *value,
                           const char *remedy)
{
    buffer_append_format(reading->problems, "cluster_config_path: member %zu: %s (\"%.100s\", in %s); %s\n", number,
                         what, value, reading->name, remedy);
}

/* `value`: what stands there, of the wrong type; NULL for nothing. */
static void type_problem(struct reading *reading, size_t number, const char *what, const json_t *value,
                         const char *remedy)
{
    char *shown = value != NULL ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    buffer_append_format(reading->problems, "cluster_config_path: member %zu: %s (%.100s, in %s); %s\n", number, what,
                         shown != NULL ? shown : "not set", reading->name, remedy);
    free(shown);
}

static void address_problem(struct reading *reading, size_t number, const char *what, const char *host, uint16_t port,
                            const char *remedy)
{
    char address[ADDRESS_BYTES_MAX + sizeof "[]:65535"];
    bool v6 = strchr(host, ':') != NULL;
    snprintf(address, sizeof address, "%s%s%s:%u", v6 ? "[" : "", host, v6 ? "]" : "", port);
    member_problem(reading, number, what, address, remedy);
}

static const char *read_text(struct reading *reading, size_t number, const json_t *row, const char *field)
{
    const json_t *value = json_object_get(row, field);
    if (json_is_string(value)) return json_string_value(value);
    char what[64];
    snprintf(what, sizeof what, value == NULL ? "%s is missing" : "%s is no text", field);
    type_problem(reading, number, what, value, "write it as a text in quotes");
    return NULL;
}

static void read_address(struct reading *reading, size_t number, const json_t *row, const char *field, char *host,
                         uint16_t *port)
{
    const char *text = read_text(reading, number, row, field);
    if (text == NULL || join_parse_address(bytes_of_string(text), host, port)) return;
    char what[64];
    snprintf(what, sizeof what, "%s is no address", field);
    host[0] = '\0';
    member_problem(reading, number, what, text, "write it as host:port, without a scheme");
}

static void read_member(struct reading *reading, size_t number, const json_t *row, struct join_member *member)
{
    if (!json_is_object(row)) {
        type_problem(reading, number, "is no object", row, "write {\"node_id\": …, \"rpc_url\": …, \"api_url\": …}");
        return;
    }
    const char *node_id = read_text(reading, number, row, "node_id");
    if (node_id != NULL && join_node_id_is_valid(bytes_of_string(node_id))) {
        snprintf(member->node_id, sizeof member->node_id, "%s", node_id);
    } else if (node_id != NULL) {
        member_problem(reading, number, "node_id is not a node's name", node_id,
                       "use at most 63 letters, digits, '-', '_' and '.', beginning with a letter or digit");
    }
    read_address(reading, number, row, "rpc_url", member->rpc_host, &member->rpc_port);
    read_address(reading, number, row, "api_url", member->api_host, &member->api_port);

    const char *field;
    json_t *value;
    json_object_foreach((json_t *)row, field, value)
    {
        bool known = strcmp(field, "node_id") == 0 || strcmp(field, "rpc_url") == 0 || strcmp(field, "api_url") == 0;
        if (!known) member_problem(reading, number, "there is no such field", field, "remove it");
    }
}

/* A host and port that two members, or two purposes, share. */
static bool same_address(const char *a_host, uint16_t a_port, const char *b_host, uint16_t b_port)
{
    return a_host[0] != '\0' && a_port == b_port && strcmp(a_host, b_host) == 0;
}

static void compare_members(struct reading *reading, size_t i, size_t j)
{
    const struct join_member *a = &reading->cluster->members[i];
    const struct join_member *b = &reading->cluster->members[j];
    char what[96];
    if (a->node_id[0] != '\0' && strcmp(a->node_id, b->node_id) == 0) {
        snprintf(what, sizeof what, "node_id is that of member %zu too", i + 1);
        member_problem(reading, j + 1, what, b->node_id, "give each member its own");
    } else if (a->node_id[0] != '\0' && b->node_id[0] != '\0' && member_id_of(a->node_id) == member_id_of(b->node_id)) {
        snprintf(what, sizeof what, "node_id has the same hash as that of member %zu", i + 1);
        member_problem(reading, j + 1, what, b->node_id, "give one of them another name");
    }
    if (same_address(a->rpc_host, a->rpc_port, b->rpc_host, b->rpc_port)) {
        snprintf(what, sizeof what, "rpc_url is that of member %zu too", i + 1);
        address_problem(reading, j + 1, what, b->rpc_host, b->rpc_port, "give each member its own address");
    }
    if (same_address(a->api_host, a->api_port, b->api_host, b->api_port)) {
        snprintf(what, sizeof what, "api_url is that of member %zu too", i + 1);
        address_problem(reading, j + 1, what, b->api_host, b->api_port, "give each member its own address");
    }
    if (same_address(a->rpc_host, a->rpc_port, b->api_host, b->api_port)) {
        snprintf(what, sizeof what, "api_url is the rpc_url of member %zu", i + 1);
        address_problem(reading, j + 1, what, b->api_host, b->api_port, "give each its own address");
    }
    if (same_address(a->api_host, a->api_port, b->rpc_host, b->rpc_port)) {
        snprintf(what, sizeof what, "rpc_url is the api_url of member %zu", i + 1);
        address_problem(reading, j + 1, what, b->rpc_host, b->rpc_port, "give each its own address");
    }
}

static void read_members(struct reading *reading, const json_t *root)
{
    size_t count = json_array_size(root);
    if (!json_is_array(root)) {
        problem(reading, "is no list", "write [{\"node_id\": …, \"rpc_url\": …, \"api_url\": …}, …]");
        return;
    }
    if (count == 0) {
        problem(reading, "names no members", "write one {\"node_id\": …, \"rpc_url\": …, \"api_url\": …} for each");
        return;
    }
    if (count > MEMBERS_MAX) {
        char what[64];
        snprintf(what, sizeof what, "names %zu members, more than %d", count, MEMBERS_MAX);
        problem(reading, what, "three or five are usual");
        return;
    }
    reading->cluster->member_count = (uint32_t)count;
    for (size_t i = 0; i < count; i++) {
        struct join_member *member = &reading->cluster->members[i];
        read_member(reading, i + 1, json_array_get(root, i), member);
        if (same_address(member->rpc_host, member->rpc_port, member->api_host, member->api_port)) {
            address_problem(reading, i + 1, "api_url is its rpc_url too", member->api_host, member->api_port,
                            "give each its own address");
        }
        for (size_t j = 0; j < i; j++) compare_members(reading, j, i);
    }
}

bool join_static_parse(struct bytes text, const char *name, struct join_cluster *out, struct buffer *problems)
{
    struct reading reading = {.name = name, .cluster = out, .problems = problems};
    size_t problems_before = problems->size;
    json_error_t error;
    *out = (struct join_cluster){0};
    json_t *root = json_loadb((const char *)text.data, text.size, JSON_REJECT_DUPLICATES, &error);
    if (root == NULL) {
        buffer_append_format(problems,
                             "cluster_config_path: is not valid JSON (%s, line %d, column %d: %s); correct the file\n",
                             name, error.line, error.column, error.text);
        return false;
    }
    read_members(&reading, root);
    json_decref(root);
    return problems->size == problems_before;
}

bool join_static_read(const char *path, struct join_cluster *out, struct buffer *problems)
{
    struct buffer text = {0};
    bool good = join_read_file(path, &text, problems) && join_static_parse(buffer_bytes(&text), path, out, problems);
    buffer_free(&text);
    return good;
}
