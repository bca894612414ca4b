#include "store/store_snapshot.h"

#include "base/check.h"
#include "base/mem.h"
#include "store/store_internal.h"

#define FLAG_SAME_KEY 1u
#define FLAG_TOMBSTONE 2u

#define TOMBSTONE_FIXED_BYTES (1u + 4u + 8u + 4u)
#define PUT_FIXED_BYTES (1u + 4u + 4u + 4u * 8u + 4u)

/* A slice looks at one key for each so many of its target bytes, and some more: keys may yield nothing. */
#define TARGET_BYTES_PER_KEY 64u
#define KEYS_MIN 64u

/* ---- writing ---- */

void store_snapshot_begin(struct store *store, struct store_snapshot_writer *writer)
{
    CHECK(!store->is_open);
    *writer = (struct store_snapshot_writer){
        .revision = store->revision,
        .compacted_revision = store->compacted_revision,
        /* Not at `revision`: the versions superseded between the two are part of the snapshot. */
        .pin = store_pin(store, store->compacted_revision),
    };
}

void store_snapshot_end(struct store *store, struct store_snapshot_writer *writer)
{
    store_unpin(store, writer->pin);
    buffer_free(&writer->next_key);
    writer->version = NULL;
    writer->done = true;
}

static void append_item(struct buffer *out, const struct store_record *record, bool same_key)
{
    bool is_tombstone = store_record_is_tombstone(record);
    size_t key_bytes = same_key ? 0 : record->key_bytes;
    buffer_reserve(out, PUT_FIXED_BYTES + key_bytes + record->value_bytes);
    uint8_t *at = out->data + out->size;
    *at++ = (uint8_t)((same_key ? FLAG_SAME_KEY : 0) | (is_tombstone ? FLAG_TOMBSTONE : 0));
    if (!same_key) {
        put_u32(at, record->key_bytes);
        at += 4;
    }
    if (!is_tombstone) {
        put_u32(at, record->value_bytes);
        put_u64(at + 4, (uint64_t)record->create_revision);
        at += 12;
    }
    put_u64(at, (uint64_t)record->mod_revision);
    at += 8;
    if (!is_tombstone) {
        put_u64(at, (uint64_t)record->version);
        put_u64(at + 8, record->lease);
        at += 16;
    }
    put_u32(at, record->sub_revision);
    at += 4;
    memcpy(at, record->data + record->key_bytes - key_bytes, key_bytes + record->value_bytes);
    at += key_bytes + record->value_bytes;
    out->size = (size_t)(at - out->data);
}

/* Whether the snapshot has this version, if it is the newest of those it may have: a deletion before the compacted
   revision left nothing that can be read. */
static bool is_kept(const struct store_snapshot_writer *writer, const struct store_record *record)
{
    return !store_record_is_tombstone(record) || record->mod_revision >= writer->compacted_revision;
}

/* The version to write after `record`, or NULL: the chain's older end may be compacted, but not yet freed. */
static const struct store_record *next_version(const struct store_snapshot_writer *writer,
                                               const struct store_record *record)
{
    const struct store_record *previous = record->previous;
    if (!previous) return NULL;
    /* What was superseded at the compacted revision stays only if it is of that revision, too. */
    if (record->mod_revision <= writer->compacted_revision && previous->mod_revision < writer->compacted_revision) {
        return NULL;
    }
    return is_kept(writer, previous) ? previous : NULL;
}

/* Goes on in writer->version's chain until `limit_bytes` are in `out`. */
static void append_versions(struct store_snapshot_writer *writer, bool same_key, size_t limit_bytes, struct buffer *out)
{
    while (writer->version && out->size < limit_bytes) {
        append_item(out, writer->version, same_key);
        same_key = true;
        writer->version = next_version(writer, writer->version);
    }
}

void store_snapshot_next(struct store *store, struct store_snapshot_writer *writer, size_t target_bytes,
                         struct buffer *out)
{
    CHECK(target_bytes > 0);
    if (writer->done) return;
    size_t limit_bytes = out->size + target_bytes;
    size_t keys_left = target_bytes / TARGET_BYTES_PER_KEY + KEYS_MIN;
    append_versions(writer, true, limit_bytes, out);

