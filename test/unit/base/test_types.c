#include "base/types.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/random.h"

/* Published values of FNV-1a with 64 bits, before the mix. */
static void identity_is_fnv_1a_mixed(void **state)
{
    (void)state;
    assert_true(member_id_of("") == random_mix(0xcbf29ce484222325u));
    assert_true(member_id_of("a") == random_mix(0xaf63dc4c8601ec8cu));
    assert_true(member_id_of("foobar") == random_mix(0x85944171f73967e8u));
}

/* Members meet by this value, so a new version must not change it. */
static void identity_never_changes(void **state)
{
    (void)state;
    assert_true(member_id_of("node-1") == 0x13950d4ef307e655u);
}

static void names_that_look_alike_have_different_identities(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    static member_id seen[COUNT];
    for (int i = 0; i < COUNT; i++) {
        char name[32];
        snprintf(name, sizeof name, "node-%d", i);
        seen[i] = member_id_of(name);
        assert_true(seen[i] != 0);
        for (int k = 0; k < i; k++) assert_true(seen[k] != seen[i]);
    }
    /* Bytes above 127 count as unsigned, whatever the platform's char is. */
    assert_true(member_id_of("\xc3\xa9") != member_id_of("\xc3\xaa"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(identity_is_fnv_1a_mixed),
        cmocka_unit_test(identity_never_changes),
        cmocka_unit_test(names_that_look_alike_have_different_identities),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
