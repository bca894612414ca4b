#include "base/arena.h"

#include "base/check.h"
#include "base/mem.h"

struct arena_chunk {
    struct arena_chunk *next;
    size_t size_bytes;
    uint8_t data[];
};
_Static_assert(sizeof(struct arena_chunk) % ARENA_ALIGNMENT == 0, "a chunk's data are aligned");

static struct arena_chunk *chunk_new(size_t size_bytes)
{
    struct arena_chunk *chunk = mem_alloc(sizeof *chunk + size_bytes);
    chunk->size_bytes = size_bytes;
    return chunk;
}

void *arena_alloc(struct arena *arena, size_t size_bytes)
{
    CHECK(size_bytes <= SIZE_MAX / 2);
    size_t rounded = (size_bytes + ARENA_ALIGNMENT - 1) / ARENA_ALIGNMENT * ARENA_ALIGNMENT;
    arena->used_bytes += rounded;
    if (arena->at != NULL && rounded <= (size_t)(arena->end - arena->at)) {
        void *memory = arena->at;
        arena->at += rounded;
        return memory;
    }
    /* A large piece goes behind the chunk in use, whose rest stays of use. */
    if (rounded > ARENA_CHUNK_BYTES / 4 && arena->chunks != NULL) {
        struct arena_chunk *chunk = chunk_new(rounded);
        chunk->next = arena->chunks->next;
        arena->chunks->next = chunk;
        return chunk->data;
    }
    struct arena_chunk *chunk = chunk_new(rounded > ARENA_CHUNK_BYTES ? rounded : ARENA_CHUNK_BYTES);
    chunk->next = arena->chunks;
    arena->chunks = chunk;
    arena->at = chunk->data + rounded;
    arena->end = chunk->data + chunk->size_bytes;
    return chunk->data;
}

void arena_reset(struct arena *arena)
{
    struct arena_chunk *kept = NULL;
    for (struct arena_chunk *chunk = arena->chunks; chunk != NULL;) {
        struct arena_chunk *next = chunk->next;
        if (kept == NULL && chunk->size_bytes == ARENA_CHUNK_BYTES) {
            kept = chunk;
            kept->next = NULL;
        } else {
            mem_free(chunk);
        }
        chunk = next;
    }
    *arena = (struct arena){.chunks = kept};
    if (kept != NULL) {
        arena->at = kept->data;
        arena->end = kept->data + kept->size_bytes;
    }
}

void arena_free(struct arena *arena)
{
    for (struct arena_chunk *chunk = arena->chunks; chunk != NULL;) {
        struct arena_chunk *next = chunk->next;
        mem_free(chunk);
        chunk = next;
    }
    *arena = (struct arena){0};
}
