/*
 * The log's recovery: damage is noticed wherever it lies, and what can't be told from it is never taken for a torn end. See
 * log_fixture.h for how the logs are made.
 */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "log_fixture.h"

static const struct fixture_base no_base;

static bool at_least(raft_term term_a, raft_index index_a, raft_term term_b, raft_index index_b)
{
    return term_a != term_b ? term_a > term_b : index_a >= index_b;
}

/*
 * After one damage anywhere: either nothing is lost, or the log is uncertain and what is proven is the log as it was after
 * some batch, or its beginning; and the extent, if known, covers the true end.
 */
static void expect_detected(struct fixture *fixture, const char *where, size_t at)
{
    struct fixture_found found = fixture_scan(fixture, no_base, 0);
    const struct log_scan_result *result = &found.result;
    bool whole = fixture_found_is(&found, &fixture->log);
    bool good = whole;
    for (uint32_t i = 0; !good && i < fixture->batch_count; i++) {
        good = fixture_found_is(&found, &fixture->batches[i].after);
    }
    good = good || found.log.count == 0;
    raft_index last = fixture->log.count;
    raft_term last_term = fixture_term(&fixture->log, last);
    if (result->outcome != LOG_UNCERTAIN) good = good && whole;
    if (result->outcome == LOG_UNCERTAIN && result->extent_known) {
        good = good && at_least(result->known_last_term, result->known_last_index, last_term, last);
    }
    good = good && at_least(result->known_last_term, result->known_last_index, result->last_term, result->last_index);
    good = good && result->damage[0] != '\0' && (result->damaged_blocks > 0 || result->outcome == LOG_UNCERTAIN);
    if (!good) {
        fail_msg("%s %zu: %s, %u of %u entries, known %llu, extent %d (%s)", where, at,
                 log_outcome_name(result->outcome), found.log.count, fixture->log.count,
                 (unsigned long long)result->known_last_index, result->extent_known, result->damage);
    }
    fixture_found_free(&found);
}

static void a_flipped_bit_in_any_byte_is_detected(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 2; seed++) {
        struct fixture fixture;
        fixture_init(&fixture, seed);
        fixture_write_many(&fixture, 2, 20 * 1024, 600);
        fixture_add_segment(&fixture, 16 * 1024);
        fixture_write_batch(&fixture, fixture.log.count + 1, 2, 700);
        for (uint32_t s = 0; s < fixture.segment_count; s++) {
            for (size_t at = 0; at < fixture.segments[s].size; at++) {
                uint8_t bit = (uint8_t)(1u << random_below(&fixture.random, 8));
                fixture.segments[s].data[at] ^= bit;
                expect_detected(&fixture, "flip at", s * 1000000 + at);
                fixture.segments[s].data[at] ^= bit;
            }
        }
        fixture_expect(&fixture, LOG_CLEAN, &fixture.log);
        fixture_free(&fixture);
    }
}

static void a_zeroed_or_stale_sector_before_the_end_is_detected(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, 5);
    fixture_write_many(&fixture, 3, 64 * 1024, 900);
    uint32_t tried = 0;
    for (uint32_t i = 0; i + 1 < fixture.batch_count; i++) {
        struct fixture_batch *batch = &fixture.batches[i];
        for (uint32_t b = 0; b < batch->blocks; b++) {
            uint8_t saved[LOG_BLOCK_BYTES];
            uint8_t *block = fixture_block(&fixture, batch, b);
            memcpy(saved, block, sizeof saved);
            for (int kind = 0; kind < 3; kind++) {
                if (kind == 0) {
                    memset(block, 0, sizeof saved);
                } else if (kind == 1) {
                    /* A misdirected write: another block's bytes. */
                    struct fixture_batch *other = &fixture.batches[(i + 1) % fixture.batch_count];
                    memcpy(block, fixture_block(&fixture, other, 0), sizeof saved);
                } else {
                    /* The same place in another segment. */
                    uint32_t segment = (batch->segment + 1) % fixture.segment_count;
                    memcpy(block, fixture.segments[segment].data + batch->offset + (size_t)b * LOG_BLOCK_BYTES,
                           sizeof saved);
                }
                struct fixture_found found = fixture_scan(&fixture, no_base, 0);
                /* What a later batch replaced may be lost; else it is uncertain from the first entry that is gone. */
                bool superseded = fixture_found_is(&found, &fixture.log);
                raft_index first_lost = batch->first_index;
                if (found.result.outcome != LOG_UNCERTAIN) {
                    assert_true(superseded);
                } else {
                    assert_true(found.result.last_index + 1 <= fixture.log.count);
                    assert_true(found.result.extent_known);
                    assert_true(found.result.known_last_index >= fixture.log.count);
                    bool before = false;
                    for (uint32_t k = 0; k < fixture.batch_count; k++) {
                        before = before || fixture_found_is(&found, &fixture.batches[k].after);
                    }
                    assert_true(before || (i == 0 && found.log.count == 0));
                    assert_true(found.result.last_index + 1 >= first_lost || before);
                    tried++;
                }
                fixture_found_free(&found);
                memcpy(block, saved, sizeof saved);
            }
        }
    }
    assert_true(tried > 50);
    fixture_free(&fixture);
}

