/* The snapshot handler: sending a snapshot to a peer, and receiving a leader's. */
#include "snapshot_bench.h"

#define FOLLOWER 2
#define TERM 9

static struct node a, b; /* the leader and the follower */

/* Takes the first mail out. */
static struct mail *take_mail(struct node *node)
{
    struct mail *mail = node->outbox;
    if (mail != NULL) node->outbox = mail->next;
    return mail;
}

static void free_mail(struct mail *mail)
{
    if (mail->message.data.size > 0) mem_free((void *)mail->message.data.data);
    mem_free(mail);
}

static unsigned mail_count(const struct node *node)
{
    unsigned count = 0;
    for (const struct mail *mail = node->outbox; mail != NULL; mail = mail->next) count++;
    return count;
}

static void give(struct node *node, const struct peer_message *message)
{
    if (message->type == PEER_SNAPSHOT) {
        snapshot_handler_chunk(node->handler, &node->replica, message);
    } else {
        assert_int_equal(message->type, PEER_SNAPSHOT_REPLY);
        snapshot_handler_reply(node->handler, message);
    }
}

/* One message from one to the other; false when there is none. */
static bool deliver_one(struct node *from, struct node *to)
{
    struct mail *mail = take_mail(from);
    if (mail == NULL) return false;
    if (mail->message.to == to->self) give(to, &mail->message);
    free_mail(mail);
    return true;
}

/* What the owner does once a snapshot was received. */
static void install(struct node *node)
{
    node->installed_count++;
    assert_int_equal(node->installed_count, node->received_count);
    assert_int_equal(replica_load_finish(&node->replica), ERR_OK);
    assert_state(&node->replica, node->received_index);
    snapshot_handler_installed(node->handler, TERM);
}

/* Lets everything happen, in an order that is drawn; installs what was received. */
static void run_both(void)
{
    for (unsigned idle = 0; idle < 100;) {
        bool happened = false;
        switch (random_below(&a.random, 4)) {
        case 0:
            happened = rig_run_one(&a.rig);
            break;
        case 1:
            happened = rig_run_one(&b.rig);
            break;
        case 2:
            happened = deliver_one(&a, &b);
            break;
        case 3:
            happened = deliver_one(&b, &a);
            break;
        }
        if (b.received_count > b.installed_count) install(&b);
        if (b.rig.disk.dead) return;
        idle = happened ? 0 : idle + 1;
    }
}

static void start_both(uint64_t seed)
{
    start(&a, LEADER, seed);
    start(&b, FOLLOWER, seed + 1000000);
}

static void free_both(void)
{
    node_free(&a);
    node_free(&b);
}

static void test_sends_and_installs(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 100, 256 * KIB, 3 * MIB + 5};
    for (uint64_t seed = 1; seed <= 20; seed++) {
        start_both(seed);
        for (raft_index i = 0; i < ARRAY_COUNT(sizes); i++) {
            make(&a, 50 + i, sizes[i]);
            uint64_t before = a.data_bytes_sent;
            snapshot_handler_send(a.handler, FOLLOWER, TERM);
            snapshot_handler_send(a.handler, FOLLOWER, TERM); /* no effect */
            run_both();
            assert_int_equal(a.sent_count, i + 1);
            assert_int_equal(a.sent_index, 50 + i);
            assert_int_equal(b.received_count, i + 1);
            assert_int_equal(a.data_bytes_sent - before, snapshot_handler_current(a.handler)->size_bytes);
            assert_state(&b.replica, 50 + i);
            assert_int_equal(snapshot_handler_current(b.handler)->index, 50 + i);
            assert_int_equal(rig_count(&b.rig, DIRECTORY, ""), 2);
            assert_true(snapshot_handler_idle(a.handler) && snapshot_handler_idle(b.handler));
        }
        node_restart(&b, true);
        assert_int_equal(recover(&b), ERR_OK);
        assert_int_equal(b.replica.index, 53);
        assert_int_equal(a.rejected_count, 0);
        free_both();
    }
}

static void lose_one(struct node *from)
{
    struct mail *mail = take_mail(from);
    if (mail != NULL) free_mail(mail);
}

