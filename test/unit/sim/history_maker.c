#include "history_maker.h"

#include "base/check.h"

struct key_state {
    uint64_t value, old_value; /* old: before the last write */
    store_revision mod, create;
    int64_t version;
};

struct client_state {
    bool busy, happened;
    uint32_t operation;
    struct key_state saw;
    bool existed;
    store_revision revision;
};

static void happen(struct sim_operation *operation, struct client_state *client, struct key_state *key,
                   store_revision *revision, bool lost)
{
    client->happened = true;
    client->saw = *key;
    client->existed = key->value != 0;
    bool changes = operation->kind == SIM_PUT || (operation->kind == SIM_DELETE && client->existed);
    if (changes) ++*revision;
    client->revision = *revision;
    if (!changes || lost) return;
    uint64_t old_value = key->value;
    if (operation->kind == SIM_DELETE) {
        *key = (struct key_state){.old_value = old_value};
        return;
    }
    if (key->value == 0) key->create = *revision;
    key->version++;
    key->mod = *revision;
    key->old_value = old_value;
    key->value = operation->value;
}

static void answer(const struct history_maker *maker, struct sim_history *history, struct client_state *client)
{
    struct sim_operation *operation = sim_history_answer(history, client->operation, SIM_DONE, 0);
    if (operation->kind == SIM_GET) {
        operation->value = client->saw.value;
        if (!maker->tells || operation->value == 0) return;
        operation->mod_revision = client->saw.mod;
        operation->create_revision = client->saw.create;
        operation->version = client->saw.version;
        return;
    }
    operation->existed = operation->kind == SIM_DELETE && client->existed;
    operation->revision = client->revision;
}

static struct sim_operation *pick(struct sim_history *history, struct random *random)
{
    return &history->operations[random_below(random, history->count)];
}

/* Changes one thing in a finished history. */
static void spoil(struct sim_history *history, struct random *random)
{
    for (unsigned attempt = 0; attempt < 100; attempt++) {
        struct sim_operation *a = pick(history, random), *b = pick(history, random);
        bool write = a->kind != SIM_GET;
        switch (random_below(random, 8)) {
        case 0: /* two gets swap what they saw */
            if (a->kind != SIM_GET || b->kind != SIM_GET || a->key != b->key || a->value == b->value) continue;
            if (a->outcome != SIM_DONE || b->outcome != SIM_DONE) continue;
            {
                struct sim_operation other = *a;
                a->value = b->value;
                a->mod_revision = b->mod_revision;
                a->create_revision = b->create_revision;
                a->version = b->version;
                b->value = other.value;
                b->mod_revision = other.mod_revision;
                b->create_revision = other.create_revision;
                b->version = other.version;
            }
            return;
        case 1: /* a get saw what a put wrote, sooner or later */
            if (a->kind != SIM_GET || a->outcome != SIM_DONE || b->kind != SIM_PUT || a->key != b->key) continue;
            if (a->value == b->value) continue;
            a->value = b->value;
            a->mod_revision = a->create_revision = 0;
            a->version = 0;
            return;
        case 2: /* a get saw nothing */
            if (a->kind != SIM_GET || a->outcome != SIM_DONE || a->value == 0) continue;
            a->value = 0;
            a->mod_revision = a->create_revision = 0;
            a->version = 0;
            return;
        case 3: /* a revision shifts */
            if (!write || a->revision == 0) continue;
            a->revision += random_chance(random, 500) ? 1 : -1;
            if (a->revision < 1) a->revision = 1;
            return;
        case 4: /* two writes swap their revisions */
            if (!write || b->kind == SIM_GET || a == b || a->revision == 0 || b->revision == 0) continue;
            {
                store_revision revision = a->revision;
                a->revision = b->revision;
                b->revision = revision;
            }
            return;
        case 5: /* a delete errs about what was there */
            if (a->kind != SIM_DELETE || a->outcome != SIM_DONE) continue;
            a->existed = !a->existed;
            return;
        case 6: /* an answer says more than is true */
            if (a->kind != SIM_GET || a->version == 0) continue;
            switch (random_below(random, 3)) {
            case 0:
                a->version += random_chance(random, 500) ? 1 : -1;
                break;
            case 1:
                a->mod_revision += random_chance(random, 500) ? 1 : -1;
                break;
            default:
                a->create_revision += random_chance(random, 500) ? 1 : -1;
                break;
            }
            return;
        default: /* what was acknowledged was refused, or the other way round */
            if (a->kind != SIM_PUT || a->answered == 0) continue;
            a->outcome = a->outcome == SIM_DONE ? SIM_NOTHING_DONE : SIM_DONE;
            if (a->outcome == SIM_NOTHING_DONE) a->revision = 0;
            if (a->outcome == SIM_DONE) a->revision = (store_revision)random_between(random, 2, 6);
            return;
        }
    }
}

