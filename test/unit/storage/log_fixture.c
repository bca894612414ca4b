#include "log_fixture.h"

#include <setjmp.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "base/mem.h"

void fixture_init(struct fixture *fixture, uint64_t seed)
{
    *fixture = (struct fixture){.term = 1, .next_number = 1};
    random_seed(&fixture->random, seed);
}

void fixture_free(struct fixture *fixture)
{
    for (uint32_t i = 0; i < fixture->segment_count; i++) mem_free(fixture->segments[i].data);
    for (uint32_t i = 0; i < fixture->batch_count; i++) fixture_log_free(&fixture->batches[i].after);
    fixture_log_free(&fixture->log);
}

struct fixture_log fixture_log_copy(const struct fixture_log *log, uint32_t count)
{
    struct fixture_log copy = {.entries = mem_alloc((count + 1) * sizeof(struct entry *)), .count = count};
    for (uint32_t i = 0; i < count; i++) copy.entries[i] = entry_ref(log->entries[i]);
    return copy;
}

void fixture_log_free(struct fixture_log *log)
{
    for (uint32_t i = 0; i < log->count; i++) entry_unref(log->entries[i]);
    mem_free(log->entries);
    *log = (struct fixture_log){0};
}

raft_term fixture_term(const struct fixture_log *log, raft_index index)
{
    return index == 0 ? 0 : entry_term(log->entries[index - 1]);
}

uint32_t fixture_chain(const struct fixture_log *log, raft_index index)
{
    return index == 0 ? 0 : entry_chain(log->entries[index - 1]);
}

struct fixture_segment *fixture_add_segment(struct fixture *fixture, uint64_t size)
{
    assert_true(fixture->segment_count < FIXTURE_SEGMENTS_MAX);
    uint64_t number = fixture->segment_count == 0 ? 1 : fixture->segments[fixture->segment_count - 1].number + 1;
    struct fixture_segment *segment = &fixture->segments[fixture->segment_count++];
    *segment = (struct fixture_segment){.number = number, .size = size, .data = mem_alloc_zero(size)};
    fixture->end_offset = LOG_SEGMENT_HEADER_BYTES;
    return segment;
}

static void write_header(struct fixture *fixture, raft_index first_index)
{
    struct fixture_segment *segment = &fixture->segments[fixture->segment_count - 1];
    struct log_segment_header header = {
        .log_id = FIXTURE_LOG_ID,
        .number = segment->number,
        .size_bytes = segment->size,
        .first_index = first_index,
        .previous_term = fixture_term(&fixture->log, first_index - 1),
        .previous_chain = fixture_chain(&fixture->log, first_index - 1),
        .first_batch_number = fixture->next_number,
        .owed = fixture->owed.owed,
        .owed_extent_known = fixture->owed.owed_extent_known,
        .owed_index = fixture->owed.owed_index,
        .owed_term = fixture->owed.owed_term,
    };
    /* Only where there is none yet: a test may have written its own. */
    if (log_block_is_zero(segment->data)) log_segment_header_encode(&header, segment->data);
}

void fixture_write_header(struct fixture *fixture)
{
    write_header(fixture, fixture->log.count + 1);
}

struct fixture_batch *fixture_write_entries(struct fixture *fixture, struct entry **entries, uint32_t count)
{
    assert_true(fixture->batch_count < FIXTURE_BATCHES_MAX);
    struct fixture_segment *segment = &fixture->segments[fixture->segment_count - 1];
    size_t record_bytes = 0;
    for (uint32_t i = 0; i < count; i++) record_bytes += entries[i]->record_bytes;
    raft_index first = entry_index(entries[0]);

    struct fixture_batch *batch = &fixture->batches[fixture->batch_count++];
    *batch = (struct fixture_batch){
        .segment = fixture->segment_count - 1,
        .offset = fixture->end_offset,
        .file_bytes = log_batch_file_bytes(record_bytes),
        .blocks =
            (uint32_t)((record_bytes + LOG_BATCH_HEADER_BYTES + LOG_BLOCK_CONTENT_BYTES - 1) / LOG_BLOCK_CONTENT_BYTES),
        .number = fixture->next_number,
        .first_index = first,
        .last_index = first + count - 1,
        .last_term = entry_term(entries[count - 1]),
        .begins_segment = fixture->end_offset == LOG_SEGMENT_HEADER_BYTES,
    };
    assert_true(batch->offset + batch->file_bytes <= segment->size);
    if (batch->begins_segment) write_header(fixture, first);
    struct log_batch_place place = {FIXTURE_LOG_ID, segment->number, batch->offset, batch->number};
    log_batch_encode(&place, fixture->commit, entries, count, segment->data + batch->offset);
    fixture->next_number++;
    fixture->end_offset += batch->file_bytes;

