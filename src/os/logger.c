#include "os/logger.h"

#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/mem.h"

#define RECENT_LINES_MAX 16
#define REPEAT_SPAN (10 * TIME_NS_PER_S)

/* A warning that was written a while ago, and how often it was kept back since. */
struct recent_line {
    enum log_level level;
    time_ns written_at;
    uint64_t kept_back;
    char *event; /* NULL when the slot is free */
    char *fields;
};

struct os_logger {
    struct logger base;
    struct os_logger_options options;
    pthread_mutex_t mutex; /* over all that follows */
    struct buffer line;    /* kept for its memory */
    struct recent_line recent[RECENT_LINES_MAX];
};

static time_ns system_clock(void)
{
    struct timespec at;
    CHECK(clock_gettime(CLOCK_REALTIME, &at) == 0);
    return (time_ns)at.tv_sec * TIME_NS_PER_S + at.tv_nsec;
}

static void append_time(struct buffer *line, time_ns at)
{
    time_t seconds = (time_t)(at / TIME_NS_PER_S);
    struct tm parts;
    gmtime_r(&seconds, &parts);
    buffer_append_format(line, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", parts.tm_year + 1900, parts.tm_mon + 1,
                         parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
                         (int)(at % TIME_NS_PER_S / TIME_NS_PER_MS));
}

/* As it is, but for what a terminal or a reader of lines would take for more than text. */
static void append_plain_byte(struct buffer *line, unsigned char byte)
{
    if (byte < 0x20 || byte == 0x7f) {
        buffer_append_format(line, "\\x%02x", byte);
    } else {
        buffer_append_byte(line, byte);
    }
}

static void append_plain(struct buffer *line, const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) append_plain_byte(line, (unsigned char)text[i]);
}

/* The length of the UTF-8 sequence at `at` (RFC 3629 §4); 0 when it is none. */
static size_t utf8_size(const unsigned char *at, size_t left)
{
    unsigned char first = at[0];
    size_t size = first < 0x80                    ? 1
                  : first >= 0xc2 && first < 0xe0 ? 2
                  : first >= 0xe0 && first < 0xf0 ? 3
                  : first >= 0xf0 && first < 0xf5 ? 4
                                                  : 0;
    if (size == 0 || size > left) return 0;
    for (size_t i = 1; i < size; i++) {
        if ((at[i] & 0xc0) != 0x80) return 0;
    }
    /* Overlong forms, surrogates, and what is beyond U+10FFFF. */
    if (first == 0xe0 && at[1] < 0xa0) return 0;
    if (first == 0xed && at[1] >= 0xa0) return 0;
    if (first == 0xf0 && at[1] < 0x90) return 0;
    if (first == 0xf4 && at[1] >= 0x90) return 0;
    return size;
}

static void append_json_string(struct buffer *line, const char *text, size_t size)
{
    const unsigned char *at = (const unsigned char *)text;
    buffer_append_byte(line, '"');
    while (size > 0) {
        size_t taken = utf8_size(at, size);
        if (taken == 0) {
            buffer_append_string(line, "\xef\xbf\xbd"); /* U+FFFD */
            taken = 1;
        } else if (*at < 0x20 || *at == 0x7f) {
            buffer_append_format(line, "\\u%04x", *at);
        } else {
            if (*at == '"' || *at == '\\') buffer_append_byte(line, '\\');
            buffer_append(line, at, taken);
        }
        at += taken;
        size -= taken;
    }
    buffer_append_byte(line, '"');
}

/* ---- fields ---- */

struct field {
    const char *key; /* NULL: text without one */
    size_t key_size;
    const char *value; /* without the quotes around it */
    size_t value_size;
};

/* The length of the key when "key=" stands here; 0 otherwise. */
static size_t key_size(const char *text)
{
    size_t size = 0;
    while (islower((unsigned char)text[size]) || isdigit((unsigned char)text[size]) || text[size] == '_') size++;
    return text[size] == '=' ? size : 0;
}

static bool field_ends_at(const char *at)
{
    return *at == 0 || (*at == ' ' && key_size(at + 1) > 0);
}

