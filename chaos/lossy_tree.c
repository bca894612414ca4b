#define _GNU_SOURCE 1
#include "chaos/lossy_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"

#define FILE_MODE 0600
#define DIRECTORY_MODE 0700
#define ASSIGNMENTS_MAX 2u

struct lossy_change {
    struct {
        char *text;              /* NULL: unused */
        struct lossy_node *node; /* NULL: the name is removed */
    } assign[ASSIGNMENTS_MAX];
};

/* ---- Names ---- */

static struct lossy_name *find_name(const struct lossy_names *names, const char *text)
{
    for (size_t i = 0; i < names->count; i++) {
        if (strcmp(names->items[i].text, text) == 0) return &names->items[i];
    }
    return NULL;
}

struct lossy_node *lossy_names_find(const struct lossy_names *names, const char *text)
{
    const struct lossy_name *name = find_name(names, text);
    return name == NULL ? NULL : name->node;
}

/* Lets the name lead to the node, or with NULL, nowhere. */
static void assign_name(struct lossy_tree *tree, struct lossy_names *names, const char *text, struct lossy_node *node)
{
    struct lossy_name *name = find_name(names, text);
    if (name != NULL && node == NULL) {
        mem_free(name->text);
        size_t after = names->count - (size_t)(name - names->items) - 1;
        memmove(name, name + 1, after * sizeof *name);
        names->count--;
    } else if (name != NULL) {
        name->node = node;
    } else if (node != NULL) {
        if (names->count == names->capacity) {
            names->capacity = names->capacity == 0 ? 16 : 2 * names->capacity;
            names->items = mem_realloc(names->items, names->capacity * sizeof *names->items);
        }
        names->items[names->count++] =
            (struct lossy_name){.text = mem_copy_string(text), .node = node, .cookie = ++tree->next_cookie};
    }
}

static void clear_names(struct lossy_names *names)
{
    for (size_t i = 0; i < names->count; i++) mem_free(names->items[i].text);
    mem_free(names->items);
    *names = (struct lossy_names){0};
}

static void copy_names(struct lossy_names *to, const struct lossy_names *from)
{
    clear_names(to);
    to->items = mem_alloc((from->count + 1) * sizeof *to->items);
    to->count = from->count;
    to->capacity = from->count + 1;
    for (size_t i = 0; i < from->count; i++) {
        to->items[i] = from->items[i];
        to->items[i].text = mem_copy_string(from->items[i].text);
    }
}

static struct lossy_change *add_change(struct lossy_node *directory)
{
    directory->changes = mem_realloc(directory->changes, (directory->change_count + 1) * sizeof(struct lossy_change));
    struct lossy_change *change = &directory->changes[directory->change_count++];
    *change = (struct lossy_change){0};
    return change;
}

static void change_name(struct lossy_tree *tree, struct lossy_node *directory, struct lossy_change *change,
                        unsigned place, const char *text, struct lossy_node *node)
{
    change->assign[place].text = mem_copy_string(text);
    change->assign[place].node = node;
    assign_name(tree, &directory->seen, text, node);
}

static void clear_changes(struct lossy_node *directory)
{
    for (size_t i = 0; i < directory->change_count; i++) {
        for (unsigned j = 0; j < ASSIGNMENTS_MAX; j++) mem_free(directory->changes[i].assign[j].text);
    }
    mem_free(directory->changes);
    directory->changes = NULL;
    directory->change_count = 0;
}

/* ---- Nodes ---- */

static void inode_name(uint64_t number, char *out, size_t capacity)
{
    snprintf(out, capacity, "%llu", (unsigned long long)number);
}

static int join_path(char *out, const struct lossy_node *parent, const char *text)
{
    int size = snprintf(out, LOSSY_PATH_BYTES, "%s/%s", parent->path, text);
    return size >= (int)LOSSY_PATH_BYTES ? ENAMETOOLONG : 0;
}

static struct lossy_node *add_node(struct lossy_tree *tree, bool directory, unsigned mode)
{
    struct lossy_node *node = mem_alloc_zero(sizeof *node);
    node->number = tree->next_number++;
    node->directory = directory;
    node->mode = mode;
    node->next = tree->nodes;
    tree->nodes = node;
    return node;
}

