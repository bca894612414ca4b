/*
 * etcd_error.h - the errors of the etcd v3 interface, with exactly the codes and texts that clients know them by.
 */
#ifndef CORACLE_API_ETCD_ERROR_H
#define CORACLE_API_ETCD_ERROR_H

#include "base/error.h"
#include "wire/grpc.h"

/* X(NAME, gRPC code, "text") */
#define ETCD_ERRORS(X)                                                                                                 \
    X(EMPTY_KEY, 3, "etcdserver: key is not provided")                                                                 \
    X(KEY_NOT_FOUND, 3, "etcdserver: key not found")                                                                   \
    X(VALUE_PROVIDED, 3, "etcdserver: value is provided")                                                              \
    X(LEASE_PROVIDED, 3, "etcdserver: lease is provided")                                                              \
    X(TOO_MANY_OPS, 3, "etcdserver: too many operations in txn request")                                               \
    X(DUPLICATE_KEY, 3, "etcdserver: duplicate key given in txn request")                                              \
    X(INVALID_SORT_OPTION, 3, "etcdserver: invalid sort option")                                                       \
    X(COMPACTED, 11, "etcdserver: mvcc: required revision has been compacted")                                         \
    X(FUTURE_REVISION, 11, "etcdserver: mvcc: required revision is a future revision")                                 \
    X(NO_SPACE, 8, "etcdserver: mvcc: database space exceeded")                                                        \
    X(LEASE_NOT_FOUND, 5, "etcdserver: requested lease not found")                                                     \
    X(LEASE_EXISTS, 9, "etcdserver: lease already exists")                                                             \
    X(LEASE_TTL_TOO_LARGE, 11, "etcdserver: too large lease TTL")                                                      \
    X(WATCH_CANCELED, 1, "etcdserver: watch canceled")                                                                 \
    X(MEMBER_NOT_FOUND, 5, "etcdserver: member not found")                                                             \
    X(REQUEST_TOO_LARGE, 3, "etcdserver: request is too large")                                                        \
    X(TOO_MANY_REQUESTS, 8, "etcdserver: too many requests")                                                           \
    X(AUTH_NOT_ENABLED, 9, "etcdserver: authentication is not enabled")                                                \
    X(NO_LEADER, 14, "etcdserver: no leader")                                                                          \
    X(NOT_LEADER, 9, "etcdserver: not leader")                                                                         \
    X(LEADER_CHANGED, 14, "etcdserver: leader changed")                                                                \
    X(NOT_CAPABLE, 9, "etcdserver: not capable")                                                                       \
    X(STOPPED, 14, "etcdserver: server stopped")                                                                       \
    X(TIMEOUT, 14, "etcdserver: request timed out")                                                                    \
    X(UNHEALTHY, 14, "etcdserver: unhealthy cluster")                                                                  \
    X(CORRUPT, 15, "etcdserver: corrupt cluster")                                                                      \
    X(BAD_TRANSFEREE, 9, "etcdserver: bad leader transferee")

#define ETCD_ERROR_ENUM(name, code, text) ETCD_ERROR_##name,
enum etcd_error { ETCD_ERROR_NONE, ETCD_ERRORS(ETCD_ERROR_ENUM) ETCD_ERROR_COUNT };
#undef ETCD_ERROR_ENUM

enum grpc_status etcd_error_status(enum etcd_error error);
/* Static. */
const char *etcd_error_text(enum etcd_error error);

/* What etcd says where the replica or the host gave this error. */
enum etcd_error etcd_error_of(enum error error);

#endif
