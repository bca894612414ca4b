#include "sim/sim_checker.h"

#include "base/check.h"
#include "base/mem.h"
#include "storage/raft_state.h"
#include "storage/snapshot.h"

struct sim_known_entry {
    raft_term term;
    uint32_t chain;
    uint32_t older; /* another entry with this index, from 1 */
    uint8_t node;   /* that it was seen at first */
};

struct sim_committed_in {
    raft_term term;
    raft_index index;
};

void sim_checker_init(struct sim_checker *checker, struct sim_world *world, unsigned node_count)
{
    *checker = (struct sim_checker){.world = world,
                                    .node_count = node_count,
                                    .log_prefix = "/data/log/log-",
                                    .state_file = "/data/state",
                                    .snapshot_directory = "/data/snapshot"};
}

void sim_checker_free(struct sim_checker *checker)
{
    mem_free(checker->leaders);
    mem_free(checker->hashes);
    mem_free(checker->hash_from);
    mem_free(checker->entries);
    mem_free(checker->entry_of);
    mem_free(checker->committed);
    mem_free(checker->committed_in);
    for (unsigned i = 0; i < SIM_NODES_MAX; i++) mem_free(checker->nodes[i].chains);
}

static void *copy_of(const void *array, size_t bytes)
{
    if (array == NULL) return NULL;
    void *copy = mem_alloc(bytes);
    memcpy(copy, array, bytes);
    return copy;
}

