/*
 * base64.h - RFC 4648 §4: the standard alphabet, padded.
 *
 * Decoding is strict, so that each byte string has exactly one text: no white space, padding required, and
 * the bits that the last character doesn't use must be zero. base64_decode_any takes what others write, too.
 */
#ifndef CORACLE_WIRE_BASE64_H
#define CORACLE_WIRE_BASE64_H

#include "base/bytes.h"

static inline size_t base64_encoded_bytes(size_t size)
{
    return (size + 2) / 3 * 4;
}

void base64_encode(struct bytes bytes, struct buffer *out);

/* How many bytes `text` stands for, by its length and padding; SIZE_MAX when these can't be right. */
size_t base64_decoded_bytes(struct bytes text);

/* Writes base64_decoded_bytes(text) bytes, which must not be SIZE_MAX, to `out`. False when the text is bad; then what
   was written means nothing. */
bool base64_decode(struct bytes text, uint8_t *out);

/*
 * As protojson decodes, more slowly: the URL-safe alphabet when there is a '-' or '_'; no padding when the length isn't a
 * multiple of four; line ends are skipped, and the last character's unused bits may be anything. Appends to `out`. False
 * when the text is bad; then `out` is as it was.
 */
bool base64_decode_any(struct bytes text, struct buffer *out);

#endif
