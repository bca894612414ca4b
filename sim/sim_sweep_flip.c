/*
 * sim_sweep_flip.c - a bit flips in a file of a node that is down: each byte of each kind of file; the last acknowledged batch while
 * the leader dies; a large log at random; the same byte on all nodes.
 *
 * What a flip may cost is known beforehand: in the log, the entries from the batch on that it hits; in a snapshot, everything,
 * since the log before it is gone; in a file of two slots, nothing. The checker is told just that.
 */
#include "base/check.h"
#include "base/mem.h"
#include "sim/sim_sweep.h"
#include "storage/log_format.h"
#include "storage/slots.h"

enum { NODES = 3, LARGE_WRITES = 220, LARGE_FLIPS = 100000 };
/* For a cluster that must not serve. */
#define HALT_WATCHED (4 * TIME_NS_PER_S)

/* A stretch of a file in which each byte is a case. */
struct stretch {
    const struct sim_image_file *file;
    uint64_t offset, size;
};

struct flips {
    struct drive_config config;
    struct sim_image image, before; /* before: the last write */
    unsigned leader, target, other; /* nodes */
    struct stretch stretches[64];
    unsigned stretch_count;
    uint64_t bytes;       /* of all stretches */
    uint64_t large_bytes; /* of all the target's files */
    enum { FLIP_ONE, FLIP_LEADER_DIES, FLIP_EVERYWHERE, FLIP_LARGE, FLIP_BOTH } way;
    const char *prefix; /* of the files, for FLIP_ONE */
};

static const char log_files[] = "/data/log/log-";
static const char log_metadata_file[] = "/data/log/metadata";
static const char state_file[] = "/data/state";
static const char snapshot_files[] = "/data/snapshot/";

static bool begins(const char *path, const char *prefix)
{
    return strncmp(path, prefix, strlen(prefix)) == 0;
}

/* ---- what a flip may cost ---- */

static bool read_block(const struct sim_image_file *file, const struct log_segment_header *header, uint64_t sector,
                       struct log_block_header *out)
{
    if ((sector + 1) * LOG_BLOCK_BYTES > file->size || sector * LOG_BLOCK_BYTES < LOG_SEGMENT_HEADER_BYTES)
        return false;
    return log_block_read(header->log_id, header->number, (uint32_t)sector, file->data + sector * LOG_BLOCK_BYTES,
                          out) == LOG_BLOCK_GOOD;
}

/* The first entry that a node may lose by damage at this byte of a segment; 0: none. */
static raft_index first_lost(const struct sim_image_file *file, uint64_t offset)
{
    struct log_segment_header header;
    struct log_block_header block;
    if (log_segment_header_decode(file->data, &header) != ERR_OK) return 0; /* a spare */
    if (offset < LOG_SEGMENT_HEADER_BYTES) return header.first_index;
    uint64_t sector = offset / LOG_BLOCK_BYTES;
    if (read_block(file, &header, sector, &block)) {
        const uint8_t *first = file->data + (sector - block.number) * LOG_BLOCK_BYTES + LOG_BLOCK_CONTENT_OFFSET;
        return get_u64(first);
    }
    /* Between batches, or after the last one: nothing is there, but who finds something can't know what it was. */
    while (sector * LOG_BLOCK_BYTES >= LOG_SEGMENT_HEADER_BYTES) {
        if (read_block(file, &header, sector, &block)) return block.last_index + 1;
        sector--;
    }
    return header.first_index;
}

static void tell_checker(struct sim_script *script, unsigned node, const struct sim_image_file *file, uint64_t offset)
{
    struct sim_checker *checker = &script->cluster.checker;
    if (begins(file->path, log_files)) {
        raft_index first = first_lost(file, offset);
        if (first != 0) sim_checker_damaged(checker, node, first, false);
    } else if (begins(file->path, snapshot_files) && strstr(file->path, "metadata") == NULL) {
        sim_checker_damaged(checker, node, 1, false);
    }
}