/* Each of the first messages in either direction gets lost, and the connection doesn't break. */
static void test_what_got_lost_is_sent_again(void **state)
{
    (void)state;
    for (unsigned losing = 0; losing < 12; losing++) {
        start_both(losing + 1);
        make(&a, 50, losing % 2 == 0 ? 100 : 2 * MIB);
        snapshot_handler_send(a.handler, FOLLOWER, TERM);
        for (unsigned i = 0; a.sent_count == 0 && i < 200; i++) {
            rig_run(&a.rig);
            if (i == losing / 4 && losing / 2 % 2 == 0) lose_one(&a);
            deliver_one(&a, &b);
            rig_run(&b.rig);
            if (b.received_count > b.installed_count) install(&b);
            if (i == losing / 4 && losing / 2 % 2 == 1) lose_one(&b);
            deliver_one(&b, &a);
        }
        uint64_t before = a.data_bytes_sent;
        for (unsigned i = 0; a.sent_count == 0 && i < SNAPSHOT_SEND_ASKED_MAX; i++) {
            assert_int_equal(a.data_bytes_sent, before);
            snapshot_handler_send(a.handler, FOLLOWER, TERM);
        }
        run_both();
        assert_int_equal(a.sent_count, 1);
        assert_int_equal(b.installed_count, 1);
        assert_state(&b.replica, 50);
        free_both();
    }
}

/* A slow peer holds up nobody, and no more than the window is under way to it. */
static void test_the_window(void **state)
{
    (void)state;
    start_both(1);
    make(&a, 50, 5 * MIB);
    snapshot_handler_send(a.handler, FOLLOWER, TERM);
    rig_run(&a.rig);
    assert_int_equal(mail_count(&a), 1); /* first it asks what is there */
    while (b.received_count == 0) {
        rig_run(&a.rig);
        uint64_t under_way = 0;
        for (const struct mail *mail = a.outbox; mail != NULL; mail = mail->next) under_way += mail->message.data.size;
        assert_true(under_way <= SNAPSHOT_SEND_WINDOW);
        if (a.data_bytes_sent > 2 * MIB && a.data_bytes_sent < 4 * MIB) {
            assert_int_equal(mail_count(&a), SNAPSHOT_SEND_WINDOW / SNAPSHOT_SEND_BYTES);
        }
        /* The last answer comes only once it is installed. */
        while (deliver_one(&a, &b)) continue;
        rig_run(&b.rig);
        while (deliver_one(&b, &a)) continue;
        assert_int_equal(a.sent_count, 0);
    }
    install(&b);
    run_both();
    assert_int_equal(a.sent_count, 1);
    free_both();
}

static void test_six_peers_at_once(void **state)
{
    (void)state;
    start(&a, LEADER, 1);
    make(&a, 50, 2 * MIB);
    static struct node peers[MEMBERS_MAX - 1];
    for (unsigned i = 0; i < ARRAY_COUNT(peers); i++) start(&peers[i], 10 + i, 100 + i);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < ARRAY_COUNT(peers); i++) snapshot_handler_send(a.handler, peers[i].self, TERM);
        unsigned done = 0;
        while (done < ARRAY_COUNT(peers)) {
            rig_run_one(&a.rig);
            struct mail *mail = take_mail(&a);
            for (unsigned i = 0; i < ARRAY_COUNT(peers); i++) {
                struct node *peer = &peers[i];
                if (mail != NULL && mail->message.to == peer->self) give(peer, &mail->message);
                if (random_chance(&a.random, 200 + 100 * i)) rig_run_one(&peer->rig); /* some are slow */
                if (peer->received_count > peer->installed_count) {
                    install(peer);
                    done++;
                }
                deliver_one(peer, &a);
            }
            if (mail != NULL) free_mail(mail);
        }
        for (unsigned i = 0; i < ARRAY_COUNT(peers); i++) {
            while (deliver_one(&peers[i], &a)) continue;
            rig_run(&peers[i].rig);
        }
        rig_run(&a.rig);
        assert_int_equal(a.sent_count, (round + 1) * ARRAY_COUNT(peers));
        if (round == 0) make(&a, 60, MIB);
    }
    for (unsigned i = 0; i < ARRAY_COUNT(peers); i++) {
        assert_state(&peers[i].replica, 60);
        node_free(&peers[i]);
    }
    node_free(&a);
}

