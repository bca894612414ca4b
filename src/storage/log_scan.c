/*
 * log_scan.c - see log_scan.h for the outcomes, log_proof.h for what proves an entry.
 *
 * A segment is walked block by block. At any time there is a *place* where the next batch belongs: right after the
 * last taken one. What is found from there on is the *group*: as long as it looks like that one batch with blocks
 * missing, the end is torn; anything that doesn't fit makes a *debt*. A debt says how far the log reached; a batch
 * that is proven afterwards, or the header of a segment begun by a writer that was certain, clears it.
 */
#include "storage/log_scan.h"

#include "base/check.h"
#include "base/mem.h"
#include "base/mutant.h"
#include "storage/log_batch.h"
#include "storage/log_proof.h"

#define HEADER_BLOCKS (LOG_SEGMENT_HEADER_BYTES / LOG_BLOCK_BYTES)
#define PLACE_BLOCKS (LOG_BATCH_ALIGNMENT / LOG_BLOCK_BYTES)
/* A missing segment used up fewer batch numbers than this. */
#define MISSING_SEGMENT_BATCHES ((uint64_t)1 << 20)

enum header_state { HEADER_UNREAD, HEADER_ZERO, HEADER_CUT, HEADER_BAD, HEADER_GOOD };

/* An entry as far as election rules compare it. */
struct extent {
    raft_term term;
    raft_index index;
};

/* Entries beyond the proven log that this member may have acknowledged. */
struct debt {
    bool any;
    bool stated;  /* by a segment's header, as all that is owed; so the log pays it by reaching `until` */
    bool endless; /* nobody knows how far they reach */
    struct extent until;
};

/* What lies where the next batch belongs. */
struct group {
    uint32_t place; /* block number */
    bool good;      /* a good block was seen: `batch` is its header, `start` where its batch begins */
    bool number_fits;
    bool complete; /* all blocks of `batch` were good, and yet it wasn't taken */
    bool damaged;
    bool open_before; /* log_scan.open before its first good block */
    struct log_block_header batch;
    uint32_t start;
    bool cut;
    uint32_t cut_first;
    uint32_t cut_last;
};

struct log_scan {
    uint64_t log_id;
    struct log_proof proof;

    struct debt debt;
    struct extent claim; /* the greatest that blocks and headers named since the last proven batch */
    bool open;           /* damage lies beyond all good blocks so far; so the extent isn't known */
    bool torn;

    bool number_known;
    uint64_t next_number;
    uint64_t number_slack; /* batch numbers that unreadable blocks may have used up since */

    uint64_t damaged_blocks;
    bool damage_harmless; /* what `damage` tells of was made harmless by what came after */
    char damage[256];
    struct buffer text;
    bool newer_version;

    /* The segment. */
    uint64_t segment_number; /* 0: none yet */
    uint64_t segment_bytes;
    uint64_t fed_bytes;
    bool segment_zero;
    enum header_state header_state;
    struct log_segment_header header;
    enum log_proof_verdict header_verdict;
    struct debt segment_debt; /* what its header says is owed */
    bool touched;             /* the header or a block for batches isn't untouched */
    uint32_t taken;           /* batches taken in it */
    uint32_t padding_end;     /* blocks below it are the padding of the batch before */
    struct group group;
    uint32_t end_block; /* past the last block that isn't untouched */

    /* The batch being put together from its blocks. */
    bool collecting;
    struct buffer content;
    struct log_batch batch;
    uint32_t batch_start; /* of the one in `batch` */
    uint32_t batch_blocks;

    /* The slice. */
    const uint8_t *data;
    size_t size;
    uint8_t odd[LOG_BLOCK_BYTES]; /* the segment's last block, if it is not whole */

    uint64_t last_segment_number; /* in use */
    uint64_t last_end_block;
    uint64_t good_segment_number; /* the last one whose header or a batch fitted the log */
    uint64_t *fed_segments;
    size_t fed_count;
    size_t fed_capacity;
};

