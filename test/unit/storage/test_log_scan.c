/*
 * The log's recovery: what is whole, what a crash leaves, snapshots and repairs. See log_fixture.h for how the logs are made;
 * test_log_damage.c has what is damage, test_log_crash.c runs many crashes in a row.
 */
#include "storage/log_scan.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "log_fixture.h"

static const struct fixture_base no_base;

static void no_segment_is_an_empty_log(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, 1);
    struct log_scan_result result = fixture_expect(&fixture, LOG_CLEAN, &fixture.log);
    assert_true(result.last_index == 0 && result.last_segment_number == 0 && result.next_batch_number == 1);
    assert_true(result.next_segment_number == 1);
    assert_string_equal(result.damage, "");

    /* With a snapshot, the log is what the snapshot says. */
    struct fixture_found found = fixture_scan(&fixture, (struct fixture_base){7, 3, 99}, 0);
    assert_int_equal(found.result.outcome, LOG_CLEAN);
    assert_true(found.result.last_index == 7 && found.result.last_term == 3 && found.result.last_chain == 99);
    fixture_found_free(&found);

    /* Spares only. */
    fixture_add_segment(&fixture, 65536);
    fixture_add_segment(&fixture, 65536);
    result = fixture_expect(&fixture, LOG_CLEAN, &fixture.log);
    assert_true(result.last_segment_number == 0 && result.next_segment_number == 3);
    fixture_free(&fixture);
}

static void a_whole_log_is_clean(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct fixture fixture;
        fixture_init(&fixture, seed);
        fixture_write_many(&fixture, 1 + seed % 4, 128 * 1024, seed % 2 ? 200 : 6000);
        uint64_t last_segment = fixture.segment_count;
        uint64_t end_offset = fixture.end_offset;
        if (seed % 3 == 0) fixture_add_segment(&fixture, 128 * 1024);
        struct log_scan_result result = fixture_expect(&fixture, LOG_CLEAN, &fixture.log);
        assert_true(result.next_batch_number == fixture.next_number);
        assert_true(result.last_segment_number == last_segment);
        assert_true(result.end_offset == end_offset);
        assert_true(result.damaged_blocks == 0);
        assert_string_equal(result.damage, "");
        fixture_free(&fixture);
    }
}

static void the_largest_batch_is_read_back(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, 1);
    fixture_add_segment(&fixture, 16u * 1024 * 1024);
    struct entry *entries[3];
    uint32_t chain = 0;
    size_t left = LOG_BATCH_RECORD_BYTES_MAX;
    for (uint32_t i = 0; i < 3; i++) {
        size_t payload =
            left - ENTRY_HEADER_BYTES < ENTRY_PAYLOAD_BYTES_MAX ? left - ENTRY_HEADER_BYTES : ENTRY_PAYLOAD_BYTES_MAX;
        if (i == 1) payload -= 1024;
        entries[i] = entry_new(ENTRY_COMMAND, payload);
        memset(entry_payload(entries[i]), (int)i, payload);
        entry_seal(entries[i], i + 1, 1, chain);
        chain = entry_chain(entries[i]);
        left -= entries[i]->record_bytes;
    }
    assert_true(left == 0);
    struct fixture_batch *batch = fixture_write_entries(&fixture, entries, 3);
    assert_true(batch->blocks == LOG_BATCH_BLOCKS_MAX);
    fixture_write_batch(&fixture, 4, 1, 10);
    fixture_expect(&fixture, LOG_CLEAN, &fixture.log);
    fixture_free(&fixture);
}

/* ---- What a crash leaves ---- */

/* Three shapes of a last batch: in the middle of a segment, a conflict's, and a new segment's first. */
static void write_before_last(struct fixture *fixture, uint64_t seed, uint32_t *blocks)
{
    fixture_init(fixture, seed);
    fixture_write_many(fixture, 2, 64 * 1024, 300);
    fixture_add_segment(fixture, 64 * 1024);
    *blocks = 0;
    if (seed % 3 != 2) fixture_write_batch(fixture, fixture->log.count + 1, 2, 100);
    raft_index first = seed % 3 == 1 ? fixture->log.count : fixture->log.count + 1;
    if (first <= fixture->commit) first = fixture->log.count + 1;
    struct fixture_batch *last = fixture_write_batch(fixture, first, 3, 1500);
    *blocks = last->blocks;
}

