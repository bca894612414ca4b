#include "store/watch.h"

#include "base/check.h"
#include "base/mem.h"
#include "base/random.h"
#include "store/store_internal.h"
#include "store/treap.h"
#include "store/watch_batch.h"
#include "store/watch_index.h"
#include "store/watch_internal.h"

/* With so few targets a walk compares each record with them, rather than looking it up among all targets. */
#define FEW_TARGETS 4u

#define SEQUENCE_UNKNOWN UINT64_MAX
#define PIN_NONE UINT32_MAX

enum watcher_state {
    WATCHER_LIVE,      /* in target->live */
    WATCHER_FUTURE,    /* in a walk that waits for the live ones to reach it */
    WATCHER_BEHIND,    /* in a walk that takes its turns */
    WATCHER_PARKED,    /* in owner->parked */
    WATCHER_CANCELLED, /* in no list */
    WATCHER_REMOVED,   /* amid a batch; stays in the list where it was until the batch ends */
};

struct watcher {
    struct watch_link link;
    struct watch_target *target;
    union {
        struct watch_owner *owner;
        struct watcher *next_removed; /* when removed: the owner may be gone */
    };
    int64_t id;
    union {
        struct watcher *next_in_slice; /* while its walk's slice is handed out: the ring that target->slice begins */
        store_revision next_revision;  /* when parked */
    };
    uint32_t missed; /* while its walk's slice is handed out: that many of its group's events came before it joined */
    uint8_t state;
    uint8_t state_before; /* when removed */
};

struct watch_walk {
    struct treap_link by_revision;
    struct watch_link turn; /* in hub->turns; future ones are in none */
    struct watch_link watchers;
    store_revision revision;  /* what its watchers need next */
    uint64_t sequence;        /* the history slot where that begins, or SEQUENCE_UNKNOWN */
    enum watcher_state state; /* of all its watchers: BEHIND or FUTURE */
};

/* What watch_next is at. */
enum phase {
    PHASE_IDLE,
    PHASE_LIVE,   /* a batch for the live watchers, for which nothing behind it counts as handed out yet */
    PHASE_SLICE,  /* a batch for `walk` */
    PHASE_CANCEL, /* telling the watchers of `walk` that history lacks what they need */
};

struct watch_hub {
    struct store *store;
    struct watch_index index;
    struct watch_matches matches; /* scratch */

    store_revision live_revision;
    uint64_t live_sequence; /* the history slot after it */
    uint32_t live_count;
    uint32_t behind_count; /* behind or parked */
    uint32_t watcher_count;
    uint32_t pin; /* while any is live */
    store_revision pin_revision;

    struct treap_link *walks; /* by revision; but for `walk` below */
    struct watch_link turns;  /* walks that are behind, the next one to be served first */
    uint32_t walk_count;
    uint64_t priorities_drawn;

    enum phase phase;
    struct watch_batch batch;
    uint64_t batch_number;
    store_revision batch_revision; /* its last */
    uint64_t batch_sequence;       /* the slot after it */
    struct watch_walk *walk;       /* taken out of the tree, and not in `turns` */
    uint32_t group;                /* being handed out */
    bool group_begun;              /* else it is about to be */
    struct watch_link *next_live;  /* the next watcher of that group, in PHASE_LIVE */
    struct watcher *next_in_slice; /* the same in PHASE_SLICE; NULL at its end */
    uint32_t group_missed;         /* of the watcher handed out last */
    uint32_t delivery_group; /* numbers groups as others see them: watchers that joined later are one of their own */
    struct watcher *removed;

    uint64_t turn_records_left;
    uint64_t turn_bytes_left;
};

static struct watcher *watcher_of(struct watch_link *link)
{
    return CONTAINER_OF(link, struct watcher, link);
}

/* ---- states ---- */

static bool is_behind(enum watcher_state state)
{
    return state == WATCHER_BEHIND || state == WATCHER_PARKED;
}

/* Keeps the counts; the caller sees to the lists. */
static void set_state(struct watch_hub *hub, struct watcher *watcher, enum watcher_state state)
{
    enum watcher_state before = watcher->state;
    if (before == state) return;
    hub->live_count += (uint32_t)(state == WATCHER_LIVE) - (uint32_t)(before == WATCHER_LIVE);
    uint32_t difference = (uint32_t)is_behind(state) - (uint32_t)is_behind(before);
    hub->behind_count += difference;
    watcher->owner->behind_count += difference;
    watcher->state = (uint8_t)state;
}

/* ---- the store's pin ---- */

