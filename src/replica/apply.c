/* apply.c - committed entries to the store, in order, the same on every member. It never looks at the clock. */
#include "base/mark.h"
#include "base/mutant.h"
#include "base/random.h"
#include "replica/replica_internal.h"
#include "storage/txn_format.h"

/* History slots freed in one turn. */
#define COMPACT_SLICE 512

/* Folds an entry and its result into the apply hash (DESIGN.md, 'Divergence'). */
static uint64_t fold(uint64_t hash, uint32_t chain, const struct replica_result *result)
{
    hash = random_mix(hash ^ ((uint64_t)chain << 32) ^ (uint64_t)result->revision ^ (result->count << 63));
    if (result->count <= 1 && result->error == ERR_OK) return hash;
    /* Not the error's number, which another version may give to another. */
    return random_mix(hash ^ (result->count << 1) ^ (result->error != ERR_OK));
}

/* ---- commands ---- */

/* Where a command's answer is collected, if anybody here waits for it. */
struct answer_place {
    struct replica_outcome *outcome; /* NULL: nobody does */
    struct arena *arena;
    struct txn_answer *answer;
};

static struct answer_place answer_place(bool wanted)
{
    if (!wanted) return (struct answer_place){.outcome = NULL};
    struct replica_outcome *outcome = mem_alloc_zero(sizeof *outcome);
    return (struct answer_place){.outcome = outcome, .arena = &outcome->arena, .answer = &outcome->answer};
}

/* The answer outlives the records' stay in the store. */
static void keep_answer(struct answer_place *place, struct replica_result *result)
{
    if (place->outcome == NULL) return;
    if (result->error == ERR_OK) {
        txn_answer_keep(place->answer);
        result->outcome = place->outcome;
    } else {
        place->outcome->answer = (struct txn_answer){.kind = TXN_NESTED};
        replica_outcome_free(place->outcome);
    }
}

static void apply_put(struct store *store, const struct command *command, bool awaited, struct replica_result *result)
{
    const struct store_record *previous = NULL;
    if (command->flags == 0 && command->argument == 0) {
        store_begin(store);
        store_put(store, command->key, command->value, 0, &previous);
        store_end(store);
        result->count = previous != NULL;
        return;
    }
    struct put_query query = {.key = command->key,
                              .value = command->value,
                              .lease = command->argument,
                              .want_previous = command->flags & COMMAND_WANT_PREVIOUS,
                              .keep_value = command->flags & COMMAND_KEEP_VALUE,
                              .keep_lease = command->flags & COMMAND_KEEP_LEASE};
    uint64_t keys_before = store_key_count(store);
    struct answer_place place = answer_place(awaited && query.want_previous);
    result->error = txn_apply_put(store, &query, place.arena, place.answer);
    /* The answer, which only one member collects, can't tell. */
    result->count = result->error == ERR_OK && store_key_count(store) == keys_before;
    keep_answer(&place, result);
}

static void apply_delete(struct store *store, const struct command *command, bool awaited,
                         struct replica_result *result)
{
    struct delete_query query = {
        .key = command->key, .range_end = command->value, .want_previous = command->flags & COMMAND_WANT_PREVIOUS};
    uint64_t keys_before = store_key_count(store);
    struct answer_place place = answer_place(awaited && query.want_previous);
    result->error = txn_apply_delete(store, &query, place.arena, place.answer);
    result->count = keys_before - store_key_count(store);
    keep_answer(&place, result);
}

static bool apply_txn(struct replica *replica, const struct command *command, bool awaited,
                      struct replica_result *result)
{
    struct txn txn;
    arena_reset(&replica->apply_arena);
    if (txn_format_decode(command->value, &replica->apply_arena, &txn) != ERR_OK) return false;
    struct answer_place place = answer_place(awaited);
    result->error = txn_apply(replica->store, &txn, place.arena, place.answer);
    keep_answer(&place, result);
    return true;
}

static void apply_checkpoint(struct replica *replica, const struct command *command)
{
    struct reader reader = reader_of(command->value);
    while (reader_left(&reader) > 0) {
        uint64_t id = reader_u64(&reader);
        store_lease_checkpoint(replica->store, id, (int64_t)reader_u64(&reader));
        lessor_checkpointed(replica, id);
    }
}

/* False: it can't be applied, on no member. `awaited`: a client of this member waits for the answer. */
static bool apply_command(struct replica *replica, const struct command *command, bool awaited,
                          struct replica_result *result)
{
    struct store *store = replica->store;
    bool understood = true;
    switch (command->kind) {
    case COMMAND_PUT:
        apply_put(store, command, awaited, result);
        break;
    case COMMAND_DELETE:
        apply_delete(store, command, awaited, result);
        break;
    case COMMAND_COMPACT:
        result->error = store_compact(store, (store_revision)command->argument);
        if (result->error == ERR_OK) replica->compaction_pending = true;
        break;
    case COMMAND_TXN:
        understood = apply_txn(replica, command, awaited, result);
        break;
    case COMMAND_LEASE_GRANT:
        result->error = store_lease_grant(store, command->argument, (int64_t)get_u64(command->value.data));
        if (result->error == ERR_OK) lessor_granted(replica, command->argument);
        break;
    case COMMAND_LEASE_REVOKE:
        lessor_revoking(replica, command->argument);
        result->error = store_lease_revoke(store, command->argument, &result->count);
        break;
    case COMMAND_LEASE_CHECKPOINT:
        apply_checkpoint(replica, command);
        break;
    }
    result->revision = store_current_revision(store);
    return understood;
}

