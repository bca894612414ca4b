#include "wire/protobuf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/random.h"

#define LITERAL(text) bytes_of(text, sizeof(text) - 1)

static void test_varint_sizes(void **state)
{
    (void)state;
    for (unsigned bits = 0; bits < 64; bits++) {
        uint64_t power = (uint64_t)1 << bits;
        const uint64_t values[] = {power - 1, power, power + 1, UINT64_MAX - power};
        for (size_t i = 0; i < 4; i++) {
            uint8_t room[PROTOBUF_VARINT_BYTES_MAX];
            size_t written = (size_t)(protobuf_put_varint(room, values[i]) - room);
            assert_int_equal(written, protobuf_varint_bytes(values[i]));
            struct protobuf_reader reader = protobuf_reader_of(bytes_of(room, written));
            uint64_t read;
            assert_true(protobuf_next_packed(&reader, &read));
            assert_int_equal(read, values[i]);
            assert_false(protobuf_next_packed(&reader, &read));
            assert_false(reader.failed);
        }
    }
}

/* Each kind of field, by bytes written out by hand. */
static void test_read_fields(void **state)
{
    (void)state;
    struct protobuf_reader reader = protobuf_reader_of(LITERAL("\x0a\x03key"
                                                               "\x18\x96\x01"
                                                               "\x21\x01\x02\x03\x04\x05\x06\x07\x08"
                                                               "\x2d\x01\x02\x03\x04"
                                                               "\x82\x04\x00"
                                                               "\x30\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"));
    struct protobuf_field field;
    assert_true(protobuf_next(&reader, &field));
    assert_int_equal(field.tag, PROTOBUF_TAG(1, PROTOBUF_BYTES));
    assert_true(bytes_equal(field.bytes, bytes_of_string("key")));
    assert_true(protobuf_next(&reader, &field));
    assert_int_equal(field.tag, PROTOBUF_TAG(3, PROTOBUF_VARINT));
    assert_int_equal(field.value, 150);
    assert_int_equal(field.bytes.size, 0);
    assert_true(protobuf_next(&reader, &field));
    assert_int_equal(field.tag, PROTOBUF_TAG(4, PROTOBUF_FIXED64));
    assert_int_equal(field.value, 0x0807060504030201);
    assert_true(protobuf_next(&reader, &field));
    assert_int_equal(field.tag, PROTOBUF_TAG(5, PROTOBUF_FIXED32));
    assert_int_equal(field.value, 0x04030201);
    assert_true(protobuf_next(&reader, &field));
    assert_int_equal(protobuf_field_number(&field), 64);
    assert_int_equal(protobuf_field_type(&field), PROTOBUF_BYTES);
    assert_int_equal(field.bytes.size, 0);
    assert_true(protobuf_next(&reader, &field));
    assert_int_equal((int64_t)field.value, -1);
    assert_false(protobuf_next(&reader, &field));
    assert_false(reader.failed);
}

static void test_read_malformed(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        const char *bytes;
        size_t size;
    } cases[] = {
        {"number 0", "\x00\x01", 2},
        {"a tag without its value", "\x08", 1},
        {"a tag that goes on", "\x88", 1},
        {"a tag of six bytes", "\x88\x80\x80\x80\x80\x00\x01", 7},
        {"a number above the highest", "\x80\x80\x80\x80\x10\x01", 6},
        {"a varint that goes on", "\x08\xff\xff", 3},
        {"a varint of eleven bytes", "\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 12},
        {"a varint of 65 bits", "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 11},
        {"a length beyond the end", "\x0a\x02x", 3},
        {"a length near 2^64", "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11},
        {"seven bytes for a fixed64", "\x09\x01\x02\x03\x04\x05\x06\x07", 8},
        {"three bytes for a fixed32", "\x0d\x01\x02\x03", 4},
        {"a group", "\x0b\x0c", 2},
        {"the end of a group", "\x0c", 1},
        {"wire type 6", "\x0e\x01", 2},
        {"wire type 7", "\x0f\x01", 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct protobuf_reader reader = protobuf_reader_of(bytes_of(cases[i].bytes, cases[i].size));
        struct protobuf_field field;
        if (protobuf_next(&reader, &field) || !reader.failed) fail_msg("%s was taken", cases[i].what);
        assert_false(protobuf_next(&reader, &field));
    }
}

/* What is written has the size that was computed, and reads as it was meant. */
static void test_write_and_read(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 7);
    for (int round = 0; round < 20000; round++) {
        uint32_t number =
            (uint32_t)random_below(&random, random_below(&random, 2) ? 20 : PROTOBUF_FIELD_NUMBER_MAX) + 1;
        uint64_t value = random_u64(&random) >> random_below(&random, 64);
        if (random_below(&random, 8) == 0) value = 0;
        struct bytes text = bytes_of("0123456789", (size_t)random_below(&random, 11));

        struct buffer out = {0};
        protobuf_append_number(&out, number, value);
        assert_int_equal(out.size, protobuf_size_number(number, value));
        size_t at = out.size;
        protobuf_append_number_present(&out, number, value);
        assert_int_equal(out.size - at, protobuf_size_number_present(number, value));
        at = out.size;
        protobuf_append_bytes(&out, number, text);
        assert_int_equal(out.size - at, protobuf_size_bytes(number, text.size));
        at = out.size;
        protobuf_append_bytes_present(&out, number, text);
        assert_int_equal(out.size - at, protobuf_size_message(number, text.size));
        at = out.size;
        protobuf_append_message_head(&out, number, text.size);
        buffer_append(&out, text.data, text.size);
        assert_int_equal(out.size - at, protobuf_size_message(number, text.size));

        struct protobuf_reader reader = protobuf_reader_of(buffer_bytes(&out));
        struct protobuf_field field;
        for (int i = value == 0 ? 1 : 0; i < 2; i++) {
            assert_true(protobuf_next(&reader, &field));
            assert_int_equal(field.tag, PROTOBUF_TAG(number, PROTOBUF_VARINT));
            assert_int_equal(field.value, value);
        }
        for (int i = text.size == 0 ? 1 : 0; i < 3; i++) {
            assert_true(protobuf_next(&reader, &field));
            assert_int_equal(field.tag, PROTOBUF_TAG(number, PROTOBUF_BYTES));
            assert_true(bytes_equal(field.bytes, text));
        }
        assert_false(protobuf_next(&reader, &field));
        assert_false(reader.failed);
        buffer_free(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_varint_sizes),
        cmocka_unit_test(test_read_fields),
        cmocka_unit_test(test_read_malformed),
        cmocka_unit_test(test_write_and_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
