/*
 * lifecycle_error.h - one error that carries the errors of all parts, and logs them all. (ContextLifecycleError)
 *
 * Starting and stopping go on after a part failed (to stop the others), so that several may fail at once.
 */
#ifndef CORACLE_NODE_LIFECYCLE_ERROR_H
#define CORACLE_NODE_LIFECYCLE_ERROR_H

#include <stdint.h>

#include "base/error.h"
#include "base/log.h"

#define LIFECYCLE_PARTS_MAX 16u
#define LIFECYCLE_TEXT_BYTES 512u

struct lifecycle_failure {
    const char *part;   /* static */
    const char *action; /* static: "start" or "stop" */
    enum error error;
    char text[LIFECYCLE_TEXT_BYTES];
};

/* All zero: no error. */
struct lifecycle_error {
    struct lifecycle_failure failures[2 * LIFECYCLE_PARTS_MAX];
    uint32_t failure_count;
};

void lifecycle_error_add(struct lifecycle_error *error, const char *part, const char *action, enum error code,
                         const char *text);

/* The first failure's code, ERR_OK without one. */
enum error lifecycle_error_code(const struct lifecycle_error *error);

/* Logs "could not start network", cause="…", for each failure from number `first` on, in the order in which they happened. */
void lifecycle_error_log(const struct lifecycle_error *error, uint32_t first, struct logger *logger);

#endif
