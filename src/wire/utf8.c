#include "wire/utf8.h"

#define HIGH_BITS 0x8080808080808080u

static bool is_continuation(uint8_t byte)
{
    return (byte & 0xc0) == 0x80;
}

size_t utf8_character_bytes(struct bytes text)
{
    if (text.size == 0) return 0;
    const uint8_t *at = text.data;
    uint8_t first = at[0];
    if (first < 0x80) return 1;
    if (first < 0xc2 || first > 0xf4) return 0;

    size_t size = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if (text.size < size) return 0;
    for (size_t i = 1; i < size; i++) {
        if (!is_continuation(at[i])) return 0;
    }
    /* The second byte tells overlong forms, surrogates and what is above U+10FFFF from the rest. */
    if (first == 0xe0 && at[1] < 0xa0) return 0;
    if (first == 0xed && at[1] > 0x9f) return 0;
    if (first == 0xf0 && at[1] < 0x90) return 0;
    if (first == 0xf4 && at[1] > 0x8f) return 0;
    return size;
}

bool utf8_valid(struct bytes text)
{
    size_t at = 0;
    while (at < text.size) {
        if (text.size - at >= 8 && (get_u64(text.data + at) & HIGH_BITS) == 0) {
            at += 8;
            continue;
        }
        size_t size = utf8_character_bytes(bytes_of(text.data + at, text.size - at));
        if (size == 0) return false;
        at += size;
    }
    return true;
}
