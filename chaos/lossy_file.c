#define _GNU_SOURCE 1
#include "chaos/lossy_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"

#define SECTORS_PER_PAGE (LOSSY_PAGE_BYTES / LOSSY_SECTOR_BYTES)
#define TORN_PER_MILLE 50u

struct lossy_page {
    uint8_t dirty; /* a bit for each sector */
    uint8_t lying; /* no sector is both */
    uint8_t data[LOSSY_PAGE_BYTES];
};

_Static_assert(SECTORS_PER_PAGE == 8, "a mask is one byte");

void lossy_die(const char *what)
{
    fprintf(stderr, "lossyfs: %s: %s\n", what, strerror(errno));
    _exit(1);
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* ---- The backing file ---- */

static void store(struct lossy_file *file, uint64_t offset, const uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t count = pwrite(file->backing, data, size, (off_t)offset);
        if (count <= 0 && errno != EINTR) lossy_die("writing a backing file");
        if (count <= 0) continue;
        data += count;
        offset += (uint64_t)count;
        size -= (size_t)count;
    }
}

/* What shows of the backing file, then zeros. */
static void load(const struct lossy_file *file, uint64_t offset, uint8_t *data, size_t size)
{
    size_t there = offset < file->shown_bytes ? (size_t)smaller(size, file->shown_bytes - offset) : 0;
    size_t got = 0;
    while (got < there) {
        ssize_t count = pread(file->backing, data + got, there - got, (off_t)(offset + got));
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) lossy_die("reading a backing file");
        if (count == 0) break;
        got += (size_t)count;
    }
    memset(data + got, 0, size - got);
}

static void cut(struct lossy_file *file, uint64_t bytes)
{
    if (ftruncate(file->backing, (off_t)bytes) != 0) lossy_die("cutting a backing file");
}

/* ---- Sectors over it ---- */

static struct lossy_page *page_at(const struct lossy_file *file, uint64_t number)
{
    return number < file->page_count ? file->pages[number] : NULL;
}

static struct lossy_page *make_page(struct lossy_file *file, uint64_t number)
{
    if (number >= file->page_count) {
        size_t count = number + 1 > 2 * file->page_count ? number + 1 : 2 * file->page_count;
        file->pages = mem_realloc(file->pages, count * sizeof(struct lossy_page *));
        for (size_t i = file->page_count; i < count; i++) file->pages[i] = NULL;
        file->page_count = count;
    }
    if (file->pages[number] == NULL) file->pages[number] = mem_alloc_zero(sizeof(struct lossy_page));
    return file->pages[number];
}

static void drop_page_if_empty(struct lossy_file *file, size_t number)
{
    struct lossy_page *page = file->pages[number];
    if (page == NULL || (page->dirty | page->lying) != 0) return;
    mem_free(page);
    file->pages[number] = NULL;
}

static void drop_pages(struct lossy_file *file)
{
    for (size_t i = 0; i < file->page_count; i++) mem_free(file->pages[i]);
    mem_free(file->pages);
    file->pages = NULL;
    file->page_count = 0;
}

/* Writes the first `size` bytes of a sector to the backing file, as far as it reaches into `end_bytes`. */
static void store_sector(struct lossy_file *file, size_t page, unsigned sector, size_t size, uint64_t end_bytes)
{
    uint64_t offset = page * (uint64_t)LOSSY_PAGE_BYTES + sector * LOSSY_SECTOR_BYTES;
    if (offset >= end_bytes) return;
    store(file, offset, file->pages[page]->data + sector * LOSSY_SECTOR_BYTES,
          (size_t)smaller(size, end_bytes - offset));
}

void lossy_file_init(struct lossy_file *file, int backing)
{
    struct stat status;
    if (fstat(backing, &status) != 0) lossy_die("fstat of a backing file");
    uint64_t bytes = (uint64_t)status.st_size;
    *file = (struct lossy_file){.backing = backing, .durable_bytes = bytes, .shown_bytes = bytes, .bytes = bytes};
}

void lossy_file_destroy(struct lossy_file *file)
{
    drop_pages(file);
    close(file->backing);
    file->backing = -1;
}

size_t lossy_file_read(const struct lossy_file *file, bool direct, uint64_t offset, void *data, size_t size)
{
    if (offset >= file->bytes) return 0;
    size = (size_t)smaller(size, file->bytes - offset);
    load(file, offset, data, size);

    uint64_t end = offset + size;
    for (uint64_t at = offset; at < end;) {
        uint64_t sector_end = smaller((at / LOSSY_SECTOR_BYTES + 1) * LOSSY_SECTOR_BYTES, end);
        const struct lossy_page *page = page_at(file, at / LOSSY_PAGE_BYTES);
        unsigned bit = 1u << (at % LOSSY_PAGE_BYTES / LOSSY_SECTOR_BYTES);
        if (page != NULL && ((page->dirty & bit) || (!direct && (page->lying & bit)))) {
            memcpy((uint8_t *)data + (at - offset), page->data + at % LOSSY_PAGE_BYTES, (size_t)(sector_end - at));
        }
        at = sector_end;
    }
    return size;
}

