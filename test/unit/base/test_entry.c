#include "base/entry.h"

#include <setjmp.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "base/random.h"

static struct entry *sealed(const char *payload, raft_index index, raft_term term, uint32_t previous_chain)
{
    struct entry *entry = entry_new(ENTRY_COMMAND, strlen(payload));
    memcpy(entry_payload(entry), payload, strlen(payload));
    entry_seal(entry, index, term, previous_chain);
    return entry;
}

static void header_is_laid_out_as_documented(void **state)
{
    (void)state;
    struct entry *entry = sealed("hello", 0x1122334455667788u, 0x0102030405060708u, 0xdeadbeef);
    assert_int_equal(entry->refs, 1);
    assert_int_equal(entry->record_bytes, 37);
    static const uint8_t expected_front[] = {5, 0, 0, 0};
    static const uint8_t expected_rest[] = {
        0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 8, 7,   6,   5,   4,   3,   2,
        1,    2,    0,    0,    0,    0,    0,    0,    0, 'h', 'e', 'l', 'l', 'o',
    };
    assert_memory_equal(entry->record, expected_front, 4);
    assert_memory_equal(entry->record + 8, expected_rest, sizeof expected_rest);

    /* The chain: the previous value, the payload's size, then the record from its index on. */
    uint8_t covered[8 + sizeof expected_rest];
    put_u32(covered, 0xdeadbeef);
    memcpy(covered + 4, expected_front, 4);
    memcpy(covered + 8, expected_rest, sizeof expected_rest);
    assert_int_equal(entry_chain(entry), crc32c(0, covered, sizeof covered));

    assert_true(entry_index(entry) == 0x1122334455667788u);
    assert_true(entry_term(entry) == 0x0102030405060708u);
    assert_int_equal(entry_type_of(entry), ENTRY_COMMAND);
    assert_true(bytes_equal(entry_payload_bytes(entry), bytes_of_string("hello")));
    entry_unref(entry);
}

static void new_entry_has_an_empty_header(void **state)
{
    (void)state;
    static const enum entry_type types[] = {ENTRY_EMPTY, ENTRY_COMMAND, ENTRY_MEMBERSHIP};
    static const size_t sizes[] = {0, 1, 255, 65536, ENTRY_PAYLOAD_BYTES_MAX};
    for (size_t t = 0; t < ARRAY_COUNT(types); t++) {
        for (size_t s = 0; s < ARRAY_COUNT(sizes); s++) {
            struct entry *entry = entry_new(types[t], sizes[s]);
            assert_int_equal(get_u32(entry->record), sizes[s]);
            assert_int_equal(entry->record_bytes, ENTRY_HEADER_BYTES + sizes[s]);
            assert_int_equal(entry_chain(entry), 0);
            assert_int_equal(entry_index(entry), 0);
            assert_int_equal(entry_term(entry), 0);
            assert_int_equal(entry_type_of(entry), types[t]);
            static const uint8_t zeros[7];
            assert_memory_equal(entry->record + 25, zeros, sizeof zeros);
            memset(entry_payload(entry), 0xaa, sizes[s]);
            entry_unref(entry);
        }
    }
}

static void references_are_counted(void **state)
{
    (void)state;
    struct entry *entry = sealed("x", 1, 1, 0);
    assert_ptr_equal(entry_ref(entry), entry);
    entry_ref(entry);
    assert_int_equal(entry->refs, 3);
    entry_unref(entry);
    entry_unref(entry);
    assert_int_equal(entry->refs, 1);
    assert_true(entry_follows(entry, 0));
    entry_unref(entry); /* the leak checker sees that this was the last */
}

