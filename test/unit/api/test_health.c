#include "api/api.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake_replica.h"

static struct fixture fixture;

static int setup(void **state)
{
    (void)state;
    fixture_open(&fixture);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_close(&fixture);
    return 0;
}

static void assert_answer(const char *line, enum api_wait wait, int status, const char *body)
{
    const char *answer = fixture_ask(&fixture, line, NULL);
    if (fixture_status(&fixture) != status || strcmp(fixture_body(&fixture), body) != 0) {
        fail_msg("%s\ngave %s\nnot %d %s", line, answer, status, body);
    }
    assert_int_equal(fixture.wait, wait);
}

#define HEALTHY "{\"health\":\"true\",\"reason\":\"\"}"
#define UNHEALTHY(reason) "{\"health\":\"false\",\"reason\":\"" reason "\"}"

static void test_health(void **state)
{
    (void)state;
    assert_answer("GET /health", API_READ, 200, HEALTHY);
    assert_answer("GET /health?serializable=false", API_READ, 200, HEALTHY);
    assert_answer("GET /health?serializable=true", API_DONE, 200, HEALTHY);
    fixture.error = ERR_TIMEOUT;
    assert_answer("GET /health", API_READ, 503, UNHEALTHY("RANGE ERROR:the request timed out; its outcome is unknown"));
    assert_answer("GET /health?serializable=true", API_DONE, 200, HEALTHY);
}

static void test_health_without_leader(void **state)
{
    (void)state;
    fixture.replica.status.raft.leader = 0;
    assert_answer("GET /health", API_DONE, 503, UNHEALTHY("RAFT NO LEADER"));
    assert_answer("GET /health?serializable=true", API_DONE, 200, HEALTHY);
}

static void test_health_alarms(void **state)
{
    (void)state;
    fixture.replica.status.disk_full = true;
    assert_answer("GET /health", API_DONE, 503, UNHEALTHY("ALARM NOSPACE"));
    assert_answer("GET /health?serializable=true", API_DONE, 503, UNHEALTHY("ALARM NOSPACE"));
    assert_answer("GET /health?exclude=NOSPACE", API_READ, 200, HEALTHY);
    assert_answer("GET /health?exclude=CORRUPT", API_DONE, 503, UNHEALTHY("ALARM NOSPACE"));
    assert_answer("GET /health?exclude=CORRUPT&exclude=NOSPACE", API_READ, 200, HEALTHY);
    assert_answer("GET /health?exclude=CORRUPT&serializable=true&exclude=NOSPACE", API_DONE, 200, HEALTHY);
    assert_answer("GET /health?exclude=&exclude", API_DONE, 503, UNHEALTHY("ALARM NOSPACE"));
    assert_answer("GET /health?exclude=nospace", API_DONE, 503, UNHEALTHY("ALARM NOSPACE"));
    fixture.replica.status.disk_full = false;
    fixture.replica.status.diverged = true;
    assert_answer("GET /health", API_DONE, 503, UNHEALTHY("ALARM CORRUPT"));
    assert_answer("GET /health?exclude=NOSPACE", API_DONE, 503, UNHEALTHY("ALARM CORRUPT"));
    assert_answer("GET /health?exclude=CORRUPT", API_READ, 200, HEALTHY);
}

static void test_health_of_a_node_that_comes_or_goes(void **state)
{
    (void)state;
    fixture.host.shutting_down = true;
    assert_answer("GET /health", API_DONE, 503, UNHEALTHY("SHUTTING DOWN"));
    fixture.host.shutting_down = false;
    fixture.api.replica = NULL;
    assert_answer("GET /health", API_DONE, 503, UNHEALTHY("RECOVERING"));
    assert_answer("GET /health?serializable=true", API_DONE, 503, UNHEALTHY("RECOVERING"));
}

static void test_livez(void **state)
{
    (void)state;
    assert_answer("GET /livez", API_DONE, 200, "ok\n");
    assert_answer("GET /livez/", API_DONE, 200, "ok\n");
    assert_answer("GET /livez?verbose", API_DONE, 200, "[+]serializable_read ok\nok\n");
    assert_answer("GET /livez?exclude=serializable_read&verbose", API_DONE, 200, "ok\n");
    assert_answer("GET /livez/serializable_read", API_DONE, 200, "ok\n");
    assert_answer("GET /livez/serializable_read?verbose", API_DONE, 200, "[+]serializable_read ok\nok\n");
}

/* Nothing about other members, and nothing that a restart wouldn't mend, kills a node. */
static void test_livez_needs_no_cluster(void **state)
{
    (void)state;
    fixture.replica.status.raft.leader = 0;
    fixture.replica.status.raft.role = RAFT_FOLLOWER;
    fixture.replica.status.disk_full = true;
    fixture.replica.status.diverged = true;
    fixture.host.shutting_down = true;
    fixture.error = ERR_NO_LEADER;
    assert_answer("GET /livez", API_DONE, 200, "ok\n");
    fixture.api.replica = NULL;
    assert_answer("GET /livez", API_DONE, 200, "ok\n");
}