static bool extent_above(struct extent a, struct extent b)
{
    return a.term != b.term ? a.term > b.term : a.index > b.index;
}

static void raise_extent(struct extent *extent, struct extent to)
{
    if (extent_above(to, *extent)) *extent = to;
}

static struct extent extent_of(struct log_position position)
{
    return (struct extent){.term = position.term, .index = position.index};
}

struct log_scan *log_scan_new(uint64_t log_id, raft_index base_index, raft_term base_term, uint32_t base_chain)
{
    struct log_scan *scan = mem_alloc_zero(sizeof *scan);
    scan->log_id = log_id;
    scan->next_number = 1;
    log_proof_init(&scan->proof, (struct log_position){base_index, base_term, base_chain});
    return scan;
}

void log_scan_free(struct log_scan *scan)
{
    if (scan == NULL) return;
    log_proof_free(&scan->proof);
    log_batch_free(&scan->batch);
    buffer_free(&scan->content);
    buffer_free(&scan->text);
    mem_free(scan->fed_segments);
    mem_free(scan);
}

/* ---- What is told to a person ---- */

/* A buffer for the text, or NULL when an earlier one is to stay. */
static struct buffer *note_begin(struct log_scan *scan, uint64_t segment_number, uint64_t offset)
{
    if (scan->damage[0] != '\0' && !scan->damage_harmless) return NULL;
    char name[LOG_SEGMENT_NAME_BYTES];
    log_segment_name(segment_number, name);
    buffer_clear(&scan->text);
    buffer_append_format(&scan->text, "%s at offset %llu: ", name, (unsigned long long)offset);
    return &scan->text;
}

static void note_end(struct log_scan *scan)
{
    size_t size = scan->text.size < sizeof scan->damage - 1 ? scan->text.size : sizeof scan->damage - 1;
    memcpy(scan->damage, scan->text.data, size);
    scan->damage[size] = '\0';
    scan->damage_harmless = false;
}

#define NOTE(scan, block, ...)                                                                                         \
    do {                                                                                                               \
        if (note_begin((scan), (scan)->segment_number, (uint64_t)(block)*LOG_BLOCK_BYTES) != NULL) {                   \
            buffer_append_format(&(scan)->text, __VA_ARGS__);                                                          \
            note_end(scan);                                                                                            \
        }                                                                                                              \
    } while (0)

/* ---- Debts ---- */

static void owe(struct log_scan *scan)
{
    scan->debt.any = true;
    scan->debt.stated = false;
}

static void owe_without_end(struct log_scan *scan)
{
    owe(scan);
    scan->debt.endless = true;
}

/* Asked anew each time: a repair that goes on may cut the log below what was reached before. */
static bool in_debt(const struct log_scan *scan)
{
    const struct debt *debt = &scan->debt;
    bool paid = debt->stated && !debt->endless && !extent_above(debt->until, extent_of(scan->proof.last));
    return debt->any && !paid;
}

/* What was owed before is cleared: the segment's writer knew all of it, and said what it owed. */
static void settle(struct log_scan *scan)
{
    scan->debt = scan->segment_debt;
    scan->claim = (struct extent){0};
    scan->open = false;
    scan->damage_harmless = scan->damage[0] != '\0' && !in_debt(scan);
}

/* ---- Segments ---- */

