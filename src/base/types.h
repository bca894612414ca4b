/*
 * types.h - the few scalar types that every module shares.
 *
 * Typedefs exist only for scalars that carry a meaning; everything else is a spelled-out struct.
 */
#ifndef CORACLE_BASE_TYPES_H
#define CORACLE_BASE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Raft's logical clock (dissertation §3.3). 0 is before the first election. */
typedef uint64_t raft_term;

/* Position in the replicated log. The first entry has index 1; 0 means "before the log". */
typedef uint64_t raft_index;

/* A point of the store's history. A fresh store is at 1; the first change makes 2. */
typedef int64_t store_revision;

/* Monotonic time, or a span of it, in nanoseconds. The pure layers only see it inside events. */
typedef int64_t time_ns;

#define TIME_NS_PER_MS ((time_ns)1000000)
#define TIME_NS_PER_S ((time_ns)1000000000)
#define TIME_NS_NEVER INT64_MAX

/*
 * Identity of a member: a hash of its node id (member_id_of), so that it is the same on all
 * members and after every restart. 0 means nobody.
 */
typedef uint64_t member_id;

/* Derives the identity from the node id's text; never 0. */
member_id member_id_of(const char *node_id);

/* A cluster has at most this many members; sizes arrays of per-member state. */
#define MEMBERS_MAX 7

/* Longest node id, host name with port, in bytes without the terminating zero. */
#define NODE_ID_BYTES_MAX 63
#define ADDRESS_BYTES_MAX 271

#define ARRAY_COUNT(a) (sizeof(a) / sizeof((a)[0]))

#endif