    struct index_path path;
    const struct store_record *last = NULL;
    index_seek(&store->index, buffer_bytes(&writer->next_key), &path);
    for (; keys_left > 0 && !writer->version && out->size < limit_bytes; keys_left--) {
        struct store_record *newest = index_path_record(&store->index, &path);
        if (!newest) break;
        index_path_next(&path);
        last = newest;
        const struct store_record *version = store_version_at(newest, writer->revision);
        if (!version || !is_kept(writer, version)) continue;
        writer->version = version;
        append_versions(writer, false, limit_bytes, out);
    }
    if (!writer->version && !index_path_record(&store->index, &path)) {
        writer->done = true;
    } else if (last) {
        /* Its successor; that key itself may be gone by then, or be the last one. */
        buffer_clear(&writer->next_key);
        buffer_append(&writer->next_key, last->data, last->key_bytes);
        buffer_append_byte(&writer->next_key, 0);
    }
}

/* ---- loading ---- */

struct store_loader {
    struct store *store;
    store_revision revision;
    store_revision compacted_revision;
    struct store_record *last; /* of the item before, the end of its chain so far; or NULL */
    uint64_t slots;            /* records so far that go into the history */
    bool failed;
};

struct store_loader *store_loader_new(struct store *store, store_revision revision, store_revision compacted_revision)
{
    CHECK(store->revision == 1 && store->index.keys == 0 && store->history.end == 0 && !store->is_open);
    struct store_loader *loader = mem_alloc(sizeof *loader);
    *loader = (struct store_loader){
        .store = store,
        .revision = revision,
        .compacted_revision = compacted_revision,
        .failed = revision < 1 || compacted_revision < 0 || compacted_revision > revision,
    };
    return loader;
}

void store_loader_free(struct store_loader *loader)
{
    mem_free(loader);
}

/* Whether a chain may end with this one: what it superseded must be compacted, or a tombstone, or never have been. */
static bool may_be_oldest(const struct store_loader *loader, const struct store_record *record)
{
    return record->mod_revision <= loader->compacted_revision || record->version == 1;
}

static bool may_supersede(const struct store_record *newer, const struct store_record *older)
{
    if (older->mod_revision > newer->mod_revision) return false;
    if (older->mod_revision == newer->mod_revision && older->sub_revision >= newer->sub_revision) return false;
    if (store_record_is_tombstone(newer)) return !store_record_is_tombstone(older);
    if (store_record_is_tombstone(older)) return newer->version == 1;
    return newer->version - 1 == older->version && newer->create_revision == older->create_revision;
}

/* What must hold for any record by itself. */
static bool is_sound(const struct store_loader *loader, const struct store_record *record)
{
    if (record->mod_revision < 2 || record->mod_revision > loader->revision) return false;
    if (store_record_is_tombstone(record)) return record->mod_revision >= loader->compacted_revision;
    if (record->version < 1 || record->create_revision < 2) return false;
    return record->version == 1 ? record->create_revision == record->mod_revision
                                : record->create_revision <= record->mod_revision;
}

/* Reads the item's numbers into `head`, and views of its key (empty: as before) and value. */
static bool read_item(struct reader *reader, struct store_record *head, bool *same_key, struct bytes *key,
                      struct bytes *value)
{
    uint8_t flags = reader_u8(reader);
    *same_key = (flags & FLAG_SAME_KEY) != 0;
    bool is_tombstone = (flags & FLAG_TOMBSTONE) != 0;
    *head = (struct store_record){.refs = 1};
    uint32_t key_bytes = *same_key ? 0 : reader_u32(reader);
    uint32_t value_bytes = is_tombstone ? 0 : reader_u32(reader);
    if (!is_tombstone) head->create_revision = (store_revision)reader_u64(reader);
    head->mod_revision = (store_revision)reader_u64(reader);
    if (!is_tombstone) {
        head->version = (int64_t)reader_u64(reader);
        head->lease = reader_u64(reader);
    }
    head->sub_revision = reader_u32(reader);
    *key = reader_bytes(reader, key_bytes);
    *value = reader_bytes(reader, value_bytes);
    if (reader->failed || (flags & ~(FLAG_SAME_KEY | FLAG_TOMBSTONE)) != 0) return false;
    /* A put with version 0 would pass for a tombstone. */
    return is_tombstone || head->version != 0;
}

