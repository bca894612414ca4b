/*
 * sim_sweep_torn.c - the power fails while the last batch of the log is written: cut at any byte, with any of its sectors there.
 *
 * Two images are taken, before and after one write of a key. What the write put into a node's log is applied in part
 * to the disk as it was before.
 */
#include "base/check.h"
#include "base/mem.h"
#include "sim/sim_sweep.h"

enum { NODES = 3, SECTORS_MAX = 64, ROLL_WRITES_MAX = 64 };

/* A sector of a node's log that the last write changed. */
struct changed {
    const char *path; /* the image's */
    uint64_t offset;
    const uint8_t *data;
};

struct torn {
    struct drive_config config;
    struct sim_image before, after;
    struct changed sectors[NODES][SECTORS_MAX];
    unsigned sector_count; /* the same on all */
    unsigned leader;
    bool all;     /* on all nodes at once */
    bool subsets; /* any subset of the sectors, instead of a part of the bytes */
};

static const struct sim_image_file *file_of(const struct sim_image *image, unsigned node, const char *path)
{
    for (uint32_t i = 0; i < image->disks[node].count; i++) {
        if (strcmp(image->disks[node].files[i].path, path) == 0) return &image->disks[node].files[i];
    }
    return NULL;
}

/* Sectors of segments that were there before, and that the write changed. */
static unsigned find_changes(struct torn *torn, unsigned node)
{
    unsigned count = 0;
    for (uint32_t i = 0; i < torn->after.disks[node].count; i++) {
        const struct sim_image_file *after = &torn->after.disks[node].files[i];
        const struct sim_image_file *before = file_of(&torn->before, node, after->path);
        if (before == NULL || strncmp(after->path, "/data/log/log-", 14) != 0) continue;
        size_t size = before->size < after->size ? before->size : after->size;
        for (size_t at = 0; at + SIM_SECTOR_BYTES <= size; at += SIM_SECTOR_BYTES) {
            if (memcmp(before->data + at, after->data + at, SIM_SECTOR_BYTES) == 0) continue;
            if (count < SECTORS_MAX) torn->sectors[node][count] = (struct changed){before->path, at, after->data + at};
            count++;
        }
    }
    return count;
}

/* `rolls`: the last write begins a segment. */
static bool live(struct torn *torn, bool rolls, struct sim_script *script)
{
    sim_script_begin(script, 1, &torn->config, NODES);
    sim_script_start_all(script);
    if (!sim_script_settle(script, true, 10 * TIME_NS_PER_S)) return sim_script_wrong(script, "no cluster came about");
    for (uint32_t key = 0; key < 6; key++) {
        if (!sim_script_put(script, key, 100)) return sim_script_wrong(script, "a put failed");
    }
    if (!sim_script_delete(script, 2)) return sim_script_wrong(script, "a delete failed");
    for (unsigned i = 0; i < ROLL_WRITES_MAX; i++) {
        if (!sim_script_settle(script, true, 10 * TIME_NS_PER_S)) return sim_script_wrong(script, "no agreement");
        sim_script_run(script, TIME_NS_PER_S); /* a spare may be under way */
        sim_image_free(&torn->before);
        sim_image_free(&torn->after);
        sim_image_take(&torn->before, script);
        if (!sim_script_put(script, 6, rolls ? 6000 : 2700)) return sim_script_wrong(script, "a put failed");
        if (!sim_script_settle(script, true, 10 * TIME_NS_PER_S)) return sim_script_wrong(script, "no agreement");
        sim_script_run(script, TIME_NS_PER_S);
        sim_image_take(&torn->after, script);
        torn->sector_count = find_changes(torn, 0);
        if (!rolls || torn->sectors[0][0].offset == 0) break;
    }
    torn->leader = sim_cluster_leader(&script->cluster);
    if (torn->leader >= NODES || torn->sector_count < 4 || torn->sector_count > SECTORS_MAX) {
        return sim_script_wrong(script, "the last write changed %u sectors", torn->sector_count);
    }
    if ((torn->sectors[0][0].offset == 0) != rolls) return sim_script_wrong(script, "no segment began");
    for (unsigned node = 1; node < NODES; node++) {
        if (find_changes(torn, node) != torn->sector_count) return sim_script_wrong(script, "the logs differ");
    }
    return true;
}

static uint64_t begin(bool all, bool subsets, bool rolls, void **out, char *text, size_t text_bytes)
{
    struct torn *torn = mem_alloc_zero(sizeof *torn);
    *out = torn;
    torn->all = all;
    torn->subsets = subsets;
    sim_script_config(&torn->config);
    struct sim_script script;
    bool good = live(torn, rolls, &script);
    snprintf(text, text_bytes, "%s", script.text);
    sim_script_end(&script);
    if (!good) return 0;
    if (subsets) return (UINT64_C(1) << torn->sector_count) * NODES;
    uint64_t cuts = (uint64_t)torn->sector_count * SIM_SECTOR_BYTES;
    return all ? cuts : cuts * NODES;
}

