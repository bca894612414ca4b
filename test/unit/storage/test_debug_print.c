#include "storage/debug_print.h"

#include <setjmp.h>
#include <stdlib.h>

#include <cmocka.h>

#include "log_fixture.h"
#include "storage/command_format.h"
#include "storage/log_metadata.h"
#include "storage/raft_state.h"
#include "storage/snapshot.h"

#define NO_LOG "damage offset=0 what=\"this is no segment of a log\"\n"
#define NO_SNAPSHOT "damage offset=0 what=\"this is no snapshot\"\n"
#define NO_STATE "damage offset=0 what=\"this is neither a raft state nor metadata of a log or of snapshots\"\n"

struct printed {
    struct buffer text;
    bool good;
};

static struct printed print(const struct debug_print_options *options, struct bytes file, size_t slice)
{
    struct printed printed = {0};
    struct debug_print *printer = debug_print_new(options);
    for (size_t at = 0; at < file.size; at += slice) {
        size_t size = slice < file.size - at ? slice : file.size - at;
        debug_print_feed(printer, bytes_of(file.data + at, size), &printed.text);
        if (printed.text.size > 0) assert_int_equal(printed.text.data[printed.text.size - 1], '\n');
    }
    printed.good = debug_print_finish(printer, &printed.text);
    debug_print_free(printer);
    return printed;
}

/* Prints in slices of several sizes, which must make no difference. */
static void expect(const struct debug_print_options *options, struct bytes file, bool good, const char *text)
{
    static const size_t slices[] = {1000000, 4096, 512, 77};
    for (size_t i = 0; i < ARRAY_COUNT(slices); i++) {
        struct printed printed = print(options, file, slices[i]);
        buffer_append_byte(&printed.text, 0);
        assert_string_equal((char *)printed.text.data, text);
        assert_int_equal(printed.good, good);
        buffer_free(&printed.text);
    }
}

static struct entry *command(const char *payload, raft_index index, raft_term term, uint32_t previous_chain)
{
    struct entry *entry = entry_new(ENTRY_COMMAND, strlen(payload));
    memcpy(entry_payload(entry), payload, strlen(payload));
    entry_seal(entry, index, term, previous_chain);
    return entry;
}

static void write_small_log(struct fixture *fixture)
{
    fixture_init(fixture, 1);
    fixture_add_segment(fixture, 20480);
    struct entry *first[2] = {command("a", 1, 3, 0), NULL};
    first[1] = command("bc", 2, 3, entry_chain(first[0]));
    fixture_write_entries(fixture, first, 2);
    fixture->commit = 1;
    char long_payload[600];
    memset(long_payload, 'x', sizeof long_payload - 1);
    long_payload[sizeof long_payload - 1] = '\0';
    struct entry *second = command(long_payload, 3, 4, fixture_chain(&fixture->log, 2));
    fixture_write_entries(fixture, &second, 1);
}

static void a_log_segment_as_text_and_json(void **state)
{
    (void)state;
    struct fixture fixture;
    write_small_log(&fixture);
    struct bytes file = bytes_of(fixture.segments[0].data, fixture.segments[0].size);
    struct debug_print_options options = {.kind = DEBUG_PRINT_LOG};
    expect(&options, file, true,
           "segment number=1 log_id=1c0ffee15badf00d size=20480 first_index=1 previous_term=0 previous_chain=00000000 "
           "first_batch=1\n"
           "batch offset=4096 number=1 blocks=1 first_index=1 last_index=2 last_term=3 commit=0 records=67\n"
           "blocks offset=4608 count=7 state=\"untouched\"\n"
           "batch offset=8192 number=2 blocks=2 first_index=3 last_index=3 last_term=4 commit=1 records=631\n"
           "blocks offset=9216 count=22 state=\"untouched\"\n");

    options.json = true;
    options.entries = true;
    char expected[2048] = "";
    struct buffer text = {0};
    buffer_append_format(
        &text,
        "{\"line\":\"segment\",\"number\":1,\"log_id\":\"1c0ffee15badf00d\",\"size\":20480,\"first_index\":1,"
        "\"previous_term\":0,\"previous_chain\":\"00000000\",\"first_batch\":1}\n"
        "{\"line\":\"batch\",\"offset\":4096,\"number\":1,\"blocks\":1,\"first_index\":1,\"last_index\":2,"
        "\"last_term\":3,\"commit\":0,\"records\":67}\n"
        "{\"line\":\"entry\",\"index\":1,\"term\":3,\"type\":\"command\",\"payload\":1,\"command\":\"malformed\","
        "\"chain\":\"%08x\"}\n"
        "{\"line\":\"entry\",\"index\":2,\"term\":3,\"type\":\"command\",\"payload\":2,\"command\":\"malformed\","
        "\"chain\":\"%08x\"}\n"
        "{\"line\":\"blocks\",\"offset\":4608,\"count\":7,\"state\":\"untouched\"}\n"
        "{\"line\":\"batch\",\"offset\":8192,\"number\":2,\"blocks\":2,\"first_index\":3,\"last_index\":3,"
        "\"last_term\":4,\"commit\":1,\"records\":631}\n"
        "{\"line\":\"entry\",\"index\":3,\"term\":4,\"type\":\"command\",\"payload\":599,\"command\":\"of a newer "
        "version\",\"chain\":\"%08x\"}\n"
        "{\"line\":\"blocks\",\"offset\":9216,\"count\":22,\"state\":\"untouched\"}\n",
        fixture_chain(&fixture.log, 1), fixture_chain(&fixture.log, 2), fixture_chain(&fixture.log, 3));
    memcpy(expected, text.data, text.size);
    buffer_free(&text);
    expect(&options, file, true, expected);
    fixture_free(&fixture);
}

