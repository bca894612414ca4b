#include "sim/sim_script.h"

#include "base/check.h"
#include "base/mem.h"
#include "client/kv.h"
#include "sim/sim_workload.h"

#define OPERATION_TIMEOUT (5 * TIME_NS_PER_S)
#define SNAPSHOT_WITHIN (10 * TIME_NS_PER_S)
#define READ_WITHIN (30 * TIME_NS_PER_S)
#define STEP TIME_NS_PER_MS

bool sim_script_wrong(struct sim_script *script, const char *format, ...)
{
    if (script->text[0] != 0) return false;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(script->text, sizeof script->text, format, arguments);
    va_end(arguments);
    return false;
}

void sim_script_config(struct drive_config *config)
{
    drive_config_defaults(config);
    config->election_timeout = 200 * TIME_NS_PER_MS;
    config->heartbeat_interval = 40 * TIME_NS_PER_MS;
    config->rpc_timeout = 200 * TIME_NS_PER_MS;
    config->api_timeout = 1000 * TIME_NS_PER_MS;
    config->api_forward_timeout = 750 * TIME_NS_PER_MS;
    config->segment_bytes = UINT64_C(64) * 1024;
    config->snapshot_log_bytes_min = UINT64_C(1) << 40;
    config->log_tail_bytes = 0;
}

/* ---- what nodes say and how they end ---- */

static void logged(void *user, unsigned node, enum log_level level, const char *event, const char *fields)
{
    struct sim_script *script = user;
    if (level >= LOG_LEVEL_WARN) buffer_append_format(&script->said[node], "%s %s\n", event, fields);
}

static void ended(void *user, unsigned node, int code, const char *text)
{
    struct sim_script *script = user;
    script->ended[node]++;
    snprintf(script->end_text[node], sizeof script->end_text[node], "%s", text);
    if (code == 0 || text[0] == 0) script->bad_end = true;
}

static const struct sim_cluster_hooks hooks = {.logged = logged, .ended = ended};

/* ---- time ---- */

/* A planned fault is forgotten when a process ends before it was reached; so it is planned anew. */
static void plan_again(struct sim_script *script)
{
    for (unsigned i = 0; i < script->cluster.node_count; i++) {
        struct sim_node *node = &script->cluster.nodes[i];
        struct sim_disk *disk = &node->disk;
        if (script->fail_at[i] > disk->counters.operations) disk->fail_at = script->fail_at[i];
        if (script->fail_look_at[i] > disk->counters.looks) disk->fail_look_at = script->fail_look_at[i];
        if (script->crash_at[i] > disk->counters.operations) disk->crash_at = script->crash_at[i];
        if (disk->fail_at != 0 || disk->fail_look_at != 0) node->may_fail = true;
    }
}

static bool step(struct sim_script *script, time_ns until)
{
    bool more = sim_world_step(&script->world, until);
    plan_again(script);
    struct sim_cluster *cluster = &script->cluster;
    if (script->all_lose_power && cluster->power_losses > script->power_losses) {
        script->all_lose_power = false;
        for (unsigned i = 0; i < cluster->node_count; i++) {
            sim_cluster_crash(cluster, i, true, (time_ns)(i + 1) * 100 * TIME_NS_PER_MS);
        }
    }
    script->power_losses = cluster->power_losses;
    for (unsigned i = 0; i < cluster->node_count && script->cut_after_kill != 0; i++) {
        struct sim_node *node = &cluster->nodes[i];
        if (!node->crash_is_kill || cluster->crashes == 0 || node->state != SIM_NODE_UP) continue;
        if (script->cut_at == 0) script->cut_at = script->world.now + script->cut_after_kill;
        if (script->world.now < script->cut_at) continue;
        sim_cluster_crash(cluster, i, true, 100 * TIME_NS_PER_MS);
        script->cut_after_kill = 0;
    }
    return more;
}

