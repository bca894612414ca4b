#include "base/crc32c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"

/* RFC 3720 appendix B.4, and the check value that catalogues of CRCs give. */
static void known_values(void **state)
{
    (void)state;
    uint8_t data[32];
    uint32_t (*const both[])(uint32_t, const void *, size_t) = {crc32c, crc32c_portable};
    for (int i = 0; i < 2; i++) {
        memset(data, 0, sizeof data);
        assert_true(both[i](0, data, 32) == 0x8a9136aa);
        memset(data, 0xff, sizeof data);
        assert_true(both[i](0, data, 32) == 0x62a8ab43);
        for (int k = 0; k < 32; k++) data[k] = (uint8_t)k;
        assert_true(both[i](0, data, 32) == 0x46dd794e);
        for (int k = 0; k < 32; k++) data[k] = (uint8_t)(31 - k);
        assert_true(both[i](0, data, 32) == 0x113fdb5c);
        assert_true(both[i](0, "123456789", 9) == 0xe3069283);
        assert_true(both[i](0, NULL, 0) == 0);
        assert_true(both[i](0x12345678, NULL, 0) == 0x12345678);
    }
}

/* The definition, bit by bit. */
static uint32_t by_definition(uint32_t seed, const uint8_t *data, size_t size)
{
    uint32_t crc = ~seed;
    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
    }
    return ~crc;
}

static void equals_the_definition_at_every_size_and_alignment(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 1);
    for (size_t shift = 0; shift < 8; shift++) {
        for (size_t size = 0; size < 100; size++) {
            uint8_t *memory = malloc(shift + size + 1);
            for (size_t i = 0; i < shift + size; i++) memory[i] = (uint8_t)random_u64(&random);
            uint32_t seed = (uint32_t)random_u64(&random);
            uint32_t expected = by_definition(seed, memory + shift, size);
            assert_true(crc32c(seed, memory + shift, size) == expected);
            assert_true(crc32c_portable(seed, memory + shift, size) == expected);
            free(memory);
        }
    }
}

static void continues_at_every_split(void **state)
{
    (void)state;
    uint8_t data[257];
    struct random random;
    random_seed(&random, 2);
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)random_u64(&random);
    uint32_t whole = crc32c(0, data, sizeof data);
    for (size_t split = 0; split <= sizeof data; split++) {
        assert_true(crc32c(crc32c(0, data, split), data + split, sizeof data - split) == whole);
    }
}

static void every_flipped_bit_shows(void **state)
{
    (void)state;
    uint8_t data[64] = {0};
    uint32_t whole = crc32c(0, data, sizeof data);
    for (size_t bit = 0; bit < sizeof data * 8; bit++) {
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_true(crc32c(0, data, sizeof data) != whole);
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_values),
        cmocka_unit_test(equals_the_definition_at_every_size_and_alignment),
        cmocka_unit_test(continues_at_every_split),
        cmocka_unit_test(every_flipped_bit_shows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
