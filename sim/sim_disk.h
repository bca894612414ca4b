/*
 * sim_disk.h - port/disk.h over simulated sectors: one node's disk, and what a crash leaves of it.
 *
 * What a program writes is in the cache until it is synced. The device holds, for each sector of SIM_SECTOR_BYTES, what the
 * last sync put there. A loss of power decides for each unsynced sector by itself: it is there, it isn't, it has an older
 * unsynced content, or (rarely) it was cut inside. The size of a file, and creations, renames and removals in a directory
 * that wasn't synced, are lost or kept likewise. Directories themselves are durable at once, as os/disk.c makes them.
 *
 * When only the process ends, the cache stays: what wasn't synced is still readable, and still not durable.
 *
 * A sync that fails makes some of the sectors durable and forgets about the others: they stay in the cache, no later sync
 * writes them, and a DISK_UNCACHED read doesn't see them.
 *
 * Operations that change something are counted, so that a fault can be set for the k-th of them; so are those that only look
 * (open, read, size, list, free space). A write that fails got some way; so did one that met the end of the disk.
 *
 * Damage, which comes behind the file system's back, is in sim_damage.h; a sector that can't be read fails every read of it
 * until it is written again.
 */
#ifndef CORACLE_SIM_DISK_H
#define CORACLE_SIM_DISK_H

#include "port/disk.h"
#include "sim/sim_world.h"

#define SIM_SECTOR_BYTES 512u
#define SIM_PAGE_BYTES 4096u
#define SIM_PAGE_SECTORS (SIM_PAGE_BYTES / SIM_SECTOR_BYTES)

struct sim_inode;
struct sim_page;
struct sim_shadow;
struct sim_version;

struct sim_name {
    char *path;
    struct sim_inode *inode;
};

struct sim_names {
    struct sim_name *names; /* in the order of their bytes */
    uint32_t count, capacity;
};

struct sim_directory_change; /* a creation, renaming or removal that no sync covers */

struct sim_disk_counters {
    uint64_t operations, writes, syncs, power_losses;
    uint64_t sectors_lost, sectors_kept, sectors_older, sectors_cut; /* at losses of power, of unsynced ones */
    uint64_t directory_changes_lost, sizes_lost, failures;
    uint64_t looks, unreadable; /* operations that change nothing; reads that met an unreadable sector */
};

/* Called from within an operation; for damage that comes with a read or with a write. Each may be NULL. */
struct sim_disk_hooks {
    /* An operation fails as fail_at or fail_look_at says. */
    void (*failing)(void *user, unsigned node, const char *operation, const char *path, bool looks);
    /* What a read returns may be changed. */
    void (*reading)(void *user, unsigned node, const char *path, uint64_t offset, uint8_t *data, size_t size);
    /* A sync of the file begins: sim_damage_lose may come now. */
    void (*syncing)(void *user, unsigned node, const char *path);
};

struct sim_disk {
    struct disk disk; /* first: the port is cast to this */
    struct sim_world *world;
    unsigned node;
    struct random random;

    /* Faults. */
    uint64_t crash_at; /* when the count of operations reaches this, the power fails; 0: never */
    uint64_t fail_at;  /* likewise: this operation fails with fail_with */
    enum error fail_with;
    uint64_t fail_look_at;   /* likewise, of those that change nothing: ERR_IO */
    uint64_t capacity_bytes; /* 0: no limit */
    bool dead;               /* the power failed, or the process ended: every operation fails until the restart */
    void (*crashed)(void *user, unsigned node); /* crash_at was reached; called from within the operation */
    void *crashed_user;
    const struct sim_disk_hooks *hooks; /* NULL: none */
    void *hooks_user;

    struct sim_disk_counters counters;

    struct sim_names current, durable;
    char **directories;
    uint32_t directory_count, directory_capacity;
    struct sim_directory_change *changes, *last_change;
    struct sim_inode *inodes;
    struct disk_file *files;
    struct disk_lock *locks;
    struct sim_page *free_pages;
    struct sim_shadow *free_shadows;
    struct sim_version *free_versions;
};

void sim_disk_init(struct sim_disk *disk, struct sim_world *world, unsigned node);
void sim_disk_free(struct sim_disk *disk);

/* The process is about to go: operations fail from now on; closing still works. */
void sim_disk_kill(struct sim_disk *disk);
/* The process is gone. Open files are closed, locks end. With power_loss, the cache goes too. */
void sim_disk_restart(struct sim_disk *disk, bool power_loss);

/* An empty disk instead. No process may use it. */
void sim_disk_wipe(struct sim_disk *disk);

/* The file of that name; NULL: none. For sim_damage.c. */
struct sim_inode *sim_disk_find(const struct sim_disk *disk, const char *path);

/* Bytes that its files take. */
uint64_t sim_disk_used_bytes(const struct sim_disk *disk);
/* Whether something isn't durable yet. */
bool sim_disk_is_dirty(const struct sim_disk *disk);
/* Whether the file's contents and its name are all on the device; true when it isn't there. */
bool sim_disk_file_is_durable(const struct sim_disk *disk, const char *path);
/* Whether its first sector holds anything. */
bool sim_disk_file_is_used(const struct sim_disk *disk, const char *path);
/* What a loss of power would leave of the file at least: bytes from `offset` on; returns how many there are. */
size_t sim_disk_read_durable(const struct sim_disk *disk, const char *path, uint64_t offset, void *data, size_t size);
/* Calls `visit` with the path of each file whose path begins so, in the order of their bytes. */
void sim_disk_each_file(const struct sim_disk *disk, const char *prefix, void (*visit)(void *user, const char *path),
                        void *user);
/* Everything at once, as it were all synced. */
void sim_disk_sync_all(struct sim_disk *disk);

/* ---- the queue ---- */

struct sim_disk_queue {
    struct disk_queue queue; /* first */
    struct sim_disk *disk;
    struct random random;
    struct disk_job *urgent, **urgent_end;
    struct disk_job *normal, **normal_end;
    struct disk_job *running;
    struct disk_job *finished, **finished_end;
    struct sim_event run_event, done_event, held_event;
    time_ns latency_min, latency_max; /* of a job; one in a hundred takes up to ten times as long */
    time_ns stalled_until;
    time_ns normal_held_until; /* those that aren't urgent don't begin before */
    uint64_t jobs;
};

void sim_disk_queue_init(struct sim_disk_queue *queue, struct sim_disk *disk);
/* Jobs that aren't urgent wait until then; in the past: no longer. Not from within an event of the node's process. */
void sim_disk_queue_hold_normal(struct sim_disk_queue *queue, time_ns until);
/* The process is gone: jobs that wait never run, and nobody hears of those that ran. */
void sim_disk_queue_drop(struct sim_disk_queue *queue);
bool sim_disk_queue_idle(const struct sim_disk_queue *queue);

#endif
