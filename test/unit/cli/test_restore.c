/*
 * Backup and restore: every damage is noticed, and all members that are restored from one file agree on a new cluster.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/snapshot_file.h"
#include "os/disk.h"
#include "storage/log_metadata.h"
#include "storage/raft_state.h"

static char directory[512];
static int saved_stdout = -1;

/* The commands print for people; the tests look at what they leave. */
static int enter_directory(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%s/coracle-restore-XXXXXX", base != NULL ? base : P_tmpdir);
    assert_non_null(mkdtemp(directory));
    return chdir(directory);
}

static int leave_directory(void **state)
{
    (void)state;
    char command[600];
    assert_int_equal(chdir("/"), 0);
    snprintf(command, sizeof command, "rm -rf %s", directory);
    return system(command);
}

static void silence(bool on)
{
    fflush(stdout);
    fflush(stderr);
    static int saved_stderr = -1;
    if (on) {
        int null = open("/dev/null", O_WRONLY);
        saved_stdout = dup(1);
        saved_stderr = dup(2);
        dup2(null, 1);
        dup2(null, 2);
        close(null);
    } else {
        dup2(saved_stdout, 1);
        dup2(saved_stderr, 2);
        close(saved_stdout);
        close(saved_stderr);
    }
}

/* Runs a command with the words of `line`. */
static int run(int (*command)(int argument_count, char **arguments), const char *line)
{
    char text[512];
    char *words[16];
    int count = 0;
    snprintf(text, sizeof text, "%s", line);
    for (char *word = strtok(text, " "); word != NULL; word = strtok(NULL, " ")) words[count++] = word;
    silence(true);
    int exit_code = command(count, words);
    silence(false);
    return exit_code;
}

static void write_file(const char *path, const void *data, size_t size)
{
    FILE *stream = fopen(path, "w");
    assert_non_null(stream);
    assert_int_equal(fwrite(data, 1, size, stream), size);
    fclose(stream);
}

static struct buffer read_file(const char *path)
{
    struct buffer out = {0};
    char chunk[4096];
    size_t got;
    FILE *stream = fopen(path, "r");
    assert_non_null(stream);
    while ((got = fread(chunk, 1, sizeof chunk, stream)) > 0) buffer_append(&out, chunk, got);
    fclose(stream);
    return out;
}

/* ---- a snapshot to work with ---- */

static void append_item(struct buffer *out, uint8_t flags, const char *key, const char *value)
{
    buffer_append_u8(out, flags);
    if ((flags & 1) == 0) buffer_append_u32(out, (uint32_t)strlen(key));
    if ((flags & 2) == 0) {
        buffer_append_u32(out, (uint32_t)strlen(value));
        buffer_append_u64(out, 2); /* create revision */
    }
    buffer_append_u64(out, 3);
    if ((flags & 2) == 0) {
        buffer_append_u64(out, 1); /* version */
        buffer_append_u64(out, 0); /* lease */
    }
    buffer_append_u32(out, 0);
    if ((flags & 1) == 0) buffer_append_string(out, key);
    if ((flags & 2) == 0) buffer_append_string(out, value);
}

/* Three keys exist: a (written twice), c (deleted, then written again), d; b was deleted. */
static struct buffer make_snapshot(void)
{
    struct buffer file = {0};
    struct buffer payload = {0};
    struct snapshot_header header = {
        .snapshot_id = 0x1111,
        .cluster_id = 0x2222,
        .index = 40,
        .term = 6,
        .chain = 0x3333,
        .revision = 9,
        .compacted_revision = 1,
        .apply_hash = 0x4444,
        .member_count = 1,
    };
    header.members[0].id = member_id_of("old");
    snprintf(header.members[0].node_id, sizeof header.members[0].node_id, "old");
    struct snapshot_writer writer = {.snapshot_id = header.snapshot_id};
    snapshot_write_header(&writer, &header, &file);
    snapshot_write_chunk(&writer, SNAPSHOT_CHUNK_SESSIONS, bytes_of_string("sessions"), &file);
    append_item(&payload, 0, "a", "1");
    append_item(&payload, 1, NULL, "2");
    append_item(&payload, 0, "b", "1");
    append_item(&payload, 1 | 2, NULL, NULL);
    append_item(&payload, 0, "c", "1");
    snapshot_write_chunk(&writer, SNAPSHOT_CHUNK_KEYS, buffer_bytes(&payload), &file);
    buffer_clear(&payload);
    append_item(&payload, 1 | 2, NULL, NULL);
    append_item(&payload, 1, NULL, "3");
    append_item(&payload, 0, "d", "");
    snapshot_write_chunk(&writer, SNAPSHOT_CHUNK_KEYS, buffer_bytes(&payload), &file);
    snapshot_write_end(&writer, &file);
    buffer_free(&payload);
    return file;
}

