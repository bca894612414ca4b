#include "os/limits.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"

static char root[200];

static int make_root(void **state)
{
    (void)state;
    const char *parent = getenv("TMPDIR");
    snprintf(root, sizeof root, "%s/coracle-limits-XXXXXX", parent != NULL ? parent : P_tmpdir);
    return mkdtemp(root) != NULL ? 0 : -1;
}

static int remove_root(void **state)
{
    (void)state;
    char command[256];
    snprintf(command, sizeof command, "rm -r '%s'", root);
    return system(command);
}

/* Makes the file below the root, and the directories on the way. */
static void make_file(const char *name, const char *text)
{
    char path[400];
    snprintf(path, sizeof path, "%s/%s", root, name);
    for (char *at = path + strlen(root) + 1; *at != 0; at++) {
        if (*at != '/') continue;
        *at = 0;
        mkdir(path, 0700);
        *at = '/';
    }
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static uint64_t limit_of(const char *case_name, const char *membership)
{
    char path[400], directory[400], name[100];
    snprintf(name, sizeof name, "%s/membership", case_name);
    make_file(name, membership);
    snprintf(path, sizeof path, "%s/%s/membership", root, case_name);
    snprintf(directory, sizeof directory, "%s/%s", root, case_name);
    return os_memory_limit_at(path, directory);
}

static void version_2_takes_the_least_on_the_way_to_the_root(void **state)
{
    (void)state;
    make_file("v2/a/b/memory.max", "max\n");
    make_file("v2/a/memory.max", "2000000\n");
    make_file("v2/memory.max", "5000000\n");
    assert_int_equal(limit_of("v2", "0::/a/b\n"), 2000000);
    assert_int_equal(limit_of("v2", "0::/a\n"), 2000000);
    assert_int_equal(limit_of("v2", "0::/\n"), 5000000);
    /* The membership is the host's, the files are the container's. */
    assert_int_equal(limit_of("v2", "0::/kubepods/pod1/x\n"), 5000000);
    assert_int_equal(limit_of("v2", "0::/a/../a/b/c/d"), 2000000);
}

static void version_1_reads_the_memory_hierarchy(void **state)
{
    (void)state;
    make_file("v1/memory/docker/1/memory.limit_in_bytes", "300000000\n");
    make_file("v1/memory/memory.limit_in_bytes", "9223372036854771712\n");
    make_file("v1/docker/1/memory.max", "1\n");
    assert_int_equal(limit_of("v1", "5:cpu,cpuacct:/docker/1\n4:memory:/docker/1\n1:name=systemd:/docker/1\n"),
                     300000000);
    assert_int_equal(limit_of("v1", "4:hugetlb,memory:/docker/1\n"), 300000000);
    assert_int_equal(limit_of("v1", "4:memory:/\n"), OS_NO_LIMIT);
    assert_int_equal(limit_of("v1", "4:memoryx,xmemory:/docker/1\n"), OS_NO_LIMIT);
    /* Both at once: the smaller one. */
    assert_int_equal(limit_of("v1", "4:memory:/docker/1\n0::/docker/1\n"), 1);
}

static void what_does_not_tell_a_limit_is_none(void **state)
{
    (void)state;
    make_file("none/memory.max", "max\n");
    make_file("none/empty/memory.max", "");
    make_file("none/text/memory.max", "abc\n");
    make_file("none/huge/memory.max", "99999999999999999999999\n");
    make_file("none/zero/memory.max", "0\n");
    assert_int_equal(limit_of("none", "0::/\n"), OS_NO_LIMIT);
    assert_int_equal(limit_of("none", "0::/empty\n"), OS_NO_LIMIT);
    assert_int_equal(limit_of("none", "0::/text\n"), OS_NO_LIMIT);
    assert_int_equal(limit_of("none", "0::/huge\n"), OS_NO_LIMIT);
    assert_int_equal(limit_of("none", "0::/zero\n"), 0);
    assert_int_equal(limit_of("none", ""), OS_NO_LIMIT);
    assert_int_equal(limit_of("none", "nonsense\n:\n::\n0:\n"), OS_NO_LIMIT);
    assert_int_equal(os_memory_limit_at("/dev/null/none", root), OS_NO_LIMIT);
    /* Longer than any path. */
    char *line = mem_alloc_zero(9000);
    memset(line, '/', 8999);
    memcpy(line, "0::", 3);
    assert_int_equal(limit_of("none", line), OS_NO_LIMIT);
    mem_free(line);
    assert_true(os_memory_limit() > 1024 * 1024);
}

static void open_files_limit_is_raised_to_the_hard_one(void **state)
{
    (void)state;
    struct rlimit before, lowered, after;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    lowered = before;
    lowered.rlim_cur = 64;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &lowered), 0);
    uint64_t limit = os_raise_open_files_limit();
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &after), 0);
    assert_int_equal(after.rlim_cur, before.rlim_max);
    assert_int_equal(limit, before.rlim_max == RLIM_INFINITY ? OS_NO_LIMIT : before.rlim_max);
    assert_int_equal(os_raise_open_files_limit(), limit);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

static void usage_follows_what_the_process_does(void **state)
{
    (void)state;
    struct os_usage before = os_usage();
    assert_true(before.resident_bytes > 64 * 1024);
    assert_true(before.open_files >= 1);

    enum { SIZE = 32 * 1024 * 1024 };
    char *memory = mem_alloc(SIZE);
    memset(memory, 1, SIZE);
    int fds[10];
    for (size_t i = 0; i < ARRAY_COUNT(fds); i++) fds[i] = open("/dev/null", O_RDONLY);
    volatile uint64_t sum = 0;
    struct os_usage after;
    do {
        for (int i = 0; i < SIZE; i += 64) sum += (uint64_t)memory[i];
        after = os_usage();
    } while (after.cpu_time < before.cpu_time + 10 * TIME_NS_PER_MS);
    assert_true(after.resident_bytes >= before.resident_bytes + SIZE / 2);
    assert_int_equal(after.open_files, before.open_files + ARRAY_COUNT(fds));
    for (size_t i = 0; i < ARRAY_COUNT(fds); i++) close(fds[i]);
    assert_int_equal(os_usage().open_files, before.open_files);
    assert_true(sum > 0);
    mem_free(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(version_2_takes_the_least_on_the_way_to_the_root),
        cmocka_unit_test(version_1_reads_the_memory_hierarchy),
        cmocka_unit_test(what_does_not_tell_a_limit_is_none),
        cmocka_unit_test(open_files_limit_is_raised_to_the_hard_one),
        cmocka_unit_test(usage_follows_what_the_process_does),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
