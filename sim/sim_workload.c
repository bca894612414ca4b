#include "sim/sim_workload.h"

#include "base/check.h"
#include "base/mem.h"
#include "client/kv.h"

/* How often a client goes on through another node, and how often it takes any key that was used. */
#define MOVE_PER_MILLE 30
/* What a client is late by and catches up on, at most; what it missed beyond that, as while all nodes were down, it leaves out. */
#define CATCH_UP (200 * TIME_NS_PER_MS)
#define OLD_KEY_PER_MILLE 50
/* Before an operation that couldn't be done is tried again in the last phase. */
#define READ_AGAIN (50 * TIME_NS_PER_MS)

static void begin(struct sim_client *client);
static void go_to_node(struct sim_client *client, unsigned node);

__attribute__((format(printf, 2, 3))) static void violated(struct sim_workload *workload, const char *format, ...)
{
    if (workload->violated) return;
    workload->violated = true;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(workload->text, sizeof workload->text, format, arguments);
    va_end(arguments);
}

/* ---- values: "NUMBER" or "NUMBER:PADDING" ---- */

static uint8_t padding_byte(uint64_t number, size_t at)
{
    return (uint8_t)('a' + (number * 7 + at * 11 + at / 26) % 26);
}

void sim_workload_write_value(struct buffer *out, uint64_t number, size_t padding)
{
    buffer_append_decimal(out, number);
    if (padding == 0) return;
    buffer_append_byte(out, ':');
    buffer_reserve(out, padding);
    for (size_t i = 0; i < padding; i++) out->data[out->size++] = padding_byte(number, i);
}

/* False when it isn't a value that sim_workload_write_value made. */
bool sim_workload_read_value(struct bytes value, uint64_t *number)
{
    size_t at = 0;
    *number = 0;
    while (at < value.size && value.data[at] >= '0' && value.data[at] <= '9' && at < 19) {
        *number = *number * 10 + (uint64_t)(value.data[at++] - '0');
    }
    if (at == 0 || *number == 0) return false;
    if (at == value.size) return true;
    if (value.data[at++] != ':') return false;
    for (size_t i = 0; at + i < value.size; i++) {
        if (value.data[at + i] != padding_byte(*number, i)) return false;
    }
    return true;
}

/* Some keys hold a slash, and bytes that need an escape. */
void sim_workload_write_key(struct buffer *out, uint32_t key)
{
    switch (key % 4) {
    case 0:
        buffer_append_format(out, "key-%u", key);
        break;
    case 1:
        buffer_append_format(out, "dir/%u", key);
        break;
    case 2:
        buffer_append_format(out, "a b/%u%%", key);
        break;
    default:
        buffer_append_format(out, "k\"%u", key);
        break;
    }
}

bool sim_workload_read_key(struct bytes key, uint32_t *number)
{
    /* The only digits in it are its number; a key that isn't written so again is another one. */
    size_t at = 0;
    *number = 0;
    while (at < key.size && (key.data[at] < '0' || key.data[at] > '9')) at++;
    for (; at < key.size && key.data[at] >= '0' && key.data[at] <= '9'; at++) {
        *number = *number * 10 + (uint32_t)(key.data[at] - '0');
    }
    struct buffer again = {0};
    sim_workload_write_key(&again, *number);
    bool same = bytes_equal(buffer_bytes(&again), key);
    buffer_free(&again);
    return same;
}

/* ---- answers ---- */

/* The number after `name` in a flat JSON object; false when it isn't there. */
bool sim_workload_read_number(struct bytes body, const char *name, int64_t *out)
{
    size_t size = strlen(name);
    for (size_t i = 0; i + size < body.size; i++) {
        if (memcmp(body.data + i, name, size) != 0) continue;
        int64_t value = 0;
        size_t at = i + size, digits = 0;
        for (; at < body.size && body.data[at] >= '0' && body.data[at] <= '9'; at++, digits++) {
            value = value * 10 + (body.data[at] - '0');
        }
        *out = value;
        return digits > 0;
    }
    return false;
}

static bool contains(struct bytes body, const char *text)
{
    size_t size = strlen(text);
    for (size_t i = 0; i + size <= body.size; i++) {
        if (memcmp(body.data + i, text, size) == 0) return true;
    }
    return false;
}

