/*
 * api.h - what clients of api_port can ask for: request -> replica command, result -> response. (APIServer)
 *
 * Pure: a call is begun with a parsed request; either its response is there at once, or it waits for the replica, and
 * is finished with the result. Connections, timeouts and the order of answers are drive's (drive/clients.h).
 *
 *     POST   /v1/data            {"k":"a","v":"1"} (or "v_base64")         -> {"revision":2} (200)
 *     GET    /v1/data/{key}      linearizable                              -> {"k":"a","v":"1"} or 404
 *     DELETE /v1/data/{key}                                                -> {"deleted":true,"revision":3} (200)
 *     POST   /v1/snapshot        makes a snapshot on this node now         -> {"index":9,"revision":7} (200) once it counts
 *     GET    /v1/cluster         members, leader, term, indexes, who is reachable
 *     GET    /health             linearizable (?serializable=true: local) -> {"health":"true","reason":""} or 503
 *     GET    /livez, /readyz     (?verbose, ?exclude=NAME; /livez/NAME)
 *     GET    /version, /metrics
 *     POST   /v3/…               etcd's methods as JSON (etcd_json.h)
 *
 * A key in a path may hold slashes, raw or encoded. A key or value that isn't UTF-8 comes as "k_base64" or "v_base64",
 * and may be sent so. HEAD is answered wherever GET is. An error is {"error":{"code":"…","message":"…"}} with the status
 * of base/error.h; 405 names the methods in Allow, 503 and 429 have Retry-After.
 */
#ifndef CORACLE_API_API_H
#define CORACLE_API_API_H

#include "replica/replica.h"
#include "wire/http1.h"

/* etcd's limit for a request, and the room that JSON and base64 around it need. */
#define API_VALUE_BYTES_MAX_DEFAULT (1536u * 1024)

/* Times in seconds, with fixed bounds, for /metrics. */
#define API_HISTOGRAM_BUCKETS 14
struct api_histogram {
    uint64_t buckets[API_HISTOGRAM_BUCKETS]; /* upper bounds 1, 2, 4, … 8192 ms, as etcd's; not cumulative */
    uint64_t above;
    uint64_t count;
    double sum_seconds;
};
void api_histogram_add(struct api_histogram *histogram, time_ns duration);

struct api_peer {
    member_id id;
    bool reachable;
    time_ns round_trip; /* of the last heartbeat; 0: unknown */
    struct api_histogram round_trips;
};

/* What the answers of one node depend on besides its replica. All borrowed; the host keeps it up to date. */
/* Damaged files by kind, in the order of the texts in metrics.c: state, log metadata, snapshot metadata, log, snapshot. */
#define API_DAMAGE_KINDS 5

struct api_host {
    const char *version; /* "0.1.0" */
    const char *node_id;
    uint64_t value_bytes_max;
    int64_t lease_ttl_min_s; /* the least TTL of a lease that is granted */
    uint64_t lease_ids;      /* counts those that were chosen here */
    struct api_peer peers[MEMBERS_MAX];
    uint32_t peer_count;
    bool shutting_down;
    time_ns wall_clock_start; /* since 1970 */
    uint64_t open_connections;
    uint64_t open_files, open_files_max, resident_bytes;
    double cpu_seconds;
    uint64_t snapshots_made, snapshots_installed;
    uint64_t log_bytes, snapshot_bytes;
    uint64_t scrub_passes, scrub_bytes;
    time_ns wall_clock_last_scrub; /* 0: none yet */
    uint64_t damage_found[API_DAMAGE_KINDS];
    uint64_t damage_repaired;
    struct api_histogram log_sync, state_sync, apply;
    uint64_t peer_bytes_sent, peer_bytes_received, client_bytes_sent, client_bytes_received;
    uint64_t requests_total, requests_failed;
};

struct api {
    const struct replica *replica; /* NULL until recovery is done: only /livez, /readyz, /version answer then */
    struct api_host *host;
    /* Brings resident_bytes and the like up to date, before /metrics and /v1/cluster. May be NULL. */
    void (*refresh_host)(void *user);
    void *user;
};

/*
 * The largest body that a parser should take: a value and key of the largest size as base64, and JSON around them.
 * A value that JSON's escapes make longer than that must be sent as base64.
 */
size_t api_body_bytes_max(uint64_t value_bytes_max);

/* What a call that was begun waits for. */
enum api_wait {
    API_DONE,        /* the response is in `out` */
    API_PROPOSE,     /* call->command is to be proposed (moved out) */
    API_READ,        /* a linearizable read */
    API_SNAPSHOT,    /* a snapshot that holds all that was acknowledged before */
    API_LEASE_RENEW, /* a lease's renewal, by the leader */
    API_LEASE_TIME,  /* how long a lease still has, as the leader knows */
};

/* One request under way; about what a connection needs to keep. All zero before api_begin. */
struct api_call {
    uint32_t route;
    bool keep_alive;
    bool head;
    struct entry *command;
    struct etcd_call *etcd; /* of the JSON gateway; NULL before its first call on this connection */
    struct buffer key;      /* kept between calls on a connection, so that a get allocates nothing */
};

/* Begins a call. `request` is borrowed for the time of the call of this function only. */
enum api_wait api_begin(struct api *api, struct api_call *call, const struct http1_request *request,
                        struct buffer *out);

/*
 * Finishes one that waited: with the replica's result, or an error of the host's (ERR_TIMEOUT, ERR_SHUTTING_DOWN, …).
 * A command that is still in the call, since the host refused it, is dropped.
 */
void api_finish(struct api *api, struct api_call *call, const struct replica_result *result, struct buffer *out);

/* The answer to something that is no request (a parser's error); the connection closes after it. */
void api_refuse(enum error error, struct buffer *out);

void api_call_free(struct api_call *call);

#endif
