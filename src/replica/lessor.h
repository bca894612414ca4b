/*
 * lessor.h - the leader's clock of leases: when they expire, and what of that outlives the leader.
 *
 * The store knows leases without a clock (store/leases.h). Only a leader that has committed an entry of its own term,
 * and applied all before it, gives them deadlines, and only it proposes what follows from them; a follower knows none.
 * What it proposes is worth nothing if it was deposed meanwhile: then nobody commits it.
 *
 * ---- What a lease's holder can rely on ----
 *
 * It doesn't expire before its TTL has passed since it was granted, or since the leader took the last renewal that was
 * acknowledged. That holds over any leader changes and pauses, as long as the members' clocks run equally fast: a
 * renewal is acknowledged after a barrier that began after it came (so whoever leads later began later), and a new
 * leader gives every lease what the log says is left of it, or its whole TTL, and one election timeout on top, counted
 * from when it may serve.
 *
 * ---- What is left of it, in the log ----
 *
 * Else each leader change would give every lease its whole TTL again. So the leader checkpoints what is left, many
 * leases in one entry, at whole seconds of its clock: of a lease that isn't renewed each time that an eighth of its
 * TTL has passed, of one that is renewed only when half of its TTL has passed without that; but after
 * LESSOR_CHECKPOINT_INTERVAL_MAX_S, or a thousandth of the TTL if that is longer, at the latest. TTLs below
 * LESSOR_CHECKPOINT_TTL_MIN_S aren't worth it. So a leader change prolongs a lease by that interval, the time without
 * a leader and an election timeout at most.
 *
 * A renewal takes no log entry, unless the log says that less than the TTL is left, or may soon: then that has to be
 * taken back first (a checkpoint with 0), or the next leader could let the lease expire early. Holders that renew in
 * time, before half of the TTL is over, cause that at most once for each leader.
 *
 * ---- Limits ----
 *
 * In one turn at most LESSOR_TURN_LOOKS_MAX leases are looked at, LESSOR_TURN_REVOKES_MAX revoked and one batch of
 * checkpoints proposed; at most LESSOR_REVOKES_UNDER_WAY_MAX revokes and one batch are under way. A revoke that is
 * refused is proposed again soon, a checkpoint after its interval. While the disk is full nothing is proposed, as for
 * anybody else.
 */
#ifndef CORACLE_REPLICA_LESSOR_H
#define CORACLE_REPLICA_LESSOR_H

#include "base/types.h"

#define LESSOR_TURN_LOOKS_MAX 2048u
#define LESSOR_TURN_REVOKES_MAX 256u
#define LESSOR_REVOKES_UNDER_WAY_MAX 1024u
#define LESSOR_BATCH_LEASES_MAX 2048u
#define LESSOR_CHECKPOINT_INTERVAL_MAX_S 60
#define LESSOR_CHECKPOINT_TTL_MIN_S 10

/* A grant's TTL is within these; the least one leaves room for a leader change between two renewals. */
#define LESSOR_TTL_MAX_S ((int64_t)9000000000)
int64_t lessor_ttl_min_s(time_ns election_timeout);

#endif
