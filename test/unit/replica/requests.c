#include "requests.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

void requests_end(struct harness *harness)
{
    harness_run(harness, 3 * HARNESS_HEARTBEAT);
    assert_string_equal(harness->violation, "");
    harness_check_end(harness);
    assert_string_equal(harness->violation, "");
    harness_free(harness);
}

bool requests_done(const struct harness *harness, uint64_t number)
{
    return harness_request(harness, number)->done;
}

void requests_assert_done(const struct harness *harness, uint64_t number, enum error error)
{
    assert_string_equal(harness->violation, "");
    assert_true(requests_done(harness, number));
    assert_string_equal(error_code(harness_request(harness, number)->error), error_code(error));
}

member_id requests_third(member_id a, member_id b)
{
    return 6 - a - b;
}

void requests_deliver_first(struct harness *harness, enum peer_message_type type, member_id from, member_id to)
{
    uint32_t position = harness_find(harness, type, from, to);
    assert_true(position < harness->network_count);
    harness_deliver(harness, position);
}