static void flip(struct sim_script *script, unsigned node, const struct sim_image_file *file, uint64_t offset,
                 unsigned bit)
{
    uint8_t byte = file->data[offset] ^ (uint8_t)(1u << bit);
    sim_script_overwrite(script, node, file->path, offset, &byte, 1);
    tell_checker(script, node, file, offset);
}

/* ---- the life before ---- */

static bool live_small(struct flips *flips, struct sim_script *script)
{
    for (uint32_t key = 0; key < 8; key++) {
        if (!sim_script_put(script, key, 100)) return sim_script_wrong(script, "a put failed");
    }
    if (!sim_script_delete(script, 2)) return sim_script_wrong(script, "a delete failed");
    if (!sim_script_settle(script, true, 10 * TIME_NS_PER_S)) return sim_script_wrong(script, "no agreement");
    for (unsigned i = 0; i < NODES; i++) {
        if (!sim_script_snapshot(script, i)) return sim_script_wrong(script, "no snapshot");
    }
    sim_script_ask(script, 0, false);
    for (uint32_t key = 4; key < 10; key++) {
        if (!sim_script_put(script, key, key == 7 ? 1200 : 100)) return sim_script_wrong(script, "a put failed");
    }
    if (!sim_script_settle(script, true, 10 * TIME_NS_PER_S)) return sim_script_wrong(script, "no agreement");
    sim_script_run(script, TIME_NS_PER_S);
    sim_image_take(&flips->before, script);
    /* The last acknowledged one. */
    return sim_script_put(script, 5, 700) || sim_script_wrong(script, "a put failed");
}

static bool live_large(struct sim_script *script)
{
    for (uint32_t i = 0; i < LARGE_WRITES; i++) {
        if (!sim_script_put(script, i % 60, 8000)) return sim_script_wrong(script, "a put failed");
        if (i != LARGE_WRITES / 3) continue;
        for (unsigned node = 0; node < NODES; node++) {
            if (!sim_script_snapshot(script, node)) return sim_script_wrong(script, "no snapshot");
        }
        sim_script_ask(script, 0, false);
    }
    return true;
}

static bool live(struct flips *flips, struct sim_script *script)
{
    sim_script_begin(script, 1, &flips->config, NODES);
    sim_script_start_all(script);
    if (!sim_script_settle(script, true, 10 * TIME_NS_PER_S)) return sim_script_wrong(script, "no cluster came about");
    if (!(flips->way == FLIP_LARGE ? live_large(script) : live_small(flips, script))) return false;
    if (!sim_script_settle(script, true, 10 * TIME_NS_PER_S)) return sim_script_wrong(script, "no agreement");
    sim_script_run(script, TIME_NS_PER_S);
    sim_image_take(&flips->image, script);
    flips->leader = sim_cluster_leader(&script->cluster);
    flips->target = (flips->leader + 1) % NODES;
    flips->other = (flips->leader + 2) % NODES;
    return flips->leader < NODES || sim_script_wrong(script, "no leader");
}

static void add_stretch(struct flips *flips, const struct sim_image_file *file, uint64_t offset, uint64_t end)
{
    CHECK(flips->stretch_count < ARRAY_COUNT(flips->stretches));
    flips->stretches[flips->stretch_count++] = (struct stretch){file, offset, end - offset};
    flips->bytes += end - offset;
}

/* What is in use of each of the node's files, to the end of its sector and one sector more. */
static void find_stretches(struct flips *flips, unsigned node, const char *prefix)
{
    for (uint32_t i = 0; i < flips->image.disks[node].count; i++) {
        const struct sim_image_file *file = &flips->image.disks[node].files[i];
        if (!begins(file->path, prefix)) continue;
        if (begins(prefix, snapshot_files) &&
            (strstr(file->path, "metadata") != NULL) != (strstr(prefix, "metadata") != NULL))
            continue;
        size_t used = file->size;
        while (used > 0 && file->data[used - 1] == 0) used--;
        used = (used / SIM_SECTOR_BYTES + 2) * SIM_SECTOR_BYTES;
        add_stretch(flips, file, 0, used < file->size ? used : file->size);
    }
}