static void pin_drop(struct watch_hub *hub)
{
    if (hub->pin != PIN_NONE) store_unpin(hub->store, hub->pin);
    hub->pin = PIN_NONE;
}

/* The live watchers' next changes must stay readable whatever is compacted before they were handed out. */
static void pin_update(struct watch_hub *hub)
{
    if (hub->live_count == 0) {
        pin_drop(hub);
        return;
    }
    if (hub->pin != PIN_NONE && hub->pin_revision == hub->live_revision) return;
    /* Amid what was compacted already the older pin holds on. */
    if (hub->live_revision < store_compacted_revision(hub->store)) return;
    pin_drop(hub);
    hub->pin = store_pin(hub->store, hub->live_revision);
    hub->pin_revision = hub->live_revision;
}

/* ---- walks ---- */

static struct watch_walk *walk_of(const struct treap_link *link)
{
    return CONTAINER_OF(link, struct watch_walk, by_revision);
}

static int compare_walks(const struct treap_link *a, const struct treap_link *b)
{
    store_revision revision_a = walk_of(a)->revision;
    store_revision revision_b = walk_of(b)->revision;
    return (revision_a > revision_b) - (revision_a < revision_b);
}

static const struct treap_order walk_order = {.compare = compare_walks};

/* The first walk at or above `revision`, or NULL. */
static struct watch_walk *walk_from(const struct watch_hub *hub, store_revision revision)
{
    struct watch_walk *best = NULL;
    for (const struct treap_link *link = hub->walks; link;) {
        struct watch_walk *walk = walk_of(link);
        if (walk->revision >= revision) {
            best = walk;
            link = link->left;
        } else {
            link = link->right;
        }
    }
    return best;
}

static struct watch_walk *walk_new(struct watch_hub *hub, store_revision revision)
{
    struct watch_walk *walk = mem_alloc(sizeof *walk);
    *walk = (struct watch_walk){.revision = revision, .sequence = SEQUENCE_UNKNOWN, .state = WATCHER_FUTURE};
    walk->by_revision.priority = (uint32_t)random_mix(hub->index.seed ^ ++hub->priorities_drawn);
    watch_link_init(&walk->turn);
    watch_link_init(&walk->watchers);
    hub->walk_count++;
    return walk;
}

static void walk_free(struct watch_hub *hub, struct watch_walk *walk)
{
    CHECK(watch_link_is_alone(&walk->watchers) && watch_link_is_alone(&walk->turn));
    hub->walk_count--;
    mem_free(walk);
}

static void walk_take_out(struct watch_hub *hub, struct watch_walk *walk)
{
    treap_remove(&hub->walks, &walk->by_revision, &walk_order);
    watch_link_remove(&walk->turn);
}

static void walk_set_state(struct watch_hub *hub, struct watch_walk *walk, enum watcher_state state)
{
    if (walk->state == state) return;
    walk->state = state;
    struct watch_link *link = walk->watchers.next;
    for (; link != &walk->watchers; link = link->next) set_state(hub, watcher_of(link), state);
}

/* Up to where live watchers count for those who come to stand before or behind them: the batch being handed out has its
   watchers already. */
static store_revision live_edge(const struct watch_hub *hub)
{
    return hub->phase == PHASE_LIVE ? hub->batch_revision : hub->live_revision;
}

/* Whether watchers that need `revision` next can become live now. */
static bool is_live_place(const struct watch_hub *hub, store_revision revision)
{
    return hub->phase != PHASE_LIVE && revision == hub->live_revision + 1;
}

static void become_live(struct watch_hub *hub, struct watcher *watcher)
{
    watch_link_append(&watcher->target->live, &watcher->link);
    set_state(hub, watcher, WATCHER_LIVE);
    if (hub->pin == PIN_NONE) pin_update(hub);
}

static void skip_to_current(struct watch_hub *hub);

/* Gives a walk, which isn't in the tree, its place: joins the live ones or another walk, or stands by itself. */
static void walk_enter(struct watch_hub *hub, struct watch_walk *walk)
{
    skip_to_current(hub);
    if (is_live_place(hub, walk->revision)) {
        while (!watch_link_is_alone(&walk->watchers)) {
            struct watcher *watcher = watcher_of(walk->watchers.next);
            watch_link_remove(&watcher->link);
            become_live(hub, watcher);
        }
    }
    if (watch_link_is_alone(&walk->watchers)) {
        walk_free(hub, walk);
        return;
    }
    walk_set_state(hub, walk, walk->revision <= live_edge(hub) ? WATCHER_BEHIND : WATCHER_FUTURE);
    struct watch_walk *there = walk_from(hub, walk->revision);
    if (there && there->revision == walk->revision) {
        CHECK(there->state == walk->state);
        watch_link_splice(&there->watchers, &walk->watchers);
        if (there->sequence == SEQUENCE_UNKNOWN) there->sequence = walk->sequence;
        walk_free(hub, walk);
        return;
    }
    treap_insert(&hub->walks, &walk->by_revision, &walk_order);
    if (walk->state == WATCHER_BEHIND) watch_link_append(&hub->turns, &walk->turn);
}

