/*
 * mem.h - the allocator that everything goes through.
 *
 * Running out of memory ends the process with a message; no caller handles it. Admission limits
 * make sure that no request can cause it (see each module's limits).
 */
#ifndef CORACLE_BASE_MEM_H
#define CORACLE_BASE_MEM_H

#include <stddef.h>

/* Never return NULL for a size above 0. The memory is uninitialised, except for mem_alloc_zero's. */
void *mem_alloc(size_t size_bytes);
void *mem_alloc_zero(size_t size_bytes);
void *mem_realloc(void *memory, size_t size_bytes);
/* Aligned to `alignment` (a power of two); freed with mem_free. */
void *mem_alloc_aligned(size_t alignment, size_t size_bytes);
char *mem_copy_string(const char *text);
void mem_free(void *memory);

#endif
