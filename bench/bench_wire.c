/*
 * bench_wire.c - what the wire costs: CPU time from a request's bytes to its command, and from its result to the
 * answer's bytes, without replica and network.
 *
 *     bench_wire [ROUNDS]
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "api/api.h"
#include "base/check.h"
#include "base/mem.h"
#include "replica/peer_codec.h"
#include "wire/base64.h"
#include "wire/json.h"

#define VALUE_BYTES 256
#define KEY "0123456789abcdef"

/* The replica that isn't there; only its store is looked at. */
struct replica {
    struct store *store;
};

const struct store *replica_store(const struct replica *replica)
{
    return replica->store;
}

void replica_identity(const struct replica *replica, uint64_t *cluster_id, member_id *self, raft_term *term)
{
    (void)replica;
    *cluster_id = *self = *term = 1;
}

member_id replica_leader(const struct replica *replica)
{
    (void)replica;
    return 1;
}

uint64_t replica_new_lease_id(const struct replica *replica, uint64_t count)
{
    (void)replica;
    return count;
}

void replica_status(const struct replica *replica, struct replica_status *out)
{
    (void)replica;
    *out = (struct replica_status){0};
}

static double cpu_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void report(const char *what, double seconds, long rounds)
{
    printf("%-64s %8.0f ns\n", what, seconds / (double)rounds * 1e9);
}

static void fill_value(uint8_t *value)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint32_t state = 1;
    for (size_t i = 0; i < VALUE_BYTES; i++) {
        state = state * 1664525u + 1013904223u;
        value[i] = (uint8_t)letters[state >> 26];
    }
}

static void append_put(struct buffer *out, struct bytes body)
{
    buffer_append_format(out,
                         "POST /v1/data HTTP/1.1\r\nHost: 127.0.0.1:7777\r\nContent-Type: application/json\r\n"
                         "Content-Length: %zu\r\n\r\n",
                         body.size);
    buffer_append(out, body.data, body.size);
}

static void bench_call(const char *what, struct api *api, struct bytes request_bytes, long rounds)
{
    struct http1_parser *parser = http1_parser_new(4u << 20);
    struct api_call call = {0};
    struct buffer out = {0};
    double begin = cpu_seconds();
    for (long i = 0; i < rounds; i++) {
        http1_parser_feed(parser, request_bytes);
        struct http1_request request;
        CHECK(http1_parser_next(parser, &request) == ERR_OK);
        enum api_wait wait = api_begin(api, &call, &request, &out);
        if (wait == API_PROPOSE) {
            entry_unref(call.command);
            call.command = NULL;
        }
        struct replica_result result = {.revision = 1000000 + i, .count = true};
        if (wait != API_DONE) api_finish(api, &call, &result, &out);
        CHECK(memcmp(out.data, "HTTP/1.1 200", 12) == 0);
        buffer_clear(&out);
        CHECK(http1_parser_next(parser, &request) == ERR_NOT_READY);
    }
    report(what, cpu_seconds() - begin, rounds);
    buffer_free(&out);
    api_call_free(&call);
    http1_parser_free(parser);
}

static void bench_readers(struct bytes body, long rounds)
{
    double begin = cpu_seconds();
    for (long i = 0; i < rounds; i++) {
        struct json_plain_member members[4];
        size_t count;
        CHECK(json_read_plain(body, members, 4, &count) && count == 2);
    }
    report("the put's body by json_read_plain", cpu_seconds() - begin, rounds);
    begin = cpu_seconds();
    for (long i = 0; i < rounds; i++) {
        json_t *object = json_read_object(body, JSON_DEPTH_MAX_DEFAULT, JSON_VALUES_MAX_DEFAULT, NULL);
        CHECK(object != NULL);
        json_decref(object);
    }
    report("the same by json_read_object (jansson)", cpu_seconds() - begin, rounds);
}