/* After a lost connection it goes on where it was; after the follower's restart, from the beginning. */
static void test_resumes(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        start_both(seed);
        make(&a, 50, 3 * MIB);
        uint64_t size = snapshot_handler_current(a.handler)->size_bytes;
        unsigned cuts = 0;
        bool lost_all = false;
        snapshot_handler_send(a.handler, FOLLOWER, TERM);
        while (a.sent_count == 0) {
            for (uint64_t i = random_below(&a.random, 60); i > 0; i--) {
                rig_run_one(&a.rig);
                rig_run_one(&b.rig);
                deliver_one(&a, &b);
                deliver_one(&b, &a);
                if (b.received_count > b.installed_count) install(&b);
            }
            if (a.sent_count > 0) break;
            if (cuts++ >= 4) {
                run_both();
                break;
            }
            snapshot_handler_peer_lost(a.handler, FOLLOWER);
            drop_mail(&a);
            drop_mail(&b);
            if (!lost_all && seed % 3 == 0 && b.received_count == 0) {
                node_restart(&b, true);
                assert_int_equal(recover(&b), ERR_OK);
                lost_all = true;
            }
            if (random_chance(&a.random, 500)) rig_run(&a.rig);
            if (random_chance(&a.random, 500)) rig_run(&b.rig);
            if (b.received_count > b.installed_count) install(&b);
            snapshot_handler_send(a.handler, FOLLOWER, TERM);
        }
        assert_int_equal(a.sent_count, 1);
        /* A restart may have found the whole one there, only not yet counted. */
        if (!lost_all) assert_int_equal(b.received_count, 1);
        assert_state(&b.replica, 50);
        /* At each cut no more than a window, and the asking, is sent again. */
        if (!lost_all) assert_true(a.data_bytes_sent <= size + cuts * (SNAPSHOT_SEND_WINDOW + SNAPSHOT_SEND_BYTES));
        free_both();
    }
}

static void chunk(struct node *node, raft_index index, uint64_t offset, uint64_t total, const uint8_t *data,
                  size_t size)
{
    struct peer_message message = {.type = PEER_SNAPSHOT,
                                   .from = LEADER,
                                   .to = node->self,
                                   .term = TERM,
                                   .index = index,
                                   .log_term = 3,
                                   .offset = offset,
                                   .total = total,
                                   .data = bytes_of(data, size)};
    snapshot_handler_chunk(node->handler, &node->replica, &message);
}

static void expect_reply(struct node *node, raft_index index, uint64_t offset, bool rejected, enum error reason)
{
    struct mail *mail = take_mail(node);
    assert_non_null(mail);
    assert_int_equal(mail->message.type, PEER_SNAPSHOT_REPLY);
    assert_int_equal(mail->message.to, LEADER);
    assert_int_equal(mail->message.term, TERM);
    assert_int_equal(mail->message.index, index);
    assert_int_equal(mail->message.offset, offset);
    assert_int_equal(mail->message.rejected, rejected);
    assert_int_equal(mail->message.reason, reason);
    free_mail(mail);
}

/* The bytes of a snapshot that a leader has made. */
static uint8_t *snapshot_bytes(raft_index index, size_t state_bytes, size_t *size)
{
    make(&a, index, state_bytes);
    *size = (size_t)snapshot_handler_current(a.handler)->size_bytes;
    uint8_t *bytes = mem_alloc(*size);
    rig_read(&a.rig, current_path(&a), 0, bytes, *size);
    return bytes;
}

