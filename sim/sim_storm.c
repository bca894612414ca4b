#include "sim/sim_storm.h"

#include <limits.h>
#include <stdlib.h>

#include "base/check.h"

#define REIGN_NS_MAX (200 * TIME_NS_PER_MS)
#define STALL_NS_MAX (800 * TIME_NS_PER_MS)
#define DOWN_NS_MAX (500 * TIME_NS_PER_MS)
#define HOLD_NS_MAX (500 * TIME_NS_PER_MS)
/* Disk operations from a cut of the log to the crash. */
#define OPERATIONS_AHEAD_MAX 6
/* Election timeouts without a leader, after which links are whole for a while. */
#define LEADERLESS_MAX 4
/* How long an overtaking waits, in all. */
#define OVERTAKE_NS_MAX (12 * TIME_NS_PER_S)
/* From the arrival of the snapshot's first bytes to the leader's end. */
#define KILL_NS_MAX (2 * TIME_NS_PER_MS)
/* How long the member doesn't come to install it, unless the log overtakes it before. */
#define SNAPSHOT_HELD_NS (2 * TIME_NS_PER_S)

static time_ns now_of(const struct sim_storm *storm)
{
    return storm->cluster->world->now;
}

static time_ns election_timeout_of(const struct sim_storm *storm)
{
    return storm->cluster->config.election_timeout;
}

static void step_in(struct sim_storm *storm, time_ns delay)
{
    sim_world_schedule(storm->cluster->world, &storm->step, now_of(storm) + delay);
}

static void block_both(struct sim_storm *storm, unsigned a, unsigned b, bool blocked)
{
    sim_net_block(storm->network, a, b, blocked);
    sim_net_block(storm->network, b, a, blocked);
}

/* From all other nodes, but for one; that may be itself. */
static void cut_off(struct sim_storm *storm, unsigned node, unsigned but_for)
{
    for (unsigned i = 0; i < storm->cluster->node_count; i++) {
        if (i != node && i != but_for) block_both(storm, i, node, true);
    }
}

static unsigned any_other(struct sim_storm *storm, unsigned node)
{
    unsigned count = storm->cluster->node_count;
    return (node + 1 + (unsigned)random_below(&storm->random, count - 1)) % count;
}

/* ---- reigns ---- */

static void stall_disks(struct sim_storm *storm)
{
    for (unsigned i = 0; i < storm->cluster->node_count; i++) {
        if (!random_chance(&storm->random, 500)) continue;
        storm->cluster->nodes[i].queue.stalled_until = now_of(storm) + sim_up_to(&storm->random, STALL_NS_MAX);
    }
}

static void depose(struct sim_storm *storm)
{
    struct random *random = &storm->random;
    struct sim_cluster *cluster = storm->cluster;
    unsigned leader = storm->leader, choice = (unsigned)random_below(random, 100);
    storm->leader = cluster->node_count;
    sim_net_heal(storm->network);
    step_in(storm, LEADERLESS_MAX * election_timeout_of(storm));
    if (leader >= cluster->node_count) return;
    sim_world_note(cluster->world, SIM_NO_PROCESS, "fault: the reign of node-%u ends", leader + 1);
    if (choice < 25) {
        sim_cluster_crash(cluster, leader, random_chance(random, 700), sim_up_to(random, DOWN_NS_MAX));
        return;
    }
    if (choice < 45) {
        /* It goes on for a while, with one that listens to it. */
        cut_off(storm, leader, any_other(storm, leader));
        storm->leader = leader;
        step_in(storm, sim_up_to(random, REIGN_NS_MAX));
        return;
    }
    for (unsigned i = 0; i < cluster->node_count && choice < 80; i++) {
        if (i != leader) sim_net_reset(storm->network, leader, i);
    }
    cut_off(storm, leader, leader);
}

static int by_index(const void *a, const void *b)
{
    raft_index first = *(const raft_index *)a, second = *(const raft_index *)b;
    return first < second ? 1 : first > second ? -1 : 0;
}