/* Puts a watcher, which is in no list, where those stand that need `revision` next. */
static void place(struct watch_hub *hub, struct watcher *watcher, store_revision revision)
{
    skip_to_current(hub);
    if (is_live_place(hub, revision)) {
        become_live(hub, watcher);
        return;
    }
    struct watch_walk *walk = walk_from(hub, revision);
    if (walk && walk->revision == revision) {
        set_state(hub, watcher, walk->state);
        watch_link_append(&walk->watchers, &watcher->link);
        return;
    }
    walk = walk_new(hub, revision);
    set_state(hub, watcher, walk->state);
    watch_link_append(&walk->watchers, &watcher->link);
    walk_enter(hub, walk);
}

/* The live revision has moved: the walks that stood before it and have been reached are live or behind now. */
static void reach_future_walks(struct watch_hub *hub, store_revision live_revision_before)
{
    CHECK(hub->phase != PHASE_LIVE);
    store_revision from = live_revision_before + 1;
    for (;;) {
        struct watch_walk *walk = walk_from(hub, from);
        if (!walk || walk->revision > hub->live_revision + 1) return;
        from = walk->revision + 1;
        /* One that came while this part of history was being handed out has its turn already. */
        if (walk->state == WATCHER_BEHIND) continue;
        walk_take_out(hub, walk);
        walk_enter(hub, walk);
    }
}

/* With nobody live there is nothing to hand out on the way to the current revision, nor anything pinned: whoever becomes
   live does so there. */
static void skip_to_current(struct watch_hub *hub)
{
    if (hub->live_count > 0 || hub->phase == PHASE_LIVE) return;
    store_revision before = hub->live_revision;
    hub->live_revision = store_current_revision(hub->store);
    if (hub->live_revision == before) return;
    hub->live_sequence = history_after(&hub->store->history, hub->live_revision);
    reach_future_walks(hub, before);
}

/* ---- life ---- */

struct watch_hub *watch_hub_new(struct store *store, uint64_t seed)
{
    struct watch_hub *hub = mem_alloc_zero(sizeof *hub);
    hub->store = store;
    hub->pin = PIN_NONE;
    watch_index_init(&hub->index, seed);
    watch_link_init(&hub->turns);
    skip_to_current(hub);
    return hub;
}

static void batch_end(struct watch_hub *hub);

void watch_hub_free(struct watch_hub *hub)
{
    if (!hub) return;
    CHECK(hub->watcher_count == 0);
    if (hub->phase != PHASE_IDLE) batch_end(hub);
    CHECK(!hub->walks && hub->walk_count == 0 && hub->live_count == 0);
    pin_drop(hub);
    watch_index_free(&hub->index);
    watch_batch_free(&hub->batch);
    mem_free(hub->matches.targets);
    mem_free(hub);
}

void watch_owner_init(struct watch_owner *owner)
{
    *owner = (struct watch_owner){.watcher_count = 0};
    watch_link_init(&owner->parked);
}

enum error watch_add(struct watch_hub *hub, const struct watch_options *options, struct watcher **out)
{
    CHECK(options->start_revision >= 0);
    if (watch_range_is_empty(options->key, options->range_end)) return ERR_BAD_REQUEST;
    if (hub->watcher_count >= WATCH_WATCHERS_MAX) return ERR_TOO_MANY;
    struct watcher *watcher = mem_alloc(sizeof *watcher);
    *watcher = (struct watcher){
        .target = watch_index_take(&hub->index, options->key, options->range_end, options->classes),
        .owner = options->owner,
        .id = options->id,
        .state = WATCHER_CANCELLED, /* as in no list */
    };
    watch_link_init(&watcher->link);
    hub->watcher_count++;
    watcher->owner->watcher_count++;
    store_revision start = options->start_revision;
    place(hub, watcher, start > 0 ? start : store_current_revision(hub->store) + 1);
    *out = watcher;
    return ERR_OK;
}

