#define _GNU_SOURCE 1
#include "os/limits.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define PATH_BYTES 4096

/* cgroup v1 says "no limit" by the largest whole number of pages. */
#define UNLIMITED_BYTES ((uint64_t)1 << 60)

uint64_t os_raise_open_files_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
    if (limit.rlim_cur < limit.rlim_max) {
        struct rlimit raised = {.rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max};
        if (setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
    }
    return limit.rlim_cur == RLIM_INFINITY ? OS_NO_LIMIT : (uint64_t)limit.rlim_cur;
}

/* The number in the file; OS_NO_LIMIT when there is no such file or it says "max". */
static uint64_t read_limit(const char *path)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) return OS_NO_LIMIT;
    char text[32] = {0};
    char *line = fgets(text, sizeof text, file);
    fclose(file);
    if (line == NULL) return OS_NO_LIMIT;
    char *end;
    errno = 0;
    unsigned long long number = strtoull(line, &end, 10);
    if (end == line || errno != 0 || number >= UNLIMITED_BYTES) return OS_NO_LIMIT;
    return number;
}

/* The least limit from the group up to the root of its hierarchy. Changes `group`. */
static uint64_t least_limit(const char *root, const char *hierarchy, char *group, const char *file)
{
    uint64_t least = OS_NO_LIMIT;
    for (;;) {
        char path[PATH_BYTES];
        int size = snprintf(path, sizeof path, "%s%s%s/%s", root, hierarchy, group, file);
        if (size > 0 && (size_t)size < sizeof path) {
            uint64_t limit = read_limit(path);
            if (limit < least) least = limit;
        }
        char *slash = strrchr(group, '/');
        if (slash == NULL) return least;
        *slash = 0;
    }
}

/* Whether "memory" is among the names in "cpu,memory". */
static bool names_memory(const char *controllers, size_t size)
{
    static const char name[] = "memory";
    while (size > 0) {
        const char *comma = memchr(controllers, ',', size);
        size_t length = comma != NULL ? (size_t)(comma - controllers) : size;
        if (length == sizeof name - 1 && memcmp(controllers, name, length) == 0) return true;
        if (comma == NULL) return false;
        controllers += length + 1;
        size -= length + 1;
    }
    return false;
}

uint64_t os_memory_limit_at(const char *membership, const char *root)
{
    FILE *file = fopen(membership, "re");
    if (file == NULL) return OS_NO_LIMIT;
    uint64_t least = OS_NO_LIMIT;
    char line[PATH_BYTES];
    /* "<hierarchy>:<controllers>:<group>"; version 2 is hierarchy 0 without controllers (cgroups(7)). */
    while (fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = 0;
        char *controllers = strchr(line, ':');
        char *group = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
        if (group == NULL) continue;
        controllers++;
        size_t controllers_size = (size_t)(group - controllers);
        group++;
        size_t group_size = strlen(group);
        if (group_size > 0 && group[group_size - 1] == '/') group[group_size - 1] = 0;

        uint64_t limit = OS_NO_LIMIT;
        if (controllers_size == 0 && line[0] == '0') {
            limit = least_limit(root, "", group, "memory.max");
        } else if (names_memory(controllers, controllers_size)) {
            limit = least_limit(root, "/memory", group, "memory.limit_in_bytes");
        }
        if (limit < least) least = limit;
    }
    fclose(file);
    return least;
}

uint64_t os_memory_limit(void)
{
    return os_memory_limit_at("/proc/self/cgroup", "/sys/fs/cgroup");
}

static uint64_t resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL) return 0;
    unsigned long long total_pages, resident_pages;
    int count = fscanf(file, "%llu %llu", &total_pages, &resident_pages);
    fclose(file);
    return count == 2 ? resident_pages * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

static uint64_t open_files(void)
{
    DIR *directory = opendir("/proc/self/fd");
    if (directory == NULL) return 0;
    uint64_t count = 0;
    while (readdir(directory) != NULL) count++;
    closedir(directory);
    /* Less ".", ".." and the directory's own. */
    return count >= 3 ? count - 3 : 0;
}

struct os_usage os_usage(void)
{
    struct os_usage usage = {.resident_bytes = resident_bytes(), .open_files = open_files()};
    struct timespec cpu;
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu) == 0) {
        usage.cpu_time = (time_ns)cpu.tv_sec * TIME_NS_PER_S + cpu.tv_nsec;
    }
    return usage;
}
