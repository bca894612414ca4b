#include "api/etcd_error.h"

#include "base/check.h"

struct row {
    enum grpc_status status;
    const char *text;
};

#define ROW(name, code, text) [ETCD_ERROR_##name] = {(enum grpc_status)(code), text},
static const struct row rows[ETCD_ERROR_COUNT] = {[ETCD_ERROR_NONE] = {GRPC_OK, ""}, ETCD_ERRORS(ROW)};
#undef ROW

enum grpc_status etcd_error_status(enum etcd_error error)
{
    CHECK((unsigned)error < ETCD_ERROR_COUNT);
    return rows[error].status;
}

const char *etcd_error_text(enum etcd_error error)
{
    CHECK((unsigned)error < ETCD_ERROR_COUNT);
    return rows[error].text;
}

enum etcd_error etcd_error_of(enum error error)
{
    switch (error) {
    case ERR_OK:
        return ETCD_ERROR_NONE;
    case ERR_EMPTY_KEY:
        return ETCD_ERROR_EMPTY_KEY;
    case ERR_KEY_MISSING:
        return ETCD_ERROR_KEY_NOT_FOUND;
    case ERR_COMPACTED:
        return ETCD_ERROR_COMPACTED;
    case ERR_FUTURE_REVISION:
        return ETCD_ERROR_FUTURE_REVISION;
    case ERR_LEASE_NOT_FOUND:
        return ETCD_ERROR_LEASE_NOT_FOUND;
    case ERR_LEASE_EXISTS:
        return ETCD_ERROR_LEASE_EXISTS;
    case ERR_TOO_LARGE:
    case ERR_KEY_TOO_LARGE:
        return ETCD_ERROR_REQUEST_TOO_LARGE;
    case ERR_TOO_MANY:
        return ETCD_ERROR_TOO_MANY_REQUESTS;
    case ERR_NO_SPACE:
        return ETCD_ERROR_NO_SPACE;
    case ERR_NO_LEADER:
        return ETCD_ERROR_NO_LEADER;
    case ERR_LEADER_CHANGED:
        return ETCD_ERROR_LEADER_CHANGED;
    case ERR_CORRUPT:
    case ERR_DAMAGED:
        return ETCD_ERROR_CORRUPT;
    case ERR_SHUTTING_DOWN:
    case ERR_NOT_READY:
        return ETCD_ERROR_STOPPED;
    default:
        return ETCD_ERROR_TIMEOUT;
    }
}