void lossy_file_write(struct lossy_file *file, uint64_t offset, const void *data, size_t size)
{
    uint64_t end = offset + size;
    for (uint64_t at = offset; at < end;) {
        uint64_t sector_begin = at / LOSSY_SECTOR_BYTES * LOSSY_SECTOR_BYTES;
        uint64_t sector_end = smaller(sector_begin + LOSSY_SECTOR_BYTES, end);
        struct lossy_page *page = make_page(file, at / LOSSY_PAGE_BYTES);
        uint8_t bit = (uint8_t)(1u << (at % LOSSY_PAGE_BYTES / LOSSY_SECTOR_BYTES));
        bool whole = at == sector_begin && sector_end == sector_begin + LOSSY_SECTOR_BYTES;
        if (!whole && !((page->dirty | page->lying) & bit)) {
            load(file, sector_begin, page->data + sector_begin % LOSSY_PAGE_BYTES, LOSSY_SECTOR_BYTES);
        }
        memcpy(page->data + at % LOSSY_PAGE_BYTES, (const uint8_t *)data + (at - offset), (size_t)(sector_end - at));
        page->dirty |= bit;
        page->lying &= (uint8_t)~bit;
        at = sector_end;
    }
    if (end > file->bytes) file->bytes = end;
}

void lossy_file_resize(struct lossy_file *file, uint64_t bytes)
{
    if (bytes < file->bytes) {
        for (size_t i = (size_t)(bytes / LOSSY_PAGE_BYTES); i < file->page_count; i++) {
            struct lossy_page *page = file->pages[i];
            if (page == NULL) continue;
            uint64_t begin = i * (uint64_t)LOSSY_PAGE_BYTES;
            size_t left = bytes > begin ? (size_t)(bytes - begin) : 0;
            unsigned sectors = (unsigned)((left + LOSSY_SECTOR_BYTES - 1) / LOSSY_SECTOR_BYTES);
            uint8_t mask = (uint8_t)((1u << sectors) - 1);
            page->dirty &= mask;
            page->lying &= mask;
            memset(page->data + left, 0, LOSSY_PAGE_BYTES - left);
            drop_page_if_empty(file, i);
        }
        file->shown_bytes = smaller(file->shown_bytes, bytes);
    }
    file->bytes = bytes;
}

void lossy_file_sync(struct lossy_file *file)
{
    if (file->shown_bytes < file->durable_bytes) cut(file, file->shown_bytes);
    if (file->bytes != file->shown_bytes || file->shown_bytes < file->durable_bytes) cut(file, file->bytes);
    for (size_t i = 0; i < file->page_count; i++) {
        struct lossy_page *page = file->pages[i];
        if (page == NULL) continue;
        if (page->dirty == 0xff) {
            uint64_t offset = i * (uint64_t)LOSSY_PAGE_BYTES;
            store(file, offset, page->data, (size_t)smaller(LOSSY_PAGE_BYTES, file->bytes - offset));
        } else {
            for (unsigned sector = 0; sector < SECTORS_PER_PAGE; sector++) {
                if (page->dirty >> sector & 1) store_sector(file, i, sector, LOSSY_SECTOR_BYTES, file->bytes);
            }
        }
        page->dirty = 0;
        drop_page_if_empty(file, i);
    }
    file->durable_bytes = file->shown_bytes = file->bytes;
}

/* Makes each dirty sector durable with this chance, as long as that needs no new size. */
static void store_some(struct lossy_file *file, struct random *luck, unsigned per_mille)
{
    if (file->shown_bytes < file->durable_bytes) return;
    for (size_t i = 0; i < file->page_count; i++) {
        struct lossy_page *page = file->pages[i];
        if (page == NULL || page->dirty == 0) continue;
        for (unsigned sector = 0; sector < SECTORS_PER_PAGE; sector++) {
            uint64_t end = i * (uint64_t)LOSSY_PAGE_BYTES + (sector + 1) * LOSSY_SECTOR_BYTES;
            if (!(page->dirty >> sector & 1) || end > file->durable_bytes || !random_chance(luck, per_mille)) continue;
            store_sector(file, i, sector, LOSSY_SECTOR_BYTES, file->durable_bytes);
            page->dirty &= (uint8_t) ~(1u << sector);
        }
        drop_page_if_empty(file, i);
    }
}

