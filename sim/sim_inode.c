#include "sim/sim_inode.h"

#include "base/check.h"
#include "base/mem.h"

/* Older unsynced contents that are remembered for one sector. */
#define VERSIONS_PER_SECTOR_MAX 4u

/* ---- pages ---- */

static struct sim_page *page_new(struct sim_disk *disk)
{
    struct sim_page *page = disk->free_pages;
    if (page != NULL) {
        disk->free_pages = page->next_free;
    } else {
        page = mem_alloc(sizeof *page);
    }
    memset(page->data, 0, sizeof page->data);
    page->shadow = NULL;
    return page;
}

static void page_free(struct sim_disk *disk, struct sim_page *page)
{
    page->next_free = disk->free_pages;
    disk->free_pages = page;
}

static void versions_free(struct sim_disk *disk, struct sim_shadow *shadow)
{
    while (shadow->versions != NULL) {
        struct sim_version *version = shadow->versions;
        shadow->versions = version->next;
        version->next = disk->free_versions;
        disk->free_versions = version;
    }
}

static void shadow_free(struct sim_disk *disk, struct sim_shadow *shadow)
{
    versions_free(disk, shadow);
    shadow->next = disk->free_shadows;
    disk->free_shadows = shadow;
}

/* The shadow of a page, which is made when there is none: the device holds what the cache holds now. */
static struct sim_shadow *shadow_of(struct sim_disk *disk, struct sim_inode *inode, uint64_t number)
{
    struct sim_page *page = inode->pages[number];
    if (page->shadow != NULL) return page->shadow;
    struct sim_shadow *shadow = disk->free_shadows;
    if (shadow != NULL) {
        disk->free_shadows = shadow->next;
    } else {
        shadow = mem_alloc(sizeof *shadow);
    }
    memcpy(shadow->durable, page->data, SIM_PAGE_BYTES);
    shadow->versions = NULL;
    shadow->page_number = number;
    shadow->dirty = 0;
    shadow->forgotten = 0;
    shadow->next = inode->shadows;
    inode->shadows = shadow;
    page->shadow = shadow;
    return shadow;
}

static void remember_version(struct sim_disk *disk, struct sim_shadow *shadow, const struct sim_page *page,
                             uint32_t sector)
{
    uint32_t count = 0;
    for (const struct sim_version *version = shadow->versions; version != NULL; version = version->next) {
        if (version->sector == sector) count++;
    }
    if (count >= VERSIONS_PER_SECTOR_MAX) return;
    struct sim_version *version = disk->free_versions;
    if (version != NULL) {
        disk->free_versions = version->next;
    } else {
        version = mem_alloc(sizeof *version);
    }
    memcpy(version->data, page->data + sector * SIM_SECTOR_BYTES, SIM_SECTOR_BYTES);
    version->sector = sector;
    version->next = shadow->versions;
    shadow->versions = version;
}

/* A page with a shadow; both are made when there are none. */
static struct sim_shadow *shadow_at(struct sim_disk *disk, struct sim_inode *inode, uint64_t number)
{
    if (number >= inode->page_count) {
        uint64_t count = inode->page_count * 2 > number + 1 ? inode->page_count * 2 : number + 1;
        inode->pages = mem_realloc(inode->pages, count * sizeof *inode->pages);
        memset(inode->pages + inode->page_count, 0, (count - inode->page_count) * sizeof *inode->pages);
        inode->page_count = count;
    }
    if (inode->pages[number] == NULL) inode->pages[number] = page_new(disk);
    return shadow_of(disk, inode, number);
}

bool sim_bytes_are_zero(const uint8_t *data, size_t size)
{
    return size == 0 || (data[0] == 0 && memcmp(data, data + 1, size - 1) == 0);
}

/* What is written can be read again. */
static void clear_unreadable(struct sim_inode *inode, uint64_t offset, uint64_t size)
{
    for (uint32_t i = 0; i < inode->unreadable_count;) {
        uint64_t begin = inode->unreadable[i] * SIM_SECTOR_BYTES;
        if (begin + SIM_SECTOR_BYTES <= offset || begin >= offset + size) {
            i++;
        } else {
            inode->unreadable[i] = inode->unreadable[--inode->unreadable_count];
        }
    }
}

