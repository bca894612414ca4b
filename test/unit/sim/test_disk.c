/* The simulated disk: what a loss of power may leave, and what it never may. */
#include "sim/sim_disk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "sim/sim_damage.h"

static struct sim_world world;
static struct sim_disk disk;

static void set_up(uint64_t seed)
{
    sim_world_init(&world, seed);
    sim_disk_init(&disk, &world, 0);
    assert_int_equal(disk_make_directories(&disk.disk, "/data/log"), ERR_OK);
}

static void tear_down(void)
{
    sim_disk_free(&disk);
    sim_world_free(&world);
}

static struct disk_file *open_file(const char *path, unsigned flags)
{
    struct disk_file *file;
    assert_int_equal(disk_open(&disk.disk, path, flags, &file), ERR_OK);
    return file;
}

static bool exists(const char *path)
{
    struct disk_file *file;
    enum error error = disk_open(&disk.disk, path, DISK_READ, &file);
    if (error == ERR_OK) disk_close(&disk.disk, file);
    assert_true(error == ERR_OK || error == ERR_NO_FILE);
    return error == ERR_OK;
}

static void write_all(struct disk_file *file, uint64_t offset, const void *data, size_t size)
{
    assert_int_equal(disk_write(&disk.disk, file, offset, data, size), ERR_OK);
}

static size_t read_at(const char *path, uint64_t offset, void *data, size_t size)
{
    size_t got;
    struct disk_file *file = open_file(path, DISK_READ);
    assert_int_equal(disk_read(&disk.disk, file, offset, data, size, &got), ERR_OK);
    disk_close(&disk.disk, file);
    return got;
}

/* Reads and writes at random against a plain array. */
static void test_reads_see_writes(void **state)
{
    (void)state;
    set_up(1);
    static uint8_t model[60000], data[60000];
    size_t model_size = 0;
    struct random random;
    random_seed(&random, 5);
    struct disk_file *file = open_file("/data/log/a", DISK_READ | DISK_WRITE | DISK_CREATE);
    for (unsigned round = 0; round < 3000; round++) {
        size_t offset = (size_t)random_below(&random, 50000), size = (size_t)random_below(&random, 9000);
        switch (random_below(&random, 5)) {
        case 0:
            if (random_chance(&random, 100)) {
                assert_int_equal(disk_truncate(&disk.disk, file, offset), ERR_OK);
                if (offset < model_size) memset(model + offset, 0, model_size - offset);
                model_size = offset;
            }
            break;
        case 1:
            if (random_chance(&random, 200)) assert_int_equal(disk_sync(&disk.disk, file), ERR_OK);
            break;
        case 2:
        case 3:
            for (size_t i = 0; i < size; i++) data[i] = (uint8_t)random_below(&random, 3);
            write_all(file, offset, data, size);
            memcpy(model + offset, data, size);
            if (size > 0 && offset + size > model_size) model_size = offset + size;
            break;
        default: {
            size_t got, expected = offset >= model_size ? 0 : model_size - offset < size ? model_size - offset : size;
            assert_int_equal(disk_read(&disk.disk, file, offset, data, size, &got), ERR_OK);
            assert_int_equal(got, expected);
            assert_memory_equal(data, model + offset, got);
            uint64_t file_size;
            assert_int_equal(disk_size(&disk.disk, file, &file_size), ERR_OK);
            assert_int_equal(file_size, model_size);
        }
        }
    }
    disk_close(&disk.disk, file);
    tear_down();
}

static void test_what_was_synced_survives_every_loss_of_power(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        set_up(seed);
        uint8_t data[8192], back[8192];
        memset(data, 7, sizeof data);
        struct disk_file *file = open_file("/data/log/a", DISK_WRITE | DISK_CREATE);
        write_all(file, 0, data, sizeof data);
        assert_int_equal(disk_sync(&disk.disk, file), ERR_OK);
        assert_int_equal(disk_sync_directory(&disk.disk, "/data/log/"), ERR_OK);
        assert_false(sim_disk_is_dirty(&disk));
        for (unsigned round = 0; round < 3; round++) {
            sim_disk_kill(&disk);
            sim_disk_restart(&disk, true);
            assert_int_equal(read_at("/data/log/a", 0, back, sizeof back), sizeof back);
            assert_memory_equal(back, data, sizeof data);
        }
        tear_down();
    }
}

