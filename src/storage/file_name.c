#include "storage/file_name.h"

#include <string.h>

static const char digits[] = "0123456789abcdef";

void file_name_encode(const char *prefix, uint64_t number, const char *suffix, char *out)
{
    size_t prefix_bytes = strlen(prefix);
    memcpy(out, prefix, prefix_bytes);
    char *at = out + prefix_bytes;
    for (int i = 0; i < FILE_NAME_DIGITS; i++) *at++ = digits[number >> (60 - 4 * i) & 0xf];
    memcpy(at, suffix, strlen(suffix) + 1);
}

bool file_name_parse(const char *prefix, const char *suffix, const char *name, uint64_t *number)
{
    size_t prefix_bytes = strlen(prefix);
    if (strncmp(name, prefix, prefix_bytes) != 0) return false;
    const char *at = name + prefix_bytes;
    uint64_t value = 0;
    for (int i = 0; i < FILE_NAME_DIGITS; i++, at++) {
        const char *digit = *at == '\0' ? NULL : strchr(digits, *at);
        if (digit == NULL) return false;
        value = value << 4 | (uint64_t)(digit - digits);
    }
    if (strcmp(at, suffix) != 0) return false;
    *number = value;
    return true;
}
