#define _GNU_SOURCE 1
#include "os/huge_pages.h"

#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#define TUNABLES "GLIBC_TUNABLES"

void os_prefer_huge_pages(char **arguments)
{
    if (getenv(TUNABLES) != NULL) return;
    char program[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length <= 0) return;
    program[length] = 0;
    if (setenv(TUNABLES, "glibc.malloc.hugetlb=1", 1) != 0) return;
    execv(program, arguments);
    unsetenv(TUNABLES);
}