/* Each unsynced sector has its old, its new, or an intermediate content, or is cut; all these happen, independently. */
static void test_unsynced_sectors_are_kept_lost_older_or_cut(void **state)
{
    (void)state;
    unsigned old_count = 0, middle_count = 0, new_count = 0, cut_count = 0, mixed = 0;
    for (uint64_t seed = 1; seed <= 400; seed++) {
        set_up(seed);
        uint8_t data[16 * SIM_SECTOR_BYTES];
        struct disk_file *file = open_file("/data/log/a", DISK_WRITE | DISK_CREATE);
        memset(data, 1, sizeof data);
        write_all(file, 0, data, sizeof data);
        assert_int_equal(disk_sync(&disk.disk, file), ERR_OK);
        assert_int_equal(disk_sync_directory(&disk.disk, "/data/log"), ERR_OK);
        memset(data, 2, sizeof data);
        write_all(file, 4 * SIM_SECTOR_BYTES, data, 8 * SIM_SECTOR_BYTES);
        memset(data, 3, sizeof data);
        write_all(file, 4 * SIM_SECTOR_BYTES, data, 8 * SIM_SECTOR_BYTES);
        assert_true(sim_disk_is_dirty(&disk));
        sim_disk_kill(&disk);
        sim_disk_restart(&disk, true);
        assert_int_equal(read_at("/data/log/a", 0, data, sizeof data), sizeof data);
        bool some_old = false, some_new = false;
        for (unsigned sector = 0; sector < 16; sector++) {
            const uint8_t *at = data + sector * SIM_SECTOR_BYTES;
            bool whole = memcmp(at, at + 1, SIM_SECTOR_BYTES - 1) == 0;
            if (sector < 4 || sector >= 12) {
                assert_true(whole && at[0] == 1); /* never touched */
            } else if (!whole) {
                cut_count++;
                assert_true(at[0] == 3 && at[SIM_SECTOR_BYTES - 1] == 1);
            } else {
                assert_in_range(at[0], 1, 3);
                old_count += at[0] == 1;
                middle_count += at[0] == 2;
                new_count += at[0] == 3;
                some_old |= at[0] == 1;
                some_new |= at[0] == 3;
            }
        }
        mixed += some_old && some_new;
        tear_down();
    }
    assert_true(old_count > 100 && middle_count > 50 && new_count > 100 && cut_count > 5 && mixed > 50);
}

static void test_a_new_file_may_vanish_until_its_directory_is_synced(void **state)
{
    (void)state;
    unsigned there = 0, gone = 0;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        set_up(seed);
        struct disk_file *file = open_file("/data/log/a", DISK_WRITE | DISK_CREATE);
        write_all(file, 0, "hello", 5);
        assert_int_equal(disk_sync(&disk.disk, file), ERR_OK);
        assert_int_equal(disk_sync_directory(&disk.disk, "/data"), ERR_OK); /* another one */
        sim_disk_restart(&disk, true);
        if (exists("/data/log/a")) {
            char back[8];
            there++;
            assert_int_equal(read_at("/data/log/a", 0, back, sizeof back), 5);
            assert_memory_equal(back, "hello", 5);
        } else {
            gone++;
        }
        tear_down();
    }
    assert_true(there > 10 && gone > 10);
}

/* A rename over an older file leaves one of the two, whole. */
static void test_a_rename_happens_or_not(void **state)
{
    (void)state;
    unsigned old_count = 0, new_count = 0, leftovers = 0;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        set_up(seed);
        struct disk_file *file = open_file("/data/log/a", DISK_WRITE | DISK_CREATE);
        write_all(file, 0, "old", 3);
        assert_int_equal(disk_sync(&disk.disk, file), ERR_OK);
        disk_close(&disk.disk, file);
        assert_int_equal(disk_sync_directory(&disk.disk, "/data/log"), ERR_OK);
        file = open_file("/data/log/a.tmp", DISK_WRITE | DISK_CREATE | DISK_EXCLUSIVE);
        write_all(file, 0, "new", 3);
        assert_int_equal(disk_sync(&disk.disk, file), ERR_OK);
        disk_close(&disk.disk, file);
        assert_int_equal(disk_rename(&disk.disk, "/data/log/a.tmp", "/data/log/a"), ERR_OK);
        assert_false(exists("/data/log/a.tmp"));
        bool synced = seed % 2 == 0;
        if (synced) assert_int_equal(disk_sync_directory(&disk.disk, "/data/log"), ERR_OK);
        sim_disk_restart(&disk, true);
        char back[3];
        assert_int_equal(read_at("/data/log/a", 0, back, 3), 3);
        bool is_new = memcmp(back, "new", 3) == 0;
        assert_true(is_new || (!synced && memcmp(back, "old", 3) == 0));
        old_count += !is_new;
        new_count += is_new;
        leftovers += exists("/data/log/a.tmp");
        tear_down();
    }
    assert_true(old_count > 10 && new_count > 110 && leftovers > 5);
}

