/* harness_model.c - what the committed log means, said a second time and more simply; and the checks against it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/mem.h"
#include "harness.h"

#define GROW(array, count, capacity)                                                                                   \
    do {                                                                                                               \
        if ((count) == (capacity)) {                                                                                   \
            (capacity) = (capacity) == 0 ? 64 : (capacity)*2;                                                          \
            (array) = mem_realloc((array), (capacity) * sizeof(array)[0]);                                             \
        }                                                                                                              \
    } while (0)

void harness_key_text(uint32_t key, char *out)
{
    snprintf(out, 12, "key-%02u", key);
}

static uint32_t key_number(struct bytes key)
{
    char text[12] = "";
    if (key.size < sizeof text) memcpy(text, key.data, key.size);
    unsigned number = HARNESS_KEYS;
    if (sscanf(text, "key-%u", &number) != 1 || number >= HARNESS_KEYS) return HARNESS_KEYS;
    return number;
}

static uint64_t value_number(struct bytes value)
{
    uint64_t number = 0;
    for (size_t i = 0; i < value.size && value.data[i] >= '0' && value.data[i] <= '9'; i++) {
        number = number * 10 + (uint64_t)(value.data[i] - '0');
    }
    return number;
}

/* ---- the model ---- */

uint64_t harness_model_value(const struct harness *harness, uint32_t key, store_revision revision)
{
    const struct harness_key *chain = &harness->keys[key];
    for (size_t i = chain->count; i > 0; i--) {
        if (chain->changes[i - 1].revision <= revision) return chain->changes[i - 1].value;
    }
    return 0;
}

static const struct harness_change *change_at(const struct harness *harness, uint32_t key, store_revision revision)
{
    const struct harness_key *chain = &harness->keys[key];
    for (size_t i = chain->count; i > 0 && chain->changes[i - 1].revision >= revision; i--) {
        if (chain->changes[i - 1].revision == revision) return &chain->changes[i - 1];
    }
    return NULL;
}

static void model_change(struct harness *harness, uint32_t key, uint64_t value, uint64_t lease)
{
    struct harness_key *chain = &harness->keys[key];
    GROW(chain->changes, chain->count, chain->capacity);
    chain->changes[chain->count++] = (struct harness_change){.revision = harness->revision, .value = value};
    chain->lease = lease;
}

struct harness_lease *harness_lease(struct harness *harness, uint64_t id)
{
    CHECK(id >= 1 && id <= HARNESS_LEASES);
    return &harness->leases[id - 1];
}

static void model_revoke(struct harness *harness, uint64_t id)
{
    struct harness_lease *lease = harness_lease(harness, id);
    if (!lease->there) return;
    if (!lease->client_revokes) {
        harness->expired++;
        if (harness->now < lease->safe_until) {
            harness_breach(harness, "lease %" PRIu64 " expired %" PRId64 " ms early", id,
                           (lease->safe_until - harness->now) / TIME_NS_PER_MS);
        }
    }
    *lease = (struct harness_lease){.id = id, .granted_at = lease->granted_at, .client_revokes = lease->client_revokes};
    bool any = false;
    for (uint32_t key = 0; key < HARNESS_KEYS; key++) {
        if (harness->keys[key].lease != id) continue;
        harness->revision += !any;
        any = true;
        model_change(harness, key, 0, 0);
    }
}

static void model_lease(struct harness *harness, const struct command *command)
{
    if (command->kind == COMMAND_LEASE_REVOKE) {
        model_revoke(harness, command->argument);
    } else if (command->kind == COMMAND_LEASE_GRANT) {
        struct harness_lease *lease = harness_lease(harness, command->argument);
        if (lease->there) return;
        *lease = (struct harness_lease){.id = command->argument,
                                        .there = true,
                                        .granted_at = harness->applied,
                                        .client_revokes = lease->client_revokes};
        lease->ttl_s = (int64_t)get_u64(command->value.data);
    }
}

/* Whether the model has seen it; an older incarnation's commands came too late. */
static bool is_repeat(struct harness *harness, const struct command *command)
{
    for (size_t i = 0; i < harness->identity_count; i++) {
        const struct harness_identity *known = &harness->identities[i];
        if (known->origin != command->origin) continue;
        if (known->incarnation > command->incarnation) return true;
        if (known->incarnation == command->incarnation && known->sequence == command->sequence) return true;
    }
    GROW(harness->identities, harness->identity_count, harness->identity_capacity);
    harness->identities[harness->identity_count++] = (struct harness_identity){
        .origin = command->origin, .incarnation = command->incarnation, .sequence = command->sequence};
    return false;
}

