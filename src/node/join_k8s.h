/*
 * join_k8s.h - join mode `k8s`: the members follow from what the downward API lays into a directory:
 *
 *     labels    lines key="value", among them
 *                   raft-cluster/id="…"       names the cluster and its StatefulSet
 *                   raft-cluster/size="3"     its members
 *                   raft-cluster/svcName="…"  the headless service
 *     k8s-ns    the namespace
 *
 * Member i of 0 … size - 1 is the pod `<id>-<i>`, at `<id>-<i>.<svcName>`. All members use the same ports, which
 * are this node's own.
 */
#ifndef CORACLE_NODE_JOIN_K8S_H
#define CORACLE_NODE_JOIN_K8S_H

#include "node/join.h"

/*
 * `labels` and `name_space` are the contents of the two files; NULL data: one that couldn't be read, about which nothing is
 * said here. Problems as join_static_parse.
 */
bool join_k8s_parse(struct bytes labels, struct bytes name_space, uint16_t rpc_port, uint16_t api_port,
                    struct join_cluster *out, struct buffer *problems);

/* Reads both files of the directory, or of the directory that `path`, a file such as `labels` in it, lies in. */
bool join_k8s_read(const char *path, uint16_t rpc_port, uint16_t api_port, struct join_cluster *out,
                   struct buffer *problems);

#endif