static void read_header(struct log_scan *scan, const uint8_t *block)
{
    switch (log_segment_header_decode(block, &scan->header)) {
    case ERR_NO_FILE:
        scan->header_state = HEADER_ZERO;
        return;
    case ERR_OK:
        break;
    case ERR_BAD_VERSION:
        scan->newer_version = true;
        scan->header_state = HEADER_BAD;
        NOTE(scan, 0, "the segment was written by a newer version");
        break;
    default:
        scan->header_state = log_block_is_cut(block) ? HEADER_CUT : HEADER_BAD;
        NOTE(scan, 0, "the segment's header is %s", scan->header_state == HEADER_CUT ? "cut" : "damaged");
        break;
    }
    scan->touched = true;
    scan->end_block = 1;
    if (scan->header_state == HEADER_UNREAD) {
        const char *wrong = scan->header.log_id != scan->log_id           ? "belongs to another log"
                            : scan->header.number != scan->segment_number ? "belongs to another segment"
                            : scan->header.first_batch_number < scan->next_number && scan->number_known
                                ? "goes back in the numbers of batches"
                                : NULL;
        scan->header_state = wrong == NULL ? HEADER_GOOD : HEADER_BAD;
        if (wrong != NULL) NOTE(scan, 0, "the segment's header %s", wrong);
    }
    if (scan->header_state != HEADER_GOOD) {
        scan->damaged_blocks++;
        scan->number_slack++;
        /* What such a header may have said to be owed is lost; one that was cut counts for nothing. */
        if (scan->header_state == HEADER_BAD) owe_without_end(scan);
        return;
    }

    const struct log_segment_header *header = &scan->header;
    scan->number_known = true;
    scan->next_number = header->first_batch_number;
    scan->number_slack = 0;
    const char *reason = "";
    scan->header_verdict = log_proof_header(&scan->proof, header, &reason);
    scan->segment_debt = (struct debt){
        .any = header->owed,
        .stated = true,
        .endless = header->owed && !header->owed_extent_known,
        .until = {.term = header->owed_term, .index = header->owed_index},
    };
    if (scan->header_verdict == LOG_PROOF_REFUSED) {
        NOTE(scan, 0, "the segment begins at entry %llu after a log that ends with %llu: %s",
             (unsigned long long)header->first_index, (unsigned long long)scan->proof.last.index, reason);
        owe(scan);
        scan->open = false;
        scan->debt.endless |= scan->segment_debt.endless;
        raise_extent(&scan->claim, scan->segment_debt.until);
        raise_extent(&scan->claim, (struct extent){header->previous_term, header->first_index - 1});
        return;
    }
    scan->good_segment_number = scan->segment_number;
    /* What was owed is cleared by the segment's first batch, since the header alone may come from a write whose sync never
       returned; but a header alone is how an install begins the log anew. Below the anchor it must be an old one. */
    bool anew = scan->header_verdict == LOG_PROOF_CONTINUES && header->first_index == scan->proof.base.index + 1;
    bool old = scan->header_verdict == LOG_PROOF_BESIDE && scan->proof.branch == LOG_BRANCH_BEFORE;
    if (anew || old) {
        settle(scan);
    } else if (!in_debt(scan)) {
        scan->debt = scan->segment_debt;
    } else {
        scan->debt.endless |= scan->segment_debt.endless;
        raise_extent(&scan->debt.until, scan->segment_debt.until);
    }
}

static void close_segment(struct log_scan *scan)
{
    if (scan->segment_number == 0) return;
    CHECK(scan->size == 0); /* log_scan_next_batch was called until it returned false */
    scan->collecting = false;
    if (scan->fed_bytes < scan->segment_bytes) {
        NOTE(scan, scan->fed_bytes / LOG_BLOCK_BYTES, "the rest of the segment can't be read");
        owe(scan);
        scan->open = true;
        scan->touched = true;
    }
    if (scan->header_state == HEADER_GOOD && scan->segment_bytes < scan->header.size_bytes) {
        NOTE(scan, scan->segment_bytes / LOG_BLOCK_BYTES, "the segment is shorter than its header says");
        owe(scan);
        scan->open = true;
    }
    if (!scan->touched) return;

    struct group *group = &scan->group;
    if (scan->header_state == HEADER_ZERO || scan->header_state == HEADER_CUT) scan->torn = true;
    /* A batch whose sync never returned doesn't show that the damage before it was replaced. */
    if (group->good && !group->complete && !group->damaged && group->open_before) scan->open = true;
    if (group->good || group->cut) {
        scan->torn = true;
        NOTE(scan, group->place, "the batch is incomplete");
    } else if (scan->header_state == HEADER_GOOD && scan->taken == 0 && scan->header_verdict == LOG_PROOF_CUTS) {
        /* The batch that would have cut the log isn't there; what the header says of the log didn't come true. */
        scan->torn = true;
        NOTE(scan, group->place, "the segment's first batch is missing");
    }
    scan->last_segment_number = scan->segment_number;
    scan->last_end_block = scan->end_block > group->place ? scan->end_block : group->place;
}

