/*
 * Random watchers over random histories, against the slow and obvious way: every watcher knows how far in the list of all
 * versions ever made it is, and what comes must be the next one there that it asked for. All at any time: changes,
 * compaction, watchers that come and go, pauses, turns broken off in the middle, and a snapshot in place of the store.
 */
#include "store/watch.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "base/mem.h"
#include "store/store_snapshot.h"
#include "store_model.h"

#define OWNERS 6u
#define WATCHERS_MAX 150u

struct expectation {
    struct watcher *watcher; /* NULL: this place is free */
    uint64_t serial;
    struct bytes key; /* of the model, or static */
    struct bytes range_end;
    unsigned classes;
    unsigned owner;
    size_t next;                  /* in the model's versions; all before it are handed out, or not asked for */
    store_revision next_revision; /* the first revision that it may not have been handed out */
    bool cancelled;
};

struct totals {
    uint64_t events, deliveries, of_many_revisions, shared, cancelled, missed, kept_previous, lost_previous;
    uint64_t replaced, interrupted, at_compacted, future;
};

/* Drawn for each run. */
struct knobs {
    uint32_t places;      /* for watchers */
    unsigned interrupts;  /* per mille of deliveries that a turn is broken off after */
    unsigned compactions; /* per mille of steps */
    unsigned turns;
    unsigned replacements;
};

struct run {
    struct random random;
    struct knobs knobs;
    struct model model;
    struct store *store;
    struct watch_hub *hub;
    struct watch_owner owners[OWNERS];
    struct expectation watchers[WATCHERS_MAX];
    uint64_t serials;
    uint32_t watcher_count; /* whose places are used */
    struct totals totals;
    uint64_t trace; /* of all that was handed out */
    uint64_t batch;
    uint32_t group;
    const uint32_t *events;
    uint32_t event_count;
    unsigned classes;
};

static void note(struct run *run, uint64_t number)
{
    run->trace = random_mix(run->trace ^ number);
}

/* ---- what a watcher asked for ---- */

static bool asked_for(const struct run *run, const struct expectation *expectation, const struct model_version *version)
{
    struct bytes key = run->model.keys[version->key];
    struct bytes first = expectation->key.size > 0 ? expectation->key : bytes_of("\0", 1);
    if (expectation->classes & (version->is_tombstone ? WATCH_NO_DELETE : WATCH_NO_PUT)) return false;
    if (expectation->range_end.size == 0) return bytes_equal(key, first);
    if (bytes_compare(key, first) < 0) return false;
    if (expectation->range_end.size == 1 && expectation->range_end.data[0] == 0) return true;
    return bytes_compare(key, expectation->range_end) < 0;
}

/* Passes over what it didn't ask for; returns the next version that it did, or NULL. */
static const struct model_version *next_asked_for(const struct run *run, struct expectation *expectation)
{
    for (; expectation->next < run->model.version_count; expectation->next++) {
        const struct model_version *version = &run->model.versions[expectation->next];
        if (asked_for(run, expectation, version)) return version;
    }
    return NULL;
}

static size_t first_version_from(const struct run *run, store_revision revision)
{
    size_t at = run->model.version_count;
    while (at > 0 && run->model.versions[at - 1].mod_revision >= revision) at--;
    return at;
}

static const struct model_version *previous_of(const struct run *run, size_t at)
{
    uint32_t key = run->model.versions[at].key;
    while (at-- > 0) {
        if (run->model.versions[at].key == key) {
            return run->model.versions[at].is_tombstone ? NULL : &run->model.versions[at];
        }
    }
    return NULL;
}

/* ---- what is handed out ---- */

static void check_event(struct run *run, struct expectation *expectation, const struct watch_event *event)
{
    const struct model_version *version = next_asked_for(run, expectation);
    assert_non_null(version);
    model_check_record(&run->model, version, event->record);
    if (expectation->classes & WATCH_PREVIOUS) {
        const struct model_version *previous = previous_of(run, expectation->next);
        if (event->previous) {
            assert_non_null(previous);
            model_check_record(&run->model, previous, event->previous);
            run->totals.kept_previous++;
        } else if (previous) {
            assert_true(version->mod_revision <= run->model.compacted_revision);
            run->totals.lost_previous++;
        }
    }
    run->totals.at_compacted += version->mod_revision == run->model.compacted_revision;
    expectation->next++;
    note(run, (uint64_t)version->mod_revision);
    note(run, version->sub_revision);
}

