#define _GNU_SOURCE 1
#include "os/disk.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/random.h"

static struct os_disk os_disk;
static struct disk *const disk = &os_disk.port;
static char root[256];

/* A path below the test's own directory; four of them may be in use at once. */
static const char *in(const char *name)
{
    static char paths[4][400];
    static unsigned next;
    char *path = paths[next++ % ARRAY_COUNT(paths)];
    snprintf(path, sizeof paths[0], "%s/%s", root, name);
    return path;
}

static int make_root(void **state)
{
    (void)state;
    const char *parent = getenv("TMPDIR");
    snprintf(root, sizeof root, "%s/coracle-disk-XXXXXX", parent != NULL ? parent : P_tmpdir);
    os_disk_init(&os_disk);
    return mkdtemp(root) != NULL ? 0 : -1;
}

static int remove_root(void **state)
{
    (void)state;
    char command[300];
    snprintf(command, sizeof command, "rm -r '%s'", root);
    return system(command);
}

static void assert_told(const char *operation, const char *path, const char *cause)
{
    char expected[sizeof disk->error_text];
    snprintf(expected, sizeof expected, "%s %s: %s", operation, path, cause);
    assert_string_equal(disk->error_text, expected);
}

static struct disk_file *open_file(const char *path, unsigned flags)
{
    struct disk_file *file = NULL;
    enum error error = disk_open(disk, path, flags, &file);
    if (error != ERR_OK) fail_msg("%s", disk->error_text);
    return file;
}

static void make_file(const char *path, const char *text)
{
    struct disk_file *file = open_file(path, DISK_WRITE | DISK_CREATE);
    assert_int_equal(disk_truncate(disk, file, 0), ERR_OK);
    assert_int_equal(disk_write(disk, file, 0, text, strlen(text)), ERR_OK);
    disk_close(disk, file);
}

static void assert_file(const char *path, const char *text)
{
    struct disk_file *file = open_file(path, DISK_READ);
    char data[256] = {0};
    size_t got;
    assert_int_equal(disk_read(disk, file, 0, data, sizeof data - 1, &got), ERR_OK);
    assert_string_equal(data, text);
    assert_int_equal(got, strlen(text));
    disk_close(disk, file);
}

#define MODEL_BYTES_MAX (256u * 1024)

/* Random writes, truncations and reads against an array; the file is read both ways. */
static void compare_with_model(bool avoid_direct, unsigned flags, uint64_t seed)
{
    os_disk.avoid_direct = avoid_direct;
    struct random random;
    random_seed(&random, seed);
    uint8_t *model = mem_alloc_zero(MODEL_BYTES_MAX);
    uint8_t *data = mem_alloc_aligned(DISK_ALIGNMENT, MODEL_BYTES_MAX);
    size_t size = 0;
    struct disk_file *file = open_file(in("model"), DISK_READ | DISK_WRITE | DISK_CREATE | DISK_EXCLUSIVE | flags);
    for (int step = 0; step < 400; step++) {
        size_t offset = random_below(&random, MODEL_BYTES_MAX);
        size_t length = random_below(&random, MODEL_BYTES_MAX - offset + 1);
        if (random_chance(&random, 500)) length %= 5000;
        size_t got = 12345;
        uint64_t told;
        switch (random_below(&random, 5)) {
        case 0:
        case 1:
            for (size_t i = 0; i < length; i++) data[i] = (uint8_t)random_u64(&random);
            assert_int_equal(disk_write(disk, file, offset, data, length), ERR_OK);
            memcpy(model + offset, data, length);
            if (length > 0 && offset + length > size) size = offset + length;
            break;
        case 2:
            assert_int_equal(disk_truncate(disk, file, offset), ERR_OK);
            if (offset < size) memset(model + offset, 0, size - offset);
            size = offset;
            break;
        case 3:
            assert_int_equal(disk_sync(disk, file), ERR_OK);
            assert_int_equal(disk_size(disk, file, &told), ERR_OK);
            assert_int_equal(told, size);
            break;
        default:
            if (flags & DISK_UNCACHED) {
                offset -= offset % DISK_ALIGNMENT;
                length -= length % DISK_ALIGNMENT;
            }
            assert_int_equal(disk_read(disk, file, offset, data, length, &got), ERR_OK);
            size_t expected = offset >= size ? 0 : size - offset < length ? size - offset : length;
            assert_int_equal(got, expected);
            assert_memory_equal(data, model + offset, got);
        }
    }
    disk_close(disk, file);
    assert_int_equal(disk_remove(disk, in("model")), ERR_OK);
    mem_free(model);
    mem_free(data);
    os_disk.avoid_direct = false;
}

