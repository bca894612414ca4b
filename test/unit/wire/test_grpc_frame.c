#include "wire/grpc_frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/random.h"

static void test_random_messages_in_random_pieces(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 1);
    for (int round = 0; round < 300; round++) {
        struct buffer whole = {0}, expected = {0}, found = {0};
        for (int i = 0; i < 20; i++) {
            size_t size = random_below(&random, random_below(&random, 2) ? 5 : 200);
            uint8_t prefix[GRPC_PREFIX_BYTES], byte = (uint8_t)('a' + i);
            grpc_frame_prefix(prefix, (uint32_t)size);
            buffer_append(&whole, prefix, sizeof prefix);
            buffer_append_format(&expected, "%zu:", size);
            for (size_t k = 0; k < size; k++) {
                buffer_append_byte(&whole, byte);
                buffer_append_byte(&expected, byte);
            }
        }
        struct grpc_frame frame = {0};
        for (size_t at = 0; at < whole.size;) {
            size_t size = 1 + random_below(&random, 60);
            if (size > whole.size - at) size = whole.size - at;
            uint8_t *copy = mem_alloc(size);
            memcpy(copy, whole.data + at, size);
            at += size;
            struct bytes piece = bytes_of(copy, size), message;
            enum grpc_frame_result result;
            while ((result = grpc_frame_next(&frame, &piece, 200, &message)) == GRPC_FRAME_MESSAGE) {
                buffer_append_format(&found, "%zu:", message.size);
                if (message.size > 0) buffer_append(&found, message.data, message.size);
            }
            assert_int_equal(result, GRPC_FRAME_MORE);
            assert_int_equal(piece.size, 0);
            mem_free(copy);
        }
        assert_int_equal(grpc_frame_partial_bytes(&frame), 0);
        assert_true(bytes_equal(buffer_bytes(&found), buffer_bytes(&expected)));
        grpc_frame_free(&frame);
        buffer_free(&whole);
        buffer_free(&expected);
        buffer_free(&found);
    }
}

static void assert_timeout(const char *text, enum grpc_timeout_result result, time_ns expected)
{
    time_ns timeout = -1;
    assert_int_equal(grpc_timeout_parse(bytes_of_string(text), &timeout), result);
    if (result == GRPC_TIMEOUT_OK) assert_true(timeout == expected);
}

static void test_timeouts(void **state)
{
    (void)state;
    assert_timeout("1n", GRPC_TIMEOUT_OK, 1);
    assert_timeout("1u", GRPC_TIMEOUT_OK, 1000);
    assert_timeout("1m", GRPC_TIMEOUT_OK, TIME_NS_PER_MS);
    assert_timeout("1S", GRPC_TIMEOUT_OK, TIME_NS_PER_S);
    assert_timeout("1M", GRPC_TIMEOUT_OK, 60 * TIME_NS_PER_S);
    assert_timeout("1H", GRPC_TIMEOUT_OK, 3600 * TIME_NS_PER_S);
    assert_timeout("0m", GRPC_TIMEOUT_OK, 0);
    assert_timeout("00000007S", GRPC_TIMEOUT_OK, 7 * TIME_NS_PER_S);
    assert_timeout("99999999S", GRPC_TIMEOUT_OK, 99999999 * TIME_NS_PER_S);
    assert_timeout("99999999H", GRPC_TIMEOUT_OK, TIME_NS_NEVER);
    assert_timeout("2562047H", GRPC_TIMEOUT_OK, (time_ns)2562047 * 3600 * TIME_NS_PER_S);
    assert_timeout("2562048H", GRPC_TIMEOUT_OK, TIME_NS_NEVER);
    assert_timeout("", GRPC_TIMEOUT_SHORT, 0);
    assert_timeout("S", GRPC_TIMEOUT_SHORT, 0);
    assert_timeout("123456789S", GRPC_TIMEOUT_LONG, 0);
    assert_timeout("1s", GRPC_TIMEOUT_UNIT, 0);
    assert_timeout("10", GRPC_TIMEOUT_UNIT, 0);
    assert_timeout("+1S", GRPC_TIMEOUT_DIGITS, 0);
    assert_timeout("1.5S", GRPC_TIMEOUT_DIGITS, 0);
    assert_timeout(" 1S", GRPC_TIMEOUT_DIGITS, 0);
}

static void test_timeouts_there_and_back(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 3);
    for (int i = 0; i < 10000; i++) {
        time_ns timeout = (time_ns)(random_below(&random, UINT64_MAX) >> (1 + random_below(&random, 62)));
        struct buffer text = {0};
        grpc_timeout_write(timeout, &text);
        time_ns back;
        assert_int_equal(grpc_timeout_parse(buffer_bytes(&text), &back), GRPC_TIMEOUT_OK);
        assert_true(back >= timeout && (back - timeout <= timeout / 100000));
        buffer_free(&text);
    }
}

static void assert_text(const char *text, const char *encoded)
{
    struct buffer out = {0}, back = {0};
    grpc_text_encode(bytes_of_string(text), &out);
    assert_true(bytes_equal(buffer_bytes(&out), bytes_of_string(encoded)));
    grpc_text_decode(buffer_bytes(&out), &back);
    buffer_append_byte(&back, 0);
    if (strstr(encoded, "%EF%BF%BD") == NULL) assert_string_equal((const char *)back.data, text);
    buffer_free(&out);
    buffer_free(&back);
}

static void test_texts(void **state)
{
    (void)state;
    assert_text("", "");
    assert_text("etcdserver: mvcc: required revision has been compacted",
                "etcdserver: mvcc: required revision has been compacted");
    assert_text("100%", "100%25");
    assert_text("a\r\nb\x7f~ ", "a%0D%0Ab%7F~ ");
    assert_text("\xe2\x82\xac", "%E2%82%AC");
    assert_text("a\xff"
                "b",
                "a%EF%BF%BDb");
    static const char *const odd[][2] = {{"%", "%"}, {"a%4", "a%4"}, {"%zz", "%zz"}, {"%41%4", "A%4"}, {"%%41", "%A"}};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        struct buffer out = {0};
        grpc_text_decode(bytes_of_string(odd[i][0]), &out);
        assert_true(bytes_equal(buffer_bytes(&out), bytes_of_string(odd[i][1])));
        buffer_free(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_messages_in_random_pieces),
        cmocka_unit_test(test_timeouts),
        cmocka_unit_test(test_timeouts_there_and_back),
        cmocka_unit_test(test_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
