#include "wire/base64.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/random.h"

static void assert_encodes(const char *plain, size_t size, const char *text)
{
    struct buffer out = {0};
    base64_encode(bytes_of(plain, size), &out);
    assert_int_equal(out.size, strlen(text));
    assert_int_equal(out.size, base64_encoded_bytes(size));
    if (out.size > 0) assert_memory_equal(out.data, text, out.size);
    buffer_free(&out);

    assert_int_equal(base64_decoded_bytes(bytes_of_string(text)), size);
    uint8_t decoded[64];
    assert_true(base64_decode(bytes_of_string(text), decoded));
    if (size > 0) assert_memory_equal(decoded, plain, size);
}

/* RFC 4648 §10. */
static void test_vectors(void **state)
{
    (void)state;
    assert_encodes("", 0, "");
    assert_encodes("f", 1, "Zg==");
    assert_encodes("fo", 2, "Zm8=");
    assert_encodes("foo", 3, "Zm9v");
    assert_encodes("foob", 4, "Zm9vYg==");
    assert_encodes("fooba", 5, "Zm9vYmE=");
    assert_encodes("foobar", 6, "Zm9vYmFy");
    assert_encodes("\xff\xff\xfe\0\0", 5, "///+AAA=");
    assert_encodes("\xfb\xff\xbf", 3, "+/+/");
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const bad_length[] = {"A", "AA", "AAA", "AAAAA", "Zg=", "="};
    for (size_t i = 0; i < sizeof bad_length / sizeof bad_length[0]; i++) {
        assert_int_equal(base64_decoded_bytes(bytes_of_string(bad_length[i])), SIZE_MAX);
    }
    static const char *const bad_text[] = {
        "Zg=a", "Z===",    "====",  "=AAA",    "AA=A", "A=AA", "Zg==Zg==", "Zm9=", "Zh==", "Zm8 ", " Zm8", "Zm\n8",
        "Zm-_", "Zm9\x80", "Zm9\0", "ZZZ\xff", "@AAA", "[AAA", "`AAA",     "{AAA", ":AAA", ".AAA", "*AAA", ",AAA",
    };
    for (size_t i = 0; i < sizeof bad_text / sizeof bad_text[0]; i++) {
        struct bytes text = bytes_of(bad_text[i], i < 12 && strlen(bad_text[i]) == 8 ? 8 : 4);
        assert_true(base64_decoded_bytes(text) != SIZE_MAX);
        uint8_t decoded[16];
        if (base64_decode(text, decoded)) fail_msg("\"%s\" was taken", bad_text[i]);
    }
}

/* Each byte that is no digit spoils a text wherever it stands; each digit that is changed changes the bytes. */
static void test_every_byte_everywhere(void **state)
{
    (void)state;
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int at = 0; at < 8; at++) {
        for (int byte = 0; byte < 256; byte++) {
            uint8_t text[8] = {'Q', 'Q', 'Q', 'Q', 'Q', 'Q', 'Q', 'Q'};
            text[at] = (uint8_t)byte;
            bool digit = byte != 0 && strchr(digits, byte) != NULL;
            bool padding = byte == '=' && at == 7; /* "QQQ=" would leave bits that aren't zero: 'Q' is 16 */
            uint8_t decoded[6];
            bool taken = base64_decode(bytes_of(text, 8), decoded);
            assert_int_equal(taken, digit || padding);
            if (!digit) continue;
            struct buffer again = {0};
            base64_encode(bytes_of(decoded, 6), &again);
            assert_memory_equal(again.data, text, 8);
            buffer_free(&again);
        }
    }
}

static void test_round_trips(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 2);
    for (size_t size = 0; size < 300; size++) {
        uint8_t plain[300], decoded[300];
        for (size_t i = 0; i < size; i++) plain[i] = (uint8_t)random_u64(&random);
        struct buffer text = {0};
        buffer_append_string(&text, "before"); /* it appends */
        base64_encode(bytes_of(plain, size), &text);
        struct bytes encoded = bytes_of(text.data + 6, text.size - 6);
        assert_int_equal(base64_decoded_bytes(encoded), size);
        assert_true(base64_decode(encoded, decoded));
        if (size > 0) assert_memory_equal(decoded, plain, size);
        buffer_free(&text);
    }
}

/* Nothing is written beyond what was announced: the sanitizer watches the allocation's end. */
static void test_writes_no_more(void **state)
{
    (void)state;
    static const char *const texts[] = {"Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "!!!!", "!!==", "!!!="};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct bytes text = bytes_of_string(texts[i]);
        uint8_t *out = mem_alloc(base64_decoded_bytes(text));
        assert_int_equal(base64_decode(text, out), texts[i][0] == 'Z');
        mem_free(out);
    }
}

static void test_any(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *plain; /* NULL: refused */
    } cases
        [] =
            {
                {"", ""},
                {"Zg==", "f"},
                {"Zg", "f"},
                {"Zh==", "f"}, /* bits that aren't used */
                {"Zm8", "fo"},
                {"Zm9v", "foo"},
                {"Zm9v\n", "foo"},
                {"Zm\r\n9v\n\n", "foo"},
                {"Pz8/", "???"},
                {"Pz8_", "???"},
                {"Pj4+", ">>>"},
                {"Pj4-", ">>>"},
                {"Pj4-Zg", ">>>f"},
                {"Pj4-Zg==", ">>>f"},
                {"Pz8/Pz8_", NULL}, /* of both alphabets */
                {"Z", NULL},
                {"Zg=", NULL},
                {"Zg===", NULL},
                {"Zg==Zg==", NULL},
                {"Z===", NULL},
                {"====", NULL},
                {"Zm9v====", NULL},
                {"Zg==\n", NULL}, /* its length isn't a multiple of four, so padding is an error; as in Go */
                {"Zm 9v", NULL},
                {"Zm9\xff", NULL},
            };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buffer out = {0};
        buffer_append_string(&out, "before");
        bool good = base64_decode_any(bytes_of_string(cases[i].text), &out);
        if (good != (cases[i].plain != NULL)) fail_msg("%s", cases[i].text);
        assert_true(bytes_equal(bytes_of(out.data, 6), bytes_of_string("before")));
        struct bytes plain = bytes_of(out.data + 6, out.size - 6);
        assert_true(bytes_equal(plain, bytes_of_string(good ? cases[i].plain : "")));
        buffer_free(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_every_byte_everywhere),
        cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_writes_no_more),
        cmocka_unit_test(test_any),
    };
    return cmocka_run_group_tests_name("base64", tests, NULL, NULL);
}