/* The first slot of each file that has two. */
static void find_first_slots(struct flips *flips, unsigned node)
{
    for (uint32_t i = 0; i < flips->image.disks[node].count; i++) {
        const struct sim_image_file *file = &flips->image.disks[node].files[i];
        bool slots = strstr(file->path, "metadata") != NULL || strcmp(file->path, state_file) == 0;
        if (slots && file->size == (uint64_t)SLOT_COUNT * SLOT_BYTES) add_stretch(flips, file, 0, SLOT_BYTES);
    }
}

/* The last acknowledged batch in the node's log. */
static void find_last_batch(struct flips *flips, unsigned node)
{
    for (uint32_t i = 0; i < flips->image.disks[node].count; i++) {
        const struct sim_image_file *file = &flips->image.disks[node].files[i];
        if (!begins(file->path, log_files)) continue;
        for (uint32_t j = 0; j < flips->before.disks[node].count; j++) {
            const struct sim_image_file *before = &flips->before.disks[node].files[j];
            if (strcmp(before->path, file->path) != 0 || before->size != file->size) continue;
            uint64_t first = 0, end = 0;
            for (uint64_t at = 0; at < file->size; at++) {
                if (before->data[at] == file->data[at]) continue;
                if (end == 0) first = at;
                end = at + 1;
            }
            if (end > 0) add_stretch(flips, file, first / SIM_SECTOR_BYTES * SIM_SECTOR_BYTES, end);
        }
    }
}

static uint64_t begin(struct flips init, void **out, char *text, size_t text_bytes)
{
    struct flips *flips = mem_alloc(sizeof *flips);
    *flips = init;
    *out = flips;
    sim_script_config(&flips->config);
    struct sim_script script;
    bool good = live(flips, &script);
    snprintf(text, text_bytes, "%s", script.text);
    sim_script_end(&script);
    if (!good) return 0;
    switch (flips->way) {
    case FLIP_ONE:
        find_stretches(flips, flips->target, flips->prefix);
        break;
    case FLIP_LEADER_DIES:
        find_last_batch(flips, flips->target);
        break;
    case FLIP_EVERYWHERE:
        find_stretches(flips, 0, "/data/");
        break;
    case FLIP_BOTH:
        find_first_slots(flips, flips->target);
        break;
    case FLIP_LARGE:
        return LARGE_FLIPS;
    }
    if (flips->bytes == 0) snprintf(text, text_bytes, "there is nothing to flip");
    return flips->way == FLIP_LEADER_DIES ? flips->bytes * 2 : flips->bytes;
}

static void end(void *state)
{
    struct flips *flips = state;
    sim_image_free(&flips->image);
    sim_image_free(&flips->before);
    mem_free(flips);
}

/* ---- cases ---- */

static const struct sim_image_file *place_of(const struct flips *flips, uint64_t number, uint64_t *offset)
{
    for (unsigned i = 0; i < flips->stretch_count; i++) {
        const struct stretch *stretch = &flips->stretches[i];
        if (number < stretch->size) {
            *offset = stretch->offset + number;
            return stretch->file;
        }
        number -= stretch->size;
    }
    CHECK(false);
    return NULL;
}

static void name_case(struct sim_sweep_case *one, unsigned node, const char *path, uint64_t offset, unsigned bit)
{
    snprintf(one->what, sizeof one->what, "on node-%u, bit %u of byte %llu of %s", node + 1, bit,
             (unsigned long long)offset, path);
}

static void run_one(void *state, struct sim_sweep_case *one)
{
    const struct flips *flips = state;
    uint64_t offset;
    const struct sim_image_file *file = place_of(flips, one->number, &offset);
    unsigned bit = (unsigned)(one->number % 8);
    name_case(one, flips->target, file->path, offset, bit);
    struct sim_script script;
    sim_image_begin(&flips->image, &script, one->number + 2, &flips->config);
    script.world.trace = one->trace;
    flip(&script, flips->target, file, offset, bit);
    sim_sweep_recovers(&script, one);
    sim_sweep_done(&script, one);
}