static struct expectation *expectation_of(struct run *run, const struct watcher *watcher)
{
    /* The id is the place. */
    struct expectation *expectation = &run->watchers[watcher_id(watcher)];
    assert_ptr_equal(expectation->watcher, watcher);
    assert_ptr_equal(watcher_owner(watcher), &run->owners[expectation->owner]);
    assert_int_equal(watcher_classes(watcher), expectation->classes);
    assert_false(expectation->cancelled);
    return expectation;
}

static void check_events(struct run *run, struct expectation *expectation, const struct watch_delivery *delivery)
{
    assert_true(delivery->event_count > 0);
    store_revision first_revision = watch_event(run->hub, delivery->events[0])->record->mod_revision;
    store_revision last_revision = 0;
    for (uint32_t i = 0; i < delivery->event_count; i++) {
        assert_true(i == 0 || delivery->events[i] > delivery->events[i - 1]);
        assert_true(delivery->events[i] < watch_event_count(run->hub));
        const struct watch_event *event = watch_event(run->hub, delivery->events[i]);
        check_event(run, expectation, event);
        last_revision = event->record->mod_revision;
    }
    /* A revision is never split. */
    const struct model_version *next = next_asked_for(run, expectation);
    assert_true(!next || next->mod_revision > last_revision);
    expectation->next_revision = last_revision + 1;
    run->totals.events += delivery->event_count;
    run->totals.of_many_revisions += last_revision > first_revision;
}

static void check_sharing(struct run *run, const struct expectation *expectation, const struct watch_delivery *delivery)
{
    assert_true(delivery->batch >= run->batch);
    if (delivery->batch == run->batch && delivery->group == run->group) {
        assert_ptr_equal(delivery->events, run->events);
        assert_int_equal(delivery->event_count, run->event_count);
        assert_int_equal(expectation->classes, run->classes);
        run->totals.shared++;
    } else {
        assert_true(delivery->batch > run->batch || delivery->group > run->group);
    }
    run->batch = delivery->batch;
    run->group = delivery->group;
    run->events = delivery->events;
    run->event_count = delivery->event_count;
    run->classes = expectation->classes;
}

static void check_delivery(struct run *run, const struct watch_delivery *delivery)
{
    struct expectation *expectation = expectation_of(run, delivery->watcher);
    assert_false(run->owners[expectation->owner].paused);
    note(run, expectation->serial);
    run->totals.deliveries++;
    if (delivery->compact_revision > 0) {
        assert_int_equal(delivery->event_count, 0);
        assert_int_equal(delivery->compact_revision, run->model.compacted_revision);
        assert_true(expectation->next_revision < run->model.compacted_revision);
        expectation->cancelled = true;
        run->totals.cancelled++;
        return;
    }
    check_sharing(run, expectation, delivery);
    check_events(run, expectation, delivery);
}

/* Who counts as synced has everything up to the live revision. */
static void check_progress(struct run *run)
{
    store_revision live = watch_live_revision(run->hub);
    bool synced[OWNERS];
    uint32_t behind = 0;
    uint32_t counts[OWNERS] = {0};
    for (unsigned i = 0; i < OWNERS; i++) synced[i] = true;
    for (uint32_t i = 0; i < run->watcher_count; i++) {
        struct expectation *expectation = &run->watchers[i];
        if (!expectation->watcher) continue;
        counts[expectation->owner]++;
        if (expectation->cancelled) {
            assert_false(watcher_is_synced(expectation->watcher));
        } else if (watcher_is_synced(expectation->watcher)) {
            const struct model_version *version = next_asked_for(run, expectation);
            assert_true(!version || version->mod_revision > live);
            if (expectation->next_revision <= live) expectation->next_revision = live + 1;
        } else {
            synced[expectation->owner] = false;
            behind++;
        }
    }
    assert_int_equal(watch_behind_count(run->hub), behind);
    for (unsigned i = 0; i < OWNERS; i++) {
        assert_int_equal(watch_owner_is_synced(&run->owners[i]), synced[i]);
        assert_int_equal(run->owners[i].watcher_count, counts[i]);
    }
}