static void test_a_removed_file_may_come_back(void **state)
{
    (void)state;
    unsigned back = 0, gone = 0;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        set_up(seed);
        disk_close(&disk.disk, open_file("/data/log/a", DISK_WRITE | DISK_CREATE));
        assert_int_equal(disk_sync_directory(&disk.disk, "/data/log"), ERR_OK);
        assert_int_equal(disk_remove(&disk.disk, "/data/log/a"), ERR_OK);
        assert_int_equal(disk_remove(&disk.disk, "/data/log/a"), ERR_NO_FILE);
        sim_disk_restart(&disk, true);
        if (exists("/data/log/a")) {
            back++;
        } else {
            gone++;
        }
        tear_down();
    }
    assert_true(back > 10 && gone > 10);
}

static void test_a_killed_process_leaves_the_cache(void **state)
{
    (void)state;
    unsigned lost_later = 0;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        set_up(seed);
        struct disk_lock *lock;
        assert_int_equal(disk_lock(&disk.disk, "/data/lock", &lock), ERR_OK);
        struct disk_file *file = open_file("/data/log/a", DISK_WRITE | DISK_CREATE);
        write_all(file, 0, "hello", 5);
        sim_disk_kill(&disk);
        assert_int_equal(disk_write(&disk.disk, file, 5, "x", 1), ERR_IO);
        assert_int_equal(disk_sync(&disk.disk, file), ERR_IO);
        sim_disk_restart(&disk, false);
        char back[8];
        assert_int_equal(read_at("/data/log/a", 0, back, sizeof back), 5);
        assert_int_equal(disk_lock(&disk.disk, "/data/lock", &lock), ERR_OK); /* it ended with the process */
        assert_int_equal(disk_lock(&disk.disk, "/data/lock", &lock), ERR_LOCKED);
        /* It was read, and was still not durable. */
        sim_disk_restart(&disk, true);
        if (!exists("/data/log/a") || read_at("/data/log/a", 0, back, sizeof back) != 5) lost_later++;
        tear_down();
    }
    assert_true(lost_later > 10);
}

/* The cache lies after a failed sync; a later sync doesn't mend it, and reads past the cache tell. */
static void test_a_failed_sync_forgets(void **state)
{
    (void)state;
    unsigned lies = 0;
    uint8_t *page = mem_alloc_aligned(DISK_ALIGNMENT, DISK_ALIGNMENT);
    for (uint64_t seed = 1; seed <= 50; seed++) {
        set_up(seed);
        uint8_t data[SIM_PAGE_BYTES];
        struct disk_file *file = open_file("/data/log/a", DISK_READ | DISK_WRITE | DISK_CREATE);
        memset(data, 1, sizeof data);
        write_all(file, 0, data, sizeof data);
        assert_int_equal(disk_sync(&disk.disk, file), ERR_OK);
        assert_int_equal(disk_sync_directory(&disk.disk, "/data/log"), ERR_OK);
        memset(data, 2, sizeof data);
        write_all(file, 0, data, sizeof data);
        disk.fail_at = disk.counters.operations + 1;
        assert_int_equal(disk_sync(&disk.disk, file), ERR_IO);
        assert_non_null(strstr(disk.disk.error_text, "/data/log/a"));
        assert_int_equal(disk_sync(&disk.disk, file), ERR_OK);
        size_t got;
        struct disk_file *uncached = open_file("/data/log/a", DISK_READ | DISK_UNCACHED);
        assert_int_equal(disk_read(&disk.disk, uncached, 0, page, SIM_PAGE_BYTES, &got), ERR_OK);
        assert_int_equal(read_at("/data/log/a", 0, data, sizeof data), sizeof data);
        for (unsigned i = 0; i < SIM_PAGE_BYTES; i++) assert_int_equal(data[i], 2);
        if (memcmp(page, data, SIM_PAGE_BYTES) != 0) lies++;
        sim_disk_restart(&disk, true);
        assert_int_equal(read_at("/data/log/a", 0, data, sizeof data), sizeof data);
        assert_memory_equal(data, page, SIM_PAGE_BYTES); /* what was seen past the cache is what is left */
        tear_down();
    }
    assert_true(lies > 40);
    mem_free(page);
}

