#include "sim/sim_keeper.h"

#include "base/check.h"
#include "sim/sim_damage.h"
#include "storage/log_format.h"
#include "storage/log_metadata.h"
#include "storage/raft_state.h"
#include "storage/snapshot.h"

#define LOOK_EVERY (200 * TIME_NS_PER_MS)
#define OPERATOR_NS_MAX (2 * TIME_NS_PER_S)
#define TRIES_MAX 20
/* Operations that change nothing, until one fails; most are at a start. */
#define LOOKS_AHEAD_MAX 60
#define FILES_MAX 256
#define LOG_DIRECTORY "/data/log/"
#define LOG_METADATA_FILE "/data/log/metadata"
#define STATE_FILE "/data/state"
#define SNAPSHOT_DIRECTORY "/data/snapshot/"
#define SNAPSHOT_METADATA_FILE "/data/snapshot/metadata"
#define SLOT_SECTORS (SLOT_BYTES / SIM_SECTOR_BYTES)

/* One sector. */
struct place {
    char path[SIM_KEEPER_PATH_BYTES];
    uint64_t sector;
};

enum file_kind { FILE_OTHER, FILE_LOG, FILE_SLOTS, FILE_SNAPSHOT };

const char *sim_damage_text(enum sim_damage kind)
{
#define TEXT(name, text) text,
    static const char *const texts[] = {SIM_DAMAGES(TEXT)};
#undef TEXT
    return texts[kind];
}

static const char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

static enum file_kind kind_of(const char *path)
{
    uint64_t number;
    if (strcmp(path, STATE_FILE) == 0 || strcmp(path, LOG_METADATA_FILE) == 0 ||
        strcmp(path, SNAPSHOT_METADATA_FILE) == 0) {
        return FILE_SLOTS;
    }
    if (strstr(path, ".damaged-") != NULL) return FILE_OTHER;
    if (strncmp(path, LOG_DIRECTORY, strlen(LOG_DIRECTORY)) == 0) {
        return log_segment_name_parse(name_of(path), &number) ? FILE_LOG : FILE_OTHER;
    }
    return strncmp(path, SNAPSHOT_DIRECTORY, strlen(SNAPSHOT_DIRECTORY)) == 0 ? FILE_SNAPSHOT : FILE_OTHER;
}

static struct sim_disk *disk_of(struct sim_keeper *keeper, unsigned node)
{
    return &keeper->cluster->nodes[node].disk;
}

/* ---- what the device has ---- */

static bool device_state(const struct sim_disk *disk, struct raft_state *out)
{
    uint8_t file[SLOT_COUNT * SLOT_BYTES];
    uint64_t generation;
    char damage[SLOT_DAMAGE_BYTES];
    for (uint64_t sector = 0; sector < SLOT_COUNT * SLOT_SECTORS; sector++) {
        if (!sim_damage_read(disk, STATE_FILE, sector, file + sector * SIM_SECTOR_BYTES)) return false;
    }
    return raft_state_decode(bytes_of(file, sizeof file), out, &generation, damage) == ERR_OK;
}

/* The generation of a good slot; 0: it isn't good. */
static uint64_t slot_generation(const struct sim_disk *disk, const char *path, unsigned slot)
{
    static const uint32_t magics[] = {RAFT_STATE_MAGIC, LOG_METADATA_MAGIC, SNAPSHOT_METADATA_MAGIC};
    uint8_t bytes[SLOT_BYTES];
    for (uint64_t i = 0; i < SLOT_SECTORS; i++) {
        if (!sim_damage_read(disk, path, slot * SLOT_SECTORS + i, bytes + i * SIM_SECTOR_BYTES)) return 0;
    }
    for (size_t i = 0; i < ARRAY_COUNT(magics); i++) {
        struct slot_content content;
        char damage[SLOT_DAMAGE_BYTES];
        if (slot_choose(magics[i], UINT32_MAX, bytes_of(bytes, sizeof bytes), &content, damage) == ERR_OK) {
            return content.generation;
        }
    }
    return 0;
}

/* Whether a batch that begins after this place is durable. */
struct later_search {
    const struct sim_disk *disk;
    uint64_t log_id;
    uint64_t segment;
    uint64_t sector;
    bool found;
};