void sim_script_fail_at(struct sim_script *script, unsigned node, uint64_t number, bool looks)
{
    *(looks ? &script->fail_look_at[node] : &script->fail_at[node]) = number;
    plan_again(script);
}

void sim_script_crash_at(struct sim_script *script, unsigned node, uint64_t number, bool all)
{
    script->crash_at[node] = number;
    script->all_lose_power = all;
    plan_again(script);
}

/* ---- the client ---- */

static void timer(void *user)
{
    client_tick(((struct sim_script *)user)->client);
}

static void turn_end(void *user)
{
    struct sim_script *script = user;
    if (script->client != NULL) loop_set_timer(&script->loop.loop, client_deadline(script->client));
}

static const struct loop_handler loop_handler = {.timer = timer, .turn_end = turn_end};

void sim_script_ask(struct sim_script *script, unsigned node, bool only)
{
    CHECK(!script->waiting);
    if (script->client != NULL) client_free(script->client);
    struct client_endpoint endpoints[SIM_NODES_MAX];
    uint32_t count = 0;
    for (unsigned i = 0; i < script->cluster.node_count; i++) {
        unsigned number = (node + i) % script->cluster.node_count;
        if (only && i > 0) break;
        snprintf(endpoints[count].host, sizeof endpoints[count].host, "node-%u", number + 1);
        endpoints[count++].port = SIM_API_PORT;
    }
    script->client = client_new(script->net, &script->loop.loop, endpoints, count, 0);
}

static enum sim_operation_outcome outcome_of(struct sim_script *script, const struct client_response *response,
                                             enum sim_operation_kind kind)
{
    if (response->error == ERR_NETWORK) return SIM_NOTHING_DONE;
    if (response->error != ERR_OK) return SIM_UNKNOWN;
    if (response->status == 200) return SIM_DONE;
    struct buffer message = {0};
    enum error error = client_kv_error(response->body, &message);
    buffer_free(&message);
    if (kind == SIM_GET && error == ERR_NOT_FOUND) return SIM_DONE;
    if (error_may_retry(error)) return SIM_NOTHING_DONE;
    if (error != ERR_TIMEOUT && error != ERR_LEADER_CHANGED) {
        sim_script_wrong(script, "a client got status %d, %s", response->status, error_code(error));
    }
    return SIM_UNKNOWN;
}

static void answered(void *user, const struct client_response *response)
{
    struct sim_script *script = user;
    struct sim_operation *operation = &script->history.operations[script->operation];
    script->waiting = false;
    enum sim_operation_outcome outcome = outcome_of(script, response, operation->kind);
    if (outcome == SIM_UNKNOWN) return;
    sim_history_answer(&script->history, script->operation, outcome, script->world.now);
    if (outcome != SIM_DONE) return;
    script->status = response->status;
    bool good = true;
    if (operation->kind == SIM_GET && response->status == 200) {
        struct buffer value = {0};
        good =
            client_kv_value(response->body, &value) && sim_workload_read_value(buffer_bytes(&value), &operation->value);
        buffer_free(&value);
    } else if (operation->kind != SIM_GET) {
        good = sim_workload_read_number(response->body, "\"revision\":", &operation->revision);
        operation->existed = operation->kind == SIM_DELETE && response->body.size > 15 &&
                             memcmp(response->body.data, "{\"deleted\":true", 15) == 0;
    }
    if (!good) {
        sim_script_wrong(script, "the answer to an operation on key %u can't be read: %.*s", operation->key,
                         (int)(response->body.size < 100 ? response->body.size : 100),
                         (const char *)response->body.data);
    }
}

static void run_to_answer(struct sim_script *script)
{
    while (script->waiting) step(script, script->world.now + STEP);
}

