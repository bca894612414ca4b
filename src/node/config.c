#include "node/config.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "drive/drive.h"
#include "node/join.h"
#include "node/settings.h"

/* An election needs more than one missed heartbeat, or every delay is one. */
#define HEARTBEATS_PER_ELECTION_TIMEOUT 3u

/* What the arguments say, before it takes effect. All borrowed from them. */
struct flags {
    const char *values[SETTING_COUNT];
    const char *config_file;
};

static void add_problem(struct buffer *problems, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add_problem(struct buffer *problems, const char *format, ...)
{
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    buffer_append_string(problems, line);
    buffer_append_byte(problems, '\n');
}

const char *config_field(enum setting_id id)
{
    return settings_table[id].field;
}

void config_problem(const struct config *config, struct buffer *problems, enum setting_id id, const char *what,
                    const char *remedy)
{
    const struct setting_value *value = &config->values[id];
    enum setting_kind kind = settings_table[id].kind;
    bool quoted = kind == SETTING_IS_TEXT || kind == SETTING_IS_PATH || kind == SETTING_IS_CHOICE;
    if (value->text == NULL) {
        add_problem(problems, "%s: %s (not set); %s", config_field(id), what, remedy);
    } else if (quoted || value->text[0] == '\0') {
        add_problem(problems, "%s: %s (\"%s\", from %s); %s", config_field(id), what, value->text, value->origin,
                    remedy);
    } else {
        add_problem(problems, "%s: %s (%s, from %s); %s", config_field(id), what, value->text, value->origin, remedy);
    }
}

void config_warn(struct config *config, const char *format, ...)
{
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    buffer_append_string(&config->warnings, line);
    buffer_append_byte(&config->warnings, '\n');
}

static void set_value(struct config *config, enum setting_id id, const char *text, enum config_source source,
                      const char *origin)
{
    struct setting_value *value = &config->values[id];
    char *copy = mem_copy_string(text); /* `text` may be the old value */
    mem_free(value->text);
    value->text = copy;
    value->source = source;
    snprintf(value->origin, sizeof value->origin, "%s", origin);
}

void config_derive_number(struct config *config, enum setting_id id, uint64_t number, const char *origin)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    set_value(config, id, text, CONFIG_DERIVED, origin);
    config->values[id].number = number;
    config->values[id].valid = true;
}

static void set_default_number(struct config *config, enum setting_id id, uint64_t number)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    set_value(config, id, text, CONFIG_DEFAULT, "default");
}

/* Sets every value that has a default of its own. */
static void set_defaults(struct config *config)
{
    for (unsigned i = 0; i < SETTING_COUNT; i++) {
        const char *text = settings_table[i].default_text;
        snprintf(config->values[i].origin, sizeof config->values[i].origin, "default");
        if (text != NULL) set_value(config, (enum setting_id)i, text, CONFIG_DEFAULT, "default");
    }
    struct drive_config drive = {0};
    drive_config_defaults(&drive);
    set_default_number(config, SETTING_MAX_REQUEST_BYTES, drive.value_bytes_max);
    set_default_number(config, SETTING_SEGMENT_BYTES, drive.segment_bytes);
    set_default_number(config, SETTING_SNAPSHOT_LOG_BYTES, drive.snapshot_log_bytes_min);
    set_default_number(config, SETTING_SNAPSHOT_STATE_PERCENT, drive.snapshot_state_percent);
    set_default_number(config, SETTING_CACHE_BYTES, drive.cache_bytes_max);
    set_default_number(config, SETTING_LOG_TAIL_BYTES, drive.log_tail_bytes);
    set_default_number(config, SETTING_SCRUB_INTERVAL, (uint64_t)(drive.scrub_interval / TIME_NS_PER_MS));
    set_default_number(config, SETTING_SCRUB_RATE, drive.scrub_bytes_per_second);
    set_default_number(config, SETTING_MAX_CONNECTIONS, drive.connections_max);
    set_default_number(config, SETTING_CONNECTION_MEMORY, drive.connection_memory_max);
    set_default_number(config, SETTING_IDLE_TIMEOUT, (uint64_t)(drive.idle_timeout / TIME_NS_PER_MS));
}

/* ---- flags ---- */