/* A leader that has nothing of its own term committed knows entries of earlier terms on a quorum: figure 8's moment. */
static bool old_entries_on_quorum(const struct sim_storm *storm, const struct raft_status *status)
{
    raft_index match[MEMBERS_MAX] = {status->durable_index};
    for (uint32_t i = 0; i < status->peer_count; i++) match[i + 1] = status->peers[i].match;
    qsort(match, status->peer_count + 1, sizeof match[0], by_index);
    return !status->may_serve && match[(status->peer_count + 1) / 2] > storm->commit_before;
}

static void reigns_turned(struct sim_storm *storm, unsigned node, const struct raft_status *status)
{
    struct random *random = &storm->random;
    if (status->role != RAFT_LEADER || status->term < storm->term) return;
    if (status->term > storm->term) {
        storm->term = status->term;
        storm->leader = node;
        storm->commit_before = status->commit;
        storm->reigns++;
        if (random_chance(random, 400)) stall_disks(storm);
        step_in(storm, random_chance(random, 300) ? 0 : sim_up_to(random, REIGN_NS_MAX));
    } else if (node == storm->leader && old_entries_on_quorum(storm, status)) {
        step_in(storm, 0);
    }
}

/* What was cut may be under way to the disk: whoever takes the end of that write for the new entries' must not outlive it. */
static void reigns_logged(struct sim_storm *storm, unsigned number, const char *event)
{
    struct random *random = &storm->random;
    struct sim_node *node = &storm->cluster->nodes[number];
    if (strcmp(event, "cut a conflicting end of the log") != 0 || !random_chance(random, 300)) return;
    node->crash_is_kill = random_chance(random, 400);
    node->disk.crash_at = node->disk.counters.operations + random_between(random, 1, OPERATIONS_AHEAD_MAX);
}

/* ---- hold-back ---- */

/* Each direction of a link has its own: so one member hears of what is written, and another of who leads. */
static void hold_back(struct sim_storm *storm)
{
    static const enum sim_box_frames frames[] = {SIM_BOX_ALL, SIM_BOX_LOADED, SIM_BOX_BARE};
    struct random *random = &storm->random;
    unsigned count = storm->cluster->node_count, per_mille = (unsigned)random_between(random, 200, 900);
    time_ns hold_max = sim_up_to(random, HOLD_NS_MAX);
    for (unsigned from = 0; from < count; from++) {
        for (unsigned to = 0; to < count; to++) {
            unsigned choice = (unsigned)random_below(random, ARRAY_COUNT(frames) + 1);
            if (choice == ARRAY_COUNT(frames)) continue;
            struct sim_box_rules rules = {.hold = per_mille, .hold_max = hold_max, .frames = frames[choice]};
            sim_net_meddle(storm->network, from, to, &rules, storm->end.at);
        }
    }
}

/*
 * One member hears of nothing new for a while, but for answers; the others take entries, but heartbeats come late. So what is
 * committed meanwhile the member doesn't have, while a round of heartbeats from before is still under way.
 */
static void hold_round(struct sim_storm *storm)
{
    struct random *random = &storm->random;
    unsigned count = storm->cluster->node_count, leader = sim_cluster_leader(storm->cluster);
    time_ns timeout = election_timeout_of(storm);
    time_ns lag = timeout / 10 * (time_ns)random_between(random, 2, 8);
    step_in(storm, lag + sim_up_to(random, timeout));
    if (leader >= count) return;
    struct sim_box_rules late = {.hold = 1000, .hold_min = lag / 4, .hold_max = lag / 2, .frames = SIM_BOX_BARE};
    struct sim_box_rules behind = {.hold = 1000, .hold_min = lag, .hold_max = lag, .frames = SIM_BOX_APPENDS};
    unsigned member = any_other(storm, leader);
    for (unsigned to = 0; to < count; to++) {
        if (to == leader) continue;
        sim_net_meddle(storm->network, leader, to, to == member ? &behind : &late, now_of(storm) + lag);
    }
}

/* ---- overtake ---- */

static bool number_of(const char *fields, const char *name, uint64_t *out)
{
    const char *at = strstr(fields, name);
    if (at == NULL) return false;
    *out = strtoull(at + strlen(name), NULL, 10);
    return true;
}