/* Where a quoted value ends: quotes within were never escaped, so it is the one after which the field ends. */
static const char *closing_quote(const char *value)
{
    for (const char *at = value + 1; *at != 0; at++) {
        if (*at == '"' && field_ends_at(at + 1)) return at;
    }
    return NULL;
}

static bool next_field(const char **fields, struct field *out)
{
    const char *at = *fields;
    if (*at == 0) return false;
    size_t size = key_size(at);
    const char *value = size > 0 ? at + size + 1 : at;
    const char *close = *value == '"' ? closing_quote(value) : NULL;
    const char *end = close != NULL ? close + 1 : value;
    while (!field_ends_at(end)) end++;
    size_t value_size = (size_t)(end - value);
    *out = (struct field){size > 0 ? at : NULL, size, value, value_size};
    if (close != NULL) {
        out->value++;
        out->value_size -= 2;
    } else if (*value == '"' && memchr(value + 1, '"', value_size - 1) == NULL) {
        /* The line was too long, and lost its end. */
        out->value++;
        out->value_size--;
    }
    *fields = *end == ' ' ? end + 1 : end;
    return true;
}

/* Whether a reader of the line couldn't tell where the value begins and ends. */
static bool needs_quotes(const struct field *field)
{
    for (size_t i = 0; i < field->value_size; i++) {
        unsigned char byte = (unsigned char)field->value[i];
        if (byte <= ' ' || byte == '"' || byte == 0x7f) return true;
    }
    return false;
}

static void append_quoted(struct buffer *line, const struct field *field)
{
    buffer_append_byte(line, '"');
    for (size_t i = 0; i < field->value_size; i++) {
        if (field->value[i] == '"' || field->value[i] == '\\') buffer_append_byte(line, '\\');
        append_plain_byte(line, (unsigned char)field->value[i]);
    }
    buffer_append_byte(line, '"');
}

static void append_text_fields(struct buffer *line, const char *fields)
{
    struct field field;
    while (next_field(&fields, &field)) {
        buffer_append_byte(line, ' ');
        if (field.key != NULL) buffer_append(line, field.key, field.key_size + 1);
        if (field.key != NULL && needs_quotes(&field)) {
            append_quoted(line, &field);
        } else {
            append_plain(line, field.value, field.value_size);
        }
    }
}

/* Whether JSON can hold it as a number without losing digits. */
static bool is_integer(const char *text, size_t size)
{
    if (size > 0 && text[0] == '-') {
        text++;
        size--;
    }
    if (size == 0 || size > 15 || (size > 1 && text[0] == '0')) return false;
    for (size_t i = 0; i < size; i++) {
        if (!isdigit((unsigned char)text[i])) return false;
    }
    return true;
}

static void append_json_fields(struct buffer *line, const char *fields)
{
    struct field field;
    while (next_field(&fields, &field)) {
        buffer_append_byte(line, ',');
        append_json_string(line, field.key != NULL ? field.key : "text",
                           field.key != NULL ? field.key_size : strlen("text"));
        buffer_append_byte(line, ':');
        if (is_integer(field.value, field.value_size)) {
            buffer_append(line, field.value, field.value_size);
        } else {
            append_json_string(line, field.value, field.value_size);
        }
    }
}

/* ---- lines ---- */

static void write_line(struct os_logger *logger, time_ns at, enum log_level level, const char *event,
                       const char *fields, uint64_t repeated)
{
    struct buffer *line = &logger->line;
    buffer_clear(line);
    if (logger->options.json) {
        buffer_append_string(line, "{\"time\":\"");
        append_time(line, at);
        buffer_append_format(line, "\",\"level\":\"%s\",\"event\":", log_level_name(level));
        append_json_string(line, event, strlen(event));
        append_json_fields(line, fields);
        if (repeated > 0) buffer_append_format(line, ",\"repeated\":%llu", (unsigned long long)repeated);
        buffer_append_string(line, "}\n");
    } else {
        append_time(line, at);
        buffer_append_byte(line, ' ');
        for (const char *name = log_level_name(level); *name != 0; name++) {
            buffer_append_byte(line, (uint8_t)toupper((unsigned char)*name));
        }
        buffer_append_byte(line, ' ');
        append_plain(line, event, strlen(event));
        append_text_fields(line, fields);
        if (repeated > 0) buffer_append_format(line, " repeated=%llu", (unsigned long long)repeated);
        buffer_append_byte(line, '\n');
    }
    /* There is nobody to tell when it fails; and what a full pipe doesn't take is not worth waiting for. */
    ssize_t written;
    do {
        written = write(logger->options.fd, line->data, line->size);
    } while (written < 0 && errno == EINTR);
}

