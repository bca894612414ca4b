#include "store/watch_index.h"

#include "base/check.h"
#include "base/mem.h"
#include "base/random.h"
#include "store/watch_internal.h"

#define BUCKETS_MIN 16u

/* ---- targets ---- */

static struct watch_range_target *range_of(struct treap_link *link)
{
    return CONTAINER_OF(link, struct watch_range_target, link);
}

static const uint8_t *data_of(const struct watch_target *target)
{
    return (const uint8_t *)target + (target->is_range ? sizeof(struct watch_range_target) : sizeof *target);
}

static struct bytes key_of(const struct watch_target *target)
{
    return bytes_of(data_of(target), target->key_bytes);
}

static struct bytes end_of(const struct watch_target *target)
{
    return bytes_of(data_of(target) + target->key_bytes, target->end_bytes);
}

static uint64_t target_bytes(const struct watch_target *target)
{
    return (target->is_range ? sizeof(struct watch_range_target) : sizeof *target) + target->key_bytes +
           target->end_bytes + WATCH_ALLOCATION_OVERHEAD_BYTES;
}

/* ---- ranges ---- */

static int compare_ends(const struct watch_target *a, const struct watch_target *b)
{
    if (a->is_to_last || b->is_to_last) return (int)a->is_to_last - (int)b->is_to_last;
    return bytes_compare(end_of(a), end_of(b));
}

static int compare_links(const struct treap_link *link_a, const struct treap_link *link_b)
{
    const struct watch_target *a = &range_of((struct treap_link *)link_a)->target;
    const struct watch_target *b = &range_of((struct treap_link *)link_b)->target;
    int compared = bytes_compare(key_of(a), key_of(b));
    if (compared == 0) compared = compare_ends(a, b);
    return compared != 0 ? compared : (int)a->classes - (int)b->classes;
}

static void update_greatest(struct treap_link *link)
{
    struct watch_range_target *range = range_of(link);
    range->greatest = &range->target;
    const struct treap_link *below[] = {link->left, link->right};
    for (size_t i = 0; i < 2; i++) {
        if (!below[i]) continue;
        const struct watch_target *greatest = range_of((struct treap_link *)below[i])->greatest;
        if (compare_ends(greatest, range->greatest) > 0) range->greatest = greatest;
    }
}

static const struct treap_order range_order = {.compare = compare_links, .update = update_greatest};

static bool ends_after(const struct watch_target *target, struct bytes key)
{
    return target->is_to_last || bytes_compare(key, end_of(target)) < 0;
}

void watch_matches_append(struct watch_matches *matches, struct watch_target *target)
{
    if (matches->count == matches->capacity) {
        matches->capacity = matches->capacity > 0 ? 2 * matches->capacity : 16;
        matches->targets = mem_realloc(matches->targets, matches->capacity * sizeof(struct watch_target *));
    }
    matches->targets[matches->count++] = target;
}

static void match_ranges(struct treap_link *link, struct bytes key, unsigned unwanted, struct watch_matches *matches)
{
    while (link) {
        struct watch_range_target *range = range_of(link);
        if (!ends_after(range->greatest, key)) return;
        match_ranges(link->left, key, unwanted, matches);
        if (bytes_compare(key, key_of(&range->target)) < 0) return;
        if (ends_after(&range->target, key) && !(range->target.classes & unwanted))
            watch_matches_append(matches, &range->target);
        link = link->right;
    }
}

static int compare_with(const struct watch_target *target, struct bytes key, struct bytes end, bool is_to_last,
                        unsigned classes)
{
    int compared = bytes_compare(key, key_of(target));
    if (compared != 0) return compared;
    if (is_to_last || target->is_to_last) {
        compared = (int)is_to_last - (int)target->is_to_last;
    } else {
        compared = bytes_compare(end, end_of(target));
    }
    return compared != 0 ? compared : (int)classes - (int)target->classes;
}

static struct watch_target *find_range(const struct watch_index *index, struct bytes key, struct bytes end,
                                       bool is_to_last, unsigned classes)
{
    struct treap_link *link = index->ranges;
    while (link) {
        struct watch_target *target = &range_of(link)->target;
        int compared = compare_with(target, key, end, is_to_last, classes);
        if (compared == 0) return target;
        link = compared < 0 ? link->left : link->right;
    }
    return NULL;
}

/* ---- keys ---- */