static bool operate(struct sim_script *script, enum sim_operation_kind kind, uint32_t key, size_t value_bytes)
{
    struct buffer key_text = {0}, path = {0}, body = {0}, value = {0};
    uint64_t number = kind == SIM_PUT ? ++script->last_value : 0;
    if (key >= script->key_count) script->key_count = key + 1;
    sim_workload_write_key(&key_text, key);
    struct client_request request = {
        .method = "POST", .timeout = OPERATION_TIMEOUT, .retry = true, .idempotent = kind == SIM_GET};
    if (kind == SIM_PUT) {
        sim_workload_write_value(&value, number, value_bytes);
        buffer_append_string(&path, "/v1/data");
        CHECK(client_kv_put_body(buffer_bytes(&key_text), buffer_bytes(&value), &body));
    } else {
        request.method = kind == SIM_GET ? "GET" : "DELETE";
        client_kv_path(buffer_bytes(&key_text), &path);
    }
    request.path = buffer_bytes(&path);
    request.body = buffer_bytes(&body);
    script->operation = sim_history_send(&script->history, kind, 0, key, number, script->world.now);
    script->waiting = true;
    script->status = 0;
    client_request(script->client, &request, answered, script);
    turn_end(script); /* it isn't in an event of its process that the script asks */
    buffer_free(&key_text);
    buffer_free(&path);
    buffer_free(&body);
    buffer_free(&value);
    run_to_answer(script);
    return script->history.operations[script->operation].outcome == SIM_DONE;
}

bool sim_script_put(struct sim_script *script, uint32_t key, size_t value_bytes)
{
    return operate(script, SIM_PUT, key, value_bytes);
}

bool sim_script_get(struct sim_script *script, uint32_t key)
{
    return operate(script, SIM_GET, key, 0);
}

bool sim_script_delete(struct sim_script *script, uint32_t key)
{
    return operate(script, SIM_DELETE, key, 0);
}

static void snapshot_answered(void *user, const struct client_response *response)
{
    struct sim_script *script = user;
    script->waiting = false;
    script->status = response->error == ERR_OK ? response->status : 0;
}

bool sim_script_snapshot(struct sim_script *script, unsigned node)
{
    sim_script_ask(script, node, true);
    struct client_request request = {
        .method = "POST", .path = bytes_of_string("/v1/snapshot"), .timeout = SNAPSHOT_WITHIN, .retry = true};
    script->waiting = true;
    client_request(script->client, &request, snapshot_answered, script);
    turn_end(script);
    run_to_answer(script);
    return script->status == 200;
}

/* ---- a life ---- */

void sim_script_begin(struct sim_script *script, uint64_t seed, const struct drive_config *config, unsigned node_count)
{
    memset(script, 0, sizeof *script);
    sim_world_init(&script->world, seed);
    sim_net_init(&script->network, &script->world);
    sim_cluster_init(&script->cluster, &script->world, &script->network, config, node_count, NULL);
    script->cluster.hooks = &hooks;
    script->cluster.hooks_user = script;
    script->net = sim_net_host(&script->network, SIM_NODES_MAX, "client");
    sim_loop_init(&script->loop, &script->world, SIM_NODES_MAX);
    sim_script_ask(script, 0, false);
    loop_attach(&script->loop.loop, &loop_handler, script);
}

void sim_script_end(struct sim_script *script)
{
    sim_cluster_free(&script->cluster);
    sim_loop_detach(&script->loop);
    client_free(script->client);
    sim_net_free(&script->network);
    sim_world_free(&script->world);
    sim_history_free(&script->history);
    for (unsigned i = 0; i < SIM_NODES_MAX; i++) buffer_free(&script->said[i]);
}

void sim_script_start_all(struct sim_script *script)
{
    for (unsigned i = 0; i < script->cluster.node_count; i++) {
        if (!script->cluster.nodes[i].stay_down) sim_cluster_start(&script->cluster, i);
    }
}

void sim_script_run(struct sim_script *script, time_ns duration)
{
    time_ns end = script->world.now + duration;
    while (step(script, end)) {}
}