static void the_last_batch_cut_at_every_byte_is_torn(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 6; seed++) {
        struct fixture fixture;
        uint32_t blocks;
        write_before_last(&fixture, seed, &blocks);
        struct fixture_batch *last = &fixture.batches[fixture.batch_count - 1];
        uint8_t *data = fixture_block(&fixture, last, 0);
        size_t size = (size_t)blocks * LOG_BLOCK_BYTES;
        for (size_t cut = size; cut-- > 0;) {
            data[cut] = 0;
            struct fixture_found found = fixture_scan(&fixture, no_base, 0);
            /* Only the last byte's zero can leave the batch as it was, and then it isn't cut at all. */
            enum log_outcome outcome = cut == 0 ? LOG_CLEAN : LOG_TORN;
            /* A segment's first batch: the header is there, so something was written. */
            if (cut == 0 && last->begins_segment) outcome = found.result.outcome;
            assert_true(found.result.outcome != LOG_UNCERTAIN);
            if (found.result.outcome != outcome || !fixture_found_is(&found, fixture_before_last(&fixture))) {
                fail_msg("seed %d, cut at %zu: %s, %u entries (%s)", (int)seed, cut,
                         log_outcome_name(found.result.outcome), found.log.count, found.result.damage);
            }
            if (outcome == LOG_TORN) {
                assert_true(found.result.next_batch_number > last->number);
                assert_true(found.result.end_offset > last->offset);
                assert_true(found.result.damage[0] != '\0');
            } else {
                assert_true(found.result.next_batch_number == last->number);
                assert_true(found.result.end_offset == last->offset);
            }
            fixture_found_free(&found);
        }
        fixture_free(&fixture);
    }
}

static void a_last_batch_with_sectors_missing_is_torn(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 400; seed++) {
        struct fixture fixture;
        uint32_t blocks;
        write_before_last(&fixture, seed, &blocks);
        struct fixture_batch *last = &fixture.batches[fixture.batch_count - 1];
        uint32_t kept = 0;
        uint32_t cut = 0;
        for (uint32_t b = 0; b < blocks; b++) {
            uint8_t *block = fixture_block(&fixture, last, b);
            switch (random_below(&fixture.random, 5)) {
            case 0: {
                size_t at = (size_t)random_between(&fixture.random, 1, LOG_BLOCK_BYTES - 1);
                memset(block + at, 0, LOG_BLOCK_BYTES - at);
                cut++;
                break;
            }
            case 1:
            case 2:
                kept++;
                break;
            default:
                memset(block, 0, LOG_BLOCK_BYTES);
                break;
            }
        }
        bool header = true;
        if (last->begins_segment && random_chance(&fixture.random, 500)) {
            uint8_t *block = fixture_header(&fixture, last->segment);
            size_t at = random_chance(&fixture.random, 500)
                            ? 0
                            : (size_t)random_between(&fixture.random, 1, LOG_BLOCK_BYTES - 1);
            memset(block + at, 0, LOG_BLOCK_BYTES - at);
            header = at > 0;
        }
        bool untouched = kept == 0 && cut == 0 && (!last->begins_segment || !header);
        bool whole = kept == blocks;
        struct fixture_found found = fixture_scan(&fixture, no_base, 0);
        const struct fixture_log *log = whole ? &fixture.log : fixture_before_last(&fixture);
        if (found.result.outcome == LOG_UNCERTAIN || !fixture_found_is(&found, log) ||
            (found.result.outcome == LOG_CLEAN) != (untouched || (whole && header))) {
            /* A header alone that continues the log is a fine place to go on. */
            bool header_alone = last->begins_segment && kept == 0 && cut == 0;
            if (!header_alone) {
                fail_msg("seed %d: %s, %u entries, %u of %u blocks (%s)", (int)seed,
                         log_outcome_name(found.result.outcome), found.log.count, kept, blocks, found.result.damage);
            }
        }
        fixture_found_free(&found);
        fixture_free(&fixture);
    }
}