static void file_behaves_like_an_array(void **state)
{
    (void)state;
    compare_with_model(false, 0, 1);
}

static void uncached_file_behaves_like_an_array(void **state)
{
    (void)state;
    compare_with_model(false, DISK_UNCACHED, 2);
}

static void uncached_file_without_direct_io_behaves_like_an_array(void **state)
{
    (void)state;
    compare_with_model(true, DISK_UNCACHED, 3);
}

static void uncached_reads_see_what_others_wrote_up_to_any_end(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 511, 512, 4095, 4096, 4097, 12287, 12288, 20000};
    uint8_t *data = mem_alloc_aligned(DISK_ALIGNMENT, 32768);
    for (int avoid = 0; avoid < 2; avoid++) {
        os_disk.avoid_direct = avoid;
        for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
            struct disk_file *writer = open_file(in("ends"), DISK_WRITE | DISK_CREATE);
            struct disk_file *reader = open_file(in("ends"), DISK_READ | DISK_UNCACHED);
            memset(data, (int)i + 1, 32768);
            assert_int_equal(disk_write(disk, writer, 0, data, sizes[i]), ERR_OK);
            memset(data, 0xee, 32768);
            size_t got = 1;
            assert_int_equal(disk_read(disk, reader, 0, data, 32768, &got), ERR_OK); /* not synced by anyone */
            assert_int_equal(got, sizes[i]);
            for (size_t at = 0; at < got; at++) assert_int_equal(data[at], i + 1);
            assert_int_equal(disk_read(disk, reader, 65536, data, 4096, &got), ERR_OK);
            assert_int_equal(got, 0);
            disk_close(disk, writer);
            disk_close(disk, reader);
            assert_int_equal(disk_remove(disk, in("ends")), ERR_OK);
        }
    }
    os_disk.avoid_direct = false;
    mem_free(data);
}

static void open_tells_what_is_there_and_what_is_not(void **state)
{
    (void)state;
    struct disk_file *file;
    assert_int_equal(disk_open(disk, in("none"), DISK_READ, &file), ERR_NO_FILE);
    assert_told("open", in("none"), "No such file or directory");
    assert_int_equal(disk_open(disk, in("none"), DISK_READ | DISK_UNCACHED, &file), ERR_NO_FILE);
    assert_int_equal(disk_open(disk, in("none/below"), DISK_WRITE | DISK_CREATE, &file), ERR_NO_FILE);

    make_file(in("file"), "text");
    assert_int_equal(disk_open(disk, in("file"), DISK_WRITE | DISK_CREATE | DISK_EXCLUSIVE, &file), ERR_EXISTS);
    assert_told("open", in("file"), "File exists");
    assert_int_equal(disk_open(disk, in("file/below"), DISK_READ, &file), ERR_NO_FILE);
    assert_told("open", in("file/below"), "Not a directory");
    assert_int_equal(disk_open(disk, root, DISK_WRITE, &file), ERR_IO);
    assert_told("open", root, "Is a directory");
    /* DISK_CREATE leaves what is there as it is. */
    file = open_file(in("file"), DISK_READ | DISK_WRITE | DISK_CREATE);
    uint64_t size;
    assert_int_equal(disk_size(disk, file, &size), ERR_OK);
    assert_int_equal(size, 4);
    disk_close(disk, file);

    char *long_path = mem_alloc_zero(6001);
    memset(long_path, 'x', 6000);
    assert_int_equal(disk_open(disk, long_path, DISK_READ, &file), ERR_IO);
    assert_int_equal(strlen(disk->error_text), sizeof disk->error_text - 1); /* cut, not overrun */
    mem_free(long_path);
}

static void files_and_directories_are_private(void **state)
{
    (void)state;
    make_file(in("private"), "");
    assert_int_equal(disk_make_directories(disk, in("private.d")), ERR_OK);
    struct stat status;
    assert_int_equal(stat(in("private"), &status), 0);
    assert_int_equal(status.st_mode & 07077, 0);
    assert_int_equal(stat(in("private.d"), &status), 0);
    assert_int_equal(status.st_mode & 07077, 0);
}

