#define _GNU_SOURCE 1
#include "os/net_address.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"

static void add(struct os_addresses *addresses, const void *address, size_t size, uint16_t port)
{
    if (addresses->count == NET_ADDRESSES_MAX) return;
    struct sockaddr_storage *next = &addresses->at[addresses->count];
    memset(next, 0, sizeof *next);
    memcpy(next, address, size);
    if (next->ss_family == AF_INET) {
        ((struct sockaddr_in *)next)->sin_port = htons(port);
    } else {
        ((struct sockaddr_in6 *)next)->sin6_port = htons(port);
    }
    for (size_t i = 0; i < addresses->count; i++) {
        if (memcmp(&addresses->at[i], next, sizeof *next) == 0) return;
    }
    addresses->count++;
}

void os_addresses_resolved(const struct addrinfo *found, uint16_t port, struct os_addresses *out)
{
    out->count = 0;
    for (; found != NULL; found = found->ai_next) {
        if (found->ai_family != AF_INET && found->ai_family != AF_INET6) continue;
        if (found->ai_addrlen > sizeof(struct sockaddr_storage)) continue;
        add(out, found->ai_addr, found->ai_addrlen, port);
    }
}

bool os_addresses_numeric(const char *host, uint16_t port, struct os_addresses *out)
{
    out->count = 0;
    if (strcasecmp(host, "localhost") == 0) {
        struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
        struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
        add(out, &v4, sizeof v4, port);
        add(out, &v6, sizeof v6, port);
        return true;
    }

    char text[NET_ADDRESS_TEXT_BYTES];
    size_t size = strlen(host);
    bool brackets = size > 2 && host[0] == '[' && host[size - 1] == ']';
    if (brackets) {
        host++;
        size -= 2;
    }
    if (size == 0 || size >= sizeof text) return false;
    memcpy(text, host, size);
    text[size] = 0;
    struct addrinfo hints = {
        .ai_flags = AI_NUMERICHOST, .ai_family = brackets ? AF_INET6 : AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    if (getaddrinfo(text, NULL, &hints, &found) != 0) return false;
    os_addresses_resolved(found, port, out);
    freeaddrinfo(found);
    return out->count > 0;
}

socklen_t os_address_size(const struct sockaddr_storage *address)
{
    return address->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

uint16_t os_address_port(const struct sockaddr_storage *address)
{
    return address->ss_family == AF_INET ? ntohs(((const struct sockaddr_in *)address)->sin_port)
                                         : ntohs(((const struct sockaddr_in6 *)address)->sin6_port);
}

void os_address_format(const struct sockaddr_storage *address, char out[NET_ADDRESS_TEXT_BYTES])
{
    char host[INET6_ADDRSTRLEN] = "?";
    unsigned port = os_address_port(address);
    if (address->ss_family == AF_INET) {
        inet_ntop(AF_INET, &((const struct sockaddr_in *)address)->sin_addr, host, sizeof host);
        snprintf(out, NET_ADDRESS_TEXT_BYTES, "%s:%u", host, port);
        return;
    }
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
    if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
        inet_ntop(AF_INET, v6->sin6_addr.s6_addr + 12, host, sizeof host);
        snprintf(out, NET_ADDRESS_TEXT_BYTES, "%s:%u", host, port);
        return;
    }
    inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
    char zone[IF_NAMESIZE + 1] = "";
    if (v6->sin6_scope_id != 0 && if_indextoname(v6->sin6_scope_id, zone + 1) != NULL) zone[0] = '%';
    snprintf(out, NET_ADDRESS_TEXT_BYTES, "[%s%s]:%u", host, zone[0] == '%' ? zone : "", port);
}
