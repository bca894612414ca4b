#include "sim/sim_cluster.h"

#include <limits.h>

#include "base/check.h"

#define START_AGAIN_NS_MAX (2 * TIME_NS_PER_S)

/* ---- what nodes log ---- */

void sim_marks_add(struct sim_marks *marks, const char *event, uint64_t count)
{
    if (marks == NULL) return;
    for (unsigned i = 0; i < marks->count; i++) {
        if (strcmp(marks->marks[i].event, event) == 0) {
            marks->marks[i].count += count;
            return;
        }
    }
    if (marks->count == SIM_MARKS_MAX) return;
    struct sim_mark *mark = &marks->marks[marks->count++];
    snprintf(mark->event, sizeof mark->event, "%s", event);
    mark->count = count;
}

static bool names_a_file(const char *text)
{
    return strstr(text, "/data/") != NULL || strstr(text, ".seg at ") != NULL;
}

static void note_complaint(struct sim_node *node, const char *event, const char *text)
{
    snprintf(node->complaint, sizeof node->complaint, "%.100s: %.400s", event, text);
}

static void node_log(struct logger *logger, enum log_level level, const char *event, const char *fields)
{
    struct sim_node *node = (struct sim_node *)logger;
    struct sim_world *world = node->cluster->world;
    if (level >= LOG_LEVEL_INFO) {
        sim_world_fold_bytes(world, event, strlen(event));
        sim_world_fold_bytes(world, fields, strlen(fields));
        sim_marks_add(node->cluster->marks, event, 1);
        const struct sim_cluster_hooks *hooks = node->cluster->hooks;
        if (hooks != NULL && hooks->logged != NULL) {
            hooks->logged(node->cluster->hooks_user, node->number, level, event, fields);
        }
    }
    if (level >= LOG_LEVEL_WARN && (names_a_file(fields) || strstr(fields, "damage") != NULL)) {
        note_complaint(node, event, fields);
    }
    const char *prefix = level == LOG_LEVEL_ERROR ? "ERROR: " : level == LOG_LEVEL_WARN ? "warning: " : "";
    sim_world_note(world, node->number, "%s%s %s", prefix, event, fields);
}

/* ---- the end of a process ---- */

static void node_take_down(struct sim_node *node)
{
    struct sim_cluster *cluster = node->cluster;
    bool power_lost = node->power_lost;
    sim_world_cancel(cluster->world, &node->end);
    sim_checker_stopped(&cluster->checker, node->number);
    /* First everything around it stops, so that its destructor can't say or save anything any more. */
    sim_net_host_down(cluster->network, node->number, power_lost);
    sim_disk_kill(&node->disk);
    sim_disk_queue_drop(&node->queue);
    sim_loop_detach(&node->loop);
    sim_world_pause(cluster->world, node->number, 0);
    if (node->drive != NULL) drive_free(node->drive);
    node->drive = NULL;
    sim_net_host_forget(cluster->network, node->number);
    sim_disk_restart(&node->disk, power_lost);
    node->state = SIM_NODE_DOWN;
    node->power_lost = false;
    node->stopping = false;
    sim_world_schedule(cluster->world, &node->start, cluster->world->now + node->down_for);
}

static void end_event(struct sim_event *event)
{
    node_take_down((struct sim_node *)((char *)event - offsetof(struct sim_node, end)));
}

/* Ends the process as soon as the event that runs is over; until then nothing else of it happens. */
static void node_end_soon(struct sim_node *node, bool power_loss, time_ns down_for)
{
    struct sim_world *world = node->cluster->world;
    node->state = SIM_NODE_ENDING;
    node->power_lost = power_loss;
    node->down_for = down_for;
    sim_world_pause(world, node->number, world->now + 1);
    sim_world_schedule(world, &node->end, world->now);
}

static void disk_crashed(void *user, unsigned number)
{
    struct sim_cluster *cluster = user;
    struct sim_node *node = &cluster->nodes[number];
    ++*(node->crash_is_kill ? &cluster->crashes : &cluster->power_losses);
    if (node->state != SIM_NODE_UP) return; /* within the start, which fails then */
    time_ns down_for = (time_ns)random_below(&cluster->random, (uint64_t)START_AGAIN_NS_MAX);
    node_end_soon(node, !node->crash_is_kill, down_for);
}

static void tell_end(const struct sim_node *node, int exit_code, const char *text)
{
    const struct sim_cluster_hooks *hooks = node->cluster->hooks;
    if (hooks == NULL || hooks->ended == NULL || (node->stopping && exit_code == 0)) return;
    hooks->ended(node->cluster->hooks_user, node->number, exit_code, text);
}

