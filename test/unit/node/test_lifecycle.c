/*
 * Life cycle: parts start in order and stop in reverse, whatever fails; the error carries and logs all failures.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "base/bytes.h"
#include "base/types.h"
#include "node/lifecycle.h"

/* Three parts that write down what happens to them, and fail when told to. */
struct world {
    char trace[128];
    const char *failing; /* actions, such as "+b -a" */
};

static void note(struct world *world, const char *action)
{
    size_t used = strlen(world->trace);
    snprintf(world->trace + used, sizeof world->trace - used, "%s ", action);
}

static enum error act(void *user, char *text, const char *action)
{
    struct world *world = user;
    note(world, action);
    if (strstr(world->failing, action) == NULL) return ERR_OK;
    if (action[1] != 'c') snprintf(text, LIFECYCLE_TEXT_BYTES, "%s went wrong", action);
    return action[0] == '+' ? ERR_IO : ERR_NETWORK;
}

#define PART(name)                                                                                                     \
    static enum error start_##name(void *user, char *text)                                                             \
    {                                                                                                                  \
        return act(user, text, "+" #name);                                                                             \
    }                                                                                                                  \
    static enum error stop_##name(void *user, char *text)                                                              \
    {                                                                                                                  \
        return act(user, text, "-" #name);                                                                             \
    }
PART(a)
PART(b)
PART(c)

static const struct lifecycle_part parts[] = {
    {"part a", start_a, stop_a},
    {"part b", start_b, stop_b},
    {"part c", start_c, stop_c},
};

struct log_lines {
    struct logger logger;
    struct buffer text;
};

static void keep_line(struct logger *logger, enum log_level level, const char *event, const char *fields)
{
    struct log_lines *lines = (struct log_lines *)logger;
    assert_int_equal(level, LOG_LEVEL_ERROR);
    buffer_append_format(&lines->text, "%s %s\n", event, fields);
}

static const struct {
    const char *failing;
    bool starts, stops;
    const char *trace; /* of the start, then of the stop */
    const char *errors;
    enum error code;
} stories[] = {
    {"", true, true, "+a +b +c | -c -b -a ", "", ERR_OK},
    {"+a", false, true, "+a | ", "could not start part a cause=\"+a went wrong\"\n", ERR_IO},
    {"+b", false, true, "+a +b -a | ", "could not start part b cause=\"+b went wrong\"\n", ERR_IO},
    {"+c", false, true, "+a +b +c -b -a | ", "could not start part c cause=\"reading or writing a file failed\"\n",
     ERR_IO},
    {"+c -b", false, true, "+a +b +c -b -a | ",
     "could not start part c cause=\"reading or writing a file failed\"\ncould not stop part b cause=\"-b went "
     "wrong\"\n",
     ERR_IO},
    {"+c -b -a", false, true, "+a +b +c -b -a | ",
     "could not start part c cause=\"reading or writing a file failed\"\ncould not stop part b cause=\"-b went "
     "wrong\"\n"
     "could not stop part a cause=\"-a went wrong\"\n",
     ERR_IO},
    {"-b", true, false, "+a +b +c | -c -b -a ", "could not stop part b cause=\"-b went wrong\"\n", ERR_NETWORK},
    {"-c -a", true, false, "+a +b +c | -c -b -a ",
     "could not stop part c cause=\"a network operation failed\"\ncould not stop part a cause=\"-a went wrong\"\n",
     ERR_NETWORK},
};

static void parts_start_in_order_and_stop_in_reverse(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(stories); i++) {
        struct world world = {.failing = stories[i].failing};
        struct lifecycle lifecycle = {.parts = parts, .part_count = ARRAY_COUNT(parts), .user = &world};
        struct lifecycle_error error = {0};
        struct log_lines lines = {.logger.write = keep_line};
        assert_int_equal(lifecycle_start(&lifecycle, &error), stories[i].starts);
        note(&world, "|");
        assert_int_equal(lifecycle_stop(&lifecycle, &error), stories[i].stops);
        /* The second time there is nothing left. */
        assert_true(lifecycle_stop(&lifecycle, &error));
        assert_string_equal(world.trace, stories[i].trace);
        lifecycle_error_log(&error, 0, &lines.logger);
        buffer_append_byte(&lines.text, '\0');
        assert_string_equal((char *)lines.text.data, stories[i].errors);
        assert_int_equal(lifecycle_error_code(&error), stories[i].code);
        buffer_free(&lines.text);
    }
}

static void a_part_without_a_stop_is_passed_over(void **state)
{
    (void)state;
    static const struct lifecycle_part two[] = {{"part a", start_a, NULL}, {"part b", start_b, stop_b}};
    struct world world = {.failing = ""};
    struct lifecycle lifecycle = {.parts = two, .part_count = 2, .user = &world};
    struct lifecycle_error error = {0};
    assert_true(lifecycle_start(&lifecycle, &error));
    assert_true(lifecycle_stop(&lifecycle, &error));
    assert_string_equal(world.trace, "+a +b -b ");
}

static void it_starts_again_after_it_stopped(void **state)
{
    (void)state;
    struct world world = {.failing = "+b"};
    struct lifecycle lifecycle = {.parts = parts, .part_count = ARRAY_COUNT(parts), .user = &world};
    struct lifecycle_error error = {0};
    assert_false(lifecycle_start(&lifecycle, &error));
    world = (struct world){.failing = ""};
    assert_true(lifecycle_start(&lifecycle, &error));
    assert_true(lifecycle_stop(&lifecycle, &error));
    assert_string_equal(world.trace, "+a +b +c -c -b -a ");
}

static void a_long_text_is_cut_and_too_many_failures_are_dropped(void **state)
{
    (void)state;
    struct lifecycle_error error = {0};
    struct log_lines lines = {.logger.write = keep_line};
    char longer[2 * LIFECYCLE_TEXT_BYTES];
    memset(longer, 'x', sizeof longer);
    longer[sizeof longer - 1] = '\0';
    for (unsigned i = 0; i < 3 * LIFECYCLE_PARTS_MAX; i++)
        lifecycle_error_add(&error, "p", "start", ERR_LOCKED, longer);
    assert_int_equal(error.failure_count, 2 * LIFECYCLE_PARTS_MAX);
    /* Those that were logged before aren't again. */
    lifecycle_error_log(&error, LIFECYCLE_PARTS_MAX, &lines.logger);
    size_t line = strlen("could not start p cause=\"\"\n") + LIFECYCLE_TEXT_BYTES - 1;
    assert_int_equal(lines.text.size, LIFECYCLE_PARTS_MAX * line);
    buffer_free(&lines.text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_start_in_order_and_stop_in_reverse),
        cmocka_unit_test(a_part_without_a_stop_is_passed_over),
        cmocka_unit_test(it_starts_again_after_it_stopped),
        cmocka_unit_test(a_long_text_is_cut_and_too_many_failures_are_dropped),
    };
    return cmocka_run_group_tests_name("lifecycle", tests, NULL, NULL);
}
