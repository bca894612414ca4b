#include "sim/sim_nemesis.h"

#include "base/check.h"

#define DOWN_NS_MAX (3 * TIME_NS_PER_S)
#define HEAL_NS_MAX (4 * TIME_NS_PER_S)
#define PAUSE_NS_MAX (3 * TIME_NS_PER_S)
#define JUMP_NS_MAX (3600 * TIME_NS_PER_S)
#define JUMP_NS_FAR ((time_ns)20 * 365 * 86400 * TIME_NS_PER_S)
#define STALL_NS_MAX (1500 * TIME_NS_PER_MS)
/* Disk operations until the injected fault. */
#define OPERATIONS_AHEAD_MAX 40
/* Seeds in a thousand whose last fault is a ruin. */
#define RUIN_PER_MILLE 30
/* Those in which most faults are storms of one kind. */
#define FOCUS_PER_MILLE 250
/* Those in which all members may be damaged at a time. */
#define ANYBODY_PER_MILLE 60

static time_ns up_to(struct sim_nemesis *nemesis, time_ns limit)
{
    return sim_up_to(&nemesis->random, limit);
}

static unsigned any_node(struct sim_nemesis *nemesis)
{
    return (unsigned)random_below(&nemesis->random, nemesis->cluster->node_count);
}

/* The leader, half of the time. */
static unsigned victim(struct sim_nemesis *nemesis)
{
    unsigned leader = sim_cluster_leader(nemesis->cluster);
    return leader < nemesis->cluster->node_count && random_chance(&nemesis->random, 500) ? leader : any_node(nemesis);
}

static void heal_later(struct sim_nemesis *nemesis)
{
    struct sim_world *world = nemesis->cluster->world;
    if (!sim_event_scheduled(&nemesis->heal)) {
        sim_world_schedule(world, &nemesis->heal, world->now + up_to(nemesis, HEAL_NS_MAX));
    }
}

/* The other end of a fault: a node, or a client. */
static unsigned any_host(struct sim_nemesis *nemesis)
{
    unsigned clients = nemesis->workload->options.client_count;
    unsigned choice = (unsigned)random_below(&nemesis->random, nemesis->cluster->node_count + clients);
    unsigned count = nemesis->cluster->node_count;
    return choice < count ? choice : SIM_NODES_MAX + (choice - count);
}

static void block_both(struct sim_nemesis *nemesis, unsigned a, unsigned b)
{
    sim_net_block(nemesis->network, a, b, true);
    sim_net_block(nemesis->network, b, a, true);
}

/* ---- the network ---- */

/* Two groups that don't hear of each other; or that one of them doesn't hear of the other. */
static void partition(struct sim_nemesis *nemesis)
{
    struct random *random = &nemesis->random;
    unsigned count = nemesis->cluster->node_count;
    unsigned group = (unsigned)random_between(random, 1, (1u << count) - 2);
    bool one_way = random_chance(random, 200);
    for (unsigned from = 0; from < count; from++) {
        for (unsigned to = 0; to < count; to++) {
            if ((group >> from & 1) == (group >> to & 1)) continue;
            if (!one_way || (group >> from & 1)) sim_net_block(nemesis->network, from, to, true);
        }
    }
    heal_later(nemesis);
}

static void clog_all(struct sim_nemesis *nemesis)
{
    unsigned count = nemesis->cluster->node_count;
    time_ns now = nemesis->cluster->world->now;
    for (unsigned from = 0; from < count; from++) {
        for (unsigned to = 0; to < count; to++) {
            sim_net_clog(nemesis->network, from, to, up_to(nemesis, TIME_NS_PER_S), now + up_to(nemesis, HEAL_NS_MAX));
        }
    }
}

static void half_open(struct sim_nemesis *nemesis, unsigned node)
{
    struct random *random = &nemesis->random;
    unsigned hosts = (unsigned)random_between(random, 1, 4);
    unsigned per_mille = random_chance(random, 300) ? 1000 : 400;
    for (unsigned i = 0; i < hosts; i++) sim_net_half_open(nemesis->network, node, any_host(nemesis), per_mille);
}

static void hang(struct sim_nemesis *nemesis, unsigned node)
{
    time_ns until = nemesis->cluster->world->now + up_to(nemesis, HEAL_NS_MAX);
    for (unsigned i = 0; i < SIM_HOSTS_MAX; i++) {
        if (random_chance(&nemesis->random, 700)) sim_net_hang(nemesis->network, i, node, until);
    }
    /* Without this, nobody would try. */
    for (unsigned i = 0; i < SIM_HOSTS_MAX; i++) {
        if (random_chance(&nemesis->random, 300)) sim_net_reset(nemesis->network, node, i);
    }
}

