/*
 * sim_damage.h - what happens to sectors of a device behind the file system's back: rot, misdirected and lost writes,
 * sectors that can't be read.
 *
 * By path and sector, on the names that are there now. Damage is on the device: a page of the cache may go on to show what was
 * there before, until the power fails or the page is read past the cache. Whether damage may come is not decided here
 * (sim_keeper.h).
 */
#ifndef CORACLE_SIM_DAMAGE_H
#define CORACLE_SIM_DAMAGE_H

#include "sim/sim_disk.h"

/* Sectors that the file has, a begun one too; 0 when it isn't there. */
uint64_t sim_damage_sectors(const struct sim_disk *disk, const char *path);
/* What the device has there, SIM_SECTOR_BYTES; false when there is no such sector. */
bool sim_damage_read(const struct sim_disk *disk, const char *path, uint64_t sector, uint8_t *out);
/* What the cache shows there. */
bool sim_damage_read_cached(const struct sim_disk *disk, const char *path, uint64_t sector, uint8_t *out);
/* Puts other bytes there. With `cached`, the cache still shows the old ones. */
void sim_damage_write(struct sim_disk *disk, const char *path, uint64_t sector, const uint8_t *content, bool cached);
/* Reads of it fail until it is written. */
void sim_damage_make_unreadable(struct sim_disk *disk, const char *path, uint64_t sector);
bool sim_damage_is_unreadable(const struct sim_disk *disk, const char *path, uint64_t sector);
/* Whether a sync is still to write it. */
bool sim_damage_is_unsynced(const struct sim_disk *disk, const char *path, uint64_t sector);
/* The sync to come won't write it, and will return all the same: the device keeps what it has. It must be unsynced. */
void sim_damage_lose(struct sim_disk *disk, const char *path, uint64_t sector);

#endif
