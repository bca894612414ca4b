#include "base/types.h"

#include "base/random.h"

#define FNV_OFFSET_BASIS 0xcbf29ce484222325u
#define FNV_PRIME 0x100000001b3u

member_id member_id_of(const char *node_id)
{
    uint64_t hash = FNV_OFFSET_BASIS;
    for (const unsigned char *at = (const unsigned char *)node_id; *at != 0; at++) {
        hash ^= *at;
        hash *= FNV_PRIME;
    }
    /* FNV-1a leaves names that differ in their last byte close together; the mix spreads them, so
       that ids also serve as seeds. */
    hash = random_mix(hash);
    return hash == 0 ? 1 : hash;
}
