#include "storage/log_proof.h"

#include "base/check.h"
#include "base/mem.h"

void log_proof_init(struct log_proof *proof, struct log_position base)
{
    *proof = (struct log_proof){.base = base, .anchor = base, .last = base};
}

void log_proof_free(struct log_proof *proof)
{
    mem_free(proof->links);
    *proof = (struct log_proof){0};
}

/* The entry at an index in [anchor, last]. */
static struct log_position position_at(const struct log_proof *proof, raft_index index)
{
    CHECK(index >= proof->anchor.index && index <= proof->last.index);
    if (index == proof->anchor.index) return proof->anchor;
    const struct log_proof_link *link = &proof->links[proof->links_begin + (index - proof->anchor.index - 1)];
    return (struct log_position){.index = index, .term = link->term, .chain = link->chain};
}

/* Cuts the log after an index in [anchor, last]. */
static void cut_after(struct log_proof *proof, raft_index index)
{
    proof->last = position_at(proof, index);
    proof->links_end = proof->links_begin + (index - proof->anchor.index);
}

static void append(struct log_proof *proof, const struct entry *entry)
{
    CHECK(entry_index(entry) == proof->last.index + 1);
    if (proof->links_end == proof->links_capacity) {
        size_t count = proof->links_end - proof->links_begin;
        if (proof->links_begin > count) {
            memcpy(proof->links, proof->links + proof->links_begin, count * sizeof *proof->links);
            proof->links_begin = 0;
            proof->links_end = count;
        } else {
            proof->links_capacity = proof->links_capacity == 0 ? 64 : proof->links_capacity * 2;
            proof->links = mem_realloc(proof->links, proof->links_capacity * sizeof *proof->links);
        }
    }
    proof->links[proof->links_end++] = (struct log_proof_link){.term = entry_term(entry), .chain = entry_chain(entry)};
    proof->last = (struct log_position){entry_index(entry), entry_term(entry), entry_chain(entry)};
}

static void raise_anchor(struct log_proof *proof, raft_index commit)
{
    raft_index index = commit < proof->last.index ? commit : proof->last.index;
    if (index <= proof->anchor.index) return;
    struct log_position anchor = position_at(proof, index);
    proof->links_begin += index - proof->anchor.index;
    proof->anchor = anchor;
}

static bool continues_beside(const struct log_proof *proof, raft_index previous)
{
    return proof->branch == LOG_BRANCH_REFUTED && proof->beside.index == previous;
}

enum log_proof_verdict log_proof_header(struct log_proof *proof, const struct log_segment_header *header,
                                        const char **reason)
{
    struct log_position previous = {header->first_index - 1, header->previous_term, header->previous_chain};
    if (previous.index < proof->anchor.index) {
        proof->branch = LOG_BRANCH_BEFORE;
        proof->beside = previous;
        return LOG_PROOF_BESIDE;
    }
    if (previous.index <= proof->last.index) {
        struct log_position ours = position_at(proof, previous.index);
        if (ours.term == previous.term && ours.chain == previous.chain) {
            if (previous.index != proof->last.index) return LOG_PROOF_CUTS;
            proof->branch = LOG_BRANCH_PROVEN;
            return LOG_PROOF_CONTINUES;
        }
    }
    if (continues_beside(proof, previous.index) && proof->beside.term == previous.term &&
        proof->beside.chain == previous.chain) {
        return LOG_PROOF_BESIDE;
    }
    *reason = previous.index > proof->last.index ? "entries before it are missing" : "it doesn't continue the chain";
    return LOG_PROOF_REFUSED;
}

static void move_beside(struct log_proof *proof, enum log_proof_branch branch, const struct log_batch *batch)
{
    const struct entry *last = batch->entries[batch->entry_count - 1];
    proof->branch = branch;
    proof->beside = (struct log_position){entry_index(last), entry_term(last), entry_chain(last)};
}

/* The entries after the first `skip` become the log's end, which is right before them. */
static void take(struct log_proof *proof, const struct log_batch *batch, uint32_t skip)
{
    for (uint32_t i = skip; i < batch->entry_count; i++) append(proof, batch->entries[i]);
    proof->branch = LOG_BRANCH_PROVEN;
    raise_anchor(proof, batch->commit);
}

enum log_proof_verdict log_proof_batch(struct log_proof *proof, const struct log_batch *batch, const char **reason)
{
    const struct entry *first = batch->entries[0];
    raft_index previous = batch->first_index - 1;
    struct log_position *anchor = &proof->anchor;

    if (previous >= anchor->index) {
        if (previous <= proof->last.index) {
            struct log_position ours = position_at(proof, previous);
            if (entry_follows(first, ours.chain) && entry_term(first) >= ours.term) {
                bool cuts = previous < proof->last.index;
                cut_after(proof, previous);
                take(proof, batch, 0);
                return cuts ? LOG_PROOF_CUTS : LOG_PROOF_CONTINUES;
            }
        }
        if (continues_beside(proof, previous) && entry_follows(first, proof->beside.chain)) {
            move_beside(proof, LOG_BRANCH_REFUTED, batch);
            return LOG_PROOF_BESIDE;
        }
        *reason = previous > proof->last.index ? "entries before it are missing" : "it doesn't continue the chain";
        return LOG_PROOF_REFUSED;
    }

    if (proof->branch != LOG_BRANCH_PROVEN && proof->beside.index == previous &&
        !entry_follows(first, proof->beside.chain)) {
        *reason = "it doesn't continue the chain";
        return LOG_PROOF_REFUSED;
    }
    if (batch->last_index < anchor->index) {
        move_beside(proof, LOG_BRANCH_BEFORE, batch);
        return LOG_PROOF_BESIDE;
    }
    const struct entry *ours = batch->entries[anchor->index - batch->first_index];
    if (entry_term(ours) == anchor->term && entry_chain(ours) == anchor->chain) {
        bool cuts = anchor->index < proof->last.index;
        if (cuts && batch->last_index == anchor->index) {
            /* Nothing of it is beyond the anchor, and what is proven there stays so. */
            move_beside(proof, LOG_BRANCH_BEFORE, batch);
            return LOG_PROOF_BESIDE;
        }
        cut_after(proof, anchor->index);
        take(proof, batch, (uint32_t)(anchor->index - batch->first_index) + 1);
        return cuts ? LOG_PROOF_CUTS : LOG_PROOF_CONTINUES;
    }
    if (proof->last.index == proof->base.index && entry_term(ours) != anchor->term) {
        move_beside(proof, LOG_BRANCH_REFUTED, batch);
        return LOG_PROOF_BESIDE;
    }
    *reason = proof->last.index == proof->base.index ? "it differs from the snapshot" : "it changes committed entries";
    return LOG_PROOF_REFUSED;
}
