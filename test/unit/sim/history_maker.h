/*
 * history_maker.h - random histories for tests of the checker: right ones, and ones with a mistake put in.
 *
 * A right one comes from a sequential execution: clients send, each operation happens at one moment before its answer, which tells
 * what was true then. A mistake changes the execution (a write is lost, a read is stale) or the finished history; it
 * need not make the history wrong, so whoever uses it has a second opinion.
 */
#ifndef CORACLE_TEST_HISTORY_MAKER_H
#define CORACLE_TEST_HISTORY_MAKER_H

#include "base/random.h"
#include "sim/sim_history.h"

#define HISTORY_KEYS_MAX 8u
#define HISTORY_CLIENTS_MAX 8u

struct history_maker {
    unsigned keys, clients, operations;
    unsigned unknown_per_mille; /* answers that get lost */
    unsigned refused_per_mille;
    bool tells;       /* gets tell mod and create revision, and version */
    bool order_known; /* every write that happened has its revision */
    bool mistake;
};

/* Into an empty history. */
void history_make(const struct history_maker *maker, struct random *random, struct sim_history *out);

#endif
