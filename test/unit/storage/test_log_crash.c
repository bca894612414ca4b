/*
 * Crash upon crash, as a member lives through them: batches, conflicts, snapshots, removed segments and installs; each
 * crash keeps any part of the write that was under way; then recovery, and on from there by the rules of log_scan.h. With
 * damage too: then nothing that was acknowledged may be taken for absent, however often a crash interrupts the repair.
 */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "log_fixture.h"
#include "storage/log_scan.h"

#define SEGMENT_BYTES (24u * 1024)
#define PAYLOAD_MAX 700

struct member {
    struct fixture fixture;   /* its log is what is durable on the disk, or being written */
    struct fixture_log truth; /* all that it acknowledged; what its peers have */
    struct fixture_base base;
    uint64_t last_segment_known; /* to the metadata */
    uint32_t segment_of[4096];   /* where the entry with each index lies, in fixture.segments */
    bool uncertain;
    bool endless;
    uint32_t damages;
    /* Every entry that was ever durable. */
    struct fixture_base *history;
    size_t history_count;
};

static struct fixture *fixture_of(struct member *member)
{
    return &member->fixture;
}

static void forget_batches(struct fixture *fixture)
{
    for (uint32_t i = 0; i < fixture->batch_count; i++) fixture_log_free(&fixture->batches[i].after);
    fixture->batch_count = 0;
}

static void remember(struct member *member, const struct fixture_log *log)
{
    size_t most = member->history_count + log->count + 1;
    member->history = mem_realloc(member->history, most * sizeof *member->history);
    for (raft_index i = log->count; i > 0; i--) {
        struct fixture_base entry = fixture_base_at(log, i);
        bool known = false;
        for (size_t h = member->history_count; h-- > 0 && !known;) {
            known = member->history[h].index == entry.index && member->history[h].chain == entry.chain;
        }
        /* The chain stands for all before. */
        if (known) break;
        member->history[member->history_count++] = entry;
    }
}

static void set_truth(struct member *member)
{
    fixture_log_free(&member->truth);
    member->truth = fixture_log_copy(&member->fixture.log, member->fixture.log.count);
    remember(member, &member->truth);
}

static bool was_written(const struct member *member, const struct entry *entry)
{
    for (size_t h = 0; h < member->history_count; h++) {
        if (member->history[h].index == entry_index(entry) && member->history[h].chain == entry_chain(entry)) {
            return true;
        }
    }
    return false;
}

/* How far its log on the disk is the one that it acknowledged. */
static raft_index common(const struct member *member)
{
    const struct fixture_log *log = &member->fixture.log;
    raft_index index = log->count < member->truth.count ? log->count : member->truth.count;
    while (index > 0 && fixture_chain(log, index) != fixture_chain(&member->truth, index)) index--;
    return index;
}

static void begin_segment(struct member *member, const struct log_scan_result *after)
{
    struct fixture *fixture = fixture_of(member);
    struct fixture_segment *segment = fixture_add_segment(fixture, SEGMENT_BYTES);
    if (after == NULL) return;
    segment->number = after->next_segment_number;
    fixture->next_number = after->next_batch_number;
    struct log_segment_header header;
    log_scan_next_header(after, &header);
    header.log_id = FIXTURE_LOG_ID;
    header.size_bytes = segment->size;
    /* Written with the first batch; so until then it is only kept here. */
    log_segment_header_encode(&header, segment->data);
    fixture->owed = header;
}

static void make_room(struct member *member, size_t record_bytes)
{
    struct fixture *fixture = fixture_of(member);
    if (fixture->segment_count == 0 || fixture->end_offset + log_batch_file_bytes(record_bytes) > SEGMENT_BYTES) {
        begin_segment(member, NULL);
    }
}

static struct fixture_batch *written(struct member *member, struct fixture_batch *batch)
{
    assert_true(batch->last_index < ARRAY_COUNT(member->segment_of));
    for (raft_index i = batch->first_index; i <= batch->last_index; i++) member->segment_of[i] = batch->segment;
    return batch;
}

/* One batch: of new entries, a conflict's, or such as a peer sends again to a member that lacks them. */
static struct fixture_batch *write_batch(struct member *member)
{
    struct fixture *fixture = fixture_of(member);
    struct random *random = &fixture->random;
    uint32_t count = (uint32_t)random_between(random, 1, 5);
    make_room(member, count * (ENTRY_HEADER_BYTES + PAYLOAD_MAX));
    raft_index good = common(member);
    if (member->uncertain && good < member->truth.count) {
        if (count > member->truth.count - good) count = (uint32_t)(member->truth.count - good);
        struct entry *entries[5];
        for (uint32_t i = 0; i < count; i++) entries[i] = entry_ref(member->truth.entries[good + i]);
        return written(member, fixture_write_entries(fixture, entries, count));
    }
    raft_index first = fixture->log.count + 1;
    if (!member->uncertain && fixture->log.count > fixture->commit + 1 && random_chance(random, 200)) {
        first = random_between(random, fixture->commit + 1, fixture->log.count);
    }
    return written(member, fixture_write_batch(fixture, first, count, PAYLOAD_MAX));
}