static void slow_reader(struct sim_nemesis *nemesis)
{
    static const unsigned sizes[] = {100, 1000, 10000, 100000};
    size_t bytes = sizes[random_below(&nemesis->random, ARRAY_COUNT(sizes))];
    time_ns gap = (time_ns)random_between(&nemesis->random, 1, 20) * TIME_NS_PER_MS;
    sim_net_slow(nemesis->network, any_host(nemesis), bytes, gap,
                 nemesis->cluster->world->now + up_to(nemesis, HEAL_NS_MAX));
}

static void meddle(struct sim_nemesis *nemesis, unsigned node)
{
    struct random *random = &nemesis->random;
    struct sim_box_rules rules = {.hold_max = up_to(nemesis, TIME_NS_PER_S),
                                  .greetings_too = random_chance(random, 300)};
    unsigned *const chances[] = {&rules.drop, &rules.duplicate, &rules.hold, &rules.swap};
    for (unsigned i = 0; i < ARRAY_COUNT(chances); i++) {
        if (random_chance(random, 600))
            *chances[i] = (unsigned)random_between(random, 1, 300) >> random_below(random, 5);
    }
    bool everywhere = random_chance(random, 400);
    time_ns until = nemesis->cluster->world->now + up_to(nemesis, HEAL_NS_MAX);
    for (unsigned from = 0; from < nemesis->cluster->node_count; from++) {
        for (unsigned to = 0; to < nemesis->cluster->node_count; to++) {
            if (everywhere || from == node || to == node) sim_net_meddle(nemesis->network, from, to, &rules, until);
        }
    }
}

/* ---- processes ---- */

/* A version that reads ours as well, or one that doesn't; older or newer. */
static void other_version(struct sim_nemesis *nemesis, unsigned node)
{
    static const struct {
        uint32_t version_min, version_max;
    } versions[] = {{PEER_PROTOCOL_VERSION, PEER_PROTOCOL_VERSION + 1},
                    {PEER_PROTOCOL_VERSION - 1, PEER_PROTOCOL_VERSION},
                    {PEER_PROTOCOL_VERSION + 1, PEER_PROTOCOL_VERSION + 2},
                    {PEER_PROTOCOL_VERSION + 1, PEER_PROTOCOL_VERSION + 1}};
    struct sim_host *host = &nemesis->network->hosts[node];
    size_t choice = (size_t)random_below(&nemesis->random, ARRAY_COUNT(versions));
    host->version_min = versions[choice].version_min;
    host->version_max = versions[choice].version_max;
    sim_cluster_crash(nemesis->cluster, node, false, up_to(nemesis, DOWN_NS_MAX));
    if (!sim_event_scheduled(&nemesis->versions_heal)) {
        sim_world_schedule(nemesis->cluster->world, &nemesis->versions_heal,
                           nemesis->cluster->world->now + up_to(nemesis, HEAL_NS_MAX));
    }
}

static void heal_versions(struct sim_nemesis *nemesis)
{
    for (unsigned i = 0; i < nemesis->cluster->node_count; i++) {
        nemesis->network->hosts[i].version_min = nemesis->network->hosts[i].version_max = 0;
    }
}

static void versions_heal_event(struct sim_event *event)
{
    struct sim_nemesis *nemesis = (struct sim_nemesis *)((char *)event - offsetof(struct sim_nemesis, versions_heal));
    for (unsigned i = 0; i < nemesis->cluster->node_count; i++) {
        if (nemesis->network->hosts[i].version_max == 0) continue;
        sim_world_note(nemesis->cluster->world, i, "has its own version again");
        sim_cluster_crash(nemesis->cluster, i, false, up_to(nemesis, DOWN_NS_MAX));
    }
    heal_versions(nemesis);
}

/* ---- disks ---- */

/* Half of the damage is found soon, since the node starts again. */
static void damage(struct sim_nemesis *nemesis, unsigned node, enum sim_damage kind)
{
    if (!sim_keeper_damage(&nemesis->keeper, node, kind) || random_chance(&nemesis->random, 500)) return;
    bool power_loss = random_chance(&nemesis->random, 500);
    if (random_chance(&nemesis->random, 400) && sim_faults_have(nemesis->allowed, SIM_FAULT_AMBUSH))
        sim_ambush_lay_for_uncertain(&nemesis->ambush);
    sim_cluster_crash(nemesis->cluster, node, power_loss, up_to(nemesis, DOWN_NS_MAX));
}

