/* What is in use of a segment: every changed byte of it is found, and nothing else. */
#include "storage/log_verify.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/random.h"

#define LOG_ID 0x11223344u
#define NUMBER 7u
#define SEGMENT_BYTES (64u * 1024)

static uint8_t segment[SEGMENT_BYTES];
static size_t used;

static void add_batch(uint64_t number, size_t payload_bytes)
{
    struct entry *entry = entry_new(ENTRY_COMMAND, payload_bytes);
    memset(entry_payload(entry), 'x', payload_bytes);
    entry_seal(entry, number, 3, 5);
    struct log_batch_place place = {.log_id = LOG_ID, .segment_number = NUMBER, .offset = used, .batch_number = number};
    size_t bytes = log_batch_file_bytes(entry->record_bytes);
    assert_true(used + bytes <= sizeof segment);
    log_batch_encode(&place, 0, &entry, 1, segment + used);
    used += bytes;
    entry_unref(entry);
}

static void make_segment(void)
{
    memset(segment, 0, sizeof segment);
    struct log_segment_header header = {
        .log_id = LOG_ID, .number = NUMBER, .size_bytes = SEGMENT_BYTES, .first_index = 1, .first_batch_number = 1};
    log_segment_header_encode(&header, segment);
    used = LOG_SEGMENT_HEADER_BYTES;
    add_batch(1, 10);
    add_batch(2, 9000);
    add_batch(3, 400);
    add_batch(4, 4000);
}

/* In slices of so many bytes. */
static enum error verify(size_t slice, bool headless, uint64_t *bad_offset)
{
    struct log_verify verify;
    log_verify_begin(&verify, LOG_ID, NUMBER, headless);
    for (size_t at = 0; at < used; at += slice) {
        size_t size = used - at < slice ? used - at : slice;
        enum error error = log_verify_feed(&verify, segment + at, size, bad_offset);
        if (error != ERR_OK) return error;
    }
    return log_verify_end(&verify, bad_offset);
}

static void good_is_good_in_any_slices(void **state)
{
    (void)state;
    make_segment();
    uint64_t bad;
    for (size_t slice = LOG_BATCH_ALIGNMENT; slice <= SEGMENT_BYTES; slice += LOG_BATCH_ALIGNMENT) {
        assert_int_equal(verify(slice, false, &bad), ERR_OK);
    }
    /* A header alone. */
    used = LOG_SEGMENT_HEADER_BYTES;
    assert_int_equal(verify(SEGMENT_BYTES, false, &bad), ERR_OK);
    used = 0;
    assert_int_equal(verify(SEGMENT_BYTES, false, &bad), ERR_OK);
}

static void every_flipped_bit_is_found(void **state)
{
    (void)state;
    make_segment();
    for (size_t at = 0; at < used; at++) {
        uint64_t bad = 0;
        segment[at] ^= (uint8_t)(1u << (at % 8));
        assert_int_equal(verify(LOG_BATCH_ALIGNMENT, false, &bad), ERR_DAMAGED);
        assert_int_equal(bad, at / LOG_BLOCK_BYTES * LOG_BLOCK_BYTES);
        segment[at] ^= (uint8_t)(1u << (at % 8));
    }
}

/* Sectors that were zeroed, never written, or belong elsewhere: whole blocks that look fine by themselves. */
static void blocks_out_of_place_are_found(void **state)
{
    (void)state;
    make_segment();
    uint64_t bad;
    uint8_t kept[LOG_BLOCK_BYTES];
    for (size_t at = 0; at < used; at += LOG_BLOCK_BYTES) {
        memcpy(kept, segment + at, sizeof kept);
        bool zero = log_block_is_zero(kept);
        memset(segment + at, 0, LOG_BLOCK_BYTES);
        assert_int_equal(verify(SEGMENT_BYTES, false, &bad), zero ? ERR_OK : ERR_DAMAGED);
        if (!zero) assert_int_equal(bad, at);
        /* The neighbour's block. */
        size_t other = at + LOG_BLOCK_BYTES < used ? at + LOG_BLOCK_BYTES : 0;
        memcpy(segment + at, segment + other, LOG_BLOCK_BYTES);
        bool same = memcmp(segment + at, kept, sizeof kept) == 0;
        assert_int_equal(verify(SEGMENT_BYTES, false, &bad), same ? ERR_OK : ERR_DAMAGED);
        memcpy(segment + at, kept, sizeof kept);
    }
    /* A batch that was overwritten by another good one that begins in the midst of it. */
    make_segment();
    size_t end = used;
    used = LOG_SEGMENT_HEADER_BYTES + 2 * LOG_BATCH_ALIGNMENT;
    add_batch(9, 100);
    used = end;
    assert_int_equal(verify(SEGMENT_BYTES, false, &bad), ERR_DAMAGED);
    assert_int_equal(bad, LOG_SEGMENT_HEADER_BYTES + 2 * LOG_BATCH_ALIGNMENT);
    /* One that ends beyond what is in use. */
    make_segment();
    used = LOG_SEGMENT_HEADER_BYTES + 2 * LOG_BATCH_ALIGNMENT;
    assert_int_equal(verify(SEGMENT_BYTES, false, &bad), ERR_DAMAGED);
    assert_int_equal(bad, used);
}

/* A crash in the first write may have left the batch whole, and the header not. */
static void a_segment_without_its_header(void **state)
{
    (void)state;
    uint64_t bad;
    for (int cut = 0; cut <= 1; cut++) {
        make_segment();
        memset(segment + (cut ? 100 : 0), 0, LOG_BLOCK_BYTES - (cut ? 100u : 0u));
        assert_int_equal(verify(SEGMENT_BYTES, false, &bad), ERR_DAMAGED);
        assert_int_equal(bad, 0);
        assert_int_equal(verify(SEGMENT_BYTES, true, &bad), ERR_OK);
        segment[LOG_SEGMENT_HEADER_BYTES + 50] ^= 1;
        assert_int_equal(verify(SEGMENT_BYTES, true, &bad), ERR_DAMAGED);
    }
    make_segment();
    segment[20] ^= 1;
    assert_int_equal(verify(SEGMENT_BYTES, true, &bad), ERR_DAMAGED);
}

static void another_log_or_segment_is_found(void **state)
{
    (void)state;
    make_segment();
    struct log_verify verify;
    uint64_t bad;
    log_verify_begin(&verify, LOG_ID + 1, NUMBER, false);
    assert_int_equal(log_verify_feed(&verify, segment, used, &bad), ERR_DAMAGED);
    log_verify_begin(&verify, LOG_ID, NUMBER + 1, false);
    assert_int_equal(log_verify_feed(&verify, segment, used, &bad), ERR_DAMAGED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_is_good_in_any_slices),      cmocka_unit_test(every_flipped_bit_is_found),
        cmocka_unit_test(blocks_out_of_place_are_found),   cmocka_unit_test(a_segment_without_its_header),
        cmocka_unit_test(another_log_or_segment_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
