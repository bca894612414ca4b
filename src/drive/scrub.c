#include "drive/scrub.h"

#include "base/check.h"
#include "base/mem.h"
#include "storage/log_verify.h"

_Static_assert(SCRUB_SLICE_BYTES % LOG_BATCH_ALIGNMENT == 0, "a slice ends where a batch may begin");
_Static_assert(SCRUB_SLICE_BYTES >= SLOT_COUNT * SLOT_BYTES, "a file of slots is one slice");

/* One slice of one file. */
struct scrub_job {
    struct disk_job job;
    bool active;
    /* The run's: */
    enum damaged_file file;
    char *path;
    uint64_t offset;
    size_t bytes;
    uint8_t *data; /* SCRUB_SLICE_BYTES, aligned */
    size_t got;
    /* Slots: what is expected. */
    uint32_t magic, version_max;
    uint64_t generation_min;
    /* A segment. */
    struct log_verify verify;
    bool last; /* nothing of it comes after this slice */
    /* A snapshot. */
    struct snapshot_reader *reader;
    uint64_t total;
    /* What was found. */
    enum error error; /* ERR_OK; ERR_NO_FILE; ERR_DAMAGED with the rest */
    unsigned bad_slot;
    uint64_t bad_offset;
    char text[DISK_TEXT_BYTES];
};

struct scrub {
    struct scrub_config config;
    struct scrub_handler handler;
    void *user;
    bool started, stopped;
    time_ns now;
    time_ns due;      /* the next slice, while there is something to look at */
    time_ns pass_due; /* the next pass */
    bool running;
    time_ns began;

    enum damaged_file file; /* that the pass is at */
    uint64_t segment;       /* number; 0: none yet */
    struct log_segment_view view;
    uint64_t epoch; /* of the snapshot that is being read; 0: none */
    uint64_t offset;

    bool suspected; /* the snapshot is to be checked now */
    bool checking;  /* it is */
    time_ns suspicion_again;

    struct scrub_job job;
    uint64_t passes, bytes;
    time_ns last_pass;
};

struct scrub *scrub_new(const struct scrub_config *config, const struct scrub_handler *handler, void *user)
{
    struct scrub *scrub = mem_alloc_zero(sizeof *scrub);
    scrub->config = *config;
    scrub->handler = *handler;
    scrub->user = user;
    scrub->pass_due = TIME_NS_NEVER;
    return scrub;
}

void scrub_free(struct scrub *scrub)
{
    if (scrub == NULL) return;
    mem_free(scrub->job.path);
    mem_free(scrub->job.data);
    if (scrub->job.reader != NULL) snapshot_reader_free(scrub->job.reader);
    mem_free(scrub);
}

/* ---- on the writer ---- */

static enum error bad(struct scrub_job *job, uint64_t offset, const char *what)
{
    job->bad_offset = offset;
    disk_text_copy(job->text, what);
    return ERR_DAMAGED;
}

static enum error check_slots(struct scrub_job *job)
{
    struct slot_content content;
    char damage[SLOT_DAMAGE_BYTES] = "";
    struct bytes file = bytes_of(job->data, job->got);
    enum error error = slot_choose(job->magic, job->version_max, file, &content, damage);
    if (error == ERR_BAD_VERSION) return ERR_OK; /* a newer program wrote it, which is no damage */
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++) {
        if (error == ERR_OK && content.slot_good[slot]) continue;
        job->bad_slot = slot;
        return bad(job, slot * SLOT_BYTES, error == ERR_NO_FILE ? "both slots are empty" : damage);
    }
    if (content.generation < job->generation_min) {
        job->bad_slot = 0;
        return bad(job, 0, "an older save than the last one");
    }
    if (memcmp(job->data, job->data + SLOT_BYTES, SLOT_BYTES) == 0) return ERR_OK;
    job->bad_slot = (size_t)(content.payload.data - job->data) < SLOT_BYTES ? 1 : 0;
    return bad(job, job->bad_slot * SLOT_BYTES, "the slot is older than the other one");
}

