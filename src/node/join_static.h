/*
 * join_static.h - join mode `static`, also called `cluster-file`: the members come from a JSON file,
 *
 *     [{"node_id": "node-1", "rpc_url": "localhost:6666", "api_url": "localhost:7777"}, …]
 *
 * It seeds the cluster at the first start. Parsing is apart from reading, so that it can be tested on text alone.
 */
#ifndef CORACLE_NODE_JOIN_STATIC_H
#define CORACLE_NODE_JOIN_STATIC_H

#include "node/join.h"

/* Problems: one line each, "cluster_config_path: …", all that there are. False when there is one; *out then has
   what could be read, with empty texts for what couldn't. `name` is the file's, for the lines. The text needn't be valid in any way. */
bool join_static_parse(struct bytes text, const char *name, struct join_cluster *out, struct buffer *problems);

/* Reads the file at `path` and parses it. */
bool join_static_read(const char *path, struct join_cluster *out, struct buffer *problems);

#endif