    struct fixture_log *log = &fixture->log;
    while (log->count >= first) entry_unref(log->entries[--log->count]);
    log->entries = mem_realloc(log->entries, (log->count + count) * sizeof(struct entry *));
    for (uint32_t i = 0; i < count; i++) log->entries[log->count++] = entries[i];
    batch->after = fixture_log_copy(log, log->count);
    return batch;
}

struct fixture_batch *fixture_write_batch(struct fixture *fixture, raft_index first_index, uint32_t count,
                                          size_t payload_max)
{
    struct entry *entries[1024];
    assert_true(count <= ARRAY_COUNT(entries));
    /* A conflict comes from a newer leader. */
    if (first_index <= fixture->log.count) fixture->term++;
    uint32_t chain = fixture_chain(&fixture->log, first_index - 1);
    for (uint32_t i = 0; i < count; i++) {
        entries[i] = entry_new(ENTRY_COMMAND, (size_t)random_below(&fixture->random, payload_max + 1));
        uint8_t *payload = entry_payload(entries[i]);
        /* Zeros too: content may look like untouched blocks. */
        bool zeros = random_chance(&fixture->random, 200);
        for (size_t b = 0; b < entries[i]->record_bytes - ENTRY_HEADER_BYTES; b++) {
            payload[b] = zeros ? 0 : (uint8_t)random_u64(&fixture->random);
        }
        entry_seal(entries[i], first_index + i, fixture->term, chain);
        chain = entry_chain(entries[i]);
    }
    return fixture_write_entries(fixture, entries, count);
}

void fixture_write_many(struct fixture *fixture, uint32_t segments, uint64_t segment_bytes, size_t payload_max)
{
    for (uint32_t s = 0; s < segments; s++) {
        fixture_add_segment(fixture, segment_bytes);
        for (;;) {
            uint32_t count = (uint32_t)random_between(&fixture->random, 1, 6);
            uint64_t most = log_batch_file_bytes(count * (ENTRY_HEADER_BYTES + payload_max));
            if (fixture->end_offset + most > segment_bytes) break;
            raft_index first = fixture->log.count + 1;
            if (fixture->log.count > fixture->commit + 2 && random_chance(&fixture->random, 200)) {
                first = random_between(&fixture->random, fixture->commit + 1, fixture->log.count);
            }
            fixture_write_batch(fixture, first, count, payload_max);
            if (random_chance(&fixture->random, 300)) {
                fixture->commit = random_between(&fixture->random, fixture->commit, fixture->log.count);
            }
            if (random_chance(&fixture->random, 100)) fixture->term++;
        }
    }
}

uint8_t *fixture_block(struct fixture *fixture, const struct fixture_batch *batch, uint32_t block)
{
    return fixture->segments[batch->segment].data + batch->offset + (size_t)block * LOG_BLOCK_BYTES;
}

uint8_t *fixture_header(struct fixture *fixture, uint32_t segment)
{
    return fixture->segments[segment].data;
}

void fixture_reseal(const struct fixture_segment *segment, uint64_t log_id, uint32_t block)
{
    uint8_t *data = segment->data + (size_t)block * LOG_BLOCK_BYTES;
    uint8_t front[20];
    put_u64(front, log_id);
    put_u64(front + 8, segment->number);
    put_u32(front + 16, block);
    put_u32(data, crc32c(block == 0 ? 0 : crc32c(0, front, sizeof front), data + 4, LOG_BLOCK_BYTES - 4));
}

static void take_batch(struct fixture_found *found, const struct log_scan_batch *batch)
{
    struct fixture_log *log = &found->log;
    assert_true(batch->entry_count > 0);
    assert_true(batch->first_index > found->base);
    assert_true(batch->first_index <= found->base + log->count + 1);
    while (found->base + log->count >= batch->first_index) entry_unref(log->entries[--log->count]);
    log->entries = mem_realloc(log->entries, (log->count + batch->entry_count) * sizeof(struct entry *));
    found->segment_numbers = mem_realloc(found->segment_numbers, (log->count + batch->entry_count) * sizeof(uint64_t));
    for (uint32_t i = 0; i < batch->entry_count; i++) {
        assert_true(entry_index(batch->entries[i]) == batch->first_index + i);
        found->segment_numbers[log->count] = batch->segment_number;
        log->entries[log->count++] = batch->entries[i];
    }
    if (batch->commit > found->commit) found->commit = batch->commit;
    found->batches++;
}

