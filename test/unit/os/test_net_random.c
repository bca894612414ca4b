/*
 * Many streams at once, each of whose users does anything at any time, from within every callback.
 *
 * Each end writes a sequence of bytes that only its client's number, its direction and the position
 * decide. So the other end knows what must come next: it receives a beginning of that, in order;
 * and all of it when the stream ended in order after the writer closed it.
 */
#include "net_harness.h"

#include <string.h>

#include "base/mem.h"
#include "base/random.h"

#define CONNECTIONS 600
#define OPEN_MAX 30
#define WRITE_BYTES_MAX 300000
#define HEADER_BYTES 4 /* the client's number, before the sequence */

struct side {
    struct end *end;
    size_t written;
    bool closed_in_order; /* by its user */
    bool aborted;
    bool paused;
};

static struct random rng;
static struct side clients[CONNECTIONS], servers[CONNECTIONS]; /* by the client's number */
static int server_numbers[STREAMS_MAX];                        /* of the ends in order of acceptance; -1 at first */
static int orderly_ends, resets, failures, whole;
static size_t verified_bytes;

static uint8_t byte_at(int number, bool from_client, size_t position)
{
    return (uint8_t)(random_mix((uint64_t)number << 33 | (uint64_t)from_client << 32 | position / 8) >>
                     position % 8 * 8);
}

static bool is_client(const struct end *end)
{
    return end >= test.clients && end < test.clients + STREAMS_MAX;
}

static int number_of(const struct end *end)
{
    return is_client(end) ? (int)(end - test.clients) : server_numbers[end - test.servers];
}

static struct side *side_of(const struct end *end)
{
    int number = number_of(end);
    return number < 0 ? NULL : is_client(end) ? &clients[number] : &servers[number];
}

static void write_some(struct end *end, size_t size)
{
    static uint8_t data[WRITE_BYTES_MAX];
    struct side *side = side_of(end);
    for (size_t i = 0; i < size; i++) data[i] = byte_at(number_of(end), is_client(end), side->written + i);
    side->written += size;
    struct bytes parts[3];
    size_t first = random_below(&rng, size + 1), second = random_below(&rng, size - first + 1);
    parts[0] = bytes_of(data, first);
    parts[1] = bytes_of(data + first, second);
    parts[2] = bytes_of(data + first + second, size - first - second);
    test.within_call = true;
    net_write(test.net, end->stream, parts, 3);
    test.within_call = false;
}

static void act(struct end *end)
{
    struct side *side = side_of(end);
    if (side == NULL || end->stream == NULL) return;
    switch (random_below(&rng, 40)) {
    case 0:
        side->closed_in_order = true;
        close_end(end);
        break;
    case 1:
        if (random_chance(&rng, 500)) break;
        side->aborted = true;
        abort_end(end);
        break;
    case 2:
        write_some(end, random_below(&rng, WRITE_BYTES_MAX));
        break;
    case 3:
    case 4:
    case 5:
    case 6:
        write_some(end, random_below(&rng, 2000));
        break;
    case 7:
        side->paused = true;
        net_pause(test.net, end->stream, true);
        break;
    case 8:
    case 9:
    case 10:
        side->paused = false;
        net_pause(test.net, end->stream, false);
        break;
    default:
        break;
    }
}

static void act_on_one_of(struct end *ends, size_t count)
{
    for (int tries = 0; tries < 50 && count > 0; tries++) {
        struct end *end = &ends[random_below(&rng, count)];
        if (end->stream == NULL) continue;
        act(end);
        return;
    }
}

/* Any end may be touched from any callback. */
static void act_on_some(void)
{
    for (int i = 0; i < 3; i++) {
        act_on_one_of(test.clients, test.client_count);
        act_on_one_of(test.servers, test.server_count);
    }
}

static void verify(struct end *end, struct bytes bytes)
{
    if (!is_client(end) && number_of(end) < 0) {
        /* The first bytes tell which client it is. */
        buffer_append(&end->received, bytes.data, bytes.size);
        if (end->received.size < HEADER_BYTES) return;
        int number = (int)get_u32(end->received.data);
        assert_in_range(number, 0, CONNECTIONS - 1);
        assert_null(servers[number].end);
        server_numbers[end - test.servers] = number;
        servers[number].end = end;
        buffer_consume(&end->received, HEADER_BYTES);
        end->received_count = end->received.size;
        bytes = buffer_bytes(&end->received);
    }
    struct side *side = side_of(end);
    assert_false(side->paused);
    size_t at = end->received_count - bytes.size;
    for (size_t i = 0; i < bytes.size; i++) {
        if (bytes.data[i] != byte_at(number_of(end), !is_client(end), at + i)) fail_msg("wrong byte at %zu", at + i);
    }
    verified_bytes += bytes.size;
    act(end);
    act_on_some();
}

static void check_end(struct end *end)
{
    int number = number_of(end);
    switch (end->reason) {
    case NET_CLOSED_BY_PEER:
        orderly_ends++;
        break;
    case NET_RESET:
        resets++;
        break;
    case NET_CONNECT_FAILED:
        failures++;
        break;
    }
    if (number >= 0 && end->reason == NET_CLOSED_BY_PEER) {
        const struct side *peer = is_client(end) ? &servers[number] : &clients[number];
        /* An orderly end comes from net_close, or from a peer that saw our own end. */
        assert_false(peer->aborted);
        if (peer->closed_in_order) {
            assert_int_equal(end->received_count, peer->written);
            whole++;
        }
    }
    act_on_some();
}

static void take(struct end *end)
{
    end->on_received = verify;
    end->on_closed = check_end;
    end->on_drained = act;
}

static void start_client(void)
{
    struct end *end = connect_end();
    int number = number_of(end);
    clients[number].end = end;
    take(end);
    end->keep = false;
    end->on_connected = act;
    uint8_t header[HEADER_BYTES];
    put_u32(header, (uint32_t)number);
    write_bytes(end, header, sizeof header);
}

static void work(void)
{
    act_on_some();
    while (test.client_count < CONNECTIONS && os_net_stream_count(test.os_net) < OPEN_MAX * 2) start_client();
    if (test.client_count < CONNECTIONS) return;
    /* The last ones are brought to their end. */
    for (size_t i = 0; i < test.client_count; i++) {
        struct side *side = &clients[i];
        if (side->end->stream == NULL || !random_chance(&rng, 50)) continue;
        side->closed_in_order = true;
        close_end(side->end);
    }
    for (size_t i = 0; i < test.server_count; i++) {
        struct end *end = &test.servers[i];
        if (end->stream == NULL || side_of(end) == NULL) continue;
        side_of(end)->paused = false;
        net_pause(test.net, end->stream, false);
    }
}

static bool all_is_over(void)
{
    return test.client_count == CONNECTIONS && os_net_stream_count(test.os_net) == 0;
}

static void streams_keep_their_promises_whatever_their_users_do(void **state)
{
    (void)state;
    random_seed(&rng, 20261124);
    memset(server_numbers, 0xff, sizeof server_numbers);
    test.on_accepted = take;
    test.on_turn_end = work;
    run_until(all_is_over);
    /* The dice were such that everything has happened, and often. */
    assert_true(orderly_ends > CONNECTIONS / 10);
    assert_true(resets > CONNECTIONS / 20);
    assert_true(whole > CONNECTIONS / 10);
    assert_int_equal(failures, 0);
    assert_true(verified_bytes > 1 << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(streams_keep_their_promises_whatever_their_users_do, net_test_begin,
                                        net_test_finish),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
