/*
 * arena.h - memory for many small things that end together, such as all that one request unpacks to.
 *
 * Single pieces aren't freed; arena_reset or arena_free ends them all at once. All zero is a valid, empty arena, which
 * allocates at the first use.
 */
#ifndef CORACLE_BASE_ARENA_H
#define CORACLE_BASE_ARENA_H

#include <stddef.h>
#include <stdint.h>

/* What an arena takes from the allocator at a time; a larger piece gets a chunk of its own. */
#define ARENA_CHUNK_BYTES 8192u
/* Enough for pointers and 64-bit numbers; what needs more doesn't belong into an arena. */
#define ARENA_ALIGNMENT 8u

struct arena_chunk;

struct arena {
    struct arena_chunk *chunks; /* the one that `at` points into is first */
    uint8_t *at;
    uint8_t *end;
    size_t used_bytes; /* all pieces since the last reset, rounded up to ARENA_ALIGNMENT */
};

/* Never NULL, also for 0 bytes. Uninitialised; lives until arena_reset or arena_free. */
void *arena_alloc(struct arena *arena, size_t size_bytes);

/* Ends all pieces; keeps one chunk for the next use. */
void arena_reset(struct arena *arena);
/* Ends all pieces, and leaves a valid, empty arena. */
void arena_free(struct arena *arena);

#endif