static struct entry *command_of(enum command_kind kind, struct bytes key, struct bytes value, uint64_t argument)
{
    struct entry *entry = command_format_entry(kind, key.size, value.size, argument);
    uint8_t *at = entry_payload(entry) + COMMAND_HEADER_BYTES;
    if (key.size > 0) memcpy(at, key.data, key.size);
    if (value.size > 0) memcpy(at + key.size, value.data, value.size);
    return entry;
}

static void entries_say_what_they_command(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, 1);
    fixture_add_segment(&fixture, 20480);
    char key[100];
    memset(key, 'k', sizeof key);
    struct entry *entries[] = {
        command_of(COMMAND_PUT, bytes_of_string("a\x1b/\"\xff"), bytes_of_string("value"), 0),
        command_of(COMMAND_PUT, bytes_of(key, sizeof key), bytes_of(NULL, 0), 0),
        command_of(COMMAND_DELETE, bytes_of("a\0b", 3), bytes_of(NULL, 0), 0),
        command_of(COMMAND_COMPACT, bytes_of(NULL, 0), bytes_of(NULL, 0), 77),
        entry_new(ENTRY_EMPTY, 0),
    };
    uint32_t chain = 0;
    for (uint32_t i = 0; i < ARRAY_COUNT(entries); i++) {
        entry_seal(entries[i], i + 1, 3, chain);
        chain = entry_chain(entries[i]);
    }
    fixture_write_entries(&fixture, entries, ARRAY_COUNT(entries));
    struct debug_print_options options = {.kind = DEBUG_PRINT_LOG, .entries = true};
    struct printed printed = print(&options, bytes_of(fixture.segments[0].data, fixture.segments[0].size), 512);
    buffer_append_byte(&printed.text, 0);
    const char *text = (const char *)printed.text.data;
    assert_non_null(strstr(text, "index=1 term=3 type=\"command\" payload=50 command=\"put\" "
                                 "key=\"a\\u001b/\\\"\\u00ff\" key_bytes=5 value_bytes=5 chain="));
    assert_non_null(strstr(text,
                           "command=\"put\" key=\"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk\" "
                           "key_bytes=100 value_bytes=0 chain="));
    assert_non_null(strstr(text, "command=\"delete\" key=\"a\\u0000b\" key_bytes=3 chain="));
    assert_non_null(strstr(text, "command=\"compact\" revision=77 chain="));
    assert_non_null(strstr(text, "type=\"empty\" payload=0 chain="));
    assert_true(printed.good);
    buffer_free(&printed.text);
    fixture_free(&fixture);
}