/* A write past the cache drops what the cache held: after a short one there is nothing of an older write beside it. */
static void test_an_uncached_write_drops_what_was_forgotten(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        set_up(seed);
        _Alignas(DISK_ALIGNMENT) static uint8_t data[SIM_PAGE_BYTES];
        struct disk_file *file = open_file("/data/log/a", DISK_WRITE | DISK_CREATE);
        memset(data, 1, sizeof data);
        write_all(file, 0, data, sizeof data);
        assert_int_equal(disk_sync(&disk.disk, file), ERR_OK);
        memset(data, 2, sizeof data);
        write_all(file, 0, data, sizeof data);
        disk.fail_at = disk.counters.operations + 1;
        assert_int_equal(disk_sync(&disk.disk, file), ERR_IO);
        struct disk_file *uncached = open_file("/data/log/a", DISK_WRITE | DISK_UNCACHED);
        memset(data, 3, sizeof data);
        disk.fail_at = disk.counters.operations + 1;
        assert_int_equal(disk_write(&disk.disk, uncached, 0, data, sizeof data), ERR_IO);
        assert_int_equal(read_at("/data/log/a", 0, data, sizeof data), sizeof data);
        unsigned written = 0;
        while (written < SIM_PAGE_BYTES && data[written] == 3) written++;
        /* In the sector where it stopped, and after it: what the device has. */
        for (unsigned sector = written / SIM_SECTOR_BYTES; sector < SIM_PAGE_SECTORS; sector++) {
            unsigned begin = sector * SIM_SECTOR_BYTES > written ? sector * SIM_SECTOR_BYTES : written;
            for (unsigned i = begin; i < (sector + 1) * SIM_SECTOR_BYTES; i++) {
                assert_in_range(data[i], 1, 2);
                assert_int_equal(data[i], data[begin]);
            }
        }
        assert_int_equal(disk_sync(&disk.disk, uncached), ERR_OK);
        uint8_t back[SIM_PAGE_BYTES];
        sim_disk_restart(&disk, true);
        if (exists("/data/log/a")) {
            assert_int_equal(read_at("/data/log/a", 0, back, sizeof back), sizeof back);
            assert_memory_equal(back, data, sizeof data); /* nothing is hidden from this sync */
        }
        tear_down();
    }
}

static unsigned crashes;

static void crashed(void *user, unsigned node)
{
    (void)user;
    (void)node;
    crashes++;
}

static void test_power_fails_at_a_counted_operation(void **state)
{
    (void)state;
    unsigned kept = 0;
    for (uint64_t at = 1; at <= 6; at++) {
        for (uint64_t seed = 1; seed <= 40; seed++) {
            set_up(seed);
            disk.crash_at = at;
            disk.crashed = crashed;
            crashes = 0;
            struct disk_file *file = NULL;
            enum error errors[6];
            errors[0] = disk_open(&disk.disk, "/data/log/a", DISK_WRITE | DISK_CREATE, &file);
            errors[1] = file == NULL ? ERR_IO : disk_write(&disk.disk, file, 0, "hello", 5);
            errors[2] = file == NULL ? ERR_IO : disk_sync(&disk.disk, file);
            errors[3] = disk_sync_directory(&disk.disk, "/data/log");
            errors[4] = disk_rename(&disk.disk, "/data/log/a", "/data/log/b");
            errors[5] = disk_sync_directory(&disk.disk, "/data/log");
            for (uint64_t i = 1; i <= 6; i++) assert_int_equal(errors[i - 1], i < at ? ERR_OK : ERR_IO);
            assert_int_equal(crashes, 1);
            sim_disk_restart(&disk, true);
            char back[8];
            if (at > 4) { /* file and entry were synced: under one of its names, it is there */
                const char *path = exists("/data/log/b") ? "/data/log/b" : "/data/log/a";
                assert_int_equal(read_at(path, 0, back, sizeof back), 5);
                kept++;
            }
            tear_down();
        }
    }
    assert_int_equal(kept, 80);
}

static void test_a_full_disk(void **state)
{
    (void)state;
    set_up(1);
    disk.capacity_bytes = 3 * SIM_PAGE_BYTES;
    uint8_t data[SIM_PAGE_BYTES] = {1};
    struct disk_file *file = open_file("/data/log/a", DISK_WRITE | DISK_CREATE);
    uint64_t space;
    for (unsigned i = 0; i < 3; i++) write_all(file, i * SIM_PAGE_BYTES, data, sizeof data);
    assert_int_equal(disk_free_space(&disk.disk, "/data", &space), ERR_OK);
    assert_int_equal(space, 0);
    assert_int_equal(disk_write(&disk.disk, file, 3 * SIM_PAGE_BYTES, data, 1), ERR_NO_SPACE);
    write_all(file, 0, data, sizeof data); /* overwriting takes no room */
    assert_int_equal(disk_remove(&disk.disk, "/data/log/a"), ERR_OK);
    assert_int_equal(disk_free_space(&disk.disk, "/data", &space), ERR_OK);
    assert_int_equal(space, 0); /* an open file stays */
    disk_close(&disk.disk, file);
    assert_int_equal(disk_free_space(&disk.disk, "/data", &space), ERR_OK);
    assert_int_equal(space, 3 * SIM_PAGE_BYTES);
    tear_down();
}

