#include "sim/sim_history.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/random.h"

void sim_history_free(struct sim_history *history)
{
    mem_free(history->operations);
    *history = (struct sim_history){0};
}

uint32_t sim_history_send(struct sim_history *history, enum sim_operation_kind kind, uint32_t client, uint32_t key,
                          uint64_t value, time_ns now)
{
    if (history->count == history->capacity) {
        history->capacity = history->capacity == 0 ? 1024 : history->capacity * 2;
        history->operations = mem_realloc(history->operations, history->capacity * sizeof *history->operations);
    }
    history->operations[history->count] = (struct sim_operation){
        .kind = kind, .client = client, .key = key, .value = value, .sent = ++history->moments, .sent_time = now};
    return history->count++;
}

struct sim_operation *sim_history_answer(struct sim_history *history, uint32_t number,
                                         enum sim_operation_outcome outcome, time_ns now)
{
    struct sim_operation *operation = &history->operations[number];
    operation->outcome = outcome;
    operation->answered = ++history->moments;
    operation->answered_time = now;
    return operation;
}

/* ---- saying what is wrong ---- */

__attribute__((format(printf, 2, 3))) static void say(struct sim_verdict *verdict, const char *format, ...)
{
    size_t size = strlen(verdict->text);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(verdict->text + size, sizeof verdict->text - size, format, arguments);
    va_end(arguments);
}

static void say_operation(struct sim_verdict *verdict, const struct sim_operation *operation)
{
    static const char *const kinds[] = {"put", "get", "delete"};
    say(verdict, "\n  %.6f s client-%u %s key %u", (double)operation->sent_time / 1e9, operation->client + 1,
        kinds[operation->kind], operation->key);
    if (operation->kind == SIM_PUT) say(verdict, " = %llu", (unsigned long long)operation->value);
    if (operation->outcome == SIM_UNKNOWN) {
        say(verdict, ": unknown");
        return;
    }
    say(verdict, ": at %.6f s", (double)operation->answered_time / 1e9);
    if (operation->outcome == SIM_NOTHING_DONE) {
        say(verdict, " nothing was done");
    } else if (operation->kind == SIM_GET && operation->value == 0) {
        say(verdict, " not there");
    } else if (operation->kind == SIM_GET) {
        say(verdict, " %llu", (unsigned long long)operation->value);
    } else {
        say(verdict, " revision %lld%s", (long long)operation->revision,
            operation->kind == SIM_DELETE && !operation->existed ? ", nothing there" : "");
    }
}

/* ---- revisions, over all keys ---- */

/* Changed something, for certain. */
static bool has_own_revision(const struct sim_operation *operation)
{
    return operation->outcome == SIM_DONE &&
           (operation->kind == SIM_PUT || (operation->kind == SIM_DELETE && operation->existed));
}

static bool has_revision(const struct sim_operation *operation)
{
    return operation->outcome == SIM_DONE && operation->kind != SIM_GET;
}

static int by_revision(const void *a, const void *b)
{
    const struct sim_operation *left = *(const struct sim_operation *const *)a;
    const struct sim_operation *right = *(const struct sim_operation *const *)b;
    if (left->revision != right->revision) return left->revision < right->revision ? -1 : 1;
    return left->sent < right->sent ? -1 : 1;
}

static int by_sent(const void *a, const void *b)
{
    const struct sim_operation *left = *(const struct sim_operation *const *)a;
    const struct sim_operation *right = *(const struct sim_operation *const *)b;
    return left->sent < right->sent ? -1 : 1;
}

static int by_answered(const void *a, const void *b)
{
    const struct sim_operation *left = *(const struct sim_operation *const *)a;
    const struct sim_operation *right = *(const struct sim_operation *const *)b;
    return left->answered < right->answered ? -1 : 1;
}

