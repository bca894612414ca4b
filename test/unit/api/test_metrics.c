#include "api/api.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

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

static const char *metrics(void)
{
    fixture_ask(&fixture, "GET /metrics", NULL);
    assert_int_equal(fixture_status(&fixture), 200);
    assert_non_null(
        strstr((const char *)fixture.out.data, "\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    return fixture_body(&fixture);
}

static void assert_line(const char *text, const char *line)
{
    struct buffer whole = {0};
    buffer_append_format(&whole, "\n%s\n", line);
    buffer_append_byte(&whole, 0);
    if (strstr(text, (const char *)whole.data) == NULL) fail_msg("there is no line \"%s\"", line);
    buffer_free(&whole);
}

static bool is_name_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* Each sample stands under its own HELP and TYPE, no metric comes twice, and each value is a number. */
static void test_format(void **state)
{
    (void)state;
    fixture.host.peers[0] = (struct api_peer){.id = 0x22, .reachable = true};
    fixture.host.peers[1] = (struct api_peer){.id = 0x33};
    fixture.host.peer_count = 2;
    const char *text = metrics();
    char name[128] = "", type[32] = "";
    char seen[256][128];
    size_t seen_count = 0, sample_count = 0;
    for (const char *line = text; *line != 0;) {
        const char *end = strchr(line, '\n');
        assert_non_null(end);
        if (strncmp(line, "# HELP ", 7) == 0) {
            assert_int_equal(sscanf(line, "# HELP %127s", name), 1);
            assert_true((size_t)(end - line) > strlen("# HELP ") + strlen(name) + 5);
            for (size_t i = 0; i < seen_count; i++) assert_string_not_equal(seen[i], name);
            assert_true(seen_count < 256);
            strcpy(seen[seen_count++], name);
            sample_count = 1; /* the TYPE must follow */
            type[0] = 0;
        } else if (strncmp(line, "# TYPE ", 7) == 0) {
            char again[128];
            assert_int_equal(sscanf(line, "# TYPE %127s %31s", again, type), 2);
            assert_string_equal(again, name);
            assert_int_equal(sample_count, 1);
            assert_true(strcmp(type, "counter") == 0 || strcmp(type, "gauge") == 0 || strcmp(type, "histogram") == 0);
        } else {
            assert_true(type[0] != 0);
            size_t size = 0;
            while (is_name_byte(line[size])) size++;
            assert_true(size >= strlen(name) && strncmp(line, name, strlen(name)) == 0);
            struct bytes suffix = bytes_of(line + strlen(name), size - strlen(name));
            bool histogram = strcmp(type, "histogram") == 0;
            assert_int_equal(histogram, bytes_equal(suffix, bytes_of_string("_bucket")) ||
                                            bytes_equal(suffix, bytes_of_string("_sum")) ||
                                            bytes_equal(suffix, bytes_of_string("_count")));
            if (!histogram) assert_int_equal(suffix.size, 0);
            const char *value = line + size;
            if (*value == '{') {
                value = memchr(value, '}', (size_t)(end - value));
                assert_non_null(value);
                value++;
            }
            assert_int_equal(*value, ' ');
            char *stop;
            double number = strtod(value + 1, &stop);
            assert_ptr_equal(stop, end);
            assert_true(number >= 0);
        }
        line = end + 1;
    }
    assert_true(seen_count > 45);
}

static void test_names_of_etcd(void **state)
{
    (void)state;
    static const char *const names[] = {
        "etcd_server_has_leader",
        "etcd_server_is_leader",
        "etcd_server_leader_changes_seen_total",
        "etcd_server_proposals_committed_total",
        "etcd_server_proposals_applied_total",
        "etcd_server_proposals_pending",
        "etcd_server_proposals_failed_total",
        "etcd_disk_wal_fsync_duration_seconds",
        "etcd_network_peer_round_trip_time_seconds",
        "etcd_network_client_grpc_received_bytes_total",
        "etcd_network_client_grpc_sent_bytes_total",
        "etcd_network_peer_sent_bytes_total",
        "etcd_network_peer_received_bytes_total",
        "etcd_mvcc_db_total_size_in_bytes",
        "etcd_debugging_mvcc_keys_total",
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "process_open_fds",
        "process_max_fds",
        "process_start_time_seconds",
    };
    const char *text = metrics();
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct buffer heading = {0};
        buffer_append_format(&heading, "# TYPE %s ", names[i]);
        buffer_append_byte(&heading, 0);
        if (strstr(text, (const char *)heading.data) == NULL) fail_msg("%s is missing", names[i]);
        buffer_free(&heading);
    }
}

static void test_values(void **state)
{
    (void)state;
    struct replica_status *status = &fixture.replica.status;
    status->self = 0xabc;
    status->raft.commit = 18446744073709551615u;
    status->raft.applied = 11;
    status->raft.term = 12;
    status->leader_changes = 13;
    status->proposals_pending = 14;
    status->proposals_failed = 15;
    status->proposals_applied = 16;
    status->snapshot_index = 17;
    fixture.host.resident_bytes = 18;
    fixture.host.cpu_seconds = 19.25;
    fixture.host.open_files = 20;
    fixture.host.open_files_max = 21;
    fixture.host.wall_clock_start = 1700000000123000000;
    fixture.host.peer_bytes_sent = 22;
    fixture.host.peer_bytes_received = 23;
    fixture.host.client_bytes_sent = 24;
    fixture.host.client_bytes_received = 25;
    fixture.host.open_connections = 26;
    fixture.host.log_bytes = 27;
    fixture.host.snapshot_bytes = 28;
    fixture.host.snapshots_made = 29;
    fixture.host.snapshots_installed = 30;
    fixture.host.requests_total = 31;
    fixture.host.requests_failed = 32;
    fixture_put(&fixture, bytes_of_string("abc"), bytes_of_string("defgh"));
    fixture_put(&fixture, bytes_of_string("x"), bytes_of_string(""));
    static const char *const lines[] = {
        "etcd_server_id{server_id=\"abc\"} 1",
        "etcd_server_has_leader 1",
        "etcd_server_is_leader 1",
        "etcd_server_proposals_committed_total 18446744073709551615",
        "etcd_server_proposals_applied_total 11",
        "coracle_raft_term 12",
        "etcd_server_leader_changes_seen_total 13",
        "etcd_server_proposals_pending 14",
        "etcd_server_proposals_failed_total 15",
        "coracle_commands_applied_total 16",
        "coracle_raft_snapshot_index 17",
        "process_resident_memory_bytes 18",
        "process_cpu_seconds_total 19.25",
        "process_open_fds 20",
        "process_max_fds 21",
        "process_start_time_seconds 1700000000.123",
        "etcd_network_peer_sent_bytes_total 22",
        "etcd_network_peer_received_bytes_total 23",
        "etcd_network_client_grpc_sent_bytes_total 24",
        "etcd_network_client_grpc_received_bytes_total 25",
        "coracle_client_connections 26",
        "coracle_log_bytes 27",
        "coracle_snapshot_bytes 28",
        "coracle_snapshots_made_total 29",
        "coracle_snapshots_installed_total 30",
        "coracle_requests_total 31",
        "coracle_requests_failed_total 32",
        "etcd_debugging_mvcc_keys_total 2",
        "etcd_debugging_mvcc_current_revision 3",
        "etcd_mvcc_db_total_size_in_use_in_bytes 9",
        "coracle_build_info{version=\"1.2.3\"} 1",
    };
    const char *text = metrics();
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) assert_line(text, lines[i]);
    assert_int_equal(fixture.refreshed, 1);

    status->raft.leader = 0;
    status->raft.role = RAFT_FOLLOWER;
    text = metrics();
    assert_line(text, "etcd_server_has_leader 0");
    assert_line(text, "etcd_server_is_leader 0");
}

