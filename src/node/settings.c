#define _GNU_SOURCE 1
#include "node/settings.h"

#include "base/check.h"
#include "base/entry.h"

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define HOUR_MS UINT64_C(3600000)

/* A value, its key of up to 64 KiB and the command around them are one entry. */
#define REQUEST_BYTES_HIGH (ENTRY_PAYLOAD_BYTES_MAX - 128u * 1024)

/* Rows without a default that are numbers take theirs from drive_config_defaults. */
/* clang-format off */
const struct setting settings_table[SETTING_COUNT] = {
    [SETTING_NODE_ID] = {
        "node_id", "id", NULL, "NODE_ID", SETTING_IS_TEXT, NULL, 0, 0, NULL,
        "The name of this node, one of those in the cluster configuration. Required."},
    [SETTING_API_PORT] = {
        "api_port", "api-port", NULL, NULL, SETTING_IS_PORT, "7777", 1, 65535, NULL,
        "Where clients connect."},
    [SETTING_RPC_PORT] = {
        "rpc_port", "rpc-port", NULL, NULL, SETTING_IS_PORT, "6666", 1, 65535, NULL,
        "Where the other nodes connect."},
    [SETTING_LISTEN_HOST] = {
        "listen_host", "listen-host", NULL, NULL, SETTING_IS_TEXT, NULL, 0, 0, NULL,
        "The address to listen on, for both ports. By default loopback, unless the cluster configuration names this "
        "node by another address."},
    [SETTING_CLUSTER_MODE] = {
        "cluster_mode", "join-mode", NULL, NULL, SETTING_IS_CHOICE, "static", 0, 0, "static|cluster-file|k8s",
        "How the nodes find each other: a JSON file (static, also called cluster-file), or what Kubernetes' "
        "downward API puts into a directory (k8s)."},
    [SETTING_CLUSTER_CONFIG_PATH] = {
        "cluster_config_path", "cluster-config-path", NULL, "CLUSTER_CONFIG_PATH", SETTING_IS_PATH, NULL, 0, 0, NULL,
        "The file, or in mode k8s the directory, that says who is in the cluster. Without it this node is alone."},
    [SETTING_DATA_DIR] = {
        "data_dir", "data-dir", NULL, NULL, SETTING_IS_PATH, NULL, 0, 0, NULL,
        "Where the data are, unless one of the four paths below says otherwise. By default <id>.coracle."},
    [SETTING_LOG_ENTRY_PATH] = {
        "write_ahead_log_entry_path", "log-entry-path", NULL, NULL, SETTING_IS_PATH, NULL, 0, 0, NULL,
        "The directory of the write-ahead log's segments. By default DATA/log."},
    [SETTING_LOG_METADATA_PATH] = {
        "write_ahead_log_metadata_path", "log-metadata-path", NULL, NULL, SETTING_IS_PATH, NULL, 0, 0, NULL,
        "The file that says which segments there are. By default DATA/log/metadata."},
    [SETTING_RAFT_STATE_PATH] = {
        "raft_state_path", "raft-state-path", NULL, NULL, SETTING_IS_PATH, NULL, 0, 0, NULL,
        "The file with term, vote and identity. By default DATA/state."},
    [SETTING_SNAPSHOT_PATH] = {
        "snapshot_path", "snapshot-path", NULL, NULL, SETTING_IS_PATH, NULL, 0, 0, NULL,
        "The directory of the snapshots. By default DATA/snapshot."},
    [SETTING_ELECTION_TIMEOUT] = {
        "election_timeout_in_millis", "election-timeout", NULL, NULL, SETTING_IS_MILLIS, "1000", 20, HOUR_MS, NULL,
        "A follower that hears nothing for this long, up to twice as long, campaigns."},
    [SETTING_HEARTBEAT] = {
        "heartbeat_interval_in_millis", "heartbeat", "heartbeat-interval", NULL, SETTING_IS_MILLIS, "100", 5,
        HOUR_MS, NULL,
        "How often an idle leader shows that it is there; at most a third of the election timeout."},
    [SETTING_RPC_TIMEOUT] = {
        "rpc_timeout_in_millis", "rpc-timeout", NULL, NULL, SETTING_IS_MILLIS, "1000", 10, HOUR_MS, NULL,
        "How long to wait for a connection to another node and for its greeting; and how long it may be silent before the "
        "connection is given up."},
    [SETTING_API_TIMEOUT] = {
        "api_timeout_in_millis", "api-timeout", NULL, NULL, SETTING_IS_MILLIS, "2000", 10, HOUR_MS, NULL,
        "A request that lasts longer is answered with 504."},
    [SETTING_API_FWD_TIMEOUT] = {
        "api_fwd_timeout_in_millis", "api-fwd-timeout", NULL, NULL, SETTING_IS_MILLIS, "1500", 10, HOUR_MS, NULL,
        "How long a follower waits for the leader that it forwarded a request to."},
    [SETTING_CONN_RETRY_ATTEMPTS] = {
        "max_conn_retry_attempts", "max-conn-retry-attempts", NULL, NULL, SETTING_IS_NUMBER, "5", 1, 1000, NULL,
        "Attempts before a node counts as unreachable; connecting goes on, less and less often."},
    [SETTING_MAX_REQUEST_BYTES] = {
        "max_request_bytes", "max-request-bytes", NULL, NULL, SETTING_IS_BYTES, NULL, 1, REQUEST_BYTES_HIGH, NULL,
        "The largest value; what is larger is answered with 413."},
    [SETTING_SEGMENT_BYTES] = {
        "log_segment_bytes", "log-segment-bytes", NULL, NULL, SETTING_IS_BYTES, NULL, 4 * MIB, 4 * GIB, NULL,
        "The size of a full segment of the log. The first ones are smaller."},
    [SETTING_SNAPSHOT_LOG_BYTES] = {
        "snapshot_log_bytes", "snapshot-log-bytes", NULL, NULL, SETTING_IS_BYTES, NULL, 64 * KIB, 1024 * GIB, NULL,
        "A snapshot is made when this much log was written since the last one, and more than snapshot_state_percent "
        "of the state's size."},
    [SETTING_SNAPSHOT_STATE_PERCENT] = {
        "snapshot_state_percent", "snapshot-state-percent", NULL, NULL, SETTING_IS_PERCENT, NULL, 1, 10000, NULL,
        "See snapshot_log_bytes. The lower, the faster a start, and the more is written."},
    [SETTING_CACHE_BYTES] = {
        "log_cache_bytes", "log-cache-bytes", NULL, NULL, SETTING_IS_BYTES, NULL, 64 * KIB, 64 * GIB, NULL,
        "The end of the log that is kept in memory for other nodes."},
    [SETTING_LOG_TAIL_BYTES] = {
        "log_tail_bytes", "log-tail-bytes", NULL, NULL, SETTING_IS_BYTES, NULL, 0, 1024 * GIB, NULL,
        "Log that is kept behind a snapshot for nodes that were away, so that they need no snapshot."},
    [SETTING_SCRUB_INTERVAL] = {
        "scrub_interval_in_millis", "scrub-interval", NULL, NULL, SETTING_IS_MILLIS, NULL, 0, 90 * 24 * HOUR_MS, NULL,
        "How often all files are read again to find damage early; 0: never."},
    [SETTING_SCRUB_RATE] = {
        "scrub_bytes_per_second", "scrub-bytes-per-second", NULL, NULL, SETTING_IS_BYTES, NULL, 64 * KIB, 64 * GIB, NULL,
        "How fast they are read while that goes on."},
    [SETTING_MAX_CONNECTIONS] = {
        "max_connections", "max-connections", NULL, NULL, SETTING_IS_NUMBER, NULL, 1, 1000000, NULL,
        "Connections of clients; further ones are closed at once."},
    [SETTING_CONNECTION_MEMORY] = {
        "connection_memory_bytes", "connection-memory-bytes", NULL, NULL, SETTING_IS_BYTES, NULL, 4 * MIB,
        1024 * GIB, NULL,
        "What all clients' connections together may hold in memory. Unless set, at most an eighth of the memory limit."},
    [SETTING_IDLE_TIMEOUT] = {
        "idle_timeout_in_millis", "idle-timeout", NULL, NULL, SETTING_IS_MILLIS, NULL, 100, 24 * HOUR_MS, NULL,
        "A client's connection without a request for this long is closed."},
    [SETTING_FORCE_START] = {
        "force_start", "force-start", NULL, NULL, SETTING_IS_SWITCH, "false", 0, 1, NULL,
        "Start a node whose data are gone without waiting for the others. Writes that only it had are lost; see "
        "docs/OPERATIONS.md."},
    [SETTING_LOG_LEVEL] = {
        "log_level", "log-level", NULL, NULL, SETTING_IS_CHOICE, "info", 0, 0, "debug|info|warn|error",
        "What is logged to stderr."},
    [SETTING_LOG_FORMAT] = {
        "log_format", "log-format", NULL, NULL, SETTING_IS_CHOICE, "text", 0, 0, "text|json",
        "Lines for people, or one JSON object a line."},
};
/* clang-format on */

