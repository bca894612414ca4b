#include "base/log.h"

#include <stdio.h>
#include <string.h>

#include "base/types.h"

static const char *const level_names[] = {
    [LOG_LEVEL_DEBUG] = "debug",
    [LOG_LEVEL_INFO] = "info",
    [LOG_LEVEL_WARN] = "warn",
    [LOG_LEVEL_ERROR] = "error",
};

void log_line(struct logger *logger, enum log_level level, const char *event, const char *format, ...)
{
    if (level < logger->level) return;
    char fields[LOG_FIELDS_BYTES_MAX + 1];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(fields, sizeof fields, format, arguments);
    va_end(arguments);
    /* A format that can't be printed is no reason to lose the event. */
    if (length < 0) fields[0] = 0;
    logger->write(logger, level, event, fields);
}

static void drop(struct logger *logger, enum log_level level, const char *event, const char *fields)
{
    (void)logger, (void)level, (void)event, (void)fields;
}

struct logger log_none = {.level = (enum log_level)(LOG_LEVEL_ERROR + 1), .write = drop};

const char *log_level_name(enum log_level level)
{
    return (size_t)level < ARRAY_COUNT(level_names) ? level_names[level] : "unknown";
}

bool log_level_parse(const char *name, enum log_level *out)
{
    for (size_t i = 0; i < ARRAY_COUNT(level_names); i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *out = (enum log_level)i;
            return true;
        }
    }
    return false;
}