/* Out of the list where it is. A walk that loses its last watcher goes, unless it is being handed out. */
static void unlink_watcher(struct watch_hub *hub, struct watcher *watcher)
{
    struct watch_link *head = watcher->link.next;
    bool in_walk = watcher->state == WATCHER_FUTURE || watcher->state == WATCHER_BEHIND;
    watch_link_remove(&watcher->link);
    if (!in_walk || !watch_link_is_alone(head)) return;
    struct watch_walk *walk = CONTAINER_OF(head, struct watch_walk, watchers);
    if (walk == hub->walk) return;
    walk_take_out(hub, walk);
    walk_free(hub, walk);
}

void watch_remove(struct watch_hub *hub, struct watcher *watcher)
{
    CHECK(watcher->state != WATCHER_REMOVED);
    bool is_shown = watcher->state == WATCHER_LIVE || watcher->state == WATCHER_BEHIND;
    bool waits = hub->phase != PHASE_IDLE && is_shown;
    if (!waits) unlink_watcher(hub, watcher);
    watcher->state_before = watcher->state;
    set_state(hub, watcher, WATCHER_REMOVED);
    watcher->owner->watcher_count--;
    hub->watcher_count--;
    if (waits) {
        /* watch_next may be about to come by it. */
        watcher->next_removed = hub->removed;
        hub->removed = watcher;
        return;
    }
    watch_index_drop(&hub->index, watcher->target);
    mem_free(watcher);
    if (hub->live_count == 0) pin_drop(hub);
}

static void free_removed(struct watch_hub *hub)
{
    while (hub->removed) {
        struct watcher *watcher = hub->removed;
        hub->removed = watcher->next_removed;
        watcher->state = watcher->state_before;
        unlink_watcher(hub, watcher);
        watch_index_drop(&hub->index, watcher->target);
        mem_free(watcher);
    }
}

/* ---- batches ---- */

/* Adds the record to the batch for those of the matched targets where somebody is to get it. */
static void add_matches(struct watch_hub *hub, struct store_record *record, bool has_previous)
{
    struct watch_matches *matches = &hub->matches;
    size_t count = 0;
    for (size_t i = 0; i < matches->count; i++) {
        struct watch_target *target = matches->targets[i];
        if (hub->phase == PHASE_LIVE ? !watch_link_is_alone(&target->live) : target->slice != NULL) {
            matches->targets[count++] = target;
        }
    }
    if (count > 0) watch_batch_add(&hub->batch, record, has_previous, matches->targets, count);
    matches->count = 0;
}

/* The targets that a batch is for, if there are few; else all must be searched. */
struct few_targets {
    struct watch_target *targets[FEW_TARGETS];
    size_t count; /* FEW_TARGETS + 1: too many */
};

static void match(struct watch_hub *hub, const struct store_record *record, const struct few_targets *few)
{
    struct bytes key = store_record_key(record);
    unsigned unwanted = store_record_is_tombstone(record) ? WATCH_NO_DELETE : WATCH_NO_PUT;
    if (few->count > FEW_TARGETS) {
        watch_index_match(&hub->index, key, unwanted, &hub->matches);
        return;
    }
    for (size_t i = 0; i < few->count; i++) {
        if (watch_target_matches(few->targets[i], key, unwanted)) {
            watch_matches_append(&hub->matches, few->targets[i]);
        }
    }
}

/* Adds the record's event to the batch, if there is anybody to get it. */
static void collect_record(struct watch_hub *hub, struct store_record *record, const struct few_targets *few)
{
    match(hub, record, few);
    /* A live watcher's changes are pinned with what they replaced. */
    bool has_previous = hub->phase == PHASE_LIVE || record->mod_revision > store_compacted_revision(hub->store);
    if (hub->matches.count > 0) add_matches(hub, record, has_previous);
}

/* The batch has what it is to have. `revision` is its last one, 0: it came by no change. */
static void seal(struct watch_hub *hub, store_revision revision, uint64_t sequence)
{
    hub->batch_revision = revision > 0 ? revision : 1; /* the only one without a change */
    hub->batch_sequence = sequence;
    watch_batch_seal(&hub->batch);
}

static void batch_begin(struct watch_hub *hub, enum phase phase, struct watch_walk *walk)
{
    CHECK(hub->phase == PHASE_IDLE && hub->batch.event_count == 0);
    hub->phase = phase;
    hub->batch_number++;
    hub->walk = walk;
    hub->group = 0;
    hub->group_begun = false;
    hub->delivery_group = UINT32_MAX;
}

