#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void check_failed(const char *condition, const char *file, int line)
{
    fprintf(stderr, "coracle: check failed at %s:%d: %s\n", file, line, condition);
    fflush(stderr);
    abort();
}