static void model_apply(struct harness *harness, const struct entry *entry)
{
    if (entry_type_of(entry) != ENTRY_COMMAND) return;
    struct command command;
    if (command_format_decode(entry_payload_bytes(entry), &command) != ERR_OK) {
        harness_breach(harness, "entry %" PRIu64 " is no command", entry_index(entry));
        return;
    }
    if (is_repeat(harness, &command)) {
        harness->repeats++;
        return;
    }
    if (command.kind == COMMAND_COMPACT || harness->options.any_commands) return;
    if (command.kind >= COMMAND_LEASE_GRANT) {
        model_lease(harness, &command);
        return;
    }
    uint32_t key = key_number(command.key);
    if (key >= HARNESS_KEYS) {
        harness_breach(harness, "entry %" PRIu64 " has a key that nobody wrote", entry_index(entry));
        return;
    }
    if (command.kind == COMMAND_DELETE) {
        if (harness_model_value(harness, key, harness->revision) == 0) return;
        harness->revision++;
        model_change(harness, key, 0, 0);
        return;
    }
    uint64_t number = value_number(command.value);
    if (number == 0 || number > harness->request_count || harness->requests[number].kind != HARNESS_PUT) {
        harness_breach(harness, "entry %" PRIu64 " has a value that nobody wrote", entry_index(entry));
        return;
    }
    struct harness_request *request = &harness->requests[number];
    if (request->applied) harness_breach(harness, "request %" PRIu64 " was applied twice", number);
    if (command.argument != 0 && !harness_lease(harness, command.argument)->there) return;
    request->applied = true;
    harness->revision++;
    model_change(harness, key, number, command.argument);
}

/* A disk that holds the log up to where the member applied, from where the model is. */
static const struct harness_disk *find_log(struct harness *harness, raft_index applied, uint32_t chain)
{
    for (member_id id = 1; id <= harness->options.count; id++) {
        const struct harness_disk *disk = &harness->members[id].disk;
        if (disk->base_index > harness->applied || disk->last_index < applied) continue;
        if (entry_chain(harness_disk_entry(disk, applied)) == chain) return disk;
    }
    return NULL;
}

static void catch_up(struct harness *harness, struct harness_member *member, raft_index applied, uint32_t chain)
{
    const struct harness_disk *disk = find_log(harness, applied, chain);
    if (disk == NULL) {
        harness_breach(harness, "%" PRIu64 " applied %" PRIu64 ", which is on no disk", member->id, applied);
        return;
    }
    while (harness->point_capacity <= applied) {
        size_t capacity = harness->point_capacity == 0 ? 1024 : harness->point_capacity * 2;
        harness->points = mem_realloc(harness->points, capacity * sizeof harness->points[0]);
        memset(harness->points + harness->point_capacity, 0,
               (capacity - harness->point_capacity) * sizeof harness->points[0]);
        harness->point_capacity = capacity;
    }
    while (harness->applied < applied) {
        const struct entry *entry = harness_disk_entry(disk, harness->applied + 1);
        if (!entry_follows(entry, harness->points[harness->applied].chain)) {
            harness_breach(harness, "%" PRIu64 " applied %" PRIu64 " on another log", member->id, applied);
            return;
        }
        harness->applied++;
        harness->points[harness->applied] = (struct harness_point){.chain = entry_chain(entry)};
        model_apply(harness, entry);
    }
}

void harness_check_member(struct harness *harness, struct harness_member *member)
{
    raft_index applied = member->status.raft.applied;
    uint32_t chain = replica_applied_chain(member->replica);
    if (applied == 0) return;
    if (applied > harness->applied) catch_up(harness, member, applied, chain);
    if (applied > harness->applied) return;
    struct harness_point *point = &harness->points[applied];
    if (point->chain != chain) {
        harness_breach(harness, "%" PRIu64 " applied another entry at %" PRIu64, member->id, applied);
    }
    if (member->tampered) return;
    if (!point->hashed) {
        point->hashed = true;
        point->hash = member->status.apply_hash;
    } else if (point->hash != member->status.apply_hash) {
        harness_breach(harness, "%" PRIu64 " has another apply hash at %" PRIu64, member->id, applied);
    }
    if (harness->options.any_commands) return;
    if (applied == harness->applied && member->status.revision != harness->revision) {
        harness_breach(harness, "%" PRIu64 " is at revision %" PRId64 " and not %" PRId64, member->id,
                       member->status.revision, harness->revision);
    }
}

