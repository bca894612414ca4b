#include "base/peer_message.h"

#include <setjmp.h>

#include <cmocka.h>

#include "base/mem.h"

static void names_are_known_and_different(void **state)
{
    (void)state;
    for (unsigned a = PEER_PREVOTE; a < PEER_MESSAGE_TYPE_END; a++) {
        const char *name = peer_message_type_name((enum peer_message_type)a);
        assert_string_not_equal(name, "unknown");
        for (unsigned b = PEER_PREVOTE; b < a; b++) {
            assert_string_not_equal(name, peer_message_type_name((enum peer_message_type)b));
        }
    }
    assert_string_equal(peer_message_type_name((enum peer_message_type)0), "unknown");
    assert_string_equal(peer_message_type_name(PEER_MESSAGE_TYPE_END), "unknown");
    assert_string_equal(peer_message_type_name((enum peer_message_type)1000000), "unknown");
}

static void copy_references_entries_and_release_drops_them(void **state)
{
    (void)state;
    struct entry *first = entry_new(ENTRY_COMMAND, 10), *second = entry_new(ENTRY_EMPTY, 0);
    struct peer_message message = {.type = PEER_APPEND, .from = 1, .to = 2, .term = 3, .index = 4, .context = 5};
    message.data = bytes_of_string("view");
    message.entries = mem_alloc(2 * sizeof(struct entry *));
    message.entries[0] = entry_ref(first);
    message.entries[1] = entry_ref(second);
    message.entry_count = 2;

    struct peer_message copy = peer_message_copy(&message);
    assert_int_equal(first->refs, 3);
    assert_int_equal(second->refs, 3);
    assert_ptr_not_equal(copy.entries, message.entries);
    assert_ptr_equal(copy.entries[0], first);
    assert_ptr_equal(copy.entries[1], second);
    assert_int_equal(copy.type, PEER_APPEND);
    assert_int_equal(copy.context, 5);
    assert_ptr_equal(copy.data.data, message.data.data);

    peer_message_release(&message);
    assert_null(message.entries);
    assert_int_equal(message.entry_count, 0);
    assert_int_equal(first->refs, 2);
    assert_int_equal(copy.entry_count, 2);
    peer_message_release(&message); /* nothing left to drop */
    peer_message_release(&copy);
    assert_int_equal(first->refs, 1);
    assert_int_equal(second->refs, 1);
    entry_unref(first);
    entry_unref(second);
}

static void a_message_without_entries_copies_without_an_array(void **state)
{
    (void)state;
    struct peer_message message = {.type = PEER_VOTE, .term = 9};
    struct peer_message copy = peer_message_copy(&message);
    assert_null(copy.entries);
    assert_int_equal(copy.term, 9);
    peer_message_release(&copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_known_and_different),
        cmocka_unit_test(copy_references_entries_and_release_drops_them),
        cmocka_unit_test(a_message_without_entries_copies_without_an_array),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