static void make_snapshot_directory(const char *path)
{
    char name[128];
    uint8_t slot[SLOT_BYTES];
    struct buffer file = make_snapshot();
    struct snapshot_metadata metadata = {
        .epoch = 3, .index = 40, .term = 6, .size_bytes = file.size, .snapshot_id = 0x1111};
    struct os_disk disk;
    os_disk_init(&disk);
    assert_int_equal(disk_make_directories(&disk.port, path), ERR_OK);
    snprintf(name, sizeof name, "%s/snapshot-0000000000000003.snap", path);
    write_file(name, file.data, file.size);
    snprintf(name, sizeof name, "%s/metadata", path);
    snapshot_metadata_encode(&metadata, 1, slot);
    assert_int_equal(slots_file_create(&disk.port, name, slot), ERR_OK);
    buffer_free(&file);
}

static enum error summarise(const char *path, struct snapshot_summary *summary)
{
    char text[SNAPSHOT_FILE_TEXT_BYTES];
    struct snapshot_visitor nothing = {0};
    struct os_disk disk;
    os_disk_init(&disk);
    enum error error = snapshot_file_read(&disk.port, path, &nothing, summary, text);
    if (error != ERR_OK) assert_non_null(strstr(text, path));
    return error;
}

/* ---- backup ---- */

static void a_backup_is_the_newest_snapshot(void **state)
{
    (void)state;
    struct snapshot_summary summary;
    make_snapshot_directory("n1/snapshot");
    assert_int_equal(run(backup_command, "b1.snap --data-dir=n1"), CLI_OK);
    struct buffer expected = make_snapshot();
    struct buffer found = read_file("b1.snap");
    assert_true(bytes_equal(buffer_bytes(&expected), buffer_bytes(&found)));
    assert_int_equal(summarise("b1.snap", &summary), ERR_OK);
    assert_int_equal(summary.key_count, 3);
    assert_int_equal(summary.chunk_count, 5);
    assert_int_equal(summary.size_bytes, expected.size);
    assert_int_equal(summary.header.index, 40);
    assert_int_equal(run(backup_command, "b1.snap --check"), CLI_OK);
    assert_int_equal(run(backup_command, "b1.snap --snapshot-path=n1/snapshot --json"), CLI_OK);
    buffer_free(&expected);
    buffer_free(&found);
}

static void backup_says_when_there_is_nothing(void **state)
{
    (void)state;
    assert_int_equal(mkdir("empty", 0700), 0);
    assert_int_equal(run(backup_command, "b2.snap --data-dir=empty"), CLI_FAILED);
    assert_int_equal(run(backup_command, "b2.snap --data-dir=nowhere"), CLI_FAILED);
    assert_int_equal(run(backup_command, "b2.snap"), CLI_USAGE);
    assert_int_equal(run(backup_command, "b2.snap --data-dir=x --snapshot-path=y"), CLI_USAGE);
    assert_int_equal(run(backup_command, "--data-dir=x"), CLI_USAGE);
    assert_int_not_equal(access("b2.snap", F_OK), 0);
    assert_int_not_equal(access("b2.snap.tmp", F_OK), 0);
}

static void a_damaged_snapshot_is_no_backup(void **state)
{
    (void)state;
    struct buffer file = make_snapshot();
    make_snapshot_directory("n3/snapshot");
    for (size_t at = 0; at < file.size; at++) {
        file.data[at] ^= 0x10;
        write_file("n3/snapshot/snapshot-0000000000000003.snap", file.data, file.size);
        assert_int_equal(run(backup_command, "b3.snap --data-dir=n3"), CLI_FAILED);
        assert_int_not_equal(access("b3.snap", F_OK), 0);
        assert_int_not_equal(access("b3.snap.tmp", F_OK), 0);
        file.data[at] ^= 0x10;
    }
    for (size_t size = 0; size < file.size; size++) {
        write_file("cut.snap", file.data, size);
        assert_int_equal(run(backup_command, "cut.snap --check"), CLI_FAILED);
    }
    buffer_append_byte(&file, 0);
    write_file("long.snap", file.data, file.size);
    assert_int_equal(run(backup_command, "long.snap --check"), CLI_FAILED);
    buffer_free(&file);
}

