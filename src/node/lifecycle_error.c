#include "node/lifecycle_error.h"

#include <stdio.h>

void lifecycle_error_add(struct lifecycle_error *error, const char *part, const char *action, enum error code,
                         const char *text)
{
    const uint32_t capacity = sizeof error->failures / sizeof error->failures[0];
    if (error->failure_count == capacity) return; /* each part fails at most once to start and once to stop */
    struct lifecycle_failure *failure = &error->failures[error->failure_count++];
    failure->part = part;
    failure->action = action;
    failure->error = code;
    snprintf(failure->text, sizeof failure->text, "%s", text[0] != '\0' ? text : error_text(code));
}

enum error lifecycle_error_code(const struct lifecycle_error *error)
{
    return error->failure_count > 0 ? error->failures[0].error : ERR_OK;
}

void lifecycle_error_log(const struct lifecycle_error *error, uint32_t first, struct logger *logger)
{
    for (uint32_t i = first; i < error->failure_count; i++) {
        const struct lifecycle_failure *failure = &error->failures[i];
        char event[64];
        snprintf(event, sizeof event, "could not %s %s", failure->action, failure->part);
        log_error(logger, event, "cause=\"%s\"", failure->text);
    }
}
