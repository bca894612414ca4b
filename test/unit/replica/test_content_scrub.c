/* The scrub of contents: what went wrong in memory is found, on the member that has it, within a bounded number of entries. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "harness.h"
#include "replica/replica_internal.h"

#define INTERVAL 16u
#define KEYS_MAX 4u
/* Applied entries until each key was read, wherever the scrub stands; content_scrub.h. */
#define ROUND (INTERVAL * (HARNESS_KEYS / KEYS_MAX + 1))

static const struct content_scrub_limits limits = {.interval = INTERVAL, .keys_max = KEYS_MAX, .bytes_max = 1 << 20};

/* A cluster with a leader, and every key put. */
static struct harness *new_harness(const struct harness_options *given, member_id *leader)
{
    struct harness_options options = *given;
    options.seed = 11;
    if (options.content_scrub.interval == 0) options.content_scrub = limits;
    struct harness *harness = harness_new(&options);
    *leader = harness_elect(harness);
    for (uint32_t key = 0; key < HARNESS_KEYS; key++) harness_put(harness, *leader, key);
    harness_stabilize(harness);
    harness_run(harness, 3 * HARNESS_HEARTBEAT);
    return harness;
}

static void end(struct harness *harness)
{
    assert_string_equal(harness->violation, "");
    harness_free(harness);
}

static struct store_record *record_of(const struct harness *harness, member_id id, uint32_t key)
{
    char text[12];
    const struct store_record *record;
    harness_key_text(key, text);
    assert_int_equal(store_get(replica_store(harness->members[id].replica), bytes_of_string(text), 0, &record), ERR_OK);
    return (struct store_record *)record;
}

static bool diverged(const struct harness *harness, member_id id)
{
    struct replica_status status;
    replica_status(harness->members[id].replica, &status);
    return status.diverged;
}

static raft_index applied(const struct harness *harness, member_id id)
{
    return harness->members[id].replica->applied;
}

/* Puts of key 0, one at a time through any member that serves, until the member is barred; how many entries that took. */
static raft_index entries_until_barred(struct harness *harness, member_id odd, raft_index at_most)
{
    raft_index begin = applied(harness, odd);
    while (!diverged(harness, odd) && applied(harness, odd) < begin + at_most) {
        for (member_id id = 1; id <= harness->options.count; id++) {
            if (id != odd) assert_false(diverged(harness, id));
        }
        harness_put(harness, odd % harness->options.count + 1, 0);
        harness_run(harness, HARNESS_HEARTBEAT);
    }
    assert_true(diverged(harness, odd));
    return applied(harness, odd) - begin;
}

static void assert_others_serve(struct harness *harness, member_id odd)
{
    harness_run(harness, 3 * HARNESS_ELECTION_TIMEOUT);
    for (member_id id = 1; id <= harness->options.count; id++) {
        if (id == odd) continue;
        assert_false(diverged(harness, id));
        uint64_t write = harness_put(harness, id, 1);
        harness_run(harness, HARNESS_HEARTBEAT);
        uint64_t read = harness_read(harness, id, 2);
        harness_run(harness, HARNESS_HEARTBEAT);
        assert_int_equal(harness_request(harness, write)->error, ERR_OK);
        assert_int_equal(harness_request(harness, read)->error, ERR_OK);
    }
    uint64_t read = harness_read(harness, odd, 2);
    harness_run(harness, HARNESS_HEARTBEAT);
    assert_int_equal(harness_request(harness, read)->error, ERR_CORRUPT);
}

enum flip { FLIP_KEY, FLIP_VALUE, FLIP_VERSION, FLIP_CREATED, FLIP_LEASE, FLIP_COUNT };

static void flip(struct harness *harness, member_id id, uint32_t key, enum flip what)
{
    struct store_record *record = record_of(harness, id, key);
    harness->members[id].tampered = true;
    switch (what) {
    case FLIP_KEY:
        record->data[record->key_bytes - 1] ^= 64;
        break;
    case FLIP_VALUE:
        record->data[record->key_bytes + record->value_bytes - 1] ^= 4;
        break;
    case FLIP_VERSION:
        record->version ^= 2;
        break;
    case FLIP_CREATED:
        record->create_revision ^= 1;
        break;
    default:
        record->lease ^= 1ull << 40;
        break;
    }
}

static void test_a_flip_is_found(void **state)
{
    (void)state;
    raft_index latest = 0;
    for (int of_leader = 0; of_leader <= 1; of_leader++) {
        for (int what = 0; what < FLIP_COUNT; what++) {
            member_id leader;
            struct harness *harness = new_harness(&(struct harness_options){.count = 3}, &leader);
            member_id odd = of_leader == 1 ? leader : harness_follower(harness);
            /* Not where the scrub will begin each time: the round matters. */
            flip(harness, odd, 5 + 4 * (uint32_t)what, (enum flip)what);
            raft_index took = entries_until_barred(harness, odd, ROUND + 2);
            if (took > latest) latest = took;
            assert_others_serve(harness, odd);
            if (of_leader == 1) assert_int_not_equal(harness_leader(harness), odd);
            end(harness);
        }
    }
    /* It isn't so that the first slice finds anything, whatever it reads. */
    assert_true(latest > 2 * INTERVAL);
}