/* ---- restore ---- */

static const char cluster_file[] = "[{\"node_id\":\"x\",\"rpc_url\":\"h1:1\",\"api_url\":\"h1:2\"},"
                                   "{\"node_id\":\"y\",\"rpc_url\":\"h2:1\",\"api_url\":\"h2:2\"},"
                                   "{\"node_id\":\"z\",\"rpc_url\":\"h3:1\",\"api_url\":\"h3:2\"}]";
/* The same members in another order. */
static const char shuffled_file[] = "[{\"node_id\":\"z\",\"rpc_url\":\"h3:1\",\"api_url\":\"h3:2\"},"
                                    "{\"node_id\":\"x\",\"rpc_url\":\"h1:1\",\"api_url\":\"h1:2\"},"
                                    "{\"node_id\":\"y\",\"rpc_url\":\"h2:1\",\"api_url\":\"h2:2\"}]";

static struct raft_state read_state(const char *path)
{
    struct raft_state out;
    uint64_t generation;
    char damage[SLOT_DAMAGE_BYTES];
    struct buffer file = read_file(path);
    assert_int_equal(file.size, SLOT_COUNT * SLOT_BYTES);
    assert_memory_equal(file.data, file.data + SLOT_BYTES, SLOT_BYTES);
    assert_int_equal(raft_state_decode(buffer_bytes(&file), &out, &generation, damage), ERR_OK);
    buffer_free(&file);
    return out;
}

static void all_members_of_one_file_are_one_cluster(void **state)
{
    (void)state;
    struct buffer file = make_snapshot();
    write_file("m.snap", file.data, file.size);
    write_file("c1.json", cluster_file, strlen(cluster_file));
    write_file("c2.json", shuffled_file, strlen(shuffled_file));
    assert_int_equal(run(restore_command, "m.snap --id=x --data-dir=rx --cluster-config-path=c1.json"), CLI_OK);
    assert_int_equal(run(restore_command, "m.snap --id=y --data-dir=ry --cluster-config-path=c2.json"), CLI_OK);

    struct raft_state x = read_state("rx/state");
    struct raft_state y = read_state("ry/state");
    assert_string_equal(x.node_id, "x");
    assert_true(x.member == member_id_of("x"));
    assert_true(x.cluster_id == y.cluster_id && x.cluster_id != 0 && x.cluster_id != 0x2222);
    assert_true(x.log_id != y.log_id);
    assert_int_equal(x.term, 6);
    assert_int_equal(x.vote, 0);
    assert_false(x.catching_up);
    assert_true(x.incarnation > 1000000000); /* above whatever a window of repeats may remember */

    struct buffer first = read_file("rx/snapshot/snapshot-0000000000000001.snap");
    struct buffer second = read_file("ry/snapshot/snapshot-0000000000000001.snap");
    assert_true(bytes_equal(buffer_bytes(&first), buffer_bytes(&second)));
    struct snapshot_summary summary;
    assert_int_equal(summarise("rx/snapshot/snapshot-0000000000000001.snap", &summary), ERR_OK);
    assert_true(summary.header.cluster_id == x.cluster_id);
    assert_int_equal(summary.key_count, 3);
    assert_int_equal(summary.header.index, 40);
    assert_int_equal(summary.header.term, 6);
    assert_int_equal(summary.header.chain, 0x3333);
    assert_int_equal(summary.header.revision, 9);
    assert_int_equal(summary.header.compacted_revision, 1);
    assert_int_equal(summary.header.apply_hash, 0x4444);
    assert_int_equal(summary.header.member_count, 3);
    for (uint32_t i = 1; i < 3; i++) assert_true(summary.header.members[i - 1].id < summary.header.members[i].id);

    /* The metadata of both name what is there. */
    struct snapshot_metadata metadata;
    struct log_metadata log;
    uint64_t generation;
    char damage[SLOT_DAMAGE_BYTES];
    struct buffer slots = read_file("rx/snapshot/metadata");
    assert_int_equal(snapshot_metadata_decode(buffer_bytes(&slots), &metadata, &generation, damage), ERR_OK);
    assert_int_equal(metadata.epoch, 1);
    assert_int_equal(metadata.index, 40);
    assert_int_equal(metadata.size_bytes, first.size);
    assert_true(metadata.snapshot_id == summary.header.snapshot_id);
    buffer_free(&slots);
    slots = read_file("rx/log/metadata");
    assert_int_equal(log_metadata_decode(buffer_bytes(&slots), &log, &generation, damage), ERR_OK);
    assert_true(log.log_id == x.log_id);
    assert_int_equal(log.last_segment, 0);
    buffer_free(&slots);
    buffer_free(&first);
    buffer_free(&second);
    buffer_free(&file);
}