/* Flags of `serve` that are no settings. */
static const char *const other_flags[] = {"config-file", "print-config", "check", "help", "version"};

static bool is_name(const char *name, size_t size, const char *candidate)
{
    return candidate != NULL && strlen(candidate) == size && memcmp(name, candidate, size) == 0;
}

enum setting_id settings_find_flag(const char *name, size_t size)
{
    for (unsigned i = 0; i < SETTING_COUNT; i++) {
        const struct setting *setting = &settings_table[i];
        if (is_name(name, size, setting->flag) || is_name(name, size, setting->second_flag)) return (enum setting_id)i;
    }
    return SETTING_COUNT;
}

enum setting_id settings_find_field(const char *name)
{
    for (unsigned i = 0; i < SETTING_COUNT; i++) {
        if (strcmp(name, settings_table[i].field) == 0) return (enum setting_id)i;
    }
    return SETTING_COUNT;
}

unsigned settings_distance(const char *a, size_t a_size, const char *b, size_t b_size)
{
    /* Optimal string alignment: insertions, deletions, changes, and swaps of neighbours; three rows of its table. */
    enum { SIZE_MAX_COMPARED = 63 };
    if (a_size > SIZE_MAX_COMPARED || b_size > SIZE_MAX_COMPARED) return 255;
    unsigned rows[3][SIZE_MAX_COMPARED + 1];
    for (size_t j = 0; j <= b_size; j++) rows[0][j] = (unsigned)j;
    for (size_t i = 1; i <= a_size; i++) {
        unsigned *row = rows[i % 3];
        const unsigned *above = rows[(i - 1) % 3];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b_size; j++) {
            unsigned best = above[j - 1] + (a[i - 1] != b[j - 1]);
            if (above[j] + 1 < best) best = above[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && rows[(i - 2) % 3][j - 2] + 1 < best) {
                best = rows[(i - 2) % 3][j - 2] + 1;
            }
            row[j] = best;
        }
    }
    return rows[a_size % 3][b_size];
}

