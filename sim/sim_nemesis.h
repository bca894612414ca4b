/*
 * sim_nemesis.h - injects faults into a cluster, at random times, of kinds that each seed weighs anew (some not at all).
 */
#ifndef CORACLE_SIM_NEMESIS_H
#define CORACLE_SIM_NEMESIS_H

#include "sim/sim_ambush.h"
#include "sim/sim_faults.h"
#include "sim/sim_keeper.h"
#include "sim/sim_storm.h"
#include "sim/sim_workload.h"

struct sim_nemesis {
    struct sim_cluster *cluster;
    struct sim_net *network;
    struct sim_workload *workload;
    struct sim_keeper keeper;
    struct sim_ambush ambush;
    struct sim_storm storm;
    struct random random;
    struct sim_event next, heal, disks_heal, versions_heal;
    sim_fault_set allowed;
    unsigned weights[SIM_FAULT_COUNT];
    time_ns interval; /* between faults, in the mean; 0: none */
    time_ns disk_latency_max;
    bool will_ruin; /* the last fault of the run damages every copy */
    uint64_t counts[SIM_FAULT_COUNT];
};

/* Draws its habits from the world's seed; of the kinds that aren't in `allowed`, none comes. */
void sim_nemesis_init(struct sim_nemesis *nemesis, struct sim_cluster *cluster, struct sim_net *network,
                      struct sim_workload *workload, sim_fault_set allowed);
void sim_nemesis_start(struct sim_nemesis *nemesis);
/* Stops, and makes everything whole again: links, disks, processes; but for what is damaged. With `minority_down`, a random
   minority stays down, or cut off, as large as the keeper of books allows. After a ruin, nothing more is owed: see sim_keeper.h. */
void sim_nemesis_end(struct sim_nemesis *nemesis, bool minority_down);

#endif
