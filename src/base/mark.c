#include "base/mark.h"

#ifdef CORACLE_SIMULATION

uint64_t mark_counts[MARK_COUNT];

static const struct {
    const char *name, *text;
} rows[] = {
#define MARK_ROW(name, text) {#name, text},
    MARKS(MARK_ROW)
#undef MARK_ROW
};

bool mark_is_built(void)
{
    return true;
}

const char *mark_name(enum mark mark)
{
    return rows[mark].name;
}

const char *mark_text(enum mark mark)
{
    return rows[mark].text;
}

uint64_t mark_count(enum mark mark)
{
    return mark_counts[mark];
}

void mark_reset(void)
{
    for (unsigned i = 0; i < MARK_COUNT; i++) mark_counts[i] = 0;
}

#else

bool mark_is_built(void)
{
    return false;
}

const char *mark_name(enum mark mark)
{
    (void)mark;
    return "";
}

const char *mark_text(enum mark mark)
{
    (void)mark;
    return "";
}

uint64_t mark_count(enum mark mark)
{
    (void)mark;
    return 0;
}

void mark_reset(void)
{
}

#endif
