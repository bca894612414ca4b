/*
 * The flags of `coracle sim`: what they set, what doesn't go together, and that the replay line of a seed reads back as the same.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "base/types.h"
#include "cli/sim_options.h"

struct reading {
    struct sim_options options;
    struct buffer problems, help;
    enum options_outcome outcome;
    char text[512];
};

static void read_line(struct reading *reading, const char *line)
{
    char *words[32];
    int count = 0;
    *reading = (struct reading){0};
    snprintf(reading->text, sizeof reading->text, "%s", line);
    for (char *word = strtok(reading->text, " "); word != NULL; word = strtok(NULL, " ")) words[count++] = word;
    reading->outcome = sim_options_read(count, words, &reading->options, &reading->problems, &reading->help);
    buffer_append_byte(&reading->problems, '\0');
    buffer_append_byte(&reading->help, '\0');
}

static void release(struct reading *reading)
{
    buffer_free(&reading->problems);
    buffer_free(&reading->help);
}

static void defaults_draw_everything(void **state)
{
    (void)state;
    struct reading reading;
    read_line(&reading, "");
    const struct sim_options *options = &reading.options;
    assert_int_equal(reading.outcome, OPTIONS_OK);
    assert_int_equal(options->first, 1);
    assert_int_equal(options->seeds, 100);
    assert_int_equal(options->run.node_count, 0);
    assert_int_equal(options->run.load, SIM_LOAD_DRAWN);
    assert_true(options->run.duration == 60 * TIME_NS_PER_S && !options->run.duration_is_mean);
    assert_true(options->run.faults == SIM_FAULTS_ALL);
    assert_int_equal(options->twice_every, 10);
    assert_int_equal(options->mutant, MUTANT_NONE);
    assert_true(options->jobs >= 1);
    release(&reading);
}

static void flags_set_what_they_say(void **state)
{
    (void)state;
    struct reading reading;
    read_line(&reading, "--first=7 --seeds 20 --seconds-mean=10 --nodes=5 --load 0 --writes=9 --faults=disk,-disk-full "
                        "--jobs=3 --twice --keep-going --trace-limit=2KiB --json --quiet --defaults --seed-timeout=4");
    const struct sim_options *options = &reading.options;
    assert_string_equal((char *)reading.problems.data, "");
    assert_int_equal(options->first, 7);
    assert_int_equal(options->seeds, 20);
    assert_true(options->run.duration == 10 * TIME_NS_PER_S && options->run.duration_is_mean);
    assert_int_equal(options->run.node_count, 5);
    assert_int_equal(options->run.load, 0);
    assert_int_equal(options->run.writes_max, 9);
    assert_true(sim_faults_have(options->run.faults, SIM_FAULT_DISK_SLOW));
    assert_false(sim_faults_have(options->run.faults, SIM_FAULT_DISK_FULL));
    assert_false(sim_faults_have(options->run.faults, SIM_FAULT_KILL_ONE));
    assert_int_equal(options->jobs, 3);
    assert_int_equal(options->twice_every, 1);
    assert_true(options->keep_going && options->json && options->quiet && options->run.defaults);
    assert_int_equal(options->trace_limit_bytes, 2048);
    assert_int_equal(options->seed_timeout_s, 4);
    release(&reading);
}

static void one_seed(void **state)
{
    (void)state;
    struct reading reading;
    read_line(&reading, "--seed=18446744073709551 --trace");
    assert_int_equal(reading.outcome, OPTIONS_OK);
    assert_true(reading.options.first == 18446744073709551u);
    assert_int_equal(reading.options.seeds, 1);
    assert_int_equal(reading.options.twice_every, 0);
    release(&reading);
    /* A fresh beginning is far from those that everybody takes. */
    read_line(&reading, "--fresh");
    assert_int_equal(reading.outcome, OPTIONS_OK);
    assert_true(reading.options.first >= 1000000);
    release(&reading);
}