/* ---- all of them ---- */

static void inject(struct sim_nemesis *nemesis, enum sim_fault fault)
{
    struct sim_cluster *cluster = nemesis->cluster;
    struct sim_world *world = cluster->world;
    struct random *random = &nemesis->random;
    unsigned count = cluster->node_count, number = victim(nemesis);
    struct sim_node *node = &cluster->nodes[number];
    sim_world_note(world, SIM_NO_PROCESS, "fault: %s (node-%u)", sim_fault_text(fault), number + 1);
    nemesis->counts[fault]++;
    switch (fault) {
    case SIM_FAULT_KILL_ONE:
        sim_cluster_crash(cluster, number, false, up_to(nemesis, DOWN_NS_MAX));
        break;
    case SIM_FAULT_POWER_ONE:
        sim_cluster_crash(cluster, number, true, up_to(nemesis, DOWN_NS_MAX));
        break;
    case SIM_FAULT_KILL_ALL:
    case SIM_FAULT_POWER_ALL:
        for (unsigned i = 0; i < count; i++) {
            sim_cluster_crash(cluster, i, fault == SIM_FAULT_POWER_ALL, up_to(nemesis, DOWN_NS_MAX));
        }
        break;
    case SIM_FAULT_CRASH_AT_WRITE:
        node->crash_is_kill = false;
        node->disk.crash_at = node->disk.counters.operations + random_between(random, 1, OPERATIONS_AHEAD_MAX);
        break;
    case SIM_FAULT_AMBUSH:
        sim_ambush_lay(&nemesis->ambush);
        break;
    case SIM_FAULT_REIGNS:
    case SIM_FAULT_HOLD_BACK:
    case SIM_FAULT_OVERTAKE:
        sim_storm_begin(&nemesis->storm, fault);
        break;
    case SIM_FAULT_STOP:
        sim_cluster_stop(cluster, number, up_to(nemesis, DOWN_NS_MAX));
        break;
    case SIM_FAULT_DISK_ERROR:
        node->may_fail = true;
        node->disk.fail_at = node->disk.counters.operations + random_between(random, 1, OPERATIONS_AHEAD_MAX);
        node->disk.fail_with = ERR_IO;
        break;
    case SIM_FAULT_DISK_SLOW:
        node->queue.latency_max = (time_ns)random_between(random, 5, 100) * TIME_NS_PER_MS;
        if (!sim_event_scheduled(&nemesis->disks_heal)) {
            sim_world_schedule(world, &nemesis->disks_heal, world->now + up_to(nemesis, HEAL_NS_MAX));
        }
        break;
    case SIM_FAULT_DISK_STALL:
        node->queue.stalled_until = world->now + up_to(nemesis, STALL_NS_MAX);
        break;
    case SIM_FAULT_DISK_FULL:
        node->may_fail = true;
        node->disk.capacity_bytes = sim_disk_used_bytes(&node->disk) + random_below(random, 512 * 1024);
        if (!sim_event_scheduled(&nemesis->disks_heal)) {
            sim_world_schedule(world, &nemesis->disks_heal, world->now + up_to(nemesis, HEAL_NS_MAX));
        }
        break;
    case SIM_FAULT_ISOLATE:
        for (unsigned i = 0; i < count; i++) {
            if (i != number) block_both(nemesis, i, number);
        }
        heal_later(nemesis);
        break;
    case SIM_FAULT_ONE_WAY:
        sim_net_block(nemesis->network, number, (number + 1 + (unsigned)random_below(random, count - 1)) % count, true);
        heal_later(nemesis);
        break;
    case SIM_FAULT_BRIDGE:
        block_both(nemesis, number, (number + 1) % count);
        heal_later(nemesis);
        break;
    case SIM_FAULT_CLOG:
        sim_net_clog(nemesis->network, number, any_node(nemesis), up_to(nemesis, TIME_NS_PER_S),
                     world->now + up_to(nemesis, HEAL_NS_MAX));
        break;
    case SIM_FAULT_RESET:
        for (unsigned i = 0; i < SIM_HOSTS_MAX; i++) {
            if (i != number && random_chance(random, 500)) sim_net_reset(nemesis->network, number, i);
        }
        break;
    case SIM_FAULT_CLIENTS_CUT: {
        bool to = random_chance(random, 700), from = !to || random_chance(random, 500);
        for (unsigned i = 0; i < nemesis->workload->options.client_count; i++) {
            if (to) sim_net_block(nemesis->network, SIM_NODES_MAX + i, number, true);
            if (from) sim_net_block(nemesis->network, number, SIM_NODES_MAX + i, true);
        }
        heal_later(nemesis);
        break;
    }
    case SIM_FAULT_PARTITION:
        partition(nemesis);
        break;
    case SIM_FAULT_CLOG_ALL:
        clog_all(nemesis);
        break;
    case SIM_FAULT_HALF_OPEN:
        half_open(nemesis, number);
        break;
    case SIM_FAULT_HANG:
        hang(nemesis, number);
        break;
    case SIM_FAULT_SLOW_READER:
        slow_reader(nemesis);
        break;
    case SIM_FAULT_MEDDLE:
        meddle(nemesis, number);
        break;
    case SIM_FAULT_CANCEL:
        for (unsigned i = 0; i < nemesis->workload->options.client_count; i++) {
            if (random_chance(random, 300)) sim_workload_cancel(nemesis->workload, i);
        }
        break;
    case SIM_FAULT_OTHER_VERSION:
        other_version(nemesis, number);
        break;
    case SIM_FAULT_READ_ERROR:
        sim_cluster_crash(cluster, number, false, up_to(nemesis, DOWN_NS_MAX));
        sim_keeper_damage(&nemesis->keeper, number, SIM_DAMAGE_LOOK);
        break;
    case SIM_FAULT_BIT_FLIP:
        damage(nemesis, number, SIM_DAMAGE_FLIP);
        break;
    case SIM_FAULT_ZEROED:
        damage(nemesis, number, SIM_DAMAGE_ZERO);
        break;
    case SIM_FAULT_MISPLACED:
        damage(nemesis, number, SIM_DAMAGE_MISPLACED);
        break;
    case SIM_FAULT_UNREADABLE:
        damage(nemesis, number, SIM_DAMAGE_UNREADABLE);
        break;
    case SIM_FAULT_LOST_WRITE:
        damage(nemesis, number, SIM_DAMAGE_LOST);
        break;
    case SIM_FAULT_MISREAD:
        damage(nemesis, number, SIM_DAMAGE_MISREAD);
        break;
    case SIM_FAULT_STATE_LOST:
        damage(nemesis, number, SIM_DAMAGE_STATE);
        break;
    case SIM_FAULT_WIPE:
        sim_keeper_wipe(&nemesis->keeper, number, up_to(nemesis, DOWN_NS_MAX));
        break;
    case SIM_FAULT_CLOCK_JUMP: {
        time_ns by = up_to(nemesis, random_chance(random, 100) ? JUMP_NS_FAR : JUMP_NS_MAX);
        sim_loop_jump(&node->loop, random_chance(random, 500) ? by : -by);
        break;
    }
    case SIM_FAULT_PAUSE:
        sim_world_pause(world, number, world->now + up_to(nemesis, PAUSE_NS_MAX));
        break;
    case SIM_FAULT_RUIN: /* not by weight: the last of a run, if at all */
    case SIM_FAULT_COUNT:
        CHECK(false);
    }
}