static void look_for_later(void *user, const char *path)
{
    struct later_search *search = user;
    uint64_t segment;
    if (search->found || !log_segment_name_parse(name_of(path), &segment) || segment < search->segment) return;
    uint64_t sectors = sim_damage_sectors(search->disk, path);
    uint64_t first = segment == search->segment ? search->sector + 1 : LOG_SEGMENT_HEADER_BYTES / LOG_BLOCK_BYTES;
    for (uint64_t sector = first; sector < sectors && !search->found; sector++) {
        uint8_t block[LOG_BLOCK_BYTES];
        struct log_block_header header;
        sim_damage_read(search->disk, path, sector, block);
        if (block[0] == 0 && log_block_is_zero(block)) continue;
        enum log_block_state state = log_block_read(search->log_id, segment, (uint32_t)sector, block, &header);
        search->found = state == LOG_BLOCK_GOOD && header.number == 0;
    }
}

/* Likewise, in a later segment. */
static bool has_later_segment_batch(const struct sim_disk *disk, const struct place *place)
{
    struct raft_state state;
    struct later_search search = {.disk = disk, .sector = UINT64_MAX - 1};
    if (!device_state(disk, &state) || !log_segment_name_parse(name_of(place->path), &search.segment)) return false;
    search.log_id = state.log_id;
    sim_disk_each_file(disk, LOG_DIRECTORY, look_for_later, &search);
    return search.found;
}

static bool has_later_batch(const struct sim_disk *disk, const struct place *place)
{
    struct raft_state state;
    struct later_search search = {.disk = disk, .sector = place->sector};
    if (!device_state(disk, &state) || !log_segment_name_parse(name_of(place->path), &search.segment)) return false;
    search.log_id = state.log_id;
    sim_disk_each_file(disk, LOG_DIRECTORY, look_for_later, &search);
    return search.found;
}

/* ---- the rules ---- */

static unsigned suspects(const struct sim_keeper *keeper)
{
    unsigned count = 0;
    for (unsigned i = 0; i < keeper->cluster->node_count; i++) count += keeper->nodes[i].suspect;
    return count;
}

static bool is_well(const struct sim_keeper *keeper, unsigned number)
{
    struct replica_status status;
    return !keeper->nodes[number].suspect && sim_cluster_status(keeper->cluster, number, &status) &&
           !status.raft.uncertain;
}

static bool has_joined(struct sim_keeper *keeper, unsigned number)
{
    struct sim_keeper_node *kept = &keeper->nodes[number];
    struct replica_status status;
    if (kept->joined || !sim_cluster_status(keeper->cluster, number, &status) || status.raft.uncertain) {
        return kept->joined;
    }
    uint64_t starts = keeper->cluster->nodes[number].starts;
    if (kept->joining_start != starts) {
        kept->joining_start = starts;
        kept->joining_index = status.raft.durable_index;
    }
    kept->joined = status.raft.durable_index > kept->joining_index;
    return kept->joined;
}

static bool all_have_joined(struct sim_keeper *keeper)
{
    bool all = true;
    for (unsigned i = 0; i < keeper->cluster->node_count; i++) all = has_joined(keeper, i) && all;
    return all;
}

/* Rule 1. */
static bool may_be_suspect(struct sim_keeper *keeper, unsigned node)
{
    unsigned limit = (keeper->cluster->node_count - 1) / 2;
    if (!all_have_joined(keeper)) return false;
    if (keeper->rule == SIM_KEEPER_ANYBODY && keeper->cluster->node_count > 1) return true;
    return keeper->nodes[node].suspect || suspects(keeper) < limit;
}

/* Up to which entry the snapshot covers the log that counts, on the device; 0: none does. */
static raft_index covered_index(const struct sim_disk *disk)
{
    uint8_t file[SLOT_COUNT * SLOT_BYTES];
    struct snapshot_metadata metadata;
    uint64_t generation;
    char damage[SLOT_DAMAGE_BYTES], path[SIM_KEEPER_PATH_BYTES], name[SNAPSHOT_NAME_BYTES];
    for (uint64_t sector = 0; sector < SLOT_COUNT * SLOT_SECTORS; sector++) {
        if (!sim_damage_read(disk, SNAPSHOT_METADATA_FILE, sector, file + sector * SIM_SECTOR_BYTES)) return 0;
    }
    if (memcmp(file, file + SLOT_BYTES, SLOT_BYTES) != 0) return 0; /* a save is under way */
    struct bytes bytes = bytes_of(file, sizeof file);
    if (snapshot_metadata_decode(bytes, &metadata, &generation, damage) != ERR_OK) return 0;
    snapshot_name(metadata.epoch, name);
    snprintf(path, sizeof path, "%s%s", SNAPSHOT_DIRECTORY, name);
    return sim_disk_file_is_durable(disk, path) && sim_damage_sectors(disk, path) > 0 ? metadata.index : 0;
}

