#include "node/join_k8s.h"

#include <stdio.h>
#include <sys/stat.h>

#include "base/mem.h"

enum label { LABEL_ID, LABEL_SIZE, LABEL_SERVICE, LABEL_COUNT };

static const char *const label_names[LABEL_COUNT] = {
    [LABEL_ID] = "raft-cluster/id",
    [LABEL_SIZE] = "raft-cluster/size",
    [LABEL_SERVICE] = "raft-cluster/svcName",
};

/* A label's value has at most 63 bytes (Kubernetes' own limit). */
#define LABEL_BYTES_MAX 63

struct labels {
    char values[LABEL_COUNT][LABEL_BYTES_MAX + 1];
    bool found[LABEL_COUNT];
    bool readable[LABEL_COUNT]; /* found, and well-formed */
};

static void problem(struct buffer *problems, const char *where, const char *what, const char *value, const char *remedy)
{
    buffer_append_format(problems, "cluster_config_path: %s: %s (\"%.100s\"); %s\n", where, what, value, remedy);
}

/* Kubernetes writes values the way Go quotes strings. What a label may hold needs no escape; so a backslash isn't one of ours. */
static bool unquote(struct bytes text, char *out)
{
    if (text.size < 2 || text.size - 2 > LABEL_BYTES_MAX) return false;
    if (text.data[0] != '"' || text.data[text.size - 1] != '"') return false;
    for (size_t i = 1; i + 1 < text.size; i++) {
        uint8_t c = text.data[i];
        if (c == '"' || c == '\\' || c < 0x20) return false;
        out[i - 1] = (char)c;
    }
    out[text.size - 2] = '\0';
    return true;
}

static void read_line(struct bytes line, struct labels *labels, struct buffer *problems)
{
    for (unsigned i = 0; i < LABEL_COUNT; i++) {
        size_t size = strlen(label_names[i]);
        if (line.size <= size || memcmp(line.data, label_names[i], size) != 0 || line.data[size] != '=') continue;
        if (labels->found[i]) problem(problems, "labels", "this label comes twice", label_names[i], "remove one");
        labels->found[i] = true;
        labels->readable[i] = unquote(bytes_of(line.data + size + 1, line.size - size - 1), labels->values[i]);
        if (!labels->readable[i]) {
            problem(problems, "labels", "this label's value is malformed", label_names[i],
                    "write key=\"value\", as the downward API does");
        }
    }
}

static void read_labels(struct bytes text, struct labels *labels, struct buffer *problems)
{
    const uint8_t *at = text.data;
    const uint8_t *end = text.data + text.size;
    while (at < end) {
        const uint8_t *line_end = memchr(at, '\n', (size_t)(end - at));
        if (line_end == NULL) line_end = end;
        size_t size = (size_t)(line_end - at);
        if (size > 0 && at[size - 1] == '\r') size--;
        read_line(bytes_of(at, size), labels, problems);
        at = line_end < end ? line_end + 1 : end;
    }
    for (unsigned i = 0; i < LABEL_COUNT; i++) {
        if (!labels->found[i]) {
            problem(problems, "labels", "a label is missing", label_names[i], "add it to the pod's labels");
        }
    }
}

/* A name that can be part of a host name (RFC 1123). */
static bool is_dns_name(const char *name)
{
    size_t size = strlen(name);
    if (size == 0 || name[0] == '-' || name[size - 1] == '-' || name[0] == '.' || name[size - 1] == '.') return false;
    for (size_t i = 0; i < size; i++) {
        char c = name[i];
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-' && c != '.') return false;
    }
    return true;
}

static uint32_t read_size(const char *text, struct buffer *problems)
{
    if (text[0] >= '1' && text[0] <= '0' + MEMBERS_MAX && text[1] == '\0') return (uint32_t)(text[0] - '0');
    char remedy[64];
    snprintf(remedy, sizeof remedy, "give a number from 1 to %d", MEMBERS_MAX);
    problem(problems, "labels", "raft-cluster/size is no size for a cluster", text, remedy);
    return 0;
}