/* Whatever bit of a record or of the value before it changes, the chain breaks. */
static void chain_covers_every_bit(void **state)
{
    (void)state;
    struct entry *entry = sealed("some payload", 7, 3, 0x12345678);
    assert_true(entry_follows(entry, 0x12345678));
    for (unsigned bit = 0; bit < 32; bit++) assert_false(entry_follows(entry, 0x12345678u ^ 1u << bit));
    for (size_t bit = 0; bit < entry->record_bytes * 8u; bit++) {
        entry->record[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_false(entry_follows(entry, 0x12345678));
        entry->record[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_true(entry_follows(entry, 0x12345678));
    entry_unref(entry);
}

/* Two logs that differ anywhere differ in their chain from there on. */
static void a_difference_reaches_the_end_of_the_log(void **state)
{
    (void)state;
    enum { LENGTH = 50 };
    for (int changed = 0; changed < LENGTH; changed++) {
        uint32_t one = 0, other = 0;
        for (int i = 0; i < LENGTH; i++) {
            struct entry *a = sealed("same", (raft_index)i + 1, 1, one);
            struct entry *b = sealed("same", (raft_index)i + 1, i == changed ? 2 : 1, other);
            one = entry_chain(a);
            other = entry_chain(b);
            assert_int_equal(one == other, i < changed);
            entry_unref(a);
            entry_unref(b);
        }
    }
}

static void records_read_back_as_they_were(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 11);
    struct buffer buffer = {0};
    enum { COUNT = 200 };
    struct entry *written[COUNT];
    uint32_t chain = 99;
    for (int i = 0; i < COUNT; i++) {
        size_t size = random_below(&random, 2000);
        if (i == 0) size = 0;
        if (i == 1) size = ENTRY_PAYLOAD_BYTES_MAX;
        enum entry_type type = (enum entry_type)random_between(&random, ENTRY_EMPTY, ENTRY_MEMBERSHIP);
        written[i] = entry_new(type, size);
        for (size_t k = 0; k < size && k < 4000; k++) entry_payload(written[i])[k] = (uint8_t)random_u64(&random);
        if (size > 4000) memset(entry_payload(written[i]) + 4000, 7, size - 4000);
        entry_seal(written[i], (raft_index)i + 1, random_u64(&random), chain);
        chain = entry_chain(written[i]);
        buffer_append(&buffer, written[i]->record, written[i]->record_bytes);
    }
    struct reader reader = reader_of(buffer_bytes(&buffer));
    chain = 99;
    for (int i = 0; i < COUNT; i++) {
        struct entry *entry = NULL;
        assert_int_equal(entry_read(&reader, &entry), ERR_OK);
        assert_int_equal(entry->refs, 1);
        assert_int_equal(entry->record_bytes, written[i]->record_bytes);
        assert_memory_equal(entry->record, written[i]->record, entry->record_bytes);
        assert_true(entry_follows(entry, chain));
        chain = entry_chain(entry);
        entry_unref(entry);
        entry_unref(written[i]);
    }
    assert_int_equal(reader_left(&reader), 0);
    buffer_free(&buffer);
}

static enum error read_of(const void *data, size_t size)
{
    /* On the heap and of the exact size, so that a read past the end is caught. */
    uint8_t *copy = malloc(size + (size == 0));
    if (size > 0) memcpy(copy, data, size);
    struct reader reader = reader_of(bytes_of(copy, size));
    struct entry *entry = NULL;
    enum error error = entry_read(&reader, &entry);
    if (error == ERR_OK) {
        assert_non_null(entry);
        entry_unref(entry);
    } else {
        assert_null(entry);
    }
    free(copy);
    return error;
}

static void malformed_records_are_refused(void **state)
{
    (void)state;
    struct entry *entry = sealed("payload", 1, 1, 0);
    uint8_t record[64];
    size_t size = entry->record_bytes;
    memcpy(record, entry->record, size);
    entry_unref(entry);

    assert_int_equal(read_of(record, size), ERR_OK);
    for (size_t cut = 0; cut < size; cut++) assert_int_equal(read_of(record, cut), ERR_BAD_FRAME);

    for (unsigned type = 0; type < 256; type++) {
        record[24] = (uint8_t)type;
        assert_int_equal(read_of(record, size), type >= 1 && type <= 3 ? ERR_OK : ERR_BAD_FRAME);
    }
    record[24] = ENTRY_COMMAND;

    put_u32(record, 8);
    assert_int_equal(read_of(record, size), ERR_BAD_FRAME);
    put_u32(record, UINT32_MAX);
    assert_int_equal(read_of(record, size), ERR_BAD_FRAME);

    size_t large = ENTRY_HEADER_BYTES + (size_t)ENTRY_PAYLOAD_BYTES_MAX + 1;
    uint8_t *memory = calloc(1, large);
    memory[24] = ENTRY_COMMAND;
    put_u32(memory, ENTRY_PAYLOAD_BYTES_MAX);
    assert_int_equal(read_of(memory, large), ERR_OK);
    put_u32(memory, ENTRY_PAYLOAD_BYTES_MAX + 1);
    assert_int_equal(read_of(memory, large), ERR_BAD_FRAME);
    free(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_is_laid_out_as_documented),
        cmocka_unit_test(new_entry_has_an_empty_header),
        cmocka_unit_test(references_are_counted),
        cmocka_unit_test(chain_covers_every_bit),
        cmocka_unit_test(a_difference_reaches_the_end_of_the_log),
        cmocka_unit_test(records_read_back_as_they_were),
        cmocka_unit_test(malformed_records_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
