/*
 * Runs the scripts in test/data/raft. A script is a story about a few members:
 *
 *     # a comment
 *     cluster 3
 *     elect 1
 *     ----
 *     what happened, up to an empty line
 *
 * Lines up to `----` are commands. With CORACLE_REWRITE=1 in the environment scripts are rewritten with what happens
 * now. After each command every member that was stepped is flushed, as the host does at the end of a turn.
 *
 *     quietly COMMAND           leaves it out of the trace; `unflushed COMMAND` leaves out the flush
 *     cluster N [append|inflight|cache|unapplied=BYTES] [seed=S] [down]   starts N members, if not `down`
 *     disk ID [term=T] [vote=V] [commit=C] [log=T,T,T]   of a member that is down; the terms of its entries
 *     damage ID INDEX [unknown] | wipe ID | start ID… | crash ID [silently] | restart ID
 *     tick ID [MS] | pass MS | run MS | elect ID | stabilize [ID…] | status [ID…]
 *     flush ID | propose ID TEXT… | read ID CONTEXT | apply ID [INDEX] | save ID | write ID
 *     save-unheard ID | write-unheard ID      it is on disk, but the member doesn't know
 *     report-save ID NUMBER | report-write ID NUMBER      a completion, whatever it completes
 *     deliver [FROM->]TO [TYPE] [COUNT] | drop … | duplicate … | reorder [FROM->]TO
 *     receive ID TYPE from=F [term= index= log_term= commit= context= hint_index= hint_term= log=T,T:TEXT]
 *         [rejected] [transfer] [uncertain]
 *     cut A->B | cut A-B | mend A->B | mend A-B | isolate ID | heal      messages vanish, nobody notices
 *     connect A B | disconnect A B | greet ID FROM TERM
 *     transfer ID TO | step-down ID | compact ID INDEX [KEEP] | install ID | abandon ID | read-log ID [gone]
 *     fail-snapshot ID TO
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "cluster.h"

#define SCRIPTS "test/data/raft"
#define WORDS_MAX 48
#define SCRIPTS_MAX 200

struct script {
    struct cluster *cluster;
    struct buffer trace;
    char *words[WORDS_MAX];
    uint32_t word_count;
    bool breached;
};

typedef unsigned long long ull;

static const char *word(const struct script *script, uint32_t position)
{
    return position < script->word_count ? script->words[position] : "";
}

static uint64_t number(const struct script *script, uint32_t position)
{
    return strtoull(word(script, position), NULL, 10);
}

/* The text of `name=text`, or NULL. */
static const char *option(const struct script *script, const char *name)
{
    size_t length = strlen(name);
    for (uint32_t i = 1; i < script->word_count; i++) {
        const char *text = script->words[i];
        if (strncmp(text, name, length) == 0 && text[length] == '=') return text + length + 1;
    }
    return NULL;
}

static uint64_t option_number(const struct script *script, const char *name)
{
    const char *text = option(script, name);
    return text == NULL ? 0 : strtoull(text, NULL, 10);
}

static bool flag(const struct script *script, const char *name)
{
    for (uint32_t i = 1; i < script->word_count; i++) {
        if (strcmp(script->words[i], name) == 0) return true;
    }
    return false;
}

static struct cluster_member *member_at(struct script *script, uint32_t position)
{
    uint64_t id = number(script, position);
    if (script->cluster == NULL || id < 1 || id > script->cluster->options.count) {
        fail_msg("%s: no member '%s'", word(script, 0), word(script, position));
    }
    return &script->cluster->members[id];
}

/* ---- commands ---- */

static void end_cluster(struct script *script)
{
    if (script->cluster != NULL && script->cluster->violation[0] != 0) {
        fprintf(stderr, "breach: %s\n", script->cluster->violation);
        script->breached = true;
    }
    cluster_free(script->cluster);
    script->cluster = NULL;
}