static bool is_recent(const struct recent_line *recent, time_ns at)
{
    /* A clock that was set back must not keep lines back for longer. */
    return at >= recent->written_at && at - recent->written_at < REPEAT_SPAN;
}

static void forget(struct recent_line *recent)
{
    mem_free(recent->event);
    mem_free(recent->fields);
    *recent = (struct recent_line){0};
}

/* Writes the counts of lines that nobody repeats any more. */
static void write_old_counts(struct os_logger *logger, time_ns at, bool all)
{
    for (size_t i = 0; i < RECENT_LINES_MAX; i++) {
        struct recent_line *recent = &logger->recent[i];
        if (recent->event == NULL || (!all && is_recent(recent, at))) continue;
        if (recent->kept_back > 0) {
            write_line(logger, at, recent->level, recent->event, recent->fields, recent->kept_back);
        }
        forget(recent);
    }
}

/* Whether the line is only to be counted. Otherwise *repeated is how many of it were counted before. */
static bool is_kept_back(struct os_logger *logger, time_ns at, enum log_level level, const char *event,
                         const char *fields, uint64_t *repeated)
{
    struct recent_line *slot = NULL;
    for (size_t i = 0; i < RECENT_LINES_MAX; i++) {
        struct recent_line *recent = &logger->recent[i];
        if (recent->event == NULL) {
            if (slot == NULL || slot->event != NULL) slot = recent;
            continue;
        }
        if (recent->level == level && strcmp(recent->event, event) == 0 && strcmp(recent->fields, fields) == 0) {
            if (is_recent(recent, at)) {
                recent->kept_back++;
                return true;
            }
            *repeated = recent->kept_back;
            recent->kept_back = 0;
            recent->written_at = at;
            return false;
        }
        if (slot == NULL || (slot->event != NULL && recent->written_at < slot->written_at)) slot = recent;
    }
    if (slot->kept_back > 0) write_line(logger, at, slot->level, slot->event, slot->fields, slot->kept_back);
    forget(slot);
    *slot = (struct recent_line){
        .level = level, .written_at = at, .event = mem_copy_string(event), .fields = mem_copy_string(fields)};
    return false;
}

static void write_event(struct logger *base, enum log_level level, const char *event, const char *fields)
{
    struct os_logger *logger = (struct os_logger *)base;
    time_ns at = logger->options.clock();
    pthread_mutex_lock(&logger->mutex);
    uint64_t repeated = 0;
    bool kept_back = level >= LOG_LEVEL_WARN && is_kept_back(logger, at, level, event, fields, &repeated);
    write_old_counts(logger, at, false);
    if (!kept_back) write_line(logger, at, level, event, fields, repeated);
    pthread_mutex_unlock(&logger->mutex);
}

struct logger *os_logger_new(const struct os_logger_options *options)
{
    struct os_logger *logger = mem_alloc_zero(sizeof *logger);
    logger->base.level = options->level;
    logger->base.write = write_event;
    logger->options = *options;
    if (logger->options.clock == NULL) logger->options.clock = system_clock;
    CHECK(pthread_mutex_init(&logger->mutex, NULL) == 0);
    return &logger->base;
}

void os_logger_free(struct logger *base)
{
    struct os_logger *logger = (struct os_logger *)base;
    write_old_counts(logger, logger->options.clock(), true);
    pthread_mutex_destroy(&logger->mutex);
    buffer_free(&logger->line);
    mem_free(logger);
}
