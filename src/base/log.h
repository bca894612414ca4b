/*
 * log.h - the logging interface: structured, levelled lines.
 *
 * A module that logs is given a `struct logger` (borrowed for its lifetime). What becomes of the
 * lines is the owner's affair: the server prints them to stderr, the simulator keeps them as part
 * of its trace. A line is an event name, in lower case with spaces, and key=value pairs.
 *
 *     log_warn(logger, "sync was slow", "file=%s ms=%d cause=\"%s\"", path, ms, text);
 *
 * A value goes on until the next " key=". One that is prose stands in quotes, and what is within them needs no escapes:
 * it ends at the quote that " key=" or the end of the line follows.
 */
#ifndef CORACLE_BASE_LOG_H
#define CORACLE_BASE_LOG_H

#include <stdarg.h>
#include <stdbool.h>

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };

/* The line limit of `fields`, in bytes; what is longer is cut. */
#define LOG_FIELDS_BYTES_MAX 1024

struct logger {
    enum log_level level; /* lines below it are not formatted */
    void (*write)(struct logger *logger, enum log_level level, const char *event, const char *fields);
};

void log_line(struct logger *logger, enum log_level level, const char *event, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#define log_debug(logger, ...) log_line((logger), LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_info(logger, ...) log_line((logger), LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warn(logger, ...) log_line((logger), LOG_LEVEL_WARN, __VA_ARGS__)
#define log_error(logger, ...) log_line((logger), LOG_LEVEL_ERROR, __VA_ARGS__)

/* A logger that drops everything. */
extern struct logger log_none;

const char *log_level_name(enum log_level level);
/* False when `name` is none of debug, info, warn, error. */
bool log_level_parse(const char *name, enum log_level *out);

#endif
