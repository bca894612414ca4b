#include "base/log.h"

#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct recorder {
    struct logger logger;
    unsigned count;
    enum log_level level;
    char event[64];
    char fields[LOG_FIELDS_BYTES_MAX + 64];
};

static void record(struct logger *logger, enum log_level level, const char *event, const char *fields)
{
    struct recorder *recorder = (struct recorder *)logger;
    recorder->count++;
    recorder->level = level;
    snprintf(recorder->event, sizeof recorder->event, "%s", event);
    snprintf(recorder->fields, sizeof recorder->fields, "%s", fields);
}

static void lines_arrive_with_level_event_and_fields(void **state)
{
    (void)state;
    struct recorder recorder = {.logger = {.level = LOG_LEVEL_DEBUG, .write = record}};
    log_warn(&recorder.logger, "sync was slow", "file=%s ms=%d", "log-1", 250);
    assert_int_equal(recorder.level, LOG_LEVEL_WARN);
    assert_string_equal(recorder.event, "sync was slow");
    assert_string_equal(recorder.fields, "file=log-1 ms=250");
    log_info(&recorder.logger, "ready", "");
    assert_int_equal(recorder.level, LOG_LEVEL_INFO);
    assert_string_equal(recorder.fields, "");
    assert_int_equal(recorder.count, 2);
}

static void lines_below_the_level_are_dropped(void **state)
{
    (void)state;
    for (int level = LOG_LEVEL_DEBUG; level <= LOG_LEVEL_ERROR; level++) {
        struct recorder recorder = {.logger = {.level = (enum log_level)level, .write = record}};
        log_debug(&recorder.logger, "e", "%d", 1);
        log_info(&recorder.logger, "e", "%d", 1);
        log_warn(&recorder.logger, "e", "%d", 1);
        log_error(&recorder.logger, "e", "%d", 1);
        assert_int_equal(recorder.count, LOG_LEVEL_ERROR - level + 1);
        assert_int_equal(recorder.level, LOG_LEVEL_ERROR);
    }
    log_error(&log_none, "nobody hears", "n=%d", 1);
}

static void long_fields_are_cut_at_the_limit(void **state)
{
    (void)state;
    static char text[LOG_FIELDS_BYTES_MAX + 100];
    struct recorder recorder = {.logger = {.level = LOG_LEVEL_DEBUG, .write = record}};
    for (size_t length = LOG_FIELDS_BYTES_MAX - 2; length < LOG_FIELDS_BYTES_MAX + 50; length++) {
        memset(text, 'a', length);
        text[length] = 0;
        log_info(&recorder.logger, "long", "%s", text);
        size_t expected = length < LOG_FIELDS_BYTES_MAX ? length : LOG_FIELDS_BYTES_MAX;
        assert_int_equal(strlen(recorder.fields), expected);
    }
}

static void level_names_go_both_ways(void **state)
{
    (void)state;
    for (int i = LOG_LEVEL_DEBUG; i <= LOG_LEVEL_ERROR; i++) {
        enum log_level level = (enum log_level)99;
        assert_true(log_level_parse(log_level_name((enum log_level)i), &level));
        assert_int_equal(level, i);
    }
    static const char *const bad[] = {"", "Debug", "warning", "info ", "errors", "unknown"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        enum log_level level = (enum log_level)99;
        assert_false(log_level_parse(bad[i], &level));
        assert_int_equal(level, 99);
    }
    assert_string_equal(log_level_name((enum log_level)99), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_arrive_with_level_event_and_fields),
        cmocka_unit_test(lines_below_the_level_are_dropped),
        cmocka_unit_test(long_fields_are_cut_at_the_limit),
        cmocka_unit_test(level_names_go_both_ways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