struct successor_search {
    const struct sim_disk *disk;
    uint64_t segment, found;
    raft_index first_index;
};

static void look_for_successor(void *user, const char *path)
{
    struct successor_search *search = user;
    struct log_segment_header header;
    uint8_t block[LOG_BLOCK_BYTES];
    uint64_t segment;
    if (search->found != 0 || !log_segment_name_parse(name_of(path), &segment) || segment <= search->segment) return;
    search->found = segment;
    if (!sim_damage_read(search->disk, path, 0, block)) return;
    if (log_segment_header_decode(block, &header) == ERR_OK && !header.owed) search->first_index = header.first_index;
}

/* Whether nothing depends on this sector but peers that lag. */
static bool is_harmless(const struct sim_keeper *keeper, unsigned node, const struct place *place)
{
    const struct sim_disk *disk = &keeper->cluster->nodes[node].disk;
    struct successor_search search = {.disk = disk};
    if (keeper->nodes[node].suspect || kind_of(place->path) != FILE_LOG) return false;
    if (!log_segment_name_parse(name_of(place->path), &search.segment)) return false;
    sim_disk_each_file(disk, LOG_DIRECTORY, look_for_successor, &search);
    return search.first_index != 0 && search.first_index <= covered_index(disk) + 1 &&
           has_later_segment_batch(disk, place);
}

/* A member that has been part of the cluster. */
static bool is_settled(struct sim_keeper *keeper, unsigned node)
{
    struct raft_state state;
    if (keeper->nodes[node].suspect) return true; /* it was, and its state may be gone since */
    return keeper->cluster->checker.commit > 0 && device_state(disk_of(keeper, node), &state) &&
           state.cluster_id != 0 && state.term > 0;
}

/* Rule 2, for a log's sector that would read so. */
static bool leaves_evidence(const struct sim_disk *disk, const struct place *place, const uint8_t *content)
{
    if (kind_of(place->path) != FILE_LOG) return true;
    if (!log_block_is_zero(content) && !log_block_is_cut(content)) return true;
    return has_later_batch(disk, place);
}

/* Rule 3: whether this slot may go bad, or fall back. */
static bool other_slot_does(struct sim_disk *disk, const struct place *place)
{
    if (kind_of(place->path) != FILE_SLOTS) return true;
    unsigned slot = (unsigned)(place->sector / SLOT_SECTORS);
    for (uint64_t i = 0; i < SLOT_SECTORS; i++) {
        if (sim_damage_is_unreadable(disk, place->path, (1 - slot) * SLOT_SECTORS + i)) return false;
    }
    uint64_t other = slot_generation(disk, place->path, 1 - slot);
    return other != 0 && other >= slot_generation(disk, place->path, slot);
}

static bool may_read_so(struct sim_disk *disk, const struct place *place, const uint8_t *content)
{
    return leaves_evidence(disk, place, content) && other_slot_does(disk, place);
}

static void now_suspect(struct sim_keeper *keeper, unsigned number)
{
    struct sim_cluster *cluster = keeper->cluster;
    keeper->nodes[number].suspect = true;
    keeper->nodes[number].starts = cluster->nodes[number].starts;
    cluster->nodes[number].damaged = true;
    sim_checker_damaged(&cluster->checker, number, 1, true);
    if (!sim_event_scheduled(&keeper->look)) {
        sim_world_schedule(cluster->world, &keeper->look, cluster->world->now + LOOK_EVERY);
    }
}

/* ---- where ---- */

struct file_list {
    char paths[FILES_MAX][SIM_KEEPER_PATH_BYTES];
    unsigned count;
    enum file_kind kind;
};

static void list_file(void *user, const char *path)
{
    struct file_list *list = user;
    if (kind_of(path) != list->kind || list->count == FILES_MAX || strlen(path) >= SIM_KEEPER_PATH_BYTES) return;
    strcpy(list->paths[list->count++], path);
}

