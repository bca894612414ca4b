/*
 * check.h - assertions that stay on in every build.
 *
 * CHECK states what must be true whatever the input was. Damage on disk and bad input are errors
 * (error.h), never a CHECK. A failed CHECK prints where and what, and aborts.
 */
#ifndef CORACLE_BASE_CHECK_H
#define CORACLE_BASE_CHECK_H

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (__builtin_expect(!(condition), 0)) check_failed(#condition, __FILE__, __LINE__);                           \
    } while (0)

_Noreturn void check_failed(const char *condition, const char *file, int line);

#endif
