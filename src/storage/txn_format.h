/*
 * txn_format.h - a transaction (base/txn.h) as the bytes of a COMMAND_TXN.
 *
 * Little-endian, without padding:
 *
 *     txn:      u16 compares, u16 operations on success, u16 on failure; then these in that order
 *     compare:  u8 result, u8 target, i64 number, u32 key bytes, u32 range_end bytes, u32 value bytes; key, range_end, value
 *     op:       u8 kind (enum txn_op_kind), then
 *       range:  u8 flags (1 keys_only, 2 count_only), u8 order, u8 target, i64 revision, limit, mod_min, mod_max,
 *               create_min, create_max; u32 key bytes, u32 range_end bytes; key, range_end
 *       put:    u8 flags (1 want_previous, 2 keep_value, 4 keep_lease), u64 lease, u32 key bytes, u32 value bytes; key, value
 *       delete: u8 flags (1 want_previous), u32 key bytes, u32 range_end bytes; key, range_end
 *       nested: a txn
 *
 * Valid if and only if all numbers are in range, no key is empty or longer than COMMAND_KEY_BYTES_MAX, it isn't nested deeper
 * than TXN_DEPTH_MAX, and nothing follows.
 */
#ifndef CORACLE_STORAGE_TXN_FORMAT_H
#define CORACLE_STORAGE_TXN_FORMAT_H

#include "base/arena.h"
#include "base/error.h"
#include "base/txn.h"

/* How many bytes txn_format_encode writes. */
size_t txn_format_bytes(const struct txn *txn);
/* At `out`, which has room for txn_format_bytes. The transaction must be valid as above. */
void txn_format_encode(const struct txn *txn, uint8_t *out);
/* Views into `bytes`; arrays from the arena. ERR_DAMAGED. */
enum error txn_format_decode(struct bytes bytes, struct arena *arena, struct txn *out);

#endif