static bool apply_entry(struct replica *replica, const struct entry *entry, struct replica_effects *effects)
{
    struct replica_result result = {.revision = store_current_revision(replica->store)};
    if (entry_type_of(entry) == ENTRY_COMMAND) {
        struct command command;
        if (command_format_decode(entry_payload_bytes(entry), &command) != ERR_OK) {
            replica_fatal(effects, "entry %llu is no command that this version understands; run a newer version",
                          (unsigned long long)entry_index(entry));
            return false;
        }
        bool first = sessions_admit(&replica->sessions, command.origin, command.incarnation, command.sequence);
        if (!first) MARK(REPEAT_DROPPED);
        if (first || MUTANT(APPLIES_TWICE)) {
            bool awaited = effects != NULL && requests_waits_for(replica, &command);
            if (!apply_command(replica, &command, awaited, &result)) {
                replica_fatal(effects, "entry %llu holds a transaction that this version doesn't understand",
                              (unsigned long long)entry_index(entry));
                return false;
            }
            requests_applied(replica, &command, &result, effects);
        }
        replica->proposals_applied++;
    } else if (entry_type_of(entry) == ENTRY_EMPTY) {
        requests_new_term(replica, entry_term(entry), effects);
    } else {
        replica_fatal(effects, "entry %llu is of type %d, which this version doesn't know; run a newer version",
                      (unsigned long long)entry_index(entry), (int)entry_type_of(entry));
        return false;
    }
    replica->applied = entry_index(entry);
    replica->applied_term = entry_term(entry);
    replica->applied_chain = entry_chain(entry);
    replica->apply_hash = fold(replica->apply_hash, entry_chain(entry), &result);
    if (content_scrub_is_due(&replica->scrub, replica->applied)) {
        uint64_t digest = content_scrub_slice(&replica->scrub, replica->store, &replica->sessions);
        replica->apply_hash = random_mix(replica->apply_hash ^ digest);
    }
    replica->log_bytes_since_snapshot += entry->record_bytes;
    divergence_note_applied(replica);
    return true;
}

void apply_committed(struct replica *replica, struct replica_effects *effects)
{
    struct raft_status status;
    raft_status(replica->raft, &status);
    if (status.commit <= replica->applied || (effects != NULL && effects->fatal)) return;
    /* Entries leave raft's memory only after RAFT_APPLIED. */
    for (raft_index index = replica->applied + 1; index <= status.commit; index++) {
        if (!apply_entry(replica, raft_committed_entry(replica->raft, index), effects)) break;
    }
    struct raft_effects none = {0};
    struct raft_event event = {.type = RAFT_APPLIED, .now = replica->now, .index = replica->applied};
    raft_step(replica->raft, &event, effects == NULL ? &none : &effects->raft);
    if (effects != NULL) reads_applied(replica, effects);
}

static void propose_compaction(struct replica *replica, struct replica_effects *effects)
{
    store_revision compacted = store_compacted_revision(replica->store);
    store_revision current = store_current_revision(replica->store);
    if (store_history_bytes(replica->store) <= replica->sessions.history_bytes_budget) return;
    if (replica->compaction_proposed > compacted || current <= compacted) return;
    MARK(HISTORY_COMPACTED);
    /* Half of what there is: the newer half may still serve watchers and old revisions. */
    replica->compaction_proposed = compacted + (current - compacted + 1) / 2;
    enum error error = requests_propose_own(replica, command_compact(replica->compaction_proposed), effects);
    if (error != ERR_OK) replica->compaction_proposed = 0; /* again in the next turn */
}

void apply_housekeeping(struct replica *replica, struct replica_effects *effects)
{
    if (replica->compaction_pending) replica->compaction_pending = store_compact_step(replica->store, COMPACT_SLICE);
    struct raft_status status;
    raft_status(replica->raft, &status);
    if (status.may_serve) propose_compaction(replica, effects);
    uint64_t state_bytes = store_live_bytes(replica->store) + store_history_bytes(replica->store);
    uint64_t due = state_bytes / 100 * replica->config.snapshot_state_percent;
    if (due < replica->config.snapshot_log_bytes_min) due = replica->config.snapshot_log_bytes_min;
    bool wanted = replica->log_bytes_since_snapshot >= due || snapshot_is_wanted(replica);
    if (wanted && !replica->snapshot_active && !replica->loading) {
        effects->snapshot_due = replica->applied <= status.durable_index;
    }
}
