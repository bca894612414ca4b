#include "base/bytes.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/random.h"

static int sign(int value)
{
    return (value > 0) - (value < 0);
}

static void compare_is_by_unsigned_bytes_and_prefix_first(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        int order;
    } cases[] = {
        {"", "", 0},     {"", "a", -1},        {"a", "a", 0},  {"a", "ab", -1},
        {"ab", "b", -1}, {"\x7f", "\x80", -1}, {"b", "ab", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bytes a = bytes_of_string(cases[i].a), b = bytes_of_string(cases[i].b);
        assert_int_equal(sign(bytes_compare(a, b)), cases[i].order);
        assert_int_equal(sign(bytes_compare(b, a)), -cases[i].order);
        assert_int_equal(bytes_equal(a, b), cases[i].order == 0);
    }
    /* A zero byte is a byte like others, and an empty view needs no address. */
    assert_int_equal(sign(bytes_compare(bytes_of("a\0b", 3), bytes_of("a\0c", 3))), -1);
    assert_int_equal(bytes_compare(bytes_of(NULL, 0), bytes_of("", 0)), 0);
    assert_int_equal(sign(bytes_compare(bytes_of(NULL, 0), bytes_of("", 1))), -1);
    assert_true(bytes_equal(bytes_of(NULL, 0), bytes_of("x", 0)));
}

static void numbers_are_little_endian_at_any_alignment(void **state)
{
    (void)state;
    static const uint8_t expected[] = {0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08};
    for (size_t shift = 0; shift < 8; shift++) {
        uint8_t raw[16] = {0};
        put_u64(raw + shift, 0x0807060504030201u);
        assert_memory_equal(raw + shift, expected, 8);
        assert_true(get_u64(raw + shift) == 0x0807060504030201u);
        assert_int_equal(get_u32(raw + shift), 0x04030201);
        assert_int_equal(get_u16(raw + shift), 0x0201);
        put_u32(raw + shift, 0xfffefdfc);
        assert_int_equal(raw[shift], 0xfc);
        assert_int_equal(raw[shift + 4], 0x05);
        put_u16(raw + shift, 0xabcd);
        assert_int_equal(raw[shift], 0xcd);
        assert_int_equal(raw[shift + 2], 0xfe);
    }
}

/* The buffer against the simplest thing that could hold the same bytes. */
static void random_appends_and_consumes_match_a_model(void **state)
{
    (void)state;
    enum { MODEL_BYTES = 1 << 16 };
    static uint8_t model[MODEL_BYTES];
    size_t model_size = 0;
    struct buffer buffer = {0};
    struct random random;
    random_seed(&random, 42);
    for (int step = 0; step < 20000; step++) {
        uint8_t data[300];
        for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)random_u64(&random);
        size_t size = random_below(&random, sizeof data);
        if (model_size + sizeof data > MODEL_BYTES || random_chance(&random, 400)) {
            size = random_below(&random, model_size + 1);
            buffer_consume(&buffer, size);
            memmove(model, model + size, model_size - size);
            model_size -= size;
        } else if (random_chance(&random, 300)) {
            buffer_append_byte(&buffer, data[0]);
            model[model_size++] = data[0];
        } else {
            buffer_append(&buffer, data, size);
            memcpy(model + model_size, data, size);
            model_size += size;
        }
        assert_int_equal(buffer.size, model_size);
        assert_true(buffer.capacity >= buffer.size);
        assert_true(bytes_equal(buffer_bytes(&buffer), bytes_of(model, model_size)));
    }
    buffer_clear(&buffer);
    assert_int_equal(buffer.size, 0);
    assert_true(buffer.capacity > 0);
    buffer_free(&buffer);
    assert_null(buffer.data);
    assert_int_equal(buffer.capacity, 0);
    buffer_free(&buffer);
}

static void reserve_gives_the_room_and_grows_geometrically(void **state)
{
    (void)state;
    struct buffer buffer = {0};
    buffer_reserve(&buffer, 0);
    buffer_append(&buffer, NULL, 0);
    assert_null(buffer.data);
    buffer_reserve(&buffer, 1000);
    assert_true(buffer.capacity >= 1000);
    uint8_t *before = buffer.data;
    for (int i = 0; i < 1000; i++) buffer_append_byte(&buffer, (uint8_t)i);
    assert_ptr_equal(buffer.data, before);

    int moves = 0;
    for (int i = 0; i < 1000000; i++) {
        size_t capacity = buffer.capacity;
        buffer_append_byte(&buffer, 1);
        moves += buffer.capacity != capacity;
    }
    assert_in_range(moves, 1, 12);
    buffer_free(&buffer);
}

