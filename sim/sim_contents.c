#include "sim/sim_contents.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define SLICE 64

__attribute__((format(printf, 2, 3))) static void violated(struct sim_contents_verdict *verdict, const char *format,
                                                           ...)
{
    if (verdict->violated) return;
    verdict->violated = true;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(verdict->text, sizeof verdict->text, format, arguments);
    va_end(arguments);
}

/* ---- one store with another ---- */

struct record_text {
    char text[160];
};

static struct record_text text_of(const struct store_record *record)
{
    struct record_text out;
    struct bytes key = store_record_key(record);
    snprintf(out.text, sizeof out.text, "\"%.*s\" (mod %lld, create %lld, version %lld, lease %llu, %u bytes)",
             (int)(key.size < 60 ? key.size : 60), (const char *)key.data, (long long)record->mod_revision,
             (long long)record->create_revision, (long long)record->version, (unsigned long long)record->lease,
             record->value_bytes);
    return out;
}

static bool same_record(const struct store_record *a, const struct store_record *b)
{
    return bytes_equal(store_record_key(a), store_record_key(b)) &&
           bytes_equal(store_record_value(a), store_record_value(b)) && a->mod_revision == b->mod_revision &&
           a->create_revision == b->create_revision && a->version == b->version && a->lease == b->lease;
}

/* The next record of a store, from a slice of a cursor or of its history; NULL at the end. */
struct walk {
    const struct store *store;
    struct store_cursor cursor;
    bool history;
    uint64_t position;
    store_revision after;
    const struct store_record *records[SLICE];
    size_t count, next;
};

static const struct store_record *walk_next(struct walk *walk)
{
    while (walk->next == walk->count) {
        if (!walk->history && walk->cursor.done) return NULL;
        walk->next = 0;
        walk->count = walk->history
                          ? store_history_next(walk->store, walk->after, &walk->position, walk->records, SLICE)
                          : store_cursor_next(walk->store, &walk->cursor, walk->records, SLICE);
        if (walk->history && walk->count == 0) return NULL;
    }
    return walk->records[walk->next++];
}

static struct walk walk_keys(const struct store *store)
{
    struct walk walk = {.store = store};
    store_cursor_open(&walk.cursor, bytes_of(NULL, 0), bytes_of(NULL, 0), 0);
    return walk;
}

static struct walk walk_changes(const struct store *store, store_revision after)
{
    return (struct walk){.store = store, .history = true, .after = after};
}

static void walk_end(struct walk *walk)
{
    if (!walk->history) store_cursor_close(&walk->cursor);
}

static void compare_walks(struct walk *a, struct walk *b, const char *what, uint64_t *count,
                          struct sim_contents_verdict *verdict)
{
    while (!verdict->violated) {
        const struct store_record *left = walk_next(a), *right = walk_next(b);
        if (left == NULL && right == NULL) break;
        ++*count;
        if (left != NULL && right != NULL && same_record(left, right)) continue;
        violated(verdict, "two members' stores differ: a %s is %s on one, and %s on the other", what,
                 left == NULL ? "missing" : text_of(left).text, right == NULL ? "missing" : text_of(right).text);
    }
    walk_end(a);
    walk_end(b);
}

void sim_contents_compare(const struct store *a, const struct store *b, struct sim_contents_verdict *verdict)
{
    if (store_current_revision(a) != store_current_revision(b)) {
        violated(verdict, "two members' stores are at revisions %lld and %lld", (long long)store_current_revision(a),
                 (long long)store_current_revision(b));
    }
    if (store_compacted_revision(a) != store_compacted_revision(b)) {
        violated(verdict, "two members' stores are compacted to revisions %lld and %lld",
                 (long long)store_compacted_revision(a), (long long)store_compacted_revision(b));
    }
    if (verdict->violated) return;
    struct walk keys_a = walk_keys(a), keys_b = walk_keys(b);
    compare_walks(&keys_a, &keys_b, "key", &verdict->keys, verdict);
    store_revision after = store_compacted_revision(a);
    struct walk changes_a = walk_changes(a, after), changes_b = walk_changes(b, after);
    compare_walks(&changes_a, &changes_b, "change", &verdict->changes, verdict);
}