static void begin_live(struct watch_hub *hub)
{
    batch_begin(hub, PHASE_LIVE, NULL);
    /* Those who wait for a revision ahead join between two batches. */
    store_revision last = store_current_revision(hub->store);
    const struct watch_walk *future = walk_from(hub, hub->live_revision + 1);
    if (future && future->revision <= last) last = future->revision - 1;

    const struct history *history = &hub->store->history;
    const struct few_targets all = {.count = FEW_TARGETS + 1};
    uint64_t sequence = hub->live_sequence;
    store_revision revision = 0;
    for (; sequence < history->end; sequence++) {
        struct store_record *record = history_record(history, sequence);
        if (record->mod_revision != revision) {
            if (record->mod_revision > last || watch_batch_is_full(&hub->batch)) break;
            revision = record->mod_revision;
        }
        collect_record(hub, record, &all);
    }
    CHECK(revision > 0);
    seal(hub, revision, sequence);
}

/* Hangs the walk's watchers on their targets, for the events that come from now on. Returns how many they are. */
static uint64_t take_up_walk(struct watch_hub *hub, struct watch_walk *walk, struct few_targets *few)
{
    uint64_t watchers = 0;
    for (struct watch_link *link = walk->watchers.next; link != &walk->watchers; link = link->next) {
        struct watcher *watcher = watcher_of(link);
        struct watch_target *target = watcher->target;
        if (!target->slice && few->count <= FEW_TARGETS) {
            if (few->count < FEW_TARGETS) few->targets[few->count] = target;
            few->count++;
        }
        /* target->slice is the ring's last. */
        watcher->next_in_slice = target->slice ? target->slice->next_in_slice : watcher;
        if (target->slice) target->slice->next_in_slice = watcher;
        target->slice = watcher;
        watcher->missed = target->group > 0 ? hub->batch.groups[target->group - 1].count : 0;
        watchers++;
    }
    return watchers;
}

static uint64_t slice_records_max(uint64_t watchers)
{
    uint64_t records = watchers / WATCH_WATCHERS_PER_RECORD;
    if (records < WATCH_SLICE_RECORDS_MIN) return WATCH_SLICE_RECORDS_MIN;
    return records < WATCH_SLICE_RECORDS_MAX ? records : WATCH_SLICE_RECORDS_MAX;
}

/* A slice of history for a walk and for those that it comes upon. */
static void begin_slice(struct watch_hub *hub, struct watch_walk *walk)
{
    walk_take_out(hub, walk);
    batch_begin(hub, PHASE_SLICE, walk);
    struct few_targets few = {.count = 0};
    uint64_t watchers = take_up_walk(hub, walk, &few);
    struct watch_walk *next = walk_from(hub, walk->revision + 1);

    const struct history *history = &hub->store->history;
    if (walk->sequence == SEQUENCE_UNKNOWN) walk->sequence = history_after(history, walk->revision - 1);
    uint64_t sequence = walk->sequence;
    store_revision revision = 0;
    for (; sequence < history->end; sequence++) {
        struct store_record *record = history_record(history, sequence);
        if (record->mod_revision != revision) {
            bool is_full = watch_batch_is_full(&hub->batch);
            if (is_full || sequence - walk->sequence >= slice_records_max(watchers)) break;
            if (record->mod_revision > hub->live_revision) break;
            revision = record->mod_revision;
            if (next && next->revision == revision) {
                walk_take_out(hub, next);
                watchers += take_up_walk(hub, next, &few);
                watch_link_splice(&walk->watchers, &next->watchers);
                walk_free(hub, next);
                next = walk_from(hub, revision + 1);
            }
        }
        collect_record(hub, record, &few);
    }
    seal(hub, revision, sequence);
    struct watch_link *link = walk->watchers.next;
    for (; link != &walk->watchers; link = link->next) watcher_of(link)->target->slice = NULL;

    uint64_t records = sequence - walk->sequence + watchers / WATCH_WATCHERS_PER_RECORD;
    hub->turn_records_left -= records < hub->turn_records_left ? records : hub->turn_records_left;
    uint64_t bytes = hub->batch.bytes;
    hub->turn_bytes_left -= bytes < hub->turn_bytes_left ? bytes : hub->turn_bytes_left;
}

/* The batch is handed out, or given up: its watchers have what is up to batch_revision. */
static void batch_end(struct watch_hub *hub)
{
    watch_batch_clear(&hub->batch);
    free_removed(hub);
    enum phase phase = hub->phase;
    struct watch_walk *walk = hub->walk;
    hub->phase = PHASE_IDLE;
    hub->walk = NULL;
    if (phase == PHASE_LIVE) {
        store_revision before = hub->live_revision;
        hub->live_revision = hub->batch_revision;
        hub->live_sequence = hub->batch_sequence;
        reach_future_walks(hub, before);
        return;
    }
    if (phase == PHASE_SLICE) {
        walk->revision = hub->batch_revision + 1;
        walk->sequence = hub->batch_sequence;
    }
    walk_enter(hub, walk);
}

