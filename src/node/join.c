#define _GNU_SOURCE 1
#include "node/join.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "node/join_k8s.h"
#include "node/join_static.h"

#define FILE_BYTES_MAX (1024u * 1024)

bool join_node_id_is_valid(struct bytes node_id)
{
    if (node_id.size == 0 || node_id.size > NODE_ID_BYTES_MAX) return false;
    for (size_t i = 0; i < node_id.size; i++) {
        uint8_t c = node_id.data[i];
        bool alphanumeric = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        bool mark = c == '-' || c == '_' || c == '.';
        if (!alphanumeric && !(mark && i > 0)) return false;
    }
    return true;
}

bool join_host_is_loopback(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (strcasecmp(host, "localhost") == 0) return true;
    if (inet_pton(AF_INET, host, &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, host, &v6) == 1) return IN6_IS_ADDR_LOOPBACK(&v6);
    return false;
}

static bool is_numeric_address(const char *host)
{
    struct in6_addr address;
    return inet_pton(AF_INET, host, &address) == 1 || inet_pton(AF_INET6, host, &address) == 1;
}

static bool is_host_name_byte(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '-' || c == '.' ||
           c == '_';
}

static bool parse_port(struct bytes text, uint16_t *port)
{
    unsigned value = 0;
    if (text.size == 0 || text.size > 5) return false;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') return false;
        value = value * 10 + (text.data[i] - '0');
    }
    if (value == 0 || value > UINT16_MAX) return false;
    *port = (uint16_t)value;
    return true;
}

bool join_parse_address(struct bytes text, char *host, uint16_t *port)
{
    const uint8_t *colon = text.size > 0 ? memrchr(text.data, ':', text.size) : NULL;
    if (colon == NULL) return false;
    struct bytes name = bytes_of(text.data, (size_t)(colon - text.data));
    struct bytes digits = bytes_of(colon + 1, text.size - name.size - 1);
    bool bracketed = name.size >= 2 && name.data[0] == '[' && name.data[name.size - 1] == ']';
    if (bracketed) name = bytes_of(name.data + 1, name.size - 2);
    /* "host:port" in brackets has to fit too, where it is shown. */
    if (name.size == 0 || name.size > ADDRESS_BYTES_MAX - sizeof "[]:65535") return false;
    if (!parse_port(digits, port)) return false;

    memcpy(host, name.data, name.size);
    host[name.size] = '\0';
    if (bracketed) {
        struct in6_addr address;
        return memchr(name.data, '\0', name.size) == NULL && inet_pton(AF_INET6, host, &address) == 1;
    }
    for (size_t i = 0; i < name.size; i++) {
        if (!is_host_name_byte(name.data[i])) return false;
    }
    return true;
}

const struct join_member *join_find(const struct join_cluster *cluster, const char *node_id)
{
    for (uint32_t i = 0; i < cluster->member_count; i++) {
        if (strcmp(cluster->members[i].node_id, node_id) == 0) return &cluster->members[i];
    }
    return NULL;
}

static void unreadable(const char *path, int failure, struct buffer *problems)
{
    buffer_append_format(problems,
                         "cluster_config_path: can't be read (\"%s\": %s); give what the cluster mode needs\n", path,
                         strerror(failure));
}

bool join_read_file(const char *path, struct buffer *out, struct buffer *problems)
{
    char chunk[4096];
    size_t got;
    FILE *stream = fopen(path, "re");
    while (stream != NULL && out->size <= FILE_BYTES_MAX && (got = fread(chunk, 1, sizeof chunk, stream)) > 0) {
        buffer_append(out, chunk, got);
    }
    bool failed = stream == NULL || ferror(stream);
    int failure = errno;
    if (stream != NULL) fclose(stream);
    if (failed) {
        unreadable(path, failure, problems);
    } else if (out->size > FILE_BYTES_MAX) {
        failed = true;
        buffer_append_format(
            problems, "cluster_config_path: is larger than 1 MiB (\"%s\"); give what the cluster mode needs\n", path);
    }
    return !failed;
}

/* Without a cluster configuration: this node, alone. */
static void join_alone(const struct config *config, struct join_cluster *out)
{
    const char *listen_host = config_text(config, SETTING_LISTEN_HOST);
    bool named = listen_host != NULL && strcmp(listen_host, "0.0.0.0") != 0 && strcmp(listen_host, "::") != 0;
    struct join_member *member = &out->members[0];
    out->member_count = 1;
    snprintf(member->node_id, sizeof member->node_id, "%s", config_text(config, SETTING_NODE_ID));
    snprintf(member->rpc_host, sizeof member->rpc_host, "%s", named ? listen_host : "localhost");
    snprintf(member->api_host, sizeof member->api_host, "%s", named ? listen_host : "localhost");
    member->rpc_port = (uint16_t)config_number(config, SETTING_RPC_PORT);
    member->api_port = (uint16_t)config_number(config, SETTING_API_PORT);
}

/* A port left at its default is the one that the cluster configuration gives this node; one that differs may be meant (a
   proxy, a mapped port), but is more often a slip. */
