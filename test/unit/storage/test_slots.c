#include "storage/slots.h"

#include <setjmp.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "base/random.h"
#include "base/types.h"

#define MAGIC 0x31323334u

static uint8_t file[SLOT_COUNT * SLOT_BYTES];
static char damage[SLOT_DAMAGE_BYTES];

static void save(int slot, uint64_t generation, const char *payload)
{
    slot_encode(MAGIC, 1, generation, bytes_of_string(payload), file + slot * SLOT_BYTES);
}

static enum error choose(struct slot_content *out)
{
    return slot_choose(MAGIC, 1, bytes_of(file, sizeof file), out, damage);
}

static void expect(uint64_t generation, const char *payload, bool good_0, bool good_1)
{
    struct slot_content content;
    assert_int_equal(choose(&content), ERR_OK);
    assert_true(content.generation == generation);
    assert_true(bytes_equal(content.payload, bytes_of_string(payload)));
    assert_int_equal(content.version, 1);
    assert_int_equal(content.slot_good[0], good_0);
    assert_int_equal(content.slot_good[1], good_1);
    assert_int_equal(damage[0] == '\0', good_0 && good_1);
}

static void slot_is_laid_out_as_documented(void **state)
{
    (void)state;
    uint8_t slot[SLOT_BYTES];
    memset(slot, 0xff, sizeof slot);
    slot_encode(0x44434241u, 7, 0x1122334455667788u, bytes_of_string("payload"), slot);
    assert_int_equal(get_u32(slot), crc32c(0, slot + 4, SLOT_BYTES - 4));
    assert_memory_equal(slot + 4, "ABCD", 4);
    assert_int_equal(get_u32(slot + 8), 7);
    assert_int_equal(get_u32(slot + 12), 7);
    assert_true(get_u64(slot + 16) == 0x1122334455667788u);
    assert_memory_equal(slot + 24, "payload", 7);
    for (size_t i = 31; i < SLOT_BYTES; i++) assert_int_equal(slot[i], 0);
}

static void a_file_that_was_never_saved_is_no_file(void **state)
{
    (void)state;
    struct slot_content content;
    memset(file, 0, sizeof file);
    assert_int_equal(choose(&content), ERR_NO_FILE);
    assert_int_equal(slot_choose(MAGIC, 1, bytes_of(NULL, 0), &content, damage), ERR_NO_FILE);
    assert_int_equal(slot_choose(MAGIC, 1, bytes_of(file, 100), &content, damage), ERR_NO_FILE);
    assert_string_equal(damage, "");
}

static void the_newer_of_two_good_slots_is_taken(void **state)
{
    (void)state;
    save(0, 5, "five");
    save(1, 5, "five");
    expect(5, "five", true, true);
    save(0, 6, "six");
    expect(6, "six", true, true);
    save(1, 7, "seven");
    expect(7, "seven", true, true);
    /* The crash came between the two writes of the very first save. */
    memset(file + SLOT_BYTES, 0, SLOT_BYTES);
    expect(6, "six", true, false);
}

static void with_any_byte_of_one_slot_damaged_the_other_is_taken(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 1);
    save(0, 8, "same");
    save(1, 8, "same");
    for (size_t at = 0; at < sizeof file; at++) {
        uint8_t flip = (uint8_t)(1u << random_below(&random, 8));
        file[at] ^= flip;
        expect(8, "same", at >= SLOT_BYTES, at < SLOT_BYTES);
        assert_non_null(strstr(damage, at < SLOT_BYTES ? "slot 0 at offset 0 is" : "slot 1 at offset 4096 is"));
        file[at] ^= flip;
    }
}

static void with_both_slots_damaged_nothing_is_taken(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 2);
    save(0, 8, "same");
    save(1, 9, "newer");
    struct slot_content content;
    for (size_t at = 0; at < SLOT_BYTES; at++) {
        size_t other = SLOT_BYTES + (size_t)random_below(&random, SLOT_BYTES);
        uint8_t flip = (uint8_t)(1u << random_below(&random, 8));
        file[at] ^= flip;
        file[other] ^= flip;
        assert_int_equal(choose(&content), ERR_DAMAGED);
        assert_string_equal(damage, "slot 0 at offset 0 is damaged; slot 1 at offset 4096 is damaged");
        assert_true(content.payload.size == 0);
        file[at] ^= flip;
        file[other] ^= flip;
    }
    /* One damaged, the other gone: it was saved once. */
    file[50] ^= 1;
    memset(file + SLOT_BYTES, 0, SLOT_BYTES);
    assert_int_equal(choose(&content), ERR_DAMAGED);
}

static void a_file_cut_short_has_the_slots_that_it_has(void **state)
{
    (void)state;
    save(0, 8, "same");
    save(1, 8, "same");
    struct slot_content content;
    for (size_t size = 1; size < sizeof file; size += 13) {
        enum error error = slot_choose(MAGIC, 1, bytes_of(file, size), &content, damage);
        assert_int_equal(error, size < SLOT_BYTES ? ERR_DAMAGED : ERR_OK);
        assert_non_null(strstr(damage, "cut short"));
    }
}

static void another_kind_or_version_is_refused(void **state)
{
    (void)state;
    struct slot_content content;
    save(0, 8, "same");
    save(1, 8, "same");
    assert_int_equal(slot_choose(MAGIC + 1, 1, bytes_of(file, sizeof file), &content, damage), ERR_DAMAGED);
    assert_non_null(strstr(damage, "of another kind"));
    slot_encode(MAGIC, 2, 9, bytes_of_string("newer"), file);
    assert_int_equal(choose(&content), ERR_BAD_VERSION);
    assert_non_null(strstr(damage, "version 2"));
    assert_int_equal(slot_choose(MAGIC, 2, bytes_of(file, sizeof file), &content, damage), ERR_OK);
    assert_int_equal(content.version, 2);
    slot_encode(MAGIC, 0, 9, bytes_of_string("none"), file);
    expect(8, "same", false, true);
}

static void a_payload_may_fill_the_slot_and_its_size_may_not_lie(void **state)
{
    (void)state;
    static uint8_t payload[SLOT_PAYLOAD_BYTES_MAX];
    memset(payload, 3, sizeof payload);
    slot_encode(MAGIC, 1, 1, bytes_of(payload, sizeof payload), file);
    slot_encode(MAGIC, 1, 1, bytes_of(payload, 0), file + SLOT_BYTES);
    struct slot_content content;
    assert_int_equal(choose(&content), ERR_OK);
    assert_true(bytes_equal(content.payload, bytes_of(payload, sizeof payload)));
    static const uint32_t sizes[] = {SLOT_PAYLOAD_BYTES_MAX + 1, UINT32_MAX};
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        put_u32(file + 12, sizes[i]);
        put_u32(file, crc32c(0, file + 4, SLOT_BYTES - 4));
        assert_int_equal(choose(&content), ERR_OK);
        assert_true(content.payload.size == 0 && !content.slot_good[0]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slot_is_laid_out_as_documented),
        cmocka_unit_test(a_file_that_was_never_saved_is_no_file),
        cmocka_unit_test(the_newer_of_two_good_slots_is_taken),
        cmocka_unit_test(with_any_byte_of_one_slot_damaged_the_other_is_taken),
        cmocka_unit_test(with_both_slots_damaged_nothing_is_taken),
        cmocka_unit_test(a_file_cut_short_has_the_slots_that_it_has),
        cmocka_unit_test(another_kind_or_version_is_refused),
        cmocka_unit_test(a_payload_may_fill_the_slot_and_its_size_may_not_lie),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