static void run_large(void *state, struct sim_sweep_case *one)
{
    const struct flips *flips = state;
    struct random random;
    random_seed(&random, one->number);
    unsigned node = (unsigned)random_below(&random, NODES);
    const struct sim_image_disk *disk = &flips->image.disks[node];
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < disk->count; i++) bytes += disk->files[i].size;
    uint64_t at = random_below(&random, bytes);
    const struct sim_image_file *file = disk->files;
    while (at >= file->size) at -= file++->size;
    unsigned bit = (unsigned)random_below(&random, 8);
    name_case(one, node, file->path, at, bit);
    struct sim_script script;
    sim_image_begin(&flips->image, &script, one->number + 2, &flips->config);
    script.world.trace = one->trace;
    flip(&script, node, file, at, bit);
    sim_sweep_recovers(&script, one);
    sim_sweep_done(&script, one);
}

/*
 * The last write was acknowledged by the leader and by the target, whose copy is damaged, and the leader is gone. In the even
 * cases the third node has it too; in the odd ones it doesn't, so nobody may say that there was no such write. The two may wait
 * for the leader (docs/RECOVERY.md, 'An uncertain member'), and must serve when it is back.
 */
static void run_leader_dies(void *state, struct sim_sweep_case *one)
{
    const struct flips *flips = state;
    uint64_t offset;
    const struct sim_image_file *file = place_of(flips, one->number / 2, &offset);
    unsigned bit = (unsigned)(one->number / 2 % 8);
    name_case(one, flips->target, file->path, offset, bit);
    struct sim_script script;
    sim_image_begin(&flips->image, &script, one->number + 2, &flips->config);
    script.world.trace = one->trace;
    struct sim_node *leader = &script.cluster.nodes[flips->leader];
    flip(&script, flips->target, file, offset, bit);
    if (one->number % 2 == 1) sim_image_load(&flips->before, &script, flips->other);
    leader->stay_down = true;
    sim_script_start_all(&script);
    one->halted = !sim_script_settle(&script, false, HALT_WATCHED);
    if (!one->halted) {
        sim_script_ask(&script, flips->other, false);
        sim_script_get(&script, 5); /* the history tells whether the answer was right */
        sim_script_put(&script, 6, 100);
    }
    leader->stay_down = false;
    sim_sweep_recovers(&script, one);
    sim_sweep_done(&script, one);
}

/* Both slots of a file: what it held is lost, whichever it is. */
static void run_both(void *state, struct sim_sweep_case *one)
{
    const struct flips *flips = state;
    uint64_t offset;
    const struct sim_image_file *file = place_of(flips, one->number, &offset);
    unsigned bit = (unsigned)(one->number % 8);
    name_case(one, flips->target, file->path, offset, bit);
    struct sim_script script;
    sim_image_begin(&flips->image, &script, one->number + 2, &flips->config);
    script.world.trace = one->trace;
    flip(&script, flips->target, file, offset, bit);
    flip(&script, flips->target, file, offset + SLOT_BYTES, bit);
    bool of_state = strcmp(file->path, state_file) == 0, of_snapshot = begins(file->path, snapshot_files);
    sim_checker_damaged(&script.cluster.checker, flips->target, of_snapshot ? 1 : 0, of_state);
    sim_sweep_recovers(&script, one);
    if (script.said[flips->target].size == 0) sim_script_wrong(&script, "the node didn't notice");
    sim_sweep_done(&script, one);
}

