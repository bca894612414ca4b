/*
 * utf8.h - is it UTF-8? (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF)
 */
#ifndef CORACLE_WIRE_UTF8_H
#define CORACLE_WIRE_UTF8_H

#include "base/bytes.h"

/* Bytes of the character at the front of `text`, 1 to 4; 0 when it isn't one, or the text is empty. */
size_t utf8_character_bytes(struct bytes text);

bool utf8_valid(struct bytes text);

#endif