static char listed[256];

static void visit(void *user, const char *name)
{
    (void)user;
    strcat(listed, name);
    strcat(listed, " ");
    if (strcmp(name, "a") == 0) assert_int_equal(disk_remove(&disk.disk, "/data/log/b"), ERR_OK);
}

static void test_lists_in_order_and_errors(void **state)
{
    (void)state;
    set_up(1);
    struct disk_file *file;
    assert_int_equal(disk_open(&disk.disk, "/data/log/none", DISK_READ, &file), ERR_NO_FILE);
    assert_int_equal(disk_open(&disk.disk, "/nowhere/a", DISK_WRITE | DISK_CREATE, &file), ERR_NO_FILE);
    disk_close(&disk.disk, open_file("/data/log/c", DISK_WRITE | DISK_CREATE));
    disk_close(&disk.disk, open_file("/data/log/a", DISK_WRITE | DISK_CREATE));
    disk_close(&disk.disk, open_file("/data/log/b", DISK_WRITE | DISK_CREATE));
    disk_close(&disk.disk, open_file("/data/z", DISK_WRITE | DISK_CREATE));
    assert_int_equal(disk_open(&disk.disk, "/data/log/a", DISK_WRITE | DISK_CREATE | DISK_EXCLUSIVE, &file),
                     ERR_EXISTS);
    listed[0] = 0;
    assert_int_equal(disk_list(&disk.disk, "/data/log", visit, NULL), ERR_OK);
    assert_string_equal(listed, "a b c "); /* as it was when the call began */
    assert_int_equal(disk_list(&disk.disk, "/nowhere", visit, NULL), ERR_NO_FILE);
    assert_true(disk_is_directory(&disk.disk, "/data/"));
    assert_false(disk_is_directory(&disk.disk, "/data/z"));
    assert_int_equal(disk_rename(&disk.disk, "/data/log/b", "/data/log/d"), ERR_NO_FILE);
    assert_int_equal(disk_make_directories(&disk.disk, "/data/z"), ERR_EXISTS);
    tear_down();
}

/* ---- the queue ---- */

struct test_job {
    struct disk_job job;
    unsigned number;
};

static unsigned run_order[64], done_order[64], runs, dones;

static void job_run(struct disk_job *job, struct disk *port)
{
    assert_ptr_equal(port, &disk.disk);
    run_order[runs++] = ((struct test_job *)job)->number;
}

static void job_done(struct disk_job *job)
{
    done_order[dones++] = ((struct test_job *)job)->number;
}

static void test_urgent_jobs_go_first_in_order(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        set_up(seed);
        struct sim_disk_queue queue;
        sim_disk_queue_init(&queue, &disk);
        struct test_job jobs[8];
        runs = dones = 0;
        for (unsigned i = 0; i < 8; i++) {
            jobs[i] = (struct test_job){.job = {.run = job_run, .done = job_done, .urgent = i % 2 == 1}, .number = i};
            disk_submit(&queue.queue, &jobs[i].job);
        }
        assert_int_equal(runs, 0); /* nothing happens within the call */
        while (sim_world_step(&world, TIME_NS_PER_S)) {}
        /* The first had begun already. */
        static const unsigned expected[] = {0, 1, 3, 5, 7, 2, 4, 6};
        assert_int_equal(runs, 8);
        assert_int_equal(dones, 8);
        assert_memory_equal(run_order, expected, sizeof expected);
        assert_memory_equal(done_order, expected, sizeof expected);
        assert_true(sim_disk_queue_idle(&queue));
        tear_down();
    }
}

static void test_dropped_jobs_are_never_heard_of(void **state)
{
    (void)state;
    unsigned ran_unheard = 0;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        set_up(seed);
        struct sim_disk_queue queue;
        sim_disk_queue_init(&queue, &disk);
        struct test_job job = {.job = {.run = job_run, .done = job_done}};
        runs = dones = 0;
        disk_submit(&queue.queue, &job.job);
        if (seed % 2) sim_world_step(&world, TIME_NS_PER_S);
        sim_disk_queue_drop(&queue);
        while (sim_world_step(&world, TIME_NS_PER_S)) {}
        assert_int_equal(dones, 0);
        assert_int_equal(runs, seed % 2);
        ran_unheard += runs;
        tear_down();
    }
    assert_int_equal(ran_unheard, 50);
}