struct fixture_found fixture_scan(struct fixture *fixture, struct fixture_base base, uint64_t expected_last_segment)
{
    struct fixture_found found = {.base = base.index};
    struct log_scan *scan = log_scan_new(FIXTURE_LOG_ID, base.index, base.term, base.chain);
    for (uint32_t i = 0; i < fixture->segment_count; i++) {
        const struct fixture_segment *segment = &fixture->segments[i];
        if (segment->missing) continue;
        log_scan_segment(scan, segment->number, segment->size);
        bool zero = true;
        for (uint64_t at = 0; at < segment->size;) {
            uint64_t size = random_between(&fixture->random, 1, 16) * LOG_BLOCK_BYTES;
            if (size > segment->size - at) size = segment->size - at;
            /* A copy, so that the sanitizer sees a read beyond the slice or after its time. */
            uint8_t *slice = mem_alloc(size);
            memcpy(slice, segment->data + at, size);
            for (uint64_t b = 0; b < size; b++) zero = zero && slice[b] == 0;
            log_scan_feed(scan, slice, size);
            struct log_scan_batch batch;
            while (log_scan_next_batch(scan, &batch)) {
                assert_true(batch.segment_number == segment->number);
                take_batch(&found, &batch);
                /* The place it names is where it can be read again. */
                struct log_batch_place place = {FIXTURE_LOG_ID, segment->number, batch.offset,
                                                get_u32(segment->data + batch.offset + 4)};
                struct entry **again;
                uint32_t again_count;
                uint64_t bad_offset;
                assert_int_equal(log_batch_decode(&place, segment->data + batch.offset, batch.file_bytes, &again,
                                                  &again_count, &bad_offset),
                                 ERR_OK);
                assert_true(again_count >= batch.entry_count);
                struct entry *last = batch.entries[batch.entry_count - 1];
                assert_true(entry_chain(again[again_count - 1]) == entry_chain(last));
                for (uint32_t e = 0; e < again_count; e++) entry_unref(again[e]);
                mem_free(again);
            }
            mem_free(slice);
            at += size;
        }
        assert_true(log_scan_segment_untouched(scan) == zero);
    }
    log_scan_finish(scan, expected_last_segment, &found.result);
    log_scan_free(scan);

    const struct log_scan_result *result = &found.result;
    assert_true(result->last_index == base.index + found.log.count);
    if (found.log.count > 0) {
        const struct entry *last = found.log.entries[found.log.count - 1];
        assert_true(result->last_term == entry_term(last) && result->last_chain == entry_chain(last));
    } else {
        assert_true(result->last_term == base.term && result->last_chain == base.chain);
    }
    if (result->outcome != LOG_UNCERTAIN) {
        assert_true(result->known_last_index == result->last_index && result->known_last_term == result->last_term);
        assert_true(result->extent_known);
    } else {
        assert_true(result->damage[0] != '\0');
    }
    assert_true(result->next_segment_number > result->last_segment_number);
    return found;
}

struct fixture_base fixture_base_at(const struct fixture_log *log, raft_index index)
{
    return (struct fixture_base){index, fixture_term(log, index), fixture_chain(log, index)};
}

bool fixture_found_is(const struct fixture_found *found, const struct fixture_log *log)
{
    if (found->base + found->log.count != log->count) return false;
    for (uint32_t i = 0; i < found->log.count; i++) {
        const struct entry *a = found->log.entries[i];
        const struct entry *b = log->entries[found->base + i];
        if (a->record_bytes != b->record_bytes || memcmp(a->record, b->record, a->record_bytes) != 0) return false;
    }
    return true;
}

void fixture_found_free(struct fixture_found *found)
{
    fixture_log_free(&found->log);
    mem_free(found->segment_numbers);
}

struct log_scan_result fixture_expect(struct fixture *fixture, enum log_outcome outcome, const struct fixture_log *log)
{
    struct fixture_found found = fixture_scan(fixture, (struct fixture_base){0}, 0);
    if (found.result.outcome != outcome || !fixture_found_is(&found, log)) {
        fail_msg("%s, %u entries where %s, %u entries were expected (%s)", log_outcome_name(found.result.outcome),
                 found.log.count, log_outcome_name(outcome), log->count, found.result.damage);
    }
    fixture_found_free(&found);
    return found.result;
}

const struct fixture_log *fixture_before_last(const struct fixture *fixture)
{
    return &fixture->batches[fixture->batch_count - 2].after;
}