static void permission_is_an_error_of_its_own(void **state)
{
    (void)state;
    assert_int_equal(chmod(root, 0755), 0);
    assert_int_equal(disk_make_directories(disk, in("theirs")), ERR_OK);
    make_file(in("theirs/file"), "x");
    assert_int_equal(chmod(in("theirs/file"), 0), 0);
    assert_int_equal(chmod(in("theirs"), 0555), 0);
    bool is_root = geteuid() == 0;
    if (is_root) assert_int_equal(seteuid(65534), 0); /* root may do everything */
    struct disk_file *file;
    enum error create = disk_open(disk, in("theirs/new"), DISK_WRITE | DISK_CREATE, &file);
    enum error directory = disk_make_directories(disk, in("theirs/d/e"));
    enum error read = disk_open(disk, in("theirs/file"), DISK_READ, &file);
    enum error removed = disk_remove(disk, in("theirs/file"));
    enum error renamed = disk_rename(disk, in("theirs/file"), in("theirs/other"));
    if (is_root) assert_int_equal(seteuid(0), 0);
    assert_int_equal(create, ERR_NO_PERMISSION);
    assert_int_equal(directory, ERR_NO_PERMISSION);
    assert_int_equal(read, ERR_NO_PERMISSION);
    assert_int_equal(removed, ERR_NO_PERMISSION);
    assert_int_equal(renamed, ERR_NO_PERMISSION);
    assert_int_equal(chmod(in("theirs"), 0700), 0);
}

static void full_device_is_no_space(void **state)
{
    (void)state;
    struct disk_file *file = open_file("/dev/full", DISK_READ | DISK_WRITE);
    assert_int_equal(disk_write(disk, file, 0, "x", 1), ERR_NO_SPACE);
    assert_told("write", "/dev/full", "No space left on device");
    /* A device that can't be synced or cut. */
    assert_int_equal(disk_sync(disk, file), ERR_IO);
    assert_told("fdatasync", "/dev/full", "Invalid argument");
    assert_int_equal(disk_truncate(disk, file, 0), ERR_IO);
    assert_told("ftruncate", "/dev/full", "Invalid argument");
    disk_close(disk, file);

    /* And an uncached read, which has to sync where there is no direct one. */
    os_disk.avoid_direct = true;
    file = open_file("/dev/full", DISK_READ | DISK_UNCACHED);
    uint8_t *data = mem_alloc_aligned(DISK_ALIGNMENT, DISK_ALIGNMENT);
    size_t got;
    assert_int_equal(disk_read(disk, file, 0, data, DISK_ALIGNMENT, &got), ERR_IO);
    assert_told("fdatasync", "/dev/full", "Invalid argument");
    os_disk.avoid_direct = false;
    disk_close(disk, file);
    mem_free(data);
}

static void write_past_the_size_limit_fails_after_a_short_write(void **state)
{
    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 10000;
    struct disk_file *file = open_file(in("limited"), DISK_READ | DISK_WRITE | DISK_CREATE);
    uint8_t data[16384];
    memset(data, 7, sizeof data);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    /* The system writes 10000 bytes of these, and says why not more when asked for the rest. */
    enum error crossing = disk_write(disk, file, 0, data, sizeof data);
    char crossing_text[sizeof disk->error_text];
    memcpy(crossing_text, disk->error_text, sizeof crossing_text);
    enum error beyond = disk_write(disk, file, 20000, data, 1);
    enum error extending = disk_truncate(disk, file, 20000);
    enum error within = disk_write(disk, file, 9999, data, 1);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(crossing, ERR_IO);
    memcpy(disk->error_text, crossing_text, sizeof crossing_text);
    assert_told("write", in("limited"), "File too large");
    assert_int_equal(beyond, ERR_IO);
    assert_int_equal(extending, ERR_IO);
    assert_int_equal(within, ERR_OK);
    uint64_t size;
    assert_int_equal(disk_size(disk, file, &size), ERR_OK);
    assert_int_equal(size, 10000);
    disk_close(disk, file);
}