static void damage_in_the_last_batch_is_uncertain_not_torn(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, 9);
    fixture_add_segment(&fixture, 64 * 1024);
    fixture_write_batch(&fixture, 1, 3, 100);
    struct fixture_batch *last = fixture_write_batch(&fixture, 4, 4, 1500);
    assert_true(last->blocks > 2);
    for (uint32_t b = 0; b < last->blocks; b++) {
        uint8_t *block = fixture_block(&fixture, last, b);
        block[100] ^= 0x10;
        struct log_scan_result result = fixture_expect(&fixture, LOG_UNCERTAIN, fixture_before_last(&fixture));
        assert_true(result.known_last_index == last->last_index && result.known_last_term == last->last_term);
        assert_true(result.extent_known);
        assert_true(result.damaged_blocks == 1);
        block[100] ^= 0x10;
    }
    /* A damaged block and missing ones: still not what a crash leaves. */
    memset(fixture_block(&fixture, last, 0), 0, LOG_BLOCK_BYTES);
    fixture_block(&fixture, last, 1)[77] ^= 1;
    struct log_scan_result result = fixture_expect(&fixture, LOG_UNCERTAIN, fixture_before_last(&fixture));
    assert_true(result.extent_known && result.known_last_index == last->last_index);
    /* All of its blocks: nobody knows what it was. */
    for (uint32_t b = 0; b < last->blocks; b++) fixture_block(&fixture, last, b)[511] ^= 1;
    result = fixture_expect(&fixture, LOG_UNCERTAIN, fixture_before_last(&fixture));
    assert_false(result.extent_known);
    assert_true(result.known_last_index == 3);
    fixture_free(&fixture);

    /* A batch of one block. */
    fixture_init(&fixture, 9);
    fixture_add_segment(&fixture, 64 * 1024);
    fixture_write_batch(&fixture, 1, 3, 100);
    last = fixture_write_batch(&fixture, 4, 1, 50);
    fixture_block(&fixture, last, 0)[40] ^= 2;
    result = fixture_expect(&fixture, LOG_UNCERTAIN, fixture_before_last(&fixture));
    assert_false(result.extent_known);
    assert_true(result.known_last_index == 3);
    assert_non_null(strstr(result.damage, "log-0000000000000001.seg at offset 8192"));
    fixture_free(&fixture);
}

static void damage_that_a_conflict_replaced_is_harmless(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, 9);
    fixture_add_segment(&fixture, 64 * 1024);
    fixture_write_batch(&fixture, 1, 3, 100);
    struct fixture_batch *lost = fixture_write_batch(&fixture, 4, 4, 300);
    fixture_write_batch(&fixture, 4, 1, 100);
    fixture_write_batch(&fixture, 5, 2, 100);
    fixture_block(&fixture, lost, 0)[40] ^= 2;
    struct log_scan_result result = fixture_expect(&fixture, LOG_CLEAN, &fixture.log);
    assert_true(result.damaged_blocks == 1 && result.damage[0] != '\0');
    /* The same, but the conflict's batch is lost with it. */
    memset(fixture_block(&fixture, &fixture.batches[2], 0), 0, LOG_BLOCK_BYTES);
    result = fixture_expect(&fixture, LOG_UNCERTAIN, &fixture.batches[0].after);
    assert_true(result.extent_known && result.known_last_index == 6);
    fixture_free(&fixture);
}

