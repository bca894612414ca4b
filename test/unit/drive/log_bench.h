/*
 * log_bench.h - for the tests of the log manager: one manager on a rig, entries that are made up, and a model of the log.
 *
 * The model holds the log as it was last acknowledged, and as it would be with the write that is under way.
 */
#ifndef CORACLE_TEST_DRIVE_LOG_BENCH_H
#define CORACLE_TEST_DRIVE_LOG_BENCH_H

#include "disk_rig.h"
#include "drive/log_manager.h"

#define LOG_DIRECTORY "/data/log"
#define LOG_METADATA "/data/log/metadata"
#define LOG_ID 0x1234567890abcdefull
#define MODEL_ENTRIES_MAX 4096u

struct model_entry {
    raft_term term;
    uint32_t chain;
};

/* Entries base.index + 1 … last_index, at [index]. */
struct model_log {
    raft_index base_index;
    raft_index last_index;
    struct model_entry entries[MODEL_ENTRIES_MAX];
};

struct bench {
    struct rig rig;
    struct log_manager *manager;
    uint64_t segment_bytes;
    struct random random;

    struct model_log log;   /* acknowledged */
    struct model_log next;  /* with the write under way */
    struct model_log found; /* what recovery gave the sink */
    raft_index commit;      /* acknowledged entries that are committed */
    raft_index found_commit;
    raft_term term;
    struct log_scan_result result;
    char text[512];

    uint64_t write_number;
    unsigned written_count, full_count, not_full_count, failed_count, reset_count, damaged_count;
    uint64_t written_bytes;
    char failed_text[512];

    /* Of the last read: */
    unsigned read_count;
    uint64_t read_token;
    uint32_t read_entries;
    raft_index read_first;
};

void bench_init(struct bench *bench, uint64_t seed, uint64_t segment_bytes);
void bench_free(struct bench *bench);
/* Frees the manager, loses power or not, and makes a new one. */
void bench_restart(struct bench *bench, bool power_loss);
/* Recovers into `found`; the model isn't consulted. */
enum error bench_recover(struct bench *bench);
/* Recovers and checks that what was acknowledged is there; takes what is there over into the model. */
void bench_recover_ok(struct bench *bench, enum log_outcome outcome);

/* Begins a write of entries of this many payload bytes each, after `previous`. */
void bench_begin_write(struct bench *bench, raft_index previous, unsigned count, size_t payload_bytes);
/* The same, run to its end. */
void bench_write(struct bench *bench, raft_index previous, unsigned count, size_t payload_bytes);
void bench_append(struct bench *bench, unsigned count, size_t payload_bytes);
/* A snapshot at the index counts: the base of the next recovery. */
void bench_snapshot(struct bench *bench, raft_index index);
/* Begins: another log's snapshot is installed. */
void bench_begin_reset(struct bench *bench, raft_index index);
/* Reads back and checks what comes; how many entries did. */
uint32_t bench_read(struct bench *bench, raft_index first, raft_index last, uint64_t bytes_max);
/* The same, begun only; bench.read_first is to be set. */
void bench_begin_read(struct bench *bench, raft_index first, raft_index last);
/* The path of a segment; valid until the next call. */
const char *bench_segment(uint64_t number);

#endif