static enum sim_operation_outcome outcome_of(struct sim_workload *workload, const struct sim_operation *operation,
                                             const struct client_response *response)
{
    if (response->error == ERR_NETWORK) return SIM_NOTHING_DONE;
    if (response->error == ERR_BAD_REQUEST) violated(workload, "a client got an answer that isn't HTTP");
    if (response->error != ERR_OK) return SIM_UNKNOWN;
    if (response->status == 200) return SIM_DONE;
    struct buffer message = {0};
    enum error error = client_kv_error(response->body, &message);
    buffer_free(&message);
    if (operation->kind == SIM_GET && response->status == 404 && error == ERR_NOT_FOUND) return SIM_DONE;
    if (error_may_retry(error)) return SIM_NOTHING_DONE;
    if (error != ERR_TIMEOUT && error != ERR_LEADER_CHANGED) {
        violated(workload, "a client got status %d: %.*s", response->status,
                 (int)(response->body.size < 200 ? response->body.size : 200), (const char *)response->body.data);
    }
    return SIM_UNKNOWN;
}

/* Each client keeps to a share of the rate, with gaps of up to twice the mean. */
static void schedule_next(struct sim_client *client)
{
    struct sim_workload *workload = client->workload;
    struct sim_world *world = workload->world;
    const struct sim_workload_options *options = &workload->options;
    if (options->rate == 0) return;
    time_ns gap = (time_ns)options->client_count * TIME_NS_PER_S / options->rate;
    client->due += (time_ns)random_below(&client->random, 2 * (uint64_t)gap + 1);
    if (client->due < world->now - CATCH_UP) client->due = world->now - CATCH_UP;
    sim_world_schedule(world, &client->next, client->due);
}

static void answered(void *user, const struct client_response *response)
{
    struct sim_client *client = user;
    struct sim_workload *workload = client->workload;
    struct sim_world *world = workload->world;
    client->busy = false;
    struct sim_operation *operation = &workload->history.operations[client->operation];
    enum sim_operation_outcome outcome = outcome_of(workload, operation, response);
    sim_world_fold(world, (uint64_t)outcome << 32 | (uint64_t)response->status);
    if (outcome != SIM_UNKNOWN) {
        operation = sim_history_answer(&workload->history, client->operation, outcome, world->now);
    } else {
        workload->unknown++;
    }
    if (outcome == SIM_NOTHING_DONE) workload->nothing_done++;
    if (outcome == SIM_DONE && operation->kind == SIM_GET) {
        workload->gets_done++;
        struct buffer value = {0};
        operation->value = 0;
        if (response->status == 200 && (!client_kv_value(response->body, &value) ||
                                        !sim_workload_read_value(buffer_bytes(&value), &operation->value))) {
            violated(workload, "key %u has a value that nobody wrote: %.*s", operation->key,
                     (int)(response->body.size < 200 ? response->body.size : 200), (const char *)response->body.data);
        }
        buffer_free(&value);
    } else if (outcome == SIM_DONE) {
        bool put = operation->kind == SIM_PUT;
        if (put) {
            workload->puts_done++;
        } else {
            workload->deletes_done++;
            operation->existed = contains(response->body, "\"deleted\":true");
        }
        bool good = sim_workload_read_number(response->body, "\"revision\":", &operation->revision);
        if (!good || (!put && !operation->existed && !contains(response->body, "\"deleted\":false"))) {
            violated(workload, "the answer to a write can't be read: %.*s",
                     (int)(response->body.size < 200 ? response->body.size : 200), (const char *)response->body.data);
        }
    }
    static const char *const kinds[] = {"put", "get", "delete"};
    static const char *const outcomes[] = {"unknown", "done", "nothing done"};
    sim_world_note(world, SIM_NODES_MAX + client->number, "%s key %u value %llu: %s, revision %lld%s (%s, %d, %s)",
                   kinds[operation->kind], operation->key, (unsigned long long)operation->value, outcomes[outcome],
                   (long long)operation->revision, operation->existed ? " existed" : "", response->endpoint->host,
                   response->status, error_code(response->error));
    if (workload->phase == SIM_WORKLOAD_RUNNING) {
        schedule_next(client);
    } else if (workload->phase == SIM_WORKLOAD_READING) {
        if (outcome == SIM_DONE) workload->read_left--;
        sim_world_schedule(world, &client->next, world->now + (outcome == SIM_DONE ? 0 : READ_AGAIN));
        if (outcome == SIM_DONE) client->key = UINT32_MAX;
    } else if (workload->phase == SIM_WORKLOAD_WRITING) {
        if (outcome == SIM_DONE) workload->written_through |= 1u << client->node;
        sim_world_schedule(world, &client->next, world->now + (outcome == SIM_DONE ? 0 : READ_AGAIN));
    }
}

