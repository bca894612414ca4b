#include "sim/sim_middle_box.h"

#include "base/mem.h"

/* A frame that is held back. */
struct held {
    struct held *next;
    time_ns at; /* TIME_NS_NEVER: until the next frame passed */
    size_t size;
    uint8_t bytes[];
};

struct sim_box {
    struct buffer partial; /* less than a frame */
    struct held *held;     /* in the order of their coming */
    bool confused;         /* what comes are no frames: it passes as it is */
};

struct sim_box *sim_box_new(void)
{
    return mem_alloc_zero(sizeof(struct sim_box));
}

void sim_box_free(struct sim_box *box)
{
    if (box == NULL) return;
    while (box->held != NULL) {
        struct held *held = box->held;
        box->held = held->next;
        mem_free(held);
    }
    buffer_free(&box->partial);
    mem_free(box);
}

static void hold(struct sim_box *box, struct bytes frame, time_ns at)
{
    struct held *held = mem_alloc(sizeof *held + frame.size);
    *held = (struct held){.at = at, .size = frame.size};
    memcpy(held->bytes, frame.data, frame.size);
    struct held **end = &box->held;
    while (*end != NULL) end = &(*end)->next;
    *end = held;
}

/* Releases those that the test chooses. */
static void release(struct sim_box *box, bool (*chosen)(const struct held *held, time_ns now), time_ns now,
                    struct buffer *out)
{
    struct held **at = &box->held;
    while (*at != NULL) {
        struct held *held = *at;
        if (!chosen(held, now)) {
            at = &held->next;
            continue;
        }
        *at = held->next;
        buffer_append(out, held->bytes, held->size);
        mem_free(held);
    }
}

static bool is_due(const struct held *held, time_ns now)
{
    return held->at <= now;
}

static bool waits_for_the_next(const struct held *held, time_ns now)
{
    (void)now;
    return held->at == TIME_NS_NEVER;
}

static bool any(const struct held *held, time_ns now)
{
    (void)held;
    (void)now;
    return true;
}

static bool change_greeting(const struct sim_box_rules *rules, const struct peer_frame *frame, struct buffer *out)
{
    struct peer_greeting greeting;
    if (rules->version_max == 0 || peer_greeting_decode(frame, &greeting) != ERR_OK) return false;
    greeting.version_min = rules->version_min;
    greeting.version_max = rules->version_max;
    peer_greeting_encode(&greeting, out);
    return true;
}

static time_ns hold_until(const struct sim_box_rules *rules, struct random *random, time_ns now)
{
    return now + (time_ns)random_between(random, (uint64_t)rules->hold_min, (uint64_t)rules->hold_max);
}

static bool is_append(const struct peer_frame *frame)
{
    struct peer_message message;
    if (frame->kind != PEER_FRAME_MESSAGE || peer_message_decode(frame, &message) != ERR_OK) return false;
    bool append = message.type == PEER_APPEND;
    peer_message_release(&message);
    return append;
}

static bool is_meant(const struct sim_box_rules *rules, const struct peer_frame *frame)
{
    if (frame->kind == PEER_FRAME_GREETING) return rules->greetings_too;
    switch (rules->frames) {
    case SIM_BOX_LOADED:
        return frame->trailer.size > 0;
    case SIM_BOX_BARE:
        return frame->trailer.size == 0;
    case SIM_BOX_APPENDS:
        return is_append(frame);
    case SIM_BOX_ALL:
        break;
    }
    return true;
}

static void take_frame(struct sim_box *box, const struct sim_box_rules *rules, struct random *random, time_ns now,
                       struct bytes bytes, const struct peer_frame *frame, struct buffer *out,
                       struct sim_box_counters *counters)
{
    struct buffer changed = {0};
    bool greeting = frame->kind == PEER_FRAME_GREETING;
    counters->frames++;
    if (greeting && change_greeting(rules, frame, &changed)) {
        counters->greetings_changed++;
        bytes = buffer_bytes(&changed);
    }
    bool spared = !is_meant(rules, frame);
    if (!spared && random_chance(random, rules->drop)) {
        counters->dropped++;
    } else if (!spared && random_chance(random, rules->hold)) {
        counters->held++;
        hold(box, bytes, hold_until(rules, random, now));
    } else if (!spared && random_chance(random, rules->swap)) {
        counters->swapped++;
        hold(box, bytes, TIME_NS_NEVER);
    } else {
        buffer_append(out, bytes.data, bytes.size);
        release(box, waits_for_the_next, now, out);
        if (!spared && random_chance(random, rules->duplicate)) {
            counters->duplicated++;
            if (random_chance(random, 500)) {
                buffer_append(out, bytes.data, bytes.size);
            } else {
                hold(box, bytes, hold_until(rules, random, now));
            }
        }
    }
    buffer_free(&changed);
}

void sim_box_take(struct sim_box *box, const struct sim_box_rules *rules, struct random *random, time_ns now,
                  struct bytes bytes, struct buffer *out, struct sim_box_counters *counters)
{
    if (box->confused) {
        buffer_append(out, bytes.data, bytes.size);
        return;
    }
    if (box->partial.size > 0) {
        buffer_append(&box->partial, bytes.data, bytes.size);
        bytes = buffer_bytes(&box->partial);
    }
    size_t taken = 0;
    while (taken < bytes.size) {
        struct bytes rest = bytes_of(bytes.data + taken, bytes.size - taken);
        struct peer_frame frame;
        size_t size;
        enum error error = peer_frame_next(rest, &frame, &size);
        if (error == ERR_NOT_READY) break;
        if (error != ERR_OK) {
            box->confused = true;
            buffer_append(out, rest.data, rest.size);
            taken = bytes.size;
            break;
        }
        take_frame(box, rules, random, now, bytes_of(rest.data, size), &frame, out, counters);
        taken += size;
    }
    if (box->partial.size > 0) {
        buffer_consume(&box->partial, taken);
    } else {
        buffer_append(&box->partial, bytes.data + taken, bytes.size - taken);
    }
}

time_ns sim_box_deadline(const struct sim_box *box)
{
    time_ns deadline = TIME_NS_NEVER;
    for (const struct held *held = box->held; held != NULL; held = held->next) {
        if (held->at < deadline) deadline = held->at;
    }
    return deadline;
}

void sim_box_release(struct sim_box *box, time_ns now, bool all, struct buffer *out)
{
    release(box, all ? any : is_due, now, out);
}
