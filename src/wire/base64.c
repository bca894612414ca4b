#include "wire/base64.h"

#include "base/check.h"

static const char alphabet[64] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* A digit's value, marked: what is no digit is 0. */
#define MARK 0x40
#define D(value) (MARK | (value))

/* clang-format off */
static const uint8_t digits[256] = {
    ['A'] = D(0), ['B'] = D(1), ['C'] = D(2), ['D'] = D(3), ['E'] = D(4), ['F'] = D(5), ['G'] = D(6), ['H'] = D(7),
    ['I'] = D(8), ['J'] = D(9), ['K'] = D(10), ['L'] = D(11), ['M'] = D(12), ['N'] = D(13), ['O'] = D(14),
    ['P'] = D(15), ['Q'] = D(16), ['R'] = D(17), ['S'] = D(18), ['T'] = D(19), ['U'] = D(20), ['V'] = D(21),
    ['W'] = D(22), ['X'] = D(23), ['Y'] = D(24), ['Z'] = D(25), ['a'] = D(26), ['b'] = D(27), ['c'] = D(28),
    ['d'] = D(29), ['e'] = D(30), ['f'] = D(31), ['g'] = D(32), ['h'] = D(33), ['i'] = D(34), ['j'] = D(35),
    ['k'] = D(36), ['l'] = D(37), ['m'] = D(38), ['n'] = D(39), ['o'] = D(40), ['p'] = D(41), ['q'] = D(42),
    ['r'] = D(43), ['s'] = D(44), ['t'] = D(45), ['u'] = D(46), ['v'] = D(47), ['w'] = D(48), ['x'] = D(49),
    ['y'] = D(50), ['z'] = D(51), ['0'] = D(52), ['1'] = D(53), ['2'] = D(54), ['3'] = D(55), ['4'] = D(56),
    ['5'] = D(57), ['6'] = D(58), ['7'] = D(59), ['8'] = D(60), ['9'] = D(61), ['+'] = D(62), ['/'] = D(63),
};
/* clang-format on */

void base64_encode(struct bytes bytes, struct buffer *out)
{
    size_t encoded = base64_encoded_bytes(bytes.size);
    buffer_reserve(out, encoded);
    uint8_t *to = out->data + out->size;
    const uint8_t *from = bytes.data;
    size_t left = bytes.size;
    for (; left >= 3; left -= 3, from += 3, to += 4) {
        uint32_t group = (uint32_t)from[0] << 16 | (uint32_t)from[1] << 8 | from[2];
        to[0] = (uint8_t)alphabet[group >> 18];
        to[1] = (uint8_t)alphabet[group >> 12 & 63];
        to[2] = (uint8_t)alphabet[group >> 6 & 63];
        to[3] = (uint8_t)alphabet[group & 63];
    }
    if (left > 0) {
        uint32_t group = (uint32_t)from[0] << 16 | (left == 2 ? (uint32_t)from[1] << 8 : 0);
        to[0] = (uint8_t)alphabet[group >> 18];
        to[1] = (uint8_t)alphabet[group >> 12 & 63];
        to[2] = left == 2 ? (uint8_t)alphabet[group >> 6 & 63] : '=';
        to[3] = '=';
    }
    out->size += encoded;
}

static size_t padding_of(struct bytes text)
{
    if (text.size == 0 || text.data[text.size - 1] != '=') return 0;
    return text.data[text.size - 2] == '=' ? 2 : 1;
}

size_t base64_decoded_bytes(struct bytes text)
{
    if (text.size % 4 != 0) return SIZE_MAX;
    return text.size / 4 * 3 - padding_of(text);
}

bool base64_decode(struct bytes text, uint8_t *out)
{
    CHECK(text.size % 4 == 0);
    size_t padding = padding_of(text);
    const uint8_t *from = text.data;
    size_t whole = text.size / 4 - (padding > 0 ? 1 : 0);
    uint8_t marks = MARK; /* gone as soon as one digit hasn't it */
    for (size_t i = 0; i < whole; i++, from += 4, out += 3) {
        uint8_t a = digits[from[0]], b = digits[from[1]], c = digits[from[2]], d = digits[from[3]];
        marks &= a & b & c & d;
        out[0] = (uint8_t)(a << 2 | (b & 63) >> 4);
        out[1] = (uint8_t)(b << 4 | (c & 63) >> 2);
        out[2] = (uint8_t)(c << 6 | (d & 63));
    }
    if (padding > 0) {
        uint8_t a = digits[from[0]], b = digits[from[1]], c = padding == 1 ? digits[from[2]] : MARK;
        uint8_t unused = padding == 1 ? c & 3 : b & 15;
        if (unused != 0) return false;
        marks &= a & b & c;
        out[0] = (uint8_t)(a << 2 | (b & 63) >> 4);
        if (padding == 1) out[1] = (uint8_t)(b << 4 | (c & 63) >> 2);
    }
    return marks != 0;
}

/* A digit of either alphabet, with its mark; 0 when it is none of `url_safe`'s. */
static uint8_t digit_of(uint8_t character, bool url_safe)
{
    if (url_safe) {
        if (character == '-') return digits['+'];
        if (character == '_') return digits['/'];
        if (character == '+' || character == '/') return 0;
    }
    return digits[character];
}

bool base64_decode_any(struct bytes text, struct buffer *out)
{
    bool url_safe =
        text.size > 0 && (memchr(text.data, '-', text.size) != NULL || memchr(text.data, '_', text.size) != NULL);
    bool padded = text.size % 4 == 0;
    size_t begin = out->size;
    buffer_reserve(out, text.size / 4 * 3 + 3);
    uint8_t *to = out->data + begin;
    uint32_t group = 0;
    size_t count = 0; /* digits in this group of four */
    size_t padding = 0;
    for (size_t i = 0; i < text.size; i++) {
        uint8_t character = text.data[i];
        if (character == '\r' || character == '\n') continue;
        if (character == '=' && padded) {
            /* Only as the third and fourth of a group, and nothing after it. */
            padding++;
            if (count < 2 || count + padding > 4) return false;
            continue;
        }
        uint8_t digit = digit_of(character, url_safe);
        if (digit == 0 || padding > 0) return false;
        group = group << 6 | (digit & 63);
        if (++count < 4) continue;
        *to++ = (uint8_t)(group >> 16);
        *to++ = (uint8_t)(group >> 8);
        *to++ = (uint8_t)group;
        count = 0;
    }
    if (padded ? count > 0 && count + padding != 4 : count == 1) return false;
    if (count == 2) {
        *to++ = (uint8_t)(group >> 4);
    } else if (count == 3) {
        *to++ = (uint8_t)(group >> 10);
        *to++ = (uint8_t)(group >> 2);
    }
    out->size = (size_t)(to - out->data);
    return true;
}
