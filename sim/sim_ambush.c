#include "sim/sim_ambush.h"

#include "base/check.h"

/* Disk operations, or time, between the moment and the crash. */
#define OPERATIONS_MAX 24
#define STRIKE_NS_MAX (30 * TIME_NS_PER_MS)
#define DOWN_NS_MAX (500 * TIME_NS_PER_MS)

static const char *const moments[] = {
    "the log is damaged; taking what is missing from the other members", /* the first: see below */
    "snapshot begins",
    "snapshot counts",
    "made a snapshot",
    "snapshot of the leader arrives",
    "log begins anew",
    "installed a leader's snapshot",
    "cut a conflicting end of the log",
    "cut a conflicting end of the log", /* while the write of what was cut is under way, if it comes in time */
    "became leader",
    "log segment begins",
    "log recovered",
    "log is complete again",
};
_Static_assert(ARRAY_COUNT(moments) <= 32, "`waiting` has a bit for each");

static void strike_event(struct sim_event *event)
{
    struct sim_strike *strike = (struct sim_strike *)event;
    struct sim_ambush *ambush = strike->ambush;
    sim_world_note(ambush->cluster->world, SIM_NO_PROCESS, "fault: the ambush strikes (node-%u)", strike->node + 1);
    sim_cluster_crash(ambush->cluster, strike->node, strike->power_loss, sim_up_to(&ambush->random, DOWN_NS_MAX));
}

void sim_ambush_init(struct sim_ambush *ambush, struct sim_cluster *cluster)
{
    *ambush = (struct sim_ambush){.cluster = cluster};
    sim_world_random(cluster->world, "ambush", 0, &ambush->random);
    for (unsigned i = 0; i < cluster->node_count; i++) {
        ambush->strikes[i] = (struct sim_strike){
            .event = {.run = strike_event, .kind = SIM_EVENT_NEMESIS, .process = SIM_NO_PROCESS},
            .ambush = ambush,
            .node = i,
        };
    }
}

void sim_ambush_lay(struct sim_ambush *ambush)
{
    ambush->waiting |= 1u << random_below(&ambush->random, ARRAY_COUNT(moments));
}

void sim_ambush_lay_for_uncertain(struct sim_ambush *ambush)
{
    ambush->waiting |= 1;
}

void sim_ambush_logged(struct sim_ambush *ambush, unsigned number, const char *event)
{
    if (ambush->waiting == 0) return;
    struct random *random = &ambush->random;
    struct sim_node *node = &ambush->cluster->nodes[number];
    for (unsigned i = 0; i < ARRAY_COUNT(moments); i++) {
        if ((ambush->waiting >> i & 1) == 0 || strcmp(event, moments[i]) != 0) continue;
        ambush->waiting &= ~(1u << i);
        ambush->struck++;
        bool power_loss = random_chance(random, 600);
        if (random_chance(random, 650)) {
            node->crash_is_kill = !power_loss;
            node->disk.crash_at =
                node->disk.counters.operations + random_between(random, 1, OPERATIONS_MAX >> random_below(random, 3));
            return;
        }
        struct sim_world *world = ambush->cluster->world;
        ambush->strikes[number].power_loss = power_loss;
        sim_world_schedule(world, &ambush->strikes[number].event, world->now + sim_up_to(random, STRIKE_NS_MAX));
        return;
    }
}

void sim_ambush_end(struct sim_ambush *ambush)
{
    ambush->waiting = 0;
    for (unsigned i = 0; i < ambush->cluster->node_count; i++) {
        sim_world_cancel(ambush->cluster->world, &ambush->strikes[i].event);
    }
}
