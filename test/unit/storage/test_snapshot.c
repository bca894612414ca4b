#include "storage/snapshot.h"

#include <setjmp.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "base/mem.h"
#include "base/random.h"

static struct snapshot_header example_header(void)
{
    struct snapshot_header header = {
        .snapshot_id = 0x1122334455667788u,
        .cluster_id = 2,
        .index = 3,
        .term = 4,
        .chain = 5,
        .revision = 6,
        .compacted_revision = 7,
        .apply_hash = 8,
        .member_count = MEMBERS_MAX,
    };
    for (uint32_t i = 0; i < MEMBERS_MAX; i++) {
        struct snapshot_member *member = &header.members[i];
        member->id = 100 + i;
        memset(member->node_id, 'a' + (int)i, i == 0 ? NODE_ID_BYTES_MAX : i);
        memset(member->rpc_address, 'r', i == 1 ? ADDRESS_BYTES_MAX : i * 3);
        memset(member->api_address, 'p', i == 2 ? ADDRESS_BYTES_MAX : i * 2);
        member->learner = i == 3;
    }
    return header;
}

/* A small snapshot with empty, tiny and larger chunks. */
static struct buffer example(void)
{
    struct buffer out = {0};
    struct snapshot_header header = example_header();
    struct snapshot_writer writer = {.snapshot_id = header.snapshot_id};
    uint8_t payload[700];
    for (size_t i = 0; i < sizeof payload; i++) payload[i] = (uint8_t)(i * 11);
    snapshot_write_header(&writer, &header, &out);
    snapshot_write_chunk(&writer, SNAPSHOT_CHUNK_SESSIONS, bytes_of(payload, 100), &out);
    snapshot_write_chunk(&writer, SNAPSHOT_CHUNK_KEYS, bytes_of(payload, 0), &out);
    snapshot_write_chunk(&writer, SNAPSHOT_CHUNK_KEYS, bytes_of(payload, 1), &out);
    snapshot_write_chunk(&writer, SNAPSHOT_CHUNK_KEYS, bytes_of(payload, sizeof payload), &out);
    snapshot_write_end(&writer, &out);
    return out;
}

struct reading {
    enum error error; /* of the last call */
    bool complete;
    uint32_t chunks;
    size_t payload_bytes;
    uint32_t payload_crc;
    uint64_t offset;
    char damage[256];
};

/* Reads slices of random sizes up to slice_max. */
static struct reading read_all(struct bytes file, struct random *random, size_t slice_max)
{
    struct reading reading = {.error = ERR_NOT_READY};
    struct snapshot_reader *reader = snapshot_reader_new();
    assert_null(snapshot_reader_header(reader));
    size_t at = 0;
    while (at < file.size && reading.error == ERR_NOT_READY) {
        size_t size = 1 + (size_t)random_below(random, slice_max);
        if (size > file.size - at) size = file.size - at;
        uint8_t *slice = mem_alloc(size);
        memcpy(slice, file.data + at, size);
        snapshot_reader_feed(reader, bytes_of(slice, size));
        mem_free(slice);
        at += size;
        struct snapshot_chunk chunk;
        while ((reading.error = snapshot_reader_next(reader, &chunk)) == ERR_OK) {
            assert_true(get_u32(file.data + chunk.offset + 8) == reading.chunks);
            reading.chunks++;
            reading.payload_bytes += chunk.payload.size;
            reading.payload_crc = crc32c(reading.payload_crc, chunk.payload.data, chunk.payload.size);
            assert_non_null(snapshot_reader_header(reader));
        }
    }
    reading.complete = snapshot_reader_complete(reader);
    reading.offset = snapshot_reader_offset(reader);
    strcpy(reading.damage, snapshot_reader_damage(reader));
    if (reading.error != ERR_NOT_READY) {
        /* For ever after. */
        struct snapshot_chunk chunk;
        snapshot_reader_feed(reader, file);
        assert_int_equal(snapshot_reader_next(reader, &chunk), reading.error);
        assert_false(reading.complete);
        assert_true(reading.damage[0] != '\0');
    }
    snapshot_reader_free(reader);
    return reading;
}

