#define _GNU_SOURCE 1
#include "cli/sim_jobs.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "cli/cli.h"

/* A worker has its next job at hand when it is done with one. */
#define JOBS_AHEAD 2u
#define TICK_MS 200
/* Of lines that led to a failure. Untouched pages cost nothing. */
#define TAIL_BYTES (64u * 1024 * 1024)

struct worker {
    pid_t pid;
    int jobs, results; /* our ends of its pipes */
    FILE *complaints;  /* its stderr */
    struct sim_job given[JOBS_AHEAD];
    unsigned given_count;
    bool any_done;
    struct sim_job last_done;
};

struct pool {
    const struct sim_jobs_handler *handler;
    void *user;
    unsigned seed_timeout_s;
    struct worker *workers;
    unsigned count;
};

/* ---- in the worker ---- */

static bool read_whole(int file, void *data, size_t size)
{
    for (size_t at = 0; at < size;) {
        ssize_t part = read(file, (char *)data + at, size - at);
        if (part < 0 && errno == EINTR) continue;
        if (part <= 0) return false;
        at += (size_t)part;
    }
    return true;
}

static bool write_whole(int file, const void *data, size_t size)
{
    for (size_t at = 0; at < size;) {
        ssize_t part = write(file, (const char *)data + at, size - at);
        if (part < 0 && errno == EINTR) continue;
        if (part <= 0) return false;
        at += (size_t)part;
    }
    return true;
}

static void run_job(const struct sim_job *job, struct sim_trace *trace, struct sim_result *result)
{
    struct sim_run_options options = job->run;
    struct sim_run_report *report = &result->report;
    memset(result, 0, sizeof *result);
    options.trace = trace;
    mark_reset();
    sim_run(&options, &result->logged, report);
    for (unsigned i = 0; i < MARK_COUNT; i++) result->marks[i] = mark_count((enum mark)i);
    if (!job->twice || report->outcome != SIM_RUN_CLEAN) return;
    struct sim_run_report again;
    options.trace = NULL;
    sim_run(&options, NULL, &again);
    if (again.outcome == report->outcome && again.trace_hash == report->trace_hash && again.events == report->events)
        return;
    report->outcome = SIM_RUN_WRONG;
    snprintf(report->text, sizeof report->text,
             SIM_RUNS_DIFFER ": trace hash %016llx after %llu events, then %016llx after %llu",
             (unsigned long long)report->trace_hash, (unsigned long long)report->events,
             (unsigned long long)again.trace_hash, (unsigned long long)again.events);
}

/* What every child does first: its parent decides over its life, and an endless loop has an end. */
static void become_child(int complaints, unsigned seed_timeout_s)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGINT, SIG_IGN);
    signal(SIGALRM, SIG_DFL);
    dup2(complaints, STDERR_FILENO);
    alarm(seed_timeout_s);
}

static _Noreturn void work(int jobs, int results, unsigned seed_timeout_s)
{
    struct sim_result *result = mem_alloc_zero(sizeof *result);
    struct sim_job job;
    for (;;) {
        alarm(0);
        if (!read_whole(jobs, &job, sizeof job)) break;
        alarm(seed_timeout_s);
        run_job(&job, NULL, result);
        if (!write_whole(results, result, sizeof *result)) break;
    }
    mem_free(result);
    exit(0);
}

/* ---- in the parent ---- */

static _Noreturn void cannot(const char *what)
{
    perror(what);
    exit(CLI_FAILED);
}

