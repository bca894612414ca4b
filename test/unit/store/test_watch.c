#include "store/watch.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "base/mem.h"
#include "store/store_snapshot.h"

#define TEXT(text) bytes_of_string(text)
#define TO_LAST bytes_of("\0", 1)

static struct store *store;
static struct watch_hub *hub;
static struct watch_owner owner;
static struct watch_owner other;

static int begin(void **state)
{
    (void)state;
    store = store_new();
    hub = watch_hub_new(store, 1);
    watch_owner_init(&owner);
    watch_owner_init(&other);
    return 0;
}

static int end(void **state)
{
    (void)state;
    watch_hub_free(hub);
    store_free(store);
    return 0;
}

static store_revision put(const char *key, const char *value)
{
    store_begin(store);
    store_put(store, TEXT(key), TEXT(value), 0, NULL);
    return store_end(store);
}

static store_revision delete_key(const char *key)
{
    store_begin(store);
    assert_true(store_delete(store, TEXT(key), NULL));
    return store_end(store);
}

static void compact(store_revision revision)
{
    assert_int_equal(store_compact(store, revision), ERR_OK);
    while (store_compact_step(store, 10)) continue;
}

static struct watcher *watch_of(struct watch_owner *whose, struct bytes key, struct bytes range_end,
                                store_revision start, unsigned classes)
{
    struct watcher *watcher = NULL;
    struct watch_options options = {key, range_end, start, classes, whose, 0};
    assert_int_equal(watch_add(hub, &options, &watcher), ERR_OK);
    return watcher;
}

static struct watcher *watch_all(store_revision start)
{
    return watch_of(&owner, TEXT(""), TO_LAST, start, WATCH_PREVIOUS);
}

/* One event as "+key=value(previous)@revision"; a deletion begins with a minus. */
static void append_event(struct buffer *out, const struct watch_event *event)
{
    const struct store_record *record = event->record;
    buffer_append_string(out, store_record_is_tombstone(record) ? "-" : "+");
    buffer_append(out, record->data, record->key_bytes);
    if (!store_record_is_tombstone(record)) {
        buffer_append_string(out, "=");
        buffer_append(out, record->data + record->key_bytes, record->value_bytes);
    }
    if (event->previous) {
        buffer_append_string(out, "(");
        buffer_append(out, event->previous->data + event->previous->key_bytes, event->previous->value_bytes);
        buffer_append_string(out, ")");
    }
    buffer_append_format(out, "@%lld", (long long)record->mod_revision);
}

/* The next delivery is this one. */
static void expect(const struct watcher *watcher, const char *events)
{
    struct watch_delivery delivery;
    assert_true(watch_next(hub, &delivery));
    assert_ptr_equal(delivery.watcher, watcher);
    struct buffer text = {.data = NULL};
    if (delivery.compact_revision > 0) {
        buffer_append_format(&text, "compacted %lld", (long long)delivery.compact_revision);
    }
    for (uint32_t i = 0; i < delivery.event_count; i++) {
        if (i > 0) buffer_append_string(&text, " ");
        append_event(&text, watch_event(hub, delivery.events[i]));
    }
    buffer_append_byte(&text, 0);
    assert_string_equal((const char *)text.data, events);
    buffer_free(&text);
    watch_verify(hub);
}

static void expect_nothing(void)
{
    struct watch_delivery delivery;
    assert_false(watch_next(hub, &delivery));
    watch_verify(hub);
}

/* ---- who gets what ---- */

static void a_watcher_gets_the_changes_of_a_turn_in_one_delivery(void **state)
{
    (void)state;
    put("a", "0");
    struct watcher *watcher = watch_of(&owner, TEXT("a"), TEXT(""), 0, WATCH_PREVIOUS);
    watch_turn_begin(hub);
    expect_nothing();
    put("a", "1");
    put("b", "1");
    delete_key("a");
    put("a", "2");
    watch_turn_begin(hub);
    expect(watcher, "+a=1(0)@3 -a(1)@5 +a=2@6");
    expect_nothing();
    assert_int_equal(watch_live_revision(hub), 6);
    watch_remove(hub, watcher);
}