static void snapshot_is_laid_out_as_documented(void **state)
{
    (void)state;
    struct buffer file = {0};
    struct snapshot_header header = {
        .snapshot_id = 0x1122334455667788u,
        .cluster_id = 2,
        .index = 3,
        .term = 4,
        .chain = 5,
        .revision = 6,
        .compacted_revision = 7,
        .apply_hash = 8,
        .member_count = 1,
        .members = {{.id = 9, .node_id = "n1", .rpc_address = "host:1", .api_address = "host:22"}},
    };
    struct snapshot_writer writer = {.snapshot_id = header.snapshot_id};
    snapshot_write_header(&writer, &header, &file);
    size_t first_bytes = file.size;
    snapshot_write_chunk(&writer, SNAPSHOT_CHUNK_KEYS, bytes_of_string("keys"), &file);
    size_t second_bytes = file.size - first_bytes;
    snapshot_write_end(&writer, &file);

    const uint8_t *chunk = file.data;
    uint8_t id[8] = {0};
    assert_int_equal(get_u32(chunk), crc32c(crc32c(0, id, 8), chunk + 4, first_bytes - 4));
    assert_int_equal(get_u32(chunk + 4), first_bytes - 16);
    assert_int_equal(get_u32(chunk + 8), 0);
    assert_int_equal(get_u32(chunk + 12), SNAPSHOT_CHUNK_HEADER);
    const uint8_t *payload = chunk + 16;
    assert_memory_equal(payload, "CSNP", 4);
    assert_int_equal(get_u32(payload + 4), 1);
    assert_true(get_u64(payload + 8) == 0x1122334455667788u && get_u64(payload + 16) == 2);
    assert_true(get_u64(payload + 24) == 3 && get_u64(payload + 32) == 4);
    assert_true(get_u32(payload + 40) == 5 && get_u32(payload + 44) == 0);
    assert_true(get_u64(payload + 48) == 6 && get_u64(payload + 56) == 7 && get_u64(payload + 64) == 8);
    assert_int_equal(get_u32(payload + 72), 1);
    assert_true(get_u64(payload + 76) == 9);
    assert_memory_equal(payload + 84, "\x02n1\x06\x00host:1\x07\x00host:22\x00", 1 + 2 + 2 + 6 + 2 + 7 + 1);
    assert_int_equal(first_bytes, 16 + 84 + 21);

    chunk += first_bytes;
    put_u64(id, header.snapshot_id);
    assert_int_equal(get_u32(chunk), crc32c(crc32c(0, id, 8), chunk + 4, second_bytes - 4));
    assert_int_equal(get_u32(chunk + 4), 4);
    assert_int_equal(get_u32(chunk + 8), 1);
    assert_int_equal(get_u32(chunk + 12), SNAPSHOT_CHUNK_KEYS);
    assert_memory_equal(chunk + 16, "keys", 4);

    const uint8_t *end = chunk + second_bytes;
    assert_int_equal(get_u32(end + 4), 8);
    assert_int_equal(get_u32(end + 12), SNAPSHOT_CHUNK_END);
    assert_int_equal(get_u32(end + 16), 2);
    assert_int_equal(get_u32(end + 20), crc32c(crc32c(0, file.data, 4), chunk, 4));
    assert_int_equal(file.size, first_bytes + second_bytes + 24);
    buffer_free(&file);
}

static void a_good_snapshot_is_read_in_any_slices(void **state)
{
    (void)state;
    struct buffer file = example();
    struct random random;
    random_seed(&random, 4);
    static const size_t slices[] = {1, 2, 17, 300, 100000};
    for (size_t i = 0; i < ARRAY_COUNT(slices); i++) {
        struct reading reading = read_all(buffer_bytes(&file), &random, slices[i]);
        assert_int_equal(reading.error, ERR_NOT_READY);
        assert_true(reading.complete);
        assert_int_equal(reading.chunks, 6);
        assert_true(reading.offset == file.size);
        assert_string_equal(reading.damage, "");
    }

    struct snapshot_reader *reader = snapshot_reader_new();
    snapshot_reader_feed(reader, buffer_bytes(&file));
    struct snapshot_chunk chunk;
    assert_int_equal(snapshot_reader_next(reader, &chunk), ERR_OK);
    struct snapshot_header expected = example_header();
    assert_memory_equal(snapshot_reader_header(reader), &expected, sizeof expected);
    static const struct {
        enum snapshot_chunk_type type;
        size_t size;
    } chunks[] = {
        {SNAPSHOT_CHUNK_SESSIONS, 100}, {SNAPSHOT_CHUNK_KEYS, 0}, {SNAPSHOT_CHUNK_KEYS, 1},
        {SNAPSHOT_CHUNK_KEYS, 700},     {SNAPSHOT_CHUNK_END, 8},
    };
    for (size_t i = 0; i < ARRAY_COUNT(chunks); i++) {
        assert_false(snapshot_reader_complete(reader));
        assert_int_equal(snapshot_reader_next(reader, &chunk), ERR_OK);
        assert_int_equal(chunk.type, chunks[i].type);
        assert_int_equal(chunk.payload.size, chunks[i].size);
        if (i == 4) break;
        for (size_t b = 0; b < chunk.payload.size; b++) assert_int_equal(chunk.payload.data[b], (uint8_t)(b * 11));
    }
    assert_true(snapshot_reader_complete(reader));
    assert_int_equal(snapshot_reader_next(reader, &chunk), ERR_NOT_READY);
    snapshot_reader_free(reader);
    buffer_free(&file);
}

