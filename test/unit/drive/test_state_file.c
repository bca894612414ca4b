/* The raft state's file: what was reported as saved is there, whatever happens. */
#include "drive/state_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "disk_rig.h"
#include "drive/slot_file.h"

#define PATH "/data/state/raft"

static struct rig rig;
static struct state_file *file;
static uint64_t saved_number; /* the last that was reported */
static unsigned saved_count, failed_count, repaired_count;
static char failed_text[512];

static void on_saved(void *user, uint64_t number)
{
    assert_ptr_equal(user, &rig);
    assert_int_equal(failed_count, 0);
    saved_number = number;
    saved_count++;
}

static void on_failed(void *user, const char *text)
{
    assert_ptr_equal(user, &rig);
    failed_count++;
    snprintf(failed_text, sizeof failed_text, "%s", text);
}

static void on_repaired(void *user)
{
    assert_ptr_equal(user, &rig);
    repaired_count++;
}

static const struct state_file_handler handler = {.saved = on_saved, .failed = on_failed, .repaired = on_repaired};

static void open_state(void)
{
    file = state_file_new(PATH, &rig.disk.disk, &rig.queue, &rig.logger, &handler, &rig);
    saved_number = 0;
    saved_count = 0;
    failed_count = 0;
    repaired_count = 0;
}

static void restart(bool power_loss)
{
    state_file_free(file);
    rig_restart(&rig, power_loss);
    open_state();
}

static void set_up(uint64_t seed)
{
    rig_init(&rig, seed);
    open_state();
}

static void tear_down(void)
{
    state_file_free(file);
    rig_free(&rig);
}

/* Every field says which save it is of, so that a mix of two is noticed. */
static struct raft_state state_of(uint64_t number)
{
    struct raft_state state = {
        .cluster_id = number * 3,
        .member = 77,
        .founding_nonce = number * 5,
        .log_id = number * 7,
        .term = number,
        .vote = number * 11,
        .incarnation = number * 13,
        .no_vote_before_term = number * 17,
        .catching_up = number % 2 == 1,
    };
    snprintf(state.node_id, sizeof state.node_id, "node-%llu", (unsigned long long)number);
    return state;
}

static void assert_state(const struct raft_state *state, uint64_t number)
{
    struct raft_state expected = state_of(number);
    assert_int_equal(state->term, number);
    assert_int_equal(state->cluster_id, expected.cluster_id);
    assert_int_equal(state->member, expected.member);
    assert_int_equal(state->founding_nonce, expected.founding_nonce);
    assert_int_equal(state->log_id, expected.log_id);
    assert_int_equal(state->vote, expected.vote);
    assert_int_equal(state->incarnation, expected.incarnation);
    assert_int_equal(state->no_vote_before_term, expected.no_vote_before_term);
    assert_int_equal(state->catching_up, expected.catching_up);
    assert_string_equal(state->node_id, expected.node_id);
}

static uint64_t load(void)
{
    struct raft_state state;
    char text[512] = "";
    enum error error = state_file_load(file, &state, text);
    if (error == ERR_NO_FILE) return 0;
    if (error != ERR_OK) print_message("load: %s\n", text);
    assert_int_equal(error, ERR_OK);
    assert_state(&state, state.term);
    return state.term;
}

static enum error save_now(uint64_t number)
{
    struct raft_state state = state_of(number);
    char text[512] = "";
    enum error error = state_file_save_now(file, &state, text);
    assert_int_equal(error != ERR_OK, text[0] != 0);
    return error;
}

static void save(uint64_t number)
{
    struct raft_state state = state_of(number);
    state_file_save(file, &state, number);
}

static void test_saves_and_loads(void **unused)
{
    (void)unused;
    set_up(1);
    assert_int_equal(load(), 0);
    assert_int_equal(save_now(1), ERR_OK);
    restart(true);
    assert_int_equal(load(), 1);
    save(2);
    assert_false(state_file_idle(file));
    assert_int_equal(saved_count, 0); /* not before it ran */
    rig_run(&rig);
    assert_true(state_file_idle(file));
    assert_int_equal(saved_number, 2);
    save(3);
    rig_run(&rig);
    assert_int_equal(saved_count, 2);
    restart(true);
    assert_int_equal(load(), 3);
    assert_false(rig_exists(&rig, PATH ".tmp"));
    assert_int_equal(rig_size(&rig, PATH), SLOT_BYTES * SLOT_COUNT);
    tear_down();
}

