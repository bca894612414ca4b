#define _GNU_SOURCE 1
#include "os/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "os/read_ahead.h"

#define FILE_MODE 0600
#define DIRECTORY_MODE 0700

struct disk_file {
    int fd;
    int direct_fd; /* with O_DIRECT, for uncached reads and writes; -1 when the file has none, or they go another way */
    bool uncached;
    uint64_t read_end; /* where the last full uncached read ended: one that goes on there is sequential */
    char path[];
};

struct disk_lock {
    int fd;
};

static enum error error_of_path(int number)
{
    switch (number) {
    case ENOENT:
    case ENOTDIR:
        return ERR_NO_FILE;
    case EEXIST:
        return ERR_EXISTS;
    case EACCES:
    case EPERM:
    case EROFS:
        return ERR_NO_PERMISSION;
    case ENOSPC:
    case EDQUOT:
        return ERR_NO_SPACE;
    default:
        return ERR_IO;
    }
}

/* Of an operation on an open file, where the path can't be at fault any more. */
static enum error error_of_file(int number)
{
    return number == ENOSPC || number == EDQUOT ? ERR_NO_SPACE : ERR_IO;
}

static void describe(struct disk *disk, const char *operation, const char *path, int number)
{
    char cause[128];
    snprintf(disk->error_text, sizeof disk->error_text, "%s %s: %s", operation, path,
             strerror_r(number, cause, sizeof cause));
}

static enum error path_failed(struct disk *disk, const char *operation, const char *path)
{
    int number = errno;
    describe(disk, operation, path, number);
    return error_of_path(number);
}

static enum error file_failed(struct disk *disk, const char *operation, const struct disk_file *file)
{
    int number = errno;
    describe(disk, operation, file->path, number);
    return error_of_file(number);
}