static void a_complete_first_batch_without_its_header_is_kept(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, 3);
    fixture_write_many(&fixture, 2, 64 * 1024, 300);
    fixture_add_segment(&fixture, 64 * 1024);
    fixture_write_batch(&fixture, fixture.log.count + 1, 3, 1500);
    memset(fixture_header(&fixture, 2), 0, LOG_BLOCK_BYTES);
    struct log_scan_result result = fixture_expect(&fixture, LOG_TORN, &fixture.log);
    assert_true(result.next_batch_number == fixture.next_number);

    /* A second batch means that the first one's sync returned, and the header's with it: it was damaged since. */
    fixture_write_batch(&fixture, fixture.log.count + 1, 1, 10);
    memset(fixture_header(&fixture, 2), 0, LOG_BLOCK_BYTES);
    result = fixture_expect(&fixture, LOG_UNCERTAIN, &fixture.log);
    assert_false(result.extent_known);
    fixture_free(&fixture);
}

static void a_segment_begun_for_a_conflict_does_not_cut_without_its_batch(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, 3);
    fixture_add_segment(&fixture, 64 * 1024);
    fixture_write_batch(&fixture, 1, 6, 100);
    struct fixture_log whole = fixture_log_copy(&fixture.log, fixture.log.count);
    fixture_add_segment(&fixture, 64 * 1024);
    struct fixture_batch *conflict = fixture_write_batch(&fixture, 4, 5, 400);
    fixture_expect(&fixture, LOG_CLEAN, &fixture.log);
    memset(fixture_block(&fixture, conflict, 1), 0, LOG_BLOCK_BYTES);
    fixture_expect(&fixture, LOG_TORN, &whole);
    for (uint32_t b = 0; b < conflict->blocks; b++) memset(fixture_block(&fixture, conflict, b), 0, LOG_BLOCK_BYTES);
    fixture_expect(&fixture, LOG_TORN, &whole);
    fixture_log_free(&whole);
    fixture_free(&fixture);
}

static void after_a_torn_end_only_a_new_segment_goes_on(void **state)
{
    (void)state;
    struct fixture fixture;
    uint32_t blocks;
    write_before_last(&fixture, 0, &blocks);
    struct fixture_batch *last = &fixture.batches[fixture.batch_count - 1];
    memset(fixture_block(&fixture, last, 1), 0, LOG_BLOCK_BYTES);
    struct log_scan_result result = fixture_expect(&fixture, LOG_TORN, fixture_before_last(&fixture));

    struct fixture_log *log = &fixture.log;
    while (log->count > result.last_index) entry_unref(log->entries[--log->count]);
    fixture.next_number = result.next_batch_number;
    struct fixture_segment *segment = fixture_add_segment(&fixture, 64 * 1024);
    assert_true(segment->number == result.next_segment_number);
    struct log_segment_header header;
    log_scan_next_header(&result, &header);
    header.log_id = FIXTURE_LOG_ID;
    header.size_bytes = segment->size;
    log_segment_header_encode(&header, segment->data);
    result = fixture_expect(&fixture, LOG_TORN, log); /* the header alone */
    fixture_write_batch(&fixture, log->count + 1, 4, 900);
    result = fixture_expect(&fixture, LOG_CLEAN, log);
    assert_true(result.damage[0] == '\0' || result.damaged_blocks == 0);
    fixture_write_batch(&fixture, log->count + 1, 4, 900);
    fixture_expect(&fixture, LOG_CLEAN, log);
    fixture_free(&fixture);
}

/* ---- Snapshots ---- */