static void schedule_next(struct sim_nemesis *nemesis)
{
    struct sim_world *world = nemesis->cluster->world;
    if (nemesis->interval == 0) return;
    time_ns wait = (time_ns)random_below(&nemesis->random, 2 * (uint64_t)nemesis->interval);
    /* Sometimes two come at once. */
    if (random_chance(&nemesis->random, 100)) wait = up_to(nemesis, 10 * TIME_NS_PER_MS);
    sim_world_schedule(world, &nemesis->next, world->now + wait);
}

static void next_event(struct sim_event *event)
{
    struct sim_nemesis *nemesis = (struct sim_nemesis *)((char *)event - offsetof(struct sim_nemesis, next));
    unsigned total = 0;
    for (unsigned fault = 0; fault < SIM_FAULT_COUNT; fault++) total += nemesis->weights[fault];
    if (total == 0) return;
    unsigned choice = (unsigned)random_below(&nemesis->random, total), fault = 0;
    while (choice >= nemesis->weights[fault]) choice -= nemesis->weights[fault++];
    inject(nemesis, (enum sim_fault)fault);
    schedule_next(nemesis);
}

static void heal_event(struct sim_event *event)
{
    struct sim_nemesis *nemesis = (struct sim_nemesis *)((char *)event - offsetof(struct sim_nemesis, heal));
    sim_world_note(nemesis->cluster->world, SIM_NO_PROCESS, "links are whole again");
    sim_net_heal(nemesis->network);
}