static void what_is_wrong_is_said(void **state)
{
    (void)state;
    static const struct {
        const char *line, *problem;
    } cases[] = {
        {"--seed=", "--seed: is not a whole number (\"\")\n"},
        {"--seed=3x", "--seed: is not a whole number (\"3x\")\n"},
        {"--seed=3 --fresh", "--seed: is one, and goes with none of --seeds, --first, --fresh, --seed-file\n"},
        {"--seed=3 --seed-file=f", "--seed: is one, and goes with none of --seeds, --first, --fresh, --seed-file\n"},
        {"--seed-file=f --first=3", "--seed-file: says which seeds, and goes with none of --seeds, --first, --fresh\n"},
        {"--nodes=8", "--nodes: is neither a number from 1 to 7 nor \"drawn\" (\"8\")\n"},
        {"--nodes=3.5", "--nodes: is neither a number from 1 to 7 nor \"drawn\" (\"3.5\")\n"},
        {"--load=-1", "--load: is neither a number from 0 to 1000000 nor \"drawn\" (\"-1\")\n"},
        {"--load=99999999999", "--load: is neither a number from 0 to 1000000 nor \"drawn\" (\"99999999999\")\n"},
        {"--faults=", "--faults: \"\" is no fault and no group of them; --help lists them\n"},
        {"--trace", "--trace: goes with one seed; give --seed\n"},
        {"--twice --once", "--once: doesn't go with --twice\n"},
        {"--state=f --fresh", "--state: goes with none of --seed-file, --keep-going, --fresh\n"},
        {"--mutant=ABORT", "--mutant: this binary has none; ./dev sim builds one that has\n"},
        {"--marks", "--marks: this binary has no marks; ./dev sim builds one that has\n"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct reading reading;
        read_line(&reading, cases[i].line);
        assert_int_equal(reading.outcome, OPTIONS_BAD);
        assert_string_equal((char *)reading.problems.data, cases[i].problem);
        release(&reading);
    }
}

static void help_lists_all_faults(void **state)
{
    (void)state;
    struct reading reading;
    read_line(&reading, "--help");
    assert_int_equal(reading.outcome, OPTIONS_HELP);
    for (unsigned fault = 0; fault < SIM_FAULT_COUNT; fault++) {
        assert_non_null(strstr((char *)reading.help.data, sim_fault_name((enum sim_fault)fault)));
    }
    release(&reading);
}

/* The line that a failure prints gives the same run again. */
static void a_replay_reads_back(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 1);
    for (unsigned i = 0; i < 500; i++) {
        struct sim_run_options run = {
            .seed = random_u64(&random) >> random_below(&random, 64),
            .node_count = (unsigned)random_below(&random, MEMBERS_MAX + 1),
            .duration = (time_ns)random_between(&random, 1, 100) * TIME_NS_PER_S,
            .duration_is_mean = random_chance(&random, 500),
            .load = random_chance(&random, 500) ? SIM_LOAD_DRAWN : (uint32_t)random_below(&random, 1000),
            .writes_max = random_below(&random, 3),
            .faults = random_u64(&random) & random_u64(&random) & SIM_FAULTS_ALL,
            .defaults = random_chance(&random, 500),
        };
        if (random_chance(&random, 300)) run.faults = SIM_FAULTS_ALL;
        if (random_chance(&random, 100)) run.faults = 0;
        if (random_chance(&random, 300)) run.faults |= sim_fault_group_set(SIM_FAULTS_NETWORK);
        run.seed >>= run.seed > UINT64_MAX / 2;
        struct buffer line = {0};
        struct reading reading;
        sim_options_replay(&run, MUTANT_NONE, &line);
        buffer_append_byte(&line, '\0');
        read_line(&reading, (char *)line.data);
        assert_string_equal((char *)reading.problems.data, "");
        const struct sim_run_options *back = &reading.options.run;
        assert_true(reading.options.first == run.seed && reading.options.seeds == 1);
        assert_int_equal(back->node_count, run.node_count);
        assert_true(back->duration == run.duration && back->duration_is_mean == run.duration_is_mean);
        assert_int_equal(back->load, run.load);
        assert_true(back->writes_max == run.writes_max && back->faults == run.faults && back->defaults == run.defaults);
        release(&reading);
        buffer_free(&line);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_draw_everything),
        cmocka_unit_test(flags_set_what_they_say),
        cmocka_unit_test(one_seed),
        cmocka_unit_test(what_is_wrong_is_said),
        cmocka_unit_test(help_lists_all_faults),
        cmocka_unit_test(a_replay_reads_back),
    };
    return cmocka_run_group_tests_name("sim_options", tests, NULL, NULL);
}