static void other_members_or_another_file_are_another_cluster(void **state)
{
    (void)state;
    struct buffer file = make_snapshot();
    write_file("m.snap", file.data, file.size);
    buffer_free(&file);
    assert_int_equal(run(restore_command, "m.snap --id=x --data-dir=r1"), CLI_OK);
    assert_int_equal(run(restore_command, "m.snap --id=y --data-dir=r2"), CLI_OK);
    /* A cluster restored from what a restored one has. */
    assert_int_equal(run(restore_command, "r1/snapshot/snapshot-0000000000000001.snap --id=x --data-dir=r3"), CLI_OK);
    struct raft_state one = read_state("r1/state");
    struct raft_state two = read_state("r2/state");
    struct raft_state three = read_state("r3/state");
    assert_true(one.cluster_id != two.cluster_id);
    assert_true(one.cluster_id != three.cluster_id);
}

static void existing_data_are_left_alone(void **state)
{
    (void)state;
    struct buffer file = make_snapshot();
    write_file("m.snap", file.data, file.size);
    buffer_free(&file);
    assert_int_equal(run(restore_command, "m.snap --id=x --data-dir=used"), CLI_OK);
    struct buffer before = read_file("used/state");
    assert_int_equal(run(restore_command, "m.snap --id=x --data-dir=used"), CLI_FAILED);
    /* Any part of it is enough. */
    assert_int_equal(unlink("used/state"), 0);
    assert_int_equal(run(restore_command, "m.snap --id=x --data-dir=used"), CLI_FAILED);
    assert_int_equal(unlink("used/log/metadata"), 0);
    assert_int_equal(run(restore_command, "m.snap --id=x --data-dir=used"), CLI_FAILED);
    assert_int_equal(unlink("used/snapshot/snapshot-0000000000000001.snap"), 0);
    write_file("used/log/log-0000000000000001.seg", "", 0);
    assert_int_equal(run(restore_command, "m.snap --id=x --data-dir=used"), CLI_FAILED);
    buffer_free(&before);
}

static void a_bad_backup_restores_nothing(void **state)
{
    (void)state;
    struct buffer file = make_snapshot();
    file.data[file.size - 20] ^= 1;
    write_file("bad.snap", file.data, file.size);
    buffer_free(&file);
    assert_int_equal(run(restore_command, "bad.snap --id=x --data-dir=fresh"), CLI_FAILED);
    assert_int_equal(run(restore_command, "missing.snap --id=x --data-dir=fresh"), CLI_FAILED);
    assert_int_not_equal(access("fresh/state", F_OK), 0);
    assert_int_not_equal(access("fresh/snapshot/snapshot-0000000000000001.snap", F_OK), 0);
    assert_int_equal(run(restore_command, "--id=x"), CLI_USAGE);
    assert_int_equal(run(restore_command, "bad.snap"), CLI_USAGE);
    assert_int_equal(run(restore_command, "bad.snap --id=x --data-dir=fresh --nope"), CLI_USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_backup_is_the_newest_snapshot),
        cmocka_unit_test(backup_says_when_there_is_nothing),
        cmocka_unit_test(a_damaged_snapshot_is_no_backup),
        cmocka_unit_test(all_members_of_one_file_are_one_cluster),
        cmocka_unit_test(other_members_or_another_file_are_another_cluster),
        cmocka_unit_test(existing_data_are_left_alone),
        cmocka_unit_test(a_bad_backup_restores_nothing),
    };
    return cmocka_run_group_tests_name("restore", tests, enter_directory, leave_directory);
}
