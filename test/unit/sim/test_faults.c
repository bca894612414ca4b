/* The table of faults, and lists of them as a person writes them. */
#include "sim/sim_faults.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static sim_fault_set parsed(const char *text)
{
    sim_fault_set set;
    char unknown[32];
    assert_true(sim_faults_parse(text, &set, unknown, sizeof unknown));
    return set;
}

static sim_fault_set one(enum sim_fault fault)
{
    return (sim_fault_set)1 << fault;
}

static void test_names_are_unique_and_each_is_found(void **state)
{
    (void)state;
    for (unsigned i = 0; i < SIM_FAULT_COUNT; i++) {
        const char *name = sim_fault_name((enum sim_fault)i);
        assert_true(strlen(sim_fault_text((enum sim_fault)i)) > 0 && strpbrk(name, ", ") == NULL && name[0] != '-');
        assert_int_equal(parsed(name), one((enum sim_fault)i));
    }
}

static void test_groups_divide_the_table(void **state)
{
    (void)state;
    sim_fault_set seen = 0;
    for (unsigned i = 0; i < SIM_FAULT_GROUP_COUNT; i++) {
        sim_fault_set set = parsed(sim_fault_group_name((enum sim_fault_group)i));
        assert_true(set != 0 && (seen & set) == 0);
        seen |= set;
    }
    assert_true(seen == SIM_FAULTS_ALL && parsed("all") == SIM_FAULTS_ALL && parsed("none") == 0);
}

static void test_lists_add_and_take_away(void **state)
{
    (void)state;
    assert_true(parsed("kill,power") == (one(SIM_FAULT_KILL_ONE) | one(SIM_FAULT_POWER_ONE)));
    assert_true(parsed("-kill") == (SIM_FAULTS_ALL & ~one(SIM_FAULT_KILL_ONE)));
    assert_true(parsed("all,-disk,disk-full") ==
                ((SIM_FAULTS_ALL & ~sim_fault_group_set(SIM_FAULTS_DISK)) | one(SIM_FAULT_DISK_FULL)));
    assert_true(parsed("crashes,-kill-all") == (sim_fault_group_set(SIM_FAULTS_CRASHES) & ~one(SIM_FAULT_KILL_ALL)));
}

static void test_an_unknown_word_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *text, *word;
    } cases[] = {{"kill,quake", "quake"}, {"-quake,kill", "-quake"}, {"", ""}, {"kill,", ""}, {"killer", "killer"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sim_fault_set set = 77;
        char unknown[8];
        assert_false(sim_faults_parse(cases[i].text, &set, unknown, sizeof unknown));
        assert_string_equal(unknown, cases[i].word);
        assert_true(set == 77);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_are_unique_and_each_is_found),
        cmocka_unit_test(test_groups_divide_the_table),
        cmocka_unit_test(test_lists_add_and_take_away),
        cmocka_unit_test(test_an_unknown_word_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