/* The write's sync returned. */
static void acknowledge(struct member *member)
{
    struct fixture *fixture = fixture_of(member);
    member->last_segment_known = fixture->segments[fixture->segment_count - 1].number;
    if (member->uncertain && common(member) < member->truth.count) return; /* the repair goes on */
    if (member->uncertain) {
        member->uncertain = false;
        fixture->owed = (struct log_segment_header){0};
        /* How far it had to go was unknown to itself; a leader told it, and a segment says it from here on. */
        if (member->endless) begin_segment(member, NULL);
        member->endless = false;
    }
    set_truth(member);
    if (random_chance(&fixture->random, 400)) {
        fixture->commit = random_between(&fixture->random, fixture->commit, fixture->log.count);
    }
}

/* The crash keeps any of the write's sectors. */
static void tear(struct member *member, const struct fixture_batch *batch)
{
    struct fixture *fixture = fixture_of(member);
    struct random *random = &fixture->random;
    uint32_t style = (uint32_t)random_below(random, 4);
    for (uint32_t b = 0; b < batch->blocks; b++) {
        uint8_t *block = fixture_block(fixture, batch, b);
        if (style == 0 || (style < 3 && random_chance(random, 400))) memset(block, 0, LOG_BLOCK_BYTES);
    }
    if (style == 2) {
        uint8_t *block = fixture_block(fixture, batch, (uint32_t)random_below(random, batch->blocks));
        size_t cut = (size_t)random_below(random, LOG_BLOCK_BYTES);
        memset(block + cut, 0, LOG_BLOCK_BYTES - cut);
    }
    if (batch->begins_segment && random_chance(random, 500)) {
        memset(fixture_header(fixture, batch->segment), 0, LOG_BLOCK_BYTES);
    }
}

/* Those before the first one that holds an entry above the base. What a header says isn't enough: its batch may have been torn. */
static void drop_segments(struct member *member)
{
    struct fixture *fixture = fixture_of(member);
    uint32_t keep = fixture->segment_count - 1;
    for (raft_index i = member->base.index + 1; i <= fixture->log.count; i++) {
        if (member->segment_of[i] < keep) keep = member->segment_of[i];
    }
    for (uint32_t s = 0; s < keep; s++) fixture->segments[s].missing = true;
}

static void damage_something(struct member *member)
{
    struct fixture *fixture = fixture_of(member);
    struct random *random = &fixture->random;
    struct fixture_segment *segment = &fixture->segments[random_below(random, fixture->segment_count)];
    if (segment->missing) return;
    uint64_t at = random_below(random, segment->size);
    switch (random_below(random, 3)) {
    case 0:
        segment->data[at] ^= (uint8_t)(1u << random_below(random, 8));
        break;
    case 1:
        /* A lost sector somewhere before the end. At the end, of one segment or of two when the last one's first write is
           under way, it is what a crash leaves, and can't be told from it. */
        if (segment + 2 >= &fixture->segments[fixture->segment_count]) return;
        memset(segment->data + at / LOG_BLOCK_BYTES * LOG_BLOCK_BYTES, 0, LOG_BLOCK_BYTES);
        break;
    default: {
        uint64_t from = random_below(random, segment->size);
        memmove(segment->data + at / LOG_BLOCK_BYTES * LOG_BLOCK_BYTES,
                segment->data + from / LOG_BLOCK_BYTES * LOG_BLOCK_BYTES, LOG_BLOCK_BYTES);
        /* Again, zeros over the last write look like a crash. */
        if (log_block_is_zero(segment->data + from / LOG_BLOCK_BYTES * LOG_BLOCK_BYTES)) {
            segment->data[at / LOG_BLOCK_BYTES * LOG_BLOCK_BYTES + 511] = 7;
        }
        break;
    }
    }
    member->damages++;
}

static bool reaches(raft_term term_a, raft_index index_a, raft_term term_b, raft_index index_b)
{
    return term_a != term_b ? term_a > term_b : index_a >= index_b;
}

