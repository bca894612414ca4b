/*
 * The index of targets against comparing each target with each key.
 */
#include "store/watch_index.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/random.h"

#define TARGETS 600u
#define KEY_BYTES_MAX 5u

struct naive {
    struct watch_target *target; /* NULL: none */
    uint8_t key[KEY_BYTES_MAX];
    uint8_t end[KEY_BYTES_MAX];
    size_t key_bytes, end_bytes; /* end_bytes 0: one key; one zero byte: to the last */
    unsigned classes;
};

static struct bytes random_key(struct random *random, uint8_t key[KEY_BYTES_MAX])
{
    static const uint8_t letters[] = {0x00, 'a', 'b', 0xff};
    size_t size = random_between(random, 1, KEY_BYTES_MAX);
    for (size_t i = 0; i < size; i++) key[i] = letters[random_below(random, sizeof letters)];
    return bytes_of(key, size);
}

static bool concerns(const struct naive *naive, struct bytes key, unsigned unwanted)
{
    struct bytes first = bytes_of(naive->key, naive->key_bytes);
    struct bytes end = bytes_of(naive->end, naive->end_bytes);
    if (naive->classes & unwanted) return false;
    if (end.size == 0) return bytes_equal(key, first);
    if (bytes_compare(key, first) < 0) return false;
    return bytes_equal(end, bytes_of("\0", 1)) || bytes_compare(key, end) < 0;
}

/* Each target that concerns the key once, and no other. */
static void check_match(const struct watch_index *index, const struct naive *all, struct bytes key, unsigned unwanted,
                        struct watch_matches *matches)
{
    matches->count = 0;
    watch_index_match(index, key, unwanted, matches);
    for (size_t i = 0; i < matches->count; i++) {
        assert_true(watch_target_matches(matches->targets[i], key, unwanted));
        for (size_t j = 0; j < i; j++) assert_ptr_not_equal(matches->targets[i], matches->targets[j]);
    }
    for (unsigned i = 0; i < TARGETS; i++) {
        if (!all[i].target) continue;
        bool is_found = false;
        for (size_t j = 0; j < matches->count; j++) is_found = is_found || matches->targets[j] == all[i].target;
        assert_int_equal(is_found, concerns(&all[i], key, unwanted));
        assert_int_equal(watch_target_matches(all[i].target, key, unwanted), is_found);
    }
}

static void change(struct watch_index *index, struct naive *naive, struct random *random)
{
    if (naive->target) {
        watch_index_drop(index, naive->target);
        naive->target = NULL;
        return;
    }
    struct bytes key = random_key(random, naive->key);
    struct bytes end = bytes_of(NULL, 0);
    if (random_chance(random, 500)) {
        end = random_key(random, naive->end);
        if (watch_range_is_empty(key, end)) return;
    }
    naive->key_bytes = key.size;
    naive->end_bytes = end.size;
    naive->classes = (unsigned)random_below(random, WATCH_CLASS_COUNT);
    naive->target = watch_index_take(index, key, end, naive->classes);
}

static void it_finds_what_comparing_finds(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct random random;
        random_seed(&random, seed);
        struct watch_index index;
        watch_index_init(&index, seed);
        static struct naive all[TARGETS];
        struct watch_matches matches = {.targets = NULL};
        for (unsigned step = 0; step < 4000; step++) {
            change(&index, &all[random_below(&random, TARGETS)], &random);
            if (step % 20 != 0) continue;
            uint8_t key[KEY_BYTES_MAX];
            unsigned unwanted = random_chance(&random, 500) ? WATCH_NO_PUT : WATCH_NO_DELETE;
            check_match(&index, all, random_key(&random, key), unwanted, &matches);
            watch_index_verify(&index);
        }
        for (unsigned i = 0; i < TARGETS; i++) {
            if (all[i].target) change(&index, &all[i], &random);
        }
        mem_free(matches.targets);
        watch_index_free(&index);
    }
}

/* The tree stays flat whatever the order of insertion: else this would run out of stack, or of patience. */
static void prefixes_in_order(void **state)
{
    (void)state;
    enum { COUNT = 100000 };
    static struct watch_target *targets[COUNT];
    struct watch_index index;
    watch_index_init(&index, 7);
    uint8_t key[4];
    uint8_t end[4];
    for (uint32_t i = 0; i < COUNT; i++) {
        put_u32(key, __builtin_bswap32(i));
        put_u32(end, __builtin_bswap32(i + 1));
        targets[i] = watch_index_take(&index, bytes_of(key, 4), bytes_of(end, 4), 0);
        /* The same again is the same. */
        assert_ptr_equal(watch_index_take(&index, bytes_of(key, 4), bytes_of(end, 4), 0), targets[i]);
    }
    watch_index_verify(&index);
    struct watch_matches matches = {.targets = NULL};
    for (uint32_t i = 0; i < COUNT; i += 7) {
        put_u32(key, __builtin_bswap32(i));
        matches.count = 0;
        watch_index_match(&index, bytes_of(key, 4), 0, &matches);
        assert_int_equal(matches.count, 1);
        assert_ptr_equal(matches.targets[0], targets[i]);
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        watch_index_drop(&index, targets[i]);
        watch_index_drop(&index, targets[i]);
    }
    mem_free(matches.targets);
    watch_index_free(&index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_finds_what_comparing_finds),
        cmocka_unit_test(prefixes_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
