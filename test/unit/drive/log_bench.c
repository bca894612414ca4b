#include "log_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"

static void on_written(void *user, uint64_t number, uint64_t file_bytes)
{
    struct bench *bench = user;
    assert_int_equal(number, bench->write_number);
    assert_int_equal(bench->failed_count, 0);
    assert_true(file_bytes > 0 && file_bytes % LOG_BATCH_ALIGNMENT == 0);
    bench->written_count++;
    bench->written_bytes = file_bytes;
    bench->log = bench->next;
}

static void on_full(void *user, bool full)
{
    struct bench *bench = user;
    if (full) {
        bench->full_count++;
    } else {
        bench->not_full_count++;
    }
}

static void on_failed(void *user, const char *text)
{
    struct bench *bench = user;
    bench->failed_count++;
    snprintf(bench->failed_text, sizeof bench->failed_text, "%s", text);
}

static void on_damaged(void *user)
{
    struct bench *bench = user;
    bench->damaged_count++;
}

static const struct log_manager_handler handler = {
    .written = on_written, .full = on_full, .failed = on_failed, .damaged = on_damaged};

static void open_manager(struct bench *bench)
{
    struct log_manager_config config = {.directory = LOG_DIRECTORY,
                                        .metadata_file = LOG_METADATA,
                                        .segment_bytes = bench->segment_bytes,
                                        .disk = &bench->rig.disk.disk,
                                        .queue = &bench->rig.queue,
                                        .logger = &bench->rig.logger};
    bench->manager = log_manager_new(&config, &handler, bench);
}

void bench_init(struct bench *bench, uint64_t seed, uint64_t segment_bytes)
{
    memset(bench, 0, sizeof *bench);
    rig_init(&bench->rig, seed);
    random_seed(&bench->random, seed);
    bench->segment_bytes = segment_bytes;
    bench->term = 1;
    open_manager(bench);
}

void bench_free(struct bench *bench)
{
    log_manager_free(bench->manager);
    rig_free(&bench->rig);
}

void bench_restart(struct bench *bench, bool power_loss)
{
    log_manager_free(bench->manager);
    rig_restart(&bench->rig, power_loss);
    bench->failed_count = 0;
    open_manager(bench);
}

static void take_entry(void *user, struct entry *entry)
{
    struct bench *bench = user;
    struct model_log *found = &bench->found;
    raft_index index = entry_index(entry);
    assert_in_range(index, bench->found_commit + 1, found->last_index + 1);
    assert_true(entry_follows(entry, found->entries[index - 1].chain));
    assert_true(entry_term(entry) >= found->entries[index - 1].term);
    found->entries[index] = (struct model_entry){.term = entry_term(entry), .chain = entry_chain(entry)};
    found->last_index = index;
    entry_unref(entry);
}

static void take_commit(void *user, raft_index commit)
{
    struct bench *bench = user;
    assert_true(commit <= bench->found.last_index);
    assert_true(commit >= bench->found_commit);
    bench->found_commit = commit;
}

enum error bench_recover(struct bench *bench)
{
    struct log_manager_sink sink = {.entry = take_entry, .commit = take_commit};
    raft_index base = bench->log.base_index;
    bench->found.base_index = base;
    bench->found.last_index = base;
    bench->found.entries[base] = bench->log.entries[base];
    bench->found_commit = base;
    bool fresh = bench->log.last_index == 0 && bench->next.last_index == 0;
    enum error error = log_manager_recover(bench->manager, LOG_ID, fresh, base, bench->log.entries[base].term,
                                           bench->log.entries[base].chain, &sink, bench, &bench->result, bench->text);
    assert_int_equal(error != ERR_OK, bench->text[0] != 0);
    if (error == ERR_OK) {
        assert_int_equal(bench->result.last_index, bench->found.last_index);
        assert_int_equal(bench->result.last_chain, bench->found.entries[bench->found.last_index].chain);
    }
    return error;
}

static bool same_log(const struct model_log *a, const struct model_log *b)
{
    if (a->last_index != b->last_index || a->base_index != b->base_index) return false;
    for (raft_index i = a->base_index; i <= a->last_index; i++) {
        if (a->entries[i].chain != b->entries[i].chain || a->entries[i].term != b->entries[i].term) return false;
    }
    return true;
}

void bench_recover_ok(struct bench *bench, enum log_outcome outcome)
{
    enum error error = bench_recover(bench);
    if (error != ERR_OK) print_message("recover: %s\n", bench->text);
    assert_int_equal(error, ERR_OK);
    if (bench->result.outcome > outcome) {
        print_message("seed %llu: %s, not %s: known up to %llu: %s\n", (unsigned long long)bench->rig.world.seed,
                      log_outcome_name(bench->result.outcome), log_outcome_name(outcome),
                      (unsigned long long)bench->result.known_last_index, bench->result.damage);
    }
    /* A crash may leave a clean end where a torn one was to be expected; never more. */
    assert_true(bench->result.outcome <= outcome);
    if (!same_log(&bench->found, &bench->log) && !same_log(&bench->found, &bench->next)) {
        print_message("found up to %llu, acknowledged %llu, begun %llu: %s\n",
                      (unsigned long long)bench->found.last_index, (unsigned long long)bench->log.last_index,
                      (unsigned long long)bench->next.last_index, bench->result.damage);
        fail();
    }
    bench->log = bench->found;
    bench->next = bench->found;
}

