/*
 * bench_floor.c - what this machine can do at best: a sync of a 4 KiB write with three writers at once, and a round trip
 * over loopback TCP. Prints the medians in microseconds, as "sync_us rtt_us".
 *
 *     bench_floor DIRECTORY
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WRITERS 3
#define WRITES 400
#define TRIPS 5000
#define BLOCK_BYTES 4096
#define TRIP_BYTES 300

static double now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static void die(const char *what)
{
    fprintf(stderr, "bench_floor: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *samples, size_t count)
{
    qsort(samples, count, sizeof samples[0], compare);
    return samples[count / 2];
}

struct writer {
    char path[1024];
    double samples[WRITES];
};

static void *write_and_sync(void *user)
{
    struct writer *writer = user;
    int file = open(writer->path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file < 0) die(writer->path);
    char block[BLOCK_BYTES] = {0};
    for (int i = 0; i < WRITES; i++) {
        if (pwrite(file, block, sizeof block, (off_t)i * BLOCK_BYTES) != BLOCK_BYTES) die(writer->path);
    }
    if (fdatasync(file) != 0) die(writer->path);
    for (int i = 0; i < WRITES; i++) {
        memset(block, i + 1, sizeof block);
        double begin = now_us();
        if (pwrite(file, block, sizeof block, (off_t)i * BLOCK_BYTES) != BLOCK_BYTES) die(writer->path);
        if (fdatasync(file) != 0) die(writer->path);
        writer->samples[i] = now_us() - begin;
    }
    close(file);
    unlink(writer->path);
    return NULL;
}

static double measure_sync(const char *directory)
{
    static struct writer writers[WRITERS];
    static double all[WRITERS * WRITES];
    pthread_t threads[WRITERS];
    for (int i = 0; i < WRITERS; i++) {
        snprintf(writers[i].path, sizeof writers[i].path, "%s/bench-floor-%d", directory, i);
        if (pthread_create(&threads[i], NULL, write_and_sync, &writers[i]) != 0) die("pthread_create");
    }
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(threads[i], NULL);
        memcpy(all + i * WRITES, writers[i].samples, sizeof writers[i].samples);
    }
    return median(all, WRITERS * WRITES);
}

static void exchange(int stream, bool first, int trips, double *samples);

static double measure_round_trip(void)
{
    static double samples[TRIPS];
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) != 0 || listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) != 0) {
        die("listen");
    }
    pid_t child = fork();
    if (child < 0) die("fork");
    int one = 1;
    if (child == 0) {
        int stream = accept(listener, NULL, NULL);
        if (stream < 0) die("accept");
        setsockopt(stream, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        exchange(stream, false, TRIPS, NULL);
        _exit(0);
    }
    int stream = socket(AF_INET, SOCK_STREAM, 0);
    if (stream < 0 || connect(stream, (struct sockaddr *)&address, size) != 0) die("connect");
    setsockopt(stream, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    exchange(stream, true, TRIPS, samples);
    close(stream);
    close(listener);
    waitpid(child, NULL, 0);
    return median(samples, TRIPS);
}

static void read_all(int stream, char *data, size_t size)
{
    for (size_t got = 0; got < size;) {
        ssize_t n = read(stream, data + got, size - got);
        if (n <= 0) die("read");
        got += (size_t)n;
    }
}

static void exchange(int stream, bool first, int trips, double *samples)
{
    char data[TRIP_BYTES] = {0};
    for (int i = 0; i < trips; i++) {
        double begin = now_us();
        if (first && write(stream, data, sizeof data) != (ssize_t)sizeof data) die("write");
        read_all(stream, data, sizeof data);
        if (!first && write(stream, data, sizeof data) != (ssize_t)sizeof data) die("write");
        if (samples != NULL) samples[i] = now_us() - begin;
    }
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: bench_floor DIRECTORY\n");
        return 2;
    }
    printf("%.1f %.1f\n", measure_sync(argv[1]), measure_round_trip());
    return 0;
}
