#define _GNU_SOURCE 1
#include "node/own_directory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static char directory[512];

int own_directory_enter(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%s/coracle-node-XXXXXX", base != NULL ? base : P_tmpdir);
    assert_non_null(mkdtemp(directory));
    return chdir(directory);
}

int own_directory_leave(void **state)
{
    (void)state;
    char command[600];
    assert_int_equal(chdir("/"), 0);
    snprintf(command, sizeof command, "rm -rf %s", directory);
    return system(command);
}

void own_directory_write(const char *name, const char *text)
{
    FILE *stream = fopen(name, "w");
    assert_non_null(stream);
    fputs(text, stream);
    fclose(stream);
}
