/*
 * state_file.h - the raft state's file: loaded once, then saved whole, in two slots. (RaftStatePersistence)
 *
 * Each save writes and syncs slot 0, then slot 1 (storage/slots.h); it counts when both are durable. A failure is final.
 */
#ifndef CORACLE_DRIVE_STATE_FILE_H
#define CORACLE_DRIVE_STATE_FILE_H

#include "base/log.h"
#include "drive/slot_file.h"
#include "port/disk.h"
#include "storage/raft_state.h"

struct state_file;

struct state_file_handler {
    void (*saved)(void *user, uint64_t number);
    void (*failed)(void *user, const char *text);
    void (*repaired)(void *user); /* may be NULL if state_file_repair isn't called */
};

struct state_file *state_file_new(const char *path, struct disk *disk, struct disk_queue *queue, struct logger *logger,
                                  const struct state_file_handler *handler, void *user);
void state_file_free(struct state_file *file);

/* Synchronous, at the start, past the page cache. ERR_NO_FILE: never saved; ERR_DAMAGED, ERR_BAD_VERSION, ERR_IO with
   `text` (512 bytes) naming file and offset. A single damaged slot is repaired by the next save, and logged. */
enum error state_file_load(struct state_file *file, struct raft_state *out, char *text);
/* Synchronous, at the start: creates the file and its directory's entry, or rewrites it. Durable on return. */
enum error state_file_save_now(struct state_file *file, const struct raft_state *state, char *text);
/* Begins a save; `saved(number)` when durable. One at a time (repairs aside). Number 0 is nobody's: see state_file_repair. */
void state_file_save(struct state_file *file, const struct raft_state *state, uint64_t number);
/* A slot was found bad while serving: what was saved last is saved again, that slot first, unless a save is under way, which does it
   too. `repaired` when both are durable. A save that is begun meanwhile waits. */
void state_file_repair(struct state_file *file, unsigned bad_slot);
const struct slot_file *state_file_slots(const struct state_file *file);
bool state_file_idle(const struct state_file *file);

#endif
