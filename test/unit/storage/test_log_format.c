#include "storage/log_format.h"

#include <setjmp.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "base/mem.h"
#include "base/random.h"
#include "storage/log_scan.h"

static const struct log_segment_header example_header = {
    .log_id = 0x1122334455667788u,
    .number = 9,
    .size_bytes = 65536,
    .first_index = 77,
    .previous_term = 5,
    .previous_chain = 0xdeadbeef,
    .first_batch_number = 1234,
    .owed = true,
    .owed_extent_known = true,
    .owed_index = 99,
    .owed_term = 6,
};

static void segment_header_is_laid_out_as_documented(void **state)
{
    (void)state;
    uint8_t block[LOG_BLOCK_BYTES];
    memset(block, 0xff, sizeof block);
    log_segment_header_encode(&example_header, block);
    assert_int_equal(get_u32(block), crc32c(0, block + 4, 508));
    assert_memory_equal(block + 4, "CLSG", 4);
    assert_int_equal(get_u32(block + 8), 1);
    assert_int_equal(get_u32(block + 12), 0);
    assert_true(get_u64(block + 16) == 0x1122334455667788u);
    assert_true(get_u64(block + 24) == 9);
    assert_true(get_u64(block + 32) == 65536);
    assert_true(get_u64(block + 40) == 77);
    assert_true(get_u64(block + 48) == 5);
    assert_int_equal(get_u32(block + 56), 0xdeadbeef);
    assert_int_equal(get_u32(block + 60), 0);
    assert_true(get_u64(block + 64) == 1234);
    assert_true(get_u64(block + 72) == 99);
    assert_true(get_u64(block + 80) == 6);
    assert_int_equal(block[88], 1);
    for (size_t i = 89; i < 510; i++) assert_int_equal(block[i], 0);
    assert_int_equal(get_u16(block + 510), 0xa55a);

    struct log_segment_header out;
    assert_int_equal(log_segment_header_decode(block, &out), ERR_OK);
    assert_true(out.log_id == example_header.log_id && out.number == 9 && out.size_bytes == 65536);
    assert_true(out.first_index == 77 && out.previous_term == 5 && out.previous_chain == 0xdeadbeef);
    assert_true(out.first_batch_number == 1234 && out.owed && out.owed_extent_known);
    assert_true(out.owed_index == 99 && out.owed_term == 6);

    struct log_segment_header endless = example_header;
    endless.owed_extent_known = false;
    log_segment_header_encode(&endless, block);
    assert_int_equal(block[88], 3);
    assert_int_equal(log_segment_header_decode(block, &out), ERR_OK);
    assert_true(out.owed && !out.owed_extent_known);

    struct log_segment_header certain = example_header;
    certain.owed = false;
    log_segment_header_encode(&certain, block);
    assert_true(get_u64(block + 72) == 0 && get_u64(block + 80) == 0 && block[88] == 0);
    assert_int_equal(log_segment_header_decode(block, &out), ERR_OK);
    assert_false(out.owed || out.owed_extent_known);
}