static void a_snapshot_may_lie_anywhere_in_the_log(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct fixture fixture;
        fixture_init(&fixture, seed);
        fixture_write_many(&fixture, 3, 48 * 1024, 900);
        for (raft_index base = 0; base <= fixture.log.count; base++) {
            /* A snapshot is of committed entries only: of those that stay. */
            bool stays = true;
            for (uint32_t i = 0; i < fixture.batch_count; i++) {
                const struct fixture_log *after = &fixture.batches[i].after;
                if (after->count >= base && fixture_chain(after, base) != fixture_chain(&fixture.log, base)) {
                    stays = false;
                }
            }
            if (!stays) continue;
            struct fixture_found found = fixture_scan(&fixture, fixture_base_at(&fixture.log, base), 3);
            assert_int_equal(found.result.outcome, LOG_CLEAN);
            assert_true(fixture_found_is(&found, &fixture.log));
            fixture_found_free(&found);

            /* Segments that it covers may be gone; and what they held may be damaged. */
            for (uint32_t s = 0; s < 2; s++) {
                raft_index next_first = get_u64(fixture_header(&fixture, s + 1) + 40);
                if (next_first > base + 1) break;
                fixture.segments[s].missing = true;
                found = fixture_scan(&fixture, fixture_base_at(&fixture.log, base), 3);
                assert_int_equal(found.result.outcome, LOG_CLEAN);
                assert_true(fixture_found_is(&found, &fixture.log));
                fixture_found_free(&found);
            }
            fixture.segments[0].missing = fixture.segments[1].missing = false;
        }
        fixture_free(&fixture);
    }
}

static void damage_below_the_snapshot_is_harmless(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, 21);
    fixture_add_segment(&fixture, 256 * 1024);
    for (int i = 0; i < 12; i++) fixture_write_batch(&fixture, fixture.log.count + 1, 4, 300);
    for (uint32_t i = 0; i < fixture.batch_count; i++) {
        uint8_t *block = fixture_block(&fixture, &fixture.batches[i], 0);
        block[60] ^= 1;
        for (raft_index base = 0; base <= fixture.log.count; base++) {
            struct fixture_found found = fixture_scan(&fixture, fixture_base_at(&fixture.log, base), 1);
            /* The batch with the snapshot's last entry isn't needed if it ends there. */
            bool harmless = base >= fixture.batches[i].last_index;
            /* But the last one, a batch of which no good block is left, could have been anything. */
            bool last = i + 1 == fixture.batch_count && fixture.batches[i].blocks == 1;
            if (harmless && !last) {
                assert_true(found.result.outcome != LOG_UNCERTAIN);
                assert_true(fixture_found_is(&found, &fixture.log));
            } else {
                assert_int_equal(found.result.outcome, LOG_UNCERTAIN);
                raft_index before = fixture.batches[i].first_index - 1;
                assert_true(found.result.last_index == (base > before ? base : before));
            }
            assert_true(found.result.damaged_blocks == 1);
            fixture_found_free(&found);
        }
        block[60] ^= 1;
    }
    fixture_free(&fixture);
}

static void a_snapshot_that_the_log_contradicts(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, 21);
    fixture_add_segment(&fixture, 256 * 1024);
    for (int i = 0; i < 5; i++) fixture_write_batch(&fixture, fixture.log.count + 1, 4, 300);
    for (raft_index base = 1; base <= fixture.log.count; base++) {
        /* The same term and another chain can't be. */
        struct fixture_base wrong = fixture_base_at(&fixture.log, base);
        wrong.chain ^= 1;
        struct fixture_found found = fixture_scan(&fixture, wrong, 1);
        /* It can only matter for what the log has beyond. */
        assert_int_equal(found.result.outcome, base == fixture.log.count ? LOG_TORN : LOG_UNCERTAIN);
        assert_true(found.result.last_index == base);
        assert_true(found.result.known_last_index == fixture.log.count && found.result.extent_known);
        assert_non_null(strstr(found.result.damage, "differs from the snapshot"));
        fixture_found_free(&found);
        /* Another term: the log went on differently and was never committed; the install didn't get to the reset. */
        wrong.term += 3;
        found = fixture_scan(&fixture, wrong, 1);
        assert_int_equal(found.result.outcome, LOG_TORN);
        assert_true(found.result.last_index == base && found.log.count == 0);
        fixture_found_free(&found);
    }
    fixture_free(&fixture);
}

