/* cluster_internal.h - what the files of the cluster share. */
#ifndef CORACLE_TEST_RAFT_CLUSTER_INTERNAL_H
#define CORACLE_TEST_RAFT_CLUSTER_INTERNAL_H

#include "cluster.h"

typedef unsigned long long ull; /* for printing */

void cluster_breach(struct cluster *cluster, const char *format, ...) __attribute__((format(printf, 2, 3)));
raft_term cluster_disk_term_at(const struct cluster_disk *disk, raft_index index);

/* Each calls cluster_breach when a guarantee is broken. */
void cluster_check_entry(struct cluster *cluster, member_id id, const struct entry *entry);
void cluster_check_committed(struct cluster *cluster, member_id id, raft_index index, raft_term term);
void cluster_check_quorum_holds(struct cluster *cluster, member_id id, raft_index index, raft_term term);
/* The member has just become leader. */
void cluster_check_leader(struct cluster *cluster, struct cluster_member *member);
void cluster_check_message(struct cluster *cluster, const struct cluster_member *member,
                           const struct peer_message *message);
void cluster_check_read(struct cluster *cluster, member_id id, const struct raft_read_result *result);

#endif
