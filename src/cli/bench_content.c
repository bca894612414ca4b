#include "cli/bench_content.h"

#include "base/check.h"
#include "base/mem.h"
#include "base/random.h"

#define UNKNOWN_BIT 0x80000000u

static const char hex_digits[] = "0123456789abcdef";

void bench_content_init(struct bench_content *content, uint64_t key_count, uint32_t value_bytes, uint32_t run)
{
    CHECK(key_count > 0 && value_bytes >= BENCH_VALUE_BYTES_MIN);
    *content = (struct bench_content){.key_count = key_count, .run = run, .value_bytes = value_bytes};
    content->generations = mem_alloc_zero(key_count * sizeof *content->generations);
}

void bench_content_free(struct bench_content *content)
{
    mem_free(content->generations);
    content->generations = NULL;
}

static void write_hex(uint64_t value, unsigned digits, char *out)
{
    for (unsigned i = 0; i < digits; i++) out[i] = hex_digits[value >> (4 * (digits - 1 - i)) & 15];
}

static bool read_hex(const uint8_t *text, unsigned digits, uint32_t *out)
{
    uint32_t value = 0;
    for (unsigned i = 0; i < digits; i++) {
        const char *digit = text[i] != '\0' ? strchr(hex_digits, text[i]) : NULL;
        if (digit == NULL) return false;
        value = value << 4 | (uint32_t)(digit - hex_digits);
    }
    *out = value;
    return true;
}

void bench_key(uint64_t number, char *out)
{
    /* A bijection, so that keys differ, and come in no order. */
    write_hex(random_mix(number + 1), BENCH_KEY_BYTES, out);
}

/* The text that follows from a key, a run and a generation: 64 letters, so that each takes six bits of the generator. */
static void write_value(uint64_t number, uint32_t run, uint32_t generation, char *out, uint32_t size)
{
    static const char letters[64] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    struct random random;
    write_hex(run, 8, out);
    write_hex(generation, 8, out + 8);
    /* The size too, so that a value that was cut isn't taken for a shorter one. */
    random_seed(&random, random_mix(number) ^ random_mix((uint64_t)run << 32 | generation) ^ size);
    uint64_t bits = 0;
    for (uint32_t at = 16; at < size; at++) {
        if ((at - 16) % 10 == 0) bits = random_u64(&random);
        out[at] = letters[bits & 63];
        bits >>= 6;
    }
}

void bench_content_next_value(struct bench_content *content, uint64_t number, char *out)
{
    uint32_t *newest = &content->generations[number];
    ++*newest;
    write_value(number, content->run, *newest & ~UNKNOWN_BIT, out, content->value_bytes);
}

void bench_content_unknown(struct bench_content *content, uint64_t number)
{
    content->generations[number] |= UNKNOWN_BIT;
}

/* Whether the value is one that some run wrote for this key; then also which. */
static bool is_value_of(uint64_t number, struct bytes value, uint32_t *run, uint32_t *generation)
{
    if (value.size < BENCH_VALUE_BYTES_MIN || value.size > UINT32_MAX) return false;
    if (!read_hex(value.data, 8, run) || !read_hex(value.data + 8, 8, generation)) return false;
    char *expected = mem_alloc(value.size);
    write_value(number, *run, *generation, expected, (uint32_t)value.size);
    bool same = memcmp(expected, value.data, value.size) == 0;
    mem_free(expected);
    return same;
}

enum bench_verdict bench_content_judge(const struct bench_content *content, uint64_t number, struct bytes value)
{
    uint32_t newest = content->generations[number] & ~UNKNOWN_BIT;
    bool unknown = (content->generations[number] & UNKNOWN_BIT) != 0;
    uint32_t run;
    uint32_t generation;
    if (value.data == NULL) return newest == 0 || unknown ? BENCH_GOOD : BENCH_LOST;
    if (!is_value_of(number, value, &run, &generation)) return BENCH_FOREIGN;
    if (newest == 0) return BENCH_GOOD;
    if (run != content->run) return unknown ? BENCH_GOOD : BENCH_STALE;
    if (generation > newest) return BENCH_FOREIGN;
    return generation == newest || unknown ? BENCH_GOOD : BENCH_STALE;
}

const char *bench_verdict_name(enum bench_verdict verdict)
{
    switch (verdict) {
    case BENCH_GOOD:
        return "good";
    case BENCH_FOREIGN:
        return "not what was written";
    case BENCH_STALE:
        return "older than an acknowledged write";
    case BENCH_LOST:
        return "lost";
    }
    return "?";
}