static void bench_frames(struct bytes value, uint32_t entry_count, long rounds)
{
    struct entry **entries = mem_alloc(entry_count * sizeof(struct entry *));
    for (uint32_t i = 0; i < entry_count; i++) entries[i] = command_put(bytes_of_string(KEY), value, 0);
    struct peer_message message = {
        .type = PEER_APPEND,
        .from = member_id_of("node-1"),
        .to = member_id_of("node-2"),
        .term = 7,
        .index = 123456789,
        .log_term = 7,
        .commit = 123456700,
        .context = 99999,
        .entries = entries,
        .entry_count = entry_count,
    };
    struct buffer out = {0};
    char what[80];
    double begin = cpu_seconds();
    for (long i = 0; i < rounds; i++) {
        buffer_clear(&out);
        peer_message_encode(&message, &out);
    }
    snprintf(what, sizeof what, "encode an append of %u entries", entry_count);
    report(what, cpu_seconds() - begin, rounds);
    begin = cpu_seconds();
    for (long i = 0; i < rounds; i++) {
        struct peer_frame frame;
        size_t frame_bytes;
        struct peer_message decoded;
        CHECK(peer_frame_next(buffer_bytes(&out), &frame, &frame_bytes) == ERR_OK);
        CHECK(peer_message_decode(&frame, &decoded) == ERR_OK);
        peer_message_release(&decoded);
    }
    snprintf(what, sizeof what, "decode an append of %u entries", entry_count);
    report(what, cpu_seconds() - begin, rounds);
    buffer_free(&out);
    peer_message_release(&message);
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? atol(argv[1]) : 1000000;
    if (rounds <= 0) {
        fprintf(stderr, "usage: bench_wire [ROUNDS]\n");
        return 2;
    }
    json_object_seed(1);
    uint8_t value_bytes[VALUE_BYTES];
    fill_value(value_bytes);
    struct bytes value = bytes_of(value_bytes, VALUE_BYTES);

    struct replica replica = {.store = store_new()};
    store_begin(replica.store);
    store_put(replica.store, bytes_of_string(KEY), value, 0, NULL);
    store_end(replica.store);
    struct api_host host = {.version = "bench", .node_id = "node-1", .value_bytes_max = API_VALUE_BYTES_MAX_DEFAULT};
    struct api api = {.replica = &replica, .host = &host};

    struct buffer body = {0};
    buffer_append_string(&body, "{\"k\":\"" KEY "\",\"v\":");
    json_write_string(&body, value);
    buffer_append_byte(&body, '}');
    struct buffer put = {0};
    append_put(&put, buffer_bytes(&body));
    bench_call("put, 256-byte value: parse, begin, finish", &api, buffer_bytes(&put), rounds);

    struct buffer escaped = {0};
    buffer_append_string(&escaped, "{\"k\":\"" KEY "\",\"v\":\"\\n");
    buffer_append(&escaped, value.data, value.size);
    buffer_append_string(&escaped, "\"}");
    buffer_clear(&put);
    append_put(&put, buffer_bytes(&escaped));
    bench_call("the same with one escape in the value (jansson)", &api, buffer_bytes(&put), rounds / 4 + 1);

    struct buffer base64 = {0};
    buffer_append_string(&base64, "{\"k\":\"" KEY "\",\"v_base64\":\"");
    base64_encode(value, &base64);
    buffer_append_string(&base64, "\"}");
    buffer_clear(&put);
    append_put(&put, buffer_bytes(&base64));
    bench_call("the same with the value as base64", &api, buffer_bytes(&put), rounds);

    bench_call("get, 256-byte value: parse, begin, finish", &api,
               bytes_of_string("GET /v1/data/" KEY " HTTP/1.1\r\nHost: 127.0.0.1:7777\r\n\r\n"), rounds);
    bench_call("get with curl's headers", &api,
               bytes_of_string("GET /v1/data/" KEY " HTTP/1.1\r\nHost: 127.0.0.1:7777\r\nUser-Agent: curl/7.88.1\r\n"
                               "Accept: */*\r\nAccept-Encoding: gzip, deflate, br\r\nConnection: keep-alive\r\n\r\n"),
               rounds);
    bench_readers(buffer_bytes(&body), rounds);
    bench_frames(value, 1, rounds / 4 + 1);
    bench_frames(value, 64, rounds / 64 + 1);

    buffer_free(&base64);
    buffer_free(&escaped);
    buffer_free(&put);
    buffer_free(&body);
    store_free(replica.store);
    return 0;
}
