#include "base/mem.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/random.h"

static void allocations_hold_what_is_put_there(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 7, 8, 4096, 1 << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint8_t *memory = mem_alloc(sizes[i]);
        memset(memory, 0x5a, sizes[i]);
        memory = mem_realloc(memory, sizes[i] * 2);
        assert_int_equal(memory[0], 0x5a);
        assert_int_equal(memory[sizes[i] - 1], 0x5a);
        memset(memory, 0xa5, sizes[i] * 2);
        mem_free(memory);

        uint8_t *zero = mem_alloc_zero(sizes[i]);
        for (size_t k = 0; k < sizes[i]; k++) assert_int_equal(zero[k], 0);
        mem_free(zero);
    }
    mem_free(NULL);
    uint8_t *fresh = mem_realloc(NULL, 10);
    memset(fresh, 1, 10);
    assert_null(mem_realloc(fresh, 0));
    mem_free(mem_alloc(0));
}

static void aligned_allocations_are_aligned(void **state)
{
    (void)state;
    for (size_t alignment = 1; alignment <= 65536; alignment *= 2) {
        for (size_t size = 1; size < 10000; size = size * 3 + 1) {
            uint8_t *memory = mem_alloc_aligned(alignment, size);
            assert_int_equal((uintptr_t)memory % alignment, 0);
            memset(memory, 1, size);
            mem_free(memory);
        }
    }
}

static void strings_are_copied_whole(void **state)
{
    (void)state;
    char original[] = "node-1";
    char *copy = mem_copy_string(original);
    original[0] = 'x';
    assert_string_equal(copy, "node-1");
    mem_free(copy);
    copy = mem_copy_string("");
    assert_string_equal(copy, "");
    mem_free(copy);
}

/* Runs `die` in a process of its own, and gives what it printed; it must end by SIGABRT. */
static void assert_aborts(void (*die)(void), const char *message)
{
    int pipes[2];
    assert_int_equal(pipe(pipes), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct rlimit no_core = {0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        signal(SIGABRT, SIG_DFL);
        dup2(pipes[1], STDERR_FILENO);
        close(pipes[0]);
        die();
        _exit(0);
    }
    close(pipes[1]);
    char text[4096] = "";
    size_t size = 0;
    ssize_t got;
    while (size < sizeof text - 1 && (got = read(pipes[0], text + size, sizeof text - 1 - size)) > 0) {
        size += (size_t)got;
    }
    text[size] = 0;
    close(pipes[0]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    if (strstr(text, message) == NULL) fail_msg("printed '%s', expected '%s'", text, message);
}

static void fail_a_check(void)
{
    int one = 1;
    CHECK(one + one == 2);
    CHECK(one + one == 3);
}

static void append_more_than_there_can_be(void)
{
    struct buffer buffer = {0};
    buffer_append_byte(&buffer, 1);
    buffer_reserve(&buffer, SIZE_MAX);
}

static void consume_more_than_there_is(void)
{
    struct buffer buffer = {0};
    buffer_append_byte(&buffer, 1);
    buffer_consume(&buffer, 2);
}

static void draw_below_zero(void)
{
    struct random random;
    random_seed(&random, 1);
    random_below(&random, 0);
}

static void align_to_three(void)
{
    mem_free(mem_alloc_aligned(3, 8));
}

static void broken_invariants_abort_with_their_text(void **state)
{
    (void)state;
    assert_aborts(fail_a_check, "one + one == 3");
    assert_aborts(fail_a_check, "test_mem.c:");
    assert_aborts(append_more_than_there_can_be, "check failed");
    assert_aborts(consume_more_than_there_is, "size <= buffer->size");
    assert_aborts(draw_below_zero, "bound > 0");
    assert_aborts(align_to_three, "alignment");
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
/* The sanitizers' allocators end the process themselves, with another message. */
static void allocate_more_than_there_is(void)
{
    mem_free(mem_alloc(SIZE_MAX / 2));
}

static void running_out_of_memory_ends_the_process(void **state)
{
    (void)state;
    assert_aborts(allocate_more_than_there_is, "out of memory");
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allocations_hold_what_is_put_there),
        cmocka_unit_test(aligned_allocations_are_aligned),
        cmocka_unit_test(strings_are_copied_whole),
        cmocka_unit_test(broken_invariants_abort_with_their_text),
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        cmocka_unit_test(running_out_of_memory_ends_the_process),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