/* Begins the log anew after a snapshot, as an install does: a header alone. */
static void reset_after(struct fixture *fixture, struct fixture_base base)
{
    struct fixture_segment *segment = fixture_add_segment(fixture, 64 * 1024);
    struct log_segment_header header = {
        .log_id = FIXTURE_LOG_ID,
        .number = segment->number,
        .size_bytes = segment->size,
        .first_index = base.index + 1,
        .previous_term = base.term,
        .previous_chain = base.chain,
        .first_batch_number = fixture->next_number,
    };
    log_segment_header_encode(&header, segment->data);
}

static void an_install_resets_the_log(void **state)
{
    (void)state;
    /* The log ends before the snapshot, at it, after it on another branch; or it is damaged; or there is none. */
    for (int kind = 0; kind < 5; kind++) {
        struct fixture fixture;
        fixture_init(&fixture, 31);
        if (kind != 4) {
            fixture_add_segment(&fixture, 64 * 1024);
            for (int i = 0; i < 4; i++) fixture_write_batch(&fixture, fixture.log.count + 1, 3, 300);
        }
        struct fixture_base base = {.index = kind == 1 ? 12 : kind == 2 ? 8 : 30, .term = 9, .chain = 4711};
        for (uint32_t b = 0; kind == 3 && b < fixture.batches[3].blocks; b++) {
            fixture_block(&fixture, &fixture.batches[3], b)[50] ^= 4;
        }

        /* Before the reset: what the crash leaves isn't damage. */
        struct fixture_found found = fixture_scan(&fixture, base, 0);
        assert_int_equal(found.result.outcome, kind == 4 ? LOG_CLEAN : kind == 3 ? LOG_UNCERTAIN : LOG_TORN);
        assert_true(found.result.last_index == base.index);
        fixture_found_free(&found);

        reset_after(&fixture, base);
        found = fixture_scan(&fixture, base, 0);
        assert_int_equal(found.result.outcome, LOG_CLEAN);
        assert_true(found.result.last_index == base.index && found.log.count == 0);
        assert_true(found.result.last_segment_number == fixture.segment_count);
        assert_true(found.result.end_offset == LOG_SEGMENT_HEADER_BYTES);
        assert_true(found.result.next_batch_number == fixture.next_number);
        fixture_found_free(&found);

        /* Then it goes on there. */
        struct entry *entries[2];
        entries[0] = entry_new(ENTRY_COMMAND, 3);
        entries[1] = entry_new(ENTRY_EMPTY, 0);
        memcpy(entry_payload(entries[0]), "new", 3);
        entry_seal(entries[0], base.index + 1, 9, base.chain);
        entry_seal(entries[1], base.index + 2, 10, entry_chain(entries[0]));
        struct fixture_segment *segment = &fixture.segments[fixture.segment_count - 1];
        struct log_batch_place place = {FIXTURE_LOG_ID, segment->number, 4096, fixture.next_number};
        log_batch_encode(&place, base.index, entries, 2, segment->data + 4096);
        found = fixture_scan(&fixture, base, 0);
        assert_int_equal(found.result.outcome, LOG_CLEAN);
        assert_true(found.log.count == 2);
        fixture_found_free(&found);

        /* And a later snapshot of its own, inside. */
        struct fixture_base later = {base.index + 1, 9, entry_chain(entries[0])};
        found = fixture_scan(&fixture, later, 0);
        assert_int_equal(found.result.outcome, LOG_CLEAN);
        assert_true(found.log.count == 1 && found.result.last_index == base.index + 2);
        fixture_found_free(&found);

        /* Without the snapshot, the log has a hole. */
        found = fixture_scan(&fixture, no_base, 0);
        assert_int_equal(found.result.outcome, LOG_UNCERTAIN);
        assert_true(found.result.known_last_index == base.index + 2);
        fixture_found_free(&found);
        entry_unref(entries[0]);
        entry_unref(entries[1]);
        fixture_free(&fixture);
    }
}