unsigned settings_slip_max(size_t size)
{
    /* Farther away than a third of its letters, a name is another word rather than a slip. */
    size_t limit = size / 3 < 2 ? 2 : size / 3;
    if (limit >= size) limit = size > 0 ? size - 1 : 0;
    return (unsigned)limit;
}

struct nearest {
    const char *name;
    size_t size;
    const char *best;
    unsigned best_distance;
};

static void consider_as(struct nearest *nearest, const char *candidate, const char *suggestion)
{
    if (candidate == NULL) return;
    unsigned distance = settings_distance(nearest->name, nearest->size, candidate, strlen(candidate));
    if (distance >= nearest->best_distance) return;
    nearest->best = suggestion;
    nearest->best_distance = distance;
}

static struct nearest nearest_to(const char *name, size_t size)
{
    return (struct nearest){.name = name, .size = size, .best_distance = settings_slip_max(size) + 1};
}

/* Writes the field's name the way a flag is written. */
static void dashed(const char *field, char *out, size_t capacity)
{
    size_t size = strlen(field);
    CHECK(size < capacity);
    for (size_t i = 0; i <= size; i++) out[i] = field[i] == '_' ? '-' : field[i];
}

const char *settings_nearest_flag(const char *name, size_t size)
{
    struct nearest nearest = nearest_to(name, size);
    for (unsigned i = 0; i < SETTING_COUNT; i++) {
        const struct setting *setting = &settings_table[i];
        char field[64];
        dashed(setting->field, field, sizeof field);
        consider_as(&nearest, setting->flag, setting->flag);
        consider_as(&nearest, setting->second_flag, setting->second_flag);
        consider_as(&nearest, field, setting->flag);
    }
    for (size_t i = 0; i < ARRAY_COUNT(other_flags); i++) consider_as(&nearest, other_flags[i], other_flags[i]);
    return nearest.best;
}

const char *settings_nearest_field(const char *name)
{
    struct nearest nearest = nearest_to(name, strlen(name));
    for (unsigned i = 0; i < SETTING_COUNT; i++) {
        const struct setting *setting = &settings_table[i];
        consider_as(&nearest, setting->field, setting->field);
        consider_as(&nearest, setting->flag, setting->field);
    }
    return nearest.best;
}

void settings_environment_name(const char *flag, char *out)
{
    static const char prefix[] = "CORACLE_";
    size_t used = sizeof prefix - 1;
    memcpy(out, prefix, used);
    CHECK(used + strlen(flag) < 64);
    for (; *flag != '\0'; flag++) {
        char c = *flag;
        out[used++] = c == '-' ? '_' : c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
    }
    out[used] = '\0';
}

