#include "replica/command.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/random.h"

static struct command decoded(const struct entry *entry)
{
    struct command command;
    assert_int_equal(entry_type_of(entry), ENTRY_COMMAND);
    assert_int_equal(command_format_decode(entry_payload_bytes(entry), &command), ERR_OK);
    return command;
}

static void test_put(void **state)
{
    (void)state;
    struct entry *entry = command_put(bytes_of_string("key"), bytes_of_string("value"), 77);
    struct command command = decoded(entry);
    assert_int_equal(command.kind, COMMAND_PUT);
    assert_int_equal(command.argument, 77);
    assert_true(bytes_equal(command.key, bytes_of_string("key")));
    assert_true(bytes_equal(command.value, bytes_of_string("value")));
    assert_int_equal(command.origin, 0);
    assert_int_equal(command.incarnation, 0);
    assert_int_equal(command.sequence, 0);
    command_format_set_identity(entry, 0x1111111111111111, 0x2222222222222222, 0x3333333333333333);
    command = decoded(entry);
    assert_int_equal(command.origin, 0x1111111111111111);
    assert_int_equal(command.incarnation, 0x2222222222222222);
    assert_int_equal(command.sequence, 0x3333333333333333);
    assert_int_equal(command.argument, 77);
    assert_true(bytes_equal(command.value, bytes_of_string("value")));
    entry_unref(entry);

    entry = command_put(bytes_of_string("k"), bytes_of(NULL, 0), 0);
    assert_int_equal(decoded(entry).value.size, 0);
    entry_unref(entry);
}

/* The format is what other members and later versions read: byte by byte. */
static void test_bytes(void **state)
{
    (void)state;
    static const uint8_t expected[] = {
        1,    0,    0,    0,    3,    0,    0,    0,    /* put, key bytes */
        0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, /* origin */
        2,    0,    0,    0,    0,    0,    0,    0,    /* incarnation */
        3,    0,    0,    0,    0,    0,    0,    0,    /* sequence */
        4,    0,    0,    0,    0,    0,    0,    0,    /* lease */
        'k',  'e',  'y',  'v',
    };
    struct entry *entry = command_put(bytes_of_string("key"), bytes_of_string("v"), 4);
    command_format_set_identity(entry, 0x8877665544332211, 2, 3);
    assert_true(bytes_equal(entry_payload_bytes(entry), bytes_of(expected, sizeof expected)));
    entry_unref(entry);
}

static void test_delete_and_compact(void **state)
{
    (void)state;
    struct entry *entry = command_delete(bytes_of_string("key"));
    struct command command = decoded(entry);
    assert_int_equal(command.kind, COMMAND_DELETE);
    assert_true(bytes_equal(command.key, bytes_of_string("key")));
    assert_int_equal(command.value.size, 0);
    entry_unref(entry);

    entry = command_compact(INT64_MAX);
    command = decoded(entry);
    assert_int_equal(command.kind, COMMAND_COMPACT);
    assert_int_equal(command.argument, INT64_MAX);
    assert_int_equal(command.key.size, 0);
    entry_unref(entry);
}

static void test_put_room(void **state)
{
    (void)state;
    uint8_t *key, *value;
    struct entry *entry = command_put_room(2, 3, &key, &value);
    memcpy(key, "kk", 2);
    memcpy(value, "vvv", 3);
    struct command command = decoded(entry);
    assert_true(bytes_equal(command.key, bytes_of_string("kk")));
    assert_true(bytes_equal(command.value, bytes_of_string("vvv")));
    entry_unref(entry);
}

static void test_largest(void **state)
{
    (void)state;
    size_t value_bytes = ENTRY_PAYLOAD_BYTES_MAX - COMMAND_HEADER_BYTES - COMMAND_KEY_BYTES_MAX;
    uint8_t *key, *value;
    struct entry *entry = command_put_room(COMMAND_KEY_BYTES_MAX, value_bytes, &key, &value);
    memset(key, 'k', COMMAND_KEY_BYTES_MAX);
    memset(value, 'v', value_bytes);
    struct command command = decoded(entry);
    assert_int_equal(command.key.size, COMMAND_KEY_BYTES_MAX);
    assert_int_equal(command.value.size, value_bytes);
    assert_int_equal(command.key.data[COMMAND_KEY_BYTES_MAX - 1], 'k');
    assert_int_equal(command.value.data[0], 'v');
    entry_unref(entry);
}

/* Decodes a copy that ends where its allocation ends. */
static enum error decode_copy(const uint8_t *payload, size_t size)
{
    uint8_t *copy = size > 0 ? mem_alloc(size) : NULL;
    if (size > 0) memcpy(copy, payload, size);
    struct command command;
    enum error error = command_format_decode(bytes_of(copy, size), &command);
    if (error == ERR_OK) {
        assert_ptr_equal(command.key.data, copy + COMMAND_HEADER_BYTES);
        assert_int_equal(COMMAND_HEADER_BYTES + command.key.size + command.value.size, size);
    }
    mem_free(copy);
    return error;
}

static void set_payload(uint8_t *payload, uint8_t kind, uint32_t key_bytes, uint64_t argument)
{
    memset(payload, 0, COMMAND_HEADER_BYTES);
    payload[0] = kind;
    put_u32(payload + 4, key_bytes);
    put_u64(payload + 32, argument);
}

