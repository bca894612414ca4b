#include "base/error.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void every_row_is_complete_and_its_code_its_own(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ERROR_COUNT; i++) {
        enum error error = (enum error)i;
        assert_true(strlen(error_text(error)) > 0);
        assert_true(strlen(error_code(error)) > 0);
        for (const char *at = error_code(error); *at != 0; at++) assert_true(islower((unsigned char)*at) || *at == '_');
        for (unsigned k = 0; k < i; k++) assert_string_not_equal(error_code(error), error_code((enum error)k));
        assert_in_range(error_grpc_code(error), 0, 16);
        if (error == ERR_OK) {
            assert_int_equal(error_http_status(error), 200);
            assert_int_equal(error_grpc_code(error), 0);
        } else {
            assert_in_range(error_http_status(error), 400, 599);
            assert_int_not_equal(error_grpc_code(error), 0);
        }
        assert_in_range(error_scope_of(error), SCOPE_REQUEST, SCOPE_NODE);
    }
}

/* A client that repeats a request whose outcome is unknown may apply it twice. */
static void an_unknown_outcome_is_never_retried(void **state)
{
    (void)state;
    assert_false(error_may_retry(ERR_TIMEOUT));
    assert_false(error_may_retry(ERR_LEADER_CHANGED));
    assert_true(error_may_retry(ERR_NO_LEADER));
    assert_true(error_may_retry(ERR_TOO_MANY));
}

static void statuses_that_are_promised_to_clients(void **state)
{
    (void)state;
    assert_int_equal(error_http_status(ERR_NOT_FOUND), 404);
    assert_int_equal(error_http_status(ERR_NO_ROUTE), 404);
    assert_int_equal(error_http_status(ERR_BAD_METHOD), 405);
    assert_int_equal(error_http_status(ERR_TOO_LARGE), 413);
    assert_int_equal(error_http_status(ERR_NO_LEADER), 503);
    assert_int_equal(error_http_status(ERR_TIMEOUT), 504);
    assert_string_equal(error_code(ERR_NOT_FOUND), "not_found");
    assert_int_equal(error_scope_of(ERR_DAMAGED), SCOPE_NODE);
    assert_int_equal(error_scope_of(ERR_BAD_FRAME), SCOPE_CONNECTION);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_complete_and_its_code_its_own),
        cmocka_unit_test(an_unknown_outcome_is_never_retried),
        cmocka_unit_test(statuses_that_are_promised_to_clients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