void lossy_file_fail_sync(struct lossy_file *file, struct random *luck)
{
    store_some(file, luck, random_chance(luck, 500) ? 0 : 500);
    for (size_t i = 0; i < file->page_count; i++) {
        struct lossy_page *page = file->pages[i];
        if (page == NULL) continue;
        page->lying |= page->dirty;
        page->dirty = 0;
    }
}

void lossy_file_write_back(struct lossy_file *file, struct random *luck)
{
    store_some(file, luck, 500);
}

/* ---- The power goes ---- */

/* Which of the unsynced sectors survive: those from `first` to before `end` in the order of the file, each with a chance. */
struct survivors {
    uint64_t first, end;
    unsigned per_mille;
};

uint64_t lossy_file_dirty_sectors(const struct lossy_file *file)
{
    uint64_t count = 0;
    for (size_t i = 0; i < file->page_count; i++) {
        if (file->pages[i] != NULL) count += (unsigned)__builtin_popcount(file->pages[i]->dirty);
    }
    return count;
}

static struct survivors choose_survivors(struct random *luck, uint64_t dirty)
{
    static const unsigned chances[] = {0, 100, 500, 900, 1000};
    struct survivors survivors = {.first = 0, .end = dirty};
    survivors.per_mille = chances[random_below(luck, 5)];
    if (dirty == 0) return survivors;
    switch (random_below(luck, 4)) {
    case 0:
        survivors.end = random_below(luck, dirty) + 1;
        break;
    case 1:
        survivors.first = random_below(luck, dirty);
        break;
    default:
        break;
    }
    return survivors;
}

static uint64_t choose_size(const struct lossy_file *file, struct random *luck)
{
    if (file->bytes <= file->durable_bytes) return random_chance(luck, 500) ? file->bytes : file->durable_bytes;
    uint64_t sectors = (file->bytes - file->durable_bytes) / LOSSY_SECTOR_BYTES;
    switch (random_below(luck, 3)) {
    case 0:
        return file->durable_bytes;
    case 1:
        return smaller(file->durable_bytes + random_between(luck, 0, sectors) * LOSSY_SECTOR_BYTES, file->bytes);
    default:
        return file->bytes;
    }
}

void lossy_file_lose(struct lossy_file *file, struct random *luck, struct lossy_losses *losses)
{
    uint64_t bytes = file->durable_bytes;
    struct survivors survivors = {0};
    if (luck != NULL) {
        survivors = choose_survivors(luck, lossy_file_dirty_sectors(file));
        bytes = choose_size(file, luck);
        /* What was cut off and written over again is one change of the size's, lost or kept as such. */
        if (file->shown_bytes < file->durable_bytes && random_chance(luck, 500)) cut(file, file->shown_bytes);
    }
    if (file->shown_bytes < file->durable_bytes || bytes != file->durable_bytes) cut(file, bytes);

    uint64_t ordinal = 0;
    for (size_t i = 0; i < file->page_count; i++) {
        struct lossy_page *page = file->pages[i];
        if (page == NULL) continue;
        for (unsigned sector = 0; sector < SECTORS_PER_PAGE; sector++) {
            if (page->lying >> sector & 1) losses->dropped_sectors++;
            if (!(page->dirty >> sector & 1)) continue;
            bool chosen = ordinal >= survivors.first && ordinal < survivors.end;
            ordinal++;
            uint64_t offset = i * (uint64_t)LOSSY_PAGE_BYTES + sector * LOSSY_SECTOR_BYTES;
            if (!chosen || offset >= bytes || !random_chance(luck, survivors.per_mille)) {
                losses->dropped_sectors++;
                continue;
            }
            bool torn = random_chance(luck, TORN_PER_MILLE);
            size_t size = torn ? (size_t)random_between(luck, 1, LOSSY_SECTOR_BYTES - 1) : LOSSY_SECTOR_BYTES;
            store_sector(file, i, sector, size, bytes);
            losses->torn_sectors += torn;
            losses->kept_sectors += !torn;
        }
    }
    drop_pages(file);
    file->bytes = file->durable_bytes = file->shown_bytes = bytes;
}

bool lossy_file_flip(struct lossy_file *file, uint64_t offset, unsigned bit)
{
    if (offset >= file->bytes) return false;
    uint8_t mask = (uint8_t)(1u << bit), byte;
    if (offset < file->shown_bytes) {
        load(file, offset, &byte, 1);
        byte ^= mask;
        store(file, offset, &byte, 1);
    }
    struct lossy_page *page = page_at(file, offset / LOSSY_PAGE_BYTES);
    if (page != NULL) page->data[offset % LOSSY_PAGE_BYTES] ^= mask;
    return true;
}