static void a_damaged_log_segment(void **state)
{
    (void)state;
    struct fixture fixture;
    write_small_log(&fixture);
    struct bytes file = bytes_of(fixture.segments[0].data, fixture.segments[0].size);
    struct debug_print_options options = {.kind = DEBUG_PRINT_LOG};

    /* The second half of the last batch, and a cut block further on. */
    fixture_block(&fixture, &fixture.batches[1], 1)[100] ^= 1;
    fixture.segments[0].data[12288] = 1;
    expect(&options, file, false,
           "segment number=1 log_id=1c0ffee15badf00d size=20480 first_index=1 previous_term=0 previous_chain=00000000 "
           "first_batch=1\n"
           "batch offset=4096 number=1 blocks=1 first_index=1 last_index=2 last_term=3 commit=0 records=67\n"
           "blocks offset=4608 count=7 state=\"untouched\"\n"
           "bad_batch offset=8192 number=2 blocks=2 last_index=3 last_term=4 reason=\"a block is missing or bad\"\n"
           "blocks offset=8704 count=1 state=\"damaged\"\n"
           "blocks offset=9216 count=6 state=\"untouched\"\n"
           "blocks offset=12288 count=1 state=\"cut\"\n"
           "blocks offset=12800 count=15 state=\"untouched\"\n");

    /* Its first half. The file is cut, too. */
    fixture_block(&fixture, &fixture.batches[1], 1)[100] ^= 1;
    fixture_block(&fixture, &fixture.batches[1], 0)[100] ^= 1;
    expect(&options, bytes_of(file.data, 9216 + 100), false,
           "segment number=1 log_id=1c0ffee15badf00d size=20480 first_index=1 previous_term=0 previous_chain=00000000 "
           "first_batch=1\n"
           "batch offset=4096 number=1 blocks=1 first_index=1 last_index=2 last_term=3 commit=0 records=67\n"
           "blocks offset=4608 count=7 state=\"untouched\"\n"
           "blocks offset=8192 count=1 state=\"damaged\"\n"
           "bad_batch offset=8192 number=2 blocks=2 last_index=3 last_term=4 reason=\"its blocks before this one are "
           "missing or bad\"\n"
           "odd_bytes offset=9216 count=100\n");

    /* Without its header nothing can be made out, unless the caller knows what it was. */
    fixture.segments[0].data[20] ^= 1;
    expect(&options, bytes_of(file.data, 8192), false,
           "segment header=\"damaged\"\n"
           "blocks offset=4096 count=1 state=\"damaged\"\n"
           "blocks offset=4608 count=7 state=\"untouched\"\n");
    options.log_id = FIXTURE_LOG_ID;
    options.segment_number = 1;
    expect(&options, bytes_of(file.data, 8192), false,
           "segment header=\"damaged\"\n"
           "batch offset=4096 number=1 blocks=1 first_index=1 last_index=2 last_term=3 commit=0 records=67\n"
           "blocks offset=4608 count=7 state=\"untouched\"\n");
    fixture_free(&fixture);
}

static void a_spare_segment_and_an_owing_one(void **state)
{
    (void)state;
    uint8_t file[8192] = {0};
    struct debug_print_options options = {.kind = DEBUG_PRINT_LOG};
    expect(&options, bytes_of(file, sizeof file), true,
           "segment header=\"untouched\"\nblocks offset=4096 count=8 state=\"untouched\"\n");
    struct log_segment_header header = {
        .log_id = 1, .number = 2, .size_bytes = 8192, .first_index = 3, .owed = true, .owed_index = 9, .owed_term = 5};
    log_segment_header_encode(&header, file);
    expect(&options, bytes_of(file, 4096), true,
           "segment number=2 log_id=0000000000000001 size=8192 first_index=3 previous_term=0 previous_chain=00000000 "
           "first_batch=0 owed_index=9 owed_term=5 owed_extent_known=false\n");
}

/* One chunk of keys; its offset. */
static size_t write_small_snapshot(struct buffer *file)
{
    struct snapshot_header header = {
        .snapshot_id = 0xab,
        .cluster_id = 0xcd,
        .index = 3,
        .term = 4,
        .chain = 5,
        .revision = 6,
        .compacted_revision = 7,
        .apply_hash = 8,
        .member_count = 1,
        /* What might do harm on a terminal. */
        .members = {{.id = 9, .node_id = "n\x1b\"1", .rpc_address = "h\\:1", .api_address = "h\xff:2"}},
    };
    struct snapshot_writer writer = {.snapshot_id = header.snapshot_id};
    snapshot_write_header(&writer, &header, file);
    size_t keys_offset = file->size;
    snapshot_write_chunk(&writer, SNAPSHOT_CHUNK_KEYS, bytes_of_string("keys"), file);
    snapshot_write_end(&writer, file);
    return keys_offset;
}