/* Wherever the scrub stands, and whichever key it is. */
static void test_a_flip_of_any_key(void **state)
{
    (void)state;
    for (uint32_t key = 1; key < HARNESS_KEYS; key += 3) {
        member_id leader;
        struct harness *harness = new_harness(&(struct harness_options){.count = 3}, &leader);
        for (uint32_t i = 0; i < key * 7; i++) harness_put(harness, leader, 0);
        harness_stabilize(harness);
        member_id odd = harness_follower(harness);
        flip(harness, odd, key, FLIP_VALUE);
        entries_until_barred(harness, odd, ROUND + 2);
        end(harness);
    }
}

/* What isn't in any key: the sessions, and the store's totals. */
static void test_a_flip_beside_the_keys(void **state)
{
    (void)state;
    for (int what = 0; what < 3; what++) {
        member_id leader;
        struct harness *harness = new_harness(&(struct harness_options){.count = 3}, &leader);
        member_id odd = harness_follower(harness);
        struct sessions *sessions = &harness->members[odd].replica->sessions;
        harness->members[odd].tampered = true;
        switch (what) {
        case 0: /* of a sequence far ahead: until the window moves there, nothing asks for it */
            sessions->slots[0].window[SESSION_WINDOW / 64 - 1] ^= 1ull << 63;
            break;
        case 1:
            sessions->slots[0].incarnation ^= 1ull << 50;
            break;
        default:
            sessions->history_bytes_budget ^= 1;
            break;
        }
        entries_until_barred(harness, odd, INTERVAL + 2);
        end(harness);
    }
}

/* A difference that is overwritten before the scrub comes by is no difference. */
static void test_overwritten_in_time(void **state)
{
    (void)state;
    member_id leader;
    struct harness *harness = new_harness(&(struct harness_options){.count = 3}, &leader);
    member_id odd = harness_follower(harness);
    while (applied(harness, leader) % INTERVAL != 0) {
        harness_put(harness, leader, 0);
        harness_stabilize(harness);
    }
    flip(harness, odd, 7, FLIP_VALUE);
    harness_put(harness, leader, 7);
    harness_stabilize(harness);
    for (uint32_t i = 0; i < ROUND; i++) {
        harness_put(harness, leader, 0);
        harness_run(harness, HARNESS_HEARTBEAT / 4);
    }
    for (member_id id = 1; id <= 3; id++) assert_false(diverged(harness, id));
    end(harness);
}

/* ---- the cursor is replicated state ---- */

static struct bytes cursor_of(const struct harness *harness, member_id id)
{
    return buffer_bytes(&harness->members[id].replica->scrub.next_key);
}

/* Until all have applied the same, and the scrub stands in the midst of the keys. */
static void to_the_midst(struct harness *harness, member_id leader)
{
    do {
        harness_put(harness, leader, 0);
        harness_run(harness, HARNESS_HEARTBEAT);
    } while (cursor_of(harness, leader).size == 0 || applied(harness, leader) % INTERVAL != INTERVAL / 2);
}

static void test_a_restart_from_a_snapshot_goes_on(void **state)
{
    (void)state;
    member_id leader;
    struct harness *harness = new_harness(&(struct harness_options){.count = 3}, &leader);
    member_id other = harness_follower(harness);
    to_the_midst(harness, leader);
    struct bytes at_begin = cursor_of(harness, other);
    struct buffer kept = {0};
    buffer_append(&kept, at_begin.data, at_begin.size);
    assert_int_equal(harness_snapshot_begin(harness, other), ERR_OK);
    raft_index index = applied(harness, other);
    /* The scrub goes on before the file is written: what counts is the cursor at the snapshot's index. */
    for (uint32_t i = 0; i < 2 * INTERVAL; i++) harness_put(harness, leader, 0);
    harness_run(harness, 3 * HARNESS_HEARTBEAT);
    assert_false(bytes_equal(cursor_of(harness, other), buffer_bytes(&kept)));
    while (!harness_snapshot_slice(harness, other)) {}

    struct replica *loaded = replica_new(&harness->members[other].config, &log_none);
    assert_int_equal(harness_load(loaded, buffer_bytes(&harness->members[other].disk.snapshot)), ERR_OK);
    assert_int_equal(replica_load_finish(loaded), ERR_OK);
    assert_int_equal(loaded->applied, index);
    assert_true(bytes_equal(buffer_bytes(&loaded->scrub.next_key), buffer_bytes(&kept)));
    assert_memory_equal(&loaded->scrub.limits, &limits, sizeof limits);
    replica_free(loaded);

    harness_crash(harness, other, true);
    harness_start(harness, other);
    for (uint32_t i = 0; i < ROUND; i++) {
        harness_put(harness, leader, i % HARNESS_KEYS);
        harness_run(harness, HARNESS_HEARTBEAT / 4);
    }
    harness_run(harness, 3 * HARNESS_HEARTBEAT);
    assert_true(bytes_equal(cursor_of(harness, other), cursor_of(harness, leader)));
    for (member_id id = 1; id <= 3; id++) assert_false(diverged(harness, id));
    harness_check_end(harness);
    buffer_free(&kept);
    end(harness);
}

