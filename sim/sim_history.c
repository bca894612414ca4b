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
        if (operation->revision != 0) say(verdict, ", but revision %lld", (long long)operation->revision);
        return;
    }
    say(verdict, ": at %.6f s", (double)operation->answered_time / 1e9);
    if (operation->outcome == SIM_NOTHING_DONE) {
        say(verdict, " nothing was done");
    } else if (operation->kind == SIM_GET && operation->value == 0) {
        say(verdict, " not there");
    } else if (operation->kind == SIM_GET) {
        say(verdict, " %llu", (unsigned long long)operation->value);
        if (operation->mod_revision != 0) say(verdict, " mod %lld", (long long)operation->mod_revision);
        if (operation->create_revision != 0) say(verdict, " create %lld", (long long)operation->create_revision);
        if (operation->version != 0) say(verdict, " version %lld", (long long)operation->version);
    } else {
        say(verdict, " revision %lld%s", (long long)operation->revision,
            operation->kind == SIM_DELETE && !operation->existed ? ", nothing there" : "");
    }
}

/* ---- revisions, over all keys ---- */

/* Changed something, for certain. */
static bool has_own_revision(const struct sim_operation *operation)
{
    if (operation->kind == SIM_GET) return false;
    if (operation->outcome == SIM_UNKNOWN) return operation->revision != 0;
    return operation->outcome == SIM_DONE && (operation->kind == SIM_PUT || operation->existed);
}

static bool has_revision(const struct sim_operation *operation)
{
    return has_own_revision(operation) || (operation->outcome == SIM_DONE && operation->kind == SIM_DELETE);
}

