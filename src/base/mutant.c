#include "base/mutant.h"

#ifdef CORACLE_SIMULATION

#include <string.h>

enum mutant mutant_switched_on;

static const struct {
    const char *name, *text;
} rows[] = {{"NONE", "no bug"},
#define MUTANT_ROW(name, text) {#name, text},
            MUTANTS(MUTANT_ROW)
#undef MUTANT_ROW
};

bool mutant_is_built(void)
{
    return true;
}

enum mutant mutant_find(const char *name)
{
    for (unsigned i = 1; i < MUTANT_COUNT; i++) {
        if (strcmp(rows[i].name, name) == 0) return (enum mutant)i;
    }
    return MUTANT_NONE;
}

const char *mutant_name(enum mutant mutant)
{
    return rows[mutant].name;
}

const char *mutant_text(enum mutant mutant)
{
    return rows[mutant].text;
}

void mutant_switch_on(enum mutant mutant)
{
    mutant_switched_on = mutant;
}

#else

bool mutant_is_built(void)
{
    return false;
}

enum mutant mutant_find(const char *name)
{
    (void)name;
    return MUTANT_NONE;
}

const char *mutant_name(enum mutant mutant)
{
    (void)mutant;
    return "";
}

const char *mutant_text(enum mutant mutant)
{
    (void)mutant;
    return "";
}

void mutant_switch_on(enum mutant mutant)
{
    (void)mutant;
}

#endif