static void missing_files_are_noticed(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, 11);
    fixture_write_many(&fixture, 4, 64 * 1024, 900);
    uint32_t last_before[4];
    for (uint32_t i = 0; i < fixture.batch_count; i++) last_before[fixture.batches[i].segment] = i;
    for (uint32_t s = 0; s < 4; s++) {
        fixture.segments[s].missing = true;
        struct fixture_found found = fixture_scan(&fixture, no_base, 4);
        assert_int_equal(found.result.outcome, LOG_UNCERTAIN);
        static const struct fixture_log empty;
        assert_true(fixture_found_is(&found, s == 0 ? &empty : &fixture.batches[last_before[s - 1]].after));
        /* Those after it tell how far it went; of the last one nobody knows. */
        assert_int_equal(found.result.extent_known, s < 3);
        if (s < 3) assert_true(found.result.known_last_index == fixture.log.count);
        assert_true(found.result.next_segment_number == 5);
        assert_true(found.result.next_batch_number >= fixture.next_number);
        fixture_found_free(&found);
        fixture.segments[s].missing = false;
    }
    /* All of them. */
    for (uint32_t s = 0; s < 4; s++) fixture.segments[s].missing = true;
    struct fixture_found found = fixture_scan(&fixture, no_base, 4);
    assert_int_equal(found.result.outcome, LOG_UNCERTAIN);
    assert_false(found.result.extent_known);
    fixture_found_free(&found);
    fixture_free(&fixture);
}

static void a_spare_after_a_missing_last_segment_does_not_hide_it(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, 11);
    fixture_write_many(&fixture, 2, 64 * 1024, 900);
    fixture_add_segment(&fixture, 64 * 1024);
    fixture.segments[1].missing = true;
    struct fixture_found found = fixture_scan(&fixture, no_base, 2);
    assert_int_equal(found.result.outcome, LOG_UNCERTAIN);
    assert_false(found.result.extent_known);
    fixture_found_free(&found);
    /* A segment that the metadata don't know of yet, and one that they still do: the log goes on without it. */
    fixture.segments[1].missing = false;
    found = fixture_scan(&fixture, no_base, 1);
    assert_int_equal(found.result.outcome, LOG_CLEAN);
    fixture_found_free(&found);
    fixture_free(&fixture);
}

static void a_cut_file_is_noticed(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, 11);
    fixture_write_many(&fixture, 2, 64 * 1024, 900);
    uint64_t whole = fixture.segments[1].size;
    /* At any length, even a crooked one. */
    for (uint64_t size = 0; size < whole; size += 1 + random_below(&fixture.random, 700)) {
        fixture.segments[1].size = size;
        struct fixture_found found = fixture_scan(&fixture, no_base, 2);
        if (size >= LOG_BLOCK_BYTES) {
            assert_int_equal(found.result.outcome, LOG_UNCERTAIN);
            assert_false(found.result.extent_known);
        }
        fixture_found_free(&found);
    }
    fixture.segments[1].size = whole;
    fixture_free(&fixture);
}

static void what_cannot_be_read_is_damage(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, 11);
    fixture_write_many(&fixture, 1, 64 * 1024, 900);
    struct log_scan *scan = log_scan_new(FIXTURE_LOG_ID, 0, 0, 0);
    log_scan_segment(scan, 1, fixture.segments[0].size);
    log_scan_feed(scan, fixture.segments[0].data, 4096);
    struct log_scan_batch batch;
    assert_false(log_scan_next_batch(scan, &batch));
    struct log_scan_result result;
    log_scan_finish(scan, 1, &result);
    assert_int_equal(result.outcome, LOG_UNCERTAIN);
    assert_false(result.extent_known);
    assert_non_null(strstr(result.damage, "at offset 4096: the rest of the segment can't be read"));
    log_scan_free(scan);
    fixture_free(&fixture);
}