/* ---- a store with the history ---- */

/* By key, as far as the walk over the changes came; before that: the newest that clients know. */
struct key_facts {
    bool begun; /* there was a change of it */
    int64_t version;
    store_revision create;
    const struct sim_operation *newest; /* the acknowledged write of the highest revision */
    uint32_t deletes_next;              /* in `deletes` */
    uint32_t unknown_deletes;           /* whose outcome is unknown */
};

struct explain {
    const struct store *store;
    const struct sim_contents_reader *reader;
    struct sim_history *history;
    struct sim_contents_verdict *verdict;
    struct key_facts *keys;
    uint32_t key_count;
    uint32_t *put_of; /* by value: the operation, from 1 */
    uint64_t value_max;
    struct sim_operation **by_revision; /* acknowledged changes, in their order */
    uint32_t by_revision_count;
    struct sim_operation **deletes; /* of unknown outcome, by key, then sending */
    uint32_t delete_count;
};

static bool is_change(const struct sim_operation *operation)
{
    return operation->outcome == SIM_DONE &&
           (operation->kind == SIM_PUT || (operation->kind == SIM_DELETE && operation->existed));
}

static int compare_revisions(const void *a, const void *b)
{
    const struct sim_operation *left = *(struct sim_operation *const *)a, *right = *(struct sim_operation *const *)b;
    return left->revision < right->revision ? -1 : left->revision > right->revision;
}

static int compare_deletes(const void *a, const void *b)
{
    const struct sim_operation *left = *(struct sim_operation *const *)a, *right = *(struct sim_operation *const *)b;
    if (left->key != right->key) return left->key < right->key ? -1 : 1;
    return left->sent < right->sent ? -1 : 1;
}

static void explain_begin(struct explain *explain)
{
    const struct sim_history *history = explain->history;
    for (uint32_t i = 0; i < history->count; i++) {
        const struct sim_operation *operation = &history->operations[i];
        if (operation->key >= explain->key_count) explain->key_count = operation->key + 1;
        if (operation->kind == SIM_PUT && operation->value > explain->value_max) explain->value_max = operation->value;
    }
    explain->keys = mem_alloc_zero((explain->key_count + 1) * sizeof *explain->keys);
    explain->put_of = mem_alloc_zero((explain->value_max + 1) * sizeof *explain->put_of);
    explain->by_revision = mem_alloc((history->count + 1) * sizeof(struct sim_operation *));
    explain->deletes = mem_alloc((history->count + 1) * sizeof(struct sim_operation *));
    for (uint32_t i = 0; i < history->count; i++) {
        struct sim_operation *operation = &history->operations[i];
        struct key_facts *key = &explain->keys[operation->key];
        if (operation->kind == SIM_PUT) explain->put_of[operation->value] = i + 1;
        if (is_change(operation)) {
            explain->by_revision[explain->by_revision_count++] = operation;
            if (key->newest == NULL || operation->revision > key->newest->revision) key->newest = operation;
        }
        if (operation->kind == SIM_DELETE && operation->outcome == SIM_UNKNOWN) {
            explain->deletes[explain->delete_count++] = operation;
            key->unknown_deletes++;
        }
    }
    qsort(explain->by_revision, explain->by_revision_count, sizeof *explain->by_revision, compare_revisions);
    qsort(explain->deletes, explain->delete_count, sizeof *explain->deletes, compare_deletes);
    for (uint32_t i = explain->delete_count; i-- > 0;) explain->keys[explain->deletes[i]->key].deletes_next = i;
}

static void explain_end(struct explain *explain)
{
    mem_free(explain->keys);
    mem_free(explain->put_of);
    mem_free(explain->by_revision);
    mem_free(explain->deletes);
}

