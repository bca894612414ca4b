/*
 * scrub.h - reads the node's files again, slowly, all the time: damage is to be found while memory and the other members still have
 * what is lost, and not at the next start.
 *
 * A pass looks at every byte that recovery would rely on, past the page cache:
 *
 *     the two slots of the raft state, of the log's metadata and of the snapshot's: both are good, the same, and not older than the
 *         last save (a write that the device lost)
 *     the log's segments, oldest first: what is written and synced of each (storage/log_verify.h); not what is being written
 *     the snapshot that counts: every chunk, and its end
 *
 * One pass begins every `interval`, the first one a fraction of it after the start. It goes in slices of SCRUB_SLICE_BYTES, each a disk job
 * that isn't urgent, with a pause after each that keeps to `bytes_per_second`. Between passes nothing happens and no
 * timer is set. With interval 0 there are no passes; a suspected snapshot is checked all the same.
 *
 * It only finds; what follows is the owner's affair (repair.h). What can't be read (ERR_IO) counts as damaged; a file that can't be opened is left out, and
 * logged. On the core thread, but for
 * the `run` of its job, which reads and checks a slice.
 */
#ifndef CORACLE_DRIVE_SCRUB_H
#define CORACLE_DRIVE_SCRUB_H

#include "drive/damage.h"
#include "drive/log_manager.h"
#include "drive/snapshot_handler.h"
#include "drive/state_file.h"

#define SCRUB_SLICE_BYTES (256u * 1024)
/* The first pass begins this part of the interval after the start. */
#define SCRUB_FIRST_PASS_DIVISOR 24
/* A suspected snapshot that turned out good isn't checked again before this has passed. */
#define SCRUB_SUSPICION_INTERVAL (30 * TIME_NS_PER_S)

struct scrub_config {
    time_ns interval; /* 0: off */
    uint64_t bytes_per_second;
    struct disk_queue *queue; /* borrowed for its lifetime, as are all below */
    struct logger *logger;
    const struct state_file *state_file;
    const struct log_manager *log;
    const struct snapshot_handler *snapshots;
};

struct scrub_handler {
    /* A slot of one of the first three files; `text` says what is wrong, with the file's path. */
    void (*bad_slot)(void *user, enum damaged_file file, unsigned slot, const char *text);
    void (*bad_segment)(void *user, uint64_t number, uint64_t offset, const char *text);
    void (*bad_snapshot)(void *user, uint64_t epoch, const char *text);
};

struct scrub_status {
    uint64_t passes, bytes; /* finished passes; bytes read */
    time_ns last_pass;      /* when one ended, in the loop's time; 0: none has */
    bool running;
};

struct scrub;

struct scrub *scrub_new(const struct scrub_config *config, const struct scrub_handler *handler, void *user);
/* No job may be under way, see scrub_idle; or the writer is gone. */
void scrub_free(struct scrub *scrub);

/* The node serves from now on. */
void scrub_start(struct scrub *scrub, time_ns now);
/* Nothing more is begun. */
void scrub_stop(struct scrub *scrub);
/* Looks at the current snapshot at once and without pauses; before or in the midst of a pass. */
void scrub_suspect_snapshot(struct scrub *scrub, time_ns now);

void scrub_tick(struct scrub *scrub, time_ns now);
/* When scrub_tick is needed; TIME_NS_NEVER while a job is under way. */
time_ns scrub_deadline(const struct scrub *scrub);
bool scrub_idle(const struct scrub *scrub);
void scrub_status(const struct scrub *scrub, struct scrub_status *out);

#endif