/* ---- Repair ---- */

static void begin_repair(struct fixture *fixture, const struct log_scan_result *result)
{
    while (fixture->log.count > result->last_index) entry_unref(fixture->log.entries[--fixture->log.count]);
    fixture->next_number = result->next_batch_number;
    struct fixture_segment *segment = fixture_add_segment(fixture, 64 * 1024);
    segment->number = result->next_segment_number;
    struct log_segment_header header;
    log_scan_next_header(result, &header);
    header.log_id = FIXTURE_LOG_ID;
    header.size_bytes = segment->size;
    log_segment_header_encode(&header, segment->data);
}

/* Copies entries of another log, as a peer sends them. */
static void fetch(struct fixture *fixture, const struct fixture_log *from, uint32_t count)
{
    struct entry *entries[64];
    for (uint32_t i = 0; i < count; i++) entries[i] = entry_ref(from->entries[fixture->log.count + i]);
    fixture_write_entries(fixture, entries, count);
}

static void half_a_repair_does_not_look_certain(void **state)
{
    (void)state;
    for (int endless = 0; endless < 2; endless++) {
        struct fixture fixture;
        fixture_init(&fixture, 41);
        fixture_add_segment(&fixture, 64 * 1024);
        for (int i = 0; i < 6; i++) fixture_write_batch(&fixture, fixture.log.count + 1, 4, 600);
        struct fixture_log whole = fixture_log_copy(&fixture.log, fixture.log.count);
        for (uint32_t i = 2; i < 6; i++) {
            struct fixture_batch *batch = &fixture.batches[i];
            for (uint32_t b = endless || i == 2 ? 0 : batch->blocks; b < batch->blocks; b++) {
                fixture_block(&fixture, batch, b)[33] ^= 1;
            }
        }
        struct log_scan_result result = fixture_expect(&fixture, LOG_UNCERTAIN, &fixture.batches[1].after);
        assert_int_equal(result.extent_known, !endless);
        if (!endless) assert_true(result.known_last_index == whole.count);

        begin_repair(&fixture, &result);
        result = fixture_expect(&fixture, LOG_UNCERTAIN, &fixture.log);
        assert_int_equal(result.extent_known, !endless);
        while (fixture.log.count < whole.count) {
            fetch(&fixture, &whole, 4);
            bool done = fixture.log.count == whole.count && !endless;
            result = fixture_expect(&fixture, done ? LOG_CLEAN : LOG_UNCERTAIN, &fixture.log);
            if (!done) {
                assert_int_equal(result.extent_known, !endless);
                if (!endless) assert_true(result.known_last_index == whole.count);
                /* A second crash, in the next batch: nothing of what was owed is forgotten. */
                if (fixture.log.count == 12) {
                    begin_repair(&fixture, &result);
                    result = fixture_expect(&fixture, LOG_UNCERTAIN, &fixture.log);
                    assert_int_equal(result.extent_known, !endless);
                }
            }
        }
        /* The member became certain, and says so with a segment that owes nothing; once its first batch is there. */
        fixture_add_segment(&fixture, 64 * 1024);
        fixture_write_header(&fixture);
        fixture_expect(&fixture, endless ? LOG_UNCERTAIN : LOG_CLEAN, &whole);
        fixture_write_batch(&fixture, fixture.log.count + 1, 2, 100);
        fixture_expect(&fixture, LOG_CLEAN, &fixture.log);
        fixture_log_free(&whole);
        fixture_free(&fixture);
    }
}