static void check_namespace(struct bytes text, struct buffer *problems)
{
    char name[LABEL_BYTES_MAX + 1] = "";
    while (text.size > 0 && (text.data[text.size - 1] == '\n' || text.data[text.size - 1] == '\r')) text.size--;
    if (text.size <= LABEL_BYTES_MAX && text.size > 0) memcpy(name, text.data, text.size);
    if (!is_dns_name(name)) {
        problem(problems, "k8s-ns", "is no namespace", name, "let the downward API write metadata.namespace there");
    }
}

bool join_k8s_parse(struct bytes labels_text, struct bytes name_space, uint16_t rpc_port, uint16_t api_port,
                    struct join_cluster *out, struct buffer *problems)
{
    struct labels labels = {0};
    size_t problems_before = problems->size;
    *out = (struct join_cluster){0};
    if (labels_text.data != NULL) read_labels(labels_text, &labels, problems);
    if (name_space.data != NULL) check_namespace(name_space, problems);

    const char *id = labels.values[LABEL_ID];
    const char *service = labels.values[LABEL_SERVICE];
    uint32_t size = 0;
    if (labels.readable[LABEL_SIZE]) size = read_size(labels.values[LABEL_SIZE], problems);
    bool named = is_dns_name(id) && strlen(id) + 2 <= NODE_ID_BYTES_MAX;
    if (labels.readable[LABEL_ID] && !named) {
        problem(problems, "labels", "raft-cluster/id can't be part of a host name", id,
                "give the StatefulSet's name: lower-case letters, digits and '-', at most 61");
    }
    if (labels.readable[LABEL_SERVICE] && !is_dns_name(service)) {
        problem(problems, "labels", "raft-cluster/svcName can't be part of a host name", service,
                "give the headless service's name");
    }
    /* The names are known also when something else is wrong. */
    if (!named) size = 0;
    out->member_count = size;
    for (uint32_t i = 0; i < size; i++) {
        struct join_member *member = &out->members[i];
        snprintf(member->node_id, sizeof member->node_id, "%.61s-%u", id, i);
        snprintf(member->rpc_host, sizeof member->rpc_host, "%s.%s", member->node_id, service);
        snprintf(member->api_host, sizeof member->api_host, "%s.%s", member->node_id, service);
        member->rpc_port = rpc_port;
        member->api_port = api_port;
    }
    return problems->size == problems_before;
}

/* What was read, of which no byte may be there. */
static struct bytes text_of(const struct buffer *read)
{
    return read->size > 0 ? buffer_bytes(read) : bytes_of_string("");
}

static char *path_in(const char *path, const char *name)
{
    struct stat about;
    struct buffer out = {0};
    size_t size = strlen(path);
    /* A file such as …/labels stands for its directory. */
    if (stat(path, &about) == 0 && !S_ISDIR(about.st_mode)) {
        while (size > 0 && path[size - 1] != '/') size--;
    }
    buffer_append(&out, path, size);
    if (size > 0 && path[size - 1] != '/') buffer_append_byte(&out, '/');
    buffer_append_string(&out, name);
    buffer_append_byte(&out, '\0');
    return (char *)out.data;
}

bool join_k8s_read(const char *path, uint16_t rpc_port, uint16_t api_port, struct join_cluster *out,
                   struct buffer *problems)
{
    struct buffer labels = {0};
    struct buffer name_space = {0};
    char *labels_path = path_in(path, "labels");
    char *name_space_path = path_in(path, "k8s-ns");
    struct bytes nothing = bytes_of(NULL, 0);
    bool labels_read = join_read_file(labels_path, &labels, problems);
    bool name_space_read = join_read_file(name_space_path, &name_space, problems);
    bool good = join_k8s_parse(labels_read ? text_of(&labels) : nothing,
                               name_space_read ? text_of(&name_space) : nothing, rpc_port, api_port, out, problems);
    good = good && labels_read && name_space_read;
    buffer_free(&labels);
    buffer_free(&name_space);
    mem_free(labels_path);
    mem_free(name_space_path);
    return good;
}