/* Puts bytes into the cache, within one page; NULL data: zeros. */
static void page_write(struct sim_disk *disk, struct sim_inode *inode, uint64_t number, size_t offset,
                       const uint8_t *data, size_t size)
{
    bool zero = data == NULL || sim_bytes_are_zero(data, size);
    if (zero && (number >= inode->page_count || inode->pages[number] == NULL)) {
        clear_unreadable(inode, number * SIM_PAGE_BYTES + offset, size);
        return; /* what isn't there is zero, on the device too */
    }
    struct sim_shadow *shadow = shadow_at(disk, inode, number);
    struct sim_page *page = inode->pages[number];
    uint32_t last = (uint32_t)((offset + size - 1) / SIM_SECTOR_BYTES);
    for (uint32_t sector = (uint32_t)(offset / SIM_SECTOR_BYTES); sector <= last; sector++) {
        if (shadow->dirty & 1u << sector) remember_version(disk, shadow, page, sector);
        shadow->dirty |= (uint8_t)(1u << sector);
        shadow->forgotten &= (uint8_t) ~(1u << sector);
    }
    if (data == NULL) {
        memset(page->data + offset, 0, size);
    } else {
        memcpy(page->data + offset, data, size);
    }
}

void sim_inode_write(struct sim_disk *disk, struct sim_inode *inode, uint64_t offset, const uint8_t *data,
                     uint64_t size)
{
    uint64_t at = 0;
    while (at < size) {
        size_t in_page = (size_t)((offset + at) % SIM_PAGE_BYTES);
        size_t part = SIM_PAGE_BYTES - in_page < size - at ? SIM_PAGE_BYTES - in_page : (size_t)(size - at);
        page_write(disk, inode, (offset + at) / SIM_PAGE_BYTES, in_page, data == NULL ? NULL : data + at, part);
        at += part;
    }
}

void sim_inode_sync(struct sim_disk *disk, struct sim_inode *inode, bool failed)
{
    struct sim_shadow **at = &inode->shadows;
    while (*at != NULL) {
        struct sim_shadow *shadow = *at;
        struct sim_page *page = inode->pages[shadow->page_number];
        for (uint32_t sector = 0; shadow->dirty != 0 && sector < SIM_PAGE_SECTORS; sector++) {
            if (!(shadow->dirty & 1u << sector)) continue;
            if (failed && random_chance(&disk->random, 500)) {
                shadow->forgotten |= (uint8_t)(1u << sector);
            } else {
                memcpy(shadow->durable + sector * SIM_SECTOR_BYTES, page->data + sector * SIM_SECTOR_BYTES,
                       SIM_SECTOR_BYTES);
                clear_unreadable(inode, shadow->page_number * SIM_PAGE_BYTES + sector * SIM_SECTOR_BYTES,
                                 SIM_SECTOR_BYTES);
            }
        }
        shadow->dirty = 0;
        versions_free(disk, shadow);
        if (shadow->forgotten == 0) {
            page->shadow = NULL;
            *at = shadow->next;
            shadow_free(disk, shadow);
        } else {
            at = &shadow->next;
        }
    }
    if (!failed || random_chance(&disk->random, 500)) inode->durable_size = inode->size;
}

void sim_inode_drop_forgotten(struct sim_inode *inode, uint64_t offset, uint64_t size)
{
    for (struct sim_shadow *shadow = inode->shadows; shadow != NULL; shadow = shadow->next) {
        uint64_t begin = shadow->page_number * SIM_PAGE_BYTES;
        if (shadow->forgotten == 0 || begin + SIM_PAGE_BYTES <= offset || begin >= offset + size) continue;
        struct sim_page *page = inode->pages[shadow->page_number];
        for (uint32_t sector = 0; sector < SIM_PAGE_SECTORS; sector++) {
            if (!(shadow->forgotten & 1u << sector)) continue;
            memcpy(page->data + sector * SIM_SECTOR_BYTES, shadow->durable + sector * SIM_SECTOR_BYTES,
                   SIM_SECTOR_BYTES);
        }
        shadow->forgotten = 0; /* no different from the device any more; the next sync frees it */
    }
}

/* ---- inodes ---- */

struct sim_inode *sim_inode_new(struct sim_disk *disk)
{
    struct sim_inode *inode = mem_alloc_zero(sizeof *inode);
    inode->next = disk->inodes;
    if (disk->inodes != NULL) disk->inodes->previous = inode;
    disk->inodes = inode;
    return inode;
}

