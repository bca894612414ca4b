/*
 * text.h - short texts in arrays of a fixed size, built with a buffer. Used inside storage/ only.
 */
#ifndef CORACLE_STORAGE_TEXT_H
#define CORACLE_STORAGE_TEXT_H

#include "base/bytes.h"

/* Copies what the buffer holds, cut to fit and ended with a zero, and frees it. */
static inline void text_take(struct buffer *buffer, char *out, size_t out_size)
{
    size_t size = buffer->size < out_size - 1 ? buffer->size : out_size - 1;
    if (size > 0) memcpy(out, buffer->data, size);
    out[size] = '\0';
    buffer_free(buffer);
}

#define TEXT_FORMAT(out, out_size, ...)                                                                                \
    do {                                                                                                               \
        struct buffer text_ = {0};                                                                                     \
        buffer_append_format(&text_, __VA_ARGS__);                                                                     \
        text_take(&text_, (out), (out_size));                                                                          \
    } while (0)

#endif