/* ---- operations ---- */

static void send(struct sim_client *client, enum sim_operation_kind kind, uint32_t key)
{
    struct sim_workload *workload = client->workload;
    struct buffer key_text = {0}, path = {0}, body = {0}, value = {0};
    uint64_t number = kind == SIM_PUT ? ++workload->last_value : 0;
    sim_workload_write_key(&key_text, key);
    struct client_request request = {.timeout = workload->options.timeout, .retry = true};
    if (kind == SIM_PUT) {
        const struct sim_workload_options *options = &workload->options;
        uint32_t limit = random_chance(&client->random, options->large_per_mille) ? options->value_bytes_large
                                                                                  : options->value_bytes_max;
        sim_workload_write_value(&value, number, (size_t)random_below(&client->random, (uint64_t)limit + 1));
        request.method = "POST";
        buffer_append_string(&path, "/v1/data");
        CHECK(client_kv_put_body(buffer_bytes(&key_text), buffer_bytes(&value), &body));
    } else {
        request.method = kind == SIM_GET ? "GET" : "DELETE";
        request.idempotent = kind == SIM_GET;
        client_kv_path(buffer_bytes(&key_text), &path);
    }
    request.path = buffer_bytes(&path);
    request.body = buffer_bytes(&body);
    client->operation = sim_history_send(&workload->history, kind, client->number, key, number, workload->world->now);
    client->busy = true;
    client_request(client->client, &request, answered, client);
    buffer_free(&key_text);
    buffer_free(&path);
    buffer_free(&body);
    buffer_free(&value);
}

static uint32_t choose_key(struct sim_client *client)
{
    struct sim_workload *workload = client->workload;
    if (workload->key_count > 0 && random_chance(&client->random, OLD_KEY_PER_MILLE)) {
        return (uint32_t)random_below(&client->random, workload->key_count);
    }
    uint32_t base = (uint32_t)(workload->operations / workload->options.operations_per_key);
    uint32_t key = base + (uint32_t)random_below(&client->random, workload->options.window_keys);
    if (key >= workload->key_count) workload->key_count = key + 1;
    return key;
}

/* Leaves its connection for another one. */
static void move(struct sim_client *client)
{
    struct sim_workload *workload = client->workload;
    client_free(client->client);
    client->client = client_new(client->net, &client->loop.loop, workload->endpoints, workload->endpoint_count,
                                (uint32_t)random_below(&client->random, workload->endpoint_count));
}

static void begin(struct sim_client *client)
{
    struct sim_workload *workload = client->workload;
    const struct sim_workload_options *options = &workload->options;
    if (workload->phase == SIM_WORKLOAD_WRITING) {
        if (workload->written_through & 1u << client->node) {
            go_to_node(client, client->node + workload->options.client_count);
        } else {
            send(client, SIM_PUT, choose_key(client));
        }
        return;
    }
    if (random_chance(&client->random, MOVE_PER_MILLE)) move(client);
    if (workload->phase == SIM_WORKLOAD_READING) {
        if (client->key == UINT32_MAX) {
            if (workload->read_next == workload->key_count) return;
            client->key = workload->read_next++;
        }
        send(client, SIM_GET, client->key);
        return;
    }
    unsigned weights = options->put_weight + options->get_weight + options->delete_weight;
    unsigned choice = (unsigned)random_below(&client->random, weights);
    enum sim_operation_kind kind = SIM_DELETE;
    if (choice < options->put_weight) {
        kind = SIM_PUT;
    } else if (choice < options->put_weight + options->get_weight) {
        kind = SIM_GET;
    }
    workload->operations++;
    send(client, kind, choose_key(client));
}

static void next_event(struct sim_event *event)
{
    struct sim_client *client = (struct sim_client *)((char *)event - offsetof(struct sim_client, next));
    if (client->workload->phase != SIM_WORKLOAD_IDLE && !client->busy) begin(client);
}

static void timer(void *user)
{
    client_tick(((struct sim_client *)user)->client);
}

static void turn_end(void *user)
{
    struct sim_client *client = user;
    loop_set_timer(&client->loop.loop, client_deadline(client->client));
}

static const struct loop_handler loop_handler = {.timer = timer, .turn_end = turn_end};

