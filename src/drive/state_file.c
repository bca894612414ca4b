#include "drive/state_file.h"

#include "base/check.h"
#include "base/mark.h"
#include "base/mem.h"

struct state_file {
    struct slot_file slots;
    struct disk *disk;
    struct disk_queue *queue;
    struct logger *logger;
    struct state_file_handler handler;
    void *user;
    bool failed;

    struct disk_job job;
    bool saving;
    bool repairing; /* with the save under way, or with the one that is to follow it */
    uint64_t number;
    struct raft_state last; /* saved, or being saved */
    bool waiting;           /* `last` isn't in the save under way, which is a repair; waiting_number is its number */
    uint64_t waiting_number;
    struct slot_save save;       /* the job's */
    struct disk_outcome outcome; /* the job's */
};

struct state_file *state_file_new(const char *path, struct disk *disk, struct disk_queue *queue, struct logger *logger,
                                  const struct state_file_handler *handler, void *user)
{
    struct state_file *file = mem_alloc_zero(sizeof *file);
    slot_file_init(&file->slots, path, RAFT_STATE_MAGIC, RAFT_STATE_VERSION);
    file->disk = disk;
    file->queue = queue;
    file->logger = logger;
    file->handler = *handler;
    file->user = user;
    return file;
}

void state_file_free(struct state_file *file)
{
    if (file == NULL) return;
    slot_file_free(&file->slots);
    mem_free(file);
}

enum error state_file_load(struct state_file *file, struct raft_state *out, char *text)
{
    uint8_t *data = slot_file_buffer();
    struct bytes content;
    enum error error = slot_file_load(&file->slots, file->disk, data, &content, text);
    if (error == ERR_OK) {
        char damage[256] = "";
        uint64_t generation;
        error = raft_state_decode(content, out, &generation, damage);
        if (error != ERR_OK) {
            disk_text_format(text, "%s: %s", file->slots.path, damage[0] != 0 ? damage : error_text(error));
            if (error == ERR_NO_FILE) error = ERR_DAMAGED; /* it is there, so it was saved once */
        }
    }
    if (error == ERR_OK && file->slots.slot_repairable) {
        MARK(STATE_SLOT_DAMAGED);
        slot_file_warn(&file->slots, file->logger, "raft state slot is damaged or older");
    }
    mem_free(data);
    return error;
}

enum error state_file_save_now(struct state_file *file, const struct raft_state *state, char *text)
{
    CHECK(!file->saving && !file->failed);
    file->last = *state;
    enum error error = disk_make_directory(file->disk, file->slots.directory);
    if (error == ERR_OK) {
        raft_state_encode(state, slot_file_begin(&file->slots, &file->save), file->save.slot);
        error = slot_save_run(&file->save, file->disk);
    }
    if (error != ERR_OK) {
        disk_text_copy(text, file->disk->error_text);
        file->failed = true;
        return error;
    }
    slot_file_saved(&file->slots);
    return ERR_OK;
}

static void begin_save(struct state_file *file, uint64_t number);

static void save_run(struct disk_job *job, struct disk *disk)
{
    struct state_file *file = (struct state_file *)((char *)job - offsetof(struct state_file, job));
    disk_outcome_take(&file->outcome, slot_save_run(&file->save, disk), disk);
}

static void save_done(struct disk_job *job)
{
    struct state_file *file = (struct state_file *)((char *)job - offsetof(struct state_file, job));
    file->saving = false;
    if (file->outcome.error != ERR_OK) {
        file->failed = true;
        file->handler.failed(file->user, file->outcome.text);
        return;
    }
    slot_file_saved(&file->slots);
    bool repaired = file->repairing;
    file->repairing = false;
    uint64_t number = file->number;
    if (file->waiting) begin_save(file, file->waiting_number);
    if (repaired) file->handler.repaired(file->user);
    if (number != 0) file->handler.saved(file->user, number);
}

static void begin_save(struct state_file *file, uint64_t number)
{
    raft_state_encode(&file->last, slot_file_begin(&file->slots, &file->save), file->save.slot);
    file->number = number;
    file->waiting = false;
    file->saving = true;
    file->job = (struct disk_job){.run = save_run, .done = save_done, .urgent = true};
    disk_submit(file->queue, &file->job);
}

void state_file_save(struct state_file *file, const struct raft_state *state, uint64_t number)
{
    CHECK(!file->waiting && (!file->saving || file->number == 0));
    if (file->failed) return; /* contract rule 7: nothing is written after a failure */
    file->last = *state;
    if (file->saving) {
        file->waiting = true;
        file->waiting_number = number;
        return;
    }
    begin_save(file, number);
}

void state_file_repair(struct state_file *file, unsigned bad_slot)
{
    if (file->failed || file->repairing) return;
    file->repairing = true;
    if (file->saving) return;
    file->slots.first_slot = bad_slot;
    begin_save(file, 0);
}

const struct slot_file *state_file_slots(const struct state_file *file)
{
    return &file->slots;
}

bool state_file_idle(const struct state_file *file)
{
    return !file->saving;
}
