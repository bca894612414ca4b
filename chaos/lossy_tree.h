/*
 * lossy_tree.h - the names of lossyfs: directories whose changes last only once the directory was synced.
 *
 * Each directory has the names that everybody sees, the names that are durable, and between them its changes in order:
 * a creation, a removal, or a rename, which is one change. A name is what leads to a file: a file that was synced under a
 * name that wasn't is gone with the power.
 *
 * In the backing directory,
 *   durable/   mirrors the durable names at all times, and the files' durable contents: what the next loss of power leaves
 *   inodes/    the same files by number, and those that have no durable name (yet, or any more)
 *
 * Functions with an errno return 0 when all is well. Nodes belong to the tree; one lives as long as anything leads to it:
 * a name (seen, durable, or in a change), the kernel's look-ups, an open file.
 */
#ifndef CORACLE_CHAOS_LOSSY_TREE_H
#define CORACLE_CHAOS_LOSSY_TREE_H

#include "chaos/lossy_file.h"

#define LOSSY_ROOT 1u
#define LOSSY_PATH_BYTES 512u

struct lossy_node;

struct lossy_name {
    char *text;
    struct lossy_node *node;
    uint64_t cookie; /* its place in the directory: increases from name to name, and stays */
};

struct lossy_names {
    struct lossy_name *items;
    size_t count, capacity;
};

struct lossy_change; /* names that lead elsewhere than before, all at once */

struct lossy_node {
    uint64_t number; /* never used twice */
    bool directory;
    bool dead;    /* lost with the power; only the kernel still knows it */
    bool reached; /* of the collector */
    unsigned mode;
    uint64_t lookups, opens;
    char path[LOSSY_PATH_BYTES]; /* the last one that it was given, from the root */

    struct lossy_file file; /* unless it is a directory */
    uint64_t backing_inode;

    struct lossy_names seen, durable; /* of a directory, as is the rest */
    struct lossy_change *changes;
    size_t change_count;

    struct lossy_node *next;
};

struct lossy_tree {
    int backing, inodes; /* directories; owned */
    struct lossy_node *root, *nodes;
    uint64_t next_number, next_cookie;
};

/* Reads what is durable in the backing directory, which may be empty. Anything wrong there ends the program. */
void lossy_tree_init(struct lossy_tree *tree, const char *backing);
void lossy_tree_destroy(struct lossy_tree *tree);

struct lossy_node *lossy_tree_node(const struct lossy_tree *tree, uint64_t number);
/* By path from the root; NULL when there is none. */
struct lossy_node *lossy_tree_find(const struct lossy_tree *tree, const char *path);
struct lossy_node *lossy_names_find(const struct lossy_names *names, const char *text);

/* EEXIST, ENAMETOOLONG. */
int lossy_tree_create(struct lossy_tree *tree, struct lossy_node *parent, const char *text, bool directory,
                      unsigned mode, struct lossy_node **out);
/* ENOENT, ENOTDIR, EISDIR, ENOTEMPTY. */
int lossy_tree_remove(struct lossy_tree *tree, struct lossy_node *parent, const char *text, bool directory);
/* Of files, within one directory: ENOENT, EXDEV for what isn't. */
int lossy_tree_rename(struct lossy_tree *tree, struct lossy_node *from_parent, const char *from,
                      struct lossy_node *to_parent, const char *to);

void lossy_tree_sync_directory(struct lossy_tree *tree, struct lossy_node *directory);
/* All directories and files. */
void lossy_tree_sync_all(struct lossy_tree *tree);
/* The power goes, see lossy_file_lose. Of a directory's changes a beginning survives, or any subset. */
void lossy_tree_lose(struct lossy_tree *tree, struct random *luck, struct lossy_losses *losses);
/* Frees the nodes that nothing leads to. */
void lossy_tree_collect(struct lossy_tree *tree);
/* Bytes of all files that have a name. */
uint64_t lossy_tree_bytes(const struct lossy_tree *tree);

#endif
