/*
 * log_proof.h - which entries are proven to be the log, while a scan reads it batch by batch. Used inside storage/
 * only; log_scan.h is about blocks, this is about entries.
 *
 * The proven log begins after the base (the snapshot's last entry) and grows and is cut by batches that continue the
 * chain of an entry in it. Since a batch says by its first index what it replaces, and by its chain what it follows,
 * it proves all that the log was once it was written, whatever was damaged before it.
 *
 *         base        anchor                      last
 *     ──────┤ … committed ├─── may be replaced ─────┤
 *
 * The anchor is the last entry that nothing may change: the base, later the last committed one. Batches that begin at
 * or below it can't be checked where they begin (what they follow is forgotten); they are followed *beside* the
 * log, and must agree with the anchor when they reach it. A batch that passes the base with another term is one that
 * an installed snapshot refuted, and so is all that continues it.
 */
#ifndef CORACLE_STORAGE_LOG_PROOF_H
#define CORACLE_STORAGE_LOG_PROOF_H

#include "storage/log_batch.h"

struct log_position {
    raft_index index;
    raft_term term;
    uint32_t chain;
};

struct log_proof_link {
    raft_term term;
    uint32_t chain;
};

/* Where the last batch or header left the writer: on the proven log; before the anchor; on a refuted branch. */
enum log_proof_branch { LOG_BRANCH_PROVEN, LOG_BRANCH_BEFORE, LOG_BRANCH_REFUTED };

struct log_proof {
    struct log_position base;
    struct log_position anchor;
    struct log_position last;
    enum log_proof_branch branch;
    struct log_position beside;   /* the end of the branch, unless it is the proven log */
    struct log_proof_link *links; /* of the entries in (anchor, last], at links[links_begin] on */
    size_t links_begin;
    size_t links_end;
    size_t links_capacity;
};

enum log_proof_verdict {
    LOG_PROOF_CONTINUES, /* on from the last entry */
    LOG_PROOF_CUTS,      /* on from an earlier one */
    LOG_PROOF_BESIDE,    /* before the anchor, or on a refuted branch: nothing is proven by it, and nothing lost */
    LOG_PROOF_REFUSED,
};

void log_proof_init(struct log_proof *proof, struct log_position base);
void log_proof_free(struct log_proof *proof);

/* What a segment's header says was there before the segment. The log isn't cut until a batch does it.
   *reason (static): why it was refused. */
enum log_proof_verdict log_proof_header(struct log_proof *proof, const struct log_segment_header *header,
                                        const char **reason);

/* Takes a batch into the log. CONTINUES and CUTS: the log ends with the batch now. */
enum log_proof_verdict log_proof_batch(struct log_proof *proof, const struct log_batch *batch, const char **reason);

#endif
