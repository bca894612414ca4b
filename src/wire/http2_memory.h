/*
 * http2_memory.h - nghttp2's allocator for one connection: counts, and keeps a few small blocks at hand.
 *
 * nghttp2 allocates about a dozen small things for each request and frees them soon. Blocks of up to HTTP2_MEMORY_BLOCK_BYTES_MAX come
 * from lists of free ones by size class, which are short, so that an idle connection holds little. Internal to wire/.
 */
#ifndef CORACLE_WIRE_HTTP2_MEMORY_H
#define CORACLE_WIRE_HTTP2_MEMORY_H

#include <nghttp2/nghttp2.h>

#include "base/bytes.h"

#define HTTP2_MEMORY_CLASSES 5u /* 64, 128, 256, 512, 1024 bytes, header included */
#define HTTP2_MEMORY_BLOCK_BYTES_MAX 1024u

struct http2_memory_block;

/* All zero is a new one. It must not move while blocks are out. */
struct http2_memory {
    size_t bytes; /* blocks that are out or kept, with their headers */
    struct http2_memory_block *kept[HTTP2_MEMORY_CLASSES];
    uint8_t kept_count[HTTP2_MEMORY_CLASSES];
};

void *http2_memory_alloc(struct http2_memory *memory, size_t size_bytes);
void http2_memory_free(struct http2_memory *memory, void *block);

/* The allocator as nghttp2 wants it; `memory` is borrowed for the session's life. */
nghttp2_mem http2_memory_interface(struct http2_memory *memory);

/* Frees what is kept. All blocks must be back. */
void http2_memory_release(struct http2_memory *memory);

#endif