static void a_flip_anywhere_is_found(void **state)
{
    (void)state;
    struct buffer file = example();
    struct random random;
    random_seed(&random, 5);
    for (size_t bit = 0; bit < file.size * 8; bit++) {
        file.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        struct reading reading = read_all(buffer_bytes(&file), &random, 400);
        assert_false(reading.complete);
        assert_true(reading.chunks < 6);
        /* A length that grew within the limit waits for bytes that never come; all else is seen at once. */
        if (reading.error == ERR_NOT_READY) {
            size_t in_chunk = bit / 8 - (size_t)reading.offset;
            assert_true(in_chunk >= 4 && in_chunk < 8);
        } else {
            assert_int_equal(reading.error, ERR_DAMAGED);
            assert_true(reading.offset <= bit / 8);
        }
        file.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    buffer_free(&file);
}

static void a_file_cut_anywhere_is_not_complete(void **state)
{
    (void)state;
    struct buffer file = example();
    struct random random;
    random_seed(&random, 6);
    for (size_t size = 0; size < file.size; size++) {
        struct reading reading = read_all(bytes_of(file.data, size), &random, 400);
        assert_false(reading.complete);
        assert_int_equal(reading.error, ERR_NOT_READY);
    }
    /* Nor is one with something behind its end. */
    buffer_append_byte(&file, 0);
    struct reading reading = read_all(buffer_bytes(&file), &random, 100000);
    assert_int_equal(reading.error, ERR_DAMAGED);
    assert_true(reading.offset == file.size - 1);
    buffer_free(&file);
}

static void chunks_that_are_swapped_lost_or_repeated_are_found(void **state)
{
    (void)state;
    struct buffer file = example();
    size_t starts[7] = {0};
    uint32_t count = 0;
    for (size_t at = 0; at < file.size; at += 16 + get_u32(file.data + at + 4)) starts[count++] = at;
    starts[count] = file.size;
    assert_int_equal(count, 6);
    struct random random;
    random_seed(&random, 7);
    for (uint32_t a = 0; a < count; a++) {
        for (uint32_t b = 0; b <= count; b++) {
            if (b == a || b == a + 1) continue;
            /* Chunk a goes before chunk b; or, when `copy`, is there twice; or is lost. */
            for (int copy = 0; copy < 3; copy++) {
                struct buffer changed = {0};
                for (uint32_t i = 0; i <= count; i++) {
                    if (i == b && copy < 2) buffer_append(&changed, file.data + starts[a], starts[a + 1] - starts[a]);
                    if (i == count || (i == a && copy != 1)) continue;
                    buffer_append(&changed, file.data + starts[i], starts[i + 1] - starts[i]);
                }
                struct reading reading = read_all(buffer_bytes(&changed), &random, 1000);
                assert_false(reading.complete);
                bool lost_end = copy == 2 && a == count - 1;
                assert_int_equal(reading.error, lost_end ? ERR_NOT_READY : ERR_DAMAGED);
                buffer_free(&changed);
            }
        }
    }
    buffer_free(&file);
}

static void chunks_of_another_snapshot_are_refused(void **state)
{
    (void)state;
    struct buffer file = {0};
    struct snapshot_header header = example_header();
    struct snapshot_writer writer = {.snapshot_id = header.snapshot_id};
    snapshot_write_header(&writer, &header, &file);
    struct snapshot_writer other = writer;
    other.snapshot_id++;
    size_t end = file.size;
    snapshot_write_chunk(&other, SNAPSHOT_CHUNK_KEYS, bytes_of_string("keys"), &file);
    struct random random;
    random_seed(&random, 8);
    struct reading reading = read_all(buffer_bytes(&file), &random, 1000);
    assert_int_equal(reading.error, ERR_DAMAGED);
    assert_true(reading.offset == end);
    buffer_free(&file);
}

static void put_crc(uint8_t *chunk, uint64_t check_id)
{
    uint8_t id[8];
    put_u64(id, check_id);
    put_u32(chunk, crc32c(crc32c(0, id, 8), chunk + 4, 12 + get_u32(chunk + 4)));
}

static void newer_versions_and_unknown_chunks_are_refused(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 9);
    struct buffer file = example();
    put_u32(file.data + 20, SNAPSHOT_VERSION + 1);
    put_crc(file.data, 0);
    assert_int_equal(read_all(buffer_bytes(&file), &random, 1000).error, ERR_BAD_VERSION);
    put_u32(file.data + 20, 0);
    put_crc(file.data, 0);
    assert_int_equal(read_all(buffer_bytes(&file), &random, 1000).error, ERR_DAMAGED);
    buffer_free(&file);

    for (int type = 0; type < 256; type++) {
        struct buffer changed = example();
        uint8_t *second = changed.data + 16 + get_u32(changed.data + 4);
        second[12] = (uint8_t)type;
        put_crc(second, 0x1122334455667788u);
        bool known = type == SNAPSHOT_CHUNK_HEADER || type == SNAPSHOT_CHUNK_SESSIONS ||
                     type == SNAPSHOT_CHUNK_LEASES || type == SNAPSHOT_CHUNK_CONTENT_SCRUB ||
                     type == SNAPSHOT_CHUNK_KEYS || type == SNAPSHOT_CHUNK_END;
        struct reading reading = read_all(buffer_bytes(&changed), &random, 1000);
        enum error expected = type == SNAPSHOT_CHUNK_SESSIONS ? ERR_NOT_READY : known ? ERR_DAMAGED : ERR_BAD_VERSION;
        assert_int_equal(reading.error, expected);
        buffer_free(&changed);
    }
}