static void test_what_the_receiver_answers(void **state)
{
    (void)state;
    start_both(1);
    size_t size, other_size;
    uint8_t *data = snapshot_bytes(50, 300 * KIB, &size);
    uint8_t *other = snapshot_bytes(60, 200 * KIB, &other_size);

    /* What makes no sense is ignored. */
    chunk(&b, 0, 0, size, data, 10);
    chunk(&b, 50, 0, 0, data, 0);
    chunk(&b, 50, size + 1, size, data, 0);
    chunk(&b, 50, size - 5, size, data, 6);
    assert_null(b.outbox);

    chunk(&b, 50, 100, size, data + 100, 10); /* a gap */
    expect_reply(&b, 50, 0, true, ERR_OK);
    chunk(&b, 50, 0, size, data, 1000);
    assert_null(b.outbox); /* not before it is written */
    rig_run(&b.rig);
    expect_reply(&b, 50, 1000, false, ERR_OK);
    chunk(&b, 50, 0, size, data, 1000); /* a repeat */
    expect_reply(&b, 50, 1000, false, ERR_OK);
    chunk(&b, 50, 2000, size, data + 2000, 10);
    expect_reply(&b, 50, 1000, true, ERR_OK);
    chunk(&b, 50, 500, size, data + 500, 1000); /* half of it is new */
    rig_run(&b.rig);
    expect_reply(&b, 50, 1500, false, ERR_OK);
    assert_null(b.outbox);

    /* Another snapshot takes its place. */
    chunk(&b, 60, 0, other_size, other, 100);
    assert_null(b.outbox);
    rig_run(&b.rig);
    expect_reply(&b, 60, 0, true, ERR_OK);
    assert_int_equal(rig_count(&b.rig, DIRECTORY, ".tmp"), 0);
    chunk(&b, 60, 0, other_size, other, 100);
    rig_run(&b.rig);
    expect_reply(&b, 60, 100, false, ERR_OK);

    /* Likewise while a write is under way; the same length doesn't make it the same. */
    chunk(&b, 60, 100, other_size, other + 100, 100);
    chunk(&b, 50, 0, size, data, size);
    chunk(&b, 50, 0, size, data, size);
    rig_run(&b.rig);
    expect_reply(&b, 50, 0, true, ERR_OK);
    chunk(&b, 50, 0, size, data, size);
    while (b.received_count == 0) assert_true(rig_run_one(&b.rig));
    /* No answer, neither to the whole nor to repeats, before it is installed. */
    chunk(&b, 50, 0, size, data, size);
    assert_null(b.outbox);
    chunk(&b, 60, 0, other_size, other, 100);
    assert_null(b.outbox);
    install(&b);
    expect_reply(&b, 50, size, false, ERR_OK);
    expect_reply(&b, 60, 0, true, ERR_OK);
    assert_null(b.outbox);

    /* What is covered already is there. */
    chunk(&b, 50, 0, size, data, 100);
    expect_reply(&b, 50, size, false, ERR_OK);
    chunk(&b, 40, 0, 777, data, 100);
    expect_reply(&b, 40, 777, false, ERR_OK);
    rig_run(&b.rig);
    assert_int_equal(b.received_count, 1);
    assert_state(&b.replica, 50);
    mem_free(data);
    mem_free(other);
    free_both();
}

/* Damage anywhere is noticed as it comes, and nothing of it stays. */
static void test_damage_on_the_way(void **state)
{
    (void)state;
    start_both(1);
    size_t size;
    uint8_t *data = snapshot_bytes(50, 500 * KIB, &size);
    static const size_t places[] = {0, 4, 17, 40, 300, 1000, 250 * KIB};
    for (size_t i = 0; i < ARRAY_COUNT(places) + 1; i++) {
        size_t place = i < ARRAY_COUNT(places) ? places[i] : size - 1;
        data[place] ^= 4;
        for (size_t at = 0; at < size && b.outbox == NULL; at += 100 * KIB) {
            chunk(&b, 50, at, size, data + at, size - at < 100 * KIB ? size - at : 100 * KIB);
            rig_run(&b.rig);
            struct mail *mail = b.outbox;
            if (mail != NULL && !mail->message.rejected) free_mail(take_mail(&b));
        }
        expect_reply(&b, 50, 0, true, ERR_DAMAGED);
        assert_null(b.outbox);
        assert_int_equal(rig_count(&b.rig, DIRECTORY, ""), 0);
        data[place] ^= 4;
    }
    /* A whole one that ends too early, one that goes on, and one that isn't what was announced. */
    chunk(&b, 50, 0, size - 10, data, size - 10);
    rig_run(&b.rig);
    expect_reply(&b, 50, 0, true, ERR_DAMAGED);
    data = mem_realloc(data, size + 10);
    memset(data + size, 0, 10);
    chunk(&b, 50, 0, size + 10, data, size + 10);
    rig_run(&b.rig);
    expect_reply(&b, 50, 0, true, ERR_DAMAGED);
    chunk(&b, 51, 0, size, data, size);
    rig_run(&b.rig);
    expect_reply(&b, 51, 0, true, ERR_DAMAGED);
    assert_int_equal(b.received_count, 0);
    assert_int_equal(b.failed_count, 0);
    /* And then the good one. */
    chunk(&b, 50, 0, size, data, size);
    rig_run(&b.rig);
    assert_int_equal(b.received_count, 1);
    install(&b);
    assert_state(&b.replica, 50);
    mem_free(data);
    free_both();
}