static void keys_ranges_and_their_ends(void **state)
{
    (void)state;
    struct watcher *byte_zero = watch_of(&owner, TEXT(""), TEXT(""), 0, 0);
    struct watcher *from_b = watch_of(&owner, TEXT("b"), TO_LAST, 0, 0);
    struct watcher *a_to_b = watch_of(&owner, TEXT("a"), TEXT("b"), 0, 0);
    struct watcher *b_to_c = watch_of(&owner, TEXT("b"), TEXT("c"), 0, 0);
    put("a", "1");
    put("az", "1");
    put("b", "1");
    put("c", "1");
    store_begin(store);
    store_put(store, bytes_of("\0", 1), TEXT("1"), 0, NULL);
    store_end(store);
    watch_turn_begin(hub);
    expect(a_to_b, "+a=1@2 +az=1@3");
    expect(b_to_c, "+b=1@4");
    expect(from_b, "+b=1@4 +c=1@5");
    struct watch_delivery delivery;
    assert_true(watch_next(hub, &delivery));
    assert_ptr_equal(delivery.watcher, byte_zero);
    assert_int_equal(delivery.event_count, 1);
    expect_nothing();
    struct watcher *all[] = {byte_zero, from_b, a_to_b, b_to_c};
    for (size_t i = 0; i < ARRAY_COUNT(all); i++) watch_remove(hub, all[i]);

    static const char *const empty[][2] = {{"b", "b"}, {"b", "a"}, {"b", "abc"}, {"bb", "b"}};
    for (size_t i = 0; i < ARRAY_COUNT(empty); i++) {
        struct watch_options options = {TEXT(empty[i][0]), TEXT(empty[i][1]), 0, 0, &owner, 0};
        struct watcher *watcher = NULL;
        assert_int_equal(watch_add(hub, &options, &watcher), ERR_BAD_REQUEST);
        assert_null(watcher);
    }
    assert_int_equal(watch_watcher_count(hub), 0);
    assert_int_equal(owner.watcher_count, 0);
}

static void filters_leave_out(void **state)
{
    (void)state;
    struct watcher *puts = watch_of(&owner, TEXT("a"), TEXT("b"), 0, WATCH_NO_DELETE);
    struct watcher *deletes = watch_of(&owner, TEXT("a"), TEXT("b"), 0, WATCH_NO_PUT);
    struct watcher *neither = watch_of(&owner, TEXT("a"), TEXT("b"), 0, WATCH_NO_PUT | WATCH_NO_DELETE);
    put("a", "1");
    delete_key("a");
    watch_turn_begin(hub);
    expect(puts, "+a=1@2");
    expect(deletes, "-a@3");
    expect_nothing();
    /* One that got nothing has caught up all the same. */
    assert_true(watcher_is_synced(neither));
    watch_remove(hub, puts);
    watch_remove(hub, deletes);
    watch_remove(hub, neither);
}

static void watchers_of_the_same_share_their_events(void **state)
{
    (void)state;
    struct watcher *first = watch_of(&owner, TEXT("a"), TEXT("b"), 0, 0);
    struct watcher *with_previous = watch_of(&owner, TEXT("a"), TEXT("b"), 0, WATCH_PREVIOUS);
    struct watcher *second = watch_of(&other, TEXT("a"), TEXT("b"), 0, 0);
    put("a", "1");
    put("a", "2");
    watch_turn_begin(hub);
    struct watch_delivery of_first;
    struct watch_delivery of_second;
    struct watch_delivery of_previous;
    assert_true(watch_next(hub, &of_first) && watch_next(hub, &of_second) && watch_next(hub, &of_previous));
    assert_ptr_equal(of_first.watcher, first);
    assert_ptr_equal(of_second.watcher, second);
    assert_ptr_equal(of_previous.watcher, with_previous);
    assert_int_equal(of_first.batch, of_second.batch);
    assert_int_equal(of_first.group, of_second.group);
    assert_ptr_equal(of_first.events, of_second.events);
    /* Another encoding, but of the same events by number. */
    assert_int_equal(of_first.batch, of_previous.batch);
    assert_int_not_equal(of_first.group, of_previous.group);
    assert_memory_equal(of_first.events, of_previous.events, 2 * sizeof(uint32_t));
    assert_int_equal(watch_event_count(hub), 2);
    expect_nothing();
    watch_remove(hub, first);
    watch_remove(hub, second);
    watch_remove(hub, with_previous);
}

