/*
 * text.h - short texts in arrays of a fixed size. Used inside storage/ only.
 */
#ifndef CORACLE_STORAGE_TEXT_H
#define CORACLE_STORAGE_TEXT_H

#include "base/bytes.h"

/* printf-style; cut to fit, and ended with a zero. */
static inline void text_format(char *out, size_t out_size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static inline void text_format(char *out, size_t out_size, const char *format, ...)
{
    struct buffer buffer = {0};
    va_list arguments;
    va_start(arguments, format);
    buffer_append_vformat(&buffer, format, arguments);
    va_end(arguments);
    size_t size = buffer.size < out_size - 1 ? buffer.size : out_size - 1;
    if (size > 0) memcpy(out, buffer.data, size);
    out[size] = '\0';
    buffer_free(&buffer);
}

#endif
