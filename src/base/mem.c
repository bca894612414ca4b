#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

static _Noreturn void out_of_memory(size_t size_bytes)
{
    fprintf(stderr, "coracle: out of memory: an allocation of %zu bytes failed\n", size_bytes);
    fflush(stderr);
    abort();
}

void *mem_alloc(size_t size_bytes)
{
    void *memory = malloc(size_bytes);
    if (__builtin_expect(memory == NULL && size_bytes > 0, 0)) out_of_memory(size_bytes);
    return memory;
}

void *mem_alloc_zero(size_t size_bytes)
{
    /* calloc, not memset: fresh pages from the kernel are zero already and stay untouched. */
    void *memory = calloc(1, size_bytes);
    if (__builtin_expect(memory == NULL && size_bytes > 0, 0)) out_of_memory(size_bytes);
    return memory;
}

void *mem_realloc(void *memory, size_t size_bytes)
{
    if (size_bytes == 0) {
        /* realloc(p, 0) means different things to different C libraries. */
        free(memory);
        return NULL;
    }
    void *moved = realloc(memory, size_bytes);
    if (__builtin_expect(moved == NULL, 0)) out_of_memory(size_bytes);
    return moved;
}

void *mem_alloc_aligned(size_t alignment, size_t size_bytes)
{
    CHECK(alignment > 0 && (alignment & (alignment - 1)) == 0);
    if (alignment < sizeof(void *)) alignment = sizeof(void *);
    void *memory = NULL;
    if (posix_memalign(&memory, alignment, size_bytes) != 0) out_of_memory(size_bytes);
    return memory;
}

char *mem_copy_string(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = mem_alloc(size);
    memcpy(copy, text, size);
    return copy;
}

void mem_free(void *memory)
{
    free(memory);
}
