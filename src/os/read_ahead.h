/*
 * read_ahead.h - the next slice of a file, read from the device while the caller works on the last one.
 *
 * For the long sequential reads of a start: O_DIRECT has no read-ahead of the kernel's. One read is under way at a time,
 * by Linux's native AIO (io_submit(2)), which needs no thread; where that isn't to be had, nothing is read ahead.
 *
 * The owner drops what was read ahead before it writes or closes a file.
 */
#ifndef CORACLE_OS_READ_AHEAD_H
#define CORACLE_OS_READ_AHEAD_H

#include "base/types.h"

/* Slices below this aren't worth it; above it nothing is read ahead. */
#define READ_AHEAD_BYTES_MIN (256u * 1024)
#define READ_AHEAD_BYTES_MAX (4u * 1024 * 1024)

struct read_ahead;

/* NULL when the system has no native AIO. */
struct read_ahead *read_ahead_new(void);
void read_ahead_free(struct read_ahead *ahead);

/* Begins to read `size` bytes at `offset` of `fd`, which was opened with O_DIRECT. No effect when it can't. */
void read_ahead_begin(struct read_ahead *ahead, int fd, uint64_t offset, size_t size);

/* Takes what was read ahead for just this range, waiting for it: its length (below size at the end of the file); -1 when it
   wasn't, or failed; then the caller reads by itself, and sees the error. */
int64_t read_ahead_take(struct read_ahead *ahead, int fd, uint64_t offset, void *data, size_t size);

/* Waits for what is under way and forgets it. */
void read_ahead_drop(struct read_ahead *ahead);

#endif