static void using_a_file_otherwise_than_opened_fails(void **state)
{
    (void)state;
    make_file(in("used"), "text");
    struct disk_file *file = open_file(in("used"), DISK_READ);
    assert_int_equal(disk_write(disk, file, 0, "x", 1), ERR_IO);
    assert_told("write", in("used"), "Bad file descriptor");
    assert_int_equal(disk_truncate(disk, file, 0), ERR_IO);
    assert_int_equal(disk_write(disk, file, 0, "x", 0), ERR_OK);
    disk_close(disk, file);
    file = open_file(in("used"), DISK_WRITE);
    size_t got;
    char data[4];
    assert_int_equal(disk_read(disk, file, 0, data, 4, &got), ERR_IO);
    assert_told("read", in("used"), "Bad file descriptor");
    disk_close(disk, file);
    file = open_file(root, DISK_READ);
    assert_int_equal(disk_read(disk, file, 0, data, 4, &got), ERR_IO);
    assert_told("read", root, "Is a directory");
    disk_close(disk, file);
    assert_file(in("used"), "text");
}

static void running_out_of_descriptors_is_an_error(void **state)
{
    (void)state;
    make_file(in("many"), "");
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    int next = dup(0);
    close(next);
    small = before;
    small.rlim_cur = (rlim_t)next;
    struct disk_file *file;
    struct disk_lock *lock;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &small), 0);
    enum error open_error = disk_open(disk, in("many"), DISK_READ, &file);
    enum error list_error = disk_list(disk, root, NULL, NULL);
    enum error sync_error = disk_sync_directory(disk, root);
    enum error lock_error = disk_lock(disk, in("many"), &lock);
    /* One descriptor is there, the second, for uncached reads, is not: the first is given back. */
    small.rlim_cur++;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &small), 0);
    enum error uncached_error = disk_open(disk, in("many"), DISK_READ | DISK_UNCACHED, &file);
    enum error again_error = disk_open(disk, in("many"), DISK_READ, &file);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(open_error, ERR_IO);
    assert_int_equal(list_error, ERR_IO);
    assert_int_equal(sync_error, ERR_IO);
    assert_int_equal(lock_error, ERR_IO);
    assert_int_equal(uncached_error, ERR_IO);
    assert_int_equal(again_error, ERR_OK);
    disk_close(disk, file);
}

static void rename_replaces_and_remove_removes(void **state)
{
    (void)state;
    make_file(in("from"), "new");
    make_file(in("to"), "old, and longer");
    assert_int_equal(disk_rename(disk, in("from"), in("to")), ERR_OK);
    assert_file(in("to"), "new");
    assert_int_equal(disk_sync_directory(disk, root), ERR_OK);

    assert_int_equal(disk_rename(disk, in("from"), in("to")), ERR_NO_FILE);
    char expected[sizeof disk->error_text];
    snprintf(expected, sizeof expected, "rename %s to %s: No such file or directory", in("from"), in("to"));
    assert_string_equal(disk->error_text, expected);
    assert_int_equal(disk_rename(disk, in("to"), in("missing/to")), ERR_NO_FILE);
    assert_file(in("to"), "new");

    assert_int_equal(disk_remove(disk, in("to")), ERR_OK);
    assert_int_equal(disk_remove(disk, in("to")), ERR_NO_FILE);
    assert_told("remove", in("to"), "No such file or directory");
    assert_int_equal(disk_remove(disk, root), ERR_IO); /* it removes files only */
    assert_true(disk_is_directory(disk, root));
    assert_int_equal(disk_sync_directory(disk, in("missing")), ERR_NO_FILE);
    assert_told("open", in("missing"), "No such file or directory");
}

