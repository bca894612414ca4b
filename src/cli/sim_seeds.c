#include "cli/sim_seeds.h"

#include <stdlib.h>

#include "base/mem.h"

#define HEAD "coracle-seeds "
#define SECONDS_DEFAULT 60

struct reading {
    const char *file;
    unsigned line;
    struct buffer *problems;
};

__attribute__((format(printf, 2, 3))) static void problem(struct reading *reading, const char *format, ...)
{
    va_list arguments;
    buffer_append_format(reading->problems, "%s:%u: ", reading->file, reading->line);
    va_start(arguments, format);
    buffer_append_vformat(reading->problems, format, arguments);
    va_end(arguments);
    buffer_append_byte(reading->problems, '\n');
}

static bool read_number(struct reading *reading, const char *name, const char *text, uint64_t low, uint64_t high,
                        uint64_t *out)
{
    char *end = NULL;
    if (text[0] >= '0' && text[0] <= '9' && strlen(text) < 20) *out = strtoull(text, &end, 10);
    if (end != NULL && *end == '\0' && *out >= low && *out <= high) return true;
    problem(reading, "%s is no number from %llu to %llu (\"%s\")", name, (unsigned long long)low,
            (unsigned long long)high, text);
    return false;
}

static void read_field(struct reading *reading, const char *name, const char *value, struct sim_seed *seed,
                       bool *has_seed)
{
    struct sim_run_options *run = &seed->run;
    uint64_t number;
    char unknown[64];
    if (strcmp(name, "seed") == 0) {
        *has_seed = read_number(reading, name, value, 0, UINT64_MAX, &run->seed);
    } else if (strcmp(name, "nodes") == 0) {
        if (strcmp(value, "drawn") == 0) return;
        if (read_number(reading, name, value, 1, MEMBERS_MAX, &number)) run->node_count = (unsigned)number;
    } else if (strcmp(name, "load") == 0) {
        if (strcmp(value, "drawn") == 0) return;
        if (read_number(reading, name, value, 0, 1000000, &number)) run->load = (uint32_t)number;
    } else if (strcmp(name, "seconds") == 0 || strcmp(name, "seconds-mean") == 0) {
        run->duration_is_mean = strcmp(name, "seconds-mean") == 0;
        if (read_number(reading, name, value, 0, 100000000, &number)) run->duration = (time_ns)number * TIME_NS_PER_S;
    } else if (strcmp(name, "writes") == 0) {
        read_number(reading, name, value, 0, UINT64_MAX, &run->writes_max);
    } else if (strcmp(name, "defaults") == 0) {
        run->defaults = strcmp(value, "yes") == 0;
        if (!run->defaults && strcmp(value, "no") != 0) problem(reading, "defaults is neither yes nor no");
    } else if (strcmp(name, "faults") == 0) {
        if (!sim_faults_parse(value, &run->faults, unknown, sizeof unknown)) {
            problem(reading, "\"%s\" is no fault and no group of them", unknown);
        }
    } else if (strcmp(name, "mutant") == 0) {
        snprintf(seed->mutant, sizeof seed->mutant, "%s", value);
    } else if (strcmp(name, "commit") == 0) {
        snprintf(seed->commit, sizeof seed->commit, "%s", value);
    } else {
        problem(reading, "there is no field \"%s\"", name);
    }
}

/* `line` is the caller's, and changed. */
static void read_seed(struct reading *reading, char *line, struct sim_seeds *out)
{
    struct sim_seed seed = {
        .run = {.duration = SECONDS_DEFAULT * TIME_NS_PER_S, .load = SIM_LOAD_DRAWN, .faults = SIM_FAULTS_ALL}};
    bool has_seed = false, empty = true;
    char *save = NULL;
    for (char *word = strtok_r(line, " \t\r", &save); word != NULL; word = strtok_r(NULL, " \t\r", &save)) {
        char *equals = strchr(word, '=');
        empty = false;
        if (equals == NULL) {
            problem(reading, "\"%s\" is no field; write name=value", word);
            return;
        }
        *equals = '\0';
        read_field(reading, word, equals + 1, &seed, &has_seed);
    }
    if (empty) return;
    if (!has_seed) problem(reading, "there is no seed");
    if (out->count == out->capacity) {
        out->capacity = out->capacity == 0 ? 16 : out->capacity * 2;
        out->seeds = mem_realloc(out->seeds, out->capacity * sizeof *out->seeds);
    }
    out->seeds[out->count++] = seed;
}

bool sim_seeds_read(struct bytes text, const char *file, struct sim_seeds *out, struct buffer *problems)
{
    struct reading reading = {.file = file, .line = 1, .problems = problems};
    struct buffer copy = {0};
    size_t problems_before = problems->size;
    *out = (struct sim_seeds){0};
    buffer_append(&copy, text.data, text.size);
    buffer_append_byte(&copy, '\0');
    char *line = (char *)copy.data;
    if (strncmp(line, HEAD, strlen(HEAD)) != 0) {
        problem(&reading, "this is no file of seeds: it doesn't begin with \"" HEAD "%d\"", SIM_SEEDS_VERSION);
    } else if (atoi(line + strlen(HEAD)) != SIM_SEEDS_VERSION) {
        problem(&reading, "the format has version %d; this program reads version %d", atoi(line + strlen(HEAD)),
                SIM_SEEDS_VERSION);
    }
    line = problems->size == problems_before ? strchr(line, '\n') : NULL;
    while (line != NULL) {
        char *next = strchr(++line, '\n');
        if (next != NULL) *next = '\0';
        line[strcspn(line, "#")] = '\0';
        reading.line++;
        read_seed(&reading, line, out);
        line = next;
    }
    buffer_free(&copy);
    return problems->size == problems_before;
}

void sim_seeds_free(struct sim_seeds *seeds)
{
    mem_free(seeds->seeds);
    *seeds = (struct sim_seeds){0};
}