static void check_revisions(const struct sim_history *history, struct sim_verdict *verdict)
{
    const struct sim_operation **sent = mem_alloc((history->count + 1) * sizeof *sent);
    const struct sim_operation **answered = mem_alloc((history->count + 1) * sizeof *answered);
    uint32_t count = 0;
    for (uint32_t i = 0; i < history->count; i++) {
        if (has_revision(&history->operations[i])) sent[count++] = &history->operations[i];
    }
    memcpy(answered, sent, count * sizeof *sent);
    qsort(answered, count, sizeof *answered, by_revision);
    for (uint32_t i = 1; i < count && !verdict->violated; i++) {
        /* Of equal ones, all but one changed nothing. */
        const struct sim_operation *a = answered[i - 1], *b = answered[i];
        if (a->revision != b->revision || !has_own_revision(a) || !has_own_revision(b)) continue;
        verdict->violated = true;
        say(verdict, "two writes were acknowledged with one revision:");
        say_operation(verdict, a);
        say_operation(verdict, b);
    }
    qsort(sent, count, sizeof *sent, by_sent);
    qsort(answered, count, sizeof *answered, by_answered);
    const struct sim_operation *highest = NULL;
    for (uint32_t i = 0, j = 0; i < count && !verdict->violated; i++) {
        for (; j < count && answered[j]->answered < sent[i]->sent; j++) {
            if (highest == NULL || answered[j]->revision > highest->revision) highest = answered[j];
        }
        if (highest == NULL) continue;
        if (sent[i]->revision > highest->revision) continue;
        if (sent[i]->revision == highest->revision && !has_own_revision(sent[i])) continue;
        verdict->violated = true;
        say(verdict, "a write has a revision that isn't above one that was acknowledged before it was sent:");
        say_operation(verdict, highest);
        say_operation(verdict, sent[i]);
    }
    mem_free(sent);
    mem_free(answered);
}

/* ---- one key ---- */

/* The sending or the answer of an operation, in a list in the order of their moments. */
struct moment {
    const struct sim_operation *operation;
    uint64_t at;
    struct moment *answer; /* of a sending; NULL when there is none */
    bool is_answer;
    struct moment *previous, *next;
};

struct register_state {
    uint64_t value;          /* 0: not there */
    store_revision revision; /* of the last write that was acknowledged */
};

struct step {
    struct moment *moment;
    struct register_state before;
    uint64_t before_set;
};

/* A set of 64-bit hashes. */
struct hash_set {
    uint64_t *slots;
    size_t capacity, count;
};

/* False when it was there. */
static bool hash_set_add(struct hash_set *set, uint64_t hash)
{
    if (hash == 0) hash = 1;
    if (set->count * 2 >= set->capacity) {
        struct hash_set larger = {.capacity = set->capacity == 0 ? 256 : set->capacity * 4};
        larger.slots = mem_alloc_zero(larger.capacity * sizeof *larger.slots);
        for (size_t i = 0; i < set->capacity; i++) {
            if (set->slots[i] != 0) hash_set_add(&larger, set->slots[i]);
        }
        mem_free(set->slots);
        *set = larger;
    }
    size_t place = (size_t)(hash & (set->capacity - 1));
    while (set->slots[place] != 0) {
        if (set->slots[place] == hash) return false;
        place = (place + 1) & (set->capacity - 1);
    }
    set->slots[place] = hash;
    set->count++;
    return true;
}

/* Of a set of operations that happened, and the state after them. The parts are mixed under different salts, since
   moments, values and revisions are all small numbers. */
static uint64_t hash_of(uint64_t set, const struct register_state *state)
{
    uint64_t value = random_mix(state->value ^ UINT64_C(0x7661) << 48);
    uint64_t revision = random_mix((uint64_t)state->revision ^ UINT64_C(0x7265) << 48);
    return random_mix(set ^ value ^ revision);
}