static void test_damaged(void **state)
{
    (void)state;
    uint8_t payload[COMMAND_HEADER_BYTES + 4] = {0};
    memcpy(payload + COMMAND_HEADER_BYTES, "kkvv", 4);
    static const struct {
        uint8_t kind;
        uint32_t key_bytes;
        uint64_t argument;
        size_t rest;
        enum error error;
    } samples[] = {
        {COMMAND_PUT, 2, 0, 4, ERR_OK},
        {COMMAND_PUT, 4, 9, 4, ERR_OK},
        {COMMAND_PUT, 5, 0, 4, ERR_DAMAGED},
        {COMMAND_PUT, 0, 0, 4, ERR_DAMAGED},
        {COMMAND_PUT, UINT32_MAX, 0, 4, ERR_DAMAGED},
        {COMMAND_DELETE, 4, 0, 4, ERR_OK},
        {COMMAND_DELETE, 3, 0, 4, ERR_OK}, /* the end of a range */
        {COMMAND_DELETE, 4, 1, 4, ERR_DAMAGED},
        {COMMAND_DELETE, 0, 0, 0, ERR_DAMAGED},
        {COMMAND_COMPACT, 0, 5, 0, ERR_OK},
        {COMMAND_COMPACT, 0, 0, 0, ERR_DAMAGED},
        {COMMAND_COMPACT, 0, 1ull << 63, 0, ERR_DAMAGED},
        {COMMAND_COMPACT, 1, 5, 1, ERR_DAMAGED},
        {COMMAND_COMPACT, 0, 5, 1, ERR_DAMAGED},
        {0, 2, 0, 4, ERR_DAMAGED},
        {COMMAND_TXN, 2, 0, 4, ERR_DAMAGED},
        {COMMAND_TXN, 0, 1, 4, ERR_DAMAGED},
        {COMMAND_TXN, 0, 0, 4, ERR_OK},
        {COMMAND_LEASE_GRANT, 0, 7, 4, ERR_DAMAGED}, /* half a TTL */
        {COMMAND_LEASE_GRANT, 0, 0, 4, ERR_DAMAGED},
        {COMMAND_LEASE_REVOKE, 0, 7, 0, ERR_OK},
        {COMMAND_LEASE_REVOKE, 0, 0, 0, ERR_DAMAGED},
        {COMMAND_LEASE_REVOKE, 0, 7, 1, ERR_DAMAGED},
        {COMMAND_LEASE_CHECKPOINT, 0, 0, 0, ERR_OK},
        {COMMAND_LEASE_CHECKPOINT, 0, 0, 4, ERR_DAMAGED},
        {COMMAND_LEASE_CHECKPOINT, 0, 1, 0, ERR_DAMAGED},
        {5, 2, 0, 4, ERR_BAD_VERSION},
        {63, 2, 0, 4, ERR_BAD_VERSION},
        {67, 2, 0, 4, ERR_BAD_VERSION},
        {255, 2, 0, 4, ERR_BAD_VERSION},
    };
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        set_payload(payload, samples[i].kind, samples[i].key_bytes, samples[i].argument);
        enum error error = decode_copy(payload, COMMAND_HEADER_BYTES + samples[i].rest);
        if (error != samples[i].error) fail_msg("sample %zu: %s", i, error_code(error));
    }
    for (int flag = 1; flag < 256; flag *= 2) {
        set_payload(payload, COMMAND_PUT, 2, 0);
        payload[1] = (uint8_t)flag;
        assert_int_equal(decode_copy(payload, sizeof payload), flag <= (int)COMMAND_KEEP_LEASE ? ERR_OK : ERR_DAMAGED);
        set_payload(payload, COMMAND_DELETE, 2, 0);
        payload[1] = (uint8_t)flag;
        assert_int_equal(decode_copy(payload, sizeof payload),
                         flag == (int)COMMAND_WANT_PREVIOUS ? ERR_OK : ERR_DAMAGED);
    }
    for (int at = 2; at < 4; at++) { /* reserved bytes */
        set_payload(payload, COMMAND_PUT, 2, 0);
        payload[at] = 1;
        assert_int_equal(decode_copy(payload, sizeof payload), ERR_DAMAGED);
    }
    set_payload(payload, COMMAND_PUT, 1, 0);
    for (size_t size = 0; size < COMMAND_HEADER_BYTES; size++)
        assert_int_equal(decode_copy(payload, size), ERR_DAMAGED);
    assert_int_equal(decode_copy(payload, COMMAND_HEADER_BYTES), ERR_DAMAGED);
    assert_int_equal(decode_copy(payload, COMMAND_HEADER_BYTES + 1), ERR_OK);
}

static void test_key_too_long(void **state)
{
    (void)state;
    size_t size = COMMAND_HEADER_BYTES + COMMAND_KEY_BYTES_MAX + 1;
    uint8_t *payload = mem_alloc_zero(size);
    set_payload(payload, COMMAND_PUT, COMMAND_KEY_BYTES_MAX, 0);
    assert_int_equal(decode_copy(payload, size), ERR_OK);
    set_payload(payload, COMMAND_PUT, COMMAND_KEY_BYTES_MAX + 1, 0);
    assert_int_equal(decode_copy(payload, size), ERR_DAMAGED);
    mem_free(payload);
}

static void test_random_bytes(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 9);
    int taken = 0;
    for (int round = 0; round < 20000; round++) {
        uint8_t payload[80];
        size_t size = random_below(&random, sizeof payload);
        for (size_t i = 0; i < size; i++) payload[i] = (uint8_t)random_u64(&random);
        if (size >= 8 && random_chance(&random, 700)) {
            put_u32(payload, 1 + (uint32_t)random_below(&random, 3));
            put_u32(payload + 4, (uint32_t)random_below(&random, 50));
        }
        taken += decode_copy(payload, size) == ERR_OK;
    }
    assert_in_range(taken, 500, 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_delete_and_compact),
        cmocka_unit_test(test_put_room),
        cmocka_unit_test(test_largest),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_key_too_long),
        cmocka_unit_test(test_random_bytes),
    };
    return cmocka_run_group_tests_name("command", tests, NULL, NULL);
}