/* ---- steps ---- */

static void random_target(struct run *run, struct expectation *expectation)
{
    struct random *random = &run->random;
    const struct model *model = &run->model;
    expectation->key = model->keys[random_below(random, model->key_count)];
    uint64_t kind = random_below(random, 10);
    if (kind < 4) return;
    if (kind == 4) {
        expectation->range_end = bytes_of("\0", 1);
    } else if (kind == 5) {
        expectation->key = bytes_of(NULL, 0); /* the byte 0 */
        if (random_chance(random, 800)) expectation->range_end = bytes_of("\0", 1);
    } else if (kind < 8) {
        expectation->range_end = model->keys[random_below(random, model->key_count)];
    } else {
        /* A few that many share. */
        expectation->key = bytes_of("a", 1);
        expectation->range_end = bytes_of("b", 1);
    }
}

static store_revision random_start(struct run *run)
{
    struct random *random = &run->random;
    store_revision now = run->model.revision;
    switch (random_below(random, 6)) {
    case 0:
        return (store_revision)random_between(random, 1, (uint64_t)now);
    case 1:
        return run->model.compacted_revision > 0 ? run->model.compacted_revision : 1;
    case 2:
        run->totals.future++;
        return now + (store_revision)random_between(random, 1, 30);
    case 3:
        return now > 10 ? now - (store_revision)random_below(random, 10) : now;
    default:
        return 0;
    }
}

static void step_add(struct run *run)
{
    uint32_t place = (uint32_t)random_below(&run->random, run->knobs.places);
    struct expectation *expectation = &run->watchers[place];
    if (expectation->watcher) return;
    *expectation = (struct expectation){.serial = ++run->serials};
    random_target(run, expectation);
    expectation->classes = random_chance(&run->random, 500) ? 0 : (unsigned)random_below(&run->random, 8);
    expectation->owner = (unsigned)random_below(&run->random, OWNERS);
    store_revision start = random_start(run);
    struct watch_options options = {
        .key = expectation->key,
        .range_end = expectation->range_end,
        .start_revision = start,
        .classes = expectation->classes,
        .owner = &run->owners[expectation->owner],
        .id = place,
    };
    enum error error = watch_add(run->hub, &options, &expectation->watcher);
    struct bytes end = expectation->range_end;
    bool is_empty = end.size > 0 && !(end.size == 1 && end.data[0] == 0) &&
                    bytes_compare(expectation->key.size > 0 ? expectation->key : bytes_of("\0", 1), end) >= 0;
    assert_int_equal(error, is_empty ? ERR_BAD_REQUEST : ERR_OK);
    if (error != ERR_OK) {
        expectation->watcher = NULL;
        return;
    }
    if (place >= run->watcher_count) run->watcher_count = place + 1;
    expectation->next_revision = start > 0 ? start : run->model.revision + 1;
    expectation->next = first_version_from(run, expectation->next_revision);
    /* One that starts ahead passes over what isn't made yet. */
    if (expectation->next_revision > run->model.revision + 1) expectation->next = SIZE_MAX;
}

/* Those who start ahead find out where that is once it is made. */
static void settle_starts(struct run *run)
{
    for (uint32_t i = 0; i < run->watcher_count; i++) {
        struct expectation *expectation = &run->watchers[i];
        if (!expectation->watcher || expectation->next != SIZE_MAX) continue;
        if (expectation->next_revision <= run->model.revision) {
            expectation->next = first_version_from(run, expectation->next_revision);
        }
    }
}

static void remove_watcher(struct run *run, struct expectation *expectation)
{
    watch_remove(run->hub, expectation->watcher);
    expectation->watcher = NULL;
}

static void step_remove(struct run *run)
{
    struct expectation *expectation = &run->watchers[random_below(&run->random, run->knobs.places)];
    if (expectation->watcher) remove_watcher(run, expectation);
}

static void step_pause(struct run *run)
{
    struct watch_owner *owner = &run->owners[random_below(&run->random, OWNERS)];
    if (owner->paused) {
        watch_owner_resume(run->hub, owner);
    } else if (random_chance(&run->random, 500)) {
        watch_owner_pause(owner);
    }
}

static void change(struct run *run)
{
    model_change(&run->model, run->store, &run->random);
    settle_starts(run);
}