static void drive_ended(void *user, int exit_code, const char *text)
{
    struct sim_node *node = user;
    struct sim_cluster *cluster = node->cluster;
    sim_world_note(cluster->world, node->number, "ended with code %d: %s", exit_code, text);
    if (node->state == SIM_NODE_ENDING) return;
    tell_end(node, exit_code, text);
    if (exit_code != 0 && !node->may_fail && !node->disk.dead) {
        sim_checker_violated(&cluster->checker, "node-%u ended by itself, with code %d: %s", node->number + 1,
                             exit_code, text);
    }
    if (exit_code == 0 && !node->stopping) {
        sim_checker_violated(&cluster->checker, "node-%u ended in order without being asked", node->number + 1);
    }
    time_ns down_for =
        node->stopping ? node->down_for : (time_ns)random_below(&cluster->random, (uint64_t)START_AGAIN_NS_MAX);
    node_end_soon(node, node->end_cuts_power, down_for);
}

static const struct drive_handler drive_handler = {.ended = drive_ended};

/* ---- the start ---- */

static void node_start(struct sim_node *node)
{
    struct sim_cluster *cluster = node->cluster;
    if (node->state != SIM_NODE_DOWN) return;
    sim_world_cancel(cluster->world, &node->start);
    sim_net_host_up(cluster->network, node->number);
    node->starts++;
    node->power_lost = false;
    const struct sim_disk *disk = &node->disk;
    if (disk->fail_at == 0 && disk->fail_look_at == 0 && disk->capacity_bytes == 0) node->may_fail = false;
    struct drive_config config = cluster->config;
    snprintf(config.node_id, sizeof config.node_id, "node-%u", node->number + 1);
    snprintf(config.listen_host, sizeof config.listen_host, "node-%u", node->number + 1);
    struct drive_ports ports = {
        .disk = &node->disk.disk,
        .disk_queue = &node->queue.queue,
        .net = node->net,
        .loop = &node->loop.loop,
        .logger = &node->logger,
    };
    char text[512] = "";
    sim_world_note(cluster->world, node->number, "starts");
    node->drive = drive_new(&config, &ports, &drive_handler, node);
    enum error error = drive_start(node->drive, text);
    sim_world_fold(cluster->world, (uint64_t)error);
    if (error == ERR_OK && !node->disk.dead) {
        node->state = SIM_NODE_UP;
        sim_checker_started(&cluster->checker, node->number);
        return;
    }
    cluster->failed_starts++;
    sim_world_note(cluster->world, node->number, "does not start: %s: %s", error_code(error), text);
    if (error != ERR_OK && !node->disk.dead) tell_end(node, 1, text);
    if (error == ERR_OK || node->disk.dead) {
        node->power_lost = node->disk.dead && !node->crash_is_kill;
    } else if (node->damaged && error == ERR_DAMAGED && names_a_file(text)) {
        node->beyond_repair = true;
        note_complaint(node, "does not start", text);
    } else if (!node->may_fail) {
        sim_checker_violated(&cluster->checker, "node-%u does not start: %s: %s", node->number + 1, error_code(error),
                             text);
    }
    node->down_for = (time_ns)random_below(&cluster->random, (uint64_t)START_AGAIN_NS_MAX);
    node_take_down(node);
}

static void start_event(struct sim_event *event)
{
    struct sim_node *node = (struct sim_node *)((char *)event - offsetof(struct sim_node, start));
    if (!node->stay_down) node_start(node);
}

/* ---- the cluster ---- */

static void turn_ended(void *user, unsigned number)
{
    struct sim_cluster *cluster = user;
    /* Also a turn in which the node ended: it may have acknowledged something before. */
    if (cluster->nodes[number].state != SIM_NODE_DOWN) sim_checker_look(&cluster->checker, number);
    if (cluster->hooks != NULL && cluster->hooks->turned != NULL) cluster->hooks->turned(cluster->hooks_user, number);
}

static const struct replica *replica_of(void *user, unsigned number)
{
    const struct sim_node *node = &((struct sim_cluster *)user)->nodes[number];
    return node->drive == NULL || node->state == SIM_NODE_DOWN ? NULL : drive_replica(node->drive);
}

static bool status_of(void *user, unsigned number, struct replica_status *out)
{
    const struct replica *replica = replica_of(user, number);
    if (replica != NULL) replica_status(replica, out);
    return replica != NULL;
}

static bool entry_of(void *user, unsigned number, raft_index index, raft_term *term, uint32_t *chain)
{
    const struct replica *replica = replica_of(user, number);
    return replica != NULL && replica_entry_at(replica, index, term, chain);
}

static uint32_t applied_chain_of(void *user, unsigned number)
{
    return replica_applied_chain(replica_of(user, number));
}

static const struct sim_disk *disk_of(void *user, unsigned number)
{
    return &((struct sim_cluster *)user)->nodes[number].disk;
}

