/*
 * error.h - the one table of errors.
 *
 * Each row: name, code as clients see it in JSON, text, HTTP status, gRPC code, whether a client
 * may retry the same request, and scope: what the error ends (the request, the connection or the
 * node). `errno` stops at the operating-system layer (src/os), which maps it to a row here.
 */
#ifndef CORACLE_BASE_ERROR_H
#define CORACLE_BASE_ERROR_H

#include <stdbool.h>

/* clang-format off */
#define ERROR_TABLE(X)                                                                                                                       \
    /* name                    code                      text                                              HTTP gRPC retry  scope        */  \
    X(ERR_OK,                  "ok",                     "no error",                                        200,  0, false, SCOPE_REQUEST)    \
    /* requests */                                                                                                                           \
    X(ERR_BAD_REQUEST,         "bad_request",            "the request is malformed",                        400,  3, false, SCOPE_REQUEST)    \
    X(ERR_BAD_JSON,            "bad_json",               "the body is not valid JSON",                      400,  3, false, SCOPE_REQUEST)    \
    X(ERR_EMPTY_KEY,           "empty_key",              "the key is missing or empty",                     400,  3, false, SCOPE_REQUEST)    \
    X(ERR_KEY_TOO_LARGE,       "key_too_large",          "the key is longer than 65536 bytes",              400,  3, false, SCOPE_REQUEST)    \
    X(ERR_TOO_LARGE,           "request_too_large",      "the request is larger than the limit",            413,  3, false, SCOPE_REQUEST)    \
    X(ERR_HEADERS_TOO_LARGE,   "headers_too_large",      "the request's headers are larger than the limit", 431,  3, false, SCOPE_CONNECTION) \
    X(ERR_URI_TOO_LONG,        "uri_too_long",           "the request line is longer than the limit",       414,  3, false, SCOPE_CONNECTION) \
    X(ERR_BAD_HTTP_VERSION,    "bad_http_version",       "the server does not speak this version of HTTP",  505, 12, false, SCOPE_CONNECTION) \
    X(ERR_NOT_FOUND,           "not_found",              "there is no such key",                            404,  5, false, SCOPE_REQUEST)    \
    X(ERR_NO_ROUTE,            "no_route",               "there is nothing at this path",                   404, 12, false, SCOPE_REQUEST)    \
    X(ERR_BAD_METHOD,          "method_not_allowed",     "this path does not support this method",          405, 12, false, SCOPE_REQUEST)    \
    X(ERR_UNSUPPORTED,         "not_supported",          "the server does not support this",                501, 12, false, SCOPE_REQUEST)    \
    X(ERR_SLOW_CLIENT,         "request_timeout",        "the request did not arrive in time",              408,  4, false, SCOPE_CONNECTION) \
    X(ERR_TOO_MANY,            "too_many_requests",      "the node has too much work in hand",              429,  8, true,  SCOPE_REQUEST)    \
    X(ERR_COMPACTED,           "compacted",              "the revision has been compacted",                 410, 11, false, SCOPE_REQUEST)    \
    X(ERR_FUTURE_REVISION,     "future_revision",        "the revision is in the future",                   400, 11, false, SCOPE_REQUEST)    \
    X(ERR_INTERNAL,            "internal",               "the server failed in an unforeseen way",          500, 13, false, SCOPE_REQUEST)    \
    /* the cluster */                                                                                                                        \
    X(ERR_NO_LEADER,           "no_leader",              "this node knows no leader at the moment",         503, 14, true,  SCOPE_REQUEST)    \
    X(ERR_LEADER_CHANGED,      "leader_changed",         "the leader changed; the outcome is unknown",      503, 14, false, SCOPE_REQUEST)    \
    X(ERR_TIMEOUT,             "timeout",                "the request timed out; its outcome is unknown",   504, 14, false, SCOPE_REQUEST)    \
    X(ERR_SHUTTING_DOWN,       "shutting_down",          "the node is shutting down",                       503, 14, true,  SCOPE_REQUEST)    \
    X(ERR_NO_SPACE,            "no_space",               "the disk is full; writes are refused",            507,  8, true,  SCOPE_REQUEST)    \
    X(ERR_CORRUPT,             "corrupt",                "this node's data differs from its peers'",        500, 15, false, SCOPE_NODE)       \
    X(ERR_NOT_READY,           "not_ready",              "the node is not ready yet",                       503, 14, true,  SCOPE_REQUEST)    \
    /* peers */                                                                                                                              \
    X(ERR_BAD_FRAME,           "bad_frame",              "a frame from a peer is malformed",                400, 13, false, SCOPE_CONNECTION) \
    X(ERR_BAD_PROTOCOL,        "bad_protocol",           "the peer speaks another protocol or version",     400, 13, false, SCOPE_CONNECTION) \
    X(ERR_WRONG_CLUSTER,       "wrong_cluster",          "the peer belongs to another cluster",             400, 13, false, SCOPE_CONNECTION) \
    X(ERR_UNKNOWN_MEMBER,      "unknown_member",         "the peer is not a member of this cluster",        400, 13, false, SCOPE_CONNECTION) \
    /* files and the operating system */                                                                                                     \
    X(ERR_DAMAGED,             "damaged",                "a file is damaged",                               500, 15, false, SCOPE_NODE)       \
    X(ERR_BAD_VERSION,         "bad_version",            "a file was written by a newer version",           500,  9, false, SCOPE_NODE)       \
    X(ERR_IO,                  "io",                     "reading or writing a file failed",                500, 15, false, SCOPE_NODE)       \
    X(ERR_NO_FILE,             "no_file",                "there is no such file",                           500,  5, false, SCOPE_NODE)       \
    X(ERR_EXISTS,              "exists",                 "the file exists already",                         500,  6, false, SCOPE_NODE)       \
    X(ERR_LOCKED,              "locked",                 "another process uses this data",                  500,  9, false, SCOPE_NODE)       \
    X(ERR_NO_PERMISSION,       "no_permission",          "permission denied",                               500,  7, false, SCOPE_NODE)       \
    X(ERR_NETWORK,             "network",                "a network operation failed",                      500, 14, true,  SCOPE_CONNECTION) \
    X(ERR_ADDRESS_IN_USE,      "address_in_use",         "the address is in use by another process",        500,  9, false, SCOPE_NODE)       \
    X(ERR_CONFIG,              "config",                 "the configuration is invalid",                    500,  9, false, SCOPE_NODE)       \
    /* transactions and leases */                                                                                                            \
    X(ERR_KEY_MISSING,         "key_missing",            "the request needs a key that isn't there",        400,  3, false, SCOPE_REQUEST)    \
    X(ERR_LEASE_NOT_FOUND,     "lease_not_found",        "there is no such lease",                          404,  5, false, SCOPE_REQUEST)    \
    X(ERR_LEASE_EXISTS,        "lease_exists",           "there is a lease of that id already",             409,  9, false, SCOPE_REQUEST)
/* clang-format on */

enum error_scope { SCOPE_REQUEST, SCOPE_CONNECTION, SCOPE_NODE };

#define ERROR_ENUM(name, code, text, http, grpc, retry, scope) name,
enum error { ERROR_TABLE(ERROR_ENUM) ERROR_COUNT };
#undef ERROR_ENUM

/* All return static data. */
const char *error_code(enum error error);
const char *error_text(enum error error);
int error_http_status(enum error error);
int error_grpc_code(enum error error);
bool error_may_retry(enum error error);
enum error_scope error_scope_of(enum error error);

#endif
