#include "replica/content_scrub.h"

#include "base/check.h"
#include "base/mark.h"
#include "base/random.h"
#include "store/leases.h"
#include "store/store_digest.h"

#define CONTENT_SCRUB_VERSION 1u

static bool are_sound(const struct content_scrub_limits *limits)
{
    return limits->interval == 0 || (limits->keys_max > 0 && limits->bytes_max > 0);
}

void content_scrub_init(struct content_scrub *scrub, const struct content_scrub_limits *limits)
{
    CHECK(are_sound(limits));
    *scrub = (struct content_scrub){.limits = *limits};
}

void content_scrub_free(struct content_scrub *scrub)
{
    buffer_free(&scrub->next_key);
}

uint64_t content_scrub_slice(struct content_scrub *scrub, const struct store *store, const struct sessions *sessions)
{
    bool goes_on = scrub->next_key.size > 0;
    uint64_t digest = store_digest(store, &scrub->next_key, scrub->limits.keys_max, scrub->limits.bytes_max);
    if (goes_on && scrub->next_key.size == 0) MARK(CONTENTS_SCRUBBED);
    digest = random_mix(digest ^ sessions_digest(sessions));
    digest = random_mix(digest ^ (uint64_t)store_current_revision(store));
    digest = random_mix(digest ^ (uint64_t)store_compacted_revision(store));
    digest = random_mix(digest ^ store_key_count(store));
    digest = random_mix(digest ^ store_live_bytes(store));
    digest = random_mix(digest ^ store_lease_count(store));
    return random_mix(digest ^ store_history_bytes(store));
}

void content_scrub_encode(const struct content_scrub *scrub, struct buffer *out)
{
    buffer_append_u32(out, CONTENT_SCRUB_VERSION);
    buffer_append_u32(out, scrub->limits.interval);
    buffer_append_u32(out, scrub->limits.keys_max);
    buffer_append_u32(out, scrub->limits.bytes_max);
    buffer_append(out, scrub->next_key.data, scrub->next_key.size);
}

enum error content_scrub_decode(struct content_scrub *scrub, struct bytes payload)
{
    struct reader reader = reader_of(payload);
    uint32_t version = reader_u32(&reader);
    struct content_scrub_limits limits = {.interval = reader_u32(&reader)};
    limits.keys_max = reader_u32(&reader);
    limits.bytes_max = reader_u32(&reader);
    struct bytes next_key = reader_bytes(&reader, reader_left(&reader));
    if (reader.failed) return ERR_DAMAGED;
    if (version != CONTENT_SCRUB_VERSION) return ERR_BAD_VERSION;
    if (!are_sound(&limits) || next_key.size > STORE_KEY_BYTES_MAX) return ERR_DAMAGED;
    scrub->limits = limits;
    buffer_clear(&scrub->next_key);
    buffer_append(&scrub->next_key, next_key.data, next_key.size);
    return ERR_OK;
}