void sim_inode_ref(struct sim_inode *inode, bool link)
{
    inode->references++;
    if (link) inode->links++;
}

void sim_inode_unref(struct sim_disk *disk, struct sim_inode *inode, bool link)
{
    CHECK(inode->references > 0 && (!link || inode->links > 0));
    if (link) inode->links--;
    if (--inode->references > 0) return;
    for (uint64_t i = 0; i < inode->page_count; i++) {
        if (inode->pages[i] != NULL) page_free(disk, inode->pages[i]);
    }
    while (inode->shadows != NULL) {
        struct sim_shadow *shadow = inode->shadows;
        inode->shadows = shadow->next;
        shadow_free(disk, shadow);
    }
    mem_free(inode->pages);
    mem_free(inode->unreadable);
    if (inode->previous != NULL) inode->previous->next = inode->next;
    if (inode->next != NULL) inode->next->previous = inode->previous;
    if (disk->inodes == inode) disk->inodes = inode->next;
    mem_free(inode);
}

void sim_inode_power_loss(struct sim_disk *disk, struct sim_inode *inode, unsigned survival)
{
    struct sim_disk_counters *counters = &disk->counters;
    while (inode->shadows != NULL) {
        struct sim_shadow *shadow = inode->shadows;
        inode->shadows = shadow->next;
        struct sim_page *page = inode->pages[shadow->page_number];
        page->shadow = NULL;
        for (uint32_t sector = 0; sector < SIM_PAGE_SECTORS; sector++) {
            uint8_t *cached = page->data + sector * SIM_SECTOR_BYTES;
            const uint8_t *durable = shadow->durable + sector * SIM_SECTOR_BYTES;
            if (!((shadow->dirty | shadow->forgotten) & 1u << sector)) continue;
            bool kept = (shadow->dirty & 1u << sector) && random_chance(&disk->random, survival);
            if (kept && !random_chance(&disk->random, 20)) {
                counters->sectors_kept++;
                continue;
            }
            if (kept) { /* cut inside: the device was writing just this one */
                size_t cut = (size_t)random_below(&disk->random, SIM_SECTOR_BYTES);
                memcpy(cached + cut, durable + cut, SIM_SECTOR_BYTES - cut);
                counters->sectors_cut++;
                continue;
            }
            const struct sim_version *older = NULL;
            for (const struct sim_version *version = shadow->versions; version != NULL; version = version->next) {
                if (version->sector == sector && random_chance(&disk->random, 400)) older = version;
            }
            memcpy(cached, older == NULL ? durable : older->data, SIM_SECTOR_BYTES);
            if (older == NULL) {
                counters->sectors_lost++;
            } else {
                counters->sectors_older++;
            }
        }
        shadow_free(disk, shadow);
    }
    if (inode->size != inode->durable_size) {
        uint64_t low = inode->size < inode->durable_size ? inode->size : inode->durable_size;
        uint64_t high = inode->size < inode->durable_size ? inode->durable_size : inode->size;
        uint64_t size = inode->size;
        if (!random_chance(&disk->random, survival)) {
            size = random_chance(&disk->random, 700) ? inode->durable_size : random_between(&disk->random, low, high);
            counters->sizes_lost++;
        }
        inode->size = size;
        inode->durable_size = size;
        for (uint64_t number = size / SIM_PAGE_BYTES; number < inode->page_count; number++) {
            struct sim_page *page = inode->pages[number];
            if (page == NULL) continue;
            size_t begin = number == size / SIM_PAGE_BYTES ? (size_t)(size % SIM_PAGE_BYTES) : 0;
            memset(page->data + begin, 0, SIM_PAGE_BYTES - begin);
        }
    }
}

/* ---- reading ---- */

