/*
 * main.c - the program's door; all else is in cli.h.
 */
#include "cli/cli.h"

int main(int argument_count, char **arguments)
{
    return cli_run(argument_count, arguments);
}