static void do_cluster(struct script *script)
{
    end_cluster(script);
    struct cluster_options options = {
        .count = (uint32_t)number(script, 1),
        .seed = option_number(script, "seed"),
        .append_bytes_max = option_number(script, "append"),
        .inflight_bytes_max = option_number(script, "inflight"),
        .cache_bytes_max = option_number(script, "cache"),
        .unapplied_bytes_max = option_number(script, "unapplied"),
    };
    script->cluster = cluster_new(&options);
    script->cluster->trace_level = LOG_LEVEL_INFO;
    if (flag(script, "down")) return;
    script->cluster->trace = NULL;
    for (member_id id = 1; id <= options.count; id++) cluster_start(script->cluster, id);
}

static void do_disk(struct script *script)
{
    struct cluster_member *member = member_at(script, 1);
    if (option(script, "term") != NULL) member->disk.term = option_number(script, "term");
    if (option(script, "vote") != NULL) member->disk.vote = option_number(script, "vote");
    if (option(script, "commit") != NULL) member->disk.commit = option_number(script, "commit");
    for (const char *terms = option(script, "log"); terms != NULL && *terms != 0;) {
        char *end = NULL;
        cluster_disk_append(script->cluster, member->id, strtoull(terms, &end, 10));
        terms = *end == ',' ? end + 1 : end;
    }
}

static void do_status(struct script *script, member_id id)
{
    const struct cluster_member *member = &script->cluster->members[id];
    if (member->raft == NULL) {
        cluster_print(script->cluster, "%llu: down", (ull)id);
        return;
    }
    struct raft_status status;
    raft_status(member->raft, &status);
    char leader[32] = "";
    if (status.role == RAFT_FOLLOWER && status.leader != 0) {
        snprintf(leader, sizeof leader, " of %llu", (ull)status.leader);
    }
    cluster_print(script->cluster,
                  "%llu: %s%s, term=%llu vote=%llu log=%llu..%llu last_term=%llu durable=%llu commit=%llu "
                  "applied=%llu%s%s",
                  (ull)id, raft_role_name(status.role), leader, (ull)status.term, (ull)status.vote,
                  (ull)status.first_index, (ull)status.last_index, (ull)status.last_term, (ull)status.durable_index,
                  (ull)status.commit, (ull)status.applied, status.may_serve ? " may_serve" : "",
                  status.uncertain ? " uncertain" : "");
    if (status.role != RAFT_LEADER) return;
    for (uint32_t i = 0; i < status.peer_count; i++) {
        const struct raft_peer_status *peer = &status.peers[i];
        cluster_print(script->cluster, "   %llu: match=%llu next=%llu%s%s%s", (ull)peer->id, (ull)peer->match,
                      (ull)peer->next, peer->recently_active ? "" : " silent",
                      peer->needs_snapshot ? " needs_snapshot" : "", peer->uncertain ? " uncertain" : "");
    }
}

static void do_elect(struct script *script)
{
    member_id id = member_at(script, 1)->id;
    struct cluster *cluster = script->cluster;
    cluster->now += 2 * CLUSTER_ELECTION_TIMEOUT;
    cluster_tick(cluster, id);
    cluster_stabilize(cluster);
}

/* `TO`, `FROM->TO`; then perhaps a type and a count. */
struct selection {
    member_id from, to; /* 0: any */
    const char *type;   /* NULL: any */
    uint64_t count;
};

static struct selection select_messages(const struct script *script)
{
    struct selection selection = {.count = UINT64_MAX};
    const char *links = word(script, 1);
    const char *arrow = strstr(links, "->");
    selection.from = arrow == NULL ? 0 : strtoull(links, NULL, 10);
    selection.to = strtoull(arrow == NULL ? links : arrow + 2, NULL, 10);
    for (uint32_t i = 2; i < script->word_count; i++) {
        if (script->words[i][0] >= '0' && script->words[i][0] <= '9') {
            selection.count = number(script, i);
        } else {
            selection.type = script->words[i];
        }
    }
    return selection;
}

static bool is_selected(const struct selection *selection, const struct peer_message *message)
{
    return (selection->from == 0 || selection->from == message->from) &&
           (selection->to == 0 || selection->to == message->to) &&
           (selection->type == NULL || strcmp(selection->type, peer_message_type_name(message->type)) == 0);
}