/* A life: founded, then five saves, the last after a restart in between. Returns the last number that was promised. */
static uint64_t live(uint64_t *begun)
{
    uint64_t promised = 0;
    *begun = 0;
    char text[512];
    struct raft_state state;
    if (state_file_load(file, &state, text) == ERR_OK) {
        promised = state.term;
        *begun = state.term;
    }
    for (uint64_t number = *begun + 1, end = number + 4; number < end; number++) {
        *begun = number;
        if (number == 1) {
            if (save_now(number) != ERR_OK) return promised;
            promised = number;
            continue;
        }
        save(number);
        rig_run(&rig);
        if (saved_number != number) return promised;
        promised = number;
    }
    return promised;
}

static void test_a_crash_at_every_operation(void **unused)
{
    (void)unused;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        bool crashed = true;
        for (uint64_t at = 1; crashed; at++) {
            set_up(seed * 1000 + at);
            rig.disk.crash_at = at;
            uint64_t begun;
            uint64_t promised = live(&begun);
            crashed = rig.disk.dead;
            restart(true);
            uint64_t first = load();
            assert_in_range(first, promised, begun);

            /* Once more, from a file whose slots may differ: what was loaded is relied on now. */
            for (uint64_t again = 1; again <= 8; again += 3) {
                rig.disk.crash_at = rig.disk.counters.operations + again;
                uint64_t second_promised = live(&begun);
                assert_true(second_promised >= first);
                restart(true);
                first = load();
                assert_in_range(first, second_promised, begun);
            }
            tear_down();
        }
    }
}

static void test_a_failure_at_every_operation(void **unused)
{
    (void)unused;
    bool failed = true;
    for (uint64_t at = 1; failed; at++) {
        set_up(at);
        rig.disk.fail_at = at;
        uint64_t begun;
        uint64_t promised = live(&begun);
        failed = rig.disk.counters.failures > 0;
        if (failed && promised > 0) {
            assert_int_equal(failed_count, 1);
            assert_non_null(strstr(failed_text, "/data/state/raft"));
            /* It is final. */
            uint64_t operations = rig.disk.counters.operations;
            save(begun + 1);
            rig_run(&rig);
            assert_int_equal(rig.disk.counters.operations, operations);
            assert_int_equal(failed_count, 1);
            assert_true(state_file_idle(file));
        }
        restart(at % 2 == 0);
        assert_in_range(load(), promised, begun);
        tear_down();
    }
}

/* One damaged slot is enough to go on, and the next save repairs it, even if it is cut short. */
static void test_a_damaged_slot(void **unused)
{
    (void)unused;
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++) {
        /* A sector that is cut inside is rare. */
        for (uint64_t seed = 1; seed <= 3000; seed++) {
            set_up(seed);
            assert_int_equal(save_now(1), ERR_OK);
            save(2);
            rig_run(&rig);
            rig_flip(&rig, PATH, slot * SLOT_BYTES + 50, 0x10);
            restart(false);
            assert_int_equal(load(), 2);
            assert_true(rig_said(&rig, PATH));
            rig.disk.crash_at = rig.disk.counters.operations + 1 + seed % 2;
            save(3);
            rig_run(&rig);
            assert_true(rig.disk.dead);
            restart(true);
            assert_in_range(load(), 2, 3);
            save(4);
            rig_run(&rig);
            assert_int_equal(saved_number, 4);
            rig_flip(&rig, PATH, (1 - slot) * SLOT_BYTES + 50, 0x10);
            restart(false);
            assert_int_equal(load(), 4);
            tear_down();
        }
    }
}

static void test_what_cannot_be_loaded(void **unused)
{
    (void)unused;
    struct raft_state state;
    char text[512];
    set_up(1);
    assert_int_equal(save_now(1), ERR_OK);
    rig_flip(&rig, PATH, 30, 1);
    rig_flip(&rig, PATH, SLOT_BYTES + 30, 1);
    restart(false);
    assert_int_equal(state_file_load(file, &state, text), ERR_DAMAGED);
    assert_non_null(strstr(text, PATH));

    /* Zeros are damage as well: the file was never there without a record. */
    uint8_t zeros[SLOT_BYTES * SLOT_COUNT] = {0};
    rig_write(&rig, PATH, 0, zeros, sizeof zeros);
    assert_int_equal(state_file_load(file, &state, text), ERR_DAMAGED);
    assert_non_null(strstr(text, PATH));

    uint8_t slot[SLOT_BYTES];
    slot_encode(RAFT_STATE_MAGIC, RAFT_STATE_VERSION + 1, 5, bytes_of("later", 5), slot);
    rig_write(&rig, PATH, 0, slot, sizeof slot);
    rig_write(&rig, PATH, SLOT_BYTES, slot, sizeof slot);
    assert_int_equal(state_file_load(file, &state, text), ERR_BAD_VERSION);
    assert_non_null(strstr(text, PATH));

    slot_encode(LOG_LEVEL_INFO, RAFT_STATE_VERSION, 5, bytes_of("other", 5), slot);
    rig_write(&rig, PATH, 0, slot, sizeof slot);
    rig_write(&rig, PATH, SLOT_BYTES, slot, sizeof slot);
    assert_int_equal(state_file_load(file, &state, text), ERR_DAMAGED);
    tear_down();
}

