/*
 * slot_file.h - a file of two slots (storage/slots.h) on the disk port. Stands under the raft state and the metadata
 * of log and snapshots.
 *
 * The first save writes both slots into PATH.tmp, syncs, renames and syncs the directory: the file is there with two good
 * slots or not at all, so a file without a good slot is damage, never the leftover of a crash. Each later save writes the
 * slots in place, one after the other, each with its sync. First goes the slot that the load did NOT choose: what this
 * process relies on stays readable, whatever the save's fate, even if a crash had left the two different.
 *
 * What a load finds need not be durable, not even the file's name: an earlier process may have ended between a write or the
 * renaming and its sync, or its sync failed. So the first save of a process syncs the directory as well; and who
 * relies on what was loaded without saving it calls slot_file_make_durable.
 */
#ifndef CORACLE_DRIVE_SLOT_FILE_H
#define CORACLE_DRIVE_SLOT_FILE_H

#include "base/log.h"
#include "drive/disk_tools.h"
#include "storage/slots.h"

struct slot_file {
    char *path;
    char *directory;
    uint32_t magic;
    uint32_t version_max;
    uint64_t generation; /* of the last save that was loaded or begun */
    bool exists;
    bool name_is_durable; /* known to be, since this process made it so */
    unsigned first_slot;  /* to be written first by the next save */
    bool slot_repairable; /* one slot was damaged, or older, when it was loaded */
    bool slot_damaged;    /* it was damaged, not older */
};

void slot_file_init(struct slot_file *file, const char *path, uint32_t magic, uint32_t version_max);
void slot_file_free(struct slot_file *file);

/* Aligned memory for slot_file_load. */
uint8_t *slot_file_buffer(void);
/*
 * A slot that the device can't read is a damaged one.
 * Reads the file past the page cache into `data` (slot_file_buffer) and notes which slot is good; *content is the bytes
 * read, for the decoder. ERR_NO_FILE: there is no such file. ERR_DAMAGED, ERR_BAD_VERSION, ERR_IO with text.
 */
enum error slot_file_load(struct slot_file *file, struct disk *disk, uint8_t *data, struct bytes *content, char *text);

/* Syncs what was loaded, and its name. ERR_IO, …: disk->error_text says it. */
enum error slot_file_make_durable(struct slot_file *file, struct disk *disk);

/* After a load that succeeded: a warning with file and offset when one of the slots isn't what the other is. */
void slot_file_warn(const struct slot_file *file, struct logger *logger, const char *event);

/* A save, cut off from the owner, so that a job's run can carry it out. */
struct slot_save {
    const char *path; /* borrowed, as is directory */
    const char *directory;
    unsigned first_slot;
    bool create, sync_directory;
    uint8_t slot[SLOT_BYTES]; /* both slots get these bytes; encoded by the owner with slot_file_begin's generation */
};

/* Prepares `save` but for its slot; returns the generation to encode. One save at a time. */
uint64_t slot_file_begin(struct slot_file *file, struct slot_save *save);
/* On the writer, or at the start. ERR_NO_SPACE, ERR_IO, …: disk->error_text says it. */
enum error slot_save_run(const struct slot_save *save, struct disk *disk);
/* The save is durable. */
void slot_file_saved(struct slot_file *file);

#endif