/* Adds one item's record to the index or to the chain before it; false if it doesn't fit. */
static bool load_item(struct store_loader *loader, const struct store_record *head, bool same_key, struct bytes key,
                      struct bytes value)
{
    struct store *store = loader->store;
    struct store_record *last = loader->last;
    if (!is_sound(loader, head)) return false;
    if (same_key) {
        if (!last || !may_supersede(last, head)) return false;
        /* Nothing is left of what was superseded at or before the compacted revision, but for that revision's own. */
        if (last->mod_revision <= loader->compacted_revision && head->mod_revision < loader->compacted_revision) {
            return false;
        }
        key = store_record_key(last);
    } else {
        if (key.size < 1 || key.size > STORE_KEY_BYTES_MAX) return false;
        if (last && (!may_be_oldest(loader, last) || bytes_compare(store_record_key(last), key) >= 0)) return false;
    }
    struct store_record *record = store_record_new(store, key, value);
    record->create_revision = head->create_revision;
    record->mod_revision = head->mod_revision;
    record->version = head->version;
    record->lease = head->lease;
    record->sub_revision = head->sub_revision;
    if (same_key) {
        last->previous = record;
    } else {
        index_append(&store->index, record);
        if (!store_record_is_tombstone(record)) store->live_bytes += store_payload_bytes(record);
        lease_table_key_changed(&store->leases, NULL, record);
    }
    if (record->mod_revision >= loader->compacted_revision) loader->slots++;
    loader->last = record;
    return true;
}

enum error store_loader_feed(struct store_loader *loader, struct bytes payload)
{
    struct reader reader = reader_of(payload);
    while (!loader->failed && reader_left(&reader) > 0) {
        struct store_record head;
        struct bytes key;
        struct bytes value;
        bool same_key;
        loader->failed =
            !read_item(&reader, &head, &same_key, &key, &value) || !load_item(loader, &head, same_key, key, value);
    }
    return loader->failed ? ERR_DAMAGED : ERR_OK;
}

/*
 * Puts the records into revision order. Their revisions, from `first` on, have no gaps, nor have the sub revisions
 * within one: so counting how many changes each revision has tells each record's slot. False if there is a gap, or a
 * change twice.
 */
static bool build_history(struct store_loader *loader, store_revision first)
{
    struct store *store = loader->store;
    if (loader->revision < first) return loader->slots == 0;
    uint64_t revisions = (uint64_t)(loader->revision - first) + 1;
    /* Also keeps the array as small as the records that it is for. */
    if (revisions > loader->slots) return false;
    uint64_t *slots = mem_alloc_zero((revisions + 1) * sizeof slots[0]);

    struct index_path path;
    struct store_record *record;
    index_seek(&store->index, bytes_of(NULL, 0), &path);
    for (; (record = index_path_record(&store->index, &path)) != NULL; index_path_next(&path)) {
        for (; record && record->mod_revision >= first; record = record->previous) {
            slots[record->mod_revision - first + 1]++;
        }
    }
    bool sound = true;
    for (uint64_t i = 0; i < revisions; i++) {
        sound = sound && slots[i + 1] > 0;
        slots[i + 1] += slots[i];
    }

    history_fill_begin(&store->history, loader->slots);
    index_seek(&store->index, bytes_of(NULL, 0), &path);
    for (; sound && (record = index_path_record(&store->index, &path)) != NULL; index_path_next(&path)) {
        for (; sound && record && record->mod_revision >= first; record = record->previous) {
            uint64_t begin = slots[record->mod_revision - first];
            uint64_t end = slots[record->mod_revision - first + 1];
            sound = record->sub_revision < end - begin &&
                    history_fill(&store->history, begin + record->sub_revision, record);
        }
    }
    history_fill_end(&store->history);
    mem_free(slots);
    return sound;
}

enum error store_loader_finish(struct store_loader *loader)
{
    struct store *store = loader->store;
    /* A fresh store is at revision 1: there is no change with that number. */
    store_revision first = loader->compacted_revision > 1 ? loader->compacted_revision : 2;
    bool sound =
        !loader->failed && (!loader->last || may_be_oldest(loader, loader->last)) && build_history(loader, first);
    if (sound) {
        store->revision = loader->revision;
        store->compacted_revision = loader->compacted_revision;
        history_compact(&store->history, store->compacted_revision);
        store->released = store->history.compacted;
    }
    store_loader_free(loader);
    return sound ? ERR_OK : ERR_DAMAGED;
}