static enum error check_segment(struct scrub_job *job)
{
    uint64_t offset;
    if (job->got < job->bytes) return bad(job, job->offset + job->got, "the file ends early");
    enum error error = log_verify_feed(&job->verify, job->data, job->bytes, &offset);
    if (error == ERR_OK && job->last) error = log_verify_end(&job->verify, &offset);
    return error == ERR_OK ? ERR_OK : bad(job, offset, "the block isn't as it was written");
}

static enum error check_snapshot(struct scrub_job *job)
{
    struct snapshot_chunk chunk;
    snapshot_reader_feed(job->reader, bytes_of(job->data, job->got));
    enum error error;
    do {
        error = snapshot_reader_next(job->reader, &chunk);
    } while (error == ERR_OK);
    if (error == ERR_DAMAGED) {
        return bad(job, snapshot_reader_offset(job->reader), snapshot_reader_damage(job->reader));
    }
    if (error != ERR_NOT_READY) return ERR_OK; /* of a newer version */
    if (job->got < job->bytes) return bad(job, job->offset + job->got, "the file ends early");
    if (job->last && !snapshot_reader_complete(job->reader)) return bad(job, job->total, "the end is missing");
    return ERR_OK;
}

static void run(struct disk_job *disk_job, struct disk *disk)
{
    struct scrub_job *job = (struct scrub_job *)((char *)disk_job - offsetof(struct scrub_job, job));
    struct disk_file *file;
    job->got = 0;
    job->error = disk_open(disk, job->path, DISK_READ | DISK_UNCACHED, &file);
    if (job->error != ERR_OK) {
        disk_text_copy(job->text, disk->error_text);
        return;
    }
    struct disk_unreadable unreadable = {0};
    size_t size = (job->bytes + DISK_ALIGNMENT - 1) / DISK_ALIGNMENT * DISK_ALIGNMENT;
    job->error = disk_read_around(disk, file, job->offset, job->data, size, &job->got, &unreadable);
    disk_close(disk, file);
    if (job->error != ERR_OK) {
        disk_text_copy(job->text, disk->error_text);
        return;
    }
    if (job->got > job->bytes) job->got = job->bytes; /* the file may go on beyond what is in use */
    switch (job->file) {
    case DAMAGED_LOG:
        job->error = check_segment(job);
        break;
    case DAMAGED_SNAPSHOT:
        job->error = check_snapshot(job);
        break;
    default:
        job->error = check_slots(job);
        break;
    }
    if (job->error != ERR_OK && unreadable.bytes > 0) disk_text_copy(job->text, unreadable.text);
}

/* ---- where a pass is ---- */

static void done(struct disk_job *disk_job);

static void submit(struct scrub *scrub, enum damaged_file file, char *path, uint64_t offset, uint64_t left)
{
    struct scrub_job *job = &scrub->job;
    if (job->data == NULL) job->data = mem_alloc_aligned(DISK_ALIGNMENT, SCRUB_SLICE_BYTES);
    mem_free(job->path);
    job->path = path;
    job->file = file;
    job->offset = offset;
    job->bytes = left < SCRUB_SLICE_BYTES ? (size_t)left : SCRUB_SLICE_BYTES;
    job->last = job->bytes == left;
    job->text[0] = 0;
    job->active = true;
    job->job = (struct disk_job){.run = run, .done = done};
    disk_submit(scrub->config.queue, &job->job);
}

static const struct slot_file *slots_of(const struct scrub *scrub, enum damaged_file file)
{
    switch (file) {
    case DAMAGED_RAFT_STATE:
        return state_file_slots(scrub->config.state_file);
    case DAMAGED_LOG_METADATA:
        return log_manager_metadata_file(scrub->config.log);
    default:
        return snapshot_handler_metadata_file(scrub->config.snapshots);
    }
}

/* Whatever was begun to be saved is there by the time that the job runs: it isn't urgent, and jobs run in order. */
static void look_at_slots(struct scrub *scrub, const struct slot_file *slots)
{
    struct scrub_job *job = &scrub->job;
    job->magic = slots->magic;
    job->version_max = slots->version_max;
    job->generation_min = slots->generation;
    submit(scrub, scrub->file, mem_copy_string(slots->path), 0, SLOT_COUNT * SLOT_BYTES);
}