void sim_inode_read(const struct sim_inode *inode, bool uncached, uint64_t offset, uint8_t *data, size_t size)
{
    size_t at = 0;
    while (at < size) {
        uint64_t number = (offset + at) / SIM_PAGE_BYTES;
        size_t in_page = (size_t)((offset + at) % SIM_PAGE_BYTES);
        size_t part = SIM_PAGE_BYTES - in_page < size - at ? SIM_PAGE_BYTES - in_page : size - at;
        const struct sim_page *page = number < inode->page_count ? inode->pages[number] : NULL;
        if (page == NULL) {
            memset(data + at, 0, part);
        } else {
            memcpy(data + at, page->data + in_page, part);
        }
        const struct sim_shadow *shadow = page == NULL ? NULL : page->shadow;
        for (uint32_t sector = 0; uncached && shadow != NULL && sector < SIM_PAGE_SECTORS; sector++) {
            size_t begin = (size_t)sector * SIM_SECTOR_BYTES;
            if (!(shadow->forgotten & 1u << sector) || begin >= part) continue; /* in_page is 0 here */
            size_t bytes = SIM_SECTOR_BYTES < part - begin ? SIM_SECTOR_BYTES : part - begin;
            memcpy(data + at + begin, shadow->durable + begin, bytes);
        }
        at += part;
    }
}

bool sim_inode_is_unreadable(const struct sim_inode *inode, uint64_t offset, uint64_t size)
{
    for (uint32_t i = 0; i < inode->unreadable_count; i++) {
        uint64_t begin = inode->unreadable[i] * SIM_SECTOR_BYTES;
        bool within = begin + SIM_SECTOR_BYTES > offset && begin < offset + size;
        if (within && !sim_inode_is_dirty(inode, inode->unreadable[i])) return true;
    }
    return false;
}

void sim_inode_set_unreadable(struct sim_inode *inode, uint64_t sector)
{
    if (inode->unreadable_count == inode->unreadable_capacity) {
        inode->unreadable_capacity = inode->unreadable_capacity == 0 ? 8 : inode->unreadable_capacity * 2;
        inode->unreadable = mem_realloc(inode->unreadable, inode->unreadable_capacity * sizeof *inode->unreadable);
    }
    inode->unreadable[inode->unreadable_count++] = sector;
}

/* ---- behind the file system's back ---- */

static struct sim_page *page_of(const struct sim_inode *inode, uint64_t sector)
{
    uint64_t number = sector / SIM_PAGE_SECTORS;
    return number < inode->page_count ? inode->pages[number] : NULL;
}

void sim_inode_device_read(const struct sim_inode *inode, uint64_t sector, uint8_t *out)
{
    const struct sim_page *page = page_of(inode, sector);
    size_t offset = (size_t)(sector % SIM_PAGE_SECTORS) * SIM_SECTOR_BYTES;
    if (page == NULL) {
        memset(out, 0, SIM_SECTOR_BYTES);
    } else {
        memcpy(out, (page->shadow == NULL ? page->data : page->shadow->durable) + offset, SIM_SECTOR_BYTES);
    }
}

void sim_inode_device_write(struct sim_disk *disk, struct sim_inode *inode, uint64_t sector, const uint8_t *content,
                            bool cached)
{
    uint64_t number = sector / SIM_PAGE_SECTORS;
    size_t offset = (size_t)(sector % SIM_PAGE_SECTORS) * SIM_SECTOR_BYTES;
    uint8_t bit = (uint8_t)(1u << sector % SIM_PAGE_SECTORS);
    struct sim_shadow *shadow = shadow_at(disk, inode, number);
    struct sim_page *page = inode->pages[number];
    memcpy(shadow->durable + offset, content, SIM_SECTOR_BYTES);
    if (!(shadow->dirty & bit)) {
        shadow->forgotten |= bit;
        if (!cached) {
            memcpy(page->data + offset, content, SIM_SECTOR_BYTES);
            shadow->forgotten &= (uint8_t)~bit;
        }
    }
    if ((shadow->dirty | shadow->forgotten) != 0) return;
    struct sim_shadow **at = &inode->shadows;
    while (*at != shadow) at = &(*at)->next;
    *at = shadow->next;
    page->shadow = NULL;
    shadow_free(disk, shadow);
}

bool sim_inode_is_dirty(const struct sim_inode *inode, uint64_t sector)
{
    const struct sim_page *page = page_of(inode, sector);
    return page != NULL && page->shadow != NULL && (page->shadow->dirty & 1u << sector % SIM_PAGE_SECTORS);
}

void sim_inode_lose(struct sim_inode *inode, uint64_t sector)
{
    CHECK(sim_inode_is_dirty(inode, sector));
    struct sim_shadow *shadow = page_of(inode, sector)->shadow;
    uint8_t bit = (uint8_t)(1u << sector % SIM_PAGE_SECTORS);
    shadow->dirty &= (uint8_t)~bit;
    shadow->forgotten |= bit;
}