static bool has_settled(const struct sim_script *script, bool all)
{
    const struct sim_cluster *cluster = &script->cluster;
    if (sim_cluster_leader(cluster) >= cluster->node_count) return false;
    raft_index applied = 0;
    for (unsigned i = 0; all && i < cluster->node_count; i++) {
        struct replica_status status;
        if (cluster->nodes[i].stay_down) continue;
        if (!sim_cluster_status(cluster, i, &status) || status.raft.uncertain) return false;
        if (status.raft.applied != status.raft.last_index || status.raft.applied != status.raft.durable_index)
            return false;
        if (applied != 0 && status.raft.applied != applied) return false;
        applied = status.raft.applied;
    }
    return true;
}

bool sim_script_settle(struct sim_script *script, bool all, time_ns limit)
{
    time_ns end = script->world.now + limit;
    while (script->world.now < end && script->text[0] == 0 && !script->cluster.checker.violated) {
        if (has_settled(script, all)) return true;
        sim_script_run(script, 5 * STEP);
    }
    return has_settled(script, all);
}

bool sim_script_check(struct sim_script *script)
{
    static const struct sim_contents_reader reader = {.key = sim_workload_read_key, .value = sim_workload_read_value};
    struct sim_contents_verdict contents = {0};
    const struct store *first = NULL;
    for (unsigned i = 0; i < script->cluster.node_count && script->text[0] == 0; i++) {
        const struct sim_node *node = &script->cluster.nodes[i];
        if (node->state != SIM_NODE_UP) continue;
        sim_script_ask(script, i, true);
        for (uint32_t key = 0; key < script->key_count; key++) {
            time_ns end = script->world.now + READ_WITHIN;
            while (!sim_script_get(script, key) && script->world.now < end && script->text[0] == 0) {
                sim_script_run(script, 10 * STEP);
            }
            if (script->status == 0) return sim_script_wrong(script, "node-%u doesn't answer", i + 1);
        }
    }
    for (unsigned i = 0; i < script->cluster.node_count; i++) {
        const struct sim_node *node = &script->cluster.nodes[i];
        if (node->state != SIM_NODE_UP || drive_replica(node->drive) == NULL) continue;
        const struct store *store = replica_store(drive_replica(node->drive));
        if (first == NULL) {
            first = store;
            sim_contents_explain(store, &reader, &script->history, &contents);
        } else {
            sim_contents_compare(first, store, &contents);
        }
    }
    if (script->cluster.checker.violated) return sim_script_wrong(script, "%s", script->cluster.checker.text);
    if (contents.violated) return sim_script_wrong(script, "%s", contents.text);
    struct sim_verdict verdict;
    sim_history_check(&script->history, &verdict);
    if (verdict.violated) return sim_script_wrong(script, "%s", verdict.text);
    if (verdict.keys_undecided > 0) return sim_script_wrong(script, "a history is too hard to decide");
    if (script->bad_end) return sim_script_wrong(script, "a node ended without saying why");
    return script->text[0] == 0;
}

/* ---- images ---- */

struct take {
    const struct sim_disk *disk;
    struct sim_image_disk *out;
};

static void take_file(void *user, const char *path)
{
    struct take *take = user;
    struct sim_image_disk *out = take->out;
    if (out->count == out->capacity) {
        out->capacity = out->capacity == 0 ? 16 : out->capacity * 2;
        out->files = mem_realloc(out->files, out->capacity * sizeof *out->files);
    }
    struct sim_image_file *file = &out->files[out->count++];
    *file = (struct sim_image_file){.path = mem_copy_string(path)};
    size_t capacity = 0;
    for (;;) {
        if (file->size == capacity) {
            capacity = capacity == 0 ? (size_t)64 * 1024 : capacity * 2;
            file->data = mem_realloc(file->data, capacity);
        }
        size_t got =
            sim_disk_read_durable(take->disk, path, file->size, file->data + file->size, capacity - file->size);
        if (got == 0) break;
        file->size += got;
    }
}