static void test_histogram_add(void **state)
{
    (void)state;
    struct api_histogram histogram = {0};
    api_histogram_add(&histogram, 0);
    api_histogram_add(&histogram, TIME_NS_PER_MS);
    api_histogram_add(&histogram, TIME_NS_PER_MS + 1);
    api_histogram_add(&histogram, 8192 * TIME_NS_PER_MS);
    api_histogram_add(&histogram, 8192 * TIME_NS_PER_MS + 1);
    assert_int_equal(histogram.buckets[0], 2);
    assert_int_equal(histogram.buckets[1], 1);
    assert_int_equal(histogram.buckets[13], 1);
    assert_int_equal(histogram.above, 1);
    assert_int_equal(histogram.count, 5);
    assert_float_equal(histogram.sum_seconds, 16.386, 1e-6);
    uint64_t sum = histogram.above;
    for (size_t i = 0; i < API_HISTOGRAM_BUCKETS; i++) sum += histogram.buckets[i];
    assert_int_equal(sum, histogram.count);
}

static void test_histograms(void **state)
{
    (void)state;
    api_histogram_add(&fixture.host.log_sync, TIME_NS_PER_MS / 2);
    api_histogram_add(&fixture.host.log_sync, 3 * TIME_NS_PER_MS);
    api_histogram_add(&fixture.host.log_sync, 4 * TIME_NS_PER_MS);
    api_histogram_add(&fixture.host.log_sync, 20 * TIME_NS_PER_S);
    fixture.host.peers[0] = (struct api_peer){.id = 0x22, .reachable = true};
    api_histogram_add(&fixture.host.peers[0].round_trips, TIME_NS_PER_MS);
    fixture.host.peer_count = 1;
    const char *text = metrics();
    static const char *const lines[] = {
        "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.001\"} 1",
        "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.002\"} 1",
        "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.004\"} 3",
        "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"8.192\"} 3",
        "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"+Inf\"} 4",
        "etcd_disk_wal_fsync_duration_seconds_sum 20.0075",
        "etcd_disk_wal_fsync_duration_seconds_count 4",
        "etcd_network_peer_round_trip_time_seconds_bucket{To=\"22\",le=\"0.001\"} 1",
        "etcd_network_peer_round_trip_time_seconds_bucket{To=\"22\",le=\"+Inf\"} 1",
        "etcd_network_peer_round_trip_time_seconds_sum{To=\"22\"} 0.001",
        "etcd_network_peer_round_trip_time_seconds_count{To=\"22\"} 1",
        "coracle_peer_reachable{To=\"22\"} 1",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) assert_line(text, lines[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_format, setup, teardown),
        cmocka_unit_test_setup_teardown(test_names_of_etcd, setup, teardown),
        cmocka_unit_test_setup_teardown(test_values, setup, teardown),
        cmocka_unit_test(test_histogram_add),
        cmocka_unit_test_setup_teardown(test_histograms, setup, teardown),
    };
    return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