static void a_segment_of_another_place_or_log_is_damage(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, 13);
    fixture_write_many(&fixture, 3, 64 * 1024, 900);
    uint32_t first_of_second = 0;
    while (fixture.batches[first_of_second].segment == 0) first_of_second++;
    const struct fixture_log *before = &fixture.batches[first_of_second - 1].after;

    /* Two files with their names swapped. */
    struct fixture_segment saved = fixture.segments[1];
    fixture.segments[1].data = fixture.segments[2].data;
    fixture.segments[2].data = saved.data;
    struct log_scan_result result = fixture_expect(&fixture, LOG_UNCERTAIN, before);
    assert_false(result.extent_known);
    assert_non_null(strstr(result.damage, "belongs to another segment"));
    fixture.segments[2].data = fixture.segments[1].data;
    fixture.segments[1].data = saved.data;
    fixture_expect(&fixture, LOG_CLEAN, &fixture.log);

    /* Another log's: its header is good and every block of it is, in that log. */
    put_u64(fixture_header(&fixture, 1) + 16, FIXTURE_LOG_ID + 1);
    fixture_reseal(&fixture.segments[1], 0, 0);
    for (uint32_t i = 0; i < fixture.batch_count; i++) {
        if (fixture.batches[i].segment != 1) continue;
        for (uint32_t b = 0; b < fixture.batches[i].blocks; b++) {
            fixture_reseal(&fixture.segments[1], FIXTURE_LOG_ID + 1,
                           (uint32_t)(fixture.batches[i].offset / LOG_BLOCK_BYTES) + b);
        }
    }
    result = fixture_expect(&fixture, LOG_UNCERTAIN, before);
    assert_non_null(strstr(result.damage, "belongs to another log"));
    fixture_free(&fixture);
}

static void a_newer_version_is_told_apart(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, 13);
    fixture_write_many(&fixture, 1, 64 * 1024, 900);
    assert_false(fixture_expect(&fixture, LOG_CLEAN, &fixture.log).newer_version);
    put_u32(fixture_header(&fixture, 0) + 8, LOG_VERSION + 1);
    fixture_reseal(&fixture.segments[0], 0, 0);
    struct fixture_found found = fixture_scan(&fixture, no_base, 1);
    assert_true(found.result.newer_version);
    fixture_found_free(&found);
    fixture_free(&fixture);
}

/* ---- Good blocks that don't make a log ---- */

static void write_one_more(struct fixture *fixture, uint64_t number, uint32_t previous_chain)
{
    struct entry *entry = entry_new(ENTRY_COMMAND, 5);
    memcpy(entry_payload(entry), "wrong", 5);
    entry_seal(entry, fixture->log.count + 1, fixture->term, previous_chain);
    uint64_t saved = fixture->next_number;
    fixture->next_number = number;
    fixture_write_entries(fixture, &entry, 1);
    fixture->next_number = saved;
}

static void a_batch_number_that_comes_again_or_is_skipped_is_damage(void **state)
{
    (void)state;
    static const int64_t off_by[] = {-2, -1, 1, 2, 1000};
    for (size_t i = 0; i < ARRAY_COUNT(off_by); i++) {
        struct fixture fixture;
        fixture_init(&fixture, 13);
        fixture_add_segment(&fixture, 64 * 1024);
        for (int b = 0; b < 4; b++) fixture_write_batch(&fixture, fixture.log.count + 1, 2, 900);
        struct fixture_log before = fixture_log_copy(&fixture.log, fixture.log.count);
        write_one_more(&fixture, (uint64_t)((int64_t)fixture.next_number + off_by[i]),
                       fixture_chain(&before, before.count));
        struct log_scan_result result = fixture_expect(&fixture, LOG_UNCERTAIN, &before);
        assert_true(result.known_last_index == before.count + 1);
        fixture_log_free(&before);
        fixture_free(&fixture);
    }
}

static void a_batch_that_breaks_the_chain_is_damage(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, 13);
    fixture_add_segment(&fixture, 64 * 1024);
    for (int b = 0; b < 4; b++) fixture_write_batch(&fixture, fixture.log.count + 1, 2, 900);
    struct fixture_log before = fixture_log_copy(&fixture.log, fixture.log.count);
    write_one_more(&fixture, fixture.next_number, fixture_chain(&before, before.count) ^ 1);
    struct log_scan_result result = fixture_expect(&fixture, LOG_UNCERTAIN, &before);
    assert_true(result.known_last_index == before.count + 1 && result.extent_known);
    assert_non_null(strstr(result.damage, "doesn't continue the chain"));
    fixture_log_free(&before);
    fixture_free(&fixture);
}