static void senseless_headers_are_damage(void **state)
{
    (void)state;
    static const struct {
        size_t offset;
        size_t bytes;
        uint64_t value;
    } changes[] = {
        {0, 4, 0},                /* magic */
        {8, 8, 0},                /* id */
        {72, 4, MEMBERS_MAX + 1}, /* members */
        {72, 4, UINT32_MAX},
        {72, 4, MEMBERS_MAX - 1},       /* bytes left over */
        {84, 1, NODE_ID_BYTES_MAX + 1}, /* lengths */
        {84, 1, 255},
        {85, 1, 0}, /* a zero inside */
        {148, 2, ADDRESS_BYTES_MAX + 1},
        {148, 2, UINT16_MAX},
    };
    struct random random;
    random_seed(&random, 10);
    for (size_t i = 0; i < ARRAY_COUNT(changes); i++) {
        struct buffer file = example();
        memcpy(file.data + 16 + changes[i].offset, &changes[i].value, changes[i].bytes);
        put_crc(file.data, 0);
        struct reading reading = read_all(buffer_bytes(&file), &random, 1000);
        assert_int_equal(reading.error, ERR_DAMAGED);
        assert_int_equal(reading.chunks, 0);
        buffer_free(&file);
    }
    /* Shortened at every byte. */
    struct buffer file = example();
    uint32_t whole = get_u32(file.data + 4);
    for (uint32_t size = 0; size < whole; size++) {
        put_u32(file.data + 4, size);
        put_crc(file.data, 0);
        assert_int_equal(read_all(buffer_bytes(&file), &random, 100000).error, ERR_DAMAGED);
    }
    buffer_free(&file);
}

static void a_length_beyond_the_limit_is_refused_at_once(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {SNAPSHOT_CHUNK_PAYLOAD_BYTES_MAX + 1, UINT32_MAX};
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        uint8_t chunk[16] = {0};
        put_u32(chunk + 4, sizes[i]);
        struct snapshot_reader *reader = snapshot_reader_new();
        snapshot_reader_feed(reader, bytes_of(chunk, sizeof chunk));
        struct snapshot_chunk out;
        assert_int_equal(snapshot_reader_next(reader, &out), ERR_DAMAGED);
        assert_string_equal(snapshot_reader_damage(reader), "the chunk is too long");
        snapshot_reader_free(reader);
    }
}

