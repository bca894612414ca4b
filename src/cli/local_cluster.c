#define _GNU_SOURCE 1
#include "cli/local_cluster.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "node/join_static.h"

#define POLL_MS 10u
#define COMMAND_LINE_BYTES_MAX 8192

/* ---- files ---- */

char *local_cluster_path(const char *directory, const char *first, const char *second)
{
    struct buffer path = {0};
    buffer_append_format(&path, "%s/%s", directory, first);
    if (second != NULL) buffer_append_format(&path, "/%s", second);
    buffer_append_byte(&path, '\0');
    return (char *)path.data;
}

static bool make_directory(const char *path)
{
    if (mkdir(path, 0755) == 0 || errno == EEXIST) return true;
    cli_fail(CLI_FAILED, "can't make the directory %s: %s", path, strerror(errno));
    return false;
}

/* Makes the directory and its parents. */
static bool make_directories(const char *path)
{
    char *partial = mem_copy_string(path);
    bool good = true;
    for (char *at = partial + 1; good && *at != '\0'; at++) {
        if (*at != '/') continue;
        *at = '\0';
        good = make_directory(partial);
        *at = '/';
    }
    if (good) good = make_directory(partial);
    mem_free(partial);
    return good;
}

static char *absolute(const char *path)
{
    char *resolved = realpath(path, NULL);
    if (resolved == NULL) return NULL;
    char *copy = mem_copy_string(resolved);
    free(resolved);
    return copy;
}

static bool write_json(const char *path, const json_t *root)
{
    if (json_dump_file(root, path, JSON_INDENT(2)) == 0) return true;
    cli_fail(CLI_FAILED, "can't write %s: %s", path, strerror(errno));
    return false;
}

static json_t *cluster_json(const struct join_cluster *members)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < members->member_count; i++) {
        const struct join_member *member = &members->members[i];
        char rpc[ADDRESS_BYTES_MAX + 8];
        char api[ADDRESS_BYTES_MAX + 8];
        snprintf(rpc, sizeof rpc, "%s:%u", member->rpc_host, member->rpc_port);
        snprintf(api, sizeof api, "%s:%u", member->api_host, member->api_port);
        json_array_append_new(list,
                              json_pack("{s:s,s:s,s:s}", "node_id", member->node_id, "rpc_url", rpc, "api_url", api));
    }
    return list;
}

static json_t *node_json(const char *directory, const char *cluster_file, const struct join_member *member)
{
    char *data = local_cluster_path(directory, member->node_id, "data");
    json_t *root = json_pack("{s:s,s:i,s:i,s:s,s:s,s:s}", "node_id", member->node_id, "api_port", (int)member->api_port,
                             "rpc_port", (int)member->rpc_port, "cluster_mode", "static", "cluster_config_path",
                             cluster_file, "data_dir", data);
    mem_free(data);
    return root;
}

static bool create_node(const char *directory, const char *cluster_file, const struct join_member *member)
{
    char *node = local_cluster_path(directory, member->node_id, NULL);
    char *file = local_cluster_path(directory, member->node_id, "config.json");
    json_t *root = node_json(directory, cluster_file, member);
    bool good = make_directory(node) && write_json(file, root);
    json_decref(root);
    mem_free(node);
    mem_free(file);
    return good;
}

static bool is_new(const char *cluster_file, const char *directory)
{
    if (access(cluster_file, F_OK) != 0) return true;
    cli_fail(CLI_FAILED, "there is a cluster in %s already; `coracle cluster up --cluster-dir=%s` runs it", directory,
             directory);
    return false;
}

bool local_cluster_create(const char *directory, const struct join_cluster *members)
{
    if (!make_directories(directory)) return false;
    char *base = absolute(directory);
    if (base == NULL) {
        cli_fail(CLI_FAILED, "can't find %s: %s", directory, strerror(errno));
        return false;
    }
    char *cluster_file = local_cluster_path(base, "cluster.json", NULL);
    bool good = is_new(cluster_file, directory);
    for (uint32_t i = 0; good && i < members->member_count; i++) {
        good = create_node(base, cluster_file, &members->members[i]);
    }
    if (good) { /* last, since it says that the cluster is there */
        json_t *list = cluster_json(members);
        good = write_json(cluster_file, list);
        json_decref(list);
    }
    mem_free(cluster_file);
    mem_free(base);
    return good;
}

/* The same for a directory that needn't be there. */
static char *absolute_new(const char *path)
{
    char *found = absolute(path);
    char *here = found == NULL && path[0] != '/' ? absolute(".") : NULL;
    if (found == NULL) found = here != NULL ? local_cluster_path(here, path, NULL) : mem_copy_string(path);
    mem_free(here);
    return found;
}

static void print_json(const char *directory, const char *first, const char *second, json_t *root)
{
    char *path = local_cluster_path(directory, first, second);
    char *text = json_dumps(root, JSON_INDENT(2));
    printf("%s\n%s\n", path, text);
    free(text);
    json_decref(root);
    mem_free(path);
}

bool local_cluster_print(const char *directory, const struct join_cluster *members)
{
    char *base = absolute_new(directory);
    char *cluster_file = local_cluster_path(base, "cluster.json", NULL);
    bool good = is_new(cluster_file, directory);
    for (uint32_t i = 0; good && i < members->member_count; i++) {
        const struct join_member *member = &members->members[i];
        print_json(base, member->node_id, "config.json", node_json(base, cluster_file, member));
    }
    if (good) print_json(base, "cluster.json", NULL, cluster_json(members));
    mem_free(cluster_file);
    mem_free(base);
    return good;
}