static void start_worker(struct pool *pool, struct worker *worker)
{
    int jobs[2], results[2];
    *worker = (struct worker){.complaints = tmpfile()};
    if (worker->complaints == NULL) cannot("coracle: a temporary file");
    if (pipe2(jobs, O_CLOEXEC) != 0 || pipe2(results, O_CLOEXEC) != 0) cannot("coracle: a pipe");
    fflush(NULL);
    worker->pid = fork();
    if (worker->pid < 0) cannot("coracle: fork");
    if (worker->pid == 0) {
        /* The other workers' ends too: a pipe ends when all that could write are gone. */
        for (unsigned i = 0; i < pool->count; i++) {
            if (&pool->workers[i] == worker || pool->workers[i].pid == 0) continue;
            close(pool->workers[i].jobs);
            close(pool->workers[i].results);
        }
        close(jobs[1]);
        close(results[0]);
        become_child(fileno(worker->complaints), pool->seed_timeout_s);
        work(jobs[0], results[1], pool->seed_timeout_s);
    }
    worker->jobs = jobs[1];
    worker->results = results[0];
    close(jobs[0]);
    close(results[1]);
}

static void describe_death(int status, FILE *complaints, unsigned seed_timeout_s, struct sim_run_report *report)
{
    char said[2048] = "";
    size_t size = 0;
    rewind(complaints);
    size = fread(said, 1, sizeof said - 1, complaints);
    said[size] = '\0';
    while (size > 0 && said[size - 1] == '\n') said[--size] = '\0';
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) {
        report->outcome = SIM_RUN_STUCK;
        snprintf(report->text, sizeof report->text, "the run had no end within %u s of real time", seed_timeout_s);
        return;
    }
    report->outcome = SIM_RUN_CRASHED;
    if (WIFSIGNALED(status)) {
        snprintf(report->text, sizeof report->text, "the program died of signal %d (%s)%s%s", WTERMSIG(status),
                 strsignal(WTERMSIG(status)), size > 0 ? ": " : "", said);
    } else {
        snprintf(report->text, sizeof report->text, "the program ended with code %d%s%s", WEXITSTATUS(status),
                 size > 0 ? ": " : "", said);
    }
}

/* Takes away a worker that ended by itself. The job that it was at gets a result; those that it hadn't begun are kept. */
static void bury_worker(struct pool *pool, struct worker *worker)
{
    struct sim_result *result = mem_alloc_zero(sizeof *result);
    int status = 0;
    while (waitpid(worker->pid, &status, 0) < 0 && errno == EINTR) {}
    close(worker->jobs);
    close(worker->results);
    bool good = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (worker->given_count > 0) {
        describe_death(status, worker->complaints, pool->seed_timeout_s, &result->report);
        pool->handler->done(pool->user, &worker->given[0], result);
    } else if (!good && worker->any_done) {
        /* At its end only: a leak, say. Its last job has a second result then. */
        describe_death(status, worker->complaints, pool->seed_timeout_s, &result->report);
        pool->handler->done(pool->user, &worker->last_done, result);
    }
    fclose(worker->complaints);
    worker->pid = 0;
    mem_free(result);
}

static void give(struct worker *worker, const struct sim_job *job)
{
    worker->given[worker->given_count++] = *job;
    /* A worker that died meanwhile is found out when its results end. */
    write_whole(worker->jobs, job, sizeof *job);
}

static void fill(struct pool *pool, struct worker *worker)
{
    struct sim_job job;
    while (worker->given_count < JOBS_AHEAD && pool->handler->next(pool->user, &job)) give(worker, &job);
}

/* Something of the worker can be read: a result, or its end. */
static void hear(struct pool *pool, struct worker *worker)
{
    struct sim_result *result = mem_alloc(sizeof *result);
    if (read_whole(worker->results, result, sizeof *result)) {
        struct sim_job job = worker->given[0];
        worker->last_done = job;
        worker->any_done = true;
        worker->given_count--;
        memmove(worker->given, worker->given + 1, worker->given_count * sizeof worker->given[0]);
        pool->handler->done(pool->user, &job, result);
        fill(pool, worker);
    } else {
        struct sim_job left[JOBS_AHEAD];
        unsigned left_count = worker->given_count > 1 ? worker->given_count - 1 : 0;
        memcpy(left, worker->given + 1, left_count * sizeof left[0]);
        bury_worker(pool, worker);
        start_worker(pool, worker);
        for (unsigned i = 0; i < left_count; i++) give(worker, &left[i]);
        fill(pool, worker);
    }
    mem_free(result);
}