void log_scan_segment(struct log_scan *scan, uint64_t number, uint64_t size_bytes)
{
    CHECK(number > scan->segment_number);
    close_segment(scan);
    if (scan->fed_count == scan->fed_capacity) {
        scan->fed_capacity = scan->fed_capacity == 0 ? 16 : scan->fed_capacity * 2;
        scan->fed_segments = mem_realloc(scan->fed_segments, scan->fed_capacity * sizeof *scan->fed_segments);
    }
    scan->fed_segments[scan->fed_count++] = number;
    scan->segment_number = number;
    scan->segment_bytes = size_bytes;
    scan->fed_bytes = 0;
    scan->segment_zero = true;
    scan->header_state = HEADER_UNREAD;
    scan->segment_debt = (struct debt){0};
    scan->touched = false;
    scan->taken = 0;
    scan->padding_end = HEADER_BLOCKS;
    scan->group = (struct group){.place = HEADER_BLOCKS};
    scan->end_block = 0;
}

void log_scan_feed(struct log_scan *scan, const uint8_t *data, size_t size)
{
    CHECK(scan->segment_number != 0 && scan->size == 0);
    CHECK(size <= scan->segment_bytes - scan->fed_bytes);
    CHECK(size % LOG_BLOCK_BYTES == 0 || scan->fed_bytes + size == scan->segment_bytes);
    scan->data = data;
    scan->size = size;
}

bool log_scan_segment_untouched(const struct log_scan *scan)
{
    return scan->segment_zero;
}

bool log_scan_segment_headless(const struct log_scan *scan)
{
    return scan->header_state == HEADER_ZERO || scan->header_state == HEADER_CUT;
}

/* ---- Batches ---- */

/* Begins the place for the next batch, after one that ends before block `end`. */
static void next_place(struct log_scan *scan, uint32_t end)
{
    scan->padding_end = (end + PLACE_BLOCKS - 1) / PLACE_BLOCKS * PLACE_BLOCKS;
    scan->group = (struct group){.place = scan->padding_end};
    scan->taken++;
    scan->torn = false;
}

/* All blocks of the batch were good. Returns whether there are entries to hand out. */
static bool complete_batch(struct log_scan *scan)
{
    const struct group *group = &scan->group;
    uint32_t end = group->start + group->batch.count;
    struct log_batch *batch = &scan->batch;
    scan->collecting = false;

    const char *reason;
    enum log_proof_verdict verdict = LOG_PROOF_REFUSED;
    if (!group->number_fits) {
        reason = "its number doesn't follow";
    } else if (log_batch_parse(batch, buffer_bytes(&scan->content), &group->batch, &reason) == ERR_OK) {
        verdict = log_proof_batch(&scan->proof, batch, &reason);
    }
    if (verdict == LOG_PROOF_REFUSED) {
        NOTE(scan, group->start, "batch %u, up to entry %llu, is not part of the log: %s", group->batch.batch_number,
             (unsigned long long)group->batch.last_index, reason);
        log_batch_clear(batch);
        owe(scan);
        scan->group.complete = true;
        return false;
    }

    scan->good_segment_number = scan->segment_number;
    scan->batch_start = group->start;
    scan->batch_blocks = group->batch.count;
    next_place(scan, end);
    if (verdict == LOG_PROOF_BESIDE) {
        if (!in_debt(scan)) scan->claim = (struct extent){0};
        log_batch_clear(batch);
        return false;
    }
    if (scan->header_state == HEADER_GOOD) {
        settle(scan);
    } else if (!in_debt(scan)) {
        scan->claim = (struct extent){0};
        scan->open = false;
    }
    return true;
}

