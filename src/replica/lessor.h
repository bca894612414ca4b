/*
 * lessor.h - what hosts have to know of the leader's clock of leases (replica/lessor.c).
 */
#ifndef CORACLE_REPLICA_LESSOR_H
#define CORACLE_REPLICA_LESSOR_H

#include "base/types.h"

/* A grant's TTL is within these; the least one leaves room for a leader change between two renewals. */
#define LESSOR_TTL_MAX_S ((int64_t)9000000000)
int64_t lessor_ttl_min_s(time_ns election_timeout);

#endif