void sim_checker_copy(struct sim_checker *out, const struct sim_checker *checker)
{
    *out = *checker;
    out->leaders = copy_of(checker->leaders, checker->leader_capacity * sizeof *checker->leaders);
    out->hashes = copy_of(checker->hashes, checker->hash_capacity * sizeof *checker->hashes);
    out->hash_from = copy_of(checker->hash_from, checker->hash_capacity * sizeof *checker->hash_from);
    out->entries = copy_of(checker->entries, checker->entry_capacity * sizeof *checker->entries);
    out->entry_of = copy_of(checker->entry_of, checker->entry_of_capacity * sizeof *checker->entry_of);
    out->committed = copy_of(checker->committed, checker->committed_capacity * sizeof *checker->committed);
    out->committed_in = copy_of(checker->committed_in, checker->committed_in_capacity * sizeof *checker->committed_in);
    for (unsigned i = 0; i < SIM_NODES_MAX; i++) {
        struct sim_checked_node *node = &out->nodes[i];
        node->chains = copy_of(node->chains, node->chain_capacity * sizeof *node->chains);
    }
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

/* ---- term and vote on the device ---- */

/* What both slots of the raft state hold, which is what the node may have relied on: the older of the two that can be read. */
static bool read_saved(const struct sim_checker *checker, unsigned node, raft_term *term, member_id *vote)
{
    if (checker->view.disk == NULL) return false;
    uint8_t slots[SLOT_COUNT * SLOT_BYTES];
    const struct sim_disk *disk = checker->view.disk(checker->user, node);
    if (sim_disk_read_durable(disk, checker->state_file, 0, slots, sizeof slots) != sizeof slots) return false;
    uint64_t oldest = UINT64_MAX;
    for (unsigned i = 0; i < SLOT_COUNT; i++) {
        uint8_t alone[sizeof slots] = {0};
        memcpy(alone + (size_t)i * SLOT_BYTES, slots + (size_t)i * SLOT_BYTES, SLOT_BYTES);
        struct raft_state state;
        uint64_t generation;
        char damage[SLOT_DAMAGE_BYTES];
        if (raft_state_decode(bytes_of(alone, sizeof alone), &state, &generation, damage) != ERR_OK) continue;
        if (generation >= oldest) continue;
        oldest = generation;
        *term = state.term;
        *vote = state.vote;
    }
    return oldest != UINT64_MAX;
}

/* A new leader: a quorum has its vote durably, or went on to a later term since. */
static void check_votes(struct sim_checker *checker, unsigned leader, const struct raft_status *status, member_id self)
{
    if (checker->view.disk == NULL) return;
    unsigned votes = 0, unreadable = 0;
    char where[SIM_NODES_MAX * 32] = "";
    size_t at = 0;
    for (unsigned node = 0; node < checker->node_count; node++) {
        raft_term term;
        member_id vote;
        /* One that had a write lost has less than it saved. */
        if (checker->nodes[node].state_damaged || !read_saved(checker, node, &term, &vote)) {
            unreadable += checker->nodes[node].state_damaged;
            at += (size_t)snprintf(where + at, sizeof where - at, " none");
            continue;
        }
        bool voted = term > status->term || (term == status->term && vote == self);
        votes += voted;
        at += (size_t)snprintf(where + at, sizeof where - at, " %s%llu", voted ? "" : "not ", number(term));
    }
    if ((votes + unreadable) * 2 > checker->node_count) return;
    sim_checker_violated(checker, "node-%u leads term %llu, but the votes that are durable are, by term:%s", leader + 1,
                         number(status->term), where);
}

/* ---- logs ---- */

static uint32_t chain_of(const struct sim_checked_node *checked, raft_index index)
{
    return index < checked->chain_capacity ? checked->chains[index] : 0;
}

static uint32_t committed_chain(const struct sim_checker *checker, raft_index index)
{
    return index < checker->committed_capacity ? checker->committed[index] : 0;
}

/* Log matching, for one entry that a node took. */
static void check_entry(struct sim_checker *checker, unsigned node, raft_index index, raft_term term, uint32_t chain)
{
    checker->entries_compared++;
    checker->entry_of = reach(checker->entry_of, &checker->entry_of_capacity, index, sizeof *checker->entry_of);
    for (uint32_t i = checker->entry_of[index]; i != 0; i = checker->entries[i - 1].older) {
        const struct sim_known_entry *entry = &checker->entries[i - 1];
        if (entry->term != term) continue;
        if (entry->chain != chain) {
            sim_checker_violated(
                checker,
                "the logs of node-%u and node-%u have an entry %llu of term %llu, and it or what is before "
                "it differs",
                entry->node + 1u, node + 1, number(index), number(term));
        }
        return;
    }
    checker->entries =
        reach(checker->entries, &checker->entry_capacity, checker->entry_count, sizeof *checker->entries);
    checker->entries[checker->entry_count++] = (struct sim_known_entry){
        .term = term, .chain = chain, .older = checker->entry_of[index], .node = (uint8_t)node};
    checker->entry_of[index] = (uint32_t)checker->entry_count;
}

/* Up to where leaders of terms before this one committed. */
static raft_index committed_before(const struct sim_checker *checker, raft_term term)
{
    raft_index index = 0;
    for (size_t i = checker->committed_in_count; i-- > 0;) {
        const struct sim_committed_in *in = &checker->committed_in[i];
        if (in->term < term && in->index > index) index = in->index;
        if (in->term + 16 < term) break; /* the ones before committed less */
    }
    return index;
}

/* An entry that isn't what was there at the last look. */
static void check_replaced(struct sim_checker *checker, unsigned node, const struct raft_status *raft, bool new_life,
                           raft_index index, uint32_t chain)
{
    const struct sim_checked_node *checked = &checker->nodes[node];
    uint32_t before = checked->chains[index], committed = committed_chain(checker, index);
    if (before == 0 || before == chain) return;
    /* An uncertain member that lost its entries, and perhaps its term, may take a deposed leader's for a while. */
    if (raft->uncertain && checked->damaged && checked->first_damaged != 0 && index >= checked->first_damaged) return;
    /* What a life only had in memory is gone with it, and an older entry may be on the disk in its place. */
    if (new_life && index > checked->proven_last) return;
    /* Of what a later term committed, a member that hasn't heard of that term may hold a copy that nobody counted, and lose it to the
       leader of its own term, who is deposed and doesn't know. It may hear of the later term in the same turn. */
    raft_term term = checked->last.term < raft->term ? checked->last.term : raft->term;
    if (before == committed && index <= committed_before(checker, term + 1)) {
        sim_checker_violated(checker, "node-%u replaced entry %llu, which was committed", node + 1, number(index));
    } else if (new_life &&
               chain != committed) { /* else a snapshot that it installed before the crash refutes its log */
        sim_checker_violated(checker, "node-%u had made entry %llu durable, and has another one after its restart",
                             node + 1, number(index));
    }
}

/* Whatever replaces entries is of another term: so the log may end earlier, but not with an entry that was there. */
static void check_shorter(struct sim_checker *checker, unsigned node, const struct raft_status *raft)
{
    const struct sim_checked_node *checked = &checker->nodes[node];
    raft_term term;
    uint32_t chain, before = chain_of(checked, raft->last_index);
    if (raft->last_index >= checked->proven_last || before == 0) return;
    if (!checker->view.entry(checker->user, node, raft->last_index, &term, &chain) || chain != before) return;
    sim_checker_violated(checker, "node-%u had entries up to %llu durable, and dropped those after %llu", node + 1,
                         number(checked->proven_last), number(raft->last_index));
}

/* Takes what is new of the node's log. It goes from the end backwards until it meets what was there at the last look: equal
   chain values have equal beginnings. */
static void look_at_log(struct sim_checker *checker, unsigned node, const struct raft_status *raft, bool new_life)
{
    struct sim_checked_node *checked = &checker->nodes[node];
    checked->chains = reach(checked->chains, &checked->chain_capacity, raft->last_index, sizeof *checked->chains);
    if (!new_life) check_shorter(checker, node, raft);
    raft_index index = raft->last_index, proven_last = checked->proven_last;
    if (new_life && checked->damaged && proven_last > checked->had_before_damage)
        checked->had_before_damage = proven_last;
    for (;; index--) {
        raft_term term;
        uint32_t chain;
        if (!checker->view.entry(checker->user, node, index, &term, &chain)) break;
        uint32_t before = checked->chains[index];
        if (before == chain && index <= checked->seen_last) break;
        check_replaced(checker, node, raft, new_life, index, chain);
        if (before != chain && proven_last >= index) proven_last = index - 1;
        checked->chains[index] = chain;
        if (index == 0) break;
        check_entry(checker, node, index, term, chain);
    }
    if (proven_last > raft->last_index) proven_last = raft->last_index; /* lost by damage; or check_shorter says so */
    checked->proven_last = proven_last;
    /* What a life only had in memory may be replaced by anything in the next one, also by a deposed leader's entries. */
    for (index = raft->last_index + 1; new_life && index <= checked->seen_last; index++) checked->chains[index] = 0;
    checked->seen_last = raft->last_index;
    if (!raft->uncertain && raft->durable_index > checked->proven_last) checked->proven_last = raft->durable_index;
}

static void note_commit(struct sim_checker *checker, raft_term term, raft_index index)
{
    size_t last = checker->committed_in_count;
    if (last == 0 || checker->committed_in[last - 1].term != term) {
        checker->committed_in =
            reach(checker->committed_in, &checker->committed_in_capacity, last, sizeof *checker->committed_in);
        checker->committed_in[checker->committed_in_count++] = (struct sim_committed_in){.term = term};
    }
    checker->committed_in[checker->committed_in_count - 1].index = index;
}

/* What is committed is durable on a majority, as it is now. */
static void check_quorum(struct sim_checker *checker, unsigned by)
{
    unsigned durable = 0;
    char where[SIM_NODES_MAX * 24] = "";
    size_t at = 0;
    uint32_t chain = committed_chain(checker, checker->commit);
    for (unsigned node = 0; node < checker->node_count; node++) {
        struct sim_checked_node *checked = &checker->nodes[node];
        struct replica_status status;
        /* The time of its last look may be long ago. */
        if (node != by && checked->running && checker->view.status(checker->user, node, &status)) {
            look_at_log(checker, node, &status.raft, checker->nodes[node].new_life);
        }
        bool has = checked->proven_last >= checker->commit && chain_of(checked, checker->commit) == chain;
        /* It acknowledged this and the leader counted it; what happened to its disk since is the keeper's to allow. */
        bool taken = checked->damaged && checked->first_damaged != 0 && checker->commit >= checked->first_damaged &&
                     checker->commit <= checked->had_before_damage;
        durable += has || taken;
        at +=
            (size_t)snprintf(where + at, sizeof where - at, " %s%llu", has ? "" : "not ", number(checked->proven_last));
    }
    if (durable * 2 <= checker->node_count) {
        sim_checker_violated(checker, "node-%u has index %llu committed, but durable on the nodes are, of that log:%s",
                             by + 1, number(checker->commit), where);
    }
}

static void check_commit(struct sim_checker *checker, unsigned node, const struct raft_status *raft)
{
    const struct sim_checked_node *checked = &checker->nodes[node];
    raft_index known = raft->commit < checker->commit ? raft->commit : checker->commit;
    uint32_t own = chain_of(checked, known), committed = committed_chain(checker, known);
    if (own != 0 && committed != 0 && own != committed) {
        sim_checker_violated(checker, "node-%u has another entry %llu committed than others have", node + 1,
                             number(known));
    }
    committed = committed_chain(checker, raft->applied);
    if (raft->applied <= checker->commit && committed != 0 &&
        checker->view.applied_chain(checker->user, node) != committed) {
        sim_checker_violated(checker, "node-%u applied another entry %llu than is committed", node + 1,
                             number(raft->applied));
    }
    if (raft->commit <= checker->commit) return;
    checker->committed =
        reach(checker->committed, &checker->committed_capacity, raft->commit, sizeof *checker->committed);
    for (raft_index index = checker->commit + 1; index <= raft->commit; index++) {
        checker->committed[index] = chain_of(checked, index);
    }
    checker->commit = raft->commit;
    note_commit(checker, raft->term, raft->commit);
    check_quorum(checker, node);
}

struct disk_look {
    struct sim_checker *checker;
    unsigned node;
    raft_index durable;
};

static void check_file(void *user, const char *path)
{
    const struct disk_look *look = user;
    const struct sim_disk *disk = look->checker->view.disk(look->checker->user, look->node);
    if (sim_disk_file_is_durable(disk, path)) return;
    /* A spare that is being made isn't in use; its header is zero. */
    if (!sim_disk_file_is_used(disk, path)) return;
    sim_checker_violated(look->checker, "node-%u says that entry %llu is durable, but %s isn't synced", look->node + 1,
                         number(look->durable), path);
}

static void check_disk(struct sim_checker *checker, unsigned node, const struct raft_status *raft)
{
    if (checker->view.disk == NULL) return;
    struct disk_look look = {.checker = checker, .node = node, .durable = raft->durable_index};
    sim_disk_each_file(checker->view.disk(checker->user, node), checker->log_prefix, check_file, &look);
}

/* Contract rule 5, for the snapshot that the metadata on the device name. */
static void check_snapshot(struct sim_checker *checker, unsigned node, raft_index index)
{
    if (checker->view.disk == NULL || checker->nodes[node].damaged || index == 0) return;
    const struct sim_disk *disk = checker->view.disk(checker->user, node);
    uint8_t slots[SLOT_COUNT * SLOT_BYTES];
    char path[128], name[SNAPSHOT_NAME_BYTES], damage[SLOT_DAMAGE_BYTES];
    struct snapshot_metadata metadata;
    uint64_t generation;
    snprintf(path, sizeof path, "%s/metadata", checker->snapshot_directory);
    size_t size = sim_disk_read_durable(disk, path, 0, slots, sizeof slots);
    if (snapshot_metadata_decode(bytes_of(slots, size), &metadata, &generation, damage) != ERR_OK) return;
    if (metadata.index != index) return; /* the next one is about to count */
    snapshot_name(metadata.epoch, name);
    snprintf(path, sizeof path, "%s/%s", checker->snapshot_directory, name);
    if (sim_disk_find(disk, path) != NULL && sim_disk_file_is_durable(disk, path)) return;
    sim_checker_violated(checker, "node-%u has a snapshot of entry %llu that counts, but %s isn't synced with its name",
                         node + 1, number(index), path);
}

/* ---- the rest ---- */

static void check_leader(struct sim_checker *checker, unsigned node, const struct replica_status *whole)
{
    const struct raft_status *status = &whole->raft;
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
    check_votes(checker, node, status, whole->self);
    raft_index committed = committed_before(checker, status->term);
    uint32_t own = chain_of(&checker->nodes[node], committed), chain = committed_chain(checker, committed);
    if (status->last_index < committed || (own != 0 && chain != 0 && own != chain)) {
        sim_checker_violated(checker,
                             "node-%u leads term %llu with a log up to %llu, and lacks %llu, which is committed",
                             node + 1, number(status->term), number(status->last_index), number(committed));
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

/* Whether the log ended otherwise than it does now, which is as committed: then what followed was in conflict, too. */
static bool refuted_by_snapshot(const struct sim_checker *checker, unsigned node, raft_index last_index)
{
    uint32_t before = chain_of(&checker->nodes[node], last_index), chain;
    raft_term term;
    return before != 0 && checker->view.entry(checker->user, node, last_index, &term, &chain) && chain != before &&
           chain == committed_chain(checker, last_index);
}

/* The first status of a new life. What wasn't durable may have gone back. */
static void check_restart(struct sim_checker *checker, unsigned node, const struct raft_status *raft)
{
    struct sim_checked_node *checked = &checker->nodes[node];
    /* A founder that came late, and met a cluster that a majority had founded already, catches up first. */
    bool late = !checked->known && raft->last_index == 0;
    if (raft->uncertain && !late && !checked->was_uncertain && !checked->damaged) {
        sim_checker_violated(checker, "node-%u is uncertain after a crash that can't have damaged anything", node + 1);
    }
    if (checked->known && raft->last_index < checked->last.durable_index) {
        bool excused =
            checked->damaged && checked->first_damaged != 0 && raft->last_index + 1 >= checked->first_damaged;
        if (refuted_by_snapshot(checker, node, raft->last_index)) {
            /* The crash came when the snapshot counted, and before the log was begun anew. */
        } else if (!excused) {
            sim_checker_violated(checker, "node-%u had made index %llu durable, and has only %llu after its restart",
                                 node + 1, number(checked->last.durable_index), number(raft->last_index));
        } else if (!raft->uncertain) {
            sim_checker_violated(checker, "node-%u lost the entries from %llu to %llu, and doesn't know", node + 1,
                                 number(raft->last_index + 1), number(checked->last.durable_index));
        }
    }
    if (checked->has_saved && !checked->state_damaged) {
        if (raft->term < checked->saved_term) {
            sim_checker_violated(checker, "node-%u was in term %llu, and is in term %llu after its restart", node + 1,
                                 number(checked->saved_term), number(raft->term));
        } else if (raft->term == checked->saved_term && checked->saved_vote != 0 && raft->vote != checked->saved_vote) {
            sim_checker_violated(checker, "node-%u forgot its vote in term %llu over a restart", node + 1,
                                 number(raft->term));
        }
    }
    if (raft->uncertain) {
        checked->was_uncertain = true;
        return;
    }
    checked->was_uncertain = false;
    checked->damaged = false;
    checked->state_damaged = false;
}

/* The read index that made it certain was confirmed after it came back. */
static void check_debt(struct sim_checker *checker, unsigned node, const struct raft_status *raft)
{
    struct sim_checked_node *checked = &checker->nodes[node];
    if (raft->uncertain || !checked->owes) return;
    checked->owes = false;
    uint32_t own = chain_of(checked, checked->owed_index), chain = committed_chain(checker, checked->owed_index);
    if (raft->durable_index >= checked->owed_index && (own == 0 || chain == 0 || own == chain)) return;
    sim_checker_violated(checker,
                         "node-%u takes its log up to %llu for complete, and %llu was committed before it came back",
                         node + 1, number(raft->durable_index), number(checked->owed_index));
}

void sim_checker_look(struct sim_checker *checker, unsigned node)
{
    struct replica_status status;
    struct sim_checked_node *checked = &checker->nodes[node];
    if (checker->violated || !checked->running || !checker->view.status(checker->user, node, &status)) return;
    checker->checks++;
    const struct raft_status *raft = &status.raft;
    if (raft->applied > raft->commit || raft->commit > raft->last_index || raft->durable_index > raft->last_index) {
        sim_checker_violated(checker, "node-%u: applied %llu, commit %llu, durable %llu, last %llu can't be", node + 1,
                             number(raft->applied), number(raft->commit), number(raft->durable_index),
                             number(raft->last_index));
    }
    bool more_durable = checked->new_life || raft->durable_index > checked->last.durable_index;
    if (checked->new_life) {
        check_restart(checker, node, raft);
    } else if (checked->known) {
        check_monotone(checker, node, &checked->last, raft);
    }
    bool new_life = checked->new_life;
    checked->new_life = false;
    look_at_log(checker, node, raft, new_life);
    if (more_durable) check_disk(checker, node, raft);
    if (new_life || status.snapshot_index != checked->snapshot_index) {
        checked->snapshot_index = status.snapshot_index;
        check_snapshot(checker, node, status.snapshot_index);
    }
    if (new_life && raft->uncertain) {
        checked->owes = true;
        checked->owed_index = checker->commit;
    }
    check_debt(checker, node, raft);
    check_leader(checker, node, &status);
    check_hash(checker, node, &status);
    if (status.diverged)
        sim_checker_violated(checker, "node-%u says that its state differs from the others'", node + 1);
    checked->last = *raft;
    checked->known = true;
    checked->was_uncertain |= raft->uncertain;
    check_commit(checker, node, raft);
}

void sim_checker_started(struct sim_checker *checker, unsigned node)
{
    checker->nodes[node].running = true;
    checker->nodes[node].new_life = true;
    sim_checker_look(checker, node);
}

void sim_checker_stopped(struct sim_checker *checker, unsigned node)
{
    struct sim_checked_node *checked = &checker->nodes[node];
    checked->running = false;
    raft_term term;
    member_id vote;
    if (!read_saved(checker, node, &term, &vote)) return;
    checked->has_saved = true;
    checked->saved_term = term;
    checked->saved_vote = vote;
}

void sim_checker_damaged(struct sim_checker *checker, unsigned node, raft_index first_lost, bool state)
{
    struct sim_checked_node *checked = &checker->nodes[node];
    if (first_lost != 0 && (checked->first_damaged == 0 || !checked->damaged || first_lost < checked->first_damaged)) {
        checked->first_damaged = first_lost;
    }
    checked->damaged = true;
    checked->state_damaged |= state;
}