/* The file inodes/NUMBER is there, or is made. */
static void open_contents(struct lossy_tree *tree, struct lossy_node *node)
{
    char name[32];
    inode_name(node->number, name, sizeof name);
    int fd = openat(tree->inodes, name, O_RDWR | O_CREAT | O_CLOEXEC, FILE_MODE);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) != 0) lossy_die("opening a file under inodes/");
    node->backing_inode = status.st_ino;
    lossy_file_init(&node->file, fd);
}

static void free_node(struct lossy_tree *tree, struct lossy_node *node)
{
    if (node->directory) {
        clear_names(&node->seen);
        clear_names(&node->durable);
        clear_changes(node);
    } else {
        char name[32];
        inode_name(node->number, name, sizeof name);
        unlinkat(tree->inodes, name, 0);
        lossy_file_destroy(&node->file);
    }
    mem_free(node);
}

static void reach_names(const struct lossy_names *names);

static void reach(struct lossy_node *node)
{
    if (node == NULL || node->reached) return;
    node->reached = true;
    reach_names(&node->seen);
    reach_names(&node->durable);
    for (size_t i = 0; i < node->change_count; i++) {
        for (unsigned j = 0; j < ASSIGNMENTS_MAX; j++) reach(node->changes[i].assign[j].node);
    }
}

static void reach_names(const struct lossy_names *names)
{
    for (size_t i = 0; i < names->count; i++) reach(names->items[i].node);
}

void lossy_tree_collect(struct lossy_tree *tree)
{
    for (struct lossy_node *node = tree->nodes; node != NULL; node = node->next) node->reached = false;
    reach(tree->root);
    for (struct lossy_node *node = tree->nodes; node != NULL; node = node->next) {
        if (node->lookups > 0 || node->opens > 0) reach(node);
    }
    for (struct lossy_node **at = &tree->nodes; *at != NULL;) {
        struct lossy_node *node = *at;
        if (node->reached) {
            at = &node->next;
        } else {
            *at = node->next;
            free_node(tree, node);
        }
    }
}

struct lossy_node *lossy_tree_node(const struct lossy_tree *tree, uint64_t number)
{
    for (struct lossy_node *node = tree->nodes; node != NULL; node = node->next) {
        if (node->number == number) return node;
    }
    return NULL;
}

struct lossy_node *lossy_tree_find(const struct lossy_tree *tree, const char *path)
{
    struct lossy_node *node = tree->root;
    char copy[LOSSY_PATH_BYTES];
    if (strlen(path) >= sizeof copy) return NULL;
    strcpy(copy, path);
    char *rest = NULL;
    for (char *part = strtok_r(copy, "/", &rest); part != NULL && node != NULL; part = strtok_r(NULL, "/", &rest)) {
        node = lossy_names_find(&node->seen, part);
    }
    return node;
}

/* ---- The mirror of what is durable ---- */

static void remove_below(int parent, const char *name)
{
    if (unlinkat(parent, name, 0) == 0) return;
    if (errno != EISDIR && errno != EPERM) lossy_die("removing a file of the backing directory");
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (directory == NULL) lossy_die("opening a directory of the backing directory");
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            remove_below(dirfd(directory), entry->d_name);
        }
    }
    closedir(directory);
    if (unlinkat(parent, name, AT_REMOVEDIR) != 0) lossy_die("removing a directory of the backing directory");
}

static int make_and_open(int parent, const char *name)
{
    if (mkdirat(parent, name, DIRECTORY_MODE) != 0 && errno != EEXIST) lossy_die("making a backing directory");
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) lossy_die("opening a backing directory");
    return fd;
}

/* Whether what the mirror has under this name is what is durable. */
static bool is_mirrored(int parent, const char *name, const struct lossy_node *node)
{
    struct stat status;
    if (node == NULL || fstatat(parent, name, &status, AT_SYMLINK_NOFOLLOW) != 0) return false;
    if (node->directory) return S_ISDIR(status.st_mode);
    return S_ISREG(status.st_mode) && status.st_ino == node->backing_inode;
}