static void a_snapshot_as_text(void **state)
{
    (void)state;
    struct buffer file = {0};
    size_t keys_offset = write_small_snapshot(&file);
    struct debug_print_options options = {.kind = DEBUG_PRINT_SNAPSHOT};
#define HEAD                                                                                                           \
    "snapshot snapshot_id=00000000000000ab cluster_id=00000000000000cd index=3 term=4 chain=00000005 revision=6 "      \
    "compacted_revision=7 apply_hash=0000000000000008\n"                                                               \
    "member id=0000000000000009 node_id=\"n\\u001b\\\"1\" rpc_address=\"h\\\\:1\" api_address=\"h\\u00ff:2\" "         \
    "learner=false\n"                                                                                                  \
    "chunk offset=0 type=\"header\" payload=102\n"
    assert_int_equal(keys_offset, 118);
    expect(&options, buffer_bytes(&file), true,
           HEAD "chunk offset=118 type=\"keys\" payload=4\nchunk offset=138 type=\"end\" payload=8\n");
    expect(&options, bytes_of(file.data, 138), false,
           HEAD "chunk offset=118 type=\"keys\" payload=4\ndamage offset=138 what=\"the file ends early\"\n");
    file.data[135] ^= 1;
    expect(&options, buffer_bytes(&file), false, HEAD "damage offset=118 what=\"the chunk is damaged\"\n");
    buffer_free(&file);
}

static void state_files_as_json(void **state)
{
    (void)state;
    static uint8_t file[SLOT_COUNT * SLOT_BYTES];
    struct debug_print_options options = {.kind = DEBUG_PRINT_STATE, .json = true};
    const struct raft_state raft_state = {.cluster_id = 1,
                                          .member = 2,
                                          .founding_nonce = 3,
                                          .log_id = 4,
                                          .term = 5,
                                          .vote = 6,
                                          .incarnation = 7,
                                          .no_vote_before_term = 8,
                                          .catching_up = true,
                                          .node_id = "node-1"};
    raft_state_encode(&raft_state, 9, file);
    expect(&options, bytes_of(file, sizeof file), false,
           "{\"line\":\"slot\",\"offset\":0,\"kind\":\"raft state\",\"state\":\"good\",\"generation\":9,"
           "\"node_id\":\"node-1\",\"member\":\"0000000000000002\",\"cluster_id\":\"0000000000000001\","
           "\"founding_nonce\":\"0000000000000003\",\"log_id\":\"0000000000000004\",\"term\":5,"
           "\"vote\":\"0000000000000006\",\"incarnation\":7,\"no_vote_before_term\":8,\"catching_up\":true}\n"
           "{\"line\":\"slot\",\"offset\":4096,\"kind\":\"unknown\",\"state\":\"empty\"}\n");

    const struct log_metadata log_metadata = {.log_id = 10, .first_segment = 11, .last_segment = 12};
    const struct snapshot_metadata snapshot_metadata = {13, 14, 15, 16, 17};
    options.json = false;
    log_metadata_encode(&log_metadata, 1, file);
    snapshot_metadata_encode(&snapshot_metadata, 2, file + SLOT_BYTES);
    expect(&options, bytes_of(file, sizeof file), true,
           "slot offset=0 kind=\"log metadata\" state=\"good\" generation=1 log_id=000000000000000a first_segment=11 "
           "last_segment=12\n"
           "slot offset=4096 kind=\"snapshot metadata\" state=\"good\" generation=2 epoch=13 index=14 term=15 size=16 "
           "snapshot_id=0000000000000011\n");
    /* With members. */
    struct raft_state named = raft_state;
    named.member_count = 2;
    named.members[0] = (struct raft_state_member){.node_id = "node-1", .rpc_host = "10.0.0.1", .rpc_port = 6666};
    named.members[1] = (struct raft_state_member){.node_id = "node-2", .rpc_host = "two", .rpc_port = 7};
    struct log_metadata with = log_metadata;
    with.identity = named;
    log_metadata_encode(&with, 1, file);
    raft_state_encode(&named, 2, file + SLOT_BYTES);
    expect(
        &options, bytes_of(file, sizeof file), true,
        "slot offset=0 kind=\"log metadata\" state=\"good\" generation=1 log_id=000000000000000a first_segment=11 "
        "last_segment=12 node_id=\"node-1\" cluster_id=0000000000000001 members=\"node-1@10.0.0.1:6666,node-2@two:7\"\n"
        "slot offset=4096 kind=\"raft state\" state=\"good\" generation=2 node_id=\"node-1\" member=0000000000000002 "
        "cluster_id=0000000000000001 founding_nonce=0000000000000003 log_id=0000000000000004 term=5 "
        "vote=0000000000000006 incarnation=7 no_vote_before_term=8 catching_up=true "
        "members=\"node-1@10.0.0.1:6666,node-2@two:7\"\n");
    file[100] ^= 1;
    expect(&options, bytes_of(file, SLOT_BYTES + 7), false,
           "slot offset=0 kind=\"log metadata\" state=\"damaged\"\n"
           "slot offset=4096 kind=\"unknown\" state=\"damaged\"\n");
    expect(
        &options, bytes_of(NULL, 0), false,
        "slot offset=0 kind=\"unknown\" state=\"empty\"\nslot offset=4096 kind=\"unknown\" state=\"empty\"\n" NO_STATE);
}