static void do_messages(struct script *script, void (*act)(struct cluster *cluster, uint32_t position), bool takes)
{
    struct selection selection = select_messages(script);
    struct cluster *cluster = script->cluster;
    uint32_t position = 0, left = cluster->network_count;
    uint64_t done = 0;
    while (left-- > 0 && done < selection.count) {
        if (!is_selected(&selection, &cluster->network[position])) {
            position++;
            continue;
        }
        act(cluster, position);
        done++;
        if (!takes) position++;
    }
    if (done == 0) cluster_print(cluster, "(no such message)");
}

static void do_reorder(struct script *script)
{
    struct selection selection = select_messages(script);
    struct cluster *cluster = script->cluster;
    uint32_t positions[256], count = 0;
    for (uint32_t i = 0; i < cluster->network_count && count < 256; i++) {
        if (is_selected(&selection, &cluster->network[i])) positions[count++] = i;
    }
    for (uint32_t i = 0; i < count / 2; i++) {
        struct peer_message other = cluster->network[positions[i]];
        cluster->network[positions[i]] = cluster->network[positions[count - 1 - i]];
        cluster->network[positions[count - 1 - i]] = other;
    }
}

static void do_receive(struct script *script)
{
    struct cluster_member *member = member_at(script, 1);
    struct peer_message message = {
        .to = member->id,
        .from = option_number(script, "from"),
        .term = option_number(script, "term"),
        .index = option_number(script, "index"),
        .log_term = option_number(script, "log_term"),
        .commit = option_number(script, "commit"),
        .context = option_number(script, "context"),
        .hint_index = option_number(script, "hint_index"),
        .hint_term = option_number(script, "hint_term"),
        .rejected = flag(script, "rejected"),
        .transfer = flag(script, "transfer"),
        .uncertain = flag(script, "uncertain"),
    };
    for (enum peer_message_type type = PEER_PREVOTE; type < PEER_MESSAGE_TYPE_END; type++) {
        if (strcmp(peer_message_type_name(type), word(script, 2)) == 0) message.type = type;
    }
    if (message.type == 0) fail_msg("no message type '%s'", word(script, 2));
    /* Entries continue the chain of the entry before, if that was ever seen. */
    const char *terms = option(script, "log");
    uint32_t chain = 0;
    const struct cluster_slot *slot = &script->cluster->slots[message.index];
    for (uint32_t i = 0; i < slot->record_count; i++) {
        if (slot->records[i].term == message.log_term) chain = slot->records[i].chain;
    }
    message.entries = mem_alloc(64 * sizeof message.entries[0]);
    while (terms != NULL && *terms != 0) {
        char *end = NULL;
        raft_term term = strtoull(terms, &end, 10);
        size_t size = *end == ':' ? strcspn(end + 1, ",") : 0;
        struct entry *entry = entry_new(size == 0 ? ENTRY_EMPTY : ENTRY_COMMAND, size);
        if (size > 0) {
            memcpy(entry_payload(entry), end + 1, size);
            end += 1 + size;
        }
        terms = *end == ',' ? end + 1 : end;
        entry_seal(entry, message.index + 1 + message.entry_count, term, chain);
        chain = entry_chain(entry);
        message.entries[message.entry_count++] = entry;
    }
    cluster_receive(script->cluster, &message);
}

static void do_cut(struct script *script, bool cut)
{
    const char *links = word(script, 1);
    const char *dash = strchr(links, '-');
    if (dash == NULL) fail_msg("cut or mend: '%s' is no link", links);
    bool one_way = dash[1] == '>';
    uint64_t a = strtoull(links, NULL, 10), b = strtoull(dash + (one_way ? 2 : 1), NULL, 10);
    script->cluster->members[a].cuts[b] = cut;
    if (!one_way) script->cluster->members[b].cuts[a] = cut;
}

static void do_isolate(struct script *script, member_id id, bool cut)
{
    for (member_id other = 1; other <= script->cluster->options.count; other++) {
        script->cluster->members[id].cuts[other] = cut;
        script->cluster->members[other].cuts[id] = cut;
    }
}

static void do_event(struct script *script, enum raft_event_type type, member_id peer)
{
    struct raft_event event = {.type = type, .peer = peer};
    cluster_step(script->cluster, member_at(script, 1)->id, &event);
}