static void next_file(struct scrub *scrub)
{
    scrub->file++;
    scrub->segment = 0;
    scrub->offset = 0;
    scrub->epoch = 0;
}

/* The next slice of the log; false: all of it was looked at. */
static bool look_at_log(struct scrub *scrub)
{
    const struct log_manager *log = scrub->config.log;
    struct log_segment_view *view = &scrub->view;
    while (scrub->segment == 0 || scrub->offset >= view->used_bytes) {
        if (!log_manager_next_segment(log, scrub->segment, view)) return false;
        scrub->segment = view->number;
        scrub->offset = view->damaged ? view->used_bytes : 0; /* what is known already is of no interest */
        log_verify_begin(&scrub->job.verify, view->log_id, view->number, view->headless);
    }
    char *path = log_manager_segment_path(log, scrub->segment);
    submit(scrub, DAMAGED_LOG, path, scrub->offset, view->used_bytes - scrub->offset);
    return true;
}

/* The next slice of the snapshot; false: it was looked at, or there is none. */
static bool look_at_snapshot(struct scrub *scrub)
{
    const struct snapshot_handler *snapshots = scrub->config.snapshots;
    const struct snapshot_metadata *current = snapshot_handler_current(snapshots);
    if (current->epoch == 0 || snapshot_handler_renewing(snapshots)) return false;
    if (scrub->epoch != current->epoch) { /* at its beginning, also when another one took its place */
        if (scrub->job.reader != NULL) snapshot_reader_free(scrub->job.reader);
        scrub->job.reader = snapshot_reader_new();
        scrub->job.total = current->size_bytes;
        scrub->epoch = current->epoch;
        scrub->offset = 0;
    }
    if (scrub->offset >= current->size_bytes) return false;
    char *path = snapshot_handler_current_path(snapshots);
    submit(scrub, DAMAGED_SNAPSHOT, path, scrub->offset, current->size_bytes - scrub->offset);
    return true;
}

static void end_snapshot(struct scrub *scrub)
{
    if (scrub->job.reader != NULL) snapshot_reader_free(scrub->job.reader);
    scrub->job.reader = NULL;
    scrub->epoch = 0;
    scrub->offset = 0;
    scrub->checking = false;
}

static void end_pass(struct scrub *scrub)
{
    scrub->running = false;
    scrub->passes++;
    scrub->last_pass = scrub->now;
    scrub->pass_due = scrub->began + scrub->config.interval;
    mem_free(scrub->job.data);
    scrub->job.data = NULL;
    log_debug(scrub->config.logger, "scrubbed all files", "passes=%llu bytes=%llu", (unsigned long long)scrub->passes,
              (unsigned long long)scrub->bytes);
}

/* Begins the next slice. */
static void step(struct scrub *scrub)
{
    if (scrub->job.active || scrub->stopped) return;
    if (scrub->suspected) {
        scrub->suspected = false;
        end_snapshot(scrub);
        scrub->checking = true;
    }
    if (scrub->checking) {
        if (look_at_snapshot(scrub)) return;
        end_snapshot(scrub);
        scrub->segment = 0; /* a pass that was at the log has lost its place */
        if (!scrub->running) return;
    }
    while (scrub->file < DAMAGED_LOG) {
        const struct slot_file *slots = slots_of(scrub, scrub->file);
        if (slots->exists) {
            look_at_slots(scrub, slots);
            return;
        }
        next_file(scrub);
    }
    if (scrub->file == DAMAGED_LOG) {
        if (look_at_log(scrub)) return;
        next_file(scrub);
    }
    if (scrub->file == DAMAGED_SNAPSHOT && look_at_snapshot(scrub)) return;
    end_snapshot(scrub);
    end_pass(scrub);
}

