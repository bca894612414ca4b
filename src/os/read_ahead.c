#define _GNU_SOURCE 1
#include "os/read_ahead.h"

#include <errno.h>
#include <linux/aio_abi.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "port/disk.h"

struct read_ahead {
    aio_context_t context;
    struct iocb request;
    bool pending;
    uint8_t *buffer; /* READ_AHEAD_BYTES_MAX, aligned; made when first used */
};

struct read_ahead *read_ahead_new(void)
{
    aio_context_t context = 0;
    if (syscall(SYS_io_setup, 1, &context) != 0) return NULL;
    struct read_ahead *ahead = mem_alloc_zero(sizeof *ahead);
    ahead->context = context;
    return ahead;
}

void read_ahead_free(struct read_ahead *ahead)
{
    if (ahead == NULL) return;
    read_ahead_drop(ahead);
    syscall(SYS_io_destroy, ahead->context);
    mem_free(ahead->buffer);
    mem_free(ahead);
}

void read_ahead_begin(struct read_ahead *ahead, int fd, uint64_t offset, size_t size)
{
    read_ahead_drop(ahead);
    if (size < READ_AHEAD_BYTES_MIN || size > READ_AHEAD_BYTES_MAX) return;
    if (ahead->buffer == NULL) ahead->buffer = mem_alloc_aligned(DISK_ALIGNMENT, READ_AHEAD_BYTES_MAX);
    ahead->request = (struct iocb){.aio_lio_opcode = IOCB_CMD_PREAD,
                                   .aio_fildes = (uint32_t)fd,
                                   .aio_buf = (uintptr_t)ahead->buffer,
                                   .aio_nbytes = size,
                                   .aio_offset = (int64_t)offset};
    struct iocb *requests[] = {&ahead->request};
    ahead->pending = syscall(SYS_io_submit, ahead->context, 1, requests) == 1;
}

/* The length of what was read, or -1. */
static int64_t wait_for_it(struct read_ahead *ahead)
{
    CHECK(ahead->pending);
    struct io_event event = {0};
    long count;
    do {
        count = syscall(SYS_io_getevents, ahead->context, 1, 1, &event, NULL);
    } while (count < 0 && errno == EINTR);
    CHECK(count == 1);
    ahead->pending = false;
    return event.res < 0 ? -1 : event.res;
}

int64_t read_ahead_take(struct read_ahead *ahead, int fd, uint64_t offset, void *data, size_t size)
{
    if (!ahead->pending) return -1;
    bool wanted = ahead->request.aio_fildes == (uint32_t)fd && ahead->request.aio_offset == (int64_t)offset &&
                  ahead->request.aio_nbytes == size;
    int64_t length = wait_for_it(ahead);
    if (!wanted || length < 0) return -1;
    memcpy(data, ahead->buffer, (size_t)length);
    return length;
}

void read_ahead_drop(struct read_ahead *ahead)
{
    if (ahead->pending) wait_for_it(ahead);
}