static bool is(const struct script *script, const char *command)
{
    return strcmp(script->words[0], command) == 0;
}

static bool do_life(struct script *script)
{
    struct cluster *cluster = script->cluster;
    if (is(script, "cluster")) {
        do_cluster(script);
    } else if (is(script, "disk")) {
        do_disk(script);
    } else if (is(script, "damage")) {
        cluster_disk_damage(cluster, member_at(script, 1)->id, number(script, 2), !flag(script, "unknown"));
    } else if (is(script, "wipe")) {
        cluster_disk_wipe(cluster, member_at(script, 1)->id);
    } else if (is(script, "start")) {
        for (uint32_t i = 1; i < script->word_count; i++) cluster_start(cluster, member_at(script, i)->id);
    } else if (is(script, "crash")) {
        cluster_crash(cluster, member_at(script, 1)->id, !flag(script, "silently"));
    } else if (is(script, "restart")) {
        cluster_crash(cluster, member_at(script, 1)->id, true);
        cluster_start(cluster, member_at(script, 1)->id);
    } else if (is(script, "connect")) {
        cluster_connect(cluster, member_at(script, 1)->id, member_at(script, 2)->id);
    } else if (is(script, "disconnect")) {
        cluster_disconnect(cluster, member_at(script, 1)->id, member_at(script, 2)->id);
    } else if (is(script, "greet")) {
        struct raft_event event = {.type = RAFT_PEER_CONNECTED,
                                   .peer = member_at(script, 2)->id,
                                   .incarnation = member_at(script, 2)->incarnation,
                                   .log_term = number(script, 3)};
        cluster_step(cluster, member_at(script, 1)->id, &event);
    } else {
        return false;
    }
    return true;
}

static bool do_network(struct script *script)
{
    struct cluster *cluster = script->cluster;
    if (is(script, "deliver")) {
        do_messages(script, cluster_deliver, true);
    } else if (is(script, "drop")) {
        do_messages(script, cluster_drop, true);
    } else if (is(script, "duplicate")) {
        do_messages(script, cluster_duplicate, false);
    } else if (is(script, "reorder")) {
        do_reorder(script);
    } else if (is(script, "receive")) {
        do_receive(script);
    } else if (is(script, "cut")) {
        do_cut(script, true);
    } else if (is(script, "mend")) {
        do_cut(script, false);
    } else if (is(script, "isolate")) {
        do_isolate(script, member_at(script, 1)->id, true);
    } else if (is(script, "heal")) {
        for (member_id id = 1; id <= cluster->options.count; id++) do_isolate(script, id, false);
    } else {
        return false;
    }
    return true;
}

static bool do_time(struct script *script)
{
    struct cluster *cluster = script->cluster;
    if (is(script, "tick")) {
        cluster->now += (time_ns)number(script, 2) * TIME_NS_PER_MS;
        cluster_tick(cluster, member_at(script, 1)->id);
    } else if (is(script, "pass")) {
        cluster->now += (time_ns)number(script, 1) * TIME_NS_PER_MS;
    } else if (is(script, "run")) {
        cluster_run(cluster, (time_ns)number(script, 1) * TIME_NS_PER_MS);
    } else if (is(script, "elect")) {
        do_elect(script);
    } else if (is(script, "stabilize")) {
        cluster_stabilize(cluster);
    } else if (is(script, "status")) {
        for (member_id id = 1; id <= cluster->options.count; id++) {
            if (script->word_count == 1) do_status(script, id);
        }
        for (uint32_t i = 1; i < script->word_count; i++) do_status(script, member_at(script, i)->id);
    } else {
        return false;
    }
    return true;
}

