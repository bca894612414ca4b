#include "sim/sim_checker.h"

#include "base/check.h"
#include "base/mem.h"

void sim_checker_init(struct sim_checker *checker, struct sim_world *world, unsigned node_count)
{
    *checker = (struct sim_checker){.world = world, .node_count = node_count};
}

void sim_checker_free(struct sim_checker *checker)
{
    mem_free(checker->leaders);
    mem_free(checker->hashes);
    mem_free(checker->hash_from);
}

void sim_checker_violated(struct sim_checker *checker, const char *format, ...)
{
    if (checker->violated) return;
    checker->violated = true;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(checker->text, sizeof checker->text, format, arguments);
    va_end(arguments);
    sim_world_note(checker->world, SIM_NO_PROCESS, "VIOLATION: %s", checker->text);
}

static unsigned long long number(uint64_t value)
{
    return (unsigned long long)value;
}

/* Grows an array of `size` bytes an element, zero-filled, so that `index` fits. */
static void *reach(void *array, size_t *capacity, uint64_t index, size_t size)
{
    if (index < *capacity) return array;
    size_t larger = *capacity == 0 ? 1024 : *capacity;
    while (larger <= index) larger *= 2;
    array = mem_realloc(array, larger * size);
    memset((uint8_t *)array + *capacity * size, 0, (larger - *capacity) * size);
    *capacity = larger;
    return array;
}

static void check_leader(struct sim_checker *checker, unsigned node, const struct raft_status *status)
{
    if (status->role != RAFT_LEADER) return;
    CHECK(status->term < 1u << 24); /* terms don't run away */
    checker->leaders = reach(checker->leaders, &checker->leader_capacity, status->term, sizeof *checker->leaders);
    unsigned known = checker->leaders[status->term];
    if (known == node + 1) return;
    if (known != 0) {
        sim_checker_violated(checker, "node-%u and node-%u are both leader in term %llu", known, node + 1,
                             number(status->term));
        return;
    }
    checker->leaders[status->term] = node + 1;
    checker->elections++;
    if (status->last_index < checker->commit) {
        sim_checker_violated(checker, "node-%u leads term %llu with a log up to %llu, but %llu is committed", node + 1,
                             number(status->term), number(status->last_index), number(checker->commit));
    }
}

static void check_hash(struct sim_checker *checker, unsigned node, const struct replica_status *status)
{
    raft_index applied = status->raft.applied;
    size_t capacity = checker->hash_capacity;
    checker->hash_from = reach(checker->hash_from, &capacity, applied, sizeof *checker->hash_from);
    checker->hashes = reach(checker->hashes, &checker->hash_capacity, applied, sizeof *checker->hashes);
    uint64_t hash = status->apply_hash == 0 ? 1 : status->apply_hash;
    if (checker->hashes[applied] == 0) {
        checker->hashes[applied] = hash;
        checker->hash_from[applied] = (uint8_t)node;
    } else if (checker->hashes[applied] != hash) {
        sim_checker_violated(checker, "after index %llu, node-%u has apply hash %016llx, and node-%u had %016llx",
                             number(applied), node + 1, number(hash), checker->hash_from[applied] + 1u,
                             number(checker->hashes[applied]));
    }
}

static void check_monotone(struct sim_checker *checker, unsigned node, const struct raft_status *last,
                           const struct raft_status *status)
{
    if (status->term < last->term) {
        sim_checker_violated(checker, "node-%u went back from term %llu to %llu", node + 1, number(last->term),
                             number(status->term));
    }
    if (status->commit < last->commit) {
        sim_checker_violated(checker, "node-%u's commit index went back from %llu to %llu", node + 1,
                             number(last->commit), number(status->commit));
    }
    if (status->applied < last->applied) {
        sim_checker_violated(checker, "node-%u's applied index went back from %llu to %llu", node + 1,
                             number(last->applied), number(status->applied));
    }
    if (status->term == last->term && last->vote != 0 && status->vote != last->vote) {
        sim_checker_violated(checker, "node-%u voted twice in term %llu", node + 1, number(status->term));
    }
}

/* Something new is committed: it must be durable on a majority. */
static void check_quorum(struct sim_checker *checker, unsigned by)
{
    unsigned durable = 0;
    char where[SIM_NODES_MAX * 24] = "";
    size_t at = 0;
    for (unsigned node = 0; node < checker->node_count; node++) {
        struct replica_status status;
        const struct raft_status *raft = &checker->nodes[node].last;
        if (checker->nodes[node].running && checker->status(checker->user, node, &status)) raft = &status.raft;
        durable += raft->durable_index >= checker->commit;
        at += (size_t)snprintf(where + at, sizeof where - at, " %llu", number(raft->durable_index));
    }
    if (durable * 2 <= checker->node_count) {
        sim_checker_violated(checker, "node-%u has index %llu committed, but durable are only%s", by + 1,
                             number(checker->commit), where);
    }
}

/* The first status of a new life. What wasn't durable may have gone back. */
static void check_restart(struct sim_checker *checker, unsigned node, const struct raft_status *raft)
{
    const struct sim_checked_node *checked = &checker->nodes[node];
    /* A founder that came late, and met a cluster that a majority had founded already, catches up first. */
    bool late = !checked->known && raft->last_index == 0;
    if (raft->uncertain && !late && !checked->was_uncertain) {
        sim_checker_violated(checker, "node-%u is uncertain after a crash that can't have damaged anything", node + 1);
    }
    if (checked->known && raft->last_index < checked->last.durable_index) {
        sim_checker_violated(checker, "node-%u had made index %llu durable, and has only %llu after its restart",
                             node + 1, number(checked->last.durable_index), number(raft->last_index));
    }
}

void sim_checker_look(struct sim_checker *checker, unsigned node)
{
    struct replica_status status;
    struct sim_checked_node *checked = &checker->nodes[node];
    if (checker->violated || !checked->running || !checker->status(checker->user, node, &status)) return;
    checker->checks++;
    const struct raft_status *raft = &status.raft;
    if (raft->applied > raft->commit || raft->commit > raft->last_index || raft->durable_index > raft->last_index) {
        sim_checker_violated(checker, "node-%u: applied %llu, commit %llu, durable %llu, last %llu can't be", node + 1,
                             number(raft->applied), number(raft->commit), number(raft->durable_index),
                             number(raft->last_index));
    }
    if (checked->new_life) {
        check_restart(checker, node, raft);
    } else if (checked->known) {
        check_monotone(checker, node, &checked->last, raft);
    }
    checked->new_life = false;
    check_leader(checker, node, raft);
    check_hash(checker, node, &status);
    if (status.diverged)
        sim_checker_violated(checker, "node-%u says that its state differs from the others'", node + 1);
    checked->last = *raft;
    checked->known = true;
    checked->was_uncertain |= raft->uncertain;
    if (raft->commit > checker->commit) {
        checker->commit = raft->commit;
        check_quorum(checker, node);
    }
}

void sim_checker_started(struct sim_checker *checker, unsigned node)
{
    checker->nodes[node].running = true;
    checker->nodes[node].new_life = true;
    sim_checker_look(checker, node);
}

void sim_checker_stopped(struct sim_checker *checker, unsigned node)
{
    checker->nodes[node].running = false;
}
