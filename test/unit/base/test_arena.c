#include "base/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* Pieces are aligned, don't overlap, and stay. */
static void test_pieces(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 7, 8, 9, 100, ARENA_CHUNK_BYTES / 4, ARENA_CHUNK_BYTES / 4 + 1, 3000, 9000, 5};
    enum { ROUNDS = 20, KINDS = sizeof sizes / sizeof sizes[0] };
    struct arena arena = {0};
    uint8_t *pieces[ROUNDS * KINDS];
    size_t used = 0;
    for (size_t i = 0; i < ROUNDS * KINDS; i++) {
        size_t size = sizes[i % KINDS];
        pieces[i] = arena_alloc(&arena, size);
        assert_non_null(pieces[i]);
        assert_int_equal((uintptr_t)pieces[i] % ARENA_ALIGNMENT, 0);
        memset(pieces[i], (int)(i & 0xff), size);
        used += (size + 7) / 8 * 8;
    }
    assert_int_equal(arena.used_bytes, used);
    for (size_t i = 0; i < ROUNDS * KINDS; i++) {
        for (size_t at = 0; at < sizes[i % KINDS]; at++) assert_int_equal(pieces[i][at], i & 0xff);
    }
    arena_free(&arena);
    assert_null(arena.chunks);
}

static void test_first_piece_is_large(void **state)
{
    (void)state;
    struct arena arena = {0};
    memset(arena_alloc(&arena, 100000), 1, 100000);
    memset(arena_alloc(&arena, 10), 2, 10);
    arena_reset(&arena);
    assert_int_equal(arena.used_bytes, 0);
    memset(arena_alloc(&arena, 10), 3, 10);
    arena_free(&arena);
}

static void test_reset_keeps_a_chunk(void **state)
{
    (void)state;
    struct arena arena = {0};
    arena_reset(&arena);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 2000; i++) memset(arena_alloc(&arena, 24), i, 24);
        arena_reset(&arena);
        uint8_t *first = arena_alloc(&arena, 1);
        arena_reset(&arena);
        assert_ptr_equal(arena_alloc(&arena, 1), first);
        assert_int_equal(arena.used_bytes, ARENA_ALIGNMENT);
    }
    arena_free(&arena);
    arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_first_piece_is_large),
        cmocka_unit_test(test_reset_keeps_a_chunk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
