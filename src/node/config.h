/*
 * config.h - the settings of one node, from four places, validated as a whole. (Config)
 *
 * A setting is a row of the table in config.c: the name of its JSON field, its flag, what it may be, its default, its
 * meaning. A flag beats the environment, which beats the file of --config-file, which beats the default; the environment
 * variable of --some-flag is CORACLE_SOME_FLAG, and NODE_ID, CLUSTER_CONFIG_PATH and RUNNING_IN_K8S_ENV are read too.
 *
 * Every problem is found at once, each as one line
 *
 *     field: what is wrong (value, from where); what to do
 *
 * Durations are whole milliseconds; sizes are bytes, or take KiB, MiB, GiB.
 *
 * Paths: one that exists as a directory, or ends in a slash, gets our file inside; otherwise it is the file. This holds for
 * the log's metadata and the raft state; log and snapshots are directories. Nothing is created here.
 */
#ifndef CORACLE_NODE_CONFIG_H
#define CORACLE_NODE_CONFIG_H

#include "base/bytes.h"
#include "base/types.h"

enum setting_id {
    SETTING_NODE_ID,
    SETTING_API_PORT,
    SETTING_RPC_PORT,
    SETTING_LISTEN_HOST,
    SETTING_CLUSTER_MODE,
    SETTING_CLUSTER_CONFIG_PATH,
    SETTING_DATA_DIR,
    SETTING_LOG_ENTRY_PATH,
    SETTING_LOG_METADATA_PATH,
    SETTING_RAFT_STATE_PATH,
    SETTING_SNAPSHOT_PATH,
    SETTING_ELECTION_TIMEOUT,
    SETTING_HEARTBEAT,
    SETTING_RPC_TIMEOUT,
    SETTING_API_TIMEOUT,
    SETTING_API_FWD_TIMEOUT,
    SETTING_CONN_RETRY_ATTEMPTS,
    SETTING_MAX_REQUEST_BYTES,
    SETTING_SEGMENT_BYTES,
    SETTING_SNAPSHOT_LOG_BYTES,
    SETTING_SNAPSHOT_STATE_PERCENT,
    SETTING_CACHE_BYTES,
    SETTING_LOG_TAIL_BYTES,
    SETTING_SCRUB_INTERVAL,
    SETTING_SCRUB_RATE,
    SETTING_MAX_CONNECTIONS,
    SETTING_CONNECTION_MEMORY,
    SETTING_IDLE_TIMEOUT,
    SETTING_FORCE_START,
    SETTING_LOG_LEVEL,
    SETTING_LOG_FORMAT,
    SETTING_COUNT,
};

/* The values of the choices, in the order of their rows. */
enum cluster_mode { CLUSTER_MODE_STATIC, CLUSTER_MODE_CLUSTER_FILE, CLUSTER_MODE_K8S };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

enum config_source { CONFIG_DEFAULT, CONFIG_FILE, CONFIG_ENVIRONMENT, CONFIG_FLAG, CONFIG_DERIVED };

struct setting_value {
    char *text;      /* as it was given, owned; NULL: not set */
    uint64_t number; /* of all but texts and paths; of choices their place in the list */
    bool valid;      /* on its own */
    enum config_source source;
    char origin[72]; /* for people: "--api-port", "CORACLE_API_PORT", "config.json", "default" */
};

struct config {
    struct setting_value values[SETTING_COUNT];
    /* The paths by the rule above, owned; filled in by config_load. */
    char *log_directory;
    char *log_metadata_file;
    char *raft_state_file;
    char *snapshot_directory;
    char *lock_file;                         /* beside the raft state, which says who this node is */
    struct buffer warnings;                  /* lines, each ended by '\n': odd, but not wrong */
    bool print_config, check, help, version; /* flags that ask for something else than to serve */
};

/*
 * Reads and validates the settings of `arguments` (without program and command), `environment` (NULL-terminated, as
 * environ) and the file they name. Returns false when there is a problem; `problems` has one line for each, ended by
 * '\n'. `config` needs config_free in both cases. With --help or --version nothing is validated. That the ports differ
 * is join_resolve's to check, since they may come from the cluster configuration.
 */
bool config_load(struct config *config, int argument_count, char *const *arguments, char *const *environment,
                 struct buffer *problems);
void config_free(struct config *config);

static inline const char *config_text(const struct config *config, enum setting_id id)
{
    return config->values[id].text;
}
static inline uint64_t config_number(const struct config *config, enum setting_id id)
{
    return config->values[id].number;
}

/* A setting whose default was taken gets a value that something else implies, `origin` says what. */
void config_derive_number(struct config *config, enum setting_id id, uint64_t number, const char *origin);

/* The field's name in JSON, as problems begin with it. */
const char *config_field(enum setting_id id);

/* Appends a problem's line: "field: what (value, from origin); remedy". A missing value is "(not set)". */
void config_problem(const struct config *config, struct buffer *problems, enum setting_id id, const char *what,
                    const char *remedy);

/* Appends a line to the warnings. */
void config_warn(struct config *config, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The whole effective configuration as JSON: {"field": {"value": …, "from": "…"}, …}, ended by '\n'. */
void config_print(const struct config *config, struct buffer *out);

/* One paragraph for each flag, as `serve --help` prints it. */
void config_help(struct buffer *out);

/* Resolves a path by the rule at the head; owned by the caller. */
char *config_resolve_path(const char *path, const char *file_name);

/*
 * Whether the paths can be used: made or found, writable, and not one in another's place. Creates what is missing and
 * removes what it created. Problems as above.
 */
bool config_check_paths(const struct config *config, struct buffer *problems);

#endif
