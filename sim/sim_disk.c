#include "sim/sim_inode.h"

#include "base/check.h"
#include "base/mem.h"

struct disk_file {
    struct sim_inode *inode;
    unsigned flags;
    char *path;
    struct disk_file *previous, *next;
};

struct disk_lock {
    char *path;
    struct disk_lock *previous, *next;
};

struct sim_directory_change {
    char *removed; /* NULL: none */
    char *added;   /* NULL: none */
    struct sim_inode *inode;
    struct sim_directory_change *next;
};

static struct sim_disk *of(struct disk *disk)
{
    return (struct sim_disk *)disk;
}

/* ---- names ---- */

static uint32_t names_place(const struct sim_names *names, const char *path)
{
    uint32_t low = 0, high = names->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (strcmp(names->names[middle].path, path) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static struct sim_inode *names_find(const struct sim_names *names, const char *path)
{
    uint32_t place = names_place(names, path);
    if (place == names->count || strcmp(names->names[place].path, path) != 0) return NULL;
    return names->names[place].inode;
}

static void names_remove(struct sim_disk *disk, struct sim_names *names, const char *path)
{
    uint32_t place = names_place(names, path);
    if (place == names->count || strcmp(names->names[place].path, path) != 0) return;
    struct sim_name name = names->names[place];
    names->count--;
    memmove(names->names + place, names->names + place + 1, (names->count - place) * sizeof *names->names);
    mem_free(name.path);
    sim_inode_unref(disk, name.inode, names == &disk->current);
}

static void names_set(struct sim_disk *disk, struct sim_names *names, const char *path, struct sim_inode *inode)
{
    sim_inode_ref(inode, names == &disk->current);
    names_remove(disk, names, path);
    if (names->count == names->capacity) {
        names->capacity = names->capacity == 0 ? 16 : names->capacity * 2;
        names->names = mem_realloc(names->names, names->capacity * sizeof *names->names);
    }
    uint32_t place = names_place(names, path);
    memmove(names->names + place + 1, names->names + place, (names->count - place) * sizeof *names->names);
    names->names[place] = (struct sim_name){.path = mem_copy_string(path), .inode = inode};
    names->count++;
}

static void names_free(struct sim_disk *disk, struct sim_names *names)
{
    while (names->count > 0) names_remove(disk, names, names->names[names->count - 1].path);
    mem_free(names->names);
    *names = (struct sim_names){0};
}

static size_t parent_bytes(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? 0 : (size_t)(slash - path);
}

static size_t trimmed_bytes(const char *path)
{
    size_t size = strlen(path);
    while (size > 1 && path[size - 1] == '/') size--;
    return size;
}

static bool is_in(const char *path, const char *directory, size_t directory_bytes)
{
    return parent_bytes(path) == directory_bytes && memcmp(path, directory, directory_bytes) == 0;
}

static bool has_directory(const struct sim_disk *disk, const char *path, size_t size)
{
    if (size == 0 || (size == 1 && path[0] == '/')) return true;
    for (uint32_t i = 0; i < disk->directory_count; i++) {
        if (strlen(disk->directories[i]) == size && memcmp(disk->directories[i], path, size) == 0) return true;
    }
    return false;
}

static void change_add(struct sim_disk *disk, const char *removed, const char *added, struct sim_inode *inode)
{
    struct sim_directory_change *change = mem_alloc_zero(sizeof *change);
    change->removed = removed == NULL ? NULL : mem_copy_string(removed);
    change->added = added == NULL ? NULL : mem_copy_string(added);
    change->inode = inode;
    sim_inode_ref(inode, false);
    if (disk->last_change == NULL) {
        disk->changes = change;
    } else {
        disk->last_change->next = change;
    }
    disk->last_change = change;
}

static void change_apply(struct sim_disk *disk, struct sim_directory_change *change)
{
    if (change->removed != NULL) names_remove(disk, &disk->durable, change->removed);
    if (change->added != NULL) names_set(disk, &disk->durable, change->added, change->inode);
}

static void change_free(struct sim_disk *disk, struct sim_directory_change *change)
{
    sim_inode_unref(disk, change->inode, false);
    mem_free(change->removed);
    mem_free(change->added);
    mem_free(change);
}

static void changes_sync(struct sim_disk *disk, const char *directory, size_t directory_bytes)
{
    struct sim_directory_change *left = NULL, **left_end = &left, *last = NULL;
    for (struct sim_directory_change *change = disk->changes, *next; change != NULL; change = next) {
        next = change->next;
        bool covered = directory == NULL ||
                       (change->added != NULL && is_in(change->added, directory, directory_bytes)) ||
                       (change->removed != NULL && is_in(change->removed, directory, directory_bytes));
        if (covered) {
            change_apply(disk, change);
            change_free(disk, change);
        } else {
            *left_end = last = change;
            left_end = &change->next;
            change->next = NULL;
        }
    }
    disk->changes = left;
    disk->last_change = last;
}

/* ---- operations ---- */

__attribute__((format(printf, 3, 4))) static enum error fail(struct sim_disk *disk, enum error error,
                                                             const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(disk->disk.error_text, sizeof disk->disk.error_text, format, arguments);
    va_end(arguments);
    return error;
}

/* What becomes of an operation that changes something. */
enum fate { FATE_HAPPENS, FATE_FAILS, FATE_CRASH_BEFORE, FATE_CRASH_AFTER };

static enum fate fate_of(struct sim_disk *disk, const char *operation, const char *path, uint64_t offset, uint64_t size)
{
    uint64_t number = ++disk->counters.operations;
    if (disk->world->trace != NULL) {
        sim_world_note(disk->world, disk->node, "disk: %s %s %llu+%llu", operation, path, (unsigned long long)offset,
                       (unsigned long long)size);
    }
    if (disk->crash_at != 0 && number >= disk->crash_at) {
        disk->crash_at = 0;
        return random_chance(&disk->random, 500) ? FATE_CRASH_BEFORE : FATE_CRASH_AFTER;
    }
    if (disk->fail_at != 0 && number >= disk->fail_at) {
        disk->fail_at = 0;
        disk->counters.failures++;
        sim_world_note(disk->world, disk->node, "disk: operation %llu fails", (unsigned long long)number);
        return FATE_FAILS;
    }
    return FATE_HAPPENS;
}

/* Whether an operation that changes nothing fails. */
static bool look_fails(struct sim_disk *disk)
{
    uint64_t number = ++disk->counters.looks;
    if (disk->fail_look_at == 0 || number < disk->fail_look_at) return false;
    disk->fail_look_at = 0;
    disk->counters.failures++;
    sim_world_note(disk->world, disk->node, "disk: look %llu fails", (unsigned long long)number);
    return true;
}

static void tell_failing(const struct sim_disk *disk, const char *operation, const char *path, bool looks)
{
    if (disk->hooks == NULL || disk->hooks->failing == NULL) return;
    disk->hooks->failing(disk->hooks_user, disk->node, operation, path, looks);
}

static enum error look_failed(struct sim_disk *disk, const char *operation, const char *path)
{
    tell_failing(disk, operation, path, true);
    return fail(disk, ERR_IO, "%s %s: Input/output error (injected)", operation, path);
}

static enum error crash(struct sim_disk *disk, const char *operation, const char *path)
{
    sim_world_note(disk->world, disk->node, "disk: power fails at %s %s", operation, path);
    disk->dead = true;
    if (disk->crashed != NULL) disk->crashed(disk->crashed_user, disk->node);
    return fail(disk, ERR_IO, "%s %s: Input/output error (the power failed)", operation, path);
}

static enum error dead(struct sim_disk *disk, const char *operation, const char *path)
{
    return fail(disk, ERR_IO, "%s %s: Input/output error (no power)", operation, path);
}

static enum error injected(struct sim_disk *disk, const char *operation, const char *path)
{
    enum error error = disk->fail_with == ERR_OK ? ERR_IO : disk->fail_with;
    tell_failing(disk, operation, path, false);
    return fail(disk, error, "%s %s: %s (injected)", operation, path,
                error == ERR_NO_SPACE ? "No space left on device" : "Input/output error");
}

static enum error operation_open(struct disk *port, const char *path, unsigned flags, struct disk_file **out)
{
    struct sim_disk *disk = of(port);
    *out = NULL;
    if (disk->dead) return dead(disk, "open", path);
    if (has_directory(disk, path, strlen(path))) return fail(disk, ERR_IO, "open %s: Is a directory", path);
    struct sim_inode *inode = names_find(&disk->current, path);
    if (inode != NULL && (flags & DISK_CREATE) && (flags & DISK_EXCLUSIVE)) {
        return fail(disk, ERR_EXISTS, "open %s: File exists", path);
    }
    if (inode == NULL) {
        if (!(flags & DISK_CREATE) || !has_directory(disk, path, parent_bytes(path))) {
            return fail(disk, ERR_NO_FILE, "open %s: No such file or directory", path);
        }
        enum fate fate = fate_of(disk, "open", path, 0, 0);
        if (fate == FATE_CRASH_BEFORE) return crash(disk, "open", path);
        if (fate == FATE_FAILS) return injected(disk, "open", path);
        inode = sim_inode_new(disk);
        names_set(disk, &disk->current, path, inode);
        change_add(disk, NULL, path, inode);
        if (fate == FATE_CRASH_AFTER) return crash(disk, "open", path);
    }
    if (look_fails(disk)) return look_failed(disk, "open", path);
    struct disk_file *file = mem_alloc_zero(sizeof *file);
    file->inode = inode;
    file->flags = flags;
    file->path = mem_copy_string(path);
    file->next = disk->files;
    if (disk->files != NULL) disk->files->previous = file;
    disk->files = file;
    sim_inode_ref(inode, true);
    *out = file;
    return ERR_OK;
}

static void operation_close(struct disk *port, struct disk_file *file)
{
    struct sim_disk *disk = of(port);
    if (file->previous != NULL) file->previous->next = file->next;
    if (file->next != NULL) file->next->previous = file->previous;
    if (disk->files == file) disk->files = file->next;
    sim_inode_unref(disk, file->inode, true);
    mem_free(file->path);
    mem_free(file);
}

static enum error operation_size(struct disk *port, struct disk_file *file, uint64_t *out)
{
    if (of(port)->dead) return dead(of(port), "stat", file->path);
    if (look_fails(of(port))) return look_failed(of(port), "stat", file->path);
    *out = file->inode->size;
    return ERR_OK;
}

static enum error operation_read(struct disk *port, struct disk_file *file, uint64_t offset, void *data, size_t size,
                                 size_t *got)
{
    struct sim_disk *disk = of(port);
    *got = 0;
    if (disk->dead) return dead(disk, "read", file->path);
    if (look_fails(disk)) return look_failed(disk, "read", file->path);
    CHECK(file->flags & DISK_READ);
    bool uncached = file->flags & DISK_UNCACHED;
    if (uncached) {
        CHECK(offset % DISK_ALIGNMENT == 0 && size % DISK_ALIGNMENT == 0 && (uintptr_t)data % DISK_ALIGNMENT == 0);
    }
    const struct sim_inode *inode = file->inode;
    if (offset >= inode->size) return ERR_OK;
    if (size > inode->size - offset) size = (size_t)(inode->size - offset);
    if (sim_inode_is_unreadable(inode, offset, size)) {
        disk->counters.unreadable++;
        return fail(disk, ERR_IO, "read %s: Input/output error (unreadable sector)", file->path);
    }
    sim_inode_read(inode, uncached, offset, data, size);
    if (disk->hooks != NULL && disk->hooks->reading != NULL)
        disk->hooks->reading(disk->hooks_user, disk->node, file->path, offset, data, size);
    *got = size;
    return ERR_OK;
}

/* How far the file may grow. */
static bool has_room(const struct sim_disk *disk, const struct sim_inode *inode, uint64_t size)
{
    if (disk->capacity_bytes == 0 || size <= inode->size) return true;
    return sim_disk_used_bytes(disk) + (size - inode->size) <= disk->capacity_bytes;
}

static enum error operation_write(struct disk *port, struct disk_file *file, uint64_t offset, const void *data,
                                  size_t size)
{
    struct sim_disk *disk = of(port);
    if (disk->dead) return dead(disk, "write", file->path);
    CHECK(file->flags & DISK_WRITE);
    struct sim_inode *inode = file->inode;
    enum fate fate = fate_of(disk, "write", file->path, offset, size);
    bool full = fate == FATE_HAPPENS && !has_room(disk, inode, offset + size);
    if (full && offset >= inode->size) {
        return fail(disk, ERR_NO_SPACE, "write %s: No space left on device", file->path);
    }
    /* A write that fails, or is under way as the power fails, got some way. */
    size_t part = size;
    if (full) part = (size_t)(inode->size - offset);
    if (fate != FATE_HAPPENS && size > 0) part = (size_t)random_below(&disk->random, size + 1);
    disk->counters.writes++;
    sim_world_fold_bytes(disk->world, data, size < 64 ? size : 64);
    bool aligned = offset % DISK_ALIGNMENT == 0 && size % DISK_ALIGNMENT == 0 && (uintptr_t)data % DISK_ALIGNMENT == 0;
    if ((file->flags & DISK_UNCACHED) && aligned) sim_inode_drop_forgotten(inode, offset, size);
    if (part > 0) {
        sim_inode_write(disk, inode, offset, data, part);
        if (offset + part > inode->size) inode->size = offset + part;
    }
    if (fate == FATE_CRASH_BEFORE || fate == FATE_CRASH_AFTER) return crash(disk, "write", file->path);
    if (fate == FATE_FAILS) return injected(disk, "write", file->path);
    if (full) return fail(disk, ERR_NO_SPACE, "write %s: No space left on device", file->path);
    return ERR_OK;
}

static enum error operation_sync(struct disk *port, struct disk_file *file)
{
    struct sim_disk *disk = of(port);
    if (disk->dead) return dead(disk, "fdatasync", file->path);
    enum fate fate = fate_of(disk, "fdatasync", file->path, 0, 0);
    if (fate == FATE_CRASH_BEFORE) return crash(disk, "fdatasync", file->path);
    disk->counters.syncs++;
    if (disk->hooks != NULL && disk->hooks->syncing != NULL)
        disk->hooks->syncing(disk->hooks_user, disk->node, file->path);
    sim_inode_sync(disk, file->inode, fate == FATE_FAILS);
    if (fate == FATE_FAILS) return injected(disk, "fdatasync", file->path);
    if (fate == FATE_CRASH_AFTER) return crash(disk, "fdatasync", file->path);
    return ERR_OK;
}

static enum error operation_truncate(struct disk *port, struct disk_file *file, uint64_t size)
{
    struct sim_disk *disk = of(port);
    if (disk->dead) return dead(disk, "ftruncate", file->path);
    CHECK(file->flags & DISK_WRITE);
    struct sim_inode *inode = file->inode;
    enum fate fate = fate_of(disk, "ftruncate", file->path, size, 0);
    if (fate == FATE_CRASH_BEFORE) return crash(disk, "ftruncate", file->path);
    if (fate == FATE_FAILS) return injected(disk, "ftruncate", file->path);
    if (!has_room(disk, inode, size)) {
        return fail(disk, ERR_NO_SPACE, "ftruncate %s: No space left on device", file->path);
    }
    if (size < inode->size) sim_inode_write(disk, inode, size, NULL, inode->size - size);
    inode->size = size;
    if (fate == FATE_CRASH_AFTER) return crash(disk, "ftruncate", file->path);
    return ERR_OK;
}

static enum error operation_sync_directory(struct disk *port, const char *path)
{
    struct sim_disk *disk = of(port);
    if (disk->dead) return dead(disk, "fsync", path);
    if (!has_directory(disk, path, trimmed_bytes(path))) {
        return fail(disk, ERR_NO_FILE, "fsync %s: No such file or directory", path);
    }
    enum fate fate = fate_of(disk, "fsync", path, 0, 0);
    if (fate == FATE_CRASH_BEFORE) return crash(disk, "fsync", path);
    if (fate == FATE_FAILS) return injected(disk, "fsync", path);
    changes_sync(disk, path, trimmed_bytes(path));
    if (fate == FATE_CRASH_AFTER) return crash(disk, "fsync", path);
    return ERR_OK;
}

static enum error operation_rename(struct disk *port, const char *from, const char *to)
{
    struct sim_disk *disk = of(port);
    if (disk->dead) return dead(disk, "rename", from);
    struct sim_inode *inode = names_find(&disk->current, from);
    if (inode == NULL) return fail(disk, ERR_NO_FILE, "rename %s: No such file or directory", from);
    enum fate fate = fate_of(disk, "rename", to, 0, 0);
    if (fate == FATE_CRASH_BEFORE) return crash(disk, "rename", from);
    if (fate == FATE_FAILS) return injected(disk, "rename", from);
    if (strcmp(from, to) != 0) {
        sim_inode_ref(inode, false);
        names_set(disk, &disk->current, to, inode);
        names_remove(disk, &disk->current, from);
        change_add(disk, from, to, inode);
        sim_inode_unref(disk, inode, false);
    }
    if (fate == FATE_CRASH_AFTER) return crash(disk, "rename", from);
    return ERR_OK;
}

static enum error operation_remove(struct disk *port, const char *path)
{
    struct sim_disk *disk = of(port);
    if (disk->dead) return dead(disk, "unlink", path);
    struct sim_inode *inode = names_find(&disk->current, path);
    if (inode == NULL) return fail(disk, ERR_NO_FILE, "unlink %s: No such file or directory", path);
    enum fate fate = fate_of(disk, "unlink", path, 0, 0);
    if (fate == FATE_CRASH_BEFORE) return crash(disk, "unlink", path);
    if (fate == FATE_FAILS) return injected(disk, "unlink", path);
    change_add(disk, path, NULL, inode);
    names_remove(disk, &disk->current, path);
    if (fate == FATE_CRASH_AFTER) return crash(disk, "unlink", path);
    return ERR_OK;
}

static enum error operation_make_directories(struct disk *port, const char *path)
{
    struct sim_disk *disk = of(port);
    if (disk->dead) return dead(disk, "mkdir", path);
    size_t size = trimmed_bytes(path);
    for (size_t end = 1; end <= size; end++) {
        if (end < size && path[end] != '/') continue;
        if (has_directory(disk, path, end)) continue;
        char *directory = mem_alloc(end + 1);
        memcpy(directory, path, end);
        directory[end] = 0;
        if (names_find(&disk->current, directory) != NULL) {
            mem_free(directory);
            return fail(disk, ERR_EXISTS, "mkdir %s: File exists", path);
        }
        if (disk->directory_count == disk->directory_capacity) {
            disk->directory_capacity = disk->directory_capacity == 0 ? 8 : disk->directory_capacity * 2;
            disk->directories = mem_realloc(disk->directories, disk->directory_capacity * sizeof *disk->directories);
        }
        disk->directories[disk->directory_count++] = directory;
    }
    return ERR_OK;
}

static enum error operation_list(struct disk *port, const char *path, void (*visit)(void *user, const char *name),
                                 void *user)
{
    struct sim_disk *disk = of(port);
    if (disk->dead) return dead(disk, "opendir", path);
    if (look_fails(disk)) return look_failed(disk, "opendir", path);
    size_t size = trimmed_bytes(path);
    if (!has_directory(disk, path, size)) return fail(disk, ERR_NO_FILE, "opendir %s: No such file or directory", path);
    /* The visitor may rename and remove; so the names are copied first. */
    struct sim_names found = {0};
    for (uint32_t i = 0; i < disk->current.count; i++) {
        if (is_in(disk->current.names[i].path, path, size))
            names_set(disk, &found, disk->current.names[i].path, disk->current.names[i].inode);
    }
    for (uint32_t i = 0; i < found.count; i++) visit(user, strrchr(found.names[i].path, '/') + 1);
    names_free(disk, &found);
    return ERR_OK;
}

static bool operation_is_directory(struct disk *port, const char *path)
{
    return !of(port)->dead && has_directory(of(port), path, trimmed_bytes(path));
}

static enum error operation_lock(struct disk *port, const char *path, struct disk_lock **out)
{
    struct sim_disk *disk = of(port);
    *out = NULL;
    if (disk->dead) return dead(disk, "lock", path);
    if (!has_directory(disk, path, parent_bytes(path))) {
        return fail(disk, ERR_NO_FILE, "lock %s: No such file or directory", path);
    }
    for (struct disk_lock *lock = disk->locks; lock != NULL; lock = lock->next) {
        if (strcmp(lock->path, path) == 0) return fail(disk, ERR_LOCKED, "lock %s: held by another process", path);
    }
    struct disk_lock *lock = mem_alloc_zero(sizeof *lock);
    lock->path = mem_copy_string(path);
    lock->next = disk->locks;
    if (disk->locks != NULL) disk->locks->previous = lock;
    disk->locks = lock;
    *out = lock;
    return ERR_OK;
}

static void operation_unlock(struct disk *port, struct disk_lock *lock)
{
    struct sim_disk *disk = of(port);
    if (lock->previous != NULL) lock->previous->next = lock->next;
    if (lock->next != NULL) lock->next->previous = lock->previous;
    if (disk->locks == lock) disk->locks = lock->next;
    mem_free(lock->path);
    mem_free(lock);
}

static enum error operation_free_space(struct disk *port, const char *path, uint64_t *out)
{
    struct sim_disk *disk = of(port);
    if (disk->dead) return dead(disk, "statvfs", path);
    if (look_fails(disk)) return look_failed(disk, "statvfs", path);
    uint64_t used = sim_disk_used_bytes(disk);
    uint64_t capacity = disk->capacity_bytes == 0 ? UINT64_C(1) << 40 : disk->capacity_bytes;
    *out = used < capacity ? capacity - used : 0;
    return ERR_OK;
}

static const struct disk_operations operations = {
    .open = operation_open,
    .close = operation_close,
    .size = operation_size,
    .read = operation_read,
    .write = operation_write,
    .sync = operation_sync,
    .truncate = operation_truncate,
    .sync_directory = operation_sync_directory,
    .rename = operation_rename,
    .remove = operation_remove,
    .make_directories = operation_make_directories,
    .list = operation_list,
    .is_directory = operation_is_directory,
    .lock = operation_lock,
    .unlock = operation_unlock,
    .free_space = operation_free_space,
};

/* ---- the machine around it ---- */

void sim_disk_init(struct sim_disk *disk, struct sim_world *world, unsigned node)
{
    *disk = (struct sim_disk){.disk.operations = &operations, .world = world, .node = node};
    sim_world_random(world, "disk", node, &disk->random);
}

void sim_disk_kill(struct sim_disk *disk)
{
    disk->dead = true;
    disk->crash_at = 0;
    disk->fail_at = 0;
    disk->fail_look_at = 0;
}

void sim_disk_restart(struct sim_disk *disk, bool power_loss)
{
    while (disk->files != NULL) operation_close(&disk->disk, disk->files);
    while (disk->locks != NULL) operation_unlock(&disk->disk, disk->locks);
    disk->dead = false;
    disk->crash_at = 0;
    disk->fail_at = 0;
    disk->fail_look_at = 0;
    if (!power_loss) return;
    disk->counters.power_losses++;
    static const unsigned survivals[] = {0, 200, 500, 500, 800, 1000};
    unsigned survival = survivals[random_below(&disk->random, ARRAY_COUNT(survivals))];
    for (struct sim_inode *inode = disk->inodes; inode != NULL; inode = inode->next) {
        sim_inode_power_loss(disk, inode, survival);
    }
    while (disk->changes != NULL) {
        struct sim_directory_change *change = disk->changes;
        disk->changes = change->next;
        if (random_chance(&disk->random, survival)) {
            change_apply(disk, change);
        } else {
            disk->counters.directory_changes_lost++;
        }
        change_free(disk, change);
    }
    disk->last_change = NULL;
    while (disk->current.count > 0) names_remove(disk, &disk->current, disk->current.names[0].path);
    for (uint32_t i = 0; i < disk->durable.count; i++) {
        names_set(disk, &disk->current, disk->durable.names[i].path, disk->durable.names[i].inode);
    }
}

void sim_disk_wipe(struct sim_disk *disk)
{
    CHECK(disk->files == NULL && disk->locks == NULL);
    while (disk->changes != NULL) {
        struct sim_directory_change *change = disk->changes;
        disk->changes = change->next;
        change_free(disk, change);
    }
    disk->last_change = NULL;
    names_free(disk, &disk->current);
    names_free(disk, &disk->durable);
    CHECK(disk->inodes == NULL);
    for (uint32_t i = 0; i < disk->directory_count; i++) mem_free(disk->directories[i]);
    disk->directory_count = 0;
}

struct sim_inode *sim_disk_find(const struct sim_disk *disk, const char *path)
{
    return names_find(&disk->current, path);
}

uint64_t sim_disk_used_bytes(const struct sim_disk *disk)
{
    uint64_t used = 0;
    for (const struct sim_inode *inode = disk->inodes; inode != NULL; inode = inode->next) {
        if (inode->links > 0) used += (inode->size + SIM_PAGE_BYTES - 1) / SIM_PAGE_BYTES * SIM_PAGE_BYTES;
    }
    return used;
}

bool sim_disk_is_dirty(const struct sim_disk *disk)
{
    if (disk->changes != NULL) return true;
    for (const struct sim_inode *inode = disk->inodes; inode != NULL; inode = inode->next) {
        if (inode->shadows != NULL || inode->size != inode->durable_size) return true;
    }
    return false;
}

bool sim_disk_file_is_durable(const struct sim_disk *disk, const char *path)
{
    const struct sim_inode *inode = names_find(&disk->current, path);
    if (inode == NULL) return true;
    if (names_find(&disk->durable, path) != inode || inode->size != inode->durable_size) return false;
    for (const struct sim_shadow *shadow = inode->shadows; shadow != NULL; shadow = shadow->next) {
        if (shadow->dirty != 0) return false;
    }
    return true;
}

bool sim_disk_file_is_used(const struct sim_disk *disk, const char *path)
{
    const struct sim_inode *inode = names_find(&disk->current, path);
    if (inode == NULL || inode->page_count == 0 || inode->pages[0] == NULL) return false;
    return !sim_bytes_are_zero(inode->pages[0]->data, SIM_SECTOR_BYTES);
}

size_t sim_disk_read_durable(const struct sim_disk *disk, const char *path, uint64_t offset, void *data, size_t size)
{
    const struct sim_inode *inode = names_find(&disk->durable, path);
    if (inode == NULL || offset >= inode->durable_size) return 0;
    if (size > inode->durable_size - offset) size = (size_t)(inode->durable_size - offset);
    for (size_t at = 0, part; at < size; at += part) {
        uint64_t number = (offset + at) / SIM_PAGE_BYTES;
        size_t in_page = (size_t)((offset + at) % SIM_PAGE_BYTES);
        part = SIM_PAGE_BYTES - in_page < size - at ? SIM_PAGE_BYTES - in_page : size - at;
        const struct sim_page *page = number < inode->page_count ? inode->pages[number] : NULL;
        if (page == NULL) {
            memset((uint8_t *)data + at, 0, part);
        } else {
            memcpy((uint8_t *)data + at, (page->shadow == NULL ? page->data : page->shadow->durable) + in_page, part);
        }
    }
    return size;
}

void sim_disk_each_file(const struct sim_disk *disk, const char *prefix, void (*visit)(void *user, const char *path),
                        void *user)
{
    for (uint32_t i = 0; i < disk->current.count; i++) {
        const char *path = disk->current.names[i].path;
        if (strncmp(path, prefix, strlen(prefix)) == 0) visit(user, path);
    }
}

void sim_disk_sync_all(struct sim_disk *disk)
{
    for (struct sim_inode *inode = disk->inodes; inode != NULL; inode = inode->next) sim_inode_sync(disk, inode, false);
    changes_sync(disk, NULL, 0);
}

void sim_disk_free(struct sim_disk *disk)
{
    while (disk->files != NULL) operation_close(&disk->disk, disk->files);
    while (disk->locks != NULL) operation_unlock(&disk->disk, disk->locks);
    sim_disk_wipe(disk);
    mem_free(disk->directories);
    while (disk->free_pages != NULL) {
        struct sim_page *page = disk->free_pages;
        disk->free_pages = page->next_free;
        mem_free(page);
    }
    while (disk->free_shadows != NULL) {
        struct sim_shadow *shadow = disk->free_shadows;
        disk->free_shadows = shadow->next;
        mem_free(shadow);
    }
    while (disk->free_versions != NULL) {
        struct sim_version *version = disk->free_versions;
        disk->free_versions = version->next;
        mem_free(version);
    }
}