static bool do_disk_work(struct script *script, member_id id)
{
    struct cluster *cluster = script->cluster;
    bool done = true;
    if (is(script, "save")) {
        done = cluster_complete_save(cluster, id, true);
    } else if (is(script, "write")) {
        done = cluster_complete_write(cluster, id, true);
    } else if (is(script, "save-unheard")) {
        done = cluster_complete_save(cluster, id, false);
    } else if (is(script, "write-unheard")) {
        done = cluster_complete_write(cluster, id, false);
    } else if (is(script, "report-save") || is(script, "report-write")) {
        struct raft_event event = {.type = is(script, "report-save") ? RAFT_STATE_SAVED : RAFT_LOG_WRITTEN,
                                   .number = number(script, 2)};
        cluster_step(cluster, id, &event);
    } else if (is(script, "compact")) {
        done = cluster_compact(cluster, id, number(script, 2), number(script, 3));
    } else if (is(script, "install")) {
        done = cluster_complete_install(cluster, id);
    } else if (is(script, "abandon")) {
        cluster_abandon_install(cluster, id);
    } else if (is(script, "read-log")) {
        done = cluster_answer_log_read(cluster, id, flag(script, "gone"));
    } else {
        return false;
    }
    if (!done) cluster_print(cluster, "(nothing to do)");
    return true;
}

static bool do_work(struct script *script)
{
    struct cluster *cluster = script->cluster;
    member_id id = member_at(script, 1)->id;
    if (is(script, "flush")) {
        cluster_flush(cluster, id);
    } else if (is(script, "propose")) {
        for (uint32_t i = 2; i < script->word_count; i++) cluster_propose(cluster, id, script->words[i]);
    } else if (is(script, "read")) {
        cluster_read(cluster, id, number(script, 2));
    } else if (is(script, "apply")) {
        cluster_apply(cluster, id, number(script, 2));
    } else if (is(script, "transfer")) {
        do_event(script, RAFT_TRANSFER, number(script, 2));
    } else if (is(script, "step-down")) {
        do_event(script, RAFT_STEP_DOWN, 0);
    } else if (is(script, "fail-snapshot")) {
        struct raft_event event = {.type = RAFT_SNAPSHOT_SENT, .peer = number(script, 2), .rejected = true};
        cluster_step(cluster, id, &event);
    } else {
        return do_disk_work(script, id);
    }
    return true;
}

static void run_command(struct script *script, char *line)
{
    bool quiet = false, flushed = true;
    script->word_count = 0;
    for (char *text = strtok(line, " "); text != NULL; text = strtok(NULL, " ")) {
        if (script->word_count == 0 && strcmp(text, "quietly") == 0) {
            quiet = true;
        } else if (script->word_count == 0 && strcmp(text, "unflushed") == 0) {
            flushed = false;
        } else if (script->word_count < WORDS_MAX) {
            script->words[script->word_count++] = text;
        }
    }
    if (script->word_count == 0) return;
    if (script->cluster == NULL && !is(script, "cluster")) fail_msg("'%s' before 'cluster'", script->words[0]);
    if (script->cluster != NULL) script->cluster->trace = quiet ? NULL : &script->trace;
    if (!do_life(script) && !do_network(script) && !do_time(script) && !do_work(script)) {
        fail_msg("no command '%s'", script->words[0]);
    }
    if (flushed) cluster_end_turn(script->cluster);
    script->cluster->trace = &script->trace;
}

/* ---- files ---- */

static void read_file(const char *path, struct buffer *out)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) fail_msg("can't open %s", path);
    char chunk[4096];
    size_t size;
    while ((size = fread(chunk, 1, sizeof chunk, file)) > 0) buffer_append(out, chunk, size);
    fclose(file);
    buffer_append_byte(out, 0);
}

/* Takes the next line, without its end, from `*at`; NULL at the end of the text. */
static char *next_line(char **at)
{
    if (**at == 0) return NULL;
    char *line = *at;
    char *end = strchr(line, '\n');
    if (end == NULL) {
        *at = line + strlen(line);
    } else {
        *end = 0;
        *at = end + 1;
    }
    return line;
}

static void append_line(struct buffer *out, const char *line)
{
    buffer_append_string(out, line);
    buffer_append_byte(out, '\n');
}

