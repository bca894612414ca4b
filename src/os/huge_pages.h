/*
 * huge_pages.h - asks for a heap of huge pages, which saves a tenth of the CPU and half of the page faults of a start
 * (docs/PERFORMANCE.md).
 */
#ifndef CORACLE_OS_HUGE_PAGES_H
#define CORACLE_OS_HUGE_PAGES_H

/*
 * glibc reads the setting (glibc.malloc.hugetlb=1: madvise) from the environment, before main. So this puts it there and
 * executes the program again, once; process id, arguments and open files stay. It returns when the setting is there, when
 * somebody else set GLIBC_TUNABLES, or when it can't be done.
 */
void os_prefer_huge_pages(char **arguments);

#endif
