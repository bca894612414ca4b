/*
 * log_fixture.h - logs for the tests, written as a member would, beside a plain model of what is in them.
 *
 * Segments are arrays in memory. Each batch is remembered with its place and the whole log as it was after it, so that a test
 * can damage the bytes as it likes and ask which of these logs recovery found.
 */
#ifndef CORACLE_TEST_STORAGE_LOG_FIXTURE_H
#define CORACLE_TEST_STORAGE_LOG_FIXTURE_H

#include "base/random.h"
#include "storage/log_scan.h"

#define FIXTURE_SEGMENTS_MAX 256
#define FIXTURE_BATCHES_MAX 512
#define FIXTURE_LOG_ID 0x1c0ffee15badf00du

struct fixture_segment {
    uint64_t number;
    uint64_t size;
    uint8_t *data;
    bool missing; /* isn't fed to the scan */
};

/* A log: a reference to each entry, of indexes 1 to count. */
struct fixture_log {
    struct entry **entries;
    uint32_t count;
};

struct fixture_batch {
    uint32_t segment; /* in fixture.segments */
    uint64_t offset;
    uint64_t file_bytes;
    uint32_t blocks;
    uint64_t number;
    raft_index first_index;
    raft_index last_index;
    raft_term last_term;
    bool begins_segment;
    struct fixture_log after;
};

struct fixture {
    struct random random;
    struct fixture_segment segments[FIXTURE_SEGMENTS_MAX];
    uint32_t segment_count;
    struct fixture_batch batches[FIXTURE_BATCHES_MAX];
    uint32_t batch_count;
    struct fixture_log log;
    raft_term term;
    raft_index commit;
    uint64_t next_number;
    uint64_t end_offset;            /* in the last segment */
    struct log_segment_header owed; /* what new segments say to be owed */
};

void fixture_init(struct fixture *fixture, uint64_t seed);
void fixture_free(struct fixture *fixture);

/* A zeroed segment after the last one; its header comes with the first batch. */
struct fixture_segment *fixture_add_segment(struct fixture *fixture, uint64_t size);
/* Writes a header that continues the log's present end. */
void fixture_write_header(struct fixture *fixture);
/* One batch at the end, entries from first_index on (which cuts the log there) with payloads of up to payload_max bytes. With
   the header if it is the segment's first. */
struct fixture_batch *fixture_write_batch(struct fixture *fixture, raft_index first_index, uint32_t count,
                                          size_t payload_max);
/* The same for given entries, moved. */
struct fixture_batch *fixture_write_entries(struct fixture *fixture, struct entry **entries, uint32_t count);
/* Several segments of batches with a mix of sizes, conflicts among them. */
void fixture_write_many(struct fixture *fixture, uint32_t segments, uint64_t segment_bytes, size_t payload_max);

/* The bytes of a block of a batch, or of the batch's segment's header. */
uint8_t *fixture_block(struct fixture *fixture, const struct fixture_batch *batch, uint32_t block);
uint8_t *fixture_header(struct fixture *fixture, uint32_t segment);
/* Makes a changed block's checksum right again. */
void fixture_reseal(const struct fixture_segment *segment, uint64_t log_id, uint32_t block);

struct fixture_log fixture_log_copy(const struct fixture_log *log, uint32_t count);
void fixture_log_free(struct fixture_log *log);
/* The entry's term and chain; of index 0 all is 0. */
raft_term fixture_term(const struct fixture_log *log, raft_index index);
uint32_t fixture_chain(const struct fixture_log *log, raft_index index);

struct fixture_base {
    raft_index index;
    raft_term term;
    uint32_t chain;
};

/* What a scan found: the entries after the base. */
struct fixture_found {
    struct log_scan_result result;
    raft_index base;
    struct fixture_log log;    /* its first entry has index base + 1 */
    uint64_t *segment_numbers; /* where each of them lies */
    raft_index commit;         /* the highest that its batches name */
    uint32_t batches;
};

/* Scans all segments that aren't missing, in slices of random sizes. Fails the test when the entries handed out don't fit together,
   or the result doesn't name the last of them. */
struct fixture_found fixture_scan(struct fixture *fixture, struct fixture_base base, uint64_t expected_last_segment);
struct fixture_base fixture_base_at(const struct fixture_log *log, raft_index index);
bool fixture_found_is(const struct fixture_found *found, const struct fixture_log *log);
void fixture_found_free(struct fixture_found *found);
/* Scans from the start, and wants this outcome and log. */
struct log_scan_result fixture_expect(struct fixture *fixture, enum log_outcome outcome, const struct fixture_log *log);
/* The log as it was without its last batch. */
const struct fixture_log *fixture_before_last(const struct fixture *fixture);

#endif