static void format_matches_snprintf_at_every_length(void **state)
{
    (void)state;
    char text[400];
    for (int length = 0; length < (int)sizeof text - 1; length++) {
        memset(text, 'x', sizeof text);
        text[length] = 0;
        /* With and without something in front, so that the room left over varies. */
        for (int front = 0; front < 3; front++) {
            struct buffer buffer = {0};
            for (int i = 0; i < front; i++) buffer_append_byte(&buffer, '-');
            buffer_append_format(&buffer, "%s|%d", text, -length);
            char expected[450];
            int size = snprintf(expected, sizeof expected, "%.*s%s|%d", front, "---", text, -length);
            assert_int_equal(buffer.size, size);
            assert_memory_equal(buffer.data, expected, size);
            buffer_free(&buffer);
        }
    }
}

static void decimals_match_snprintf(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 7);
    struct buffer buffer = {0};
    for (int i = 0; i < 2000; i++) {
        uint64_t number = random_u64(&random) >> random_below(&random, 64);
        if (i == 0) number = 0;
        if (i == 1) number = UINT64_MAX;
        char expected[32];
        int size = snprintf(expected, sizeof expected, "%llu", (unsigned long long)number);
        buffer_clear(&buffer);
        buffer_append_decimal(&buffer, number);
        assert_int_equal(buffer.size, size);
        assert_memory_equal(buffer.data, expected, size);
    }
    buffer_clear(&buffer);
    buffer_append_string(&buffer, "n=");
    buffer_append_decimal(&buffer, 10);
    buffer_append_string(&buffer, "");
    assert_true(bytes_equal(buffer_bytes(&buffer), bytes_of_string("n=10")));
    buffer_free(&buffer);
}

static void reader_returns_what_was_appended(void **state)
{
    (void)state;
    struct buffer buffer = {0};
    buffer_append_u8(&buffer, 0xfe);
    buffer_append_u16(&buffer, 0xfedc);
    buffer_append_u32(&buffer, 0xfedcba98);
    buffer_append_u64(&buffer, 0xfedcba9876543210u);
    buffer_append_string(&buffer, "tail");
    assert_int_equal(buffer.size, 1 + 2 + 4 + 8 + 4);

    struct reader reader = reader_of(buffer_bytes(&buffer));
    assert_int_equal(reader_u8(&reader), 0xfe);
    assert_int_equal(reader_u16(&reader), 0xfedc);
    assert_true(reader_u32(&reader) == 0xfedcba98);
    assert_true(reader_u64(&reader) == 0xfedcba9876543210u);
    assert_int_equal(reader_left(&reader), 4);
    assert_true(bytes_equal(reader_bytes(&reader, 4), bytes_of_string("tail")));
    assert_int_equal(reader_left(&reader), 0);
    assert_int_equal(reader_bytes(&reader, 0).size, 0);
    assert_false(reader.failed);
    buffer_free(&buffer);
}

/* Each kind of read, one byte short: gives zero, and nothing succeeds after it. The bytes are on the
   heap, so that a read past them is caught. */
static void reader_stops_at_the_end_for_good(void **state)
{
    (void)state;
    static const size_t widths[] = {1, 2, 4, 8, 3};
    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++) {
        for (size_t size = 0; size < widths[i]; size++) {
            uint8_t *data = malloc(size + (size == 0));
            memset(data, 0xff, size + (size == 0));
            struct reader reader = reader_of(bytes_of(data, size));
            switch (widths[i]) {
            case 1:
                assert_int_equal(reader_u8(&reader), 0);
                break;
            case 2:
                assert_int_equal(reader_u16(&reader), 0);
                break;
            case 4:
                assert_int_equal(reader_u32(&reader), 0);
                break;
            case 8:
                assert_true(reader_u64(&reader) == 0);
                break;
            default:
                assert_int_equal(reader_bytes(&reader, widths[i]).size, 0);
            }
            assert_true(reader.failed);
            assert_int_equal(reader_u8(&reader), 0);
            assert_int_equal(reader_bytes(&reader, 0).size, 0);
            assert_true(reader.failed);
            free(data);
        }
    }
    struct reader reader = reader_of(bytes_of("abc", 3));
    assert_int_equal(reader_bytes(&reader, SIZE_MAX).size, 0);
    assert_true(reader.failed);
    reader = reader_of(bytes_of(NULL, 0));
    assert_int_equal(reader_left(&reader), 0);
    assert_int_equal(reader_u8(&reader), 0);
    assert_true(reader.failed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compare_is_by_unsigned_bytes_and_prefix_first),
        cmocka_unit_test(numbers_are_little_endian_at_any_alignment),
        cmocka_unit_test(random_appends_and_consumes_match_a_model),
        cmocka_unit_test(reserve_gives_the_room_and_grows_geometrically),
        cmocka_unit_test(format_matches_snprintf_at_every_length),
        cmocka_unit_test(decimals_match_snprintf),
        cmocka_unit_test(reader_returns_what_was_appended),
        cmocka_unit_test(reader_stops_at_the_end_for_good),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