static void test_an_installed_snapshot_goes_on(void **state)
{
    (void)state;
    member_id leader;
    struct harness *harness = new_harness(&(struct harness_options){.count = 3}, &leader);
    member_id away = harness_follower(harness);
    harness_crash(harness, away, true);
    to_the_midst(harness, leader);
    assert_int_equal(harness_snapshot_begin(harness, leader), ERR_OK);
    while (!harness_snapshot_slice(harness, leader)) {}
    harness_start(harness, away);
    harness_run(harness, 5 * HARNESS_HEARTBEAT);
    assert_int_equal(harness->members[away].snapshots_installed, 1);
    assert_true(cursor_of(harness, away).size > 0);
    assert_true(bytes_equal(cursor_of(harness, away), cursor_of(harness, leader)));
    /* And what goes wrong there from now on is found as on any other. */
    flip(harness, away, 9, FLIP_VALUE);
    entries_until_barred(harness, away, ROUND + 2);
    end(harness);
}

/* One frees what is compacted at once, one is held back by a snapshot that takes for ever, one starts again all the time. */
static void test_when_members_free_makes_no_difference(void **state)
{
    (void)state;
    struct harness_options options = {.count = 3, .history_bytes_budget = 2000};
    options.content_scrub = (struct content_scrub_limits){.interval = 2, .keys_max = 3, .bytes_max = 30};
    member_id leader;
    struct harness *harness = new_harness(&options, &leader);
    member_id slow = leader % 3 + 1, restless = slow % 3 + 1;
    assert_int_equal(harness_snapshot_begin(harness, slow), ERR_OK);
    store_revision compacted = store_compacted_revision(replica_store(harness->members[leader].replica));
    for (uint32_t i = 0; i < 600; i++) {
        if (i % 3 == 0) {
            harness_put(harness, leader, i * 7 % HARNESS_KEYS);
        } else {
            harness_delete(harness, leader, i * 5 % HARNESS_KEYS);
        }
        harness_run(harness, HARNESS_HEARTBEAT / 4);
        if (i % 50 == 49) {
            assert_int_equal(harness_snapshot_begin(harness, restless), ERR_OK);
            while (!harness_snapshot_slice(harness, restless)) {}
            harness_crash(harness, restless, true);
            harness_start(harness, restless);
        }
    }
    harness_run(harness, 3 * HARNESS_HEARTBEAT);
    /* It was so: the one that is held back holds dead records that the others have freed. */
    assert_true(store_compacted_revision(replica_store(harness->members[leader].replica)) > compacted);
    assert_true(store_memory_bytes(replica_store(harness->members[slow].replica)) >
                store_memory_bytes(replica_store(harness->members[leader].replica)) + 10000);
    while (!harness_snapshot_slice(harness, slow)) {}
    for (member_id id = 1; id <= 3; id++) assert_false(diverged(harness, id));
    harness_check_end(harness);
    end(harness);
}

/* ---- as bytes ---- */

