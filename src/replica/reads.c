/*
 * reads.c - linearizable reads under way (dissertation §6.4): gathered until the end of a turn, covered by one barrier,
 * readable once the barrier's index is applied here.
 *
 * One barrier is under way at a time; what arrives meanwhile waits for the next. A barrier that failed is never reused:
 * its reads are gathered again.
 */
#include "replica/replica_internal.h"

#include "base/mark.h"
#include "base/mutant.h"

static void push(struct reader_list *list, struct pending_reader reader)
{
    if (list->count == list->capacity) {
        list->capacity = list->capacity == 0 ? 64 : list->capacity * 2;
        list->items = mem_realloc(list->items, list->capacity * sizeof list->items[0]);
    }
    list->items[list->count++] = reader;
}

static void fail(struct replica *replica, const struct pending_reader *reader, enum error error,
                 struct replica_effects *effects)
{
    if (reader->kind == READER_LEASE) {
        lease_requests_unconfirmed(replica, reader->request, effects);
    } else {
        replica_add_plain_result(effects, reader->request, error, 0);
    }
}

static void fail_all(struct replica *replica, struct reader_list *list, enum error error,
                     struct replica_effects *effects)
{
    for (uint32_t i = 0; i < list->count; i++) fail(replica, &list->items[i], error, effects);
    list->count = 0;
}

void reads_add(struct replica *replica, uint64_t request, enum reader_kind kind, struct replica_effects *effects)
{
    uint32_t under_way =
        replica->gathered.count + replica->in_round.count + replica->waiting.count + replica->want_count;
    if (replica->diverged || under_way >= replica->config.requests_max) {
        replica_add_plain_result(effects, request, replica->diverged ? ERR_CORRUPT : ERR_TOO_MANY, 0);
        return;
    }
    replica->reads++;
    push(&replica->gathered, (struct pending_reader){.request = request,
                                                     .deadline = replica->now + replica->config.request_timeout,
                                                     .kind = kind});
}

void reads_add_lease(struct replica *replica, uint64_t sequence, time_ns deadline)
{
    push(&replica->gathered, (struct pending_reader){.request = sequence, .deadline = deadline, .kind = READER_LEASE});
}

void reads_flush(struct replica *replica, struct replica_effects *effects)
{
    if (replica->round_active || replica->gathered.count == 0) return;
    struct raft_status status;
    raft_status(replica->raft, &status);
    if (status.leader == 0) {
        fail_all(replica, &replica->gathered, ERR_NO_LEADER, effects);
        return;
    }
    struct reader_list empty = replica->in_round;
    replica->in_round = replica->gathered;
    replica->gathered = empty;
    if (replica->in_round.count > 1) MARK(READ_SHARED);
    replica->round_active = true;
    replica->read_rounds++;
    struct raft_event event = {.type = RAFT_READ, .context = ++replica->read_context};
    replica_raft(replica, &event, effects);
}

void reads_take_answers(struct replica *replica, struct replica_effects *effects)
{
    for (uint32_t i = 0; i < effects->raft.read_count; i++) {
        const struct raft_read_result *answer = &effects->raft.reads[i];
        if (!replica->round_active || answer->context != replica->read_context) continue;
        replica->round_active = false;
        for (uint32_t j = 0; j < replica->in_round.count; j++) {
            struct pending_reader reader = replica->in_round.items[j];
            reader.index = answer->index;
            if (answer->error != ERR_OK && reader.kind == READER_LEASE) {
                fail(replica, &reader, answer->error, effects); /* who leads now has to confirm it */
            } else {
                push(answer->error == ERR_OK ? &replica->waiting : &replica->gathered, reader);
            }
        }
        replica->in_round.count = 0;
    }
    effects->raft.read_count = 0;
    reads_applied(replica, effects);
}

void reads_applied(struct replica *replica, struct replica_effects *effects)
{
    uint32_t done = 0;
    struct reader_list *waiting = &replica->waiting;
    while (done < waiting->count && (waiting->items[done].index <= replica->applied || MUTANT(READ_BEFORE_APPLIED))) {
        uint64_t request = waiting->items[done].request;
        switch (waiting->items[done].kind) {
        case READER_READ:
            replica_add_plain_result(effects, request, ERR_OK, store_current_revision(replica->store));
            break;
        case READER_SNAPSHOT:
            snapshot_want(replica, request, effects);
            break;
        case READER_LEASE:
            lease_requests_confirmed(replica, request, effects);
            break;
        }
        done++;
    }
    if (done == 0) return;
    waiting->count -= done;
    memmove(waiting->items, waiting->items + done, waiting->count * sizeof waiting->items[0]);
}

static void expire(struct replica *replica, struct reader_list *list, struct replica_effects *effects)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < list->count; i++) {
        if (list->items[i].deadline > replica->now) {
            list->items[kept++] = list->items[i];
        } else if (list->items[i].kind != READER_LEASE) { /* else lease_requests.c knows by itself */
            replica_add_plain_result(effects, list->items[i].request, ERR_TIMEOUT, 0);
        }
    }
    list->count = kept;
}

void reads_expire(struct replica *replica, struct replica_effects *effects)
{
    if (reads_deadline(replica) > replica->now) return;
    expire(replica, &replica->gathered, effects);
    expire(replica, &replica->in_round, effects);
    /* Nobody waits for its answer any more; if that is lost, it must not hold up the next barrier. */
    if (replica->in_round.count == 0) replica->round_active = false;
    expire(replica, &replica->waiting, effects);
}

void reads_stop(struct replica *replica, enum error error, struct replica_effects *effects)
{
    fail_all(replica, &replica->gathered, error, effects);
    fail_all(replica, &replica->in_round, error, effects);
    fail_all(replica, &replica->waiting, error, effects);
    snapshot_wants_fail(replica, error, effects);
    replica->round_active = false;
}

time_ns reads_deadline(const struct replica *replica)
{
    /* The first of a list is nearly its oldest; a retried one may be answered late by the age of its neighbours. */
    time_ns deadline = TIME_NS_NEVER;
    const struct reader_list *lists[] = {&replica->gathered, &replica->in_round, &replica->waiting};
    for (size_t i = 0; i < ARRAY_COUNT(lists); i++) {
        if (lists[i]->count > 0 && lists[i]->items[0].deadline < deadline) deadline = lists[i]->items[0].deadline;
    }
    return deadline;
}

void reads_free(struct replica *replica)
{
    mem_free(replica->gathered.items);
    mem_free(replica->in_round.items);
    mem_free(replica->waiting.items);
}
