/* Simulated time: order, cancelling, pauses, and that a seed gives one trace. */
#include "sim/sim_loop.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define EVENT_COUNT 500

struct item {
    struct sim_event event;
    unsigned number;
};

static struct item items[EVENT_COUNT];
static unsigned ran[EVENT_COUNT * 4];
static unsigned ran_count;

static void record(struct sim_event *event)
{
    ran[ran_count++] = ((struct item *)event)->number;
}

static void prepare(unsigned process)
{
    ran_count = 0;
    for (unsigned i = 0; i < EVENT_COUNT; i++) {
        items[i] =
            (struct item){.event = {.run = record, .kind = SIM_EVENT_OTHER, .process = (uint16_t)process}, .number = i};
    }
}

static void test_events_run_in_order_of_time_then_of_scheduling(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct sim_world world;
        struct random random;
        time_ns at[EVENT_COUNT];
        unsigned order[EVENT_COUNT], rank = 0;
        sim_world_init(&world, seed);
        random_seed(&random, seed);
        prepare(SIM_NO_PROCESS);
        for (unsigned i = 0; i < EVENT_COUNT; i++) {
            at[i] = (time_ns)random_below(&random, 50);
            sim_world_schedule(&world, &items[i].event, at[i]);
        }
        /* Moving an event counts as scheduling it anew; a cancelled one never runs. */
        for (unsigned i = 0; i < EVENT_COUNT; i++) order[i] = rank++;
        for (unsigned k = 0; k < 200; k++) {
            unsigned i = (unsigned)random_below(&random, EVENT_COUNT);
            if (random_chance(&random, 300)) {
                sim_world_cancel(&world, &items[i].event);
                at[i] = -1;
            } else {
                at[i] = (time_ns)random_below(&random, 50);
                order[i] = rank++;
                sim_world_schedule(&world, &items[i].event, at[i]);
            }
        }
        unsigned expected = 0;
        for (unsigned i = 0; i < EVENT_COUNT; i++) {
            if (at[i] >= 0) expected++;
        }
        while (sim_world_step(&world, 1000)) {}
        assert_int_equal(ran_count, expected);
        for (unsigned i = 1; i < ran_count; i++) {
            unsigned a = ran[i - 1], b = ran[i];
            assert_true(at[a] < at[b] || (at[a] == at[b] && order[a] < order[b]));
        }
        assert_int_equal(world.now, 1000);
        sim_world_free(&world);
    }
}

static void test_a_paused_node_stands_still_and_others_go_on(void **state)
{
    (void)state;
    struct sim_world world;
    sim_world_init(&world, 1);
    prepare(2);
    items[3].event.process = 1;
    for (unsigned i = 0; i < 4; i++) sim_world_schedule(&world, &items[i].event, 10 + (time_ns)i);
    sim_world_pause(&world, 2, 100);
    assert_true(sim_world_step(&world, 50));
    assert_int_equal(ran[0], 3);
    assert_false(sim_world_step(&world, 50));
    while (sim_world_step(&world, 100)) {}
    assert_int_equal(ran_count, 4);
    for (unsigned i = 0; i < 3; i++) assert_int_equal(ran[1 + i], i); /* in the order they had */
    sim_world_free(&world);
}

static unsigned timer_count, turn_count;
static struct sim_loop *timed;
static time_ns timer_deadline;

static void timer_fired(void *user)
{
    (void)user;
    timer_count++;
    assert_true(loop_now(&timed->loop) >= timer_deadline);
    assert_true(loop_now(&timed->loop) < timer_deadline + 10);
}

static void turn_ended(void *user)
{
    (void)user;
    turn_count++;
}

static const struct loop_handler handler = {.timer = timer_fired, .turn_end = turn_ended};

static void test_a_timer_fires_once_by_the_nodes_own_clock(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        struct sim_world world;
        struct sim_loop loop;
        sim_world_init(&world, seed);
        sim_loop_init(&loop, &world, 0);
        timed = &loop;
        loop_attach(&loop.loop, &handler, NULL);
        timer_count = turn_count = 0;
        time_ns start = loop_now(&loop.loop);
        loop_set_timer(&loop.loop, start + 5 * TIME_NS_PER_S);
        timer_deadline = start + 3 * TIME_NS_PER_S;
        loop_set_timer(&loop.loop, timer_deadline); /* replaces the first */
        while (sim_world_step(&world, 10 * TIME_NS_PER_S)) {}
        assert_int_equal(timer_count, 1);
        assert_true(turn_count >= 1 && turn_count <= 2); /* of attaching, and of the timer */
        /* Its clock differs from the world's by its drift and no more. */
        time_ns elapsed = loop_now(&loop.loop) - start;
        time_ns drift = elapsed - 10 * TIME_NS_PER_S;
        assert_true(drift <= 10 * SIM_DRIFT_PPM_MAX * 1000 && drift >= -10 * SIM_DRIFT_PPM_MAX * 1000);
        loop_set_timer(&loop.loop, loop_now(&loop.loop) + TIME_NS_PER_S);
        loop_set_timer(&loop.loop, TIME_NS_NEVER);
        assert_false(sim_world_step(&world, 20 * TIME_NS_PER_S));
        /* After a restart the clock is further on, never back. */
        time_ns before = loop_now(&loop.loop);
        sim_loop_detach(&loop);
        assert_true(loop_now(&loop.loop) >= before);
        sim_world_free(&world);
    }
}

static uint64_t trace_of(uint64_t seed, time_ns shift)
{
    struct sim_world world;
    sim_world_init(&world, seed);
    prepare(SIM_NO_PROCESS);
    for (unsigned i = 0; i < EVENT_COUNT; i++) sim_world_schedule(&world, &items[i].event, (time_ns)i + shift);
    while (sim_world_step(&world, 1000)) {}
    uint64_t hash = world.trace_hash;
    sim_world_free(&world);
    return hash;
}

static void test_the_trace_hash_tells_runs_apart(void **state)
{
    (void)state;
    assert_true(trace_of(7, 0) == trace_of(7, 0));
    assert_true(trace_of(7, 0) != trace_of(8, 0));
    assert_true(trace_of(7, 0) != trace_of(7, 1));
}

static void test_parts_draw_from_generators_of_their_own(void **state)
{
    (void)state;
    struct sim_world world;
    struct random a, b, c, d;
    sim_world_init(&world, 1);
    sim_world_random(&world, "disk", 1, &a);
    sim_world_random(&world, "disk", 1, &b);
    sim_world_random(&world, "disk", 2, &c);
    sim_world_random(&world, "net", 1, &d);
    uint64_t value = random_u64(&a);
    assert_true(value == random_u64(&b));
    assert_true(value != random_u64(&c));
    assert_true(value != random_u64(&d));
    sim_world_free(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events_run_in_order_of_time_then_of_scheduling),
        cmocka_unit_test(test_a_paused_node_stands_still_and_others_go_on),
        cmocka_unit_test(test_a_timer_fires_once_by_the_nodes_own_clock),
        cmocka_unit_test(test_the_trace_hash_tells_runs_apart),
        cmocka_unit_test(test_parts_draw_from_generators_of_their_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
