#include "node/lifecycle.h"

#include <stddef.h>

#include "base/check.h"

bool lifecycle_start(struct lifecycle *lifecycle, struct lifecycle_error *error)
{
    CHECK(lifecycle->started_count == 0 && lifecycle->part_count <= LIFECYCLE_PARTS_MAX);
    for (uint32_t i = 0; i < lifecycle->part_count; i++) {
        const struct lifecycle_part *part = &lifecycle->parts[i];
        char text[LIFECYCLE_TEXT_BYTES] = "";
        enum error failure = part->start(lifecycle->user, text);
        if (failure != ERR_OK) {
            lifecycle_error_add(error, part->name, "start", failure, text);
            lifecycle_stop(lifecycle, error);
            return false;
        }
        lifecycle->started_count++;
    }
    return true;
}

bool lifecycle_stop(struct lifecycle *lifecycle, struct lifecycle_error *error)
{
    bool good = true;
    while (lifecycle->started_count > 0) {
        const struct lifecycle_part *part = &lifecycle->parts[--lifecycle->started_count];
        if (part->stop == NULL) continue;
        char text[LIFECYCLE_TEXT_BYTES] = "";
        enum error failure = part->stop(lifecycle->user, text);
        if (failure == ERR_OK) continue;
        lifecycle_error_add(error, part->name, "stop", failure, text);
        good = false;
    }
    return good;
}