static void the_longest_chunk_is_read(void **state)
{
    (void)state;
    uint8_t *payload = mem_alloc(SNAPSHOT_CHUNK_PAYLOAD_BYTES_MAX);
    memset(payload, 7, SNAPSHOT_CHUNK_PAYLOAD_BYTES_MAX);
    struct buffer file = {0};
    struct snapshot_header header = example_header();
    header.member_count = 0;
    struct snapshot_writer writer = {.snapshot_id = header.snapshot_id};
    snapshot_write_header(&writer, &header, &file);
    snapshot_write_chunk(&writer, SNAPSHOT_CHUNK_KEYS, bytes_of(payload, SNAPSHOT_CHUNK_PAYLOAD_BYTES_MAX), &file);
    snapshot_write_end(&writer, &file);
    struct random random;
    random_seed(&random, 11);
    struct reading reading = read_all(buffer_bytes(&file), &random, 300000);
    assert_true(reading.complete);
    assert_int_equal(reading.chunks, 3);
    mem_free(payload);
    buffer_free(&file);
}

static void names_are_parsed_exactly(void **state)
{
    (void)state;
    char name[SNAPSHOT_NAME_BYTES];
    snapshot_name(0xfedcba9876543210u, name);
    assert_string_equal(name, "snapshot-fedcba9876543210.snap");
    uint64_t epoch = 0;
    assert_true(snapshot_name_parse(name, &epoch));
    assert_true(epoch == 0xfedcba9876543210u);
    static const char *const others[] = {
        "",
        "snapshot-",
        "snapshot-fedcba9876543210",
        "snapshot-FEDCBA9876543210.snap",
        "snapshot-fedcba9876543210.snap.tmp",
        "snapshot-edcba9876543210.snap",
        "metadata",
    };
    for (size_t i = 0; i < ARRAY_COUNT(others); i++) assert_false(snapshot_name_parse(others[i], &epoch));
}

static void metadata_come_back(void **state)
{
    (void)state;
    static uint8_t file[SLOT_COUNT * SLOT_BYTES];
    char damage[SLOT_DAMAGE_BYTES];
    const struct snapshot_metadata metadata = {1, 2, 3, 4, 5};
    snapshot_metadata_encode(&metadata, 9, file);
    assert_memory_equal(file + 4, "CSMD", 4);
    for (uint64_t i = 0; i < 5; i++) assert_true(get_u64(file + SLOT_HEADER_BYTES + 8 * i) == i + 1);
    struct snapshot_metadata out;
    uint64_t generation;
    assert_int_equal(snapshot_metadata_decode(bytes_of(file, sizeof file), &out, &generation, damage), ERR_OK);
    assert_memory_equal(&out, &metadata, sizeof out);
    assert_true(generation == 9);
    for (size_t size = 0; size < 60; size++) {
        uint8_t payload[60] = {0};
        slot_encode(SNAPSHOT_METADATA_MAGIC, SNAPSHOT_METADATA_VERSION, 1, bytes_of(payload, size), file);
        assert_int_equal(snapshot_metadata_decode(bytes_of(file, sizeof file), &out, &generation, damage),
                         size == 40 ? ERR_OK : ERR_DAMAGED);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(snapshot_is_laid_out_as_documented),
        cmocka_unit_test(a_good_snapshot_is_read_in_any_slices),
        cmocka_unit_test(a_flip_anywhere_is_found),
        cmocka_unit_test(a_file_cut_anywhere_is_not_complete),
        cmocka_unit_test(chunks_that_are_swapped_lost_or_repeated_are_found),
        cmocka_unit_test(chunks_of_another_snapshot_are_refused),
        cmocka_unit_test(newer_versions_and_unknown_chunks_are_refused),
        cmocka_unit_test(senseless_headers_are_damage),
        cmocka_unit_test(a_length_beyond_the_limit_is_refused_at_once),
        cmocka_unit_test(the_longest_chunk_is_read),
        cmocka_unit_test(names_are_parsed_exactly),
        cmocka_unit_test(metadata_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
