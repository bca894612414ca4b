#include "store/history.h"

#include "base/check.h"
#include "base/mem.h"
#include "store/store_internal.h"

struct history_block {
    uint64_t cost_before; /* of all slots of all blocks before */
    struct store_record *records[HISTORY_BLOCK_SLOTS];
};

static uint64_t record_cost(const struct store_record *record)
{
    uint64_t cost = store_record_is_tombstone(record) ? store_record_bytes(record) : 0;
    const struct store_record *previous = record->previous;
    /* A tombstone costs in its own slot only. */
    if (previous && !store_record_is_tombstone(previous)) cost += store_record_bytes(previous);
    return cost;
}

static struct history_block *block_of(const struct history *history, uint64_t sequence)
{
    uint64_t at = sequence / HISTORY_BLOCK_SLOTS - history->begin / HISTORY_BLOCK_SLOTS;
    return history->blocks[history->first + at];
}

static void add_block(struct history *history)
{
    if (history->first + history->count == history->capacity) {
        if (history->first > history->capacity / 2) {
            memmove(history->blocks, history->blocks + history->first, history->count * sizeof history->blocks[0]);
            history->first = 0;
        } else {
            history->capacity = history->capacity > 0 ? 2 * history->capacity : 16;
            history->blocks = mem_realloc(history->blocks, history->capacity * sizeof history->blocks[0]);
        }
    }
    struct history_block *block = mem_alloc(sizeof *block);
    block->cost_before = history->cost_end;
    history->blocks[history->first + history->count++] = block;
}

void history_free(struct history *history)
{
    for (size_t i = 0; i < history->count; i++) mem_free(history->blocks[history->first + i]);
    mem_free(history->blocks);
    *history = (struct history){.blocks = NULL};
}

void history_append(struct history *history, struct store_record *record)
{
    /* The last block also goes when it is full and all its slots are popped, so there may be none. */
    if (history->end % HISTORY_BLOCK_SLOTS == 0) add_block(history);
    block_of(history, history->end)->records[history->end % HISTORY_BLOCK_SLOTS] = record;
    history->end++;
    history->cost_end += record_cost(record);
}

struct store_record *history_record(const struct history *history, uint64_t sequence)
{
    CHECK(sequence >= history->begin && sequence < history->end);
    return block_of(history, sequence)->records[sequence % HISTORY_BLOCK_SLOTS];
}

uint64_t history_after(const struct history *history, store_revision revision)
{
    uint64_t low = history->begin;
    uint64_t high = history->end;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (history_record(history, middle)->mod_revision <= revision) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

void history_compact(struct history *history, store_revision revision)
{
    uint64_t to = history_after(history, revision);
    if (to == history->end) {
        history->cost_compacted = history->cost_end;
    } else {
        /* Count on from the block's start, or from the last compaction if that is in this block: the records of the
           slots before that may be gone. */
        uint64_t from = to - to % HISTORY_BLOCK_SLOTS;
        uint64_t cost = block_of(history, to)->cost_before;
        if (from <= history->compacted) {
            from = history->compacted;
            cost = history->cost_compacted;
        }
        for (; from < to; from++) cost += record_cost(history_record(history, from));
        history->cost_compacted = cost;
    }
    history->compacted = to;
}

void history_pop(struct history *history)
{
    CHECK(history->begin < history->compacted);
    struct history_block *block = block_of(history, history->begin);
    history->begin++;
    if (history->begin % HISTORY_BLOCK_SLOTS == 0) {
        mem_free(block);
        history->first++;
        history->count--;
    }
}

void history_fill_begin(struct history *history, uint64_t count)
{
    CHECK(history->end == 0);
    for (; history->end < count; history->end++) {
        if (history->end % HISTORY_BLOCK_SLOTS == 0) add_block(history);
        block_of(history, history->end)->records[history->end % HISTORY_BLOCK_SLOTS] = NULL;
    }
}

bool history_fill(struct history *history, uint64_t sequence, struct store_record *record)
{
    struct history_block *block = block_of(history, sequence);
    struct store_record **slot = &block->records[sequence % HISTORY_BLOCK_SLOTS];
    if (*slot) return false;
    *slot = record;
    /* For now it is the block's own cost: visiting the records a second time, in this order, would be slow. */
    block->cost_before += record_cost(record);
    return true;
}

void history_fill_end(struct history *history)
{
    for (size_t i = 0; i < history->count; i++) {
        struct history_block *block = history->blocks[history->first + i];
        uint64_t own = block->cost_before;
        block->cost_before = history->cost_end;
        history->cost_end += own;
    }
}

uint64_t history_memory_bytes(const struct history *history)
{
    return history->count * sizeof(struct history_block) + history->capacity * sizeof history->blocks[0];
}

void history_verify(const struct history *history)
{
    CHECK(history->begin <= history->compacted && history->compacted <= history->end);
    if (history->compacted == history->end) CHECK(history->cost_compacted == history->cost_end);
    uint64_t cost = history->cost_compacted;
    const struct store_record *before = NULL;
    for (uint64_t sequence = history->begin; sequence < history->end; sequence++) {
        const struct store_record *record = history_record(history, sequence);
        if (before) {
            CHECK(record->mod_revision == before->mod_revision
                      ? record->sub_revision == before->sub_revision + 1
                      : record->mod_revision == before->mod_revision + 1 && record->sub_revision == 0);
        }
        before = record;
        if (sequence < history->compacted) continue;
        if (sequence % HISTORY_BLOCK_SLOTS == 0) CHECK(block_of(history, sequence)->cost_before == cost);
        cost += record_cost(record);
    }
    CHECK(cost == history->cost_end);
}
