/*
 * crc32c.h - CRC-32C (Castagnoli), as RFC 3720 appendix B.4 defines it.
 *
 * Uses the SSE 4.2 or ARMv8 instruction where the processor that it runs on has it, else a table.
 */
#ifndef CORACLE_BASE_CRC32C_H
#define CORACLE_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* The checksum of `data` that continues `seed`; 0 begins a new one.
   crc32c(crc32c(0, a), b) == crc32c(0, a followed by b). */
uint32_t crc32c(uint32_t seed, const void *data, size_t size);

/* The same by the table alone, whatever the processor can do; for comparison in tests. */
uint32_t crc32c_portable(uint32_t seed, const void *data, size_t size);

#endif
