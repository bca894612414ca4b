/*
 * store_internal.h - the store's structure, for the files of this folder only.
 */
#ifndef CORACLE_STORE_STORE_INTERNAL_H
#define CORACLE_STORE_STORE_INTERNAL_H

#include "store/history.h"
#include "store/index.h"
#include "store/lease_table.h"
#include "store/store.h"

#define STORE_PIN_NONE INT64_MIN

struct store {
    struct index index;
    struct history history;
    struct lease_table leases;
    store_revision revision;
    store_revision compacted_revision;
    uint64_t released;     /* history slots before this one (or before its begin) gave back what they superseded */
    bool is_open;          /* a transaction */
    uint32_t sub_revision; /* of its next change */
    uint64_t live_bytes;   /* keys and values of live versions */
    uint64_t record_bytes; /* store_record_bytes of all records in the store */
    uint64_t record_count;
    store_revision *pins; /* by handle; STORE_PIN_NONE where free */
    uint32_t pin_capacity;
};

static inline uint64_t store_record_bytes(const struct store_record *record)
{
    return sizeof *record + record->key_bytes + record->value_bytes;
}

static inline uint64_t store_payload_bytes(const struct store_record *record)
{
    return (uint64_t)record->key_bytes + record->value_bytes;
}

/* A record of the store, with one reference, not linked anywhere yet; only sizes and data are set. */
struct store_record *store_record_new(struct store *store, struct bytes key, struct bytes value);

/* The newest version in the chain from `record` (may be NULL) that is at or below `revision`; 0: the newest of all. */
static inline struct store_record *store_version_at(struct store_record *record, store_revision revision)
{
    if (revision <= 0) return record;
    while (record && record->mod_revision > revision) record = record->previous;
    return record;
}

#endif
