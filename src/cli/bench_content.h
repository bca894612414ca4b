/*
 * bench_content.h - what the load generator writes, and whether what it reads is what it wrote.
 *
 * Key i of n is 16 hexadecimal digits, the same in every run. A value is told from all others: it begins with the run's
 * number and a generation (8 hexadecimal digits each), and the rest follows from these and the key. So a value can be
 * checked whoever wrote it; and one that this run wrote, exactly.
 *
 * Each key belongs to one connection, which has one request under way. So the order of a key's writes is known, but for
 * those whose outcome isn't: after one of these, any generation of the run may be there.
 */
#ifndef CORACLE_CLI_BENCH_CONTENT_H
#define CORACLE_CLI_BENCH_CONTENT_H

#include "base/bytes.h"
#include "base/types.h"

#define BENCH_KEY_BYTES 16u
#define BENCH_VALUE_BYTES_MIN 16u

struct bench_content {
    uint64_t key_count;
    uint32_t run;
    uint32_t value_bytes;
    uint32_t
        *generations; /* of each key: the newest written, 0: none by this run; the top bit: some outcome is unknown */
};

/* `run` tells this run's values from those of others. */
void bench_content_init(struct bench_content *content, uint64_t key_count, uint32_t value_bytes, uint32_t run);
void bench_content_free(struct bench_content *content);

void bench_key(uint64_t number, char *out);

/* Fills in value_bytes for a new generation of the key, and notes that it was written. */
void bench_content_next_value(struct bench_content *content, uint64_t number, char *out);
/* The write that was begun last may have happened, or not, or later. */
void bench_content_unknown(struct bench_content *content, uint64_t number);

enum bench_verdict {
    BENCH_GOOD,
    BENCH_FOREIGN, /* it isn't a value of this key */
    BENCH_STALE,   /* it is one, but an acknowledged write is newer */
    BENCH_LOST,    /* it isn't there, though a write was acknowledged */
};

/* Judges what was read; NULL data: the key wasn't there. `value` needn't be of this run if this run didn't write the key. */
enum bench_verdict bench_content_judge(const struct bench_content *content, uint64_t number, struct bytes value);

const char *bench_verdict_name(enum bench_verdict verdict);

#endif