/* ---- starting in the past and in the future ---- */

static void walks_meet_and_go_on_as_one(void **state)
{
    (void)state;
    for (int i = 0; i < 6; i++) put("a", "x");
    struct watcher *early = watch_of(&owner, TEXT("a"), TEXT(""), 2, 0);
    struct watcher *late = watch_of(&other, TEXT("a"), TEXT(""), 5, 0);
    struct watcher *live = watch_of(&other, TEXT("a"), TEXT(""), 0, 0);
    assert_false(watch_owner_is_synced(&owner));
    assert_int_equal(watch_behind_count(hub), 2);
    put("a", "y");
    watch_turn_begin(hub);
    expect(live, "+a=y@8");
    /* The first comes upon the second, and takes it along: the same events, by number, but another list of them. */
    struct watch_delivery of_late;
    struct watch_delivery of_early;
    assert_true(watch_next(hub, &of_early) && watch_next(hub, &of_late));
    assert_ptr_equal(of_early.watcher, early);
    assert_ptr_equal(of_late.watcher, late);
    assert_int_equal(of_early.event_count, 7);
    assert_int_equal(of_late.event_count, 4);
    assert_int_equal(of_early.batch, of_late.batch);
    assert_int_not_equal(of_early.group, of_late.group);
    assert_ptr_equal(of_early.events + 3, of_late.events);
    assert_int_equal(watch_event(hub, of_late.events[0])->record->mod_revision, 5);
    assert_false(watch_owner_is_synced(&owner));
    expect_nothing();
    assert_true(watch_owner_is_synced(&owner) && watch_owner_is_synced(&other));
    watch_remove(hub, early);
    watch_remove(hub, late);
    watch_remove(hub, live);
}

static void the_compacted_revision_itself_can_be_watched(void **state)
{
    (void)state;
    put("a", "1");
    put("b", "1");
    store_begin(store); /* 4 */
    store_put(store, TEXT("a"), TEXT("2"), 0, NULL);
    store_delete(store, TEXT("b"), NULL);
    store_end(store);
    put("a", "3");
    for (int round = 0; round < 2; round++) {
        if (round == 0) {
            assert_int_equal(store_compact(store, 4), ERR_OK);
        } else {
            while (store_compact_step(store, 1)) store_verify(store);
        }
        /* What was replaced there is compacted, freed or not. */
        struct watcher *at = watch_all(4);
        struct watcher *below = watch_all(3);
        struct watcher *lowest = watch_all(1);
        watch_turn_begin(hub);
        expect(lowest, "compacted 4");
        expect(below, "compacted 4");
        expect(at, "+a=2@4 -b@4 +a=3(2)@5");
        expect_nothing();
        assert_true(watch_owner_is_synced(&owner));
        assert_false(watcher_is_synced(below));
        watch_remove(hub, at);
        watch_remove(hub, below);
        watch_remove(hub, lowest);
    }
}

static void it_can_be_watched_after_a_snapshot(void **state)
{
    (void)state;
    put("a", "1");
    delete_key("a");
    put("b", "1");
    compact(3);
    struct buffer payload = {.data = NULL};
    struct store_snapshot_writer writer;
    store_snapshot_begin(store, &writer);
    while (!writer.done) store_snapshot_next(store, &writer, 1, &payload);
    store_snapshot_end(store, &writer);
    struct store *loaded = store_new();
    struct store_loader *loader = store_loader_new(loaded, 4, 3);
    assert_int_equal(store_loader_feed(loader, buffer_bytes(&payload)), ERR_OK);
    assert_int_equal(store_loader_finish(loader), ERR_OK);
    buffer_free(&payload);
    store_free(store);
    store = loaded;
    watch_hub_store_replaced(hub, store);
    assert_false(store_compact_step(store, 1));
    struct watcher *watcher = watch_all(3);
    watch_turn_begin(hub);
    expect(watcher, "-a@3 +b=1@4");
    expect_nothing();
    watch_remove(hub, watcher);
    /* The next compaction takes it away. */
    compact(4);
    assert_int_equal(store_key_count(store), 1);
    store_verify(store);
}