static uint64_t begin_one(bool full, void **out, char *text, size_t text_bytes)
{
    (void)full;
    return begin(false, false, false, out, text, text_bytes);
}

static uint64_t begin_all(bool full, void **out, char *text, size_t text_bytes)
{
    (void)full;
    return begin(true, false, false, out, text, text_bytes);
}

static uint64_t begin_sectors(bool full, void **out, char *text, size_t text_bytes)
{
    (void)full;
    return begin(true, true, false, out, text, text_bytes);
}

static uint64_t begin_segment(bool full, void **out, char *text, size_t text_bytes)
{
    (void)full;
    return begin(true, false, true, out, text, text_bytes);
}

/* The node's disk as it was before the write, and so many of its bytes, or of its sectors. */
static void tear(const struct torn *torn, struct sim_script *script, unsigned node, uint64_t bytes, uint64_t subset)
{
    sim_image_load(&torn->before, script, node);
    for (unsigned i = 0; i < torn->sector_count; i++) {
        const struct changed *sector = &torn->sectors[node][i];
        uint64_t begins = (uint64_t)i * SIM_SECTOR_BYTES;
        uint64_t part = torn->subsets ? (subset >> i & 1) * SIM_SECTOR_BYTES : bytes <= begins ? 0 : bytes - begins;
        if (part > SIM_SECTOR_BYTES) part = SIM_SECTOR_BYTES;
        if (part > 0) sim_script_overwrite(script, node, sector->path, sector->offset, sector->data, (size_t)part);
    }
}

/* The last write was never acknowledged: no node has all of it. */
static void forget_answer(struct sim_script *script, const struct torn *torn)
{
    for (uint32_t i = torn->before.history.count; i < torn->after.history.count; i++) {
        struct sim_operation operation = torn->after.history.operations[i];
        uint32_t number = sim_history_send(&script->history, operation.kind, operation.client, operation.key,
                                           operation.value, operation.sent_time);
        CHECK(number == i);
    }
    script->key_count = torn->after.key_count;
    script->last_value = torn->after.last_value;
}

static void run(void *state, struct sim_sweep_case *one)
{
    const struct torn *torn = state;
    uint64_t cuts = torn->subsets ? UINT64_C(1) << torn->sector_count : (uint64_t)torn->sector_count * SIM_SECTOR_BYTES;
    uint64_t place = one->number % cuts;
    unsigned node = (unsigned)(one->number / cuts);
    struct sim_script script;
    /* Subsets: by node, another one on each, but for the first round, the same on all. */
    if (torn->all) {
        sim_image_begin(&torn->before, &script, one->number + 2, &torn->config);
        forget_answer(&script, torn);
        for (unsigned i = 0; i < NODES; i++) {
            uint64_t own = (place + (torn->subsets ? node * (i + 1) * 37 : 0)) % cuts;
            tear(torn, &script, i, own, own);
        }
        snprintf(one->what, sizeof one->what, "on all nodes, %llu of %llu %s of the last batch",
                 (unsigned long long)place, (unsigned long long)cuts, torn->subsets ? "subsets of sectors" : "bytes");
    } else {
        sim_image_begin(&torn->after, &script, one->number + 2, &torn->config);
        tear(torn, &script, node, place, place);
        snprintf(one->what, sizeof one->what, "on node-%u, %s, %llu of %llu bytes of the last batch", node + 1,
                 node == torn->leader ? "the leader" : "a follower", (unsigned long long)place,
                 (unsigned long long)cuts);
    }
    script.world.trace = one->trace;
    sim_sweep_recovers(&script, one);
    sim_sweep_done(&script, one);
}

static void end(void *state)
{
    struct torn *torn = state;
    sim_image_free(&torn->before);
    sim_image_free(&torn->after);
    mem_free(torn);
}

const struct sim_sweep sim_sweep_torn_one = {.name = "torn-one",
                                             .what = "every byte of the last batch, torn on one node",
                                             .begin = begin_one,
                                             .run = run,
                                             .end = end,
                                             .stride = 7};
const struct sim_sweep sim_sweep_torn_all = {.name = "torn-all",
                                             .what = "every byte of the last batch, torn on all nodes",
                                             .begin = begin_all,
                                             .run = run,
                                             .end = end,
                                             .stride = 3};
const struct sim_sweep sim_sweep_torn_sectors = {.name = "torn-sectors",
                                                 .what = "every subset of the last batch's sectors",
                                                 .begin = begin_sectors,
                                                 .run = run,
                                                 .end = end,
                                                 .stride = 1};
const struct sim_sweep sim_sweep_torn_segment = {.name = "torn-segment",
                                                 .what =
                                                     "every byte of a batch that begins a segment, torn on all nodes",
                                                 .begin = begin_segment,
                                                 .run = run,
                                                 .end = end,
                                                 .stride = 7};