/* Its owner is paused: it keeps what it needs next, and nothing else. */
static void park(struct watch_hub *hub, struct watcher *watcher, store_revision next_revision)
{
    watch_link_remove(&watcher->link);
    set_state(hub, watcher, WATCHER_PARKED);
    watcher->next_revision = next_revision;
    watch_link_append(&watcher->owner->parked, &watcher->link);
}

/* The next watcher of the current group, or NULL at its end. */
static struct watcher *group_next(struct watch_hub *hub, const struct watch_group *group)
{
    bool begins = !hub->group_begun;
    hub->group_begun = true;
    if (hub->phase == PHASE_LIVE) {
        struct watch_link *head = &group->target->live;
        struct watch_link *link = begins ? head->next : hub->next_live;
        if (link == head) return NULL;
        hub->next_live = link->next;
        return watcher_of(link);
    }
    struct watcher *watcher = begins ? group->slice->next_in_slice : hub->next_in_slice;
    if (watcher) hub->next_in_slice = watcher == group->slice ? NULL : watcher->next_in_slice;
    return watcher;
}

/* What the batch has for the next watcher, paused or not; false at its end. */
static bool batch_next(struct watch_hub *hub, struct watch_delivery *delivery)
{
    while (hub->group < hub->batch.group_count) {
        const struct watch_group *group = &hub->batch.groups[hub->group];
        bool begins = !hub->group_begun;
        struct watcher *watcher = group_next(hub, group);
        if (!watcher) {
            hub->group++;
            hub->group_begun = false;
            continue;
        }
        uint32_t missed = hub->phase == PHASE_LIVE ? 0 : watcher->missed;
        if (begins || missed != hub->group_missed) hub->delivery_group++;
        hub->group_missed = missed;
        if (watcher->state == WATCHER_REMOVED || missed == group->count) continue;
        *delivery = (struct watch_delivery){
            .watcher = watcher,
            .batch = hub->batch_number,
            .group = hub->delivery_group,
            .event_count = group->count - missed,
            .events = hub->batch.numbers + group->first + missed,
        };
        return true;
    }
    return false;
}

static store_revision first_revision(const struct watch_hub *hub, const struct watch_delivery *delivery)
{
    return hub->batch.events[delivery->events[0]].record->mod_revision;
}

static bool hand_out_events(struct watch_hub *hub, struct watch_delivery *delivery)
{
    while (batch_next(hub, delivery)) {
        if (!delivery->watcher->owner->paused) return true;
        park(hub, delivery->watcher, first_revision(hub, delivery));
    }
    return false;
}

static bool hand_out_cancellation(struct watch_hub *hub, struct watch_delivery *delivery)
{
    struct watch_walk *walk = hub->walk;
    while (!watch_link_is_alone(&walk->watchers)) {
        struct watcher *watcher = watcher_of(walk->watchers.next);
        if (watcher->state == WATCHER_REMOVED) {
            watch_link_remove(&watcher->link);
            watcher->state_before = WATCHER_CANCELLED;
            continue;
        }
        if (watcher->owner->paused) {
            park(hub, watcher, walk->revision);
            continue;
        }
        watch_link_remove(&watcher->link);
        set_state(hub, watcher, WATCHER_CANCELLED);
        *delivery = (struct watch_delivery){
            .watcher = watcher,
            .compact_revision = store_compacted_revision(hub->store),
            .batch = hub->batch_number,
        };
        return true;
    }
    return false;
}

/* ---- turns ---- */

void watch_turn_begin(struct watch_hub *hub)
{
    CHECK(!hub->store->is_open);
    hub->turn_records_left = WATCH_TURN_RECORDS_MAX;
    hub->turn_bytes_left = WATCH_TURN_BYTES_MAX;
}

/* The walk that history can't serve any more, if there is one. */
static struct watch_walk *lost_walk(const struct watch_hub *hub)
{
    struct watch_walk *walk = walk_from(hub, 0);
    bool is_lost = walk && walk->state == WATCHER_BEHIND && walk->revision < store_compacted_revision(hub->store);
    return is_lost ? walk : NULL;
}

/* Begins the next thing to hand out; false if this turn has nothing more. */
static bool begin_next(struct watch_hub *hub)
{
    skip_to_current(hub);
    if (hub->live_revision < store_current_revision(hub->store)) {
        begin_live(hub);
        return true;
    }
    pin_update(hub);
    struct watch_walk *walk = lost_walk(hub);
    if (walk) {
        walk_take_out(hub, walk);
        batch_begin(hub, PHASE_CANCEL, walk);
        return true;
    }
    if (watch_link_is_alone(&hub->turns) || hub->turn_records_left == 0 || hub->turn_bytes_left == 0) return false;
    begin_slice(hub, CONTAINER_OF(hub->turns.next, struct watch_walk, turn));
    return true;
}