static bool apply(const struct sim_operation *operation, struct register_state *state)
{
    bool done = operation->outcome == SIM_DONE;
    switch (operation->kind) {
    case SIM_GET:
        return operation->value == state->value;
    case SIM_PUT:
        if (done && operation->revision <= state->revision) return false;
        state->value = operation->value;
        break;
    case SIM_DELETE:
        if (done && operation->existed != (state->value != 0)) return false;
        if (done && operation->existed && operation->revision <= state->revision) return false;
        if (done && operation->revision < state->revision) return false;
        state->value = 0;
        break;
    }
    if (done) state->revision = operation->revision;
    return true;
}

static void take_out(struct moment *moment)
{
    moment->previous->next = moment->next;
    if (moment->next != NULL) moment->next->previous = moment->previous;
}

static void put_back(struct moment *moment)
{
    moment->previous->next = moment;
    if (moment->next != NULL) moment->next->previous = moment;
}

static int by_moment(const void *a, const void *b)
{
    const struct moment *left = a, *right = b;
    return left->at < right->at ? -1 : left->at > right->at;
}

enum search_result { SEARCH_FOUND, SEARCH_NONE, SEARCH_TOO_LONG };

/* Whether the key's operations, in the order of sending, have moments at which they may have happened. *deepest is the
   most operations that any attempt placed. */
static enum search_result search(const struct sim_operation *const *operations, uint32_t count, uint32_t *deepest)
{
    struct moment *moments = mem_alloc_zero((2 * (size_t)count + 1) * sizeof *moments);
    struct step *steps = mem_alloc(((size_t)count + 1) * sizeof *steps);
    struct hash_set seen = {0};
    uint32_t moment_count = 0, step_count = 0, answers_left = 0;
    for (uint32_t i = 0; i < count; i++) {
        moments[moment_count++] = (struct moment){.operation = operations[i], .at = operations[i]->sent};
        if (operations[i]->outcome == SIM_UNKNOWN) continue;
        moments[moment_count++] =
            (struct moment){.operation = operations[i], .at = operations[i]->answered, .is_answer = true};
        answers_left++;
    }
    qsort(moments, moment_count, sizeof *moments, by_moment);
    struct moment head = {0}, *last = &head;
    for (uint32_t i = 0; i < moment_count; i++) {
        last->next = &moments[i];
        moments[i].previous = last;
        last = &moments[i];
        for (uint32_t j = i + 1; !moments[i].is_answer && j < moment_count; j++) {
            if (moments[j].operation == moments[i].operation) {
                moments[i].answer = &moments[j];
                break;
            }
        }
    }
    struct register_state state = {0};
    uint64_t set = 0;
    struct moment *at = head.next;
    enum search_result result = SEARCH_FOUND;
    *deepest = 0;
    while (answers_left > 0) {
        if (!at->is_answer) {
            struct register_state after = state;
            uint64_t after_set = set ^ random_mix(at->operation->sent);
            if (apply(at->operation, &after) && hash_set_add(&seen, hash_of(after_set, &after))) {
                steps[step_count++] = (struct step){.moment = at, .before = state, .before_set = set};
                if (step_count > *deepest) *deepest = step_count;
                state = after;
                set = after_set;
                take_out(at);
                if (at->answer != NULL) {
                    take_out(at->answer);
                    answers_left--;
                }
                at = head.next;
            } else {
                at = at->next;
            }
            if (seen.count > SIM_HISTORY_SEARCH_MAX) {
                result = SEARCH_TOO_LONG;
                break;
            }
        } else if (step_count == 0) {
            result = SEARCH_NONE;
            break;
        } else {
            /* What was answered here must have happened before; it didn't, so an earlier choice was wrong. */
            const struct step *step = &steps[--step_count];
            at = step->moment;
            state = step->before;
            set = step->before_set;
            if (at->answer != NULL) {
                put_back(at->answer);
                answers_left++;
            }
            put_back(at);
            at = at->next;
        }
    }
    mem_free(seen.slots);
    mem_free(steps);
    mem_free(moments);
    return result;
}