/* Heartbeats reach the member, so it stays connected and follows; entries and snapshots don't. */
static void keep_behind(struct sim_storm *storm, bool on)
{
    struct sim_box_rules rules = {.drop = 1000, .frames = SIM_BOX_LOADED};
    sim_net_meddle(storm->network, storm->from, storm->to, &rules, on ? storm->end.at : 0);
}

/* Again when another one leads. */
static void overtake_begin(struct sim_storm *storm)
{
    unsigned leader = sim_cluster_leader(storm->cluster);
    step_in(storm, 2 * election_timeout_of(storm));
    if (leader == storm->from) return;
    if (storm->from < storm->cluster->node_count) keep_behind(storm, false);
    storm->from = leader;
    if (leader >= storm->cluster->node_count) return;
    storm->to = any_other(storm, leader);
    keep_behind(storm, true);
}

/* So many that the rest, without the leader, is a quorum only with the member: nothing is committed before it has it. */
static void cut_off_some(struct sim_storm *storm)
{
    unsigned count = storm->cluster->node_count, left = count - 1;
    for (unsigned i = 0; i < count && left > count / 2 + 1; i++) {
        if (i == storm->from || i == storm->to) continue;
        cut_off(storm, i, i);
        left--;
    }
}

static void overtake_logged(struct sim_storm *storm, unsigned node, const char *event, const char *fields)
{
    switch (storm->stage) {
    case SIM_OVERTAKE_MAKING:
        if (node != storm->from || node != sim_cluster_leader(storm->cluster)) return;
        if (strcmp(event, "snapshot begins") != 0 || !number_of(fields, "index=", &storm->index)) return;
        storm->stage = SIM_OVERTAKE_COUNTS;
        sim_world_cancel(storm->cluster->world, &storm->step);
        cut_off_some(storm);
        /* Nobody but the member hears how far is committed. */
        for (unsigned i = 0; i < storm->cluster->node_count; i++) {
            if (i != node && i != storm->to) sim_net_block(storm->network, node, i, true);
        }
        return;
    case SIM_OVERTAKE_COUNTS:
        if (node != storm->from || strcmp(event, "made a snapshot") != 0) return;
        storm->stage = SIM_OVERTAKE_ARRIVES;
        keep_behind(storm, false);
        return;
    case SIM_OVERTAKE_ARRIVES:
        if (node != storm->to || strcmp(event, "snapshot of the leader arrives") != 0) return;
        storm->stage = SIM_OVERTAKE_LOG;
        step_in(storm, sim_up_to(&storm->random, KILL_NS_MAX));
        return;
    case SIM_OVERTAKE_LOG:
    case SIM_OVERTAKE_LAST:
        return;
    }
}

static void overtake_turned(struct sim_storm *storm, unsigned node, const struct raft_status *status)
{
    if (storm->stage != SIM_OVERTAKE_LOG || node != storm->to) return;
    if (status->last_index < storm->index || status->commit >= storm->index) return;
    storm->stage = SIM_OVERTAKE_LAST;
    storm->overtaken++;
    step_in(storm, 0);
}

static void overtake_step(struct sim_storm *storm)
{
    struct sim_world *world = storm->cluster->world;
    if (storm->stage == SIM_OVERTAKE_MAKING) {
        overtake_begin(storm);
        return;
    }
    sim_net_heal(storm->network);
    if (storm->stage == SIM_OVERTAKE_LAST) {
        sim_world_note(world, SIM_NO_PROCESS, "fault: nobody tells node-%u what is committed", storm->to + 1);
        sim_disk_queue_hold_normal(&storm->cluster->nodes[storm->to].queue, 0);
        for (unsigned i = 0; i < storm->cluster->node_count; i++) {
            if (i != storm->to) sim_net_block(storm->network, i, storm->to, true);
        }
        sim_world_schedule(world, &storm->end, now_of(storm) + 2 * TIME_NS_PER_S);
        return;
    }
    cut_off_some(storm);
    sim_disk_queue_hold_normal(&storm->cluster->nodes[storm->to].queue, now_of(storm) + SNAPSHOT_HELD_NS);
    sim_world_note(world, SIM_NO_PROCESS, "fault: the sender of a snapshot ends (node-%u)", storm->from + 1);
    sim_cluster_crash(storm->cluster, storm->from, random_chance(&storm->random, 300), 3 * TIME_NS_PER_S);
    sim_world_schedule(world, &storm->end, now_of(storm) + 3 * TIME_NS_PER_S);
}