/* A file of each kind, an empty one and a text, printed as each kind. */
static void a_file_of_another_kind_is_called_so(void **state)
{
    (void)state;
    struct fixture fixture;
    struct buffer snapshot = {0};
    static uint8_t slots[SLOT_COUNT * SLOT_BYTES];
    static uint8_t text[2000];
    const struct log_metadata metadata = {.log_id = 10, .first_segment = 11, .last_segment = 12};
    write_small_log(&fixture);
    write_small_snapshot(&snapshot);
    log_metadata_encode(&metadata, 1, slots);
    log_metadata_encode(&metadata, 1, slots + SLOT_BYTES);
    memset(text, 'x', sizeof text);
    const struct bytes files[] = {
        [DEBUG_PRINT_LOG] = bytes_of(fixture.segments[0].data, fixture.segments[0].size),
        [DEBUG_PRINT_SNAPSHOT] = buffer_bytes(&snapshot),
        [DEBUG_PRINT_STATE] = bytes_of(slots, sizeof slots),
        bytes_of(text, sizeof text),
        bytes_of(NULL, 0),
    };
    static const char *const verdicts[] = {NO_LOG, NO_SNAPSHOT, NO_STATE};
    for (size_t kind = 0; kind < ARRAY_COUNT(verdicts); kind++) {
        for (size_t i = 0; i < ARRAY_COUNT(files); i++) {
            struct debug_print_options options = {.kind = (enum debug_print_kind)kind};
            struct printed printed = print(&options, files[i], 512);
            buffer_append_byte(&printed.text, '\0');
            assert_int_equal(printed.good, i == kind);
            assert_int_equal(strstr((const char *)printed.text.data, verdicts[kind]) != NULL, i != kind);
            buffer_free(&printed.text);
        }
    }
    buffer_free(&snapshot);
    fixture_free(&fixture);
}

/* Whatever the bytes are, it ends, and all lines are whole. */
static void any_bytes_can_be_printed(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 5);
    for (int round = 0; round < 300; round++) {
        uint8_t file[10000];
        size_t size = (size_t)random_below(&random, sizeof file);
        for (size_t i = 0; i < size; i++) file[i] = random_chance(&random, 300) ? (uint8_t)random_u64(&random) : 0;
        for (int kind = 0; kind < 3; kind++) {
            struct debug_print_options options = {
                .kind = (enum debug_print_kind)kind, .json = round % 2 == 0, .entries = true};
            struct printed printed = print(&options, bytes_of(file, size), 1 + (size_t)random_below(&random, 5000));
            if (printed.text.size > 0) assert_int_equal(printed.text.data[printed.text.size - 1], '\n');
            buffer_free(&printed.text);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_log_segment_as_text_and_json),
        cmocka_unit_test(entries_say_what_they_command),
        cmocka_unit_test(a_damaged_log_segment),
        cmocka_unit_test(a_spare_segment_and_an_owing_one),
        cmocka_unit_test(a_snapshot_as_text),
        cmocka_unit_test(state_files_as_json),
        cmocka_unit_test(a_file_of_another_kind_is_called_so),
        cmocka_unit_test(any_bytes_can_be_printed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