static uint64_t hash_of(const struct watch_index *index, struct bytes key)
{
    uint64_t hash = index->seed ^ key.size;
    size_t at = 0;
    for (; at + 8 <= key.size; at += 8) hash = random_mix(hash ^ get_u64(key.data + at));
    uint64_t rest = 0;
    if (at < key.size) memcpy(&rest, key.data + at, key.size - at);
    return random_mix(hash ^ rest);
}

static struct watch_target **bucket_of(const struct watch_index *index, struct bytes key)
{
    uint64_t hash = hash_of(index, key);
    size_t at = hash & (index->level_size - 1);
    if (at < index->bucket_count - index->level_size) at = hash & (2 * index->level_size - 1);
    return &index->buckets[at];
}

/* One bucket more: it takes its part of what is in the bucket that it is split from. */
static void add_bucket(struct watch_index *index)
{
    if (index->bucket_count == index->bucket_capacity) {
        index->bucket_capacity *= 2;
        index->buckets = mem_realloc(index->buckets, index->bucket_capacity * sizeof index->buckets[0]);
    }
    size_t from = index->bucket_count - index->level_size;
    index->buckets[index->bucket_count++] = NULL;
    struct watch_target *target = index->buckets[from];
    index->buckets[from] = NULL;
    while (target) {
        struct watch_target *next = target->in_hash;
        struct watch_target **bucket = bucket_of(index, key_of(target));
        target->in_hash = *bucket;
        *bucket = target;
        target = next;
    }
    if (index->bucket_count == 2 * index->level_size) index->level_size *= 2;
}

static void insert_key(struct watch_index *index, struct watch_target *target)
{
    if (!index->buckets) {
        index->bucket_capacity = BUCKETS_MIN;
        index->bucket_count = BUCKETS_MIN;
        index->level_size = BUCKETS_MIN;
        index->buckets = mem_alloc_zero(BUCKETS_MIN * sizeof index->buckets[0]);
    } else if (index->key_target_count >= index->bucket_count) {
        add_bucket(index);
    }
    struct watch_target **bucket = bucket_of(index, key_of(target));
    target->in_hash = *bucket;
    *bucket = target;
    index->key_target_count++;
}

static void remove_key(struct watch_index *index, struct watch_target *target)
{
    struct watch_target **at = bucket_of(index, key_of(target));
    while (*at != target) at = &(*at)->in_hash;
    *at = target->in_hash;
    if (--index->key_target_count > 0) return;
    mem_free(index->buckets);
    index->buckets = NULL;
    index->bucket_capacity = 0;
}

static struct watch_target *find_key(const struct watch_index *index, struct bytes key, unsigned classes)
{
    if (!index->buckets) return NULL;
    struct watch_target *target = *bucket_of(index, key);
    while (target && !(target->classes == classes && bytes_equal(key_of(target), key))) target = target->in_hash;
    return target;
}

static void match_keys(const struct watch_index *index, struct bytes key, unsigned unwanted,
                       struct watch_matches *matches)
{
    if (!index->buckets) return;
    /* In the order of their classes, since the bucket's depends on hashes. */
    struct watch_target *found[WATCH_CLASS_COUNT] = {NULL};
    bool any = false;
    for (struct watch_target *target = *bucket_of(index, key); target; target = target->in_hash) {
        if ((target->classes & unwanted) || !bytes_equal(key_of(target), key)) continue;
        found[target->classes] = target;
        any = true;
    }
    for (size_t i = 0; any && i < WATCH_CLASS_COUNT; i++) {
        if (found[i]) watch_matches_append(matches, found[i]);
    }
}

/* ---- the index ---- */

void watch_index_init(struct watch_index *index, uint64_t seed)
{
    *index = (struct watch_index){.seed = seed};
    watch_link_init(&index->targets);
}

void watch_index_free(struct watch_index *index)
{
    CHECK(watch_link_is_alone(&index->targets) && !index->buckets && !index->ranges && index->memory_bytes == 0);
}

bool watch_range_is_empty(struct bytes key, struct bytes range_end)
{
    if (key.size == 0) key = bytes_of("", 1);
    bool is_to_last = range_end.size == 1 && range_end.data[0] == 0;
    return range_end.size > 0 && !is_to_last && bytes_compare(key, range_end) >= 0;
}