static void copy_history(struct sim_history *to, const struct sim_history *from)
{
    *to = *from;
    to->capacity = from->count + 64;
    to->operations = mem_alloc(to->capacity * sizeof *to->operations);
    memcpy(to->operations, from->operations, from->count * sizeof *to->operations);
}

void sim_image_take(struct sim_image *image, const struct sim_script *script)
{
    *image = (struct sim_image){
        .node_count = script->cluster.node_count, .key_count = script->key_count, .last_value = script->last_value};
    for (unsigned i = 0; i < image->node_count; i++) {
        struct take take = {.disk = &script->cluster.nodes[i].disk, .out = &image->disks[i]};
        sim_disk_each_file(take.disk, "/data/", take_file, &take);
    }
    copy_history(&image->history, &script->history);
    sim_checker_copy(&image->checker, &script->cluster.checker);
}

void sim_image_free(struct sim_image *image)
{
    for (unsigned i = 0; i < image->node_count; i++) {
        for (uint32_t j = 0; j < image->disks[i].count; j++) {
            mem_free(image->disks[i].files[j].path);
            mem_free(image->disks[i].files[j].data);
        }
        mem_free(image->disks[i].files);
    }
    sim_history_free(&image->history);
    sim_checker_free(&image->checker);
    *image = (struct sim_image){0};
}

void sim_script_overwrite(struct sim_script *script, unsigned node, const char *path, uint64_t offset, const void *data,
                          size_t size)
{
    struct sim_disk *disk = &script->cluster.nodes[node].disk;
    struct disk_file *file;
    CHECK(disk_open(&disk->disk, path, DISK_WRITE | DISK_CREATE, &file) == ERR_OK);
    CHECK(disk_write(&disk->disk, file, offset, data, size) == ERR_OK);
    disk_close(&disk->disk, file);
    sim_disk_sync_all(disk);
}

static void load_disk(const struct sim_image_disk *image, struct sim_script *script, unsigned node)
{
    struct sim_disk *disk = &script->cluster.nodes[node].disk;
    static const char *const directories[] = {"/data", "/data/log", "/data/snapshot"};
    for (size_t i = 0; i < ARRAY_COUNT(directories); i++) {
        CHECK(disk_make_directories(&disk->disk, directories[i]) == ERR_OK);
    }
    for (uint32_t i = 0; i < image->count; i++) {
        const struct sim_image_file *file = &image->files[i];
        sim_script_overwrite(script, node, file->path, 0, file->data, file->size);
    }
    disk->counters = (struct sim_disk_counters){0};
}

void sim_image_begin(const struct sim_image *image, struct sim_script *script, uint64_t seed,
                     const struct drive_config *config)
{
    sim_script_begin(script, seed, config, image->node_count);
    script->key_count = image->key_count;
    script->last_value = image->last_value;
    copy_history(&script->history, &image->history);
    struct sim_checker *checker = &script->cluster.checker;
    sim_checker_free(checker);
    sim_checker_copy(checker, &image->checker);
    checker->world = &script->world;
    checker->user = &script->cluster;
    for (unsigned i = 0; i < image->node_count; i++) {
        checker->nodes[i].running = false;
        load_disk(&image->disks[i], script, i);
    }
}

void sim_image_load(const struct sim_image *image, struct sim_script *script, unsigned node)
{
    sim_disk_wipe(&script->cluster.nodes[node].disk);
    load_disk(&image->disks[node], script, node);
    struct sim_checked_node *to = &script->cluster.checker.nodes[node];
    const struct sim_checked_node *from = &image->checker.nodes[node];
    to->last = from->last;
    to->seen_last = from->seen_last;
    to->proven_last = from->proven_last;
}

const struct sim_image_file *sim_image_find(const struct sim_image *image, unsigned node, const char *prefix)
{
    const struct sim_image_file *found = NULL;
    for (uint32_t i = 0; i < image->disks[node].count; i++) {
        const struct sim_image_file *file = &image->disks[node].files[i];
        if (strncmp(file->path, prefix, strlen(prefix)) == 0) found = file;
    }
    return found;
}
