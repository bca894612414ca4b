/*
 * clients.h - connections of clients on api_port, and their requests under way. (APIServer's connections)
 *
 * A connection that begins with HTTP/2's preface is client_grpc.h's; what follows is of HTTP/1.1.
 *
 * One request of a connection is under way at a time; pipelined ones wait in its parser's bounded buffer and are answered in
 * order. Answers gather until clients_flush, one write for a connection and turn. A slow reader is paused, a slow sender is
 * ended with 408, an idle connection is closed. Memory is bounded: for each connection by the parser's limits and
 * CLIENTS_QUEUE_BYTES_MAX, and for all together by config.connection_memory_max, above which the connection that asks for more
 * is ended; above connections_max new ones are reset.
 */
#ifndef CORACLE_DRIVE_CLIENTS_H
#define CORACLE_DRIVE_CLIENTS_H

#include "drive/drive.h"

/* Bytes that wait for a slow reader; above it no further request of that connection is read. */
#define CLIENTS_QUEUE_BYTES_MAX (256u * 1024)
/* From the first byte of a request to its last. */
#define CLIENTS_REQUEST_TIME_MAX (10 * TIME_NS_PER_S)
#define CLIENTS_SWEEP_INTERVAL (1 * TIME_NS_PER_S)

struct clients;

struct clients_handler {
    /* A request waits for the replica. `entry` is moved. */
    void (*propose)(void *user, uint64_t request, struct entry *entry);
    void (*read)(void *user, uint64_t request);
    void (*want_snapshot)(void *user, uint64_t request);
    /* To renew the lease, or else to ask for its time. */
    void (*lease)(void *user, uint64_t request, uint64_t lease, bool renew);
};

/* `api` is borrowed. */
struct clients *clients_new(const struct drive_config *config, const struct drive_ports *ports, struct api *api,
                            const struct clients_handler *handler, void *user);
void clients_free(struct clients *clients);
enum error clients_start(struct clients *clients);

/* The replica's result; of a request whose connection is gone it is dropped. */
void clients_result(struct clients *clients, const struct replica_result *result);
void clients_flush(struct clients *clients);

/* No new connections; the idle ones close, the others after their answer. */
void clients_stop(struct clients *clients);
/* True when no request is under way and all answers are sent. */
bool clients_idle(const struct clients *clients);

void clients_tick(struct clients *clients, time_ns now);
time_ns clients_deadline(const struct clients *clients);
void clients_report(const struct clients *clients, struct api_host *host);

#endif