/* The key's number, and for a live version the value's; false with a violation. */
static bool read_record(struct explain *explain, const struct store_record *record, uint32_t *key, uint64_t *value)
{
    *value = 0;
    bool good = explain->reader->key(store_record_key(record), key) && *key < explain->key_count;
    if (good && !store_record_is_tombstone(record)) {
        good = explain->reader->value(store_record_value(record), value) && *value <= explain->value_max &&
               explain->put_of[*value] != 0 && explain->history->operations[explain->put_of[*value] - 1].key == *key;
    }
    if (!good) violated(explain->verdict, "the store holds what nobody wrote: %s", text_of(record).text);
    return good;
}

/* The put that made this version. */
static void explain_put(struct explain *explain, const struct store_record *record, uint64_t value)
{
    struct sim_operation *put = &explain->history->operations[explain->put_of[value] - 1];
    if (put->outcome == SIM_NOTHING_DONE) {
        violated(explain->verdict, "a put was answered as not done, and is in the store: value %llu, %s",
                 (unsigned long long)value, text_of(record).text);
    } else if (put->revision != 0 && put->revision != record->mod_revision) {
        violated(explain->verdict, "a put of value %llu has revision %lld, and is in the store: %s",
                 (unsigned long long)value, (long long)put->revision, text_of(record).text);
    }
    put->revision = record->mod_revision;
}

static void explain_delete(struct explain *explain, const struct store_record *record, uint32_t key)
{
    struct sim_operation wanted = {.revision = record->mod_revision}, *pointer = &wanted;
    struct sim_operation **found = bsearch(&pointer, explain->by_revision, explain->by_revision_count,
                                           sizeof *explain->by_revision, compare_revisions);
    if (found != NULL) {
        if ((*found)->kind == SIM_DELETE && (*found)->key == key) return;
        violated(explain->verdict, "a revision was acknowledged to another write than made it: %s",
                 text_of(record).text);
        return;
    }
    /* One that nobody heard of; of several, the one that was sent first. Where changes are missing, it may have made one of them,
       and this one is another's: then nobody knows. */
    uint32_t *next = &explain->keys[key].deletes_next, count = explain->keys[key].unknown_deletes;
    if (count > 0 && *next < explain->delete_count && explain->deletes[*next]->key == key) {
        struct sim_operation *operation = explain->deletes[(*next)++];
        if (count == 1 || store_compacted_revision(explain->store) <= 1) operation->revision = record->mod_revision;
        return;
    }
    violated(explain->verdict, "the store holds a delete that nobody asked for: %s", text_of(record).text);
}

