#include "storage/raft_state.h"

#include <setjmp.h>
#include <stdlib.h>

#include <cmocka.h>

#include "storage/log_metadata.h"

static uint8_t file[SLOT_COUNT * SLOT_BYTES];
static char damage[SLOT_DAMAGE_BYTES];

static const struct raft_state example = {
    .cluster_id = 1,
    .member = 2,
    .founding_nonce = 3,
    .log_id = 4,
    .term = 5,
    .vote = 6,
    .incarnation = 7,
    .no_vote_before_term = 8,
    .catching_up = true,
    .node_id = "node-1",
};

static enum error decode(struct raft_state *out, uint64_t *generation)
{
    return raft_state_decode(bytes_of(file, sizeof file), out, generation, damage);
}

static void state_is_laid_out_as_documented(void **state)
{
    (void)state;
    raft_state_encode(&example, 9, file);
    assert_memory_equal(file + 4, "CRST", 4);
    const uint8_t *payload = file + SLOT_HEADER_BYTES;
    for (uint64_t i = 0; i < 8; i++) assert_true(get_u64(payload + i * 8) == i + 1);
    assert_true(get_u64(payload + 64) == 1);
    assert_int_equal(payload[72], 6);
    assert_memory_equal(payload + 73, "node-1", 6);
    assert_int_equal(get_u32(file + 12), 79);
}

static void state_comes_back(void **state)
{
    (void)state;
    struct raft_state longest = example;
    longest.catching_up = false;
    memset(longest.node_id, 'n', NODE_ID_BYTES_MAX);
    struct raft_state founded = example;
    founded.member_count = 2;
    founded.members[0] = (struct raft_state_member){.node_id = "node-1", .rpc_host = "localhost", .rpc_port = 6666};
    founded.members[1] = (struct raft_state_member){.node_id = "b", .rpc_host = "::1", .rpc_port = 65535};
    struct raft_state largest = longest;
    largest.member_count = MEMBERS_MAX;
    for (uint32_t i = 0; i < MEMBERS_MAX; i++) {
        memset(largest.members[i].node_id, 'a' + (int)i, NODE_ID_BYTES_MAX);
        memset(largest.members[i].rpc_host, 'A' + (int)i, ADDRESS_BYTES_MAX);
        largest.members[i].rpc_port = (uint16_t)(i + 1);
    }
    const struct raft_state *examples[] = {&example, &longest, &founded, &largest};
    for (size_t i = 0; i < ARRAY_COUNT(examples); i++) {
        memset(file, 0, sizeof file);
        raft_state_encode(examples[i], 40 + i, file);
        raft_state_encode(examples[i], 40 + i, file + SLOT_BYTES);
        struct raft_state out;
        uint64_t generation;
        assert_int_equal(decode(&out, &generation), ERR_OK);
        assert_true(generation == 40 + i);
        assert_memory_equal(&out, examples[i], sizeof out);
        assert_string_equal(damage, "");
    }
}

static void a_damaged_slot_never_takes_back_a_vote(void **state)
{
    (void)state;
    struct raft_state later = example;
    later.term = 6;
    later.vote = 77;
    raft_state_encode(&example, 1, file);
    raft_state_encode(&example, 1, file + SLOT_BYTES);
    /* A save counts when both slots hold it. So whichever is damaged then, the vote is known. */
    raft_state_encode(&later, 2, file);
    raft_state_encode(&later, 2, file + SLOT_BYTES);
    for (size_t at = 0; at < sizeof file; at++) {
        file[at] ^= 0x40;
        struct raft_state out;
        uint64_t generation;
        assert_int_equal(decode(&out, &generation), ERR_OK);
        assert_true(out.term == 6 && out.vote == 77 && generation == 2);
        file[at] ^= 0x40;
    }
}

static void senseless_payloads_are_damage(void **state)
{
    (void)state;
    uint8_t payload[200] = {0};
    raft_state_encode(&example, 1, file);
    memcpy(payload, file + SLOT_HEADER_BYTES, 79);
    static const struct {
        size_t offset;
        uint8_t value;
        size_t size;
    } changes[] = {
        {8, 0, 79},                 /* nobody's state */
        {64, 2, 79},                /* catching up: neither yes nor no */
        {72, 0, 73},                /* no node id */
        {72, 0, 79}, {72, 7, 79},   /* the node id longer or shorter than what is there */
        {72, 5, 79}, {72, 64, 137}, /* longer than one may be */
        {75, 0, 79},                /* a zero inside */
        {0, 1, 78},  {0, 1, 72},    {0, 1, 0},
    };
    for (size_t i = 0; i < ARRAY_COUNT(changes); i++) {
        uint8_t changed[200];
        memcpy(changed, payload, sizeof changed);
        if (changes[i].size > 79) memset(changed + 79, 'x', changes[i].size - 79);
        changed[changes[i].offset] = changes[i].value;
        memset(file, 0, sizeof file);
        slot_encode(RAFT_STATE_MAGIC, RAFT_STATE_VERSION, 1, bytes_of(changed, changes[i].size), file);
        struct raft_state out;
        uint64_t generation;
        assert_int_equal(decode(&out, &generation), ERR_DAMAGED);
        assert_string_equal(damage, "the raft state at offset 24 makes no sense");
    }
    /* Members: none, too many, cut short, too long a name, an empty one, a host with a zero, bytes left over. */
    static const struct {
        const char *bytes;
        size_t size;
        enum error expected;
    } members[] = {
        {"\1\1a\1\0h\1\0", 8, ERR_OK},        {"\0", 1, ERR_DAMAGED},
        {"\10\1a\1\0h\1\0", 8, ERR_DAMAGED},  {"\1\1a\1\0h\1\0", 7, ERR_DAMAGED},
        {"\1\1a\2\0h\0\1\0", 9, ERR_DAMAGED}, {"\1\100a\1\0h\1\0", 8, ERR_DAMAGED},
        {"\1\0\1\0h\1\0", 7, ERR_DAMAGED},    {"\1\1a\1\0h\1\0x", 9, ERR_DAMAGED},
        {"\2\1a\1\0h\1\0", 8, ERR_DAMAGED},
    };
    for (size_t i = 0; i < ARRAY_COUNT(members); i++) {
        uint8_t changed[200];
        memcpy(changed, payload, 79);
        memcpy(changed + 79, members[i].bytes, members[i].size);
        memset(file, 0, sizeof file);
        slot_encode(RAFT_STATE_MAGIC, RAFT_STATE_VERSION, 1, bytes_of(changed, 79 + members[i].size), file);
        struct raft_state decoded;
        uint64_t number;
        assert_int_equal(decode(&decoded, &number), members[i].expected);
    }
    struct raft_state out;
    uint64_t generation;
    memset(file, 0, sizeof file);
    assert_int_equal(decode(&out, &generation), ERR_NO_FILE);
    slot_encode(RAFT_STATE_MAGIC, RAFT_STATE_VERSION + 1, 1, bytes_of(payload, 79), file);
    assert_int_equal(decode(&out, &generation), ERR_BAD_VERSION);
}

