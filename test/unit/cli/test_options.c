/*
 * The flags of commands: both ways of writing them, every mistake at once, and help that shows the defaults.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "base/types.h"
#include "cli/options.h"

struct values {
    const char *text;
    uint64_t number, size;
    bool on;
};

struct reading {
    struct values values;
    const char *positional[2];
    size_t positional_count;
    struct buffer problems, help;
    enum options_outcome outcome;
};

/* Reads the words of `line`, which are separated by single spaces ("''" is an empty one). */
static void read_line(struct reading *reading, const char *line, size_t positional_min)
{
    char text[256];
    char *words[32];
    int count = 0;
    snprintf(text, sizeof text, "%s", line);
    for (char *word = strtok(text, " "); word != NULL; word = strtok(NULL, " ")) {
        if (strcmp(word, "''") == 0) word[0] = '\0';
        words[count++] = word;
    }
    *reading = (struct reading){.values = {.text = "before", .number = 5, .size = 1024}};
    const struct option_row rows[] = {
        {"text", OPTION_TEXT, &reading->values.text, "WORD", "A text.", 0, 0},
        {"number", OPTION_NUMBER, &reading->values.number, "N", "A number.", 1, 10},
        {"size", OPTION_SIZE, &reading->values.size, "BYTES", "A size.", 16, 0},
        {"on", OPTION_SWITCH, &reading->values.on, NULL, "A switch.", 0, 0},
    };
    const struct option_table table = {
        .usage = "coracle test A [B]",
        .description = "Tests.\n",
        .examples = "  coracle test x\n",
        .rows = rows,
        .row_count = ARRAY_COUNT(rows),
        .positional_min = positional_min,
        .positional_max = 2,
    };
    reading->outcome = options_read(&table, count, words, reading->positional, &reading->positional_count,
                                    &reading->problems, &reading->help);
    /* A text is borrowed from the words, which end here. */
    static char kept[64];
    snprintf(kept, sizeof kept, "%s", reading->values.text);
    reading->values.text = kept;
    buffer_append_byte(&reading->problems, '\0');
    buffer_append_byte(&reading->help, '\0');
}

static void release(struct reading *reading)
{
    buffer_free(&reading->problems);
    buffer_free(&reading->help);
}

static void flags_may_stand_anywhere_and_in_both_ways(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "--text=t --number=7 --size=2MiB --on a b",
        "a --text t --number 7 --size 2MiB b --on",
        "--on=true a b --size 2097152 --number=07 --text t",
        "--number=1 --number=7 --text=x --text=t --size=2048KiB --on=false --on a b",
    };
    for (size_t i = 0; i < ARRAY_COUNT(lines); i++) {
        struct reading reading;
        read_line(&reading, lines[i], 1);
        assert_string_equal((char *)reading.problems.data, "");
        assert_int_equal(reading.outcome, OPTIONS_OK);
        assert_string_equal(reading.values.text, "t");
        assert_int_equal(reading.values.number, 7);
        assert_int_equal(reading.values.size, 2 * 1024 * 1024);
        assert_true(reading.values.on);
        assert_int_equal(reading.positional_count, 2);
        release(&reading);
    }
}

static void defaults_stay(void **state)
{
    (void)state;
    struct reading reading;
    read_line(&reading, "", 0);
    assert_int_equal(reading.outcome, OPTIONS_OK);
    assert_string_equal(reading.values.text, "before");
    assert_int_equal(reading.values.number, 5);
    assert_int_equal(reading.values.size, 1024);
    assert_false(reading.values.on);
    assert_int_equal(reading.positional_count, 0);
    release(&reading);
}

static void after_two_dashes_nothing_is_a_flag(void **state)
{
    (void)state;
    struct reading reading;
    read_line(&reading, "--on -- --text --help", 1);
    assert_int_equal(reading.outcome, OPTIONS_OK);
    assert_true(reading.values.on);
    assert_int_equal(reading.positional_count, 2);
    release(&reading);
    /* A single dash is no flag; values may begin with one. */
    read_line(&reading, "- -5", 1);
    assert_int_equal(reading.positional_count, 2);
    release(&reading);
}

static void mistakes_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *line, *problems;
    } cases[] = {
        {"a --nope", "--nope: there is no such flag; --help lists them\n"},
        {"a --nope=3", "--nope: there is no such flag; --help lists them\n"},
        {"a --tex=3", "--tex: there is no such flag; did you mean --text?\n"},
        {"a --text", "--text: has no value; write --text=WORD\n"},
        {"a --number=0", "--number: is out of range (0); give 1 to 10\n"},
        {"a --number=11", "--number: is out of range (11); give 1 to 10\n"},
        {"a --number=x", "--number: is not a whole number (\"x\"); give digits only\n"},
        {"a --number=", "--number: is not a whole number (\"\"); give digits only\n"},
        {"a --number=-1", "--number: is not a whole number (\"-1\"); give digits only\n"},
        {"a --number=2KiB", "--number: is not a whole number (\"2KiB\"); give digits only\n"},
        {"a --number=18446744073709551616",
         "--number: is not a whole number (\"18446744073709551616\"); give digits only\n"},
        {"a --size=1", "--size: is out of range (1); give 16 or more\n"},
        {"a --size=1MB", "--size: is not a whole number (\"1MB\"); give bytes, or KiB, MiB, GiB\n"},
        {"a --size=99999999999999GiB",
         "--size: is not a whole number (\"99999999999999GiB\"); give bytes, or KiB, MiB, GiB\n"},
        {"a --on=maybe", "--on: is neither true nor false (\"maybe\"); leave the value out\n"},
        {"", "arguments: there are too few; usage: coracle test A [B]\n"},
        {"a b c", "arguments: there is one too many (\"c\"); usage: coracle test A [B]\n"},
        {"--nope --number=0",
         "--nope: there is no such flag; --help lists them\n--number: is out of range (0); give 1 to 10\n"
         "arguments: there are too few; usage: coracle test A [B]\n"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct reading reading;
        read_line(&reading, cases[i].line, 1);
        assert_int_equal(reading.outcome, OPTIONS_BAD);
        assert_string_equal((char *)reading.problems.data, cases[i].problems);
        release(&reading);
    }
}

static void help_comes_whatever_else_is_there(void **state)
{
    (void)state;
    static const char *const lines[] = {"--help", "-h", "--nope --number=99 --help", "a b c -h"};
    for (size_t i = 0; i < ARRAY_COUNT(lines); i++) {
        struct reading reading;
        read_line(&reading, lines[i], 1);
        assert_int_equal(reading.outcome, OPTIONS_HELP);
        assert_string_equal((char *)reading.problems.data, "");
        assert_string_equal((char *)reading.help.data, "Usage: coracle test A [B]\n"
                                                       "\n"
                                                       "Tests.\n"
                                                       "\n"
                                                       "Flags:\n"
                                                       "  --text=WORD   [before]\n"
                                                       "      A text.\n"
                                                       "  --number=N   [5]\n"
                                                       "      A number.\n"
                                                       "  --size=BYTES   [1024]\n"
                                                       "      A size.\n"
                                                       "  --on\n"
                                                       "      A switch.\n"
                                                       "\n"
                                                       "Examples:\n"
                                                       "  coracle test x\n");
        release(&reading);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flags_may_stand_anywhere_and_in_both_ways), cmocka_unit_test(defaults_stay),
        cmocka_unit_test(after_two_dashes_nothing_is_a_flag),        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(help_comes_whatever_else_is_there),
    };
    return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