static int open_retrying(const char *path, int flags)
{
    int fd;
    do {
        fd = open(path, flags | O_CLOEXEC, FILE_MODE);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

static enum error open_file(struct disk *disk, const char *path, unsigned flags, struct disk_file **out)
{
    CHECK(flags & (DISK_READ | DISK_WRITE));
    int access = flags & DISK_WRITE ? (flags & DISK_READ ? O_RDWR : O_WRONLY) : O_RDONLY;
    if (flags & DISK_CREATE) access |= O_CREAT;
    if (flags & DISK_EXCLUSIVE) access |= O_EXCL;
    bool uncached = flags & DISK_UNCACHED;

    int fd = open_retrying(path, access);
    if (fd < 0) return path_failed(disk, "open", path);
    /* Not every write is aligned, so what goes past the page cache has a descriptor of its own. */
    int direct_fd = -1;
    if (uncached && !((struct os_disk *)disk)->avoid_direct) {
        direct_fd = open_retrying(path, (access & O_ACCMODE) | O_DIRECT);
        if (direct_fd < 0 && errno != EINVAL) {
            enum error error = path_failed(disk, "open", path);
            close(fd);
            return error;
        }
    }

    size_t path_size = strlen(path) + 1;
    struct disk_file *file = mem_alloc(sizeof *file + path_size);
    *file = (struct disk_file){.fd = fd, .direct_fd = direct_fd, .uncached = uncached};
    memcpy(file->path, path, path_size);
    *out = file;
    return ERR_OK;
}

/* What was read ahead may be stale, or of a file that is about to be closed. */
static void drop_read_ahead(struct disk *disk)
{
    struct read_ahead *ahead = ((struct os_disk *)disk)->ahead;
    if (ahead != NULL) read_ahead_drop(ahead);
}

static void close_file(struct disk *disk, struct disk_file *file)
{
    drop_read_ahead(disk);
    close(file->fd);
    if (file->direct_fd >= 0) close(file->direct_fd);
    mem_free(file);
}

static enum error file_size(struct disk *disk, struct disk_file *file, uint64_t *out)
{
    struct stat status;
    if (fstat(file->fd, &status) != 0) return file_failed(disk, "fstat", file);
    *out = (uint64_t)status.st_size;
    return ERR_OK;
}

static int sync_retrying(int fd)
{
    /* EINTR says that the sync wasn't done, not that it failed. */
    int result;
    do {
        result = fdatasync(fd);
    } while (result != 0 && errno == EINTR);
    return result;
}

/* Makes the page cache forget the range: what is dirty can't be dropped, so it is written back first. */
static enum error drop_cached(struct disk *disk, struct disk_file *file, uint64_t offset, size_t size)
{
    if (sync_retrying(file->fd) != 0) return file_failed(disk, "fdatasync", file);
    int number = posix_fadvise(file->fd, (off_t)offset, (off_t)size, POSIX_FADV_DONTNEED);
    if (number == 0) return ERR_OK;
    describe(disk, "posix_fadvise", file->path, number);
    return ERR_IO;
}

static void begin_read_ahead(struct disk *disk, struct disk_file *file, uint64_t offset, size_t size)
{
    struct os_disk *os_disk = (struct os_disk *)disk;
    bool follows = file->read_end == offset - size;
    file->read_end = offset;
    if (!follows || size < READ_AHEAD_BYTES_MIN) return;
    if (os_disk->ahead == NULL) os_disk->ahead = read_ahead_new();
    if (os_disk->ahead != NULL) read_ahead_begin(os_disk->ahead, file->direct_fd, offset, size);
}

/* Whether the whole answer was read ahead. A short one is the end of the file only if reading again says so. */
static bool take_read_ahead(struct disk *disk, struct disk_file *file, uint64_t offset, void *data, size_t size,
                            size_t *got)
{
    struct read_ahead *ahead = ((struct os_disk *)disk)->ahead;
    if (ahead == NULL || read_ahead_take(ahead, file->direct_fd, offset, data, size) != (int64_t)size) return false;
    *got = size;
    begin_read_ahead(disk, file, offset + size, size);
    return true;
}

static enum error read_file(struct disk *disk, struct disk_file *file, uint64_t offset, void *data, size_t size,
                            size_t *got)
{
    CHECK(offset <= INT64_MAX && size <= INT64_MAX - offset);
    *got = 0;
    if (file->uncached) {
        CHECK(offset % DISK_ALIGNMENT == 0 && size % DISK_ALIGNMENT == 0);
        CHECK((uintptr_t)data % DISK_ALIGNMENT == 0);
        if (file->direct_fd < 0 && size > 0) {
            enum error error = drop_cached(disk, file, offset, size);
            if (error != ERR_OK) return error;
        }
    }
    bool direct = file->direct_fd >= 0;
    if (direct && take_read_ahead(disk, file, offset, data, size, got)) return ERR_OK;
    while (*got < size) {
        ssize_t count =
            pread(direct ? file->direct_fd : file->fd, (uint8_t *)data + *got, size - *got, (off_t)(offset + *got));
        if (count < 0 && errno == EINTR) continue;
        if (count < 0 && errno == EINVAL && direct) {
            /* Some file systems take O_DIRECT when opening and refuse it when reading. */
            close(file->direct_fd);
            file->direct_fd = -1;
            return read_file(disk, file, offset, data, size, got);
        }
        if (count < 0) return file_failed(disk, "read", file);
        *got += (size_t)count;
        /* A direct read that ends off the alignment has met the end, and can't go on from there. */
        if (count == 0 || (direct && *got % DISK_ALIGNMENT != 0)) break;
    }
    if (direct && *got == size) begin_read_ahead(disk, file, offset + size, size);
    return ERR_OK;
}

static bool is_aligned(const void *data, uint64_t offset, size_t size)
{
    return ((uintptr_t)data | offset | size) % DISK_ALIGNMENT == 0;
}

static enum error write_file(struct disk *disk, struct disk_file *file, uint64_t offset, const void *data, size_t size)
{
    CHECK(offset <= INT64_MAX && size <= INT64_MAX - offset);
    drop_read_ahead(disk);
    const uint8_t *at = data;
    while (size > 0) {
        bool direct = file->direct_fd >= 0 && is_aligned(at, offset, size);
        ssize_t count = pwrite(direct ? file->direct_fd : file->fd, at, size, (off_t)offset);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0 && errno == EINVAL && direct) {
            close(file->direct_fd);
            file->direct_fd = -1;
            continue;
        }
        if (count < 0) return file_failed(disk, "write", file);
        if (count == 0) {
            errno = EIO;
            return file_failed(disk, "write", file);
        }
        /* A short write is no failure yet: going on tells why it was short. */
        at += count;
        offset += (uint64_t)count;
        size -= (size_t)count;
    }
    return ERR_OK;
}

static enum error sync_file(struct disk *disk, struct disk_file *file)
{
    return sync_retrying(file->fd) == 0 ? ERR_OK : file_failed(disk, "fdatasync", file);
}

static enum error truncate_file(struct disk *disk, struct disk_file *file, uint64_t size)
{
    CHECK(size <= INT64_MAX);
    drop_read_ahead(disk);
    int result;
    do {
        result = ftruncate(file->fd, (off_t)size);
    } while (result != 0 && errno == EINTR);
    return result == 0 ? ERR_OK : file_failed(disk, "ftruncate", file);
}

static enum error sync_directory(struct disk *disk, const char *path)
{
    int fd = open_retrying(path, O_RDONLY | O_DIRECTORY);
    if (fd < 0) return path_failed(disk, "open", path);
    int result;
    do {
        result = fsync(fd);
    } while (result != 0 && errno == EINTR);
    enum error error = result == 0 ? ERR_OK : path_failed(disk, "fsync", path);
    close(fd);
    return error;
}

static enum error rename_file(struct disk *disk, const char *from, const char *to)
{
    if (rename(from, to) == 0) return ERR_OK;
    int number = errno;
    char cause[128];
    snprintf(disk->error_text, sizeof disk->error_text, "rename %s to %s: %s", from, to,
             strerror_r(number, cause, sizeof cause));
    return error_of_path(number);
}

static enum error remove_file(struct disk *disk, const char *path)
{
    return unlink(path) == 0 ? ERR_OK : path_failed(disk, "remove", path);
}

static bool is_directory(struct disk *disk, const char *path)
{
    (void)disk;
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

/* Makes one directory whose parent is there, and makes its entry in the parent durable. */
static enum error make_directory(struct disk *disk, char *path)
{
    if (mkdir(path, DIRECTORY_MODE) != 0) {
        if (errno == EEXIST && is_directory(disk, path)) return ERR_OK;
        return path_failed(disk, "mkdir", path);
    }
    char *slash = strrchr(path, '/');
    if (slash == NULL) return sync_directory(disk, ".");
    if (slash == path) return sync_directory(disk, "/");
    *slash = 0;
    enum error error = sync_directory(disk, path);
    *slash = '/';
    return error;
}

static enum error make_directories(struct disk *disk, const char *path)
{
    if (is_directory(disk, path)) return ERR_OK;
    char *copy = mem_copy_string(path);
    size_t size = strlen(copy);
    while (size > 1 && copy[size - 1] == '/') copy[--size] = 0;

    enum error error = ERR_OK;
    for (char *at = copy + 1; size > 0 && error == ERR_OK && *at != 0; at++) {
        if (*at != '/') continue;
        *at = 0;
        if (!is_directory(disk, copy)) error = make_directory(disk, copy);
        *at = '/';
    }
    if (error == ERR_OK) error = make_directory(disk, copy);
    mem_free(copy);
    return error;
}

static int compare_names(const void *a, const void *b)
{
    /* strcmp compares as unsigned bytes, whatever the locale. */
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static enum error list(struct disk *disk, const char *path, void (*visit)(void *user, const char *name), void *user)
{
    DIR *directory = opendir(path);
    if (directory == NULL) return path_failed(disk, "open", path);

    char **names = NULL;
    size_t count = 0, capacity = 0;
    enum error error = ERR_OK;
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(directory);
        if (entry == NULL) {
            if (errno != 0) error = path_failed(disk, "readdir", path);
            break;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (count == capacity) {
            capacity = capacity == 0 ? 16 : capacity * 2;
            names = mem_realloc(names, capacity * sizeof *names);
        }
        names[count++] = mem_copy_string(entry->d_name);
    }
    closedir(directory);

    if (count > 0) qsort(names, count, sizeof *names, compare_names);
    for (size_t i = 0; i < count; i++) {
        if (error == ERR_OK) visit(user, names[i]);
        mem_free(names[i]);
    }
    mem_free(names);
    return error;
}

/* Says who holds the lock, as far as the file tells. */
static enum error lock_is_held(struct disk *disk, const char *path, int fd)
{
    char text[24] = {0};
    ssize_t size = pread(fd, text, sizeof text - 1, 0);
    long holder = size > 0 ? strtol(text, NULL, 10) : 0;
    if (holder > 0) {
        snprintf(disk->error_text, sizeof disk->error_text, "lock %s: held by process %ld", path, holder);
    } else {
        snprintf(disk->error_text, sizeof disk->error_text, "lock %s: held by another process", path);
    }
    return ERR_LOCKED;
}

static enum error lock(struct disk *disk, const char *path, struct disk_lock **out)
{
    int fd = open_retrying(path, O_RDWR | O_CREAT);
    if (fd < 0) return path_failed(disk, "open", path);
    int result;
    do {
        result = flock(fd, LOCK_EX | LOCK_NB);
    } while (result != 0 && errno == EINTR);
    if (result != 0) {
        enum error error = errno == EWOULDBLOCK ? lock_is_held(disk, path, fd) : path_failed(disk, "flock", path);
        close(fd);
        return error;
    }

    /* A disk that is full must not keep the lock from being taken: without the number, only the
       error that another process gets says less. */
    char text[24];
    int size = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) == 0 && pwrite(fd, text, (size_t)size, 0) != size) {
        describe(disk, "write", path, errno);
    }
    *out = mem_alloc(sizeof **out);
    (*out)->fd = fd;
    return ERR_OK;
}

static void unlock(struct disk *disk, struct disk_lock *lock)
{
    (void)disk;
    close(lock->fd);
    mem_free(lock);
}

static enum error free_space(struct disk *disk, const char *path, uint64_t *out)
{
    struct statvfs status;
    int result;
    do {
        result = statvfs(path, &status);
    } while (result != 0 && errno == EINTR);
    if (result != 0) return path_failed(disk, "statvfs", path);
    *out = (uint64_t)status.f_bavail * status.f_frsize;
    return ERR_OK;
}

static const struct disk_operations operations = {
    .open = open_file,
    .close = close_file,
    .size = file_size,
    .read = read_file,
    .write = write_file,
    .sync = sync_file,
    .truncate = truncate_file,
    .sync_directory = sync_directory,
    .rename = rename_file,
    .remove = remove_file,
    .make_directories = make_directories,
    .list = list,
    .is_directory = is_directory,
    .lock = lock,
    .unlock = unlock,
    .free_space = free_space,
};

void os_disk_init(struct os_disk *disk)
{
    *disk = (struct os_disk){.port = {.operations = &operations}};
}

void os_disk_destroy(struct os_disk *disk)
{
    read_ahead_free(disk->ahead);
    disk->ahead = NULL;
}