/* Runs one block's commands; `single`: its trace needs no headings. */
static void run_block(struct script *script, struct buffer *commands, uint32_t command_count, struct buffer *out)
{
    char *at = (char *)commands->data;
    char *line;
    size_t before = out->size;
    while ((line = next_line(&at)) != NULL) {
        char heading[256];
        snprintf(heading, sizeof heading, "> %s", line);
        buffer_clear(&script->trace);
        run_command(script, line);
        if (script->trace.size == 0) continue;
        if (command_count > 1) append_line(out, heading);
        buffer_append(out, script->trace.data, script->trace.size);
    }
    if (out->size == before) append_line(out, "(nothing)");
}

/* The script's text with what happens now in the place of what was expected. False: a guarantee was broken. */
static bool run_text(char *text, struct buffer *out)
{
    struct script script = {0};
    struct buffer commands = {0};
    uint32_t command_count = 0;
    char *line;
    while ((line = next_line(&text)) != NULL) {
        if (strcmp(line, "----") == 0) {
            append_line(out, line);
            buffer_append_byte(&commands, 0);
            run_block(&script, &commands, command_count, out);
            buffer_clear(&commands);
            command_count = 0;
            while ((line = next_line(&text)) != NULL && line[0] != 0) continue;
            buffer_append_byte(out, '\n');
            continue;
        }
        append_line(out, line);
        if (line[0] == 0 || line[0] == '#') continue;
        append_line(&commands, line);
        command_count++;
    }
    assert_int_equal(command_count, 0);
    end_cluster(&script);
    buffer_free(&script.trace);
    buffer_free(&commands);
    return !script.breached;
}

static void print_difference(const char *path, char *expected, char *found)
{
    uint32_t number_of_line = 0;
    char *want, *have;
    do {
        want = next_line(&expected);
        have = next_line(&found);
        number_of_line++;
    } while (want != NULL && have != NULL && strcmp(want, have) == 0);
    fprintf(stderr, "%s:%u:\n  expected: %s\n  found:    %s\n", path, number_of_line, want == NULL ? "(end)" : want,
            have == NULL ? "(end)" : have);
    for (int i = 0; i < 12 && (have = next_line(&found)) != NULL; i++) fprintf(stderr, "            %s\n", have);
}

static void test_script(void **state)
{
    const char *path = *state;
    struct buffer expected = {0}, text = {0}, found = {0};
    read_file(path, &expected);
    buffer_append(&text, expected.data, expected.size);
    bool kept = run_text((char *)text.data, &found);
    buffer_append_byte(&found, 0);
    const char *rewrite = getenv("CORACLE_REWRITE");
    bool same = strcmp((const char *)expected.data, (const char *)found.data) == 0;
    if (rewrite != NULL && strcmp(rewrite, "1") == 0 && !same) {
        FILE *file = fopen(path, "wb");
        assert_non_null(file);
        fputs((const char *)found.data, file);
        assert_int_equal(fclose(file), 0);
        same = true;
    }
    if (!same) print_difference(path, (char *)expected.data, (char *)found.data);
    buffer_free(&expected);
    buffer_free(&text);
    buffer_free(&found);
    assert_true(same);
    assert_true(kept);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct CMUnitTest *)a)->name, ((const struct CMUnitTest *)b)->name);
}

int main(void)
{
    static struct CMUnitTest tests[SCRIPTS_MAX];
    size_t count = 0;
    DIR *directory = opendir(SCRIPTS);
    if (directory == NULL) {
        fprintf(stderr, "run this from the root of the repository: there is no %s\n", SCRIPTS);
        return 1;
    }
    struct dirent *found;
    while ((found = readdir(directory)) != NULL && count < SCRIPTS_MAX) {
        const char *end = strrchr(found->d_name, '.');
        if (end == NULL || strcmp(end, ".txt") != 0) continue;
        struct buffer path = {0};
        buffer_append_format(&path, "%s/%s", SCRIPTS, found->d_name);
        buffer_append_byte(&path, 0);
        tests[count++] =
            (struct CMUnitTest){.name = (char *)path.data, .test_func = test_script, .initial_state = path.data};
    }
    closedir(directory);
    if (count == 0) return 1;
    qsort(tests, count, sizeof tests[0], by_name);
    int failures = _cmocka_run_group_tests("raft scripts", tests, count, NULL, NULL);
    for (size_t i = 0; i < count; i++) mem_free(tests[i].initial_state);
    return failures;
}