/* Sectors up to the last that holds anything. */
static uint64_t used_sectors(const struct sim_disk *disk, const char *path)
{
    uint8_t content[SIM_SECTOR_BYTES];
    uint64_t count = sim_damage_sectors(disk, path);
    while (count > 0 && sim_damage_read(disk, path, count - 1, content) && log_block_is_zero(content)) count--;
    return count;
}

static bool any_place_in(struct sim_keeper *keeper, unsigned node, enum file_kind kind, struct place *out)
{
    struct random *random = &keeper->random;
    const struct sim_disk *disk = disk_of(keeper, node);
    struct file_list list = {.kind = kind};
    sim_disk_each_file(disk, "/data/", list_file, &list);
    if (list.count == 0) return false;
    /* The newest of them half of the time: names sort by number. */
    unsigned choice = random_chance(random, 500) ? list.count - 1 : (unsigned)random_below(random, list.count);
    strcpy(out->path, list.paths[choice]);
    uint64_t used = used_sectors(disk, out->path), all = sim_damage_sectors(disk, out->path);
    if (all == 0) return false;
    if (used == 0 || random_chance(random, 50)) {
        out->sector = random_below(random, all);
    } else if (random_chance(random, 500)) {
        out->sector = used - 1 - random_below(random, used < 24 ? used : 24);
    } else {
        out->sector = random_below(random, used);
    }
    if (kind == FILE_SLOTS) out->sector = out->sector / SLOT_SECTORS * SLOT_SECTORS; /* where it matters */
    return true;
}

static bool any_place(struct sim_keeper *keeper, unsigned node, struct place *out)
{
    static const enum file_kind kinds[] = {FILE_LOG, FILE_LOG, FILE_LOG, FILE_SLOTS, FILE_SNAPSHOT};
    return any_place_in(keeper, node, kinds[random_below(&keeper->random, ARRAY_COUNT(kinds))], out);
}

/* ---- at rest ---- */

static void flip(struct random *random, uint8_t *content)
{
    unsigned bits = random_chance(random, 700) ? 1 : (unsigned)random_between(random, 2, 64);
    for (unsigned i = 0; i < bits; i++) {
        content[random_below(random, SIM_SECTOR_BYTES)] ^= (uint8_t)(1u << random_below(random, 8));
    }
}

/* The place is about to be damaged. False: that isn't allowed. */
static bool account(struct sim_keeper *keeper, unsigned node, const struct place *place)
{
    if (is_harmless(keeper, node, place)) {
        keeper->harmless++;
        return true;
    }
    if (!may_be_suspect(keeper, node)) return false;
    now_suspect(keeper, node);
    if (strcmp(place->path, STATE_FILE) == 0) keeper->nodes[node].votes_lost = true;
    return true;
}

static void put(struct sim_keeper *keeper, unsigned node, const struct place *place, const uint8_t *content)
{
    struct sim_cluster *cluster = keeper->cluster;
    if (!account(keeper, node, place)) return;
    sim_damage_write(disk_of(keeper, node), place->path, place->sector, content, random_chance(&keeper->random, 500));
    sim_world_note(cluster->world, node, "disk: damage at %s, offset %llu", place->path,
                   (unsigned long long)place->sector * SIM_SECTOR_BYTES);
}

/* One place; a run of sectors may follow it. */
static bool damage_at_rest(struct sim_keeper *keeper, unsigned node, enum sim_damage kind)
{
    struct random *random = &keeper->random;
    struct sim_disk *disk = disk_of(keeper, node);
    struct place place, source;
    uint8_t content[SIM_SECTOR_BYTES];
    if (!any_place(keeper, node, &place)) return false;
    if (kind == SIM_DAMAGE_MISPLACED && !any_place(keeper, node, &source)) return false;
    unsigned run = random_chance(random, 700) ? 1 : (unsigned)random_between(random, 2, 16);
    bool done = false;
    for (unsigned i = 0; i < run && sim_damage_read(disk, place.path, place.sector, content); i++, place.sector++) {
        if (kind == SIM_DAMAGE_FLIP) {
            flip(random, content);
        } else if (kind == SIM_DAMAGE_ZERO) {
            memset(content, 0, sizeof content);
        } else if (kind == SIM_DAMAGE_MISPLACED) {
            if (!sim_damage_read(disk, source.path, source.sector++, content)) break;
        } else {
            memset(content, 0xff, sizeof content); /* unreadable: it doesn't look unwritten */
        }
        if (!may_read_so(disk, &place, content)) continue;
        if (!is_harmless(keeper, node, &place) && !may_be_suspect(keeper, node)) continue;
        if (kind == SIM_DAMAGE_UNREADABLE) {
            account(keeper, node, &place);
            sim_damage_make_unreadable(disk, place.path, place.sector);
            sim_world_note(keeper->cluster->world, node, "disk: can't read %s, offset %llu", place.path,
                           (unsigned long long)place.sector * SIM_SECTOR_BYTES);
        } else {
            put(keeper, node, &place, content);
        }
        done = true;
    }
    return done;
}