static bool in_group(const struct group *group, uint32_t block, const struct log_block_header *header)
{
    const struct log_block_header *batch = &group->batch;
    return group->good && group->start == block - header->number && batch->batch_number == header->batch_number &&
           batch->count == header->count && batch->last_index == header->last_index &&
           batch->last_term == header->last_term;
}

/* A good block: what it says of the group, of batch numbers and of the log's extent. */
static void good_block(struct log_scan *scan, uint32_t block, const struct log_block_header *header)
{
    struct group *group = &scan->group;
    uint32_t start = block - header->number;
    raise_extent(&scan->claim, (struct extent){header->last_term, header->last_index});
    if (!group->good) group->open_before = scan->open;
    /* Where the header is gone, so may be the word that all this is but the repair of an endless debt. */
    if (scan->header_state == HEADER_GOOD) scan->open = false;

    if (in_group(group, block, header)) return;

    bool alone = !group->good && start == group->place;
    if (!alone) {
        NOTE(scan, block, "a block of batch %u where batch %llu belongs", header->batch_number,
             (unsigned long long)scan->next_number);
        owe(scan);
    }
    if (group->cut && (group->cut_first < start || group->cut_last >= start + header->count)) {
        NOTE(scan, group->cut_first, "a cut block outside of the last batch");
        owe(scan);
    }
    if ((uint64_t)(start + header->count) * LOG_BLOCK_BYTES > scan->segment_bytes) {
        NOTE(scan, block, "a batch that passes the segment's end");
        owe(scan);
    }

    if (!scan->number_known) {
        scan->number_known = true;
        scan->next_number = header->batch_number;
    }
    int32_t ahead = (int32_t)(header->batch_number - (uint32_t)scan->next_number);
    /* Where something is missing, numbers are too; and without a header nobody knows the first one. */
    bool may_skip = !alone || (scan->taken == 0 && scan->header_state != HEADER_GOOD);
    group->number_fits = ahead == 0 || (ahead > 0 && may_skip);
    if (!group->number_fits) {
        NOTE(scan, block, "batch number %u where %u was due", header->batch_number, (uint32_t)scan->next_number);
        owe(scan);
    }
    if (ahead >= 0) scan->next_number += (uint64_t)ahead + 1;
    scan->number_slack = 0;

    group->good = true;
    group->batch = *header;
    group->start = start;
}

/* Adds a good block to the batch that is being put together, or begins one. Returns whether that completed it. */
static bool collect(struct log_scan *scan, uint32_t block, const uint8_t *data, const struct log_block_header *header)
{
    if (header->number == 0) {
        scan->collecting = block % PLACE_BLOCKS == 0;
        buffer_clear(&scan->content);
    }
    if (!scan->collecting) return false;
    buffer_append(&scan->content, data + LOG_BLOCK_CONTENT_OFFSET, header->used_bytes);
    return header->number + 1 == header->count;
}

static void bad_block(struct log_scan *scan, uint32_t block, enum log_block_state state)
{
    struct group *group = &scan->group;
    scan->damaged_blocks++;
    scan->number_slack++;
    bool inside = group->good && block >= group->start && block < group->start + group->batch.count;
    if (!inside) scan->open = true;
    if (state == LOG_BLOCK_DAMAGED && !MUTANT(DAMAGED_END_IS_TORN)) {
        group->damaged = true;
        NOTE(scan, block, "the block is damaged");
        owe(scan);
        return;
    }
    if (!group->cut) group->cut_first = block;
    group->cut = true;
    group->cut_last = block;
    if (group->good ? !inside : block >= group->place + LOG_BATCH_BLOCKS_MAX) {
        NOTE(scan, block, "a cut block outside of the last batch");
        owe(scan);
    }
}