static int by_revision(const void *a, const void *b)
{
    const struct sim_operation *left = *(const struct sim_operation *const *)a;
    const struct sim_operation *right = *(const struct sim_operation *const *)b;
    if (left->revision != right->revision) return left->revision < right->revision ? -1 : 1;
    bool left_own = has_own_revision(left), right_own = has_own_revision(right);
    if (left_own != right_own) return left_own ? -1 : 1;
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
    uint32_t first = 0; /* some were never answered */
    while (first < count && answered[first]->answered == 0) first++;
    for (uint32_t i = 0, j = first; i < count && !verdict->violated; i++) {
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
    uint8_t alike;       /* enum alike */
    uint32_t alike_rank; /* among those */
    struct moment *previous, *next;
};

struct register_state {
    uint64_t value;          /* 0: not there */
    store_revision revision; /* the least that the last write can have; until a get tells, for one of unknown outcome */
    store_revision create;   /* likewise; meaningful from version 2 on: before, it is `revision` */
    int64_t version;
    bool revision_known, create_known;
};

/*
 * What keeps the search short, without making it miss anything:
 *
 *   - writes of known revision happen in the order of their revisions;
 *   - a get that fits happens at once: it changes nothing, and holds up nobody;
 *   - of puts of unknown outcome that no get saw, one is as good as another, so they are tried in the order of sending;
 *     so are deletes of unknown outcome, and those where there is nothing to delete aren't tried at all.
 */
enum alike { ALIKE_NONE, ALIKE_PUT, ALIKE_DELETE, ALIKE_COUNT };

struct step {
    struct moment *moment;
    struct register_state before;
    uint64_t before_set;
    uint32_t before_known;
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
    uint64_t create = random_mix((uint64_t)state->create ^ UINT64_C(0x6372) << 48);
    uint64_t version = random_mix((uint64_t)state->version ^ UINT64_C(0x7665) << 48);
    uint64_t known = (uint64_t)state->revision_known << 1 | (uint64_t)state->create_known;
    return random_mix(set ^ value ^ revision ^ create ^ version ^ known << 60);
}

/* A revision that was told, against one that is known, or is at least `*least`; which it is from then on. */
static bool is_told(store_revision told, store_revision *least, bool *known)
{
    if (told == 0) return true;
    if (*known ? told != *least : told < *least) return false;
    *least = told;
    *known = true;
    return true;
}

static bool apply_get(const struct sim_operation *get, struct register_state *state)
{
    if (get->value != state->value) return false;
    if (get->value == 0) return true;
    if (get->version != 0 && get->version != state->version) return false;
    if (!is_told(get->mod_revision, &state->revision, &state->revision_known)) return false;
    if (state->version == 1) return is_told(get->create_revision, &state->revision, &state->revision_known);
    return is_told(get->create_revision, &state->create, &state->create_known) && state->create < state->revision;
}

/* Whether it can happen in this state; then *state is what is there after it. */
static bool apply(const struct sim_operation *operation, struct register_state *state)
{
    if (operation->kind == SIM_GET) return apply_get(operation, state);
    bool done = operation->outcome == SIM_DONE, exists = state->value != 0;
    if (operation->kind == SIM_DELETE) {
        if (done && operation->existed != exists) return false;
        if (!done && operation->revision != 0 && !exists) return false;
        if (!exists) {
            if (done && operation->revision < state->revision) return false;
            if (done) state->revision = operation->revision;
            return true;
        }
    }
    /* It changes something, so it has a revision of its own. */
    store_revision least = state->revision + 1;
    bool known = operation->revision != 0;
    if (known && operation->revision < least) return false;
    struct register_state before = *state;
    *state = (struct register_state){.revision = known ? operation->revision : least, .revision_known = known};
    if (operation->kind == SIM_DELETE) {
        state->revision_known = true; /* nothing tells it, so nothing must be remembered of it */
        return true;
    }
    state->value = operation->value;
    state->version = before.version + 1;
    if (before.version == 1) {
        state->create = before.revision;
        state->create_known = before.revision_known;
    } else if (before.version > 1) {
        state->create = before.create;
        state->create_known = before.create_known;
    }
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

static bool seen_by_get(const struct sim_operation *const *operations, uint32_t count, uint64_t value)
{
    for (uint32_t i = 0; i < count; i++) {
        if (operations[i]->kind == SIM_GET && operations[i]->value == value) return true;
    }
    return false;
}

static int by_moment(const void *a, const void *b)
{
    const struct moment *left = a, *right = b;
    return left->at < right->at ? -1 : left->at > right->at;
}

/* Lists all sendings and answers after `head`; returns how many answers there are. */
static uint32_t list_moments(const struct sim_operation *const *operations, uint32_t count, struct moment *moments,
                             struct moment *head)
{
    uint32_t moment_count = 0, answers = 0, ranks[ALIKE_COUNT] = {0};
    for (uint32_t i = 0; i < count; i++) {
        const struct sim_operation *operation = operations[i];
        bool open = operation->outcome == SIM_UNKNOWN && operation->revision == 0;
        struct moment sending = {.operation = operation, .at = operation->sent};
        if (open && operation->kind == SIM_DELETE) sending.alike = ALIKE_DELETE;
        if (open && operation->kind == SIM_PUT && !seen_by_get(operations, count, operation->value)) {
            sending.alike = ALIKE_PUT;
        }
        if (sending.alike != ALIKE_NONE) sending.alike_rank = ranks[sending.alike]++;
        moments[moment_count++] = sending;
        if (open) continue;
        /* One without an answer that happened for certain did so before the end. */
        uint64_t at = operation->outcome == SIM_UNKNOWN ? UINT64_MAX : operation->answered;
        moments[moment_count++] = (struct moment){.operation = operation, .at = at, .is_answer = true};
        answers++;
    }
    qsort(moments, moment_count, sizeof *moments, by_moment);
    struct moment *last = head;
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
    return answers;
}

enum search_result { SEARCH_FOUND, SEARCH_NONE, SEARCH_TOO_LONG };

/* Whether the key's operations, in the order of sending, have moments at which they may have happened. */
static enum search_result search(const struct sim_operation *const *operations, uint32_t count)
{
    struct moment *moments = mem_alloc_zero((2 * (size_t)count + 1) * sizeof *moments);
    struct step *steps = mem_alloc(((size_t)count + 1) * sizeof *steps);
    /* Those of known revision, in its order; the first `known` of them happened. */
    const struct sim_operation **order = mem_alloc(((size_t)count + 1) * sizeof *order);
    uint32_t order_count = 0, known = 0, step_count = 0, used[ALIKE_COUNT] = {0};
    for (uint32_t i = 0; i < count; i++) {
        if (has_revision(operations[i])) order[order_count++] = operations[i];
    }
    qsort(order, order_count, sizeof *order, by_revision);
    struct hash_set seen = {0};
    struct moment head = {0};
    uint32_t answers_left = list_moments(operations, count, moments, &head);
    struct register_state state = {.revision = 1};
    uint64_t set = 0;
    struct moment *at = head.next;
    enum search_result result = SEARCH_FOUND;
    while (answers_left > 0) {
        if (!at->is_answer) {
            const struct sim_operation *operation = at->operation;
            struct register_state after = state;
            uint64_t after_set = set ^ random_mix(operation->sent);
            store_revision next = known < order_count ? order[known]->revision : INT64_MAX;
            bool has_place = has_revision(operation);
            bool good = !has_place || operation->revision == next;
            if (at->alike != ALIKE_NONE && at->alike_rank != used[at->alike]) good = false;
            if (at->alike == ALIKE_DELETE && state.value == 0) good = false;
            good = good && apply(operation, &after) && (has_place || after.revision <= next);
            if (good && hash_set_add(&seen, hash_of(after_set, &after))) {
                steps[step_count++] =
                    (struct step){.moment = at, .before = state, .before_set = set, .before_known = known};
                state = after;
                set = after_set;
                known += has_place;
                used[at->alike] += at->alike != ALIKE_NONE;
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
        } else {
            /* What was answered here must have happened before; it didn't, so an earlier choice was wrong. That of a get
               was none. */
            bool chosen = false;
            while (step_count > 0 && !chosen) {
                const struct step *step = &steps[--step_count];
                at = step->moment;
                state = step->before;
                set = step->before_set;
                known = step->before_known;
                used[at->alike] -= at->alike != ALIKE_NONE;
                if (at->answer != NULL) {
                    put_back(at->answer);
                    answers_left++;
                }
                put_back(at);
                chosen = at->operation->kind != SIM_GET;
            }
            if (!chosen) {
                result = SEARCH_NONE;
                break;
            }
            at = at->next;
        }
    }
    mem_free(seen.slots);
    mem_free(order);
    mem_free(steps);
    mem_free(moments);
    return result;
}

static void check_key(const struct sim_operation *const *all, uint32_t count, struct sim_verdict *verdict)
{
    const struct sim_operation **operations = mem_alloc((count + 1) * sizeof *operations);
    uint32_t kept = 0;
    /* Whether answers say more of writes than their values. */
    bool told = false;
    for (uint32_t i = 0; i < count; i++) {
        if (all[i]->kind == SIM_DELETE) told |= all[i]->outcome == SIM_DONE || all[i]->revision != 0;
        told |= all[i]->kind == SIM_GET && (all[i]->version != 0 || all[i]->create_revision != 0);
    }
    for (uint32_t i = 0; i < count; i++) {
        bool matters = all[i]->outcome == SIM_DONE || (all[i]->outcome == SIM_UNKNOWN && all[i]->kind != SIM_GET);
        if (all[i]->outcome == SIM_UNKNOWN && all[i]->revision == 0 && all[i]->kind == SIM_PUT && !told) {
            /* One that nobody saw may as well never have happened. */
            matters = false;
            for (uint32_t j = 0; j < count && !matters; j++) {
                matters = all[j]->kind == SIM_GET && all[j]->outcome == SIM_DONE && all[j]->value == all[i]->value;
            }
        }
        if (matters) operations[kept++] = all[i];
    }
    switch (search(operations, kept)) {
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
            if (search(prefix, prefix_count) == SEARCH_NONE && (cut_at == 0 || operations[i]->answered < cut_at)) {
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

/* ---- all keys at once, when the order of the writes is known ---- */

/* What a write of known revision left of its key. */
struct known_version {
    const struct sim_operation *write;
    store_revision create;
    int64_t version; /* 0: it was deleted */
};

struct known_order {
    struct known_version *versions; /* by key, then revision */
    uint32_t count;
};

static int by_key_and_revision(const void *a, const void *b)
{
    const struct known_version *left = a, *right = b;
    if (left->write->key != right->write->key) return left->write->key < right->write->key ? -1 : 1;
    return left->write->revision < right->write->revision ? -1 : left->write->revision > right->write->revision;
}

/* How many versions are before those of the key that are above the revision. */
static uint32_t versions_up_to(const struct known_order *order, uint32_t key, store_revision revision)
{
    uint32_t low = 0, high = order->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct sim_operation *write = order->versions[middle].write;
        if (write->key < key || (write->key == key && write->revision <= revision)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Of the key, at the revision; NULL: never written by then. */
static const struct known_version *version_at(const struct known_order *order, uint32_t key, store_revision revision)
{
    uint32_t place = versions_up_to(order, key, revision);
    if (place == 0 || order->versions[place - 1].write->key != key) return NULL;
    return &order->versions[place - 1];
}

static const struct known_version *version_after(const struct known_order *order, uint32_t key, store_revision revision)
{
    uint32_t place = versions_up_to(order, key, revision);
    return place < order->count && order->versions[place].write->key == key ? &order->versions[place] : NULL;
}

static void say_order(struct sim_verdict *verdict, const struct sim_operation *operation, store_revision least,
                      const struct sim_operation *because)
{
    verdict->violated = true;
    say(verdict, "an operation can't have happened at or after revision %lld, which was known before it was sent:",
        (long long)least);
    if (because != NULL) say_operation(verdict, because);
    say_operation(verdict, operation);
}

/* The lowest revision, from `least` on, at which the operation can have happened; 0: there is none. */
static store_revision place_operation(const struct known_order *order, const struct sim_operation *operation,
                                      store_revision least)
{
    if (has_own_revision(operation)) return operation->revision > least ? operation->revision : 0;
    const struct known_version *version = version_at(order, operation->key, least);
    if (operation->kind == SIM_DELETE) { /* of nothing */
        if (operation->revision < least) return 0;
        version = version_at(order, operation->key, operation->revision);
        return version == NULL || version->version == 0 ? operation->revision : 0;
    }
    /* Values are unique; "not there" may be so again and again. */
    for (;;) {
        bool there = version != NULL && version->version != 0;
        if (operation->value == 0 ? !there : there && version->write->value == operation->value) break;
        version = version_after(order, operation->key, least);
        if (version == NULL) return 0;
        least = version->write->revision;
    }
    if (operation->value == 0) return least;
    if (operation->mod_revision != 0 && operation->mod_revision != version->write->revision) return 0;
    if (operation->create_revision != 0 && operation->create_revision != version->create) return 0;
    if (operation->version != 0 && operation->version != version->version) return 0;
    return least;
}

static void check_order(const struct sim_history *history, struct sim_verdict *verdict)
{
    struct known_order order = {.versions = mem_alloc((history->count + 1) * sizeof *order.versions)};
    for (uint32_t i = 0; i < history->count; i++) {
        if (has_own_revision(&history->operations[i])) {
            order.versions[order.count++] = (struct known_version){.write = &history->operations[i]};
        }
    }
    qsort(order.versions, order.count, sizeof *order.versions, by_key_and_revision);
    for (uint32_t i = 0; i < order.count && !verdict->violated; i++) {
        struct known_version *version = &order.versions[i];
        const struct known_version *before =
            i > 0 && version[-1].write->key == version->write->key ? version - 1 : NULL;
        if (version->write->kind == SIM_DELETE) {
            if (before != NULL && before->version != 0) continue;
            verdict->violated = true;
            say(verdict, "a delete has a revision at which the key wasn't there:");
            if (before != NULL) say_operation(verdict, before->write);
            say_operation(verdict, version->write);
            continue;
        }
        bool creates = before == NULL || before->version == 0;
        version->create = creates ? version->write->revision : before->create;
        version->version = creates ? 1 : before->version + 1;
    }
    /* By moment: which operation was sent or answered then. */
    uint32_t *operation_at = mem_alloc_zero((history->moments + 1) * sizeof *operation_at);
    store_revision *placed = mem_alloc_zero((history->count + 1) * sizeof *placed);
    for (uint32_t i = 0; i < history->count; i++) {
        operation_at[history->operations[i].sent] = i + 1;
        if (history->operations[i].answered != 0) operation_at[history->operations[i].answered] = i + 1;
    }
    store_revision least = 1;
    const struct sim_operation *because = NULL;
    for (uint64_t moment = 1; moment <= history->moments && !verdict->violated; moment++) {
        if (operation_at[moment] == 0) continue;
        uint32_t number = operation_at[moment] - 1;
        const struct sim_operation *operation = &history->operations[number];
        if (operation->outcome != SIM_DONE && !has_own_revision(operation)) continue;
        if (moment == operation->sent) {
            placed[number] = place_operation(&order, operation, least);
            if (placed[number] == 0) say_order(verdict, operation, least, because);
        } else if (placed[number] > least) {
            least = placed[number];
            because = operation;
        }
    }
    mem_free(placed);
    mem_free(operation_at);
    mem_free(order.versions);
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
    if (!history->order_known || verdict->violated) return;
    check_order(history, verdict);
    verdict->keys_undecided = 0;
}
