/*
 * join.h - who the first members are, and where this node listens. The modes: join_static.h, join_k8s.h.
 */
#ifndef CORACLE_NODE_JOIN_H
#define CORACLE_NODE_JOIN_H

#include "drive/drive.h"
#include "node/config.h"

struct join_member {
    char node_id[NODE_ID_BYTES_MAX + 1];
    char rpc_host[ADDRESS_BYTES_MAX + 1];
    uint16_t rpc_port;
    char api_host[ADDRESS_BYTES_MAX + 1];
    uint16_t api_port;
};

struct join_cluster {
    struct join_member members[MEMBERS_MAX];
    uint32_t member_count;
};

/*
 * The members by the configured mode; without a cluster_config_path this node alone. Ports that were left at their
 * defaults are taken from the entry of this node. Fills `listen_host` (ADDRESS_BYTES_MAX + 1 bytes): loopback, unless
 * the cluster names this node by another address. `config` went through config_load, but needn't be valid: what it
 * allows to check is checked. Adds to `problems` and to the config's warnings; false when it added a problem.
 */
bool join_resolve(struct config *config, struct join_cluster *out, char *listen_host, struct buffer *problems);

/* "host:port", "[v6]:port" or (bracket-less) a name; false when it is neither. Pure. `host` has ADDRESS_BYTES_MAX + 1. */
bool join_parse_address(struct bytes text, char *host, uint16_t *port);

/* The member with this id, or NULL. */
const struct join_member *join_find(const struct join_cluster *cluster, const char *node_id);

/* localhost, 127.0.0.0/8 or ::1. */
bool join_host_is_loopback(const char *host);

/* Letters, digits, '-', '_' and '.', at most NODE_ID_BYTES_MAX. */
bool join_node_id_is_valid(struct bytes node_id);

/* Reads a file of at most 1 MiB; false with a problem line "cluster_config_path: …". */
bool join_read_file(const char *path, struct buffer *out, struct buffer *problems);

#endif
