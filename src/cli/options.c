#include "cli/options.h"

#include "cli/cli.h"
#include "node/settings.h"

static const struct option_row *find_row(const struct option_table *table, const char *name, size_t size)
{
    for (size_t i = 0; i < table->row_count; i++) {
        if (strlen(table->rows[i].name) == size && memcmp(table->rows[i].name, name, size) == 0) return &table->rows[i];
    }
    return NULL;
}

/* The flag that was probably meant, or NULL. */
static const char *nearest_flag(const struct option_table *table, const char *name, size_t size)
{
    const char *nearest = NULL;
    unsigned nearest_distance = settings_slip_max(size) + 1;
    for (size_t i = 0; i < table->row_count; i++) {
        const char *flag = table->rows[i].name;
        unsigned distance = settings_distance(name, size, flag, strlen(flag));
        if (distance >= nearest_distance) continue;
        nearest = flag;
        nearest_distance = distance;
    }
    return nearest;
}

static bool parse_number(const char *text, bool with_unit, uint64_t *out)
{
    static const struct {
        const char *suffix;
        uint64_t factor;
    } units[] = {{"", 1}, {"KiB", 1024}, {"MiB", 1024 * 1024}, {"GiB", 1024 * 1024 * 1024}};
    const char *at = text;
    uint64_t value = 0;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (__builtin_mul_overflow(value, 10u, &value)) return false;
        if (__builtin_add_overflow(value, (uint64_t)(*at - '0'), &value)) return false;
    }
    if (at == text) return false;
    for (size_t i = 0; i < (with_unit ? sizeof units / sizeof units[0] : 1); i++) {
        if (strcmp(at, units[i].suffix) == 0) return !__builtin_mul_overflow(value, units[i].factor, out);
    }
    return false;
}

static void set_number(const struct option_row *row, const char *text, struct buffer *problems)
{
    uint64_t value;
    bool size = row->kind == OPTION_SIZE;
    if (!parse_number(text, size, &value)) {
        buffer_append_format(problems, "--%s: is not a whole number (\"%s\"); give %s\n", row->name, text,
                             size ? "bytes, or KiB, MiB, GiB" : "digits only");
    } else if (value < row->low || (row->high != 0 && value > row->high)) {
        buffer_append_format(problems, "--%s: is out of range (%s); give %llu", row->name, text,
                             (unsigned long long)row->low);
        if (row->high != 0) {
            buffer_append_format(problems, " to %llu\n", (unsigned long long)row->high);
        } else {
            buffer_append_string(problems, " or more\n");
        }
    } else {
        *(uint64_t *)row->value = value;
    }
}

static void set_switch(const struct option_row *row, const char *text, struct buffer *problems)
{
    if (text == NULL || strcmp(text, "true") == 0) {
        *(bool *)row->value = true;
    } else if (strcmp(text, "false") == 0) {
        *(bool *)row->value = false;
    } else {
        buffer_append_format(problems, "--%s: is neither true nor false (\"%s\"); leave the value out\n", row->name,
                             text);
    }
}

/* Reads the flag at arguments[*i]; *i moves on when its value is the next argument. */
static void read_flag(const struct option_table *table, int count, char **arguments, int *i, struct buffer *problems)
{
    const char *name = arguments[*i] + 2;
    const char *equals = strchr(name, '=');
    size_t size = equals != NULL ? (size_t)(equals - name) : strlen(name);
    const char *value = equals != NULL ? equals + 1 : NULL;
    const struct option_row *row = find_row(table, name, size);
    if (row == NULL) {
        const char *nearest = nearest_flag(table, name, size);
        buffer_append_format(problems, "--%.*s: there is no such flag; ", (int)size, name);
        if (nearest != NULL) {
            buffer_append_format(problems, "did you mean --%s?\n", nearest);
        } else {
            buffer_append_string(problems, "--help lists them\n");
        }
        return;
    }
    if (row->kind == OPTION_SWITCH) {
        set_switch(row, value, problems);
        return;
    }
    if (value == NULL && *i + 1 < count) value = arguments[++*i];
    if (value == NULL) {
        buffer_append_format(problems, "--%s: has no value; write --%s=%s\n", row->name, row->name, row->placeholder);
    } else if (row->kind == OPTION_TEXT) {
        *(const char **)row->value = value;
    } else {
        set_number(row, value, problems);
    }
}

static void append_default(const struct option_row *row, struct buffer *out)
{
    if (row->kind == OPTION_TEXT && *(const char **)row->value != NULL) {
        buffer_append_format(out, "   [%s]", *(const char **)row->value);
    } else if (row->kind == OPTION_NUMBER || row->kind == OPTION_SIZE) {
        buffer_append_format(out, "   [%llu]", (unsigned long long)*(uint64_t *)row->value);
    }
}

static void append_help(const struct option_table *table, struct buffer *out)
{
    buffer_append_format(out, "Usage: %s\n\n", table->usage);
    buffer_append_string(out, table->description);
    if (table->row_count > 0) buffer_append_string(out, "\nFlags:\n");
    for (size_t i = 0; i < table->row_count; i++) {
        const struct option_row *row = &table->rows[i];
        buffer_append_format(out, "  --%s%s%s", row->name, row->placeholder != NULL ? "=" : "",
                             row->placeholder != NULL ? row->placeholder : "");
        append_default(row, out);
        buffer_append_format(out, "\n      %s\n", row->help);
    }
    if (table->environment != NULL) buffer_append_format(out, "\n%s", table->environment);
    if (table->examples != NULL) buffer_append_format(out, "\nExamples:\n%s", table->examples);
}

enum options_outcome options_read(const struct option_table *table, int argument_count, char **arguments,
                                  const char **positional, size_t *positional_count, struct buffer *problems,
                                  struct buffer *help)
{
    size_t problems_before = problems->size;
    bool flags_ended = false;
    *positional_count = 0;
    /* First, so that it shows the defaults and not what other flags say. */
    for (int i = 0; i < argument_count && strcmp(arguments[i], "--") != 0; i++) {
        if (strcmp(arguments[i], "--help") != 0 && strcmp(arguments[i], "-h") != 0) continue;
        append_help(table, help);
        return OPTIONS_HELP;
    }
    for (int i = 0; i < argument_count; i++) {
        const char *argument = arguments[i];
        if (!flags_ended && strcmp(argument, "--") == 0) {
            flags_ended = true;
        } else if (!flags_ended && strncmp(argument, "--", 2) == 0) {
            read_flag(table, argument_count, arguments, &i, problems);
        } else if (*positional_count < table->positional_max) {
            positional[(*positional_count)++] = argument;
        } else {
            buffer_append_format(problems, "arguments: there is one too many (\"%s\"); usage: %s\n", argument,
                                 table->usage);
        }
    }
    if (*positional_count < table->positional_min) {
        buffer_append_format(problems, "arguments: there are too few; usage: %s\n", table->usage);
    }
    return problems->size == problems_before ? OPTIONS_OK : OPTIONS_BAD;
}

enum options_outcome options_parse(const struct option_table *table, int argument_count, char **arguments,
                                   const char **positional, size_t *positional_count)
{
    struct buffer problems = {0};
    struct buffer help = {0};
    enum options_outcome outcome =
        options_read(table, argument_count, arguments, positional, positional_count, &problems, &help);
    cli_print(buffer_bytes(&help));
    cli_print_error(buffer_bytes(&problems));
    buffer_free(&problems);
    buffer_free(&help);
    return outcome;
}

int options_exit_code(enum options_outcome outcome)
{
    return outcome == OPTIONS_BAD ? CLI_USAGE : CLI_OK;
}