/* True when the argument is one of the flags that ask for something, and was noted. */
static bool read_request_flag(struct config *config, const char *name, size_t size)
{
    struct {
        const char *name;
        bool *asked;
    } requests[] = {
        {"print-config", &config->print_config},
        {"check", &config->check},
        {"help", &config->help},
        {"version", &config->version},
    };
    for (size_t i = 0; i < ARRAY_COUNT(requests); i++) {
        if (strlen(requests[i].name) != size || memcmp(name, requests[i].name, size) != 0) continue;
        *requests[i].asked = true;
        return true;
    }
    return false;
}

static void unknown_flag(const char *argument, const char *name, size_t size, struct buffer *problems)
{
    const char *nearest = settings_nearest_flag(name, size);
    if (nearest != NULL) {
        add_problem(problems, "--%.*s: there is no such flag (%s); did you mean --%s?", (int)size, name, argument,
                    nearest);
    } else {
        add_problem(problems, "--%.*s: there is no such flag (%s); `coracle serve --help` lists them", (int)size, name,
                    argument);
    }
}

static void read_flags(struct config *config, int count, char *const *arguments, struct flags *flags,
                       struct buffer *problems)
{
    for (int i = 0; i < count; i++) {
        const char *argument = arguments[i];
        if (strcmp(argument, "-h") == 0) {
            config->help = true;
            continue;
        }
        if (strncmp(argument, "--", 2) != 0 || argument[2] == '\0') {
            add_problem(problems, "arguments: there is one that is no flag (\"%s\"); write --flag=value", argument);
            continue;
        }
        const char *name = argument + 2;
        const char *equals = strchr(name, '=');
        size_t size = equals != NULL ? (size_t)(equals - name) : strlen(name);
        if (equals == NULL && read_request_flag(config, name, size)) continue;

        enum setting_id id = settings_find_flag(name, size);
        bool is_file = size == strlen("config-file") && memcmp(name, "config-file", size) == 0;
        if (id == SETTING_COUNT && !is_file) {
            unknown_flag(argument, name, size, problems);
            continue;
        }
        const char *value = equals != NULL ? equals + 1 : NULL;
        if (value == NULL && !is_file && settings_table[id].kind == SETTING_IS_SWITCH) {
            value = "true";
        } else if (value == NULL) {
            if (i + 1 == count || strncmp(arguments[i + 1], "--", 2) == 0) {
                add_problem(problems, "%s: has no value (%s); write %s=VALUE",
                            is_file ? "config_file" : config_field(id), argument, argument);
                continue;
            }
            value = arguments[++i];
        }
        if (is_file) {
            flags->config_file = value;
        } else {
            flags->values[id] = value;
        }
    }
}

static void apply_flags(struct config *config, const struct flags *flags)
{
    for (unsigned i = 0; i < SETTING_COUNT; i++) {
        if (flags->values[i] == NULL) continue;
        char origin[64];
        snprintf(origin, sizeof origin, "--%s", settings_table[i].flag);
        set_value(config, (enum setting_id)i, flags->values[i], CONFIG_FLAG, origin);
    }
}

/* ---- environment ---- */

/* NULL when it isn't set, or empty, which is how a compose file spells 'not set'. */
static const char *environment_get(char *const *environment, const char *name)
{
    size_t size = strlen(name);
    for (; environment != NULL && *environment != NULL; environment++) {
        if (strncmp(*environment, name, size) != 0 || (*environment)[size] != '=') continue;
        const char *value = *environment + size + 1;
        return value[0] != '\0' ? value : NULL;
    }
    return NULL;
}

/*
 * Kubernetes and Docker describe a service called `coracle-api` to every pod as CORACLE_API_PORT=tcp://10.0.0.7:7777. That is
 * no port of ours, and must not keep a node from starting.
 */
static bool is_service_link(struct config *config, enum setting_id id, const char *name, const char *value)
{
    if (settings_table[id].kind != SETTING_IS_PORT || strstr(value, "://") == NULL) return false;
    config_warn(config, "%s: ignored %s=%s, which describes a service of that name; set enableServiceLinks: false",
                config_field(id), name, value);
    return true;
}