bool local_cluster_open(const char *directory, struct local_cluster *out)
{
    *out = (struct local_cluster){0};
    out->directory = absolute(directory);
    char *file = local_cluster_path(out->directory != NULL ? out->directory : directory, "cluster.json", NULL);
    bool good = out->directory != NULL && access(file, F_OK) == 0;
    if (!good) {
        cli_fail(CLI_FAILED, "there is no cluster in %s; `coracle cluster init --cluster-dir=%s` makes one", directory,
                 directory);
    } else {
        struct buffer problems = {0};
        good = join_static_read(file, &out->members, &problems);
        cli_print_error(buffer_bytes(&problems));
        buffer_free(&problems);
    }
    mem_free(file);
    if (!good) {
        mem_free(out->directory);
        return false;
    }
    for (uint32_t i = 0; i < out->members.member_count; i++) {
        const char *node_id = out->members.members[i].node_id;
        out->nodes[i].config_file = local_cluster_path(out->directory, node_id, "config.json");
        out->nodes[i].log_file = local_cluster_path(out->directory, node_id, "server.log");
        out->nodes[i].pid_file = local_cluster_path(out->directory, node_id, "pid");
    }
    local_cluster_look(out);
    return true;
}

void local_cluster_close(struct local_cluster *cluster)
{
    for (uint32_t i = 0; i < cluster->members.member_count; i++) {
        mem_free(cluster->nodes[i].config_file);
        mem_free(cluster->nodes[i].log_file);
        mem_free(cluster->nodes[i].pid_file);
    }
    mem_free(cluster->directory);
}

/* ---- processes ---- */

/* Whether the process lives and was started with this configuration: a pid alone may be someone else's by now. A process
   that ended and wasn't waited for has an empty command line. */
static bool is_node(pid_t pid, const char *config_file)
{
    char path[64];
    char line[COMMAND_LINE_BYTES_MAX];
    snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t size = read(fd, line, sizeof line);
    close(fd);
    return size > 0 && memmem(line, (size_t)size, config_file, strlen(config_file) + 1) != NULL;
}

static pid_t read_pid(const char *path)
{
    int pid = 0;
    FILE *stream = fopen(path, "re");
    if (stream == NULL) return 0;
    if (fscanf(stream, "%d", &pid) != 1 || pid <= 1) pid = 0;
    fclose(stream);
    return pid;
}

void local_cluster_look(struct local_cluster *cluster)
{
    for (uint32_t i = 0; i < cluster->members.member_count; i++) {
        struct local_node *node = &cluster->nodes[i];
        pid_t pid = read_pid(node->pid_file);
        node->pid = pid > 0 && is_node(pid, node->config_file) ? pid : 0;
    }
}

uint32_t local_cluster_running_count(const struct local_cluster *cluster)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < cluster->members.member_count; i++) count += cluster->nodes[i].pid != 0;
    return count;
}

/* In the new process: becomes the node. */
static _Noreturn void become_node(const char *program, const struct local_node *node, bool bound, pid_t parent)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    if (bound) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (getppid() != parent) _exit(CLI_FAILED); /* it ended before the line above */
    }
    int null = open("/dev/null", O_RDONLY);
    int log = open(node->log_file, O_WRONLY | O_CREAT | O_APPEND, 0644);
    if (null < 0 || log < 0 || dup2(null, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0) {
        perror(node->log_file);
        _exit(CLI_FAILED);
    }
    if (null > 2) close(null);
    if (log > 2) close(log);
    execl(program, "coracle", "serve", "--config-file", node->config_file, (char *)NULL);
    perror(program);
    _exit(CLI_FAILED);
}

bool local_cluster_start_node(struct local_cluster *cluster, uint32_t i, bool bound)
{
    struct local_node *node = &cluster->nodes[i];
    char *program = cli_program_path();
    pid_t parent = getpid();
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) become_node(program, node, bound, parent);
    mem_free(program);
    if (pid < 0) {
        cli_fail(CLI_FAILED, "can't start a process: %s", strerror(errno));
        return false;
    }
    node->pid = pid;
    FILE *stream = fopen(node->pid_file, "we");
    bool written = stream != NULL && fprintf(stream, "%d\n", (int)pid) > 0;
    if (stream != NULL && fclose(stream) != 0) written = false;
    if (!written) cli_fail(CLI_FAILED, "can't write %s: %s", node->pid_file, strerror(errno));
    return written;
}

static void signal_all(struct local_cluster *cluster, int signal_number)
{
    for (uint32_t i = 0; i < cluster->members.member_count; i++) {
        if (cluster->nodes[i].pid != 0) kill(cluster->nodes[i].pid, signal_number);
    }
}

void local_cluster_notice_ended(struct local_cluster *cluster)
{
    for (uint32_t i = 0; i < cluster->members.member_count; i++) {
        struct local_node *node = &cluster->nodes[i];
        if (node->pid == 0) continue;
        pid_t waited = waitpid(node->pid, NULL, WNOHANG);
        bool child_lives = waited == 0;
        bool other_lives = waited < 0 && is_node(node->pid, node->config_file);
        if (child_lives || other_lives) continue;
        node->pid = 0;
        unlink(node->pid_file);
    }
}

bool local_cluster_stop(struct local_cluster *cluster, uint64_t patience_ms)
{
    bool patient = true;
    signal_all(cluster, SIGTERM);
    for (uint64_t waited_ms = 0; local_cluster_running_count(cluster) > 0; waited_ms += POLL_MS) {
        if (patient && waited_ms >= patience_ms) {
            patient = false;
            signal_all(cluster, SIGKILL);
        }
        nanosleep(&(struct timespec){.tv_nsec = POLL_MS * 1000000}, NULL);
        local_cluster_notice_ended(cluster);
    }
    return patient;
}
