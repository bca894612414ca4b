/*
 * sim_net.h - port/net.h for all hosts of a simulation: byte streams as TCP gives them, over links that fail.
 *
 * A stream is ordered and lossless while both ends live. Bytes arrive after the link's latency, cut at random points, so
 * that parsers meet every split. At most SIM_NET_WINDOW_BYTES are under way; the rest is queued at the sender.
 *
 * A blocked link lets nothing through in that direction; what was sent arrives when it is open again, as TCP sends
 * again. When a process ends, the other ends of its streams hear of it after a latency; when a machine loses power they
 * hear nothing, until it is up again and is sent something. Other ways to fail:
 *
 *   - a clogged link takes longer, for a while; what waits at links that open again comes in any order between connections;
 *   - streams are reset, or turn half open: nothing passes in either direction any more, and nobody is told (a firewall forgot them);
 *   - an attempt to connect hangs: it is neither answered nor refused while the link is as it is;
 *   - a host reads slowly: little at a time, with gaps, so that senders queue;
 *   - on streams to the peer port, a middle box meddles with whole frames (sim_middle_box.h), also with what greetings say.
 *
 * On each host runs one process, of the same number; what arrives at the host is an event of that process.
 */
#ifndef CORACLE_SIM_NET_H
#define CORACLE_SIM_NET_H

#include "port/net.h"
#include "sim/sim_middle_box.h"
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
    time_ns slow_until; /* its processes read at most slow_bytes at a time, slow_gap apart */
    time_ns slow_gap;
    size_t slow_bytes;
    uint32_t version_min, version_max; /* that greetings from it are made to say; 0: as they are */
};

struct sim_link {
    bool blocked;
    time_ns latency;      /* at least */
    time_ns clog_latency; /* more, until */
    time_ns clogged_until;
    time_ns hangs_until;      /* attempts to connect hang */
    struct sim_box_rules box; /* for streams to the peer port, until box_until */
    time_ns box_until;
};

struct sim_net_counters {
    uint64_t connections, refused, resets, chunks, bytes, half_open;
    struct sim_box_counters box;
};

struct sim_net {
    struct sim_world *world;
    struct random random;
    time_ns jitter;           /* added to each latency: up to this, evenly */
    unsigned split_per_mille; /* how often arriving bytes are cut */
    uint16_t peer_port;       /* streams to it pass a middle box; 0: none do */
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
/* All links and hosts are as they should be, and boxes let go of what they hold. What half-open streams lost stays lost, and
   versions are the owner's. */
void sim_net_heal(struct sim_net *network);
void sim_net_clog(struct sim_net *network, unsigned from, unsigned to, time_ns latency, time_ns until);
/* Resets the streams between two hosts. */
void sim_net_reset(struct sim_net *network, unsigned a, unsigned b);
/* Those between two hosts, each with this chance, let nothing through any more. */
void sim_net_half_open(struct sim_net *network, unsigned a, unsigned b, unsigned per_mille);
/* Attempts to connect from one host to the other hang until then. */
void sim_net_hang(struct sim_net *network, unsigned from, unsigned to, time_ns until);
void sim_net_slow(struct sim_net *network, unsigned host, size_t bytes, time_ns gap, time_ns until);
/* Streams to the peer port pass a middle box in this direction. */
void sim_net_meddle(struct sim_net *network, unsigned from, unsigned to, const struct sim_box_rules *rules,
                    time_ns until);

/* The process on it ended, or (power_loss) the machine. Its owner may still close its streams, to no effect, until: */
void sim_net_host_down(struct sim_net *network, unsigned host, bool power_loss);
/* All handles of the process that ended are gone. */
void sim_net_host_forget(struct sim_net *network, unsigned host);
void sim_net_host_up(struct sim_net *network, unsigned host);

#endif