static void a_flip_anywhere_damages_a_segment_header(void **state)
{
    (void)state;
    uint8_t block[LOG_BLOCK_BYTES];
    log_segment_header_encode(&example_header, block);
    struct log_segment_header out;
    for (size_t bit = 0; bit < LOG_BLOCK_BYTES * 8; bit++) {
        block[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(log_segment_header_decode(block, &out), ERR_DAMAGED);
        assert_false(log_block_is_cut(block));
        block[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    put_u32(block + 8, LOG_VERSION + 1);
    put_u32(block, crc32c(0, block + 4, 508));
    assert_int_equal(log_segment_header_decode(block, &out), ERR_BAD_VERSION);
    put_u32(block + 8, 0);
    put_u32(block, crc32c(0, block + 4, 508));
    assert_int_equal(log_segment_header_decode(block, &out), ERR_DAMAGED);
    memset(block, 0, sizeof block);
    assert_int_equal(log_segment_header_decode(block, &out), ERR_NO_FILE);
}

struct batch {
    struct log_batch_place place;
    struct entry *entries[8];
    uint32_t count;
    uint8_t *data;
    size_t size;
    uint32_t blocks;
};

static void make_batch(struct batch *batch, uint32_t count, const size_t *payloads)
{
    *batch = (struct batch){.place = {0xabcdef, 3, 8192, 0x100000007u}, .count = count};
    size_t record_bytes = 0;
    uint32_t chain = 0x1234;
    for (uint32_t i = 0; i < count; i++) {
        struct entry *entry = entry_new(ENTRY_COMMAND, payloads[i]);
        for (size_t b = 0; b < payloads[i]; b++) entry_payload(entry)[b] = (uint8_t)(b * 7 + i + 1);
        entry_seal(entry, 41 + i, 6 + i / 2, chain);
        chain = entry_chain(entry);
        record_bytes += entry->record_bytes;
        batch->entries[i] = entry;
    }
    batch->size = log_batch_file_bytes(record_bytes);
    batch->blocks = (uint32_t)((record_bytes + 24 + 477) / 478);
    batch->data = mem_alloc(batch->size);
    memset(batch->data, 0xee, batch->size);
    log_batch_encode(&batch->place, 40, batch->entries, count, batch->data);
}

static void free_batch(struct batch *batch)
{
    for (uint32_t i = 0; i < batch->count; i++) entry_unref(batch->entries[i]);
    mem_free(batch->data);
}

static void batch_is_laid_out_as_documented(void **state)
{
    (void)state;
    static const size_t payloads[] = {5, 600, 0, 900};
    struct batch batch;
    make_batch(&batch, 4, payloads);
    assert_int_equal(batch.size % LOG_BATCH_ALIGNMENT, 0);

    uint8_t content[8192];
    size_t content_bytes = 0;
    for (uint32_t b = 0; b < batch.blocks; b++) {
        const uint8_t *block = batch.data + b * 512;
        uint8_t front[20];
        put_u64(front, 0xabcdef);
        put_u64(front + 8, 3);
        put_u32(front + 16, 16 + b);
        assert_int_equal(get_u32(block), crc32c(crc32c(0, front, 20), block + 4, 508));
        assert_int_equal(get_u32(block + 4), 7);
        assert_int_equal(get_u16(block + 8), b);
        assert_int_equal(get_u16(block + 10), batch.blocks);
        size_t used = get_u16(block + 12);
        assert_int_equal(get_u16(block + 14), 0);
        assert_true(get_u64(block + 16) == 44 && get_u64(block + 24) == 7);
        memcpy(content + content_bytes, block + 32, used);
        content_bytes += used;
        if (b + 1 < batch.blocks) assert_int_equal(used, 478);
        for (size_t i = 32 + used; i < 510; i++) assert_int_equal(block[i], 0);
        assert_int_equal(get_u16(block + 510), 0xa55a);
    }
    for (size_t i = batch.blocks * 512; i < batch.size; i++) assert_int_equal(batch.data[i], 0);
    assert_true(get_u64(content) == 41 && get_u64(content + 8) == 40);
    assert_int_equal(get_u32(content + 16), 4);
    assert_int_equal(get_u32(content + 20), content_bytes - 24);
    size_t at = 24;
    for (uint32_t i = 0; i < 4; i++) {
        assert_memory_equal(content + at, batch.entries[i]->record, batch.entries[i]->record_bytes);
        at += batch.entries[i]->record_bytes;
    }
    assert_int_equal(at, content_bytes);
    free_batch(&batch);
}

static enum error decode(const struct batch *batch, uint64_t *bad_offset)
{
    struct entry **entries;
    uint32_t count;
    enum error error = log_batch_decode(&batch->place, batch->data, batch->size, &entries, &count, bad_offset);
    if (error != ERR_OK) return error;
    assert_int_equal(count, batch->count);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(entries[i]->record_bytes, batch->entries[i]->record_bytes);
        assert_memory_equal(entries[i]->record, batch->entries[i]->record, entries[i]->record_bytes);
        entry_unref(entries[i]);
    }
    mem_free(entries);
    return ERR_OK;
}

static void batches_of_all_sizes_come_back(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 3);
    for (size_t payload = 0; payload < 1100; payload++) {
        struct batch batch;
        make_batch(&batch, 1, &payload);
        uint64_t bad_offset;
        assert_int_equal(decode(&batch, &bad_offset), ERR_OK);
        free_batch(&batch);
    }
    for (int round = 0; round < 200; round++) {
        size_t payloads[8];
        uint32_t count = (uint32_t)random_between(&random, 1, 8);
        for (uint32_t i = 0; i < count; i++) payloads[i] = random_below(&random, round % 2 ? 40 : 20000);
        struct batch batch;
        make_batch(&batch, count, payloads);
        uint64_t bad_offset;
        assert_int_equal(decode(&batch, &bad_offset), ERR_OK);
        free_batch(&batch);
    }
}

static void a_flip_anywhere_in_a_batch_is_found(void **state)
{
    (void)state;
    static const size_t payloads[] = {5, 600, 0, 900};
    struct batch batch;
    make_batch(&batch, 4, payloads);
    uint64_t bad_offset;
    for (size_t bit = 0; bit < batch.blocks * 512 * 8; bit++) {
        batch.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(decode(&batch, &bad_offset), ERR_DAMAGED);
        assert_true(bad_offset == 8192 + bit / 8 / 512 * 512);
        struct log_block_header header;
        uint32_t block = (uint32_t)(bit / 8 / 512);
        assert_int_equal(log_block_read(0xabcdef, 3, 16 + block, batch.data + block * 512, &header), LOG_BLOCK_DAMAGED);
        batch.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    /* The same bytes elsewhere: another log, segment, offset or number; or too few of them. */
    struct batch moved = batch;
    moved.place.log_id++;
    assert_int_equal(decode(&moved, &bad_offset), ERR_DAMAGED);
    moved = batch;
    moved.place.segment_number++;
    assert_int_equal(decode(&moved, &bad_offset), ERR_DAMAGED);
    moved = batch;
    moved.place.offset += LOG_BATCH_ALIGNMENT;
    assert_int_equal(decode(&moved, &bad_offset), ERR_DAMAGED);
    moved = batch;
    moved.place.batch_number++;
    assert_int_equal(decode(&moved, &bad_offset), ERR_DAMAGED);
    for (size_t size = 0; size < (size_t)batch.blocks * 512; size += 100) {
        moved = batch;
        moved.size = size;
        assert_int_equal(decode(&moved, &bad_offset), ERR_DAMAGED);
    }
    assert_int_equal(decode(&batch, &bad_offset), ERR_OK);
    free_batch(&batch);
}

static void a_block_cut_at_any_byte_is_cut(void **state)
{
    (void)state;
    static const size_t payloads[] = {5, 600, 0, 900};
    struct batch batch;
    make_batch(&batch, 4, payloads);
    for (uint32_t b = 0; b < batch.blocks; b++) {
        struct log_block_header header;
        uint8_t *block = batch.data + b * 512;
        assert_int_equal(log_block_read(0xabcdef, 3, 16 + b, block, &header), LOG_BLOCK_GOOD);
        for (size_t cut = 512; cut-- > 0;) {
            block[cut] = 0;
            bool zero = true;
            for (size_t i = 0; i < 512; i++) zero = zero && block[i] == 0;
            assert_int_equal(log_block_is_zero(block), zero);
            assert_int_equal(log_block_read(0xabcdef, 3, 16 + b, block, &header),
                             zero ? LOG_BLOCK_UNTOUCHED : LOG_BLOCK_CUT);
        }
    }
    free_batch(&batch);
    assert_string_equal(log_block_state_name(LOG_BLOCK_GOOD), "good");
    assert_string_equal(log_block_state_name(LOG_BLOCK_UNTOUCHED), "untouched");
    assert_string_equal(log_block_state_name(LOG_BLOCK_CUT), "cut");
    assert_string_equal(log_block_state_name(LOG_BLOCK_DAMAGED), "damaged");
}

static void names_are_parsed_exactly(void **state)
{
    (void)state;
    char name[LOG_SEGMENT_NAME_BYTES];
    static const uint64_t numbers[] = {1, 10, 255, 0x123456789abcdef0u, UINT64_MAX};
    for (size_t i = 0; i < ARRAY_COUNT(numbers); i++) {
        uint64_t number = 0;
        log_segment_name(numbers[i], name);
        assert_true(log_segment_name_parse(name, &number));
        assert_true(number == numbers[i]);
    }
    log_segment_name(0xa1, name);
    assert_string_equal(name, "log-00000000000000a1.seg");
    static const char *const others[] = {
        "",
        "log-",
        "log-00000000000000a1",
        "log-00000000000000a1.se",
        "log-00000000000000a1.segx",
        "log-00000000000000A1.seg",
        "log-0000000000000a1.seg",
        "log-000000000000000a1.seg",
        "Log-00000000000000a1.seg",
        "log-00000000000000 1.seg",
        "log-00000000000000a1.seg.damaged-1",
        "log-0000000000000000.seg",
        "metadata",
    };
    for (size_t i = 0; i < ARRAY_COUNT(others); i++) {
        uint64_t number = 4711;
        assert_false(log_segment_name_parse(others[i], &number));
        assert_true(number == 4711);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(segment_header_is_laid_out_as_documented),
        cmocka_unit_test(a_flip_anywhere_damages_a_segment_header),
        cmocka_unit_test(batch_is_laid_out_as_documented),
        cmocka_unit_test(batches_of_all_sizes_come_back),
        cmocka_unit_test(a_flip_anywhere_in_a_batch_is_found),
        cmocka_unit_test(a_block_cut_at_any_byte_is_cut),
        cmocka_unit_test(names_are_parsed_exactly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