/* What the device gives back is checked again. */
static void test_damage_found_by_reading_back(void **state)
{
    (void)state;
    start_both(1);
    make(&a, 50, 600 * KIB);
    snapshot_handler_send(a.handler, FOLLOWER, TERM);
    const char *path = DIRECTORY "/snapshot-0000000000000001.snap";
    while (!rig_exists(&b.rig, path)) {
        rig_run_one(&a.rig);
        rig_run_one(&b.rig);
        deliver_one(&a, &b);
        deliver_one(&b, &a);
    }
    rig_flip(&b.rig, path, 400 * KIB, 1);
    run_both();
    assert_int_equal(b.received_count, 0);
    assert_false(b.replica.loading);
    assert_int_equal(b.failed_count, 0);
    assert_int_equal(a.rejected_count, 1);
    assert_int_equal(rig_count(&b.rig, DIRECTORY, "0001.snap.damaged-1"), 1);
    assert_true(rig_said(&b.rig, path));
    snapshot_handler_send(a.handler, FOLLOWER, TERM);
    run_both();
    assert_int_equal(b.received_count, 1);
    assert_int_equal(a.sent_count, 1);
    free_both();
}

/* A damaged file of the leader's reaches nobody's state. */
static void test_the_leaders_file_is_damaged(void **state)
{
    (void)state;
    start_both(1);
    make(&a, 50, 600 * KIB);
    rig_flip(&a.rig, current_path(&a), 300 * KIB, 1);
    snapshot_handler_send(a.handler, FOLLOWER, TERM);
    run_both();
    assert_int_equal(a.rejected_count, 1);
    assert_int_equal(a.sent_count, 0);
    assert_int_equal(b.received_count, 0);
    assert_true(rig_said(&a.rig, "refuses the snapshot"));
    /* It is short, or gone. */
    struct disk_file *file;
    assert_int_equal(disk_open(&a.rig.disk.disk, current_path(&a), DISK_WRITE, &file), ERR_OK);
    assert_int_equal(disk_truncate(&a.rig.disk.disk, file, 1000), ERR_OK);
    disk_close(&a.rig.disk.disk, file);
    snapshot_handler_send(a.handler, FOLLOWER, TERM);
    run_both();
    assert_int_equal(a.rejected_count, 2);
    rig_remove(&a.rig, current_path(&a));
    snapshot_handler_send(a.handler, FOLLOWER, TERM);
    run_both();
    assert_int_equal(a.rejected_count, 3);
    assert_int_equal(a.failed_count, 0);
    free_both();
}

static void test_the_replica_refuses(void **state)
{
    (void)state;
    start_both(1);
    make(&a, 50, 600 * KIB);
    static const enum error errors[] = {ERR_BAD_VERSION, ERR_DAMAGED, ERR_WRONG_CLUSTER};
    for (size_t i = 0; i < ARRAY_COUNT(errors); i++) {
        b.replica.load_error = errors[i];
        snapshot_handler_send(a.handler, FOLLOWER, TERM);
        run_both();
        assert_int_equal(a.rejected_count, i + 1);
        assert_int_equal(b.received_count, 0);
        assert_false(b.replica.loading);
        assert_int_equal(rig_count(&b.rig, DIRECTORY, ".tmp"), 0);
        assert_int_equal(rig_count(&b.rig, DIRECTORY, "metadata"), 0);
    }
    assert_int_equal(rig_count(&b.rig, DIRECTORY, "damaged"), 1);
    b.replica.load_error = ERR_OK;
    snapshot_handler_send(a.handler, FOLLOWER, TERM);
    run_both();
    assert_int_equal(a.sent_count, 1);
    free_both();
}

static void test_no_room_at_the_receiver(void **state)
{
    (void)state;
    start_both(1);
    make(&a, 50, 2 * MIB);
    make(&b, 5, 10 * KIB);
    b.rig.disk.capacity_bytes = MIB;
    snapshot_handler_send(a.handler, FOLLOWER, TERM);
    run_both();
    assert_int_equal(a.rejected_count, 1);
    assert_int_equal(b.failed_count, 0);
    assert_int_equal(rig_count(&b.rig, DIRECTORY, ".tmp"), 0);
    b.rig.disk.capacity_bytes = 0;
    snapshot_handler_send(a.handler, FOLLOWER, TERM);
    run_both();
    assert_int_equal(a.sent_count, 1);
    assert_state(&b.replica, 50);
    free_both();
}