static void apply_environment(struct config *config, char *const *environment, struct buffer *problems)
{
    const char *in_k8s = environment_get(environment, "RUNNING_IN_K8S_ENV");
    if (in_k8s != NULL) {
        if (strcmp(in_k8s, "true") == 0 || strcmp(in_k8s, "1") == 0) {
            set_value(config, SETTING_CLUSTER_MODE, "k8s", CONFIG_ENVIRONMENT, "RUNNING_IN_K8S_ENV");
        } else if (strcmp(in_k8s, "false") != 0 && strcmp(in_k8s, "0") != 0) {
            add_problem(problems,
                        "cluster_mode: is neither true nor false (\"%s\", from RUNNING_IN_K8S_ENV); give true "
                        "or false",
                        in_k8s);
        }
    }
    for (unsigned i = 0; i < SETTING_COUNT; i++) {
        const struct setting *setting = &settings_table[i];
        char name[64];
        settings_environment_name(setting->flag, name);
        const char *origin = name;
        const char *value = environment_get(environment, name);
        if (value != NULL && is_service_link(config, (enum setting_id)i, name, value)) value = NULL;
        if (value == NULL && setting->environment != NULL) {
            origin = setting->environment;
            value = environment_get(environment, origin);
        }
        if (value != NULL) set_value(config, (enum setting_id)i, value, CONFIG_ENVIRONMENT, origin);
    }
}

/* ---- file ---- */

static const char *json_kind(const json_t *value)
{
    static const char *const names[] = {
        [JSON_OBJECT] = "an object",    [JSON_ARRAY] = "a list",    [JSON_STRING] = "a text",
        [JSON_INTEGER] = "a number",    [JSON_REAL] = "a fraction", [JSON_TRUE] = "a truth value",
        [JSON_FALSE] = "a truth value", [JSON_NULL] = "null",
    };
    return names[json_typeof(value)];
}

/* The field's value as text, in `text`; false when it has the wrong type. */
static bool json_to_text(enum setting_kind kind, const json_t *value, const char **text, char *number, size_t capacity)
{
    *text = number;
    switch (kind) {
    case SETTING_IS_TEXT:
    case SETTING_IS_PATH:
    case SETTING_IS_CHOICE:
        *text = json_string_value(value);
        return *text != NULL;
    case SETTING_IS_SWITCH:
        *text = json_is_true(value) ? "true" : "false";
        return json_is_boolean(value);
    case SETTING_IS_BYTES:
        if (json_is_string(value)) {
            *text = json_string_value(value);
            return true;
        }
        break;
    case SETTING_IS_PORT:
    case SETTING_IS_MILLIS:
    case SETTING_IS_NUMBER:
    case SETTING_IS_PERCENT:
        break;
    }
    if (!json_is_integer(value)) return false;
    snprintf(number, capacity, "%lld", (long long)json_integer_value(value));
    return true;
}

static const char *wanted_type(enum setting_kind kind)
{
    switch (kind) {
    case SETTING_IS_TEXT:
    case SETTING_IS_PATH:
    case SETTING_IS_CHOICE:
        return "a text in quotes";
    case SETTING_IS_SWITCH:
        return "true or false, without quotes";
    case SETTING_IS_BYTES:
        return "a whole number, or a text such as \"64MiB\"";
    case SETTING_IS_PORT:
    case SETTING_IS_MILLIS:
    case SETTING_IS_NUMBER:
    case SETTING_IS_PERCENT:
        break;
    }
    return "a whole number, without quotes";
}

static void apply_field(struct config *config, const char *file, const char *field, const json_t *value,
                        struct buffer *problems)
{
    enum setting_id id = settings_find_field(field);
    if (id == SETTING_COUNT) {
        const char *nearest = settings_nearest_field(field);
        add_problem(problems, "%s: there is no such field (in %s); %s%s%s", field, file,
                    nearest != NULL ? "did you mean " : "`coracle serve --print-config` shows all fields",
                    nearest != NULL ? nearest : "", nearest != NULL ? "?" : "");
        return;
    }
    char number[24];
    const char *text;
    if (!json_to_text(settings_table[id].kind, value, &text, number, sizeof number)) {
        char *shown = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        add_problem(problems, "%s: is %s (%.100s, in %s); give %s", field, json_kind(value), shown, file,
                    wanted_type(settings_table[id].kind));
        free(shown);
        return;
    }
    set_value(config, id, text, CONFIG_FILE, file);
}

