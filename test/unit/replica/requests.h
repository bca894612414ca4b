/*
 * requests.h - what the tests of reads and of writes ask of a harness's requests.
 */
#ifndef CORACLE_TEST_REPLICA_REQUESTS_H
#define CORACLE_TEST_REPLICA_REQUESTS_H

#include "harness.h"

/* Runs on for a while, and wants that nothing was violated. */
void requests_end(struct harness *harness);

bool requests_done(const struct harness *harness, uint64_t number);
void requests_assert_done(const struct harness *harness, uint64_t number, enum error error);

/* The member that is neither of these, of three. */
member_id requests_third(member_id a, member_id b);

/* Delivers the first such message, which must be on its way. */
void requests_deliver_first(struct harness *harness, enum peer_message_type type, member_id from, member_id to);

#endif