void history_make(const struct history_maker *maker, struct random *random, struct sim_history *out)
{
    CHECK(maker->keys <= HISTORY_KEYS_MAX && maker->clients <= HISTORY_CLIENTS_MAX && out->count == 0);
    struct key_state keys[HISTORY_KEYS_MAX] = {{0}};
    struct client_state clients[HISTORY_CLIENTS_MAX] = {{0}};
    store_revision revision = 1;
    uint64_t last_value = 0;
    bool in_execution = maker->mistake && random_chance(random, 500);
    unsigned mistake_at = (unsigned)random_below(random, maker->operations), changes = 0;
    for (time_ns now = 1;; now++) {
        unsigned number = (unsigned)random_below(random, maker->clients);
        struct client_state *client = &clients[number];
        if (!client->busy) {
            if (out->count == maker->operations) break;
            static const enum sim_operation_kind kinds[] = {SIM_PUT, SIM_PUT, SIM_GET, SIM_GET, SIM_DELETE};
            enum sim_operation_kind kind = kinds[random_below(random, 5)];
            *client = (struct client_state){.busy = true};
            client->operation = sim_history_send(out, kind, number, (uint32_t)random_below(random, maker->keys),
                                                 kind == SIM_PUT ? ++last_value : 0, now);
            continue;
        }
        struct sim_operation *operation = &out->operations[client->operation];
        bool refuse = !client->happened && random_chance(random, maker->refused_per_mille);
        if (!client->happened && !refuse) {
            struct key_state *key = &keys[operation->key];
            bool mistake = in_execution && changes++ == mistake_at;
            struct key_state stale = *key;
            stale.value = key->old_value;
            /* A write is lost, or a read sees what was there before. */
            happen(operation, client, mistake && operation->kind == SIM_GET ? &stale : key, &revision, mistake);
            if (!random_chance(random, 300)) continue;
        }
        client->busy = false;
        if (!client->happened) {
            sim_history_answer(out, client->operation, SIM_NOTHING_DONE, now);
        } else if (!random_chance(random, maker->unknown_per_mille)) {
            answer(maker, out, client);
            out->operations[client->operation].answered_time = now;
        } else if (maker->order_known && operation->kind != SIM_GET) {
            if (operation->kind == SIM_PUT || client->existed) operation->revision = client->revision;
        }
    }
    /* What is still under way is never answered. */
    for (unsigned i = 0; i < maker->clients && maker->order_known; i++) {
        struct sim_operation *operation = &out->operations[clients[i].operation];
        bool changed = clients[i].happened && (operation->kind == SIM_PUT || clients[i].existed);
        if (clients[i].busy && operation->kind != SIM_GET && changed) operation->revision = clients[i].revision;
    }
    if (maker->order_known) {
        out->order_known = true;
        for (uint32_t i = 0; i < out->count; i++) {
            struct sim_operation *operation = &out->operations[i];
            if (operation->outcome == SIM_UNKNOWN && operation->kind != SIM_GET && operation->revision == 0) {
                operation->outcome = SIM_NOTHING_DONE; /* a delete of nothing is as good */
            }
        }
    }
    if (maker->mistake && !in_execution) spoil(out, random);
}