static void apply_file(struct config *config, const char *file, struct buffer *problems)
{
    if (file[0] == '\0') {
        add_problem(problems, "config_file: is empty (\"\"); give the path of a JSON file");
        return;
    }
    FILE *stream = fopen(file, "re");
    if (stream == NULL) {
        add_problem(problems, "config_file: can't be read (\"%s\": %s); give the path of a JSON file", file,
                    strerror(errno));
        return;
    }
    json_error_t error;
    json_t *root = json_loadf(stream, JSON_REJECT_DUPLICATES, &error);
    fclose(stream);
    if (root == NULL) {
        add_problem(problems, "config_file: is not valid JSON (\"%s\", line %d, column %d: %s); correct the file", file,
                    error.line, error.column, error.text);
        return;
    }
    if (json_is_object(root)) {
        const char *field;
        json_t *value;
        json_object_foreach(root, field, value) apply_field(config, file, field, value, problems);
    } else {
        add_problem(problems, "config_file: is %s (\"%s\"); write {\"node_id\": …}", json_kind(root), file);
    }
    json_decref(root);
}

/* ---- validation ---- */

static void validate_each(struct config *config, struct buffer *problems)
{
    struct buffer remedy = {0};
    for (unsigned i = 0; i < SETTING_COUNT; i++) {
        struct setting_value *value = &config->values[i];
        if (value->text == NULL) continue;
        const char *wrong = settings_parse((enum setting_id)i, value->text, &value->number);
        value->valid = wrong == NULL;
        if (value->valid) continue;
        buffer_clear(&remedy);
        settings_remedy((enum setting_id)i, &remedy);
        buffer_append_byte(&remedy, '\0');
        config_problem(config, problems, (enum setting_id)i, wrong, (const char *)remedy.data);
    }
    buffer_free(&remedy);
}

static void validate_node_id(struct config *config, struct buffer *problems)
{
    struct setting_value *value = &config->values[SETTING_NODE_ID];
    if (value->text == NULL) {
        config_problem(config, problems, SETTING_NODE_ID, "is required", "give --id or NODE_ID");
    } else if (value->valid && !join_node_id_is_valid(bytes_of_string(value->text))) {
        value->valid = false;
        config_problem(config, problems, SETTING_NODE_ID, "is not a node's name",
                       "use at most 63 letters, digits, '-', '_' and '.', beginning with a letter or digit");
    }
}

static bool both_valid(const struct config *config, enum setting_id a, enum setting_id b)
{
    return config->values[a].valid && config->values[b].valid;
}

static void validate_together(const struct config *config, struct buffer *problems)
{
    char what[96];
    if (both_valid(config, SETTING_HEARTBEAT, SETTING_ELECTION_TIMEOUT)) {
        uint64_t timeout = config_number(config, SETTING_ELECTION_TIMEOUT);
        if (config_number(config, SETTING_HEARTBEAT) * HEARTBEATS_PER_ELECTION_TIMEOUT > timeout) {
            snprintf(what, sizeof what, "is more than a third of election_timeout_in_millis, %llu",
                     (unsigned long long)timeout);
            config_problem(config, problems, SETTING_HEARTBEAT, what,
                           "shorten it, or lengthen the election timeout; a tenth of it is usual");
        }
    }
    if (both_valid(config, SETTING_API_FWD_TIMEOUT, SETTING_API_TIMEOUT)) {
        uint64_t timeout = config_number(config, SETTING_API_TIMEOUT);
        if (config_number(config, SETTING_API_FWD_TIMEOUT) > timeout) {
            snprintf(what, sizeof what, "is more than api_timeout_in_millis, %llu", (unsigned long long)timeout);
            config_problem(config, problems, SETTING_API_FWD_TIMEOUT, what,
                           "shorten it; the request has been answered by then");
        }
    }
    if (config->values[SETTING_CLUSTER_MODE].valid && config_number(config, SETTING_CLUSTER_MODE) == CLUSTER_MODE_K8S &&
        config_text(config, SETTING_CLUSTER_CONFIG_PATH) == NULL) {
        config_problem(config, problems, SETTING_CLUSTER_CONFIG_PATH, "is required in mode k8s",
                       "give the directory that the downward API fills");
    }
}

/* ---- paths ---- */