bool watch_next(struct watch_hub *hub, struct watch_delivery *delivery)
{
    CHECK(!hub->store->is_open);
    while (hub->phase != PHASE_IDLE || begin_next(hub)) {
        bool cancels = hub->phase == PHASE_CANCEL;
        if (cancels ? hand_out_cancellation(hub, delivery) : hand_out_events(hub, delivery)) return true;
        batch_end(hub);
    }
    return false;
}

const struct watch_event *watch_event(const struct watch_hub *hub, uint32_t number)
{
    CHECK(number < hub->batch.event_count);
    return &hub->batch.events[number];
}

uint32_t watch_event_count(const struct watch_hub *hub)
{
    return hub->batch.event_count;
}

bool watch_has_work(const struct watch_hub *hub)
{
    return hub->phase != PHASE_IDLE || !watch_link_is_alone(&hub->turns) ||
           (hub->live_count > 0 && hub->live_revision < store_current_revision(hub->store));
}

void watch_owner_pause(struct watch_owner *owner)
{
    owner->paused = true;
}

/* Puts all that stand in the ring where they belong. */
static void place_parked(struct watch_hub *hub, struct watch_link *parked)
{
    while (!watch_link_is_alone(parked)) {
        struct watcher *watcher = watcher_of(parked->next);
        watch_link_remove(&watcher->link);
        place(hub, watcher, watcher->next_revision);
    }
}

void watch_owner_resume(struct watch_hub *hub, struct watch_owner *owner)
{
    owner->paused = false;
    place_parked(hub, &owner->parked);
}

/* ---- another store ---- */

/* What the batch has left is missed: those who should have got it stand at their own next event, in `missed`. Its walk,
   if any, goes to `walks`. */
static void give_batch_up(struct watch_hub *hub, struct watch_link *missed, struct watch_link *walks)
{
    struct watch_delivery delivery;
    while (hub->phase != PHASE_CANCEL && batch_next(hub, &delivery)) {
        struct watcher *watcher = delivery.watcher;
        watch_link_remove(&watcher->link);
        set_state(hub, watcher, WATCHER_PARKED);
        watcher->next_revision = first_revision(hub, &delivery);
        watch_link_append(missed, &watcher->link);
    }
    watch_batch_clear(&hub->batch);
    free_removed(hub);
    if (hub->phase == PHASE_LIVE) hub->live_revision = hub->batch_revision;
    if (hub->phase == PHASE_SLICE) hub->walk->revision = hub->batch_revision + 1;
    if (hub->walk) watch_link_append(walks, &hub->walk->turn);
    hub->phase = PHASE_IDLE;
    hub->walk = NULL;
}

void watch_hub_store_replaced(struct watch_hub *hub, struct store *store)
{
    /* All walks, of which the live watchers make one, leave the old store's order… */
    struct watch_link missed;
    struct watch_link all;
    watch_link_init(&missed);
    watch_link_init(&all);
    if (hub->phase != PHASE_IDLE) give_batch_up(hub, &missed, &all);
    struct watch_walk *walk;
    while ((walk = walk_from(hub, 0)) != NULL) {
        walk_take_out(hub, walk);
        watch_link_append(&all, &walk->turn);
    }
    walk = walk_new(hub, hub->live_revision + 1);
    for (struct watch_link *at = hub->index.targets.next; at != &hub->index.targets; at = at->next) {
        struct watch_target *target = CONTAINER_OF(at, struct watch_target, in_index);
        struct watch_link *link = target->live.next;
        for (; link != &target->live; link = link->next) set_state(hub, watcher_of(link), walk->state);
        watch_link_splice(&walk->watchers, &target->live);
    }
    watch_link_append(&all, &walk->turn);

    /* …and enter the new one's. */
    hub->store = store;
    hub->pin = PIN_NONE;
    hub->live_revision = store_current_revision(store);
    hub->live_sequence = history_after(&store->history, hub->live_revision);
    CHECK(hub->live_count == 0);
    while (!watch_link_is_alone(&all)) {
        walk = CONTAINER_OF(all.next, struct watch_walk, turn);
        watch_link_remove(&walk->turn);
        walk->sequence = SEQUENCE_UNKNOWN;
        walk_enter(hub, walk);
    }
    place_parked(hub, &missed);
}