static bool damage_state(struct sim_keeper *keeper, unsigned node)
{
    uint8_t content[SIM_SECTOR_BYTES];
    struct place place = {.path = STATE_FILE};
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++) {
        place.sector = slot * SLOT_SECTORS;
        if (!sim_damage_read(disk_of(keeper, node), place.path, place.sector, content)) return false;
        /* Within what the slot's check covers, and never back to what it was. */
        content[random_below(&keeper->random, SLOT_HEADER_BYTES)] ^= 0xa5;
        put(keeper, node, &place, content);
    }
    return true;
}

bool sim_keeper_damage(struct sim_keeper *keeper, unsigned node, enum sim_damage kind)
{
    bool done = false, at_rest = kind < SIM_DAMAGE_LOST;
    if (is_settled(keeper, node) && (at_rest || may_be_suspect(keeper, node))) {
        if (kind == SIM_DAMAGE_LOST) {
            done = keeper->nodes[node].lose_armed = true;
        } else if (kind == SIM_DAMAGE_MISREAD) {
            done = keeper->nodes[node].misread_armed = true;
        } else if (kind == SIM_DAMAGE_LOOK) {
            struct sim_disk *disk = disk_of(keeper, node);
            disk->fail_look_at = disk->counters.looks + random_between(&keeper->random, 1, LOOKS_AHEAD_MAX);
            keeper->cluster->nodes[node].may_fail = true;
            now_suspect(keeper, node);
            keeper->nodes[node].votes_lost = done = true;
        } else if (kind == SIM_DAMAGE_STATE) {
            done = damage_state(keeper, node);
        } else {
            for (unsigned i = 0; i < TRIES_MAX && !done; i++) done = damage_at_rest(keeper, node, kind);
        }
    }
    if (done) {
        keeper->counts[kind]++;
    } else {
        keeper->refused++;
    }
    return done;
}

/* ---- with a write, or a read ---- */

/* Some sectors of what is about to be synced won't be written; they may land elsewhere. */
static void syncing(void *user, unsigned node, const char *path)
{
    struct sim_keeper *keeper = user;
    struct random *random = &keeper->random;
    struct sim_disk *disk = disk_of(keeper, node);
    struct place place, elsewhere;
    enum file_kind kind = kind_of(path);
    if (!keeper->nodes[node].lose_armed || (kind != FILE_SLOTS && kind != FILE_SNAPSHOT)) return;
    if (!may_be_suspect(keeper, node) || strlen(path) >= sizeof place.path) return;
    strcpy(place.path, path);
    uint64_t sectors = sim_damage_sectors(disk, path);
    uint64_t first = random_below(random, sectors == 0 ? 1 : sectors), chosen = UINT64_MAX;
    for (uint64_t i = 0; i < sectors && chosen == UINT64_MAX; i++) {
        uint64_t sector = (first + i) % sectors;
        if (sim_damage_is_unsynced(disk, path, sector)) chosen = sector;
    }
    if (chosen == UINT64_MAX) return;
    place.sector = chosen;
    if (kind == FILE_SLOTS) {
        /* The second slot's write mustn't be lost: if a crash cut the next save's first one short, only an old save would be left. */
        if (chosen >= SLOT_SECTORS || slot_generation(disk, path, 1) == 0) return;
    }
    now_suspect(keeper, node);
    keeper->nodes[node].lose_armed = false;
    if (strcmp(path, STATE_FILE) == 0) keeper->nodes[node].votes_lost = true;
    uint8_t content[SIM_SECTOR_BYTES];
    sim_damage_read_cached(disk, path, chosen, content);
    sim_damage_lose(disk, path, chosen);
    sim_world_note(keeper->cluster->world, node, "disk: the write of %s, offset %llu, gets lost", path,
                   (unsigned long long)chosen * SIM_SECTOR_BYTES);
    if (random_chance(random, 500) && any_place(keeper, node, &elsewhere) && may_read_so(disk, &elsewhere, content)) {
        put(keeper, node, &elsewhere, content);
    }
}