/* Where no copy is good, nothing may be served that isn't right, and each node says where the damage is. */
static void run_everywhere(void *state, struct sim_sweep_case *one)
{
    const struct flips *flips = state;
    uint64_t offset;
    const struct sim_image_file *file = place_of(flips, one->number, &offset);
    unsigned bit = (unsigned)(one->number % 8);
    name_case(one, 0, file->path, offset, bit);
    struct sim_script script;
    sim_image_begin(&flips->image, &script, one->number + 2, &flips->config);
    script.world.trace = one->trace;
    bool named = true;
    for (unsigned node = 0; node < NODES; node++) {
        const struct sim_image_file *same = sim_image_find(&flips->image, node, file->path);
        if (same == NULL || offset >= same->size) continue;
        flip(&script, node, same, offset, bit);
        script.cluster.nodes[node].may_fail = true;
    }
    sim_script_start_all(&script);
    one->halted = !sim_script_settle(&script, false, HALT_WATCHED);
    for (unsigned node = 0; node < NODES; node++) {
        buffer_append_byte(&script.said[node], 0);
        script.said[node].size--;
        const char *said = (const char *)script.said[node].data;
        named = named && (strstr(said, file->path) != NULL || strstr(script.end_text[node], file->path) != NULL) &&
                (strstr(said, "offset") != NULL || strstr(script.end_text[node], "offset") != NULL);
    }
    if (one->halted) {
        if (!named) sim_script_wrong(&script, "the cluster halted, and not every node said which file and offset");
        if (script.cluster.checker.violated) sim_script_wrong(&script, "%s", script.cluster.checker.text);
    } else {
        sim_sweep_recovers(&script, one);
    }
    sim_sweep_done(&script, one);
}

#define BEGIN(function, ...)                                                                                           \
    static uint64_t function(bool full, void **out, char *text, size_t text_bytes)                                     \
    {                                                                                                                  \
        (void)full;                                                                                                    \
        return begin((struct flips){__VA_ARGS__}, out, text, text_bytes);                                              \
    }

BEGIN(begin_log, .way = FLIP_ONE, .prefix = log_files)
BEGIN(begin_log_metadata, .way = FLIP_ONE, .prefix = log_metadata_file)
BEGIN(begin_state, .way = FLIP_ONE, .prefix = state_file)
BEGIN(begin_snapshot, .way = FLIP_ONE, .prefix = snapshot_files)
BEGIN(begin_snapshot_metadata, .way = FLIP_ONE, .prefix = "/data/snapshot/metadata")
BEGIN(begin_leader_dies, .way = FLIP_LEADER_DIES)
BEGIN(begin_everywhere, .way = FLIP_EVERYWHERE)
BEGIN(begin_both, .way = FLIP_BOTH)
BEGIN(begin_large, .way = FLIP_LARGE)

#define SWEEP(variable, label, text, first, life, step)                                                                \
    const struct sim_sweep variable = {                                                                                \
        .name = label, .what = text, .begin = first, .run = life, .end = end, .stride = step}

SWEEP(sim_sweep_flip_log, "flip-log", "every byte of a small log", begin_log, run_one, 17);
SWEEP(sim_sweep_flip_log_metadata, "flip-log-metadata", "every byte of the log's metadata", begin_log_metadata, run_one,
      5);
SWEEP(sim_sweep_flip_state, "flip-state", "every byte of the raft state", begin_state, run_one, 5);
SWEEP(sim_sweep_flip_snapshot, "flip-snapshot", "every byte of a small snapshot", begin_snapshot, run_one, 3);
SWEEP(sim_sweep_flip_snapshot_metadata, "flip-snapshot-metadata", "every byte of the snapshot's metadata",
      begin_snapshot_metadata, run_one, 5);
SWEEP(sim_sweep_flip_both, "flip-both-slots", "every byte of a file of two slots, in both of them", begin_both,
      run_both, 5);
SWEEP(sim_sweep_flip_leader_dies, "flip-leader-dies", "every byte of the last acknowledged batch, and the leader dies",
      begin_leader_dies, run_leader_dies, 3);
SWEEP(sim_sweep_flip_everywhere, "flip-everywhere", "every byte of a small log, raft state and snapshot, on all nodes",
      begin_everywhere, run_everywhere, 19);
SWEEP(sim_sweep_flip_large, "flip-large", "100,000 random bits of a large log and snapshot", begin_large, run_large,
      251);