/* ---- asking ---- */

struct watch_owner *watcher_owner(const struct watcher *watcher)
{
    return watcher->owner;
}

int64_t watcher_id(const struct watcher *watcher)
{
    return watcher->id;
}

unsigned watcher_classes(const struct watcher *watcher)
{
    return watcher->target->classes;
}

store_revision watch_live_revision(const struct watch_hub *hub)
{
    return hub->live_revision;
}

bool watch_owner_is_synced(const struct watch_owner *owner)
{
    return owner->behind_count == 0;
}

bool watcher_is_synced(const struct watcher *watcher)
{
    return watcher->state == WATCHER_LIVE || watcher->state == WATCHER_FUTURE;
}

uint32_t watch_watcher_count(const struct watch_hub *hub)
{
    return hub->watcher_count;
}

uint32_t watch_behind_count(const struct watch_hub *hub)
{
    return hub->behind_count;
}

uint64_t watch_memory_bytes(const struct watch_hub *hub)
{
    return sizeof *hub + hub->index.memory_bytes + hub->index.bucket_capacity * sizeof hub->index.buckets[0] +
           hub->matches.capacity * sizeof hub->matches.targets[0] +
           hub->walk_count * (sizeof(struct watch_walk) + WATCH_ALLOCATION_OVERHEAD_BYTES) +
           hub->watcher_count * (sizeof(struct watcher) + WATCH_ALLOCATION_OVERHEAD_BYTES) +
           watch_batch_memory_bytes(&hub->batch);
}

/* ---- verifying ---- */

struct verify_totals {
    uint32_t behind;
    uint32_t walks;
    uint32_t turns;
};

static void verify_walk(const struct watch_hub *hub, struct watch_walk *walk, struct verify_totals *totals)
{
    CHECK(!watch_link_is_alone(&walk->watchers));
    CHECK(walk->state == WATCHER_BEHIND || walk->state == WATCHER_FUTURE);
    CHECK((walk->revision <= live_edge(hub)) == (walk->state == WATCHER_BEHIND));
    CHECK(watch_link_is_alone(&walk->turn) == (walk->state == WATCHER_FUTURE));
    CHECK(hub->phase == PHASE_LIVE || walk->revision != hub->live_revision + 1);
    if (walk->sequence != SEQUENCE_UNKNOWN && walk->revision >= store_compacted_revision(hub->store)) {
        CHECK(walk->sequence == history_after(&hub->store->history, walk->revision - 1));
    }
    struct watch_link *link = walk->watchers.next;
    for (; link != &walk->watchers; link = link->next) {
        const struct watcher *watcher = watcher_of(link);
        if (watcher->state == WATCHER_REMOVED) continue;
        CHECK(watcher->state == walk->state);
        totals->behind += walk->state == WATCHER_BEHIND;
    }
    totals->walks++;
    totals->turns += walk->state == WATCHER_BEHIND;
}

void watch_verify(const struct watch_hub *hub)
{
    watch_index_verify(&hub->index);
    struct verify_totals totals = {.walks = 0};
    store_revision before = INT64_MIN;
    for (struct watch_walk *walk; (walk = walk_from(hub, before + 1)) != NULL; before = walk->revision) {
        CHECK(walk->revision > before);
        verify_walk(hub, walk, &totals);
    }
    for (const struct watch_link *at = hub->turns.next; at != &hub->turns; at = at->next) CHECK(totals.turns-- > 0);
    CHECK(totals.turns == 0);
    CHECK(hub->walk_count == totals.walks + (hub->walk ? 1 : 0));
    CHECK(hub->behind_count >= totals.behind);

    uint32_t live = 0;
    uint32_t watchers = 0;
    for (struct watch_link *at = hub->index.targets.next; at != &hub->index.targets; at = at->next) {
        struct watch_target *target = CONTAINER_OF(at, struct watch_target, in_index);
        CHECK(!target->slice && target->group == 0);
        watchers += target->watcher_count;
        struct watch_link *link = target->live.next;
        for (; link != &target->live; link = link->next) {
            CHECK(watcher_of(link)->target == target);
            live += watcher_of(link)->state == WATCHER_LIVE;
        }
    }
    CHECK(live == hub->live_count);
    for (const struct watcher *removed = hub->removed; removed; removed = removed->next_removed) watchers--;
    CHECK(watchers == hub->watcher_count);
    CHECK(hub->live_count == 0 || hub->pin != PIN_NONE);
    CHECK(hub->live_revision <= store_current_revision(hub->store));
    if (hub->phase == PHASE_IDLE) CHECK(!hub->removed && hub->batch.event_count == 0);
}