struct watch_target *watch_index_take(struct watch_index *index, struct bytes key, struct bytes range_end,
                                      unsigned classes)
{
    CHECK(classes < WATCH_CLASS_COUNT && !watch_range_is_empty(key, range_end));
    if (key.size == 0) key = bytes_of("", 1);
    CHECK(key.size <= UINT32_MAX && range_end.size <= UINT32_MAX);
    bool is_range = range_end.size > 0;
    bool is_to_last = range_end.size == 1 && range_end.data[0] == 0;
    if (is_to_last) range_end = bytes_of(NULL, 0);
    struct watch_target *target =
        is_range ? find_range(index, key, range_end, is_to_last, classes) : find_key(index, key, classes);
    if (!target) {
        size_t fixed_bytes = is_range ? sizeof(struct watch_range_target) : sizeof *target;
        target = mem_alloc(fixed_bytes + key.size + range_end.size);
        *target = (struct watch_target){
            .key_bytes = (uint32_t)key.size,
            .end_bytes = (uint32_t)range_end.size,
            .classes = (uint8_t)classes,
            .is_range = is_range,
            .is_to_last = is_to_last,
        };
        watch_link_init(&target->live);
        watch_link_append(&index->targets, &target->in_index);
        uint8_t *data = (uint8_t *)target + fixed_bytes;
        memcpy(data, key.data, key.size);
        if (range_end.size > 0) memcpy(data + key.size, range_end.data, range_end.size);
        index->memory_bytes += target_bytes(target);
        if (is_range) {
            struct treap_link *link = &((struct watch_range_target *)target)->link;
            link->priority = (uint32_t)random_mix(index->seed + ++index->drawn);
            treap_insert(&index->ranges, link, &range_order);
        } else {
            insert_key(index, target);
        }
    }
    target->watcher_count++;
    return target;
}

void watch_index_drop(struct watch_index *index, struct watch_target *target)
{
    CHECK(target->watcher_count > 0);
    if (--target->watcher_count > 0) return;
    CHECK(watch_link_is_alone(&target->live) && !target->slice && target->group == 0);
    watch_link_remove(&target->in_index);
    if (target->is_range) {
        treap_remove(&index->ranges, &((struct watch_range_target *)target)->link, &range_order);
    } else {
        remove_key(index, target);
    }
    index->memory_bytes -= target_bytes(target);
    mem_free(target);
}

bool watch_target_matches(const struct watch_target *target, struct bytes key, unsigned unwanted)
{
    if (target->classes & unwanted) return false;
    if (!target->is_range) return bytes_equal(key, key_of(target));
    return bytes_compare(key, key_of(target)) >= 0 && ends_after(target, key);
}

void watch_index_match(const struct watch_index *index, struct bytes key, unsigned unwanted,
                       struct watch_matches *matches)
{
    match_keys(index, key, unwanted, matches);
    match_ranges(index->ranges, key, unwanted, matches);
}

/* ---- verifying ---- */

/* Returns how many links there are. */
static size_t verify_ranges(struct treap_link *link)
{
    if (!link) return 0;
    struct watch_range_target *range = range_of(link);
    struct treap_link *below[] = {link->left, link->right};
    const struct watch_target *greatest = &range->target;
    for (size_t i = 0; i < 2; i++) {
        if (!below[i]) continue;
        CHECK(below[i]->priority <= link->priority);
        CHECK(i == 0 ? compare_links(below[i], link) < 0 : compare_links(below[i], link) > 0);
        if (compare_ends(range_of(below[i])->greatest, greatest) > 0) greatest = range_of(below[i])->greatest;
    }
    CHECK(compare_ends(range->greatest, greatest) == 0);
    return 1 + verify_ranges(link->left) + verify_ranges(link->right);
}

void watch_index_verify(const struct watch_index *index)
{
    size_t ranges = verify_ranges(index->ranges);
    size_t keys = 0;
    uint64_t memory_bytes = 0;
    for (struct watch_link *at = index->targets.next; at != &index->targets; at = at->next) {
        const struct watch_target *target = CONTAINER_OF(at, struct watch_target, in_index);
        CHECK(target->watcher_count > 0);
        memory_bytes += target_bytes(target);
        if (target->is_range) {
            CHECK(find_range(index, key_of(target), end_of(target), target->is_to_last, target->classes) == target);
            CHECK(ranges-- > 0);
        } else {
            CHECK(find_key(index, key_of(target), target->classes) == target);
            keys++;
        }
    }
    CHECK(ranges == 0 && keys == index->key_target_count);
    CHECK(memory_bytes == index->memory_bytes);
}