/* ---- damage ---- */

#define DAMAGED "/data/log/a"

/* Eight durable sectors of 'o'. */
static void make_durable_file(void)
{
    uint8_t data[SIM_PAGE_BYTES];
    memset(data, 'o', sizeof data);
    struct disk_file *file = open_file(DAMAGED, DISK_WRITE | DISK_CREATE);
    write_all(file, 0, data, sizeof data);
    assert_int_equal(disk_sync(&disk.disk, file), ERR_OK);
    disk_close(&disk.disk, file);
    assert_int_equal(disk_sync_directory(&disk.disk, "/data/log"), ERR_OK);
}

/* What a read of one sector sees; 0: it isn't all the same byte. */
static uint8_t see(unsigned flags, uint64_t sector)
{
    static _Alignas(DISK_ALIGNMENT) uint8_t data[SIM_PAGE_BYTES];
    size_t got;
    struct disk_file *file = open_file(DAMAGED, DISK_READ | flags);
    assert_int_equal(disk_read(&disk.disk, file, 0, data, sizeof data, &got), ERR_OK);
    disk_close(&disk.disk, file);
    const uint8_t *at = data + sector * SIM_SECTOR_BYTES;
    return memcmp(at, at + 1, SIM_SECTOR_BYTES - 1) == 0 ? at[0] : 0;
}

static void damage_sector(uint64_t sector, uint8_t byte, bool cached)
{
    uint8_t content[SIM_SECTOR_BYTES];
    memset(content, byte, sizeof content);
    sim_damage_write(&disk, DAMAGED, sector, content, cached);
}

static void overwrite(uint64_t sector, uint8_t byte, bool sync)
{
    uint8_t content[SIM_SECTOR_BYTES];
    memset(content, byte, sizeof content);
    struct disk_file *file = open_file(DAMAGED, DISK_WRITE);
    write_all(file, sector * SIM_SECTOR_BYTES, content, sizeof content);
    if (sync) assert_int_equal(disk_sync(&disk.disk, file), ERR_OK);
    disk_close(&disk.disk, file);
}

static void test_damage_shows_past_the_cache_and_after_a_loss_of_power(void **state)
{
    (void)state;
    for (unsigned cached = 0; cached <= 1; cached++) {
        set_up(1);
        make_durable_file();
        damage_sector(3, 'x', cached);
        assert_int_equal(see(0, 3), cached ? 'o' : 'x');
        assert_int_equal(see(DISK_UNCACHED, 3), 'x');
        assert_int_equal(see(DISK_UNCACHED, 2), 'o');
        sim_disk_kill(&disk);
        sim_disk_restart(&disk, false);
        assert_int_equal(see(0, 3), cached ? 'o' : 'x'); /* a cache outlives its process */
        sim_disk_kill(&disk);
        sim_disk_restart(&disk, true);
        assert_int_equal(see(0, 3), 'x');
        tear_down();
    }
}

/* A later write replaces damage, once it is synced; a write of a neighbour doesn't. */
static void test_a_synced_write_replaces_damage(void **state)
{
    (void)state;
    for (unsigned cached = 0; cached <= 1; cached++) {
        set_up(1);
        make_durable_file();
        damage_sector(3, 'x', cached);
        damage_sector(4, 'y', cached);
        overwrite(3, 'n', true);
        sim_disk_kill(&disk);
        sim_disk_restart(&disk, true);
        assert_int_equal(see(0, 3), 'n');
        assert_int_equal(see(0, 4), 'y');
        tear_down();
    }
}

/* Under a write that no sync covers yet, the damage is what a loss of power may leave. */
static void test_damage_under_an_unsynced_write(void **state)
{
    (void)state;
    unsigned damaged = 0, written = 0;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        set_up(seed);
        make_durable_file();
        overwrite(3, 'n', false);
        damage_sector(3, 'x', true);
        assert_int_equal(see(0, 3), 'n');
        assert_int_equal(see(DISK_UNCACHED, 3), 'n'); /* the cache writes what it owes before such a read */
        sim_disk_kill(&disk);
        sim_disk_restart(&disk, true);
        damaged += see(0, 3) == 'x';
        written += see(0, 3) == 'n';
        tear_down();
    }
    assert_true(damaged > 20 && written > 20);
}