static void take_port(struct config *config, enum setting_id id, uint16_t listed)
{
    if (!config->values[id].valid) return;
    if (config->values[id].source == CONFIG_DEFAULT) {
        if (config_number(config, id) != listed) config_derive_number(config, id, listed, "cluster_config_path");
    } else if (config_number(config, id) != listed) {
        config_warn(config, "%s: differs from what others are told (%llu, from %s; the cluster configuration says %u)",
                    config_field(id), (unsigned long long)config_number(config, id), config->values[id].origin, listed);
    }
}

/* Whether "::" can be listened on, which then takes IPv4 too. */
static bool ipv6_is_there(void)
{
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_ANY_INIT};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool there = fd >= 0 && bind(fd, (struct sockaddr *)&any, sizeof any) == 0;
    if (fd >= 0) close(fd);
    return there;
}

static void choose_listen_host(const struct config *config, const struct join_member *self, char *listen_host)
{
    const size_t capacity = ADDRESS_BYTES_MAX + 1;
    const char *asked = config_text(config, SETTING_LISTEN_HOST);
    bool rpc_loopback = join_host_is_loopback(self->rpc_host);
    bool api_loopback = join_host_is_loopback(self->api_host);
    if (asked != NULL) {
        snprintf(listen_host, capacity, "%s", asked);
    } else if (rpc_loopback && api_loopback) {
        snprintf(listen_host, capacity, "%s", is_numeric_address(self->rpc_host) ? self->rpc_host : "127.0.0.1");
    } else if (strcmp(self->rpc_host, self->api_host) == 0 && is_numeric_address(self->rpc_host)) {
        snprintf(listen_host, capacity, "%s", self->rpc_host);
    } else {
        /* A name says nothing about interfaces, least of all one that others resolve. */
        snprintf(listen_host, capacity, "%s", ipv6_is_there() ? "::" : "0.0.0.0");
    }
}

/* All that can be said of the path while nobody knows what it should lead to. */
static void check_readable(const char *path, struct buffer *problems)
{
    if (access(path, R_OK) != 0) unreadable(path, errno, problems);
}

/*
 * What the mode gives; false when it doesn't give all, which `problems` explains, here or by the setting's own line. Members
 * whose names are known are there nevertheless.
 */
static bool read_members(const struct config *config, struct join_cluster *out, struct buffer *problems)
{
    const char *path = config_text(config, SETTING_CLUSTER_CONFIG_PATH);
    if (path == NULL || !config->values[SETTING_CLUSTER_CONFIG_PATH].valid) return false;
    if (!config->values[SETTING_CLUSTER_MODE].valid) {
        check_readable(path, problems);
        return false;
    }
    if (config_number(config, SETTING_CLUSTER_MODE) != CLUSTER_MODE_K8S) return join_static_read(path, out, problems);
    return join_k8s_read(path, (uint16_t)config_number(config, SETTING_RPC_PORT),
                         (uint16_t)config_number(config, SETTING_API_PORT), out, problems);
}

static void self_is_missing(const struct config *config, const struct join_cluster *cluster, struct buffer *problems)
{
    struct buffer remedy = {0};
    const char *before = "give one of ";
    for (uint32_t i = 0; i < cluster->member_count; i++) {
        const char *name = cluster->members[i].node_id;
        if (name[0] == '\0') continue; /* has a line of its own */
        buffer_append_format(&remedy, "%s%s", before, name);
        before = ", ";
    }
    buffer_append_format(&remedy, "%sadd it to %s", remedy.size > 0 ? ", or " : "",
                         config_text(config, SETTING_CLUSTER_CONFIG_PATH));
    buffer_append_byte(&remedy, '\0');
    config_problem(config, problems, SETTING_NODE_ID, "is not in the cluster configuration", (const char *)remedy.data);
    buffer_free(&remedy);
}

static void check_ports_differ(const struct config *config, struct buffer *problems)
{
    bool valid = config->values[SETTING_RPC_PORT].valid && config->values[SETTING_API_PORT].valid;
    if (!valid || config_number(config, SETTING_RPC_PORT) != config_number(config, SETTING_API_PORT)) return;
    config_problem(config, problems, SETTING_RPC_PORT, "is the same as api_port", "give two different ports");
}

bool join_resolve(struct config *config, struct join_cluster *out, char *listen_host, struct buffer *problems)
{
    size_t problems_before = problems->size;
    bool alone = config_text(config, SETTING_CLUSTER_CONFIG_PATH) == NULL;
    const struct join_member *self = NULL;
    *out = (struct join_cluster){0};
    listen_host[0] = '\0';
    bool good = alone || read_members(config, out, problems);
    if ((good || out->member_count > 0) && config->values[SETTING_NODE_ID].valid) {
        if (alone) join_alone(config, out);
        self = join_find(out, config_text(config, SETTING_NODE_ID));
        if (self == NULL) self_is_missing(config, out, problems);
    }
    if (good && self != NULL) {
        take_port(config, SETTING_RPC_PORT, self->rpc_port);
        take_port(config, SETTING_API_PORT, self->api_port);
        choose_listen_host(config, self, listen_host);
    }
    check_ports_differ(config, problems);
    if (out->member_count > 0 && out->member_count % 2 == 0) {
        config_warn(config, "cluster_config_path: %u members survive no more failures than %u; an odd number is better",
                    out->member_count, out->member_count - 1);
    }
    return problems->size == problems_before;
}
