/* The box between members: frames are whole whatever the cuts, nothing passes twice or never but by its rules. */
#include "sim/sim_middle_box.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

#define FRAMES 200u

static struct sim_box *box;
static struct random dice;
static struct sim_box_counters counters;
static struct buffer out;

static void set_up(uint64_t seed)
{
    box = sim_box_new();
    random_seed(&dice, seed);
    counters = (struct sim_box_counters){0};
}

static void tear_down(void)
{
    sim_box_free(box);
    buffer_free(&out);
}

static void make_frame(uint64_t term, struct buffer *frame)
{
    struct peer_message message = {.type = PEER_APPEND_REPLY, .from = 1, .to = 2, .term = term};
    peer_message_encode(&message, frame);
}

/* Feeds frames of the terms 1 to FRAMES, cut anywhere. */
static void feed(const struct sim_box_rules *rules)
{
    struct buffer all = {0};
    for (uint64_t term = 1; term <= FRAMES; term++) make_frame(term, &all);
    for (size_t at = 0; at < all.size;) {
        size_t part = (size_t)random_between(&dice, 1, 40);
        if (part > all.size - at) part = all.size - at;
        sim_box_take(box, rules, &dice, 0, bytes_of(all.data + at, part), &out, &counters);
        at += part;
    }
    buffer_free(&all);
    assert_int_equal(counters.frames, FRAMES);
}

/* The terms that came out, in order; returns how many. */
static size_t terms(uint64_t *list, size_t limit)
{
    struct bytes rest = buffer_bytes(&out);
    size_t count = 0, size;
    struct peer_frame frame;
    while (peer_frame_next(rest, &frame, &size) == ERR_OK) {
        struct peer_message message;
        assert_int_equal(peer_message_decode(&frame, &message), ERR_OK);
        assert_true(count < limit);
        list[count++] = message.term;
        peer_message_release(&message);
        rest = bytes_of(rest.data + size, rest.size - size);
    }
    assert_int_equal(rest.size, 0);
    return count;
}

static void test_without_rules_all_passes_in_order(void **state)
{
    (void)state;
    set_up(1);
    struct sim_box_rules rules = {0};
    uint64_t list[FRAMES];
    feed(&rules);
    assert_int_equal(terms(list, FRAMES), FRAMES);
    for (size_t i = 0; i < FRAMES; i++) assert_int_equal(list[i], i + 1);
    assert_int_equal(sim_box_deadline(box), TIME_NS_NEVER);
    tear_down();
}

static void test_dropped_frames_are_missing_and_the_others_in_order(void **state)
{
    (void)state;
    set_up(2);
    struct sim_box_rules rules = {.drop = 300};
    uint64_t list[FRAMES];
    feed(&rules);
    size_t count = terms(list, FRAMES);
    assert_int_equal(count + counters.dropped, FRAMES);
    assert_in_range(counters.dropped, 30, 90);
    for (size_t i = 1; i < count; i++) assert_true(list[i] > list[i - 1]);
    tear_down();
}

static void test_rules_for_some_frames_spare_the_others(void **state)
{
    (void)state;
    static const enum sim_box_frames kinds[] = {SIM_BOX_LOADED, SIM_BOX_BARE, SIM_BOX_APPENDS};
    for (size_t i = 0; i < ARRAY_COUNT(kinds); i++) {
        set_up(5);
        struct sim_box_rules rules = {.drop = 1000, .frames = kinds[i]};
        struct peer_message loaded = {
            .type = PEER_SNAPSHOT, .from = 1, .to = 2, .term = 7, .total = 3, .data = bytes_of("abc", 3)};
        struct buffer frames = {0};
        struct peer_message heartbeat = {.type = PEER_APPEND, .from = 1, .to = 2, .term = 8};
        static const uint64_t passed[][3] = {{6, 8}, {7}, {6, 7}};
        uint64_t list[3] = {0};
        make_frame(6, &frames);
        peer_message_encode(&loaded, &frames);
        peer_message_encode(&heartbeat, &frames);
        sim_box_take(box, &rules, &dice, 0, buffer_bytes(&frames), &out, &counters);
        assert_int_equal(terms(list, 3), kinds[i] == SIM_BOX_BARE ? 1 : 2);
        assert_memory_equal(list, passed[i], sizeof list);
        buffer_free(&frames);
        tear_down();
    }
}