static void a_batch_that_changes_committed_entries_is_damage(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, 13);
    fixture_add_segment(&fixture, 64 * 1024);
    fixture_write_batch(&fixture, 1, 4, 100);
    fixture.commit = 3;
    fixture_write_batch(&fixture, 5, 2, 100);
    struct fixture_log before = fixture_log_copy(&fixture.log, fixture.log.count);
    fixture_write_batch(&fixture, 3, 6, 100);
    struct log_scan_result result = fixture_expect(&fixture, LOG_UNCERTAIN, &before);
    assert_non_null(strstr(result.damage, "changes committed entries"));
    fixture_log_free(&before);
    fixture_free(&fixture);
}

/* Blocks whose checksums are right and whose fields are nonsense, as no writer makes them. */
static void senseless_fields_are_damage(void **state)
{
    (void)state;
    static const struct {
        size_t offset;
        size_t bytes;
        uint64_t value;
    } changes[] = {
        {8, 2, 1},  /* this block's number */
        {10, 2, 0}, /* count of blocks */
        {10, 2, 2},
        {10, 2, UINT16_MAX},
        {12, 2, 0}, /* used bytes */
        {12, 2, LOG_BLOCK_CONTENT_BYTES + 1},
        {12, 2, UINT16_MAX},
        {16, 8, 0}, /* last index */
        {16, 8, 6},
        {24, 8, 77}, /* last term */
        {32, 8, 0},  /* first index */
        {32, 8, UINT64_MAX},
        {48, 4, 0}, /* entry count */
        {48, 4, 2},
        {48, 4, UINT32_MAX},
        {52, 4, 0}, /* bytes of records */
        {52, 4, UINT32_MAX},
        {56, 4, 1}, /* the first record: payload bytes */
        {56, 4, UINT32_MAX},
        {60, 4, 1}, /* chain */
        {64, 8, 4}, /* index */
        {72, 8, 0}, /* term */
        {80, 1, 0}, /* type */
        {80, 1, 99},
    };
    for (size_t i = 0; i < ARRAY_COUNT(changes); i++) {
        struct fixture fixture;
        fixture_init(&fixture, 13);
        fixture_add_segment(&fixture, 64 * 1024);
        fixture_write_batch(&fixture, 1, 4, 100);
        struct fixture_batch *last = fixture_write_batch(&fixture, 5, 1, 40);
        uint8_t *block = fixture_block(&fixture, last, 0);
        memcpy(block + changes[i].offset, &changes[i].value, changes[i].bytes);
        fixture_reseal(&fixture.segments[0], FIXTURE_LOG_ID, (uint32_t)(last->offset / LOG_BLOCK_BYTES));
        struct fixture_found found = fixture_scan(&fixture, no_base, 0);
        bool good = fixture_found_is(&found, fixture_before_last(&fixture));
        /* A batch of two blocks of which one is missing is what a crash leaves. */
        bool torn = changes[i].offset == 10 && changes[i].value == 2;
        if (!good || (found.result.outcome != LOG_UNCERTAIN && !torn)) {
            fail_msg("change %zu: %s (%s)", i, log_outcome_name(found.result.outcome), found.result.damage);
        }
        fixture_found_free(&found);
        fixture_free(&fixture);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flipped_bit_in_any_byte_is_detected),
        cmocka_unit_test(a_zeroed_or_stale_sector_before_the_end_is_detected),
        cmocka_unit_test(damage_in_the_last_batch_is_uncertain_not_torn),
        cmocka_unit_test(damage_that_a_conflict_replaced_is_harmless),
        cmocka_unit_test(missing_files_are_noticed),
        cmocka_unit_test(a_spare_after_a_missing_last_segment_does_not_hide_it),
        cmocka_unit_test(a_cut_file_is_noticed),
        cmocka_unit_test(what_cannot_be_read_is_damage),
        cmocka_unit_test(a_segment_of_another_place_or_log_is_damage),
        cmocka_unit_test(a_newer_version_is_told_apart),
        cmocka_unit_test(a_batch_number_that_comes_again_or_is_skipped_is_damage),
        cmocka_unit_test(a_batch_that_breaks_the_chain_is_damage),
        cmocka_unit_test(a_batch_that_changes_committed_entries_is_damage),
        cmocka_unit_test(senseless_fields_are_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
