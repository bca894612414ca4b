#include "wire/http2_memory.h"

#include "base/check.h"
#include "base/mem.h"

#define CLASS_NONE HTTP2_MEMORY_CLASSES

/* In front of what the user sees; 16 bytes keep the alignment of malloc. */
struct http2_memory_block {
    union {
        struct http2_memory_block *next; /* while kept */
        size_t size_bytes;               /* while out: of all, header included */
    };
    uint64_t class_number;
};
_Static_assert(sizeof(struct http2_memory_block) == 16, "malloc's alignment");
_Static_assert((64u << (HTTP2_MEMORY_CLASSES - 1)) == HTTP2_MEMORY_BLOCK_BYTES_MAX, "the largest class");

/* Free blocks that are kept, by class; 5 KiB in all. */
static const uint8_t kept_max[HTTP2_MEMORY_CLASSES] = {8, 8, 6, 2, 1};

static uint32_t class_of(size_t size_bytes)
{
    if (size_bytes > HTTP2_MEMORY_BLOCK_BYTES_MAX) return CLASS_NONE;
    if (size_bytes <= 64) return 0;
    return 26 - (uint32_t)__builtin_clz((uint32_t)(size_bytes - 1));
}

void *http2_memory_alloc(struct http2_memory *memory, size_t size_bytes)
{
    if (size_bytes == 0) return NULL;
    size_t whole = size_bytes + sizeof(struct http2_memory_block);
    uint32_t class_number = class_of(whole);
    struct http2_memory_block *block;
    if (class_number != CLASS_NONE) {
        whole = (size_t)64 << class_number;
        block = memory->kept[class_number];
        if (block != NULL) {
            memory->kept[class_number] = block->next;
            memory->kept_count[class_number]--;
            block->size_bytes = whole;
            return block + 1;
        }
    }
    block = mem_alloc(whole);
    block->size_bytes = whole;
    block->class_number = class_number;
    memory->bytes += whole;
    return block + 1;
}

void http2_memory_free(struct http2_memory *memory, void *of_user)
{
    if (of_user == NULL) return;
    struct http2_memory_block *block = (struct http2_memory_block *)of_user - 1;
    uint64_t class_number = block->class_number;
    if (class_number != CLASS_NONE && memory->kept_count[class_number] < kept_max[class_number]) {
        block->next = memory->kept[class_number];
        memory->kept[class_number] = block;
        memory->kept_count[class_number]++;
        return;
    }
    memory->bytes -= block->size_bytes;
    mem_free(block);
}

static void *for_malloc(size_t size_bytes, void *user)
{
    return http2_memory_alloc(user, size_bytes);
}

static void for_free(void *block, void *user)
{
    http2_memory_free(user, block);
}

static void *for_calloc(size_t count, size_t size_bytes, void *user)
{
    size_t all;
    if (__builtin_mul_overflow(count, size_bytes, &all)) return NULL;
    void *block = http2_memory_alloc(user, all);
    if (block != NULL) memset(block, 0, all);
    return block;
}

static void *for_realloc(void *of_user, size_t size_bytes, void *user)
{
    if (of_user == NULL) return http2_memory_alloc(user, size_bytes);
    struct http2_memory_block *block = (struct http2_memory_block *)of_user - 1;
    size_t had = block->size_bytes - sizeof *block;
    if (size_bytes <= had) return of_user;
    void *moved = http2_memory_alloc(user, size_bytes);
    memcpy(moved, of_user, had);
    http2_memory_free(user, of_user);
    return moved;
}

nghttp2_mem http2_memory_interface(struct http2_memory *memory)
{
    return (nghttp2_mem){
        .mem_user_data = memory, .malloc = for_malloc, .free = for_free, .calloc = for_calloc, .realloc = for_realloc};
}

void http2_memory_release(struct http2_memory *memory)
{
    for (uint32_t class_number = 0; class_number < HTTP2_MEMORY_CLASSES; class_number++) {
        while (memory->kept[class_number] != NULL) {
            struct http2_memory_block *block = memory->kept[class_number];
            memory->kept[class_number] = block->next;
            memory->bytes -= (size_t)64 << class_number;
            mem_free(block);
        }
        memory->kept_count[class_number] = 0;
    }
    CHECK(memory->bytes == 0);
}
