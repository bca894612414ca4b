/*
 * etcd_encode.h - answers of the store as etcd's messages, written by hand: sizes first, then bytes, nothing moved.
 */
#ifndef CORACLE_API_ETCD_ENCODE_H
#define CORACLE_API_ETCD_ENCODE_H

#include "base/bytes.h"
#include "replica/replica.h"

struct etcd_header {
    uint64_t cluster_id;
    member_id member;
    store_revision revision;
    raft_term term;
};

/* A record as mvccpb.KeyValue, behind field `number`. */
struct etcd_kv_options {
    bool without_value;
    bool without_lease;
};
size_t etcd_kv_size(uint32_t number, const struct store_record *record, struct etcd_kv_options options);
uint8_t *etcd_put_kv(uint8_t *at, uint32_t number, const struct store_record *record, struct etcd_kv_options options);

/* A ResponseHeader as field 1. */
size_t etcd_header_size(const struct etcd_header *header);
uint8_t *etcd_put_header(uint8_t *at, const struct etcd_header *header);
void etcd_append_header(struct buffer *out, const struct etcd_header *header);

/* RangeResponse, PutResponse, DeleteRangeResponse or TxnResponse, by the answer's kind; the records must be alive. */
void etcd_append_answer(struct buffer *out, const struct etcd_header *header, const struct txn_answer *answer);

#endif