static char *join_path(const char *directory, const char *name)
{
    struct buffer path = {0};
    size_t size = strlen(directory);
    while (size > 1 && directory[size - 1] == '/') size--;
    buffer_append(&path, directory, size);
    if (size > 0 && directory[size - 1] != '/') buffer_append_byte(&path, '/');
    buffer_append_string(&path, name);
    buffer_append_byte(&path, '\0');
    return (char *)path.data;
}

static char *without_trailing_slashes(const char *path)
{
    char *copy = mem_copy_string(path);
    size_t size = strlen(copy);
    while (size > 1 && copy[size - 1] == '/') copy[--size] = '\0';
    return copy;
}

static bool is_directory(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

char *config_resolve_path(const char *path, const char *file_name)
{
    size_t size = strlen(path);
    if ((size > 0 && path[size - 1] == '/') || is_directory(path)) return join_path(path, file_name);
    return mem_copy_string(path);
}

static void default_path(struct config *config, enum setting_id id, const char *name)
{
    if (config_text(config, id) != NULL) return;
    char *path = join_path(config_text(config, SETTING_DATA_DIR), name);
    set_value(config, id, path, CONFIG_DEFAULT, "data_dir");
    config->values[id].valid = true;
    mem_free(path);
}

static void resolve_paths(struct config *config)
{
    if (config_text(config, SETTING_DATA_DIR) == NULL) {
        char name[NODE_ID_BYTES_MAX + sizeof ".coracle"];
        const struct setting_value *node_id = &config->values[SETTING_NODE_ID];
        snprintf(name, sizeof name, "%s.coracle", node_id->valid ? node_id->text : "default");
        set_value(config, SETTING_DATA_DIR, name, CONFIG_DEFAULT, "default");
        config->values[SETTING_DATA_DIR].valid = true;
    }
    default_path(config, SETTING_LOG_ENTRY_PATH, "log");
    default_path(config, SETTING_LOG_METADATA_PATH, "log/metadata");
    default_path(config, SETTING_RAFT_STATE_PATH, "state");
    default_path(config, SETTING_SNAPSHOT_PATH, "snapshot");
    config->log_directory = without_trailing_slashes(config_text(config, SETTING_LOG_ENTRY_PATH));
    config->log_metadata_file = config_resolve_path(config_text(config, SETTING_LOG_METADATA_PATH), "metadata");
    config->raft_state_file = config_resolve_path(config_text(config, SETTING_RAFT_STATE_PATH), "state");
    config->snapshot_directory = without_trailing_slashes(config_text(config, SETTING_SNAPSHOT_PATH));
    struct buffer lock = {0};
    buffer_append_string(&lock, config->raft_state_file);
    buffer_append_string(&lock, ".lock");
    buffer_append_byte(&lock, '\0');
    config->lock_file = (char *)lock.data;
}

/* Each file and directory of ours needs a place of its own. */
static void validate_places(struct config *config, struct buffer *problems)
{
    char *snapshot_metadata = join_path(config->snapshot_directory, "metadata");
    const struct {
        const char *path;
        enum setting_id id;
    } places[] = {
        {config->log_directory, SETTING_LOG_ENTRY_PATH},    {config->snapshot_directory, SETTING_SNAPSHOT_PATH},
        {snapshot_metadata, SETTING_SNAPSHOT_PATH},         {config->log_metadata_file, SETTING_LOG_METADATA_PATH},
        {config->raft_state_file, SETTING_RAFT_STATE_PATH}, {config->lock_file, SETTING_RAFT_STATE_PATH},
    };
    for (size_t i = 0; i < ARRAY_COUNT(places); i++) {
        for (size_t j = i + 1; j < ARRAY_COUNT(places); j++) {
            /* The log's and the snapshots' directory may be one; the names in them differ. */
            if (i == 0 && j == 1) continue;
            if (strcmp(places[i].path, places[j].path) != 0) continue;
            char what[160];
            snprintf(what, sizeof what, "is in the place of what %s puts there", config_field(places[i].id));
            config_problem(config, problems, places[j].id, what, "give each its own path");
            config->values[places[j].id].valid = false;
        }
    }
    mem_free(snapshot_metadata);
}

bool config_load(struct config *config, int argument_count, char *const *arguments, char *const *environment,
                 struct buffer *problems)
{
    *config = (struct config){0};
    struct flags flags = {0};
    size_t problems_before = problems->size;

    read_flags(config, argument_count, arguments, &flags, problems);
    set_defaults(config);
    if (config->help || config->version) return problems->size == problems_before;
    if (flags.config_file == NULL) flags.config_file = environment_get(environment, "CORACLE_CONFIG_FILE");
    if (flags.config_file != NULL) apply_file(config, flags.config_file, problems);
    apply_environment(config, environment, problems);
    apply_flags(config, &flags);

    validate_each(config, problems);
    validate_node_id(config, problems);
    validate_together(config, problems);
    resolve_paths(config);
    validate_places(config, problems);
    return problems->size == problems_before;
}

void config_free(struct config *config)
{
    for (unsigned i = 0; i < SETTING_COUNT; i++) mem_free(config->values[i].text);
    mem_free(config->log_directory);
    mem_free(config->log_metadata_file);
    mem_free(config->raft_state_file);
    mem_free(config->snapshot_directory);
    mem_free(config->lock_file);
    buffer_free(&config->warnings);
    *config = (struct config){0};
}

/* ---- are the paths usable? ---- */

struct made_directory {
    char *path;
    struct made_directory *next;
};

/* Makes the directory and its parents, and notes what it made, the deepest first. 0 or an errno. */
static int make_directories(const char *path, struct made_directory **made)
{
    char *partial = mem_copy_string(path);
    int failure = 0;
    for (char *at = partial + 1; failure == 0; at++) {
        if (*at != '/' && *at != '\0') continue;
        bool last = *at == '\0';
        *at = '\0';
        if (mkdir(partial, 0700) == 0) {
            struct made_directory *note = mem_alloc(sizeof *note);
            *note = (struct made_directory){.path = mem_copy_string(partial), .next = *made};
            *made = note;
        } else if (errno != EEXIST) {
            failure = errno;
        } else if (!is_directory(partial)) {
            failure = ENOTDIR;
        }
        if (last) break;
        *at = '/';
    }
    mem_free(partial);
    return failure;
}

static char *directory_of(const char *file)
{
    const char *slash = strrchr(file, '/');
    if (slash == NULL) return mem_copy_string(".");
    if (slash == file) return mem_copy_string("/");
    char *directory = mem_copy_string(file);
    directory[slash - file] = '\0';
    return directory;
}

static const char *remedy_for(int failure)
{
    switch (failure) {
    case EACCES:
    case EPERM:
        return "let this user write there, or choose another path";
    case EROFS:
        return "mount it writable, or choose another path";
    case ENOTDIR:
        return "a part of the path is a file; choose another path";
    case ENOSPC:
        return "make room on that file system";
    default:
        return "choose another path";
    }
}

static void check_directory(const struct config *config, enum setting_id id, const char *directory,
                            struct made_directory **made, struct buffer *problems)
{
    if (!config->values[id].valid) return; /* it has its line already, and what is here would only follow from that */
    int failure = make_directories(directory, made);
    if (failure == 0 && access(directory, R_OK | W_OK | X_OK) != 0) failure = errno;
    if (failure == 0) return;
    char what[640];
    snprintf(what, sizeof what, "can't be used: %.500s: %s", directory, strerror(failure));
    config_problem(config, problems, id, what, remedy_for(failure));
}

static void check_file(const struct config *config, enum setting_id id, const char *file, struct made_directory **made,
                       struct buffer *problems)
{
    if (!config->values[id].valid) return;
    char *directory = directory_of(file);
    check_directory(config, id, directory, made, problems);
    mem_free(directory);
    struct stat about;
    if (stat(file, &about) != 0) return;
    if (!S_ISREG(about.st_mode)) {
        config_problem(config, problems, id, "is not a regular file", "choose another path");
    } else if (access(file, R_OK | W_OK) != 0) {
        char what[128];
        snprintf(what, sizeof what, "can't be used: %s", strerror(errno));
        config_problem(config, problems, id, what, remedy_for(errno));
    }
}

bool config_check_paths(const struct config *config, struct buffer *problems)
{
    size_t problems_before = problems->size;
    struct made_directory *made = NULL;
    check_directory(config, SETTING_LOG_ENTRY_PATH, config->log_directory, &made, problems);
    check_file(config, SETTING_LOG_METADATA_PATH, config->log_metadata_file, &made, problems);
    check_file(config, SETTING_RAFT_STATE_PATH, config->raft_state_file, &made, problems);
    check_directory(config, SETTING_SNAPSHOT_PATH, config->snapshot_directory, &made, problems);
    while (made != NULL) {
        struct made_directory *next = made->next;
        rmdir(made->path); /* fails only when someone else uses it by now, which is fine */
        mem_free(made->path);
        mem_free(made);
        made = next;
    }
    return problems->size == problems_before;
}

/* ---- printing ---- */

static json_t *value_as_json(const struct config *config, enum setting_id id)
{
    const struct setting_value *value = &config->values[id];
    switch (id) {
    case SETTING_LOG_METADATA_PATH:
        return json_string(config->log_metadata_file);
    case SETTING_RAFT_STATE_PATH:
        return json_string(config->raft_state_file);
    default:
        break;
    }
    if (value->text == NULL) return json_null();
    switch (settings_table[id].kind) {
    case SETTING_IS_TEXT:
    case SETTING_IS_PATH:
    case SETTING_IS_CHOICE:
        return json_string(value->text);
    case SETTING_IS_SWITCH:
        return json_boolean(value->number != 0);
    case SETTING_IS_PORT:
    case SETTING_IS_MILLIS:
    case SETTING_IS_BYTES:
    case SETTING_IS_NUMBER:
    case SETTING_IS_PERCENT:
        break;
    }
    return json_integer((json_int_t)value->number);
}

void config_print(const struct config *config, struct buffer *out)
{
    buffer_append_string(out, "{\n");
    for (unsigned i = 0; i < SETTING_COUNT; i++) {
        json_t *row = json_object();
        json_object_set_new(row, "value", value_as_json(config, (enum setting_id)i));
        json_object_set_new(row, "from", json_string(config->values[i].origin));
        char *text = json_dumps(row, 0);
        buffer_append_format(out, "  \"%s\": ", settings_table[i].field);
        buffer_append_string(out, text);
        buffer_append_string(out, i + 1 < SETTING_COUNT ? ",\n" : "\n");
        free(text);
        json_decref(row);
    }
    buffer_append_string(out, "}\n");
}

/* Appends `text` in lines of at most 100 columns, each indented. */
static void append_wrapped(struct buffer *out, const char *text)
{
    enum { INDENT = 6, COLUMNS = 100 };
    size_t column = 0;
    while (*text != '\0') {
        size_t word = strcspn(text, " ");
        if (column > 0 && column + 1 + word > COLUMNS) {
            buffer_append_byte(out, '\n');
            column = 0;
        }
        if (column == 0) {
            buffer_append_format(out, "%*s", INDENT, "");
            column = INDENT;
        } else {
            buffer_append_byte(out, ' ');
            column++;
        }
        buffer_append(out, text, word);
        column += word;
        text += word + (text[word] == ' ');
    }
    buffer_append_byte(out, '\n');
}

static const char *placeholder(enum setting_kind kind)
{
    switch (kind) {
    case SETTING_IS_TEXT:
        return "NAME";
    case SETTING_IS_PATH:
        return "PATH";
    case SETTING_IS_PORT:
        return "PORT";
    case SETTING_IS_MILLIS:
        return "MS";
    case SETTING_IS_BYTES:
        return "BYTES";
    case SETTING_IS_PERCENT:
        return "PERCENT";
    case SETTING_IS_NUMBER:
    case SETTING_IS_SWITCH:
    case SETTING_IS_CHOICE:
        break;
    }
    return "N";
}

void config_help(struct buffer *out)
{
    struct config config = {0};
    set_defaults(&config);
    for (unsigned i = 0; i < SETTING_COUNT; i++) {
        const struct setting *setting = &settings_table[i];
        buffer_append_format(out, "  --%s", setting->flag);
        if (setting->kind != SETTING_IS_SWITCH) {
            bool choice = setting->kind == SETTING_IS_CHOICE;
            buffer_append_format(out, "=%s", choice ? setting->choices : placeholder(setting->kind));
        }
        if (setting->second_flag != NULL) buffer_append_format(out, " (also --%s)", setting->second_flag);
        if (config.values[i].text != NULL) buffer_append_format(out, "   [%s]", config.values[i].text);
        buffer_append_byte(out, '\n');
        append_wrapped(out, setting->help);
    }
    config_free(&config);
}