void sim_cluster_init(struct sim_cluster *cluster, struct sim_world *world, struct sim_net *network,
                      const struct drive_config *config, unsigned node_count, struct sim_marks *marks)
{
    CHECK(node_count >= 1 && node_count <= MEMBERS_MAX && node_count <= SIM_NODES_MAX);
    memset(cluster, 0, sizeof *cluster);
    cluster->world = world;
    cluster->network = network;
    cluster->config = *config;
    cluster->node_count = node_count;
    cluster->marks = marks;
    sim_world_random(world, "cluster", 0, &cluster->random);
    sim_checker_init(&cluster->checker, world, node_count);
    cluster->checker.view = (struct sim_checker_view){
        .status = status_of, .entry = entry_of, .applied_chain = applied_chain_of, .disk = disk_of};
    cluster->checker.user = cluster;
    struct drive_config *shared = &cluster->config;
    shared->api_port = SIM_API_PORT;
    shared->rpc_port = SIM_RPC_PORT;
    shared->log_directory = "/data/log";
    shared->log_metadata_file = "/data/log/metadata";
    shared->raft_state_file = "/data/state";
    shared->snapshot_directory = "/data/snapshot";
    shared->lock_file = "/data/lock";
    shared->version = "simulated";
    shared->member_count = node_count;
    for (unsigned i = 0; i < node_count; i++) {
        struct drive_member *member = &shared->members[i];
        snprintf(member->node_id, sizeof member->node_id, "node-%u", i + 1);
        snprintf(member->rpc_host, sizeof member->rpc_host, "node-%u", i + 1);
        member->rpc_port = SIM_RPC_PORT;
        snprintf(member->api_address, sizeof member->api_address, "node-%u:%u", i + 1, SIM_API_PORT);
        struct sim_node *node = &cluster->nodes[i];
        node->logger.level = world->trace != NULL ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO;
        node->logger.write = node_log;
        node->cluster = cluster;
        node->number = i;
        sim_loop_init(&node->loop, world, i);
        node->loop.turn_ended = turn_ended;
        node->loop.turn_ended_user = cluster;
        sim_disk_init(&node->disk, world, i);
        node->disk.crashed = disk_crashed;
        node->disk.crashed_user = cluster;
        sim_disk_queue_init(&node->queue, &node->disk);
        node->net = sim_net_host(network, i, member->node_id);
        node->end = (struct sim_event){.run = end_event, .kind = SIM_EVENT_PROCESS, .process = SIM_NO_PROCESS};
        node->start = (struct sim_event){.run = start_event, .kind = SIM_EVENT_PROCESS, .process = SIM_NO_PROCESS};
    }
}

void sim_cluster_free(struct sim_cluster *cluster)
{
    for (unsigned i = 0; i < cluster->node_count; i++) {
        struct sim_node *node = &cluster->nodes[i];
        if (node->state != SIM_NODE_DOWN) node_take_down(node);
        sim_world_cancel(cluster->world, &node->start);
        sim_disk_free(&node->disk);
    }
    sim_checker_free(&cluster->checker);
}

void sim_cluster_start(struct sim_cluster *cluster, unsigned node)
{
    cluster->nodes[node].stay_down = false;
    node_start(&cluster->nodes[node]);
}

void sim_cluster_crash(struct sim_cluster *cluster, unsigned number, bool power_loss, time_ns down_for)
{
    struct sim_node *node = &cluster->nodes[number];
    if (node->state == SIM_NODE_DOWN) return;
    sim_world_note(cluster->world, number, power_loss ? "loses power" : "is killed");
    if (power_loss) {
        cluster->power_losses++;
    } else {
        cluster->crashes++;
    }
    node->power_lost = power_loss || (node->disk.dead && !node->crash_is_kill);
    node->down_for = down_for;
    node_take_down(node);
}

void sim_cluster_stop(struct sim_cluster *cluster, unsigned number, time_ns down_for)
{
    struct sim_node *node = &cluster->nodes[number];
    if (node->state != SIM_NODE_UP || node->stopping) return;
    sim_world_note(cluster->world, number, "is asked to stop");
    cluster->stops++;
    node->stopping = true;
    node->down_for = down_for;
    drive_stop(node->drive);
    if (node->loop.handler != NULL) cluster->world->touched[number](cluster->world->touched_user[number]);
}

bool sim_cluster_status(const struct sim_cluster *cluster, unsigned number, struct replica_status *out)
{
    const struct sim_node *node = &cluster->nodes[number];
    if (node->state != SIM_NODE_UP || node->drive == NULL) return false;
    const struct replica *replica = drive_replica(node->drive);
    if (replica == NULL) return false;
    replica_status(replica, out);
    return true;
}

unsigned sim_cluster_leader(const struct sim_cluster *cluster)
{
    unsigned leader = UINT_MAX;
    raft_term term = 0;
    for (unsigned i = 0; i < cluster->node_count; i++) {
        struct replica_status status;
        if (!sim_cluster_status(cluster, i, &status) || !status.raft.may_serve || status.raft.term < term) continue;
        leader = i;
        term = status.raft.term;
    }
    return leader;
}