static void mirror(struct lossy_tree *tree, const struct lossy_node *directory, int fd)
{
    int listing = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *there = listing < 0 ? NULL : fdopendir(listing);
    if (there == NULL) lossy_die("listing a backing directory");
    for (struct dirent *entry; (entry = readdir(there)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (!is_mirrored(fd, entry->d_name, lossy_names_find(&directory->durable, entry->d_name))) {
            remove_below(fd, entry->d_name);
        }
    }
    closedir(there);

    for (size_t i = 0; i < directory->durable.count; i++) {
        const struct lossy_name *name = &directory->durable.items[i];
        if (name->node->directory) {
            int below = make_and_open(fd, name->text);
            mirror(tree, name->node, below);
            close(below);
        } else if (!is_mirrored(fd, name->text, name->node)) {
            char number[32];
            inode_name(name->node->number, number, sizeof number);
            if (linkat(tree->inodes, number, fd, name->text, 0) != 0) lossy_die("linking a durable file");
        }
    }
}

static void mirror_all(struct lossy_tree *tree)
{
    int fd = make_and_open(tree->backing, "durable");
    mirror(tree, tree->root, fd);
    close(fd);
}

static void read_directory(struct lossy_tree *tree, struct lossy_node *directory, int fd)
{
    DIR *there = fdopendir(fd);
    if (there == NULL) lossy_die("listing a backing directory");
    for (struct dirent *entry; (entry = readdir(there)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        struct stat status;
        if (fstatat(fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0) lossy_die("stat of a backing file");
        struct lossy_node *node = add_node(tree, S_ISDIR(status.st_mode), status.st_mode & 07777);
        if (join_path(node->path, directory, entry->d_name) != 0) lossy_die("a path that is too long");
        if (node->directory) {
            read_directory(tree, node, make_and_open(fd, entry->d_name));
        } else {
            char number[32];
            inode_name(node->number, number, sizeof number);
            if (linkat(fd, entry->d_name, tree->inodes, number, 0) != 0) lossy_die("linking a durable file");
            open_contents(tree, node);
        }
        assign_name(tree, &directory->durable, entry->d_name, node);
        assign_name(tree, &directory->seen, entry->d_name, node);
    }
    closedir(there);
}

void lossy_tree_init(struct lossy_tree *tree, const char *backing)
{
    *tree = (struct lossy_tree){.next_number = LOSSY_ROOT};
    tree->backing = make_and_open(AT_FDCWD, backing);
    struct stat status;
    if (fstatat(tree->backing, "inodes", &status, AT_SYMLINK_NOFOLLOW) == 0) remove_below(tree->backing, "inodes");
    tree->inodes = make_and_open(tree->backing, "inodes");
    tree->root = add_node(tree, true, DIRECTORY_MODE);
    tree->root->lookups = 1;
    read_directory(tree, tree->root, make_and_open(tree->backing, "durable"));
}

void lossy_tree_destroy(struct lossy_tree *tree)
{
    while (tree->nodes != NULL) {
        struct lossy_node *node = tree->nodes;
        tree->nodes = node->next;
        free_node(tree, node);
    }
    unlinkat(tree->backing, "inodes", AT_REMOVEDIR);
    close(tree->inodes);
    close(tree->backing);
}

/* ---- Changes ---- */

int lossy_tree_create(struct lossy_tree *tree, struct lossy_node *parent, const char *text, bool directory,
                      unsigned mode, struct lossy_node **out)
{
    if (lossy_names_find(&parent->seen, text) != NULL) return EEXIST;
    char path[LOSSY_PATH_BYTES];
    int error = join_path(path, parent, text);
    if (error != 0) return error;
    struct lossy_node *node = add_node(tree, directory, mode);
    memcpy(node->path, path, sizeof path);
    if (!directory) open_contents(tree, node);
    change_name(tree, parent, add_change(parent), 0, text, node);
    *out = node;
    return 0;
}

int lossy_tree_remove(struct lossy_tree *tree, struct lossy_node *parent, const char *text, bool directory)
{
    struct lossy_node *node = lossy_names_find(&parent->seen, text);
    if (node == NULL) return ENOENT;
    if (node->directory != directory) return directory ? ENOTDIR : EISDIR;
    if (node->seen.count > 0) return ENOTEMPTY;
    change_name(tree, parent, add_change(parent), 0, text, NULL);
    return 0;
}

int lossy_tree_rename(struct lossy_tree *tree, struct lossy_node *from_parent, const char *from,
                      struct lossy_node *to_parent, const char *to)
{
    struct lossy_node *node = lossy_names_find(&from_parent->seen, from);
    if (node == NULL) return ENOENT;
    struct lossy_node *replaced = lossy_names_find(&to_parent->seen, to);
    if (from_parent != to_parent || node->directory || (replaced != NULL && replaced->directory)) return EXDEV;
    if (node == replaced) return 0;
    int error = join_path(node->path, to_parent, to);
    if (error != 0) return error;
    struct lossy_change *change = add_change(to_parent);
    change_name(tree, to_parent, change, 0, from, NULL);
    change_name(tree, to_parent, change, 1, to, node);
    return 0;
}

void lossy_tree_sync_directory(struct lossy_tree *tree, struct lossy_node *directory)
{
    if (directory->change_count == 0) return;
    copy_names(&directory->durable, &directory->seen);
    clear_changes(directory);
    mirror_all(tree);
}

void lossy_tree_sync_all(struct lossy_tree *tree)
{
    for (struct lossy_node *node = tree->nodes; node != NULL; node = node->next) {
        if (node->dead) continue;
        if (node->directory) {
            copy_names(&node->durable, &node->seen);
            clear_changes(node);
        } else {
            lossy_file_sync(&node->file);
        }
    }
    mirror_all(tree);
}

/* ---- The power goes ---- */

static void lose_changes(struct lossy_tree *tree, struct lossy_node *directory, struct random *luck,
                         struct lossy_losses *losses)
{
    size_t end = directory->change_count;
    bool in_order = luck != NULL && random_chance(luck, 500);
    if (in_order) end = (size_t)random_between(luck, 0, end);
    for (size_t i = 0; i < directory->change_count; i++) {
        bool kept = luck != NULL && (in_order ? i < end : random_chance(luck, 500));
        losses->kept_changes += kept;
        losses->dropped_changes += !kept;
        if (!kept) continue;
        for (unsigned j = 0; j < ASSIGNMENTS_MAX; j++) {
            if (directory->changes[i].assign[j].text == NULL) continue;
            assign_name(tree, &directory->durable, directory->changes[i].assign[j].text,
                        directory->changes[i].assign[j].node);
        }
    }
    clear_changes(directory);
    copy_names(&directory->seen, &directory->durable);
}

static void lose_below(struct lossy_tree *tree, struct lossy_node *node, struct random *luck,
                       struct lossy_losses *losses)
{
    if (node->reached) return; /* a file with two names */
    node->reached = true;
    if (!node->directory) {
        lossy_file_lose(&node->file, luck, losses);
        return;
    }
    lose_changes(tree, node, luck, losses);
    for (size_t i = 0; i < node->durable.count; i++) {
        struct lossy_name *name = &node->durable.items[i];
        if (join_path(name->node->path, node, name->text) != 0) lossy_die("a path that is too long");
        lose_below(tree, name->node, luck, losses);
    }
}

void lossy_tree_lose(struct lossy_tree *tree, struct random *luck, struct lossy_losses *losses)
{
    for (struct lossy_node *node = tree->nodes; node != NULL; node = node->next) node->reached = false;
    lose_below(tree, tree->root, luck, losses);
    for (struct lossy_node *node = tree->nodes; node != NULL; node = node->next) {
        if (node->reached) continue;
        node->dead = true;
        if (node->directory) {
            losses->dropped_changes += node->change_count;
            clear_changes(node);
            clear_names(&node->seen);
            clear_names(&node->durable);
        } else {
            lossy_file_lose(&node->file, NULL, losses);
        }
    }
    mirror_all(tree);
    lossy_tree_collect(tree);
}

static uint64_t bytes_below(const struct lossy_node *node)
{
    if (!node->directory) return node->file.bytes;
    uint64_t bytes = 0;
    for (size_t i = 0; i < node->seen.count; i++) bytes += bytes_below(node->seen.items[i].node);
    return bytes;
}

uint64_t lossy_tree_bytes(const struct lossy_tree *tree)
{
    return bytes_below(tree->root);
}
