#include "store/index.h"

#include "base/check.h"
#include "base/mem.h"

/* Below this a node takes from, or joins, its neighbour. */
#define LEAF_SLOTS_MIN (INDEX_LEAF_SLOTS / 4)
#define INNER_SLOTS_MIN (INDEX_INNER_SLOTS / 4)
_Static_assert(INNER_SLOTS_MIN >= 2, "an inner node must keep two children, so that each has a neighbour");
_Static_assert(INDEX_LEAF_SLOTS <= UINT16_MAX && INDEX_INNER_SLOTS <= UINT16_MAX, "counts are 16 bits wide");

/* A node's prefix_bytes while its hints are worthless. */
#define PREFIX_UNKNOWN UINT32_MAX

/* A copy of the shortest start of a key that tells two neighbours apart. */
struct separator {
    uint32_t size;
    uint8_t data[];
};

struct index_leaf {
    uint32_t prefix_bytes; /* how many first bytes all keys of this leaf share for sure */
    uint16_t count;
    uint16_t live;
    uint16_t hints[INDEX_LEAF_SLOTS];
    struct store_record *records[INDEX_LEAF_SLOTS];
};

struct index_inner {
    uint32_t prefix_bytes;
    uint16_t count;
    uint16_t hints[INDEX_INNER_SLOTS];               /* of separators; [0] is unused */
    struct separator *separators[INDEX_INNER_SLOTS]; /* [0] is NULL: it is in an inner node above */
    void *children[INDEX_INNER_SLOTS];
    uint64_t live[INDEX_INNER_SLOTS]; /* live keys below each child */
};

/* ---- keys and hints ---- */

static struct bytes separator_bytes(const struct separator *separator)
{
    return bytes_of(separator->data, separator->size);
}

/* bytes_compare of two keys that are known to share their first `skip` bytes. */
static int compare_after(struct bytes a, struct bytes b, uint32_t skip)
{
    size_t common = (a.size < b.size ? a.size : b.size) - skip;
    int order = common > 0 ? memcmp(a.data + skip, b.data + skip, common) : 0; /* an empty key may be NULL */
    if (order != 0) return order;
    return a.size < b.size ? -1 : a.size > b.size;
}

/* a < b implies hint_of(a) <= hint_of(b), for keys that share `skip` bytes. */
static uint16_t hint_of(struct bytes key, uint32_t skip)
{
    unsigned hint = 0;
    if (key.size > skip) hint = (unsigned)key.data[skip] << 8;
    if (key.size > (size_t)skip + 1) hint |= key.data[skip + 1];
    return (uint16_t)hint;
}

static uint32_t common_prefix(struct bytes a, struct bytes b)
{
    size_t limit = a.size < b.size ? a.size : b.size;
    size_t size = 0;
    while (size < limit && a.data[size] == b.data[size]) size++;
    return (uint32_t)size;
}

/* How many of `hints` are below `hint`. Without branches on the data: these are unpredictable. */
static unsigned hints_below(const uint16_t *hints, unsigned count, uint16_t hint)
{
    unsigned base = 0;
    while (count > 1) {
        unsigned half = count / 2;
        base += hints[base + half - 1] < hint ? half : 0;
        count -= half;
    }
    return base + (count == 1 && hints[base] < hint);
}