static void test_a_lost_write_leaves_what_was_there(void **state)
{
    (void)state;
    set_up(1);
    make_durable_file();
    overwrite(3, 'n', false);
    assert_true(sim_damage_is_unsynced(&disk, DAMAGED, 3) && !sim_damage_is_unsynced(&disk, DAMAGED, 2));
    sim_damage_lose(&disk, DAMAGED, 3);
    assert_false(sim_damage_is_unsynced(&disk, DAMAGED, 3));
    struct disk_file *file = open_file(DAMAGED, DISK_WRITE);
    assert_int_equal(disk_sync(&disk.disk, file), ERR_OK);
    disk_close(&disk.disk, file);
    assert_true(sim_disk_file_is_durable(&disk, DAMAGED)); /* as far as anybody can tell */
    assert_int_equal(see(0, 3), 'n');
    assert_int_equal(see(DISK_UNCACHED, 3), 'o');
    sim_disk_kill(&disk);
    sim_disk_restart(&disk, true);
    assert_int_equal(see(0, 3), 'o');
    tear_down();
}

static void test_an_unreadable_sector_fails_reads_until_it_is_written(void **state)
{
    (void)state;
    set_up(1);
    make_durable_file();
    uint8_t data[SIM_PAGE_BYTES];
    size_t got;
    sim_damage_make_unreadable(&disk, DAMAGED, 3);
    struct disk_file *file = open_file(DAMAGED, DISK_READ | DISK_WRITE);
    for (uint64_t sector = 0; sector < SIM_PAGE_SECTORS; sector++) {
        uint64_t offset = sector * SIM_SECTOR_BYTES;
        enum error error = disk_read(&disk.disk, file, offset, data, SIM_SECTOR_BYTES, &got);
        assert_int_equal(error, sector == 3 ? ERR_IO : ERR_OK);
    }
    assert_int_equal(disk_read(&disk.disk, file, 0, data, sizeof data, &got), ERR_IO);
    assert_int_equal(disk_read(&disk.disk, file, 3 * SIM_SECTOR_BYTES - 1, data, 1, &got), ERR_OK);
    assert_int_equal(disk_read(&disk.disk, file, 3 * SIM_SECTOR_BYTES - 1, data, 2, &got), ERR_IO);
    assert_int_equal(disk.counters.unreadable, 3);
    assert_true(sim_damage_is_unreadable(&disk, DAMAGED, 3) && !sim_damage_is_unreadable(&disk, DAMAGED, 4));
    sim_disk_restart(&disk, true); /* it is the device's */
    assert_true(sim_damage_is_unreadable(&disk, DAMAGED, 3));
    overwrite(3, 'n', true);
    assert_int_equal(see(DISK_UNCACHED, 3), 'n');
    tear_down();
}

/* Hooks see each read and each sync, and a read may be changed. */
static unsigned hooked_syncs;

static void hook_reading(void *user, unsigned node, const char *path, uint64_t offset, uint8_t *data, size_t size)
{
    assert_true(user == &disk && node == 0 && offset == 0 && size == SIM_PAGE_BYTES);
    assert_string_equal(path, DAMAGED);
    memset(data + SIM_SECTOR_BYTES, 'h', SIM_SECTOR_BYTES);
}

static void hook_syncing(void *user, unsigned node, const char *path)
{
    assert_true(user == &disk && node == 0);
    assert_string_equal(path, DAMAGED);
    hooked_syncs++;
}

static void test_hooks(void **state)
{
    (void)state;
    static const struct sim_disk_hooks hooks = {.reading = hook_reading, .syncing = hook_syncing};
    set_up(1);
    disk.hooks = &hooks;
    disk.hooks_user = &disk;
    hooked_syncs = 0;
    make_durable_file();
    assert_int_equal(hooked_syncs, 1);
    assert_int_equal(see(0, 0), 'o');
    assert_int_equal(see(0, 1), 'h');
    disk.hooks = NULL;
    assert_int_equal(see(0, 1), 'o'); /* that read alone */
    tear_down();
}

