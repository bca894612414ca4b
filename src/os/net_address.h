/*
 * net_address.h - addresses of sockets: from text, from the resolver, to text.
 */
#ifndef CORACLE_OS_NET_ADDRESS_H
#define CORACLE_OS_NET_ADDRESS_H

#include <netdb.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define NET_ADDRESSES_MAX 16 /* of one name that are tried */

/* Room for the longest text: an IPv6 address with its zone, in brackets, and a port. */
#define NET_ADDRESS_TEXT_BYTES 80

struct os_addresses {
    size_t count;
    struct sockaddr_storage at[NET_ADDRESSES_MAX];
};

/*
 * Reads a host that needs no look-up: an IPv4 or IPv6 address, which may stand in brackets, or "localhost"
 * (RFC 6761 §6.3: always loopback), which is both loopback addresses. False when it is none of these.
 */
bool os_addresses_numeric(const char *host, uint16_t port, struct os_addresses *out);

/* Takes over what the resolver found, each address once, as many as fit. */
void os_addresses_resolved(const struct addrinfo *found, uint16_t port, struct os_addresses *out);

socklen_t os_address_size(const struct sockaddr_storage *address);
uint16_t os_address_port(const struct sockaddr_storage *address);

/* "127.0.0.1:80", "[::1]:80"; an IPv4 address within IPv6 is written as IPv4. */
void os_address_format(const struct sockaddr_storage *address, char out[NET_ADDRESS_TEXT_BYTES]);

#endif
