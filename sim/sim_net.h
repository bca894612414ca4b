/*
 * sim_net.h - port/net.h for all hosts of a simulation: byte streams as TCP gives them, over links that fail.
 *
 * A stream is ordered and lossless while both ends live. Bytes arrive after the link's latency, cut at random points, so
 * that parsers meet every split. At most SIM_NET_WINDOW_BYTES are under way; the rest is queued at the sender.
 *
 * A blocked link lets nothing through in that direction; what was sent arrives when it is open again, as TCP sends
 * again. When a process ends, the other ends of its streams hear of it after a latency; when a machine loses power they
 * hear nothing, until it is up again and is sent something.
 *
 * On each host runs one process, of the same number; what arrives at the host is an event of that process.
 */
#ifndef CORACLE_SIM_NET_H
#define CORACLE_SIM_NET_H

#include "port/net.h"
#include "sim/sim_world.h"

#define SIM_HOSTS_MAX SIM_PROCESSES_MAX
#define SIM_NET_WINDOW_BYTES (256u * 1024)

struct sim_connection;

struct sim_host {
    struct net net; /* first: the port is cast to this */
    struct sim_net *network;
    unsigned number;
    char name[64];
    bool present;
    bool has_power; /* false: packets to it are lost */
    struct net_listener *listeners;
    uint16_t next_port;
};

struct sim_link {
    bool blocked;
    time_ns latency;      /* at least */
    time_ns clog_latency; /* more, until */
    time_ns clogged_until;
};

struct sim_net_counters {
    uint64_t connections, refused, resets, chunks, bytes;
};

struct sim_net {
    struct sim_world *world;
    struct random random;
    time_ns jitter;           /* added to each latency: up to this, evenly */
    unsigned split_per_mille; /* how often arriving bytes are cut */
    struct sim_host hosts[SIM_HOSTS_MAX];
    struct sim_link links[SIM_HOSTS_MAX][SIM_HOSTS_MAX];
    struct sim_connection *connections, *grave;
    struct sim_net_counters counters;
};

void sim_net_init(struct sim_net *network, struct sim_world *world);
void sim_net_free(struct sim_net *network);

/* `name` is what others connect to. */
struct net *sim_net_host(struct sim_net *network, unsigned host, const char *name);

void sim_net_block(struct sim_net *network, unsigned from, unsigned to, bool blocked);
void sim_net_heal(struct sim_net *network); /* all links, clogs too */
void sim_net_clog(struct sim_net *network, unsigned from, unsigned to, time_ns latency, time_ns until);
/* Resets the streams between two hosts. */
void sim_net_reset(struct sim_net *network, unsigned a, unsigned b);

/* The process on it ended, or (power_loss) the machine. Its owner may still close its streams, to no effect, until: */
void sim_net_host_down(struct sim_net *network, unsigned host, bool power_loss);
/* All handles of the process that ended are gone. */
void sim_net_host_forget(struct sim_net *network, unsigned host);
void sim_net_host_up(struct sim_net *network, unsigned host);

#endif