static void test_duplicates_come_at_once_or_later(void **state)
{
    (void)state;
    set_up(3);
    struct sim_box_rules rules = {.duplicate = 500, .hold_max = 1000};
    uint64_t list[2 * FRAMES];
    unsigned seen[FRAMES + 1] = {0};
    feed(&rules);
    size_t at_once = terms(list, 2 * FRAMES);
    assert_true(at_once > FRAMES && at_once < FRAMES + counters.duplicated);
    assert_in_range(sim_box_deadline(box), 0, 1000);
    sim_box_release(box, 1000, false, &out);
    assert_int_equal(sim_box_deadline(box), TIME_NS_NEVER);
    size_t count = terms(list, 2 * FRAMES);
    assert_int_equal(count, FRAMES + counters.duplicated);
    for (size_t i = 0; i < count; i++) seen[list[i]]++;
    for (size_t i = 1; i <= FRAMES; i++) assert_in_range(seen[i], 1, 2);
    tear_down();
}

static void test_held_frames_come_when_they_are_due(void **state)
{
    (void)state;
    set_up(4);
    struct sim_box_rules rules = {.hold = 500, .hold_min = 400, .hold_max = 1000};
    uint64_t list[FRAMES];
    feed(&rules);
    assert_int_equal(terms(list, FRAMES) + counters.held, FRAMES);
    assert_in_range(sim_box_deadline(box), 400, 1000);
    while (sim_box_deadline(box) != TIME_NS_NEVER) {
        time_ns due = sim_box_deadline(box);
        size_t before = terms(list, FRAMES);
        sim_box_release(box, due - 1, false, &out);
        assert_int_equal(terms(list, FRAMES), before);
        sim_box_release(box, due, false, &out);
        assert_true(terms(list, FRAMES) > before);
    }
    assert_int_equal(terms(list, FRAMES), FRAMES);
    tear_down();
}

static void test_swapped_frames_change_places_and_none_is_lost(void **state)
{
    (void)state;
    set_up(5);
    struct sim_box_rules rules = {.swap = 300};
    uint64_t list[FRAMES];
    unsigned seen[FRAMES + 1] = {0}, backwards = 0;
    feed(&rules);
    sim_box_release(box, 0, true, &out);
    size_t count = terms(list, FRAMES);
    assert_int_equal(count, FRAMES);
    for (size_t i = 0; i < count; i++) {
        seen[list[i]]++;
        if (i > 0 && list[i] < list[i - 1]) backwards++;
    }
    for (size_t i = 1; i <= FRAMES; i++) assert_int_equal(seen[i], 1);
    assert_true(backwards > 20);
    tear_down();
}

static void test_greetings_are_spared_and_say_another_version(void **state)
{
    (void)state;
    set_up(6);
    struct peer_greeting greeting = {.version_min = 1, .version_max = 1, .member = 9, .node_id = "node-1"}, changed;
    struct sim_box_rules rules = {.drop = 1000, .version_min = 2, .version_max = 4};
    struct buffer frame = {0};
    struct peer_frame back;
    size_t size;
    peer_greeting_encode(&greeting, &frame);
    sim_box_take(box, &rules, &dice, 0, buffer_bytes(&frame), &out, &counters);
    assert_int_equal(peer_frame_next(buffer_bytes(&out), &back, &size), ERR_OK);
    assert_int_equal(peer_greeting_decode(&back, &changed), ERR_OK);
    assert_true(changed.version_min == 2 && changed.version_max == 4 && changed.member == 9);
    assert_true(counters.greetings_changed == 1 && counters.dropped == 0);
    buffer_clear(&out);
    rules.greetings_too = true;
    sim_box_take(box, &rules, &dice, 0, buffer_bytes(&frame), &out, &counters);
    assert_true(out.size == 0 && counters.dropped == 1);
    buffer_free(&frame);
    tear_down();
}

static void test_what_is_no_frame_passes_as_it_is(void **state)
{
    (void)state;
    set_up(7);
    struct sim_box_rules rules = {.drop = 1000};
    static const char text[] = "GET / HTTP/1.1 and so on, long enough to be looked at";
    sim_box_take(box, &rules, &dice, 0, bytes_of((const uint8_t *)text, sizeof text), &out, &counters);
    assert_int_equal(out.size, sizeof text);
    assert_memory_equal(out.data, text, sizeof text);
    tear_down();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_rules_all_passes_in_order),
        cmocka_unit_test(test_dropped_frames_are_missing_and_the_others_in_order),
        cmocka_unit_test(test_rules_for_some_frames_spare_the_others),
        cmocka_unit_test(test_duplicates_come_at_once_or_later),
        cmocka_unit_test(test_held_frames_come_when_they_are_due),
        cmocka_unit_test(test_swapped_frames_change_places_and_none_is_lost),
        cmocka_unit_test(test_greetings_are_spared_and_say_another_version),
        cmocka_unit_test(test_what_is_no_frame_passes_as_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