static void make_directories_makes_all_that_is_missing(void **state)
{
    (void)state;
    static const char *const made[] = {"one", "a/b/c", "a/b/d/", "s//t///u//", "a/b"};
    for (size_t i = 0; i < ARRAY_COUNT(made); i++) {
        assert_int_equal(disk_make_directories(disk, in(made[i])), ERR_OK);
        assert_true(disk_is_directory(disk, in(made[i])));
        assert_int_equal(disk_make_directories(disk, in(made[i])), ERR_OK);
    }
    assert_int_equal(disk_make_directories(disk, "/"), ERR_OK);
    assert_int_equal(disk_make_directories(disk, ""), ERR_NO_FILE);

    make_file(in("plain"), "");
    assert_false(disk_is_directory(disk, in("plain")));
    assert_false(disk_is_directory(disk, in("nowhere")));
    assert_int_equal(disk_make_directories(disk, in("plain")), ERR_EXISTS);
    assert_told("mkdir", in("plain"), "File exists");
    assert_int_equal(disk_make_directories(disk, in("plain/x")), ERR_EXISTS);
    assert_int_equal(disk_make_directories(disk, in("new/../plain/x/y")), ERR_EXISTS);

    /* Relative to where the process is. */
    int here = open(".", O_RDONLY | O_DIRECTORY);
    assert_true(here >= 0);
    assert_int_equal(chdir(root), 0);
    assert_int_equal(disk_make_directories(disk, "relative"), ERR_OK);
    assert_int_equal(disk_make_directories(disk, "rel/a/tive"), ERR_OK);
    assert_int_equal(fchdir(here), 0);
    close(here);
    assert_true(disk_is_directory(disk, in("relative")));
    assert_true(disk_is_directory(disk, in("rel/a/tive")));
}

struct listing {
    char text[256];
    size_t count;
    char last[64];
};

static void note_name(void *user, const char *name)
{
    struct listing *listing = user;
    if (listing->count < 10) {
        size_t size = strlen(listing->text);
        snprintf(listing->text + size, sizeof listing->text - size, "%s,", name);
    }
    if (listing->count > 0) assert_true(strcmp(listing->last, name) < 0);
    snprintf(listing->last, sizeof listing->last, "%s", name);
    listing->count++;
    /* The disk may be used while it lists. */
    assert_false(disk_is_directory(disk, "/dev/full"));
}

static void list_is_in_the_order_of_bytes(void **state)
{
    (void)state;
    struct listing none = {0}, few = {0}, many = {0};
    assert_int_equal(disk_make_directories(disk, in("list/sub")), ERR_OK);
    assert_int_equal(disk_list(disk, in("list/sub"), note_name, &none), ERR_OK);
    assert_int_equal(none.count, 0);

    static const char *const names[] = {"b", "a", "B", ".hidden", "\xc3\xa4", "10", "9", "..."};
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        char name[64];
        snprintf(name, sizeof name, "list/%s", names[i]);
        make_file(in(name), "");
    }
    assert_int_equal(disk_list(disk, in("list"), note_name, &few), ERR_OK);
    assert_string_equal(few.text, "...,.hidden,10,9,B,a,b,sub,\xc3\xa4,");

    for (int i = 0; i < 1000; i++) {
        char name[64];
        snprintf(name, sizeof name, "list/sub/%d", i * 7919 % 1000);
        make_file(in(name), "");
    }
    assert_int_equal(disk_list(disk, in("list/sub"), note_name, &many), ERR_OK);
    assert_int_equal(many.count, 1000);

    assert_int_equal(disk_list(disk, in("nowhere"), note_name, &none), ERR_NO_FILE);
    assert_told("open", in("nowhere"), "No such file or directory");
    assert_int_equal(disk_list(disk, in("list/a"), note_name, &none), ERR_NO_FILE);
    assert_int_equal(none.count, 0);
}

/* Starts a process that takes the lock and waits to be killed. */
static pid_t start_holder(const char *path)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct os_disk own;
        os_disk_init(&own);
        struct disk_lock *lock;
        char answer = disk_lock(&own.port, path, &lock) == ERR_OK ? 'y' : 'n';
        if (write(ends[1], &answer, 1) != 1) _exit(1);
        for (;;) pause();
    }
    close(ends[1]);
    char answer = 0;
    assert_int_equal(read(ends[0], &answer, 1), 1);
    assert_int_equal(answer, 'y');
    close(ends[0]);
    return child;
}

