#include "drive/repair.h"

#include "base/mark.h"

static void found(struct repair *repair, enum damaged_file file)
{
    repair->counts->found[file]++;
}

static void repaired(struct repair *repair, uint64_t count, const char *what)
{
    if (count == 0) return;
    repair->counts->repaired += count;
    log_info(repair->logger, "damage is repaired", "what=\"%s\"", what);
}

void repair_bad_slot(struct repair *repair, struct replica *replica, enum damaged_file file, unsigned slot,
                     const char *text)
{
    MARK(SLOT_SCRUBBED_BAD);
    log_error(repair->logger, "a slot is damaged; it is saved again", "%s", text);
    found(repair, file);
    switch (file) {
    case DAMAGED_RAFT_STATE:
        state_file_repair(repair->state_file, slot);
        break;
    case DAMAGED_LOG_METADATA:
        repair->resaving = true;
        log_manager_resave_metadata(repair->log, slot);
        break;
    default:
        replica_snapshot_lost(replica);
        snapshot_handler_renew(repair->snapshots, snapshot_handler_current(repair->snapshots)->epoch, false);
        repair->renewals++;
        break;
    }
}

void repair_bad_snapshot(struct repair *repair, struct replica *replica, uint64_t epoch, const char *text)
{
    if (epoch != snapshot_handler_current(repair->snapshots)->epoch) return; /* another one counts by now */
    MARK(SNAPSHOT_SCRUBBED_BAD);
    log_error(repair->logger, "the snapshot is damaged; another one is made", "%s", text);
    found(repair, DAMAGED_SNAPSHOT);
    replica_snapshot_lost(replica);
    snapshot_handler_renew(repair->snapshots, epoch, true);
    repair->renewals++;
}

void repair_segment_damaged(struct repair *repair)
{
    MARK(SEGMENT_FOUND_BAD);
    found(repair, DAMAGED_LOG);
}

void repair_state_saved(struct repair *repair)
{
    repaired(repair, 1, "raft state");
}

void repair_not_made(struct repair *repair, time_ns now)
{
    time_ns wait = repair->retry_wait * 2;
    if (wait < REPAIR_RETRY_MIN) wait = REPAIR_RETRY_MIN;
    if (wait > REPAIR_RETRY_MAX) wait = REPAIR_RETRY_MAX;
    repair->retry_wait = wait;
    repair->retry_at = now + wait;
}

void repair_certain(struct repair *repair)
{
    repaired(repair, repair->counts->open, "what was found at the start");
    repair->counts->open = 0;
}

/* Counts what has come to its end since the last look. */
static void note_progress(struct repair *repair, uint32_t segments, bool renewing)
{
    if (segments < repair->segments) repaired(repair, repair->segments - segments, "log");
    repair->segments = segments;
    if (!renewing) {
        repaired(repair, repair->renewals, "snapshot");
        repair->renewals = 0;
    }
    if (repair->resaving && !log_manager_resaving_metadata(repair->log)) {
        repair->resaving = false;
        repaired(repair, 1, "log metadata");
    }
    if (segments == 0 && !renewing) {
        repair->retry_at = 0;
        repair->retry_wait = 0;
    }
}

enum repair_action repair_next(struct repair *repair, const struct replica *replica, time_ns now)
{
    raft_index until;
    uint32_t segments = log_manager_damage(repair->log, &until);
    bool renewing = snapshot_handler_renewing(repair->snapshots);
    note_progress(repair, segments, renewing);
    if (segments == 0 && !renewing) return REPAIR_NOTHING;
    struct replica_status status;
    replica_status(replica, &status);
    raft_index covered = snapshot_handler_current(repair->snapshots)->index;
    if (status.raft.applied < covered) return REPAIR_NOTHING; /* a leader's snapshot is being installed */
    if (!renewing && covered >= until) return REPAIR_REMOVE_LOG;
    if (now < repair->retry_at || snapshot_handler_busy_making(repair->snapshots)) return REPAIR_NOTHING;
    bool knows = !status.raft.uncertain && !status.diverged && status.raft.applied >= until;
    return knows && status.raft.applied > 0 ? REPAIR_MAKE_SNAPSHOT : REPAIR_NOTHING;
}

time_ns repair_deadline(const struct repair *repair)
{
    bool pending = repair->segments > 0 || repair->renewals > 0;
    return pending && repair->retry_at > 0 ? repair->retry_at : TIME_NS_NEVER;
}