static void compact(struct run *run)
{
    struct model *model = &run->model;
    if (model->compacted_revision == model->revision) return;
    uint64_t readable = (uint64_t)(model->revision - model->compacted_revision);
    if (random_chance(&run->random, 700)) readable = (readable + 2) / 3;
    model->compacted_revision += (store_revision)random_between(&run->random, 1, readable);
    assert_int_equal(store_compact(run->store, model->compacted_revision), ERR_OK);
}

static struct store *copy_of(struct run *run)
{
    struct buffer payload = {.data = NULL};
    struct store_snapshot_writer writer;
    store_snapshot_begin(run->store, &writer);
    while (!writer.done) store_snapshot_next(run->store, &writer, 1000, &payload);
    store_snapshot_end(run->store, &writer);
    struct store *store = store_new();
    struct store_loader *loader =
        store_loader_new(store, store_current_revision(run->store), store_compacted_revision(run->store));
    assert_int_equal(store_loader_feed(loader, buffer_bytes(&payload)), ERR_OK);
    assert_int_equal(store_loader_finish(loader), ERR_OK);
    buffer_free(&payload);
    return store;
}

/* Elsewhere the history goes on; then its snapshot arrives. */
static void replace_store(struct run *run)
{
    struct store *other = copy_of(run);
    store_free(run->store); /* the hub mustn't look at it again */
    run->store = other;
    for (uint64_t changes = random_below(&run->random, 20); changes > 0; changes--) {
        change(run);
        if (random_chance(&run->random, 50)) compact(run);
    }
    other = copy_of(run);
    store_free(run->store);
    run->store = other;
    watch_hub_store_replaced(run->hub, run->store);
    run->totals.replaced++;
}

/* Amid a turn, between two deliveries. */
static void meddle(struct run *run, const struct watch_delivery *delivery)
{
    uint64_t kind = random_below(&run->random, 100);
    if (kind < 4) step_remove(run);
    if (kind >= 4 && kind < 7) remove_watcher(run, &run->watchers[watcher_id(delivery->watcher)]);
    if (kind >= 7 && kind < 14) step_add(run);
    if (kind >= 14 && kind < 18) step_pause(run);
    if (kind >= 18 && kind < 22) watch_owner_pause(watcher_owner(delivery->watcher));
    if (kind == 22) check_progress(run);
    if (kind == 23) watch_verify(run->hub);
}

/* Returns whether it came to the turn's end. */
static bool take_turn(struct run *run, bool meddles)
{
    watch_turn_begin(run->hub);
    struct watch_delivery delivery;
    while (watch_next(run->hub, &delivery)) {
        check_delivery(run, &delivery);
        if (!meddles) continue;
        meddle(run, &delivery);
        if (random_chance(&run->random, run->knobs.interrupts)) {
            run->totals.interrupted++;
            return false;
        }
    }
    assert_int_equal(watch_event_count(run->hub), 0);
    return true;
}

static void step(struct run *run)
{
    struct random *random = &run->random;
    if (random_chance(random, run->knobs.compactions)) compact(run);
    if (random_chance(random, run->knobs.replacements)) replace_store(run);
    if (random_chance(random, run->knobs.turns)) {
        if (take_turn(run, true)) assert_int_equal(watch_live_revision(run->hub), run->model.revision);
    }
    uint64_t kind = random_below(random, 100);
    if (kind < 50) {
        change(run);
    } else if (kind < 65) {
        store_compact_step(run->store, random_between(random, 1, 50));
    } else if (kind < 83) {
        step_add(run);
    } else if (kind < 90) {
        step_remove(run);
    } else {
        step_pause(run);
    }
    if (random_chance(random, 50)) {
        check_progress(run);
        watch_verify(run->hub);
        store_verify(run->store);
    }
}

