/*
 * sim_faults.h - the kinds of faults: a table of names, groups and texts; and lists of them as a person writes them.
 *
 * One row a kind. What each does is in sim_nemesis.c; the row's name is what `--faults` takes.
 */
#ifndef CORACLE_SIM_FAULTS_H
#define CORACLE_SIM_FAULTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_FAULT_GROUPS(X)                                                                                            \
    X(CRASHES, "crashes")                                                                                              \
    X(NETWORK, "network") X(DISK, "disk") X(CLOCK, "clock") X(PROCESS, "process") X(STORMS, "storms")

#define SIM_FAULTS(X)                                                                                                  \
    X(KILL_ONE, "kill", CRASHES, "one node killed")                                                                    \
    X(POWER_ONE, "power", CRASHES, "one node without power")                                                           \
    X(KILL_ALL, "kill-all", CRASHES, "all nodes killed at once")                                                       \
    X(POWER_ALL, "power-all", CRASHES, "all nodes without power at once")                                              \
    X(CRASH_AT_WRITE, "crash-at-write", CRASHES, "power lost at a disk operation")                                     \
    X(AMBUSH, "ambush", CRASHES, "a crash that lies in wait for a moment")                                             \
    X(ISOLATE, "isolate", NETWORK, "one node cut off")                                                                 \
    X(ONE_WAY, "one-way", NETWORK, "a link blocked one way")                                                           \
    X(BRIDGE, "bridge", NETWORK, "two nodes that reach each other by others only")                                     \
    X(CLOG, "clog", NETWORK, "a link clogged")                                                                         \
    X(RESET, "reset", NETWORK, "connections reset")                                                                    \
    X(CLIENTS_CUT, "clients-cut", NETWORK, "a node cut off from clients")                                              \
    X(PARTITION, "partition", NETWORK, "the nodes in two groups")                                                      \
    X(CLOG_ALL, "clog-all", NETWORK, "all links clogged, each as it likes")                                            \
    X(HALF_OPEN, "half-open", NETWORK, "connections half open")                                                        \
    X(HANG, "hang", NETWORK, "attempts to connect hang")                                                               \
    X(SLOW_READER, "slow-reader", NETWORK, "a host that reads slowly")                                                 \
    X(MEDDLE, "meddle", NETWORK, "frames between members dropped, duplicated, delayed or swapped")                     \
    X(CANCEL, "cancel", NETWORK, "clients that give up")                                                               \
    X(DISK_ERROR, "disk-error", DISK, "a disk operation failed")                                                       \
    X(DISK_SLOW, "disk-slow", DISK, "a disk slow for a while")                                                         \
    X(DISK_STALL, "disk-stall", DISK, "a disk stalled")                                                                \
    X(DISK_FULL, "disk-full", DISK, "a disk full for a while")                                                         \
    X(READ_ERROR, "read-error", DISK, "a read, or another look at a disk, failed")                                     \
    X(BIT_FLIP, "bit-flip", DISK, "bits flipped on a disk")                                                            \
    X(ZEROED, "zeroed", DISK, "sectors of a disk zeroed")                                                              \
    X(MISPLACED, "misplaced", DISK, "sectors of a disk overwritten by others")                                         \
    X(UNREADABLE, "unreadable", DISK, "sectors of a disk unreadable")                                                  \
    X(LOST_WRITE, "lost-write", DISK, "a synced write lost, or landed elsewhere")                                      \
    X(MISREAD, "misread", DISK, "a read that got another sector")                                                      \
    X(STATE_LOST, "state-lost", DISK, "term and vote of a node damaged")                                               \
    X(RUIN, "ruin", DISK, "every copy damaged, on all nodes")                                                          \
    X(CLOCK_JUMP, "clock-jump", CLOCK, "a wall clock jumped")                                                          \
    X(STOP, "stop", PROCESS, "one node stopped in order")                                                              \
    X(PAUSE, "pause", PROCESS, "a process paused")                                                                     \
    X(WIPE, "wipe", PROCESS, "a node with an empty disk")                                                              \
    X(OTHER_VERSION, "version", PROCESS, "a node restarted with another version of the protocol")                      \
    X(REIGNS, "reigns", STORMS, "each leader soon cut off, the one before back")                                       \
    X(HOLD_BACK, "hold-back", STORMS, "frames between members held back one by one")                                   \
    X(OVERTAKE, "overtake", STORMS, "a snapshot overtaken by the next leader's log")

#define SIM_FAULT_ENUM(name, word, group, text) SIM_FAULT_##name,
enum sim_fault { SIM_FAULTS(SIM_FAULT_ENUM) SIM_FAULT_COUNT };
#undef SIM_FAULT_ENUM
#define SIM_FAULT_GROUP_ENUM(name, word) SIM_FAULTS_##name,
enum sim_fault_group { SIM_FAULT_GROUPS(SIM_FAULT_GROUP_ENUM) SIM_FAULT_GROUP_COUNT };
#undef SIM_FAULT_GROUP_ENUM

/* A set of kinds: one bit each. */
typedef uint64_t sim_fault_set;
_Static_assert(SIM_FAULT_COUNT <= 63, "a set has one bit for each kind");
#define SIM_FAULTS_ALL (((sim_fault_set)1 << SIM_FAULT_COUNT) - 1)

static inline bool sim_faults_have(sim_fault_set set, enum sim_fault fault)
{
    return set >> fault & 1;
}

const char *sim_fault_name(enum sim_fault fault);
const char *sim_fault_text(enum sim_fault fault);
enum sim_fault_group sim_fault_group(enum sim_fault fault);
const char *sim_fault_group_name(enum sim_fault_group group);
sim_fault_set sim_fault_group_set(enum sim_fault_group group);

/*
 * Reads a list such as "crashes,network", "all,-disk,disk-full" or "none": names of kinds and of groups, "all" and "none";
 * a minus takes away. A list that begins with one that is taken away begins with all. False: *unknown is the word that is no name,
 * cut to unknown_bytes.
 */
bool sim_faults_parse(const char *text, sim_fault_set *out, char *unknown, size_t unknown_bytes);

#endif