static void test_encode_decode(void **state)
{
    (void)state;
    struct content_scrub scrub, loaded;
    struct buffer out = {0};
    content_scrub_init(&scrub, &limits);
    content_scrub_init(&loaded, &(struct content_scrub_limits){.interval = 0});
    for (size_t size = 0; size <= STORE_KEY_BYTES_MAX; size = size * 5 + 1) {
        buffer_clear(&scrub.next_key);
        for (size_t i = 0; i < size; i++) buffer_append_byte(&scrub.next_key, (uint8_t)(i * 7));
        buffer_clear(&out);
        content_scrub_encode(&scrub, &out);
        assert_int_equal(out.size, 16 + size);
        assert_int_equal(content_scrub_decode(&loaded, buffer_bytes(&out)), ERR_OK);
        assert_memory_equal(&loaded.limits, &limits, sizeof limits);
        assert_true(bytes_equal(buffer_bytes(&loaded.next_key), buffer_bytes(&scrub.next_key)));
    }
    buffer_clear(&scrub.next_key);
    buffer_append_string(&scrub.next_key, "key");
    buffer_clear(&out);
    content_scrub_encode(&scrub, &out);
    for (size_t size = 0; size < 16; size++) {
        uint8_t *exact = mem_alloc(size + 1);
        memcpy(exact, out.data, size);
        assert_int_equal(content_scrub_decode(&loaded, bytes_of(exact, size)), ERR_DAMAGED);
        mem_free(exact);
    }
    static const uint32_t versions[] = {0, 2, UINT32_MAX};
    for (size_t i = 0; i < ARRAY_COUNT(versions); i++) {
        put_u32(out.data, versions[i]);
        assert_int_equal(content_scrub_decode(&loaded, buffer_bytes(&out)), ERR_BAD_VERSION);
    }
    put_u32(out.data, 1);
    /* A slice of nothing would never come round. */
    for (size_t at = 8; at <= 12; at += 4) {
        uint32_t value = get_u32(out.data + at);
        put_u32(out.data + at, 0);
        assert_int_equal(content_scrub_decode(&loaded, buffer_bytes(&out)), ERR_DAMAGED);
        put_u32(out.data + at, value);
    }
    assert_int_equal(content_scrub_decode(&loaded, buffer_bytes(&out)), ERR_OK);
    buffer_clear(&out);
    content_scrub_encode(&scrub, &out);
    while (out.size < 16 + STORE_KEY_BYTES_MAX + 1) buffer_append_byte(&out, 'k');
    assert_int_equal(content_scrub_decode(&loaded, buffer_bytes(&out)), ERR_DAMAGED);
    assert_int_equal(loaded.next_key.size, 3); /* as before */
    content_scrub_free(&scrub);
    content_scrub_free(&loaded);
    buffer_free(&out);
}

/* Copies a snapshot, with the chunk that holds the cursor as often as wanted. */
static void copy_with_cursors(struct bytes file, unsigned cursors, struct buffer *out)
{
    struct snapshot_reader *reader = snapshot_reader_new();
    struct snapshot_writer writer = {0};
    struct snapshot_chunk chunk;
    snapshot_reader_feed(reader, file);
    while (snapshot_reader_next(reader, &chunk) == ERR_OK) {
        unsigned times = chunk.type == SNAPSHOT_CHUNK_CONTENT_SCRUB ? cursors : 1;
        if (chunk.type == SNAPSHOT_CHUNK_HEADER) {
            writer.snapshot_id = snapshot_reader_header(reader)->snapshot_id;
            snapshot_write_header(&writer, snapshot_reader_header(reader), out);
        } else if (chunk.type == SNAPSHOT_CHUNK_END) {
            snapshot_write_end(&writer, out);
        } else {
            for (unsigned i = 0; i < times; i++) snapshot_write_chunk(&writer, chunk.type, chunk.payload, out);
        }
    }
    assert_true(snapshot_reader_complete(reader));
    snapshot_reader_free(reader);
}

/* A snapshot of a version that didn't know the scrub: it is off, also in the snapshots that come after. */
static void test_a_snapshot_from_before(void **state)
{
    (void)state;
    member_id leader;
    struct harness *harness = new_harness(&(struct harness_options){.count = 1}, &leader);
    to_the_midst(harness, leader);
    assert_int_equal(harness_snapshot_begin(harness, leader), ERR_OK);
    while (!harness_snapshot_slice(harness, leader)) {}
    struct bytes file = buffer_bytes(&harness->members[leader].disk.snapshot);
    for (unsigned cursors = 0; cursors <= 2; cursors++) {
        struct buffer copy = {0};
        copy_with_cursors(file, cursors, &copy);
        struct replica *loaded = replica_new(&harness->members[leader].config, &log_none);
        assert_int_equal(harness_load(loaded, buffer_bytes(&copy)), cursors == 2 ? ERR_DAMAGED : ERR_OK);
        if (cursors < 2) {
            assert_int_equal(replica_load_finish(loaded), ERR_OK);
            assert_int_equal(loaded->scrub.limits.interval, cursors == 0 ? 0 : INTERVAL);
            for (raft_index index = 1; index <= 1000; index++) {
                assert_int_equal(content_scrub_is_due(&loaded->scrub, index), cursors == 1 && index % INTERVAL == 0);
            }
        }
        replica_free(loaded);
        buffer_free(&copy);
    }
    end(harness);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_flip_is_found),
        cmocka_unit_test(test_a_flip_of_any_key),
        cmocka_unit_test(test_a_flip_beside_the_keys),
        cmocka_unit_test(test_overwritten_in_time),
        cmocka_unit_test(test_a_restart_from_a_snapshot_goes_on),
        cmocka_unit_test(test_an_installed_snapshot_goes_on),
        cmocka_unit_test(test_when_members_free_makes_no_difference),
        cmocka_unit_test(test_encode_decode),
        cmocka_unit_test(test_a_snapshot_from_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