static void test_what_cannot_be_read(void **unused)
{
    (void)unused;
    struct raft_state state;
    char text[512];
    set_up(1);
    assert_int_equal(save_now(1), ERR_OK);
    for (uint64_t number = 2; number <= 5; number++) {
        rig_unreadable(&rig, PATH, number % 2 * SLOT_BYTES + 77, 1);
        restart(true);
        assert_int_equal(load(), number - 1);
        assert_true(rig_said(&rig, PATH));
        save(number);
        rig_run(&rig);
        assert_int_equal(saved_number, number);
    }
    rig_unreadable(&rig, PATH, SLOT_BYTES - 1, 2);
    restart(true);
    assert_int_equal(state_file_load(file, &state, text), ERR_DAMAGED);
    assert_non_null(strstr(text, PATH));
    assert_non_null(strstr(text, "Input/output error"));
    rig_readable(&rig);
    restart(true);
    assert_int_equal(load(), 5);
    tear_down();
}

/* A slot that turns out bad while serving is written first, so that a crash on the way leaves the good one. */
static void test_a_slot_is_repaired(void **unused)
{
    (void)unused;
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++) {
        for (uint64_t at = 0; at <= 4; at++) {
            set_up(at);
            assert_int_equal(save_now(1), ERR_OK);
            save(2);
            rig_run(&rig);
            rig_flip(&rig, PATH, slot * SLOT_BYTES + 50, 0x10);
            if (at > 0) rig.disk.crash_at = rig.disk.counters.operations + at;
            state_file_repair(file, slot);
            state_file_repair(file, slot); /* no effect */
            assert_false(state_file_idle(file));
            rig_run(&rig);
            if (at == 0) {
                assert_int_equal(repaired_count, 1);
                assert_int_equal(saved_count, 1); /* nobody asked for this one */
                uint8_t slots[SLOT_BYTES * SLOT_COUNT];
                rig_read(&rig, PATH, 0, slots, sizeof slots);
                assert_memory_equal(slots, slots + SLOT_BYTES, SLOT_BYTES);
            }
            restart(true);
            assert_int_equal(load(), 2);
            tear_down();
        }
    }
}

/* Saves that are asked for meanwhile wait, or do the repair by the way. */
static void test_a_save_during_a_repair(void **unused)
{
    (void)unused;
    set_up(1);
    assert_int_equal(save_now(1), ERR_OK);
    state_file_repair(file, 1);
    save(2);
    assert_int_equal(saved_count, 0);
    assert_true(rig_run_one(&rig));
    assert_int_equal(repaired_count, 1);
    assert_int_equal(saved_count, 0); /* what was written is the state of before */
    rig_run(&rig);
    assert_int_equal(saved_number, 2);
    save(3);
    state_file_repair(file, 0);
    rig_run(&rig);
    assert_int_equal(saved_number, 3);
    assert_int_equal(repaired_count, 2);
    assert_true(state_file_idle(file));
    save(4);
    rig_run(&rig);
    assert_int_equal(repaired_count, 2);
    restart(true);
    assert_int_equal(load(), 4);
    /* A failure is final. */
    save(5);
    rig_run(&rig);
    rig.disk.fail_at = rig.disk.counters.operations + 1;
    state_file_repair(file, 0);
    save(6);
    rig_run(&rig);
    assert_int_equal(failed_count, 1);
    state_file_repair(file, 0);
    assert_int_equal(rig_waiting(&rig), 0);
    assert_int_equal(saved_number, 5);
    tear_down();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_saves_and_loads),
        cmocka_unit_test(test_a_crash_at_every_operation),
        cmocka_unit_test(test_a_failure_at_every_operation),
        cmocka_unit_test(test_a_damaged_slot),
        cmocka_unit_test(test_what_cannot_be_loaded),
        cmocka_unit_test(test_what_cannot_be_read),
        cmocka_unit_test(test_a_slot_is_repaired),
        cmocka_unit_test(test_a_save_during_a_repair),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
