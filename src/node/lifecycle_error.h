/*
 * lifecycle_error.h - one error that carries the errors of all parts, and prints them all. (ContextLifecycleError)
 *
 * Starting and stopping go on after a part failed (to stop the others), so that several may fail at once.
 */
#ifndef CORACLE_NODE_LIFECYCLE_ERROR_H
#define CORACLE_NODE_LIFECYCLE_ERROR_H

#include "base/bytes.h"
#include "base/error.h"

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

/* Appends "could not start network: …" for each failure, in the order in which they happened, a line each. */
void lifecycle_error_print(const struct lifecycle_error *error, struct buffer *out);

#endif