/* What was read comes from elsewhere. */
static void reading(void *user, unsigned node, const char *path, uint64_t offset, uint8_t *data, size_t size)
{
    struct sim_keeper *keeper = user;
    struct sim_disk *disk = disk_of(keeper, node);
    struct place place, source;
    uint8_t content[SIM_SECTOR_BYTES];
    if (!keeper->nodes[node].misread_armed || size < SIM_SECTOR_BYTES || kind_of(path) == FILE_OTHER) return;
    if (strlen(path) >= sizeof place.path || !may_be_suspect(keeper, node)) return;
    if (!random_chance(&keeper->random, 300) || !any_place(keeper, node, &source)) return;
    strcpy(place.path, path);
    uint64_t within = random_below(&keeper->random, size / SIM_SECTOR_BYTES);
    place.sector = offset / SIM_SECTOR_BYTES + within;
    if (!sim_damage_read(disk, source.path, source.sector, content) || !may_read_so(disk, &place, content)) return;
    now_suspect(keeper, node);
    keeper->nodes[node].misread_armed = false;
    if (strcmp(path, STATE_FILE) == 0) keeper->nodes[node].votes_lost = true;
    memcpy(data + within * SIM_SECTOR_BYTES, content, SIM_SECTOR_BYTES);
    sim_world_note(keeper->cluster->world, node, "disk: reads %s, offset %llu, in the place of %s, offset %llu",
                   source.path, (unsigned long long)source.sector * SIM_SECTOR_BYTES, path,
                   (unsigned long long)place.sector * SIM_SECTOR_BYTES);
}

static const struct sim_disk_hooks hooks = {.reading = reading, .syncing = syncing};

/* ---- looking after it ---- */

static void wipe(struct sim_keeper *keeper, unsigned number, time_ns down_for)
{
    struct sim_cluster *cluster = keeper->cluster;
    struct sim_node *node = &cluster->nodes[number];
    sim_cluster_crash(cluster, number, true, down_for);
    sim_world_note(cluster->world, number, "gets an empty disk");
    sim_disk_wipe(&node->disk);
    now_suspect(keeper, number);
    keeper->nodes[number].votes_lost = true;
    keeper->wipes++;
    if (!node->stay_down) {
        sim_world_schedule(cluster->world, &node->start, cluster->world->now + down_for);
    }
}

static bool all_others_are_well(const struct sim_keeper *keeper, unsigned number)
{
    for (unsigned i = 0; i < keeper->cluster->node_count; i++) {
        if (i != number && !is_well(keeper, i)) return false;
    }
    return true;
}

bool sim_keeper_wipe(struct sim_keeper *keeper, unsigned number, time_ns down_for)
{
    if (!is_settled(keeper, number) || !may_be_suspect(keeper, number) || !all_others_are_well(keeper, number)) {
        keeper->refused++;
        return false;
    }
    wipe(keeper, number, down_for);
    return true;
}

static void look_at(struct sim_keeper *keeper, unsigned number)
{
    struct sim_keeper_node *kept = &keeper->nodes[number];
    struct sim_node *node = &keeper->cluster->nodes[number];
    struct replica_status status;
    if (node->beyond_repair && node->state == SIM_NODE_DOWN && !keeper->ruined && keeper->cluster->node_count >= 3 &&
        all_others_are_well(keeper, number)) {
        node->beyond_repair = false;
        wipe(keeper, number, (time_ns)random_below(&keeper->random, (uint64_t)OPERATOR_NS_MAX));
        return;
    }
    if (!kept->suspect || node->starts == kept->starts || !sim_cluster_status(keeper->cluster, number, &status)) return;
    if (status.raft.uncertain || kept->certain_start != node->starts) {
        kept->certain_start = status.raft.uncertain ? 0 : node->starts;
        kept->certain_index = status.raft.durable_index;
        return;
    }
    if (status.raft.durable_index < keeper->cluster->checker.commit) return;
    /* What it owed is written off by the next batch only: until then it would be uncertain again after a crash. */
    if (status.raft.durable_index == kept->certain_index) return;
    kept->suspect = false;
    kept->votes_lost = false;
    node->damaged = false;
    keeper->repaired++;
    sim_world_note(keeper->cluster->world, number, "is well again");
}