/* Digits, then for sizes perhaps a unit. False when it is anything else; *overflow when it is too large to count. */
static bool parse_number(const char *text, bool with_unit, uint64_t *number, bool *overflow)
{
    static const struct {
        const char *suffix;
        uint64_t factor;
    } units[] = {{"", 1}, {"KiB", KIB}, {"MiB", MIB}, {"GiB", GIB}};
    uint64_t value = 0;
    const char *at = text;
    *overflow = false;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (__builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, (unsigned)(*at - '0'), &value)) {
            *overflow = true;
        }
    }
    if (at == text) return false;
    for (size_t i = 0; i < (with_unit ? ARRAY_COUNT(units) : 1); i++) {
        if (strcmp(at, units[i].suffix) != 0) continue;
        if (__builtin_mul_overflow(value, units[i].factor, &value)) *overflow = true;
        *number = value;
        return true;
    }
    return false;
}

static const char *parse_switch(const char *text, uint64_t *number)
{
    bool yes = strcmp(text, "true") == 0 || strcmp(text, "1") == 0;
    if (!yes && strcmp(text, "false") != 0 && strcmp(text, "0") != 0) return "is neither true nor false";
    *number = yes;
    return NULL;
}

static const char *parse_choice(const char *choices, const char *text, uint64_t *number)
{
    size_t size = strlen(text);
    const char *at = choices;
    for (uint64_t i = 0;; i++) {
        const char *end = strchrnul(at, '|');
        if (is_name(at, (size_t)(end - at), text) && size > 0) {
            *number = i;
            return NULL;
        }
        if (*end == '\0') return "is not one of its values";
        at = end + 1;
    }
}

const char *settings_parse(enum setting_id id, const char *text, uint64_t *number)
{
    const struct setting *setting = &settings_table[id];
    bool overflow;
    switch (setting->kind) {
    case SETTING_IS_TEXT:
    case SETTING_IS_PATH:
        return text[0] == '\0' ? "is empty" : NULL;
    case SETTING_IS_SWITCH:
        return parse_switch(text, number);
    case SETTING_IS_CHOICE:
        return parse_choice(setting->choices, text, number);
    case SETTING_IS_PORT:
    case SETTING_IS_MILLIS:
    case SETTING_IS_NUMBER:
    case SETTING_IS_PERCENT:
    case SETTING_IS_BYTES:
        if (!parse_number(text, setting->kind == SETTING_IS_BYTES, number, &overflow)) return "is not a whole number";
        if (overflow || *number < setting->low || *number > setting->high) return "is out of range";
        return NULL;
    }
    return NULL;
}

static void append_size(struct buffer *out, uint64_t bytes)
{
    if (bytes >= GIB && bytes % GIB == 0) {
        buffer_append_format(out, "%lluGiB", (unsigned long long)(bytes / GIB));
    } else if (bytes >= MIB && bytes % MIB == 0) {
        buffer_append_format(out, "%lluMiB", (unsigned long long)(bytes / MIB));
    } else if (bytes >= KIB && bytes % KIB == 0) {
        buffer_append_format(out, "%lluKiB", (unsigned long long)(bytes / KIB));
    } else {
        buffer_append_decimal(out, bytes);
    }
}

void settings_remedy(enum setting_id id, struct buffer *out)
{
    const struct setting *setting = &settings_table[id];
    const unsigned long long low = setting->low;
    const unsigned long long high = setting->high;
    switch (setting->kind) {
    case SETTING_IS_TEXT:
        buffer_append_string(out, "give a text");
        break;
    case SETTING_IS_PATH:
        buffer_append_string(out, "give a path");
        break;
    case SETTING_IS_PORT:
        buffer_append_format(out, "give a port from %llu to %llu", low, high);
        break;
    case SETTING_IS_MILLIS:
        buffer_append_format(out, "give milliseconds from %llu to %llu, without a unit", low, high);
        break;
    case SETTING_IS_NUMBER:
        buffer_append_format(out, "give a number from %llu to %llu", low, high);
        break;
    case SETTING_IS_PERCENT:
        buffer_append_format(out, "give per cent from %llu to %llu, without a sign", low, high);
        break;
    case SETTING_IS_BYTES:
        buffer_append_string(out, "give bytes, KiB, MiB or GiB, from ");
        append_size(out, low);
        buffer_append_string(out, " to ");
        append_size(out, high);
        break;
    case SETTING_IS_SWITCH:
        buffer_append_string(out, "give true or false");
        break;
    case SETTING_IS_CHOICE:
        buffer_append_string(out, "give one of ");
        for (const char *at = setting->choices; *at != '\0'; at++) {
            if (*at == '|') {
                buffer_append_string(out, ", ");
            } else {
                buffer_append_byte(out, (uint8_t)*at);
            }
        }
        break;
    }
}
