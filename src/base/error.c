#include "base/error.h"

#include "base/check.h"

struct error_row {
    const char *code;
    const char *text;
    int http_status;
    int grpc_code;
    bool may_retry;
    enum error_scope scope;
};

#define ERROR_ROW(name, code, text, http, grpc, retry, scope) [name] = {code, text, http, grpc, retry, scope},
static const struct error_row rows[ERROR_COUNT] = {ERROR_TABLE(ERROR_ROW)};
#undef ERROR_ROW

static const struct error_row *row_of(enum error error)
{
    CHECK((unsigned)error < ERROR_COUNT);
    return &rows[error];
}

const char *error_code(enum error error)
{
    return row_of(error)->code;
}

const char *error_text(enum error error)
{
    return row_of(error)->text;
}

int error_http_status(enum error error)
{
    return row_of(error)->http_status;
}

int error_grpc_code(enum error error)
{
    return row_of(error)->grpc_code;
}

bool error_may_retry(enum error error)
{
    return row_of(error)->may_retry;
}

enum error_scope error_scope_of(enum error error)
{
    return row_of(error)->scope;
}