/* ---- results ---- */

static void check_change(struct harness *harness, struct harness_member *member, uint64_t number)
{
    const struct harness_request *request = &harness->requests[number];
    const struct harness_change *change = change_at(harness, request->key, request->revision);
    uint64_t wanted = request->kind == HARNESS_PUT ? number : 0;
    if (request->revision <= request->floor || change == NULL || change->value != wanted) {
        harness_breach(harness, "request %" PRIu64 " succeeded at revision %" PRId64 ", which isn't its change", number,
                       request->revision);
    }
    bool existed = harness_model_value(harness, request->key, request->revision - 1) != 0;
    if (request->existed != existed) harness_breach(harness, "request %" PRIu64 ": wrong whether it existed", number);
    /* Contract rule 4: applied here. */
    const struct store *store = replica_store(member->replica);
    char key[12];
    harness_key_text(request->key, key);
    const struct store_record *record = NULL;
    enum error error = store_get(store, bytes_of_string(key), request->revision, &record);
    bool here = request->kind == HARNESS_PUT ? error == ERR_OK && value_number(store_record_value(record)) == number
                                             : error == ERR_NOT_FOUND;
    if (!here && error != ERR_COMPACTED) {
        harness_breach(harness, "request %" PRIu64 " succeeded and isn't applied here", number);
    }
}

static void check_read(struct harness *harness, struct harness_member *member, uint64_t number)
{
    struct harness_request *request = &harness->requests[number];
    char key[12];
    harness_key_text(request->key, key);
    const struct store_record *record;
    enum error error = store_get(replica_store(member->replica), bytes_of_string(key), 0, &record);
    request->value = error == ERR_OK ? value_number(store_record_value(record)) : 0;
    if (request->revision < request->floor) {
        harness_breach(harness, "read %" PRIu64 " at %" PRIu64 " answered revision %" PRId64 " after %" PRId64, number,
                       member->id, request->revision, request->floor);
    }
    if (request->value != harness_model_value(harness, request->key, member->status.revision)) {
        harness_breach(harness, "read %" PRIu64 " saw what was never there", number);
    }
}

static bool is_of_lease(enum harness_kind kind)
{
    return kind == HARNESS_GRANT || kind == HARNESS_REVOKE || kind == HARNESS_RENEW || kind == HARNESS_TIME;
}

static void take_lease_result(struct harness *harness, struct harness_request *request, uint64_t number)
{
    struct harness_lease *lease = harness_lease(harness, request->lease);
    if (request->kind == HARNESS_REVOKE) return;
    bool granted_since = lease->granted_at > request->lease_asked_at;
    if (request->kind != HARNESS_GRANT && !request->lease_was_there && !granted_since) {
        harness_breach(harness, "request %" PRIu64 " found a lease that was gone", number);
    }
    time_ns left = request->lease_safe_until - harness->now;
    if (request->kind == HARNESS_TIME && request->ttl_s < left / TIME_NS_PER_S) {
        harness_breach(harness, "request %" PRIu64 " says that too little time is left", number);
    }
    if (request->kind == HARNESS_TIME || !lease->there) return;
    time_ns until = request->asked + request->granted_ttl_s * TIME_NS_PER_S;
    if (lease->ttl_s == request->granted_ttl_s && until > lease->safe_until) lease->safe_until = until;
}

