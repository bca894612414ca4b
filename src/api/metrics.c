/*
 * metrics.c - /metrics in Prometheus' text format 0.0.4. Names are etcd's where it has the figure, so that its
 * dashboards and alerts work; what only Coracle has begins with coracle_.
 */
#include <inttypes.h>

#include "api/handlers.h"
#include "api/reply.h"

#define METRICS_TEXT "text/plain; version=0.0.4; charset=utf-8"

static void describe(struct buffer *out, const char *name, const char *type, const char *help)
{
    buffer_append_format(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void counter(struct buffer *out, const char *name, const char *help, uint64_t value)
{
    describe(out, name, "counter", help);
    buffer_append_format(out, "%s %" PRIu64 "\n", name, value);
}

static void gauge(struct buffer *out, const char *name, const char *help, uint64_t value)
{
    describe(out, name, "gauge", help);
    buffer_append_format(out, "%s %" PRIu64 "\n", name, value);
}

static void number(struct buffer *out, const char *name, const char *type, const char *help, double value)
{
    describe(out, name, type, help);
    buffer_append_format(out, "%s %.9g\n", name, value);
}

/* `label` is "" or `Name="value",`, as it stands before le. */
static void histogram_rows(struct buffer *out, const char *name, const char *label, const struct api_histogram *values)
{
    uint64_t below = 0;
    for (uint32_t i = 0; i < API_HISTOGRAM_BUCKETS; i++) {
        below += values->buckets[i];
        buffer_append_format(out, "%s_bucket{%sle=\"%.9g\"} %" PRIu64 "\n", name, label, 0.001 * (double)(1u << i),
                             below);
    }
    buffer_append_format(out, "%s_bucket{%sle=\"+Inf\"} %" PRIu64 "\n", name, label, values->count);
    size_t label_bytes = strlen(label);
    if (label_bytes == 0) {
        buffer_append_format(out, "%s_sum %.9g\n%s_count %" PRIu64 "\n", name, values->sum_seconds, name,
                             values->count);
    } else {
        int bytes = (int)label_bytes - 1; /* without the comma */
        buffer_append_format(out, "%s_sum{%.*s} %.9g\n%s_count{%.*s} %" PRIu64 "\n", name, bytes, label,
                             values->sum_seconds, name, bytes, label, values->count);
    }
}

static void histogram(struct buffer *out, const char *name, const char *help, const struct api_histogram *values)
{
    describe(out, name, "histogram", help);
    histogram_rows(out, name, "", values);
}

static void write_consensus(struct buffer *out, const struct replica_status *status)
{
    const struct raft_status *raft = &status->raft;
    describe(out, "etcd_server_id", "gauge",
             "Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID.");
    buffer_append_format(out, "etcd_server_id{server_id=\"%" PRIx64 "\"} 1\n", status->self);
    describe(out, "etcd_server_version", "gauge",
             "Which version is running. 1 for 'server_version' label with current version.");
    buffer_append_string(out, "etcd_server_version{server_version=\"" API_ETCD_VERSION "\"} 1\n");
    gauge(out, "etcd_server_has_leader", "Whether or not a leader exists. 1 is existence, 0 is not.",
          raft->leader != 0);
    gauge(out, "etcd_server_is_leader", "Whether or not this member is a leader. 1 if is, 0 otherwise.",
          raft->role == RAFT_LEADER);
    counter(out, "etcd_server_leader_changes_seen_total", "The number of leader changes seen.", status->leader_changes);
    gauge(out, "etcd_server_proposals_committed_total", "The total number of consensus proposals committed.",
          raft->commit);
    gauge(out, "etcd_server_proposals_applied_total", "The total number of consensus proposals applied.",
          raft->applied);
    gauge(out, "etcd_server_proposals_pending", "The current number of pending proposals.", status->proposals_pending);
    counter(out, "etcd_server_proposals_failed_total", "The total number of failed proposals seen.",
            status->proposals_failed);
    gauge(out, "coracle_raft_term", "The current term.", raft->term);
    gauge(out, "coracle_raft_last_index", "Index of the last entry of the log.", raft->last_index);
    gauge(out, "coracle_raft_durable_index", "Index up to which this member's log is durable.", raft->durable_index);
    gauge(out, "coracle_raft_first_index", "Index of the first entry that the log still has.", raft->first_index);
    gauge(out, "coracle_raft_snapshot_index", "Index of this member's last snapshot.", status->snapshot_index);
    gauge(out, "coracle_raft_unapplied_bytes", "Bytes of log entries that are not applied yet.", raft->unapplied_bytes);
    gauge(out, "coracle_raft_cached_bytes", "Bytes of log entries kept in memory for peers.", raft->cached_bytes);
    gauge(out, "coracle_raft_uncertain", "1 while this member counts for no quorum, since its log was damaged or lost.",
          raft->uncertain);
    gauge(out, "coracle_diverged", "1 when this member's state differs from the majority's.", status->diverged);
    gauge(out, "coracle_disk_full", "1 while writes are refused for lack of room on the disk.", status->disk_full);
    counter(out, "coracle_commands_applied_total", "Commands applied by this member since it started.",
            status->proposals_applied);
    counter(out, "coracle_reads_total", "Linearizable reads served.", status->reads);
    counter(out, "coracle_read_rounds_total", "Rounds of messages that confirmed leadership for these reads.",
            status->read_rounds);
}

static void write_store(struct buffer *out, const struct store *store)
{
    gauge(out, "etcd_mvcc_db_total_size_in_bytes", "Total size of the key space in bytes, in memory.",
          store_memory_bytes(store));
    gauge(out, "etcd_mvcc_db_total_size_in_use_in_bytes", "Bytes of the keys and values that are live.",
          store_live_bytes(store));
    gauge(out, "etcd_debugging_mvcc_keys_total", "Total number of keys.", store_key_count(store));
    gauge(out, "etcd_debugging_mvcc_current_revision", "The current revision of store.",
          (uint64_t)store_current_revision(store));
    gauge(out, "etcd_debugging_mvcc_compact_revision", "The revision of the last compaction in store.",
          (uint64_t)store_compacted_revision(store));
    gauge(out, "coracle_store_history_bytes", "Bytes of superseded versions that a compaction would free.",
          store_history_bytes(store));
}

static void write_disk(struct buffer *out, const struct api_host *host)
{
    histogram(out, "etcd_disk_wal_fsync_duration_seconds", "The latency distributions of fsync called by WAL.",
              &host->log_sync);
    histogram(out, "coracle_state_sync_duration_seconds", "How long it took to make term and vote durable.",
              &host->state_sync);
    histogram(out, "coracle_apply_duration_seconds", "How long it took to apply what was committed, in each turn.",
              &host->apply);
    gauge(out, "coracle_log_bytes", "Bytes of the log's files.", host->log_bytes);
    gauge(out, "coracle_snapshot_bytes", "Bytes of the last snapshot.", host->snapshot_bytes);
    counter(out, "coracle_snapshots_made_total", "Snapshots that this member made.", host->snapshots_made);
    counter(out, "coracle_snapshots_installed_total", "Snapshots of a leader that this member installed.",
            host->snapshots_installed);
}

static void write_damage(struct buffer *out, const struct api_host *host)
{
    static const char found[] = "coracle_damage_found_total";
    static const char *const files[API_DAMAGE_KINDS] = {"state", "log_metadata", "snapshot_metadata", "log",
                                                        "snapshot"};
    describe(out, found, "counter", "Slots, log segments and snapshots that were found damaged.");
    for (uint32_t i = 0; i < API_DAMAGE_KINDS; i++) {
        buffer_append_format(out, "%s{file=\"%s\"} %" PRIu64 "\n", found, files[i], host->damage_found[i]);
    }
    counter(out, "coracle_damage_repaired_total", "Of these, how many were repaired.", host->damage_repaired);
    counter(out, "coracle_scrub_passes_total", "Passes of the scrub over all files.", host->scrub_passes);
    counter(out, "coracle_scrub_bytes_total", "Bytes that the scrub read.", host->scrub_bytes);
    describe(out, "coracle_scrub_last_pass_timestamp_seconds", "gauge",
             "When the last pass of the scrub ended since unix epoch in seconds; 0: none did since the start.");
    buffer_append_format(out, "coracle_scrub_last_pass_timestamp_seconds %.3f\n",
                         (double)host->wall_clock_last_scrub / (double)TIME_NS_PER_S);
}

static void write_network(struct buffer *out, const struct api_host *host)
{
    static const char round_trips[] = "etcd_network_peer_round_trip_time_seconds";
    static const char reachable[] = "coracle_peer_reachable";
    describe(out, round_trips, "histogram", "Round-Trip-Time histogram between peers.");
    for (uint32_t i = 0; i < host->peer_count; i++) {
        struct buffer label = {0};
        buffer_append_format(&label, "To=\"%" PRIx64 "\",", host->peers[i].id);
        buffer_append_byte(&label, 0);
        histogram_rows(out, round_trips, (const char *)label.data, &host->peers[i].round_trips);
        buffer_free(&label);
    }
    describe(out, reachable, "gauge", "1 while there is a connection to the peer.");
    for (uint32_t i = 0; i < host->peer_count; i++) {
        buffer_append_format(out, "%s{To=\"%" PRIx64 "\"} %d\n", reachable, host->peers[i].id,
                             host->peers[i].reachable ? 1 : 0);
    }
    counter(out, "etcd_network_peer_sent_bytes_total", "The total number of bytes sent to peers.",
            host->peer_bytes_sent);
    counter(out, "etcd_network_peer_received_bytes_total", "The total number of bytes received from peers.",
            host->peer_bytes_received);
    counter(out, "etcd_network_client_grpc_sent_bytes_total", "The total number of bytes sent to clients.",
            host->client_bytes_sent);
    counter(out, "etcd_network_client_grpc_received_bytes_total", "The total number of bytes received from clients.",
            host->client_bytes_received);
    gauge(out, "coracle_client_connections", "Open connections of clients.", host->open_connections);
    counter(out, "coracle_requests_total", "Requests of clients.", host->requests_total);
    counter(out, "coracle_requests_failed_total", "Requests that ended with an error.", host->requests_failed);
}

static void write_process(struct buffer *out, const struct api_host *host)
{
    gauge(out, "process_resident_memory_bytes", "Resident memory size in bytes.", host->resident_bytes);
    number(out, "process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.",
           host->cpu_seconds);
    gauge(out, "process_open_fds", "Number of open file descriptors.", host->open_files);
    gauge(out, "process_max_fds", "Maximum number of open file descriptors.", host->open_files_max);
    describe(out, "process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.");
    buffer_append_format(out, "process_start_time_seconds %.3f\n",
                         (double)host->wall_clock_start / (double)TIME_NS_PER_S);
    describe(out, "coracle_build_info", "gauge", "1, with the version as a label.");
    buffer_append_format(out, "coracle_build_info{version=\"%s\"} 1\n", host->version);
}

void api_metrics(struct api *api, struct api_call *call, struct buffer *out)
{
    if (api->refresh_host != NULL) api->refresh_host(api->user);
    struct replica_status status;
    replica_status(api->replica, &status);
    struct buffer body = {0};
    write_consensus(&body, &status);
    write_store(&body, replica_store(api->replica));
    write_disk(&body, api->host);
    write_damage(&body, api->host);
    write_network(&body, api->host);
    write_process(&body, api->host);
    api_reply(call, 200, METRICS_TEXT, "", buffer_bytes(&body), out);
    buffer_free(&body);
}