static unsigned jobs_given(const struct pool *pool)
{
    unsigned count = 0;
    for (unsigned i = 0; i < pool->count; i++) count += pool->workers[i].given_count;
    return count;
}

static void end_worker(struct pool *pool, struct worker *worker, bool kill_it)
{
    if (kill_it) kill(worker->pid, SIGKILL);
    if (kill_it) worker->given_count = 0;
    if (kill_it) worker->any_done = false;
    /* The end of its jobs is the end of the worker. */
    close(worker->jobs);
    worker->jobs = -1;
    bury_worker(pool, worker);
}

bool sim_jobs_run(unsigned workers, unsigned seed_timeout_s, const struct sim_jobs_handler *handler, void *user)
{
    struct pool pool = {.handler = handler, .user = user, .seed_timeout_s = seed_timeout_s};
    struct pollfd *polled = mem_alloc(workers * sizeof *polled);
    bool stopped = false;
    signal(SIGPIPE, SIG_IGN);
    pool.workers = mem_alloc_zero(workers * sizeof *pool.workers);
    for (pool.count = 0; pool.count < workers; pool.count++) start_worker(&pool, &pool.workers[pool.count]);
    /* One each first, so that few jobs are spread over all. */
    for (unsigned i = 0; i < workers; i++) {
        struct sim_job job;
        if (handler->next(user, &job)) give(&pool.workers[i], &job);
    }
    for (unsigned i = 0; i < workers; i++) fill(&pool, &pool.workers[i]);
    while (!stopped && jobs_given(&pool) > 0) {
        for (unsigned i = 0; i < workers; i++) {
            polled[i] = (struct pollfd){.fd = pool.workers[i].results, .events = POLLIN};
        }
        int ready = poll(polled, workers, TICK_MS);
        for (unsigned i = 0; ready > 0 && i < workers; i++) {
            if (polled[i].revents != 0) hear(&pool, &pool.workers[i]);
        }
        if (handler->tick != NULL) stopped = !handler->tick(user);
    }
    for (unsigned i = 0; i < workers; i++) end_worker(&pool, &pool.workers[i], stopped);
    mem_free(pool.workers);
    mem_free(polled);
    return !stopped;
}

/* ---- one job with its trace ---- */

void sim_jobs_trace(const struct sim_job *job, unsigned seed_timeout_s, FILE *out, uint64_t limit_bytes,
                    struct buffer *tail, struct sim_result *result, bool *cut)
{
    struct shared {
        struct sim_result result;
        bool cut;
        struct sim_trace_ring ring;
    };
    size_t size = sizeof(struct shared) + TAIL_BYTES;
    struct shared *shared = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (shared == MAP_FAILED) cannot("coracle: memory for a trace");
    FILE *complaints = tmpfile();
    if (complaints == NULL) cannot("coracle: a temporary file");
    sim_trace_ring_init(&shared->ring, size - offsetof(struct shared, ring));
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) cannot("coracle: fork");
    if (pid == 0) {
        struct sim_trace trace = {.out = out, .limit_bytes = limit_bytes, .ring = tail == NULL ? NULL : &shared->ring};
        become_child(fileno(complaints), seed_timeout_s);
        if (out != NULL) setlinebuf(out); /* what leads to a crash is not lost in a buffer */
        run_job(job, &trace, &shared->result);
        if (out != NULL) fflush(out);
        shared->cut = trace.cut;
        _exit(0);
    }
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    *result = shared->result;
    *cut = shared->cut;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        describe_death(status, complaints, seed_timeout_s, &result->report);
    }
    if (tail != NULL) sim_trace_ring_read(&shared->ring, tail);
    fclose(complaints);
    munmap(shared, size);
}
