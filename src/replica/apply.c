/* apply.c - committed entries to the store, in order, the same on every member. It never looks at the clock. */
#include "base/mark.h"
#include "base/mutant.h"
#include "base/random.h"
#include "replica/replica_internal.h"

/* History slots freed in one turn. */
#define COMPACT_SLICE 512

/* Folds an entry and its result into the apply hash (DESIGN.md, 'Divergence'). */
static uint64_t fold(uint64_t hash, uint32_t chain, store_revision revision, bool existed)
{
    return random_mix(hash ^ ((uint64_t)chain << 32) ^ (uint64_t)revision ^ ((uint64_t)existed << 63));
}

static bool apply_command(struct replica *replica, const struct command *command, struct replica_effects *effects,
                          store_revision *revision, bool *existed)
{
    struct store *store = replica->store;
    const struct store_record *previous = NULL;
    switch (command->kind) {
    case COMMAND_PUT:
        store_begin(store);
        store_put(store, command->key, command->value, command->argument, &previous);
        *existed = previous != NULL;
        *revision = store_end(store);
        return true;
    case COMMAND_DELETE:
        store_begin(store);
        *existed = store_delete(store, command->key, NULL);
        *revision = store_end(store);
        return true;
    case COMMAND_COMPACT:
        *revision = store_current_revision(store);
        /* Compacted already, by an earlier command of the same kind: nothing to do, on every member alike. */
        if (store_compact(store, (store_revision)command->argument) == ERR_OK) replica->compaction_pending = true;
        return true;
    default:
        break;
    }
    replica_fatal(effects,
                  "entry %llu holds a command of kind %d, which this version doesn't know; run a newer version",
                  (unsigned long long)(replica->applied + 1), (int)command->kind);
    return false;
}

static bool apply_entry(struct replica *replica, const struct entry *entry, struct replica_effects *effects)
{
    store_revision revision = store_current_revision(replica->store);
    bool existed = false;
    if (entry_type_of(entry) == ENTRY_COMMAND) {
        struct command command;
        if (command_format_decode(entry_payload_bytes(entry), &command) != ERR_OK) {
            replica_fatal(effects, "entry %llu is no command that this version understands",
                          (unsigned long long)entry_index(entry));
            return false;
        }
        bool first = sessions_admit(&replica->sessions, command.origin, command.incarnation, command.sequence);
        if (!first) MARK(REPEAT_DROPPED);
        if (first || MUTANT(APPLIES_TWICE)) {
            if (!apply_command(replica, &command, effects, &revision, &existed)) return false;
            requests_applied(replica, &command, revision, existed, effects);
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
    replica->apply_hash = fold(replica->apply_hash, entry_chain(entry), revision, existed);
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
    requests_propose_own(replica, command_compact(replica->compaction_proposed), effects);
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
