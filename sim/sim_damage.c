#include "sim/sim_damage.h"

#include "base/check.h"
#include "sim/sim_inode.h"

static struct sim_inode *inode_at(const struct sim_disk *disk, const char *path)
{
    return sim_disk_find(disk, path);
}

uint64_t sim_damage_sectors(const struct sim_disk *disk, const char *path)
{
    const struct sim_inode *inode = inode_at(disk, path);
    return inode == NULL ? 0 : (inode->size + SIM_SECTOR_BYTES - 1) / SIM_SECTOR_BYTES;
}

bool sim_damage_read(const struct sim_disk *disk, const char *path, uint64_t sector, uint8_t *out)
{
    if (sector >= sim_damage_sectors(disk, path)) return false;
    sim_inode_device_read(inode_at(disk, path), sector, out);
    return true;
}

bool sim_damage_read_cached(const struct sim_disk *disk, const char *path, uint64_t sector, uint8_t *out)
{
    if (sector >= sim_damage_sectors(disk, path)) return false;
    sim_inode_read(inode_at(disk, path), false, sector * SIM_SECTOR_BYTES, out, SIM_SECTOR_BYTES);
    return true;
}

void sim_damage_write(struct sim_disk *disk, const char *path, uint64_t sector, const uint8_t *content, bool cached)
{
    CHECK(sector < sim_damage_sectors(disk, path));
    uint8_t bytes[SIM_SECTOR_BYTES];
    struct sim_inode *inode = inode_at(disk, path);
    memcpy(bytes, content, sizeof bytes);
    /* Nothing is beyond the end of a file: it would come up when the file grows. */
    uint64_t left = inode->size - sector * SIM_SECTOR_BYTES;
    if (left < sizeof bytes) memset(bytes + left, 0, sizeof bytes - (size_t)left);
    sim_inode_device_write(disk, inode, sector, bytes, cached);
}

void sim_damage_make_unreadable(struct sim_disk *disk, const char *path, uint64_t sector)
{
    CHECK(sector < sim_damage_sectors(disk, path));
    sim_inode_set_unreadable(inode_at(disk, path), sector);
}

bool sim_damage_is_unreadable(const struct sim_disk *disk, const char *path, uint64_t sector)
{
    const struct sim_inode *inode = inode_at(disk, path);
    return inode != NULL && sim_inode_is_unreadable(inode, sector * SIM_SECTOR_BYTES, SIM_SECTOR_BYTES);
}

bool sim_damage_is_unsynced(const struct sim_disk *disk, const char *path, uint64_t sector)
{
    const struct sim_inode *inode = inode_at(disk, path);
    return inode != NULL && sim_inode_is_dirty(inode, sector);
}

void sim_damage_lose(struct sim_disk *disk, const char *path, uint64_t sector)
{
    sim_inode_lose(inode_at(disk, path), sector);
}