static void one_that_starts_ahead_waits(void **state)
{
    (void)state;
    struct watcher *at5 = watch_all(5);
    struct watcher *at4 = watch_all(4);
    struct watcher *now = watch_all(0);
    assert_true(watch_owner_is_synced(&owner));
    put("a", "1");
    watch_turn_begin(hub);
    expect(now, "+a=1@2");
    expect_nothing();
    for (int i = 3; i <= 6; i++) put("a", "2");
    watch_turn_begin(hub);
    expect(now, "+a=2(1)@3");
    expect(now, "+a=2(2)@4");
    expect(at4, "+a=2(2)@4");
    expect(now, "+a=2(2)@5 +a=2(2)@6");
    expect(at4, "+a=2(2)@5 +a=2(2)@6");
    expect(at5, "+a=2(2)@5 +a=2(2)@6");
    expect_nothing();
    watch_remove(hub, at5);
    watch_remove(hub, at4);
    watch_remove(hub, now);
}

static void no_live_event_is_lost_to_a_compaction(void **state)
{
    (void)state;
    put("a", "1");
    struct watcher *watcher = watch_all(0);
    struct watcher *ahead = watch_all(5);
    watch_turn_begin(hub);
    expect_nothing();
    put("a", "2");
    delete_key("a");
    put("a", "3");
    put("a", "4");
    compact(6);
    watch_turn_begin(hub);
    expect(watcher, "+a=2(1)@3 -a(2)@4");
    expect(watcher, "+a=3@5 +a=4(3)@6");
    expect(ahead, "+a=3@5 +a=4(3)@6");
    expect_nothing();
    /* Now it may go. */
    uint64_t before = store_memory_bytes(store);
    while (store_compact_step(store, 10)) continue;
    assert_true(store_memory_bytes(store) < before);
    watch_remove(hub, watcher);
    watch_remove(hub, ahead);
}

/* ---- back-pressure ---- */

static void a_paused_owner_gets_it_later(void **state)
{
    (void)state;
    struct watcher *slow = watch_all(0);
    struct watcher *quick = watch_of(&other, TEXT(""), TO_LAST, 0, WATCH_PREVIOUS);
    put("a", "1");
    watch_owner_pause(&owner);
    watch_turn_begin(hub);
    expect(quick, "+a=1@2");
    expect_nothing();
    put("a", "2");
    watch_turn_begin(hub);
    expect(quick, "+a=2(1)@3");
    expect_nothing();
    assert_false(watch_owner_is_synced(&owner));
    assert_true(watch_owner_is_synced(&other));
    assert_false(watch_has_work(hub));
    watch_owner_resume(hub, &owner);
    assert_true(watch_has_work(hub));
    put("a", "3");
    watch_turn_begin(hub);
    expect(quick, "+a=3(2)@4");
    expect(slow, "+a=1@2 +a=2(1)@3 +a=3(2)@4");
    expect_nothing();
    assert_true(watch_owner_is_synced(&owner));
    /* One that missed nothing while it was paused is live all the time. */
    watch_owner_pause(&owner);
    watch_turn_begin(hub);
    expect_nothing();
    assert_true(watch_owner_is_synced(&owner));
    watch_owner_resume(hub, &owner);
    /* History that is gone when it resumes. */
    watch_owner_pause(&owner);
    put("a", "4");
    put("a", "5");
    watch_turn_begin(hub);
    expect(quick, "+a=4(3)@5 +a=5(4)@6");
    expect_nothing();
    compact(6);
    watch_owner_resume(hub, &owner);
    watch_turn_begin(hub);
    expect(slow, "compacted 6");
    expect_nothing();
    watch_remove(hub, slow);
    watch_remove(hub, quick);
}

