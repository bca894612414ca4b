/*
 * sim_inode.h - the contents of one simulated file: what the cache holds, what the device holds, and what may become of
 * the difference.
 *
 * Each page of the cache has a shadow where the device differs, or may. A sector of it is *dirty*: the next sync writes it;
 * or *forgotten*: the cache shows one thing, the device has another, and nothing will reconcile them but a new write. A
 * failed sync, a write that got lost, and damage under a cached page all leave forgotten sectors.
 *
 * For sim_disk.c and sim_damage.c; what a disk does as a whole is in sim_disk.h.
 */
#ifndef CORACLE_SIM_INODE_H
#define CORACLE_SIM_INODE_H

#include "sim/sim_disk.h"

/* What the cache holds of 4096 bytes. A page that isn't there is all zero, in the cache and on the device. */
struct sim_page {
    uint8_t data[SIM_PAGE_BYTES];
    struct sim_shadow *shadow; /* NULL: the device holds the same */
    struct sim_page *next_free;
};

/* What the device holds where the cache differs, or may. */
struct sim_shadow {
    uint8_t durable[SIM_PAGE_BYTES];
    struct sim_version *versions; /* newest first */
    uint64_t page_number;
    uint8_t dirty;     /* by sector: the next sync writes it */
    uint8_t forgotten; /* by sector: the device holds something else, and no sync will change that */
    struct sim_shadow *next;
};

/* An unsynced content that another one replaced. */
struct sim_version {
    uint8_t data[SIM_SECTOR_BYTES];
    uint32_t sector;
    struct sim_version *next;
};

struct sim_inode {
    struct sim_page **pages;
    uint64_t page_count;
    uint64_t size, durable_size;
    struct sim_shadow *shadows;
    uint64_t *unreadable; /* sectors that the device can't read, until they are written */
    uint32_t unreadable_count, unreadable_capacity;
    uint32_t references; /* names, durable names, open files, changes */
    uint32_t links;      /* names and open files: what takes room */
    struct sim_inode *previous, *next;
};

bool sim_bytes_are_zero(const uint8_t *data, size_t size);

struct sim_inode *sim_inode_new(struct sim_disk *disk);
void sim_inode_ref(struct sim_inode *inode, bool link);
/* Frees it with the last reference. */
void sim_inode_unref(struct sim_disk *disk, struct sim_inode *inode, bool link);

/* Puts bytes into the cache; NULL data: zeros. The size is the caller's. */
void sim_inode_write(struct sim_disk *disk, struct sim_inode *inode, uint64_t offset, const uint8_t *data,
                     uint64_t size);
/* What the cache shows; or, uncached, what the device has where no sync is owed. Within the size. */
void sim_inode_read(const struct sim_inode *inode, bool uncached, uint64_t offset, uint8_t *data, size_t size);
/* A sync that returned, or one that failed: then each sector is written or forgotten by chance. */
void sim_inode_sync(struct sim_disk *disk, struct sim_inode *inode, bool failed);
/* What a write past the cache does to pages that hold what the device doesn't: they are dropped. */
void sim_inode_drop_forgotten(struct sim_inode *inode, uint64_t offset, uint64_t size);
/* The loss of power. `survival` is the chance per mille of each unsynced sector. */
void sim_inode_power_loss(struct sim_disk *disk, struct sim_inode *inode, unsigned survival);

/* Whether a part of this can't be read. */
bool sim_inode_is_unreadable(const struct sim_inode *inode, uint64_t offset, uint64_t size);
void sim_inode_set_unreadable(struct sim_inode *inode, uint64_t sector);

/* What the device has, synced or not: SIM_SECTOR_BYTES. */
void sim_inode_device_read(const struct sim_inode *inode, uint64_t sector, uint8_t *out);
/* Changes what the device has, behind the back of the file system. With `cached`, a clean page of the cache goes on to
   show what was there before. */
void sim_inode_device_write(struct sim_disk *disk, struct sim_inode *inode, uint64_t sector, const uint8_t *content,
                            bool cached);
bool sim_inode_is_dirty(const struct sim_inode *inode, uint64_t sector);
/* The write of this dirty sector gets lost on its way: the next sync will return, and won't have written it. */
void sim_inode_lose(struct sim_inode *inode, uint64_t sector);

#endif
