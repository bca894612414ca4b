/*
 * file_name.h - names of numbered files: a prefix, 16 hex digits, a suffix. Used inside storage/ only.
 */
#ifndef CORACLE_STORAGE_FILE_NAME_H
#define CORACLE_STORAGE_FILE_NAME_H

#include <stdbool.h>
#include <stdint.h>

#define FILE_NAME_DIGITS 16

/* `out` has room for all three and a zero. */
void file_name_encode(const char *prefix, uint64_t number, const char *suffix, char *out);
/* True for exactly what file_name_encode makes: no other spelling of a number is taken for it. */
bool file_name_parse(const char *prefix, const char *suffix, const char *name, uint64_t *number);

#endif
