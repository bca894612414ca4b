/*
 * sim_nemesis.h - injects faults into a cluster, at random times, of kinds that each seed weighs anew (some not at all).
 */
#ifndef CORACLE_SIM_NEMESIS_H
#define CORACLE_SIM_NEMESIS_H

#include "sim/sim_cluster.h"

#define SIM_FAULTS(X)                                                                                                  \
    X(KILL_ONE, "one node killed")                                                                                     \
    X(POWER_ONE, "one node without power")                                                                             \
    X(KILL_ALL, "all nodes killed at once")                                                                            \
    X(POWER_ALL, "all nodes without power at once")                                                                    \
    X(CRASH_AT_WRITE, "power lost at a disk operation")                                                                \
    X(STOP, "one node stopped in order")                                                                               \
    X(DISK_ERROR, "a disk operation failed")                                                                           \
    X(DISK_SLOW, "a disk slow for a while")                                                                            \
    X(DISK_STALL, "a disk stalled")                                                                                    \
    X(DISK_FULL, "a disk full for a while")                                                                            \
    X(ISOLATE, "one node cut off")                                                                                     \
    X(ONE_WAY, "a link blocked one way")                                                                               \
    X(BRIDGE, "two nodes that reach each other by the third only")                                                     \
    X(CLOG, "a link clogged")                                                                                          \
    X(RESET, "connections reset")                                                                                      \
    X(CLIENTS_CUT, "a node cut off from clients")                                                                      \
    X(PAUSE, "a process paused")

#define SIM_FAULT_ENUM(name, text) SIM_FAULT_##name,
enum sim_fault { SIM_FAULTS(SIM_FAULT_ENUM) SIM_FAULT_COUNT };
#undef SIM_FAULT_ENUM

struct sim_nemesis {
    struct sim_cluster *cluster;
    struct sim_net *network;
    unsigned client_count;
    struct random random;
    struct sim_event next, heal, disks_heal;
    unsigned weights[SIM_FAULT_COUNT];
    time_ns interval; /* between faults, in the mean; 0: none */
    time_ns disk_latency_max;
    uint64_t counts[SIM_FAULT_COUNT];
};

/* Draws its habits from the world's seed. */
void sim_nemesis_init(struct sim_nemesis *nemesis, struct sim_cluster *cluster, struct sim_net *network,
                      unsigned client_count);
void sim_nemesis_start(struct sim_nemesis *nemesis);
/* Stops, and makes everything whole again: links, disks, processes. With `minority_down`, a random minority stays down. */
void sim_nemesis_end(struct sim_nemesis *nemesis, bool minority_down);
const char *sim_fault_text(enum sim_fault fault);

#endif