static void a_pause_counts_at_once(void **state)
{
    (void)state;
    struct watcher *first = watch_all(0);
    struct watcher *second = watch_all(0);
    put("a", "1");
    watch_turn_begin(hub);
    expect(first, "+a=1@2");
    watch_owner_pause(&owner);
    expect_nothing();
    assert_true(watcher_is_synced(first));
    assert_false(watcher_is_synced(second));
    watch_owner_resume(hub, &owner);
    watch_turn_begin(hub);
    expect(second, "+a=1@2");
    expect_nothing();
    watch_remove(hub, first);
    watch_remove(hub, second);
}

static void a_turn_broken_off_goes_on(void **state)
{
    (void)state;
    for (int i = 0; i < 300; i++) put("a", "x");
    struct watcher *watcher = watch_of(&owner, TEXT("a"), TEXT(""), 2, 0);
    watch_turn_begin(hub);
    struct watch_delivery delivery;
    assert_true(watch_next(hub, &delivery));
    assert_int_equal(delivery.event_count, WATCH_SLICE_RECORDS_MIN);
    /* Its events stay, whatever becomes of the store. */
    put("a", "y");
    put("a", "z");
    compact(store_current_revision(store));
    for (uint32_t i = 0; i < delivery.event_count; i++) {
        assert_int_equal(watch_event(hub, delivery.events[i])->record->mod_revision, 2 + i);
    }
    expect(watcher, "compacted 303");
    expect_nothing();
    watch_remove(hub, watcher);

    /* Nor does one that had come to the end when the history went on become live where that is gone. */
    put("a", "1");
    watcher = watch_of(&owner, TEXT("a"), TEXT(""), 304, 0);
    watch_turn_begin(hub);
    expect(watcher, "+a=1@304");
    put("a", "2");
    put("a", "3");
    put("a", "4");
    compact(307);
    expect(watcher, "compacted 307");
    expect_nothing();
    watch_remove(hub, watcher);
}

static void watchers_go_amid_a_turn(void **state)
{
    (void)state;
    struct watcher *watchers[4];
    for (size_t i = 0; i < 4; i++) watchers[i] = watch_all(0);
    put("a", "1");
    watch_turn_begin(hub);
    expect(watchers[0], "+a=1@2");
    watch_remove(hub, watchers[0]);
    watch_remove(hub, watchers[1]);
    struct watcher *late = watch_all(0);
    expect(watchers[2], "+a=1@2");
    watch_remove(hub, watchers[3]);
    expect_nothing();
    put("a", "2");
    watch_turn_begin(hub);
    expect(watchers[2], "+a=2(1)@3");
    expect(late, "+a=2(1)@3");
    watch_remove(hub, watchers[2]);
    watch_remove(hub, late);
    assert_int_equal(watch_watcher_count(hub), 0);
    /* What is left of the turn is the hub's own to clean up. */
}

/* ---- another store ---- */

static void an_older_store_brings_nothing_again(void **state)
{
    (void)state;
    struct watcher *watcher = watch_all(0);
    struct watcher *ahead = watch_all(9);
    for (int i = 2; i <= 5; i++) put("a", "x");
    watch_turn_begin(hub);
    expect(watcher, "+a=x@2 +a=x(x)@3 +a=x(x)@4 +a=x(x)@5");
    expect_nothing();
    store_free(store);
    store = store_new();
    put("b", "1");
    watch_hub_store_replaced(hub, store);
    watch_verify(hub);
    for (int i = 3; i <= 5; i++) put("b", "2");
    watch_turn_begin(hub);
    expect_nothing();
    put("b", "3");
    watch_turn_begin(hub);
    expect(watcher, "+b=3(2)@6");
    expect_nothing();
    for (int i = 7; i <= 9; i++) put("b", "4");
    watch_turn_begin(hub);
    expect(watcher, "+b=4(3)@7 +b=4(4)@8");
    expect(watcher, "+b=4(4)@9");
    expect(ahead, "+b=4(4)@9");
    expect_nothing();
    watch_remove(hub, watcher);
    watch_remove(hub, ahead);
}