/* The leader makes a newer one meanwhile: the older file stays until its transfer has ended. */
static void test_a_newer_snapshot_while_sending(void **state)
{
    (void)state;
    for (int lost = 0; lost <= 1; lost++) {
        start_both(1);
        make(&a, 50, 5 * MIB);
        snapshot_handler_send(a.handler, FOLLOWER, TERM);
        for (unsigned i = 0; i < 3; i++) {
            rig_run(&a.rig);
            while (deliver_one(&a, &b)) continue;
            rig_run(&b.rig);
            while (deliver_one(&b, &a)) continue;
        }
        make(&a, 60, 100 * KIB);
        make(&a, 70, 100 * KIB);
        assert_int_equal(rig_count(&a.rig, DIRECTORY, ".snap"), 2); /* the one between isn't needed */
        if (lost) {
            snapshot_handler_peer_lost(a.handler, FOLLOWER);
            drop_mail(&a);
            drop_mail(&b);
            rig_run(&a.rig);
            assert_int_equal(rig_count(&a.rig, DIRECTORY, ".snap"), 1);
            snapshot_handler_send(a.handler, FOLLOWER, TERM);
            run_both();
            assert_state(&b.replica, 70); /* another one than had begun */
        } else {
            run_both();
            assert_state(&b.replica, 50);
            assert_int_equal(a.sent_index, 50);
            assert_int_equal(rig_count(&a.rig, DIRECTORY, ".snap"), 1);
        }
        assert_int_equal(a.sent_count, 1);
        assert_int_equal(b.received_count, 1);
        free_both();
    }
}

/* A transfer of an earlier term doesn't keep a new one from beginning; all end with the leadership. */
static void test_terms(void **state)
{
    (void)state;
    start_both(1);
    make(&a, 50, 2 * MIB);
    snapshot_handler_send(a.handler, FOLLOWER, TERM - 1);
    rig_run(&a.rig);
    drop_mail(&a); /* the follower ignored it */
    snapshot_handler_send(a.handler, FOLLOWER, TERM);
    run_both();
    assert_int_equal(a.sent_count, 1);
    assert_state(&b.replica, 50);
    make(&a, 60, 2 * MIB);
    snapshot_handler_send(a.handler, FOLLOWER, TERM);
    rig_run_one(&a.rig);
    snapshot_handler_stop_sending(a.handler);
    rig_run(&a.rig);
    drop_mail(&a);
    make(&a, 70, 100);
    assert_int_equal(rig_count(&a.rig, DIRECTORY, ".snap"), 1);
    assert_int_equal(a.sent_count, 1);
    assert_int_equal(a.rejected_count, 0);
    /* Answers that nobody waits for change nothing. */
    struct peer_message late = {.type = PEER_SNAPSHOT_REPLY, .from = FOLLOWER, .index = 60, .offset = 5};
    snapshot_handler_reply(a.handler, &late);
    late.from = 99;
    snapshot_handler_reply(a.handler, &late);
    assert_int_equal(rig_waiting(&a.rig), 0);
    free_both();
}

/* One's own is given up when a leader's is to be loaded; a transfer that one's own has overtaken is dropped. */
static void test_making_and_receiving(void **state)
{
    (void)state;
    for (unsigned jobs = 0; jobs < 60; jobs += 3) {
        start_both(jobs);
        make(&a, 50, MIB);
        begin_make(&b, 20, 2 * MIB);
        for (unsigned i = 0; i < jobs; i++) rig_run_one(&b.rig);
        snapshot_handler_send(a.handler, FOLLOWER, TERM);
        run_both();
        assert_int_equal(a.sent_count, 1);
        assert_state(&b.replica, 50);
        assert_int_equal(b.made_count + b.not_made_count, 1);
        assert_int_equal(rig_count(&b.rig, DIRECTORY, ""), 2);
        free_both();
    }
    start_both(1);
    size_t size;
    uint8_t *data = snapshot_bytes(50, 300 * KIB, &size);
    chunk(&b, 50, 0, size, data, 100 * KIB);
    rig_run(&b.rig);
    expect_reply(&b, 50, 100 * KIB, false, ERR_OK);
    make(&b, 49, 1000); /* not far enough */
    assert_int_equal(rig_count(&b.rig, DIRECTORY, ".tmp"), 1);
    make(&b, 55, 1000);
    assert_int_equal(rig_count(&b.rig, DIRECTORY, ".tmp"), 0);
    chunk(&b, 50, 100 * KIB, size, data + 100 * KIB, 100);
    expect_reply(&b, 50, size, false, ERR_OK);
    mem_free(data);
    free_both();
}

