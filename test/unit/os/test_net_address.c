#include "os/net_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void assert_numeric(const char *host, const char *expected)
{
    struct os_addresses addresses;
    assert_true(os_addresses_numeric(host, 80, &addresses));
    assert_int_equal(addresses.count, 1);
    char text[NET_ADDRESS_TEXT_BYTES];
    os_address_format(&addresses.at[0], text);
    assert_string_equal(text, expected);
    assert_int_equal(os_address_port(&addresses.at[0]), 80);
}

static void numeric_hosts_need_no_look_up(void **state)
{
    (void)state;
    assert_numeric("127.0.0.1", "127.0.0.1:80");
    assert_numeric("0.0.0.0", "0.0.0.0:80");
    assert_numeric("255.255.255.255", "255.255.255.255:80");
    assert_numeric("::", "[::]:80");
    assert_numeric("::1", "[::1]:80");
    assert_numeric("[::1]", "[::1]:80");
    assert_numeric("2001:DB8::0:1", "[2001:db8::1]:80");
    assert_numeric("::ffff:10.1.2.3", "10.1.2.3:80");
    assert_numeric("fe80::1%lo", "[fe80::1%lo]:80");
    assert_numeric("[fe80:1111:2222:3333:4444:5555:6666:7777]", "[fe80:1111:2222:3333:4444:5555:6666:7777]:80");
}

static void localhost_is_loopback_in_both_families(void **state)
{
    (void)state;
    static const char *const names[] = {"localhost", "LocalHost"};
    for (size_t i = 0; i < 2; i++) {
        struct os_addresses addresses;
        char text[NET_ADDRESS_TEXT_BYTES];
        assert_true(os_addresses_numeric(names[i], 65535, &addresses));
        assert_int_equal(addresses.count, 2);
        os_address_format(&addresses.at[0], text);
        assert_string_equal(text, "127.0.0.1:65535");
        assert_int_equal(os_address_size(&addresses.at[0]), sizeof(struct sockaddr_in));
        os_address_format(&addresses.at[1], text);
        assert_string_equal(text, "[::1]:65535");
        assert_int_equal(os_address_size(&addresses.at[1]), sizeof(struct sockaddr_in6));
    }
}

static void names_and_nonsense_are_left_to_the_resolver(void **state)
{
    (void)state;
    static const char *const names[] = {"",          "example.org", "[127.0.0.1]", "[]",  "[::1",    "::1]",
                                        "1.2.3.4.5", "256.0.0.1",   "127.0.0.1 ",  ":::", "host:80", "localhost."};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct os_addresses addresses;
        assert_false(os_addresses_numeric(names[i], 80, &addresses));
        assert_int_equal(addresses.count, 0);
    }
    char long_name[5000];
    memset(long_name, '1', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = 0;
    struct os_addresses addresses;
    assert_false(os_addresses_numeric(long_name, 80, &addresses));
}

static void resolved_addresses_are_unique_and_bounded(void **state)
{
    (void)state;
    struct sockaddr_in v4[40];
    struct addrinfo found[40];
    memset(v4, 0, sizeof v4);
    memset(found, 0, sizeof found);
    for (size_t i = 0; i < 40; i++) {
        v4[i].sin_family = AF_INET;
        v4[i].sin_addr.s_addr = htonl(0x0a000000 + (uint32_t)(i / 2)); /* each one twice */
        found[i] = (struct addrinfo){.ai_family = AF_INET,
                                     .ai_addr = (struct sockaddr *)&v4[i],
                                     .ai_addrlen = sizeof v4[i],
                                     .ai_next = i < 39 ? &found[i + 1] : NULL};
    }
    found[2].ai_family = AF_UNIX; /* not for us */
    struct os_addresses addresses;
    os_addresses_resolved(found, 7, &addresses);
    assert_int_equal(addresses.count, NET_ADDRESSES_MAX);
    for (size_t i = 0; i < addresses.count; i++) {
        char text[NET_ADDRESS_TEXT_BYTES], expected[NET_ADDRESS_TEXT_BYTES];
        os_address_format(&addresses.at[i], text);
        snprintf(expected, sizeof expected, "10.0.0.%zu:7", i);
        assert_string_equal(text, expected);
    }
    os_addresses_resolved(NULL, 7, &addresses);
    assert_int_equal(addresses.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numeric_hosts_need_no_look_up),
        cmocka_unit_test(localhost_is_loopback_in_both_families),
        cmocka_unit_test(names_and_nonsense_are_left_to_the_resolver),
        cmocka_unit_test(resolved_addresses_are_unique_and_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