static void test_readyz(void **state)
{
    (void)state;
    assert_answer("GET /readyz", API_READ, 200, "ok\n");
    assert_answer("GET /readyz?verbose", API_READ, 200,
                  "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\n"
                  "[+]not_shutting_down ok\nok\n");
    assert_answer("GET /readyz?verbose&exclude=linearizable_read", API_DONE, 200,
                  "[+]data_corruption ok\n[+]serializable_read ok\n[+]non_learner ok\n[+]not_shutting_down ok\nok\n");
    assert_answer("GET /readyz?verbose&exclude=unknown", API_READ, 200,
                  "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\n"
                  "[+]not_shutting_down ok\nok\n");
    assert_answer("GET /readyz/linearizable_read?verbose", API_READ, 200, "[+]linearizable_read ok\nok\n");
    assert_answer("GET /readyz/data_corruption", API_DONE, 200, "ok\n");
    /* An exclusion is for the whole list; who names a check means it. */
    assert_answer("GET /readyz/data_corruption?verbose&exclude=data_corruption", API_DONE, 200,
                  "[+]data_corruption ok\nok\n");
}

static void test_readyz_failures(void **state)
{
    (void)state;
    fixture.error = ERR_TIMEOUT;
    assert_answer("GET /readyz", API_READ, 503,
                  "[+]data_corruption ok\n[+]serializable_read ok\n"
                  "[-]linearizable_read failed: the request timed out; its outcome is unknown\n"
                  "[+]non_learner ok\n[+]not_shutting_down ok\n");
    assert_answer("GET /readyz?exclude=linearizable_read", API_DONE, 200, "ok\n");
    fixture.error = ERR_OK;

    fixture.replica.status.raft.leader = 0; /* and isn't waited for */
    assert_answer("GET /readyz/linearizable_read", API_DONE, 503,
                  "[-]linearizable_read failed: this node knows no leader at the moment\n");
    fixture.replica.status.raft.leader = 1;

    fixture.replica.status.diverged = true;
    assert_answer("GET /readyz/data_corruption", API_DONE, 503,
                  "[-]data_corruption failed: this node's data differs from its peers'\n");
    assert_answer("GET /readyz?exclude=data_corruption", API_READ, 200, "ok\n");
    fixture.replica.status.diverged = false;

    fixture.replica.status.member_count = 2;
    fixture.replica.status.members[0] = (struct snapshot_member){.id = 5, .learner = true};
    fixture.replica.status.members[1] = (struct snapshot_member){.id = fixture.replica.status.self, .learner = false};
    assert_answer("GET /readyz/non_learner", API_DONE, 200, "ok\n");
    fixture.replica.status.members[1].learner = true;
    assert_answer("GET /readyz/non_learner", API_DONE, 503, "[-]non_learner failed: the node is a learner\n");
    fixture.replica.status.member_count = 0;

    fixture.host.shutting_down = true;
    assert_answer("GET /readyz?exclude=linearizable_read", API_DONE, 503,
                  "[+]data_corruption ok\n[+]serializable_read ok\n[+]non_learner ok\n"
                  "[-]not_shutting_down failed: the node is shutting down\n");
    fixture.host.shutting_down = false;

    fixture.api.replica = NULL;
    assert_answer("GET /readyz/serializable_read", API_DONE, 503,
                  "[-]serializable_read failed: the node is recovering its data\n");
}

static void test_headers(void **state)
{
    (void)state;
    assert_string_equal(fixture_ask(&fixture, "GET /livez", NULL),
                        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 3\r\n"
                        "X-Content-Type-Options: nosniff\r\n\r\nok\n");
    fixture.replica.status.raft.leader = 0;
    assert_non_null(strstr(fixture_ask(&fixture, "GET /readyz", NULL), "\r\nRetry-After: 1\r\n"));
    assert_non_null(strstr(fixture_ask(&fixture, "GET /health", NULL), "\r\nRetry-After: 1\r\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_health, setup, teardown),
        cmocka_unit_test_setup_teardown(test_health_without_leader, setup, teardown),
        cmocka_unit_test_setup_teardown(test_health_alarms, setup, teardown),
        cmocka_unit_test_setup_teardown(test_health_of_a_node_that_comes_or_goes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_livez, setup, teardown),
        cmocka_unit_test_setup_teardown(test_livez_needs_no_cluster, setup, teardown),
        cmocka_unit_test_setup_teardown(test_readyz, setup, teardown),
        cmocka_unit_test_setup_teardown(test_readyz_failures, setup, teardown),
        cmocka_unit_test_setup_teardown(test_headers, setup, teardown),
    };
    return cmocka_run_group_tests_name("health", tests, NULL, NULL);
}