static void a_store_without_the_history_cancels(void **state)
{
    (void)state;
    put("a", "1");
    struct watcher *live = watch_all(0);
    struct watcher *ahead = watch_all(5);
    watch_turn_begin(hub);
    expect_nothing();
    store_free(store);
    store = store_new();
    for (int i = 2; i <= 6; i++) put("a", "x");
    compact(5);
    watch_hub_store_replaced(hub, store);
    watch_turn_begin(hub);
    expect(live, "compacted 5");
    expect(ahead, "+a=x@5 +a=x(x)@6");
    expect_nothing();
    watch_remove(hub, live);
    watch_remove(hub, ahead);
}

/* ---- limits ---- */

static void a_batch_has_limits_but_a_revision_is_whole(void **state)
{
    (void)state;
    struct watcher *watcher = watch_all(0);
    struct watch_delivery delivery;
    for (uint32_t i = 0; i < WATCH_BATCH_EVENTS_MAX + 1; i++) put("a", "x");
    watch_turn_begin(hub);
    assert_true(watch_next(hub, &delivery));
    assert_int_equal(delivery.event_count, WATCH_BATCH_EVENTS_MAX);
    assert_true(watch_next(hub, &delivery));
    assert_int_equal(delivery.event_count, 1);
    expect_nothing();

    char key[16] = "k0000000";
    store_begin(store);
    for (uint32_t i = 0; i < 5 * WATCH_BATCH_EVENTS_MAX; i++) {
        for (uint32_t at = 7, rest = i; at > 0; at--, rest /= 10) key[at] = (char)('0' + rest % 10);
        store_put(store, TEXT(key), TEXT("v"), 0, NULL);
    }
    store_end(store);
    put("a", "y");
    watch_turn_begin(hub);
    assert_true(watch_next(hub, &delivery));
    assert_int_equal(delivery.event_count, 5 * WATCH_BATCH_EVENTS_MAX);
    assert_true(watch_next(hub, &delivery));
    assert_int_equal(delivery.event_count, 1);
    expect_nothing();
    /* What the large one needed is given back. */
    assert_true(watch_memory_bytes(hub) < 100000);

    /* By bytes: each event counts with what it replaced. */
    uint8_t *value = mem_alloc_zero(300000);
    for (int i = 0; i < 5; i++) {
        store_begin(store);
        store_put(store, TEXT("big"), bytes_of(value, 300000), 0, NULL);
        store_end(store);
    }
    mem_free(value);
    watch_turn_begin(hub);
    static const uint32_t counts[] = {3, 2};
    for (size_t i = 0; i < ARRAY_COUNT(counts); i++) {
        assert_true(watch_next(hub, &delivery));
        assert_int_equal(delivery.event_count, counts[i]);
    }
    expect_nothing();
    watch_remove(hub, watcher);
}

static void those_behind_take_turns_within_a_budget(void **state)
{
    (void)state;
    enum { RECORDS = 20000 };
    for (uint32_t i = 0; i < RECORDS; i++) put(i % 2 ? "a" : "b", "x");
    struct watcher *a = watch_of(&owner, TEXT("a"), TEXT(""), 2, 0);
    struct watcher *b = watch_of(&other, TEXT("b"), TEXT(""), 3000, 0);
    uint32_t got_a = 0;
    uint32_t got_b = 0;
    uint32_t turns = 0;
    do {
        uint32_t before = got_a + got_b;
        struct watch_delivery delivery;
        watch_turn_begin(hub);
        while (watch_next(hub, &delivery)) {
            *(delivery.watcher == a ? &got_a : &got_b) += delivery.event_count;
            assert_true(delivery.event_count <= WATCH_SLICE_RECORDS_MIN);
        }
        /* They share what a turn gives; neither waits for the other. */
        if (turns == 0) {
            assert_int_equal(got_a, got_b);
            assert_true(watch_has_work(hub));
        }
        assert_true(got_a + got_b - before <= WATCH_TURN_RECORDS_MAX);
        turns++;
    } while (watch_has_work(hub));
    assert_int_equal(got_a, RECORDS / 2);
    assert_int_equal(got_b, (RECORDS - 2998) / 2);
    /* The second's part of history was walked once for each of the two, since they never met. */
    assert_in_range(turns, (2 * RECORDS - 3000) / WATCH_TURN_RECORDS_MAX, 12);
    watch_remove(hub, a);
    watch_remove(hub, b);
}