/* Returns whether a batch with entries to hand out is complete. */
static bool step_block(struct log_scan *scan, uint32_t block, const uint8_t *data)
{
    if (block == 0) {
        read_header(scan, data);
        if (scan->header_state != HEADER_ZERO) scan->segment_zero = false;
        return false;
    }

    struct log_block_header header;
    enum log_block_state state = log_block_read(scan->log_id, scan->segment_number, block, data, &header);
    if (state != LOG_BLOCK_GOOD || !in_group(&scan->group, block, &header)) scan->collecting = false;
    if (state == LOG_BLOCK_UNTOUCHED) return false;
    scan->segment_zero = false;

    if (block < scan->padding_end && state != LOG_BLOCK_GOOD) {
        /* It never held anything; the batch before it is whole. */
        scan->damaged_blocks++;
        NOTE(scan, block, "a block of padding is damaged");
        if (!in_debt(scan) && !scan->torn) scan->damage_harmless = true;
        return false;
    }
    if ((scan->header_state == HEADER_ZERO || scan->header_state == HEADER_CUT) && scan->taken > 0) {
        /* A second batch is written after the first one's sync only, which was the header's too: it was there. */
        NOTE(scan, 0, "the segment's header is lost");
        scan->header_state = HEADER_BAD;
        owe_without_end(scan);
    }
    scan->touched = true;
    scan->end_block = block + 1;
    if (state != LOG_BLOCK_GOOD) {
        bad_block(scan, block, state);
        return false;
    }
    good_block(scan, block, &header);
    if (!collect(scan, block, data, &header)) return false;
    return complete_batch(scan);
}

/* Moves the batch's entries out, without those that the base covers. False when none is left. */
static bool hand_out(struct log_scan *scan, struct log_scan_batch *out)
{
    struct log_batch *batch = &scan->batch;
    raft_index base = scan->proof.base.index;
    uint32_t covered = 0;
    if (batch->first_index <= base) {
        raft_index many = base - batch->first_index + 1;
        covered = many < batch->entry_count ? (uint32_t)many : batch->entry_count;
    }
    for (uint32_t i = 0; i < covered; i++) entry_unref(batch->entries[i]);
    *out = (struct log_scan_batch){
        .first_index = batch->first_index + covered,
        .commit = batch->commit,
        .segment_number = scan->segment_number,
        .offset = (uint64_t)scan->batch_start * LOG_BLOCK_BYTES,
        .file_bytes = (uint64_t)(scan->batch_blocks + PLACE_BLOCKS - 1) / PLACE_BLOCKS * LOG_BATCH_ALIGNMENT,
        .entries = batch->entries + covered,
        .entry_count = batch->entry_count - covered,
    };
    batch->entry_count = 0;
    return out->entry_count > 0;
}

bool log_scan_next_batch(struct log_scan *scan, struct log_scan_batch *out)
{
    while (scan->size > 0) {
        const uint8_t *data = scan->data;
        size_t size = LOG_BLOCK_BYTES;
        if (scan->size < LOG_BLOCK_BYTES) {
            size = scan->size;
            memset(scan->odd, 0, sizeof scan->odd);
            memcpy(scan->odd, data, size);
            data = scan->odd;
        }
        uint32_t block = (uint32_t)(scan->fed_bytes / LOG_BLOCK_BYTES);
        scan->data += size;
        scan->size -= size;
        scan->fed_bytes += size;
        if (step_block(scan, block, data) && hand_out(scan, out)) return true;
    }
    return false;
}

/* ---- The end ---- */

static bool was_fed(const struct log_scan *scan, uint64_t number)
{
    for (size_t i = 0; i < scan->fed_count; i++) {
        if (scan->fed_segments[i] == number) return true;
    }
    return false;
}

