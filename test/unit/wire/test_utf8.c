#include "wire/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/random.h"

struct sample {
    const char *bytes;
    size_t size;
    bool valid;
};
#define GOOD(text)                                                                                                     \
    {                                                                                                                  \
        text, sizeof(text) - 1, true                                                                                   \
    }
#define BAD(text)                                                                                                      \
    {                                                                                                                  \
        text, sizeof(text) - 1, false                                                                                  \
    }

static const struct sample samples[] = {
    GOOD(""),
    GOOD("a"),
    GOOD("\0"),
    GOOD("\x7f"),
    GOOD("plain ASCII, longer than a word of eight bytes"),
    GOOD("\xc2\x80"),         /* U+0080, the first of two bytes */
    GOOD("\xdf\xbf"),         /* U+07FF, the last of two */
    GOOD("\xe0\xa0\x80"),     /* U+0800 */
    GOOD("\xed\x9f\xbf"),     /* U+D7FF, before the surrogates */
    GOOD("\xee\x80\x80"),     /* U+E000, after them */
    GOOD("\xef\xbf\xbf"),     /* U+FFFF */
    GOOD("\xf0\x90\x80\x80"), /* U+10000 */
    GOOD("\xf4\x8f\xbf\xbf"), /* U+10FFFF */
    GOOD("12345678\xc3\xa4"
         "12345678"),
    BAD("\x80"), /* a continuation alone */
    BAD("\xbf"),
    BAD("\xc0\x80"), /* overlong NUL */
    BAD("\xc1\xbf"),
    BAD("\xc2"), /* cut */
    BAD("\xc2\x41"),
    BAD("\xc2\xc2"),
    BAD("\xe0\x9f\xbf"), /* overlong U+07FF */
    BAD("\xe0\xa0"),
    BAD("\xed\xa0\x80"), /* U+D800 */
    BAD("\xed\xbf\xbf"), /* U+DFFF */
    BAD("\xe1\x80\x41"),
    BAD("\xf0\x8f\xbf\xbf"), /* overlong U+FFFF */
    BAD("\xf0\x90\x80"),
    BAD("\xf4\x90\x80\x80"), /* U+110000 */
    BAD("\xf5\x80\x80\x80"),
    BAD("\xff"),
    BAD("\xfe"),
    BAD("12345678\xff"
        "12345678"),
    BAD("1234567\xc3"),
};

static void test_samples(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        bool valid = utf8_valid(bytes_of(samples[i].bytes, samples[i].size));
        if (valid != samples[i].valid) fail_msg("sample %zu: %d", i, valid);
    }
}

static size_t encode(uint32_t code, uint8_t *out)
{
    if (code < 0x80) {
        out[0] = (uint8_t)code;
        return 1;
    }
    size_t size = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const uint8_t marks[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = size - 1; i > 0; i--, code >>= 6) out[i] = (uint8_t)(0x80 | (code & 63));
    out[0] = (uint8_t)(marks[size] | code);
    return size;
}

/* Every code point, and for each what is left when its last byte is missing. */
static void test_all_code_points(void **state)
{
    (void)state;
    for (uint32_t code = 0; code <= 0x110000; code++) {
        uint8_t text[4];
        size_t size = encode(code, text);
        bool valid = code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
        if (utf8_character_bytes(bytes_of(text, size)) != (valid ? size : 0)) fail_msg("U+%04X", code);
        if (size > 1 && utf8_character_bytes(bytes_of(text, size - 1)) != 0) fail_msg("U+%04X cut", code);
    }
}

/* The other way round: whatever is taken for one character decodes to a code point whose encoding it is. */
static void test_all_triples(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 1u << 24; bits++) {
        uint8_t text[3] = {(uint8_t)(bits >> 16), (uint8_t)(bits >> 8), (uint8_t)bits};
        size_t size = utf8_character_bytes(bytes_of(text, 3));
        if (size < 2) continue;
        uint32_t code = size == 2 ? (uint32_t)(text[0] & 31) << 6 | (text[1] & 63u)
                                  : (uint32_t)(text[0] & 15) << 12 | (uint32_t)(text[1] & 63) << 6 | (text[2] & 63u);
        uint8_t again[4];
        if (encode(code, again) != size || memcmp(again, text, size) != 0) fail_msg("%06x", bits);
    }
}

/* A text is valid when it is nothing but valid characters: the word-wise way must agree with this. */
static void test_random_texts(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 1);
    size_t valid_count = 0;
    for (int round = 0; round < 20000; round++) {
        uint8_t text[64];
        size_t size = 0;
        while (size < 48)
            size += encode((uint32_t)random_below(&random, random_chance(&random, 500) ? 128 : 0xd800), text + size);
        if (random_chance(&random, 500)) text[random_below(&random, size)] = (uint8_t)random_u64(&random);
        bool expected = true;
        for (size_t at = 0; at < size && expected;) {
            size_t step = utf8_character_bytes(bytes_of(text + at, size - at));
            expected = step > 0;
            at += step;
        }
        assert_int_equal(utf8_valid(bytes_of(text, size)), expected);
        valid_count += expected;
    }
    assert_in_range(valid_count, 10000, 19000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_samples),
        cmocka_unit_test(test_all_code_points),
        cmocka_unit_test(test_all_triples),
        cmocka_unit_test(test_random_texts),
    };
    return cmocka_run_group_tests_name("utf8", tests, NULL, NULL);
}