static void many_behind_share_one_walk(void **state)
{
    (void)state;
    enum { RECORDS = 3000, WATCHERS = 1000 };
    static struct watcher *watchers[WATCHERS];
    for (uint32_t i = 0; i < RECORDS; i++) put("a", "x");
    for (uint32_t i = 0; i < WATCHERS; i++) watchers[i] = watch_of(&owner, TEXT("a"), TEXT(""), 2 + i, 0);
    uint64_t batch = 0;
    uint64_t batches = 0;
    uint64_t events = 0;
    struct watch_delivery delivery;
    do {
        watch_turn_begin(hub);
        while (watch_next(hub, &delivery)) {
            batches += delivery.batch != batch;
            batch = delivery.batch;
            events += delivery.event_count;
        }
    } while (watch_has_work(hub));
    assert_int_equal(events, (uint64_t)WATCHERS * RECORDS - (uint64_t)WATCHERS * (WATCHERS - 1) / 2);
    /* History once. */
    assert_int_equal(batches, (RECORDS + WATCH_SLICE_RECORDS_MIN - 1) / WATCH_SLICE_RECORDS_MIN);
    for (uint32_t i = 0; i < WATCHERS; i++) watch_remove(hub, watchers[i]);
}

static void a_watcher_takes_less_than_300_bytes(void **state)
{
    (void)state;
    enum { WATCHERS = 100000 };
    struct watcher **watchers = mem_alloc(WATCHERS * sizeof(struct watcher *));
    uint64_t empty = watch_memory_bytes(hub);
    char key[65];
    memset(key, 'k', sizeof key);
    key[64] = 0;
    for (uint32_t i = 0; i < WATCHERS; i++) {
        for (uint32_t at = 63, rest = i; rest > 0; at--, rest /= 10) key[at] = (char)('0' + rest % 10);
        watchers[i] = watch_of(&owner, TEXT(key), TEXT(""), 0, 0);
    }
    assert_true((watch_memory_bytes(hub) - empty) / WATCHERS <= 300);
    watch_verify(hub);
    /* The last one is found among them, and only it. */
    put(key, "v");
    watch_turn_begin(hub);
    struct watch_delivery delivery;
    assert_true(watch_next(hub, &delivery));
    assert_ptr_equal(delivery.watcher, watchers[WATCHERS - 1]);
    expect_nothing();
    for (uint32_t i = 0; i < WATCHERS; i++) watch_remove(hub, watchers[i]);
    assert_true(watch_memory_bytes(hub) < empty + 10000);
    mem_free(watchers);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_watcher_gets_the_changes_of_a_turn_in_one_delivery),
        TEST(keys_ranges_and_their_ends),
        TEST(filters_leave_out),
        TEST(watchers_of_the_same_share_their_events),
        TEST(walks_meet_and_go_on_as_one),
        TEST(the_compacted_revision_itself_can_be_watched),
        TEST(it_can_be_watched_after_a_snapshot),
        TEST(one_that_starts_ahead_waits),
        TEST(no_live_event_is_lost_to_a_compaction),
        TEST(a_paused_owner_gets_it_later),
        TEST(a_pause_counts_at_once),
        TEST(a_turn_broken_off_goes_on),
        TEST(watchers_go_amid_a_turn),
        TEST(an_older_store_brings_nothing_again),
        TEST(a_store_without_the_history_cancels),
        TEST(a_batch_has_limits_but_a_revision_is_whole),
        TEST(those_behind_take_turns_within_a_budget),
        TEST(many_behind_share_one_walk),
        TEST(a_watcher_takes_less_than_300_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