static void lock_names_its_holder_and_ends_with_it(void **state)
{
    (void)state;
    char text[sizeof disk->error_text];
    struct disk_lock *lock, *second;
    pid_t child = start_holder(in("lock"));
    assert_int_equal(disk_lock(disk, in("lock"), &lock), ERR_LOCKED);
    snprintf(text, sizeof text, "lock %s: held by process %d", in("lock"), (int)child);
    assert_string_equal(disk->error_text, text);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);

    /* Free at once; within one process it excludes as well. */
    assert_int_equal(disk_lock(disk, in("lock"), &lock), ERR_OK);
    assert_int_equal(disk_lock(disk, in("lock"), &second), ERR_LOCKED);
    snprintf(text, sizeof text, "lock %s: held by process %d", in("lock"), (int)getpid());
    assert_string_equal(disk->error_text, text);
    snprintf(text, sizeof text, "%d\n", (int)getpid());
    assert_file(in("lock"), text);

    make_file(in("lock"), "garbage");
    assert_int_equal(disk_lock(disk, in("lock"), &second), ERR_LOCKED);
    snprintf(text, sizeof text, "lock %s: held by another process", in("lock"));
    assert_string_equal(disk->error_text, text);
    disk_unlock(disk, lock);
    assert_int_equal(disk_lock(disk, in("lock"), &lock), ERR_OK);
    disk_unlock(disk, lock);
    assert_int_equal(disk_lock(disk, in("nowhere/lock"), &lock), ERR_NO_FILE);
}

static void lock_needs_no_room_on_the_disk(void **state)
{
    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit before, none;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    none = before;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
    struct disk_lock *lock;
    enum error error = disk_lock(disk, in("full-lock"), &lock);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(error, ERR_OK);
    disk_unlock(disk, lock);
}

static void free_space_is_that_of_the_file_system(void **state)
{
    (void)state;
    uint64_t space = 0;
    assert_int_equal(disk_free_space(disk, root, &space), ERR_OK);
    assert_true(space > 0);
    assert_int_equal(disk_free_space(disk, "/proc", &space), ERR_OK);
    assert_int_equal(space, 0);
    assert_int_equal(disk_free_space(disk, in("nowhere"), &space), ERR_NO_FILE);
    assert_told("statvfs", in("nowhere"), "No such file or directory");
}

static volatile sig_atomic_t alarms;

static void count_alarm(int number)
{
    (void)number;
    alarms++;
}

static void an_interrupted_call_goes_on(void **state)
{
    (void)state;
    /* Opening a named pipe waits for its other end: here it is interrupted several times meanwhile. */
    assert_int_equal(mkfifo(in("fifo"), 0600), 0);
    pid_t parent = getpid();
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        for (int i = 0; i < 5; i++) {
            usleep(20000);
            kill(parent, SIGALRM);
        }
        usleep(20000);
        struct disk_file *writer;
        _exit(disk_open(disk, in("fifo"), DISK_WRITE, &writer) != ERR_OK);
    }
    struct sigaction action = {.sa_handler = count_alarm}; /* no SA_RESTART */
    assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
    struct disk_file *file = open_file(in("fifo"), DISK_READ);
    assert_true(alarms > 0);
    disk_close(disk, file);
    int status;
    pid_t waited;
    do {
        waited = waitpid(child, &status, 0);
    } while (waited < 0);
    assert_int_equal(status, 0);
    signal(SIGALRM, SIG_DFL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(file_behaves_like_an_array),
        cmocka_unit_test(uncached_file_behaves_like_an_array),
        cmocka_unit_test(uncached_file_without_direct_io_behaves_like_an_array),
        cmocka_unit_test(uncached_reads_see_what_others_wrote_up_to_any_end),
        cmocka_unit_test(open_tells_what_is_there_and_what_is_not),
        cmocka_unit_test(files_and_directories_are_private),
        cmocka_unit_test(permission_is_an_error_of_its_own),
        cmocka_unit_test(full_device_is_no_space),
        cmocka_unit_test(write_past_the_size_limit_fails_after_a_short_write),
        cmocka_unit_test(using_a_file_otherwise_than_opened_fails),
        cmocka_unit_test(running_out_of_descriptors_is_an_error),
        cmocka_unit_test(rename_replaces_and_remove_removes),
        cmocka_unit_test(make_directories_makes_all_that_is_missing),
        cmocka_unit_test(list_is_in_the_order_of_bytes),
        cmocka_unit_test(lock_names_its_holder_and_ends_with_it),
        cmocka_unit_test(lock_needs_no_room_on_the_disk),
        cmocka_unit_test(free_space_is_that_of_the_file_system),
        cmocka_unit_test(an_interrupted_call_goes_on),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