static void look_event(struct sim_event *event)
{
    struct sim_keeper *keeper = (struct sim_keeper *)((char *)event - offsetof(struct sim_keeper, look));
    bool joined = all_have_joined(keeper);
    for (unsigned i = 0; i < keeper->cluster->node_count; i++) look_at(keeper, i);
    if (suspects(keeper) == 0 && joined) return;
    sim_world_schedule(keeper->cluster->world, &keeper->look, keeper->cluster->world->now + LOOK_EVERY);
}

void sim_keeper_init(struct sim_keeper *keeper, struct sim_cluster *cluster)
{
    memset(keeper, 0, sizeof *keeper);
    keeper->cluster = cluster;
    keeper->look = (struct sim_event){.run = look_event, .kind = SIM_EVENT_NEMESIS, .process = SIM_NO_PROCESS};
    sim_world_random(cluster->world, "keeper", 0, &keeper->random);
    for (unsigned i = 0; i < cluster->node_count; i++) {
        cluster->nodes[i].disk.hooks = &hooks;
        cluster->nodes[i].disk.hooks_user = keeper;
    }
    sim_world_schedule(cluster->world, &keeper->look, cluster->world->now + LOOK_EVERY);
}

unsigned sim_keeper_spare(const struct sim_keeper *keeper)
{
    unsigned limit = (keeper->cluster->node_count - 1) / 2, used = 0;
    /* The founding needs all members. */
    if (keeper->cluster->checker.commit == 0) return 0;
    for (unsigned i = 0; i < keeper->cluster->node_count; i++) {
        struct replica_status status;
        bool uncertain = sim_cluster_status(keeper->cluster, i, &status) && status.raft.uncertain;
        used += keeper->nodes[i].suspect;
        /* One whose votes are lost must hear of every other member; so must a founder that came late. */
        if (keeper->nodes[i].votes_lost || (uncertain && !keeper->nodes[i].suspect)) return 0;
    }
    return used < limit ? limit - used : 0;
}

/* ---- every copy ---- */

struct ruin {
    struct sim_keeper *keeper;
    unsigned node;
    unsigned per_mille;
    bool slots_too;
};

static void ruin_file(void *user, const char *path)
{
    struct ruin *ruin = user;
    struct random *random = &ruin->keeper->random;
    struct sim_disk *disk = disk_of(ruin->keeper, ruin->node);
    enum file_kind kind = kind_of(path);
    if (kind == FILE_OTHER || (kind == FILE_SLOTS && !ruin->slots_too)) return;
    uint64_t used = used_sectors(disk, path);
    for (uint64_t sector = 0; sector < used; sector++) {
        uint8_t content[SIM_SECTOR_BYTES];
        if (!random_chance(random, ruin->per_mille) || !sim_damage_read(disk, path, sector, content)) continue;
        content[random_below(random, SIM_SECTOR_BYTES)] ^= (uint8_t)(1u << random_below(random, 8));
        sim_damage_write(disk, path, sector, content, random_chance(random, 500));
    }
}

void sim_keeper_ruin(struct sim_keeper *keeper)
{
    static const unsigned chances[] = {3, 20, 200, 1000};
    struct random *random = &keeper->random;
    struct ruin ruin = {.keeper = keeper,
                        .per_mille = chances[random_below(random, ARRAY_COUNT(chances))],
                        .slots_too = random_chance(random, 400)};
    keeper->ruined = true;
    for (unsigned i = 0; i < keeper->cluster->node_count; i++) {
        ruin.node = i;
        now_suspect(keeper, i);
        sim_disk_each_file(disk_of(keeper, i), "/data/", ruin_file, &ruin);
        sim_world_note(keeper->cluster->world, i, "disk: damage in %u of 1000 sectors", ruin.per_mille);
        sim_cluster_crash(keeper->cluster, i, true, (time_ns)random_below(random, (uint64_t)OPERATOR_NS_MAX));
    }
}

const char *sim_keeper_complaint(const struct sim_keeper *keeper, unsigned node)
{
    return keeper->cluster->nodes[node].complaint;
}

void sim_keeper_end(struct sim_keeper *keeper)
{
    if (suspects(keeper) > (keeper->cluster->node_count - 1) / 2) keeper->ruined = true;
    for (unsigned i = 0; i < keeper->cluster->node_count; i++) {
        keeper->nodes[i].lose_armed = false;
        keeper->nodes[i].misread_armed = false;
    }
}
