/*
 * limits.h - what the system lets this process use, and what it uses; for warnings and metrics.
 */
#ifndef CORACLE_OS_LIMITS_H
#define CORACLE_OS_LIMITS_H

#include "base/types.h"

#define OS_NO_LIMIT UINT64_MAX

/* Raises the limit of open files as far as this process may (RLIMIT_NOFILE, soft to hard); returns what it then is. */
uint64_t os_raise_open_files_limit(void);

/* The least of the memory limits that cgroups (v2 or v1) put on this process, in bytes; or OS_NO_LIMIT. */
uint64_t os_memory_limit(void);

/*
 * The same from files elsewhere: `membership` in place of /proc/self/cgroup, `root` of /sys/fs/cgroup.
 * A container often sees its cgroup at the root, whatever its membership says; so all levels on the way there count.
 */
uint64_t os_memory_limit_at(const char *membership, const char *root);

struct os_usage {
    uint64_t resident_bytes;
    uint64_t open_files;
    time_ns cpu_time; /* user and system, of all threads, since the start */
};

/* A figure that the system doesn't tell is 0. */
struct os_usage os_usage(void);

#endif