void log_scan_finish(struct log_scan *scan, uint64_t expected_last_segment, struct log_scan_result *out)
{
    close_segment(scan);
    /* When the log goes on in a later one, the metadata are old, and what they name was replaced. */
    if (expected_last_segment > scan->good_segment_number && !was_fed(scan, expected_last_segment)) {
        if (note_begin(scan, expected_last_segment, 0) != NULL) {
            buffer_append_string(&scan->text, "the segment is missing");
            note_end(scan);
        }
        scan->number_slack += MISSING_SEGMENT_BATCHES;
        owe_without_end(scan);
    }

    const struct log_position *last = &scan->proof.last;
    struct extent known = extent_of(*last);
    bool extent_known = true;
    bool uncertain = in_debt(scan) && !MUTANT(DAMAGE_IS_CUT_OFF);
    if (uncertain) {
        raise_extent(&known, scan->claim);
        raise_extent(&known, scan->debt.until);
        extent_known = !scan->open && !scan->debt.endless;
        /* Nothing that is damaged reaches beyond the snapshot. */
        bool covered = last->index == scan->proof.base.index && !extent_above(known, extent_of(scan->proof.base));
        if (extent_known && covered) {
            uncertain = false;
            scan->torn = true;
        }
    }
    if (uncertain && scan->debt.stated && note_begin(scan, scan->good_segment_number, 0) != NULL) {
        buffer_append_format(&scan->text, "entries up to %llu%s are owed since an earlier damage",
                             (unsigned long long)known.index, extent_known ? "" : " or more");
        note_end(scan);
    }
    bool beside = scan->proof.branch != LOG_BRANCH_PROVEN;
    if (beside && note_begin(scan, scan->last_segment_number, scan->last_end_block * LOG_BLOCK_BYTES) != NULL) {
        buffer_append_format(&scan->text, "the log ends with entry %llu and %s the snapshot's entry %llu",
                             (unsigned long long)scan->proof.beside.index,
                             scan->proof.branch == LOG_BRANCH_BEFORE ? "doesn't reach" : "doesn't match",
                             (unsigned long long)scan->proof.base.index);
        note_end(scan);
    }

    uint64_t next_segment = scan->segment_number + 1;
    if (expected_last_segment >= next_segment) next_segment = expected_last_segment + 1;
    *out = (struct log_scan_result){
        .outcome = uncertain              ? LOG_UNCERTAIN
                   : scan->torn || beside ? LOG_TORN
                                          : LOG_CLEAN,
        .last_index = last->index,
        .last_term = last->term,
        .last_chain = last->chain,
        .known_last_index = uncertain ? known.index : last->index,
        .known_last_term = uncertain ? known.term : last->term,
        .extent_known = extent_known,
        .newer_version = scan->newer_version,
        .next_batch_number = scan->next_number + scan->number_slack,
        .last_segment_number = scan->last_segment_number,
        .next_segment_number = next_segment,
        .end_offset = (scan->last_end_block + PLACE_BLOCKS - 1) / PLACE_BLOCKS * LOG_BATCH_ALIGNMENT,
        .damaged_blocks = scan->damaged_blocks,
    };
    memcpy(out->damage, scan->damage, sizeof scan->damage);
}

void log_scan_next_header(const struct log_scan_result *result, struct log_segment_header *out)
{
    bool owed = result->outcome == LOG_UNCERTAIN && !MUTANT(FORGETS_WHAT_IS_OWED);
    *out = (struct log_segment_header){
        .number = result->next_segment_number,
        .first_index = result->last_index + 1,
        .previous_term = result->last_term,
        .previous_chain = result->last_chain,
        .first_batch_number = result->next_batch_number,
        .owed = owed,
        .owed_extent_known = owed && result->extent_known,
        .owed_index = owed ? result->known_last_index : 0,
        .owed_term = owed ? result->known_last_term : 0,
    };
}

const char *log_outcome_name(enum log_outcome outcome)
{
    switch (outcome) {
    case LOG_CLEAN:
        return "clean";
    case LOG_TORN:
        return "torn";
    case LOG_UNCERTAIN:
        return "uncertain";
    }
    return "unknown";
}