static void recover(struct member *member, uint64_t seed, int cycle, bool in_flight)
{
    struct fixture *fixture = fixture_of(member);
    struct fixture_found found = fixture_scan(fixture, member->base, member->last_segment_known);
    const struct log_scan_result *result = &found.result;
    const struct fixture_log *truth = &member->truth;

    /* Whatever is found is the truth, or the write under way. */
    raft_index whole = found.base + found.log.count;
    bool is_new = in_flight && fixture_found_is(&found, &fixture->log);
    bool wrong = false;
    for (uint32_t i = 0; i < found.log.count && !is_new; i++) {
        raft_index index = found.base + i + 1;
        const struct entry *entry = found.log.entries[i];
        if (index <= truth->count && entry_chain(entry) == fixture_chain(truth, index)) continue;
        /* What a batch replaced that is lost now may be there again, but never in place of what is known to be committed. */
        bool old = result->outcome == LOG_UNCERTAIN && index > found.commit && was_written(member, entry);
        wrong = wrong || !old;
    }
    bool lacks = !is_new && whole < truth->count;
    if (result->outcome != LOG_UNCERTAIN) wrong = wrong || lacks;
    if (result->outcome == LOG_UNCERTAIN && result->extent_known && !is_new) {
        wrong = wrong || !reaches(result->known_last_term, result->known_last_index, fixture_term(truth, truth->count),
                                  truth->count);
    }
    /* Crashes alone never make a log uncertain. */
    if (member->damages == 0) wrong = wrong || result->outcome == LOG_UNCERTAIN;
    if (wrong) {
        fail_msg("seed %d, cycle %d: %s, up to %d of %d, known %d, extent %d, base %d (%s)", (int)seed, cycle,
                 log_outcome_name(result->outcome), (int)whole, (int)truth->count, (int)result->known_last_index,
                 result->extent_known, (int)member->base.index, result->damage);
    }

    /* On from what was found. The snapshot stands for what is below it. */
    struct fixture_log now = fixture_log_copy(truth, (uint32_t)found.base);
    now.entries = mem_realloc(now.entries, (now.count + found.log.count + 1) * sizeof(struct entry *));
    for (uint32_t i = 0; i < found.log.count; i++) now.entries[now.count++] = entry_ref(found.log.entries[i]);
    forget_batches(fixture);
    fixture_log_free(&fixture->log);
    fixture->log = now;
    for (uint32_t i = 0; i < found.log.count; i++) {
        for (uint32_t s = 0; s < fixture->segment_count; s++) {
            if (fixture->segments[s].number == found.segment_numbers[i]) member->segment_of[found.base + i + 1] = s;
        }
    }
    fixture->owed = (struct log_segment_header){0};
    member->uncertain = result->outcome == LOG_UNCERTAIN;
    member->endless = member->uncertain && !result->extent_known;
    remember(member, &fixture->log);
    if (is_new && !member->uncertain) set_truth(member);
    if (fixture->commit < found.base) fixture->commit = found.base;
    if (result->outcome == LOG_CLEAN) {
        while (fixture->segment_count > 0 &&
               fixture->segments[fixture->segment_count - 1].number > result->last_segment_number) {
            mem_free(fixture->segments[--fixture->segment_count].data);
        }
        if (fixture->segment_count > 0) {
            assert_true(fixture->segments[fixture->segment_count - 1].number == result->last_segment_number);
        }
        fixture->end_offset = result->end_offset;
        fixture->next_number = result->next_batch_number;
    } else {
        begin_segment(member, result);
    }
    fixture_found_free(&found);
}

static void run(uint64_t seed, int cycles, bool damage)
{
    struct member member = {0};
    struct fixture *fixture = fixture_of(&member);
    fixture_init(fixture, seed);
    for (int cycle = 0; cycle < cycles && fixture->segment_count + 30 < FIXTURE_SEGMENTS_MAX; cycle++) {
        uint32_t writes = (uint32_t)random_below(&fixture->random, 12);
        for (uint32_t w = 0; w < writes; w++) {
            write_batch(&member);
            acknowledge(&member);
            /* A snapshot of its own, and what it covers goes. */
            if (!member.uncertain && random_chance(&fixture->random, 150) && fixture->commit > member.base.index) {
                member.base = fixture_base_at(&fixture->log,
                                              random_between(&fixture->random, member.base.index, fixture->commit));
                if (random_chance(&fixture->random, 700)) drop_segments(&member);
            }
        }
        bool in_flight = random_chance(&fixture->random, 800);
        if (in_flight) tear(&member, write_batch(&member));
        if (fixture->segment_count == 0) continue;
        if (!in_flight && fixture->end_offset == LOG_SEGMENT_HEADER_BYTES) {
            /* The next segment's header waits for its first batch. */
            memset(fixture_header(fixture, fixture->segment_count - 1), 0, LOG_BLOCK_BYTES);
        }
        if (damage && random_chance(&fixture->random, 300)) damage_something(&member);
        if (damage && random_chance(&fixture->random, 100)) damage_something(&member);
        recover(&member, seed, cycle, in_flight);
    }
    fixture_log_free(&member.truth);
    mem_free(member.history);
    fixture_free(fixture);
}

static void crashes_alone_lose_nothing_and_leave_nothing_uncertain(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 150; seed++) run(seed, 25, false);
}

static void damage_is_never_taken_for_absence(void **state)
{
    (void)state;
    for (uint64_t seed = 1000; seed < 1600; seed++) run(seed, 25, true);
}

int main(int argc, char **argv)
{
    if (argc == 3) {
        /* test_storage_log_crash SEED damage|crash: one run. */
        run(strtoull(argv[1], NULL, 10), 25, strcmp(argv[2], "damage") == 0);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crashes_alone_lose_nothing_and_leave_nothing_uncertain),
        cmocka_unit_test(damage_is_never_taken_for_absence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