void harness_take_result(struct harness *harness, struct harness_member *member, const struct replica_result *result)
{
    uint64_t number = result->request;
    if (number == 0 || number > harness->request_count) {
        harness_breach(harness, "a result for a request that nobody made");
        return;
    }
    struct harness_request *request = &harness->requests[number];
    if (request->done || request->lost || request->member != member->id) {
        harness_breach(harness, "a second or strange result for request %" PRIu64, number);
        return;
    }
    member->results++;
    request->done = true;
    request->error = result->error;
    request->revision = result->revision;
    request->existed = result->count > 0;
    request->count = result->count;
    request->answered = harness->now;
    if (request->kind != HARNESS_GRANT) {
        request->ttl_s = result->ttl_s;
        request->granted_ttl_s = result->granted_ttl_s;
    }
    bool writes = request->kind == HARNESS_PUT || request->kind == HARNESS_DELETE || request->kind == HARNESS_GRANT ||
                  request->kind == HARNESS_REVOKE || request->kind == HARNESS_COMMAND;
    uint64_t *open = !writes ? &harness->open_reads : &harness->open_writes;
    *open -= 1;
    if (result->error != ERR_OK || member->tampered || request->kind == HARNESS_COMMAND) return;
    if (is_of_lease(request->kind)) {
        take_lease_result(harness, request, number);
        return;
    }
    if (request->kind == HARNESS_SNAPSHOT) {
        /* It counts, and holds all that anybody had heard of when it was asked for. */
        if (result->index != member->disk.snapshot_index || result->revision < request->floor) {
            harness_breach(harness, "request %" PRIu64 " got a snapshot of index %" PRIu64 ", which isn't one", number,
                           result->index);
        }
        return;
    }
    if (request->kind == HARNESS_READ) {
        check_read(harness, member, number);
    } else if (request->kind == HARNESS_PUT || request->existed) {
        check_change(harness, member, number);
    } else if (request->revision < request->floor ||
               harness_model_value(harness, request->key, request->revision) != 0) {
        harness_breach(harness, "request %" PRIu64 " deleted nothing where there was something", number);
    }
    if (request->revision > harness->floor) harness->floor = request->revision;
}

/* ---- the end ---- */

static void check_contents(struct harness *harness, const struct harness_member *member)
{
    const struct store *store = replica_store(member->replica);
    store_verify(store);
    if (harness->options.any_commands) return;
    uint64_t live = 0;
    for (uint32_t key = 0; key < HARNESS_KEYS; key++) {
        char text[12];
        harness_key_text(key, text);
        const struct store_record *record;
        enum error error = store_get(store, bytes_of_string(text), 0, &record);
        uint64_t value = error == ERR_OK ? value_number(store_record_value(record)) : 0;
        if (value != harness_model_value(harness, key, harness->revision)) {
            harness_breach(harness, "%" PRIu64 " holds another value of %s", member->id, text);
        }
        live += value != 0;
    }
    if (store_key_count(store) != live) harness_breach(harness, "%" PRIu64 " holds other keys as well", member->id);
    uint64_t leases = 0;
    for (uint64_t id = 1; id <= HARNESS_LEASES; id++) {
        const struct lease *lease = store_lease_find(store, id);
        const struct harness_lease *wanted = &harness->leases[id - 1];
        leases += lease != NULL;
        if ((lease != NULL) != wanted->there || (lease != NULL && lease->ttl_s != wanted->ttl_s)) {
            harness_breach(harness, "%" PRIu64 " holds another lease %" PRIu64, member->id, id);
        }
    }
    if (store_lease_count(store) != leases) harness_breach(harness, "%" PRIu64 " holds other leases", member->id);
}

static bool is_refusal(enum error error)
{
    return error == ERR_NO_LEADER || error == ERR_TOO_MANY || error == ERR_NO_SPACE;
}

void harness_check_end(struct harness *harness)
{
    for (member_id id = 1; id <= harness->options.count; id++) {
        struct harness_member *member = &harness->members[id];
        if (member->replica == NULL || member->tampered) continue;
        replica_status(member->replica, &member->status);
        if (member->status.raft.applied != harness->applied) {
            harness_breach(harness, "%" PRIu64 " applied %" PRIu64 " of %" PRIu64, id, member->status.raft.applied,
                           harness->applied);
            continue;
        }
        harness_check_member(harness, member);
        check_contents(harness, member);
    }
    for (uint64_t number = 1; number <= harness->request_count; number++) {
        const struct harness_request *request = &harness->requests[number];
        if (request->kind != HARNESS_PUT || !request->done) continue;
        if (request->error == ERR_OK && !request->applied) {
            harness_breach(harness, "acknowledged request %" PRIu64 " is lost", number);
        }
        if (is_refusal(request->error) && request->applied && !harness->options.duplicates) {
            harness_breach(harness, "request %" PRIu64 " was refused and applied", number);
        }
    }
}
