/*
 * watch.h - who is told of which changes: the registry of watchers over one store.
 *
 * Pure and deterministic: no clock, no socket, and what comes out doesn't depend on pointers or hash order. It encodes
 * nothing and keeps no queue: it hands records of the store's history to watchers, one turn at a time.
 *
 * Where a watcher is. All watchers that need the same revision next stand together at one *walk*; the live ones are the
 * walk that has come to the store's current revision. A walk that reaches another joins it.
 *
 *     history:  … 5 ─ 6 ─ 7 ─ 8 ─ 9 ─ 10 ─ 11          (live_revision: 11)
 *                     ^       ^               ^       ^
 *                  a walk   a walk          live    future: starts at 15, and is left alone until then
 *                  (both behind: they take turns)
 *
 * How one turn goes:
 *
 *     watch_turn_begin(hub);
 *     struct watch_delivery delivery;
 *     while (watch_next(hub, &delivery)) {
 *         if (delivery.batch != batch) …forget the encodings of the batch before…
 *         if (delivery.group != group) …encode delivery.events anew, else the same bytes serve again…
 *         …send to delivery.watcher…
 *     }
 *     if (watch_has_work(hub)) …take another turn soon, also without new changes…
 *
 * First the live watchers get all that is new, then walks that are behind get slices of history in turn, within the
 * turn's budget. Events of one revision are never split between deliveries, and a delivery may hold many revisions.
 *
 * Back-pressure: a paused owner's watchers are handed nothing. Each remembers the first revision that it missed and
 * nothing else; once resumed it is behind, and catches up from history, or is cancelled where that was compacted.
 *
 * Memory: WATCHER_BYTES_MAX for each watcher on a key or range of its own, with its key; less where several watch the same.
 * While there are live watchers the hub pins the store at the live revision: call watch_next until it returns false
 * after each turn with changes, or superseded versions pile up. A compaction between two turns loses no live event.
 */
#ifndef CORACLE_STORE_WATCH_H
#define CORACLE_STORE_WATCH_H

#include "store/store.h"

#define WATCH_WATCHERS_MAX (1u << 24)

/* A batch takes whole revisions until it has as much as this, and always one. */
#define WATCH_BATCH_EVENTS_MAX 1024u
#define WATCH_BATCH_BYTES_MAX ((uint64_t)1 << 20) /* keys and values of events, each counted once */
#define WATCH_BATCH_MATCHES_MAX 65536u            /* pairs of an event and a key or range that is watched */

/* A slice of history for a walk that is behind goes on to the end of the revision with this record; a walk of many watchers
   gets a longer one, a record for every WATCH_WATCHERS_PER_RECORD of them: taking it up costs as much. */
#define WATCH_SLICE_RECORDS_MIN 256u
#define WATCH_SLICE_RECORDS_MAX 16384u
#define WATCH_WATCHERS_PER_RECORD 4u
/* A turn begins slices until they have looked at so many records, or handed out so many bytes, in all. */
#define WATCH_TURN_RECORDS_MAX 4096u
#define WATCH_TURN_BYTES_MAX ((uint64_t)4 << 20)

struct watch_hub;
struct watcher;

struct watch_link {
    struct watch_link *previous;
    struct watch_link *next;
};

/* Whoever has watchers: a stream. The caller's memory, which must not move; only `paused` is for others to read. */
struct watch_owner {
    struct watch_link parked; /* watchers that missed something while paused */
    uint32_t watcher_count;
    uint32_t behind_count; /* of these, the ones that haven't been handed everything up to the live revision */
    bool paused;
};

enum watch_class {
    WATCH_NO_PUT = 1,
    WATCH_NO_DELETE = 2,
    WATCH_PREVIOUS = 4, /* wants the version that an event replaced */
};
#define WATCH_CLASS_COUNT 8u

struct watch_options {
    struct bytes key;              /* borrowed; empty means the byte 0 */
    struct bytes range_end;        /* borrowed; as in etcd: empty: only `key`; one zero byte: every key from `key` on */
    store_revision start_revision; /* 0: from the next change on; else at least 1 */
    unsigned classes;              /* of enum watch_class */
    struct watch_owner *owner;
    int64_t id; /* the caller's, not looked at */
};