/* All changes after the compacted revision, in their order. */
static void explain_changes(struct explain *explain)
{
    store_revision compacted = store_compacted_revision(explain->store);
    store_revision revision = compacted < 1 ? 1 : compacted; /* a fresh store's */
    struct walk walk = walk_changes(explain->store, compacted);
    const struct store_record *record;
    uint32_t acknowledged = 0;
    while (acknowledged < explain->by_revision_count && explain->by_revision[acknowledged]->revision <= revision) {
        acknowledged++;
    }
    while (!explain->verdict->violated && (record = walk_next(&walk)) != NULL) {
        uint32_t key;
        uint64_t value;
        explain->verdict->changes++;
        if (record->mod_revision != revision + 1) {
            violated(explain->verdict, "no change has revision %lld; the next one is %s", (long long)revision + 1,
                     text_of(record).text);
            break;
        }
        revision = record->mod_revision;
        if (!read_record(explain, record, &key, &value)) break;
        struct key_facts *facts = &explain->keys[key];
        bool complete = facts->begun || compacted <= 1;
        if (store_record_is_tombstone(record)) {
            if (complete && facts->version == 0) {
                violated(explain->verdict, "a delete has a revision at which the key wasn't there: %s",
                         text_of(record).text);
            }
            explain_delete(explain, record, key);
            facts->version = 0;
        } else {
            explain_put(explain, record, value);
            bool creates = facts->version == 0;
            store_revision create = creates ? revision : facts->create;
            int64_t version = creates ? 1 : facts->version + 1;
            if (complete && (record->create_revision != create || record->version != version)) {
                violated(explain->verdict, "after the changes before it, create %lld and version %lld are right for %s",
                         (long long)create, (long long)version, text_of(record).text);
            }
            facts->create = record->create_revision;
            facts->version = record->version;
        }
        facts->begun = true;
        /* Was it acknowledged? Then to the one who made it. */
        if (acknowledged < explain->by_revision_count && explain->by_revision[acknowledged]->revision == revision) {
            const struct sim_operation *write = explain->by_revision[acknowledged++];
            bool same = write->key == key && (write->kind == SIM_PUT ? write->value == value : value == 0);
            if (!same) {
                violated(explain->verdict,
                         "revision %lld was acknowledged to a write of key %u, and is in the store: %s",
                         (long long)revision, write->key, text_of(record).text);
            }
        }
    }
    if (explain->verdict->violated) return;
    if (revision != store_current_revision(explain->store)) {
        violated(explain->verdict, "the store is at revision %lld, and its last change has %lld",
                 (long long)store_current_revision(explain->store), (long long)revision);
    }
    if (acknowledged < explain->by_revision_count) {
        const struct sim_operation *lost = explain->by_revision[acknowledged];
        violated(explain->verdict, "a write of key %u was acknowledged with revision %lld, and the store is at %lld",
                 lost->key, (long long)lost->revision, (long long)revision);
    }
}

/* The newest state of each key; the only one that is known of what was compacted. */
static void explain_keys(struct explain *explain)
{
    struct walk walk = walk_keys(explain->store);
    const struct store_record *record;
    bool *live = mem_alloc_zero((explain->key_count + 1) * sizeof *live);
    while (!explain->verdict->violated && (record = walk_next(&walk)) != NULL) {
        uint32_t key;
        uint64_t value;
        explain->verdict->keys++;
        if (!read_record(explain, record, &key, &value)) break;
        explain_put(explain, record, value);
        live[key] = true;
        const struct sim_operation *newest = explain->keys[key].newest;
        if (newest != NULL && newest->revision > record->mod_revision) {
            violated(explain->verdict,
                     "a write of key %u was acknowledged with revision %lld, and is lost: the store has %s", key,
                     (long long)newest->revision, text_of(record).text);
        }
    }
    walk_end(&walk);
    for (uint32_t key = 0; key < explain->key_count && !explain->verdict->violated; key++) {
        const struct key_facts *facts = &explain->keys[key];
        if (live[key] || facts->newest == NULL || facts->newest->kind == SIM_DELETE || facts->unknown_deletes > 0)
            continue;
        violated(explain->verdict,
                 "a put of key %u was acknowledged with revision %lld, nobody deleted it since, and it isn't there",
                 key, (long long)facts->newest->revision);
    }
    mem_free(live);
}

void sim_contents_explain(const struct store *store, const struct sim_contents_reader *reader,
                          struct sim_history *history, struct sim_contents_verdict *verdict)
{
    struct explain explain = {.store = store, .reader = reader, .history = history, .verdict = verdict};
    explain_begin(&explain);
    explain_changes(&explain);
    if (!verdict->violated) explain_keys(&explain);
    if (!verdict->violated && store_compacted_revision(store) <= 1) {
        /* What made no change never happened, or changed nothing. */
        for (uint32_t i = 0; i < history->count; i++) {
            struct sim_operation *operation = &history->operations[i];
            if (operation->kind == SIM_GET || operation->outcome != SIM_UNKNOWN || operation->revision != 0) continue;
            operation->outcome = SIM_NOTHING_DONE;
        }
        history->order_known = true;
    }
    explain_end(&explain);
}
