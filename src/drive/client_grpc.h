/*
 * client_grpc.h - a client's connection that speaks HTTP/2: gRPC calls, and plain requests beside them.
 *
 * Joins wire/grpc.h, which knows streams and messages, with the methods of api/etcd.h, and with the replica through the host. It owns no socket:
 * clients.c feeds it and takes what is to be sent. Many calls of a connection are under way at a time.
 *
 * Limits: those of grpc_limits_default for each connection, CLIENT_GRPC_WAITING_BYTES_MAX for requests that wait for the replica and
 * are needed for their answers, and the caller's budget for all connections (client_grpc_memory_bytes).
 */
#ifndef CORACLE_DRIVE_CLIENT_GRPC_H
#define CORACLE_DRIVE_CLIENT_GRPC_H

#include "api/etcd.h"
#include "drive/clients.h"
#include "drive/request_table.h"

/* Above it a request is answered with 'too many requests'. One as large as may be always fits. */
#define CLIENT_GRPC_WAITING_BYTES_MAX (4u * 1024 * 1024)

/* What all connections share. */
struct client_grpc_host {
    struct api *api;
    const struct clients_handler *handler;
    void *user; /* of the handler */
    struct request_table requests;
    struct buffer scratch;
    time_ns now;
    uint64_t calls, failed;
};

struct client_grpc;

/* `became_busy` is called when there may be something to send, with `user`. */
struct client_grpc *client_grpc_new(struct client_grpc_host *host, void (*became_busy)(void *user), void *user);
void client_grpc_free(struct client_grpc *client);

void client_grpc_feed(struct client_grpc *client, struct bytes bytes);
/* As grpc_out. */
bool client_grpc_out(struct client_grpc *client, struct buffer *out, size_t bytes_max);
/* Everything is sent, and the connection is to be closed. */
bool client_grpc_done(const struct client_grpc *client);
size_t client_grpc_memory_bytes(const struct client_grpc *client);
/* Every second or so: what takes too long ends. */
void client_grpc_sweep(struct client_grpc *client);
/* No new calls; what streams ends, the rest is answered. */
void client_grpc_shutdown(struct client_grpc *client);

/* A result of the replica's whose request has REQUEST_TABLE_BIT set. */
void client_grpc_result(struct client_grpc_host *host, const struct replica_result *result);

#endif