/* Whether what was looked at is still of use: it may have been removed or replaced meanwhile. */
static bool still_in_use(const struct scrub *scrub)
{
    struct log_segment_view view;
    switch (scrub->job.file) {
    case DAMAGED_LOG:
        return log_manager_next_segment(scrub->config.log, scrub->view.number - 1, &view) &&
               view.number == scrub->view.number;
    case DAMAGED_SNAPSHOT:
        return snapshot_handler_current(scrub->config.snapshots)->epoch == scrub->epoch;
    default:
        return true;
    }
}

static void report(struct scrub *scrub)
{
    struct scrub_job *job = &scrub->job;
    if (!still_in_use(scrub)) return;
    char text[DISK_TEXT_BYTES];
    disk_text_format(text, "%s: offset %llu: %.200s", job->path, (unsigned long long)job->bad_offset, job->text);
    switch (job->file) {
    case DAMAGED_LOG:
        scrub->handler.bad_segment(scrub->user, scrub->view.number, job->bad_offset, job->text);
        break;
    case DAMAGED_SNAPSHOT:
        scrub->handler.bad_snapshot(scrub->user, scrub->epoch, text);
        break;
    default:
        scrub->handler.bad_slot(scrub->user, job->file, job->bad_slot, text);
        break;
    }
}

static void done(struct disk_job *disk_job)
{
    struct scrub *scrub = (struct scrub *)((char *)disk_job - offsetof(struct scrub, job.job));
    struct scrub_job *job = &scrub->job;
    job->active = false;
    if (scrub->stopped) return;
    scrub->bytes += job->got;
    bool good = job->error == ERR_OK;
    if (job->error == ERR_NO_FILE) job->bad_offset = 0;
    if (job->error == ERR_DAMAGED || job->error == ERR_NO_FILE) {
        report(scrub);
    } else if (!good) {
        log_warn(scrub->config.logger, "a file can't be scrubbed", "%s", job->text);
    }
    switch (job->file) {
    case DAMAGED_LOG:
        scrub->offset = good ? job->offset + job->bytes : scrub->view.used_bytes;
        break;
    case DAMAGED_SNAPSHOT:
        scrub->offset = good ? job->offset + job->bytes : job->total;
        break;
    default:
        next_file(scrub);
        break;
    }
    time_ns pause = (time_ns)(job->bytes * (uint64_t)TIME_NS_PER_S / scrub->config.bytes_per_second);
    scrub->due = scrub->checking || scrub->suspected ? scrub->now : scrub->now + pause;
}

/* ---- time ---- */

void scrub_start(struct scrub *scrub, time_ns now)
{
    CHECK(scrub->config.bytes_per_second > 0);
    scrub->started = true;
    scrub->now = now;
    scrub->began = now;
    if (scrub->config.interval > 0) scrub->pass_due = now + scrub->config.interval / SCRUB_FIRST_PASS_DIVISOR;
}

void scrub_stop(struct scrub *scrub)
{
    scrub->stopped = true;
}

void scrub_suspect_snapshot(struct scrub *scrub, time_ns now)
{
    if (!scrub->started || scrub->stopped || scrub->checking || scrub->suspected || now < scrub->suspicion_again)
        return;
    scrub->suspicion_again = now + SCRUB_SUSPICION_INTERVAL;
    scrub->suspected = true;
    scrub->due = now;
}

time_ns scrub_deadline(const struct scrub *scrub)
{
    if (!scrub->started || scrub->stopped || scrub->job.active) return TIME_NS_NEVER;
    return scrub->running || scrub->suspected || scrub->checking ? scrub->due : scrub->pass_due;
}

void scrub_tick(struct scrub *scrub, time_ns now)
{
    scrub->now = now;
    if (now < scrub_deadline(scrub)) return;
    if (!scrub->running && now >= scrub->pass_due) {
        scrub->running = true;
        scrub->began = now;
        scrub->file = DAMAGED_RAFT_STATE;
        scrub->segment = 0;
        scrub->offset = 0;
    }
    step(scrub);
}

bool scrub_idle(const struct scrub *scrub)
{
    return !scrub->job.active;
}

void scrub_status(const struct scrub *scrub, struct scrub_status *out)
{
    *out = (struct scrub_status){
        .passes = scrub->passes, .bytes = scrub->bytes, .last_pass = scrub->last_pass, .running = scrub->running};
}