void sim_workload_init(struct sim_workload *workload, struct sim_world *world, struct sim_net *network,
                       const struct sim_workload_options *options, const struct client_endpoint *endpoints,
                       uint32_t endpoint_count)
{
    CHECK(options->client_count >= 1 && options->client_count <= SIM_CLIENTS_MAX && endpoint_count <= SIM_NODES_MAX);
    memset(workload, 0, sizeof *workload);
    workload->world = world;
    workload->options = *options;
    memcpy(workload->endpoints, endpoints, endpoint_count * sizeof *endpoints);
    workload->endpoint_count = endpoint_count;
    for (unsigned i = 0; i < options->client_count; i++) {
        struct sim_client *client = &workload->clients[i];
        unsigned process = SIM_NODES_MAX + i;
        char name[32];
        snprintf(name, sizeof name, "client-%u", i + 1);
        client->workload = workload;
        client->number = i;
        client->net = sim_net_host(network, process, name);
        sim_loop_init(&client->loop, world, process);
        sim_world_random(world, "client", i, &client->random);
        client->next = (struct sim_event){.run = next_event, .kind = SIM_EVENT_CLIENT, .process = (uint16_t)process};
        client->client = client_new(client->net, &client->loop.loop, workload->endpoints, endpoint_count, i);
        loop_attach(&client->loop.loop, &loop_handler, client);
    }
}

void sim_workload_free(struct sim_workload *workload)
{
    for (unsigned i = 0; i < workload->options.client_count; i++) {
        sim_world_cancel(workload->world, &workload->clients[i].next);
        sim_loop_detach(&workload->clients[i].loop);
        client_free(workload->clients[i].client);
    }
    sim_history_free(&workload->history);
}

void sim_workload_run(struct sim_workload *workload)
{
    workload->phase = SIM_WORKLOAD_RUNNING;
    for (unsigned i = 0; i < workload->options.client_count; i++) {
        struct sim_client *client = &workload->clients[i];
        if (client->busy) continue;
        client->due = workload->world->now;
        schedule_next(client);
    }
}

void sim_workload_cancel(struct sim_workload *workload, unsigned number)
{
    struct sim_client *client = &workload->clients[number];
    CHECK(number < workload->options.client_count);
    if (!client->busy || workload->phase != SIM_WORKLOAD_RUNNING) return;
    sim_world_note(workload->world, SIM_NODES_MAX + number, "gives up waiting");
    client->busy = false; /* the operation stays in the history without an answer */
    workload->unknown++;
    workload->cancelled++;
    move(client);
    sim_world_schedule(workload->world, &client->next, workload->world->now);
}

void sim_workload_quiet(struct sim_workload *workload)
{
    workload->phase = SIM_WORKLOAD_IDLE;
}

bool sim_workload_is_quiet(const struct sim_workload *workload)
{
    for (unsigned i = 0; i < workload->options.client_count; i++) {
        if (workload->clients[i].busy) return false;
    }
    return true;
}

void sim_workload_read_all(struct sim_workload *workload)
{
    CHECK(sim_workload_is_quiet(workload));
    workload->phase = SIM_WORKLOAD_READING;
    workload->read_next = 0;
    workload->read_left = workload->key_count;
    for (unsigned i = 0; i < workload->options.client_count; i++) {
        workload->clients[i].key = UINT32_MAX;
        sim_world_schedule(workload->world, &workload->clients[i].next, workload->world->now);
    }
}

bool sim_workload_has_read_all(const struct sim_workload *workload)
{
    return workload->phase == SIM_WORKLOAD_READING && workload->read_left == 0;
}

/* The client goes on to the next of its nodes, of which it has every client_count-th. */
static void go_to_node(struct sim_client *client, unsigned node)
{
    struct sim_workload *workload = client->workload;
    while (node < workload->endpoint_count && !(workload->write_through & 1u << node)) {
        node += workload->options.client_count;
    }
    if (node >= workload->endpoint_count) return;
    client->node = node;
    client_free(client->client);
    client->client = client_new(client->net, &client->loop.loop, &workload->endpoints[node], 1, 0);
    sim_world_schedule(workload->world, &client->next, workload->world->now);
}

void sim_workload_write_through(struct sim_workload *workload, uint32_t nodes)
{
    CHECK(sim_workload_is_quiet(workload));
    workload->phase = SIM_WORKLOAD_WRITING;
    workload->write_through = nodes;
    workload->written_through = 0;
    for (unsigned i = 0; i < workload->options.client_count; i++) go_to_node(&workload->clients[i], i);
}

bool sim_workload_has_written_through(const struct sim_workload *workload)
{
    /* Clients without a node of their own to write through go on through any. */
    return workload->phase == SIM_WORKLOAD_WRITING && !(workload->write_through & ~workload->written_through);
}