static void the_repair_may_lose_its_header(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, 43);
    fixture_add_segment(&fixture, 64 * 1024);
    for (int i = 0; i < 6; i++) fixture_write_batch(&fixture, fixture.log.count + 1, 4, 600);
    struct fixture_log whole = fixture_log_copy(&fixture.log, fixture.log.count);
    for (uint32_t b = 0; b < fixture.batches[5].blocks; b++) fixture_block(&fixture, &fixture.batches[5], b)[33] ^= 1;
    struct log_scan_result result = fixture_expect(&fixture, LOG_UNCERTAIN, &fixture.batches[4].after);
    assert_false(result.extent_known);
    begin_repair(&fixture, &result);
    fetch(&fixture, &whole, 2);
    uint8_t saved[LOG_BLOCK_BYTES];
    memcpy(saved, fixture_header(&fixture, 1), sizeof saved);
    for (int kind = 0; kind < 3; kind++) {
        uint8_t *header = fixture_header(&fixture, 1);
        if (kind == 0) memset(header, 0, sizeof saved);
        if (kind == 1) memset(header + 60, 0, sizeof saved - 60);
        if (kind == 2) header[88] ^= 1;
        result = fixture_expect(&fixture, LOG_UNCERTAIN, &fixture.log);
        assert_false(result.extent_known);
        memcpy(header, saved, sizeof saved);
    }
    fixture_log_free(&whole);
    fixture_free(&fixture);
}

/* A repaired segment that begins below a snapshot made later. */
static void a_snapshot_inside_what_was_repaired(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, 47);
    fixture_add_segment(&fixture, 64 * 1024);
    for (int i = 0; i < 6; i++) fixture_write_batch(&fixture, fixture.log.count + 1, 4, 600);
    struct fixture_log whole = fixture_log_copy(&fixture.log, fixture.log.count);
    fixture_block(&fixture, &fixture.batches[2], 0)[33] ^= 1;
    struct log_scan_result result = fixture_expect(&fixture, LOG_UNCERTAIN, &fixture.batches[1].after);
    begin_repair(&fixture, &result);
    uint32_t steps[] = {3, 3, 5, 5};
    for (size_t s = 0; s < ARRAY_COUNT(steps); s++) {
        fetch(&fixture, &whole, steps[s]);
        bool done = s + 1 == ARRAY_COUNT(steps);
        for (raft_index base = 0; base <= whole.count; base++) {
            struct fixture_found found = fixture_scan(&fixture, fixture_base_at(&whole, base), 2);
            for (uint32_t i = 0; i < found.log.count; i++) {
                assert_true(entry_chain(found.log.entries[i]) == fixture_chain(&whole, base + i + 1));
            }
            if (done) {
                assert_true(found.result.last_index == whole.count);
                assert_int_equal(found.result.outcome, LOG_CLEAN);
            } else if (found.result.last_index < whole.count) {
                assert_int_equal(found.result.outcome, LOG_UNCERTAIN);
                assert_true(found.result.known_last_index == whole.count);
            }
            fixture_found_free(&found);
        }
    }
    fixture_log_free(&whole);
    fixture_free(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_segment_is_an_empty_log),
        cmocka_unit_test(a_whole_log_is_clean),
        cmocka_unit_test(the_largest_batch_is_read_back),
        cmocka_unit_test(the_last_batch_cut_at_every_byte_is_torn),
        cmocka_unit_test(a_last_batch_with_sectors_missing_is_torn),
        cmocka_unit_test(a_complete_first_batch_without_its_header_is_kept),
        cmocka_unit_test(a_segment_begun_for_a_conflict_does_not_cut_without_its_batch),
        cmocka_unit_test(after_a_torn_end_only_a_new_segment_goes_on),
        cmocka_unit_test(a_snapshot_may_lie_anywhere_in_the_log),
        cmocka_unit_test(damage_below_the_snapshot_is_harmless),
        cmocka_unit_test(a_snapshot_that_the_log_contradicts),
        cmocka_unit_test(an_install_resets_the_log),
        cmocka_unit_test(half_a_repair_does_not_look_certain),
        cmocka_unit_test(the_repair_may_lose_its_header),
        cmocka_unit_test(a_snapshot_inside_what_was_repaired),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