static void heal_disks(struct sim_nemesis *nemesis)
{
    for (unsigned i = 0; i < nemesis->cluster->node_count; i++) {
        struct sim_node *node = &nemesis->cluster->nodes[i];
        node->queue.latency_max = nemesis->disk_latency_max;
        node->disk.capacity_bytes = 0;
    }
}

static void disks_heal_event(struct sim_event *event)
{
    struct sim_nemesis *nemesis = (struct sim_nemesis *)((char *)event - offsetof(struct sim_nemesis, disks_heal));
    sim_world_note(nemesis->cluster->world, SIM_NO_PROCESS, "disks are whole again");
    heal_disks(nemesis);
}

/* Whether a cluster of this size can have such a fault. */
static bool is_possible(enum sim_fault fault, unsigned node_count)
{
    switch (fault) {
    case SIM_FAULT_ISOLATE:
    case SIM_FAULT_ONE_WAY:
    case SIM_FAULT_PARTITION:
    case SIM_FAULT_CLOG_ALL:
    case SIM_FAULT_MEDDLE:
    case SIM_FAULT_OTHER_VERSION:
        return node_count >= 2;
    case SIM_FAULT_REIGNS:
    case SIM_FAULT_HOLD_BACK:
    case SIM_FAULT_OVERTAKE:
    case SIM_FAULT_BRIDGE:
    case SIM_FAULT_READ_ERROR:
    case SIM_FAULT_LOST_WRITE:
    case SIM_FAULT_MISREAD:
    case SIM_FAULT_STATE_LOST:
    case SIM_FAULT_WIPE:
        return node_count >= 3;
    case SIM_FAULT_RUIN:
        return false;
    default:
        return true;
    }
}

static void logged(void *user, unsigned node, enum log_level level, const char *event, const char *fields)
{
    struct sim_nemesis *nemesis = user;
    (void)level;
    sim_ambush_logged(&nemesis->ambush, node, event);
    sim_storm_logged(&nemesis->storm, node, event, fields);
}

static void turned(void *user, unsigned node)
{
    struct sim_nemesis *nemesis = user;
    sim_storm_turned(&nemesis->storm, node);
}

static const struct sim_cluster_hooks hooks = {.logged = logged, .turned = turned};

/* One kind of storm is most of what comes, and of the rest there is less. */
static void focus(struct sim_nemesis *nemesis)
{
    static const enum sim_fault kinds[] = {SIM_FAULT_REIGNS, SIM_FAULT_HOLD_BACK, SIM_FAULT_OVERTAKE, SIM_FAULT_AMBUSH};
    struct random *random = &nemesis->random;
    enum sim_fault kind = kinds[random_below(random, ARRAY_COUNT(kinds))];
    unsigned others = 0;
    for (unsigned fault = 0; fault < SIM_FAULT_COUNT; fault++) {
        if (random_chance(random, 600)) nemesis->weights[fault] = 0;
        if (fault != kind) others += nemesis->weights[fault];
    }
    nemesis->weights[kind] = 1 + 2 * others;
}

