/*
 * Recovery of the log from any bytes. The input is a small program: it writes a log of two segments with good batches,
 * then damages bytes, either as a disk would or with the block's checksum made right again (as a writer gone wrong
 * would), so that what lies behind the checksums is reached too. What the scan returns must be consecutive, chained
 * entries, and its outcome must say so when something is missing; nothing may crash, and memory stays small.
 *
 * Input: 1 byte batches, 1 byte flags, then for each batch 1 byte entries and 1 byte size; then damages of 4 bytes each:
 * u16 position, value, kind. With flag 1 the rest of the input is fed as a segment by itself instead.
 */
#include "base/check.h"
#include "base/crc32c.h"
#include "base/mem.h"
#include "storage/debug_print.h"
#include "storage/log_scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LOG_ID 0x1122334455667788u
#define SEGMENT_BYTES (64u * 1024)
#define SEGMENTS 2u

struct fuzz_log {
    uint8_t *segments[SEGMENTS];
    raft_index last_index;
    uint32_t chain;
    uint64_t batch_number;
    uint64_t offset;
};

static void begin_segment(struct fuzz_log *log, unsigned which)
{
    struct log_segment_header header = {.log_id = LOG_ID,
                                        .number = which + 1,
                                        .size_bytes = SEGMENT_BYTES,
                                        .first_index = log->last_index + 1,
                                        .previous_term = log->last_index == 0 ? 0 : 1,
                                        .previous_chain = log->chain,
                                        .first_batch_number = log->batch_number};
    log_segment_header_encode(&header, log->segments[which]);
    log->offset = LOG_SEGMENT_HEADER_BYTES;
}

static void write_batch(struct fuzz_log *log, unsigned which, unsigned count, unsigned payload_bytes)
{
    struct entry *entries[16];
    size_t record_bytes = 0;
    uint32_t chain_before = log->chain;
    for (unsigned i = 0; i < count; i++) {
        entries[i] = entry_new(ENTRY_COMMAND, payload_bytes);
        memset(entry_payload(entries[i]), (int)(log->last_index & 0xff), payload_bytes);
        entry_seal(entries[i], ++log->last_index, 1, log->chain);
        log->chain = entry_chain(entries[i]);
        record_bytes += entries[i]->record_bytes;
    }
    size_t file_bytes = log_batch_file_bytes(record_bytes);
    if (log->offset + file_bytes <= SEGMENT_BYTES) {
        struct log_batch_place place = {
            .log_id = LOG_ID, .segment_number = which + 1, .offset = log->offset, .batch_number = log->batch_number++};
        log_batch_encode(&place, log->last_index, entries, count, log->segments[which] + log->offset);
        log->offset += file_bytes;
    } else {
        log->last_index -= count;
        log->chain = chain_before;
    }
    for (unsigned i = 0; i < count; i++) entry_unref(entries[i]);
}

static void make_right(uint8_t *segment, unsigned which, uint32_t block_number)
{
    uint8_t *block = segment + (size_t)block_number * LOG_BLOCK_BYTES;
    uint8_t place[20];
    put_u64(place, LOG_ID);
    put_u64(place + 8, which + 1);
    put_u32(place + 16, block_number);
    uint32_t crc = block_number == 0 ? 0 : crc32c(0, place, sizeof place);
    put_u32(block, crc32c(crc, block + 4, LOG_BLOCK_BYTES - 4));
}

static void damage(struct fuzz_log *log, const uint8_t *at)
{
    unsigned which = at[3] & 1;
    uint32_t position = get_u16(at) % SEGMENT_BYTES;
    log->segments[which][position] ^= at[2];
    if (at[3] & 2) make_right(log->segments[which], which, position / LOG_BLOCK_BYTES);
    if (at[3] & 4) memset(log->segments[which] + position / LOG_BLOCK_BYTES * LOG_BLOCK_BYTES, 0, LOG_BLOCK_BYTES);
}

static void print(const uint8_t *data, size_t size, enum debug_print_kind kind)
{
    struct debug_print_options options = {.kind = kind, .json = size % 2 == 0, .entries = true};
    struct debug_print *printer = debug_print_new(&options);
    struct buffer out = {.data = NULL};
    debug_print_feed(printer, bytes_of(data, size), &out);
    debug_print_finish(printer, &out);
    debug_print_free(printer);
    buffer_free(&out);
}

static void scan(uint8_t *const *segments, unsigned count)
{
    struct log_scan *log = log_scan_new(LOG_ID, 0, 0, 0);
    raft_index last = 0;
    for (unsigned i = 0; i < count; i++) {
        log_scan_segment(log, i + 1, SEGMENT_BYTES);
        for (size_t at = 0; at < SEGMENT_BYTES; at += LOG_BATCH_ALIGNMENT) {
            log_scan_feed(log, segments[i] + at, LOG_BATCH_ALIGNMENT);
            struct log_scan_batch batch;
            while (log_scan_next_batch(log, &batch)) {
                CHECK(batch.entry_count >= 1 && batch.first_index <= last + 1);
                for (uint32_t j = 0; j < batch.entry_count; j++) {
                    CHECK(entry_index(batch.entries[j]) == batch.first_index + j);
                    if (j > 0) CHECK(entry_follows(batch.entries[j], entry_chain(batch.entries[j - 1])));
                }
                last = batch.first_index + batch.entry_count - 1;
                for (uint32_t j = 0; j < batch.entry_count; j++) entry_unref(batch.entries[j]);
            }
        }
    }
    struct log_scan_result result;
    log_scan_finish(log, 0, &result);
    CHECK(result.outcome == LOG_UNCERTAIN || result.last_index == last);
    CHECK(result.last_index <= last);
    log_scan_free(log);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    struct fuzz_log log = {.batch_number = 1};
    for (unsigned i = 0; i < SEGMENTS; i++) log.segments[i] = mem_alloc_zero(SEGMENT_BYTES);
    if (data[1] & 1) {
        memcpy(log.segments[0], data + 2, size - 2 < SEGMENT_BYTES ? size - 2 : SEGMENT_BYTES);
    } else {
        unsigned batches = data[0] % 16;
        size_t at = 2;
        for (unsigned i = 0; i < batches && at + 2 <= size; i++, at += 2) {
            unsigned which = i >= batches / 2;
            if (i == 0 || i == batches / 2) begin_segment(&log, which);
            write_batch(&log, which, data[at] % 15 + 1, data[at + 1] * 4u);
        }
        for (; at + 4 <= size; at += 4) damage(&log, data + at);
    }
    scan(log.segments, SEGMENTS);
    print(log.segments[0], SEGMENT_BYTES, DEBUG_PRINT_LOG);
    for (unsigned i = 0; i < SEGMENTS; i++) mem_free(log.segments[i]);
    return 0;
}