static unsigned leaf_search(const struct index_leaf *leaf, struct bytes key, bool *found)
{
    uint16_t hint = hint_of(key, leaf->prefix_bytes);
    unsigned low = hints_below(leaf->hints, leaf->count, hint);
    unsigned high = low;
    while (high < leaf->count && leaf->hints[high] == hint) high++;
    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        int order = compare_after(store_record_key(leaf->records[middle]), key, leaf->prefix_bytes);
        if (order == 0) {
            *found = true;
            return middle;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *found = false;
    return low;
}

/* The child whose keys include `key`. */
static unsigned inner_search(const struct index_inner *inner, struct bytes key)
{
    uint16_t hint = hint_of(key, inner->prefix_bytes);
    unsigned low = 1 + hints_below(inner->hints + 1, inner->count - 1u, hint);
    unsigned high = low;
    while (high < inner->count && inner->hints[high] == hint) high++;
    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        if (compare_after(separator_bytes(inner->separators[middle]), key, inner->prefix_bytes) <= 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low - 1;
}

/* ---- nodes ---- */

static struct index_leaf *leaf_new(struct index *index)
{
    struct index_leaf *leaf = mem_alloc(sizeof *leaf);
    leaf->prefix_bytes = 0;
    leaf->count = 0;
    leaf->live = 0;
    index->memory_bytes += sizeof *leaf;
    return leaf;
}

static struct index_inner *inner_new(struct index *index)
{
    struct index_inner *inner = mem_alloc(sizeof *inner);
    inner->prefix_bytes = 0;
    inner->count = 0;
    index->memory_bytes += sizeof *inner;
    return inner;
}

static void leaf_free(struct index *index, struct index_leaf *leaf)
{
    index->memory_bytes -= sizeof *leaf;
    mem_free(leaf);
}

static void inner_free(struct index *index, struct index_inner *inner)
{
    index->memory_bytes -= sizeof *inner;
    mem_free(inner);
}

static struct separator *separator_new(struct index *index, struct bytes key)
{
    struct separator *separator = mem_alloc(sizeof *separator + key.size);
    separator->size = (uint32_t)key.size;
    memcpy(separator->data, key.data, key.size);
    index->memory_bytes += sizeof *separator + key.size;
    return separator;
}

static void separator_free(struct index *index, struct separator *separator)
{
    if (!separator) return;
    index->memory_bytes -= sizeof *separator + separator->size;
    mem_free(separator);
}

static bool record_is_live(const struct store_record *record)
{
    return !store_record_is_tombstone(record);
}

static unsigned leaf_live_in(const struct index_leaf *leaf, unsigned from, unsigned to)
{
    /* The two short cuts spare a visit to each record in the usual cases. */
    if (leaf->live == leaf->count) return to - from;
    if (leaf->live == 0) return 0;
    unsigned live = 0;
    for (unsigned i = from; i < to; i++) live += record_is_live(leaf->records[i]);
    return live;
}

static uint64_t inner_live(const struct index_inner *inner, unsigned children)
{
    uint64_t live = 0;
    for (unsigned i = 0; i < children; i++) live += inner->live[i];
    return live;
}

static void leaf_set_prefix(struct index_leaf *leaf, uint32_t prefix_bytes)
{
    if (leaf->prefix_bytes == prefix_bytes) return;
    leaf->prefix_bytes = prefix_bytes;
    for (unsigned i = 0; i < leaf->count; i++) {
        leaf->hints[i] = hint_of(store_record_key(leaf->records[i]), prefix_bytes);
    }
}

static void inner_set_prefix(struct index_inner *inner, uint32_t prefix_bytes)
{
    inner->prefix_bytes = prefix_bytes;
    for (unsigned i = 1; i < inner->count; i++) {
        inner->hints[i] = hint_of(separator_bytes(inner->separators[i]), prefix_bytes);
    }
}

/* The common prefix of the separators on both sides of a child of the path's node at `depth`. */
static uint32_t prefix_of_child(const struct index_path *path, unsigned depth, unsigned child)
{
    const struct separator *low = NULL;
    const struct separator *high = NULL;
    for (unsigned level = depth + 1; level-- > 0 && (!low || !high);) {
        const struct index_inner *inner = path->levels[level].inner;
        unsigned at = level == depth ? child : path->levels[level].child;
        if (!low && at > 0) low = inner->separators[at];
        if (!high && at + 1 < inner->count) high = inner->separators[at + 1];
    }
    return low && high ? common_prefix(separator_bytes(low), separator_bytes(high)) : 0;
}

/* ---- moving between neighbours: what splitting, joining and evening out consist of ---- */

/* Moves `moved` slots of two neighbouring arrays: from the right one's start, or (negative) from the left one's end. */
#define SHIFT(left, right, array, moved)                                                                               \
    do {                                                                                                               \
        size_t one = sizeof(left)->array[0];                                                                           \
        if ((moved) > 0) {                                                                                             \
            memcpy((left)->array + (left)->count, (right)->array, (size_t)(moved)*one);                                \
            memmove((right)->array, (right)->array + (moved), (size_t)((right)->count - (moved)) * one);               \
        } else {                                                                                                       \
            memmove((right)->array - (moved), (right)->array, (right)->count * one);                                   \
            memcpy((right)->array, (left)->array + (left)->count + (moved), (size_t)(-(moved)) * one);                 \
        }                                                                                                              \
    } while (0)

static void leaf_shift(struct index_leaf *left, struct index_leaf *right, int moved)
{
    /* Hints move along when both leaves have the same prefix, and else are made anew by leaf_set_prefix. */
    if (right->count == 0) right->prefix_bytes = left->prefix_bytes;
    if (left->prefix_bytes != right->prefix_bytes) left->prefix_bytes = right->prefix_bytes = PREFIX_UNKNOWN;
    int live = moved > 0 ? (int)leaf_live_in(right, 0, (unsigned)moved)
                         : -(int)leaf_live_in(left, (unsigned)(left->count + moved), left->count);
    SHIFT(left, right, hints, moved);
    SHIFT(left, right, records, moved);
    left->count = (uint16_t)(left->count + moved);
    right->count = (uint16_t)(right->count - moved);
    left->live = (uint16_t)(left->live + live);
    right->live = (uint16_t)(right->live - live);
}

/* `between` is the separator of the two, in their parent; it takes part in the move. */
static void inner_shift(struct index_inner *left, struct index_inner *right, int moved, struct separator **between)
{
    if (right->count > 0) right->separators[0] = *between;
    SHIFT(left, right, separators, moved);
    SHIFT(left, right, children, moved);
    SHIFT(left, right, live, moved);
    left->count = (uint16_t)(left->count + moved);
    right->count = (uint16_t)(right->count - moved);
    *between = NULL;
    if (right->count > 0) {
        *between = right->separators[0];
        right->separators[0] = NULL;
    }
}

static void inner_insert_child(struct index_inner *inner, unsigned at, void *child)
{
    unsigned after = inner->count - at;
    memmove(inner->hints + at + 1, inner->hints + at, after * sizeof inner->hints[0]);
    memmove(inner->separators + at + 1, inner->separators + at, after * sizeof inner->separators[0]);
    memmove(inner->children + at + 1, inner->children + at, after * sizeof inner->children[0]);
    memmove(inner->live + at + 1, inner->live + at, after * sizeof inner->live[0]);
    inner->separators[at] = NULL;
    inner->children[at] = child;
    inner->live[at] = 0;
    inner->count++;
}

static void inner_remove_child(struct index_inner *inner, unsigned at)
{
    inner->count--;
    unsigned after = inner->count - at;
    memmove(inner->hints + at, inner->hints + at + 1, after * sizeof inner->hints[0]);
    memmove(inner->separators + at, inner->separators + at + 1, after * sizeof inner->separators[0]);
    memmove(inner->children + at, inner->children + at + 1, after * sizeof inner->children[0]);
    memmove(inner->live + at, inner->live + at + 1, after * sizeof inner->live[0]);
}

static void shift_leaves(struct index *index, struct index_path *path, unsigned depth, unsigned at, int moved)
{
    struct index_inner *parent = path->levels[depth].inner;
    struct index_leaf *left = parent->children[at];
    struct index_leaf *right = parent->children[at + 1];
    leaf_shift(left, right, moved);
    separator_free(index, parent->separators[at + 1]);
    if (right->count == 0) {
        leaf_free(index, right);
        inner_remove_child(parent, at + 1);
    } else {
        struct bytes low = store_record_key(left->records[left->count - 1]);
        struct bytes high = store_record_key(right->records[0]);
        struct bytes shortest = bytes_of(high.data, common_prefix(low, high) + 1);
        parent->separators[at + 1] = separator_new(index, shortest);
        parent->hints[at + 1] = hint_of(shortest, parent->prefix_bytes);
        parent->live[at + 1] = right->live;
        leaf_set_prefix(right, prefix_of_child(path, depth, at + 1));
    }
    parent->live[at] = left->live;
    leaf_set_prefix(left, prefix_of_child(path, depth, at));
}

static void shift_inners(struct index *index, struct index_path *path, unsigned depth, unsigned at, int moved)
{
    struct index_inner *parent = path->levels[depth].inner;
    struct index_inner *left = parent->children[at];
    struct index_inner *right = parent->children[at + 1];
    inner_shift(left, right, moved, &parent->separators[at + 1]);
    if (right->count == 0) {
        inner_free(index, right);
        inner_remove_child(parent, at + 1);
    } else {
        parent->hints[at + 1] = hint_of(separator_bytes(parent->separators[at + 1]), parent->prefix_bytes);
        parent->live[at + 1] = inner_live(right, right->count);
        inner_set_prefix(right, prefix_of_child(path, depth, at + 1));
    }
    parent->live[at] = inner_live(left, left->count);
    inner_set_prefix(left, prefix_of_child(path, depth, at));
}

/*
 * Moves `moved` slots to child `at` of the path's node at `depth` from the child after it (negative: the other way),
 * and makes separator, counts and hints right again. A right child that ends up empty is freed.
 */
static void shift_children(struct index *index, struct index_path *path, unsigned depth, unsigned at, int moved)
{
    if (depth + 1 == index->height) {
        shift_leaves(index, path, depth, at, moved);
    } else {
        shift_inners(index, path, depth, at, moved);
    }
}

static unsigned child_count(const struct index *index, const struct index_path *path, unsigned depth, unsigned at)
{
    const void *child = path->levels[depth].inner->children[at];
    return depth + 1 == index->height ? ((const struct index_leaf *)child)->count
                                      : ((const struct index_inner *)child)->count;
}

/* ---- growing ---- */

static bool path_is_right_edge(const struct index *index, const struct index_path *path)
{
    for (unsigned level = 0; level < index->height; level++) {
        if (path->levels[level].child + 1 != path->levels[level].inner->count) return false;
    }
    return path->slot == path->leaf->count;
}

/* Lets a full leaf give to a neighbour that has room: with this, leaves are some 85 % full instead of 50 to 70. */
static bool leaf_give(struct index *index, struct index_path *path)
{
    if (index->height == 0) return false;
    unsigned depth = index->height - 1;
    unsigned at = path->levels[depth].child;
    const unsigned room_limit = INDEX_LEAF_SLOTS * 3 / 4;
    if (at > 0) {
        unsigned left = child_count(index, path, depth, at - 1);
        if (left <= room_limit) {
            shift_children(index, path, depth, at - 1, (int)(INDEX_LEAF_SLOTS - left) / 2);
            return true;
        }
    }
    if (at + 1 < path->levels[depth].inner->count) {
        unsigned right = child_count(index, path, depth, at + 1);
        if (right <= room_limit) {
            shift_children(index, path, depth, at, -((int)(INDEX_LEAF_SLOTS - right) / 2));
            return true;
        }
    }
    return false;
}

/* Takes one step towards room in the path's leaf. The path is no longer good afterwards. */
static void make_room(struct index *index, struct index_path *path)
{
    bool right_edge = path_is_right_edge(index, path);
    /* At the right edge a neighbour with room would only be filled up to be left behind. */
    if (!right_edge && leaf_give(index, path)) return;

    /* Split the highest of the full nodes above the leaf first: its parent has room. */
    unsigned depth = index->height;
    while (depth > 0 && path->levels[depth - 1].inner->count == INDEX_INNER_SLOTS) depth--;
    if (depth == 0) {
        CHECK(index->height < INDEX_HEIGHT_MAX);
        struct index_inner *root = inner_new(index);
        inner_insert_child(root, 0, index->root);
        root->live[0] = index->live;
        index->root = root;
        index->height++;
        return;
    }
    bool is_leaf = depth == index->height;
    void *right = is_leaf ? (void *)leaf_new(index) : (void *)inner_new(index);
    unsigned at = path->levels[depth - 1].child;
    inner_insert_child(path->levels[depth - 1].inner, at + 1, right);
    unsigned slots = is_leaf ? INDEX_LEAF_SLOTS : INDEX_INNER_SLOTS;
    /* Keys that come in ascending order leave nodes 7/8 full: room for later ones among them. */
    unsigned moved = right_edge ? slots / 8 : slots / 2;
    shift_children(index, path, depth - 1, at, -(int)moved);
}

static void change_live(struct index *index, const struct index_path *path, int change)
{
    for (unsigned level = 0; level < index->height; level++) {
        path->levels[level].inner->live[path->levels[level].child] += (uint64_t)(int64_t)change;
    }
    path->leaf->live = (uint16_t)(path->leaf->live + change);
    index->live += (uint64_t)(int64_t)change;
}

void index_insert(struct index *index, struct index_path *path, struct store_record *record)
{
    struct bytes key = store_record_key(record);
    while (path->leaf->count == INDEX_LEAF_SLOTS) {
        make_room(index, path);
        index_seek(index, key, path);
    }
    CHECK(!path->found);
    struct index_leaf *leaf = path->leaf;
    unsigned after = leaf->count - path->slot;
    memmove(leaf->hints + path->slot + 1, leaf->hints + path->slot, after * sizeof leaf->hints[0]);
    memmove(leaf->records + path->slot + 1, leaf->records + path->slot, after * sizeof leaf->records[0]);
    leaf->hints[path->slot] = hint_of(key, leaf->prefix_bytes);
    leaf->records[path->slot] = record;
    leaf->count++;
    index->keys++;
    if (record_is_live(record)) change_live(index, path, 1);
}

void index_append(struct index *index, struct store_record *record)
{
    struct index_path path = {.leaf = NULL};
    void *node = index->root;
    for (unsigned level = 0; level < index->height; level++) {
        struct index_inner *inner = node;
        path.levels[level].inner = inner;
        path.levels[level].child = inner->count - 1u;
        node = inner->children[inner->count - 1];
    }
    path.leaf = node;
    path.slot = path.leaf->count;
    index_insert(index, &path, record);
}

void index_replace(struct index *index, const struct index_path *path, struct store_record *record)
{
    bool was_live = record_is_live(path->leaf->records[path->slot]);
    bool is_live = record_is_live(record);
    path->leaf->records[path->slot] = record;
    if (was_live != is_live) change_live(index, path, is_live ? 1 : -1);
}

/* ---- shrinking ---- */

void index_remove(struct index *index, struct index_path *path)
{
    struct index_leaf *leaf = path->leaf;
    CHECK(path->slot < leaf->count);
    if (record_is_live(leaf->records[path->slot])) change_live(index, path, -1);
    leaf->count--;
    unsigned after = leaf->count - path->slot;
    memmove(leaf->hints + path->slot, leaf->hints + path->slot + 1, after * sizeof leaf->hints[0]);
    memmove(leaf->records + path->slot, leaf->records + path->slot + 1, after * sizeof leaf->records[0]);
    index->keys--;

    for (unsigned depth = index->height; depth-- > 0;) {
        bool is_leaf = depth + 1 == index->height;
        unsigned at = path->levels[depth].child;
        unsigned count_min = is_leaf ? LEAF_SLOTS_MIN : INNER_SLOTS_MIN;
        if (child_count(index, path, depth, at) >= count_min) break;
        if (at > 0) at--;
        int left = (int)child_count(index, path, depth, at);
        int right = (int)child_count(index, path, depth, at + 1);
        /* Joining only what stays below 3/4 keeps the next insertions from splitting it again at once. */
        unsigned slots = is_leaf ? INDEX_LEAF_SLOTS : INDEX_INNER_SLOTS;
        if (left + right > (int)slots * 3 / 4) {
            shift_children(index, path, depth, at, (right - left) / 2);
            break;
        }
        shift_children(index, path, depth, at, right);
    }
    while (index->height > 0 && ((struct index_inner *)index->root)->count == 1) {
        struct index_inner *root = index->root;
        index->root = root->children[0];
        index->height--;
        inner_free(index, root);
    }
}

/* ---- reading ---- */

void index_init(struct index *index)
{
    *index = (struct index){.root = NULL};
    index->root = leaf_new(index);
}

static void free_below(struct index *index, void *node, unsigned height)
{
    if (height == 0) {
        leaf_free(index, node);
        return;
    }
    struct index_inner *inner = node;
    for (unsigned i = 0; i < inner->count; i++) {
        separator_free(index, inner->separators[i]);
        free_below(index, inner->children[i], height - 1);
    }
    inner_free(index, inner);
}

void index_free(struct index *index)
{
    if (!index->root) return;
    free_below(index, index->root, index->height);
    CHECK(index->memory_bytes == 0);
    index->root = NULL;
}

struct store_record *index_find(const struct index *index, struct bytes key)
{
    const void *node = index->root;
    for (unsigned level = 0; level < index->height; level++) {
        const struct index_inner *inner = node;
        node = inner->children[inner_search(inner, key)];
    }
    const struct index_leaf *leaf = node;
    bool found;
    unsigned slot = leaf_search(leaf, key, &found);
    return found ? leaf->records[slot] : NULL;
}

void index_seek(const struct index *index, struct bytes key, struct index_path *path)
{
    void *node = index->root;
    for (unsigned level = 0; level < index->height; level++) {
        struct index_inner *inner = node;
        unsigned child = inner_search(inner, key);
        path->levels[level].inner = inner;
        path->levels[level].child = child;
        node = inner->children[child];
    }
    path->leaf = node;
    path->slot = leaf_search(path->leaf, key, &path->found);
}

struct store_record *index_path_record(const struct index *index, struct index_path *path)
{
    if (path->slot < path->leaf->count) return path->leaf->records[path->slot];
    /* The next leaf: up to where there is a child to the right, and down its left edge. */
    unsigned level = index->height;
    while (level > 0 && path->levels[level - 1].child + 1 == path->levels[level - 1].inner->count) level--;
    if (level == 0) return NULL;
    path->levels[level - 1].child++;
    void *node = path->levels[level - 1].inner->children[path->levels[level - 1].child];
    for (; level < index->height; level++) {
        path->levels[level].inner = node;
        path->levels[level].child = 0;
        node = path->levels[level].inner->children[0];
    }
    path->leaf = node;
    path->slot = 0;
    return path->leaf->records[0];
}

void index_path_next(struct index_path *path)
{
    path->slot++;
}

/* The first child from `child` on that has live keys; the count of children: none has. */
static unsigned first_live_child(const struct index_inner *inner, unsigned child)
{
    while (child < inner->count && inner->live[child] == 0) child++;
    return child;
}

/* Goes to the start of the next leaf that has a live key; false: there is none. */
static bool path_next_live_leaf(const struct index *index, struct index_path *path)
{
    for (unsigned level = index->height; level > 0; level--) {
        struct index_inner *inner = path->levels[level - 1].inner;
        unsigned child = first_live_child(inner, path->levels[level - 1].child + 1);
        if (child == inner->count) continue;
        path->levels[level - 1].child = child;
        void *node = inner->children[child];
        for (; level < index->height; level++) {
            inner = node;
            child = first_live_child(inner, 0);
            CHECK(child < inner->count);
            path->levels[level].inner = inner;
            path->levels[level].child = child;
            node = inner->children[child];
        }
        path->leaf = node;
        path->slot = 0;
        return true;
    }
    return false;
}

struct store_record *index_path_live(const struct index *index, struct index_path *path)
{
    do {
        const struct index_leaf *leaf = path->leaf;
        if (leaf->live == 0) continue;
        /* Spares a visit to the record in the usual case. */
        if (leaf->live == leaf->count && path->slot < leaf->count) return leaf->records[path->slot];
        for (; path->slot < leaf->count; path->slot++) {
            if (record_is_live(leaf->records[path->slot])) return leaf->records[path->slot];
        }
    } while (path_next_live_leaf(index, path));
    return NULL;
}

uint64_t index_count_below(const struct index *index, struct bytes key)
{
    struct index_path path;
    index_seek(index, key, &path);
    uint64_t live = leaf_live_in(path.leaf, 0, path.slot);
    for (unsigned level = 0; level < index->height; level++) {
        live += inner_live(path.levels[level].inner, path.levels[level].child);
    }
    return live;
}

/* ---- verifying ---- */

struct verify {
    const struct store_record *last; /* the one before, in key order */
    uint64_t keys;
    uint64_t memory_bytes;
};

static void verify_bounds(struct bytes key, const struct separator *low, const struct separator *high, uint32_t prefix)
{
    CHECK(!low || bytes_compare(separator_bytes(low), key) <= 0);
    CHECK(!high || bytes_compare(key, separator_bytes(high)) < 0);
    CHECK(prefix == 0 || (low && common_prefix(separator_bytes(low), key) >= prefix));
}

static uint64_t verify_leaf(struct verify *verify, const struct index_leaf *leaf, const struct separator *low,
                            const struct separator *high)
{
    uint64_t live = 0;
    for (unsigned i = 0; i < leaf->count; i++) {
        const struct store_record *record = leaf->records[i];
        struct bytes key = store_record_key(record);
        verify_bounds(key, low, high, leaf->prefix_bytes);
        CHECK(leaf->hints[i] == hint_of(key, leaf->prefix_bytes));
        CHECK(!verify->last || bytes_compare(store_record_key(verify->last), key) < 0);
        verify->last = record;
        live += record_is_live(record);
    }
    CHECK(leaf->count <= INDEX_LEAF_SLOTS);
    CHECK(leaf->live == live);
    verify->keys += leaf->count;
    verify->memory_bytes += sizeof *leaf;
    return live;
}

static uint64_t verify_node(struct verify *verify, const void *node, unsigned height, const struct separator *low,
                            const struct separator *high)
{
    if (height == 0) {
        CHECK(((const struct index_leaf *)node)->count > 0);
        return verify_leaf(verify, node, low, high);
    }
    const struct index_inner *inner = node;
    CHECK(inner->count >= 2 && inner->count <= INDEX_INNER_SLOTS);
    CHECK(!inner->separators[0]);
    verify->memory_bytes += sizeof *inner;
    uint64_t live = 0;
    for (unsigned i = 0; i < inner->count; i++) {
        if (i > 0) {
            struct bytes separator = separator_bytes(inner->separators[i]);
            verify_bounds(separator, low, high, inner->prefix_bytes);
            CHECK(inner->hints[i] == hint_of(separator, inner->prefix_bytes));
            verify->memory_bytes += sizeof(struct separator) + separator.size;
        }
        uint64_t below = verify_node(verify, inner->children[i], height - 1, i > 0 ? inner->separators[i] : low,
                                     i + 1u < inner->count ? inner->separators[i + 1] : high);
        CHECK(inner->live[i] == below);
        live += below;
    }
    return live;
}

void index_verify(const struct index *index)
{
    struct verify verify = {.last = NULL};
    uint64_t live = index->height == 0 ? verify_leaf(&verify, index->root, NULL, NULL)
                                       : verify_node(&verify, index->root, index->height, NULL, NULL);
    CHECK(live == index->live);
    CHECK(verify.keys == index->keys);
    CHECK(verify.memory_bytes == index->memory_bytes);
}