void sim_nemesis_init(struct sim_nemesis *nemesis, struct sim_cluster *cluster, struct sim_net *network,
                      struct sim_workload *workload, sim_fault_set allowed)
{
    memset(nemesis, 0, sizeof *nemesis);
    nemesis->cluster = cluster;
    nemesis->allowed = allowed;
    nemesis->network = network;
    nemesis->workload = workload;
    sim_keeper_init(&nemesis->keeper, cluster);
    nemesis->next = (struct sim_event){.run = next_event, .kind = SIM_EVENT_NEMESIS, .process = SIM_NO_PROCESS};
    nemesis->heal = (struct sim_event){.run = heal_event, .kind = SIM_EVENT_NEMESIS, .process = SIM_NO_PROCESS};
    nemesis->disks_heal =
        (struct sim_event){.run = disks_heal_event, .kind = SIM_EVENT_NEMESIS, .process = SIM_NO_PROCESS};
    nemesis->versions_heal =
        (struct sim_event){.run = versions_heal_event, .kind = SIM_EVENT_NEMESIS, .process = SIM_NO_PROCESS};
    sim_ambush_init(&nemesis->ambush, cluster);
    sim_storm_init(&nemesis->storm, cluster, network);
    cluster->hooks = &hooks;
    cluster->hooks_user = nemesis;
    struct random *random = &nemesis->random;
    sim_world_random(cluster->world, "nemesis", 0, random);
    for (unsigned fault = 0; fault < SIM_FAULT_COUNT; fault++) {
        unsigned weight = random_chance(random, 650) ? 1u << random_below(random, 5) : 0;
        if (!sim_faults_have(allowed, (enum sim_fault)fault)) continue;
        if (is_possible((enum sim_fault)fault, cluster->node_count)) nemesis->weights[fault] = weight;
    }
    sim_fault_set storms = sim_fault_group_set(SIM_FAULTS_STORMS) | (sim_fault_set)1 << SIM_FAULT_AMBUSH;
    if (random_chance(random, FOCUS_PER_MILLE) && (allowed & storms) == storms && cluster->node_count >= 3)
        focus(nemesis);
    nemesis->will_ruin = random_chance(random, RUIN_PER_MILLE) && sim_faults_have(allowed, SIM_FAULT_RUIN);
    if (random_chance(random, ANYBODY_PER_MILLE)) nemesis->keeper.rule = SIM_KEEPER_ANYBODY;
    static const time_ns intervals[] = {0, 200, 500, 1000, 2000, 4000};
    nemesis->interval = random_chance(random, 50)
                            ? 0
                            : intervals[random_between(random, 1, ARRAY_COUNT(intervals) - 1)] * TIME_NS_PER_MS;
    static const time_ns latencies[] = {100, 300, 1000, 2000, 5000};
    nemesis->disk_latency_max = latencies[random_below(random, ARRAY_COUNT(latencies))] * 1000;
    heal_disks(nemesis);
}

void sim_nemesis_start(struct sim_nemesis *nemesis)
{
    schedule_next(nemesis);
}

/* The node goes on, but only the others of the minority hear of it, and perhaps clients. */
static void cut_off_for_good(struct sim_nemesis *nemesis, unsigned number, unsigned first_down, unsigned down)
{
    unsigned count = nemesis->cluster->node_count;
    bool from_clients = random_chance(&nemesis->random, 500);
    for (unsigned i = 0; i < SIM_HOSTS_MAX; i++) {
        bool of_minority = i < count && (i + count - first_down) % count < down;
        if (!of_minority && (i < SIM_NODES_MAX || from_clients)) block_both(nemesis, i, number);
    }
}

void sim_nemesis_end(struct sim_nemesis *nemesis, bool minority_down)
{
    struct sim_cluster *cluster = nemesis->cluster;
    struct sim_world *world = cluster->world;
    sim_world_cancel(world, &nemesis->next);
    sim_world_cancel(world, &nemesis->heal);
    sim_world_cancel(world, &nemesis->disks_heal);
    sim_world_cancel(world, &nemesis->versions_heal);
    sim_ambush_end(&nemesis->ambush);
    sim_storm_end(&nemesis->storm);
    heal_versions(nemesis);
    sim_net_heal(nemesis->network);
    heal_disks(nemesis);
    sim_keeper_end(&nemesis->keeper);
    if (nemesis->will_ruin && !nemesis->keeper.ruined) {
        nemesis->counts[SIM_FAULT_RUIN]++;
        sim_world_note(world, SIM_NO_PROCESS, "fault: %s", sim_fault_text(SIM_FAULT_RUIN));
        sim_keeper_ruin(&nemesis->keeper);
    }
    unsigned down = minority_down && !nemesis->keeper.ruined ? sim_keeper_spare(&nemesis->keeper) : 0;
    unsigned first_down = any_node(nemesis);
    bool cut_off = random_chance(&nemesis->random, 400);
    for (unsigned i = 0; i < cluster->node_count; i++) {
        struct sim_node *node = &cluster->nodes[i];
        node->disk.crash_at = 0;
        node->disk.fail_at = 0;
        node->disk.fail_look_at = 0;
        node->queue.stalled_until = 0;
        if (node->state != SIM_NODE_ENDING) sim_world_pause(world, i, 0);
        if (down > 0 && (i + cluster->node_count - first_down) % cluster->node_count < down) {
            node->stay_down = true;
            if (cut_off && node->state == SIM_NODE_UP) {
                cut_off_for_good(nemesis, i, first_down, down);
            } else {
                sim_cluster_crash(cluster, i, true, 0);
            }
        } else if (node->state == SIM_NODE_DOWN) {
            sim_cluster_start(cluster, i);
        }
    }
}
