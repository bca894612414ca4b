#include "raft/raft_log.h"

#include "base/check.h"
#include "base/mark.h"
#include "base/mem.h"
#include "base/mutant.h"

static void push_run(struct raft_log *log, raft_index first_index, raft_term term)
{
    if (log->run_count == log->run_capacity) {
        log->run_capacity = log->run_capacity == 0 ? 8 : log->run_capacity * 2;
        log->runs = mem_realloc(log->runs, log->run_capacity * sizeof log->runs[0]);
    }
    log->runs[log->run_count++] = (struct raft_term_run){.first_index = first_index, .term = term};
}

static void begin_after(struct raft_log *log, raft_index index, raft_term term, uint32_t chain)
{
    log->first_index = index + 1;
    log->cache_first = index + 1;
    log->last_index = index;
    log->cache_base_chain = chain;
    log->durable_index = index;
    log->unwritten_first = index + 1;
    log->run_count = 0;
    push_run(log, index, term);
}

void raft_log_init(struct raft_log *log, raft_index index, raft_term term, uint32_t chain)
{
    *log = (struct raft_log){0};
    begin_after(log, index, term, chain);
}

static void drop_entries(struct raft_log *log)
{
    for (size_t i = 0; i < log->count; i++) entry_unref(log->entries[log->head + i]);
    log->head = 0;
    log->count = 0;
    log->cached_bytes = 0;
}

void raft_log_free(struct raft_log *log)
{
    drop_entries(log);
    mem_free(log->entries);
    mem_free(log->runs);
    *log = (struct raft_log){0};
}

void raft_log_reset(struct raft_log *log, raft_index index, raft_term term, uint32_t chain)
{
    drop_entries(log);
    log->write_pending = false;
    begin_after(log, index, term, chain);
}

/* The last run that begins at or before `index`; there must be one. */
static size_t run_of(const struct raft_log *log, raft_index index)
{
    size_t low = 0, high = log->run_count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (log->runs[middle].first_index <= index) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

raft_term raft_log_term(const struct raft_log *log, raft_index index)
{
    if (index + 1 < log->first_index || index > log->last_index) return 0;
    return log->runs[run_of(log, index)].term;
}

uint32_t raft_log_chain(const struct raft_log *log, raft_index index)
{
    CHECK(index + 1 >= log->cache_first && index <= log->last_index);
    if (index + 1 == log->cache_first) return log->cache_base_chain;
    return entry_chain(raft_log_entry(log, index));
}

raft_index raft_log_last_at_most(const struct raft_log *log, raft_index index, raft_term term)
{
    if (index > log->last_index) index = log->last_index;
    if (index + 1 <= log->first_index) return log->first_index - 1;
    size_t run = run_of(log, index);
    while (run > 0 && log->runs[run].term > term) {
        index = log->runs[run].first_index - 1;
        run--;
    }
    return index;
}

struct entry *raft_log_entry(const struct raft_log *log, raft_index index)
{
    CHECK(index >= log->cache_first && index <= log->last_index);
    return log->entries[log->head + (index - log->cache_first)];
}

void raft_log_append(struct raft_log *log, struct entry *entry)
{
    CHECK(entry_index(entry) == log->last_index + 1);
    if (log->head + log->count == log->capacity) {
        if (log->head > log->capacity / 2) {
            memmove(log->entries, log->entries + log->head, log->count * sizeof log->entries[0]);
            log->head = 0;
        } else {
            log->capacity = log->capacity == 0 ? 256 : log->capacity * 2;
            log->entries = mem_realloc(log->entries, log->capacity * sizeof log->entries[0]);
        }
    }
    log->entries[log->head + log->count++] = entry;
    log->cached_bytes += entry->record_bytes;
    log->last_index++;
    if (entry_term(entry) != log->runs[log->run_count - 1].term) push_run(log, log->last_index, entry_term(entry));
}

void raft_log_truncate(struct raft_log *log, raft_index index)
{
    CHECK(index >= log->cache_first);
    while (log->last_index >= index) {
        struct entry *entry = raft_log_entry(log, log->last_index);
        log->cached_bytes -= entry->record_bytes;
        entry_unref(entry);
        log->count--;
        log->last_index--;
    }
    while (log->run_count > 1 && log->runs[log->run_count - 1].first_index >= index) log->run_count--;
    if (log->durable_index >= index) MARK(CUT_DURABLE);
    if (log->durable_index >= index) log->durable_index = index - 1;
    if (log->unwritten_first > index) log->unwritten_first = index;
    if (log->write_pending && log->write_last >= index) MARK(CUT_UNDER_WRITE);
    if (log->write_pending && log->write_last >= index && !MUTANT(LATE_COMPLETION_COUNTS)) log->write_last = index - 1;
}

void raft_log_evict(struct raft_log *log, raft_index limit, uint64_t bytes_max)
{
    while (log->count > 0 && log->cached_bytes > bytes_max && log->cache_first <= limit) {
        struct entry *entry = log->entries[log->head];
        log->cache_base_chain = entry_chain(entry);
        log->cached_bytes -= entry->record_bytes;
        entry_unref(entry);
        log->head++;
        log->count--;
        log->cache_first++;
    }
}

void raft_log_remove_before(struct raft_log *log, raft_index index)
{
    if (index <= log->first_index) return;
    CHECK(index <= log->last_index + 1);
    if (index > log->cache_first) raft_log_evict(log, index - 1, 0);
    size_t run = run_of(log, index - 1);
    memmove(log->runs, log->runs + run, (log->run_count - run) * sizeof log->runs[0]);
    log->run_count -= run;
    log->runs[0].first_index = index - 1;
    log->first_index = index;
}

bool raft_log_written(struct raft_log *log, uint64_t number)
{
    if (!log->write_pending || number != log->write_number) return false;
    log->write_pending = false;
    if (log->write_last <= log->durable_index) return false;
    log->durable_index = MUTANT(WRITE_COMPLETES_ALL) ? log->last_index : log->write_last;
    return true;
}
