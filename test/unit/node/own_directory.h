/*
 * own_directory.h - a directory of the test program's own, which is its working directory while it runs.
 */
#ifndef CORACLE_TEST_UNIT_NODE_OWN_DIRECTORY_H
#define CORACLE_TEST_UNIT_NODE_OWN_DIRECTORY_H

/* The group's setup and teardown. */
int own_directory_enter(void **state);
int own_directory_leave(void **state);

/* Writes a file in it, or over one. */
void own_directory_write(const char *name, const char *text);

#endif
