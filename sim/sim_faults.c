#include "sim/sim_faults.h"

#include <stdio.h>
#include <string.h>

struct row {
    const char *name;
    const char *text;
    enum sim_fault_group group;
};

#define ROW(name, word, group, text) {word, text, SIM_FAULTS_##group},
static const struct row rows[] = {SIM_FAULTS(ROW)};
#undef ROW
#define GROUP_NAME(name, word) word,
static const char *const group_names[] = {SIM_FAULT_GROUPS(GROUP_NAME)};
#undef GROUP_NAME

const char *sim_fault_name(enum sim_fault fault)
{
    return rows[fault].name;
}

const char *sim_fault_text(enum sim_fault fault)
{
    return rows[fault].text;
}

enum sim_fault_group sim_fault_group(enum sim_fault fault)
{
    return rows[fault].group;
}

const char *sim_fault_group_name(enum sim_fault_group group)
{
    return group_names[group];
}

sim_fault_set sim_fault_group_set(enum sim_fault_group group)
{
    sim_fault_set set = 0;
    for (unsigned fault = 0; fault < SIM_FAULT_COUNT; fault++) {
        if (rows[fault].group == group) set |= (sim_fault_set)1 << fault;
    }
    return set;
}

static bool is_word(const char *text, size_t size, const char *word)
{
    return strlen(word) == size && memcmp(text, word, size) == 0;
}

static bool find_set(const char *text, size_t size, sim_fault_set *out)
{
    if (is_word(text, size, "all") || is_word(text, size, "none")) {
        *out = text[0] == 'a' ? SIM_FAULTS_ALL : 0;
        return true;
    }
    for (unsigned group = 0; group < SIM_FAULT_GROUP_COUNT; group++) {
        if (!is_word(text, size, group_names[group])) continue;
        *out = sim_fault_group_set((enum sim_fault_group)group);
        return true;
    }
    for (unsigned fault = 0; fault < SIM_FAULT_COUNT; fault++) {
        if (!is_word(text, size, rows[fault].name)) continue;
        *out = (sim_fault_set)1 << fault;
        return true;
    }
    return false;
}

bool sim_faults_parse(const char *text, sim_fault_set *out, char *unknown, size_t unknown_bytes)
{
    sim_fault_set set = text[0] == '-' ? SIM_FAULTS_ALL : 0;
    for (const char *at = text;;) {
        size_t size = strcspn(at, ",");
        bool minus = at[0] == '-';
        sim_fault_set one;
        if (!find_set(at + minus, size - minus, &one)) {
            snprintf(unknown, unknown_bytes, "%.*s", (int)(size < unknown_bytes ? size : unknown_bytes), at);
            return false;
        }
        set = minus ? set & ~one : set | one;
        if (at[size] == 0) break;
        at += size + 1;
    }
    *out = set;
    return true;
}