static void test_a_crash_at_every_operation(void **state)
{
    (void)state;
    unsigned crash_count = 0, older_count = 0, newer_count = 0;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        start(&a, LEADER, seed);
        make(&a, 50, 700 * KIB);
        bool crashed = true;
        for (uint64_t at = 1; crashed; at++) {
            node_init(&b, FOLLOWER, seed * 1000 + at);
            assert_int_equal(recover(&b), ERR_OK);
            make(&b, 5, 1000);
            b.rig.disk.crash_at = b.rig.disk.counters.operations + at;
            snapshot_handler_send(a.handler, FOLLOWER, TERM);
            run_both();
            crashed = b.rig.disk.dead;
            crash_count += crashed;
            bool received = b.received_count > 0;
            snapshot_handler_peer_lost(a.handler, FOLLOWER);
            rig_run(&a.rig);
            drop_mail(&a);
            node_restart(&b, true);
            assert_int_equal(recover(&b), ERR_OK);
            assert_true(b.replica.index == 50 || b.replica.index == 5);
            if (received) assert_int_equal(b.replica.index, 50);
            older_count += b.replica.index == 5;
            newer_count += b.replica.index == 50;
            assert_int_equal(rig_count(&b.rig, DIRECTORY, ""), 2);
            b.received_count = 0;
            b.installed_count = 0;
            /* Again, to the end. */
            snapshot_handler_send(a.handler, FOLLOWER, TERM);
            run_both();
            assert_int_equal(snapshot_handler_current(b.handler)->index, 50);
            node_free(&b);
        }
        node_free(&a);
    }
    assert_true(crash_count > 60);
    assert_true(older_count > 30 && newer_count > 5);
}

static void test_a_failure_at_every_operation(void **state)
{
    (void)state;
    start(&a, LEADER, 1);
    make(&a, 50, 700 * KIB);
    bool failed = true;
    unsigned failed_count = 0;
    for (uint64_t at = 1; failed; at++) {
        node_init(&b, FOLLOWER, at);
        assert_int_equal(recover(&b), ERR_OK);
        make(&b, 5, 1000);
        b.rig.disk.fail_at = b.rig.disk.counters.operations + at;
        snapshot_handler_send(a.handler, FOLLOWER, TERM);
        run_both();
        failed = b.rig.disk.counters.failures > 0;
        bool received = b.received_count > 0;
        assert_int_equal(b.failed_count, failed);
        if (failed) {
            failed_count++;
            assert_non_null(strstr(b.text, DIRECTORY));
            uint64_t operations = b.rig.disk.counters.operations;
            chunk(&b, 60, 0, 100, (const uint8_t *)"x", 1);
            rig_run(&b.rig);
            assert_int_equal(b.rig.disk.counters.operations, operations);
            assert_null(b.outbox);
        }
        snapshot_handler_peer_lost(a.handler, FOLLOWER);
        rig_run(&a.rig);
        drop_mail(&a);
        node_restart(&b, at % 2 == 0);
        assert_int_equal(recover(&b), ERR_OK);
        if (received) assert_int_equal(b.replica.index, 50);
        assert_true(b.replica.index == 50 || b.replica.index == 5);
        node_free(&b);
    }
    assert_true(failed_count > 10);
    node_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sends_and_installs),
        cmocka_unit_test(test_what_got_lost_is_sent_again),
        cmocka_unit_test(test_the_window),
        cmocka_unit_test(test_six_peers_at_once),
        cmocka_unit_test(test_resumes),
        cmocka_unit_test(test_what_the_receiver_answers),
        cmocka_unit_test(test_damage_on_the_way),
        cmocka_unit_test(test_damage_found_by_reading_back),
        cmocka_unit_test(test_the_leaders_file_is_damaged),
        cmocka_unit_test(test_the_replica_refuses),
        cmocka_unit_test(test_no_room_at_the_receiver),
        cmocka_unit_test(test_a_newer_snapshot_while_sending),
        cmocka_unit_test(test_terms),
        cmocka_unit_test(test_making_and_receiving),
        cmocka_unit_test(test_a_crash_at_every_operation),
        cmocka_unit_test(test_a_failure_at_every_operation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