/* All resume; then everybody gets the rest, or is cancelled. */
static void wind_up(struct run *run)
{
    for (unsigned i = 0; i < OWNERS; i++) {
        if (!watch_owner_is_synced(&run->owners[i])) run->totals.missed++;
        watch_owner_resume(run->hub, &run->owners[i]);
    }
    do {
        assert_true(take_turn(run, false));
    } while (watch_has_work(run->hub));
    check_progress(run);
    watch_verify(run->hub);
    assert_int_equal(watch_behind_count(run->hub), 0);
    assert_int_equal(watch_live_revision(run->hub), run->model.revision);
    for (uint32_t i = 0; i < run->watcher_count; i++) {
        struct expectation *expectation = &run->watchers[i];
        if (!expectation->watcher) continue;
        assert_true(expectation->cancelled || watcher_is_synced(expectation->watcher));
        assert_true(expectation->cancelled || !next_asked_for(run, expectation));
        remove_watcher(run, expectation);
    }
    assert_int_equal(watch_watcher_count(run->hub), 0);
    watch_verify(run->hub);
}

/* `prefill` changes come first, so that catching up takes many slices. */
static uint64_t run_seed(uint64_t seed, uint64_t hub_seed, uint32_t key_count, unsigned prefill, unsigned steps,
                         struct totals *totals)
{
    struct run *run = mem_alloc_zero(sizeof *run);
    run->totals = *totals;
    random_seed(&run->random, seed);
    static const uint32_t places[] = {2, 10, WATCHERS_MAX};
    static const unsigned interrupts[] = {0, 20, 300};
    static const unsigned compactions[] = {3, 30, 100};
    static const unsigned turns[] = {20, 200, 500};
    static const unsigned replacements[] = {0, 3, 15};
    run->knobs = (struct knobs){
        .places = places[random_below(&run->random, 3)],
        .interrupts = interrupts[random_below(&run->random, 3)],
        .compactions = compactions[random_below(&run->random, 3)],
        .turns = turns[random_below(&run->random, 3)],
        .replacements = replacements[random_below(&run->random, 3)],
    };
    if (prefill > 0) run->knobs.compactions = 3;
    model_init(&run->model, &run->random, key_count);
    run->store = store_new();
    for (unsigned i = 0; i < prefill; i++) model_change(&run->model, run->store, &run->random);
    run->hub = watch_hub_new(run->store, hub_seed);
    for (unsigned i = 0; i < OWNERS; i++) watch_owner_init(&run->owners[i]);
    for (unsigned i = 0; prefill > 0 && i < 200; i++) step_add(run);
    for (unsigned i = 0; i < steps; i++) step(run);
    wind_up(run);
    watch_hub_free(run->hub);
    /* The hub has left no pin and no reference. */
    if (run->model.compacted_revision < run->model.revision) {
        assert_int_equal(store_compact(run->store, run->model.revision), ERR_OK);
    }
    while (store_compact_step(run->store, 100)) continue;
    store_verify(run->store);
    store_free(run->store);
    model_free(&run->model);
    uint64_t trace = run->trace;
    *totals = run->totals;
    mem_free(run);
    return trace;
}

static void what_comes_is_what_was_asked_for(void **state)
{
    (void)state;
    struct totals totals = {.events = 0};
    for (uint64_t seed = 1; seed <= 200; seed++) run_seed(seed, seed, 2 + (uint32_t)seed % 40, 0, 700, &totals);
    /* The runs did what they are for. */
    assert_true(totals.events > 100000 && totals.deliveries > 20000);
    assert_true(totals.of_many_revisions > 5000 && totals.shared > 1000);
    assert_true(totals.cancelled > 1000 && totals.missed > 100 && totals.future > 1000);
    assert_true(totals.kept_previous > 10000 && totals.lost_previous > 20 && totals.at_compacted > 200);
    assert_true(totals.replaced > 300 && totals.interrupted > 1000);
}

static void long_histories_are_caught_up_in_slices(void **state)
{
    (void)state;
    struct totals totals = {.events = 0};
    for (uint64_t seed = 1000; seed < 1006; seed++) run_seed(seed, seed, 30, 1000, 200, &totals);
    assert_true(totals.events > 20000 && totals.of_many_revisions > 1000);
}

static void nothing_depends_on_hashes(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct totals totals = {.events = 0};
        uint64_t trace = run_seed(seed, 1, 60, 0, 1500, &totals);
        for (uint64_t hub_seed = 2; hub_seed < 4; hub_seed++) {
            assert_true(run_seed(seed, hub_seed, 60, 0, 1500, &totals) == trace);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_comes_is_what_was_asked_for),
        cmocka_unit_test(long_histories_are_caught_up_in_slices),
        cmocka_unit_test(nothing_depends_on_hashes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
