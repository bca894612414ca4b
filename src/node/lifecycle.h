/*
 * lifecycle.h - starts parts in the order of a table, stops them in reverse; a failed start stops what had started.
 */
#ifndef CORACLE_NODE_LIFECYCLE_H
#define CORACLE_NODE_LIFECYCLE_H

#include "node/lifecycle_error.h"

struct lifecycle_part {
    const char *name;
    /* `text` (LIFECYCLE_TEXT_BYTES) takes the reason of a failure. After a failure the part has nothing left to stop. */
    enum error (*start)(void *user, char *text);
    enum error (*stop)(void *user, char *text); /* NULL: nothing to do */
};

struct lifecycle {
    const struct lifecycle_part *parts; /* each after those that it needs; borrowed */
    uint32_t part_count;                /* at most LIFECYCLE_PARTS_MAX */
    void *user;
    uint32_t started_count;
};

/* False when a part failed: those before it were stopped again, and `error` has all that went wrong. */
bool lifecycle_start(struct lifecycle *lifecycle, struct lifecycle_error *error);
/* Stops all that started, also when one of them fails to. Nothing happens the second time. */
bool lifecycle_stop(struct lifecycle *lifecycle, struct lifecycle_error *error);

#endif