/* Each kind of look fails once when it is its turn, and changes nothing. */
static void test_looks_fail_when_it_is_their_turn(void **state)
{
    (void)state;
    set_up(1);
    make_durable_file();
    struct disk_file *file = open_file(DAMAGED, DISK_READ), *other;
    uint8_t byte;
    uint64_t number;
    size_t got;
    for (unsigned kind = 0; kind < 5; kind++) {
        for (unsigned again = 0; again <= 1; again++) {
            if (!again) disk.fail_look_at = disk.counters.looks + 1;
            enum error error;
            switch (kind) {
            case 0:
                error = disk_open(&disk.disk, DAMAGED, DISK_READ, &other);
                if (error == ERR_OK) disk_close(&disk.disk, other);
                break;
            case 1:
                error = disk_read(&disk.disk, file, 0, &byte, 1, &got);
                break;
            case 2:
                error = disk_size(&disk.disk, file, &number);
                break;
            case 3:
                error = disk_list(&disk.disk, "/data/none", NULL, NULL);
                if (again) {
                    assert_int_equal(error, ERR_NO_FILE);
                    error = ERR_OK;
                }
                break;
            default:
                error = disk_free_space(&disk.disk, "/data", &number);
            }
            assert_int_equal(error, again ? ERR_OK : ERR_IO);
        }
    }
    assert_int_equal(disk.counters.failures, 5);
    disk_close(&disk.disk, file);
    tear_down();
}

/* A write beyond the end of a full disk leaves what there was room for. */
static void test_a_full_disk_takes_the_part_within_the_file(void **state)
{
    (void)state;
    set_up(1);
    make_durable_file();
    disk.capacity_bytes = sim_disk_used_bytes(&disk);
    uint8_t data[2 * SIM_SECTOR_BYTES];
    memset(data, 'n', sizeof data);
    struct disk_file *file = open_file(DAMAGED, DISK_WRITE);
    assert_int_equal(disk_write(&disk.disk, file, SIM_PAGE_BYTES, data, sizeof data), ERR_NO_SPACE);
    assert_int_equal(disk_write(&disk.disk, file, 7 * SIM_SECTOR_BYTES, data, sizeof data), ERR_NO_SPACE);
    uint64_t size;
    assert_int_equal(disk_size(&disk.disk, file, &size), ERR_OK);
    assert_int_equal(size, SIM_PAGE_BYTES);
    assert_int_equal(see(0, 7), 'n');
    disk.capacity_bytes = 0;
    assert_int_equal(disk_write(&disk.disk, file, 7 * SIM_SECTOR_BYTES, data, sizeof data), ERR_OK);
    disk_close(&disk.disk, file);
    tear_down();
}

static void test_a_wiped_disk_is_empty(void **state)
{
    (void)state;
    set_up(1);
    make_durable_file();
    sim_disk_kill(&disk);
    sim_disk_restart(&disk, true);
    sim_disk_wipe(&disk);
    assert_int_equal(sim_disk_used_bytes(&disk), 0);
    struct disk_file *file;
    assert_int_equal(disk_open(&disk.disk, DAMAGED, DISK_WRITE | DISK_CREATE, &file), ERR_NO_FILE); /* no directory */
    assert_int_equal(disk_make_directories(&disk.disk, "/data/log"), ERR_OK);
    assert_false(exists(DAMAGED));
    make_durable_file();
    assert_int_equal(see(0, 0), 'o');
    tear_down();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_see_writes),
        cmocka_unit_test(test_what_was_synced_survives_every_loss_of_power),
        cmocka_unit_test(test_unsynced_sectors_are_kept_lost_older_or_cut),
        cmocka_unit_test(test_a_new_file_may_vanish_until_its_directory_is_synced),
        cmocka_unit_test(test_a_rename_happens_or_not),
        cmocka_unit_test(test_a_removed_file_may_come_back),
        cmocka_unit_test(test_a_killed_process_leaves_the_cache),
        cmocka_unit_test(test_a_failed_sync_forgets),
        cmocka_unit_test(test_an_uncached_write_drops_what_was_forgotten),
        cmocka_unit_test(test_power_fails_at_a_counted_operation),
        cmocka_unit_test(test_a_full_disk),
        cmocka_unit_test(test_lists_in_order_and_errors),
        cmocka_unit_test(test_urgent_jobs_go_first_in_order),
        cmocka_unit_test(test_dropped_jobs_are_never_heard_of),
        cmocka_unit_test(test_damage_shows_past_the_cache_and_after_a_loss_of_power),
        cmocka_unit_test(test_a_synced_write_replaces_damage),
        cmocka_unit_test(test_damage_under_an_unsynced_write),
        cmocka_unit_test(test_a_lost_write_leaves_what_was_there),
        cmocka_unit_test(test_an_unreadable_sector_fails_reads_until_it_is_written),
        cmocka_unit_test(test_hooks),
        cmocka_unit_test(test_looks_fail_when_it_is_their_turn),
        cmocka_unit_test(test_a_full_disk_takes_the_part_within_the_file),
        cmocka_unit_test(test_a_wiped_disk_is_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