static struct entry *make_entry(struct bench *bench, raft_index index, uint32_t previous_chain, size_t payload_bytes)
{
    struct entry *entry = entry_new(ENTRY_COMMAND, payload_bytes);
    uint8_t *payload = entry_payload(entry);
    uint64_t noise = random_u64(&bench->random);
    for (size_t i = 0; i < payload_bytes; i++) payload[i] = (uint8_t)(noise >> (i % 8 * 8));
    entry_seal(entry, index, bench->term, previous_chain);
    return entry;
}

void bench_begin_write(struct bench *bench, raft_index previous, unsigned count, size_t payload_bytes)
{
    struct raft_write write = {
        .number = ++bench->write_number, .first_index = previous + 1, .commit = bench->commit, .entry_count = count};
    write.entries = mem_alloc(count * sizeof *write.entries);
    bench->next = bench->log;
    struct model_entry before = bench->log.entries[previous];
    uint32_t chain = before.chain;
    for (unsigned i = 0; i < count; i++) {
        raft_index index = previous + 1 + i;
        assert_true(index < MODEL_ENTRIES_MAX);
        write.entries[i] = make_entry(bench, index, chain, payload_bytes);
        chain = entry_chain(write.entries[i]);
        bench->next.entries[index] = (struct model_entry){.term = bench->term, .chain = chain};
        bench->next.last_index = index;
    }
    struct entry *first = write.entries[0];
    log_manager_write(bench->manager, &write, before.term, before.chain);
    if (bench->failed_count == 0) assert_int_equal(write.entry_count, 0);
    if (write.entry_count > 0) assert_ptr_equal(write.entries[0], first); /* not moved */
    for (unsigned i = 0; i < write.entry_count; i++) entry_unref(write.entries[i]);
    mem_free(write.entries);
}

void bench_write(struct bench *bench, raft_index previous, unsigned count, size_t payload_bytes)
{
    unsigned before = bench->written_count;
    bench_begin_write(bench, previous, count, payload_bytes);
    rig_run(&bench->rig);
    assert_int_equal(bench->written_count, before + 1);
    assert_true(log_manager_idle(bench->manager));
}

void bench_append(struct bench *bench, unsigned count, size_t payload_bytes)
{
    bench_write(bench, bench->log.last_index, count, payload_bytes);
}

void bench_snapshot(struct bench *bench, raft_index index)
{
    assert_in_range(index, bench->log.base_index, bench->log.last_index);
    bench->log.base_index = index;
    bench->next.base_index = index;
    if (bench->commit < index) bench->commit = index;
}

static void on_reset(void *user)
{
    struct bench *bench = user;
    bench->reset_count++;
}

void bench_begin_reset(struct bench *bench, raft_index index)
{
    /* The snapshot counts already, so this is the log from now on, whether or not the reset comes to its end. */
    bench->term++;
    bench->log.base_index = index;
    bench->log.last_index = index;
    bench->log.entries[index] =
        (struct model_entry){.term = bench->term, .chain = (uint32_t)random_u64(&bench->random)};
    bench->next = bench->log;
    bench->commit = index;
    log_manager_reset(bench->manager, index, bench->term, bench->log.entries[index].chain, on_reset, bench);
}

static void on_read(void *user, uint64_t token, struct entry *const *entries, uint32_t count)
{
    struct bench *bench = user;
    bench->read_count++;
    bench->read_token = token;
    bench->read_entries = count;
    for (uint32_t i = 0; i < count; i++) {
        raft_index index = bench->read_first + i;
        assert_int_equal(entry_index(entries[i]), index);
        assert_true(index <= bench->log.last_index);
        assert_int_equal(entry_chain(entries[i]), bench->log.entries[index].chain);
        assert_int_equal(entry_term(entries[i]), bench->log.entries[index].term);
    }
}

uint32_t bench_read(struct bench *bench, raft_index first, raft_index last, uint64_t bytes_max)
{
    unsigned before = bench->read_count;
    bench->read_first = first;
    log_manager_read(bench->manager, first, last, bytes_max, on_read, bench, first * 3);
    rig_run(&bench->rig);
    if (bench->rig.disk.dead) return 0;
    assert_int_equal(bench->read_count, before + 1);
    assert_int_equal(bench->read_token, first * 3);
    if (bench->read_entries > 0) assert_true(first + bench->read_entries - 1 <= last);
    return bench->read_entries;
}

void bench_begin_read(struct bench *bench, raft_index first, raft_index last)
{
    log_manager_read(bench->manager, first, last, UINT64_MAX, on_read, bench, first);
}

const char *bench_segment(uint64_t number)
{
    static char path[64];
    char name[LOG_SEGMENT_NAME_BYTES];
    log_segment_name(number, name);
    snprintf(path, sizeof path, "%s/%s", LOG_DIRECTORY, name);
    return path;
}
