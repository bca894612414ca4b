#include "fake_replica.h"

#include <stdlib.h>

#include "base/check.h"

const struct store *replica_store(const struct replica *replica)
{
    return replica->store;
}

void replica_status(const struct replica *replica, struct replica_status *out)
{
    *out = replica->status;
}

void replica_identity(const struct replica *replica, uint64_t *cluster_id, member_id *self, raft_term *term)
{
    *cluster_id = replica->status.cluster_id;
    *self = replica->status.self;
    *term = replica->status.raft.term;
}

member_id replica_leader(const struct replica *replica)
{
    return replica->status.raft.leader;
}

uint64_t replica_new_lease_id(const struct replica *replica, uint64_t count)
{
    (void)replica;
    return count;
}

static void refresh(void *user)
{
    ((struct fixture *)user)->refreshed++;
}

void fixture_open(struct fixture *fixture)
{
    *fixture = (struct fixture){0};
    fixture->replica.store = store_new();
    fixture->replica.status = (struct replica_status){
        .raft = {.role = RAFT_LEADER, .term = 3, .leader = member_id_of("node-1")},
        .self = member_id_of("node-1"),
    };
    fixture->host = (struct api_host){
        .version = "1.2.3",
        .node_id = "node-1",
        .value_bytes_max = API_VALUE_BYTES_MAX_DEFAULT,
    };
    fixture->api = (struct api){
        .replica = &fixture->replica,
        .host = &fixture->host,
        .refresh_host = refresh,
        .user = fixture,
    };
    fixture->parser = http1_parser_new(api_body_bytes_max(API_VALUE_BYTES_MAX_DEFAULT));
}

void fixture_close(struct fixture *fixture)
{
    http1_parser_free(fixture->parser);
    api_call_free(&fixture->call);
    buffer_free(&fixture->out);
    store_free(fixture->replica.store);
}

void fixture_put(struct fixture *fixture, struct bytes key, struct bytes value)
{
    store_begin(fixture->replica.store);
    store_put(fixture->replica.store, key, value, 0, NULL);
    store_end(fixture->replica.store);
}

/* What a replica would do with a command, once it is committed. */
static struct replica_result apply(struct fixture *fixture, struct entry *entry)
{
    struct command command;
    CHECK(command_format_decode(entry_payload_bytes(entry), &command) == ERR_OK);
    fixture->proposed = command.kind;
    struct replica_result result = {.error = fixture->error};
    if (fixture->error == ERR_OK) {
        struct store *store = fixture->replica.store;
        const struct store_record *previous = NULL;
        store_begin(store);
        if (command.kind == COMMAND_PUT) {
            store_put(store, command.key, command.value, command.argument, &previous);
        } else {
            store_delete(store, command.key, &previous);
        }
        result.count = previous != NULL;
        result.revision = store_end(store);
    }
    return result;
}

const char *fixture_send(struct fixture *fixture, struct bytes request_bytes)
{
    http1_parser_feed(fixture->parser, request_bytes);
    struct http1_request request;
    CHECK(http1_parser_next(fixture->parser, &request) == ERR_OK);
    buffer_clear(&fixture->out);
    fixture->proposed = 0;
    fixture->wait = api_begin(&fixture->api, &fixture->call, &request, &fixture->out);
    CHECK(http1_parser_next(fixture->parser, &request) == ERR_NOT_READY); /* the request's views are gone now */
    if (fixture->wait == API_DONE) {
        CHECK(fixture->out.size > 0 && fixture->call.command == NULL);
    } else {
        CHECK(fixture->out.size == 0);
        struct replica_result result = {.error = fixture->error};
        if (fixture->wait == API_SNAPSHOT && fixture->error == ERR_OK) {
            result.index = 9;
            result.revision = 7;
        }
        CHECK((fixture->call.command != NULL) == (fixture->wait == API_PROPOSE));
        if (fixture->wait == API_PROPOSE) {
            struct entry *entry = fixture->call.command;
            fixture->call.command = NULL;
            result = apply(fixture, entry);
            entry_unref(entry);
        }
        api_finish(&fixture->api, &fixture->call, &result, &fixture->out);
    }
    buffer_append_byte(&fixture->out, 0);
    return (const char *)fixture->out.data;
}

const char *fixture_ask(struct fixture *fixture, const char *line, const char *body)
{
    struct buffer request = {0};
    buffer_append_format(&request, "%s HTTP/1.1\r\nHost: h\r\n", line);
    if (body != NULL) buffer_append_format(&request, "Content-Length: %zu\r\n", strlen(body));
    buffer_append_string(&request, "\r\n");
    if (body != NULL) buffer_append_string(&request, body);
    const char *answer = fixture_send(fixture, buffer_bytes(&request));
    buffer_free(&request);
    return answer;
}

const char *fixture_body(const struct fixture *fixture)
{
    const char *end = strstr((const char *)fixture->out.data, "\r\n\r\n");
    CHECK(end != NULL);
    return end + 4;
}

int fixture_status(const struct fixture *fixture)
{
    return atoi((const char *)fixture->out.data + strlen("HTTP/1.1 "));
}
