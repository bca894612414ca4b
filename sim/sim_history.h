/*
 * sim_history.h - what clients asked and heard, and whether one register for each key can explain it.
 *
 * An operation is recorded when it is sent and when its answer arrives. It happened at one moment in between; one without an
 * answer may have happened at any later moment, or never; one whose answer says that nothing was done didn't happen. The
 * history is linearizable (Herlihy and Wing 1990) when such moments exist. For each key by itself they are searched for as
 * Wing and Gong (1993) do, remembering the sets of operations that were tried (Lowe, 'Testing for linearizability', 2017).
 *
 * A key's state is its value, its creation's and its last write's revision, and its version; an answer that tells any of them
 * must tell what is true then.
 *
 * Revisions order the writes of all keys: an acknowledged write has a revision of its own, above that of every
 * operation that was answered before it was sent. That is checked over all keys.
 *
 * When the revision of every write is known, those of unknown outcome included (sim_contents.h finds them in a store's
 * history), the order of all writes is given, and one pass over the history decides whether it is linearizable, over all
 * keys together and with revisions: each operation takes the lowest revision that those answered before it allow.
 */
#ifndef CORACLE_SIM_HISTORY_H
#define CORACLE_SIM_HISTORY_H

#include "base/types.h"

enum sim_operation_kind { SIM_PUT, SIM_GET, SIM_DELETE };
enum sim_operation_outcome { SIM_UNKNOWN, SIM_DONE, SIM_NOTHING_DONE };

struct sim_operation {
    enum sim_operation_kind kind;
    enum sim_operation_outcome outcome;
    uint32_t key;
    uint32_t client;
    uint64_t value; /* put: the number written, unique; get: the number read, 0 when the key wasn't there */
    bool existed;   /* delete: the key was there */
    /* Of an acknowledged put or delete; of one of unknown outcome when it is known, from elsewhere, that it happened. */
    store_revision revision;
    store_revision mod_revision, create_revision; /* get: as it was told; 0: it wasn't */
    int64_t version;                              /* likewise */
    uint64_t sent, answered; /* places in the order of all sendings and answers, from 1; answered 0: never */
    time_ns sent_time, answered_time;
};

struct sim_history {
    struct sim_operation *operations;
    uint32_t count, capacity;
    uint64_t moments;
    bool order_known; /* every write that happened has its revision, and no other happened */
};

void sim_history_free(struct sim_history *history);
/* Records a sending; returns the operation's number. */
uint32_t sim_history_send(struct sim_history *history, enum sim_operation_kind kind, uint32_t client, uint32_t key,
                          uint64_t value, time_ns now);
/* Records the answer of an operation; its further fields are the caller's to fill in. */
struct sim_operation *sim_history_answer(struct sim_history *history, uint32_t operation,
                                         enum sim_operation_outcome outcome, time_ns now);

struct sim_verdict {
    bool violated;
    uint32_t keys_undecided; /* the search passed its limit; 0 when the order is known */
    char text[2048];         /* what was violated */
};

/* Configurations that the search of one key may visit. */
#define SIM_HISTORY_SEARCH_MAX 2000000u

void sim_history_check(const struct sim_history *history, struct sim_verdict *verdict);

#endif