static void check_key(const struct sim_operation *const *all, uint32_t count, struct sim_verdict *verdict)
{
    const struct sim_operation **operations = mem_alloc((count + 1) * sizeof *operations);
    uint32_t kept = 0;
    bool deleted = false;
    for (uint32_t i = 0; i < count; i++) deleted |= all[i]->kind == SIM_DELETE && all[i]->outcome == SIM_DONE;
    for (uint32_t i = 0; i < count; i++) {
        bool matters = all[i]->outcome == SIM_DONE || (all[i]->outcome == SIM_UNKNOWN && all[i]->kind != SIM_GET);
        if (all[i]->outcome == SIM_UNKNOWN && all[i]->kind == SIM_PUT && !deleted) {
            /* One that nobody saw may as well never have happened. */
            matters = false;
            for (uint32_t j = 0; j < count && !matters; j++) {
                matters = all[j]->kind == SIM_GET && all[j]->outcome == SIM_DONE && all[j]->value == all[i]->value;
            }
        }
        if (matters) operations[kept++] = all[i];
    }
    uint32_t deepest;
    switch (search(operations, kept, &deepest)) {
    case SEARCH_FOUND:
        break;
    case SEARCH_TOO_LONG:
        verdict->keys_undecided++;
        break;
    case SEARCH_NONE: {
        verdict->violated = true;
        /* The shortest beginning of the history that is wrong already shows where to look. */
        uint32_t shown = kept;
        uint64_t cut_at = 0;
        for (uint32_t i = 0; i < kept && shown == kept; i++) {
            /* Up to the answer of operations[i]: later answers become unknown. */
            if (operations[i]->outcome != SIM_DONE) continue;
            struct sim_operation *copies = mem_alloc(kept * sizeof *copies);
            const struct sim_operation **prefix = mem_alloc(kept * sizeof *prefix);
            uint32_t prefix_count = 0;
            for (uint32_t j = 0; j < kept; j++) {
                if (operations[j]->sent > operations[i]->answered) continue;
                copies[prefix_count] = *operations[j];
                if (operations[j]->answered > operations[i]->answered) copies[prefix_count].outcome = SIM_UNKNOWN;
                if (copies[prefix_count].outcome == SIM_UNKNOWN && copies[prefix_count].kind == SIM_GET) continue;
                prefix[prefix_count] = &copies[prefix_count];
                prefix_count++;
            }
            uint32_t ignored;
            if (search(prefix, prefix_count, &ignored) == SEARCH_NONE &&
                (cut_at == 0 || operations[i]->answered < cut_at)) {
                cut_at = operations[i]->answered;
            }
            mem_free(copies);
            mem_free(prefix);
        }
        say(verdict, "the history of key %u is not linearizable:", operations[0]->key);
        uint32_t relevant = 0;
        for (uint32_t i = 0; i < kept; i++) relevant += cut_at == 0 || operations[i]->sent <= cut_at;
        for (uint32_t i = 0, n = 0; i < kept; i++) {
            if (cut_at != 0 && operations[i]->sent > cut_at) continue;
            if (n++ + 16 >= relevant) say_operation(verdict, operations[i]);
        }
        break;
    }
    }
    mem_free(operations);
}

static int by_key(const void *a, const void *b)
{
    const struct sim_operation *left = *(const struct sim_operation *const *)a;
    const struct sim_operation *right = *(const struct sim_operation *const *)b;
    if (left->key != right->key) return left->key < right->key ? -1 : 1;
    return left->sent < right->sent ? -1 : 1;
}

void sim_history_check(const struct sim_history *history, struct sim_verdict *verdict)
{
    *verdict = (struct sim_verdict){0};
    check_revisions(history, verdict);
    const struct sim_operation **order = mem_alloc((history->count + 1) * sizeof *order);
    for (uint32_t i = 0; i < history->count; i++) order[i] = &history->operations[i];
    qsort(order, history->count, sizeof *order, by_key);
    for (uint32_t i = 0, end; i < history->count && !verdict->violated; i = end) {
        for (end = i; end < history->count && order[end]->key == order[i]->key; end++) {}
        check_key(order + i, end - i, verdict);
    }
    mem_free(order);
}