/* ---- all of them ---- */

void sim_storm_begin(struct sim_storm *storm, enum sim_fault kind)
{
    struct sim_world *world = storm->cluster->world;
    if (storm->under_way) return;
    storm->under_way = true;
    storm->kind = kind;
    time_ns length = (time_ns)random_between(&storm->random, 1, 6) * TIME_NS_PER_S;
    if (kind == SIM_FAULT_REIGNS) length += 8 * election_timeout_of(storm);
    if (kind == SIM_FAULT_OVERTAKE) length = OVERTAKE_NS_MAX;
    sim_world_schedule(world, &storm->end, world->now + length);
    if (kind == SIM_FAULT_REIGNS) {
        storm->leader = sim_cluster_leader(storm->cluster); /* none: node_count or more */
        step_in(storm, 0);
    } else if (kind == SIM_FAULT_HOLD_BACK && random_chance(&storm->random, 300)) {
        hold_back(storm);
    } else if (kind == SIM_FAULT_HOLD_BACK) {
        hold_round(storm);
    } else {
        storm->stage = SIM_OVERTAKE_MAKING;
        storm->from = UINT_MAX;
        overtake_begin(storm);
    }
}

void sim_storm_logged(struct sim_storm *storm, unsigned node, const char *event, const char *fields)
{
    if (!storm->under_way) return;
    if (storm->kind == SIM_FAULT_REIGNS) reigns_logged(storm, node, event);
    if (storm->kind == SIM_FAULT_OVERTAKE) overtake_logged(storm, node, event, fields);
}

void sim_storm_turned(struct sim_storm *storm, unsigned node)
{
    struct replica_status status;
    if (!storm->under_way || storm->kind == SIM_FAULT_HOLD_BACK) return;
    if (!sim_cluster_status(storm->cluster, node, &status)) return;
    if (storm->kind == SIM_FAULT_REIGNS) {
        reigns_turned(storm, node, &status.raft);
    } else {
        overtake_turned(storm, node, &status.raft);
    }
}

void sim_storm_end(struct sim_storm *storm)
{
    struct sim_world *world = storm->cluster->world;
    sim_world_cancel(world, &storm->step);
    sim_world_cancel(world, &storm->end);
    if (storm->under_way && storm->kind == SIM_FAULT_OVERTAKE) {
        sim_disk_queue_hold_normal(&storm->cluster->nodes[storm->to].queue, 0);
    }
    storm->under_way = false;
}

static void step_event(struct sim_event *event)
{
    struct sim_storm *storm = (struct sim_storm *)((char *)event - offsetof(struct sim_storm, step));
    if (storm->kind == SIM_FAULT_REIGNS) {
        depose(storm);
    } else if (storm->kind == SIM_FAULT_HOLD_BACK) {
        hold_round(storm);
    } else {
        overtake_step(storm);
    }
}

static void end_event(struct sim_event *event)
{
    struct sim_storm *storm = (struct sim_storm *)((char *)event - offsetof(struct sim_storm, end));
    sim_world_note(storm->cluster->world, SIM_NO_PROCESS, "the storm is over");
    sim_storm_end(storm);
    sim_net_heal(storm->network);
}

void sim_storm_init(struct sim_storm *storm, struct sim_cluster *cluster, struct sim_net *network)
{
    *storm = (struct sim_storm){.cluster = cluster, .network = network};
    storm->step = (struct sim_event){.run = step_event, .kind = SIM_EVENT_NEMESIS, .process = SIM_NO_PROCESS};
    storm->end = (struct sim_event){.run = end_event, .kind = SIM_EVENT_NEMESIS, .process = SIM_NO_PROCESS};
    sim_world_random(cluster->world, "storm", 0, &storm->random);
}