static void log_metadata_come_back(void **state)
{
    (void)state;
    const struct log_metadata metadata = {.log_id = 11, .first_segment = 22, .last_segment = 33};
    memset(file, 0, sizeof file);
    log_metadata_encode(&metadata, 5, file);
    assert_memory_equal(file + 4, "CLMD", 4);
    assert_int_equal(get_u32(file + 12), 24);
    struct log_metadata out;
    uint64_t generation;
    assert_int_equal(log_metadata_decode(bytes_of(file, sizeof file), &out, &generation, damage), ERR_OK);
    assert_memory_equal(&out, &metadata, sizeof out);
    assert_true(generation == 5);
    /* With a copy of the raft state: every byte of it comes back, and the largest there is fits. */
    struct log_metadata with = metadata;
    with.identity = (struct raft_state){.cluster_id = 1,
                                        .member = 2,
                                        .founding_nonce = 3,
                                        .log_id = 11,
                                        .term = 5,
                                        .vote = 6,
                                        .incarnation = 7,
                                        .no_vote_before_term = 8,
                                        .catching_up = true,
                                        .member_count = MEMBERS_MAX};
    memset(with.identity.node_id, 'n', NODE_ID_BYTES_MAX);
    for (unsigned i = 0; i < MEMBERS_MAX; i++) {
        struct raft_state_member *member = &with.identity.members[i];
        memset(member->node_id, 'a' + (int)i, NODE_ID_BYTES_MAX);
        memset(member->rpc_host, 'A' + (int)i, ADDRESS_BYTES_MAX);
        member->rpc_port = (uint16_t)(60000 + i);
    }
    log_metadata_encode(&with, 6, file);
    assert_int_equal(log_metadata_decode(bytes_of(file, sizeof file), &out, &generation, damage), ERR_OK);
    assert_memory_equal(&out, &with, sizeof out);
    for (size_t size = 0; size < 40; size++) {
        uint8_t payload[40] = {0};
        slot_encode(LOG_METADATA_MAGIC, LOG_METADATA_VERSION, 1, bytes_of(payload, size), file);
        assert_int_equal(log_metadata_decode(bytes_of(file, sizeof file), &out, &generation, damage),
                         size == 24 ? ERR_OK : ERR_DAMAGED);
    }
    file[30] ^= 1;
    assert_int_equal(log_metadata_decode(bytes_of(file, sizeof file), &out, &generation, damage), ERR_DAMAGED);
    memset(file, 0, sizeof file);
    assert_int_equal(log_metadata_decode(bytes_of(file, sizeof file), &out, &generation, damage), ERR_NO_FILE);
}

static void an_identity_is_what_lasts(void **state)
{
    (void)state;
    struct raft_state a = {
        .cluster_id = 1, .member = 2, .founding_nonce = 3, .log_id = 4, .node_id = "n", .member_count = 1};
    a.members[0] = (struct raft_state_member){.node_id = "n", .rpc_host = "h", .rpc_port = 5};
    struct raft_state b = a;
    b.term = 9;
    b.vote = 9;
    b.incarnation = 9;
    b.no_vote_before_term = 9;
    b.catching_up = true;
    assert_true(raft_state_same_identity(&a, &b));
    struct raft_state others[8];
    for (size_t i = 0; i < ARRAY_COUNT(others); i++) others[i] = a;
    others[0].cluster_id++;
    others[1].member++;
    others[2].founding_nonce++;
    others[3].log_id++;
    others[4].members[0].rpc_port++;
    others[5].members[0].rpc_host[0]++;
    others[6].member_count = 0;
    others[7].members[0].node_id[0]++;
    for (size_t i = 0; i < ARRAY_COUNT(others); i++) assert_false(raft_state_same_identity(&a, &others[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(state_is_laid_out_as_documented),
        cmocka_unit_test(state_comes_back),
        cmocka_unit_test(a_damaged_slot_never_takes_back_a_vote),
        cmocka_unit_test(senseless_payloads_are_damage),
        cmocka_unit_test(log_metadata_come_back),
        cmocka_unit_test(an_identity_is_what_lasts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
