#include "replica/sessions.h"

#include "base/check.h"
#include "base/crc32c.h"
#include "base/mem.h"
#include "base/random.h"

#define SESSIONS_VERSION 1u

void sessions_init(struct sessions *sessions, uint64_t history_bytes_budget)
{
    *sessions = (struct sessions){.history_bytes_budget = history_bytes_budget};
    sessions->slots = mem_alloc_zero(SESSIONS_MAX * sizeof sessions->slots[0]);
}

void sessions_free(struct sessions *sessions)
{
    mem_free(sessions->slots);
    *sessions = (struct sessions){0};
}

static struct session *find(const struct sessions *sessions, member_id member)
{
    for (uint32_t i = 0; i < sessions->count; i++) {
        if (sessions->slots[i].member == member) return &sessions->slots[i];
    }
    return NULL;
}

static bool bit_is_set(const struct session *session, uint64_t sequence)
{
    uint64_t bit = sequence % SESSION_WINDOW;
    return (session->window[bit / 64] >> (bit % 64)) & 1;
}

static bool was_admitted(const struct session *session, uint64_t incarnation, uint64_t sequence)
{
    if (incarnation != session->incarnation) return incarnation < session->incarnation;
    if (sequence > session->highest) return false;
    return session->highest - sequence >= SESSION_WINDOW || bit_is_set(session, sequence);
}

uint64_t sessions_incarnation(const struct sessions *sessions, member_id member)
{
    const struct session *session = find(sessions, member);
    return session == NULL ? 0 : session->incarnation;
}

bool sessions_contains(const struct sessions *sessions, member_id member, uint64_t incarnation, uint64_t sequence)
{
    const struct session *session = find(sessions, member);
    return session != NULL && was_admitted(session, incarnation, sequence);
}

static void begin_incarnation(struct session *session, uint64_t incarnation)
{
    session->incarnation = incarnation;
    session->highest = 0;
    memset(session->window, 0, sizeof session->window);
}

bool sessions_admit(struct sessions *sessions, member_id member, uint64_t incarnation, uint64_t sequence)
{
    struct session *session = find(sessions, member);
    if (session == NULL) {
        /* Only members originate commands, and there are far fewer of them. */
        CHECK(sessions->count < SESSIONS_MAX);
        session = &sessions->slots[sessions->count++];
        session->member = member;
        begin_incarnation(session, incarnation);
    }
    if (was_admitted(session, incarnation, sequence)) return false;
    if (incarnation > session->incarnation) begin_incarnation(session, incarnation);
    /* Bits of sequences that the window moves over are of old ones. */
    while (session->highest < sequence) {
        session->highest++;
        if (sequence - session->highest >= SESSION_WINDOW) session->highest = sequence - SESSION_WINDOW;
        uint64_t bit = session->highest % SESSION_WINDOW;
        session->window[bit / 64] &= ~(1ull << (bit % 64));
    }
    uint64_t bit = sequence % SESSION_WINDOW;
    session->window[bit / 64] |= 1ull << (bit % 64);
    return true;
}

uint64_t sessions_digest(const struct sessions *sessions)
{
    uint64_t digest = random_mix(sessions->history_bytes_budget);
    for (uint32_t i = 0; i < sessions->count; i++) {
        const struct session *session = &sessions->slots[i];
        digest = random_mix(digest ^ session->member);
        digest = random_mix(digest ^ session->incarnation);
        digest = random_mix(digest ^ session->highest);
        digest = random_mix(digest ^ crc32c(0, session->window, sizeof session->window));
    }
    return digest;
}

void sessions_encode(const struct sessions *sessions, struct buffer *out)
{
    buffer_append_u32(out, SESSIONS_VERSION);
    buffer_append_u32(out, sessions->count);
    buffer_append_u64(out, sessions->history_bytes_budget);
    for (uint32_t i = 0; i < sessions->count; i++) {
        const struct session *session = &sessions->slots[i];
        buffer_append_u64(out, session->member);
        buffer_append_u64(out, session->incarnation);
        buffer_append_u64(out, session->highest);
        buffer_append(out, session->window, sizeof session->window);
    }
}

enum error sessions_decode(struct sessions *sessions, struct bytes payload)
{
    struct reader reader = reader_of(payload);
    if (reader_u32(&reader) != SESSIONS_VERSION) return reader.failed ? ERR_DAMAGED : ERR_BAD_VERSION;
    uint32_t count = reader_u32(&reader);
    sessions->history_bytes_budget = reader_u64(&reader);
    if (reader.failed || count > SESSIONS_MAX) return ERR_DAMAGED;
    for (uint32_t i = 0; i < count; i++) {
        struct session *session = &sessions->slots[i];
        session->member = reader_u64(&reader);
        session->incarnation = reader_u64(&reader);
        session->highest = reader_u64(&reader);
        struct bytes window = reader_bytes(&reader, sizeof session->window);
        if (reader.failed || session->member == 0) return ERR_DAMAGED;
        for (uint32_t j = 0; j < i; j++) {
            if (sessions->slots[j].member == session->member) return ERR_DAMAGED;
        }
        memcpy(session->window, window.data, window.size);
    }
    if (reader_left(&reader) != 0) return ERR_DAMAGED;
    sessions->count = count;
    return ERR_OK;
}
