/*
 * etcd_request.h - etcd's requests for keys as base/txn.h has them: read, and checked as etcd checks them before anything
 * else happens.
 *
 * Views into the message, or pieces of the arena. A message that is no protobuf gives ETCD_ERROR_NONE and `malformed`.
 */
#ifndef CORACLE_API_ETCD_REQUEST_H
#define CORACLE_API_ETCD_REQUEST_H

#include "api/etcd_error.h"
#include "base/arena.h"
#include "base/txn.h"
#include "replica/replica.h"

/* etcd's --max-txn-ops. */
#define ETCD_TXN_OPS_MAX 128u

struct etcd_verdict {
    enum etcd_error error;
    bool malformed;
    struct buffer *problem; /* the caller's: what is malformed */
};

bool etcd_read_range(struct bytes message, struct range_query *out, bool *serializable, struct etcd_verdict *verdict);
bool etcd_read_put(struct bytes message, struct put_query *out, struct etcd_verdict *verdict);
bool etcd_read_delete(struct bytes message, struct delete_query *out, struct etcd_verdict *verdict);
/* *serializable: all ranges ask for that, so nobody needs to confirm anything. */
bool etcd_read_txn(struct bytes message, struct arena *arena, struct txn *out, bool *serializable,
                   struct etcd_verdict *verdict);

#endif
