/*
 * logger.h - the logger of real processes: one line and one write(2) for each event.
 *
 *     2026-11-24T13:00:00.123Z WARN sync was slow file=/d/log/3 ms=12
 *     {"time":"2026-11-24T13:00:00.123Z","level":"warn","event":"sync was slow","file":"/d/log/3","ms":12}
 *
 * `fields` is taken apart into pairs (base/log.h), whose values are quoted where a reader of the line needs it: with a
 * space, a quote or a control character in them, which are escaped as \" and \x0a, and a backslash then too. In JSON the
 * pairs become members, and a decimal integer a number. Nothing that a peer or client sent can make a second line.
 *
 * A warning or error whose event and fields were written less than 10 s ago is only counted. The count
 * comes with the next one that is written, or as a line of its own ("repeated=12") with the next line of any kind
 * after the 10 s, or when the logger ends. No timer runs for it.
 *
 * Any thread may log.
 */
#ifndef CORACLE_OS_LOGGER_H
#define CORACLE_OS_LOGGER_H

#include "base/log.h"
#include "base/types.h"

struct os_logger_options {
    enum log_level level;
    bool json;
    int fd; /* borrowed; 2 is stderr */
    /* Time since 1970; NULL is the system's clock. */
    time_ns (*clock)(void);
};

/* Freed with os_logger_free. */
struct logger *os_logger_new(const struct os_logger_options *options);

/* Writes the counts that are still kept back. */
void os_logger_free(struct logger *logger);

#endif