struct watch_event {
    struct store_record *record;
    /* The version that it replaced; NULL if there was none or that is compacted. For watchers of class WATCH_PREVIOUS. */
    struct store_record *previous;
};

struct watch_delivery {
    struct watcher *watcher;
    /* When not 0: there are no events, history lacks what the watcher needs, and it is cancelled: it gets nothing more, and
       waits to be removed. */
    store_revision compact_revision;
    /* What follows has the watcher's events, in order: watch_event(hub, events[0]), and so on. Borrowed until the
       next call of watch_next. Deliveries one after the other with the same `batch` and `group` have the same events and
       the same classes, and so does the encoding, but for what names the watcher. Event numbers are dense from 0 in each
       batch: the same event in other groups of the batch has the same number. Batches count from 1. */
    uint64_t batch;
    uint32_t group;
    uint32_t event_count;
    const uint32_t *events;
};

/* `seed` keeps clients from choosing keys that collide; nothing that comes out depends on it. The store is borrowed. */
struct watch_hub *watch_hub_new(struct store *store, uint64_t seed);
/* All watchers must have been removed. Don't call it after the store is gone. */
void watch_hub_free(struct watch_hub *hub);

void watch_owner_init(struct watch_owner *owner);

/*
 * A new watcher, which lives until watch_remove. It begins at options->start_revision, be that history or future.
 * Starting below the compacted revision isn't an error here: it is cancelled at the next turn. At it is fine.
 * Errors: ERR_BAD_REQUEST: no key can be in the range; ERR_TOO_MANY: WATCH_WATCHERS_MAX.
 */
enum error watch_add(struct watch_hub *hub, const struct watch_options *options, struct watcher **out);
/* Also amid a turn; no later delivery has it. */
void watch_remove(struct watch_hub *hub, struct watcher *watcher);

struct watch_owner *watcher_owner(const struct watcher *watcher);
int64_t watcher_id(const struct watcher *watcher);
unsigned watcher_classes(const struct watcher *watcher);

/* From here on its watchers are handed nothing, also amid a turn: what a delivery hasn't yet brought counts as missed. */
void watch_owner_pause(struct watch_owner *owner);
void watch_owner_resume(struct watch_hub *hub, struct watch_owner *owner);

/* No transaction may be open. Gives the turn its budget for walks that are behind. */
void watch_turn_begin(struct watch_hub *hub);
/* The next delivery of this turn; false when there is none left. The turn may be interrupted and taken up later, the
   store having changed: events stay valid, since the hub holds references to their records for as long as their batch
   lasts. No transaction may be open. */
bool watch_next(struct watch_hub *hub, struct watch_delivery *delivery);
/* `number` from the current batch. */
const struct watch_event *watch_event(const struct watch_hub *hub, uint32_t number);
/* How many events the current batch has: their numbers are below. */
uint32_t watch_event_count(const struct watch_hub *hub);
/* Whether another turn would have something to do now (for owners that aren't paused, perhaps). */
bool watch_has_work(const struct watch_hub *hub);

/* Up to which revision every live watcher was handed everything. */
store_revision watch_live_revision(const struct watch_hub *hub);
/* Whether all of the owner's watchers were handed everything (that they ask for) up to watch_live_revision. Cancelled
   watchers don't count. */
bool watch_owner_is_synced(const struct watch_owner *owner);
bool watcher_is_synced(const struct watcher *watcher);

/* The hub goes on over another store, after a snapshot was installed; it doesn't touch the old one, which may be gone
   already. Each watcher continues from what it was handed. If a turn was interrupted its rest counts as missed. */
void watch_hub_store_replaced(struct watch_hub *hub, struct store *store);

uint32_t watch_watcher_count(const struct watch_hub *hub);
/* Watchers that are behind or paused with something missed: etcd's 'slow' ones. */
uint32_t watch_behind_count(const struct watch_hub *hub);
/* What the hub holds of the allocator, estimated. */
uint64_t watch_memory_bytes(const struct watch_hub *hub);

/* Walks everything and CHECKs the invariants. For tests; O(n). */
void watch_verify(const struct watch_hub *hub);

#endif
